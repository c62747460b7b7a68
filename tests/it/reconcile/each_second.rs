//! What is asked of the database each second while passes are led, in rows and not in milliseconds: it must not grow with the
//! number of groups or with the list of a pass.

use group_mirror::model::{Millis, SdkAppId};
use group_mirror::store::work;
use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::support::postgres::TestDatabase;

/// Groups of which all are verified but one, a pass that waits for half of them, and two groups that callbacks have marked.
const MANY: &str = "
INSERT INTO group_verifications (sdk_app_id, group_id, status, has_member_list, verified_at, members_verified_at)
SELECT 1400000001, 'g' || n, 'active', true, to_timestamp(1767225600 + n), to_timestamp(1767225600 + n)
  FROM generate_series(1, 20000) n;
INSERT INTO group_verifications (sdk_app_id, group_id, status, has_member_list) VALUES (1400000001, 'new', 'active', true);
INSERT INTO group_work (sdk_app_id, group_id, class, cause, parts, due_at, pass)
SELECT 1400000001, 'g' || n, CASE WHEN n > 2 THEN 5 ELSE 1 END, 'turn', 1, now(), 1 FROM generate_series(1, 10000) n";

/// A gap that ended so many seconds after the first group was verified.
const GAP: &str = "
INSERT INTO gaps (sdk_app_id, cause, first_at, last_at, callbacks)
SELECT 1400000001, 'spool_full', to_timestamp(1767225600), to_timestamp(1767225600 + $1), 1";

/// Rows of a transaction that is not over: a difference within one is exact.
const VISITED: &str = "
SELECT COALESCE(sum(COALESCE(seq_tup_read, 0) + COALESCE(idx_tup_fetch, 0)), 0)::bigint FROM pg_stat_xact_user_tables
 WHERE relname IN ('group_verifications', 'group_work', 'gaps')";

async fn visited(conn: &mut PgConnection) -> i64 {
    sqlx::query_scalar(VISITED).fetch_one(conn).await.unwrap()
}

/// Looks for work of gaps as a leader does; answers how many rows were visited, and how many groups are in the list for it.
async fn put(conn: &mut PgConnection, app: SdkAppId) -> (i64, i64) {
    let mut scope = conn.begin().await.unwrap();
    let before = visited(&mut scope).await;
    work::put_of_gaps(&mut scope, app, Millis::new(1_900_000_000_000), 62_000).await.unwrap();
    let rows = visited(&mut scope).await - before;
    let query = "SELECT count(*) FROM group_work WHERE class = 2";
    let groups = sqlx::query_scalar(query).fetch_one(&mut *scope).await.unwrap();
    scope.rollback().await.unwrap();
    (rows, groups)
}

/// Aim: a quiet mirror of a million groups costs what a small one costs. Method: rows are counted, with the planner's
/// statistics and without them.
#[tokio::test]
async fn what_is_asked_each_second_visits_no_more_rows_where_there_are_more_groups() {
    for statement in ["", "ANALYZE"] {
        let database = TestDatabase::create().await;
        let mut conn = database.connect().await;
        // Settings of writing sessions; see `store/session.rs`.
        conn.execute("SET enable_seqscan = off; SET jit = off").await.unwrap();
        sqlx::raw_sql(MANY).execute(&mut conn).await.unwrap();
        conn.execute(statement).await.unwrap();
        let app = SdkAppId::parse("1400000001").unwrap();
        let (rows, groups) = put(&mut conn, app).await;
        assert!(rows < 10 && groups == 0, "no gap, {statement:?}: {rows} rows, {groups} groups");
        for (ended, expected) in [(10_i64, 70), (100_000, 200)] {
            conn.execute("DELETE FROM gaps").await.unwrap();
            sqlx::query(GAP).bind(ended).execute(&mut conn).await.unwrap();
            let (rows, groups) = put(&mut conn, app).await;
            // The group that was never read, and what was read before the end and the minute of clocks behind it: all that
            // are not in the list already.
            assert!(rows < 700, "a gap to {ended} s, {statement:?}: {rows} rows, {groups} groups");
            assert!((1..=expected).contains(&groups), "a gap to {ended} s, {statement:?}: {groups} groups");
        }
        let mut scope = conn.begin().await.unwrap();
        for (count, has_more) in [(0, true), (1, true), (2, false), (100_000, false)] {
            let before = visited(&mut scope).await;
            assert_eq!(work::has_more_follow_ups(&mut scope, app, count).await.unwrap(), has_more, "{count}");
            let rows = visited(&mut scope).await - before;
            assert!(rows < 10, "more than {count}, {statement:?}: {rows} rows");
        }
    }
}
