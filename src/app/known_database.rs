//! The id of the database that a data directory has worked with, in a small file of the directory.
//!
//! The spool holds callbacks of one mirror. With the id known, a wrong `DATABASE_URL` cannot make the service drain them
//! into another database; and a database that is missing or half restored is waited for, because it has been there
//! before. The file is replaced as a whole and synced, so a kill leaves the old id or the new one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// The file's name in the data directory.
const FILE_NAME: &str = "database-id";

/// What the directory remembers.
#[derive(Debug)]
pub(super) struct KnownDatabase {
    dir: PathBuf,
    id: Option<String>,
}

impl KnownDatabase {
    /// Reads the file, if there is one. Whatever it holds is the id: a damaged one equals no database's, so that the
    /// spool waits for a person instead of draining into an unknown place.
    pub(super) fn open(dir: &Path) -> anyhow::Result<Self> {
        let path = dir.join(FILE_NAME);
        let id = match fs::read(&path) {
            Ok(bytes) => Some(String::from_utf8_lossy(&bytes).trim().to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                return Err(error).with_context(|| format!("DATA_DIR: cannot read {}", path.display()));
            }
        };
        Ok(Self { dir: dir.to_owned(), id })
    }

    /// The id, if the directory has worked with a database.
    pub(super) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Writes an id in the place of the one before. Blocking, for some milliseconds.
    pub(super) fn remember(&mut self, id: &str) -> io::Result<()> {
        let side = self.dir.join(format!("{FILE_NAME}.new"));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&side)?;
        writeln!(file, "{id}")?;
        file.sync_all()?;
        fs::rename(&side, self.dir.join(FILE_NAME))?;
        File::open(&self.dir)?.sync_all()?;
        self.id = Some(id.to_owned());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::KnownDatabase;

    #[test]
    fn an_id_is_remembered_and_replaced_and_a_damaged_one_equals_none() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(KnownDatabase::open(dir.path()).unwrap().id(), None);
        for id in ["first", "second"] {
            KnownDatabase::open(dir.path()).unwrap().remember(id).unwrap();
            assert_eq!(KnownDatabase::open(dir.path()).unwrap().id(), Some(id));
        }
        std::fs::write(dir.path().join("database-id"), b"\xff").unwrap();
        assert_eq!(KnownDatabase::open(dir.path()).unwrap().id(), Some("\u{fffd}"));
        assert!(!dir.path().join("database-id.new").exists());
    }
}
