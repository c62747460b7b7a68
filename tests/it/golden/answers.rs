//! What the read API answers about the golden data, and cursors that were handed out: a later program answers the same, with
//! further members perhaps, and reads the cursors.
//!
//! The epoch in a cursor of the feed belongs to one database (docs/formats.md), and loading a dump makes another one. So it
//! is taken out of the answers, and put into cursors that are to be read; as it was handed out such a cursor is refused.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::files::releases;
use super::life::OTHER_APP;
use crate::support::apps::{ALL, settings_of};
use crate::support::postgres::TestDatabase;
use crate::support::{APP, Service, eventually};

/// What stands for the epoch of a database.
const EPOCH: &str = "EPOCH";

/// What a path is answered with.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Answer {
    path: String,
    status: u16,
    body: Value,
}

/// A cursor as it was handed out.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct GoldenCursor {
    /// The list that it goes on with.
    path: String,
    cursor: String,
    /// What it is in plain words: the JSON in it.
    says: Value,
    /// How it is answered; of the feed with the epoch of the database that is read.
    status: u16,
    /// The page behind it.
    page: Value,
}

impl GoldenCursor {
    pub(super) fn is_of_feed(&self) -> bool {
        self.says["after"].get("e").is_some()
    }

    pub(super) fn list(&self) -> &str {
        &self.path
    }

    pub(super) fn words(&self) -> &Value {
        &self.says
    }
}

/// Whom the tests read.
pub(super) struct Reader {
    service: Service,
    epoch: String,
}

pub(super) fn decoded(cursor: &str) -> Option<Value> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()
}

pub(super) fn encoded(says: &Value) -> String {
    URL_SAFE_NO_PAD.encode(says.to_string())
}

/// The same with another epoch, where it is one of the feed.
fn with_epoch(cursor: &str, epoch: &str) -> String {
    let Some(mut says) = decoded(cursor).filter(|says| says["after"].get("e").is_some()) else {
        return cursor.to_owned();
    };
    says["after"]["e"] = json!(epoch);
    encoded(&says)
}

/// An answer without what differs from database to database, and from moment to moment.
fn settled(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(settled),
        Value::Object(members) => {
            for name in ["counted_at", "spool", "refusals", "last_callback_at"] {
                members.remove(name);
            }
            // Of a problem: the id of the request, and a sentence.
            if members.contains_key("code") {
                members.remove("request_id");
                members.remove("detail");
            }
            members.values_mut().for_each(settled);
        }
        Value::String(text) if text.starts_with("ey") => *text = with_epoch(text, EPOCH),
        _ => {}
    }
}

/// Asserts that everything golden is there; members that are new may be.
fn assert_holds(golden: &Value, now: &Value, at: &str) {
    match (golden, now) {
        (Value::Object(golden), Value::Object(now)) => {
            for (name, value) in golden {
                assert_holds(
                    value,
                    now.get(name).unwrap_or_else(|| panic!("{at}: {name} is missing")),
                    &format!("{at}.{name}"),
                );
            }
        }
        (Value::Array(golden), Value::Array(now)) => {
            assert_eq!(golden.len(), now.len(), "{at}");
            for (number, (golden, now)) in golden.iter().zip(now).enumerate() {
                assert_holds(golden, now, &format!("{at}[{number}]"));
            }
        }
        _ => assert_eq!(now, golden, "{at}"),
    }
}

impl Reader {
    pub(super) async fn start(database: &TestDatabase) -> Self {
        let settings = settings_of(&[APP, OTHER_APP], &database.url);
        let service = Service::start(&settings).await.unwrap();
        let mut conn = database.connect().await;
        let count = "SELECT count(*) FROM ledger WHERE sdk_app_id = $1";
        let entries: i64 =
            sqlx::query_scalar(count).bind(APP.parse::<i64>().unwrap()).fetch_one(&mut conn).await.unwrap();
        let reader = Self { service, epoch: group_mirror::store::feed::epoch(&mut conn).await.unwrap() };
        let is_known = async || {
            let (_, page) = reader.get(&format!("/v1/changes?sdk_app_id={APP}&limit=500")).await;
            page["items"].as_array().is_some_and(|items| i64::try_from(items.len()) == Ok(entries))
        };
        assert!(eventually(is_known).await, "the feed never came to its end");
        reader
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let request = self.service.client.get(self.service.api_url(path)).bearer_auth(ALL);
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap_or_else(|error| panic!("{path}: {status}: {error}")))
    }

    pub(super) async fn answer(&self, path: &str) -> Answer {
        let (status, mut body) = self.get(path).await;
        settled(&mut body);
        Answer { path: path.to_owned(), status, body }
    }

    /// Status and page of a cursor that was handed out for a list.
    async fn page_behind(&self, path: &str, cursor: &str) -> (u16, Value) {
        let (status, mut page) =
            self.get(&format!("{path}&cursor={}", with_epoch(cursor, &self.epoch))).await;
        settled(&mut page);
        (status, page)
    }

    /// The cursor behind the first page of a list.
    pub(super) async fn cursor(&self, path: &str) -> GoldenCursor {
        let (status, page) = self.get(path).await;
        let cursor = page["next_cursor"].as_str().unwrap_or_else(|| panic!("{path}: {status}: {page}"));
        let cursor = with_epoch(cursor, EPOCH);
        let (status, page) = self.page_behind(path, &cursor).await;
        assert_eq!(status, 200, "{path}: {page}");
        GoldenCursor { path: path.to_owned(), says: decoded(&cursor).unwrap(), cursor, status, page }
    }

    /// A cursor that is refused.
    pub(super) async fn refused(&self, path: &str, says: Value, status: u16) -> GoldenCursor {
        let cursor = encoded(&says);
        let (answered, page) = self.page_behind(path, &cursor).await;
        assert_eq!(answered, status, "{path}: {says}: {page}");
        GoldenCursor { path: path.to_owned(), cursor, says, status, page: json!({ "code": page["code"] }) }
    }

    pub(super) async fn stop(self) {
        self.service.stop().await;
    }
}

#[tokio::test]
async fn the_read_api_answers_as_the_release_did() {
    for release in releases() {
        let answers: Vec<Answer> = release.json("answers.json");
        assert!(answers.len() > 15);
        let database = release.database().await;
        let reader = Reader::start(&database).await;
        for golden in &answers {
            let now = reader.answer(&golden.path).await;
            let at = format!("{} {}", release.version, golden.path);
            assert_eq!(now.status, golden.status, "{at}: {}", now.body);
            assert_holds(&golden.body, &now.body, &at);
        }
        reader.stop().await;
    }
}

#[tokio::test]
async fn cursors_that_the_release_handed_out_go_on_where_they_stood() {
    for release in releases() {
        let cursors: Vec<GoldenCursor> = release.json("cursors.json");
        assert!(cursors.iter().filter(|golden| golden.status == 200).count() >= 9);
        let database = release.database().await;
        let reader = Reader::start(&database).await;
        for golden in &cursors {
            let at = format!("{} {} {}", release.version, golden.path, golden.says);
            if golden.status == 200 && golden.says["v"] != reader.cursor(&golden.path).await.says["v"] {
                // A later form.
                assert_eq!(reader.page_behind(&golden.path, &golden.cursor).await.0, 400, "{at}");
                continue;
            }
            assert_eq!(decoded(&golden.cursor).as_ref(), Some(&golden.says), "{at}");
            let (status, page) = reader.page_behind(&golden.path, &golden.cursor).await;
            assert_eq!(status, golden.status, "{at}: {page}");
            assert_holds(&golden.page, &page, &at);
        }
        reader.stop().await;
    }
}

#[tokio::test]
async fn a_cursor_of_the_feed_of_the_release_is_refused_by_another_database_and_leads_on_with_its_epoch() {
    for release in releases() {
        let cursors: Vec<GoldenCursor> = release.json("cursors.json");
        let golden = cursors.iter().find(|golden| golden.status == 200 && golden.is_of_feed()).unwrap();
        let database = release.database().await;
        let reader = Reader::start(&database).await;
        let (status, page) = reader.get(&format!("{}&cursor={}", golden.path, golden.cursor)).await;
        assert_eq!((status, &page["code"]), (410, &json!("bad_cursor")), "{}", release.version);
        reader.stop().await;
    }
}

/// Asked when the data is written; the golden files name them afterwards.
pub(super) fn paths() -> Vec<String> {
    let [old, river, hall, large] =
        ["%40TGS%232OLDTIMES1", "%40TGS%232RIVERB7QK", "city-hall-42", "%40TGS%232LARGE"];
    let app = format!("sdk_app_id={APP}");
    let of_groups = [old, river, hall, large, "%40TGS%232AGAIN"].into_iter().flat_map(|group| {
        ["", "/members", "/history", "/topics"].map(|list| format!("/v1/groups/{group}{list}?{app}"))
    });
    let more = [
        format!("/v1/groups?{app}&limit=100&with=member_count"),
        format!("/v1/groups?sdk_app_id={OTHER_APP}"),
        format!("/v1/groups/{old}/members?{app}&status=left"),
        format!("/v1/groups/{hall}/history?{app}&with=body"),
        format!("/v1/groups/{river}?{app}&at=2026-01-01T00:05:00Z"),
        format!("/v1/groups/{old}/members?{app}&at=2026-01-01T00:00:00Z"),
        format!("/v1/groups/{old}?{app}&at=2025-12-23T00:00:00Z"),
        format!("/v1/groups/{river}/timeline?{app}&after=2026-01-01T00:00:00Z&before=2026-01-02T00:00:00Z"),
        format!("/v1/history?{app}&limit=100"),
        format!("/v1/parked?{app}&with=body"),
        format!("/v1/users/ana_77/groups?{app}"),
        format!("/v1/users/ana_77/history?{app}"),
        format!("/v1/users/fay_01/groups?{app}"),
        format!("/v1/stats?{app}"),
        format!("/v1/changes?{app}&after=2026-01-01T00:00:00Z&limit=100"),
        format!("/v1/changes?{app}"),
    ];
    of_groups.chain(more).collect()
}

/// A list of each kind, with two pages at least.
pub(super) fn lists() -> Vec<String> {
    let river = "%40TGS%232RIVERB7QK";
    let app = format!("sdk_app_id={APP}&limit=1");
    [
        "/v1/groups?".to_owned(),
        "/v1/groups?sort=group_id&".to_owned(),
        "/v1/groups?sort=verified_at&".to_owned(),
        "/v1/groups?type=Public&status=active&".to_owned(),
        format!("/v1/groups/{river}/members?status=all&"),
        format!("/v1/groups/{river}/history?"),
        "/v1/groups/%40TGS%23_%40TGS%23cHARBOR62QX/topics?status=all&".to_owned(),
        "/v1/history?".to_owned(),
        "/v1/parked?".to_owned(),
        "/v1/users/ana_77/groups?status=all&".to_owned(),
        "/v1/users/ana_77/history?".to_owned(),
        "/v1/changes?".to_owned(),
    ]
    .map(|list| format!("{list}{app}"))
    .into()
}
