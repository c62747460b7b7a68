//! Certificates that change while the service runs: exchanged without a lost request, kept where the new one is bad, and
//! reported as they expire.

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;

use crate::support::load::{create_request, read_answer};
use crate::support::postgres::TestDatabase;
use crate::support::process::{Place, Process, refused};
use crate::support::tls::{Authority, CertificateFiles, Offer, Pair, connect, connector, der, shown};
use crate::support::{API_TOKEN, APP, App, OK, eventually};

const NAME: &str = "callbacks.example.org";

/// The time until the certificate expires.
const SERIES: &str = "group_mirror_certificate_expiry_seconds{listener=\"callbacks\"}";

/// `serve` with TLS on the public listener.
fn command(place: &Place, url: &str, files: &CertificateFiles) -> Command {
    let mut command = place.command_on(url, &[]);
    command.envs(files.variables());
    command
}

/// A running service whose public listener has this certificate.
struct Scene {
    service: Process,
    authority: Authority,
    files: CertificateFiles,
    place: Place,
    database: TestDatabase,
}

impl Scene {
    async fn start(files: impl FnOnce(&Authority) -> CertificateFiles) -> Self {
        let (place, database) = (Place::new(), TestDatabase::create().await);
        let authority = Authority::new();
        let files = files(&authority);
        let service = Process::start(command(&place, &database.url, &files)).ready().await;
        Self { service, authority, files, place, database }
    }

    /// Waits until a new connection gets this certificate.
    async fn until_shown(&self, pair: &Pair) {
        let connector = connector(&self.authority, &Offer::default());
        let address = self.service.callback_address();
        let came =
            eventually(async || shown(&connect(&address, &connector).await.unwrap()) == der(pair)).await;
        assert!(came, "{}", self.service.log());
    }

    async fn metric(&self, series: &str) -> f64 {
        let text = self.service.get_as(API_TOKEN, "/metrics").await.text().await.unwrap();
        let line =
            text.lines().find_map(|line| line.strip_prefix(series)).unwrap_or_else(|| panic!("{text}"));
        line.trim().parse().unwrap()
    }

    async fn until_failed(&self, times: f64) {
        let series = "group_mirror_certificate_reloads_total{listener=\"callbacks\",result=\"failed\"}";
        let came = eventually(async || self.metric(series).await >= times).await;
        assert!(came, "{}", self.service.log());
    }

    fn count_in_log(&self, text: &str) -> usize {
        self.service.log().matches(text).count()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_exchanged_under_load_and_no_request_fails() {
    let authority = Authority::new();
    let mut pair = authority.issue(NAME);
    let files = CertificateFiles::holding(&pair);
    let app = App::start_with(|settings| files.set(settings)).await;
    let address = app.service.running.callback_addr;
    let reload = app.service.running.certificate_reload();
    let connector = connector(&authority, &Offer::default());
    let stop = tokio_util::sync::CancellationToken::new();
    let answered = Arc::new(AtomicU64::new(0));
    let mut senders = tokio::task::JoinSet::new();
    // Half of them keep their connection through all exchanges, half make a new one for each request.
    for sender in 0..8 {
        let (connector, stop, answered) = (connector.clone(), stop.clone(), Arc::clone(&answered));
        senders.spawn(async move {
            let (mut number, mut kept) = (0, None);
            while !stop.is_cancelled() {
                let mut stream = match kept.take() {
                    Some(stream) => stream,
                    None => connect(address, &connector).await.unwrap(),
                };
                stream.write_all(&create_request(&format!("g{sender}-{number}"))).await.unwrap();
                let answer = read_answer(&mut stream).await.unwrap();
                assert_eq!((answer.status(), answer.body.as_str()), (200, OK), "{sender}: {number}");
                number += 1;
                answered.fetch_add(1, Ordering::Relaxed);
                kept = (sender % 2 == 0).then_some(stream);
            }
            number
        });
    }
    for _ in 0..5 {
        let before = pair;
        pair = authority.issue(NAME);
        assert_ne!(der(&before), der(&pair));
        files.put(&pair);
        reload();
        let came =
            eventually(async || shown(&connect(address, &connector).await.unwrap()) == der(&pair)).await;
        assert!(came, "the new certificate is not shown");
        let until = answered.load(Ordering::Relaxed) + 20;
        assert!(
            eventually(async || answered.load(Ordering::Relaxed) >= until).await,
            "the load stands still"
        );
    }
    stop.cancel();
    let mut sent = 0;
    while let Some(of_one) = senders.join_next().await {
        sent += of_one.unwrap();
    }
    assert!(sent >= 100, "only {sent} requests");
    let stored = eventually(async || {
        let mut conn = app.connect().await;
        let count: i64 =
            sqlx::query_scalar("SELECT count(*) FROM groups").fetch_one(&mut conn).await.unwrap();
        count == sent
    })
    .await;
    assert!(stored, "{sent} were answered with OK");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pair_that_does_not_match_keeps_the_old_one_and_a_later_right_one_is_taken() {
    let mut first = None;
    let scene = Scene::start(|authority| {
        let pair = first.insert(authority.issue(NAME));
        CertificateFiles::holding(pair)
    })
    .await;
    let (first, second, third) = (first.unwrap(), scene.authority.issue(NAME), scene.authority.issue(NAME));
    scene.files.write("cert.pem", &second.certificate);
    scene.until_failed(1.0).await;
    scene.until_shown(&first).await;
    // Another pair that does not match is another fault.
    scene.files.write("cert.pem", &third.certificate);
    scene.until_failed(2.0).await;
    scene.until_shown(&first).await;
    scene.files.write("cert.pem", "no certificate");
    scene.until_failed(3.0).await;
    scene.files.write("key.pem", &second.key);
    scene.files.write("cert.pem", &second.certificate);
    scene.until_shown(&second).await;
    assert_eq!(
        scene.count_in_log("is not the key of the first certificate in"),
        2,
        "{}",
        scene.service.log()
    );
    assert_eq!(scene.count_in_log("holds no certificate in PEM form"), 1, "{}", scene.service.log());
    scene.service.ends_well_on("TERM").await;
    drop((scene.place, scene.database));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_kubernetes_swaps_by_a_link_is_read_again() {
    let scene = Scene::start(|authority| CertificateFiles::mounted(&authority.issue(NAME))).await;
    for version in ["second", "third"] {
        let pair = scene.authority.issue(NAME);
        scene.files.swap(version, &pair);
        scene.until_shown(&pair).await;
    }
    // Both files changed in one moment, so nothing was seen that did not match.
    assert_eq!(scene.count_in_log("stays in use"), 0, "{}", scene.service.log());
    scene.service.ends_well_on("TERM").await;
    drop((scene.place, scene.database));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sighup_reads_the_files_again_and_reports_what_came_of_it() {
    let mut scene = Scene::start(|authority| CertificateFiles::holding(&authority.issue(NAME))).await;
    scene.service.signal("HUP");
    scene.service.says("the files hold the certificate in use, that of callbacks.example.org").await;
    scene.files.write("key.pem", "no key");
    scene.until_failed(1.0).await;
    scene.service.signal("HUP");
    scene.until_failed(2.0).await;
    assert_eq!(scene.count_in_log("holds no private key in PEM form"), 2, "{}", scene.service.log());
    let pair = scene.authority.issue("next.example.org");
    scene.files.put(&pair);
    scene.service.signal("HUP");
    scene.service.says("the certificate of next.example.org, localhost is in use; it expires at").await;
    scene.until_shown(&pair).await;
    scene.service.ends_well_on("TERM").await;
    drop((scene.place, scene.database));
}

#[tokio::test]
async fn files_that_cannot_be_used_stop_the_start_with_one_line() {
    let (place, database, authority) = (Place::new(), TestDatabase::create().await, Authority::new());
    let (pair, other) = (authority.issue(NAME), authority.issue(NAME));
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (name, text, variable, reason) in [
        ("key.pem", &*other.key, "CALLBACK_TLS_KEY", "is not the key of the first certificate in "),
        ("key.pem", &pair.certificate, "CALLBACK_TLS_KEY", "holds no private key in PEM form; it should "),
        ("key.pem", encrypted, "CALLBACK_TLS_KEY", "is encrypted with a passphrase; it should "),
        ("cert.pem", &pair.key, "CALLBACK_TLS_CERT", "holds no certificate in PEM form; it should "),
        ("cert.pem", broken, "CALLBACK_TLS_CERT", "holds a certificate that cannot be read "),
        ("cert.pem", "", "CALLBACK_TLS_CERT", "holds no certificate"),
    ] {
        let files = CertificateFiles::holding(&pair);
        files.write(name, text);
        let line = refused(command(&place, &database.url, &files)).await;
        let path = files.path(name).display().to_string();
        assert!(line.starts_with(&format!("{variable}: {path} ")) && line.contains(reason), "{line}");
    }
    let files = CertificateFiles::holding(&pair);
    let mut with_authority = command(&place, &database.url, &files);
    with_authority.env("CALLBACK_TLS_CLIENT_CA", files.path("key.pem"));
    let line = refused(with_authority).await;
    assert!(line.starts_with("CALLBACK_TLS_CLIENT_CA: ") && line.contains("holds no certificate"), "{line}");
    set_permissions(files.path("key.pem"), Permissions::from_mode(0o666)).unwrap();
    let line = refused(command(&place, &database.url, &files)).await;
    assert!(line.contains("can be written by every user (mode 0666); `chmod o-w` it"), "{line}");
    std::fs::remove_file(files.path("key.pem")).unwrap();
    let line = refused(command(&place, &database.url, &files)).await;
    assert!(line.starts_with("CALLBACK_TLS_KEY: cannot open ") && line.contains("No such file"), "{line}");
    let mut without = place.command_on(&database.url, &[]);
    without.env("API_TLS_CERT", files.path("cert.pem"));
    let line = refused(without).await;
    assert!(line.starts_with("API_TLS_CERT is set and API_TLS_KEY is not; set both"), "{line}");
    let mut without = place.command_on(&database.url, &[]);
    without.env("CALLBACK_TLS_CLIENT_CA", files.path("cert.pem"));
    let line = refused(without).await;
    assert!(line.starts_with("CALLBACK_TLS_CLIENT_CA is set, and CALLBACK_TLS_CERT and"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_expiry_of_the_certificate_is_reported_and_can_be_watched() {
    let mut scene =
        Scene::start(|authority| CertificateFiles::holding(&authority.issue_for(NAME, -90, -1))).await;
    scene
        .service
        .says("CALLBACK_TLS_CERT: the certificate of callbacks.example.org, localhost has expired at")
        .await;
    assert!(scene.metric(SERIES).await < -80_000.0);
    scene.files.put(&scene.authority.issue_for(NAME, -88, 2));
    scene.service.says("localhost expires at").await;
    scene.files.put(&scene.authority.issue_for(NAME, -1, 90));
    let came = eventually(async || scene.metric(SERIES).await > 80.0 * 86_400.0).await;
    assert!(came, "{}", scene.service.log());
    assert_eq!(scene.count_in_log("localhost expires at"), 1, "{}", scene.service.log());
    scene.files.put(&scene.authority.issue_for(NAME, 10, 90));
    scene.service.says("localhost is not valid before").await;
    scene.service.ends_well_on("TERM").await;
    drop((scene.place, scene.database));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_every_user_can_read_is_reported_and_used() {
    let (place, database, authority) = (Place::new(), TestDatabase::create().await, Authority::new());
    let files = CertificateFiles::holding(&authority.issue(NAME));
    set_permissions(files.path("key.pem"), Permissions::from_mode(0o644)).unwrap();
    let mut service = Process::start(command(&place, &database.url, &files)).ready().await;
    service.says("(mode 0644), and who has it can pass for this listener").await;
    let log = service.log();
    assert!(log.contains(&format!("callbacks of app {APP} (signed): https://127.0.0.1:")), "{log}");
    let connector = connector(&authority, &Offer::default());
    let mut stream = connect(service.callback_address(), &connector).await.unwrap();
    stream.write_all(&create_request("g")).await.unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(60), read_answer(&mut stream)).await;
    assert_eq!(answer.unwrap().unwrap().status(), 200);
    service.ends_well_on("TERM").await;
}
