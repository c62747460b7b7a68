//! The spool's file: records in order of receipt and the gaps, in an embedded store that survives a kill at any point.
//! One call of [`SpoolFile::write`] is one synced transaction.
//!
//! Blocking, and used by one thread. It knows bytes and keys, not what they mean. After a failure of the disk the store
//! refuses everything until it is opened again. A file that the store cannot read, or on which it panics, is damaged: the
//! thread moves it aside (`moved`). `docs/formats.md` has the tables and what is assumed of the disk.

use std::fs::{File, TryLockError};
use std::os::unix::fs::FileExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use redb::backends::FileBackend;
use redb::{
    Builder, Database, Durability, ReadTransaction, ReadableDatabase as _, ReadableTable as _,
    ReadableTableMetadata as _, TableDefinition, TableError,
};

use super::by_app::AppSums;
use super::mark::{MARK_NAME, Mark, Synced};
use super::record;
use super::requests::{NewRecord, RecordKey};
use super::shares::charge;
use super::status::SpoolError;
use crate::files::{Access, FileError, PrivateDir};

/// The file's name in the data directory.
pub(super) const FILE_NAME: &str = "spool.redb";

/// Callbacks by time of receipt in ms and a number that makes it unique.
const RECEIVED: TableDefinition<'_, (i64, u64), &[u8]> = TableDefinition::new("received");

/// Records whose bytes are not what was written, by the same key: kept for a person, never read.
const DAMAGED: TableDefinition<'_, (i64, u64), &[u8]> = TableDefinition::new("damaged");

/// One row: what every app has, and the last number given.
const SUMS: TableDefinition<'_, (), &[u8]> = TableDefinition::new("sums");

/// One row in its place, as an earlier program wrote it: the bytes of all callbacks, and the last number given.
const COUNTS: TableDefinition<'_, (), (u64, u64)> = TableDefinition::new("counts");

/// Gaps by the time of receipt, in ms, of the first callback in them, and by app; 0 for all apps.
const GAPS: TableDefinition<'_, (i64, i64), &[u8]> = TableDefinition::new("app_gaps");

/// The same without apps, as an earlier program wrote it.
const GAPS_OF_ALL: TableDefinition<'_, i64, &[u8]> = TableDefinition::new("gaps");

/// What a gap is kept by.
pub(super) type GapKey = (i64, i64);

/// How many gaps are kept; of more the oldest go. A gap is an outage of PostgreSQL and the spool at once.
const GAPS_MAX: u64 = 1000;

/// How many damaged records are kept; of more the oldest go. They are not charged to the limit of the spool.
const DAMAGED_MAX: u64 = 1000;

/// Memory for pages of the file. It is written once, read once and in order, so a cache is of little use.
const CACHE_BYTES: usize = 8 * 1024 * 1024;

/// The space that an empty spool may keep. Below, giving it up is not worth the time.
const EMPTY_FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The first bytes of every file of the store.
const MAGIC: [u8; 9] = *b"redb\x1A\x0A\xA9\x0D\x0A";

/// What is in the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct FileStatus {
    /// Callbacks.
    pub(super) depth: u64,
    /// What they are charged with.
    pub(super) bytes: u64,
    /// When the oldest was received, in Unix milliseconds.
    pub(super) oldest_ms: Option<i64>,
}

/// One synced transaction.
#[derive(Debug, Default)]
pub(super) struct FileWrite {
    pub(super) put: Vec<NewRecord>,
    /// Keys, which may be gone already.
    pub(super) remove: Vec<RecordKey>,
    /// Keys of damaged records, which leave the queue and stay in the file.
    pub(super) set_aside: Vec<RecordKey>,
    /// The gaps to note.
    pub(super) gaps: Vec<(GapKey, Vec<u8>)>,
}

impl FileWrite {
    pub(super) fn is_empty(&self) -> bool {
        self.put.is_empty() && self.remove.is_empty() && self.set_aside.is_empty() && self.gaps.is_empty()
    }
}

/// The open file.
pub(super) struct SpoolFile {
    store: Database,
    /// The same file, for its length.
    file: File,
    next: u64,
    status: FileStatus,
    apps: AppSums,
    mark: Mark,
    /// Receipt of the newest record ever put, in Unix milliseconds.
    newest_ms: i64,
    missing: Option<MissingRecords>,
}

/// Records that were synced and are not in the file any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MissingRecords {
    /// How many.
    pub(super) count: u64,
    /// Receipt of the last of them, in Unix milliseconds.
    pub(super) last_ms: i64,
}

impl SpoolFile {
    /// Opens the file of a data directory, or makes it. After a kill this reads the whole file once, which takes about
    /// 1 s per GiB.
    pub(super) fn open(dir: &Path) -> Result<Self, SpoolError> {
        let dir = PrivateDir::open(dir)?;
        let file = open_or_make(&dir)?;
        let (mark, synced) = Mark::open(&dir)?;
        guarded(|| {
            check_magic(&file)?;
            let backend = FileBackend::new(file.try_clone()?)?;
            let store = Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(backend)?;
            let synced = synced.unwrap_or_default();
            let (status, newest_ms) = (FileStatus::default(), synced.newest_ms);
            let apps = AppSums::default();
            let mut file = Self { store, file, next: 0, status, apps, mark, newest_ms, missing: None };
            file.status = file.read_status()?;
            file.fit_apps()?;
            let count = synced.missing_from(file.next);
            file.missing = (count > 0).then_some(MissingRecords { count, last_ms: newest_ms });
            Ok(file)
        })
    }

    pub(super) fn status(&self) -> FileStatus {
        self.status
    }

    /// What every app has in it.
    pub(super) fn apps(&self) -> &AppSums {
        &self.apps
    }

    /// What the file has lost since its last use, once.
    pub(super) fn take_missing(&mut self) -> Option<MissingRecords> {
        self.missing.take()
    }

    /// Returns when everything is on disk; after an error it is not known what is.
    pub(super) fn write(&mut self, write: &FileWrite) -> Result<(), SpoolError> {
        guarded(|| self.commit(write))?;
        self.newest_ms = write.put.iter().map(|record| record.received_ms).fold(self.newest_ms, i64::max);
        let synced = Synced { last: self.next, depth: self.status.depth, newest_ms: self.newest_ms };
        if let Err(error) = self.mark.set(synced) {
            // The records are synced, and that is what counts; a loss after a kill would not be noticed.
            tracing::warn!(%error, "the mark of the spool cannot be written");
        }
        Ok(())
    }

    fn commit(&mut self, write: &FileWrite) -> Result<(), redb::Error> {
        let mut transaction = self.store.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        let (status, apps) = {
            let mut received = transaction.open_table(RECEIVED)?;
            let mut apps = self.apps.clone();
            for NewRecord { received_ms, app, bytes } in &write.put {
                self.next += 1;
                received.insert((*received_ms, self.next), bytes.as_slice())?;
                apps.put(*app, *received_ms, charge(bytes));
            }
            for key in &write.remove {
                if let Some(record) = received.remove(key)? {
                    apps.remove(record::app(record.value()), charge(record.value()));
                }
            }
            for key in &write.set_aside {
                let Some(record) = received.remove(key)? else { continue };
                apps.remove(record::app(record.value()), charge(record.value()));
                let mut damaged = transaction.open_table(DAMAGED)?;
                damaged.insert(key, record.value())?;
                while damaged.len()? > DAMAGED_MAX {
                    damaged.pop_first()?;
                }
            }
            let mut oldest_ms = None;
            if let Some((key, record)) = received.first()? {
                oldest_ms = Some(key.value().0);
                apps.begin_at(record::app(record.value()), key.value().0);
            }
            let status = FileStatus { depth: received.len()?, bytes: apps.bytes(), oldest_ms };
            let sums = apps.encode(self.next).map_err(std::io::Error::from)?;
            transaction.open_table(SUMS)?.insert((), sums.as_slice())?;
            if !write.gaps.is_empty() {
                let mut gaps = transaction.open_table(GAPS)?;
                for (key, gap) in &write.gaps {
                    gaps.insert(key, gap.as_slice())?;
                }
                while gaps.len()? > GAPS_MAX {
                    gaps.pop_first()?;
                }
            }
            (status, apps)
        };
        transaction.commit()?;
        (self.status, self.apps) = (status, apps);
        self.fit_apps()
    }

    /// The oldest records after a key, at most `count`, and no more than the first beyond `bytes`.
    pub(super) fn read(
        &self,
        after: Option<RecordKey>,
        count: usize,
        bytes: usize,
    ) -> Result<Vec<(RecordKey, Vec<u8>)>, SpoolError> {
        guarded(|| {
            let table = match self.store.begin_read()?.open_table(RECEIVED) {
                Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                table => table?,
            };
            let from = after.map_or((i64::MIN, 0), |(received_ms, number)| (received_ms, number + 1));
            let (mut records, mut size) = (Vec::new(), 0);
            for row in table.range(from..)? {
                let (key, value) = row?;
                size += value.value().len();
                if records.len() == count || (size > bytes && !records.is_empty()) {
                    break;
                }
                records.push((key.value(), value.value().to_vec()));
            }
            Ok(records)
        })
    }

    /// All gaps, those of an earlier program first, then by time.
    pub(super) fn gaps(&self) -> Result<Vec<Vec<u8>>, SpoolError> {
        guarded(|| {
            let transaction = self.store.begin_read()?;
            Ok([values(&transaction, GAPS_OF_ALL)?, values(&transaction, GAPS)?].concat())
        })
    }

    /// Gives the file's free space back to the volume, if it is empty and large.
    pub(super) fn release_space(&mut self) -> Result<(), SpoolError> {
        guarded(|| {
            let large = self.file.metadata().is_ok_and(|file| file.len() > EMPTY_FILE_BYTES_MAX);
            if self.status.depth == 0 && large {
                self.store.compact()?;
            }
            Ok(())
        })
    }

    /// Closes a file that failed. The store writes at its end, and may panic once more.
    pub(super) fn discard(self) {
        let _ = guarded(|| {
            drop(self);
            Ok(())
        });
    }

    /// Makes the sums anew from the records, where they do not fit them: in a file of an earlier program, or in one whose
    /// disk has changed a byte of them. The next commit writes them.
    fn fit_apps(&mut self) -> Result<(), redb::Error> {
        if (self.apps.depth(), self.apps.bytes()) == (self.status.depth, self.status.bytes) {
            return Ok(());
        }
        let mut apps = AppSums::default();
        for row in self.store.begin_read()?.open_table(RECEIVED)?.iter()? {
            let (key, record) = row?;
            apps.put(record::app(record.value()), key.value().0, charge(record.value()));
            self.next = self.next.max(key.value().1);
        }
        self.status.bytes = apps.bytes();
        self.apps = apps;
        Ok(())
    }

    fn read_status(&mut self) -> Result<FileStatus, redb::Error> {
        let transaction = self.store.begin_read()?;
        self.apps = sums_of(&transaction)?.map(|(apps, _)| apps).unwrap_or_default();
        let (status, last) = status_of(&transaction)?;
        self.next = last;
        Ok(status)
    }
}

/// What is in the file, and the last number given.
pub(super) fn status_of(transaction: &ReadTransaction) -> Result<(FileStatus, u64), redb::Error> {
    let table = match transaction.open_table(RECEIVED) {
        Err(TableError::TableDoesNotExist(_)) => return Ok((FileStatus::default(), 0)),
        table => table?,
    };
    let (bytes, last) = match sums_of(transaction)? {
        Some((apps, last)) => (apps.bytes(), last),
        None => match transaction.open_table(COUNTS) {
            Err(TableError::TableDoesNotExist(_)) => (0, 0),
            counts => counts?.get(())?.map(|counts| counts.value()).unwrap_or_default(),
        },
    };
    let oldest_ms = table.first()?.map(|(key, _)| key.value().0);
    Ok((FileStatus { depth: table.len()?, bytes, oldest_ms }, last))
}

/// What every app has, as the file says, and the last number given.
fn sums_of(transaction: &ReadTransaction) -> Result<Option<(AppSums, u64)>, redb::Error> {
    Ok(values(transaction, SUMS)?.first().and_then(|row| AppSums::decode(row)))
}

/// All values of a table, in the order of its keys.
fn values<K: redb::Key + 'static>(
    transaction: &ReadTransaction,
    table: TableDefinition<'_, K, &'static [u8]>,
) -> Result<Vec<Vec<u8>>, redb::Error> {
    let table = match transaction.open_table(table) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        table => table?,
    };
    table.iter()?.map(|row| Ok(row?.1.value().to_vec())).collect()
}

/// Runs one operation of the store. A panic inside it is the store's way to report pages that it cannot have written.
pub(super) fn guarded<T>(operation: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, SpoolError> {
    // A file that panicked is discarded, so nothing half-changed is used again.
    match catch_unwind(AssertUnwindSafe(operation)) {
        Ok(done) => Ok(done?),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
            Err(SpoolError::Damaged(format!("the store stopped: {text}")))
        }
    }
}

/// Opens the file; makes an empty one where there is none, so that its name outlives a crash of the machine as surely as
/// what is written under it later. The mark of an earlier file does not count for a new one.
fn open_or_make(dir: &PrivateDir) -> Result<File, FileError> {
    match dir.file(FILE_NAME, Access::New) {
        Ok(file) => {
            Mark::remove(dir);
            file.sync_all().map_err(|source| FileError::of(dir.path(), source))?;
            dir.sync()?;
            // The directory may be new as well; its parent may belong to another user.
            let _ = dir.sync_parent();
            Ok(file)
        }
        Err(FileError::Io { source, .. }) if source.kind() == std::io::ErrorKind::AlreadyExists => {
            dir.file(FILE_NAME, Access::Write)
        }
        Err(error) => Err(error),
    }
}

/// A file that begins otherwise is not what the store wrote; a file of zeros is one. The store calls that a failure of the
/// disk, which would be tried again without end.
pub(super) fn check_magic(file: &File) -> Result<(), redb::Error> {
    let mut begin = [0; MAGIC.len()];
    let length = file.metadata()?.len();
    if length == 0 || (file.read_exact_at(&mut begin, 0).is_ok() && begin == MAGIC) {
        return Ok(());
    }
    Err(redb::Error::Corrupted("it does not begin as a file of the store does".to_owned()))
}

/// Whether the file and its mark may be used: by this user, and not while another process has it open. Where the disk
/// fails now, the thread opens both again later.
pub(super) fn check_use(dir: &Path) -> Result<(), SpoolError> {
    for name in [FILE_NAME, MARK_NAME] {
        match PrivateDir::open(dir).and_then(|dir| dir.file(name, Access::Read)) {
            Ok(file) if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) => {
                return Err(SpoolError::InUse);
            }
            Err(refused @ FileError::Refused { .. }) => return Err(refused.into()),
            Ok(_) | Err(FileError::Io { .. }) => {}
        }
    }
    Ok(())
}
