//! `GET /v1/history`: the ledger entries of an app over all groups, newest first; and `GET /v1/users/{user_id}/history`:
//! those that a person is in.
//!
//! Query → filter → rows of `store::app_history` → their bodies, decoded → [`HistoryView`] → JSON. The history of a person,
//! and what an operator has done, are read from the index of people, so that a page of someone with 100,000 entries costs as
//! much as one of someone with 100. Pages are read and decoded under the permits that the history of a group uses.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use strum::VariantArray as _;
use utoipa::openapi::path::{Parameter, ParameterIn};

use super::auth::Caller;
use super::body_pages::{PAGE_BODY_BYTES_MAX, body_page};
use super::errors::ApiError;
use super::history::{EXTRAS, HistoryList, OUTCOMES, ceiling, refuse_pruned, with_body};
use super::history_view::HistoryView;
use super::openapi::{Gone, Refused};
use super::paging::{CursorScope, Limit};
use super::parameters::{UserPath, id, paging, query, text as any_text, time, words};
use super::query::{Query, path_id};
use super::state::ApiState;
use super::timestamp::Timestamp;
use crate::mirror::PersonPart;
use crate::model::{Digest, GroupId, UserId};
use crate::store::ReadConnection;
use crate::store::app_history::{self, AppHistoryFilter, AppHistoryKey, AppHistoryPage, AppHistoryRow};

/// The parameters of both lists.
const SHARED: [&str; 8] = ["outcome", "command", "after", "before", "with", "limit", "cursor", "sdk_app_id"];

/// The values of `source`.
const SOURCES: [(&str, &str); 2] = [("callback", "callback"), ("rest", "rest")];

/// The values of `part`.
fn part_words() -> Vec<(&'static str, PersonPart)> {
    PersonPart::VARIANTS.iter().map(|part| (part.name(), *part)).collect()
}

fn shared_parameters() -> Vec<Parameter> {
    let mut parameters = vec![
        query("outcome", words(&OUTCOMES), "With this outcome."),
        query("command", any_text(), "Of this command, as Tencent spells it, whole."),
        query("after", time(), "Later than this, by the time of the order."),
        query("before", time(), "Earlier than this, by the time of the order."),
        query("with", words(&EXTRAS), "Adds the body as it came; needs a token with `+raw`."),
    ];
    parameters.extend(paging());
    parameters
}

/// The parameters of the history of an app, for the OpenAPI document.
struct AppHistoryParameters;

impl utoipa::IntoParams for AppHistoryParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let mut parameters = shared_parameters();
        parameters.push(query("operator", id(), "Done by this user."));
        parameters.push(query(
            "source",
            words(&SOURCES),
            "From a callback, or from a read of Tencent's REST API.",
        ));
        parameters
    }
}

/// The parameters of the history of a person, for the OpenAPI document.
struct UserHistoryParameters;

impl utoipa::IntoParams for UserHistoryParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let mut parameters = shared_parameters();
        let part = "In which the person did it (`operator`), it happened to the person (`member`), or the person owns the group \
                    by it or owned it until then (`owner`).";
        parameters.push(query("part", words(&part_words()), part));
        parameters
    }
}

/// The key of a cursor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AppCursor {
    time_ms: i64,
    digest: String,
    group_id: String,
}

impl AppCursor {
    fn of(key: AppHistoryKey) -> Self {
        Self { time_ms: key.time_ms, digest: URL_SAFE_NO_PAD.encode(&key.digest), group_id: key.group }
    }

    /// `bad_cursor` for what no entry can have, and what the database would refuse.
    fn checked(self) -> Result<AppHistoryKey, ApiError> {
        let forged = || ApiError::bad_cursor("This cursor names an entry that cannot be.");
        let digest =
            URL_SAFE_NO_PAD.decode(&self.digest).ok().filter(|bytes| Digest::from_bytes(bytes).is_some());
        if !self.group_id.is_empty() {
            GroupId::parse(&self.group_id).map_err(|_| forged())?;
        }
        Ok(AppHistoryKey { time_ms: self.time_ms, digest: digest.ok_or_else(forged)?, group: self.group_id })
    }
}

/// Where a page begins: behind the entry of the cursor, and before a time. No digest is empty, so a key with an empty one
/// lies behind every entry of its millisecond or later, and ahead of every earlier one.
fn start(cursor: Option<AppHistoryKey>, before_ms: i64) -> AppHistoryKey {
    match cursor {
        Some(key) if key.time_ms < before_ms => key,
        _ => AppHistoryKey { time_ms: before_ms, digest: Vec::new(), group: String::new() },
    }
}

/// A parsed request for either list.
struct AppHistoryRequest {
    filter: AppHistoryFilter,
    /// As asked for; the greatest number where it was not.
    before_ms: i64,
    /// It is the history of a person.
    is_of_person: bool,
    scope: CursorScope,
    limit: Limit,
    with_body: bool,
    with_client_ip: bool,
}

impl AppHistoryRequest {
    /// Of a person, or of the app without one.
    fn parse(
        person: Option<UserId>,
        raw: Option<&str>,
        caller: &Caller,
        state: &ApiState,
    ) -> Result<Self, ApiError> {
        let own: &[&str] = if person.is_some() { &["part"] } else { &["operator", "source"] };
        let mut query = Query::parse(raw, &[own, &SHARED].concat())?;
        let app = query.take_app(caller, state.app)?;
        let path = person.as_ref().map_or("", UserId::as_str);
        let list = if person.is_some() { "history of a user" } else { "history of an app" };
        let scope = CursorScope { list, filters: query.fingerprint(&[&app.to_string(), path]) };
        let cursor = scope.take_after::<AppCursor>(&mut query)?.map(AppCursor::checked).transpose()?;
        let before_ms = query.take_time("before")?.map_or(i64::MAX, ceiling);
        let operator = query.take_model("operator", UserId::parse)?;
        let part =
            query.take_word("part", &part_words())?.or(operator.as_ref().map(|_| PersonPart::Operator));
        let is_of_person = person.is_some();
        let filter = AppHistoryFilter {
            app,
            user: person.or(operator),
            part,
            command: query.take_free_text("command")?,
            outcome: query.take_word("outcome", &OUTCOMES)?,
            source: query.take_word("source", &SOURCES)?,
            after_ms: query.take_time("after")?.map_or(i64::MIN, |time| time.timestamp_millis()),
            behind: start(cursor, before_ms),
        };
        let limit = Limit::take(&mut query, Limit::MAX)?;
        let with_body = with_body(&mut query, caller)?;
        Ok(Self {
            filter,
            before_ms,
            is_of_person,
            scope,
            limit,
            with_body,
            with_client_ip: caller.reads_raw(),
        })
    }

    /// The page of the rows that were read. It may be short or empty and still have a `next_cursor`, because its bytes and the
    /// rows that it searches are limited.
    fn page(&self, read: AppHistoryPage) -> Result<HistoryList, ApiError> {
        refuse_pruned((self.filter.after_ms, self.before_ms), read.whole_since)?;
        let whole_since = read.whole_since.and_then(Timestamp::of_millis);
        let next_cursor = read.next.map(AppCursor::of).map(|key| self.scope.cursor(key)).transpose()?;
        let view = |row: AppHistoryRow| {
            let parts = row.parts();
            let mut entry = row.entry;
            entry.client_ip = entry.client_ip.filter(|_| self.with_client_ip);
            let view = HistoryView::of(entry, self.with_body);
            if self.is_of_person { view.with_parts(parts) } else { view }
        };
        let items: Vec<_> = read.rows.into_iter().map(view).collect();
        assert!(items.len() <= self.limit.items(), "a page keeps its limit");
        Ok(HistoryList { items, next_cursor, whole_since })
    }

    async fn read(self, state: &ApiState) -> Result<Json<HistoryList>, ApiError> {
        let (filter, rows_max) = (self.filter.clone(), self.limit.items());
        let read = async move |mut connection: ReadConnection| {
            app_history::page(&mut connection, &filter, rows_max, PAGE_BODY_BYTES_MAX).await
        };
        body_page(state, read, move |read| self.page(read)).await.map(Json)
    }
}

/// Ledger entries of an app over all groups, in pages, newest first.
///
/// The order is by event time; where a body has none, by time of receipt. Entries without a group that can be read are among
/// them. A page ends early, with a `next_cursor`, after 4 MiB of bodies; with any filter but the times after 2,000 entries as
/// well, so that it may be empty.
#[utoipa::path(
    get,
    path = "/v1/history",
    operation_id = "history",
    tag = "changes",
    params(AppHistoryParameters),
    responses((status = 200, description = "A page.", body = HistoryList), Refused, Gone)
)]
pub(super) async fn of_app(
    State(state): State<ApiState>,
    caller: Caller,
    RawQuery(raw): RawQuery,
) -> Result<Json<HistoryList>, ApiError> {
    AppHistoryRequest::parse(None, raw.as_deref(), &caller, &state)?.read(&state).await
}

/// Ledger entries that a person is in, as operator, member or owner, over all groups, in pages, newest first.
///
/// What is parked counts as far as its body names the person. Of answers of Tencent's REST API those count that say something
/// of the person: the owner in a profile, and who is missing in a complete list of members; who is merely listed is not in it.
/// A page ends early, with a `next_cursor`, after 4 MiB of bodies; with `part`, `outcome` or `command` after 2,000 entries as
/// well, so that it may be empty. The mirror has no list of users: an unknown user has an empty page, not 404.
#[utoipa::path(
    get,
    path = "/v1/users/{user_id}/history",
    operation_id = "user_history",
    tag = "users",
    params(UserPath, UserHistoryParameters),
    responses((status = 200, description = "A page.", body = HistoryList), Refused, Gone)
)]
pub(super) async fn of_user(
    State(state): State<ApiState>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    RawQuery(raw): RawQuery,
) -> Result<Json<HistoryList>, ApiError> {
    let user = path_id(path, UserId::parse)?;
    AppHistoryRequest::parse(Some(user), raw.as_deref(), &caller, &state)?.read(&state).await
}
