//! The start of the real program: what its first lines say, what a `.env` may hold, which directories it makes.

use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use group_mirror::callback::signature::Token;

use crate::support::postgres::TestDatabase;
use crate::support::process::{BINARY, Place, Process, refused, run};
use crate::support::{APP, OK, fake_postgres, sample};

#[tokio::test]
async fn a_start_that_waits_for_the_database_answers_reports_it_and_ends_well_on_sigterm() {
    let place = Place::new();
    let url = format!("postgres://x:y@{}/mirror", fake_postgres::silent());
    let mut service = Process::start(place.command_on(&url, &[]));
    service.says("read API").await;
    let body = sample("Group.CallbackAfterCreateGroup").to_string();
    let answer = service.post(&crate::support::signed_query(), body).await;
    assert_eq!(answer.text().await.unwrap(), OK);
    let readiness = service.get("/readyz").await.text().await.unwrap();
    assert!(readiness.contains("has not answered yet") || readiness.contains("no answer in"), "{readiness}");
    service.says("until that is mended callbacks go to the spool").await;
    service.ends_well_on("TERM").await;
}

#[tokio::test]
async fn callbacks_are_taken_while_the_embedded_server_is_still_being_started() {
    let place = Place::new();
    place.serve().await.ends_well_on("TERM").await;
    // As long as this is held, the start of the server waits for another process that starts or stops it.
    let lock = std::fs::File::open(place.postgres().join("lock")).unwrap();
    lock.lock().unwrap();
    let mut service = Process::start(place.command(&[]));
    service.says("starting the embedded PostgreSQL; until it answers, callbacks go to the spool").await;
    let readiness = service.get("/readyz").await;
    assert_eq!(readiness.status(), 200);
    assert!(readiness.text().await.unwrap().contains("has not answered yet"));
    service.takes_a_group().await;
    assert_eq!(service.get("/v1/groups").await.status(), 503);
    let log = service.log();
    for later in ["try: curl", "database: ", "the schema fits"] {
        assert!(!log.contains(later), "{later}: {log}");
    }
    drop(lock);
    service.says("try: curl").await;
    let log = service.log();
    let at = |line: &str| log.find(line).unwrap_or_else(|| panic!("{line}: {log}"));
    let order = [
        "data directory: ",
        "callbacks of app ",
        "read API",
        "starting the embedded",
        "started an embedded",
        "the schema fits; serving",
        "database: an embedded",
        "try: curl",
    ];
    assert!(order.map(at).is_sorted(), "{log}");
    // What was spooled meanwhile comes to the tables.
    while service.get("/v1/groups/%40TGS%232RIVERB7QK").await.status() != 200 {
        tokio::task::yield_now().await;
    }
    service.serves_the_group().await;
    service.ends_well_on("TERM").await;
    place.assert_no_server();
}

#[tokio::test]
async fn sigterm_ends_a_start_on_a_locked_ledger() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let mut conn = database.connect().await;
    sqlx::Executor::execute(&mut conn, "BEGIN; LOCK TABLE ledger IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let mut service = Process::start(place.command_on(&database.url, &[]));
    service.says("could not obtain lock").await;
    service.ends_well_on("TERM").await;
}

#[tokio::test]
async fn the_first_lines_name_the_version_the_settings_file_and_the_absolute_data_directory() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    std::fs::write(place.path().join(".env"), "").unwrap();
    let mut service = Process::start(place.command_on(&database.url, &[]));
    service.says("data directory").await;
    let log = service.log();
    let line = log.lines().find(|line| line.contains("data directory")).unwrap();
    for wanted in [
        format!("group-mirror {}", env!("CARGO_PKG_VERSION")),
        place.path().join(".env").display().to_string(),
        place.path().join("data").display().to_string(),
    ] {
        assert!(line.contains(&wanted), "{wanted}: {line}");
    }
    service.ready().await.ends_well_on("TERM").await;
}

#[tokio::test]
async fn a_token_with_a_dollar_sign_in_the_settings_file_arrives_whole() {
    let database = TestDatabase::create().await;
    for (line, token) in [
        ("CALLBACK_TOKEN=ab$cdEF12", "ab$cdEF12"),
        ("CALLBACK_TOKEN=p$HOME # the console's", "p$HOME"),
        ("CALLBACK_TOKEN=a\\$b", "a$b"),
        ("CALLBACK_TOKEN='x$y'", "x$y"),
    ] {
        let place = Place::new();
        std::fs::write(place.path().join(".env"), format!("{line}\n")).unwrap();
        let mut command = place.command_on(&database.url, &[]);
        command.env_remove("CALLBACK_TOKEN").env("HOME", "/elsewhere");
        let service = Process::start(command).ready().await;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().to_string();
        let sign = Token::new(token.into()).sign(&now);
        let body = sample("Group.CallbackAfterCreateGroup").to_string();
        let answer = service.post(&format!("SdkAppid={APP}&Sign={sign}&RequestTime={now}"), body).await;
        assert_eq!(answer.text().await.unwrap(), OK, "{line}");
        service.ends_well_on("TERM").await;
    }
}

#[tokio::test]
async fn a_command_that_reads_makes_no_database_in_a_directory_without_one() {
    let place = Place::new();
    for args in [&["replay", "--verify"][..], &["replay"], &["replay", "--parked"]] {
        let line = refused(place.command(args)).await;
        let data = place.path().join("data");
        assert!(line.starts_with("there is no database: DATABASE_URL is not set, and DATA_DIR ("), "{line}");
        assert!(line.contains(&data.display().to_string()), "{line}");
        assert!(!data.exists(), "{args:?}");
    }
    // Where there is one it is used.
    assert_eq!(run(place.command(&["migrate"])).await.code, Some(0));
    let ended = run(place.command(&["replay", "--verify"])).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    place.assert_no_server();
}

#[tokio::test]
async fn a_replay_of_a_database_without_a_ledger_is_refused_with_what_to_run() {
    let (place, database) = (Place::new(), TestDatabase::create_empty().await);
    for args in [&["replay", "--verify"][..], &["replay"], &["replay", "--parked"]] {
        let line = refused(place.command_on(&database.url, args)).await;
        assert_eq!(line, "the database has no ledger; run `group-mirror migrate`", "{args:?}");
    }
}

/// Aim: however few open files the process may have, readers cannot take those of callbacks. Method: a limit of 300, and on the
/// internal listener as many connections as it takes, each with half a request, so that none is closed for being idle.
#[tokio::test]
async fn readers_cannot_take_the_descriptors_of_callbacks() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let mut command = place.program("/bin/sh");
    command.args(["-c", &format!("ulimit -n 300; exec {BINARY}")]);
    command.env("DATABASE_URL", &database.url).env("SDK_APP_ID", APP);
    command.env("CALLBACK_TOKEN", crate::support::TOKEN).env("API_TOKEN", crate::support::API_TOKEN);
    let mut service = Process::start(command);
    service.says("may not have").await;
    service = service.ready().await;
    let mut readers = Vec::new();
    for _ in 0..290 {
        let mut reader = std::net::TcpStream::connect(service.api_address()).unwrap();
        reader.write_all(b"GET /livez HTTP/1.1\r\n").unwrap();
        readers.push(reader);
    }
    let body = sample("Group.CallbackAfterCreateGroup").to_string();
    for _ in 0..20 {
        let answer = service.post(&crate::support::signed_query(), body.clone()).await;
        assert_eq!(answer.text().await.unwrap(), OK);
    }
    drop(readers);
    service.ends_well_on("TERM").await;
}
