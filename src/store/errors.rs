//! What can go wrong with the database, and what that means: for a person, one line; for a statement, whether to retry
//! it, to wait for the database, or to blame the data.
//!
//! The only file that knows SQLSTATEs. They are sorted once, by [`Cause`]; the writer, the start and the read API each
//! ask one question about it, so that their answers cannot differ.

use thiserror::Error;

/// How a database differs from what this program needs; reads as an advice.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Mismatch {
    /// Migrations are missing.
    #[error("the schema is behind: {0} of {1} migrations are missing; run `group-mirror migrate`")]
    Behind(usize, usize),
    /// A migration was begun and not finished.
    #[error("migration {0} failed half-way; mend it by hand, then run `group-mirror migrate`")]
    Dirty(i64),
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
    #[error("cannot connect to the database: {}", cause(.0))]
    Connect(#[source] sqlx::Error),
    /// No connection was made in time.
    #[error("cannot connect to the database: no answer in {0} s")]
    ConnectTimeout(u64),
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
    /// What was read back is not what was written.
    #[error("{0} in the database is damaged")]
    Damaged(&'static str),
}

impl StoreError {
    /// True where the same may succeed a little later: no server, no answer, one that is starting, stopping, full or
    /// failing over. A wrong password, a database that does not exist and a schema that is not ours do not pass.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::ConnectTimeout(_) => true,
            Self::Connect(error) | Self::Statement(error) => match error {
                sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::PoolTimedOut => true,
                error => matches!(Cause::of(error), Some(Cause::Conflict | Cause::Passing)),
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
    /// Passing trouble of the server: connections (08), resources (53), operators (57, the statement timeout included),
    /// the system (58), a rollback that is no conflict (other 40), a standby (55000, 25006), a lock that was not
    /// granted in time (55P03), a transaction that idled too long (25P03).
    Passing,
    /// The schema or the rights are not what the statement needs (42).
    Schema,
    /// Anything else: the values of the statement.
    Data,
}

/// Codes and classes of the server's passing trouble; a class is the first two characters of a code.
const PASSING: [&str; 9] = ["08", "40", "53", "57", "58", "55000", "55P03", "25006", "25P03"];

impl Cause {
    /// None where the error is not an answer of the server.
    fn of(error: &sqlx::Error) -> Option<Self> {
        let sqlx::Error::Database(error) = error else { return None };
        let code = error.code().unwrap_or_default();
        Some(match code.as_ref() {
            "40001" | "40P01" => Self::Conflict,
            "" => Self::Passing,
            code if PASSING.iter().any(|begin| code.starts_with(begin)) => Self::Passing,
            code if code.starts_with("42") => Self::Schema,
            _ => Self::Data,
        })
    }
}

/// What a failed statement means for what was to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// A serialization failure or a deadlock: the same transaction succeeds when it is retried.
    Retry,
    /// The database cannot take it now, whatever it is.
    Unavailable,
    /// The data's fault: it would fail every time.
    Data,
}

/// Sorts the failure of a write.
#[must_use]
pub fn classify(error: &sqlx::Error) -> Failure {
    match Cause::of(error) {
        Some(Cause::Conflict) => Failure::Retry,
        Some(Cause::Passing | Cause::Schema) | None => Failure::Unavailable,
        Some(Cause::Data) => Failure::Data,
    }
}

/// True where a failed read can succeed a little later: no connection, a lost one, a conflict with the recovery of a
/// standby, or passing trouble of the server.
#[must_use]
pub fn is_passing_read(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::WorkerCrashed => true,
        error => matches!(Cause::of(error), Some(Cause::Conflict | Cause::Passing)),
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
            ("40003", Failure::Unavailable, true),
            ("08006", Failure::Unavailable, true),
            ("53300", Failure::Unavailable, true),
            ("57P01", Failure::Unavailable, true),
            ("58030", Failure::Unavailable, true),
            ("55000", Failure::Unavailable, true),
            ("25006", Failure::Unavailable, true),
            ("42501", Failure::Unavailable, false),
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
