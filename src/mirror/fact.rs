//! The fact: one stamped statement about one key of the mirror, whatever its source.
//!
//! Facts are made from callbacks in `facts`, and folded into one winner per key in `rows`. The kinds are a closed list:
//! what no kind can say, no source can change.

use strum::{EnumCount, IntoStaticStr, VariantArray};

use crate::callback::{ProfileText, Role};
use crate::model::{FieldKey, GroupId, SdkAppId, Stamp, TopicId, UserId};

/// How far a create reaches back when it ends an earlier life of the same id, in milliseconds. An id can be used
/// again only when it is free, so a create proves a destroy; but joins of a community may come up to 3 s before its
/// late create (269/1663), and clocks of Tencent's servers are not aligned.
pub const CREATE_SPARE_MS: i64 = 10_000;

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
    /// The group came to be, by whom.
    Created(Option<UserId>),
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
    /// A membership began: whose, how, by whom.
    Joined(UserId, Option<String>, Option<UserId>),
    /// A membership ended: whose, how, by whom.
    Left(UserId, Option<String>, Option<UserId>),
    /// A membership is shown by something else than a join.
    Confirmed(UserId),
    /// A member's role.
    Role(UserId, Role),
    /// A member's name card.
    NameCard(UserId, String),
    /// A topic came to be, by whom.
    TopicCreated(TopicId, Option<UserId>),
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
    /// The newest end.
    DestroyedStamp,
    /// The newest sign of life: create, join, change of owner or profile, and a positive REST read; no other.
    AliveStamp,
    /// The newest fact of any kind. Follows from every fact.
    UpdatedStamp,
    /// Memberships older than this have ended: a complete REST read. No callback raises it.
    MembersBarrier,
    /// The same for user-defined fields. No callback raises it.
    FieldsBarrier,
    /// No attribute older than this is left: `set`, `clear`, a complete REST read.
    AttributesBarrier,
    /// The attributes changed in a way that the body does not tell.
    AttributesUnclear,
    /// Topics older than this have ended: a complete REST read. No callback raises it.
    TopicsBarrier,
    /// The topics changed in a way that the body does not tell.
    TopicsUnclear,
}

/// The barriers of a topic, each a column of the mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumCount, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum TopicBarrier {
    /// The newest sign of life.
    AliveStamp,
    /// The newest end.
    DestroyedStamp,
}

/// The key under which a group stands everywhere.
#[must_use]
pub fn group_key(app: SdkAppId, group: GroupId) -> GroupKey {
    GroupKey { app, group }
}
