//! `GET /v1/groups/{group_id}/topics`: the topics of a community.
//!
//! Query → rows of `store::topics` → [`TopicView`] → JSON. The view of the database decides which topic exists, because
//! topics end by themselves and with their group.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::ObjectBuilder;
use utoipa::openapi::path::{Parameter, ParameterIn};

use super::auth::Caller;
use super::errors::ApiError;
use super::openapi::{NotFound, Refused};
use super::paging::{CursorScope, Limit, Page};
use super::parameters::{GroupPath, paging, query, words, words_or_first};
use super::query::{Query, path_id};
use super::state::ApiState;
use super::timestamp::Timestamp;
use crate::model::GroupId;
use crate::store::topics::{self, TopicStateRow};

/// The values of `status`, which choose by existence; the first one is the default.
const STATUSES: [(&str, Option<bool>); 3] =
    [("active", Some(true)), ("destroyed", Some(false)), ("all", None)];

/// A topic of a community.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct TopicView {
    topic_id: String,
    /// `active`, or `destroyed` by itself or with its group.
    #[schema(schema_with = shown_status)]
    status: &'static str,
    name: Option<String>,
    introduction: Option<String>,
    notification: Option<String>,
    face_url: Option<String>,
    created_by: Option<String>,
    /// Callbacks about topics have no event time; this is the time of receipt.
    #[schema(value_type = Option<String>, format = DateTime)]
    created_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    destroyed_at: Option<Timestamp>,
}

fn shown_status() -> ObjectBuilder {
    words(&STATUSES[..2]).description(Some("destroyed by itself, or with its group."))
}

impl From<TopicStateRow> for TopicView {
    fn from(row: TopicStateRow) -> Self {
        Self {
            topic_id: row.topic_id,
            status: if row.active { "active" } else { "destroyed" },
            name: row.name,
            introduction: row.introduction,
            notification: row.notification,
            face_url: row.face_url,
            created_by: row.created_by,
            created_at: row.created_at.map(Timestamp),
            destroyed_at: row.destroyed_at.map(Timestamp),
        }
    }
}

/// The parameters, for the OpenAPI document.
struct TopicsParameters;

impl utoipa::IntoParams for TopicsParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let mut parameters =
            vec![query("status", words_or_first(&STATUSES), "Present topics, past ones, or both.")];
        parameters.extend(paging());
        parameters
    }
}

/// Topics of a community, in pages, by topic id.
#[utoipa::path(
    get,
    path = "/v1/groups/{group_id}/topics",
    operation_id = "group_topics",
    tag = "groups",
    params(GroupPath, TopicsParameters),
    responses((status = 200, description = "A page.", body = Page<TopicView>), Refused, NotFound)
)]
pub(super) async fn of_group(
    State(state): State<ApiState>,
    caller: Caller,
    path: Result<Path<String>, PathRejection>,
    RawQuery(raw): RawQuery,
) -> Result<Json<Page<TopicView>>, ApiError> {
    let group = path_id(path, GroupId::parse)?;
    let mut query = Query::parse(raw.as_deref(), &["status", "limit", "cursor", "sdk_app_id"])?;
    let app = query.take_app(&caller, state.app)?;
    let filters = query.fingerprint(&[&app.to_string(), group.as_str()]);
    let scope = CursorScope { list: "topics of a group", filters };
    let after = scope.take_after_id(&mut query)?;
    let limit = Limit::take(&mut query, Limit::MAX)?;
    let active = query.take_word("status", &STATUSES)?.unwrap_or(STATUSES[0].1);
    let mut connection = state.connection().await?;
    let rows =
        topics::of_group(&mut connection, app, &group, active, after.as_deref(), limit.items()).await?;
    let rows = rows.ok_or_else(|| ApiError::unknown_group(&group))?;
    Page::of(rows, &scope, |row| row.topic_id.clone(), TopicView::from).map(Json)
}
