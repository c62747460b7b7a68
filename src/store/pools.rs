//! The connection pools, and which of the hosts of `DATABASE_URL` they lead to.
//!
//! Writers, lists, lookups and the feed have pools of their own, so that slow lists hold up neither writes, nor the read
//! of one thing by its id, nor a follower; the reader of the feed has an [`OwnSession`] outside of them. Of several hosts the pools use the one that takes writes: [`Database::connect`] looks for it, and the
//! watch of the schema and the probe of the circuit breaker connect that way every few seconds. Nothing here knows what a
//! statement means.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use tokio::sync::watch;
use tokio::time::timeout;

use super::errors::StoreError;
use super::given_up::GivenUp;
use super::rights::Rights;
use super::session::{self, SessionSettings};
use super::transaction::Tx;
use super::unusable::Unusable;
use super::url;

/// Connections for writing: one per lane of the writer, and a few for replay and the probe.
const WRITER_CONNECTIONS_MAX: u32 = 8;

/// Connections for lists, and for lookups: reads of one thing by its id. Few enough that readers leave the writers their share of
/// the processor, and apart, so that slow lists do not hold up the rest. With the writers' far below the 100 that PostgreSQL
/// allows by default, so that several replicas and a person with `psql` fit.
const READER_CONNECTIONS_MAX: u32 = 12;
const LOOKUP_CONNECTIONS_MAX: u32 = 4;

/// Connections for pages of the feed, and for followers that are behind.
pub const FEED_CONNECTIONS_MAX: u32 = 4;

/// How long a connection may have been idle to be used without a ping first.
const FRESH: Duration = Duration::from_secs(1);

/// How long a caller waits for a connection of the pool. Below the answer budget of a callback.
const ACQUIRE_WAIT_MAX: Duration = Duration::from_millis(1000);

/// How long a connection made outside the pools may take; the same for each of several hosts, of which a dead one must not
/// use up the time of the next.
const CONNECT_WAIT_MAX: Duration = Duration::from_secs(5);
const HOST_WAIT_MAX: Duration = Duration::from_secs(2);

/// How long a statement of a writing transaction waits for a lock, unless its caller asks for less.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(2);

/// True where the server would take a callback: neither a standby nor switched to read-only, which some providers do when
/// the disk is full, and with the right to write the ledger, if there is one.
const TAKES_CALLBACKS: &str = "
SELECT current_setting('transaction_read_only') = 'off'
   AND COALESCE(has_table_privilege(to_regclass('ledger'), 'INSERT'), true)";

/// The pools of the service. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Database {
    hosts: Arc<Hosts>,
    writer: PgPool,
    reader: PgPool,
    lookup: PgPool,
    feed: PgPool,
    /// How many transactions were committed by this process.
    commits: watch::Sender<u64>,
    rights: Rights,
    pub(super) given_up: GivenUp,
}

/// The hosts of the URL, and the one in use.
#[derive(Debug)]
struct Hosts {
    all: Vec<PgConnectOptions>,
    used: Mutex<UsedHost>,
}

#[derive(Debug, Clone, Copy)]
struct UsedHost {
    index: usize,
    /// Connections that are older lead elsewhere.
    since: Instant,
    /// Whether each connection is known to have a session of its own there.
    sessions_checked: bool,
}

impl Hosts {
    fn used(&self) -> UsedHost {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, used: UsedHost) {
        assert!(used.index < self.all.len(), "the used host is one of the URL's");
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = used;
    }

    fn are_several(&self) -> bool {
        self.all.len() > 1
    }

    /// Pools are made of this: what they need of the server is set when a connection is made.
    fn pool(self: &Arc<Self>, connections: u32, settings: SessionSettings) -> PgPool {
        let (hosts, settings, refuse_standby) = (Arc::clone(self), Arc::new(settings), self.are_several());
        let options = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(ACQUIRE_WAIT_MAX)
            .acquire_slow_threshold(ACQUIRE_WAIT_MAX)
            .test_before_acquire(false)
            .after_connect(move |conn, _| {
                let settings = Arc::clone(&settings);
                Box::pin(async move { session::prepare(conn, &settings, refuse_standby).await })
            })
            .before_acquire(move |conn, meta| {
                let left_behind = meta.age > hosts.used().since.elapsed();
                Box::pin(async move {
                    if !left_behind && meta.idle_for > FRESH {
                        conn.ping().await?;
                    }
                    Ok(!left_behind)
                })
            });
        options.connect_lazy_with(self.all[self.used().index].clone())
    }
}

impl Database {
    /// Pools that connect when they are needed; nothing is sent yet.
    ///
    /// # Errors
    /// A URL that cannot be read.
    pub fn new(url: &str) -> Result<Self, StoreError> {
        let all = url::parse(url)?;
        let used = UsedHost { index: 0, since: Instant::now(), sessions_checked: false };
        let hosts = Arc::new(Hosts { all, used: Mutex::new(used) });
        let writer = hosts.pool(WRITER_CONNECTIONS_MAX, session::writing());
        let reader = hosts.pool(READER_CONNECTIONS_MAX, session::reading("force_custom_plan"));
        let lookup = hosts.pool(LOOKUP_CONNECTIONS_MAX, session::reading("force_generic_plan"));
        let feed = hosts.pool(FEED_CONNECTIONS_MAX, session::feed());
        Ok(Self {
            hosts,
            writer,
            reader,
            lookup,
            feed,
            commits: watch::Sender::new(0),
            rights: Rights::default(),
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

    /// The pool for pages of the feed and for followers that are behind, apart from that for lists.
    #[must_use]
    pub fn feed(&self) -> &PgPool {
        &self.feed
    }

    /// A session for the reader of the feed alone, with the host in use.
    ///
    /// # Errors
    /// No server, or no answer in [`CONNECT_WAIT_MAX`]; a standby, where there are several hosts.
    pub async fn own_session(&self) -> Result<OwnSession, sqlx::Error> {
        let (made, used) = (Instant::now(), self.hosts.used());
        let options = &self.hosts.all[used.index];
        let opening = async {
            let mut conn = PgConnection::connect_with(options).await?;
            session::prepare(&mut conn, &session::following(), self.hosts.are_several()).await?;
            Ok(OwnSession { conn, made, hosts: Arc::clone(&self.hosts) })
        };
        let opened = timeout(CONNECT_WAIT_MAX, opening).await;
        opened.unwrap_or_else(|late| Err(sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, late))))
    }

    /// What the role may do, as last found.
    #[must_use]
    pub fn rights(&self) -> &Rights {
        &self.rights
    }

    /// Changes whenever this process has committed something.
    #[must_use]
    pub fn commits(&self) -> watch::Receiver<u64> {
        self.commits.subscribe()
    }

    /// A connection outside the pools, without their time limits: for migrations, replay and the check of the schema,
    /// where the cause of a failure must be reported. Of several hosts to the one that takes writes, first the one in
    /// use, then in the order of the URL; the pools move there. Where none takes writes, to the first that answers.
    ///
    /// # Errors
    /// No server, no such database, wrong password; a server older than PostgreSQL 15, a database that is not in UTF8, a
    /// pooler in transaction mode.
    pub async fn connect(&self) -> Result<PgConnection, StoreError> {
        let used = self.hosts.used().index;
        let others = (0..self.hosts.all.len()).filter(|index| *index != used);
        let (mut read_only, mut failures) = (None, Vec::new());
        for index in [used].into_iter().chain(others) {
            match self.open(index).await {
                Ok((conn, takes_writes)) if takes_writes || !self.hosts.are_several() => {
                    self.use_host(index);
                    return Ok(conn);
                }
                Ok((conn, _)) => read_only = read_only.or(Some(conn)),
                Err(error) => failures.push(error),
            }
        }
        if let Some(conn) = read_only {
            return Ok(conn);
        }
        // A host that may come back matters more than one that has to be set right.
        let first = failures.iter().position(StoreError::is_passing).unwrap_or_default();
        assert!(!failures.is_empty(), "a URL names a host, and each was tried");
        Err(failures.swap_remove(first))
    }

    /// Connects to one host and asks what it is; true where it takes writes.
    async fn open(&self, index: usize) -> Result<(PgConnection, bool), StoreError> {
        let options = &self.hosts.all[index];
        let wait = if self.hosts.are_several() { HOST_WAIT_MAX } else { CONNECT_WAIT_MAX };
        let opening = async {
            let connected = PgConnection::connect_with(options).await;
            let mut conn = connected.map_err(|error| refused(options, error))?;
            let used = self.hosts.used();
            let known = used.sessions_checked && used.index == index;
            let shared = !known
                && session::shares_sessions(&mut conn, options)
                    .await
                    .map_err(|error| refused(options, error))?;
            if shared {
                return Err(Unusable::TransactionPooler.into());
            }
            let facts = session::facts(&mut conn).await?;
            if facts.version_number < 150_000 {
                return Err(StoreError::Version(facts.version));
            }
            if facts.encoding != "UTF8" {
                return Err(Unusable::Encoding(facts.encoding).into());
            }
            Ok((conn, facts.takes_writes))
        };
        let opened = timeout(wait, opening).await;
        opened.unwrap_or_else(|_| Err(StoreError::ConnectTimeout(url::address(options), wait.as_secs())))
    }

    /// Moves the pools to a host. Their connections to another are closed before they are used again.
    fn use_host(&self, index: usize) {
        let used = self.hosts.used();
        if used.index == index && used.sessions_checked {
            return;
        }
        if used.index == index {
            self.hosts.set(UsedHost { sessions_checked: true, ..used });
            return;
        }
        let options = &self.hosts.all[index];
        for pool in [&self.writer, &self.reader, &self.lookup, &self.feed] {
            pool.set_connect_options(options.clone());
        }
        self.hosts.set(UsedHost { index, since: Instant::now(), sessions_checked: true });
        tracing::warn!(
            "the database is now {}: of the hosts of DATABASE_URL it takes writes",
            url::address(options)
        );
    }

    /// Connections of a pool, by name, and how many of them are idle.
    #[must_use]
    pub fn connections(&self) -> [(&'static str, u32, usize); 4] {
        [("writer", &self.writer), ("reader", &self.reader), ("lookup", &self.lookup), ("feed", &self.feed)]
            .map(|(name, pool)| (name, pool.size(), pool.num_idle()))
    }

    /// True when a callback could be committed now, as far as one round trip can tell.
    pub async fn answers(&self) -> bool {
        let probe = sqlx::query_scalar(TAKES_CALLBACKS).fetch_one(&self.writer);
        matches!(timeout(ACQUIRE_WAIT_MAX, probe).await, Ok(Ok(true)))
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
        tokio::join!(self.writer.close(), self.reader.close(), self.lookup.close(), self.feed.close());
    }
}

/// A session of one caller, outside the pools: no other read can take it, and one that stalls is dropped with it.
#[derive(Debug)]
pub struct OwnSession {
    conn: PgConnection,
    made: Instant,
    hosts: Arc<Hosts>,
}

impl OwnSession {
    /// Where its statements run.
    pub fn conn(&mut self) -> &mut PgConnection {
        &mut self.conn
    }

    /// False once another host is in use than the one it leads to.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.made >= self.hosts.used().since
    }
}

/// Why no session began. What a pooler says of a startup parameter becomes the remedy.
fn refused(options: &PgConnectOptions, error: sqlx::Error) -> StoreError {
    let said = error.as_database_error().map(|error| error.message().to_owned()).unwrap_or_default();
    match said.rsplit_once(": ") {
        // PgBouncer names "options" as a whole, or since 1.20 the setting in it.
        Some((begin, parameter)) if begin.contains("unsupported startup parameter") => {
            Unusable::Startup(url::address(options), parameter.to_owned()).into()
        }
        _ => StoreError::Connect { at: url::address(options), source: error },
    }
}
