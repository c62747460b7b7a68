//! The query of a page about a group, a person or a moment: what a reader asks for, by names.
//!
//! A page is lenient where the API is strict: a name that it does not know is left alone, because people shorten and mend
//! addresses by hand. A value that cannot be what it should be is refused with its name all the same: to ignore it would show
//! something else than was asked for. Times are read in the zone of the reader.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};

use super::zone::Zone;
use crate::api::errors::ApiError;
use crate::model::{Digest, UserId, storable};
use crate::store::history::HistoryCursorKey;

/// The longest value that is read, in bytes: an id of the greatest length fits twice.
const VALUE_BYTES_MAX: usize = 1_024;

/// What a reader asks for.
#[derive(Debug, Clone)]
pub(super) struct AskedPage {
    pairs: BTreeMap<String, String>,
    zone: Zone,
}

impl AskedPage {
    /// Of the query of an address; the first value of each name counts, and an empty one as none, because that is what a form
    /// sends for a field that is left empty.
    pub(super) fn of(query: Option<&str>, zone: Zone) -> Self {
        let mut pairs = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            let value = storable(value.trim());
            if !value.is_empty() && value.len() <= VALUE_BYTES_MAX {
                pairs.entry(name.into_owned()).or_insert(value);
            }
        }
        Self { pairs, zone }
    }

    /// A value as it is.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.pairs.get(name).map(String::as_str)
    }

    /// A moment.
    ///
    /// # Errors
    /// `bad_parameter`: it is none.
    pub(super) fn time(&self, name: &str) -> Result<Option<DateTime<Utc>>, ApiError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let time = self.zone.read(text);
        time.map(Some).ok_or_else(|| {
            ApiError::bad_parameter(format!(
                "Parameter {name} has to be a time such as 2026-11-11 20:00 or 2026-11-11T20:00:00Z."
            ))
        })
    }

    /// A user.
    ///
    /// # Errors
    /// `bad_parameter`: no user can have this id.
    pub(super) fn user(&self, name: &str) -> Result<Option<UserId>, ApiError> {
        let user = self.text(name).map(UserId::parse).transpose();
        user.map_err(|error| ApiError::bad_parameter(format!("Parameter {name} cannot be used: {error}.")))
    }

    /// The entry behind which a page goes on, as [`place_text`] writes it.
    ///
    /// # Errors
    /// `bad_cursor`.
    pub(super) fn place(&self, name: &str) -> Result<Option<HistoryCursorKey>, ApiError> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let place = text.split_once('.').and_then(|(time, digest)| {
            let digest = URL_SAFE_NO_PAD.decode(digest).ok()?;
            Digest::from_bytes(&digest)?;
            Some((time.parse().ok()?, digest))
        });
        place.map(Some).ok_or_else(|| ApiError::bad_cursor("This address names no place in a list."))
    }
}

/// The key of an entry as addresses have it.
pub(super) fn place_text((time_ms, digest): &HistoryCursorKey) -> String {
    format!("{time_ms}.{}", URL_SAFE_NO_PAD.encode(digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(query: &str) -> AskedPage {
        AskedPage::of(Some(query), Zone::of_name("Asia/Tokyo").unwrap())
    }

    #[test]
    fn the_first_value_counts_and_an_empty_one_as_none() {
        let asked = asked("a=1&a=2&b=&c=+&d=%00x&utm_source=mail");
        assert_eq!(asked.text("a"), Some("1"));
        assert_eq!((asked.text("b"), asked.text("c")), (None, None));
        assert_eq!(asked.text("d"), Some("\u{FFFD}x"), "PostgreSQL takes no U+0000");
        assert_eq!(AskedPage::of(None, Zone::UTC).text("a"), None);
        let long = "x".repeat(VALUE_BYTES_MAX + 1);
        assert_eq!(AskedPage::of(Some(&format!("q={long}")), Zone::UTC).text("q"), None);
    }

    #[test]
    fn times_are_read_in_the_zone_of_the_reader_and_nonsense_is_refused() {
        let time = asked("at=2026-11-11+20:00").time("at").unwrap().unwrap();
        assert_eq!(time.to_rfc3339(), "2026-11-11T11:00:00+00:00");
        assert!(asked("").time("at").unwrap().is_none());
        assert!(asked("at=yesterday").time("at").is_err());
    }

    #[test]
    fn a_place_in_a_list_survives_its_address() {
        let key = (-5, vec![7; 16]);
        let text = place_text(&key);
        assert_eq!(asked(&format!("behind={text}")).place("behind").unwrap(), Some(key));
        for text in ["", "x", "1.", "1.AAAA", "x.AAAA", "1"] {
            let found = asked(&format!("behind={text}")).place("behind");
            assert!(found.is_err() || text.is_empty(), "{text}");
        }
    }
}
