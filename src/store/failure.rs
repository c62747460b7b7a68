//! What can go wrong with the database, and what that means: for a person, one line; for a statement, whether to try it
//! again, to wait for the database, or to blame the data.
//!
//! Knows SQLSTATEs and nothing of statements.

use thiserror::Error;

use super::{CONNECT_WAIT_MAX, schema};

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
    #[error("cannot connect to the database: no answer in {} s", CONNECT_WAIT_MAX.as_secs())]
    ConnectTimeout,
    /// The server is older than the schema needs.
    #[error("the server runs PostgreSQL {0}; 15 or later is needed")]
    Version(String),
    /// The schema is not what this program needs.
    #[error("{0}")]
    Schema(schema::Mismatch),
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
            Self::ConnectTimeout => true,
            Self::Connect(error) | Self::Statement(error) => match error {
                sqlx::Error::Database(error) => error.code().is_some_and(|code| {
                    ["08", "40", "53", "57", "58"].iter().any(|class| code.starts_with(class))
                }),
                sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::PoolTimedOut => true,
                _ => false,
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

/// What a failed statement means for what was to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Two transactions met; the same again will do.
    Retry,
    /// The database cannot take it now, whatever it is.
    Unavailable,
    /// The data's fault: it would fail every time.
    Data,
}

/// Sorts failures by SQLSTATE: 40 is a meeting; 08, 53, 57, 58, 25006, 42, 55P03 and everything that is no answer of
/// the server is the database's state; the rest is the data's fault.
#[must_use]
pub fn classify(error: &sqlx::Error) -> Failure {
    let sqlx::Error::Database(error) = error else { return Failure::Unavailable };
    let state = error.code().unwrap_or_default();
    match state.as_ref() {
        "40001" | "40P01" => Failure::Retry,
        "25006" | "55P03" | "25P03" | "" => Failure::Unavailable,
        code if ["08", "53", "57", "58", "42", "40"].iter().any(|class| code.starts_with(class)) => {
            Failure::Unavailable
        }
        _ => Failure::Data,
    }
}
