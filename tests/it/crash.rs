//! The real program killed while it writes, and a disk that is full: what was answered is there afterwards.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::Client;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::unix::pipe;

use crate::spool::{CREATE, caught_up, create, groups};
use crate::support::chaos::{Mood, Proxy};
use crate::support::postgres::TestDatabase;
use crate::support::{API_TOKEN, APP, PATIENCE, Service, TOKEN, eventually, settings, signed_query};

/// A URL where nobody answers.
const NOBODY: &str = "postgres://nobody@127.0.0.1:1/none?sslmode=disable";

/// The program, started as an operator does.
struct Program {
    child: Child,
    callbacks: String,
    api: String,
}

impl Program {
    async fn start(data: &Path, url: &str) -> Self {
        let (log, end) = std::io::pipe().unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_group-mirror"))
            .env_clear()
            .current_dir(data)
            .envs([("DATABASE_URL", url), ("SDK_APP_ID", APP), ("CALLBACK_TOKEN", TOKEN)])
            .envs([("API_TOKEN", API_TOKEN), ("RUST_LOG", "info"), ("LOG_FORMAT", "text")])
            .envs([("CALLBACK_LISTEN", "127.0.0.1:0"), ("API_LISTEN", "127.0.0.1:0")])
            .env("DATA_DIR", data)
            .stdout(Stdio::null())
            .stderr(end)
            .spawn()
            .unwrap();
        let log = pipe::Receiver::from_owned_fd(log.into()).unwrap();
        let mut lines = BufReader::new(log).lines();
        let (mut callbacks, mut api) = (None, None);
        let mut said = String::new();
        while callbacks.is_none() || api.is_none() {
            let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap();
            let Some(line) = line else { panic!("it ended: {said}") };
            let address =
                line.split_once("http://").map(|(_, rest)| rest.split('/').next().unwrap().to_owned());
            if line.contains("callbacks of app") {
                callbacks = address;
            } else if line.contains("read API") {
                api = address;
            }
            said.push_str(&line);
        }
        // The rest of the log is of no interest, but it must not stop the program.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { child, callbacks: callbacks.unwrap(), api: api.unwrap() }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Sends creates from several connections until the program is gone; answers with those that were answered OK.
async fn send_until_killed(program: Program, prefix: &str, kill_after: usize) -> BTreeSet<String> {
    let client = Client::builder().no_proxy().build().unwrap();
    let (answered, next) = (Mutex::new(BTreeSet::new()), AtomicUsize::new(0));
    let url = format!("http://{}/", program.callbacks);
    let program = Mutex::new(Some(program));
    let send = || async {
        loop {
            let name = format!("{prefix} {}", next.fetch_add(1, Ordering::Relaxed));
            let request = client.post(format!("{url}?{}", signed_query())).body(create(&name).to_string());
            match request.send().await {
                Ok(answer) if answer.status() == 200 => answered.lock().unwrap().insert(name),
                Ok(answer) => panic!("{name}: {}", answer.status()),
                Err(_) => return,
            };
            if answered.lock().unwrap().len() >= kill_after
                && let Some(program) = program.lock().unwrap().take()
            {
                program.kill();
            }
        }
    };
    futures_util::future::join_all((0..16).map(|_| send())).await;
    answered.into_inner().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_answered_before_a_kill_is_in_the_tables_after_the_restart() {
    let data = tempfile::tempdir().unwrap();
    let mut answered = BTreeSet::new();
    for (round, kill_after) in [1, 37, 150, 311].into_iter().enumerate() {
        let program = Program::start(data.path(), NOBODY).await;
        answered.extend(send_until_killed(program, &format!("round {round}"), kill_after).await);
    }
    assert!(answered.len() >= 499);
    let database = TestDatabase::create().await;
    // Killed once more while the spool drains.
    let program = Program::start(data.path(), &database.url).await;
    let begun = async || {
        let count = sqlx::query_scalar("SELECT count(*) FROM ledger");
        count.fetch_one(&mut database.connect().await).await.is_ok_and(|count: i64| count > 0)
    };
    assert!(eventually(begun).await);
    program.kill();
    let program = Program::start(data.path(), &database.url).await;
    let client = Client::new();
    let told = async || {
        let answer = client.get(format!("http://{}/readyz", program.api)).send().await.unwrap();
        caught_up(&answer.json().await.unwrap())
    };
    assert!(eventually(told).await);
    let kept = groups(&database).await;
    let lost: Vec<&String> = answered.difference(&kept).collect();
    assert!(lost.is_empty(), "answered and lost: {lost:?}");
    let shown = async || {
        let metrics = client.get(format!("http://{}/metrics", program.api)).bearer_auth(API_TOKEN);
        let metrics = metrics.send().await.unwrap().text().await.unwrap();
        let state =
            ["spool_depth 0", "away 0", "spool_oldest_age_seconds 0", "pool_connections{pool=\"writer\""];
        state.iter().all(|name| metrics.contains(&format!("group_mirror_{name}")))
    };
    assert!(eventually(shown).await);
    program.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_program_in_the_same_directory_is_refused_in_one_line() {
    let data = tempfile::tempdir().unwrap();
    let program = Program::start(data.path(), NOBODY).await;
    let second = Command::new(env!("CARGO_BIN_EXE_group-mirror"))
        .env_clear()
        .current_dir(data.path())
        .envs([("DATABASE_URL", NOBODY), ("SDK_APP_ID", APP), ("CALLBACK_TOKEN", TOKEN)])
        .envs([("API_TOKEN", API_TOKEN), ("CALLBACK_LISTEN", "127.0.0.1:0"), ("API_LISTEN", "127.0.0.1:0")])
        .env("DATA_DIR", data.path())
        .output()
        .unwrap();
    let line = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(2), "{line}");
    assert!(line.contains("another `serve` uses") && line.lines().count() == 1, "{line}");
    program.kill();
}

/// A volume of a few megabytes; gone when dropped.
struct Volume(PathBuf);

impl Volume {
    /// None where this user may not mount.
    fn mount(at: &Path) -> Option<Self> {
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=6m", "group-mirror-test"])
            .arg(at)
            .stderr(Stdio::null())
            .status();
        mount.is_ok_and(|status| status.success()).then(|| Self(at.to_owned()))
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_at_once_and_what_was_answered_before_comes_through() {
    let dir = tempfile::tempdir().unwrap();
    let Some(volume) = Volume::mount(dir.path()) else {
        println!("skipped: only root may mount a small volume");
        return;
    };
    let database = TestDatabase::create().await;
    let proxy = Proxy::start(&database.url).await;
    proxy.set(Mood::Gone);
    let mut settings = settings(&proxy.url);
    settings.data_dir = Some(dir.path().display().to_string());
    let service = Service::start(&settings).await.unwrap();
    let mut answered = BTreeSet::new();
    let next = |answered: &BTreeSet<String>| {
        let mut body = create(&format!("g{}", answered.len()));
        body["Padding"] = "x".repeat(50_000).into();
        body.to_string()
    };
    let refused = loop {
        let answer = service.post(CREATE, next(&answered)).await;
        if answer.status() != 200 {
            break answer;
        }
        assert!(answered.len() < 1000, "the disk has no end");
        answered.insert(format!("g{}", answered.len()));
    };
    assert!(!answered.is_empty());
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    // Not a byte is left, not even what the failed attempt gave back.
    let filler = dir.path().join("filler");
    while std::fs::File::options()
        .append(true)
        .create(true)
        .open(&filler)
        .unwrap()
        .write_all(&[1; 4096])
        .is_ok()
    {}
    assert_eq!(service.post(CREATE, next(&answered)).await.status(), 503);
    let (ready, told) = service.readiness().await;
    assert_eq!(told["spool"]["state"], "the disk of the spool is full");
    assert!(!ready && told["spool"]["gaps"] == 1, "{told}");
    // The disk stays full; PostgreSQL comes back and the spool empties all the same.
    proxy.set(Mood::Fair);
    service.until(caught_up).await;
    assert!(groups(&database).await.is_superset(&answered));
    std::fs::remove_file(filler).unwrap();
    service.until(|told| told["spool"]["state"] == "ok").await;
    proxy.set(Mood::Gone);
    service.taken(&create("afterwards")).await;
    service.stop().await;
    drop(volume);
}
