//! The browser itself: it sees what the tests of the console assert that there is none of.

use serde_json::json;

use crate::support::browser::Browser;

#[tokio::test]
async fn a_browser_sees_requests_that_leave_the_host_and_refusals_by_a_policy() {
    let Some(browser) = Browser::open().await else { return };
    let page = "<!doctype html><meta http-equiv='Content-Security-Policy' content=\"script-src 'none'\">
        <title>t</title><img src='http://192.0.2.1/x.png'><script>document.title = 'ran'</script>";
    browser.go(&format!("data:text/html,{}", percent_encoded(page))).await;
    assert!(browser.requests().await.iter().any(|url| url.starts_with("http://192.0.2.1/")));
    let complaints = browser.complaints().await;
    assert!(complaints.iter().any(|line| line.contains("Content Security Policy")), "{complaints:?}");
    assert_eq!(browser.run_with("return document.title + arguments[0]", json!(["!"])).await, json!("t!"));
    let found = browser.axe().await;
    if let Some(found) = found {
        assert!(found.iter().any(|finding| finding.starts_with("image-alt")), "{found:?}");
    }
}

fn percent_encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
