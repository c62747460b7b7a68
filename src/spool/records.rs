//! The whole records in a file, whatever stands between them: for files that nothing else reads, and for those that may have
//! suffered.
//!
//! A record is found by its frame and proved by its checksum (`record`). What the disk does not give is skipped, a block at
//! a time and no more than some, so that what stands behind it is found as well; that there was such a place is said at the
//! end. Blocking.

use std::collections::HashSet;
use std::io::{self, Read, Seek, SeekFrom};

use super::record::{self, RECORD_BYTES_MAX};
use super::requests::NewRecord;

/// How much of the file is looked at in one go.
const WINDOW_BYTES: usize = 8 * 1024 * 1024;

/// What is skipped where the disk gives nothing: a page, which is what systems read.
const BLOCK_BYTES: u64 = 4096;

/// How many blocks of a file are skipped; behind them it counts as not readable. A disk may take seconds to say no to one.
const UNREAD_BLOCKS_MAX: u32 = 64;

/// How many checksums are kept to leave out what was found before. Of more records one may be put twice.
const SEEN_MAX: usize = 1_000_000;

/// The checksums of records that were found, also by an earlier reading of the same file.
#[derive(Debug, Default)]
pub(super) struct SeenRecords(HashSet<[u8; 8]>);

impl SeenRecords {
    /// Notes a record; false where it was found before.
    fn note(&mut self, record: &[u8]) -> bool {
        // Bytes 1 to 8 are the checksum.
        match record[1..].first_chunk() {
            Some(sum) if self.0.len() < SEEN_MAX => self.0.insert(*sum),
            Some(sum) => !self.0.contains(sum),
            None => true,
        }
    }
}

/// The records that were not seen before, in the order of the file.
pub(super) struct Records<'a, R> {
    from: R,
    window: Vec<u8>,
    /// Where in the window to look next.
    at: usize,
    /// Where in the file the window ends.
    end: u64,
    is_at_end: bool,
    seen: &'a mut SeenRecords,
    /// Bytes that were read, less those of whole records.
    other_bytes: u64,
    unread_blocks: u32,
    /// The first failure.
    failure: Option<io::Error>,
}

impl<'a, R: Read + Seek> Records<'a, R> {
    /// Those of a file that is at its begin.
    pub(super) fn of(from: R, seen: &'a mut SeenRecords) -> Self {
        Self {
            from,
            window: Vec::new(),
            at: 0,
            end: 0,
            is_at_end: false,
            seen,
            other_bytes: 0,
            unread_blocks: 0,
            failure: None,
        }
    }

    pub(super) fn next(&mut self) -> Option<NewRecord> {
        loop {
            if !self.is_at_end && self.window.len() - self.at < RECORD_BYTES_MAX {
                self.fill();
            }
            let rest = &self.window[self.at..];
            let Some(begin) = record::find(rest) else {
                if self.is_at_end {
                    return None;
                }
                // A frame may begin in the last bytes and go on in the next window.
                self.at += rest.len().saturating_sub(RECORD_BYTES_MAX - 1);
                continue;
            };
            if !self.is_at_end && rest.len() - begin < RECORD_BYTES_MAX {
                self.at += begin;
                continue;
            }
            let Some((record, app, received_at)) = record::whole(&rest[begin..]) else {
                self.at += begin + 1;
                continue;
            };
            self.at += begin + record.len();
            self.other_bytes -= record.len() as u64;
            if self.seen.note(record) {
                let bytes = record.to_vec();
                return Some(NewRecord { received_ms: received_at.get(), app: Some(app), bytes });
            }
        }
    }

    /// How many bytes that were read are no whole record. Asked for behind the last one.
    pub(super) fn other_bytes(&self) -> u64 {
        assert!(self.is_at_end, "all of the file was read");
        self.other_bytes
    }

    /// Why not all of the file could be read; none: all of it was.
    pub(super) fn into_failure(self) -> Option<io::Error> {
        self.failure
    }

    /// Drops what was looked at and reads on.
    fn fill(&mut self) {
        self.window.drain(..self.at);
        self.at = 0;
        let before = self.window.len();
        let read = (&mut self.from).take((WINDOW_BYTES - before) as u64).read_to_end(&mut self.window);
        let added = (self.window.len() - before) as u64;
        self.end += added;
        self.other_bytes += added;
        match read {
            Ok(read) => self.is_at_end = read == 0,
            Err(error) => {
                self.failure.get_or_insert(error);
                self.pass_block();
            }
        }
        assert!(self.window.len() <= WINDOW_BYTES, "the window keeps its limit");
    }

    /// Goes on behind the block that gives nothing. What is in the window before it and what comes behind it make no record
    /// together: no checksum fits.
    fn pass_block(&mut self) {
        self.unread_blocks += 1;
        let behind = (self.end / BLOCK_BYTES + 1) * BLOCK_BYTES;
        if self.unread_blocks > UNREAD_BLOCKS_MAX || self.from.seek(SeekFrom::Start(behind)).is_err() {
            self.is_at_end = true;
        }
        self.end = behind;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::ops::Range;

    use super::*;
    use crate::callback::Received;
    use crate::model::{Millis, SdkAppId};

    fn record(number: usize, body_bytes: usize) -> Vec<u8> {
        let received = Received {
            request_id: Some(number.to_string()),
            ..Received::bare(SdkAppId::parse("1").unwrap(), Millis::new(1), vec![b'x'; body_bytes])
        };
        record::encode(&received).unwrap()
    }

    fn found(bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut seen = SeenRecords::default();
        let mut records = Records::of(Cursor::new(bytes), &mut seen);
        std::iter::from_fn(|| records.next()).map(|record| record.bytes).collect()
    }

    #[test]
    fn a_record_is_found_once_wherever_windows_of_the_file_end() {
        let (small, large) = (record(1, 10), record(2, 1024 * 1024));
        for place in [0, 1, WINDOW_BYTES - small.len(), WINDOW_BYTES - 12, WINDOW_BYTES - 1, WINDOW_BYTES] {
            let mut bytes = vec![3; place];
            bytes.extend(&large[..large.len() - 1]);
            bytes.extend(&small);
            bytes.extend(&large);
            bytes.extend(&small);
            assert_eq!(found(&bytes), [small.clone(), large.clone()], "{place}");
        }
    }

    #[test]
    fn a_length_that_a_flipped_bit_has_made_large_hides_no_record_behind_it() {
        let (first, second) = (record(1, 10), record(2, 10));
        for bit in 0..first.len() * 8 {
            let mut bytes = [&first[..], &second].concat();
            bytes[bit / 8] ^= 1 << (bit % 8);
            // The checksum does not cover the number of the version: with a higher one the record is kept for a later program.
            let kept = (bytes[0] > first[0]).then(|| bytes[..first.len()].to_vec());
            assert!(found(&bytes).iter().eq(kept.iter().chain([&second])), "bit {bit}");
        }
    }

    /// A disk that gives nothing of one part.
    struct Disk {
        bytes: Vec<u8>,
        bad: Range<usize>,
        at: usize,
    }

    impl Read for Disk {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            if self.bad.contains(&self.at) {
                return Err(io::Error::other("bad block"));
            }
            let end = if self.at < self.bad.start { self.bad.start } else { self.bytes.len() };
            let read = self.bytes.get(self.at..end).unwrap_or_default();
            let count = read.len().min(into.len());
            into[..count].copy_from_slice(&read[..count]);
            self.at += count;
            Ok(count)
        }
    }

    impl Seek for Disk {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            let SeekFrom::Start(to) = to else { unreachable!("the reader seeks from the begin") };
            self.at = usize::try_from(to).unwrap();
            Ok(to)
        }
    }

    /// The records that are found, the bytes of others, and whether there was a failure.
    fn read(bytes: Vec<u8>, bad: Range<usize>, seen: &mut SeenRecords) -> (Vec<Vec<u8>>, u64, bool) {
        let mut records = Records::of(Disk { bytes, bad, at: 0 }, seen);
        let found = std::iter::from_fn(|| records.next()).map(|record| record.bytes).collect();
        (found, records.other_bytes(), records.into_failure().is_some())
    }

    #[test]
    fn what_stands_before_and_behind_bad_blocks_is_found_once_however_often_the_file_is_read() {
        let all: Vec<Vec<u8>> = (0..200).map(|number| record(number, 500)).collect();
        let (bytes, block) = (all.concat(), usize::try_from(BLOCK_BYTES).unwrap());
        for bad in [0..block, block..3 * block, 3 * block + 5..4 * block, 20 * block..bytes.len()] {
            let lost = |number: usize| {
                let begin: usize = all[..number].iter().map(Vec::len).sum();
                begin < bad.end && begin + all[number].len() > bad.start
            };
            let whole: Vec<Vec<u8>> =
                (0..all.len()).filter(|number| !lost(*number)).map(|number| all[number].clone()).collect();
            assert!(whole.len() > 100 && whole.len() < all.len());
            let mut seen = SeenRecords::default();
            let (found, other_bytes, has_failed) = read(bytes.clone(), bad.clone(), &mut seen);
            assert_eq!(found, whole, "{bad:?}");
            let read_bytes = bytes.len() - bad.len() - whole.iter().map(Vec::len).sum::<usize>();
            assert_eq!((other_bytes, has_failed), (read_bytes as u64, true), "{bad:?}");
            // Once the disk gives all of it, what was missing is found and nothing else.
            let (rest, other_bytes, has_failed) = read(bytes.clone(), 0..0, &mut seen);
            let missing: Vec<Vec<u8>> =
                (0..all.len()).filter(|number| lost(*number)).map(|number| all[number].clone()).collect();
            assert_eq!((rest, other_bytes, has_failed), (missing, 0, false), "{bad:?}");
        }
    }

    #[test]
    fn a_disk_that_gives_nothing_at_all_is_given_up_after_a_number_of_blocks() {
        let first = record(1, 10);
        let bytes = [&first[..], &vec![0; 1024 * 1024], &record(2, 10)].concat();
        let (bad, length) = (first.len()..bytes.len() - 1024, bytes.len());
        let (found, other_bytes, has_failed) = read(bytes, bad, &mut SeenRecords::default());
        assert_eq!((found, other_bytes, has_failed), (vec![first], 0, true), "of {length} bytes");
    }

    #[test]
    fn bytes_that_are_no_record_are_counted() {
        let [one, other] = [record(1, 10), record(2, 10)];
        let mut damaged = one.clone();
        damaged[20] ^= 1;
        for (bytes, others) in [
            ([&one[..], &other, &one].concat(), 0),
            ([&one[..], &damaged, &other].concat(), one.len()),
            ([&one[..], &other[..other.len() - 1]].concat(), other.len() - 1),
        ] {
            let (_, other_bytes, has_failed) = read(bytes, 0..0, &mut SeenRecords::default());
            assert_eq!((other_bytes, has_failed), (others as u64, false));
        }
    }
}
