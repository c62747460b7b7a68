//! The work list: groups that are to be read by themselves, why, and not before when.
//!
//! Callbacks mark groups by way of the ledger ([`mark`]), so that the hot path writes nothing here; a pass adds what the sweep
//! cannot read by the way. A row ends when a read as of a time not before its newest mark has brought all its parts. The
//! statements work on the connection they are given and never commit.

use std::collections::BTreeMap;

use sqlx::{Executor as _, FromRow, PgConnection};

use super::feed::{FeedPlace, place_at};
use super::gaps::CLOCKS_APART_MAX_MS;
use crate::mirror::GroupKey;
use crate::model::{Millis, SdkAppId};

/// Bit of [`WorkRow::parts`]: the members.
pub const MEMBERS: i16 = 1;

/// Bit of [`WorkRow::parts`]: the attributes.
pub const ATTRIBUTES: i16 = 2;

/// Bit of [`WorkRow::parts`]: the topics.
pub const TOPICS: i16 = 4;

/// How many positions of the ledger are looked at in one transaction.
const MARKED_MAX: i64 = 5_000;

/// A group that is to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkRow {
    /// The group.
    pub group: GroupKey,
    /// 1 to 5: see `migrations/0010_reconcile.sql`.
    pub class: i16,
    /// Why.
    pub cause: &'static str,
    /// What beside the profile.
    pub parts: i16,
    /// Not before.
    pub due: Millis,
}

/// A group that was taken from the list.
#[derive(Debug, Clone, PartialEq, Eq, FromRow)]
pub struct DueGroup {
    /// The group.
    pub group_id: String,
    /// Its class.
    pub class: i16,
    /// What beside the profile.
    pub parts: i16,
    /// Event time of the newest mark.
    pub newest_ms: i64,
    /// How often it was read in vain.
    pub attempts: i32,
    /// `MemberNum`, as last read.
    pub member_num: Option<i64>,
    /// True where the mirror shows the group and it is not destroyed.
    pub is_shown: bool,
    /// The owner, else where topics are to be read a member, in whose name topics are asked for.
    pub asker: Option<String>,
    /// Pages of its list are kept from a read that was interrupted.
    pub has_pages: bool,
    /// It is noted what its list said when it was last read.
    pub was_listed: bool,
}

/// What came of reading a group of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkDone {
    /// The group.
    pub group: GroupKey,
    /// Which parts were read.
    pub parts: i16,
    /// As of when.
    pub sigma: Millis,
    /// When it is read again, unless that was enough.
    pub again: Millis,
}

const PUT: &str = "
INSERT INTO group_work AS t (sdk_app_id, group_id, class, cause, parts, due_at, pass)
SELECT k.app, k.id, k.class, k.cause, k.parts, to_timestamp(k.due_ms / 1000.0), $7
  FROM UNNEST($1::bigint[], $2::text[], $3::smallint[], $4::text[], $5::smallint[], $6::bigint[])
       AS k (app, id, class, cause, parts, due_ms)
 ORDER BY k.app, k.id
ON CONFLICT (sdk_app_id, group_id) DO UPDATE SET
    class = LEAST(t.class, EXCLUDED.class), parts = t.parts | EXCLUDED.parts,
    cause = CASE WHEN EXCLUDED.class < t.class THEN EXCLUDED.cause ELSE t.cause END,
    due_at = LEAST(t.due_at, EXCLUDED.due_at), pass = COALESCE(EXCLUDED.pass, t.pass)";

/// Adds groups, each once; what is there already becomes more urgent, never less.
///
/// # Errors
/// The statement's.
pub async fn put(conn: &mut PgConnection, rows: &[WorkRow], pass: Option<i64>) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(PUT)
        .bind(rows.iter().map(|row| row.group.app.get()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.group.group.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.class).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.cause).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.parts).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.due.get()).collect::<Vec<_>>())
        .bind(pass)
        .execute(conn)
        .await
        .map(drop)
}

/// Without statistics a planner believes that few rows are due, or older than a gap, and sorts all of them.
const IN_ORDER: &str = "SET LOCAL enable_sort = off";

/// One look for all classes, because most of the time none of them has anything.
const DUE_CLASSES: &str = "
SELECT c.class FROM UNNEST($2::smallint[]) AS c (class)
 CROSS JOIN LATERAL (SELECT FROM group_work w
                      WHERE w.sdk_app_id = $1 AND w.class = c.class AND w.due_at <= to_timestamp($3 / 1000.0)
                        AND w.group_id <> ALL ($4)
                      ORDER BY w.due_at LIMIT 1) d";

/// Which of some classes have a group that is due, without those that are being read. To be called inside a transaction, whose
/// later statements do not sort either.
///
/// # Errors
/// The statement's.
pub async fn due_classes(
    conn: &mut PgConnection,
    (app, classes): (SdkAppId, &[i16]),
    now: Millis,
    busy: &[String],
) -> Result<Vec<i16>, sqlx::Error> {
    conn.execute(IN_ORDER).await?;
    let query = sqlx::query_scalar(DUE_CLASSES).bind(app.get()).bind(classes).bind(now.get());
    query.bind(busy).fetch_all(conn).await
}

/// The index gives the order, and the other tables are looked at by key for what is taken alone: a list that was empty when
/// the planner's statistics were gathered counts as empty while it fills, and a plan for that reads all of it each time.
const TAKE: &str = "
SELECT w.group_id, w.class, w.parts, w.newest_ms, w.attempts, r.member_num,
       COALESCE(g.status <> 'destroyed' AND g.updated_stamp > '', false) AS is_shown, g.owner AS asker,
       w.parts & 1 > 0 AND EXISTS (SELECT FROM list_pages p
                                    WHERE p.sdk_app_id = w.sdk_app_id AND p.group_id = w.group_id OFFSET 0) AS has_pages,
       w.parts & 1 > 0 AND EXISTS (SELECT FROM group_read_digests d WHERE d.sdk_app_id = w.sdk_app_id
                                      AND d.group_id = w.group_id AND d.kind = 'members' OFFSET 0) AS was_listed
  FROM (SELECT * FROM group_work x
         WHERE x.sdk_app_id = $1 AND x.class = $2 AND x.due_at <= to_timestamp($3 / 1000.0) AND x.group_id <> ALL ($4)
         ORDER BY x.due_at LIMIT $5) w
  LEFT JOIN LATERAL (SELECT status, updated_stamp, owner FROM groups x
                      WHERE x.sdk_app_id = w.sdk_app_id AND x.group_id = w.group_id OFFSET 0) g ON true
  LEFT JOIN LATERAL (SELECT member_num FROM group_reads x
                      WHERE x.sdk_app_id = w.sdk_app_id AND x.group_id = w.group_id OFFSET 0) r ON true
 ORDER BY w.due_at";

/// The asker of topics need not be right: whether Tencent wants a member is not documented, and an answer that refuses
/// changes nothing. Asked by itself, for groups without an owner: a plan of the view of members costs more than all else here.
const ASKERS: &str = "
SELECT k.id, m.user_id FROM UNNEST($2::text[]) AS k (id)
 CROSS JOIN LATERAL (SELECT a.user_id FROM active_group_members a
                      WHERE a.sdk_app_id = $1 AND a.group_id = k.id LIMIT 1) m";

/// Groups of a class that are due, the longest waiting first, without those that are being read. To be called inside a
/// transaction, as above.
///
/// # Errors
/// A statement's.
pub async fn due(
    conn: &mut PgConnection,
    (app, class): (SdkAppId, i16),
    now: Millis,
    busy: &[String],
    limit: i64,
) -> Result<Vec<DueGroup>, sqlx::Error> {
    conn.execute(IN_ORDER).await?;
    let query = sqlx::query_as(TAKE).bind(app.get()).bind(class).bind(now.get());
    let mut rows: Vec<DueGroup> = query.bind(busy).bind(limit).fetch_all(&mut *conn).await?;
    let lacks_asker = |row: &&mut DueGroup| row.parts & TOPICS > 0 && row.asker.is_none();
    let mut open: Vec<&mut DueGroup> = rows.iter_mut().filter(lacks_asker).collect();
    if !open.is_empty() {
        let ids: Vec<&str> = open.iter().map(|row| row.group_id.as_str()).collect();
        let query = sqlx::query_as(ASKERS).bind(app.get()).bind(ids);
        let askers: BTreeMap<String, String> = query.fetch_all(conn).await?.into_iter().collect();
        open.iter_mut().for_each(|row| row.asker = askers.get(&row.group_id).cloned());
    }
    Ok(rows)
}

/// By the places of the rows, each of which is the first one from its key on: where a list counts as empty (see `TAKE`), a
/// look for the key itself may go by the other index, which knows the app alone. What a callback has marked meanwhile is
/// compared anew.
const FINISH: &str = "
DELETE FROM group_work t
 USING (SELECT w.place, k.parts, k.sigma
          FROM UNNEST($1::bigint[], $2::text[], $3::smallint[], $4::bigint[]) AS k (app, id, parts, sigma)
         CROSS JOIN LATERAL (SELECT x.ctid AS place, x.sdk_app_id, x.group_id FROM group_work x
                              WHERE (x.sdk_app_id, x.group_id) >= (k.app, k.id)
                              ORDER BY x.sdk_app_id, x.group_id LIMIT 1) w
         WHERE w.sdk_app_id = k.app AND w.group_id = k.id OFFSET 0) d
 WHERE t.ctid = d.place AND t.newest_ms <= d.sigma AND t.parts & ~d.parts = 0";

/// What remains is asked for again at the newest mark and the spare behind it, or when the caller says, if that is later.
const POSTPONE: &str = "
UPDATE group_work t
   SET parts = CASE WHEN t.newest_ms <= k.sigma THEN t.parts & ~k.parts ELSE t.parts END, attempts = t.attempts + 1,
       due_at = GREATEST(to_timestamp((t.newest_ms + $5) / 1000.0), to_timestamp(k.again / 1000.0))
  FROM UNNEST($1::bigint[], $2::text[], $3::smallint[], $4::bigint[], $6::bigint[]) AS k (app, id, parts, sigma, again)
 WHERE t.sdk_app_id = k.app AND t.group_id = k.id";

/// Ends the rows of groups that were read, and puts off those of which something is still to be read. To be called inside a
/// transaction, as above.
///
/// # Errors
/// A statement's.
pub async fn done(conn: &mut PgConnection, read: &[WorkDone], spare_ms: i64) -> Result<(), sqlx::Error> {
    if read.is_empty() {
        return Ok(());
    }
    let apps: Vec<i64> = read.iter().map(|done| done.group.app.get()).collect();
    let ids: Vec<&str> = read.iter().map(|done| done.group.group.as_str()).collect();
    let parts: Vec<i16> = read.iter().map(|done| done.parts).collect();
    let sigmas: Vec<i64> = read.iter().map(|done| done.sigma.get()).collect();
    let again: Vec<i64> = read.iter().map(|done| done.again.get()).collect();
    conn.execute(IN_ORDER).await?;
    let finish = sqlx::query(FINISH).bind(&apps).bind(&ids).bind(&parts).bind(&sigmas);
    let finished = finish.execute(&mut *conn).await?.rows_affected();
    if finished < read.len() as u64 {
        let postpone = sqlx::query(POSTPONE).bind(&apps).bind(&ids).bind(&parts).bind(&sigmas);
        postpone.bind(spare_ms).bind(&again).execute(conn).await?;
    }
    Ok(())
}

const HAS_MORE_FOLLOW_UPS: &str = "
SELECT EXISTS (SELECT FROM group_work WHERE sdk_app_id = $1 AND class = 1 ORDER BY due_at OFFSET $2 LIMIT 1)";

/// True where more than so many groups wait that callbacks have marked. Only their part of the index is read: the list of a pass
/// may hold a million rows, and this is asked each second.
///
/// # Errors
/// The statement's.
pub async fn has_more_follow_ups(
    conn: &mut PgConnection,
    app: SdkAppId,
    count: i64,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(HAS_MORE_FOLLOW_UPS).bind(app.get()).bind(count).fetch_one(conn).await
}

const OF_PASS: &str = "SELECT count(*) FROM group_work WHERE sdk_app_id = $1 AND pass = $2";

/// How many rows a pass waits for. Reads the whole list of the app.
///
/// # Errors
/// The statement's.
pub async fn of_pass(conn: &mut PgConnection, app: SdkAppId, pass: i64) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(OF_PASS).bind(app.get()).bind(pass).fetch_one(conn).await
}

/// The oldest first. A read closes a gap only as of so long after its end as clocks may lie apart; groups that a read as of
/// now cannot verify behind that moment yet are left for later. Asked each second, so that what it reads must not grow with the
/// number of groups: no group is looked at while no gap is open, and else each half is a range of an index.
const PUT_OF_GAPS: &str = "
INSERT INTO group_work (sdk_app_id, group_id, class, cause, parts, due_at)
SELECT $1, v.group_id, 2, 'gap', 1, to_timestamp($2 / 1000.0)
  FROM (SELECT max(last_at) + make_interval(secs => $5 / 1000.0) AS ended FROM gaps
         WHERE sdk_app_id = $1 AND closed_at IS NULL AND last_at < to_timestamp(($2 - $3 - $5) / 1000.0)
        HAVING max(last_at) IS NOT NULL) g
 CROSS JOIN LATERAL ((SELECT group_id FROM group_verifications
                       WHERE sdk_app_id = $1 AND status <> 'destroyed' AND whole_verified_at IS NULL
                       ORDER BY whole_verified_at NULLS FIRST, group_id LIMIT $4)
                     UNION ALL
                     (SELECT group_id FROM group_verifications
                       WHERE sdk_app_id = $1 AND status <> 'destroyed' AND whole_verified_at < g.ended
                       ORDER BY whole_verified_at NULLS FIRST, group_id LIMIT $4)
                     LIMIT $4) v
 WHERE (SELECT count(*) FROM group_work w WHERE w.sdk_app_id = $1 AND w.class = 2) < $4
ON CONFLICT DO NOTHING";

/// So many groups of gaps are in the list at the same time.
const OF_GAPS_MAX: i64 = 200;

/// Adds groups that were read last before the end of a gap that is open; `spare_ms` is how far a read lies behind. To be called
/// inside a transaction, whose later statements do not sort either.
///
/// # Errors
/// The statement's.
pub async fn put_of_gaps(
    conn: &mut PgConnection,
    app: SdkAppId,
    now: Millis,
    spare_ms: i64,
) -> Result<(), sqlx::Error> {
    conn.execute(IN_ORDER).await?;
    let query = sqlx::query(PUT_OF_GAPS).bind(app.get()).bind(now.get()).bind(spare_ms).bind(OF_GAPS_MAX);
    query.bind(CLOCKS_APART_MAX_MS).execute(conn).await.map(drop)
}

/// A callback below the time of the newest read that was received after it changes nothing that the read showed, and may
/// say that the read was stale; G is added, because the read was asked for that much later than it counts.
///
/// A group whose attributes or topics are unclear stays so until a read, so any of its entries may mark it.
const MARK: &str = "
INSERT INTO group_work AS t (sdk_app_id, group_id, class, cause, parts, newest_ms, due_at)
SELECT m.sdk_app_id, m.group_id, 1, min(m.cause), bit_or(m.parts), max(m.time_ms),
       to_timestamp((min(m.time_ms) + $5) / 1000.0)
  FROM (SELECT l.sdk_app_id, l.group_id, l.time_ms,
               CASE WHEN l.command = $4 THEN 'created' WHEN g.status = 'unseen' THEN 'unseen'
                    WHEN l.outcome = 'partial' THEN 'partial'
                    WHEN g.attributes_unclear > g.attributes_barrier THEN 'attributes'
                    WHEN g.topics_unclear > g.topics_barrier THEN 'topics'
                    WHEN l.time_ms < extract(epoch FROM GREATEST(v.verified_at, v.members_verified_at)) * 1000
                     AND extract(epoch FROM l.received_at) * 1000
                         > extract(epoch FROM GREATEST(v.verified_at, v.members_verified_at)) * 1000 + $5 THEN 'late' END AS cause,
               (1 + CASE WHEN g.attributes_unclear > g.attributes_barrier OR l.outcome = 'partial' THEN 2 ELSE 0 END
                  + CASE WHEN g.topics_unclear > g.topics_barrier
                           OR starts_with(l.group_id, $6) AND (l.outcome = 'partial' OR l.command = $4) THEN 4 ELSE 0 END
               )::smallint AS parts
          FROM ledger l
          JOIN groups g ON g.sdk_app_id = l.sdk_app_id AND g.group_id = l.group_id
          LEFT JOIN group_verifications v ON v.sdk_app_id = l.sdk_app_id AND v.group_id = l.group_id
         WHERE l.position > $1 AND l.position <= $2 AND l.source = 'callback' AND l.sdk_app_id = ANY ($3)
           AND l.outcome <> 'parked' AND g.status <> 'destroyed') m
 WHERE m.cause IS NOT NULL
 GROUP BY m.sdk_app_id, m.group_id ORDER BY m.sdk_app_id, m.group_id
ON CONFLICT (sdk_app_id, group_id) DO UPDATE SET
    class = 1, parts = t.parts | EXCLUDED.parts, newest_ms = GREATEST(t.newest_ms, EXCLUDED.newest_ms),
    cause = CASE WHEN t.class = 1 THEN t.cause ELSE EXCLUDED.cause END,
    due_at = CASE WHEN t.class = 1 THEN t.due_at ELSE EXCLUDED.due_at END";

const NEXT: &str = "SELECT min(position) FROM ledger WHERE position > $1";

/// How marks are made.
#[derive(Debug, Clone, Copy)]
pub struct Marking<'a> {
    /// Apps that are read from Tencent.
    pub apps: &'a [SdkAppId],
    /// The command that creates a group.
    pub create: &'a str,
    /// How the id of a community begins.
    pub community: &'a str,
    /// How long after its event time a mark is due, in milliseconds.
    pub spare_ms: i64,
}

/// Marks the groups of callbacks between two places of the ledger, a limited number of positions; answers up to where.
///
/// # Errors
/// A statement's.
pub async fn mark(
    conn: &mut PgConnection,
    after: &FeedPlace,
    high_watermark: &FeedPlace,
    marking: Marking<'_>,
) -> Result<FeedPlace, sqlx::Error> {
    let first: Option<i64> = sqlx::query_scalar(NEXT).bind(after.position).fetch_one(&mut *conn).await?;
    let Some(first) = first.filter(|first| *first <= high_watermark.position) else {
        return Ok(high_watermark.clone().or_later(after));
    };
    let last = high_watermark.position.min(first.saturating_add(MARKED_MAX));
    let apps: Vec<i64> = marking.apps.iter().map(|app| app.get()).collect();
    sqlx::query(MARK)
        .bind(after.position)
        .bind(last)
        .bind(apps)
        .bind(marking.create)
        .bind(marking.spare_ms)
        .bind(marking.community)
        .execute(&mut *conn)
        .await?;
    place_at(conn, last).await
}
