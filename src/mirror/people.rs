//! Whom a ledger entry is about: its operator, the users whom it happened to, and the owner, each with the part that they have
//! in it.
//!
//! Pure, and a function of the bytes of the entry and its outcome alone, so that a replay makes the same of it. Of a callback
//! that is applied its event counts; of one that is parked, or read in part, any field for a user as well, because a search for
//! a person must find what could not be read. Of a snapshot a person is named only where it says something of that one: the
//! owner of a profile, and those whom a complete list leaves out. A list of 5,000 members is no event of each of them.

use std::collections::BTreeMap;

use strum::{IntoStaticStr, VariantArray};

use super::fact::{Fact, FactKind};
use super::snapshot::ReadKind;
use crate::callback::{AccountField, Event, EventKind, accounts};
use crate::model::UserId;

/// How many of the users stand beside the entry, for lists of entries that read no bodies.
pub const USERS_SHOWN_MAX: usize = 5;

/// What a user is in an entry. The bits are stored, and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
#[repr(u8)]
pub enum PersonPart {
    /// Did it.
    Operator = 1,
    /// Joined, left or was changed; was there from the start; or was shown as a member and is none.
    Member = 2,
    /// Owns the group by it, or owned it until then.
    Owner = 4,
}

impl PersonPart {
    /// The name in the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Its bit, as stored.
    #[must_use]
    pub fn stored(self) -> i16 {
        i16::from(self as u8)
    }
}

/// The parts of one user in one entry.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PersonParts(u8);

impl PersonParts {
    /// As stored: a sum of bits. Bits that no part has are dropped.
    #[must_use]
    pub fn of_stored(stored: i16) -> Self {
        let known = PersonPart::VARIANTS.iter().fold(0, |sum, part| sum | *part as u8);
        Self(u8::try_from(stored).unwrap_or_default() & known)
    }

    /// As stored.
    #[must_use]
    pub fn stored(self) -> i16 {
        self.0.into()
    }

    /// Each of them, in one order.
    pub fn iter(self) -> impl Iterator<Item = PersonPart> {
        PersonPart::VARIANTS.iter().copied().filter(move |part| self.0 & *part as u8 != 0)
    }

    fn add(&mut self, part: PersonPart) {
        self.0 |= part as u8;
    }
}

/// Whom an entry is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct People {
    /// Who did it.
    pub operator: Option<UserId>,
    /// Whom it happened to, the first [`USERS_SHOWN_MAX`] in the order of the body.
    pub users: Vec<UserId>,
    /// How many these are in all.
    pub user_count: usize,
    /// Every user in it.
    pub parts: BTreeMap<UserId, PersonParts>,
}

impl People {
    /// Of a callback: what was read of it, and its body where not all of it could be read.
    #[must_use]
    pub fn of_callback(event: Option<&Event>, unread_body: Option<&[u8]>) -> Self {
        let mut people = Self::default();
        if let Some(event) = event {
            people.add_event(event);
        }
        for (field, user) in unread_body.map(accounts).unwrap_or_default() {
            let part = match field {
                AccountField::Operator => PersonPart::Operator,
                AccountField::Owner => PersonPart::Owner,
                AccountField::Member => PersonPart::Member,
            };
            people.add(&user, part);
        }
        people
    }

    /// Of a snapshot, by its facts.
    #[must_use]
    pub fn of_snapshot(kind: ReadKind, facts: &[Fact]) -> Self {
        let mut people = Self::default();
        for fact in facts {
            match &fact.kind {
                FactKind::Owner(Some(owner)) if kind == ReadKind::Profile => {
                    people.add(owner, PersonPart::Owner);
                }
                FactKind::Missing(user) => people.happens_to(std::slice::from_ref(user)),
                _ => {}
            }
        }
        people
    }

    fn add_event(&mut self, event: &Event) {
        if let Some(operator) = &event.operator {
            self.operator = Some(operator.clone());
            self.add(operator, PersonPart::Operator);
        }
        match &event.kind {
            EventKind::GroupCreated { owner, members, .. } => {
                owner.iter().for_each(|owner| self.add(owner, PersonPart::Owner));
                self.happens_to(members);
            }
            EventKind::MembersJoined { members, .. } | EventKind::MembersLeft { members, .. } => {
                self.happens_to(members);
            }
            EventKind::MemberChanged { member, .. } => self.happens_to(std::slice::from_ref(member)),
            EventKind::OwnerChanged { old, new } => {
                old.iter().chain(new).for_each(|owner| self.add(owner, PersonPart::Owner));
            }
            EventKind::GroupDestroyed
            | EventKind::ProfileChanged(_)
            | EventKind::AttributesChanged(_)
            | EventKind::TopicCreated { .. }
            | EventKind::TopicsDestroyed(_)
            | EventKind::TopicChanged { .. } => {}
        }
    }

    fn happens_to(&mut self, users: &[UserId]) {
        let room = USERS_SHOWN_MAX.saturating_sub(self.users.len());
        self.users.extend(users.iter().take(room).cloned());
        self.user_count += users.len();
        users.iter().for_each(|user| self.add(user, PersonPart::Member));
    }

    fn add(&mut self, user: &UserId, part: PersonPart) {
        match self.parts.get_mut(user) {
            Some(parts) => parts.add(part),
            None => self.parts.entry(user.clone()).or_default().add(part),
        }
    }
}
