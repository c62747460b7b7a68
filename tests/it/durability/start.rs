//! Serve first: a start answers callbacks whatever the database does, and the spool never drains into another database.

use std::path::Path;

use group_mirror::config::Settings;
use group_mirror::store::{Database, schema};
use serde_json::json;
use sqlx::Executor as _;
use tempfile::TempDir;

use super::recovery::now_ms;
use super::spool::{caught_up, create, groups};
use crate::support::postgres::TestDatabase;
use crate::support::process::{Place, Process};
use crate::support::{Service, eventually, fake_postgres, settings};

/// Settings with a data directory that outlives a service.
fn settings_in(data: &TempDir, url: &str) -> Settings {
    Settings { data_dir: Some(data.path().display().to_string()), ..settings(url) }
}

/// A data directory that has worked with a database.
async fn acquainted(database: &TestDatabase) -> TempDir {
    let data = tempfile::tempdir().unwrap();
    Service::start(&settings_in(&data, &database.url)).await.unwrap().stop().await;
    assert!(data.path().join("database-id").exists());
    data
}

fn remembered(data: &Path) -> String {
    std::fs::read_to_string(data.join("database-id")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_is_answered_while_the_database_takes_connections_and_never_says_a_word() {
    let url = format!("postgres://x:y@{}/mirror", fake_postgres::silent());
    let service = Service::start_at_once(&settings(&url)).await.unwrap();
    service.taken(&create("first")).await;
    let (ready, body) = service.readiness().await;
    assert!(ready, "{body}");
    assert_eq!(body["spool"]["depth"], 1, "{body}");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_is_answered_while_the_ledger_is_locked_and_is_in_the_tables_when_it_is_free() {
    let database = TestDatabase::create().await;
    let mut conn = database.connect().await;
    conn.execute("BEGIN; LOCK TABLE ledger IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let service = Service::start_at_once(&settings(&database.url)).await.unwrap();
    service.taken(&create("early")).await;
    service.running.checked().await.unwrap();
    let (_, body) = service.readiness().await;
    assert!(body["database"].as_str().unwrap().contains("could not obtain lock"), "{body}");
    let waiting: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_locks WHERE NOT granted")
        .fetch_one(&mut database.connect().await)
        .await
        .unwrap();
    assert_eq!(waiting, 0, "a check leaves no session that waits");
    conn.execute("COMMIT").await.unwrap();
    service.until(caught_up).await;
    assert_eq!(groups(&database).await, ["early".to_owned()].into());
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_database_that_is_dropped_or_half_restored_is_waited_for() {
    let database = TestDatabase::create().await;
    let data = acquainted(&database).await;
    let mut conn = database.connect().await;
    // As in the middle of a restore: the tables are there, the record of the migrations is not.
    conn.execute("ALTER TABLE _sqlx_migrations RENAME TO held_back").await.unwrap();
    let service = Service::start(&settings_in(&data, &database.url)).await.unwrap();
    service.taken(&create("restoring")).await;
    let (ready, body) = service.readiness().await;
    assert!(ready && body["database"].as_str().unwrap().contains("another application"), "{body}");
    conn.execute("ALTER TABLE held_back RENAME TO _sqlx_migrations").await.unwrap();
    service.until(caught_up).await;
    service.stop().await;

    let missing = database.url.replacen("group_mirror_test", "group_mirror_absent", 1);
    assert_ne!(missing, database.url);
    let service = Service::start(&settings_in(&data, &missing)).await.unwrap();
    service.taken(&create("dropped")).await;
    let (ready, body) = service.readiness().await;
    assert!(ready && body["database"].as_str().unwrap().contains("does not exist"), "{body}");
    service.stop().await;
    // What was taken meanwhile is in the tables once the database is there.
    let service = Service::start(&settings_in(&data, &database.url)).await.unwrap();
    service.until(caught_up).await;
    assert_eq!(groups(&database).await, ["restoring".to_owned(), "dropped".to_owned()].into());
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_on_a_foreign_database_goes_on_where_callbacks_are_in_the_spool() {
    let database = TestDatabase::create().await;
    let data = tempfile::tempdir().unwrap();
    let silent = format!("postgres://x:y@{}/mirror", fake_postgres::silent());
    let service = Service::start_at_once(&settings_in(&data, &silent)).await.unwrap();
    service.taken(&create("kept")).await;
    service.stop().await;
    let mut conn = database.connect().await;
    conn.execute("ALTER TABLE _sqlx_migrations RENAME TO held_back").await.unwrap();
    let service = Service::start(&settings_in(&data, &database.url)).await.unwrap();
    conn.execute("ALTER TABLE held_back RENAME TO _sqlx_migrations").await.unwrap();
    service.until(caught_up).await;
    assert_eq!(groups(&database).await, ["kept".to_owned()].into());
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spool_never_drains_into_another_database_unless_it_is_adopted() {
    let (ours, other) = (TestDatabase::create_empty().await, TestDatabase::create_empty().await);
    for database in [&ours, &other] {
        let pools = Database::new(&database.url).unwrap();
        schema::migrate(&pools).await.unwrap();
        pools.close().await;
    }
    let data = acquainted(&ours).await;
    let id = remembered(data.path());
    let service = Service::start(&settings_in(&data, &other.url)).await.unwrap();
    service.taken(&create("ours")).await;
    let (ready, body) = service.readiness().await;
    assert!(ready, "{body}");
    let state = body["database"].as_str().unwrap();
    assert!(state.contains(id.trim()) && state.contains("serve --adopt-database"), "{state}");
    assert_eq!(body["spool"]["depth"], 1, "{body}");
    service.stop().await;
    assert_eq!(groups(&other).await, [].into());
    assert_eq!(remembered(data.path()), id);

    let mut serving = settings_in(&data, &other.url).serve_config().unwrap();
    serving.adopt_database = true;
    let listeners = group_mirror::app::bind(&serving).await.unwrap();
    let running =
        group_mirror::app::start(&serving, Database::new(&other.url).unwrap(), listeners).await.unwrap();
    assert!(eventually(async || groups(&other).await == ["ours".to_owned()].into()).await);
    running.stop().await;
    assert_ne!(remembered(data.path()), id);
    assert_eq!(groups(&ours).await, [].into());
    // A unit file that keeps the flag would take any database at the next start.
    let place = Place::new();
    std::fs::create_dir(place.path().join("data")).unwrap();
    std::fs::copy(data.path().join("database-id"), place.path().join("data/database-id")).unwrap();
    let mut flagged =
        Process::start(place.command_on(&other.url, &["serve", "--adopt-database"])).ready().await;
    flagged.says("--adopt-database was not needed").await;
    flagged.ends_well_on("TERM").await;
    // The adopted one needs no word any more.
    let service = Service::start(&settings_in(&data, &other.url)).await.unwrap();
    service.until(caught_up).await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_by_dump_keeps_the_id_and_a_lost_id_is_never_replaced_in_silence() {
    let database = TestDatabase::create().await;
    let data = acquainted(&database).await;
    let id = remembered(data.path());
    let mut conn = database.connect().await;
    let kept: String = sqlx::query_scalar("SELECT database_id::text FROM database_identity")
        .fetch_one(&mut conn)
        .await
        .unwrap();
    assert_eq!(kept, id.trim());
    // Replay makes missing tables anew, and not this one: it is no fold of the ledger.
    conn.execute("DROP TABLE database_identity; DROP TABLE group_topics CASCADE").await.unwrap();
    let pools = Database::new(&database.url).unwrap();
    let report =
        group_mirror::replay::replay(&pools, group_mirror::replay::Mode::Rebuild, |_| {}).await.unwrap();
    assert!(report.restored.contains(&"group_topics".to_owned()), "{:?}", report.restored);
    assert!(!report.restored.contains(&"database_identity".to_owned()), "{:?}", report.restored);
    let service = Service::start(&settings_in(&data, &database.url)).await.unwrap();
    service.taken(&create("waits")).await;
    let state = service.readiness().await.1["database"].clone();
    assert!(state.as_str().unwrap().contains("lost its id"), "{state}");
    // A new id is another one, so the spool still waits for a person.
    schema::migrate(&pools).await.unwrap();
    service.until(|body| body["database"].as_str().unwrap().contains("--adopt-database")).await;
    assert_eq!(groups(&database).await, [].into());
    pools.close().await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_on_a_known_directory_is_waited_for_and_an_unreadable_memory_is_not_guessed() {
    let database = TestDatabase::create().await;
    let data = acquainted(&database).await;
    let (address, _) = fake_postgres::refusing("password authentication failed");
    let url = format!("postgres://x:y@{address}/mirror");
    let service = Service::start(&settings_in(&data, &url)).await.unwrap();
    service.taken(&create("while locked out")).await;
    service.stop().await;
    std::fs::write(data.path().join("database-id"), b"\0\0\0").unwrap();
    let service = Service::start(&settings_in(&data, &database.url)).await.unwrap();
    let (_, body) = service.readiness().await;
    assert!(body["database"].as_str().unwrap().contains("--adopt-database"), "{body}");
    assert_eq!(body["spool"]["depth"], 1, "{body}");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_spool_is_opened_while_a_healthy_database_already_commits() {
    let database = TestDatabase::create().await;
    let data = acquainted(&database).await;
    large_spool(&data.path().join("spool.redb"));
    let service = Service::start_at_once(&settings_in(&data, &database.url)).await.unwrap();
    // Whatever the file's opening takes: the answer comes from the tables, or waits for the file.
    service.taken(&create("at once")).await;
    let (ready, body) = service.readiness().await;
    assert!(ready, "{body}");
    service.until(|body| body["spool"]["depth"] == RECORDS).await;
    assert!(groups(&database).await.contains("at once"));
    service.stop().await;
}

const RECORDS: u64 = 20;

/// A file of 160 MB that was not closed, so that opening it reads all of it; its records are of a later version, so that
/// they stay.
fn large_spool(path: &Path) {
    let store = redb::Database::create(path).unwrap();
    for number in 0..RECORDS {
        let mut transaction = store.begin_write().unwrap();
        transaction.set_durability(redb::Durability::Immediate).unwrap();
        let table = redb::TableDefinition::<(i64, u64), &[u8]>::new("received");
        let counts = redb::TableDefinition::<(), (u64, u64)>::new("counts");
        transaction.open_table(counts).unwrap().insert((), (number << 23, number)).unwrap();
        let record = vec![99; 8 * 1024 * 1024 - 1024];
        transaction.open_table(table).unwrap().insert((0, number), record.as_slice()).unwrap();
        transaction.commit().unwrap();
    }
    // A copy of an open file is what a kill leaves.
    let killed = path.with_extension("killed");
    std::fs::copy(path, &killed).unwrap();
    drop(store);
    std::fs::rename(killed, path).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_by_another_hand_is_noticed_whatever_the_directory_knows() {
    let database = TestDatabase::create_empty().await;
    let service = Service::start(&settings(&database.url)).await.unwrap();
    service.taken(&create("before")).await;
    let pools = Database::new(&database.url).unwrap();
    schema::migrate(&pools).await.unwrap();
    pools.close().await;
    service.until(caught_up).await;
    let body = service.read("/v1/groups").await;
    assert_eq!(body["items"][0]["group_id"], json!("before"));
    service.stop().await;
}

/// What the mark says, in Unix milliseconds.
fn receipt_mark(data: &TempDir) -> i64 {
    let text = std::fs::read_to_string(data.path().join("receipt.mark")).unwrap();
    text.trim_end().parse().unwrap()
}

/// What a process leaves whose clock, or receipts, were so far ahead of the true time.
fn leave_ahead(data: &TempDir, ahead_ms: i64) {
    std::fs::write(data.path().join("receipt.mark"), format!("{:020}\n", now_ms() + ahead_ms)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_destroyed_after_a_restart_with_the_clock_set_back_is_gone() {
    let (database, data) = (TestDatabase::create().await, tempfile::tempdir().unwrap());
    let topic = |command: &str, key: &str, id: serde_json::Value| json!({ "CallbackCommand": command, "GroupId": "@TGS#_c", "Type": "Community", key: id });
    // A minute ahead, as before the clock was set back.
    leave_ahead(&data, 60_000);
    let service = Service::start(&settings_in(&data, &database.url)).await.unwrap();
    service.taken(&topic("Group.CallbackAfterCreateTopic", "TopicId", json!("@TGS#_c@TOPIC#_a"))).await;
    let received = async || {
        let newest = "SELECT (extract(epoch FROM max(received_at)) * 1000)::bigint FROM ledger";
        sqlx::query_scalar::<_, i64>(newest).fetch_one(&mut database.connect().await).await.unwrap()
    };
    let created = received().await;
    // Each second it is written ahead of the receipts, for a process that is killed.
    assert!(eventually(async || receipt_mark(&data) > created).await);
    service.stop().await;
    assert_eq!(receipt_mark(&data), created, "the last receipt, exactly");
    let service = Service::start(&settings_in(&data, &database.url)).await.unwrap();
    let list = json!(["@TGS#_c@TOPIC#_a"]);
    service.taken(&topic("Group.CallbackAfterTopicDestroyed", "TopicIdList", list)).await;
    assert!(received().await >= created);
    let alive: i64 = sqlx::query_scalar("SELECT count(*) FROM active_group_topics")
        .fetch_one(&mut database.connect().await)
        .await
        .unwrap();
    assert_eq!(alive, 0);
    service.stop().await;
    // A clock that was an hour ahead was wrong: receipts do not stay there.
    leave_ahead(&data, 3_600_000);
    let service = Service::start(&settings_in(&data, &database.url)).await.unwrap();
    service.taken(&create("after")).await;
    let after: i64 = sqlx::query_scalar(
        "SELECT (extract(epoch FROM received_at) * 1000)::bigint FROM ledger WHERE group_id = 'after'",
    )
    .fetch_one(&mut database.connect().await)
    .await
    .unwrap();
    assert!(after <= now_ms(), "{after}");
    service.stop().await;
}
