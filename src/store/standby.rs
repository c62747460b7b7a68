//! The standby that `READ_DATABASE_URL` names for lists and lookups, and whether it is in use.
//!
//! A reader prefers an answer: while the standby is away, does not fit, or has not caught up, its reads go to the primary.
//! A read that finds it away leaves it at once; only the watch (`standby_watch`) takes it into use, so that a server which
//! comes and goes is not asked by every read. The feed stays with the primary, where its end can be proven.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::errors::StoreError;
use super::hosts::Hosts;

/// Times when reads began to go to the primary.
const OUTAGES_TOTAL: &str = "group_mirror_read_standby_outages_total";

/// The standby of a service. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct StandbyReads(Arc<StandbyShared>);

#[derive(Debug)]
struct StandbyShared {
    hosts: Arc<Hosts>,
    is_used: AtomicBool,
    use_of: Mutex<StandbyUse>,
}

/// What is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum StandbyUse {
    NotLooked,
    Used,
    /// Why it is not used.
    Left(String),
}

impl StandbyReads {
    /// Not in use until it was looked at.
    ///
    /// # Errors
    /// A URL that cannot be read.
    pub(super) fn new(url: &str) -> Result<Self, StoreError> {
        let shared = StandbyShared {
            hosts: Arc::new(Hosts::new(url)?),
            is_used: AtomicBool::new(false),
            use_of: Mutex::new(StandbyUse::NotLooked),
        };
        Ok(Self(Arc::new(shared)))
    }

    pub(super) fn hosts(&self) -> &Arc<Hosts> {
        &self.0.hosts
    }

    /// Whether lists and lookups go there.
    #[must_use]
    pub fn is_used(&self) -> bool {
        self.0.is_used.load(Ordering::Acquire)
    }

    /// Why they go to the primary; none where they do not.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        match &*self.use_of() {
            StandbyUse::Used => None,
            StandbyUse::NotLooked => Some("it was not looked at yet".to_owned()),
            StandbyUse::Left(cause) => Some(cause.clone()),
        }
    }

    /// From now on they go there.
    pub(super) fn take_into_use(&self, address: &str) {
        let before = std::mem::replace(&mut *self.use_of(), StandbyUse::Used);
        self.0.is_used.store(true, Ordering::Release);
        if before != StandbyUse::Used {
            tracing::info!(
                address,
                "lists and lookups are read from the database of READ_DATABASE_URL, {address}"
            );
        }
    }

    /// From now on they go to the primary. One line for each time that it is left.
    pub(super) fn leave(&self, cause: &str) {
        let before = std::mem::replace(&mut *self.use_of(), StandbyUse::Left(cause.to_owned()));
        self.0.is_used.store(false, Ordering::Release);
        if !matches!(before, StandbyUse::Left(_)) {
            metrics::counter!(OUTAGES_TOTAL).increment(1);
            tracing::warn!(
                cause,
                "the database of READ_DATABASE_URL is not used ({cause}); lists and lookups are read from that of \
                 DATABASE_URL until it is"
            );
        }
    }

    fn use_of(&self) -> std::sync::MutexGuard<'_, StandbyUse> {
        self.0.use_of.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
