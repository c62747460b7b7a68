//! Typed access to the fields of one body: what can be read is given, what cannot is a reason.
//!
//! A field is decoded only when it is asked for, so one that the command does not use cannot harm it. The caller says
//! what a fault costs: [`Fields::skip`] records it and goes on without the part; a caller for which the part is essential
//! hands the reason up, and the callback is parked. `null` counts as absent.

use std::collections::BTreeMap;

use super::canonical;
use super::reason::{Reason, ReasonCause, Skips};
use crate::json::{Json, JsonObject, JsonText};
use crate::model::{FieldKey, ModelError, UserId, is_word, storable};

/// The fields of a body, and what was skipped of them so far.
#[derive(Debug)]
pub(super) struct Fields<'j, 'a> {
    object: &'j JsonObject<'a>,
    skipped: Skips,
}

/// The value of a key; `null` is absent.
pub(super) fn present<'j, 'a>(object: &'j JsonObject<'a>, key: &str) -> Option<&'j Json<'a>> {
    object.get(key).filter(|value| **value != Json::Null)
}

/// A key or an id: repaired text is none, because two of them could become one.
pub(super) fn id<T>(
    value: &Json<'_>,
    field: &'static str,
    parse: fn(&str) -> Result<T, ModelError>,
) -> Result<T, Reason> {
    let text = key_text(value, field)?;
    parse(text).map_err(|error| Reason::bad_id(field, &error))
}

fn key_text<'j>(value: &'j Json<'_>, field: &'static str) -> Result<&'j str, Reason> {
    match value {
        Json::Text(JsonText { text, repaired: None }) => Ok(text),
        Json::Text(JsonText { text, repaired: Some(_) }) => {
            Err(Reason::new(ReasonCause::NotUnicode, field, &**text))
        }
        other => Err(Reason::wrong_type(field, &canonical::of(other))),
    }
}

/// A text that is no key, repaired where it was ill-formed.
fn text(value: &Json<'_>, field: &'static str) -> Result<String, Reason> {
    match value {
        Json::Text(text) => Ok(storable(&text.text)),
        other => Err(Reason::wrong_type(field, &canonical::of(other))),
    }
}

fn object<'j, 'a>(value: &'j Json<'a>, field: &'static str) -> Result<&'j JsonObject<'a>, Reason> {
    match value {
        Json::Object(object) => Ok(object),
        other => Err(Reason::wrong_type(field, &canonical::of(other))),
    }
}

/// The user that an entry of a list of members names.
fn member(entry: &Json<'_>, list: &'static str, key: &'static str) -> Result<UserId, Reason> {
    let account = present(object(entry, list)?, key).ok_or(Reason::missing(key))?;
    id(account, list, UserId::parse)
}

/// How the entries of a list of keys and values are spelt.
#[derive(Debug, Clone, Copy)]
pub(super) struct PairKeys {
    pub(super) list: &'static str,
    pub(super) key: &'static str,
    /// Absent where values are not read.
    pub(super) value: Option<&'static str>,
}

impl PairKeys {
    fn pair(self, entry: &Json<'_>) -> Result<(FieldKey, String), Reason> {
        let entry = object(entry, self.list)?;
        let key = key_text(present(entry, self.key).ok_or(Reason::missing(self.key))?, self.list)?;
        let key = FieldKey::parse(key)
            .map_err(|error| Reason::new(ReasonCause::BadKey, self.list, error.to_string()))?;
        // Without a value it is empty.
        let value = self.value.and_then(|key| present(entry, key));
        let value = value.map(|value| text(value, self.list)).transpose()?;
        Ok((key, value.unwrap_or_default()))
    }
}

/// What a list holds that can be read, and whether anything of it was skipped.
#[derive(Debug)]
pub(super) struct Readable<T> {
    pub(super) items: T,
    /// The first fault, of a list with one.
    pub(super) fault: Option<Reason>,
}

impl<'j, 'a> Fields<'j, 'a> {
    pub(super) fn new(object: &'j JsonObject<'a>) -> Self {
        Self { object, skipped: Skips::default() }
    }

    pub(super) fn into_skipped(self) -> Skips {
        self.skipped
    }

    pub(super) fn get(&self, key: &str) -> Option<&'j Json<'a>> {
        present(self.object, key)
    }

    /// The part, or nothing and a record of why.
    pub(super) fn skip<T>(&mut self, read: Result<T, Reason>) -> Option<T> {
        read.map_err(|reason| self.skipped.add(reason)).ok()
    }

    /// A text; one of another type is skipped.
    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
        self.try_text(key).ok().flatten()
    }

    /// The same for a caller that wants to know.
    ///
    /// # Errors
    /// A value of another type, which is recorded as skipped.
    pub(super) fn try_text(&mut self, key: &'static str) -> Result<Option<String>, Reason> {
        let read = self.get(key).map(|value| text(value, key)).transpose();
        if let Err(reason) = &read {
            self.skipped.add(reason.clone());
        }
        read
    }

    /// A text for which empty stands for not known.
    pub(super) fn known_text(&mut self, key: &'static str) -> Option<String> {
        self.text(key).filter(|text| !text.is_empty())
    }

    /// The same of a text that is looked up, so that an index holds it, which a longer one would not fit into: the database would
    /// refuse the whole callback for it.
    pub(super) fn known_word(&mut self, key: &'static str) -> Option<String> {
        let text = self.known_text(key)?;
        let word = is_word(key, &text).map_err(|error| Reason::bad_id(key, &error));
        self.skip(word).map(|()| text)
    }

    /// A user; empty stands for none.
    ///
    /// # Errors
    /// A value that names no user.
    pub(super) fn user(&self, key: &'static str) -> Result<Option<UserId>, Reason> {
        self.id_or_empty(key, UserId::parse)
    }

    /// An id; empty stands for none.
    ///
    /// # Errors
    /// A value that is no id.
    pub(super) fn id_or_empty<T>(
        &self,
        key: &'static str,
        parse: fn(&str) -> Result<T, ModelError>,
    ) -> Result<Option<T>, Reason> {
        let is_empty = |value: &&Json<'_>| matches!(value, Json::Text(text) if text.text.is_empty());
        self.get(key).filter(|value| !is_empty(value)).map(|value| id(value, key, parse)).transpose()
    }

    /// The entries of a list.
    ///
    /// # Errors
    /// A value that is no list.
    pub(super) fn list(&self, key: &'static str) -> Result<Option<&'j [Json<'a>]>, Reason> {
        match self.get(key) {
            None => Ok(None),
            Some(Json::List(items)) => Ok(Some(items)),
            Some(other) => Err(Reason::wrong_type(key, &canonical::of(other))),
        }
    }

    /// Reads each entry; those that cannot be read are skipped one by one.
    pub(super) fn each<T>(
        &mut self,
        list: &'static str,
        entries: &'j [Json<'a>],
        read: impl Fn(&'j Json<'a>) -> Result<T, Reason>,
    ) -> Readable<Vec<T>> {
        let (mut items, mut fault) = (Vec::with_capacity(entries.len()), None);
        for (index, entry) in entries.iter().enumerate() {
            match read(entry).map_err(|reason| reason.in_entry(list, index)) {
                Ok(item) => items.push(item),
                Err(reason) => {
                    fault.get_or_insert_with(|| reason.clone());
                    self.skipped.add(reason);
                }
            }
        }
        assert!(fault.is_some() || items.len() == entries.len(), "an entry is read or skipped");
        Readable { items, fault }
    }

    /// The members that a list names.
    pub(super) fn members(
        &mut self,
        entries: &'j [Json<'a>],
        list: &'static str,
        key: &'static str,
    ) -> Readable<Vec<UserId>> {
        self.each(list, entries, |entry| member(entry, list, key))
    }

    /// Keys and values. Of two entries with one key in one body the later one counts; the rest of the service meets each
    /// key once.
    pub(super) fn pairs(
        &mut self,
        entries: &'j [Json<'a>],
        keys: PairKeys,
    ) -> Readable<Vec<(FieldKey, String)>> {
        let Readable { items, fault } = self.each(keys.list, entries, |entry| keys.pair(entry));
        // A map, because a body of a mebibyte can hold 90,000 keys.
        let items: BTreeMap<FieldKey, String> = items.into_iter().collect();
        Readable { items: items.into_iter().collect(), fault }
    }
}
