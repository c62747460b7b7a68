//! `GET /v1/changes`: the feed as pages, or as a stream of server-sent events that stays open.
//!
//! Both read the ledger up to the high watermark, below which no new position can appear, so that a reader who stops at
//! any cursor misses nothing. A cursor of a ledger that has been replaced is answered with 410, because its positions
//! may belong to other entries now.

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Response};
use utoipa::openapi::path::{Parameter, ParameterIn};

use super::auth::{Caller, ConfiguredApp};
use super::change::{ChangeView, FeedPosition, scope, view};
use super::errors::ApiError;
use super::follower::follow;
use super::live::still_writing;
use super::openapi::{Gone, Refused};
use super::paging::{Limit, Page};
use super::parameters::{cursor, header, paging, query, string};
use super::query::Query;
use super::state::ApiState;
use crate::model::SdkAppId;
use crate::store::feed::{self, FeedPlace};

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
        let mut query = Query::parse(raw, &["since", "cursor", "limit", "sdk_app_id"])?;
        let app = query.take_app(caller, configured)?;
        let limit = Limit::take(&mut query, Limit::MAX)?;
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
            Some(cursor) => Start::After(scope(app.get()).read(cursor)?),
        };
        Ok(Self { app, start, limit, stream })
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

fn accepts_events(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|kind| {
        kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/event-stream"))
    })
}

/// Entries of the ledger in the order of their positions.
///
/// Each entry is sent once, and again after it changed (it was parked and is applied, or an earlier receipt of it
/// arrived). With `Accept: text/event-stream` the stream stays open: the data of an event is one entry, its id the cursor.
#[utoipa::path(
    get,
    path = "/v1/changes",
    operation_id = "changes",
    tag = "changes",
    params(ChangesParameters),
    responses(
        (status = 200, description = "A page, or a stream.",
         content((Page<ChangeView> = "application/json"), (String = "text/event-stream"))),
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
    let ChangesRequest { app, start, limit, stream } =
        ChangesRequest::parse(raw.as_deref(), &headers, &caller, state.app)?;
    let permit = state.feed.permit().await?;
    let mut conn = state.connection().await?;
    let epoch = feed::epoch(&mut conn).await?;
    let position = match start {
        Start::First => FeedPosition::of(&epoch, &FeedPlace::start()),
        Start::After(position) if position.epoch != epoch => return Err(gone()),
        Start::After(position) if !feed::holds(&mut conn, &position.place()).await? => return Err(gone()),
        Start::After(position) => position,
        Start::Now => {
            let high_watermark =
                state.feed.high_watermark(&mut conn, &epoch).await?.ok_or_else(still_writing)?;
            let now = FeedPosition::of(&epoch, &high_watermark);
            if !stream {
                let next_cursor = Some(scope(app.get()).cursor(now)?);
                return Ok(Json(Page::<ChangeView> { items: Vec::new(), next_cursor }).into_response());
            }
            now
        }
    };
    if stream {
        drop((conn, permit));
        return follow(state, app, position);
    }
    let high_watermark =
        state.feed.high_watermark(&mut conn, &position.epoch).await?.ok_or_else(still_writing)?;
    let (rows, looked) =
        feed::page(&mut conn, position.position, &high_watermark, Some(app), limit.rows()).await?;
    let places: Vec<&FeedPlace> = rows.iter().map(|row| &row.place).collect();
    let last = limit.last_of(&places).copied();
    let next = last.or_else(|| (looked.position < high_watermark.position).then_some(&looked));
    let next = next.map(|place| scope(app.get()).cursor(FeedPosition::of(&position.epoch, place)));
    // Entries that share the last position stay together: the next page begins behind it.
    let shown = rows.iter().take_while(|row| last.is_none_or(|last| row.place.position <= last.position));
    let items = shown.map(|row| view(&position.epoch, row)).collect::<Result<_, _>>()?;
    Ok(Json(Page::<ChangeView> { items, next_cursor: next.transpose()? }).into_response())
}

fn gone() -> ApiError {
    ApiError::gone(
        "This cursor belongs to a ledger that has been replaced: the database was restored, upgraded or failed over. \
         Read the lists again, then follow from since=now, or from the start without since.",
    )
}
