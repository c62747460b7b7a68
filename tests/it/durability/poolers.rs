//! Behind PgBouncer: in session mode everything works with its time limits, in transaction mode the start is refused.

use std::str::FromStr as _;
use std::time::Duration;

use group_mirror::store::{Database, SESSION_LOCK_MAX};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::support::pgbouncer::Bouncer;
use crate::support::postgres::TestDatabase;
use crate::support::process::{Place, refused, refused_at_last, run};
use crate::support::{Service, sample, settings};

/// Two or three of them have room on the test server.
const SESSION: &str = "pool_mode = session\ndefault_pool_size = 30";

/// With nothing in its ini that is made for this service.
#[tokio::test]
async fn behind_a_pgbouncer_in_session_mode_callbacks_are_committed_and_read_as_without() {
    let database = TestDatabase::create().await;
    let Some(bouncer) = Bouncer::start(&database, SESSION).await else {
        return;
    };
    let service = Service::start(&settings(&bouncer.url)).await.unwrap();
    service.until(|told| told["database"] == "ok").await;
    service.taken(&sample("Group.CallbackAfterCreateGroup")).await;
    assert_eq!(service.read("/v1/groups").await["items"].as_array().unwrap().len(), 1);
    assert_eq!(service.read("/v1/changes").await["items"].as_array().unwrap().len(), 1);
    service.stop().await;
}

#[tokio::test]
async fn each_session_behind_a_pooler_has_the_limits_that_were_set() {
    let database = TestDatabase::create().await;
    let Some(bouncer) = Bouncer::start(&database, SESSION).await else {
        return;
    };
    for url in [&bouncer.url, &database.url] {
        let pools = Database::new(url).unwrap();
        let mut tx = pools.begin_within("test", SESSION_LOCK_MAX).await.unwrap();
        for (name, wanted) in [
            ("statement_timeout", "10s"),
            ("lock_timeout", "300ms"),
            ("idle_in_transaction_session_timeout", "10s"),
            ("jit", "off"),
        ] {
            assert_eq!(shown(tx.conn(), name).await, wanted, "{name}");
        }
        for (pool, plans) in [(pools.reader(), "force_custom_plan"), (pools.lookup(), "force_generic_plan")] {
            let mut conn = pool.acquire().await.unwrap();
            for (name, wanted) in [
                ("statement_timeout", "5s"),
                ("default_transaction_read_only", "on"),
                ("jit", "off"),
                ("plan_cache_mode", plans),
                ("client_encoding", "UTF8"),
            ] {
                assert_eq!(shown(&mut conn, name).await, wanted, "{name}");
            }
            assert!(
                conn.execute("CREATE TABLE never (id int)").await.is_err(),
                "reading sessions do not write"
            );
        }
        tx.roll_back().await;
        pools.close().await;
    }
}

async fn shown(conn: &mut PgConnection, name: &str) -> String {
    sqlx::query_scalar("SELECT current_setting($1)").bind(name).fetch_one(conn).await.unwrap()
}

#[tokio::test]
async fn a_pooler_in_transaction_mode_is_refused_in_one_line_that_says_what_to_set() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let one = "pool_mode = transaction\ndefault_pool_size = 1";
    for settings in ["pool_mode = transaction", "pool_mode = transaction\nserver_round_robin = 1", one] {
        let Some(bouncer) = Bouncer::start(&database, settings).await else { return };
        let statements = if bouncer.carries_statements() { "max_prepared_statements = 200" } else { "" };
        drop(bouncer);
        let bouncer = Bouncer::start(&database, &format!("{settings}\n{statements}")).await.unwrap();
        // Sessions that the pooler has already, some of which are free.
        let mut busy = Vec::new();
        if settings != one {
            for _ in 0..3 {
                let mut conn = connect(&bouncer.url).await;
                sqlx::raw_sql("BEGIN").execute(&mut conn).await.unwrap();
                busy.push(conn);
            }
            sqlx::raw_sql("COMMIT").execute(&mut busy[1]).await.unwrap();
        }
        for command in ["serve", "migrate"] {
            let line = refused_at_last(place.command_on(&bouncer.url, &[command])).await;
            assert!(
                line.starts_with("DATABASE_URL leads to a pooler in transaction mode"),
                "{settings}: {line}"
            );
            assert!(line.contains("set pool_mode = session for this database"), "{line}");
        }
    }
}

async fn connect(url: &str) -> PgConnection {
    let options = PgConnectOptions::from_str(url).unwrap().extra_float_digits(None);
    PgConnection::connect_with(&options).await.unwrap()
}

/// As a standby refuses writes; the pools have no connection yet.
#[tokio::test]
async fn of_several_hosts_the_first_that_takes_writes_is_used() {
    let database = TestDatabase::create().await;
    let line = "connect_query='SET default_transaction_read_only = on'";
    let kept = format!("{SESSION}\nserver_reset_query =");
    let Some(standby) = Bouncer::start_with(&database, line, &kept).await else { return };
    let Some(primary) = Bouncer::start(&database, SESSION).await else { return };
    assert!(Database::new(&standby.url).unwrap().probe().await.is_err());
    let service = Service::start(&settings(&Bouncer::url_of([&standby, &primary]))).await.unwrap();
    service.taken(&sample("Group.CallbackAfterCreateGroup")).await;
    assert_eq!(service.read("/v1/groups").await["items"].as_array().unwrap().len(), 1);
    service.stop().await;
}

#[tokio::test]
async fn a_startup_parameter_that_a_pooler_refuses_is_named_with_what_to_do_instead() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let Some(bouncer) = Bouncer::start(&database, "pool_mode = session").await else { return };
    let url = format!("{}&options=-c%20search_path%3Dpublic", bouncer.url);
    let line = refused(place.command_on(&url, &["migrate"])).await;
    let named = ["options", "search_path"].map(|name| format!("refuses the startup parameter \"{name}\""));
    assert!(named.iter().any(|named| line.contains(named)), "{line}");
    assert!(line.contains("set it by ALTER ROLE"), "{line}");
}

#[tokio::test]
async fn migrations_and_a_replay_run_behind_a_pooler() {
    let (place, database) = (Place::new(), TestDatabase::create_empty().await);
    let Some(bouncer) = Bouncer::start(&database, "pool_mode = session").await else { return };
    for args in [["migrate"].as_slice(), &["replay"], &["replay", "--verify"]] {
        let ended = run(place.command_on(&bouncer.url, args)).await;
        assert_eq!(ended.code, Some(0), "{args:?}: {ended:?}");
    }
    let mut conn = database.connect().await;
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM ledger").fetch_one(&mut conn).await.unwrap();
    assert_eq!(left, 0);
}

/// A list that waits for a lock ends at the time limit of its session, which an ignored startup parameter had lost.
#[tokio::test]
async fn a_read_behind_a_pooler_ends_at_its_time_limit() {
    let database = TestDatabase::create().await;
    let Some(bouncer) =
        Bouncer::start(&database, "pool_mode = session\nignore_startup_parameters = options").await
    else {
        return;
    };
    let pools = Database::new(&bouncer.url).unwrap();
    let mut conn = pools.reader().acquire().await.unwrap();
    let slept = conn.execute("SELECT pg_sleep(3600)");
    let ended = tokio::time::timeout(Duration::from_secs(120), slept).await.unwrap();
    assert!(ended.is_err_and(|error| group_mirror::store::errors::is_statement_timeout(&error)));
    drop(conn);
    pools.close().await;
}
