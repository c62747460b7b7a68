//! The ledger cut into ranges of groups, each folded in memory.
//!
//! A range ends at a group, so that a fold never sees a part of one. Pages of the ledger are read in key order; memory
//! holds one page and the rows of one range.

use std::collections::{BTreeSet, VecDeque};

use sqlx::PgConnection;

use super::reread::{facts, is_readable_now};
use crate::mirror::Rows;
use crate::store::ledger::{self, LedgerRow};
use crate::store::lines::{self, ALL};

/// How many ledger entries are read at once. A body has at most 1 MiB, so this is at most 128 MiB.
pub(super) const PAGE_ROWS: i64 = 128;

/// After how many ledger entries a range ends, at the next group. Small enough for a short transaction; a group with
/// more is a range of its own.
const RANGE_ROWS: usize = 2048;

/// A range of groups: after the first, up to and with the last.
pub(super) struct Span {
    pub(super) after: (i64, String),
    pub(super) last: (i64, String),
}

impl Span {
    pub(super) fn bounds(&self) -> lines::Range<'_> {
        ((self.after.0, &self.after.1), (self.last.0, &self.last.1))
    }
}

/// The fold of one range.
pub(super) struct RangeFold {
    pub(super) span: Span,
    pub(super) rows: Rows,
    pub(super) ledger_rows: u64,
    /// Entries that were applied, and that this program cannot read: another version applied them.
    pub(super) unreadable: Vec<String>,
    /// Entries that were parked, or read in part, and of which this program can read more.
    pub(super) readable: Vec<String>,
    /// Groups with an entry of which more can be read: what they are by this fold, they are not in the tables yet.
    pub(super) read_further: BTreeSet<(i64, String)>,
    /// The range reaches to the end of what was asked for.
    pub(super) end: bool,
}

/// Reads the ledger in key order and cuts it at groups.
pub(super) struct RangeReader {
    waiting: VecDeque<LedgerRow>,
    /// The group of the last entry that was folded; at first, the start of the range.
    after: (i64, String),
    last_read: Option<LedgerRow>,
    exhausted: bool,
}

impl RangeReader {
    pub(super) fn after(app: i64, group: &str) -> Self {
        Self { waiting: VecDeque::new(), after: (app, group.to_owned()), last_read: None, exhausted: false }
    }

    /// The next range; the last one reaches to the end of everything.
    pub(super) async fn range(&mut self, conn: &mut PgConnection) -> Result<RangeFold, sqlx::Error> {
        self.until(conn, &(ALL.1.0, ALL.1.1.to_owned())).await
    }

    /// The next range, ending with a group at the latest.
    pub(super) async fn until(
        &mut self,
        conn: &mut PgConnection,
        last: &(i64, String),
    ) -> Result<RangeFold, sqlx::Error> {
        let after = self.after.clone();
        let mut fold = RangeFold::new(Span { after, last: last.clone() });
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
            assert!(group >= self.after, "the ledger is read in key order");
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

impl RangeFold {
    pub(super) fn new(span: Span) -> Self {
        Self {
            span,
            rows: Rows::default(),
            ledger_rows: 0,
            unreadable: Vec::new(),
            readable: Vec::new(),
            read_further: BTreeSet::new(),
            end: true,
        }
    }

    pub(super) fn take(&mut self, row: &LedgerRow) {
        self.ledger_rows += 1;
        let entry = || format!("ledger {} {:?} at {}", row.sdk_app_id, row.group_id, row.time_ms);
        if !row.is_applied() {
            if is_readable_now(row) {
                self.readable.push(format!("{}: was parked, and is readable by this version", entry()));
            }
            return;
        }
        match facts(row) {
            Some((facts, is_same)) => {
                facts.into_iter().for_each(|fact| self.rows.apply(fact));
                if !is_same {
                    self.readable
                        .push(format!("{}: was read in part, and is readable by this version", entry()));
                    self.read_further.insert((row.sdk_app_id, row.group_id.clone()));
                }
            }
            None => {
                self.unreadable.push(format!("{}: was applied, and cannot be read by this program", entry()));
            }
        }
    }
}
