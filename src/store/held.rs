//! What the tables hold of some groups, read under their locks, merged with what is new, and written.
//!
//! The way of a snapshot into the tables. Callbacks do not read before they write, because each of their registers has its
//! own stamp. What a complete list says of its members has one stamp, in the row of the group, so that a newer list writes
//! the members who differ and no other: who differs is known only to one who has read. Every writer takes the row of the
//! group first, so its lock keeps the others out.

use sqlx::PgConnection;

use super::lines::{HeldParts, rows_of_groups};
use super::same_reads;
use super::upsert::{StoredMember, listed_members, replace_listed, stored, upsert};
use super::verifications;
use crate::mirror::{GroupKey, Rows};

const ENSURE: &str = r"
INSERT INTO groups (sdk_app_id, group_id)
SELECT app, id FROM UNNEST($1::bigint[], $2::text[]) AS k (app, id) ORDER BY app, id
ON CONFLICT DO NOTHING";

/// Makes a row for each group that has none, so that it can be locked. The caller writes the group in the same transaction.
///
/// # Errors
/// The statement's.
pub async fn ensure(conn: &mut PgConnection, groups: &[&GroupKey]) -> Result<(), sqlx::Error> {
    if groups.is_empty() {
        return Ok(());
    }
    let (apps, ids) = keys(groups);
    sqlx::query(ENSURE).bind(apps).bind(ids).execute(conn).await.map(drop)
}

const LOCK: &str = r"
SELECT g.sdk_app_id, g.group_id FROM groups g
  JOIN UNNEST($1::bigint[], $2::text[]) AS k (app, id) ON g.sdk_app_id = k.app AND g.group_id = k.id
 ORDER BY g.sdk_app_id, g.group_id FOR UPDATE OF g";

/// Locks the groups that have a row, in the order of all writers.
///
/// # Errors
/// The statement's.
pub async fn lock(conn: &mut PgConnection, groups: &[&GroupKey]) -> Result<(), sqlx::Error> {
    let (apps, ids) = keys(groups);
    sqlx::query(LOCK).bind(apps).bind(ids).execute(conn).await.map(drop)
}

/// What the tables hold of groups that the caller has locked, as far as what is new may change it.
///
/// # Errors
/// A statement's.
pub async fn read(
    conn: &mut PgConnection,
    groups: &[&GroupKey],
    parts: &HeldParts<'_>,
) -> Result<Rows, sqlx::Error> {
    rows_of_groups(conn, groups, parts).await
}

fn keys<'a>(groups: &[&'a GroupKey]) -> (Vec<i64>, Vec<&'a str>) {
    groups.iter().map(|key| (key.app.get(), key.group.as_str())).unzip()
}

/// Writes new facts of groups that are locked and were read: `before` is what was read, `after` the same with the new facts
/// merged in.
///
/// # Errors
/// A statement's.
pub async fn write(
    conn: &mut PgConnection,
    new: &Rows,
    before: &Rows,
    after: &Rows,
) -> Result<(), sqlx::Error> {
    upsert(conn, new).await?;
    replace_listed(conn, &changed(before, after)).await
}

/// The members of whom the tables would hold something else of what lists say.
fn changed<'a>(before: &Rows, after: &'a Rows) -> Vec<StoredMember<'a>> {
    let mut changed = Vec::new();
    for (key, row) in &after.members {
        let (group, user) = key;
        let now = stored(after, group, user, row);
        let is_held = match before.members.get(key) {
            Some(row) => {
                let held = stored(before, group, user, row);
                (held.is_in_list, &held.listed) == (now.is_in_list, &now.listed)
            }
            None => row.listed.stamp.is_zero(),
        };
        if !is_held {
            changed.push((group, user, now));
        }
    }
    changed
}

/// Writes rows of groups of which the tables hold nothing, and whose locks the caller has.
///
/// # Errors
/// A statement's.
pub async fn write_whole(conn: &mut PgConnection, rows: &Rows) -> Result<(), sqlx::Error> {
    upsert(conn, rows).await?;
    replace_listed(conn, &listed_members(rows)).await?;
    same_reads::forget(conn, rows.groups.keys()).await?;
    verifications::follow(conn, rows.groups.keys()).await
}
