//! The ledger read again: is the mirror what it says, and if not, make it so.
//!
//! Both go through the groups in key order, a range at a time: fold the range's ledger rows, compare with what the
//! tables hold. Comparing reads one snapshot, in which ledger and mirror belong together, and writes nothing, so
//! writers do not notice. Rebuilding touches the ranges that differ and no other, each in one transaction under the
//! locks of its groups; that is why it can be stopped and started again, and why views, grants and readers stay. The
//! fold is made in memory, and so by other code than the upserts that it checks.

use std::collections::VecDeque;

use anyhow::Context as _;
use sqlx::{Connection as _, PgConnection};

use crate::callback::{self, Callback, Decoded, Received};
use crate::mirror::{self, Fact, GroupKey, Rows};
use crate::model::{Digest, Millis, SdkAppId};
use crate::store::dump::{self, ALL, LineKey, Lines, TABLES};
use crate::store::ledger::{self, LedgerRow};
use crate::store::{Database, Failure, classify, rebuild, rows};

/// How many ledger rows are read at once. A body has at most 1 MiB, so this is at most 128 MiB.
pub(super) const PAGE_ROWS: i64 = 128;

/// After how many ledger rows a range ends, at the next group. Small enough for a short transaction; a group with
/// more is a range of its own.
const RANGE_ROWS: usize = 2048;

/// How many differences are told; the rest is counted.
const TOLD_MAX: usize = 100;

/// How often a range is tried again after it met a writer.
const RETRIES_MAX: u32 = 20;

/// What to do about differences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Tell them.
    Verify,
    /// Tell them and rebuild the ranges that have any.
    Rebuild,
}

/// What was seen.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Report {
    /// Ledger rows folded.
    pub ledger_rows: u64,
    /// Rows of the mirror compared.
    pub mirror_rows: u64,
    /// Rows that differ, are missing, or are too many.
    pub differences: u64,
    /// Tables and views that were not there and were made.
    pub restored: Vec<String>,
    /// One line each, [`TOLD_MAX`] at most.
    pub told: Vec<String>,
}

/// A range of groups: after the first, up to and with the last.
struct Span {
    after: (i64, String),
    last: (i64, String),
}

impl Span {
    fn bounds(&self) -> dump::Range<'_> {
        ((self.after.0, &self.after.1), (self.last.0, &self.last.1))
    }
}

/// Goes through the whole ledger. `progress` is told the number of ledger rows of each range.
///
/// # Errors
/// A ledger that is missing, another replay that runs, a database that fails.
pub async fn replay(database: &Database, mode: Mode, progress: impl Fn(u64)) -> anyhow::Result<Report> {
    let mut keeper = lock(database).await?;
    let mut report = Report::default();
    if mode == Mode::Rebuild {
        report.restored = restore(database).await?;
    } else {
        let missing = rebuild::missing(&mut keeper).await?;
        anyhow::ensure!(
            missing.is_empty(),
            "the mirror has no {}; run `group-mirror replay`",
            missing.join(", ")
        );
    }
    let mut snapshot = database.snapshot().await?;
    let mut reader = Reader::after(ALL.0.0, ALL.0.1);
    loop {
        let fold = reader.range(snapshot.conn()).await?;
        progress(fold.ledger_rows);
        report.ledger_rows += fold.ledger_rows;
        report.told.extend(fold.unreadable.iter().take(TOLD_MAX - report.told.len().min(TOLD_MAX)).cloned());
        report.differences += fold.unreadable.len() as u64;
        let held = dump::of_tables(snapshot.conn(), fold.span.bounds()).await?;
        let wanted = dump::of_rows(&fold.rows);
        report.mirror_rows += wanted.len() as u64;
        let differing = compare(&held, &wanted, &mut report);
        if differing && mode == Mode::Rebuild {
            rebuild_with_retries(database, &fold.span).await?;
        }
        if fold.end {
            break;
        }
    }
    unlock(keeper).await?;
    Ok(report)
}

/// How many ledger rows there are, about.
///
/// # Errors
/// A database that fails.
pub async fn estimate(database: &Database) -> anyhow::Result<u64> {
    let mut conn = database.connect().await?;
    let rows = ledger::estimate(&mut conn).await?;
    conn.close().await?;
    Ok(u64::try_from(rows).unwrap_or_default())
}

/// Two replays at once would undo each other's locks; the second is sent away.
pub(super) async fn lock(database: &Database) -> anyhow::Result<PgConnection> {
    let mut conn = database.connect().await?;
    anyhow::ensure!(
        rebuild::has_ledger(&mut conn).await?,
        "the database has no ledger; run `group-mirror migrate`"
    );
    anyhow::ensure!(rebuild::try_lock_replay(&mut conn).await?, "another replay of this database is running");
    Ok(conn)
}

/// Gives the lock back before the session ends: the server takes its time to notice the end, and the next replay may
/// be begun by then.
pub(super) async fn unlock(mut keeper: PgConnection) -> anyhow::Result<()> {
    rebuild::unlock_replay(&mut keeper).await?;
    Ok(keeper.close().await?)
}

async fn restore(database: &Database) -> anyhow::Result<Vec<String>> {
    let mut tx = database.begin("restore").await?;
    if rebuild::missing(tx.conn()).await?.is_empty() {
        return Ok(Vec::new());
    }
    tx.take_time().await?;
    let restored = rebuild::restore_tables(tx.conn()).await.context("cannot make the missing tables")?;
    tx.commit().await?;
    Ok(restored)
}

async fn rebuild_with_retries(database: &Database, span: &Span) -> anyhow::Result<()> {
    let mut tries = 0;
    loop {
        match rebuild_range(database, span).await {
            Err(error) if classify(&error) == Failure::Retry && tries < RETRIES_MAX => tries += 1,
            done => return done.context("cannot rebuild a range of groups"),
        }
    }
}

/// Replaces a range by the fold of its ledger rows, read anew under the locks.
async fn rebuild_range(database: &Database, span: &Span) -> Result<(), sqlx::Error> {
    let mut tx = database.begin("rebuild").await?;
    tx.take_time().await?;
    let locked = rebuild::lock(tx.conn(), span.bounds()).await?;
    let mut reader = Reader::after(span.after.0, &span.after.1);
    let mut whole = Rows::default();
    loop {
        let fold = reader.until(tx.conn(), &span.last).await?;
        whole.merge(fold.rows);
        if fold.end {
            break;
        }
    }
    rebuild::clear_strays(tx.conn(), span.bounds()).await?;
    rebuild::clear_groups(tx.conn(), &locked).await?;
    rows::upsert(tx.conn(), &whole).await?;
    tx.commit().await
}

/// Makes one group what its ledger rows say, inside the caller's transaction: for a ledger row that has changed its
/// place, which merging cannot undo.
///
/// # Errors
/// A statement's.
pub(super) async fn rebuild_group(conn: &mut PgConnection, group: &GroupKey) -> Result<(), sqlx::Error> {
    let key = (group.app.get(), group.group.as_str().to_owned());
    rebuild::lock_group(conn, (key.0, &key.1)).await?;
    let mut whole = Fold::new(Span { after: key.clone(), last: key.clone() });
    let mut page = ledger::page_of_group(conn, (key.0, &key.1), PAGE_ROWS).await?;
    while let Some(last) =
        page.iter().rfind(|row| (row.sdk_app_id, &row.group_id) == (key.0, &key.1)).cloned()
    {
        page.iter()
            .filter(|row| (row.sdk_app_id, &row.group_id) == (key.0, &key.1))
            .for_each(|row| whole.take(row));
        page = ledger::page(conn, Some(&last), false, PAGE_ROWS).await?;
    }
    rebuild::clear_groups(conn, &[key]).await?;
    rows::upsert(conn, &whole.rows).await
}

/// Tells what differs, row by row; true if anything does.
fn compare(held: &Lines, wanted: &Lines, report: &mut Report) -> bool {
    let before = report.differences;
    let mut tell = |key: &LineKey, what: String| {
        report.differences += 1;
        if report.told.len() < TOLD_MAX {
            let (table, app, group, rest) = key;
            let rest = if rest.is_empty() { String::new() } else { format!(" {rest:?}") };
            report.told.push(format!("{table} {app} {group:?}{rest}: {what}"));
        }
    };
    for (key, values) in wanted {
        match held.get(key) {
            None => tell(key, "is missing".to_owned()),
            Some(held) if held != values => tell(key, columns(key.0, held, values)),
            Some(_) => {}
        }
    }
    for key in held.keys().filter(|key| !wanted.contains_key(key)) {
        tell(key, "is not in the ledger".to_owned());
    }
    report.differences > before
}

/// The columns that differ, with both values.
fn columns(table: &str, held: &[Option<String>], wanted: &[Option<String>]) -> String {
    let names = TABLES.iter().find(|known| known.name == table).map_or(&[][..], |table| table.columns);
    let differing = names.iter().zip(held.iter().zip(wanted)).filter(|(_, (held, wanted))| held != wanted);
    let told = differing.map(|(name, (held, wanted))| {
        let show =
            |value: &Option<String>| value.as_ref().map_or("NULL".to_owned(), |text| format!("{text:?}"));
        format!("{name} is {}, the ledger says {}", show(held), show(wanted))
    });
    told.collect::<Vec<_>>().join("; ")
}

/// What a ledger row says, with the digest and the place it was given when it came.
pub(super) fn decode(row: &LedgerRow) -> Option<Callback> {
    let hint =
        row.query_command.clone().or_else(|| Some(row.command.clone()).filter(|text| !text.is_empty()));
    let received = Received {
        app: SdkAppId::parse(&row.sdk_app_id.to_string()).ok()?,
        query_command: hint,
        client_ip: None,
        platform: None,
        request_id: None,
        received_at: Millis::new(row.received_ms),
        body: row.body.clone(),
    };
    match callback::decode(received) {
        Decoded::Kept(mut callback) => {
            callback.digest = Digest::from_bytes(&row.digest)?;
            Some(*callback)
        }
        Decoded::OutOfScope(_) => None,
    }
}

/// The facts of a row that was applied; `None` where it cannot be made out now.
pub(super) fn facts(row: &LedgerRow) -> Option<Vec<Fact>> {
    let mut callback = decode(row).filter(|callback| callback.event.is_ok())?;
    callback.time = Millis::new(row.time_ms);
    Some(mirror::facts(&callback))
}

/// The fold of one range.
struct Fold {
    span: Span,
    rows: Rows,
    ledger_rows: u64,
    /// Applied once, and cannot be made out now: this program is not the one that applied them.
    unreadable: Vec<String>,
    end: bool,
}

/// Reads the ledger in key order and cuts it at groups.
struct Reader {
    waiting: VecDeque<LedgerRow>,
    after: (i64, String),
    last_read: Option<LedgerRow>,
    exhausted: bool,
}

impl Reader {
    fn after(app: i64, group: &str) -> Self {
        Self { waiting: VecDeque::new(), after: (app, group.to_owned()), last_read: None, exhausted: false }
    }

    /// The next range; the last one reaches to the end of everything.
    async fn range(&mut self, conn: &mut PgConnection) -> Result<Fold, sqlx::Error> {
        self.until(conn, &(ALL.1.0, ALL.1.1.to_owned())).await
    }

    /// The next range, ending with a group at the latest.
    async fn until(&mut self, conn: &mut PgConnection, last: &(i64, String)) -> Result<Fold, sqlx::Error> {
        let after = self.after.clone();
        let mut fold = Fold::new(Span { after, last: last.clone() });
        while let Some(row) = self.next(conn).await? {
            let group = (row.sdk_app_id, row.group_id.clone());
            if group > *last {
                break;
            }
            let full = fold.ledger_rows >= RANGE_ROWS as u64;
            if full && group != self.after {
                self.waiting.push_front(row);
                fold.span.last = self.after.clone();
                fold.end = false;
                break;
            }
            self.after = group;
            fold.take(&row);
        }
        Ok(fold)
    }

    async fn next(&mut self, conn: &mut PgConnection) -> Result<Option<LedgerRow>, sqlx::Error> {
        if self.waiting.is_empty() && !self.exhausted {
            let page = match &self.last_read {
                Some(row) => ledger::page(conn, Some(row), false, PAGE_ROWS).await?,
                None => ledger::page_after_group(conn, (self.after.0, &self.after.1), PAGE_ROWS).await?,
            };
            self.exhausted = page.is_empty();
            self.last_read = page.last().cloned();
            self.waiting = page.into();
        }
        Ok(self.waiting.pop_front())
    }
}

impl Fold {
    fn new(span: Span) -> Self {
        Self { span, rows: Rows::default(), ledger_rows: 0, unreadable: Vec::new(), end: true }
    }

    fn take(&mut self, row: &LedgerRow) {
        self.ledger_rows += 1;
        if !row.applied {
            return;
        }
        match facts(row) {
            Some(facts) => facts.into_iter().for_each(|fact| self.rows.apply(fact)),
            None => self.unreadable.push(format!(
                "ledger {} {:?} at {}: was applied, and cannot be made out by this program",
                row.sdk_app_id, row.group_id, row.time_ms
            )),
        }
    }
}
