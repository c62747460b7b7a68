//! Who comes in: the login page, a wrong token, the way out, a form that another site sends.

use crate::support::browser::{Browser, ENTER};
use crate::support::demo::Demo;
use crate::support::{API_TOKEN, eventually};

#[tokio::test]
async fn a_token_opens_the_console_a_wrong_one_does_not_and_logging_out_closes_it() {
    let Some(browser) = Browser::open().await else { return };
    let demo = Demo::with(|_| {}).await;
    let base = demo.base();
    browser.go(&format!("{base}/users/boris-2")).await;
    browser.until("location.pathname === '/login'").await;
    assert!(!browser.text("body").await.contains("Night owls"), "nothing is shown before the login");
    browser.complaints().await;
    browser.run("document.activeElement.blur()").await;
    browser.press("/").await;
    assert_eq!(browser.complaints().await, Vec::<String>::new(), "there is no search box to go to");
    browser.fill("input[type=password]", "not-a-token").await;
    browser.press(ENTER).await;
    browser.until("document.querySelector('[role=alert]')").await;
    assert!(browser.cookies().await.iter().all(|cookie| cookie["httpOnly"] != true));
    if let Some(found) = browser.axe().await {
        assert_eq!(found, Vec::<String>::new());
    }
    browser.fill("input[type=password]", API_TOKEN).await;
    browser.press(ENTER).await;
    browser.until("location.pathname === '/users/boris-2'").await;
    assert!(browser.text("main").await.contains("Night owls"));
    let cookies = browser.cookies().await;
    let session = cookies.iter().find(|cookie| cookie["httpOnly"] == true).unwrap();
    assert_eq!(session["sameSite"], "Strict", "{session}");
    assert!(!session["value"].as_str().unwrap().contains(API_TOKEN), "the cookie does not hold the token");
    browser.click("form[action$=logout] button").await;
    browser.until("location.pathname === '/login'").await;
    browser.go(&format!("{base}/groups")).await;
    browser.until("location.pathname === '/login'").await;
    demo.app.stop().await;
}

#[tokio::test]
async fn a_page_of_another_site_can_neither_log_a_reader_in_nor_out() {
    let Some(browser) = Browser::open().await else { return };
    let demo = Demo::with(|_| {}).await;
    let base = demo.base();
    browser.go(&format!("{base}/login")).await;
    browser.fill("input[type=password]", API_TOKEN).await;
    browser.press(ENTER).await;
    browser.until("location.pathname === '/'").await;
    // A data: page has an origin of its own.
    let page = format!(
        "<form method=post action={base}/logout><button>go</button></form>\
         <form id=in method=post action={base}/login><input name=token value={API_TOKEN}><button>go</button></form>"
    );
    for button in ["form button", "#in button"] {
        let encoded: String = page.bytes().map(|byte| format!("%{byte:02X}")).collect();
        browser.go(&format!("data:text/html,{encoded}")).await;
        browser.click(button).await;
        assert!(eventually(async || browser.address().await.starts_with(&base)).await);
        assert!(!browser.text("body").await.contains("Night owls"), "{button}");
    }
    browser.go(&format!("{base}/users/boris-2")).await;
    assert!(browser.text("main").await.contains("Night owls"), "still logged in");
    demo.app.stop().await;
}
