//! A backend that does not answer as it should: the fallback of the command, the circuit breaker, and its end.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use group_mirror::config::Settings;

use super::verdicts::{BEFORE_CREATE, before, in_front_of, target};
use crate::support::postgres::TestDatabase;
use crate::support::process::{Place, Process};
use crate::support::raw_backend::{Backend, Conduct, Got, Sender, allowed, answer};
use crate::support::{API_TOKEN, APP, OK, eventually};

const REFUSED: &str = r#"{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":1}"#;

/// Short, so that a test does not wait long for what never comes.
fn short(settings: &mut Settings) {
    settings.relay_timeout_ms = Some("200".to_owned());
}

async fn ask(address: SocketAddr, command: &str) -> Got {
    Sender::connect(address).await.post(&target(command), "", &before(command)).await
}

fn failures() -> Vec<(&'static str, Conduct)> {
    let json = br#"{"ActionStatus":"OK","ErrorCode":0,"ErrorInfo":"unseen"}"#;
    let large = [&b"{\"a\":\""[..], &b"x".repeat(1024 * 1024), b"\"}"].concat();
    let mut cut = answer("200 OK", "", json);
    cut.truncate(cut.len() - 1);
    vec![
        ("timeout", Conduct::Silent),
        ("timeout", Conduct::Trickle),
        ("broken", Conduct::Reset),
        ("broken", Conduct::AnswerAndClose(b"SSH-2.0-x\r\n\r\n".to_vec())),
        ("broken", Conduct::AnswerAndClose(cut)),
        (
            "broken",
            Conduct::AnswerAndClose(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n".to_vec()),
        ),
        ("too_large", Conduct::AnswerAndClose(answer("200 OK", "", &large))),
        ("not_json", Conduct::Answer(answer("200 OK", "Content-Type: application/json\r\n", b"ok"))),
        ("not_json", Conduct::Answer(answer("200 OK", "", b""))),
        ("server_error", Conduct::Answer(answer("500 Internal", "", json))),
        ("server_error", Conduct::Answer(answer("503 Busy", "Retry-After: 3\r\n", json))),
        ("loop", Conduct::Answer(answer("508 Loop", "", json))),
    ]
}

#[tokio::test]
async fn each_failure_of_the_backend_is_answered_with_the_fallback_of_the_command() {
    for (_, conduct) in failures() {
        let backend = Backend::start(conduct.clone());
        let service = in_front_of(&backend, |settings| {
            short(settings);
            settings.relay_fallback = Some(
                "refuse,Group.CallbackBeforeCreateGroup=allow,C2C.CallbackBeforeSendMsg=fail".to_owned(),
            );
        })
        .await;
        let address = service.running.callback_addr;
        let got = ask(address, BEFORE_CREATE).await;
        assert_eq!((got.status, got.text()), (200, OK), "{conduct:?}");
        let got = ask(address, "Group.CallbackBeforeSendMsg").await;
        assert_eq!((got.status, got.text()), (200, REFUSED), "{conduct:?}");
        let got = ask(address, "C2C.CallbackBeforeSendMsg").await;
        assert_eq!(got.status, 503, "{conduct:?}");
        assert!(got.text().contains(r#""ActionStatus":"FAIL""#), "{conduct:?}: {}", got.text());
        service.stop().await;
    }
}

#[tokio::test]
async fn a_backend_that_is_not_there_is_answered_with_the_fallback_and_asked_again_after_its_return() {
    let backend = Backend::start(allowed());
    let address = backend.address;
    let service = in_front_of(&backend, |_| {}).await;
    let mirror = service.running.callback_addr;
    assert_eq!(ask(mirror, BEFORE_CREATE).await.status, 200);
    backend.stop().await;
    for _ in 0..30 {
        assert_eq!(ask(mirror, BEFORE_CREATE).await.status, 503);
    }
    let backend = Backend::start_at(address, allowed());
    assert!(
        eventually(async || ask(mirror, BEFORE_CREATE).await.status == 200).await,
        "a trial is let through"
    );
    let before_that = backend.seen_count();
    assert_eq!(ask(mirror, BEFORE_CREATE).await.status, 200);
    assert_eq!(backend.seen_count(), before_that + 1);
    service.stop().await;
}

#[tokio::test]
async fn five_time_outs_in_a_row_open_the_breaker_and_then_the_backend_is_left_alone() {
    let backend = Backend::start(Conduct::Silent);
    let service = in_front_of(&backend, short).await;
    let mirror = service.running.callback_addr;
    for _ in 0..5 {
        assert_eq!(ask(mirror, BEFORE_CREATE).await.status, 503);
    }
    assert_eq!(backend.seen_count(), 5);
    let mut sender = Sender::connect(mirror).await;
    for _ in 0..50 {
        assert_eq!(sender.post(&target(BEFORE_CREATE), "", &before(BEFORE_CREATE)).await.status, 503);
    }
    // A trial or two may have been due meanwhile, on a machine that is slow.
    assert!(backend.seen_count() <= 7, "{} calls", backend.seen_count());
    service.stop().await;
}

#[tokio::test]
async fn a_backend_that_refuses_actions_or_requests_does_not_open_the_breaker() {
    let refusal = br#"{"ActionStatus":"OK","ErrorCode":1,"ErrorInfo":""}"#;
    let backend = Backend::start(Conduct::Answer(answer("200 OK", "", refusal)));
    let service = in_front_of(&backend, |_| {}).await;
    for (conduct, status) in [
        (answer("200 OK", "", refusal), 200),
        (answer("403 No", "", b"no"), 403),
        (answer("404 No", "", b""), 404),
    ] {
        backend.behaves(Conduct::Answer(conduct));
        for _ in 0..30 {
            assert_eq!(ask(service.running.callback_addr, BEFORE_CREATE).await.status, status);
        }
    }
    assert_eq!(backend.seen_count(), 90);
    service.stop().await;
}

#[tokio::test]
async fn over_the_limit_of_callbacks_that_wait_the_fallback_goes_back_at_once() {
    let backend = Backend::start(Conduct::Silent);
    let service = in_front_of(&backend, |settings| settings.relay_timeout_ms = Some("1400".to_owned())).await;
    let mirror = service.running.callback_addr;
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..400 {
        waiting.spawn(async move { ask(mirror, BEFORE_CREATE).await.status });
    }
    assert!(waiting.join_all().await.iter().all(|status| *status == 503));
    // Those that time out make room for a few more, until the breaker opens.
    assert!(backend.seen_count() <= 260, "{} at the backend", backend.seen_count());
    service.stop().await;
}

/// The values of all series that are asked for.
async fn metrics<'a>(service: &Process, series: impl Iterator<Item = &'a String>) -> BTreeMap<String, f64> {
    let text = service.get_as(API_TOKEN, "/metrics").await.text().await.unwrap();
    let value = |series: &String| {
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no {series}: {text}")).parse().unwrap()
    };
    series.map(|series| (series.clone(), value(series))).collect()
}

#[tokio::test]
async fn every_result_is_counted_from_zero_on_and_the_breaker_is_shown_and_logged() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let backend = Backend::start(allowed());
    let mut command = place.command_on(&database.url, &[]);
    command.env("RELAY_URL", backend.url("/")).env("RELAY_TIMEOUT_MS", "1000");
    let service = Process::start(command).ready().await;
    let relayed = |class: &str, result: &str| {
        format!("group_mirror_relayed_total{{app=\"{APP}\",class=\"{class}\",result=\"{result}\"}}")
    };
    let fallbacks =
        |cause: &str| format!("group_mirror_relay_fallbacks_total{{app=\"{APP}\",cause=\"{cause}\"}}");
    let dropped =
        |cause: &str| format!("group_mirror_relay_dropped_total{{app=\"{APP}\",cause=\"{cause}\"}}");
    let open = format!("group_mirror_relay_breaker_open{{app=\"{APP}\",class=\"verdict\"}}");
    let mut expected = BTreeMap::new();
    for result in ["allowed", "refused", "other_status"] {
        expected.extend([(relayed("verdict", result), 0.0), (relayed("notice", result), 0.0)]);
    }
    for (result, _) in failures() {
        expected.extend([(relayed("verdict", result), 0.0), (fallbacks(result), 0.0)]);
    }
    expected.extend(["busy", "breaker_open", "late"].map(|cause| (fallbacks(cause), 0.0)));
    expected.extend(["no_room", "busy", "breaker_open", "late"].map(|cause| (dropped(cause), 0.0)));
    expected.insert(open.clone(), 0.0);
    let address: SocketAddr = service.callback_address().parse().unwrap();
    assert_eq!(metrics(&service, expected.keys()).await, expected);
    for (conduct, result) in [
        (allowed(), "allowed"),
        (Conduct::Answer(answer("200 OK", "", br#"{"ErrorCode":10100}"#)), "refused"),
        (Conduct::Answer(answer("404 No", "", b"")), "other_status"),
    ] {
        backend.behaves(conduct);
        ask(address, BEFORE_CREATE).await;
        *expected.get_mut(&relayed("verdict", result)).unwrap() += 1.0;
    }
    for (number, (result, conduct)) in failures().into_iter().enumerate() {
        // With one answer between, half of the calls fail only at the last one.
        if number < 8 {
            backend.behaves(allowed());
            ask(address, BEFORE_CREATE).await;
            *expected.get_mut(&relayed("verdict", "allowed")).unwrap() += 1.0;
        }
        backend.behaves(conduct);
        ask(address, BEFORE_CREATE).await;
        let is_open = number >= 10;
        if is_open {
            *expected.get_mut(&fallbacks("breaker_open")).unwrap() += 1.0;
        } else {
            *expected.get_mut(&relayed("verdict", result)).unwrap() += 1.0;
            *expected.get_mut(&fallbacks(result)).unwrap() += 1.0;
        }
        expected.insert(open.clone(), f64::from(u8::from(number >= 9)));
        assert_eq!(metrics(&service, expected.keys()).await, expected);
    }
    let line = "the backend of RELAY_URL fails (HTTP status 500); until a trial is answered, \"before\" callbacks get";
    assert!(eventually(async || service.log().contains(line)).await, "{}", service.log());
    backend.behaves(allowed());
    assert!(eventually(async || ask(address, BEFORE_CREATE).await.status == 200).await);
    assert_eq!(metrics(&service, [&open].into_iter()).await, [(open, 0.0)].into());
    let line = "the backend of RELAY_URL answers again";
    assert!(eventually(async || service.log().contains(line)).await, "{}", service.log());
}
