//! `GET /v1/groups/{group_id}/history`: what was ever said about a group, newest first.
//!
//! Query → filter → rows of `store::history` → what they say, read by `replay` → [`HistoryView`] → JSON. Bodies are
//! read on a thread of their own: a page may hold some of a mebibyte.

use std::sync::LazyLock;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use strum::VariantArray as _;
use tokio::task::spawn_blocking;
use utoipa::openapi::path::{Parameter, ParameterIn};

use super::errors::ApiError;
use super::groups::unknown_group;
use super::history_view::HistoryView;
use super::openapi::{GroupPath, NotFound, Refused, id, paging, query, text as any_text, time, words};
use super::paging::{Limit, Listing, Page};
use super::query::{Query, path_id};
use super::state::ApiState;
use crate::callback::ReasonCause;
use crate::mirror::{GroupKey, group_key};
use crate::model::{Digest, GroupId, UserId};
use crate::store::history::{self, HistoryFilter, HistoryPage, HistoryRow, Place};

/// How many bytes of bodies one page reads before it ends early, with a cursor: 4 MiB. Thousands of ordinary callbacks;
/// what stays below is the memory of a page, some 30 MB where all bodies name nothing but users.
const PAGE_BODY_BYTES_MAX: i64 = 4 * 1024 * 1024;

/// How many rows one page with `user_id` looks through before it ends early, with a cursor: whom a row names stands in
/// its body alone.
const SEARCHED_ROWS_MAX: usize = 2_000;

const PARAMETERS: [&str; 10] =
    ["outcome", "cause", "command", "user_id", "after", "before", "with", "limit", "cursor", "sdk_app_id"];

/// The values of `outcome`.
const OUTCOMES: [(&str, &str); 3] = [("applied", "applied"), ("partial", "partial"), ("parked", "parked")];

/// The values of `cause`.
static CAUSES: LazyLock<Vec<(&str, &str)>> =
    LazyLock::new(|| ReasonCause::VARIANTS.iter().map(|cause| (cause.label(), cause.label())).collect());

/// The values of `with`.
const EXTRAS: [(&str, bool); 1] = [("body", true)];

/// The parameters, for the document.
struct HistoryParameters;

impl utoipa::IntoParams for HistoryParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let mut parameters = vec![
            query("outcome", words(&OUTCOMES), "With this outcome."),
            query("cause", words(&CAUSES), "Parked or read in part for this cause."),
            query("command", any_text(), "Of this command, as Tencent spells it, whole."),
            query("user_id", id(), "That name this user as member, operator or owner."),
            query("after", time(), "Later than this, by the time of the order."),
            query("before", time(), "Earlier than this, by the time of the order."),
            query("with", words(&EXTRAS), "Adds the body as it came."),
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
    fn of(row: &HistoryRow) -> Self {
        Self { time_ms: row.row.time_ms, digest: URL_SAFE_NO_PAD.encode(&row.row.digest) }
    }

    /// `bad_cursor` where no row can have this place.
    fn place(&self) -> Result<Place, ApiError> {
        let digest =
            URL_SAFE_NO_PAD.decode(&self.digest).ok().filter(|bytes| Digest::from_bytes(bytes).is_some());
        let digest = digest
            .ok_or_else(|| ApiError::bad_cursor("This cursor names a place that no entry can have."))?;
        Ok((self.time_ms, digest))
    }
}

/// A history as it was asked for.
struct HistoryRequest {
    group: GroupKey,
    filter: HistoryFilter,
    user: Option<UserId>,
    listing: Listing,
    limit: Limit,
    with_body: bool,
}

impl HistoryRequest {
    fn parse(group: GroupId, raw: Option<&str>, state: &ApiState) -> Result<Self, ApiError> {
        let mut query = Query::parse(raw, &PARAMETERS)?;
        let app = query.take_app(state.app)?;
        let filters = query.fingerprint(&[&app.to_string(), group.as_str()]);
        let listing = Listing { name: "history of a group", filters };
        let cursor = listing.take_after::<HistoryKey>(&mut query)?.map(|after| after.place()).transpose()?;
        // No digest is empty, so what is behind this has an earlier time.
        let before =
            query.take_time("before")?.map_or((i64::MAX, Vec::new()), |time| (ceiling(time), Vec::new()));
        let filter = HistoryFilter {
            outcome: query.take_word("outcome", &OUTCOMES)?,
            cause: query.take_word("cause", &CAUSES)?,
            command: query.take_free_text("command")?,
            after_ms: query.take_time("after")?.map_or(i64::MIN, |time| time.timestamp_millis()),
            behind: cursor.map_or_else(|| before.clone(), |cursor| cursor.min(before.clone())),
        };
        Ok(Self {
            group: group_key(app, group),
            filter,
            user: query.take_model("user_id", UserId::parse)?,
            listing,
            limit: Limit::take(&mut query, Limit::MAX)?,
            with_body: query.take_word("with", &EXTRAS)?.unwrap_or(false),
        })
    }

    /// The page of the rows that were read. It may be short, or empty, and lead on: what is looked through for one page
    /// is limited too.
    fn page(&self, read: HistoryPage) -> Result<Page<HistoryView>, ApiError> {
        let HistoryPage { rows, mut more } = read;
        let (mut items, mut last) = (Vec::new(), None);
        for row in rows {
            if items.len() == self.limit.items() {
                more = true;
                break;
            }
            let place = HistoryKey::of(&row);
            let view = HistoryView::of(row, self.with_body);
            if self.user.as_ref().is_none_or(|user| view.names(user)) {
                items.push(view);
            }
            last = Some(place);
        }
        let next_cursor = last.filter(|_| more).map(|place| self.listing.cursor(place)).transpose()?;
        Ok(Page { items, next_cursor })
    }
}

/// The first millisecond that is not before a moment.
fn ceiling(time: DateTime<Utc>) -> i64 {
    time.timestamp_millis() + i64::from(!time.timestamp_subsec_nanos().is_multiple_of(1_000_000))
}

/// Ledger entries about a group, in pages, newest first.
///
/// By event time; where a body has none, by time of receipt. A page ends early, with a cursor, after 4 MiB of bodies; with
/// `user_id` after 2,000 entries too, so that it may be empty and lead on.
#[utoipa::path(
    get,
    path = "/v1/groups/{group_id}/history",
    operation_id = "group_history",
    tag = "groups",
    params(GroupPath, HistoryParameters),
    responses((status = 200, description = "A page.", body = Page<HistoryView>), Refused, NotFound)
)]
pub async fn of_group(
    State(state): State<ApiState>,
    path: Result<Path<String>, PathRejection>,
    RawQuery(raw): RawQuery,
) -> Result<Json<Page<HistoryView>>, ApiError> {
    let request = HistoryRequest::parse(path_id(path, GroupId::parse)?, raw.as_deref(), &state)?;
    let permit = state.as_of.page_permit().await?;
    let rows_max = if request.user.is_some() { SEARCHED_ROWS_MAX } else { request.limit.items() };
    let mut connection = state.connection().await?;
    let read = history::page(&mut connection, &request.group, &request.filter, rows_max, PAGE_BODY_BYTES_MAX)
        .await?;
    drop(connection);
    let read = read.ok_or_else(|| unknown_group(&request.group.group))?;
    let page = spawn_blocking(move || {
        let _permit = permit;
        request.page(read)
    });
    page.await.map_err(ApiError::internal)?.map(Json)
}
