//! The ledger cut into ranges of groups, each folded in memory: the checkpoints of its groups first, then partition after
//! partition.
//!
//! A range ends at a group, so that a fold never sees a part of one, and has some thousand entries, however many partitions
//! they stand in. Memory holds the rows of one range, and of a large group not all: beyond [`MEMBERS_MAX`] memberships the
//! fold keeps the first ones in the order of the key, and the entries are read once more for the next (a window of members).
//! Everything else of a group is in each window, because the stored form of a membership depends on it.

use std::collections::BTreeSet;

use futures_util::TryStreamExt as _;
use sqlx::PgConnection;

use super::reread::{facts, is_readable_now};
use crate::mirror::{Fact, FactKind, MemberKey, Rows};
use crate::store::checkpoints::{self, CheckpointRow};
use crate::store::ledger::LedgerRow;
use crate::store::ledger_walk::{self, StoredGroup};
use crate::store::lines::{self, ALL, Lines, MemberWindow};
use crate::store::partitions::TimeSpan;

/// How many ledger entries are read at once where they come in pages. A body has at most 1 MiB, so this is at most 128 MiB.
pub(super) const PAGE_ROWS: i64 = 128;

/// After about how many ledger entries a range ends, at the next group, divided among the partitions that go on. Small enough for
/// a short snapshot; a group with more is a range of its own.
const RANGE_ROWS: usize = 8192;

/// As many of them come from each partition at least.
const PARTITION_ROWS_MIN: usize = 64;

/// The most memberships of one window, at some 3 kB each for the row and for both of its lines that are compared.
const MEMBERS_MAX: usize = 40_000;

/// A range of groups: after the first, up to and with the last.
#[derive(Debug, Clone)]
pub(super) struct Span {
    pub(super) after: StoredGroup,
    pub(super) last: StoredGroup,
}

impl Span {
    /// The next range after a group; the last one reaches to the end of everything. Of each partition it has a bounded
    /// number of entries and the rest of its last group.
    pub(super) async fn next(
        conn: &mut PgConnection,
        after: StoredGroup,
        times: &[TimeSpan],
    ) -> Result<Self, sqlx::Error> {
        assert!(!times.is_empty(), "the partitions are all of time");
        let share = |partitions: usize| (RANGE_ROWS / partitions).max(PARTITION_ROWS_MIN);
        let (mut going_on, mut last) = parts_ahead(conn, &after, times, share(times.len())).await?;
        // Those ahead of time are empty, and a young ledger fills one or two.
        if going_on.len() * 2 <= times.len() && !going_on.is_empty() {
            (going_on, last) = parts_ahead(conn, &after, &going_on, share(going_on.len())).await?;
        }
        assert!(going_on.len() <= times.len(), "a partition that goes on is one of all");
        // Of a group that was pruned as a whole there is no entry.
        let ahead = checkpoints::group_ahead(conn, &after, i64::try_from(RANGE_ROWS).unwrap_or(i64::MAX) - 1);
        last = ahead.await?.map_or(last.clone(), |group| group.min(last));
        assert!(last > after, "a range has a group");
        Ok(Self { after, last })
    }

    pub(super) fn bounds(&self) -> lines::Range<'_> {
        ((self.after.0, &self.after.1), (self.last.0, &self.last.1))
    }

    /// Whether nothing comes behind it.
    pub(super) fn is_end(&self) -> bool {
        (self.last.0, self.last.1.as_str()) == ALL.1
    }
}

/// The partitions that have more than so many entries after a group, and the first group at which one of them has so many; the
/// end of everything where none has.
async fn parts_ahead(
    conn: &mut PgConnection,
    after: &StoredGroup,
    times: &[TimeSpan],
    entries: usize,
) -> Result<(Vec<TimeSpan>, StoredGroup), sqlx::Error> {
    let (mut going_on, mut last) = (Vec::new(), (ALL.1.0, ALL.1.1.to_owned()));
    for time in times {
        let ahead = i64::try_from(entries).unwrap_or(i64::MAX) - 1;
        if let Some(group) = ledger_walk::group_ahead(conn, after, *time, ahead).await? {
            going_on.push(*time);
            last = group.min(last);
        }
    }
    Ok((going_on, last))
}

/// The fold of one range, or of one group, with one window of its members.
#[derive(Debug, Default)]
pub(super) struct RangeFold {
    pub(super) rows: Rows,
    pub(super) window: MemberWindow,
    pub(super) ledger_rows: u64,
    /// Entries that were applied, and that this program cannot read: another version applied them.
    pub(super) unreadable: Vec<String>,
    /// Entries that were parked, or read in part, and of which this program can read more.
    pub(super) readable: Vec<String>,
    /// Groups with an entry of which more can be read: what they are by this fold, they are not in the tables yet.
    pub(super) read_further: BTreeSet<StoredGroup>,
}

impl RangeFold {
    /// The checkpoints of a range.
    pub(super) async fn of_checkpoints(
        conn: &mut PgConnection,
        span: &Span,
        window: MemberWindow,
    ) -> Result<Self, sqlx::Error> {
        let mut fold = Self { window, ..Self::default() };
        let mut rows = checkpoints::of_range(conn, &span.after, &span.last);
        while let Some(row) = rows.try_next().await? {
            fold.take_checkpoint(&row);
        }
        drop(rows);
        Ok(fold)
    }

    /// The fold of a range, with the members from one on; of all without one.
    pub(super) async fn of_range(
        conn: &mut PgConnection,
        span: &Span,
        times: &[TimeSpan],
        from: Option<MemberKey>,
    ) -> Result<Self, sqlx::Error> {
        let mut fold = Self::of_checkpoints(conn, span, MemberWindow { from, before: None }).await?;
        for time in times {
            let mut entries = ledger_walk::of_range(conn, &span.after, &span.last, *time);
            while let Some(row) = entries.try_next().await? {
                fold.take(&row);
            }
        }
        Ok(fold)
    }

    /// The fold of one group.
    pub(super) async fn of_group(
        conn: &mut PgConnection,
        group: &StoredGroup,
        times: &[TimeSpan],
        from: Option<MemberKey>,
    ) -> Result<Self, sqlx::Error> {
        let mut fold = Self { window: MemberWindow { from, before: None }, ..Self::default() };
        let mut rows = checkpoints::of_group(conn, group);
        while let Some(row) = rows.try_next().await? {
            fold.take_checkpoint(&row);
        }
        drop(rows);
        for time in times {
            let mut entries = ledger_walk::of_group(conn, group, *time);
            while let Some(row) = entries.try_next().await? {
                fold.take(&row);
            }
        }
        Ok(fold)
    }

    /// What the tables would hold of it.
    pub(super) fn lines(&self) -> Lines {
        lines::of_window_of_rows(&self.rows, &self.window)
    }

    fn take_checkpoint(&mut self, row: &CheckpointRow) {
        checkpoints::take(&mut self.rows, row, &self.window);
        self.narrow();
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
                facts.into_iter().for_each(|fact| self.apply(fact));
                self.narrow();
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

    /// A member outside of the window leaves what every fact leaves in its group.
    fn apply(&mut self, fact: Fact) {
        let is_outside = fact.kind.member().is_some_and(|user| !self.window.has(&fact.group, user));
        let fact = if is_outside { Fact { kind: FactKind::Seen, ..fact } } else { fact };
        self.rows.apply(fact);
    }

    /// Ends the window before the members that are too many.
    fn narrow(&mut self) {
        if self.rows.members.len() <= MEMBERS_MAX {
            return;
        }
        let Some(before) = self.rows.members.keys().nth(MEMBERS_MAX / 2).cloned() else {
            unreachable!("there are more members than half of the most")
        };
        self.rows.members.split_off(&before);
        self.window.before = Some(before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::group_key;
    use crate::model::{GroupId, ModelError, SdkAppId};

    fn join(group: &str, time_ms: i64, users: impl Iterator<Item = usize>) -> LedgerRow {
        let users: Vec<String> = users.map(|user| format!(r#"{{"Member_Account":"u{user:06}"}}"#)).collect();
        let body = format!(r#"{{"GroupId":"{group}","NewMemberList":[{}]}}"#, users.join(","));
        LedgerRow {
            sdk_app_id: 1,
            group_id: group.to_owned(),
            time_ms,
            digest: vec![0; 16],
            command: "Group.CallbackAfterNewMemberJoin".to_owned(),
            query_command: None,
            request_id: None,
            received_ms: time_ms,
            source: "callback".to_owned(),
            outcome: "applied".to_owned(),
            reason: None,
            causes: None,
            body: body.into_bytes(),
        }
    }

    #[test]
    fn windows_of_members_cover_each_once_and_hold_the_whole_of_each_group() -> Result<(), ModelError> {
        const USERS: usize = 90_000;
        let entries: Vec<LedgerRow> = (1_000..)
            .zip(0..9)
            .map(|(ms, at)| {
                let users = (0..USERS).filter(move |user| user % 9 == at);
                join(if at == 0 { "a" } else { "b" }, ms, users)
            })
            .collect();
        let mut whole = Rows::default();
        for (facts, _) in entries.iter().filter_map(facts) {
            facts.into_iter().for_each(|fact| whole.apply(fact));
        }
        assert_eq!(whole.members.len(), USERS);
        let (mut members, mut from, mut windows) = (std::collections::BTreeMap::new(), None, 0);
        loop {
            let mut fold = RangeFold { window: MemberWindow { from, before: None }, ..RangeFold::default() };
            // In another order each time.
            entries.iter().cycle().skip(windows).take(entries.len()).for_each(|entry| fold.take(entry));
            assert!(fold.rows.members.len() <= MEMBERS_MAX);
            assert_eq!(fold.rows.groups, whole.groups);
            let before = members.len();
            let found = fold.rows.members.len();
            members.extend(fold.rows.members);
            assert_eq!(members.len(), before + found, "no member is in two windows");
            windows += 1;
            from = fold.window.before;
            if from.is_none() {
                break;
            }
        }
        assert_eq!(members, whole.members);
        assert!((3..=6).contains(&windows), "{windows}");
        let key = group_key(SdkAppId::parse("1")?, GroupId::parse("a")?);
        assert!(members.keys().next().is_some_and(|(group, _)| *group == key));
        Ok(())
    }
}
