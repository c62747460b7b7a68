//! An entry of the feed as a reader sees it, for pages and for server-sent events alike; and its cursor.
//!
//! A cursor names a position in one ledger, with the first bytes of the digest of the entry there. Another epoch, another
//! digest or no entry: the ledger is another one or has lost its end, and the cursor names nothing any more.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::errors::ApiError;
use super::paging::CursorScope;
use super::query::Query;
use super::timestamp::Timestamp;
use crate::store::feed::{ChangeRow, FeedPlace};

/// The digits of the part of a digest that a cursor holds.
const DIGEST_CHARS: usize = 8;

/// An entry of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct ChangeView {
    /// Continues behind this entry.
    cursor: String,
    /// Cut after 256 characters, with an ellipsis as a mark: one that is parked may have any length.
    command: String,
    /// Null where the body has none that can be read.
    group_id: Option<String>,
    /// The name that the group had when the entry was sent, cut as the command; null where none is known.
    group_name: Option<String>,
    /// Who did it; often an app administrator who is no member. Null as well where the entry is parked, which a history reads
    /// as far as it goes.
    operator: Option<String>,
    /// The first 5 of those who joined, left or were changed, or were there from the start beside the owner; of a list of
    /// members (`source` `rest`) those who were shown as members and are not in it.
    users: Vec<String>,
    /// How many these are in all.
    user_count: i32,
    /// As sent; null where the body has none.
    #[schema(value_type = Option<String>, format = DateTime)]
    event_time: Option<Timestamp>,
    /// When it was first received.
    #[schema(value_type = String, format = DateTime)]
    received_at: Timestamp,
    /// `callback` or `rest`.
    source: String,
    /// `applied`, `partial` (but for parts that could not be read) or `parked`.
    outcome: String,
}

/// A position in the order of one ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FeedPosition {
    /// The epoch of the ledger, which a restore or a failover changes.
    #[serde(rename = "e")]
    pub(super) epoch: String,
    #[serde(rename = "p")]
    pub(super) position: i64,
    /// The first bytes of the digest of the entry there.
    #[serde(rename = "d")]
    digest: String,
}

impl FeedPosition {
    pub(super) fn of(epoch: &str, place: &FeedPlace) -> Self {
        Self { epoch: epoch.to_owned(), position: place.position, digest: place.digest.clone() }
    }

    /// The one in a cursor, checked as any input: the database would refuse some texts that a forged one can hold.
    ///
    /// # Errors
    /// `bad_cursor`: it is none of the feed of this app, or names what no entry can have.
    pub(super) fn read(app: i64, cursor: &str) -> Result<Self, ApiError> {
        let position: Self = scope(app).read(cursor)?;
        let is_digest =
            position.digest.len() <= DIGEST_CHARS && position.digest.bytes().all(|b| b.is_ascii_hexdigit());
        if position.position < 0 || !is_digest {
            return Err(ApiError::bad_cursor("This cursor names an entry that no ledger can have."));
        }
        Ok(position)
    }

    pub(super) fn place(&self) -> FeedPlace {
        FeedPlace { position: self.position, digest: self.digest.clone() }
    }
}

/// What a cursor of the feed is valid for.
pub(super) fn scope(app: i64) -> CursorScope {
    CursorScope { list: "changes", filters: Query::fingerprint_of(&[&app.to_string()]) }
}

/// An entry as a reader sees it.
pub(super) fn view(epoch: &str, row: &ChangeRow) -> Result<ChangeView, ApiError> {
    let position = FeedPosition::of(epoch, &row.place);
    Ok(ChangeView {
        cursor: scope(row.sdk_app_id).cursor(position)?,
        command: row.command.clone(),
        group_id: Some(row.group_id.clone()).filter(|group| !group.is_empty()),
        group_name: row.group_name.clone(),
        operator: row.operator.clone(),
        users: row.users.clone().unwrap_or_default(),
        user_count: row.user_count,
        event_time: row.event_time_ms.and_then(Timestamp::of_millis),
        received_at: Timestamp(row.received_at),
        source: row.source.clone(),
        outcome: row.outcome.clone(),
    })
}

/// An entry as a server-sent event; JSON has no line breaks.
pub(super) fn event_text(epoch: &str, row: &ChangeRow) -> Result<Vec<u8>, ApiError> {
    let view = view(epoch, row)?;
    let mut text = format!("id: {}\ndata: ", view.cursor).into_bytes();
    text.extend(serde_json::to_vec(&view).map_err(ApiError::internal)?);
    text.extend(b"\n\n");
    Ok(text)
}
