//! `GET /v1/parked`: the dead letters, and what was applied in part, with or without a group, newest receipt first.
//!
//! Query → filter → rows of `store::parked` → [`HistoryView`] → JSON. A callback whose group cannot be read belongs to no
//! history, so this list is the only read that shows it. It is read and decoded under the permits that histories use.

use axum::Json;
use axum::extract::{RawQuery, State};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::openapi::path::{Parameter, ParameterIn};

use super::auth::Caller;
use super::body_pages::{PAGE_BODY_BYTES_MAX, body_page};
use super::errors::ApiError;
use super::history::{CAUSES, EXTRAS, with_body};
use super::history_view::HistoryView;
use super::openapi::Refused;
use super::paging::{CursorScope, Limit, Page};
use super::parameters::{id, paging, query, text as any_text, time, words};
use super::query::Query;
use super::state::ApiState;
use crate::model::{Digest, GroupId};
use crate::store::ReadConnection;
use crate::store::parked::{self, ParkedCursorKey, ParkedFilter, ParkedPage, ParkedRow};

const PARAMETERS: [&str; 11] = [
    "cause",
    "reason",
    "outcome",
    "command",
    "group_id",
    "after",
    "before",
    "with",
    "limit",
    "cursor",
    "sdk_app_id",
];

/// The values of `outcome`.
const OUTCOMES: [(&str, &str); 2] = [("parked", "parked"), ("partial", "partial")];

/// Behind no entry: later than every time that RFC 3339 can write.
const END_OF_TIME_SECS: i64 = 253_402_300_800;

/// The parameters, for the OpenAPI document.
struct ParkedParameters;

impl utoipa::IntoParams for ParkedParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let mut parameters = vec![
            query("cause", words(&CAUSES), "With this cause among its causes."),
            query("reason", words(&CAUSES), "The same as `cause`; with both, both are among the causes."),
            query("outcome", words(&OUTCOMES), "Only what could not be applied at all, or only in part."),
            query("command", any_text(), "Of this command, as Tencent spells it, whole."),
            query("group_id", id(), "About this group."),
            query("after", time(), "Received later than this."),
            query("before", time(), "Received earlier than this."),
            query("with", words(&EXTRAS), "Adds the body as it came; needs a token with `+raw`."),
        ];
        parameters.extend(paging());
        parameters
    }
}

/// The key of a cursor. The receipt has the precision of the database, microseconds.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ParkedKey {
    received_us: i64,
    digest: String,
    group_id: String,
    time_ms: i64,
}

impl ParkedKey {
    fn of(key: ParkedCursorKey) -> Self {
        Self {
            received_us: key.received_at.timestamp_micros(),
            digest: URL_SAFE_NO_PAD.encode(&key.digest),
            group_id: key.group,
            time_ms: key.time_ms,
        }
    }

    /// `bad_cursor` for what no entry can have, and what the database would refuse.
    fn checked(self) -> Result<ParkedCursorKey, ApiError> {
        let forged = || ApiError::bad_cursor("This cursor names an entry that cannot be.");
        let digest =
            URL_SAFE_NO_PAD.decode(&self.digest).ok().filter(|bytes| Digest::from_bytes(bytes).is_some());
        let received_at = DateTime::from_timestamp_micros(self.received_us)
            .filter(|time| (0..END_OF_TIME_SECS).contains(&time.timestamp()));
        if !self.group_id.is_empty() {
            GroupId::parse(&self.group_id).map_err(|_| forged())?;
        }
        Ok(ParkedCursorKey {
            received_at: received_at.ok_or_else(forged)?,
            digest: digest.ok_or_else(forged)?,
            group: self.group_id,
            time_ms: self.time_ms,
        })
    }
}

/// A parsed request for the list.
struct ParkedRequest {
    filter: ParkedFilter,
    scope: CursorScope,
    limit: Limit,
    with_body: bool,
    with_client_ip: bool,
}

impl ParkedRequest {
    fn parse(raw: Option<&str>, caller: &Caller, state: &ApiState) -> Result<Self, ApiError> {
        let mut query = Query::parse(raw, &PARAMETERS)?;
        let app = query.take_app(caller, state.app)?;
        let scope = CursorScope { list: "parked entries", filters: query.fingerprint(&[&app.to_string()]) };
        let cursor = scope.take_after::<ParkedKey>(&mut query)?.map(ParkedKey::checked).transpose()?;
        let causes = [query.take_word("cause", &CAUSES)?, query.take_word("reason", &CAUSES)?];
        let filter = ParkedFilter {
            app,
            group: query.take_model("group_id", GroupId::parse)?,
            outcome: query.take_word("outcome", &OUTCOMES)?,
            causes: causes.into_iter().flatten().collect(),
            command: query.take_free_text("command")?,
            after: query.take_time("after")?,
            behind: start(cursor, query.take_time("before")?)?,
        };
        let limit = Limit::take(&mut query, Limit::MAX)?;
        let (with_body, with_client_ip) = (with_body(&mut query, caller)?, caller.reads_raw());
        Ok(Self { filter, scope, limit, with_body, with_client_ip })
    }

    /// The page of the rows that were read. It may be short or empty and still have a `next_cursor`, because its bytes and the
    /// rows that it searches are limited.
    fn page(&self, read: ParkedPage) -> Result<Page<HistoryView>, ApiError> {
        let Page { items, next_cursor } = self.rows(read)?;
        let items = items.into_iter().map(|row| HistoryView::of(row.entry, self.with_body)).collect();
        Ok(Page { items, next_cursor })
    }

    /// The same as rows, client addresses where the caller may see them.
    fn rows(&self, read: ParkedPage) -> Result<Page<ParkedRow>, ApiError> {
        let next_cursor = read.next.map(ParkedKey::of).map(|key| self.scope.cursor(key)).transpose()?;
        let mut items = read.rows;
        items.iter_mut().for_each(|row| {
            row.entry.client_ip = row.entry.client_ip.take().filter(|_| self.with_client_ip);
        });
        assert!(items.len() <= self.limit.items(), "a page keeps its limit");
        Ok(Page { items, next_cursor })
    }
}

/// Where a page begins: behind the entry of the cursor, and before a time. No digest is empty, so a key with an empty one
/// lies ahead of every entry that was received earlier, and behind the others.
fn start(
    cursor: Option<ParkedCursorKey>,
    before: Option<DateTime<Utc>>,
) -> Result<ParkedCursorKey, ApiError> {
    let end = DateTime::from_timestamp_secs(END_OF_TIME_SECS);
    let end = end.ok_or_else(|| ApiError::bad_parameter("Parameter before is no time."))?;
    let before = before.unwrap_or(end);
    match cursor {
        Some(key) if key.received_at < before => Ok(key),
        _ => Ok(ParkedCursorKey {
            received_at: before,
            digest: Vec::new(),
            group: String::new(),
            time_ms: i64::MIN,
        }),
    }
}

/// Callbacks that could not be applied, or only in part, in pages, newest receipt first.
///
/// With or without a group: `group_id` is null where it cannot be read. `causes` says why, out of a closed list, and
/// `reason` in words. A page ends early, with a `next_cursor`, after 4 MiB of bodies; with `cause`, `reason`, `outcome`,
/// `command` or `group_id` after 2,000 entries as well, so that it may be empty.
#[utoipa::path(
    get,
    path = "/v1/parked",
    operation_id = "parked",
    tag = "stats",
    params(ParkedParameters),
    responses((status = 200, description = "A page.", body = Page<HistoryView>), Refused)
)]
pub(super) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    RawQuery(raw): RawQuery,
) -> Result<Json<Page<HistoryView>>, ApiError> {
    let request = ParkedRequest::parse(raw.as_deref(), &caller, &state)?;
    page_of(&state, request, ParkedRequest::page).await.map(Json)
}

/// The rows of a page of what is parked or read in part, for a page that shows them: the parameters are those of the list.
///
/// # Errors
/// Those of the list.
pub(crate) async fn listed(
    state: &ApiState,
    caller: &Caller,
    raw: Option<&str>,
) -> Result<Page<ParkedRow>, ApiError> {
    let request = ParkedRequest::parse(raw, caller, state)?;
    page_of(state, request, ParkedRequest::rows).await
}

async fn page_of<T: Send + 'static>(
    state: &ApiState,
    request: ParkedRequest,
    show: fn(&ParkedRequest, ParkedPage) -> Result<Page<T>, ApiError>,
) -> Result<Page<T>, ApiError> {
    let (filter, rows_max) = (request.filter.clone(), request.limit.items());
    let read = async move |mut connection: ReadConnection| {
        parked::page(&mut connection, &filter, rows_max, PAGE_BODY_BYTES_MAX).await
    };
    body_page(state, read, move |read| show(&request, read)).await
}
