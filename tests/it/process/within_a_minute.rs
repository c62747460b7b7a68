//! What an operator finds within a minute: each of eight common faults, provoked with the real program, shows as a line of the
//! log with facts in fields, as a metric, and as words on the health page. The table of docs/operations.md has the same.

use std::process::Command;
use std::time::{Duration, Instant};

use group_mirror::callback::signature::Token;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _};
use tokio::net::TcpSocket;

use crate::durability::isolation::{metric, rename, take};
use crate::durability::spool::create;
use crate::support::postgres::TestDatabase;
use crate::support::process::{BINARY, Place, Process};
use crate::support::{API_TOKEN, APP, TOKEN, eventually, signed_query, unix_now};
use crate::tencent::fake::fake;
use crate::tencent::scripted::KEY;

/// A minute, from the moment of the fault.
const MINUTE: Duration = Duration::from_secs(60);

/// A service whose log is one JSON object a line.
struct Watched {
    service: Process,
    begun: Instant,
}

/// `serve` on a database, with a log for machines.
fn command(place: &Place, database: &TestDatabase) -> Command {
    let mut command = place.command_on(&database.url, &[]);
    command.env("LOG_FORMAT", "json");
    command
}

impl Watched {
    async fn start(command: Command) -> Self {
        let service = Process::start(command).ready().await;
        Self { service, begun: Instant::now() }
    }

    fn lines(&self) -> Vec<Value> {
        self.service.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits for a line whose message begins so, and answers its fields.
    async fn line(&self, message: &str) -> Value {
        let found = || {
            let lines = self.lines();
            lines.into_iter().find(|line| line["message"].as_str().unwrap().starts_with(message))
        };
        assert!(eventually(async || found().is_some()).await, "{message}: {}", self.service.log());
        found().unwrap()
    }

    /// Waits until a series of `/metrics` is at least this.
    async fn series(&self, name: &str, least: f64) {
        let shown = async || {
            let text = self.service.get_as(API_TOKEN, "/metrics").await.text().await.unwrap();
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            value.map(|value| value.parse::<f64>().unwrap())
        };
        let is_seen = async || shown().await.is_some_and(|value| value >= least);
        assert!(eventually(is_seen).await, "{name} is {:?}", shown().await);
    }

    /// Waits until the health page has these words in a card that is not as it should be.
    async fn page(&self, card: &str, words: &[&str]) {
        let shown = async || {
            let page = self.service.get_as(API_TOKEN, "/health").await.text().await.unwrap();
            let begin = page.find(&format!("id=\"card-{card}\"")).unwrap_or_else(|| panic!("{card}: {page}"));
            page[begin..].split("</section>").next().unwrap().to_owned()
        };
        let is_seen = async || {
            let card = shown().await;
            card.contains("What to do:") && words.iter().all(|word| card.contains(word))
        };
        assert!(eventually(is_seen).await, "{words:?}: {}", shown().await);
    }

    /// All of it was found in time; the service ends well.
    async fn ends(self) {
        assert!(self.begun.elapsed() < MINUTE, "it took {:?}", self.begun.elapsed());
        self.service.ends_well_on("TERM").await;
    }
}

/// A query that is signed with another token, or at another time.
fn query(token: &str, at: u64) -> String {
    let sign = Token::new(token.into()).sign(&at.to_string());
    format!("SdkAppid={APP}&Sign={sign}&RequestTime={at}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_and_a_clock_that_is_off_by_five_minutes() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let watched = Watched::start(command(&place, &database)).await;
    for query in [query("of another console", unix_now()), query(TOKEN, unix_now() - 300)] {
        assert_eq!(watched.service.post(&query, create("x").to_string()).await.status(), 403);
    }
    let wrong = watched.line("1 request was not taken: signature wrong: is CALLBACK_TOKEN").await;
    assert_eq!((&wrong["refusal.cause"], &wrong["refusal.app"]), (&json!("wrong"), &json!(1_400_000_001)));
    let stale = watched.line("1 request was not taken: the signature is too old or from the future").await;
    assert_eq!((&stale["refusal.cause"], &stale["level"]), (&json!("stale"), &json!("WARN")));
    assert!(stale["message"].as_str().unwrap().contains("s behind this host's clock"), "{stale}");
    for cause in ["wrong", "stale"] {
        let series = format!("group_mirror_refusals_total{{cause=\"{cause}\",app=\"{APP}\"}}");
        watched.series(&series, 1.0).await;
    }
    watched.page("refusals", &["Signature wrong: 1", "Signature too old, or from the future: 1"]).await;
    watched.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_read_only_is_one_error_line_and_its_end_says_how_long_and_how_much_waits() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let watched = Watched::start(command(&place, &database)).await;
    take(&watched.service, &create("before")).await;
    let mut conn = database.connect().await;
    let name: String = sqlx::query_scalar("SELECT current_database()").fetch_one(&mut conn).await.unwrap();
    let set = async |conn: &mut sqlx::PgConnection, value: &str| {
        let set = format!(
            "SET default_transaction_read_only = off; \
             ALTER DATABASE {name} SET default_transaction_read_only = {value}; \
             SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() \
             AND pid <> pg_backend_pid()"
        );
        conn.execute(AssertSqlSafe(set)).await.unwrap();
    };
    set(&mut conn, "on").await;
    for number in 0..5 {
        take(&watched.service, &create(&format!("while {number}"))).await;
    }
    let begun = watched.line("PostgreSQL does not commit (").await;
    assert_eq!(begun["level"], "ERROR");
    assert!(begun["cause"].as_str().unwrap().contains("read-only"), "{begun}");
    watched.series("group_mirror_breaker_open", 1.0).await;
    watched.page("database", &["read-only"]).await;
    set(&mut conn, "off").await;
    let ended = watched.line("PostgreSQL commits again, after ").await;
    assert!(ended["outage.seconds"].as_f64().unwrap() > 0.0, "{ended}");
    assert!(ended["spool.depth"].as_u64().unwrap() >= 4, "{ended}");
    assert!(ended["message"].as_str().unwrap().ends_with("callbacks wait in the spool"), "{ended}");
    let errors = watched.lines().into_iter().filter(|line| line["level"] == "ERROR").count();
    assert_eq!(errors, 1, "{}", watched.service.log());
    watched.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_the_spool_while_the_database_is_away() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let inner = command(&place, &database);
    // No file may grow: to the program that is a full disk.
    let mut limited = place.program("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$0\" serve", BINARY]);
    limited.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let watched = Watched::start(limited).await;
    database.refuse_connections().await;
    let lost =
        async || watched.service.post(&signed_query(), create("lost").to_string()).await.status() == 503;
    assert!(eventually(lost).await, "{}", watched.service.log());
    let failed = watched.line("the spool failed").await;
    assert_eq!((&failed["cause"], &failed["level"]), (&json!("disk_full"), &json!("ERROR")), "{failed}");
    let gap = watched.line("a gap begins: callbacks are not durable").await;
    assert_eq!(gap["gap.app"], 1_400_000_001, "{gap}");
    watched.series("group_mirror_spool_failing", 1.0).await;
    watched.page("spool", &["the disk of the spool is full"]).await;
    // That the spool fails as well hides nothing of what the database does, and nothing goes there.
    let begun = watched.line("PostgreSQL does not commit (").await;
    let message = begun["message"].as_str().unwrap();
    assert!(
        message.ends_with(
            "callbacks are tried there all the same, because the spool cannot be written, until it does"
        ),
        "{message}"
    );
    watched.series("group_mirror_breaker_open", 1.0).await;
    watched.page("database", &["database away, spool takes no callback"]).await;
    let ready = watched.service.get_as(API_TOKEN, "/readyz").await;
    assert_eq!(ready.status(), 503);
    let ready: Value = ready.json().await.unwrap();
    assert_eq!(ready["database"], "it does not commit in time", "{ready}");
    assert!(metric(&watched.service, "group_mirror_lost_total").await > 0.5);
    let failures = watched.lines().into_iter().filter(|line| line["message"] == failed["message"]).count();
    assert_eq!(failures, 1, "{}", watched.service.log());
    database.allow_connections().await;
    watched.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_another_session_has_locked() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let watched = Watched::start(command(&place, &database)).await;
    for group in ["locked", "free"] {
        take(&watched.service, &create(group)).await;
    }
    let mut conn = database.connect().await;
    conn.execute("BEGIN; SELECT 1 FROM groups WHERE group_id = 'locked' FOR UPDATE").await.unwrap();
    take(&watched.service, &rename("locked", 1)).await;
    let line = watched.line("set aside: its callbacks wait in the spool").await;
    assert_eq!((&line["group.id"], &line["app"]), (&json!("locked"), &json!(1_400_000_001)), "{line}");
    assert!(line["error"].as_str().unwrap().contains("lock"), "{line}");
    watched.series(&format!("group_mirror_set_aside_current{{app=\"{APP}\"}}"), 1.0).await;
    watched.page("aside", &["group &quot;locked&quot;"]).await;
    conn.execute("COMMIT").await.unwrap();
    watched.line("what was set aside is applied").await;
    watched.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_tencent_refuses() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let fake = fake(&json!({}), None, 1).await;
    let mut command = command(&place, &database);
    command.env("TENCENT_API_URL", format!("http://{}", fake.addr));
    command.env("TENCENT_SECRET_KEY", KEY.chars().rev().collect::<String>());
    let watched = Watched::start(command).await;
    let line = watched.line(&format!("the pass over app {APP} stopped: ")).await;
    assert_eq!((&line["app"], &line["level"]), (&json!(APP), &json!("ERROR")), "{line}");
    let cause = line["cause"].as_str().unwrap();
    assert!(cause.contains("UserSig verification failed"), "{line}");
    assert!(line["message"].as_str().unwrap().ends_with("`group-mirror check` says what to do"), "{line}");
    watched.series("group_mirror_pass_stopped", 1.0).await;
    watched.page("passes", &["UserSig verification failed", "group-mirror check"]).await;
    watched.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_behind_the_mirror_that_is_down() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    // Bound and not listening: connections are refused, and no other program gets the port.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let mut command = command(&place, &database);
    command.env("RELAY_URL", format!("http://{}/callback", socket.local_addr().unwrap()));
    let watched = Watched::start(command).await;
    for number in 0..4 {
        take(&watched.service, &create(&format!("g{number}"))).await;
    }
    let line = watched.line("the backend of the relay takes no after-callbacks").await;
    assert_eq!(line["app"], APP, "{line}");
    assert!(line["failure"].is_string(), "{line}");
    watched.series(&format!("group_mirror_relay_failed_total{{app=\"{APP}\"}}"), 3.0).await;
    watched.series(&format!("group_mirror_relay_backlog_rows{{app=\"{APP}\"}}"), 4.0).await;
    watched.page("relay", &["The backend took a callback last"]).await;
    watched.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_is_behind() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let mut conn = database.connect().await;
    let newest = "(SELECT max(version) FROM _sqlx_migrations)";
    let keep = format!(
        "CREATE TABLE public.kept AS SELECT * FROM _sqlx_migrations WHERE version = {newest}; \
         DELETE FROM _sqlx_migrations WHERE version = {newest}"
    );
    conn.execute(AssertSqlSafe(keep)).await.unwrap();
    let mut service = Process::start(command(&place, &database));
    service.says("until that is mended").await;
    let watched = Watched { service, begun: Instant::now() };
    take(&watched.service, &create("while")).await;
    let fits = async || metric(&watched.service, "group_mirror_database_fits").await;
    let is_behind = async || {
        let text = watched.service.get_as(API_TOKEN, "/metrics").await.text().await.unwrap();
        text.contains("\ngroup_mirror_database_fits 0\n")
    };
    assert!(eventually(is_behind).await);
    let line = watched.lines().into_iter().find(|line| line["cause"].is_string()).unwrap();
    assert!(line["cause"].as_str().unwrap().contains("group-mirror migrate"), "{line}");
    assert_eq!(line["level"], "ERROR");
    watched.page("database", &["group-mirror migrate"]).await;
    conn.execute("INSERT INTO _sqlx_migrations SELECT * FROM kept; DROP TABLE kept").await.unwrap();
    let ended = watched.line("the schema fits; serving, after ").await;
    assert!(ended["outage.seconds"].as_f64().unwrap() > 0.0 && ended["spool.depth"] == 1, "{ended}");
    assert!(eventually(async || fits().await > 0.5).await);
    watched.ends().await;
}
