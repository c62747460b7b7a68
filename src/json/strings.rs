//! The strings of a body with the places where they stand, for a change that keeps every other byte.
//!
//! A lexical pass (tokenizer) and no parse: it needs no tree, and goes through bytes that are no JSON as well. A string ends
//! at the first quote without a backslash before it, which is the rule of the reader, so both see the same strings up to
//! the place where a body breaks.

use std::ops::Range;

use super::{JsonText, unescaped};

/// One string of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JsonString<'a> {
    /// Its bytes, with both quotes.
    pub(crate) range: Range<usize>,
    /// What it says.
    pub(crate) text: JsonText<'a>,
    /// True for the key of a member.
    pub(crate) is_key: bool,
    /// Of a value: which string is the key that it stands under, by itself or in a list. Of a key: none.
    pub(crate) under: Option<usize>,
    /// True for a value that is a member by itself, and no item of a list.
    pub(crate) is_member: bool,
    /// The number of the object that it stands in; 0 outside of all.
    pub(crate) object: usize,
}

/// An array or object that is open.
struct Frame {
    is_object: bool,
    /// The next string of an object is a key.
    awaits_key: bool,
    key: Option<usize>,
    object: usize,
}

/// Every string, in the order of the body.
pub(crate) fn strings(bytes: &[u8]) -> Vec<JsonString<'_>> {
    let mut found = Vec::<JsonString<'_>>::new();
    let mut open = vec![Frame { is_object: false, awaits_key: false, key: None, object: 0 }];
    let (mut at, mut objects) = (0, 0);
    while let Some(byte) = bytes.get(at) {
        let Some(top) = open.last_mut() else { break };
        match byte {
            b'"' => {
                let Some(end) = end_of_string(bytes, at) else { break };
                let is_key = top.is_object && top.awaits_key;
                found.push(JsonString {
                    range: at..end,
                    text: unescaped(&bytes[at + 1..end - 1]),
                    is_key,
                    under: top.key.filter(|_| !is_key),
                    is_member: top.is_object && !is_key,
                    object: top.object,
                });
                if is_key {
                    (top.awaits_key, top.key) = (false, Some(found.len() - 1));
                }
                at = end;
                continue;
            }
            b'{' => {
                objects += 1;
                open.push(Frame { is_object: true, awaits_key: true, key: None, object: objects });
            }
            b'[' => {
                let (key, object) = (top.key, top.object);
                open.push(Frame { is_object: false, awaits_key: false, key, object });
            }
            b',' if top.is_object => (top.awaits_key, top.key) = (true, None),
            b'}' | b']' if open.len() > 1 => drop(open.pop()),
            _ => {}
        }
        at += 1;
    }
    assert!(found.windows(2).all(|pair| pair[0].range.end <= pair[1].range.start), "strings do not overlap");
    found
}

/// Behind the quote that ends the string which begins here; none where it does not end.
fn end_of_string(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}
