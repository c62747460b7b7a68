//! A page of a list as its handler wrote it, read as far as another form of it needs.
//!
//! The items stay as they were written. A page says where the list goes on: lists by `next_cursor`, which is null on the last
//! page, the feed by `more`, because its cursor is never null.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::errors::ApiError;
use super::items::{CsvRows, ItemMembers, Selection, read, written};

/// The mark that Excel knows UTF-8 by.
const BYTE_ORDER_MARK: &[u8] = "\u{FEFF}".as_bytes();

/// A page of a list.
#[derive(Debug, Deserialize)]
pub(super) struct ExportPage<'a> {
    /// In the order of the list.
    #[serde(borrow)]
    pub(super) items: Vec<&'a RawValue>,
    next_cursor: Option<String>,
    more: Option<bool>,
}

impl<'a> ExportPage<'a> {
    pub(super) fn read(json: &'a [u8]) -> Result<Self, ApiError> {
        serde_json::from_slice(json).map_err(ApiError::internal)
    }

    /// The cursor of the next page; none on the last one.
    pub(super) fn next(&self) -> Option<&str> {
        self.next_cursor.as_deref().filter(|_| self.more != Some(false))
    }
}

/// A page of JSON whose items have fewer fields.
pub(super) fn narrowed_page(json: &[u8], selection: &Selection) -> Result<Vec<u8>, ApiError> {
    let mut page: ItemMembers<'_> = serde_json::from_slice(json).map_err(ApiError::internal)?;
    let items = page.get("items").map(read::<Vec<&RawValue>>).transpose()?.unwrap_or_default();
    let items = items.into_iter().map(|item| selection.json(item)).collect::<Result<Vec<_>, _>>()?;
    let items = written(&items)?;
    for (name, value) in &mut page.0 {
        if name == "items" {
            *value = &items;
        }
    }
    serde_json::to_vec(&page).map_err(ApiError::internal)
}

impl Selection {
    /// Items as rows of CSV; behind a header row at the beginning of the file.
    pub(super) fn table(&self, items: &[&RawValue], is_first: bool, mark: bool) -> Result<Vec<u8>, ApiError> {
        let mut rows = CsvRows::new();
        if is_first {
            self.header(&mut rows)?;
        }
        items.iter().try_for_each(|item| self.row(item, &mut rows))?;
        let rows = rows.into_bytes()?;
        Ok(if is_first && mark { [BYTE_ORDER_MARK, &rows].concat() } else { rows })
    }

    /// Items as lines of JSON.
    pub(super) fn lines(&self, items: &[&RawValue]) -> Result<Vec<u8>, ApiError> {
        let mut lines = Vec::new();
        for item in items {
            lines.extend_from_slice(self.json(item)?.get().as_bytes());
            lines.push(b'\n');
        }
        Ok(lines)
    }
}
