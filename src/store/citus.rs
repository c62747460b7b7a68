//! Whether a server has Citus, an extension that cuts tables by `group_id` over several servers and refuses some statements.
//!
//! The few statements that have another form there ask this; docs/citus.md says what runs and what does not.

use sqlx::{AssertSqlSafe, PgConnection};

/// The dialect of SQL in which a server gets a statement that has two forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Of PostgreSQL: plans depend neither on statistics nor on the size of a table.
    Plain,
    /// Of Citus: no row is looked up for each row of another select, and tables are joined by the group.
    Citus,
}

/// True on a server that has it, whichever tables it has cut.
pub(super) const HAS_CITUS: &str = "EXISTS (SELECT FROM pg_extension WHERE extname = 'citus')";

/// The same, asked for.
///
/// # Errors
/// The statement's.
pub(super) async fn is_there(conn: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(AssertSqlSafe(format!("SELECT {HAS_CITUS}"))).fetch_one(conn).await
}
