//! Who may read what: every path of the document without a token, with a wrong one, with one of another app, with and
//! without the right to raw bodies; and requests of proxies and of pages of other sites where no token is set.

use reqwest::Response;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::api::reads::{raw, river};
use crate::durability::restart::{DeployedProxy, without_tls};
use crate::support::api::{APP, Api, assert_problem, told};
use crate::support::{App, Service};

const OTHER_APP: &str = "1400000002";

/// The paths of the document with an id in place of each parameter, and whether the document says that one needs no token.
async fn paths(service: &Service) -> Vec<(String, bool)> {
    let document: Value =
        service.client.get(service.api_url("/openapi.json")).send().await.unwrap().json().await.unwrap();
    let ids = [("{group_id}", "thing"), ("{user_id}", "thing"), ("{file}", "docs.js")];
    let filled = |path: &String| ids.iter().fold(path.clone(), |path, (name, id)| path.replace(name, id));
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() > 10);
    let is_open = |item: &Value| item["get"].get("security") == Some(&json!([{}]));
    paths.iter().map(|(path, item)| (filled(path), is_open(item))).collect()
}

async fn ask(service: &Service, path: &str, token: Option<&str>) -> Response {
    let request = service.client.get(service.api_url(path));
    token.into_iter().fold(request, reqwest::RequestBuilder::bearer_auth).send().await.unwrap()
}

#[tokio::test]
async fn without_a_token_or_with_a_wrong_one_only_what_the_document_calls_open_answers() {
    let app = App::start().await;
    let paths = paths(&app.service).await;
    let open: Vec<&str> = paths.iter().filter(|(_, open)| *open).map(|(path, _)| path.as_str()).collect();
    assert_eq!(open, ["/docs/docs.js", "/livez", "/openapi.json", "/readyz"]);
    for (path, open) in &paths {
        for token in [None, Some("desk-secre"), Some("desk-secret2"), Some("desk"), Some("")] {
            let answer = ask(&app.service, path, token).await;
            if *open {
                assert_eq!(answer.status(), 200, "{path}");
            } else {
                assert_problem(answer, 401, "unauthorized").await;
            }
        }
    }
    // A page leads a person to the login, and says nothing before.
    let page = ask(&app.service, "/", None).await;
    assert_eq!((page.status().as_u16(), page.url().path()), (200, "/login"));
    for path in ["/v1", "/v1/nothing", "/docs/", "/favicon.ico", "/v1/changes/x", "/metrics/"] {
        assert_problem(ask(&app.service, path, None).await, 401, "unauthorized").await;
    }
    app.stop().await;
}

#[tokio::test]
async fn a_token_of_one_app_reads_that_app_on_every_path_and_no_other_on_any() {
    let app = App::start_with(|settings| {
        settings.api_token = Some(format!("desk@{APP}:token-of-one-app,all:token-of-all"));
    })
    .await;
    for (path, open) in paths(&app.service).await {
        if open || path == "/metrics" {
            continue;
        }
        let other = format!("{path}?sdk_app_id={OTHER_APP}");
        let problem =
            assert_problem(ask(&app.service, &other, Some("token-of-one-app")).await, 404, "not_found");
        let problem = problem.await;
        assert!(problem["detail"].as_str().unwrap().contains(OTHER_APP), "{path}: {problem}");
        for (path, token) in [
            (path.clone(), "token-of-one-app"),
            (format!("{path}?sdk_app_id={APP}"), "token-of-one-app"),
            (other, "token-of-all"),
        ] {
            let status = ask(&app.service, &path, Some(token)).await.status().as_u16();
            assert!([200, 404].contains(&status), "{path}: {status}");
        }
    }
    // The stream is refused before it is opened. Where one app is served, its token reads the numbers of the process.
    let stream = app.service.client.get(app.service.api_url(&format!("/v1/changes?sdk_app_id={OTHER_APP}")));
    let stream = stream.bearer_auth("token-of-one-app").header("Accept", "text/event-stream");
    assert_problem(stream.send().await.unwrap(), 404, "not_found").await;
    assert_eq!(ask(&app.service, "/metrics", Some("token-of-one-app")).await.status(), 200);
    app.stop().await;
}

#[tokio::test]
async fn raw_bodies_and_client_addresses_need_a_token_with_the_right_to_them() {
    let app = App::start_with(|settings| {
        settings.api_token = Some(format!("desk:plain-token,audit@{APP}+raw:raw-token"));
    })
    .await;
    let body = river();
    let command = body["CallbackCommand"].as_str().unwrap();
    let query = format!("&CallbackCommand={command}&ClientIP=198.51.100.7");
    assert_eq!(app.service.post_with(&query, body.to_string()).await.status(), 200);
    app.service.until(|readiness| readiness["spool"]["depth"] == 0).await;
    let history = "/v1/groups/%40TGS%232RIVERB7QK/history";
    for (token, address) in [("plain-token", json!(null)), ("raw-token", json!("198.51.100.7"))] {
        let page: Value = ask(&app.service, history, Some(token)).await.json().await.unwrap();
        assert_eq!(page["items"][0]["client_ip"], address, "{token}: {page}");
        assert_eq!(page["items"][0].get("body"), None);
        // No other answer has an address at all.
        for path in ["/v1/changes", "/v1/stats", "/v1/groups"] {
            let text = ask(&app.service, path, Some(token)).await.text().await.unwrap();
            assert!(!text.contains("198.51.100.7"), "{path}: {text}");
        }
    }
    let with_body = format!("{history}?with=body");
    let problem =
        assert_problem(ask(&app.service, &with_body, Some("plain-token")).await, 403, "forbidden").await;
    assert!(problem["detail"].as_str().unwrap().contains("+raw"), "{problem}");
    let page: Value = ask(&app.service, &with_body, Some("raw-token")).await.json().await.unwrap();
    assert!(page["items"][0].get("body").or(page["items"][0].get("body_base64")).is_some(), "{page}");
    app.stop().await;
    // Without tokens this machine reads everything.
    let api = Api::of(&[river()]).await;
    api.problem("/v1/groups/none/history?with=body", 404, "not_found").await;
    api.stop().await;
}

#[tokio::test]
async fn without_tokens_a_page_of_another_site_and_a_proxy_are_refused() {
    let api = Api::of(&[river()]).await;
    let status = async |lines: &str| raw(&api, "GET /v1/groups", lines).await.0;
    for lines in [
        "Host: localhost:8081\r\nOrigin: http://localhost:8081\r\n",
        "Host: 127.0.0.1:8081\r\nSec-Fetch-Site: same-origin\r\n",
        "Host: 127.0.0.1:8081\r\nSec-Fetch-Site: none\r\n",
        "Host: [::1]:8081\r\nOrigin: http://[::1]:8081\r\nSec-Fetch-Site: same-origin\r\n",
    ] {
        assert_eq!(status(lines).await, 200, "{lines}");
    }
    for lines in [
        "Origin: http://evil.example",
        "Origin: null",
        "Origin: http://localhost",
        "Origin: http://localhost:8082",
        "Origin: http://127.0.0.1:8081",
        "Origin: localhost:8081",
        "Origin: http://localhost:8081.evil.example",
        "Origin: http://localhost:8081\r\nOrigin: http://evil.example",
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
        "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: ",
        "X-Client-IP: 10.0.0.1",
        "CF-Connecting-IP: 10.0.0.1",
        "X-Original-URL: /",
        "X-Amzn-Trace-Id: Root=1",
    ] {
        let (status, answer) =
            raw(&api, "GET /v1/groups", &format!("Host: localhost:8081\r\n{lines}\r\n")).await;
        assert_eq!(status, 403, "{lines}");
        assert!(answer.contains(r#""code":"unauthorized""#), "{answer}");
    }
    // What nginx speaks to its upstreams where nothing else is set.
    let mut stream = tokio::net::TcpStream::connect(api.base.trim_start_matches("http://")).await.unwrap();
    stream.write_all(b"GET /v1/groups HTTP/1.0\r\nHost: 127.0.0.1:8081\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.0 403 "), "{answer}");
    api.stop().await;
}

#[tokio::test]
async fn without_tokens_an_nginx_with_nothing_but_an_address_in_front_is_refused() {
    let api = Api::of(&[river()]).await;
    let port: u16 = api.base.rsplit(':').next().unwrap().parse().unwrap();
    // The shipped file with the lines gone for which nginx 1.22 has other defaults: HTTP/1.0, and `Host` of the upstream.
    let plain = |text: String| {
        let text = without_tls(&text);
        let lines = text
            .lines()
            .filter(|line| !line.contains("proxy_http_version") && !line.contains("proxy_set_header"));
        let text = lines.collect::<Vec<_>>().join("\n");
        text.replace("http://group_mirror;", &format!("http://127.0.0.1:{port}; proxy_http_version 1.0;"))
    };
    if let Some(proxy) = DeployedProxy::start("nginx", [port, port], plain).await {
        let url = format!("http://{}/v1/groups", proxy.target.address);
        let answer = api.client.get(url).header("Host", "mirror.example").send().await.unwrap();
        assert_eq!(answer.status(), 403);
        assert!(answer.text().await.unwrap().contains("HTTP/1.0 is what proxies speak"));
    }
    api.stop().await;
}

#[tokio::test]
async fn with_tokens_the_headers_of_proxies_and_browsers_change_nothing() {
    let app = App::start().await;
    for (name, value) in
        [("Origin", "http://evil.example"), ("Sec-Fetch-Site", "cross-site"), ("Via", "1.1 x")]
    {
        let ask = |token: &str| {
            let request = app.service.client.get(app.service.api_url("/v1/groups")).header(name, value);
            request.bearer_auth(token).send()
        };
        let answer = ask(crate::support::API_TOKEN).await.unwrap();
        assert_eq!(answer.status(), 200, "{name}");
        // A page of another site may not read it: no answer gives it leave to.
        assert_eq!(answer.headers().get("access-control-allow-origin"), None);
        assert_eq!(ask("wrong").await.unwrap().status(), 401, "{name}");
    }
    app.stop().await;
}

#[tokio::test]
async fn the_facts_of_another_app_are_not_in_the_answer_of_a_token_of_one_app() {
    let other = crate::api::reads::created("g", 0, "other", json!({"Owner_Account": "ana_77"}));
    let facts = [told(APP, &river()), told(OTHER_APP, &other)].concat();
    let api = Api::start(facts, |settings| {
        (settings.api_auth, settings.api_token) = (None, Some(format!("@{APP}:token")));
    })
    .await;
    let get = async |path: &str| {
        let request = api.client.get(format!("{}{path}", api.base)).bearer_auth("token");
        request.send().await.unwrap().text().await.unwrap()
    };
    for path in ["/v1/groups?status=all", "/v1/users/ana_77/groups?status=all", "/v1/stats", "/v1/changes"] {
        let text = get(path).await;
        assert!(!text.contains("\"g\"") && !text.contains(OTHER_APP), "{path}: {text}");
    }
    api.stop().await;
}
