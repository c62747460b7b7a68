//! `at_least`: a read waits until the mirror has got to a cursor of the feed, and not without end.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Response;
use serde_json::Value;
use sqlx::Executor as _;

use crate::api::reads::created;
use crate::support::api::assert_problem;
use crate::support::{API_TOKEN, App};

async fn get(app: &App, path: &str) -> Response {
    app.service.client.get(app.service.api_url(path)).bearer_auth(API_TOKEN).send().await.unwrap()
}

/// A cursor of this ledger with another place in it.
fn moved(cursor: &str, position: i64, digest: &str) -> String {
    let mut json: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(cursor).unwrap()).unwrap();
    json["after"]["p"] = position.into();
    json["after"]["d"] = digest.into();
    URL_SAFE_NO_PAD.encode(json.to_string())
}

async fn filled() -> (App, String) {
    let app = App::start().await;
    app.service.taken(&created("g", 0, "g", serde_json::json!({"Owner_Account": "ana"}))).await;
    let page = app.service.read("/v1/changes").await;
    let cursor = page["next_cursor"].as_str().unwrap().to_owned();
    (app, cursor)
}

#[tokio::test]
async fn every_read_takes_a_cursor_that_the_mirror_has_got_to_and_refuses_what_is_none() {
    let (app, cursor) = filled().await;
    let document = app.service.read("/openapi.json").await;
    let paths = document["paths"].as_object().unwrap().keys().filter(|path| path.starts_with("/v1/"));
    let paths: Vec<String> =
        paths.map(|path| path.replace("{group_id}", "g").replace("{user_id}", "ana")).collect();
    assert!(paths.len() >= 8);
    for path in &paths {
        let answer = get(&app, &format!("{path}?at_least={cursor}")).await;
        assert_eq!(answer.status(), 200, "{path}");
        for bad in ["", "x", "now"] {
            let refused = get(&app, &format!("{path}?at_least={bad}")).await;
            assert_problem(refused, 400, "bad_cursor").await;
        }
    }
    let of_another = get(&app, &format!("/v1/groups?at_least={cursor}&sdk_app_id=1400000002")).await;
    assert_problem(of_another, 400, "bad_cursor").await;
    let page = app.service.read("/v1/groups?limit=1").await;
    assert_eq!(page["next_cursor"], Value::Null);
    let whole = get(&app, &format!("/v1/groups?format=csv&at_least={cursor}")).await;
    assert_eq!(whole.status(), 200);
    app.stop().await;
}

#[tokio::test]
async fn a_cursor_that_the_mirror_does_not_get_to_is_unavailable_and_one_of_another_ledger_gone() {
    let (app, cursor) = filled().await;
    let ahead = moved(&cursor, 1_000_000, "00000000");
    let late = get(&app, &format!("/v1/groups?at_least={ahead}")).await;
    assert!(late.headers().contains_key("retry-after"));
    assert_problem(late, 503, "unavailable").await;
    let position = {
        let mut conn = app.connect().await;
        sqlx::query_scalar::<_, i64>("SELECT max(position) FROM ledger").fetch_one(&mut conn).await.unwrap()
    };
    let other = moved(&cursor, position, "00000000");
    assert_problem(get(&app, &format!("/v1/groups?at_least={other}")).await, 410, "bad_cursor").await;
    app.stop().await;
}

/// Aim: a read waits for the high watermark and goes on once it has passed. Method: a transaction of another program that
/// may have written to the ledger holds it back, first for longer than a read waits, then until a read waits.
#[tokio::test]
async fn a_read_waits_for_the_high_watermark_and_goes_on_when_it_has_passed() {
    let (app, cursor) = filled().await;
    let mut writer = app.connect().await;
    writer.execute("BEGIN; LOCK TABLE ledger IN ROW EXCLUSIVE MODE").await.unwrap();
    app.service.taken(&created("h", 1, "h", serde_json::json!({"Owner_Account": "ana"}))).await;
    let mut conn = app.connect().await;
    let (position, digest): (i64, String) = sqlx::query_as(
        "SELECT position, encode(substr(digest, 1, 4), 'hex') FROM ledger ORDER BY position DESC LIMIT 1",
    )
    .fetch_one(&mut conn)
    .await
    .unwrap();
    let path = format!("/v1/groups?at_least={}", moved(&cursor, position, &digest));
    assert_problem(get(&app, &path).await, 503, "unavailable").await;
    let (answer, ()) = tokio::join!(get(&app, &path), async {
        writer.execute("ROLLBACK").await.unwrap();
    });
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.json::<Value>().await.unwrap()["items"].as_array().unwrap().len(), 2);
    app.stop().await;
}
