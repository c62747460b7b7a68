//! What can go wrong with the database, and what that means: for a person, one line; for a statement, whether to retry
//! it, to try it apart from others, to wait for the database, or to blame the data.
//!
//! The only file that knows SQLSTATEs. They are sorted once, by [`Cause`]; the writer, the start and the read API each
//! ask one question about it, so that their answers cannot differ.

use sqlx::postgres::PgDatabaseError;
use thiserror::Error;

use super::unusable::Unusable;

/// How a database differs from what this program needs; reads as an advice.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Mismatch {
    /// Migrations are missing.
    #[error("the schema is behind: {0} of {1} migrations are missing; run `group-mirror migrate`")]
    Behind(usize, usize),
    /// A migration was begun and not finished.
    #[error("migration {0} failed half-way; mend it by hand, then run `group-mirror migrate`")]
    Dirty(i64),
    /// A restore has not ended.
    #[error(
        "the database is not complete: {0}; wait for the restore that loads it, or, where none runs, restore it again"
    )]
    Unfinished(String),
    /// A newer program has migrated it.
    #[error(
        "the schema is ahead: it has migration {0}, which this program does not know; run the newer program"
    )]
    Ahead(i64),
    /// It is not ours.
    #[error("the database belongs to another application: {0}; give group-mirror a database of its own")]
    Foreign(String),
    /// It is ours and has no id, so that a spool cannot know it again.
    #[error(
        "the database has lost its id (table database_identity); restore that table, or run `group-mirror migrate`, which writes a new one"
    )]
    NoId,
}

/// Why the database cannot be used; one line each.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The URL is another kind of server's, or none.
    #[error(
        "DATABASE_URL is no PostgreSQL URL (it does not begin with postgres://); it should read postgres://user:password@host:5432/database"
    )]
    Scheme,
    /// The URL is none.
    #[error(
        "DATABASE_URL is no PostgreSQL URL ({}); it should read postgres://user:password@host:5432/database",
        cause(.0)
    )]
    Url(#[source] sqlx::Error),
    /// No connection could be made.
    #[error("cannot connect to the database at {at}: {}", cause(.source))]
    Connect {
        /// Host and port.
        at: String,
        /// Why.
        source: sqlx::Error,
    },
    /// No connection was made in time.
    #[error("cannot connect to the database at {0}: no answer in {1} s")]
    ConnectTimeout(String, u64),
    /// It is not known yet where the server is.
    #[error("the embedded PostgreSQL is still being started")]
    NotLocated,
    /// The server is older than the schema needs.
    #[error("the server runs PostgreSQL {0}; 15 or later is needed")]
    Version(String),
    /// The schema is not what this program needs.
    #[error("{0}")]
    Schema(Mismatch),
    /// A statement failed.
    #[error("the database refused a statement: {}", cause(.0))]
    Statement(#[from] sqlx::Error),
    /// A migration failed.
    #[error("a migration failed: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// A commit would be one more try beside one that has not ended.
    #[error("a session that was given up still runs in the server")]
    GivenUp,
    /// What was read back is not what was written.
    #[error("{0} in the database is damaged")]
    Damaged(&'static str),
    /// A person has to change the URL, the pooler or the database.
    #[error(transparent)]
    Unusable(#[from] Unusable),
}

impl StoreError {
    /// True where the same may succeed a little later: no server, no answer, one that is starting, stopping, full or
    /// failing over. A wrong password, a database that does not exist and a schema that is not ours do not pass.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::ConnectTimeout(..) | Self::NotLocated => true,
            Self::Connect { source: error, .. } | Self::Statement(error) => match error {
                sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::PoolTimedOut => true,
                error => Cause::of(error).is_some_and(Cause::is_passing),
            },
            _ => false,
        }
    }
}

/// The server's own words in one line, without the crate's preamble.
fn cause(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => error.message().split_whitespace().collect::<Vec<_>>().join(" "),
        sqlx::Error::Io(error) => error.to_string(),
        sqlx::Error::Configuration(error) => error.to_string(),
        other => other.to_string(),
    }
}

/// Why the server refused a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// A serialization failure or a deadlock: two transactions conflicted.
    Conflict,
    /// The session's prepared statements do not fit any more: the schema changed under them (0A000), or a pooler or
    /// `DEALLOCATE` removed them (26000).
    Stale,
    /// A limit of time: a lock (55P03), a statement or its cancellation (57014), a transaction (25P03, 25P04).
    TimedOut,
    /// The session cannot write, whatever the statement: a lost connection (08), no connection left (53300), a server
    /// that stops or starts (57P), a standby or a read-only server (25006).
    Unusable,
    /// Other trouble that passes: resources (53), operators (57), the system (58), a rollback that is no conflict
    /// (other 40), a state of an object (55).
    Passing,
    /// The values of the statement: data exceptions (22), integrity constraints (23), a key too long for an index (54000).
    Data,
    /// Anything else: the schema, the rights (42), a damaged index (XX).
    Other,
}

/// Codes and classes, the longer before the shorter; a class is the first two characters of a code. What is not here is
/// [`Cause::Other`]: a state of the server that this list does not name must never be taken for a fault of the data.
const CAUSES: [(&str, Cause); 19] = [
    ("40001", Cause::Conflict),
    ("40P01", Cause::Conflict),
    ("0A000", Cause::Stale),
    ("26000", Cause::Stale),
    ("55P03", Cause::TimedOut),
    ("57014", Cause::TimedOut),
    ("25P03", Cause::TimedOut),
    ("25P04", Cause::TimedOut),
    ("08", Cause::Unusable),
    ("53300", Cause::Unusable),
    ("57P", Cause::Unusable),
    ("25006", Cause::Unusable),
    ("40", Cause::Passing),
    ("53", Cause::Passing),
    ("55", Cause::Passing),
    ("57", Cause::Passing),
    ("58", Cause::Passing),
    ("22", Cause::Data),
    ("23", Cause::Data),
];

/// The functions of the server that refuse a row by the bound of a partition, with the code of a CHECK constraint: an entry was
/// on its way to the default partition while another one was attached for its time, so the next try finds its place. The
/// same where the default partition has bounds while it becomes another one (migration 0001).
const PARTITION_ROUTINES: [&str; 2] = ["ExecPartitionCheckEmitError", "ExecFindPartition"];
const PARTITION_BOUND: &str = "_default_bound";

/// The function of the server that reads a table because its form changes. Without the name of a constraint it has found a row
/// in the default partition that belongs to the one that is being attached: it came after the look at the default partition,
/// and the next try moves it. With a name the rows do not fit the constraint, however often they are read.
const TABLE_ROUTINE: &str = "ATRewriteTable";

/// The functions of the server that refuse a key which is too long for its index. 54000 covers other limits as well, and
/// the message is translated; the name of the function is not.
const LONG_KEY_ROUTINES: [&str; 3] = ["_bt_check_third_page", "index_form_tuple", "index_form_tuple_context"];

impl Cause {
    /// None where the error is not an answer of the server.
    fn of(error: &sqlx::Error) -> Option<Self> {
        if matches!(error, sqlx::Error::AnyDriverError(error) if error.is::<ErasuresChanged>()) {
            return Some(Self::Conflict);
        }
        let sqlx::Error::Database(error) = error else { return None };
        let code = error.code().unwrap_or_default();
        let routine = error.try_downcast_ref::<PgDatabaseError>().and_then(PgDatabaseError::routine);
        let is_race = match (routine, error.constraint()) {
            (Some(TABLE_ROUTINE), constraint) => code == "23514" && constraint.is_none(),
            (_, Some(constraint)) if constraint.ends_with(PARTITION_BOUND) => true,
            (routine, _) => routine.is_some_and(|routine| PARTITION_ROUTINES.contains(&routine)),
        };
        if is_race {
            return Some(Self::Conflict);
        }
        if code == "54000" && routine.is_some_and(|routine| LONG_KEY_ROUTINES.contains(&routine)) {
            return Some(Self::Data);
        }
        let known = CAUSES.iter().find(|(begin, _)| code.starts_with(begin));
        Some(known.map_or(Self::Other, |(_, cause)| *cause))
    }

    /// True where the same statement may succeed a little later without help.
    fn is_passing(self) -> bool {
        match self {
            Self::Conflict | Self::Stale | Self::TimedOut | Self::Unusable | Self::Passing => true,
            Self::Data | Self::Other => false,
        }
    }
}

/// A person was erased after the transaction had read who is.
#[derive(Debug, thiserror::Error)]
#[error("a person was erased meanwhile; the transaction has to begin anew")]
struct ErasuresChanged;

/// The error of a transaction that wrote ids of a person who was erased meanwhile: a conflict, which a retry ends.
#[must_use]
pub fn erasures_changed() -> sqlx::Error {
    sqlx::Error::AnyDriverError(Box::new(ErasuresChanged))
}

/// What a failed statement means for what was to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// A serialization failure or a deadlock: the same transaction succeeds when it is retried.
    Retry,
    /// The session is of no more use, the statement is: it succeeds on another session.
    Stale,
    /// A lock or a limit of time: what it touches cannot be written now, other groups can.
    TimedOut,
    /// The server refuses this statement and may take others.
    Refused,
    /// The server, or this session, takes nothing now.
    Unavailable,
    /// The data's fault: it would fail every time.
    Data,
}

/// Sorts the failure of a write.
#[must_use]
pub fn classify(error: &sqlx::Error) -> Failure {
    match Cause::of(error) {
        Some(Cause::Conflict) => Failure::Retry,
        Some(Cause::Stale) => Failure::Stale,
        Some(Cause::TimedOut) => Failure::TimedOut,
        Some(Cause::Passing | Cause::Other) => Failure::Refused,
        Some(Cause::Unusable) | None => Failure::Unavailable,
        Some(Cause::Data) => Failure::Data,
    }
}

/// What the server refuses of the data, by code or class, the longer before the shorter: in words of this program, because the
/// server's can quote rows.
const REFUSALS: [(&str, &str); 6] = [
    ("22021", "a character that its encoding does not have"),
    ("22P05", "a character that its encoding does not have"),
    ("22001", "a text that is too long for its column"),
    ("22", "a value that its column cannot hold"),
    ("23", "a row that a constraint does not allow"),
    ("54000", "a key that is too long for its index"),
];

/// What the server refuses of the data, for readers and senders, and for the log the code with the names of what was
/// violated. Neither holds the server's words.
#[must_use]
pub fn refused_data(error: &sqlx::Error) -> (&'static str, String) {
    let unknown = "a value that it cannot hold";
    let sqlx::Error::Database(error) = error else { return (unknown, String::new()) };
    let code = error.code().unwrap_or_default();
    let what = REFUSALS.iter().find(|(begin, _)| code.starts_with(begin)).map_or(unknown, |(_, what)| *what);
    let names = [error.table(), error.constraint()].into_iter().flatten();
    (what, std::iter::once(&*code).chain(names).collect::<Vec<_>>().join(" "))
}

/// True where a failed read can succeed a little later: no connection, a lost one, a proxy without a server, a conflict with the recovery of a
/// standby, or passing trouble of the server.
#[must_use]
pub fn is_passing_read(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        // A proxy without a server behind it closes at once, in the middle of the greeting.
        | sqlx::Error::Protocol(_)
        | sqlx::Error::WorkerCrashed => true,
        error => Cause::of(error).is_some_and(Cause::is_passing),
    }
}

/// True for a statement that the server cancelled at the time limit of its session.
#[must_use]
pub fn is_statement_timeout(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.code().as_deref() == Some("57014"))
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    /// An answer of the server with a code.
    #[derive(Debug)]
    struct Refused(&'static str);

    impl std::fmt::Display for Refused {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
    }

    impl std::error::Error for Refused {}

    impl sqlx::error::DatabaseError for Refused {
        fn message(&self) -> &str {
            self.0
        }
        fn code(&self) -> Option<Cow<'_, str>> {
            Some(self.0.into())
        }
        fn as_error(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
            self
        }
        fn as_error_mut(&mut self) -> &mut (dyn std::error::Error + Send + Sync + 'static) {
            self
        }
        fn into_error(self: Box<Self>) -> Box<dyn std::error::Error + Send + Sync + 'static> {
            self
        }
        fn kind(&self) -> sqlx::error::ErrorKind {
            sqlx::error::ErrorKind::Other
        }
    }

    #[test]
    fn the_writer_the_start_and_the_reads_agree_on_every_code() {
        for (code, failure, passes) in [
            ("40001", Failure::Retry, true),
            ("40P01", Failure::Retry, true),
            ("0A000", Failure::Stale, true),
            ("26000", Failure::Stale, true),
            ("55P03", Failure::TimedOut, true),
            ("57014", Failure::TimedOut, true),
            ("25P03", Failure::TimedOut, true),
            ("25P04", Failure::TimedOut, true),
            ("08006", Failure::Unavailable, true),
            ("53300", Failure::Unavailable, true),
            ("57P01", Failure::Unavailable, true),
            ("25006", Failure::Unavailable, true),
            ("40003", Failure::Refused, true),
            ("53100", Failure::Refused, true),
            ("55000", Failure::Refused, true),
            ("55006", Failure::Refused, true),
            ("58030", Failure::Refused, true),
            ("25P02", Failure::Refused, false),
            ("28P01", Failure::Refused, false),
            ("42501", Failure::Refused, false),
            ("42P01", Failure::Refused, false),
            // Without the name of the function that refused it, 54000 may be any limit of the server.
            ("54000", Failure::Refused, false),
            ("P0001", Failure::Refused, false),
            ("XX002", Failure::Refused, false),
            ("", Failure::Refused, false),
            ("22021", Failure::Data, false),
            ("23502", Failure::Data, false),
        ] {
            let error = || sqlx::Error::Database(Box::new(Refused(code)));
            assert_eq!(classify(&error()), failure, "{code}");
            assert_eq!(is_passing_read(&error()), passes, "{code}");
            assert_eq!(StoreError::Statement(error()).is_passing(), passes, "{code}");
        }
        assert!(is_statement_timeout(&sqlx::Error::Database(Box::new(Refused("57014")))));
    }
}
