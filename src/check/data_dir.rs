//! The data directory: owner and mode, whether a file in it can be synced, and the volume beneath the spool.
//!
//! Durable means synced: an OK leaves once PostgreSQL or the spool has a callback on disk. So a small file is written and
//! synced as the spool does it, and removed again; nothing else of the directory is touched. A directory that is missing
//! is not made, because that would be a new and empty one where the command was run in the wrong place.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::line::{CheckLine, CheckSubject, bytes_shown};
use crate::files::{Access, FileError, PrivateDir, free_bytes, may_write, this_user};
use crate::spool::volume;

/// The file that is written, synced and removed.
const FILE_NAME: &str = "check.tmp";

/// What is written to it: more than a page, less than a person waits for.
const CONTENT_BYTES: usize = 64 * 1024;

/// A disk that takes longer for one small write uses up much of the 1.4 s that a callback has.
const SLOW_SYNC: Duration = Duration::from_millis(200);

/// With less space the spool takes hardly any callback.
const FREE_BYTES_MIN: u64 = 64 * 1024 * 1024;

/// Looks at a data directory whose spool may grow to `spool_max_bytes` and has `spool_bytes` now. Blocking.
#[must_use]
pub fn lines(dir: &Path, spool_max_bytes: u64, spool_bytes: u64) -> Vec<CheckLine> {
    let absolute = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    let private = match PrivateDir::open(dir) {
        Ok(private) => private,
        Err(error) if error.is_missing() => return missing(&absolute, spool_max_bytes),
        Err(error) => {
            let remedy = "run this as the user of the service, or name another DATA_DIR";
            return vec![CheckLine::wrong_by(CheckSubject::DataDir, &error.to_string(), remedy)];
        }
    };
    let mut lines = vec![described(&private, &absolute), synced(&private)];
    lines.extend(volume_lines(&absolute, spool_max_bytes, spool_bytes));
    lines
}

fn described(private: &PrivateDir, absolute: &Path) -> CheckLine {
    let about = private.owner().and_then(|(owner, _)| Ok((owner, private.mode()?)));
    match about {
        Ok((owner, mode)) => CheckLine::ok(
            CheckSubject::DataDir,
            format!("{} belongs to user id {owner}, mode {mode:04o}", absolute.display()),
        ),
        Err(error) => CheckLine::wrong(CheckSubject::DataDir, error.to_string(), "look at its volume"),
    }
}

/// The nearest directory above that exists.
fn existing_parent(absolute: &Path) -> PathBuf {
    absolute.ancestors().skip(1).find(|parent| parent.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

fn missing(absolute: &Path, spool_max_bytes: u64) -> Vec<CheckLine> {
    let parent = existing_parent(absolute);
    if !may_write(&parent) {
        return vec![CheckLine::wrong(
            CheckSubject::DataDir,
            format!(
                "there is no {}, and user id {} cannot make it below {}",
                absolute.display(),
                this_user(),
                parent.display()
            ),
            format!("as root: install -d -m 0700 -o USER {}", absolute.display()),
        )];
    }
    let mut lines = vec![CheckLine::warning(
        CheckSubject::DataDir,
        format!("there is no {} yet; `serve` makes it", absolute.display()),
        "where there should be one: run this in the directory where `serve` is started, or set DATA_DIR to an absolute path",
    )];
    lines.extend(volume_lines(&parent, spool_max_bytes, 0));
    lines
}

fn synced(private: &PrivateDir) -> CheckLine {
    match sync(private) {
        Ok(took) if took > SLOW_SYNC => CheckLine::warning(
            CheckSubject::Fsync,
            format!("a small file was synced in {} ms", took.as_millis()),
            "put DATA_DIR on a faster disk: a callback has to be on disk within 1.4 s",
        ),
        Ok(took) => {
            CheckLine::ok(CheckSubject::Fsync, format!("a small file was synced in {} ms", took.as_millis()))
        }
        Err(error) => CheckLine::wrong(
            CheckSubject::Fsync,
            error.to_string(),
            "make DATA_DIR writable for this user, on a volume that is neither full nor read-only and that syncs",
        ),
    }
}

/// How long it took to write a small file and to have it on disk.
fn sync(private: &PrivateDir) -> Result<Duration, FileError> {
    let begun = Instant::now();
    let mut file = private.file(FILE_NAME, Access::Write)?;
    let written = file.write_all(&[0; CONTENT_BYTES]).and_then(|()| file.sync_all());
    let took = begun.elapsed();
    // Also where it could not be written whole.
    private.remove(FILE_NAME)?;
    written.map_err(|error| FileError::of(private.path(), error))?;
    private.sync()?;
    Ok(took)
}

fn volume_lines(path: &Path, spool_max_bytes: u64, spool_bytes: u64) -> Vec<CheckLine> {
    let forgetful = volume::forgetful_volume(path).map(|kind| {
        CheckLine::warning(
            CheckSubject::Volume,
            format!("{} is on {kind}, which a restart of the machine empties", path.display()),
            "put DATA_DIR on a disk: the spool is as durable as its volume",
        )
    });
    forgetful.into_iter().chain([space(path, spool_max_bytes, spool_bytes)]).collect()
}

fn space(path: &Path, spool_max_bytes: u64, spool_bytes: u64) -> CheckLine {
    let free = match free_bytes(path) {
        Ok(free) => free,
        Err(error) => {
            let found = format!("the free space of {} is not known: {error}", path.display());
            return CheckLine::warning(CheckSubject::Volume, found, "look at the volume by `df`");
        }
    };
    let wanted = spool_max_bytes.saturating_sub(spool_bytes);
    let found = format!(
        "{} free; the spool may take {} more (SPOOL_MAX_BYTES)",
        bytes_shown(free),
        bytes_shown(wanted)
    );
    if free < FREE_BYTES_MIN.min(wanted) {
        let remedy = "make room now: callbacks are lost where neither PostgreSQL nor the spool takes them";
        return CheckLine::wrong(CheckSubject::Volume, found, remedy);
    }
    if free < wanted {
        let remedy =
            "make room, or lower SPOOL_MAX_BYTES: a spool that fills the volume takes the space of others";
        return CheckLine::warning(CheckSubject::Volume, found, remedy);
    }
    CheckLine::ok(CheckSubject::Volume, found)
}
