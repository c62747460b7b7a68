//! The number by which the outbox of a data directory is known in the database, in a small file of the directory.
//!
//! What waits for delivery in the database belongs to a number. A process that is started again on its directory finds its
//! own entries there at once, and no other replica delivers them meanwhile. The file is replaced as a whole, so a kill leaves
//! none or a whole one; where it cannot be read another number is taken, and what waits under the old one is taken over.

use std::io::{Read as _, Write as _};
use std::path::Path;

use crate::files::{Access, FileError, PrivateDir};
use crate::outbox::OutboxNumber;

/// The file's name in the data directory, and what a new one is called until it is complete.
const FILE_NAME: &str = "outbox-number";
const NEW_NAME: &str = "outbox-number.new";

/// The longest content that is read.
const BYTES_MAX: u64 = 64;

/// The number of a data directory; a new one where it has none.
///
/// # Errors
/// A directory that cannot be written.
pub(super) fn outbox_number(dir: &Path) -> anyhow::Result<OutboxNumber> {
    let dir = PrivateDir::open(dir)?;
    if let Some(number) = read(&dir)? {
        return Ok(OutboxNumber { number, is_new: false });
    }
    let new = OutboxNumber::by_chance();
    dir.remove(NEW_NAME)?;
    let mut file = dir.file(NEW_NAME, Access::New)?;
    writeln!(file, "{}", new.number)?;
    file.sync_all()?;
    dir.rename(NEW_NAME, FILE_NAME)?;
    dir.sync()?;
    Ok(new)
}

fn read(dir: &PrivateDir) -> Result<Option<i32>, FileError> {
    let file = match dir.file(FILE_NAME, Access::Read) {
        Ok(file) => file,
        Err(error) if error.is_missing() => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    let read = file.take(BYTES_MAX).read_to_string(&mut text);
    Ok(read.ok().and_then(|_| text.trim().parse().ok()).filter(|number| *number > 0))
}

#[cfg(test)]
mod tests {
    use super::outbox_number;

    #[test]
    fn a_directory_keeps_its_number_and_one_that_cannot_be_read_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let first = outbox_number(dir.path()).unwrap();
        assert!(first.is_new && first.number > 0);
        let again = outbox_number(dir.path()).unwrap();
        assert_eq!((again.number, again.is_new), (first.number, false));
        for damaged in ["", "0", "-1", "x", "99999999999"] {
            std::fs::write(dir.path().join("outbox-number"), damaged).unwrap();
            assert!(outbox_number(dir.path()).unwrap().is_new, "{damaged}");
            assert!(!outbox_number(dir.path()).unwrap().is_new, "{damaged}");
        }
    }
}
