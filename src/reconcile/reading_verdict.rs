//! What a reading says: a verdict per group, the cheap witnesses of its profile, the state of a list of members.
//!
//! Every answer that is no answer has its place here. Only Tencent's positive code makes a group a candidate for "gone"; a
//! group that could not be read is unknown, and unknown changes nothing. Only a complete list says who is no member.
//! Pure.

use strum::{IntoStaticStr, VariantArray};
use thiserror::Error;
use tokio::sync::OwnedSemaphorePermit;

use super::reading_rows::ListRows;
use crate::callback::{AVCHATROOM, present_type_name};
use crate::ingest::SNAPSHOTS_MAX;
use crate::mirror::{GroupKey, LIST_BYTES_MAX, LIST_MEMBERS_MAX, ListRange, ReadKind, ReadTime, Snapshot};
use crate::model::{Millis, UserId};
use crate::tencent::canonical::member_list;
use crate::tencent::codes::CodeClass;
use crate::tencent::groups::{GroupInfo, is_community};
use crate::tencent::members::ListedMember;

/// The most bytes of answers in one batch of [`ListReading::batches`], unless one snapshot alone has more: some 5,000 members,
/// while whose rows are written a callback of the group waits.
const BATCH_BYTES_MAX: usize = LIST_BYTES_MAX / 2;

/// G: how far σ lies before S, in milliseconds. It covers how late a read may be and how far clocks may differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadSpare {
    /// Milliseconds.
    pub ms: i64,
}

impl ReadSpare {
    /// Of a read that follows a callback.
    pub const FOLLOW_UP: Self = Self { ms: 15_000 };
    /// Of a pass over all groups.
    pub const ROLLING: Self = Self { ms: 60_000 };
}

/// Why no further group can be read. Anything else is a verdict about the group.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ReadHalt {
    /// Nothing succeeds before a person acts: wrong credentials, missing rights, an ended plan.
    #[error("{0}")]
    Stopped(String),
    /// Call after call brought no answer: Tencent, or the way to it, is out of order, or the address is another one.
    #[error("{0}")]
    Unanswered(String),
    /// The caller's stop came first.
    #[error("stopped")]
    Cancelled,
}

/// Why nothing is known. The labels never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum UnknownWhy {
    /// Too large to be answered, although nothing smaller could be asked for.
    TooMuch,
    /// Over a rate limit, after all repetitions.
    Rate,
    /// A passing fault of Tencent's, after all repetitions.
    Fault,
    /// A code about this request alone for which no reaction is known.
    Refused,
    /// Tencent does not understand the request.
    Bug,
    /// No answer.
    Unanswered,
    /// An answer that cannot be read.
    Unreadable,
    /// The answer is about other groups.
    NotInAnswer,
    /// The answer says two things about the group.
    Contradiction,
    /// Larger than a ledger entry may be.
    TooLarge,
    /// No member is known in whose name Tencent could be asked.
    NoMember,
}

impl UnknownWhy {
    /// Of a code that says nothing about the group.
    #[must_use]
    pub(super) fn of(class: CodeClass) -> Self {
        match class {
            CodeClass::TooMuch => Self::TooMuch,
            CodeClass::Rate => Self::Rate,
            CodeClass::Again | CodeClass::Wait | CodeClass::Signature | CodeClass::Stop => Self::Fault,
            CodeClass::Bug => Self::Bug,
            CodeClass::Gone | CodeClass::TopicGone | CodeClass::Unsupported | CodeClass::Refused => {
                Self::Refused
            }
        }
    }
}

/// What a read of a profile says about its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupVerdict {
    /// It exists.
    Alive,
    /// Tencent says that there is no such group, with this code. Said again after [`super::GONE_DISTANCE_MS`], it is gone.
    GoneCandidate(i64),
    /// Not known; nothing follows.
    Unknown(UnknownWhy),
    /// Not to be read, in this type or edition; nothing follows.
    Unsupported,
}

/// What a profile shows beside what the mirror keeps: cheap signs that something has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Witnesses {
    /// The group.
    pub group: GroupKey,
    /// `Type`, under its present name.
    pub group_type: Option<String>,
    /// `MemberNum`; absent for an audio-video room.
    pub member_num: Option<u64>,
    /// `LastInfoTime`, Unix seconds; 0: never.
    pub last_info_secs: Option<i64>,
    /// `NextMsgSeq`.
    pub next_message: Option<u64>,
    /// `CreateTime`, Unix seconds.
    pub create_secs: Option<i64>,
    /// `Owner_Account`.
    pub owner: Option<UserId>,
}

impl Witnesses {
    /// Of a group of which nothing is known but its id.
    #[must_use]
    pub fn unknown(group: GroupKey) -> Self {
        Self {
            group,
            group_type: None,
            member_num: None,
            last_info_secs: None,
            next_message: None,
            create_secs: None,
            owner: None,
        }
    }

    pub(super) fn of(group: GroupKey, info: &GroupInfo) -> Self {
        Self {
            group,
            group_type: info.group_type.as_deref().map(|name| present_type_name(name).to_owned()),
            member_num: info.member_num,
            last_info_secs: info.last_info_secs,
            next_message: info.next_message,
            create_secs: info.create_secs.filter(|secs| *secs > 0),
            owner: info.owner.clone().flatten(),
        }
    }

    /// True for a community, whose members are read by cursor and whose topics can be read.
    #[must_use]
    pub fn is_community(&self) -> bool {
        is_community(&self.group.group)
    }

    /// True for a type that has no list of members.
    #[must_use]
    pub fn has_no_list(&self) -> bool {
        self.group_type.as_deref() == Some(AVCHATROOM)
    }
}

/// The members beside a profile.
#[derive(Debug)]
pub enum MembersRead {
    /// A complete list.
    Whole(ListReading),
    /// The list has to be read by itself.
    Wanted,
    /// They were not asked for.
    NotAsked,
    /// There is no list: an audio-video room, or no group.
    NoList,
}

/// One group out of a packed read.
#[derive(Debug)]
pub struct GroupReading {
    /// The group.
    pub group: GroupKey,
    /// What is known of it.
    pub verdict: GroupVerdict,
    /// S and σ of the answer; none where there was no answer.
    pub time: Option<ReadTime>,
    /// The signs, of a group that is alive.
    pub witnesses: Option<Witnesses>,
    /// The profile, of a group that is alive.
    pub profile: Option<Snapshot>,
    /// The members.
    pub members: MembersRead,
}

impl GroupReading {
    /// True where [`super::GroupReader::members`] has to be asked.
    #[must_use]
    pub fn needs_members(&self) -> bool {
        matches!(self.members, MembersRead::Wanted)
    }
}

/// Why a list is not complete. The labels never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum IncompleteWhy {
    /// Reading ended in the middle: a code, a fault, or a stop.
    Interrupted,
    /// A row cannot be read.
    UnreadableRow,
    /// The list moved faster than it could be read.
    Moved,
    /// The cursor did not lead to an end.
    Cursor,
    /// Far fewer rows than the group has members.
    FewRows,
    /// A user whom the list leaves out is a member, and more of them than can be added.
    LeavesOut,
    /// Whether those whom the list leaves out are members could not be found out.
    Unconfirmed,
    /// A part of it is larger than a ledger entry may be.
    TooLarge,
}

/// What is known of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListState {
    /// Whole: who is not in it was no member at some moment since σ.
    Complete,
    /// A part: it confirms members, and says nothing about others.
    Incomplete(IncompleteWhy),
    /// Tencent says that there is no such group; only a read of its profile makes it a candidate.
    Gone,
    /// Members of this type cannot be read.
    Unsupported,
    /// Nothing was read.
    Unknown(UnknownWhy),
}

/// A list of members as it was read. One that was read by itself holds a share of [`super::LIST_ROWS_AT_ONCE_MAX`] until it
/// is dropped.
#[derive(Debug)]
pub struct ListReading {
    /// The group.
    pub group: GroupKey,
    /// S and σ of the first page.
    pub time: ReadTime,
    /// What is known.
    pub state: ListState,
    /// The members, each once.
    pub rows: ListRows,
    /// `MemberNum` of the newest page.
    pub member_num: Option<u64>,
    /// How many calls it took.
    pub calls: u32,
    pub(super) _permit: Option<OwnedSemaphorePermit>,
}

impl ListReading {
    /// True for a whole list.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.state == ListState::Complete
    }

    /// Users of the mirror whom the list leaves out; none unless the list is complete.
    #[must_use]
    pub fn leaves_out<'a>(&self, present: impl IntoIterator<Item = &'a UserId>) -> Vec<UserId> {
        if !self.is_complete() {
            return Vec::new();
        }
        present.into_iter().filter(|user| !self.rows.contains(user)).cloned().collect()
    }

    /// The snapshots, in batches that one transaction may take. A large list is made range by range while the caller
    /// goes on, so that its snapshots are never in memory all at once.
    pub fn batches(&self) -> impl Iterator<Item = Vec<Snapshot>> {
        let mut snapshots = self.snapshots().peekable();
        std::iter::from_fn(move || {
            let (mut batch, mut bytes) = (Vec::new(), 0);
            while let Some(next) = snapshots.peek() {
                let is_full = batch.len() == SNAPSHOTS_MAX || bytes + next.answer.len() > BATCH_BYTES_MAX;
                if is_full && !batch.is_empty() {
                    break;
                }
                bytes += next.answer.len();
                batch.extend(snapshots.next());
            }
            (!batch.is_empty()).then_some(batch)
        })
    }

    /// The snapshots in their order: one, or one per range, or parts of a list that is not complete.
    fn snapshots(&self) -> Box<dyn Iterator<Item = Snapshot> + Send + '_> {
        match self.state {
            ListState::Gone | ListState::Unsupported | ListState::Unknown(_) => Box::new(std::iter::empty()),
            ListState::Complete if self.is_small() => {
                let whole = Snapshot::of_members(&self.group, self.time, &self.rows.all());
                Box::new(whole.into_iter())
            }
            ListState::Complete => {
                let range = |range: ListRange| {
                    let rows = self.rows.of_range(&range);
                    self.snapshot(&rows, true, Some(range))
                };
                Box::new(ListRange::all().map(range))
            }
            ListState::Incomplete(_) => Box::new(ListRange::all().flat_map(|range| self.parts(&range))),
        }
    }

    /// True where [`Snapshot::of_members`] may hold all of it at once.
    fn is_small(&self) -> bool {
        self.rows.len() <= LIST_MEMBERS_MAX
    }

    fn snapshot(&self, rows: &[ListedMember], is_complete: bool, range: Option<ListRange>) -> Snapshot {
        Snapshot {
            group: self.group.clone(),
            time: self.time,
            kind: ReadKind::Members,
            is_complete,
            range,
            missing: Vec::new(),
            answer: member_list(rows),
        }
    }

    /// The rows of a range in parts that fit into an entry, bisected where they do not. A row that alone does not fit is
    /// left out.
    fn parts(&self, range: &ListRange) -> Vec<Snapshot> {
        let rows = self.rows.of_range(range);
        let (mut parts, mut whole) = (vec![&rows[..]], Vec::new());
        while let Some(part) = parts.pop().filter(|part| !part.is_empty()) {
            let snapshot = self.snapshot(part, false, None);
            if snapshot.answer.len() <= LIST_BYTES_MAX {
                whole.push(snapshot);
            } else if part.len() > 1 {
                let (first, second) = part.split_at(part.len() / 2);
                parts.extend([first, second]);
            }
        }
        whole
    }

    /// A list of which a range does not fit into an entry is kept as incomplete: it confirms its members, part by part.
    pub(super) fn within_limits(mut self) -> Self {
        if self.is_complete() && self.rows.has_range_above(LIST_BYTES_MAX) {
            self.state = ListState::Incomplete(IncompleteWhy::TooLarge);
        }
        self
    }

    /// S of the first page.
    #[must_use]
    pub fn sent(&self) -> Millis {
        self.time.sent
    }
}
