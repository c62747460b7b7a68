//! `/v1/parked`: what could not be read, with or without a group, in pages, by cause.

use group_mirror::mirror::group_key;
use group_mirror::model::{GroupId, SdkAppId};
use group_mirror::store::history::{self, HistoryFilter};
use group_mirror::store::parked::{self, ParkedCursorKey, ParkedFilter};
use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::api::history::bytes;
use crate::api::reads::created;
use crate::support::api::{T0, after, assert_problem};
use crate::support::postgres::TestDatabase;
use crate::support::{API_TOKEN, App};

const NO_GROUP: &str = r#"{"CallbackCommand":"Group.CallbackAfterCreateGroup"}"#;
const NOT_JSON: &[u8] = b"{\"CallbackCommand\":\xff";

/// Sends one callback that is applied, one that is applied in part and several that are parked, in this order.
async fn spoiled() -> App {
    let app = App::start().await;
    app.service.taken(&created("g", 0, "g", json!({"Owner_Account": "ana"}))).await;
    let join = json!({"NewMemberList": [{"Member_Account": "bo"}, {"Member_Account": 7}]});
    for body in [
        after("NewMemberJoin", "g", 1, join).to_string().into_bytes(),
        NO_GROUP.as_bytes().to_vec(),
        NOT_JSON.to_vec(),
        after("NewMemberJoin", "g", 2, json!({"NewMemberList": "bo"})).to_string().into_bytes(),
        json!({"CallbackCommand": "Group.CallbackAfterNovelty", "GroupId": "h"}).to_string().into_bytes(),
    ] {
        let query = "&CallbackCommand=Group.CallbackAfterCreateGroup";
        let query = if body == NOT_JSON { query } else { "" };
        assert_eq!(app.service.post_with(query, body).await.status(), 200);
    }
    app
}

async fn page(app: &App, query: &str) -> Value {
    app.service.read(&format!("/v1/parked?{query}")).await
}

/// Outcome, group and causes of each entry.
fn shown(page: &Value) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or("null").to_owned();
    let entry = |entry: &Value| {
        let causes: Vec<_> = entry["causes"].as_array().unwrap().iter().map(text).collect();
        (text(&entry["outcome"]), text(&entry["group_id"]), causes.join(","))
    };
    page["items"].as_array().unwrap().iter().map(entry).collect()
}

fn expected<const N: usize>(entries: [(&str, &str, &str); N]) -> Vec<(String, String, String)> {
    entries.into_iter().map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned())).collect()
}

#[tokio::test]
async fn what_is_parked_or_partial_is_listed_with_or_without_a_group_newest_first() {
    let app = spoiled().await;
    let all = page(&app, "with=body").await;
    let entries = expected([
        ("parked", "h", "unknown_command"),
        ("parked", "g", "wrong_type"),
        ("parked", "null", "not_json"),
        ("parked", "null", "no_group"),
        ("partial", "g", "wrong_type"),
    ]);
    assert_eq!(shown(&all), entries);
    assert_eq!(all["next_cursor"], Value::Null);
    assert_eq!(all["items"][4]["users"], json!(["bo"]), "a partial entry says what was applied");
    assert_eq!(
        (bytes(&all["items"][2]), bytes(&all["items"][3])),
        (NOT_JSON.to_vec(), NO_GROUP.as_bytes().to_vec())
    );
    assert!(all["items"].as_array().unwrap().iter().all(|entry| entry["reason"].is_string()));
    assert!(page(&app, "").await["items"][0].get("body").is_none());
    for limit in 1..=4 {
        let (mut walked, mut next) = (Vec::new(), String::new());
        loop {
            let page = page(&app, &format!("limit={limit}{next}")).await;
            walked.extend(shown(&page));
            let Some(cursor) = page["next_cursor"].as_str() else { break };
            next = format!("&cursor={cursor}");
        }
        assert_eq!(walked, entries, "{limit}");
    }
    app.stop().await;
}

#[tokio::test]
async fn every_filter_of_the_parked_narrows_to_what_it_names() {
    let app = spoiled().await;
    let at = page(&app, "").await["items"][2]["received_at"].as_str().unwrap().to_owned();
    let later = page(&app, &format!("after={at}")).await;
    let earlier = page(&app, &format!("before={at}")).await;
    assert!(
        later["items"].as_array().unwrap().iter().all(|entry| entry["received_at"].as_str().unwrap() > &*at)
    );
    assert!(
        earlier["items"]
            .as_array()
            .unwrap()
            .iter()
            .all(|entry| entry["received_at"].as_str().unwrap() < &*at)
    );
    for (query, count) in [
        ("cause=wrong_type", 2),
        ("reason=wrong_type", 2),
        ("cause=bad_id", 0),
        ("cause=wrong_type&reason=wrong_type", 2),
        ("cause=wrong_type&reason=no_group", 0),
        ("outcome=partial", 1),
        ("outcome=parked", 4),
        ("outcome=parked&cause=wrong_type", 1),
        ("command=Group.CallbackAfterNewMemberJoin", 2),
        ("group_id=g", 2),
        ("group_id=nobody", 0),
        ("after=2030-01-01T00:00:00Z&before=2020-01-01T00:00:00Z", 0),
        ("before=9999-12-31T23:59:59.999Z&after=0001-01-01T00:00:00Z", 5),
        ("sdk_app_id=7", 0),
    ] {
        assert_eq!(page(&app, query).await["items"].as_array().unwrap().len(), count, "{query}");
    }
    app.stop().await;
}

/// Rows that equal each other in the first parts of the order, and bodies of a mebibyte.
const EQUAL: &str = r"
INSERT INTO ledger (sdk_app_id, group_id, time_ms, digest, command, received_at, source, outcome, reason, causes, body)
SELECT 1400000001, 'g' || n % 2, n, substr(sha256((n % 3)::text::bytea), 1, 16), 'c', '2026-01-01T00:00:00.0000005Z', 'callback', 'parked',
       'why', '{bad_id}', convert_to(n || repeat(' ', 1024 * 1024), 'UTF8')
  FROM generate_series(1, 11) n";

#[tokio::test]
async fn equal_receipts_are_never_cut_apart_and_large_bodies_end_a_page_early() {
    let app = App::start().await;
    app.connect().await.execute(EQUAL).await.unwrap();
    let first = page(&app, "").await;
    assert_eq!(first["items"].as_array().unwrap().len(), 4, "4 MiB");
    for limit in [1, 3, 50] {
        let (mut walked, mut next) = (Vec::new(), String::new());
        loop {
            let page = page(&app, &format!("with=body&limit={limit}{next}")).await;
            let items = page["items"].as_array().unwrap();
            walked.extend(
                items.iter().map(|entry| entry["body"].as_str().unwrap().trim().parse::<u32>().unwrap()),
            );
            let Some(cursor) = page["next_cursor"].as_str() else { break };
            next = format!("&cursor={cursor}");
        }
        walked.sort_unstable();
        assert_eq!(walked, (1..=11).collect::<Vec<_>>(), "{limit}");
    }
    app.stop().await;
}

#[tokio::test]
async fn what_cannot_be_asked_of_the_parked_is_refused() {
    let app = spoiled().await;
    let cursor = page(&app, "limit=1").await["next_cursor"].as_str().unwrap().to_owned();
    for (query, code) in [
        ("outcome=applied".to_owned(), "bad_parameter"),
        ("cause=lost".to_owned(), "bad_parameter"),
        ("user_id=ana".to_owned(), "bad_parameter"),
        ("cursor=x".to_owned(), "bad_cursor"),
        (format!("cursor={cursor}&cause=bad_id"), "bad_cursor"),
    ] {
        let url = app.service.api_url(&format!("/v1/parked?{query}"));
        let answer = app.service.client.get(url).bearer_auth(API_TOKEN).send().await.unwrap();
        assert_problem(answer, 400, code).await;
    }
    app.stop().await;
}

/// Fifty thousand applied entries and five parked ones.
#[tokio::test]
async fn the_list_of_the_parked_reads_its_index_however_long_the_ledger_is() {
    let app = App::start().await;
    let mut conn = app.connect().await;
    let fill = format!(
        "INSERT INTO ledger (sdk_app_id, group_id, time_ms, digest, command, received_at, source, outcome, reason, causes, body)
         SELECT 1400000001, 'g', n, substr(sha256(n::text::bytea), 1, 16), 'c', to_timestamp(({T0} + n) / 1000.0), 'callback',
                CASE WHEN n % 10000 = 0 THEN 'parked' ELSE 'applied' END,
                CASE WHEN n % 10000 = 0 THEN 'why' END, CASE WHEN n % 10000 = 0 THEN '{{bad_id}}'::text[] END, '\\x00'
           FROM generate_series(1, 50000) n; ANALYZE ledger"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(fill)).execute(&mut conn).await.unwrap();
    let before: i64 = sqlx::query_scalar(SCANS).fetch_one(&mut conn).await.unwrap();
    assert_eq!(page(&app, "").await["items"].as_array().unwrap().len(), 5);
    let counted = crate::support::eventually(async || {
        let mut conn = app.database.connect().await;
        sqlx::query_scalar::<_, i64>(SCANS).fetch_one(&mut conn).await.unwrap() > before
    });
    assert!(counted.await, "the partial index is used");
    app.stop().await;
}

/// Each partition has an index of its own.
const SCANS: &str = "SELECT sum(idx_scan)::bigint FROM pg_stat_user_indexes
  WHERE indexrelid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'ledger_unread_idx'::regclass)";

/// Twenty thousand applied entries of a group and as many parked ones; none matches a filter for another command, group or
/// cause.
const MANY: &str = r"
INSERT INTO ledger (sdk_app_id, group_id, time_ms, digest, command, received_at, source, outcome, reason, causes, body)
SELECT 1400000001, CASE WHEN n % 2 = 0 THEN 'g' ELSE 'p' || n % 4 END, n, substr(sha256(n::text::bytea), 1, 16), 'c',
       to_timestamp(1767225600 + n / 100), 'callback', CASE WHEN n % 2 = 0 THEN 'applied' ELSE 'parked' END,
       CASE WHEN n % 2 = 1 THEN 'why' END, CASE WHEN n % 2 = 1 THEN '{not_json}'::text[] END, '{}'
  FROM generate_series(1, 40000) n;
ANALYZE ledger";

/// Rows that this session has visited and has not yet reported, which it does between transactions: a difference within
/// one is exact.
const VISITED: &str = "
SELECT COALESCE(sum(COALESCE(seq_tup_read, 0) + COALESCE(idx_tup_fetch, 0)), 0)::bigint FROM pg_stat_xact_user_tables
 WHERE relid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'ledger'::regclass)";

async fn visited(conn: &mut PgConnection) -> i64 {
    sqlx::query_scalar(VISITED).fetch_one(conn).await.unwrap()
}

/// Aim: a page visits the rows that it may search, whatever the filter and the planner's estimate. Method: rows are counted,
/// once to find the end of the search and once to read, for filters that match nothing and for one that matches a group.
#[tokio::test]
async fn a_page_with_a_filter_visits_the_entries_that_it_may_search_and_no_more() {
    let database = TestDatabase::create().await;
    let mut conn = database.connect().await;
    sqlx::raw_sql(MANY).execute(&mut conn).await.unwrap();
    conn.execute("SET plan_cache_mode = force_custom_plan").await.unwrap();
    let app = SdkAppId::parse("1400000001").unwrap();
    let (no_causes, bad_id) = (Vec::new(), vec!["bad_id"]);
    let no_command = Some("none".to_owned());
    for (group, causes, outcome, command) in [
        (Some("p1"), &no_causes, None, None),
        (Some("nobody"), &no_causes, None, None),
        (None, &bad_id, None, None),
        (None, &no_causes, Some("partial"), None),
        (None, &no_causes, None, no_command.clone()),
    ] {
        let filter = ParkedFilter {
            app,
            group: group.map(|id| GroupId::parse(id).unwrap()),
            outcome,
            causes: causes.clone(),
            command,
            after: None,
            behind: ParkedCursorKey {
                received_at: "2100-01-01T00:00:00Z".parse().unwrap(),
                digest: Vec::new(),
                group: String::new(),
                time_ms: i64::MIN,
            },
        };
        let mut scope = conn.begin().await.unwrap();
        let before = visited(&mut scope).await;
        let page = parked::page(&mut scope, &filter, 500, 1 << 22).await.unwrap();
        let visited = visited(&mut scope).await - before;
        scope.rollback().await.unwrap();
        assert!(
            page.next.is_some() && (2_000..=VISITED_MAX).contains(&visited),
            "{visited} rows: {filter:?}"
        );
    }
    let group = group_key(app, GroupId::parse("g").unwrap());
    for (outcome, cause, command) in
        [(Some("parked"), None, None), (None, Some("bad_id"), None), (None, None, no_command)]
    {
        let behind = (i64::MAX, Vec::new());
        let filter = HistoryFilter { outcome, cause, command, after_ms: i64::MIN, behind };
        let mut scope = conn.begin().await.unwrap();
        let before = visited(&mut scope).await;
        let page = history::page(&mut scope, &group, &filter, 500, 1 << 22).await.unwrap().unwrap();
        let visited = visited(&mut scope).await - before;
        scope.rollback().await.unwrap();
        assert!(
            page.next.is_some() && (2_000..=VISITED_MAX).contains(&visited),
            "{visited} rows: {filter:?}"
        );
    }
}

/// Twice what a page may search, and rows at the edges of sorted parts.
const VISITED_MAX: i64 = 2 * 2_000 + 100;
