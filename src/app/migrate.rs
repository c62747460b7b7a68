//! The `migrate` command: brings the schema up to date.
//!
//! Safe to run twice, and beside a `serve`, which notices within seconds.

use std::process::ExitCode;

use super::database::{Cluster, open_database, stop_embedded};
use crate::config::Config;
use crate::store::schema;

/// `migrate`: brings the schema up to date.
///
/// # Errors
/// A database that cannot be used, or that is another application's.
pub async fn migrate(config: &Config) -> anyhow::Result<ExitCode> {
    let (database, embedded) = open_database(config, Cluster::MadeWhereMissing).await?;
    let done = schema::migrate(&database).await;
    database.close().await;
    stop_embedded(embedded).await?;
    match done? {
        0 => tracing::info!("the schema is up to date"),
        count => tracing::info!("{count} migrations applied; the schema is up to date"),
    }
    Ok(ExitCode::SUCCESS)
}
