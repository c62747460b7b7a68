//! A mirror to read: a database of its own per test, filled through the pure core, and the real service on port 0.

use std::collections::BTreeSet;

use group_mirror::callback::{Decoded, Received, decode};
use group_mirror::config::Settings;
use group_mirror::mirror::{Fact, Rows, facts};
use group_mirror::model::{Millis, SdkAppId};
use group_mirror::store::{Database, held, schema};
use serde_json::{Value, json};
use sqlx::Executor as _;

pub(crate) use super::APP;
use super::postgres::TestDatabase;
use super::{Service, eventually, settings};

/// 2026-01-01T00:00:00.000Z, in Unix milliseconds.
pub(crate) const T0: i64 = 1_767_225_600_000;

/// The facts of one body, which must be an applied callback received an hour after `T0`.
pub(crate) fn told(app: &str, body: &Value) -> Vec<Fact> {
    let received = Received::bare(
        SdkAppId::parse(app).unwrap(),
        Millis::new(T0 + 3_600_000),
        body.to_string().into_bytes(),
    );
    let Decoded::Kept(callback) = decode(received) else { panic!("out of scope: {body}") };
    assert_eq!(callback.event.as_ref().err(), None, "{body}");
    facts(&callback)
}

/// A body of `Group.CallbackAfter…`, `ms` after `T0`.
pub(crate) fn after(command: &str, group: &str, ms: i64, more: Value) -> Value {
    let mut body = json!({"CallbackCommand": format!("Group.CallbackAfter{command}"), "GroupId": group,
                          "EventTime": T0 + ms});
    let Value::Object(more) = more else { panic!("not an object: {more}") };
    body.as_object_mut().unwrap().extend(more);
    body
}

/// Inserts rows as the service does.
pub(crate) async fn insert(database: &TestDatabase, told: &Rows) {
    let mut conn = database.connect().await;
    held::write_whole(&mut conn, told).await.unwrap();
}

/// A service that starts on a filled mirror.
pub(crate) struct Api {
    pub base: String,
    pub client: reqwest::Client,
    service: Service,
    pub database: TestDatabase,
}

impl Api {
    /// On the mirror of these callbacks, read without tokens.
    pub(crate) async fn of(bodies: &[Value]) -> Self {
        let told: Vec<_> = bodies.iter().flat_map(|body| told(APP, body)).collect();
        Self::start(told, |_| {}).await
    }

    /// With settings changed by the test; without that the API is read without tokens.
    pub(crate) async fn start(told: Vec<Fact>, change: impl FnOnce(&mut Settings)) -> Self {
        Self::on(TestDatabase::create().await, told, change).await
    }

    /// On an empty database of the test's choice, which is migrated first.
    pub(crate) async fn start_on(
        database: TestDatabase,
        told: Vec<Fact>,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let pools = Database::new(&database.url).unwrap();
        schema::migrate(&pools).await.unwrap();
        pools.close().await;
        Self::on(database, told, change).await
    }

    /// On a migrated database of the test's choice.
    pub(crate) async fn on(
        database: TestDatabase,
        told: Vec<Fact>,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        insert(&database, &Rows::of(told)).await;
        let mut settings = settings(&database.url);
        (settings.api_token, settings.api_auth) = (None, Some("none".to_owned()));
        change(&mut settings);
        let service = Service::start(&settings).await.unwrap();
        Self { base: service.api_url(""), client: service.client.clone(), service, database }
    }

    pub(crate) async fn get(&self, path: &str) -> reqwest::Response {
        self.client.get(format!("{}{path}", self.base)).send().await.unwrap()
    }

    /// The JSON of an answer that must be 200.
    pub(crate) async fn json(&self, path: &str) -> Value {
        let response = self.get(path).await;
        let status = response.status();
        let text = response.text().await.unwrap();
        assert_eq!(status, 200, "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    }

    /// The problem of an answer that must have this status and code.
    pub(crate) async fn problem(&self, path: &str, status: u16, code: &str) -> Value {
        assert_problem(self.get(path).await, status, code).await
    }

    /// One text per item, all pages of a list with `limit` items each. `path` holds a query already.
    pub(crate) async fn walk(
        &self,
        path: &str,
        limit: usize,
        text: impl Fn(&Value) -> &Value,
    ) -> Vec<String> {
        let (mut seen, mut next) = (Vec::new(), String::new());
        loop {
            let page = self.json(&format!("{path}&limit={limit}{next}")).await;
            let items = page["items"].as_array().unwrap();
            assert!(items.len() <= limit);
            seen.extend(items.iter().map(|item| text(item).as_str().unwrap().to_owned()));
            assert!(seen.len() < 10_000, "{path} does not end");
            match page["next_cursor"].as_str() {
                Some(cursor) => {
                    assert_eq!(items.len(), limit, "{path}: only the last page may be short");
                    next = format!("&cursor={cursor}");
                }
                None => return seen,
            }
        }
    }

    /// The ids of the groups of one page.
    pub(crate) async fn groups(&self, query: &str) -> BTreeSet<String> {
        let page = self.json(&format!("/v1/groups?{query}")).await;
        assert_eq!(page["next_cursor"], Value::Null);
        let items = page["items"].as_array().unwrap();
        items.iter().map(|group| group["group_id"].as_str().unwrap().to_owned()).collect()
    }

    /// The URL of its database.
    pub(crate) fn url(&self) -> String {
        self.database.url.clone()
    }

    pub(crate) async fn connect(&self) -> sqlx::PgConnection {
        self.database.connect().await
    }

    pub(crate) async fn execute(&self, statement: &'static str) {
        self.database.connect().await.execute(statement).await.unwrap();
    }

    /// Waits until a path answers with a status, and returns such an answer.
    pub(crate) async fn until(&self, path: &str, status: u16) -> reqwest::Response {
        let came = eventually(async || self.get(path).await.status() == status).await;
        assert!(came, "{path} never answered {status}");
        self.get(path).await
    }

    /// From now on the database refuses every connection.
    pub(crate) async fn lose_the_database(&self) {
        self.database.refuse_connections().await;
    }

    pub(crate) async fn stop(self) {
        self.service.stop().await;
    }
}

/// Asserts that an answer is a problem of RFC 9457 with the fields of the contract, and returns it.
pub(crate) async fn assert_problem(response: reqwest::Response, status: u16, code: &str) -> Value {
    let id = request_id(&response);
    let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
    let got = response.status();
    let text = response.text().await.unwrap();
    assert_eq!((got.as_u16(), kind.as_str()), (status, "application/problem+json"), "{text}");
    let problem: Value = serde_json::from_str(&text).unwrap();
    let keys: BTreeSet<_> = problem.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["code", "detail", "request_id", "status", "title", "type"].into());
    assert_eq!(problem["request_id"], id, "the header and the document name one request");
    assert_eq!(
        (problem["status"].as_u64(), problem["code"].as_str()),
        (Some(status.into()), Some(code)),
        "{text}"
    );
    problem
}

/// The one id of an answer's request.
pub(crate) fn request_id(response: &reqwest::Response) -> String {
    let ids: Vec<_> = response.headers().get_all("x-request-id").iter().collect();
    let [id] = ids[..] else { panic!("{} request ids in {}", ids.len(), response.url()) };
    id.to_str().unwrap().to_owned()
}
