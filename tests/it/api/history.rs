//! The history of a group over HTTP: what an entry shows, the filters, the pages and their limits.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sqlx::Executor as _;

use crate::api::reads::created;
use crate::support::api::{T0, after, assert_problem};
use crate::support::{API_TOKEN, App};

fn list(users: &[&str]) -> Value {
    users.iter().map(|user| json!({ "Member_Account": user })).collect()
}

async fn history(app: &App, query: &str) -> Vec<Value> {
    let page = app.service.read(&format!("/v1/groups/g/history?{query}")).await;
    page["items"].as_array().unwrap().clone()
}

/// What an entry shows beside times, command and outcome, without empty fields.
fn told(entry: &Value) -> Value {
    let mut told = entry.clone();
    told.as_object_mut().unwrap().retain(|key, value| {
        let common = [
            "group_id",
            "group_name",
            "user_count",
            "event_time",
            "received_at",
            "command",
            "source",
            "outcome",
        ]
        .contains(&key.as_str());
        !common && !value.is_null() && *value != json!([])
    });
    told
}

/// One callback of each kind.
fn life() -> Vec<Value> {
    let river = created(
        "g",
        0,
        "River",
        json!({"Operator_Account": "admin", "Owner_Account": "ana", "MemberList": list(&["boris", "chen"]),
               "Type": "Private", "UserDefinedDataList": [{"Key": "k", "Value": "v"}]}),
    );
    let exit = after(
        "MemberExit",
        "g",
        2_000,
        json!({"ExitMemberList": list(&["chen"]), "ExitType": "Kicked", "Operator_Account": "ana"}),
    );
    vec![
        river,
        after(
            "NewMemberJoin",
            "g",
            1_000,
            json!({"NewMemberList": list(&["dora", "eve"]), "JoinType": "Invited", "Operator_Account": "boris"}),
        ),
        exit,
        after(
            "MemberFieldChanged",
            "g",
            3_000,
            json!({"Member_Account": "dora", "Role": "Admin", "NameCard": "D"}),
        ),
        after("ChangeGroupOwner", "g", 4_000, json!({"OldOwner_Account": "ana", "NewOwner_Account": "dora"})),
        after("GroupInfoChanged", "g", 5_000, json!({"Name": "", "Notification": "soon", "Type": "Work"})),
        after(
            "GroupAttrChanged",
            "g",
            6_000,
            json!({"OptionType": "set", "GroupAttr": [{"key": "a", "value": "1"}]}),
        ),
        after("GroupAttrChanged", "g", 7_000, json!({"OptionType": "delete", "GroupAttr": [{"key": "a"}]})),
        after("CreateTopic", "g", 8_000, json!({"TopicId": "g@TOPIC#_1", "Name": "T"})),
        after("GroupDestroyed", "g", 9_000, json!({"Operator_Account": "dora"})),
    ]
}

#[tokio::test]
async fn an_entry_tells_who_did_what_to_whom_and_with_what() {
    let app = App::start().await;
    let bodies = life();
    let exit = &bodies[2];
    for body in bodies.iter().filter(|body| *body != exit) {
        app.service.taken(body).await;
    }
    let query =
        "&CallbackCommand=Group.CallbackAfterMemberExit&ClientIP=203.0.113.9&OptPlatform=Web&RequestID=r-1";
    assert_eq!(app.service.post_with(query, exit.to_string()).await.status(), 200);
    let entries = history(&app, "").await;
    let commands: Vec<_> = entries.iter().map(|entry| &entry["command"]).collect();
    let sent: Vec<_> = bodies.iter().rev().map(|body| &body["CallbackCommand"]).collect();
    assert_eq!(commands, sent, "newest first");
    assert!(entries.iter().all(|entry| entry["outcome"] == "applied" && entry["source"] == "callback"));
    assert_eq!(entries[7]["event_time"], "2026-01-01T00:00:02.000Z");
    let expected = [
        json!({"operator": "admin", "users": ["boris", "chen"], "owner": "ana",
               "profile": {"type": "Work", "name": "River", "user_defined_fields": {"k": "v"}}}),
        json!({"operator": "boris", "users": ["dora", "eve"], "join_type": "Invited"}),
        json!({"operator": "ana", "users": ["chen"], "exit_type": "Kicked", "client_ip": "203.0.113.9",
               "platform": "Web", "request_id": "r-1"}),
        json!({"users": ["dora"], "role": "Admin", "name_card": "D"}),
        json!({"owner": "dora", "previous_owner": "ana"}),
        json!({"profile": {"name": "", "notification": "soon"}}),
        json!({"attributes": {"change": "set", "values": {"a": "1"}}}),
        json!({"attributes": {"change": "delete", "values": {"a": null}}}),
        json!({"topics": ["g@TOPIC#_1"], "profile": {"name": "T"}}),
        json!({"operator": "dora"}),
    ];
    let shown: Vec<_> = entries.iter().rev().map(told).collect();
    assert_eq!(shown, expected);
    let removed = history(&app, "user_id=chen&command=Group.CallbackAfterMemberExit").await;
    assert_eq!((removed.len(), &removed[0]["operator"]), (1, &json!("ana")), "who removed her");
    let keys: BTreeSet<_> =
        entries.iter().map(|entry| entry.as_object().unwrap().keys().collect::<Vec<_>>()).collect();
    assert_eq!(keys.len(), 1, "every entry has the same keys: {keys:?}");
    app.stop().await;
}

/// Bodies that another writer of JSON would write in another way: of equal keys one, numbers rounded, escapes changed, keys
/// in another order, spaces left out.
const PECULIAR: [&str; 3] = [
    r#"{"Z":1,"CallbackCommand":"Group.CallbackAfterGroupInfoChanged","GroupId":"g","Name":"first","Name":"second"}"#,
    r#"{"CallbackCommand":"Group.CallbackAfterGroupInfoChanged","GroupId":"g","Name":"n","Big":12345678901234567890123,"F":1.10}"#,
    "\u{feff}{ \"CallbackCommand\":\"Group.CallbackAfterGroupInfoChanged\",\n\t\"GroupId\":\"\\u0067\",\"Name\":\"\\u00e9\\/\\ud83d\\ude00\"}\0",
];

#[tokio::test]
async fn the_body_is_shown_on_request_as_the_bytes_that_came() {
    let app = App::start().await;
    let mut sent: Vec<Vec<u8>> = PECULIAR.iter().map(|body| body.as_bytes().to_vec()).collect();
    sent.push(
        br#"{"CallbackCommand":"Group.CallbackAfterNewMemberJoin","GroupId":"g","NewMemberList":7}"#.to_vec(),
    );
    sent.push(b"{\"CallbackCommand\":\"Group.CallbackAfterGroupInfoChanged\",\"GroupId\":\"g\",\"Name\":\"\xc8\xba\xff\"}".to_vec());
    for body in &sent {
        assert_eq!(app.service.post_with("", body.clone()).await.status(), 200);
    }
    let entries = history(&app, "with=body").await;
    let shown: Vec<Vec<u8>> = entries.iter().rev().map(bytes).collect();
    assert_eq!(shown, sent);
    let encodings: Vec<_> =
        entries.iter().rev().map(|entry| entry["body_encoding"].as_str().unwrap()).collect();
    assert_eq!(encodings, ["utf-8", "utf-8", "utf-8", "utf-8", "base64"]);
    assert_eq!(entries[1]["outcome"], "parked");
    assert_eq!((&entries[1]["users"], &entries[1]["operator"]), (&json!([]), &Value::Null));
    let without = history(&app, "").await;
    assert!(without.iter().all(|entry| entry.get("body").is_none() && entry.get("body_encoding").is_none()));
    app.stop().await;
}

/// The bytes of the body of an entry.
pub(crate) fn bytes(entry: &Value) -> Vec<u8> {
    let body = entry["body"].as_str().unwrap();
    match entry["body_encoding"].as_str() {
        Some("utf-8") => body.as_bytes().to_vec(),
        Some("base64") => STANDARD.decode(body).unwrap(),
        other => panic!("no encoding: {other:?}"),
    }
}

#[tokio::test]
async fn a_search_for_a_user_finds_what_is_parked_as_far_as_its_body_can_be_read() {
    let app = long().await;
    for body in [
        r#"{"CallbackCommand":"Group.CallbackAfterMemberFieldChanged","GroupId":"g","Member_Account":"zoe","Role":7}"#,
        r#"{"CallbackCommand":"Group.CallbackAfterNewMemberJoin","GroupId":"g","NewMemberList":"x","Operator_Account":"zoe"}"#,
        r#"{"CallbackCommand":"Group.CallbackAfterNewMemberJoin","GroupId":"g","NewMemberList":"zoe"}"#,
    ] {
        assert_eq!(app.service.post_with("", body).await.status(), 200);
    }
    let found = walk(&app, "user_id=zoe", 1, async |_| ()).await;
    let named: Vec<_> = found.iter().map(|entry| entry["command"].as_str().unwrap()).collect();
    assert_eq!(named, ["Group.CallbackAfterNewMemberJoin", "Group.CallbackAfterMemberFieldChanged"]);
    app.stop().await;
}

/// Forty entries, some of one millisecond.
async fn long() -> App {
    let app = App::start().await;
    app.service.taken(&created("g", 0, "g", json!({"Owner_Account": "ana"}))).await;
    for number in 0..39 {
        let user = format!("user{}", number % 4);
        let command = if number % 2 == 0 { "NewMemberJoin" } else { "MemberExit" };
        let key = if number % 2 == 0 { "NewMemberList" } else { "ExitMemberList" };
        let more = json!({key: list(&[&user]), "Number": number});
        app.service.taken(&after(command, "g", 1_000 + number / 5, more)).await;
    }
    app.service.parked(&json!({"CallbackCommand": "Group.CallbackAfterMemberExit", "GroupId": "g", "EventTime": T0 + 1_003}).to_string()).await;
    app
}

/// All pages with so many entries each; `between` runs before each page but the first.
async fn walk(app: &App, query: &str, limit: usize, between: impl AsyncFn(i64)) -> Vec<Value> {
    let (mut seen, mut next, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page =
            app.service.read(&format!("/v1/groups/g/history?{query}&with=body&limit={limit}{next}")).await;
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= limit);
        seen.extend(items.iter().cloned());
        let Some(cursor) = page["next_cursor"].as_str() else { return seen };
        next = format!("&cursor={cursor}");
        pages += 1;
        between(pages).await;
    }
}

fn numbers(entries: &[Value]) -> Vec<i64> {
    let said = |entry: &Value| serde_json::from_slice::<Value>(&bytes(entry)).unwrap();
    entries.iter().filter_map(|entry| said(entry)["Number"].as_i64()).collect()
}

#[tokio::test]
async fn walking_shows_each_entry_once_also_while_new_ones_arrive() {
    let app = long().await;
    let whole = history(&app, "with=body&limit=500").await;
    assert_eq!(whole.len(), 41);
    let times: Vec<_> = whole.iter().map(|entry| entry["event_time"].as_str().unwrap()).collect();
    assert!(times.is_sorted_by(|a, b| a >= b), "{times:?}");
    for limit in 1..=3 {
        let arriving = async |page: i64| {
            if page % 5 != 1 {
                return;
            }
            // One entry newer than all, and one that arrives late with the oldest event time of all.
            let more = json!({"NewMemberList": list(&["late"]), "Page": page, "Limit": limit});
            app.service.taken(&after("NewMemberJoin", "g", 60_000 + page, more.clone())).await;
            app.service.taken(&after("NewMemberJoin", "g", -60_000, more)).await;
        };
        let walked = walk(&app, "", limit, arriving).await;
        assert_eq!(numbers(&walked), numbers(&whole), "{limit}");
        let all: BTreeSet<String> = walked.iter().map(|entry| entry["body"].to_string()).collect();
        assert_eq!(all.len(), walked.len(), "none comes twice");
    }
    app.stop().await;
}

#[tokio::test]
async fn every_filter_narrows_to_what_it_names() {
    let app = long().await;
    let whole = history(&app, "with=body&limit=500").await;
    let quiet = async |_| ();
    let matching = |keep: &dyn Fn(&Value) -> bool| -> Vec<Value> {
        whole.iter().filter(|entry| keep(entry)).cloned().collect()
    };
    let exit = "Group.CallbackAfterMemberExit";
    let time = |entry: &Value| entry["event_time"].as_str().unwrap().to_owned();
    let named = |entry: &Value| entry["users"] == json!(["user3"]);
    let expected = [
        ("outcome=applied", matching(&|entry| entry["outcome"] == "applied")),
        ("outcome=parked", matching(&|entry| entry["outcome"] == "parked")),
        ("command=Group.CallbackAfterMemberExit", matching(&|entry| entry["command"] == exit)),
        ("command=Group.CallbackAfter", Vec::new()),
        ("user_id=user3", matching(&named)),
        ("user_id=ana", matching(&|entry| entry["owner"] == "ana" || entry["operator"] == "ana")),
        ("user_id=user", Vec::new()),
        ("after=2026-01-01T00:00:01.002Z", matching(&|entry| *time(entry) > *"2026-01-01T00:00:01.002Z")),
        ("after=2026-01-01T00:00:01.0029Z", matching(&|entry| *time(entry) > *"2026-01-01T00:00:01.002Z")),
        ("before=2026-01-01T00:00:01.002Z", matching(&|entry| *time(entry) < *"2026-01-01T00:00:01.002Z")),
        ("before=2026-01-01T00:00:01.0021Z", matching(&|entry| *time(entry) <= *"2026-01-01T00:00:01.002Z")),
        (
            "after=2026-01-01T00:00:01.001Z&before=2026-01-01T00:00:01.003Z&user_id=user3",
            matching(&|entry| named(entry) && time(entry) == "2026-01-01T00:00:01.002Z"),
        ),
    ];
    for (query, expected) in expected {
        for limit in [1, 3, 50] {
            assert_eq!(walk(&app, query, limit, quiet).await, expected, "{query}&limit={limit}");
        }
    }
    app.stop().await;
}

/// Ledger rows about one user with bodies of so many bytes, written by SQL.
async fn fill(app: &App, rows: i64, bytes: i64) {
    let statement = format!(
        r#"INSERT INTO ledger (sdk_app_id, group_id, time_ms, digest, command, event_time_ms, received_at, source,
                               outcome, body)
         SELECT 1400000001, 'g', {T0} + n, substr(sha256(n::text::bytea), 1, 16), 'Group.CallbackAfterNewMemberJoin', {T0} + n,
                to_timestamp(({T0} + n) / 1000.0), 'callback', 'applied',
                convert_to('{{"CallbackCommand":"Group.CallbackAfterNewMemberJoin","GroupId":"g","EventTime":' || {T0} + n
                    || ',"NewMemberList":[{{"Member_Account":"user' || n || '"}}]}}' || repeat(' ', {bytes}), 'UTF8')
           FROM generate_series(1, {rows}) n"#
    );
    app.connect().await.execute(sqlx::AssertSqlSafe(statement)).await.unwrap();
}

#[tokio::test]
async fn a_page_of_large_bodies_ends_early_and_leads_on() {
    let app = App::start().await;
    fill(&app, 11, 1024 * 1024).await;
    let page = app.service.read("/v1/groups/g/history").await;
    assert_eq!(page["items"].as_array().unwrap().len(), 4, "4 MiB");
    let all = walk(&app, "", 50, async |_| ()).await;
    let users: Vec<_> = all.iter().map(|entry| entry["users"][0].as_str().unwrap().to_owned()).collect();
    assert_eq!(users, (1..=11).rev().map(|number| format!("user{number}")).collect::<Vec<_>>());
    app.stop().await;
}

#[tokio::test]
async fn a_search_for_a_user_looks_through_a_limited_number_of_entries_and_leads_on() {
    let app = App::start().await;
    fill(&app, 4_500, 0).await;
    let page = app.service.read("/v1/groups/g/history?user_id=user1").await;
    assert_eq!(page["items"], json!([]));
    assert!(page["next_cursor"].is_string());
    let found = walk(&app, "user_id=user1", 50, async |_| ()).await;
    assert_eq!((found.len(), &found[0]["users"]), (1, &json!(["user1"])));
    app.stop().await;
}

async fn problem(app: &App, path: &str, status: u16, code: &str) -> String {
    let url = app.service.api_url(path);
    let answer = app.service.client.get(url).bearer_auth(API_TOKEN).send().await.unwrap();
    assert_problem(answer, status, code).await["detail"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_and_a_group_that_only_the_ledger_knows_is_shown() {
    let app = long().await;
    for (query, words) in [
        ("at=2026-01-01T00:00:00Z", "Unknown parameter"),
        ("outcome=lost", "applied, partial, parked"),
        ("cause=lost", "not_json"),
        ("command=", "1,024|1024"),
        ("user_id=", "empty"),
        ("after=yesterday", "RFC 3339"),
        ("before=0", "RFC 3339"),
        ("with=bodies", "body"),
        ("limit=501", "500"),
        ("limit=0", "500"),
    ] {
        let detail = problem(&app, &format!("/v1/groups/g/history?{query}"), 400, "bad_parameter").await;
        assert!(words.split('|').any(|word| detail.contains(word)), "{query}: {detail}");
    }
    problem(&app, "/v1/groups/nobody/history", 404, "not_found").await;
    assert!(history(&app, "before=2020-01-01T00:00:00Z").await.is_empty());
    let page = app.service.read("/v1/groups/g/history?limit=1").await;
    let cursor = page["next_cursor"].as_str().unwrap();
    app.service.read(&format!("/v1/groups/g/history?limit=2&with=body&cursor={cursor}")).await;
    for path in ["/v1/groups/g/history?outcome=applied&", "/v1/groups/h/history?", "/v1/groups/g/members?"] {
        problem(&app, &format!("{path}cursor={cursor}"), 400, "bad_cursor").await;
    }
    problem(&app, "/v1/groups/g/history?cursor=x", 400, "bad_cursor").await;
    let parked = json!({"CallbackCommand": "Group.CallbackAfterMemberExit", "GroupId": "only parked"});
    app.service.parked(&parked.to_string()).await;
    let page = app.service.read("/v1/groups/only%20parked/history").await;
    assert_eq!(page["items"][0]["outcome"], "parked");
    app.stop().await;
}
