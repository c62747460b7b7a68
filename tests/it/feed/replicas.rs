//! Two replicas, sixteen writers, repeats that reach both at once, transactions of others that roll back, entries that
//! move, a replica that is killed, followers that are cut: each position of the ledger comes once to each follower.
//!
//! `FEED_CALLBACKS=500` per writer for long, `FEED_SEED` for another course.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fastrand::Rng;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::held_back::create;
use crate::support::follow::Watcher;
use crate::support::postgres::TestDatabase;
use crate::support::process::{Place, Process};
use crate::support::{API_TOKEN, PATIENCE, eventually, signed_query};

const WRITERS: u64 = 16;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Where a replica is at the moment.
#[derive(Default)]
struct Addresses {
    callbacks: String,
    api: String,
}

/// What all tasks know.
#[derive(Clone)]
struct Scene {
    client: Client,
    replicas: [Arc<Mutex<Addresses>>; 2],
    /// The writers are done.
    written: CancellationToken,
    /// Every follower has everything.
    done: CancellationToken,
}

impl Scene {
    /// One that is down does not answer, as a proxy would find.
    async fn post(&self, replica: usize, body: &Value, more: &str) {
        let address = self.replicas[replica].lock().unwrap().callbacks.clone();
        let url = format!("http://{address}/?{}{more}", signed_query());
        let _ = self.client.post(url).body(body.to_string()).send().await;
    }

    fn changes(&self, replica: usize) -> String {
        format!("http://{}/v1/changes", self.replicas[replica].lock().unwrap().api)
    }
}

async fn start(place: &Place, url: &str, addresses: &Mutex<Addresses>) -> Process {
    let replica = Process::start(place.command_on(url, &["serve"])).ready().await;
    *addresses.lock().unwrap() =
        Addresses { callbacks: replica.callback_address(), api: replica.api_address() };
    replica
}

async fn write(scene: Scene, writer: u64, seed: u64) {
    let mut chance = Rng::with_seed(seed ^ writer);
    for callback in 0..number("FEED_CALLBACKS", 30) {
        let replica = usize::from(chance.bool());
        match chance.u8(..10) {
            0..5 => scene.post(replica, &create(&format!("g{writer}-{callback}")), "").await,
            // Without an event time a repeat is known by its id alone.
            5..8 => {
                let body = json!({"CallbackCommand": "Group.CallbackAfterCreateTopic", "GroupId": format!("t{writer}"),
                                  "TopicId": format!("t{writer}@TOPIC#_{callback}"), "Name": "n", "Operator_Account": "o"});
                let id = format!("&RequestID=r{writer}-{callback}");
                tokio::join!(scene.post(0, &body, &id), scene.post(1, &body, &id));
            }
            _ => {
                let body = json!({"CallbackCommand": "Group.CallbackAfterCreateGroup", "X": format!("{writer}-{callback}")});
                scene.post(replica, &body, "").await;
            }
        }
    }
}

/// Another program that writes, now and then for nothing, and one that moves entries to the end.
async fn disturb(scene: Scene, database: Arc<TestDatabase>, seed: u64) {
    let (mut chance, mut conn) = (Rng::with_seed(seed), database.connect().await);
    while !scene.written.is_cancelled() {
        let end = if chance.bool() { "ROLLBACK" } else { "COMMIT" };
        let pause = chance.u64(5..300);
        let insert = format!(
            "BEGIN; INSERT INTO ledger (sdk_app_id, group_id, time_ms, digest, command, received_at, source, outcome, body)
                    SELECT 1400000001, 'x', n, substr(sha256(gen_random_uuid()::text::bytea), 1, 16), 'c', now(), 'callback', 'applied', ''
                      FROM generate_series(1, 7) n;
             SELECT pg_sleep({pause} / 1000.0); {end}"
        );
        conn.execute(AssertSqlSafe(insert)).await.unwrap();
        let touch = "WITH chosen AS (SELECT tableoid, ctid, position, digest FROM ledger ORDER BY random() LIMIT 5),
                          moved AS (UPDATE ledger l SET position = DEFAULT FROM chosen c
                                     WHERE l.tableoid = c.tableoid AND l.ctid = c.ctid RETURNING c.position, c.digest)
                     INSERT INTO ledger_moves (position, digest) SELECT position, digest FROM moved";
        // A writer may hold one of them.
        let _ = conn.execute(touch).await;
    }
}

/// How often each position came, by position.
type Positions = BTreeMap<i64, usize>;

fn position(cursor: &str) -> i64 {
    let json = URL_SAFE_NO_PAD.decode(cursor).unwrap();
    serde_json::from_slice::<Value>(&json).unwrap()["after"]["p"].as_i64().unwrap()
}

/// Follows the replicas that `choose` names in turn, and is cut after a few entries each time.
async fn follow(scene: Scene, seed: u64, choose: fn(&mut Rng) -> usize, all: Arc<Mutex<Positions>>) {
    let (mut chance, mut last) = (Rng::with_seed(seed), None::<String>);
    while !scene.done.is_cancelled() {
        let (theirs, replica) = (scene.clone(), choose(&mut chance));
        let watcher = Watcher::start(&scene.client, move || theirs.changes(replica), last.as_deref());
        let (entries, pause) = (chance.usize(..80), Duration::from_millis(chance.u64(10..400)));
        // Cut after so many entries, or where none come.
        let enough = async {
            while watcher.seen().entries.len() < entries {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let _ = tokio::time::timeout(pause, enough).await;
        let seen = watcher.end().await;
        assert!(!seen.gone);
        let mut all = all.lock().unwrap();
        for (cursor, (_, times)) in &seen.entries {
            *all.entry(position(cursor)).or_default() += times;
        }
        last = seen.last_id;
    }
}

/// Reads pages of one replica, in order.
async fn read_pages(scene: Scene, all: Arc<Mutex<Positions>>) {
    let (mut since, mut last) = (String::new(), 0);
    while !scene.done.is_cancelled() {
        let url = format!("{}?limit=37{since}", scene.changes(0));
        let Ok(answer) = scene.client.get(url).bearer_auth(API_TOKEN).send().await else { continue };
        assert_eq!(answer.status(), StatusCode::OK);
        let page: Value = answer.json().await.unwrap();
        for item in page["items"].as_array().unwrap() {
            let position = position(item["cursor"].as_str().unwrap());
            assert!(position > last, "{position} after {last}");
            last = position;
            *all.lock().unwrap().entry(position).or_default() += 1;
        }
        since = format!("&since={}", page["next_cursor"].as_str().unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn under_writers_repeats_rollbacks_moves_a_kill_and_cuts_no_position_is_missed_and_none_comes_twice() {
    let seed = number("FEED_SEED", 41);
    let (database, places) = (Arc::new(TestDatabase::create().await), [Place::new(), Place::new()]);
    let scene = Scene {
        client: Client::new(),
        replicas: [Arc::default(), Arc::default()],
        written: CancellationToken::new(),
        done: CancellationToken::new(),
    };
    let one = start(&places[0], &database.url, &scene.replicas[0]).await;
    let other = start(&places[1], &database.url, &scene.replicas[1]).await;
    let seen: [Arc<Mutex<Positions>>; 4] = Default::default();
    let chooses: [fn(&mut Rng) -> usize; 3] = [|_| 0, |_| 1, |chance| usize::from(chance.bool())];
    let mut readers: Vec<JoinHandle<()>> = (0..)
        .zip(chooses)
        .map(|(at, choose)| {
            tokio::spawn(follow(
                scene.clone(),
                seed + at,
                choose,
                Arc::clone(&seen[usize::try_from(at).unwrap()]),
            ))
        })
        .collect();
    readers.push(tokio::spawn(read_pages(scene.clone(), Arc::clone(&seen[3]))));
    let disturber = tokio::spawn(disturb(scene.clone(), Arc::clone(&database), seed));
    let writers: Vec<_> =
        (0..WRITERS).map(|writer| tokio::spawn(write(scene.clone(), writer, seed))).collect();
    let count = async || {
        let mut conn = database.connect().await;
        let query = "SELECT count(*) FROM ledger WHERE group_id <> 'x'";
        sqlx::query_scalar::<_, i64>(query).fetch_one(&mut conn).await.unwrap()
    };
    assert!(eventually(async || count().await >= 100).await);
    other.signal("KILL");
    other.ended().await;
    let other = start(&places[1], &database.url, &scene.replicas[1]).await;
    for writer in writers {
        tokio::time::timeout(4 * PATIENCE, writer).await.unwrap().unwrap();
    }
    scene.written.cancel();
    disturber.await.unwrap();
    let spool_is_empty = async |replica: &Process| {
        replica.get("/readyz").await.json::<Value>().await.unwrap()["spool"]["depth"] == 0
    };
    assert!(eventually(async || spool_is_empty(&one).await && spool_is_empty(&other).await).await);
    let all: Vec<i64> = sqlx::query_scalar("SELECT position FROM ledger WHERE sdk_app_id = 1400000001")
        .fetch_all(&mut database.connect().await)
        .await
        .unwrap();
    let all: BTreeSet<i64> = all.into_iter().collect();
    let missed = |seen: &Mutex<Positions>| {
        let seen = seen.lock().unwrap();
        all.iter().filter(|position| !seen.contains_key(position)).count()
    };
    let complete = eventually(async || seen.iter().all(|seen| missed(seen) == 0)).await;
    assert!(complete, "of {}, seed {seed}: missed {:?}", all.len(), seen.each_ref().map(|seen| missed(seen)));
    scene.done.cancel();
    for reader in readers {
        reader.await.unwrap();
    }
    for seen in &seen {
        let seen = seen.lock().unwrap();
        let twice: Vec<_> = seen.iter().filter(|(_, times)| **times != 1).collect();
        assert!(twice.is_empty(), "of {}, seed {seed}: {twice:?}", all.len());
    }
    for replica in [one, other] {
        replica.ends_well_on("TERM").await;
    }
}
