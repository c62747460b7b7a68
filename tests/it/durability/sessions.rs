//! A commit that waits for a synchronous standby has no limit in the server and does not end with its client: however often
//! the service tries, few such sessions exist. Nor is one ever cancelled, because it would report success.

use std::time::Duration;

use group_mirror::embedded::Embedded;
use group_mirror::ingest::commit;
use group_mirror::store::{Database, schema};
use serde_json::Value;
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Executor as _};

use crate::durability::isolation::{drained, take};
use crate::durability::spool::create;
use crate::rules::laws::callback;
use crate::support::chaos::{Mood, Proxy};
use crate::support::eventually;
use crate::support::postgres::{TestDatabase, programs, server_dir};
use crate::support::process::{Place, Process};

/// Sessions of the service in the server, and those that wait for a standby.
async fn sessions(conn: &mut PgConnection) -> (i64, i64) {
    sqlx::query_as(
        "SELECT count(*), count(*) FILTER (WHERE wait_event = 'SyncRep')
           FROM pg_stat_activity WHERE application_name = 'group-mirror'",
    )
    .fetch_one(conn)
    .await
    .unwrap()
}

/// Lanes, and the probe.
const STUCK_MAX: i64 = 3;

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_standby_leaves_no_more_sessions_than_lanes_and_a_probe() {
    let dir = server_dir();
    let server = Embedded::start(&dir.path().join("postgres"), &programs()).unwrap();
    let pools = Database::new(server.url()).unwrap();
    schema::migrate(&pools).await.unwrap();
    pools.close().await;
    let mut conn = PgConnection::connect(server.url()).await.unwrap();
    let place = Place::new();
    let mut service = Process::start(place.command_on(server.url(), &["serve"])).ready().await;
    take(&service, &create("before")).await;
    conn.execute("SET synchronous_commit = local").await.unwrap();
    conn.execute("ALTER SYSTEM SET synchronous_standby_names = 'missing'").await.unwrap();
    conn.execute("SELECT pg_reload_conf()").await.unwrap();
    for number in 0..40 {
        take(&service, &create(&format!("g{number}"))).await;
        assert!(sessions(&mut conn).await.1 <= STUCK_MAX, "{:?}", sessions(&mut conn).await);
    }
    // One of them is given up. The service goes on for several times the 5 s after which it would give up another.
    service.says("given up").await;
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    for number in 40..400 {
        ticks.tick().await;
        take(&service, &create(&format!("g{number}"))).await;
        assert!(sessions(&mut conn).await.1 <= STUCK_MAX, "{:?}", sessions(&mut conn).await);
    }
    let is_logged = eventually(async || service.log().contains("PostgreSQL does not commit")).await;
    assert!(is_logged, "{}", service.log());
    conn.execute("ALTER SYSTEM RESET synchronous_standby_names").await.unwrap();
    conn.execute("SELECT pg_reload_conf()").await.unwrap();
    assert!(eventually(async || drained(&service).await).await, "{}", service.log());
    let groups: i64 = sqlx::query_scalar("SELECT count(*) FROM groups").fetch_one(&mut conn).await.unwrap();
    assert_eq!(groups, 401);
    // Away again, at a stop.
    conn.execute("ALTER SYSTEM SET synchronous_standby_names = 'missing'").await.unwrap();
    conn.execute("SELECT pg_reload_conf()").await.unwrap();
    take(&service, &create("last")).await;
    let told: Value = service.get("/readyz").await.json().await.unwrap();
    assert_eq!(told["spool"]["state"], "ok", "{told}");
    service.ends_well_on("TERM").await;
    assert!(sessions(&mut conn).await.1 <= STUCK_MAX, "{:?}", sessions(&mut conn).await);
    conn.execute("ALTER SYSTEM RESET synchronous_standby_names").await.unwrap();
    conn.execute("SELECT pg_reload_conf()").await.unwrap();
    server.stop();
}

/// Longer than the statements of a batch may take and the request to cancel them is waited for.
const SLOW_ENTRY: &str = "
CREATE FUNCTION test_slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(7); RETURN NEW; END $$;
CREATE TRIGGER test_slow BEFORE INSERT ON ledger FOR EACH ROW EXECUTE FUNCTION test_slow()";

#[tokio::test(flavor = "multi_thread")]
async fn no_commit_follows_a_request_to_cancel_that_may_still_be_on_its_way() {
    let database = TestDatabase::create().await;
    let proxy = Proxy::start(&database.url).await;
    let (pools, mut conn) = (Database::new(&proxy.url).unwrap(), database.connect().await);
    conn.execute(SLOW_ENTRY).await.unwrap();
    proxy.set(Mood::HoldsCancel);
    let outcome = commit(&pools, &[callback(&create("g"))]).await.remove(0);
    assert!(outcome.is_err(), "{outcome:?}");
    let entries: i64 = sqlx::query_scalar("SELECT count(*) FROM ledger").fetch_one(&mut conn).await.unwrap();
    assert_eq!(entries, 0);
    conn.execute("DROP TRIGGER test_slow ON ledger").await.unwrap();
    // Arrives at a session that is gone.
    proxy.set(Mood::Fair);
    assert!(commit(&pools, &[callback(&create("g"))]).await.remove(0).is_ok());
    pools.close().await;
}
