//! A look at the spool's file from outside, for a person: whether it can be read, and how much waits in it.
//!
//! Nothing is written and nothing recovered. The store takes a shared lock on the file while it is open, so the caller
//! holds the lock of the data directory meanwhile: a `serve` that starts waits for that one, and would be refused the file.

use std::path::Path;

use redb::backends::FileBackend;
use redb::{Builder, DatabaseError, ReadableDatabase as _};

use super::file::{FILE_NAME, FileStatus, check_magic, guarded, status_of};
use super::mark::{MARK_NAME, Mark};
use super::status::SpoolError;
use crate::files::{Access, PrivateDir};
use crate::model::Millis;

/// What is in the file, as far as it can be seen without changing it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpoolContent {
    /// It was closed in order.
    Closed {
        /// Callbacks.
        depth: u64,
        /// What they are charged with.
        bytes: u64,
        /// Receipt of the oldest.
        oldest: Option<Millis>,
    },
    /// Its process was killed, so the next start has to recover it.
    NotClosed {
        /// Callbacks, as the mark beside the file says; none where there is no mark.
        depth: Option<u64>,
    },
}

/// The file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolInspection {
    /// Its length.
    pub file_bytes: u64,
    /// What is in it.
    pub content: SpoolContent,
}

/// The length of the spool's file of a data directory, 0 where there is none, and what could be read of it. Blocking.
///
/// # Errors
/// A file that another process uses, that this user may not trust, or that is damaged.
pub fn inspect(dir: &Path) -> Result<Option<SpoolInspection>, SpoolError> {
    let dir = PrivateDir::open(dir)?;
    let file = match dir.file(FILE_NAME, Access::Read) {
        Err(error) if error.is_missing() => return Ok(None),
        opened => opened?,
    };
    let file_bytes = file.metadata().map_err(redb::Error::from)?.len();
    if file_bytes == 0 {
        // Made, and nothing was ever written.
        let content = SpoolContent::Closed { depth: 0, bytes: 0, oldest: None };
        return Ok(Some(SpoolInspection { file_bytes, content }));
    }
    let opened = guarded(|| {
        check_magic(&file)?;
        let backend = FileBackend::new(file)?;
        match Builder::new().open_read_only_with_backend(backend) {
            Err(DatabaseError::RepairAborted) => Ok(None),
            store => Ok(Some(status_of(&store?.begin_read()?)?.0)),
        }
    })?;
    let content = match opened {
        Some(FileStatus { depth, bytes, oldest_ms }) => {
            SpoolContent::Closed { depth, bytes, oldest: oldest_ms.map(Millis::new) }
        }
        None => SpoolContent::NotClosed { depth: marked(&dir) },
    };
    Ok(Some(SpoolInspection { file_bytes, content }))
}

/// How many records the mark counts.
fn marked(dir: &PrivateDir) -> Option<u64> {
    let file = dir.file(MARK_NAME, Access::Read).ok()?;
    Some(Mark::content(&file)?.depth)
}
