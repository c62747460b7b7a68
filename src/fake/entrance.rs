//! Who may call and how often: the query with its UserSig, the rates of the commands, the ban after bad signatures.
//!
//! Which check comes first at Tencent is documented nowhere; here it is the address, the app, the signature, the account,
//! the rate. Rates are token buckets of one second and a tenth, so that a client that keeps exactly to a limit is not
//! refused because two calls arrived a little closer together than they were sent.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::code::FakeCode;
use super::knobs::Knobs;
use crate::model::SdkAppId;
use crate::tencent::usersig::{SecretKey, SigFault, Signer};

/// Calls per second of a command that no other rate is published for.
const RATE: f64 = 200.0;

/// Writes of attributes per second and group.
const ATTRIBUTE_WRITES: f64 = 5.0;

/// How much of a second's calls may be saved up.
const SAVED_SECS: f64 = 1.1;

/// Tokens of one command.
#[derive(Debug, Clone, Copy)]
struct TokenBucket {
    tokens: f64,
    at: Instant,
}

impl TokenBucket {
    fn take(&mut self, rate: f64, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + passed * rate).min((rate * SAVED_SECS).max(1.0));
        self.at = now;
        let is_there = self.tokens >= 1.0;
        self.tokens -= f64::from(u8::from(is_there));
        is_there
    }
}

/// The checks before a command.
#[derive(Debug)]
pub(super) struct Entrance {
    app: SdkAppId,
    key: SecretKey,
    admins: Vec<String>,
    buckets: BTreeMap<String, TokenBucket>,
    bad_signatures: u32,
    banned_until: Option<Instant>,
}

impl Entrance {
    pub(super) fn new(app: SdkAppId, key: SecretKey, admins: Vec<String>) -> Self {
        let (buckets, bad_signatures, banned_until) = (BTreeMap::new(), 0, None);
        Self { app, key, admins, buckets, bad_signatures, banned_until }
    }

    /// The account that calls, by the query. Names are lower case and case-sensitive.
    pub(super) fn admit(
        &mut self,
        query: &BTreeMap<String, String>,
        now_secs: i64,
        knobs: &Knobs,
    ) -> Result<String, FakeCode> {
        let get = |name: &str| query.get(name).map(String::as_str).filter(|value| !value.is_empty());
        let app = get("sdkappid").ok_or_else(|| FakeCode::new(60012, "sdkappid is missing"))?;
        if SdkAppId::parse(app) != Ok(self.app) {
            return Err(FakeCode::new(60006, "sdkappid is invalid"));
        }
        if get("random").is_none_or(|random| random.parse::<u32>().is_err()) {
            return Err(FakeCode::new(60002, "random is missing or no number of 32 bits"));
        }
        let identifier = get("identifier").ok_or_else(|| FakeCode::new(60004, "identifier is missing"))?;
        if self.banned_until.is_some_and(|until| Instant::now() < until) {
            return Err(FakeCode::new(70050, "too many bad signatures"));
        }
        let user_sig = get("usersig").ok_or_else(|| FakeCode::new(70002, "UserSig is empty"))?;
        let signer = Signer { key: &self.key, app: self.app, identifier };
        if let Err(fault) = signer.verify(user_sig, now_secs) {
            self.bad_signatures += 1;
            if self.bad_signatures >= knobs.bad_signatures_max {
                self.bad_signatures = 0;
                self.banned_until = Some(Instant::now() + Duration::from_millis(knobs.ban_ms));
            }
            return Err(match fault {
                SigFault::Expired => FakeCode::new(70001, "UserSig expired"),
                SigFault::Malformed => FakeCode::new(70003, "UserSig cannot be read"),
                SigFault::WrongKey => FakeCode::new(70009, "UserSig verification failed"),
                SigFault::WrongUser => FakeCode::new(70013, "UserSig is another account's"),
                SigFault::WrongApp => FakeCode::new(70014, "UserSig is another app's"),
            });
        }
        self.bad_signatures = 0;
        if self.admins.iter().any(|admin| admin == identifier) {
            Ok(identifier.to_owned())
        } else {
            Err(FakeCode::new(60010, "administrator account required"))
        }
    }

    /// Counts a call, or refuses it.
    pub(super) fn count(&mut self, command: &str, knobs: &Knobs) -> Result<(), FakeCode> {
        let now = Instant::now();
        let is_id_list = command == "get_appid_group_list";
        if knobs.app_rate > 0.0 && !self.take("", knobs.app_rate, now) {
            return Err(FakeCode::new(60011, "request frequency of the app exceeds the limit"));
        }
        let rate = if is_id_list { 1.0 } else { RATE } * knobs.rate_factor;
        if self.take(command, rate, now) {
            Ok(())
        } else if is_id_list {
            Err(FakeCode::new(10006, "frequency limit"))
        } else {
            Err(FakeCode::new(60007, "request frequency exceeds the limit"))
        }
    }

    /// Counts a write of attributes of a group: five a second.
    pub(super) fn count_attributes(&mut self, group: &str, knobs: &Knobs) -> Result<(), FakeCode> {
        let rate = ATTRIBUTE_WRITES * knobs.rate_factor;
        if self.take(&format!("attributes of {group}"), rate, Instant::now()) {
            Ok(())
        } else {
            Err(FakeCode::new(10049, "attributes are written too often"))
        }
    }

    fn take(&mut self, bucket: &str, rate: f64, now: Instant) -> bool {
        let full = TokenBucket { tokens: (rate * SAVED_SECS).max(1.0), at: now };
        self.buckets.entry(bucket.to_owned()).or_insert(full).take(rate, now)
    }
}
