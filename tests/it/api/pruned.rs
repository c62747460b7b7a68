//! Reads of what was pruned: each says that it is missing, and from when on history is whole.

use group_mirror::retention::{self, PruneWanted};
use group_mirror::store::Database;
use group_mirror::store::feed::FeedPlace;
use group_mirror::store::past::{self, OldPartitions};
use group_mirror::store::past_copy::{self, StayingCopy};
use group_mirror::store::prune::{PruneLimits, PruneState};
use serde_json::{Value, json};
use sqlx::postgres::PgConnection;

use crate::support::api::{T0, after, assert_problem};
use crate::support::{API_TOKEN, App, eventually};

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

/// Six entries, whose receipt follows the event.
async fn fill(app: &App) {
    app.service
        .taken(&after("CreateGroup", "g", 0, json!({ "Owner_Account": "owner", "Name": "one" })))
        .await;
    for minute in 1..6 {
        app.service.taken(&join(minute)).await;
    }
    let receipt = "UPDATE ledger SET received_at = to_timestamp(time_ms / 1000.0)";
    sqlx::query(receipt).execute(&mut app.connect().await).await.unwrap();
}

async fn pruned_app() -> PrunedApp {
    let app = App::start().await;
    let begin = app.service.read("/v1/changes?since=now").await["next_cursor"].as_str().unwrap().to_owned();
    fill(&app).await;
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
    let request = app.service.client.get(app.service.api_url(path)).bearer_auth(API_TOKEN);
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

/// An exchange of partitions that has its lock: every entry stays, and what is said of them is the test's.
struct HeldExchange {
    old: OldPartitions,
    conn: PgConnection,
}

impl HeldExchange {
    /// Takes the lock, and copies everything under it: no snapshot from before sees the copy.
    async fn begin(app: &App) -> Self {
        let mut conn = app.connect().await;
        let old = OldPartitions::before(&mut conn, SINCE_MS).await.unwrap().unwrap();
        past::make_next(&mut conn, &old).await.unwrap();
        let begun = past_copy::now(&mut conn).await.unwrap();
        let limits = PruneLimits { until_ms: SINCE_MS, received_before: begun, before_position: 0 };
        let copy = StayingCopy { with_relay: true, up_to: i64::MAX, begun };
        sqlx::raw_sql("BEGIN").execute(&mut conn).await.unwrap();
        past::lock_tables(&mut conn, &old).await.unwrap();
        assert_eq!(past_copy::copy_staying(&mut conn, &old, &limits, &copy).await.unwrap(), 6);
        past_copy::copy_people(&mut conn, &old).await.unwrap();
        Self { old, conn }
    }

    /// Ends it while a read waits for the lock, and answers what the read gets.
    async fn end(mut self, app: &App, path: &str, dropped: FeedPlace) -> reqwest::Response {
        let request = app.service.client.get(app.service.api_url(path)).bearer_auth(API_TOKEN).send();
        let read = tokio::spawn(request);
        let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'ledger'::regclass";
        let waits = async || {
            let waiting: i64 = sqlx::query_scalar(waiting).fetch_one(&mut app.connect().await).await.unwrap();
            waiting > 0
        };
        assert!(eventually(waits).await, "the read waits for the exchange");
        let state = PruneState { pruned_until_ms: None, dropped };
        past::exchange(&mut self.conn, &self.old, &state, true).await.unwrap();
        sqlx::raw_sql("COMMIT").execute(&mut self.conn).await.unwrap();
        read.await.unwrap().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_waits_for_the_exchange_of_partitions_sees_what_stays_and_skips_nothing_in_silence() {
    let app = App::start().await;
    fill(&app).await;
    for path in ["/v1/groups/g/timeline?buckets=5", "/v1/groups/g/members?at=2026-01-01T00:05:00Z"] {
        // As of another moment, or the fold of this one would be kept.
        let whole = app.service.read(&path.replace("05:00Z", "05:00.5Z")).await;
        let exchange = HeldExchange::begin(&app).await;
        let read = exchange.end(&app, path, FeedPlace::start()).await;
        assert_eq!(read.json::<Value>().await.unwrap(), whole, "what was copied out of the old partition");
        past::drop_left(&mut app.connect().await).await.unwrap();
    }

    // A page that has begun at the first entry finds others dropped.
    let dropped: FeedPlace = sqlx::query_as(
        "SELECT position, encode(substr(digest, 1, 4), 'hex') AS digest FROM ledger ORDER BY position OFFSET 2 LIMIT 1",
    )
    .fetch_one(&mut app.connect().await)
    .await
    .unwrap();
    let exchange = HeldExchange::begin(&app).await;
    let read = exchange.end(&app, "/v1/changes", dropped).await;
    assert_problem(read, 410, "pruned").await;
    app.stop().await;
}
