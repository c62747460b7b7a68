//! The `serve` command: the service, until a signal ends it.
//!
//! Order of the start: settings, signals, lock of the data directory, listeners, database, schema, writer; the stop goes
//! the same way in reverse.

use std::process::ExitCode;

use super::announce::announce;
use super::database::{lock_data_dir, open_database, stop_embedded};
use super::signals::Signals;
use super::start::{DESCRIPTORS, bind, start};
use crate::config::Settings;
use crate::store::schema;

/// `serve`: runs until SIGINT or SIGTERM.
///
/// # Errors
/// A bad setting, an occupied port or directory, a database that cannot be used; one line each.
pub async fn serve(settings: &Settings) -> anyhow::Result<ExitCode> {
    let (config, serving) = (settings.config(), settings.serve_config()?);
    let signals = Signals::new()?;
    if rlimit::increase_nofile_limit(DESCRIPTORS).is_ok_and(|got| got < DESCRIPTORS) {
        tracing::warn!("this process may not have {} open files; many followers will wait", DESCRIPTORS);
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
