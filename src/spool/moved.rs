//! Moving a damaged file of the spool aside: it gets another name and is kept, so that a new one can be begun at once.
//!
//! What is whole in it is salvaged from there. Its times say about when what it held was received, where nothing else does.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::file::FILE_NAME;
use super::status::SpoolError;
use crate::files::{Access, PrivateDir};
use crate::model::Millis;

/// A damaged file that was moved aside.
#[derive(Debug)]
pub(super) struct MovedFile {
    /// Where it is now.
    pub(super) path: PathBuf,
    /// When it was made, as far as the volume knows, and when it was last changed, in Unix milliseconds.
    pub(super) times_ms: (i64, i64),
}

/// A moment as the names of such files have it, in UTC.
pub(super) fn name_time(at: Millis) -> String {
    let at = chrono::DateTime::from_timestamp_millis(at.get()).unwrap_or_default();
    at.format("%Y%m%dT%H%M%S%3fZ").to_string()
}

/// Gives a damaged file another name, `spool.redb.damaged-TIME`, and keeps it.
pub(super) fn move_aside(dir: &Path, at: Millis) -> Result<MovedFile, SpoolError> {
    let dir = PrivateDir::open(dir)?;
    let about = dir.file(FILE_NAME, Access::Read)?.metadata().map_err(redb::Error::from)?;
    let changed = about.modified().map_err(redb::Error::from)?;
    let made = about.created().unwrap_or(changed).min(changed);
    let name = format!("{FILE_NAME}.damaged-{}", name_time(at));
    dir.rename(FILE_NAME, &name)?;
    if let Err(error) = dir.sync() {
        // It has its name; after a crash of the machine it may have the one before, and be found damaged again.
        tracing::warn!(%error, "the new name of the damaged spool is not synced");
    }
    Ok(MovedFile { path: dir.path().join(name), times_ms: (unix_ms(made), unix_ms(changed)) })
}

fn unix_ms(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).ok().and_then(|since| i64::try_from(since.as_millis()).ok()).unwrap_or(0)
}
