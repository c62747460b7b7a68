//! Totals of drift: how much reads of the REST API have changed of what was shown, by class and kind.
//!
//! Counted in the transaction that changes it, so that a total is neither lost nor counted twice, whatever ends the process.
//! A batch adds to its totals last, because every other batch that drifts waits for these rows until it commits.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::mirror::{DriftClass, DriftKind};
use crate::model::{Millis, SdkAppId};

/// How many differences of each class and kind, by app.
pub type DriftCounts = BTreeMap<(SdkAppId, DriftClass, DriftKind), u64>;

/// In the order of their key, in which every transaction takes them.
const ADD: &str = r"
INSERT INTO drift_totals AS t (sdk_app_id, class, kind, count, first_at, last_at)
SELECT app, class, kind, n, to_timestamp($5 / 1000.0), to_timestamp($5 / 1000.0)
  FROM UNNEST($1::bigint[], $2::text[], $3::text[], $4::bigint[]) AS k (app, class, kind, n)
 ORDER BY app, class, kind
ON CONFLICT (sdk_app_id, class, kind) DO UPDATE SET
    count = t.count + EXCLUDED.count,
    first_at = LEAST(t.first_at, EXCLUDED.first_at), last_at = GREATEST(t.last_at, EXCLUDED.last_at)";

/// Adds what a batch has changed.
///
/// # Errors
/// The statement's.
pub async fn add(
    conn: &mut PgConnection,
    counts: &DriftCounts,
    received_at: Millis,
) -> Result<(), sqlx::Error> {
    if counts.is_empty() {
        return Ok(());
    }
    let number = |count: &u64| i64::try_from(*count).unwrap_or(i64::MAX);
    sqlx::query(ADD)
        .bind(counts.keys().map(|(app, ..)| app.get()).collect::<Vec<_>>())
        .bind(counts.keys().map(|(_, class, _)| class.into()).collect::<Vec<&'static str>>())
        .bind(counts.keys().map(|(.., kind)| kind.into()).collect::<Vec<&'static str>>())
        .bind(counts.values().map(number).collect::<Vec<_>>())
        .bind(received_at.get())
        .execute(conn)
        .await
        .map(drop)
}

/// One total, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
#[expect(missing_docs, reason = "each field is the column of that name, described in migrations/")]
pub struct DriftTotal {
    pub sdk_app_id: i64,
    pub class: String,
    pub kind: String,
    pub count: i64,
    pub first_at: DateTime<Utc>,
    pub last_at: DateTime<Utc>,
}

const TOTALS: &str = "SELECT sdk_app_id, class, kind, count, first_at, last_at FROM drift_totals";

/// All totals.
///
/// # Errors
/// The statement's.
pub async fn all(conn: &mut PgConnection) -> Result<Vec<DriftTotal>, sqlx::Error> {
    sqlx::query_as(TOTALS).fetch_all(conn).await
}
