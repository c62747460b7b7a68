//! The engine of the passes: the database, how passes behave, and the reports that they give.
//!
//! Everything that a test wants to be shorter or smaller stands in [`PassSettings`]; nothing here reads the environment. The
//! clock is handed in as well.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use strum::{EnumString, IntoStaticStr};
use tokio::sync::Semaphore;

use super::reading_verdict::{ReadHalt, ReadSpare};
use crate::mirror::{Drift, DriftKind};
use crate::model::{FieldKey, Millis, SdkAppId};
use crate::store::Database;
use crate::tencent::client::TencentClient;

/// How many batches are committed at the same time, at most: the lanes of callbacks and the probe have their sessions
/// beside them.
const COMMITS_MAX: usize = 4;

/// How many of them the sweep may have. The calls of the work list decide when a pass ends, because Tencent limits them by
/// the second, and what they do not use of that limit is lost; the sweep reads fifty groups with a call, and its batches
/// are the largest.
const SWEEP_COMMITS_MAX: usize = 1;

/// How passes behave.
#[derive(Debug, Clone)]
pub struct PassSettings {
    /// G of the passes over all groups.
    pub rolling: ReadSpare,
    /// G of a read that follows a callback.
    pub follow_up: ReadSpare,
    /// How far apart two answers lie that together say that a group is gone.
    pub gone_distance: Duration,
    /// How many groups may be gone in one pass without a look at their share.
    pub gone_max: i64,
    /// The share of the known groups, in percent, above which a pass stops where more than `gone_max` are gone.
    pub gone_percent_max: i64,
    /// How many known groups, none of which Tencent knows, stop a pass.
    pub all_gone_min: i64,
    /// How many packed reads of the sweep run at the same time.
    pub sweep_at_once: usize,
    /// How long the lease is held without being renewed; it is renewed six times in that time.
    pub lease: Duration,
    /// The pause between the end of a rolling pass and the next one.
    pub rolling_pause: Duration,
    /// The pause after a pass that stopped; it doubles up to `stopped_pause_max`.
    pub stopped_pause: Duration,
    /// The longest such pause.
    pub stopped_pause_max: Duration,
    /// Keys of custom fields of groups that are asked for beside those that the mirror holds.
    pub group_fields: Vec<FieldKey>,
    /// Keys of custom fields of members.
    pub member_fields: Vec<FieldKey>,
}

impl Default for PassSettings {
    fn default() -> Self {
        Self {
            rolling: ReadSpare::ROLLING,
            follow_up: ReadSpare::FOLLOW_UP,
            gone_distance: Duration::from_secs(60),
            gone_max: 20,
            gone_percent_max: 1,
            all_gone_min: 5,
            sweep_at_once: 8,
            lease: Duration::from_secs(30),
            rolling_pause: Duration::from_secs(10 * 60),
            stopped_pause: Duration::from_secs(60),
            stopped_pause_max: Duration::from_secs(15 * 60),
            group_fields: Vec::new(),
            member_fields: Vec::new(),
        }
    }
}

/// An app that is read from Tencent.
#[derive(Debug, Clone)]
pub struct AppSource {
    /// The app.
    pub app: SdkAppId,
    /// Its client.
    pub client: Arc<TencentClient>,
}

/// Which pass it is. The names are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, EnumString)]
#[strum(serialize_all = "snake_case")]
pub enum PassKind {
    /// Of a `serve`: attributes and topics only of groups that have shown some.
    Rolling,
    /// By command, everything.
    Backfill,
    /// By command, everything.
    Reconcile,
}

impl PassKind {
    /// As stored.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// True where attributes and topics are read of every group that can have some.
    #[must_use]
    pub fn is_whole(self) -> bool {
        self != Self::Rolling
    }
}

/// Why a pass did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum PassEnd {
    /// It stopped, with this line; what it has read before stays.
    #[error("{0}")]
    Stopped(String),
    /// It stopped because its answers cannot be those of this app, with this line: the next pass begins anew, so that what was
    /// noted of those answers does not count.
    #[error("{0}")]
    Denied(String),
    /// The caller's stop came first, or the lease was lost; it goes on from there.
    #[error("interrupted; the next start goes on from here")]
    Interrupted,
    /// The database.
    #[error("the database does not take it: {0}")]
    Database(#[from] sqlx::Error),
}

impl From<ReadHalt> for PassEnd {
    fn from(halt: ReadHalt) -> Self {
        match halt {
            ReadHalt::Cancelled => Self::Interrupted,
            ReadHalt::Stopped(why) => Self::Stopped(format!("Tencent refuses every call: {why}")),
            ReadHalt::Unanswered(why) => Self::Stopped(format!("Tencent does not answer: {why}")),
        }
    }
}

/// What a pass has done so far; shared by its tasks, and by who shows it.
#[derive(Debug, Default)]
pub struct PassCounts {
    /// Groups that were asked for.
    pub asked: AtomicU64,
    /// Groups that are to be asked for, as far as is known.
    pub groups: AtomicU64,
    /// Members in complete lists.
    pub members: AtomicU64,
    /// Groups of the work list that were read.
    pub work: AtomicU64,
    /// Groups of the work list that a pass still waits for.
    pub waiting: AtomicI64,
    /// Groups of which nothing was learnt.
    pub unknown: AtomicU64,
    /// Reads that showed an older state than they should.
    pub stale: AtomicU64,
    drift: Mutex<Drift>,
}

impl PassCounts {
    pub(super) fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(super) fn add_drift(&self, drift: &Drift) {
        let mut all = self.drift.lock().unwrap_or_else(PoisonError::into_inner);
        for (kind, count) in drift {
            *all.entry(*kind).or_default() += count;
        }
    }

    /// What was changed of what the mirror shows, by kind.
    #[must_use]
    pub fn drift(&self) -> BTreeMap<DriftKind, u64> {
        self.drift.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Reads the groups of apps into the mirror.
#[derive(Debug, Clone)]
pub struct Engine {
    /// The mirror.
    pub database: Database,
    /// How passes behave.
    pub settings: Arc<PassSettings>,
    /// The wall clock.
    pub now: fn() -> Millis,
    /// This process, for people who ask who has the lease.
    pub holder: Arc<str>,
    pub(super) commits: Arc<Semaphore>,
    /// Held beside one of the permits of commits.
    pub(super) sweep_commits: Arc<Semaphore>,
}

impl Engine {
    /// An engine; nothing is read yet.
    #[must_use]
    pub fn new(database: Database, settings: PassSettings, now: fn() -> Millis, holder: &str) -> Self {
        assert!(settings.sweep_at_once > 0, "a sweep reads something");
        let (commits, of_sweep) = (Semaphore::new(COMMITS_MAX), Semaphore::new(SWEEP_COMMITS_MAX));
        let (commits, sweep_commits) = (Arc::new(commits), Arc::new(of_sweep));
        Self { database, settings: Arc::new(settings), now, holder: holder.into(), commits, sweep_commits }
    }
}
