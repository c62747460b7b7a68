//! Filters of the feed, on pages and in streams: what fits comes once, and the cursor moves on over the rest.

use group_mirror::model::{GroupId, SdkAppId};
use group_mirror::store::Database;
use group_mirror::store::feed::{self, FeedFilter, FeedPlace};
use reqwest::StatusCode;
use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _, PgConnection};

use super::held_back::create;
use crate::support::follow::Follower;
use crate::support::postgres::TestDatabase;
use crate::support::{API_TOKEN, App, eventually};

const APPS: [i64; 2] = [1_400_000_001, 7];
const GROUPS: [&str; 3] = ["a", "b", "@TGS#1"];
const OUTCOMES: [&str; 3] = ["applied", "partial", "parked"];

/// The longest that a filter can name, the shortest that is cut, and one that is cut to the same text.
fn commands() -> [String; 4] {
    ["Group.CallbackAfterCreateGroup".to_owned(), "x".repeat(256), "x".repeat(257), "é".repeat(300_000)]
}

struct Row {
    app: i64,
    group: &'static str,
    command: String,
    outcome: &'static str,
}

impl Row {
    fn any(chance: &mut fastrand::Rng) -> Self {
        Self {
            app: APPS[chance.usize(..2)],
            group: GROUPS[chance.usize(..3)],
            command: commands()[chance.usize(..4)].clone(),
            outcome: OUTCOMES[chance.usize(..3)],
        }
    }
}

/// One row of the ledger; its receipt is the `number`th second of 1970, by which it is known again.
async fn insert(conn: &mut PgConnection, row: &Row, number: i64) {
    sqlx::query(
        "INSERT INTO ledger (sdk_app_id, group_id, time_ms, digest, command, received_at, source, outcome, reason, causes, body)
         VALUES ($1, $2, $5, substr(sha256($5::text::bytea), 1, 16), $3, to_timestamp($5), 'callback', $4,
                 CASE WHEN $4 <> 'applied' THEN 'r' END, CASE WHEN $4 <> 'applied' THEN ARRAY['wrong_type'] END, '')",
    )
    .bind(row.app)
    .bind(row.group)
    .bind(&row.command)
    .bind(row.outcome)
    .bind(number)
    .execute(conn)
    .await
    .unwrap();
}

fn number(item: &Value) -> i64 {
    chrono::DateTime::parse_from_rfc3339(item["received_at"].as_str().unwrap()).unwrap().timestamp()
}

/// A filter as a query, and as what it should find.
fn any_filter(chance: &mut fastrand::Rng) -> (String, impl Fn(&Row) -> bool + use<>) {
    let (group, command, outcome) = (chance.usize(..4), chance.usize(..4), chance.usize(..4));
    let mut query = String::new();
    if let Some(group) = GROUPS.get(group) {
        query += &format!("&group_id={}", group.replace('@', "%40").replace('#', "%23"));
    }
    // The last two are longer than a filter may be.
    let wanted = commands().get(command).filter(|_| command < 2).cloned();
    query += &wanted.as_ref().map(|command| format!("&command={command}")).unwrap_or_default();
    query += &OUTCOMES.get(outcome).map(|outcome| format!("&outcome={outcome}")).unwrap_or_default();
    let fits = move |row: &Row| {
        row.app == APPS[0]
            && GROUPS.get(group).is_none_or(|group| *group == row.group)
            && wanted.as_ref().is_none_or(|command| *command == row.command)
            && OUTCOMES.get(outcome).is_none_or(|outcome| *outcome == row.outcome)
    };
    (query, fits)
}

/// The condition of the statement, and its twin for the live feed.
#[tokio::test(flavor = "multi_thread")]
async fn pages_streams_that_catch_up_and_live_streams_give_what_fits_once_and_in_order() {
    const ROWS: i64 = 160;
    let (app, mut chance) = (App::start().await, fastrand::Rng::with_seed(11));
    let url = app.service.api_url("/v1/changes");
    let mut followed = Vec::new();
    for _ in 0..24 {
        let (query, fits) = any_filter(&mut chance);
        let live = Follower::start(&app.service.client, &format!("{url}?limit=9{query}"), None).await;
        followed.push((query, fits, live));
    }
    let mut conn = app.connect().await;
    let rows: Vec<Row> = (0..ROWS).map(|_| Row::any(&mut chance)).collect();
    for (at, row) in rows.iter().enumerate() {
        insert(&mut conn, row, i64::try_from(at).unwrap()).await;
    }
    for (query, fits, mut live) in followed {
        let wanted: Vec<i64> =
            rows.iter().zip(0..).filter(|(row, _)| fits(row)).map(|(_, number)| number).collect();
        let (mut seen, mut since) = (Vec::new(), String::new());
        loop {
            let page = app.service.read(&format!("/v1/changes?limit=9{query}{since}")).await;
            let items = page["items"].as_array().unwrap();
            assert!(items.len() <= 9);
            seen.extend(items.iter().map(number));
            since = format!("&since={}", page["next_cursor"].as_str().unwrap());
            if page["more"] == false {
                break;
            }
        }
        assert_eq!(seen, wanted, "{query}");
        let mut behind = Follower::start(&app.service.client, &format!("{url}?limit=9{query}"), None).await;
        for number_wanted in wanted {
            for follower in [&mut live, &mut behind] {
                assert_eq!(number(&follower.next().await.unwrap()), number_wanted, "{query}");
            }
        }
    }
    app.stop().await;
}

#[tokio::test]
async fn an_event_stays_small_whatever_was_sent_as_a_command_and_says_that_it_is_cut() {
    let app = App::start().await;
    let (long, group) = ("é".repeat(450_000), "g".repeat(48));
    app.service
        .parked(&json!({"CallbackCommand": format!("Group.{long}"), "GroupId": group}).to_string())
        .await;
    let page = app.service.read("/v1/changes").await;
    let command = page["items"][0]["command"].as_str().unwrap();
    assert_eq!(command, format!("Group.{}…", "é".repeat(250)));
    assert!(page.to_string().len() < 8 * 1024, "{}", page.to_string().len());
    let mut follower = Follower::start(&app.service.client, &app.service.api_url("/v1/changes"), None).await;
    assert_eq!(follower.next().await.unwrap(), page["items"][0]);
    app.stop().await;
}

/// Rows of another group, many times what one page searches.
const OTHERS: &str = "
INSERT INTO ledger (sdk_app_id, group_id, time_ms, digest, command, received_at, source, outcome, body)
SELECT 1400000001, 'other', n, substr(sha256(n::text::bytea), 1, 16), 'c', now(), 'callback', 'applied', '' FROM generate_series(1, 90000) n";

fn position(cursor: &str) -> i64 {
    use base64::Engine as _;
    let json = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(cursor).unwrap();
    serde_json::from_slice::<Value>(&json).unwrap()["after"]["p"].as_i64().unwrap()
}

#[tokio::test]
async fn a_page_that_finds_nothing_searches_a_part_and_leads_on_and_a_stream_arrives() {
    let app = App::start().await;
    app.connect().await.execute(OTHERS).await.unwrap();
    app.service.taken(&create("wanted")).await;
    let (mut pages, mut since, mut at) = (0, String::new(), 0);
    let found = loop {
        let page = app.service.read(&format!("/v1/changes?group_id=wanted{since}")).await;
        let next = page["next_cursor"].as_str().unwrap();
        assert!(position(next) > at && position(next) - at <= 20_001, "{at} to {}", position(next));
        (pages, since, at) = (pages + 1, format!("&since={next}"), position(next));
        if page["more"] == false {
            break page;
        }
        assert_eq!(page["items"], json!([]));
    };
    assert_eq!((found["items"][0]["group_id"].as_str(), pages), (Some("wanted"), 5));
    let url = app.service.api_url("/v1/changes?group_id=wanted");
    let mut follower = Follower::start(&app.service.client, &url, None).await;
    assert_eq!(follower.next().await.unwrap()["group_id"], "wanted");
    app.stop().await;
}

/// Before the first `ANALYZE`, and after a restore, PostgreSQL takes any filter for a rare one, and would sort all that a page
/// may search.
#[tokio::test]
async fn entries_are_read_in_the_order_of_their_index_whatever_postgres_knows_of_the_ledger() {
    let database = TestDatabase::create().await;
    database.connect().await.execute(OTHERS).await.unwrap();
    let pools = Database::new(&database.url).unwrap();
    let group = Some(GroupId::parse("other").unwrap());
    let app = SdkAppId::parse("1400000001").ok();
    let filters = [
        FeedFilter::ALL,
        FeedFilter { app, ..FeedFilter::ALL },
        FeedFilter { app, group, ..FeedFilter::ALL },
    ];
    let mut own = pools.own_session().await.unwrap();
    let mut pooled = pools.feed().acquire().await.unwrap();
    for filter in filters {
        for conn in [own.conn(), &mut *pooled] {
            let plan = feed::plan(conn, &FeedPlace::start(), 20_000, &filter, 51).await.unwrap();
            assert!(plan.contains("_position_idx on ledger_past") && !plan.contains("->  Sort"), "{plan}");
        }
    }
    drop((own, pooled));
    pools.close().await;
}

/// A browser comes back behind the last id, so what does not fit must not be searched again and again.
#[tokio::test]
async fn the_position_of_a_stream_moves_on_over_what_does_not_fit() {
    let app = App::start().await;
    let url = app.service.api_url("/v1/changes?outcome=parked");
    let mut follower = Follower::start(&app.service.client, &url, None).await;
    assert_eq!(follower.event().await, Some(None));
    assert_eq!(position(follower.last_id.as_deref().unwrap()), 0);
    app.service.taken(&create("g")).await;
    let last = app.service.read("/v1/changes").await["next_cursor"].as_str().unwrap().to_owned();
    // The next heartbeat.
    assert_eq!(follower.event().await, Some(None));
    assert_eq!(follower.last_id, Some(last));
    app.stop().await;
}

#[tokio::test]
async fn a_value_that_no_entry_can_have_is_refused_with_what_would_be_right() {
    let app = App::start().await;
    for query in [
        "outcome=lost".to_owned(),
        "outcome=".to_owned(),
        "outcome=parked&outcome=applied".to_owned(),
        "group_id=".to_owned(),
        format!("group_id={}", "x".repeat(513)),
        "command=".to_owned(),
        format!("command={}", "x".repeat(257)),
        "group=g".to_owned(),
    ] {
        for accept in ["application/json", "text/event-stream"] {
            let url = app.service.api_url(&format!("/v1/changes?{query}"));
            let ask = app.service.client.get(url).bearer_auth(API_TOKEN).header("accept", accept);
            let answer = ask.send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{query}");
            assert_eq!(answer.json::<Value>().await.unwrap()["code"], "bad_parameter", "{query}");
        }
    }
    app.stop().await;
}

/// Thirty lists that hang use up the permits for such lists.
#[tokio::test(flavor = "multi_thread")]
async fn lists_that_hang_delay_neither_a_follower_nor_a_page_of_the_feed() {
    let app = App::start().await;
    let url = app.service.api_url("/v1/changes");
    let mut follower = Follower::start(&app.service.client, &url, None).await;
    let mut locker = app.connect().await;
    locker.execute("BEGIN; LOCK TABLE group_members IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let lists: Vec<_> = (0..30)
        .map(|_| {
            let (client, url) = (app.service.client.clone(), app.service.api_url("/v1/groups?member=ana"));
            tokio::spawn(async move { client.get(url).bearer_auth(API_TOKEN).send().await.unwrap().status() })
        })
        .collect();
    let hang = "SELECT count(*) >= 3 FROM pg_stat_activity
                 WHERE application_name = 'group-mirror' AND wait_event_type = 'Lock' AND datname = current_database()";
    let hung = async || {
        let mut conn = app.database.connect().await;
        let hung: bool = sqlx::query_scalar(hang).fetch_one(&mut conn).await.unwrap();
        conn.close().await.unwrap();
        hung
    };
    assert!(eventually(hung).await);
    let insert = "INSERT INTO ledger (sdk_app_id, group_id, time_ms, digest, command, received_at, source, outcome, body)
                  VALUES (1400000001, 'news', 1, substr(sha256('news'), 1, 16), 'c', now(), 'callback', 'applied', '')";
    app.database.connect().await.execute(insert).await.unwrap();
    assert_eq!(follower.next().await.unwrap()["group_id"], "news");
    let page = app.service.client.get(&url).bearer_auth(API_TOKEN).send().await.unwrap();
    assert_eq!(page.status(), StatusCode::OK);
    assert!(hung().await || !lists.iter().all(tokio::task::JoinHandle::is_finished), "they hung meanwhile");
    locker.execute("ROLLBACK").await.unwrap();
    for list in lists {
        list.await.unwrap();
    }
    app.stop().await;
}
