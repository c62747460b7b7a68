//! Groups as they are read: `group_states` → [`GroupStateRow`], and one of them by its id.
//!
//! Reads only, on the connection it is given; what a state means is decided by the views of `migrations/0006_views.sql`.
//! Knows nothing of pages, cursors or JSON. `group_list` has the list with its filters.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgConnection;
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, FromRow};
use strum::VariantArray as _;

use crate::callback::ProfileText;
use crate::model::{GroupId, SdkAppId};

/// A group as the views show it.
#[derive(Debug, Clone, FromRow)]
#[expect(missing_docs, reason = "each field is the column of that name, described in migrations/")]
pub struct GroupStateRow {
    pub sdk_app_id: i64,
    pub group_id: String,
    pub status: String,
    #[sqlx(rename = "type")]
    pub group_type: Option<String>,
    pub name: Option<String>,
    pub introduction: Option<String>,
    pub notification: Option<String>,
    pub face_url: Option<String>,
    pub owner: Option<String>,
    pub created_by: Option<String>,
    pub created_at: Option<DateTime<Utc>>,
    pub updated_at: Option<DateTime<Utc>>,
    pub destroyed_at: Option<DateTime<Utc>>,
    pub apply_join_option: Option<String>,
    pub invite_join_option: Option<String>,
    pub mute_all: Option<bool>,
    pub max_member_count: Option<i64>,
    pub has_all_members: bool,
    pub verified_at: Option<DateTime<Utc>>,
    pub members_verified_at: Option<DateTime<Utc>>,
    pub user_defined_fields: Json<BTreeMap<String, String>>,
    pub attributes: Json<BTreeMap<String, String>>,
    /// Present members; only where it was asked for.
    pub member_count: Option<i64>,
}

/// What a group shows beside its columns; for the few rows that were chosen, so that no plan counts for the others.
/// `row` names a row of `group_states`.
pub(super) fn shown(row: &str) -> String {
    let texts: Vec<String> =
        ProfileText::VARIANTS.iter().map(|text| format!("{row}.{}", text.column())).collect();
    format!("{row}.sdk_app_id, {row}.group_id, {row}.status, {}, {}", texts.join(", "), beside_texts(row))
}

fn beside_texts(p: &str) -> String {
    format!(
        "{p}.owner, {p}.created_by, {p}.created_at, {p}.updated_at, {p}.destroyed_at,
    {p}.apply_join_option, {p}.invite_join_option, {p}.mute_all, {p}.max_member_count, {p}.has_all_members,
    (SELECT v.verified_at FROM group_verifications v
      WHERE v.sdk_app_id = {p}.sdk_app_id AND v.group_id = {p}.group_id) AS verified_at,
    (SELECT v.members_verified_at FROM group_verifications v
      WHERE v.sdk_app_id = {p}.sdk_app_id AND v.group_id = {p}.group_id) AS members_verified_at,
    COALESCE((SELECT json_object_agg(f.key, f.value) FROM group_user_defined_fields f
               WHERE f.sdk_app_id = {p}.sdk_app_id AND f.group_id = {p}.group_id
                 AND f.value_stamp >= {p}.fields_from AND f.value IS NOT NULL), '{{}}') AS user_defined_fields,
    COALESCE((SELECT json_object_agg(a.key, a.value) FROM group_attributes a
               WHERE a.sdk_app_id = {p}.sdk_app_id AND a.group_id = {p}.group_id
                 AND a.value_stamp >= {p}.attributes_from AND a.value IS NOT NULL), '{{}}') AS attributes"
    )
}

/// The columns of [`shown`] whose length has no limit but that of a body.
pub(super) const LONG_COLUMNS: [&str; 6] =
    ["name", "introduction", "notification", "face_url", "user_defined_fields", "attributes"];

/// The count names the group by the same parameters, not by `p`: the group's barriers are then read once and not once
/// per member (100,000 members: 60 ms instead of 320).
const FIND: &str = "
    (SELECT count(*) FROM group_member_states c
      WHERE c.sdk_app_id = $1 AND c.group_id = $2 AND c.present) AS member_count
  FROM group_states p WHERE p.sdk_app_id = $1 AND p.group_id = $2";

/// The statement of [`find`], with `$1` for the app and `$2` for the group; for benchmarks.
#[must_use]
pub fn find_statement() -> String {
    format!("SELECT {}, {FIND}", shown("p"))
}

/// What decides whether all members of a group are known.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct GroupOrigin {
    /// Under its present name.
    #[sqlx(rename = "type")]
    pub group_type: Option<String>,
    /// A create or a complete list of members is known of this life.
    pub has_all_members: bool,
}

const ORIGIN: &str = "SELECT type, has_all_members FROM group_states WHERE sdk_app_id = $1 AND group_id = $2";

/// Type of a group, and whether its members were ever known whole; `None`: the group is unknown.
///
/// # Errors
/// Those of the connection and the database.
pub async fn origin(
    connection: &mut PgConnection,
    app: SdkAppId,
    group: &GroupId,
) -> Result<Option<GroupOrigin>, sqlx::Error> {
    sqlx::query_as(ORIGIN).bind(app.get()).bind(group.as_str()).fetch_optional(connection).await
}

/// One group of whatever status, with its exact number of present members.
///
/// # Errors
/// Those of the connection and the database.
pub async fn find(
    connection: &mut PgConnection,
    app: SdkAppId,
    group: &GroupId,
) -> Result<Option<GroupStateRow>, sqlx::Error> {
    sqlx::query_as(AssertSqlSafe(find_statement()))
        .bind(app.get())
        .bind(group.as_str())
        .fetch_optional(connection)
        .await
}
