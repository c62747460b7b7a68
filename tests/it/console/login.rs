//! Logging in to the console by its form, below a path prefix as well, and what a token of one app sees.

use reqwest::redirect::Policy;
use reqwest::{Client, Response};
use serde_json::json;

use crate::support::api::{Api, after, told};
use crate::support::{API_TOKEN, APP};

fn client() -> Client {
    Client::builder().no_proxy().redirect(Policy::none()).build().unwrap()
}

fn location(answer: &Response) -> &str {
    answer.headers()["location"].to_str().unwrap()
}

/// The cookie of an answer, as a browser sends it back.
fn cookie(answer: &Response) -> String {
    let line = answer.headers()["set-cookie"].to_str().unwrap();
    line.split(';').next().unwrap().to_owned()
}

async fn post(client: &Client, url: &str, form: &str) -> Response {
    let request = client.post(url).header("content-type", "application/x-www-form-urlencoded");
    request.body(form.to_owned()).send().await.unwrap()
}

async fn start(prefix: &str) -> Api {
    let body = after("CreateGroup", "@TGS#1", 0, json!({"Name": "Night owls", "Type": "Public"}));
    Api::start(told(APP, &body), |settings| {
        settings.api_token = Some(format!("desk:{API_TOKEN},one@{APP}:one-app-secret-1"));
        settings.api_auth = None;
        settings.api_prefix = Some(prefix.to_owned()).filter(|prefix| !prefix.is_empty());
    })
    .await
}

#[tokio::test]
async fn a_page_leads_to_the_login_the_login_back_to_the_page_and_a_logout_ends_it() {
    for prefix in ["", "/mirror"] {
        let (api, client) = (start(prefix).await, client());
        let url = |path: &str| format!("{}{prefix}{path}", api.base);
        let refused = client.get(url("/groups?name=owl")).send().await.unwrap();
        assert_eq!(refused.status().as_u16(), 303);
        let login = location(&refused).to_owned();
        assert!(login.starts_with(&format!("{prefix}/login?next=")), "{login}");
        let form = client.get(format!("{}{login}", api.base)).header("accept-language", "zh");
        let form = form.send().await.unwrap().text().await.unwrap();
        for part in
            ["<html lang=\"zh\"", &format!("action=\"{prefix}/login\""), "type=\"password\"", "name=owl"]
        {
            assert!(form.contains(part), "{part}: {form}");
        }
        assert!(
            !form.contains("Night owls") && !form.contains("id=\"trust\""),
            "nothing of the mirror: {form}"
        );

        let wrong = post(&client, &url("/login"), "token=wrong-wrong-wrong&next=").await;
        assert_eq!((wrong.status().as_u16(), wrong.headers().get("set-cookie")), (401, None));
        assert!(wrong.text().await.unwrap().contains("role=\"alert\""));

        let next = form_urlencoded::byte_serialize(format!("{prefix}/groups?name=owl").as_bytes())
            .collect::<String>();
        let right = post(&client, &url("/login"), &format!("token={API_TOKEN}&next={next}")).await;
        assert_eq!(
            (right.status().as_u16(), location(&right)),
            (303, format!("{prefix}/groups?name=owl").as_str())
        );
        let session = cookie(&right);
        assert!(!session.contains(API_TOKEN), "the cookie holds no token");
        let read = async |path: &str| client.get(url(path)).header("cookie", &session).send().await.unwrap();
        let page = read("/groups").await;
        assert_eq!(page.status().as_u16(), 200);
        let page = page.text().await.unwrap();
        assert!(page.contains("Night owls") && page.contains(&format!("href=\"{prefix}/parked\"")), "{page}");
        let asset = page.split("rel=\"stylesheet\" href=\"").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!(
            client.get(format!("{}{asset}", api.base)).send().await.unwrap().status().as_u16(),
            200,
            "{asset}"
        );

        let out = client.post(url("/logout")).header("cookie", &session).send().await.unwrap();
        assert_eq!((out.status().as_u16(), location(&out)), (303, format!("{prefix}/login").as_str()));
        assert_eq!(read("/groups").await.status().as_u16(), 303, "the session has ended");
        api.stop().await;
    }
}

#[tokio::test]
async fn a_form_that_another_site_sends_logs_nobody_in_or_out() {
    let (api, client) = (start("").await, client());
    for path in ["/login", "/logout"] {
        let request = client.post(format!("{}{path}", api.base)).header("origin", "https://evil.example");
        let answer = request.body(format!("token={API_TOKEN}")).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.headers().get("set-cookie")), (403, None), "{path}");
    }
    api.stop().await;
}

#[tokio::test]
async fn a_login_for_one_app_sees_no_other() {
    let (api, client) = (start("").await, client());
    let session =
        cookie(&post(&client, &format!("{}/login", api.base), "token=one-app-secret-1&next=").await);
    for (path, status) in [
        ("/groups".to_owned(), 200),
        ("/groups?sdk_app_id=1400000002".to_owned(), 404),
        (format!("/?sdk_app_id={APP}"), 200),
        ("/?sdk_app_id=1400000002".to_owned(), 404),
    ] {
        let answer =
            client.get(format!("{}{path}", api.base)).header("cookie", &session).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{path}");
    }
    api.stop().await;
}
