//! The service under load beside its yardsticks, in one run on one machine, as callbacks committed per second.
//!
//! (a) `pgbench`, one transaction per create callback, the same rows and indexes, 8 clients;
//! (b) a plain handler that commits each callback by itself, on a pool of 8;
//! (c) the service at 1, 16, 64 and 256 connections;
//! (d) the same rows in batches of 256 by SQL alone, two connections: the limit of the schema.
//!
//! `cargo bench --bench load` prints tables. `LOAD_PARTS=rate,latency,order,size` chooses (all): the rates above; the
//! latency at a steady rate, in `load/latency.rs`; in order against shuffled, and a large mirror against an empty one,
//! in `load/tables.rs`. `LOAD_SECONDS` sets the length of each measurement (5), `LOAD_ROUNDS` how many rounds the median
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
//! A transaction is six round trips: BEGIN, four statements, COMMIT; BEGIN and COMMIT take 1 µs each but for the wait for
//! the disk. Plans are generic after the first calls of each connection (34 plans for 4,506 calls, 3 ms in all), so
//! nothing is to be gained from planning. Whether fewer round trips gain anything has not been measured.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark that fails has failed; its result is text"
)]
#![expect(clippy::disallowed_methods, reason = "a benchmark has clocks and settings of its own")]

#[path = "load/latency.rs"]
mod latency;
#[path = "load/lives.rs"]
mod lives;
#[path = "load/tables.rs"]
mod tables;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use group_mirror::app;
use group_mirror::callback::{Callback, Decoded, Received, decode};
use group_mirror::config::Settings;
use group_mirror::embedded::{Embedded, Programs};
use group_mirror::ingest::commit;
use group_mirror::model::{Millis, SdkAppId};
use group_mirror::store::{Database, schema};
use sqlx::{Connection as _, Executor as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Every body of a run is about another group, so that all do the same work.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// Resident memory of this process at its highest while the service ran, in kB.
static RESIDENT_KB: AtomicU64 = AtomicU64::new(0);

const APP: &str = "1400000001";

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (url, embedded) = match std::env::var("BENCH_DATABASE_URL") {
        Ok(url) => (url, None),
        Err(_) => {
            let programs = Programs { bin_dir: None, path: std::env::var_os("PATH") };
            let embedded = Embedded::start(&dir.path().join("postgres"), &programs).unwrap();
            (embedded.url().to_owned(), Some(embedded))
        }
    };
    let parts = std::env::var("LOAD_PARTS").unwrap_or_else(|_| "rate,latency,order,size".to_owned());
    runtime.block_on(async {
        let scene = Scene {
            database: Database::new(&url).unwrap(),
            url,
            dir: dir.path().to_owned(),
            seconds: Duration::from_secs(setting("LOAD_SECONDS", 5)),
            rounds: setting("LOAD_ROUNDS", 3),
        };
        schema::migrate(&scene.database).await.unwrap();
        for part in parts.split(',') {
            match part {
                "rate" => rates(&scene).await,
                "latency" => latency::measure(&scene).await,
                "order" => tables::order(&scene).await,
                "size" => tables::size(&scene).await,
                other => panic!("LOAD_PARTS: there is no {other:?}"),
            }
        }
        scene.database.close().await;
    });
    if let Some(embedded) = embedded {
        embedded.stop();
    }
}

/// Where and how long everything is measured.
struct Scene {
    database: Database,
    url: String,
    dir: PathBuf,
    seconds: Duration,
    rounds: u64,
}

async fn rates(scene: &Scene) {
    let mut results: Vec<(&str, Vec<f64>)> = Vec::new();
    for _ in 0..scene.rounds {
        for (name, rate) in round(scene).await {
            match results.iter_mut().find(|(known, _)| *known == name) {
                Some((_, rates)) => rates.push(rate),
                None => results.push((name, vec![rate])),
            }
        }
    }
    let one_by_one = median(&mut results[0].1);
    println!("| EventKind | callbacks/s | ÷ pgbench |\n|---|---|---|");
    for (name, rates) in &mut results {
        let rate = median(rates);
        println!("| {name} | {rate:.0} | {:.2} |", rate / one_by_one);
    }
    println!(
        "\nresident memory with sender and yardsticks at most: {} MB\n",
        RESIDENT_KB.load(Ordering::Relaxed) / 1024
    );
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

async fn round(scene: &Scene) -> Vec<(&'static str, f64)> {
    let Scene { database, url, dir, seconds, .. } = scene;
    let seconds = *seconds;
    let mut rates = Vec::new();
    empty(database).await;
    rates.push(("(a) pgbench, one by one, 8 clients", one_by_one(scene).await));
    empty(database).await;
    let plain = plain_handler(database.clone()).await;
    let rate = per_second(load(plain, 64, sending(seconds)).await);
    rates.push(("(b) plain handler, 64 connections", rate));
    empty(database).await;
    let rate = per_second(load(plain, 256, sending(seconds)).await);
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

async fn empty(database: &Database) {
    truncate(database).await;
    let mut conn = database.connect().await.unwrap();
    conn.execute("CHECKPOINT").await.unwrap();
    conn.close().await.unwrap();
}

async fn truncate(database: &Database) {
    let mut conn = database.connect().await.unwrap();
    conn.execute(
        "TRUNCATE ledger, groups, group_members, group_user_defined_fields, group_attributes, group_topics",
    )
    .await
    .unwrap();
    conn.close().await.unwrap();
}

/// Callbacks in the ledger.
async fn rows(database: &Database) -> u64 {
    let mut conn = database.connect().await.unwrap();
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM ledger").fetch_one(&mut conn).await.unwrap();
    conn.close().await.unwrap();
    u64::try_from(count).unwrap()
}

fn body() -> String {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    // Ids arrive in no order, as Tencent's do.
    let id = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!(
        r#"{{"CallbackCommand":"Group.CallbackAfterCreateGroup","EventTime":{},"GroupId":"@TGS#2{id:016X}","MemberList":[{{"Member_Account":"boris-{}"}},{{"Member_Account":"chen_{}"}}],"Name":"River walkers {number}","Operator_Account":"ana_77","Owner_Account":"ana_77","Type":"Public","UserDefinedDataList":[{{"Key":"region","Value":"north"}},{{"Key":"tier","Value":"2"}}]}}"#,
        1_767_225_600_000 + number,
        number % 997,
        number % 1009
    )
}

fn callback() -> Callback {
    let received = Received {
        app: SdkAppId::parse(APP).unwrap(),
        query_command: None,
        client_ip: Some("203.0.113.9".into()),
        platform: Some("Web".into()),
        request_id: None,
        received_at: Millis::new(1_800_000_000_000),
        body: body().into_bytes(),
    };
    let Decoded::Kept(callback) = decode(received) else { panic!("out of scope") };
    *callback
}

async fn service(url: &str, data_dir: &Path) -> app::RunningService {
    std::fs::create_dir_all(data_dir).unwrap();
    let set = |text: &str| Some(text.to_owned());
    let settings = Settings {
        database_url: set(url),
        data_dir: Some(data_dir.display().to_string()),
        sdk_app_id: set(APP),
        callback_auth: set("none"),
        api_auth: set("none"),
        callback_listen: set("127.0.0.1:0"),
        api_listen: set("127.0.0.1:0"),
        ..Settings::default()
    };
    let serving = settings.serve_config().unwrap();
    let listeners = app::bind(&serving).await.unwrap();
    let running = app::start(&serving, Database::new(url).unwrap(), listeners).await.unwrap();
    running.checked().await.unwrap();
    running
}

/// What most services do: one callback, one transaction, on a pool.
async fn plain_handler(database: Database) -> SocketAddr {
    async fn handle(State(database): State<Database>, body: Bytes) -> &'static str {
        let received = Received {
            app: SdkAppId::parse(APP).unwrap(),
            query_command: None,
            client_ip: Some("203.0.113.9".into()),
            platform: Some("Web".into()),
            request_id: None,
            received_at: Millis::new(1_800_000_000_000),
            body: body.into(),
        };
        let Decoded::Kept(callback) = decode(received) else { panic!("out of scope") };
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
    move || (Instant::now() < end).then(body)
}

/// What the sender got answered, and how long that took.
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
            let mut sender = Sender::connect(addr).await;
            while let Some(body) = next() {
                sender.post(&body).await;
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
    per_second((answered, begun.elapsed()))
}

/// One connection that costs little: one request at a time, no more parsing than the length of the answer.
struct Sender {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Sender {
    async fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: vec![0; 4096] }
    }

    async fn post(&mut self, body: &str) {
        let request = format!(
            "POST /?SdkAppid={APP}&contenttype=json&ClientIP=203.0.113.9&OptPlatform=Web HTTP/1.1\r\nHost: mirror\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.write_all(request.as_bytes()).await.unwrap();
        let mut read = 0;
        // Both servers answer in one small segment; its end is the closing brace of the JSON.
        while !self.buffer[..read].ends_with(b"}") {
            let more = self.stream.read(&mut self.buffer[read..]).await.unwrap();
            assert!(more > 0, "the server hung up");
            read += more;
        }
        let answer = &self.buffer[..read];
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(answer));
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate of three digits")]
fn per_second((count, took): Answered) -> f64 {
    count as f64 / took.as_secs_f64()
}

async fn sql_alone(database: &Database, seconds: Duration) -> f64 {
    let end = Instant::now() + seconds;
    let begun = Instant::now();
    let lane = || async {
        let mut count = 0;
        while Instant::now() < end {
            let batch: Vec<Callback> = (0..256).map(|_| callback()).collect();
            for outcome in commit(database, &batch).await {
                outcome.unwrap();
                count += 1;
            }
        }
        count
    };
    let (one, other) = tokio::join!(lane(), lane());
    per_second((one + other, begun.elapsed()))
}

async fn one_by_one(scene: &Scene) -> f64 {
    let text = pgbench(scene, scene.seconds, &[]).await;
    let rate = text.lines().find_map(|line| line.strip_prefix("tps = "));
    let rate = rate.and_then(|rest| rest.split_whitespace().next()).and_then(|rate| rate.parse().ok());
    rate.unwrap_or_else(|| panic!("{text}"))
}

/// The statements of the service with one row each, prepared, in one transaction per callback; what it prints.
async fn pgbench(scene: &Scene, seconds: Duration, more: &[&str]) -> String {
    let script = scene.dir.join("create.sql");
    std::fs::write(&script, PGBENCH).unwrap();
    let mut command = Command::new(bin("pgbench"));
    command.current_dir(&scene.dir).args(["-n", "-M", "prepared", "-c", "8", "-j", "2"]).args(more);
    command.args(["-T", &seconds.as_secs().to_string(), "-f"]).arg(&script).arg(&scene.url);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A program of PostgreSQL, beside the server's or on the path.
fn bin(name: &str) -> PathBuf {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin").join(name))
        .filter(|path| path.exists())
        .collect();
    found.sort();
    found.pop().unwrap_or_else(|| name.into())
}

fn resident_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()).and_then(|kb| kb.parse().ok()).unwrap_or_default()
}

const PGBENCH: &str = r#"
\set n random(1, 1000000000000)
\set u random(1, 997)
\set t 1767225600000 + random(1, 1000000000)
BEGIN;
INSERT INTO ledger (sdk_app_id, group_id, time_ms, digest, command, event_time_ms, received_at, source, outcome, client_ip, platform, body)
VALUES (1400000001, '@TGS#2' || lpad(to_hex(:n::bigint), 16, '0'), :t::bigint, sha256((:n::bigint)::text::bytea), 'Group.CallbackAfterCreateGroup', :t::bigint, now(), 'callback', 'applied', '203.0.113.9', 'Web',
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
