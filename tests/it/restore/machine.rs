//! Servers of PostgreSQL that its own programs make and run, as an operator does, and the recipes of docs/operations.md.
//!
//! The programs refuse to run as root, so root runs them as the account of Debian's package. A test is skipped where a
//! program is missing.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use sqlx::{Connection as _, PgConnection};
use tempfile::TempDir;

use crate::process::lifecycle::skipped;
use crate::support::postgres::server_dir;
use crate::support::process::{BINARY, Ended, run};

/// What the recipes call.
const PROGRAMS: [&str; 8] =
    ["initdb", "pg_basebackup", "pg_ctl", "pg_dump", "pg_restore", "pg_upgrade", "pg_verifybackup", "psql"];

/// Who runs servers on Debian.
const ACCOUNT: &str = "postgres";

/// What all servers have, beside a port of their own. What the tests kill are processes, never the machine.
const CONFIG: &str = "listen_addresses = ''\nfsync = off\nshared_buffers = 16MB\n";

/// A directory in which servers live, and the programs for it. It has to outlive its servers.
pub(super) struct Machine {
    dir: TempDir,
    bin: PathBuf,
}

impl Machine {
    /// None: a program or the account is missing, and the test says so.
    pub(super) fn new() -> Option<Self> {
        let Some(bin) = programs() else {
            skipped(&format!("one of {PROGRAMS:?} of PostgreSQL is not installed"));
            return None;
        };
        let dir = server_dir();
        let path = dir.path().canonicalize().unwrap();
        if rustix::process::geteuid().is_root() {
            let owned = Command::new("chown").arg(format!("{ACCOUNT}:")).arg(&path).output();
            if !owned.is_ok_and(|owned| owned.status.success()) {
                skipped(&format!("there is no account {ACCOUNT}, and root may run no server"));
                return None;
            }
        }
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/roles.sql");
        std::fs::copy(scripts, path.join("roles.sql")).unwrap();
        Some(Self { dir, bin })
    }

    pub(super) fn path(&self) -> PathBuf {
        self.dir.path().canonicalize().unwrap()
    }

    pub(super) fn bin(&self) -> String {
        self.bin.display().to_string()
    }

    /// Runs a script as the user of the test.
    pub(super) async fn runs(&self, script: &str, set: &[(&str, &str)]) -> String {
        succeeded(script, run(command(&self.bin, &self.path(), Account::OfTheTest, script, set)).await)
    }

    /// Runs a script as the account that runs servers.
    pub(super) async fn runs_as_server(&self, script: &str, set: &[(&str, &str)]) -> String {
        succeeded(script, run(command(&self.bin, &self.path(), Account::OfServers, script, set)).await)
    }

    /// A server of this name that is not started. Each has a port of its own, which names its socket alone.
    pub(super) async fn initialised(&self, name: &str, port: u16) -> Server {
        let data = self.path().join(name).display().to_string();
        let made = "initdb -D \"$DATA\" -U postgres --auth=trust -E UTF8 --locale=C.UTF-8 --no-sync --no-instructions
            cat >> \"$DATA/postgresql.conf\"";
        let config =
            format!("{CONFIG}unix_socket_directories = '{}'\nport = {port}\n", self.path().display());
        let script = format!("{made} <<'END'\n{config}END");
        self.runs_as_server(&script, &[("DATA", &data)]).await;
        Server { data, port, dir: self.path(), bin: self.bin.clone() }
    }

    pub(super) async fn server(&self, name: &str, port: u16) -> Server {
        let server = self.initialised(name, port).await;
        let started = "pg_ctl -D \"$DATA\" -l \"$DATA.log\" -w start";
        self.runs_as_server(started, &[("DATA", &server.data)]).await;
        server
    }

    /// Roles and an empty database on a server, as `deploy/roles.sql` makes them.
    pub(super) async fn makes_roles(&self, server: &Server) {
        let script = "psql -X -q -d \"$SERVER_URL\" -f roles.sql";
        self.runs(script, &[("SERVER_URL", &server.url("postgres", "postgres"))]).await;
    }

    /// A server with roles, tables and rights, as [docs/deploy.md] has it.
    pub(super) async fn server_of_a_mirror(&self, name: &str, port: u16) -> Server {
        let server = self.server(name, port).await;
        self.makes_roles(&server).await;
        self.runs("group-mirror migrate", &[("DATABASE_URL", &server.owner())]).await;
        self.makes_roles(&server).await;
        server
    }
}

/// Who runs a script.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Account {
    OfTheTest,
    OfServers,
}

/// A script with the programs of PostgreSQL and of the mirror in its `PATH`.
fn command(bin: &Path, dir: &Path, account: Account, script: &str, set: &[(&str, &str)]) -> Command {
    let changes = account == Account::OfServers && rustix::process::geteuid().is_root();
    let mut command = Command::new(if changes { "setpriv" } else { "bash" });
    if changes {
        command.args([format!("--reuid={ACCOUNT}"), format!("--regid={ACCOUNT}")]);
        command.args(["--clear-groups", "bash"]);
    }
    command.args(["-euo", "pipefail", "-c", script]).current_dir(dir).env_clear();
    let (own, path) = (Path::new(BINARY).parent().unwrap(), std::env::var("PATH").unwrap());
    command.env("PATH", format!("{}:{}:{path}", bin.display(), own.display())).envs(set.iter().copied());
    command
}

fn succeeded(script: &str, ended: Ended) -> String {
    assert_eq!(ended.code, Some(0), "{script}\n{}{}", ended.stdout, ended.stderr);
    ended.stdout
}

/// The directory of the programs of the newest version that has all of them.
fn programs() -> Option<PathBuf> {
    let named = std::env::var_os("PG_BIN_DIR").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    versions.sort_unstable();
    let mut places = named.into_iter().chain(versions.into_iter().rev());
    places.find(|bin| PROGRAMS.iter().all(|program| bin.join(program).is_file()))
}

/// A server; stopped when dropped.
pub(super) struct Server {
    pub(super) data: String,
    port: u16,
    dir: PathBuf,
    bin: PathBuf,
}

impl Server {
    pub(super) fn url(&self, role: &str, database: &str) -> String {
        let dir = self.dir.display().to_string().replace('/', "%2F");
        format!("postgres://{role}@localhost/{database}?host={dir}&port={}", self.port)
    }

    /// The mirror's database, for the owner of its tables.
    pub(super) fn owner(&self) -> String {
        self.url("mirror_owner", "mirror")
    }

    /// The same for `serve`.
    pub(super) fn service(&self) -> String {
        self.url("mirror", "mirror")
    }

    /// The same for a superuser.
    pub(super) fn superuser(&self) -> String {
        self.url("postgres", "mirror")
    }

    pub(super) async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.superuser()).await.unwrap()
    }

    /// How many entries the ledger has; none where the server does not answer.
    pub(super) async fn entries(&self) -> Option<u64> {
        let mut conn = PgConnection::connect(&self.superuser()).await.ok()?;
        let count = sqlx::query_scalar("SELECT count(*) FROM ledger").fetch_one(&mut conn).await;
        count.ok().map(|count: i64| u64::try_from(count).unwrap())
    }

    /// Everything that a restore has to bring beside the rows: relations with owners, rights and settings, bounds of
    /// partitions, indexes, functions with whose rights they run, constraints, comments.
    pub(super) async fn catalogue(&self) -> BTreeSet<String> {
        let lines: Vec<String> =
            sqlx::query_scalar(CATALOGUE).fetch_all(&mut self.connect().await).await.unwrap();
        assert!(lines.iter().any(|line| line.contains("ledger_partition_step") && line.contains("owner t,")));
        lines.into_iter().collect()
    }

    /// Has everything that another one had, and nothing else.
    pub(super) async fn has_the_catalogue(&self, wanted: &BTreeSet<String>) {
        let found = self.catalogue().await;
        let differences: Vec<&String> = found.symmetric_difference(wanted).collect();
        assert!(differences.is_empty() && wanted.len() > 300, "of {}: {differences:#?}", wanted.len());
    }
}

const CATALOGUE: &str = "
WITH relations AS (SELECT * FROM pg_class WHERE relnamespace = 'public'::regnamespace), lines (line) AS (
    SELECT format('%s %s of %s, rights %s, settings %s, replica identity %s, bounds %s', relkind, relname,
                  relowner::regrole,
                  (SELECT array_agg(a::text ORDER BY a::text)
                     FROM unnest(coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::\"char\",
                                                             relowner))) a),
                  reloptions, relreplident,
                  pg_get_expr(relpartbound, oid))
      FROM relations
    UNION ALL
    SELECT format('column %s.%s %s %s %s', relname, attname, format_type(atttypid, atttypmod), attnotnull,
                  col_description(relations.oid, attnum))
      FROM relations JOIN pg_attribute ON attrelid = relations.oid WHERE attnum > 0 AND relkind IN ('r', 'p', 'v')
    UNION ALL
    SELECT format('index %s valid %s', pg_get_indexdef(indexrelid), indisvalid)
      FROM relations JOIN pg_index ON indexrelid = oid
    UNION ALL
    SELECT format('constraint %s %s', conname, pg_get_constraintdef(oid)) FROM pg_constraint
     WHERE connamespace = 'public'::regnamespace
    UNION ALL
    SELECT format('function %s of %s, with the rights of its owner %s, rights %s, settings %s', proname,
                  proowner::regrole, prosecdef,
                  coalesce(proacl, acldefault('f', proowner)), proconfig)
      FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL
    SELECT format('comment %s', obj_description(oid, 'pg_class')) FROM relations)
SELECT line FROM lines WHERE line IS NOT NULL";

impl Drop for Server {
    fn drop(&mut self) {
        let stop = "pg_ctl -D \"$DATA\" -m immediate -w stop";
        // It fails where the recipe has stopped the server.
        let _ = command(&self.bin, &self.dir, Account::OfServers, stop, &[("DATA", &self.data)]).output();
    }
}

/// The lines of a recipe in docs/operations.md, by the mark of its block.
pub(super) fn recipe(mark: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
    let page = std::fs::read_to_string(page).unwrap();
    let begin = format!("```sh {mark}");
    // A block in a list is indented.
    let block = page.lines().map(str::trim_start).skip_while(|line| *line != begin).skip(1);
    let lines: Vec<&str> = block.take_while(|line| *line != "```").collect();
    assert!(!lines.is_empty(), "docs/operations.md has no block of sh {mark}");
    lines.join("\n")
}
