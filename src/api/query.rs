//! Raw path and query → checked values. A parameter that is not known, comes twice or cannot be used is an error that
//! names it, its value and what would be right: a filter that is silently ignored shows a reader too much.
//!
//! Knows nothing of single endpoints. A handler says which names it has, takes each value out, and gets the
//! fingerprint of what is left of the request for its cursor.

use std::collections::BTreeMap;

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use sha2::{Digest as _, Sha256};

use super::errors::ApiError;
use crate::model::{ModelError, SdkAppId, storable};

/// The longest free text in bytes: group types, parts of names, values of fields. Tencent's longest is 512.
pub(super) const TEXT_BYTES_MAX: usize = 1_024;

/// How much of a refused value is repeated in the answer, in characters.
const SHOWN_CHARS_MAX: usize = 80;

/// Parameters that do not count for the fingerprint: those that choose a page and not a list, and those that the
/// caller adds as what they mean, given or not.
const NOT_OF_THE_LIST: [&str; 6] = ["limit", "cursor", "since", "with", "sort", "sdk_app_id"];

/// The parameters of a query string, each at most once.
#[derive(Debug, Clone)]
pub struct Query {
    values: BTreeMap<String, String>,
    fingerprint: Sha256,
}

impl Query {
    /// Reads a query string. `allowed` lists all names; `name[KEY]` stands for any number of keys in brackets.
    ///
    /// # Errors
    /// `bad_parameter` for a name that is not allowed or comes twice, or for bytes that are no UTF-8.
    pub fn parse(raw: Option<&str>, allowed: &[&str]) -> Result<Self, ApiError> {
        let raw = raw.unwrap_or_default();
        let mut values = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(raw.as_bytes()) {
            if is_broken(raw, &name) || is_broken(raw, &value) {
                let shown = shown(&name);
                return Err(ApiError::bad_parameter(format!(
                    "Parameter {shown} is no UTF-8; write it percent-encoded, as in %40TGS%231."
                )));
            }
            if !allowed.iter().any(|known| matches_name(known, &name)) {
                let (shown, list) = (shown(&name), allowed.join(", "));
                return Err(ApiError::bad_parameter(format!(
                    "Unknown parameter {shown}; this path has {list}."
                )));
            }
            // U+0000 stands in no table; the mirror stores it as U+FFFD.
            if values.insert(storable(&name), storable(&value)).is_some() {
                let shown = shown(&name);
                return Err(ApiError::bad_parameter(format!("Parameter {shown} comes twice; send it once.")));
            }
        }
        let mut fingerprint = Sha256::new();
        for (name, value) in values.iter().filter(|(name, _)| !NOT_OF_THE_LIST.contains(&name.as_str())) {
            add(&mut fingerprint, name);
            add(&mut fingerprint, value);
        }
        Ok(Self { values, fingerprint })
    }

    /// Of everything that decides which rows a list has: the filters, and what the caller adds (the app, an id of the
    /// path). Equal requests have equal fingerprints, on every replica.
    #[must_use]
    pub fn fingerprint(&self, more: &[&str]) -> String {
        let mut hash = self.fingerprint.clone();
        for text in more {
            add(&mut hash, text);
        }
        // 64 bits are enough to notice a mistake, and a cursor need not resist more than that.
        URL_SAFE_NO_PAD.encode(&hash.finalize()[..8])
    }

    /// The fingerprint of a list without filters, for what is added: as if a request had asked for it.
    #[must_use]
    pub fn fingerprint_of(more: &[&str]) -> String {
        Self { values: BTreeMap::new(), fingerprint: Sha256::new() }.fingerprint(more)
    }

    /// The text of a parameter, as it is.
    pub fn take_text(&mut self, name: &str) -> Option<String> {
        self.values.remove(name)
    }

    /// The value of a parameter. `want` says what `parse` accepts.
    ///
    /// # Errors
    /// `bad_parameter` where `parse` gives `None`.
    pub fn take<T>(
        &mut self,
        name: &str,
        want: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, ApiError> {
        let Some(text) = self.take_text(name) else { return Ok(None) };
        parse(&text).map(Some).ok_or_else(|| bad_value(name, &text, want))
    }

    /// An id or a number of the model.
    ///
    /// # Errors
    /// `bad_parameter` with what the model says.
    pub fn take_model<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, ModelError>,
    ) -> Result<Option<T>, ApiError> {
        let Some(text) = self.take_text(name) else { return Ok(None) };
        parse(&text)
            .map(Some)
            .map_err(|error| ApiError::bad_parameter(format!("Parameter {name} cannot be used: {error}.")))
    }

    /// One of a closed list of words.
    ///
    /// # Errors
    /// `bad_parameter` with the list.
    pub fn take_word<T: Copy>(&mut self, name: &str, words: &[(&str, T)]) -> Result<Option<T>, ApiError> {
        let want = words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
        self.take(name, &format!("one of: {want}"), |text| {
            words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value)
        })
    }

    /// A free text of 1 to 1,024 bytes.
    ///
    /// # Errors
    /// `bad_parameter` for an empty or a longer one.
    pub fn take_free_text(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        let want = format!("a text of 1 to {TEXT_BYTES_MAX} bytes");
        self.take(name, &want, |text| {
            (!text.is_empty() && text.len() <= TEXT_BYTES_MAX).then(|| text.to_owned())
        })
    }

    /// A moment.
    ///
    /// # Errors
    /// `bad_parameter` unless it is one of RFC 3339.
    pub fn take_time(&mut self, name: &str) -> Result<Option<DateTime<Utc>>, ApiError> {
        let want = "a time of RFC 3339 such as 2026-01-01T00:00:00Z (a plus sign is written %2B in a query)";
        self.take(name, want, |text| DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc()))
    }

    /// All of `name[KEY]=VALUE`, at most `max`, sorted by key. An empty value is a value.
    ///
    /// # Errors
    /// `bad_parameter` for too many, or a key or value that is too long.
    pub fn take_keyed<K>(
        &mut self,
        name: &str,
        max: usize,
        parse: impl Fn(&str) -> Result<K, ModelError>,
    ) -> Result<Vec<(K, String)>, ApiError> {
        let pattern = format!("{name}[KEY]");
        let found = self.values.extract_if(.., |found, _| matches_name(&pattern, found)).collect::<Vec<_>>();
        if found.len() > max {
            let count = found.len();
            return Err(ApiError::bad_parameter(format!(
                "Parameter {pattern} comes with {count} keys; at most {max} are allowed."
            )));
        }
        let keyed = |(found, value): (String, String)| {
            if value.len() > TEXT_BYTES_MAX {
                return Err(bad_value(&found, &value, &format!("a text of up to {TEXT_BYTES_MAX} bytes")));
            }
            let key = found.get(name.len() + 1..found.len() - 1).unwrap_or_default();
            let key = parse(key).map_err(|error| {
                ApiError::bad_parameter(format!("Parameter {pattern} cannot be used: {error}."))
            })?;
            Ok((key, value))
        };
        found.into_iter().map(keyed).collect()
    }

    /// The app of `sdk_app_id`, which every path has, else the configured one.
    ///
    /// # Errors
    /// `bad_parameter` unless it is an app id.
    pub fn take_app(&mut self, configured: SdkAppId) -> Result<SdkAppId, ApiError> {
        Ok(self.take_model("sdk_app_id", SdkAppId::parse)?.unwrap_or(configured))
    }
}

/// An id of the path, percent-decoded.
///
/// # Errors
/// `bad_parameter` where it is no UTF-8, or no id.
pub(super) fn path_id<T>(
    path: Result<Path<String>, PathRejection>,
    parse: impl FnOnce(&str) -> Result<T, ModelError>,
) -> Result<T, ApiError> {
    let Path(text) = path.map_err(|_| {
        ApiError::bad_parameter("The id in the path is no UTF-8; write it percent-encoded, as in %40TGS%231.")
    })?;
    parse(&text)
        .map_err(|error| ApiError::bad_parameter(format!("The id in the path cannot be used: {error}.")))
}

/// Decoding puts U+FFFD for what is no UTF-8; a query that holds this character itself says so.
fn is_broken(raw: &str, decoded: &str) -> bool {
    let replaced = decoded.contains('\u{FFFD}');
    replaced && !raw.contains('\u{FFFD}') && !raw.to_ascii_lowercase().contains("%ef%bf%bd")
}

fn matches_name(known: &str, name: &str) -> bool {
    match known.strip_suffix("[KEY]") {
        Some(stem) => name.strip_prefix(stem).is_some_and(|key| key.starts_with('[') && key.ends_with(']')),
        None => known == name,
    }
}

fn bad_value(name: &str, value: &str, want: &str) -> ApiError {
    let (name, value) = (shown(name), shown(value));
    ApiError::bad_parameter(format!("Parameter {name} is {value}; it must be {want}."))
}

fn shown(text: &str) -> String {
    let cut: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    if cut.len() < text.len() { format!("\"{cut}…\"") } else { format!("\"{cut}\"") }
}

/// With its length, so that two texts cannot run into each other.
fn add(hash: &mut Sha256, text: &str) {
    hash.update(text.len().to_be_bytes());
    hash.update(text.as_bytes());
}
