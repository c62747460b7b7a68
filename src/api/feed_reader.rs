//! The reader of the feed: one task that reads the ledger for all followers of this process, on a session of its own.
//!
//! It is woken by commits of this process, and by a short poll for those of others. It finds the high watermark, notes it
//! in the database for the next start, and hands on what is new as segments. Without followers it does the first two
//! alone, each second. No other read can take its session; one that fails or stalls is dropped, and a new one is made
//! after a pause.

use std::time::Duration;

use sqlx::PgConnection;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::change::FeedPosition;
use super::errors::ApiError;
use super::live::{FoundWatermark, LiveFeed};
use super::segment::{SEGMENT_ROWS_MAX, Segment};
use crate::store::OwnSession;
use crate::store::feed::{self, FeedFilter, FeedPlace};
use crate::store::high_watermark;

/// How long the reader rests at least between two looks. What is committed meanwhile is read together.
const REST: Duration = Duration::from_millis(20);

/// After how long it looks though nothing was committed here: another replica may have.
const POLL: Duration = Duration::from_millis(250);

/// The same without followers, whatever was committed.
const IDLE_POLL: Duration = Duration::from_secs(1);

/// How long it goes on as before after the last follower has left: those who lost their connection come back at a place that it still knows.
const LINGER: Duration = Duration::from_mins(1);

/// How often a high watermark is noted in the database at most.
const NOTE_PERIOD: Duration = Duration::from_secs(1);

/// How long one round may take: a server that stalls, or has no statement timeout, ends no read itself.
const ROUND_WAIT_MAX: Duration = Duration::from_secs(15);

/// How long the last note may take, at a stop.
const LAST_NOTE_WAIT_MAX: Duration = Duration::from_secs(1);

/// The pause after a failure of the database.
pub(super) const FAILURE_PAUSE: Duration = Duration::from_secs(1);

/// How many positions the reader goes through at most before it begins again at the high watermark. Followers are further
/// behind by then than segments are kept, and read the ledger themselves.
const BEHIND_MAX: i64 = 100_000;

/// The reader and what it works with.
#[derive(Debug)]
pub struct FeedReader {
    feed: LiveFeed,
    commits: watch::Receiver<u64>,
    session: Option<OwnSession>,
    /// Up to where segments were handed on; `None`: it has not begun.
    position: Option<FeedPosition>,
    /// What it has noted in the database.
    noted: Option<FeedPlace>,
    /// When it last tried to.
    noted_at: Option<Instant>,
    followed_at: Option<Instant>,
    failed_since: Option<Instant>,
}

impl FeedReader {
    /// Reads nothing yet.
    #[must_use]
    pub fn new(feed: LiveFeed) -> Self {
        let commits = feed.database().commits();
        Self {
            feed,
            commits,
            session: None,
            position: None,
            noted: None,
            noted_at: None,
            followed_at: None,
            failed_since: None,
        }
    }

    /// Reads for as long as the service runs.
    pub async fn run(mut self) {
        let stop = self.feed.stop().clone();
        stop.run_until_cancelled(self.read()).await;
        let _ = timeout(LAST_NOTE_WAIT_MAX, self.note_last()).await;
    }

    async fn read(&mut self) {
        self.feed.schema().clone().fitting().await;
        loop {
            if self.feed.is_followed() {
                self.followed_at = Some(Instant::now());
            }
            let is_followed = self.followed_at.is_some_and(|at| at.elapsed() < LINGER);
            if !is_followed {
                self.position = None;
                self.feed.forget_segments();
            }
            self.commits.mark_unchanged();
            if self.feed.schema().fits() {
                match timeout(ROUND_WAIT_MAX, self.round(is_followed)).await {
                    Ok(Ok(())) => self.succeeded(),
                    Ok(Err(error)) => self.failed(&error.to_string()).await,
                    Err(_) => self.failed(&format!("no answer in {} s", ROUND_WAIT_MAX.as_secs())).await,
                }
            } else {
                // The schema watch reports why.
                self.feed.note_failure();
            }
            sleep(REST).await;
            self.wait(is_followed).await;
        }
    }

    /// Waits for a reason to look again: while there are followers a commit, else the first one, or that time is over.
    async fn wait(&mut self, is_followed: bool) {
        if is_followed {
            // The sender lives in the database's handle, which the feed holds.
            let _ = timeout(POLL, async {
                tokio::select! {
                    _ = self.commits.changed() => {}
                    () = self.feed.followed() => {}
                }
            })
            .await;
        } else {
            let _ = timeout(IDLE_POLL, self.feed.followed()).await;
        }
    }

    /// One look at the ledger. The session is put back only where it went well.
    async fn round(&mut self, is_followed: bool) -> Result<(), FeedError> {
        let kept = self.session.take().filter(OwnSession::is_current);
        let mut session = match kept {
            Some(session) => session,
            None => self.feed.database().own_session().await?,
        };
        let conn = session.conn();
        let epoch = feed::epoch(conn).await?;
        let high_watermark = self.feed.high_watermark(conn, &epoch).await?;
        self.note(conn, &high_watermark).await;
        if is_followed {
            self.read_on(conn, &epoch, &high_watermark.place).await?;
        }
        self.feed.note_round(high_watermark.is_held_back);
        self.session = Some(session);
        Ok(())
    }

    async fn read_on(
        &mut self,
        conn: &mut PgConnection,
        epoch: &str,
        high_watermark: &FeedPlace,
    ) -> Result<(), FeedError> {
        let is_near = |at: &&FeedPosition| high_watermark.position - at.position <= BEHIND_MAX;
        let known = self.position.as_ref().filter(|at| at.epoch == epoch).filter(is_near);
        let mut from = match known.map(FeedPosition::place) {
            Some(place) if feed::holds(conn, &place).await? => place,
            _ => {
                self.publish(Segment::beginning(epoch, high_watermark));
                high_watermark.clone()
            }
        };
        while from.position < high_watermark.position {
            let (rows, _) =
                feed::page(conn, &from, high_watermark, &FeedFilter::ALL, SEGMENT_ROWS_MAX).await?;
            // Entries behind it may have been pruned between the statements: each follower finds out by its own place.
            if from.position < feed::dropped(conn).await?.position {
                self.publish(Segment::beginning(epoch, high_watermark));
                return Ok(());
            }
            let Some(last) = rows.last().map(|row| row.place.clone()) else { return Ok(()) };
            self.publish(Segment::of(epoch, from.position, last.clone(), rows)?);
            from = last;
        }
        Ok(())
    }

    fn publish(&mut self, segment: Segment) {
        self.position = Some(FeedPosition::of(&segment.epoch, &segment.to));
        self.feed.publish(segment);
    }

    /// Notes a high watermark in the database, now and then while it grows, and the last one where it is held back. A failure
    /// harms nothing but the next start: a right that is missing is in the log, and a server that takes no writes has
    /// the note of the one that does.
    async fn note(&mut self, conn: &mut PgConnection, found: &FoundWatermark) {
        let is_proven = found.is_new || found.is_held_back;
        let is_noted = self.noted.as_ref() == Some(&found.place);
        if !is_proven || is_noted || self.noted_at.is_some_and(|at| at.elapsed() < NOTE_PERIOD) {
            return;
        }
        self.noted_at = Some(Instant::now());
        match high_watermark::note(conn, &found.place).await {
            Ok(()) => self.noted = Some(found.place.clone()),
            Err(error) => tracing::debug!(%error, "the high watermark is not noted"),
        }
    }

    /// At a stop: what was found since the last note.
    async fn note_last(&mut self) -> Result<(), FeedError> {
        let Some(mut session) = self.session.take().filter(OwnSession::is_current) else { return Ok(()) };
        let conn = session.conn();
        let epoch = feed::epoch(conn).await?;
        if let Some(known) = self.feed.known_high_watermark(&epoch)
            && feed::holds(conn, &known).await?
        {
            high_watermark::note(conn, &known).await?;
        }
        Ok(())
    }

    fn succeeded(&mut self) {
        if let Some(since) = self.failed_since.take() {
            let seconds = since.elapsed().as_secs_f64();
            tracing::info!(outage.seconds = seconds, "the feed can be read again, after {seconds:.1} s");
        }
    }

    /// Reports the first of several failures, and pauses.
    async fn failed(&mut self, error: &str) {
        self.feed.note_failure();
        if self.failed_since.is_none() {
            self.failed_since = Some(Instant::now());
            metrics::counter!("group_mirror_feed_outages_total").increment(1);
            tracing::warn!(
                cause = error,
                "the feed cannot be read: {error}; followers wait, and it is tried every second"
            );
        }
        sleep(FAILURE_PAUSE).await;
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
