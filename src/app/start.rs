//! The service put together: writer, receiver, read API, feed, watches; and its orderly stop.
//!
//! Everything is handed in: settings, pools, listeners. A test starts this on port 0.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::gauges::gauges;
use super::schema_watch::{first_check, watch_schema};
use crate::api::health::{self, HealthState};
use crate::api::live::{FOLLOWERS_MAX, LiveFeed};
use crate::api::state::ApiState;
use crate::api::stats_cache::StatsCache;
use crate::clock::ReceiptClock;
use crate::config::ServeConfig;
use crate::ingest::{self, Writer};
use crate::receiver::{self, ReadPermits, ReceiverState};
use crate::replay::as_of::AsOfPermits;
use crate::spool::volume;
use crate::store::Database;
use crate::store::schema::SchemaState;
use crate::{api, server, telemetry};

/// Connections of the public listener at the same time. Each holds a descriptor and a buffer.
const CALLBACK_CONNECTIONS_MAX: usize = 800;

/// Connections of the internal listener, those of followers included.
const API_CONNECTIONS_MAX: usize = FOLLOWERS_MAX + 150;

/// Descriptors that the service asks the system for: those of both listeners, of the pools and of its files. Where it
/// does not get them, accepting waits for connections to end.
pub(super) const DESCRIPTORS: u64 = (CALLBACK_CONNECTIONS_MAX + API_CONNECTIONS_MAX) as u64 + 100;

/// How long a stop waits for the connections to the database to end. One that stalls never does.
const CLOSE_WAIT_MAX: Duration = Duration::from_secs(5);

/// A service that runs.
#[derive(Debug)]
pub struct RunningService {
    /// Where callbacks are taken.
    pub callback_addr: SocketAddr,
    /// Where the mirror is read.
    pub api_addr: SocketAddr,
    database: Database,
    writer: Writer,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl RunningService {
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

/// Starts everything on listeners that are bound already.
///
/// # Errors
/// A database that cannot be reached, or that is another application's.
pub async fn start(
    serving: &ServeConfig,
    database: Database,
    (callbacks, api): (TcpListener, TcpListener),
) -> anyhow::Result<RunningService> {
    let (schema_found, schema) = SchemaState::channel(first_check(&database).await?);
    let metrics = telemetry::start_metrics()?;
    ingest::register_counters();
    if let Some(kind) = volume::forgetful_volume(&serving.spool.dir) {
        tracing::warn!(
            "DATA_DIR: {} is on {kind}, which a restart of the machine empties; the spool is as durable as its volume",
            serving.spool.dir.display()
        );
    }
    let writer = Writer::start(&database, &serving.spool, schema.clone())
        .with_context(|| format!("DATA_DIR: {}", serving.spool.dir.display()))?;
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let health = HealthState { database: database.clone(), schema: schema.clone(), writer: writer.clone() };
    let public = receiver::router(ReceiverState {
        gate: Arc::new(serving.gate.clone()),
        avchatroom_members: serving.avchatroom_members,
        writer: writer.clone(),
        reading: ReadPermits::default(),
        receipts: ReceiptClock::default(),
    })
    .merge(health::router(health.clone()));
    let feed = LiveFeed::new(database.clone(), schema.clone(), stop.clone());
    let reads = ApiState {
        feed: feed.clone(),
        stats_cache: StatsCache::new(database.clone(), stop.clone()),
        spool: writer.watch_spool(),
        database: database.clone(),
        schema,
        app: serving.gate.app,
        auth: Arc::clone(&serving.api_auth),
        as_of: AsOfPermits::default(),
        document: api::document_text()?.into(),
    };
    let internal = api::internal(reads, metrics.clone(), health);
    let running = RunningService {
        callback_addr: callbacks.local_addr()?,
        api_addr: api.local_addr()?,
        database,
        writer,
        stop,
        tasks,
    };
    let stop = &running.stop;
    running.tasks.spawn(server::serve(callbacks, CALLBACK_CONNECTIONS_MAX, public, stop.clone()));
    running.tasks.spawn(server::serve(api, API_CONNECTIONS_MAX, internal, stop.clone()));
    running.tasks.spawn(telemetry::keep_up(
        metrics,
        gauges(running.writer.clone(), running.database.clone(), feed.clone()),
        stop.clone(),
    ));
    running.tasks.spawn(feed.run());
    running.tasks.spawn(watch_schema(running.database.clone(), schema_found, stop.clone()));
    running.tasks.close();
    Ok(running)
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
