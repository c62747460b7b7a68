//! What the database reads for a page of the history of an app or of a person: the entries of the page, or those that one page
//! searches, and no more, whatever the planner knows of the tables.
//!
//! Rows are counted, not milliseconds: `EXPLAIN ANALYZE` says how many each scan has visited.

use group_mirror::mirror::PersonPart;
use group_mirror::model::{SdkAppId, UserId};
use group_mirror::store::Database;
use group_mirror::store::app_history::{self, AppHistoryFilter, AppHistoryKey};
use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::api::plans::{COUNTED, visited};
use crate::support::postgres::TestDatabase;

/// A hundred thousand entries of one app, in all of which `busy` has acted, each on one of a thousand others, who have a
/// hundred each; and thirty thousand of another app, in the same milliseconds.
const FILL: &str = r"
ALTER TABLE ledger_past SET (autovacuum_enabled = off); ALTER TABLE ledger_people_past SET (autovacuum_enabled = off);
INSERT INTO ledger (sdk_app_id, group_id, time_ms, digest, command, received_at, source, outcome, body)
SELECT app, 'g' || n % 5000, 1767225600000 + n * 1000, substr(sha256(n::text::bytea), 1, 16),
       CASE WHEN n % 10 = 0 THEN 'Group.CallbackAfterMemberExit' ELSE 'Group.CallbackAfterNewMemberJoin' END,
       to_timestamp(1767225600 + n), 'callback', 'applied', '{}'
  FROM (VALUES (1400000001, 100000), (7, 30000)) a (app, entries), generate_series(1, entries) n;
INSERT INTO ledger_people (sdk_app_id, group_id, user_id, time_ms, digest, parts)
SELECT sdk_app_id, group_id, u, time_ms, digest, p
  FROM ledger, LATERAL (VALUES ('busy', 1), ('quiet-' || (time_ms / 1000) % 1000, 2)) v (u, p)";

async fn filled() -> (TestDatabase, PgConnection) {
    let database = TestDatabase::create().await;
    let mut conn = database.connect().await;
    // Settings of reading sessions; see `store/session.rs`.
    conn.execute("SET plan_cache_mode = force_custom_plan; SET jit = off").await.unwrap();
    conn.execute(FILL).await.unwrap();
    (database, conn)
}

fn behind(time_ms: i64) -> AppHistoryKey {
    AppHistoryKey { time_ms, digest: Vec::new(), group: String::new() }
}

fn of_app() -> AppHistoryFilter {
    AppHistoryFilter {
        app: SdkAppId::parse("1400000001").unwrap(),
        user: None,
        part: None,
        command: None,
        outcome: None,
        source: None,
        after_ms: i64::MIN,
        behind: behind(i64::MAX),
    }
}

fn of_user(id: &str) -> AppHistoryFilter {
    AppHistoryFilter { user: Some(UserId::parse(id).unwrap()), ..of_app() }
}

/// The same at the begin, in the middle, and in a window of a minute.
fn places(filter: &AppHistoryFilter) -> [AppHistoryFilter; 3] {
    let middle = behind(1_767_225_600_000 + 50_000_500);
    let window =
        AppHistoryFilter { after_ms: middle.time_ms - 60_000, behind: middle.clone(), ..filter.clone() };
    [filter.clone(), AppHistoryFilter { behind: middle, ..filter.clone() }, window]
}

#[tokio::test]
async fn a_page_of_the_history_of_an_app_or_a_person_visits_the_page_or_what_one_page_searches() {
    let (_database, mut conn) = filled().await;
    for known in ["nothing", "everything"] {
        if known == "everything" {
            conn.execute("ANALYZE").await.unwrap();
        }
        for (what, filter, most) in [
            ("app", of_app(), 200),
            (
                "a command of many",
                AppHistoryFilter { command: Some("Group.CallbackAfterMemberExit".into()), ..of_app() },
                8_500,
            ),
            ("a command of none", AppHistoryFilter { command: Some("none".into()), ..of_app() }, 8_500),
            ("an outcome of none", AppHistoryFilter { outcome: Some("parked"), ..of_app() }, 8_500),
            ("busy", of_user("busy"), 300),
            ("quiet", of_user("quiet-7"), 300),
            (
                "busy in a part of none",
                AppHistoryFilter { part: Some(PersonPart::Owner), ..of_user("busy") },
                8_500,
            ),
            (
                "busy as operator",
                AppHistoryFilter { part: Some(PersonPart::Operator), ..of_user("busy") },
                8_500,
            ),
            (
                "busy, a command of none",
                AppHistoryFilter { command: Some("none".into()), ..of_user("busy") },
                12_000,
            ),
        ] {
            for place in places(&filter) {
                let plan = app_history::explain(&mut conn, COUNTED, &place, 50).await.unwrap();
                let rows = visited(&plan);
                assert!(rows <= most, "{known} is known; {what} {place:?}: {rows} rows: {plan}");
                // The index has a name of its own in each partition.
                let index = if place.user.is_some() {
                    "_user_id_time_ms_idx on ledger_people_past"
                } else {
                    "_expr1_idx on ledger_past"
                };
                assert!(plan.contains(index), "{known} is known; {what}: {plan}");
                // Empty partitions are not opened by an index.
                let mut whole = plan.lines().filter(|line| line.contains("Seq Scan on ledger"));
                assert!(
                    whole.all(|line| line.contains("never executed") || line.contains("rows=0")),
                    "{known} is known; {what}: {plan}"
                );
            }
        }
    }
}

/// The measure of a person's page without a clock: `busy` has a thousand times as many entries.
#[tokio::test]
async fn a_page_of_someone_with_100_000_entries_visits_hardly_more_than_one_of_someone_with_100() {
    let (_database, mut conn) = filled().await;
    conn.execute("ANALYZE").await.unwrap();
    let mut rows = async |filter: &AppHistoryFilter| {
        let plan = app_history::explain(&mut conn, COUNTED, filter, 50).await.unwrap();
        (visited(&plan), plan)
    };
    let (quiet, _) = rows(&of_user("quiet-7")).await;
    for filter in &places(&of_user("busy"))[..2] {
        let (busy, plan) = rows(filter).await;
        assert!(busy * 5 <= quiet * 6, "{busy} rows instead of {quiet}: {plan}");
    }
}

/// Ties are sorted when they are read, which must not lose one or show it twice.
#[tokio::test]
async fn a_walk_over_many_entries_of_one_millisecond_shows_each_once() {
    let database = TestDatabase::create().await;
    let mut conn = database.connect().await;
    conn.execute("SET plan_cache_mode = force_custom_plan; SET jit = off").await.unwrap();
    conn.execute(
        "INSERT INTO ledger (sdk_app_id, group_id, time_ms, digest, command, received_at, source, outcome, body)
         SELECT 1400000001, 'g' || n % 3, 1767225600000 + n / 500, substr(sha256((n / 2)::text::bytea), 1, 16), 'c', now(), 'callback', 'applied', '{}'
           FROM generate_series(0, 1999) n ON CONFLICT DO NOTHING;
         INSERT INTO ledger_people SELECT sdk_app_id, time_ms, 1, group_id, 'zoe', digest FROM ledger",
    )
    .await
    .unwrap();
    let pools = Database::new(&database.url).unwrap();
    let mut reader = pools.reader().acquire().await.unwrap();
    for base in [of_app(), of_user("zoe")] {
        for (command, limit) in [(None, 7), (None, 500), (Some("c".to_owned()), 300)] {
            let (mut seen, mut filter) = (Vec::new(), AppHistoryFilter { command, ..base.clone() });
            loop {
                let page = app_history::page(&mut reader, &filter, limit, i64::MAX).await.unwrap();
                let key = |row: &app_history::AppHistoryRow| {
                    (row.entry.row.time_ms, row.entry.row.digest.clone(), row.entry.row.group_id.clone())
                };
                seen.extend(page.rows.iter().map(key));
                let Some(next) = page.next else { break };
                filter.behind = next;
            }
            assert!(seen.is_sorted_by(|a, b| a > b), "newest first, each once");
            assert_eq!(seen.len(), 2_000, "{:?}", filter.user);
        }
    }
}

/// Aim: a partition costs no more in its first minutes, when plans are in use that were made while it was empty. Method: a
/// statement is planned once, then the partition gets 20,000 entries of other groups; the rows that it visits are counted.
#[tokio::test]
async fn a_plan_made_for_an_empty_partition_finds_a_group_by_its_key_when_the_partition_has_filled() {
    const OF_GROUP: &str = "SELECT position FROM ledger WHERE sdk_app_id = $1 AND group_id = $2 LIMIT 65";
    const VISITED: &str = "SELECT sum(COALESCE(seq_tup_read, 0) + COALESCE(idx_tup_fetch, 0))::bigint
                             FROM pg_stat_xact_user_tables WHERE relname LIKE 'ledger%'";
    for statement in ["", "ANALYZE ledger"] {
        let database = TestDatabase::create().await;
        let mut conn = database.connect().await;
        // Settings of writing sessions; see `store/session.rs`.
        conn.execute("SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off").await.unwrap();
        conn.execute(statement).await.unwrap();
        let mut tx = conn.begin().await.unwrap();
        let mut visited = 0;
        for entries in [0, 20_000] {
            let fill =
                "INSERT INTO ledger (sdk_app_id, group_id, time_ms, digest, command, received_at, source, outcome, body)
                        SELECT 7, 'g' || n, floor(extract(epoch FROM now()) * 1000), substr(sha256(n::text::bytea), 1, 16), 'c', now(),
                               'callback', 'applied', '{}' FROM generate_series(1, $1) n";
            sqlx::query(fill).bind(entries).execute(&mut *tx).await.unwrap();
            let before: i64 = sqlx::query_scalar(VISITED).fetch_one(&mut *tx).await.unwrap();
            let found: Vec<i64> =
                sqlx::query_scalar(OF_GROUP).bind(7_i64).bind("g20000").fetch_all(&mut *tx).await.unwrap();
            let after: i64 = sqlx::query_scalar(VISITED).fetch_one(&mut *tx).await.unwrap();
            assert_eq!(found.len(), usize::from(entries > 0));
            visited = after - before;
        }
        assert!(visited < 10, "{statement:?}: {visited} rows");
    }
}
