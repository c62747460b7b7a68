//! What the benchmarks share: settings, a PostgreSQL, the service on free ports, a cheap HTTP client, callbacks, medians,
//! resident memory, `pgbench`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use group_mirror::app::{self, RunningService};
use group_mirror::callback::{Callback, Decoded, Received, decode};
use group_mirror::config::Settings;
use group_mirror::embedded::{Embedded, Programs};
use group_mirror::model::{Millis, SdkAppId};
use group_mirror::store::{Database, schema};
use sqlx::{Connection as _, Executor as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub(crate) const APP: &str = "1400000001";

/// A number from the environment.
pub(crate) fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A migrated database: of `BENCH_DATABASE_URL`, else of a private server with default settings but `fsync` and
/// `synchronous_commit`, which are on; and a directory for the data of the services.
pub(crate) struct Scene {
    pub(crate) database: Database,
    pub(crate) url: String,
    pub(crate) dir: PathBuf,
}

/// Runs a benchmark on a scene of its own.
pub(crate) fn run(benchmark: impl AsyncFnOnce(&Scene)) {
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
    runtime.block_on(async {
        let scene = Scene { database: Database::new(&url).unwrap(), url, dir: dir.path().to_owned() };
        schema::migrate(&scene.database).await.unwrap();
        benchmark(&scene).await;
        scene.database.close().await;
    });
    if let Some(embedded) = embedded {
        embedded.stop();
    }
}

/// Empties ledger and mirror. A service that has just stopped may still read in another order of tables, so that one of both is
/// given up as a deadlock; it is tried again until it is done.
pub(crate) async fn truncate(database: &Database) {
    let mut conn = database.connect().await.unwrap();
    let empty = "TRUNCATE ledger, ledger_people, groups, group_members, group_user_defined_fields, group_attributes, group_topics";
    while let Err(error) = conn.execute(empty).await {
        let code = error.as_database_error().and_then(|error| error.code().map(std::borrow::Cow::into_owned));
        assert_eq!(code.as_deref(), Some("40P01"), "{error}");
    }
    conn.close().await.unwrap();
}

/// The same, with a checkpoint after it, so that each measurement begins at the same state of the WAL.
pub(crate) async fn empty(database: &Database) {
    truncate(database).await;
    let mut conn = database.connect().await.unwrap();
    conn.execute("CHECKPOINT").await.unwrap();
    conn.close().await.unwrap();
}

/// The whole service on free ports, without authentication.
pub(crate) async fn service(url: &str, data_dir: &Path) -> RunningService {
    service_with(url, data_dir, |_| {}).await
}

/// The same with other settings.
pub(crate) async fn service_with(
    url: &str,
    data_dir: &Path,
    change: impl FnOnce(&mut Settings),
) -> RunningService {
    std::fs::create_dir_all(data_dir).unwrap();
    let set = |text: &str| Some(text.to_owned());
    let mut settings = Settings {
        database_url: set(url),
        data_dir: Some(data_dir.display().to_string()),
        sdk_app_id: set(APP),
        callback_auth: set("none"),
        api_auth: set("none"),
        callback_listen: set("127.0.0.1:0"),
        api_listen: set("127.0.0.1:0"),
        ..Settings::default()
    };
    change(&mut settings);
    let serving = settings.serve_config().unwrap();
    let listeners = app::bind(&serving).await.unwrap();
    let running = app::start(&serving, Database::new(url).unwrap(), listeners).await.unwrap();
    running.checked().await.unwrap();
    running
}

/// One connection that costs little: one request at a time, no more parsing than the length of the answer.
pub(crate) struct Client<S = TcpStream> {
    stream: S,
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        Self::on(connected(addr).await)
    }
}

/// A connection that holds nothing back.
pub(crate) async fn connected(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// On a connection of any kind.
    pub(crate) fn on(stream: S) -> Self {
        Self { stream, buffer: Vec::with_capacity(4096) }
    }

    /// The body of the answer, which must be 200. `line` is method and target.
    pub(crate) async fn ask(&mut self, line: &str, body: &str) -> &[u8] {
        let length = body.len();
        let request = format!("{line} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}");
        self.stream.write_all(request.as_bytes()).await.unwrap();
        self.buffer.clear();
        loop {
            assert!(self.stream.read_buf(&mut self.buffer).await.unwrap() > 0, "the server hung up");
            let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
            assert!(self.buffer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&self.buffer));
            let head = std::str::from_utf8(&self.buffer[..end]).unwrap();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            if self.buffer.len() >= end + 4 + length.parse::<usize>().unwrap() {
                return &self.buffer[end + 4..];
            }
        }
    }

    /// Posts a callback.
    pub(crate) async fn post(&mut self, body: &str) {
        self.ask(
            &format!("POST /?SdkAppid={APP}&contenttype=json&ClientIP=203.0.113.9&OptPlatform=Web"),
            body,
        )
        .await;
    }
}

/// A create of a group that no other call has created: owner, two members, two user-defined fields. Every body of a run is
/// about another group, so that all do the same work.
pub(crate) fn create_body() -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
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

/// A body as the receiver hands it to the writer.
pub(crate) fn decoded(body: impl Into<Vec<u8>>) -> Callback {
    let received = Received {
        client_ip: Some("203.0.113.9".into()),
        platform: Some("Web".into()),
        ..Received::bare(SdkAppId::parse(APP).unwrap(), Millis::new(1_800_000_000_000), body.into())
    };
    let Decoded::Kept(callback) = decode(received) else { panic!("out of scope") };
    assert!(callback.event.is_ok(), "parked");
    *callback
}

/// An amount of memory of this process, in kB, as the system names it: `VmRSS`, or `VmHWM` for the most there was.
pub(crate) fn memory_kb(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|rest| rest.split_whitespace().next()).and_then(|kb| kb.parse().ok()).unwrap_or_default()
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[expect(clippy::cast_precision_loss, reason = "a rate of some digits")]
pub(crate) fn per_second(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

/// Resident memory of this process, in kB.
pub(crate) fn resident_kb() -> u64 {
    memory_kb("VmRSS")
}

/// Transactions per second of a script for `pgbench`, 8 clients.
pub(crate) async fn pgbench(scene: &Scene, script: &str, seconds: Duration, more: &[&str]) -> f64 {
    let file = scene.dir.join("pgbench.sql");
    std::fs::write(&file, script).unwrap();
    let mut command = Command::new(program("pgbench"));
    command.current_dir(&scene.dir).args(["-n", "-M", "prepared", "-c", "8", "-j", "2"]).args(more);
    command.args(["-T", &seconds.as_secs().to_string(), "-f"]).arg(&file).arg(&scene.url);
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    let rate = text.lines().find_map(|line| line.strip_prefix("tps = "));
    let rate = rate.and_then(|rest| rest.split_whitespace().next()).and_then(|rate| rate.parse().ok());
    rate.unwrap_or_else(|| panic!("{text}"))
}

/// A program of PostgreSQL, beside the server's or on the path.
fn program(name: &str) -> PathBuf {
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
