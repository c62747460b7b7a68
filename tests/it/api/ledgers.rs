//! The feed when the ledger under it changes: it becomes shorter, grows again, is another one, its entries move; and on
//! a server that withholds functions.

use std::str::FromStr as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::StatusCode;
use serde_json::{Value, json};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _};

use crate::support::follow::Follower;
use crate::support::postgres::TestDatabase;
use crate::support::{API_TOKEN, App, PATIENCE, Service, sample, settings};

fn create(group: &str) -> Value {
    let mut body = sample("Group.CallbackAfterCreateGroup");
    body["GroupId"] = json!(group);
    body
}

fn cursor_of(page: &Value, at: usize) -> String {
    page["items"][at]["cursor"].as_str().unwrap().to_owned()
}

fn groups(page: &Value) -> Vec<&str> {
    page["items"].as_array().unwrap().iter().map(|item| item["group_id"].as_str().unwrap_or("-")).collect()
}

/// Status and code of an answer of the feed.
async fn answered(service: &Service, cursor: &str, accept: &str) -> (StatusCode, Value) {
    let url = service.api_url(&format!("/v1/changes?since={cursor}"));
    let ask = service.client.get(url).bearer_auth(API_TOKEN).header("accept", accept);
    let answer = ask.send().await.unwrap();
    let status = answer.status();
    if status == StatusCode::OK {
        return (status, Value::Null);
    }
    (status, answer.json::<Value>().await.unwrap()["code"].clone())
}

async fn fill(service: &Service, name: &str, count: usize) {
    for number in 0..count {
        service.taken(&create(&format!("{name}{number}"))).await;
    }
}

/// As after files that were put back from a copy, or a standby that lacked the end and took over.
const SHORTER: &str = "DELETE FROM ledger WHERE position > 2; SELECT setval('ledger_position_seq', 2)";

/// A stream that only went on would stay silent until the new ledger has the old one's length, and lose what came between.
#[tokio::test]
async fn a_follower_that_is_connected_when_the_ledger_becomes_shorter_is_closed_and_then_answered_with_410() {
    for change in [SHORTER, "TRUNCATE ledger RESTART IDENTITY", "UPDATE feed SET epoch = DEFAULT"] {
        let app = App::start().await;
        fill(&app.service, "g", 5).await;
        let url = app.service.api_url("/v1/changes");
        let mut follower = Follower::start(&app.service.client, &url, None).await;
        for number in 0..5 {
            assert_eq!(follower.next().await.unwrap()["group_id"], format!("g{number}"));
        }
        app.connect().await.execute(change).await.unwrap();
        let end = tokio::time::timeout(PATIENCE, follower.next()).await;
        assert_eq!(end.unwrap(), None, "{change}");
        let last = follower.last_id.unwrap();
        for accept in ["application/json", "text/event-stream"] {
            let gone = (StatusCode::GONE, json!("bad_cursor"));
            assert_eq!(answered(&app.service, &last, accept).await, gone, "{change}");
        }
        app.stop().await;
    }
}

#[tokio::test]
async fn a_follower_behind_the_point_from_which_the_ledger_was_lost_goes_on_with_what_came_instead() {
    let app = App::start().await;
    fill(&app.service, "g", 5).await;
    let kept = cursor_of(&app.service.read("/v1/changes").await, 1);
    app.connect().await.execute(SHORTER).await.unwrap();
    fill(&app.service, "h", 2).await;
    assert_eq!(groups(&app.service.read(&format!("/v1/changes?since={kept}")).await), ["h0", "h1"]);
    let url = app.service.api_url("/v1/changes");
    let mut follower = Follower::start(&app.service.client, &url, Some(&kept)).await;
    for group in ["h0", "h1"] {
        assert_eq!(follower.next().await.unwrap()["group_id"], group);
    }
    app.stop().await;
}

#[tokio::test]
async fn a_cursor_into_what_was_lost_is_answered_with_410_after_the_ledger_has_grown_past_it() {
    let app = App::start().await;
    fill(&app.service, "g", 5).await;
    let all = app.service.read("/v1/changes").await;
    app.connect().await.execute(SHORTER).await.unwrap();
    fill(&app.service, "h", 9).await;
    for accept in ["application/json", "text/event-stream"] {
        for at in 0..5 {
            let wanted = if at < 2 { StatusCode::OK } else { StatusCode::GONE };
            assert_eq!(answered(&app.service, &cursor_of(&all, at), accept).await.0, wanted, "{at}");
        }
    }
    app.stop().await;
}

/// A crash of the server gives numbers out again that no commit has made durable.
#[tokio::test]
async fn now_and_the_end_of_a_page_name_no_number_that_can_be_given_out_again() {
    let app = App::start().await;
    fill(&app.service, "g", 2).await;
    let mut conn = app.connect().await;
    let copy = "BEGIN; INSERT INTO ledger (sdk_app_id, group_id, time_ms, digest, command, received_at, source, outcome, body)
                SELECT sdk_app_id, 'never', time_ms, digest, command, received_at, source, outcome, body FROM ledger;
                ROLLBACK";
    conn.execute(copy).await.unwrap();
    let now = app.service.read("/v1/changes?since=now").await["next_cursor"].as_str().unwrap().to_owned();
    let url = app.service.api_url("/v1/changes?since=now");
    let mut follower = Follower::start(&app.service.client, &url, None).await;
    conn.execute("SELECT setval('ledger_position_seq', 2)").await.unwrap();
    fill(&app.service, "h", 2).await;
    assert_eq!(groups(&app.service.read(&format!("/v1/changes?since={now}")).await), ["h0", "h1"]);
    for group in ["h0", "h1"] {
        assert_eq!(follower.next().await.unwrap()["group_id"], group);
    }
    app.stop().await;
}

/// Copied rows bring their numbers, and may bring one that is taken.
#[tokio::test]
async fn entries_that_share_a_position_are_on_one_page_and_in_one_stream() {
    let app = App::start().await;
    let insert = "INSERT INTO ledger (position, sdk_app_id, group_id, time_ms, digest, command, received_at, source, outcome, body)
                  SELECT p, 1400000001, 'g' || n, n, substr(sha256(n::text::bytea), 1, 16), 'c', now(), 'callback', 'applied', ''
                    FROM unnest(ARRAY[1, 2, 2, 2, 3, 4, 4]) WITH ORDINALITY AS o (p, n);
                  SELECT setval('ledger_position_seq', 4)";
    app.connect().await.execute(insert).await.unwrap();
    for limit in 1..=7 {
        let (mut seen, mut since) = (Vec::new(), String::new());
        loop {
            let page = app.service.read(&format!("/v1/changes?limit={limit}{since}")).await;
            seen.extend(groups(&page).into_iter().map(str::to_owned));
            since = format!("&since={}", page["next_cursor"].as_str().unwrap());
            if page["more"] == false {
                break;
            }
        }
        seen.sort();
        assert_eq!(seen, ["g1", "g2", "g3", "g4", "g5", "g6", "g7"], "limit={limit}");
    }
    let url = app.service.api_url("/v1/changes");
    let mut follower = Follower::start(&app.service.client, &url, None).await;
    let mut seen = Vec::new();
    for _ in 0..7 {
        seen.push(follower.next().await.unwrap()["group_id"].as_str().unwrap().to_owned());
    }
    seen.sort();
    assert_eq!(seen, ["g1", "g2", "g3", "g4", "g5", "g6", "g7"]);
    app.stop().await;
}

/// A page of one app looks through a part of the ledger only, and there may be nothing at all in that part.
#[tokio::test]
async fn a_long_run_of_numbers_without_an_entry_or_of_another_app_does_not_end_the_feed() {
    let app = App::start().await;
    let insert = "INSERT INTO ledger (position, sdk_app_id, group_id, time_ms, digest, command, received_at, source, outcome, body)
                  SELECT p, app, 'g' || n, n, substr(sha256(n::text::bytea), 1, 16), 'c', now(), 'callback', 'applied', ''
                    FROM unnest(ARRAY[1, 70000, 140001, 300000, 300001], ARRAY[1400000001, 7, 7, 7, 1400000001])
                         WITH ORDINALITY AS o (p, app, n);
                  SELECT setval('ledger_position_seq', 300001)";
    app.connect().await.execute(insert).await.unwrap();
    let (mut seen, mut since) = (Vec::new(), String::new());
    for _ in 0..10 {
        let page = app.service.read(&format!("/v1/changes?limit=1{since}")).await;
        seen.extend(groups(&page).into_iter().map(str::to_owned));
        since = format!("&since={}", page["next_cursor"].as_str().unwrap());
        if page["more"] == false {
            break;
        }
    }
    assert_eq!(seen, ["g1", "g5"]);
    let url = app.service.api_url("/v1/changes");
    let mut follower = Follower::start(&app.service.client, &url, None).await;
    for group in ["g1", "g5"] {
        assert_eq!(follower.next().await.unwrap()["group_id"], group);
    }
    app.stop().await;
}

/// Applied after it was parked, or dropped because another entry says the same.
#[tokio::test]
async fn a_follower_that_stands_at_an_entry_which_moves_or_is_dropped_has_missed_nothing() {
    for change in [
        "UPDATE ledger SET outcome = 'applied', reason = NULL, causes = NULL, position = DEFAULT WHERE outcome = 'parked'",
        "DELETE FROM ledger WHERE outcome = 'parked'",
    ] {
        let app = App::start().await;
        fill(&app.service, "g", 1).await;
        app.service.parked(r#"{"CallbackCommand":"Group.CallbackAfterCreateGroup"}"#).await;
        let url = app.service.api_url("/v1/changes");
        let mut follower = Follower::start(&app.service.client, &url, None).await;
        for _ in 0..2 {
            follower.next().await.unwrap();
        }
        let last = follower.last_id.clone().unwrap();
        let mut conn = app.connect().await;
        conn.execute("INSERT INTO ledger_moves (position, digest) SELECT position, digest FROM ledger WHERE outcome = 'parked'")
            .await
            .unwrap();
        let moved = conn.execute(change).await.unwrap().rows_affected();
        assert_eq!(moved, 1);
        fill(&app.service, "after", 1).await;
        let mut wanted = vec!["after0"];
        if change.starts_with("UPDATE") {
            wanted.insert(0, "-");
        }
        for group in &wanted {
            let event = follower.next().await.unwrap();
            assert_eq!(event["group_id"].as_str().unwrap_or("-"), *group, "{change}");
        }
        assert_eq!(groups(&app.service.read(&format!("/v1/changes?since={last}")).await), wanted, "{change}");
        app.stop().await;
    }
}

#[tokio::test]
async fn a_cursor_of_an_older_version_is_answered_with_400() {
    let app = App::start().await;
    fill(&app.service, "g", 1).await;
    let cursor = cursor_of(&app.service.read("/v1/changes").await, 0);
    let mut read: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(&cursor).unwrap()).unwrap();
    assert!(read["after"].as_object_mut().unwrap().remove("d").is_some(), "{read}");
    let older = URL_SAFE_NO_PAD.encode(read.to_string());
    let answer = answered(&app.service, &older, "application/json").await;
    assert_eq!(answer, (StatusCode::BAD_REQUEST, json!("bad_cursor")));
    app.stop().await;
}

/// A cursor is no secret and not signed: what it holds is checked like any other input.
#[tokio::test]
async fn a_forged_cursor_is_refused_and_never_a_fault_of_the_service() {
    let app = App::start().await;
    fill(&app.service, "g", 1).await;
    let cursor = cursor_of(&app.service.read("/v1/changes").await, 0);
    let read: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(&cursor).unwrap()).unwrap();
    for (name, value, status) in [
        ("d", json!("\0"), StatusCode::BAD_REQUEST),
        ("d", json!("x".repeat(4000)), StatusCode::BAD_REQUEST),
        ("d", json!("00000000"), StatusCode::GONE),
        ("d", json!(""), StatusCode::GONE),
        ("p", json!(-1), StatusCode::BAD_REQUEST),
        ("p", json!(0), StatusCode::GONE),
        ("p", json!(i64::MAX), StatusCode::GONE),
        ("e", json!("\0"), StatusCode::GONE),
    ] {
        let mut forged = read.clone();
        forged["after"][name] = value;
        let forged = URL_SAFE_NO_PAD.encode(forged.to_string());
        for accept in ["application/json", "text/event-stream"] {
            let answer = answered(&app.service, &forged, accept).await;
            assert_eq!(answer, (status, json!("bad_cursor")), "{name}");
        }
    }
    app.stop().await;
}

/// Aurora refuses the functions of the write-ahead log; other servers keep them for superusers.
#[tokio::test]
async fn the_feed_needs_no_function_that_managed_servers_withhold() {
    let database = TestDatabase::create().await;
    let role = format!("group_mirror_managed_{}", std::process::id());
    let mut conn = database.connect().await;
    let make = format!(
        "DROP ROLE IF EXISTS {role}; CREATE ROLE {role} LOGIN;
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role};
         GRANT USAGE, SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA public TO {role};
         REVOKE EXECUTE ON FUNCTION pg_current_wal_lsn(), pg_walfile_name(pg_lsn), pg_control_system() FROM PUBLIC"
    );
    conn.execute(AssertSqlSafe(make)).await.unwrap();
    let options = PgConnectOptions::from_str(&database.url).unwrap().username(&role);
    assert_withheld(&mut options.connect().await.unwrap()).await;
    let service = Service::start(&settings(options.to_url_lossy().as_str())).await.unwrap();
    fill(&service, "g", 2).await;
    assert_eq!(groups(&service.read("/v1/changes").await), ["g0", "g1"]);
    let mut follower = Follower::start(&service.client, &service.api_url("/v1/changes"), None).await;
    for group in ["g0", "g1"] {
        assert_eq!(follower.next().await.unwrap()["group_id"], group);
    }
    fill(&service, "h", 1).await;
    assert_eq!(follower.next().await.unwrap()["group_id"], "h0");
    service.stop().await;
    conn.execute(AssertSqlSafe(format!("DROP OWNED BY {role}; DROP ROLE {role}"))).await.unwrap();
}

async fn assert_withheld(conn: &mut PgConnection) {
    for call in ["pg_current_wal_lsn()", "pg_walfile_name('0/1')", "pg_control_system()"] {
        let called = conn.execute(AssertSqlSafe(format!("SELECT {call}"))).await;
        assert!(called.is_err(), "{call} is withheld here");
    }
}
