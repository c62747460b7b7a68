//! While PostgreSQL is away, slow, cut off or locked: an OK still means durable, and everything is in the tables later.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use group_mirror::config::SPOOL_MAX_BYTES_MIN;
use serde_json::{Value, json};
use sqlx::Executor as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::chaos::{Mood, Proxy};
use crate::support::postgres::TestDatabase;
use crate::support::process::Place;
use crate::support::{API_TOKEN, OK, PATIENCE, Service, eventually, settings, signed_query};

pub(crate) const CREATE: &str = "Group.CallbackAfterCreateGroup";

/// A create callback of a group of its own.
pub(crate) fn create(group: &str) -> Value {
    json!({
        "CallbackCommand": CREATE, "GroupId": group, "Type": "Public", "Name": "Spooled", "Owner_Account": "ana",
        "MemberList": [], "EventTime": 1_700_000_000_000_i64,
    })
}

/// A service behind a proxy.
struct Scene {
    database: TestDatabase,
    proxy: Proxy,
    service: Service,
}

impl Scene {
    async fn start() -> Self {
        let database = TestDatabase::create().await;
        let proxy = Proxy::start(&database.url).await;
        let service = Service::start(&settings(&proxy.url)).await.unwrap();
        Self { database, proxy, service }
    }

    async fn take(&self, names: impl IntoIterator<Item = String>) {
        futures_util::future::join_all(names.into_iter().map(|name| async move {
            self.service.taken(&create(&name)).await;
        }))
        .await;
    }

    async fn back(&self) {
        self.proxy.set(Mood::Fair);
        self.service.until(caught_up).await;
    }
}

pub(crate) fn caught_up(told: &Value) -> bool {
    told["database"] == "ok" && told["spool"]["depth"] == 0
}

/// All groups in the tables; each has one ledger row.
pub(crate) async fn groups(database: &TestDatabase) -> BTreeSet<String> {
    let mut conn = database.connect().await;
    let (groups, ledger): (Vec<String>, i64) =
        sqlx::query_as("SELECT ARRAY(SELECT group_id FROM groups), (SELECT count(*) FROM ledger)")
            .fetch_one(&mut conn)
            .await
            .unwrap();
    assert_eq!(usize::try_from(ledger), Ok(groups.len()), "one callback per group, each once");
    groups.into_iter().collect()
}

fn named(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix} {number}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_answered_while_postgres_is_breaker_open_is_in_the_tables_when_it_is_back() {
    let scene = Scene::start().await;
    scene.take(named("before", 8)).await;
    scene.proxy.set(Mood::Gone);
    scene.take(named("away", 300)).await;
    let (ready, told) = scene.service.readiness().await;
    assert!(ready && told["database"] != "ok", "{told}");
    assert!(told["spool"]["depth"].as_u64().unwrap() >= 300 - 8, "{told}");
    assert!(told["spool"]["bytes"].as_u64().unwrap() > 0 && told["spool"]["oldest_age"].is_u64(), "{told}");
    scene.back().await;
    scene.take(named("after", 8)).await;
    scene.back().await;
    let expected: BTreeSet<String> =
        [named("before", 8), named("away", 300), named("after", 8)].concat().into_iter().collect();
    assert_eq!(groups(&scene.database).await, expected);
    scene.service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_of_unknown_outcome_is_neither_lost_nor_doubled() {
    let scene = Scene::start().await;
    let mut expected = BTreeSet::new();
    for mood in [
        Mood::CutsBeforeCommit,
        Mood::CutsAfterCommit,
        Mood::HoldsCommit,
        Mood::StallsAfterCommit,
        Mood::Stalled,
    ] {
        let names = named(&format!("{mood:?}"), 4);
        scene.proxy.set(mood);
        scene.take(names.clone()).await;
        scene.back().await;
        expected.extend(names);
        assert_eq!(groups(&scene.database).await, expected, "{mood:?}");
    }
    scene.service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_row_holds_up_nobody_and_its_callbacks_come_when_it_is_free() {
    let scene = Scene::start().await;
    scene.take(["locked".to_owned()]).await;
    let mut conn = scene.database.connect().await;
    conn.execute("BEGIN").await.unwrap();
    conn.execute("SELECT FROM groups WHERE group_id = 'locked' FOR UPDATE").await.unwrap();
    let mut rename = create("locked");
    rename["CallbackCommand"] = json!("Group.CallbackAfterGroupInfoChanged");
    rename["Name"] = json!("New");
    rename["EventTime"] = json!(1_700_000_000_001_i64);
    scene.service.taken(&rename).await;
    scene.take(named("other", 8)).await;
    conn.execute("COMMIT").await.unwrap();
    scene.back().await;
    let group = scene.service.read("/v1/groups/locked").await;
    assert_eq!(group["name"], "New");
    assert_eq!(scene.service.read("/v1/groups").await["items"].as_array().unwrap().len(), 9);
    scene.service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn data_that_postgres_refuses_is_parked_on_the_way_out_of_the_spool_too() {
    let scene = Scene::start().await;
    let mut conn = scene.database.connect().await;
    conn.execute("ALTER TABLE groups ADD CONSTRAINT test_check CHECK (name <> 'forbidden')").await.unwrap();
    scene.proxy.set(Mood::Gone);
    scene.take(named("fine", 20)).await;
    let mut bad = create("bad");
    bad["Name"] = json!("forbidden");
    scene.service.taken(&bad).await;
    scene.take(named("later", 20)).await;
    scene.back().await;
    let counts: (i64, i64) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM groups), (SELECT count(*) FROM ledger WHERE outcome = 'parked')",
    )
    .fetch_one(&mut conn)
    .await
    .unwrap();
    assert_eq!(counts, (40, 1));
    scene.service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_spool_is_told_at_once_noted_as_one_gap_and_takes_more_once_it_is_drained() {
    let database = TestDatabase::create().await;
    let proxy = Proxy::start(&database.url).await;
    proxy.set(Mood::Gone);
    let data = tempfile::tempdir().unwrap();
    let mut settings = settings(&proxy.url);
    settings.data_dir = Some(data.path().display().to_string());
    settings.spool_max_bytes = Some(SPOOL_MAX_BYTES_MIN.to_string());
    let service = Service::start(&settings).await.unwrap();
    let mut large = create("large");
    large["Padding"] = json!("x".repeat(1_000_000));
    let mut taken = BTreeSet::new();
    let refused = loop {
        let name = format!("large {}", taken.len());
        large["GroupId"] = json!(name);
        let answer = service.post(CREATE, large.to_string()).await;
        if answer.status() != 200 {
            break answer;
        }
        assert!(taken.len() < 100, "the spool has no limit");
        taken.insert(name);
    };
    assert!(!taken.is_empty());
    assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].to_str().unwrap()), (503, "1"));
    assert_eq!(refused.json::<Value>().await.unwrap()["ActionStatus"], "FAIL");
    assert_eq!(service.post(CREATE, large.to_string()).await.status(), 503);
    let (ready, told) = service.readiness().await;
    assert!(!ready, "{told}");
    assert_eq!(told["spool"]["gaps"], 1, "{told}");
    assert_eq!(told["spool"]["state"], "the spool is at its limit, SPOOL_MAX_BYTES");
    let noted = gaps(&service).await;
    let [gap] = noted.as_array().unwrap().as_slice() else { panic!("{noted}") };
    assert_eq!((&gap["cause"], &gap["callbacks"]), (&json!("spool_full"), &json!(2)), "{gap}");
    assert!(gap["begin"].as_str().unwrap() <= gap["end"].as_str().unwrap(), "{gap}");
    proxy.set(Mood::Fair);
    service.until(caught_up).await;
    assert_eq!(groups(&database).await, taken);
    // The database knows the gap too, so that any replica can say what is verified again.
    let known = async || {
        let known =
            "SELECT count(*) FROM gaps WHERE cause = 'spool_full' AND callbacks = 2 AND closed_at IS NULL";
        sqlx::query_scalar::<_, i64>(known).fetch_one(&mut database.connect().await).await.unwrap() == 1
    };
    assert!(eventually(known).await);
    proxy.set(Mood::Gone);
    service.taken(&large).await;
    service.stop().await;
    let service = Service::start(&settings).await.unwrap();
    assert_eq!(service.readiness().await.1["spool"]["gaps"], 1, "gaps outlive a restart");
    assert_eq!(gaps(&service).await, noted);
    service.stop().await;
}

/// The gaps that `/v1/stats` lists, which it does while PostgreSQL is away as well; without what is counted of them.
async fn gaps(service: &Service) -> Value {
    let url = service.api_url("/v1/stats");
    let answer = service.client.get(url).bearer_auth(API_TOKEN).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let mut gaps = answer.json::<Value>().await.unwrap()["gaps"].clone();
    for gap in gaps.as_array_mut().unwrap() {
        gap.as_object_mut().unwrap().retain(|name, _| !["groups", "verified"].contains(&name.as_str()));
    }
    gaps
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spool_that_was_filled_before_a_restart_is_drained_after_it() {
    let database = TestDatabase::create().await;
    let proxy = Proxy::start(&database.url).await;
    let data = tempfile::tempdir().unwrap();
    let mut settings = settings(&proxy.url);
    settings.data_dir = Some(data.path().display().to_string());
    proxy.set(Mood::Gone);
    let service = Service::start(&settings).await.unwrap();
    for name in named("kept", 20) {
        service.taken(&create(&name)).await;
    }
    let Err(error) = Service::start(&settings).await else { panic!("two services in one directory") };
    assert!(format!("{error:#}").ends_with("another process uses the spool"), "{error:#}");
    service.stop().await;
    let service = Service::start(&settings).await.unwrap();
    assert_eq!(service.readiness().await.1["spool"]["depth"], 20);
    proxy.set(Mood::Fair);
    service.until(caught_up).await;
    assert_eq!(groups(&database).await, named("kept", 20).into_iter().collect());
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_while_postgres_stalls_comes_to_an_end_and_keeps_what_was_answered() {
    let scene = Scene::start().await;
    scene.take(named("before", 4)).await;
    scene.proxy.set(Mood::Stalled);
    let taken = scene.take(named("stalled", 4));
    tokio::join!(taken, scene.service.until(|told| told["spool"]["depth"] == 4));
    tokio::time::timeout(PATIENCE, scene.service.stop()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_cannot_be_read_is_kept_and_holds_nothing_up() {
    let database = TestDatabase::create().await;
    let proxy = Proxy::start(&database.url).await;
    let data = tempfile::tempdir().unwrap();
    let mut settings = settings(&proxy.url);
    settings.data_dir = Some(data.path().display().to_string());
    proxy.set(Mood::Gone);
    let service = Service::start(&settings).await.unwrap();
    service.taken(&create("first")).await;
    service.stop().await;
    // As a later program might have left it.
    let file = redb::Database::open(data.path().join("spool.redb")).unwrap();
    let transaction = file.begin_write().unwrap();
    let table = redb::TableDefinition::<(i64, u64), &[u8]>::new("received");
    transaction.open_table(table).unwrap().insert((0, 0), &b"\x63 of version 99"[..]).unwrap();
    transaction.commit().unwrap();
    drop(file);
    let service = Service::start(&settings).await.unwrap();
    service.taken(&create("second")).await;
    proxy.set(Mood::Fair);
    service.until(|told| told["database"] == "ok" && told["spool"]["depth"] == 1).await;
    service.taken(&create("third")).await;
    assert!(eventually(async || groups(&database).await.len() == 3).await);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_do_not_come_take_no_room_from_those_that_do() {
    let scene = Scene::start().await;
    let stall = async || {
        let mut stream = TcpStream::connect(scene.service.running.callback_addr).await.unwrap();
        let head =
            format!("POST /?{} HTTP/1.1\r\nHost: x\r\nContent-Length: 1048576\r\n\r\n", signed_query());
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    };
    let _stalled = futures_util::future::join_all((0..100).map(|_| stall())).await;
    scene.service.taken(&create("meanwhile")).await;
    scene.service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_spool_gives_its_space_back() {
    let database = TestDatabase::create().await;
    let proxy = Proxy::start(&database.url).await;
    let data = tempfile::tempdir().unwrap();
    let mut settings = settings(&proxy.url);
    settings.data_dir = Some(data.path().display().to_string());
    let service = Service::start(&settings).await.unwrap();
    proxy.set(Mood::Gone);
    let size = || std::fs::metadata(data.path().join("spool.redb")).unwrap().len();
    let mut number = 0;
    while size() < 16 * 1024 * 1024 {
        let mut body = create(&format!("g{number}"));
        body["Padding"] = json!("x".repeat(500_000));
        service.taken(&body).await;
        number += 1;
    }
    proxy.set(Mood::Fair);
    service.until(caught_up).await;
    assert!(size() < 1024 * 1024, "{} bytes left", size());
    service.taken(&create("last")).await;
    service.until(caught_up).await;
    assert_eq!(groups(&database).await.len(), number + 1);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_started_without_a_database_takes_callbacks_and_catches_up_when_one_appears() {
    let database = TestDatabase::create().await;
    let proxy = Proxy::start(&database.url).await;
    for mood in [Mood::Gone, Mood::Stalled] {
        proxy.set(mood);
        let service = Service::start(&settings(&proxy.url)).await.unwrap();
        let names = named(&format!("{mood:?}"), 8);
        for name in &names {
            assert_eq!(service.post(CREATE, create(name).to_string()).await.text().await.unwrap(), OK);
        }
        let read = service.client.get(service.api_url("/v1/groups")).bearer_auth(API_TOKEN);
        assert_eq!(read.send().await.unwrap().status(), 503);
        proxy.set(Mood::Fair);
        service.until(caught_up).await;
        assert!(groups(&database).await.is_superset(&names.into_iter().collect()));
        service.stop().await;
    }
}

#[tokio::test]
async fn a_database_that_will_never_be_ours_ends_the_start_in_one_line() {
    let database = TestDatabase::create().await;
    let (server, query) = database
        .url
        .split_once('?')
        .map_or((&*database.url, String::new()), |(server, query)| (server, format!("?{query}")));
    let (server, _) = server.rsplit_once('/').unwrap();
    for url in [format!("{server}/no_such_database{query}"), "postgres//nonsense".to_owned()] {
        let Err(error) = Service::start(&settings(&url)).await else { panic!("started on {url}") };
        assert!(!format!("{error:#}").contains('\n'), "{error:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_say_nothing_do_not_keep_others_out() {
    let scene = Scene::start().await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(scene.service.running.callback_addr).await.unwrap());
    }
    scene.take(named("heard", 8)).await;
    drop(silent);
    scene.service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn simulate_compares_only_when_nothing_is_in_the_spool_any_more() {
    let scene = Scene::start().await;
    scene.proxy.set(Mood::Gone);
    let place = Place::new();
    let (callbacks, api) = (scene.service.running.callback_addr, scene.service.running.api_addr);
    let urls = [format!("--callback-url=http://{callbacks}"), format!("--api-url=http://{api}")];
    let args = ["simulate", "--callbacks=200", "--groups=10", "--verify", &urls[0], &urls[1]];
    let mut command = place.command_on(&scene.database.url, &args);
    let mut simulate = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut told = BufReader::new(simulate.stdout.take().unwrap());
    let (mut told, line) = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        told.read_line(&mut line).unwrap();
        (told, line)
    })
    .await
    .unwrap();
    // It has sent everything, and begins to compare.
    assert!(line.starts_with("answers: ") && line.contains(" 0 unavailable"), "{line}");
    assert_ne!(scene.service.readiness().await.1["spool"]["depth"], 0);
    scene.proxy.set(Mood::Fair);
    let ended = tokio::task::spawn_blocking(move || {
        let mut rest = String::new();
        told.read_to_string(&mut rest).unwrap();
        (rest, simulate.wait_with_output().unwrap())
    });
    let (rest, ended) = ended.await.unwrap();
    assert!(ended.status.success(), "{rest}{}", String::from_utf8_lossy(&ended.stderr));
    assert!(rest.contains(" 0 differences"), "{rest}");
    scene.service.stop().await;
}
