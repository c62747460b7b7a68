//! What PostgreSQL answers, and what becomes of the callback: parked only where the data is at fault.

use group_mirror::callback::Callback;
use group_mirror::ingest::{NotCommitted, Outcome, commit};
use group_mirror::store::Database;
use serde_json::json;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Executor as _};

use crate::durability::spool::create;
use crate::rules::laws::callback;
use crate::support::postgres::TestDatabase;

/// One or more codes of every class that PostgreSQL has, those of SQL that it uses elsewhere, and one that is its own.
const CODES: &str = "\
01000 02000 03000 08000 08006 08P01 09000 0A000 0B000 0F000 0L000 0P000 0Z000 10608 20000 21000 24000 25000 25001 25006 \
25P01 25P02 25P03 25P04 26000 27000 28000 28P01 2B000 2BP01 2D000 2F000 34000 38000 39000 3B000 3D000 3F000 40000 40001 \
40002 40003 40P01 42000 42501 42601 42703 42804 42P01 42P07 42P18 42P21 44000 53000 53100 53200 53300 53400 54000 54001 \
54011 54023 55000 55006 55P02 55P03 55P04 57000 57014 57P01 57P02 57P03 57P04 57P05 58000 58030 58P01 58P02 72000 F0000 \
HV000 P0000 P0001 P0002 P0004 XX000 XX001 XX002 ZZ999";

/// The codes for which the data is at fault.
const DATA_CODES: &str = "22000 22001 22003 22007 22021 22P02 22P05 23000 23502 23503 23505 23514 23P01";

/// Makes the table refuse a group with a code.
async fn refuse(conn: &mut PgConnection, table: &str, group: &str, code: &str) {
    let statements = format!(
        "CREATE OR REPLACE FUNCTION test_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF NEW.group_id LIKE '{group}' THEN RAISE EXCEPTION 'refused by a test' USING ERRCODE = '{code}'; END IF;
             RETURN NEW;
         END $$;
         CREATE OR REPLACE TRIGGER test_refuse BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION test_refuse()"
    );
    conn.execute(AssertSqlSafe(statements)).await.unwrap();
}

fn batch(code: &str) -> Vec<Callback> {
    ["first", "bad", "last"].iter().map(|group| callback(&create(&format!("{group} {code}")))).collect()
}

#[tokio::test]
async fn a_callback_is_parked_only_where_the_data_is_at_fault_and_takes_no_other_with_it() {
    let test = TestDatabase::create().await;
    let (database, mut conn) = (Database::new(&test.url).unwrap(), test.connect().await);
    // The ledger's entry is written already; the transaction is under way.
    for code in CODES.split_whitespace() {
        refuse(&mut conn, "groups", "bad%", code).await;
        let outcomes = commit(&database, &batch(code)).await;
        assert!(
            outcomes.iter().all(|outcome| !matches!(outcome, Ok(Outcome::Parked(_)))),
            "{code}: {outcomes:?}"
        );
        assert!(outcomes[1].is_err(), "{code}: {outcomes:?}");
        if outcomes[1].as_ref().is_err_and(|not| matches!(not, NotCommitted::Alone(..))) {
            assert_eq!(
                (outcomes[0].as_ref().ok(), outcomes[2].as_ref().ok()),
                (Some(&Outcome::Applied), Some(&Outcome::Applied)),
                "{code}"
            );
        }
    }
    for code in DATA_CODES.split_whitespace() {
        refuse(&mut conn, "groups", "bad%", code).await;
        let outcomes: Vec<Outcome> =
            commit(&database, &batch(code)).await.into_iter().map(Result::unwrap).collect();
        assert!(
            matches!(&outcomes[..], [Outcome::Applied, Outcome::Parked(_), Outcome::Applied]),
            "{code}: {outcomes:?}"
        );
    }
    // The reason is a text of this program: the server's own can quote rows.
    let (parked, refused, quoted): (i64, i64, i64) = sqlx::query_as(
        "SELECT count(*), count(*) FILTER (WHERE causes = '{refused_by_database}'),
                count(*) FILTER (WHERE reason LIKE '%refused by a test%')
           FROM ledger WHERE outcome = 'parked'",
    )
    .fetch_one(&mut conn)
    .await
    .unwrap();
    let wanted = i64::try_from(DATA_CODES.split_whitespace().count()).unwrap();
    assert_eq!((parked, refused, quoted), (wanted, wanted, 0));
    database.close().await;
}

/// As a server without timers waits for a lock.
const ENDLESS: &str = "
CREATE FUNCTION test_endless() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(3600); RETURN NEW; END $$;
CREATE TRIGGER test_endless BEFORE INSERT ON groups FOR EACH ROW WHEN (NEW.group_id = 'endless')
EXECUTE FUNCTION test_endless()";

#[tokio::test]
async fn a_statement_that_does_not_end_is_cancelled_by_this_side_before_the_limit_of_the_server() {
    let test = TestDatabase::create().await;
    let (database, mut conn) = (Database::new(&test.url).unwrap(), test.connect().await);
    conn.execute(ENDLESS).await.unwrap();
    let batch = ["before", "endless", "then"].map(|group| callback(&create(group)));
    let outcomes = commit(&database, &batch).await;
    let Err(NotCommitted::Alone(_, error)) = &outcomes[1] else { panic!("{outcomes:?}") };
    assert!(error.to_string().contains("canceling statement due to user request"), "{error}");
    for at in [0, 2] {
        assert_eq!(outcomes[at].as_ref().unwrap(), &Outcome::Applied);
    }
    let running: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pg_stat_activity
          WHERE datname = current_database() AND application_name = 'group-mirror' AND state <> 'idle'",
    )
    .fetch_one(&mut conn)
    .await
    .unwrap();
    assert_eq!(running, 0);
    database.close().await;
}

#[tokio::test]
async fn a_key_that_is_too_long_for_an_index_is_parked() {
    let test = TestDatabase::create().await;
    let (database, mut conn) = (Database::new(&test.url).unwrap(), test.connect().await);
    conn.execute("CREATE INDEX test_name_idx ON groups (name)").await.unwrap();
    let mut long = create("long");
    // Without repetition, so that it cannot be compressed.
    long["Name"] = json!((0..2000).map(|number| format!("{:x}", number * 7919)).collect::<String>());
    let outcomes = commit(&database, &[callback(&long), callback(&create("short"))]).await;
    let outcomes: Vec<Outcome> = outcomes.into_iter().map(Result::unwrap).collect();
    assert!(matches!(&outcomes[..], [Outcome::Parked(_), Outcome::Applied]), "{outcomes:?}");
    database.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_changes_under_open_sessions_parks_nothing_and_holds_up_nothing() {
    let test = TestDatabase::create().await;
    let (database, mut conn) = (Database::new(&test.url).unwrap(), test.connect().await);
    // No column that a view shows or a trigger names can change its type.
    conn.execute("DROP VIEW ledger_entries").await.unwrap();
    for change in [
        "ALTER TABLE ledger ALTER COLUMN group_id TYPE varchar(600) COLLATE \"C\"",
        "ALTER TABLE ledger ALTER COLUMN group_id TYPE text COLLATE \"C\"",
    ] {
        // Several sessions prepare the statements, each with a plan of its own.
        let open = (0..6).map(async |number| {
            for round in 0..8 {
                commit(&database, &[callback(&create(&format!("{change} {number} {round}")))])
                    .await
                    .remove(0)
                    .unwrap();
            }
        });
        futures_util::future::join_all(open).await;
        conn.execute(change).await.unwrap();
        for number in 0..24 {
            let outcome =
                commit(&database, &[callback(&create(&format!("{change} after {number}")))]).await.remove(0);
            assert_eq!(outcome.unwrap(), Outcome::Applied);
        }
    }
    database.close().await;
}
