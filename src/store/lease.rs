//! The lease of the process that reads from Tencent: one row, a term that grows whenever it is taken, an end.
//!
//! A row and no advisory lock: a server that has lost a client notices that late, and the lock would stay until then. The
//! clock of the database decides when a lease has ended. A holder that has lost it without noticing does no harm: snapshots
//! are idempotent, and what it notes of its progress stays true. The statements work on the connection they are given.

use std::time::Duration;

use sqlx::PgConnection;

use super::feed::FeedPlace;

/// A command takes the lease from a `serve`, which does not take it back before the command has ended: who calls the
/// command waits for it.
const TAKE: &str = "
UPDATE reconcile_lease
   SET term = term + 1, holder = $1, is_command = $2, held_until = now() + make_interval(secs => $3)
 WHERE only_row AND (held_until <= now() OR ($2 AND NOT is_command))
RETURNING term";

/// Takes the lease for a time; answers its term, or `None` where another holds it.
///
/// # Errors
/// The statement's.
pub async fn take(
    conn: &mut PgConnection,
    holder: &str,
    is_command: bool,
    length: Duration,
) -> Result<Option<i64>, sqlx::Error> {
    let taking = sqlx::query_scalar(TAKE).bind(holder).bind(is_command).bind(length.as_secs_f64());
    taking.fetch_optional(conn).await
}

const RENEW: &str = "
UPDATE reconcile_lease SET held_until = now() + make_interval(secs => $2) WHERE only_row AND term = $1";

/// Holds the lease for a time from now on; false where another has taken it since.
///
/// # Errors
/// The statement's.
pub async fn renew(conn: &mut PgConnection, term: i64, length: Duration) -> Result<bool, sqlx::Error> {
    let renewed = sqlx::query(RENEW).bind(term).bind(length.as_secs_f64()).execute(conn).await?;
    Ok(renewed.rows_affected() == 1)
}

const GIVE_BACK: &str = "
UPDATE reconcile_lease SET holder = NULL, is_command = false, held_until = '-infinity' WHERE only_row AND term = $1";

/// Ends the lease, unless another has taken it since.
///
/// # Errors
/// The statement's.
pub async fn give_back(conn: &mut PgConnection, term: i64) -> Result<(), sqlx::Error> {
    sqlx::query(GIVE_BACK).bind(term).execute(conn).await.map(drop)
}

const HOLDER: &str = "SELECT holder FROM reconcile_lease WHERE only_row AND held_until > now()";

/// Who holds it now.
///
/// # Errors
/// The statement's.
pub async fn holder(conn: &mut PgConnection) -> Result<Option<String>, sqlx::Error> {
    Ok(sqlx::query_scalar(HOLDER).fetch_optional(conn).await?.flatten())
}

const FOLLOWED: &str =
    "SELECT marked_position AS position, marked_digest AS digest FROM reconcile_lease WHERE only_row";

/// Up to where callbacks have marked their groups; `None`: nothing was followed yet.
///
/// # Errors
/// The statement's.
pub async fn followed(conn: &mut PgConnection) -> Result<Option<FeedPlace>, sqlx::Error> {
    let place: Option<FeedPlace> = sqlx::query_as(FOLLOWED).fetch_optional(conn).await?;
    Ok(place.filter(|place| place.position >= 0))
}

const FOLLOW: &str = "
UPDATE reconcile_lease SET marked_position = $2, marked_digest = $3 WHERE only_row AND term = $1";

/// Notes up to where callbacks have marked their groups; false where the lease was lost.
///
/// # Errors
/// The statement's.
pub async fn follow(conn: &mut PgConnection, term: i64, place: &FeedPlace) -> Result<bool, sqlx::Error> {
    let noted = sqlx::query(FOLLOW).bind(term).bind(place.position).bind(&place.digest).execute(conn).await?;
    Ok(noted.rows_affected() == 1)
}
