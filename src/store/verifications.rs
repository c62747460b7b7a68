//! How fresh each group is: the time as of which it was last read from Tencent with success.
//!
//! Outside the fold of the ledger: a read that says nothing new has no entry, and moves this time alone. The statements work
//! on the connection they are given and never commit.

use sqlx::PgConnection;

use crate::mirror::GroupKey;
use crate::model::Millis;

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
INSERT INTO group_verifications AS t (sdk_app_id, group_id, verified_at, members_verified_at)
SELECT k.app, k.id, to_timestamp(max(k.ms) FILTER (WHERE NOT k.of_members) / 1000.0),
       to_timestamp(max(k.ms) FILTER (WHERE k.of_members) / 1000.0)
  FROM UNNEST($1::bigint[], $2::text[], $3::bigint[], $4::boolean[]) AS k (app, id, ms, of_members)
  JOIN groups g ON g.sdk_app_id = k.app AND g.group_id = k.id
 GROUP BY k.app, k.id ORDER BY k.app, k.id
ON CONFLICT (sdk_app_id, group_id) DO UPDATE SET
    verified_at = GREATEST(t.verified_at, EXCLUDED.verified_at),
    members_verified_at = GREATEST(t.members_verified_at, EXCLUDED.members_verified_at)";

/// Notes as of when groups were read. A group that the mirror does not know is left out.
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
