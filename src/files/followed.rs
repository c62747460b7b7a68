//! A small file that another program exchanges while this one runs: read whole, links followed.
//!
//! Everywhere else in this module no link is followed. Here links are followed on purpose, because they are how
//! certificates are exchanged: Kubernetes mounts a secret as links that lead through one directory link, which it swaps
//! for all files at once, and ACME clients keep a link to the newest file. Such a file is never written and never
//! executed, and whose it is does not matter; kind, mode and size are those of the open descriptor.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};

use super::check::FileError;

/// Write permission of every user.
const WRITE_OF_ALL: u32 = 0o002;

/// Read permission of every user.
const READ_OF_ALL: u32 = 0o004;

/// What such a file holds.
pub struct FollowedFile {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its mode, where every user of this machine can read it.
    pub open_mode: Option<u32>,
}

/// Reads a file of at most `limit` bytes; a link leads to what it names at this moment.
///
/// # Errors
/// It cannot be opened or read, is no regular file, can be written by every user, or is longer.
pub fn read_followed(path: &Path, limit: usize) -> Result<FollowedFile, FileError> {
    // A pipe in its place is opened without waiting for its other end, and then refused.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(FileError::io("open", path))?;
    let file = File::from(file);
    let about = file.metadata().map_err(FileError::io("look at", path))?;
    let mode = about.mode() & 0o7777;
    if !about.is_file() {
        return Err(FileError::refused(path, "is not a regular file; name the file itself"));
    }
    if mode & WRITE_OF_ALL != 0 {
        return Err(FileError::refused(
            path,
            format!("can be written by every user (mode {mode:04o}); `chmod o-w` it"),
        ));
    }
    let mut bytes = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    file.take(most).read_to_end(&mut bytes).map_err(FileError::io("read", path))?;
    if bytes.len() > limit {
        return Err(FileError::refused(path, format!("has more than {limit} bytes; look at what is in it")));
    }
    Ok(FollowedFile { bytes, open_mode: (mode & READ_OF_ALL != 0).then_some(mode) })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn links_are_followed_to_what_they_name_at_the_moment_of_the_read() {
        let dir = tempfile::tempdir().unwrap();
        for (version, text) in [("v1", "one"), ("v2", "two")] {
            fs::create_dir(dir.path().join(version)).unwrap();
            fs::write(dir.path().join(version).join("key"), text).unwrap();
        }
        symlink("v1", dir.path().join("..data")).unwrap();
        symlink("..data/key", dir.path().join("key")).unwrap();
        let read = || read_followed(&dir.path().join("key"), 10).unwrap().bytes;
        assert_eq!(read(), b"one");
        symlink("v2", dir.path().join("..data_tmp")).unwrap();
        fs::rename(dir.path().join("..data_tmp"), dir.path().join("..data")).unwrap();
        assert_eq!(read(), b"two");
    }

    #[test]
    fn what_is_no_small_file_of_its_owner_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let reason = |path: &Path| read_followed(path, 4).map(|_| ()).unwrap_err().to_string();
        assert!(reason(&path).starts_with("cannot open "), "{}", reason(&path));
        assert!(reason(dir.path()).contains("is not a regular file"));
        fs::write(&path, "12345").unwrap();
        assert!(reason(&path).contains("more than 4 bytes"));
        fs::write(&path, "1234").unwrap();
        for (mode, open_mode) in [(0o600, None), (0o640, None), (0o644, Some(0o644))] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert_eq!(read_followed(&path, 4).unwrap().open_mode, open_mode);
        }
        fs::set_permissions(&path, Permissions::from_mode(0o602)).unwrap();
        assert!(reason(&path).contains("can be written by every user (mode 0602)"));
        let pipe = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert!(reason(&pipe).contains("is not a regular file"));
    }
}
