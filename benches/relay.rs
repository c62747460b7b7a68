//! The relay beside its yardsticks, in one run on one machine.
//!
//! (a) Latency of "before" callbacks at a steady rate (500/s): straight to the backend, through nginx (`proxy_pass`, connections
//! kept), through the service. (b) A backend that is dead, slow (3 s), resets, answers garbage or 500, at the same rate,
//! with create callbacks at 100/s beside: how long each kind waits, against the same load without a relay.
//!
//! `cargo bench --bench relay` prints tables. `RELAY_PARTS=latency,failing` chooses (both), `RELAY_SECONDS` sets the length
//! of each measurement (10), `RELAY_ROUNDS` how many rounds the median is taken of (3), `RELAY_RATE` another rate. Times count from the moment at which
//! a callback was due. Backend and sender share the machine with the service, which is a process of its own; nginx is the one
//! on the path, with one worker.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark that fails has failed; its result is text"
)]
#![expect(clippy::disallowed_methods, reason = "a benchmark has clocks and settings of its own")]
#![expect(dead_code, reason = "what the benchmarks share is not needed by each")]

mod ending;
mod support;

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use ending::Ending;
use support::{APP, Scene, create_body, empty, median, setting};

/// Create callbacks per second beside those that wait.
const RATE_BESIDE: f64 = 100.0;

/// As many as wait for a backend that does not answer, and more.
const CONNECTIONS: usize = 700;

/// From here on the breaker is open, where it opens.
const OPEN_BY: Duration = Duration::from_secs(3);

const ANSWER: &str = r#"{"ActionStatus":"OK","ErrorCode":0,"ErrorInfo":""}"#;

/// What the backend does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Conduct {
    Healthy,
    Slow,
    Resets,
    Garbage,
    Status500,
}

fn main() {
    let parts = std::env::var("RELAY_PARTS").unwrap_or_else(|_| "latency,failing".to_owned());
    support::run(async |scene| {
        for part in parts.split(',') {
            match part {
                "latency" => latency(scene).await,
                "failing" => failing(scene).await,
                other => panic!("RELAY_PARTS: there is no {other:?}"),
            }
        }
    });
}

/// "Before" callbacks per second.
fn rate() -> f64 {
    f64::from(u32::try_from(setting("RELAY_RATE", 500)).unwrap())
}

fn seconds() -> Duration {
    Duration::from_secs(setting("RELAY_SECONDS", 10))
}

async fn latency(scene: &Scene) {
    let backend = backend(Conduct::Healthy);
    let nginx = Nginx::start(&scene.dir, backend).await;
    let service = ServiceProcess::start(scene, Some(&format!("http://{backend}/"))).await;
    let ways =
        [("the backend itself", backend), ("nginx", nginx.address), ("group-mirror", service.callback_addr)];
    let mut measured: Vec<(Vec<f64>, Vec<f64>)> = vec![Default::default(); ways.len()];
    for _ in 0..setting("RELAY_ROUNDS", 3) {
        for (at, (_, address)) in ways.iter().enumerate() {
            // Connections are made.
            send_at_rate(*address, rate(), Duration::from_secs(1), before).await;
            let times = times_of(send_at_rate(*address, rate(), seconds(), before).await);
            measured[at].0.push(percentile(&times, 50));
            measured[at].1.push(percentile(&times, 99));
        }
    }
    service.stop().await;
    println!(
        "| \"before\" callbacks at {}/s | p50 | p99 | p99 ÷ direct | p99 ÷ nginx |\n|---|---|---|---|---|",
        rate()
    );
    let p99: Vec<f64> = measured.iter().map(|(_, p99)| median(p99.clone())).collect();
    for (at, (name, _)) in ways.iter().enumerate() {
        let p50 = median(measured[at].0.clone());
        let (direct, nginx) = (p99[at] / p99[0], p99[at] / p99[1]);
        println!("| {name} | {p50:.2} ms | {:.2} ms | {direct:.2} | {nginx:.2} |", p99[at]);
    }
    let allowed = p99[0] * 1.5 + 2.0;
    println!("\np99: {:.2} ms; 1.5 times the backend's and 2 ms are {allowed:.2} ms\n", p99[2]);
}

async fn failing(scene: &Scene) {
    println!(
        "| Backend | \"before\": longest | median, breaker open | creates: p50 | p99 | p99 ÷ without a relay |\n\
         |---|---|---|---|---|---|"
    );
    let mut without = None;
    let dead = SocketAddr::from(([127, 0, 0, 1], free_port()));
    for (name, backend) in [
        ("none", None),
        ("healthy", Some(backend(Conduct::Healthy))),
        ("dead", Some(dead)),
        ("answers after 3 s", Some(backend(Conduct::Slow))),
        ("resets", Some(backend(Conduct::Resets))),
        ("answers garbage", Some(backend(Conduct::Garbage))),
        ("answers 500", Some(backend(Conduct::Status500))),
    ] {
        empty(&scene.database).await;
        let url = backend.map(|address| format!("http://{address}/"));
        let service = ServiceProcess::start(scene, url.as_deref()).await;
        let address = service.callback_addr;
        let (before, creates) = tokio::join!(
            send_at_rate(address, rate(), seconds(), before),
            send_at_rate(address, RATE_BESIDE, seconds(), create)
        );
        service.stop().await;
        let late: Vec<_> = before.iter().filter(|(due, _)| *due > OPEN_BY).copied().collect();
        let (before, late, creates) = (times_of(before), times_of(late), times_of(creates));
        let p99 = percentile(&creates, 99);
        let ratio = p99 / *without.get_or_insert(p99);
        println!(
            "| {name} | {:.0} ms | {:.2} ms | {:.2} ms | {p99:.2} ms | {ratio:.2} |",
            percentile(&before, 100),
            percentile(&late, 50),
            percentile(&creates, 50)
        );
    }
    println!();
}

/// The service as a process of its own, as it is run: beside the sender on one runtime the tasks of both would wait for
/// each other, while nginx has the scheduler of the system.
struct ServiceProcess {
    callback_addr: SocketAddr,
    child: Child,
}

impl ServiceProcess {
    async fn start(scene: &Scene, relay_url: Option<&str>) -> Self {
        let dir = scene.dir.join("relay");
        std::fs::create_dir_all(&dir).unwrap();
        let callback_addr = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let api_addr = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut command = Command::new(env!("CARGO_BIN_EXE_group-mirror"));
        command.current_dir(&scene.dir).env("RUST_LOG", "error");
        for (name, value) in [
            ("DATABASE_URL", scene.url.as_str()),
            ("DATA_DIR", &dir.display().to_string()),
            ("SDK_APP_ID", APP),
            ("CALLBACK_AUTH", "none"),
            ("API_AUTH", "none"),
            ("CALLBACK_LISTEN", &callback_addr.to_string()),
            ("API_LISTEN", &api_addr.to_string()),
            ("RELAY_FALLBACK", "allow"),
        ] {
            command.env(name, value);
        }
        if let Some(url) = relay_url {
            command.env("RELAY_URL", url);
        }
        let child = command.spawn().unwrap();
        let service = Self { callback_addr, child };
        let end = Instant::now() + Duration::from_secs(30);
        while !service.is_ready().await {
            assert!(Instant::now() < end, "the service does not get ready");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        service
    }

    async fn is_ready(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(self.callback_addr).await else { return false };
        let asked = stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: m\r\n\r\n").await;
        let answer = read_message(&mut stream, &mut Vec::new()).await;
        asked.is_ok() && answer.is_some_and(|head| head.starts_with("HTTP/1.1 200"))
    }

    /// Ends it as a service manager does.
    async fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        tokio::task::spawn_blocking(move || self.child.wait()).await.unwrap().unwrap();
    }
}

fn before() -> String {
    let body = r#"{"CallbackCommand":"Group.CallbackBeforeSendMsg","GroupId":"g","From_Account":"ana","MsgBody":[{"MsgType":"TIMTextElem","MsgContent":{"Text":"hello"}}]}"#;
    request("Group.CallbackBeforeSendMsg", body)
}

fn create() -> String {
    request("Group.CallbackAfterCreateGroup", &create_body())
}

fn request(command: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST /?SdkAppid={APP}&CallbackCommand={command}&contenttype=json HTTP/1.1\r\nHost: m\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

/// Sends at random moments; a free connection takes the oldest. When each was due, and how long it took from then on.
async fn send_at_rate(
    address: SocketAddr,
    rate: f64,
    seconds: Duration,
    request: fn() -> String,
) -> Vec<(Duration, Duration)> {
    let (due, queue) = mpsc::unbounded_channel();
    let begun = Instant::now();
    // A thread of its own: the runtime's clock has milliseconds only.
    let clock = std::thread::spawn(move || {
        let (mut next, end) = (begun, begun + seconds);
        while next < end {
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
            due.send(next).unwrap();
            next += Duration::from_secs_f64(-(1.0 - fastrand::f64()).ln() / rate);
        }
    });
    let queue = Arc::new(tokio::sync::Mutex::new(queue));
    let times = Arc::new(Mutex::new(Vec::new()));
    let mut senders = tokio::task::JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (queue, times) = (Arc::clone(&queue), Arc::clone(&times));
        senders.spawn(async move {
            let mut connection = None;
            loop {
                let next = queue.lock().await.recv().await;
                let Some(due) = next else { return };
                // A connection that was idle may have been closed to make room.
                let head = loop {
                    let mut stream = match connection.take() {
                        Some(stream) => stream,
                        None => TcpStream::connect(address).await.unwrap(),
                    };
                    let sent = stream.write_all(request().as_bytes()).await;
                    if let (Ok(()), Some(head)) = (sent, read_message(&mut stream, &mut Vec::new()).await) {
                        connection = Some(stream);
                        break head;
                    }
                };
                if !head.starts_with("HTTP/1.1 200") {
                    // The machine cannot keep up; the figures of such a run say little.
                    println!("a callback was answered with {}", head.lines().next().unwrap_or_default());
                }
                times.lock().unwrap().push((due - begun, due.elapsed()));
            }
        });
    }
    senders.join_all().await;
    clock.join().unwrap();
    std::mem::take(&mut *times.lock().unwrap())
}

fn times_of(measured: Vec<(Duration, Duration)>) -> Vec<Duration> {
    let mut times: Vec<_> = measured.into_iter().map(|(_, took)| took).collect();
    times.sort_unstable();
    assert!(!times.is_empty(), "nothing was measured");
    times
}

/// In milliseconds.
fn percentile(times: &[Duration], percent: usize) -> f64 {
    times[(times.len() - 1) * percent / 100].as_secs_f64() * 1000.0
}

/// Reads one message with a length and returns its head; none at the end of the connection.
async fn read_message(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<String> {
    loop {
        if stream.read_buf(bytes).await.ok()? == 0 {
            return None;
        }
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().unwrap())
        });
        if bytes.len() >= end + 4 + length.unwrap_or_default() {
            bytes.clear();
            return Some(head);
        }
    }
}

/// A backend on a thread of its own, until the end of the process.
fn backend(conduct: Conduct) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, conduct));
            }
        });
    });
    address
}

async fn serve(mut stream: TcpStream, conduct: Conduct) {
    stream.set_nodelay(true).unwrap();
    let mut bytes = Vec::new();
    while read_message(&mut stream, &mut bytes).await.is_some() {
        let (status, body) = match conduct {
            Conduct::Healthy | Conduct::Slow => ("200 OK", ANSWER),
            Conduct::Resets => return stream.set_zero_linger().unwrap(),
            Conduct::Garbage => ("200 OK", "success"),
            Conduct::Status500 => ("500 Internal Server Error", ANSWER),
        };
        if conduct == Conduct::Slow {
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// nginx in front of a backend, until it is dropped.
struct Nginx {
    address: SocketAddr,
    _process: Ending,
}

impl Nginx {
    async fn start(dir: &Path, backend: SocketAddr) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let text = format!(
            "daemon off; master_process off; pid nginx.pid; error_log stderr crit;
             events {{ worker_connections 4096; }}
             http {{
                 access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u;
                 scgi_temp_path s;
                 upstream backend {{ server {backend}; keepalive 256; }}
                 server {{
                     listen {address} backlog=4096; keepalive_requests 1000000;
                     location / {{
                         proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection \"\";
                         proxy_connect_timeout 1200ms; proxy_read_timeout 1200ms;
                     }}
                 }}
             }}"
        );
        let dir = dir.join("nginx");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("nginx.conf"), text).unwrap();
        let mut command = Command::new("nginx");
        command.arg("-p").arg(&dir).arg("-c").arg(dir.join("nginx.conf"));
        let process = command.spawn().unwrap();
        while TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Self { address, _process: Ending(process) }
    }
}
