//! When a read says what an earlier read of its kind said, so that comparing it with the rows of its group would find
//! nothing; and which entries of the ledger leave that so.
//!
//! *The claim.* Let R be a read that was compared: what is shown with it is what was shown without it, or it is among the
//! entries of its group. Let every entry be older than R, but for reads of other kinds with the same σ. Then a read R' of the
//! same kind that states the same facts, with a stamp not below that of R, changes nothing that is shown while no entry comes
//! to the group. *Why.* The rows are the fold of the entries. A register or a barrier shows something by its value, and by
//! whether its stamp lies below or above other stamps, all of which are those of entries. R is above all of them, so R' stands
//! to each of them as R does, and says the same. Reads of other kinds with the same σ state other registers, with one
//! exception: profile and list both state the owner. So a read that states an owner counts as compared only if that owner is
//! shown afterwards ([`ComparedSnapshot::is_owner_shown`]); a greater stamp keeps the same owner.
//!
//! *Which entries leave it so.* A list of members, attributes or topics that was entered and changed nothing but what reads
//! of its own kind are made to find ([`ComparedSnapshot::leaves`]). It states no register of another kind but the owner, and
//! where the same owner is shown as before, a profile that states this owner still changes nothing. It moves no beginning and no
//! end of the group, on which all else depends. Callbacks, profiles and denials leave nothing so. Pure.

use super::drift::ComparedSnapshot;
use super::fact::{Fact, FactKind, GroupKey, TopicBarrier};
use super::rows::Rows;
use super::snapshot::ReadKind;
use super::state::group_state;
use crate::model::{Digest, Stamp};

/// The kinds of which a digest is kept, each with its name in the table.
pub const DIGEST_KINDS: [(ReadKind, &str); 4] = [
    (ReadKind::Profile, "profile"),
    (ReadKind::Members, "members"),
    (ReadKind::Attributes, "attributes"),
    (ReadKind::Topics, "topics"),
];

/// What a read said, as one value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadDigest {
    /// The group.
    pub group: GroupKey,
    /// Its kind, as stored.
    pub kind: &'static str,
    /// Of the facts that it states, whatever their stamp. What an answer holds beside them changes with every message.
    pub said: Digest,
    /// The stamp of its facts.
    pub stamp: Stamp,
    /// What its entry is known by, if it has one.
    pub entry: Digest,
}

impl ComparedSnapshot {
    /// What it says, as one value. None of a denial, and of a range of a large list: a group with ranges has more entries
    /// than are looked at.
    #[must_use]
    pub fn read_digest(&self) -> Option<ReadDigest> {
        let snapshot = &self.snapshot;
        let (_, kind) = DIGEST_KINDS.iter().find(|(kind, _)| *kind == snapshot.kind)?;
        let stamp = self.facts.first().filter(|_| snapshot.range.is_none())?.stamp;
        let said = Digest::of(kind, &said(&self.facts));
        Some(ReadDigest { group: snapshot.group.clone(), kind, said, stamp, entry: self.digest })
    }

    /// True where the owner whom it states, if it states one, is the one whom `after` shows.
    #[must_use]
    pub fn is_owner_shown(&self, after: &Rows) -> bool {
        let key = &self.snapshot.group;
        let Some(group) = after.groups.get(key) else { return false };
        let owner_row = group.owner.value.clone().and_then(|owner| after.members.get(&(key.clone(), owner)));
        let shown = group_state(group, owner_row).owner;
        self.facts.iter().all(|fact| match &fact.kind {
            FactKind::Owner(owner) => *owner == shown,
            _ => true,
        })
    }

    /// True where entering it leaves what was found of reads of another kind as it was: see above.
    #[must_use]
    pub fn leaves(&self, kind: ReadKind) -> bool {
        let own = self.snapshot.kind;
        let is_of_a_part = matches!(own, ReadKind::Members | ReadKind::Attributes | ReadKind::Topics);
        is_of_a_part && own != kind && self.drift.keys().all(|drift| drift.is_found_by(own))
    }
}

/// The facts without their stamps. Those whom a list leaves out are found when it is compared, and are no part of the answer.
fn said(facts: &[Fact]) -> Vec<u8> {
    let is_found = |kind: &FactKind| {
        matches!(kind, FactKind::Missing(_) | FactKind::TopicBarrier(_, TopicBarrier::MissingStamp))
    };
    let kinds = facts.iter().map(|fact| &fact.kind).filter(|kind| !is_found(kind));
    // The order is kept: of two rows about one user the answer decides by it.
    kinds.map(|kind| format!("{kind:?}\n")).collect::<String>().into_bytes()
}
