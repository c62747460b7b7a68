//! Which databases are taken and how they are named: hosts, encodings, rights, read-only ones. What cannot be used is
//! refused in one line that says what to do.

use std::net::TcpListener;
use std::str::FromStr as _;

use group_mirror::store::Database;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _};

use crate::durability::isolation::metric;
use crate::support::chaos::{Mood, Proxy};
use crate::support::postgres::TestDatabase;
use crate::support::process::{Place, Process, refused, refused_at_last, run};
use crate::support::{Service, eventually, fake_postgres, sample, settings};

#[tokio::test]
async fn a_database_that_is_not_in_utf8_is_refused_with_the_command_that_makes_one() {
    let place = Place::new();
    for encoding in ["LATIN1", "SQL_ASCII", "EUC_CN"] {
        let database = TestDatabase::create_in(encoding).await;
        for command in ["migrate", "serve"] {
            let line = refused_at_last(place.command_on(&database.url, &[command])).await;
            assert!(line.starts_with(&format!("the database is encoded in {encoding}")), "{line}");
            assert!(line.ends_with("CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0"), "{line}");
        }
        let mut conn = database.connect().await;
        let tables: i64 =
            sqlx::query_scalar("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace")
                .fetch_one(&mut conn)
                .await
                .unwrap();
        assert_eq!(tables, 0, "nothing was migrated");
    }
}

#[tokio::test]
#[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
async fn a_name_in_brackets_is_an_ipv6_address() {
    let place = Place::new();
    let Ok(free) = TcpListener::bind("[::1]:0") else {
        println!("skipped: there is no IPv6 loopback here");
        return;
    };
    let address = free.local_addr().unwrap();
    drop(free);
    let line = refused(place.command_on(&format!("postgres://x:y@{address}/mirror"), &["migrate"])).await;
    assert!(line.starts_with(&format!("cannot connect to the database at {address}: ")), "{line}");
    assert!(line.contains("refused"), "connected to, not looked up: {line}");
}

#[tokio::test]
async fn a_password_that_divides_the_url_is_refused_with_the_host_that_was_read() {
    let place = Place::new();
    for password in ["se/cret", "se#cret", "se?cret", "12/34", "12#34", "12?34"] {
        let url = format!("postgres://mirror:{password}@db:5433/x");
        for command in ["serve", "migrate"] {
            let line = refused(place.command_on(&url, &[command])).await;
            assert!(line.contains("must be percent-encoded (@ as %40, / as %2F"), "{line}");
            assert!(line.contains("the host was read as \"db:5433\"") && !line.contains(password), "{line}");
        }
    }
}

/// As they stand where that is unambiguous, and percent-encoded always.
#[tokio::test]
async fn a_password_of_any_characters_reaches_the_server() {
    let place = Place::new();
    let (address, given) = fake_postgres::refusing("no");
    let all = "a@b:c%d'e f&g=h";
    let encoded = "a%40b%3Ac%25d%27e%20f%26g%3Dh%2Fi%23j%3Fk";
    for password in [all, encoded] {
        let url = format!("postgres://x:{password}@{address}/mirror");
        refused(place.command_on(&url, &["migrate"])).await;
    }
    assert_eq!(*given.lock().unwrap(), [all.to_owned(), format!("{all}/i#j?k")]);
}

#[tokio::test]
async fn of_several_hosts_those_that_do_not_answer_are_passed_by() {
    let database = TestDatabase::create().await;
    let refusing = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (silent, proxy) = (fake_postgres::silent(), Proxy::start(&database.url).await);
    let address = proxy.address();
    let url = proxy.url.replacen(&address, &format!("{refusing},{silent},{address}"), 1);
    let service = Service::start(&settings(&url)).await.unwrap();
    service.until(|told| told["database"] == "ok").await;
    service.taken(&sample("Group.CallbackAfterCreateGroup")).await;
    assert_eq!(service.read("/v1/groups").await["items"].as_array().unwrap().len(), 1);
    service.stop().await;
}

#[tokio::test]
async fn when_the_host_in_use_is_lost_the_pools_move_to_the_next() {
    let database = TestDatabase::create().await;
    let [first, second] = [Proxy::start(&database.url).await, Proxy::start(&database.url).await];
    let service = Service::start(&settings(&Proxy::url_of([&first, &second]))).await.unwrap();
    let (mut body, read) = (sample("Group.CallbackAfterCreateGroup"), "/v1/groups");
    service.taken(&body).await;
    assert_eq!(service.read(read).await["items"].as_array().unwrap().len(), 1);
    first.set(Mood::Gone);
    body["GroupId"] = "next".into();
    service.taken(&body).await;
    service.until(|told| told["database"] == "ok" && told["spool"]["depth"] == 0).await;
    assert_eq!(service.read(read).await["items"].as_array().unwrap().len(), 2);
    service.stop().await;
}

#[tokio::test]
async fn a_database_that_refuses_writes_is_not_said_to_be_ok() {
    let database = TestDatabase::create().await;
    let role = format!("group_mirror_reads_{}", std::process::id());
    let mut conn = database.connect().await;
    let make = format!(
        "DROP ROLE IF EXISTS {role}; CREATE ROLE {role} LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"
    );
    conn.execute(AssertSqlSafe(make)).await.unwrap();
    let options = PgConnectOptions::from_str(&database.url).unwrap().username(&role);
    let name = options.get_database().unwrap().to_owned();
    let pools = Database::new(options.to_url_lossy().as_str()).unwrap();
    assert!(pools.probe().await.is_err() && !pools.answers().await, "no right to insert");
    // What every callback that is applied writes.
    let rights = format!(
        "GRANT INSERT ON ledger TO {role}; GRANT USAGE ON SEQUENCE ledger_position_seq TO {role};
         GRANT UPDATE ON groups TO {role}"
    );
    conn.execute(AssertSqlSafe(rights)).await.unwrap();
    assert!(pools.probe().await.is_ok() && pools.answers().await);
    conn.execute(AssertSqlSafe(format!(
        "ALTER ROLE {role} IN DATABASE {name} SET default_transaction_read_only = on"
    )))
    .await
    .unwrap();
    assert!(pools.probe().await.is_err(), "switched to read-only");
    pools.close().await;
    conn.execute(AssertSqlSafe(format!("DROP OWNED BY {role}; DROP ROLE {role}"))).await.unwrap();
}

#[tokio::test]
async fn a_role_that_may_not_do_everything_is_served_and_each_missing_right_is_a_line_with_its_grant() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let role = format!("group_mirror_dml_{}", std::process::id());
    let mut conn = database.connect().await;
    let make = format!(
        "DROP ROLE IF EXISTS {role}; CREATE ROLE {role} LOGIN;
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role};
         REVOKE ALL ON _sqlx_migrations FROM {role}"
    );
    conn.execute(AssertSqlSafe(make)).await.unwrap();
    let options = PgConnectOptions::from_str(&database.url).unwrap().username(&role);
    let url = options.to_url_lossy().to_string();
    let usage = format!("GRANT USAGE ON SCHEMA public TO {role}");
    conn.execute("REVOKE USAGE ON SCHEMA public FROM PUBLIC").await.unwrap();
    let line = refused_at_last(place.command_on(&url, &["serve"])).await;
    assert!(line.ends_with(&format!("let the owner of the tables run: {usage}")), "{line}");
    conn.execute(AssertSqlSafe(usage)).await.unwrap();
    let line = refused_at_last(place.command_on(&url, &["serve"])).await;
    let grants = [
        format!("GRANT SELECT ON _sqlx_migrations TO {role}"),
        format!("GRANT EXECUTE ON FUNCTION ledger_partition_step TO {role}"),
        format!("GRANT USAGE, SELECT, UPDATE ON SEQUENCE ledger_position_seq TO {role}"),
    ];
    assert!(line.ends_with(&grants.join("; ")), "{line}");
    for grant in &grants {
        conn.execute(AssertSqlSafe(grant.clone())).await.unwrap();
    }
    conn.execute(AssertSqlSafe(format!("REVOKE INSERT, UPDATE ON group_topics FROM {role}"))).await.unwrap();
    let mut service = Process::start(place.command_on(&url, &["serve"])).ready().await;
    let grant = format!("GRANT INSERT, UPDATE ON group_topics TO {role}");
    service.says(&grant).await;
    let body = sample("Group.CallbackAfterCreateGroup").to_string();
    let answer = service.post(&crate::support::signed_query(), body).await;
    assert_eq!(answer.status(), 200);
    let read = service.get_as(crate::support::API_TOKEN, "/v1/groups/%40TGS%232RIVERB7QK").await;
    assert_eq!(read.status(), 200, "the others are not held up");
    conn.execute(AssertSqlSafe(grant.clone())).await.unwrap();
    service.says("has every right now").await;
    let ended = service.ends_well_on("TERM").await;
    assert_eq!(ended.stderr.matches(&grant).count(), 1, "{}", ended.stderr);
    let migrated = run(place.command_on(&url, &["migrate"])).await;
    assert_eq!(migrated.code, Some(0), "nothing to migrate needs no right to: {migrated:?}");
    conn.execute(AssertSqlSafe(format!("DROP OWNED BY {role}; DROP ROLE {role}"))).await.unwrap();
}

#[tokio::test]
async fn a_metric_says_whether_the_database_fits() {
    let (place, database) = (Place::new(), TestDatabase::create_empty().await);
    let service = Process::start(place.command_on(&database.url, &["serve"])).ready().await;
    let fits = async || metric(&service, "group_mirror_database_fits").await;
    assert_eq!(fits().await, 0.0, "its schema is behind");
    assert_eq!(run(place.command_on(&database.url, &["migrate"])).await.code, Some(0));
    assert!(eventually(async || fits().await == 1.0).await, "{}", service.log());
    let ahead = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
                 VALUES (9999, 'of a newer program', true, '\\x00', 0)";
    database.connect().await.execute(ahead).await.unwrap();
    assert!(eventually(async || fits().await == 0.0).await, "{}", service.log());
    service.ends_well_on("TERM").await;
}

#[tokio::test]
async fn the_name_of_the_application_is_that_of_the_url() {
    let database = TestDatabase::create().await;
    let joint = if database.url.contains('?') { '&' } else { '?' };
    let named = format!("{}{joint}application_name=desk", database.url);
    for (url, wanted) in [(&named, "desk"), (&database.url, "group-mirror")] {
        let pools = Database::new(url).unwrap();
        let shown = sqlx::query_scalar("SELECT current_setting('application_name')");
        let mut conn = pools.reader().acquire().await.unwrap();
        let shown: String = shown.fetch_one(&mut *conn).await.unwrap();
        drop(conn);
        assert_eq!(shown, wanted);
        pools.close().await;
    }
}
