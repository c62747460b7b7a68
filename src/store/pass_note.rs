//! What a batch of reads comes to for its pass, noted in the transaction of its snapshots.
//!
//! So an interrupted pass goes on behind the last batch that was committed, and nothing is asked for twice. Every note only
//! adds to what is known of the pass with its number: one that comes late, from a process that has lost the lease, is true
//! and harmless. The statements never commit.

use std::collections::BTreeSet;

use sqlx::PgConnection;

use super::work::{self, WorkDone, WorkRow};
use crate::mirror::GroupKey;
use crate::model::{Millis, SdkAppId};

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

    /// The same where the reads of some groups were left out because a lock on them was not given: they are read again, and
    /// not before `again`.
    #[must_use]
    pub fn without(&self, groups: &BTreeSet<&GroupKey>, again: Millis) -> Self {
        let mut note = self.clone();
        let mut missing = groups.clone();
        for done in note.done.iter_mut().filter(|done| groups.contains(&done.group)) {
            (done.parts, done.sigma) = (0, Millis::new(-1));
            missing.remove(&done.group);
        }
        note.listed.retain(|group| !groups.contains(group));
        for row in note.work.iter_mut().filter(|row| groups.contains(&row.group)) {
            (row.parts, row.due) = (row.parts | work::MEMBERS, row.due.max(again));
            missing.remove(&row.group);
        }
        // What a sweep has read has no row in the work list yet.
        let rows = missing.into_iter().filter(|_| note.pass.is_some());
        let row = |group: &GroupKey| WorkRow {
            group: group.clone(),
            class: 5,
            cause: "unknown",
            parts: work::MEMBERS,
            due: again,
        };
        note.work.extend(rows.map(row));
        note
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
