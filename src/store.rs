//! The database: pools, the schema and whether it is ours, the only place that begins a transaction.
//!
//! Statements stand in the files below this one, one per group of tables; each function takes the connection it works
//! on, and the caller commits. Knows nothing of HTTP and nothing of Tencent's words.

pub mod dump;
pub mod groups;
pub mod history;
pub mod ledger;
pub mod members;
pub mod rebuild;
pub mod rows;
pub mod schema;

use std::str::FromStr as _;
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, Postgres};
use thiserror::Error;

/// Connections for writing: one per lane of the writer, and a few for replay and the probe.
const WRITER_CONNECTIONS_MAX: u32 = 8;

/// Connections for reading. With the writers' far below the 100 that PostgreSQL allows by default, so that three
/// replicas and a person with `psql` fit.
const READER_CONNECTIONS_MAX: u32 = 16;

/// How long a caller waits for a connection of the pool. Below the answer budget of a callback.
const ACQUIRE_WAIT_MAX: Duration = Duration::from_millis(1000);

/// How long a connection made outside the pools may take.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(5);

/// What a writing session asks of the server. A statement that waits longer than the answer budget helps nobody; a
/// frozen replica must not hold locks for longer than that either. A batch that waits for a lock fails before its
/// connection is dropped, after which the server would go on waiting and keep what the batch has locked.
const WRITER_SETTINGS: [(&str, &str); 3] =
    [("statement_timeout", "10s"), ("lock_timeout", "2s"), ("idle_in_transaction_session_timeout", "10s")];

/// What a reading session asks of the server. Plans are made for the values at hand, because one statement serves
/// every combination of filters.
const READER_SETTINGS: [(&str, &str); 4] = [
    ("default_transaction_read_only", "on"),
    ("statement_timeout", "5s"),
    ("plan_cache_mode", "force_custom_plan"),
    // Reads touch a page of rows; compiling them took longer than running them.
    ("jit", "off"),
];

/// A server may be set to answer before it has written; this service may not.
const DURABLE_COMMITS: &str = "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'";

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

/// What the driver takes from the query of a URL, beside `options[…]`.
const URL_PARAMETERS: [&str; 18] = [
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "password",
    "port",
    "ssl-ca",
    "ssl-cert",
    "ssl-key",
    "ssl-mode",
    "ssl-root-cert",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "statement-cache-capacity",
    "user",
];

/// Tells what the driver passes over. Its own warning quotes the value, which may be a secret, and is muted.
fn warn_of_unknown_parameters(url: &str) {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    for (name, _) in form_urlencoded::parse(query.as_bytes()) {
        if !URL_PARAMETERS.contains(&&*name) && !name.starts_with("options[") {
            tracing::warn!("DATABASE_URL: the parameter {name:?} is not known here and does nothing");
        }
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

/// The two pools of the service. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Database {
    options: PgConnectOptions,
    writer: PgPool,
    reader: PgPool,
}

impl Database {
    /// Pools that connect when they are needed; nothing is sent yet.
    ///
    /// # Errors
    /// A URL that is none.
    pub fn new(url: &str) -> Result<Self, StoreError> {
        // The driver would speak to any server that a URL leads to.
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(StoreError::Scheme);
        }
        warn_of_unknown_parameters(url);
        let options = PgConnectOptions::from_str(url)
            .map_err(StoreError::Url)?
            .application_name("group-mirror")
            .log_slow_statements(tracing::log::LevelFilter::Warn, Duration::from_secs(2));
        let pool = |connections| {
            PgPoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(ACQUIRE_WAIT_MAX)
                .acquire_slow_threshold(ACQUIRE_WAIT_MAX)
        };
        let writer = pool(WRITER_CONNECTIONS_MAX)
            .after_connect(|conn, _| Box::pin(async move { conn.execute(DURABLE_COMMITS).await.map(drop) }))
            .connect_lazy_with(options.clone().options(WRITER_SETTINGS));
        let reader = pool(READER_CONNECTIONS_MAX).connect_lazy_with(options.clone().options(READER_SETTINGS));
        Ok(Self { options, writer, reader })
    }

    /// The pool for reads: read-only sessions with a statement timeout.
    #[must_use]
    pub fn reader(&self) -> &PgPool {
        &self.reader
    }

    /// A connection outside the pools, without their time limits: for migrations, replay and the first check, where
    /// the cause of a failure must be told.
    ///
    /// # Errors
    /// No server, no such database, wrong password; or a server older than PostgreSQL 15.
    pub async fn connect(&self) -> Result<PgConnection, StoreError> {
        let connecting = PgConnection::connect_with(&self.options);
        let mut conn = tokio::time::timeout(CONNECT_WAIT_MAX, connecting)
            .await
            .map_err(|_| StoreError::ConnectTimeout)?
            .map_err(StoreError::Connect)?;
        let (number, name): (i32, String) = sqlx::query_as(
            "SELECT current_setting('server_version_num')::int, current_setting('server_version')",
        )
        .fetch_one(&mut conn)
        .await?;
        if number < 150_000 {
            return Err(StoreError::Version(name));
        }
        Ok(conn)
    }

    /// True when the server would take a write now, seen from a connection of its own: the pool's may be dead and not
    /// know it.
    pub async fn is_writable(&self) -> bool {
        let Ok(mut conn) = self.connect().await else { return false };
        let writable = sqlx::query_scalar("SELECT NOT pg_is_in_recovery()").fetch_one(&mut conn).await;
        let _ = conn.close().await;
        matches!(writable, Ok(true))
    }

    /// Connections of a pool, by name, and how many of them are idle: writers, then readers.
    #[must_use]
    pub fn connections(&self) -> [(&'static str, u32, usize); 2] {
        [("writer", &self.writer), ("reader", &self.reader)]
            .map(|(name, pool)| (name, pool.size(), pool.num_idle()))
    }

    /// True when a write could be committed now, as far as one round trip can tell.
    pub async fn answers(&self) -> bool {
        let probe = sqlx::query_scalar("SELECT NOT pg_is_in_recovery()").fetch_one(&self.writer);
        matches!(tokio::time::timeout(ACQUIRE_WAIT_MAX, probe).await, Ok(Ok(true)))
    }

    /// Begins a transaction, the only way to do so. The name is for the metrics.
    ///
    /// # Errors
    /// No connection in time.
    pub async fn begin(&self, name: &'static str) -> Result<Tx, sqlx::Error> {
        let conn = self.writer.acquire().await?;
        let mut tx = Tx { conn, name, begun: Instant::now(), ended: false };
        tx.conn.execute("BEGIN").await?;
        Ok(tx)
    }

    /// Begins to read one moment of the database for as long as it takes, without holding anybody up.
    ///
    /// # Errors
    /// No connection in time.
    pub async fn snapshot(&self) -> Result<Tx, sqlx::Error> {
        Tx::reading(self.reader.acquire().await?, Duration::ZERO).await
    }

    /// Closes both pools, after what is running.
    pub async fn close(&self) {
        tokio::join!(self.writer.close(), self.reader.close());
    }
}

/// A transaction; rolled back unless committed. The crate's own handle cannot be told to close its connection.
#[derive(Debug)]
pub struct Tx {
    conn: PoolConnection<Postgres>,
    name: &'static str,
    begun: Instant,
    ended: bool,
}

impl Tx {
    /// Begins to read one moment of the database on a connection for reading. Each statement may take so long; zero: as
    /// long as it takes.
    ///
    /// # Errors
    /// A lost connection.
    pub async fn reading(
        conn: PoolConnection<Postgres>,
        statement_max: Duration,
    ) -> Result<Self, sqlx::Error> {
        let mut tx = Self { conn, name: "snapshot", begun: Instant::now(), ended: false };
        tx.conn.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let limit = format!("SET LOCAL statement_timeout = {}", statement_max.as_millis());
        tx.conn.execute(AssertSqlSafe(limit)).await?;
        Ok(tx)
    }

    /// The connection it runs on.
    pub fn conn(&mut self) -> &mut PgConnection {
        &mut self.conn
    }

    /// Lifts the time limits of a writing session, for work that is known to take long.
    ///
    /// # Errors
    /// The statement's.
    pub async fn take_time(&mut self) -> Result<(), sqlx::Error> {
        self.conn
            .execute("SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL lock_timeout = 0")
            .await
            .map(drop)
    }

    /// Commits; on an error nobody knows whether it did.
    ///
    /// # Errors
    /// The server's refusal, or a lost connection.
    pub async fn commit(mut self) -> Result<(), sqlx::Error> {
        self.conn.execute("COMMIT").await?;
        self.ended = true;
        metrics::histogram!("group_mirror_transaction_seconds", "name" => self.name)
            .record(self.begun.elapsed());
        Ok(())
    }

    /// Rolls back and keeps the connection, which dropping does not.
    pub async fn roll_back(mut self) {
        self.ended = self.conn.execute("ROLLBACK").await.is_ok();
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        if !self.ended {
            // Given up in the middle, perhaps because the connection stalls: in the pool it would keep a place for as
            // long as it does. The server rolls back when it is gone.
            self.conn.close_on_drop();
        }
    }
}
