//! The schema: described to the last column, migrated once, never touched when it is not ours.

use group_mirror::store::errors::Mismatch;
use group_mirror::store::schema::{self, MIGRATOR};
use group_mirror::store::{Database, StoreError};
use sqlx::Executor as _;

use crate::support::postgres::TestDatabase;
use crate::support::{Service, settings};

#[tokio::test]
async fn every_table_view_and_column_has_a_comment_and_every_constraint_a_name() {
    let database = TestDatabase::create().await;
    let mut conn = database.connect().await;
    let bare: Vec<String> = sqlx::query_scalar(
        "SELECT c.relname || coalesce('.' || a.attname, '')
           FROM pg_class c LEFT JOIN pg_attribute a
             ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
          WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND c.relname <> '_sqlx_migrations'
            AND (obj_description(c.oid, 'pg_class') IS NULL
                 OR (a.attnum IS NOT NULL AND col_description(c.oid, a.attnum) IS NULL))",
    )
    .fetch_all(&mut conn)
    .await
    .unwrap();
    assert_eq!(bare, Vec::<String>::new());
}

#[tokio::test]
async fn ids_compare_by_their_bytes_and_keys_begin_with_app_and_group() {
    let database = TestDatabase::create().await;
    let mut conn = database.connect().await;
    let odd: Vec<String> = sqlx::query_scalar(
        "SELECT table_name || '.' || column_name FROM information_schema.columns
          WHERE table_schema = 'public' AND (column_name LIKE '%\\_id' OR column_name = 'key')
            AND data_type = 'text' AND column_name <> 'request_id' AND collation_name IS DISTINCT FROM 'C'",
    )
    .fetch_all(&mut conn)
    .await
    .unwrap();
    assert_eq!(odd, Vec::<String>::new());
    let keys: Vec<(String, String)> = sqlx::query_as(
        "SELECT c.conrelid::regclass::text, pg_get_constraintdef(c.oid) FROM pg_constraint c
          WHERE c.contype = 'p' AND c.connamespace = 'public'::regnamespace AND c.conname NOT LIKE '\\_sqlx%'
            AND c.conrelid <> 'database_identity'::regclass AND c.conparentid = 0",
    )
    .fetch_all(&mut conn)
    .await
    .unwrap();
    assert_eq!(keys.len(), 16);
    for (table, key) in keys {
        assert!(key.starts_with("PRIMARY KEY (sdk_app_id, group_id"), "{table}: {key}");
    }
}

#[tokio::test]
async fn migrating_twice_changes_nothing_the_second_time() {
    let database = TestDatabase::create_empty().await;
    let pools = Database::new(&database.url).unwrap();
    assert_eq!(schema::migrate(&pools).await.unwrap(), MIGRATOR.iter().count());
    assert_eq!(schema::migrate(&pools).await.unwrap(), 0);
    let mut conn = database.connect().await;
    assert_eq!(schema::check(&mut conn).await.unwrap(), None);
    pools.close().await;
}

#[tokio::test]
async fn migrating_a_filled_database_without_statistics_gathers_them_as_after_a_restore() {
    let database = TestDatabase::create().await;
    let mut conn = database.connect().await;
    conn.execute("ALTER TABLE groups SET (autovacuum_enabled = off)").await.unwrap();
    conn.execute(
        "INSERT INTO groups (sdk_app_id, group_id) SELECT 1, 'g' || n FROM generate_series(1, 100) n",
    )
    .await
    .unwrap();
    let known = "SELECT count(*) > 0 FROM pg_stats WHERE tablename = 'groups'";
    assert!(!sqlx::query_scalar::<_, bool>(known).fetch_one(&mut conn).await.unwrap());
    let pools = Database::new(&database.url).unwrap();
    assert_eq!(schema::migrate(&pools).await.unwrap(), 0);
    assert!(sqlx::query_scalar::<_, bool>(known).fetch_one(&mut conn).await.unwrap());
    pools.close().await;
}

#[tokio::test]
async fn a_database_of_another_application_is_left_alone() {
    let database = TestDatabase::create_empty().await;
    let mut conn = database.connect().await;
    conn.execute("CREATE TABLE orders (id int)").await.unwrap();
    let pools = Database::new(&database.url).unwrap();
    let error = schema::migrate(&pools).await.unwrap_err();
    assert!(matches!(error, StoreError::Schema(Mismatch::Foreign(_))), "{error}");
    let Err(error) = Service::start(&settings(&database.url)).await else { panic!("started") };
    let line = format!("{error:#}");
    assert!(line.starts_with("the database belongs to another application: it holds \"orders\""), "{line}");
    let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
        .fetch_one(&mut conn)
        .await
        .unwrap();
    assert_eq!(tables, 1);
    pools.close().await;
}

#[tokio::test]
async fn foreign_ahead_dirty_and_behind_schemas_are_told_apart() {
    for (change, told) in [
        (
            "UPDATE _sqlx_migrations SET checksum = '\\x00' WHERE version = 1",
            "the database belongs to another application",
        ),
        (
            "UPDATE _sqlx_migrations SET version = version + 100",
            "the database belongs to another application",
        ),
        (
            "INSERT INTO _sqlx_migrations VALUES (99, 'later', now(), true, '\\x00', 0)",
            "the schema is ahead: it has migration 99",
        ),
        ("UPDATE _sqlx_migrations SET success = false WHERE version = 2", "migration 2 failed half-way"),
        ("DELETE FROM _sqlx_migrations WHERE version > 4", "the schema is behind: "),
    ] {
        let database = TestDatabase::create().await;
        let mut conn = database.connect().await;
        conn.execute(change).await.unwrap();
        let mismatch = schema::check(&mut conn).await.unwrap().unwrap().to_string();
        assert!(mismatch.starts_with(told), "{change}: {mismatch}");
    }
}

/// Each of them is made after rows are there, and some after all keys.
#[tokio::test]
async fn a_database_without_something_that_a_restore_makes_last_is_not_complete() {
    for (change, told) in [
        (
            "ALTER TABLE replica_marks DROP CONSTRAINT replica_marks_key",
            "table replica_marks has no valid key",
        ),
        ("DROP INDEX ledger_people_user_idx", "table ledger_people has no valid index"),
        ("DROP INDEX ledger_moves_position_idx", "table ledger_moves has no valid index"),
        ("DROP INDEX feed_marks_time_idx", "table feed_marks has no valid index"),
        (
            "DROP INDEX ledger_position_idx; CREATE INDEX ledger_position_idx ON ONLY ledger (position)",
            "index ledger_position_idx is not made for all partitions",
        ),
        ("DROP TRIGGER group_moved ON groups", "table groups has no trigger group_moved"),
        ("ALTER TABLE groups DISABLE TRIGGER group_moved", "table groups has no trigger group_moved"),
    ] {
        let database = TestDatabase::create().await;
        let mut conn = database.connect().await;
        conn.execute(change).await.unwrap();
        let mismatch = schema::check(&mut conn).await.unwrap();
        let told = format!("the database is not complete: {told}");
        assert!(mismatch.is_some_and(|mismatch| mismatch.to_string().starts_with(&told)), "{change}");
    }
    // What an operator may do is no restore that goes on.
    let database = TestDatabase::create().await;
    let mut conn = database.connect().await;
    for change in [
        "DROP INDEX groups_prefix_idx",
        "DROP INDEX ledger_time_idx",
        "CREATE INDEX of_an_operator ON ONLY ledger (operator)",
    ] {
        conn.execute(change).await.unwrap();
        assert_eq!(schema::check(&mut conn).await.unwrap(), None, "{change}");
    }
}

/// The check of what a restore makes last knows all triggers, all tables without a key and all indexes that are made in parts.
#[tokio::test]
async fn the_schema_has_one_trigger_three_tables_without_a_key_and_six_indexes_of_partitioned_tables() {
    let database = TestDatabase::create().await;
    let mut conn = database.connect().await;
    for (statement, wanted) in [
        ("SELECT tgname::text FROM pg_trigger WHERE NOT tgisinternal AND tgparentid = 0", &["group_moved"][..]),
        (
            "SELECT c.relname::text FROM pg_class c
              WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
                AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique) ORDER BY 1",
            &["feed_marks", "ledger_moves", "ledger_people"],
        ),
        (
            "SELECT c.relname::text FROM pg_class c
              WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'I' ORDER BY 1",
            &[
                "ledger_people_user_idx",
                "ledger_pkey",
                "ledger_position_idx",
                "ledger_request_idx",
                "ledger_time_idx",
                "ledger_unread_idx",
            ],
        ),
        ("SELECT conname::text FROM pg_constraint WHERE contype = 'f' OR NOT convalidated", &[]),
    ] {
        let found: Vec<String> = sqlx::query_scalar(statement).fetch_all(&mut conn).await.unwrap();
        assert_eq!(found, wanted, "{statement}");
    }
}

#[tokio::test]
async fn a_service_on_a_schema_that_is_behind_touches_nothing_spools_and_serves_once_it_is_migrated() {
    let database = TestDatabase::create_empty().await;
    let service = Service::start(&settings(&database.url)).await.unwrap();
    let create = crate::support::sample("Group.CallbackAfterCreateGroup");
    service.taken(&create).await;
    let (ready, told) = service.readiness().await;
    assert!(ready, "it can make a callback durable");
    assert!(told["database"].as_str().unwrap().contains("the schema is behind"), "{told}");
    assert_eq!(told["spool"]["depth"], 1);
    let read = service.client.get(service.api_url("/v1/groups")).bearer_auth(crate::support::API_TOKEN);
    assert_eq!(read.send().await.unwrap().status(), 503);
    let pools = Database::new(&database.url).unwrap();
    schema::migrate(&pools).await.unwrap();
    service.until(|told| told["database"] == "ok" && told["spool"]["depth"] == 0).await;
    assert_eq!(service.read("/v1/groups").await["items"].as_array().unwrap().len(), 1);
    service.taken(&create).await;
    service.stop().await;
    pools.close().await;
}

/// What Rust shows of bytes, with each byte that is no part of a character replaced by itself, and NUL as well.
fn lossy(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(&chunk.valid().replace('\0', "\u{fffd}"));
        chunk.invalid().iter().for_each(|_| text.push('\u{fffd}'));
    }
    text
}

#[tokio::test]
async fn the_ledger_shows_every_body_as_text_to_people_who_read_by_sql() {
    let database = TestDatabase::create().await;
    let mut conn = database.connect().await;
    let mut bodies: Vec<Vec<u8>> = vec![
        Vec::new(),
        b"{\"GroupId\":\"g\"}".to_vec(),
        "\u{feff}grün 群聊 🎉 \u{7ff}\u{800}\u{d7ff}\u{e000}\u{ffff}\u{10000}\u{10ffff}".into(),
        b"a\0b".to_vec(),
        (0..=255).collect(),
        (0..=255).rev().collect(),
        b"\xc0\x80 \xe0\x80\x80 \xed\xa0\x80 \xf4\x90\x80\x80 \xf8\x88\x80\x80\x80 \xe7\xbe".to_vec(),
        [b"\xff".to_vec(), "群".repeat(300_000).into_bytes()].concat(),
    ];
    // Everything that two bytes behind a leading one can be.
    for lead in [0xc1_u8, 0xc2, 0xdf, 0xe0, 0xe1, 0xed, 0xef, 0xf0, 0xf1, 0xf4, 0xf5] {
        let tails = (0..=255_u8).step_by(16).flat_map(|a| (0x70..=0xd0).step_by(16).map(move |b| [a, b]));
        bodies.push(tails.flat_map(|[a, b]| [lead, a, b, 0x80, b' ']).collect());
    }
    for (number, body) in bodies.iter().enumerate() {
        sqlx::query(
            "INSERT INTO ledger (sdk_app_id, group_id, time_ms, digest, command, received_at, source, outcome, body)
             VALUES (1, '', $1, substr(sha256($2), 1, 16), 'c', now(), 'callback', 'applied', $2)",
        )
        .bind(i64::try_from(number).unwrap())
        .bind(body)
        .execute(&mut conn)
        .await
        .unwrap();
    }
    let shown: Vec<String> = sqlx::query_scalar("SELECT body FROM ledger_entries ORDER BY time_ms")
        .fetch_all(&mut conn)
        .await
        .unwrap();
    assert_eq!(shown.len(), bodies.len());
    for (shown, body) in shown.iter().zip(&bodies) {
        assert!(
            *shown == lossy(body),
            "{:?} is shown as {:?}",
            lossy(&body[..body.len().min(99)]),
            shown.get(..99)
        );
    }
}
