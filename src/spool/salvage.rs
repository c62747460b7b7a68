//! Salvage: what can still be read of a spool's file that the store cannot read any more.
//!
//! The file is moved aside by the thread of the spool, as one of kept records is by theirs (`kept_unread`); here its bytes are
//! read once, from begin to end, on a thread of its own beside the service. A record is a frame with a checksum, and the store keeps a value in one piece, so every record
//! whose bytes are whole is found, whatever the pages around it look like. Each is put into the new file as it was. A
//! record that had been drained, or that an older page still holds, is found as well; it meets its entry in the ledger and
//! counts as a duplicate. What is missing of the records that were in the file is noted as the loss. A kill in the middle
//! begins the salvage again, as does a disk that does not give all of it: a file is named `….salvaged` once it was read whole and
//! everything that was found is synced.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::kept_unread;
use super::losses::{Gap, Losses};
use super::records::{Records, SeenRecords};
use super::requests::{NewRecord, SpoolRequest};
use super::status::SpoolError;
use crate::files::{Access, FileError, PrivateDir};

/// What the name of a file that was moved aside begins with.
const MOVED_BEGIN: &str = "spool.redb.damaged-";

/// What the name of a file ends with of which everything is salvaged.
const DONE_END: &str = ".salvaged";

/// What the name of the file ends with that holds the gap of a damaged one.
const GAP_END: &str = ".gap";

/// What the gap of a damaged file has at most, in bytes.
const GAP_BYTES_MAX: u64 = 4096;

/// How many records, and about how many bytes, are put into the new file at once, so that callbacks need not wait long.
const PUT_RECORDS_MAX: usize = 256;
const PUT_BYTES_MAX: usize = 2 * 1024 * 1024;

/// The pause before a new file that is full or fails is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Where salvaged records go. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Salvage {
    /// Does not keep the spool open.
    requests: mpsc::WeakSender<SpoolRequest>,
    losses: Losses,
}

/// What became of a file that was read once.
#[derive(Debug, Default)]
pub(super) struct SalvagedFile {
    /// How many records of it are synced in the spool.
    pub(super) records: u64,
    /// Bytes that are no whole record.
    pub(super) other_bytes: u64,
    /// Why not all of it could be read, if so.
    pub(super) unread: Option<io::Error>,
}

impl Salvage {
    pub(super) fn new(requests: mpsc::WeakSender<SpoolRequest>, losses: Losses) -> Self {
        Self { requests, losses }
    }

    /// Begins to salvage a file that was moved aside; `gap` is what is noted of it, with all records that were in it.
    pub(super) fn begin(&self, path: PathBuf, gap: Gap) {
        // Without the note a start after a kill would not know how many were in it.
        if let Err(error) = note(&with_end(&path, GAP_END), &gap) {
            tracing::warn!(%error, "what the damaged spool held cannot be noted beside it");
        }
        self.spawn(path, Some(gap));
    }

    fn spawn(&self, path: PathBuf, gap: Option<Gap>) {
        let salvage = self.clone();
        let name = path.display().to_string();
        let run = move || salvage.run(&path, gap);
        if let Err(error) = std::thread::Builder::new().name("salvage".to_owned()).spawn(run) {
            tracing::error!(%error, "{name} cannot be salvaged now; the next start tries again");
        }
    }

    /// Goes on with files whose salvage was interrupted.
    pub(super) fn resume(&self, left: Vec<PathBuf>) {
        for path in left {
            let noted = open(&with_end(&path, GAP_END), Access::Read).ok();
            let gap = noted.and_then(|gap| serde_json::from_reader(gap.take(GAP_BYTES_MAX)).ok());
            self.spawn(path, gap);
        }
    }

    fn run(&self, path: &Path, gap: Option<Gap>) {
        let stored = gap.as_ref().map_or(0, |gap| gap.callbacks);
        // A spool that is closed ends the salvage; the next start begins it again.
        let Ok(SalvagedFile { records: salvaged, unread, .. }) = self.salvage(path, gap) else { return };
        if let Some(error) = unread {
            tracing::error!(
                %error,
                salvaged,
                "{} cannot be read whole; what could be read of it is in the spool again, and the next start tries again",
                path.display()
            );
            return;
        }
        let is_kept = path.file_name().and_then(|name| name.to_str()).is_some_and(kept_unread::is_set_aside);
        let what = if is_kept { "a file of kept records" } else { "the damaged spool" };
        tracing::warn!(
            salvaged,
            lost = stored.saturating_sub(salvaged),
            "{what} is salvaged: what is whole in {} is in the spool again",
            path.display()
        );
        let done = fs::rename(path, with_end(path, DONE_END));
        let _ = fs::remove_file(with_end(path, GAP_END));
        if let Err(error) = done {
            tracing::warn!(%error, "{} cannot be renamed; the next start salvages it again", path.display());
        }
    }

    /// Puts every whole record into the new file, and notes what is missing where all of it could be read.
    fn salvage(&self, path: &Path, gap: Option<Gap>) -> Result<SalvagedFile, SpoolError> {
        let read = self.put_records_of(path, &mut SeenRecords::default())?;
        metrics::counter!("group_mirror_salvaged_total").increment(read.records);
        if let (Some(gap), None) = (gap, &read.unread) {
            self.losses.complete(Gap { callbacks: gap.callbacks.saturating_sub(read.records), ..gap });
        }
        // Even an empty batch writes the gap.
        self.put(&[])?;
        Ok(read)
    }

    /// Puts every whole record of a file into the spool but those that were seen before, and returns when they are synced.
    /// What cannot be read is skipped. Blocking.
    ///
    /// # Errors
    /// The spool is closed.
    pub(super) fn put_records_of(
        &self,
        path: &Path,
        seen: &mut SeenRecords,
    ) -> Result<SalvagedFile, SpoolError> {
        let file = match open(path, Access::Read) {
            Ok(file) => file,
            Err(error) => return Ok(SalvagedFile { unread: Some(error), ..SalvagedFile::default() }),
        };
        let (mut found, mut batch, mut bytes) = (0, Vec::new(), 0);
        let mut records = Records::of(file, seen);
        while let Some(record) = records.next() {
            bytes += record.bytes.len();
            batch.push(record);
            found += 1;
            if batch.len() == PUT_RECORDS_MAX || bytes >= PUT_BYTES_MAX {
                self.put(&batch)?;
                batch.clear();
                bytes = 0;
            }
        }
        if !batch.is_empty() {
            self.put(&batch)?;
        }
        Ok(SalvagedFile {
            records: found,
            other_bytes: records.other_bytes(),
            unread: records.into_failure(),
        })
    }

    /// Returns when the records are synced. A spool that fails is waited for; one that is full is too, record by record: the
    /// share of an app may have no room for all of them at once, whatever is drained.
    fn put(&self, batch: &[NewRecord]) -> Result<(), SpoolError> {
        assert!(batch.len() <= PUT_RECORDS_MAX, "a batch keeps its limit");
        loop {
            let (reply, done) = oneshot::channel();
            let requests = self.requests.upgrade().ok_or(SpoolError::Closed)?;
            let request = SpoolRequest::Salvaged(batch.to_vec(), reply);
            requests.blocking_send(request).map_err(|_| SpoolError::Closed)?;
            drop(requests);
            match done.blocking_recv() {
                Ok(Ok(())) => return Ok(()),
                Err(_) | Ok(Err(SpoolError::Closed)) => return Err(SpoolError::Closed),
                Ok(Err(SpoolError::Full)) if batch.len() > 1 => {
                    let (first, rest) = batch.split_at(batch.len() / 2);
                    self.put(first)?;
                    return self.put(rest);
                }
                Ok(Err(_)) => std::thread::sleep(RETRY_PAUSE),
            }
        }
    }
}

/// Files that were moved aside and whose salvage has not come to its end.
pub(super) fn left_over(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let is_left = |name: &str| {
        let is_aside = name.starts_with(MOVED_BEGIN) || kept_unread::is_set_aside(name);
        is_aside && !name.ends_with(DONE_END) && !name.ends_with(GAP_END)
    };
    let mut left: Vec<PathBuf> = entries
        .filter(|entry| entry.file_name().to_str().is_some_and(is_left))
        .map(|entry| entry.path())
        .collect();
    left.sort_unstable();
    left
}

fn note(path: &Path, gap: &Gap) -> io::Result<()> {
    let mut file = open(path, Access::Write)?;
    file.set_len(0)?;
    file.write_all(&serde_json::to_vec(gap)?)
}

/// Opens a file of the data directory as every other one is opened there: no link, no file of another user.
fn open(path: &Path, access: Access) -> io::Result<File> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let kind =
        |error: &FileError| if error.is_missing() { io::ErrorKind::NotFound } else { io::ErrorKind::Other };
    let file = PrivateDir::open(dir).and_then(|dir| dir.file(name, access));
    file.map_err(|error| io::Error::new(kind(&error), error))
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}
