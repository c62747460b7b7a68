//! A directory of this user's own, and the files in it.
//!
//! The directory stays open while a file of it is opened, so that both belong together however names change meanwhile.

use std::fs::{DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::check::{FileError, WRITE_OF_OTHERS, check_file, open_unfollowed, this_user};

/// Every directory is made with it.
const DIR_MODE: u32 = 0o700;

/// What a file gets that others could read.
const FILE_MODE_BITS: u32 = 0o600;

/// Any permission of the group and of all others.
const ALL_OF_OTHERS: u32 = 0o077;

/// How a file of a [`PrivateDir`] is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// For reading; it has to be there.
    Read,
    /// For reading and writing; made where it is missing.
    Write,
    /// For reading and writing, and made: where it is there already, that is an error.
    New,
    /// For writing at its end; made where it is missing.
    Append,
}

impl Access {
    fn flags(self) -> OFlags {
        match self {
            Self::Read => OFlags::RDONLY,
            Self::Write => OFlags::RDWR | OFlags::CREATE,
            Self::New => OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
            Self::Append => OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE,
        }
    }
}

/// An open directory that belongs to this user and that no other user can write to.
#[derive(Debug)]
pub struct PrivateDir {
    pub(super) dir: File,
    pub(super) path: PathBuf,
    /// Whose files are used: this user's and the directory's owner's, who are the same but for an embedded server that
    /// root has given to an account of its own.
    pub(super) owners: [u32; 2],
}

impl PrivateDir {
    /// Opens a directory, and makes it with mode 0700 where it is missing, its parents as well.
    ///
    /// # Errors
    /// See [`PrivateDir::open`]; or it cannot be made.
    pub fn make(path: &Path) -> Result<Self, FileError> {
        Self::make_shared(path, &[])
    }

    /// The same where other users may own the directory, too.
    ///
    /// # Errors
    /// See [`PrivateDir::open`]; or it cannot be made.
    pub fn make_shared(path: &Path, other_owners: &[u32]) -> Result<Self, FileError> {
        let made = DirBuilder::new().recursive(true).mode(DIR_MODE).create(path);
        match made {
            // What is there in its place is named when it is opened.
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(FileError::io("make", path)(error))
            }
            _ => Self::open_shared(path, other_owners),
        }
    }

    /// Opens a directory. A link that leads to it is accepted where root or this user made it: systemd's
    /// `StateDirectory` of a dynamic user is one.
    ///
    /// # Errors
    /// There is none, or it belongs to another user, or others can write to it.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        Self::open_shared(path, &[])
    }

    fn open_shared(path: &Path, other_owners: &[u32]) -> Result<Self, FileError> {
        // With a slash at its end a link would be looked at through.
        let path = &path.components().collect::<PathBuf>();
        let named = rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(FileError::io("look at", path))?;
        let (user, maker) = (this_user(), named.st_uid);
        let is_link = FileType::from_raw_mode(named.st_mode).is_symlink();
        if is_link && ![0, user].contains(&maker) {
            return Err(FileError::refused(
                path,
                format!("is a link that user id {maker} made; name the directory that it should lead to"),
            ));
        }
        // What was no link a moment ago is not followed should it be one now.
        let follow = if is_link { OFlags::empty() } else { OFlags::NOFOLLOW };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | follow;
        let dir = rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(FileError::io("open", path))?;
        let mut owners = vec![user];
        owners.extend(other_owners);
        Self::checked(dir.into(), path, &owners)
    }

    /// The open directory, where it belongs to one of `owners` and no other user can write to it.
    pub(super) fn checked(dir: File, path: &Path, owners: &[u32]) -> Result<Self, FileError> {
        let user = this_user();
        let about = dir.metadata().map_err(FileError::io("look at", path))?;
        let (owner, mode) = (about.uid(), about.mode() & 0o7777);
        if !owners.contains(&owner) {
            return Err(FileError::refused(
                path,
                format!(
                    "belongs to user id {owner}, and this process runs as user id {user}; run it as that user, or name a \
                     directory below it, which is made private"
                ),
            ));
        }
        if mode & WRITE_OF_OTHERS != 0 {
            return Err(FileError::refused(
                path,
                format!(
                    "can be written to by other users (mode {mode:04o}); `chmod 0700` it, or name a directory below it, \
                     which is made private"
                ),
            ));
        }
        Ok(Self { dir, path: path.to_path_buf(), owners: [user, owner] })
    }

    /// Its path, for lines that a person reads.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The user and the group that own it.
    ///
    /// # Errors
    /// The system cannot say.
    pub fn owner(&self) -> Result<(u32, u32), FileError> {
        let about = self.dir.metadata().map_err(FileError::io("look at", &self.path))?;
        Ok((about.uid(), about.gid()))
    }

    /// Sets its mode.
    ///
    /// # Errors
    /// It belongs to another user, or the volume is read-only.
    pub fn set_mode(&self, mode: u32) -> Result<(), FileError> {
        self.dir
            .set_permissions(Permissions::from_mode(mode))
            .map_err(FileError::io("set the mode of", &self.path))
    }

    /// Its permission bits.
    ///
    /// # Errors
    /// The system cannot say.
    pub fn mode(&self) -> Result<u32, FileError> {
        let about = self.dir.metadata().map_err(FileError::io("look at", &self.path))?;
        Ok(about.mode() & 0o7777)
    }

    /// Opens one of its files, with mode 0600 where it is made. One that others can only read gets that mode; one that
    /// they can write is refused, because it is not known what they wrote.
    ///
    /// # Errors
    /// It is a link, no regular file, another user's, writable by others, has a second name; or it cannot be opened.
    pub fn file(&self, name: &str, access: Access) -> Result<File, FileError> {
        let path = self.path.join(name);
        let file = open_unfollowed(&self.dir, name.as_ref(), access.flags(), &path)?;
        let about = file.metadata().map_err(FileError::io("look at", &path))?;
        check_file(&path, &about, &self.owners)?;
        if about.mode() & ALL_OF_OTHERS != 0 {
            file.set_permissions(Permissions::from_mode(FILE_MODE_BITS))
                .map_err(FileError::io("set the mode of", &path))?;
        }
        Ok(file)
    }

    /// Gives a file another name, in the place of what has that name.
    ///
    /// # Errors
    /// It is not there, or the volume refuses.
    pub fn rename(&self, from: &str, to: &str) -> Result<(), FileError> {
        rustix::fs::renameat(&self.dir, from, &self.dir, to)
            .map_err(FileError::io("rename", &self.path.join(from)))
    }

    /// Removes a file or a link; none is no error.
    ///
    /// # Errors
    /// The volume refuses, or it is a directory.
    pub fn remove(&self, name: &str) -> Result<(), FileError> {
        match rustix::fs::unlinkat(&self.dir, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(FileError::io("remove", &self.path.join(name))(error)),
        }
    }

    /// Syncs the names in the directory around it, as far as this user may open that.
    ///
    /// # Errors
    /// The disk fails, or this user may not.
    pub fn sync_parent(&self) -> Result<(), FileError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = rustix::fs::openat(&self.dir, "..", flags, Mode::empty())
            .map_err(FileError::io("open the directory around", &self.path))?;
        File::from(parent).sync_all().map_err(FileError::io("sync the directory around", &self.path))
    }

    /// Syncs the names in it.
    ///
    /// # Errors
    /// The disk fails.
    pub fn sync(&self) -> Result<(), FileError> {
        self.dir.sync_all().map_err(FileError::io("sync", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
    use std::path::Path;

    use super::super::check::FILE_MODE;
    use super::{Access, PrivateDir, this_user};
    use crate::files::open_settings;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn directories_and_files_are_made_for_this_user_alone() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("new/data");
        let dir = PrivateDir::make(&path).unwrap();
        dir.file("a", Access::Write).unwrap();
        dir.file("b", Access::New).unwrap();
        dir.file("c", Access::Append).unwrap();
        for (name, wanted) in [("", 0o700), ("..", 0o700), ("a", 0o600), ("b", 0o600), ("c", 0o600)] {
            assert_eq!(mode(&path.join(name)), wanted, "{name:?}");
        }
        assert!(dir.file("d", Access::Read).unwrap_err().is_missing());
        // One that others could read, as a copy often is, is closed to them.
        set_mode(&path.join("a"), 0o644);
        dir.file("a", Access::Read).unwrap();
        assert_eq!(mode(&path.join("a")), 0o600);
    }

    #[test]
    fn a_link_a_pipe_a_directory_a_second_name_and_a_file_that_others_write_are_refused() {
        let place = tempfile::tempdir().unwrap();
        let dir = PrivateDir::open(place.path()).unwrap();
        let at = |name: &str| place.path().join(name);
        fs::write(at("victim"), "important").unwrap();
        symlink(at("victim"), at("link")).unwrap();
        symlink(at("missing"), at("dangling")).unwrap();
        fs::hard_link(at("victim"), at("second")).unwrap();
        fs::create_dir(at("dir")).unwrap();
        rustix::fs::mkfifoat(&dir.dir, "pipe", FILE_MODE).unwrap();
        fs::write(at("open"), "forged").unwrap();
        set_mode(&at("open"), 0o606);
        for (name, words) in [
            ("link", "is a link"),
            ("dangling", "is a link"),
            ("second", "has a second name"),
            ("dir", ""),
            ("pipe", ""),
            ("open", "can be written by other users (mode 0606)"),
        ] {
            for access in [Access::Read, Access::Write, Access::Append] {
                let error = dir.file(name, access).unwrap_err().to_string();
                assert!(error.contains(&at(name).display().to_string()) && error.contains(words), "{error}");
            }
            assert!(open_settings(&at(name)).is_err(), "{name}");
        }
        assert_eq!(fs::read_to_string(at("victim")).unwrap(), "important");
        assert!(!at("missing").exists());
        assert!(open_settings(&at("none")).unwrap().is_none());
        assert!(open_settings(&at("victim")).is_err(), "the other name of the same file");
        fs::remove_file(at("second")).unwrap();
        assert!(open_settings(&at("victim")).unwrap().is_some());
    }

    #[test]
    fn a_directory_that_others_can_write_to_is_refused_and_one_below_it_is_made_private() {
        let place = tempfile::tempdir().unwrap();
        for (mode, accepted) in
            [(0o700, true), (0o755, true), (0o750, true), (0o770, false), (0o777, false), (0o1777, false)]
        {
            set_mode(place.path(), mode);
            assert_eq!(PrivateDir::make(place.path()).is_ok(), accepted, "{mode:o}");
            PrivateDir::make(&place.path().join("below")).unwrap();
        }
        fs::write(place.path().join("file"), "").unwrap();
        assert!(PrivateDir::make(&place.path().join("file")).is_err());
        // A link that this user made, as systemd does for the directory of a service.
        symlink(place.path().join("below"), place.path().join("link")).unwrap();
        PrivateDir::make(&place.path().join("link")).unwrap();
    }

    #[test]
    fn what_belongs_to_another_user_is_refused() {
        if this_user() != 0 {
            return; // Only root can give a file away.
        }
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("data");
        let dir = PrivateDir::make(&path).unwrap();
        fs::write(path.join("spool"), "").unwrap();
        chown(path.join("spool"), Some(65_534), None).unwrap();
        let error = dir.file("spool", Access::Write).unwrap_err().to_string();
        assert!(error.contains("belongs to user id 65534"), "{error}");
        assert!(open_settings(&path.join("spool")).is_err());
        chown(&path, Some(65_534), None).unwrap();
        let error = PrivateDir::make(&path).unwrap_err().to_string();
        assert!(
            error.contains("belongs to user id 65534") && error.contains("run it as that user"),
            "{error}"
        );
        // An account that root has given the directory to may own files in it.
        let dir = PrivateDir::make_shared(&path, &[65_534]).unwrap();
        dir.file("spool", Access::Write).unwrap();
        symlink(&path, place.path().join("link")).unwrap();
        std::os::unix::fs::lchown(place.path().join("link"), Some(65_534), None).unwrap();
        for name in ["link", "link/", "link/."] {
            let error = PrivateDir::open(&place.path().join(name)).unwrap_err().to_string();
            assert!(error.contains("is a link that user id 65534 made"), "{error}");
        }
    }
}
