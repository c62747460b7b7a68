//! An entry of the ledger as it is without a person: what is replaced in each of its parts.
//!
//! Pure. Digest, time and position stay, so that a repeat finds its entry, and the entry keeps its place in the merge.

use crate::callback::{PseudonymOf, is_act_of, pseudonymized, pseudonymized_query};
use crate::mirror::ListTime;
use crate::model::{Millis, UserId};
use crate::replay;
use crate::store::erased_entries::{ErasedEntry, ListPage, NamingEntry};

/// A person, what stands in the place of the id, and up to which time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Renaming<'a> {
    pub(super) user: &'a UserId,
    pub(super) pseudonym: &'a UserId,
    /// The moment of the erasure; none: what is later is replaced as well.
    pub(super) until: Option<Millis>,
}

impl<'a> Renaming<'a> {
    pub(super) fn of(self, text: &str) -> Option<&'a str> {
        (text == self.user.as_str()).then_some(self.pseudonym.as_str())
    }

    /// True where what counts from this time is replaced: by the rule of what comes late, so that it does not matter whether
    /// an entry came before it was looked at or after that.
    pub(super) fn reaches(self, time: Millis) -> bool {
        self.until.is_none_or(|until| time <= until)
    }

    /// True for an entry that counts from such a time.
    pub(super) fn reaches_entry(self, entry: &NamingEntry) -> bool {
        self.reaches(Millis::new(entry.row.time_ms))
    }

    /// True for a page of a list that counts from such a time. One whose time cannot be read never becomes an entry.
    pub(super) fn reaches_page(self, page: &ListPage) -> bool {
        let time = serde_json::from_str::<ListTime>(&page.mark);
        time.map_or(true, |time| self.reaches(time.read_time().sigma))
    }

    /// Bytes of JSON, or of none.
    pub(super) fn in_bytes(self, bytes: &[u8]) -> Option<Vec<u8>> {
        let of: &PseudonymOf<'_> = &|text| self.of(text);
        pseudonymized(bytes, of)
    }

    fn in_reason(self, reason: &str) -> Option<String> {
        let quoted = |user: &UserId| format!("\"{}\"", user.as_str());
        let written = reason.replace(&quoted(self.user), &quoted(self.pseudonym));
        (written != reason).then_some(written)
    }

    /// What an entry becomes, and the columns of it that change; none where it does not name the person.
    pub(super) fn in_entry(self, entry: &NamingEntry) -> Option<(ErasedEntry, Vec<&'static str>)> {
        let of: &PseudonymOf<'_> = &|text| self.of(text);
        let body = pseudonymized(&entry.row.body, of);
        let is_theirs = !entry.row.is_snapshot() && is_act_of(&entry.row.body, of);
        let query = entry.query.as_deref().and_then(|query| pseudonymized_query(query, of, is_theirs));
        let user = self.user.as_str();
        let old_reason = entry.row.reason.as_deref();
        let reason = match (old_reason, &body) {
            (Some(_), Some(body)) if !entry.row.is_snapshot() => replay::reason_of(&entry.row, body),
            _ => None,
        };
        let reason = reason.or_else(|| self.in_reason(old_reason?));
        let changed = [
            ("body", body.is_some()),
            ("query", query.is_some()),
            ("client_ip", is_theirs && entry.client_ip.is_some()),
            ("reason", reason.as_ref().is_some_and(|reason| Some(&**reason) != old_reason)),
            ("operator", entry.operator.as_deref() == Some(user)),
            ("users", entry.users.iter().flatten().any(|shown| shown == user)),
        ];
        let columns: Vec<_> = changed.into_iter().filter(|(_, is)| *is).map(|(column, _)| column).collect();
        let erased = ErasedEntry {
            body: body.unwrap_or_else(|| entry.row.body.clone()),
            query: query.or_else(|| entry.query.clone()),
            keeps_address: !is_theirs,
            reason: reason.or_else(|| entry.row.reason.clone()),
        };
        (!columns.is_empty()).then_some((erased, columns))
    }
}
