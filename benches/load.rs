//! The service under load beside its yardsticks, in one run on one machine, as callbacks committed per second.
//!
//! (a) `pgbench`, one transaction per create callback, the same rows and indexes, 8 clients;
//! (b) a plain handler that commits each callback by itself, on a pool of 8;
//! (c) the service at 1, 16, 64 and 256 connections;
//! (d) the same rows in batches of 256 by SQL alone, two connections: the limit of the schema.
//!
//! `cargo bench --bench load` prints a table; `LOAD_SECONDS` sets the length of each measurement (5), `LOAD_ROUNDS`
//! how many rounds the median is taken of (3). Service, PostgreSQL and sender share the machine. PostgreSQL is a
//! private one with `fsync` and `synchronous_commit` on. The callback is a create with an owner, two members and two
//! user-defined fields: 1 ledger row, 1 group, 3 members, 2 fields.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark that fails has failed; its result is text"
)]
#![expect(clippy::disallowed_methods, reason = "a benchmark has clocks and settings of its own")]

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
use group_mirror::ingest::apply;
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
    let programs = Programs { bin_dir: None, path: std::env::var_os("PATH") };
    let postgres = dir.path().join("postgres");
    let embedded = Embedded::start(&postgres, &programs).unwrap();
    let url = embedded.url().to_owned();
    let seconds = Duration::from_secs(setting("LOAD_SECONDS", 5));
    runtime.block_on(async {
        let database = Database::new(&url).unwrap();
        schema::migrate(&database).await.unwrap();
        let mut results: Vec<(&str, Vec<f64>)> = Vec::new();
        for _ in 0..setting("LOAD_ROUNDS", 3) {
            for (name, rate) in round(&database, &url, dir.path(), seconds).await {
                match results.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, rates)) => rates.push(rate),
                    None => results.push((name, vec![rate])),
                }
            }
        }
        let median = |rates: &mut Vec<f64>| {
            rates.sort_by(f64::total_cmp);
            rates[rates.len() / 2]
        };
        let one_by_one = median(&mut results[0].1);
        println!("| What | callbacks/s | ÷ pgbench |\n|---|---|---|");
        for (name, rates) in &mut results {
            let rate = median(rates);
            println!("| {name} | {rate:.0} | {:.2} |", rate / one_by_one);
        }
        println!(
            "\nresident memory with sender and yardsticks at most: {} MB",
            RESIDENT_KB.load(Ordering::Relaxed) / 1024
        );
        database.close().await;
    });
    embedded.stop();
}

async fn round(database: &Database, url: &str, dir: &Path, seconds: Duration) -> Vec<(&'static str, f64)> {
    let mut rates = Vec::new();
    empty(database).await;
    rates.push(("(a) pgbench, one by one, 8 clients", pgbench(url, dir, seconds).await));
    empty(database).await;
    let plain = plain_handler(database.clone()).await;
    rates.push(("(b) plain handler, 64 connections", load(plain, 64, seconds).await));
    empty(database).await;
    rates.push(("(b) plain handler, 256 connections", load(plain, 256, seconds).await));
    let running = service(url).await;
    for (name, connections) in [
        ("(c) group-mirror, 1 connection", 1),
        ("(c) group-mirror, 16 connections", 16),
        ("(c) group-mirror, 64 connections", 64),
        ("(c) group-mirror, 256 connections", 256),
        ("(c) group-mirror, 700 connections", 700),
    ] {
        empty(database).await;
        let begun = Instant::now();
        let rate = load(running.callback_addr, connections, seconds).await;
        let sent = begun.elapsed();
        // An answer may mean the spool: what counts is in the tables.
        while rows(database).await < rate * sent.as_secs_f64() - 0.5 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        rates.push((name, rate * sent.as_secs_f64() / begun.elapsed().as_secs_f64()));
        RESIDENT_KB.fetch_max(resident_kb(), Ordering::Relaxed);
    }
    running.stop().await;
    empty(database).await;
    rates.push(("(d) SQL alone, batches of 256, 2 connections", sql_alone(database, seconds).await));
    rates
}

async fn empty(database: &Database) {
    let mut conn = database.connect().await.unwrap();
    conn.execute(
        "TRUNCATE ledger, groups, group_members, group_user_defined_fields, group_attributes, group_topics",
    )
    .await
    .unwrap();
    conn.execute("CHECKPOINT").await.unwrap();
    conn.close().await.unwrap();
}

/// Callbacks in the ledger.
async fn rows(database: &Database) -> f64 {
    let mut conn = database.connect().await.unwrap();
    let count: f64 =
        sqlx::query_scalar("SELECT count(*)::float8 FROM ledger").fetch_one(&mut conn).await.unwrap();
    conn.close().await.unwrap();
    count
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

async fn service(url: &str) -> app::Running {
    let set = |text: &str| Some(text.to_owned());
    let settings = Settings {
        database_url: set(url),
        sdk_app_id: set(APP),
        callback_auth: set("none"),
        api_auth: set("none"),
        callback_listen: set("127.0.0.1:0"),
        api_listen: set("127.0.0.1:0"),
        ..Settings::default()
    };
    let serving = settings.serve_config().unwrap();
    let listeners = app::bind(&serving).await.unwrap();
    app::start(&serving, Database::new(url).unwrap(), listeners).await.unwrap()
}

/// What most services do: one callback, one transaction, on a pool.
async fn plain_handler(database: Database) -> std::net::SocketAddr {
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
            if apply(&database, std::slice::from_ref(&callback)).await.remove(0).is_ok() {
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

/// A sender that costs little: one request at a time per connection, no more parsing than the length of the answer.
async fn load(addr: std::net::SocketAddr, connections: u32, seconds: Duration) -> f64 {
    let answered = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let end = begun + seconds;
    let mut senders = tokio::task::JoinSet::new();
    for _ in 0..connections {
        let answered = Arc::clone(&answered);
        senders.spawn(async move {
            let mut stream = TcpStream::connect(addr).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let mut buffer = vec![0; 4096];
            while Instant::now() < end {
                let body = body();
                let request = format!(
                    "POST /?SdkAppid={APP}&CallbackCommand=Group.CallbackAfterCreateGroup&contenttype=json&ClientIP=203.0.113.9&OptPlatform=Web HTTP/1.1\r\nHost: mirror\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                stream.write_all(request.as_bytes()).await.unwrap();
                let mut read = 0;
                // Both servers answer in one small piece; its end is the closing brace of the JSON.
                while !buffer[..read].ends_with(b"}") {
                    let more = stream.read(&mut buffer[read..]).await.unwrap();
                    assert!(more > 0, "the server hung up");
                    read += more;
                }
                assert!(buffer[..read].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&buffer[..read]));
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    while let Some(sender) = senders.join_next().await {
        sender.unwrap();
    }
    per_second(answered.load(Ordering::Relaxed), begun.elapsed())
}

#[expect(clippy::cast_precision_loss, reason = "a rate of three digits")]
fn per_second(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

async fn sql_alone(database: &Database, seconds: Duration) -> f64 {
    let end = Instant::now() + seconds;
    let begun = Instant::now();
    let lane = || async {
        let mut count = 0;
        while Instant::now() < end {
            let batch: Vec<Callback> = (0..256).map(|_| callback()).collect();
            for outcome in apply(database, &batch).await {
                outcome.unwrap();
                count += 1;
            }
        }
        count
    };
    let (one, other) = tokio::join!(lane(), lane());
    per_second(one + other, begun.elapsed())
}

/// The statements of the service with one row each, prepared, in one transaction per callback.
async fn pgbench(url: &str, dir: &Path, seconds: Duration) -> f64 {
    let script = dir.join("create.sql");
    std::fs::write(&script, PGBENCH).unwrap();
    let mut command = Command::new(bin("pgbench"));
    command.args(["-n", "-M", "prepared", "-c", "8", "-j", "2", "-T", &seconds.as_secs().to_string()]);
    command.arg("-f").arg(&script).arg(url);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let rate = text.lines().find_map(|line| line.strip_prefix("tps = "));
    let rate = rate.and_then(|rest| rest.split_whitespace().next()).and_then(|rate| rate.parse().ok());
    rate.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)))
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
