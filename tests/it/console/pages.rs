//! The console's frame over HTTP: every page in every language, its headers, its size, where its links lead, and that names
//! are only ever text.

use std::collections::BTreeSet;

use reqwest::{Response, StatusCode};
use serde_json::{Value, json};

use crate::support::api::{Api, after};
use crate::support::{App, eventually, sample};
use group_mirror::config::Settings;

/// The pages of the frame.
const PAGES: [&str; 5] = ["/", "/groups", "/parked", "/health", "/preferences"];

/// How many links a crawl follows.
const LINKS_MAX: usize = 600;

const LANGUAGES: [&str; 3] = ["en", "ja", "zh"];

/// Names that a page must show as text.
const NASTY: [&str; 6] = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "' onmouseover='alert(1)",
    "\u{202e}evil\u{2066}\u{200f}",
    "&amp;&lt;",
    "a\nid: 7\r\n\r\ndata: <b>x</b>",
];

fn world() -> Vec<Value> {
    let group = |(at, name): (usize, &&str)| {
        let id = format!("@TGS#{at}{}", name.replace(['\n', '\r'], ""));
        let more = json!({"Name": name, "Type": "Public", "Owner_Account": format!("o{name}"),
                          "MemberList": [{"Member_Account": format!("m{at}")}]});
        after("CreateGroup", &id, i64::try_from(at).unwrap() * 1000, more)
    };
    NASTY.iter().enumerate().map(group).collect()
}

/// Pages without a login.
fn open(settings: &mut Settings) {
    (settings.api_token, settings.api_auth) = (None, Some("none".to_owned()));
}

async fn get(api: &Api, path: &str, cookie: &str) -> Response {
    let request = api.client.get(format!("{}{path}", api.base)).header("cookie", cookie);
    request.header("accept", "text/html").send().await.unwrap()
}

async fn page(api: &Api, path: &str, cookie: &str) -> String {
    let answer = get(api, path, cookie).await;
    let (status, text) = (answer.status(), answer.text().await.unwrap());
    assert_eq!(status, StatusCode::OK, "{path}: {text}");
    text
}

/// The values of an attribute in a page, with the character references that maud writes undone.
fn attributes(page: &str, name: &str) -> BTreeSet<String> {
    let begin = format!(" {name}=\"");
    let values = page.split(&begin).skip(1).filter_map(|rest| rest.split('"').next());
    values.map(|value| value.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")).collect()
}

#[tokio::test]
async fn every_page_stands_in_every_language_with_one_heading_and_no_raw_key() {
    let api = Api::of(&world()).await;
    for language in LANGUAGES {
        for path in PAGES {
            let text = page(&api, path, &format!("lang={language}")).await;
            assert!(text.contains(&format!("<html lang=\"{language}\"")), "{path}: {text}");
            assert_eq!(text.matches("<h1").count(), 1, "{path} {language}");
            assert!(!text.contains('⟦'), "{path} {language}: {text}");
            assert!(text.len() <= 100 * 1024, "{path} has {} bytes", text.len());
            assert!(text.contains("class=\"skip\" href=\"#main\""), "{path}");
        }
    }
    api.stop().await;
}

#[tokio::test]
async fn the_first_visit_has_the_language_of_the_browser_and_a_choice_is_kept() {
    let api = Api::of(&[]).await;
    let first = api.client.get(format!("{}/", api.base)).header("accept-language", "ja,en;q=0.5");
    let text = first.send().await.unwrap().text().await.unwrap();
    assert!(text.contains("<html lang=\"ja\""), "{text}");
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let form = "lang=zh&tz=Asia%2FShanghai&theme=dark&keys=off&back=%2Fgroups%3Fq%3Da";
    let chosen = client.post(format!("{}/preferences", api.base)).body(form).send().await.unwrap();
    assert_eq!(
        (chosen.status().as_u16(), &chosen.headers()["location"]),
        (303, &"/groups?q=a".parse().unwrap())
    );
    let kept: Vec<_> =
        chosen.headers().get_all("set-cookie").iter().map(|line| line.to_str().unwrap()).collect();
    let cookie = kept.iter().map(|line| line.split(';').next().unwrap()).collect::<Vec<_>>().join("; ");
    let text = page(&api, "/groups", &cookie).await;
    for part in
        ["<html lang=\"zh\" data-theme=\"dark\"", "value=\"Asia/Shanghai\" selected", "data-keys=\"off\""]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    for back in ["https://evil.example/", "//evil.example", "/\\evil.example"] {
        let form = format!("back={}", form_urlencoded::byte_serialize(back.as_bytes()).collect::<String>());
        let sent = client.post(format!("{}/preferences", api.base)).body(form).send().await.unwrap();
        assert_eq!(sent.headers()["location"], "/", "{back}");
    }
    api.stop().await;
}

#[tokio::test]
async fn a_page_may_load_one_style_sheet_and_one_script_of_this_listener_and_nothing_else() {
    let api = Api::of(&world()).await;
    for path in PAGES {
        let answer = get(&api, path, "").await;
        let headers = answer.headers().clone();
        let policy = headers["content-security-policy"].to_str().unwrap().to_owned();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        for part in ["form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'"] {
            assert!(policy.contains(part), "{policy}");
        }
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["cache-control"], "no-store");
        let text = answer.text().await.unwrap();
        assert_eq!(
            (text.matches("<script").count(), text.matches("rel=\"stylesheet\"").count()),
            (1, 1),
            "{path}"
        );
        assert!(
            !text.contains(" style=") && !text.contains("<img") && !text.contains("<style"),
            "{path}: {text}"
        );
        for link in attributes(&text, "href").union(&attributes(&text, "src")) {
            assert!(link.starts_with(['/', '#']) || link == "data:,", "{path} leads to {link}");
        }
    }
    let text = page(&api, "/", "").await;
    for asset in
        attributes(&text, "href").union(&attributes(&text, "src")).filter(|link| link.starts_with("/assets"))
    {
        let answer = api.get(asset).await;
        assert_eq!(answer.status(), StatusCode::OK, "{asset}");
        let caching = answer.headers()["cache-control"].to_str().unwrap();
        assert!(caching.contains("immutable"), "{asset}: {caching}");
        let text = answer.text().await.unwrap();
        assert!(!text.contains("://"), "{asset} loads from elsewhere");
    }
    api.stop().await;
}

#[tokio::test]
async fn names_and_ids_are_only_ever_text() {
    let api = Api::of(&world()).await;
    for path in ["/groups", "/groups?status=all&sort=group_id"] {
        let text = page(&api, path, "").await;
        for part in ["<script>alert", "<img", "<b>x"] {
            assert!(!text.contains(part), "{path} holds {part}: {text}");
        }
        assert!(text.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "{text}");
    }
    for name in NASTY {
        let query = form_urlencoded::byte_serialize(name.as_bytes()).collect::<String>();
        let text = page(&api, &format!("/groups?name={query}&q="), "").await;
        assert!(!text.contains("<script>alert") && !text.contains("<img"), "{name:?}: {text}");
    }
    let bad = get(&api, "/groups?created_after=%3Cscript%3E", "").await;
    assert_eq!(bad.status(), StatusCode::BAD_REQUEST);
    assert!(!bad.text().await.unwrap().contains("<script>"), "an error is text too");
    api.stop().await;
}

#[tokio::test]
async fn an_error_of_a_page_is_a_page_for_people_and_a_problem_for_programs() {
    let api = Api::of(&[]).await;
    for (path, status) in [
        ("/nowhere", 404),
        ("/groups?limit=x&cursor=y", 400),
        ("/entry?time=1&digest=00", 404),
        ("/assets/none.css", 404),
        ("/groups?sdk_app_id=x", 400),
    ] {
        let answer = get(&api, path, "lang=ja").await;
        let id = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
        assert_eq!(answer.status().as_u16(), status, "{path}");
        assert_eq!(answer.headers()["content-type"], "text/html; charset=utf-8", "{path}");
        let text = answer.text().await.unwrap();
        assert!(text.contains("<html lang=\"ja\"") && text.contains(&id), "{path}: {text}");
    }
    api.problem("/nowhere", 404, "not_found").await;
    let answer = get(&api, "/v1/groups/none", "").await;
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    api.stop().await;
}

#[tokio::test]
async fn pages_stand_while_the_database_is_away_and_say_so() {
    let app = App::start_with(open).await;
    app.service.taken(&sample("Group.CallbackAfterCreateGroup")).await;
    app.database.refuse_connections().await;
    let read = async |path: &str| {
        let answer = app.service.client.get(app.service.api_url(path)).send().await.unwrap();
        (answer.status().as_u16(), answer.headers().clone(), answer.text().await.unwrap())
    };
    let left = std::cell::Cell::new(0);
    let away = async || {
        // A repeat would be a duplicate.
        left.set(left.get() + 1);
        let group = format!("g{}", left.get());
        let body = json!({"CallbackCommand": "Group.CallbackAfterGroupDestroyed", "GroupId": group});
        app.service.post("Group.CallbackAfterGroupDestroyed", body.to_string()).await;
        read("/").await.2.contains("database away")
    };
    assert!(eventually(away).await, "the first line never said so");
    for path in ["/", "/health"] {
        let (status, _, text) = read(path).await;
        assert_eq!(status, 200, "{path}: {text}");
        assert!(text.contains("database away") && text.contains("in the spool"), "{path}: {text}");
    }
    for path in ["/groups", "/groups?q=a", "/parked"] {
        let (status, headers, text) = read(path).await;
        assert_eq!((status, &headers["retry-after"]), (503, &"1".parse().unwrap()), "{path}");
        assert!(text.contains("database away") && text.contains("id=\"main\""), "{path}: {text}");
    }
    app.stop().await;
}

#[tokio::test]
async fn every_link_of_every_page_leads_somewhere() {
    let api = Api::of(&world()).await;
    let mut waiting: Vec<String> = PAGES.iter().map(|path| (*path).to_owned()).collect();
    let mut seen: BTreeSet<String> = waiting.iter().cloned().collect();
    while let Some(path) = waiting.pop() {
        let answer = get(&api, &path, "").await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        let text = answer.text().await.unwrap();
        let links = attributes(&text, "href").into_iter().filter(|link| link.starts_with('/'));
        let links = links.map(|link| link.split('#').next().unwrap().to_owned());
        let new: Vec<String> = links.filter(|link| !link.is_empty() && seen.insert(link.clone())).collect();
        waiting.extend(new);
        if seen.len() > LINKS_MAX {
            break;
        }
    }
    assert!(seen.len() > 20, "links are followed: {seen:?}");
    api.stop().await;
}
