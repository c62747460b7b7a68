//! The mark: a small file beside the spool's that says how far the spool was synced.
//!
//! The store returns to the commit before the last where a page of the last one is damaged after a kill, and cannot report
//! that records are gone. The mark is written after each commit and not synced: it outlives the end of the process, and is
//! never ahead of what the disk has taken. A spool that has given fewer numbers than its mark says has lost records.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use crate::files::{Access, FileError, PrivateDir};

/// The file's name in the data directory.
pub(super) const MARK_NAME: &str = "spool.mark";

/// Three numbers of 8 bytes.
const CONTENT_BYTES: usize = 24;

/// The first bytes of the SHA-256 over them: a mark that was written in part counts as none.
const CHECKSUM_BYTES: usize = 8;

/// What was on disk after a commit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Synced {
    /// The last number given to a record.
    pub(super) last: u64,
    /// Records in the spool.
    pub(super) depth: u64,
    /// Receipt of the newest record ever put, in Unix milliseconds.
    pub(super) newest_ms: i64,
}

impl Synced {
    /// How many of these records a spool with that last number has lost. What was drained is no loss.
    pub(super) fn missing_from(self, last: u64) -> u64 {
        self.last.saturating_sub(last).min(self.depth)
    }

    fn encode(self) -> [u8; CONTENT_BYTES + CHECKSUM_BYTES] {
        let mut bytes = [0; CONTENT_BYTES + CHECKSUM_BYTES];
        bytes[..8].copy_from_slice(&self.last.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.depth.to_le_bytes());
        bytes[16..CONTENT_BYTES].copy_from_slice(&self.newest_ms.to_le_bytes());
        let sum = Sha256::digest(&bytes[..CONTENT_BYTES]);
        bytes[CONTENT_BYTES..].copy_from_slice(&sum[..CHECKSUM_BYTES]);
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(*bytes.get(at..)?.first_chunk::<8>()?);
        let synced = Self {
            last: u64::from_le_bytes(number(0)?),
            depth: u64::from_le_bytes(number(8)?),
            newest_ms: i64::from_le_bytes(number(16)?),
        };
        (synced.encode() == bytes).then_some(synced)
    }
}

/// The open file.
#[derive(Debug)]
pub(super) struct Mark(File);

impl Mark {
    /// Opens the mark of a spool, or makes it, and answers what it says.
    pub(super) fn open(dir: &PrivateDir) -> Result<(Self, Option<Synced>), FileError> {
        let file = dir.file(MARK_NAME, Access::Write)?;
        let synced = Self::content(&file);
        Ok((Self(file), synced))
    }

    /// What an open file says; none where it was written in part.
    pub(super) fn content(file: &File) -> Option<Synced> {
        let mut bytes = [0; CONTENT_BYTES + CHECKSUM_BYTES];
        file.read_exact_at(&mut bytes, 0).ok().and_then(|()| Synced::decode(&bytes))
    }

    /// What the mark in a data directory says, where the spool's file cannot be opened.
    pub(super) fn read(dir: &Path) -> Option<Synced> {
        PrivateDir::open(dir).and_then(|dir| Self::open(&dir)).ok()?.1
    }

    /// Removes the mark of a spool that begins anew.
    pub(super) fn remove(dir: &PrivateDir) {
        // Where it resists, the next write replaces it.
        let _ = dir.remove(MARK_NAME);
    }

    /// Replaces what it says.
    pub(super) fn set(&self, synced: Synced) -> io::Result<()> {
        self.0.write_all_at(&synced.encode(), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::{Mark, Synced};
    use crate::files::PrivateDir;

    #[test]
    fn a_mark_is_read_back_and_one_in_part_counts_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let spool = PrivateDir::open(dir.path()).unwrap();
        let synced = Synced { last: 9, depth: 4, newest_ms: -1 };
        let (mark, none) = Mark::open(&spool).unwrap();
        assert_eq!(none, None);
        mark.set(synced).unwrap();
        assert_eq!(Mark::open(&spool).unwrap().1, Some(synced));
        let file = dir.path().join("spool.mark");
        let bytes = std::fs::read(&file).unwrap();
        for damaged in [&bytes[..31], &[1; 32], &[]] {
            std::fs::write(&file, damaged).unwrap();
            assert_eq!(Mark::open(&spool).unwrap().1, None);
        }
    }

    #[test]
    fn only_what_was_in_the_spool_can_be_missing() {
        let synced = Synced { last: 9, depth: 4, newest_ms: 0 };
        assert_eq!([9, 10, 8, 5, 0].map(|last| synced.missing_from(last)), [0, 0, 1, 4, 4]);
    }
}
