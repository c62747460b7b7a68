//! `GET /v1/groups/{group_id}/history`: what was ever said about a group, newest first.
//!
//! Query → filter → rows of `store::history` → what they say, made out by `ingest` → [`HistoryView`] → JSON. Bodies are
//! made out on a thread of their own: a page may hold some of a mebibyte.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::task::spawn_blocking;
use utoipa::ToSchema;
use utoipa::openapi::path::{Parameter, ParameterIn};

use super::api::ApiState;
use super::error::ApiError;
use super::groups::unknown_group;
use super::openapi::{GroupPath, NotFound, Refused, id, paging, query, text as any_text, time, words};
use super::page::{Limit, Listing, Page};
use super::query::{Query, path_id};
use super::time::Time;
use crate::callback::{AttributesChange, Event, Profile, Role, What};
use crate::ingest::past;
use crate::mirror::{GroupKey, group_key};
use crate::model::{Digest, FieldKey, GroupId, TopicId, UserId};
use crate::store::history::{self, HistoryFilter, HistoryPage, HistoryRow, Place};

/// How many bytes of bodies one page reads before it ends early, with a cursor: 4 MiB. Thousands of ordinary callbacks;
/// what stays below is the memory of a page, some 30 MB where all bodies name nothing but users.
const PAGE_BODY_BYTES_MAX: i64 = 4 * 1024 * 1024;

/// How many rows one page with `user_id` looks through before it ends early, with a cursor: whom a row names stands in
/// its body alone.
const SEARCHED_ROWS_MAX: usize = 2_000;

const PARAMETERS: [&str; 9] =
    ["outcome", "command", "user_id", "after", "before", "with", "limit", "cursor", "sdk_app_id"];

/// The values of `outcome`.
const OUTCOMES: [(&str, &str); 2] = [("applied", "applied"), ("parked", "parked")];

/// The values of `with`.
const EXTRAS: [(&str, bool); 1] = [("body", true)];

/// The parameters, for the document.
struct Parameters;

impl utoipa::IntoParams for Parameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let mut parameters = vec![
            query("outcome", words(&OUTCOMES), "With this outcome."),
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

/// One entry of the ledger about a group.
///
/// What the body does not tell, or could not be made out, is null or empty.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct HistoryView {
    /// As sent, whether or not it was believed; null where the body has none.
    #[schema(value_type = Option<String>, format = DateTime)]
    event_time: Option<Time>,
    #[schema(value_type = Option<String>, format = DateTime)]
    received_at: Option<Time>,
    command: String,
    /// `callback` or `rest`.
    source: String,
    /// `applied` or `parked`.
    outcome: &'static str,
    /// Why it is parked.
    reason: Option<String>,
    /// Who did it; often an app administrator who is no member.
    operator: Option<String>,
    /// Who joined, left or was changed, or was there from the start beside the owner.
    users: Vec<String>,
    /// `Apply` or `Invited`; free text.
    join_type: Option<String>,
    /// `Quit` or `Kicked`; free text.
    exit_type: Option<String>,
    /// The new role of the one in `users`: `Admin` or `Member`.
    role: Option<&'static str>,
    /// The new name card of the one in `users`.
    name_card: Option<String>,
    /// The owner from then on, of a create or a change of owner.
    owner: Option<String>,
    /// The owner until then.
    previous_owner: Option<String>,
    /// What it says about the profile of the group, or of the topic; null where that is nothing.
    profile: Option<ProfileView>,
    /// What it does to the attributes; null where that is nothing.
    attributes: Option<AttributesView>,
    /// The topics it is about.
    topics: Vec<String>,
    platform: Option<String>,
    client_ip: Option<String>,
    request_id: Option<String>,
    /// With `with=body`: the body, where it is JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Value>)]
    body: Option<Value>,
    /// With `with=body`: the bytes of a body that is no JSON, in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    body_base64: Option<String>,
}

/// The parts of a profile that were named; what is left out was not. Empty is now empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct ProfileView {
    /// The type of the group, under its present name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    r#type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    introduction: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    notification: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    face_url: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    user_defined_fields: BTreeMap<String, String>,
}

impl ProfileView {
    fn of(profile: Profile, group_type: Option<String>) -> Self {
        let fields = profile.user_defined_fields.into_iter();
        Self {
            r#type: group_type,
            name: profile.name,
            introduction: profile.introduction,
            notification: profile.notification,
            face_url: profile.face_url,
            user_defined_fields: fields.map(|(key, value)| (key.as_str().to_owned(), value)).collect(),
        }
    }
}

/// What an entry does to the attributes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct AttributesView {
    /// `set` (these and no others), `modify`, `delete`, `clear`, or `unknown`: the body does not tell.
    change: &'static str,
    /// The new values; null for one that is gone.
    values: BTreeMap<String, Option<String>>,
}

impl From<AttributesChange> for AttributesView {
    fn from(change: AttributesChange) -> Self {
        let given = |pairs: Vec<(FieldKey, String)>| {
            pairs.into_iter().map(|(key, value)| (key.as_str().to_owned(), Some(value))).collect()
        };
        let (change, values) = match change {
            AttributesChange::Set(pairs) => ("set", given(pairs)),
            AttributesChange::Modify(pairs) => ("modify", given(pairs)),
            AttributesChange::Delete(keys) => {
                ("delete", keys.iter().map(|key| (key.as_str().to_owned(), None)).collect())
            }
            AttributesChange::Clear => ("clear", BTreeMap::new()),
            AttributesChange::Unknown => ("unknown", BTreeMap::new()),
        };
        Self { change, values }
    }
}

impl HistoryView {
    fn of(row: HistoryRow, with_body: bool) -> Self {
        let event = past::event(&row.row);
        let mut view = Self {
            event_time: row.event_time_ms.and_then(Time::of_millis),
            received_at: Time::of_millis(row.row.received_ms),
            command: row.row.command,
            source: row.source,
            outcome: if row.row.applied { "applied" } else { "parked" },
            reason: row.reason,
            operator: None,
            users: Vec::new(),
            join_type: None,
            exit_type: None,
            role: None,
            name_card: None,
            owner: None,
            previous_owner: None,
            profile: None,
            attributes: None,
            topics: Vec::new(),
            platform: row.platform,
            client_ip: row.client_ip,
            request_id: row.request_id,
            body: None,
            body_base64: None,
        };
        if let Some(event) = event {
            view.tell(event);
        }
        if with_body {
            view.body = serde_json::from_slice(&row.row.body).ok();
            view.body_base64 = view.body.is_none().then(|| STANDARD.encode(&row.row.body));
        }
        view
    }

    fn tell(&mut self, event: Event) {
        self.operator = text(event.operator);
        match event.what {
            What::GroupCreated { owner, profile, members } => {
                self.owner = text(owner);
                self.users = texts(members);
                self.profile = Some(ProfileView::of(profile, event.group_type));
            }
            What::MembersJoined { how, members } => {
                self.join_type = how;
                self.users = texts(members);
            }
            What::MembersLeft { how, members } => {
                self.exit_type = how;
                self.users = texts(members);
            }
            What::GroupDestroyed => {}
            What::ProfileChanged(profile) => self.profile = Some(ProfileView::of(profile, None)),
            What::MemberChanged { member, role, name_card } => {
                self.users = texts(vec![member]);
                self.role = role.map(Role::as_str);
                self.name_card = name_card;
            }
            What::AttributesChanged(change) => self.attributes = Some(change.into()),
            What::OwnerChanged { old, new } => {
                self.previous_owner = text(old);
                self.owner = text(new);
            }
            What::TopicCreated { topic, profile } => {
                self.topics = topics(&[topic]);
                self.profile = Some(ProfileView::of(profile, None));
            }
            What::TopicsDestroyed(destroyed) => self.topics = topics(&destroyed),
            What::TopicChanged { topic, profile } => {
                self.topics = topics(topic.as_slice());
                self.profile = Some(ProfileView::of(profile, None));
            }
        }
    }

    fn names(&self, user: &UserId) -> bool {
        let one = [&self.operator, &self.owner, &self.previous_owner];
        one.into_iter().flatten().chain(&self.users).any(|named| named == user.as_str())
    }
}

fn text(user: Option<UserId>) -> Option<String> {
    user.map(|user| user.as_str().to_owned())
}

fn texts(users: Vec<UserId>) -> Vec<String> {
    users.into_iter().map(|user| user.as_str().to_owned()).collect()
}

fn topics(topics: &[TopicId]) -> Vec<String> {
    topics.iter().map(|topic| topic.as_str().to_owned()).collect()
}

/// The key of a cursor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct After {
    time_ms: i64,
    digest: String,
}

impl After {
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
        let cursor = listing.take_after::<After>(&mut query)?.map(|after| after.place()).transpose()?;
        // No digest is empty, so what is behind this has an earlier time.
        let before =
            query.take_time("before")?.map_or((i64::MAX, Vec::new()), |time| (ceiling(time), Vec::new()));
        let filter = HistoryFilter {
            outcome: query.take_word("outcome", &OUTCOMES)?,
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
            let place = After::of(&row);
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
    params(GroupPath, Parameters),
    responses((status = 200, description = "A page.", body = Page<HistoryView>), Refused, NotFound)
)]
pub async fn of_group(
    State(state): State<ApiState>,
    path: Result<Path<String>, PathRejection>,
    RawQuery(raw): RawQuery,
) -> Result<Json<Page<HistoryView>>, ApiError> {
    let request = HistoryRequest::parse(path_id(path, GroupId::parse)?, raw.as_deref(), &state)?;
    let turn = state.past.page_turn().await?;
    let rows_max = if request.user.is_some() { SEARCHED_ROWS_MAX } else { request.limit.items() };
    let mut connection = state.connection().await?;
    let read = history::page(&mut connection, &request.group, &request.filter, rows_max, PAGE_BODY_BYTES_MAX)
        .await?;
    drop(connection);
    let read = read.ok_or_else(|| unknown_group(&request.group.group))?;
    let page = spawn_blocking(move || {
        let _turn = turn;
        request.page(read)
    });
    page.await.map_err(ApiError::internal)?.map(Json)
}
