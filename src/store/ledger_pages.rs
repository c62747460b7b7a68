//! A transaction in which pages of a history are read: over all partitions of the ledger, in the order of an index.
//!
//! Planning for the values at hand (`force_custom_plan`), which suits lists of groups, opens every partition with each of its
//! indexes: at 60 partitions it takes ten times as long as the read, and three times as many locks. What a page reads of the
//! ledger does not depend on the values, so it is planned once (`force_generic_plan`), and partitions that lie beside the time
//! that is asked for are left out when the plan begins.

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Postgres, Transaction};

use super::citus::HAS_CITUS;

/// Without statistics of a table all that there is would be sorted for each page, or read from one end to the other for the names of
/// its groups, as in the feed. Citus makes no plan for values
/// that are not known.
fn settings() -> String {
    format!(
        "SELECT set_config('enable_sort', 'off', true), set_config('enable_seqscan', 'off', true), set_config('plan_cache_mode',
                CASE WHEN {HAS_CITUS} THEN 'auto' ELSE 'force_generic_plan' END, true)"
    )
}

/// Begins one; to be rolled back by the caller, and closed with its connection where it is dropped in the middle.
///
/// # Errors
/// A statement's.
pub(super) async fn begin(conn: &mut PgConnection) -> Result<Transaction<'_, Postgres>, sqlx::Error> {
    let mut snapshot = conn.begin().await?;
    snapshot.execute(AssertSqlSafe(settings())).await?;
    Ok(snapshot)
}
