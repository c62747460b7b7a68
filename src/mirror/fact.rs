//! The fact: one stamped statement about one key of the mirror, whatever its source.
//!
//! Facts are made from callbacks in `facts`, and folded into one winner per key in `rows`. The kinds are a closed list:
//! what no kind can say, no source can change.

use strum::{EnumCount, IntoStaticStr, VariantArray};

use crate::callback::{ProfileText, Role};
use crate::model::{FieldKey, GroupId, SdkAppId, Stamp, TopicId, UserId};

/// How far before its own time a create ends an earlier life of the same id, in milliseconds. An id can be used again
/// only when it is free, so a create proves a destroy; but joins of a community may come up to 3 s before its late
/// create (269/1663), and the clocks of Tencent's servers are not documented to be aligned.
pub const CREATE_SPARE_MS: i64 = 10_000;

/// How long after an end a callback cannot undo it, in milliseconds: stamped by a server whose clock is ahead, it may
/// speak of the time before the end. A create and a join are exempt, because they say that something began anew.
pub const STRAGGLER_MS: i64 = 10_000;

/// The head of every key of the mirror. Sorted as the tables are: by app, then by the bytes of the id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKey {
    /// The app.
    pub app: SdkAppId,
    /// The group.
    pub group: GroupId,
}

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
    /// A topic was created, by whom.
    TopicCreated(TopicId, Option<UserId>),
    /// A topic was destroyed.
    TopicDestroyed(TopicId),
    /// One of a topic's barriers is raised.
    TopicBarrier(TopicId, TopicBarrier),
    /// One text of a topic's profile; one of [`ProfileText::OF_TOPICS`].
    TopicText(TopicId, ProfileText, String),
}

/// The barriers of a group, each a column of the mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumCount, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum GroupBarrier {
    /// The newest create, less [`CREATE_SPARE_MS`]: the end of an earlier life. Follows from [`FactKind::Created`].
    CreateBarrier,
    /// The newest destroy. Follows from [`FactKind::Destroyed`].
    DestroyedStamp,
    /// The newest destroy, plus [`STRAGGLER_MS`]: an older `AliveStamp` does not undo it. Follows from
    /// [`FactKind::Destroyed`].
    RevivalBarrier,
    /// The newest sign of life by a callback that is no create: join, change of owner or profile; no other. Creates
    /// are kept apart, in the register of [`FactKind::Created`], because they undo a destroy at once.
    AliveStamp,
    /// The newest positive REST read. Unused until reconciliation raises it: no callback does.
    ReadStamp,
    /// The newest fact of any kind. Follows from every fact.
    UpdatedStamp,
    /// Memberships older than this have ended. Unused until a complete REST read raises it: no callback does.
    MembersBarrier,
    /// User-defined fields older than this do not count. Unused until a complete REST read raises it: no callback does.
    FieldsBarrier,
    /// Attributes older than this do not count: `set` and `clear` raise it.
    AttributesBarrier,
    /// The newest change of attributes whose body does not say what changed.
    AttributesUnclear,
    /// Topics older than this have ended. Unused until a complete REST read raises it: no callback does.
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
    /// The newest positive REST read. Unused until reconciliation raises it: no callback does.
    ReadStamp,
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
