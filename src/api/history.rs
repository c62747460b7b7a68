//! `GET /v1/groups/{group_id}/history`: the ledger entries of a group, newest first.
//!
//! Query → filter → rows of `store::history` → their bodies, decoded through `replay` → [`HistoryView`] → JSON. A page
//! searches a limited number of rows, because only few of a large group may match.

use std::sync::LazyLock;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use strum::VariantArray as _;
use utoipa::ToSchema;
use utoipa::openapi::path::{Parameter, ParameterIn};

use super::auth::{Caller, ConfiguredApp};
use super::body_pages::{PAGE_BODY_BYTES_MAX, body_page};
use super::errors::ApiError;
use super::history_view::HistoryView;
use super::openapi::{Gone, NotFound, Refused};
use super::paging::{CursorScope, Limit};
use super::parameters::{GroupPath, id, paging, query, text as any_text, time, words};
use super::query::{Query, path_id};
use super::state::ApiState;
use super::timestamp::Timestamp;
use crate::callback::{ReasonCause, mentions};
use crate::mirror::{GroupKey, group_key};
use crate::model::{Digest, GroupId, UserId};
use crate::store::ReadConnection;
use crate::store::history::{self, HistoryCursorKey, HistoryFilter, HistoryPage, SEARCHED_ROWS_MAX};

const PARAMETERS: [&str; 10] =
    ["outcome", "cause", "command", "user_id", "after", "before", "with", "limit", "cursor", "sdk_app_id"];

/// The values of `outcome`.
pub(super) const OUTCOMES: [(&str, &str); 3] =
    [("applied", "applied"), ("partial", "partial"), ("parked", "parked")];

/// The values of `cause`.
pub(super) static CAUSES: LazyLock<Vec<(&str, &str)>> =
    LazyLock::new(|| ReasonCause::VARIANTS.iter().map(|cause| (cause.label(), cause.label())).collect());

/// The values of `with`.
pub(super) const EXTRAS: [(&str, bool); 1] = [("body", true)];

/// The parameters, for the OpenAPI document.
struct HistoryParameters;

impl utoipa::IntoParams for HistoryParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let mut parameters = vec![
            query("outcome", words(&OUTCOMES), "With this outcome."),
            query("cause", words(&CAUSES), "Parked or read in part for this cause."),
            query("command", any_text(), "Of this command, as Tencent spells it, whole."),
            query(
                "user_id",
                id(),
                "That name this user as member, operator or owner; of what could not be read, as far as the body says so.",
            ),
            query("after", time(), "Later than this, by the time of the order."),
            query("before", time(), "Earlier than this, by the time of the order."),
            query("with", words(&EXTRAS), "Adds the body as it came; needs a token with `+raw`."),
        ];
        parameters.extend(paging());
        parameters
    }
}

/// The key of a cursor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HistoryKey {
    time_ms: i64,
    digest: String,
}

impl HistoryKey {
    fn of((time_ms, digest): &HistoryCursorKey) -> Self {
        Self { time_ms: *time_ms, digest: URL_SAFE_NO_PAD.encode(digest) }
    }

    /// `bad_cursor` for a digest that no row can have.
    fn checked(&self) -> Result<HistoryCursorKey, ApiError> {
        let digest =
            URL_SAFE_NO_PAD.decode(&self.digest).ok().filter(|bytes| Digest::from_bytes(bytes).is_some());
        let digest = digest
            .ok_or_else(|| ApiError::bad_cursor("This cursor names a digest that no entry can have."))?;
        Ok((self.time_ms, digest))
    }
}

/// One page of a history.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HistoryList {
    /// Newest first; at most `limit`.
    pub(super) items: Vec<HistoryView>,
    /// The `cursor` of the next page; null on the last one.
    pub(super) next_cursor: Option<String>,
    /// From when on all entries are there: older ones were pruned, but for those that are not wholly applied or came late. Null:
    /// nothing was pruned.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(super) whole_since: Option<Timestamp>,
}

/// Refuses times before the one from which on history is whole. Without them a page shows what is left.
///
/// # Errors
/// `pruned`.
pub(super) fn refuse_pruned(
    (after_ms, before_ms): (i64, i64),
    whole_since: Option<i64>,
) -> Result<(), ApiError> {
    let Some(since) = whole_since else { return Ok(()) };
    let is_asked = (i64::MIN + 1..since - 1).contains(&after_ms) || before_ms <= since;
    if is_asked { Err(ApiError::pruned(since)) } else { Ok(()) }
}

/// A parsed request for a history.
struct HistoryRequest {
    group: GroupKey,
    filter: HistoryFilter,
    /// As asked for; the greatest number where it was not.
    before_ms: i64,
    user: Option<UserId>,
    scope: CursorScope,
    limit: Limit,
    with_body: bool,
    with_client_ip: bool,
}

impl HistoryRequest {
    fn parse(
        group: GroupId,
        raw: Option<&str>,
        caller: &Caller,
        configured: ConfiguredApp,
    ) -> Result<Self, ApiError> {
        let mut query = Query::parse(raw, &PARAMETERS)?;
        let app = query.take_app(caller, configured)?;
        let filters = query.fingerprint(&[&app.to_string(), group.as_str()]);
        let scope = CursorScope { list: "history of a group", filters };
        let cursor = scope.take_after::<HistoryKey>(&mut query)?.map(|key| key.checked()).transpose()?;
        let before_ms = query.take_time("before")?.map_or(i64::MAX, ceiling);
        let filter = HistoryFilter {
            outcome: query.take_word("outcome", &OUTCOMES)?,
            cause: query.take_word("cause", &CAUSES)?,
            command: query.take_free_text("command")?,
            after_ms: query.take_time("after")?.map_or(i64::MIN, |time| time.timestamp_millis()),
            behind: start(cursor, before_ms),
        };
        Ok(Self {
            group: group_key(app, group),
            filter,
            before_ms,
            user: query.take_model("user_id", UserId::parse)?,
            scope,
            limit: Limit::take(&mut query, Limit::MAX)?,
            with_body: with_body(&mut query, caller)?,
            with_client_ip: caller.reads_raw(),
        })
    }

    /// The page of the rows that were read. It may be short or empty and still have a `next_cursor`, because the rows and
    /// bytes that one page searches are limited as well.
    fn page(&self, read: HistoryPage) -> Result<HistoryList, ApiError> {
        let HistoryPage { rows, mut next, whole_since } = read;
        refuse_pruned((self.filter.after_ms, self.before_ms), whole_since)?;
        let (mut items, mut last) = (Vec::new(), None);
        for mut row in rows {
            if items.len() == self.limit.items() {
                next = last;
                break;
            }
            let key = (row.row.time_ms, row.row.digest.clone());
            row.client_ip = row.client_ip.filter(|_| self.with_client_ip);
            // Of what is parked or skipped there is no event, but the body can say whom it was about.
            let unread = self.user.as_ref().filter(|_| row.row.outcome != "applied");
            let is_mentioned = unread.is_some_and(|user| mentions(&row.row.body, user));
            let view = HistoryView::of(row, self.with_body);
            if is_mentioned || self.user.as_ref().is_none_or(|user| view.names(user)) {
                items.push(view);
            }
            last = Some(key);
        }
        let next_cursor = next.map(|key| self.scope.cursor(HistoryKey::of(&key))).transpose()?;
        assert!(items.len() <= self.limit.items(), "a page keeps its limit");
        Ok(HistoryList { items, next_cursor, whole_since: whole_since.and_then(Timestamp::of_millis) })
    }
}

/// Whether bodies are asked for.
///
/// # Errors
/// `bad_parameter` for another word, `forbidden` for a caller without the right.
pub(super) fn with_body(query: &mut Query, caller: &Caller) -> Result<bool, ApiError> {
    let wanted = query.take_word("with", &EXTRAS)?.unwrap_or(false);
    if wanted && !caller.reads_bodies() {
        return Err(ApiError::forbidden(
            "with=body needs a token with the right to raw bodies: an entry NAME+raw:TOKEN of API_TOKEN.",
        ));
    }
    Ok(wanted)
}

/// Where a page begins: behind the row of the cursor, and before a time. The order is newest first, and no digest is
/// empty, so `(before_ms, empty)` lies behind every row at `before_ms` or later and ahead of every earlier one.
fn start(cursor: Option<HistoryCursorKey>, before_ms: i64) -> HistoryCursorKey {
    match cursor {
        Some((time_ms, digest)) if time_ms < before_ms => (time_ms, digest),
        _ => (before_ms, Vec::new()),
    }
}

/// The first millisecond that is not before a time.
pub(super) fn ceiling(time: DateTime<Utc>) -> i64 {
    time.timestamp_millis() + i64::from(!time.timestamp_subsec_nanos().is_multiple_of(1_000_000))
}

/// Ledger entries about a group, in pages, newest first.
///
/// The order is by event time; where a body has none, by time of receipt. A page ends early, with a `next_cursor`, after
/// 4 MiB of bodies; with `outcome`, `cause`, `command` or `user_id` after 2,000 entries as well, so that it may be empty.
#[utoipa::path(
    get,
    path = "/v1/groups/{group_id}/history",
    operation_id = "group_history",
    tag = "groups",
    params(GroupPath, HistoryParameters),
    responses((status = 200, description = "A page.", body = HistoryList), Refused, NotFound, Gone)
)]
pub(super) async fn of_group(
    State(state): State<ApiState>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    RawQuery(raw): RawQuery,
) -> Result<Json<HistoryList>, ApiError> {
    let request = HistoryRequest::parse(path_id(path, GroupId::parse)?, raw.as_deref(), &caller, state.app)?;
    // Only the body of a row says whom it names.
    let rows_max = if request.user.is_some() { SEARCHED_ROWS_MAX } else { request.limit.items() };
    let (group, filter) = (request.group.clone(), request.filter.clone());
    let read = async move |mut connection: ReadConnection| {
        history::page(&mut connection, &group, &filter, rows_max, PAGE_BODY_BYTES_MAX).await
    };
    let show = move |read: Option<HistoryPage>| {
        request.page(read.ok_or_else(|| ApiError::unknown_group(&request.group.group))?)
    };
    body_page(&state, read, show).await.map(Json)
}
