//! Ledger entries of an app over all its groups as lines of a page: everything in a stretch of time, or everything about one
//! person.
//!
//! The store reads in the order of time, newest first, and bounds what it searches; a kind of event that no command stands for
//! alone is sieved here once the body is decoded, so that a page may be short and still go on.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::asked::AskedPage;
use super::deed::Deed;
use super::entry_line::EntryLine;
use crate::api::body_pages::{PAGE_BODY_BYTES_MAX, body_page};
use crate::api::errors::ApiError;
use crate::api::state::ApiState;
use crate::model::Digest;
use crate::store::ReadConnection;
use crate::store::app_history::{self, AppHistoryFilter, AppHistoryKey, AppHistoryPage};
use crate::store::history::SEARCHED_ROWS_MAX;

/// A page of entries of several groups.
#[derive(Debug, Clone, Default)]
pub(super) struct AppEntries {
    /// Newest first.
    pub(super) lines: Vec<EntryLine>,
    /// Behind which entry the list goes on.
    pub(super) next: Option<AppHistoryKey>,
    /// From when on the history is whole, Unix milliseconds; none: nothing was pruned.
    pub(super) whole_since: Option<i64>,
}

/// Reads at most `rows_max` entries that match, and are of this kind where one is given.
///
/// # Errors
/// Those of the read.
pub(super) async fn read(
    state: &ApiState,
    mut filter: AppHistoryFilter,
    deed: Option<Deed>,
    rows_max: usize,
    with_address: bool,
) -> Result<AppEntries, ApiError> {
    if let Some(command) = deed.and_then(Deed::command) {
        filter.command = Some(command.to_owned());
    }
    let searched = if deed.is_some() { SEARCHED_ROWS_MAX } else { rows_max };
    let read = async move |mut connection: ReadConnection| {
        app_history::page(&mut connection, &filter, searched, PAGE_BODY_BYTES_MAX).await
    };
    let show = move |read: AppHistoryPage| Ok(sieved(read, deed, rows_max, with_address));
    body_page(state, read, show).await
}

fn sieved(read: AppHistoryPage, deed: Option<Deed>, rows_max: usize, with_address: bool) -> AppEntries {
    let AppHistoryPage { rows, mut next, whole_since } = read;
    let (mut lines, mut last) = (Vec::new(), None);
    for row in rows {
        if lines.len() == rows_max {
            next = last;
            break;
        }
        let line = EntryLine::of(row.entry, with_address);
        last = Some(key_of(&line));
        if deed.is_none_or(|deed| line.deed == deed) {
            lines.push(line);
        }
    }
    assert!(lines.len() <= rows_max, "a page keeps its limit");
    AppEntries { lines, next, whole_since }
}

/// The key of a line in the history of its app.
pub(super) fn key_of(line: &EntryLine) -> AppHistoryKey {
    let (time_ms, digest) = line.key.clone();
    AppHistoryKey { time_ms, digest, group: line.group.clone() }
}

/// The key that lies behind every entry at a moment or later, and ahead of every earlier one.
pub(super) fn before(time_ms: i64) -> AppHistoryKey {
    AppHistoryKey { time_ms, digest: Vec::new(), group: String::new() }
}

/// The entry behind which a page goes on, as [`app_place_text`] writes it.
///
/// # Errors
/// `bad_cursor`.
pub(super) fn app_place(asked: &AskedPage, name: &str) -> Result<Option<AppHistoryKey>, ApiError> {
    let Some(text) = asked.text(name) else { return Ok(None) };
    let place = text.split_once('.').and_then(|(time, rest)| {
        let (digest, group) = rest.split_once('.')?;
        let digest = URL_SAFE_NO_PAD.decode(digest).ok()?;
        Digest::from_bytes(&digest)?;
        let group = String::from_utf8(URL_SAFE_NO_PAD.decode(group).ok()?).ok()?;
        let is_storable = !group.contains('\0');
        is_storable.then_some(AppHistoryKey { time_ms: time.parse().ok()?, digest, group })
    });
    place.map(Some).ok_or_else(|| ApiError::bad_cursor("This address names no place in a list."))
}

/// The key of an entry of an app as addresses have it.
pub(super) fn app_place_text(AppHistoryKey { time_ms, digest, group }: &AppHistoryKey) -> String {
    format!("{time_ms}.{}.{}", URL_SAFE_NO_PAD.encode(digest), URL_SAFE_NO_PAD.encode(group))
}

#[cfg(test)]
mod tests {
    use super::super::zone::Zone;
    use super::*;

    #[test]
    fn a_place_in_the_history_of_an_app_survives_its_address() {
        let key = AppHistoryKey { time_ms: 5, digest: vec![7; 16], group: "@TGS#_a.b é".to_owned() };
        let read =
            |text: &str| app_place(&AskedPage::of(Some(&format!("behind={text}")), Zone::UTC), "behind");
        assert_eq!(read(&app_place_text(&key)).unwrap(), Some(key));
        for text in ["x", "1.", "1.AAAA", "x.AAAA", "1", "1.AAAA.AAAA", "1..."] {
            assert!(read(text).is_err(), "{text}");
        }
        assert_eq!(read("").unwrap(), None);
    }
}
