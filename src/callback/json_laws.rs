//! The JSON reader held against `serde_json`, as a second opinion on generated values and on mutated bytes.
//!
//! Two laws: what a strict parser accepts, the reader reads alike; what the reader accepts and the strict parser refuses
//! was repaired in one of the ways that the head of `json` lists.

use proptest::prelude::*;
use serde_json::Value;

use crate::json::{Json, JsonText, read};

/// A generated JSON value: shallow, with short texts in which quotes, escapes and non-ASCII characters are frequent.
fn value() -> impl Strategy<Value = Value> {
    let text = "[a-c\"\\\\/\u{0}-\u{1f}äß漢😀]{0,6}";
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_filter("JSON has no NaN", |number| number.is_finite()).prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(text, inner, 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn is_same(ours: &Json<'_>, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Json::Null, Value::Null) => true,
        (Json::Bool(ours), Value::Bool(theirs)) => ours == theirs,
        (Json::Number(ours), Value::Number(_)) => {
            serde_json::from_str::<Value>(ours).is_ok_and(|ours| ours == *theirs)
        }
        (Json::Text(ours), Value::String(theirs)) => is_same_text(ours, theirs),
        (Json::List(ours), Value::Array(theirs)) => {
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(ours, theirs)| is_same(ours, theirs))
        }
        (Json::Object(ours), Value::Object(theirs)) => {
            ours.members().count() == theirs.len()
                && ours.members().all(|(key, ours)| {
                    theirs
                        .get(&*key.text)
                        .is_some_and(|theirs| is_same_text(key, &key.text) && is_same(ours, theirs))
                })
        }
        _ => false,
    }
}

fn is_same_text(ours: &JsonText<'_>, theirs: &str) -> bool {
    ours.text == theirs && ours.repaired.is_none()
}

fn is_repaired(json: &Json<'_>) -> bool {
    match json {
        Json::Text(text) => text.repaired.is_some(),
        Json::List(list) => list.iter().any(is_repaired),
        Json::Object(object) => {
            object.members().any(|(key, value)| key.repaired.is_some() || is_repaired(value))
        }
        Json::Null | Json::Bool(_) | Json::Number(_) => false,
    }
}

/// Checks both laws on some bytes.
fn check(bytes: &[u8]) -> Result<(), TestCaseError> {
    let (ours, theirs) = (read(bytes), serde_json::from_slice::<Value>(bytes));
    match (&ours, &theirs) {
        (Ok(ours), Ok(theirs)) => prop_assert!(is_same(ours, theirs), "{ours:?} {theirs:?}"),
        // The strict parser computes with numbers, and refuses those that no machine holds.
        (Ok(_), Err(error)) if error.to_string().contains("number out of range") => {}
        (Ok(ours), Err(error)) => {
            let is_framed = bytes.starts_with(b"\xef\xbb\xbf") || bytes.ends_with(b"\0");
            // Of two equal keys the earlier value is gone, and with it what was repaired in it.
            let has_lost = std::str::from_utf8(bytes).is_err()
                || error.to_string().contains("control character")
                || error.to_string().contains("surrogate")
                || error.to_string().contains("escape");
            prop_assert!(
                is_repaired(ours) || is_framed || has_lost,
                "accepted unrepaired: {error}: {ours:?}"
            );
        }
        (Err(broken), Ok(theirs)) => {
            prop_assert!(false, "refused at {}: {}: {theirs}", broken.at, broken.why);
        }
        (Err(_), Err(_)) => {}
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_a_strict_parser_writes_is_read_alike(value in value(), pretty in any::<bool>()) {
        let text = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) };
        let text = text.map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert!(read(&text).is_ok(), "{value}");
        check(&text)?;
    }

    #[test]
    fn mutated_bytes_are_read_as_a_strict_parser_does_or_repaired(
        value in value(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..6),
    ) {
        let mut bytes = serde_json::to_vec(&value).map_err(|error| TestCaseError::fail(error.to_string()))?;
        for (at, byte, what) in changes {
            let at = at.index(bytes.len() + 1);
            match what {
                0 => bytes.insert(at, byte),
                1 => bytes.insert(at, b"\"\\,:{}[]0eE-. \n"[usize::from(byte) % 16 % 15]),
                2 if at < bytes.len() => bytes[at] = byte,
                _ if at < bytes.len() => drop(bytes.remove(at)),
                _ => {}
            }
            if bytes.is_empty() {
                break;
            }
        }
        check(&bytes)?;
    }
}
