//! Which partitions a read of the ledger opens: those whose time it asks for, and no other.
//!
//! Plans are compared, not milliseconds. A read that says nothing of time opens all of them, and finds its rows in each by an
//! index.

use std::collections::BTreeSet;

use group_mirror::mirror::{GroupKey, group_key};
use group_mirror::model::{GroupId, SdkAppId, UserId};
use group_mirror::store::app_history::{self, AppHistoryFilter, AppHistoryKey};
use group_mirror::store::feed::{self, FeedFilter, FeedPlace};
use group_mirror::store::history::{self, HistoryFilter};
use group_mirror::store::ledger::LedgerRow;
use group_mirror::store::partitions::TimeSpan;
use group_mirror::store::people::HeldPerson;
use group_mirror::store::{Database, ledger_walk, people, timeline};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor as _};

use crate::support::postgres::TestDatabase;

const DAY: i64 = 24 * 60 * 60 * 1000;

/// Entries of one group and one user over four months, one an hour, in partitions of a week from a Monday on.
const BEGIN: i64 = 1_767_571_200_000;
const DAYS: i64 = 120;

async fn filled() -> (TestDatabase, PgConnection) {
    let test = TestDatabase::create_empty().await;
    group_mirror::store::schema::MIGRATOR.run(&mut test.connect().await).await.unwrap();
    let mut conn = test.connect().await;
    for week in 0..20 {
        for table in ["ledger", "ledger_people"] {
            let (begin, end) = (BEGIN + week * 7 * DAY, BEGIN + (week + 1) * 7 * DAY);
            let make = format!(
                "SELECT ledger_new_partition('{table}', '{table}_w{week}', 'a week');
                 ALTER TABLE {table} ATTACH PARTITION {table}_w{week} FOR VALUES FROM ({begin}) TO ({end})"
            );
            conn.execute(AssertSqlSafe(make)).await.unwrap();
        }
    }
    let fill = format!(
        "INSERT INTO ledger (sdk_app_id, group_id, time_ms, digest, command, received_at, source, outcome, body)
         SELECT 7, 'g', {BEGIN} + n * 3600000::bigint, substr(sha256(n::text::bytea), 1, 16), 'c', to_timestamp(({BEGIN} + n * 3600000::bigint) / 1000),
                'callback', 'applied', '{{}}'
           FROM generate_series(0, {DAYS} * 24 - 1) n;
         INSERT INTO ledger_people (sdk_app_id, group_id, user_id, time_ms, digest, parts)
         SELECT sdk_app_id, group_id, 'u', time_ms, digest, 1 FROM ledger;
         SET plan_cache_mode = force_custom_plan"
    );
    conn.execute(AssertSqlSafe(fill)).await.unwrap();
    (test, conn)
}

fn group() -> GroupKey {
    group_key(SdkAppId::parse("7").unwrap(), GroupId::parse("g").unwrap())
}

/// The weeks that a plan reads of a table.
fn weeks(plan: &str, table: &str) -> BTreeSet<i64> {
    let begin = format!(" on {table}_w");
    let scans = plan.lines().filter_map(|line| {
        let (scan, rest) = line.split_once(&begin)?;
        assert!(scan.contains("Scan"), "{line}");
        rest.split(' ').next()?.parse().ok()
    });
    scans.collect()
}

#[tokio::test]
async fn histories_and_past_moments_open_the_partitions_of_their_time_alone() {
    let (_test, mut conn) = filled().await;
    for known in ["nothing", "everything"] {
        if known == "everything" {
            conn.execute("ANALYZE ledger, ledger_people").await.unwrap();
        }
        // From the middle of the fifth week to that of the seventh.
        let (after, before) = (BEGIN + 4 * 7 * DAY + 3 * DAY, BEGIN + 6 * 7 * DAY + 3 * DAY);
        let wanted = BTreeSet::from([4, 5, 6]);
        let filter = HistoryFilter {
            outcome: None,
            cause: None,
            command: None,
            after_ms: after,
            behind: (before, Vec::new()),
        };
        let plan = history::explain(&mut conn, "COSTS OFF", &group(), &filter).await.unwrap();
        assert_eq!(weeks(&plan, "ledger"), wanted, "{known}: {plan}");
        let of_app = AppHistoryFilter {
            app: SdkAppId::parse("7").unwrap(),
            user: None,
            part: None,
            command: None,
            outcome: None,
            source: None,
            after_ms: after,
            behind: AppHistoryKey { time_ms: before, digest: Vec::new(), group: String::new() },
        };
        let plan = app_history::explain(&mut conn, "COSTS OFF", &of_app, 50).await.unwrap();
        assert_eq!(weeks(&plan, "ledger"), wanted, "{known}: {plan}");
        let of_user = AppHistoryFilter { user: Some(UserId::parse("u").unwrap()), ..of_app };
        let plan = app_history::explain(&mut conn, "COSTS OFF", &of_user, 50).await.unwrap();
        assert_eq!(weeks(&plan, "ledger_people"), wanted, "{known}: {plan}");
        let plan =
            timeline::explain_page(&mut conn, "COSTS OFF", &group(), (after, &[]), before).await.unwrap();
        assert_eq!(weeks(&plan, "ledger"), wanted, "{known}: {plan}");
        // As of a moment: nothing that is later.
        let plan = timeline::explain_page(&mut conn, "COSTS OFF", &group(), (i64::MIN, &[]), before).await;
        assert_eq!(weeks(&plan.unwrap(), "ledger"), (0..=6).collect(), "{known}");
    }
}

/// A late callback gets a high position in an old partition, so a position says nothing of time: each partition is asked, by its
/// index, for the little that lies behind.
#[tokio::test]
async fn a_page_of_the_feed_reads_behind_a_position_by_the_index_of_each_partition() {
    let (test, mut conn) = filled().await;
    conn.execute("ANALYZE ledger").await.unwrap();
    let pools = Database::new(&test.url).unwrap();
    let mut own = pools.own_session().await.unwrap();
    let last = DAYS * 24;
    let behind = FeedPlace { position: last - 10, digest: String::new() };
    let plan = feed::plan(own.conn(), &behind, last, &FeedFilter::ALL, 51).await.unwrap();
    assert_eq!(weeks(&plan, "ledger"), (0..20).collect(), "{plan}");
    assert!(plan.contains("Merge Append") && !plan.contains("->  Sort"), "{plan}");
    drop(own);
    pools.close().await;
}

/// A plan for any values, as the pool for lookups makes it.
#[tokio::test]
async fn whether_a_group_has_an_entry_behind_a_position_is_read_by_positions_and_not_by_the_key_of_the_group()
{
    let (test, mut conn) = filled().await;
    // Beside many small groups, so that any group counts as small.
    let others = format!(
        "INSERT INTO ledger (sdk_app_id, group_id, time_ms, digest, command, received_at, source, outcome, body)
         SELECT 7, 'other' || n % 500, {BEGIN} + n * 3600000::bigint, substr(sha256(n::text::bytea), 1, 16), 'c', now(), 'callback', 'applied', '{{}}'
           FROM generate_series(0, {DAYS} * 24 - 1) n; ANALYZE ledger"
    );
    conn.execute(AssertSqlSafe(others)).await.unwrap();
    let pools = Database::new(&test.url).unwrap();
    let mut lookup = pools.lookup().acquire().await.unwrap();
    // The partitions here are of a few pages, which is quicker than any index.
    lookup.execute("SET enable_seqscan = off; BEGIN").await.unwrap();
    let (last_of_group, last) = (DAYS * 24, 2 * DAYS * 24);
    assert!(!history::has_entry_after(&mut lookup, &group(), last).await.unwrap());
    let read = "SELECT sum(seq_tup_read + idx_tup_fetch)::bigint FROM pg_stat_xact_user_tables WHERE relname LIKE 'ledger\\_w%'";
    let read: i64 = sqlx::query_scalar(read).fetch_one(&mut *lookup).await.unwrap();
    // The planner itself looks at the ends of indexes.
    assert!(read <= 2 * 20, "{read} of the {last_of_group} entries of the group");
    assert!(history::has_entry_after(&mut lookup, &group(), last_of_group - 1).await.unwrap());
    lookup.execute("ROLLBACK").await.unwrap();
    drop(lookup);
    pools.close().await;
}

/// The partitions of a week that this transaction has locked, which are those that its statements were planned with.
async fn locked(conn: &mut PgConnection) -> Vec<String> {
    let locked = "SELECT c.relname::text FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
                   WHERE l.pid = pg_backend_pid() AND c.relkind = 'r' AND c.relname LIKE 'ledger%\\_w%' ORDER BY c.relname";
    sqlx::query_scalar(locked).fetch_all(conn).await.unwrap()
}

/// A verification looks up each page of entries, millions of them: to plan that with every partition would cost more than to read.
#[tokio::test]
async fn what_a_verification_looks_up_for_a_page_opens_the_partition_of_the_page_alone() {
    let (_test, mut conn) = filled().await;
    let (first_ms, last_ms) = (BEGIN + 4 * 7 * DAY, BEGIN + 5 * 7 * DAY - 1);
    let time = TimeSpan { first_ms, last_ms };
    let page = ledger_walk::page(&mut conn, None, time, 10).await.unwrap();
    let keys: Vec<_> = page.iter().map(LedgerRow::key).collect();
    let held = people::page(&mut conn, None, time, 10).await.unwrap();
    conn.execute("BEGIN").await.unwrap();
    assert_eq!(people::shown_beside(&mut conn, &keys, time).await.unwrap().len(), 10);
    assert_eq!(locked(&mut conn).await, ["ledger_w4"]);
    let rows: Vec<_> = held.iter().map(HeldPerson::row).collect();
    assert_eq!(people::held(&mut conn, &rows, time).await.unwrap().len(), 10);
    assert_eq!(locked(&mut conn).await, ["ledger_people_w4", "ledger_w4"]);
}
