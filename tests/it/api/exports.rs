//! Lists as files: every list as CSV and NDJSON, whole, the same as a walk through its pages; fewer fields; what breaks off.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use reqwest::Response;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::api::reads::{created, river};
use crate::support::api::{Api, after, assert_problem, request_id};
use crate::support::{API_TOKEN, App, Service, eventually};

async fn get(service: &Service, path: &str, accept: &str) -> Response {
    let request = service.client.get(service.api_url(path)).bearer_auth(API_TOKEN).header("Accept", accept);
    request.send().await.unwrap()
}

async fn whole(service: &Service, path: &str, accept: &str) -> String {
    let answer = get(service, path, accept).await;
    assert_eq!(answer.status(), 200, "{path}");
    answer.text().await.unwrap()
}

/// All items of a list, page by page.
async fn walked(service: &Service, path: &str) -> Vec<Value> {
    let (mut items, mut next) = (Vec::new(), String::new());
    loop {
        let join = if path.contains('?') { '&' } else { '?' };
        let page = service.read(&format!("{path}{join}limit=2{next}")).await;
        items.extend(page["items"].as_array().unwrap().iter().cloned());
        let goes_on = page.get("more").is_none_or(|more| more == true);
        match page["next_cursor"].as_str().filter(|_| goes_on) {
            Some(cursor) => next = format!("&cursor={cursor}"),
            None => return items,
        }
    }
}

fn rows(csv: &str) -> (Vec<String>, Vec<BTreeMap<String, String>>) {
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let names: Vec<String> = reader.headers().unwrap().iter().map(str::to_owned).collect();
    let row =
        |record: csv::StringRecord| names.iter().cloned().zip(record.iter().map(str::to_owned)).collect();
    let rows = reader.records().map(|record| row(record.unwrap())).collect();
    (names, rows)
}

/// A cell without the apostrophes that are not of its value: one at its beginning, and one behind each separator.
fn said(cell: &str) -> String {
    let (mut text, mut begins) = (String::new(), true);
    for letter in cell.chars() {
        if !(begins && letter == '\'') {
            text.push(letter);
            begins = [';', '\t', '\n', '\r'].contains(&letter);
        } else {
            begins = false;
        }
    }
    text
}

/// What a cell says, as the documents describe it.
fn assert_says(cell: &str, value: &Value) {
    match value {
        Value::Null => assert_eq!(cell, ""),
        Value::String(text) => assert_eq!(&said(cell), text),
        other => assert_eq!(&serde_json::from_str::<Value>(cell).unwrap(), other),
    }
}

fn assert_same(csv: &str, items: &[Value], path: &str) -> Vec<String> {
    let (names, rows) = rows(csv);
    assert_eq!(rows.len(), items.len(), "{path}");
    for (row, item) in rows.iter().zip(items) {
        for name in &names {
            let value = item.pointer(&format!("/{}", name.replace('.', "/"))).unwrap_or(&Value::Null);
            assert_says(&row[name], value);
        }
    }
    names
}

/// The paths of the lists, as the document has them, about things that are there.
async fn lists(service: &Service) -> Vec<String> {
    let document = service.read("/openapi.json").await;
    let paths = document["paths"].as_object().unwrap().iter();
    let lists =
        paths.filter(|(_, item)| item["get"]["responses"]["200"]["content"].get("text/csv").is_some());
    lists.map(|(path, _)| path.replace("{group_id}", "c").replace("{user_id}", "ana")).collect()
}

async fn filled() -> App {
    let app = App::start().await;
    let nasty =
        ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "'quoted", "a,b\"c\"\r\nd", "<script>", "\u{202e}rtl", "é"];
    for (number, name) in (0..).zip(nasty) {
        let more = json!({"Owner_Account": "ana", "MemberList": [{"Member_Account": format!("u{number}")}],
                          "UserDefinedDataList": [{"Key": "=k", "Value": "=v"}]});
        app.service.taken(&created(&format!("@TGS#{number}"), number, name, more)).await;
    }
    app.service.taken(&created("c", 50, "c", json!({"Type": "Community", "Owner_Account": "ana"}))).await;
    for number in 0..5 {
        let joined =
            json!({"NewMemberList": [{"Member_Account": format!("={number}")}], "JoinType": "Apply"});
        app.service.taken(&after("NewMemberJoin", "c", 100 + number, joined)).await;
        let topic = json!({"TopicId": format!("c@TOPIC#_{number}"), "Name": "=t"});
        app.service.taken(&after("CreateTopic", "c", 200 + number, topic)).await;
        let parked = json!({"CallbackCommand": "Group.CallbackAfterCreateGroup", "Name": format!("no group {number}")});
        app.service.parked(&parked.to_string()).await;
    }
    app.service.until(|readiness| readiness["spool"]["depth"] == 0).await;
    app
}

#[tokio::test]
async fn every_list_is_sent_whole_as_csv_and_as_ndjson_and_both_say_what_its_pages_say() {
    let app = filled().await;
    let lists = lists(&app.service).await;
    assert!(lists.len() >= 7, "{lists:?}");
    for path in lists {
        let items = walked(&app.service, &path).await;
        assert!(items.len() >= 5, "{path}: {} items", items.len());
        let answer = get(&app.service, &path, "application/x-ndjson").await;
        assert_eq!(answer.headers()["content-type"], "application/x-ndjson", "{path}");
        let lines = answer.text().await.unwrap();
        let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines, items, "{path}");
        let answer = get(&app.service, &path, "text/csv").await;
        request_id(&answer);
        assert_eq!(answer.headers()["content-type"], "text/csv; charset=utf-8; header=present", "{path}");
        let name = answer.headers()["content-disposition"].to_str().unwrap().to_owned();
        assert!(name.starts_with("attachment; filename=\"") && name.ends_with("Z.csv\""), "{name}");
        assert!(answer.headers().get_all("vary").iter().any(|vary| vary == "accept"), "{path}");
        let csv = answer.text().await.unwrap();
        let names = assert_same(&csv, &items, &path);
        // The columns are all that the first item has, in its order.
        let flat = |name: &String, value: &Value| match value {
            Value::Object(inner) if ["group", "member"].contains(&name.as_str()) => {
                inner.keys().map(|inner| format!("{name}.{inner}")).collect::<Vec<_>>()
            }
            _ => vec![name.clone()],
        };
        for name in items[0].as_object().unwrap().iter().flat_map(|(name, value)| flat(name, value)) {
            assert!(names.contains(&name), "{path}: {name} is no column of {names:?}");
        }
        // The link of a page cannot set a header; a spreadsheet wants the mark.
        let linked = whole(&app.service, &format!("{path}?format=csv"), "text/html,*/*;q=0.8").await;
        assert_eq!(linked.strip_prefix('\u{feff}'), Some(csv.as_str()), "{path}");
        let limited = whole(&app.service, &format!("{path}?limit=3"), "text/csv").await;
        assert_same(&limited, &items[..3], &path);
        let refused = get(&app.service, &format!("{path}?limit=0"), "text/csv").await;
        assert_problem(refused, 400, "bad_parameter").await;
        let refused = get(&app.service, &format!("{path}?format=xlsx"), "*/*").await;
        assert_problem(refused, 400, "bad_parameter").await;
    }
    app.stop().await;
}

#[tokio::test]
async fn no_cell_begins_like_a_formula() {
    let app = filled().await;
    for path in lists(&app.service).await {
        for row in rows(&whole(&app.service, &path, "text/csv").await).1 {
            for cell in row.values() {
                assert!(!cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']), "{path}: {cell:?}");
            }
        }
    }
    app.stop().await;
}

#[tokio::test]
async fn a_list_of_many_pages_is_sent_in_its_order_without_a_limit_and_up_to_one() {
    let bodies: Vec<Value> = (0..1_203)
        .map(|number| created(&format!("g{number:04}"), number, "n", json!({"Owner_Account": "ana"})))
        .collect();
    let api = Api::of(&bodies).await;
    let ids = async |query: &str| {
        let csv = api.get(&format!("/v1/groups?sort=group_id&format=csv{query}")).await.text().await.unwrap();
        let (_, rows) = rows(csv.trim_start_matches('\u{feff}'));
        rows.into_iter().map(|row| row["group_id"].clone()).collect::<Vec<_>>()
    };
    let wanted: Vec<String> = (0..1_203).map(|number| format!("g{number:04}")).collect();
    assert_eq!(ids("").await, wanted);
    for limit in [1, 500, 501, 1_000, 1_202] {
        assert_eq!(ids(&format!("&limit={limit}")).await, wanted[..limit], "{limit}");
    }
    assert_eq!(ids("&limit=1000000000000").await, wanted);
    // Each page with counts has fewer rows.
    assert_eq!(ids("&with=member_count&limit=250").await, wanted[..250]);
    let page = api.json("/v1/groups?sort=group_id&limit=100").await;
    let cursor = page["next_cursor"].as_str().unwrap();
    assert_eq!(ids(&format!("&cursor={cursor}")).await, wanted[100..], "from a cursor on");
    let empty = api.get("/v1/groups?name=nothing&format=csv").await.text().await.unwrap();
    assert!(
        empty.starts_with("\u{feff}sdk_app_id,group_id,at,status,type,name,") && empty.ends_with("\r\n"),
        "{empty}"
    );
    assert_eq!(empty.matches("\r\n").count(), 1, "a list without items has its header row");
    api.problem("/v1/groups/none/members?format=csv", 404, "not_found").await;
    api.problem("/v1/groups?format=csv&name=", 400, "bad_parameter").await;
    api.problem("/v1/groups?format=csv&cursor=x", 400, "bad_cursor").await;
    api.problem("/v1/groups?format=csv&limit=1&limit=2", 400, "bad_parameter").await;
    api.problem("/v1/groups?format=csv&format=csv", 400, "bad_parameter").await;
    api.stop().await;
}

#[tokio::test]
async fn fields_choose_what_an_item_shows_and_in_which_order_in_every_form() {
    let app = filled().await;
    let service = &app.service;
    let text = async |path: &str, accept: &str| whole(service, path, accept).await;
    let path = "/v1/groups?sort=group_id&limit=1&fields=name,group_id,member_count";
    let page = text(path, "*/*").await;
    assert!(page.starts_with(r#"{"items":[{"name":"=1+1","group_id":"@TGS#0"}],"next_cursor":""#), "{page}");
    assert_eq!(text(path, "application/x-ndjson").await, "{\"name\":\"=1+1\",\"group_id\":\"@TGS#0\"}\n");
    assert_eq!(text(path, "text/csv").await, "name,group_id,member_count\r\n'=1+1,'@TGS#0,\r\n");
    let nested = "/v1/users/ana/groups?limit=1&fields=member.role,group.name,group.owner";
    let page: Value = serde_json::from_str(&text(nested, "*/*").await).unwrap();
    assert_eq!(
        page["items"],
        json!([{"member": {"role": "Owner"}, "group": {"name": "=1+1", "owner": "ana"}}])
    );
    assert_eq!(text(nested, "text/csv").await, "member.role,group.name,group.owner\r\nOwner,'=1+1,ana\r\n");
    let object: Value =
        serde_json::from_str(&text("/v1/users/ana/groups?limit=1&fields=member", "*/*").await).unwrap();
    let whole: Value = serde_json::from_str(&text("/v1/users/ana/groups?limit=1", "*/*").await).unwrap();
    assert_eq!(object["items"][0], json!({"member": whole["items"][0]["member"]}));
    // A cursor of one choice is one of another.
    let first: Value = serde_json::from_str(&text("/v1/groups?limit=1&fields=name", "*/*").await).unwrap();
    let next = format!("/v1/groups?limit=1&cursor={}", first["next_cursor"].as_str().unwrap());
    assert_eq!(get(service, &next, "*/*").await.status(), 200);
    let feed: Value = serde_json::from_str(&text("/v1/changes?limit=2&fields=command", "*/*").await).unwrap();
    assert_eq!(feed["items"][0], json!({"command": "Group.CallbackAfterCreateGroup"}));
    assert_eq!(feed["more"], true);
    for (fields, words) in [
        ("nonsense", "\"nonsense\"; there are sdk_app_id, group_id,"),
        ("", "\"\""),
        ("name,", "\"\""),
        ("name,name", "twice \"name\""),
        ("user_defined_fields.region", "\"user_defined_fields.region\""),
    ] {
        let refused = get(service, &format!("/v1/groups?fields={fields}"), "*/*").await;
        let problem = assert_problem(refused, 400, "bad_parameter").await;
        assert!(problem["detail"].as_str().unwrap().contains(words), "{problem}");
    }
    for path in ["/v1/groups/c?fields=name", "/v1/stats?format=csv"] {
        assert_problem(get(service, path, "*/*").await, 400, "bad_parameter").await;
    }
    let stream = get(service, "/v1/changes?fields=command", "text/event-stream").await;
    assert_problem(stream, 400, "bad_parameter").await;
    app.stop().await;
}

#[tokio::test]
async fn a_file_has_raw_bodies_and_addresses_for_those_alone_who_may_read_them() {
    let app = App::start_with(|settings| {
        settings.api_token = Some(format!("desk:plain-token,audit+raw:{API_TOKEN}"));
    })
    .await;
    let query = "&CallbackCommand=Group.CallbackAfterCreateGroup&ClientIP=198.51.100.7";
    assert_eq!(app.service.post_with(query, river().to_string()).await.status(), 200);
    app.service.until(|readiness| readiness["spool"]["depth"] == 0).await;
    let history = "/v1/groups/%40TGS%232RIVERB7QK/history?format=csv";
    let ask = async |path: &str| {
        let request = app.service.client.get(app.service.api_url(path)).bearer_auth("plain-token");
        request.send().await.unwrap()
    };
    assert_problem(ask(&format!("{history}&with=body")).await, 403, "forbidden").await;
    let plain = ask(history).await.text().await.unwrap();
    assert!(plain.contains("CreateGroup") && !plain.contains("198.51.100.7"), "{plain}");
    let raw = whole(&app.service, &format!("{history}&with=body"), "*/*").await;
    assert!(raw.contains("198.51.100.7"), "{raw}");
    let (_, rows) = rows(raw.trim_start_matches('\u{feff}'));
    assert_eq!(serde_json::from_str::<Value>(&rows[0]["body"]).unwrap(), river());
    app.stop().await;
}

/// Some 20 MB, more than the buffers between two programs.
async fn long_list() -> Api {
    let long = "i".repeat(400_000);
    let group = |number| {
        let more = json!({"Introduction": long, "Owner_Account": "ana"});
        created(&format!("g{number:02}"), number, "n", more)
    };
    Api::of(&(0..50).map(group).collect::<Vec<_>>()).await
}

#[tokio::test]
async fn a_page_that_fails_in_the_middle_breaks_the_connection_off() {
    let api = long_list().await;
    for format in ["csv", "ndjson"] {
        let mut answer = api.get(&format!("/v1/groups?sort=group_id&format={format}")).await;
        assert_eq!(answer.status(), 200);
        answer.chunk().await.unwrap().unwrap();
        let mut conn = api.database.connect().await;
        let rename = |from: &str, to: &str| sqlx::AssertSqlSafe(format!("ALTER VIEW {from} RENAME TO {to}"));
        sqlx::query(rename("group_states", "hidden")).execute(&mut conn).await.unwrap();
        let mut bytes = 0;
        let end = loop {
            match answer.chunk().await {
                Ok(Some(chunk)) => bytes += chunk.len(),
                end => break end,
            }
        };
        assert!(end.is_err() && bytes < 50 * 400_000, "{format}: {bytes} bytes, then {end:?}");
        sqlx::query(rename("hidden", "group_states")).execute(&mut conn).await.unwrap();
    }
    api.stop().await;
}

#[tokio::test]
async fn clients_that_do_not_read_hold_a_permit_and_nothing_else_and_give_it_back_when_they_leave() {
    let api = long_list().await;
    // Those beyond the permits are refused before anything is read.
    let asked = join_all((0..40).map(|_| api.get("/v1/groups?sort=group_id&format=ndjson"))).await;
    let (stalled, refused): (Vec<_>, Vec<_>) = asked.into_iter().partition(|answer| answer.status() == 200);
    assert!((1..=16).contains(&stalled.len()), "{} are sent at once", stalled.len());
    let mut words = Vec::new();
    for answer in refused {
        words.push(assert_problem(answer, 503, "unavailable").await["detail"].to_string());
    }
    assert!(words.iter().filter(|text| text.contains("16 whole lists")).count() >= 24, "{words:?}");
    let busy = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle' \
                AND pid <> pg_backend_pid() AND query LIKE '%group_states%'";
    let idle = eventually(async || {
        let mut conn = api.database.connect().await;
        sqlx::query_scalar::<_, i64>(busy).fetch_one(&mut conn).await.unwrap() == 0
    });
    assert!(idle.await, "no connection is held for those who do not read");
    assert_eq!(api.json("/v1/groups?limit=1").await["items"].as_array().unwrap().len(), 1);
    drop(stalled);
    let freed = eventually(async || api.get("/v1/groups?limit=1&format=csv").await.status() == 200);
    assert!(freed.await, "the permits come back");
    api.stop().await;
}

#[tokio::test]
async fn a_client_that_could_not_see_a_break_is_refused() {
    let app = App::start().await;
    let ask = async |head: &str| {
        let mut stream = tokio::net::TcpStream::connect(app.service.running.api_addr).await.unwrap();
        let text = format!(
            "{head}\r\nHost: mirror\r\nConnection: close\r\nAuthorization: Bearer {API_TOKEN}\r\n\r\n"
        );
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let old = ask("GET /v1/groups?format=csv HTTP/1.0").await;
    assert!(old.starts_with("HTTP/1.0 400 ") && old.contains("HTTP/1.1 alone"), "{old}");
    assert!(ask("GET /v1/groups HTTP/1.0").await.starts_with("HTTP/1.0 200 "));
    let new = ask("GET /v1/groups?format=csv HTTP/1.1").await;
    assert!(new.starts_with("HTTP/1.1 200 ") && new.contains("transfer-encoding: chunked"), "{new}");
    assert!(new.ends_with("\r\n0\r\n\r\n"), "the end is marked: {new}");
    for (query, kind) in [("format=csv", "text/csv;"), ("fields=name", "application/json")] {
        let head = ask(&format!("HEAD /v1/groups?{query} HTTP/1.1")).await;
        assert!(
            head.starts_with("HTTP/1.1 200 ") && head.contains(&format!("content-type: {kind}")),
            "{head}"
        );
        assert!(head.ends_with("\r\n\r\n"), "{head}");
    }
    app.stop().await;
}
