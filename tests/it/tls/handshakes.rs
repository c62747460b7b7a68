//! Handshakes of a listener with TLS: which are accepted, and that no other one is refused in silence.

use std::process::{Command, Stdio};

use group_mirror::server::{NamedFile, TlsFiles, TlsListener};
use rustls::HandshakeKind;
use rustls::version::{TLS12, TLS13};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::load::{create_request, read_answer};
use crate::support::postgres::TestDatabase;
use crate::support::process::{Place, Process};
use crate::support::tls::{Authority, CertificateFiles, Offer, connect, connector, get, rest};
use crate::support::{API_TOKEN, App, OK, PATIENCE, eventually, signed_query};

/// A service whose public listener speaks TLS, with a certificate of this authority.
async fn start(authority: &Authority) -> (App, CertificateFiles) {
    let files = CertificateFiles::holding(&authority.issue("callbacks.example.org"));
    let app = App::start_with(|settings| files.set(settings)).await;
    (app, files)
}

async fn refusals(app: &App) -> Value {
    app.service.read("/v1/stats").await["refusals"]["by_cause"].clone()
}

async fn until_refused(app: &App, cause: &str, count: u64) {
    let came = eventually(async || refusals(app).await[cause] == count).await;
    assert!(came, "{cause}: {}", refusals(app).await);
}

#[tokio::test]
async fn a_signed_callback_over_tls_is_mirrored_whatever_the_version() {
    let authority = Authority::new();
    let (app, _files) = start(&authority).await;
    for (versions, group) in [(&[&TLS12], "older"), (&[&TLS13], "newer")] {
        let connector = connector(&authority, &Offer { versions, ..Offer::default() });
        let mut stream = connect(app.service.running.callback_addr, &connector).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        // A connection is kept.
        for number in 0..3 {
            stream.write_all(&create_request(&format!("{group}-{number}"))).await.unwrap();
            let answer = read_answer(&mut stream).await.unwrap();
            assert_eq!((answer.status(), answer.body.as_str()), (200, OK));
        }
        let read = app.service.read(&format!("/v1/groups/{group}-2")).await;
        assert_eq!(read["group_id"], format!("{group}-2"));
    }
    app.stop().await;
}

#[tokio::test]
async fn an_answer_that_comes_early_reaches_a_sender_inside_its_body_over_tls_as_well() {
    let authority = Authority::new();
    let (app, _files) = start(&authority).await;
    let connector = connector(&authority, &Offer::default());
    let mut stream = connect(app.service.running.callback_addr, &connector).await.unwrap();
    let size = 4 * 1024 * 1024;
    let head = format!("POST /?{} HTTP/1.1\r\nHost: m\r\nContent-Length: {size}\r\n\r\n", signed_query());
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![b'x'; size]).await.unwrap();
    assert_eq!(read_answer(&mut stream).await.unwrap().status(), 413);
    app.stop().await;
}

#[tokio::test]
async fn http_2_alone_is_refused_and_a_client_without_alpn_is_not() {
    let authority = Authority::new();
    let (app, _files) = start(&authority).await;
    let address = app.service.running.callback_addr;
    let offer = |protocols| connector(&authority, &Offer { protocols, ..Offer::default() });
    assert!(connect(address, &offer(&["h2"])).await.is_err());
    until_refused(&app, "tls_unshared", 1).await;
    for protocols in [&["h2", "http/1.1"][..], &[]] {
        let mut stream = connect(address, &offer(protocols)).await.unwrap();
        stream.write_all(&create_request("g")).await.unwrap();
        assert_eq!(read_answer(&mut stream).await.unwrap().status(), 200);
    }
    app.stop().await;
}

#[tokio::test]
async fn plain_http_is_answered_in_plain_http_and_counted() {
    let authority = Authority::new();
    let (app, _files) = start(&authority).await;
    let address = app.service.running.callback_addr;
    // With a body that is still being sent while the answer comes.
    let mut stream = TcpStream::connect(address).await.unwrap();
    let size = 1024 * 1024;
    let head = format!("POST /callback HTTP/1.1\r\nHost: m\r\nContent-Length: {size}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![b'x'; size]).await.unwrap();
    let answer = read_answer(&mut stream).await.unwrap();
    assert_eq!(answer.status(), 400, "{answer:?}");
    assert!(answer.body.contains("https://"), "{answer:?}");
    drop(stream);
    until_refused(&app, "plain_http", 1).await;
    app.stop().await;
}

#[tokio::test]
async fn a_caller_that_does_not_trust_the_certificate_is_counted_as_such() {
    let authority = Authority::new();
    let (app, _files) = start(&authority).await;
    let strangers = connector(&Authority::new(), &Offer::default());
    assert!(connect(app.service.running.callback_addr, &strangers).await.is_err());
    until_refused(&app, "tls_refused", 1).await;
    app.stop().await;
}

#[tokio::test]
async fn bytes_that_are_no_handshake_and_one_that_breaks_off_are_counted_and_a_check_of_the_port_is_not() {
    let authority = Authority::new();
    let (app, _files) = start(&authority).await;
    let address = app.service.running.callback_addr;
    drop(TcpStream::connect(address).await.unwrap());
    for bytes in [&b"\x00\x01\x02\x03\x04\x05\x06\x07"[..], b"\x16\x03\x01\x02\x00\x01"] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        rest(&mut stream).await;
    }
    until_refused(&app, "handshake", 2).await;
    let counted: u64 =
        refusals(&app).await.as_object().unwrap().values().map(|of| of.as_u64().unwrap()).sum();
    assert_eq!(counted, 2, "{}", refusals(&app).await);
    app.stop().await;
}

#[tokio::test]
async fn whatever_comes_in_place_of_a_handshake_is_counted_once() {
    let authority = Authority::new();
    let (app, _files) = start(&authority).await;
    let mut random = fastrand::Rng::with_seed(17);
    for _ in 0..200 {
        let mut bytes = vec![0; random.usize(1..200)];
        random.fill(&mut bytes);
        // Half of them begin as a handshake does.
        if random.bool() {
            let begin = &[0x16, 0x03, 0x01, 0x00, 0x40, 0x01][..bytes.len().min(6)];
            bytes[..begin.len()].copy_from_slice(begin);
        }
        let mut stream = TcpStream::connect(app.service.running.callback_addr).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        let _ = stream.shutdown().await;
        rest(&mut stream).await;
    }
    let sum = async || {
        let counts = refusals(&app).await;
        counts.as_object().unwrap().values().map(|of| of.as_u64().unwrap()).sum::<u64>()
    };
    assert!(eventually(async || sum().await == 200).await, "{}", refusals(&app).await);
    let mut stream =
        connect(app.service.running.callback_addr, &connector(&authority, &Offer::default())).await.unwrap();
    stream.write_all(&create_request("after")).await.unwrap();
    assert_eq!(read_answer(&mut stream).await.unwrap().status(), 200);
    app.stop().await;
}

#[tokio::test]
async fn with_a_client_authority_only_callers_with_a_certificate_of_it_are_taken() {
    let (authority, callers) = (Authority::new(), Authority::new());
    let files = CertificateFiles::holding(&authority.issue("callbacks.example.org"));
    files.write("callers.pem", &callers.pem);
    let app = App::start_with(|settings| {
        files.set(settings);
        settings.callback_tls_client_ca = Some(files.path("callers.pem").display().to_string());
    })
    .await;
    let (right, wrong) = (callers.issue("proxy"), Authority::new().issue("proxy"));
    let ended = callers.issue_for("proxy", -20, -10);
    for versions in [&[&TLS12], &[&TLS13]] {
        for (pair, is_taken) in
            [(Some(&right), true), (None, false), (Some(&wrong), false), (Some(&ended), false)]
        {
            let connector = connector(&authority, &Offer { versions, pair, ..Offer::default() });
            // With TLS 1.3 the client has ended its part before the service has looked at its certificate.
            let exchange = async {
                let mut stream = connect(app.service.running.callback_addr, &connector).await?;
                stream.write_all(&create_request("g")).await?;
                read_answer(&mut stream).await
            };
            let answer = exchange.await;
            assert_eq!(answer.as_ref().is_ok_and(|answer| answer.status() == 200), is_taken, "{answer:?}");
        }
    }
    until_refused(&app, "client_certificate", 6).await;
    app.stop().await;
}

/// Whether the second of two connections resumes the session of the first one.
async fn resumes(address: std::net::SocketAddr, connector: &TlsConnector) -> bool {
    let mut kind = None;
    for group in ["first", "second"] {
        let mut stream = connect(address, connector).await.unwrap();
        // What a session is resumed with comes with the first answer.
        stream.write_all(&create_request(group)).await.unwrap();
        assert_eq!(read_answer(&mut stream).await.unwrap().status(), 200);
        kind = stream.get_ref().1.handshake_kind();
    }
    kind == Some(HandshakeKind::Resumed)
}

#[tokio::test]
async fn a_session_is_resumed_within_one_certificate_and_not_where_callers_present_one() {
    let (authority, callers) = (Authority::new(), Authority::new());
    let files = CertificateFiles::holding(&authority.issue("callbacks.example.org"));
    files.write("callers.pem", &callers.pem);
    let pair = callers.issue("proxy");
    for versions in [&[&TLS12], &[&TLS13]] {
        let app = App::start_with(|settings| files.set(settings)).await;
        let open = connector(&authority, &Offer { versions, ..Offer::default() });
        assert!(resumes(app.service.running.callback_addr, &open).await);
        app.stop().await;
        let app = App::start_with(|settings| {
            files.set(settings);
            settings.callback_tls_client_ca = Some(files.path("callers.pem").display().to_string());
        })
        .await;
        let presenting = connector(&authority, &Offer { versions, pair: Some(&pair), ..Offer::default() });
        assert!(!resumes(app.service.running.callback_addr, &presenting).await);
        app.stop().await;
    }
}

#[tokio::test]
async fn the_internal_listener_can_speak_tls_and_counts_what_fails() {
    let authority = Authority::new();
    let files = CertificateFiles::holding(&authority.issue("mirror.internal"));
    let database = TestDatabase::create().await;
    let mut settings = crate::support::settings(&database.url);
    settings.api_tls_cert = Some(files.path("cert.pem").display().to_string());
    settings.api_tls_key = Some(files.path("key.pem").display().to_string());
    let service = crate::support::Service::start(&settings).await.unwrap();
    // The public one stays plain.
    assert_eq!(service.post("", create_body("g")).await.text().await.unwrap(), OK);
    let connector = connector(&authority, &Offer::default());
    let read = async |path: &str, token: &str| {
        let mut stream = connect(service.running.api_addr, &connector).await.unwrap();
        get(&mut stream, path, token).await
    };
    assert!(read("/v1/groups", "wrong").await.starts_with("HTTP/1.1 401"));
    let came = eventually(async || read("/v1/groups/g", API_TOKEN).await.starts_with("HTTP/1.1 200")).await;
    assert!(came, "{}", read("/v1/groups/g", API_TOKEN).await);
    let mut plain = TcpStream::connect(service.running.api_addr).await.unwrap();
    plain.write_all(b"GET /v1/groups HTTP/1.1\r\nHost: m\r\n\r\n").await.unwrap();
    assert_eq!(read_answer(&mut plain).await.unwrap().status(), 400);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_handshakes_of_the_internal_listener_are_in_its_metrics_and_in_the_log() {
    let (place, database, authority) = (Place::new(), TestDatabase::create().await, Authority::new());
    let files = CertificateFiles::holding(&authority.issue("mirror.internal"));
    let mut command = place.command_on(&database.url, &[]);
    command.env("API_TLS_CERT", files.path("cert.pem")).env("API_TLS_KEY", files.path("key.pem"));
    let mut service = Process::start(command);
    service.says("read API (bearer token): https://").await;
    let address = service.api_address();
    for _ in 0..3 {
        let mut plain = TcpStream::connect(&address).await.unwrap();
        plain.write_all(b"GET /metrics HTTP/1.1\r\nHost: m\r\n\r\n").await.unwrap();
        assert_eq!(read_answer(&mut plain).await.unwrap().status(), 400);
    }
    service.says("1 TLS handshake of the listener api failed, the last one: plain HTTP was spoken to a port with TLS").await;
    let mut stream = connect(&address, &connector(&authority, &Offer::default())).await.unwrap();
    let metrics = get(&mut stream, "/metrics", API_TOKEN).await;
    for series in [
        "group_mirror_handshake_failures_total{listener=\"api\",cause=\"plain_http\"} 3",
        "group_mirror_handshake_failures_total{listener=\"api\",cause=\"tls_version\"} 0",
        "group_mirror_certificate_reloads_total{listener=\"api\",result=\"failed\"} 0",
        "group_mirror_refusals_total{cause=\"plain_http\"} 0",
    ] {
        assert!(metrics.contains(series), "{series}: {metrics}");
    }
    assert!(metrics.contains("group_mirror_certificate_expiry_seconds{listener=\"api\"} 31"), "{metrics}");
    assert_eq!(service.log().matches("of the listener api failed").count(), 1, "{}", service.log());
    service.ends_well_on("TERM").await;
}

fn create_body(group: &str) -> String {
    let request = String::from_utf8(create_request(group)).unwrap();
    request.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// What `openssl s_client` says; none where it is not installed.
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
async fn s_client(address: std::net::SocketAddr, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &address.to_string()]).args(arguments).stdin(Stdio::null());
    let run = tokio::task::spawn_blocking(move || command.output());
    match tokio::time::timeout(PATIENCE, run).await.unwrap().unwrap() {
        Ok(output) => {
            let bytes = [output.stdout, output.stderr].concat();
            Some(String::from_utf8_lossy(&bytes).into_owned())
        }
        Err(_) => {
            eprintln!("skipped: openssl is not installed");
            None
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn openssl_gets_tls_1_2_and_1_3_with_strong_suites_and_nothing_else() {
    let authority = Authority::new();
    let (app, _files) = start(&authority).await;
    let address = app.service.running.callback_addr;
    for (arguments, protocol) in [(&["-tls1_2"][..], "TLSv1.2"), (&["-tls1_3"], "TLSv1.3")] {
        let Some(text) = s_client(address, arguments).await else { return };
        assert!(text.contains(protocol) && !text.contains("Cipher is (NONE)"), "{arguments:?}: {text}");
        assert!(text.contains("Server certificate"), "{arguments:?}: {text}");
    }
    // What openssl does not offer by itself any more.
    let old = "DEFAULT@SECLEVEL=0";
    for arguments in [&["-tls1", "-cipher", old], &["-tls1_1", "-cipher", old]] {
        let text = s_client(address, arguments).await.unwrap();
        assert!(text.contains("Cipher is (NONE)"), "{arguments:?}: {text}");
    }
    until_refused(&app, "tls_version", 2).await;
    let weak =
        ["ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA384", "AES128-SHA:AES128-GCM-SHA256", "NULL:aNULL"];
    for suites in weak {
        let cipher = format!("{suites}:@SECLEVEL=0");
        let text = s_client(address, &["-tls1_2", "-cipher", &cipher]).await.unwrap();
        assert!(text.contains("Cipher is (NONE)"), "{suites}: {text}");
    }
    until_refused(&app, "tls_unshared", 3).await;
    // After all of this it serves, and ends a connection as TLS wants it.
    let mut stream = connect(address, &connector(&authority, &Offer::default())).await.unwrap();
    stream.write_all(&create_request("after")).await.unwrap();
    assert_eq!(read_answer(&mut stream).await.unwrap().status(), 200);
    stream.shutdown().await.unwrap();
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0, "closed by a close_notify, not cut");
    app.stop().await;
}

/// How a sender closes its side once its request is out.
#[derive(Clone, Copy, Debug)]
enum Close {
    WithNotify,
    WithoutNotify,
}

#[tokio::test]
async fn a_callback_is_answered_although_its_sender_has_closed_its_side() {
    let authority = Authority::new();
    let (app, _files) = start(&authority).await;
    let connector = connector(&authority, &Offer::default());
    for close in [Close::WithNotify, Close::WithoutNotify] {
        let mut stream = connect(app.service.running.callback_addr, &connector).await.unwrap();
        stream.write_all(&create_request(&format!("{close:?}"))).await.unwrap();
        match close {
            Close::WithNotify => stream.shutdown().await.unwrap(),
            Close::WithoutNotify => stream.get_mut().0.shutdown().await.unwrap(),
        }
        assert_eq!(read_answer(&mut stream).await.unwrap().status(), 200, "{close:?}");
        app.service.read(&format!("/v1/groups/{close:?}")).await;
    }
    app.stop().await;
}

/// Runs `openssl` in a directory; false where it is not installed.
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn openssl(dir: &std::path::Path, arguments: &str) -> bool {
    let Ok(output) = Command::new("openssl").current_dir(dir).args(arguments.split(' ')).output() else {
        eprintln!("skipped: openssl is not installed");
        return false;
    };
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    true
}

#[test]
fn certificates_and_keys_are_taken_in_every_form_that_openssl_writes() {
    let dir = tempfile::tempdir().unwrap();
    let file = |variable, name: &str| NamedFile { variable, path: dir.path().join(name) };
    for (kind, make) in [
        ("rsa", "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out rsa.pem"),
        ("p256", "ecparam -name prime256v1 -genkey -out p256.pem"),
        ("p384", "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out p384.pem"),
        ("ed25519", "genpkey -algorithm ED25519 -out ed25519.pem"),
    ] {
        let certificate = format!(
            "req -x509 -key {kind}.pem -out {kind}-cert.pem -days 30000 -subj /CN={kind} -addext subjectAltName=DNS:{kind}"
        );
        if !openssl(dir.path(), make) || !openssl(dir.path(), &certificate) {
            return;
        }
        let mut forms = vec![format!("{kind}.pem")];
        if kind != "ed25519" {
            openssl(dir.path(), &format!("pkey -in {kind}.pem -traditional -out {kind}-old.pem"));
            forms.push(format!("{kind}-old.pem"));
        }
        for form in forms {
            let files = TlsFiles {
                certificate: file("CERT", &format!("{kind}-cert.pem")),
                key: file("KEY", &form),
                client_ca: Some(file("CA", &format!("{kind}-cert.pem"))),
            };
            TlsListener::open(files).unwrap_or_else(|error| panic!("{form}: {error}"));
        }
    }
    openssl(dir.path(), "genrsa -aes128 -passout pass:secret -out locked.pem 2048");
    openssl(dir.path(), "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-521 -out p521.pem");
    openssl(dir.path(), "x509 -in rsa-cert.pem -outform DER -out rsa.der");
    for (certificate, key, reason) in [
        ("rsa-cert.pem", "locked.pem", "KEY: "),
        ("rsa-cert.pem", "locked.pem", "is encrypted with a passphrase"),
        ("rsa-cert.pem", "p521.pem", "holds a key that cannot be used"),
        ("rsa-cert.pem", "p256.pem", "is not the key of the first certificate"),
        ("rsa.der", "rsa.pem", "holds no certificate in PEM form"),
    ] {
        let files =
            TlsFiles { certificate: file("CERT", certificate), key: file("KEY", key), client_ca: None };
        let error = TlsListener::open(files).unwrap_err().to_string();
        assert!(error.contains(reason) && !error.contains('\n'), "{error}");
    }
}
