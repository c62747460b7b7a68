//! Handshakes that are slow, silent or many, and ends in the middle of everything.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::support::load::{create_request, read_answer};
use crate::support::postgres::TestDatabase;
use crate::support::process::{BINARY, Place, Process};
use crate::support::tls::{Authority, CertificateFiles, Offer, connect, connector, rest};
use crate::support::{API_TOKEN, APP, App, OK, TOKEN, eventually};

/// The public listener's limit of connections, and some.
const MORE_THAN_ALL: usize = 820;

/// Tencent waits 2 s; more than a busy machine needs, and less than the 5 s after which the silent are closed first.
const WAIT: Duration = Duration::from_secs(3);

async fn a_callback_is_taken(address: &str, connector: &TlsConnector, group: &str, wait: Duration) {
    let exchange = async {
        let mut stream = connect(address, connector).await.unwrap();
        stream.write_all(&create_request(group)).await.unwrap();
        read_answer(&mut stream).await.unwrap()
    };
    let answer = tokio::time::timeout(wait, exchange).await.unwrap_or_else(|_| panic!("{group}: no answer"));
    assert_eq!((answer.status(), answer.body.as_str()), (200, OK));
}

async fn start(place: &Place, database: &TestDatabase, files: &CertificateFiles) -> Process {
    let mut command = place.command_on(&database.url, &[]);
    command.envs(files.variables());
    Process::start(command).ready().await
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_connections_that_shake_hands_and_send_nothing_leave_the_rest_unharmed() {
    rlimit::increase_nofile_limit(4096).unwrap();
    let (place, database, authority) = (Place::new(), TestDatabase::create().await, Authority::new());
    let files = CertificateFiles::holding(&authority.issue("callbacks.example.org"));
    let service = start(&place, &database, &files).await;
    let (address, connector) = (service.callback_address(), connector(&authority, &Offer::default()));
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(connect(&address, &connector).await.unwrap());
    }
    a_callback_is_taken(&address, &connector, "beside-100", WAIT).await;
    // And all that there can be: one of them is closed for each new one.
    while silent.len() < MORE_THAN_ALL {
        silent.push(connect(&address, &connector).await.unwrap());
    }
    for number in 0..3 {
        a_callback_is_taken(&address, &connector, &format!("beside-all-{number}"), WAIT).await;
    }
    let metrics = service.get_as(API_TOKEN, "/metrics").await.text().await.unwrap();
    let closed = "group_mirror_connections_closed_total{listener=\"callbacks\",cause=\"silent\"}";
    let line = metrics.lines().find_map(|line| line.strip_prefix(closed)).unwrap();
    assert!(line.trim().parse::<f64>().unwrap() > 0.0);
    drop(silent);
    service.ends_well_on("TERM").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_full_of_first_bytes_of_handshakes_takes_callbacks() {
    rlimit::increase_nofile_limit(4096).unwrap();
    let (place, database, authority) = (Place::new(), TestDatabase::create().await, Authority::new());
    let files = CertificateFiles::holding(&authority.issue("callbacks.example.org"));
    let service = start(&place, &database, &files).await;
    let (address, connector) = (service.callback_address(), connector(&authority, &Offer::default()));
    for bytes in [&b"\x16"[..], b""] {
        let mut begun = Vec::new();
        for _ in 0..MORE_THAN_ALL {
            let mut stream = TcpStream::connect(&address).await.unwrap();
            // One that was closed for another one is a part of the picture.
            let _ = stream.write_all(bytes).await;
            begun.push(stream);
        }
        a_callback_is_taken(&address, &connector, "beside", WAIT).await;
        drop(begun);
    }
    service.ends_well_on("TERM").await;
}

#[tokio::test]
async fn a_handshake_that_does_not_end_is_closed_and_counted() {
    let authority = Authority::new();
    let files = CertificateFiles::holding(&authority.issue("callbacks.example.org"));
    let app = App::start_with(|settings| files.set(settings)).await;
    let address = app.service.running.callback_addr;
    let (mut silent, mut begun) =
        (TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap());
    // A byte now and then does not extend the time.
    let slow = async {
        for byte in [0x16, 0x03, 0x01, 0x02, 0x00, 0x01] {
            let _ = begun.write_all(&[byte]).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        rest(&mut begun).await
    };
    assert_eq!(
        tokio::join!(rest(&mut silent), slow),
        (String::new(), String::new()),
        "closed without a word"
    );
    let refusals = app.service.read("/v1/stats").await["refusals"]["by_cause"].clone();
    assert_eq!(refusals["slow_handshake"], 2, "{refusals}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_sigterm_kept_and_new_connections_are_answered_over_tls_and_closed_as_tls_wants_it() {
    let (place, database, authority) = (Place::new(), TestDatabase::create().await, Authority::new());
    let files = CertificateFiles::holding(&authority.issue("callbacks.example.org"));
    let mut service = start(&place, &database, &files).await;
    let (address, connector) = (service.callback_address(), connector(&authority, &Offer::default()));
    let mut kept = connect(&address, &connector).await.unwrap();
    kept.write_all(&create_request("before")).await.unwrap();
    assert_eq!(read_answer(&mut kept).await.unwrap().status(), 200);
    service.signal("TERM");
    service.says("stopping").await;
    let mut new = connect(&address, &connector).await.unwrap();
    for (stream, group) in [(&mut kept, "kept"), (&mut new, "new")] {
        stream.write_all(&create_request(group)).await.unwrap();
        let answer = read_answer(stream).await.unwrap();
        assert_eq!((answer.status(), answer.body.as_str()), (200, OK), "{group}");
        assert!(answer.says("connection: close"), "{answer:?}");
        // A cut without close_notify would be an error here.
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0, "{group}");
    }
    assert_eq!(service.ended().await.code, Some(0));
}

/// Sends callbacks over TLS until one fails, and answers with the groups that were answered with OK.
async fn send_until_cut(address: String, connector: TlsConnector, name: String) -> Vec<String> {
    let mut taken = Vec::new();
    let Ok(mut stream) = connect(&address, &connector).await else { return taken };
    loop {
        let group = format!("{name}-{}", taken.len());
        if stream.write_all(&create_request(&group)).await.is_err() {
            return taken;
        }
        match read_answer(&mut stream).await {
            Ok(answer) if answer.body == OK => taken.push(group),
            _ => return taken,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_in_the_middle_of_tls_loses_nothing_that_was_answered() {
    let (place, database, authority) = (Place::new(), TestDatabase::create().await, Authority::new());
    let files = CertificateFiles::holding(&authority.issue("callbacks.example.org"));
    let connector = connector(&authority, &Offer::default());
    let mut taken = Vec::new();
    for round in 0..3 {
        let mut service = start(&place, &database, &files).await;
        let mut senders = JoinSet::new();
        for sender in 0..8 {
            let name = format!("{round}-{sender}");
            senders.spawn(send_until_cut(service.callback_address(), connector.clone(), name));
        }
        let busy = eventually(async || {
            let stats = service.get_as(API_TOKEN, "/metrics").await.text().await.unwrap();
            let applied = "group_mirror_answer_seconds_count";
            stats.lines().any(|line| {
                line.starts_with(applied) && line.rsplit(' ').next().unwrap().parse::<u64>().unwrap() > 50
            })
        })
        .await;
        assert!(busy, "{}", service.log());
        service.signal("KILL");
        service.until_ended().await;
        while let Some(of_one) = senders.join_next().await {
            taken.extend(of_one.unwrap());
        }
    }
    assert!(taken.len() > 100, "{}", taken.len());
    let service = start(&place, &database, &files).await;
    let all = eventually(async || {
        let mut conn = database.connect().await;
        let stored: i64 = sqlx::query_scalar("SELECT count(*) FROM groups WHERE group_id = ANY($1)")
            .bind(&taken)
            .fetch_one(&mut conn)
            .await
            .unwrap();
        usize::try_from(stored).unwrap() == taken.len()
    })
    .await;
    assert!(all, "{} were answered with OK", taken.len());
    service.ends_well_on("TERM").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_of_the_service_manager_speaks_tls_and_keeps_connections_through_a_restart() {
    let (place, database, authority) = (Place::new(), TestDatabase::create().await, Authority::new());
    let files = CertificateFiles::holding(&authority.issue("callbacks.example.org"));
    let connector = connector(&authority, &Offer::default());
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let activated = || {
        let mut command = place.program("sh");
        command.args(["-c", "exec 3<&0 0</dev/null; LISTEN_PID=$$ exec \"$0\" serve", BINARY]);
        command.env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", "callback");
        command.env("DATABASE_URL", &database.url).env("SDK_APP_ID", APP).envs(files.variables());
        command.env("CALLBACK_TOKEN", TOKEN).env("API_TOKEN", API_TOKEN);
        Process::start_with_input(command, Stdio::from(OwnedFd::from(socket.try_clone().unwrap())))
    };
    let service = activated().ready().await;
    assert_eq!(service.callback_address(), address);
    a_callback_is_taken(&address, &connector, "before", Duration::from_secs(60)).await;
    service.ends_well_on("TERM").await;
    // It waits in the queue of the kernel, its handshake included, until there is a service again.
    let waiting = tokio::spawn({
        let (address, connector) = (address.clone(), connector.clone());
        async move { a_callback_is_taken(&address, &connector, "between", Duration::from_secs(60)).await }
    });
    let service = activated().ready().await;
    waiting.await.unwrap();
    service.ends_well_on("TERM").await;
}
