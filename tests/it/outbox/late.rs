//! Later deliveries: from the ledger, signed anew, in order per group, until the backend has them or they are given up.

use group_mirror::callback::signature::Token;
use group_mirror::callback::{request_time, without_signature};
use serde_json::{Value, json};
use sqlx::Row as _;

use crate::outbox::first::change;
use crate::support::postgres::TestDatabase;
use crate::support::recording_backend::{Backend, Manner, Recorded};
use crate::support::{App, Service, TOKEN, eventually, settings, signed_query};

async fn start(backend: &Backend) -> App {
    App::start_with(|settings| settings.relay_url = Some(backend.url())).await
}

pub(crate) async fn waiting(database: &TestDatabase) -> i64 {
    let count = sqlx::query_scalar("SELECT count(*) FROM relay_outbox");
    count.fetch_one(&mut database.connect().await).await.unwrap()
}

pub(crate) async fn nothing_waits(database: &TestDatabase) -> bool {
    eventually(async || waiting(database).await == 0).await
}

/// True when the first delivery of a group has failed, so that later ones follow.
async fn has_failed(database: &TestDatabase, group: &str) -> bool {
    let failed = "SELECT count(*) > 0 FROM relay_outbox WHERE group_id = $1 AND attempts > 0";
    let failed = sqlx::query_scalar(failed).bind(group);
    failed.fetch_one(&mut database.connect().await).await.unwrap()
}

/// The numbers of a group that were taken, repeats left out.
pub(crate) fn first_of_each(names: &[String]) -> Vec<u64> {
    let mut seen = Vec::new();
    for number in names.iter().map(|name| name.parse().unwrap()) {
        if !seen.contains(&number) {
            seen.push(number);
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_backend_did_not_take_comes_later_in_order_with_the_same_bytes_and_a_new_signature() {
    let backend = Backend::start();
    let app = start(&backend).await;
    let odd: Vec<Vec<u8>> = vec![
        b"{\"CallbackCommand\":\"Group.CallbackAfterCreateGroup\",\"GroupId\":\"odd\",\"Owner_Account\":\"\xff\xfe\0\",".to_vec(),
        b"\0\x01\x02 no json \xff".to_vec(),
        b"{ \"CallbackCommand\" : \"Group.CallbackAfterMemberExit\", \"Big\": 1e400, \"Big\": 2 }".to_vec(),
    ];
    for manner in [
        Manner::Away,
        Manner::Resets,
        Manner::Garbage,
        Manner::Answers(500, "{}"),
        Manner::Answers(503, ""),
        Manner::Answers(429, "{}"),
        Manner::Answers(408, "{}"),
        Manner::Answers(200, "<html>"),
    ] {
        backend.set(manner.clone());
        let begin = backend.all().len();
        let mut wanted = Vec::new();
        for (number, body) in odd.iter().enumerate() {
            let command = "Group.CallbackAfterMemberExit";
            let query = format!(
                "&CallbackCommand={command}&contenttype=json&odd=%e4+{number}&manner={}",
                wanted.len()
            );
            let url = format!("http://{}/?{}{query}", app.service.running.callback_addr, signed_query());
            let sent = app.service.client.post(&url).header("Content-Type", "x/y; z").body(body.clone());
            assert_eq!(sent.send().await.unwrap().status(), 200);
            wanted.push((query, body.clone()));
        }
        for number in 0..10 {
            app.service
                .taken(&change("g", &number.to_string(), number + i64::try_from(begin).unwrap()))
                .await;
        }
        assert!(eventually(async || waiting(&app.database).await == 13).await, "{manner:?}");
        assert!(eventually(async || has_failed(&app.database, "g").await).await, "{manner:?}");
        backend.set(Manner::Works);
        assert!(nothing_waits(&app.database).await, "{manner:?}");
        let taken: Vec<Recorded> =
            backend.all()[begin..].iter().filter(|recorded| recorded.taken).cloned().collect();
        assert_eq!(taken.len(), 13, "{manner:?}: each once");
        for (query, body) in wanted {
            let found: Vec<_> = taken.iter().filter(|recorded| recorded.body == body).collect();
            let [found] = found[..] else { panic!("{manner:?}: {} times", found.len()) };
            assert_eq!(found.header("content-type"), Some("x/y; z"));
            let (_, sent_query) = found.target.split_once('?').unwrap();
            assert!(without_signature(sent_query).ends_with(&query), "{sent_query}");
            if found.is_late() {
                let time = request_time(sent_query).unwrap();
                let sign = Token::new(TOKEN.into()).sign(&time.to_string());
                assert!(
                    sent_query.ends_with(&format!("{query}&Sign={sign}&RequestTime={time}")),
                    "{sent_query}"
                );
                let original = found.header("x-group-mirror-original-request-time").unwrap();
                assert!(original.parse::<i64>().unwrap() <= time);
            }
        }
        let names = taken.iter().filter_map(Recorded::said).filter(|(group, _)| group == "g");
        let names: Vec<String> = names.map(|(_, name)| name).collect();
        assert_eq!(names, (0..10).map(|number| number.to_string()).collect::<Vec<_>>(), "{manner:?}");
    }
    assert!(backend.all().iter().filter(|recorded| recorded.taken && recorded.is_late()).count() >= 8);
    assert_eq!(backend.overlaps(), Vec::<String>::new());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_group_holds_its_own_callbacks_and_no_other_nor_does_one_without_a_group() {
    let backend = Backend::start();
    let app = start(&backend).await;
    backend.set(Manner::OfGroup("bad".into(), 500, "{}"));
    for number in 0..20 {
        app.service.taken(&change("bad", &number.to_string(), number)).await;
        app.service.taken(&change("good", &number.to_string(), number)).await;
        let parked = format!("{{\"CallbackCommand\":\"Group.CallbackAfterMemberExit\",\"Nr\":{number}}}");
        app.service.parked(&parked).await;
    }
    assert!(eventually(async || backend.taken_count() == 40).await, "all but those of one group");
    assert_eq!(backend.taken().keys().collect::<Vec<_>>(), ["good"]);
    let tried: Vec<_> =
        backend.all().iter().filter_map(Recorded::said).filter(|(group, _)| group == "bad").collect();
    assert!(tried.iter().all(|(_, name)| name == "0"), "no callback is tried before the one in front of it");
    backend.set(Manner::Works);
    assert!(eventually(async || backend.taken_count() == 60).await);
    for group in ["bad", "good"] {
        assert_eq!(first_of_each(&backend.taken()[group]), (0..20).collect::<Vec<_>>());
    }
    // Entries without a group: one that is refused each time holds up none of the others.
    assert!(nothing_waits(&app.database).await);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_backend_refuses_is_tried_once_more_then_skipped_and_sent_again_by_hand() {
    let backend = Backend::start();
    let app = start(&backend).await;
    backend.set(Manner::OfGroup("g".into(), 404, "{}"));
    app.service.taken(&change("g", "0", 0)).await;
    let skipped = async || {
        let row = sqlx::query("SELECT attempts, failure FROM relay_skipped");
        let row = row.fetch_optional(&mut app.database.connect().await).await.unwrap();
        row.is_some_and(|row| (row.get::<i32, _>(0), row.get::<String, _>(1)) == (2, "http_404".to_owned()))
    };
    assert!(eventually(skipped).await);
    assert_eq!(waiting(&app.database).await, 0);
    assert_eq!(backend.all().len(), 2, "once more, and not again");
    backend.set(Manner::Works);
    app.service.taken(&change("g", "1", 1)).await;
    assert!(eventually(async || backend.taken_count() == 1).await, "the next one is not held up");
    let told = async || app.service.read("/v1/stats").await["relay"].clone();
    let nothing = json!({"rows": 0, "age": 0, "oldest_at": null, "outage": null});
    assert!(eventually(async || told().await == nothing).await, "{}", told().await);
    let place = crate::support::process::Place::new();
    let relay = |args: &[&str]| place.command_on(&app.database.url, &[&["relay"], args].concat());
    let status = crate::support::process::run(relay(&["--status"])).await;
    assert_eq!(
        status.stdout,
        "app 1400000001: nothing waits; given up: http_404: 1; it has no RELAY_URL now\n"
    );
    let args =
        ["--again", "--group", "g", "--from", "2020-01-01T00:00:00Z", "--to", "2100-01-01T00:00:00+01:00"];
    let again = crate::support::process::run(relay(&args)).await;
    assert!(again.stdout.starts_with("2 callbacks are queued"), "{again:?}");
    assert!(eventually(async || backend.taken_count() == 3).await);
    let taken: Vec<_> = backend.all().into_iter().filter(|recorded| recorded.taken).collect();
    for (recorded, name) in taken[1..].iter().zip(["0", "1"]) {
        assert_eq!(recorded.said().unwrap().1, name);
        assert_eq!(recorded.header("x-group-mirror-delivery"), Some("again; attempt=1"));
    }
    let status = crate::support::process::run(relay(&["--status"])).await;
    assert_eq!(status.stdout, "no app has a RELAY_URL, and nothing waits\n");
    for (args, told) in [
        (vec!["--again", "--group", "g", "--from", "x", "--to", "y"], "--from is \"x\""),
        (
            vec!["--again", "--group", "", "--from", args[4], "--to", args[6]],
            "--group: the group id is empty",
        ),
        (vec!["--again", "--group", "g", "--from", args[4], "--to", args[4]], "--to is not later"),
    ] {
        let line = crate::support::process::refused(relay(&args)).await;
        assert!(line.starts_with(told), "{line}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_mirror_that_notices_a_loop_gets_a_callback_twice_and_not_for_a_day() {
    let backend = Backend::start();
    let app = start(&backend).await;
    backend.set(Manner::Answers(508, r#"{"ActionStatus":"FAIL","ErrorInfo":"","ErrorCode":1}"#));
    for group in 0..5 {
        app.service.taken(&change(&group.to_string(), "0", 0)).await;
    }
    let skipped = async || {
        let rows = sqlx::query_as("SELECT attempts, failure FROM relay_skipped");
        let rows: Vec<(i32, String)> = rows.fetch_all(&mut app.database.connect().await).await.unwrap();
        rows == vec![(2, "loop".to_owned()); 5]
    };
    assert!(eventually(skipped).await);
    assert_eq!(waiting(&app.database).await, 0);
    assert_eq!(backend.all().len(), 10);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_verdict_reaches_the_backend_once_though_it_is_stored() {
    let backend = Backend::start();
    let app = start(&backend).await;
    let unknown = |name: &str| {
        json!({"CallbackCommand": "Group.CallbackAfterUnheardOf", "GroupId": "g", "Name": name}).to_string()
    };
    let ask = async |name: &str| {
        app.service.post("Group.CallbackAfterUnheardOf", unknown(name)).await.status().as_u16()
    };
    assert_eq!(ask("answered").await, 200);
    backend.set(Manner::Away);
    assert_eq!(ask("without an answer").await, 503);
    let stored = async || {
        let count = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM ledger WHERE outcome = 'parked'");
        count.fetch_one(&mut app.database.connect().await).await.unwrap()
    };
    assert!(eventually(async || stored().await == 2).await);
    backend.set(Manner::Works);
    app.service.taken(&change("g", "after", 1)).await;
    assert!(nothing_waits(&app.database).await);
    assert_eq!(backend.taken()["g"], ["answered", "after"]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_with_another_code_is_a_delivery_and_a_repeat_is_not_passed_on() {
    let backend = Backend::start();
    let app = start(&backend).await;
    backend.set(Manner::Answers(200, r#"{"ActionStatus":"FAIL","ErrorCode":7,"ErrorInfo":""}"#));
    for _ in 0..3 {
        app.service.taken(&change("g", "0", 0)).await;
    }
    app.service.taken(&change("g", "1", 1)).await;
    assert!(nothing_waits(&app.database).await);
    let names: Vec<_> = backend.all().iter().filter_map(Recorded::said).map(|(_, name)| name).collect();
    assert_eq!(names, ["0", "1"]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_outlives_a_time_without_a_relay_and_what_comes_in_that_time_is_not_relayed() {
    let (backend, database) = (Backend::start(), TestDatabase::create().await);
    backend.set(Manner::Away);
    let mut with = settings(&database.url);
    with.relay_url = Some(backend.url());
    let service = Service::start(&with).await.unwrap();
    service.taken(&change("g", "0", 0)).await;
    service.stop().await;
    assert_eq!(waiting(&database).await, 1);
    let service = Service::start(&settings(&database.url)).await.unwrap();
    service.taken(&change("g", "1", 1)).await;
    assert_eq!(service.read("/v1/stats").await["relay"], Value::Null);
    service.stop().await;
    backend.set(Manner::Works);
    let service = Service::start(&with).await.unwrap();
    service.taken(&change("g", "2", 2)).await;
    assert!(nothing_waits(&database).await);
    assert_eq!(backend.taken()["g"], ["0", "2"]);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_shows_in_metrics_and_stats_and_an_outage_has_one_line_at_each_end() {
    let (backend, database) = (Backend::start(), TestDatabase::create().await);
    let place = crate::support::process::Place::new();
    let mut command = place.command_on(&database.url, &["serve"]);
    command.env("RELAY_URL", backend.url());
    let mut service = crate::support::process::Process::start(command).ready().await;
    backend.set(Manner::Away);
    for number in 0..10 {
        let body = change(&format!("g{}", number % 5), &number.to_string(), number).to_string();
        assert_eq!(service.post(&signed_query(), body).await.status(), 200);
    }
    let token = crate::support::API_TOKEN;
    let shown = async || {
        let metrics = service.get_as(token, "/metrics").await.text().await.unwrap();
        let stats: Value = service.get_as(token, "/v1/stats").await.json().await.unwrap();
        metrics.contains("group_mirror_relay_backlog_rows{app=\"1400000001\"} 10")
            && !metrics.contains("group_mirror_relay_backlog_age_seconds{app=\"1400000001\"} 0\n")
            && metrics.contains("group_mirror_relay_skipped_total{app=\"1400000001\"} 0")
            && stats["relay"]["rows"] == 10
            && stats["relay"]["age"].as_u64() > Some(0)
            && stats["relay"]["outage"].is_u64()
    };
    assert!(eventually(shown).await);
    backend.set(Manner::Works);
    service.says("takes after-callbacks again").await;
    assert!(nothing_waits(&database).await);
    let log = service.log();
    assert_eq!(log.matches("takes no after-callbacks").count(), 1, "{log}");
    assert_eq!(log.matches("takes after-callbacks again").count(), 1, "{log}");
    assert!(!log.contains("Sign="), "{log}");
    service.ends_well_on("TERM").await;
}
