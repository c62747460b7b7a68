//! Notifications that are not stored: answered by the mirror at once, passed on from memory, dropped and counted at limits.

use std::net::SocketAddr;

use serde_json::json;
use tokio::task::JoinSet;

use super::verdicts::{BEFORE_CREATE, before, in_front_of, target};
use crate::support::postgres::TestDatabase;
use crate::support::process::{Place, Process};
use crate::support::raw_backend::{Backend, Conduct, Sender, allowed, answer};
use crate::support::{API_TOKEN, APP, App, OK, eventually};

const MESSAGE: &str = "Group.CallbackAfterSendMsg";

#[tokio::test]
async fn known_notifications_are_answered_with_ok_at_once_and_passed_on_as_they_came() {
    let refusing = Conduct::Answer(answer("403 No", "", b"no"));
    let backend = Backend::start(refusing);
    let service = in_front_of(&backend, |_| {}).await;
    let mut sender = Sender::connect(service.running.callback_addr).await;
    let commands = [
        MESSAGE,
        "Group.CallbackSendMsgException",
        "Group.CallbackAfterGroupFull",
        "Group.CallbackAfterReadReceipt",
        "Group.CallbackAfterRecallMsg",
        "Group.CallbackAfterGroupMsgExtension",
        "Group.CallbackOnMemberStateChange",
        "Group.CallbackOnDailyGroupQuotaAlarm",
        "C2C.CallbackAfterSendMsg",
        "C2C.CallbackAfterMsgReport",
        "C2C.CallbackAfterMsgWithDraw",
        "State.StateChange",
        "Profile.CallbackPortraitSet",
        "Sns.CallbackFriendAdd",
    ];
    let mut sent = Vec::new();
    for command in commands {
        let (target, body) = (target(command), json!({"CallbackCommand": command, "x": 1}).to_string());
        let got = sender.post(&target, "Content-Type: a/b\r\n", body.as_bytes()).await;
        assert_eq!((got.status, got.text()), (200, OK), "{command}");
        sent.push((target.replacen('/', "/im/callback", 1), body.into_bytes()));
    }
    assert!(eventually(async || backend.seen_count() == sent.len()).await);
    let mut seen: Vec<_> = backend.seen().into_iter().map(|seen| (seen.line, seen.body)).collect();
    let mut sent: Vec<_> =
        sent.into_iter().map(|(target, body)| (format!("POST {target} HTTP/1.1"), body)).collect();
    seen.sort();
    sent.sort();
    assert_eq!(seen, sent);
    service.stop().await;
}

#[tokio::test]
async fn a_backend_that_is_slow_with_notifications_neither_delays_them_nor_takes_the_verdicts_room() {
    let backend = Backend::start(Conduct::Silent);
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let mut command = place.command_on(&database.url, &[]);
    command.env("RELAY_URL", backend.url("/"));
    let service = Process::start(command).ready().await;
    let address: SocketAddr = service.callback_address().parse().unwrap();
    let send = move || async move {
        let got = Sender::connect(address).await.post(&target(MESSAGE), "", &before(MESSAGE)).await;
        (got.status, got.text().to_owned())
    };
    let mut senders = JoinSet::new();
    for _ in 0..300 {
        senders.spawn(send());
    }
    assert!(senders.join_all().await.iter().all(|got| *got == (200, OK.to_owned())));
    let shows = async |name: &str, class: &str, value: &str| {
        let text = service.get_as(API_TOKEN, "/metrics").await.text().await.unwrap();
        text.contains(&format!("group_mirror_relay_{name}{{app=\"{APP}\",{class}}} {value}\n"))
    };
    // Their calls time out, which opens their breaker; that of verdicts stays as it was.
    assert!(eventually(async || shows("breaker_open", "class=\"notice\"", "1").await).await);
    assert_eq!(send().await, (200, OK.to_owned()));
    assert!(!shows("dropped_total", "cause=\"breaker_open\"", "0").await);
    backend.behaves(allowed());
    let mut sender = Sender::connect(address).await;
    for _ in 0..20 {
        let got = sender.post(&target(BEFORE_CREATE), "", &before(BEFORE_CREATE)).await;
        assert!(got.text().contains("asked"), "{}", got.text());
    }
    let closed = eventually(async || {
        assert_eq!(send().await, (200, OK.to_owned()));
        shows("breaker_open", "class=\"notice\"", "0").await
    });
    assert!(closed.await, "one of them is a trial");
}

#[tokio::test]
async fn a_stop_waits_until_notifications_are_passed_on() {
    let backend = Backend::start(allowed());
    let service = in_front_of(&backend, |_| {}).await;
    let mut sender = Sender::connect(service.running.callback_addr).await;
    for _ in 0..100 {
        assert_eq!(sender.post(&target(MESSAGE), "", &before(MESSAGE)).await.status, 200);
    }
    drop(sender);
    service.stop().await;
    assert_eq!(backend.seen_count(), 100);
}

#[tokio::test]
async fn what_has_no_room_in_memory_is_dropped_and_answered_all_the_same() {
    let backend = Backend::start(Conduct::Silent);
    let service = in_front_of(&backend, |_| {}).await;
    let mut sender = Sender::connect(service.running.callback_addr).await;
    let body = vec![b' '; 1024 * 1024];
    for _ in 0..40 {
        let got = sender.post(&target(MESSAGE), "", &body).await;
        assert_eq!((got.status, got.text()), (200, OK));
    }
    // It waits for what is under way.
    service.stop().await;
    assert!(backend.seen_count() < 40, "{} were passed on", backend.seen_count());
}

#[tokio::test]
async fn membership_of_rooms_that_is_not_mirrored_is_passed_on() {
    let backend = Backend::start(allowed());
    let url = backend.url("/");
    let app = App::start_with(|settings| settings.relay_url = Some(url)).await;
    let join = json!({"CallbackCommand": "Group.CallbackAfterNewMemberJoin", "GroupId": "room", "Type": "AVChatRoom",
        "JoinType": "Apply", "NewMemberList": [{"Member_Account": "ana"}], "EventTime": 1_767_225_600_345_i64});
    app.service.taken(&join).await;
    assert!(eventually(async || backend.seen_count() == 1).await);
    assert_eq!(backend.seen()[0].body, join.to_string().into_bytes());
    app.stop().await;
}
