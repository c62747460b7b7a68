//! The keeper: the one task that works on the outbox in the database, on a session of its own.
//!
//! In rounds: it notes what was delivered, failed or given up, looks for entries that other processes have left to this one,
//! and reads the next callbacks of groups that wait. One after the other on one session, so that nothing is read that was
//! delivered and not noted yet. The session holds the lock that shows other processes that this one lives; what belongs
//! to a number without a lock for [`GRACE`] is taken over, by the one process that holds the lock for that.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::PgConnection;
use tokio::time::{sleep, timeout};

use super::reading::{GROUPS_READ_MAX, read};
use super::shared::{Backlog, OutboxState};
use crate::model::{Millis, SdkAppId};
use crate::store::outbox::{self, NO_OWNER, OrderKey};
use crate::store::schema::SchemaState;
use crate::store::{Database, OwnSession, outbox_report};

/// How long a round may wait for work: entries that other processes leave to this one are found within this time.
const POLL: Duration = Duration::from_millis(250);

/// How long the keeper rests between two rounds at least, so that notes come in batches.
const REST: Duration = Duration::from_millis(5);

/// The pause after a failure of the database.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);

/// How long one round may take: a server that stalls ends no statement itself.
const ROUND_WAIT_MAX: Duration = Duration::from_secs(15);

/// How long the last notes may take, at a stop.
const LAST_NOTES_WAIT_MAX: Duration = Duration::from_secs(2);

/// How often the owners of all entries are looked at.
const OWNERS_PERIOD: Duration = Duration::from_millis(500);

/// How long a process must be without its lock until its entries are taken over: longer than one needs to connect again, or
/// to be started again on its data directory, which gives it the same number.
const GRACE: Duration = Duration::from_secs(10);

/// How long callbacks in the ledger wait, without a record leaving the spool, for those in the spool that are not held: they
/// were received earlier. Not without limit, because a single one may be set aside.
const DRAIN_WAIT_MAX: Duration = Duration::from_secs(10);

/// How many entries one statement notes.
const NOTES_MAX: usize = 2_000;

/// How many groups one look for entries of others finds.
const GROUPS_FOUND_MAX: usize = 1_000;

/// How often what waits is counted at most; counting may take a fiftieth of the time.
const COUNT_PERIOD: Duration = Duration::from_secs(1);
const COUNT_COST_FACTOR: u32 = 50;

/// The task and what it works with.
pub(super) struct Keeper {
    outbox: Arc<OutboxState>,
    database: Database,
    schema: SchemaState,
    session: Option<KeeperSession>,
    /// Numbers without a lock, since when.
    ended_since: HashMap<i64, Instant>,
    owners_looked_at: Option<Instant>,
    /// Behind which group the next look goes on: for entries of others, and for all of this process.
    handed_over_after: OrderKey,
    owned_after: OrderKey,
    count_due: Instant,
    count_spooled_due: Instant,
    /// Receipt of the spool's oldest record, since when.
    spool_oldest: (Option<Millis>, Instant),
    failed_since: Option<Instant>,
}

/// The session and the locks that it holds.
struct KeeperSession {
    session: OwnSession,
    since: Instant,
    is_known: bool,
    gives_out: bool,
}

impl Keeper {
    pub(super) fn new(outbox: Arc<OutboxState>, database: Database, schema: SchemaState) -> Self {
        Self {
            outbox,
            database,
            schema,
            session: None,
            ended_since: HashMap::new(),
            owners_looked_at: None,
            handed_over_after: OrderKey::default(),
            owned_after: OrderKey::default(),
            count_due: Instant::now(),
            count_spooled_due: Instant::now(),
            spool_oldest: (None, Instant::now()),
            failed_since: None,
        }
    }

    /// Runs until the workers have ended.
    pub(super) async fn run(mut self) {
        let ended = self.outbox.workers_ended.clone();
        ended.run_until_cancelled(self.work()).await;
        let _ = timeout(LAST_NOTES_WAIT_MAX, self.finish()).await;
    }

    async fn work(&mut self) {
        loop {
            self.count_spooled();
            if self.schema.fits() {
                match timeout(ROUND_WAIT_MAX, self.round()).await {
                    Ok(Ok(())) => self.succeeded(),
                    Ok(Err(error)) => self.failed(&error.to_string()).await,
                    Err(_) => self.failed(&format!("no answer in {} s", ROUND_WAIT_MAX.as_secs())).await,
                }
            }
            sleep(REST).await;
            let _ = timeout(self.next_wait(), self.outbox.work.notified()).await;
        }
    }

    fn next_wait(&self) -> Duration {
        let now = Instant::now();
        let hungry = self.outbox.apps.values().filter_map(|of_app| of_app.queue().next_hungry());
        hungry.map(|due| due.saturating_duration_since(now)).min().unwrap_or(POLL).clamp(REST, POLL)
    }

    fn count_spooled(&mut self) {
        if self.count_spooled_due <= Instant::now() {
            self.count_spooled_due = Instant::now() + COUNT_PERIOD;
            for of_app in self.outbox.apps.values() {
                let spooled = of_app.queue().spooled_only();
                of_app.spooled.send_replace(spooled);
            }
        }
    }

    /// When the spool's oldest record last changed.
    fn drained_at(&mut self) -> Instant {
        let oldest = self.outbox.oldest_in_spool();
        if oldest != self.spool_oldest.0 {
            self.spool_oldest = (oldest, Instant::now());
        }
        self.spool_oldest.1
    }

    fn number(&self) -> i64 {
        self.outbox.number.into()
    }

    /// One round. The session is put back only where it went well, and notes that were not written are kept.
    async fn round(&mut self) -> Result<(), sqlx::Error> {
        let kept = self.session.take().filter(|kept| kept.session.is_current());
        let mut session = match kept {
            Some(kept) => kept,
            None => {
                // Nothing is known of the others on this session.
                self.ended_since.clear();
                let session = self.database.outbox_session().await?;
                KeeperSession { session, since: Instant::now(), is_known: false, gives_out: false }
            }
        };
        let conn = session.session.conn();
        if !session.is_known {
            session.is_known = outbox::lock(conn, self.outbox.number).await?;
        }
        self.write_notes(conn).await?;
        if self.owners_looked_at.is_none_or(|at| at.elapsed() >= OWNERS_PERIOD) {
            self.owners_looked_at = Some(Instant::now());
            if !session.gives_out {
                session.gives_out = outbox::lock(conn, NO_OWNER).await?;
            }
            if session.gives_out {
                self.take_over(conn).await?;
            }
        }
        self.find_handed_over(conn).await?;
        self.find_unlisted(conn).await?;
        let drained_at = self.drained_at().max(session.since);
        self.read_hungry(conn, drained_at.elapsed() < DRAIN_WAIT_MAX).await?;
        self.count(conn).await?;
        self.session = Some(session);
        Ok(())
    }

    async fn write_notes(&self, conn: &mut PgConnection) -> Result<(), sqlx::Error> {
        for of_app in self.outbox.apps.values() {
            loop {
                let mut notes = of_app.queue().notes.take(NOTES_MAX);
                if notes.is_empty() {
                    break;
                }
                let written = notes.write(conn, self.number()).await;
                let mut queue = of_app.queue();
                if let Err(error) = written {
                    queue.notes.give_back(notes);
                    return Err(error);
                }
                queue.noted(notes.names());
            }
        }
        Ok(())
    }

    /// Takes over what belongs to processes that have ended.
    async fn take_over(&mut self, conn: &mut PgConnection) -> Result<(), sqlx::Error> {
        let owners = outbox::owners(conn).await?;
        let now = Instant::now();
        let (alive, without_lock): (Vec<_>, Vec<_>) = owners.into_iter().partition(|(_, is_alive)| *is_alive);
        let numbers =
            |owners: Vec<(i64, bool)>| owners.into_iter().map(|(owner, _)| owner).collect::<Vec<_>>();
        let (alive, without_lock) = (numbers(alive), numbers(without_lock));
        self.ended_since.retain(|owner, _| without_lock.contains(owner));
        for owner in without_lock {
            self.ended_since.entry(owner).or_insert(now);
        }
        let unowned = i64::from(NO_OWNER);
        let is_over = |(owner, since): (&i64, &Instant)| {
            let is_ended = *owner == unowned || since.elapsed() >= GRACE;
            (is_ended && *owner != self.number()).then_some(*owner)
        };
        let ended: Vec<i64> = self.ended_since.iter().filter_map(is_over).collect();
        if ended.is_empty() {
            return Ok(());
        }
        let apps: Vec<i64> = self.outbox.apps.keys().map(|app| app.get()).collect();
        let taken = outbox::take_over(conn, (&ended, &alive), self.number(), &apps).await?;
        if taken > 0 && ended.iter().any(|owner| *owner != unowned) {
            tracing::info!(callbacks = taken, "the relay delivers what another process has left");
        }
        Ok(())
    }

    /// Finds groups in which another process has entered a callback that this one delivers.
    async fn find_handed_over(&mut self, conn: &mut PgConnection) -> Result<(), sqlx::Error> {
        let limit = i64::try_from(GROUPS_FOUND_MAX).unwrap_or(i64::MAX);
        let found = outbox::groups(conn, self.number(), true, &self.handed_over_after, limit).await?;
        let is_last = found.len() < GROUPS_FOUND_MAX;
        self.handed_over_after = found.last().filter(|_| !is_last).cloned().unwrap_or_default();
        self.note_found(&found);
        Ok(())
    }

    /// Finds groups of this process that are not known: at a start, and where too many were.
    async fn find_unlisted(&mut self, conn: &mut PgConnection) -> Result<(), sqlx::Error> {
        if !self.outbox.apps.values().any(|of_app| of_app.queue().has_unlisted) {
            return Ok(());
        }
        if self.owned_after == OrderKey::default() {
            self.outbox.apps.values().for_each(|of_app| of_app.queue().begin_listing());
        }
        let limit = i64::try_from(GROUPS_FOUND_MAX).unwrap_or(i64::MAX);
        let found = outbox::groups(conn, self.number(), false, &self.owned_after, limit).await?;
        let is_last = found.len() < GROUPS_FOUND_MAX;
        self.owned_after = found.last().filter(|_| !is_last).cloned().unwrap_or_default();
        self.note_found(&found);
        if is_last {
            self.outbox.apps.values().for_each(|of_app| of_app.queue().end_listing());
        }
        Ok(())
    }

    fn note_found(&self, found: &[OrderKey]) {
        let now = Instant::now();
        for (app, order_key) in found {
            let app = SdkAppId::parse(&app.to_string()).ok();
            let Some(of_app) = app.and_then(|app| self.outbox.apps.get(&app)) else { continue };
            of_app.queue().found(&Arc::from(order_key.as_str()), now);
        }
    }

    /// Reads the next callbacks of groups that wait; `drains`: not before what is in the spool has come to the ledger.
    async fn read_hungry(&self, conn: &mut PgConnection, drains: bool) -> Result<(), sqlx::Error> {
        let is_spool_empty = self.outbox.is_spool_empty();
        for (app, of_app) in &self.outbox.apps {
            if of_app.queue().is_behind_spool(is_spool_empty) && drains {
                continue;
            }
            let hungry = of_app.queue().take_hungry(GROUPS_READ_MAX, Instant::now());
            if hungry.is_empty() {
                continue;
            }
            let read = read(conn, self.number(), *app, &hungry).await;
            let now = Instant::now();
            let mut queue = of_app.queue();
            let (mut read, error) = match read {
                Ok(read) => (read, None),
                Err(error) => (BTreeMap::new(), Some(error)),
            };
            for order_key in &hungry {
                let of_group = match error {
                    None => Some(read.remove(&**order_key).unwrap_or((Vec::new(), true))),
                    Some(_) => None,
                };
                queue.read(order_key, of_group, now);
            }
            drop(queue);
            of_app.ready.notify_one();
            error.map_or(Ok(()), Err)?;
        }
        Ok(())
    }

    async fn count(&mut self, conn: &mut PgConnection) -> Result<(), sqlx::Error> {
        let begun = Instant::now();
        if self.count_due > begun {
            return Ok(());
        }
        let rows = outbox_report::backlog(conn).await?;
        for (app, of_app) in &self.outbox.apps {
            let row = rows.iter().find(|row| row.sdk_app_id == app.get());
            of_app.counted.send_replace(row.map_or_else(Backlog::default, |row| Backlog {
                entries: u64::try_from(row.entries).unwrap_or_default(),
                oldest: row.oldest.map(|oldest| Millis::new(oldest.timestamp_millis())),
                outage: None,
            }));
        }
        self.count_due = Instant::now() + COUNT_PERIOD.max(begun.elapsed() * COUNT_COST_FACTOR);
        Ok(())
    }

    /// At a stop: what was noted since the last round.
    async fn finish(&mut self) -> Result<(), sqlx::Error> {
        if !self.schema.fits() {
            return Ok(());
        }
        let kept = self.session.take().filter(|kept| kept.session.is_current());
        let mut session = match kept {
            Some(kept) => kept.session,
            None => self.database.outbox_session().await?,
        };
        let conn = session.conn();
        self.write_notes(conn).await
    }

    fn succeeded(&mut self) {
        if let Some(since) = self.failed_since.take() {
            let seconds = since.elapsed().as_secs_f64();
            tracing::info!(
                outage.seconds = seconds,
                "the outbox of the relay can be read again, after {seconds:.1} s"
            );
        }
    }

    /// Reports the first of several failures, and pauses.
    async fn failed(&mut self, error: &str) {
        self.session = None;
        if self.failed_since.is_none() {
            self.failed_since = Some(Instant::now());
            tracing::warn!(
                cause = error,
                "the outbox of the relay cannot be read: {error}; first deliveries go on, further attempts wait"
            );
        }
        sleep(FAILURE_PAUSE).await;
    }
}
