//! `GET /v1/changes`: the feed as pages, or as a stream of server-sent events that stays open.
//!
//! Both read the ledger up to the high watermark, below which no new position can appear, so that a reader who stops at
//! any cursor misses nothing. Each page ends with a cursor to go on from, the last one too: a feed has no end. A cursor of
//! a ledger that has been replaced is answered with 410, because its positions may belong to other entries now. Filters
//! are no part of a cursor, which names a position whatever was looked for.

use std::time::Duration;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use sqlx::PgConnection;
use tokio::time::{Instant, sleep};
use utoipa::ToSchema;
use utoipa::openapi::path::{Parameter, ParameterIn};

use super::auth::{Caller, ConfiguredApp};
use super::change::{ChangeView, FeedPosition, scope, view};
use super::errors::ApiError;
use super::follower::{STREAM_PERMIT_WAIT_MAX, follow};
use super::history::OUTCOMES;
use super::in_work::accepts_events;
use super::openapi::{Gone, Refused};
use super::paging::Limit;
use super::parameters::{cursor, header, id, paging, query, string, time, words};
use super::query::Query;
use super::state::ApiState;
use crate::model::{GroupId, SdkAppId};
use crate::replay::as_of::PERMIT_WAIT_MAX;
use crate::store::feed::{self, COMMAND_CHARS_MAX, FeedFilter, FeedPlace};
use crate::store::high_watermark;
use crate::store::{READ_WAIT_MAX, in_time};

const PARAMETERS: [&str; 9] =
    ["since", "cursor", "group_id", "command", "outcome", "after", "before", "limit", "sdk_app_id"];

/// How long a stream waits for a database that does not answer, or has not been checked yet, and how often it asks. A
/// browser does not come back after a 503.
const DATABASE_WAIT_MAX: Duration = Duration::from_secs(10);
const DATABASE_PAUSE: Duration = Duration::from_millis(250);

/// One page of the feed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ChangesPage {
    /// In the order of the feed; at most `limit`, and those that share the position of the last one.
    items: Vec<ChangeView>,
    /// Where to go on, as `since` or `cursor`; it is there on every page, an empty one too.
    next_cursor: String,
    /// Whether there may be more now. With a filter a page may be short or empty and still lead on, because a page
    /// searches a limited number of entries.
    more: bool,
}

/// Where reading begins.
#[derive(Debug)]
enum Start {
    /// At the first entry.
    First,
    /// At the high watermark: only what is committed from now on.
    Now,
    /// Behind a cursor.
    After(FeedPosition),
}

#[derive(Debug)]
struct ChangesRequest {
    app: SdkAppId,
    filter: FeedFilter,
    start: Start,
    limit: Limit,
    stream: bool,
}

impl ChangesRequest {
    fn parse(
        raw: Option<&str>,
        headers: &HeaderMap,
        caller: &Caller,
        configured: ConfiguredApp,
    ) -> Result<Self, ApiError> {
        let mut query = Query::parse(raw, &PARAMETERS)?;
        let app = query.take_app(caller, configured)?;
        let limit = Limit::take(&mut query, Limit::MAX)?;
        let filter = FeedFilter {
            app: Some(app),
            group: query.take_model("group_id", GroupId::parse)?,
            command: query.take(
                "command",
                &format!("a text of 1 to {COMMAND_CHARS_MAX} characters"),
                |text| {
                    (!text.is_empty() && text.chars().count() <= COMMAND_CHARS_MAX).then(|| text.to_owned())
                },
            )?,
            outcome: query.take_word("outcome", &OUTCOMES)?.map(str::to_owned),
            after: query.take_time("after")?,
            before: query.take_time("before")?,
        };
        if filter.after.zip(filter.before).is_some_and(|(after, before)| after >= before) {
            return Err(ApiError::bad_parameter("Parameter after must be an earlier time than before."));
        }
        let since = match (query.take_text("since"), query.take_text("cursor")) {
            (Some(_), Some(_)) => {
                return Err(ApiError::bad_parameter(
                    "Parameters since and cursor mean the same; send one of them.",
                ));
            }
            (since, cursor) => since.or(cursor),
        };
        let stream = accepts_events(headers);
        // A browser that reconnects repeats the first address, and names the last event it saw in this header.
        let resumed = headers.get("last-event-id").filter(|_| stream);
        let resumed = resumed.map(|id| id.to_str().unwrap_or("?").to_owned()).filter(|id| !id.is_empty());
        let start = match resumed.or(since).as_deref() {
            None => Start::First,
            Some("now") => Start::Now,
            Some(cursor) => Start::After(FeedPosition::read(app.get(), cursor)?),
        };
        Ok(Self { app, filter, start, limit, stream })
    }
}

/// The parameters, for the OpenAPI document.
struct ChangesParameters;

impl utoipa::IntoParams for ChangesParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let mut parameters = vec![
            query(
                "since",
                cursor(),
                "A cursor, or `now` for entries from now on; without it: from the start.",
            ),
            query("group_id", id(), "About this group."),
            query(
                "command",
                string().min_length(Some(1)).max_length(Some(COMMAND_CHARS_MAX)),
                "Of this command, as Tencent spells it, whole.",
            ),
            query("outcome", words(&OUTCOMES), "With this outcome."),
            query("after", time(), "Received later than this."),
            query(
                "before",
                time(),
                "Received earlier than this. A walk goes on to the end of the ledger all the same, because an entry that waited in a spool stands late in it.",
            ),
            header(
                "Last-Event-ID",
                string(),
                "Where a stream resumes, instead of `since`; browsers send it.",
            ),
        ];
        parameters.extend(paging());
        parameters
    }
}

/// Entries of the ledger in the order of their positions.
///
/// Each entry is sent once, and again after it changed (it was parked and is applied, or an earlier receipt of it
/// arrived). `next_cursor` is where to go on, on the last page too; `more` says whether to do so at once. With
/// `Accept: text/event-stream` the stream stays open: the data of an event is one entry, its id the cursor.
#[utoipa::path(
    get,
    path = "/v1/changes",
    operation_id = "changes",
    tag = "changes",
    params(ChangesParameters),
    responses(
        (status = 200, description = "A page, or a stream.",
         content((ChangesPage = "application/json"), (String = "text/event-stream"))),
        Refused,
        Gone,
    )
)]
pub(super) async fn changes(
    State(state): State<ApiState>,
    caller: Caller,
    headers: HeaderMap,
    RawQuery(raw): RawQuery,
) -> Result<Response, ApiError> {
    let request = ChangesRequest::parse(raw.as_deref(), &headers, &caller, state.app)?;
    if request.stream { stream(state, request).await } else { page(&state, request).await }
}

/// A permit to follow is all that a stream is refused for at once. One that comes back at a place which the live feed has
/// just seen needs no connection, and the others wait for theirs, because those that lost their streams together, by a
/// restart of the service or of the database, come back together.
async fn stream(state: ApiState, request: ChangesRequest) -> Result<Response, ApiError> {
    let permit = state.feed.follower_permit()?;
    let until = Instant::now() + DATABASE_WAIT_MAX;
    let position = loop {
        match begin(&state, &request.start, &request.filter).await {
            Err(error) if error.is_unavailable() && Instant::now() < until => sleep(DATABASE_PAUSE).await,
            begun => break begun?,
        }
    };
    Ok(follow(state, (request.app, request.filter), position, permit))
}

/// Where a stream begins.
async fn begin(state: &ApiState, start: &Start, filter: &FeedFilter) -> Result<FeedPosition, ApiError> {
    if let Start::After(position) = start
        && state.feed.recent_after(position).is_some()
    {
        return Ok(position.clone());
    }
    let _reading = state.feed.read_permit(STREAM_PERMIT_WAIT_MAX).await?;
    in_time(READ_WAIT_MAX, begin_in_ledger(state, start, filter)).await
}

async fn begin_in_ledger(
    state: &ApiState,
    start: &Start,
    filter: &FeedFilter,
) -> Result<FeedPosition, ApiError> {
    let mut conn = state.feed_connection().await?;
    let epoch = feed::epoch(&mut conn).await?;
    let place = match place(&mut conn, &epoch, start, filter).await? {
        Some(place) => place,
        None => state.feed.high_watermark(&mut conn, &epoch).await?.place,
    };
    Ok(FeedPosition::of(&epoch, &place))
}

async fn page(state: &ApiState, request: ChangesRequest) -> Result<Response, ApiError> {
    let _reading = state.feed.read_permit(PERMIT_WAIT_MAX).await?;
    in_time(READ_WAIT_MAX, read_page(state, request)).await
}

async fn read_page(state: &ApiState, request: ChangesRequest) -> Result<Response, ApiError> {
    let ChangesRequest { app, filter, start, limit, .. } = request;
    let mut conn = state.feed_connection().await?;
    let epoch = feed::epoch(&mut conn).await?;
    let after = place(&mut conn, &epoch, &start, &filter).await?;
    let high_watermark = state.feed.high_watermark(&mut conn, &epoch).await?.place;
    let after = after.unwrap_or_else(|| high_watermark.clone());
    let (rows, searched) = feed::page(&mut conn, &after, &high_watermark, &filter, limit.rows()).await?;
    // Partitions may have been exchanged between the statements.
    if after.position < feed::dropped(&mut conn).await?.position {
        return Err(ApiError::pruned_feed());
    }
    let places: Vec<&FeedPlace> = rows.iter().map(|row| &row.place).collect();
    let last = limit.last_of(&places).copied();
    // Entries that share the last position stay together: the next page begins behind it.
    let shown = rows.iter().take_while(|row| last.is_none_or(|last| row.place.position <= last.position));
    let items = shown.map(|row| view(&epoch, row)).collect::<Result<_, _>>()?;
    let next = last.unwrap_or(&searched);
    let next_cursor = scope(app.get()).cursor(FeedPosition::of(&epoch, next))?;
    let more = next.position < high_watermark.position;
    Ok(Json(ChangesPage { items, next_cursor, more }).into_response())
}

/// The place where reading begins; none for the high watermark. A cursor must name an entry that the ledger has.
/// What was received before a time is left out where a mark says up to where that is.
async fn place(
    conn: &mut PgConnection,
    epoch: &str,
    start: &Start,
    filter: &FeedFilter,
) -> Result<Option<FeedPlace>, ApiError> {
    // What is left of older entries stands in the lists, and not behind a cursor: others of its time are missing.
    let dropped = feed::dropped(conn).await?;
    match start {
        Start::First => {
            let marked = match filter.after {
                Some(after) => high_watermark::marked_before(conn, after).await?,
                None => FeedPlace::start(),
            };
            Ok(Some(marked.or_later(&dropped)))
        }
        Start::Now => Ok(None),
        Start::After(position) if position.epoch != epoch => Err(gone()),
        Start::After(position) if position.position < dropped.position => Err(ApiError::pruned_feed()),
        Start::After(position) if !feed::holds(conn, &position.place()).await? => Err(gone()),
        Start::After(position) => Ok(Some(position.place())),
    }
}

fn gone() -> ApiError {
    ApiError::gone(
        "This cursor belongs to a ledger that has been replaced: the database was restored, upgraded or failed over. \
         Read the lists again, then follow from since=now, or from the start without since.",
    )
}
