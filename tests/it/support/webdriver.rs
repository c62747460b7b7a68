//! ChromeDriver: one process per test process, and the few commands of the WebDriver protocol that the tests need.
//!
//! WebDriver is JSON over HTTP, so a client is one function. The crates for it do not fit: `thirtyfour` switches on
//! `preserve_order` of `serde_json` for every crate of the build, which `deny.toml` forbids because it changes what is
//! tested; `fantoccini` stands on a crate under the MPL.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use reqwest::{Client, Method};
use serde_json::{Value, json};

/// The key under which WebDriver names an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// Ends the driver, and with it the browsers, when the pipe to the shell breaks: when the test process has ended, however
/// it ended.
const KEEPER: &str = "\"$1\" --port=0 & driver=$!; cat >/dev/null; kill $driver; wait $driver";

/// The address of the driver; `None` where there is none.
static DRIVER: OnceLock<Option<String>> = OnceLock::new();

fn driver() -> Option<&'static str> {
    DRIVER.get_or_init(start_driver).as_deref()
}

fn start_driver() -> Option<String> {
    let program = std::env::var("CHROMEDRIVER").unwrap_or_else(|_| "chromedriver".to_owned());
    Command::new(&program).arg("--version").output().ok().filter(|output| output.status.success())?;
    let mut shell = Command::new("sh");
    shell.args(["-c", KEEPER, "sh", &program]).stdin(Stdio::piped()).stdout(Stdio::piped());
    // Ctrl-C in a terminal is for the test process, whose end is the shell's.
    let mut child = shell.stderr(Stdio::null()).process_group(0).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let started = lines.by_ref().map_while(Result::ok).find_map(|line| {
        let (_, port) = line.split_once("started successfully on port ")?;
        Some(format!("http://127.0.0.1:{}", port.trim_end_matches('.')))
    });
    // What it prints later is read, so that it never waits for a full pipe. The pipe to the shell is held until the end.
    std::thread::spawn(move || (lines.for_each(drop), child));
    Some(started.unwrap_or_else(|| panic!("{program} says no port")))
}

/// One session: one browser.
pub(crate) struct Session {
    client: Client,
    /// Below it stand all its commands.
    url: String,
}

impl Session {
    /// A browser with these arguments; `None` where there is no driver.
    pub(crate) async fn start(arguments: &[String]) -> Option<Self> {
        let driver = driver()?;
        let client = Client::builder().no_proxy().build().unwrap();
        let options = json!({ "args": arguments });
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": options, "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
            "timeouts": { "script": 60_000, "pageLoad": 60_000 } } } });
        let answer = ask(&client, Method::POST, &format!("{driver}/session"), &wanted).await;
        let id = answer["sessionId"].as_str().unwrap_or_else(|| panic!("no session: {answer}"));
        Some(Self { client, url: format!("{driver}/session/{id}") })
    }

    /// A command without arguments that reads.
    pub(crate) async fn get(&self, path: &str) -> Value {
        ask(&self.client, Method::GET, &format!("{}{path}", self.url), &Value::Null).await
    }

    pub(crate) async fn post(&self, path: &str, arguments: Value) -> Value {
        ask(&self.client, Method::POST, &format!("{}{path}", self.url), &arguments).await
    }

    /// A command of Chromium's own protocol.
    pub(crate) async fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.post("/goog/cdp/execute", json!({ "cmd": command, "params": parameters })).await
    }

    /// The path of the first element that a selector finds. Panics where there is none.
    pub(crate) async fn element(&self, selector: &str) -> String {
        let found = self.post("/element", json!({ "using": "css selector", "value": selector })).await;
        let id = found[ELEMENT].as_str().unwrap_or_else(|| panic!("{selector} finds nothing: {found}"));
        format!("/element/{id}")
    }

    /// Ends the browser, by a client of its own: the other one's connections belong to a runtime that may wait meanwhile.
    pub(crate) async fn end(self) {
        let client = Client::builder().no_proxy().build().unwrap();
        ask(&client, Method::DELETE, &self.url, &Value::Null).await;
    }
}

/// The value of an answer; an error of the driver is the value too, as an object with `error`.
async fn ask(client: &Client, method: Method, url: &str, arguments: &Value) -> Value {
    let mut request = client.request(method.clone(), url);
    if method == Method::POST {
        request = request.json(arguments);
    }
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    answer["value"].clone()
}
