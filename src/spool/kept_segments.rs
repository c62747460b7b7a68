//! The files that hold what was answered lately: segments of an append-only log beside the spool's file.
//!
//! A segment is a row of records as the spool has them, each a frame with a checksum, so whatever a crash leaves of the last
//! one is found by the reader of the salvage. Nothing is synced and nothing rewritten: to append is one write, and a segment
//! whose newest record is old enough is removed as a whole. How late it is when records age is the caller's to say: the
//! clock of an outage does not count. Blocking, and used by one thread.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::kept_unread::{NAME_BEGIN, aside_name};
use crate::files::{Access, FileError, PrivateDir};
use crate::model::Millis;

/// The longest segment, and the share of all the room that one takes at most.
const SEGMENT_BYTES_MAX: u64 = 16 * 1024 * 1024;
const SEGMENT_SHARE: u64 = 16;

/// A segment is begun anew after this share of the time for which records are kept, so that no record stays much longer.
const TIME_SHARE: i64 = 16;

/// One file.
#[derive(Debug)]
pub(super) struct KeptSegment {
    path: PathBuf,
    pub(super) bytes: u64,
    /// When the oldest record was appended, or an earlier moment.
    pub(super) begun_ms: i64,
    /// When the newest record was appended.
    pub(super) last_ms: i64,
    /// It is to be sent again, and may be the only copy of what it says: it stays until it is removed by its name.
    is_sealed: bool,
}

/// All of them, oldest first.
#[derive(Debug)]
pub(super) struct KeptSegments {
    dir: PrivateDir,
    keep_ms: i64,
    segment_bytes_max: u64,
    all: VecDeque<KeptSegment>,
    /// The last one, while it is appended to.
    open: Option<File>,
    next: u64,
}

impl KeptSegments {
    /// Those that an earlier process has left; nothing is appended to them.
    pub(super) fn open(dir: PrivateDir, keep_ms: i64, bytes_max: u64) -> Self {
        let mut all: Vec<KeptSegment> = left(dir.path());
        all.sort_by(|one, other| one.path.cmp(&other.path));
        let last = all.last().and_then(|segment| number(&segment.path));
        // The name does not say when one was begun; it was due for the next one after this time.
        all.iter_mut()
            .for_each(|segment| segment.begun_ms = segment.begun_ms.saturating_sub(keep_ms / TIME_SHARE));
        let segment_bytes_max = SEGMENT_BYTES_MAX.min(bytes_max / SEGMENT_SHARE).max(1);
        let next = last.map_or(0, |last| last + 1);
        Self { dir, keep_ms, segment_bytes_max, all: all.into(), open: None, next }
    }

    /// What all of them take.
    pub(super) fn bytes(&self) -> u64 {
        self.all.iter().map(|segment| segment.bytes).sum()
    }

    /// Appends records. After an error the next ones go to another file.
    pub(super) fn append(&mut self, records: &[u8], now_ms: i64) -> Result<(), FileError> {
        let is_due = self.all.back().is_some_and(|last| {
            last.bytes >= self.segment_bytes_max || now_ms - last.begun_ms >= self.keep_ms / TIME_SHARE
        });
        if is_due {
            self.open = None;
        }
        let file = match &mut self.open {
            Some(file) => file,
            open => {
                let name = format!("{NAME_BEGIN}{:010}", self.next);
                self.next += 1;
                let file = self.dir.file(&name, Access::New)?;
                let path = self.dir.path().join(name);
                let (bytes, begun_ms, last_ms, is_sealed) = (0, now_ms, now_ms, false);
                self.all.push_back(KeptSegment { path, bytes, begun_ms, last_ms, is_sealed });
                open.insert(file)
            }
        };
        let written = file.write_all(records);
        let Some(last) = self.all.back_mut() else { unreachable!("an open segment is the last one") };
        if let Err(source) = written {
            // What was written of them is no damage.
            if file.set_len(last.bytes).is_err() {
                last.bytes += records.len() as u64;
            }
            self.open = None;
            return Err(FileError::of(self.dir.path(), source));
        }
        last.last_ms = now_ms;
        last.bytes += records.len() as u64;
        Ok(())
    }

    /// Removes what was old enough at this moment.
    pub(super) fn expire(&mut self, at_ms: i64) {
        let is_old = |segment: &KeptSegment| at_ms.saturating_sub(segment.last_ms) >= self.keep_ms;
        let expired =
            self.all.iter().filter(|segment| !segment.is_sealed).take_while(|segment| is_old(segment));
        for _ in 0..expired.count() {
            let _ = self.remove_oldest();
        }
    }

    /// Removes the oldest that is not sealed, and answers which it was.
    pub(super) fn remove_oldest(&mut self) -> Option<KeptSegment> {
        let at = self.all.iter().position(|segment| !segment.is_sealed)?;
        let oldest = self.all.remove(at)?;
        if at == self.all.len() {
            self.open = None;
        }
        unlink(&self.dir, &oldest.path);
        Some(oldest)
    }

    /// Ends the last one, and answers where all of them are; they stay until they are removed one by one.
    pub(super) fn seal(&mut self) -> Vec<PathBuf> {
        self.open = None;
        self.all.iter_mut().for_each(|segment| segment.is_sealed = true);
        self.all.iter().map(|segment| segment.path.clone()).collect()
    }

    /// Gives one that was sealed another name and forgets it, so that it neither expires nor makes room; answers when its records
    /// were appended, and where it is now. One that cannot be given another name stays, sealed. None: it is not known.
    pub(super) fn set_aside(
        &mut self,
        path: &Path,
        at: Millis,
    ) -> Option<((i64, i64), Result<PathBuf, FileError>)> {
        let place = self.all.iter().position(|segment| segment.path == path)?;
        let KeptSegment { begun_ms, last_ms, is_sealed, .. } = self.all[place];
        assert!(is_sealed, "a segment that is appended to stays");
        let name = path.file_name()?.to_str()?;
        let aside = aside_name(name, at);
        let moved = self.dir.rename(name, &aside).map(|()| self.dir.path().join(aside));
        if moved.as_ref().err().is_none_or(FileError::is_missing) {
            self.all.remove(place);
        }
        Some(((begun_ms, last_ms), moved))
    }

    /// Removes one that was sealed.
    pub(super) fn remove(&mut self, path: &Path) {
        if let Some(at) = self.all.iter().position(|segment| segment.path == path) {
            assert!(self.open.is_none() || at + 1 < self.all.len(), "a segment that is appended to stays");
            self.all.remove(at);
            unlink(&self.dir, path);
        }
    }
}

fn unlink(dir: &PrivateDir, path: &Path) {
    let name = path.file_name().and_then(|name| name.to_str());
    if let Some(Err(error)) = name.map(|name| dir.remove(name)) {
        tracing::warn!(%error, "a file of kept records cannot be removed");
    }
}

/// The segments in a data directory.
fn left(dir: &Path) -> Vec<KeptSegment> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let segment = |entry: std::fs::DirEntry| {
        let path = entry.path();
        number(&path)?;
        let about = entry.metadata().ok()?;
        let changed = about.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        let last_ms = i64::try_from(changed.as_millis()).ok()?;
        Some(KeptSegment { path, bytes: about.len(), begun_ms: last_ms, last_ms, is_sealed: false })
    };
    entries.filter_map(segment).collect()
}

fn number(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_prefix(NAME_BEGIN)?.parse().ok()
}

/// Removes all that an earlier process has kept.
pub(super) fn remove_left(dir: &PrivateDir) {
    left(dir.path()).iter().for_each(|segment| unlink(dir, &segment.path));
}

#[cfg(test)]
mod tests {
    use super::KeptSegments;
    use crate::files::PrivateDir;

    #[test]
    fn segments_go_by_age_and_for_room_and_outlive_their_process() {
        let dir = tempfile::tempdir().unwrap();
        let open = || KeptSegments::open(PrivateDir::open(dir.path()).unwrap(), 16_000, 1600);
        let mut kept = open();
        for (at, bytes) in [(1, 60), (2, 60), (3, 60), (1_500, 10)] {
            kept.append(&vec![7; bytes], at).unwrap();
        }
        // The first two fill a segment of 100 bytes, and the last one is later than a sixteenth of the time.
        assert_eq!((kept.all.len(), kept.bytes()), (3, 190));
        kept.expire(16_002);
        assert_eq!((kept.bytes(), kept.all.len()), (70, 2));
        let oldest = kept.remove_oldest().unwrap();
        assert_eq!((oldest.bytes, oldest.begun_ms, oldest.last_ms), (60, 3, 3));
        kept.append(&[7; 5], 1_501).unwrap();
        assert_eq!((kept.bytes(), kept.all.len()), (15, 1));
        let mut again = open();
        assert_eq!(again.seal(), kept.seal());
        again.append(&[7; 3], 20_000).unwrap();
        assert_eq!(again.seal().len(), 2, "an old segment is not appended to");
    }

    #[test]
    fn sealed_segments_neither_expire_nor_make_room_and_those_behind_them_do() {
        let dir = tempfile::tempdir().unwrap();
        let mut kept = KeptSegments::open(PrivateDir::open(dir.path()).unwrap(), 16_000, 1600);
        for at in 0..3 {
            kept.append(&[7; 100], at).unwrap();
        }
        let sealed = kept.seal();
        for at in 3..6 {
            kept.append(&[7; 100], at).unwrap();
        }
        kept.expire(16_003);
        assert_eq!(kept.bytes(), 500, "the oldest of the later ones has expired");
        assert!(kept.remove_oldest().is_some() && kept.remove_oldest().is_some());
        assert!(kept.remove_oldest().is_none(), "sealed ones stay");
        assert_eq!((kept.bytes(), sealed.len()), (300, 3));
        kept.append(&[7; 9], 20_000).unwrap();
        sealed.iter().for_each(|path| kept.remove(path));
        assert_eq!(kept.bytes(), 9);
    }
}
