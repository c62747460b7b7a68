//! Connections of the listeners: silent, idle, cut off, too large, without a length.

use std::time::Duration;

use group_mirror::callback::BODY_BYTES_MAX;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::load::{RawAnswer, create_request, read_answer};
use crate::support::postgres::TestDatabase;
use crate::support::process::{BINARY, Place, Process};
use crate::support::{API_TOKEN, APP, App, OK, TOKEN, eventually, settings, signed_query};

/// The public listener's limit of connections, and some.
const MORE_THAN_ALL: usize = 820;

async fn connect(app: &App) -> TcpStream {
    TcpStream::connect(app.service.running.callback_addr).await.unwrap()
}

/// A callback's head with these lines in it.
fn head(path: &str, lines: &str) -> String {
    format!("POST {path}?{} HTTP/1.1\r\nHost: mirror\r\n{lines}\r\n\r\n", signed_query())
}

/// Takes all connections of the public listener with ones that send these bytes and nothing more, and answers with the
/// service and those connections.
async fn filled_with(database: &TestDatabase, place: &Place, bytes: &[u8]) -> (Process, Vec<TcpStream>) {
    rlimit::increase_nofile_limit(4096).unwrap();
    let service = Process::start(place.command_on(&database.url, &[])).ready().await;
    let address = service.callback_address();
    let mut silent = Vec::new();
    for _ in 0..MORE_THAN_ALL {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        silent.push(stream);
    }
    (service, silent)
}

/// A callback and a question for health, each on a new connection.
async fn a_callback_and_a_check_are_answered(address: &str, wait: Duration, group: &str) {
    let mut stream = TcpStream::connect(&address).await.unwrap();
    stream.write_all(&create_request(group)).await.unwrap();
    let answer = tokio::time::timeout(wait, read_answer(&mut stream)).await.unwrap().unwrap();
    assert_eq!((answer.status(), answer.body.as_str()), (200, OK));
    let url = format!("http://{address}/livez");
    let health = reqwest::Client::builder().no_proxy().timeout(wait).build().unwrap().get(url);
    assert_eq!(health.send().await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_full_of_silent_connections_takes_callbacks_and_answers_health_checks() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let (service, silent) = filled_with(&database, &place, b"").await;
    let address = service.callback_address();
    // Tencent waits 2 s. Less than the 5 s after which silent connections are closed before all others, and several
    // times what it takes on a machine with nothing else to do.
    for number in 0..5 {
        a_callback_and_a_check_are_answered(&address, Duration::from_secs(3), &format!("g{number}")).await;
    }
    let metrics = service.get_as(API_TOKEN, "/metrics").await.text().await.unwrap();
    let value = |name: &str| {
        let line = metrics.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}"));
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    assert!(value("group_mirror_accept_waits_total{listener=\"callbacks\"}") > 0.0);
    assert!(
        value("group_mirror_connections_closed_total{listener=\"callbacks\",cause=\"silent\"}") > 0.0,
        "{metrics}"
    );
    let is_logged =
        eventually(async || service.log().contains("all connections of this listener are taken")).await;
    assert!(is_logged, "{}", service.log());
    drop(silent);
    service.ends_well_on("TERM").await;
}

#[tokio::test]
async fn a_burst_of_connections_waits_in_the_queue_of_the_kernel_instead_of_being_dropped() {
    let serving = settings("postgres://127.0.0.1:1/none").serve_config().unwrap();
    let (callbacks, _api) = group_mirror::app::bind(&serving).await.unwrap();
    let address = callbacks.local_addr().unwrap();
    let mut waiting = Vec::new();
    // Nothing accepts them. The queue had 128 places once, and a connection for which there is none is never made.
    for number in 0..500 {
        let connecting = tokio::time::timeout(Duration::from_secs(20), TcpStream::connect(address));
        waiting.push(connecting.await.unwrap_or_else(|_| panic!("connection {number}")).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_full_of_beginnings_of_heads_takes_callbacks() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let (service, begun) = filled_with(&database, &place, b"POST /").await;
    a_callback_and_a_check_are_answered(&service.callback_address(), Duration::from_secs(3), "g").await;
    drop(begun);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_descriptors_run_out_silent_connections_are_closed_as_well() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let mut command = place.program("sh");
    command.args(["-c", "ulimit -n 200; exec \"$0\" serve", BINARY]);
    command.env("DATABASE_URL", &database.url).env("SDK_APP_ID", APP);
    command.env("CALLBACK_TOKEN", TOKEN).env("API_TOKEN", API_TOKEN);
    let service = Process::start(command).ready().await;
    let address = service.callback_address();
    let mut silent = Vec::new();
    for _ in 0..400 {
        silent.push(TcpStream::connect(&address).await.unwrap());
    }
    let mut stream = TcpStream::connect(&address).await.unwrap();
    stream.write_all(&create_request("g")).await.unwrap();
    let answer = read_answer(&mut stream).await.unwrap();
    assert_eq!((answer.status(), answer.body.as_str()), (200, OK), "{}", service.log());
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_the_time_of_the_setting_and_not_while_it_is_used() {
    let app = App::start_with(|settings| settings.idle_secs = Some("1".into())).await;
    let mut stream = connect(&app).await;
    for number in 0..3 {
        stream.write_all(&create_request(&format!("g{number}"))).await.unwrap();
        assert_eq!(read_answer(&mut stream).await.unwrap().status(), 200);
    }
    let mut rest = Vec::new();
    assert_eq!(stream.read_to_end(&mut rest).await.unwrap(), 0, "closed without a word");
    app.stop().await;
}

#[tokio::test]
async fn a_head_that_does_not_end_is_not_kept_for_the_idle_time() {
    let app = App::start().await;
    let mut stream = connect(&app).await;
    stream.write_all(b"POST / HTTP/1.1\r\nHost: m").await.unwrap();
    let mut rest = Vec::new();
    assert_eq!(stream.read_to_end(&mut rest).await.unwrap(), 0);
    assert_eq!(app.service.read("/v1/stats").await["refusals"]["by_cause"]["slow_head"], 1);
    app.stop().await;
}

/// Sends a whole request before it reads a byte, as most senders do.
async fn sent_whole(app: &App, head: String, body: Vec<u8>) -> RawAnswer {
    let mut stream = connect(app).await;
    stream.write_all(head.as_bytes()).await.unwrap();
    // A reset while the body is sent, or before the answer is read, is the fault.
    stream.write_all(&body).await.unwrap();
    read_answer(&mut stream).await.unwrap()
}

#[tokio::test]
async fn an_early_answer_reaches_a_sender_that_sends_its_whole_body_first() {
    let app = App::start().await;
    let size = 4 * BODY_BYTES_MAX;
    let length = format!("Content-Length: {size}");
    let unsigned = format!("POST /callback HTTP/1.1\r\nHost: mirror\r\n{length}\r\n\r\n");
    for (head, status) in
        [(head("/callback", &length), 413), (unsigned, 403), (head("/elsewhere", &length), 404)]
    {
        let answer = sent_whole(&app, head, vec![b'x'; size]).await;
        assert_eq!(answer.status(), status, "{answer:?}");
        assert!(answer.body.contains("FAIL"), "{answer:?}");
    }
    app.stop().await;
}

#[tokio::test]
async fn bodies_without_a_length_are_charged_by_what_has_come() {
    let app = App::start().await;
    let body = create_request("chunked");
    let body = String::from_utf8(body).unwrap().split_once("\r\n\r\n").unwrap().1.to_owned();
    let (first, last) = body.split_at(body.len() / 2);
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let mut streams = Vec::new();
    // Each counted as 1 MiB once, of 32.
    for _ in 0..100 {
        let mut stream = connect(&app).await;
        let begin = head("/", "Transfer-Encoding: chunked") + &chunk(first);
        stream.write_all(begin.as_bytes()).await.unwrap();
        streams.push(stream);
    }
    for stream in &mut streams {
        stream.write_all(format!("{}0\r\n\r\n", chunk(last)).as_bytes()).await.unwrap();
    }
    for stream in &mut streams {
        let answer = read_answer(stream).await.unwrap();
        assert_eq!((answer.status(), answer.body.as_str()), (200, OK));
    }
    app.stop().await;
}

#[tokio::test]
async fn a_body_without_a_length_has_the_same_limit() {
    let app = App::start().await;
    let chunk = vec![b'x'; 64 * 1024];
    let mut body = Vec::new();
    for _ in 0..=BODY_BYTES_MAX / chunk.len() {
        body.extend_from_slice(b"10000\r\n");
        body.extend_from_slice(&chunk);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"0\r\n\r\n");
    let answer = sent_whole(&app, head("/", "Transfer-Encoding: chunked"), body).await;
    assert_eq!(answer.status(), 413, "{answer:?}");
    app.stop().await;
}

#[tokio::test]
async fn a_slash_too_many_loses_no_callback() {
    let app = App::start().await;
    for path in ["/callback/", "//callback", "//", "/callback//", "//callback/"] {
        let group = path.replace('/', "s");
        let request = String::from_utf8(create_request(&group)).unwrap().replacen("/callback", path, 1);
        let mut stream = connect(&app).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = read_answer(&mut stream).await.unwrap();
        assert_eq!((answer.status(), answer.body.as_str()), (200, OK), "{path}");
        app.service.read(&format!("/v1/groups/{group}")).await;
    }
    app.stop().await;
}

#[tokio::test]
async fn after_sigterm_it_is_not_ready_and_goes_on_answering_with_connection_close() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let mut service = Process::start(place.command_on(&database.url, &[])).ready().await;
    let address = service.callback_address();
    // Two idle connections of a pool: one asks for health, the other one sends its next callback.
    let (mut pooled, mut health) =
        (TcpStream::connect(&address).await.unwrap(), TcpStream::connect(&address).await.unwrap());
    pooled.write_all(&create_request("before")).await.unwrap();
    assert_eq!(read_answer(&mut pooled).await.unwrap().status(), 200);
    health.write_all(b"GET /readyz HTTP/1.1\r\nHost: m\r\n\r\n").await.unwrap();
    let ready = read_answer(&mut health).await.unwrap();
    assert_eq!((ready.status(), ready.body.as_str()), (200, r#"{"status":"ready"}"#));
    service.signal("TERM");
    service.says("stopping").await;
    health.write_all(b"GET /readyz HTTP/1.1\r\nHost: m\r\n\r\n").await.unwrap();
    let ready = read_answer(&mut health).await.unwrap();
    assert_eq!((ready.status(), ready.body.as_str()), (503, r#"{"status":"stopping"}"#));
    let mut new = TcpStream::connect(&address).await.unwrap();
    for (stream, group) in [(&mut pooled, "kept"), (&mut new, "new")] {
        stream.write_all(&create_request(group)).await.unwrap();
        let answer = read_answer(stream).await.unwrap();
        assert_eq!((answer.status(), answer.body.as_str()), (200, OK), "{group}");
        assert!(answer.says("connection: close"), "{answer:?}");
    }
    assert_eq!(service.ended().await.code, Some(0));
    let mut conn = database.connect().await;
    let kept: i64 = sqlx::query_scalar("SELECT count(*) FROM groups").fetch_one(&mut conn).await.unwrap();
    assert_eq!(kept, 3);
}
