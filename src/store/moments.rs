//! Moments of a group, for a page that goes through its life: the neighbours of a moment in the ledger, and when each value of
//! its fields was written.
//!
//! Reads only, on the connection it is given. Neighbours come from the ends of ranges of the ledger's primary key, so they cost
//! the same for ten entries and for a million. No body is read.

use sqlx::{FromRow, PgConnection};

use super::prune;
use crate::mirror::GroupKey;
use crate::model::Stamp;

/// The moments beside one, in Unix milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromRow)]
pub struct Neighbours {
    /// That of the newest entry before it.
    pub earlier_ms: Option<i64>,
    /// That of the oldest entry after it.
    pub later_ms: Option<i64>,
    /// That of the oldest entry of all; where older ones were pruned, the time from which on history is whole.
    pub first_ms: Option<i64>,
    /// That of the newest entry of all.
    pub last_ms: Option<i64>,
}

const NEIGHBOURS: &str = r"
SELECT (SELECT max(time_ms) FROM ledger WHERE sdk_app_id = $1 AND group_id = $2 AND time_ms < $3 AND time_ms >= $4) AS earlier_ms,
       (SELECT min(time_ms) FROM ledger WHERE sdk_app_id = $1 AND group_id = $2 AND time_ms > $3 AND time_ms >= $4) AS later_ms,
       CASE WHEN EXISTS (SELECT FROM checkpoints WHERE sdk_app_id = $1 AND group_id = $2) THEN $4
            ELSE (SELECT min(time_ms) FROM ledger WHERE sdk_app_id = $1 AND group_id = $2) END AS first_ms,
       (SELECT max(time_ms) FROM ledger WHERE sdk_app_id = $1 AND group_id = $2) AS last_ms";

/// The moments of entries of a group beside one moment, as far as history is whole.
///
/// # Errors
/// Those of the connection and the database.
pub async fn neighbours(
    conn: &mut PgConnection,
    group: &GroupKey,
    at_ms: i64,
) -> Result<Neighbours, sqlx::Error> {
    let whole_since = prune::whole_since(conn).await?.unwrap_or(i64::MIN);
    let query = sqlx::query_as(NEIGHBOURS).bind(group.app.get()).bind(group.group.as_str());
    query.bind(at_ms).bind(whole_since).fetch_one(conn).await
}

/// A value of a field or an attribute, and when it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldValue {
    /// True for an attribute, false for a user-defined field.
    pub is_attribute: bool,
    /// Its key.
    pub key: String,
    /// The first characters of its value.
    pub value: String,
    /// Event time of the callback, or σ of the read, that wrote it; Unix milliseconds.
    pub written_ms: Option<i64>,
}

#[derive(FromRow)]
struct StoredValue {
    is_attribute: bool,
    key: String,
    value: String,
    value_stamp: Vec<u8>,
}

/// How many values are read: Tencent allows a group 26.
const VALUES_MAX: i64 = 200;

/// How many characters of a value are read.
const VALUE_CHARS_MAX: i32 = 1_000;

const VALUES: &str = r"
SELECT v.is_attribute, v.key, left(v.value, $3) AS value, v.value_stamp
  FROM group_states p
 CROSS JOIN LATERAL (
       SELECT false AS is_attribute, f.key, f.value, f.value_stamp FROM group_user_defined_fields f
        WHERE f.sdk_app_id = $1 AND f.group_id = $2 AND f.value_stamp >= p.fields_from AND f.value IS NOT NULL
        UNION ALL
       SELECT true, a.key, a.value, a.value_stamp FROM group_attributes a
        WHERE a.sdk_app_id = $1 AND a.group_id = $2 AND a.value_stamp >= p.attributes_from AND a.value IS NOT NULL) v
 WHERE p.sdk_app_id = $1 AND p.group_id = $2
 ORDER BY v.is_attribute, v.key
 LIMIT $4";

/// The values that a group has now, fields first, by key.
///
/// # Errors
/// Those of the connection and the database.
pub async fn values(conn: &mut PgConnection, group: &GroupKey) -> Result<Vec<FieldValue>, sqlx::Error> {
    let stored: Vec<StoredValue> = sqlx::query_as(VALUES)
        .bind(group.app.get())
        .bind(group.group.as_str())
        .bind(VALUE_CHARS_MAX)
        .bind(VALUES_MAX)
        .fetch_all(conn)
        .await?;
    let value = |row: StoredValue| FieldValue {
        is_attribute: row.is_attribute,
        key: row.key,
        value: row.value,
        written_ms: Stamp::from_bytes(&row.value_stamp).map(|stamp| stamp.time().get()),
    };
    Ok(stored.into_iter().map(value).collect())
}
