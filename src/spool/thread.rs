//! The thread that owns the spool's file: it takes every request that waits, writes all of them as one synced
//! transaction (group commit), then completes each.
//!
//! Blocking. A batch costs one wait for the disk, however many records are in it. After a failure of the disk the thread
//! opens the file again, at most once in [`REOPEN_PAUSE`]; callbacks that come meanwhile are refused at once.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

use super::file::{CHARGE_MAX, FileStatus, FileWrite, RecordKey, SpoolFile, charge};
use super::losses::{Gap, Losses};
use super::record;
use super::status::{SpoolError, SpoolPlace, SpoolStatus};
use crate::callback::{Callback, Received};
use crate::model::Millis;

/// How many requests one transaction takes.
const BATCH_MAX: usize = 1024;

/// How long the thread leaves a file that failed alone before it opens it again. Opening may read all of it.
const REOPEN_PAUSE: Duration = Duration::from_secs(1);

/// What runs when a callback is on disk, or refused.
pub type Completion = Box<dyn FnOnce(Result<(), SpoolError>) + Send>;

/// A callback to make durable.
pub struct Put {
    /// What is kept of it is the request as it was received.
    pub callback: Arc<Callback>,
    /// Runs once, on this thread; it must not block.
    pub completion: Completion,
}

/// A record read back: its key, and the request in it; none where this program cannot read it.
pub type StoredRecord = (RecordKey, Option<Received>);

/// Which records to read: those after a key, at most `count`, and at most `bytes` beyond the first.
#[derive(Debug, Clone, Copy)]
pub struct ReadRange {
    /// The key of the last record that was read; none: from the oldest.
    pub after: Option<RecordKey>,
    /// How many at most.
    pub count: usize,
    /// How many bytes at most, unless the first record alone has more.
    pub bytes: usize,
}

/// What the thread can be asked for.
pub enum SpoolRequest {
    /// Make a callback durable.
    Put(Put),
    /// Remove records.
    Remove(Vec<RecordKey>, oneshot::Sender<Result<(), SpoolError>>),
    /// Read records.
    Read(ReadRange, oneshot::Sender<Result<Vec<StoredRecord>, SpoolError>>),
    /// Take no further request, write what waits, end.
    Close,
}

/// The owner of the file.
pub(super) struct SpoolThread {
    path: PathBuf,
    max_bytes: u64,
    file: Option<SpoolFile>,
    failure: Option<SpoolError>,
    /// The last attempt to open the file.
    opened: Instant,
    losses: Losses,
    status: watch::Sender<SpoolStatus>,
}

impl SpoolThread {
    /// Opens the file, or makes it.
    pub(super) fn open(
        place: &SpoolPlace,
        losses: Losses,
        status: watch::Sender<SpoolStatus>,
    ) -> Result<Self, SpoolError> {
        let path = place.dir.join("spool.redb");
        let (file, failure) = match SpoolFile::open(&path).map_err(SpoolError::from) {
            Ok(file) => (Some(file), None),
            Err(error @ (SpoolError::DiskFull | SpoolError::Broken(_))) => {
                tracing::error!(%error, "the spool cannot be opened; the service opens it again until it can");
                (None, Some(error))
            }
            Err(error) => return Err(error),
        };
        let thread =
            Self { path, max_bytes: place.max_bytes, file, failure, opened: Instant::now(), losses, status };
        thread.publish();
        Ok(thread)
    }

    /// Works until it is asked to close, or until every handle is dropped.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<SpoolRequest>) {
        self.report_gaps();
        let mut requests = Vec::new();
        while queue.blocking_recv_many(&mut requests, BATCH_MAX) > 0 {
            assert!(requests.len() <= BATCH_MAX, "a batch keeps its limit");
            if requests.iter().any(|request| matches!(request, SpoolRequest::Close)) {
                // Requests that were sent before are still received.
                queue.close();
            }
            self.work(requests.drain(..));
        }
        let _ = self.write(&mut FileWrite::default());
    }

    fn work(&mut self, requests: impl Iterator<Item = SpoolRequest>) {
        self.open_again();
        let (mut completions, mut removals, mut reads) = (Vec::new(), Vec::new(), Vec::new());
        let mut write = FileWrite::default();
        let mut bytes = self.file.as_ref().map_or(0, |file| file.status().bytes);
        for request in requests {
            match request {
                SpoolRequest::Put(put) => match self.admit(&put.callback, &mut bytes) {
                    Ok(record) => {
                        write.put.push((put.callback.received.received_at.get(), record));
                        completions.push(put.completion);
                    }
                    Err(error) => (put.completion)(Err(error)),
                },
                SpoolRequest::Remove(keys, reply) => {
                    write.remove.extend(keys);
                    removals.push(reply);
                }
                SpoolRequest::Read(range, reply) => reads.push((range, reply)),
                SpoolRequest::Close => {}
            }
        }
        assert_eq!(completions.len(), write.put.len(), "every record that is written completes one callback");
        let (spooled, drained) = (write.put.len() as u64, write.remove.len() as u64);
        let done = self.write(&mut write);
        if done.is_ok() {
            metrics::counter!("group_mirror_spooled_total").increment(spooled);
            metrics::counter!("group_mirror_drained_total").increment(drained);
        }
        for completion in completions {
            completion(done.clone());
        }
        for reply in removals {
            let _ = reply.send(done.clone());
        }
        reads.into_iter().for_each(|(range, reply)| {
            let _ = reply.send(self.read(range));
        });
    }

    /// The record of a callback, if it fits.
    fn admit(&self, callback: &Callback, bytes: &mut u64) -> Result<Vec<u8>, SpoolError> {
        if self.file.is_none() {
            return Err(self.failure.clone().unwrap_or(SpoolError::DiskFull));
        }
        let record =
            record::encode(&callback.received).map_err(|error| SpoolError::Broken(error.to_string()))?;
        if *bytes + charge(&record) > self.max_bytes {
            return Err(SpoolError::Full);
        }
        *bytes += charge(&record);
        assert!(*bytes <= self.max_bytes, "the spool keeps its limit");
        Ok(record)
    }

    /// One transaction, with the gap that goes on, if any. It writes nothing when there is nothing to write.
    fn write(&mut self, write: &mut FileWrite) -> Result<(), SpoolError> {
        let gap = self.losses.take_changed();
        write.gap = gap.as_ref().and_then(|gap| Some((gap.first_ms, serde_json::to_vec(gap).ok()?)));
        // After a failure an empty write is the proof that the disk takes writes again.
        if write.is_empty() && self.failure.is_none() {
            return Ok(());
        }
        let Some(file) = &mut self.file else {
            self.losses.mark_changed();
            return Err(self.failure.clone().unwrap_or(SpoolError::DiskFull));
        };
        let done = file.write(write).and_then(|()| file.release_space()).map_err(SpoolError::from);
        if let Err(error) = &done {
            self.losses.mark_changed();
            tracing::error!(%error, "the spool failed");
            // After a failure the store refuses everything; a new one reads the last state that was synced.
            self.file = None;
            self.opened = Instant::now();
        }
        self.failure = done.clone().err();
        self.publish();
        done
    }

    fn open_again(&mut self) {
        if self.file.is_some() || self.opened.elapsed() < REOPEN_PAUSE {
            return;
        }
        match SpoolFile::open(&self.path).map_err(SpoolError::from) {
            // The failure stays until a write has succeeded.
            Ok(file) => self.file = Some(file),
            Err(error) => self.failure = Some(error),
        }
        self.opened = Instant::now();
        self.publish();
    }

    fn read(&self, range: ReadRange) -> Result<Vec<StoredRecord>, SpoolError> {
        let failure = || self.failure.clone().unwrap_or(SpoolError::DiskFull);
        let file = self.file.as_ref().ok_or_else(failure)?;
        let records = file.read(range.after, range.count, range.bytes)?;
        assert!(records.len() <= range.count, "a read keeps its limit");
        Ok(records.into_iter().map(|(key, bytes)| (key, record::decode(&bytes).ok())).collect())
    }

    fn report_gaps(&self) {
        let Some(Ok(gaps)) = self.file.as_ref().map(noted_gaps) else { return };
        self.losses.set_noted(gaps.len() as u64);
        if let Some(last) = gaps.last() {
            tracing::warn!(
                gap.first_ms = last.first_ms,
                gap.last_ms = last.last_ms,
                gap.callbacks = last.callbacks,
                gap.cause = last.cause,
                "{} gaps of earlier runs are noted; this is the last",
                gaps.len()
            );
        }
    }

    fn publish(&self) {
        let file = self.file.as_ref().map(SpoolFile::status);
        let full = file.is_some_and(|file| file.bytes + CHARGE_MAX > self.max_bytes);
        let failure = self.failure.clone().or_else(|| full.then_some(SpoolError::Full));
        self.status.send_modify(|status| {
            // What is in a file that cannot be opened now is still there.
            if let Some(FileStatus { depth, bytes, oldest_ms }) = file {
                status.depth = depth;
                status.bytes = bytes;
                status.oldest = oldest_ms.map(Millis::new);
            }
            status.failure = failure;
        });
    }
}

fn noted_gaps(file: &SpoolFile) -> Result<Vec<Gap>, SpoolError> {
    let rows = file.gaps()?;
    Ok(rows.iter().filter_map(|(_, gap)| serde_json::from_slice(gap).ok()).collect())
}
