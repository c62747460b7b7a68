//! The service put together: writer, receiver, read API, feed, watches; and its orderly stop.
//!
//! Everything is handed in: settings, pools, listeners. A test starts this on port 0. The listeners accept whether or not
//! the database answers, and callbacks go to the spool until the schema watch has found the database to fit. Only while
//! the spool's file is still being opened is the database waited for, at most for half a second
//! (`first_way`).

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use axum::Router;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::backends::relays;
use super::connection_limits::{self, ConnectionLimits};
use super::counters::register_counters;
use super::deliveries::outbox_of;
use super::first_way::wait_for_first_way;
use super::gap_keeper::GapKeeper;
use super::gauges::{FreshnessGauges, gauges};
use super::known_database::KnownDatabase;
use super::listeners_tls::{API, CALLBACKS, ListenersTls};
use super::pages::console_pages;
use super::partition_keeper::keep_partitions;
use super::passes;
use super::receipt_mark::ReceiptMark;
use super::receiving::{health_state, receiver_state};
use super::schema_watch::SchemaWatch;
use super::standby_watch::watch_standby;
use super::version::VERSION;
use crate::api::auth::ConfiguredApp;
use crate::api::feed_reader::FeedReader;
use crate::api::health;
use crate::api::in_work::InWorkPermits;
use crate::api::list_permits::ListPermits;
use crate::api::live::LiveFeed;
use crate::api::session::Sessions;
use crate::api::state::ApiState;
use crate::api::stats_cache::StatsCache;
use crate::clock::{self, ReceiptClock};
use crate::config::{ServeConfig, handed_over_sockets};
use crate::ingest::{self, Writer};
use crate::model::SdkAppId;
use crate::outbox::DELIVERIES_MAX;
use crate::receiver;
use crate::reconcile::Engine;
use crate::refusals::RefusalLog;
use crate::relay::Relays;
use crate::replay::AsOfReader;
use crate::replay::as_of::AsOfPermits;
use crate::server::ListenerRules;
use crate::spool::volume;
use crate::store::Database;
use crate::store::schema::SchemaState;
use crate::traces::Traces;
use crate::{api, server, telemetry};

/// How many connections the kernel keeps until they are accepted, the same as in `deploy/group-mirror.socket`. Where a
/// burst is longer than that, first packets are dropped and sent again after a second, half of the time that Tencent
/// waits. The kernel's own limit (`net.core.somaxconn`) may be lower.
const BACKLOG: u32 = 4096;

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
    relays: Relays,
    refusals: RefusalLog,
    schema: SchemaState,
    refusal: watch::Receiver<Option<String>>,
    receipts: ReceiptClock,
    receipt_mark: ReceiptMark,
    tls: ListenersTls,
    traces: Traces,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl RunningService {
    /// Resolves when the service cannot go on by itself, with the reason.
    pub async fn broken(&self) -> anyhow::Error {
        tokio::select! {
            reason = self.refused() => anyhow!(reason),
            () = self.writer.ended() => anyhow!("the writer ended by itself"),
        }
    }

    /// Waits until the database has been checked once, whatever that found.
    ///
    /// # Errors
    /// A database that can never be ours, on a first start: see `app/schema_watch.rs`.
    pub async fn checked(&self) -> anyhow::Result<()> {
        tokio::select! {
            biased;
            reason = self.refused() => Err(anyhow!(reason)),
            () = self.schema.checked() => Ok(()),
        }
    }

    /// Resolves when the database is refused; never, where it is not.
    async fn refused(&self) -> String {
        let mut refusal = self.refusal.clone();
        let reason = refusal.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        match reason {
            Some(reason) => reason,
            None => std::future::pending().await,
        }
    }

    /// What reads the files of TLS at once, and reports what comes of it.
    pub fn certificate_reload(&self) -> impl Fn() + Send + use<> {
        self.tls.reload()
    }

    /// Fails `/readyz`, answers what is open and what still comes, makes durable what waits, closes the pools; in this
    /// order.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.wait().await;
        self.receipt_mark.finish(&self.receipts);
        tokio::join!(self.relays.close(), self.writer.close());
        self.refusals.report_all();
        self.traces.close().await;
        if tokio::time::timeout(CLOSE_WAIT_MAX, self.database.close()).await.is_err() {
            tracing::warn!("the database does not end its connections; they are dropped");
        }
    }
}

/// Starts everything on listeners that are bound already, and serves before the database has answered.
///
/// # Errors
/// A data directory that cannot be used, or is in use; files of TLS that cannot be used.
pub async fn start(
    serving: &ServeConfig,
    database: Database,
    (callbacks, api): (TcpListener, TcpListener),
) -> anyhow::Result<RunningService> {
    let tls = ListenersTls::open(serving)?;
    let known = KnownDatabase::open(&serving.spool.dir)?;
    let (schema_found, schema) = SchemaState::not_checked();
    let (refused, refusal) = watch::channel(None);
    let metrics = start_metrics(&serving.spool.apps)?;
    let relays = relays(&serving.apps, callbacks.local_addr()?)?;
    let limits = connection_limits::granted(relays.connections_max(DELIVERIES_MAX));
    let writer = start_writer(serving, &database, &schema, &relays)?;
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let health = health_state(&schema, &writer, &database, &stop);
    let (refusals, (receipt_mark, receipts)) =
        (RefusalLog::default(), ReceiptMark::begin(&serving.spool.dir));
    let traces = Traces::start(serving.traces.as_ref(), VERSION)?;
    let receiving = receiver_state(serving, relays.clone(), &writer, &refusals, (&receipts, &traces));
    let receiving_traffic = receiving.traffic.clone();
    let public = receiver::router(receiving, health::router(health.clone()));
    let stats_cache = StatsCache::new(database.clone(), stop.clone());
    let feed = LiveFeed::new(database.clone(), schema.clone(), stop.clone(), limits.followers);
    let reads = ApiState {
        feed: feed.clone(),
        stats_cache: stats_cache.clone(),
        writer: writer.clone(),
        refusals: refusals.clone(),
        database: database.clone(),
        schema: schema.clone(),
        app: ConfiguredApp::first_of(&serving.spool.apps),
        avchatroom_members: serving.avchatroom_members,
        sessions: sessions(serving),
        as_of: AsOfReader::new(database.clone(), AsOfPermits::default()),
        lists: ListPermits::default(),
        reads: InWorkPermits::new(limits.reads),
        document: api::served_document(&serving.api_prefix)?.into(),
    };
    let pages = console_pages(serving, &reads, receiving_traffic, &callbacks)?;
    let internal = api::internal(reads, metrics.clone(), health, pages);
    let running = RunningService {
        callback_addr: callbacks.local_addr()?,
        api_addr: api.local_addr()?,
        database,
        writer,
        relays,
        refusals,
        schema,
        refusal,
        receipts,
        receipt_mark,
        tls,
        traces,
        stop,
        tasks,
    };
    let stop = &running.stop;
    let schema_watch = schema_watch(&running, serving, known, (schema_found, refused));
    running.tasks.spawn(schema_watch.run(stop.clone()));
    running.tasks.spawn(running.receipt_mark.clone().keep_up(running.receipts.clone(), stop.clone()));
    wait_for_first_way(&running.schema, running.writer.watch_spool()).await;
    serve_listeners(&running, serving, limits, [(callbacks, public), (api, internal)]);
    let each_second = each_second(&running, serving.spool.apps.clone(), &feed, &stats_cache);
    running.tasks.spawn(telemetry::keep_up(metrics, each_second, stop.clone()));
    running.tasks.spawn(FeedReader::new(feed).run());
    keep_counts(&running, stats_cache, &serving.spool.apps);
    begin_passes(serving, &running)?;
    Ok(running)
}

fn schema_watch(
    running: &RunningService,
    serving: &ServeConfig,
    known: KnownDatabase,
    (state, refusal): (watch::Sender<Option<String>>, watch::Sender<Option<String>>),
) -> SchemaWatch {
    SchemaWatch {
        database: running.database.clone(),
        known,
        adopt: serving.adopt_database,
        state,
        spool: running.writer.watch_spool(),
        refusal,
        keep_answered_secs: serving.spool.keep_answered_secs,
        is_replication_reported: false,
    }
}

/// The write path, with its spool and its outbox.
fn start_writer(
    serving: &ServeConfig,
    database: &Database,
    schema: &SchemaState,
    relays: &Relays,
) -> anyhow::Result<Writer> {
    warn_of_forgetful_volume(&serving.spool.dir);
    let outbox = outbox_of(serving, relays)?;
    Writer::start(database, &serving.spool, schema.clone(), &outbox)
        .with_context(|| format!("DATA_DIR: {}", serving.spool.dir.display()))
}

/// Begins the passes over Tencent's REST API, where they are wanted, as the last task; they wait until the database fits.
fn begin_passes(serving: &ServeConfig, running: &RunningService) -> anyhow::Result<()> {
    let sources = if serving.reconcile { passes::sources(&serving.apps)? } else { Vec::new() };
    let holder = format!("serve on {} (process {})", running.callback_addr, std::process::id());
    let engine = Engine::new(running.database.clone(), serving.passes.clone(), clock::now, &holder);
    let (schema, stop) = (running.schema.clone(), running.stop.clone());
    running.tasks.spawn(async move {
        if !sources.is_empty() && stop.run_until_cancelled(schema.fitting()).await.is_some() {
            engine.rolling(sources, stop).await;
        }
    });
    running.tasks.close();
    Ok(())
}

/// The recorder, with the counters of writer and receiver at zero.
fn start_metrics(apps: &[SdkAppId]) -> anyhow::Result<PrometheusHandle> {
    let metrics = telemetry::start_metrics()?;
    register_counters(apps);
    ingest::register_counters();
    Ok(metrics)
}

/// Accepts connections from here on: the public listener and the internal one, each with its routes.
fn serve_listeners(
    running: &RunningService,
    serving: &ServeConfig,
    limits: ConnectionLimits,
    [(callbacks, public), (api, internal)]: [(TcpListener, Router); 2],
) {
    let (stop, tasks) = (&running.stop, &running.tasks);
    running.tls.keep_up(tasks, stop);
    let (callback_rules, api_rules) = listener_rules(serving, limits, running);
    tasks.spawn(server::serve(callbacks, callback_rules, public, stop.clone()));
    tasks.spawn(server::serve(api, api_rules, internal, stop.clone()));
}

/// Counts the mirror now and then, looks at the standby, keeps the gaps, and partitions ahead.
fn keep_counts(running: &RunningService, stats_cache: StatsCache, apps: &[SdkAppId]) {
    running.tasks.spawn(stats_cache.keep_up(running.schema.clone()));
    if let Some(standby) = running.database.standby().cloned() {
        running.tasks.spawn(watch_standby(running.database.clone(), standby, running.stop.clone()));
    }
    let gap_keeper = GapKeeper {
        database: running.database.clone(),
        schema: running.schema.clone(),
        writer: running.writer.clone(),
        apps: apps.to_vec(),
    };
    running.tasks.spawn(gap_keeper.run(running.stop.clone()));
    running.tasks.spawn(keep_partitions(
        running.database.clone(),
        running.schema.clone(),
        running.stop.clone(),
    ));
}

/// Sets the gauges, and reports what was not taken.
fn each_second(
    running: &RunningService,
    apps: Vec<SdkAppId>,
    feed: &LiveFeed,
    counts: &StatsCache,
) -> impl Fn() + Send + 'static {
    let writer = running.writer.clone();
    let freshness = FreshnessGauges { counts: counts.clone(), writer: writer.clone(), apps: apps.clone() };
    let set_gauges = gauges(apps, writer, running.database.clone(), feed.clone());
    let (refusals, database) = (running.refusals.clone(), running.database.clone());
    move || {
        set_gauges();
        freshness.set();
        database.close_idle_writers();
        refusals.report();
    }
}

fn sessions(serving: &ServeConfig) -> Sessions {
    Sessions::new(serving.api_auth.clone(), serving.api_prefix.clone(), serving.api_tls.is_some())
}

fn warn_of_forgetful_volume(dir: &Path) {
    if let Some(kind) = volume::forgetful_volume(dir) {
        tracing::warn!(
            data_dir = %dir.display(),
            "DATA_DIR: {} is on {kind}, which a restart of the machine empties; the spool is as durable as its volume",
            dir.display()
        );
    }
}

/// The limits of the listener of callbacks and of that of the API.
fn listener_rules(
    serving: &ServeConfig,
    limits: ConnectionLimits,
    running: &RunningService,
) -> (ListenerRules, ListenerRules) {
    let callbacks = ListenerRules {
        name: CALLBACKS,
        connections_max: limits.callbacks,
        idle: serving.idle,
        stop_silence: serving.stop_silence,
        // A callback is made durable whether or not its sender waits.
        half_close: true,
        refusals: Some(running.refusals.clone()),
        tls: running.tls.callbacks.clone(),
    };
    let api = ListenerRules {
        name: API,
        connections_max: limits.api,
        // A read or a stream that has lost its reader should end.
        half_close: false,
        refusals: None,
        tls: running.tls.api.clone(),
        ..callbacks.clone()
    };
    (callbacks, api)
}

/// Both listeners, before anything slow is begun. A socket that the service manager has handed over takes the place of
/// the address in the settings: its queue outlives a restart.
///
/// # Errors
/// An occupied port, an address that is not this machine's, or a socket that other machines can reach with settings that
/// are safe on this one alone.
pub async fn bind(serving: &ServeConfig) -> anyhow::Result<(TcpListener, TcpListener)> {
    let bind = |name: &str, addr: SocketAddr, handed_over: Option<std::net::TcpListener>| {
        let Some(listener) = handed_over else {
            return listen(addr).with_context(|| format!("{name}: cannot listen on {addr}"));
        };
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        tracing::info!(address = %listener.local_addr()?, "{name}: the socket of the service manager, {}, is used", listener.local_addr()?);
        Ok(listener)
    };
    let (callbacks, api) = handed_over_sockets()?;
    let callbacks = bind("CALLBACK_LISTEN", serving.callback_listen, callbacks)?;
    let api = bind("API_LISTEN", serving.api_listen, api)?;
    serving.loopback_only.check(callbacks.local_addr()?, api.local_addr()?)?;
    Ok((callbacks, api))
}

fn listen(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // Connections of the run before, which are still closing, do not hold the port.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}
