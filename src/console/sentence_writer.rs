//! What every sentence about a ledger entry is written with: the entry, the language, and where the sentence stands.
//!
//! The messages for callbacks stand in `sentence_event`, those for answers of Tencent's REST API in `sentence_read`. Pure.

use super::entry_line::EntryLine;
use super::language::Language;
use super::sentence::{SentencePart, Slot, compose};
use crate::callback::ProfileText;
use crate::model::UserId;

/// A sentence with its details.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sentence {
    /// Who did what to whom.
    pub(super) main: Vec<SentencePart>,
    /// More about it, a phrase each.
    pub(super) details: Vec<Vec<SentencePart>>,
}

/// Where a sentence stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scene {
    /// On the page of the group, which it then does not name.
    OfGroup,
    /// Among entries of several groups.
    OfApp,
}

/// Writes the sentence of one entry.
pub(super) struct SentenceWriter<'a> {
    pub(super) language: Language,
    pub(super) line: &'a EntryLine,
    pub(super) scene: Scene,
}

impl SentenceWriter<'_> {
    /// A message about the group, with who did it. On the page of the group its variant that does not name the group.
    pub(super) fn main(&self, key: &str, slots: Vec<(&'static str, Slot)>) -> Sentence {
        let key = match self.scene {
            Scene::OfGroup => format!("{key}-here"),
            Scene::OfApp => key.to_owned(),
        };
        let known = if self.line.operator.is_some() { "yes" } else { "no" };
        let by = self.line.operator.clone().unwrap_or_default();
        let name = self.line.group_name.clone().filter(|name| !name.is_empty());
        let group = SentencePart::Group { id: self.line.group.clone(), name };
        let mut all = vec![
            ("known", Slot::Choice(known)),
            ("by", Slot::One(SentencePart::Person(by))),
            ("group", Slot::One(group)),
        ];
        all.extend(slots);
        Sentence { main: compose(self.language, &key, &all), details: Vec::new() }
    }

    pub(super) fn people(&self, key: &str, users: &[UserId]) -> Sentence {
        self.main(key, vec![("count", Slot::Count(users.len())), ("people", people(users))])
    }

    pub(super) fn detail(&self, key: &str, slots: &[(&'static str, Slot)]) -> Vec<SentencePart> {
        compose(self.language, key, slots)
    }

    /// A detail that shows what was written.
    pub(super) fn value(&self, key: &str, value: &str) -> Vec<SentencePart> {
        self.detail(key, &[("value", Slot::One(SentencePart::value(value, self.language)))])
    }

    pub(super) fn keyed(&self, key: &str, name: &str, value: &str) -> Vec<SentencePart> {
        let name = Slot::One(SentencePart::value(name, self.language));
        self.detail(key, &[("key", name), ("value", Slot::One(SentencePart::value(value, self.language)))])
    }
}

/// The detail that shows a text of a profile.
pub(super) fn text_key(text: ProfileText) -> &'static str {
    match text {
        ProfileText::Type => "detail-type",
        ProfileText::Name => "detail-name",
        ProfileText::Introduction => "detail-introduction",
        ProfileText::Notification => "detail-notification",
        ProfileText::FaceUrl => "detail-face-url",
    }
}

/// Users as one thing of a message.
pub(super) fn people(users: &[UserId]) -> Slot {
    Slot::People(users.iter().map(|user| user.as_str().to_owned()).collect())
}
