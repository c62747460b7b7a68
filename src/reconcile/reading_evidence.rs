//! Evidence about a reading: signs that it shows an older state than its σ says, and the proof that a group is gone.
//!
//! How late a read may be is documented nowhere; σ allows for what is believed. Where an answer contradicts a callback that
//! must be in it, it is stale: it is thrown away and asked for again. After three tries over more than a minute it is
//! accepted and counted, because an import may set an old `JoinTime` with good reason. Pure.

use std::collections::BTreeMap;

use strum::{IntoStaticStr, VariantArray};

use super::reading_verdict::{GroupReading, GroupVerdict, ListReading, Witnesses};
use crate::mirror::{ReadKind, ReadTime, Snapshot};
use crate::model::{Millis, UserId};
use crate::tencent::canonical::no_group;

/// How far an answer has to lie behind a callback to be evidence: clocks may differ by less.
pub const EVIDENCE_MARGIN_MS: i64 = 4_000;

/// After so many tries a stale answer is accepted.
pub const STALE_TRIES: u32 = 3;

/// Over at least this time, in milliseconds.
pub const STALE_TIME_MS: i64 = 60_000;

/// How far apart two answers lie that together say that a group is gone, in milliseconds.
pub const GONE_DISTANCE_MS: i64 = 60_000;

/// What the mirror knows of a group by callbacks, for comparison.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownOfGroup {
    /// The newest callback that changed name, introduction, notice or picture.
    pub newest_profile_callback: Option<Millis>,
    /// The newest leave of users who have one.
    pub leaves: BTreeMap<UserId, Millis>,
}

/// Why a reading is taken for an old one. The labels never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Stale {
    /// The profile is older than a callback that it should show.
    Profile,
    /// A member is listed by a membership that has ended.
    Members,
}

/// True where a time in whole seconds lies clearly before a callback that a read as of σ has to show.
fn is_behind(secs: i64, callback: Millis, time: ReadTime) -> bool {
    let latest = secs.saturating_mul(1_000).saturating_add(999).saturating_add(EVIDENCE_MARGIN_MS);
    secs > 0 && callback <= time.sigma && latest < callback.get()
}

/// Whether a profile is a stale one.
#[must_use]
pub fn profile_staleness(witnesses: &Witnesses, time: ReadTime, known: &KnownOfGroup) -> Option<Stale> {
    let (info, callback) = (witnesses.last_info_secs?, known.newest_profile_callback?);
    is_behind(info, callback, time).then_some(Stale::Profile)
}

impl ListReading {
    /// Whether the list is a stale one.
    #[must_use]
    pub fn staleness(&self, known: &KnownOfGroup) -> Option<Stale> {
        let is_old = |(user, left): (&UserId, &Millis)| {
            self.rows.join_secs(user).is_some_and(|joined| is_behind(joined, *left, self.time))
        };
        known.leaves.iter().any(is_old).then_some(Stale::Members)
    }
}

impl GroupReading {
    /// Whether the profile is a stale one; a list has an answer of its own.
    #[must_use]
    pub fn staleness(&self, known: &KnownOfGroup) -> Option<Stale> {
        profile_staleness(self.witnesses.as_ref()?, self.time?, known)
    }
}

/// Whether a stale answer counts after all: after so many tries, this one included, since the first one was sent.
#[must_use]
pub fn accepts_stale(tries: u32, first_sent: Millis, sent: Millis) -> bool {
    tries >= STALE_TRIES && sent.get() - first_sent.get() > STALE_TIME_MS
}

/// The snapshot that says that a group is gone: of a reading that says so and was sent long enough after an earlier one
/// that said so, with no other answer between them.
#[must_use]
pub fn gone(first_sent: Millis, second: &GroupReading) -> Option<Snapshot> {
    let (GroupVerdict::GoneCandidate(code), Some(time)) = (second.verdict, second.time) else { return None };
    let is_far = time.sent.get() - first_sent.get() >= GONE_DISTANCE_MS;
    is_far.then(|| Snapshot {
        group: second.group.clone(),
        time,
        kind: ReadKind::Gone,
        is_complete: true,
        range: None,
        missing: Vec::new(),
        answer: no_group(&second.group.group, code),
    })
}
