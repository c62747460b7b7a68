//! Statements on the marks of services: how far each lane of a writer has committed, as the database has it.
//!
//! A batch raises the mark of its lane in its own transaction, so the mark is there exactly where the batch is. The raise is
//! a compare-and-set: it changes nothing where the database has a lower mark than was confirmed before, because a raise over
//! the gap would hide it. The statement travels with `COMMIT` in one round trip, as text: its values are numbers. What a
//! lower mark means is for the writer to decide.

use sqlx::PgConnection;

/// The raise of one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MarkRaise {
    /// The id of the data directory.
    pub replica: u128,
    /// The lane.
    pub lane: usize,
    /// Its new mark.
    pub mark: u64,
    /// The mark that the database has at least; 0: none was confirmed.
    pub confirmed: u64,
}

impl MarkRaise {
    /// The statement. It affects one row, or none where the database is behind what was confirmed.
    pub(super) fn statement(&self) -> String {
        let Self { replica, lane, mark, confirmed } = self;
        if *confirmed == 0 {
            return format!(
                "INSERT INTO replica_marks AS m (replica_id, lane, mark) VALUES ('{replica:032x}', {lane}, {mark})
                     ON CONFLICT (replica_id, lane) DO UPDATE SET mark = greatest(m.mark, {mark}), raised_at = now()"
            );
        }
        format!(
            "UPDATE replica_marks SET mark = greatest(mark, {mark}), raised_at = now()
              WHERE replica_id = '{replica:032x}' AND lane = {lane} AND mark >= {confirmed}"
        )
    }
}

const MARKS: &str = "
SELECT pg_is_in_recovery(), m.lane, m.mark
  FROM (SELECT) one LEFT JOIN replica_marks m ON m.replica_id = $1";

/// The marks that the database has, by lane, 0 where there is none; no marks on a standby, which may still receive them.
///
/// # Errors
/// The statement's.
pub async fn marks<const LANES: usize>(
    conn: &mut PgConnection,
    replica: u128,
) -> Result<Option<[u64; LANES]>, sqlx::Error> {
    let rows: Vec<(bool, Option<i16>, Option<i64>)> =
        sqlx::query_as(MARKS).bind(format!("{replica:032x}")).fetch_all(conn).await?;
    let mut marks = [0; LANES];
    for (is_standby, lane, mark) in rows {
        if is_standby {
            return Ok(None);
        }
        let place = lane.and_then(|lane| marks.get_mut(usize::try_from(lane).ok()?));
        if let (Some(place), Some(mark)) = (place, mark) {
            *place = u64::try_from(mark).unwrap_or_default();
        }
    }
    Ok(Some(marks))
}

/// A service that returns after that finds no row and sends what it has kept once more, which does no harm.
const FORGET: &str =
    "DELETE FROM replica_marks WHERE raised_at < now() - interval '90 days' AND replica_id <> $1";

/// Removes the marks of other services that have raised none for 90 days.
///
/// # Errors
/// The statement's.
pub async fn forget_old(conn: &mut PgConnection, replica: u128) -> Result<(), sqlx::Error> {
    sqlx::query(FORGET).bind(format!("{replica:032x}")).execute(conn).await.map(drop)
}
