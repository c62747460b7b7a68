//! The life of the real process: with an embedded PostgreSQL and with one of `DATABASE_URL`, through signals and crashes.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use group_mirror::store::schema;
use tokio::sync::Mutex;

use crate::support::postgres::TestDatabase;
use crate::support::process::{BINARY, Place, Process, refused, run, send};
use crate::support::{OK, sample, signed_query};

#[tokio::test]
async fn with_no_configuration_it_serves_and_ctrl_c_leaves_no_server_and_all_data() {
    let place = Place::new();
    let service = place.serve().await;
    service.takes_a_group().await;
    service.serves_the_group().await;
    let log = service.log();
    for hint in ["database: an embedded PostgreSQL in the data directory; psql -h ", "try: curl "] {
        assert!(log.contains(hint), "{log}");
    }
    if cfg!(target_os = "linux") {
        assert!(!place.servers().is_empty());
    }
    let ended = service.ends_well_on("INT").await;
    assert_eq!(ended.stdout, "");
    place.assert_no_server();
    let service = place.serve().await;
    service.serves_the_group().await;
    service.ends_well_on("INT").await;
    place.assert_no_server();
}

#[tokio::test]
async fn a_second_serve_in_the_same_data_directory_is_refused_and_sigterm_ends_the_first() {
    let place = Place::new();
    let service = place.serve().await;
    let line = refused(place.command(&["serve"])).await;
    assert_eq!(line, "DATA_DIR: another `serve` uses data; give each its own directory");
    service.takes_a_group().await;
    service.serves_the_group().await;
    service.ends_well_on("TERM").await;
    place.assert_no_server();
}

#[tokio::test]
async fn a_signal_during_the_start_is_not_lost() {
    let place = Place::new();
    let mut service = Process::start(place.command(&[]));
    // Made after the signals are caught and before the embedded server is.
    let lock = place.path().join("data/serve.lock");
    service.until(|_| lock.exists(), "a locked data directory").await;
    service.ends_well_on("TERM").await;
    place.assert_no_server();
}

#[tokio::test]
async fn a_killed_service_finds_its_data_again() {
    let place = Place::new();
    let service = place.serve().await;
    service.takes_a_group().await;
    service.signal("KILL");
    assert_eq!(service.ended().await.code, None);

    let service = place.serve().await;
    service.serves_the_group().await;
    let pid_file = std::fs::read_to_string(place.postgres().join("cluster/postmaster.pid")).unwrap();
    let postmaster = pid_file.lines().next().unwrap().parse().unwrap();
    send("KILL", &[service.pid(), postmaster]);
    assert_eq!(service.ended().await.code, None);

    let service = place.serve().await;
    service.serves_the_group().await;
    service.ends_well_on("TERM").await;
    place.assert_no_server();
}

#[tokio::test]
async fn migrate_with_no_configuration_makes_the_embedded_database_and_leaves_nothing_running() {
    let place = Place::new();
    let count = schema::MIGRATOR.iter().count();
    for told in [
        format!("{count} migrations applied; the schema is up to date"),
        "INFO the schema is up to date".into(),
    ] {
        let ended = run(place.command(&["migrate"])).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.stderr.contains(&told), "{ended:?}");
        place.assert_no_server();
    }
}

/// Whoever finds no programs looks whether somebody listens on port 5432; not while a test counts who does.
static STRANGER: Mutex<()> = Mutex::const_new(());

/// Hands a place to an account that is not root's, where this is root. None: there is no such account.
pub(crate) fn ordinary_user(place: &Place) -> Option<Command> {
    let mut command = place.command(&[]);
    if std::fs::metadata(place.path()).unwrap().uid() != 0 {
        return Some(command);
    }
    // The sources may lie where only root can enter.
    let program = place.path().join("group-mirror");
    std::fs::copy(BINARY, &program).unwrap();
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap();
    let mut fields = accounts.lines().find(|line| line.starts_with("nobody:"))?.split(':').skip(2);
    let (uid, gid) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    chown(place.path(), Some(uid), Some(gid)).unwrap();
    command = place.program(program);
    command.uid(uid).gid(gid);
    Some(command)
}

#[tokio::test]
async fn an_ordinary_user_needs_nothing_either_and_a_foreign_server_is_not_spoken_to() {
    let place = Place::new();
    let Some(command) = ordinary_user(&place) else {
        return skipped("there is no account `nobody`");
    };
    let _alone = STRANGER.lock().await;
    // Where it is taken, the stranger is there already.
    let stranger = TcpListener::bind("127.0.0.1:5432").ok();
    let service = Process::start(command).ready().await;
    service.takes_a_group().await;
    service.serves_the_group().await;
    let owner = std::fs::metadata(place.postgres().join("cluster/PG_VERSION")).unwrap().uid();
    assert_ne!(owner, 0);
    service.ends_well_on("INT").await;
    place.assert_no_server();
    if let Some(stranger) = stranger {
        stranger.set_nonblocking(true).unwrap();
        assert_eq!(stranger.accept().map(|(_, from)| from).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}

/// Hides the installed server programs from this process and its children, then goes on as the program.
const HIDE_PROGRAMS: &str = r#"
    for place in /usr/lib/postgresql /usr/pgsql-*; do
        if [ -d "$place" ]; then mount -t tmpfs none "$place" || exit 1; fi
    done
    PATH=$NO_PROGRAMS exec "$0""#;

#[tokio::test]
async fn without_installed_programs_the_bundled_ones_start_or_the_remedies_are_printed() {
    let place = Place::new();
    let empty = place.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let hidden = |program: &str| {
        let mut command = place.program("unshare");
        command.args(["--mount", "sh", "-c", HIDE_PROGRAMS, program]).env("NO_PROGRAMS", &empty);
        command
    };
    if !hidden("/bin/true").output().is_ok_and(|output| output.status.success()) {
        return skipped("this user may not make a mount namespace");
    }
    let _alone = STRANGER.lock().await;
    let mut service = Process::start(hidden(BINARY));
    if cfg!(all(feature = "bundled-postgres", target_env = "gnu")) {
        service
            .says(
                "started the bundled PostgreSQL 17.5 (released on 8 May 2025, from the crate pglite-rs-lib-",
            )
            .await;
        service.says("it has no timers").await;
        service.says("the bundled PostgreSQL 17.5 is ").await;
        service.says("minor releases come every three months").await;
        let service = service.ready().await;
        service.takes_a_group().await;
        service.serves_the_group().await;
        service.ends_well_on("INT").await;
        place.assert_no_server();
    } else {
        let ended = service.ended().await;
        assert_eq!(ended.code, Some(2), "{ended:?}");
        let told = "\ngroup-mirror: no DATABASE_URL is set and no PostgreSQL server programs were found.\n";
        assert!(ended.stderr.contains(told), "{ended:?}");
    }
}

#[tokio::test]
async fn the_version_says_what_the_postgresql_inside_the_program_is() {
    let place = Place::new();
    let ended = run(place.command(&["version"])).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    let lines: Vec<_> = ended.stdout.lines().collect();
    let [ours, _commit, _schema, _formats, bundled] = lines[..] else { panic!("{ended:?}") };
    assert_eq!(ours, concat!("group-mirror ", env!("CARGO_PKG_VERSION")));
    if cfg!(all(feature = "bundled-postgres", target_env = "gnu")) {
        let words =
            ["17.5, released on 8 May 2025 (", " months ago), from the crate pglite-rs-lib-", ", SHA-256 "];
        assert!(words.iter().all(|word| bundled.contains(word)), "{bundled}");
    } else {
        assert_eq!(bundled, "bundled PostgreSQL: none");
    }
}

/// Says so.
pub(crate) fn skipped(why: &str) {
    // Past the capture of the test runner: nobody sees the output of a test that passes.
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

#[tokio::test]
async fn with_a_database_url_no_embedded_server_is_made() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let service = Process::start(place.command_on(&database.url, &[])).ready().await;
    let body = sample("Group.CallbackAfterCreateGroup").to_string();
    assert_eq!(service.post(&signed_query(), body).await.text().await.unwrap(), OK);
    assert!(service.log().contains("database: the one of DATABASE_URL"), "{}", service.log());
    service.ends_well_on("TERM").await;
    let made: Vec<_> = std::fs::read_dir(place.path().join("data")).unwrap().flatten().collect();
    assert!(made.iter().all(|entry| entry.file_name() != "postgres"), "{made:?}");
}

#[tokio::test]
async fn an_empty_database_is_migrated_once_and_until_then_serve_says_that_it_is_behind() {
    let (place, database) = (Place::new(), TestDatabase::create_empty().await);
    let mut service = Process::start(place.command_on(&database.url, &["serve"]));
    service.says("read API").await;
    service.says("the schema is behind: ").await;
    let answer = service.get("/readyz").await;
    assert_eq!(answer.status(), 200);
    assert!(answer.text().await.unwrap().contains("run `group-mirror migrate`"));
    for _ in 0..2 {
        let ended = run(place.command_on(&database.url, &["migrate"])).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.stderr.contains("the schema is up to date"), "{ended:?}");
    }
    service.ready().await.ends_well_on("TERM").await;
    assert!(!place.postgres().exists());
}

#[tokio::test]
async fn a_request_in_flight_when_the_service_is_stopped_is_answered() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let mut service = Process::start(place.command_on(&database.url, &[])).ready().await;
    let body = sample("Group.CallbackAfterCreateGroup").to_string();
    let (half, rest) = body.split_at(body.len() / 2);
    let address = service.callback_address();
    let mut stream = TcpStream::connect(&address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    // The interim answer is the sign that the request is being handled: the head alone has been read by then.
    let head = format!(
        "POST /?{} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        signed_query(),
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(half.as_bytes()).unwrap();
    service.signal("TERM");
    service.says("stopping").await;
    stream.write_all(rest.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with(OK), "{answer}");
    assert_eq!(service.ended().await.code, Some(0));
    let mut conn = database.connect().await;
    let kept: i64 = sqlx::query_scalar("SELECT count(*) FROM groups").fetch_one(&mut conn).await.unwrap();
    assert_eq!(kept, 1);
}
