//! Keyset pagination: the limit, the page, and the cursor of the next page.
//!
//! A page is read after a key and not at an offset: the rows behind the last one seen, and one more than asked for,
//! which shows whether there is a next page. So a deep page costs as much as the first one, and rows that come or go
//! meanwhile shift nothing. A page of long texts ends early (`store::page`). A cursor holds the key of the last row and the scope it is valid for (list, order, filters);
//! with another scope it is refused. It is neither secret nor signed: its key is checked like any other input.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::Ref;
use utoipa::openapi::schema::{Array, ArrayBuilder};

use super::errors::ApiError;
use super::query::Query;
use crate::model::UserId;
use crate::store::page::PageRows;

/// The format of cursors; it grows when a cursor of an older version can no longer be read.
pub(crate) const CURSOR_VERSION: u8 = 1;

/// The longest cursor in bytes: an id of 512 bytes, of which JSON escapes each to six at worst, and a third more for
/// base64.
pub(super) const CURSOR_BYTES_MAX: usize = 6_000;

/// How many items a page holds at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limit(u16);

impl Limit {
    /// Without the parameter.
    pub(super) const DEFAULT: u16 = 50;
    /// The greatest: a page of so many groups with all their fields and attributes has about half a megabyte.
    pub(super) const MAX: u16 = 500;

    /// From the parameter `limit`: 1 to `max`.
    ///
    /// # Errors
    /// `bad_parameter` for anything else.
    pub(super) fn take(query: &mut Query, max: u16) -> Result<Self, ApiError> {
        let want = format!("a whole number from 1 to {max}");
        let limit = query.take("limit", &want, |text| {
            text.parse::<u16>().ok().filter(|limit| (1..=max).contains(limit)).map(Self)
        })?;
        Ok(limit.unwrap_or(Self(Self::DEFAULT.min(max))))
    }

    /// How many items a page has at most.
    #[must_use]
    pub(super) fn items(self) -> usize {
        usize::from(self.0)
    }

    /// How many rows to read: one more than the page has, which shows whether there is a next page.
    #[must_use]
    pub(super) fn rows(self) -> i64 {
        i64::from(self.0) + 1
    }

    /// The key of the last row of the page, where the rows that were read go on behind it.
    pub(super) fn last_of<K>(self, keys: &[K]) -> Option<&K> {
        keys.get(self.items().checked_sub(1)?).filter(|_| keys.len() > self.items())
    }
}

/// What a cursor is valid for: one list in one order with one set of filters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CursorScope {
    /// The list, with its order where it has several.
    pub list: &'static str,
    /// The fingerprint of app, path and filters; see [`Query::fingerprint`].
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

impl CursorScope {
    /// The key in the parameter `cursor`; `None` without the parameter.
    ///
    /// # Errors
    /// `bad_cursor`: the text is not a cursor of this service, or one of another scope.
    pub(super) fn take_after<K: DeserializeOwned>(&self, query: &mut Query) -> Result<Option<K>, ApiError> {
        query.take_text("cursor").map(|text| self.read(&text)).transpose()
    }

    /// The id in the parameter `cursor` of a list in the order of ids, checked as ids are: the database would refuse
    /// some texts that a forged cursor can hold.
    ///
    /// # Errors
    /// `bad_cursor`, as above.
    pub(super) fn take_after_id(&self, query: &mut Query) -> Result<Option<String>, ApiError> {
        let Some(id) = self.take_after::<String>(query)? else { return Ok(None) };
        // Group, user and topic ids share one rule.
        let id = UserId::parse(&id)
            .map_err(|_| ApiError::bad_cursor("This cursor names an id that no row can have."))?;
        Ok(Some(id.as_str().to_owned()))
    }

    /// The key in a cursor.
    ///
    /// # Errors
    /// `bad_cursor`, as above.
    pub(super) fn read<K: DeserializeOwned>(&self, text: &str) -> Result<K, ApiError> {
        let garbage = || {
            ApiError::bad_cursor(
                "This is no cursor of this service; send next_cursor of a page unchanged, or no cursor to start.",
            )
        };
        if text.len() > CURSOR_BYTES_MAX {
            return Err(garbage());
        }
        let json = URL_SAFE_NO_PAD.decode(text).map_err(|_| garbage())?;
        let cursor: Cursor<serde_json::Value> = serde_json::from_slice(&json).map_err(|_| garbage())?;
        if cursor.v != CURSOR_VERSION || cursor.list != self.list || cursor.filters != self.filters {
            return Err(ApiError::bad_cursor(
                "This cursor belongs to another list, order or filter; keep all parameters but limit while you \
                 follow a cursor, or start again without it.",
            ));
        }
        serde_json::from_value(cursor.after).map_err(|_| garbage())
    }

    /// The cursor of the page after a key.
    ///
    /// # Errors
    /// `internal`: the key cannot be serialized.
    pub(super) fn cursor<K: Serialize>(&self, after: K) -> Result<String, ApiError> {
        let cursor =
            Cursor { v: CURSOR_VERSION, list: self.list.to_owned(), filters: self.filters.clone(), after };
        serde_json::to_vec(&cursor).map(|json| URL_SAFE_NO_PAD.encode(json)).map_err(ApiError::internal)
    }
}

/// One page of a list. A page with a `next_cursor` is full, unless its items are long (4 MiB of texts end a page), or the list
/// says that it may be shorter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Page<T> {
    /// In the order of the list; at most `limit`.
    #[schema(schema_with = items::<T>)]
    pub items: Vec<T>,
    /// The `cursor` of the next page; null on the last one.
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// The page of these rows. `key` is the cursor key of a row, `view` what a reader sees of it.
    ///
    /// # Errors
    /// `internal`: a key cannot be serialized.
    pub(super) fn of<R, K: Serialize>(
        PageRows { rows, more }: PageRows<R>,
        scope: &CursorScope,
        key: impl FnOnce(&R) -> K,
        view: impl FnMut(R) -> T,
    ) -> Result<Self, ApiError> {
        assert!(!more || !rows.is_empty(), "a list that goes on has shown a row");
        let last = rows.last().filter(|_| more);
        let next_cursor = last.map(|row| scope.cursor(key(row))).transpose()?;
        Ok(Self { items: rows.into_iter().map(view).collect(), next_cursor })
    }
}

/// By reference: the derived schema would repeat the schema of the items in each list.
pub(super) fn items<T: ToSchema>() -> Array {
    ArrayBuilder::new().items(Ref::from_schema_name(T::name())).max_items(Some(Limit::MAX.into())).build()
}
