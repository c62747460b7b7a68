//! The `serve` command: the service, until a signal ends it.
//!
//! Order of the start: settings, signals, lock of the data directory, listeners, the embedded PostgreSQL where there is no
//! `DATABASE_URL`, writer and spool; then it serves, and the database is checked in the background. The stop goes the
//! same way in reverse. A signal that comes during the start ends it as soon as what has begun can be stopped.

use std::path::Path;
use std::process::ExitCode;

use super::announce::announce;
use super::database::{Cluster, lock_data_dir, open_database, stop_embedded};
use super::signals::Signals;
use super::start::{bind, start};
use crate::config::{Config, Settings};
use crate::embedded::Embedded;
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
    let signals = Signals::new()?;
    let (config, mut serving) = (settings.config(), settings.serve_config()?);
    serving.adopt_database = adopt_database;
    let _lock = lock_data_dir(&config.data_dir)?;
    let listeners = bind(&serving).await?;
    let Some((database, embedded)) = open_or_stop(&config, &signals).await? else {
        return Ok(ExitCode::SUCCESS);
    };
    let running = start(&serving, database, listeners).await?;
    announce(&running, &serving, &config, (embedded.as_ref(), dotenv));
    let broken = tokio::select! {
        () = signals.nth(1) => None,
        error = running.broken() => Some(error),
    };
    tracing::info!("stopping; a second signal stops at once");
    tokio::select! {
        () = running.stop() => {}
        () = signals.nth(2) => tracing::warn!("stopped with requests open"),
    }
    stop_embedded(embedded).await?;
    broken.map_or(Ok(ExitCode::SUCCESS), Err)
}

/// The database, the embedded one started and migrated. None: a signal came meanwhile, and everything is stopped again;
/// with a second signal the embedded server is left to end with this process.
async fn open_or_stop(
    config: &Config,
    signals: &Signals,
) -> anyhow::Result<Option<(Database, Option<Embedded>)>> {
    let opening = async {
        let (database, embedded) = open_database(config, Cluster::MadeWhereMissing).await?;
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
    let Some(opened) = until_signal(signals, 2, Box::pin(opening)).await else { return Ok(None) };
    let (database, embedded) = opened?;
    if signals.any() {
        stop_embedded(embedded).await?;
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
