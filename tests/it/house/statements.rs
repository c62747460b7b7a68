//! The statements that are written from the descriptions of the tables, as text that is reviewed.
//!
//! `tests/it/data/statements.sql` holds the upserts and the selects exactly as they are sent, so that a change of
//! a description shows its SQL in the diff. `UPDATE_SNAPSHOTS=1 cargo test --test it statements` writes it anew.

use group_mirror::mirror::tables;
use group_mirror::store::{lines, upsert};
use sqlx::{AssertSqlSafe, Executor as _};

use crate::support::postgres::TestDatabase;

const SNAPSHOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/data/statements.sql");

/// Each statement with a name, in the order in which a transaction sends them: of callbacks, of reads, and the selects.
fn statements() -> Vec<(String, String)> {
    let by_callbacks = [
        ("groups", upsert::statement(&tables::GROUPS, upsert::OF_CALLBACKS)),
        ("group_members", upsert::statement(&tables::MEMBERS, upsert::OF_CALLBACKS)),
        ("group_user_defined_fields", upsert::statement(&tables::USER_DEFINED_FIELDS, upsert::OF_CALLBACKS)),
        ("group_attributes", upsert::statement(&tables::ATTRIBUTES, upsert::OF_CALLBACKS)),
        ("group_topics", upsert::statement(&tables::TOPICS, upsert::OF_CALLBACKS)),
    ];
    let beside = [
        ("groups_with_creates_or_destroys", upsert::statement(&tables::GROUPS, upsert::WITH_ENDS)),
        ("groups_by_reads", upsert::statement(&tables::GROUPS, upsert::OF_READS)),
        ("group_list_ranges", upsert::statement(&tables::RANGES, upsert::OF_READS)),
        ("group_topics_by_reads", upsert::statement(&tables::TOPICS, upsert::OF_READS)),
    ];
    let upserts = by_callbacks.into_iter().chain(beside);
    let upserts = upserts.map(|(name, sql)| (format!("upsert_{name}"), sql));
    let listed = [("replace_listed".to_owned(), upsert::replace_listed_statement())];
    let tables = lines::tables();
    let selects = tables.iter().map(|of| (format!("lines_of_{}", of.table), of.select()));
    let of_groups = [("lines_of_groups_by_key".to_owned(), tables[0].select_groups())];
    upserts.chain(listed).chain(selects).chain(of_groups).collect()
}

fn snapshot() -> String {
    let head = "-- Written by `UPDATE_SNAPSHOTS=1 cargo test --test it statements`: what mirror/tables.rs comes to in SQL.\n";
    let statements = statements().into_iter().map(|(name, sql)| format!("\n-- {name}\n{sql};\n"));
    [head.to_owned()].into_iter().chain(statements).collect()
}

#[test]
fn the_generated_statements_are_those_that_were_reviewed() {
    let generated = snapshot();
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(SNAPSHOT, &generated).unwrap();
    }
    let reviewed = std::fs::read_to_string(SNAPSHOT).unwrap_or_default();
    assert_eq!(generated, reviewed, "review the change, then run with UPDATE_SNAPSHOTS=1");
    assert!(generated.lines().all(|line| line.chars().count() <= 120), "a line is too long to be reviewed");
}

#[tokio::test]
async fn postgres_prepares_every_generated_statement_on_the_migrated_schema() {
    let database = TestDatabase::create().await;
    let mut conn = database.connect().await;
    for (name, sql) in statements() {
        conn.execute(AssertSqlSafe(format!("PREPARE {name} AS {sql}"))).await.unwrap();
    }
    let prepared: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_prepared_statements WHERE from_sql")
        .fetch_one(&mut conn)
        .await
        .unwrap();
    assert_eq!(prepared, 17);
}
