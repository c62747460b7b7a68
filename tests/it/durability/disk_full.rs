//! The disk of PostgreSQL is full: first it cannot grow a table, then not even write its log, which ends it.
//!
//! The embedded server's directory lies on a volume of a few megabytes in a namespace of mounts, which an ordinary user
//! may make as well as root; the spool lies beside it on the real disk. The namespace outlives a service in it.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection as _, Executor as _};

use crate::durability::chaos::all_groups;
use crate::durability::spool::{caught_up, create};
use crate::process::lifecycle::skipped;
use crate::support::process::{BINARY, Place, Process, run};
use crate::support::{APP, OK, eventually};

/// Makes the volume and keeps it until standard input ends. A new cluster takes about 45 MB.
const HOLD: &str = "mkdir -p data/postgres && mount -t tmpfs -o size=96m,mode=0700 group-mirror-test data/postgres \
                    && echo mounted && exec cat";

/// The holder of the namespace; gone when dropped.
struct Volume<'a> {
    place: &'a Place,
    holder: Child,
}

impl<'a> Volume<'a> {
    /// None where this user may make no namespace.
    fn mount(place: &'a Place) -> Option<Self> {
        let mut unshare = place.program("unshare");
        unshare.args(["--user", "--map-root-user", "--mount", "sh", "-c", HOLD]);
        let mut holder = unshare.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let volume = Self { place, holder };
        (line == "mounted\n").then_some(volume)
    }

    /// A program that sees the volume: the directory has to be entered anew, from inside.
    fn program(&self, program: &str) -> Command {
        let mut command = self.place.program("nsenter");
        command.args(["--user", "--mount", "--preserve-credentials", "--target"]);
        command.arg(self.holder.id().to_string());
        command.args(["sh", "-c", r#"cd "$0" && exec "$@""#]).arg(self.place.path()).arg(program);
        command
    }

    async fn serve(&self) -> Process {
        Process::start(self.program(BINARY)).ready().await
    }

    /// Not a byte is left. What is written ends at the size of the volume, wherever it went.
    async fn fill(&self) {
        let mut filler = self.program("sh");
        filler.args(["-c", "head -c 96m /dev/zero > data/postgres/filler"]);
        let ended = run(filler).await;
        assert!(ended.stderr.contains("No space left on device"), "{ended:?}");
    }

    async fn give_room(&self) {
        let mut rm = self.program("rm");
        rm.arg("data/postgres/filler");
        assert_eq!(run(rm).await.code, Some(0));
    }

    /// A session in the embedded server.
    async fn connect(&self, service: &Process) -> PgConnection {
        let log = service.log();
        let socket = log.split("psql -h '").nth(1).unwrap().split('\'').next().unwrap();
        let socket = format!("/proc/{}/root{socket}", self.holder.id());
        let options = PgConnectOptions::new_without_pgpass().socket(socket);
        PgConnection::connect_with(&options.username("group_mirror").database("group_mirror")).await.unwrap()
    }
}

impl Drop for Volume<'_> {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Sends creates of 1 KB; each is answered with OK.
async fn take(service: &Process, names: &[String]) {
    for name in names {
        let mut body = create(name);
        body["Padding"] = "x".repeat(800).into();
        let answer = service.post(&format!("SdkAppid={APP}"), body.to_string()).await;
        assert_eq!(answer.text().await.unwrap(), OK, "{name}: {}", service.log());
    }
}

async fn readiness(service: &Process) -> Value {
    service.get("/readyz").await.json().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_postgres_refuses_nobody_and_everything_is_in_the_tables_once_there_is_room() {
    let place = Place::new();
    let Some(volume) = Volume::mount(&place) else {
        return skipped("this user may make no namespace for a small volume");
    };
    let named = |prefix: &str| (0..50).map(|number| format!("{prefix} {number}")).collect::<Vec<_>>();
    let service = volume.serve().await;
    take(&service, &named("before")).await;

    volume.fill().await;
    take(&service, &named("no table grows")).await;
    let told = readiness(&service).await;
    assert!(told["status"] == "ready" && told["spool"]["depth"].as_u64().unwrap() > 0, "{told}");
    let is_logged = eventually(async || service.log().contains("No space left on device")).await;
    assert!(is_logged, "{}", service.log());
    volume.give_room().await;
    assert!(eventually(async || caught_up(&readiness(&service).await)).await, "{}", service.log());

    let mut conn = volume.connect(&service).await;
    volume.fill().await;
    // The next record of the log needs a new file, which is the end of the server.
    conn.execute("SELECT pg_switch_wal()").await.unwrap();
    assert!(conn.execute("SELECT pg_logical_emit_message(true, '', 'x')").await.is_err());
    let mut service = service;
    service.says("the embedded PostgreSQL ended by itself").await;
    take(&service, &named("no server")).await;
    volume.give_room().await;
    service.ends_well_on("TERM").await;

    let service = volume.serve().await;
    assert!(eventually(async || caught_up(&readiness(&service).await)).await, "{}", service.log());
    let taken: BTreeSet<String> =
        ["before", "no table grows", "no server"].iter().flat_map(|prefix| named(prefix)).collect();
    assert_eq!(all_groups(&service).await, taken);
    let mut verify = volume.program(BINARY);
    verify.args(["replay", "--verify"]);
    let verified = run(verify).await;
    assert!(verified.stdout.contains(" 0 differences"), "{verified:?}");
    service.ends_well_on("TERM").await;
}
