//! A JSON reader for bodies as they really come: it accepts all that JSON is, and strings that are not quite.
//!
//! Strict parsers refuse a whole body for one ill-formed character, and turn a number into the nearest that a machine
//! holds. Here a string keeps what can be read of it and remembers that it was repaired, and a number keeps its source
//! text, so that the digest depends on no parser's idea of numbers. What is repaired, and nothing else:
//!
//! - inside a string, each becomes U+FFFD: bytes that are not UTF-8 (cut characters, CESU-8, GBK, Latin-1, binary), a
//!   surrogate escape without its partner, a control character that JSON wants escaped, the backslash of an escape that
//!   JSON does not have;
//! - around the body: a byte order mark before it, NUL bytes behind it.
//!
//! A quote that a text left unescaped, or behind a byte of GBK that looks like a backslash, breaks the body: where the
//! string ends is then not known. Of two equal keys in one object the later one counts, as most parsers have it.

use std::borrow::Cow;
pub(crate) mod strings;

/// How deep arrays and objects may nest; Tencent's bodies have three levels. Deeper is not read: each level takes stack.
const DEPTH_MAX: usize = 256;

/// One JSON value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Json<'a> {
    Null,
    Bool(bool),
    /// As it was written.
    Number(&'a str),
    Text(JsonText<'a>),
    List(Vec<Self>),
    Object(JsonObject<'a>),
}

/// A string, valid Unicode whatever came.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct JsonText<'a> {
    /// What it says; U+FFFD stands for what was ill-formed.
    pub(crate) text: Cow<'a, str>,
    /// The bytes between the quotes, of a string that was repaired.
    pub(crate) repaired: Option<&'a [u8]>,
}

/// The members of an object in the byte order of their keys, each key once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct JsonObject<'a>(Vec<(JsonText<'a>, Json<'a>)>);

impl<'a> JsonObject<'a> {
    fn of(mut members: Vec<(JsonText<'a>, Json<'a>)>) -> Self {
        // Stable, so that of equal keys the later one stands behind and is the one that stays.
        members.sort_by(|(a, _), (b, _)| a.cmp(b));
        members.reverse();
        members.dedup_by(|(later, _), (kept, _)| later == kept);
        members.reverse();
        assert!(members.windows(2).all(|pair| pair[0].0 < pair[1].0), "keys are in order, each once");
        Self(members)
    }

    /// The value of a key. A repaired key is none that is known.
    pub(crate) fn get(&self, key: &str) -> Option<&Json<'a>> {
        let wanted = JsonText { text: Cow::Borrowed(key), repaired: None };
        let at = self.0.binary_search_by(|(held, _)| held.cmp(&wanted)).ok()?;
        Some(&self.0[at].1)
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = &(JsonText<'a>, Json<'a>)> {
        self.0.iter()
    }
}

/// Why bytes are no JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broken<'a> {
    /// The first byte that does not fit.
    pub(crate) at: usize,
    pub(crate) why: &'static str,
    /// What the body said before that, if it is an object.
    pub(crate) read: JsonObject<'a>,
}

/// Reads a body.
///
/// # Errors
/// Bytes that are no JSON even with their strings repaired.
pub(crate) fn read(bytes: &[u8]) -> Result<Json<'_>, Broken<'_>> {
    let at = if bytes.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
    let mut reader = JsonReader { bytes, at, depth: 0, read: Vec::new() };
    let value = reader.value().and_then(|value| {
        reader.skip_space();
        let rest = &reader.bytes[reader.at..];
        if rest.iter().all(|byte| *byte == 0) { Ok(value) } else { Err("something follows the body") }
    });
    let JsonReader { at, read, .. } = reader;
    assert!(at <= bytes.len(), "the reader stays inside the body");
    value.map_err(|why| Broken { at, why, read: JsonObject::of(read) })
}

struct JsonReader<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
    /// Members of the outermost object, where it breaks off.
    read: Vec<(JsonText<'a>, Json<'a>)>,
}

impl<'a> JsonReader<'a> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Skips white space, then one byte if it is this one.
    fn take(&mut self, byte: u8) -> bool {
        self.skip_space();
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn value(&mut self) -> Result<Json<'a>, &'static str> {
        self.skip_space();
        match self.peek() {
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::list),
            Some(b'"') => self.text().map(Json::Text),
            Some(b'-' | b'0'..=b'9') => self.number().map(Json::Number),
            Some(_) => self.word(),
            None => Err("the body ends too early"),
        }
    }

    fn word(&mut self) -> Result<Json<'a>, &'static str> {
        let words: [(&[u8], Json<'a>); 3] =
            [(b"null", Json::Null), (b"true", Json::Bool(true)), (b"false", Json::Bool(false))];
        let rest = &self.bytes[self.at..];
        let found = words.into_iter().find(|(word, _)| rest.starts_with(word));
        let (word, value) = found.ok_or("no value begins like this")?;
        self.at += word.len();
        Ok(value)
    }

    fn nested(
        &mut self,
        read: fn(&mut Self) -> Result<Json<'a>, &'static str>,
    ) -> Result<Json<'a>, &'static str> {
        if self.depth == DEPTH_MAX {
            return Err("it nests too deep");
        }
        self.at += 1;
        self.depth += 1;
        let value = read(self);
        self.depth -= 1;
        value
    }

    fn list(&mut self) -> Result<Json<'a>, &'static str> {
        let mut items = Vec::new();
        if self.take(b']') {
            return Ok(Json::List(items));
        }
        loop {
            items.push(self.value()?);
            if self.take(b']') {
                return Ok(Json::List(items));
            }
            if !self.take(b',') {
                return Err("a list goes on with a comma or ends");
            }
        }
    }

    fn object(&mut self) -> Result<Json<'a>, &'static str> {
        let mut members = Vec::new();
        let read = self.object_members(&mut members);
        if read.is_err() && self.depth == 1 {
            self.read = std::mem::take(&mut members);
        }
        read.map(|()| Json::Object(JsonObject::of(members)))
    }

    fn object_members(&mut self, members: &mut Vec<(JsonText<'a>, Json<'a>)>) -> Result<(), &'static str> {
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            self.skip_space();
            if self.peek() != Some(b'"') {
                return Err("a key must stand here");
            }
            let key = self.text()?;
            if !self.take(b':') {
                return Err("a colon must follow the key");
            }
            let value = self.value()?;
            members.push((key, value));
            if self.take(b'}') {
                return Ok(());
            }
            if !self.take(b',') {
                return Err("an object goes on with a comma or ends");
            }
        }
    }

    fn number(&mut self) -> Result<&'a str, &'static str> {
        let start = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        let whole = self.digits();
        let leading_zero = whole.len() > 1 && whole.starts_with(b"0");
        if whole.is_empty() || leading_zero {
            return Err("this is no number");
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            if self.digits().is_empty() {
                return Err("a digit must follow the point");
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            if self.digits().is_empty() {
                return Err("an exponent has digits");
            }
        }
        std::str::from_utf8(&self.bytes[start..self.at]).map_err(|_| "this is no number")
    }

    fn digits(&mut self) -> &'a [u8] {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        &self.bytes[start..self.at]
    }

    fn text(&mut self) -> Result<JsonText<'a>, &'static str> {
        let start = self.at + 1;
        let mut end = start;
        loop {
            match self.bytes.get(end) {
                Some(b'"') => break,
                Some(b'\\') => end += 2,
                Some(_) => end += 1,
                None => return Err("a text does not end"),
            }
        }
        self.at = end + 1;
        Ok(unescaped(&self.bytes[start..end]))
    }
}

/// What stands between two quotes.
fn unescaped(raw: &[u8]) -> JsonText<'_> {
    let is_plain = raw.iter().all(|byte| *byte >= b' ' && *byte != b'\\');
    if let (true, Ok(text)) = (is_plain, std::str::from_utf8(raw)) {
        return JsonText { text: Cow::Borrowed(text), repaired: None };
    }
    let (mut text, mut is_repaired, mut rest) = (String::with_capacity(raw.len()), false, raw);
    while !rest.is_empty() {
        let plain = rest.iter().position(|byte| *byte == b'\\').unwrap_or(rest.len());
        is_repaired |= push_plain(&mut text, &rest[..plain]);
        rest = &rest[plain..];
        if !rest.is_empty() {
            let (read, length) = escape(rest);
            is_repaired |= read.is_none();
            text.push(read.unwrap_or(char::REPLACEMENT_CHARACTER));
            rest = &rest[length..];
        }
    }
    JsonText { text: Cow::Owned(text), repaired: is_repaired.then_some(raw) }
}

/// Appends bytes without escapes; true if any of them had to be replaced.
fn push_plain(text: &mut String, bytes: &[u8]) -> bool {
    let mut is_repaired = false;
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            let is_bare_control = character < ' ';
            is_repaired |= is_bare_control;
            text.push(if is_bare_control { char::REPLACEMENT_CHARACTER } else { character });
        }
        if !chunk.invalid().is_empty() {
            is_repaired = true;
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
    is_repaired
}

/// The character of an escape, where it is one, and how many bytes it takes.
fn escape(bytes: &[u8]) -> (Option<char>, usize) {
    let simple = match bytes.get(1) {
        Some(byte @ (b'"' | b'\\' | b'/')) => char::from(*byte),
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => return unicode_escape(bytes),
        _ => return (None, 1),
    };
    (Some(simple), 2)
}

fn unicode_escape(bytes: &[u8]) -> (Option<char>, usize) {
    let Some(first) = hex(bytes) else { return (None, 2) };
    if let (0xD800..=0xDBFF, Some(second @ 0xDC00..=0xDFFF)) = (first, hex(&bytes[6..])) {
        let code = 0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00);
        return (char::from_u32(code), 12);
    }
    // None for a surrogate that stands alone.
    (char::from_u32(first), 6)
}

/// The number in `\uXXXX`.
fn hex(bytes: &[u8]) -> Option<u32> {
    let digits = bytes.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().try_fold(0, |number, digit| Some(number * 16 + char::from(*digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(body: &[u8]) -> (String, bool) {
        match read(body) {
            Ok(Json::Text(text)) => (text.text.into_owned(), text.repaired.is_some()),
            other => (format!("{other:?}"), false),
        }
    }

    #[test]
    fn a_string_is_repaired_where_it_is_ill_formed_and_nowhere_else() {
        let cases: [(&[u8], &str, bool); 20] = [
            (b"\"plain\"", "plain", false),
            ("\"\u{fffd} 漢 😀\"".as_bytes(), "\u{fffd} 漢 😀", false),
            (br#""\ud83d\ude00 \u00e9\n\/\\\"""#, "😀 é\n/\\\"", false),
            (br#""\u0000""#, "\0", false),
            (br#""half \ud83d""#, "half \u{fffd}", true),
            (br#""\ude00 low""#, "\u{fffd} low", true),
            (br#""\ud83d\ud83d""#, "\u{fffd}\u{fffd}", true),
            (br#""\ud83d\ud83d\ude00""#, "\u{fffd}😀", true),
            (br#""\ud83dx""#, "\u{fffd}x", true),
            (br#""\ud83d\n""#, "\u{fffd}\n", true),
            (b"\"cut \xe5\x95\"", "cut \u{fffd}", true),
            (b"\"\xff\xfe\"", "\u{fffd}\u{fffd}", true),
            (b"\"caf\xe9\"", "caf\u{fffd}", true),
            (b"\"tab\there\"", "tab\u{fffd}here", true),
            (b"\"line\nbreak\"", "line\u{fffd}break", true),
            (b"\"nul\0\"", "nul\u{fffd}", true),
            (br#""\x41""#, "\u{fffd}x41", true),
            (br#""\u12""#, "\u{fffd}12", true),
            (b"\xef\xbb\xbf\"mark\"", "mark", false),
            (b"\"behind\"\0\0", "behind", false),
        ];
        for (body, wanted, repaired) in cases {
            assert_eq!(text(body), (wanted.to_owned(), repaired), "{}", body.escape_ascii());
        }
        // CESU-8 writes a pair of surrogates as six bytes, none of which is UTF-8.
        assert_eq!(text(b"\"\xed\xa0\xbd\xed\xb8\x80\""), ("\u{fffd}".repeat(6), true));
    }

    #[test]
    fn bytes_that_are_no_json_say_where_and_keep_what_was_read_before() {
        for (body, at) in [
            (&b""[..], 0),
            (b"{\"a\":1,}", 7),
            (b"[1 2]", 3),
            (b"{\"a\" 1}", 5),
            (b"01", 2),
            (b"1.", 2),
            (b"-", 1),
            (b"nul", 0),
            (b"\"a", 0),
            (b"{} x", 3),
        ] {
            assert_eq!(read(body).map_err(|broken| broken.at), Err(at), "{}", body.escape_ascii());
        }
        let cut = read(br#"{"GroupId":"g","List":[{"GroupId":"inner"},"#).unwrap_err();
        assert_eq!(cut.read.members().count(), 1);
        assert!(matches!(cut.read.get("GroupId"), Some(Json::Text(text)) if text.text == "g"));
        assert!(read("[".repeat(DEPTH_MAX + 1).as_bytes()).is_err_and(|broken| broken.at == DEPTH_MAX));
        let nested = "[".repeat(DEPTH_MAX) + &"]".repeat(DEPTH_MAX);
        assert!(read(nested.as_bytes()).is_ok());
    }

    #[test]
    fn of_equal_keys_the_later_counts_and_repaired_keys_stay_apart() {
        let Ok(Json::Object(object)) = read(b"{\"k\":1,\"k\\ud800\":2,\"k\":3,\"k\\udbff\":4,\"\":5}") else {
            unreachable!("an object")
        };
        assert_eq!(object.get("k"), Some(&Json::Number("3")));
        assert_eq!(object.get("k\u{fffd}"), None);
        assert_eq!(object.members().count(), 4);
    }
}
