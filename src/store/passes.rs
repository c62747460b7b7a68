//! Passes: which one an app is in, how far it is, and which groups it has still to ask for.
//!
//! What a batch of reads has come to stands beside it, in `pass_note`. The order of the groups is that of their ids, so that
//! one id says how far a pass is. The statements work on the connection they are given and never commit.

use sqlx::{FromRow, PgConnection};

use crate::mirror::GroupKey;
use crate::model::{GroupId, Millis, SdkAppId};

/// A pass as it stands.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct PassRow {
    /// Its number.
    pub number: i64,
    /// `rolling`, `backfill` or `reconcile`.
    pub kind: String,
    /// `ids`, `known`, `new`, `lists`, `gone` or `ended`.
    pub phase: String,
    /// `Next` of the list of ids.
    pub ids_next: String,
    /// How many ids the list has brought.
    pub ids_listed: i64,
    /// Every group up to this one was asked for in this phase.
    pub swept_to: String,
    /// How many groups the mirror showed when it began.
    pub known: i64,
    /// How many of them Tencent has answered for.
    pub found_alive: i64,
    /// How many groups were asked for.
    pub asked: i64,
    /// When it began.
    pub begun_ms: i64,
}

impl SweepRow {
    /// A group of which nothing is known but its id.
    #[must_use]
    pub fn unknown(group_id: String) -> Self {
        Self {
            group_id,
            is_asked: false,
            member_num: None,
            last_info_secs: None,
            next_message: None,
            create_secs: None,
            is_shown: false,
            has_attributes: false,
            has_topics: false,
        }
    }
}

const COLUMNS: &str = "number, kind, phase, ids_next, ids_listed, swept_to, known, found_alive, asked,
       (extract(epoch FROM begun_at) * 1000)::bigint AS begun_ms";

/// The newest pass of an app.
///
/// # Errors
/// The statement's.
pub async fn newest(conn: &mut PgConnection, app: SdkAppId) -> Result<Option<PassRow>, sqlx::Error> {
    let select = format!("SELECT {COLUMNS} FROM reconcile_passes WHERE sdk_app_id = $1");
    sqlx::query_as(sqlx::AssertSqlSafe(select)).bind(app.get()).fetch_optional(conn).await
}

/// The newest pass of an app as a person is shown it.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct PassReport {
    /// Its number.
    pub number: i64,
    /// `rolling`, `backfill` or `reconcile`.
    pub kind: String,
    /// `ids`, `known`, `new`, `lists`, `gone` or `ended`.
    pub phase: String,
    /// How many groups were asked for.
    pub asked: i64,
    /// When it began.
    pub begun_ms: i64,
    /// When it ended.
    pub ended_ms: Option<i64>,
    /// Why it stopped, in one line.
    pub stopped: Option<String>,
    /// When.
    pub stopped_ms: Option<i64>,
}

const REPORT: &str = "
SELECT number, kind, phase, asked, (extract(epoch FROM begun_at) * 1000)::bigint AS begun_ms,
       (extract(epoch FROM ended_at) * 1000)::bigint AS ended_ms, stopped,
       (extract(epoch FROM stopped_at) * 1000)::bigint AS stopped_ms
  FROM reconcile_passes WHERE sdk_app_id = $1";

/// How the newest pass of an app is; `None`: there was none.
///
/// # Errors
/// The statement's.
pub async fn report(conn: &mut PgConnection, app: SdkAppId) -> Result<Option<PassReport>, sqlx::Error> {
    sqlx::query_as(REPORT).bind(app.get()).fetch_optional(conn).await
}

/// Candidates of the pass before are forgotten: each pass proves what it says by itself.
const FORGET: &str = "DELETE FROM gone_candidates WHERE sdk_app_id = $1";

/// Groups that the mirror shows, destroyed ones not.
const KNOWN_COUNT: &str = "
SELECT count(*) FROM groups WHERE sdk_app_id = $1 AND status IN ('active', 'unseen') AND updated_stamp > ''";

/// How many groups the mirror shows of an app, destroyed ones not.
///
/// # Errors
/// The statement's.
pub async fn known_count(conn: &mut PgConnection, app: SdkAppId) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(KNOWN_COUNT).bind(app.get()).fetch_one(conn).await
}

const BEGIN: &str = "
INSERT INTO reconcile_passes AS t (sdk_app_id, number, kind, phase, begun_at, known)
SELECT $1, 1, $2, 'ids', to_timestamp($3 / 1000.0), count(*)
  FROM groups WHERE sdk_app_id = $1 AND status IN ('active', 'unseen') AND updated_stamp > ''
ON CONFLICT (sdk_app_id) DO UPDATE SET
    number = t.number + 1, kind = EXCLUDED.kind, phase = 'ids', ids_next = '0', ids_listed = 0, swept_to = '',
    known = EXCLUDED.known, found_alive = 0, asked = 0, begun_at = EXCLUDED.begun_at, ended_at = NULL, stopped = NULL,
    stopped_at = NULL";

/// Begins a pass.
///
/// # Errors
/// A statement's.
pub async fn begin(
    conn: &mut PgConnection,
    app: SdkAppId,
    kind: &str,
    now: Millis,
) -> Result<(), sqlx::Error> {
    sqlx::query(FORGET).bind(app.get()).execute(&mut *conn).await?;
    sqlx::query(BEGIN).bind(app.get()).bind(kind).bind(now.get()).execute(conn).await.map(drop)
}

const ENTER: &str = "
UPDATE reconcile_passes SET phase = $3, swept_to = '',
       ended_at = CASE WHEN $3 = 'ended' THEN to_timestamp($4 / 1000.0) END
 WHERE sdk_app_id = $1 AND number = $2 AND phase = $5";

/// Enters the next phase of a pass that is in another one; false where it is not in that one any more, because the caller has
/// lost the lease and another process has gone on with the pass.
///
/// # Errors
/// The statement's.
pub async fn enter(
    conn: &mut PgConnection,
    (app, number): (SdkAppId, i64),
    (from, phase): (&str, &str),
    now: Millis,
) -> Result<bool, sqlx::Error> {
    let query = sqlx::query(ENTER).bind(app.get()).bind(number).bind(phase).bind(now.get()).bind(from);
    Ok(query.execute(conn).await?.rows_affected() == 1)
}

const STOP: &str = "
UPDATE reconcile_passes
   SET stopped = $3, stopped_at = CASE WHEN $3::text IS NOT NULL THEN to_timestamp($4 / 1000.0) END
 WHERE sdk_app_id = $1 AND number = $2";

/// Notes why a pass stopped, or that it goes on.
///
/// # Errors
/// The statement's.
pub async fn stopped(
    conn: &mut PgConnection,
    (app, number): (SdkAppId, i64),
    why: Option<&str>,
    now: Millis,
) -> Result<(), sqlx::Error> {
    let query = sqlx::query(STOP).bind(app.get()).bind(number).bind(why).bind(now.get());
    query.execute(conn).await.map(drop)
}

const LIST: &str = "
INSERT INTO group_reads (sdk_app_id, group_id)
SELECT $1, k.id FROM UNNEST($2::text[]) AS k (id) ORDER BY k.id
ON CONFLICT DO NOTHING";

const LISTED: &str = "
UPDATE reconcile_passes SET ids_next = $3, ids_listed = ids_listed + $4 WHERE sdk_app_id = $1 AND number = $2";

/// Takes a page of ids, and where the next one begins.
///
/// # Errors
/// A statement's.
pub async fn list(
    conn: &mut PgConnection,
    (app, number): (SdkAppId, i64),
    ids: &[GroupId],
    next: u64,
) -> Result<(), sqlx::Error> {
    let count = i64::try_from(ids.len()).unwrap_or(i64::MAX);
    let ids: Vec<&str> = ids.iter().map(GroupId::as_str).collect();
    sqlx::query(LIST).bind(app.get()).bind(ids).execute(&mut *conn).await?;
    let query = sqlx::query(LISTED).bind(app.get()).bind(number).bind(next.to_string()).bind(count);
    query.execute(conn).await.map(drop)
}

/// A group that a pass is to ask for.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct SweepRow {
    /// The group.
    pub group_id: String,
    /// True where this pass has asked for it already.
    pub is_asked: bool,
    /// `MemberNum`, as last read.
    pub member_num: Option<i64>,
    /// `LastInfoTime`, as last read.
    pub last_info_secs: Option<i64>,
    /// `NextMsgSeq`, as last read.
    pub next_message: Option<i64>,
    /// `CreateTime`, as last read.
    pub create_secs: Option<i64>,
    /// True where the mirror shows the group and it is not destroyed.
    pub is_shown: bool,
    /// True where the mirror holds attributes of it, or a callback left open which it has.
    pub has_attributes: bool,
    /// True where the mirror holds topics of it, or a callback left open which it has.
    pub has_topics: bool,
}

/// Groups of the mirror, in the order of their ids: each status has a stretch of the index.
const KNOWN: &str = "
SELECT s.group_id FROM (
 (SELECT group_id FROM groups WHERE sdk_app_id = $1 AND status = 'active' AND group_id > $3 ORDER BY group_id LIMIT $4)
 UNION ALL
 (SELECT group_id FROM groups WHERE sdk_app_id = $1 AND status = 'unseen' AND updated_stamp > '' AND group_id > $3
   ORDER BY group_id LIMIT $4)) s
 ORDER BY s.group_id LIMIT $4";

/// Groups that the list of ids or an earlier pass has named.
const NAMED: &str = "
SELECT group_id FROM group_reads WHERE sdk_app_id = $1 AND group_id > $3 ORDER BY group_id LIMIT $4";

/// `OFFSET 0` keeps each look a plan of its own, by the key: how many rows a window has is not known to the planner, and while
/// a first pass fills the tables it knows nothing of them either.
fn sweep(source: &str) -> String {
    format!(
        "SELECT s.group_id, COALESCE(r.pass >= $2, false) AS is_asked, r.member_num, r.last_info_secs, r.next_message,
       r.create_secs, COALESCE(g.status <> 'destroyed' AND g.updated_stamp > '', false) AS is_shown,
       COALESCE(g.attributes_unclear > g.attributes_barrier, false)
       OR EXISTS (SELECT FROM group_attributes a WHERE a.sdk_app_id = $1 AND a.group_id = s.group_id OFFSET 0) AS has_attributes,
       COALESCE(g.topics_unclear > g.topics_barrier, false)
       OR EXISTS (SELECT FROM group_topics t WHERE t.sdk_app_id = $1 AND t.group_id = s.group_id OFFSET 0) AS has_topics
  FROM ({source}) s
  LEFT JOIN LATERAL (SELECT * FROM groups x WHERE x.sdk_app_id = $1 AND x.group_id = s.group_id OFFSET 0) g ON true
  LEFT JOIN LATERAL (SELECT * FROM group_reads x WHERE x.sdk_app_id = $1 AND x.group_id = s.group_id OFFSET 0) r ON true
 ORDER BY s.group_id"
    )
}

/// The next groups of a phase after an id: in the phase `known` those of the mirror, else those that the list has.
///
/// # Errors
/// The statement's.
pub async fn next_groups(
    conn: &mut PgConnection,
    (app, number): (SdkAppId, i64),
    of_mirror: bool,
    after: &str,
    limit: i64,
) -> Result<Vec<SweepRow>, sqlx::Error> {
    let statement = sqlx::AssertSqlSafe(sweep(if of_mirror { KNOWN } else { NAMED }));
    let query = sqlx::query_as(statement).bind(app.get()).bind(number).bind(after).bind(limit);
    query.fetch_all(conn).await
}

const HAS_UNREAD_GROUPS: &str = "
SELECT EXISTS (SELECT FROM group_reads r
                WHERE r.sdk_app_id = $1
                  AND NOT EXISTS (SELECT FROM groups g WHERE g.sdk_app_id = $1 AND g.group_id = r.group_id OFFSET 0))";

/// True where the list of ids has named a group that the mirror does not have: it was asked for in vain.
///
/// # Errors
/// The statement's.
pub async fn has_unread_groups(conn: &mut PgConnection, app: SdkAppId) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(HAS_UNREAD_GROUPS).bind(app.get()).fetch_one(conn).await
}

const SWEPT: &str = "
UPDATE reconcile_passes SET swept_to = GREATEST(swept_to, $3)
 WHERE sdk_app_id = $1 AND number = $2 AND phase = $4";

/// Notes that every group up to an id was asked for in this phase.
///
/// # Errors
/// The statement's.
pub async fn swept(
    conn: &mut PgConnection,
    (app, number): (SdkAppId, i64),
    phase: &str,
    to: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(SWEPT).bind(app.get()).bind(number).bind(to).bind(phase).execute(conn).await.map(drop)
}

/// A callback may say that a group is destroyed after it was asked for: then its end is known, and it is no candidate.
const CANDIDATES: &str = "
  FROM gone_candidates c
 WHERE c.sdk_app_id = $1
   AND NOT EXISTS (SELECT FROM groups g
                    WHERE g.sdk_app_id = $1 AND g.group_id = c.group_id AND g.status = 'destroyed' OFFSET 0)";

/// Groups that were asked for once in vain, and when.
///
/// # Errors
/// The statement's.
pub async fn candidates(
    conn: &mut PgConnection,
    app: SdkAppId,
    limit: i64,
) -> Result<Vec<(String, i64)>, sqlx::Error> {
    let statement = format!("SELECT c.group_id, c.asked_ms {CANDIDATES} ORDER BY c.group_id LIMIT $2");
    let query = sqlx::query_as(sqlx::AssertSqlSafe(statement));
    query.bind(app.get()).bind(limit).fetch_all(conn).await
}

/// How many candidates there are.
///
/// # Errors
/// The statement's.
pub async fn candidate_count(conn: &mut PgConnection, app: SdkAppId) -> Result<i64, sqlx::Error> {
    let statement = sqlx::AssertSqlSafe(format!("SELECT count(*) {CANDIDATES}"));
    sqlx::query_scalar(statement).bind(app.get()).fetch_one(conn).await
}

/// A loose index scan over the keys would need the group first; the table is read once per pass.
const FIELD_KEYS: &str = "
SELECT DISTINCT key FROM group_user_defined_fields WHERE sdk_app_id = $1 ORDER BY key LIMIT $2";

const FIELD_KEYS_OF: &str = "
SELECT DISTINCT f.key FROM UNNEST($1::bigint[], $2::text[]) AS k (app, id)
 CROSS JOIN LATERAL (SELECT key FROM group_user_defined_fields x
                      WHERE x.sdk_app_id = k.app AND x.group_id = k.id OFFSET 0) f ORDER BY f.key";

/// The keys of user-defined fields that the mirror holds of some groups.
///
/// # Errors
/// The statement's.
pub async fn field_keys_of(conn: &mut PgConnection, groups: &[GroupKey]) -> Result<Vec<String>, sqlx::Error> {
    let apps: Vec<i64> = groups.iter().map(|key| key.app.get()).collect();
    let ids: Vec<&str> = groups.iter().map(|key| key.group.as_str()).collect();
    sqlx::query_scalar(FIELD_KEYS_OF).bind(apps).bind(ids).fetch_all(conn).await
}

/// The keys of user-defined fields that the mirror holds of an app.
///
/// # Errors
/// The statement's.
pub async fn field_keys(
    conn: &mut PgConnection,
    app: SdkAppId,
    limit: i64,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(FIELD_KEYS).bind(app.get()).bind(limit).fetch_all(conn).await
}
