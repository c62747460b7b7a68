//! The ledger is the source: the mirror can be proved equal to it, and rebuilt from it.

use group_mirror::model::Millis;
use group_mirror::replay::{Mode, Report, replay};
use group_mirror::replay::{Retry, Unparked, unpark};
use group_mirror::store::{Database, lines};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _};

use crate::support::postgres::TestDatabase;
use crate::support::{App, histories, sample};

/// A mirror that was told forty histories, in some order.
pub(crate) async fn filled() -> App {
    let app = App::start_with(|settings| settings.mirror_avchatroom_members = Some("true".into())).await;
    let mut runner = TestRunner::deterministic();
    let mut posts = Vec::new();
    for number in 0..40 {
        let history = histories::history().new_tree(&mut runner).unwrap().current();
        posts.extend(histories::renamed(&history, &format!("h{number}-")));
    }
    let posts = proptest::strategy::Just(posts).prop_shuffle().new_tree(&mut runner).unwrap().current();
    for body in &posts {
        app.service.taken(body).await;
    }
    app.service.parked("no json").await;
    app
}

pub(crate) async fn run(app: &App, mode: Mode) -> Report {
    let database = Database::new(&app.database.url).unwrap();
    let report = replay(&database, mode, |_| {}).await.unwrap();
    database.close().await;
    report
}

#[tokio::test]
async fn a_mirror_that_is_what_the_ledger_says_is_left_alone() {
    let app = filled().await;
    let mut conn = app.connect().await;
    let before = lines::of_tables(&mut conn, lines::ALL).await.unwrap();
    for mode in [Mode::Verify, Mode::Rebuild] {
        let report = run(&app, mode).await;
        assert_eq!(
            (report.differences, report.lines.len(), report.restored.len()),
            (0, 0, 0),
            "{:?}",
            report.lines
        );
        assert_eq!(report.mirror_rows, before.len() as u64);
        assert!(report.ledger_rows > 300, "{}", report.ledger_rows);
    }
    app.stop().await;
}

#[tokio::test]
async fn every_kind_of_damage_is_told_and_mended() {
    let app = filled().await;
    let mut conn = app.connect().await;
    let before = lines::of_tables(&mut conn, lines::ALL).await.unwrap();
    for (damage, told) in [
        (
            "UPDATE groups SET name = 'forged' WHERE group_id LIKE 'h1%'",
            "name is \"forged\", the ledger says",
        ),
        (
            "UPDATE group_members SET role = 'Admin', role_stamp = '\\xff'",
            "role_stamp is \"ff\", the ledger says",
        ),
        ("DELETE FROM group_members WHERE group_id LIKE 'h2%'", "is missing"),
        ("DELETE FROM groups WHERE group_id LIKE 'h3%'", "is missing"),
        ("DELETE FROM group_attributes", "is missing"),
        (
            "INSERT INTO groups (sdk_app_id, group_id) VALUES (1, ''), (1400000001, 'zzz')",
            "is not in the ledger",
        ),
        (
            "INSERT INTO group_members (sdk_app_id, group_id, user_id) VALUES (2000000000, 'stray', 'u')",
            "is not in the ledger",
        ),
        (
            "UPDATE group_topics SET destroyed_stamp = '\\x0000018bcfe56800'",
            "destroyed_stamp is \"0000018bcfe56800\"",
        ),
        ("UPDATE group_user_defined_fields SET value = value || '!'", "the ledger says"),
        (
            "TRUNCATE groups, group_members, group_user_defined_fields, group_attributes, group_topics",
            "is missing",
        ),
    ] {
        conn.execute(damage).await.unwrap();
        let found = run(&app, Mode::Verify).await;
        assert!(found.differences > 0, "{damage}");
        assert!(found.lines.iter().any(|line| line.contains(told)), "{damage}: {:?}", found.lines);
        let mended = run(&app, Mode::Rebuild).await;
        assert_eq!(mended.differences, found.differences, "{damage}");
        assert_eq!(lines::of_tables(&mut conn, lines::ALL).await.unwrap(), before, "{damage}");
    }
    app.stop().await;
}

#[tokio::test]
async fn tables_that_were_dropped_are_made_again_with_their_views_and_indexes() {
    let app = filled().await;
    let mut conn = app.connect().await;
    let before = lines::of_tables(&mut conn, lines::ALL).await.unwrap();
    let shape = "SELECT string_agg(line, E'\\n' ORDER BY line) FROM (
        SELECT indexdef AS line FROM pg_indexes WHERE schemaname = 'public'
        UNION ALL SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
        UNION ALL SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace
        UNION ALL SELECT viewname || definition FROM pg_views WHERE schemaname = 'public'
        UNION ALL SELECT c.relname || coalesce(a.attname, '') || coalesce(d.description, '')
          FROM pg_class c LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
          LEFT JOIN pg_description d ON d.objoid = c.oid AND d.objsubid = coalesce(a.attnum, 0)
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v')) l";
    let shape_before: String = sqlx::query_scalar(shape).fetch_one(&mut conn).await.unwrap();
    for dropped in [
        "DROP TABLE group_members CASCADE",
        "DROP TABLE groups, group_members, group_user_defined_fields, group_attributes, group_topics CASCADE",
        "DROP TABLE group_members, group_verifications, gaps CASCADE; DROP FUNCTION group_verifications_follow CASCADE",
    ] {
        conn.execute(dropped).await.unwrap();
        let report = run(&app, Mode::Rebuild).await;
        assert!(report.restored.contains(&"group_members".to_owned()), "{:?}", report.restored);
        assert_eq!(lines::of_tables(&mut conn, lines::ALL).await.unwrap(), before, "{dropped}");
        let shape_after: String = sqlx::query_scalar(shape).fetch_one(&mut conn).await.unwrap();
        assert_eq!(shape_after, shape_before, "{dropped}");
    }
    app.service.taken(&sample("Group.CallbackAfterCreateGroup")).await;
    app.service.read("/v1/groups/%40TGS%232RIVERB7QK").await;
    app.stop().await;
}

/// Neither is a fold of the ledger: made anew, the key is another, and what comes late names those who were erased.
#[tokio::test]
async fn a_replay_refuses_a_database_that_has_lost_who_is_erased() {
    let database = TestDatabase::create().await;
    let pools = Database::new(&database.url).unwrap();
    let mut conn = database.connect().await;
    for table in ["erasures", "erasure_state"] {
        conn.execute(AssertSqlSafe(format!("ALTER TABLE {table} RENAME TO held_back"))).await.unwrap();
        // Another table is missing beside it, which a replay would make.
        conn.execute("DROP TABLE gaps CASCADE").await.unwrap();
        for mode in [Mode::Verify, Mode::Rebuild] {
            let refused = replay(&pools, mode, |_| {}).await.unwrap_err().to_string();
            assert!(refused.contains(&format!("the database has no {table},")), "{refused}");
            assert!(refused.contains("from a backup"), "{refused}");
        }
        let made: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
            .bind(table)
            .fetch_one(&mut conn)
            .await
            .unwrap();
        assert!(!made, "{table} is not made anew");
        conn.execute(AssertSqlSafe(format!("ALTER TABLE held_back RENAME TO {table}"))).await.unwrap();
        let report = replay(&pools, Mode::Rebuild, |_| {}).await.unwrap();
        assert_eq!(report.restored, ["gaps"]);
    }
    pools.close().await;
}

/// Every row of the index of people, and what stands of people beside the entries, as text.
pub(crate) const PEOPLE: &str = "
SELECT string_agg(line, E'\\n' ORDER BY line) FROM (
    SELECT p::text AS line FROM ledger_people p
    UNION ALL SELECT concat_ws('|', group_id, time_ms, digest, operator, user_id, users, user_count) FROM ledger) l";

#[tokio::test]
async fn every_kind_of_damage_to_the_index_of_people_is_found_and_mended() {
    let app = filled().await;
    let mut conn = app.connect().await;
    let before: String = sqlx::query_scalar(PEOPLE).fetch_one(&mut conn).await.unwrap();
    for (damage, line) in [
        ("DELETE FROM ledger_people WHERE group_id LIKE 'h1%'", "is missing"),
        ("TRUNCATE ledger_people", "is missing"),
        ("UPDATE ledger_people SET parts = 7 - parts WHERE parts IN (1, 2)", ", the ledger says "),
        (
            "INSERT INTO ledger_people VALUES (7, 1, 1, 'g', 'u', '\\x00')",
            "7 \"g\" \"u\" at 1: is not in the ledger",
        ),
        (
            "INSERT INTO ledger_people SELECT sdk_app_id, time_ms, parts, group_id, 'someone', digest FROM ledger_people LIMIT 300",
            "\"someone\"",
        ),
        ("INSERT INTO ledger_people SELECT * FROM ledger_people WHERE group_id LIKE 'h2%'", "is there twice"),
        (
            "INSERT INTO ledger_people SELECT * FROM ledger_people WHERE group_id LIKE 'h2%' UNION ALL SELECT * FROM ledger_people",
            "is there twice",
        ),
        (
            "UPDATE ledger SET operator = 'forged' WHERE operator IS NOT NULL",
            "operator or users are not what its body says",
        ),
        (
            "UPDATE ledger SET user_id = NULL, users = '{a,b}', user_count = NULL WHERE group_id LIKE 'h3%'",
            "operator or users are not",
        ),
        ("DROP TABLE ledger_people", "is missing"),
    ] {
        conn.execute(damage).await.unwrap();
        if !damage.starts_with("DROP") {
            let found = run(&app, Mode::Verify).await;
            assert!(found.differences > 0, "{damage}");
            assert!(found.lines.iter().any(|found| found.contains(line)), "{damage}: {:?}", found.lines);
        }
        let mended = run(&app, Mode::Rebuild).await;
        assert!(mended.differences > 0, "{damage}");
        let after: String = sqlx::query_scalar(PEOPLE).fetch_one(&mut conn).await.unwrap();
        assert!(after == before, "{damage}");
        assert_eq!(run(&app, Mode::Verify).await.lines, Vec::<String>::new(), "{damage}");
    }
    app.stop().await;
}

/// Aim: rebuilding does not lose what is written meanwhile. Method: parallel senders tell histories while the mirror
/// is emptied and rebuilt again and again; when all is told, one more rebuild leaves nothing to mend, and the mirror
/// is what the ledger says.
#[tokio::test(flavor = "multi_thread")]
async fn rebuilding_while_callbacks_come_in_loses_nothing() {
    let app = filled().await;
    let mut runner = TestRunner::deterministic();
    let bodies: Vec<Value> =
        (0..600).map(|_| histories::body().new_tree(&mut runner).unwrap().current()).collect();
    let senders = (0..4).map(|sender| {
        let (service, bodies) = (&app.service, &bodies);
        async move {
            for body in bodies.iter().skip(sender).step_by(4) {
                service.taken(body).await;
            }
        }
    });
    let rebuilding = async {
        let mut conn = app.connect().await;
        for _ in 0..8 {
            conn.execute("UPDATE groups SET name = 'forged' WHERE group_id LIKE 'g%' OR group_id LIKE 'h%'")
                .await
                .unwrap();
            run(&app, Mode::Rebuild).await;
        }
    };
    tokio::join!(futures_util::future::join_all(senders), rebuilding);
    run(&app, Mode::Rebuild).await;
    let report = run(&app, Mode::Verify).await;
    assert_eq!(report.lines, Vec::<String>::new());
    app.stop().await;
}

#[tokio::test]
async fn the_parked_are_tried_again_and_applied_once_they_can_be_made_out() {
    let app = App::start().await;
    let mut conn = app.connect().await;
    // What an older program could not make out: it stands parked without its group.
    let create = sample("Group.CallbackAfterCreateGroup");
    app.service.taken(&create).await;
    let join = sample("Group.CallbackAfterNewMemberJoin");
    app.service.taken(&join).await;
    conn.execute("TRUNCATE groups, group_members, group_user_defined_fields").await.unwrap();
    conn.execute(
        "UPDATE ledger SET outcome = 'parked', reason = 'unknown then', causes = '{not_json}', group_id = '', time_ms = time_ms + 5;
         UPDATE ledger_people SET group_id = '', time_ms = time_ms + 5",
    )
    .await
    .unwrap();
    // The same callback came again later and was applied.
    app.service.taken(&join).await;
    app.service.parked("no json").await;
    let database = Database::new(&app.database.url).unwrap();
    let retry = Retry { cause: None, now: Millis::new(0) };
    let counts = unpark(&database, retry, |_| {}).await.unwrap();
    assert_eq!(counts, Unparked { applied: 1, partial: 0, duplicates: 1, unchanged: 1 });
    let counts = unpark(&database, retry, |_| {}).await.unwrap();
    assert_eq!(counts, Unparked { applied: 0, partial: 0, duplicates: 0, unchanged: 1 });
    database.close().await;
    let group = app.service.read("/v1/groups/%40TGS%232RIVERB7QK").await;
    assert_eq!((group["status"].as_str(), &group["member_count"]), (Some("active"), &json!(4)));
    assert_eq!(run(&app, Mode::Verify).await.lines, Vec::<String>::new());
    app.stop().await;
}

#[tokio::test]
async fn a_second_replay_is_sent_away_while_one_runs() {
    let app = App::start().await;
    let mut conn = app.connect().await;
    assert!(group_mirror::store::rebuild::try_lock_replay(&mut conn).await.unwrap());
    let database = Database::new(&app.database.url).unwrap();
    let error = replay(&database, Mode::Verify, |_| {}).await.unwrap_err();
    assert_eq!(error.to_string(), "another replay of this database is running");
    database.close().await;
    app.stop().await;
}

#[tokio::test]
async fn the_lines_compared_hold_every_column_that_is_not_generated() {
    let app = App::start().await;
    let mut conn = app.connect().await;
    for table in lines::tables() {
        let columns: Vec<String> = sqlx::query_scalar(
            "SELECT column_name::text FROM information_schema.columns
              WHERE table_schema = 'public' AND table_name = $1 AND is_generated = 'NEVER'
                AND column_name NOT IN ('sdk_app_id', 'group_id', 'user_id', 'key', 'topic_id', 'range')
              ORDER BY column_name",
        )
        .bind(table.table)
        .fetch_all(&mut conn)
        .await
        .unwrap();
        let mut compared: Vec<_> = table.columns.into_iter().map(|(name, _)| name).collect();
        compared.sort_unstable();
        assert_eq!(compared, columns, "{}", table.table);
    }
    let mut held = lines::of_tables(&mut conn, lines::ALL).await.unwrap();
    assert!(held.is_empty());
    app.service.taken(&sample("Group.CallbackAfterCreateTopic")).await;
    app.service.taken(&sample("Group.CallbackAfterCreateGroup")).await;
    app.service.taken(&sample("Group.CallbackAfterGroupAttrChanged")).await;
    held = lines::of_tables(&mut conn, lines::ALL).await.unwrap();
    for (key, values) in held {
        let table = lines::tables().into_iter().find(|table| table.table == key.0).unwrap();
        assert_eq!(values.len(), table.columns.len(), "{key:?}");
    }
    app.stop().await;
}
