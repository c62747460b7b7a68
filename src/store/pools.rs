//! The pools of connections, with what each session asks of the server.
//!
//! Writers, lists and lookups have pools of their own, so that slow lists hold up neither writes nor the read of one
//! thing by its id. Nothing here knows what a statement means.

use std::str::FromStr as _;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};
use tokio::sync::watch;

use super::errors::StoreError;
use super::given_up::GivenUp;
use super::transaction::Tx;

/// Connections for writing: one per lane of the writer, and a few for replay and the probe.
const WRITER_CONNECTIONS_MAX: u32 = 8;

/// Connections for lists, and for lookups: reads of one thing by its id. Few enough that readers leave the writers their share of
/// the processor, and apart, so that slow lists do not hold up the rest. With the writers' far below the 100 that PostgreSQL
/// allows by default, so that several replicas and a person with `psql` fit.
const READER_CONNECTIONS_MAX: u32 = 12;
const LOOKUP_CONNECTIONS_MAX: u32 = 4;

/// How long a connection may have been idle to be used without asking whether it is still there.
const FRESH: Duration = Duration::from_secs(1);

/// How long a caller waits for a connection of the pool. Below the answer budget of a callback.
const ACQUIRE_WAIT_MAX: Duration = Duration::from_millis(1000);

/// How long a connection made outside the pools may take.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(5);

/// What a writing session asks of the server. A statement that waits longer than the answer budget is of no use; a
/// frozen replica must not hold locks for longer than that either. A batch that waits for a lock fails before its
/// connection is dropped, after which the server would go on waiting and keep what the batch has locked.
const WRITER_SETTINGS: [(&str, &str); 3] =
    [("statement_timeout", "10s"), ("lock_timeout", "2s"), ("idle_in_transaction_session_timeout", "10s")];

/// How long a statement of a writing transaction waits for a lock, unless its caller asks for less.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(2);

/// How long one read may take, in seconds: far longer than any page that an index serves, and short enough that a few
/// which none serves do not take all connections away.
pub const READ_SECS_MAX: u32 = 5;

/// What a reading session asks of the server.
const READER_SETTINGS: [(&str, &str); 2] = [
    ("default_transaction_read_only", "on"),
    // Reads touch a page of rows; compiling them took longer than running them.
    ("jit", "off"),
];

/// Lists are planned for the values at hand, because one statement serves every combination of filters; a lookup
/// is planned once, because planning takes several times as long as running it.
const PLANS_OF_LISTS: &str = "force_custom_plan";
const PLANS_OF_LOOKUPS: &str = "force_generic_plan";

/// A server may be set to answer before it has written; this service may not.
const DURABLE_COMMITS: &str = "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'";

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

/// Warns of parameters that the driver ignores. Its own warning quotes the value, which may be a secret, and is muted.
fn warn_of_unknown_parameters(url: &str) {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    for (name, _) in form_urlencoded::parse(query.as_bytes()) {
        if !URL_PARAMETERS.contains(&&*name) && !name.starts_with("options[") {
            tracing::warn!("DATABASE_URL: the parameter {name:?} is not known here and does nothing");
        }
    }
}

/// The pools of the service. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Database {
    options: PgConnectOptions,
    writer: PgPool,
    reader: PgPool,
    lookup: PgPool,
    /// How many transactions were committed by this process.
    commits: watch::Sender<u64>,
    pub(super) given_up: GivenUp,
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
                .test_before_acquire(false)
                .before_acquire(|conn, meta| {
                    Box::pin(async move {
                        if meta.idle_for > FRESH {
                            conn.ping().await?;
                        }
                        Ok(true)
                    })
                })
        };
        let writer = pool(WRITER_CONNECTIONS_MAX)
            .after_connect(|conn, _| Box::pin(async move { conn.execute(DURABLE_COMMITS).await.map(drop) }))
            .connect_lazy_with(options.clone().options(WRITER_SETTINGS));
        let reading = |connections, plans| {
            let options = options.clone().options(READER_SETTINGS).options([("plan_cache_mode", plans)]);
            let options = options.options([("statement_timeout", format!("{READ_SECS_MAX}s"))]);
            pool(connections).connect_lazy_with(options)
        };
        let reader = reading(READER_CONNECTIONS_MAX, PLANS_OF_LISTS);
        let lookup = reading(LOOKUP_CONNECTIONS_MAX, PLANS_OF_LOOKUPS);
        Ok(Self {
            options,
            writer,
            reader,
            lookup,
            commits: watch::Sender::new(0),
            given_up: GivenUp::default(),
        })
    }

    /// The pool for lists: read-only sessions with a statement timeout.
    #[must_use]
    pub fn reader(&self) -> &PgPool {
        &self.reader
    }

    /// The pool for lookups: the same, with generic plans, because their plan does not depend on the values.
    #[must_use]
    pub fn lookup(&self) -> &PgPool {
        &self.lookup
    }

    /// Changes whenever this process has committed something.
    #[must_use]
    pub fn commits(&self) -> watch::Receiver<u64> {
        self.commits.subscribe()
    }

    /// A connection outside the pools, without their time limits: for migrations, replay and the first check, where
    /// the cause of a failure must be reported.
    ///
    /// # Errors
    /// No server, no such database, wrong password; or a server older than PostgreSQL 15.
    pub async fn connect(&self) -> Result<PgConnection, StoreError> {
        let connecting = PgConnection::connect_with(&self.options);
        let mut conn = tokio::time::timeout(CONNECT_WAIT_MAX, connecting)
            .await
            .map_err(|_| StoreError::ConnectTimeout(CONNECT_WAIT_MAX.as_secs()))?
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

    /// Connections of a pool, by name, and how many of them are idle.
    #[must_use]
    pub fn connections(&self) -> [(&'static str, u32, usize); 3] {
        [("writer", &self.writer), ("reader", &self.reader), ("lookup", &self.lookup)]
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
        self.begin_within(name, LOCK_WAIT_MAX).await
    }

    /// The same with another limit for each wait for a lock.
    ///
    /// # Errors
    /// No connection in time.
    pub async fn begin_within(&self, name: &'static str, lock_max: Duration) -> Result<Tx, sqlx::Error> {
        let conn = self.writer.acquire().await?;
        Tx::writing(conn, name, self.commits.clone(), (self.given_up.clone(), lock_max)).await
    }

    /// Begins to read one moment of the database for as long as it takes, without blocking a writer.
    ///
    /// # Errors
    /// No connection in time.
    pub async fn snapshot(&self) -> Result<Tx, sqlx::Error> {
        Tx::reading(self.reader.acquire().await?, Duration::ZERO).await
    }

    /// Closes the pools, after what is running.
    pub async fn close(&self) {
        tokio::join!(self.writer.close(), self.reader.close(), self.lookup.close());
    }
}
