//! A person is erased from a filled mirror: the id is nowhere, the mirror is what its ledger says, and repeats are known.

use std::collections::BTreeMap;

use group_mirror::callback::Callback;
use group_mirror::ingest::{commit, commit_snapshots};
use group_mirror::mirror::Snapshot;
use group_mirror::model::{Millis, SdkAppId, UserId};
use group_mirror::replay::{Mode, replay};
use group_mirror::retention::{self, Erased, ErasureWanted};
use group_mirror::store::erased_columns::{IMPERSONAL, PERSONAL};
use group_mirror::store::{Database, lines};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::bodies::decoded;
use crate::rules::laws;
use crate::support::postgres::TestDatabase;
use crate::support::process::{Place, refused, run};
use crate::support::{APP, apps, dump, histories, reads};

/// A moment after everything that the histories say.
pub(super) const NOW: Millis = Millis::new(histories::BASE_MS + 10_000_000);

pub(super) async fn erased(database: &Database, user: &str, stays_erased: bool) -> Erased {
    erased_at(database, user, NOW, stays_erased).await
}

pub(super) async fn erased_at(database: &Database, user: &str, now: Millis, stays_erased: bool) -> Erased {
    let wanted = ErasureWanted {
        app: SdkAppId::parse(APP).unwrap(),
        user: UserId::parse(user).unwrap(),
        now,
        stays_erased,
    };
    retention::erase(database, &wanted).await.unwrap()
}

/// Is applied in part, and its reason quotes the id.
const ILL_TYPED: &str = r#"{"CallbackCommand":"Group.CallbackAfterGroupInfoChanged","GroupId":"t0","Name":"x",
    "EventTime":1700000000007,"Operator_Account":["ana"]}"#;

fn of_bytes(body: &str) -> Callback {
    decoded(body.as_bytes()).unwrap_or_else(|| panic!("out of scope: {body}"))
}

/// What a world consists of: callbacks as they were received, and reads.
pub(super) struct World {
    pub callbacks: Vec<Callback>,
    pub snapshots: Vec<Snapshot>,
}

impl World {
    /// Histories with ids of their own, and texts that are the id of a user.
    pub(super) fn generated(histories: usize) -> Self {
        let mut runner = TestRunner::deterministic();
        let (mut bodies, mut snapshots) = (Vec::new(), Vec::new());
        for number in 0..histories {
            let prefix = format!("h{number}-");
            let history = histories::history().new_tree(&mut runner).unwrap().current();
            bodies.extend(histories::renamed(&history, &prefix));
            for _ in 0..3 {
                let snapshot = reads::snapshot().new_tree(&mut runner).unwrap().current();
                snapshots.push(reads::renamed(&snapshot, &prefix));
            }
        }
        for (number, command) in
            ["GroupInfoChanged", "GroupAttrChanged", "MemberFieldChanged"].iter().enumerate()
        {
            bodies.push(json!({
                "CallbackCommand": format!("Group.CallbackAfter{command}"), "GroupId": format!("t{number}"),
                "EventTime": histories::BASE_MS + 5, "Name": "ana", "Member_Account": "ana", "NameCard": "Ana Li",
                "OptionType": "set", "GroupAttr": [{ "key": "ana", "value": "ana" }],
                "UserDefinedDataList": [{ "Key": "k", "Value": "ana" }], "Operator_Account": "ana",
            }));
        }
        let mut callbacks: Vec<Callback> = bodies.iter().map(laws::callback).collect();
        for callback in &mut callbacks {
            callback.received.client_ip = Some("203.0.113.9".into());
            callback.received.query = Some("SdkAppid=1400000001&ClientIP=203.0.113.9&User=ana".into());
        }
        for body in ["{\"Operator_Account\":\"\\u0061na\",\"GroupId\":\"t0\"", "no json \"ana\"", ILL_TYPED] {
            callbacks.push(of_bytes(body));
        }
        Self { callbacks, snapshots }
    }

    pub(super) async fn enter(&self, database: &Database) {
        for batch in self.callbacks.chunks(40) {
            assert!(commit(database, batch).await.iter().all(Result::is_ok));
        }
        for batch in self.snapshots.chunks(8) {
            commit_snapshots(database, batch, NOW).await.unwrap();
        }
    }
}

/// Asserts that mirror and ledger agree, and that a rebuild has nothing to do.
pub(super) async fn verified(database: &Database) {
    let report = replay(database, Mode::Verify, |_| {}).await.unwrap();
    assert_eq!(
        (report.differences, report.readable),
        (0, 0),
        "{:?} {:?}",
        report.lines,
        report.readable_lines
    );
}

/// Everything that is stored, as text, by table.
async fn everything(conn: &mut PgConnection) -> BTreeMap<String, String> {
    let tables: Vec<String> =
        sqlx::query_scalar("SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'")
            .fetch_all(&mut *conn)
            .await
            .unwrap();
    let mut all = BTreeMap::new();
    for table in tables {
        let columns = if table == "ledger" { "t::text || ledger_body_text(t.body)" } else { "t::text" };
        let select = format!("SELECT coalesce(string_agg({columns}, E'\\n'), '') FROM {table} t");
        all.insert(table, sqlx::query_scalar(AssertSqlSafe(select)).fetch_one(&mut *conn).await.unwrap());
    }
    all
}

/// True where a text holds a word that is the id, whatever stands around it.
fn names(text: &str, user: &str) -> bool {
    let is_part = |character: char| character.is_alphanumeric() || character == '_';
    text.split(|character| !is_part(character)).any(|word| word == user)
}

/// What the tables hold after a person was erased, as it should be by what they held before.
fn renamed(before: &dump::Dump, user: &str, pseudonym: &str) -> Value {
    let text = json!(before).to_string().replace(&format!("{user:?}"), &format!("{pseudonym:?}"));
    let mut tables: Value = serde_json::from_str(&text).unwrap();
    for row in tables["group_members"].as_array_mut().unwrap() {
        if row["user_id"] == pseudonym {
            for card in ["name_card", "listed_name_card"] {
                if !row[card].is_null() {
                    row[card] = json!("");
                }
            }
        }
    }
    sorted(tables)
}

fn sorted(mut tables: Value) -> Value {
    for table in tables.as_object_mut().unwrap().values_mut() {
        table.as_array_mut().unwrap().sort_by_key(ToString::to_string);
    }
    tables
}

#[tokio::test]
async fn an_erased_id_stands_nowhere_the_mirror_is_what_the_ledger_says_and_repeats_are_known() {
    let test = TestDatabase::create().await;
    let database = Database::new(&test.url).unwrap();
    let world = World::generated(40);
    world.enter(&database).await;
    verified(&database).await;
    let mut conn = test.connect().await;
    let before = dump::tables(&mut conn).await;
    assert!(everything(&mut conn).await.values().filter(|text| names(text, "ana")).count() >= 6);
    let keys = "SELECT string_agg(concat(group_id, time_ms, digest, position, outcome, causes), ',' ORDER BY position) FROM ledger";
    let keys_before: String = sqlx::query_scalar(keys).fetch_one(&mut conn).await.unwrap();

    let erased = erased(&database, "ana", false).await;
    let pseudonym = erased.pseudonym.as_str();
    verified(&database).await;
    for (table, text) in everything(&mut conn).await {
        assert!(!names(&text, "ana"), "{table}: {text}");
        assert!(!text.contains("Ana Li"), "{table}: a name card is left");
    }
    assert_eq!(sqlx::query_scalar::<_, String>(keys).fetch_one(&mut conn).await.unwrap(), keys_before);
    assert_eq!(sorted(json!(dump::tables(&mut conn).await)), renamed(&before, "ana", pseudonym));
    assert!(erased.after.is_nowhere() && erased.after.newer == 0, "{erased:?}");
    for column in [
        ("ledger", "body"),
        ("ledger", "client_ip"),
        ("ledger", "query"),
        ("ledger", "reason"),
        ("ledger", "users"),
    ] {
        assert!(erased.before.rows[&column] > 0, "{column:?}: {erased:?}");
    }
    let left: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM ledger WHERE operator = $1 AND (client_ip IS NOT NULL OR query LIKE '%203.0%')",
    )
    .bind(pseudonym)
    .fetch_one(&mut conn)
    .await
    .unwrap();
    assert_eq!(left, 0, "addresses of the person are left");

    // The same again: nothing is new, and nothing changes. (A read that showed nothing new was not entered, and may now.)
    let after = lines::of_tables(&mut conn, lines::ALL).await.unwrap();
    World { snapshots: Vec::new(), ..world }.enter(&database).await;
    assert!(sqlx::query_scalar::<_, String>(keys).fetch_one(&mut conn).await.unwrap() == keys_before);
    assert_eq!(lines::of_tables(&mut conn, lines::ALL).await.unwrap(), after);
    // Another run finds nothing, and keeps the pseudonym.
    let again = super::erasing::erased(&database, "ana", false).await;
    assert_eq!((again.pseudonym.as_str(), again.entries, again.groups), (pseudonym, 0, 0));
    database.close().await;
}

#[tokio::test]
async fn a_large_list_in_ranges_stays_what_it_was_with_another_name() {
    let test = TestDatabase::create().await;
    let database = Database::new(&test.url).unwrap();
    let users: Vec<String> =
        (0..5_200).map(|number| format!("u{number}")).chain(["ana".to_owned()]).collect();
    let list = reads::lists("large", &users, histories::BASE_MS);
    assert!(list.len() == 256, "it is cut into ranges");
    for batch in list.chunks(64) {
        commit_snapshots(&database, batch, NOW).await.unwrap();
    }
    let mut conn = test.connect().await;
    let before = dump::tables(&mut conn).await;
    let erased = erased(&database, "ana", false).await;
    verified(&database).await;
    assert_eq!(
        sorted(json!(dump::tables(&mut conn).await)),
        renamed(&before, "ana", erased.pseudonym.as_str())
    );
    assert_eq!((erased.entries, erased.groups), (1, 1), "one range names the member");
    database.close().await;
}

#[tokio::test]
async fn every_column_with_text_or_bytes_says_what_of_a_person_it_may_hold() {
    let test = TestDatabase::create().await;
    let columns: Vec<(String, String)> = sqlx::query_as(
        "SELECT c.table_name::text, c.column_name::text FROM information_schema.columns c
           JOIN information_schema.tables t USING (table_schema, table_name)
          WHERE c.table_schema = 'public' AND t.table_type = 'BASE TABLE' AND c.table_name <> '_sqlx_migrations'
            AND (c.data_type IN ('text', 'bytea', 'json', 'jsonb', 'uuid', 'inet', 'USER-DEFINED', 'ARRAY')
                 OR c.data_type LIKE 'character%')
            AND c.column_name NOT LIKE '%\\_stamp' AND c.column_name NOT LIKE '%\\_barrier'
            -- A partition has the columns of its table.
            AND NOT (SELECT p.relispartition FROM pg_class p WHERE p.oid = format('%I.%I', c.table_schema, c.table_name)::regclass)",
    )
    .fetch_all(&mut test.connect().await)
    .await
    .unwrap();
    let personal = PERSONAL.iter().map(|(table, column, _)| (*table, *column));
    let impersonal =
        IMPERSONAL.iter().flat_map(|(table, columns)| columns.iter().map(move |column| (*table, *column)));
    let mut named: Vec<(&str, &str)> = personal.chain(impersonal).collect();
    named.sort_unstable();
    assert!(named.windows(2).all(|pair| pair[0] != pair[1]), "a column is named once");
    let mut columns: Vec<(&str, &str)> =
        columns.iter().map(|(table, column)| (&**table, &**column)).collect();
    columns.sort_unstable();
    assert_eq!(named, columns);
}

#[tokio::test]
async fn the_command_prints_what_it_touched_and_chooses_the_app() {
    let test = TestDatabase::create().await;
    let database = Database::new(&test.url).unwrap();
    World::generated(5).enter(&database).await;
    let place = Place::new();
    let command = |args: &[&str]| {
        let mut command = place.command_on(&test.url, &[&["erase-user"], args].concat());
        apps::in_environment(&mut command, &apps::settings_of(&[APP, "1400000002"], &test.url));
        command
    };
    let tried = run(command(&["--dry-run", "ana"])).await;
    assert_eq!(tried.code, Some(0), "{tried:?}");
    assert!(
        tried.stdout.contains("ledger.body: ") && tried.stdout.contains("nothing was written"),
        "{tried:?}"
    );
    let mut conn = test.connect().await;
    let registered = "SELECT count(*) FROM erasures";
    assert_eq!(sqlx::query_scalar::<_, i64>(registered).fetch_one(&mut conn).await.unwrap(), 0);
    let other = run(command(&["--app", "1400000002", "ana"])).await;
    assert_eq!(other.code, Some(0), "{other:?}");
    assert!(other.stdout.contains("0 entries of 0 groups were written anew"), "{other:?}");
    let done = run(command(&["ana"])).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stdout.starts_with("app 1400000001: erased-"), "{done:?}");
    assert!(done.stdout.ends_with("the id stands nowhere in the database\n"), "{done:?}");
    assert!(done.stdout.contains("group_members.user_id: "), "{done:?}");
    assert!(!done.stderr.contains("ana"), "an id is not written to the log: {done:?}");
    let tried = run(command(&["--dry-run", "ana"])).await;
    assert!(!tried.stdout.contains(" rows\n"), "{tried:?}");
    assert!(refused(command(&["--app", "7", "ana"])).await.contains("--app is 7"));
    assert!(refused(command(&[""])).await.contains("the user id is empty"));
    verified(&database).await;
    database.close().await;
}
