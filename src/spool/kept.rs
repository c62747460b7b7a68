//! What was answered lately, kept for a time after it was committed (`KEEP_ANSWERED_SECS`), and put into the spool again
//! where the database turns out to lack commits that it had confirmed.
//!
//! [`KeptAnswers`] is the handle: it gives each batch its mark, takes the batch once its commit is confirmed, and puts all
//! that is kept into the spool when it is asked to. A thread of its own owns the files (`kept_thread`), so that
//! a disk that stalls holds up neither lanes nor the spool. What is kept is no backlog: no depth, no age, no share of the
//! limit. Records go once the database was found complete when they were old enough, and earlier, the oldest first, when the
//! spool needs the room: by the clock alone they would be gone at the end of a long outage, which is what they are kept for.
//! Knows nothing of PostgreSQL: whether a database lacks something is for the writer to find out.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::sleep;

use super::kept_dropped::KeptDropped;
use super::kept_marks::{KeptMarkFile, LaneMarks};
use super::kept_segments::{KeptSegments, remove_left};
use super::kept_thread::{KeptShared, KeptThread, KeptWork, UnmarkedRecords};
use super::losses::Losses;
use super::record;
use super::records::SeenRecords;
use super::salvage::{Salvage, SalvagedFile};
use super::status::{SpoolError, SpoolPlace, SpoolStatus};
use crate::callback::Received;
use crate::clock;
use crate::files::PrivateDir;
use crate::model::Millis;

/// How many requests may wait for the thread, and how many bytes of records in them. What comes at the limit is not kept.
const QUEUE_MAX: usize = 4096;
const QUEUED_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// How often a file that is to be sent again is tried, and the pause behind the first try; it doubles with each: half a minute
/// in all. A number of open files that is exhausted is over by then, and a disk that fails needs a person. Each try puts what
/// can be read and was not put before. Behind the last one the file is set aside, because no look at the database is taken
/// meanwhile.
const READ_TRIES_MAX: u32 = 6;
const REREAD_PAUSE: Duration = Duration::from_secs(1);

/// The mark of a batch that is about to be committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextMark {
    /// The id of the data directory.
    pub replica: u128,
    /// Whose batch it is.
    pub lane: usize,
    /// Higher than every one of this lane before.
    pub mark: u64,
    /// The highest mark of this lane whose commit was confirmed; 0: none was.
    pub confirmed: u64,
}

/// A file that is to be sent again, and what of it is in the spool.
#[derive(Debug)]
struct UnsentFile {
    path: PathBuf,
    seen: SeenRecords,
}

/// How one try to send a file went.
#[derive(Debug)]
enum SendTry {
    /// All of it is in the spool.
    Sent,
    /// Not all of it can be read now.
    Unread(String),
    /// All of it was read, and not all of it is records.
    Damaged(String),
}

/// The handle. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct KeptAnswers {
    shared: Arc<KeptShared>,
    requests: mpsc::Sender<KeptWork>,
    salvage: Salvage,
}

impl KeptAnswers {
    /// Opens the files of a data directory; the second value is the work of a thread that may block. None where nothing is
    /// to be kept, and what an earlier process has kept is removed.
    pub(super) fn open(
        place: &SpoolPlace,
        salvage: Salvage,
        losses: Losses,
        status: watch::Receiver<SpoolStatus>,
    ) -> Result<Option<(Self, impl FnOnce() + Send + 'static)>, SpoolError> {
        let dir = PrivateDir::open(&place.dir)?;
        if place.keep_answered_secs == 0 {
            remove_left(&dir);
            KeptMarkFile::remove(&dir);
            return Ok(None);
        }
        let (mark_file, marks, was_known) = KeptMarkFile::begin(&dir)?;
        let keep_ms = i64::try_from(place.keep_answered_secs.saturating_mul(1000)).unwrap_or(i64::MAX);
        let segments = KeptSegments::open(dir, keep_ms, place.max_bytes);
        // Records of a time whose marks are gone have to be sent again, whatever the database has.
        let has_unmarked = !was_known && segments.bytes() > 0;
        let shared = Arc::new(KeptShared {
            marks: Mutex::new(marks),
            next: std::array::from_fn(|_| AtomicU64::new(marks.base())),
            queued: AtomicU64::new(0),
            bytes: AtomicU64::new(segments.bytes()),
            complete_ms: AtomicI64::new(i64::MIN),
            dropped: KeptDropped::new(losses.clone()),
            behind: Notify::new(),
            has_unmarked: AtomicBool::new(has_unmarked),
        });
        let (requests, queue) = mpsc::channel(QUEUE_MAX);
        let mut thread = KeptThread {
            shared: Arc::clone(&shared),
            marks,
            mark_file,
            unmarked: if has_unmarked { UnmarkedRecords::Open } else { UnmarkedRecords::None },
            segments,
            losses,
            keep_ms,
            status,
            max_bytes: place.max_bytes,
            is_failing: false,
            is_short_of_room: false,
        };
        if has_unmarked {
            thread.write_marks();
        }
        Ok(Some((Self { shared, requests, salvage }, move || thread.run(queue))))
    }

    /// The mark of the next batch of a lane. Asked for before each transaction, because no two may have the same.
    #[must_use]
    pub fn next_mark(&self, lane: usize) -> NextMark {
        let (replica, confirmed) = self.shared.marks(|marks| (marks.replica, marks.confirmed[lane]));
        let mark = self.shared.next[lane].fetch_add(1, Ordering::Relaxed) + 1;
        NextMark { replica, lane, mark, confirmed }
    }

    /// Keeps a batch whose commit was confirmed; `is_raised` says whether the database had every batch of the lane before.
    /// Does not wait for the disk.
    pub fn keep<'a>(&self, next: NextMark, batch: impl Iterator<Item = &'a Received>, is_raised: bool) {
        let mut records = Vec::new();
        for received in batch {
            match record::encode(received) {
                Ok(bytes) => records.extend(bytes),
                Err(error) => tracing::error!(%error, "a callback cannot be kept"),
            }
        }
        let bytes = records.len() as u64;
        let mark = is_raised.then_some(next.mark);
        let is_full = self.shared.queued.fetch_add(bytes, Ordering::AcqRel) + bytes > QUEUED_BYTES_MAX;
        let request = KeptWork::Append { records, lane: next.lane, mark };
        if is_full || self.requests.try_send(request).is_err() {
            self.shared.queued.fetch_sub(bytes, Ordering::AcqRel);
            let now = clock::now().get();
            self.shared.dropped.add(bytes, now, now);
            tracing::debug!("a batch is not kept: too much waits for the disk");
        }
        // Behind the request: what is confirmed is on its way to the files, so whatever is sent again later has it.
        match mark {
            Some(mark) => self.shared.marks(|marks| marks.confirm(next.lane, mark)),
            None => {
                self.shared.has_unmarked.store(true, Ordering::Release);
                self.shared.behind.notify_one();
            }
        }
    }

    /// The id of the data directory, the highest marks whose commits were confirmed, and the moment. Read before the
    /// database is asked.
    #[must_use]
    pub fn confirmed(&self) -> (u128, LaneMarks, Millis) {
        let now = clock::now();
        self.shared.marks(|marks| (marks.replica, marks.confirmed, now))
    }

    /// Whether records were kept without a mark since all was sent again, or of a time whose marks are gone: whatever marks the
    /// database has, it may lack what they say, and they have to be sent again. Asked before the database is.
    #[must_use]
    pub fn has_unmarked(&self) -> bool {
        self.shared.has_unmarked.load(Ordering::Acquire)
    }

    /// Resolves when a lane has found the database behind.
    pub async fn found_behind(&self) {
        self.shared.behind.notified().await;
    }

    /// The database had all that was confirmed before this moment. Until such a look nothing expires: in an outage, and after
    /// a start without the database, whatever is kept may be missing in the one that takes over.
    pub fn found_complete(&self, at: Millis) {
        self.shared.complete_ms.store(at.get(), Ordering::Relaxed);
    }

    /// Removes what was old enough when the database was last found complete. To be called now and then: a quiet service
    /// appends nothing.
    pub fn tidy(&self) {
        // A queue that is full tidies by itself.
        let _ = self.requests.try_send(KeptWork::Tidy);
    }

    /// What the files take.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// Puts all that is kept into the spool, and takes the marks that the database was found to have for those that it was
    /// known to have. Returns how many records it was, when they are synced. What is interrupted begins again with the next
    /// look at the database, because the marks are lowered last: not before each file is sent, is set aside or is not there any
    /// more.
    ///
    /// # Errors
    /// The spool or this handle is closed.
    pub async fn send_again(&self, known: LaneMarks, found: LaneMarks) -> Result<u64, SpoolError> {
        // Before the files are sealed: what is kept without a mark from here on may be in none of them.
        let _ = self.shared.has_unmarked.swap(false, Ordering::AcqRel);
        let (reply, sealed) = oneshot::channel();
        self.ask(KeptWork::Seal(reply)).await?;
        let sealed = sealed.await.map_err(|_| SpoolError::Closed)?;
        let mut unsent: Vec<UnsentFile> =
            sealed.into_iter().map(|path| UnsentFile { path, seen: SeenRecords::default() }).collect();
        let (mut sent, mut pause) = (0, REREAD_PAUSE);
        for number in 1..=READ_TRIES_MAX {
            let mut unread = Vec::new();
            for mut file in unsent {
                let (records, end) = self.send_file(&mut file).await?;
                sent += records;
                match end {
                    SendTry::Sent => self.ask(KeptWork::Remove(file.path)).await?,
                    SendTry::Unread(cause) if number < READ_TRIES_MAX => {
                        if number == 1 {
                            tracing::warn!(
                                cause,
                                "answered callbacks that the database may lack are in {} and cannot be read ({cause}); it is \
                                 tried {READ_TRIES_MAX} times",
                                file.path.display()
                            );
                        }
                        unread.push(file);
                    }
                    SendTry::Unread(cause) | SendTry::Damaged(cause) => {
                        self.ask(KeptWork::SetAside(file.path, cause)).await?;
                    }
                }
            }
            if unread.is_empty() {
                break;
            }
            unsent = unread;
            sleep(pause).await;
            pause *= 2;
        }
        self.shared.marks(|marks| marks.lower(&known, &found));
        self.ask(KeptWork::Lower { known, found }).await?;
        Ok(sent)
    }

    async fn ask(&self, work: KeptWork) -> Result<(), SpoolError> {
        self.requests.send(work).await.map_err(|_| SpoolError::Closed)
    }

    /// Puts the records of a file into the spool that are not there by an earlier try, and answers how many it was.
    async fn send_file(&self, file: &mut UnsentFile) -> Result<(u64, SendTry), SpoolError> {
        let (salvage, path, mut seen) =
            (self.salvage.clone(), file.path.clone(), std::mem::take(&mut file.seen));
        let reading = tokio::task::spawn_blocking(move || {
            let read = salvage.put_records_of(&path, &mut seen);
            (read, seen)
        });
        let (read, seen) = match reading.await {
            Ok(read) => read,
            Err(error) if error.is_panic() => {
                return Ok((0, SendTry::Unread("the program failed at it".to_owned())));
            }
            Err(_) => return Err(SpoolError::Closed),
        };
        file.seen = seen;
        let SalvagedFile { records, other_bytes, unread } = read?;
        let end = match unread {
            Some(error) => SendTry::Unread(error.to_string()),
            None if other_bytes > 0 => {
                SendTry::Damaged(format!("{other_bytes} bytes of it are no whole record"))
            }
            None => SendTry::Sent,
        };
        Ok((records, end))
    }

    /// Ends the thread behind what waits for it.
    pub async fn close(&self) {
        // One that has ended already needs no request.
        let _ = self.requests.send(KeptWork::Close).await;
    }
}
