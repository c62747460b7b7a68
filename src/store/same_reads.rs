//! Whether a read says what the last one of its kind said of a group of which nothing was learnt since: then comparing it with
//! the rows of the group would find nothing. Why that is so stands in `mirror/read_digest.rs`.
//!
//! Kept beside each digest is the set of the entries that the ledger had of the group when the read had been compared: the
//! digest counts while the set is the same. A set and no position, because an entry that was being written then may have a
//! lower one; an entry that is changed gets another position. A group with a long history is always compared, so that the
//! look costs less than it saves. Without commit, on the connection of the caller, who holds the locks of the groups but
//! for a look.

use std::collections::BTreeSet;

use sqlx::{AssertSqlSafe, PgConnection};

use crate::mirror::{GroupKey, ReadDigest};
use crate::model::{Digest, Millis};

/// The entries of the group `k` as one value: those for which a condition holds, where all of them satisfy another one; NULL
/// where one does not, where there are more than 64, or none.
fn entries(counted: &str, are_fit: &str) -> String {
    format!(
        "(SELECT CASE WHEN count(*) <= 64 AND {are_fit} THEN md5(string_agg(e.position::text, ',' ORDER BY e.position)) END
          FROM (SELECT l.position, l.time_ms, l.source, l.command, l.digest FROM ledger l
                 WHERE l.sdk_app_id = k.app AND l.group_id = k.id{counted} LIMIT 65) e)"
    )
}

fn apps<'a>(groups: impl Iterator<Item = &'a GroupKey>) -> Vec<i64> {
    groups.map(|group| group.app.get()).collect()
}

fn ids<'a>(groups: impl Iterator<Item = &'a GroupKey>) -> Vec<&'a str> {
    groups.map(|group| group.group.as_str()).collect()
}

/// What is known to be shown as it was read: the group, and the kind of the read.
pub type KnownRead = (i64, String, String);

/// A profile or list is known only where its time of verification has a row: that is then moved, and never made, without the
/// lock of the group. The entries are looked at once for all digests of a group; those that are later than the reads by more than
/// [`AHEAD_MS`] are left out, so that the partitions ahead are not opened. A read undoes nothing that is later than it is.
fn same_statement() -> String {
    format!(
        "SELECT k.app, k.id, unnest(k.kinds)
  FROM (SELECT r.app, r.id, d.entries, array_agg(r.kind) AS kinds
          FROM UNNEST($1::bigint[], $2::text[], $3::text[], $4::bytea[], $5::bytea[]) AS r (app, id, kind, digest, stamp)
         CROSS JOIN LATERAL (SELECT x.entries FROM group_read_digests x
                              WHERE x.sdk_app_id = r.app AND x.group_id = r.id AND x.kind = r.kind
                                AND x.digest = r.digest AND x.read_stamp <= r.stamp OFFSET 0) d
         WHERE r.kind NOT IN ('profile', 'members')
            OR EXISTS (SELECT FROM group_verifications v WHERE v.sdk_app_id = r.app AND v.group_id = r.id OFFSET 0)
         GROUP BY r.app, r.id, d.entries OFFSET 0) k
 WHERE k.entries = {}",
        entries(" AND l.time_ms <= $6", "true")
    )
}

/// How much later than the newest of some reads an entry may be to be looked at, in milliseconds: more than clocks lie apart.
const AHEAD_MS: i64 = 24 * 60 * 60 * 1000;

/// Which of these reads are known to be shown as they were read.
///
/// # Errors
/// The statement's.
pub async fn same(
    conn: &mut PgConnection,
    reads: &[&ReadDigest],
) -> Result<BTreeSet<KnownRead>, sqlx::Error> {
    let Some(newest) = reads.iter().map(|read| read.stamp.time()).max() else { return Ok(BTreeSet::new()) };
    let query = sqlx::query_as(AssertSqlSafe(same_statement()))
        .bind(apps(reads.iter().map(|read| &read.group)))
        .bind(ids(reads.iter().map(|read| &read.group)))
        .bind(reads.iter().map(|read| read.kind).collect::<Vec<_>>())
        .bind(reads.iter().map(|read| read.said.as_bytes()).collect::<Vec<_>>())
        .bind(reads.iter().map(|read| read.stamp.as_bytes()).collect::<Vec<_>>())
        .bind(newest.get().saturating_add(AHEAD_MS));
    Ok(query.fetch_all(conn).await?.into_iter().collect())
}

/// Every entry is older than the read, or a read of another command with the same σ, or the read itself.
const ARE_OLDER: &str = "bool_and(e.time_ms < k.ms OR e.time_ms = k.ms AND e.source = 'rest'
                                AND (e.command <> k.command OR e.digest = k.entry))";

fn note_statement() -> String {
    format!(
        "INSERT INTO group_read_digests (sdk_app_id, group_id, kind, digest, read_stamp, entries)
SELECT n.app, n.id, n.kind, n.digest, n.stamp, n.entries
  FROM (SELECT k.app, k.id, k.kind, k.digest, k.stamp, {} AS entries
          FROM UNNEST($1::bigint[], $2::text[], $3::text[], $4::bytea[], $5::bytea[], $6::bigint[], $7::text[], $8::bytea[])
               AS k (app, id, kind, digest, stamp, ms, command, entry) OFFSET 0) n
 WHERE n.entries IS NOT NULL
 ORDER BY n.app, n.id, n.kind
ON CONFLICT (sdk_app_id, group_id, kind) DO UPDATE SET
    digest = EXCLUDED.digest, read_stamp = EXCLUDED.read_stamp, entries = EXCLUDED.entries",
        entries("", ARE_OLDER)
    )
}

/// Notes what groups were read as, after that was compared, and entered where it was news; each with the command that it is
/// the answer of. A read beside an entry that is not older is left out.
///
/// # Errors
/// The statement's.
pub async fn note(conn: &mut PgConnection, reads: &[(ReadDigest, &str)]) -> Result<(), sqlx::Error> {
    if reads.is_empty() {
        return Ok(());
    }
    let digests = || reads.iter().map(|(read, _)| read);
    sqlx::query(AssertSqlSafe(note_statement()))
        .bind(apps(digests().map(|read| &read.group)))
        .bind(ids(digests().map(|read| &read.group)))
        .bind(digests().map(|read| read.kind).collect::<Vec<_>>())
        .bind(digests().map(|read| read.said.as_bytes()).collect::<Vec<_>>())
        .bind(digests().map(|read| read.stamp.as_bytes()).collect::<Vec<_>>())
        .bind(digests().map(|read| read.stamp.time().get()).collect::<Vec<_>>())
        .bind(reads.iter().map(|(_, command)| *command).collect::<Vec<_>>())
        .bind(digests().map(|read| read.entry.as_bytes()).collect::<Vec<_>>())
        .execute(conn)
        .await
        .map(drop)
}

/// The entries of the group but for those that were made now.
const WITHOUT_NEW: &str = "
                   AND NOT EXISTS (SELECT FROM UNNEST($4::bigint[], $5::text[], $6::bigint[], $7::bytea[]) AS n (app, id, ms, digest)
                                    WHERE n.app = l.sdk_app_id AND n.id = l.group_id AND n.ms = l.time_ms AND n.digest = l.digest)";

/// Where the entries are more than are looked at now, the digest stays with a set that never comes again.
fn keep_statement() -> String {
    format!(
        "UPDATE group_read_digests d SET entries = n.entries
  FROM (SELECT k.app, k.id, k.kind, {} AS entries, {} AS earlier
          FROM UNNEST($1::bigint[], $2::text[], $3::text[]) AS k (app, id, kind) OFFSET 0) n
 WHERE d.sdk_app_id = n.app AND d.group_id = n.id AND d.kind = n.kind AND d.entries = n.earlier AND n.entries IS NOT NULL",
        entries("", "true"),
        entries(WITHOUT_NEW, "true")
    )
}

/// Keeps what counted before entries were made that leave it so: the kinds of some groups, and the keys of those entries.
///
/// # Errors
/// The statement's.
pub async fn keep(
    conn: &mut PgConnection,
    kept: &[(&GroupKey, &str)],
    entered: &[(&GroupKey, Millis, Digest)],
) -> Result<(), sqlx::Error> {
    if kept.is_empty() {
        return Ok(());
    }
    sqlx::query(AssertSqlSafe(keep_statement()))
        .bind(apps(kept.iter().map(|(group, _)| *group)))
        .bind(ids(kept.iter().map(|(group, _)| *group)))
        .bind(kept.iter().map(|(_, kind)| *kind).collect::<Vec<_>>())
        .bind(apps(entered.iter().map(|(group, ..)| *group)))
        .bind(ids(entered.iter().map(|(group, ..)| *group)))
        .bind(entered.iter().map(|(_, at, _)| at.get()).collect::<Vec<_>>())
        .bind(entered.iter().map(|(.., digest)| digest.as_bytes()).collect::<Vec<_>>())
        .execute(conn)
        .await
        .map(drop)
}

const FORGET: &str = "
DELETE FROM group_read_digests d USING UNNEST($1::bigint[], $2::text[]) AS k (app, id)
 WHERE d.sdk_app_id = k.app AND d.group_id = k.id";

/// Forgets what groups were read as: their rows were folded anew, perhaps by a program that reads an entry as another fact.
///
/// # Errors
/// The statement's.
pub async fn forget<'a>(
    conn: &mut PgConnection,
    groups: impl Iterator<Item = &'a GroupKey> + Clone,
) -> Result<(), sqlx::Error> {
    let (apps, ids) = (apps(groups.clone()), ids(groups));
    sqlx::query(FORGET).bind(apps).bind(ids).execute(conn).await.map(drop)
}
