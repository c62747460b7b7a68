//! Passes: which one an app is in, how far it is, and which groups it has still to ask for.
//!
//! What a batch of reads has come to is noted in the transaction of its snapshots ([`note`]), so that an interrupted pass
//! goes on behind the last batch that was committed. Every note only adds to what is known of the pass with its number: one
//! that comes late, from a process that has lost the lease, is true and harmless. The statements never commit.

use sqlx::{FromRow, PgConnection};

use super::work::{self, WorkDone, WorkRow};
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

/// Candidates of the pass before are forgotten: each pass proves what it says by itself.
const FORGET: &str = "DELETE FROM gone_candidates WHERE sdk_app_id = $1";

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
 WHERE sdk_app_id = $1 AND number = $2";

/// Enters the next phase.
///
/// # Errors
/// The statement's.
pub async fn enter(
    conn: &mut PgConnection,
    (app, number): (SdkAppId, i64),
    phase: &str,
    now: Millis,
) -> Result<(), sqlx::Error> {
    let query = sqlx::query(ENTER).bind(app.get()).bind(number).bind(phase).bind(now.get());
    query.execute(conn).await.map(drop)
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
    /// True where the mirror holds attributes of it.
    pub has_attributes: bool,
    /// True where the mirror holds topics of it.
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

/// Groups that the list of ids or an earlier pass has met.
const MET: &str = "
SELECT group_id FROM group_reads WHERE sdk_app_id = $1 AND group_id > $3 ORDER BY group_id LIMIT $4";

fn sweep(source: &str) -> String {
    format!(
        "SELECT s.group_id, COALESCE(r.pass >= $2, false) AS is_asked, r.member_num, r.last_info_secs, r.next_message,
       r.create_secs, COALESCE(g.status <> 'destroyed' AND g.updated_stamp > '', false) AS is_shown,
       EXISTS (SELECT FROM group_attributes a WHERE a.sdk_app_id = $1 AND a.group_id = s.group_id) AS has_attributes,
       EXISTS (SELECT FROM group_topics t WHERE t.sdk_app_id = $1 AND t.group_id = s.group_id) AS has_topics
  FROM ({source}) s
  LEFT JOIN groups g ON g.sdk_app_id = $1 AND g.group_id = s.group_id
  LEFT JOIN group_reads r ON r.sdk_app_id = $1 AND r.group_id = s.group_id
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
    let statement = sqlx::AssertSqlSafe(sweep(if of_mirror { KNOWN } else { MET }));
    let query = sqlx::query_as(statement).bind(app.get()).bind(number).bind(after).bind(limit);
    query.fetch_all(conn).await
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

/// A group that was asked for, with the cheap witnesses of its profile, where there was one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotedGroup {
    /// The group.
    pub group: GroupKey,
    /// `MemberNum`.
    pub member_num: Option<i64>,
    /// `LastInfoTime`.
    pub last_info_secs: Option<i64>,
    /// `NextMsgSeq`.
    pub next_message: Option<i64>,
    /// `CreateTime`.
    pub create_secs: Option<i64>,
}

/// What a batch of reads comes to beside its snapshots.
#[derive(Debug, Clone, Default)]
pub struct PassNote {
    /// App and pass, where the batch is one of a pass.
    pub pass: Option<(SdkAppId, i64)>,
    /// Who was asked for.
    pub asked: Vec<NotedGroup>,
    /// How many groups of the mirror were answered for.
    pub found_alive: i64,
    /// Groups that are, and are no candidates.
    pub alive: Vec<GroupKey>,
    /// Groups of the mirror for which Tencent says that there is no such group, and when it was asked.
    pub candidates: Vec<(GroupKey, Millis)>,
    /// Groups that neither Tencent nor the mirror knows.
    pub forgotten: Vec<GroupKey>,
    /// What is to be read later.
    pub work: Vec<WorkRow>,
    /// What of the work list was read.
    pub done: Vec<WorkDone>,
    /// How long after its mark a group is due, in milliseconds.
    pub spare_ms: i64,
    /// Groups whose list of members is complete: their pages are not needed any more.
    pub listed: Vec<GroupKey>,
}

impl PassNote {
    /// True where there is nothing to note.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.asked.is_empty()
            && self.alive.is_empty()
            && self.candidates.is_empty()
            && self.forgotten.is_empty()
            && self.work.is_empty()
            && self.done.is_empty()
            && self.listed.is_empty()
    }

    /// Both of them; of one pass, or one of none.
    pub fn append(&mut self, other: Self) {
        self.pass = self.pass.or(other.pass);
        self.spare_ms = self.spare_ms.max(other.spare_ms);
        self.found_alive += other.found_alive;
        self.asked.extend(other.asked);
        self.alive.extend(other.alive);
        self.candidates.extend(other.candidates);
        self.forgotten.extend(other.forgotten);
        self.work.extend(other.work);
        self.done.extend(other.done);
        self.listed.extend(other.listed);
    }
}

const ASKED: &str = "
INSERT INTO group_reads AS t (sdk_app_id, group_id, pass, member_num, last_info_secs, next_message, create_secs)
SELECT k.app, k.id, $3, k.num, k.info, k.msg, k.made
  FROM UNNEST($1::bigint[], $2::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
       AS k (app, id, num, info, msg, made)
 ORDER BY k.app, k.id
ON CONFLICT (sdk_app_id, group_id) DO UPDATE SET
    pass = GREATEST(t.pass, EXCLUDED.pass), member_num = COALESCE(EXCLUDED.member_num, t.member_num),
    last_info_secs = COALESCE(EXCLUDED.last_info_secs, t.last_info_secs),
    next_message = COALESCE(EXCLUDED.next_message, t.next_message),
    create_secs = COALESCE(EXCLUDED.create_secs, t.create_secs)";

const COUNT: &str = "
UPDATE reconcile_passes SET asked = asked + $3, found_alive = found_alive + $4
 WHERE sdk_app_id = $1 AND number = $2";

const CANDIDATES: &str = "
INSERT INTO gone_candidates (sdk_app_id, group_id, asked_ms)
SELECT k.app, k.id, k.ms FROM UNNEST($1::bigint[], $2::text[], $3::bigint[]) AS k (app, id, ms)
 ORDER BY k.app, k.id
ON CONFLICT DO NOTHING";

const OF_KEYS: &str =
    "USING UNNEST($1::bigint[], $2::text[]) AS k (app, id) WHERE t.sdk_app_id = k.app AND t.group_id = k.id";

fn keys<'a>(groups: impl IntoIterator<Item = &'a GroupKey>) -> (Vec<i64>, Vec<&'a str>) {
    groups.into_iter().map(|key| (key.app.get(), key.group.as_str())).unzip()
}

async fn delete(conn: &mut PgConnection, table: &str, groups: &[GroupKey]) -> Result<(), sqlx::Error> {
    if groups.is_empty() {
        return Ok(());
    }
    let (apps, ids) = keys(groups);
    let statement = sqlx::AssertSqlSafe(format!("DELETE FROM {table} t {OF_KEYS}"));
    sqlx::query(statement).bind(apps).bind(ids).execute(conn).await.map(drop)
}

/// Notes what a batch has come to.
///
/// # Errors
/// A statement's.
pub async fn note(conn: &mut PgConnection, note: &PassNote) -> Result<(), sqlx::Error> {
    let number = note.pass.map_or(0, |(_, number)| number);
    if !note.asked.is_empty() {
        let (apps, ids) = keys(note.asked.iter().map(|asked| &asked.group));
        sqlx::query(ASKED)
            .bind(apps)
            .bind(ids)
            .bind(number)
            .bind(note.asked.iter().map(|asked| asked.member_num).collect::<Vec<_>>())
            .bind(note.asked.iter().map(|asked| asked.last_info_secs).collect::<Vec<_>>())
            .bind(note.asked.iter().map(|asked| asked.next_message).collect::<Vec<_>>())
            .bind(note.asked.iter().map(|asked| asked.create_secs).collect::<Vec<_>>())
            .execute(&mut *conn)
            .await?;
    }
    delete(conn, "gone_candidates", &note.alive).await?;
    if !note.candidates.is_empty() {
        let (apps, ids) = keys(note.candidates.iter().map(|(group, _)| group));
        let asked: Vec<i64> = note.candidates.iter().map(|(_, asked)| asked.get()).collect();
        let query = sqlx::query(CANDIDATES).bind(apps).bind(ids).bind(asked);
        query.execute(&mut *conn).await?;
    }
    for table in ["group_reads", "group_work", "gone_candidates", "list_pages"] {
        delete(conn, table, &note.forgotten).await?;
    }
    delete(conn, "list_pages", &note.listed).await?;
    work::put(conn, &note.work, note.pass.map(|(_, number)| number)).await?;
    work::done(conn, &note.done, note.spare_ms).await?;
    // Last, because every batch of the pass updates this row: its lock is held for as short a time as possible.
    if let Some((app, number)) = note.pass {
        let asked = i64::try_from(note.asked.len()).unwrap_or(i64::MAX);
        let query = sqlx::query(COUNT).bind(app.get()).bind(number).bind(asked).bind(note.found_alive);
        query.execute(conn).await?;
    }
    Ok(())
}

/// Groups that were asked for once in vain, and when.
///
/// # Errors
/// The statement's.
pub async fn candidates(
    conn: &mut PgConnection,
    app: SdkAppId,
    limit: i64,
) -> Result<Vec<(String, i64)>, sqlx::Error> {
    let query = sqlx::query_as(
        "SELECT group_id, asked_ms FROM gone_candidates WHERE sdk_app_id = $1 ORDER BY group_id LIMIT $2",
    );
    query.bind(app.get()).bind(limit).fetch_all(conn).await
}

const CANDIDATE_COUNT: &str = "SELECT count(*) FROM gone_candidates WHERE sdk_app_id = $1";

/// How many candidates there are.
///
/// # Errors
/// The statement's.
pub async fn candidate_count(conn: &mut PgConnection, app: SdkAppId) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(CANDIDATE_COUNT).bind(app.get()).fetch_one(conn).await
}

/// A loose index scan over the keys would need the group first; the table is read once per pass.
const FIELD_KEYS: &str = "
SELECT DISTINCT key FROM group_user_defined_fields WHERE sdk_app_id = $1 ORDER BY key LIMIT $2";

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
