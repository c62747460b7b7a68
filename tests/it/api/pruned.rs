//! Reads of what was pruned: each says that it is missing, and from when on history is whole.

use group_mirror::retention::{self, PruneWanted};
use group_mirror::store::Database;
use serde_json::{Value, json};

use crate::support::api::{T0, after, assert_problem};
use crate::support::{App, eventually};

/// A group with a join a minute, of which the first three minutes are pruned.
struct PrunedApp {
    app: App,
    /// Behind each entry, in their order, as the feed had them.
    cursors: Vec<String>,
    /// The feed before the first entry.
    begin: String,
}

const MINUTE: i64 = 60_000;

/// From when on history is whole.
const SINCE_MS: i64 = T0 + 3 * MINUTE;
const SINCE: &str = "2026-01-01T00:03:00.000Z";

fn join(minute: i64) -> Value {
    let more = json!({ "JoinType": "Apply", "NewMemberList": [{ "Member_Account": format!("u{minute}") }] });
    after("NewMemberJoin", "g", minute * MINUTE, more)
}

async fn pruned_app() -> PrunedApp {
    let app = App::start().await;
    let begin = app.service.read("/v1/changes?since=now").await["next_cursor"].as_str().unwrap().to_owned();
    app.service
        .taken(&after("CreateGroup", "g", 0, json!({ "Owner_Account": "owner", "Name": "one" })))
        .await;
    for minute in 1..6 {
        app.service.taken(&join(minute)).await;
    }
    let mut conn = app.connect().await;
    // Receipt follows the event.
    sqlx::query("UPDATE ledger SET received_at = to_timestamp(time_ms / 1000.0)")
        .execute(&mut conn)
        .await
        .unwrap();
    let feed = app.service.read("/v1/changes").await;
    let cursors: Vec<String> = feed["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["cursor"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(cursors.len(), 6);
    let database = Database::new(&app.database.url).unwrap();
    let before = chrono::DateTime::from_timestamp_millis(SINCE_MS).unwrap();
    let wanted = PruneWanted { before, follower: None, forced: false };
    let done = retention::prune(&database, &wanted, |_| {}).await.unwrap();
    assert_eq!((done.entries, done.staying), (3, 3), "{done:?}");
    database.close().await;
    PrunedApp { app, cursors, begin }
}

async fn problem(app: &App, path: &str) -> Value {
    let request = app.service.client.get(app.service.api_url(path)).bearer_auth(crate::support::API_TOKEN);
    assert_problem(request.send().await.unwrap(), 410, "pruned").await
}

#[tokio::test]
async fn a_cursor_before_dropped_entries_is_410_and_others_go_on() {
    let PrunedApp { app, cursors, begin } = pruned_app().await;
    for cursor in cursors[..2].iter().chain([&begin]) {
        problem(&app, &format!("/v1/changes?since={cursor}")).await;
    }
    let shown = async |query: &str| -> Vec<String> {
        let page = app.service.read(&format!("/v1/changes?{query}")).await;
        page["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["cursor"].as_str().unwrap().to_owned())
            .collect()
    };
    // Behind the last one that was dropped, and from the start: what is left.
    assert_eq!(shown(&format!("since={}", cursors[2])).await, cursors[3..]);
    assert_eq!(shown("").await, cursors[3..]);
    let first = app.service.read("/v1/changes?limit=1").await;
    assert_eq!(shown(&format!("since={}", first["next_cursor"].as_str().unwrap())).await, cursors[4..]);
    assert_eq!(shown(&format!("since={}", cursors[5])).await, Vec::<String>::new());
    // The mirror holds what was pruned, so a read that wants it need not wait.
    let read = app.service.read(&format!("/v1/groups/g?at_least={}", cursors[0])).await;
    assert_eq!(read["group_id"], "g");
    app.stop().await;
}

#[tokio::test]
async fn a_ledger_of_which_everything_was_dropped_still_has_a_feed() {
    let PrunedApp { app, cursors, .. } = pruned_app().await;
    let database = Database::new(&app.database.url).unwrap();
    let wanted = PruneWanted { before: chrono::Utc::now(), follower: None, forced: false };
    retention::prune(&database, &wanted, |_| {}).await.unwrap();
    database.close().await;
    problem(&app, &format!("/v1/changes?since={}", cursors[4])).await;
    for query in [format!("since={}", cursors[5]), String::new(), "since=now".to_owned()] {
        let page = app.service.read(&format!("/v1/changes?{query}")).await;
        assert_eq!((page["items"].as_array().unwrap().len(), &page["more"]), (0, &json!(false)), "{query}");
        let next = page["next_cursor"].as_str().unwrap();
        assert_eq!(app.service.read(&format!("/v1/changes?since={next}")).await["items"], json!([]));
    }
    app.service.taken(&join(9)).await;
    let has_it = async || {
        let page = app.service.read(&format!("/v1/changes?since={}", cursors[5])).await;
        page["items"].as_array().unwrap().len() == 1
    };
    assert!(eventually(has_it).await, "what comes next is shown");
    // The timeline begins where history is whole, with all that came before.
    assert_eq!(app.service.read("/v1/groups/g/timeline").await["member_count_before"], 7);
    app.stop().await;
}

#[tokio::test]
async fn a_state_before_what_was_pruned_is_410_and_later_ones_are_what_they_were() {
    let PrunedApp { app, .. } = pruned_app().await;
    for path in [
        "/v1/groups/g?at=2026-01-01T00:02:59.999Z",
        "/v1/groups/g/members?at=2026-01-01T00:01:00Z",
        "/v1/groups/g/members/u1?at=2026-01-01T00:01:00Z",
        "/v1/groups/g/timeline?after=2026-01-01T00:01:00Z",
        "/v1/groups/g/history?after=2026-01-01T00:01:00Z",
        "/v1/groups/g/history?before=2026-01-01T00:03:00Z",
        "/v1/history?before=2026-01-01T00:02:00Z",
        "/v1/users/u1/history?after=2026-01-01T00:01:00Z",
    ] {
        let problem = problem(&app, path).await;
        assert!(problem["detail"].as_str().unwrap().contains(SINCE), "{path}: {problem}");
    }
    let users = async |at: &str| -> Vec<String> {
        let page = app.service.read(&format!("/v1/groups/g/members?at={at}")).await;
        page["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["user_id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(users("2026-01-01T00:03:00Z").await, ["owner", "u1", "u2", "u3"]);
    assert_eq!(users("2026-01-01T00:05:00Z").await, ["owner", "u1", "u2", "u3", "u4", "u5"]);
    assert_eq!(app.service.read("/v1/groups/g?at=2026-01-01T00:04:30Z").await["name"], "one");
    for path in ["/v1/groups/g/history", "/v1/history", "/v1/users/u4/history"] {
        assert_eq!(app.service.read(path).await["whole_since"], SINCE, "{path}");
    }
    assert_eq!(app.service.read("/v1/groups/g/history").await["items"].as_array().unwrap().len(), 3);
    let timeline = app.service.read("/v1/groups/g/timeline?buckets=3").await;
    let counts: Vec<&Value> =
        timeline["buckets"].as_array().unwrap().iter().map(|bucket| &bucket["member_count"]).collect();
    assert_eq!(
        (&timeline["member_count_before"], counts),
        (&json!(3), vec![&json!(4), &json!(5), &json!(6)]),
        "{timeline}"
    );
    app.stop().await;
}
