//! Back to an older program: records of the spool whose format it does not know, and a schema that is ahead of it.
//!
//! What a newer program would write is made of what this one writes, by raising the number of the format: an older program
//! knows no more of it.

use std::path::Path;

use redb::ReadableTable as _;
use serde_json::Value;
use sqlx::Executor as _;

use crate::durability::isolation::{drained, metric, take};
use crate::durability::spool::create;
use crate::support::chaos::{Mood, Proxy};
use crate::support::postgres::TestDatabase;
use crate::support::process::{Place, Process, refused_at_last, run};
use crate::support::{API_TOKEN, eventually};

/// Records by their key in the spool's file.
type Records = Vec<((i64, u64), Vec<u8>)>;

/// Adds to the number of the format of the records of the spool: to every other one where it is raised, to all where it is
/// lowered. Answers those records.
fn raise(data: &Path, by: i8) -> Records {
    let file = redb::Database::open(data.join("spool.redb")).unwrap();
    let transaction = file.begin_write().unwrap();
    let mut changed = Records::new();
    {
        let name = redb::TableDefinition::<(i64, u64), &[u8]>::new("received");
        let mut table = transaction.open_table(name).unwrap();
        for row in table.iter().unwrap().step_by(if by > 0 { 2 } else { 1 }) {
            let (key, value) = row.unwrap();
            let mut bytes = value.value().to_vec();
            bytes[0] = bytes[0].strict_add_signed(by);
            changed.push((key.value(), bytes));
        }
        for (key, bytes) in &changed {
            table.insert(key, bytes.as_slice()).unwrap();
        }
    }
    transaction.commit().unwrap();
    changed
}

async fn count(database: &TestDatabase) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM ledger").fetch_one(&mut database.connect().await).await.unwrap()
}

async fn health(service: &Process) -> Value {
    service.get("/readyz").await.json().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_a_newer_program_stay_byte_for_byte_until_it_runs_again_and_the_log_and_check_say_so() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let data = place.path().join("data");
    let proxy = Proxy::start(&database.url).await;
    let serve = async || Process::start(place.command_on(&proxy.url, &["serve"])).ready().await;
    let service = serve().await;
    proxy.set(Mood::Gone);
    for number in 0..20 {
        take(&service, &create(&format!("g{number}"))).await;
    }
    service.ends_well_on("TERM").await;
    let newer = raise(&data, 1);
    assert_eq!(newer.len(), 10);
    proxy.set(Mood::Fair);
    let mut service = serve().await;
    service.says("records in the spool have a version that this program does not know").await;
    let others = async || count(&database).await == 10 && health(&service).await["spool"]["depth"] == 10;
    assert!(eventually(others).await, "{}\n{}", health(&service).await, service.log());
    take(&service, &create("new")).await;
    assert!(eventually(async || count(&database).await == 11).await, "others do not wait: {}", service.log());
    let lines = service.log().matches("have a version that this program does not know").count();
    assert_eq!(lines, 1, "{}", service.log());
    service.ends_well_on("TERM").await;
    // Looked at before the older program raises anything: what it had not read it has left as it was.
    assert_eq!(raise(&data, 0), newer);
    assert_eq!(raise(&data, -1).len(), 10, "as the newer program reads them");
    let service = serve().await;
    assert!(eventually(async || drained(&service).await).await, "{}", service.log());
    assert_eq!(count(&database).await, 21);
    assert!(metric(&service, "group_mirror_lost_total").await < 0.5);
    service.ends_well_on("TERM").await;
    let verified = run(place.command_on(&database.url, &["replay", "--verify"])).await;
    assert!(verified.stdout.contains(" 0 differences"), "{verified:?}");
}

/// Raises the number of the format of every record that is kept, and answers how many there are.
fn raise_kept(data: &Path) -> usize {
    let mut raised = 0;
    for entry in std::fs::read_dir(data).unwrap() {
        let path = entry.unwrap().path();
        if !path.file_name().unwrap().to_str().unwrap().starts_with("kept-") {
            continue;
        }
        let mut bytes = std::fs::read(&path).unwrap();
        // The mark of a record stands behind its version and its checksum.
        let begins: Vec<usize> =
            (9..bytes.len()).filter(|at| bytes[*at..].starts_with(b"\xf5GMR")).map(|at| at - 9).collect();
        for begin in &begins {
            bytes[*begin] += 1;
        }
        raised += begins.len();
        std::fs::write(&path, bytes).unwrap();
    }
    raised
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_newer_program_has_kept_is_put_into_the_spool_as_it_is_where_the_database_lacks_it() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let data = place.path().join("data");
    let serve = async || {
        let mut command = place.command_on(&database.url, &["serve"]);
        command.env("KEEP_ANSWERED_SECS", "600");
        Process::start(command).ready().await
    };
    let service = serve().await;
    for number in 0..8 {
        take(&service, &create(&format!("g{number}"))).await;
    }
    assert!(eventually(async || drained(&service).await && count(&database).await == 8).await);
    service.ends_well_on("TERM").await;
    assert_eq!(raise_kept(&data), 8);
    // As a restore of an empty dump leaves it.
    let lost = "TRUNCATE ledger, ledger_people, groups, group_members, replica_marks";
    database.connect().await.execute(lost).await.unwrap();
    let mut service = serve().await;
    service.says("the database lacks commits that it had confirmed").await;
    service.says("records in the spool have a version that this program does not know").await;
    assert_eq!(health(&service).await["spool"]["depth"], 8, "{}", service.log());
    service.ends_well_on("TERM").await;
    assert_eq!(raise(&data, -1).len(), 8);
    let service = serve().await;
    assert!(eventually(async || count(&database).await == 8).await, "{}", service.log());
    service.ends_well_on("TERM").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_schema_that_is_ahead_the_older_program_says_so_everywhere_touches_nothing_and_loses_nothing() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let mut service = Process::start(place.command_on(&database.url, &["serve"])).ready().await;
    take(&service, &create("before")).await;
    let ahead = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
                 VALUES (9999, 'of a newer program', true, '\\x00', 0)";
    let mut conn = database.connect().await;
    conn.execute(ahead).await.unwrap();
    let line =
        "the schema is ahead: it has migration 9999, which this program does not know; run the newer program";
    service.says(line).await;
    for number in 0..10 {
        take(&service, &create(&format!("ahead{number}"))).await;
    }
    assert_eq!(count(&database).await, 1, "nothing is written");
    let answer = service.get("/readyz").await;
    assert_eq!(answer.status(), 200, "the spool takes callbacks");
    let health: Value = answer.json().await.unwrap();
    assert_eq!((&health["database"], &health["spool"]["depth"]), (&line.into(), &10.into()));
    let read = service.get_as(API_TOKEN, "/v1/groups").await;
    assert_eq!(read.status(), 503);
    let checked = run(place.command_on(&database.url, &["check"])).await;
    assert!(checked.code == Some(1) && checked.stdout.contains("schema: the schema is ahead"), "{checked:?}");
    let migrated = refused_at_last(place.command_on(&database.url, &["migrate"])).await;
    assert!(migrated.contains("the schema is ahead"), "{migrated}");
    service.ends_well_on("TERM").await;
    // A start on it is no other: it waits.
    let mut service = Process::start(place.command_on(&database.url, &["serve"])).ready().await;
    service.says(line).await;
    take(&service, &create("after")).await;
    // As for the newer program, or after a dump of before is restored.
    conn.execute("DELETE FROM _sqlx_migrations WHERE version = 9999").await.unwrap();
    assert!(eventually(async || count(&database).await == 12).await, "{}", service.log());
    service.ends_well_on("TERM").await;
}
