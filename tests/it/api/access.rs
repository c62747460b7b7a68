//! The access log and the request ids: who read what, under which id, and what is never logged.

use std::collections::BTreeSet;

use reqwest::StatusCode;
use serde_json::Value;

use crate::support::api::{Api, assert_problem, request_id};
use crate::support::postgres::TestDatabase;
use crate::support::process::{Place, Process};

/// The line of the access log with this request id.
async fn line(process: &mut Process, id: &str) -> Value {
    process.says(id).await;
    let log = process.log();
    let lines: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let mut found =
        lines.into_iter().filter(|line| line["request_id"] == id && line["http.path"].is_string());
    let line = found.next().unwrap_or_else(|| panic!("no line of {id}:\n{log}"));
    assert_eq!(found.next(), None, "one line per request");
    line
}

#[tokio::test]
async fn the_log_names_the_caller_of_each_read_and_never_a_token_or_a_query() {
    let (database, place) = (TestDatabase::create().await, Place::new());
    let mut command = place.command_on(&database.url, &["serve"]);
    command.env("API_TOKEN", "front-desk:s3cret-1,s3cret-2").env("LOG_FORMAT", "json");
    let mut process = Process::start(command).ready().await;
    for (token, path, caller, status) in [
        ("s3cret-1", "/v1/groups?name=hidden-words", "front-desk", 200),
        ("s3cret-1", "/v1/groups/none", "front-desk", 404),
        ("s3cret-2", "/v1/groups?limit=hidden-words", "unnamed", 400),
        ("s3cret-3", "/v1/groups", "-", 401),
        ("s3cret-3", "/no%20such%0Apath?hidden-words", "-", 401),
        ("s3cret-1", "/no%20such%0Apath?hidden-words", "front-desk", 404),
        ("s3cret-1", "/v1/groups%3Fmember=hidden-words", "front-desk", 404),
        ("s3cret-1", "/v1/groups%3fmember=hidden-words", "front-desk", 404),
    ] {
        let answer = process.get_as(token, path).await;
        assert_eq!(answer.status().as_u16(), status, "{path}");
        let id = request_id(&answer);
        if status != 200 {
            let problem: Value = answer.json().await.unwrap();
            assert_eq!(problem["request_id"], id, "{path}");
        }
        let line = line(&mut process, &id).await;
        let said = |name: &str| line[name].as_str().unwrap_or_else(|| panic!("{name}: {line}")).to_owned();
        assert_eq!((said("level"), said("caller")), ("INFO".into(), caller.into()), "{line}");
        // An encoded question mark ends the path too: what follows was meant to be a query.
        let path = path.split('?').next().unwrap().split("%3F").next().unwrap().split("%3f").next().unwrap();
        assert_eq!((said("http.method"), said("http.path")), ("GET".into(), path.into()), "{line}");
        assert_eq!(line["http.status"], status, "{line}");
        assert!(line["duration_ms"].is_u64(), "{line}");
    }
    let log = process.log();
    for hidden in ["s3cret", "hidden-words"] {
        assert!(!log.contains(hidden), "{hidden}:\n{log}");
    }
    process.ends_well_on("TERM").await;
}

#[tokio::test]
async fn health_checks_and_scrapes_are_not_in_the_log() {
    let (database, place) = (TestDatabase::create().await, Place::new());
    let mut process = Process::start(place.command_on(&database.url, &["serve"])).ready().await;
    let mut ids = Vec::new();
    for path in ["/livez", "/readyz", "/metrics"] {
        let answer = process.get_as(crate::support::API_TOKEN, path).await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        ids.push(request_id(&answer));
    }
    let read = process.get_as(crate::support::API_TOKEN, "/v1/groups").await;
    process.says(&request_id(&read)).await;
    for id in ids {
        assert!(!process.log().contains(&id), "{}", process.log());
    }
    process.ends_well_on("TERM").await;
}

#[tokio::test]
async fn a_read_that_fails_is_logged_once_with_its_cause_and_its_caller() {
    let (database, place) = (TestDatabase::create().await, Place::new());
    let mut command = place.command_on(&database.url, &["serve"]);
    command.env("API_TOKEN", "front-desk:s3cret").env("LOG_FORMAT", "json");
    let mut process = Process::start(command).ready().await;
    let mut conn = database.connect().await;
    sqlx::Executor::execute(&mut conn, "ALTER VIEW group_states RENAME TO hidden").await.unwrap();
    let answer = process.get_as("s3cret", "/v1/groups").await;
    let id = request_id(&answer);
    assert_problem(answer, 500, "internal").await;
    let line = line(&mut process, &id).await;
    assert_eq!((&line["level"], &line["caller"]), (&"ERROR".into(), &"front-desk".into()), "{line}");
    assert!(line["error"].as_str().unwrap().contains("group_states"), "{line}");
    process.ends_well_on("TERM").await;
}

#[tokio::test]
async fn a_request_id_that_is_safe_to_repeat_is_kept_and_any_other_replaced() {
    let api = Api::of(&[]).await;
    let ask = async |path: &str, ids: &[&[u8]]| {
        let mut request = api.client.get(format!("{}{path}", api.base));
        for id in ids {
            request = request.header("X-Request-Id", *id);
        }
        request_id(&request.send().await.unwrap())
    };
    let longest = "x".repeat(128);
    for id in ["7", "Root=1-67891233-abcdef012345678912345678", "a/b+c:d_e.f@g-h=", &longest] {
        for path in ["/v1/groups", "/v1/groups/none", "/nowhere", "/livez"] {
            assert_eq!(ask(path, &[id.as_bytes()]).await, id, "{path}");
        }
    }
    let too_long = "x".repeat(129);
    let unusable: [&[&[u8]]; 8] = [
        &[],
        &[b""],
        &[too_long.as_bytes()],
        &[b"two words"],
        &[b"tab\there"],
        &[b"\xff"],
        &[b"quote\""],
        &[b"one", b"two"],
    ];
    let mut made = BTreeSet::new();
    for ids in unusable {
        let id = ask("/v1/groups", ids).await;
        assert_eq!(id.len(), 36, "a UUID for {ids:?}: {id}");
        made.insert(id);
    }
    assert_eq!(made.len(), 8, "each is new");
    let stream = api.client.get(format!("{}/v1/changes", api.base)).header("Accept", "text/event-stream");
    request_id(&stream.send().await.unwrap());
    let posted = api.client.post(format!("{}/readyz", api.base)).send().await.unwrap();
    assert_problem(posted, 405, "method_not_allowed").await;
    api.stop().await;
}

#[tokio::test]
async fn a_read_that_shows_raw_bodies_or_client_addresses_is_named_so_with_its_caller_and_its_path() {
    let (database, place) = (TestDatabase::create().await, Place::new());
    let mut command = place.command_on(&database.url, &["serve"]);
    command.env("API_TOKEN", "desk:plain-token,audit+raw:raw-token").env("LOG_FORMAT", "json");
    let mut process = Process::start(command).ready().await;
    for (token, path, status, raw) in [
        ("raw-token", "/v1/groups/g-1/history?with=body", 404, ""),
        ("raw-token", "/v1/parked?with=body", 200, "bodies"),
        ("raw-token", "/v1/parked?with=body&format=csv", 200, "bodies"),
        ("raw-token", "/v1/parked", 200, "addresses"),
        ("raw-token", "/v1/groups", 200, ""),
        ("plain-token", "/v1/groups/g-1/history", 404, ""),
        ("plain-token", "/v1/parked?with=body", 403, ""),
        ("plain-token", "/v1/parked", 200, ""),
    ] {
        let answer = process.get_as(token, path).await;
        assert_eq!(answer.status().as_u16(), status, "{path}");
        let line = line(&mut process, &request_id(&answer)).await;
        let caller = if token == "raw-token" { "audit" } else { "desk" };
        assert_eq!(
            (line["raw"].as_str().unwrap_or_default(), line["caller"].as_str()),
            (raw, Some(caller)),
            "{line}"
        );
        assert_eq!(line["http.path"].as_str(), path.split('?').next(), "{line}");
    }
    process.ends_well_on("TERM").await;
}
