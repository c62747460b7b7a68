//! The OpenAPI document: it is the one that is checked in, it says what the service does, and its page works offline.

use std::path::Path;
use std::process::Command;

use reqwest::{Client, StatusCode, redirect};
use serde_json::Value;

use crate::support::api::{assert_problem, request_id};
use crate::support::process::BINARY;
use crate::support::{API_TOKEN, App, Service};

async fn get(service: &Service, path: &str) -> reqwest::Response {
    service.client.get(service.api_url(path)).bearer_auth(API_TOKEN).send().await.unwrap()
}

async fn document(service: &Service) -> Value {
    get(service, "/openapi.json").await.json().await.unwrap()
}

/// The paths of the document with something in place of their parameters, and the operation of each.
fn paths(document: &Value) -> Vec<(String, Value)> {
    let filled = |path: &String| {
        path.split('/')
            .map(|part| if part.starts_with('{') { "thing" } else { part })
            .collect::<Vec<_>>()
            .join("/")
    };
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() > 10);
    paths.iter().map(|(path, item)| (filled(path), item["get"].clone())).collect()
}

fn in_query(operation: &Value) -> Vec<&Value> {
    let parameters = operation["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
    parameters.iter().filter(|parameter| parameter["in"] == "query").collect()
}

#[tokio::test]
async fn the_document_is_the_one_that_is_checked_in_and_the_command_prints_it() {
    let place = tempfile::tempdir().unwrap();
    let printed = Command::new(BINARY).arg("openapi").current_dir(place.path()).env_clear().output().unwrap();
    assert!(printed.status.success(), "{printed:?}");
    let printed = String::from_utf8(printed.stdout).unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/data/openapi.json");
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, &printed).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let first = kept.lines().zip(printed.lines()).find(|(kept, printed)| kept != printed);
    assert!(
        kept == printed,
        "the document is not {}; first difference: {first:?}. If it should change: UPDATE_SNAPSHOTS=1 cargo test openapi",
        path.display()
    );
    let app = App::start().await;
    let served = get(&app.service, "/openapi.json").await;
    assert_eq!(served.headers()["content-type"], "application/json");
    assert_eq!(served.text().await.unwrap(), printed);
    app.stop().await;
}

#[tokio::test]
async fn every_path_of_the_document_is_served_and_answers_with_a_status_it_states() {
    let app = App::start().await;
    let document = document(&app.service).await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    assert_eq!(document.get("servers"), None);
    for (path, operation) in paths(&document) {
        let answer = get(&app.service, &path).await;
        let status = answer.status().as_u16().to_string();
        assert!(operation["responses"].get(&status).is_some(), "{path}: {status}");
        request_id(&answer);
        for (status, response) in operation["responses"].as_object().unwrap() {
            let named = response["$ref"].as_str().and_then(|name| name.rsplit('/').next());
            let response = named.map_or(response, |name| &document["components"]["responses"][name]);
            // The server refuses a head that is too large before there is a request.
            let has_id = response["headers"].get("X-Request-Id").is_some();
            assert_eq!(has_id, status != "431", "{path}: {status}");
        }
        let text = answer.text().await.unwrap();
        assert!(!text.contains("There is no such path here"), "{path}: {text}");
        for key in ["operationId", "summary", "tags"] {
            assert!(operation.get(key).is_some(), "{path}: {key}");
        }
        let posted = app.service.client.post(app.service.api_url(&path)).bearer_auth(API_TOKEN);
        assert_problem(posted.send().await.unwrap(), 405, "method_not_allowed").await;
    }
    app.stop().await;
}

#[tokio::test]
async fn the_parameters_of_the_document_are_those_that_are_taken() {
    let app = App::start().await;
    for (path, operation) in paths(&document(&app.service).await) {
        if !path.starts_with("/v1/") {
            assert_eq!(in_query(&operation), Vec::<&Value>::new(), "{path}");
            continue;
        }
        let refused = get(&app.service, &format!("{path}?nonsense=1")).await;
        let told = assert_problem(refused, 400, "bad_parameter").await;
        let (_, list) = told["detail"].as_str().unwrap().split_once("this path has ").unwrap();
        let mut taken: Vec<_> = list.trim_end_matches('.').split(", ").map(str::to_owned).collect();
        let mut documented: Vec<_> = in_query(&operation)
            .iter()
            .map(|parameter| {
                let name = parameter["name"].as_str().unwrap();
                if parameter["style"] == "deepObject" { format!("{name}[KEY]") } else { name.to_owned() }
            })
            .collect();
        taken.sort();
        documented.sort();
        assert_eq!(taken, documented, "{path}");
    }
    app.stop().await;
}

#[tokio::test]
async fn the_words_and_limits_of_the_document_are_those_that_are_checked() {
    let app = App::start().await;
    let is_refused = async |path: &str, name: &str, value: &str| {
        let answer = get(&app.service, &format!("{path}?{name}={value}")).await;
        answer.status() == StatusCode::BAD_REQUEST
    };
    let mut checked = 0;
    for (path, operation) in paths(&document(&app.service).await) {
        for parameter in in_query(&operation) {
            let (name, schema) = (parameter["name"].as_str().unwrap(), &parameter["schema"]);
            let words = schema["enum"].as_array().map(Vec::as_slice).unwrap_or_default();
            for word in words.iter().chain(schema.get("default")) {
                let word = word.as_str().map_or_else(|| word.to_string(), str::to_owned);
                assert!(!is_refused(&path, name, &word).await, "{path}?{name}={word}");
                checked += 1;
            }
            if !words.is_empty() {
                assert!(is_refused(&path, name, "nonsense").await, "{path}?{name}");
            }
            for (key, beyond) in [("minimum", -1), ("maximum", 1)] {
                let Some(limit) = schema.get(key).and_then(Value::as_i64) else { continue };
                assert!(!is_refused(&path, name, &limit.to_string()).await, "{path}?{name}={limit}");
                let beyond = (i128::from(limit) + beyond).to_string();
                assert!(is_refused(&path, name, &beyond).await, "{path}?{name}={beyond}");
                checked += 1;
            }
            if let Some(length) =
                schema["maxLength"].as_u64().filter(|_| !["cursor", "since"].contains(&name))
            {
                let longest = "x".repeat(usize::try_from(length).unwrap());
                assert!(!is_refused(&path, name, &longest).await, "{path}?{name}={longest}");
                assert!(is_refused(&path, name, &format!("{longest}x")).await, "{path}?{name}");
                assert!(is_refused(&path, name, "").await, "{path}?{name}");
                checked += 1;
            }
        }
    }
    assert!(checked > 40, "{checked}");
    app.stop().await;
}

#[tokio::test]
async fn the_page_of_the_document_loads_and_needs_nothing_from_elsewhere() {
    let app = App::start().await;
    let client = Client::builder().no_proxy().redirect(redirect::Policy::none()).build().unwrap();
    // Without a token, as a browser opens a page.
    let get = async |path: &str| client.get(app.service.api_url(path)).send().await.unwrap();
    let page = get("/docs").await;
    assert_eq!(page.status(), StatusCode::OK);
    assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
    let page = page.text().await.unwrap();
    assert!(!page.contains("//"), "{page}");
    let links: Vec<_> = ["src=\"/", "href=\"/docs/"]
        .into_iter()
        .flat_map(|start| page.split(start).skip(1).map(move |rest| (start, rest)))
        .map(|(start, rest)| {
            format!("{}{}", &start[start.find('"').unwrap() + 1..], rest.split('"').next().unwrap())
        })
        .collect();
    // The script and the style sheet of the frame have a test of their own.
    let links: Vec<_> = links.into_iter().filter(|link| link.starts_with("/docs/")).collect();
    assert_eq!(links.len(), 3, "{links:?}");
    for link in links {
        let asset = get(&link).await;
        assert_eq!(asset.status(), StatusCode::OK, "{link}");
        let kind = if link.ends_with(".css") { "text/css" } else { "text/javascript" };
        assert_eq!(asset.headers()["content-type"], kind, "{link}");
        assert!(asset.text().await.unwrap().len() > 100, "{link}");
    }
    for path in ["/docs/index.html", "/docs/%FF", "/docs/..%2Fopenapi.json"] {
        assert_problem(get(path).await, 404, "not_found").await;
    }
    // What the page's *Authorize* works by: it loads the document, and sends the token that a person enters with the calls
    // that need one.
    let document: Value = get("/openapi.json").await.json().await.unwrap();
    let scheme = &document["components"]["securitySchemes"]["bearer"];
    assert_eq!((&scheme["type"], &scheme["scheme"]), (&"http".into(), &"bearer".into()));
    assert_eq!(document["security"], serde_json::json!([{"bearer": []}]));
    assert!(policy.contains("connect-src 'self'"), "{policy}");
    let text = document.to_string();
    for secret in [API_TOKEN, crate::support::TOKEN] {
        assert!(!text.contains(secret));
    }
    app.stop().await;
}
