//! Lookups of one thing by its key: whether an id that was typed is a group's or a person's, and one entry of the ledger.
//!
//! Reads only, on the connection it is given; each answer is one lookup in an index, whatever the size of the mirror.

use sqlx::{FromRow, PgConnection};

use super::history::HistoryRow;
use crate::model::{Digest, SdkAppId};

/// As what an id is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromRow)]
pub struct KnownAs {
    /// A group has it, of whatever status.
    pub group: bool,
    /// A user has it who is or was a member, owns a group, or stands in an entry, as one who acts and is no member does.
    pub user: bool,
}

const KNOWN_AS: &str = "
SELECT EXISTS (SELECT FROM groups WHERE sdk_app_id = $1 AND group_id = $2) AS \"group\",
       EXISTS (SELECT FROM group_members WHERE sdk_app_id = $1 AND user_id = $2 AND NOT has_left)
    OR EXISTS (SELECT FROM group_members WHERE sdk_app_id = $1 AND user_id = $2 AND has_left)
    OR EXISTS (SELECT FROM groups WHERE sdk_app_id = $1 AND owner = $2)
    OR EXISTS (SELECT FROM ledger_people WHERE sdk_app_id = $1 AND user_id = $2) AS \"user\"";

/// As what an id is known in an app.
///
/// # Errors
/// The statement's.
pub async fn known_as(conn: &mut PgConnection, app: SdkAppId, id: &str) -> Result<KnownAs, sqlx::Error> {
    sqlx::query_as(KNOWN_AS).bind(app.get()).bind(id).fetch_one(conn).await
}

const ENTRY: &str = "
SELECT sdk_app_id, group_id, time_ms, digest, command, query_command,
       ledger_request_id(request_id, odd_values) AS request_id,
       round(extract(epoch FROM received_at) * 1000)::bigint AS received_ms, outcome, reason, causes, body,
       event_time_ms, source,
       ledger_client_ip(client_ip, odd_values) AS client_ip, ledger_platform(platform, odd_values) AS platform,
       (SELECT g.name FROM group_names g WHERE g.sdk_app_id = $1 AND g.group_id = $2) AS group_name
  FROM ledger WHERE sdk_app_id = $1 AND group_id = $2 AND time_ms = $3 AND digest = $4";

/// The entry of the ledger with this key; the group is empty where it cannot be read.
///
/// # Errors
/// The statement's.
pub async fn entry(
    conn: &mut PgConnection,
    (app, group): (SdkAppId, &str),
    time_ms: i64,
    digest: &Digest,
) -> Result<Option<HistoryRow>, sqlx::Error> {
    let query = sqlx::query_as(ENTRY).bind(app.get()).bind(group).bind(time_ms);
    query.bind(digest.as_bytes()).fetch_optional(conn).await
}
