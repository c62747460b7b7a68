//! The marks of a data directory: its id, and for each lane of the writer the highest mark whose commit was confirmed.
//!
//! A mark is the number of the start of the process and the number of the batch in it, so no two batches of a lane ever
//! have the same one, also where a process ended between a commit and its answer. The file beside the spool's is written
//! over after each batch and not synced, as the mark of the spool is; the number of the start is synced once.

use std::fs::File;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::os::unix::fs::FileExt as _;

use sha2::{Digest as _, Sha256};

use crate::files::{Access, FileError, PrivateDir};

/// How many writers have a mark of their own: the lanes, and the drain.
pub const MARK_LANES: usize = 3;

/// One number for each of them.
pub type LaneMarks = [u64; MARK_LANES];

/// The file's name in the data directory.
const FILE_NAME: &str = "kept.mark";

/// The id, the number of the start, the marks.
const CONTENT_BYTES: usize = 16 + 8 + 8 * MARK_LANES;

/// The first bytes of the SHA-256 over them: a file that was written in part counts as none.
const CHECKSUM_BYTES: usize = 8;

/// What of a mark counts the batches of one process.
const BATCH_BITS: u32 = 32;

/// What is known of the commits of a data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeptMarks {
    /// By which the rows in the database are found.
    pub(super) replica: u128,
    /// How often a process has begun with it.
    starts: u64,
    /// The highest marks whose commit was confirmed; 0: none was.
    pub(super) confirmed: LaneMarks,
}

impl KeptMarks {
    fn anew() -> Self {
        let half = || u128::from(RandomState::new().build_hasher().finish());
        Self { replica: half() << 64 | half(), starts: 0, confirmed: [0; MARK_LANES] }
    }

    /// Below every mark that this process gives, and above every mark of an earlier one.
    pub(super) fn base(&self) -> u64 {
        self.starts << BATCH_BITS
    }

    /// A commit with this mark was confirmed.
    pub(super) fn confirm(&mut self, lane: usize, mark: u64) {
        self.confirmed[lane] = self.confirmed[lane].max(mark);
    }

    /// The database was found to have these marks, where those were known. A lane that has confirmed another commit
    /// meanwhile keeps its mark: that commit may be in either database, and the next look decides.
    pub(super) fn lower(&mut self, known: &LaneMarks, found: &LaneMarks) {
        for ((now, known), found) in self.confirmed.iter_mut().zip(known).zip(found) {
            if now == known {
                *now = (*now).min(*found);
            }
        }
    }

    fn encode(&self) -> [u8; CONTENT_BYTES + CHECKSUM_BYTES] {
        let mut bytes = [0; CONTENT_BYTES + CHECKSUM_BYTES];
        bytes[..16].copy_from_slice(&self.replica.to_le_bytes());
        let numbers = [self.starts].into_iter().chain(self.confirmed);
        for (place, number) in bytes[16..CONTENT_BYTES].chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        let sum = Sha256::digest(&bytes[..CONTENT_BYTES]);
        bytes[CONTENT_BYTES..].copy_from_slice(&sum[..CHECKSUM_BYTES]);
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk::<8>()?));
        let mut confirmed = [0; MARK_LANES];
        for (lane, mark) in confirmed.iter_mut().enumerate() {
            *mark = number(24 + 8 * lane)?;
        }
        let replica = u128::from_le_bytes(*bytes.first_chunk::<16>()?);
        let marks = Self { replica, starts: number(16)?, confirmed };
        (marks.encode() == bytes).then_some(marks)
    }
}

/// The open file.
#[derive(Debug)]
pub(super) struct KeptMarkFile(File);

impl KeptMarkFile {
    /// Opens the file, or makes it, and begins another start. False: it said nothing, so the marks begin anew.
    pub(super) fn begin(dir: &PrivateDir) -> Result<(Self, KeptMarks, bool), FileError> {
        let file = dir.file(FILE_NAME, Access::Write)?;
        let mut bytes = [0; CONTENT_BYTES + CHECKSUM_BYTES];
        let known = file.read_exact_at(&mut bytes, 0).ok().and_then(|()| KeptMarks::decode(&bytes));
        let mut marks = known.unwrap_or_else(KeptMarks::anew);
        marks.starts += 1;
        let file = Self(file);
        let synced = file.set(&marks).and_then(|()| file.0.sync_all());
        synced.map_err(|source| FileError::of(dir.path(), source))?;
        Ok((file, marks, known.is_some()))
    }

    /// Replaces what it says.
    pub(super) fn set(&self, marks: &KeptMarks) -> io::Result<()> {
        self.0.write_all_at(&marks.encode(), 0)
    }

    /// Makes it say nothing: whatever the database has, a process that begins before the next [`KeptMarkFile::set`] sends all
    /// that is kept once more.
    pub(super) fn clear(&self) -> io::Result<()> {
        self.0.write_all_at(&[0; CONTENT_BYTES + CHECKSUM_BYTES], 0)
    }

    /// Removes it: nothing is kept any more.
    pub(super) fn remove(dir: &PrivateDir) {
        // A file that resists is replaced by the next start that keeps something.
        let _ = dir.remove(FILE_NAME);
    }
}

#[cfg(test)]
mod tests {
    use super::{FILE_NAME, KeptMarkFile, KeptMarks};
    use crate::files::PrivateDir;

    #[test]
    fn marks_are_read_back_with_their_id_and_each_start_gives_higher_ones() {
        let dir = tempfile::tempdir().unwrap();
        let data = PrivateDir::open(dir.path()).unwrap();
        let (file, mut marks, was_known) = KeptMarkFile::begin(&data).unwrap();
        assert!(!was_known);
        marks.confirm(1, marks.base() + 7);
        file.set(&marks).unwrap();
        let (_, again, was_known) = KeptMarkFile::begin(&data).unwrap();
        assert!(was_known && again.replica == marks.replica && again.confirmed == marks.confirmed);
        assert!(again.base() > marks.confirmed[1]);
        file.clear().unwrap();
        assert!(!KeptMarkFile::begin(&data).unwrap().2);
        file.set(&marks).unwrap();
        let path = dir.path().join(FILE_NAME);
        let bytes = std::fs::read(&path).unwrap();
        for damaged in [&bytes[..bytes.len() - 1], &[1; 56], &[]] {
            std::fs::write(&path, damaged).unwrap();
            let (_, anew, was_known) = KeptMarkFile::begin(&data).unwrap();
            assert!(!was_known && anew.replica != marks.replica && anew.confirmed == [0; 3]);
        }
    }

    #[test]
    fn a_mark_that_was_confirmed_while_the_database_was_looked_at_is_not_lowered() {
        let mut marks = KeptMarks { confirmed: [10, 20, 30], ..KeptMarks::anew() };
        let known = marks.confirmed;
        marks.confirm(1, 21);
        marks.confirm(1, 19);
        marks.lower(&known, &[9, 15, 31]);
        assert_eq!(marks.confirmed, [9, 21, 30]);
    }
}
