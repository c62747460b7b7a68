//! Items of a list as they were written, in another form: fewer fields, lines of JSON, rows of CSV.
//!
//! A value is never read and written anew: its text in JSON is taken over, so a number keeps every digit. In CSV a text is
//! unescaped, null and what is left out are empty, and an object or an array is its JSON.
//!
//! A spreadsheet takes a cell that begins with certain characters for a formula, and a name can be anything that a user
//! chose (formula injection, also called CSV injection). Such a cell gets an apostrophe in front, and so does one that begins
//! with an apostrophe itself, so that a program can take the first apostrophe of any cell away and has the value. Ids that begin
//! with `@`, which is every id that Tencent gives to a group, are among them. NDJSON has the values as they are.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;

use super::columns::Column;
use super::errors::ApiError;

/// How a cell that a spreadsheet would take for a formula begins: the characters that start one, their full-width twins, and
/// white space that is dropped before one. And how the mark itself begins.
const MARKED: [char; 12] = ['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠', '\''];

/// The members of an object, in their order, as they were written.
pub(super) struct ItemMembers<'a>(pub(super) Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> ItemMembers<'a> {
    pub(super) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for ItemMembers<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = ItemMembers<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(name) = map.next_key::<MemberName<'de>>()? {
            members.push((name.0, map.next_value()?));
        }
        Ok(ItemMembers(members))
    }
}

/// As a key: one that holds no escape is not copied.
#[derive(Deserialize)]
struct MemberName<'a>(#[serde(borrow)] Cow<'a, str>);

impl Serialize for ItemMembers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// What is taken of each item.
#[derive(Debug, Clone)]
pub(super) struct Selection {
    columns: Vec<Column>,
    /// Whether the columns are all that there are: then items are left as they are.
    is_all: bool,
}

impl Selection {
    pub(super) fn all(columns: &[Column]) -> Self {
        Self { columns: columns.to_vec(), is_all: true }
    }

    pub(super) fn of(columns: Vec<Column>) -> Self {
        Self { columns, is_all: false }
    }

    /// An item with what is selected, as JSON.
    pub(super) fn json(&self, item: &RawValue) -> Result<Box<RawValue>, ApiError> {
        if self.is_all {
            return Ok(item.to_owned());
        }
        let members: ItemMembers<'_> = read(item)?;
        let mut shown: Vec<(&str, Box<RawValue>)> = Vec::new();
        for (place, column) in self.columns.iter().enumerate() {
            let is_shown = self.columns[..place].iter().any(|before| before.property == column.property);
            let Some(value) = members.get(&column.property).filter(|_| !is_shown) else { continue };
            let of_it = self.columns.iter().filter(|other| other.property == column.property);
            let inner: Vec<&str> = of_it.filter_map(|other| other.inner.as_deref()).collect();
            let value = if inner.is_empty() { value.to_owned() } else { narrowed(value, &inner)? };
            shown.push((&column.property, value));
        }
        written(&Object(&shown))
    }

    /// Appends the names of the columns as a row.
    pub(super) fn header(&self, rows: &mut CsvRows) -> Result<(), ApiError> {
        rows.write(self.columns.iter().map(Column::name))
    }

    /// Appends an item as a row.
    pub(super) fn row(&self, item: &RawValue, rows: &mut CsvRows) -> Result<(), ApiError> {
        let members: ItemMembers<'_> = read(item)?;
        let mut inner: Option<(&str, ItemMembers<'_>)> = None;
        let mut cells = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            let value = members.get(&column.property);
            let Some(name) = &column.inner else {
                cells.push(value.map_or(Ok(String::new()), cell)?);
                continue;
            };
            if inner.as_ref().is_none_or(|(of, _)| *of != column.property) {
                let members = value.map_or(Ok(ItemMembers(Vec::new())), read)?;
                inner = Some((&column.property, members));
            }
            let value = inner.as_ref().and_then(|(_, members)| members.get(name));
            cells.push(value.map_or(Ok(String::new()), cell)?);
        }
        rows.write(cells)
    }
}

/// Some members of an object, in the order in which they are named.
fn narrowed(object: &RawValue, names: &[&str]) -> Result<Box<RawValue>, ApiError> {
    let members: ItemMembers<'_> = read(object)?;
    let found = names.iter().filter_map(|name| Some((*name, members.get(name)?.to_owned())));
    written(&Object(&found.collect::<Vec<_>>()))
}

struct Object<'a>(&'a [(&'a str, Box<RawValue>)]);

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

pub(super) fn read<'a, T: Deserialize<'a>>(value: &'a RawValue) -> Result<T, ApiError> {
    serde_json::from_str(value.get()).map_err(ApiError::internal)
}

pub(super) fn written(value: &impl Serialize) -> Result<Box<RawValue>, ApiError> {
    serde_json::value::to_raw_value(value).map_err(ApiError::internal)
}

/// A value as the text of a cell.
fn cell(value: &RawValue) -> Result<String, ApiError> {
    let json = value.get();
    match json.as_bytes().first() {
        Some(b'n') => Ok(String::new()),
        Some(b'"') => Ok(defused(&read::<String>(value)?)),
        // A semicolon of JSON stands inside a text; a spreadsheet that takes it for a separator must find none.
        _ => Ok(json.replace(';', "\\u003b")),
    }
}

/// What a spreadsheet may take for the end of a cell, whatever the quotes around it say.
const SEPARATORS: [char; 4] = [';', '\t', '\n', '\r'];

/// A text that no spreadsheet takes for a formula, nor a part of it where one splits at another separator than a comma.
fn defused(text: &str) -> String {
    let mut safe = String::with_capacity(text.len() + 1);
    if text.starts_with(MARKED) {
        safe.push('\'');
    }
    let mut begins = false;
    for letter in text.chars() {
        if begins && MARKED.contains(&letter) && !SEPARATORS.contains(&letter) {
            safe.push('\'');
        }
        begins = SEPARATORS.contains(&letter);
        safe.push(letter);
    }
    safe
}

/// Rows of RFC 4180.
#[derive(Debug)]
pub(super) struct CsvRows(csv::Writer<Vec<u8>>);

impl CsvRows {
    pub(super) fn new() -> Self {
        Self(csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new()))
    }

    fn write(&mut self, cells: impl IntoIterator<Item = String>) -> Result<(), ApiError> {
        self.0.write_record(cells).map_err(ApiError::internal)
    }

    pub(super) fn into_bytes(self) -> Result<Vec<u8>, ApiError> {
        self.0.into_inner().map_err(|error| ApiError::internal(error.into_error()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str) -> Column {
        let (property, inner) = name.split_once('.').unzip();
        Column { property: property.unwrap_or(name).to_owned(), inner: inner.map(str::to_owned) }
    }

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn a_cell_that_begins_like_a_formula_gets_an_apostrophe_that_a_reader_can_take_away() {
        for (value, shown) in [
            ("=1+1", "'=1+1"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@TGS#1", "'@TGS#1"),
            ("\ta", "'\ta"),
            ("\ra", "'\ra"),
            ("\na", "'\na"),
            ("＝1", "'＝1"),
            ("'=1", "''=1"),
            ("'", "''"),
            ("a=1", "a=1"),
            (" =1", " =1"),
            ("", ""),
        ] {
            assert_eq!(defused(value), shown);
            assert_eq!(shown.strip_prefix('\'').unwrap_or(shown), value, "it can be taken away");
        }
    }

    #[test]
    fn a_part_of_a_cell_behind_another_separator_is_no_formula_either() {
        for (value, shown) in [
            ("x;=1+1", "x;'=1+1"),
            ("x\t@a;-1", "x\t'@a;'-1"),
            ("a\r\n=1", "a\r\n'=1"),
            ("\t=1", "'\t'=1"),
            ("a;'b", "a;''b"),
            ("a;b", "a;b"),
        ] {
            assert_eq!(defused(value), shown);
        }
        let json = raw(r#"{"k":"x;=1"}"#);
        assert_eq!(cell(&json).unwrap(), r#"{"k":"x\u003b=1"}"#);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&cell(&json).unwrap()).unwrap()["k"], "x;=1");
    }

    #[test]
    fn rows_follow_rfc_4180_and_keep_what_json_says_to_the_digit() {
        let columns = ["a", "b.c", "b.d", "e", "f", "g", "missing"].map(column);
        let selection = Selection::all(&columns);
        let mut rows = CsvRows::new();
        selection.header(&mut rows).unwrap();
        let item = raw(
            r#"{"g": {"x": "=1"}, "a": 12345678901234567890.10, "b": {"d": "say \"hi\", \u00e9\r\nx", "c": true}, "e": null, "f": [1,2]}"#,
        );
        selection.row(&item, &mut rows).unwrap();
        let text = String::from_utf8(rows.into_bytes().unwrap()).unwrap();
        assert_eq!(
            text,
            "a,b.c,b.d,e,f,g,missing\r\n12345678901234567890.10,true,\"say \"\"hi\"\", é\r\nx\",,\"[1,2]\",\"{\"\"x\"\": \"\"=1\"\"}\",\r\n"
        );
    }

    #[test]
    fn a_selection_keeps_its_order_and_groups_what_belongs_to_one_object() {
        let item = raw(r#"{"a":1,"b":{"c":2,"d":3,"e":4},"f":5}"#);
        let of = |names: &[&str]| {
            Selection::of(names.iter().map(|name| column(name)).collect())
                .json(&item)
                .unwrap()
                .get()
                .to_owned()
        };
        assert_eq!(of(&["f", "b.e", "a", "b.c"]), r#"{"f":5,"b":{"e":4,"c":2},"a":1}"#);
        assert_eq!(of(&["absent", "f"]), r#"{"f":5}"#);
        assert_eq!(Selection::all(&[]).json(&item).unwrap().get(), item.get());
    }
}
