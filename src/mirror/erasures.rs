//! The persons who are erased, and what is written in the place of their ids: applied to whatever is about to enter the ledger.
//!
//! Ids themselves are kept nowhere: a text is compared by its keyed hash (HMAC-SHA-256). What counts from a time up to the
//! moment of an erasure gets the pseudonym; what is later is new, unless the person is to stay erased. So a callback that
//! comes late, or waits in a spool, ends as the same entry as one that came before the erasure and was rewritten. Pure.

use std::collections::HashMap;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::listed::ListRange;
use super::snapshot::Snapshot;
use crate::callback::{Callback, PseudonymOf, pseudonymized, pseudonymized_callback};
use crate::model::{Millis, SdkAppId, UserId};

/// An id as it is compared: HMAC-SHA-256 under the key of the database.
pub type UserHash = [u8; 32];

/// One person who is erased in one app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erasure {
    /// The app.
    pub app: SdkAppId,
    /// What the id is known by.
    pub user: UserHash,
    /// What stands in its place.
    pub pseudonym: String,
    /// Up to when, with it.
    pub erased_at: Millis,
    /// What is later is rewritten as well.
    pub stays_erased: bool,
}

/// The erasures of a database, as they were at one version of it.
#[derive(Clone, Default)]
pub struct Erasures {
    version: Option<i64>,
    key: Vec<u8>,
    by_user: HashMap<(SdkAppId, UserHash), Erasure>,
    /// Up to when any of them counts in an app.
    reach: HashMap<SdkAppId, Millis>,
}

impl std::fmt::Debug for Erasures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Erasures({:?}, {} persons)", self.version, self.by_user.len())
    }
}

/// Later than everything.
const WITHOUT_END: Millis = Millis::new(i64::MAX);

/// The keyed hash of an id.
#[must_use]
pub fn user_hash(key: &[u8], user: &str) -> UserHash {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { unreachable!("a key may have any length") };
    mac.update(user.as_bytes());
    mac.finalize().into_bytes().into()
}

/// True where the pseudonym may stand in the place of the id: a list of more than 5,000 members is cut into ranges by a
/// hash of the user ids, and a member belongs to one of them.
#[must_use]
pub fn fits(user: &UserId, pseudonym: &UserId) -> bool {
    ListRange::of(user) == ListRange::of(pseudonym)
}

impl Erasures {
    /// As read from the database.
    #[must_use]
    pub fn new(version: i64, key: Vec<u8>, erasures: Vec<Erasure>) -> Self {
        let mut reach = HashMap::new();
        for erasure in &erasures {
            let until = if erasure.stays_erased { WITHOUT_END } else { erasure.erased_at };
            let of_app = reach.entry(erasure.app).or_insert(until);
            *of_app = until.max(*of_app);
        }
        let by_user = erasures.into_iter().map(|erasure| ((erasure.app, erasure.user), erasure)).collect();
        Self { version: Some(version), key, by_user, reach }
    }

    /// The version of the database that this is; none before it was read.
    #[must_use]
    pub fn version(&self) -> Option<i64> {
        self.version
    }

    /// True where something of this app and time may be about an erased person. Nearly all that comes is later than every
    /// erasure, and is not looked at further.
    fn may_be_about(&self, app: SdkAppId, time: Millis) -> bool {
        self.reach.get(&app).is_some_and(|until| time <= *until)
    }

    /// The pseudonym of a text, where it is the id of a person who is erased in what has this time.
    fn pseudonym(&self, app: SdkAppId, time: Millis, text: &str) -> Option<&str> {
        let erasure = self.by_user.get(&(app, user_hash(&self.key, text)))?;
        erasure.reaches(time).then_some(&*erasure.pseudonym)
    }

    /// A callback as it is to enter the ledger; none where that is as it came.
    #[must_use]
    pub fn apply(&self, callback: &Callback) -> Option<Callback> {
        let (app, time) = (callback.received.app, callback.time);
        if !self.may_be_about(app, time) {
            return None;
        }
        let of: &PseudonymOf<'_> = &|text| self.pseudonym(app, time, text);
        pseudonymized_callback(callback, of)
    }

    /// A snapshot as it is to enter the ledger.
    #[must_use]
    pub fn apply_to_snapshot(&self, snapshot: &Snapshot) -> Snapshot {
        let (app, time) = (snapshot.group.app, snapshot.time.sigma);
        let of: &PseudonymOf<'_> = &|text| self.pseudonym(app, time, text);
        let answer = if self.may_be_about(app, time) { pseudonymized(&snapshot.answer, of) } else { None };
        let answer = answer.unwrap_or_else(|| snapshot.answer.clone());
        Snapshot { answer, ..snapshot.clone() }
    }
}

impl Erasure {
    fn reaches(&self, time: Millis) -> bool {
        self.stays_erased || time <= self.erased_at
    }
}
