//! A headless Chromium for a test: pages, keys, sizes, schemes, and what it asked for and complained about.
//!
//! It resolves no name, so that a page that asks another host for something gets nothing, and the request is seen.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::postgres::on_a_thread;
use super::webdriver::Session;
use super::{PATIENCE, eventually};

/// The key that no letter stands for, as WebDriver writes it.
pub(crate) const ENTER: &str = "\u{e007}";

/// One browser; ended when dropped.
pub(crate) struct Browser {
    /// Taken by `drop` alone.
    session: Option<Session>,
    _profile: TempDir,
}

/// One thing that axe-core complains about, as text.
pub(crate) type Finding = String;

impl Browser {
    /// Started with an empty profile. Prints and answers `None` where Chromium or its driver is missing.
    #[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
    pub(crate) async fn open() -> Option<Self> {
        let profile = tempfile::tempdir().unwrap();
        let arguments = [
            "--headless=new",
            // The sandbox of Chromium does not start as root; the pages are our own.
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
            "--hide-scrollbars",
            "--accept-lang=en",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        ];
        let mut arguments: Vec<String> = arguments.map(str::to_owned).into();
        arguments.push(format!("--user-data-dir={}", profile.path().display()));
        let Some(session) = Session::start(&arguments).await else {
            println!("skipped: there is no chromedriver; install chromium-driver or name it by CHROMEDRIVER");
            return None;
        };
        let browser = Self { session: Some(session), _profile: profile };
        // The page that Chromium begins with is forgotten.
        browser.go("about:blank").await;
        browser.requests().await;
        browser.complaints().await;
        Some(browser)
    }

    fn session(&self) -> &Session {
        self.session.as_ref().unwrap()
    }

    /// Opens an address and waits until the page is loaded.
    pub(crate) async fn go(&self, url: &str) {
        let answer = self.session().post("/url", json!({ "url": url })).await;
        assert_eq!(answer, Value::Null, "{url}");
    }

    pub(crate) async fn back(&self) {
        self.session().post("/back", json!({})).await;
    }

    pub(crate) async fn reload(&self) {
        self.session().post("/refresh", json!({})).await;
    }

    /// Where it is.
    pub(crate) async fn address(&self) -> String {
        self.session().get("/url").await.as_str().unwrap().to_owned()
    }

    /// The result of a function body in the page.
    pub(crate) async fn run(&self, script: &str) -> Value {
        self.run_with(script, json!([])).await
    }

    pub(crate) async fn run_with(&self, script: &str, arguments: Value) -> Value {
        let result =
            self.session().post("/execute/sync", json!({ "script": script, "args": arguments })).await;
        assert!(result.get("error").is_none(), "{script}: {result}");
        result
    }

    /// Whether an expression is true in the page.
    pub(crate) async fn is(&self, expression: &str) -> bool {
        self.run(&format!("return Boolean({expression})")).await == json!(true)
    }

    /// Waits until it is.
    pub(crate) async fn until(&self, expression: &str) {
        // A page that is being left answers with an error for a moment.
        let script = json!({ "script": format!("return Boolean({expression})"), "args": [] });
        let came =
            eventually(async || self.session().post("/execute/sync", script.clone()).await == json!(true));
        assert!(came.await, "never true in {PATIENCE:?}: {expression}\n{}", self.text("body").await);
    }

    /// What a person reads in the first element of a selector.
    pub(crate) async fn text(&self, selector: &str) -> String {
        let element = self.session().element(selector).await;
        self.session().get(&format!("{element}/text")).await.as_str().unwrap_or_default().to_owned()
    }

    pub(crate) async fn click(&self, selector: &str) {
        let element = self.session().element(selector).await;
        let answer = self.session().post(&format!("{element}/click"), json!({})).await;
        assert_eq!(answer, Value::Null, "{selector}");
    }

    /// Types into a field, after what stands there.
    pub(crate) async fn fill(&self, selector: &str, text: &str) {
        let element = self.session().element(selector).await;
        let answer = self.session().post(&format!("{element}/value"), json!({ "text": text })).await;
        assert_eq!(answer, Value::Null, "{selector}");
    }

    /// Presses keys one after the other, wherever the focus is.
    pub(crate) async fn press(&self, keys: &str) {
        let strokes: Vec<Value> = keys
            .chars()
            .flat_map(|key| {
                ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key.to_string() }))
            })
            .collect();
        let actions = json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": strokes }] });
        let answer = self.session().post("/actions", actions).await;
        assert_eq!(answer, Value::Null, "{keys}");
    }

    /// The size of the page's window, in CSS pixels.
    pub(crate) async fn resize(&self, width: u32, height: u32) {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.session().devtools("Emulation.setDeviceMetricsOverride", metrics).await;
    }

    /// `light` or `dark`.
    pub(crate) async fn scheme(&self, scheme: &str) {
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.session().devtools("Emulation.setEmulatedMedia", features).await;
    }

    /// Pages that are opened from now on run no script.
    pub(crate) async fn without_script(&self) {
        self.session().devtools("Emulation.setScriptExecutionDisabled", json!({ "value": true })).await;
    }

    pub(crate) async fn cookies(&self) -> Vec<Value> {
        self.session().get("/cookie").await.as_array().unwrap().clone()
    }

    /// Sets a cookie of the page's host.
    pub(crate) async fn cookie(&self, name: &str, value: &str) {
        let cookie = json!({ "cookie": { "name": name, "value": value, "path": "/" } });
        assert_eq!(self.session().post("/cookie", cookie).await, Value::Null, "{name}");
    }

    /// Writes a picture of the whole page.
    pub(crate) async fn picture(&self, file: &Path) {
        let whole = json!({ "format": "png", "captureBeyondViewport": true });
        let picture = self.session().devtools("Page.captureScreenshot", whole).await;
        let bytes = base64::engine::general_purpose::STANDARD.decode(picture["data"].as_str().unwrap());
        std::fs::write(file, bytes.unwrap()).unwrap();
    }

    /// By how many pixels the page is wider than its window.
    pub(crate) async fn excess_width(&self) -> i64 {
        let script = "const root = document.scrollingElement; return root.scrollWidth - root.clientWidth";
        self.run(script).await.as_i64().unwrap()
    }

    /// What axe-core finds on the page; `None`, and a line, where axe-core is missing.
    #[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
    pub(crate) async fn axe(&self) -> Option<Vec<Finding>> {
        let Ok(source) = std::fs::read_to_string(axe_file()) else {
            println!("skipped: there is no {}; .ci/axe fetches it", axe_file().display());
            return None;
        };
        if !self.is("window.axe").await {
            self.run(&format!("{source}; window.axe = axe; return null")).await;
        }
        let script = "const done = arguments[0];
            const text = (rule, node) => rule.id + ': ' + rule.help + ': ' + node.html + ' '
                + node.any.concat(node.all, node.none).map(check => check.message).join('; ');
            axe.run(document, { resultTypes: ['violations'] }).then(
                result => done(result.violations.flatMap(rule => rule.nodes.map(node => text(rule, node)))),
                error => done(['axe-core failed: ' + error]))";
        let found = self.session().post("/execute/async", json!({ "script": script, "args": [] })).await;
        let found = found.as_array().unwrap_or_else(|| panic!("axe-core does not answer: {found}")).clone();
        Some(found.iter().map(|finding| finding.as_str().unwrap().to_owned()).collect())
    }

    /// What Chromium has written into its console since it was asked last: errors of scripts, refusals by the page's
    /// policy, answers with an error.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        let lines = self.session().post("/se/log", json!({ "type": "browser" })).await;
        let lines = lines.as_array().unwrap().clone();
        lines.iter().map(|line| line["message"].as_str().unwrap().to_owned()).collect()
    }

    /// The addresses of all requests since it was asked last.
    pub(crate) async fn requests(&self) -> Vec<String> {
        let events = self.session().post("/se/log", json!({ "type": "performance" })).await;
        let events = events.as_array().unwrap().clone();
        let urls = events.iter().filter_map(|event| {
            let event: Value = serde_json::from_str(event["message"].as_str()?).ok()?;
            let sent = event["message"]["method"] == "Network.requestWillBeSent";
            sent.then(|| event["message"]["params"]["request"]["url"].as_str().unwrap().to_owned())
        });
        urls.collect()
    }

    /// Asserts that every request since it was asked last went to this server, and that Chromium has no complaint.
    pub(crate) async fn assert_well_behaved(&self, base: &str) {
        let elsewhere: BTreeSet<String> = self
            .requests()
            .await
            .into_iter()
            .filter(|url| {
                !url.starts_with(base)
                    && !["data:", "chrome:", "about:"].iter().any(|own| url.starts_with(own))
            })
            .collect();
        assert!(elsewhere.is_empty(), "requests that leave the host: {elsewhere:?}");
        assert_eq!(self.complaints().await, Vec::<String>::new());
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let session = self.session.take();
        on_a_thread(async move || {
            if let Some(session) = session {
                session.end().await;
            }
        });
    }
}

/// Where `.ci/axe` puts it: beside what cargo builds.
fn axe_file() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("axe-core/axe.min.js")
}
