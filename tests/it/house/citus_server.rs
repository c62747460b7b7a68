//! Citus as far as a plain PostgreSQL can show it: which tables are cut and by what keys, and the forms of statements that a server
//! with the extension gets. Where `CITUS_DATABASE_URL` names a coordinator, the calls of docs/citus.md are run there.

use std::collections::BTreeSet;

use group_mirror::callback::{Callback, Decoded, Received, decode};
use group_mirror::ingest::commit;
use group_mirror::model::{Millis, SdkAppId};
use group_mirror::replay::{Mode, Retry, replay, unpark};
use group_mirror::store::{Database, lines, schema};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use super::citus_forms::{DISTRIBUTED, LOCAL, VIEWS};
use crate::process::lifecycle::skipped;
use crate::support::api::T0;
use crate::support::postgres::TestDatabase;
use crate::support::{APP, samples};

/// The extension as far as this program looks for it.
const CLAIMED: &str = "
INSERT INTO pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
VALUES (4000000001, 'citus', 10, 'pg_catalog'::regnamespace, false, '0')";

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

fn received(body: &str, ms: i64, request: Option<&str>) -> Option<Callback> {
    let received = Received {
        request_id: request.map(str::to_owned),
        ..Received::bare(
            SdkAppId::parse(APP).unwrap(),
            Millis::new(T0 + DAY_MS + ms),
            body.as_bytes().to_vec(),
        )
    };
    let Decoded::Kept(callback) = decode(received) else { return None };
    Some(*callback)
}

/// Every sample that is kept, a repeat of one that was received earlier, and one that is parked.
fn said() -> Vec<Callback> {
    let samples = samples();
    let mut said: Vec<Callback> =
        samples.iter().filter_map(|(_, body)| received(body, 5_000, Some("first"))).collect();
    let topic = samples.iter().find(|(name, _)| name == "Group.CallbackAfterCreateTopic.json").unwrap();
    said.extend(received(&topic.1, 4_000, Some("first")));
    said.extend(received("no json", 6_000, None));
    said
}

/// Commits, erases in between, replays; answers what the tables hold.
async fn mirrored(url: &str) -> lines::Lines {
    let database = Database::new(url).unwrap();
    let mut conn = PgConnection::connect(url).await.unwrap();
    let said = said();
    let (first, second) = said.split_at(said.len() / 2);
    for (number, batch) in [first, second].into_iter().enumerate() {
        // Another person is erased than this process knows: the batch begins anew.
        conn.execute("UPDATE erasure_state SET version = version + 1").await.unwrap();
        for committed in commit(&database, batch).await {
            committed.unwrap_or_else(|error| panic!("batch {number}: {error:?}"));
        }
    }
    let retry = Retry { cause: None, now: Millis::new(T0 + DAY_MS + 7_000) };
    assert!(unpark(&database, retry, |_| {}).await.unwrap().unchanged > 0);
    let whole = lines::of_tables(&mut conn, lines::ALL).await.unwrap();
    assert!(whole.len() > 10, "{} rows", whole.len());
    conn.execute("UPDATE groups SET name = 'forged'").await.unwrap();
    assert!(replay(&database, Mode::Rebuild, |_| {}).await.unwrap().differences > 0);
    let report = replay(&database, Mode::Verify, |_| {}).await.unwrap();
    assert_eq!((report.differences, report.lines), (0, Vec::new()));
    database.close().await;
    lines::of_tables(&mut conn, lines::ALL).await.unwrap()
}

#[tokio::test]
async fn each_table_is_cut_by_group_or_stays_local_and_each_key_of_a_cut_one_has_the_group() {
    let database = TestDatabase::create().await;
    let mut conn = database.connect().await;
    let named: Vec<(String, bool)> = sqlx::query_as(
        "SELECT relname::text, relkind = 'v' FROM pg_class
          WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v') AND NOT relispartition",
    )
    .fetch_all(&mut conn)
    .await
    .unwrap();
    let of = |wanted: bool| -> BTreeSet<&str> {
        named.iter().filter(|(_, is_view)| *is_view == wanted).map(|(name, _)| name.as_str()).collect()
    };
    assert_eq!(of(false), DISTRIBUTED.into_iter().chain(LOCAL).collect());
    assert_eq!(of(true), VIEWS.into_iter().collect());
    // Citus refuses a unique index without the column by which a table is cut, tables that are cut by columns of two
    // collations, and foreign keys to local tables.
    let odd: Vec<String> = sqlx::query_scalar(
        "SELECT 'index ' || i.indexrelid::regclass::text FROM pg_index i
          WHERE i.indrelid::regclass::text = ANY ($1) AND i.indisunique
            AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = i.indrelid AND a.attname = 'group_id'
                               AND a.attnum = ANY (i.indkey::smallint[]))
         UNION ALL
         SELECT 'column of ' || t.name FROM UNNEST($1::text[]) AS t (name)
          WHERE NOT EXISTS (SELECT FROM pg_attribute a JOIN pg_collation c ON c.oid = a.attcollation
                             WHERE a.attrelid = t.name::regclass AND a.attname = 'group_id' AND a.attnotnull
                               AND a.atttypid = 'text'::regtype AND c.collname = 'C')
         UNION ALL
         SELECT 'foreign key ' || conname FROM pg_constraint
          WHERE contype = 'f' AND connamespace = 'public'::regnamespace
         UNION ALL
         SELECT 'trigger ' || tgname FROM pg_trigger
          WHERE NOT tgisinternal AND tgrelid::regclass::text = ANY ($1) AND tgname <> 'group_moved'",
    )
    .bind(DISTRIBUTED)
    .fetch_all(&mut conn)
    .await
    .unwrap();
    assert_eq!(odd, Vec::<String>::new());
}

#[tokio::test]
async fn the_statements_of_a_server_with_citus_make_the_same_mirror() {
    let (plain, claimed) = (TestDatabase::create().await, TestDatabase::create().await);
    claimed.connect().await.execute(CLAIMED).await.unwrap();
    assert_eq!(mirrored(&claimed.url).await, mirrored(&plain.url).await);
}

#[tokio::test]
async fn lookups_on_a_server_with_citus_are_planned_for_their_values() {
    let (plain, claimed) = (TestDatabase::create().await, TestDatabase::create().await);
    claimed.connect().await.execute(CLAIMED).await.unwrap();
    for (of, wanted) in [(&plain, "force_generic_plan"), (&claimed, "auto")] {
        let database = Database::new(&of.url).unwrap();
        let mut conn = database.lookup().acquire().await.unwrap();
        let plans: String = sqlx::query_scalar("SELECT current_setting('plan_cache_mode')")
            .fetch_one(&mut *conn)
            .await
            .unwrap();
        assert_eq!(plans, wanted);
        drop(conn);
        database.close().await;
    }
}

/// The statements of the first block of SQL in docs/citus.md.
fn calls() -> Vec<String> {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/citus.md")).unwrap();
    let block = page.split("```sql\n").nth(1).unwrap().split("```").next().unwrap();
    block.lines().map(|line| line.split("--").next().unwrap().trim().to_owned()).collect()
}

/// Needs an empty database of a coordinator, in which the role may create the extension.
#[tokio::test]
async fn on_a_coordinator_callbacks_are_mirrored_and_replayed() {
    let calls = calls();
    assert_eq!(calls.len(), DISTRIBUTED.len() + 3);
    let Some(url) = std::env::var("CITUS_DATABASE_URL").ok().filter(|url| !url.is_empty()) else {
        skipped("CITUS_DATABASE_URL names no coordinator of Citus");
        return;
    };
    let mut conn = PgConnection::connect(&url).await.unwrap();
    conn.execute("CREATE EXTENSION IF NOT EXISTS citus").await.unwrap();
    let database = Database::new(&url).unwrap();
    schema::migrate(&database).await.unwrap();
    database.close().await;
    for call in calls {
        conn.execute(AssertSqlSafe(call.clone())).await.unwrap_or_else(|error| panic!("{call}: {error}"));
    }
    let plain = TestDatabase::create().await;
    assert_eq!(mirrored(&url).await, mirrored(&plain.url).await);
}
