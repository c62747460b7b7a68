//! A transaction of another program that has written to the ledger and stays open: it holds the feed back, and makes
//! nothing fail, before a restart of the service and after it.

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use sqlx::{Executor as _, PgConnection};

use crate::support::follow::Follower;
use crate::support::postgres::TestDatabase;
use crate::support::process::{Place, Process};
use crate::support::{API_TOKEN, App, Service, eventually, sample, settings};

pub(crate) fn create(group: &str) -> Value {
    let mut body = sample("Group.CallbackAfterCreateGroup");
    body["GroupId"] = json!(group);
    body
}

fn groups(page: &Value) -> Vec<&str> {
    page["items"].as_array().unwrap().iter().map(|item| item["group_id"].as_str().unwrap_or("-")).collect()
}

/// A row of another program in a transaction that stays open.
const FOREIGN: &str = "
BEGIN;
INSERT INTO ledger (sdk_app_id, group_id, time_ms, digest, command, received_at, source, outcome, body)
VALUES (1400000001, 'foreign', 1, substr(sha256('foreign'), 1, 16), 'c', now(), 'callback', 'applied', '')";

/// The last position of the ledger, and the one that is noted.
async fn noted(conn: &mut PgConnection) -> (i64, i64) {
    let query = "SELECT COALESCE(max(position), 0), (SELECT high_watermark FROM feed) FROM ledger";
    sqlx::query_as(query).fetch_one(conn).await.unwrap()
}

async fn page(service: &Service, query: &str) -> Value {
    let url = service.api_url(&format!("/v1/changes?{query}"));
    let answer = service.client.get(url).bearer_auth(API_TOKEN).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK, "{query}");
    answer.json().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_pages_and_streams_end_where_the_feed_was_complete_and_then_nothing_is_missing() {
    for end in ["COMMIT", "ROLLBACK"] {
        let app = App::start().await;
        app.service.taken(&create("before")).await;
        let (kept, mut foreign) = (page(&app.service, "").await, app.connect().await);
        // The note of a stop has a second, which a busy machine may not give it; that of a running service comes.
        let is_noted = async || {
            let (last, noted) = noted(&mut app.connect().await).await;
            last > 0 && last == noted
        };
        assert!(eventually(is_noted).await);
        foreign.execute(FOREIGN).await.unwrap();
        app.service.taken(&create("during")).await;
        let App { service, database } = app;
        service.stop().await;
        let service = Service::start(&settings(&database.url)).await.unwrap();
        let complete = json!({"items": kept["items"], "next_cursor": kept["next_cursor"], "more": false});
        let nothing = json!({"items": [], "next_cursor": kept["next_cursor"], "more": false});
        // Each of many at once, as after a restart.
        let pages: Vec<_> = (0..30).map(|_| page(&service, "")).collect();
        let mut set = Vec::new();
        for asked in pages {
            set.push(asked.await);
        }
        assert!(set.iter().all(|page| *page == complete), "{set:?}");
        assert_eq!(page(&service, "since=now").await, nothing);
        let last = kept["next_cursor"].as_str().unwrap();
        assert_eq!(page(&service, &format!("since={last}")).await, nothing);
        let url = service.api_url("/v1/changes");
        let mut from_start = Follower::start(&service.client, &url, None).await;
        assert_eq!(from_start.next().await.unwrap()["group_id"], "before");
        let mut from_now = Follower::start(&service.client, &format!("{url}?since=now"), None).await;
        assert_eq!(from_now.event().await, Some(None));
        assert_eq!(from_now.last_id.as_deref(), Some(last));
        service.taken(&create("after")).await;
        foreign.execute(end).await.unwrap();
        let mut wanted = vec!["foreign", "during", "after"];
        wanted.retain(|group| end == "COMMIT" || *group != "foreign");
        for follower in [&mut from_start, &mut from_now] {
            for group in &wanted {
                assert_eq!(follower.next().await.unwrap()["group_id"], *group, "{end}");
            }
        }
        assert_eq!(groups(&page(&service, &format!("since={last}")).await), wanted, "{end}");
        service.stop().await;
    }
}

/// The note is in the database, so that a kill of the service takes nothing of it and another replica has it too.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_complete_is_known_after_a_kill_and_to_another_replica() {
    let (database, place, client) = (TestDatabase::create().await, Place::new(), Client::new());
    let service = Process::start(place.command_on(&database.url, &["serve"])).ready().await;
    let body = create("before").to_string();
    let query = format!("{}&CallbackCommand=Group.CallbackAfterCreateGroup", crate::support::signed_query());
    assert_eq!(service.post(&query, body).await.status(), StatusCode::OK);
    // Noted without a reader: the feed was never asked for.
    let is_noted = async || {
        let (last, noted) = noted(&mut database.connect().await).await;
        last > 0 && last == noted
    };
    assert!(eventually(is_noted).await);
    let mut foreign = database.connect().await;
    foreign.execute(FOREIGN).await.unwrap();
    service.signal("KILL");
    drop(service);
    let place = Place::new();
    let service = Process::start(place.command_on(&database.url, &["serve"])).ready().await;
    let url = format!("http://{}/v1/changes", service.api_address());
    let answer = client.get(&url).bearer_auth(API_TOKEN).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let page: Value = answer.json().await.unwrap();
    assert_eq!((groups(&page), &page["more"]), (vec!["before"], &json!(false)));
    let lag = async || {
        let text = service.get_as(API_TOKEN, "/metrics").await.text().await.unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("group_mirror_feed_lag_seconds "));
        line.map_or(0.0, |value| value.parse::<f64>().unwrap())
    };
    assert!(eventually(async || lag().await > 0.0).await, "the lag shows");
    foreign.execute("COMMIT").await.unwrap();
    assert!(eventually(async || lag().await == 0.0).await, "the lag has ended");
    let next = page["next_cursor"].as_str().unwrap();
    let answer = client.get(format!("{url}?since={next}")).bearer_auth(API_TOKEN).send().await.unwrap();
    assert_eq!(groups(&answer.json::<Value>().await.unwrap()), ["foreign"]);
    service.ends_well_on("TERM").await;
}

/// A note that lies beyond the end of a ledger which has become shorter, or is another one, must not be believed.
#[tokio::test]
async fn a_note_of_another_ledger_counts_for_nothing_and_is_replaced() {
    let app = App::start().await;
    for group in ["a", "b", "c"] {
        app.service.taken(&create(group)).await;
    }
    let is_noted =
        async |position: i64| noted(&mut app.database.connect().await).await == (position, position);
    assert!(eventually(async || is_noted(3).await).await);
    let mut conn = app.connect().await;
    conn.execute("TRUNCATE ledger, ledger_moves RESTART IDENTITY").await.unwrap();
    let mut foreign = app.database.connect().await;
    foreign.execute(FOREIGN).await.unwrap();
    app.service.taken(&create("held")).await;
    let held = page(&app.service, "").await;
    assert_eq!((groups(&held), &held["more"]), (vec![], &json!(false)));
    foreign.execute("COMMIT").await.unwrap();
    assert_eq!(groups(&page(&app.service, "").await), ["foreign", "held"]);
    assert!(eventually(async || is_noted(2).await).await);
    app.stop().await;
}
