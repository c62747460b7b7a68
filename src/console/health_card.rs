//! A card of the health page: what was looked at, how it is, since when, what that means, and what to do where it is not as
//! it should be.
//!
//! The level is a word and a mark beside its colour. What is as it should be has no remedy.

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::pieces::time_at;
use super::visit::Visit;

/// How good a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum CardLevel {
    Good,
    /// Nothing is known of it at the moment.
    Unknown,
    /// Works, and a person should know.
    Warning,
    /// Does not work.
    Wrong,
}

/// One card.
#[derive(Debug)]
pub(super) struct HealthCard {
    /// The end of its keys in the catalogue: `card-…` is its title, `card-…-meaning` why it matters, `card-…-remedy` what to
    /// do.
    pub(super) subject: &'static str,
    pub(super) level: CardLevel,
    /// What was found.
    pub(super) found: Vec<String>,
    pub(super) since: Option<DateTime<Utc>>,
}

impl HealthCard {
    pub(super) fn good(subject: &'static str, found: impl Into<String>) -> Self {
        Self { subject, level: CardLevel::Good, found: vec![found.into()], since: None }
    }

    pub(super) fn at(self, level: CardLevel) -> Self {
        Self { level, ..self }
    }

    pub(super) fn since(self, since: Option<DateTime<Utc>>) -> Self {
        Self { since, ..self }
    }

    pub(super) fn and(mut self, found: impl Into<String>) -> Self {
        self.found.push(found.into());
        self
    }

    pub(super) fn markup(&self, visit: &Visit) -> Markup {
        let (class, mark, word) = match self.level {
            CardLevel::Good => ("good", "●", "level-good"),
            CardLevel::Unknown => ("quiet", "○", "level-unknown"),
            CardLevel::Warning => ("warn", "▲", "level-warning"),
            CardLevel::Wrong => ("bad", "■", "level-wrong"),
        };
        let card_class = if self.level > CardLevel::Unknown { class } else { "" };
        let subject = self.subject;
        html! {
            section class={ "card " (card_class) } aria-labelledby={ "card-" (subject) } {
                h2 id={ "card-" (subject) } { (visit.text(&format!("card-{subject}"))) }
                p class=(class) { span aria-hidden="true" { (mark) " " } strong { (visit.text(word)) } }
                @for found in &self.found { p { bdi { (found) } } }
                @if let Some(since) = self.since { p { (visit.text("card-since")) " " (time_at(visit, since)) } }
                p class="quiet" { (visit.text(&format!("card-{subject}-meaning"))) }
                @if self.level > CardLevel::Unknown {
                    p { strong { (visit.text("card-what-to-do")) } " " (visit.text(&format!("card-{subject}-remedy"))) }
                }
            }
        }
    }
}
