//! A backfill beside its yardsticks, in one run on one machine: what Tencent's limits allow, and COPY of the same rows.
//!
//! `fake-tencent` runs as a process of its own, so that the resident memory is that of the pass. Passes run with the whole
//! of the published limits, times `BACKFILL_FACTOR` (2), so that the run ends; `BACKFILL_GROUPS` (2,000) groups of
//! `BACKFILL_MEMBERS` (50) members. Then the same pass once more, which finds everything as it was, and one of those that
//! `serve` makes. `BACKFILL_SECONDS` (10) of creates at 300 per second go to a service while such a pass runs, and
//! without one. Time in PostgreSQL is what its sessions were busy for (`pg_stat_database.active_time`).
//!
//! Measured on two shared cores, of 100,000 groups with 50 members each. At the published limits (factor 1) the backfill took
//! 510.9 s where the limits allow 500 s (at an earlier state). At the factor 2 it took 277.0 s of 250 s and 110.2 s in
//! PostgreSQL, the same again 19.7 s there, a rolling pass 11.4 s; COPY of the same rows took 27.4 s. Memory was 52 MB.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark that fails has failed; its result is text"
)]
#![expect(clippy::disallowed_methods, reason = "a benchmark has clocks and settings of its own")]
#![expect(dead_code, reason = "what the benchmarks share is not needed by each")]
#![expect(clippy::cast_precision_loss, reason = "figures of some digits")]

mod ending;
mod support;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use group_mirror::clock;
use group_mirror::model::SdkAppId;
use group_mirror::reconcile::{AppSource, Engine, PassCounts, PassKind, PassSettings};
use group_mirror::store::Database;
use group_mirror::tencent::ClientSettings;
use group_mirror::tencent::client::TencentClient;
use group_mirror::tencent::usersig::SecretKey;
use sqlx::{Connection as _, Executor as _};
use tokio_util::sync::CancellationToken;

use ending::Ending;
use support::{APP, Client, Scene, create_body, empty, median, memory_kb, resident_kb, service, setting};

/// Creates per second beside a pass.
const RATE: u64 = 300;

/// Connections of the sender.
const CONNECTIONS: u64 = 30;

/// Tencent's published limit of nearly every command, in calls per second.
const PUBLISHED: f64 = 200.0;

const SECRET: &str = "a key of the benchmark";

/// The tables that a backfill fills.
const TABLES: [&str; 7] = [
    "ledger",
    "groups",
    "group_members",
    "group_user_defined_fields",
    "group_attributes",
    "group_topics",
    "group_verifications",
];

fn main() {
    support::run(async |scene| {
        empty(&scene.database).await;
        let factor = setting("BACKFILL_FACTOR", 2) as f64;
        let fake = fake_process(&scene.dir);
        let engine = Engine::new(scene.database.clone(), PassSettings::default(), clock::now, "a benchmark");
        let source = source(fake.addr, factor);
        let mut table = "| What | wall | in PostgreSQL |\n|---|---|---|\n".to_owned();
        let mut measured = Vec::new();
        let passes = [
            ("backfill", PassKind::Backfill),
            ("the same again", PassKind::Backfill),
            ("a rolling pass", PassKind::Rolling),
        ];
        for (name, kind) in passes {
            let (wall, busy, counts) = pass(scene, &engine, &source, kind).await;
            table += &format!("| {name} | {:.1} s | {:.1} s |\n", wall.as_secs_f64(), busy / 1_000.0);
            println!(
                "{name}: {wall:.1?}, {} groups, memory {} MB",
                groups_of(&counts),
                resident_kb() / 1_024
            );
            measured.push((wall.as_secs_f64(), busy));
        }
        if std::env::var_os("BACKFILL_ONLY").is_some() {
            println!("{table}");
            return;
        }
        let copied = copy(&scene.database, &scene.dir).await;
        table += &format!("| COPY of the same rows | {copied:.1} s | |\n");
        println!("{table}");
        let groups = setting("BACKFILL_GROUPS", 2_000) as f64;
        let limits = groups / (PUBLISHED * factor);
        println!("what the limits allow ÷ backfill: {:.2}", limits / measured[0].0);
        println!("COPY ÷ backfill: {:.2}", copied / measured[0].0);
        println!("in PostgreSQL, the same again ÷ backfill: {:.2}", measured[1].1 / measured[0].1);
        println!("in PostgreSQL, rolling ÷ backfill: {:.2}", measured[2].1 / measured[0].1);
        println!(
            "resident memory with the benchmark: {} MB, at most {} MB",
            resident_kb() / 1_024,
            memory_kb("VmHWM") / 1_024
        );
        beside(scene, &engine, &source).await;
    });
}

fn groups_of(counts: &PassCounts) -> u64 {
    counts.asked.load(std::sync::atomic::Ordering::Relaxed)
}

/// A fake as a process of its own.
struct FakeProcess {
    _process: Ending,
    addr: SocketAddr,
}

fn fake_process(dir: &Path) -> FakeProcess {
    let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (groups, members) = (setting("BACKFILL_GROUPS", 2_000), setting("BACKFILL_MEMBERS", 50));
    let child = Command::new(env!("CARGO_BIN_EXE_group-mirror"))
        .current_dir(dir)
        .args(["fake-tencent", "--callback-url", "", "--changes-per-sec", "0", "--secret-key", SECRET])
        .args(["--listen", &addr.to_string(), "--knob", "rate_factor=1000"])
        .args(["--existing-groups", &groups.to_string(), "--existing-members", &members.to_string()])
        .env("SDK_APP_ID", APP)
        .env("RUST_LOG", "warn")
        .spawn()
        .unwrap();
    let fake = FakeProcess { _process: Ending(child), addr };
    let end = Instant::now() + Duration::from_mins(2);
    while std::net::TcpStream::connect(addr).is_err() {
        assert!(Instant::now() < end, "fake-tencent does not listen");
        std::thread::sleep(Duration::from_millis(50));
    }
    fake
}

fn source(addr: SocketAddr, factor: f64) -> AppSource {
    let app = SdkAppId::parse(APP).unwrap();
    let mut settings =
        ClientSettings::new(format!("http://{addr}"), app, SecretKey::new(SECRET.to_owned()), clock::now);
    (settings.rate_share, settings.rate_factor) = (1.0, factor);
    AppSource { app, client: Arc::new(TencentClient::new(settings).unwrap()) }
}

/// One pass: how long it took, how long PostgreSQL was busy meanwhile, in milliseconds, and what it did.
async fn pass(
    scene: &Scene,
    engine: &Engine,
    source: &AppSource,
    kind: PassKind,
) -> (Duration, f64, Arc<PassCounts>) {
    let before = busy_ms(&scene.database).await;
    let (counts, stop, begun) = (Arc::new(PassCounts::default()), CancellationToken::new(), Instant::now());
    engine.once(std::slice::from_ref(source), kind, &stop, &counts).await.unwrap();
    let wall = begun.elapsed();
    (wall, busy_ms(&scene.database).await - before, counts)
}

async fn busy_ms(database: &Database) -> f64 {
    // Sessions report once a second at most.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    let mut conn = database.connect().await.unwrap();
    let query = "SELECT active_time FROM pg_stat_database WHERE datname = current_database()";
    let busy = sqlx::query_scalar(query).fetch_one(&mut conn).await.unwrap();
    conn.close().await.unwrap();
    busy
}

/// Seconds that COPY takes to write the rows of all tables, indexes and all, into empty copies of them.
async fn copy(database: &Database, dir: &Path) -> f64 {
    let mut conn = database.connect().await.unwrap();
    let mut took = Duration::ZERO;
    for table in TABLES {
        let file = dir.join(format!("{table}.copy")).display().to_string();
        let run = |sql: String| sqlx::AssertSqlSafe(sql);
        conn.execute(run(format!("COPY (SELECT * FROM {table}) TO '{file}'"))).await.unwrap();
        conn.execute(run(format!("CREATE TABLE copy_of_{table} (LIKE {table} INCLUDING INDEXES)")))
            .await
            .unwrap();
        let begun = Instant::now();
        conn.execute(run(format!("COPY copy_of_{table} FROM '{file}'"))).await.unwrap();
        took += begun.elapsed();
        conn.execute(run(format!("DROP TABLE copy_of_{table}"))).await.unwrap();
    }
    conn.close().await.unwrap();
    took.as_secs_f64()
}

/// Latency of creates without a pass and beside one that writes everything anew.
async fn beside(scene: &Scene, engine: &Engine, source: &AppSource) {
    let running = service(&scene.url, &scene.dir.join("data")).await;
    println!("| Creates at {RATE}/s | p50 | p99 | longest |\n|---|---|---|---|");
    for name in ["alone", "beside a backfill", "alone", "beside a backfill"] {
        empty(&scene.database).await;
        let stop = CancellationToken::new();
        let counts = Arc::new(PassCounts::default());
        let reading = async {
            if name == "alone" {
                return;
            }
            // It is interrupted where it takes longer than the creates.
            let _ = engine.once(std::slice::from_ref(source), PassKind::Backfill, &stop, &counts).await;
        };
        let sending = async {
            let times = creates(running.callback_addr).await;
            stop.cancel();
            times
        };
        let ((), mut times) = tokio::join!(reading, sending);
        times.sort_by(f64::total_cmp);
        let (p99, longest) = (times[times.len() * 99 / 100], times[times.len() - 1]);
        let read = groups_of(&counts);
        println!(
            "| {name}: {read} groups read | {:.2} ms | {p99:.2} ms | {longest:.1} ms |",
            median(times.clone())
        );
    }
    running.stop().await;
}

/// Creates at a steady rate; milliseconds from the moment at which each was due.
async fn creates(addr: SocketAddr) -> Vec<f64> {
    let (begun, each) = (Instant::now(), setting("BACKFILL_SECONDS", 10) * RATE / CONNECTIONS);
    let mut senders = tokio::task::JoinSet::new();
    for number in 0..CONNECTIONS {
        senders.spawn(async move {
            let (mut client, mut times) = (Client::connect(addr).await, Vec::new());
            for turn in 0..each {
                let due = begun + Duration::from_secs_f64((turn * CONNECTIONS + number) as f64 / RATE as f64);
                tokio::time::sleep_until(due.into()).await;
                client.post(&create_body()).await;
                times.push(due.elapsed().as_secs_f64() * 1_000.0);
            }
            times
        });
    }
    senders.join_all().await.concat()
}
