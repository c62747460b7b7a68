//! The thread that owns the spool's file: takes everything that waits, writes it as one synced transaction, answers
//! for each callback.
//!
//! Blocking. A batch costs one wait for the disk, however many callbacks are in it. After a failure of the disk the
//! file is opened again, not more often than once in [`REOPEN_PAUSE`]; what comes meanwhile is refused at once.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

use super::entry;
use super::gaps::{Gap, Gaps};
use super::shelf::{CHARGE_MAX, Change, Key, Shelf, charge};
use super::spool::{Entry, Job, Order, Page, SpoolError, SpoolPlace, SpoolStatus};
use super::{Outcome, SubmitError};
use crate::model::Millis;

/// How many orders one transaction takes.
const BATCH_MAX: usize = 1024;

/// How long a file that failed is left alone before it is opened again. Opening may read all of it.
const REOPEN_PAUSE: Duration = Duration::from_secs(1);

/// The owner of the file.
pub(super) struct Scribe {
    path: PathBuf,
    max_bytes: u64,
    shelf: Option<Shelf>,
    failure: Option<SpoolError>,
    /// The last attempt to open the file.
    opened: Instant,
    gaps: Gaps,
    status: watch::Sender<SpoolStatus>,
}

impl Scribe {
    /// Opens the file, or makes it.
    pub(super) fn open(
        place: &SpoolPlace,
        gaps: Gaps,
        status: watch::Sender<SpoolStatus>,
    ) -> Result<Self, SpoolError> {
        let path = place.dir.join("spool.redb");
        let (shelf, failure) = match Shelf::open(&path).map_err(SpoolError::from) {
            Ok(shelf) => (Some(shelf), None),
            Err(error @ (SpoolError::DiskFull | SpoolError::Broken(_))) => {
                tracing::error!(%error, "the spool cannot be opened; it is tried again");
                (None, Some(error))
            }
            Err(error) => return Err(error),
        };
        let scribe =
            Self { path, max_bytes: place.max_bytes, shelf, failure, opened: Instant::now(), gaps, status };
        scribe.publish();
        Ok(scribe)
    }

    /// Until it is told to close, or nobody is left who could ask.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Order>) {
        self.tell_gaps();
        let mut orders = Vec::new();
        while queue.blocking_recv_many(&mut orders, BATCH_MAX) > 0 {
            if orders.iter().any(|order| matches!(order, Order::Close)) {
                // What was sent before is taken yet.
                queue.close();
            }
            self.work(orders.drain(..));
        }
        let _ = self.write(&mut Change::default());
    }

    fn work(&mut self, orders: impl Iterator<Item = Order>) {
        self.open_again();
        let (mut jobs, mut removed, mut reads) = (Vec::new(), Vec::new(), Vec::new());
        let mut change = Change::default();
        let mut bytes = self.shelf.as_ref().map_or(0, |shelf| shelf.held().bytes);
        for order in orders {
            match order {
                Order::Put(job) => match self.admit(&job, &mut bytes) {
                    Ok(entry) => {
                        change.put.push((job.pending.callback.received.received_at.get(), entry));
                        jobs.push(job);
                    }
                    Err(error) => answer(job, Err(error.into())),
                },
                Order::Remove(keys, told) => {
                    change.remove.extend(keys);
                    removed.push(told);
                }
                Order::Read(page, told) => reads.push((page, told)),
                Order::Close => {}
            }
        }
        let (spooled, drained) = (jobs.len() as u64, change.remove.len() as u64);
        let done = self.write(&mut change);
        if done.is_ok() {
            metrics::counter!("group_mirror_spooled_total").increment(spooled);
            metrics::counter!("group_mirror_drained_total").increment(drained);
        }
        for job in jobs {
            answer(job, done.clone().map(|()| Outcome::Spooled).map_err(SubmitError::from));
        }
        for told in removed {
            let _ = told.send(done.clone());
        }
        reads.into_iter().for_each(|(page, told)| self.read(page, told));
    }

    /// The entry of a callback, if there is room for it.
    fn admit(&self, job: &Job, bytes: &mut u64) -> Result<Vec<u8>, SpoolError> {
        if self.shelf.is_none() {
            return Err(self.failure.clone().unwrap_or(SpoolError::DiskFull));
        }
        let entry = entry::encode(&job.pending.callback.received)
            .map_err(|error| SpoolError::Broken(error.to_string()))?;
        if *bytes + charge(&entry) > self.max_bytes {
            return Err(SpoolError::Full);
        }
        *bytes += charge(&entry);
        Ok(entry)
    }

    /// One transaction, with the gap that goes on, if any; nothing, if there is nothing to write.
    fn write(&mut self, change: &mut Change) -> Result<(), SpoolError> {
        let gap = self.gaps.take_changed();
        let noted = gap.as_ref().and_then(|gap| Some((gap.first_ms, serde_json::to_vec(gap).ok()?)));
        change.gap = noted;
        // After a failure an empty write is the proof that the disk takes writes again.
        if change.is_empty() && self.failure.is_none() {
            return Ok(());
        }
        let Some(shelf) = &mut self.shelf else {
            self.gaps.put_back();
            return Err(self.failure.clone().unwrap_or(SpoolError::DiskFull));
        };
        let done = shelf.write(change).and_then(|()| shelf.give_up_space()).map_err(SpoolError::from);
        if let Err(error) = &done {
            self.gaps.put_back();
            tracing::error!(%error, "the spool failed");
            // After a failure the store refuses everything; a new one finds the last state that was synced.
            self.shelf = None;
            self.opened = Instant::now();
        }
        self.failure = done.clone().err();
        self.publish();
        done
    }

    fn open_again(&mut self) {
        if self.shelf.is_some() || self.opened.elapsed() < REOPEN_PAUSE {
            return;
        }
        match Shelf::open(&self.path).map_err(SpoolError::from) {
            // It has still to prove that it can be written.
            Ok(shelf) => self.shelf = Some(shelf),
            Err(error) => self.failure = Some(error),
        }
        self.opened = Instant::now();
        self.publish();
    }

    fn read(&self, page: Page, told: oneshot::Sender<Result<Vec<(Key, Entry)>, SpoolError>>) {
        let failure = || self.failure.clone().unwrap_or(SpoolError::DiskFull);
        let shelf = self.shelf.as_ref().ok_or_else(failure);
        let entries =
            shelf.and_then(|shelf| shelf.read(page.after, page.count, page.bytes).map_err(SpoolError::from));
        let read = |(key, bytes): (Key, Vec<u8>)| (key, entry::decode(&bytes).ok());
        let _ = told.send(entries.map(|entries| entries.into_iter().map(read).collect()));
    }

    fn tell_gaps(&self) {
        let Some(Ok(gaps)) = self.shelf.as_ref().map(noted) else { return };
        self.gaps.know(gaps.len() as u64);
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
        let held = self.shelf.as_ref().map(Shelf::held);
        let full = held.is_some_and(|held| held.bytes + CHARGE_MAX > self.max_bytes);
        let failure = self.failure.clone().or_else(|| full.then_some(SpoolError::Full));
        self.status.send_modify(|status| {
            // What is in a file that cannot be opened now is still there.
            if let Some(held) = held {
                status.depth = held.depth;
                status.bytes = held.bytes;
                status.oldest = held.oldest_ms.map(Millis::new);
            }
            status.failure = failure;
        });
    }
}

fn noted(shelf: &Shelf) -> Result<Vec<Gap>, SpoolError> {
    let rows = shelf.gaps()?;
    Ok(rows.iter().filter_map(|(_, gap)| serde_json::from_slice(gap).ok()).collect())
}

/// A waiter that has gone away (its sender hung up) needs no answer.
fn answer(job: Job, outcome: Result<Outcome, SubmitError>) {
    let Job { answer, room, .. } = job;
    let _ = answer.send(outcome);
    drop(room);
}
