//! The service under load beside its yardsticks, in one run on one machine, as callbacks committed per second.
//!
//! (a) `pgbench`, one transaction per create callback, the same rows and indexes, 8 clients;
//! (b) a plain handler that commits each callback by itself, on a pool of 8;
//! (c) the service at 1, 16, 64 and 256 connections;
//! (d) the same rows in batches of 256 by SQL alone, two connections: the limit of the schema.
//!
//! `cargo bench --bench load` prints tables. `LOAD_PARTS=rate,latency,order,size,people` chooses (all): the rates above; the
//! latency at a steady rate, in `load/latency.rs`; in order against shuffled, and a large mirror against an empty one,
//! in `load/tables.rs`; with the index of people against without, in `load/people.rs`; with 100 open consoles (`consoles`, not
//! by default), in `load/consoles.rs`; into a ledger of a year against an empty one (`ledger`, not by default, 28 GB of disk), in
//! `load/ledger.rs`. `LOAD_SECONDS` sets the length of each measurement (5), `LOAD_ROUNDS` how many rounds the median
//! is taken of (3), `LOAD_MEMBERS` the member rows of the large mirror (10,000,000).
//!
//! Service, PostgreSQL and sender share the machine. PostgreSQL is a private one with `fsync` and `synchronous_commit`
//! on and `shared_buffers` of 128 MB; `BENCH_DATABASE_URL` names another server's empty database instead, as a superuser: for the
//! large mirror, whose indexes have 1.5 GB, one with memory for them and without checkpoints in the middle
//! (`-c shared_buffers=4GB -c max_wal_size=16GB`).
//! The callback is a create with an owner, two members and two user-defined fields: 1 ledger row, 1 group, 3 members, 2
//! fields.
//!
//! `pg_stat_statements` (PostgreSQL 15.18, 2 cores that others used too: compare, do not quote), execution in the server
//! in µs and WAL in bytes per callback:
//!
//! | Statement | 64 connections, 17.5 callbacks per transaction | WAL | 1,000/s, 2.0 per transaction | pgbench, 1 each |
//! |---|---|---|---|---|
//! | ledger | 21 | 855 | 66 | 102 |
//! | groups | 33 | 851 | 95 | 73 |
//! | members | 47 | 1404 | 86 | 91 |
//! | user-defined fields | 20 | 591 | 28 | 33 |
//! | all | 121 | 3701 | 276 | 299 |
//!
//! That was before the rows of people, which are one more statement. A transaction was six round trips: BEGIN, four statements, COMMIT; BEGIN and COMMIT took 1 µs each but for the wait for
//! the disk. Plans are generic after the first calls of each connection (34 plans for 4,506 calls, 3 ms in all), so
//! nothing is to be gained from planning. Whether fewer round trips gain anything has not been measured.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark that fails has failed; its result is text"
)]
#![expect(clippy::disallowed_methods, reason = "a benchmark has clocks and settings of its own")]

#[path = "load/consoles.rs"]
mod consoles;
#[path = "load/latency.rs"]
mod latency;
#[path = "load/ledger.rs"]
mod ledger;
#[path = "load/lives.rs"]
mod lives;
#[path = "load/people.rs"]
mod people;
mod support;
#[path = "load/tables.rs"]
mod tables;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use group_mirror::callback::Callback;
use group_mirror::ingest::commit;
use group_mirror::store::Database;
use sqlx::Connection as _;

use support::{
    Client, Scene, create_body, decoded, empty, median, per_second, pgbench, resident_kb, service, setting,
};

/// Resident memory of this process at its highest while the service ran, in kB.
static RESIDENT_KB: AtomicU64 = AtomicU64::new(0);

fn main() {
    let parts = std::env::var("LOAD_PARTS").unwrap_or_else(|_| "rate,latency,order,size,people".to_owned());
    support::run(async |scene| {
        for part in parts.split(',') {
            match part {
                "rate" => rates(scene).await,
                "latency" => latency::measure(scene).await,
                "order" => tables::order(scene).await,
                "ledger" => ledger::measure(scene).await,
                "consoles" => consoles::measure(scene).await,
                "size" => tables::size(scene).await,
                "people" => people::measure(scene).await,
                other => panic!("LOAD_PARTS: there is no {other:?}"),
            }
        }
    });
}

/// The length of one measurement.
fn seconds() -> Duration {
    Duration::from_secs(setting("LOAD_SECONDS", 5))
}

/// How many rounds the median is taken of.
fn rounds() -> u64 {
    setting("LOAD_ROUNDS", 3)
}

async fn rates(scene: &Scene) {
    let mut results: Vec<(&str, Vec<f64>)> = Vec::new();
    for _ in 0..rounds() {
        for (name, rate) in round(scene).await {
            match results.iter_mut().find(|(known, _)| *known == name) {
                Some((_, rates)) => rates.push(rate),
                None => results.push((name, vec![rate])),
            }
        }
    }
    let one_by_one = median(results[0].1.clone());
    println!("| What | callbacks/s | ÷ pgbench |\n|---|---|---|");
    for (name, rates) in results {
        let rate = median(rates);
        println!("| {name} | {rate:.0} | {:.2} |", rate / one_by_one);
    }
    println!(
        "\nresident memory with sender and yardsticks at most: {} MB\n",
        RESIDENT_KB.load(Ordering::Relaxed) / 1024
    );
}

async fn round(scene: &Scene) -> Vec<(&'static str, f64)> {
    let Scene { database, url, dir } = scene;
    let seconds = seconds();
    let mut rates = Vec::new();
    empty(database).await;
    rates.push(("(a) pgbench, one by one, 8 clients", pgbench(scene, PGBENCH, seconds, &[]).await));
    empty(database).await;
    let plain = plain_handler(database.clone()).await;
    let (count, took) = load(plain, 64, sending(seconds)).await;
    let rate = per_second(count, took);
    rates.push(("(b) plain handler, 64 connections", rate));
    empty(database).await;
    let (count, took) = load(plain, 256, sending(seconds)).await;
    let rate = per_second(count, took);
    rates.push(("(b) plain handler, 256 connections", rate));
    let running = service(url, &dir.join("data")).await;
    for (name, connections) in [
        ("(c) group-mirror, 1 connection", 1),
        ("(c) group-mirror, 16 connections", 16),
        ("(c) group-mirror, 64 connections", 64),
        ("(c) group-mirror, 256 connections", 256),
        ("(c) group-mirror, 700 connections", 700),
    ] {
        empty(database).await;
        rates.push((name, committed(database, running.callback_addr, connections, sending(seconds)).await));
        RESIDENT_KB.fetch_max(resident_kb(), Ordering::Relaxed);
    }
    running.stop().await;
    empty(database).await;
    rates.push(("(d) SQL alone, batches of 256, 2 connections", sql_alone(database, seconds).await));
    rates
}

/// Callbacks in the ledger.
async fn rows(database: &Database) -> u64 {
    let mut conn = database.connect().await.unwrap();
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM ledger").fetch_one(&mut conn).await.unwrap();
    conn.close().await.unwrap();
    u64::try_from(count).unwrap()
}

/// What most services do: one callback, one transaction, on a pool.
async fn plain_handler(database: Database) -> SocketAddr {
    async fn handle(State(database): State<Database>, body: Bytes) -> &'static str {
        let callback = decoded(body);
        // A full pool is waited for, as a plain handler would.
        loop {
            if commit(&database, std::slice::from_ref(&callback)).await.remove(0).is_ok() {
                return r#"{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0}"#;
            }
        }
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let router = Router::new().route("/", post(handle)).with_state(database);
    tokio::spawn(async move { axum::serve(listener, router).await });
    addr
}

/// Creates of ever new groups, for so long.
fn sending(seconds: Duration) -> impl Fn() -> Option<String> + Clone + Send + 'static {
    let end = Instant::now() + seconds;
    move || (Instant::now() < end).then(create_body)
}

/// How many callbacks were answered, and how long that took.
type Answered = (u64, Duration);

/// Sends what `next` makes, from so many connections, until it makes nothing more.
async fn load(
    addr: SocketAddr,
    connections: u32,
    next: impl Fn() -> Option<String> + Clone + Send + 'static,
) -> Answered {
    let answered = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let mut senders = tokio::task::JoinSet::new();
    for _ in 0..connections {
        let (answered, next) = (Arc::clone(&answered), next.clone());
        senders.spawn(async move {
            let mut client = Client::connect(addr).await;
            while let Some(body) = next() {
                client.post(&body).await;
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    while let Some(sender) = senders.join_next().await {
        sender.unwrap();
    }
    (answered.load(Ordering::Relaxed), begun.elapsed())
}

/// The rate of a load at which callbacks come into the tables. An answer may mean the spool: what counts is here.
async fn committed(
    database: &Database,
    addr: SocketAddr,
    connections: u32,
    next: impl Fn() -> Option<String> + Clone + Send + 'static,
) -> f64 {
    let (before, begun) = (rows(database).await, Instant::now());
    let (answered, _) = load(addr, connections, next).await;
    while rows(database).await < before + answered {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    per_second(answered, begun.elapsed())
}

async fn sql_alone(database: &Database, seconds: Duration) -> f64 {
    let end = Instant::now() + seconds;
    let begun = Instant::now();
    let lane = || async {
        let mut count = 0;
        while Instant::now() < end {
            let batch: Vec<Callback> = (0..256).map(|_| decoded(create_body())).collect();
            for outcome in commit(database, &batch).await {
                outcome.unwrap();
                count += 1;
            }
        }
        count
    };
    let (one, other) = tokio::join!(lane(), lane());
    per_second(one + other, begun.elapsed())
}

/// The statements of the service with one row each, in one transaction per callback.
const PGBENCH: &str = r#"
\set n random(1, 1000000000000)
\set u random(1, 997)
\set t 1767225600000 + random(1, 1000000000)
BEGIN;
INSERT INTO ledger (sdk_app_id, group_id, time_ms, digest, command, event_time_ms, received_at, source, outcome, client_ip, platform, body)
VALUES (1400000001, '@TGS#2' || lpad(to_hex(:n::bigint), 16, '0'), :t::bigint, substr(sha256((:n::bigint)::text::bytea), 1, 16), 'Group.CallbackAfterCreateGroup', :t::bigint, now(), 'callback', 'applied', '203.0.113.9', 2,
  convert_to('{"CallbackCommand":"Group.CallbackAfterCreateGroup","EventTime":1767225600345,"GroupId":"@TGS#2RIVERB7QK000000","MemberList":[{"Member_Account":"boris-222"},{"Member_Account":"chen_222"}],"Name":"River walkers 1234567","Operator_Account":"ana_77","Owner_Account":"ana_77","Type":"Public","UserDefinedDataList":[{"Key":"region","Value":"north"},{"Key":"tier","Value":"2"}]}', 'UTF8'))
ON CONFLICT DO NOTHING;
INSERT INTO groups AS g (sdk_app_id, group_id, type, type_stamp, name, name_stamp, owner, owner_stamp, created_by, created_stamp, create_barrier, alive_stamp, updated_stamp)
SELECT 1400000001, '@TGS#2' || lpad(to_hex(:n::bigint), 16, '0'), 'Public', s, 'River walkers ' || (:n::bigint), s, 'ana_77', s, 'ana_77', s, int8send(:t::bigint - 10000) || '\x000000000000000000', s, s
  FROM (SELECT int8send(:t::bigint) || '\x010203040506070809' AS s) s
ON CONFLICT (sdk_app_id, group_id) DO UPDATE SET name = CASE WHEN EXCLUDED.name_stamp > g.name_stamp THEN EXCLUDED.name ELSE g.name END, name_stamp = GREATEST(g.name_stamp, EXCLUDED.name_stamp);
INSERT INTO group_members AS m (sdk_app_id, group_id, user_id, join_stamp, joined_by)
SELECT 1400000001, '@TGS#2' || lpad(to_hex(:n::bigint), 16, '0'), u, int8send(:t::bigint) || '\x010203040506070809', 'ana_77' FROM (VALUES ('ana_77'), ('boris-' || (:u::bigint)), ('chen_' || (:u::bigint))) v (u)
ON CONFLICT (sdk_app_id, group_id, user_id) DO UPDATE SET join_stamp = GREATEST(m.join_stamp, EXCLUDED.join_stamp);
INSERT INTO group_user_defined_fields AS f (sdk_app_id, group_id, key, value, value_stamp)
SELECT 1400000001, '@TGS#2' || lpad(to_hex(:n::bigint), 16, '0'), k, v, int8send(:t::bigint) || '\x010203040506070809' FROM (VALUES ('region', 'north'), ('tier', '2')) x (k, v)
ON CONFLICT (sdk_app_id, group_id, key) DO UPDATE SET value = EXCLUDED.value, value_stamp = EXCLUDED.value_stamp WHERE EXCLUDED.value_stamp > f.value_stamp;
COMMIT;
"#;
