//! How fresh each group is: the time as of which it was last read from Tencent with success.
//!
//! Outside the fold of the ledger: a read that says nothing new has no entry, and moves this time alone. Beside it stands
//! when the list of all ids was read, because only that shows a group whose create was lost. The statements work on the
//! connection they are given and never commit.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::mirror::GroupKey;
use crate::model::{GroupId, Millis, SdkAppId};

/// Which of the two times a read moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifiedPart {
    /// That of the profile.
    Profile,
    /// That of the complete list of members.
    Members,
}

/// Times only grow: a read that ends late does not make a group look older.
const VERIFY: &str = r"
UPDATE group_verifications v SET
    verified_at = GREATEST(v.verified_at, r.verified_at),
    members_verified_at = GREATEST(v.members_verified_at, r.members_verified_at)
  FROM (SELECT k.app, k.id, to_timestamp(max(k.ms) FILTER (WHERE NOT k.of_members) / 1000.0) AS verified_at,
               to_timestamp(max(k.ms) FILTER (WHERE k.of_members) / 1000.0) AS members_verified_at
          FROM UNNEST($1::bigint[], $2::text[], $3::bigint[], $4::boolean[]) AS k (app, id, ms, of_members)
         GROUP BY k.app, k.id) r
 WHERE v.sdk_app_id = r.app AND v.group_id = r.id
   AND (r.verified_at > COALESCE(v.verified_at, '-infinity')
        OR r.members_verified_at > COALESCE(v.members_verified_at, '-infinity'))";

/// Notes as of when groups were read. A group that the mirror does not know has no row, and is left out. The caller holds
/// the locks of the groups, so that no other writer is at their rows.
///
/// # Errors
/// The statement's.
pub async fn note(
    conn: &mut PgConnection,
    reads: &[(&GroupKey, Millis, VerifiedPart)],
) -> Result<(), sqlx::Error> {
    if reads.is_empty() {
        return Ok(());
    }
    sqlx::query(VERIFY)
        .bind(reads.iter().map(|(key, ..)| key.app.get()).collect::<Vec<_>>())
        .bind(reads.iter().map(|(key, ..)| key.group.as_str()).collect::<Vec<_>>())
        .bind(reads.iter().map(|(_, at, _)| at.get()).collect::<Vec<_>>())
        .bind(reads.iter().map(|(.., part)| *part == VerifiedPart::Members).collect::<Vec<_>>())
        .execute(conn)
        .await
        .map(drop)
}

/// A pass that was completed later replaces the one before; one that began earlier changes nothing but the first begin.
const NOTE_PASS: &str = r"
INSERT INTO id_list_passes AS t (sdk_app_id, first_began_at, began_at, completed_at)
VALUES ($1, to_timestamp($2 / 1000.0), to_timestamp($2 / 1000.0), to_timestamp($3 / 1000.0))
ON CONFLICT (sdk_app_id) DO UPDATE SET
    first_began_at = LEAST(t.first_began_at, EXCLUDED.first_began_at),
    completed_at = CASE WHEN EXCLUDED.began_at > t.began_at THEN EXCLUDED.completed_at ELSE t.completed_at END,
    began_at = GREATEST(t.began_at, EXCLUDED.began_at)";

/// Notes that the list of all ids of an app was read to its end, and that every group in it has its row: `began_at` is the
/// lower bound of Tencent's clock at the first page (S), `completed_at` the clock of this process. Without it no gap is
/// closed, because a create may have been lost in it.
///
/// # Errors
/// The statement's.
pub async fn note_id_list_pass(
    conn: &mut PgConnection,
    app: SdkAppId,
    began_at: Millis,
    completed_at: Millis,
) -> Result<(), sqlx::Error> {
    sqlx::query(NOTE_PASS)
        .bind(app.get())
        .bind(began_at.get())
        .bind(completed_at.get())
        .execute(conn)
        .await
        .map(drop)
}

/// A group in the order of verification, and the place behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaleGroup {
    /// The group.
    pub group: GroupId,
    /// The older of the times of its profile and its members; `None`: one of them was never read.
    pub whole_verified_at: Option<Millis>,
}

/// Two ranges of one index, never read ones first: a comparison of time and id together would be none, because nothing is
/// greater or less than NULL.
const VERIFIED_BEFORE: &str = r"
SELECT group_id, (extract(epoch FROM whole_verified_at) * 1000)::bigint
  FROM ((SELECT whole_verified_at, group_id FROM group_verifications
          WHERE sdk_app_id = $1 AND status <> 'destroyed' AND whole_verified_at IS NULL
            AND group_id > COALESCE($4, '') AND ($4::text IS NULL OR $5::timestamptz IS NULL)
          ORDER BY group_id LIMIT $3)
        UNION ALL
        (SELECT whole_verified_at, group_id FROM group_verifications
          WHERE sdk_app_id = $1 AND status <> 'destroyed' AND whole_verified_at < $2
            AND whole_verified_at >= COALESCE($5, '-infinity')
            AND (whole_verified_at, group_id) > (COALESCE($5, '-infinity'), COALESCE($4, ''))
          ORDER BY whole_verified_at, group_id LIMIT $3)) v
 ORDER BY whole_verified_at NULLS FIRST, group_id LIMIT $3";

/// Groups that exist and of which something was last read before a moment, or never: never read ones first, then the
/// oldest. `after` is the last group of the page before.
///
/// # Errors
/// The statement's, and an id that no group can have.
pub async fn groups_verified_before(
    conn: &mut PgConnection,
    app: SdkAppId,
    moment: Millis,
    limit: usize,
    after: Option<&StaleGroup>,
) -> Result<Vec<StaleGroup>, sqlx::Error> {
    let time = |at: Millis| DateTime::<Utc>::from_timestamp_millis(at.get());
    let rows: Vec<(String, Option<i64>)> = sqlx::query_as(VERIFIED_BEFORE)
        .bind(app.get())
        .bind(time(moment))
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .bind(after.map(|place| place.group.as_str()))
        .bind(after.and_then(|place| place.whole_verified_at).and_then(time))
        .fetch_all(conn)
        .await?;
    let stale = |(id, ms): (String, Option<i64>)| {
        let group = GroupId::parse(&id).map_err(|error| sqlx::Error::Decode(error.into()))?;
        Ok(StaleGroup { group, whole_verified_at: ms.map(Millis::new) })
    };
    rows.into_iter().map(stale).collect()
}
