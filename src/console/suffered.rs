//! The first line of a person's page: what was done to the person last, by whom, with what, and to how many others at the same
//! time.
//!
//! "Why was I removed?" is the question that brings a support agent to the page. Done to a person is what another did: a
//! removal, a change of role or card; not a join and not a leave. The others are those whom the same operator removed in the
//! same group within five minutes to either side; how many entries are searched for them has a limit, and then there are "at
//! least" so many.

use std::collections::BTreeSet;

use maud::{Markup, html};

use super::deed::Deed;
use super::entry_line::EntryLine;
use super::group_entries::{EntriesPage, EntrySieve, read_up_to};
use super::sentence::{SentencePart, Slot, compose};
use super::sentence_html::said;
use super::visit::Visit;
use crate::api::errors::ApiError;
use crate::api::state::ApiState;
use crate::callback::{EventKind, Role};
use crate::mirror::group_key;
use crate::model::{GroupId, SdkAppId};
use crate::store::history::HistoryFilter;

/// How far to either side removals count as one act.
const AROUND_MS: i64 = 5 * 60 * 1_000;

/// How many removals in that time are searched.
const AROUND_MAX: usize = 500;

/// What was done to a person.
#[derive(Debug, Clone)]
pub(super) struct Suffered {
    line: EntryLine,
    others: usize,
    /// More removals were there than were searched.
    at_least: bool,
}

impl Suffered {
    /// The newest of these lines that was done to the user by another, removals first, with the others whom it was done to.
    ///
    /// # Errors
    /// Those of the read.
    pub(super) async fn find(
        state: &ApiState,
        app: SdkAppId,
        user: &str,
        lines: &[EntryLine],
    ) -> Result<Option<Self>, ApiError> {
        let Some(line) = newest(user, lines).cloned() else { return Ok(None) };
        if line.deed != Deed::Removal {
            return Ok(Some(Self { line, others: 0, at_least: false }));
        }
        let around = around(state, app, &line).await?;
        let others = others(user, &line, &around.lines);
        Ok(Some(Self { line, others, at_least: around.next.is_some() }))
    }

    /// The line.
    pub(super) fn markup(&self, visit: &Visit) -> Markup {
        html! { p class={ "suffered deed-" (self.line.deed.label()) } { (said(visit, &self.parts(visit))) } }
    }

    /// The sentence with its details, in one piece.
    fn parts(&self, visit: &Visit) -> Vec<SentencePart> {
        let (language, line) = (visit.language(), &self.line);
        let name = line.group_name.clone().filter(|name| !name.is_empty());
        let group = SentencePart::Group { id: line.group.clone(), name };
        let when = SentencePart::Moment { group: line.group.clone(), at_ms: line.at_ms() };
        let by = SentencePart::Person(line.operator.clone().unwrap_or_default());
        let known = if line.operator.is_some() { "yes" } else { "no" };
        let slots = [
            ("known", Slot::Choice(known)),
            ("by", Slot::One(by)),
            ("group", Slot::One(group)),
            ("time", Slot::One(when)),
        ];
        let mut parts = compose(language, key_of(line), &slots);
        let mut add = |detail: Vec<SentencePart>| {
            parts.push(SentencePart::Text(language.text("suffered-separator")));
            parts.extend(detail);
        };
        if let Some(platform) = &line.platform {
            add(vec![SentencePart::value(platform, language)]);
        }
        if self.others > 0 {
            let key = if self.at_least { "suffered-with-at-least" } else { "suffered-with" };
            add(compose(language, key, &[("count", Slot::Count(self.others))]));
        }
        parts
    }
}

/// The newest removal; without one the newest other thing that was done to the user.
fn newest<'a>(user: &str, lines: &'a [EntryLine]) -> Option<&'a EntryLine> {
    let suffered: Vec<_> = lines.iter().filter(|line| is_suffered(user, line)).collect();
    let removal = suffered.iter().find(|line| line.deed == Deed::Removal);
    removal.or(suffered.first()).copied()
}

fn is_suffered(user: &str, line: &EntryLine) -> bool {
    let is_grave = matches!(line.deed, Deed::Removal | Deed::Member);
    is_grave && line.operator.as_deref() != Some(user) && line.sufferers().contains(&user)
}

fn key_of(line: &EntryLine) -> &'static str {
    match &line.event {
        Some(EventKind::MemberChanged { role: Some(Role::Admin), .. }) => "suffered-admin",
        Some(EventKind::MemberChanged { role: Some(Role::Member), .. }) => "suffered-ordinary",
        Some(EventKind::MemberChanged { .. }) => "suffered-card",
        _ => "suffered-removed",
    }
}

/// The exits of the group around a removal.
async fn around(state: &ApiState, app: SdkAppId, line: &EntryLine) -> Result<EntriesPage, ApiError> {
    let Ok(group) = GroupId::parse(&line.group) else { return Ok(EntriesPage::default()) };
    let filter = HistoryFilter {
        outcome: None,
        cause: None,
        command: Deed::Removal.command().map(str::to_owned),
        after_ms: line.at_ms().saturating_sub(AROUND_MS + 1),
        behind: (line.at_ms().saturating_add(AROUND_MS + 1), Vec::new()),
    };
    let sieve = EntrySieve { deed: Some(Deed::Removal), ..EntrySieve::default() };
    let found = read_up_to(state, &group_key(app, group), filter, sieve, (AROUND_MAX, false)).await?;
    Ok(found.unwrap_or_default())
}

/// How many other users the same operator removed.
fn others(user: &str, line: &EntryLine, around: &[EntryLine]) -> usize {
    let by_same = around.iter().filter(|other| other.operator == line.operator);
    let users: BTreeSet<&str> =
        by_same.flat_map(EntryLine::sufferers).filter(|other| *other != user).collect();
    users.len()
}
