//! Lists in pages: the limit, the page and the cursor that leads to the next one.
//!
//! A page is read after a key, not at an offset: the rows after the last one seen, one more than asked for to know
//! whether there are more. A cursor holds that key and belongs to one list, one order and one set of filters; used
//! with another it is refused. It is no secret and no proof: what it says is checked like any other input.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::Ref;
use utoipa::openapi::schema::{Array, ArrayBuilder};

use super::errors::ApiError;
use super::query::Query;

/// Changes when older cursors cannot be read any more.
const CURSOR_VERSION: u8 = 1;

/// The longest cursor in bytes: one id of 512 bytes, each written as six in JSON, and a third more in base64.
pub(super) const CURSOR_BYTES_MAX: usize = 6_000;

/// How many items a page holds at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit(u16);

impl Limit {
    /// Where none was asked for.
    pub const DEFAULT: u16 = 50;
    /// The greatest; a page of groups with all their fields and attributes has then about half a megabyte.
    pub const MAX: u16 = 500;

    /// From the parameter `limit`: 1 to `max`.
    ///
    /// # Errors
    /// `bad_parameter` for anything else.
    pub fn take(query: &mut Query, max: u16) -> Result<Self, ApiError> {
        let want = format!("a whole number from 1 to {max}");
        let limit = query.take("limit", &want, |text| {
            text.parse::<u16>().ok().filter(|limit| (1..=max).contains(limit)).map(Self)
        })?;
        Ok(limit.unwrap_or(Self(Self::DEFAULT.min(max))))
    }

    /// How many items a page has at most.
    #[must_use]
    pub fn items(self) -> usize {
        usize::from(self.0)
    }

    /// The last key of the page among those of the rows that were read, if there are more rows than that.
    pub(super) fn last_of<K>(self, keys: &[K]) -> Option<&K> {
        keys.get(self.items().checked_sub(1)?).filter(|_| keys.len() > self.items())
    }

    /// How many rows to read: one more, to see whether there is a next page.
    #[must_use]
    pub fn rows(self) -> i64 {
        i64::from(self.0) + 1
    }
}

/// What a cursor is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The list, with its order where it has several.
    pub name: &'static str,
    /// Of app, path and filters; see [`Query::fingerprint`].
    pub filters: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cursor<K> {
    v: u8,
    list: String,
    filters: String,
    after: K,
}

impl Listing {
    /// The key in the parameter `cursor`; `None` where there is no such parameter.
    ///
    /// # Errors
    /// `bad_cursor`: not one of ours, or of another list, order or filter.
    pub fn take_after<K: DeserializeOwned>(&self, query: &mut Query) -> Result<Option<K>, ApiError> {
        query.take_text("cursor").map(|text| self.read(&text)).transpose()
    }

    /// The key in a cursor.
    ///
    /// # Errors
    /// `bad_cursor`, as above.
    pub(super) fn read<K: DeserializeOwned>(&self, text: &str) -> Result<K, ApiError> {
        let garbage = || {
            ApiError::bad_cursor(
                "This is no cursor of this service; send next_cursor of a page as it came, or none to start.",
            )
        };
        if text.len() > CURSOR_BYTES_MAX {
            return Err(garbage());
        }
        let json = URL_SAFE_NO_PAD.decode(text).map_err(|_| garbage())?;
        let cursor: Cursor<serde_json::Value> = serde_json::from_slice(&json).map_err(|_| garbage())?;
        if cursor.v != CURSOR_VERSION || cursor.list != self.name || cursor.filters != self.filters {
            return Err(ApiError::bad_cursor(
                "This cursor belongs to another list, order or filter; keep all parameters but limit while you \
                 follow a cursor, or start again without it.",
            ));
        }
        serde_json::from_value(cursor.after).map_err(|_| garbage())
    }

    /// The cursor that leads on behind a key.
    ///
    /// # Errors
    /// `internal`, where the key cannot be written.
    pub fn cursor<K: Serialize>(&self, after: K) -> Result<String, ApiError> {
        let cursor =
            Cursor { v: CURSOR_VERSION, list: self.name.to_owned(), filters: self.filters.clone(), after };
        serde_json::to_vec(&cursor).map(|json| URL_SAFE_NO_PAD.encode(json)).map_err(ApiError::internal)
    }
}

/// One page of a list. Only where a list says so may a page be short and lead on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Page<T> {
    /// In the order of the list; at most as many as asked for.
    #[schema(schema_with = items::<T>)]
    pub items: Vec<T>,
    /// Leads to the next page; null on the last one.
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// A page of up to [`Limit::rows`] rows that were read; `key` gives the place of a row.
    ///
    /// # Errors
    /// `internal`, where a key cannot be written.
    pub fn of<R: Into<T>, K: Serialize>(
        mut rows: Vec<R>,
        limit: Limit,
        listing: &Listing,
        key: impl FnOnce(&R) -> K,
    ) -> Result<Self, ApiError> {
        let more = rows.len() > usize::from(limit.0);
        rows.truncate(usize::from(limit.0));
        let last = rows.last().filter(|_| more);
        let next_cursor = last.map(|row| listing.cursor(key(row))).transpose()?;
        Ok(Self { items: rows.into_iter().map(Into::into).collect(), next_cursor })
    }
}

/// By name: the derived schema would repeat that of the items in each list.
fn items<T: ToSchema>() -> Array {
    ArrayBuilder::new().items(Ref::from_schema_name(T::name())).max_items(Some(Limit::MAX.into())).build()
}
