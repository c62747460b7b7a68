//! The test door: paths below `/fake` that Tencent does not have. They show the whole state and the log, change knobs and
//! the clock, and give commands without a signature.
//!
//! | Path | What it does |
//! |---|---|
//! | `GET /fake/state` | all groups; `?at=MILLIS` those of a past moment, where history is kept |
//! | `GET /fake/log` | all changes by their true time, with the callbacks that each caused |
//! | `GET /fake/callbacks` | how many callbacks were made, lost, answered, failed, and how many wait |
//! | `GET`, `POST /fake/knobs` | the knobs; a JSON object changes some of them |
//! | `POST /fake/clock` | `{"freeze": MILLIS or null}`, `{"step": MILLIS}` |
//! | `POST /fake/live?changes=N` | that many changes of the random life, at once |
//! | `POST /fake/do/SERVICE/COMMAND` | a command; service `sdk` has `user_joins`, `user_quits`, `account_ends` |

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::shared::Shared;
use super::world::LoggedChange;

/// The most changes of one request.
const CHANGES_MAX: i64 = 100_000;

/// A number of the query.
fn number(query: Option<&str>, name: &str) -> Option<i64> {
    let mut pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    pairs.find(|(key, _)| key == name)?.1.parse().ok()
}

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/fake/state", get(state))
        .route("/fake/log", get(log))
        .route("/fake/callbacks", get(callbacks))
        .route("/fake/knobs", get(knobs).post(set_knobs))
        .route("/fake/clock", post(clock))
        .route("/fake/live", post(live))
        .route("/fake/do/{service}/{command}", post(command))
        .with_state(shared)
}

/// The state at a moment; without one, now.
pub(super) fn shown(shared: &Shared, at_ms: Option<i64>) -> Value {
    shared.with_world(|world| {
        let Some(at) = at_ms else {
            return world.groups.iter().map(|(id, group)| (id.clone(), group.shown())).collect();
        };
        let ids: Vec<String> = world.known_ids();
        ids.into_iter()
            .filter_map(|id| world.group_at(&id, at).map(|group| (id.clone(), group.shown())))
            .collect()
    })
}

/// All changes.
pub(super) fn logged(shared: &Shared) -> Value {
    let change = |change: &LoggedChange| {
        json!({ "at": change.at_ms, "clock": change.clock_ms, "command": change.command, "group_id": change.group,
                "callbacks": change.callbacks })
    };
    shared.with_world(|world| world.log.iter().map(change).collect())
}

/// What became of the callbacks.
pub(super) fn counted(shared: &Shared) -> Value {
    let counts = &shared.delivery.counts;
    // What waits is read first: nothing waiting means that the other numbers are final.
    let waiting = counts.waiting.load(Ordering::Acquire);
    json!({
        "waiting": waiting, "made": counts.made.load(Ordering::Relaxed),
        "lost": counts.lost.load(Ordering::Relaxed), "answered": counts.answered.load(Ordering::Relaxed),
        "failed": counts.failed.load(Ordering::Relaxed),
    })
}

async fn state(State(shared): State<Arc<Shared>>, RawQuery(query): RawQuery) -> Json<Value> {
    Json(shown(&shared, number(query.as_deref(), "at")))
}

async fn log(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(logged(&shared))
}

async fn callbacks(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(counted(&shared))
}

async fn knobs(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(shared.with_world(|world| json!(world.knobs)))
}

async fn set_knobs(
    State(shared): State<Arc<Shared>>,
    Json(changes): Json<Value>,
) -> (StatusCode, Json<Value>) {
    shared.with_world(|world| match world.knobs.with(&changes) {
        Ok(knobs) => {
            world.knobs = knobs;
            (StatusCode::OK, Json(json!(world.knobs)))
        }
        Err(error) => (StatusCode::BAD_REQUEST, Json(json!({ "error": format!("{error:#}") }))),
    })
}

async fn clock(State(shared): State<Arc<Shared>>, Json(asked): Json<Value>) -> Json<Value> {
    Json(shared.with_world(|world| {
        if let Some(frozen) = asked.get("freeze") {
            world.clock.freeze(frozen.as_i64());
        }
        world.clock.step(asked["step"].as_i64().unwrap_or(0));
        json!({ "now": world.clock.now_ms() })
    }))
}

async fn live(State(shared): State<Arc<Shared>>, RawQuery(query): RawQuery) -> Json<Value> {
    let changes = number(query.as_deref(), "changes").unwrap_or(1);
    let mut done = 0;
    for _ in 0..changes.clamp(0, CHANGES_MAX) {
        done += u32::from(shared.live_once().await);
    }
    Json(json!({ "changes": done }))
}

async fn command(
    State(shared): State<Arc<Shared>>,
    Path((service, command)): Path<(String, String)>,
    Json(body): Json<Value>,
) -> Json<Value> {
    Json(shared.command(&service, &command, &body).await)
}
