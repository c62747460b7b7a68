//! `GET /v1/changes`: the ledger as pages, or as a stream of server-sent events that stays open.
//!
//! A cursor names a place in one ledger. After a restore or a failover it names nothing any more and is answered with
//! 410, never with silence. A follower reads the ledger from its place until it meets the pieces of `feed`, and again
//! whenever it has missed some; it gives every entry once, in order. What a reader sees of an entry is written here
//! only, for pages and for events alike.

use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Response};
use http_body_util::channel::{Channel, Sender};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep_until};
use utoipa::ToSchema;
use utoipa::openapi::path::{Parameter, ParameterIn};

use super::api::ApiState;
use super::error::ApiError;
use super::feed::Piece;
use super::openapi::{Gone, Refused, cursor, header, paging, query, string};
use super::page::{Limit, Listing, Page};
use super::query::Query;
use super::time::Time;
use crate::model::SdkAppId;
use crate::store::changes::{self, ChangeRow};

/// How often a stream without news says that it is alive. Proxies cut what is silent for a minute.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// How many pieces wait for a follower that takes them slowly. One that takes nothing at all is cut by `listen`, and may
/// resume.
const WAITING_MAX: usize = 1;

/// How many entries a follower reads at once while it catches up: some 40 kB, of which one that is slow keeps two, so
/// that as many as may follow keep some hundreds of megabytes at the very worst.
const CATCH_UP_ROWS: i64 = 64;

/// The pause of a follower that could not read the ledger.
const TROUBLE_PAUSE: Duration = Duration::from_secs(1);

/// What a stream is told first: how long to wait before coming back, in ms.
const GREETING: &str = "retry: 1000\n";

/// What a stream without news is told: a comment.
const BEAT: &str = ":\n";

/// An entry of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct ChangeView {
    /// Leads to what comes after this entry.
    cursor: String,
    command: String,
    /// Null where the body does not tell.
    group_id: Option<String>,
    /// As sent; null where the body has none.
    #[schema(value_type = Option<String>, format = DateTime)]
    event_time: Option<Time>,
    /// When it was first received.
    #[schema(value_type = String, format = DateTime)]
    received_at: Time,
    /// `callback` or `rest`.
    source: String,
    /// `applied` or `parked`.
    outcome: String,
}

/// A place in one ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// Which ledger.
    #[serde(rename = "e")]
    pub(super) epoch: String,
    #[serde(rename = "p")]
    pub(super) position: i64,
}

impl Place {
    fn after(&self, position: i64) -> Self {
        Self { epoch: self.epoch.clone(), position }
    }
}

fn listing(app: i64) -> Listing {
    Listing { name: "changes", filters: Query::fingerprint_of(&[&app.to_string()]) }
}

fn view(epoch: &str, row: &ChangeRow) -> Result<ChangeView, ApiError> {
    let place = Place { epoch: epoch.to_owned(), position: row.position };
    Ok(ChangeView {
        cursor: listing(row.sdk_app_id).cursor(place)?,
        command: row.command.clone(),
        group_id: Some(row.group_id.clone()).filter(|group| !group.is_empty()),
        event_time: row.event_time_ms.and_then(Time::of_millis),
        received_at: Time(row.received_at),
        source: row.source.clone(),
        outcome: row.outcome.clone(),
    })
}

/// An entry as a server-sent event; JSON has no line breaks.
pub(super) fn event_text(epoch: &str, row: &ChangeRow) -> Result<Vec<u8>, ApiError> {
    let view = view(epoch, row)?;
    let mut text = format!("id: {}\ndata: ", view.cursor).into_bytes();
    text.extend(serde_json::to_vec(&view).map_err(ApiError::internal)?);
    text.extend(b"\n\n");
    Ok(text)
}

/// Where a reader begins.
#[derive(Debug)]
enum Start {
    /// With the first entry.
    First,
    /// With what comes from now on.
    Now,
    After(Place),
}

#[derive(Debug)]
struct Request {
    app: SdkAppId,
    start: Start,
    limit: Limit,
    stream: bool,
}

impl Request {
    fn parse(raw: Option<&str>, headers: &HeaderMap, configured: SdkAppId) -> Result<Self, ApiError> {
        let mut query = Query::parse(raw, &["since", "cursor", "limit", "sdk_app_id"])?;
        let app = query.take_app(configured)?;
        let limit = Limit::take(&mut query, Limit::MAX)?;
        let since = match (query.take_text("since"), query.take_text("cursor")) {
            (Some(_), Some(_)) => {
                return Err(ApiError::bad_parameter("Parameters since and cursor mean the same; send one."));
            }
            (since, cursor) => since.or(cursor),
        };
        let stream = accepts_events(headers);
        // A browser that comes back repeats the address it was given and says in the header where it was.
        let resumed = headers.get("last-event-id").filter(|_| stream);
        let resumed = resumed.map(|id| id.to_str().unwrap_or("?").to_owned()).filter(|id| !id.is_empty());
        let start = match resumed.or(since).as_deref() {
            None => Start::First,
            Some("now") => Start::Now,
            Some(cursor) => Start::After(listing(app.get()).read(cursor)?),
        };
        Ok(Self { app, start, limit, stream })
    }
}

/// The parameters, for the document.
struct Parameters;

impl utoipa::IntoParams for Parameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let mut parameters = vec![
            query("since", cursor(), "A cursor, or `now` for what comes from now on; none: from the start."),
            header(
                "Last-Event-ID",
                string(),
                "Where a stream goes on, instead of `since`; sent by browsers.",
            ),
        ];
        parameters.extend(paging());
        parameters
    }
}

fn accepts_events(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|kind| {
        kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/event-stream"))
    })
}

/// Entries of the ledger in the order in which they were written down.
///
/// Each comes once; one that changes (it is applied after it was parked, or an earlier receipt of it turns up) comes
/// again. With `Accept: text/event-stream` it stays open: the data of an event is one entry, its id the cursor.
#[utoipa::path(
    get,
    path = "/v1/changes",
    operation_id = "changes",
    tag = "changes",
    params(Parameters),
    responses(
        (status = 200, description = "A page, or a stream.",
         content((Page<ChangeView> = "application/json"), (String = "text/event-stream"))),
        Refused,
        Gone,
    )
)]
pub async fn changes(
    State(state): State<ApiState>,
    headers: HeaderMap,
    RawQuery(raw): RawQuery,
) -> Result<Response, ApiError> {
    let Request { app, start, limit, stream } = Request::parse(raw.as_deref(), &headers, state.app)?;
    let turn = state.feed.turn().await?;
    let mut conn = state.connection().await?;
    let epoch = changes::epoch(&mut conn).await?;
    let last = changes::last(&mut conn).await?;
    let place = match start {
        Start::First => Place { epoch, position: 0 },
        Start::After(place) if place.epoch == epoch && place.position <= last => place,
        Start::After(_) => return Err(gone()),
        Start::Now => {
            let head = state.feed.head(&mut conn, &epoch).await?.ok_or_else(still_writing)?;
            let now = Place { epoch, position: head };
            if !stream {
                let next_cursor = Some(listing(app.get()).cursor(now)?);
                return Ok(Json(Page::<ChangeView> { items: Vec::new(), next_cursor }).into_response());
            }
            now
        }
    };
    if stream {
        drop((conn, turn));
        return follow(state, app, place);
    }
    let head = state.feed.head(&mut conn, &place.epoch).await?.ok_or_else(still_writing)?;
    let (rows, looked) = changes::page(&mut conn, (place.position, head), Some(app), limit.rows()).await?;
    let views = rows.iter().map(|row| view(&place.epoch, row)).collect::<Result<Vec<_>, _>>()?;
    let positions: Vec<i64> = rows.iter().map(|row| row.position).collect();
    let next = limit.last_of(&positions).copied().or_else(|| (looked < head).then_some(looked));
    let next = next.map(|last| listing(app.get()).cursor(place.after(last)));
    let items = views.into_iter().take(limit.items()).collect();
    Ok(Json(Page::<ChangeView> { items, next_cursor: next.transpose()? }).into_response())
}

fn still_writing() -> ApiError {
    ApiError::unavailable("Somebody is writing for longer than this waits; try again.")
}

fn gone() -> ApiError {
    ApiError::gone(
        "This cursor points into a ledger that is not here any more: the database was restored, upgraded or failed \
         over. Read the lists again, then follow from since=now, or from the start without since.",
    )
}

fn follow(state: ApiState, app: SdkAppId, place: Place) -> Result<Response, ApiError> {
    let permit = state.feed.followers().clone().try_acquire_owned();
    let permit = permit.map_err(|_| ApiError::unavailable("Too many follow already; try again later."))?;
    let (sender, body) = Channel::<Bytes>::new(WAITING_MAX);
    tokio::spawn(async move {
        let mut follower = Follower { state, app, place, sender };
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
    place: Place,
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
        self.tell_place(GREETING).await?;
        // Before the ledger is read, so that nothing falls between.
        let mut pieces = self.state.feed.pieces();
        let mut behind = true;
        let mut beat = Instant::now() + HEARTBEAT;
        loop {
            if behind {
                match self.catch_up().await {
                    Ok(()) => behind = false,
                    Err(CatchUp::End(end)) => return Err(end),
                    Err(CatchUp::Trouble(error)) => {
                        tracing::debug!(%error, "a follower cannot catch up");
                        beat = beat.min(Instant::now() + TROUBLE_PAUSE);
                    }
                }
            }
            tokio::select! {
                piece = pieces.recv(), if !behind => match piece {
                    Ok(piece) => behind = !self.take(&piece).await?,
                    Err(RecvError::Lagged(_)) => behind = true,
                    Err(RecvError::Closed) => return Err(End::Closed),
                },
                () = sleep_until(beat) => {
                    self.tell_place(BEAT).await?;
                    beat = Instant::now() + HEARTBEAT;
                }
            }
        }
    }

    /// Sends a line and where the stream is. An event without data is none, but a browser remembers its id, and comes
    /// back with that instead of where it began.
    async fn tell_place(&mut self, line: &str) -> Result<(), End> {
        let cursor = listing(self.app.get()).cursor(self.place.clone()).map_err(|_| End::Closed)?;
        self.send(format!("{line}id: {cursor}\n\n").into()).await
    }

    /// Sends what is new in a piece; false where something between was missed.
    async fn take(&mut self, piece: &Piece) -> Result<bool, End> {
        if piece.epoch != self.place.epoch {
            return Err(End::Closed);
        }
        if piece.from > self.place.position {
            return Ok(false);
        }
        if piece.to > self.place.position {
            for bytes in piece.after(self.place.position, self.app) {
                self.send(bytes).await?;
            }
            self.place.position = piece.to;
        }
        Ok(true)
    }

    /// Reads the ledger from the place up to its end of now.
    async fn catch_up(&mut self) -> Result<(), CatchUp> {
        loop {
            let (piece, end) = self.read().await?;
            self.take(&piece).await.map_err(CatchUp::End)?;
            if end {
                return Ok(());
            }
        }
    }

    /// The next piece, and whether it is the last for now. No connection is held while it is sent.
    async fn read(&self) -> Result<(Piece, bool), CatchUp> {
        let _turn = self.state.feed.turn().await?;
        let mut conn = self.state.connection().await?;
        let epoch = changes::epoch(&mut conn).await?;
        let from = self.place.position;
        let last = changes::last(&mut conn).await?;
        if epoch != self.place.epoch || from > last {
            return Err(CatchUp::End(End::Closed));
        }
        // Nobody has to wait for writers while there is more to read below.
        let known = self.state.feed.known_head(&epoch).filter(|known| (from + 1..=last).contains(known));
        let head = match known {
            Some(known) => known,
            None => self.state.feed.head(&mut conn, &epoch).await?.ok_or_else(still_writing)?,
        };
        let (rows, looked) = changes::page(&mut conn, (from, head), Some(self.app), CATCH_UP_ROWS).await?;
        let full = i64::try_from(rows.len()) == Ok(CATCH_UP_ROWS);
        let to = rows.last().map(|row| row.position).filter(|_| full).unwrap_or(looked.max(from));
        let end = known.is_none() && !full && looked == head;
        Ok((Piece::of(&epoch, (from, to), &rows)?, end))
    }

    async fn send(&mut self, bytes: Bytes) -> Result<(), End> {
        self.sender.send_data(bytes).await.map_err(|_| End::Left)
    }
}

/// Why the ledger was not read to its end.
enum CatchUp {
    End(End),
    Trouble(ApiError),
}

impl<E: Into<ApiError>> From<E> for CatchUp {
    fn from(error: E) -> Self {
        Self::Trouble(error.into())
    }
}
