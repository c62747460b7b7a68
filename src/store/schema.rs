//! The migrations in the program, whether a database has exactly those, and the id of the database.
//!
//! `sqlx migrate run` and `group-mirror migrate` record their work in the same table and recognise each other's. A check
//! never waits for a lock on the ledger, because it must end on a server whose time-outs do not work too. [`migrate`]
//! and [`make_ready`] change a database, nothing else here does.

use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};
use tokio::sync::watch;

use super::errors::{Mismatch, StoreError};
use super::feed;
use super::lines::tables;
use super::partitions;
use super::pools::Database;
use super::rights;

/// The files of `migrations/`, compiled in.
pub static MIGRATOR: Migrator = sqlx::migrate!();

/// The number of the newest migration in this program, and how many there are.
#[must_use]
pub fn newest_migration() -> (i64, usize) {
    let newest = MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or_default();
    (newest, MIGRATOR.iter().count())
}

/// What [`SchemaState`] says before the first check has ended.
const NOT_CHECKED: &str = "the database has not answered yet";

/// Whether the database is ours and its schema the program's, as last found; while it is not, callbacks go to the spool
/// and reads get 503. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SchemaState(watch::Receiver<Option<String>>);

impl SchemaState {
    /// The state before the first check, which the sender changes.
    #[must_use]
    pub fn not_checked() -> (watch::Sender<Option<String>>, Self) {
        Self::channel(Some(NOT_CHECKED.to_owned()))
    }

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

    /// Resolves when the first check has ended, whatever it found.
    pub async fn checked(&self) {
        // An error means that the sender is dropped, so nothing will change any more.
        let _ = self.0.clone().wait_for(|mismatch| mismatch.as_deref() != Some(NOT_CHECKED)).await;
    }

    /// Resolves when they agree.
    pub async fn fitting(&self) {
        let _ = self.0.clone().wait_for(Option::is_none).await;
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

/// Tables that have no key; each has one index.
const KEYLESS: [&str; 3] = ["feed_marks", "ledger_moves", "ledger_people"];

/// The indexes of partitioned tables. A restore makes one in parts, and it is valid with the last of them.
const PARTITIONED_INDEXES: [&str; 6] = [
    "ledger_pkey",
    "ledger_position_idx",
    "ledger_request_idx",
    "ledger_time_idx",
    "ledger_unread_idx",
    "ledger_people_user_idx",
];

/// What a restore has not made yet, of what it makes once rows are there. Where it loads tables side by side each gets its keys
/// and indexes as soon as it has its rows, and until then it empties the table once more (`TRUNCATE`, so that the rows need no
/// log): whatever is written before is lost. So every table needs its key, and one without a key its index; one that is made in
/// parts has to be whole where it is there at all; and without the trigger, the last of all where one thing is made after the
/// other, what follows a write of a group would be missing without a word. An index that an operator has dropped is none of this.
const UNMADE: &str = "
SELECT format('table %I has no valid %s', c.relname, CASE WHEN c.relname = ANY ($2) THEN 'index' ELSE 'key' END)
  FROM pg_class c
 WHERE c.relnamespace = current_schema()::regnamespace AND c.relname = ANY ($1) AND c.relkind IN ('r', 'p')
   AND NOT EXISTS (SELECT FROM pg_index i
                    WHERE i.indrelid = c.oid AND i.indisvalid AND (i.indisunique OR c.relname = ANY ($2)))
 UNION ALL
SELECT format('index %I is not made for all partitions', c.relname)
  FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid
 WHERE c.relnamespace = current_schema()::regnamespace AND c.relname = ANY ($3) AND NOT i.indisvalid
 UNION ALL
SELECT format('table %I has no trigger group_moved, or it is disabled', c.relname)
  FROM pg_class c
 WHERE c.relnamespace = current_schema()::regnamespace AND c.relname = 'groups'
   AND NOT EXISTS (SELECT FROM pg_trigger t
                    WHERE t.tgrelid = c.oid AND t.tgname = 'group_moved' AND t.tgenabled IN ('O', 'A'))
 ORDER BY 1 LIMIT 1";

/// `None` when the schema is exactly the one this program was built with, and all of it that a restore makes last is there.
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
    if let Some(mismatch) = compare(&applied) {
        return Ok(Some(mismatch));
    }
    let names: Vec<&str> = rights::table_names().collect();
    let query = sqlx::query_scalar(UNMADE).bind(names).bind(&KEYLESS[..]).bind(&PARTITIONED_INDEXES[..]);
    let unmade: Option<String> = query.fetch_optional(conn).await?;
    Ok(unmade.map(Mismatch::Unfinished))
}

fn compare(applied: &[(i64, Vec<u8>, bool)]) -> Option<Mismatch> {
    let ours = |version: i64| MIGRATOR.iter().find(|migration| migration.version == version);
    let (last, _) = newest_migration();
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

/// The row is read as text: the id is compared and shown, nothing else.
const DATABASE_ID: &str = "SELECT database_id::text FROM database_identity";

/// The migration that makes the table of the id.
const IDENTITY_MIGRATION: i64 = 7;

const IDENTITY_TABLE: &str =
    "SELECT to_regclass(quote_ident(current_schema()) || '.database_identity') IS NOT NULL";

/// The id of a database with our schema; none where its table or its row is missing.
///
/// # Errors
/// A statement that fails.
pub async fn database_id(conn: &mut PgConnection) -> Result<Option<String>, StoreError> {
    let exists: bool = sqlx::query_scalar(IDENTITY_TABLE).fetch_one(&mut *conn).await?;
    if !exists {
        return Ok(None);
    }
    Ok(sqlx::query_scalar(DATABASE_ID).fetch_optional(conn).await?)
}

/// Fails at once where the ledger is locked, instead of waiting in a session that a client which gives up would leave
/// behind. Two statements in one message are one transaction, which `LOCK TABLE` needs.
const LEDGER_IS_FREE: &str = "SELECT; LOCK TABLE ledger IN ACCESS SHARE MODE NOWAIT";

/// Readies a database that is known to be ours for entries: moves the sequence of positions behind the newest entry.
///
/// # Errors
/// A ledger that another session has locked; a statement that fails.
pub async fn make_ready(conn: &mut PgConnection) -> Result<(), StoreError> {
    conn.execute(LEDGER_IS_FREE).await?;
    Ok(feed::advance(conn).await?)
}

/// Brings an empty or older schema up to date, with partitions for the next weeks; answers how many migrations that took.
/// Safe to run twice, and by two at once: the migrator holds an advisory lock.
///
/// # Errors
/// A database of another application, or one that a newer program has migrated; a migration that fails.
pub async fn migrate(database: &Database) -> Result<usize, StoreError> {
    let mut conn = database.connect().await?;
    let missing = match check(&mut conn).await? {
        None => 0,
        Some(Mismatch::Behind(missing, _)) => missing,
        Some(other) => return Err(StoreError::Schema(other)),
    };
    if missing > 0 {
        MIGRATOR.run(&mut conn).await?;
    }
    restore_identity(&mut conn).await?;
    partitions::make_ahead_or_warn(&mut conn).await;
    if lacks_statistics(&mut conn).await? {
        analyze(&mut conn).await?;
    }
    Ok(missing)
}

/// True where a table has rows and the planner knows nothing of them: a restore or an upgrade of the server brings none.
const LACKS_STATISTICS: &str = "
SELECT EXISTS (SELECT FROM pg_class c
                WHERE c.relnamespace = current_schema()::regnamespace
                  AND (c.relname = ANY ($1)
                       OR c.oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = to_regclass('ledger_people')))
                  AND pg_relation_size(c.oid) > 0
                  AND NOT EXISTS (SELECT FROM pg_stats s
                                   WHERE s.schemaname = current_schema() AND s.tablename = c.relname))";

async fn lacks_statistics(conn: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let mirror = tables().map(|table| table.table).to_vec();
    sqlx::query_scalar(LACKS_STATISTICS).bind(mirror).fetch_one(conn).await
}

/// Gathers the planner's statistics of the ledger with its index of people, the mirror and what passes keep beside it:
/// without them, until the server does so by itself, a plan rests on guesses. A role that does not own the tables may not,
/// which is a warning of the server.
///
/// # Errors
/// The statement's.
pub async fn analyze(conn: &mut PgConnection) -> Result<(), sqlx::Error> {
    let names = tables().map(|table| table.table).join(", ");
    let passes = "ledger_people, group_reads, group_read_digests, group_verifications, group_work";
    conn.execute(AssertSqlSafe(format!("ANALYZE ledger, {names}, {passes}"))).await.map(drop)
}

/// Writes a new id where the table or its row is missing: after `replay` has made the tables anew, or after a restore of
/// the ledger alone. It is another id than before on purpose, so that the spool of a data directory waits for a person.
async fn restore_identity(conn: &mut PgConnection) -> Result<(), StoreError> {
    if database_id(conn).await?.is_some() {
        return Ok(());
    }
    let exists: bool = sqlx::query_scalar(IDENTITY_TABLE).fetch_one(&mut *conn).await?;
    if exists {
        conn.execute("INSERT INTO database_identity DEFAULT VALUES").await?;
    } else if let Some(migration) = MIGRATOR.iter().find(|migration| migration.version == IDENTITY_MIGRATION)
    {
        conn.execute(migration.sql.clone()).await?;
    }
    tracing::warn!(
        "the database had lost its id and has a new one; a data directory that knows the old one needs `serve --adopt-database`"
    );
    Ok(())
}
