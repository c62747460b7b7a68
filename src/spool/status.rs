//! What the spool says about itself: where its file is, how full it is, why it refuses a callback.
//!
//! Plain values without behaviour, apart from sorting the store's errors: a full disk, a damaged file and a failing disk
//! are answered differently. The thread publishes them; the writer, the metrics, `/readyz` and `/v1/stats` read them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use thiserror::Error;

use super::shares::AppUse;
use crate::files::FileError;
use crate::model::{Millis, SdkAppId};

/// Where the spool's file is and how large it may become.
#[derive(Debug, Clone)]
pub struct SpoolPlace {
    /// The directory; it exists and only one process uses it.
    pub dir: PathBuf,
    /// The limit of what records take in the file, in bytes.
    pub max_bytes: u64,
    /// The apps that share it; at least one.
    pub apps: Vec<SdkAppId>,
    /// How long answered callbacks are kept after their commit, in seconds; 0: not at all.
    pub keep_answered_secs: u64,
}

/// Why the spool did not take a callback.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SpoolError {
    /// The file is not open yet; what is handed over now waits for it.
    #[error("the spool is being opened")]
    Opening,
    /// At its limit, or the app is at the limit of its share.
    #[error("the spool is at its limit, SPOOL_MAX_BYTES")]
    Full,
    /// The volume has no space left.
    #[error("the disk of the spool is full")]
    DiskFull,
    /// The queue in front of the disk is full.
    #[error("too many callbacks wait for the disk of the spool")]
    Busy,
    /// The spool is closed, because the service stops.
    #[error("the spool is closed")]
    Closed,
    /// Another process has the file.
    #[error("another process uses the spool")]
    InUse,
    /// The file is not what this program wrote; the thread moves it aside.
    #[error("the spool's file is damaged: {0}")]
    Damaged(String),
    /// It belongs to another user, or others could have written it; the text has the remedy.
    #[error("{0}")]
    Refused(String),
    /// The disk failed.
    #[error("the spool cannot be written: {0}")]
    Broken(String),
}

impl SpoolError {
    /// The label for counters and gaps.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Full => "spool_full",
            Self::DiskFull => "disk_full",
            Self::Busy => "spool_busy",
            Self::Closed => "stopping",
            Self::Opening => "spool_opening",
            Self::InUse | Self::Damaged(_) | Self::Refused(_) | Self::Broken(_) => "spool_broken",
        }
    }
}

impl From<redb::Error> for SpoolError {
    fn from(error: redb::Error) -> Self {
        use std::io::ErrorKind::{FileTooLarge, InvalidData, QuotaExceeded, StorageFull, UnexpectedEof};
        match error {
            redb::Error::Io(error) => match error.kind() {
                StorageFull | QuotaExceeded | FileTooLarge => Self::DiskFull,
                // The store's words for a header that is not its own, and for a file that was cut.
                InvalidData | UnexpectedEof => Self::Damaged(error.to_string()),
                _ => Self::Broken(error.to_string()),
            },
            redb::Error::DatabaseAlreadyOpen => Self::InUse,
            redb::Error::Corrupted(_)
            | redb::Error::UpgradeRequired(_)
            | redb::Error::TableDoesNotExist(_)
            | redb::Error::TableTypeMismatch { .. }
            | redb::Error::TableIsMultimap(_)
            | redb::Error::TableIsNotMultimap(_)
            | redb::Error::TypeDefinitionChanged { .. } => Self::Damaged(error.to_string()),
            other => Self::Broken(other.to_string()),
        }
    }
}

impl From<FileError> for SpoolError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Refused { .. } => Self::Refused(error.to_string()),
            FileError::Io { source, .. } => redb::Error::Io(source).into(),
        }
    }
}

/// The state of the spool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpoolStatus {
    /// Records in it.
    pub depth: u64,
    /// What they are charged with, in bytes.
    pub bytes: u64,
    /// Receipt of the oldest.
    pub oldest: Option<Millis>,
    /// The same by app; one that has nothing in it is not there.
    pub apps: BTreeMap<SdkAppId, AppUse>,
    /// Why it would refuse the next callback of any app and size; none: it would take one of some app at least.
    pub failure: Option<SpoolError>,
    /// Gaps noted in it, of this run and earlier ones.
    pub gaps: u64,
}

impl SpoolStatus {
    /// What becomes of callbacks that are left to the spool, for a log line.
    #[must_use]
    pub fn fate_of_callbacks(&self) -> &'static str {
        match &self.failure {
            // What is handed over while it is opened waits for that.
            None | Some(SpoolError::Opening) => "callbacks go to the spool",
            Some(SpoolError::Full) => "callbacks are refused, because the spool is at its limit,",
            Some(_) => "callbacks are refused, because the spool cannot be written,",
        }
    }
}
