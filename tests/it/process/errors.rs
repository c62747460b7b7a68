//! What the real process says when it cannot run, and what it never says: one line, exit code 2, no secret.

use std::net::TcpListener;
use std::str::FromStr as _;

use clap::CommandFactory as _;
use group_mirror::cli::Cli;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _};

use crate::support::postgres::TestDatabase;
use crate::support::process::{Place, Process, refused, refused_at_last, run};
use crate::support::{API_TOKEN, OK, TOKEN, fake_postgres, sample, signed_query};

/// Only letters and digits, so that a URL holds it as it is.
const PASSWORD: &str = "databasesecret03";

#[tokio::test]
async fn a_bad_setting_is_told_in_one_line() {
    let place = Place::new();
    for (name, value, told) in [
        ("SDK_APP_ID", "12x", "SDK_APP_ID: \"12x\" is not an app id"),
        ("CALLBACK_LISTEN", ":8080", "CALLBACK_LISTEN is \":8080\"; it should be an IP address and a port"),
        ("CALLBACK_LISTEN", "0.0.0.0:0", "CALLBACK_TOKEN is not set"),
        ("RUST_LOG", "a=b=c", "RUST_LOG is \"a=b=c\"; it should read like info"),
        ("LOG_FORMAT", "xml", "LOG_FORMAT is \"xml\"; it should be text or json"),
        ("DATA_DIR", "/dev/null", "DATA_DIR: cannot open /dev/null: Not a directory"),
    ] {
        let mut command = place.command(&[]);
        command.env(name, value);
        let line = refused(command).await;
        assert!(line.starts_with(told), "{line}");
    }
    for (args, told) in [
        (["serve", "--colour"], "unexpected argument '--colour' found; see --help"),
        (["dance", "--data-dir=a"], "unrecognized subcommand 'dance'; see --help"),
        (
            ["migrat", "--data-dir=a"],
            "unrecognized subcommand 'migrat'; a similar subcommand exists: 'migrate'; see --help",
        ),
        (
            ["serve", "--adopt-databas"],
            "unexpected argument '--adopt-databas' found; a similar argument exists: '--adopt-database'; see --help",
        ),
    ] {
        assert_eq!(refused(place.command(&args)).await, told);
    }
}

#[tokio::test]
async fn a_bad_database_url_is_told_without_its_password() {
    let place = Place::new();
    for url in [
        "postgres://mirror:databasesecret03/@db/mirror",
        "databasesecret03",
        "mysql://mirror:databasesecret03@db/x",
    ] {
        for command in ["serve", "migrate"] {
            let line = refused(place.command_on(url, &[command])).await;
            assert!(line.starts_with("DATABASE_URL is no PostgreSQL URL"), "{line}");
            assert!(line.ends_with("it should read postgres://user:password@host:5432/database"), "{line}");
            assert!(!line.contains("secret"), "{line}");
        }
    }
}

#[tokio::test]
async fn a_bad_line_of_the_settings_file_is_told_without_its_value() {
    let place = Place::new();
    std::fs::write(place.path().join(".env"), "API_TOKEN=desk-secret and more\n").unwrap();
    let line = refused(place.command(&[])).await;
    assert!(
        line.starts_with("cannot read /") && line.contains("/.env: it has a line that is no setting"),
        "{line}"
    );
    assert!(!line.contains("secret"), "{line}");
}

#[tokio::test]
async fn an_occupied_port_is_told_in_one_line_before_anything_is_made() {
    let place = Place::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for name in ["CALLBACK_LISTEN", "API_LISTEN"] {
        let mut command = place.command(&[]);
        command.env(name, address.to_string());
        let line = refused(command).await;
        assert!(line.starts_with(&format!("{name}: cannot listen on {address}: ")), "{line}");
    }
    assert!(!place.postgres().exists());
}

#[tokio::test]
async fn a_refused_password_is_told_in_one_line_without_the_password() {
    let place = Place::new();
    for (message, told) in [
        ("password authentication failed for user \"x\"", "password authentication failed for user \"x\""),
        ("no entry\nfor this host", "no entry for this host"),
    ] {
        let (address, given) = fake_postgres::refusing(message);
        let url = format!("postgres://x:{PASSWORD}@{address}/mirror");
        let wanted = format!("cannot connect to the database at {address}: {told}");
        assert_eq!(refused(place.command_on(&url, &["migrate"])).await, wanted);
        assert_eq!(refused_at_last(place.command_on(&url, &["serve"])).await, wanted);
        assert_eq!(*given.lock().unwrap(), [PASSWORD, PASSWORD]);
        let mut loud = place.command_on(&url, &["migrate"]);
        loud.env("RUST_LOG", "trace");
        let ended = run(loud).await;
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(!ended.stderr.contains(PASSWORD), "{ended:?}");
    }
}

#[tokio::test]
async fn a_missing_or_a_foreign_database_is_told_in_one_line() {
    let (place, database) = (Place::new(), TestDatabase::create_empty().await);
    let absent = PgConnectOptions::from_str(&database.url).unwrap().database("absent_mirror");
    let absent = absent.to_url_lossy().to_string();
    let mut conn = database.connect().await;
    conn.execute("CREATE TABLE orders (id int)").await.unwrap();
    let is_missing = |line: &str| {
        assert!(line.starts_with("cannot connect to the database at "), "{line}");
        assert!(line.ends_with(": database \"absent_mirror\" does not exist"), "{line}");
    };
    is_missing(&refused(place.command_on(&absent, &["migrate"])).await);
    is_missing(&refused_at_last(place.command_on(&absent, &["serve"])).await);
    let foreign = "the database belongs to another application: it holds \"orders\" and no migration of ours; \
                   give group-mirror a database of its own";
    assert_eq!(refused(place.command_on(&database.url, &["migrate"])).await, foreign);
    assert_eq!(refused_at_last(place.command_on(&database.url, &["serve"])).await, foreign);
}

#[tokio::test]
async fn no_server_and_one_that_never_answers_are_told_in_one_line() {
    let place = Place::new();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (address, told) in [(free, "Connection refused"), (fake_postgres::silent(), "no answer in 5 s")] {
        let url = format!("postgres://x:{PASSWORD}@{address}/mirror");
        let line = refused(place.command_on(&url, &["migrate"])).await;
        assert!(line.starts_with(&format!("cannot connect to the database at {address}: {told}")), "{line}");
        assert_eq!(line.matches(told).count(), 1, "{line}");
    }
}

#[tokio::test]
async fn no_secret_body_or_query_is_logged_however_loud_the_log_is() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    // A role of its own: the password is right wherever the server asks for it.
    let role = format!("group_mirror_test_role_{}", std::process::id());
    let mut conn = database.connect().await;
    let make = format!(
        "DROP ROLE IF EXISTS {role}; CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}' IN ROLE CURRENT_USER"
    );
    conn.execute(AssertSqlSafe(make)).await.unwrap();
    let options = PgConnectOptions::from_str(&database.url).unwrap().username(&role).password(PASSWORD);
    let url = options.to_url_lossy().to_string();
    assert!(url.contains(PASSWORD));
    let mut command = place.command_on(&format!("{url}&passwd={PASSWORD}"), &["serve"]);
    command.env("RUST_LOG", "trace");
    let service = Process::start(command).ready().await;

    let body = sample("Group.CallbackAfterCreateGroup").to_string();
    let signed = signed_query();
    let query = format!("{signed}&ClientIP=query-secret-04&RequestId=query-secret-05");
    assert_eq!(service.post(&query, body.clone()).await.text().await.unwrap(), OK);
    let wrong = query.replace("Sign=", "Sign=feed");
    assert_eq!(service.post(&wrong, body.clone()).await.status(), 403);
    // Parked or applied in part, each with a reason that quotes it.
    let mut odd = sample("Group.CallbackAfterCreateGroup");
    odd["UserDefinedDataList"] = "body-secret-06".into();
    let when = body.replace("1767225600345", "\"body-secret-07\"");
    let differing = format!("{query}&CallbackCommand=query-secret-08");
    for (query, body, begins, quoted) in [
        (&query, odd.to_string(), "partial: ", "body-secret-06"),
        (&query, when, "parked: ", "body-secret-07"),
        (&differing, body.replace("River walkers", "River runners"), "parked: ", "query-secret-08"),
    ] {
        let answer = service.post(query, body).await.text().await.unwrap();
        assert!(answer.contains(begins) && answer.contains(quoted), "{answer}");
    }
    let path = "/v1/groups?name=query-secret-09";
    assert_eq!(service.get_as(API_TOKEN, path).await.status(), 200);
    assert_eq!(service.get_as("guessed-secret-10", path).await.status(), 401);
    let ended = service.ends_well_on("TERM").await;

    let log = ended.stderr;
    assert!(log.contains(" DEBUG "), "{log}");
    let sign = signed.split('&').find_map(|pair| pair.strip_prefix("Sign=")).unwrap();
    let words = [TOKEN, API_TOKEN, PASSWORD, sign, "-secret-", "RequestTime=", "River ", "boris-2"];
    for line in log.lines() {
        assert!(!words.iter().any(|word| line.contains(word)), "{line}");
    }
    conn.execute(AssertSqlSafe(format!("DROP ROLE {role}"))).await.unwrap();
}

#[tokio::test]
async fn help_has_an_example_everywhere_and_shows_no_secret() {
    let place = Place::new();
    let definition = Cli::command();
    let commands = definition.get_subcommands().map(|command| vec![command.get_name(), "--help"]);
    for args in commands.chain([vec!["--help"], vec!["-h"]]) {
        let url = format!("postgres://x:{PASSWORD}@db/mirror");
        let ended = run(place.command_on(&url, &args)).await;
        assert_eq!(ended.code, Some(0), "{args:?}: {ended:?}");
        assert_eq!(ended.stderr, "", "{args:?}");
        assert!(ended.stdout.contains("\nExample"), "{args:?}: {}", ended.stdout);
        for secret in [TOKEN, API_TOKEN, PASSWORD] {
            assert!(!ended.stdout.contains(secret), "{args:?}: {}", ended.stdout);
        }
    }
}

#[tokio::test]
async fn the_version_is_printed() {
    let ended = run(Place::new().command(&["--version"])).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.stdout, concat!("group-mirror ", env!("CARGO_PKG_VERSION"), "\n"));
}
