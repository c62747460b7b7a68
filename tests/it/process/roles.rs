//! The roles of `deploy/roles.sql`: the script is run by psql as its head says, then each command under the role that the
//! script names for it, on a server of the test's own.

use std::path::PathBuf;
use std::process::Command;
use std::str::FromStr as _;

use group_mirror::store::partitions;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection};

use super::lifecycle::skipped;
use crate::retention::partitions::{assert_complete, bounds, drop_weeks_ahead};
use crate::support::cluster::Cluster;
use crate::support::process::{Ended, Place, Process, run};
use crate::support::{API_TOKEN, eventually, sample, signed_query};

/// A password that a URL and an SQL literal would misread.
const PASSWORD: &str = "it's a p@ss";

/// A server with the script run on it; the place in which commands run.
struct Roles {
    cluster: Cluster,
    place: Place,
}

impl Roles {
    /// As the superuser; answers what psql printed.
    async fn run_script(&self) -> String {
        self.run_script_with(&[]).await
    }

    async fn run_script_with(&self, args: &[&str]) -> String {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("deploy/roles.sql");
        let mut psql = self.place.program("psql");
        psql.args(["-X", "-d"]).arg(self.cluster.url()).arg("-f").arg(script).args(args);
        psql.env("SERVICE_PASSWORD", PASSWORD).env("OWNER_PASSWORD", "owner");
        let ended = run(psql).await;
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
        ended.stdout
    }

    fn options(&self, role: &str) -> PgConnectOptions {
        PgConnectOptions::from_str(&self.cluster.url()).unwrap().username(role).database("mirror")
    }

    fn command(&self, role: &str, args: &[&str]) -> Command {
        self.place.command_on(self.options(role).to_url_lossy().as_str(), args)
    }

    async fn run(&self, role: &str, args: &[&str]) -> Ended {
        run(self.command(role, args)).await
    }

    async fn works(&self, role: &str, args: &[&str]) -> Ended {
        let ended = self.run(role, args).await;
        assert_eq!(ended.code, Some(0), "{args:?} as {role}: {ended:?}");
        ended
    }

    async fn connect(&self, role: &str) -> PgConnection {
        PgConnection::connect_with(&self.options(role)).await.unwrap()
    }

    /// Why a statement is refused; an empty text where it is not.
    async fn refusal(&self, role: &str, statement: &'static str) -> String {
        let mut conn = self.connect(role).await;
        sqlx::query(statement)
            .execute(&mut conn)
            .await
            .map_or_else(|error| error.to_string(), |_| String::new())
    }
}

/// As the script's head says. None: psql is not installed.
async fn prepared() -> Option<Roles> {
    if Command::new("psql").arg("--version").output().is_err() {
        skipped("psql is not installed");
        return None;
    }
    let roles = Roles { cluster: Cluster::create().await, place: Place::new() };
    assert!(roles.run_script().await.contains("Next: group-mirror migrate as the owner"));
    roles.works("mirror_owner", &["migrate"]).await;
    assert!(roles.run_script().await.contains("Roles, database and rights are there."));
    Some(roles)
}

#[tokio::test]
async fn serve_and_the_commands_beside_it_work_with_the_rights_of_the_script() {
    let Some(roles) = prepared().await else { return };
    let service = Process::start(roles.command("mirror", &["serve"])).ready().await;
    let (callbacks, api) = (service.callback_address(), service.api_address());
    let answer = service.post(&signed_query(), sample("Group.CallbackAfterCreateGroup").to_string()).await;
    assert_eq!(answer.status(), 200);
    let urls = [format!("--callback-url=http://{callbacks}/callback"), format!("--api-url=http://{api}")];
    let simulate =
        ["simulate", "--callbacks", "300", "--groups", "10", "--verify", "--rows", &urls[0], &urls[1]];
    roles.works("mirror", &simulate).await;
    let checked = roles.run("mirror", &["check", "--json"]).await;
    assert!(!checked.stdout.contains("GRANT"), "{checked:?}");
    roles.works("mirror", &["replay", "--verify"]).await;
    roles.works("mirror", &["replay"]).await;
    roles.works("mirror", &["replay", "--parked"]).await;
    roles.works("mirror", &["relay", "--status"]).await;
    let ended = service.ends_well_on("TERM").await;
    for fault in ["lacks a right", "permission denied"] {
        assert!(!ended.stderr.contains(fault), "{}", ended.stderr);
    }
}

#[tokio::test]
async fn the_service_makes_partitions_of_tables_that_its_role_does_not_own_and_they_open_nothing() {
    let Some(roles) = prepared().await else { return };
    let mut owner = roles.connect("mirror_owner").await;
    drop_weeks_ahead(&mut owner).await;
    let mut service = Process::start(roles.command("mirror", &["serve"])).ready().await;
    service.says("partitions of the ledger: ledger_people_").await;
    let days = async || partitions::ahead(&mut roles.connect("mirror_owner").await).await.unwrap().num_days();
    assert!(eventually(async || days().await >= 28).await, "{}", service.log());
    let answer = service.post(&signed_query(), sample("Group.CallbackAfterCreateGroup").to_string()).await;
    assert_eq!(answer.status(), 200);
    service.ends_well_on("TERM").await;
    assert_complete(&mut owner).await;
    let owners: Vec<String> = sqlx::query_scalar(
        "SELECT DISTINCT pg_get_userbyid(relowner)::text FROM pg_class WHERE relispartition AND relkind = 'r'",
    )
    .fetch_all(&mut owner)
    .await
    .unwrap();
    assert_eq!(owners, ["mirror_owner"]);
    roles.works("mirror", &["replay", "--verify"]).await;
    sqlx::query("REVOKE SELECT ON ledger FROM mirror_read").execute(&mut owner).await.unwrap();
    let mut reader = roles.connect("mirror_read").await;
    sqlx::query("SELECT count(*) FROM groups").execute(&mut reader).await.unwrap();
    for (part, ..) in bounds(&mut owner, "ledger").await {
        let read = sqlx::query(AssertSqlSafe(format!("SELECT FROM {part}"))).execute(&mut reader).await;
        assert!(read.is_err(), "{part} is open");
    }
}

/// The function runs as the owner, and its locks on the ledger are held until the transaction of its caller ends.
#[tokio::test]
async fn who_reads_by_sql_cannot_make_partitions_and_each_role_has_its_functions_where_public_has_none() {
    let Some(roles) = prepared().await else { return };
    let mut owner = roles.connect("mirror_owner").await;
    drop_weeks_ahead(&mut owner).await;
    let step = "SELECT ledger_partition_step()";
    assert!(roles.refusal("mirror_read", step).await.contains("permission denied for function"));
    sqlx::query("REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC")
        .execute(&mut owner)
        .await
        .unwrap();
    for role in ["mirror", "mirror_eraser", "mirror_read"] {
        assert_eq!(roles.refusal(role, "SELECT body FROM ledger_entries").await, "");
    }
    assert_eq!(roles.refusal("mirror", step).await, "");
    let taken = "REVOKE EXECUTE ON FUNCTION ledger_partition_step() FROM mirror";
    sqlx::query(taken).execute(&mut owner).await.unwrap();
    let checked = roles.run("mirror", &["check", "--json"]).await;
    assert!(
        checked.stdout.contains("GRANT EXECUTE ON FUNCTION ledger_partition_step TO mirror"),
        "{checked:?}"
    );
    roles.run_script().await;
    let checked = roles.run("mirror", &["check", "--json"]).await;
    assert!(!checked.stdout.contains("GRANT"), "{checked:?}");
    let service = Process::start(roles.command("mirror", &["serve"])).ready().await;
    let days = async || partitions::ahead(&mut roles.connect("mirror_owner").await).await.unwrap().num_days();
    assert!(eventually(async || days().await >= 28).await, "{}", service.log());
    service.ends_well_on("TERM").await;
}

#[tokio::test]
async fn a_role_that_may_call_no_function_sees_the_end_of_the_partitions_come() {
    let Some(roles) = prepared().await else { return };
    let mut owner = roles.connect("mirror_owner").await;
    drop_weeks_ahead(&mut owner).await;
    let taken = "REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC, mirror";
    sqlx::query(taken).execute(&mut owner).await.unwrap();
    let mut service = Process::start(roles.command("mirror", &["serve"])).ready().await;
    service.says("no further partition of the ledger could be made").await;
    let ahead = async || {
        let text = service.get_as(API_TOKEN, "/metrics").await.text().await.unwrap();
        let value =
            |line: &str| line.strip_prefix("group_mirror_partitions_ahead_seconds ")?.parse::<f64>().ok();
        text.lines().find_map(value)
    };
    let a_week = 7.0 * 24.0 * 60.0 * 60.0;
    assert!(
        eventually(async || ahead().await.is_some_and(|ahead| ahead < a_week)).await,
        "{:?}",
        ahead().await
    );
    service.ends_well_on("TERM").await;
}

/// After a restore of the ledger alone the sequence stands at its start: new entries would get positions of old ones.
#[tokio::test]
async fn a_role_that_may_call_no_function_still_moves_positions_on_behind_what_was_restored() {
    let Some(roles) = prepared().await else { return };
    let mut owner = roles.connect("mirror_owner").await;
    let restored = "REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC, mirror;
        INSERT INTO ledger (sdk_app_id, group_id, time_ms, digest, command, received_at, source, outcome, body, position)
        VALUES (7, 'g', 1767225600000, substr(sha256('g'), 1, 16), 'c', now(), 'callback', 'applied', '{}', 1000000)";
    sqlx::raw_sql(restored).execute(&mut owner).await.unwrap();
    let service = Process::start(roles.command("mirror", &["serve"])).ready().await;
    let owner = tokio::sync::Mutex::new(owner);
    let is_behind = async || {
        let last = sqlx::query_scalar::<_, i64>("SELECT last_value FROM ledger_position_seq");
        last.fetch_one(&mut *owner.lock().await).await.unwrap() >= 1_000_000
    };
    assert!(eventually(is_behind).await, "{}", service.log());
    service.ends_well_on("TERM").await;
}

#[tokio::test]
async fn a_table_that_was_dropped_is_made_again_by_the_owner_alone_and_gets_its_rights_from_the_script() {
    let Some(roles) = prepared().await else { return };
    let mut owner = roles.connect("mirror_owner").await;
    sqlx::query("DROP TABLE group_attributes CASCADE").execute(&mut owner).await.unwrap();
    let refused = roles.run("mirror", &["replay"]).await;
    assert_eq!(refused.code, Some(2), "{refused:?}");
    roles.works("mirror_owner", &["replay"]).await;
    assert!(roles.refusal("mirror", "SELECT * FROM group_attributes").await.contains("permission denied"));
    roles.run_script().await;
    roles.works("mirror", &["replay", "--verify"]).await;
}

#[tokio::test]
async fn the_passes_over_the_rest_api_work_with_the_rights_of_the_script() {
    let Some(roles) = prepared().await else { return };
    let fake = [
        "fake-tencent",
        "--listen",
        "127.0.0.1:0",
        "--callback-url",
        "",
        "--existing-groups",
        "5",
        "--existing-members",
        "3",
        "--changes-per-sec",
        "0",
    ];
    let mut fake = Process::start(roles.place.command(&fake));
    fake.says("http://").await;
    let log = fake.log();
    let door = log.split("http://").nth(1).unwrap().split([' ', '\n', '/']).next().unwrap();
    for pass in ["backfill", "reconcile"] {
        let mut command = roles.command("mirror", &[pass]);
        command.env("TENCENT_API_URL", format!("http://{door}")).env("TENCENT_RATE_SHARE", "1");
        command.env("TENCENT_SECRET_KEY", "0123456789abcdef".repeat(4));
        let ended = run(command).await;
        assert_eq!(ended.code, Some(0), "{pass}: {ended:?}");
    }
    let mut conn = roles.connect("mirror_read").await;
    let groups: i64 =
        sqlx::query_scalar("SELECT count(*) FROM active_groups").fetch_one(&mut conn).await.unwrap();
    assert_eq!(groups, 5, "what analysts see");
    fake.ends_well_on("INT").await;
}

#[tokio::test]
async fn erase_user_works_as_its_own_role_and_as_no_lesser_one() {
    let Some(roles) = prepared().await else { return };
    let service = Process::start(roles.command("mirror", &["serve"])).ready().await;
    let answer = service.post(&signed_query(), sample("Group.CallbackAfterCreateGroup").to_string()).await;
    assert_eq!(answer.status(), 200);
    let refused = roles.run("mirror", &["erase-user", "ana_77"]).await;
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("permission denied"), "{refused:?}");
    let done = roles.works("mirror_eraser", &["erase-user", "ana_77"]).await;
    assert!(done.stdout.ends_with("the id stands nowhere in the database\n"), "{done:?}");
    service.ends_well_on("TERM").await;
}

#[tokio::test]
async fn analysts_read_what_they_should_and_write_nothing_and_a_second_run_takes_back_what_is_too_much() {
    let Some(roles) = prepared().await else { return };
    for view in ["SELECT * FROM active_groups", "SELECT * FROM ledger_entries", "SELECT * FROM gaps"] {
        assert_eq!(roles.refusal("mirror_read", view).await, "");
    }
    // With the key in it a guess at an erased id can be tested.
    for hidden in ["SELECT * FROM erasure_state", "SELECT * FROM erasures", "DELETE FROM gaps"] {
        assert!(roles.refusal("mirror_read", hidden).await.contains("permission denied"), "{hidden}");
    }
    let erase = "UPDATE erasure_state SET version = version";
    assert!(roles.refusal("mirror", erase).await.contains("permission denied"));
    let mut owner = roles.connect("mirror_owner").await;
    sqlx::query("GRANT ALL ON erasure_state TO mirror").execute(&mut owner).await.unwrap();
    assert_eq!(roles.refusal("mirror", erase).await, "");
    roles.run_script().await;
    assert!(roles.refusal("mirror", erase).await.contains("permission denied"));
    let unlisted: Vec<String> = sqlx::query_scalar(
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v')
            AND NOT relispartition AND NOT has_table_privilege('mirror', oid, 'SELECT')",
    )
    .fetch_all(&mut owner)
    .await
    .unwrap();
    assert_eq!(
        unlisted,
        Vec::<String>::new(),
        "every table stands in the script; a partition has the rights of its table"
    );
}

#[tokio::test]
async fn bodies_that_were_closed_to_analysts_stay_closed_when_the_script_is_run_again() {
    let Some(roles) = prepared().await else { return };
    let bodies = ["SELECT body FROM ledger", "SELECT body FROM ledger_entries"];
    let closed = async || {
        for read in bodies {
            assert!(roles.refusal("mirror_read", read).await.contains("permission denied"), "{read}");
        }
        assert_eq!(roles.refusal("mirror_read", "SELECT FROM active_groups").await, "");
    };
    let mut owner = roles.connect("mirror_owner").await;
    for revoke in
        ["REVOKE SELECT ON ledger FROM mirror_read", "REVOKE SELECT ON ledger_entries FROM mirror_read"]
    {
        sqlx::query(revoke).execute(&mut owner).await.unwrap();
    }
    assert!(roles.run_script().await.contains("mirror_read reads no raw bodies"));
    closed().await;
    assert!(!roles.run_script_with(&["-v", "analyst_bodies=on"]).await.contains("no raw bodies"));
    for read in bodies {
        assert_eq!(roles.refusal("mirror_read", read).await, "");
    }
    roles.run_script_with(&["-v", "analyst_bodies=off"]).await;
    closed().await;
    roles.run_script().await;
    closed().await;
}

#[tokio::test]
async fn passwords_come_from_the_environment_and_stay_out_of_the_log_of_the_server() {
    let Some(roles) = prepared().await else { return };
    let mut conn = roles.cluster.connect().await;
    sqlx::query("ALTER SYSTEM SET log_statement = 'all'").execute(&mut conn).await.unwrap();
    sqlx::query("SELECT pg_reload_conf()").execute(&mut conn).await.unwrap();
    let set = eventually(async || {
        let mut conn = roles.cluster.connect().await;
        let set = sqlx::query_scalar("SELECT current_setting('log_statement')").fetch_one(&mut conn).await;
        set.is_ok_and(|set: String| set == "all")
    });
    assert!(set.await);
    roles.run_script().await;
    let log = std::fs::read_to_string(roles.cluster.home.join("postgres.log")).unwrap();
    assert!(log.contains("log_statement") && !log.contains("p@ss"), "{log}");
    let hashed = |role: &'static str| {
        sqlx::query_scalar("SELECT rolpassword LIKE 'SCRAM-SHA-256$%' FROM pg_authid WHERE rolname = $1")
            .bind(role)
    };
    let mut conn = roles.cluster.connect().await;
    let service: Option<bool> = hashed("mirror").fetch_one(&mut conn).await.unwrap();
    let analyst: Option<bool> = hashed("mirror_read").fetch_one(&mut conn).await.unwrap();
    assert_eq!((service, analyst), (Some(true), None), "no password where none is given");
}
