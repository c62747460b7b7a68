//! `GET /v1/groups/{group_id}/members` and `GET /v1/users/{user_id}/groups`.
//!
//! Query → filter → rows of `store::members`, or with `at` of a fold of `replay` → [`MemberView`] → JSON. The pure
//! code of `mirror` and its twin, the database's views, decide who is present and with which role.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::ObjectBuilder;
use utoipa::openapi::path::{Parameter, ParameterIn};

use super::auth::Caller;
use super::errors::ApiError;
use super::group_view::GroupView;
use super::moments::{fold_of, moment_of};
use super::openapi::{Gone, NotFound, Refused, TooLarge};
use super::paging::{CursorScope, Limit, Page, items};
use super::parameters::{
    GroupPath, UserPath, id, paging, query, repeated, text, time, words, words_or_first,
};
use super::query::{Query, path_id};
use super::state::ApiState;
use super::timestamp::Timestamp;
use crate::mirror::are_members_known;
use crate::model::{GroupId, Millis, UserId};
use crate::replay::as_of::{GroupAsOf, GroupMoment, MemberAsOf};
use crate::store::groups::{self, GroupOrigin};
use crate::store::member_list::{self, MemberFilter, NamePart};
use crate::store::members::{self, MemberStateRow, UserGroupRow};
use crate::store::{READ_WAIT_MAX, ReadConnection, in_time};

/// The values of `status`, which choose by presence; the first one is the default.
const STATUSES: [(&str, Option<bool>); 3] = [("member", Some(true)), ("left", Some(false)), ("all", None)];

const LIST_PARAMETERS: [&str; 10] =
    ["status", "role", "user_id", "q", "joined_after", "left_after", "at", "limit", "cursor", "sdk_app_id"];

/// How often `user_id` may be repeated.
const USERS_MAX: usize = 200;

/// The values of `role`.
const ROLES: [(&str, &str); 3] = [("Owner", "Owner"), ("Admin", "Admin"), ("Member", "Member")];

/// The parameters of the members of a group, for the OpenAPI document.
struct MembersParameters;

impl utoipa::IntoParams for MembersParameters {
    fn into_params(parameter_in: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let mut parameters = <MembershipsParameters as utoipa::IntoParams>::into_params(parameter_in);
        parameters.extend([
            query("role", words(&ROLES), "With this role."),
            repeated(
                "user_id",
                id(),
                USERS_MAX,
                "Of these users; one without a membership is not in the list.",
            ),
            query("q", text(), "With this part of the user id or the name card, in any case."),
            query("joined_after", time(), "That began later than this."),
            query("left_after", time(), "That ended later than this; without status: past memberships."),
            query("at", time(), "The membership as of this time; without it: the present one."),
        ]);
        parameters
    }
}

/// The parameters of the groups of a user, for the OpenAPI document.
struct MembershipsParameters;

impl utoipa::IntoParams for MembershipsParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let mut parameters =
            vec![query("status", words_or_first(&STATUSES), "Present memberships, past ones, or both.")];
        parameters.extend(paging());
        parameters
    }
}

/// A membership.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct MemberView {
    user_id: String,
    /// `Owner`, `Admin` or `Member`.
    #[schema(schema_with = shown_role)]
    role: String,
    name_card: Option<String>,
    /// `member`, or `left`.
    #[schema(schema_with = shown_status)]
    status: &'static str,
    #[schema(value_type = Option<String>, format = DateTime)]
    joined_at: Option<Timestamp>,
    /// How the user joined, in Tencent's word.
    join_type: Option<String>,
    /// The operator of the join.
    joined_by: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    left_at: Option<Timestamp>,
    /// How the user left, in Tencent's word.
    exit_type: Option<String>,
    /// The operator of the exit.
    left_by: Option<String>,
    /// Until when the member is muted, in 2106 without end; a time that is past: no longer. No callback reports this and the
    /// custom fields; null where no list of members said it, and for what has ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    mute_until: Option<Timestamp>,
    /// Custom fields of the member by key; null: none, or not known.
    custom_fields: Option<BTreeMap<String, String>>,
}

/// The custom fields out of their stored form.
fn custom_fields(stored: Option<&str>) -> Option<BTreeMap<String, String>> {
    stored.and_then(|text| serde_json::from_str(text).ok())
}

fn shown_role() -> ObjectBuilder {
    words(&ROLES)
}

fn shown_status() -> ObjectBuilder {
    words(&STATUSES[..2])
}

impl From<MemberStateRow> for MemberView {
    fn from(row: MemberStateRow) -> Self {
        Self {
            user_id: row.user_id,
            role: row.role,
            name_card: row.name_card,
            status: if row.present { "member" } else { "left" },
            joined_at: row.joined_at.map(Timestamp),
            join_type: row.join_type,
            joined_by: row.joined_by,
            left_at: row.left_at.map(Timestamp),
            exit_type: row.exit_type,
            left_by: row.left_by,
            mute_until: row.mute_until.map(Timestamp),
            custom_fields: custom_fields(row.custom_fields.as_deref()),
        }
    }
}

impl From<MemberAsOf> for MemberView {
    fn from(member: MemberAsOf) -> Self {
        let MemberAsOf { user, state } = member;
        let time = |time: Millis| Timestamp::of_millis(time.get());
        let id = |user: UserId| user.as_str().to_owned();
        Self {
            user_id: id(user),
            role: state.role.to_owned(),
            name_card: state.name_card,
            status: if state.present { "member" } else { "left" },
            joined_at: state.joined_at.and_then(time),
            join_type: state.join.how,
            joined_by: state.join.by.map(id),
            left_at: state.left_at.and_then(time),
            exit_type: state.exit.how,
            left_by: state.exit.by.map(id),
            mute_until: state.mute_until.and_then(time),
            custom_fields: custom_fields(state.custom_fields.as_deref()),
        }
    }
}

/// One page of the members of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct MembersPage {
    /// In the order of user ids; at most `limit`.
    #[schema(schema_with = items::<MemberView>)]
    items: Vec<MemberView>,
    /// The `cursor` of the next page; null on the last one.
    next_cursor: Option<String>,
    /// False where there may be members that the mirror does not know: of a group of which neither a create nor a complete
    /// list of members is known, or none as of `at`, and of an audio-video room whose membership is not mirrored.
    complete: bool,
}

/// Whether all members of a group are known.
pub(super) fn is_complete(origin: &GroupOrigin, avchatroom_members: bool) -> bool {
    are_members_known(origin.group_type.as_deref(), origin.has_all_members, avchatroom_members)
}

/// The same as of a moment.
pub(super) fn is_complete_as_of(group: &GroupAsOf, avchatroom_members: bool) -> bool {
    group.state.as_ref().is_some_and(|state| {
        are_members_known(state.group_type.as_deref(), state.has_all_members, avchatroom_members)
    })
}

/// A membership of a user, with its group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct UserGroupView {
    group: GroupView,
    member: MemberView,
}

impl UserGroupView {
    fn of(row: UserGroupRow, avchatroom_members: bool) -> Self {
        Self { group: GroupView::of(row.group, avchatroom_members), member: row.member.into() }
    }
}

fn filter(query: &mut Query) -> Result<MemberFilter, ApiError> {
    let left_after = query.take_time("left_after")?;
    let present = match query.take_word("status", &STATUSES)? {
        Some(present) => present,
        // Who is a member has not left.
        None if left_after.is_some() => Some(false),
        None => STATUSES[0].1,
    };
    Ok(MemberFilter {
        present,
        role: query.take_word("role", &ROLES)?,
        users: query.take_models("user_id", USERS_MAX, UserId::parse)?.into_iter().collect(),
        part: query.take_free_text("q")?.as_deref().map(NamePart::new),
        joined_after: query.take_time("joined_after")?,
        left_after,
    })
}

/// Members of a group, in pages, by user id: the present membership, or with `at` the membership as of that time.
///
/// A membership as of a time counts every applied callback whose event time is not later, however late it arrived.
/// Before the first callback the list is empty; a time in the future gives what is known now. Status and role are those
/// as of the time. The pages of a walk show one state while its fold is kept: for a minute, in the process that made it.
/// With `q`, `joined_after` or `left_after` a page looks through 10,000 memberships at most, so that it may be short or empty
/// and still have a `next_cursor`.
#[utoipa::path(
    get,
    path = "/v1/groups/{group_id}/members",
    operation_id = "group_members",
    tag = "groups",
    params(GroupPath, MembersParameters),
    responses((status = 200, description = "A page.", body = MembersPage), Refused, NotFound, Gone, TooLarge)
)]
pub(super) async fn of_group(
    State(state): State<ApiState>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    RawQuery(raw): RawQuery,
) -> Result<Json<MembersPage>, ApiError> {
    let group = path_id(path, GroupId::parse)?;
    let mut query = Query::parse_repeating(raw.as_deref(), &LIST_PARAMETERS, &["user_id"])?;
    let app = query.take_app(&caller, state.app)?;
    let filters = query.fingerprint(&[&app.to_string(), group.as_str()]);
    let filter = filter(&mut query)?;
    let limit = Limit::take(&mut query, Limit::MAX)?;
    if let Some(at) = query.take_time("at")? {
        let scope = CursorScope { list: "members of a group as of a moment", filters };
        let after = scope.take_after::<FoldKey>(&mut query)?.map(FoldKey::checked).transpose()?;
        let wanted = moment_of(app, group, at);
        return members_as_of(&state, &wanted, &filter, after, limit, &scope).await.map(Json);
    }
    let scope = CursorScope { list: "members of a group", filters };
    let after = scope.take_after_id(&mut query)?;
    let (cost, read_group) = (filter.cost(), group.clone());
    let read = async move |mut connection: ReadConnection| {
        let after = after.as_deref();
        member_list::of_group(&mut connection, app, &read_group, &filter, after, limit.items()).await
    };
    let found = state.list(cost, read).await?;
    let found = found.ok_or_else(|| ApiError::unknown_group(&group))?;
    let next_cursor = found.next.map(|user| scope.cursor(user)).transpose()?;
    let origin = in_time(READ_WAIT_MAX, async {
        let mut connection = state.lookup_connection().await?;
        Ok::<_, ApiError>(groups::origin(&mut connection, app, &group).await?)
    });
    let complete = origin.await?.is_some_and(|origin| is_complete(&origin, state.avchatroom_members));
    let items = found.rows.into_iter().map(MemberView::from).collect();
    Ok(Json(MembersPage { items, next_cursor, complete }))
}

/// The key of a cursor of a list as of a moment.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FoldKey {
    user_id: String,
    /// Names the fold that the walk began with.
    end: i64,
}

impl FoldKey {
    /// `bad_cursor` for an id that no row can have.
    fn checked(self) -> Result<(UserId, i64), ApiError> {
        let user = UserId::parse(&self.user_id)
            .map_err(|_| ApiError::bad_cursor("This cursor names an id that no row can have."))?;
        Ok((user, self.end))
    }
}

async fn members_as_of(
    state: &ApiState,
    wanted: &GroupMoment,
    filter: &MemberFilter,
    after: Option<(UserId, i64)>,
    limit: Limit,
    scope: &CursorScope,
) -> Result<MembersPage, ApiError> {
    let (after, end) = after.unzip();
    let fold = fold_of(state, wanted, end).await?;
    let found = fold.page(filter, after.as_ref(), limit.items());
    let key = |user_id| FoldKey { user_id, end: fold.end };
    let next_cursor = found.next.map(|user| scope.cursor(key(user))).transpose()?;
    let complete = is_complete_as_of(&fold.group, state.avchatroom_members);
    Ok(MembersPage { items: found.rows.into_iter().map(MemberView::from).collect(), next_cursor, complete })
}

/// Memberships of a user, in pages, by group id.
///
/// The mirror has no list of users: an unknown user has an empty page, not 404. A page looks through 10,000 memberships at
/// most, so that one of a user with many past ones may be short or empty and still have a `next_cursor`.
#[utoipa::path(
    get,
    path = "/v1/users/{user_id}/groups",
    operation_id = "user_groups",
    tag = "users",
    params(UserPath, MembershipsParameters),
    responses((status = 200, description = "A page.", body = Page<UserGroupView>), Refused)
)]
pub(super) async fn of_user(
    State(state): State<ApiState>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    RawQuery(raw): RawQuery,
) -> Result<Json<Page<UserGroupView>>, ApiError> {
    let user = path_id(path, UserId::parse)?;
    let mut query = Query::parse(raw.as_deref(), &["status", "limit", "cursor", "sdk_app_id"])?;
    let app = query.take_app(&caller, state.app)?;
    let filters = query.fingerprint(&[&app.to_string(), user.as_str()]);
    let scope = CursorScope { list: "groups of a user", filters };
    let after = scope.take_after_id(&mut query)?;
    let limit = Limit::take(&mut query, Limit::MAX)?;
    let present = query.take_word("status", &STATUSES)?.unwrap_or(STATUSES[0].1);
    let mut connection = state.connection().await?;
    let page =
        members::of_user(&mut connection, app, &user, present, after.as_deref(), limit.items()).await?;
    let items = page.rows.into_iter().map(|row| UserGroupView::of(row, state.avchatroom_members)).collect();
    let next_cursor = page.next.map(|group| scope.cursor(group)).transpose()?;
    Ok(Json(Page { items, next_cursor }))
}
