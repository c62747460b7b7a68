//! `GET /v1/groups` and `GET /v1/groups/{group_id}`: the list with its filters, and the lookup.
//!
//! Query → [`GroupFilter`] → rows of `store::group_list` → [`GroupView`] → JSON. The views of the database decide what a status
//! or an owner is; this file decides what a reader may ask for, how it is written, and which figure is not known.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::ObjectBuilder;
use utoipa::openapi::path::{Parameter, ParameterIn};

use super::auth::{Caller, ConfiguredApp};
use super::errors::ApiError;
use super::etag::{IfNoneMatch, tagged};
use super::openapi::{NotFound, Refused};
use super::paging::{CursorScope, Limit, Page};
use super::parameters::{AppOnly, GroupPath, id, keyed, paging, query, text, time, words, words_or_first};
use super::query::{Query, path_id};
use super::state::ApiState;
use super::timestamp::Timestamp;
use crate::callback::present_type_name;
use crate::mirror::{Status, are_members_known};
use crate::model::{FieldKey, GroupId, SdkAppId, UserId};
use crate::store::ReadConnection;
use crate::store::group_list::{self, GroupCursorKey, GroupFilter, GroupOrder};
use crate::store::groups::{self, GroupStateRow};

/// The greatest `limit` with `with=member_count`: each count reads all memberships of its group.
const COUNTED_LIMIT_MAX: u16 = 100;

/// The most `field[KEY]` filters of one request; a group at Tencent has at most ten user-defined fields.
const FIELD_FILTERS_MAX: usize = 10;

const LIST_PARAMETERS: [&str; 15] = [
    "group_id",
    "type",
    "owner",
    "member",
    "name",
    "status",
    "field[KEY]",
    "created_after",
    "created_before",
    "verified_before",
    "sort",
    "limit",
    "cursor",
    "with",
    "sdk_app_id",
];

/// The values of `status`; the first one is the default.
const STATUSES: [(&str, Option<Status>); 4] = [
    ("active", Some(Status::Active)),
    ("destroyed", Some(Status::Destroyed)),
    ("unseen", Some(Status::Unseen)),
    ("all", None),
];

/// The values of `sort`, each with the name of its list; the first one is the default.
const ORDERS: [(&str, (&str, GroupOrder)); 5] = [
    ("-created_at", ("groups by -created_at", GroupOrder::Newest)),
    ("created_at", ("groups by created_at", GroupOrder::Oldest)),
    ("group_id", ("groups by group_id", GroupOrder::Id)),
    ("verified_at", ("groups by verified_at", GroupOrder::VerifiedOldest)),
    ("-verified_at", ("groups by -verified_at", GroupOrder::VerifiedNewest)),
];

/// The values of `with`.
const EXTRAS: [(&str, bool); 1] = [("member_count", true)];

/// The parameters of the list, for the OpenAPI document.
struct GroupsParameters;

impl utoipa::IntoParams for GroupsParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let mut parameters = vec![
            query("group_id", id(), "With this id, for clients that cannot put it into a path."),
            query(
                "type",
                text(),
                "Of this type: Public, Work, Meeting, AVChatRoom, Community, or a newer one.",
            ),
            query("owner", id(), "Owned now by this user."),
            query("member", id(), "With this user as a present member."),
            query("name", text(), "With this part of the name, in any case."),
            query("status", words_or_first(&STATUSES), "With this status."),
            keyed(
                "field",
                FIELD_FILTERS_MAX,
                "`field[KEY]=VALUE`: with this value of a user-defined field; each must match.",
            ),
            query("created_after", time(), "Created later than this."),
            query("created_before", time(), "Created earlier than this."),
            query(
                "verified_before",
                time(),
                "Whose profile was last read as of an earlier time than this, or never.",
            ),
            query("sort", words_or_first(&ORDERS), "The order; missing times last, ties by group_id."),
            query(
                "with",
                words(&EXTRAS),
                "Adds the exact number of present members, where it is known; limit is at most 100 then.",
            ),
        ];
        parameters.extend(paging());
        parameters
    }
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct GroupView {
    sdk_app_id: i64,
    group_id: String,
    /// `active`, `unseen` until a create or a profile is known, or `destroyed`.
    #[schema(schema_with = shown_status)]
    status: String,
    /// Under its present name.
    #[serde(rename = "type")]
    group_type: Option<String>,
    name: Option<String>,
    introduction: Option<String>,
    notification: Option<String>,
    face_url: Option<String>,
    /// The present owner; null where the group has none, or none is known.
    owner: Option<String>,
    created_by: Option<String>,
    /// Present members; in lists only with `with=member_count`. Null where it is not known: a group of which neither a
    /// create nor a complete list of members is known, and an audio-video room whose membership is not mirrored. A
    /// destroyed group has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>, minimum = 0)]
    member_count: Option<Option<i64>>,
    user_defined_fields: BTreeMap<String, String>,
    attributes: BTreeMap<String, String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    created_at: Option<Timestamp>,
    /// Event time of the newest fact about the group, its members included.
    #[schema(value_type = Option<String>, format = DateTime)]
    updated_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    destroyed_at: Option<Timestamp>,
    /// Who may join how, in Tencent's word. No callback reports this and the next three; null where no read said it.
    apply_join_option: Option<String>,
    /// Who may invite, in Tencent's word.
    invite_join_option: Option<String>,
    /// True while all members are muted.
    mute_all: Option<bool>,
    /// How many members the group may have.
    max_member_count: Option<i64>,
    /// As of when the profile was last read from Tencent; null: never. It moves with each read, be it that nothing differs.
    #[schema(value_type = Option<String>, format = DateTime)]
    verified_at: Option<Timestamp>,
    /// As of when the members were last read completely; null: never.
    #[schema(value_type = Option<String>, format = DateTime)]
    members_verified_at: Option<Timestamp>,
}

fn shown_status() -> ObjectBuilder {
    words(&STATUSES[..3]).description(Some("unseen until a create or a profile is known."))
}

impl GroupView {
    /// `avchatroom_members`: whether the membership of audio-video rooms is mirrored. Where not all members are known, the
    /// number of rows would be a wrong answer.
    pub(super) fn of(row: GroupStateRow, avchatroom_members: bool) -> Self {
        let are_known = are_members_known(row.group_type.as_deref(), row.has_all_members, avchatroom_members);
        let is_counted = are_known || row.status == Status::Destroyed.as_str();
        Self {
            sdk_app_id: row.sdk_app_id,
            group_id: row.group_id,
            status: row.status,
            group_type: row.group_type,
            name: row.name,
            introduction: row.introduction,
            notification: row.notification,
            face_url: row.face_url,
            owner: row.owner,
            created_by: row.created_by,
            member_count: row.member_count.map(|count| Some(count).filter(|_| is_counted)),
            user_defined_fields: row.user_defined_fields.0,
            attributes: row.attributes.0,
            created_at: row.created_at.map(Timestamp),
            updated_at: row.updated_at.map(Timestamp),
            destroyed_at: row.destroyed_at.map(Timestamp),
            apply_join_option: row.apply_join_option,
            invite_join_option: row.invite_join_option,
            mute_all: row.mute_all,
            max_member_count: row.max_member_count,
            verified_at: row.verified_at.map(Timestamp),
            members_verified_at: row.members_verified_at.map(Timestamp),
        }
    }
}

/// The key of a group in a cursor.
#[derive(Serialize, Deserialize)]
struct GroupsKey {
    /// The time that the list is in the order of, in Unix milliseconds, which is the precision of every stamp.
    time_ms: Option<i64>,
    group_id: String,
}

impl GroupsKey {
    fn of(row: &GroupStateRow, order: GroupOrder) -> Self {
        let time = match order {
            GroupOrder::VerifiedOldest | GroupOrder::VerifiedNewest => row.verified_at,
            GroupOrder::Newest | GroupOrder::Oldest | GroupOrder::Id => row.created_at,
        };
        Self { time_ms: time.map(|time| time.timestamp_millis()), group_id: row.group_id.clone() }
    }

    /// `bad_cursor` for a time or an id that no row can have, and that the database would refuse.
    fn checked(self) -> Result<GroupCursorKey, ApiError> {
        let forged = || ApiError::bad_cursor("This cursor names a time or an id that no group can have.");
        let group = GroupId::parse(&self.group_id).map_err(|_| forged())?;
        let time = |ms| Timestamp::of_millis(ms).map(|time| time.0).ok_or_else(forged);
        let time = self.time_ms.map(time).transpose()?;
        Ok(GroupCursorKey { time, group_id: group.as_str().to_owned() })
    }
}

/// A parsed request for the list.
struct ListRequest {
    filter: GroupFilter,
    order: GroupOrder,
    scope: CursorScope,
    after: Option<GroupCursorKey>,
    limit: Limit,
    with_member_count: bool,
}

impl ListRequest {
    fn parse(raw: Option<&str>, caller: &Caller, configured: ConfiguredApp) -> Result<Self, ApiError> {
        let mut query = Query::parse(raw, &LIST_PARAMETERS)?;
        let app = query.take_app(caller, configured)?;
        let filters = query.fingerprint(&[&app.to_string()]);
        let (list, order) = query.take_word("sort", &ORDERS)?.unwrap_or(ORDERS[0].1);
        let scope = CursorScope { list, filters };
        let after = scope.take_after::<GroupsKey>(&mut query)?.map(GroupsKey::checked).transpose()?;
        let with_member_count = query.take_word("with", &EXTRAS)?.unwrap_or(false);
        let limit = Limit::take(&mut query, if with_member_count { COUNTED_LIMIT_MAX } else { Limit::MAX })?;
        Ok(Self { filter: filter(&mut query, app)?, order, scope, after, limit, with_member_count })
    }
}

fn filter(query: &mut Query, app: SdkAppId) -> Result<GroupFilter, ApiError> {
    Ok(GroupFilter {
        app,
        group: query.take_model("group_id", GroupId::parse)?,
        // Types are stored under their present names; scripts may still use the old ones.
        group_type: query.take_free_text("type")?.map(|name| present_type_name(&name).to_owned()),
        owner: query.take_model("owner", UserId::parse)?,
        member: query.take_model("member", UserId::parse)?,
        name_part: query.take_free_text("name")?,
        status: query.take_word("status", &STATUSES)?.unwrap_or(STATUSES[0].1),
        user_defined_fields: query.take_keyed("field", FIELD_FILTERS_MAX, FieldKey::parse)?,
        created_after: query.take_time("created_after")?,
        created_before: query.take_time("created_before")?,
        verified_before: query.take_time("verified_before")?,
    })
}

/// Groups, in pages.
///
/// All filters must match; `created_after`, `created_before` and `verified_before` exclude the time itself, and a group that
/// was never verified is before any time. Lists by `name` search all groups and run one after the other; those by `owner`,
/// `member`, `type` and fields, by times in another order than that of these times, in the order of verification, and with
/// counts a few at a time. What waits longer than 5 s is answered with 503.
#[utoipa::path(
    get,
    path = "/v1/groups",
    operation_id = "groups",
    tag = "groups",
    params(GroupsParameters),
    responses((status = 200, description = "A page.", body = Page<GroupView>), Refused)
)]
pub(super) async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    RawQuery(raw): RawQuery,
) -> Result<Json<Page<GroupView>>, ApiError> {
    let page = listed(&state, &caller, raw.as_deref()).await?;
    let view = |row| GroupView::of(row, state.avchatroom_members);
    let items = page.items.into_iter().map(view).collect();
    Ok(Json(Page { items, next_cursor: page.next_cursor }))
}

/// The rows of a page of groups, for a page that shows them: the parameters are those of the list.
///
/// # Errors
/// Those of the list.
pub(crate) async fn listed(
    state: &ApiState,
    caller: &Caller,
    raw: Option<&str>,
) -> Result<Page<GroupStateRow>, ApiError> {
    let ListRequest { filter, order, scope, after, limit, with_member_count } =
        ListRequest::parse(raw, caller, state.app)?;
    let cost = filter.cost(order, with_member_count);
    let read = async move |mut connection: ReadConnection| {
        let (after, items) = (after.as_ref(), limit.items());
        group_list::list(&mut connection, &filter, order, after, items, with_member_count).await
    };
    let rows = state.list(cost, read).await?;
    Page::of(rows, &scope, |row| GroupsKey::of(row, order), |row| row)
}

/// One group of any status.
///
/// With its exact `member_count`, where that is known, and an `ETag`.
#[utoipa::path(
    get,
    path = "/v1/groups/{group_id}",
    operation_id = "group",
    tag = "groups",
    params(GroupPath, IfNoneMatch, AppOnly),
    responses(
        (status = 200, description = "The group.", body = GroupView, headers(("ETag", description = "Of this form."))),
        (status = 304, description = "The caller has the newest form."),
        Refused,
        NotFound,
    )
)]
pub(super) async fn find(
    State(state): State<ApiState>,
    caller: Caller,
    headers: HeaderMap,
    path: Result<Path<String>, PathRejection>,
    RawQuery(raw): RawQuery,
) -> Result<Response, ApiError> {
    let group = path_id(path, GroupId::parse)?;
    let app = Query::parse(raw.as_deref(), &["sdk_app_id"])?.take_app(&caller, state.app)?;
    let mut connection = state.lookup_connection().await?;
    let row = groups::find(&mut connection, app, &group).await?;
    let row = row.ok_or_else(|| ApiError::unknown_group(&group))?;
    tagged(&headers, &GroupView::of(row, state.avchatroom_members))
}
