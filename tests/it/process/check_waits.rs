//! `check --wait`, the embedded server, Tencent and the relay's target, as the command sees them.

use std::io::Read as _;
use std::process::Command;

use serde_json::json;
use tokio::net::TcpListener;

use crate::process::check::Checked;
use crate::support::postgres::TestDatabase;
use crate::support::process::{Ended, Place, Process, run};
use crate::support::tls::{Authority, CertificateFiles};
use crate::support::{APP, TOKEN, eventually, sample, signed_query};
use crate::tencent::fake::{fake, group};
use crate::tencent::scripted::KEY;

fn beside(place: &Place, url: &str, service: &Process, args: &[&str]) -> Command {
    let mut command = place.command_on(url, args);
    command.env("CALLBACK_LISTEN", service.callback_address()).env("API_LISTEN", service.api_address());
    command
}

/// What `check --wait` printed of the wait, where `act` is done once it waits.
async fn waited(command: Command, act: impl AsyncFnOnce()) -> (Option<i32>, String) {
    let mut waiting = Process::start(command);
    waiting.says("waiting up to").await;
    act().await;
    let Ended { code, stdout, .. } = waiting.ended().await;
    let line =
        stdout.lines().find(|line| line[9..].starts_with("wait: ")).unwrap_or_else(|| panic!("{stdout}"));
    (code, line.to_owned())
}

#[tokio::test]
async fn a_callback_that_comes_is_named_and_one_that_is_refused_has_its_cause_and_remedy() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let service = Process::start(place.command_on(&database.url, &[])).ready().await;
    let body = sample("Group.CallbackAfterCreateGroup").to_string();
    let send = async |query: String, body: String| {
        service.post(&query, body).await;
    };
    let command = || beside(&place, &database.url, &service, &["check", "--wait", "60"]);
    let (code, line) = waited(command(), async || send(signed_query(), body.clone()).await).await;
    assert_eq!(code, Some(0), "{line}");
    assert!(line.starts_with("ok") && line.contains("Group.CallbackAfterCreateGroup came at"), "{line}");
    assert!(line.contains("(applied)") && line.contains("its EventTime"), "{line}");
    // What was there before the wait does not count; a wrong token is named.
    let query = signed_query();
    let sign = query.split("Sign=").nth(1).unwrap().split('&').next().unwrap();
    let wrong = query.replace(sign, &sign.chars().rev().collect::<String>());
    let (code, line) = waited(command(), async || send(wrong, body.clone()).await).await;
    assert_eq!(code, Some(1), "{line}");
    assert!(line.starts_with("wrong") && line.contains("refused") && line.contains("; remedy: "), "{line}");
    let checked = Checked::of(beside(&place, &database.url, &service, &["check"])).await;
    checked.says("warning", "refusals wrong", "1 since the start of `serve`: signature wrong");
    let other = signed_query().replace(APP, "1400000002");
    let (_, line) = waited(command(), async || send(other, body.clone()).await).await;
    assert!(line.contains("SDK_APP_ID") && !line.contains(TOKEN), "{line}");
    let (code, line) = waited(command(), async || send(signed_query(), "{}".to_owned()).await).await;
    assert!(code == Some(0) && line.starts_with("warning") && line.contains("parked"), "{line}");
    service.ends_well_on("TERM").await;
}

#[tokio::test]
async fn listeners_with_tls_are_asked_over_tls_and_a_token_goes_to_the_certificate_of_the_settings_alone() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let authority = Authority::new();
    let [files, others] = ["own.example.org", "other.example.org"]
        .map(|name| CertificateFiles::holding(&authority.issue(name)));
    let with_tls = |mut command: Command, files: &CertificateFiles| {
        command.envs(files.variables());
        command.env("API_TLS_CERT", files.path("cert.pem")).env("API_TLS_KEY", files.path("key.pem"));
        command
    };
    let mut service = Process::start(with_tls(place.command_on(&database.url, &[]), &files));
    service.says("read API").await;
    let check = || beside(&place, &database.url, &service, &["check"]);
    let in_use = async || {
        let checked = Checked::of(with_tls(check(), &files)).await;
        checked.lines("service").iter().any(|line| line.contains("and commits callbacks"))
    };
    assert!(eventually(in_use).await);
    let checked = Checked::of(with_tls(check(), &files)).await;
    checked.ends_with(0);
    for listener in ["callback_listener", "api_listener"] {
        checked.says("ok", listener, "the running `serve` answers on");
    }
    checked.says("ok", "refusals", "no callback was refused");
    // Another certificate in the settings, and none: neither gets a token.
    let checked = Checked::of(with_tls(check(), &others)).await;
    checked.says("warning", "service", "its certificate is not the one in the file of the settings");
    checked.says("warning", "api_listener", "the TLS handshake fails");
    let checked = Checked::of(check()).await;
    checked.says("warning", "service", "cannot be asked: it answers /readyz with status 400");
    assert_eq!(checked.lines("refusals"), Vec::<&str>::new());
    service.ends_well_on("TERM").await;
}

#[tokio::test]
async fn a_wait_in_vain_ends_at_its_limit_and_says_what_to_look_at() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let command = place.command_on(&database.url, &["check", "--wait", "1"]);
    let (code, line) = waited(command, async || {}).await;
    assert!(code == Some(1) && line.starts_with("wrong    wait: no callback in 1 s; remedy: "), "{line}");
    let dead = "postgres://mirror@127.0.0.1:1/mirror";
    let ended = run(place.command_on(dead, &["check", "--wait"])).await;
    assert!(
        ended.stdout.contains("wait: neither the ledger nor a running `serve` can be looked at"),
        "{ended:?}"
    );
}

#[tokio::test]
async fn the_embedded_server_of_a_running_service_is_used_and_a_stopped_one_is_started_for_the_check() {
    let place = Place::new();
    let service = place.serve().await;
    service.takes_a_group().await;
    let mut command = place.command(&["check"]);
    command.env("CALLBACK_LISTEN", service.callback_address()).env("API_LISTEN", service.api_address());
    let checked = Checked::of(command).await;
    checked.ends_with(0);
    checked.says("ok", "schema", "");
    service.serves_the_group().await;
    service.ends_well_on("TERM").await;
    place.assert_no_server();
    let checked = Checked::of(place.command(&["check"])).await;
    checked.ends_with(0);
    checked.says("ok", "schema", "");
    checked.says("ok", &format!("callbacks {APP} Group.CallbackAfterCreateGroup"), "last seen at");
    place.assert_no_server();
}

#[tokio::test]
async fn tencent_is_asked_with_the_credentials_of_the_settings_and_its_count_is_compared() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let fake = fake(&json!({}), None, 1).await;
    group(&fake, "Public", "first", &[]).await;
    let command = |key: &str| {
        let mut command = place.command_on(&database.url, &["check"]);
        command.env("TENCENT_API_URL", format!("http://{}", fake.addr)).env("TENCENT_SECRET_KEY", key);
        command
    };
    let checked = Checked::of(command(KEY)).await;
    checked.ends_with(0);
    checked.says("ok", &format!("tencent {APP}"), "accepts the UserSig of \"administrator\"");
    checked.says("ok", &format!("tencent_clock {APP}"), "");
    checked.says("warning", &format!("groups {APP}"), "Tencent has 1 groups, the mirror 0 active");
    assert!(!checked.ended.stdout.contains(KEY));
    let checked = Checked::of(command("hush")).await;
    checked.ends_with(1);
    checked.says("wrong", &format!("tencent {APP}"), "70009");
    let checked = Checked::of(place.command_on(&database.url, &["check"])).await;
    checked.says("ok", &format!("tencent {APP}"), "TENCENT_SECRET_KEY is not set");
}

#[tokio::test]
async fn the_backend_of_the_relay_is_connected_to_and_gets_no_byte() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let backend = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = backend.local_addr().unwrap();
    let received = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        backend.accept().unwrap().0.read_to_end(&mut bytes).unwrap();
        bytes
    });
    let command = |url: String| {
        let mut command = place.command_on(&database.url, &["check"]);
        command.env("RELAY_URL", url);
        command
    };
    let checked = Checked::of(command(format!("http://{address}/im/callback"))).await;
    checked.ends_with(0);
    checked.says("ok", &format!("relay {APP}"), "nothing was sent");
    assert_eq!(received.join().unwrap(), b"");
    let checked = Checked::of(command(format!("http://{address}/im/callback"))).await;
    checked.ends_with(1);
    checked.says("wrong", &format!("relay {APP}"), "Connection refused");
    // Plain HTTP behind an https address: the handshake fails.
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = plain.local_addr().unwrap().port();
    let closing = tokio::spawn(async move { drop(plain.accept().await.unwrap()) });
    let checked = Checked::of(command(format!("https://127.0.0.1:{port}/"))).await;
    checked.says("wrong", &format!("relay {APP}"), "remedy: start the backend, or correct RELAY_URL");
    closing.await.unwrap();
    let mut command = command("http://localhost:18080/callback".to_owned());
    command.env("CALLBACK_LISTEN", "127.0.0.1:18080");
    Checked::of(command).await.says("wrong", &format!("relay {APP}"), "is CALLBACK_LISTEN");
}

#[tokio::test]
async fn each_of_several_apps_is_looked_at_or_one_of_them_alone() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let (first, second) = (fake(&json!({}), None, 1).await, "1400000002");
    let command = |args: &[&str]| {
        let mut command = place.command_on(&database.url, args);
        command.env("SDK_APP_ID", format!("{APP},{second}"));
        command.env("CALLBACK_TOKEN", format!("{APP}:{TOKEN},{second}:hush"));
        command.env("TENCENT_API_URL", format!("http://{}", first.addr));
        command.env("TENCENT_SECRET_KEY", format!("{APP}:{KEY},{second}:{KEY}"));
        command
    };
    let checked = Checked::of(command(&["check"])).await;
    checked.ends_with(1);
    checked.says("ok", &format!("tencent {APP}"), "accepts the UserSig");
    checked.says("wrong", &format!("tencent {second}"), "60006");
    assert_eq!(checked.lines("callbacks").len(), 22);
    let checked = Checked::of(command(&["check", "--app", second])).await;
    checked.ends_with(1);
    assert_eq!((checked.lines("callbacks").len(), checked.lines("tencent").len()), (11, 1));
    let checked = Checked::of(command(&["check", "--app", APP])).await;
    checked.ends_with(0);
}
