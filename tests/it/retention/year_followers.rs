//! Followers of the feed through a year: one that is live, and cursors of others that have stopped.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use group_mirror::store::feed::FeedPlace;
use reqwest::StatusCode;
use serde_json::Value;
use sqlx::postgres::PgConnection;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::follow::Follower;
use crate::support::{API_TOKEN, PATIENCE, Service};

/// How many pages a follower reads that comes back, at most.
const PAGES_MAX: usize = 100;

/// A cursor that a follower has stored.
#[derive(Debug, Clone)]
pub(super) struct OldCursor(String);

impl OldCursor {
    /// The place that it names; a client does not look into it.
    pub(super) fn place(&self) -> FeedPlace {
        let json: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(&self.0).unwrap()).unwrap();
        let after = &json["after"];
        FeedPlace { position: after["p"].as_i64().unwrap(), digest: after["d"].as_str().unwrap().to_owned() }
    }

    async fn page(&self, service: &Service) -> Result<Value, StatusCode> {
        let url = service.api_url(&format!("/v1/changes?limit=500&since={}", self.0));
        let answer = service.client.get(url).bearer_auth(API_TOKEN).send().await.unwrap();
        if answer.status() != StatusCode::OK {
            return Err(answer.status());
        }
        Ok(answer.json().await.unwrap())
    }

    /// The feed goes on behind it: each entry of the ledger once, in their order.
    pub(super) async fn leads_on(&self, service: &Service, conn: &mut PgConnection) {
        let (mut at, mut seen) = (self.clone(), Vec::new());
        for _ in 0..PAGES_MAX {
            let page = at.page(service).await.unwrap();
            let items = page["items"].as_array().unwrap();
            seen.extend(
                items.iter().map(|item| Self(item["cursor"].as_str().unwrap().to_owned()).place().position),
            );
            at = Self(page["next_cursor"].as_str().unwrap().to_owned());
            if page["more"] == false {
                break;
            }
        }
        let behind = "SELECT position FROM ledger WHERE position > $1 ORDER BY position LIMIT $2";
        let query = sqlx::query_scalar(behind).bind(self.place().position);
        let there: Vec<i64> =
            query.bind(i64::try_from(PAGES_MAX).unwrap() * 500).fetch_all(conn).await.unwrap();
        assert!(!there.is_empty());
        assert!(seen == there, "{} of {} entries behind {self:?}", seen.len(), there.len());
    }

    /// Whether it is refused, which it is exactly if entries behind it were dropped.
    pub(super) async fn is_refused_by_rule(&self, service: &Service, conn: &mut PgConnection) -> bool {
        let dropped = "SELECT position FROM prune_state WHERE only_row";
        let dropped: i64 = sqlx::query_scalar(dropped).fetch_one(conn).await.unwrap();
        let refused = self.page(service).await.err();
        let wanted = (self.place().position < dropped).then_some(StatusCode::GONE);
        assert_eq!(refused, wanted, "{:?}, and {dropped} is dropped", self.place());
        refused.is_some()
    }
}

/// What the live follower has seen since it was looked at, and where it stands.
#[derive(Debug, Default)]
struct SeenPositions {
    positions: Vec<i64>,
    cursor: Option<String>,
    gone: bool,
}

/// Follows the stream, and comes back whenever it ends.
pub(super) struct LiveFollower {
    seen: Arc<Mutex<SeenPositions>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
    /// Up to here everything was seen once.
    checked: i64,
}

impl LiveFollower {
    pub(super) fn start(service: &Service) -> Self {
        let seen = Arc::new(Mutex::new(SeenPositions::default()));
        let stop = CancellationToken::new();
        let (theirs, until) = (Arc::clone(&seen), stop.clone());
        let (client, url) = (service.client.clone(), service.api_url("/v1/changes"));
        let task = tokio::spawn(async move {
            let following = async {
                loop {
                    let cursor = theirs.lock().unwrap().cursor.clone();
                    match Follower::ask(&client, &url, cursor.as_deref()).await {
                        Ok(mut stream) => follow(&mut stream, &theirs).await,
                        Err(Some(StatusCode::GONE)) => theirs.lock().unwrap().gone = true,
                        Err(_) => {}
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            };
            until.run_until_cancelled(following).await;
        });
        Self { seen, stop, task, checked: 0 }
    }

    /// Where it stands.
    pub(super) fn cursor(&self) -> OldCursor {
        OldCursor(self.seen.lock().unwrap().cursor.clone().unwrap())
    }

    /// Waits until it has seen the newest entry, and asserts that it has seen each one since the last look once, in their order.
    /// One that has moved on may have been seen where it was before.
    pub(super) async fn has_seen_each_once(&mut self, conn: &mut PgConnection, step: &str) {
        let newest = "SELECT coalesce(max(position), 0) FROM ledger";
        let newest: i64 = sqlx::query_scalar(newest).fetch_one(&mut *conn).await.unwrap();
        let (mut last, mut begun) = (0, Instant::now());
        loop {
            let now = {
                let seen = self.seen.lock().unwrap();
                assert!(!seen.gone, "{step}: its cursor is gone");
                seen.positions.last().copied().unwrap_or(self.checked)
            };
            if now >= newest {
                break;
            }
            if now > last {
                (last, begun) = (now, Instant::now());
            }
            assert!(begun.elapsed() < PATIENCE, "{step}: it stands at {now}, the feed at {newest}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let seen = std::mem::take(&mut self.seen.lock().unwrap().positions);
        assert!(seen.is_sorted_by(|one, next| one < next), "{step}: no entry comes twice");
        assert!(seen.first().is_none_or(|first| *first > self.checked), "{step}");
        let there = "SELECT position FROM ledger WHERE position > $1 ORDER BY position";
        let there: Vec<i64> =
            sqlx::query_scalar(there).bind(self.checked).fetch_all(&mut *conn).await.unwrap();
        let moved: Vec<i64> =
            sqlx::query_scalar("SELECT position FROM ledger_moves").fetch_all(conn).await.unwrap();
        let moved: BTreeSet<i64> = moved.into_iter().collect();
        let staying: Vec<i64> = seen.into_iter().filter(|position| !moved.contains(position)).collect();
        assert!(staying == there, "{step}: {} of {} entries were seen", staying.len(), there.len());
        self.checked = newest;
    }

    pub(super) async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

async fn follow(stream: &mut Follower, seen: &Mutex<SeenPositions>) {
    while let Some(event) = stream.event().await {
        let mut seen = seen.lock().unwrap();
        if event.is_some() {
            let cursor = OldCursor(stream.last_id.clone().unwrap());
            seen.positions.push(cursor.place().position);
        }
        seen.cursor.clone_from(&stream.last_id);
    }
}
