//! Error codes that the fake answers with, and typed access to the bodies of its callers.
//!
//! The codes are documented; their texts are the fake's own. A body is read strictly: a field of another type than the
//! page says is 10004, because a mirror that sends one has a fault that should show.

use serde_json::{Map, Value};

/// A code with its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FakeCode {
    /// `ErrorCode`.
    pub(super) code: i64,
    /// `ErrorInfo`.
    pub(super) info: String,
}

impl FakeCode {
    pub(super) fn new(code: i64, info: impl Into<String>) -> Self {
        Self { code, info: info.into() }
    }

    /// 10004.
    pub(super) fn bad(info: impl Into<String>) -> Self {
        Self::new(10004, info)
    }

    /// 10007.
    pub(super) fn not_for_type() -> Self {
        Self::new(10007, "no permission for this group type")
    }

    /// 10010.
    pub(super) fn gone() -> Self {
        Self::new(10010, "this group does not exist")
    }

    /// 10015.
    pub(super) fn bad_group_id() -> Self {
        Self::new(10015, "group id is invalid")
    }
}

/// The body of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct AskedBody<'a>(pub(super) &'a Map<String, Value>);

impl<'a> AskedBody<'a> {
    fn get(self, key: &str) -> Option<&'a Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    pub(super) fn has(self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// A text that has to be there.
    pub(super) fn text(self, key: &str) -> Result<&'a str, FakeCode> {
        self.optional_text(key)?.ok_or_else(|| FakeCode::bad(format!("{key} is missing")))
    }

    pub(super) fn optional_text(self, key: &str) -> Result<Option<&'a str>, FakeCode> {
        let wrong = || FakeCode::bad(format!("{key} is no text"));
        self.get(key).map(|value| value.as_str().ok_or_else(wrong)).transpose()
    }

    pub(super) fn number(self, key: &str) -> Result<Option<u64>, FakeCode> {
        let wrong = || FakeCode::bad(format!("{key} is no number"));
        self.get(key).map(|value| value.as_u64().ok_or_else(wrong)).transpose()
    }

    pub(super) fn optional_list(self, key: &str) -> Result<Option<&'a [Value]>, FakeCode> {
        let wrong = || FakeCode::bad(format!("{key} is no list"));
        self.get(key).map(|value| value.as_array().map(Vec::as_slice).ok_or_else(wrong)).transpose()
    }

    /// A list of 1 to `max` entries; more are 10005 or 10004.
    pub(super) fn list(self, key: &str, max: usize, too_many: i64) -> Result<&'a [Value], FakeCode> {
        let entries = self.optional_list(key)?.ok_or_else(|| FakeCode::bad(format!("{key} is missing")))?;
        match entries.len() {
            0 => Err(FakeCode::bad(format!("{key} is empty"))),
            len if len > max => Err(FakeCode::new(too_many, format!("{key} has more than {max} entries"))),
            _ => Ok(entries),
        }
    }

    pub(super) fn texts(self, key: &str, max: usize, too_many: i64) -> Result<Vec<&'a str>, FakeCode> {
        let text =
            |value: &'a Value| value.as_str().ok_or_else(|| FakeCode::bad(format!("{key} holds no text")));
        self.list(key, max, too_many)?.iter().map(text).collect()
    }

    /// The names of a filter; `None` where there is no filter.
    pub(super) fn names(self, key: &str) -> Result<Option<Vec<&'a str>>, FakeCode> {
        let Some(entries) = self.optional_list(key)? else { return Ok(None) };
        let text =
            |value: &'a Value| value.as_str().ok_or_else(|| FakeCode::bad(format!("{key} holds no text")));
        entries.iter().map(text).collect::<Result<_, _>>().map(Some)
    }

    /// An object inside the body.
    pub(super) fn object(self, key: &str) -> Result<Option<Self>, FakeCode> {
        let wrong = || FakeCode::bad(format!("{key} is no object"));
        self.get(key).map(|value| value.as_object().map(AskedBody).ok_or_else(wrong)).transpose()
    }

    /// Keys and values; capitals for custom fields, none for attributes.
    pub(super) fn pairs(self, list: &str, key: &str, value: &str) -> Result<Vec<(String, String)>, FakeCode> {
        let entries = self.optional_list(list)?.unwrap_or_default();
        let pair = |entry: &'a Value| {
            let entry =
                AskedBody(entry.as_object().ok_or_else(|| FakeCode::bad(format!("{list} holds no object")))?);
            let value = entry.optional_text(value)?.unwrap_or_default();
            Ok((entry.text(key)?.to_owned(), value.to_owned()))
        };
        entries.iter().map(pair).collect()
    }
}

/// An entry of a list, as an object.
pub(super) fn entry(value: &Value) -> Result<AskedBody<'_>, FakeCode> {
    value.as_object().map(AskedBody).ok_or_else(|| FakeCode::bad("a list holds no object"))
}
