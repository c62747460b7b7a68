//! The console by keyboard alone, and without script.

use serde_json::json;

use crate::support::browser::{Browser, ENTER};
use crate::support::demo::Demo;
use crate::support::{App, eventually, unix_now};

fn open(settings: &mut group_mirror::config::Settings) {
    (settings.api_token, settings.api_auth) = (None, Some("none".to_owned()));
}

/// A created group, now.
fn created(id: &str, name: &str) -> serde_json::Value {
    json!({ "CallbackCommand": "Group.CallbackAfterCreateGroup", "GroupId": id, "EventTime": unix_now() * 1000,
        "Type": "Public", "Name": name, "Owner_Account": "mei_lin", "Operator_Account": "mei_lin", "MemberList": [] })
}

#[tokio::test]
async fn a_group_is_found_and_stepped_through_by_keys_alone() {
    let Some(browser) = Browser::open().await else { return };
    let demo = Demo::open().await;
    browser.go(&demo.base()).await;
    browser.press("/").await;
    browser.until("document.activeElement.id === 'search'").await;
    browser.press("@TGS#2NIGHTOWLS").await;
    browser.press(ENTER).await;
    browser.until("location.pathname.startsWith('/groups/')").await;
    let mut moments = Vec::new();
    for _ in 0..3 {
        let before = browser.address().await;
        browser.press("[").await;
        browser.until(&format!("location.href !== {}", json!(before))).await;
        moments.push(browser.address().await);
    }
    assert!(moments.iter().all(|address| address.contains("at=")), "{moments:?}");
    browser.press("]").await;
    browser.until(&format!("location.href === {}", json!(moments[1]))).await;
    browser.back().await;
    browser.until(&format!("location.href === {}", json!(moments[2]))).await;
    for (keys, path) in [("gl", "/"), ("gg", "/groups"), ("gp", "/parked"), ("gh", "/health")] {
        browser.press(keys).await;
        browser.until(&format!("location.pathname === {}", json!(path))).await;
    }
    browser.press("?").await;
    browser.until("document.querySelector('#keys').open").await;
    let theme = "document.documentElement.dataset.theme";
    let before = browser.run(&format!("return {theme}")).await;
    browser.press("t").await;
    browser.until(&format!("{theme} !== {before}")).await;
    browser.assert_well_behaved(&demo.base()).await;
    demo.app.stop().await;
}

#[tokio::test]
async fn a_pause_is_a_pause_and_says_how_much_waits() {
    let Some(browser) = Browser::open().await else { return };
    let demo = Demo::open().await;
    browser.go(&demo.base()).await;
    browser.press(".").await;
    for number in 0..3 {
        demo.app.service.taken(&created(&format!("paused-{number}"), &format!("Paused {number}"))).await;
    }
    browser.until("document.querySelector('main').textContent.includes('3 new')").await;
    assert!(!browser.text("main").await.contains("Paused 1"));
    browser.press(".").await;
    browser.until("document.querySelector('main').textContent.includes('Paused 2')").await;
    demo.app.stop().await;
}

#[tokio::test]
async fn a_live_page_says_that_its_stream_is_gone_and_opens_it_anew() {
    let Some(browser) = Browser::open().await else { return };
    let demo = Demo::open().await;
    browser.go(&demo.base()).await;
    // A second stream that is answered with 404, after which a browser does not try again by itself.
    browser
        .run(
            "window.opened = 0; window.isStale = false; const trust = document.getElementById('trust');
             const Plain = window.EventSource;
             window.EventSource = class extends Plain { constructor(url) { super(url); window.opened += 1; } };
             new MutationObserver(() => { window.isStale ||= trust.textContent.includes('No connection'); })
                 .observe(trust, { childList: true });
             feed.dataset.source = '/nowhere'; follow(); feed.dataset.source = '/live/events?after=0';",
        )
        .await;
    browser.until("window.isStale && window.opened >= 2").await;
    browser.until("!document.querySelector('#trust').textContent.includes('No connection')").await;
    demo.app.stop().await;
    browser.until("document.querySelector('#trust').textContent.includes('No connection')").await;
}

#[tokio::test]
async fn without_script_everything_is_there_after_a_reload() {
    let Some(browser) = Browser::open().await else { return };
    let demo = Demo::open().await;
    browser.without_script().await;
    browser.go(&demo.base()).await;
    demo.app.service.taken(&created("no-script", "Made without script")).await;
    // What is answered may wait in the spool for a moment.
    let is_there = async || {
        browser.reload().await;
        browser.text("main").await.contains("Made without script")
    };
    assert!(eventually(is_there).await, "{}", browser.text("main").await);
    browser.fill("#search", "lena.fischer").await;
    browser.press(ENTER).await;
    browser.until("location.pathname === '/users/lena.fischer'").await;
    // Language, zone and colours are a form.
    browser.run("document.querySelector('select[name=lang]').value = 'ja'").await;
    browser.click("form.choices button").await;
    browser
        .until("document.documentElement.lang === 'ja' && location.pathname === '/users/lena.fischer'")
        .await;
    demo.app.stop().await;
}

#[tokio::test]
async fn an_empty_console_says_what_to_do_and_shows_the_first_callback_when_it_comes() {
    let Some(browser) = Browser::open().await else { return };
    let app = App::start_with(open).await;
    browser.go(&app.service.api_url("/")).await;
    let text = browser.text("main").await;
    assert!(text.contains("curl ") && text.contains("simulate --demo"), "{text}");
    browser.run("window.stays = true").await;
    app.service.taken(&created("first", "The first one")).await;
    browser.until("document.querySelector('main').textContent.includes('The first one')").await;
    assert!(browser.is("window.stays").await, "the page was not loaded again");
    browser.assert_well_behaved(&app.service.api_url("")).await;
    app.stop().await;
}
