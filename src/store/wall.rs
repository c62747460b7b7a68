//! The newest entries of the ledger in the order in which they came, with their bodies and the present names of their groups:
//! for a page that shows what happens as it happens.
//!
//! Reads only, on the connection it is given. A read walks down the index of positions and looks at a limited number of
//! entries, so that an app that has been silent while others were busy costs no more. A long body is left out: such an entry
//! is shown by its command.

use sqlx::{FromRow, PgConnection};

use super::group_names::GroupNames;
use super::history::HistoryRow;
use crate::model::SdkAppId;

/// How many entries, of all apps, one read walks down at most.
const WALKED_MAX: i64 = 2_000;

/// The longest body that is read, in bytes; of a longer one an empty one stands in its place. All pages wait while one line
/// is made of it.
const BODY_BYTES_MAX: i32 = 16 * 1024;

/// How many characters of a name are shown.
const NAME_CHARS_MAX: i32 = 200;

/// An entry with its position.
#[derive(Debug, Clone, FromRow)]
pub struct WallRow {
    /// The row, as histories have it.
    #[sqlx(flatten)]
    pub entry: HistoryRow,
    /// Its place in the order of arrival.
    pub position: i64,
    /// The first characters of the present name of its group.
    #[sqlx(default)]
    pub group_name: Option<String>,
}

/// The inner limit keeps the choice of the app out of the choice of an index: positions are read in their order. It counts
/// entries: a repeat of a callback uses a position up and leaves a hole.
const NEWEST: &str = "
SELECT l.sdk_app_id, l.group_id, l.time_ms, l.digest, left(l.command, 257) AS command, l.query_command,
       ledger_request_id(l.request_id, l.odd_values) AS request_id,
       round(extract(epoch FROM l.received_at) * 1000)::bigint AS received_ms, l.outcome, l.reason, l.causes,
       CASE WHEN octet_length(l.body) <= $5 THEN l.body ELSE ''::bytea END AS body,
       l.event_time_ms, l.source, ledger_client_ip(l.client_ip, l.odd_values) AS client_ip,
       ledger_platform(l.platform, l.odd_values) AS platform, l.position
  FROM (SELECT * FROM (SELECT * FROM ledger WHERE position > $2 AND position <= $3 ORDER BY position DESC LIMIT $6) w
         WHERE w.sdk_app_id = $1 ORDER BY w.position DESC LIMIT $4) l
 ORDER BY l.position DESC, l.digest";

const LAST: &str = "SELECT COALESCE(max(position), 0) FROM ledger";

/// True where more entries lie between two positions than one read walks down.
const IS_LONGER: &str = "
SELECT count(*) > $3 FROM (SELECT FROM ledger WHERE position > $1 AND position <= $2 ORDER BY position DESC LIMIT $3 + 1) w";

/// What a read has found.
#[derive(Debug, Default)]
pub struct NewestRows {
    /// Newest first.
    pub rows: Vec<WallRow>,
    /// There are more, or there may be: not every entry was looked at.
    pub is_cut: bool,
}

/// The newest entries of an app behind a position and up to another one (none: all), newest first: at most `rows_max`, out
/// of the newest 2,000 of all apps.
///
/// # Errors
/// A statement's.
pub async fn newest(
    conn: &mut PgConnection,
    app: SdkAppId,
    (after, up_to): (i64, Option<i64>),
    rows_max: usize,
) -> Result<NewestRows, sqlx::Error> {
    let last = match up_to {
        Some(position) => position,
        None => sqlx::query_scalar(LAST).fetch_one(&mut *conn).await?,
    };
    let one_more = i64::try_from(rows_max).unwrap_or(i64::MAX).saturating_add(1);
    let mut rows: Vec<WallRow> = sqlx::query_as(NEWEST)
        .bind(app.get())
        .bind(after)
        .bind(last)
        .bind(one_more)
        .bind(BODY_BYTES_MAX)
        .bind(WALKED_MAX)
        .fetch_all(&mut *conn)
        .await?;
    let mut is_cut = rows.len() > rows_max;
    rows.truncate(rows_max);
    let groups = rows.iter().map(|row| (row.entry.row.sdk_app_id, row.entry.row.group_id.as_str()));
    let names = GroupNames::of(&mut *conn, groups, NAME_CHARS_MAX).await?;
    for WallRow { entry, group_name, .. } in &mut rows {
        *group_name = names.name(entry.row.sdk_app_id, &entry.row.group_id);
        entry.group_name.clone_from(group_name);
    }
    if !is_cut && last.saturating_sub(after) > WALKED_MAX {
        is_cut =
            sqlx::query_scalar(IS_LONGER).bind(after).bind(last).bind(WALKED_MAX).fetch_one(conn).await?;
    }
    Ok(NewestRows { rows, is_cut })
}
