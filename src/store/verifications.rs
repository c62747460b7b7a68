//! How fresh each group is: the time as of which it was last read from Tencent with success.
//!
//! Outside the fold of the ledger: a read that says nothing new has no entry, and moves this time alone. Beside it stands
//! when the list of all ids was read, because only that shows a group whose create was lost. The statements work on the
//! connection they are given and never commit.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use crate::mirror::{GroupKey, VerifiedParts};
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
INSERT INTO group_verifications AS v
       (sdk_app_id, group_id, status, created_at, has_member_list, verified_at, members_verified_at)
SELECT g.sdk_app_id, g.group_id, g.status, g.created_at, g.type IS DISTINCT FROM 'AVChatRoom',
       r.verified_at, r.members_verified_at
  FROM (SELECT k.app, k.id, to_timestamp(max(k.ms) FILTER (WHERE NOT k.of_members) / 1000.0) AS verified_at,
               to_timestamp(max(k.ms) FILTER (WHERE k.of_members) / 1000.0) AS members_verified_at
          FROM UNNEST($1::bigint[], $2::text[], $3::bigint[], $4::boolean[]) AS k (app, id, ms, of_members)
         GROUP BY k.app, k.id) r
  JOIN groups g ON g.sdk_app_id = r.app AND g.group_id = r.id
 ORDER BY g.sdk_app_id, g.group_id
ON CONFLICT (sdk_app_id, group_id) DO UPDATE SET
    verified_at = GREATEST(v.verified_at, EXCLUDED.verified_at),
    members_verified_at = GREATEST(v.members_verified_at, EXCLUDED.members_verified_at)
 WHERE EXCLUDED.verified_at > COALESCE(v.verified_at, '-infinity')
    OR EXCLUDED.members_verified_at > COALESCE(v.members_verified_at, '-infinity')";

/// Notes as of when groups were read. A group that the mirror does not know is left out. The caller holds the locks of
/// the groups, so that no other writer is at their rows.
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

const FOLLOW: &str = r"
UPDATE group_verifications v
   SET status = g.status, created_at = g.created_at, has_member_list = g.type IS DISTINCT FROM 'AVChatRoom'
  FROM UNNEST($1::bigint[], $2::text[]) AS k (app, id)
  JOIN groups g ON g.sdk_app_id = k.app AND g.group_id = k.id
 WHERE v.sdk_app_id = k.app AND v.group_id = k.id
   AND (v.status, v.created_at, v.has_member_list)
       IS DISTINCT FROM (g.status, g.created_at, g.type IS DISTINCT FROM 'AVChatRoom')";

/// Copies what is kept of groups beside their times. An update of a group does so by a trigger; groups that were written
/// anew, after their rows were deleted, need this.
///
/// # Errors
/// The statement's.
pub async fn follow<'a>(
    conn: &mut PgConnection,
    groups: impl Iterator<Item = &'a GroupKey>,
) -> Result<(), sqlx::Error> {
    let (apps, ids): (Vec<i64>, Vec<&str>) = groups.map(|key| (key.app.get(), key.group.as_str())).unzip();
    sqlx::query(FOLLOW).bind(apps).bind(ids).execute(conn).await.map(drop)
}

/// What was verified of some groups before, and since when all groups of their apps are known.
#[derive(Debug, Clone, Default)]
pub struct KnownParts {
    groups: BTreeMap<GroupKey, VerifiedParts>,
    apps: BTreeMap<SdkAppId, Millis>,
}

impl KnownParts {
    /// What was verified of a group.
    #[must_use]
    pub fn of(&self, group: &GroupKey) -> VerifiedParts {
        self.groups.get(group).copied().unwrap_or_default()
    }

    /// Since when all groups of an app are known; `None`: they are not.
    #[must_use]
    pub fn from(&self, app: SdkAppId) -> Option<Millis> {
        self.apps.get(&app).copied()
    }
}

const KNOWN: &str = r"
SELECT v.verified_at IS NOT NULL, v.members_verified_at IS NOT NULL, (extract(epoch FROM p.first_began_at) * 1000)::bigint
  FROM UNNEST($1::bigint[], $2::text[]) WITH ORDINALITY AS k (app, id, n)
  LEFT JOIN group_verifications v ON v.sdk_app_id = k.app AND v.group_id = k.id
  LEFT JOIN id_list_passes p ON p.sdk_app_id = k.app
 ORDER BY k.n";

/// Reads it.
///
/// # Errors
/// The statement's.
pub async fn known(conn: &mut PgConnection, groups: &[&GroupKey]) -> Result<KnownParts, sqlx::Error> {
    let rows: Vec<(bool, bool, Option<i64>)> = sqlx::query_as(KNOWN)
        .bind(groups.iter().map(|key| key.app.get()).collect::<Vec<_>>())
        .bind(groups.iter().map(|key| key.group.as_str()).collect::<Vec<_>>())
        .fetch_all(conn)
        .await?;
    assert_eq!(rows.len(), groups.len(), "a row for each group, in order");
    let mut known = KnownParts::default();
    for (key, (profile, members, from)) in groups.iter().zip(rows) {
        known.groups.insert((*key).clone(), VerifiedParts { profile, members });
        known.apps.extend(from.map(|from| (key.app, Millis::new(from))));
    }
    Ok(known)
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

/// What was never read has no row, or a row without both times, and is looked for by key. The others are a range of an index,
/// in its order and with its words: a comparison with NULL is neither.
const VERIFIED_BEFORE: &str = r"
SELECT group_id, (extract(epoch FROM whole_verified_at) * 1000)::bigint
  FROM ((SELECT NULL::timestamptz AS whole_verified_at, g.group_id FROM groups g
          WHERE g.sdk_app_id = $1 AND g.status <> 'destroyed' AND g.group_id > COALESCE($4, '')
            AND ($4::text IS NULL OR $5::timestamptz IS NULL)
            AND NOT EXISTS (SELECT FROM group_verifications v
                             WHERE v.sdk_app_id = $1 AND v.group_id = g.group_id AND v.whole_verified_at IS NOT NULL)
          ORDER BY g.group_id LIMIT $3)
        UNION ALL
        (SELECT whole_verified_at, group_id FROM group_verifications
          WHERE sdk_app_id = $1 AND status <> 'destroyed' AND whole_verified_at < $2
            AND whole_verified_at >= COALESCE($5, '-infinity')
            AND (whole_verified_at, group_id) > (COALESCE($5, '-infinity'), CASE WHEN $5 IS NULL THEN '' ELSE $4 END)
          ORDER BY whole_verified_at NULLS FIRST, group_id LIMIT $3)) v
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
