//! The laws: the mirror depends on the set of receipts (callback and time of first receipt) and on nothing else.
//!
//! First on the pure core, then on real PostgreSQL through two services, against the pure fold as the oracle.

use group_mirror::callback::{Callback, Decoded, Received, Role, decode};
use group_mirror::mirror::{
    self, EARLIER_ENDS_MAX, Fact, FactKind, GroupBarrier, GroupKey, ListRange, Listed, Rows, Silent,
    TopicBarrier,
};
use group_mirror::model::{Digest, GroupId, Millis, Rank, SdkAppId, Stamp, UserId};
use group_mirror::store::held;
use group_mirror::store::lines::{self, HeldParts};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::Value;
use sqlx::PgConnection;

use crate::support::histories::Receipt;
use crate::support::{APP, Service, dump, histories, postgres::TestDatabase, settings};

/// What a body says, a minute after the base.
pub(crate) fn callback(body: &Value) -> Callback {
    callback_of(APP, (body, 60_000, None))
}

/// What a body says that was received so long after the base.
pub(crate) fn received((body, at, request): &Receipt) -> Callback {
    callback_of(APP, (body, *at, *request))
}

fn callback_of(app: &str, (body, at, request): (&Value, i64, Option<&str>)) -> Callback {
    let received = Received {
        request_id: request.map(str::to_owned),
        ..Received::bare(
            SdkAppId::parse(app).unwrap(),
            Millis::new(histories::BASE_MS + at),
            body.to_string().into_bytes(),
        )
    };
    match decode(received) {
        Decoded::Kept(callback) => {
            assert_eq!(callback.event.as_ref().err(), None, "{body}");
            *callback
        }
        Decoded::OutOfScope(unkept) => panic!("{}: {body}", unkept.label),
    }
}

pub(crate) fn fold(history: &[Value]) -> Rows {
    Rows::of(history.iter().flat_map(|body| mirror::facts(&callback(body))))
}

fn fold_receipts(receipts: &[Receipt]) -> Rows {
    Rows::of(receipts.iter().flat_map(|receipt| mirror::facts(&received(receipt))))
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, ..Config::with_cases(1000) })]

    #[test]
    fn any_order_and_any_number_of_times_give_the_same_rows(
        (history, shuffled) in histories::receipts().prop_flat_map(|history| {
            let repeats = prop::collection::vec(prop::sample::select(history.clone()), 0..8);
            let shuffled = repeats.prop_flat_map({
                let history = history.clone();
                move |repeats| Just([history.clone(), repeats].concat()).prop_shuffle()
            });
            (Just(history), shuffled)
        }),
    ) {
        prop_assert_eq!(fold_receipts(&history), fold_receipts(&shuffled));
    }

    #[test]
    fn folding_the_parts_and_merging_them_is_folding_the_whole(
        history in histories::receipts(),
        cuts in prop::collection::vec(any::<u8>(), 64),
    ) {
        let mut parts: [Vec<Receipt>; 3] = Default::default();
        for (body, cut) in history.iter().zip(cuts.iter().cycle()) {
            parts[usize::from(*cut) % 3].push(body.clone());
        }
        let [a, b, c] = parts.map(|part| fold_receipts(&part));
        let merged = |into: &Rows, other: &Rows| {
            let mut into = into.clone();
            into.merge(other.clone());
            into
        };
        let whole = fold_receipts(&history);
        prop_assert_eq!(&merged(&merged(&a, &b), &c), &whole);
        prop_assert_eq!(&merged(&a, &merged(&b, &c)), &whole);
        prop_assert_eq!(merged(&b, &a), merged(&a, &b));
        prop_assert_eq!(&merged(&whole, &whole), &whole);
    }

    /// More ends than a group keeps: what is dropped must not depend on which part dropped it.
    #[test]
    fn a_group_used_again_more_often_than_is_kept_obeys_the_law(
        parts in prop::collection::vec(prop::collection::vec(end(), 0..40), 3),
    ) {
        let whole: Vec<Fact> = parts.concat();
        let backwards = Rows::of(whole.iter().rev().cloned());
        let whole = Rows::of(whole);
        let [a, b, c] = [0, 1, 2].map(|at: usize| Rows::of(parts[at].clone()));
        for order in [[&a, &b, &c], [&c, &a, &b], [&b, &c, &a]] {
            let mut merged = Rows::default();
            order.into_iter().for_each(|part| merged.merge(part.clone()));
            merged.merge(order[1].clone());
            prop_assert_eq!(&merged, &whole);
        }
        prop_assert_eq!(&backwards, &whole);
        let kept = whole.groups.values().map(|group| group.earlier_ends.stamps().count()).max();
        prop_assert!(kept.is_none_or(|kept| kept <= EARLIER_ENDS_MAX));
    }

    #[test]
    fn the_byte_order_of_stamps_is_their_order(a in stamp(), b in stamp()) {
        prop_assert_eq!(a.cmp(&b), a.as_bytes().cmp(b.as_bytes()));
        prop_assert_eq!(Stamp::from_bytes(a.as_bytes()), Some(a));
    }
}

fn ends_group() -> GroupKey {
    mirror::group_key(SdkAppId::parse(APP).unwrap(), GroupId::parse("g1").unwrap())
}

/// A create or destroy of the one group `g1`, at one of 100 moments.
fn end() -> impl Strategy<Value = Fact> {
    (0..100_i64, any::<bool>()).prop_map(|(second, is_create)| {
        let group = ends_group();
        let rank = if is_create { Rank::Create } else { Rank::Destroy };
        let stamp = Stamp::new(Millis::new(histories::BASE_MS + second * 1_000), rank, &Digest::of("", b""));
        let kind = if is_create { FactKind::Created(None) } else { FactKind::Destroyed };
        Fact { group, stamp, kind }
    })
}

fn stamp() -> impl Strategy<Value = Stamp> {
    let ranks = [Rank::Read, Rank::Create, Rank::Change, Rank::Join, Rank::Leave, Rank::Destroy];
    let time = prop_oneof![Just(0), 0..3_i64, 1_262_304_000_000..1_262_304_000_003_i64, Just(i64::MAX)];
    let full = (time, prop::sample::select(ranks.to_vec()), 0..3_u8)
        .prop_map(|(time, rank, seed)| Stamp::new(Millis::new(time), rank, &Digest::of("", &[seed])));
    prop_oneof![1 => Just(Stamp::ZERO), 8 => full]
}

/// A generator with a seed of its own, so that a failure can be repeated: `LAWS_SEED`.
pub(crate) fn generator(seed: u64) -> TestRunner {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_be_bytes());
    TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

pub(crate) fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[tokio::test]
async fn postgres_compares_stamps_as_rust_does() {
    let database = TestDatabase::create_empty().await;
    let mut conn = database.connect().await;
    let mut runner = generator(setting("LAWS_SEED", 1));
    let stamps: Vec<Stamp> = (0..200).map(|_| stamp().new_tree(&mut runner).unwrap().current()).collect();
    let bytes: Vec<&[u8]> = stamps.iter().map(Stamp::as_bytes).collect();
    let newer: Vec<bool> = sqlx::query_scalar(
        "SELECT a.stamp > b.stamp FROM UNNEST($1::bytea[]) WITH ORDINALITY a (stamp, n)
          CROSS JOIN UNNEST($1::bytea[]) WITH ORDINALITY b (stamp, n) ORDER BY a.n, b.n",
    )
    .bind(&bytes)
    .fetch_all(&mut conn)
    .await
    .unwrap();
    let expected: Vec<bool> = stamps.iter().flat_map(|a| stamps.iter().map(move |b| a > b)).collect();
    assert_eq!(newer, expected);
}

/// A mirror that some facts make, with barriers and reads that only a REST snapshot can raise, for an app of its own.
fn some_rows(runner: &mut TestRunner, app: u32) -> Rows {
    let history = histories::history().new_tree(runner).unwrap().current();
    let mut rows = Rows::of(
        history.iter().flat_map(|body| mirror::facts(&callback_of(&app.to_string(), (body, 60_000, None)))),
    );
    // Now and then more ends than are kept, and some that the other one of a pair has too.
    let ends = prop::collection::vec(end(), 0..40).new_tree(runner).unwrap().current();
    let key = GroupKey { app: SdkAppId::parse(&app.to_string()).unwrap(), ..ends_group() };
    ends.into_iter().for_each(|fact| rows.apply(Fact { group: key.clone(), ..fact }));
    let barriers = prop::collection::vec(stamp(), 6);
    for group in rows.groups.values_mut() {
        let raised = barriers.new_tree(runner).unwrap().current();
        group.barriers[GroupBarrier::MembersBarrier as usize] = raised[0];
        group.barriers[GroupBarrier::FieldsBarrier as usize] = raised[1];
        group.barriers[GroupBarrier::AttributesBarrier as usize] = raised[2];
        group.barriers[GroupBarrier::TopicsBarrier as usize] = raised[3];
        group.barriers[GroupBarrier::ReadStamp as usize] = raised[4];
        // This one is shown as a time, of which PostgreSQL has no more than some 290,000 years.
        let gone = if raised[5].time().get() == i64::MAX { Stamp::ZERO } else { raised[5] };
        group.barriers[GroupBarrier::GoneStamp as usize] = gone;
    }
    for group in rows.groups.values_mut() {
        let silent = stamp().new_tree(runner).unwrap().current();
        // Equal stamps come from one body, so the value follows from the stamp.
        let create_secs = Some(i64::from(silent.as_bytes().last().copied().unwrap_or_default()));
        group.silent.set(silent, Silent { create_secs, ..Silent::default() });
        let user = UserId::parse("ana").unwrap();
        let range = stamp().new_tree(runner).unwrap().current();
        group.ranges.extend((!range.is_zero()).then(|| (ListRange::of(&user), range)));
        group.barriers[GroupBarrier::RangesStamp as usize] = range;
    }
    for member in rows.members.values_mut() {
        let listed = stamp().new_tree(runner).unwrap().current();
        let join_secs = Some(i64::from(listed.as_bytes().last().copied().unwrap_or_default()));
        let of =
            Listed { role: Role::Admin, name_card: None, join_secs, mute_until: None, custom_fields: None };
        member.listed.set(listed, Some(of));
        member.missing = stamp().new_tree(runner).unwrap().current();
    }
    for topic in rows.topics.values_mut() {
        topic.barriers[TopicBarrier::ReadStamp as usize] = stamp().new_tree(runner).unwrap().current();
        topic.barriers[TopicBarrier::MissingStamp as usize] = stamp().new_tree(runner).unwrap().current();
    }
    rows
}

/// Writes rows as the door of snapshots does: read under the locks, merged, written.
pub(crate) async fn merge(conn: &mut PgConnection, new: &Rows) {
    let groups: Vec<_> = new.groups.keys().collect();
    held::ensure(conn, &groups).await.unwrap();
    held::lock(conn, &groups).await.unwrap();
    let parts = HeldParts::all(groups.iter().copied());
    let before = held::read(conn, &groups, &parts).await.unwrap();
    let mut after = before.clone();
    after.merge(new.clone());
    held::write(conn, new, &before, &after).await.unwrap();
}

/// Aim: the guard in every upsert is the rule in Rust. Method: pairs of generated mirrors over the same keys are
/// written one after the other, in both orders, and must leave what the pure merge gives; so must a third time.
#[tokio::test]
async fn the_guard_in_sql_merges_generated_pairs_as_rust_does() {
    let database = TestDatabase::create().await;
    let mut conn = database.connect().await;
    let mut runner = generator(setting("LAWS_SEED", 11));
    for app in 1..=60 {
        let pair = [some_rows(&mut runner, 2 * app), some_rows(&mut runner, 2 * app)];
        let mut merged = pair[0].clone();
        merged.merge(pair[1].clone());
        let order = if app.is_multiple_of(2) { [0, 1, 0] } else { [1, 0, 1] };
        for at in order {
            merge(&mut conn, &pair[at]).await;
        }
        let app = i64::from(2 * app);
        let held = lines::of_tables(&mut conn, ((app - 1, ""), (app + 1, ""))).await.unwrap();
        assert_eq!(held, lines::of_rows(&merged), "app {app}");
    }
}

/// Aim: the whole path, HTTP to tables, obeys the law. Method: generated histories, each with ids of its own, are
/// repeated, shuffled and sent by parallel connections to two services on one database, whose lanes cut them into
/// whatever batches come about; then the tables must equal the pure fold, stamps included. `LAWS_HISTORIES` sets how
/// many histories, `LAWS_SEED` which.
#[tokio::test(flavor = "multi_thread")]
async fn two_services_fed_in_any_order_hold_what_the_pure_fold_holds() {
    let database = TestDatabase::create().await;
    let mut settings = settings(&database.url);
    settings.mirror_avchatroom_members = Some("true".into());
    let services = [Service::start(&settings).await.unwrap(), Service::start(&settings).await.unwrap()];
    let mut runner = generator(setting("LAWS_SEED", 7));
    let mut expected = Rows::default();
    let mut posts = Vec::new();
    for number in 0..setting("LAWS_HISTORIES", 200) {
        let history = histories::history().new_tree(&mut runner).unwrap().current();
        let history = histories::renamed(&history, &format!("h{number}-"));
        expected.merge(fold(&history));
        let repeats = prop::sample::subsequence(history.clone(), 0..=history.len());
        let repeats = repeats.new_tree(&mut runner).unwrap().current();
        posts.extend(history.into_iter().chain(repeats));
    }
    let posts = Just(posts).prop_shuffle().new_tree(&mut runner).unwrap().current();
    let connections = 16;
    let senders = (0..connections).map(|connection| {
        let mine: Vec<&Value> = posts.iter().skip(connection).step_by(connections).collect();
        let service = &services[connection % 2];
        async move {
            for body in mine {
                service.taken(body).await;
            }
        }
    });
    futures_util::future::join_all(senders).await;
    let mut conn = database.connect().await;
    let stored = dump::tables(&mut conn).await;
    let folded = dump::rows(&expected);
    for (table, rows) in &folded {
        // No callback makes a range.
        assert_eq!(rows.is_empty(), *table == "group_list_ranges", "{table}");
        assert_eq!(&stored[table], rows, "{table}");
    }
    for service in services {
        service.stop().await;
    }
}
