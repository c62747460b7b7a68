//! What entries of the feed say of people and of their group, and the feed between two times.

use chrono::{DateTime, TimeDelta, Utc};
use group_mirror::store::feed::FeedPlace;
use group_mirror::store::high_watermark::{self, LedgerWriters, Proof};
use serde_json::{Value, json};
use sqlx::Executor as _;

use crate::api::reads::created;
use crate::support::api::after;
use crate::support::follow::Follower;
use crate::support::{App, eventually};

fn users(users: &[&str]) -> Value {
    users.iter().map(|user| json!({ "Member_Account": user })).collect()
}

#[tokio::test]
async fn an_entry_of_pages_and_streams_says_who_did_what_to_whom_in_which_group() {
    let app = App::start().await;
    let mut follower = Follower::start(&app.service.client, &app.service.api_url("/v1/changes"), None).await;
    let named = r#"bo "the, {wall}\""#;
    for body in [
        created(
            "g",
            0,
            "Owls",
            json!({ "Operator_Account": "ana", "Owner_Account": "cy", "MemberList": users(&[named, "", "NULL"]) }),
        ),
        after(
            "NewMemberJoin",
            "g",
            1,
            json!({ "NewMemberList": users(&["a", "b", "c", "d", "e", "f", "g"]), "Operator_Account": "cy" }),
        ),
        after("GroupInfoChanged", "g", 2, json!({ "Name": "Larks" })),
        after("MemberExit", "h", 3, json!({ "ExitMemberList": users(&["a"]) })),
    ] {
        assert_eq!(app.service.post_with("", body.to_string()).await.status(), 200);
    }
    app.service
        .parked(r#"{"CallbackCommand":"Group.CallbackAfterCreateGroup","Operator_Account":"zoe"}"#)
        .await;
    let entries = app.service.read("/v1/changes").await["items"].as_array().unwrap().clone();
    let said = |entry: &Value| json!([entry["operator"], entry["users"], entry["user_count"]]);
    let wanted = [
        json!(["ana", [named, "NULL"], 2]),
        json!(["cy", ["a", "b", "c", "d", "e"], 7]),
        json!([null, [], 0]),
        json!([null, ["a"], 1]),
        json!([null, [], 0]),
    ];
    assert_eq!(entries.iter().map(said).collect::<Vec<_>>(), wanted);
    let names: Vec<_> = entries.iter().map(|entry| &entry["group_name"]).collect();
    assert_eq!(names, [&json!("Larks"), &json!("Larks"), &json!("Larks"), &Value::Null, &Value::Null]);
    for wanted in &wanted {
        assert_eq!(said(&follower.next().await.unwrap()), *wanted, "a stream says the same");
    }
    // The history reads bodies, the feed does not; both say the same.
    for (path, at) in
        [("/v1/groups/g/history", [2, 1, 0]), ("/v1/history?command=Group.CallbackAfterMemberExit", [3; 3])]
    {
        let history = app.service.read(path).await;
        for (entry, at) in history["items"].as_array().unwrap().iter().zip(at) {
            let shown = entry["users"].as_array().unwrap();
            let cut = json!([entry["operator"], shown[..shown.len().min(5)], entry["user_count"]]);
            assert_eq!(cut, wanted[at], "{path}");
            assert_eq!(entry["group_name"], *names[at], "{path}");
        }
    }
    app.stop().await;
}

/// Ten entries, each received an hour after the one before it.
const HOURLY: &str = "
INSERT INTO ledger (sdk_app_id, group_id, time_ms, digest, command, received_at, source, outcome, body)
SELECT 1400000001, 'g' || n, n, substr(sha256(n::text::bytea), 1, 16), 'c', '2026-01-01T00:00:00Z'::timestamptz + n * interval '1 hour',
       'callback', 'applied', '{}'
  FROM generate_series(0, 9) n";

#[tokio::test]
async fn the_feed_between_two_times_has_what_was_received_between_them() {
    let app = App::start().await;
    app.connect().await.execute(HOURLY).await.unwrap();
    for (query, wanted) in [
        ("after=2026-01-01T06:00:00Z", &["g7", "g8", "g9"][..]),
        ("before=2026-01-01T02:00:00Z", &["g0", "g1"]),
        ("after=2026-01-01T03:59:59.999Z&before=2026-01-01T05:00:00.001Z", &["g4", "g5"]),
        ("after=2026-01-02T00:00:00Z", &[]),
        ("before=2026-01-01T02:00:00Z&group_id=g1", &["g1"]),
    ] {
        let (mut seen, mut next) = (Vec::new(), String::new());
        loop {
            let page = app.service.read(&format!("/v1/changes?{query}&limit=1{next}")).await;
            let items = page["items"].as_array().unwrap();
            seen.extend(items.iter().map(|item| item["group_id"].as_str().unwrap().to_owned()));
            next = format!("&since={}", page["next_cursor"].as_str().unwrap());
            if page["more"] == false {
                break;
            }
        }
        assert_eq!(seen, wanted, "{query}");
    }
    let url = app.service.api_url("/v1/changes?after=2026-01-01T06:00:00Z&before=2026-01-01T09:00:00Z");
    let mut follower = Follower::start(&app.service.client, &url, None).await;
    for wanted in ["g7", "g8"] {
        assert_eq!(follower.next().await.unwrap()["group_id"], wanted);
    }
    app.stop().await;
}

#[tokio::test]
async fn a_reader_of_what_was_received_after_a_time_begins_at_a_mark_and_only_at_one_of_this_ledger() {
    let app = App::start().await;
    let mut conn = app.connect().await;
    conn.execute(HOURLY).await.unwrap();
    // The service notes marks itself. One that is proven while the entries are inserted lies before their end.
    let is_marked = async || {
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM feed_marks")
            .fetch_one(&mut app.connect().await)
            .await
            .unwrap();
        count > 0
    };
    assert!(eventually(is_marked).await, "no mark is noted");
    app.service.read("/v1/changes").await;
    let marks: i64 =
        sqlx::query_scalar("SELECT count(*) FROM feed_marks").fetch_one(&mut conn).await.unwrap();
    assert_eq!(marks, 1, "one a minute");
    conn.execute(
        "UPDATE feed_marks SET marked_at = '2026-01-01T12:00:00Z';
         INSERT INTO feed_marks SELECT received_at, position, encode(substr(digest, 1, 4), 'hex') FROM ledger WHERE position IN (3, 6)",
    )
    .await
    .unwrap();
    let mut begins = async |time: &str, spare_minutes: i64| {
        let time: DateTime<Utc> = time.parse().unwrap();
        high_watermark::marked_before(&mut conn, time + TimeDelta::minutes(spare_minutes)).await.unwrap()
    };
    // Entry number n has position n + 1, and the marks are of 02:00 and 05:00.
    assert_eq!(begins("2026-01-01T00:00:00Z", 0).await, FeedPlace::start());
    assert_eq!(
        begins("2026-01-01T02:00:00Z", 4).await,
        FeedPlace::start(),
        "clocks may differ by five minutes"
    );
    assert_eq!(begins("2026-01-01T02:00:00Z", 5).await.position, 3);
    assert_eq!(begins("2026-01-01T05:00:00Z", 4).await.position, 3);
    assert_eq!(begins("2026-01-01T08:00:00Z", 0).await.position, 6);
    app.connect()
        .await
        .execute("UPDATE ledger SET digest = substr(sha256('\\xff'), 1, 16) WHERE position = 6")
        .await
        .unwrap();
    assert_eq!(
        begins("2026-01-01T08:00:00Z", 0).await,
        FeedPlace::start(),
        "a mark of another ledger counts for nothing"
    );
    app.stop().await;
}

#[tokio::test]
async fn of_old_marks_one_an_hour_is_kept_and_of_very_old_ones_none() {
    let app = App::start().await;
    let mut conn = app.connect().await;
    conn.execute(HOURLY).await.unwrap();
    let Proof::At(place) = high_watermark::prove(&mut conn, &LedgerWriters::new()).await.unwrap() else {
        panic!("no one else writes")
    };
    let marks = "
DELETE FROM feed_marks;
INSERT INTO feed_marks (marked_at, position, digest)
SELECT date_trunc('hour', now()) - interval '31 days' + n * interval '10 minutes', 1, '00' FROM generate_series(0, 17) n
UNION ALL SELECT now() - interval '11 years', 1, '00'
UNION ALL SELECT now() - interval '29 days' + n * interval '1 minute', 1, '00' FROM generate_series(0, 4) n";
    conn.execute(marks).await.unwrap();
    // The service may be the one that notes the next mark.
    let are_thinned = async || {
        let mut conn = app.connect().await;
        high_watermark::note(&mut conn, &place).await.unwrap();
        let kept = "SELECT count(*) FILTER (WHERE marked_at < now() - interval '10 years'),
                           count(*) FILTER (WHERE marked_at < now() - interval '30 days'),
                           count(*) FILTER (WHERE marked_at > now() - interval '30 days'
                                              AND marked_at < now() - interval '28 days') FROM feed_marks";
        sqlx::query_as::<_, (i64, i64, i64)>(kept).fetch_one(&mut conn).await.unwrap() == (0, 3, 5)
    };
    assert!(eventually(are_thinned).await);
    app.stop().await;
}
