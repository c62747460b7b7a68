//! What is to be noted in the database: delivered, failed, given up.
//!
//! Noted in batches and beside the write path. While the database is away notes wait; there are at most as many as were in
//! the outbox when it went, and what was held since.

use std::collections::HashMap;

use sqlx::PgConnection;

use super::delivery::{Fingerprint, OutboxDelivery};
use crate::store::outbox::{self, EntryKey, FailedAttempt};

/// Notes that wait.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) delivered: Vec<(EntryKey, Fingerprint)>,
    pub(super) failed: HashMap<Fingerprint, FailedAttempt>,
    pub(super) skipped: Vec<(FailedAttempt, Fingerprint)>,
}

impl Notes {
    pub(super) fn is_empty(&self) -> bool {
        self.delivered.is_empty() && self.failed.is_empty() && self.skipped.is_empty()
    }

    /// The last failure of a callback is the one that counts.
    pub(super) fn fail(&mut self, delivery: &OutboxDelivery, failure: String) {
        self.failed.insert(delivery.name, attempt(delivery, failure));
    }

    pub(super) fn skip(&mut self, delivery: &OutboxDelivery, failure: String) {
        self.failed.remove(&delivery.name);
        self.skipped.push((attempt(delivery, failure), delivery.name));
    }

    /// Takes at most so many of each kind.
    pub(super) fn take(&mut self, max: usize) -> Self {
        let delivered = self.delivered.drain(..max.min(self.delivered.len())).collect();
        let skipped = self.skipped.drain(..max.min(self.skipped.len())).collect();
        let names: Vec<Fingerprint> = self.failed.keys().take(max).copied().collect();
        let failed = names.into_iter().filter_map(|name| self.failed.remove_entry(&name)).collect();
        Self { delivered, failed, skipped }
    }

    /// Writes all of them. Writing the same again changes nothing.
    pub(super) async fn write(&mut self, conn: &mut PgConnection, owner: i64) -> Result<(), sqlx::Error> {
        if !self.delivered.is_empty() {
            let keys: Vec<EntryKey> = self.delivered.iter().map(|(key, _)| key.clone()).collect();
            outbox::delivered(conn, &keys).await?;
        }
        if !self.failed.is_empty() {
            let failed: Vec<FailedAttempt> = self.failed.values().cloned().collect();
            outbox::failed(conn, &failed, owner).await?;
        }
        if !self.skipped.is_empty() {
            let skipped: Vec<FailedAttempt> =
                self.skipped.iter().map(|(skipped, _)| skipped.clone()).collect();
            outbox::skipped(conn, &skipped).await?;
        }
        Ok(())
    }

    /// The names of what is not in the outbox any more.
    pub(super) fn names(&self) -> impl Iterator<Item = Fingerprint> + use<'_> {
        let delivered = self.delivered.iter().map(|(_, name)| *name);
        delivered.chain(self.skipped.iter().map(|(_, name)| *name))
    }

    /// Puts back what could not be noted; newer failures stay.
    pub(super) fn give_back(&mut self, notes: Self) {
        self.delivered.extend(notes.delivered);
        self.skipped.extend(notes.skipped);
        for (name, failed) in notes.failed {
            self.failed.entry(name).or_insert(failed);
        }
    }
}

fn attempt(delivery: &OutboxDelivery, failure: String) -> FailedAttempt {
    let attempts = i32::try_from(delivery.attempts).unwrap_or(i32::MAX);
    FailedAttempt { key: delivery.key.clone(), attempts, failure }
}
