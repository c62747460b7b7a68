//! The UserSig that calls are made with: renewed before it ends, and once when Tencent does not accept it.
//!
//! Many calls may fail together when a UserSig is refused. They share one renewal: a call that was made with an older one
//! is simply made again. If the renewed one is refused as well, renewing does not help, and the caller stops; a success
//! with it makes another renewal possible later.

use std::sync::{Arc, Mutex, PoisonError};

use super::usersig::{SecretKey, Signer};
use crate::model::SdkAppId;

/// How long a UserSig is good, in seconds: a day, as Tencent advises at least.
pub const SIG_LIFE_SECS: i64 = 24 * 60 * 60;

/// How long before its end a UserSig is renewed, in seconds.
pub const SIG_RENEWAL_SECS: i64 = 60 * 60;

/// A UserSig with its number, which grows by every renewal.
#[derive(Clone)]
pub(super) struct IssuedSig {
    pub(super) text: Arc<str>,
    pub(super) number: u64,
    made_secs: i64,
    /// Made because its predecessor was refused, and not accepted yet.
    is_trial: bool,
}

/// What a refused UserSig leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Renewal {
    /// There is a newer one now: make the call again.
    Renewed,
    /// The newest one was refused although it was just made.
    Useless,
}

/// The signatures of one administrator of one app.
pub(super) struct Session {
    key: SecretKey,
    app: SdkAppId,
    admin: String,
    current: Mutex<Option<IssuedSig>>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({}, {:?})", self.app, self.admin)
    }
}

impl Session {
    pub(super) fn new(key: SecretKey, app: SdkAppId, admin: String) -> Self {
        Self { key, app, admin, current: Mutex::new(None) }
    }

    fn issue(&self, number: u64, now_secs: i64, is_trial: bool) -> IssuedSig {
        let signer = Signer { key: &self.key, app: self.app, identifier: &self.admin };
        let text = signer.sign(now_secs, SIG_LIFE_SECS).into();
        IssuedSig { text, number, made_secs: now_secs, is_trial }
    }

    /// The UserSig to call with.
    pub(super) fn current(&self, now_secs: i64) -> IssuedSig {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back makes it too young to be believed.
        let is_good =
            |sig: &&IssuedSig| (0..SIG_LIFE_SECS - SIG_RENEWAL_SECS).contains(&(now_secs - sig.made_secs));
        if let Some(sig) = current.as_ref().filter(is_good) {
            return sig.clone();
        }
        let (number, is_trial) = current.as_ref().map_or((1, false), |sig| (sig.number + 1, sig.is_trial));
        current.insert(self.issue(number, now_secs, is_trial)).clone()
    }

    /// A call with the UserSig of this number was refused for its signature.
    pub(super) fn refused(&self, number: u64, now_secs: i64) -> Renewal {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        match current.as_ref() {
            Some(sig) if sig.number > number => Renewal::Renewed,
            Some(sig) if sig.is_trial => Renewal::Useless,
            _ => {
                *current = Some(self.issue(number + 1, now_secs, true));
                Renewal::Renewed
            }
        }
    }

    /// A call with the UserSig of this number was accepted.
    pub(super) fn accepted(&self, number: u64) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sig) = current.as_mut().filter(|sig| sig.number == number) {
            sig.is_trial = false;
        }
    }
}
