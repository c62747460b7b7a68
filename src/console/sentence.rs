//! Sentences of the catalogue with things in them: people, groups, values and Tencent's words, which become links or marked
//! text where the sentence is written as HTML.
//!
//! The catalogue decides the words and their order, in each language; what is put in must never be read as a part of the
//! message. So the message is formatted with a placeholder for each thing, a character of Unicode's private use area, and cut at
//! these: no name, id or value ever passes through the formatter. Pure.

use fluent_bundle::FluentArgs;

use super::language::Language;

/// The first of the placeholders; no text of the catalogue holds one, which a test checks.
const FIRST_PLACEHOLDER: char = '\u{E000}';

/// How many things one message can hold.
const SLOTS_MAX: usize = 8;

/// How many people a sentence names before it counts the rest.
pub(super) const PEOPLE_MAX: usize = 3;

/// How many characters of a value a sentence shows.
const VALUE_CHARS_MAX: usize = 120;

/// One piece of a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SentencePart {
    /// Words of the catalogue.
    Text(String),
    /// A user, by id.
    Person(String),
    /// A group.
    Group {
        /// Its id.
        id: String,
        /// Its present name, where that is known and not empty.
        name: Option<String>,
    },
    /// A moment, which leads to a group as it was then.
    Moment {
        /// The group.
        group: String,
        /// Unix milliseconds.
        at_ms: i64,
    },
    /// What a user wrote: a name, a card, the value of a field.
    Value(String),
    /// A word of Tencent's: a command, a type of exit.
    Code(String),
}

impl SentencePart {
    /// A value, cut where it is long; an empty one is the catalogue's word for that.
    pub(super) fn value(text: &str, language: Language) -> Self {
        if text.is_empty() {
            return Self::Text(language.text("value-empty"));
        }
        Self::Value(clipped(text, VALUE_CHARS_MAX))
    }
}

/// The first characters of a text, with an ellipsis where it goes on.
pub(super) fn clipped(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// What is put into a message under a name.
#[derive(Debug, Clone)]
pub(super) enum Slot {
    /// One thing.
    One(SentencePart),
    /// Users, of whom the first ones are named.
    People(Vec<String>),
    /// A number, for the plural rules as well.
    Count(usize),
    /// A word by which the message chooses a variant.
    Choice(&'static str),
}

/// A message of the catalogue as pieces.
pub(super) fn compose(language: Language, key: &str, slots: &[(&'static str, Slot)]) -> Vec<SentencePart> {
    assert!(slots.len() <= SLOTS_MAX, "{key} holds more things than a message can");
    let mut args = FluentArgs::new();
    for (placeholder, (name, slot)) in (FIRST_PLACEHOLDER..).zip(slots) {
        match slot {
            Slot::One(_) | Slot::People(_) => args.set(*name, placeholder.to_string()),
            Slot::Count(count) => args.set(*name, *count),
            Slot::Choice(word) => args.set(*name, *word),
        }
    }
    cut(&language.text_of(key, &args), language, slots)
}

/// Cuts a formatted message at its placeholders and puts the things in.
fn cut(message: &str, language: Language, slots: &[(&'static str, Slot)]) -> Vec<SentencePart> {
    let mut parts = Vec::new();
    let mut text = String::new();
    for character in message.chars() {
        let slot = (u32::from(character)).checked_sub(u32::from(FIRST_PLACEHOLDER));
        let slot = slot.and_then(|index| slots.get(usize::try_from(index).ok()?));
        let Some((_, slot)) = slot else {
            text.push(character);
            continue;
        };
        if !text.is_empty() {
            parts.push(SentencePart::Text(std::mem::take(&mut text)));
        }
        match slot {
            Slot::One(part) => parts.push(part.clone()),
            Slot::People(people) => parts.extend(people_parts(language, people)),
            Slot::Count(_) | Slot::Choice(_) => {}
        }
    }
    if !text.is_empty() {
        parts.push(SentencePart::Text(text));
    }
    parts
}

/// The first users by name, and how many more there are.
fn people_parts(language: Language, people: &[String]) -> Vec<SentencePart> {
    // Naming all but one would say less in the same room.
    let named = if people.len() == PEOPLE_MAX + 1 { people.len() } else { people.len().min(PEOPLE_MAX) };
    let mut parts = Vec::new();
    for (index, user) in people[..named].iter().enumerate() {
        if index > 0 {
            parts.push(SentencePart::Text(language.text("list-separator")));
        }
        parts.push(SentencePart::Person(user.clone()));
    }
    if named < people.len() {
        let more = [("count", Slot::Count(people.len() - named))];
        parts.extend(compose(language, "list-more", &more));
    }
    parts
}

/// The pieces as plain text, for tests.
#[cfg(test)]
pub(super) fn plain(parts: &[SentencePart]) -> String {
    let text = |part: &SentencePart| match part {
        SentencePart::Text(text)
        | SentencePart::Person(text)
        | SentencePart::Value(text)
        | SentencePart::Code(text) => text.clone(),
        SentencePart::Moment { at_ms, .. } => at_ms.to_string(),
        SentencePart::Group { id, name } => name.clone().unwrap_or_else(|| id.clone()),
    };
    parts.iter().map(text).collect()
}
