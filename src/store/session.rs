//! What a session asks of the server: set by a statement after connecting, and read back.
//!
//! Not in the startup packet, because poolers refuse or drop what stands there. A session setting needs a session: a
//! pooler in transaction mode gives each transaction the next free one, so that a time limit would be lost and a
//! read-only reader would make a writer's session read-only. [`shares_sessions`] recognises that.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Connection as _, Row as _};

use super::citus::{Dialect, HAS_CITUS};
use super::unusable::Unusable;

/// How long one read may take, in seconds: far longer than any page that an index serves, and short enough that a few
/// which none serves do not take all connections away.
pub const READ_SECS_MAX: u32 = 5;

/// The setting by which statements are planned once. Citus makes no plan for values that are not known, so a session on a server
/// that has it goes back to [`PLANS_BY_CITUS`].
const PLANNED_ONCE: (&str, &str) = ("plan_cache_mode", "force_generic_plan");

const PLANS_BY_CITUS: &str = "SELECT set_config('plan_cache_mode', 'auto', false)";

/// Name and value of each setting of a session.
pub(super) type SessionSettings = Vec<(&'static str, String)>;

/// How long a statement of a writing session waits for a lock, unless its transaction asks for another limit: what a
/// batch of callbacks may spend on one, so that the hot path needs no statement to set it.
pub const SESSION_LOCK_MAX: Duration = Duration::from_millis(300);

/// What a writing session asks of the server. A statement that waits longer than the answer budget is of no use; a
/// frozen replica must not hold locks for longer than that either. A batch that waits for a lock fails before its
/// connection is dropped, after which the server would go on waiting and keep what the batch has locked. Each statement
/// reads what is committed when it begins, because what is read behind a lock has to be newer than the wait for it; set
/// once, because a level in `BEGIN` costs the server several times as much as `BEGIN` itself. Every statement of a writing
/// session goes by a key (`enable_seqscan`): one that was planned while its table was small would go on to read all of it
/// until the server analyzes the table, and a first backfill fills the tables before that. Nothing is compiled (`jit`): where no
/// key fits, what is planned against `enable_seqscan` counts as so costly that the server compiles it, which takes a hundred
/// milliseconds for one row.
pub(super) fn writing() -> SessionSettings {
    let lock = format!("{}ms", SESSION_LOCK_MAX.as_millis());
    let idle = "10s".to_owned();
    vec![
        ("default_transaction_isolation", "read committed".to_owned()),
        ("statement_timeout", "10s".to_owned()),
        ("lock_timeout", lock),
        ("idle_in_transaction_session_timeout", idle),
        ("enable_seqscan", "off".to_owned()),
        ("jit", "off".to_owned()),
    ]
}

/// What a reading session asks of the server. Lists are planned for the values at hand (`force_custom_plan`), because
/// one statement serves every combination of filters; a lookup is planned once (`force_generic_plan`), because planning
/// takes several times as long as running it.
pub(super) fn reading(plans: &'static str) -> SessionSettings {
    vec![
        ("default_transaction_read_only", "on".to_owned()),
        // Reads touch a page of rows; compiling them took longer than running them.
        ("jit", "off".to_owned()),
        // A read takes one core at most: callbacks need theirs.
        ("max_parallel_workers_per_gather", "0".to_owned()),
        ("plan_cache_mode", plans.to_owned()),
        ("statement_timeout", format!("{READ_SECS_MAX}s")),
    ]
}

/// What a session for the feed asks of the server: as for lookups, because a position says nothing of time, and a plan for the
/// values at hand would open every partition of the ledger with all of its indexes for each page; and that entries are read
/// in the order of the index on their positions, and names of groups by their keys. Without statistics all that one page may search
/// would be sorted for each page, and a plan that was made while there were few groups would go on to read all of them.
pub(super) fn feed() -> SessionSettings {
    let mut settings = reading("force_generic_plan");
    settings.extend([("enable_sort", "off".to_owned()), ("enable_seqscan", "off".to_owned())]);
    settings
}

/// What the session of the feed's reader asks of the server: the same, but that it may note the high watermark, and does
/// not wait for another replica that does.
pub(super) fn following() -> SessionSettings {
    let mut settings = feed();
    settings.retain(|(name, _)| *name != "default_transaction_read_only");
    settings.push(("lock_timeout", format!("{}ms", SESSION_LOCK_MAX.as_millis())));
    settings
}

/// A server may be set to answer before it has written; this service may not. Any other level is kept.
const DURABLE_COMMITS: &str = "set_config('synchronous_commit',
       replace(current_setting('synchronous_commit'), 'off', 'on'), false)";

/// Sets what a session needs and reads it back in a statement of its own; refuses a standby where that is asked. Answers what the
/// server is.
///
/// # Errors
/// A statement's; a setting that did not stay, or a standby.
pub(super) async fn prepare(
    conn: &mut PgConnection,
    settings: &SessionSettings,
    refuse_standby: bool,
) -> Result<Dialect, sqlx::Error> {
    let set: String =
        settings.iter().map(|(name, value)| format!("set_config('{name}', '{value}', false), ")).collect();
    one_row(conn, format!("SELECT {set}{DURABLE_COMMITS}")).await?;
    let read: String = settings.iter().map(|(name, _)| format!(", current_setting('{name}')")).collect();
    let row = one_row(
        conn,
        format!(
            "SELECT pg_is_in_recovery()::text, current_setting('synchronous_commit'), {HAS_CITUS}::text{read}"
        ),
    )
    .await?;
    let read_back = |name: &str, wanted: &str, found: String| {
        let (name, wanted) = (name.to_owned(), wanted.to_owned());
        sqlx::Error::Configuration(Unusable::Setting { name, wanted, found }.into())
    };
    if row.try_get::<String, _>(1)? == "off" {
        return Err(read_back("synchronous_commit", "on", "off".to_owned()));
    }
    for (at, (name, wanted)) in settings.iter().enumerate() {
        let found: String = row.try_get(at + 3)?;
        if found != *wanted {
            return Err(read_back(name, wanted, found));
        }
    }
    let dialect = if row.try_get::<String, _>(2)? == "true" { Dialect::Citus } else { Dialect::Plain };
    let is_planned_once = settings.iter().any(|(name, value)| (*name, value.as_str()) == PLANNED_ONCE);
    if is_planned_once && dialect == Dialect::Citus {
        one_row(conn, PLANS_BY_CITUS.to_owned()).await?;
    }
    if refuse_standby && row.try_get::<String, _>(0)? == "true" {
        return Err(sqlx::Error::Configuration(Unusable::Standby.into()));
    }
    Ok(dialect)
}

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServerFacts {
    pub(super) version_number: i32,
    pub(super) version: String,
    pub(super) encoding: String,
    /// False on a standby, and where `default_transaction_read_only` is on.
    pub(super) takes_writes: bool,
}

/// Asks the server what it is. No prepared statement, which a pooler may not be able to carry.
///
/// # Errors
/// The statement's.
pub(super) async fn facts(conn: &mut PgConnection) -> Result<ServerFacts, sqlx::Error> {
    let row = one_row(
        conn,
        "SELECT current_setting('server_version_num')::int, current_setting('server_version'),
                current_setting('server_encoding'), current_setting('transaction_read_only') = 'off'"
            .to_owned(),
    )
    .await?;
    Ok(ServerFacts {
        version_number: row.try_get(0)?,
        version: row.try_get(1)?,
        encoding: row.try_get(2)?,
        takes_writes: row.try_get(3)?,
    })
}

/// True where a pooler lends the session of one connection to another between two transactions. A second connection
/// opens a transaction, which holds a session: that of the first connection, which is free, or another, and then the
/// first connection meets another one itself when poolers give out what was returned last, or take turns.
///
/// # Errors
/// A statement's, or no second connection.
pub(super) async fn shares_sessions(
    first: &mut PgConnection,
    options: &PgConnectOptions,
) -> Result<bool, sqlx::Error> {
    let mut second = PgConnection::connect_with(options).await?;
    let before = backend(first).await?;
    sqlx::raw_sql("BEGIN READ ONLY").execute(&mut second).await?;
    let lent = backend(&mut second).await?;
    let shared = lent == before || backend(first).await? != before;
    sqlx::raw_sql("ROLLBACK").execute(&mut second).await?;
    let _ = second.close().await;
    Ok(shared)
}

/// The process of the server that runs the statements of a connection.
async fn backend(conn: &mut PgConnection) -> Result<i32, sqlx::Error> {
    one_row(conn, "SELECT pg_backend_pid()".to_owned()).await?.try_get(0)
}

async fn one_row(conn: &mut PgConnection, statement: String) -> Result<PgRow, sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(statement)).fetch_one(conn).await
}
