//! Reading at a million groups, as ratios: deep pages beside first ones, a group by id beside `pgbench` running the same
//! SELECT, reads and writes beside each other, followers of the feed.
//!
//! `cargo bench --bench reads` prints a table; `READS_GROUPS` (1,000,000) and `READS_MEMBERS` (100,000, of one group) set
//! the size, `READS_SECONDS` (5) the length of each measurement, `READS_FOLLOWERS` (4,000) how many follow. Service,
//! PostgreSQL and readers share the machine; everything that is compared is measured in turn in one run, three rounds or
//! 200 requests each, and the median counts. PostgreSQL is a private one with its default settings but `fsync` and
//! `synchronous_commit`, which are on.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark that fails has failed; its result is text"
)]
#![expect(clippy::disallowed_methods, reason = "a benchmark has clocks and settings of its own")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use group_mirror::app;
use group_mirror::config::Settings;
use group_mirror::embedded::{Embedded, Programs};
use group_mirror::store::{Database, groups, schema};
use serde_json::Value;
use sqlx::{AssertSqlSafe, Executor as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const APP: &str = "1400000001";

/// The group with many members, as `fill.sql` makes it: the id of number 2.
const LARGE: &str = "%40TGS%23C81E728D9D4C";

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn main() {
    // Both ends of every follower's connection are in this process.
    rlimit::increase_nofile_limit(3 * setting("READS_FOLLOWERS", 4000)).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let programs = Programs { bin_dir: None, path: std::env::var_os("PATH") };
    let embedded = Embedded::start(&dir.path().join("postgres"), &programs).unwrap();
    let url = embedded.url().to_owned();
    runtime.block_on(async {
        let database = Database::new(&url).unwrap();
        schema::migrate(&database).await.unwrap();
        fill(&database).await;
        let running = service(&url, dir.path()).await;
        println!("| EventKind | Result |\n|---|---|");
        deep_pages(running.api_addr).await;
        by_id(&url, dir.path(), running.api_addr).await;
        side_by_side(&running).await;
        followers(&running).await;
        running.stop().await;
        database.close().await;
    });
    embedded.stop();
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

async fn service(url: &str, dir: &Path) -> app::RunningService {
    let set = |text: &str| Some(text.to_owned());
    let settings = Settings {
        database_url: set(url),
        data_dir: Some(dir.display().to_string()),
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

/// One connection, one request at a time, no more parsing than the length of the answer.
struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    async fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    async fn ask(&mut self, head: &str, body: &str) -> &[u8] {
        let length = body.len();
        let request = format!("{head} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}");
        self.stream.write_all(request.as_bytes()).await.unwrap();
        self.buffer.clear();
        loop {
            assert!(self.stream.read_buf(&mut self.buffer).await.unwrap() > 0, "the server hung up");
            let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
            let head = String::from_utf8_lossy(&self.buffer[..end]).to_ascii_lowercase();
            assert!(head.starts_with("http/1.1 200"), "{}", String::from_utf8_lossy(&self.buffer));
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            if self.buffer.len() >= end + 4 + length.parse::<usize>().unwrap() {
                return &self.buffer[end + 4..];
            }
        }
    }

    async fn get(&mut self, path: &str) -> Value {
        serde_json::from_slice(self.ask(&format!("GET {path}"), "").await).unwrap()
    }

    async fn timed(&mut self, path: &str) -> f64 {
        let begun = Instant::now();
        self.ask(&format!("GET {path}"), "").await;
        begun.elapsed().as_secs_f64() * 1000.0
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
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
            let page = client.get(&format!("{path}&limit=500{next}")).await;
            let Some(cursor) = page["next_cursor"].as_str() else { break };
            pages += 1;
            deep = std::mem::replace(&mut next, format!("&cursor={cursor}"));
        }
        let (mut first_ms, mut deep_ms) = (Vec::new(), Vec::new());
        for _ in 0..200 {
            first_ms.push(client.timed(&format!("{path}&limit=50")).await);
            deep_ms.push(client.timed(&format!("{path}&limit=50{deep}")).await);
        }
        let (first, deep) = (median(first_ms), median(deep_ms));
        println!(
            "| {name}: page of 50 after {pages} pages of 500 ÷ first | {:.2} ({deep:.2} ms ÷ {first:.2} ms) |",
            deep / first
        );
    }
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

#[expect(clippy::cast_precision_loss, reason = "a rate of three digits")]
fn per_second(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

/// Ids for paths, from all over the list.
async fn some_ids(api: SocketAddr) -> Arc<Vec<String>> {
    let mut client = Client::connect(api).await;
    let mut ids = Vec::new();
    let mut next = String::new();
    while ids.len() < 50_000 {
        let page = client.get(&format!("/v1/groups?status=all&limit=500{next}")).await;
        let id = |group: &Value| group["group_id"].as_str().unwrap().replace('@', "%40").replace('#', "%23");
        ids.extend(page["items"].as_array().unwrap().iter().map(id));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        next = format!("&cursor={cursor}");
    }
    Arc::new(ids)
}

async fn by_id(url: &str, dir: &Path, api: SocketAddr) {
    let seconds = Duration::from_secs(setting("READS_SECONDS", 5));
    let ids = some_ids(api).await;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        theirs.push(pgbench(url, dir, seconds).await);
        ours.push(reads(api, &ids, 8, seconds).await);
    }
    let (ours, theirs) = (median(ours), median(theirs));
    println!(
        "| a group by id, 8 connections ÷ `pgbench` with the same SELECT, 8 clients | {:.2} ({ours:.0}/s ÷ {theirs:.0}/s) |",
        ours / theirs
    );
}

async fn pgbench(url: &str, dir: &Path, seconds: Duration) -> f64 {
    let script = dir.join("find.sql");
    let id = "'@TGS#' || upper(substr(md5((:n)::text), 1, 12))";
    let select = groups::find_statement().replace("$1", APP).replace("$2", id);
    let count = setting("READS_GROUPS", 1_000_000);
    std::fs::write(&script, format!("\\set n random(1, {count})\n{select};\n")).unwrap();
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

async fn writes(callbacks: SocketAddr, connections: usize, seconds: Duration) -> f64 {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let count = Arc::new(AtomicU64::new(0));
    let end = Instant::now() + seconds;
    let mut senders = tokio::task::JoinSet::new();
    for _ in 0..connections {
        let count = Arc::clone(&count);
        senders.spawn(async move {
            let mut client = Client::connect(callbacks).await;
            while Instant::now() < end {
                let number = NUMBER.fetch_add(1, Ordering::Relaxed);
                let id = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let body = format!(
                    r#"{{"CallbackCommand":"Group.CallbackAfterCreateGroup","EventTime":{},"GroupId":"@TGS#3{id:016X}","MemberList":[{{"Member_Account":"boris-{}"}},{{"Member_Account":"chen_{}"}}],"Name":"River walkers {number}","Operator_Account":"ana_77","Owner_Account":"ana_77","Type":"Public","UserDefinedDataList":[{{"Key":"region","Value":"north"}},{{"Key":"tier","Value":"2"}}]}}"#,
                    1_768_225_600_000 + number,
                    number % 997,
                    number % 1009
                );
                client.ask("POST /?SdkAppid=1400000001", &body).await;
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
async fn side_by_side(running: &app::RunningService) {
    let seconds = Duration::from_secs(setting("READS_SECONDS", 5));
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
async fn followers(running: &app::RunningService) {
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
        client.ask("POST /?SdkAppid=1400000001", &body).await;
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

fn resident_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()).and_then(|kb| kb.parse().ok()).unwrap_or_default()
}
