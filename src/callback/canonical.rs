//! The canonical form of a body: the bytes that its digest is made of.
//!
//! A writer of our own, because the form must never change: a digest is stored, and a repeat is known by it. Members in
//! the byte order of their keys, no white space, the shortest escapes, numbers as they were written. A string that was
//! repaired is written by its original bytes, so that two texts that look alike after the repair stay two; such bytes are
//! never the escaped form of a well-formed text.

use crate::json::{Json, JsonObject, JsonText};

/// The canonical form of an object, without one of its members.
pub(super) fn of_object(object: &JsonObject<'_>, without: Option<&str>) -> Vec<u8> {
    let mut out = Vec::new();
    push_object(&mut out, object, without);
    out
}

/// The canonical form of a value.
pub(super) fn of(value: &Json<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    push(&mut out, value);
    out
}

fn push(out: &mut Vec<u8>, value: &Json<'_>) {
    match value {
        Json::Null => out.extend(b"null"),
        Json::Bool(true) => out.extend(b"true"),
        Json::Bool(false) => out.extend(b"false"),
        Json::Number(number) => out.extend(number.bytes()),
        Json::Text(text) => push_text(out, text),
        Json::List(items) => {
            out.push(b'[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                push(out, item);
            }
            out.push(b']');
        }
        Json::Object(object) => push_object(out, object, None),
    }
}

fn push_object(out: &mut Vec<u8>, object: &JsonObject<'_>, without: Option<&str>) {
    out.push(b'{');
    let mut is_first = true;
    for (key, value) in object.members() {
        if key.repaired.is_none() && without == Some(&*key.text) {
            continue;
        }
        if !is_first {
            out.push(b',');
        }
        is_first = false;
        push_text(out, key);
        out.push(b':');
        push(out, value);
    }
    out.push(b'}');
}

fn push_text(out: &mut Vec<u8>, text: &JsonText<'_>) {
    out.push(b'"');
    match text.repaired {
        Some(bytes) => out.extend(bytes),
        None => text.text.bytes().for_each(|byte| push_escaped(out, byte)),
    }
    out.push(b'"');
}

fn push_escaped(out: &mut Vec<u8>, byte: u8) {
    match byte {
        b'"' => out.extend(br#"\""#),
        b'\\' => out.extend(br"\\"),
        8 => out.extend(br"\b"),
        9 => out.extend(br"\t"),
        10 => out.extend(br"\n"),
        12 => out.extend(br"\f"),
        13 => out.extend(br"\r"),
        0..=31 => out.extend(format!("\\u{byte:04x}").bytes()),
        _ => out.push(byte),
    }
}

#[cfg(test)]
mod tests {
    use super::of;
    use crate::json::read;

    fn written(body: &[u8]) -> Vec<u8> {
        read(body).map(|value| of(&value)).unwrap_or_default()
    }

    #[test]
    fn one_content_has_one_form() {
        let cases: [(&[u8], &[u8]); 8] = [
            (b"{ \"b\" : [1, 2 ,{}], \"a\":null }", b"{\"a\":null,\"b\":[1,2,{}]}"),
            (b"{\"a\":1,\"a\":2}", b"{\"a\":2}"),
            (br#""\u0041\/\u00e9\ud83d\ude00""#, "\"A/é😀\"".as_bytes()),
            (br#""\u0000\u001f\u007f\b\t\n\f\r\"\\""#, b"\"\\u0000\\u001f\x7f\\b\\t\\n\\f\\r\\\"\\\\\""),
            (b"123456789012345678901234567890.50e+1000", b"123456789012345678901234567890.50e+1000"),
            (b"\"cut \xe5\\u0041\"", b"\"cut \xe5\\u0041\""),
            (b"{\"B\":true,\"a\":false,\"\":-0}", b"{\"\":-0,\"B\":true,\"a\":false}"),
            (b"\xef\xbb\xbf[]\0", b"[]"),
        ];
        for (body, wanted) in cases {
            let form = written(body);
            assert_eq!(form.escape_ascii().to_string(), wanted.escape_ascii().to_string());
            assert_eq!(written(&form), form, "the form of the form is the form");
        }
        assert_ne!(written(br#""\ud83d""#), written(br#""\ud83e""#), "alike after the repair, and still two");
        assert_ne!(written(br#""\ud83d""#), written("\"\u{fffd}\"".as_bytes()));
    }
}
