//! A follower: one client of the feed's stream of server-sent events.
//!
//! It reads the ledger from its position until it meets the segments of the live feed, and again whenever it has missed
//! some, so that it gives every entry once, in order.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use http_body_util::channel::{Channel, Sender};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep_until};

use super::change::{FeedPosition, listing};
use super::errors::ApiError;
use super::live::{Segment, still_writing};
use super::state::ApiState;
use crate::model::SdkAppId;
use crate::store::feed;

/// How often a stream without news says that it is alive. Proxies cut what is silent for a minute.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// How many segments wait for a follower that takes them slowly. One that takes nothing at all is cut by `listen`, and may
/// resume.
const WAITING_MAX: usize = 1;

/// How many entries a follower reads at once while it catches up: some 40 kB, of which one that is slow keeps two, so
/// that as many as may follow keep some hundreds of megabytes at the very worst.
const CATCH_UP_ROWS: i64 = 64;

/// The pause of a follower that could not read the ledger.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);

/// What a stream is told first: how long to wait before coming back, in ms.
const GREETING: &str = "retry: 1000\n";

/// What a stream without news is told: a comment.
const BEAT: &str = ":\n";

/// Begins a stream at a position.
///
/// # Errors
/// `unavailable` where too many follow already.
pub(super) fn follow(state: ApiState, app: SdkAppId, position: FeedPosition) -> Result<Response, ApiError> {
    let permit = state.feed.followers().clone().try_acquire_owned();
    let permit = permit.map_err(|_| ApiError::unavailable("Too many follow already; try again later."))?;
    let (sender, body) = Channel::<Bytes>::new(WAITING_MAX);
    tokio::spawn(async move {
        let mut follower = Follower { state, app, position, sender };
        let end = follower.run().await;
        tracing::debug!(?end, "a follower has gone");
        drop(permit);
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // Some proxies hold back what they are not told to pass on at once.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, Body::new(body)).into_response())
}

/// Why a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The client is gone, or was cut.
    Left,
    /// The service stops, or the ledger is another one.
    Closed,
}

struct Follower {
    state: ApiState,
    app: SdkAppId,
    /// Everything up to here was sent.
    position: FeedPosition,
    sender: Sender<Bytes>,
}

impl Follower {
    async fn run(&mut self) -> End {
        let stop = self.state.feed.stop().clone();
        match stop.run_until_cancelled(self.stream()).await {
            Some(Err(end)) => end,
            Some(Ok(never)) => match never {},
            None => End::Closed,
        }
    }

    async fn stream(&mut self) -> Result<std::convert::Infallible, End> {
        self.send_position(GREETING).await?;
        // Before the ledger is read, so that nothing falls between.
        let mut segments = self.state.feed.segments();
        let mut behind = true;
        let mut beat = Instant::now() + HEARTBEAT;
        loop {
            if behind {
                match self.catch_up().await {
                    Ok(()) => behind = false,
                    Err(CatchUp::End(end)) => return Err(end),
                    Err(CatchUp::Failed(error)) => {
                        tracing::debug!(%error, "a follower cannot catch up");
                        beat = beat.min(Instant::now() + FAILURE_PAUSE);
                    }
                }
            }
            tokio::select! {
                segment = segments.recv(), if !behind => match segment {
                    Ok(segment) => behind = !self.take(&segment).await?,
                    Err(RecvError::Lagged(_)) => behind = true,
                    Err(RecvError::Closed) => return Err(End::Closed),
                },
                () = sleep_until(beat) => {
                    self.send_position(BEAT).await?;
                    beat = Instant::now() + HEARTBEAT;
                }
            }
        }
    }

    /// Sends a line and where the stream is. An event without data is none, but a browser remembers its id, and comes
    /// back with that instead of where it began.
    async fn send_position(&mut self, line: &str) -> Result<(), End> {
        let cursor = listing(self.app.get()).cursor(self.position.clone()).map_err(|_| End::Closed)?;
        self.send(format!("{line}id: {cursor}\n\n").into()).await
    }

    /// Sends what is new in a segment; false where something between was missed.
    async fn take(&mut self, segment: &Segment) -> Result<bool, End> {
        if segment.epoch != self.position.epoch {
            return Err(End::Closed);
        }
        if segment.begins || segment.from > self.position.position {
            return Ok(false);
        }
        if segment.to.position > self.position.position {
            for bytes in segment.after(self.position.position, self.app) {
                self.send(bytes).await?;
            }
            self.position = FeedPosition::of(&segment.epoch, &segment.to);
        }
        Ok(true)
    }

    /// Reads the ledger from the position up to its end of now.
    async fn catch_up(&mut self) -> Result<(), CatchUp> {
        loop {
            let (segment, end) = self.read().await?;
            self.take(&segment).await.map_err(CatchUp::End)?;
            if end {
                return Ok(());
            }
        }
    }

    /// The next segment, and whether it is the last for now. No connection is held while it is sent.
    async fn read(&self) -> Result<(Segment, bool), CatchUp> {
        let _permit = self.state.feed.permit().await?;
        let mut conn = self.state.connection().await?;
        let epoch = feed::epoch(&mut conn).await?;
        let from = self.position.position;
        if epoch != self.position.epoch || !feed::holds(&mut conn, &self.position.place()).await? {
            return Err(CatchUp::End(End::Closed));
        }
        // No wait for writers while there is more to read below.
        let mut known = self.state.feed.known_high_watermark(&epoch).filter(|known| known.position > from);
        if let Some(place) = &known
            && !feed::holds(&mut conn, place).await?
        {
            known = None;
        }
        let is_end = known.is_none();
        let high_watermark = match known {
            Some(known) => known,
            None => self.state.feed.high_watermark(&mut conn, &epoch).await?.ok_or_else(still_writing)?,
        };
        let (rows, looked) =
            feed::page(&mut conn, from, &high_watermark, Some(self.app), CATCH_UP_ROWS).await?;
        let full = i64::try_from(rows.len()).is_ok_and(|rows| rows >= CATCH_UP_ROWS);
        let end = is_end && !full && looked == high_watermark;
        let to = rows.last().map(|row| row.place.clone()).filter(|_| full).unwrap_or(looked);
        Ok((Segment::of(&epoch, from, to, &rows)?, end))
    }

    async fn send(&mut self, bytes: Bytes) -> Result<(), End> {
        self.sender.send_data(bytes).await.map_err(|_| End::Left)
    }
}

/// Why the ledger was not read to its end.
enum CatchUp {
    End(End),
    Failed(ApiError),
}

impl<E: Into<ApiError>> From<E> for CatchUp {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}
