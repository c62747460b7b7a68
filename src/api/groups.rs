//! `GET /v1/groups` and `GET /v1/groups/{group_id}`.
//!
//! Query → [`GroupFilter`] → rows of `store::groups` → [`GroupView`] → JSON. What a status or an owner is was decided
//! below; here is only what a reader may ask for and how it is written.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use chrono::DateTime;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::ObjectBuilder;
use utoipa::openapi::path::{Parameter, ParameterIn};

use super::errors::ApiError;
use super::openapi::{
    AppOnly, GroupPath, NotFound, Refused, id, keyed, paging, query, text, time, words, words_or_first,
};
use super::paging::{Limit, Listing, Page};
use super::query::{Query, path_id};
use super::state::ApiState;
use super::timestamp::Timestamp;
use crate::callback::present_type_name;
use crate::mirror::Status;
use crate::model::{FieldKey, GroupId, SdkAppId, UserId};
use crate::store::groups::{self, GroupFilter, GroupOrder, GroupPlace, GroupStateRow};

/// The greatest page with `with=member_count`: each count reads all memberships of its group.
const COUNTED_LIMIT_MAX: u16 = 100;

/// The most `field[KEY]` filters of one request; a group of Tencent has ten user-defined fields.
const FIELD_FILTERS_MAX: usize = 10;

/// The latest moment a cursor may name, in Unix milliseconds: the end of the year 9999.
const CURSOR_MS_MAX: i64 = 253_402_300_799_999;

const LIST_PARAMETERS: [&str; 14] = [
    "group_id",
    "type",
    "owner",
    "member",
    "name",
    "status",
    "field[KEY]",
    "created_after",
    "created_before",
    "sort",
    "limit",
    "cursor",
    "with",
    "sdk_app_id",
];

/// The values of `status`; the first one is what is meant without it.
const STATUSES: [(&str, Option<Status>); 4] = [
    ("active", Some(Status::Active)),
    ("destroyed", Some(Status::Destroyed)),
    ("unseen", Some(Status::Unseen)),
    ("all", None),
];

/// The values of `sort`, each with the name of its list; the first one is what is meant without it.
const ORDERS: [(&str, (&str, GroupOrder)); 3] = [
    ("-created_at", ("groups by -created_at", GroupOrder::Newest)),
    ("created_at", ("groups by created_at", GroupOrder::Oldest)),
    ("group_id", ("groups by group_id", GroupOrder::Id)),
];

/// The values of `with`.
const EXTRAS: [(&str, bool); 1] = [("member_count", true)];

/// The parameters of the list, for the document.
struct GroupsParameters;

impl utoipa::IntoParams for GroupsParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let mut parameters = vec![
            query("group_id", id(), "This group; for ids that a client cannot write into a path."),
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
            query("sort", words_or_first(&ORDERS), "The order; missing times last, ties by group_id."),
            query(
                "with",
                words(&EXTRAS),
                "Adds the exact number of present members; limit is at most 100 then.",
            ),
        ];
        parameters.extend(paging());
        parameters
    }
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct GroupView {
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
    /// The owner of now; null where there is none, or none is known.
    owner: Option<String>,
    created_by: Option<String>,
    /// Present members; in lists only with `with=member_count`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, minimum = 0)]
    member_count: Option<i64>,
    user_defined_fields: BTreeMap<String, String>,
    attributes: BTreeMap<String, String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    created_at: Option<Timestamp>,
    /// Event time of the newest fact about the group, its members included.
    #[schema(value_type = Option<String>, format = DateTime)]
    updated_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    destroyed_at: Option<Timestamp>,
}

fn shown_status() -> ObjectBuilder {
    words(&STATUSES[..3]).description(Some("unseen until a create or a profile is known."))
}

impl From<GroupStateRow> for GroupView {
    fn from(row: GroupStateRow) -> Self {
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
            member_count: row.member_count,
            user_defined_fields: row.user_defined_fields.0,
            attributes: row.attributes.0,
            created_at: row.created_at.map(Timestamp),
            updated_at: row.updated_at.map(Timestamp),
            destroyed_at: row.destroyed_at.map(Timestamp),
        }
    }
}

/// The place of a group in a cursor.
#[derive(Serialize, Deserialize)]
struct GroupsKey {
    /// `created_at` in Unix milliseconds, the precision of every stamp.
    created_ms: Option<i64>,
    group_id: String,
}

impl GroupsKey {
    fn of(row: &GroupStateRow) -> Self {
        let created_ms = row.created_at.map(|time| time.timestamp_millis());
        Self { created_ms, group_id: row.group_id.clone() }
    }

    /// `bad_cursor` where no row can have this place: a time or an id that the database would refuse.
    fn place(self) -> Result<GroupPlace, ApiError> {
        let forged = || ApiError::bad_cursor("This cursor names a place that no group can have.");
        let group = GroupId::parse(&self.group_id).map_err(|_| forged())?;
        let time = |ms| {
            let in_range = (0..=CURSOR_MS_MAX).contains(&ms);
            DateTime::from_timestamp_millis(ms).filter(|_| in_range).ok_or_else(forged)
        };
        let created_at = self.created_ms.map(time).transpose()?;
        Ok(GroupPlace { created_at, group_id: group.as_str().to_owned() })
    }
}

/// A list as it was asked for.
struct ListRequest {
    filter: GroupFilter,
    order: GroupOrder,
    listing: Listing,
    after: Option<GroupPlace>,
    limit: Limit,
    with_member_count: bool,
}

impl ListRequest {
    fn parse(raw: Option<&str>, configured: SdkAppId) -> Result<Self, ApiError> {
        let mut query = Query::parse(raw, &LIST_PARAMETERS)?;
        let app = query.take_app(configured)?;
        let filters = query.fingerprint(&[&app.to_string()]);
        let (name, order) = query.take_word("sort", &ORDERS)?.unwrap_or(ORDERS[0].1);
        let listing = Listing { name, filters };
        let after = listing.take_after::<GroupsKey>(&mut query)?.map(GroupsKey::place).transpose()?;
        let with_member_count = query.take_word("with", &EXTRAS)?.unwrap_or(false);
        let limit = Limit::take(&mut query, if with_member_count { COUNTED_LIMIT_MAX } else { Limit::MAX })?;
        Ok(Self { filter: filter(&mut query, app)?, order, listing, after, limit, with_member_count })
    }
}

fn filter(query: &mut Query, app: SdkAppId) -> Result<GroupFilter, ApiError> {
    Ok(GroupFilter {
        app,
        group: query.take_model("group_id", GroupId::parse)?,
        // Stored under the present names; scripts may still know the old ones.
        group_type: query.take_free_text("type")?.map(|name| present_type_name(&name).to_owned()),
        owner: query.take_model("owner", UserId::parse)?,
        member: query.take_model("member", UserId::parse)?,
        name_part: query.take_free_text("name")?,
        status: query.take_word("status", &STATUSES)?.unwrap_or(STATUSES[0].1),
        user_defined_fields: query.take_keyed("field", FIELD_FILTERS_MAX, FieldKey::parse)?,
        created_after: query.take_time("created_after")?,
        created_before: query.take_time("created_before")?,
    })
}

/// Groups, in pages.
///
/// All filters must match; `created_after` and `created_before` leave out the moment itself.
#[utoipa::path(
    get,
    path = "/v1/groups",
    operation_id = "groups",
    tag = "groups",
    params(GroupsParameters),
    responses((status = 200, description = "A page.", body = Page<GroupView>), Refused)
)]
pub async fn list(
    State(state): State<ApiState>,
    RawQuery(raw): RawQuery,
) -> Result<Json<Page<GroupView>>, ApiError> {
    let ListRequest { filter, order, listing, after, limit, with_member_count } =
        ListRequest::parse(raw.as_deref(), state.app)?;
    let mut connection = state.connection().await?;
    let rows = groups::list(&mut connection, &filter, order, after.as_ref(), limit.rows(), with_member_count)
        .await?;
    Page::of(rows, limit, &listing, GroupsKey::of).map(Json)
}

/// One group of any status.
///
/// With its exact `member_count`.
#[utoipa::path(
    get,
    path = "/v1/groups/{group_id}",
    operation_id = "group",
    tag = "groups",
    params(GroupPath, AppOnly),
    responses((status = 200, description = "The group.", body = GroupView), Refused, NotFound)
)]
pub async fn find(
    State(state): State<ApiState>,
    path: Result<Path<String>, PathRejection>,
    RawQuery(raw): RawQuery,
) -> Result<Json<GroupView>, ApiError> {
    let group = path_id(path, GroupId::parse)?;
    let app = Query::parse(raw.as_deref(), &["sdk_app_id"])?.take_app(state.app)?;
    let mut connection = state.lookup_connection().await?;
    match groups::find(&mut connection, app, &group).await? {
        Some(row) => Ok(Json(row.into())),
        None => Err(unknown_group(&group)),
    }
}

/// 404 for a group that nobody ever heard of.
#[must_use]
pub fn unknown_group(group: &GroupId) -> ApiError {
    ApiError::not_found(format!("No group {:?} was ever heard of.", group.as_str()))
}
