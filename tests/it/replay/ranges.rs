//! Replay over many partitions, in ranges of groups and windows of members: it finds and mends what it did in one piece, and goes
//! on where it was interrupted.

use std::collections::BTreeSet;

use group_mirror::replay::{Mode, ReplayPlace, replay, replay_from};
use group_mirror::store::partitions::time_spans;
use group_mirror::store::{Database, lines};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor as _};

use crate::replay::rebuild::{PEOPLE, filled, run};
use crate::support::App;

/// Cuts the partition of the past into some with about as many entries each.
async fn cut_the_past(conn: &mut PgConnection, parts: i64) {
    let cuts: Vec<i64> = sqlx::query_scalar(
        "SELECT DISTINCT percentile_disc(n::float8 / $1) WITHIN GROUP (ORDER BY time_ms)
           FROM generate_series(1, $1 - 1) n, ledger_past GROUP BY n ORDER BY 1",
    )
    .bind(parts)
    .fetch_all(&mut *conn)
    .await
    .unwrap();
    assert!(cuts.len() > 2, "{cuts:?}");
    let end: i64 =
        sqlx::query_scalar("SELECT end_ms FROM ledger_partition_bounds('ledger') WHERE part = 'ledger_past'")
            .fetch_one(&mut *conn)
            .await
            .unwrap();
    for table in ["ledger", "ledger_people"] {
        conn.execute(AssertSqlSafe(format!("ALTER TABLE {table} DETACH PARTITION {table}_past")))
            .await
            .unwrap();
        let begins = ["MINVALUE".to_owned()].into_iter().chain(cuts.iter().map(i64::to_string));
        let ends = cuts.iter().copied().chain([end]);
        for (number, (begin, end)) in begins.zip(ends).enumerate() {
            let make = format!(
                "SELECT ledger_new_partition('{table}', '{table}_cut{number}', 'a part');
                 ALTER TABLE {table} ATTACH PARTITION {table}_cut{number} FOR VALUES FROM ({begin}) TO ({end})"
            );
            conn.execute(AssertSqlSafe(make)).await.unwrap();
        }
        let back = format!("INSERT INTO {table} SELECT * FROM {table}_past; DROP TABLE {table}_past");
        conn.execute(AssertSqlSafe(back)).await.unwrap();
    }
}

#[tokio::test]
async fn a_ledger_in_many_partitions_is_compared_and_rebuilt_as_one_in_few() {
    let app = filled().await;
    let mut conn = app.connect().await;
    let (before, whole) =
        (lines::of_tables(&mut conn, lines::ALL).await.unwrap(), run(&app, Mode::Verify).await);
    let people: String = sqlx::query_scalar(PEOPLE).fetch_one(&mut conn).await.unwrap();
    cut_the_past(&mut conn, 9).await;
    let spans = time_spans(&mut conn).await.unwrap();
    assert!(spans.len() > 10, "{spans:?}");
    assert_eq!((spans[0].first_ms, spans[spans.len() - 1].last_ms), (i64::MIN, i64::MAX));
    assert!(spans.windows(2).all(|pair| pair[0].last_ms + 1 == pair[1].first_ms), "{spans:?}");
    assert_eq!(run(&app, Mode::Verify).await, whole);
    for damage in [
        "TRUNCATE groups, group_members, group_user_defined_fields, group_attributes, group_topics",
        "UPDATE groups SET name = 'forged', name_stamp = decode(repeat('ff', 17), 'hex') WHERE group_id LIKE '%1%'",
        "DELETE FROM group_members WHERE user_id > 'b'; DELETE FROM ledger_people WHERE group_id LIKE 'h2%'",
        "INSERT INTO ledger_people SELECT sdk_app_id, time_ms, parts, group_id, 'someone', digest FROM ledger_people LIMIT 30",
    ] {
        conn.execute(damage).await.unwrap();
        assert!(run(&app, Mode::Verify).await.differences > 0, "{damage}");
        run(&app, Mode::Rebuild).await;
        assert_eq!(run(&app, Mode::Verify).await, whole, "{damage}");
        assert_eq!(lines::of_tables(&mut conn, lines::ALL).await.unwrap(), before, "{damage}");
        assert_eq!(sqlx::query_scalar::<_, String>(PEOPLE).fetch_one(&mut conn).await.unwrap(), people);
    }
    app.stop().await;
}

/// Six joins of 15,000 users each, in six partitions; another group before it and one behind.
const CROWD: &str = r#"
INSERT INTO ledger (sdk_app_id, group_id, time_ms, digest, command, event_time_ms, received_at, source, outcome, body)
SELECT 1400000001, g, 1767225600000 + n * 1000, substr(sha256((g || n)::bytea), 1, 16), 'Group.CallbackAfterNewMemberJoin',
       1767225600000 + n * 1000, now(), 'callback', 'applied',
       convert_to(json_build_object('CallbackCommand', 'Group.CallbackAfterNewMemberJoin', 'GroupId', g, 'Type', 'Community',
           'JoinType', 'Apply', 'EventTime', 1767225600000 + n * 1000, 'NewMemberList',
           (SELECT json_agg(json_build_object('Member_Account', 'u' || lpad(u::text, 6, '0')))
              FROM generate_series(n, CASE g WHEN 'crowd' THEN 89999 ELSE 11 END, 6) u))::text, 'UTF8')
  FROM generate_series(0, 5) n, (VALUES ('a'), ('crowd'), ('z')) v (g)"#;

#[tokio::test]
async fn a_group_of_more_members_than_a_window_is_compared_and_rebuilt_in_several() {
    let app = App::start().await;
    let mut conn = app.connect().await;
    conn.execute(CROWD).await.unwrap();
    cut_the_past(&mut conn, 6).await;
    let found = run(&app, Mode::Verify).await;
    // Groups and members; people and what stands beside the entries come on top.
    assert!(found.differences > 90_000, "{found:?}");
    run(&app, Mode::Rebuild).await;
    let count = "SELECT count(*), count(DISTINCT user_id) FROM group_members WHERE group_id = 'crowd'";
    assert_eq!(sqlx::query_as::<_, (i64, i64)>(count).fetch_one(&mut conn).await.unwrap(), (90_000, 90_000));
    let whole = run(&app, Mode::Verify).await;
    assert_eq!(
        (whole.differences, whole.ledger_rows, whole.mirror_rows),
        (0, 18, 90_000 + 24 + 3),
        "{whole:?}"
    );
    // At the ends, around every place where a window may end, and beside all members.
    conn.execute(
        "DELETE FROM group_members WHERE group_id = 'crowd' AND (user_id IN ('u000000', 'u089999') OR user_id LIKE '%5000');
         INSERT INTO group_members (sdk_app_id, group_id, user_id) VALUES (1400000001, 'crowd', 'a'), (1400000001, 'crowd', 'z'),
                                                                         (1400000001, 'crowd', 'u045000x')",
    )
    .await
    .unwrap();
    let found = run(&app, Mode::Verify).await;
    assert_eq!(found.differences, 2 + 9 + 3, "{:?}", found.lines);
    run(&app, Mode::Rebuild).await;
    assert_eq!(run(&app, Mode::Verify).await, whole);
    app.stop().await;
}

#[tokio::test]
async fn a_replay_that_begins_at_a_place_looks_at_what_is_behind_it_alone() {
    let app = filled().await;
    let mut conn = app.connect().await;
    conn.execute(
        "UPDATE groups SET name = 'forged', name_stamp = decode(repeat('ff', 17), 'hex') WHERE left(group_id, 4) IN ('h20-', 'h30-');
         DELETE FROM ledger_people WHERE left(group_id, 4) = 'h10-'",
    )
    .await
    .unwrap();
    let database = Database::new(&app.database.url).unwrap();
    let found = async |place: &str| {
        let report = replay_from(&database, Mode::Verify, place.parse().unwrap(), |_| {}).await.unwrap();
        let named = report
            .lines
            .iter()
            .flat_map(|line| ["h10-", "h20-", "h30-"].into_iter().filter(|group| line.contains(*group)));
        named.collect::<BTreeSet<_>>()
    };
    let all = BTreeSet::from(["h10-", "h20-", "h30-"]);
    assert_eq!(found(&ReplayPlace::start().to_string()).await, all);
    assert_eq!(found("groups:1400000001:h25").await, BTreeSet::from(["h10-", "h30-"]));
    assert_eq!(found("groups:1400000001:h9").await, BTreeSet::from(["h10-"]));
    assert_eq!(found("people:0").await, BTreeSet::from(["h10-"]));
    assert_eq!(found("people:9000000000000").await, BTreeSet::new());
    database.close().await;
    app.stop().await;
}

/// Partitions ahead of time are empty, and of a young ledger all but one: they take no share of a range.
#[tokio::test]
async fn a_range_has_thousands_of_entries_where_they_stand_in_one_of_many_partitions() {
    let app = App::start().await;
    let mut conn = app.connect().await;
    let destroys = r#"
INSERT INTO ledger (sdk_app_id, group_id, time_ms, digest, command, event_time_ms, received_at, source, outcome, body)
SELECT 1400000001, 'g' || n, 1767225600000 + n, substr(sha256(n::text::bytea), 1, 16), 'Group.CallbackAfterGroupDestroyed',
       1767225600000 + n, now(), 'callback', 'applied',
       convert_to(json_build_object('CallbackCommand', 'Group.CallbackAfterGroupDestroyed', 'GroupId', 'g' || n, 'Type', 'Public',
           'EventTime', 1767225600000 + n, 'MemberList', '[]'::json)::text, 'UTF8')
  FROM generate_series(1, 10000) n"#;
    conn.execute(destroys).await.unwrap();
    assert!(time_spans(&mut conn).await.unwrap().len() > 5);
    let database = Database::new(&app.database.url).unwrap();
    let ranges = std::sync::Mutex::new(Vec::new());
    let note = |rows| ranges.lock().unwrap().push(rows);
    let report = replay(&database, Mode::Verify, note).await.unwrap();
    assert_eq!(report.ledger_rows, 10_000);
    // The index of people follows.
    let ranges = ranges.into_inner().unwrap();
    assert_eq!(ranges[..2], [8192, 1808], "in two ranges");
    database.close().await;
    app.stop().await;
}
