//! The first delivery: at once, as Tencent sent it, whether PostgreSQL is there or not.

use std::time::Duration;

use group_mirror::callback::{request_time, without_signature};
use serde_json::json;

use crate::support::chaos::{Mood, Proxy};
use crate::support::postgres::TestDatabase;
use crate::support::recording_backend::{Backend, Manner};
use crate::support::{App, Service, eventually, settings, signed_query};

/// A change of a group's name, as a body.
pub(crate) fn change(group: &str, name: &str, time: i64) -> serde_json::Value {
    json!({"CallbackCommand": "Group.CallbackAfterGroupInfoChanged", "GroupId": group, "Type": "Public",
           "Operator_Account": "ana", "Name": name, "EventTime": 1_767_225_600_000_i64 + time})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_is_delivered_at_once_byte_for_byte_and_leaves_the_outbox() {
    let backend = Backend::start();
    let app = App::start_with(|settings| settings.relay_url = Some(backend.url())).await;
    let body = b"{ \"CallbackCommand\" :\"Group.CallbackAfterGroupInfoChanged\",\"Type\":\"Public\",\"GroupId\":\"g\",\
        \"Name\":\"\\u0000n\",\"Name\":\"n\",\"EventTime\":1767225600345,\"Big\":123456789012345678901234567890}";
    let query = format!("{}&contenttype=json&a=%41+b&&=?/&b=%e4", signed_query());
    let url = format!("http://{}/callback?{query}", app.service.running.callback_addr);
    let content_type = reqwest::header::HeaderValue::from_bytes(b"text/x; charset=\"\xe4\"").unwrap();
    let sent = app.service.client.post(&url).header("Content-Type", content_type).body(body.to_vec()).send();
    assert_eq!(sent.await.unwrap().status(), 200);
    assert!(eventually(async || backend.taken_count() == 1).await);
    let recorded = &backend.all()[0];
    assert_eq!(recorded.target, format!("/im/callback?{query}"), "signature and all");
    assert_eq!(recorded.body, body);
    assert_eq!(recorded.header("content-type"), Some("text/x; charset=\"ä\""));
    assert_eq!(recorded.header("x-group-mirror-delivery"), None);
    // Absent where it was absent.
    let sent = app.service.client.post(&url).body(change("g", "m", 1).to_string()).send();
    assert_eq!(sent.await.unwrap().status(), 200);
    assert!(eventually(async || backend.taken_count() == 2).await);
    assert_eq!(backend.all()[1].header("content-type"), None);
    let mut conn = app.connect().await;
    let kept: (String, String) =
        sqlx::query_as("SELECT query, content_type FROM ledger ORDER BY position LIMIT 1")
            .fetch_one(&mut conn)
            .await
            .unwrap();
    assert_eq!(kept, (without_signature(&query), "text/x; charset=\"ä\"".to_owned()));
    assert!(request_time(&query).is_some() && request_time(&kept.0).is_none());
    let is_empty = async || {
        let waiting: i64 = sqlx::query_scalar("SELECT count(*) FROM relay_outbox")
            .fetch_one(&mut app.database.connect().await)
            .await
            .unwrap();
        waiting == 0
    };
    assert!(eventually(is_empty).await);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_without_a_relay_keeps_no_query_and_queues_nothing() {
    let app = App::start().await;
    app.service.taken(&change("g", "n", 0)).await;
    let mut conn = app.connect().await;
    let rows: (i64, i64, i64) = sqlx::query_as(
        "SELECT count(*), count(query) + count(content_type), (SELECT count(*) FROM relay_outbox) FROM ledger",
    )
    .fetch_one(&mut conn)
    .await
    .unwrap();
    assert_eq!(rows, (1, 0, 0));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_postgresql_is_away_callbacks_are_delivered_from_memory_and_not_once_more_when_it_is_back() {
    let (backend, database) = (Backend::start(), TestDatabase::create().await);
    let proxy = Proxy::start(&database.url).await;
    let mut settings = settings(&proxy.url);
    settings.relay_url = Some(backend.url());
    let service = Service::start(&settings).await.unwrap();
    service.taken(&change("g", "0", 0)).await;
    assert!(eventually(async || backend.taken_count() == 1).await);
    proxy.set(Mood::Gone);
    for number in 1..30 {
        service.taken(&change("g", &number.to_string(), number)).await;
    }
    assert!(eventually(async || backend.taken_count() == 30).await);
    assert!(backend.all().iter().all(|recorded| recorded.header("x-group-mirror-delivery").is_none()));
    proxy.set(Mood::Fair);
    service.until(|told| told["spool"]["depth"] == 0).await;
    // What is delivered after it shows that nothing of it was left to deliver.
    service.taken(&change("g", "last", 30)).await;
    assert!(eventually(async || backend.taken()["g"].last().unwrap() == "last").await);
    let wanted: Vec<String> = (0..30).map(|number| number.to_string()).chain(["last".to_owned()]).collect();
    assert_eq!(backend.taken()["g"], wanted);
    service.stop().await;
    let waiting: i64 = sqlx::query_scalar("SELECT count(*) FROM relay_outbox")
        .fetch_one(&mut database.connect().await)
        .await
        .unwrap();
    assert_eq!(waiting, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_backend_gets_groups_beside_each_other_and_each_group_in_order() {
    let backend = Backend::start();
    let app = App::start_with(|settings| settings.relay_url = Some(backend.url())).await;
    backend.set(Manner::Slow(Duration::from_millis(100)));
    for number in 0..5 {
        for group in ["a", "b", "c"] {
            app.service.taken(&change(group, &number.to_string(), number)).await;
        }
    }
    assert!(eventually(async || backend.taken_count() == 15).await);
    for group in ["a", "b", "c"] {
        assert_eq!(backend.taken()[group], ["0", "1", "2", "3", "4"], "{group}");
    }
    assert_eq!(backend.overlaps(), Vec::<String>::new(), "one in flight a group");
    app.stop().await;
}
