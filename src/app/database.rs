//! The database of a command: the one of `DATABASE_URL`, else the embedded server, and the lock of the data directory.
//!
//! A command that starts the embedded server also stops it; one that found it running leaves it alone. Only `serve` and
//! `migrate` make a new cluster: a command that reads would answer from an empty mirror made in the wrong directory.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use crate::config::{Config, DatabaseChoice, read_database_url};
use crate::embedded::{Embedded, Interrupt, Programs};
use crate::files::{Access, PrivateDir};
use crate::store::Database;

/// The file of the data directory that only one `serve` can lock.
const LOCK_NAME: &str = "serve.lock";

/// How long a start waits for the lock: `check` holds it for moments, while it looks at a spool that no `serve` has open.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(1);

/// How often it looks meanwhile.
const LOCK_POLL: Duration = Duration::from_millis(20);

/// What happens where the data directory holds no cluster of an embedded server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cluster {
    /// It is made.
    MadeWhereMissing,
    /// The command ends.
    Required,
}

/// Opens the pools, and starts the embedded server where there is no URL.
pub(super) async fn open_database(
    config: &Config,
    cluster: Cluster,
) -> anyhow::Result<(Database, Option<Embedded>)> {
    open_database_unless(config, cluster, &Interrupt::default()).await
}

/// The same, given up within moments once `interrupt` is set.
pub(super) async fn open_database_unless(
    config: &Config,
    cluster: Cluster,
    interrupt: &Interrupt,
) -> anyhow::Result<(Database, Option<Embedded>)> {
    match &config.database {
        DatabaseChoice::Url(url) => Ok((Database::new(url)?, None)),
        DatabaseChoice::UrlFile(path) => {
            let path = path.clone();
            // It may be a pipe.
            let url = tokio::task::spawn_blocking(move || read_database_url(&path)).await??;
            Ok((Database::new(&url)?, None))
        }
        DatabaseChoice::Embedded => {
            let dir = config.data_dir.join("postgres");
            ensure!(
                cluster == Cluster::MadeWhereMissing || dir.join("cluster").exists(),
                "there is no database: DATABASE_URL is not set, and DATA_DIR ({}) holds no embedded PostgreSQL; set one of \
                 them, or run `group-mirror serve` there first",
                absolute(&config.data_dir).display()
            );
            PrivateDir::make(&config.data_dir).context("DATA_DIR")?;
            let programs = Programs { bin_dir: config.pg_bin_dir.clone(), path: config.path.clone() };
            let interrupt = interrupt.clone();
            let start = move || Embedded::start_unless(&dir, &programs, &interrupt);
            let embedded = tokio::task::spawn_blocking(start).await??;
            Ok((Database::new(embedded.url())?, Some(embedded)))
        }
    }
}

/// Stops the embedded server, if there is one.
pub(super) async fn stop_embedded(embedded: Option<Embedded>) -> anyhow::Result<()> {
    if let Some(embedded) = embedded {
        tokio::task::spawn_blocking(move || embedded.stop()).await?;
    }
    Ok(())
}

/// A path as it can be found from anywhere; as it is, where that is not known.
pub(super) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Held for the life of the process; the system gives it back however that ends. Another `serve` that has it keeps it, so
/// the wait is for `check` alone.
pub(super) async fn lock_data_dir(dir: &Path) -> anyhow::Result<File> {
    let file =
        PrivateDir::make(dir).and_then(|dir| dir.file(LOCK_NAME, Access::Write)).context("DATA_DIR")?;
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if begun.elapsed() < LOCK_WAIT_MAX => {
                tokio::time::sleep(LOCK_POLL).await;
            }
            Err(TryLockError::WouldBlock) => {
                bail!("DATA_DIR: another `serve` uses {}; give each its own directory", dir.display())
            }
            Err(TryLockError::Error(error)) => {
                return Err(error)
                    .with_context(|| format!("DATA_DIR: cannot lock {}", dir.join(LOCK_NAME).display()));
            }
        }
    }
}

/// A look at the lock of a directory.
pub(super) struct DirLock {
    /// Whether a `serve` works on it; none where this user cannot know.
    pub(super) is_served: Option<bool>,
    /// Held, where there is the file and no `serve`: one that starts waits as long.
    _held: Option<File>,
}

/// Looks at the lock of a directory, and makes nothing.
pub(super) fn look_at_lock(dir: &Path) -> DirLock {
    match PrivateDir::open(dir).and_then(|dir| dir.file(LOCK_NAME, Access::Read)) {
        Ok(file) => match file.try_lock() {
            Ok(()) => DirLock { is_served: Some(false), _held: Some(file) },
            Err(TryLockError::WouldBlock) => DirLock { is_served: Some(true), _held: None },
            Err(TryLockError::Error(_)) => DirLock { is_served: None, _held: None },
        },
        // No `serve` has ever worked on it.
        Err(error) if error.is_missing() => DirLock { is_served: Some(false), _held: None },
        Err(_) => DirLock { is_served: None, _held: None },
    }
}
