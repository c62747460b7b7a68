//! Bodies that no server would send: recorded ones, broken in ways that a seed repeats.

use std::iter::repeat_n;

use serde_json::{Value, json};

/// A small generator of numbers (splitmix64). The same seed gives the same inputs on every machine.
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not zero.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end).unwrap()).unwrap()
    }

    pub(crate) fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    pub(crate) fn bytes(&mut self, most: usize) -> Vec<u8> {
        let length = self.below(most + 1);
        (0..length).map(|_| self.next().to_be_bytes()[0]).collect()
    }
}

/// Pieces of JSON that parsers and databases stumble over.
const PIECES: [&str; 28] = [
    "null",
    "\"\"",
    "0",
    "-0",
    "-1",
    "1e999",
    "1.5",
    "1700000000000.0",
    "9223372036854775808",
    "-9223372036854775809",
    "99999999999999999999999999999999999999",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\"\\udc00\\ud800\"",
    "\"\\u202e\\ufeff\"",
    "\\",
    "\"",
    "}",
    "]}",
    ",",
    "\"EventTime\":1700000000001,",
    "\"EventTime\":\"01700000000001\",",
    "\"EventTime\":{},",
    "\"GroupId\":\"\",",
    "\"GroupId\":\"other\",",
    "\"CallbackCommand\":\"Group.CallbackAfterMemberExit\",",
    "\"CallbackCommand\":\"Group.\\n\",",
    "\"TopicId\":\"@TOPIC#_\",",
];

/// Texts that are not UTF-8, or only just.
const RAW: [&[u8]; 6] =
    [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\x00", b"\xef\xbb\xbf"];

const TEXTS: [&str; 16] = [
    "",
    "ana_77",
    "boris-2",
    "\u{0}",
    "a\u{0}",
    "a\u{fffd}",
    "Admin",
    "Member",
    "Private",
    "AVChatRoom",
    "set",
    "clear",
    "delete",
    "1767225600000",
    "g@TOPIC#_a",
    "😀\u{200d}\r\n\"\\",
];

fn odd_value(chance: &mut Chance) -> Value {
    match chance.below(16) {
        0 => Value::Null,
        1 => json!(""),
        2 => json!(0),
        3 => json!(-1),
        4 => json!(1e300),
        5 => json!(i64::MAX),
        6 => json!(u64::MAX),
        7 => json!([]),
        8 => json!({}),
        9 => json!(true),
        10 => json!("x".repeat(512 + chance.below(2))),
        11 => json!("a\u{0}b"),
        12 => json!("\u{fffd}\u{10ffff}\r\n"),
        13 => json!([{ "Member_Account": "ana" }, { "Member_Account": "a\u{0}" }]),
        14 => {
            json!(1_700_000_000_000_i64 + i64::from(u16::from_be_bytes([0, chance.next().to_be_bytes()[0]])))
        }
        _ => (0..chance.below(160)).fold(json!("deep"), |inside, _| json!([inside])),
    }
}

/// Replaces or removes one value somewhere inside.
fn twist(chance: &mut Chance, value: &mut Value) {
    match value {
        Value::Object(map) if !map.is_empty() && chance.below(8) != 0 => {
            let at = chance.below(map.len());
            let key = map.keys().nth(at).unwrap().clone();
            match chance.below(6) {
                0 => drop(map.remove(&key)),
                1 => {
                    let moved = map.remove(&key).unwrap();
                    map.insert(format!("{key}\u{0}"), moved);
                }
                _ => twist(chance, &mut map[&key]),
            }
        }
        Value::Array(list) if !list.is_empty() && chance.below(4) != 0 => {
            let at = chance.below(list.len());
            if chance.below(4) == 0 {
                let again = list[at].clone();
                list.push(again);
            } else {
                twist(chance, &mut list[at]);
            }
        }
        // Mostly a text for a text, so that the body keeps its form.
        Value::String(text) if chance.below(4) != 0 => {
            *text = if chance.below(6) == 0 {
                "x".repeat(511 + chance.below(3))
            } else {
                (*chance.one(&TEXTS)).to_owned()
            };
        }
        other => *other = odd_value(chance),
    }
}

fn place(chance: &mut Chance, body: &[u8]) -> usize {
    chance.below(body.len() + 1)
}

fn break_bytes(chance: &mut Chance, body: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    let at = place(chance, body);
    match chance.below(9) {
        0 if at < body.len() => body[at] ^= 1 << chance.below(8),
        1 if at < body.len() => body[at] = chance.next().to_be_bytes()[0],
        2 => body.truncate(at),
        3 => {
            let other = chance.one(seeds);
            body.truncate(at);
            body.extend_from_slice(&other[place(chance, other)..]);
        }
        4 => {
            let to = at + chance.below(body.len() - at + 1);
            let copy = body[at..to].to_vec();
            body.splice(at..at, copy);
        }
        5 => drop(body.splice(at..at, chance.one(&RAW).iter().copied())),
        6 => {
            // Behind a brace or a comma a segment is often well-formed.
            let near =
                body[at..].iter().position(|byte| b"{,".contains(byte)).map_or(at, |found| at + found + 1);
            drop(body.splice(near..near, chance.one(&PIECES).bytes()));
        }
        7 => {
            let deep = repeat_n(b'[', 1 + chance.below(400));
            drop(body.splice(at..at, deep));
        }
        _ => {
            let to = at + chance.below(body.len() - at + 1);
            body.drain(at..to);
        }
    }
}

/// A body made from the seeds: half of them still JSON, the rest broken as bytes.
pub(crate) fn mutated(chance: &mut Chance, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut body = chance.one(seeds).clone();
    if let (true, Ok(mut value)) = (chance.below(3) != 0, serde_json::from_slice::<Value>(&body)) {
        (0..=chance.below(2)).for_each(|_| twist(chance, &mut value));
        body = value.to_string().into_bytes();
        if chance.below(4) != 0 {
            return body;
        }
    }
    (0..=chance.below(4)).for_each(|_| break_bytes(chance, &mut body, seeds));
    body
}
