//! What a pass over a state that the mirror shows already costs, in rows and not in milliseconds: the server counts the rows
//! that are fetched and written of each table.

use std::sync::Arc;

use group_mirror::clock;
use group_mirror::fake::ExistingGroups;
use group_mirror::mirror::GroupKey;
use group_mirror::model::{GroupId, Millis, SdkAppId};
use group_mirror::reconcile::{Engine, PassCounts, PassKind};
use group_mirror::store::Database;
use group_mirror::store::work::{self, MEMBERS, WorkDone};
use serde_json::json;
use sqlx::Executor as _;
use tokio_util::sync::CancellationToken;

use super::passes::{Reading, lived, quick, unlimited};
use crate::support::eventually;
use crate::support::postgres::TestDatabase;
use crate::tencent::fake::{GROUPS, TOPICS, done, fake_with, group};

/// Rows of a table that were fetched, and rows that were written.
type TableRows = (String, i64, i64);

/// A pass with sessions of its own, which report what they have done when they end.
async fn pass(reading: &Reading, kind: PassKind) -> Arc<PassCounts> {
    let database = Database::new(&reading.database.url).unwrap();
    let engine = Engine::new(database.clone(), quick(), clock::now, "a test");
    let (counts, stop) = (Arc::new(PassCounts::default()), CancellationToken::new());
    engine.once(std::slice::from_ref(&reading.source), kind, &stop, &counts).await.unwrap();
    database.close().await;
    counts
}

/// What was fetched and written until now, when every other session has ended.
async fn counted(reading: &Reading) -> Vec<TableRows> {
    let mut conn = reading.database.connect().await;
    let others = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
    let have_ended = eventually(async || {
        let mut conn = reading.database.connect().await;
        sqlx::query_scalar::<_, i64>(others).fetch_one(&mut conn).await.unwrap() == 1
    });
    assert!(have_ended.await, "all sessions but this one end");
    let rows = "SELECT relname::text, seq_tup_read + COALESCE(idx_tup_fetch, 0), n_tup_ins + n_tup_upd + n_tup_del
                  FROM pg_stat_user_tables
                 WHERE relname IN ('ledger', 'groups', 'group_members', 'group_user_defined_fields', 'group_attributes',
                                   'group_topics', 'group_list_ranges')
                 ORDER BY relname";
    sqlx::query_as(rows).fetch_all(&mut conn).await.unwrap()
}

/// Aim: a second pass over the same state reads no membership and enters nothing. Method: a played world of every type, with
/// fields, attributes and topics, is read by two backfills and a pass of those that `serve` makes.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_pass_over_the_same_state_fetches_no_membership_and_writes_nothing_of_the_mirror() {
    let fake = fake_with(&unlimited(&json!({})), None, 1, ExistingGroups::default()).await;
    lived(&fake, 300).await;
    group(&fake, "Public", "walkers", &["boris", "chen"]).await;
    let pairs = json!([{ "key": "seat", "value": "ana" }]);
    done(&fake, GROUPS, "set_group_attr", json!({ "GroupId": "walkers", "GroupAttr": pairs })).await;
    group(&fake, "Community", "@TGS#_talkers", &["boris", "dora"]).await;
    let topic = json!({ "GroupId": "@TGS#_talkers", "TopicName": "Pier" });
    done(&fake, TOPICS, "create_topic", topic).await;
    fake.step(120_000);
    let reading = Reading::of(&fake, quick()).await;
    pass(&reading, PassKind::Backfill).await;
    assert_eq!(reading.differences(&fake).await, Vec::<String>::new());
    pass(&reading, PassKind::Backfill).await;
    for kind in [PassKind::Backfill, PassKind::Rolling] {
        // Without a spare the times of sending, which are lower bounds, may go back by a moment between two reads of a group, and
        // what has an entry above its σ is compared once more: of three passes one compares nothing.
        let mut fetched = Vec::new();
        while !fetched.contains(&0) && fetched.len() < 3 {
            fetched.push(members_fetched(&reading, kind).await);
        }
        assert!(fetched.contains(&0), "{kind:?}: {fetched:?} rows of members in passes one after the other");
    }
}

/// Makes a pass that has to write nothing; answers how many rows of members it has fetched.
async fn members_fetched(reading: &Reading, kind: PassKind) -> i64 {
    let (entries, before) = (reading.ledger_rows().await, counted(reading).await);
    let counts = pass(reading, kind).await;
    assert!(counts.drift().is_empty(), "{kind:?}: {:?}", counts.drift());
    assert_eq!(reading.ledger_rows().await, entries, "{kind:?}");
    let mut of_members = 0;
    for ((table, fetched, written), (_, fetched_before, written_before)) in
        counted(reading).await.into_iter().zip(before)
    {
        assert_eq!(written, written_before, "{kind:?}: rows of {table} were written");
        if table == "group_members" {
            of_members = fetched - fetched_before;
        }
    }
    of_members
}

/// How often digests of reads were looked up until now, and how often the row of the pass was written, when every other session
/// has ended.
async fn looks_and_commits(reading: &Reading) -> (i64, i64) {
    counted(reading).await;
    let counts =
        "SELECT (SELECT COALESCE(idx_scan, 0) FROM pg_stat_user_tables WHERE relname = 'group_read_digests'),
                         (SELECT n_tup_upd FROM pg_stat_user_tables WHERE relname = 'reconcile_passes')";
    sqlx::query_as(counts).fetch_one(&mut reading.database.connect().await).await.unwrap()
}

/// Aim: a group of which nothing is new costs one look at each of its reads, and a commit together with those that were read
/// by the same call, however large their lists are. Method: groups of every type, which none changes, are read again.
#[tokio::test(flavor = "multi_thread")]
async fn a_pass_that_finds_nothing_new_looks_at_each_read_once_and_commits_fifty_groups_at_a_time() {
    const GROUPS: i64 = 500;
    let existing = ExistingGroups { groups: 500, members: 50 };
    let fake = fake_with(&unlimited(&json!({})), None, 1, existing).await;
    let reading = Reading::of(&fake, quick()).await;
    pass(&reading, PassKind::Backfill).await;
    pass(&reading, PassKind::Backfill).await;
    // A fifth are audio-video rooms, which have no list; a fifth communities, whose profile is read again before their list,
    // whose list is looked for before it is read, and which have topics. All have attributes.
    let reads = GROUPS / 5 * (3 * 3 + 2 + 6);
    // A page of ids, a window of each phase, and the phases themselves.
    let commits = GROUPS / 50 + 10;
    // Times of sending may go back by a moment: of three passes one compares nothing.
    let (mut before, mut costs) = (looks_and_commits(&reading).await, Vec::new());
    let is_low = |(looks, commits_of_pass): &(i64, i64)| *looks == reads && *commits_of_pass <= commits;
    while !costs.iter().any(is_low) && costs.len() < 3 {
        pass(&reading, PassKind::Backfill).await;
        let after = looks_and_commits(&reading).await;
        costs.push((after.0 - before.0, after.1 - before.1));
        before = after;
    }
    assert!(costs.iter().any(is_low), "{reads} reads, at most {commits} commits: {costs:?}");
}

/// Aim: what is taken from the work list and ended costs the same however many groups wait. Method: the statistics are gathered
/// while the list is empty, as between two passes, and the rows are counted that its statements read of a list of 2,000.
#[tokio::test]
async fn a_work_list_that_was_empty_when_it_was_analyzed_is_not_read_as_a_whole_for_each_slot() {
    let database = TestDatabase::create().await;
    let mut conn = database.connect().await;
    let fill = "INSERT INTO group_work (sdk_app_id, group_id, class, cause, parts, due_at)
                SELECT 1400000001, 'group ' || n, 5, 'turn', 1, now() - n * interval '1 s' FROM generate_series(1, 2000) n";
    for statement in [fill, "DELETE FROM group_work", "ANALYZE group_work", fill] {
        conn.execute(statement).await.unwrap();
    }
    let (pools, app) = (Database::new(&database.url).unwrap(), SdkAppId::parse("1400000001").unwrap());
    let mut tx = pools.begin("a test").await.unwrap();
    assert_eq!(work::due_classes(tx.conn(), (app, &[1, 4, 5]), clock::now(), &[]).await.unwrap(), [5]);
    let taken = work::due(tx.conn(), (app, 5), clock::now(), &[], 20).await.unwrap();
    assert_eq!(taken.len(), 20);
    let done = |group: &str| WorkDone {
        group: GroupKey { app, group: GroupId::parse(group).unwrap() },
        parts: MEMBERS,
        sigma: Millis::new(i64::MAX),
        again: clock::now(),
    };
    let done: Vec<WorkDone> = taken.iter().map(|row| done(&row.group_id)).collect();
    work::done(tx.conn(), &done, 0).await.unwrap();
    let read = "SELECT (seq_tup_read + idx_tup_fetch)::bigint, n_tup_del FROM pg_stat_xact_user_tables WHERE relname = 'group_work'";
    let (read, ended): (i64, i64) = sqlx::query_as(read).fetch_one(tx.conn()).await.unwrap();
    assert_eq!(ended, 20);
    assert!(read <= 3 * 20 + 3, "{read} rows were read");
    tx.roll_back().await;
    pools.close().await;
}
