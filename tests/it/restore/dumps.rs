//! A dump that is restored on another server, and the move to another server, while callbacks come.

use super::machine::{Machine, Server, recipe};
use super::mirror::{Mirror, follow};
use crate::durability::isolation::metric;
use crate::retention::partitions::{assert_complete, drop_weeks_ahead};
use crate::support::eventually;
use crate::support::postgres::TestDatabase;

/// What the recipes call the databases.
fn names(urls: &[String; 4]) -> [(&'static str, &str); 4] {
    let [old, server, new, owner] = urls;
    [
        ("OLD_DATABASE_URL", old),
        ("NEW_SERVER_URL", server),
        ("NEW_DATABASE_URL", new),
        ("NEW_OWNER_URL", owner),
    ]
}

fn urls(old: &Server, new: &Server) -> [String; 4] {
    [old.superuser(), new.url("postgres", "postgres"), new.superuser(), new.owner()]
}

/// What was answered before is in the dump alone, because nothing was kept then; what was answered later is what is kept.
#[tokio::test(flavor = "multi_thread")]
async fn a_dump_on_another_server_gets_what_was_answered_since_it_began() {
    let Some(machine) = Machine::new() else { return };
    let (old, mirror) = (machine.server_of_a_mirror("old", 5433).await, Mirror::new());
    let mut service = mirror.serve(&old.service(), 0).await;
    let load = mirror.load("before");
    load.pass(100).await;
    let before = load.finish().await;
    service = mirror.restarted(service, &old.service(), 600).await;
    let load = mirror.load("since");
    load.pass(40).await;
    let new = machine.server("new", 5434).await;
    let urls = urls(&old, &new);
    machine.runs(&recipe("dump"), &names(&urls)).await;
    load.pass(100).await;
    let printed = machine.runs(&recipe("load"), &names(&urls)).await;
    assert!(printed.trim_end().ends_with("0 differences: the mirror is what the ledger says"), "{printed}");
    let (in_dump, in_old) = (new.entries().await.unwrap(), old.entries().await.unwrap());
    assert!(in_dump >= before.callbacks && in_dump + 100 <= in_old, "{in_dump} of {in_old}");
    new.has_the_catalogue(&old.catalogue().await).await;
    let watcher = follow(&service, None);
    watcher.until_seen(10).await;
    let seen = watcher.end().await;
    service = mirror.restarted(service, &new.service(), 600).await;
    let follower = follow(&service, seen.last_id.as_deref());
    follower.until(|seen| seen.gone).await;
    follower.end().await;
    load.pass(40).await;
    let sent = [before, load.finish().await];
    service.says("the database lacks commits that it had confirmed").await;
    assert!(metric(&service, "group_mirror_resent_total").await >= 100.0, "{}", service.log());
    mirror.has_everything(service, &new, &sent).await;
    // The service has left the old one before the end, and what it wrote there is in the new one.
    assert!(old.entries().await < new.entries().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_to_another_server_loses_nothing_while_callbacks_come() {
    let Some(machine) = Machine::new() else { return };
    let (old, mirror) = (machine.server_of_a_mirror("old", 5433).await, Mirror::new());
    let mut service = mirror.serve(&old.service(), 0).await;
    let load = mirror.load("moved");
    load.pass(100).await;
    let new = machine.server("new", 5434).await;
    machine.makes_roles(&new).await;
    service = mirror.restarted(service, &new.service(), 0).await;
    service.says("the schema is behind").await;
    assert_eq!(service.get_as(crate::support::API_TOKEN, "/v1/groups").await.status(), 503);
    let left = old.entries().await;
    let urls = urls(&old, &new);
    let printed = machine.runs(&recipe("move"), &names(&urls)).await;
    assert!(printed.trim_end().ends_with("0 differences: the mirror is what the ledger says"), "{printed}");
    service.says("the schema fits; serving, after").await;
    load.pass(60).await;
    let sent = [load.finish().await];
    assert_eq!(old.entries().await, left, "nothing is written to the old server meanwhile");
    new.has_the_catalogue(&old.catalogue().await).await;
    mirror.has_everything(service, &new, &sent).await;
}

/// A URL without what only the client of the service knows.
fn for_programs(url: &str) -> String {
    let (begin, pairs) = url.split_once('?').unwrap_or((url, ""));
    let known: Vec<&str> = pairs.split('&').filter(|pair| !pair.starts_with("statement-cache")).collect();
    format!("{begin}?{}", known.join("&"))
}

/// As `pg_restore -j` and one without `--single-transaction` do it: rows are there before keys and indexes are. The dump is a
/// month old, so that partitions are due.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_looks_on_while_a_dump_is_loaded_in_parts_touches_nothing_until_the_last_of_it_is_there()
 {
    let Some(machine) = Machine::new() else { return };
    let (old, new, mirror) =
        (TestDatabase::create().await, TestDatabase::create_empty().await, Mirror::new());
    let service = mirror.serve(&old.url, 0).await;
    let load = mirror.load("before");
    load.pass(20).await;
    let before = load.finish().await;
    service.ends_well_on("TERM").await;
    drop_weeks_ahead(&mut old.connect().await).await;
    let urls = [&old, &new].map(|database| for_programs(&database.url));
    let set = [("OLD_DATABASE_URL", &*urls[0]), ("NEW_DATABASE_URL", &*urls[1])];
    machine.runs(&recipe("dump"), &set).await;
    let mut service = mirror.serve(&new.url, 0).await;
    service.says("the schema is behind").await;
    let load = mirror.load("meanwhile");
    load.pass(20).await;
    let part = async |part: &str| {
        let restore = "pg_restore --exit-on-error --no-owner -d \"$NEW_DATABASE_URL\" --section=";
        machine.runs(&format!("{restore}{part} mirror.dump"), &set).await;
    };
    part("pre-data").await;
    part("data").await;
    service.says("has no valid key").await;
    load.pass(20).await;
    // One thing after the other, the last in another run.
    let some = async |which: &str| {
        let list = "pg_restore --section=post-data -l mirror.dump";
        let restore = "pg_restore --exit-on-error --no-owner -d \"$NEW_DATABASE_URL\" -L list mirror.dump";
        machine.runs(&format!("{list} | {which} > list\n{restore}"), &set).await;
    };
    some("grep -v ' TRIGGER '").await;
    service.says("table groups has no trigger group_moved").await;
    load.pass(20).await;
    some("grep ' TRIGGER '").await;
    service.says("the schema fits; serving, after").await;
    let sent = [before, load.finish().await];
    let all: u64 = sent.iter().map(|sent| sent.callbacks).sum();
    let entries = async || {
        let count =
            sqlx::query_scalar("SELECT count(*) FROM ledger").fetch_one(&mut new.connect().await).await;
        u64::try_from(count.map_or(0, |count: i64| count)).unwrap()
    };
    assert!(
        eventually(async || entries().await == all).await,
        "{} of {all}\n{}",
        entries().await,
        service.log()
    );
    assert!(sent.iter().all(|sent| sent.lost.is_empty()));
    assert!(!service.log().contains("set aside"), "{}", service.log());
    service.ends_well_on("TERM").await;
    assert_eq!(mirror.run(&new.url, &["migrate"]).await.code, Some(0));
    assert_complete(&mut new.connect().await).await;
    let verified = mirror.run(&new.url, &["replay", "--verify"]).await;
    assert!(verified.stdout.contains(" 0 differences"), "{verified:?}");
}

/// The URL of the private server, from the line of the log that has psql's arguments.
fn embedded_url(log: &str) -> String {
    let line = log.lines().find_map(|line| line.split_once("psql -h ")).unwrap_or_else(|| panic!("{log}")).1;
    let [dir, "-p", port, "-U", role, name] = line.split_whitespace().take(6).collect::<Vec<_>>()[..] else {
        panic!("{line}")
    };
    // Quoted for a shell.
    let dir = dir.trim_matches('\'').replace('/', "%2F");
    format!("postgres://{role}@localhost/{name}?host={dir}&port={port}")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_of_the_embedded_mode_moves_to_a_server_with_roles_and_loses_nothing() {
    let Some(machine) = Machine::new() else { return };
    let (new, mirror) = (machine.server("new", 5434).await, Mirror::new());
    let mut service = mirror.serve("", 600).await;
    service.says("psql -h ").await;
    let load = mirror.load("embedded");
    load.pass(100).await;
    let embedded = embedded_url(&service.log());
    let urls = [embedded, new.url("postgres", "postgres"), new.superuser(), new.owner()];
    machine.runs(&recipe("dump"), &names(&urls)).await;
    load.pass(40).await;
    let printed = machine.runs(&recipe("load-embedded"), &names(&urls)).await;
    assert!(printed.trim_end().ends_with("0 differences: the mirror is what the ledger says"), "{printed}");
    service = mirror.restarted(service, &new.service(), 600).await;
    service.says("the schema fits; serving").await;
    load.pass(40).await;
    let sent = [load.finish().await];
    assert!(!service.log().contains("adopt"), "{}", service.log());
    // The tables are as `migrate` makes them there, with the rights of the script.
    let migrated = machine.server_of_a_mirror("migrated", 5435).await;
    new.has_the_catalogue(&migrated.catalogue().await).await;
    mirror.has_everything(service, &new, &sent).await;
}
