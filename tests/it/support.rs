//! A whole service per test: its own database, both listeners on free ports, a client that sends callbacks as Tencent
//! does. `App` is filled by callbacks; `api::Api` starts on a database that was filled before.

pub(crate) mod api;
pub(crate) mod apps;
pub(crate) mod browser;
pub(crate) mod chaos;
pub(crate) mod cluster;
pub(crate) mod demo;
pub(crate) mod dump;
pub(crate) mod fake_postgres;
pub(crate) mod follow;
pub(crate) mod histories;
pub(crate) mod load;
pub(crate) mod mutate;
pub(crate) mod pgbouncer;
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod raw_backend;
pub(crate) mod reads;
pub(crate) mod recording_backend;
pub(crate) mod shown;
pub(crate) mod tls;
pub(crate) mod webdriver;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use group_mirror::app::{self, RunningService};
use group_mirror::callback::signature::Token;
use group_mirror::config::Settings;
use group_mirror::outbox::DeliveryPauses;
use group_mirror::store::Database;
use reqwest::{Client, Response, StatusCode};
use serde_json::Value;
use sqlx::postgres::PgConnection;
use tempfile::TempDir;

use postgres::TestDatabase;

pub(crate) const APP: &str = "1400000001";
pub(crate) const TOKEN: &str = "mirror-secret-01";
pub(crate) const API_TOKEN: &str = "desk-secret";
pub(crate) const OK: &str = r#"{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0}"#;

/// Pauses between deliveries to a backend, so that a test does not wait for minutes.
const QUICK_PAUSES: DeliveryPauses = DeliveryPauses {
    first: Duration::from_millis(20),
    longest: Duration::from_millis(200),
    refused: Duration::from_millis(100),
    tried_for: Duration::from_secs(24 * 60 * 60),
    attempt: Duration::from_secs(5),
    trial: Duration::from_millis(20),
};

/// How often a condition is checked.
const POLL: Duration = Duration::from_millis(20);

/// After this a condition that does not hold is a failure, also on a slow machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// One running service.
pub(crate) struct Service {
    pub running: RunningService,
    pub client: Client,
    /// Deleted with the service; `None` where the test chose a directory.
    _data: Option<TempDir>,
}

/// One service on a database of its own.
pub(crate) struct App {
    pub service: Service,
    pub database: TestDatabase,
}

/// The settings that the tests start from: everything authenticated, ports chosen by the system.
pub(crate) fn settings(url: &str) -> Settings {
    let set = |text: &str| Some(text.to_owned());
    Settings {
        database_url: set(url),
        sdk_app_id: set(APP),
        callback_token: set(TOKEN),
        callback_listen: set("127.0.0.1:0"),
        api_listen: set("127.0.0.1:0"),
        api_token: Some(format!("desk+raw:{API_TOKEN}")),
        ..Settings::default()
    }
}

impl Service {
    /// Started, with the first check of the database behind it.
    pub(crate) async fn start(settings: &Settings) -> anyhow::Result<Self> {
        let service = Self::start_at_once(settings).await?;
        if let Err(error) = service.running.checked().await {
            service.stop().await;
            return Err(error);
        }
        Ok(service)
    }

    /// Started, whether or not the database has answered.
    pub(crate) async fn start_at_once(settings: &Settings) -> anyhow::Result<Self> {
        let data = settings.data_dir.is_none().then(|| tempfile::tempdir().unwrap());
        let mut settings = settings.clone();
        if let Some(data) = &data {
            settings.data_dir = Some(data.path().display().to_string());
        }
        let mut serving = settings.serve_config()?;
        // A test that is not about the stop does not wait for silences.
        serving.stop_silence = Duration::ZERO;
        serving.delivery_pauses = QUICK_PAUSES;
        let listeners = app::bind(&serving).await?;
        let database = Database::new(settings.database_url.as_deref().unwrap())?;
        let running = app::start(&serving, database, listeners).await?;
        let client = Client::builder().no_proxy().build()?;
        Ok(Self { running, client, _data: data })
    }

    /// Posts a body as Tencent does, signed now.
    pub(crate) async fn post(&self, command: &str, body: impl Into<reqwest::Body>) -> Response {
        self.post_with(&format!("&CallbackCommand={command}&contenttype=json"), body).await
    }

    /// The same with a query tail of the test's choice.
    pub(crate) async fn post_with(&self, query_tail: &str, body: impl Into<reqwest::Body>) -> Response {
        let url = format!("http://{}/?{}{query_tail}", self.running.callback_addr, signed_query());
        self.client.post(url).body(body).send().await.unwrap()
    }

    /// Posts a body and asserts a plain OK.
    pub(crate) async fn taken(&self, body: &Value) {
        let command = body["CallbackCommand"].as_str().unwrap();
        let answer = self.post(command, body.to_string()).await;
        assert_eq!(answer.status(), StatusCode::OK, "{body}");
        assert_eq!(answer.text().await.unwrap(), OK, "{body}");
    }

    /// Posts a body and returns the reason why it was parked.
    pub(crate) async fn parked(&self, body: &str) -> String {
        let answer = self.post_with("", body.to_owned()).await;
        assert_eq!(answer.status(), StatusCode::OK, "{body}");
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(answer["ActionStatus"], "OK", "{body}");
        let info = answer["ErrorInfo"].as_str().unwrap();
        info.strip_prefix("parked: ").unwrap_or_else(|| panic!("not parked: {body}: {info:?}")).to_owned()
    }

    /// Whether `/readyz` answers 200, and its body.
    pub(crate) async fn readiness(&self) -> (bool, Value) {
        let answer = self.client.get(self.api_url("/readyz")).send().await.unwrap();
        (answer.status() == StatusCode::OK, answer.json().await.unwrap())
    }

    /// Waits until the body of `/readyz` is as wanted.
    pub(crate) async fn until(&self, wanted: impl Fn(&Value) -> bool) {
        let came = eventually(async || wanted(&self.readiness().await.1)).await;
        assert!(came, "never came true; last: {:?}", self.readiness().await);
    }

    pub(crate) fn api_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.running.api_addr)
    }

    /// Reads the API with the right token, once the spool is empty: on a busy machine a callback may be in it. Panics
    /// unless the answer is 200.
    pub(crate) async fn read(&self, path: &str) -> Value {
        self.until(|told| told["spool"]["depth"] == 0).await;
        let answer = self.client.get(self.api_url(path)).bearer_auth(API_TOKEN).send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert_eq!(status, StatusCode::OK, "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    pub(crate) async fn stop(self) {
        self.running.stop().await;
    }
}

impl App {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// With settings changed by the test.
    pub(crate) async fn start_with(change: impl FnOnce(&mut Settings)) -> Self {
        let database = TestDatabase::create().await;
        let mut settings = settings(&database.url);
        change(&mut settings);
        Self { service: Service::start(&settings).await.unwrap(), database }
    }

    /// A connection to the database, once the spool is empty.
    pub(crate) async fn connect(&self) -> PgConnection {
        self.service.until(|told| told["spool"]["depth"] == 0).await;
        self.database.connect().await
    }

    pub(crate) async fn stop(self) {
        self.service.stop().await;
    }
}

/// Waits until a condition holds; false if it does not in [`PATIENCE`].
pub(crate) async fn eventually(condition: impl AsyncFn() -> bool) -> bool {
    let held = async {
        while !condition().await {
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(PATIENCE, held).await.is_ok()
}

/// The clock, in Unix seconds.
pub(crate) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// `SdkAppid`, `Sign` and `RequestTime`, signed now.
pub(crate) fn signed_query() -> String {
    let now = unix_now().to_string();
    format!("SdkAppid={APP}&Sign={}&RequestTime={now}", Token::new(TOKEN.into()).sign(&now))
}

/// All files below `tests/it/data/samples`, by path.
pub(crate) fn samples() -> Vec<(String, String)> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/data/samples");
    let mut found = Vec::new();
    for dir in [root.clone(), root.join("variants")] {
        for file in std::fs::read_dir(dir).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "json") {
                let name = path.strip_prefix(&root).unwrap().display().to_string();
                found.push((name, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    assert!(found.len() >= 40, "the samples are there");
    found
}

/// One sample by its path without `.json`.
pub(crate) fn sample(name: &str) -> Value {
    let file = format!("{name}.json");
    let (_, text) = samples().into_iter().find(|(path, _)| *path == file).unwrap();
    serde_json::from_str(&text).unwrap()
}
