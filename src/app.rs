//! The composition root: lock → listeners → database → schema → writer → serving, and the way down in reverse.
//!
//! The only place that knows all others. A test starts the same thing on port 0 by [`start`].

mod openapi;
mod replay;
mod simulate;

pub use openapi::openapi;
pub use replay::replay;
pub use simulate::simulate;

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{Config, DatabaseChoice, ServeConfig, Settings};
use crate::embedded::{Embedded, Programs};
use crate::http::api::{self, ApiState};
use crate::http::callback::{self, CallbackState, Reading};
use crate::http::counting::Counting;
use crate::http::feed::Feed;
use crate::http::health::{self, HealthState};
use crate::http::{self, API_CONNECTIONS_MAX, CALLBACK_CONNECTIONS_MAX, auth::ApiAuth};
use crate::ingest::past::Past;
use crate::ingest::{Writer, volume};
use crate::store::changes;
use crate::store::schema::{self, Mismatch};
use crate::store::{Database, StoreError};
use crate::telemetry;

/// How often the schema is compared with the program's: a migration by another hand is noticed within this time.
const SCHEMA_CHECK_PERIOD: Duration = Duration::from_secs(5);

/// The same while they do not agree, or the database has not answered yet: somebody waits for it.
const TROUBLE_CHECK_PERIOD: Duration = Duration::from_millis(500);

/// How long a stop waits for the connections to the database to end. One that stalls never does.
const CLOSE_WAIT_MAX: Duration = Duration::from_secs(5);

/// How long one comparison may take, connecting included.
const SCHEMA_CHECK_WAIT_MAX: Duration = Duration::from_secs(10);

/// A service that runs.
#[derive(Debug)]
pub struct Running {
    /// Where callbacks are taken.
    pub callback_addr: SocketAddr,
    /// Where the mirror is read.
    pub api_addr: SocketAddr,
    database: Database,
    writer: Writer,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Running {
    /// Resolves when the service cannot go on by itself.
    pub async fn broken(&self) {
        self.writer.ended().await;
    }

    /// Stops accepting, finishes what is open, makes durable what waits, closes the pools; in this order.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.wait().await;
        self.writer.close().await;
        if tokio::time::timeout(CLOSE_WAIT_MAX, self.database.close()).await.is_err() {
            tracing::warn!("the database does not let go of its connections; they are dropped");
        }
    }
}

/// `serve`: runs until SIGINT or SIGTERM.
///
/// # Errors
/// A bad setting, an occupied port or directory, a database that cannot be used; one line each.
pub async fn serve(settings: &Settings) -> anyhow::Result<ExitCode> {
    let (config, serving) = (settings.config(), settings.serve_config()?);
    let signals = Signals::new()?;
    if rlimit::increase_nofile_limit(http::DESCRIPTORS).is_ok_and(|got| got < http::DESCRIPTORS) {
        tracing::warn!(
            "this process may not have {} open files; many followers will wait",
            http::DESCRIPTORS
        );
    }
    let _lock = lock_data_dir(&config.data_dir)?;
    let listeners = bind(&serving).await?;
    let (database, embedded) = open_database(&config).await?;
    if embedded.is_some() {
        schema::migrate(&database).await?;
    }
    let running = start(&serving, database, listeners).await?;
    announce(&running, &serving, &config, embedded.as_ref());
    let code = tokio::select! {
        () = signals.nth(1) => ExitCode::SUCCESS,
        () = running.broken() => {
            tracing::error!("the writer ended by itself; stopping");
            ExitCode::from(2)
        }
    };
    tracing::info!("stopping; a second signal stops at once");
    tokio::select! {
        () = running.stop() => {}
        () = signals.nth(2) => tracing::warn!("stopped with requests open"),
    }
    stop_embedded(embedded).await?;
    Ok(code)
}

/// `migrate`: brings the schema up to date.
///
/// # Errors
/// A database that cannot be used, or that is another application's.
pub async fn migrate(config: &Config) -> anyhow::Result<ExitCode> {
    let (database, embedded) = open_database(config).await?;
    let done = schema::migrate(&database).await;
    database.close().await;
    stop_embedded(embedded).await?;
    match done? {
        0 => tracing::info!("the schema is up to date"),
        count => tracing::info!("{count} migrations applied; the schema is up to date"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Starts everything on listeners that are bound already.
///
/// # Errors
/// A database that cannot be reached, or that is another application's.
pub async fn start(
    serving: &ServeConfig,
    database: Database,
    (callbacks, api): (TcpListener, TcpListener),
) -> anyhow::Result<Running> {
    let (trouble_in, trouble) = watch::channel(first_check(&database).await?);
    let metrics = telemetry::start_metrics()?;
    if let Some(kind) = volume::forgetful_volume(&serving.spool.dir) {
        tracing::warn!(
            "DATA_DIR: {} is on {kind}, which a restart of the machine empties; the spool is as durable as its volume",
            serving.spool.dir.display()
        );
    }
    let writer = Writer::start(&database, &serving.spool, trouble.clone())
        .with_context(|| format!("DATA_DIR: {}", serving.spool.dir.display()))?;
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let health = HealthState { database: database.clone(), trouble: trouble.clone(), writer: writer.clone() };
    let public = callback::router(CallbackState {
        gate: Arc::new(serving.gate.clone()),
        avchatroom_members: serving.avchatroom_members,
        writer: writer.clone(),
        reading: Reading::default(),
    })
    .merge(health::router(health.clone()));
    let feed = Feed::new(database.clone(), trouble.clone(), stop.clone());
    let reads = ApiState {
        feed: feed.clone(),
        counting: Counting::new(database.clone(), stop.clone()),
        spool: writer.watch_spool(),
        database: database.clone(),
        trouble,
        app: serving.gate.app,
        auth: Arc::clone(&serving.api_auth),
        past: Past::default(),
    };
    let internal = api::internal(reads, metrics.clone(), health);
    let running = Running {
        callback_addr: callbacks.local_addr()?,
        api_addr: api.local_addr()?,
        database,
        writer,
        stop,
        tasks,
    };
    let stop = &running.stop;
    running.tasks.spawn(http::serve(callbacks, CALLBACK_CONNECTIONS_MAX, public, stop.clone()));
    running.tasks.spawn(http::serve(api, API_CONNECTIONS_MAX, internal, stop.clone()));
    running.tasks.spawn(telemetry::keep_up(metrics, gauges(&running, feed.clone()), stop.clone()));
    running.tasks.spawn(feed.run());
    running.tasks.spawn(watch_schema(running.database.clone(), trouble_in, stop.clone()));
    running.tasks.close();
    Ok(running)
}

/// Reads off what is a state, not an event.
fn gauges(running: &Running, feed: Feed) -> impl Fn() + use<> {
    let (writer, database) = (running.writer.clone(), running.database.clone());
    move || {
        let spool = writer.spool();
        let age_ms = spool.oldest.map_or(0, |oldest| (callback::now().get() - oldest.get()).max(0));
        #[expect(clippy::cast_precision_loss, reason = "nobody counts to 2^53 here")]
        for (name, value) in [
            ("group_mirror_spool_depth", spool.depth as f64),
            ("group_mirror_spool_bytes", spool.bytes as f64),
            ("group_mirror_spool_oldest_age_seconds", age_ms as f64 / 1000.0),
            ("group_mirror_followers", feed.follower_count() as f64),
            ("group_mirror_away", f64::from(u8::from(writer.is_away()))),
        ] {
            metrics::gauge!(name).set(value);
        }
        for (pool, open, idle) in database.connections() {
            let idle = u32::try_from(idle).unwrap_or(u32::MAX);
            let of =
                |state| metrics::gauge!("group_mirror_pool_connections", "pool" => pool, "state" => state);
            of("idle").set(f64::from(idle));
            of("used").set(f64::from(open.saturating_sub(idle)));
        }
    }
}

/// Both listeners, before anything slow is begun.
///
/// # Errors
/// An occupied port, or an address that is not this machine's.
pub async fn bind(serving: &ServeConfig) -> anyhow::Result<(TcpListener, TcpListener)> {
    let bind = async |name: &str, addr: SocketAddr| {
        TcpListener::bind(addr).await.with_context(|| format!("{name}: cannot listen on {addr}"))
    };
    Ok((
        bind("CALLBACK_LISTEN", serving.callback_listen).await?,
        bind("API_LISTEN", serving.api_listen).await?,
    ))
}

/// Why callbacks go to the spool for now, if they do. A database that could be ours a little later is waited for; one
/// that will not be without somebody's help ends the start.
async fn first_check(database: &Database) -> anyhow::Result<Option<String>> {
    let trouble = match check(database).await {
        Ok(None) => return Ok(None),
        Ok(Some(foreign @ Mismatch::Foreign(_))) => return Err(StoreError::Schema(foreign).into()),
        Ok(Some(mismatch)) => mismatch.to_string(),
        Err(error) if error.is_passing() => error.to_string(),
        Err(error) => return Err(error.into()),
    };
    tracing::error!("{trouble}; until then callbacks go to the spool and reads are answered with 503");
    Ok(Some(trouble))
}

async fn check(database: &Database) -> Result<Option<Mismatch>, StoreError> {
    let mut conn = database.connect().await?;
    let mismatch = schema::check(&mut conn).await?;
    if mismatch.is_none() {
        changes::advance(&mut conn).await?;
    }
    let _ = sqlx::Connection::close(conn).await;
    Ok(mismatch)
}

/// Notices when schema and program begin or cease to agree. A database that does not answer changes nothing here.
async fn watch_schema(database: Database, trouble: watch::Sender<Option<String>>, stop: CancellationToken) {
    loop {
        let period = if trouble.borrow().is_some() { TROUBLE_CHECK_PERIOD } else { SCHEMA_CHECK_PERIOD };
        if stop.run_until_cancelled(tokio::time::sleep(period)).await.is_none() {
            return;
        }
        // Bounded, and given up at a stop: a server that takes the connection and then stalls would hold up both.
        let checking = tokio::time::timeout(SCHEMA_CHECK_WAIT_MAX, check(&database));
        let Some(checked) = stop.run_until_cancelled(checking).await else { return };
        let Ok(Ok(mismatch)) = checked else { continue };
        let mismatch = mismatch.map(|mismatch| mismatch.to_string());
        trouble.send_if_modified(|known| {
            let changed = *known != mismatch;
            if changed {
                match &mismatch {
                    Some(mismatch) => tracing::error!("{mismatch}"),
                    None => tracing::info!("the schema fits; serving"),
                }
                *known = mismatch;
            }
            changed
        });
    }
}

async fn open_database(config: &Config) -> anyhow::Result<(Database, Option<Embedded>)> {
    match &config.database {
        DatabaseChoice::Url(url) => Ok((Database::new(url)?, None)),
        DatabaseChoice::Embedded => {
            std::fs::create_dir_all(&config.data_dir)
                .with_context(|| format!("DATA_DIR: cannot make {}", config.data_dir.display()))?;
            let dir = config.data_dir.join("postgres");
            let programs = Programs { bin_dir: config.pg_bin_dir.clone(), path: config.path.clone() };
            let embedded = tokio::task::spawn_blocking(move || Embedded::start(&dir, &programs)).await??;
            Ok((Database::new(embedded.url())?, Some(embedded)))
        }
    }
}

async fn stop_embedded(embedded: Option<Embedded>) -> anyhow::Result<()> {
    if let Some(embedded) = embedded {
        tokio::task::spawn_blocking(move || embedded.stop()).await?;
    }
    Ok(())
}

/// Held for the life of the process; the system gives it back however that ends.
fn lock_data_dir(dir: &Path) -> anyhow::Result<File> {
    std::fs::create_dir_all(dir).with_context(|| format!("DATA_DIR: cannot make {}", dir.display()))?;
    let path = dir.join("serve.lock");
    let file = File::create(&path).with_context(|| format!("DATA_DIR: cannot write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            bail!("DATA_DIR: another `serve` uses {}; give each its own directory", dir.display())
        }
        Err(std::fs::TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("DATA_DIR: cannot lock {}", path.display()))
        }
    }
}

/// What runs, where, and what to try next.
fn announce(running: &Running, serving: &ServeConfig, config: &Config, embedded: Option<&Embedded>) {
    match embedded {
        Some(embedded) => {
            tracing::info!(
                "database: a private PostgreSQL in {}; {}",
                config.data_dir.display(),
                embedded.psql_line()
            );
        }
        None => tracing::info!("database: the one of DATABASE_URL"),
    }
    let signed = if serving.gate.tokens.is_empty() { "unsigned ones too" } else { "signed" };
    tracing::info!(
        "callbacks of app {} ({signed}): http://{}/callback",
        serving.gate.app,
        running.callback_addr
    );
    let auth = if matches!(*serving.api_auth, ApiAuth::None) { "open on loopback" } else { "bearer token" };
    tracing::info!("read API ({auth}): http://{}/v1/groups", running.api_addr);
    if serving.gate.tokens.is_empty() {
        tracing::info!(
            "try: curl 'http://{}/callback?SdkAppid={}&CallbackCommand=Group.CallbackAfterCreateGroup' -d \
             '{{\"CallbackCommand\":\"Group.CallbackAfterCreateGroup\",\"GroupId\":\"first\",\"Type\":\"Public\",\
             \"Name\":\"First\",\"Owner_Account\":\"ana\",\"MemberList\":[]}}' && curl http://{}/v1/groups/first",
            running.callback_addr,
            serving.gate.app,
            running.api_addr
        );
        tracing::info!(
            "or: group-mirror simulate --callback-url http://{} --api-url http://{} --verify",
            running.callback_addr,
            running.api_addr
        );
    }
}

/// SIGINT and SIGTERM, caught from the beginning, so that none is lost while starting.
struct Signals(watch::Receiver<u32>);

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let (count, seen) = watch::channel(0);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                count.send_modify(|count| *count += 1);
            }
        });
        Ok(Self(seen))
    }

    /// Resolves when as many signals have come since the beginning.
    async fn nth(&self, wanted: u32) {
        let _ = self.0.clone().wait_for(|count| *count >= wanted).await;
    }
}
