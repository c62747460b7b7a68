//! The real binary as a child process: a working directory of its own, a clean environment, addresses from its log.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use reqwest::{Client, Response, StatusCode};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_group-mirror");

/// Nothing here takes nearly as long; a test that waits for this long has failed.
const PATIENCE: Duration = Duration::from_secs(120);

const POLL: Duration = Duration::from_millis(20);

/// A working directory. It goes away once no server of it lives.
pub(crate) struct Place {
    dir: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap()
    }

    /// The embedded server's directory, in the default data directory.
    pub(crate) fn postgres(&self) -> PathBuf {
        self.path().join("data/postgres")
    }

    /// `group-mirror` with these arguments, free ports and no other setting.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = self.program(BINARY);
        command.args(args);
        command
    }

    /// The same on a database, everything authenticated.
    pub(crate) fn command_on(&self, url: &str, args: &[&str]) -> Command {
        let mut command = self.command(args);
        command.env("DATABASE_URL", url).env("SDK_APP_ID", super::APP);
        command.env("CALLBACK_TOKEN", super::TOKEN).env("API_TOKEN", super::API_TOKEN);
        command
    }

    /// Another program in the same surroundings.
    pub(crate) fn program(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.path()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap());
        command.env("CALLBACK_LISTEN", "127.0.0.1:0").env("API_LISTEN", "127.0.0.1:0");
        command
    }

    /// `serve` with no configuration, ready.
    pub(crate) async fn serve(&self) -> Process {
        Process::start(self.command(&[])).ready().await
    }

    /// Processes that work in the embedded server's directory. Where there is no `/proc` none is seen.
    pub(crate) fn servers(&self) -> Vec<u32> {
        processes_in(&self.postgres())
    }

    pub(crate) fn assert_no_server(&self) {
        assert_eq!(self.servers(), Vec::<u32>::new());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let begun = Instant::now();
        // A server whose service was killed needs a moment; what it writes then would bring the directory back.
        while !processes_in(&self.dir.path().join("data/postgres")).is_empty() && begun.elapsed() < PATIENCE {
            std::thread::sleep(POLL);
        }
    }
}

fn processes_in(dir: &Path) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pid = |entry: std::fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    let works_here = |pid: &u32| {
        std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|working| working.starts_with(dir))
    };
    entries.filter_map(pid).filter(works_here).collect()
}

/// What a process leaves.
#[derive(Debug)]
pub(crate) struct Ended {
    /// None: a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// A child process; killed when dropped.
pub(crate) struct Process {
    child: Child,
    stdout: Output,
    stderr: Output,
    client: Client,
}

/// What a child prints, collected line by line.
struct Output {
    text: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
}

impl Output {
    fn of(pipe: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let theirs = Arc::clone(&text);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(pipe).split(b'\n') {
                let line = line.unwrap();
                writeln!(theirs.lock().unwrap(), "{}", String::from_utf8_lossy(&line)).unwrap();
            }
        });
        Self { text, reader }
    }

    fn text(&self) -> String {
        self.text.lock().unwrap().clone()
    }
}

impl Process {
    pub(crate) fn start(command: Command) -> Self {
        Self::start_with_input(command, Stdio::null())
    }

    pub(crate) fn start_with_input(mut command: Command, input: Stdio) -> Self {
        let pipes = command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = pipes.spawn().unwrap();
        let stdout = Output::of(child.stdout.take().unwrap());
        let stderr = Output::of(child.stderr.take().unwrap());
        Self { child, stdout, stderr, client: Client::builder().no_proxy().build().unwrap() }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The log until now.
    pub(crate) fn log(&self) -> String {
        self.stderr.text()
    }

    /// Waits until the log holds a text.
    pub(crate) async fn says(&mut self, text: &str) {
        self.until(|process| process.log().contains(text), text).await;
    }

    /// Waits until `/readyz` answers 200 and the database has been checked, whatever that found.
    pub(crate) async fn ready(mut self) -> Self {
        self.says("read API").await;
        let begun = Instant::now();
        let is_ready = async |service: &Self| {
            let answer = service.get("/readyz").await;
            answer.status() == StatusCode::OK
                && !answer.text().await.unwrap().contains("has not answered yet")
        };
        while !is_ready(&self).await {
            assert!(begun.elapsed() < PATIENCE, "not ready:\n{}", self.log());
            tokio::time::sleep(POLL).await;
        }
        self
    }

    /// Waits until something comes true while the process lives.
    pub(crate) async fn until(&mut self, mut come_true: impl FnMut(&mut Self) -> bool, what: &str) {
        let begun = Instant::now();
        while !come_true(self) {
            let over = self.child.try_wait().unwrap().is_some() && self.stderr.reader.is_finished();
            assert!(!over || come_true(self), "ended before: {what}:\n{}", self.log());
            assert!(begun.elapsed() < PATIENCE, "in vain: {what}:\n{}", self.log());
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until the process has ended, however it ended.
    pub(crate) async fn until_ended(&mut self) {
        let begun = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < PATIENCE, "no end:\n{}", self.log());
            tokio::time::sleep(POLL).await;
        }
    }

    /// Whether it has ended.
    pub(crate) fn is_over(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end without a runtime.
    pub(crate) fn wait(&mut self) -> std::io::Result<std::process::ExitStatus> {
        self.child.wait()
    }

    fn address(&self, line: &str) -> String {
        let log = self.log();
        let line = log.lines().find(|text| text.contains(line)).unwrap();
        let (_, url) = line.split_once("://").unwrap();
        url.split('/').next().unwrap().to_owned()
    }

    /// Where callbacks are taken.
    pub(crate) fn callback_address(&self) -> String {
        self.address("callbacks of app")
    }

    /// Where the mirror is read.
    pub(crate) fn api_address(&self) -> String {
        self.address("read API")
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.get_as("nobody", path).await
    }

    /// With a bearer token.
    pub(crate) async fn get_as(&self, token: &str, path: &str) -> Response {
        let url = format!("http://{}{path}", self.api_address());
        self.client.get(url).bearer_auth(token).send().await.unwrap()
    }

    pub(crate) async fn post(&self, query: &str, body: String) -> Response {
        let url = format!("http://{}/callback?{query}", self.callback_address());
        self.client.post(url).body(body).send().await.unwrap()
    }

    /// Sends the sample of a created group, unsigned.
    pub(crate) async fn takes_a_group(&self) {
        let body = super::sample("Group.CallbackAfterCreateGroup").to_string();
        let query = format!("SdkAppid={}&CallbackCommand=Group.CallbackAfterCreateGroup", super::APP);
        let answer = self.post(&query, body).await;
        assert_eq!(answer.status(), StatusCode::OK, "{}", self.log());
        assert_eq!(answer.text().await.unwrap(), super::OK);
    }

    /// Reads that group.
    pub(crate) async fn serves_the_group(&self) {
        let answer = self.get("/v1/groups/%40TGS%232RIVERB7QK").await;
        assert_eq!(answer.status(), StatusCode::OK, "{}", self.log());
        let group: Value = answer.json().await.unwrap();
        assert_eq!((&group["name"], &group["owner"]), (&"River walkers".into(), &"ana_77".into()));
    }

    pub(crate) fn signal(&self, name: &str) {
        send(name, &[self.pid()]);
    }

    /// Waits for the end and for the last word.
    pub(crate) async fn ended(mut self) -> Ended {
        let begun = Instant::now();
        loop {
            let status = self.child.try_wait().unwrap();
            let silent = self.stdout.reader.is_finished() && self.stderr.reader.is_finished();
            if let Some(status) = status.filter(|_| silent) {
                return Ended { code: status.code(), stdout: self.stdout.text(), stderr: self.stderr.text() };
            }
            assert!(begun.elapsed() < PATIENCE, "no end:\n{}", self.log());
            tokio::time::sleep(POLL).await;
        }
    }

    /// Sends a signal and asserts an orderly end: exit code 0.
    pub(crate) async fn ends_well_on(self, signal: &str) -> Ended {
        self.signal(signal);
        let ended = self.ended().await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        ended
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command to its end.
pub(crate) async fn run(command: Command) -> Ended {
    Process::start(command).ended().await
}

/// Asserts exit code 2 and one line, and answers what follows the program's name.
pub(crate) async fn refused(command: Command) -> String {
    let ended = run(command).await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert_eq!(ended.stdout, "");
    let line = ended.stderr.strip_suffix('\n').unwrap();
    assert!(!line.contains('\n'), "{line}");
    line.strip_prefix("group-mirror: ").unwrap_or_else(|| panic!("{line}")).to_owned()
}

/// Asserts exit code 2 after a start, and answers what follows the program's name in the last line.
pub(crate) async fn refused_at_last(command: Command) -> String {
    let ended = run(command).await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    let line = ended.stderr.lines().last().unwrap();
    line.strip_prefix("group-mirror: ").unwrap_or_else(|| panic!("{ended:?}")).to_owned()
}

/// Sends a signal to several processes in one go.
pub(crate) fn send(signal: &str, pids: &[u32]) {
    let pids = pids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
    assert!(Command::new("sh").args(["-c", &format!("kill -{signal} {pids}")]).status().unwrap().success());
}
