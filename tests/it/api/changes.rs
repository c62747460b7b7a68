//! The feed: every ledger entry once, in order, whatever writers, replicas, readers and connections do.

use std::collections::BTreeMap;
use std::sync::Arc;

use reqwest::StatusCode;
use serde_json::{Value, json};
use sqlx::Executor as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpSocket;

use crate::support::follow::Follower;
use crate::support::postgres::TestDatabase;
use crate::support::{API_TOKEN, App, PATIENCE, Service, sample, settings};

fn create(group: &str) -> Value {
    let mut body = sample("Group.CallbackAfterCreateGroup");
    body["GroupId"] = json!(group);
    body
}

async fn page(service: &Service, query: &str) -> Value {
    service.read(&format!("/v1/changes?{query}")).await
}

fn groups(page: &Value) -> Vec<&str> {
    page["items"].as_array().unwrap().iter().map(|item| item["group_id"].as_str().unwrap_or("-")).collect()
}

fn last_cursor(page: &Value) -> String {
    page["items"].as_array().unwrap().last().unwrap()["cursor"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn pages_show_every_entry_once_in_order_and_go_on_where_they_ended() {
    let app = App::start().await;
    let empty = page(&app.service, "").await;
    assert_eq!(empty, json!({"items": [], "next_cursor": empty["next_cursor"], "more": false}));
    assert!(empty["next_cursor"].is_string());
    for number in 0..7 {
        app.service.taken(&create(&format!("g{number}"))).await;
    }
    app.service.taken(&create("g3")).await;
    let (mut seen, mut query) = (Vec::new(), "limit=3".to_owned());
    let end = loop {
        let page = page(&app.service, &query).await;
        seen.extend(groups(&page).into_iter().map(str::to_owned));
        let next = page["next_cursor"].as_str().unwrap().to_owned();
        assert_eq!(next, last_cursor(&page));
        if page["more"] == false {
            break next;
        }
        query = format!("limit=3&since={next}");
    };
    assert_eq!(seen, ["g0", "g1", "g2", "g3", "g4", "g5", "g6"]);
    let at_the_end = json!({"items": [], "next_cursor": end, "more": false});
    assert_eq!(page(&app.service, &format!("since={end}")).await, at_the_end);
    assert_eq!(page(&app.service, "since=now").await, at_the_end);
    app.service.taken(&create("later")).await;
    for name in ["since", "cursor"] {
        assert_eq!(groups(&page(&app.service, &format!("{name}={end}")).await), ["later"]);
    }
    assert_eq!(
        page(&app.service, &format!("since={end}")).await["items"][0],
        json!({"cursor": last_cursor(&page(&app.service, "").await), "command": "Group.CallbackAfterCreateGroup",
               "group_id": "later", "group_name": "River walkers", "operator": "ana_77", "users": ["boris-2", "chen_li"],
               "user_count": 2, "event_time": "2026-01-01T00:00:00.345Z", "source": "callback", "outcome": "applied",
               "received_at": page(&app.service, "limit=500").await["items"][7]["received_at"]})
    );
    app.stop().await;
}

#[tokio::test]
async fn an_entry_that_is_applied_after_it_was_parked_comes_again() {
    let app = App::start().await;
    app.service.parked(r#"{"CallbackCommand":"Group.CallbackAfterCreateGroup"}"#).await;
    let first = page(&app.service, "").await;
    assert_eq!(first["items"][0]["outcome"], "parked");
    assert_eq!(first["items"][0]["group_id"], Value::Null);
    let mut conn = app.connect().await;
    conn.execute(
        "INSERT INTO ledger_moves (position, digest) SELECT position, digest FROM ledger;
         UPDATE ledger SET outcome = 'applied', reason = NULL, causes = NULL, position = DEFAULT",
    )
    .await
    .unwrap();
    let again = page(&app.service, &format!("since={}", last_cursor(&first))).await;
    assert_eq!(again["items"][0]["outcome"], "applied");
    app.stop().await;
}

/// A position is assigned before the commit, so a reader that went beyond it would never see it.
#[tokio::test]
async fn an_entry_whose_number_is_lower_and_whose_commit_comes_later_is_not_passed_over() {
    let app = App::start().await;
    app.service.taken(&create("before")).await;
    let start = last_cursor(&page(&app.service, "").await);
    let url = app.service.api_url("/v1/changes");
    let mut follower = Follower::start(&app.service.client, &url, Some(&start)).await;
    let mut slow = app.database.connect().await;
    slow.execute("BEGIN").await.unwrap();
    slow.execute(
        "INSERT INTO ledger (sdk_app_id, group_id, time_ms, digest, command, received_at, source, outcome, body)
         SELECT sdk_app_id, 'slow', time_ms, digest, command, received_at, source, outcome, body FROM ledger",
    )
    .await
    .unwrap();
    app.service.taken(&create("fast")).await;
    // While the slow transaction is open, no later entry is shown; this waits as long as a page waits for writers.
    assert_eq!(groups(&page(&app.service, &format!("since={start}")).await), [] as [&str; 0]);
    slow.execute("COMMIT").await.unwrap();
    assert_eq!(groups(&page(&app.service, &format!("since={start}")).await), ["slow", "fast"]);
    for group in ["slow", "fast"] {
        assert_eq!(follower.next().await.unwrap()["group_id"], group);
    }
    // A transaction that is rolled back leaves nothing and holds up nothing.
    slow.execute("BEGIN").await.unwrap();
    slow.execute("UPDATE ledger SET position = DEFAULT WHERE group_id = 'slow'").await.unwrap();
    slow.execute("ROLLBACK").await.unwrap();
    app.service.taken(&create("after")).await;
    assert_eq!(follower.next().await.unwrap()["group_id"], "after");
    app.stop().await;
}

#[tokio::test]
async fn a_cursor_of_another_ledger_is_answered_with_410_and_garbage_with_400() {
    let (one, other) = (App::start().await, App::start().await);
    one.service.taken(&create("g")).await;
    let foreign = last_cursor(&page(&one.service, "").await);
    let ask = async |query: &str, accept: &str| {
        let url = other.service.api_url(&format!("/v1/changes?{query}"));
        let answer = other.service.client.get(url).bearer_auth(API_TOKEN).header("accept", accept).send();
        let answer = answer.await.unwrap();
        (answer.status(), answer.json::<Value>().await.unwrap()["code"].as_str().unwrap().to_owned())
    };
    for accept in ["application/json", "text/event-stream"] {
        let got = ask(&format!("since={foreign}"), accept).await;
        assert_eq!(got, (StatusCode::GONE, "bad_cursor".into()));
        assert_eq!(ask("since=x", accept).await, (StatusCode::BAD_REQUEST, "bad_cursor".into()));
        let twice = ask(&format!("since={foreign}&cursor={foreign}"), accept).await;
        assert_eq!(twice, (StatusCode::BAD_REQUEST, "bad_parameter".into()));
        assert_eq!(ask("limit=0", accept).await, (StatusCode::BAD_REQUEST, "bad_parameter".into()));
    }
    one.stop().await;
    other.stop().await;
}

/// As after a copy of the database's files was restored: the same epoch, and fewer entries.
#[tokio::test]
async fn a_cursor_beyond_the_end_of_the_ledger_is_answered_with_410() {
    let app = App::start().await;
    for group in ["one", "two", "three"] {
        app.service.taken(&create(group)).await;
    }
    let beyond = last_cursor(&page(&app.service, "").await);
    let mut conn = app.connect().await;
    conn.execute("TRUNCATE ledger RESTART IDENTITY").await.unwrap();
    for accept in ["application/json", "text/event-stream"] {
        let url = app.service.api_url(&format!("/v1/changes?since={beyond}"));
        let ask = app.service.client.get(url).bearer_auth(API_TOKEN).header("accept", accept);
        assert_eq!(ask.send().await.unwrap().status(), StatusCode::GONE);
    }
    // The high watermark that the service knew before is no longer valid.
    let now = page(&app.service, "since=now").await;
    app.service.taken(&create("later")).await;
    let since = now["next_cursor"].as_str().unwrap();
    assert_eq!(groups(&page(&app.service, &format!("since={since}")).await), ["later"]);
    let url = app.service.api_url("/v1/changes");
    let mut follower = Follower::start(&app.service.client, &url, None).await;
    assert_eq!(follower.next().await.unwrap()["group_id"], "later");
    app.stop().await;
}

/// Rows that were copied into the table keep their positions and do not advance the sequence.
#[tokio::test]
async fn a_sequence_that_was_left_behind_loses_no_callback_and_is_moved_on() {
    let app = App::start().await;
    let mut conn = app.connect().await;
    conn.execute(
        "INSERT INTO ledger (position, sdk_app_id, group_id, time_ms, digest, command, received_at, source, outcome, body)
         SELECT n, 1400000001, 'copied', n, substr(sha256(n::text::bytea), 1, 16), 'c', now(), 'callback', 'applied', ''
           FROM generate_series(1, 1000) n",
    )
    .await
    .unwrap();
    app.service.taken(&create("next")).await;
    assert_eq!(app.service.read("/v1/groups/next").await["status"], "active");
    let moved = async || {
        let mut conn = app.database.connect().await;
        let last: i64 = sqlx::query_scalar("SELECT last_value FROM ledger_position_seq")
            .fetch_one(&mut conn)
            .await
            .unwrap();
        last >= 1000
    };
    assert!(crate::support::eventually(moved).await);
    let copied = page(&app.service, "since=now").await;
    app.service.taken(&create("later")).await;
    let since = copied["next_cursor"].as_str().unwrap();
    assert_eq!(groups(&page(&app.service, &format!("since={since}")).await), ["later"]);
    app.stop().await;
}

/// A browser reconnects with the last id it received, so a stream without entries has to send an id as well.
#[tokio::test]
async fn a_stream_without_news_tells_where_it_is() {
    let app = App::start().await;
    app.service.taken(&create("before")).await;
    let url = app.service.api_url("/v1/changes?since=now");
    let ask = app.service.client.get(url).bearer_auth(API_TOKEN).header("accept", "text/event-stream");
    let mut stream = ask.send().await.unwrap();
    let told = String::from_utf8(stream.chunk().await.unwrap().unwrap().to_vec()).unwrap();
    let id = told.lines().find_map(|line| line.strip_prefix("id: ")).unwrap();
    app.service.taken(&create("missed")).await;
    let url = app.service.api_url("/v1/changes?since=now");
    let mut resumed = Follower::start(&app.service.client, &url, Some(id)).await;
    assert_eq!(resumed.next().await.unwrap()["group_id"], "missed");
    app.stop().await;
}

/// 16 writers on two replicas, and a follower of each that is disconnected again and again and resumes at its last id.
#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_is_cut_again_and_again_sees_every_entry_exactly_once_under_parallel_writers() {
    const WRITERS: usize = 16;
    const EACH: usize = 40;
    let database = TestDatabase::create().await;
    let replica = async || Arc::new(Service::start(&settings(&database.url)).await.unwrap());
    let services = [replica().await, replica().await];
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let service = Arc::clone(&services[writer % 2]);
            tokio::spawn(async move {
                for number in 0..EACH {
                    service.taken(&create(&format!("w{writer}/{number}"))).await;
                }
            })
        })
        .collect();
    let followers: Vec<_> = services
        .iter()
        .enumerate()
        .map(|(seed, service)| {
            let service = Arc::clone(service);
            let mut chance = fastrand::Rng::with_seed(seed as u64);
            tokio::spawn(async move {
                let url = service.api_url("/v1/changes");
                let (mut seen, mut last): (BTreeMap<String, usize>, Option<String>) = (BTreeMap::new(), None);
                let mut order = Vec::new();
                while seen.len() < WRITERS * EACH {
                    let mut follower = Follower::start(&service.client, &url, last.as_deref()).await;
                    for _ in 0..chance.usize(0..60) {
                        if seen.len() == WRITERS * EACH {
                            break;
                        }
                        let event = follower.next().await.unwrap();
                        let group = event["group_id"].as_str().unwrap().to_owned();
                        *seen.entry(group.clone()).or_default() += 1;
                        order.push(group);
                    }
                    last = follower.last_id;
                }
                assert!(seen.values().all(|times| *times == 1), "{seen:?}");
                order
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let mut orders = Vec::new();
    for follower in followers {
        orders.push(tokio::time::timeout(PATIENCE, follower).await.unwrap().unwrap());
    }
    assert_eq!(orders[0], orders[1], "both replicas tell one order");
    for service in services {
        Arc::into_inner(service).unwrap().stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_idle_followers_hear_of_one_entry_and_let_the_service_stop() {
    let app = App::start().await;
    let url = app.service.api_url("/v1/changes?since=now");
    let mut followers = Vec::new();
    for _ in 0..300 {
        followers.push(Follower::start(&app.service.client, &url, None).await);
    }
    app.service.taken(&create("news")).await;
    for follower in &mut followers {
        assert_eq!(follower.next().await.unwrap()["group_id"], "news");
    }
    app.stop().await;
    for follower in &mut followers {
        assert_eq!(follower.next().await, None);
    }
}

/// Enough bytes to fill every buffer between client and server.
const MANY: &str = "
INSERT INTO ledger (sdk_app_id, group_id, time_ms, digest, command, received_at, source, outcome, body)
SELECT 1400000001, repeat('x', 500) || n, n, substr(sha256(n::text::bytea), 1, 16), 'Group.CallbackAfterCreateGroup', now(), 'callback',
       'applied', '' FROM generate_series(1, 20000) n";

#[tokio::test]
async fn a_follower_that_takes_nothing_is_cut_and_does_not_hold_up_another() {
    let app = App::start().await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stuck = socket.connect(app.service.running.api_addr).await.unwrap();
    let ask = format!(
        "GET /v1/changes HTTP/1.1\r\nHost: mirror\r\nAuthorization: Bearer {API_TOKEN}\r\nAccept: text/event-stream\r\n\r\n"
    );
    stuck.write_all(ask.as_bytes()).await.unwrap();
    app.database.connect().await.execute(MANY).await.unwrap();
    let url = app.service.api_url("/v1/changes");
    let mut follower = Follower::start(&app.service.client, &url, None).await;
    for number in 1..=20_000 {
        let event = follower.next().await.unwrap();
        assert!(event["group_id"].as_str().unwrap().ends_with(&format!("x{number}")));
    }
    // A connection that the server closed cannot be written to.
    let cut = async || stuck.try_write(b"\r\n").is_err();
    assert!(crate::support::eventually(cut).await);
    app.stop().await;
}
