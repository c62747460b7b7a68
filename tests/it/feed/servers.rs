//! Followers while a server under the feed changes: PostgreSQL is restarted, crashes, gets its files back from a copy, fails
//! over to a standby; the service is restarted. Each follower gets each entry once, or 410.

use std::sync::{Arc, Mutex};

use reqwest::{Client, StatusCode};
use sqlx::Executor as _;

use super::held_back::create;
use crate::support::chaos::{Mood, Proxy};
use crate::support::cluster::{Cluster, copy};
use crate::support::follow::{Follower, Watcher};
use crate::support::postgres::TestDatabase;
use crate::support::process::{Place, Process};
use crate::support::{API_TOKEN, Service, eventually, settings, signed_query};

async fn fill(service: &Service, name: &str, count: usize) {
    for number in 0..count {
        service.taken(&create(&format!("{name}{number}"))).await;
    }
    service.until(|health| health["spool"]["depth"] == 0).await;
}

fn watch(service: &Service, after: Option<&str>) -> Watcher {
    let url = service.api_url("/v1/changes");
    Watcher::start(&service.client, move || url.clone(), after)
}

fn named(names: &[(&str, usize)]) -> Vec<String> {
    let mut all: Vec<String> =
        names.iter().flat_map(|(name, count)| (0..*count).map(move |n| format!("{name}{n}"))).collect();
    all.sort_unstable();
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_restarted_or_crashes_takes_no_entry_from_a_follower_and_gives_none_twice() {
    let mut cluster = Cluster::create().await;
    let service = Service::start(&settings(&cluster.url())).await.unwrap();
    let (idle, busy) = (watch(&service, None), watch(&service, None));
    fill(&service, "before", 20).await;
    busy.until_seen(20).await;
    cluster.stop();
    // Kept in the spool meanwhile.
    for number in 0..5 {
        service.taken(&create(&format!("away{number}"))).await;
    }
    cluster.start();
    fill(&service, "between", 20).await;
    busy.until_seen(45).await;
    cluster.crash();
    fill(&service, "after", 20).await;
    for watcher in [idle, busy] {
        watcher.until_seen(65).await;
        let wanted = named(&[("before", 20), ("away", 5), ("between", 20), ("after", 20)]);
        assert_eq!(watcher.end().await.groups(), wanted);
    }
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_put_back_from_a_copy_end_the_streams_beyond_it_and_lose_nothing_for_those_before_it()
{
    let mut cluster = Cluster::create().await;
    let service = Service::start(&settings(&cluster.url())).await.unwrap();
    fill(&service, "kept", 20).await;
    let before = watch(&service, None);
    before.until_seen(20).await;
    let before = before.end().await;
    cluster.stop();
    let saved = cluster.home.join("saved");
    copy(&cluster.files(), &saved);
    cluster.start();
    let beyond = watch(&service, None);
    fill(&service, "lost", 20).await;
    beyond.until_seen(40).await;
    cluster.stop();
    std::fs::remove_dir_all(cluster.files()).unwrap();
    std::fs::rename(&saved, cluster.files()).unwrap();
    cluster.start();
    // More than was lost, so that the ledger outgrows the old position.
    fill(&service, "new", 30).await;
    beyond.until(|seen| seen.gone).await;
    assert_eq!(beyond.end().await.groups(), named(&[("kept", 20), ("lost", 20)]));
    let resumed = watch(&service, before.last_id.as_deref());
    resumed.until_seen(30).await;
    assert_eq!(resumed.end().await.groups(), named(&[("new", 30)]));
    service.stop().await;
}

/// `lost`: how many entries the standby lacks when it takes over.
async fn fails_over(lost: usize) {
    let mut primary = Cluster::create().await;
    let replication = Proxy::start(&primary.url()).await;
    let standby = Cluster::standby_of(&mut primary, &replication).await;
    let (first, second) = (Proxy::start(&primary.url()).await, Proxy::start(&standby.url()).await);
    let service = Service::start(&settings(&Proxy::url_of([&first, &second]))).await.unwrap();
    fill(&service, "kept", 20).await;
    let (stays, before) = (watch(&service, None), watch(&service, None));
    before.until_seen(20).await;
    let before = before.end().await;
    let has_all = async || {
        let count = "SELECT count(*) FROM ledger";
        sqlx::query_scalar::<_, i64>(count).fetch_one(&mut standby.connect().await).await.unwrap() == 20
    };
    assert!(eventually(has_all).await);
    replication.set(Mood::Gone);
    fill(&service, "lost", lost).await;
    stays.until_seen(20 + lost).await;
    first.set(Mood::Gone);
    standby.connect().await.execute("SELECT pg_promote()").await.unwrap();
    fill(&service, "new", 30).await;
    if lost > 0 {
        // Before the service has seen the other server it hands out what it has in memory, the lost entries as well.
        stays.until(|seen| seen.gone).await;
        assert_eq!(stays.end().await.groups(), named(&[("kept", 20), ("lost", lost)]));
    } else {
        stays.until_seen(50).await;
        assert_eq!(stays.end().await.groups(), named(&[("kept", 20), ("new", 30)]));
    }
    let resumed = watch(&service, before.last_id.as_deref());
    resumed.until_seen(30).await;
    assert_eq!(resumed.end().await.groups(), named(&[("new", 30)]));
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_to_a_standby_that_has_everything_is_not_noticed_by_a_follower() {
    fails_over(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_to_a_standby_that_lacks_the_end_is_410_for_those_who_have_seen_it_and_no_loss_for_others()
{
    fails_over(7).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_restarted_and_killed_gives_each_entry_once() {
    let (database, place, client) = (TestDatabase::create().await, Place::new(), Client::new());
    let address = Arc::new(Mutex::new(String::new()));
    let (known, mut watcher) = (Arc::clone(&address), None);
    for (round, signal) in ["TERM", "KILL", "TERM"].into_iter().enumerate() {
        let service = Process::start(place.command_on(&database.url, &["serve"])).ready().await;
        *address.lock().unwrap() = service.api_address();
        let known = Arc::clone(&known);
        let watcher: &Watcher = watcher.get_or_insert_with(|| {
            Watcher::start(&client, move || format!("http://{}/v1/changes", known.lock().unwrap()), None)
        });
        for number in 0..20 {
            let query = format!("{}&CallbackCommand=Group.CallbackAfterCreateGroup", signed_query());
            service.post(&query, create(&format!("r{round}/{number}")).to_string()).await;
        }
        watcher.until_seen(20 * (round + 1)).await;
        service.signal(signal);
        service.ended().await;
    }
    let seen = watcher.unwrap().end().await;
    let once = seen.entries.values().all(|(_, times)| *times == 1);
    assert!(once && seen.entries.len() == 60 && !seen.gone, "{seen:?}");
}

/// The listener is there before the database has been checked, and browsers come back at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_asked_for_before_the_database_has_been_checked_is_not_refused() {
    let database = TestDatabase::create().await;
    let proxy = Proxy::start(&database.url).await;
    proxy.set(Mood::Stalled);
    let service = Service::start_at_once(&settings(&proxy.url)).await.unwrap();
    let url = service.api_url("/v1/changes");
    let (client, at) = (service.client.clone(), url.clone());
    let asked = tokio::spawn(async move { Follower::ask(&client, &at, None).await });
    let ask = async || service.client.get(&url).bearer_auth(API_TOKEN).send().await.unwrap().status();
    assert_eq!(ask().await, StatusCode::SERVICE_UNAVAILABLE, "a page is");
    proxy.set(Mood::Fair);
    let mut follower = asked.await.unwrap().unwrap_or_else(|status| panic!("{status:?}"));
    service.until(|health| health["database"] == "ok").await;
    fill(&service, "g", 1).await;
    assert_eq!(follower.next().await.unwrap()["group_id"], "g0");
    service.stop().await;
}

/// A server whose network stalls does not answer and does not close, which only the reader's own limit ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_whose_session_is_cut_or_stalls_gets_another_one_and_says_so_once() {
    let database = TestDatabase::create().await;
    let (proxy, place) = (Proxy::start(&database.url).await, Place::new());
    let mut service = Process::start(place.command_on(&proxy.url, &["serve"])).ready().await;
    let url = format!("http://{}/v1/changes", service.api_address());
    let watcher = Watcher::start(&Client::new(), move || url.clone(), None);
    let insert = async |name: &str| {
        let statement = "INSERT INTO ledger (sdk_app_id, group_id, time_ms, digest, command, received_at, source, outcome, body)
                         VALUES (1400000001, $1, 1, substr(sha256($1::bytea), 1, 16), 'c', now(), 'callback', 'applied', '')";
        sqlx::query(statement).bind(name).execute(&mut database.connect().await).await.unwrap();
    };
    insert("before").await;
    watcher.until_seen(1).await;
    for (round, mood) in [Mood::Gone, Mood::Stalled].into_iter().enumerate() {
        let lines = |log: &str, text: &str| log.lines().filter(|line| line.contains(text)).count();
        proxy.set(mood);
        let lost = |log: &str| lines(log, "the feed cannot be read: ");
        service.until(|service| lost(&service.log()) == round + 1, "an outage").await;
        insert(&format!("during {mood:?}")).await;
        proxy.set(Mood::Fair);
        watcher.until_seen(2 + round).await;
        let found = |log: &str| lines(log, "the feed can be read again, after ");
        service.until(|service| found(&service.log()) == round + 1, "its end").await;
        assert_eq!(lost(&service.log()), round + 1, "{}", service.log());
    }
    let metrics = service.get_as(API_TOKEN, "/metrics").await.text().await.unwrap();
    assert!(metrics.contains("group_mirror_feed_outages_total 2"), "{metrics}");
    let seen = watcher.end().await;
    assert_eq!(seen.groups(), ["before", "during Gone", "during Stalled"]);
    service.ends_well_on("TERM").await;
}

/// Its session has ended, and it has not; it has another name in the server.
#[tokio::test(flavor = "multi_thread")]
async fn a_prepared_transaction_is_waited_for_like_an_open_one() {
    let mut cluster = Cluster::create().await;
    cluster.connect().await.execute("ALTER SYSTEM SET max_prepared_transactions = 5").await.unwrap();
    cluster.stop();
    cluster.start();
    let service = Service::start(&settings(&cluster.url())).await.unwrap();
    let watcher = watch(&service, None);
    fill(&service, "before", 1).await;
    watcher.until_seen(1).await;
    let mut foreign = cluster.connect().await;
    foreign
        .execute(
            "BEGIN;
             INSERT INTO ledger (sdk_app_id, group_id, time_ms, digest, command, received_at, source, outcome, body)
             VALUES (1400000001, 'prepared0', 1, substr(sha256('p'), 1, 16), 'c', now(), 'callback', 'applied', '');
             PREPARE TRANSACTION 'p'",
        )
        .await
        .unwrap();
    fill(&service, "during", 1).await;
    let held = service.read("/v1/changes").await;
    assert_eq!(held["items"].as_array().unwrap().len(), 1, "{held}");
    foreign.execute("COMMIT PREPARED 'p'").await.unwrap();
    watcher.until_seen(3).await;
    assert_eq!(watcher.end().await.groups(), named(&[("before", 1), ("during", 1), ("prepared", 1)]));
    service.stop().await;
}
