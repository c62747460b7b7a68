//! The fact: one stamped statement about one key of the mirror, whatever its source.
//!
//! Facts are made from callbacks in `facts`, and folded into one winner per key in `rows`. The kinds are a closed list:
//! what no kind can say, no source can change.

use strum::{EnumCount, IntoStaticStr, VariantArray};

use super::listed::{ListRange, Listed, Silent};
use crate::callback::{ProfileText, Role};
use crate::model::{FieldKey, GroupId, Millis, SdkAppId, Stamp, TopicId, UserId};

/// How far before its own time a create ends an earlier life of the same id, in milliseconds. An id can be used again
/// only when it is free, so a create proves a destroy; but joins of a community may come up to 3 s before its late
/// create (269/1663), and the clocks of Tencent's servers are not documented to be aligned.
pub const CREATE_SPARE_MS: i64 = 10_000;

/// How long after an end a callback cannot undo it, in milliseconds: stamped by a server whose clock is ahead, it may
/// speak of the time before the end. A create and a join are exempt, because they say that something began anew; a read
/// neither keeps nor demands the distance, because its σ already keeps one.
pub const STRAGGLER_MS: i64 = 10_000;

/// The head of every key of the mirror. Sorted as the tables are: by app, then by the bytes of the id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKey {
    /// The app.
    pub app: SdkAppId,
    /// The group.
    pub group: GroupId,
}

/// The key of a membership.
pub type MemberKey = (GroupKey, UserId);

/// One stamped statement about one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// The group.
    pub group: GroupKey,
    /// How new it is.
    pub stamp: Stamp,
    /// What it says.
    pub kind: FactKind,
}

/// What a fact can say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FactKind {
    /// Something happened to the group; nothing else follows from it.
    Seen,
    /// The group was created, by whom.
    Created(Option<UserId>),
    /// The group was destroyed.
    Destroyed,
    /// One of the group's barriers is raised.
    Barrier(GroupBarrier),
    /// One text of its profile.
    Text(ProfileText, String),
    /// Its owner, or that it has none.
    Owner(Option<UserId>),
    /// One user-defined field.
    UserDefinedField(FieldKey, String),
    /// One attribute, or that it is gone.
    Attribute(FieldKey, Option<String>),
    /// A user became a member: who, how, by whom.
    Joined(UserId, Option<String>, Option<UserId>),
    /// A user ceased to be a member: who, how, by whom.
    Left(UserId, Option<String>, Option<UserId>),
    /// A user is a member, as a callback that is no join shows.
    Confirmed(UserId),
    /// A member's role.
    Role(UserId, Role),
    /// A member's name card.
    NameCard(UserId, String),
    /// A read says since when the group exists. An id can be used again, and its destroy and its create may be lost both: what
    /// is older than this, less [`CREATE_SPARE_MS`], is of an earlier life.
    Began(Millis),
    /// What no callback says of a group, and a read of its profile does.
    Silent(Silent),
    /// A list of members names a user, with what it says of the member.
    Listed(UserId, Listed),
    /// A complete list left a user out whom the mirror showed: when the stay ended, as far as is known. Whether it has ended
    /// follows from the list itself.
    Missing(UserId),
    /// The members of one range of a large group were listed completely: as [`GroupBarrier::MembersBarrier`], for the
    /// users of that range.
    RangeListed(ListRange),
    /// A topic was created, by whom.
    TopicCreated(TopicId, Option<UserId>),
    /// A topic was destroyed.
    TopicDestroyed(TopicId),
    /// One of a topic's barriers is raised.
    TopicBarrier(TopicId, TopicBarrier),
    /// One text of a topic's profile; one of [`ProfileText::OF_TOPICS`].
    TopicText(TopicId, ProfileText, String),
}

impl FactKind {
    /// Whose membership it is about; none where it is about the group, its fields or its topics.
    #[must_use]
    pub fn member(&self) -> Option<&UserId> {
        match self {
            Self::Joined(user, ..)
            | Self::Left(user, ..)
            | Self::Confirmed(user)
            | Self::Role(user, _)
            | Self::NameCard(user, _)
            | Self::Listed(user, _)
            | Self::Missing(user) => Some(user),
            _ => None,
        }
    }
}

/// The barriers of a group, each a column of the mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumCount, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum GroupBarrier {
    /// The newest create, less [`CREATE_SPARE_MS`]: the end of an earlier life. Follows from [`FactKind::Created`] and
    /// [`FactKind::Began`].
    CreateBarrier,
    /// The newest destroy. Follows from [`FactKind::Destroyed`].
    DestroyedStamp,
    /// The newest destroy, plus [`STRAGGLER_MS`]: an older `AliveStamp` does not undo it. Follows from
    /// [`FactKind::Destroyed`].
    RevivalBarrier,
    /// The newest sign of life by a callback that is no create: join, change of owner or profile; no other. Creates
    /// are kept apart, in the register of [`FactKind::Created`], because they undo a destroy at once.
    AliveStamp,
    /// The newest positive read of the profile. No callback raises it.
    ReadStamp,
    /// The newest time that Tencent said, twice, that there is no such group. No callback raises it. Kept apart from destroys,
    /// because any newer sign of life undoes it, without a distance.
    GoneStamp,
    /// The newest fact of any kind. Follows from every fact.
    UpdatedStamp,
    /// The newest complete list of all members: memberships older than this have ended. No callback raises it.
    MembersBarrier,
    /// The newest of the group's ranges: none of them needs a look while this is not newer than `MembersBarrier`. Follows
    /// from [`FactKind::RangeListed`].
    RangesStamp,
    /// The newest read of all user-defined fields: older ones do not count. No callback raises it.
    FieldsBarrier,
    /// Attributes older than this do not count: `set`, `clear` and a read of all attributes raise it.
    AttributesBarrier,
    /// The newest change of attributes whose body does not say what changed.
    AttributesUnclear,
    /// The newest complete list of topics: topics older than this have ended. No callback raises it.
    TopicsBarrier,
    /// The newest change of a topic whose body does not name the topic.
    TopicsUnclear,
}

/// The barriers of a topic, each a column of the mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumCount, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum TopicBarrier {
    /// The newest change of its profile. Creates are kept apart, in the register of [`FactKind::TopicCreated`].
    AliveStamp,
    /// The newest list of topics that names it. No callback raises it.
    ReadStamp,
    /// The newest complete list of topics that left it out while the mirror showed it: when it ended, as far as is known.
    /// Whether it has ended follows from the group's `TopicsBarrier`. No callback raises it.
    MissingStamp,
    /// The newest destroy. Follows from [`FactKind::TopicDestroyed`].
    DestroyedStamp,
    /// The newest destroy, plus [`STRAGGLER_MS`]: an older `AliveStamp` does not undo it. Topic callbacks have no event
    /// time, so their stamps are times of receipt, which parallel connections reverse: the same spare as for groups.
    RevivalBarrier,
}

/// The key of a group in every table.
#[must_use]
pub fn group_key(app: SdkAppId, group: GroupId) -> GroupKey {
    GroupKey { app, group }
}
