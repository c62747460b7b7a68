//! The timeline of a group: its number of members and its events over time, in buckets (a time series of equal steps).
//!
//! One fold over the ledger in the order of time, by the same pure code that makes the mirror. The number of members is a
//! running count: at the end of a bucket only the users are looked at again that its entries have named, and those in the
//! count whom a newer life of the group or a newer complete list may have outdated. So a bucket costs what happened in it and
//! not the size of the group, and what it shows at its end is what a read as of that moment shows. Memory is that of such a
//! read: the rows of the group, within the limits of `as_of`.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::mpsc;

use super::as_of::{AsOfError, check_users};
use super::reread::facts;
use super::window::Window;
use crate::callback::{CREATE_COMMAND, command_label};
use crate::mirror::{
    Fact, FactKind, GroupBarrier, GroupKey, ListRange, Rows, Status, are_members_known, group_state,
    is_standing,
};
use crate::model::{Millis, UserId};
use crate::store::ledger::LedgerRow;

/// `ExitType` of a member whom another has removed.
const KICKED: &str = "Kicked";

/// What kind of entry it is, the gravest last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum EntryKind {
    /// An answer of Tencent's REST API.
    Read,
    /// Profile, attributes, topics, a role or a card.
    Changed,
    /// Users joined.
    Joined,
    /// The group was created.
    Created,
    /// Another user owns the group.
    OwnerChanged,
    /// A callback that cannot be applied.
    Parked,
    /// Users left.
    Left,
    /// Users were removed by another.
    Removed,
    /// The group was destroyed, or found gone.
    Destroyed,
}

impl EntryKind {
    /// As shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The members of a group at a moment, counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemberCount {
    /// How many are known.
    known: usize,
    group_type: Option<String>,
    has_all_members: bool,
    is_destroyed: bool,
}

impl MemberCount {
    /// The number of members, unless there may be others. `rooms`: whether the membership of audio-video rooms is mirrored.
    #[must_use]
    pub fn shown(&self, rooms: bool) -> Option<usize> {
        let is_whole = are_members_known(self.group_type.as_deref(), self.has_all_members, rooms);
        Some(self.known).filter(|_| is_whole || self.is_destroyed)
    }
}

/// What happened in a stretch of time, later than its begin and not later than its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimeBucket {
    /// Where it begins; what happened then belongs to the bucket before.
    pub begin: Millis,
    /// Where it ends.
    pub end: Millis,
    /// The members at its end.
    pub members: MemberCount,
    /// How many users joined, each entry by itself; those of a create included.
    pub joins: u64,
    /// How many users left by themselves.
    pub leaves: u64,
    /// How many users were removed by another.
    pub removals: u64,
    /// How many entries there are of each command.
    pub events: BTreeMap<String, u64>,
    /// The gravest kind among the entries; none where there are none.
    pub worst: Option<EntryKind>,
}

/// The life of a group, or a part of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Timeline {
    /// The members where the first bucket begins.
    pub before: MemberCount,
    /// In the order of time, each beginning where the one before ends.
    pub buckets: Vec<TimeBucket>,
}

/// Folds what comes, which must be all rows of the group up to the end of the window in the order of their times.
pub(super) fn fold(
    mut chunks: mpsc::Receiver<Vec<LedgerRow>>,
    group: &GroupKey,
    window: &Window,
    begun: Rows,
) -> Result<Timeline, AsOfError> {
    let mut fold = TimelineFold::new(group, window, begun);
    while let Some(chunk) = chunks.blocking_recv() {
        chunk.iter().try_for_each(|row| fold.take(row))?;
    }
    Ok(fold.finish())
}

/// The users who are members as long as the group exists, by the range of a large list that they belong to.
#[derive(Default)]
struct RunningCount {
    standing: BTreeMap<ListRange, BTreeSet<UserId>>,
    /// Users named since the last count.
    touched: BTreeSet<UserId>,
    /// Ranges that were listed since then.
    listed: BTreeSet<ListRange>,
    /// A newer life of the group, or a list of all members, has come since then.
    is_outdated: bool,
    known: usize,
}

impl RunningCount {
    fn note(&mut self, fact: &Fact) {
        match &fact.kind {
            FactKind::Joined(user, ..)
            | FactKind::Left(user, ..)
            | FactKind::Confirmed(user)
            | FactKind::Listed(user, _) => {
                self.touched.insert(user.clone());
            }
            FactKind::RangeListed(range) => {
                self.listed.insert(range.clone());
            }
            FactKind::Created(_)
            | FactKind::Began(_)
            | FactKind::Destroyed
            | FactKind::Barrier(GroupBarrier::GoneStamp | GroupBarrier::MembersBarrier) => {
                self.is_outdated = true;
            }
            _ => {}
        }
    }

    /// Counts again what may have changed.
    fn count(&mut self, rows: &Rows, key: &GroupKey) -> usize {
        let Some(group) = rows.groups.get(key) else { return 0 };
        let stands = |user: &UserId| {
            let row = rows.members.get(&(key.clone(), user.clone()));
            row.is_some_and(|row| is_standing(group, user, row))
        };
        let listed = std::mem::take(&mut self.listed);
        let is_outdated = std::mem::take(&mut self.is_outdated);
        for (range, users) in &mut self.standing {
            if is_outdated || listed.contains(range) {
                let before = users.len();
                users.retain(stands);
                self.known -= before - users.len();
            }
        }
        for user in std::mem::take(&mut self.touched) {
            let (range, stands) = (ListRange::of(&user), stands(&user));
            let users = self.standing.entry(range).or_default();
            match (stands, users.contains(&user)) {
                (true, false) => {
                    users.insert(user);
                    self.known += 1;
                }
                (false, true) => {
                    users.remove(&user);
                    self.known -= 1;
                }
                _ => {}
            }
        }
        assert_eq!(
            self.known,
            self.standing.values().map(BTreeSet::len).sum::<usize>(),
            "each is counted once"
        );
        self.known
    }
}

struct TimelineFold<'a> {
    group: &'a GroupKey,
    window: &'a Window,
    rows: Rows,
    running: RunningCount,
    /// The members at the end of the bucket before.
    counted: MemberCount,
    before: MemberCount,
    buckets: Vec<TimeBucket>,
    /// What has happened in the bucket that is being filled; none in front of the window.
    open: Option<TimeBucket>,
    /// Rows came since the last count.
    is_moved: bool,
    last: (i64, Vec<u8>),
}

impl<'a> TimelineFold<'a> {
    fn new(group: &'a GroupKey, window: &'a Window, rows: Rows) -> Self {
        let touched = rows.members.keys().map(|(_, user)| user.clone()).collect();
        let is_moved = !rows.groups.is_empty();
        Self {
            group,
            window,
            rows,
            running: RunningCount { touched, ..RunningCount::default() },
            counted: MemberCount::default(),
            before: MemberCount::default(),
            buckets: Vec::with_capacity(window.buckets()),
            open: None,
            is_moved,
            last: (i64::MIN, Vec::new()),
        }
    }

    fn take(&mut self, row: &LedgerRow) -> Result<(), AsOfError> {
        assert!(row.time_ms <= self.window.end(), "no row is later than the window");
        assert!((row.time_ms, &row.digest) > (self.last.0, &self.last.1), "rows come in the order of time");
        self.last = (row.time_ms, row.digest.clone());
        self.advance_to(row.time_ms);
        if !row.is_applied() {
            self.note(row, &[]);
            return Ok(());
        }
        let (facts, _) = facts(row).ok_or(AsOfError::Unreadable(row.time_ms))?;
        self.note(row, &facts);
        for fact in facts {
            self.running.note(&fact);
            self.rows.apply(fact);
        }
        self.is_moved = true;
        // No membership depends on these, and a group can have any number of them.
        self.rows.user_defined_fields.clear();
        self.rows.attributes.clear();
        self.rows.topics.clear();
        check_users(&self.rows)
    }

    /// Closes the buckets that end before this moment.
    fn advance_to(&mut self, time_ms: i64) {
        if self.window.buckets() == 0 || time_ms <= self.window.bound(0) {
            return;
        }
        if self.open.is_none() {
            self.before = self.count();
            self.open = Some(self.bucket(0));
        }
        while let Some(bucket) = self.open.take_if(|bucket| bucket.end.get() < time_ms) {
            self.close(bucket);
            self.open = Some(self.bucket(self.buckets.len()));
        }
    }

    fn bucket(&self, number: usize) -> TimeBucket {
        TimeBucket {
            begin: Millis::new(self.window.bound(number)),
            end: Millis::new(self.window.bound(number + 1)),
            members: MemberCount::default(),
            joins: 0,
            leaves: 0,
            removals: 0,
            events: BTreeMap::new(),
            worst: None,
        }
    }

    fn close(&mut self, bucket: TimeBucket) {
        let members = self.count();
        self.buckets.push(TimeBucket { members, ..bucket });
    }

    /// The members as of the rows so far.
    fn count(&mut self) -> MemberCount {
        if std::mem::take(&mut self.is_moved)
            && let Some(group) = self.rows.groups.get(self.group)
        {
            let state = group_state(group, None);
            let is_destroyed = state.status == Status::Destroyed;
            let standing = self.running.count(&self.rows, self.group);
            self.counted = MemberCount {
                known: if is_destroyed { 0 } else { standing },
                group_type: state.group_type,
                has_all_members: state.has_all_members,
                is_destroyed,
            };
        }
        self.counted.clone()
    }

    /// Counts a row in its bucket.
    fn note(&mut self, row: &LedgerRow, facts: &[Fact]) {
        let Some(bucket) = &mut self.open else { return };
        assert!(bucket.begin.get() < row.time_ms && row.time_ms <= bucket.end.get(), "a row in its bucket");
        let command = if row.is_snapshot() { &row.command } else { command_label(&row.command) };
        *bucket.events.entry(command.to_owned()).or_default() += 1;
        let kind = kind_of(row, facts);
        bucket.worst = bucket.worst.max(Some(kind));
        let named = |wanted: fn(&FactKind) -> Option<&UserId>| {
            let users: BTreeSet<&UserId> = facts.iter().filter_map(|fact| wanted(&fact.kind)).collect();
            users.len() as u64
        };
        bucket.joins += named(|kind| match kind {
            FactKind::Joined(user, ..) => Some(user),
            _ => None,
        });
        let left = named(|kind| match kind {
            FactKind::Left(user, ..) => Some(user),
            _ => None,
        });
        if kind == EntryKind::Removed {
            bucket.removals += left;
        } else {
            bucket.leaves += left;
        }
    }

    fn finish(mut self) -> Timeline {
        self.advance_to(self.window.end());
        if let Some(bucket) = self.open.take() {
            self.close(bucket);
        }
        assert_eq!(self.buckets.len(), self.window.buckets(), "the buckets fill the window");
        Timeline { before: self.before, buckets: self.buckets }
    }
}

/// What kind of entry it is, by its command.
fn kind_of(row: &LedgerRow, facts: &[Fact]) -> EntryKind {
    let says = |wanted: fn(&FactKind) -> bool| facts.iter().any(|fact| wanted(&fact.kind));
    if !row.is_applied() {
        return EntryKind::Parked;
    }
    if row.is_snapshot() {
        let is_gone = says(|kind| matches!(kind, FactKind::Barrier(GroupBarrier::GoneStamp)));
        return if is_gone { EntryKind::Destroyed } else { EntryKind::Read };
    }
    match row.command.as_str() {
        CREATE_COMMAND => EntryKind::Created,
        "Group.CallbackAfterNewMemberJoin" => EntryKind::Joined,
        "Group.CallbackAfterMemberExit" => {
            let is_removal = says(|kind| matches!(kind, FactKind::Left(_, Some(how), _) if how == KICKED));
            if is_removal { EntryKind::Removed } else { EntryKind::Left }
        }
        "Group.CallbackAfterGroupDestroyed" => EntryKind::Destroyed,
        "Group.CallbackAfterChangeGroupOwner" => EntryKind::OwnerChanged,
        _ => EntryKind::Changed,
    }
}
