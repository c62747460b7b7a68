//! Many writers at once on the same keys: nobody gets an error, nothing is lost, and meetings are counted.

use std::collections::BTreeSet;

use group_mirror::callback::Callback;
use group_mirror::ingest::{self, Outcome};
use group_mirror::mirror::{self, Rows};
use group_mirror::store::Database;
use metrics_exporter_prometheus::PrometheusBuilder;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use serde_json::json;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

use crate::rules::laws::{callback, generator, setting};
use crate::support::{dump, histories, postgres::TestDatabase};

/// Aim: no order of locks lets two batches fail. Method: a few hundred callbacks over three groups and four users are
/// shuffled and cut into batches many times over, and all batches run side by side on two sets of pools; each callback
/// is in many batches. `LAWS_SEED` sets which.
#[tokio::test(flavor = "multi_thread")]
async fn parallel_batches_with_the_same_keys_never_fail_and_hold_what_the_pure_fold_holds() {
    let database = TestDatabase::create().await;
    let pools = [Database::new(&database.url).unwrap(), Database::new(&database.url).unwrap()];
    let mut runner = generator(setting("LAWS_SEED", 3));
    let bodies = prop::collection::vec(histories::body(), 300).new_tree(&mut runner).unwrap().current();
    let callbacks: Vec<Callback> = bodies.iter().map(callback).collect();
    let mut batches = Vec::new();
    for round in 0..12_usize {
        let shuffled = Just(callbacks.clone()).prop_shuffle().new_tree(&mut runner).unwrap().current();
        batches.extend(shuffled.chunks(17 + 7 * round).map(<[Callback]>::to_vec));
    }
    let size: usize = batches.iter().map(Vec::len).sum();
    // Not more at a time than there are connections: waiting for one of those is another matter.
    let lanes = 12;
    let runs = (0..lanes).map(|lane| {
        let mine: Vec<Vec<Callback>> = batches.iter().skip(lane).step_by(lanes).cloned().collect();
        let pools = pools[lane % 2].clone();
        tokio::spawn(async move {
            let mut outcomes = Vec::new();
            for batch in mine {
                outcomes.extend(ingest::commit(&pools, &batch).await);
            }
            outcomes
        })
    });
    let mut applied = 0;
    let mut answered = 0;
    for run in futures_util::future::join_all(runs).await {
        for outcome in run.unwrap() {
            answered += 1;
            match outcome.unwrap() {
                Outcome::Applied => applied += 1,
                Outcome::Duplicate => {}
                Outcome::Parked(reason) => panic!("{reason}"),
                Outcome::Partial(skipped) => panic!("{skipped}"),
                Outcome::Spooled => panic!("nothing here has a spool"),
            }
        }
    }
    assert_eq!(answered, size);
    let events: BTreeSet<_> =
        callbacks.iter().map(|callback| (&callback.group, callback.time, callback.digest)).collect();
    assert_eq!(applied, events.len(), "each event is applied by one batch");
    let rows = Rows::of(callbacks.iter().flat_map(mirror::facts));
    let mut conn = database.connect().await;
    assert_eq!(dump::tables(&mut conn).await, dump::rows(&rows));
    for pools in pools {
        pools.close().await;
    }
}

/// Waits until so many sessions of this database stand before a lock.
async fn until_waiting(conn: &mut PgConnection, sessions: i64) {
    let waiting = "SELECT count(*) FROM pg_stat_activity
                    WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut *conn).await.unwrap() < sessions {}
}

/// Aim: PostgreSQL breaks a deadlock by failing our transaction, and nobody notices but the counter. Method: ours is
/// stopped before group `a`, with its ledger row written; a stranger takes group `b` and waits for that ledger row;
/// then `a` is set free, so that ours closes the circle by waiting for `b`. Only the one that waits last looks for a
/// deadlock soon, so that it is ours that fails.
#[tokio::test]
async fn a_deadlock_is_tried_again_and_counted() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let counts = recorder.handle();
    // This thread's, which the whole test runs on.
    let _guard = metrics::set_default_local_recorder(&recorder);
    let database = TestDatabase::create().await;
    let mut watcher = database.connect().await;
    let name: String = sqlx::query_scalar("SELECT current_database()").fetch_one(&mut watcher).await.unwrap();
    let soon = format!("ALTER DATABASE {name} SET deadlock_timeout = '20ms'");
    watcher.execute(AssertSqlSafe(soon)).await.unwrap();
    let pools = Database::new(&database.url).unwrap();
    let said = |group: &str, time: i64| {
        callback(&json!({
            "CallbackCommand": "Group.CallbackAfterGroupInfoChanged", "GroupId": group, "Name": format!("{time}"),
            "EventTime": histories::BASE_MS + time,
        }))
    };
    let first = [said("a", 1), said("b", 1)];
    let second = [said("a", 2), said("b", 2)];
    for outcome in ingest::commit(&pools, &first).await {
        assert_eq!(outcome.unwrap(), Outcome::Applied);
    }
    let [mut gate, mut stranger] = [database.connect().await, database.connect().await];
    for conn in [&mut gate, &mut stranger] {
        conn.execute("SET deadlock_timeout = '1h'").await.unwrap();
    }
    let mut gate = gate.begin().await.unwrap();
    gate.execute("SELECT FROM groups WHERE group_id = 'a' FOR UPDATE").await.unwrap();
    let mut stranger = stranger.begin().await.unwrap();
    stranger.execute("SELECT FROM groups WHERE group_id = 'b' FOR UPDATE").await.unwrap();
    let ours = ingest::commit(&pools, &second);
    let others = async {
        until_waiting(&mut watcher, 1).await;
        let same_row = sqlx::query(
            "INSERT INTO ledger (sdk_app_id, group_id, time_ms, digest, command, received_at, source, outcome, body)
             VALUES ($1, 'a', $2, $3, '', now(), 'callback', 'applied', '')",
        )
        .bind(second[0].received.app.get())
        .bind(second[0].time.get())
        .bind(second[0].digest.as_bytes());
        let blocked = same_row.execute(&mut *stranger);
        let set_free = async {
            until_waiting(&mut watcher, 2).await;
            gate.rollback().await.unwrap();
        };
        let (blocked, ()) = tokio::join!(blocked, set_free);
        // Ours has failed and given the ledger row away; now it may have everything.
        blocked.unwrap();
        stranger.rollback().await.unwrap();
    };
    let (outcomes, ()) = tokio::join!(ours, others);
    for outcome in outcomes {
        assert_eq!(outcome.unwrap(), Outcome::Applied);
    }
    let text = counts.render();
    let retries: u64 = text
        .lines()
        .find_map(|line| line.strip_prefix("group_mirror_transaction_retries_total "))
        .unwrap_or_else(|| panic!("{text}"))
        .parse()
        .unwrap();
    assert!(retries >= 1, "{text}");
    let rows = Rows::of(first.iter().chain(&second).flat_map(mirror::facts));
    assert_eq!(dump::tables(&mut watcher).await["groups"], dump::rows(&rows)["groups"]);
    pools.close().await;
}
