//! A ledger entry as the pages show it: what its body says, decoded once, and what came beside the body.
//!
//! The body itself is dropped here: lists never hold it, because it may have 1 MiB. Decoding is the caller's work of a
//! blocking thread; nothing is read from the database. A callback of an exit may name the leaver as its operator: then no
//! operator is shown, because who removed a member would be a guess.

use std::collections::BTreeSet;

use super::deed::Deed;
use crate::callback::EventKind;
use crate::mirror::FactKind;
use crate::model::UserId;
use crate::replay;
use crate::store::history::{HistoryCursorKey, HistoryRow};

/// One entry.
#[derive(Debug, Clone)]
pub(super) struct EntryLine {
    /// Its key in the history of its group: its place in time, Unix milliseconds, and its digest.
    pub(super) key: HistoryCursorKey,
    /// Empty where it cannot be read.
    pub(super) group: String,
    /// The present name of the group, where it is known.
    pub(super) group_name: Option<String>,
    /// As Tencent spells it; free text.
    pub(super) command: String,
    /// True for an answer of Tencent's REST API.
    pub(super) is_read: bool,
    /// `applied`, `partial` or `parked`.
    pub(super) outcome: String,
    /// Why it is parked, or what was skipped of it.
    pub(super) reason: Option<String>,
    /// What it is about.
    pub(super) deed: Deed,
    /// Who did it.
    pub(super) operator: Option<String>,
    /// The type of the group, where a callback names it.
    pub(super) group_type: Option<String>,
    /// What a callback says; none of a snapshot, and where it cannot be read.
    pub(super) event: Option<EventKind>,
    /// What a snapshot says.
    pub(super) facts: Vec<FactKind>,
    /// With what it was done; free text.
    pub(super) platform: Option<String>,
    /// From where; only where the caller may read it.
    pub(super) client_ip: Option<String>,
}

impl EntryLine {
    /// Decodes a row. `with_address`: the reader may see client addresses.
    pub(super) fn of(row: HistoryRow, with_address: bool) -> Self {
        let (event, facts) = (replay::event(&row.row), replay::snapshot_facts(&row.row));
        // Of a parked entry another version may read more than was applied; what is shown is what was.
        let event = event.filter(|_| row.row.is_applied());
        let deed = Deed::of(&row.row, event.as_ref().map(|event| &event.kind));
        let operator = event.as_ref().and_then(|event| event.operator.clone());
        let group_type = event.as_ref().and_then(|event| event.group_type.clone());
        let event = event.map(|event| event.kind);
        let operator = operator.filter(|operator| !is_suffered_by(event.as_ref(), operator));
        Self {
            key: (row.row.time_ms, row.row.digest),
            group: row.row.group_id,
            group_name: row.group_name,
            command: row.row.command,
            is_read: row.source == "rest",
            outcome: row.row.outcome,
            reason: row.row.reason,
            deed,
            operator: operator.map(|user| user.as_str().to_owned()),
            group_type,
            event,
            facts: facts.into_iter().flatten().map(|fact| fact.kind).collect(),
            platform: row.platform.filter(|text| !text.is_empty()),
            client_ip: row.client_ip.filter(|text| with_address && !text.is_empty()),
        }
    }

    /// Its place in time, Unix milliseconds.
    pub(super) fn at_ms(&self) -> i64 {
        self.key.0
    }

    /// Whom it was done to.
    pub(super) fn sufferers(&self) -> Vec<&str> {
        self.event.as_ref().map(done_to).unwrap_or_default().iter().map(UserId::as_str).collect()
    }

    /// Whether it names a user: one of its people, or of a list of members any of them.
    pub(super) fn names(&self, user: &UserId) -> bool {
        let is_listed = |fact: &FactKind| matches!(fact, FactKind::Listed(listed, _) if listed == user);
        self.people().contains(&user.as_str()) || self.facts.iter().any(is_listed)
    }

    /// Everyone it names, each once, the operator first.
    pub(super) fn people(&self) -> Vec<&str> {
        let owners = match &self.event {
            Some(EventKind::GroupCreated { owner, .. }) => vec![owner.as_ref()],
            Some(EventKind::OwnerChanged { old, new }) => vec![old.as_ref(), new.as_ref()],
            _ => Vec::new(),
        };
        let missing = self.facts.iter().filter_map(|fact| match fact {
            FactKind::Missing(user) => Some(user.as_str()),
            FactKind::Owner(owner) => owner.as_ref().map(UserId::as_str),
            _ => None,
        });
        let owners = owners.into_iter().flatten().map(UserId::as_str);
        let all = self.operator.as_deref().into_iter().chain(self.sufferers()).chain(owners).chain(missing);
        let mut seen = BTreeSet::new();
        all.filter(|user| seen.insert(*user)).collect()
    }
}

/// Whom an event was done to.
fn done_to(event: &EventKind) -> &[UserId] {
    match event {
        EventKind::GroupCreated { members, .. }
        | EventKind::MembersJoined { members, .. }
        | EventKind::MembersLeft { members, .. } => members,
        EventKind::MemberChanged { member, .. } => std::slice::from_ref(member),
        _ => &[],
    }
}

/// True where the operator of an exit is the one who left: the pages of Tencent call that field both.
fn is_suffered_by(event: Option<&EventKind>, operator: &UserId) -> bool {
    matches!(event, Some(EventKind::MembersLeft { members, .. }) if members.contains(operator))
}
