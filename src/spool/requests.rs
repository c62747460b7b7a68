//! Requests to the thread of the spool, and what they carry.
//!
//! Plain messages: a callback with the function that completes it, keys to remove, a range to read. Each is answered
//! exactly once, by the thread or by the handle that cannot reach it.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::status::SpoolError;
use crate::callback::{Callback, Received};
use crate::model::SdkAppId;

/// The order of receipt: time of receipt in Unix milliseconds, and a number that makes it unique.
pub type RecordKey = (i64, u64);

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

/// A record to put, with what the file keeps it by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRecord {
    /// Time of receipt in Unix milliseconds.
    pub received_ms: i64,
    /// The app; none where the record does not say.
    pub app: Option<SdkAppId>,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

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
    /// Make salvaged records durable.
    Salvaged(Vec<NewRecord>, oneshot::Sender<Result<(), SpoolError>>),
    /// Read records.
    Read(ReadRange, oneshot::Sender<Result<Vec<StoredRecord>, SpoolError>>),
    /// Take no further request, write what waits, end.
    Close,
}
