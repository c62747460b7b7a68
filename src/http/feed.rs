//! The live end of the feed: one reader of the ledger for all followers of this process.
//!
//! It reads while somebody follows, woken by commits of this process and by a short poll for those of others, and hands
//! each piece on as bytes that were written once. A piece says from which place to which it is complete, so a follower
//! that stands before its beginning knows that it has to read the ledger itself; nothing else can make a hole. Knows
//! nothing of single followers; `changes` does.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use sqlx::PgConnection;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, broadcast, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::changes::{Place, event_text};
use super::error::ApiError;
use crate::model::SdkAppId;
use crate::store::Database;
use crate::store::changes::{self, ChangeRow};

/// Followers at the same time. An idle one costs a connection, a task and a few kilobytes.
pub const FOLLOWERS_MAX: usize = 4096;

/// Rows of one piece. With the longest ids an event has about 4 KiB; usually it has 600 bytes.
const PIECE_ROWS_MAX: i64 = 256;

/// Pieces that a follower may be behind before it reads the ledger itself, so that pieces hold at most some 40 MiB, and
/// usually far less.
const PIECES_MAX: usize = 32;

/// How long the reader rests at least between two looks. What is committed meanwhile is read together.
const REST: Duration = Duration::from_millis(20);

/// After how long it looks though nothing was committed here: another replica may have.
const POLL: Duration = Duration::from_millis(250);

/// The pause after a failure of the database.
const TROUBLE_PAUSE: Duration = Duration::from_secs(1);

/// How many followers and pages may read the ledger at the same time; the rest waits. Below the connections for lists, so
/// that thousands that come back at once, or a writer that all of them wait for, leave room for the rest of the API.
const CATCHING_UP_MAX: usize = 4;

/// How long one waits for its turn.
const TURN_WAIT_MAX: Duration = Duration::from_secs(5);

/// A part of the feed without a hole: every entry after `from`, up to and with `to`.
#[derive(Debug)]
pub(super) struct Piece {
    /// Of which ledger.
    pub(super) epoch: String,
    pub(super) from: i64,
    pub(super) to: i64,
    entries: Vec<Entry>,
    bytes: Bytes,
}

#[derive(Debug)]
struct Entry {
    position: i64,
    app: i64,
    text: Range<usize>,
}

impl Piece {
    /// Writes rows as events, once for all who follow.
    pub(super) fn of(epoch: &str, (from, to): (i64, i64), rows: &[ChangeRow]) -> Result<Self, ApiError> {
        let (mut bytes, mut entries) = (Vec::new(), Vec::with_capacity(rows.len()));
        for row in rows {
            let begin = bytes.len();
            bytes.extend(event_text(epoch, row)?);
            entries.push(Entry { position: row.position, app: row.sdk_app_id, text: begin..bytes.len() });
        }
        Ok(Self { epoch: epoch.to_owned(), from, to, entries, bytes: bytes.into() })
    }

    /// What of it comes after a place and belongs to an app; without copying, as few pieces of bytes as there can be.
    pub(super) fn after(&self, position: i64, app: SdkAppId) -> Vec<Bytes> {
        let mut runs: Vec<Range<usize>> = Vec::new();
        let wanted = |entry: &&Entry| entry.position > position && entry.app == app.get();
        for Entry { text, .. } in self.entries.iter().filter(wanted) {
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
pub struct Feed(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    database: Database,
    /// Why schema and database do not agree; none: they do.
    trouble: watch::Receiver<Option<String>>,
    pieces: broadcast::Sender<Arc<Piece>>,
    /// Told when somebody begins to follow.
    followed: Notify,
    /// The last head that was found, for when somebody is writing for too long.
    head: Mutex<Option<Place>>,
    followers: Arc<Semaphore>,
    catching_up: Arc<Semaphore>,
    stop: CancellationToken,
}

impl Feed {
    /// Reads nothing yet; see [`Feed::run`].
    #[must_use]
    pub fn new(
        database: Database,
        trouble: watch::Receiver<Option<String>>,
        stop: CancellationToken,
    ) -> Self {
        Self(Arc::new(Shared {
            database,
            trouble,
            pieces: broadcast::Sender::new(PIECES_MAX),
            followed: Notify::new(),
            head: Mutex::new(None),
            followers: Arc::new(Semaphore::new(FOLLOWERS_MAX)),
            catching_up: Arc::new(Semaphore::new(CATCHING_UP_MAX)),
            stop,
        }))
    }

    /// From here on every piece is received, or that some were missed.
    pub(super) fn pieces(&self) -> broadcast::Receiver<Arc<Piece>> {
        let pieces = self.0.pieces.subscribe();
        self.0.followed.notify_one();
        pieces
    }

    /// The places for followers.
    pub(super) fn followers(&self) -> &Arc<Semaphore> {
        &self.0.followers
    }

    /// A turn to read the ledger. Taken before a connection, so that nobody waits with one.
    ///
    /// # Errors
    /// `unavailable` after 5 s.
    pub(super) async fn turn(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        let turn = timeout(TURN_WAIT_MAX, Arc::clone(&self.0.catching_up).acquire_owned()).await;
        turn.ok()
            .and_then(Result::ok)
            .ok_or_else(|| ApiError::unavailable("Too many read the feed at once; try again."))
    }

    /// The last head that was found, of the ledger with this epoch.
    pub(super) fn known_head(&self, epoch: &str) -> Option<i64> {
        let known = self.0.head.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().filter(|place| place.epoch == epoch).map(|place| place.position)
    }

    /// Cancelled when the service stops: who follows has to let go.
    pub(super) fn stop(&self) -> &CancellationToken {
        &self.0.stop
    }

    /// How many follow now.
    #[must_use]
    pub fn follower_count(&self) -> usize {
        FOLLOWERS_MAX - self.0.followers.available_permits()
    }

    /// Up to where the feed is complete, of the ledger with this epoch; `None` where nobody has found out yet and
    /// somebody writes for longer than a page waits.
    pub(super) async fn head(
        &self,
        conn: &mut PgConnection,
        epoch: &str,
    ) -> Result<Option<i64>, sqlx::Error> {
        let settled = changes::settle(conn).await?;
        // What was known may lie beyond the end of a ledger whose files were put back from a copy.
        let last = if settled.is_none() { changes::last(conn).await? } else { i64::MAX };
        let mut known = self.0.head.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known.as_ref().filter(|place| place.epoch == epoch && place.position <= last);
        let head = settled.or(before.map(|place| place.position));
        *known = head.map(|position| Place { epoch: epoch.to_owned(), position });
        Ok(head)
    }

    /// Reads for as long as the service runs.
    pub async fn run(self) {
        let stop = self.0.stop.clone();
        stop.run_until_cancelled(self.read()).await;
    }

    async fn read(&self) {
        let mut commits = self.0.database.commits();
        let mut place: Option<Place> = None;
        loop {
            if self.0.pieces.receiver_count() == 0 {
                place = None;
                self.0.followed.notified().await;
            }
            commits.mark_unchanged();
            if let Err(error) = self.read_on(&mut place).await {
                tracing::debug!(%error, "the feed cannot be read");
                sleep(TROUBLE_PAUSE).await;
            }
            sleep(REST).await;
            // The sender lives in the database's handle, which is held here.
            let _ = timeout(POLL, commits.changed()).await;
        }
    }

    async fn read_on(&self, place: &mut Option<Place>) -> Result<(), FeedError> {
        if self.0.trouble.borrow().is_some() {
            return Ok(());
        }
        let mut conn = self.0.database.reader().acquire().await?;
        let epoch = changes::epoch(&mut conn).await?;
        let Some(head) = self.head(&mut conn, &epoch).await? else { return Ok(()) };
        let mut from = match place {
            Some(place) if place.epoch == epoch && place.position <= head => place.position,
            // Tells followers where pieces begin, or that the ledger is another one. Beginning early does no harm.
            _ => {
                self.send(place, Piece::of(&epoch, (head, head), &[])?);
                head
            }
        };
        loop {
            let (rows, _) = changes::page(&mut conn, (from, head), None, PIECE_ROWS_MAX).await?;
            let Some(last) = rows.last().map(|row| row.position) else { return Ok(()) };
            self.send(place, Piece::of(&epoch, (from, last), &rows)?);
            from = last;
        }
    }

    fn send(&self, place: &mut Option<Place>, piece: Piece) {
        *place = Some(Place { epoch: piece.epoch.clone(), position: piece.to });
        // Without a follower nobody has to have it.
        let _ = self.0.pieces.send(Arc::new(piece));
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
