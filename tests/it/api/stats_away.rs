//! `/v1/stats` while the database is away, was never there, does not fit or is held up: it answers with what is known.

use serde_json::{Value, json};
use sqlx::Executor as _;

use crate::api::topics_stats::community;
use crate::support::api::{Api, after};
use crate::support::postgres::TestDatabase;
use crate::support::{API_TOKEN, App, Service, eventually, settings};

/// The counts, whatever is in the spool. Panics unless the answer is 200.
async fn stats(service: &Service) -> Value {
    let answer =
        service.client.get(service.api_url("/v1/stats")).bearer_auth(API_TOKEN).send().await.unwrap();
    let status = answer.status();
    let text = answer.text().await.unwrap();
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).unwrap()
}

fn join(user: &str) -> Value {
    after("NewMemberJoin", "town", 10_000, json!({"NewMemberList": [{"Member_Account": user}]}))
}

fn is_null(stats: &Value, names: &[&str]) -> bool {
    names.iter().all(|name| stats.get(name).is_some_and(Value::is_null))
}

const COUNTED: [&str; 4] = ["groups", "members", "ledger", "counted_at"];

#[tokio::test]
async fn stats_keep_the_last_counts_and_tell_the_spool_while_the_database_is_away() {
    let app = App::start().await;
    for body in community() {
        app.service.taken(&body).await;
    }
    assert!(eventually(async || stats(&app.service).await["groups"]["total"] == 3).await);
    let before = stats(&app.service).await;
    assert_eq!(before["database_available"], true);
    app.database.refuse_connections().await;
    assert!(eventually(async || stats(&app.service).await["database_available"] == false).await);
    app.service.taken(&join("late")).await;
    let url = format!("http://{}/calback", app.service.running.callback_addr);
    assert_eq!(app.service.client.post(url).send().await.unwrap().status(), 404);
    assert!(eventually(async || stats(&app.service).await["spool"]["depth"] == 1).await);
    let away = stats(&app.service).await;
    for name in ["groups", "members", "ledger"] {
        assert_eq!(away[name], before[name], "{name}");
    }
    assert!(away["counted_at"].as_str() >= before["counted_at"].as_str(), "{away}");
    assert!(
        away["last_callback_at"].as_str() > before["last_callback_at"].as_str(),
        "the spooled one counts: {away}"
    );
    assert_eq!((&away["refusals"]["total"], &away["refusals"]["last"]["cause"]), (&json!(1), &json!("path")));
    assert_eq!(away["last_callback_at"], away["spool"]["oldest_at"]);
    app.stop().await;
}

#[tokio::test]
async fn the_mirror_is_counted_without_a_request_so_that_there_are_counts_when_the_database_goes_away() {
    let app = App::start().await;
    // A request would begin a count itself, so PostgreSQL is asked whether one has run.
    let scans =
        "SELECT seq_scan + COALESCE(idx_scan, 0) FROM pg_stat_user_tables WHERE relname = 'group_members'";
    let counted = async || {
        let mut conn = app.database.connect().await;
        sqlx::query_scalar::<_, i64>(scans).fetch_one(&mut conn).await.unwrap() > 0
    };
    assert!(eventually(counted).await);
    app.database.refuse_connections().await;
    assert!(
        eventually(async || {
            let away = stats(&app.service).await;
            away["database_available"] == false && away["groups"]["total"] == 0
        })
        .await
    );
    app.stop().await;
}

/// The count that runs without a request at the start is of an empty mirror, and must not be shown for long.
#[tokio::test]
async fn a_count_without_a_request_puts_off_none_that_is_asked_for() {
    let app = App::start().await;
    let scans =
        "SELECT seq_scan + COALESCE(idx_scan, 0) FROM pg_stat_user_tables WHERE relname = 'group_members'";
    let counted = async || {
        let mut conn = app.database.connect().await;
        sqlx::query_scalar::<_, i64>(scans).fetch_one(&mut conn).await.unwrap() > 0
    };
    assert!(eventually(counted).await);
    for body in community() {
        app.service.taken(&body).await;
    }
    let groups = "SELECT count(*) FROM groups";
    assert!(
        eventually(async || {
            let mut conn = app.database.connect().await;
            sqlx::query_scalar::<_, i64>(groups).fetch_one(&mut conn).await.unwrap() == 3
        })
        .await
    );
    assert_eq!(stats(&app.service).await["groups"]["total"], 3, "the first answer");
    app.stop().await;
}

#[tokio::test]
async fn stats_answer_with_nulls_where_no_database_was_ever_reached() {
    let service = Service::start_at_once(&settings("postgres://nobody@127.0.0.1:1/none")).await.unwrap();
    assert!(eventually(async || stats(&service).await["spool"]["depth"] == 0).await, "the spool is open");
    let never = stats(&service).await;
    assert!(is_null(&never, &COUNTED) && is_null(&never, &["last_callback_at"]), "{never}");
    assert_eq!((&never["database_available"], &never["gaps"]), (&json!(false), &json!([])));
    service.taken(&join("first")).await;
    let spooled = stats(&service).await;
    assert_eq!(spooled["spool"]["depth"], 1);
    assert_eq!(spooled["last_callback_at"], spooled["spool"]["oldest_at"]);
    assert!(spooled["last_callback_at"].is_string() && is_null(&spooled, &COUNTED), "{spooled}");
    service.stop().await;
}

#[tokio::test]
async fn stats_answer_while_the_schema_is_behind() {
    let app = App::start().await;
    app.database.connect().await.execute("DELETE FROM _sqlx_migrations WHERE version = 8").await.unwrap();
    assert!(eventually(async || stats(&app.service).await["database_available"] == false).await);
    let url = app.service.api_url("/v1/groups");
    let list = app.service.client.get(url).bearer_auth(API_TOKEN).send().await.unwrap();
    assert_eq!(list.status(), 503, "a list needs the schema");
    app.stop().await;
}

#[tokio::test]
async fn stats_do_not_wait_for_a_first_count_that_is_held_up_and_keep_the_former_one_later() {
    // Held before the start, because the mirror is counted without a request as well.
    let database = TestDatabase::create().await;
    let mut holder = database.connect().await;
    sqlx::raw_sql("BEGIN; LOCK TABLE group_members").execute(&mut holder).await.unwrap();
    let api = Api::on(database, Vec::new(), |_| {}).await;
    let held = api.json("/v1/stats").await;
    assert!(is_null(&held, &COUNTED), "{held}");
    assert_eq!(held["database_available"], true);
    sqlx::raw_sql("COMMIT").execute(&mut holder).await.unwrap();
    assert!(eventually(async || api.json("/v1/stats").await["groups"]["total"] == 0).await);
    let former = api.json("/v1/stats").await;
    // Another count would be held up as well, and the former one is shown meanwhile.
    sqlx::raw_sql("BEGIN; LOCK TABLE group_members").execute(&mut holder).await.unwrap();
    assert_eq!(api.json("/v1/stats").await["counted_at"], former["counted_at"]);
    api.stop().await;
}
