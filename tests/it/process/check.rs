//! `check` as a person runs it: what is right is `ok`, and each thing that can be wrong is one line with a remedy, beside a
//! running `serve` or without one.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::str::FromStr as _;

use serde_json::Value;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _};
use tokio::net::TcpListener;

use crate::durability::spool::create;
use crate::support::postgres::TestDatabase;
use crate::support::process::{Ended, Place, Process, run};
use crate::support::{API_TOKEN, APP, TOKEN, sample, signed_query};

/// What was printed: its lines by level, subject and text.
pub(crate) struct Checked {
    pub(crate) ended: Ended,
}

impl Checked {
    pub(crate) async fn of(command: Command) -> Self {
        let ended = run(command).await;
        assert_eq!(ended.stderr, "", "{}", ended.stdout);
        Self { ended }
    }

    /// The lines of a subject.
    pub(crate) fn lines(&self, subject: &str) -> Vec<&str> {
        let of = |line: &&str| {
            line.get(9..).is_some_and(|rest| {
                rest.starts_with(&format!("{subject}:")) || rest.starts_with(&format!("{subject} "))
            })
        };
        self.ended.stdout.lines().filter(of).collect()
    }

    /// Asserts that a subject has one line, of this level, which holds these words.
    #[track_caller]
    pub(crate) fn says(&self, level: &str, subject: &str, words: &str) {
        let lines = self.lines(subject);
        let found = lines.iter().filter(|line| line.starts_with(level) && line.contains(words)).count();
        assert!(
            found == 1 && (level == "ok" || lines.iter().any(|line| line.contains("; remedy: "))),
            "{level} {subject} {words}:\n{}",
            self.ended.stdout
        );
    }

    /// Asserts the exit code, and that nothing secret was printed.
    #[track_caller]
    pub(crate) fn ends_with(&self, code: i32) {
        assert_eq!(self.ended.code, Some(code), "{}", self.ended.stdout);
        for secret in [TOKEN, API_TOKEN, "hush"] {
            assert!(!self.ended.stdout.contains(secret), "{secret}: {}", self.ended.stdout);
        }
    }
}

/// `check` with the addresses of a running service.
fn beside(place: &Place, url: &str, service: &Process, args: &[&str]) -> Command {
    let mut command = place.command_on(url, args);
    command.env("CALLBACK_LISTEN", service.callback_address()).env("API_LISTEN", service.api_address());
    command
}

/// A port on which nothing listens.
async fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn everything_is_ok_beside_a_running_service_which_goes_on_undisturbed() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let service = Process::start(place.command_on(&database.url, &[])).ready().await;
    for _ in 0..3 {
        let checked = Checked::of(beside(&place, &database.url, &service, &["check"])).await;
        checked.ends_with(0);
        for subject in [
            "settings",
            "data_dir",
            "fsync",
            "service",
            "spool",
            "callback_listener",
            "api_listener",
            "database",
            "database_clock",
            "rights",
            "schema",
            "database_id",
        ] {
            checked.says("ok", subject, "");
        }
        assert_eq!(checked.lines("callbacks").len(), 11);
        assert!(checked.lines("callbacks").iter().all(|line| line.contains("never seen; the mirror has no")));
        assert!(checked.ended.stdout.lines().last().unwrap().ends_with(" 0 wrong"));
    }
    let answer = service.post(&signed_query(), create("after the check").to_string()).await;
    assert_eq!(answer.status(), 200);
    assert!(!service.log().contains("ERROR") && !place.path().join("data/check.tmp").exists());
    service.ends_well_on("TERM").await;
}

#[tokio::test]
async fn json_has_the_same_as_one_object_a_line() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let ended = run(place.command_on(&database.url, &["check", "--json"])).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let lines: Vec<Value> = ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.len() > 20);
    for line in &lines {
        let level = line["level"].as_str().unwrap();
        assert!(
            ["ok", "warning"].contains(&level) && line["subject"].is_string() && line["found"].is_string()
        );
        assert_eq!(line["remedy"].is_string(), level != "ok", "{line}");
    }
    assert!(lines.iter().any(|line| line["subject"] == "callbacks"
        && line["of"] == format!("{APP} Group.CallbackAfterCreateGroup")));
}

#[tokio::test]
async fn all_wrong_and_missing_settings_are_named_in_one_go() {
    let place = Place::new();
    let mut command = place.command(&["check"]);
    for (name, value) in [
        ("DATABASE_URL", "postgres://mirror:hush@127.0.0.1:1/mirror"),
        ("CALLBACK_LISTEN", "nonsense"),
        ("API_AUTH", "perhaps"),
        ("IDLE_SECS", "0"),
        ("SPOOL_MAX_BYTES", "tiny"),
        ("TENCENT_SECRET_KEY", "hush"),
        ("RELAY_URL", "http://hush:hush@backend.example.org/"),
        ("LOG_FORMAT", "xml"),
    ] {
        command.env(name, value);
    }
    std::fs::write(place.path().join(".env"), "CALLBACK_TOKENS=hush\nIDLE_SECS=\n").unwrap();
    let checked = Checked::of(command).await;
    checked.ends_with(1);
    for name in [
        "CALLBACK_LISTEN",
        "API_AUTH",
        "IDLE_SECS",
        "SPOOL_MAX_BYTES",
        "TENCENT_API_URL",
        "RELAY_URL",
        "LOG_FORMAT",
        "SDK_APP_ID",
        "CALLBACK_TOKEN",
    ] {
        let found = checked
            .lines("settings")
            .iter()
            .filter(|line| line.starts_with(&format!("wrong    settings {name}: ")))
            .count();
        assert_eq!(found, 1, "{name}: {}", checked.ended.stdout);
    }
    checked.says("warning", "settings", "CALLBACK_TOKENS");
    assert!(checked.lines("settings").iter().all(|line| !line.starts_with("ok")));
    // What stands in for a wrong setting is not looked at in its place.
    assert!(checked.lines("callback_listener").is_empty() && checked.lines("callbacks").is_empty());
    checked.says("wrong", "database", "127.0.0.1:1");
}

#[tokio::test]
async fn an_app_that_is_none_of_the_settings_cannot_be_checked() {
    let place = Place::new();
    let ended = run(place.command(&["check", "--app", "1400000009"])).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""));
    assert!(ended.stderr.contains("--app is 1400000009, which is not one of SDK_APP_ID"), "{}", ended.stderr);
}

#[tokio::test]
async fn a_first_start_without_anything_has_warnings_and_makes_nothing() {
    let place = Place::new();
    let checked = Checked::of(place.command(&["check"])).await;
    checked.ends_with(0);
    checked.says("warning", "data_dir", "there is no");
    checked.says("warning", "database", "holds no embedded PostgreSQL yet");
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0, "nothing was made");
}

#[tokio::test]
async fn a_data_directory_that_others_can_write_to_is_wrong_and_named_once() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let data = place.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o777)).unwrap();
    let checked = Checked::of(place.command_on(&database.url, &["check"])).await;
    checked.ends_with(1);
    checked.says("wrong", "data_dir", "can be written to by other users (mode 0777)");
    assert!(checked.lines("spool").is_empty() && checked.lines("fsync").is_empty());
}

#[tokio::test]
async fn of_a_directory_that_another_user_owns_nothing_is_claimed_but_that() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let service = Process::start(place.command_on(&database.url, &[])).ready().await;
    let data = place.path().join("data");
    if std::os::unix::fs::chown(&data, Some(65_534), None).is_err() {
        return; // Only root can give a directory away.
    }
    let checked = Checked::of(beside(&place, &database.url, &service, &["check"])).await;
    checked.ends_with(1);
    checked.says("wrong", "data_dir", "belongs to user id 65534");
    checked.says("ok", "api_listener", "a group-mirror answers");
    checked.says("ok", "database_id", "was not read");
    assert!(checked.lines("service").is_empty() && checked.lines("spool").is_empty());
    service.ends_well_on("TERM").await;
}

#[tokio::test]
async fn a_spool_that_needs_more_room_than_there_is_is_a_warning() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let mut command = place.command_on(&database.url, &["check"]);
    command.env("SPOOL_MAX_BYTES", "900T");
    let checked = Checked::of(command).await;
    checked.says("warning", "volume", "the spool may take");
    checked.ends_with(0);
}

#[tokio::test]
async fn what_waits_in_a_spool_is_counted_after_a_stop_and_after_a_kill_and_damage_is_wrong() {
    let place = Place::new();
    let dead = format!("postgres://mirror:hush@127.0.0.1:{}/mirror", closed_port().await);
    let mut service = Process::start(place.command_on(&dead, &[]));
    service.says("read API").await;
    for number in 0..3 {
        let body = create(&format!("waits {number}")).to_string();
        assert_eq!(service.post(&signed_query(), body).await.status(), 200);
    }
    let checked = Checked::of(beside(&place, &dead, &service, &["check"])).await;
    checked.ends_with(1);
    checked.says("wrong", "service", "a `serve` works on this data directory");
    checked.says("ok", "spool", "3 callbacks wait");
    service.ends_well_on("TERM").await;
    let checked = Checked::of(place.command_on(&dead, &["check"])).await;
    checked.says("warning", "spool", "readable");
    checked.says("warning", "spool", "3 callbacks wait");
    checked.says("ok", "service", "no `serve`");
    let mut service = Process::start(place.command_on(&dead, &[]));
    service.says("read API").await;
    assert_eq!(service.post(&signed_query(), create("one more").to_string()).await.status(), 200);
    service.signal("KILL");
    service.ended().await;
    let checked = Checked::of(place.command_on(&dead, &["check"])).await;
    checked.says("warning", "spool", "not closed in order (its process was killed); 4 callbacks wait");
    std::fs::write(place.path().join("data/spool.redb"), vec![7; 8192]).unwrap();
    let checked = Checked::of(place.command_on(&dead, &["check"])).await;
    checked.ends_with(1);
    checked.says("wrong", "spool", "damaged");
}

/// Whether a process has a file of that name open; where there is no `/proc` it is taken to have.
fn has_open(pid: u32, name: &str) -> bool {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return true };
    entries.flatten().any(|entry| std::fs::read_link(entry.path()).is_ok_and(|path| path.ends_with(name)))
}

#[tokio::test]
async fn a_start_waits_while_the_lock_of_its_directory_is_looked_at() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    Process::start(place.command_on(&database.url, &[])).ready().await.ends_well_on("TERM").await;
    let lock = std::fs::File::options().write(true).open(place.path().join("data/serve.lock")).unwrap();
    lock.lock().unwrap();
    let mut service = Process::start(place.command_on(&database.url, &[]));
    service.until(|service| has_open(service.pid(), "serve.lock"), "it opens the file of the lock").await;
    drop(lock);
    service.ready().await.ends_well_on("TERM").await;
}

#[tokio::test]
async fn a_port_of_another_program_and_one_of_another_mirror_are_wrong() {
    let (place, other, database) = (Place::new(), Place::new(), TestDatabase::create().await);
    let service = Process::start(other.command_on(&database.url, &[])).ready().await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut command = place.command_on(&database.url, &["check"]);
    command.env("CALLBACK_LISTEN", silent.local_addr().unwrap().to_string());
    command.env("API_LISTEN", service.api_address());
    let checked = Checked::of(command).await;
    checked.ends_with(1);
    checked.says("wrong", "callback_listener", "is in use: it does not answer");
    checked.says("wrong", "api_listener", "another group-mirror, of another data directory");
    let mut command = place.command_on(&database.url, &["check"]);
    command.env("CALLBACK_LISTEN", "203.0.113.7:80");
    let checked = Checked::of(command).await;
    checked.says("wrong", "callback_listener", "203.0.113.7:80 cannot be used");
    service.ends_well_on("TERM").await;
}

#[tokio::test]
async fn a_database_that_cannot_be_used_is_one_line_with_its_remedy() {
    let place = Place::new();
    let empty = TestDatabase::create_empty().await;
    let checked = Checked::of(place.command_on(&empty.url, &["check"])).await;
    checked.ends_with(1);
    checked.says("wrong", "schema", "remedy: run `group-mirror migrate`");
    checked.says("ok", "database", "in UTF8");
    assert!(checked.lines("callbacks").is_empty() && checked.lines("database_id").is_empty());
    let latin = TestDatabase::create_in("LATIN1").await;
    let checked = Checked::of(place.command_on(&latin.url, &["check"])).await;
    checked.says("wrong", "database", "encoded in LATIN1");
    let ahead = TestDatabase::create().await;
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
                 VALUES (9999, 'newer', true, '\\x00', 0)";
    ahead.connect().await.execute(newer).await.unwrap();
    let checked = Checked::of(place.command_on(&ahead.url, &["check"])).await;
    checked.says("wrong", "schema", "is ahead");
    let url = format!("postgres://mirror:hush@127.0.0.1:{}/mirror", closed_port().await);
    let checked = Checked::of(place.command_on(&url, &["check"])).await;
    checked.ends_with(1);
    checked.says("wrong", "database", "remedy: start the server");
    let checked = Checked::of(place.command_on("mysql://hush@db/mirror", &["check"])).await;
    checked.ends_with(1);
    checked.says("wrong", "database", "DATABASE_URL");
}

#[tokio::test]
async fn a_missing_right_a_read_only_role_and_few_connections_are_found() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let role = format!("group_mirror_check_{}", std::process::id());
    let mut conn = database.connect().await;
    let make = format!(
        "DROP ROLE IF EXISTS {role}; CREATE ROLE {role} LOGIN CONNECTION LIMIT 9;
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role};
         REVOKE DELETE ON ledger FROM {role}"
    );
    conn.execute(AssertSqlSafe(make)).await.unwrap();
    let options = PgConnectOptions::from_str(&database.url).unwrap().username(&role);
    let name = options.get_database().unwrap().to_owned();
    let url = options.to_url_lossy().to_string();
    let checked = Checked::of(place.command_on(&url, &["check"])).await;
    checked.ends_with(1);
    checked.says("wrong", "rights", &format!("GRANT DELETE ON ledger TO {role}"));
    checked.says("wrong", "rights", &format!("ON SEQUENCE ledger_position_seq TO {role}"));
    checked.says("warning", "connections", "9 allowed");
    checked.says("ok", "schema", "");
    let read_only = format!("ALTER ROLE {role} IN DATABASE {name} SET default_transaction_read_only = on");
    conn.execute(AssertSqlSafe(read_only)).await.unwrap();
    let checked = Checked::of(place.command_on(&url, &["check"])).await;
    checked.says("wrong", "database", "read-only");
    let hide = format!("REVOKE SELECT ON _sqlx_migrations FROM {role}");
    conn.execute(AssertSqlSafe(hide)).await.unwrap();
    let checked = Checked::of(place.command_on(&url, &["check"])).await;
    checked.says("wrong", "rights", &format!("GRANT SELECT ON _sqlx_migrations TO {role}"));
    assert!(checked.lines("schema").is_empty());
    conn.execute(AssertSqlSafe(format!("DROP OWNED BY {role}; DROP ROLE {role}"))).await.unwrap();
}

#[tokio::test]
async fn a_database_that_the_data_directory_does_not_know_is_wrong() {
    let (place, mine, other) = (Place::new(), TestDatabase::create().await, TestDatabase::create().await);
    // Databases of one template have one id.
    other
        .connect()
        .await
        .execute("UPDATE database_identity SET database_id = gen_random_uuid()")
        .await
        .unwrap();
    Process::start(place.command_on(&mine.url, &[])).ready().await.ends_well_on("TERM").await;
    Checked::of(place.command_on(&mine.url, &["check"])).await.says("ok", "database_id", "knows");
    let checked = Checked::of(place.command_on(&other.url, &["check"])).await;
    checked.ends_with(1);
    checked.says("wrong", "database_id", "--adopt-database");
}

#[tokio::test]
async fn commands_that_never_came_are_named_beside_what_their_switch_would_explain() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let service = Process::start(place.command_on(&database.url, &[])).ready().await;
    let body = sample("Group.CallbackAfterCreateGroup").to_string();
    assert_eq!(service.post(&signed_query(), body).await.status(), 200);
    let checked = Checked::of(beside(&place, &database.url, &service, &["check"])).await;
    checked.ends_with(0);
    checked.says("ok", &format!("callbacks {APP} Group.CallbackAfterCreateGroup"), "last seen at 20");
    checked.says(
        "warning",
        &format!("callbacks {APP} Group.CallbackAfterMemberExit"),
        "the mirror has 1 groups; while it is switched off members that left are still shown",
    );
    checked.says("ok", &format!("callbacks {APP} Group.CallbackAfterCreateTopic"), "no communities");
    service.ends_well_on("TERM").await;
}

#[tokio::test]
async fn a_server_that_does_not_answer_ends_the_look_at_it_with_a_line() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let mut locking = database.connect().await;
    locking.execute("BEGIN; LOCK TABLE _sqlx_migrations IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let checked = Checked::of(place.command_on(&database.url, &["check"])).await;
    checked.ends_with(1);
    checked.says("wrong", "database", "the server did not answer in 10 s");
    checked.says("ok", "rights", "");
    assert!(checked.lines("callbacks").is_empty());
}
