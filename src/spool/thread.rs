//! The thread that owns the spool's file: it takes every request that waits, writes all of them as one synced
//! transaction (group commit), then completes each.
//!
//! Blocking. A batch costs one wait for the disk, however many records are in it. The file is opened here too, so that a
//! large one does not hold up the start. After a failure of the disk the thread opens the file again, at most once in
//! [`REOPEN_PAUSE`]; callbacks that come meanwhile are refused at once. A damaged file is moved aside and salvaged beside
//! the service, a damaged record is set aside, and what is lost is noted as a gap.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::by_app::AppSums;
use super::failing::FailingTime;
use super::file::{FileStatus, FileWrite, MissingRecords, SpoolFile, check_use};
use super::losses::{DAMAGED, Gap, Losses};
use super::mark::Mark;
use super::moved::move_aside;
use super::record::{self, RecordError};
use super::requests::{NewRecord, ReadRange, RecordKey, SpoolRequest, StoredRecord};
use super::salvage::{Salvage, left_over};
use super::shares::{CHARGE_MAX, Shares, UsedBytes, charge};
use super::status::{SpoolError, SpoolPlace, SpoolStatus};
use crate::callback::Callback;
use crate::clock;
use crate::model::Millis;

/// How many requests one transaction takes.
const BATCH_MAX: usize = 1024;

/// How long the thread leaves a file that failed alone before it opens it again. Opening may read all of it.
const REOPEN_PAUSE: Duration = Duration::from_secs(1);

/// The owner of the file.
pub(super) struct SpoolThread {
    dir: PathBuf,
    shares: Shares,
    file: Option<SpoolFile>,
    failure: Option<SpoolError>,
    failing: FailingTime,
    /// A damaged file cannot be moved aside, and the log has said so.
    is_stuck: bool,
    /// The gaps of earlier runs have been read.
    gaps_known: bool,
    /// The last attempt to open the file.
    opened: Instant,
    losses: Losses,
    status: watch::Sender<SpoolStatus>,
    salvage: Option<Salvage>,
}

impl SpoolThread {
    /// Opens nothing yet.
    pub(super) fn new(
        place: &SpoolPlace,
        losses: Losses,
        status: watch::Sender<SpoolStatus>,
    ) -> Result<Self, SpoolError> {
        check_use(&place.dir)?;
        Ok(Self {
            dir: place.dir.clone(),
            shares: Shares::new(place.max_bytes, &place.apps),
            file: None,
            failure: Some(SpoolError::Opening),
            failing: FailingTime::default(),
            is_stuck: false,
            gaps_known: false,
            opened: Instant::now(),
            losses,
            status,
            salvage: None,
        })
    }

    /// Works until it is asked to close, or until every handle is dropped.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<SpoolRequest>, salvage: Salvage) {
        let left = left_over(&self.dir);
        salvage.resume(left);
        self.salvage = Some(salvage);
        self.open();
        // The gap of a file that was moved aside does not wait for the next callback.
        let _ = self.write(&mut FileWrite::default());
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

    /// Opens the file. A damaged one is moved aside, and an empty one is begun, at once: a spool that waits for a person
    /// would take the callbacks of now with those of then.
    fn open(&mut self) {
        let mut opened = SpoolFile::open(&self.dir);
        if let Err(SpoolError::Damaged(reason)) = &opened
            && self.move_aside(reason)
        {
            opened = SpoolFile::open(&self.dir);
        }
        self.opened = Instant::now();
        match opened {
            Ok(mut file) => {
                let missing = file.take_missing();
                self.file = Some(file);
                self.report_gaps();
                if let Some(missing) = missing {
                    self.note_missing(missing);
                }
                if self.failure == Some(SpoolError::Opening) {
                    self.failure = None;
                }
            }
            Err(error) => {
                self.failing.failed(&error);
                self.failure = Some(error);
            }
        }
        self.publish();
    }

    /// Notes a gap for records that were answered with OK and that the file has lost.
    fn note_missing(&self, missing: MissingRecords) {
        let (first_ms, last_ms) = (missing.last_ms, missing.last_ms);
        let gap = Gap { app: None, first_ms, last_ms, callbacks: missing.count, cause: DAMAGED.into() };
        tracing::error!(
            gap.last_ms,
            gap.callbacks,
            gap.cause,
            "the spool's file was damaged: its newest records are gone and are not in the mirror"
        );
        self.losses.note_ended(gap);
    }

    /// Gives the damaged file another name, notes a gap and begins to salvage; false where it cannot be renamed. How many
    /// records are lost is known once the salvage has ended.
    fn move_aside(&mut self, reason: &str) -> bool {
        if let Some(file) = self.file.take() {
            file.discard();
        }
        let known = self.status.borrow().clone();
        let moved = match move_aside(&self.dir, clock::now()) {
            Ok(moved) => moved,
            Err(error) => {
                // Each attempt to open it comes here.
                if !std::mem::replace(&mut self.is_stuck, true) {
                    tracing::error!(%error, "the spool's file is damaged ({reason}) and cannot be moved aside");
                }
                return false;
            }
        };
        self.is_stuck = false;
        let (made_ms, changed_ms) = moved.times_ms;
        let first_ms = known.oldest.map_or(made_ms, Millis::get);
        // A file that was never open has no status, and its mark still says how many were in it.
        let stored = Mark::read(&self.dir).map_or(known.depth, |synced| synced.depth.max(known.depth));
        let last_ms = changed_ms.max(first_ms);
        let gap = Gap { app: None, first_ms, last_ms, callbacks: stored, cause: DAMAGED.into() };
        tracing::error!(
            gap.first_ms,
            gap.last_ms,
            gap.callbacks,
            gap.cause,
            "the spool's file is damaged ({reason}); it is kept as {}, and what is whole in it is salvaged",
            moved.path.display()
        );
        self.losses.note_ended(Gap { callbacks: 0, ..gap.clone() });
        if let Some(salvage) = &self.salvage {
            salvage.begin(moved.path, gap);
        }
        self.status.send_modify(|status| {
            *status = SpoolStatus { failure: status.failure.take(), ..SpoolStatus::default() }
        });
        true
    }

    fn work(&mut self, requests: impl Iterator<Item = SpoolRequest>) {
        self.open_again();
        let (mut completions, mut replies, mut reads) = (Vec::new(), Vec::new(), Vec::new());
        let (mut write, mut salvaged) = (FileWrite::default(), 0);
        let mut used = self.file.as_ref().map_or_else(UsedBytes::new, |file| file.apps().used_bytes());
        for request in requests {
            match request {
                SpoolRequest::Put(put) => match self.admit(&put.callback, &mut used) {
                    Ok(record) => {
                        write.put.push(record);
                        completions.push(put.completion);
                    }
                    Err(error) => (put.completion)(Err(error)),
                },
                SpoolRequest::Remove(keys, reply) => {
                    write.remove.extend(keys);
                    replies.push(reply);
                }
                SpoolRequest::Salvaged(records, reply) => match self.admit_salvaged(&records, &mut used) {
                    Ok(()) => {
                        salvaged += records.len();
                        write.put.extend(records);
                        replies.push(reply);
                    }
                    Err(error) => drop(reply.send(Err(error))),
                },
                SpoolRequest::Read(range, reply) => reads.push((range, reply)),
                SpoolRequest::Close => {}
            }
        }
        assert_eq!(
            completions.len() + salvaged,
            write.put.len(),
            "every record that is written completes one callback, or was salvaged"
        );
        let (spooled, drained) = (completions.len() as u64, write.remove.len() as u64);
        let done = self.write(&mut write);
        if done.is_ok() {
            metrics::counter!("group_mirror_spooled_total").increment(spooled);
            metrics::counter!("group_mirror_drained_total").increment(drained);
        }
        for completion in completions {
            completion(done.clone());
        }
        for reply in replies {
            let _ = reply.send(done.clone());
        }
        reads.into_iter().for_each(|(range, reply)| {
            let _ = reply.send(self.read(range));
        });
    }

    /// The record of a callback, if it fits.
    fn admit(&self, callback: &Callback, used: &mut UsedBytes) -> Result<NewRecord, SpoolError> {
        self.opened_file()?;
        let received = &callback.received;
        let bytes = record::encode(received).map_err(|error| SpoolError::Broken(error.to_string()))?;
        let app = Some(received.app);
        if !self.shares.admit(used, app, charge(&bytes)) {
            return Err(SpoolError::Full);
        }
        Ok(NewRecord { received_ms: received.received_at.get(), app, bytes })
    }

    /// Whether salvaged records fit, all or none.
    fn admit_salvaged(&self, records: &[NewRecord], used: &mut UsedBytes) -> Result<(), SpoolError> {
        self.opened_file()?;
        let mut with = used.clone();
        if !records.iter().all(|record| self.shares.admit(&mut with, record.app, charge(&record.bytes))) {
            return Err(SpoolError::Full);
        }
        *used = with;
        Ok(())
    }

    fn opened_file(&self) -> Result<&SpoolFile, SpoolError> {
        self.file.as_ref().ok_or_else(|| self.failure.clone().unwrap_or(SpoolError::DiskFull))
    }

    /// One transaction, with the gaps that are not written yet. It writes nothing when there is nothing to write.
    fn write(&mut self, write: &mut FileWrite) -> Result<(), SpoolError> {
        let gaps = self.losses.take_changed();
        let encoded = gaps.iter().map(|gap| Some((gap.key(), serde_json::to_vec(gap).ok()?)));
        write.gaps = encoded.flatten().collect();
        // After a failure an empty write is the proof that the disk takes writes again.
        if write.is_empty() && self.failure.is_none() {
            return Ok(());
        }
        let Some(file) = &mut self.file else {
            self.losses.give_back(gaps);
            return Err(self.failure.clone().unwrap_or(SpoolError::DiskFull));
        };
        let done = file.write(write).and_then(|()| file.release_space());
        if let Err(error) = &done {
            self.losses.give_back(gaps);
            self.fail(error);
        } else {
            self.failure = None;
            self.failing.succeeded(self.file.as_ref().map_or(0, |file| file.status().depth));
        }
        self.publish();
        done
    }

    /// After a failure the store refuses everything; a new one reads the last state that was synced. A damaged file is
    /// replaced at once.
    fn fail(&mut self, error: &SpoolError) {
        self.failing.failed(error);
        self.failure = Some(error.clone());
        if let Some(file) = self.file.take() {
            file.discard();
        }
        self.opened = Instant::now();
        if let SpoolError::Damaged(reason) = error
            && self.move_aside(reason)
        {
            self.open();
        }
    }

    fn open_again(&mut self) {
        // The failure stays until a write has succeeded.
        if self.file.is_none() && self.opened.elapsed() >= REOPEN_PAUSE {
            self.open();
        }
    }

    /// Reads records; those that are damaged are set aside and not answered.
    fn read(&mut self, range: ReadRange) -> Result<Vec<StoredRecord>, SpoolError> {
        loop {
            let (mut read, mut damaged) = (Vec::new(), Vec::new());
            for (key, bytes) in self.read_bytes(range)? {
                match record::decode(&bytes) {
                    Ok(received) => read.push((key, Some(received))),
                    Err(RecordError::Version) => read.push((key, None)),
                    Err(RecordError::Damaged) => damaged.push(key),
                }
            }
            if damaged.is_empty() {
                return Ok(read);
            }
            self.set_aside(damaged)?;
            // An empty answer means the end of the range, which damaged records alone are not.
            if !read.is_empty() {
                return Ok(read);
            }
        }
    }

    fn read_bytes(&mut self, range: ReadRange) -> Result<Vec<(RecordKey, Vec<u8>)>, SpoolError> {
        let records = self.opened_file()?.read(range.after, range.count, range.bytes);
        match &records {
            Ok(records) => assert!(records.len() <= range.count, "a read keeps its limit"),
            Err(error) => {
                self.fail(error);
                self.publish();
            }
        }
        records
    }

    /// Moves damaged records to a table of their own, where a person finds them, and notes each as a loss.
    fn set_aside(&mut self, keys: Vec<RecordKey>) -> Result<(), SpoolError> {
        for (received_ms, number) in &keys {
            tracing::error!(
                record.received_ms = received_ms,
                record.number = number,
                "a record of the spool is damaged and is set aside in the file; it is not applied"
            );
            let cause = DAMAGED.into();
            let (first_ms, last_ms) = (*received_ms, *received_ms);
            self.losses.note_ended(Gap { app: None, first_ms, last_ms, callbacks: 1, cause });
        }
        self.write(&mut FileWrite { set_aside: keys, ..FileWrite::default() })
    }

    fn report_gaps(&mut self) {
        if self.gaps_known {
            return;
        }
        let Some(Ok(gaps)) = self.file.as_ref().map(noted_gaps) else { return };
        self.gaps_known = true;
        self.losses.add_noted(&gaps);
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
        let apps = self.file.as_ref().map(SpoolFile::apps);
        let full = apps.is_some_and(|apps| self.shares.are_used_up(&apps.used_bytes(), CHARGE_MAX));
        let failure = self.failure.clone().or_else(|| full.then_some(SpoolError::Full));
        self.status.send_modify(|status| {
            // What is in a file that cannot be opened now is still there.
            if let Some(FileStatus { depth, bytes, oldest_ms }) = file {
                status.depth = depth;
                status.bytes = bytes;
                status.oldest = oldest_ms.map(Millis::new);
                status.apps = apps.map(AppSums::by_app).unwrap_or_default();
            }
            status.failure = failure;
        });
    }
}

fn noted_gaps(file: &SpoolFile) -> Result<Vec<Gap>, SpoolError> {
    let rows = file.gaps()?;
    Ok(rows.iter().filter_map(|gap| serde_json::from_slice(gap).ok()).collect())
}
