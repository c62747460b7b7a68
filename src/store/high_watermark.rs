//! The high watermark of the feed: the position up to which every entry is visible, or never will be.
//!
//! A position is given while a transaction runs and becomes visible when it commits, so the highest visible one is no
//! safe place to stop: a lower one may still be on its way. [`prove`] finds a safe place without making writers wait for
//! each other. It notes the last number given, then who holds the lock that every insert into the ledger takes before
//! it asks for a number and keeps until it is visible or rolled back, and waits until all of those have ended. A
//! transaction that begins later gets higher numbers. Transactions elsewhere in the server, however long, do not matter.
//! The high watermark is the greatest committed position below that number: one without an entry is not durable, and a
//! crash gives it out again.
//!
//! A transaction that has written to the ledger and stays open holds the high watermark back. What was proven before it
//! began stays proven, so [`note`] keeps that in the database for the next start and for other replicas, and [`noted`]
//! is what the feed gives meanwhile. The same on a standby, where the locks of writers cannot be seen: the note reached
//! it behind all that it stands for.
//!
//! Tried beside it, in batches of 64 rows, as rows per second and WAL per row against no numbering at all: this 0.76 and
//! +78 bytes; transaction id and number 0.80 and +96, which noise covers, but ids start again lower after a dump and
//! restore; numbering under a lock at the end of the transaction 0.71 and +206.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use tokio::time::{Instant, sleep};

use super::feed::{self, FeedPlace};

/// How long [`prove`] waits for writers. A transaction of callbacks takes some tens of milliseconds.
const WRITERS_WAIT_MAX: Duration = Duration::from_secs(1);

/// The pause between two looks at who is still writing.
const LOOK_PAUSE: Duration = Duration::from_millis(5);

/// Read without regard to transactions, and before [`WRITERS`] in a statement of its own.
const LAST: &str = "
SELECT CASE WHEN is_called THEN last_value ELSE 0 END, pg_is_in_recovery() FROM ledger_position_seq";

/// The session part of a virtual transaction id is used again, the other part is not. A prepared transaction has no
/// session, and `-1` in its place.
const WRITERS: &str = "
SELECT virtualtransaction FROM pg_locks
 WHERE locktype = 'relation' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND relation = 'ledger'::regclass AND mode = 'RowExclusiveLock' AND pid IS DISTINCT FROM pg_backend_pid()";

/// How the name of a prepared transaction begins.
const PREPARED: &str = "-1/";

/// How the name of a transaction ends that has lost its number and still holds its locks.
const NUMBERLESS: &str = "/0";

/// Transactions that have written to the ledger, by their names in the server.
pub type LedgerWriters = BTreeSet<String>;

/// What came of a proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// The high watermark.
    At(FeedPlace),
    /// These have written and do not end; none on a standby, where nothing can be proven.
    HeldBack(LedgerWriters),
}

/// Finds the high watermark of now, and waits up to a second for writers. Does not wait for those that an earlier proof has
/// waited for in vain. Outside a transaction only, because each look must see the newest state.
///
/// # Errors
/// A statement's.
pub async fn prove(conn: &mut PgConnection, slow: &LedgerWriters) -> Result<Proof, sqlx::Error> {
    prove_within(conn, slow, WRITERS_WAIT_MAX).await
}

/// As [`prove`], with a limit of its own on the wait.
///
/// # Errors
/// As above.
pub async fn prove_within(
    conn: &mut PgConnection,
    slow: &LedgerWriters,
    wait_max: Duration,
) -> Result<Proof, sqlx::Error> {
    let (last, is_standby): (i64, bool) = sqlx::query_as(LAST).fetch_one(&mut *conn).await?;
    if is_standby {
        return Ok(Proof::HeldBack(LedgerWriters::new()));
    }
    let until = Instant::now() + wait_max;
    let mut waited_for = writers(conn).await?;
    while !waited_for.is_empty() {
        let known: LedgerWriters = waited_for.intersection(slow).cloned().collect();
        if !known.is_empty() {
            return Ok(Proof::HeldBack(known));
        }
        if Instant::now() >= until {
            return Ok(Proof::HeldBack(waited_for));
        }
        sleep(LOOK_PAUSE).await;
        waited_for = still_there(&waited_for, &writers(conn).await?);
    }
    feed::place_at(conn, last).await.map(Proof::At)
}

/// Those that are waited for and have not ended. A transaction that is prepared meanwhile goes on under another name, so
/// every prepared one counts. One that commits loses its number a moment before its locks, and is `session/0` until then: it is
/// waited for under its old name, so that its session is known. Under Citus the moment is as long as the commits on all workers,
/// and rows are visible only behind it.
fn still_there(waited_for: &LedgerWriters, writing: &LedgerWriters) -> LedgerWriters {
    let session = |name: &str| name.split_once('/').map(|(session, _)| session.to_owned());
    let mut still: LedgerWriters = writing
        .iter()
        .filter(|name| waited_for.contains(*name) || name.starts_with(PREPARED))
        .cloned()
        .collect();
    let ending: BTreeSet<String> =
        writing.iter().filter(|name| name.ends_with(NUMBERLESS)).filter_map(|name| session(name)).collect();
    still.extend(
        waited_for.iter().filter(|name| session(name).is_some_and(|of| ending.contains(&of))).cloned(),
    );
    still
}

async fn writers(conn: &mut PgConnection) -> Result<LedgerWriters, sqlx::Error> {
    let writers: Vec<String> = sqlx::query_scalar(WRITERS).fetch_all(conn).await?;
    Ok(writers.into_iter().collect())
}

const NOTED: &str = "SELECT high_watermark AS position, high_watermark_digest AS digest FROM feed";

/// The last high watermark that was noted, as far as this ledger has it; else the last place that was pruned, or the start.
///
/// # Errors
/// A statement's.
pub async fn noted(conn: &mut PgConnection) -> Result<FeedPlace, sqlx::Error> {
    let place: Option<FeedPlace> = sqlx::query_as(NOTED).fetch_optional(&mut *conn).await?;
    let place = place.unwrap_or(FeedPlace::start());
    // What was pruned was complete before.
    if feed::holds(conn, &place).await? { Ok(place) } else { feed::dropped(conn).await }
}

/// Without `synchronous_commit`: what a crash takes was only newer, and a commit that waits for a standby would hold up the
/// feed. What is replaced is named, so that of two replicas none takes back what the other has noted since.
const NOTE: &str = "
UPDATE feed SET high_watermark = $1, high_watermark_digest = $2
  FROM (SELECT set_config('synchronous_commit', 'off', true)) s
 WHERE high_watermark < $1 OR high_watermark = $3 AND high_watermark_digest = $4";

/// Notes a high watermark that was proven, unless a later one is noted; about once a minute with the time. One that this ledger
/// does not have is of another ledger, and anything that was proven takes its place.
///
/// # Errors
/// The statement's: a server that takes no writes, or no right to.
pub async fn note(conn: &mut PgConnection, place: &FeedPlace) -> Result<(), sqlx::Error> {
    let known: Option<FeedPlace> = sqlx::query_as(NOTED).fetch_optional(&mut *conn).await?;
    let known = known.unwrap_or(FeedPlace::start());
    if place.position > known.position || !feed::holds(conn, &known).await? {
        let query = sqlx::query(NOTE).bind(place.position).bind(&place.digest);
        query.bind(known.position).bind(&known.digest).execute(&mut *conn).await?;
    }
    let marked = sqlx::query(MARK).bind(place.position).bind(&place.digest).execute(&mut *conn).await?;
    if marked.rows_affected() > 0 {
        sqlx::query(THIN).execute(conn).await?;
    }
    Ok(())
}

/// About one a minute, whatever the number of replicas; without `synchronous_commit` as well.
const MARK: &str = "
INSERT INTO feed_marks (position, digest)
SELECT $1, $2
  FROM (SELECT set_config('synchronous_commit', 'off', true)) s
 WHERE $1 > 0 AND NOT EXISTS (SELECT FROM feed_marks WHERE marked_at > now() - interval '1 minute')";

/// One an hour is enough of what is older than 30 days, and none of what is older than ten years: some 130,000 rows at most.
/// Those of two days are looked at, so that a pause of a day between two marks leaves none behind.
const THIN: &str = "
DELETE FROM feed_marks m
 USING (SELECT set_config('synchronous_commit', 'off', true)) s
 WHERE m.marked_at < now() - interval '10 years'
    OR m.marked_at < now() - interval '30 days' AND m.marked_at > now() - interval '32 days'
       AND EXISTS (SELECT FROM feed_marks o
                    WHERE o.marked_at >= date_trunc('hour', m.marked_at, 'UTC') AND o.marked_at < m.marked_at)";

/// How far the clock of a process may be ahead of that of the database.
const CLOCK_SPARE_SECS: i32 = 300;

const MARKED_BEFORE: &str = "
SELECT position, digest FROM feed_marks
 WHERE marked_at <= $1 - make_interval(secs => $2)
 ORDER BY marked_at DESC LIMIT 1";

/// A place up to which every entry was received before a time; the start where none is known in this ledger.
///
/// # Errors
/// A statement's.
pub async fn marked_before(conn: &mut PgConnection, time: DateTime<Utc>) -> Result<FeedPlace, sqlx::Error> {
    let place = sqlx::query_as(MARKED_BEFORE).bind(time).bind(f64::from(CLOCK_SPARE_SECS));
    let place: Option<FeedPlace> = place.fetch_optional(&mut *conn).await?;
    match place {
        Some(place) if feed::holds(conn, &place).await? => Ok(place),
        _ => Ok(FeedPlace::start()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> LedgerWriters {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_transaction_that_is_prepared_while_it_is_waited_for_is_waited_for_further() {
        let waited_for = names(&["3/17", "4/2"]);
        assert_eq!(still_there(&waited_for, &names(&["4/2", "5/9"])), names(&["4/2"]));
        assert_eq!(still_there(&waited_for, &names(&["-1/745", "5/9"])), names(&["-1/745"]));
        assert_eq!(still_there(&names(&["-1/745"]), &names(&["3/18"])), names(&[]));
    }

    #[test]
    fn a_transaction_that_has_lost_its_number_and_holds_its_locks_is_waited_for_further() {
        let waited_for = names(&["3/17", "4/2"]);
        assert_eq!(still_there(&waited_for, &names(&["3/0", "5/9"])), names(&["3/17"]));
        assert_eq!(still_there(&waited_for, &names(&["3/0", "4/2"])), waited_for);
        // The session goes on with another transaction, which began later.
        assert_eq!(still_there(&waited_for, &names(&["3/18"])), names(&[]));
        // Another session that ends now was not waited for.
        assert_eq!(still_there(&waited_for, &names(&["33/0"])), names(&[]));
        // The first look may meet that state as well.
        assert_eq!(still_there(&names(&["3/0"]), &names(&["3/0"])), names(&["3/0"]));
    }
}
