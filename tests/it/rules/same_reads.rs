//! Reads that say what the last one of their kind said: they are not compared while nothing was learnt of the group, and
//! are compared as soon as something was.
//!
//! Whether a read was compared shows where the tables were spoiled by hand before it: a read that is compared finds that.

use group_mirror::callback::WORK;
use group_mirror::ingest::{self, HowKnown, SnapshotOutcome};
use group_mirror::mirror::{ComparedSnapshot, ReadKind, ReadTime, Snapshot};
use group_mirror::model::Millis;
use group_mirror::replay::{self, Mode};
use group_mirror::store::pass_note::PassNote;
use group_mirror::store::{Database, same_reads};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree as _;
use serde_json::{Value, json};
use sqlx::Executor as _;

use crate::rules::door::{Door, at, create, event, gone, join, leave, list, profile, read};
use crate::rules::laws::{callback, generator, setting};
use crate::support::histories::{self, BASE_MS};
use crate::support::postgres::TestDatabase;
use crate::support::{dump, reads};

fn attributes(ms: i64, value: &str) -> Snapshot {
    let pairs = json!([{ "key": "seat", "value": value }]);
    let answer = json!({ "ActionStatus": "OK", "ErrorCode": 0, "GroupAttrAry": pairs });
    read(ReadKind::Attributes, at(ms), &answer)
}

fn topics(ms: i64, name: &str) -> Snapshot {
    let topics = json!([{ "ErrorCode": 0, "TopicInfo": { "TopicId": "g@TOPIC#_a", "TopicName": name } }]);
    let answer = json!({ "ActionStatus": "OK", "ErrorCode": 0, "TopicAndSelfInfo": topics });
    read(ReadKind::Topics, at(ms), &answer)
}

/// A read as of a moment.
type ReadAt = fn(i64) -> Snapshot;

/// The same of each kind.
const KINDS: [(&str, ReadAt); 4] = [
    ("profile", |ms| profile(ms, &json!({}))),
    ("members", |ms| list(ms, &["ana:Owner@1", "boris@2/Bo"])),
    ("attributes", |ms| attributes(ms, "one")),
    ("topics", |ms| topics(ms, "first")),
];

/// Spoils of each kind what a read of it would repair.
const SPOILED: [(&str, &str); 4] = [
    ("profile", "UPDATE groups SET name = 'spoiled'"),
    ("members", "UPDATE group_members SET listed_name_card = 'spoiled' WHERE user_id = 'boris'"),
    ("attributes", "UPDATE group_attributes SET value = 'spoiled'"),
    ("topics", "UPDATE group_topics SET name = 'spoiled'"),
];

/// The kinds whose read as of a moment is compared, although it says what was said before; the mirror is what it was.
async fn compared(door: &mut Door, ms: i64) -> Vec<&'static str> {
    let mut compared = Vec::new();
    for ((kind, same), (_, spoil)) in KINDS.into_iter().zip(SPOILED) {
        door.conn.execute(spoil).await.unwrap();
        // A dry run, so that nothing comes of what was spoiled.
        let received_at = Millis::new(BASE_MS + 100_000);
        let outcomes = ingest::compare_reads(&door.pools, &[same(ms)], received_at).await.unwrap();
        if outcomes != [SnapshotOutcome::Unchanged] {
            compared.push(kind);
        }
        replay_whole(door).await;
    }
    compared
}

/// Makes the tables what the ledger says, and keeps what was noted of reads.
async fn replay_whole(door: &mut Door) {
    door.conn.execute("CREATE TEMP TABLE kept AS SELECT * FROM group_read_digests").await.unwrap();
    replay::replay(&door.pools, Mode::Rebuild, |_| ()).await.unwrap();
    door.conn
        .execute("INSERT INTO group_read_digests SELECT * FROM kept ON CONFLICT DO NOTHING; DROP TABLE kept")
        .await
        .unwrap();
}

/// A group of which everything was read.
async fn read_group() -> Door {
    let door = Door::open().await;
    door.hear(&[create(0, &["boris"])]).await;
    for (_, same) in KINDS {
        door.take(&[same(20_000)]).await;
    }
    door
}

#[tokio::test]
async fn a_read_that_says_what_the_last_one_of_its_kind_said_is_not_compared() {
    let mut door = read_group().await;
    assert_eq!(compared(&mut door, 30_000).await, [""; 0]);
    door.conn.execute("DELETE FROM group_read_digests WHERE kind IN ('members', 'topics')").await.unwrap();
    assert_eq!(compared(&mut door, 30_000).await, ["members", "topics"]);
    door.close().await;
}

/// A callback about each kind of read, and what the next read of that kind mends.
fn changes() -> [(&'static str, Value, &'static str); 4] {
    [
        ("profile", event("GroupInfoChanged", 25_000, &json!({ "Name": "two" })), "profile=1"),
        ("members", leave(25_000, "boris"), "member_found=1"),
        ("attributes", event("GroupAttrChanged", 25_000, &json!({ "OptionType": "clear" })), "attribute=1"),
        (
            "topics",
            event("TopicDestroyed", 25_000, &json!({ "TopicIdList": ["g@TOPIC#_a"] })),
            "topic_found=1",
        ),
    ]
}

#[tokio::test]
async fn a_callback_between_two_reads_that_say_the_same_is_held_against_the_second() {
    let join = ("members", join(25_000, "chen"), "member_gone=1");
    for (of, body, drift) in changes().into_iter().chain([join]) {
        let door = read_group().await;
        door.hear(std::slice::from_ref(&body)).await;
        for (kind, same) in KINDS {
            let wanted = if kind == of { drift } else { "unchanged" };
            assert_eq!(door.drift(same(40_000)).await, wanted, "{body}: {kind}");
        }
        door.close().await;
    }
}

#[tokio::test]
async fn a_callback_that_comes_late_below_the_time_of_a_read_is_held_against_the_next_one() {
    for (of, body, drift) in changes() {
        let door = read_group().await;
        // Read again and found unchanged; then comes a callback from between the two reads, which wins over the first.
        for (kind, same) in KINDS {
            assert_eq!(door.drift(same(30_000)).await, "unchanged", "{kind}");
        }
        door.hear(std::slice::from_ref(&body)).await;
        for (kind, same) in KINDS {
            let wanted = if kind == of { drift } else { "unchanged" };
            assert_eq!(door.drift(same(40_000)).await, wanted, "{body}: {kind}");
        }
        door.close().await;
    }
}

#[tokio::test]
async fn an_entry_of_another_kind_counts_where_it_touches_what_a_kind_shows_and_nowhere_else() {
    // What touches nothing but its own kind leaves the others known.
    let mut door = read_group().await;
    assert_eq!(door.drift(attributes(25_000, "two")).await, "attribute=1");
    assert_eq!(compared(&mut door, 40_000).await, ["attributes"]);
    assert_eq!(door.drift(list(26_000, &["ana:Owner@1", "chen@3"])).await, "member_found=1 member_gone=1");
    assert_eq!(compared(&mut door, 40_000).await, ["members", "attributes"]);
    door.close().await;

    // Another owner, by a list: the profile that names the first one is newer.
    let door = read_group().await;
    let drift = door.drift(list(25_000, &["ana@1", "boris:Owner@2/Bo"])).await;
    assert_eq!(drift, "owner=1 role=2");
    assert_eq!(door.drift(profile(40_000, &json!({}))).await, "owner=1");
    door.close().await;

    // The same by a profile: the list that shows the first one is newer.
    let door = read_group().await;
    assert_eq!(door.drift(profile(25_000, &json!({ "Owner_Account": "boris" }))).await, "owner=1");
    assert_eq!(door.drift(list(40_000, &["ana:Owner@1", "boris@2/Bo"])).await, "owner=1 role=2");
    door.close().await;

    // A list that leaves the owner of a Work group out ends that he is shown.
    let door = Door::open().await;
    door.hear(&[create(0, &["boris"])]).await;
    let work = |ms| profile(ms, &json!({ "Type": WORK }));
    door.take(&[work(20_000)]).await;
    assert_eq!(door.drift(list(25_000, &["boris@2"])).await, "owner=1 member_gone=1");
    assert_eq!(door.drift(work(40_000)).await, "owner=1");
    door.close().await;
}

#[tokio::test]
async fn what_was_read_of_an_earlier_life_of_a_group_is_compared_in_the_next_one() {
    let revived = event("GroupInfoChanged", 70_000, &json!({ "Name": "one" }));
    let lives: [(&str, Vec<Value>, Vec<Snapshot>); 3] = [
        (
            "destroyed and created",
            vec![event("GroupDestroyed", 50_000, &json!({})), create(70_000, &[])],
            vec![],
        ),
        ("destroyed and seen again", vec![event("GroupDestroyed", 50_000, &json!({})), revived], vec![]),
        ("gone and read again", vec![], vec![gone(50_000), profile(70_000, &json!({}))]),
    ];
    for (name, heard, taken) in lives {
        let mut door = read_group().await;
        if !heard.is_empty() {
            door.hear(&heard).await;
        }
        door.take(&taken).await;
        let outcomes: Vec<String> = [
            door.drift(KINDS[1].1(80_000)).await,
            door.drift(KINDS[2].1(80_000)).await,
            door.drift(KINDS[3].1(80_000)).await,
        ]
        .into();
        assert_eq!(outcomes[1..], ["attribute=1", "topic_found=1"], "{name}");
        assert!(outcomes[0].contains("member_found="), "{name}: {}", outcomes[0]);
        let shown = door.shown().await;
        assert!(shown.contains("[seat=one]") && shown.contains("boris:Member"), "{name}: {shown}");
        door.close().await;
    }
    // The end alone: a profile that says what it said before shows that the group exists.
    let door = read_group().await;
    door.hear(&[event("GroupDestroyed", 25_000, &json!({}))]).await;
    let drift = door.drift(profile(40_000, &json!({}))).await;
    assert!(drift.starts_with("group_found=1"), "{drift}");
    door.close().await;
}

/// The set of entries of a group has a limit, behind which nothing is known and everything is compared and taken.
#[tokio::test]
async fn a_group_with_more_entries_than_are_looked_at_takes_every_further_one() {
    let mut door = read_group().await;
    for number in 0..70 {
        let list = list(21_000 + number, &["ana:Owner@1", &format!("boris@2/{number}")]);
        assert_eq!(door.drift(list).await, "name_card=1", "{number}");
    }
    assert!(door.entries().await > 64);
    assert_eq!(compared(&mut door, 40_000).await, ["profile", "members", "attributes", "topics"]);
    door.close().await;
}

#[tokio::test]
async fn rows_that_were_folded_anew_are_compared() {
    let mut door = read_group().await;
    door.conn.execute("UPDATE groups SET name = 'spoiled'").await.unwrap();
    replay::replay(&door.pools, Mode::Rebuild, |_| ()).await.unwrap();
    let noted: i64 = sqlx::query_scalar("SELECT count(*) FROM group_read_digests")
        .fetch_one(&mut door.conn)
        .await
        .unwrap();
    assert_eq!(noted, 0);
    door.close().await;
}

/// Snapshots of one moment, or a body of a callback.
#[derive(Debug, Clone)]
enum Arrival {
    Heard(Value),
    Read(Vec<Snapshot>),
}

/// What comes (a body, or else reads), how far its time lies from that of its turn, and whether it was sent later.
type Turn = ((Option<Value>, Vec<Snapshot>), i64, bool);

fn arrival(number: usize, ((heard, reads), offset, is_far): Turn) -> Arrival {
    if let Some(body) = heard {
        return Arrival::Heard(body);
    }
    let ms = i64::try_from(number).unwrap() * 3_000 + offset;
    let spare_ms = if is_far { 15_000 } else { 0 };
    let (sigma, sent) = (Millis::new(BASE_MS + ms), Millis::new(BASE_MS + ms + spare_ms));
    let time = ReadTime { sigma, sent, spare_ms };
    let timed = |snapshot| Snapshot { time, missing: Vec::new(), ..snapshot };
    Arrival::Read(reads.into_iter().map(timed).collect())
}

/// A history in which few reads say the same again and again, among callbacks of the same moments.
fn arrivals() -> impl Strategy<Value = Vec<Arrival>> {
    let pools = (histories::history(), prop::collection::vec(reads::snapshot(), 2..5));
    pools.prop_flat_map(|(heard, pool)| {
        let heard = select(heard).prop_map(|body| (Some(body), Vec::new()));
        let most = pool.len().min(3);
        let reads = prop::sample::subsequence(pool, 1..=most).prop_map(|reads| (None, reads));
        let offset = select(&[-9_000_i64, 0, 0, 0, 1][..]);
        let turn = (prop_oneof![1 => heard, 3 => reads], offset, any::<bool>());
        let turns = prop::collection::vec(turn, 4..24);
        turns.prop_map(|turns| {
            turns.into_iter().enumerate().map(|(number, turn)| arrival(number, turn)).collect::<Vec<_>>()
        })
    })
}

/// Commits reads, and before that what is known of them as a pass does.
async fn committed(
    mirror: &Database,
    snapshots: &[Snapshot],
    received_at: Millis,
    as_a_pass: bool,
) -> Vec<SnapshotOutcome> {
    let reads = [(snapshots, &PassNote::default())];
    if as_a_pass
        && ingest::commit_known(mirror, &reads, received_at, true).await.unwrap() == [HowKnown::Shown]
    {
        return vec![SnapshotOutcome::Unchanged; snapshots.len()];
    }
    ingest::commit_snapshots(mirror, snapshots, received_at).await.unwrap()
}

/// Aim: a read that is not compared is one in which comparing finds nothing, whatever happened before. Method: generated
/// histories go to two mirrors, one of which forgets before each read what it knows of earlier ones; the outcomes and in the
/// end the tables must be the same. The other one takes every second history as a pass does, which commits first what is known. `LAWS_HISTORIES` sets how many histories, `LAWS_SEED` which.
#[tokio::test]
async fn a_mirror_that_compares_every_read_ends_up_the_same() {
    let databases = [TestDatabase::create().await, TestDatabase::create().await];
    let [knowing, forgetting] =
        [&databases[0], &databases[1]].map(|database| Database::new(&database.url).unwrap());
    let mut conns = [databases[0].connect().await, databases[1].connect().await];
    let mut runner = generator(setting("LAWS_SEED", 21));
    let mut known = [0; 4];
    for number in 0..setting("LAWS_HISTORIES", 150) {
        let prefix = format!("r{number}-");
        for arrival in arrivals().new_tree(&mut runner).unwrap().current() {
            match arrival {
                Arrival::Heard(body) => {
                    let body = histories::renamed(&[body], &prefix).remove(0);
                    for mirror in [&knowing, &forgetting] {
                        ingest::commit(mirror, &[callback(&body)]).await.remove(0).unwrap();
                    }
                }
                Arrival::Read(snapshots) => {
                    let snapshots: Vec<_> =
                        snapshots.iter().map(|snapshot| reads::renamed(snapshot, &prefix)).collect();
                    let read =
                        |snapshot: &Snapshot| ComparedSnapshot::of(snapshot.clone()).ok()?.read_digest();
                    for digest in snapshots.iter().filter_map(read) {
                        let same = same_reads::same(&mut conns[0], &[&digest]).await.unwrap();
                        let at = KINDS.iter().position(|(kind, _)| *kind == digest.kind).unwrap();
                        known[at] += same.len();
                    }
                    conns[1].execute("DELETE FROM group_read_digests").await.unwrap();
                    let received_at = Millis::new(BASE_MS + 100_000);
                    let outcome = committed(&knowing, &snapshots, received_at, number % 2 == 0).await;
                    let expected =
                        ingest::commit_snapshots(&forgetting, &snapshots, received_at).await.unwrap();
                    assert_eq!(outcome, expected, "{prefix}: {snapshots:?}");
                }
            }
        }
    }
    assert_eq!(dump::tables(&mut conns[0]).await, dump::tables(&mut conns[1]).await);
    // Or nothing was shown by it.
    assert!(known.iter().all(|known| *known > 20), "{known:?}");
    for pools in [knowing, forgetting] {
        pools.close().await;
    }
}
