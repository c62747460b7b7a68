//! Ways into the internal listener: the session of a browser, the path prefix, and compressed or conditional answers.

use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use group_mirror::api::auth::{ApiAuth, ApiToken};
use group_mirror::api::prefix::PathPrefix;
use group_mirror::api::session::{LoginFault, SESSION_COOKIE, Sessions};
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::api::reads::created;
use crate::support::api::{Api, assert_problem};
use crate::support::{API_TOKEN, App, Service, unix_now};

fn sessions(token: &str) -> Sessions {
    let auth = ApiAuth::Tokens(vec![ApiToken::new(Some("desk"), token)]);
    Sessions::new(auth.into(), PathPrefix::default(), false)
}

/// The cookie of a login at another replica, as a browser sends it back.
async fn cookie(token: &str) -> String {
    let set = sessions(token).log_in(&HeaderMap::new(), token).await.unwrap();
    set.to_str().unwrap().split(';').next().unwrap().to_owned()
}

/// A cookie that is signed with a token and ends at a time.
fn signed(token: &str, ends: u64) -> String {
    let text = format!("1.{ends}.7");
    let mut mac = Hmac::<Sha256>::new_from_slice(&Sha256::digest(token)).unwrap();
    mac.update(b"group-mirror session\0");
    mac.update(text.as_bytes());
    format!("{SESSION_COOKIE}={text}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

async fn ask(service: &Service, path: &str, headers: &[(&str, &str)]) -> Response {
    let request = service.client.get(service.api_url(path));
    let with = |request: RequestBuilder, (name, value): &(&str, &str)| request.header(*name, *value);
    headers.iter().fold(request, with).send().await.unwrap()
}

#[tokio::test]
async fn a_session_of_another_replica_reads_what_its_token_reads_and_the_stream_too() {
    let app = App::start().await;
    let cookie = cookie(API_TOKEN).await;
    for path in ["/v1/groups", "/v1/stats", "/metrics"] {
        assert_eq!(ask(&app.service, path, &[("Cookie", &cookie)]).await.status(), 200, "{path}");
        let among = format!("lang=ja; {SESSION_COOKIE}=; {cookie}; theme=dark");
        assert_eq!(ask(&app.service, path, &[("Cookie", &among)]).await.status(), 200, "{path}");
    }
    let stream =
        ask(&app.service, "/v1/changes", &[("Cookie", &cookie), ("Accept", "text/event-stream")]).await;
    assert_eq!(
        (stream.status().as_u16(), stream.headers()["content-type"].as_bytes()),
        (200, b"text/event-stream".as_slice())
    );
    // A token in the header is the caller's word, whatever the browser has.
    let both = [("Cookie", cookie.as_str()), ("Authorization", "Bearer wrong")];
    assert_problem(ask(&app.service, "/v1/groups", &both).await, 401, "unauthorized").await;
    app.stop().await;
}

#[tokio::test]
async fn a_session_ends_with_its_token_and_with_its_time_and_cannot_be_made_up() {
    let app = App::start().await;
    let now = unix_now();
    let good = signed(API_TOKEN, now + 60);
    assert_eq!(
        ask(&app.service, "/v1/groups", &[("Cookie", &good)]).await.status(),
        200,
        "the form is this one"
    );
    let (head, signature) = good.rsplit_once('.').unwrap();
    let other = signed("another-token-of-16", now + 60);
    for bad in [
        other.clone(),
        format!("{head}.{}", other.rsplit_once('.').unwrap().1),
        format!("{}.{signature}", head.replace(&format!("{}", now + 60), &format!("{}", now + 61))),
        head.to_owned(),
        format!("{good}A"),
        good[..good.len() - 1].to_owned(),
        signed(API_TOKEN, now - 1),
        signed(API_TOKEN, now + 30 * 24 * 60 * 60),
        format!("{SESSION_COOKIE}={API_TOKEN}"),
        format!("{SESSION_COOKIE}="),
        good.replace("=1.", "=2."),
        good.to_uppercase(),
    ] {
        let refused = ask(&app.service, "/v1/groups", &[("Cookie", &bad)]).await;
        assert_problem(refused, 401, "unauthorized").await;
    }
    app.stop().await;
}

#[tokio::test]
async fn a_session_counts_in_no_request_that_a_page_of_another_site_sends() {
    let app = App::start().await;
    let cookie = cookie(API_TOKEN).await;
    let host = app.service.running.api_addr.to_string();
    let ours = format!("http://{host}");
    for headers in [
        vec![("Sec-Fetch-Site", "same-origin")],
        vec![("Sec-Fetch-Site", "none")],
        vec![("Origin", ours.as_str()), ("Sec-Fetch-Site", "same-origin")],
        vec![("X-Forwarded-Host", "mirror.example"), ("Origin", "https://mirror.example")],
    ] {
        let headers = [headers.as_slice(), &[("Cookie", &cookie)]].concat();
        assert_eq!(ask(&app.service, "/v1/groups", &headers).await.status(), 200, "{headers:?}");
    }
    for (name, value) in [
        ("Origin", "http://evil.example"),
        ("Origin", "null"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Site", "same-site"),
    ] {
        let refused = ask(&app.service, "/v1/groups", &[("Cookie", &cookie), (name, value)]).await;
        assert_problem(refused, 403, "forbidden").await;
    }
    app.stop().await;
}

#[tokio::test]
async fn the_cookie_holds_no_token_and_is_for_this_service_alone() {
    let token = "use-openssl-rand-hex-32";
    let login = async |sessions: &Sessions, headers: &[(&'static str, &str)]| {
        let headers: HeaderMap =
            headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        let set = sessions.log_in(&headers, &format!(" {token}\r\n")).await.unwrap();
        (set.to_str().unwrap().to_owned(), sessions.is_cookie_kept(&headers))
    };
    let plain = sessions(token);
    let (set, _) = login(&plain, &[]).await;
    for part in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"] {
        assert!(set.split("; ").any(|known| known == part), "{part}: {set}");
    }
    assert!(
        !set.contains("openssl") && !set.contains(&URL_SAFE_NO_PAD.encode(Sha256::digest(token))),
        "{set}"
    );
    for (headers, secure, kept) in [
        (vec![("host", "127.0.0.1:8081")], false, true),
        (vec![("host", "localhost")], false, true),
        (vec![("host", "mirror.example")], true, false),
        (vec![("host", "mirror.example"), ("x-forwarded-proto", "https")], true, true),
        (vec![("host", "127.0.0.1:8081"), ("x-forwarded-proto", "https")], true, true),
    ] {
        let (set, is_kept) = login(&plain, &headers).await;
        assert_eq!((set.contains("; Secure"), is_kept), (secure, kept), "{headers:?}: {set}");
    }
    let prefix = PathPrefix::parse("/mirror").unwrap();
    let auth = ApiAuth::Tokens(vec![ApiToken::new(None, token)]);
    let behind_tls = Sessions::new(auth.into(), prefix, true);
    let (set, kept) = login(&behind_tls, &[("host", "localhost")]).await;
    assert!(set.contains("; Secure") && set.contains("Path=/mirror;") && kept, "{set}");
    let forged =
        HeaderMap::from_iter([("origin".parse().unwrap(), HeaderValue::from_static("http://evil.example"))]);
    assert!(matches!(plain.log_in(&forged, token).await, Err(LoginFault::OtherSite(_))));
}

#[tokio::test]
async fn wrong_tokens_wait_in_a_limited_number_and_keep_a_right_one_from_nothing() {
    let sessions = sessions("a-token-that-is-right");
    let headers = HeaderMap::new();
    let wrong = futures_util::future::join_all((0..20).map(|_| sessions.log_in(&headers, "wrong")));
    let (answers, right) = tokio::join!(wrong, sessions.log_in(&headers, "a-token-that-is-right"));
    right.unwrap();
    let count = |fault| answers.iter().filter(|answer| *answer == &Err(fault)).count();
    assert_eq!((count(LoginFault::WrongToken), count(LoginFault::TooManyWrong)), (16, 4));
}

#[tokio::test]
async fn below_a_prefix_everything_is_served_and_outside_of_it_health_alone() {
    let app = App::start_with(|settings| settings.api_prefix = Some("/mirror/".to_owned())).await;
    app.service.taken(&created("@TGS#1", 0, "g", json!({"Owner_Account": "ana"}))).await;
    app.service.read("/mirror/v1/groups/%40TGS%231").await;
    for (path, status) in [
        ("/livez", 200),
        ("/readyz", 200),
        ("/mirror/livez", 200),
        ("/mirror/readyz", 200),
        ("/mirror/metrics", 200),
        ("/mirror/docs", 200),
        ("/mirror/docs/docs.js", 200),
        ("/mirror/v1/groups?format=csv", 200),
        ("/mirror/v1/users/ana/groups?fields=group.name", 200),
        ("/metrics", 404),
        ("/docs", 404),
        ("/v1/groups", 404),
        ("/mirrors/v1/groups", 404),
        ("/mirror/mirror/v1/groups", 404),
        ("/mirror/v1/nothing", 404),
    ] {
        let token = format!("Bearer {API_TOKEN}");
        let answer = ask(&app.service, path, &[("Authorization", &token)]).await;
        assert_eq!(answer.status(), status, "{path}");
        if status == 404 {
            assert_problem(answer, 404, "not_found").await;
        }
    }
    let document = ask(&app.service, "/mirror/openapi.json", &[]).await.json::<Value>().await.unwrap();
    assert_eq!(document["servers"], json!([{"url": "/mirror"}]));
    assert_problem(ask(&app.service, "/mirror/v1/groups", &[]).await, 401, "unauthorized").await;
    app.stop().await;
}

fn unpacked(bytes: &[u8]) -> String {
    let mut text = String::new();
    flate2::read::GzDecoder::new(bytes).read_to_string(&mut text).unwrap();
    text
}

#[tokio::test]
async fn answers_are_compressed_for_those_who_ask_and_streams_are_not() {
    let bodies: Vec<Value> = (0..600)
        .map(|number| created(&format!("g{number:04}"), number, "n", json!({"Owner_Account": "ana"})))
        .collect();
    let api = Api::of(&bodies).await;
    let get = async |path: &str, accept: &str, encoding: &str| {
        let request = api.client.get(format!("{}{path}", api.base)).header("Accept", accept);
        request.header("Accept-Encoding", encoding).send().await.unwrap()
    };
    for (path, accept) in [
        ("/v1/groups?limit=500&sort=group_id", "*/*"),
        ("/v1/groups?sort=group_id", "text/csv"),
        ("/v1/groups/g0000", "*/*"),
        ("/openapi.json", "*/*"),
        ("/docs/swagger-ui-bundle.js", "*/*"),
    ] {
        let plain = get(path, accept, "identity").await;
        assert_eq!(plain.status(), 200, "{path}");
        assert_eq!(plain.headers().get("content-encoding"), None, "{path}");
        let packed = get(path, accept, "gzip").await;
        assert_eq!(packed.status(), 200, "{path}");
        assert_eq!(packed.headers()["content-encoding"], "gzip", "{path}");
        let (plain, packed) = (plain.text().await.unwrap(), packed.bytes().await.unwrap());
        let unpacked = unpacked(&packed);
        assert_eq!(unpacked, plain, "{path}");
        assert!(packed.len() < unpacked.len(), "{path}");
    }
    let stream = get("/v1/changes", "text/event-stream", "gzip").await;
    assert_eq!((stream.status().as_u16(), stream.headers().get("content-encoding")), (200, None));
    // Bytes that were compressed are another form of what the tag names.
    let tag = async |encoding: &str| {
        get("/v1/groups/g0000", "*/*", encoding).await.headers()["etag"].to_str().unwrap().to_owned()
    };
    let strong = tag("identity").await;
    assert_eq!(tag("gzip").await, format!("W/{strong}"));
    api.stop().await;
}

#[tokio::test]
async fn the_files_of_the_documents_page_are_sent_once() {
    let app = App::start().await;
    for path in ["/docs/docs.js", "/docs/swagger-ui.css", "/docs/swagger-ui-bundle.js", "/openapi.json"] {
        let first = ask(&app.service, path, &[]).await;
        let tag = first.headers()["etag"].to_str().unwrap().to_owned();
        let again = ask(&app.service, path, &[("If-None-Match", &tag)]).await;
        assert_eq!(
            (again.status().as_u16(), again.headers()["etag"].to_str().unwrap()),
            (304, &*tag),
            "{path}"
        );
        assert_eq!(again.bytes().await.unwrap().len(), 0, "{path}");
        assert_eq!(ask(&app.service, path, &[("If-None-Match", "\"x\"")]).await.status(), 200, "{path}");
    }
    app.stop().await;
}
