//! A server that answers with what a test has written down, one answer per request, and keeps the requests.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, Request, Response};
use group_mirror::model::{Millis, SdkAppId};
use group_mirror::tencent::ClientSettings;
use group_mirror::tencent::client::TencentClient;
use group_mirror::tencent::retry::Pauses;
use group_mirror::tencent::usersig::SecretKey;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use crate::support::APP;

pub(crate) const KEY: &str = "5f2b8c0d9e7a41d6b3c58f0e1a2d4c6b7e8f9a0b1c2d3e4f5061728394a5b6c7";

/// 2026-01-01, which the clock of the clients under test shows.
pub(crate) const NOW_MS: i64 = 1_767_225_600_000;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub path: String,
    pub query: BTreeMap<String, String>,
    pub body: Value,
}

/// One answer of the script.
#[derive(Debug, Clone)]
pub(crate) struct Scripted {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// Never answers.
    pub hangs: bool,
}

impl Scripted {
    pub(crate) fn body(body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, headers: Vec::new(), body: body.into(), hangs: false }
    }

    /// An answer that ends with this code; 0: with success.
    pub(crate) fn code(code: i64) -> Self {
        let status = if code == 0 { "OK" } else { "FAIL" };
        Self::body(
            json!({ "ActionStatus": status, "ErrorCode": code, "ErrorInfo": "scripted", "GroupInfo": [],
                     "GroupIdList": [], "Next": 0, "TotalCount": 0 })
            .to_string(),
        )
    }

    pub(crate) fn status(status: u16) -> Self {
        Self { status, ..Self::body("<html>") }
    }

    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }
}

#[derive(Clone, Default)]
struct Script {
    answers: Arc<Mutex<VecDeque<Scripted>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// The server; it ends with the test.
pub(crate) struct ScriptedServer {
    pub url: String,
    script: Script,
    task: AbortHandle,
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(State(script): State<Script>, request: Request<Body>) -> Response<Body> {
    let query = request.uri().query().unwrap_or_default();
    let query = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let path = request.uri().path().to_owned();
    let bytes = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
    let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    script.asked.lock().unwrap().push(Asked { path, query, body });
    let next = script.answers.lock().unwrap().pop_front().unwrap_or_else(|| Scripted::code(0));
    if next.hangs {
        std::future::pending::<()>().await;
    }
    let mut response = Response::new(Body::from(next.body));
    *response.status_mut() = axum::http::StatusCode::from_u16(next.status).unwrap();
    for (name, value) in next.headers {
        response.headers_mut().insert(name, HeaderValue::from_str(&value).unwrap());
    }
    response
}

impl ScriptedServer {
    /// Answers in this order; what comes behind them succeeds with nothing in it.
    pub(crate) async fn start(answers: impl IntoIterator<Item = Scripted>) -> Self {
        let script = Script::default();
        script.answers.lock().unwrap().extend(answers);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = axum::Router::new().fallback(answer).with_state(script.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, script, task: serving.abort_handle() }
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.script.asked.lock().unwrap().clone()
    }
}

/// Settings without pauses worth the name, and limits that no test reaches.
pub(crate) fn settings(url: &str) -> ClientSettings {
    let key = SecretKey::new(KEY.to_owned());
    let app = SdkAppId::parse(APP).unwrap();
    let mut settings = ClientSettings::new(url.to_owned(), app, key, || Millis::new(NOW_MS));
    let short = Duration::from_millis(1);
    settings.pauses = Pauses { again: short, rate: short, longest: short, ban: short };
    settings.rate_factor = 1000.0;
    settings
}

pub(crate) fn client(url: &str) -> TencentClient {
    TencentClient::new(settings(url)).unwrap()
}
