//! Salvage: what can still be read of a spool's file that the store cannot read any more.
//!
//! The file is moved aside by the thread of the spool; here its bytes are read once, from begin to end, on a thread of its
//! own beside the service. A record is a frame with a checksum, and the store keeps a value in one piece, so every record
//! whose bytes are whole is found, whatever the pages around it look like. Each is put into the new file as it was. A
//! record that had been drained, or that an older page still holds, is found as well; it meets its entry in the ledger and
//! counts as a duplicate. What is missing of the records that were in the file is noted as the loss. A kill in the middle
//! begins the salvage again: a file is named `….salvaged` once everything that was found is synced.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::losses::{Gap, Losses};
use super::record::{self, RECORD_BYTES_MAX};
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

/// How much of the file is looked at in one go.
const WINDOW_BYTES: usize = 8 * 1024 * 1024;

/// How many records, and about how many bytes, are put into the new file at once, so that callbacks need not wait long.
const PUT_RECORDS_MAX: usize = 256;
const PUT_BYTES_MAX: usize = 2 * 1024 * 1024;

/// How many checksums are kept to leave out what was found before. Of more records one may be put twice.
const SEEN_MAX: usize = 1_000_000;

/// The pause before a new file that is full or fails is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Where salvaged records go. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Salvage {
    /// Does not keep the spool open.
    requests: mpsc::WeakSender<SpoolRequest>,
    losses: Losses,
}

/// Why a salvage ends before its end.
#[derive(Debug)]
pub(super) enum SalvageEnd {
    /// The spool is closed; the next start begins again.
    Closed,
    /// The damaged file cannot be read.
    Unreadable(io::Error),
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
        match self.salvage(path, gap) {
            Ok(salvaged) => {
                tracing::warn!(
                    salvaged,
                    lost = stored.saturating_sub(salvaged),
                    "the damaged spool is salvaged: what is whole in {} is in the spool again",
                    path.display()
                );
                let done = fs::rename(path, with_end(path, DONE_END));
                let _ = fs::remove_file(with_end(path, GAP_END));
                if let Err(error) = done {
                    tracing::warn!(%error, "{} cannot be renamed; the next start salvages it again", path.display());
                }
            }
            Err(SalvageEnd::Closed) => {}
            Err(SalvageEnd::Unreadable(error)) => {
                tracing::error!(%error, "{} cannot be salvaged now; the next start tries again", path.display());
            }
        }
    }

    /// Puts every whole record into the new file, and notes what is missing; answers how many there were.
    fn salvage(&self, path: &Path, gap: Option<Gap>) -> Result<u64, SalvageEnd> {
        let found = self.put_records_of(path)?;
        metrics::counter!("group_mirror_salvaged_total").increment(found);
        if let Some(gap) = gap {
            self.losses.complete(Gap { callbacks: gap.callbacks.saturating_sub(found), ..gap });
        }
        // Even an empty batch writes the gap.
        self.put(&[])?;
        Ok(found)
    }

    /// Puts every whole record of a file into the spool, and returns when they are synced; answers how many there were.
    /// Blocking.
    pub(super) fn put_records_of(&self, path: &Path) -> Result<u64, SalvageEnd> {
        let (mut found, mut batch, mut bytes) = (0, Vec::new(), 0);
        let mut records = Records::of(open(path, Access::Read).map_err(SalvageEnd::Unreadable)?);
        while let Some(record) = records.next().map_err(SalvageEnd::Unreadable)? {
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
        Ok(found)
    }

    /// Returns when the records are synced. A spool that is full or fails is waited for.
    fn put(&self, batch: &[NewRecord]) -> Result<(), SalvageEnd> {
        assert!(batch.len() <= PUT_RECORDS_MAX, "a batch keeps its limit");
        loop {
            let (reply, done) = oneshot::channel();
            let requests = self.requests.upgrade().ok_or(SalvageEnd::Closed)?;
            let request = SpoolRequest::Salvaged(batch.to_vec(), reply);
            requests.blocking_send(request).map_err(|_| SalvageEnd::Closed)?;
            drop(requests);
            match done.blocking_recv() {
                Ok(Ok(())) => return Ok(()),
                Err(_) | Ok(Err(SpoolError::Closed)) => return Err(SalvageEnd::Closed),
                Ok(Err(_)) => std::thread::sleep(RETRY_PAUSE),
            }
        }
    }
}

/// Files that were moved aside and whose salvage has not come to its end.
pub(super) fn left_over(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let is_left =
        |name: &str| name.starts_with(MOVED_BEGIN) && !name.ends_with(DONE_END) && !name.ends_with(GAP_END);
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

/// The whole records in any bytes, each once as far as [`SEEN_MAX`] goes.
struct Records<R> {
    from: R,
    window: Vec<u8>,
    /// Where in the window to look next.
    at: usize,
    is_at_end: bool,
    seen: HashSet<[u8; 8]>,
}

impl<R: Read> Records<R> {
    fn of(from: R) -> Self {
        Self { from, window: Vec::new(), at: 0, is_at_end: false, seen: HashSet::new() }
    }

    fn next(&mut self) -> io::Result<Option<NewRecord>> {
        loop {
            if !self.is_at_end && self.window.len() - self.at < RECORD_BYTES_MAX {
                self.fill()?;
            }
            let rest = &self.window[self.at..];
            let Some(begin) = record::find(rest) else {
                if self.is_at_end {
                    return Ok(None);
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
            // Bytes 1 to 8 are the checksum.
            let is_new = match record[1..].first_chunk() {
                Some(sum) if self.seen.len() < SEEN_MAX => self.seen.insert(*sum),
                Some(sum) => !self.seen.contains(sum),
                None => true,
            };
            if is_new {
                return Ok(Some(NewRecord {
                    received_ms: received_at.get(),
                    app: Some(app),
                    bytes: record.to_vec(),
                }));
            }
        }
    }

    /// Drops what was looked at and reads on.
    fn fill(&mut self) -> io::Result<()> {
        self.window.drain(..self.at);
        self.at = 0;
        let wanted = (WINDOW_BYTES - self.window.len()) as u64;
        let read = (&mut self.from).take(wanted).read_to_end(&mut self.window)?;
        self.is_at_end = read == 0;
        assert!(self.window.len() <= WINDOW_BYTES, "the window keeps its limit");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
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
        let mut records = Records::of(bytes);
        std::iter::from_fn(|| records.next().unwrap()).map(|record| record.bytes).collect()
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
}
