//! Restarts without loss: behind nginx and HAProxy with two services, and of one service whose socket is held for it.
//!
//! The proxies run with the files of `deploy` and a certificate of the test's own authority; ports, addresses and paths differ,
//! and where the test is not root the user of HAProxy. `RESTARTS=20` makes the runs as long as a release wants them.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::process::lifecycle::skipped;
use crate::support::load::{Connection, Load, Sent, Target, create_request, read_answer};
use crate::support::postgres::TestDatabase;
use crate::support::process::{BINARY, Place, Process};
use crate::support::tls::{self, Authority};
use crate::support::{OK, eventually};

/// How often a service is restarted in an ordinary run.
const RESTARTS: u32 = 3;

/// The pause of each of 16 connections after an answer: some 600/s where answers are quick.
const PAUSE: Duration = Duration::from_millis(25);

/// Callbacks between two restarts.
const BETWEEN: u64 = 300;

/// Callbacks that are sent while one of two services hangs.
const CALLBACKS_WHILE_ONE_HANGS: usize = 20;

fn restarts() -> u32 {
    std::env::var("RESTARTS").map_or(RESTARTS, |text| text.parse().unwrap())
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A proxy of Debian's with a file of `deploy`; stopped when dropped.
pub(crate) struct DeployedProxy {
    process: Process,
    /// Where it speaks TLS, unless its file was changed.
    pub(crate) target: Target,
    authority: Authority,
    _dir: TempDir,
}

/// These lines of the shipped file, which an ordinary user may not use.
const HAPROXY_USER: &str = "    user haproxy\n    group haproxy\n";

/// The program by its usual places, which are not all in the `PATH` of an ordinary user.
fn program(name: &str) -> Option<PathBuf> {
    let places = ["/usr/sbin", "/usr/bin", "/usr/local/sbin"].map(|dir| PathBuf::from(dir).join(name));
    places.into_iter().find(|path| path.exists())
}

/// A file as it is shipped.
fn deployed(file: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("deploy").join(file);
    std::fs::read_to_string(path).unwrap()
}

impl DeployedProxy {
    /// In front of services on these ports. None: the program is not installed.
    pub(crate) async fn start(
        name: &str,
        services: [u16; 2],
        change: impl Fn(String) -> String,
    ) -> Option<Self> {
        let Some(program) = program(name) else {
            skipped(&format!("{name} is not installed"));
            return None;
        };
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let file = if name == "nginx" { "nginx.conf" } else { "haproxy.cfg" };
        let authority = Authority::new();
        let pair = authority.issue("callbacks.example.org");
        let path = |name: &str| dir.path().join(name).display().to_string();
        for (name, text) in [
            ("fullchain.pem", pair.certificate.clone()),
            ("privkey.pem", pair.key.clone()),
            ("callbacks.pem", pair.certificate + &pair.key),
        ] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let is_root = rustix::process::geteuid().is_root();
        let mut text = deployed(file);
        for (shipped, ours) in [
            ("listen 443 ", format!("listen 127.0.0.1:{port} ")),
            ("bind :443 ", format!("bind 127.0.0.1:{port} ")),
            ("/etc/nginx/tls/fullchain.pem", path("fullchain.pem")),
            ("/etc/nginx/tls/privkey.pem", path("privkey.pem")),
            ("/etc/haproxy/tls/callbacks.pem", path("callbacks.pem")),
            ("127.0.0.1:8080", format!("127.0.0.1:{}", services[0])),
            ("127.0.0.1:8090", format!("127.0.0.1:{}", services[1])),
            (HAPROXY_USER, (if is_root { HAPROXY_USER } else { "" }).to_owned()),
        ] {
            text = text.replace(shipped, &ours);
        }
        let config = dir.path().join(file);
        std::fs::write(&config, change(text)).unwrap();
        let mut command = Command::new(program);
        if name == "nginx" {
            let globals = format!("daemon off; error_log stderr; pid {}/pid;", dir.path().display());
            command.arg("-p").arg(dir.path()).arg("-c").arg(&config).args(["-g", &globals]);
        } else {
            command.arg("-db").arg("-f").arg(&config);
        }
        let process = Process::start(command);
        let connector = tls::connector(&authority, &tls::Offer::default());
        let target = Target { address: format!("127.0.0.1:{port}"), tls: Some(connector) };
        let listens = async || TcpStream::connect(&target.address).await.is_ok();
        assert!(eventually(listens).await, "{name} does not listen:\n{}", process.log());
        Some(Self { process, target, authority, _dir: dir })
    }

    /// For senders that leave as soon as they have sent. Over TLS 1.3 the proxy has still something to say then, tickets for
    /// later sessions; the kernel answers what arrives at a closed socket with a reset, behind which HAProxy reads no request.
    /// Tencent leaves after two seconds and has read the tickets; over TLS 1.2 there is nothing to be read either.
    fn target_of_those_who_leave(&self) -> Target {
        let offer = tls::Offer { versions: &[&rustls::version::TLS12], ..tls::Offer::default() };
        Target { tls: Some(tls::connector(&self.authority, &offer)), ..self.target.clone() }
    }
}

/// A shipped file without its TLS.
pub(crate) fn without_tls(text: &str) -> String {
    let end = |line: &str, mark: &str| line.split(mark).next().unwrap_or_default().to_owned();
    let plain = text.lines().map(|line| match line.trim() {
        listen if listen.starts_with("listen ") => end(line, " ssl") + ";",
        bind if bind.starts_with("bind ") => end(line, " ssl"),
        _ => line.to_owned(),
    });
    plain.collect::<Vec<_>>().join("\n") + "\n"
}

impl Drop for DeployedProxy {
    fn drop(&mut self) {
        // Its workers end with it; killed, it would leave them behind.
        self.process.signal("TERM");
        let _ = self.process.wait();
    }
}

/// A service on a port of its own, again and again.
pub(crate) struct Restarted {
    place: Place,
    url: String,
    pub(crate) port: u16,
    pub(crate) idle_secs: Option<String>,
}

impl Restarted {
    pub(crate) fn new(database: &TestDatabase) -> Self {
        Self { place: Place::new(), url: database.url.clone(), port: free_port(), idle_secs: None }
    }

    pub(crate) async fn start(&self) -> Process {
        let mut command = self.place.command_on(&self.url, &["serve"]);
        command.env("CALLBACK_LISTEN", format!("127.0.0.1:{}", self.port));
        if let Some(secs) = &self.idle_secs {
            command.env("IDLE_SECS", secs);
        }
        Process::start(command).ready().await
    }
}

/// Every callback was answered with OK, and each of them is in the mirror.
pub(crate) async fn assert_none_lost(database: &TestDatabase, sent: Sent) {
    assert_eq!(sent.lost, Vec::<String>::new(), "of {}", sent.callbacks);
    let mut conn = database.connect().await;
    let kept: i64 =
        sqlx::query_scalar("SELECT count(DISTINCT group_id) FROM ledger").fetch_one(&mut conn).await.unwrap();
    assert_eq!(u64::try_from(kept).unwrap(), sent.callbacks, "answered with OK and not in the ledger");
}

/// The rate that was reached, for a person: `--nocapture`.
#[expect(clippy::print_stderr, reason = "a person reads the report")]
fn report(sent: &Sent, begun: Instant) {
    let secs = begun.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "none of these counts reaches 2^53")]
    let rate = sent.callbacks as f64 / secs;
    eprintln!(
        "{} restarts: {} callbacks in {secs:.0} s, {rate:.0}/s, {} lost",
        restarts(),
        sent.callbacks,
        sent.lost.len()
    );
}

async fn restarts_behind(proxy: &str) {
    let database = TestDatabase::create().await;
    let places = [Restarted::new(&database), Restarted::new(&database)];
    let mut services = [places[0].start().await, places[1].start().await];
    let ports = [places[0].port, places[1].port];
    let Some(proxy) = DeployedProxy::start(proxy, ports, |text| text).await else { return };
    let begun = Instant::now();
    let load = Load::start(&proxy.target, "behind-a-proxy", 16, PAUSE);
    for restart in 0..restarts() {
        load.pass(BETWEEN).await;
        let at = usize::try_from(restart % 2).unwrap();
        services[at].signal("TERM");
        services[at].until_ended().await;
        services[at] = places[at].start().await;
    }
    load.pass(BETWEEN).await;
    let sent = load.finish().await;
    report(&sent, begun);
    for service in services {
        service.ends_well_on("TERM").await;
    }
    assert_none_lost(&database, sent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_in_turn_behind_nginx_lose_nothing() {
    restarts_behind("nginx").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_in_turn_behind_haproxy_lose_nothing() {
    restarts_behind("haproxy").await;
}

/// Sends a callback on a connection of its own.
async fn send(target: &Target, group: &str) -> Connection {
    let mut stream = target.connect().await.unwrap();
    stream.write_all(&create_request(group)).await.unwrap();
    stream.flush().await.unwrap();
    stream
}

/// One of two services hangs, as on a machine that swaps or is paused: it accepts connections and answers nothing.
async fn one_hangs_behind(proxy: &str) {
    let database = TestDatabase::create().await;
    let places = [Restarted::new(&database), Restarted::new(&database)];
    let services = [places[0].start().await, places[1].start().await];
    let ports = [places[0].port, places[1].port];
    let Some(proxy) = DeployedProxy::start(proxy, ports, |text| text).await else { return };
    let kept = async |name: &str| -> usize {
        let mut conn = database.connect().await;
        let count = sqlx::query_scalar("SELECT count(*) FROM ledger WHERE starts_with(group_id, $1)");
        let count: i64 = count.bind(name).fetch_one(&mut conn).await.unwrap();
        count.try_into().unwrap()
    };
    services[0].signal("STOP");
    let answers = join_all((0..CALLBACKS_WHILE_ONE_HANGS).map(async |number| {
        let mut stream = send(&proxy.target, &format!("waits{number}")).await;
        read_answer(&mut stream).await.unwrap()
    }));
    for answer in answers.await {
        assert_eq!(answer.body, OK, "{}", answer.head);
    }
    // Tencent does not send a callback again that it has given up, so the proxy must not give it up.
    let leaving = proxy.target_of_those_who_leave();
    let leave = async |number| drop(send(&leaving, &format!("leaves{number}")).await);
    join_all((0..CALLBACKS_WHILE_ONE_HANGS).map(leave)).await;
    for name in ["waits", "leaves"] {
        let all = eventually(async || kept(name).await == CALLBACKS_WHILE_ONE_HANGS).await;
        assert!(all, "{name}: {} of {CALLBACKS_WHILE_ONE_HANGS}", kept(name).await);
    }
    services[0].signal("CONT");
    for service in services {
        service.ends_well_on("TERM").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_hangs_behind_nginx_costs_no_callback() {
    one_hangs_behind("nginx").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_hangs_behind_haproxy_costs_no_callback() {
    one_hangs_behind("haproxy").await;
}

/// How long the service takes for any answer, and how long Tencent waits, in milliseconds.
const ANSWERED_WITHIN_MS: u64 = 1_400;
const TENCENT_WAITS_MS: u64 = 2_000;

#[test]
fn the_shipped_proxies_try_the_other_service_after_the_time_of_any_answer_and_before_tencent_gives_up() {
    for (file, name) in [("nginx.conf", "proxy_read_timeout "), ("haproxy.cfg", "timeout server ")] {
        let text = deployed(file);
        let ms = text.lines().find_map(|line| line.trim().strip_prefix(name)).unwrap();
        let ms: u64 = ms.trim_end_matches(';').strip_suffix("ms").unwrap().parse().unwrap();
        assert!((ANSWERED_WITHIN_MS + 1..TENCENT_WAITS_MS).contains(&ms), "{file}: {name}{ms}ms");
    }
}

/// Starts the service with the socket as its descriptor 3, as a service manager does.
pub(crate) async fn activated(
    place: &Place,
    url: &str,
    socket: &TcpListener,
    more: &[(&str, &str)],
) -> Process {
    let mut command = place.program("sh");
    command.args(["-c", "exec 3<&0 0</dev/null; LISTEN_PID=$$ exec \"$0\" serve", BINARY]);
    command.env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", "callback");
    command.env("DATABASE_URL", url).env("SDK_APP_ID", crate::support::APP).envs(more.iter().copied());
    command.env("CALLBACK_TOKEN", crate::support::TOKEN).env("API_TOKEN", crate::support::API_TOKEN);
    let input = Stdio::from(OwnedFd::from(socket.try_clone().unwrap()));
    Process::start_with_input(command, input).ready().await
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_of_one_service_whose_socket_is_held_lose_nothing() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let mut service = activated(&place, &database.url, &socket, &[]).await;
    assert_eq!(service.callback_address(), address, "the socket takes the place of CALLBACK_LISTEN");
    let begun = Instant::now();
    let load = Load::start(&Target::plain(&address), "held-socket", 16, PAUSE);
    for _ in 0..restarts() {
        load.pass(BETWEEN).await;
        service.signal("TERM");
        service.until_ended().await;
        service = activated(&place, &database.url, &socket, &[]).await;
    }
    load.pass(BETWEEN).await;
    let sent = load.finish().await;
    report(&sent, begun);
    service.ends_well_on("TERM").await;
    assert_none_lost(&database, sent).await;
}
