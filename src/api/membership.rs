//! `GET /v1/groups/{group_id}/members/{user_id}`: is this person in, since when and how; or since when no more.
//!
//! Query → a row of `store::members`, or with `at` a membership of a fold of `replay` → [`MembershipView`] → JSON. What it
//! says is what the list of members says of the user, under any status.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::path::{Parameter, ParameterIn};

use super::auth::Caller;
use super::errors::ApiError;
use super::etag::{IfNoneMatch, tagged};
use super::members::{MemberView, is_complete, is_complete_as_of};
use super::moments::{fold_of, moment_of};
use super::openapi::{Gone, NotFound, Refused, TooLarge};
use super::parameters::{GroupPath, UserPath, app, query, time};
use super::query::{Query, path_ids};
use super::state::ApiState;
use super::timestamp::Timestamp;
use crate::model::{GroupId, UserId};
use crate::store::members;
use crate::store::{READ_WAIT_MAX, in_time};

/// The parameters, for the OpenAPI document.
struct MembershipParameters;

impl utoipa::IntoParams for MembershipParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![query("at", time(), "The membership as of this time; without it: the present one."), app()]
    }
}

/// The membership of one user in one group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct MembershipView {
    sdk_app_id: i64,
    group_id: String,
    /// The moment as of which everything here is; only where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, format = DateTime)]
    at: Option<Timestamp>,
    /// The newest stay: how it began, and where it is over how it ended.
    #[serde(flatten)]
    member: MemberView,
}

/// `not_found` for a user of whom no fact stated a membership.
fn unknown_member(group: &GroupId, user: &UserId, at: Option<Timestamp>, is_complete: bool) -> ApiError {
    let (group, user) = (group.as_str(), user.as_str());
    let as_of = at.map(|at| format!(" as of {at}")).unwrap_or_default();
    let doubt = if is_complete {
        ""
    } else {
        " Not all members of this group are known, so the user may be one all the same."
    };
    ApiError::not_found(format!("No membership of user {user:?} in group {group:?} is known{as_of}.{doubt}"))
}

/// The membership of one user in one group, of any status: as it is, or with `at` as it was.
///
/// A user who left is found with `status` `left`. 404 where nothing ever stated a membership; the text says whether all
/// members of the group are known.
#[utoipa::path(
    get,
    path = "/v1/groups/{group_id}/members/{user_id}",
    operation_id = "group_member",
    tag = "groups",
    params(GroupPath, UserPath, IfNoneMatch, MembershipParameters),
    responses(
        (status = 200, description = "The membership.", body = MembershipView, headers(("ETag", description = "Of this form."))),
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
    path: Result<Path<(String, String)>, PathRejection>,
    RawQuery(raw): RawQuery,
) -> Result<Response, ApiError> {
    let (group, user) = path_ids(path, GroupId::parse, UserId::parse)?;
    let mut query = Query::parse(raw.as_deref(), &["at", "sdk_app_id"])?;
    let app = query.take_app(&caller, state.app)?;
    let view = |group: &GroupId, at, member| {
        let (sdk_app_id, group_id) = (app.get(), group.as_str().to_owned());
        MembershipView { sdk_app_id, group_id, at, member }
    };
    if let Some(at) = query.take_time("at")? {
        let (wanted, at) = (moment_of(app, group, at), Timestamp(at));
        let fold = fold_of(&state, &wanted, None).await?;
        let group = &wanted.group.group;
        let member = fold.find(&user).cloned().ok_or_else(|| {
            let is_complete = is_complete_as_of(&fold.group, state.avchatroom_members);
            unknown_member(group, &user, Some(at), is_complete)
        })?;
        return tagged(&headers, &view(group, Some(at), member.into()));
    }
    let read = async {
        let mut connection = state.lookup_connection().await?;
        Ok::<_, ApiError>(members::find(&mut connection, app, &group, &user).await?)
    };
    let found = in_time(READ_WAIT_MAX, read).await?.ok_or_else(|| ApiError::unknown_group(&group))?;
    let member = found.member.ok_or_else(|| {
        unknown_member(&group, &user, None, is_complete(&found.origin, state.avchatroom_members))
    })?;
    tagged(&headers, &view(&group, None, member.into()))
}
