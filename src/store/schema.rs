//! The migrations in the program, and whether a database has exactly those.
//!
//! `sqlx migrate run` and `group-mirror migrate` record their work in the same table and recognise each other's. Nothing
//! here changes a database but [`migrate`].

use sqlx::PgConnection;
use sqlx::migrate::Migrator;
use tokio::sync::watch;

use super::errors::{Mismatch, StoreError};
use super::pools::Database;

/// The files of `migrations/`, compiled in.
pub static MIGRATOR: Migrator = sqlx::migrate!();

/// Whether schema and program agree, as last found; while they do not, callbacks go to the spool and reads get 503.
/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct SchemaState(watch::Receiver<Option<String>>);

impl SchemaState {
    /// A state that the sender changes: why they do not agree; none: they do.
    #[must_use]
    pub fn channel(mismatch: Option<String>) -> (watch::Sender<Option<String>>, Self) {
        let (sender, state) = watch::channel(mismatch);
        (sender, Self(state))
    }

    /// True where they agree.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.0.borrow().is_none()
    }

    /// Why they do not agree.
    #[must_use]
    pub fn mismatch(&self) -> Option<String> {
        self.0.borrow().clone()
    }
}

const MIGRATIONS_TABLE: &str =
    "SELECT to_regclass(quote_ident(current_schema()) || '._sqlx_migrations') IS NOT NULL";

const APPLIED: &str = "SELECT version, checksum, success FROM _sqlx_migrations ORDER BY version";

/// A relation that neither PostgreSQL nor an extension put there.
const ANY_RELATION: &str = "
SELECT c.relname::text FROM pg_class c
 WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
   AND c.relname <> '_sqlx_migrations'
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
 ORDER BY c.relname LIMIT 1";

/// `None` when the schema is exactly the one this program was built with.
///
/// # Errors
/// A statement that fails.
pub async fn check(conn: &mut PgConnection) -> Result<Option<Mismatch>, StoreError> {
    let all = MIGRATOR.iter().count();
    let noted: bool = sqlx::query_scalar(MIGRATIONS_TABLE).fetch_one(&mut *conn).await?;
    let applied: Vec<(i64, Vec<u8>, bool)> =
        if noted { sqlx::query_as(APPLIED).fetch_all(&mut *conn).await? } else { Vec::new() };
    if applied.is_empty() {
        let relation: Option<String> = sqlx::query_scalar(ANY_RELATION).fetch_optional(conn).await?;
        return Ok(Some(match relation {
            Some(name) => Mismatch::Foreign(format!("it holds {name:?} and no migration of ours")),
            None => Mismatch::Behind(all, all),
        }));
    }
    Ok(compare(&applied))
}

fn compare(applied: &[(i64, Vec<u8>, bool)]) -> Option<Mismatch> {
    let ours = |version: i64| MIGRATOR.iter().find(|migration| migration.version == version);
    let last = MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or_default();
    for (version, checksum, _) in applied {
        match ours(*version) {
            Some(migration) if migration.checksum[..] == checksum[..] => {}
            None if *version > last && applied.iter().any(|(version, ..)| ours(*version).is_some()) => {}
            _ => return Some(Mismatch::Foreign(format!("its migration {version} is not ours"))),
        }
    }
    if let Some((version, ..)) = applied.iter().find(|(.., success)| !success) {
        return Some(Mismatch::Dirty(*version));
    }
    if let Some((version, ..)) = applied.iter().find(|(version, ..)| *version > last) {
        return Some(Mismatch::Ahead(*version));
    }
    let all = MIGRATOR.iter().count();
    (applied.len() < all).then(|| Mismatch::Behind(all - applied.len(), all))
}

/// Brings an empty or older schema up to date; answers how many migrations that took. Safe to run twice, and by two
/// at once: the migrator holds an advisory lock.
///
/// # Errors
/// A database of another application, or one that a newer program has migrated; a migration that fails.
pub async fn migrate(database: &Database) -> Result<usize, StoreError> {
    let mut conn = database.connect().await?;
    let missing = match check(&mut conn).await? {
        None => return Ok(0),
        Some(Mismatch::Behind(missing, _)) => missing,
        Some(other) => return Err(StoreError::Schema(other)),
    };
    MIGRATOR.run(&mut conn).await?;
    Ok(missing)
}
