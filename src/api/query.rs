//! Raw path and query → checked values.
//!
//! A parameter that is unknown, comes twice where one value is meant, or cannot be used is an error that names it, its
//! value and what would be right, because a filter that is silently ignored shows a reader too much. Knows no endpoint: a
//! handler lists the names it has, takes each value out, and gets the fingerprint of the list for its cursor.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use sha2::{Digest as _, Sha256};

use super::auth::{Caller, ConfiguredApp};
use super::errors::ApiError;
use crate::model::{ModelError, SdkAppId, storable};

/// The longest free text in bytes: group types, parts of names, values of fields. Tencent's longest has 512.
pub(super) const TEXT_BYTES_MAX: usize = 1_024;

/// How much of a refused value the answer repeats, in characters.
const SHOWN_CHARS_MAX: usize = 80;

/// Parameters outside the fingerprint: those that choose a page of a list, and those whose meaning the handler adds
/// itself, so that leaving one out and naming its default are the same list.
const NOT_IN_FINGERPRINT: [&str; 6] = ["limit", "cursor", "since", "with", "sort", "sdk_app_id"];

/// What a path with a `limit` has beside its own parameters. `export` has taken them before the handler.
const OF_LISTS: [&str; 2] = ["fields", "format"];

/// What every path has beside its own parameters. `at_least` has taken it before the handler.
const OF_ALL: [&str; 1] = ["at_least"];

/// The parameters of a query string, each at most once but for those that may be repeated.
#[derive(Debug, Clone)]
pub(super) struct Query {
    values: BTreeMap<String, String>,
    /// The values of a parameter that may be repeated, and how many were sent.
    repeated: BTreeMap<String, (usize, BTreeSet<String>)>,
    fingerprint: Sha256,
}

impl Query {
    /// Parses a query string. `allowed` lists the names of the path; `name[KEY]` stands for any number of keys in brackets.
    /// Those that every list, or every path, has are allowed as well, and left out here.
    ///
    /// # Errors
    /// `bad_parameter`: a name is unknown or comes twice, or the bytes are not UTF-8.
    pub(super) fn parse(raw: Option<&str>, allowed: &[&str]) -> Result<Self, ApiError> {
        Self::parse_repeating(raw, allowed, &[])
    }

    /// The same, where these of the names may come more than once.
    ///
    /// # Errors
    /// `bad_parameter`, as above.
    pub(super) fn parse_repeating(
        raw: Option<&str>,
        allowed: &[&str],
        repeatable: &[&str],
    ) -> Result<Self, ApiError> {
        let raw = raw.unwrap_or_default();
        let of_lists = OF_LISTS.iter().filter(|_| allowed.contains(&"limit"));
        let common: Vec<&str> = of_lists.chain(&OF_ALL).copied().collect();
        let allowed = [allowed, &common].concat();
        let mut values = BTreeMap::new();
        let mut repeated = BTreeMap::<String, (usize, BTreeSet<String>)>::new();
        for (name, value, pair) in pairs(raw) {
            if is_broken(pair, &name, &value) {
                let shown = shown(&name);
                return Err(ApiError::bad_parameter(format!(
                    "Parameter {shown} is not UTF-8; write it percent-encoded, as in %40TGS%231."
                )));
            }
            if !allowed.iter().any(|known| matches_name(known, &name)) {
                let (shown, list) = (shown(&name), allowed.join(", "));
                return Err(ApiError::bad_parameter(format!(
                    "Unknown parameter {shown}; this path has {list}."
                )));
            }
            if repeatable.contains(&&*name) {
                let (sent, texts) = repeated.entry(name.into_owned()).or_default();
                *sent += 1;
                texts.insert(storable(&value));
                continue;
            }
            // PostgreSQL's text cannot hold U+0000; the mirror stores U+FFFD for it.
            if values.insert(storable(&name), storable(&value)).is_some() {
                let shown = shown(&name);
                return Err(ApiError::bad_parameter(format!("Parameter {shown} comes twice; send it once.")));
            }
        }
        common.iter().for_each(|name| drop(values.remove(*name)));
        let mut fingerprint = Sha256::new();
        for (name, value) in values.iter().filter(|(name, _)| !NOT_IN_FINGERPRINT.contains(&name.as_str())) {
            add(&mut fingerprint, name);
            add(&mut fingerprint, value);
        }
        for (name, (_, texts)) in &repeated {
            add(&mut fingerprint, name);
            // Their number, or a text that reads like the next name would stand for that.
            add(&mut fingerprint, &texts.len().to_string());
            texts.iter().for_each(|text| add(&mut fingerprint, text));
        }
        Ok(Self { values, repeated, fingerprint })
    }

    /// A hash of everything that decides which rows a list has: the filters, and what the handler adds (the app, an id
    /// of the path). Equal requests have equal fingerprints, on every replica.
    #[must_use]
    pub(super) fn fingerprint(&self, more: &[&str]) -> String {
        let mut hash = self.fingerprint.clone();
        for text in more {
            add(&mut hash, text);
        }
        // 64 bits notice a mistake, and a cursor need not resist forgery.
        URL_SAFE_NO_PAD.encode(&hash.finalize()[..8])
    }

    /// The fingerprint of a list without filters.
    #[must_use]
    pub(super) fn fingerprint_of(more: &[&str]) -> String {
        Self { values: BTreeMap::new(), repeated: BTreeMap::new(), fingerprint: Sha256::new() }
            .fingerprint(more)
    }

    /// The text of a parameter.
    pub(super) fn take_text(&mut self, name: &str) -> Option<String> {
        self.values.remove(name)
    }

    /// The parsed value of a parameter. `want` describes what `parse` accepts.
    ///
    /// # Errors
    /// `bad_parameter` where `parse` returns `None`.
    pub(super) fn take<T>(
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
    /// `bad_parameter` with the model's reason.
    pub(super) fn take_model<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, ModelError>,
    ) -> Result<Option<T>, ApiError> {
        let Some(text) = self.take_text(name) else { return Ok(None) };
        parse(&text).map(Some).map_err(|error| bad_model(name, &error))
    }

    /// All values of a parameter that may be repeated, each once; at most `max` may be sent.
    ///
    /// # Errors
    /// `bad_parameter`: there are too many, or one that `parse` refuses.
    fn take_repeated<T>(
        &mut self,
        name: &str,
        max: usize,
        parse: impl Fn(&str) -> Result<T, ApiError>,
    ) -> Result<Vec<T>, ApiError> {
        let (count, texts) = self.repeated.remove(name).unwrap_or_default();
        if count > max {
            return Err(ApiError::bad_parameter(format!(
                "Parameter {name} comes with {count} values; at most {max} are allowed."
            )));
        }
        texts.iter().map(|text| parse(text)).collect()
    }

    /// Ids of the model, each once, at most `max`.
    ///
    /// # Errors
    /// `bad_parameter`: there are too many, or with the model's reason.
    pub(super) fn take_models<T>(
        &mut self,
        name: &str,
        max: usize,
        parse: impl Fn(&str) -> Result<T, ModelError>,
    ) -> Result<Vec<T>, ApiError> {
        self.take_repeated(name, max, |text| parse(text).map_err(|error| bad_model(name, &error)))
    }

    /// Free texts of 1 to [`TEXT_BYTES_MAX`] bytes, each once, at most `max`.
    ///
    /// # Errors
    /// `bad_parameter`: there are too many, or an empty or a longer one.
    pub(super) fn take_free_texts(&mut self, name: &str, max: usize) -> Result<Vec<String>, ApiError> {
        self.take_repeated(name, max, |text| {
            is_free_text(text).then(|| text.to_owned()).ok_or_else(|| bad_value(name, text, &free_text()))
        })
    }

    /// One of a closed list of words.
    ///
    /// # Errors
    /// `bad_parameter` with the list.
    pub(super) fn take_word<T: Copy>(
        &mut self,
        name: &str,
        words: &[(&str, T)],
    ) -> Result<Option<T>, ApiError> {
        self.take_text(name).map(|text| word(name, &text, words)).transpose()
    }

    /// A free text of 1 to [`TEXT_BYTES_MAX`] bytes.
    ///
    /// # Errors
    /// `bad_parameter` for an empty or a longer one.
    pub(super) fn take_free_text(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        self.take(name, &free_text(), |text| is_free_text(text).then(|| text.to_owned()))
    }

    /// A time of RFC 3339.
    ///
    /// # Errors
    /// `bad_parameter` for anything else.
    pub(super) fn take_time(&mut self, name: &str) -> Result<Option<DateTime<Utc>>, ApiError> {
        let want = "a time of RFC 3339 such as 2026-01-01T00:00:00Z (a plus sign is written %2B in a query)";
        self.take(name, want, |text| DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc()))
    }

    /// All of `name[KEY]=VALUE`, at most `max`, sorted by key. An empty value counts.
    ///
    /// # Errors
    /// `bad_parameter`: there are too many, or a key or value is too long.
    pub(super) fn take_keyed<K>(
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
            assert!(found.len() >= name.len() + 2, "a name of the pattern has both brackets");
            let key = &found[name.len() + 1..found.len() - 1];
            let key = parse(key).map_err(|error| {
                ApiError::bad_parameter(format!("Parameter {pattern} cannot be used: {error}."))
            })?;
            Ok((key, value))
        };
        found.into_iter().map(keyed).collect()
    }

    /// The app of `sdk_app_id`, which every path takes, else the caller's, else the first configured one.
    ///
    /// # Errors
    /// `bad_parameter` for anything but an app id, `not_found` for one that the caller may not read.
    pub(super) fn take_app(
        &mut self,
        caller: &Caller,
        configured: ConfiguredApp,
    ) -> Result<SdkAppId, ApiError> {
        caller.app(self.take_model("sdk_app_id", SdkAppId::parse)?, configured)
    }
}

/// One of a closed list of words.
///
/// # Errors
/// `bad_parameter` with the list.
pub(super) fn word<T: Copy>(name: &str, text: &str, words: &[(&str, T)]) -> Result<T, ApiError> {
    let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
    found.ok_or_else(|| {
        let want = words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
        bad_value(name, text, &format!("one of: {want}"))
    })
}

/// An id of the path, percent-decoded.
///
/// # Errors
/// `bad_parameter`: it is not UTF-8, or not an id.
pub(crate) fn path_id<T>(
    path: Result<Path<String>, PathRejection>,
    parse: impl FnOnce(&str) -> Result<T, ModelError>,
) -> Result<T, ApiError> {
    let Path(text) = path.map_err(|_| broken_path())?;
    parse(&text).map_err(|error| bad_path(&error))
}

/// Both ids of a path with two, percent-decoded.
///
/// # Errors
/// `bad_parameter`: one of them is not UTF-8, or not an id.
pub(crate) fn path_ids<A, B>(
    path: Result<Path<(String, String)>, PathRejection>,
    first: impl FnOnce(&str) -> Result<A, ModelError>,
    second: impl FnOnce(&str) -> Result<B, ModelError>,
) -> Result<(A, B), ApiError> {
    let Path((one, other)) = path.map_err(|_| broken_path())?;
    Ok((first(&one).map_err(|error| bad_path(&error))?, second(&other).map_err(|error| bad_path(&error))?))
}

fn broken_path() -> ApiError {
    ApiError::bad_parameter("The id in the path is not UTF-8; write it percent-encoded, as in %40TGS%231.")
}

fn bad_path(error: &ModelError) -> ApiError {
    ApiError::bad_parameter(format!("The id in the path cannot be used: {error}."))
}

/// The parameters, decoded, each with its text in the query.
pub(super) fn pairs(raw: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>, &str)> {
    raw.split('&').filter_map(|pair| {
        let (name, value) = form_urlencoded::parse(pair.as_bytes()).next()?;
        Some((name, value, pair))
    })
}

/// The decoder puts U+FFFD for bytes that are not UTF-8: there are more of them then than the query has itself.
fn is_broken(pair: &str, name: &str, value: &str) -> bool {
    let count = |text: &str, part: &str| text.matches(part).count();
    let decoded = count(name, "\u{FFFD}") + count(value, "\u{FFFD}");
    decoded > count(pair, "\u{FFFD}") + count(&pair.to_ascii_lowercase(), "%ef%bf%bd")
}

fn matches_name(known: &str, name: &str) -> bool {
    match known.strip_suffix("[KEY]") {
        Some(stem) => name.strip_prefix(stem).is_some_and(|key| key.starts_with('[') && key.ends_with(']')),
        None => known == name,
    }
}

fn is_free_text(text: &str) -> bool {
    !text.is_empty() && text.len() <= TEXT_BYTES_MAX
}

fn free_text() -> String {
    format!("a text of 1 to {TEXT_BYTES_MAX} bytes")
}

fn bad_model(name: &str, error: &ModelError) -> ApiError {
    ApiError::bad_parameter(format!("Parameter {name} cannot be used: {error}."))
}

pub(super) fn bad_value(name: &str, value: &str, want: &str) -> ApiError {
    let (name, value) = (shown(name), shown(value));
    ApiError::bad_parameter(format!("Parameter {name} is {value}; it must be {want}."))
}

fn shown(text: &str) -> String {
    let cut: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    if cut.len() < text.len() { format!("\"{cut}…\"") } else { format!("\"{cut}\"") }
}

/// With its length, so that different lists of texts have different hashes.
fn add(hash: &mut Sha256, text: &str) {
    hash.update(text.len().to_be_bytes());
    hash.update(text.as_bytes());
}
