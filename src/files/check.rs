//! One file: opened without following a link, and the kind, owner and mode that it must have.
//!
//! Both checks look at the open descriptor, so a file that is exchanged after its name was looked at is noticed. The
//! texts have the remedy, because a person reads them at a start that was refused.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use thiserror::Error;

/// Every file is made with it: what the service keeps is about persons.
pub(super) const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// Write permission of the group and of all others.
pub(super) const WRITE_OF_OTHERS: u32 = 0o022;

/// Why a file or a directory is not used. Each text is one line that names it.
#[derive(Debug, Error)]
pub enum FileError {
    /// An operation failed.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// The operation, as it reads after "cannot".
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It is not what this program may trust; the text has the remedy.
    #[error("{} {reason}", path.display())]
    Refused {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        reason: String,
    },
}

impl FileError {
    /// True where there is no such file.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// For a file that was opened and cannot be synced.
    #[must_use]
    pub fn of(path: &Path, source: io::Error) -> Self {
        Self::io("sync a file of", path)(source)
    }

    pub(super) fn io<E: Into<io::Error>>(doing: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { doing, path, source: source.into() }
    }

    pub(super) fn refused(path: &Path, reason: impl Into<String>) -> Self {
        Self::Refused { path: path.to_path_buf(), reason: reason.into() }
    }
}

/// The effective user id of this process.
#[must_use]
pub fn this_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Opens without following a link at the end, and without waiting for the other end of a pipe.
pub(super) fn open_unfollowed(
    dir: impl rustix::fd::AsFd,
    name: &Path,
    flags: OFlags,
    path: &Path,
) -> Result<File, FileError> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    match rustix::fs::openat(dir, name, flags, FILE_MODE) {
        Ok(file) => Ok(file.into()),
        Err(Errno::LOOP) => Err(FileError::refused(
            path,
            "is a link, and no link is followed here; put the file itself there",
        )),
        Err(error) => Err(FileError::io("open", path)(error)),
    }
}

pub(super) fn check_file(path: &Path, about: &Metadata, owners: &[u32]) -> Result<(), FileError> {
    let (owner, mode, user) = (about.uid(), about.mode() & 0o7777, this_user());
    let reason = if !about.is_file() {
        "is not a regular file; move it away".to_owned()
    } else if !owners.contains(&owner) {
        format!(
            "belongs to user id {owner}, and this process runs as user id {user}; look at what is in it, then `chown` it \
             or move it away"
        )
    } else if mode & WRITE_OF_OTHERS != 0 {
        format!(
            "can be written by other users (mode {mode:04o}); look at what is in it, then `chmod 0600` it or move it away"
        )
    } else if about.nlink() > 1 {
        "has a second name (a hard link), under which another program may use it; move it away".to_owned()
    } else {
        return Ok(());
    };
    Err(FileError::refused(path, reason))
}
