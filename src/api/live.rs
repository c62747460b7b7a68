//! The live end of the feed, as the followers and pages of this process share it: the latest segments, the high watermark
//! that was last found, and the permits.
//!
//! One reader of the ledger serves all followers (`feed_reader`). What it has found is kept here, so that a follower asks
//! the database only for what lies behind the latest segments. Where the entry at the reader's own position is not there
//! any more, the ledger has become shorter or is another one: the reader begins again, and each follower checks its
//! position and ends its stream. Knows nothing of single followers; `follower` does.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::PgConnection;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, broadcast, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::change::FeedPosition;
use super::errors::ApiError;
use super::segment::{RecentSegments, SEGMENTS_MAX, Segment};
use crate::store::feed::{self, FeedPlace};
use crate::store::high_watermark::{self, LedgerWriters, Proof};
use crate::store::schema::SchemaState;
use crate::store::{Database, FEED_CONNECTIONS_MAX};

/// Followers at the same time. An idle one costs a connection, a task and a few kilobytes.
pub const FOLLOWERS_MAX: usize = 4096;

/// How long what the reader has found is believed without asking the database: some of its rounds.
const FRESH: Duration = Duration::from_secs(1);

/// The high watermark as it was found.
pub(super) struct FoundWatermark {
    pub(super) place: FeedPlace,
    /// It was proven just now; else it is the last one that was proven.
    pub(super) is_new: bool,
    /// A transaction that has written to the ledger stays open.
    pub(super) is_held_back: bool,
}

/// The feed of this process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LiveFeed(Arc<FeedState>);

#[derive(Debug)]
struct FeedState {
    database: Database,
    schema: SchemaState,
    segments: broadcast::Sender<Arc<Segment>>,
    /// Notified when a follower begins, or a read waits for the high watermark.
    followed: Notify,
    /// Counts the rounds of the reader.
    rounds: watch::Sender<u64>,
    found: Mutex<Found>,
    followers: Arc<Semaphore>,
    reading: Arc<Semaphore>,
    followers_max: usize,
    stop: CancellationToken,
}

/// What was found in the ledger.
#[derive(Debug, Default)]
struct Found {
    recent: RecentSegments,
    /// When the reader has last seen that its own position is where it was.
    checked: Option<Instant>,
    /// The last high watermark that was found.
    high_watermark: Option<FeedPosition>,
    /// Writers that a proof has waited for in vain.
    slow: LedgerWriters,
    /// Since when the end of the ledger is not reached.
    late_since: Option<Instant>,
}

impl LiveFeed {
    /// With permits for so many followers. Reads nothing yet; see `feed_reader`.
    #[must_use]
    pub fn new(
        database: Database,
        schema: SchemaState,
        stop: CancellationToken,
        followers_max: usize,
    ) -> Self {
        Self(Arc::new(FeedState {
            database,
            schema,
            segments: broadcast::Sender::new(SEGMENTS_MAX),
            followed: Notify::new(),
            rounds: watch::Sender::new(0),
            found: Mutex::default(),
            // As many as the pool has connections, so that a permit is seldom followed by a wait.
            reading: Arc::new(Semaphore::new(FEED_CONNECTIONS_MAX as usize)),
            followers: Arc::new(Semaphore::new(followers_max)),
            followers_max,
            stop,
        }))
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.0.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn database(&self) -> &Database {
        &self.0.database
    }

    pub(super) fn schema(&self) -> &SchemaState {
        &self.0.schema
    }

    /// From here on every segment is received, or that some were missed.
    pub(super) fn segments(&self) -> broadcast::Receiver<Arc<Segment>> {
        let segments = self.0.segments.subscribe();
        self.0.followed.notify_one();
        segments
    }

    /// The segments with what comes after a position, where the reader has seen that position lately, and the ledger
    /// under it. Called by a follower that receives segments already, so that none falls between the two.
    pub(super) fn recent_after(&self, position: &FeedPosition) -> Option<Vec<Arc<Segment>>> {
        let found = self.found();
        found.checked.filter(|checked| checked.elapsed() < FRESH)?;
        found.recent.after(position)
    }

    /// A permit to follow.
    ///
    /// # Errors
    /// `unavailable`: all are taken.
    pub(crate) fn follower_permit(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        Arc::clone(&self.0.followers).try_acquire_owned().map_err(|_| {
            ApiError::unavailable("The greatest number of followers is reached; try again later.")
        })
    }

    /// A permit to read the ledger, one per connection for it. Taken before the connection, so that none is held by who
    /// waits.
    ///
    /// # Errors
    /// `unavailable`: there was none in that time.
    pub(super) async fn read_permit(&self, wait: Duration) -> Result<OwnedSemaphorePermit, ApiError> {
        let permit = timeout(wait, Arc::clone(&self.0.reading).acquire_owned()).await;
        permit
            .ok()
            .and_then(Result::ok)
            .ok_or_else(|| ApiError::unavailable("Too many read the feed at once; try again."))
    }

    /// The last high watermark that was found, of the ledger with this epoch.
    pub(super) fn known_high_watermark(&self, epoch: &str) -> Option<FeedPlace> {
        let found = self.found();
        found.high_watermark.as_ref().filter(|known| known.epoch == epoch).map(FeedPosition::place)
    }

    /// Up to where the feed is complete, of the ledger with this epoch: proven now or, where a writer does not end, the
    /// last time.
    pub(super) async fn high_watermark(
        &self,
        conn: &mut PgConnection,
        epoch: &str,
    ) -> Result<FoundWatermark, sqlx::Error> {
        let slow = self.found().slow.clone();
        let watermark = match high_watermark::prove(conn, &slow).await? {
            Proof::At(place) => {
                self.found().slow.clear();
                FoundWatermark { place, is_new: true, is_held_back: false }
            }
            Proof::HeldBack(writers) => {
                let is_held_back = !writers.is_empty();
                self.found().slow = writers;
                let place = self.proven_before(conn, epoch).await?;
                FoundWatermark { place, is_new: false, is_held_back }
            }
        };
        let mut found = self.found();
        let known = found.high_watermark.as_ref().filter(|known| known.epoch == epoch);
        // Two proofs may end in another order than they began. A ledger that has become shorter is the reader's matter.
        if known.is_none_or(|known| known.position < watermark.place.position) {
            found.high_watermark = Some(FeedPosition::of(epoch, &watermark.place));
        }
        Ok(watermark)
    }

    /// The greatest high watermark that was proven, by this process or as the database notes it, and lies in this ledger.
    async fn proven_before(&self, conn: &mut PgConnection, epoch: &str) -> Result<FeedPlace, sqlx::Error> {
        let noted = high_watermark::noted(conn).await?;
        match self.known_high_watermark(epoch) {
            Some(known) if feed::holds(conn, &known).await? => Ok(known.or_later(&noted)),
            _ => Ok(noted),
        }
    }

    /// Cancelled when the service stops: each follower then ends its stream.
    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.0.stop
    }

    /// How many follow now.
    #[must_use]
    pub fn follower_count(&self) -> usize {
        self.0.followers_max - self.0.followers.available_permits()
    }

    /// For how long the feed has not reached the end of the ledger.
    #[must_use]
    pub fn lag(&self) -> Duration {
        self.found().late_since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Whether any stream is open.
    pub(super) fn is_followed(&self) -> bool {
        self.0.segments.receiver_count() > 0
    }

    /// Resolves with each further look of the reader at the ledger that went well.
    pub(super) fn rounds(&self) -> watch::Receiver<u64> {
        self.0.rounds.subscribe()
    }

    /// Has the reader look at the ledger without a pause.
    pub(super) fn wake_reader(&self) {
        self.0.followed.notify_one();
    }

    /// Resolves when a follower begins, or the reader is to look again, or either has been so since it last resolved.
    pub(super) async fn followed(&self) {
        self.0.followed.notified().await;
    }

    /// Hands a segment to all who follow. A first one says where the ledger is now, whatever was known before.
    pub(super) fn publish(&self, segment: Segment) {
        let segment = Arc::new(segment);
        let mut found = self.found();
        if segment.begins {
            found.high_watermark = Some(FeedPosition::of(&segment.epoch, &segment.to));
        }
        found.recent.push(Arc::clone(&segment));
        drop(found);
        // Fails where there is no follower, which needs no segment then.
        let _ = self.0.segments.send(segment);
    }

    /// Forgets the segments, which have no follower.
    pub(super) fn forget_segments(&self) {
        self.found().recent.clear();
    }

    /// Notes that the reader has checked its position just now, and whether it reached the end of the ledger.
    pub(super) fn note_round(&self, is_late: bool) {
        let mut found = self.found();
        found.checked = Some(Instant::now());
        found.late_since = found.late_since.filter(|_| is_late).or_else(|| is_late.then(Instant::now));
        drop(found);
        self.0.rounds.send_modify(|rounds| *rounds = rounds.wrapping_add(1));
    }

    /// Notes that the ledger cannot be read.
    pub(super) fn note_failure(&self) {
        let mut found = self.found();
        found.late_since = found.late_since.or_else(|| Some(Instant::now()));
    }
}
