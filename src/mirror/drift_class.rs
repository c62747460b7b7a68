//! What a difference between mirror and snapshot means: a loss that was repaired, a change that no callback says, or a state
//! that was not known before.
//!
//! Only the first is a fault of the way from Tencent to here, so the three are counted apart. The mirror can have lost
//! something only where it claimed to know: a first backfill of groups that are older than the mirror finds much, and has
//! lost nothing. Changes that Tencent makes without a callback (imports, automatic removals) look like losses, so the count
//! of repairs is an upper bound. Pure.

use strum::{IntoStaticStr, VariantArray};

use super::drift::DriftKind;
use super::fact::GroupBarrier;
use super::rows::GroupRow;
use super::state::group_state;
use crate::model::{Millis, Stamp};

/// The three meanings. The labels never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum DriftClass {
    /// Callbacks should have said it, and did not, or not yet.
    Repaired,
    /// No callback says it, or none says it clearly.
    Silent,
    /// The mirror did not claim to know it.
    Found,
}

/// Which parts of a group were verified before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VerifiedParts {
    /// The profile.
    pub profile: bool,
    /// The members.
    pub members: bool,
}

/// What the mirror claimed to know of a group before a snapshot.
#[derive(Debug, Clone, Copy)]
pub struct MirrorClaim {
    was_known: bool,
    create: bool,
    verified: VerifiedParts,
    attributes: bool,
    topics: bool,
    unclear_attributes: bool,
    unclear_topics: bool,
}

impl MirrorClaim {
    /// `before` and `after`: the row of the group without and with the snapshot; `verified`: by earlier reads; `known_from`: since
    /// when every group of the app is known, so that one created later should have come by a callback.
    #[must_use]
    pub fn of(
        before: Option<&GroupRow>,
        after: &GroupRow,
        verified: VerifiedParts,
        known_from: Option<Millis>,
    ) -> Self {
        let unknown = GroupRow::default();
        let row = before.unwrap_or(&unknown);
        let created = row.created.stamp;
        let is_created_here = !created.is_zero() && created >= row.life_barrier();
        let is_younger =
            group_state(after, None).created_at.zip(known_from).is_some_and(|(at, from)| at > from);
        let counts = |barrier| row.barrier(barrier) > Stamp::ZERO;
        let is_marked = |mark, barrier| row.barrier(mark) > row.barrier(barrier);
        Self {
            was_known: counts(GroupBarrier::UpdatedStamp),
            create: is_created_here || is_younger,
            verified,
            attributes: counts(GroupBarrier::AttributesBarrier),
            topics: counts(GroupBarrier::TopicsBarrier),
            unclear_attributes: is_marked(GroupBarrier::AttributesUnclear, GroupBarrier::AttributesBarrier),
            unclear_topics: is_marked(GroupBarrier::TopicsUnclear, GroupBarrier::TopicsBarrier),
        }
    }
}

impl DriftKind {
    /// What a difference of this kind means.
    #[must_use]
    pub fn class(self, claim: &MirrorClaim) -> DriftClass {
        let is_claimed = match self {
            // User-defined fields have a callback only where Tencent's support has switched it on.
            Self::Silent | Self::MemberSilent | Self::JoinTime | Self::UserDefinedField => {
                return DriftClass::Silent;
            }
            Self::Attribute if claim.unclear_attributes => return DriftClass::Silent,
            Self::TopicFound | Self::TopicGone | Self::TopicProfile if claim.unclear_topics => {
                return DriftClass::Silent;
            }
            // What was shown and is no more has ended without a callback, whatever else was known.
            Self::GroupGone | Self::MemberGone | Self::TopicGone => true,
            // Known and not alive: a later create was lost.
            Self::GroupFound => claim.was_known || claim.create,
            Self::Profile | Self::Owner => claim.create || claim.verified.profile,
            // The introduction, notice and picture that a group is created with stand in no callback, nor do the roles.
            Self::ProfileCompleted => claim.verified.profile,
            Self::Role => claim.verified.members,
            Self::MemberFound | Self::NameCard => claim.create || claim.verified.members,
            Self::Attribute => claim.create || claim.attributes,
            Self::TopicFound | Self::TopicProfile => claim.create || claim.topics,
        };
        if is_claimed { DriftClass::Repaired } else { DriftClass::Found }
    }
}
