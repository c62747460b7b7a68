//! The id of the database that a data directory has worked with, in a small file of the directory.
//!
//! The spool holds callbacks of one mirror. With the id known, a wrong `DATABASE_URL` cannot make the service drain them
//! into another database; and a database that is missing or half restored is waited for, because it has been there
//! before. The file is replaced as a whole and synced, so a kill leaves the old id or the new one.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::files::{Access, PrivateDir};

/// The file's name in the data directory.
const FILE_NAME: &str = "database-id";

/// What a new one is called until it is complete.
const NEW_NAME: &str = "database-id.new";

/// The longest content that is read. An id has 36 bytes.
const BYTES_MAX: u64 = 1024;

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
        let mut bytes = Vec::new();
        let id = match PrivateDir::open(dir).and_then(|dir| dir.file(FILE_NAME, Access::Read)) {
            Ok(file) => {
                file.take(BYTES_MAX)
                    .read_to_end(&mut bytes)
                    .with_context(|| format!("DATA_DIR: cannot read {}", dir.join(FILE_NAME).display()))?;
                Some(String::from_utf8_lossy(&bytes).trim().to_owned())
            }
            Err(error) if error.is_missing() => None,
            Err(error) => return Err(error).context("DATA_DIR"),
        };
        Ok(Self { dir: dir.to_owned(), id })
    }

    /// The id, if the directory has worked with a database.
    pub(super) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Writes an id in the place of the one before. Blocking, for some milliseconds.
    pub(super) fn remember(&mut self, id: &str) -> anyhow::Result<()> {
        let dir = PrivateDir::open(&self.dir)?;
        // What an earlier attempt left.
        dir.remove(NEW_NAME)?;
        let mut file = dir.file(NEW_NAME, Access::New)?;
        writeln!(file, "{id}")?;
        file.sync_all()?;
        dir.rename(NEW_NAME, FILE_NAME)?;
        dir.sync()?;
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
