//! Who wins: a callback or a snapshot becomes [`Fact`]s, facts fold into [`Rows`], rows show a state.
//!
//! The mirror is a state-based CRDT. Every stored value is a last-writer-wins register (a value with its stamp; the
//! greater stamp wins), a barrier (a stamp that only grows and outdates what is older) or a grow-only set of stamps, so
//! merging is commutative, associative and idempotent, and the rows depend only on the set of facts. Pure: no clock, no
//! database. Rows go to `store`, whose SQL repeats the one comparison, `>` on stamps. `docs/merge.md` has the rules.

mod caseless;
mod columns;
mod drift;
mod drift_class;
mod ends;
mod erasures;
mod fact;
mod facts;
mod life;
mod listed;
mod people;
mod read_digest;
mod register;
mod renamed;
mod rows;
mod snapshot;
mod state;
pub mod tables;

pub use caseless::caseless;
pub use drift::{ComparedSnapshot, Comparison, Drift, DriftKind};
pub use drift_class::{DriftClass, MirrorClaim, VerifiedParts};
pub use ends::{EARLIER_ENDS_MAX, Ends};
pub use erasures::{Erasure, Erasures, UserHash, fits, user_hash};
pub use fact::{
    CREATE_SPARE_MS, Fact, FactKind, GroupBarrier, GroupKey, MemberKey, STRAGGLER_MS, TopicBarrier, group_key,
};
pub use facts::facts;
pub use listed::{ListRange, Listed, Silent};
pub use people::{People, PersonPart, PersonParts, USERS_SHOWN_MAX};
pub use read_digest::{DIGEST_KINDS, ReadDigest};
pub use register::Register;
pub use rows::{GroupRow, MemberRow, Rows, TopicRow, Transition};
pub use snapshot::{
    LIST_BYTES_MAX, LIST_MEMBERS_MAX, ListTime, ReadKind, ReadTime, Snapshot, UnreadableSnapshot,
};
pub use state::{
    GroupState, JOIN_SPARE_MS, MemberState, Status, TopicState, are_members_known, group_state, is_standing,
    member_state, topic_state,
};
