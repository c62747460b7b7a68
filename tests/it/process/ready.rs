//! `ready`, the health check of a container: one line and an exit code, whatever the listener is like.

use std::process::Command;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::support::fake_postgres;
use crate::support::postgres::TestDatabase;
use crate::support::process::{Place, Process, refused, run};
use crate::support::tls::{Authority, CertificateFiles};

/// `ready` for an internal listener, with no other setting.
fn ready(place: &Place, address: &str) -> Command {
    let mut command = place.command(&["ready"]);
    command.env("API_LISTEN", address);
    command
}

/// Asserts the exit code and one line, which begins so.
async fn says(command: Command, code: i32, wanted: &str) {
    let ended = run(command).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(code), ""), "{ended:?}");
    assert!(ended.stdout.starts_with(wanted) && ended.stdout.lines().count() == 1, "{wanted}: {ended:?}");
}

#[tokio::test]
async fn a_service_is_ready_while_it_takes_callbacks_whether_or_not_the_database_answers() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let service = Process::start(place.command_on(&database.url, &[])).ready().await;
    let address = service.api_address();
    says(ready(&place, &address), 0, "ready; database: ok; spool: ok, 0 callbacks wait\n").await;
    // A listener on every address is asked on loopback.
    let port = address.rsplit(':').next().unwrap();
    says(ready(&place, &format!("0.0.0.0:{port}")), 0, "ready").await;
    service.ends_well_on("TERM").await;
    says(ready(&place, &address), 1, &format!("no answer at {address}: no program listens\n")).await;
    let away = Place::new();
    let url = format!("postgres://x:y@{}/mirror", fake_postgres::silent());
    let mut service = Process::start(away.command_on(&url, &[]));
    service.says("read API").await;
    service.until(|process| process.log().contains("until that is mended"), "trouble").await;
    says(ready(&away, &service.api_address()), 0, "ready; database: ").await;
    service.ends_well_on("TERM").await;
}

#[tokio::test]
async fn tls_and_a_path_prefix_are_those_of_the_settings() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let pair = Authority::new().issue("mirror.example.org");
    let files = CertificateFiles::holding(&pair);
    let variables = [("API_TLS_CERT", files.path("cert.pem")), ("API_TLS_KEY", files.path("key.pem"))];
    let mut command = place.command_on(&database.url, &[]);
    command.envs(variables.clone()).env("API_PREFIX", "/mirror");
    let mut service = Process::start(command);
    service.says("the schema fits").await;
    let mut asked = ready(&place, &service.api_address());
    asked.envs(variables.clone()).env("API_PREFIX", "/mirror");
    says(asked, 0, "ready; database: ok").await;
    says(ready(&place, &service.api_address()), 1, "").await;
    // Another program that answers at the address is no service of ours, whatever it says.
    let other = CertificateFiles::holding(&Authority::new().issue("mirror.example.org"));
    let mut asked = ready(&place, &service.api_address());
    asked.env("API_TLS_CERT", other.path("cert.pem")).env("API_TLS_KEY", other.path("key.pem"));
    says(asked, 1, "no answer at ").await;
    service.ends_well_on("TERM").await;
    let mut half = ready(&place, "127.0.0.1:1");
    half.env("API_TLS_CERT", files.path("cert.pem"));
    assert!(refused(half).await.starts_with("API_TLS_CERT is set and API_TLS_KEY is not"));
    assert!(refused(ready(&place, "nonsense")).await.starts_with("API_LISTEN is \"nonsense\""));
}

#[tokio::test]
async fn what_is_no_group_mirror_or_not_ready_is_not_ready() {
    let place = Place::new();
    for (status, body, wanted) in [
        ("200 OK", "fine", "answers /readyz with status 200, as no group-mirror does\n"),
        ("404 Not Found", "", "answers /readyz with status 404, as no group-mirror does\n"),
        ("200 OK", r#"{"status":"not ready"}"#, "not ready\n"),
        ("503 Service Unavailable", r#"{"status":"ready"}"#, "ready\n"),
        (
            "503 Service Unavailable",
            r#"{"status":"not ready","database":"away","spool":{"state":"the spool is being opened","depth":null,"bytes":null,"oldest_age":null,"gaps":0}}"#,
            "not ready; database: away; spool: the spool is being opened\n",
        ),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let answering = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 1024];
            let read = stream.read(&mut head).await.unwrap();
            assert!(head[..read].starts_with(b"GET /readyz HTTP/1.1\r\n"));
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        let ended = run(ready(&place, &address)).await;
        answering.await.unwrap();
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(1), ""), "{ended:?}");
        assert!(ended.stdout.ends_with(wanted), "{wanted}: {ended:?}");
    }
}
