//! The connection pools, and which of the hosts of `DATABASE_URL` they lead to.
//!
//! Writers, lists, lookups and the feed have pools of their own, so that slow lists hold up neither writes, nor the read
//! of one thing by its id, nor a follower; the reader of the feed has an [`OwnSession`] outside of them. Of several hosts
//! the pools use the one that takes writes: [`Database::connect`] looks for it, and is called every few seconds.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tokio::sync::watch;
use tokio::time::timeout;

use super::erasures::KnownErasures;
use super::errors::StoreError;
use super::given_up::GivenUp;
use super::hosts::{Hosts, UsedHost};
use super::own_session::OwnSession;
use super::read_pool::ReadPool;
use super::rights::Rights;
use super::session::{self, SessionSettings};
use super::shards::KnownShards;
use super::standby::StandbyReads;
use super::transaction::{ReadTx, Tx};
use super::unusable::Unusable;
use super::url;
use super::writers::{ACQUIRE_WAIT_MAX, Writers};

/// Sessions for writing: one per lane of the writer, and a few for replay and the probe.
const WRITER_CONNECTIONS_MAX: usize = 8;

/// Connections for lists, and for lookups: reads of one thing by its id. Few enough that readers leave the writers their share of
/// the processor, and apart, so that slow lists do not hold up the rest. With the writers' far below the 100 that PostgreSQL
/// allows by default, so that several replicas and a person with `psql` fit.
pub const READER_CONNECTIONS_MAX: u32 = 12;
const LOOKUP_CONNECTIONS_MAX: u32 = 4;

/// Connections for pages of the feed, and for followers that are behind.
pub const FEED_CONNECTIONS_MAX: u32 = 4;

/// Connections of a service beside its pools: the reader of the feed, the watch of the schema with the second connection
/// by which it recognises a pooler, the probe of the circuit breaker.
const OTHER_CONNECTIONS_MAX: usize = 4;

/// All connections that one service may have at the same time.
pub const SERVICE_CONNECTIONS_MAX: usize = WRITER_CONNECTIONS_MAX
    + (READER_CONNECTIONS_MAX + LOOKUP_CONNECTIONS_MAX + FEED_CONNECTIONS_MAX) as usize
    + OTHER_CONNECTIONS_MAX;

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
    writers: Writers,
    reader: ReadPool,
    lookup: ReadPool,
    feed: ReadPool,
    /// Where lists and lookups are read, if not from the primary.
    standby: Option<StandbyReads>,
    /// How many transactions were committed by this process.
    commits: watch::Sender<u64>,
    rights: Rights,
    erasures: KnownErasures,
    shards: KnownShards,
    pub(super) given_up: GivenUp,
}

impl Database {
    /// Pools that connect when they are needed; nothing is sent yet.
    ///
    /// # Errors
    /// A URL that cannot be read.
    pub fn new(url: &str) -> Result<Self, StoreError> {
        Ok(Self::of(Hosts::new(url)?))
    }

    /// Pools of a server that is still being started: nothing connects until [`Database::lead_to`] says where it is.
    #[must_use]
    pub fn unlocated() -> Self {
        Self::of(Hosts::unlocated())
    }

    fn of(hosts: Hosts) -> Self {
        let hosts = Arc::new(hosts);
        let writers = Writers::new(&hosts, WRITER_CONNECTIONS_MAX);
        let reader = ReadPool::new(&hosts, READER_CONNECTIONS_MAX, session::reading("force_custom_plan"));
        let lookup = ReadPool::new(&hosts, LOOKUP_CONNECTIONS_MAX, session::reading("force_generic_plan"));
        let feed = ReadPool::new(&hosts, FEED_CONNECTIONS_MAX, session::feed());
        Self {
            hosts,
            writers,
            reader,
            lookup,
            feed,
            standby: None,
            commits: watch::Sender::new(0),
            rights: Rights::default(),
            erasures: KnownErasures::default(),
            shards: KnownShards::default(),
            given_up: GivenUp::default(),
        }
    }

    /// The same, with lists and lookups from a standby while that can serve them.
    ///
    /// # Errors
    /// A URL that cannot be read.
    pub fn reading_from(mut self, url: &str) -> Result<Self, StoreError> {
        let standby = StandbyReads::new(url)?;
        self.reader = self.reader.reading_from(&standby);
        self.lookup = self.lookup.reading_from(&standby);
        self.standby = Some(standby);
        Ok(self)
    }

    /// The standby for lists and lookups, if there is one.
    #[must_use]
    pub fn standby(&self) -> Option<&StandbyReads> {
        self.standby.as_ref()
    }

    /// Leads the pools of [`Database::unlocated`] to their server, which has one host.
    ///
    /// # Errors
    /// A URL that cannot be read.
    pub fn lead_to(&self, url: &str) -> Result<(), StoreError> {
        let all = url::parse(url)?;
        assert_eq!(all.len(), 1, "a server that was started here has one host");
        for pool in self.read_pools() {
            pool.lead_to(all[0].clone());
        }
        self.hosts.locate(all);
        Ok(())
    }

    /// Resolves when it is known where the server is.
    pub async fn located(&self) {
        self.hosts.located().await;
    }

    /// The pools that keep the address to connect to.
    fn read_pools(&self) -> [&ReadPool; 3] {
        [&self.reader, &self.lookup, &self.feed]
    }

    /// The pool for lists: read-only sessions with a statement timeout.
    #[must_use]
    pub fn reader(&self) -> &ReadPool {
        &self.reader
    }

    /// The pool for lookups: the same, with generic plans, because their plan does not depend on the values.
    #[must_use]
    pub fn lookup(&self) -> &ReadPool {
        &self.lookup
    }

    /// The pool for pages of the feed and for followers that are behind, apart from that for lists.
    #[must_use]
    pub fn feed(&self) -> &ReadPool {
        &self.feed
    }

    /// A session for the reader of the feed alone, with the host in use.
    ///
    /// # Errors
    /// No server, or no answer in [`CONNECT_WAIT_MAX`]; a standby, where there are several hosts.
    pub async fn own_session(&self) -> Result<OwnSession, sqlx::Error> {
        self.session_outside_pools(session::following()).await
    }

    /// A writing session for the outbox of the relay alone, with the host in use. It holds a lock for as long as it lives.
    ///
    /// # Errors
    /// As for [`Database::own_session`].
    pub async fn outbox_session(&self) -> Result<OwnSession, sqlx::Error> {
        self.session_outside_pools(session::writing()).await
    }

    async fn session_outside_pools(&self, settings: SessionSettings) -> Result<OwnSession, sqlx::Error> {
        let made = Instant::now();
        let options = self.hosts.options();
        let opening = async {
            let mut conn = PgConnection::connect_with(&options).await?;
            session::prepare(&mut conn, &settings, self.hosts.are_several()).await?;
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

    /// Who is erased, as last read.
    #[must_use]
    pub fn erasures(&self) -> &KnownErasures {
        &self.erasures
    }

    /// How groups are spread over parts of the tables, as last looked at.
    #[must_use]
    pub fn shards(&self) -> &KnownShards {
        &self.shards
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
        if self.hosts.all().is_empty() {
            return Err(StoreError::NotLocated);
        }
        let others = (0..self.hosts.all().len()).filter(|index| *index != used);
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
        let options = &self.hosts.all()[index];
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
        let options = &self.hosts.all()[index];
        for pool in self.read_pools() {
            pool.lead_to(options.clone());
        }
        self.hosts.set(UsedHost { index, since: Instant::now(), sessions_checked: true });
        tracing::warn!(
            "the database is now {}: of the hosts of DATABASE_URL it takes writes",
            url::address(options)
        );
    }

    /// Closes writing sessions that were not used for long; the reading pools do that by themselves.
    pub fn close_idle_writers(&self) {
        self.writers.close_idle();
    }

    /// Connections of a pool, by name, and how many of them are idle.
    #[must_use]
    pub fn connections(&self) -> [(&'static str, u32, usize); 4] {
        let (size, idle) = self.writers.size();
        let of = |name, pool: &ReadPool| {
            let (size, idle) = pool.size();
            (name, size, idle)
        };
        [
            ("writer", size, idle),
            of("reader", &self.reader),
            of("lookup", &self.lookup),
            of("feed", &self.feed),
        ]
    }

    /// True when a callback could be committed now, as far as one round trip can tell.
    pub async fn answers(&self) -> bool {
        let asking = async {
            let mut session = self.writers.acquire().await?;
            let answer = sqlx::query_scalar(TAKES_CALLBACKS).fetch_one(session.conn()).await;
            session.keep_if(answer.is_ok());
            answer
        };
        matches!(timeout(ACQUIRE_WAIT_MAX, asking).await, Ok(Ok(true)))
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
        let session = self.writers.acquire().await?;
        Tx::begin(session, name, self.commits.clone(), (self.given_up.clone(), lock_max)).await
    }

    /// Begins to read one moment of the database for as long as it takes, without blocking a writer.
    ///
    /// # Errors
    /// No connection in time.
    pub async fn snapshot(&self) -> Result<ReadTx, sqlx::Error> {
        ReadTx::begin(self.reader.acquire().await?, Duration::ZERO).await
    }

    /// Closes the pools: those for reading after what is running, and a writing session when its transaction has ended.
    pub async fn close(&self) {
        self.writers.close();
        tokio::join!(self.reader.close(), self.lookup.close(), self.feed.close());
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
