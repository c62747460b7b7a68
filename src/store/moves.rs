//! What follows an entry of the ledger that is changed or deleted: its position of the feed, and its place in the outbox.
//!
//! A cursor that stands where an entry was stays valid, because its reader has missed nothing; without the note the empty
//! position would look like another ledger. An entry whose key changes keeps its place in the outbox, and one that repeats another
//! leaves it. The caller does this in the transaction that changes the entry, and no trigger does: an entry that moves to another
//! partition fires those of a delete and an insert.

use sqlx::PgConnection;

use super::people::LedgerKey;

const POSITION: &str = r"
SELECT position FROM ledger WHERE sdk_app_id = $1 AND group_id = $2 AND time_ms = $3 AND digest = $4 FOR UPDATE";

/// Where an entry stands, which no other transaction changes until this one ends; `None` where there is no such entry.
///
/// # Errors
/// The statement's.
pub(super) async fn lock_position(
    conn: &mut PgConnection,
    (app, group, time, digest): LedgerKey<'_>,
) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar(POSITION).bind(app).bind(group).bind(time).bind(digest).fetch_optional(conn).await
}

/// The lock that every insert into the ledger takes before it asks for a number, by which the feed knows who writes.
const BEGIN_MOVE: &str = "LOCK TABLE ONLY ledger IN ROW EXCLUSIVE MODE";

const NEXT: &str = "SELECT nextval('ledger_position_seq')";

/// The position at the end of the feed, for an entry that moves there. Asked for before the update and not by its `DEFAULT`:
/// Citus refuses an update with a volatile function, because it would run once for each copy of a shard.
///
/// # Errors
/// A statement's.
pub(super) async fn next_position(conn: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query(BEGIN_MOVE).execute(&mut *conn).await?;
    sqlx::query_scalar(NEXT).fetch_one(conn).await
}

const LEFT: &str = "INSERT INTO ledger_moves (position, digest) VALUES ($1, $2)";

const REKEY: &str = r"
UPDATE relay_outbox SET group_id = $5, time_ms = $6, digest = $7
 WHERE sdk_app_id = $1 AND group_id = $2 AND time_ms = $3 AND digest = $4";

/// An entry has left a position for the end of the feed, and may have another key.
///
/// # Errors
/// A statement's.
pub(super) async fn moved(
    conn: &mut PgConnection,
    (position, old): (i64, LedgerKey<'_>),
    new: LedgerKey<'_>,
) -> Result<(), sqlx::Error> {
    let (app, group, time, digest) = old;
    sqlx::query(LEFT).bind(position).bind(digest).execute(&mut *conn).await?;
    if old != new {
        let query = sqlx::query(REKEY).bind(app).bind(group).bind(time).bind(digest);
        query.bind(new.1).bind(new.2).bind(new.3).execute(conn).await?;
    }
    Ok(())
}

const UNQUEUE: &str = r"
DELETE FROM relay_outbox WHERE sdk_app_id = $1 AND group_id = $2 AND time_ms = $3 AND digest = $4";

/// An entry that stood at a position is deleted.
///
/// # Errors
/// A statement's.
pub(super) async fn dropped(
    conn: &mut PgConnection,
    (position, key): (i64, LedgerKey<'_>),
) -> Result<(), sqlx::Error> {
    let (app, group, time, digest) = key;
    sqlx::query(LEFT).bind(position).bind(digest).execute(&mut *conn).await?;
    sqlx::query(UNQUEUE).bind(app).bind(group).bind(time).bind(digest).execute(conn).await.map(drop)
}
