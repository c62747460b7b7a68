//! `GET /v1/groups` and `GET /v1/groups/{group_id}`: the list with its filters, and the lookup.
//!
//! Query → [`GroupFilter`] → rows of `store::group_list`, or with `at` a fold of `replay` → [`GroupView`] → JSON. The views
//! of the database and their twin in `mirror` decide what a status or an owner is; this file decides what a reader may ask
//! for.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::openapi::path::{Parameter, ParameterIn};

use super::auth::{Caller, ConfiguredApp};
use super::errors::ApiError;
use super::etag::{IfNoneMatch, tagged};
use super::group_view::{GROUP_STATUSES, GroupView};
use super::moments::{fold_of, moment_of, not_yet};
use super::openapi::{Gone, NotFound, Refused, TooLarge};
use super::paging::{CursorScope, Limit, Page};
use super::parameters::{
    GroupPath, app, id, keyed, paging, query, repeated, text, time, words, words_or_first,
};
use super::query::{Query, path_id};
use super::state::ApiState;
use super::timestamp::Timestamp;
use crate::callback::present_type_name;
use crate::model::{FieldKey, GroupId, SdkAppId, UserId};
use crate::store::group_list::{self, GroupCursorKey, GroupFilter, GroupOrder};
use crate::store::groups::{self, GroupStateRow};
use crate::store::{READ_WAIT_MAX, ReadConnection, in_time};

/// The greatest `limit` with `with=member_count`: each count reads all memberships of its group.
const COUNTED_LIMIT_MAX: u16 = 100;

/// The most `field[KEY]` filters of one request; a group at Tencent has at most ten user-defined fields.
const FIELD_FILTERS_MAX: usize = 10;

/// How often `group_id` may be repeated.
const GROUPS_MAX: usize = 200;

/// How often `type` may be repeated.
const TYPES_MAX: usize = 20;

/// The parameters that may be repeated.
const REPEATABLE: [&str; 2] = ["group_id", "type"];

const LIST_PARAMETERS: [&str; 17] = [
    "group_id",
    "type",
    "owner",
    "member",
    "name",
    "prefix",
    "status",
    "field[KEY]",
    "created_after",
    "created_before",
    "updated_after",
    "verified_before",
    "sort",
    "limit",
    "cursor",
    "with",
    "sdk_app_id",
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
            repeated(
                "group_id",
                id(),
                GROUPS_MAX,
                "With one of these ids; one that is not known, or has another status, is not in the list.",
            ),
            repeated(
                "type",
                text(),
                TYPES_MAX,
                "Of one of these types: Public, Work, Meeting, AVChatRoom, Community, or a newer one.",
            ),
            query("owner", id(), "Owned now by this user."),
            query("member", id(), "With this user as a present member."),
            query("name", text(), "With this part of the name, in any case."),
            query("prefix", text(), "With a name that begins so, in any case."),
            query("status", words_or_first(&GROUP_STATUSES), "With this status."),
            keyed(
                "field",
                FIELD_FILTERS_MAX,
                "`field[KEY]=VALUE`: with this value of a user-defined field; each must match.",
            ),
            query("created_after", time(), "Created later than this."),
            query("created_before", time(), "Created earlier than this."),
            query("updated_after", time(), "With a fact of a later event time than this, members included."),
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
        let mut query = Query::parse_repeating(raw, &LIST_PARAMETERS, &REPEATABLE)?;
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
    let types = query.take_free_texts("type", TYPES_MAX)?;
    Ok(GroupFilter {
        app,
        groups: query.take_models("group_id", GROUPS_MAX, GroupId::parse)?,
        // Types are stored under their present names; scripts may still use the old ones.
        group_types: types.iter().map(|name| present_type_name(name).to_owned()).collect(),
        owner: query.take_model("owner", UserId::parse)?,
        member: query.take_model("member", UserId::parse)?,
        name_part: query.take_free_text("name")?,
        name_prefix: query.take_free_text("prefix")?,
        status: query.take_word("status", &GROUP_STATUSES)?.unwrap_or(GROUP_STATUSES[0].1),
        user_defined_fields: query.take_keyed("field", FIELD_FILTERS_MAX, FieldKey::parse)?,
        created_after: query.take_time("created_after")?,
        created_before: query.take_time("created_before")?,
        updated_after: query.take_time("updated_after")?,
        verified_before: query.take_time("verified_before")?,
    })
}

/// Groups, in pages.
///
/// All filters must match; times exclude the time itself, and a group that was never verified is before any time. Lists by
/// `name` search all groups and run one after the other; those by `owner`, `member`, `type`, `prefix`, `updated_after` and
/// fields, by times in another order than that of these times, in the order of verification, and with
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

/// The parameters of one group, for the OpenAPI document.
struct GroupParameters;

impl utoipa::IntoParams for GroupParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![query("at", time(), "The group as of this time; without it: the present one."), app()]
    }
}

/// One group of any status: as it is, or with `at` as it was.
///
/// With its exact `member_count`, where that is known, and an `ETag`. As of a time every applied callback and read counts
/// whose time is not later, however late it arrived; what Tencent does not keep of a group that was dismissed since is there
/// as well. Before the first of them it is 404; a time in the future gives what is known now.
#[utoipa::path(
    get,
    path = "/v1/groups/{group_id}",
    operation_id = "group",
    tag = "groups",
    params(GroupPath, IfNoneMatch, GroupParameters),
    responses(
        (status = 200, description = "The group.", body = GroupView, headers(("ETag", description = "Of this form."))),
        (status = 304, description = "The caller has the newest form."),
        Refused,
        NotFound,
        Gone,
        TooLarge,
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
    let mut query = Query::parse(raw.as_deref(), &["at", "sdk_app_id"])?;
    let app = query.take_app(&caller, state.app)?;
    if let Some(at) = query.take_time("at")? {
        let (wanted, at) = (moment_of(app, group, at), Timestamp(at));
        let fold = fold_of(&state, &wanted, None).await?;
        let view = GroupView::as_of(&wanted, at, &fold.group, state.avchatroom_members)?;
        return tagged(&headers, &view.ok_or_else(|| not_yet(&wanted, at))?);
    }
    let read = async {
        let mut connection = state.lookup_connection().await?;
        Ok::<_, ApiError>(groups::find(&mut connection, app, &group).await?)
    };
    let row = in_time(READ_WAIT_MAX, read).await?.ok_or_else(|| ApiError::unknown_group(&group))?;
    tagged(&headers, &GroupView::of(row, state.avchatroom_members))
}
