//! One page of a list, bounded in rows and in bytes.
//!
//! A name or an introduction can have a mebibyte, so a page of 500 rows says nothing of its size. The statement adds up the
//! bytes of its rows in their order and ends the page where the limit is reached: the rest is not read out of its storage
//! (a length stands beside the pointer to a long value) and not sent. The first row always passes, so that a walk goes on.

use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row as _};

/// The bytes of texts after which a page ends early, 4 MiB: eight times what a full page of groups usually has. One row more
/// may begin before the limit, and it is as long as its callbacks could make it.
pub const PAGE_BYTES_MAX: i64 = 4 * 1024 * 1024;

/// The rows of a page.
#[derive(Debug, Clone)]
pub struct PageRows<R> {
    /// In the order of the list.
    pub rows: Vec<R>,
    /// True where the list goes on behind the last row.
    pub more: bool,
}

impl<R> PageRows<R> {
    /// Of what a [`bounded`] statement has answered. It was asked for one row more than `rows_max`, which shows whether the
    /// list goes on.
    pub(super) fn of(answer: &[PgRow], rows_max: usize) -> Result<Self, sqlx::Error>
    where
        R: for<'r> FromRow<'r, PgRow>,
    {
        let mut rows = Vec::with_capacity(answer.len());
        let mut chosen = 0;
        for row in answer {
            chosen = usize::try_from(row.try_get::<i64, _>("chosen")?).unwrap_or_default();
            if chosen > 0 && rows.len() < rows_max {
                rows.push(R::from_row(row)?);
            }
        }
        assert!(rows.len() <= chosen, "a page shows rows that were chosen");
        let more = rows.len() < chosen;
        Ok(Self { rows, more })
    }
}

/// How many rows a statement is asked for.
pub(super) fn one_more(rows_max: usize) -> i64 {
    i64::try_from(rows_max).unwrap_or(i64::MAX).saturating_add(1)
}

/// The rows of a select in an order, up to [`PAGE_BYTES_MAX`] of these columns (texts, or JSON), and in `chosen` how many rows
/// with a `key` there were. The order is that of columns of the select, and no two rows have the same place in it.
pub(super) fn bounded(select: &str, key: &str, order: &str, texts: &[&str]) -> String {
    let bytes: Vec<String> =
        texts.iter().map(|text| format!("COALESCE(octet_length({text}::text), 0)")).collect();
    // Each `OFFSET 0` keeps the planner from working a value out twice.
    format!(
        "SELECT * FROM (
       SELECT r.*, count({key}) OVER () AS chosen, sum(bytes) OVER (ORDER BY {order}) - bytes AS bytes_before
         FROM (SELECT q.*, {} AS bytes FROM ({select} OFFSET 0) q OFFSET 0) r) b
 WHERE bytes_before < {PAGE_BYTES_MAX}
 ORDER BY {order}",
        bytes.join(" + ")
    )
}
