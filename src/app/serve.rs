//! The `serve` command: the service, until a signal ends it.
//!
//! Order of the start: settings, signals, lock of the data directory, listeners, writer and spool; then it serves. The
//! database is checked in the background; where there is no `DATABASE_URL` the embedded PostgreSQL is started first, which
//! takes a minute where it has to recover from a crash, and callbacks go to the spool meanwhile. The stop goes the same
//! way in reverse. A signal that comes during the start ends it as soon as what has begun can be stopped. With TLS a SIGHUP
//! reads the certificates again.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;

use super::announce::{announce_database, announce_service};
use super::database::{Cluster, lock_data_dir, open_database, open_database_unless, stop_embedded};
use super::signals::{Signals, hang_ups};
use super::start::{bind, start};
use crate::config::{Config, DatabaseChoice, Settings};
use crate::embedded::{Embedded, EmbeddedError, Interrupt};
use crate::store::{Database, schema};

/// `serve`: runs until SIGINT or SIGTERM. `dotenv` is the settings file that was read; `adopt_database` takes the
/// database of `DATABASE_URL` in the place of the one that the data directory knows.
///
/// # Errors
/// A bad setting, an occupied port or directory, on a first start a database that cannot be used; one line each.
pub async fn serve(
    settings: &Settings,
    dotenv: Option<&Path>,
    adopt_database: bool,
) -> anyhow::Result<ExitCode> {
    // Before signals are caught: a pipe that a secret is read from may have no writer, and nothing has been begun.
    let (config, mut serving) = (settings.config(), settings.serve_config()?);
    serving.adopt_database = adopt_database;
    let signals = Signals::new()?;
    let has_tls = serving.callback_tls.is_some() || serving.api_tls.is_some();
    let hang_ups = has_tls.then(hang_ups).transpose()?;
    let _lock = lock_data_dir(&config.data_dir).await?;
    let listeners = bind(&serving).await?;
    let is_embedded = matches!(config.database, DatabaseChoice::Embedded);
    let database =
        if is_embedded { Database::unlocated() } else { open_database(&config, Cluster::Required).await?.0 };
    let database = match &serving.read_database_url {
        Some(url) => database.reading_from(url).context("READ_DATABASE_URL")?,
        None => database,
    };
    let running = start(&serving, database.clone(), listeners).await?;
    announce_service(&running, &serving, &config, dotenv);
    if let Some(mut hang_ups) = hang_ups {
        let reload = running.certificate_reload();
        tokio::spawn(async move {
            while hang_ups.recv().await.is_some() {
                reload();
            }
        });
    }
    let started = if is_embedded { start_embedded(&config, &signals, &database).await } else { Ok(None) };
    let (embedded, broken) = match started {
        Ok(embedded) => {
            if is_embedded {
                // What is to be tried needs the database. What breaks meanwhile ends the service just below.
                tokio::select! {
                    _ = until_signal(&signals, 1, running.checked()) => {}
                    _ = running.broken() => {}
                }
            }
            if !signals.any() {
                announce_database(&running, &serving, embedded.as_ref());
            }
            let broken = tokio::select! {
                () = signals.nth(1) => None,
                error = running.broken() => Some(error),
            };
            (embedded, broken)
        }
        Err(error) => (None, Some(error)),
    };
    tracing::info!("stopping; a second signal stops at once");
    tokio::select! {
        () = running.stop() => {}
        () = signals.nth(2) => tracing::warn!("stopped with requests open"),
    }
    stop_embedded(embedded).await?;
    broken.map_or(Ok(ExitCode::SUCCESS), Err)
}

/// Starts the embedded server, migrates it, and leads the pools of the service to it; none where a signal came meanwhile.
async fn start_embedded(
    config: &Config,
    signals: &Signals,
    database: &Database,
) -> anyhow::Result<Option<Embedded>> {
    tracing::info!(
        "starting the embedded PostgreSQL; until it answers, callbacks go to the spool, where that takes them, and reads are \
         answered with 503"
    );
    let Some((pools_of_start, embedded)) = open_or_stop(config, signals).await? else { return Ok(None) };
    pools_of_start.close().await;
    if let Some(embedded) = &embedded {
        database.lead_to(embedded.url())?;
    }
    Ok(embedded)
}

/// The database, the embedded one started and migrated. None: a signal came meanwhile, the start was given up, and everything is stopped again;
/// with a second signal the embedded server is left to end with this process.
async fn open_or_stop(
    config: &Config,
    signals: &Signals,
) -> anyhow::Result<Option<(Database, Option<Embedded>)>> {
    let interrupt = Interrupt::default();
    let opening = async {
        let (database, embedded) =
            open_database_unless(config, Cluster::MadeWhereMissing, &interrupt).await?;
        // A server that is ours is migrated at once; a database of `DATABASE_URL` never is.
        if embedded.is_some()
            && let Some(migrated) = until_signal(signals, 1, schema::migrate(&database)).await
            && let Err(error) = migrated
        {
            stop_embedded(embedded).await?;
            return Err(anyhow::Error::from(error));
        }
        Ok((database, embedded))
    };
    let opening = async {
        let mut opening = Box::pin(opening);
        if let Some(opened) = until_signal(signals, 1, &mut opening).await {
            if signals.any() {
                tracing::info!("the start is given up; a second signal stops at once");
            }
            return opened;
        }
        tracing::info!("the start is given up; a second signal stops at once");
        interrupt.set();
        opening.await
    };
    let Some(opened) = until_signal(signals, 2, Box::pin(opening)).await else { return Ok(None) };
    let (database, embedded) = match opened {
        Err(error) if matches!(error.downcast_ref(), Some(EmbeddedError::Interrupted)) => return Ok(None),
        opened => opened?,
    };
    if signals.any() {
        until_signal(signals, 2, stop_embedded(embedded)).await.transpose()?;
        return Ok(None);
    }
    Ok(Some((database, embedded)))
}

/// What comes of the work, unless that many signals come first.
async fn until_signal<T>(signals: &Signals, count: u32, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = signals.nth(count) => None,
        done = work => Some(done),
    }
}
