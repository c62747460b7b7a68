//! Apps that come and go by a restart while callbacks of theirs are in the spool, and the share that each has of it.

use std::collections::BTreeMap;

use group_mirror::config::{SPOOL_MAX_BYTES_MIN, Settings};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::spool::create;
use crate::support::apps::{ALL, FIRST, SECOND, in_environment, query, read_token, settings_of};
use crate::support::chaos::{Mood, Proxy};
use crate::support::postgres::TestDatabase;
use crate::support::process::{Place, Process};
use crate::support::{Service, eventually, fake_postgres};

const THIRD: &str = "1400000003";

fn in_dir(data: &TempDir, settings: Settings) -> Settings {
    Settings { data_dir: Some(data.path().display().to_string()), ..settings }
}

async fn take(service: &Service, app: &str, numbers: std::ops::Range<u32>) {
    for number in numbers {
        service.taken_of(app, &create(&format!("g{number}"))).await;
    }
}

/// Entries of the ledger by app.
async fn entries(database: &TestDatabase) -> BTreeMap<i64, i64> {
    let rows: Vec<(i64, i64)> = sqlx::query_as("SELECT sdk_app_id, count(*) FROM ledger GROUP BY 1")
        .fetch_all(&mut database.connect().await)
        .await
        .unwrap();
    rows.into_iter().collect()
}

async fn stats(service: &Service, app: &str) -> Value {
    service.json_as(ALL, &format!("/v1/stats?sdk_app_id={app}")).await
}

fn depth(stats: &Value) -> u64 {
    stats["spool"]["depth"].as_u64().unwrap_or_else(|| panic!("{stats}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_removed_by_a_restart_with_callbacks_in_the_spool_and_added_again_loses_nothing() {
    let (database, data) = (TestDatabase::create().await, tempfile::tempdir().unwrap());
    let proxy = Proxy::start(&database.url).await;
    let of = |apps: &[&str]| in_dir(&data, settings_of(apps, &proxy.url));
    // Known to the directory, so that a start while the database is away waits for it.
    let service = Service::start(&of(&[FIRST, SECOND])).await.unwrap();
    take(&service, FIRST, 0..1).await;
    proxy.set(Mood::Gone);
    take(&service, FIRST, 1..10).await;
    take(&service, SECOND, 0..20).await;
    let depths = async || [depth(&stats(&service, FIRST).await), depth(&stats(&service, SECOND).await)];
    assert!(eventually(async || depths().await == [9, 20]).await, "{:?}", depths().await);
    service.stop().await;
    // Without the second: its callbacks are refused, and what it has in the spool stays there.
    let service = Service::start_at_once(&of(&[FIRST])).await.unwrap();
    take(&service, FIRST, 10..15).await;
    assert_eq!(service.post_of(SECOND, create("late").to_string()).await.status(), 403);
    service.until(|readiness| readiness["spool"]["depth"] == 34).await;
    assert_eq!(depth(&stats(&service, SECOND).await), 20);
    service.stop().await;
    // The same with the database back, but for half of the drain: a restart comes in between.
    proxy.set(Mood::Fair);
    let service = Service::start(&of(&[FIRST])).await.unwrap();
    service.until(|readiness| readiness["spool"]["depth"] == 0).await;
    assert_eq!(entries(&database).await, [(1_400_000_001, 15), (1_400_000_002, 20)].into());
    service.stop().await;
    // Added again, with a third that begins empty.
    let service = Service::start(&of(&[SECOND, THIRD, FIRST])).await.unwrap();
    take(&service, SECOND, 20..21).await;
    service.until(|readiness| readiness["spool"]["depth"] == 0).await;
    for (app, count) in [(FIRST, 15), (SECOND, 21), (THIRD, 0)] {
        for path in ["/v1/groups?limit=500", "/v1/changes?limit=500"] {
            let page = service.json_as(&read_token(app), path).await;
            assert_eq!(page["items"].as_array().unwrap().len(), count, "{app} {path}: {page}");
        }
        let stats = stats(&service, app).await;
        assert_eq!((depth(&stats), stats["last_callback_at"].is_string()), (0, count > 0), "{stats}");
        assert_eq!(stats["gaps"], json!([]), "{stats}");
    }
    // Where neither request nor token names one, the first of the settings is read.
    assert_eq!(service.json_as(ALL, "/v1/stats").await["sdk_app_id"], 1_400_000_002);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_fills_its_part_of_the_spool_leaves_room_for_the_others() {
    let url = format!("postgres://x:y@{}/mirror", fake_postgres::silent());
    let data = tempfile::tempdir().unwrap();
    let settings = Settings {
        spool_max_bytes: Some(SPOOL_MAX_BYTES_MIN.to_string()),
        ..in_dir(&data, settings_of(&[FIRST, SECOND], &url))
    };
    let service = Service::start_at_once(&settings).await.unwrap();
    let large = |number: u64| {
        let mut body = create(&format!("large {number}"));
        body["Padding"] = "x".repeat(200 * 1024).into();
        body.to_string()
    };
    let bytes = async |app: &str| stats(&service, app).await["spool"]["bytes"].as_u64().unwrap();
    let fill = async |app: &str| {
        let mut taken = 0;
        while service.post_of(app, large(taken)).await.status() == 200 {
            taken += 1;
            assert!(taken < 1_000, "there is no limit");
        }
        (taken, bytes(app).await)
    };
    let (_, alone) = fill(FIRST).await;
    let limit = SPOOL_MAX_BYTES_MIN;
    assert!(
        alone > limit / 2 && alone <= limit / 4 * 3,
        "{alone}: it borrows, and half of a share stays free"
    );
    let (ready, readiness) = service.readiness().await;
    assert!(ready, "the other app still has room: {readiness}");
    let (taken, of_second) = fill(SECOND).await;
    assert!(taken > 0 && of_second > limit / 4 - (512 << 10), "{taken}, {of_second}");
    assert_eq!(bytes(FIRST).await, alone);
    // Each has lost one, and knows of its own alone.
    for app in [FIRST, SECOND] {
        let stats = service.json_as(&read_token(app), "/v1/stats").await;
        let gaps = stats["gaps"].as_array().unwrap();
        assert_eq!(gaps.len(), 1, "{stats}");
        assert_eq!((&gaps[0]["cause"], &gaps[0]["callbacks"]), (&json!("spool_full"), &json!(1)), "{stats}");
        assert_eq!(stats["refusals"]["by_cause"]["not_durable"], 1, "{stats}");
    }
    service.stop().await;
    // The gaps of both are known to the next run, each to its app.
    let service = Service::start_at_once(&settings).await.unwrap();
    service.until(|readiness| readiness["spool"]["gaps"] == 2).await;
    for app in [FIRST, SECOND] {
        assert_eq!(stats(&service, app).await["gaps"].as_array().unwrap().len(), 1);
    }
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_each_app_has_in_the_spool_and_what_it_has_lost_are_numbers_of_its_own() {
    let url = format!("postgres://x:y@{}/mirror", fake_postgres::silent());
    let place = Place::new();
    let mut command = place.command(&[]);
    let limit = SPOOL_MAX_BYTES_MIN.to_string();
    in_environment(
        &mut command,
        &Settings { spool_max_bytes: Some(limit), ..settings_of(&[FIRST, SECOND], &url) },
    );
    let mut service = Process::start(command);
    service.says("read API").await;
    let body = |number: u32| {
        let mut body = create(&format!("large {number}"));
        body["Padding"] = "x".repeat(900 * 1024).into();
        body.to_string()
    };
    assert_eq!(service.post(&query(SECOND, SECOND), create("small").to_string()).await.status(), 200);
    let mut taken = 0;
    while service.post(&query(FIRST, FIRST), body(taken)).await.status() == 200 {
        taken += 1;
    }
    assert_eq!(taken, 4, "each is charged with a MiB, and a share has four: {}", service.log());
    let shows = async |line: String| {
        let numbers = service.get_as(ALL, "/metrics").await.text().await.unwrap();
        numbers.lines().any(|shown| shown == line)
    };
    for line in [
        format!("group_mirror_lost_total{{cause=\"spool_full\",app=\"{FIRST}\"}} 1"),
        format!("group_mirror_lost_total{{cause=\"spool_full\",app=\"{SECOND}\"}} 0"),
        format!("group_mirror_app_spool_depth{{app=\"{FIRST}\"}} {taken}"),
        format!("group_mirror_app_spool_depth{{app=\"{SECOND}\"}} 1"),
        format!("group_mirror_spool_depth {}", taken + 1),
    ] {
        assert!(eventually(async || shows(line.clone()).await).await, "{line}: {}", service.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spool_that_does_not_say_what_each_app_has_is_counted_anew() {
    let url = format!("postgres://x:y@{}/mirror", fake_postgres::silent());
    let data = tempfile::tempdir().unwrap();
    let settings = in_dir(&data, settings_of(&[FIRST, SECOND], &url));
    let service = Service::start_at_once(&settings).await.unwrap();
    take(&service, FIRST, 0..3).await;
    take(&service, SECOND, 0..5).await;
    let of_each = async |service: &Service| {
        let spools =
            [stats(service, FIRST).await, stats(service, SECOND).await].map(|stats| stats["spool"].clone());
        spools.map(|spool| spool.to_string())
    };
    let before = of_each(&service).await;
    service.stop().await;
    // As a program that knew of one app left it.
    let store = redb::Database::open(data.path().join("spool.redb")).unwrap();
    let transaction = store.begin_write().unwrap();
    assert!(transaction.delete_table(redb::TableDefinition::<(), &[u8]>::new("sums")).unwrap());
    let counts = redb::TableDefinition::<(), (u64, u64)>::new("counts");
    transaction.open_table(counts).unwrap().insert((), (1, 8)).unwrap();
    transaction.commit().unwrap();
    drop(store);
    let service = Service::start_at_once(&settings).await.unwrap();
    service.until(|readiness| readiness["spool"]["depth"] == 8).await;
    assert_eq!(of_each(&service).await, before);
    service.stop().await;
}
