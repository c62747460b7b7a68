//! A base backup and the archived WAL, brought to the moment before a mistake, while callbacks come.

use sqlx::Executor as _;

use super::machine::{Machine, recipe};
use super::mirror::{Mirror, follow};
use crate::durability::isolation::metric;

/// What was answered before the backup is in it alone: nothing was kept then.
#[tokio::test(flavor = "multi_thread")]
async fn a_point_before_a_mistake_comes_back_with_what_was_answered_since() {
    let Some(machine) = Machine::new() else { return };
    let server = machine.server_of_a_mirror("main", 5433).await;
    let (mirror, url) = (Mirror::new(), server.service());
    let archive = machine.path().join("archive").display().to_string();
    machine.runs_as_server("mkdir \"$ARCHIVE\"", &[("ARCHIVE", &archive)]).await;
    let server_url = server.url("postgres", "postgres");
    let mut set = vec![("SERVER_URL", &*server_url), ("PGDATA", &*server.data), ("ARCHIVE", &*archive)];
    let mut service = mirror.serve(&url, 0).await;
    let load = mirror.load("before");
    load.pass(40).await;
    machine.runs_as_server(&recipe("archive"), &set).await;
    load.pass(40).await;
    machine.runs_as_server(&recipe("base-backup"), &set).await;
    load.pass(40).await;
    let before = load.finish().await;
    service = mirror.restarted(service, &url, 600).await;
    let early = follow(&service, None);
    early.until_seen(usize::try_from(before.callbacks).unwrap()).await;
    let early = early.end().await;
    let load = mirror.load("since");
    load.pass(40).await;
    let mut conn = server.connect().await;
    let moment: String =
        sqlx::query_scalar("SELECT clock_timestamp()::text").fetch_one(&mut conn).await.unwrap();
    let late = follow(&service, None);
    load.pass(60).await;
    late.until_seen(usize::try_from(before.callbacks).unwrap() + 80).await;
    conn.execute("TRUNCATE ledger, ledger_people, groups, group_members").await.unwrap();
    drop(conn);
    load.pass(20).await;
    set.push(("TARGET_TIME", &moment));
    machine.runs_as_server(&recipe("point-in-time"), &set).await;
    load.pass(60).await;
    let sent = [before, load.finish().await];
    service.says("the database lacks commits that it had confirmed").await;
    assert!(metric(&service, "group_mirror_resent_total").await >= 60.0, "{}", service.log());
    late.until(|seen| seen.gone).await;
    late.end().await;
    let resumed = follow(&service, early.last_id.as_deref());
    let since = usize::try_from(sent[1].callbacks).unwrap();
    resumed.until_seen(since).await;
    let resumed = resumed.end().await;
    assert!(!resumed.gone && resumed.entries.values().all(|(_, times)| *times == 1), "{resumed:?}");
    mirror.has_everything(service, &server, &sent).await;
}
