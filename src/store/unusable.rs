//! What makes a database unusable for this program, whatever is sent to it: one line each, with the remedy.
//!
//! Apart from the failures of statements in `errors`, because none of these passes by itself: a person has to change the
//! URL, the pooler or the database.

use thiserror::Error;

/// Why a database that answers, or a URL that can be read, is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unusable {
    /// A character of the user name or the password divides the URL in the wrong place.
    #[error(
        "DATABASE_URL is no PostgreSQL URL as it stands: a character of the user name or the password must be \
         percent-encoded (@ as %40, / as %2F, # as %23, ? as %3F, : as %3A, % as %25); the host was read as {0:?}; it \
         should read postgres://user:password@host:5432/database"
    )]
    Unencoded(String),
    /// Names and values of the mirror are Unicode.
    #[error(
        "the database is encoded in {0} and cannot hold every text of a callback; make one in UTF8: \
         CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0"
    )]
    Encoding(String),
    /// A pooler gives each transaction another session of the server.
    #[error(
        "DATABASE_URL leads to a pooler in transaction mode, where time limits, read-only sessions and prepared \
         statements of one connection reach another; set pool_mode = session for this database (also in PgBouncer 1.21 \
         and later with max_prepared_statements), or name the server itself"
    )]
    TransactionPooler,
    /// A pooler refuses what `DATABASE_URL` or `PGOPTIONS` wants sent at the start of a session.
    #[error(
        "the pooler at {0} refuses the startup parameter {1:?}; take it out of DATABASE_URL (or PGOPTIONS) and set it by \
         ALTER ROLE … SET instead"
    )]
    Startup(String, String),
    /// The role cannot even read which migrations were applied.
    #[error("the role of DATABASE_URL lacks rights; let the owner of the tables run: {0}")]
    Rights(String),
    /// The session does not have what was set.
    #[error(
        "a session has {name} = {found:?} although {wanted:?} was set: a pooler or the server changes it"
    )]
    Setting {
        /// Of the setting.
        name: String,
        /// What was set.
        wanted: String,
        /// What was read back.
        found: String,
    },
    /// Of several hosts one that takes no writes was connected.
    #[error("this host is a standby; the next connection goes to the host that takes writes")]
    Standby,
}
