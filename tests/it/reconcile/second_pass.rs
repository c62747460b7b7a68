//! What a pass over a state that the mirror shows already costs, in rows and not in milliseconds: the server counts the rows
//! that are fetched and written of each table.

use std::sync::Arc;

use group_mirror::clock;
use group_mirror::fake::ExistingGroups;
use group_mirror::reconcile::{Engine, PassCounts, PassKind};
use group_mirror::store::Database;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::passes::{Reading, lived, quick, unlimited};
use crate::support::eventually;
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
