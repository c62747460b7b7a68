//! The latency of single callbacks at a steady 1,000 per second, with a checkpoint in the middle, beside `pgbench -R 1000`
//! with the same rows and a checkpoint too. Both count from the moment at which a callback was due, not from when its
//! sender was free, so that a stall counts for every callback that waited behind it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use group_mirror::store::Database;
use sqlx::{Connection as _, Executor as _};
use tokio::sync::mpsc;

use super::support::{Client, Scene, create_body, empty, median, pgbench, service};
use super::{PGBENCH, rounds, sending};

/// Callbacks per second; the same in pgbench's arguments.
const RATE: f64 = 1000.0;

/// More than are ever busy, unless a stall is long.
const CONNECTIONS: usize = 64;

/// p50 and p99 in milliseconds, and how many took longer than Tencent waits.
struct Measured {
    p50: f64,
    p99: f64,
    late: usize,
}

pub(super) async fn measure(scene: &Scene) {
    // A percentile needs many, and a checkpoint some time.
    let seconds = super::seconds() * 4;
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for round in 0..rounds() {
        empty(&scene.database).await;
        theirs.push(pgbench_at_rate(scene, seconds, round).await);
        empty(&scene.database).await;
        let running = service(&scene.url, &scene.dir.join("data")).await;
        // Connections are made and statements prepared; pgbench's are as well when it begins to count.
        super::load(running.callback_addr, 16, sending(Duration::from_millis(500))).await;
        empty(&scene.database).await;
        let (times, ()) = tokio::join!(
            send_at_rate(running.callback_addr, seconds),
            checkpoint_after(&scene.database, seconds / 2)
        );
        ours.push(measured(times));
        running.stop().await;
    }
    println!("| At 1,000 callbacks/s, a checkpoint included | p50 | p99 | over 2 s |\n|---|---|---|---|");
    let mut p99 = [0.0; 2];
    for (at, (name, rounds)) in
        [("pgbench -R 1000, 8 clients", &theirs), ("group-mirror", &ours)].iter().enumerate()
    {
        let of = |pick: fn(&Measured) -> f64| median(rounds.iter().map(pick).collect());
        p99[at] = of(|round| round.p99);
        let late: usize = rounds.iter().map(|round| round.late).sum();
        println!("| {name} | {:.2} ms | {:.2} ms | {late} |", of(|round| round.p50), p99[at]);
    }
    println!("\np99, group-mirror ÷ pgbench: {:.2}\n", p99[1] / p99[0]);
}

async fn checkpoint_after(database: &Database, pause: Duration) {
    tokio::time::sleep(pause).await;
    let mut conn = database.connect().await.unwrap();
    conn.execute("CHECKPOINT").await.unwrap();
    conn.close().await.unwrap();
}

async fn pgbench_at_rate(scene: &Scene, seconds: Duration, round: u64) -> Measured {
    let prefix = format!("latency-{round}");
    let arguments = ["-R", "1000", "--log", "--log-prefix", &prefix];
    tokio::join!(
        pgbench(scene, PGBENCH, seconds, &arguments),
        checkpoint_after(&scene.database, seconds / 2)
    );
    let mut times = Vec::new();
    // One file per thread. The third column is the time since the transaction was due, in microseconds.
    for entry in std::fs::read_dir(&scene.dir).unwrap().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&format!("{prefix}.")) {
            let text = std::fs::read_to_string(entry.path()).unwrap();
            let time = |line: &str| line.split(' ').nth(2)?.parse().ok().map(Duration::from_micros);
            times.extend(text.lines().filter_map(time));
        }
    }
    measured(times)
}

/// Callbacks are due at random moments, as pgbench's are; a free connection takes the oldest.
async fn send_at_rate(addr: std::net::SocketAddr, seconds: Duration) -> Vec<Duration> {
    let (due, queue) = mpsc::unbounded_channel();
    // A thread of its own: the runtime's clock has milliseconds only.
    let clock = std::thread::spawn(move || {
        let (mut next, end) = (Instant::now(), Instant::now() + seconds);
        while next < end {
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
            due.send(next).unwrap();
            next += Duration::from_secs_f64(-(1.0 - fastrand::f64()).ln() / RATE);
        }
    });
    let queue = Arc::new(tokio::sync::Mutex::new(queue));
    let times = Arc::new(Mutex::new(Vec::new()));
    let mut senders = tokio::task::JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (queue, times) = (Arc::clone(&queue), Arc::clone(&times));
        senders.spawn(async move {
            let mut client = Client::connect(addr).await;
            loop {
                let next = queue.lock().await.recv().await;
                let Some(due) = next else { return };
                client.post(&create_body()).await;
                times.lock().unwrap().push(due.elapsed());
            }
        });
    }
    while let Some(sender) = senders.join_next().await {
        sender.unwrap();
    }
    clock.join().unwrap();
    std::mem::take(&mut *times.lock().unwrap())
}

fn measured(mut times: Vec<Duration>) -> Measured {
    times.sort_unstable();
    assert!(!times.is_empty(), "nothing was measured");
    let ms = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1000.0;
    let late = times.iter().filter(|time| **time > Duration::from_secs(2)).count();
    Measured { p50: ms(50), p99: ms(99), late }
}
