//! What one read may take from the others: pages in bytes, costly lists at once, folds of the past.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::StatusCode;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _};

use crate::api::reads::created;
use crate::support::api::{APP, Api, T0, after, told};
use crate::support::postgres::TestDatabase;
use crate::support::{API_TOKEN, App, eventually};

/// A page with texts of 4 MiB, one row beyond, and what JSON adds.
const ANSWER_BYTES_MAX: usize = 5 * 1024 * 1024;

/// Walks a list, checks the size of each answer, and returns one text per item and the number of pages.
async fn walk(api: &Api, path: &str, pointer: &str) -> (Vec<String>, usize) {
    let (mut seen, mut next, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let text = api.get(&format!("{path}&limit=500{next}")).await.text().await.unwrap();
        assert!(text.len() < ANSWER_BYTES_MAX, "{path}: {} bytes", text.len());
        let page: Value = serde_json::from_str(&text).unwrap();
        let items = page["items"].as_array().unwrap_or_else(|| panic!("{path}: {text:.200}"));
        seen.extend(items.iter().map(|item| item.pointer(pointer).unwrap().as_str().unwrap().to_owned()));
        pages += 1;
        assert!(!items.is_empty(), "a page has one row at least");
        match page["next_cursor"].as_str() {
            Some(cursor) => next = format!("&cursor={cursor}"),
            None => return (seen, pages),
        }
    }
}

#[tokio::test]
async fn a_page_of_long_texts_ends_early_and_the_next_one_goes_on() {
    let long = "i".repeat(400_000);
    let mut bodies = Vec::new();
    for number in 0..30 {
        let more = json!({"Introduction": long, "Owner_Account": "ana"});
        bodies.push(created(&format!("g{number:02}"), number, "n", more));
        let card = json!({"Member_Account": format!("u{number:02}"), "NameCard": long});
        bodies.push(after(
            "NewMemberJoin",
            "cards",
            number,
            json!({"NewMemberList": [{"Member_Account": format!("u{number:02}")}]}),
        ));
        bodies.push(after("MemberFieldChanged", "cards", number + 1, card));
        let topic = json!({"TopicId": format!("c@TOPIC#_{number:02}"), "Name": "t", "Introduction": long});
        bodies.push(after("CreateTopic", "c", number, topic));
    }
    // More than a page by itself.
    bodies.push(created(
        "huge",
        40,
        "n",
        json!({"Introduction": "i".repeat(900_000), "Owner_Account": "ana"}),
    ));
    let fields: Vec<Value> =
        (0..10).map(|key| json!({"Key": format!("k{key}"), "Value": "v".repeat(90_000)})).collect();
    bodies.push(created("fields", 50, "n", json!({"UserDefinedDataList": fields, "Owner_Account": "ana"})));
    let api = Api::of(&bodies).await;
    for (path, pointer, expected) in [
        ("/v1/groups?sort=group_id", "/group_id", 32),
        ("/v1/groups?sort=created_at", "/group_id", 32),
        ("/v1/groups?member=ana", "/group_id", 32),
        ("/v1/users/ana/groups?status=all", "/group/group_id", 32),
        ("/v1/groups/cards/members?status=member", "/user_id", 30),
        ("/v1/groups/c/topics?status=active", "/topic_id", 30),
    ] {
        let (seen, pages) = walk(&api, path, pointer).await;
        let distinct: BTreeSet<_> = seen.iter().collect();
        assert_eq!((seen.len(), distinct.len()), (expected, expected), "{path}");
        assert!(pages >= 3, "{path}: {pages} pages");
    }
    api.stop().await;
}

#[tokio::test]
async fn a_reason_is_cut_in_the_answer_to_tencent_and_in_the_history() {
    let app = App::start().await;
    let unknown = json!({"CallbackCommand": format!("Group.X{}", "y".repeat(900_000)), "GroupId": "g"});
    let many: Vec<Value> = (0..5_000).map(|number| json!({"Member_Account": number})).collect();
    let bad = after("NewMemberJoin", "g", 0, json!({"NewMemberList": many}));
    for body in [unknown, bad] {
        let answer = app.service.post_with("", body.to_string()).await;
        assert_eq!(answer.status(), StatusCode::OK);
        let answer: Value = answer.json().await.unwrap();
        let info = answer["ErrorInfo"].as_str().unwrap();
        assert!(info.contains(": ") && info.len() < 8_192, "{} bytes: {info:.100}", info.len());
    }
    let history = app.service.read("/v1/groups/g/history").await;
    let items = history["items"].as_array().unwrap();
    assert_eq!(items.len(), 2);
    assert!(items.iter().all(|item| item["reason"].as_str().unwrap().len() < 8_192));
    app.stop().await;
}

const RUNNING: &str = "
SELECT count(*) FROM pg_stat_activity
 WHERE datname = current_database() AND state = 'active' AND pid <> pg_backend_pid() AND query LIKE 'SELECT * FROM (%'";

/// Aim: however many searches are asked for, one runs, those of clients that have given up included; the rest is answered in
/// turn or with 503 and `Retry-After`, and what is no search does not wait. Method: statuses, and what the server runs.
#[tokio::test(flavor = "multi_thread")]
async fn sixty_searches_at_once_run_one_by_one_and_others_do_not_wait_for_them() {
    let fill =
        include_str!("../../../benches/fill.sql").replace("GROUPS)", "60000)").replace("MEMBERS)", "1)");
    let api = Api::start(Vec::new(), |_| {}).await;
    let mut conn = api.connect().await;
    conn.execute(AssertSqlSafe(fill)).await.unwrap();
    let url = format!("{}/v1/groups?name=zzzz&status=all", api.base);
    let given_up = join_all((0..40).map(|_| api.client.get(&url).timeout(Duration::from_millis(20)).send()));
    let ended = AtomicBool::new(false);
    let searches = async {
        let answers = join_all((0..60).map(|_| api.client.get(&url).send())).await;
        ended.store(true, Ordering::Relaxed);
        answers
    };
    let watched = async {
        let mut most = 0_i64;
        while !ended.load(Ordering::Relaxed) {
            most = most.max(sqlx::query_scalar(RUNNING).fetch_one(&mut conn).await.unwrap());
        }
        most
    };
    let (_, answers, most) = tokio::join!(given_up, searches, watched);
    assert_eq!(most, 1, "searches at once");
    let mut served = 0;
    for answer in answers {
        let answer = answer.unwrap();
        match answer.status() {
            StatusCode::OK => served += 1,
            status => {
                assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
                assert!(answer.headers().contains_key("retry-after"));
            }
        }
    }
    assert!(served > 0);
    let searches = join_all((0..60).map(|_| api.client.get(&url).send()));
    let others = async {
        for _ in 0..20 {
            assert_eq!(api.get("/v1/groups?limit=1").await.status(), StatusCode::OK);
            assert_eq!(api.get("/v1/groups/%40TGS%23C81E728D9D4C").await.status(), StatusCode::OK);
            assert_eq!(api.get("/v1/groups?owner=owner-7&name=walkers").await.status(), StatusCode::OK);
        }
    };
    tokio::join!(searches, others);
    drop(conn);
    api.stop().await;
}

fn at(moment: i64, query: &str) -> String {
    let time = chrono::DateTime::from_timestamp_millis(T0 + moment).unwrap();
    format!("/v1/groups/g/members?at={}{query}", time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true))
}

/// Aim: a walk as of a moment is folded once and shows one state, and the next walk shows what came late. Method: behind the
/// first page the ledger is locked, so that no page can be folded; then a callback arrives that changes the past.
#[tokio::test]
async fn the_pages_of_a_moment_come_from_one_fold_and_a_late_callback_changes_the_next_first_page() {
    let app = App::start().await;
    let list = json!([{"Member_Account": "b"}, {"Member_Account": "d"}, {"Member_Account": "f"}]);
    app.service.taken(&created("g", 0, "g", json!({"Owner_Account": "h", "MemberList": list}))).await;
    let users = |page: &Value| -> Vec<String> {
        page["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["user_id"].as_str().unwrap().to_owned())
            .collect()
    };
    let first = app.service.read(&at(100, "&limit=1")).await;
    assert_eq!(users(&first), ["b"]);
    let next = format!("&limit=1&cursor={}", first["next_cursor"].as_str().unwrap());
    let mut conn = app.connect().await;
    conn.execute("BEGIN; LOCK TABLE ledger IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let get = async |path: String| {
        let answer =
            app.service.client.get(app.service.api_url(&path)).bearer_auth(API_TOKEN).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        answer.json::<Value>().await.unwrap()
    };
    let second = get(at(100, &next)).await;
    assert_eq!(users(&second), ["d"], "no fold is needed");
    conn.execute("ROLLBACK").await.unwrap();
    let late = json!({"NewMemberList": [{"Member_Account": "c"}, {"Member_Account": "e"}]});
    app.service.taken(&after("NewMemberJoin", "g", 50, late)).await;
    app.service.until(|told| told["spool"]["depth"] == 0).await;
    let third = format!("&limit=1&cursor={}", second["next_cursor"].as_str().unwrap());
    assert_eq!(users(&get(at(100, &third)).await), ["f"], "the walk shows the state that it began with");
    let came = eventually(async || users(&get(at(100, "")).await) == ["b", "c", "d", "e", "f", "h"]).await;
    assert!(came, "the next first page shows the late callback");
    assert_eq!(users(&get(at(100, &third)).await), ["f"], "the walk that goes on still shows its state");
    app.stop().await;
}

/// Aim: the pages of a walk show one state also while another program's transaction holds the high watermark back, and such
/// a fold, which may lack an entry, is no one else's. Method: a foreign transaction has written to the ledger and stays open.
/// A late callback comes behind the first page; in the end the transaction locks the ledger, so that nothing can be folded.
#[tokio::test]
async fn the_pages_of_a_moment_show_one_state_beside_a_writer_that_stays_open() {
    let app = App::start().await;
    let list = json!([{"Member_Account": "b"}, {"Member_Account": "d"}, {"Member_Account": "f"}]);
    app.service.taken(&created("g", 0, "g", json!({"Owner_Account": "h", "MemberList": list}))).await;
    app.service.until(|told| told["spool"]["depth"] == 0).await;
    let mut foreign = app.connect().await;
    foreign.execute("BEGIN").await.unwrap();
    foreign.execute(ENTRY_OF_ANOTHER).await.unwrap();
    let page = async |query: &str| {
        let page = app.service.read(&at(100, query)).await;
        let users: Vec<String> = page["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["user_id"].as_str().unwrap().to_owned())
            .collect();
        let next = page["next_cursor"].as_str().map(|cursor| format!("&limit=1&cursor={cursor}"));
        (users, next.unwrap_or_default())
    };
    let (users, second) = page("&limit=1").await;
    assert_eq!(users, ["b"]);
    let late = json!({"NewMemberList": [{"Member_Account": "c"}, {"Member_Account": "e"}]});
    app.service.taken(&after("NewMemberJoin", "g", 50, late)).await;
    app.service.until(|told| told["spool"]["depth"] == 0).await;
    let came = eventually(async || page("").await.0 == ["b", "c", "d", "e", "f", "h"]).await;
    assert!(came, "the next first page shows the late callback");
    let (users, third) = page(&second).await;
    assert_eq!(users, ["d"], "the walk shows the state that it began with");
    foreign.execute("LOCK TABLE ledger IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let (users, fourth) = page(&third).await;
    assert_eq!(users, ["f"], "no fold is needed");
    assert_eq!(page(&fourth).await.0, ["h"]);
    foreign.execute("COMMIT").await.unwrap();
    app.stop().await;
}

const ENTRY_OF_ANOTHER: &str = r"
INSERT INTO ledger (sdk_app_id, group_id, time_ms, digest, command, received_at, source, outcome, body)
VALUES (1400000001, 'other', 1, substr(sha256('\x01'), 1, 16), 'c', now(), 'callback', 'applied', '{}')";

/// Six thousand entries of a group, the oldest parked under a command of its own, every third under another one; and as
/// many parked ones of which the oldest differs in everything.
const SEARCHED: &str = r"
INSERT INTO ledger (sdk_app_id, group_id, time_ms, digest, command, received_at, source, outcome, reason, causes, body)
SELECT 1400000001, 'g', n, substr(sha256(n::text::bytea), 1, 16), CASE WHEN n = 1 THEN 'Rare' WHEN n % 3 = 0 THEN 'Third' ELSE 'c' END,
       '2020-01-01', 'callback', CASE WHEN n = 1 THEN 'parked' ELSE 'applied' END, CASE WHEN n = 1 THEN 'why' END,
       CASE WHEN n = 1 THEN '{bad_id}'::text[] END, '{}'
  FROM generate_series(1, 6000) n;
INSERT INTO ledger (sdk_app_id, group_id, time_ms, digest, command, received_at, source, outcome, reason, causes, body)
SELECT 7, CASE WHEN n = 1 THEN 'rare' ELSE 'p' END, n, substr(sha256(n::text::bytea), 1, 16),
       CASE WHEN n = 1 THEN 'Rare' WHEN n % 3 = 0 THEN 'Third' ELSE 'c' END,
       to_timestamp(1767225600 + n / 100), 'callback', CASE WHEN n = 1 THEN 'partial' ELSE 'parked' END, 'why',
       CASE WHEN n = 1 THEN '{bad_id}'::text[] ELSE '{not_json}' END, '{}'
  FROM generate_series(1, 6000) n;
ANALYZE ledger";

/// Aim: a page with a filter costs the entries that it may search, whatever matches. Method: the only match is the oldest of
/// six thousand entries, so that two empty pages lead on to it; of many matches a walk shows each once.
#[tokio::test]
async fn a_page_of_a_history_or_of_the_parked_with_a_filter_searches_2000_entries_and_leads_on() {
    let api = Api::start(Vec::new(), |_| {}).await;
    sqlx::raw_sql(SEARCHED).execute(&mut api.connect().await).await.unwrap();
    let history = "/v1/groups/g/history?";
    let parked = "/v1/parked?sdk_app_id=7&";
    for (list, filters) in [
        (history, &["command=Rare", "outcome=parked", "cause=bad_id", "outcome=parked&command=Rare"][..]),
        (parked, &["command=Rare", "outcome=partial", "cause=bad_id", "reason=bad_id", "group_id=rare"][..]),
    ] {
        for filter in filters {
            let path = format!("{list}{filter}&limit=500");
            let (mut pages, mut next) = (Vec::new(), String::new());
            loop {
                let page = api.json(&format!("{path}{next}")).await;
                pages.push(page["items"].as_array().unwrap().len());
                let Some(cursor) = page["next_cursor"].as_str() else { break };
                next = format!("&cursor={cursor}");
            }
            assert_eq!(pages, [0, 0, 1], "{path}");
        }
        for limit in [7, 500] {
            let mut bodies = 0;
            let mut next = String::new();
            let mut seen = BTreeSet::new();
            loop {
                let page = api.json(&format!("{list}command=Third&limit={limit}{next}")).await;
                let Some(cursor) = page["next_cursor"].as_str() else {
                    bodies += page["items"].as_array().unwrap().len();
                    break;
                };
                bodies += page["items"].as_array().unwrap().len();
                assert!(seen.insert(cursor.to_owned()), "a cursor leads on");
                next = format!("&cursor={cursor}");
            }
            assert_eq!(bodies, 2_000, "{list} {limit}");
        }
    }
    api.stop().await;
}

/// The statements of pages and of the ends of their searches. Counts of the ledger wait as well.
const WAITING_FOR_THE_LEDGER: &str = "
SELECT query FROM pg_stat_activity
 WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%time_ms%FROM%ledger%'";

/// Aim: clients that hang up cannot take more connections than reads of bodies may have, and the rest serves other lists.
/// Method: the ledger is locked, so that each such read stays in the server after its client has gone.
#[tokio::test(flavor = "multi_thread")]
async fn pages_of_bodies_whose_clients_have_hung_up_keep_their_permits_and_others_find_connections() {
    let api = Api::of(&[created("g", 0, "g", json!({"Owner_Account": "ana"}))]).await;
    let mut conn = api.connect().await;
    conn.execute("BEGIN; LOCK TABLE ledger IN ACCESS EXCLUSIVE MODE").await.unwrap();
    for list in ["groups/g/history?", "groups/g/history?command=c", "parked?", "parked?outcome=parked"] {
        let url = format!("{}/v1/{list}", api.base);
        let hung_up =
            join_all((0..12).map(|_| api.client.get(&url).timeout(Duration::from_millis(100)).send())).await;
        assert!(hung_up.iter().all(Result::is_err), "{list}");
    }
    let waiting: Vec<String> = sqlx::query_scalar(WAITING_FOR_THE_LEDGER).fetch_all(&mut conn).await.unwrap();
    assert!((1..=4).contains(&waiting.len()), "reads of bodies in the server: {waiting:#?}");
    assert_eq!(api.get("/v1/groups?limit=1").await.status(), StatusCode::OK);
    conn.execute("ROLLBACK").await.unwrap();
    let served = eventually(async || api.get("/v1/parked").await.status() == StatusCode::OK).await;
    assert!(served, "the permits are given back");
    api.stop().await;
}

/// Databases whose own notion of case is of no use: locale C, and a Turkish one where the server has ICU.
#[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
async fn odd_locales() -> Vec<(&'static str, TestDatabase)> {
    let mut databases =
        vec![("C", TestDatabase::create_empty_as("ENCODING 'UTF8' LOCALE 'C'").await.unwrap())];
    let turkish = "ENCODING 'UTF8' LOCALE 'C' LOCALE_PROVIDER icu ICU_LOCALE 'tr-TR'";
    match TestDatabase::create_empty_as(turkish).await {
        Ok(database) => databases.push(("tr-TR", database)),
        Err(error) => println!("skipped: no Turkish database: {error}"),
    }
    databases
}

#[tokio::test]
async fn a_name_is_found_in_any_case_of_any_script_whatever_the_locale_of_the_database() {
    let names = [
        ("cyrillic", "Прогулка у реки"),
        ("greek", "ΟΔΟΣ ΣΑΣ"),
        ("german", "Große Straße"),
        ("wide", "ＡＢＣ clubs"),
        ("accents", "École Été"),
        ("turkish", "Istanbul ISPARTA"),
        ("han", "群聊 ABC"),
        ("sign", "100% a_b"),
    ];
    let bodies: Vec<Value> =
        names.iter().map(|(id, name)| created(id, 0, name, json!({"Owner_Account": "ana"}))).collect();
    for (locale, database) in odd_locales().await {
        let facts = bodies.iter().flat_map(|body| told(APP, body)).collect();
        let api = Api::start_on(database, facts, |_| {}).await;
        for (part, expected) in [
            ("ПРОГУЛКА", "cyrillic"),
            ("прогулка У", "cyrillic"),
            ("οδός".trim_end_matches('ς').trim_end_matches('ό'), "greek"),
            ("οδος σας", "greek"),
            ("STRASSE", "german"),
            ("straẞe", "german"),
            ("GROSSE", "german"),
            ("ａｂｃ", "wide"),
            ("éCOLE é", "accents"),
            ("isparta", "turkish"),
            ("ISTANBUL", "turkish"),
            ("聊 abc", "han"),
            ("0% A_", "sign"),
        ] {
            let query = form_urlencoded::Serializer::new(String::new()).append_pair("name", part).finish();
            assert_eq!(api.groups(&query).await, [expected.to_owned()].into(), "{locale}: {part}");
        }
        for part in ["Ecole", "_lub", "прогулкa"] {
            let query = form_urlencoded::Serializer::new(String::new()).append_pair("name", part).finish();
            assert_eq!(api.groups(&query).await, BTreeSet::new(), "{locale}: {part}");
        }
        api.stop().await;
    }
}

/// Aim: reads that wait and cannot be served leave places for health checks. Method: every list by member waits for a lock, so
/// that all places for reads are taken; what comes beyond them is refused at once, and health answers meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn health_answers_while_every_place_for_reads_is_taken() {
    let api = Api::of(&[created("g", 0, "g", json!({"Owner_Account": "ana"}))]).await;
    let mut conn = api.connect().await;
    conn.execute("BEGIN; LOCK TABLE group_members IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let url = format!("{}/v1/groups?member=ana", api.base);
    let reads = join_all(
        (0..300).map(|_| async { api.client.get(&url).send().await.unwrap().text().await.unwrap() }),
    );
    let health = async {
        // A request that is refused for another reason while there is a place, and without the database.
        let refused = async || {
            let answer = api.get("/v1/groups?unknown=1").await;
            answer.status() == StatusCode::SERVICE_UNAVAILABLE && answer.headers().contains_key("retry-after")
        };
        assert!(eventually(refused).await, "the places are never taken");
        for path in ["/livez", "/readyz"] {
            assert_eq!(api.get(path).await.status(), StatusCode::OK, "{path}");
        }
        conn.execute("ROLLBACK").await.unwrap();
    };
    let (answers, ()) = tokio::join!(reads, health);
    let refused = answers.iter().filter(|text| text.contains("Too many reads are in work")).count();
    assert!(refused > 0 && refused < 300, "{refused}");
    assert_eq!(api.get("/v1/groups/g").await.status(), StatusCode::OK, "the places are given back");
    api.stop().await;
}
