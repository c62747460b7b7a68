//! Many followers at once: a proxy in front of thousands restarts, others connect and hang up without end.

use std::net::SocketAddr;
use std::time::Duration;

use group_mirror::api::live::FOLLOWERS_MAX;
use reqwest::{Client, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use super::held_back::create;
use crate::durability::restart::{DeployedProxy, without_tls};
use crate::process::lifecycle::skipped;
use crate::support::follow::{Follower, Watcher};
use crate::support::postgres::TestDatabase;
use crate::support::process::{Place, Process};
use crate::support::{API_TOKEN, App, PATIENCE, eventually, signed_query};

/// As many as lose their connections together.
const FOLLOWERS: usize = 2_500;

/// Descriptors of that many clients and connections of the service, both of which are in this process, and some more.
const DESCRIPTORS: u64 = 2 * FOLLOWERS as u64 + 2_000;

/// Held by each crowd, because all of them together would need more descriptors than one process may have.
static DESCRIPTORS_IN_USE: Mutex<()> = Mutex::const_new(());

/// A file for nginx that passes streams on; the port is the one of the shipped file.
fn nginx(shipped: &str, service: &str) -> String {
    let (_, rest) = shipped.split_once("    listen ").unwrap();
    let (address, _) = rest.split_once(';').unwrap();
    format!(
        "worker_processes 1; worker_rlimit_nofile 12000; events {{ worker_connections 10000; }}
         http {{ access_log off; server {{ listen {address} backlog=4096; location / {{
           proxy_pass http://{service}; proxy_http_version 1.1; proxy_set_header Connection \"\";
           proxy_read_timeout 75s; proxy_connect_timeout 30s; }} }} }}"
    )
}

/// The same for HAProxy.
fn haproxy(shipped: &str, service: &str) -> String {
    let address = shipped.lines().find_map(|line| line.trim().strip_prefix("bind ")).unwrap();
    format!(
        "global\n    maxconn 6000\ndefaults\n    mode http\n    timeout connect 30s\n    timeout client 75s\n    \
         timeout server 75s\nfrontend f\n    bind {address} backlog 4096\n    default_backend b\nbackend b\n    \
         server s {service}\n"
    )
}

/// All at once; each must be answered with a stream.
async fn all_follow(client: &Client, url: &str, after: Vec<Option<String>>) -> Vec<Follower> {
    let mut asked = JoinSet::new();
    for last in after {
        let (client, url) = (client.clone(), url.to_owned());
        asked.spawn(async move { Follower::ask(&client, &url, last.as_deref()).await });
    }
    let (mut followers, mut refused) = (Vec::new(), Vec::new());
    while let Some(answer) = asked.join_next().await {
        match answer.unwrap() {
            Ok(follower) => followers.push(follower),
            Err(status) => refused.push(status),
        }
    }
    assert_eq!(refused, [], "of {FOLLOWERS}");
    followers
}

async fn each_hears_of(followers: &mut [Follower], group: Option<&str>) {
    for follower in followers {
        let event = tokio::time::timeout(PATIENCE, follower.next()).await.unwrap();
        assert_eq!(event.as_ref().and_then(|event| event["group_id"].as_str()), group);
    }
}

async fn restarts_before_thousands(proxy: &str, file: fn(&str, &str) -> String) {
    let _alone = DESCRIPTORS_IN_USE.lock().await;
    if rlimit::increase_nofile_limit(DESCRIPTORS).is_ok_and(|got| got < DESCRIPTORS) {
        return skipped("this process may not have as many open files");
    }
    let app = App::start().await;
    let service = app.service.running.api_addr.to_string();
    let start =
        async || DeployedProxy::start(proxy, [0, 0], |shipped| file(&without_tls(&shipped), &service)).await;
    let Some(running) = start().await else { return };
    let url = |proxy: &DeployedProxy| format!("http://{}/v1/changes", proxy.target.address);
    // Each with a connection of its own, as that many programs have.
    let mut followers = all_follow(&app.service.client, &url(&running), vec![None; FOLLOWERS]).await;
    app.service.taken(&create("before")).await;
    each_hears_of(&mut followers, Some("before")).await;
    drop(running);
    each_hears_of(&mut followers, None).await;
    app.service.taken(&create("missed")).await;
    let running = start().await.unwrap();
    let after = followers.into_iter().map(|follower| follower.last_id).collect();
    let mut followers = all_follow(&app.service.client, &url(&running), after).await;
    each_hears_of(&mut followers, Some("missed")).await;
    app.service.taken(&create("after")).await;
    each_hears_of(&mut followers, Some("after")).await;
    drop(followers);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_of_an_nginx_that_restarts_come_back_together_and_miss_nothing() {
    restarts_before_thousands("nginx", nginx).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_of_a_haproxy_that_restarts_come_back_together_and_miss_nothing() {
    restarts_before_thousands("haproxy", haproxy).await;
}

fn request(accept: &str) -> Vec<u8> {
    format!(
        "GET /v1/changes HTTP/1.1\r\nHost: mirror\r\nAuthorization: Bearer {API_TOKEN}\r\nAccept: {accept}\r\n\r\n"
    )
    .into_bytes()
}

/// Connects and leaves: without a word, after the begin of a stream, or before the end of a page.
async fn come_and_go(address: &str, number: usize) {
    let Ok(mut stream) = TcpStream::connect(address).await else { return };
    let accept = ["", "text/event-stream", "application/json"][number % 3];
    if !accept.is_empty() {
        let _ = stream.write_all(&request(accept)).await;
    }
    if accept == "text/event-stream" {
        let _ = stream.read(&mut [0; 512]).await;
    }
}

async fn followers_of(service: &Process) -> Option<usize> {
    let text = service.get_as(API_TOKEN, "/metrics").await.text().await.unwrap();
    text.lines().find_map(|line| line.strip_prefix("group_mirror_followers "))?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_connections_a_second_of_others_take_nothing_from_a_follower() {
    const OTHERS: usize = 1_500;
    let (database, place) = (TestDatabase::create().await, Place::new());
    let service = Process::start(place.command_on(&database.url, &["serve"])).ready().await;
    let (address, client) = (service.api_address(), Client::new());
    let url = format!("http://{address}/v1/changes");
    let watchers: Vec<_> = (0..3)
        .map(|_| {
            let url = url.clone();
            Watcher::start(&client, move || url.clone(), None)
        })
        .collect();
    let others = tokio::spawn(async move {
        let (mut ticks, mut coming) = (tokio::time::interval(Duration::from_secs(1) / 300), JoinSet::new());
        for number in 0..OTHERS {
            ticks.tick().await;
            let address = address.clone();
            coming.spawn(async move { come_and_go(&address, number).await });
        }
        coming.join_all().await;
    });
    let mut sent = 0;
    while !others.is_finished() {
        let query = format!("{}&CallbackCommand=Group.CallbackAfterCreateGroup", signed_query());
        let answer = service.post(&query, create(&format!("g{sent}")).to_string()).await;
        assert_eq!(answer.status(), StatusCode::OK);
        sent += 1;
        // One that comes while the others do is served.
        let mut late = Follower::start(&client, &format!("{url}?since=now"), None).await;
        assert_eq!(late.event().await, Some(None));
    }
    others.await.unwrap();
    for watcher in &watchers {
        watcher.until_seen(sent).await;
    }
    assert!(
        eventually(async || followers_of(&service).await == Some(watchers.len())).await,
        "permits are back"
    );
    for watcher in watchers {
        let seen = watcher.end().await;
        assert!(
            seen.entries.values().all(|(_, times)| *times == 1) && seen.entries.len() == sent,
            "{seen:?}"
        );
        assert_eq!(seen.refused, 0);
    }
    service.ends_well_on("TERM").await;
}

/// Begins a stream on a connection of its own.
async fn begin_stream(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&request("text/event-stream")).await.unwrap();
    let mut begin = [0; 12];
    stream.read_exact(&mut begin).await.unwrap();
    assert_eq!(&begin, b"HTTP/1.1 200");
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_refused_when_all_permits_are_taken_says_when_to_come_back_and_is_served_then() {
    let _alone = DESCRIPTORS_IN_USE.lock().await;
    let wanted = 2 * FOLLOWERS_MAX as u64 + 1_000;
    if rlimit::increase_nofile_limit(wanted).is_ok_and(|got| got < wanted) {
        return skipped("this process may not have as many open files");
    }
    let app = App::start().await;
    let address = app.service.running.api_addr;
    let mut streams = Vec::new();
    while streams.len() < FOLLOWERS_MAX {
        let begun: JoinSet<TcpStream> = (0..64).map(|_| begin_stream(address)).collect();
        streams.extend(begun.join_all().await);
    }
    assert_eq!(streams.len(), FOLLOWERS_MAX);
    let url = app.service.api_url("/v1/changes");
    let ask = app.service.client.get(&url).bearer_auth(API_TOKEN).header("accept", "text/event-stream");
    let answer = ask.send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    let after: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&after), "{after}");
    // Pages and lists go on.
    assert_eq!(app.service.read("/v1/changes").await["more"], false);
    streams.pop();
    let served = async || Follower::ask(&app.service.client, &url, None).await.is_ok();
    assert!(eventually(served).await, "a permit is back");
    drop(streams);
    app.stop().await;
}

/// More often than there are permits to follow, faster than heartbeats come.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_and_hangs_up_again_and_again_locks_no_other_out() {
    const TIMES: usize = 4_400;
    let app = App::start().await;
    let address = app.service.running.api_addr;
    let mut asking = JoinSet::new();
    for _ in 0..40 {
        asking.spawn(async move {
            for _ in 0..TIMES / 40 {
                begin_stream(address).await;
            }
        });
    }
    asking.join_all().await;
    let url = app.service.api_url("/v1/changes");
    let mut follower = Follower::start(&app.service.client, &url, None).await;
    app.service.taken(&create("news")).await;
    assert_eq!(follower.next().await.unwrap()["group_id"], "news");
    app.stop().await;
}
