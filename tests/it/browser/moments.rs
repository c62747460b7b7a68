//! The moments at which the console has to be better than what Tencent's own shows: why was I thrown out, show me the group
//! as it was, what did this moderator do, it moves while I watch, can I trust this; and a wrong token.

use std::collections::BTreeSet;

use serde_json::json;

use crate::support::browser::{Browser, ENTER};
use crate::support::demo::Demo;
use crate::support::{TOKEN, eventually, unix_now};

const OWLS: &str = "/groups/%40TGS%232NIGHTOWLS";

/// What a person reads below the navigation.
async fn main_text(browser: &Browser) -> String {
    browser.text("main").await
}

#[tokio::test]
async fn a_pasted_user_id_says_in_the_first_line_who_removed_that_person_when_and_with_whom() {
    let Some(browser) = Browser::open().await else { return };
    let demo = Demo::open().await;
    browser.go(&demo.base()).await;
    browser.cookie("tz", "Europe/Berlin").await;
    browser.fill("#search", "lena.fischer").await;
    browser.press(ENTER).await;
    browser.until("location.pathname === '/users/lena.fischer'").await;
    let text = main_text(&browser).await;
    let first: String = text.lines().skip(1).take(2).collect::<Vec<_>>().join(" ");
    for part in ["Night owls reading club", "boris-2", "22:21", "Web", "five"] {
        assert!(first.contains(part), "{part} is not in: {first}\n\n{text}");
    }
    assert!(browser.is("document.querySelector('main a[href*=\"NIGHTOWLS\"][href*=\"at=\"]')").await);
    browser.assert_well_behaved(&demo.base()).await;
    demo.app.stop().await;
}

#[tokio::test]
async fn a_mark_on_the_time_rail_leads_to_the_group_as_it_was_then() {
    let Some(browser) = Browser::open().await else { return };
    let demo = Demo::open().await;
    browser.resize(1280, 900).await;
    browser.go(&format!("{}{OWLS}", demo.base())).await;
    let now = main_text(&browser).await;
    assert!(!now.contains("lena.fischer\n"), "she was removed: {now}");
    // The last removal mark: last night.
    let mark = "const marks = [...document.querySelectorAll('a.rail-removal')].filter(a => a.getClientRects().length);
        return marks.at(-1).getAttribute('href')";
    let address = browser.run(mark).await;
    let address = address.as_str().unwrap();
    assert!(address.contains("at="), "{address}");
    // A minute before the removals the six are members.
    let then = demo.at(13, 21, 16).replace(':', "%3A");
    browser.go(&format!("{}{OWLS}?at={then}", demo.base())).await;
    let text = main_text(&browser).await;
    for user in ["lena.fischer", "tomasz_w", "aiko.m", "priya-n", "joao.silva", "sven_k"] {
        assert!(text.contains(user), "{user} was a member then: {text}");
    }
    let wanted = demo
        .app
        .service
        .client
        .get(format!("{}/v1{OWLS}/members?at={then}&limit=500", demo.base()))
        .send()
        .await
        .unwrap();
    let wanted: serde_json::Value = wanted.json().await.unwrap();
    let wanted = wanted["items"].as_array().unwrap().len();
    assert!(text.contains(&format!("{wanted} members")), "{wanted} members then: {text}");
    // The click itself.
    browser.go(&format!("{}{OWLS}", demo.base())).await;
    browser
        .run(
            "[...document.querySelectorAll('a.rail-removal')].filter(a => a.getClientRects().length).at(-1)
        .dispatchEvent(new MouseEvent('click', { bubbles: true, cancelable: true, view: window }))",
        )
        .await;
    browser.until("location.search.includes('at=')").await;
    browser.assert_well_behaved(&demo.base()).await;
    demo.app.stop().await;
}

#[tokio::test]
async fn a_dismissed_group_opens_with_those_who_were_in_it() {
    let Some(browser) = Browser::open().await else { return };
    let demo = Demo::open().await;
    let poem = format!("{}/groups/%40TGS%232WINTERPOEM", demo.base());
    browser.go(&poem).await;
    let text = main_text(&browser).await;
    assert!(text.contains("Winter poetry circle") && text.contains("olga.petrova"), "{text}");
    let then = demo.at(11, 20, 1).replace(':', "%3A");
    browser.go(&format!("{poem}?at={then}")).await;
    let text = main_text(&browser).await;
    for user in ["olga.petrova", "dmitri_v", "noa_levi", "lena.fischer", "layla.h", "yusuf_a"] {
        assert!(text.contains(user), "{user}: {text}");
    }
    demo.app.stop().await;
}

#[tokio::test]
async fn what_a_moderator_did_last_night_is_one_page_over_all_groups_and_a_csv() {
    let Some(browser) = Browser::open().await else { return };
    let demo = Demo::open().await;
    browser.go(&format!("{}/users/boris-2", demo.base())).await;
    let text = main_text(&browser).await;
    for part in ["lena.fischer", "zhang_wei", "Night owls reading club", "夜猫子读书会"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let csv = browser
        .run(
            "return [...document.querySelectorAll('main a')].map(a => a.href).find(href => /csv/.test(href))",
        )
        .await;
    let csv = csv.as_str().unwrap_or_else(|| panic!("no link to a CSV: {text}")).to_owned();
    let answer = demo.app.service.client.get(&csv).send().await.unwrap();
    assert_eq!(answer.status(), 200, "{csv}");
    let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
    let table = answer.text().await.unwrap();
    assert!(kind.starts_with("text/csv"), "{kind}: {table}");
    assert!(table.contains("lena.fischer") && table.contains("zhang_wei"), "{table}");
    demo.app.stop().await;
}

#[tokio::test]
async fn a_callback_shows_on_every_open_page_without_a_reload() {
    let Some(first) = Browser::open().await else { return };
    let Some(second) = Browser::open().await else { return };
    let demo = Demo::open().await;
    for browser in [&first, &second] {
        browser.go(&demo.base()).await;
        browser.run("window.stays = true").await;
    }
    let body = json!({ "CallbackCommand": "Group.CallbackAfterCreateGroup", "GroupId": "@TGS#2MIDNIGHT",
        "EventTime": unix_now() * 1000, "Type": "Public", "Name": "Midnight <b>tea</b>", "Owner_Account": "mei_lin",
        "Operator_Account": "mei_lin", "MemberList": [] });
    demo.app.service.taken(&body).await;
    for browser in [&first, &second] {
        browser.until("document.querySelector('main').textContent.includes('Midnight <b>tea</b>')").await;
        assert!(browser.is("window.stays").await, "the page was not loaded again");
        browser.assert_well_behaved(&demo.base()).await;
    }
    demo.app.stop().await;
}

#[tokio::test]
async fn the_first_line_of_every_page_says_that_the_database_is_away_and_that_it_is_back() {
    let Some(browser) = Browser::open().await else { return };
    let demo = Demo::open().await;
    let base = demo.base();
    browser.go(&base).await;
    let before = browser.text("#trust").await;
    demo.app.database.refuse_connections().await;
    let body = json!({ "CallbackCommand": "Group.CallbackAfterNewMemberJoin", "GroupId": "@TGS#2NIGHTOWLS",
        "EventTime": unix_now() * 1000, "Type": "Public", "JoinType": "Apply", "Operator_Account": "hugo_p",
        "NewMemberList": [{ "Member_Account": "late_comer" }] });
    demo.app.service.taken(&body).await;
    for path in ["/", "/groups", OWLS, "/users/boris-2", "/parked", "/health"] {
        browser.go(&format!("{base}{path}")).await;
        let line = browser.text("#trust").await;
        assert_ne!(line, before, "{path}: the line is as it was");
        assert!(!line.contains("database ok"), "{path}: {line}");
    }
    demo.app.database.allow_connections().await;
    let is_back = async || {
        browser.go(&format!("{base}{OWLS}")).await;
        browser.text("#trust").await.contains("database ok")
            && main_text(&browser).await.contains("late_comer")
    };
    assert!(eventually(is_back).await, "{}", browser.text("body").await);
    demo.app.stop().await;
}

#[tokio::test]
async fn a_wrong_token_shows_as_refused_signatures_with_a_remedy() {
    let Some(browser) = Browser::open().await else { return };
    let demo = Demo::open().await;
    let service = &demo.app.service;
    let now = unix_now().to_string();
    let wrong = group_mirror::callback::signature::Token::new(format!("{TOKEN}-old")).sign(&now);
    for _ in 0..7 {
        let query = format!("SdkAppid={}&Sign={wrong}&RequestTime={now}", crate::support::APP);
        let url = format!("http://{}/callback?{query}", service.running.callback_addr);
        assert_eq!(service.client.post(url).body("{}").send().await.unwrap().status(), 403);
    }
    browser.go(&format!("{}/parked", demo.base())).await;
    let text = main_text(&browser).await;
    assert!(text.to_lowercase().contains("signature") && text.contains('7'), "{text}");
    assert!(text.contains("CALLBACK_TOKEN"), "the remedy names the setting: {text}");
    // Every callback that came is on some page: what is not kept as well.
    assert!(text.contains("Group.CallbackAfterSendMsg"), "{text}");
    let parked: BTreeSet<&str> =
        ["AfterMemberMuted", "NewMemberList"].into_iter().filter(|part| text.contains(part)).collect();
    assert_eq!(parked.len(), 2, "both parked callbacks are there: {text}");
    demo.app.stop().await;
}
