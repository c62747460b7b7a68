//! Reading at a million groups, as ratios: deep pages beside first ones, a group by id beside `pgbench` running the same
//! SELECT, reads and writes beside each other, followers of the feed.
//!
//! `cargo bench --bench reads` prints a table; `READS_GROUPS` (1,000,000) and `READS_MEMBERS` (100,000, of one group) set
//! the size, `READS_SECONDS` (5) the length of each measurement, `READS_FOLLOWERS` (4,000) how many follow,
//! `READS_EVENTS` (100,000) how many entries one person has. Service, PostgreSQL and readers share the machine; everything
//! that is compared is measured in turn in one run, three rounds or 200 to 400 requests each, and the median counts. PostgreSQL is a private one with its default settings but `fsync` and
//! `synchronous_commit`, which are on; `BENCH_DATABASE_URL` names another server's empty database instead.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark that fails has failed; its result is text"
)]
#![expect(clippy::disallowed_methods, reason = "a benchmark has clocks and settings of its own")]

#[expect(dead_code, reason = "the other benchmarks use the rest")]
mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use group_mirror::app::RunningService;
use group_mirror::store::{Database, groups};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Executor as _};
use support::{APP, Client, Scene, create_body, median, per_second, pgbench, resident_kb, service, setting};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The group with many members, as `fill.sql` makes it: the id of number 2.
const LARGE: &str = "%40TGS%23C81E728D9D4C";

fn main() {
    // Both ends of every follower's connection are in this process.
    rlimit::increase_nofile_limit(3 * setting("READS_FOLLOWERS", 4000)).unwrap();
    support::run(async |scene| {
        fill(&scene.database).await;
        let running = service(&scene.url, &scene.dir.join("data")).await;
        println!("| What | Result |\n|---|---|");
        deep_pages(running.api_addr).await;
        people(scene, running.api_addr).await;
        by_id(scene, running.api_addr).await;
        side_by_side(&running).await;
        followers(&running).await;
        running.stop().await;
    });
}

/// The length of one measurement.
fn seconds() -> Duration {
    Duration::from_secs(setting("READS_SECONDS", 5))
}

async fn fill(database: &Database) {
    let number = |name, default| format!("{})", setting(name, default));
    let fill = include_str!("fill.sql").replace("GROUPS)", &number("READS_GROUPS", 1_000_000));
    let fill = fill.replace("MEMBERS)", &number("READS_MEMBERS", 100_000));
    let mut conn = database.connect().await.unwrap();
    conn.execute(AssertSqlSafe(fill)).await.unwrap();
    conn.execute("VACUUM").await.unwrap();
    conn.execute("CHECKPOINT").await.unwrap();
}

async fn json(client: &mut Client, path: &str) -> Value {
    serde_json::from_slice(client.ask(&format!("GET {path}"), "").await).unwrap()
}

async fn timed(client: &mut Client, path: &str) -> f64 {
    let begun = Instant::now();
    client.ask(&format!("GET {path}"), "").await;
    begun.elapsed().as_secs_f64() * 1000.0
}

/// Follows a list to its last full page, then asks for the first and a deep page in turn.
async fn deep_pages(api: SocketAddr) {
    let mut client = Client::connect(api).await;
    for (name, path) in [
        ("groups, newest first", "/v1/groups?status=active".to_owned()),
        ("groups, oldest first", "/v1/groups?sort=created_at".to_owned()),
        ("groups, by id", "/v1/groups?sort=group_id".to_owned()),
        ("members of a large group", format!("/v1/groups/{LARGE}/members?status=all")),
    ] {
        let (mut deep, mut next, mut pages) = (String::new(), String::new(), 0);
        loop {
            let page = json(&mut client, &format!("{path}&limit=500{next}")).await;
            let Some(cursor) = page["next_cursor"].as_str() else { break };
            pages += 1;
            deep = std::mem::replace(&mut next, format!("&cursor={cursor}"));
        }
        let (mut first_ms, mut deep_ms) = (Vec::new(), Vec::new());
        for _ in 0..200 {
            first_ms.push(timed(&mut client, &format!("{path}&limit=50")).await);
            deep_ms.push(timed(&mut client, &format!("{path}&limit=50{deep}")).await);
        }
        let (first, deep) = (median(first_ms), median(deep_ms));
        println!(
            "| {name}: page of 50 after {pages} pages of 500 ÷ first | {:.2} ({deep:.2} ms ÷ {first:.2} ms) |",
            deep / first
        );
    }
}

/// Ten times as many entries as `busy` has, `READS_EVENTS`, who is the operator of each tenth; each is about one of many others
/// too, who have a hundred each. They lie in all of the table, as the entries of a person do.
const PEOPLE: &str = r#"
INSERT INTO ledger (sdk_app_id, group_id, time_ms, digest, command, event_time_ms, received_at, source, outcome, body, operator, users, user_count)
SELECT 1400000001, 'h' || n % 5003, 1767225600000 + n * 1000, substr(sha256(n::text::bytea), 1, 16), 'Group.CallbackAfterMemberExit',
       1767225600000 + n * 1000, to_timestamp(1767225600 + n), 'callback', 'applied',
       convert_to(format('{"CallbackCommand":"Group.CallbackAfterMemberExit","EventTime":%s,"ExitMemberList":[{"Member_Account":"quiet-%s"}],"ExitType":"Kicked","GroupId":"h%s","Operator_Account":"%s"}',
                         1767225600000 + n * 1000, n % (EVENTS / 10), n % 5003, operator), 'UTF8'),
       operator, ARRAY['quiet-' || n % (EVENTS / 10)], 1
  FROM generate_series(1::bigint, EVENTS * 10) n, LATERAL (SELECT CASE n % 10 WHEN 0 THEN 'busy' ELSE 'mod-' || n % 997 END AS operator) o;
INSERT INTO ledger_people (sdk_app_id, group_id, user_id, time_ms, digest, parts)
SELECT sdk_app_id, group_id, u, time_ms, digest, p FROM ledger, LATERAL (VALUES (operator, 1), (users[1], 2)) v (u, p)
 WHERE group_id LIKE 'h%';
VACUUM ANALYZE ledger; VACUUM ANALYZE ledger_people; CHECKPOINT"#;

/// A page of someone with many entries beside one of someone with a hundred, in turn, and of the app.
async fn people(scene: &Scene, api: SocketAddr) {
    let events = setting("READS_EVENTS", 100_000);
    let mut conn = scene.database.connect().await.unwrap();
    for statement in PEOPLE.replace("EVENTS", &events.to_string()).split(';') {
        conn.execute(AssertSqlSafe(statement.to_owned())).await.unwrap();
    }
    let mut client = Client::connect(api).await;
    let (mut busy, mut quiet, mut app) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..400 {
        busy.push(timed(&mut client, "/v1/users/busy/history?limit=50").await);
        quiet.push(timed(&mut client, &format!("/v1/users/quiet-{}/history?limit=50", number % 50)).await);
        app.push(timed(&mut client, "/v1/history?limit=50").await);
    }
    let (busy, quiet, app) = (median(busy), median(quiet), median(app));
    println!(
        "| page of 50 of a person with {events} entries ÷ with 100 | {:.2} ({busy:.2} ms ÷ {quiet:.2} ms) |",
        busy / quiet
    );
    println!(
        "| page of 50 of the history of the app ÷ of a person with 100 entries | {:.2} ({app:.2} ms) |",
        app / quiet
    );
}

async fn reads(api: SocketAddr, ids: &Arc<Vec<String>>, connections: usize, seconds: Duration) -> f64 {
    let count = Arc::new(AtomicU64::new(0));
    let end = Instant::now() + seconds;
    let mut readers = tokio::task::JoinSet::new();
    for reader in 0..connections {
        let (count, ids) = (Arc::clone(&count), Arc::clone(ids));
        readers.spawn(async move {
            let mut client = Client::connect(api).await;
            let mut at = reader * 997;
            while Instant::now() < end {
                at = (at + 7919) % ids.len();
                client.ask(&format!("GET /v1/groups/{}", ids[at]), "").await;
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    while let Some(reader) = readers.join_next().await {
        reader.unwrap();
    }
    per_second(count.load(Ordering::Relaxed), seconds)
}

/// Ids for paths, from all over the list.
async fn some_ids(api: SocketAddr) -> Arc<Vec<String>> {
    let mut client = Client::connect(api).await;
    let mut ids = Vec::new();
    let mut next = String::new();
    while ids.len() < 50_000 {
        let page = json(&mut client, &format!("/v1/groups?status=all&limit=500{next}")).await;
        let id = |group: &Value| group["group_id"].as_str().unwrap().replace('@', "%40").replace('#', "%23");
        ids.extend(page["items"].as_array().unwrap().iter().map(id));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        next = format!("&cursor={cursor}");
    }
    Arc::new(ids)
}

async fn by_id(scene: &Scene, api: SocketAddr) {
    let ids = some_ids(api).await;
    let id = "'@TGS#' || upper(substr(md5((:n)::text), 1, 12))";
    let select = groups::find_statement().replace("$1", APP).replace("$2", id);
    let count = setting("READS_GROUPS", 1_000_000);
    let script = format!("\\set n random(1, {count})\n{select};\n");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        theirs.push(pgbench(scene, &script, seconds(), &[]).await);
        ours.push(reads(api, &ids, 8, seconds()).await);
    }
    let (ours, theirs) = (median(ours), median(theirs));
    println!(
        "| a group by id, 8 connections ÷ `pgbench` with the same SELECT, 8 clients | {:.2} ({ours:.0}/s ÷ {theirs:.0}/s) |",
        ours / theirs
    );
}

async fn writes(callbacks: SocketAddr, connections: usize, seconds: Duration) -> f64 {
    let count = Arc::new(AtomicU64::new(0));
    let end = Instant::now() + seconds;
    let mut senders = tokio::task::JoinSet::new();
    for _ in 0..connections {
        let count = Arc::clone(&count);
        senders.spawn(async move {
            let mut client = Client::connect(callbacks).await;
            while Instant::now() < end {
                client.post(&create_body()).await;
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    while let Some(sender) = senders.join_next().await {
        sender.unwrap();
    }
    per_second(count.load(Ordering::Relaxed), seconds)
}

/// Full load on both listeners, alone and together.
async fn side_by_side(running: &RunningService) {
    let seconds = seconds();
    let ids = some_ids(running.api_addr).await;
    let (mut alone, mut together) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
    for _ in 0..3 {
        alone.0.push(reads(running.api_addr, &ids, 16, seconds).await);
        alone.1.push(writes(running.callback_addr, 64, seconds).await);
        let (read, written) = tokio::join!(
            reads(running.api_addr, &ids, 16, seconds),
            writes(running.callback_addr, 64, seconds)
        );
        together.0.push(read);
        together.1.push(written);
    }
    for (name, alone, together) in [
        ("groups read by 16 connections beside 64 that send callbacks", alone.0, together.0),
        ("callbacks of 64 connections beside 16 that read groups", alone.1, together.1),
    ] {
        let (alone, together) = (median(alone), median(together));
        println!("| {name} ÷ alone | {:.2} ({together:.0}/s ÷ {alone:.0}/s) |", together / alone);
    }
}

/// Idle ones, and how long one entry takes to all of them.
async fn followers(running: &RunningService) {
    let before = resident_kb();
    let mut streams = Vec::new();
    for _ in 0..setting("READS_FOLLOWERS", 4000) {
        let mut stream = TcpStream::connect(running.api_addr).await.unwrap();
        let ask =
            "GET /v1/changes?since=now HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n";
        stream.write_all(ask.as_bytes()).await.unwrap();
        streams.push(stream);
    }
    for stream in &mut streams {
        read_until(stream, "retry").await;
    }
    let each = (resident_kb().saturating_sub(before)) / streams.len() as u64;
    let mut took = Vec::new();
    for _ in 0..5 {
        let mut client = Client::connect(running.callback_addr).await;
        let begun = Instant::now();
        let body = format!(
            r#"{{"CallbackCommand":"Group.CallbackAfterGroupInfoChanged","EventTime":{},"GroupId":"f","Name":"x"}}"#,
            1_768_225_600_000 + took.len()
        );
        client.post(&body).await;
        for stream in &mut streams {
            read_until(stream, "\"outcome\"").await;
        }
        took.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    println!("| resident memory of an idle follower, both ends of its connection included | {each} kB |");
    println!("| from a callback to the last of {} followers | {:.0} ms |", streams.len(), median(took));
}

async fn read_until(stream: &mut TcpStream, text: &str) {
    let (mut read, mut buffer) = (String::new(), [0; 4096]);
    while !read.contains(text) {
        let count = stream.read(&mut buffer).await.unwrap();
        assert!(count > 0, "the server hung up");
        read.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
}
