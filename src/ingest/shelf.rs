//! The spool's file: callbacks in order of receipt and the named gaps, in an embedded store that survives a kill at any
//! point. One call of [`Shelf::write`] is one synced transaction.
//!
//! Blocking, and used by one thread, that of `spool`. Knows bytes and keys, not what they mean. After a failure of the
//! disk the store takes nothing more until it is opened again.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use redb::{
    Builder, Database, Durability, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _,
    StorageError, TableDefinition, TableError,
};

use crate::callback::BODY_BYTES_MAX;

/// Callbacks by time of receipt in ms and a number that makes it unique.
const RECEIVED: TableDefinition<'_, (i64, u64), &[u8]> = TableDefinition::new("received");

/// One row: the bytes that the callbacks are charged with, and the last number given.
const COUNTS: TableDefinition<'_, (), (u64, u64)> = TableDefinition::new("counts");

/// Gaps by the time of receipt, in ms, of the first callback in them.
const GAPS: TableDefinition<'_, i64, &[u8]> = TableDefinition::new("gaps");

/// How many gaps are kept; of more the oldest go. A gap is an outage of PostgreSQL and the spool at once.
const GAPS_MAX: u64 = 1000;

/// Memory for pages of the file. It is written once, read once and in order, so a cache is of little use.
const CACHE_BYTES: usize = 8 * 1024 * 1024;

/// The space that an empty spool may keep. Below, giving it up is not worth the time.
const EMPTY_FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// A page of the store.
const PAGE_BYTES: u64 = 4096;

/// The order of receipt.
pub(super) type Key = (i64, u64);

/// What is in the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// Callbacks.
    pub(super) depth: u64,
    /// What they are charged with.
    pub(super) bytes: u64,
    /// When the oldest was received, in Unix milliseconds.
    pub(super) oldest_ms: Option<i64>,
}

/// What an entry takes of the limit, at least what it takes of the disk: small ones share pages; one that does not fit
/// into half a page gets pages of its own, and their number is a power of two.
pub(super) fn charge(entry: &[u8]) -> u64 {
    let bytes = entry.len() as u64 + 64;
    match bytes {
        0..=1365 => bytes + bytes / 8,
        1366..=2048 => PAGE_BYTES / 2,
        _ => bytes.next_power_of_two(),
    }
}

/// What the largest callback takes of the limit. With less left the spool counts as full.
pub(super) const CHARGE_MAX: u64 = 2 * BODY_BYTES_MAX as u64;

/// One synced transaction.
#[derive(Debug, Default)]
pub(super) struct Change {
    /// Time of receipt and bytes.
    pub(super) put: Vec<(i64, Vec<u8>)>,
    /// Keys, which may be gone already.
    pub(super) remove: Vec<Key>,
    /// The gap to note, by its first time.
    pub(super) gap: Option<(i64, Vec<u8>)>,
}

impl Change {
    pub(super) fn is_empty(&self) -> bool {
        self.put.is_empty() && self.remove.is_empty() && self.gap.is_none()
    }
}

/// The open file.
pub(super) struct Shelf {
    store: Database,
    path: PathBuf,
    next: u64,
    held: Held,
}

impl Shelf {
    /// Opens the file, or makes it. After a kill this reads the whole file once, which takes about 1 s per GiB.
    pub(super) fn open(path: &Path) -> Result<Self, redb::Error> {
        make(path).map_err(redb::Error::Io)?;
        let store = Builder::new().set_cache_size(CACHE_BYTES).create(path)?;
        let mut shelf = Self { store, path: path.to_owned(), next: 0, held: Held::default() };
        shelf.held = shelf.look()?;
        Ok(shelf)
    }

    pub(super) fn held(&self) -> Held {
        self.held
    }

    /// Returns when everything is on disk; after an error nobody knows.
    pub(super) fn write(&mut self, change: &Change) -> Result<(), redb::Error> {
        let mut held = self.held;
        let mut transaction = self.store.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        {
            let mut received = transaction.open_table(RECEIVED)?;
            for (received_ms, entry) in &change.put {
                self.next += 1;
                received.insert((*received_ms, self.next), entry.as_slice())?;
                held.bytes += charge(entry);
            }
            for key in &change.remove {
                if let Some(entry) = received.remove(key)? {
                    held.bytes = held.bytes.saturating_sub(charge(entry.value()));
                }
            }
            held.depth = received.len()?;
            held.oldest_ms = received.first()?.map(|(key, _)| key.value().0);
            transaction.open_table(COUNTS)?.insert((), (held.bytes, self.next))?;
            if let Some((first_ms, gap)) = &change.gap {
                let mut gaps = transaction.open_table(GAPS)?;
                gaps.insert(first_ms, gap.as_slice())?;
                while gaps.len()? > GAPS_MAX {
                    gaps.pop_first()?;
                }
            }
        }
        transaction.commit()?;
        self.held = held;
        Ok(())
    }

    /// The oldest entries after a key, at most `count`, and no more than the first beyond `bytes`.
    pub(super) fn read(
        &self,
        after: Option<Key>,
        count: usize,
        bytes: usize,
    ) -> Result<Vec<(Key, Vec<u8>)>, redb::Error> {
        let table = match self.store.begin_read()?.open_table(RECEIVED) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            table => table?,
        };
        let from = after.map_or((i64::MIN, 0), |(received_ms, number)| (received_ms, number + 1));
        let (mut entries, mut size) = (Vec::new(), 0);
        for entry in table.range(from..)? {
            let (key, value) = entry?;
            size += value.value().len();
            if entries.len() == count || (size > bytes && !entries.is_empty()) {
                break;
            }
            entries.push((key.value(), value.value().to_vec()));
        }
        Ok(entries)
    }

    /// All gaps, oldest first.
    pub(super) fn gaps(&self) -> Result<Vec<(i64, Vec<u8>)>, redb::Error> {
        let table = match self.store.begin_read()?.open_table(GAPS) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            table => table?,
        };
        let row = |row: Result<(redb::AccessGuard<'_, i64>, redb::AccessGuard<'_, &[u8]>), StorageError>| {
            row.map(|(first_ms, gap)| (first_ms.value(), gap.value().to_vec()))
        };
        Ok(table.iter()?.map(row).collect::<Result<_, _>>()?)
    }

    /// Gives the file's space back, if it is empty and large.
    pub(super) fn give_up_space(&mut self) -> Result<(), redb::Error> {
        let large = fs::metadata(&self.path).is_ok_and(|file| file.len() > EMPTY_FILE_BYTES_MAX);
        if self.held.depth == 0 && large {
            self.store.compact()?;
        }
        Ok(())
    }

    fn look(&mut self) -> Result<Held, redb::Error> {
        let transaction = self.store.begin_read()?;
        let table = match transaction.open_table(RECEIVED) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(Held::default()),
            table => table?,
        };
        let counts = transaction.open_table(COUNTS)?.get(())?.map(|counts| counts.value());
        let (bytes, last) = counts.unwrap_or_default();
        self.next = last;
        Ok(Held { depth: table.len()?, bytes, oldest_ms: table.first()?.map(|(key, _)| key.value().0) })
    }
}

/// Makes an empty file that only this user may read, so that the name outlives a crash of the machine as surely as what
/// is written under it later.
fn make(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => file.sync_all()?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(error),
    }
    if let Some(dir) = path.parent() {
        let dir = dir.canonicalize()?;
        File::open(&dir)?.sync_all()?;
        // The directory may be new as well; its parent may be none of ours.
        let _ = dir.parent().map(|parent| File::open(parent).and_then(|parent| parent.sync_all()));
    }
    Ok(())
}
