//! One call and its repetitions: the rate limiter, the signature, the exchange, and what a failure leads to.
//!
//! The class of a code (`codes`) decides, in one place. Passing faults are repeated here; what is about the question (gone,
//! too much, not supported) is the caller's to judge. When nothing can succeed before a person acts, no further call is
//! made until [`Calls::resume`]: with another app's credentials every group would look gone.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::body::Bytes;
use serde_json::Value;
use strum::VariantArray as _;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::answers::{AnswerError, ApiCode};
use super::call_error::CallError;
use super::codes::{CodeClass, SERVER_TIMEOUT, class, is_rate_of_app};
use super::commands::ReadCommand;
use super::rate::RateLimiter;
use super::retry::{
    AGAIN_REPEATS_MAX, BAN_REPEATS_MAX, Pauses, RATE_REPEATS_MAX, Repeats, SIGNATURE_REPEATS_MAX, back_off,
};
use super::session::{Renewal, Session};
use super::transport::{AddressError, AnswerHead, CALL_TIMEOUT, ExchangeFault, Transport};
use super::usersig::SecretKey;
use crate::model::{Millis, SdkAppId};

/// How far Tencent's clock may stand before ours where an answer has no `Date`, in milliseconds.
pub const CLOCK_MARGIN_MS: i64 = 5_000;

/// Whom to call, as whom, and how fast.
#[derive(Debug, Clone)]
pub struct ClientSettings {
    /// Such as `https://console.tim.qq.com`; plain HTTP to this machine alone.
    pub url: String,
    /// The app.
    pub app: SdkAppId,
    /// An administrator of the app.
    pub admin: String,
    /// The app's key.
    pub secret_key: SecretKey,
    /// The share of Tencent's published limits that may be used, above 0 and at most 1.
    pub rate_share: f64,
    /// 1, or more where Tencent's limits were raised.
    pub rate_factor: f64,
    /// False: passing faults and rate codes are given to the caller at once, for one who asks for a person that waits.
    pub repeats: bool,
    /// Pauses between attempts.
    pub pauses: Pauses,
    /// How long one exchange may take.
    pub timeout: Duration,
    /// The wall clock.
    pub now: fn() -> Millis,
}

impl ClientSettings {
    /// With everything that has a usual value.
    #[must_use]
    pub fn new(url: String, app: SdkAppId, secret_key: SecretKey, now: fn() -> Millis) -> Self {
        Self {
            url,
            app,
            admin: "administrator".to_owned(),
            secret_key,
            rate_share: 0.2,
            rate_factor: 1.0,
            repeats: true,
            pauses: Pauses::default(),
            timeout: CALL_TIMEOUT,
            now,
        }
    }
}

/// An answer, its bytes, and a lower bound of Tencent's clock when it was asked for.
#[derive(Debug, Clone)]
pub struct Reply<T> {
    /// What it says.
    pub answer: T,
    /// As it came.
    pub bytes: Bytes,
    /// `Date` of the answer minus the time that the call took; without a `Date` our clock minus [`CLOCK_MARGIN_MS`].
    pub asked_at: Millis,
}

/// What one attempt failed with.
#[derive(Debug)]
enum AttemptFault {
    Exchange(ExchangeFault),
    Answer(AnswerError),
}

/// When an attempt was sent, and with which UserSig.
#[derive(Debug, Clone, Copy)]
struct Attempt {
    sent: Instant,
    sig: u64,
}

/// The calls of one app: what all of them share.
#[derive(Debug)]
pub(super) struct Calls {
    /// Everything of a path but the service, command, UserSig and random number.
    query: String,
    now: fn() -> Millis,
    repeats: bool,
    pauses: Pauses,
    transport: Transport,
    session: Session,
    /// By the number of the command.
    limiters: Vec<RateLimiter>,
    halted: Mutex<Option<ApiCode>>,
    last_head: Mutex<Option<(AnswerHead, Millis)>>,
    banned_until: Mutex<Option<Instant>>,
    /// Commands and codes that were reported as a fault of this program.
    reported: Mutex<BTreeSet<(&'static str, i64)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn percent_encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

impl Calls {
    pub(super) fn new(settings: ClientSettings) -> Result<Self, AddressError> {
        let ClientSettings { url, app, admin, secret_key, rate_share, rate_factor, .. } = settings;
        let ClientSettings { repeats, pauses, timeout, now, .. } = settings;
        let limiter =
            |command: &ReadCommand| RateLimiter::new(command.published_rate() * rate_factor, rate_share);
        Ok(Self {
            query: format!("sdkappid={app}&identifier={}&contenttype=json", percent_encoded(&admin)),
            now,
            repeats,
            pauses,
            transport: Transport::new(&url, timeout)?,
            session: Session::new(secret_key, app, admin),
            limiters: ReadCommand::VARIANTS.iter().map(limiter).collect(),
            halted: Mutex::default(),
            last_head: Mutex::default(),
            banned_until: Mutex::default(),
            reported: Mutex::default(),
        })
    }

    /// A lower bound of Tencent's clock now, as far as ours is right: what stands for a `Date` that did not come.
    pub(super) fn clock_bound(&self) -> Millis {
        Millis::new((self.now)().get().saturating_sub(CLOCK_MARGIN_MS))
    }

    pub(super) fn halted(&self) -> Option<ApiCode> {
        lock(&self.halted).clone()
    }

    /// The head of the newest answer, whatever that said, and our clock when it came.
    pub(super) fn last_head(&self) -> Option<(AnswerHead, Millis)> {
        lock(&self.last_head).clone()
    }

    /// Makes calls possible again, after a person has acted.
    pub(super) fn resume(&self) {
        *lock(&self.halted) = None;
    }

    pub(super) fn share(&self, command: ReadCommand) -> f64 {
        self.limiters[command as usize].share()
    }

    /// The end of the silence, while there is one.
    fn banned_until(&self) -> Option<Instant> {
        lock(&self.banned_until).filter(|until| *until > Instant::now())
    }

    fn now_secs(&self) -> i64 {
        (self.now)().get() / 1000
    }

    /// Asks until there is an answer, or none is to be had.
    pub(super) async fn call<T>(
        &self,
        command: ReadCommand,
        body: &Value,
        read: fn(&[u8]) -> Result<T, AnswerError>,
        stop: &CancellationToken,
    ) -> Result<Reply<T>, CallError> {
        let (body, mut repeats) = (body.to_string(), Repeats::default());
        loop {
            let attempt = stop.run_until_cancelled(self.attempt(command, &body, read)).await;
            let (fault, attempt) = match attempt.ok_or(CallError::Cancelled)?? {
                Ok(reply) => return Ok(reply),
                Err(failed) => failed,
            };
            let pause = self.judge(command, fault, attempt, &mut repeats)?;
            stop.run_until_cancelled(sleep(pause)).await.ok_or(CallError::Cancelled)?;
        }
    }

    /// One exchange, in its turn. The outer error ends the call.
    async fn attempt<T>(
        &self,
        command: ReadCommand,
        body: &str,
        read: fn(&[u8]) -> Result<T, AnswerError>,
    ) -> Result<Result<Reply<T>, (AttemptFault, Attempt)>, CallError> {
        self.limiters[command as usize].acquire().await;
        while let Some(until) = self.banned_until() {
            sleep_until(until).await;
        }
        // Others may have halted the client during the wait.
        if let Some(code) = self.halted() {
            return Err(CallError::Halted(code));
        }
        let sig = self.session.current(self.now_secs());
        let (service, name, random) = (command.service(), command.name(), fastrand::u32(..));
        let path = format!("/v4/{service}/{name}?{}&usersig={}&random={random}", self.query, sig.text);
        let (attempt, wall) = (Attempt { sent: Instant::now(), sig: sig.number }, (self.now)());
        let exchange = match self.transport.post(&path, body.to_owned()).await {
            Ok(exchange) => exchange,
            Err(fault) => return Ok(Err((AttemptFault::Exchange(fault), attempt))),
        };
        let asked_at = asked_at(&exchange.head, wall);
        *lock(&self.last_head) = Some((exchange.head, (self.now)()));
        Ok(match read(&exchange.bytes) {
            Ok(answer) => {
                self.session.accepted(sig.number);
                Ok(Reply { answer, bytes: exchange.bytes, asked_at })
            }
            Err(error) => Err((AttemptFault::Answer(error), attempt)),
        })
    }

    /// How long to wait before the next attempt, or the error that ends the call.
    fn judge(
        &self,
        command: ReadCommand,
        fault: AttemptFault,
        attempt: Attempt,
        repeats: &mut Repeats,
    ) -> Result<Duration, CallError> {
        let name = command.name();
        match fault {
            AttemptFault::Exchange(fault @ ExchangeFault::TooLarge) => {
                Err(CallError::Exchange { command: name, fault })
            }
            AttemptFault::Exchange(fault) => {
                self.again(repeats).ok_or(CallError::Exchange { command: name, fault })
            }
            AttemptFault::Answer(AnswerError::Code(code)) => self.judge_code(command, code, attempt, repeats),
            AttemptFault::Answer(error) => {
                self.again(repeats).ok_or(CallError::Unreadable { command: name, error })
            }
        }
    }

    fn judge_code(
        &self,
        command: ReadCommand,
        code: ApiCode,
        attempt: Attempt,
        repeats: &mut Repeats,
    ) -> Result<Duration, CallError> {
        let (name, mut class) = (command.name(), class(code.code, command));
        repeats.server_timeouts = if code.code == SERVER_TIMEOUT { repeats.server_timeouts + 1 } else { 0 };
        if repeats.server_timeouts >= 2 {
            class = CodeClass::TooMuch;
        }
        let failed = |code: ApiCode| CallError::Code { command: name, code, class };
        let pause = match class {
            CodeClass::Again => self.again(repeats),
            CodeClass::Rate => self.slower(command, &code, attempt, repeats),
            CodeClass::Wait => self.banned(repeats),
            CodeClass::Signature => match self.session.refused(attempt.sig, self.now_secs()) {
                Renewal::Renewed => {
                    repeats.signature += 1;
                    (repeats.signature <= SIGNATURE_REPEATS_MAX).then_some(Duration::ZERO)
                }
                Renewal::Useless => return Err(self.halt(code)),
            },
            CodeClass::Stop => return Err(self.halt(code)),
            CodeClass::Bug => {
                if lock(&self.reported).insert((name, code.code)) {
                    tracing::error!("Tencent does not understand {name} (code {}): {}", code.code, code.info);
                }
                None
            }
            CodeClass::Gone
            | CodeClass::TopicGone
            | CodeClass::Unsupported
            | CodeClass::TooMuch
            | CodeClass::Refused => None,
        };
        // Codes about the question come after the signature was accepted; rates and time-outs may come before.
        if matches!(
            class,
            CodeClass::Gone | CodeClass::TopicGone | CodeClass::Unsupported | CodeClass::Refused
        ) {
            self.session.accepted(attempt.sig);
        }
        pause.ok_or_else(|| failed(code))
    }

    fn again(&self, repeats: &mut Repeats) -> Option<Duration> {
        repeats.again += 1;
        let pause = || back_off(self.pauses.again, self.pauses.longest, repeats.again, fastrand::f64());
        (self.repeats && repeats.again <= AGAIN_REPEATS_MAX).then(pause)
    }

    fn slower(
        &self,
        command: ReadCommand,
        code: &ApiCode,
        attempt: Attempt,
        repeats: &mut Repeats,
    ) -> Option<Duration> {
        for (number, limiter) in self.limiters.iter().enumerate() {
            if number == command as usize || is_rate_of_app(code.code) {
                limiter.halve(attempt.sent);
            }
        }
        repeats.rate += 1;
        let pause = || back_off(self.pauses.rate, self.pauses.longest, repeats.rate, fastrand::f64());
        (self.repeats && repeats.rate <= RATE_REPEATS_MAX).then(pause)
    }

    /// Silence of all calls; this one waits in [`Self::attempt`].
    fn banned(&self, repeats: &mut Repeats) -> Option<Duration> {
        *lock(&self.banned_until) = Some(Instant::now() + self.pauses.ban);
        repeats.banned += 1;
        (self.repeats && repeats.banned <= BAN_REPEATS_MAX).then_some(Duration::ZERO)
    }

    fn halt(&self, code: ApiCode) -> CallError {
        let mut halted = lock(&self.halted);
        if halted.is_none() {
            tracing::error!("no further calls to Tencent's REST API: code {}: {}", code.code, code.info);
            *halted = Some(code.clone());
        }
        CallError::Halted(code)
    }
}

/// A lower bound of Tencent's clock at sending.
fn asked_at(head: &AnswerHead, wall: Millis) -> Millis {
    let took = i64::try_from(head.took.as_millis()).unwrap_or(i64::MAX);
    head.date.map_or(Millis::new(wall.get().saturating_sub(CLOCK_MARGIN_MS)), |date| {
        // A part of a millisecond counts as a whole one.
        Millis::new(date.get().saturating_sub(took).saturating_sub(1))
    })
}
