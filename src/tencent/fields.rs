//! Typed access to the fields of one answer: what can be read is given, what cannot is recorded and skipped.
//!
//! Tencent's answers are as partial as its callbacks: fields come under an old and a new name, numbers may be quoted,
//! texts may be ill-formed, keys turn up that no page lists. A field that nothing asks for is never looked at, so it can
//! harm nothing; one unreadable entry of a list costs that entry and not the answer. `null` counts as absent. A text
//! that was repaired is none where it is an id or a key, because two of them could become one.

use crate::json::{Json, JsonObject, JsonText};
use crate::model::{FieldKey, ModelError, is_word, storable};

/// How many unreadable parts of one answer are named; the rest is counted.
pub const UNREAD_NAMED_MAX: usize = 8;

/// A part of an answer that could not be read: which field, and why. It holds no value, so it may be logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadPart {
    /// The field, as Tencent spells it.
    pub field: &'static str,
    /// Why it cannot be read.
    pub why: &'static str,
}

/// The unreadable parts of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnreadParts {
    /// How many there are.
    pub count: usize,
    /// The first ones, [`UNREAD_NAMED_MAX`] at most.
    pub named: Vec<UnreadPart>,
}

impl UnreadParts {
    /// True where everything that was looked at could be read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn add(&mut self, unread: UnreadPart) {
        self.count += 1;
        if self.named.len() < UNREAD_NAMED_MAX {
            self.named.push(unread);
        }
        assert!(self.named.len() <= self.count, "what is named is counted");
    }
}

/// The names of one field: the present one first, old ones behind it.
pub(super) type Names = &'static [&'static str];

/// An entry of a list, as an object.
pub(super) fn object<'j, 'a>(
    value: &'j Json<'a>,
    field: &'static str,
) -> Result<&'j JsonObject<'a>, UnreadPart> {
    match value {
        Json::Object(object) => Ok(object),
        _ => Err(UnreadPart { field, why: "is no object" }),
    }
}

fn text(value: &Json<'_>, field: &'static str) -> Result<String, UnreadPart> {
    match value {
        Json::Text(text) => Ok(storable(&text.text)),
        _ => Err(UnreadPart { field, why: "is no text" }),
    }
}

/// A key or an id, which a repaired text is not.
fn key_text<'j>(value: &'j Json<'_>, field: &'static str) -> Result<&'j str, UnreadPart> {
    match value {
        Json::Text(JsonText { text, repaired: None }) => Ok(text),
        Json::Text(JsonText { repaired: Some(_), .. }) => {
            Err(UnreadPart { field, why: "is not valid Unicode" })
        }
        _ => Err(UnreadPart { field, why: "is no text" }),
    }
}

/// A whole number, plain or quoted, by its digits: no parser's idea of numbers stands between.
fn number<T: std::str::FromStr>(value: &Json<'_>, field: &'static str) -> Result<T, UnreadPart> {
    let digits = match value {
        Json::Number(digits) => digits,
        Json::Text(JsonText { text, repaired: None }) => &**text,
        _ => return Err(UnreadPart { field, why: "is no number" }),
    };
    digits.parse().map_err(|_| UnreadPart { field, why: "is no whole number in its range" })
}

/// The fields of one object of an answer, and what of them could not be read so far.
#[derive(Debug)]
pub(super) struct AnswerFields<'j, 'a> {
    object: &'j JsonObject<'a>,
    unread: UnreadParts,
}

impl<'j, 'a> AnswerFields<'j, 'a> {
    pub(super) fn new(object: &'j JsonObject<'a>) -> Self {
        Self { object, unread: UnreadParts::default() }
    }

    pub(super) fn into_unread(self) -> UnreadParts {
        self.unread
    }

    pub(super) fn unread(&self) -> &UnreadParts {
        &self.unread
    }

    /// The value under the first of the names that is there, and that name.
    fn get(&self, names: Names) -> Option<(&'j Json<'a>, &'static str)> {
        names.iter().find_map(|name| {
            let value = self.object.get(name).filter(|value| **value != Json::Null)?;
            Some((value, *name))
        })
    }

    /// What was read, or nothing and a record of why.
    fn keep<T>(&mut self, read: Option<Result<T, UnreadPart>>) -> Option<T> {
        read.and_then(|read| read.map_err(|unread| self.unread.add(unread)).ok())
    }

    pub(super) fn text(&mut self, names: Names) -> Option<String> {
        let read = self.get(names).map(|(value, name)| text(value, name));
        self.keep(read)
    }

    /// A text that an index holds; see the same of a callback.
    pub(super) fn word(&mut self, names: Names) -> Option<String> {
        let read = self.get(names).map(|(value, name)| {
            let word = text(value, name)?;
            is_word(name, &word).map_err(|_| UnreadPart { field: name, why: "is too long" })?;
            Ok(word)
        });
        self.keep(read)
    }

    pub(super) fn number<T: std::str::FromStr>(&mut self, names: Names) -> Option<T> {
        let read = self.get(names).map(|(value, name)| number(value, name));
        self.keep(read)
    }

    /// `On` and `Off`, or 1 and 0, plain or quoted.
    pub(super) fn switch(&mut self, names: Names) -> Option<bool> {
        let read = self.get(names).map(|(value, name)| match value {
            Json::Text(JsonText { text, .. }) if text == "On" || text == "1" => Ok(true),
            Json::Text(JsonText { text, .. }) if text == "Off" || text == "0" => Ok(false),
            Json::Number("1") | Json::Bool(true) => Ok(true),
            Json::Number("0") | Json::Bool(false) => Ok(false),
            _ => Err(UnreadPart { field: name, why: "is neither on nor off" }),
        });
        self.keep(read)
    }

    /// A role: a sample has a blank at its end.
    pub(super) fn role(&mut self) -> Option<String> {
        self.text(&["Role"]).map(|role| role.trim().to_owned()).filter(|role| !role.is_empty())
    }

    /// An id that has to be there.
    ///
    /// # Errors
    /// It is absent, or no id.
    pub(super) fn id<T>(
        &self,
        names: Names,
        parse: fn(&str) -> Result<T, ModelError>,
    ) -> Result<T, UnreadPart> {
        let missing = UnreadPart { field: names[0], why: "is missing" };
        let (value, field) = self.get(names).ok_or(missing)?;
        parse(key_text(value, field)?).map_err(|_| UnreadPart { field, why: "is empty or too long" })
    }

    /// An id for which an empty text stands for none: `Some(None)`.
    pub(super) fn id_or_none<T>(
        &mut self,
        names: Names,
        parse: fn(&str) -> Result<T, ModelError>,
    ) -> Option<Option<T>> {
        let (value, field) = self.get(names)?;
        let read = match key_text(value, field) {
            Ok("") => Ok(None),
            Ok(text) => parse(text).map(Some).map_err(|_| UnreadPart { field, why: "is too long" }),
            Err(unread) => Err(unread),
        };
        self.keep(Some(read))
    }

    /// An object inside this one.
    pub(super) fn nested(&mut self, names: Names) -> Option<&'j JsonObject<'a>> {
        let read = self.get(names).map(|(value, name)| object(value, name));
        self.keep(read)
    }

    /// The entries of a list; `None` where there is none.
    pub(super) fn list(&mut self, names: Names) -> Option<&'j [Json<'a>]> {
        let read = self.get(names).map(|(value, name)| match value {
            Json::List(entries) => Ok(&**entries),
            _ => Err(UnreadPart { field: name, why: "is no list" }),
        });
        self.keep(read)
    }

    /// Reads each entry; those that cannot be read are skipped one by one.
    pub(super) fn each<T>(
        &mut self,
        entries: &'j [Json<'a>],
        read: impl Fn(&'j Json<'a>) -> Result<T, UnreadPart>,
    ) -> Vec<T> {
        let (mut items, before) = (Vec::with_capacity(entries.len()), self.unread.count);
        for entry in entries {
            let read = read(entry);
            items.extend(self.keep(Some(read)));
        }
        assert_eq!(items.len() + self.unread.count - before, entries.len(), "an entry is read or recorded");
        items
    }

    /// Keys and values; custom fields spell them with capitals, attributes without.
    pub(super) fn pairs(&mut self, list: Names) -> Option<Vec<(FieldKey, String)>> {
        let entries = self.list(list)?;
        Some(self.each(entries, |entry| {
            let fields = AnswerFields::new(object(entry, list[0])?);
            let key = fields.id(&["Key", "key"], FieldKey::parse)?;
            let value = fields.get(&["Value", "value"]).map(|(value, name)| text(value, name));
            Ok((key, value.transpose()?.unwrap_or_default()))
        }))
    }
}
