//! How an entry of the ledger ended, and why, in the words of the catalogue.
//!
//! The causes are the closed list of `callback/reason.rs`; one that a newer version has written is shown by its label.

use maud::Markup;

use super::pieces::chip;
use super::visit::Visit;

/// What a cause means; its label where a newer version has one that this one does not know.
pub(crate) fn cause_text(visit: &Visit, label: &str) -> String {
    let key = format!("cause-{}", label.replace('_', "-"));
    visit.language().known_text(&key).unwrap_or_else(|| label.to_owned())
}

/// How an entry ended, as a word in a frame.
pub(crate) fn outcome_chip(visit: &Visit, outcome: &str) -> Markup {
    match outcome {
        "applied" => chip("good", &visit.text("outcome-applied")),
        "partial" => chip("warn", &visit.text("outcome-partial")),
        _ => chip("bad", &visit.text("outcome-parked")),
    }
}
