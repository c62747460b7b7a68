//! Whether a read of a whole group says what the last one said, of a group of which nothing was learnt since: then comparing
//! it with every row of the group would find nothing.
//!
//! Why that is so: the rows of a group are the fold of its ledger entries, and these are the same as then. All their stamps
//! are at or below the σ of the read that was compared then, so that read won over every one of them, and changed nothing that
//! is shown, or is itself among the entries. The same answer with a later σ wins over the same and shows the same. The
//! entries are compared as a set, because one that was being written then may have a lower position. A group with a long
//! history is always compared, so that the look costs less than it saves. Without commit, on the connection of the caller,
//! who holds the locks of the groups.

use sqlx::PgConnection;

use crate::mirror::GroupKey;
use crate::model::{Digest, Millis};

/// A read of profile and members of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WholeRead {
    /// The group.
    pub group: GroupKey,
    /// Of what it says.
    pub digest: Digest,
    /// As of when.
    pub sigma: Millis,
}

impl WholeRead {
    /// The greatest stamp that a read as of σ can have.
    fn stamp(&self) -> Vec<u8> {
        let mut stamp = self.sigma.get().max(0).to_be_bytes().to_vec();
        stamp.push(0);
        stamp.extend([0xff; 8]);
        stamp
    }
}

/// The entries of a group as one value; NULL where they are more than 64.
const ENTRIES: &str = "
(SELECT CASE WHEN count(*) <= 64 THEN md5(string_agg(e.position::text, ',' ORDER BY e.position)) END
   FROM (SELECT l.position FROM ledger l WHERE l.sdk_app_id = k.app AND l.group_id = k.id LIMIT 65) e)";

fn bound(reads: &[WholeRead]) -> (Vec<i64>, Vec<&str>, Vec<&[u8]>) {
    let apps = reads.iter().map(|read| read.group.app.get()).collect();
    let ids = reads.iter().map(|read| read.group.group.as_str()).collect();
    (apps, ids, reads.iter().map(|read| read.digest.as_bytes()).collect())
}

/// Which of the groups are known to be shown as they were read.
///
/// # Errors
/// The statement's.
pub async fn same(conn: &mut PgConnection, reads: &[WholeRead]) -> Result<Vec<(i64, String)>, sqlx::Error> {
    if reads.is_empty() {
        return Ok(Vec::new());
    }
    let statement = format!(
        "SELECT k.app, k.id FROM UNNEST($1::bigint[], $2::text[], $3::bytea[]) AS k (app, id, digest)
  JOIN group_reads d ON d.sdk_app_id = k.app AND d.group_id = k.id AND d.digest = k.digest
  JOIN groups g ON g.sdk_app_id = k.app AND g.group_id = k.id AND g.updated_stamp <= d.read_stamp
 WHERE d.entries = {ENTRIES}"
    );
    let (apps, ids, digests) = bound(reads);
    let query = sqlx::query_as(sqlx::AssertSqlSafe(statement)).bind(apps).bind(ids).bind(digests);
    query.fetch_all(conn).await
}

/// Notes what groups were read as, after that was compared and entered.
///
/// # Errors
/// The statement's.
pub async fn note(conn: &mut PgConnection, reads: &[WholeRead]) -> Result<(), sqlx::Error> {
    if reads.is_empty() {
        return Ok(());
    }
    let statement = format!(
        "INSERT INTO group_reads (sdk_app_id, group_id, digest, read_stamp, entries)
SELECT k.app, k.id, k.digest, k.stamp, {ENTRIES}
  FROM UNNEST($1::bigint[], $2::text[], $3::bytea[], $4::bytea[]) AS k (app, id, digest, stamp)
 ORDER BY k.app, k.id
ON CONFLICT (sdk_app_id, group_id) DO UPDATE SET
    digest = EXCLUDED.digest, read_stamp = EXCLUDED.read_stamp, entries = EXCLUDED.entries"
    );
    let (apps, ids, digests) = bound(reads);
    let stamps: Vec<Vec<u8>> = reads.iter().map(WholeRead::stamp).collect();
    let query = sqlx::query(sqlx::AssertSqlSafe(statement)).bind(apps).bind(ids).bind(digests);
    query.bind(stamps).execute(conn).await.map(drop)
}
