//! `pg_upgrade` below a service that goes on taking callbacks.
//!
//! The package has one major version, so old and new cluster are of the same one, which `pg_upgrade` takes as well: it makes
//! the catalogues anew and takes the files, as from one version to the next.

use super::machine::{Machine, recipe};
use super::mirror::{Mirror, follow};

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_of_postgresql_keeps_everything_and_a_follower_sees_each_entry_once() {
    let Some(machine) = Machine::new() else { return };
    let old = machine.server_of_a_mirror("old", 5433).await;
    // Under the port of the old one, as an operator sets it.
    let new = machine.initialised("new", 5433).await;
    let mirror = Mirror::new();
    let mut service = mirror.serve(&old.service(), 0).await;
    let follower = follow(&service, None);
    let load = mirror.load("upgraded");
    load.pass(100).await;
    let catalogue = old.catalogue().await;
    let bin = machine.bin();
    let set =
        [("OLD_BIN", &*bin), ("NEW_BIN", &*bin), ("OLD_PGDATA", &*old.data), ("NEW_PGDATA", &*new.data)];
    machine.runs_as_server(&recipe("pg-upgrade"), &set).await;
    service.says("PostgreSQL commits again").await;
    load.pass(60).await;
    let url = new.owner();
    let printed = machine.runs(&recipe("after-pg-upgrade"), &[("DATABASE_URL", &url)]).await;
    assert!(printed.trim_end().ends_with("0 differences: the mirror is what the ledger says"), "{printed}");
    let without: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pg_class c WHERE relname IN ('groups', 'ledger')
            AND NOT EXISTS (SELECT FROM pg_stats s WHERE s.tablename = c.relname)",
    )
    .fetch_one(&mut new.connect().await)
    .await
    .unwrap();
    assert_eq!(without, 0, "the planner's statistics are there");
    new.has_the_catalogue(&catalogue).await;
    let sent = [load.finish().await];
    follower.until_seen(usize::try_from(sent[0].callbacks).unwrap()).await;
    let seen = follower.end().await;
    assert!(!seen.gone && seen.entries.values().all(|(_, times)| *times == 1), "{seen:?}");
    mirror.has_everything(service, &new, &sent).await;
}
