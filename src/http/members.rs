//! `GET /v1/groups/{group_id}/members` and `GET /v1/users/{user_id}/groups`.
//!
//! Query → filter → rows of `store::members`, or of a fold in `ingest::past` → [`MemberView`] → JSON. Who is present, and
//! with which role, was decided below.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use serde::Serialize;

use super::api::ApiState;
use super::error::ApiError;
use super::groups::{GroupView, unknown_group};
use super::page::{Limit, Listing, Page};
use super::query::{Query, path_id};
use super::time::Time;
use crate::ingest::past::{self, MemberAt, MembersAt, PastError};
use crate::mirror::group_key;
use crate::model::{GroupId, Millis, UserId};
use crate::store::members::{self, MemberFilter, MemberStateRow, UserGroupRow};

/// A membership as a reader sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemberView {
    user_id: String,
    /// `Owner`, `Admin` or `Member`.
    role: String,
    name_card: Option<String>,
    /// `member`, or `left`.
    status: &'static str,
    joined_at: Option<Time>,
    join_type: Option<String>,
    joined_by: Option<String>,
    left_at: Option<Time>,
    exit_type: Option<String>,
    left_by: Option<String>,
}

impl From<MemberStateRow> for MemberView {
    fn from(row: MemberStateRow) -> Self {
        Self {
            user_id: row.user_id,
            role: row.role,
            name_card: row.name_card,
            status: if row.present { "member" } else { "left" },
            joined_at: row.joined_at.map(Time),
            join_type: row.join_type,
            joined_by: row.joined_by,
            left_at: row.left_at.map(Time),
            exit_type: row.exit_type,
            left_by: row.left_by,
        }
    }
}

impl From<MemberAt> for MemberView {
    fn from(member: MemberAt) -> Self {
        let MemberAt { user, state } = member;
        let time = |moment: Millis| Time::of_millis(moment.get());
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
        }
    }
}

/// A membership of a user, with its group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UserGroupView {
    group: GroupView,
    member: MemberView,
}

impl From<UserGroupRow> for UserGroupView {
    fn from(row: UserGroupRow) -> Self {
        Self { group: row.group.into(), member: row.member.into() }
    }
}

/// The parameter `status`: present ones unless something else is asked for.
fn take_present(query: &mut Query) -> Result<Option<bool>, ApiError> {
    let words = [("member", Some(true)), ("left", Some(false)), ("all", None)];
    Ok(query.take_word("status", &words)?.unwrap_or(Some(true)))
}

/// The last id of a page, as the model sees it: what the database would refuse is no place in a list.
fn take_after_id(listing: &Listing, query: &mut Query) -> Result<Option<String>, ApiError> {
    let Some(id) = listing.take_after::<String>(query)? else { return Ok(None) };
    // Group ids and user ids have one and the same rule.
    let id =
        UserId::parse(&id).map_err(|_| ApiError::bad_cursor("This cursor names an id that cannot be."))?;
    Ok(Some(id.as_str().to_owned()))
}

/// `GET /v1/groups/{group_id}/members`, by `user_id`: now, or with `at` as it was at a moment.
///
/// Parameters: `status` (`member`, `left`, `all`), `role` (`Owner`, `Admin`, `Member`), `at` (RFC 3339; status and role are
/// those of that moment), `limit` (50, at most 500), `cursor`, `sdk_app_id`. A moment counts every applied callback whose
/// event time is not later, however late it came; before the first one the list is empty, and a moment that has not
/// come yet shows what is known now.
///
/// # Errors
/// `not_found`, `bad_parameter`, `bad_cursor`, `unavailable`; with `at` also `too_large`, for a group with more history
/// than one read may work through.
pub async fn of_group(
    State(state): State<ApiState>,
    path: Result<Path<String>, PathRejection>,
    RawQuery(raw): RawQuery,
) -> Result<Json<Page<MemberView>>, ApiError> {
    let group = path_id(path, GroupId::parse)?;
    let mut query = Query::parse(raw.as_deref(), &["status", "role", "at", "limit", "cursor", "sdk_app_id"])?;
    let app = query.take_app(state.app)?;
    let filters = query.fingerprint(&[&app.to_string(), group.as_str()]);
    let listing = Listing { name: "members of a group", filters };
    let after = take_after_id(&listing, &mut query)?;
    let limit = Limit::take(&mut query, Limit::MAX)?;
    let roles = ["Owner", "Admin", "Member"].map(|role| (role, role));
    let filter = MemberFilter { present: take_present(&mut query)?, role: query.take_word("role", &roles)? };
    if let Some(moment) = query.take_time("at")? {
        let moment = Millis::new(moment.timestamp_millis());
        let after = after.map(|id| UserId::parse(&id)).transpose().map_err(ApiError::internal)?;
        let limit_rows = limit.items() + 1;
        let wanted = MembersAt { group: group_key(app, group), moment, filter, after, limit: limit_rows };
        let rows = at_moment(&state, wanted).await?;
        return Page::of(rows, limit, &listing, |row| row.user.as_str().to_owned()).map(Json);
    }
    let mut connection = state.connection().await?;
    let rows =
        members::of_group(&mut connection, app, &group, filter, after.as_deref(), limit.rows()).await?;
    let rows = rows.ok_or_else(|| unknown_group(&group))?;
    Page::of(rows, limit, &listing, |row| row.user_id.clone()).map(Json)
}

async fn at_moment(state: &ApiState, wanted: MembersAt) -> Result<Vec<MemberAt>, ApiError> {
    let turn = state.past.fold_turn().await?;
    let group = wanted.group.group.clone();
    let connection = state.connection().await?;
    match past::members(connection, turn, wanted).await {
        Err(PastError::Unknown) => Err(unknown_group(&group)),
        done => Ok(done?),
    }
}

/// `GET /v1/users/{user_id}/groups`, by `group_id`. Nobody keeps a list of users, so one that was never heard of is in
/// no group.
///
/// # Errors
/// `bad_parameter`, `bad_cursor`, `unavailable`.
pub async fn of_user(
    State(state): State<ApiState>,
    path: Result<Path<String>, PathRejection>,
    RawQuery(raw): RawQuery,
) -> Result<Json<Page<UserGroupView>>, ApiError> {
    let user = path_id(path, UserId::parse)?;
    let mut query = Query::parse(raw.as_deref(), &["status", "limit", "cursor", "sdk_app_id"])?;
    let app = query.take_app(state.app)?;
    let filters = query.fingerprint(&[&app.to_string(), user.as_str()]);
    let listing = Listing { name: "groups of a user", filters };
    let after = take_after_id(&listing, &mut query)?;
    let limit = Limit::take(&mut query, Limit::MAX)?;
    let present = take_present(&mut query)?;
    let mut connection = state.connection().await?;
    let rows = members::of_user(&mut connection, app, &user, present, after.as_deref(), limit.rows()).await?;
    Page::of(rows, limit, &listing, |row| row.group.group_id.clone()).map(Json)
}
