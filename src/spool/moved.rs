//! Moving a damaged file of the spool aside: it gets another name and is kept, so that a new one can be begun at once.
//!
//! What is whole in it is salvaged from there. Its times say about when what it held was received, where nothing else does.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::file::FILE_NAME;
use super::status::SpoolError;
use crate::files::{Access, PrivateDir};

/// A damaged file that was moved aside.
#[derive(Debug)]
pub(super) struct MovedFile {
    /// Where it is now.
    pub(super) path: PathBuf,
    /// When it was made, as far as the volume knows, and when it was last changed, in Unix milliseconds.
    pub(super) times_ms: (i64, i64),
}

/// Gives a damaged file another name, `spool.redb.damaged-SUFFIX`, and keeps it.
pub(super) fn move_aside(dir: &Path, suffix: &str) -> Result<MovedFile, SpoolError> {
    let dir = PrivateDir::open(dir)?;
    let about = dir.file(FILE_NAME, Access::Read)?.metadata().map_err(redb::Error::from)?;
    let changed = about.modified().map_err(redb::Error::from)?;
    let made = about.created().unwrap_or(changed).min(changed);
    let name = format!("{FILE_NAME}.damaged-{suffix}");
    dir.rename(FILE_NAME, &name)?;
    dir.sync()?;
    Ok(MovedFile { path: dir.path().join(name), times_ms: (unix_ms(made), unix_ms(changed)) })
}

fn unix_ms(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).ok().and_then(|since| i64::try_from(since.as_millis()).ok()).unwrap_or(0)
}
