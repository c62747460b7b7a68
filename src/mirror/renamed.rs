//! A fold without a person: each id that stands in it as a whole text becomes a pseudonym.
//!
//! The same that becomes of a fold whose entries were rewritten, so that a checkpoint follows an erasure though its entries are gone.
//! A name card of the person is emptied and keeps its stamp. Values that are words of Tencent's grammar are no ids: types, roles,
//! options, and how a membership began or ended.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::register::Register;
use super::rows::{MemberRow, Rows, Transition};
use crate::callback::{ProfileText, PseudonymOf};
use crate::model::{FieldKey, UserId};

impl Rows {
    /// The fold with pseudonyms in the place of ids. Rows of a person and of the pseudonym become one.
    #[must_use]
    pub fn renamed(self, of: &PseudonymOf<'_>) -> Self {
        let mut renamed = Self::default();
        for (key, mut row) in self.groups {
            texts(&mut row.texts, of);
            user(&mut row.owner.value, of);
            user(&mut row.created.value, of);
            renamed.merge(Self { groups: BTreeMap::from([(key, row)]), ..Self::default() });
        }
        for ((group, id), row) in self.members {
            let pseudonym = of(id.as_str()).and_then(|text| UserId::parse(text).ok());
            let row = member(row, pseudonym.is_some(), of);
            let members = BTreeMap::from([((group, pseudonym.unwrap_or(id)), row)]);
            renamed.merge(Self { members, ..Self::default() });
        }
        for ((group, key), row) in self.user_defined_fields {
            let user_defined_fields = BTreeMap::from([((group, field_key(key, of)), field(row, of))]);
            renamed.merge(Self { user_defined_fields, ..Self::default() });
        }
        for ((group, key), row) in self.attributes {
            let attributes = BTreeMap::from([((group, field_key(key, of)), field(row, of))]);
            renamed.merge(Self { attributes, ..Self::default() });
        }
        for (key, mut row) in self.topics {
            texts(&mut row.texts, of);
            user(&mut row.created.value, of);
            renamed.merge(Self { topics: BTreeMap::from([(key, row)]), ..Self::default() });
        }
        renamed
    }
}

fn member(mut row: MemberRow, is_theirs: bool, of: &PseudonymOf<'_>) -> MemberRow {
    let by = |transition: &mut Transition| user(&mut transition.by, of);
    by(&mut row.join.value);
    by(&mut row.leave.value);
    text(&mut row.name_card.value, of);
    if let Some(listed) = &mut row.listed.value {
        text(&mut listed.name_card, of);
        if let Some(fields) = &mut listed.custom_fields {
            *fields = custom_fields(fields, of);
        }
    }
    if is_theirs {
        let cards = [Some(&mut row.name_card.value), row.listed.value.as_mut().map(|it| &mut it.name_card)];
        cards.into_iter().flatten().flatten().for_each(String::clear);
    }
    row
}

/// An object of texts, in the order of its keys, as lists are stored.
fn custom_fields(fields: &str, of: &PseudonymOf<'_>) -> String {
    let Ok(fields_of) = serde_json::from_str::<Map<String, Value>>(fields) else { return fields.to_owned() };
    let name = |text: &str| of(text).unwrap_or(text).to_owned();
    let renamed: BTreeMap<String, Value> = fields_of
        .into_iter()
        .map(|(key, value)| (name(&key), value.as_str().map(name).map_or(value.clone(), Value::from)))
        .collect();
    serde_json::json!(renamed).to_string()
}

fn texts(texts: &mut [Register<Option<String>>], of: &PseudonymOf<'_>) {
    let is_word = |at: &usize| *at == ProfileText::Type as usize;
    texts.iter_mut().enumerate().filter(|(at, _)| !is_word(at)).for_each(|(_, it)| text(&mut it.value, of));
}

fn text(value: &mut Option<String>, of: &PseudonymOf<'_>) {
    if let Some(pseudonym) = value.as_deref().and_then(of) {
        *value = Some(pseudonym.to_owned());
    }
}

fn user(value: &mut Option<UserId>, of: &PseudonymOf<'_>) {
    if let Some(pseudonym) = value.as_ref().and_then(|user| of(user.as_str())) {
        *value = UserId::parse(pseudonym).ok();
    }
}

fn field_key(key: FieldKey, of: &PseudonymOf<'_>) -> FieldKey {
    of(key.as_str()).and_then(|text| FieldKey::parse(text).ok()).unwrap_or(key)
}

fn field(mut row: Register<Option<String>>, of: &PseudonymOf<'_>) -> Register<Option<String>> {
    text(&mut row.value, of);
    row
}
