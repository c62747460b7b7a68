//! Snapshots among callbacks: any order, any batches, any repeats lead to the same tables (law 4), first by the pure fold,
//! then in a real PostgreSQL by the statements of both doors; and the views show what the pure rules show.

use group_mirror::ingest;
use group_mirror::mirror::{self, Fact, Rows, Snapshot};
use group_mirror::replay::{self, Mode};
use group_mirror::store::{Database, lines, upsert};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::Config;

use crate::rules::laws::{callback, generator, merge, received, setting};
use crate::rules::states::{in_rust, in_sql};
use crate::support::histories::{self, BASE_MS, Receipt};
use crate::support::postgres::TestDatabase;
use crate::support::{APP, dump, reads};

/// A callback or a snapshot, as its facts.
type Arrival = Vec<Fact>;

fn arrivals((callbacks, snapshots): &(Vec<Receipt>, Vec<Snapshot>)) -> Vec<Arrival> {
    let heard = callbacks.iter().map(|receipt| mirror::facts(&received(receipt)));
    heard.chain(snapshots.iter().map(reads::facts)).collect()
}

fn fold<'a>(arrivals: impl IntoIterator<Item = &'a Arrival>) -> Rows {
    Rows::of(arrivals.into_iter().flatten().cloned())
}

fn mixed() -> impl Strategy<Value = Vec<Arrival>> {
    let both = (histories::receipts(), prop::collection::vec(reads::snapshot(), 1..10));
    both.prop_map(|both| arrivals(&both))
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, max_shrink_time: 30_000, ..Config::with_cases(1500) })]

    #[test]
    fn snapshots_and_callbacks_in_any_order_and_any_number_of_times_give_the_same_tables(
        (history, shuffled) in mixed().prop_flat_map(|history| {
            let repeats = prop::collection::vec(prop::sample::select(history.clone()), 0..8);
            let shuffled = repeats.prop_flat_map({
                let history = history.clone();
                move |repeats| Just([history.clone(), repeats].concat()).prop_shuffle()
            });
            (Just(history), shuffled)
        }),
    ) {
        let (whole, again) = (fold(&history), fold(&shuffled));
        prop_assert_eq!(lines::of_rows(&whole), lines::of_rows(&again));
        prop_assert_eq!(whole, again);
    }

    #[test]
    fn folding_parts_of_a_history_with_snapshots_and_merging_them_is_folding_the_whole(
        history in mixed(),
        cuts in prop::collection::vec(any::<u8>(), 64),
    ) {
        let mut parts: [Vec<&Arrival>; 3] = Default::default();
        for (arrival, cut) in history.iter().zip(cuts.iter().cycle()) {
            parts[usize::from(*cut) % 3].push(arrival);
        }
        let [mut a, b, c] = parts.map(fold);
        let mut other = c.clone();
        other.merge(b.clone());
        other.merge(a.clone());
        a.merge(b);
        a.merge(c);
        prop_assert_eq!(&a, &fold(&history));
        prop_assert_eq!(a, other);
    }
}

/// Aim: law 4 in PostgreSQL, statements included. Method: histories with snapshots are shuffled, repeated and cut into
/// batches at random; a batch of callbacks is written by the statement of the hot path, one with a snapshot by that of
/// the door of snapshots. The tables must hold what the pure fold holds, and the views show what the rules show.
#[tokio::test]
async fn tables_that_took_snapshots_and_callbacks_in_any_batches_hold_what_the_fold_holds() {
    let database = TestDatabase::create().await;
    let mut conn = database.connect().await;
    let mut runner = generator(setting("LAWS_SEED", 5));
    let mut expected = Rows::default();
    for number in 0..setting("LAWS_HISTORIES", 150) {
        let prefix = format!("s{number}-");
        let callbacks = histories::history().new_tree(&mut runner).unwrap().current();
        let snapshots =
            prop::collection::vec(reads::snapshot(), 1..10).new_tree(&mut runner).unwrap().current();
        let heard = histories::renamed(&callbacks, &prefix);
        let heard = heard.iter().map(|body| mirror::facts(&callback(body)));
        let read = snapshots.iter().map(|snapshot| reads::facts(&reads::renamed(snapshot, &prefix)));
        let history: Vec<Arrival> = heard.chain(read).collect();
        expected.merge(fold(&history));
        let repeated = [history.clone(), history].concat();
        let shuffled = Just(repeated).prop_shuffle().new_tree(&mut runner).unwrap().current();
        let sizes =
            prop::collection::vec(1..5_usize, shuffled.len()).new_tree(&mut runner).unwrap().current();
        let (mut rest, mut sizes) = (&shuffled[..], sizes.into_iter());
        while !rest.is_empty() {
            let (batch, later) = rest.split_at(sizes.next().unwrap().min(rest.len()));
            let rows = fold(batch);
            if rows.members.values().all(|row| row.listed.stamp.is_zero()) && !has_reads(batch) {
                upsert::upsert(&mut conn, &rows).await.unwrap();
            } else {
                merge(&mut conn, &rows).await;
            }
            rest = later;
        }
    }
    let (stored, folded) = (dump::tables(&mut conn).await, dump::rows(&expected));
    for (table, rows) in &folded {
        assert!(!rows.is_empty(), "{table}");
        assert_eq!(&stored[table], rows, "{table}");
    }
    let pool = sqlx::PgPool::connect(&database.url).await.unwrap();
    let (shown, rules) = (in_sql(&pool, APP.parse().unwrap()).await, in_rust(&expected));
    for (state, expected) in &rules {
        assert_eq!(shown.get(state), Some(expected), "{state}");
    }
    assert_eq!(shown.len(), rules.len());
    pool.close().await;
}

fn has_reads(batch: &[Arrival]) -> bool {
    batch.iter().flatten().any(|fact| fact.stamp.is_of(group_mirror::model::Rank::Read))
}

/// Aim: the ledger is the whole truth with snapshots too. Method: histories and snapshots through both doors, in turns; then
/// the ledger is folded again and compared; then the tables are emptied, rebuilt, and compared again.
#[tokio::test]
async fn replay_folds_callbacks_and_snapshots_and_finds_no_difference() {
    let database = TestDatabase::create().await;
    let pools = Database::new(&database.url).unwrap();
    let mut runner = generator(setting("LAWS_SEED", 3));
    let mut entered = 0;
    for number in 0..setting("LAWS_HISTORIES", 60) {
        let prefix = format!("r{number}-");
        let callbacks = histories::history().new_tree(&mut runner).unwrap().current();
        let callbacks = histories::renamed(&callbacks, &prefix);
        let snapshots =
            prop::collection::vec(reads::snapshot(), 1..10).new_tree(&mut runner).unwrap().current();
        let snapshots: Vec<Snapshot> = snapshots.iter().map(|read| reads::renamed(read, &prefix)).collect();
        for (at, read) in snapshots.chunks(3).enumerate() {
            let part: Vec<_> = callbacks.iter().skip(at).step_by(3).map(callback).collect();
            for outcome in ingest::commit(&pools, &part).await {
                outcome.unwrap();
            }
            let received_at = group_mirror::model::Millis::new(BASE_MS + 90_000);
            let outcomes = ingest::commit_snapshots(&pools, read, received_at).await.unwrap();
            entered += outcomes.iter().filter(|of| matches!(of, ingest::SnapshotOutcome::Entered(_))).count();
        }
    }
    assert!(entered > 100, "most snapshots say something new: {entered}");
    let report = replay::replay(&pools, Mode::Verify, |_| ()).await.unwrap();
    assert_eq!(report.lines, Vec::<String>::new());
    let mut conn = database.connect().await;
    let before = dump::tables(&mut conn).await;
    sqlx::query("UPDATE group_members SET is_listed = NOT is_listed, listed_role = 'Admin'")
        .execute(&mut conn)
        .await
        .unwrap();
    sqlx::query("DELETE FROM groups WHERE group_id LIKE 'r1%'").execute(&mut conn).await.unwrap();
    sqlx::query("DELETE FROM group_list_ranges").execute(&mut conn).await.unwrap();
    let report = replay::replay(&pools, Mode::Rebuild, |_| ()).await.unwrap();
    assert!(report.differences > 0, "the damage is found");
    assert_eq!(dump::tables(&mut conn).await, before);
    pools.close().await;
}
