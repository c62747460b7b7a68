//! Nothing is silent: every request that is not taken is counted by cause, reported in the log, and shown in the stats;
//! an authentic one among them is a loss.

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use group_mirror::callback::signature::Token;

use crate::support::load::{create_request, read_answer};
use crate::support::postgres::TestDatabase;
use crate::support::process::{Place, Process};
use crate::support::{API_TOKEN, APP, TOKEN, eventually, signed_query};

struct Scene {
    service: Process,
    _place: Place,
    _database: TestDatabase,
}

impl Scene {
    async fn start() -> Self {
        let (place, database) = (Place::new(), TestDatabase::create().await);
        let service = Process::start(place.command_on(&database.url, &[])).ready().await;
        Self { service, _place: place, _database: database }
    }

    /// Sends bytes, closes the sending side, and reads to the end.
    async fn send(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.service.callback_address()).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // A reset is an end, too.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn request(&self, line: &str) -> u16 {
        let mut stream = TcpStream::connect(self.service.callback_address()).await.unwrap();
        let request = format!("{line} HTTP/1.1\r\nHost: m\r\nContent-Length: 2\r\n\r\n{{}}");
        stream.write_all(request.as_bytes()).await.unwrap();
        read_answer(&mut stream).await.unwrap().status()
    }

    async fn refusals(&self) -> Value {
        let answer = self.service.get_as(API_TOKEN, "/v1/stats").await;
        answer.json::<Value>().await.unwrap()["refusals"].clone()
    }

    async fn until_counted(&self, cause: &str, wanted: u64) {
        let counted = eventually(async || self.refusals().await["by_cause"][cause] == wanted).await;
        assert!(counted, "{cause}: {}", self.refusals().await);
    }

    /// Lines are written after the answer, and come through a pipe.
    async fn until_logged(&self, text: &str) {
        let logged = eventually(async || self.service.log().contains(text)).await;
        assert!(logged, "{text}: {}", self.service.log());
    }

    async fn metric(&self, series: &str) -> Option<u64> {
        let text = self.service.get_as(API_TOKEN, "/metrics").await.text().await.unwrap();
        let line = text.lines().find(|line| line.starts_with(series))?;
        line.rsplit(' ').next()?.parse().ok()
    }
}

/// The label of what is counted by app.
const OF_APP: &str = ",app=\"1400000001\"";

#[tokio::test]
async fn each_way_of_not_taking_a_request_is_counted_by_cause_and_reported_once_with_a_remedy() {
    let scene = Scene::start().await;
    let signed = signed_query();
    let stale = "1669872112";
    let stale = format!("SdkAppid={APP}&RequestTime={stale}&Sign={}", Token::new(TOKEN.into()).sign(stale));
    let other_app = signed.replace(APP, "1400000002");
    let wrong = wrong_signature(&signed);
    for (line, status, cause, remedy) in [
        (format!("POST /?{other_app}"), 403, "app", "SdkAppid 1400000002 is not ours"),
        (
            format!("POST /?SdkAppid={APP}"),
            403,
            "missing",
            "is callback authentication switched on in the console?",
        ),
        (format!("POST /?{stale}"), 403, "stale", "s behind this host's clock"),
        (format!("POST /?{wrong}"), 403, "wrong", "is CALLBACK_TOKEN the token of the console?"),
        (format!("POST /webapi/callback?{signed}"), 404, "path", "\"/webapi/callback\""),
        (format!("GET /callback?{signed}"), 405, "method", "callbacks are sent by POST (GET)"),
        ("POST /readyz".to_owned(), 405, "method", ""),
    ] {
        assert_eq!(scene.request(&line).await, status, "{cause}");
        scene.request(&line).await;
        scene.until_logged(remedy).await;
    }
    assert!(scene.send(b"nonsense\r\n\r\n").await.starts_with("HTTP/1.1 400"));
    scene.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 and so on, a TLS handshake\r\n\r\n").await;
    scene.send(b"POST / HTTP/1.1\r\nHost: m").await;
    scene.until_counted("malformed", 1).await;
    scene.until_counted("tls", 1).await;
    scene.until_counted("broken_off", 1).await;
    let refusals = scene.refusals().await;
    for (cause, count) in [("app", 2), ("missing", 2), ("stale", 2), ("wrong", 2), ("path", 2), ("method", 4)]
    {
        assert_eq!(refusals["by_cause"][cause], count, "{refusals}");
        let app = if ["missing", "stale", "wrong"].contains(&cause) { OF_APP } else { "" };
        let series = format!("group_mirror_refusals_total{{cause=\"{cause}\"{app}}}");
        assert_eq!(scene.metric(&series).await, Some(count), "{cause}");
        let lines = scene.service.log().matches(&format!("refusal.cause=\"{cause}\"")).count();
        assert_eq!(lines, 1, "one line per cause and minute: {}", scene.service.log());
    }
    assert_eq!(refusals["total"], 17, "{refusals}");
    assert!(refusals["last"]["at"].is_string() && refusals["last"]["cause"].is_string(), "{refusals}");
    assert!(!scene.service.log().contains("Sign="), "no query in the log");
    // None of them was authentic but for what is not asked for.
    assert_eq!(scene.metric("group_mirror_gaps_total").await, Some(0));
    let ended = scene.service.ends_well_on("TERM").await;
    assert!(ended.stderr.contains("3 requests were not taken: wrong method"), "{}", ended.stderr);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_counted_and_reported_as_such() {
    let scene = Scene::start().await;
    let head = format!("POST / HTTP/1.1\r\nHost: m\r\nCookie: {}\r\n\r\n", "x".repeat(64 * 1024));
    assert!(scene.send(head.as_bytes()).await.starts_with("HTTP/1.1 431"));
    scene.until_counted("malformed", 1).await;
    scene.until_logged("(the head is too large)").await;
}

/// The query with another signature of the right form.
fn wrong_signature(query: &str) -> String {
    let (before, after) = query.split_once("Sign=").unwrap();
    let (sign, rest) = after.split_at(64);
    format!("{before}Sign={}{rest}", sign.chars().rev().collect::<String>())
}

#[tokio::test]
async fn an_authentic_callback_that_is_too_large_cut_off_or_late_is_a_loss_and_a_gap() {
    let scene = Scene::start().await;
    let head = |length: usize| {
        format!("POST /?{} HTTP/1.1\r\nHost: m\r\nContent-Length: {length}\r\n\r\n", signed_query())
    };
    assert!(scene.send(head(2 * 1024 * 1024).as_bytes()).await.starts_with("HTTP/1.1 413"));
    scene.send((head(100) + "half a bo").as_bytes()).await;
    scene.until_counted("broken_off", 1).await;
    let mut late = TcpStream::connect(scene.service.callback_address()).await.unwrap();
    late.write_all((head(100) + "half a bo").as_bytes()).await.unwrap();
    assert_eq!(read_answer(&mut late).await.unwrap().status(), 503);
    for cause in ["too_large", "broken_off", "budget"] {
        let series = format!("group_mirror_lost_total{{cause=\"{cause}\"{OF_APP}}}");
        assert_eq!(scene.metric(&series).await, Some(1), "{cause}");
        assert_eq!(scene.refusals().await["by_cause"][cause], 1, "{cause}");
    }
    let ready: Value = scene.service.get("/readyz").await.json().await.unwrap();
    assert_eq!(ready["spool"]["gaps"], 3, "{ready}");
}

#[tokio::test]
async fn a_callback_whose_connection_is_reset_inside_the_body_is_counted_too() {
    let scene = Scene::start().await;
    let head = format!("POST /?{} HTTP/1.1\r\nHost: m\r\nContent-Length: 100\r\n", signed_query());
    let mut stream = TcpStream::connect(scene.service.callback_address()).await.unwrap();
    stream.write_all((head + "Expect: 100-continue\r\n\r\n").as_bytes()).await.unwrap();
    // The interim answer is the sign that the body is being read; closed with it unread, the connection is reset.
    stream.readable().await.unwrap();
    stream.write_all(b"half a bo").await.unwrap();
    drop(stream);
    scene.until_counted("broken_off", 1).await;
    let series = format!("group_mirror_lost_total{{cause=\"broken_off\"{OF_APP}}}");
    assert_eq!(scene.metric(&series).await, Some(1));
}

#[tokio::test]
async fn the_consoles_check_and_the_first_callback_of_a_run_are_reported() {
    let scene = Scene::start().await;
    let empty = b"POST /callback HTTP/1.1\r\nHost: m\r\nContent-Length: 0\r\n\r\n";
    let check = "it proves the address only, neither the app id nor the token";
    let first = "the first callback of this run has come";
    for _ in 0..2 {
        assert!(scene.send(empty).await.starts_with("HTTP/1.1 200"));
        scene.until_logged(check).await;
        assert_eq!(scene.service.log().matches(check).count(), 1, "{}", scene.service.log());
        assert_eq!(scene.service.log().matches(first).count(), 0);
    }
    for group in ["a", "b"] {
        assert!(scene.send(&create_request(group)).await.starts_with("HTTP/1.1 200"));
    }
    scene.until_logged(first).await;
    let log = scene.service.log();
    assert_eq!(log.matches(first).count(), 1, "{log}");
    assert!(log.contains("Group.CallbackAfterCreateGroup"), "{log}");
}

#[tokio::test]
async fn counters_exist_with_zero_from_the_start() {
    let scene = Scene::start().await;
    for series in [
        "group_mirror_refusals_total{cause=\"wrong\",app=\"1400000001\"}",
        "group_mirror_refusals_total{cause=\"broken_off\",app=\"1400000001\"}",
        "group_mirror_refusals_total{cause=\"broken_off\"}",
        "group_mirror_refusals_total{cause=\"path\"}",
        "group_mirror_refusals_total{cause=\"tls\"}",
        "group_mirror_lost_total{cause=\"queue_full\",app=\"1400000001\"}",
        "group_mirror_lost_total{cause=\"too_large\",app=\"1400000001\"}",
        "group_mirror_lost_total{cause=\"spool_damaged\"}",
        "group_mirror_lost_total{cause=\"kept_dropped\"}",
        "group_mirror_lost_total{cause=\"kept_unread\"}",
        "group_mirror_gaps_total",
        "group_mirror_spooled_total",
        "group_mirror_drained_total",
        "group_mirror_transaction_retries_total",
        "group_mirror_callbacks_total{command=\"Group.CallbackAfterCreateGroup\",outcome=\"parked\",app=\"1400000001\"}",
        "group_mirror_accept_waits_total{listener=\"callbacks\"}",
        "group_mirror_connections_closed_total{listener=\"api\",cause=\"idle\"}",
    ] {
        assert_eq!(scene.metric(series).await, Some(0), "{series}");
    }
}
