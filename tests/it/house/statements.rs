//! The statements that are written from the descriptions of the tables, as text that is reviewed.
//!
//! `tests/it/data/statements.sql` holds the upserts and the five selects exactly as they are sent, so that a change of
//! a description shows its SQL in the diff. `UPDATE_SNAPSHOTS=1 cargo test --test it statements` writes it anew.

use group_mirror::mirror::Rows;
use group_mirror::mirror::tables::{self, Columns, Origin, StampJoin, Table};
use group_mirror::store::{lines, upsert};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _};

use crate::support::api::{after, told};
use crate::support::postgres::TestDatabase;

const SNAPSHOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/data/statements.sql");

/// The upsert of a large batch, which names every register; with the sets of ends, or without.
fn whole<R>(table: &Table<R>, with_ends: bool) -> String {
    let wanted = |columns: &&Columns<R>| {
        columns.origin == Origin::Callbacks && (with_ends || columns.join == StampJoin::Greatest)
    };
    upsert::statement(table, &table.columns.iter().filter(wanted).collect::<Vec<_>>())
}

/// The upsert of a large batch of snapshots.
fn by_reads<R>(table: &Table<R>) -> String {
    let wanted = |columns: &&Columns<R>| columns.origin != Origin::Lists;
    upsert::statement(table, &table.columns.iter().filter(wanted).collect::<Vec<_>>())
}

/// The upserts of one callback, which name what it raises.
fn of_one(name: &str, body: &Value) -> Vec<(String, String)> {
    let rows = Rows::of(told("1400000001", body));
    let (groups, members) = (rows.groups.values(), rows.members.values());
    let groups = upsert::statement(&tables::GROUPS, &upsert::raised(&tables::GROUPS, &groups));
    let members = upsert::statement(&tables::MEMBERS, &upsert::raised(&tables::MEMBERS, &members));
    [("groups", groups), ("group_members", members)]
        .map(|(table, sql)| (format!("upsert_{table}_of_one_{name}"), sql))
        .to_vec()
}

/// Each statement with a name, in the order in which a transaction sends them.
fn statements() -> Vec<(String, String)> {
    let upserts = [
        ("groups", whole(&tables::GROUPS, false)),
        ("group_members", whole(&tables::MEMBERS, false)),
        ("group_user_defined_fields", whole(&tables::USER_DEFINED_FIELDS, false)),
        ("group_attributes", whole(&tables::ATTRIBUTES, false)),
        ("group_topics", whole(&tables::TOPICS, false)),
        ("groups_with_creates_or_destroys", whole(&tables::GROUPS, true)),
        ("groups_by_reads", by_reads(&tables::GROUPS)),
        ("group_list_ranges_by_reads", by_reads(&tables::RANGES)),
        ("group_members_by_reads", by_reads(&tables::MEMBERS)),
        ("group_topics_by_reads", by_reads(&tables::TOPICS)),
    ];
    let members =
        json!({"Type": "Public", "JoinType": "Apply", "NewMemberList": [{"Member_Account": "boris"}]});
    let join = after("NewMemberJoin", "@TGS#2J", 0, members);
    let upserts = upserts.map(|(name, sql)| (format!("upsert_{name}"), sql)).into_iter();
    let upserts = upserts.chain(of_one("join", &join));
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
    assert_eq!(prepared, 20);
}
