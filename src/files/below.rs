//! What lies below a private directory: directories in it, short texts, and the owner of the whole tree.
//!
//! Root uses it in a directory that it has given to an account of the embedded server, and that account can exchange any
//! name in it at any moment. So each step starts from an open descriptor and follows no link, a read waits for no other
//! program and has a limit, and a directory is given away after all that is in it.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::fchown;
use std::path::Path;

use rustix::fd::AsFd;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::check::{FileError, this_user};
use super::private_dir::{Access, PrivateDir};

/// How a directory is opened whose name another user may exchange.
const DIR_FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

fn open_dir(around: impl AsFd, name: &Path, path: &Path) -> Result<File, FileError> {
    match rustix::fs::openat(around, name, DIR_FLAGS, Mode::empty()) {
        Ok(dir) => Ok(dir.into()),
        Err(Errno::NOTDIR | Errno::LOOP) => Err(FileError::refused(
            path,
            "is a link or no directory, and no link is followed here; put the directory itself there",
        )),
        Err(error) => Err(FileError::io("open", path)(error)),
    }
}

impl PrivateDir {
    /// Opens a directory where the path itself is no link. It may belong to one of `other_owners`, too.
    ///
    /// # Errors
    /// As [`PrivateDir::open`]; or it is a link.
    pub fn open_unlinked(path: &Path, other_owners: &[u32]) -> Result<Self, FileError> {
        let mut owners = vec![this_user()];
        owners.extend(other_owners);
        Self::checked(open_dir(CWD, path, path)?, path, &owners)
    }

    /// Opens a directory in it, whose owner has to be this user or the owner of this one.
    ///
    /// # Errors
    /// As [`PrivateDir::open`]; or it is a link.
    pub fn below(&self, name: &str) -> Result<Self, FileError> {
        let path = self.path.join(name);
        let mut below = Self::checked(open_dir(&self.dir, name.as_ref(), &path)?, &path, &self.owners)?;
        below.owners = self.owners;
        Ok(below)
    }

    /// Reads one of its files, which has at most `limit` bytes.
    ///
    /// # Errors
    /// As [`PrivateDir::file`]; or it is longer, or no text.
    pub fn read_text(&self, name: &str, limit: u64) -> Result<String, FileError> {
        let path = self.path.join(name);
        let mut text = String::new();
        self.file(name, Access::Read)?
            .take(limit + 1)
            .read_to_string(&mut text)
            .map_err(FileError::io("read", &path))?;
        if u64::try_from(text.len()).is_ok_and(|length| length <= limit) {
            Ok(text)
        } else {
            Err(FileError::refused(&path, format!("is longer than {limit} bytes; look at what is in it")))
        }
    }

    /// Device and number, which name it as long as it is open.
    ///
    /// # Errors
    /// The system cannot say.
    pub fn id(&self) -> Result<(u64, u64), FileError> {
        use std::os::unix::fs::MetadataExt as _;
        let about = self.dir.metadata().map_err(FileError::io("look at", &self.path))?;
        Ok((about.dev(), about.ino()))
    }

    /// Changes the owner of the directory alone; files of the new owner in it are used from then on.
    ///
    /// # Errors
    /// This user may not.
    pub fn set_owner(&mut self, uid: u32, gid: u32) -> Result<(), FileError> {
        fchown(&self.dir, Some(uid), Some(gid)).map_err(FileError::io("change the owner of", &self.path))?;
        self.owners = [this_user(), uid];
        Ok(())
    }

    /// Changes the owner of everything below it, not its own: of links themselves, never of what they lead to, and not
    /// of a file with a second name, because that may lie anywhere.
    ///
    /// # Errors
    /// This user may not, or the tree changes meanwhile.
    pub fn set_owner_below(&self, uid: u32, gid: u32) -> Result<(), FileError> {
        give_below(&self.dir, Uid::from_raw(uid), Gid::from_raw(gid))
            .map_err(FileError::io("change the owner of what is in", &self.path))
    }
}

/// A directory changes its owner after what is in it, so that the new owner cannot enter one that is being walked.
fn give_below(dir: &File, uid: Uid, gid: Gid) -> rustix::io::Result<()> {
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if [c".", c".."].contains(&name) {
            continue;
        }
        let about = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(about.st_mode) {
            FileType::Directory => {
                let below = File::from(rustix::fs::openat(dir, name, DIR_FLAGS, Mode::empty())?);
                give_below(&below, uid, gid)?;
                rustix::fs::fchown(&below, Some(uid), Some(gid))?;
            }
            FileType::RegularFile if about.st_nlink > 1 => {}
            _ => rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::super::check::FILE_MODE;
    use super::{PrivateDir, this_user};

    #[test]
    fn a_directory_that_is_a_link_and_a_file_that_is_a_pipe_or_too_long_are_not_read() {
        let place = tempfile::tempdir().unwrap();
        let dir = PrivateDir::open(place.path()).unwrap();
        assert!(dir.below("cluster").unwrap_err().is_missing());
        PrivateDir::make(&place.path().join("real")).unwrap();
        symlink(place.path().join("real"), place.path().join("cluster")).unwrap();
        for error in [
            dir.below("cluster").unwrap_err(),
            PrivateDir::open_unlinked(&place.path().join("cluster"), &[]).unwrap_err(),
        ] {
            assert!(error.to_string().contains("cluster is a link or no directory"), "{error}");
        }
        let real = dir.below("real").unwrap();
        fs::write(place.path().join("real/short"), "12345").unwrap();
        assert_eq!(real.read_text("short", 5).unwrap(), "12345");
        assert!(real.read_text("short", 4).unwrap_err().to_string().contains("longer than 4 bytes"));
        rustix::fs::mkfifoat(&real.dir, "pipe", FILE_MODE).unwrap();
        assert!(real.read_text("pipe", 5).unwrap_err().to_string().contains("is not a regular file"));
    }

    #[test]
    fn a_tree_is_given_away_with_its_links_but_not_with_what_they_lead_to() {
        if this_user() != 0 {
            return; // Only root can give a file away.
        }
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        let owner = |name: &str| fs::symlink_metadata(at(name)).unwrap().uid();
        for dir in ["tree/deep/er", "outside"] {
            fs::create_dir_all(at(dir)).unwrap();
        }
        for file in ["tree/deep/er/file", "outside/file", "outside/named"] {
            fs::write(at(file), "").unwrap();
        }
        symlink(at("outside"), at("tree/deep/dir-link")).unwrap();
        symlink(at("outside/file"), at("tree/file-link")).unwrap();
        fs::hard_link(at("outside/named"), at("tree/second-name")).unwrap();
        PrivateDir::open(&at("tree")).unwrap().set_owner_below(65_534, 65_534).unwrap();
        for given in
            ["tree/deep", "tree/deep/er", "tree/deep/er/file", "tree/deep/dir-link", "tree/file-link"]
        {
            assert_eq!(owner(given), 65_534, "{given}");
        }
        for kept in ["tree", "outside", "outside/file", "outside/named"] {
            assert_eq!(owner(kept), 0, "{kept}");
        }
    }
}
