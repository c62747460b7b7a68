//! `READ_DATABASE_URL`: lists and lookups from a standby, the primary in its place while it cannot serve, and `at_least`.

use reqwest::StatusCode;
use serde_json::Value;
use sqlx::Executor as _;

use super::failover::{Pair, fill};
use super::isolation::{metric, take};
use super::spool::create;
use crate::support::chaos::{Mood, Proxy};
use crate::support::cluster::Cluster;
use crate::support::postgres::TestDatabase;
use crate::support::process::{Place, Process, run};
use crate::support::{API_TOKEN, eventually};

const USED: &str = "lists and lookups are read from the database of READ_DATABASE_URL";
const LEFT: &str = "the database of READ_DATABASE_URL is not used (";

async fn status(service: &Process, path: &str) -> StatusCode {
    service.get_as(API_TOKEN, path).await.status()
}

async fn reads(service: &Process) -> String {
    let ready: Value = service.get("/readyz").await.json().await.unwrap();
    ready["reads"].as_str().unwrap().to_owned()
}

async fn run_on(server: &Cluster, statement: &'static str) {
    server.connect().await.execute(statement).await.unwrap();
}

fn lines(service: &Process, text: &str) -> usize {
    service.log().matches(text).count()
}

/// A service that reads from the standby of a pair.
async fn serve(pair: &Pair, place: &Place) -> Process {
    serve_reading(pair, place, &pair.second.url).await
}

async fn serve_reading(pair: &Pair, place: &Place, url: &str) -> Process {
    let mut command = place.command_on(&pair.first.url, &["serve"]);
    command.env("READ_DATABASE_URL", url);
    let mut service = Process::start(command).ready().await;
    service.says(USED).await;
    service
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_come_from_the_standby_and_at_least_waits_for_it() {
    let (pair, place) = (Pair::create().await, Place::new());
    let service = serve(&pair, &place).await;
    fill(&service, "g", 3).await;
    assert!(eventually(async || status(&service, "/v1/groups/g2").await == StatusCode::OK).await);
    run_on(&pair.standby, "SELECT pg_wal_replay_pause()").await;
    fill(&service, "h", 1).await;
    // The feed is that of the primary.
    let page: Value = service.get_as(API_TOKEN, "/v1/changes").await.json().await.unwrap();
    let last = page["items"].as_array().unwrap().last().unwrap();
    assert_eq!(last["group_id"], "h0");
    assert_eq!(status(&service, "/v1/groups/h0").await, StatusCode::NOT_FOUND, "the standby has it not yet");
    let waiting = format!("/v1/groups/h0?at_least={}", last["cursor"].as_str().unwrap());
    assert_eq!(status(&service, &waiting).await, StatusCode::SERVICE_UNAVAILABLE);
    let asked = tokio::spawn({
        let url = format!("http://{}{waiting}", service.api_address());
        async move { reqwest::Client::new().get(url).bearer_auth(API_TOKEN).send().await.unwrap().status() }
    });
    run_on(&pair.standby, "SELECT pg_wal_replay_resume()").await;
    assert_eq!(asked.await.unwrap(), StatusCode::OK);
    // What was deleted by a restore, say, is 410 as in the primary.
    let other = waiting.replace("h0?", "h0?sdk_app_id=1400000001&");
    assert_eq!(status(&service, &other).await, StatusCode::OK);
    service.ends_well_on("TERM").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_standby_is_away_reads_come_from_the_primary_and_the_other_way_round_and_each_outage_is_one_line()
 {
    let (pair, place) = (Pair::create().await, Place::new());
    let mut service = serve(&pair, &place).await;
    assert_eq!(reads(&service).await, "standby");
    fill(&service, "g", 3).await;
    pair.second.set(Mood::Gone);
    // A connection that was lent a moment before is found broken by the read that gets it.
    assert!(eventually(async || status(&service, "/v1/groups/g2").await == StatusCode::OK).await);
    service.says(LEFT).await;
    for _ in 0..20 {
        for path in ["/v1/groups", "/v1/groups/g0", "/v1/stats"] {
            assert_eq!(status(&service, path).await, StatusCode::OK, "{path}");
        }
    }
    assert_ne!(reads(&service).await, "standby");
    assert_eq!(lines(&service, LEFT), 1, "{}", service.log());
    assert!((metric(&service, "group_mirror_read_standby_outages_total").await - 1.0).abs() < f64::EPSILON);
    pair.second.set(Mood::Fair);
    service.until(|service| lines(service, USED) == 2, "the standby is used again").await;
    assert_eq!(reads(&service).await, "standby");
    // Without the primary callbacks go to the spool, and reads show what the standby has.
    assert!(eventually(async || status(&service, "/v1/groups/g2").await == StatusCode::OK).await);
    pair.first.set(Mood::Gone);
    take(&service, &create("away")).await;
    assert_eq!(status(&service, "/v1/groups/g2").await, StatusCode::OK);
    pair.first.set(Mood::Fair);
    assert!(eventually(async || status(&service, "/v1/groups/away").await == StatusCode::OK).await);
    assert_eq!((lines(&service, LEFT), lines(&service, USED)), (1, 2), "{}", service.log());
    service.ends_well_on("TERM").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_no_copy_or_has_another_schema_is_not_read_from_and_check_says_why() {
    let (written, other, empty) =
        (TestDatabase::create().await, TestDatabase::create().await, TestDatabase::create_empty().await);
    for (read, why) in
        [(&other, "it is no standby of the database of DATABASE_URL"), (&empty, "the schema is behind: ")]
    {
        let place = Place::new();
        let command = |args: &[&str]| {
            let mut command = place.command_on(&written.url, args);
            command.env("READ_DATABASE_URL", &read.url);
            command
        };
        let mut service = Process::start(command(&["serve"])).ready().await;
        service.says(LEFT).await;
        take(&service, &create("g")).await;
        assert!(eventually(async || status(&service, "/v1/groups/g").await == StatusCode::OK).await);
        assert!(reads(&service).await.contains(why), "{}", reads(&service).await);
        service.ends_well_on("TERM").await;
        let checked = run(command(&["check"])).await.stdout;
        let line = checked.lines().find(|line| line.contains("read_database")).unwrap_or_default();
        assert!(line.starts_with("wrong ") && line.contains(why), "{checked}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_named_beside_a_database_and_check_finds_it() {
    let place = Place::new();
    let mut alone = place.command(&["serve"]);
    alone.env("READ_DATABASE_URL", "postgres://mirror@127.0.0.1:1/mirror");
    let ended = run(alone).await;
    assert!(ended.stderr.contains("READ_DATABASE_URL is set and DATABASE_URL is not"), "{ended:?}");
    let pair = Pair::create().await;
    let mut check = place.command_on(&pair.first.url, &["check"]);
    check.env("READ_DATABASE_URL", Proxy::url_of([&pair.second]));
    let checked = run(check).await.stdout;
    assert!(checked.lines().any(|line| line.starts_with("ok       read_database: PostgreSQL") && line.ends_with("a standby")), "{checked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_answers_nothing_takes_no_time_of_the_next_one() {
    let (pair, place) = (Pair::create().await, Place::new());
    let silent = Proxy::start(&pair.standby.url()).await;
    silent.set(Mood::Stalled);
    let service = serve_reading(&pair, &place, &Proxy::url_of([&silent, &pair.second])).await;
    assert_eq!(reads(&service).await, "standby");
    service.ends_well_on("TERM").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_returns_comes_into_use_only_when_it_has_caught_up() {
    let (mut pair, place) = (Pair::create().await, Place::new());
    let replication = Proxy::start(&pair.primary.url()).await;
    let other = Cluster::standby_of(&mut pair.primary, &replication).await;
    let returning = Proxy::start(&other.url()).await;
    returning.set(Mood::Gone);
    let service = serve_reading(&pair, &place, &Proxy::url_of([&returning, &pair.second])).await;
    fill(&service, "early", 1).await;
    run_on(&other, "SELECT pg_wal_replay_pause()").await;
    fill(&service, "late", 1).await;
    let is_read = async |service: &Process| status(service, "/v1/groups/late0").await == StatusCode::OK;
    assert!(eventually(async || is_read(&service).await).await);
    // The looks at it are sessions that have ended.
    let mut conn = other.connect().await;
    let sessions = "SELECT sessions FROM pg_stat_database WHERE datname = current_database()";
    let before: i64 = sqlx::query_scalar(sessions).fetch_one(&mut conn).await.unwrap();
    returning.set(Mood::Fair);
    let conn = tokio::sync::Mutex::new(conn);
    let is_looked_at = async || {
        let now: i64 = sqlx::query_scalar(sessions).fetch_one(&mut *conn.lock().await).await.unwrap();
        now >= before + 2
    };
    assert!(eventually(is_looked_at).await);
    assert!(is_read(&service).await, "{}", service.log());
    run_on(&other, "SELECT pg_wal_replay_resume()").await;
    pair.second.set(Mood::Gone);
    assert!(eventually(async || reads(&service).await == "standby" && is_read(&service).await).await);
    service.ends_well_on("TERM").await;
}

/// While the primary is away a host that is behind is better than none; when it is back, reads must not stay in the past.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_behind_and_served_while_the_primary_was_away_is_left_when_that_is_back() {
    let (pair, place) = (Pair::create().await, Place::new());
    let service = serve(&pair, &place).await;
    fill(&service, "early", 1).await;
    pair.second.set(Mood::Gone);
    assert!(eventually(async || reads(&service).await != "standby").await);
    run_on(&pair.standby, "SELECT pg_wal_replay_pause()").await;
    fill(&service, "late", 1).await;
    let is_read = async || status(&service, "/v1/groups/late0").await == StatusCode::OK;
    assert!(eventually(is_read).await);
    pair.first.set(Mood::Gone);
    pair.second.set(Mood::Fair);
    assert!(eventually(async || reads(&service).await == "standby").await, "{}", service.log());
    pair.first.set(Mood::Fair);
    let is_back = async || reads(&service).await != "standby" && is_read().await;
    assert!(eventually(is_back).await, "{}", service.log());
    run_on(&pair.standby, "SELECT pg_wal_replay_resume()").await;
    assert!(eventually(async || reads(&service).await == "standby" && is_read().await).await);
    service.ends_well_on("TERM").await;
}

/// Each statement on a standby is a transaction of its own.
#[tokio::test(flavor = "multi_thread")]
async fn reads_that_wait_for_the_standby_do_not_ask_it_one_by_one() {
    let (pair, place) = (Pair::create().await, Place::new());
    let service = serve(&pair, &place).await;
    run_on(&pair.standby, "SELECT pg_wal_replay_pause()").await;
    fill(&service, "h", 1).await;
    let page: Value = service.get_as(API_TOKEN, "/v1/changes").await.json().await.unwrap();
    let cursor = page["items"].as_array().unwrap().last().unwrap()["cursor"].as_str().unwrap().to_owned();
    let url = format!("http://{}/v1/groups/h0?at_least={cursor}", service.api_address());
    let mut conn = pair.standby.connect().await;
    let transactions = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()";
    let before: i64 = sqlx::query_scalar(transactions).fetch_one(&mut conn).await.unwrap();
    let client = reqwest::Client::new();
    let waiting = (0..60).map(|_| client.get(&url).bearer_auth(API_TOKEN).send());
    for answer in futures_util::future::join_all(waiting).await {
        assert_eq!(answer.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
    }
    // A session reports what it has done at its end at the latest.
    service.ends_well_on("TERM").await;
    let after: i64 = sqlx::query_scalar(transactions).fetch_one(&mut conn).await.unwrap();
    assert!(after - before < 600, "{} transactions", after - before);
}
