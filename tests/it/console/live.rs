//! The live page: its figures, its list, and the stream that brings what comes.

use group_mirror::config::Settings;
use group_mirror::model::SdkAppId;
use group_mirror::store::wall;
use reqwest::Response;
use serde_json::json;
use sqlx::PgConnection;

use crate::support::postgres::TestDatabase;
use crate::support::{APP, App, eventually, sample};

fn open(settings: &mut Settings) {
    (settings.api_token, settings.api_auth) = (None, Some("none".to_owned()));
}

async fn page(app: &App, path: &str) -> String {
    let answer = app.service.client.get(app.service.api_url(path)).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200, "{path}");
    answer.text().await.unwrap()
}

/// Reads a stream until it has said something.
async fn until(stream: &mut Response, said: &mut String, wanted: &str) {
    let reading = async {
        while !said.contains(wanted) {
            let chunk = stream.chunk().await.unwrap().unwrap_or_else(|| panic!("it ended: {said}"));
            // A part may end in the middle of a character; what is waited for is ASCII.
            said.push_str(&String::from_utf8_lossy(&chunk));
        }
    };
    let came = tokio::time::timeout(crate::support::PATIENCE, reading).await;
    assert!(came.is_ok(), "{wanted} never came: {said}");
}

/// The source of the stream that a page names.
fn source(page: &str) -> String {
    let source = page.split("data-source=\"").nth(1).unwrap().split('"').next().unwrap();
    source.replace("&amp;", "&")
}

#[tokio::test]
async fn an_empty_mirror_shows_the_next_step_and_what_comes_reaches_an_open_page_at_once() {
    let app = App::start_with(open).await;
    let empty = page(&app, "/").await;
    for part in
        ["id=\"first\"", "simulate --demo", "sha256sum", "CallbackCommand=Group.CallbackAfterCreateGroup"]
    {
        assert!(empty.contains(part), "{part}: {empty}");
    }
    assert!(!empty.contains(crate::support::TOKEN), "no page holds the token");
    let mut stream = app.service.client.get(app.service.api_url(&source(&empty)));
    stream = stream.header("accept", "text/event-stream");
    let mut stream = stream.send().await.unwrap();
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let mut said = String::new();
    until(&mut stream, &mut said, "event: trust").await;
    let mut body = sample("Group.CallbackAfterCreateGroup");
    body["Name"] = json!("<b>Night owls</b>\n\ndata: x");
    app.service.taken(&body).await;
    until(&mut stream, &mut said, "event: entries").await;
    until(&mut stream, &mut said, "Night owls").await;
    assert!(
        said.contains("&lt;b&gt;Night owls") && !said.contains("<b>") && !said.contains("\ndata: x"),
        "{said}"
    );

    let full = page(&app, "/").await;
    assert!(!full.contains("id=\"first\"") && full.contains("Night owls"), "{full}");
    drop(stream);

    // A reader that comes back goes on behind what it has seen.
    let last = said.rsplit("id: ").next().unwrap().lines().next().unwrap().to_owned();
    app.service.taken(&sample("Group.CallbackAfterGroupDestroyed")).await;
    let again = app.service.client.get(app.service.api_url("/live/events?after=0"));
    let mut again =
        again.header("accept", "text/event-stream").header("last-event-id", &last).send().await.unwrap();
    let mut said = String::new();
    until(&mut again, &mut said, "event: entries").await;
    assert!(!said.contains("Night owls</bdi></a></li><li") && said.contains("data-position"), "{said}");
    drop(again);
    app.stop().await;
}

#[tokio::test]
async fn the_figures_are_those_of_this_process() {
    let app = App::start_with(open).await;
    for _ in 0..3 {
        app.service.taken(&sample("Group.CallbackAfterCreateGroup")).await;
    }
    let text = page(&app, "/").await;
    assert!(text.contains("3 in the last hour, at most 3 in a minute"), "{text}");
    assert!(text.contains("99 of 100 callbacks were answered within: ") && text.contains(" ms"), "{text}");
    assert!(text.contains(&format!(" {}", std::process::id())), "the process is named: {text}");
    app.stop().await;
}

#[tokio::test]
async fn what_is_refused_parked_or_not_kept_stands_on_one_page_with_what_to_do() {
    let app = App::start_with(open).await;
    let url = format!(
        "http://{}/?SdkAppid={}&Sign={}&RequestTime=1",
        app.service.running.callback_addr,
        APP,
        "0".repeat(64)
    );
    app.service.client.post(url).body("{}").send().await.unwrap();
    app.service
        .parked(r#"{"CallbackCommand":"Group.CallbackAfterFoo","GroupId":"<script>alert(1)</script>"}"#)
        .await;
    let message = json!({"CallbackCommand": "Group.CallbackAfterSendMsg", "GroupId": "g"});
    app.service.post("Group.CallbackAfterSendMsg", message.to_string()).await;
    let counted = async || page(&app, "/parked").await.contains("(1)");
    assert!(eventually(counted).await, "the parked entry was never counted");
    let text = page(&app, "/parked").await;
    for part in [
        "Set the clock of this host right",
        "This version does not know the command",
        "replay --parked",
        "Group.CallbackAfterSendMsg",
        "&lt;script&gt;alert(1)",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("<script>alert") && !text.contains('⟦'), "{text}");
    let japanese = app.service.client.get(app.service.api_url("/parked")).header("cookie", "lang=ja");
    let japanese = japanese.send().await.unwrap().text().await.unwrap();
    assert!(japanese.contains("このホストの時計を合わせてください"), "{japanese}");

    let entry = text.split("href=\"/entry?").nth(1).unwrap().split('"').next().unwrap().replace("&amp;", "&");
    let entry = page(&app, &format!("/entry?{entry}")).await;
    for part in
        ["Group.CallbackAfterFoo&quot;,&quot;GroupId", "&lt;script&gt;", "7b 22 43 61", "replay --verify"]
    {
        assert!(entry.contains(part), "{part}: {entry}");
    }
    assert!(!entry.contains("<script>alert"), "{entry}");
    app.stop().await;
}

#[tokio::test]
async fn the_search_box_leads_to_the_one_group_or_person_and_lists_several() {
    let app = App::start_with(open).await;
    for (id, name) in [("@TGS#1", "Night owls"), ("@TGS#2", "Night trains"), ("shared", "Both")] {
        let mut body = sample("Group.CallbackAfterCreateGroup");
        (body["GroupId"], body["Name"]) = (json!(id), json!(name));
        (body["Operator_Account"], body["Owner_Account"]) = (json!("admin-7"), json!("mei"));
        body["MemberList"] = json!([{"Member_Account": "shared"}]);
        app.service.taken(&body).await;
    }
    drop(app.connect().await);
    let client =
        reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    for (typed, place) in [
        ("%40TGS%231", Some("/groups/%40TGS%231")),
        ("%20mei%20", Some("/users/mei")),
        // Acts, and is in no group.
        ("admin-7", Some("/users/admin-7")),
        ("OWLS", Some("/groups/%40TGS%231")),
        ("night", None),
        ("shared", None),
        ("%40TGS%23", None),
    ] {
        let answer = client.get(app.service.api_url(&format!("/groups?q={typed}"))).send().await.unwrap();
        let led = answer.headers().get("location").map(|place| place.to_str().unwrap().to_owned());
        assert_eq!(led.as_deref(), place, "{typed}");
        if place.is_none() {
            assert_eq!(answer.status().as_u16(), 200, "{typed}");
            let text = answer.text().await.unwrap();
            let links =
                ["/groups/%40TGS%231", "/groups/shared", "/users/shared"].map(|link| text.contains(link));
            let wanted = match typed {
                "night" => [true, false, false],
                "shared" => [false, true, true],
                _ => [false, false, false],
            };
            assert_eq!(links, wanted, "{typed}: {text}");
        }
    }
    app.stop().await;
}

#[tokio::test]
async fn positions_that_repeats_have_used_up_hide_no_entry_and_what_is_not_looked_at_is_said() {
    let database = TestDatabase::create().await;
    let mut conn = database.connect().await;
    let entries = "
INSERT INTO ledger (sdk_app_id, group_id, time_ms, digest, command, received_at, source, outcome, body, position)
SELECT $1, 'g', n, substr(sha256(n::text::bytea), 1, 16), 'c', now(), 'callback', 'applied', '{}', n * $4
  FROM generate_series($2, $3) n";
    let fill = async |conn: &mut PgConnection, app: i64, (first, last): (i64, i64), apart: i64| {
        let query = sqlx::query(entries).bind(app).bind(first).bind(last).bind(apart);
        query.execute(conn).await.unwrap();
    };
    fill(&mut conn, 1_400_000_001, (1, 5), 3_000).await;
    let app = SdkAppId::parse(APP).unwrap();
    let found = wall::newest(&mut conn, app, (0, None), 12).await.unwrap();
    let positions: Vec<i64> = found.rows.iter().map(|row| row.position).collect();
    assert_eq!((positions, found.is_cut), (vec![15_000, 12_000, 9_000, 6_000, 3_000], false));
    assert!(wall::newest(&mut conn, app, (0, None), 4).await.unwrap().is_cut, "there are five");
    fill(&mut conn, 7, (20_000, 22_000), 1).await;
    let found = wall::newest(&mut conn, app, (0, None), 12).await.unwrap();
    assert!(found.rows.is_empty() && found.is_cut, "another app has more entries than one read walks down");
    let found = wall::newest(&mut conn, app, (20_001, None), 12).await.unwrap();
    assert!(found.rows.is_empty() && !found.is_cut, "every entry was looked at");
}
