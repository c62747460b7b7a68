//! Opening files that only this user may write: the data directory, everything in it, and the settings file.
//!
//! One place for all of them, because each is trusted without a signature: the spool is applied as it is, the settings
//! decide which database gets the callbacks. No link is followed to a file (`O_NOFOLLOW`), a file is opened relative to
//! its open directory (`openat`), and owner, kind, mode and the number of names are those of the open descriptor, so
//! nothing can be exchanged between check and use. What does not fit is refused with one line that has the remedy.
//! The exception is `files/followed.rs`: certificates, which are exchanged by links.

mod below;
mod check;
mod followed;
mod private_dir;

use std::fs::File;
use std::io;
use std::path::Path;

use check::{check_file, open_unfollowed};
use rustix::fs::{Access as Rights, AtFlags, CWD, OFlags};

pub use check::{FileError, this_user};
pub use followed::{FollowedFile, read_followed};
pub use private_dir::{Access, PrivateDir};

/// Opens a file that decides what this program does, for reading. None: there is no such file.
///
/// # Errors
/// It is a link, no regular file, neither root's nor this user's, writable by others, has a second name; or it cannot be opened.
pub fn open_settings(path: &Path) -> Result<Option<File>, FileError> {
    let file = match open_unfollowed(CWD, path, OFlags::RDONLY, path) {
        Err(error) if error.is_missing() => return Ok(None),
        opened => opened?,
    };
    let about = file.metadata().map_err(FileError::io("look at", path))?;
    check_file(path, &about, &[this_user(), 0])?;
    Ok(Some(file))
}

/// The space of a path's volume that this user may still use.
///
/// # Errors
/// The system cannot say.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    let volume = rustix::fs::statvfs(path)?;
    Ok(volume.f_bavail.saturating_mul(volume.f_frsize))
}

/// Whether this user may make files in a directory, as far as its permissions say.
#[must_use]
pub fn may_write(dir: &Path) -> bool {
    rustix::fs::accessat(CWD, dir, Rights::WRITE_OK | Rights::EXEC_OK, AtFlags::EACCESS).is_ok()
}
