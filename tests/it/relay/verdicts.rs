//! Commands that wait: the backend sees what Tencent sent, and Tencent gets what the backend answered.

use group_mirror::config::Settings;
use serde_json::{Value, json};

use crate::support::raw_backend::{Backend, Conduct, Sender, allowed, answer};
use crate::support::{App, OK, Service, eventually, settings, signed_query};

/// A mirror without any database, in front of a backend.
pub(super) async fn in_front_of(backend: &Backend, change: impl FnOnce(&mut Settings)) -> Service {
    let mut settings = settings("postgres://nobody@127.0.0.1:1/none?sslmode=disable");
    settings.relay_url = Some(backend.url("/im/callback"));
    change(&mut settings);
    Service::start_at_once(&settings).await.unwrap()
}

/// The target of a signed request for a command.
pub(super) fn target(command: &str) -> String {
    format!("/?{}&CallbackCommand={command}&contenttype=json", signed_query())
}

pub(super) fn before(command: &str) -> Vec<u8> {
    json!({"CallbackCommand": command, "Type": "Public", "Name": "n"}).to_string().into_bytes()
}

pub(super) const BEFORE_CREATE: &str = "Group.CallbackBeforeCreateGroup";

fn data(name: &str) -> Vec<u8> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/data/relay").join(name);
    std::fs::read(path).unwrap()
}

#[tokio::test]
async fn the_backend_sees_the_request_as_it_came_and_nothing_of_it_is_stored() {
    let backend = Backend::start(allowed());
    let service = in_front_of(&backend, |_| {}).await;
    let mut sender = Sender::connect(service.running.callback_addr).await;
    let body = b"{ \"CallbackCommand\":\"Group.CallbackBeforeCreateGroup\",\"Name\":\"\\ud800 \\u0000\",\"Name\":1e400}\r\n";
    let target = format!(
        "/callback/?{}&odd=%e4+%2B&&=&CallbackCommand=Group.CallbackBeforeCreateGroup",
        signed_query()
    );
    let got = sender
        .post(&target, "X-Forwarded-For: 198.51.100.7\r\nUser-Agent: t/1\r\nTE: trailers\r\n", body)
        .await;
    assert_eq!((got.status, got.text()), (200, r#"{"ActionStatus":"OK","ErrorCode":0,"ErrorInfo":"asked"}"#));
    let seen = backend.seen();
    let [seen] = &seen[..] else { panic!("{seen:?}") };
    let query = target.split_once('?').unwrap().1;
    assert_eq!(seen.line, format!("POST /im/callback?{query} HTTP/1.1"));
    assert_eq!(seen.body, body);
    assert_eq!(seen.header("content-type"), None, "absent stays absent");
    assert_eq!(seen.header("host"), Some(&*backend.address.to_string()));
    assert_eq!(seen.header("x-forwarded-for"), Some("198.51.100.7, 127.0.0.1"));
    assert_eq!(seen.header("user-agent"), Some("t/1"));
    assert_eq!(seen.header("te"), None);
    assert_eq!(seen.header("content-length"), Some(&*body.len().to_string()));
    assert_eq!(seen.header("x-group-mirror-delivery"), None);
    assert!(seen.header("x-group-mirror-relay").is_some_and(|id| id.len() == 16));
    sender.post(&self::target(BEFORE_CREATE), "Content-Type: text/odd; q=\"é\"\r\n", b"{}").await;
    assert_eq!(backend.seen()[1].header("content-type"), Some("text/odd; q=\"é\""));
    assert_eq!(service.readiness().await.1["spool"]["depth"], 0);
    service.stop().await;
}

#[tokio::test]
async fn every_answer_goes_back_as_it_is() {
    let backend = Backend::start(allowed());
    let service = in_front_of(&backend, |_| {}).await;
    let mut sender = Sender::connect(service.running.callback_addr).await;
    let json = "Content-Type: application/json; charset=utf-8\r\n";
    for name in
        ["allow", "invite-refuse-some", "message-drop", "message-replace", "refuse-with-text", "refuse"]
    {
        let body = data(&format!("callback-answer.{name}.json"));
        backend.behaves(Conduct::Answer(answer("200 OK", json, &body)));
        let got = sender.post(&target(BEFORE_CREATE), "", &before(BEFORE_CREATE)).await;
        assert_eq!((got.status, &got.body), (200, &body), "{name}");
        assert_eq!(got.header("content-type"), Some("application/json; charset=utf-8"));
    }
    for (status, headers, body) in [
        ("200 OK", "", &b"[1]"[..]),
        ("200 Fine", "Content-Encoding: gzip\r\n", b"\x1f\x8b\x08\x00odd"),
        ("201 Created", "", b"{}"),
        ("302 Found", "Location: http://127.0.0.1:1/\r\n", b""),
        ("403 Forbidden", "Content-Type: text/html\r\n", b"<html>\xff"),
        ("429 Too Many", "Retry-After: 7\r\n", b"slow down"),
        ("404 x", "Set-Cookie: a=b\r\nX-Own: 1\r\n", b"no"),
    ] {
        backend.behaves(Conduct::AnswerAndClose(answer(
            status,
            &format!("{headers}Connection: close\r\n"),
            body,
        )));
        let got = sender.post(&target(BEFORE_CREATE), "", &before(BEFORE_CREATE)).await;
        assert_eq!(got.status.to_string(), status[..3]);
        assert_eq!(got.body, body, "{status}");
        for name in ["Content-Type", "Content-Encoding", "Retry-After"] {
            let sent = headers.split("\r\n").find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            assert_eq!(got.header(name), sent, "{status}");
        }
        for name in ["Set-Cookie", "X-Own", "Location"] {
            assert_eq!(got.header(name), None, "{status}");
        }
    }
    let until_closed = b"HTTP/1.0 200 OK\r\n\r\n{\"ErrorCode\":5}".to_vec();
    backend.behaves(Conduct::AnswerAndClose(until_closed));
    let got = sender.post(&target(BEFORE_CREATE), "", &before(BEFORE_CREATE)).await;
    assert_eq!((got.status, got.text()), (200, r#"{"ErrorCode":5}"#));
    let continued =
        [b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\n\r\n", &answer("200 OK", "", b"{}")[..]]
            .concat();
    backend.behaves(Conduct::Answer(continued));
    let got = sender.post(&target(BEFORE_CREATE), "Expect: 100-continue\r\n", &before(BEFORE_CREATE)).await;
    assert_eq!((got.status, got.text()), (200, "{}"));
    service.stop().await;
}

#[tokio::test]
async fn connections_to_the_backend_are_kept() {
    let backend = Backend::start(allowed());
    let service = in_front_of(&backend, |_| {}).await;
    let mut sender = Sender::connect(service.running.callback_addr).await;
    for _ in 0..50 {
        assert_eq!(sender.post(&target(BEFORE_CREATE), "", &before(BEFORE_CREATE)).await.status, 200);
    }
    assert_eq!(backend.seen_count(), 50);
    assert!(backend.connections() <= 2, "{} connections", backend.connections());
    service.stop().await;
}

#[tokio::test]
async fn what_waits_is_everything_that_is_neither_stored_nor_a_known_notification() {
    let backend = Backend::start(allowed());
    let service = in_front_of(&backend, |_| {}).await;
    let mut sender = Sender::connect(service.running.callback_addr).await;
    let asked = br#"{"ActionStatus":"OK","ErrorCode":0,"ErrorInfo":"asked"}"#;
    for command in [
        "Group.CallbackBeforeCreateGroup",
        "Group.CallbackBeforeApplyJoinGroup",
        "Group.CallbackBeforeInviteJoinGroup",
        "Group.CallbackBeforeSendMsg",
        "Group.CallbackBeforeCreateTopic",
        "Group.CallbackBeforeSomethingNew",
        "C2C.CallbackBeforeSendMsg",
        "Sns.CallbackPrevFriendAdd",
        "Sns.CallbackPrevFriendResponse",
        "Bot.OnGroupMessage",
        "Odd",
    ] {
        // By the query, whatever the body is; by the body, where the query has none.
        for (target, body) in [
            (target(command), before(command)),
            (target(command), b"{}".to_vec()),
            (target(command), b"\xff\xfe{".to_vec()),
            (target(command), b"[]".to_vec()),
            (target(command), json!({"CallbackCommand": 7}).to_string().into_bytes()),
            (target(command), json!({"CallbackCommand": ""}).to_string().into_bytes()),
            (target(command), before("Group.CallbackAfterSendMsg")),
            (target(command), before("Group.CallbackAfterCreateGroup")),
            (format!("/?{}", signed_query()), before(command)),
            (target("Group.CallbackAfterSendMsg"), before(command)),
        ] {
            let got = sender.post(&target, "", &body).await;
            let shown = String::from_utf8_lossy(&body);
            assert_eq!((got.status, &got.body[..]), (200, &asked[..]), "{command}: {shown}");
            assert_eq!(backend.seen().last().unwrap().body, body);
        }
    }
    service.stop().await;
}

#[tokio::test]
async fn an_empty_body_and_a_request_that_is_refused_do_not_reach_the_backend() {
    let backend = Backend::start(allowed());
    let service = in_front_of(&backend, |_| {}).await;
    let post = async |target: &str, headers: &str, body: &[u8]| {
        Sender::connect(service.running.callback_addr).await.post(target, headers, body).await
    };
    let check = post(&target(BEFORE_CREATE), "", b"").await;
    assert_eq!((check.status, check.text()), (200, OK));
    let unsigned = post("/?SdkAppid=1400000001&CallbackCommand=Sns.CallbackPrevFriendAdd", "", b"{}").await;
    assert_eq!(unsigned.status, 403);
    let browser = post(&target(BEFORE_CREATE), "Origin: https://a.example\r\n", b"{}").await;
    assert_eq!(browser.status, 403);
    let elsewhere = post(&target(BEFORE_CREATE).replacen("/?", "/x?", 1), "", b"{}").await;
    assert_eq!(elsewhere.status, 404);
    assert_eq!(backend.seen_count(), 0);
    service.stop().await;
}

#[tokio::test]
async fn an_unknown_group_command_is_stored_and_answered_by_the_backend() {
    let backend = Backend::start(allowed());
    let url = backend.url("/");
    let app = App::start_with(|settings| settings.relay_url = Some(url)).await;
    let body = json!({"CallbackCommand": "Group.CallbackAfterSomethingNew", "GroupId": "g"}).to_string();
    let got = app.service.post("Group.CallbackAfterSomethingNew", body.clone()).await;
    assert_eq!(got.status(), 200);
    assert_eq!(got.json::<Value>().await.unwrap()["ErrorInfo"], "asked");
    assert_eq!(backend.seen()[0].body, body.as_bytes());
    let parked = app.service.read("/v1/parked").await;
    assert_eq!(parked["items"][0]["command"], "Group.CallbackAfterSomethingNew", "{parked}");
    backend.behaves(Conduct::Reset);
    let got = app.service.post("Group.CallbackAfterSomethingElse", body.replace("New", "Else")).await;
    assert_eq!(got.status(), 503, "the fallback");
    let stored =
        eventually(async || app.service.read("/v1/parked").await["items"].as_array().unwrap().len() == 2)
            .await;
    assert!(stored);
    app.stop().await;
}

#[tokio::test]
async fn what_is_stored_is_answered_by_the_mirror_and_without_a_backend_everything_is() {
    let backend = Backend::start(Conduct::Silent);
    let url = backend.url("/");
    let app = App::start_with(|settings| settings.relay_url = Some(url)).await;
    let create = json!({"CallbackCommand": "Group.CallbackAfterCreateGroup", "GroupId": "g", "Type": "Public",
        "Name": "n", "Owner_Account": "ana", "MemberList": [], "EventTime": 1_767_225_600_345_i64});
    app.service.taken(&create).await;
    let parked = app.service.post("Group.CallbackAfterCreateGroup", "{\"GroupId\":").await;
    assert!(parked.text().await.unwrap().contains("parked: "));
    app.stop().await;
    let app = App::start().await;
    for command in [BEFORE_CREATE, "Sns.CallbackPrevFriendAdd", "Group.CallbackAfterSendMsg"] {
        let got = app.service.post(command, before(command)).await;
        assert_eq!(got.text().await.unwrap(), OK);
    }
    app.stop().await;
}
