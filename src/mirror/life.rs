//! The life of a group, a topic or a membership: whether it has ended, and what is newest of it.
//!
//! Each of them can end and begin again under one id, and the clocks of Tencent's servers are not documented to be aligned,
//! so a callback stamped shortly after an end may speak of the time before it. The newest beginning, the newest other
//! callback that shows the life and the newest REST read are maxima kept apart, because each undoes an end under another
//! condition. The verdict follows from the maxima alone, never from the order of arrival. Twin of the generated columns
//! `groups.status` and `group_topics.destroyed_at`, and of `has_quit` in the view of memberships.

use super::fact::{GroupBarrier, TopicBarrier};
use super::rows::{GroupRow, MemberRow, TopicRow};
use crate::model::Stamp;

/// The maxima that decide whether something has ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Life {
    /// The newest create, or join.
    pub(super) began: Stamp,
    /// The newest other callback that shows life.
    alive: Stamp,
    /// The newest positive REST read.
    read: Stamp,
    /// The newest destroy, or leave.
    pub(super) ended: Stamp,
    /// The newest end with the distance that `alive` has to keep from it.
    revival: Stamp,
    /// The newest read that says that there is no such group; anything newer undoes it.
    gone: Stamp,
}

impl Life {
    pub(super) fn of_group(group: &GroupRow) -> Self {
        Self {
            began: group.created.stamp,
            alive: group.barrier(GroupBarrier::AliveStamp),
            read: group.barrier(GroupBarrier::ReadStamp),
            ended: group.barrier(GroupBarrier::DestroyedStamp),
            revival: group.barrier(GroupBarrier::RevivalBarrier),
            gone: group.barrier(GroupBarrier::GoneStamp),
        }
    }

    /// `read`: the stamp of the list that names the member, if it counts.
    pub(super) fn of_member(member: &MemberRow, read: Stamp) -> Self {
        Self {
            began: member.join.stamp,
            alive: member.confirmed,
            read,
            ended: member.leave.stamp,
            revival: member.revival_barrier,
            gone: Stamp::ZERO,
        }
    }

    pub(super) fn of_topic(topic: &TopicRow) -> Self {
        Self {
            began: topic.created.stamp,
            alive: topic.barrier(TopicBarrier::AliveStamp),
            read: topic.barrier(TopicBarrier::ReadStamp),
            ended: topic.barrier(TopicBarrier::DestroyedStamp),
            revival: topic.barrier(TopicBarrier::RevivalBarrier),
            gone: Stamp::ZERO,
        }
    }

    /// A beginning or a read that is newer than the end undoes it; another callback only from the revival barrier on, but
    /// at once where a read said that the group is gone: a read undoes no newer callback.
    /// Without an end that barrier is zero, and no stamp is older than zero.
    pub(super) fn has_ended(&self) -> bool {
        assert!(self.revival.time() >= self.ended.time(), "the revival barrier grows with the end: {self:?}");
        let is_gone = !self.gone.is_zero() && self.gone >= self.newest();
        is_gone || (self.ended >= self.began.max(self.read) && self.alive < self.revival)
    }

    /// The newest sign of life.
    pub(super) fn newest(&self) -> Stamp {
        self.began.max(self.alive).max(self.read)
    }
}
