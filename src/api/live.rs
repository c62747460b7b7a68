//! The live end of the feed: one reader of the ledger for all followers of this process.
//!
//! It reads while there is a follower, woken by commits of this process and by a short poll for those of others, and hands
//! each segment on as bytes that were written once. A segment says from which position to which it is complete, so a
//! follower that stands before its beginning knows that it has to read the ledger itself. Where the entry at the
//! reader's own position is not there any more, the ledger has become shorter or is another one: the reader begins again,
//! and each follower checks its position and ends its stream. Knows nothing of single followers; `follower` does.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use sqlx::PgConnection;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, broadcast};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::change::{FeedPosition, event_text};
use super::errors::ApiError;
use crate::model::SdkAppId;
use crate::replay::as_of::PERMIT_WAIT_MAX;
use crate::store::Database;
use crate::store::feed::{self, ChangeRow, FeedPlace};
use crate::store::schema::SchemaState;

/// Followers at the same time. An idle one costs a connection, a task and a few kilobytes.
pub const FOLLOWERS_MAX: usize = 4096;

/// Rows of one segment. With the longest ids an event has about 4 KiB; usually it has 600 bytes.
const PIECE_ROWS_MAX: i64 = 256;

/// Pieces that a follower may be behind before it reads the ledger itself, so that segments hold at most some 40 MiB, and
/// usually far less.
const PIECES_MAX: usize = 32;

/// How long the reader rests at least between two looks. What is committed meanwhile is read together.
const REST: Duration = Duration::from_millis(20);

/// After how long it looks though nothing was committed here: another replica may have.
const POLL: Duration = Duration::from_millis(250);

/// How long one round of the reader may take: a server that stalls, or has no statement timeout, ends no read itself.
const READ_WAIT_MAX: Duration = Duration::from_secs(15);

/// The pause after a failure of the database.
pub(super) const FAILURE_PAUSE: Duration = Duration::from_secs(1);

/// How many followers and pages may read the ledger at the same time; the rest waits. Below the connections for lists, so
/// that thousands that come back at once, or a writer that all of them wait for, leave room for the rest of the API.
const CATCHING_UP_MAX: usize = 4;

/// A part of the feed without a hole: every entry after `from`, up to and with `to`.
#[derive(Debug)]
pub(super) struct Segment {
    /// Of which ledger.
    pub(super) epoch: String,
    /// The reader has begun here, and says nothing of what came before: each follower reads the ledger itself.
    pub(super) begins: bool,
    pub(super) from: i64,
    pub(super) to: FeedPlace,
    entries: Vec<SegmentEntry>,
    bytes: Bytes,
}

#[derive(Debug)]
struct SegmentEntry {
    position: i64,
    app: i64,
    text: Range<usize>,
}

impl Segment {
    /// Writes rows as events, once for all who follow.
    pub(super) fn of(epoch: &str, from: i64, to: FeedPlace, rows: &[ChangeRow]) -> Result<Self, ApiError> {
        let (mut bytes, mut entries) = (Vec::new(), Vec::with_capacity(rows.len()));
        for row in rows {
            let begin = bytes.len();
            bytes.extend(event_text(epoch, row)?);
            entries.push(SegmentEntry {
                position: row.place.position,
                app: row.sdk_app_id,
                text: begin..bytes.len(),
            });
        }
        assert!(
            entries.iter().all(|entry| entry.position > from && entry.position <= to.position),
            "a segment holds what lies between its ends"
        );
        Ok(Self { epoch: epoch.to_owned(), begins: false, from, to, entries, bytes: bytes.into() })
    }

    fn beginning(epoch: &str, at: &FeedPlace) -> Self {
        let (entries, bytes) = (Vec::new(), Bytes::new());
        Self { epoch: epoch.to_owned(), begins: true, from: at.position, to: at.clone(), entries, bytes }
    }

    /// What of it comes after a position and belongs to an app; not copied, in as few pieces as possible.
    pub(super) fn after(&self, position: i64, app: SdkAppId) -> Vec<Bytes> {
        let mut runs: Vec<Range<usize>> = Vec::new();
        let wanted = |entry: &&SegmentEntry| entry.position > position && entry.app == app.get();
        for SegmentEntry { text, .. } in self.entries.iter().filter(wanted) {
            match runs.last_mut() {
                Some(run) if run.end == text.start => run.end = text.end,
                _ => runs.push(text.clone()),
            }
        }
        runs.into_iter().map(|run| self.bytes.slice(run)).collect()
    }
}

/// The feed of this process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LiveFeed(Arc<FeedState>);

#[derive(Debug)]
struct FeedState {
    database: Database,
    schema: SchemaState,
    segments: broadcast::Sender<Arc<Segment>>,
    /// Notified when a follower begins.
    followed: Notify,
    /// The last `high_watermark` that was found, for when a writer takes too long.
    high_watermark: Mutex<Option<FeedPosition>>,
    followers: Arc<Semaphore>,
    followers_max: usize,
    catching_up: Arc<Semaphore>,
    stop: CancellationToken,
}

impl LiveFeed {
    /// With places for so many followers. Reads nothing yet; see [`LiveFeed::run`].
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
            segments: broadcast::Sender::new(PIECES_MAX),
            followed: Notify::new(),
            high_watermark: Mutex::new(None),
            followers: Arc::new(Semaphore::new(followers_max)),
            followers_max,
            catching_up: Arc::new(Semaphore::new(CATCHING_UP_MAX)),
            stop,
        }))
    }

    /// From here on every segment is received, or that some were missed.
    pub(super) fn segments(&self) -> broadcast::Receiver<Arc<Segment>> {
        let segments = self.0.segments.subscribe();
        self.0.followed.notify_one();
        segments
    }

    /// The places for followers.
    pub(super) fn followers(&self) -> &Arc<Semaphore> {
        &self.0.followers
    }

    /// A turn to read the ledger. Taken before a connection, so that no connection waits for a turn.
    ///
    /// # Errors
    /// `unavailable` after 5 s.
    pub(super) async fn permit(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        let permit = timeout(PERMIT_WAIT_MAX, Arc::clone(&self.0.catching_up).acquire_owned()).await;
        permit
            .ok()
            .and_then(Result::ok)
            .ok_or_else(|| ApiError::unavailable("Too many read the feed at once; try again."))
    }

    /// The last `high_watermark` that was found, of the ledger with this epoch.
    pub(super) fn known_high_watermark(&self, epoch: &str) -> Option<FeedPlace> {
        let known = self.0.high_watermark.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().filter(|position| position.epoch == epoch).map(FeedPosition::place)
    }

    /// Cancelled when the service stops: each follower then ends its stream.
    pub(super) fn stop(&self) -> &CancellationToken {
        &self.0.stop
    }

    /// How many follow now.
    #[must_use]
    pub fn follower_count(&self) -> usize {
        self.0.followers_max - self.0.followers.available_permits()
    }

    /// Up to where the feed is complete, of the ledger with this epoch; `None` where it was not found before and a writer
    /// takes longer than a page waits.
    pub(super) async fn high_watermark(
        &self,
        conn: &mut PgConnection,
        epoch: &str,
    ) -> Result<Option<FeedPlace>, sqlx::Error> {
        let mut high_watermark = feed::settle(conn).await?;
        if let (None, Some(known)) = (&high_watermark, self.known_high_watermark(epoch))
            // It may lie beyond the end of a ledger whose files were put back from a copy.
            && feed::holds(conn, &known).await?
        {
            high_watermark = Some(known);
        }
        let mut known = self.0.high_watermark.lock().unwrap_or_else(PoisonError::into_inner);
        *known = high_watermark.as_ref().map(|place| FeedPosition::of(epoch, place));
        Ok(high_watermark)
    }

    /// Reads for as long as the service runs.
    pub async fn run(self) {
        let stop = self.0.stop.clone();
        stop.run_until_cancelled(self.read()).await;
    }

    async fn read(&self) {
        let mut commits = self.0.database.commits();
        let mut position: Option<FeedPosition> = None;
        loop {
            if self.0.segments.receiver_count() == 0 {
                position = None;
                self.0.followed.notified().await;
            }
            commits.mark_unchanged();
            match timeout(READ_WAIT_MAX, self.read_on(&mut position)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::debug!(%error, "the feed cannot be read");
                    sleep(FAILURE_PAUSE).await;
                }
                Err(_) => {
                    tracing::debug!("the feed cannot be read: no answer in {} s", READ_WAIT_MAX.as_secs());
                }
            }
            sleep(REST).await;
            // The sender lives in the database's handle, which is held here.
            let _ = timeout(POLL, commits.changed()).await;
        }
    }

    async fn read_on(&self, position: &mut Option<FeedPosition>) -> Result<(), FeedError> {
        if !self.0.schema.fits() {
            return Ok(());
        }
        let mut conn = self.0.database.reader().acquire().await?;
        let epoch = feed::epoch(&mut conn).await?;
        let held = match position {
            Some(at) => at.epoch == epoch && feed::holds(&mut conn, &at.place()).await?,
            None => false,
        };
        let Some(high_watermark) = self.high_watermark(&mut conn, &epoch).await? else { return Ok(()) };
        let mut from = match position {
            Some(position) if held => position.position,
            // Beginning early does no harm.
            _ => {
                self.send(position, Segment::beginning(&epoch, &high_watermark));
                high_watermark.position
            }
        };
        loop {
            let (rows, _) = feed::page(&mut conn, from, &high_watermark, None, PIECE_ROWS_MAX).await?;
            let Some(last) = rows.last().map(|row| row.place.clone()) else { return Ok(()) };
            let to = last.position;
            self.send(position, Segment::of(&epoch, from, last, &rows)?);
            from = to;
        }
    }

    fn send(&self, position: &mut Option<FeedPosition>, segment: Segment) {
        *position = Some(FeedPosition::of(&segment.epoch, &segment.to));
        // Fails where there is no follower, which needs no segment then.
        let _ = self.0.segments.send(Arc::new(segment));
    }
}

/// Why the reader could not go on.
#[derive(Debug, thiserror::Error)]
enum FeedError {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Written(#[from] ApiError),
}

/// Writers that do not end in time hold the high watermark back.
pub(super) fn still_writing() -> ApiError {
    ApiError::unavailable(
        "A transaction that writes callbacks takes longer than this read waits, or the database is a standby; try again.",
    )
}
