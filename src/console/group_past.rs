//! The past of a group: the frame that says that the page does not show the present, and who has come and gone since.
//!
//! Two folds are compared, that of the moment and that of all that is known, both kept by `replay` for a minute. Sets of users
//! are compared, not the two numbers: four who came and five who left are more than one fewer.

use std::collections::BTreeSet;

use maud::{Markup, html};

use super::group_ask::GroupAsk;
use super::language::grouped;
use super::pieces::{person_link, time_at};
use super::sentence_html::{fitting, time_of};
use super::visit::Visit;
use crate::model::UserId;
use crate::replay::GroupFold;

/// How many users each of the two lists names, and in how many bytes of HTML.
const NAMED_MAX: usize = 20;
const LIST_BYTES_MAX: usize = 6_000;

/// Who was there and who is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ThenAndNow<'a> {
    pub(super) then: usize,
    pub(super) now: usize,
    /// There now, and not then.
    pub(super) came: Vec<&'a UserId>,
    /// There then, and not now.
    pub(super) gone: Vec<&'a UserId>,
}

impl<'a> ThenAndNow<'a> {
    /// Of two folds of one group.
    pub(super) fn of(then: &'a GroupFold, now: &'a GroupFold) -> Self {
        Self::of_sets(&present(then), &present(now))
    }

    fn of_sets(then: &BTreeSet<&'a UserId>, now: &BTreeSet<&'a UserId>) -> Self {
        let came: Vec<_> = now.difference(then).copied().collect();
        let gone: Vec<_> = then.difference(now).copied().collect();
        assert_eq!(then.len() + came.len(), now.len() + gone.len(), "each is counted once");
        Self { then: then.len(), now: now.len(), came, gone }
    }
}

fn present(fold: &GroupFold) -> BTreeSet<&UserId> {
    fold.group.members.iter().filter(|member| member.state.present).map(|member| &member.user).collect()
}

/// The frame's head: which moment, and what is different now. `compared`: none where it cannot be had.
pub(super) fn markup(visit: &Visit, ask: &GroupAsk, at_ms: i64, compared: Option<&ThenAndNow<'_>>) -> Markup {
    html! {
        section class="past-head" aria-label=(visit.text("past-label")) {
            p class="past-moment" {
                strong { (visit.text("past-shows")) " " @if let Some(time) = time_of(at_ms) { (time_at(visit, time)) } }
                " " a href=(ask.query_at(visit, None)) { (visit.text("past-to-now")) }
                " " a href=(visit.url_with("/moment", &[("at", &moment_of(at_ms))])) { (visit.text("past-everywhere")) }
            }
            @match compared {
                Some(compared) => (difference(visit, compared)),
                None => p class="quiet" { (visit.text("past-not-compared")) },
            }
        }
    }
}

fn moment_of(at_ms: i64) -> String {
    time_of(at_ms).map(super::visit::moment_text).unwrap_or_default()
}

fn difference(visit: &Visit, compared: &ThenAndNow<'_>) -> Markup {
    let number = |number: usize| number.into();
    let text = visit.language().text_with(
        "past-difference",
        [
            ("then", number(compared.then)),
            ("now", number(compared.now)),
            ("came", number(compared.came.len())),
            ("gone", number(compared.gone.len())),
        ],
    );
    html! {
        p class="past-difference" { (text) }
        div class="past-lists" {
            (list(visit, "past-gone", &compared.gone))
            (list(visit, "past-came", &compared.came))
        }
    }
}

fn list(visit: &Visit, key: &str, users: &[&UserId]) -> Markup {
    let named = users.iter().take(NAMED_MAX).map(|user| html! { li { (person_link(visit, user.as_str())) } });
    let named = fitting(named, LIST_BYTES_MAX);
    html! {
        @if !users.is_empty() {
            div {
                h2 { (visit.text(key)) " (" (grouped(users.len() as i128)) ")" }
                ul class="people" {
                    @for user in &named { (user) }
                    @if users.len() > named.len() {
                        li class="quiet" { "+ " (grouped((users.len() - named.len()) as i128)) }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ModelError;

    #[test]
    fn who_came_and_who_is_gone_is_a_matter_of_sets_and_not_of_numbers() -> Result<(), ModelError> {
        let users: Vec<UserId> =
            ["a", "b", "c", "d", "e"].iter().map(|id| UserId::parse(id)).collect::<Result<_, _>>()?;
        let then: BTreeSet<&UserId> = users[..3].iter().collect();
        let now: BTreeSet<&UserId> = users[2..].iter().collect();
        let compared = ThenAndNow::of_sets(&then, &now);
        assert_eq!((compared.then, compared.now), (3, 3));
        assert_eq!(compared.came, [&users[3], &users[4]]);
        assert_eq!(compared.gone, [&users[0], &users[1]]);
        Ok(())
    }
}
