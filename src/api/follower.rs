//! A follower: one client of the feed's stream of server-sent events.
//!
//! It resumes out of the latest segments of the live feed where its position is in them, else it reads the ledger from its
//! position until it reaches them, and again whenever it has missed some, so that every entry is sent once, in order. A
//! permit bounds how many follow, another how many read the ledger at once. A filter takes entries out; the position that
//! is sent with each heartbeat moves on over those that do not fit.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use http_body_util::BodyExt as _;
use http_body_util::channel::{Channel, Sender};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::change::{FeedPosition, scope};
use super::errors::ApiError;
use super::feed_reader::FAILURE_PAUSE;
use super::segment::Segment;
use super::state::ApiState;
use crate::model::SdkAppId;
use crate::store::feed::{self, FeedFilter};
use crate::store::{READ_WAIT_MAX, in_time};

/// How often a stream without entries sends a comment. Proxies close a connection that is silent for a minute.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// How many segments wait for a slow follower. The server closes the connection of one that takes nothing at all, and
/// the follower may resume.
const SEGMENTS_WAITING_MAX: usize = 1;

/// How many entries a follower reads at once while it catches up: some 50 kB. A slow follower keeps two such segments in
/// memory, so that the greatest number of followers keeps some hundreds of megabytes at worst.
const CATCH_UP_ROWS: i64 = 64;

/// How long a stream waits for a permit to read the ledger: thousands that come back at once take their turns, and none
/// of them is refused while there is room for it to follow.
pub(super) const STREAM_PERMIT_WAIT_MAX: Duration = Duration::from_secs(30);

/// The first line of a stream: how long a browser should wait before it reconnects, in ms.
const GREETING: &str = "retry: 1000\n";

/// The line of a heartbeat: a comment.
const COMMENT: &str = ":\n";

/// Begins a stream at a position, for the entries of an app that fit a filter.
pub(super) fn follow(
    state: ApiState,
    (app, filter): (SdkAppId, FeedFilter),
    position: FeedPosition,
    permit: OwnedSemaphorePermit,
) -> Response {
    let (sender, body, gone) = stream_body();
    tokio::spawn(async move {
        let heartbeat = Instant::now() + HEARTBEAT;
        let mut follower = Follower { state, app, filter, position, heartbeat, sender, gone };
        let end = follower.run().await;
        tracing::debug!(?end, "a stream has ended");
        drop(permit);
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // Without this nginx buffers the stream.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, body).into_response()
}

/// The body of a stream, what fills it, and a token that is cancelled once the server has dropped the body because the
/// connection has ended. Without it a client that left would keep its permit until the next thing is sent.
pub(crate) fn stream_body() -> (Sender<Bytes>, Body, CancellationToken) {
    let (sender, body) = Channel::<Bytes>::new(SEGMENTS_WAITING_MAX);
    let gone = CancellationToken::new();
    let guard = gone.clone().drop_guard();
    let body = body.map_frame(move |frame| {
        let _owned = &guard;
        frame
    });
    (sender, Body::new(body), gone)
}

/// Why a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The client closed the connection, or the server did.
    Disconnected,
    /// The service stops, or the ledger has been replaced.
    Closed,
}

struct Follower {
    state: ApiState,
    app: SdkAppId,
    filter: FeedFilter,
    /// Everything up to this position was sent, or does not fit.
    position: FeedPosition,
    /// When the next heartbeat is due.
    heartbeat: Instant,
    sender: Sender<Bytes>,
    /// Cancelled once its connection has ended.
    gone: CancellationToken,
}

impl Follower {
    async fn run(&mut self) -> End {
        let (stop, gone) = (self.state.feed.stop().clone(), self.gone.clone());
        tokio::select! {
            biased;
            () = gone.cancelled() => End::Disconnected,
            () = stop.cancelled() => End::Closed,
            end = self.stream() => end,
        }
    }

    /// Sends until the stream ends, and returns why it did.
    async fn stream(&mut self) -> End {
        // Subscribed before anything is read, so that no entry falls between the two.
        let mut segments = self.state.feed.segments();
        let mut behind = true;
        if let Err(end) = self.send_position(GREETING).await {
            return end;
        }
        loop {
            if behind {
                match self.catch_up().await {
                    Ok(()) => behind = false,
                    Err(CatchUp::End(end)) => return end,
                    Err(CatchUp::Failed(error)) => {
                        tracing::debug!(%error, "a follower cannot catch up");
                        self.heartbeat = self.heartbeat.min(Instant::now() + FAILURE_PAUSE);
                    }
                }
            }
            let sent = tokio::select! {
                segment = segments.recv(), if !behind => match segment {
                    Ok(segment) => self.take(&segment).await.map(|taken| behind = !taken),
                    Err(RecvError::Lagged(_)) => {
                        behind = true;
                        Ok(())
                    }
                    Err(RecvError::Closed) => Err(End::Closed),
                },
                () = sleep_until(self.heartbeat) => self.beat().await,
            };
            if let Err(end) = sent {
                return end;
            }
        }
    }

    /// Sends a heartbeat.
    async fn beat(&mut self) -> Result<(), End> {
        self.heartbeat = Instant::now() + HEARTBEAT;
        self.send_position(COMMENT).await
    }

    /// Sends a line and the position of the stream. An event without data is not shown, but a browser keeps its id, and
    /// reconnects behind it instead of at the beginning.
    async fn send_position(&mut self, line: &str) -> Result<(), End> {
        let cursor = scope(self.app.get()).cursor(self.position.clone()).map_err(|_| End::Closed)?;
        self.send(format!("{line}id: {cursor}\n\n").into()).await
    }

    /// Sends what is new in a segment; false where the segment begins behind the position, so that entries between the
    /// two were missed.
    async fn take(&mut self, segment: &Segment) -> Result<bool, End> {
        if segment.epoch != self.position.epoch {
            return Err(End::Closed);
        }
        if segment.begins || segment.from > self.position.position {
            return Ok(false);
        }
        if segment.to.position > self.position.position {
            for bytes in segment.after(self.position.position, &self.filter) {
                self.send(bytes).await?;
            }
            self.position = FeedPosition::of(&segment.epoch, &segment.to);
        }
        Ok(true)
    }

    /// Reaches the live feed: out of its latest segments, else by reading the ledger up to them. A filter may fit nothing
    /// for long, so heartbeats are sent meanwhile.
    async fn catch_up(&mut self) -> Result<(), CatchUp> {
        loop {
            if let Some(recent) = self.state.feed.recent_after(&self.position) {
                for segment in recent {
                    self.take(&segment).await.map_err(CatchUp::End)?;
                }
                return Ok(());
            }
            let Some(segment) = self.read().await? else { return Ok(()) };
            self.take(&segment).await.map_err(CatchUp::End)?;
            if Instant::now() >= self.heartbeat {
                self.beat().await.map_err(CatchUp::End)?;
            }
        }
    }

    /// The next segment out of the ledger; none where the high watermark is reached that the reader of the feed has found,
    /// whose segments go on from there. No connection is held while a segment is sent.
    async fn read(&self) -> Result<Option<Segment>, CatchUp> {
        let _permit = self.state.feed.read_permit(STREAM_PERMIT_WAIT_MAX).await?;
        in_time(READ_WAIT_MAX, self.read_ledger()).await
    }

    async fn read_ledger(&self) -> Result<Option<Segment>, CatchUp> {
        let mut conn = self.state.feed_connection().await?;
        let epoch = feed::epoch(&mut conn).await?;
        let from = self.position.place();
        if epoch != self.position.epoch || !feed::holds(&mut conn, &from).await? {
            return Err(CatchUp::End(End::Closed));
        }
        let known = self.state.feed.known_high_watermark(&epoch);
        let Some(known) = known.filter(|known| known.position > from.position) else { return Ok(None) };
        // Where the ledger has become shorter meanwhile the reader begins again, and so does this.
        if !feed::holds(&mut conn, &known).await? {
            return Ok(None);
        }
        let (rows, searched) = feed::page(&mut conn, &from, &known, &self.filter, CATCH_UP_ROWS).await?;
        // Partitions may have been exchanged between the statements.
        if from.position < feed::dropped(&mut conn).await?.position {
            return Err(CatchUp::End(End::Closed));
        }
        let full = i64::try_from(rows.len()).is_ok_and(|rows| rows >= CATCH_UP_ROWS);
        let to = rows.last().map(|row| row.place.clone()).filter(|_| full).unwrap_or(searched);
        Ok(Some(Segment::of(&epoch, from.position, to, rows)?))
    }

    async fn send(&mut self, bytes: Bytes) -> Result<(), End> {
        self.sender.send_data(bytes).await.map_err(|_| End::Disconnected)
    }
}

/// Why a follower did not reach the high watermark.
enum CatchUp {
    End(End),
    Failed(ApiError),
}

impl<E: Into<ApiError>> From<E> for CatchUp {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_follower_is_known_to_be_gone_when_its_body_is_dropped_and_not_before() {
        let (mut sender, mut body, gone) = stream_body();
        sender.send_data("retry".into()).await.unwrap();
        assert!(body.frame().await.is_some_and(|frame| frame.is_ok()) && !gone.is_cancelled());
        drop(body);
        assert!(gone.is_cancelled());
    }
}
