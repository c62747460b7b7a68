//! The thread that owns the files of what is kept, and what it shares with the handle (`kept`).
//!
//! It appends batches, writes the marks behind them, and removes what was old enough when the database was last found
//! complete, or what the spool needs the room of. What is to be sent again makes no room: it may be the only copy of a
//! callback that was answered, and to refuse a new one is better than to lose it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::kept_dropped::KeptDropped;
use super::kept_marks::{KeptMarkFile, KeptMarks, LaneMarks, MARK_LANES};
use super::kept_segments::KeptSegments;
use super::kept_unread;
use super::losses::Losses;
use super::status::{SpoolError, SpoolStatus};
use crate::clock;

/// What the handle and the thread share.
#[derive(Debug)]
pub(super) struct KeptShared {
    pub(super) marks: Mutex<KeptMarks>,
    pub(super) next: [AtomicU64; MARK_LANES],
    /// Bytes that wait for the thread.
    pub(super) queued: AtomicU64,
    /// Bytes in the files.
    pub(super) bytes: AtomicU64,
    /// The begin of the last look that found the database complete, in Unix milliseconds: records age until then.
    pub(super) complete_ms: AtomicI64,
    pub(super) dropped: KeptDropped,
    /// A lane has found the database behind.
    pub(super) behind: Notify,
    /// Records were appended without a mark, or those marks are gone, since all was sealed to be sent again: no mark of the
    /// database says whether it has them.
    pub(super) has_unmarked: AtomicBool,
}

impl KeptShared {
    pub(super) fn marks<T>(&self, run: impl FnOnce(&mut KeptMarks) -> T) -> T {
        run(&mut self.marks.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What the thread is asked for.
#[derive(Debug)]
pub(super) enum KeptWork {
    /// Keep the records of a batch; `mark` is none where the database was found behind.
    Append { records: Vec<u8>, lane: usize, mark: Option<u64> },
    /// Remove what was old enough at the last complete look, and what the spool needs the room of.
    Tidy,
    /// End the last file, and answer where all of them are.
    Seal(oneshot::Sender<Vec<PathBuf>>),
    /// Remove a file, whose records are in the spool.
    Remove(PathBuf),
    /// Give a file another name of which not all could be read, and note the gap.
    SetAside(PathBuf, String),
    /// Lower the marks that are written.
    Lower { known: LaneMarks, found: LaneMarks },
    /// End.
    Close,
}

/// Whether records are there that have no mark: while there are any, the file of the marks says nothing, so that a
/// process that is killed meanwhile does not forget that they are to be sent once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnmarkedRecords {
    None,
    /// They are in files that are being sent.
    Sealed,
    /// They are in the last file.
    Open,
}

/// The owner of the files. [`KeptThread::run`] may block.
pub(super) struct KeptThread {
    pub(super) shared: Arc<KeptShared>,
    /// What the file says: marks behind the records that are appended.
    pub(super) marks: KeptMarks,
    pub(super) mark_file: KeptMarkFile,
    pub(super) unmarked: UnmarkedRecords,
    pub(super) segments: KeptSegments,
    pub(super) losses: Losses,
    pub(super) keep_ms: i64,
    pub(super) status: watch::Receiver<SpoolStatus>,
    pub(super) max_bytes: u64,
    /// Each trouble is reported once, until it has passed.
    pub(super) is_failing: bool,
    pub(super) is_short_of_room: bool,
}

impl KeptThread {
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<KeptWork>) {
        while let Some(request) = queue.blocking_recv() {
            match request {
                KeptWork::Append { records, lane, mark } => self.append(&records, lane, mark),
                KeptWork::Tidy => self.tidy(true),
                // A caller that has gone needs no answer.
                KeptWork::Seal(reply) => drop(reply.send(self.seal())),
                KeptWork::Remove(path) => self.segments.remove(&path),
                KeptWork::SetAside(path, cause) => self.set_aside(&path, &cause),
                KeptWork::Lower { known, found } => self.lower(&known, &found),
                KeptWork::Close => return,
            }
            self.shared.bytes.store(self.segments.bytes(), Ordering::Relaxed);
        }
    }

    /// The database is behind, or may be: what went before its time cannot be sent again.
    fn seal(&mut self) -> Vec<PathBuf> {
        self.shared.dropped.note_gap();
        if self.unmarked == UnmarkedRecords::Open {
            self.unmarked = UnmarkedRecords::Sealed;
        }
        self.segments.seal()
    }

    fn set_aside(&mut self, path: &Path, cause: &str) {
        if let Some((period, moved)) = self.segments.set_aside(path, clock::now()) {
            kept_unread::note(&self.losses, path, moved, cause, period);
        }
    }

    /// All that was sealed is sent.
    fn lower(&mut self, known: &LaneMarks, found: &LaneMarks) {
        self.marks.lower(known, found);
        if self.unmarked == UnmarkedRecords::Sealed {
            self.unmarked = UnmarkedRecords::None;
        }
        self.write_marks();
    }

    fn append(&mut self, records: &[u8], lane: usize, mark: Option<u64>) {
        let bytes = records.len() as u64;
        self.shared.queued.fetch_sub(bytes, Ordering::AcqRel);
        let now = clock::now().get();
        if mark.is_none() {
            self.unmarked = UnmarkedRecords::Open;
            self.write_marks();
        }
        match self.segments.append(records, now) {
            Ok(()) => self.is_failing = false,
            Err(error) => {
                self.shared.dropped.add(bytes, now, now);
                self.report(&format!("what was answered cannot be kept: {error}"));
            }
        }
        if let Some(mark) = mark {
            self.marks.confirm(lane, mark);
            self.write_marks();
        }
        self.tidy(false);
    }

    pub(super) fn write_marks(&mut self) {
        let written = match self.unmarked {
            UnmarkedRecords::None => self.mark_file.set(&self.marks),
            UnmarkedRecords::Sealed | UnmarkedRecords::Open => self.mark_file.clear(),
        };
        if let Err(error) = written {
            self.report(&format!("the marks of what was answered cannot be written: {error}"));
        }
    }

    /// Removes what was old enough, and what the spool needs the room of. A disk that is full takes a callback only where
    /// something goes: one segment with each request from outside, because the spool finds out by its next write what that
    /// has helped.
    fn tidy(&mut self, is_requested: bool) {
        let complete_ms = self.shared.complete_ms.load(Ordering::Relaxed);
        self.segments.expire(complete_ms);
        self.shared.dropped.forget(complete_ms.saturating_sub(self.keep_ms));
        let (used, is_disk_full) = {
            let status = self.status.borrow();
            (status.bytes, status.failure == Some(SpoolError::DiskFull))
        };
        let room = self.max_bytes.saturating_sub(used);
        let (mut is_one_wanted, mut is_dropping) = (is_requested && is_disk_full, false);
        while is_one_wanted || self.segments.bytes() > room {
            let Some(oldest) = self.segments.remove_oldest() else { break };
            self.shared.dropped.add(oldest.bytes, oldest.begun_ms, oldest.last_ms);
            (is_one_wanted, is_dropping) = (false, true);
        }
        if is_dropping {
            if !self.is_short_of_room {
                tracing::warn!(
                    "records kept for KEEP_ANSWERED_SECS are dropped before their time, the oldest first: the spool needs \
                     the room; a failover that loses commits may lose what they say"
                );
            }
            self.is_short_of_room = true;
        } else if self.segments.bytes() <= room / 2 && !is_disk_full {
            self.is_short_of_room = false;
        }
    }

    fn report(&mut self, trouble: &str) {
        if !self.is_failing {
            tracing::warn!("{trouble}; a failover that loses commits may lose what was answered since");
        }
        self.is_failing = true;
    }
}

#[cfg(test)]
mod tests {
    use super::super::losses::{KEPT_DROPPED, KEPT_UNREAD};
    use super::*;
    use crate::files::PrivateDir;

    /// Segments of 100 bytes.
    fn thread(dir: PrivateDir, losses: &Losses, status: watch::Receiver<SpoolStatus>) -> KeptThread {
        let (mark_file, marks, _) = KeptMarkFile::begin(&dir).unwrap();
        let (keep_ms, max_bytes) = (600_000, 1600);
        let shared = KeptShared {
            marks: Mutex::new(marks),
            next: std::array::from_fn(|_| AtomicU64::new(0)),
            queued: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            complete_ms: AtomicI64::new(i64::MIN),
            dropped: KeptDropped::new(losses.clone()),
            behind: Notify::new(),
            has_unmarked: AtomicBool::new(false),
        };
        KeptThread {
            shared: Arc::new(shared),
            marks,
            mark_file,
            unmarked: UnmarkedRecords::None,
            segments: KeptSegments::open(dir, keep_ms, max_bytes),
            losses: losses.clone(),
            keep_ms,
            status,
            max_bytes,
            is_failing: false,
            is_short_of_room: false,
        }
    }

    fn keep(thread: &mut KeptThread, batches: u64) {
        for mark in 0..batches {
            thread.append(&[7; 100], 0, Some(mark));
        }
    }

    #[test]
    fn a_full_disk_takes_one_segment_at_a_time_and_none_that_is_to_be_sent_again() {
        let (dir, losses) = (tempfile::tempdir().unwrap(), Losses::default());
        let full = SpoolStatus { failure: Some(SpoolError::DiskFull), ..SpoolStatus::default() };
        let (_status, read) = watch::channel(full);
        let mut thread = thread(PrivateDir::open(dir.path()).unwrap(), &losses, read);
        keep(&mut thread, 5);
        assert_eq!(thread.segments.bytes(), 500, "what is appended takes nothing of it");
        thread.tidy(true);
        assert_eq!(thread.segments.bytes(), 400);
        thread.tidy(true);
        assert_eq!(thread.segments.bytes(), 300);
        assert_eq!(losses.newest(), [], "the database had it");
        let sealed = thread.seal();
        assert_eq!(sealed.len(), 3);
        let gaps: Vec<String> = losses.newest().into_iter().map(|gap| gap.cause).collect();
        assert_eq!(gaps, [KEPT_DROPPED], "the database may lack what went");
        keep(&mut thread, 2);
        for _ in 0..4 {
            thread.tidy(true);
        }
        assert_eq!(thread.segments.seal(), sealed);
    }

    #[test]
    fn what_the_spool_takes_of_the_room_takes_nothing_of_what_is_to_be_sent_again() {
        let (dir, losses) = (tempfile::tempdir().unwrap(), Losses::default());
        let (status, read) = watch::channel(SpoolStatus::default());
        let mut thread = thread(PrivateDir::open(dir.path()).unwrap(), &losses, read);
        keep(&mut thread, 10);
        let sealed = thread.seal();
        // The spool charges up to twice the bytes of a record.
        status.send_modify(|status| status.bytes = 1500);
        thread.segments.remove(&sealed[0]);
        keep(&mut thread, 1);
        assert_eq!(thread.segments.seal(), sealed[1..], "what was appended later has made room");
        let gap_count = losses.gap_count();
        // What went for room has expired by now.
        thread.shared.complete_ms.store(i64::MAX, Ordering::Relaxed);
        thread.tidy(false);
        thread.seal();
        assert_eq!(losses.gap_count(), gap_count);
    }

    #[test]
    fn the_marks_that_are_written_say_nothing_while_records_without_a_mark_are_not_sent() {
        let (dir, losses) = (tempfile::tempdir().unwrap(), Losses::default());
        let (_status, read) = watch::channel(SpoolStatus::default());
        let mut thread = thread(PrivateDir::open(dir.path()).unwrap(), &losses, read);
        let path = dir.path().join("kept.mark");
        let is_written = || std::fs::read(&path).unwrap() != [0; 56];
        keep(&mut thread, 2);
        assert!(is_written());
        thread.append(&[7; 100], 1, None);
        keep(&mut thread, 2);
        assert!(!is_written());
        thread.seal();
        thread.append(&[7; 100], 1, None);
        let [known, found] = [[1, 0, 0], [0, 0, 0]];
        thread.lower(&known, &found);
        assert!(!is_written(), "one came behind what was sent");
        thread.seal();
        keep(&mut thread, 2);
        assert!(!is_written());
        thread.lower(&known, &found);
        assert!(is_written());
    }

    #[test]
    fn a_file_that_is_set_aside_stays_under_another_name_and_its_period_is_a_gap() {
        let (dir, losses) = (tempfile::tempdir().unwrap(), Losses::default());
        let (_status, read) = watch::channel(SpoolStatus::default());
        let mut thread = thread(PrivateDir::open(dir.path()).unwrap(), &losses, read);
        keep(&mut thread, 3);
        let sealed = thread.seal();
        thread.set_aside(&sealed[1], "bad block");
        std::fs::remove_file(&sealed[2]).unwrap();
        thread.set_aside(&sealed[2], "no such file");
        assert_eq!((thread.segments.bytes(), losses.gap_count()), (100, 2));
        let gaps = losses.newest();
        assert!(
            gaps.iter()
                .all(|gap| gap.cause == KEPT_UNREAD && gap.first_ms > 0 && gap.last_ms >= gap.first_ms)
        );
        let names = std::fs::read_dir(dir.path()).unwrap();
        let names: Vec<String> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        assert_eq!(
            names.iter().filter(|name| name.starts_with("kept-0000000001.unread-")).count(),
            1,
            "{names:?}"
        );
        assert!(!sealed[1].exists() && sealed[0].exists());
        // Neither age nor room takes it, and a start knows it.
        super::super::kept_segments::remove_left(&PrivateDir::open(dir.path()).unwrap());
        assert_eq!(super::super::salvage::left_over(dir.path()).len(), 1);
    }
}
