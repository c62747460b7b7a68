//! Being the one that reads from Tencent: the lease is taken, renewed, and given back around the work; and callbacks mark
//! their groups meanwhile.
//!
//! A process that cannot renew in time stops its work before the lease ends, and starts again when it gets one. Where a
//! replica dies, another takes over when the lease has ended, which is after its length and one sixth of that at the latest.

use std::io;
use std::time::Duration;

use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use super::engine::Engine;
use crate::callback::CREATE_COMMAND;
use crate::model::SdkAppId;
use crate::store::high_watermark::{self, LedgerWriters, Proof};
use crate::store::work::{self, Marking};
use crate::store::{OwnSession, lease};
use crate::tencent::groups::COMMUNITY_PREFIX;

/// So often a lease is renewed before it would end.
const RENEWALS: u32 = 6;

/// How often callbacks mark their groups.
const MARK_PAUSE: Duration = Duration::from_secs(1);

/// So many marked groups may wait for each app. While there are more no group of the app is marked: the next pass over all
/// groups reads them. An app whose reads are stopped holds up no other one.
pub const FOLLOW_UPS_MAX: i64 = 100_000;

/// A lease that is held.
#[derive(Debug)]
pub(super) struct HeldLease {
    session: OwnSession,
    term: i64,
    /// When it was renewed last, before the statement was sent.
    renewed: Instant,
    slow: LedgerWriters,
    /// Whether it was reported that callbacks do not mark their groups.
    is_reported: bool,
}

/// Why no lease was taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum LeaseError {
    /// Another process has it.
    #[error("{0} reads from Tencent for this database; it has the lease")]
    Held(String),
    /// The database.
    #[error("the lease cannot be taken: {0}")]
    Database(#[from] sqlx::Error),
}

/// Takes the lease.
pub(super) async fn take(engine: &Engine, is_command: bool) -> Result<HeldLease, LeaseError> {
    let renewed = Instant::now();
    let mut session = engine.database.own_session().await?;
    match lease::take(session.conn(), &engine.holder, is_command, engine.settings.lease).await? {
        Some(term) => {
            Ok(HeldLease { session, term, renewed, slow: LedgerWriters::new(), is_reported: false })
        }
        None => {
            let holder = lease::holder(session.conn()).await?;
            Err(LeaseError::Held(holder.unwrap_or_else(|| "another process".to_owned())))
        }
    }
}

/// Takes the lease as soon as it is free; none where `stop` comes first.
pub(super) async fn wait(engine: &Engine, stop: &CancellationToken) -> Option<HeldLease> {
    let mut is_reported = false;
    loop {
        match stop.run_until_cancelled(take(engine, false)).await? {
            Ok(lease) => return Some(lease),
            Err(error) => {
                if !is_reported {
                    tracing::info!("no pass here: {error}");
                }
                is_reported = true;
            }
        }
        stop.run_until_cancelled(sleep(engine.settings.lease / RENEWALS)).await?;
    }
}

impl HeldLease {
    /// Keeps the lease and marks groups until the lease is lost or `stop` comes.
    pub(super) async fn keep(&mut self, engine: &Engine, apps: &[SdkAppId], stop: &CancellationToken) {
        let (length, renewal) = (engine.settings.lease, engine.settings.lease / RENEWALS);
        loop {
            // No statement is waited for beyond this: a server that answers no more must not keep the work going.
            let until = self.renewed + length - renewal;
            if self.renewed.elapsed() >= renewal {
                let asked = Instant::now();
                let renewing = lease::renew(self.session.conn(), self.term, length);
                match timeout_at((asked + renewal).min(until), renewing).await.unwrap_or_else(late) {
                    Ok(true) => self.renewed = asked,
                    Ok(false) => {
                        tracing::info!("the pass stops here: another process has taken the lease");
                        return;
                    }
                    Err(error) => {
                        tracing::warn!("the lease of the passes is not renewed: {error}");
                        let opened = timeout_at(until, engine.database.own_session()).await;
                        if let Ok(session) = opened.unwrap_or_else(late) {
                            self.session = session;
                        }
                    }
                }
            }
            if self.renewed.elapsed() + 2 * renewal >= length {
                tracing::warn!("the pass stops here: the lease could not be renewed in time");
                return;
            }
            let until = self.renewed + length - renewal;
            match timeout_at(until, self.mark(engine, apps)).await.unwrap_or_else(late) {
                Err(error) if !self.is_reported => {
                    tracing::warn!("callbacks do not mark their groups for now: {error}");
                    self.is_reported = true;
                }
                Err(_) => {}
                Ok(()) => self.is_reported = false,
            }
            if stop.run_until_cancelled(sleep(MARK_PAUSE.min(renewal))).await.is_none() {
                return;
            }
        }
    }

    /// Ends it, if it is still held.
    pub(super) async fn give_back(mut self) {
        if let Err(error) = lease::give_back(self.session.conn(), self.term).await {
            tracing::warn!("the lease of the passes is not given back and ends by itself: {error}");
        }
    }

    /// Marks the groups of the callbacks that have come since the last time.
    async fn mark(&mut self, engine: &Engine, apps: &[SdkAppId]) -> Result<(), sqlx::Error> {
        let conn = self.session.conn();
        let mut marked = Vec::with_capacity(apps.len());
        for app in apps {
            if !work::has_more_follow_ups(conn, *app, FOLLOW_UPS_MAX - 1).await? {
                marked.push(*app);
            }
        }
        let high_watermark = match high_watermark::prove(conn, &self.slow).await? {
            Proof::At(place) => {
                self.slow.clear();
                place
            }
            Proof::HeldBack(slow) => {
                self.slow = slow;
                high_watermark::noted(conn).await?
            }
        };
        let after = match lease::followed(conn).await? {
            // Another ledger, or a shorter one: what was before is the matter of the next pass.
            Some(place) if crate::store::feed::holds(conn, &place).await? => place,
            _ => high_watermark.clone(),
        };
        let spare_ms = engine.settings.follow_up.ms + MARK_MARGIN_MS;
        let marking =
            Marking { apps: &marked, create: CREATE_COMMAND, community: COMMUNITY_PREFIX, spare_ms };
        let mut tx = engine.database.begin("marks").await?;
        let place = work::mark(tx.conn(), &after, &high_watermark, marking).await?;
        let gap_spare_ms = engine.settings.rolling.ms + MARK_MARGIN_MS;
        for app in apps {
            work::put_of_gaps(tx.conn(), *app, (engine.now)(), gap_spare_ms).await?;
        }
        if lease::follow(tx.conn(), self.term, &place).await? {
            tx.commit().await
        } else {
            tx.roll_back().await;
            Ok(())
        }
    }
}

/// A statement that was not answered in time.
fn late<T>(late: Elapsed) -> Result<T, sqlx::Error> {
    Err(sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, late)))
}

/// How much later than its event time and G a marked group is due: `Date` has whole seconds.
const MARK_MARGIN_MS: i64 = 2_000;
