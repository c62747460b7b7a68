//! The door of snapshots on a real PostgreSQL: what is entered and what is not, what is written of a list, what is counted,
//! and who wins, case by case.

use group_mirror::callback::WORK;
use group_mirror::ingest::{self, SnapshotOutcome};
use group_mirror::mirror::{Drift, DriftKind, GroupKey, ListRange, ReadKind, ReadTime, Snapshot, group_key};
use group_mirror::model::{GroupId, Millis, SdkAppId, UserId};
use group_mirror::replay::{self, Mode};
use group_mirror::store::Database;
use group_mirror::tencent::canonical::one_group;
use group_mirror::tencent::members::{ListedMember, MemberPage};
use serde_json::{Value, json};
use sqlx::PgConnection;

use crate::rules::laws::callback;
use crate::support::histories::BASE_MS;
use crate::support::postgres::TestDatabase;
use crate::support::{APP, shown};

pub(crate) struct Door {
    pub(crate) database: TestDatabase,
    pub(crate) pools: Database,
    pub(crate) conn: PgConnection,
}

/// σ of a read, in milliseconds after the base.
pub(crate) fn at(ms: i64) -> ReadTime {
    ReadTime::new(Millis::new(BASE_MS + ms + 15_000), 15_000, None)
}

pub(crate) fn key() -> GroupKey {
    group_key(SdkAppId::parse(APP).unwrap(), GroupId::parse("g").unwrap())
}

pub(crate) fn read(kind: ReadKind, time: ReadTime, answer: &Value) -> Snapshot {
    let answer = answer.to_string().into_bytes();
    Snapshot { group: key(), time, kind, is_complete: true, range: None, missing: Vec::new(), answer }
}

pub(crate) fn profile(ms: i64, more: &Value) -> Snapshot {
    let mut element = json!({ "GroupId": "g", "ErrorCode": 0, "Type": "Public", "Name": "one", "Introduction": "",
        "Notification": "", "FaceUrl": "", "Owner_Account": "ana", "CreateTime": BASE_MS / 1000,
        "MuteAllMember": "Off", "MaxMemberNum": 200, "ApplyJoinOption": "FreeAccess", "AppDefinedData": [] });
    element.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let answer = one_group(element.to_string().as_bytes());
    Snapshot { answer, ..read(ReadKind::Profile, at(ms), &json!(null)) }
}

pub(crate) fn gone(ms: i64) -> Snapshot {
    read(ReadKind::Gone, at(ms), &json!({ "ErrorCode": 10_010 }))
}

/// Members as `user:Role@join/card`, of which only the user has to be there.
pub(crate) fn rows(members: &[&str]) -> Vec<ListedMember> {
    let rows: Vec<Value> = members
        .iter()
        .map(|text| {
            let (rest, card) = text.split_once('/').unwrap_or((text, ""));
            let (rest, joined) = rest.split_once('@').unwrap_or((rest, "0"));
            let (user, role) = rest.split_once(':').unwrap_or((rest, "Member"));
            let joined = BASE_MS / 1000 + joined.parse::<i64>().unwrap();
            json!({ "Member_Account": user, "Role": role, "JoinTime": joined, "NameCard": card, "MuteUntil": 0 })
        })
        .collect();
    let answer = json!({ "ActionStatus": "OK", "ErrorCode": 0, "MemberList": rows });
    MemberPage::read(answer.to_string().as_bytes()).unwrap().members
}

pub(crate) fn list(ms: i64, members: &[&str]) -> Snapshot {
    let [list] = Snapshot::of_members(&key(), at(ms), &rows(members)).try_into().unwrap();
    list
}

pub(crate) fn event(command: &str, ms: i64, more: &Value) -> Value {
    let mut body = json!({ "CallbackCommand": format!("Group.CallbackAfter{command}"), "GroupId": "g",
        "EventTime": BASE_MS + ms });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

pub(crate) fn create(ms: i64, members: &[&str]) -> Value {
    let members: Value = members.iter().map(|user| json!({ "Member_Account": user })).collect();
    event(
        "CreateGroup",
        ms,
        &json!({ "Type": "Public", "Name": "one", "Owner_Account": "ana", "MemberList": members }),
    )
}

pub(crate) fn join(ms: i64, user: &str) -> Value {
    event("NewMemberJoin", ms, &json!({ "JoinType": "Apply", "NewMemberList": [{ "Member_Account": user }] }))
}

pub(crate) fn leave(ms: i64, user: &str) -> Value {
    event("MemberExit", ms, &json!({ "ExitType": "Quit", "ExitMemberList": [{ "Member_Account": user }] }))
}

impl Door {
    pub(crate) async fn open() -> Self {
        let database = TestDatabase::create().await;
        let (pools, conn) = (Database::new(&database.url).unwrap(), database.connect().await);
        Self { database, pools, conn }
    }

    pub(crate) async fn hear(&self, bodies: &[Value]) {
        let callbacks: Vec<_> = bodies.iter().map(callback).collect();
        for outcome in ingest::commit(&self.pools, &callbacks).await {
            outcome.unwrap();
        }
    }

    pub(crate) async fn take(&self, snapshots: &[Snapshot]) -> Vec<SnapshotOutcome> {
        let received_at = Millis::new(BASE_MS + 100_000);
        let mut outcomes = Vec::new();
        for batch in snapshots.chunks(ingest::SNAPSHOTS_MAX) {
            outcomes.extend(ingest::commit_snapshots(&self.pools, batch, received_at).await.unwrap());
        }
        outcomes
    }

    /// The drift of one snapshot, as `kind=count`; `unchanged` where it is not entered.
    pub(crate) async fn drift(&self, snapshot: Snapshot) -> String {
        match self.take(&[snapshot]).await.remove(0) {
            SnapshotOutcome::Entered(drift) => words(&drift),
            SnapshotOutcome::Unchanged => "unchanged".to_owned(),
            other => format!("{other:?}"),
        }
    }

    /// Who is shown how, in the words of `shown::words`; the ledger says the same.
    pub(crate) async fn shown(&mut self) -> String {
        let report = replay::replay(&self.pools, Mode::Verify, |_| ()).await.unwrap();
        assert_eq!(report.lines, Vec::<String>::new());
        shown::words(&shown::views(&mut self.conn).await["g"], BASE_MS)
    }

    pub(crate) async fn entries(&mut self) -> i64 {
        let count = sqlx::query_scalar("SELECT count(*) FROM ledger WHERE source = 'rest'");
        count.fetch_one(&mut self.conn).await.unwrap()
    }

    /// The users whose rows were written or locked since they were last looked at: each write is another `ctid` or `xmax`.
    async fn versions(&mut self) -> Vec<(String, String)> {
        let versions = "SELECT user_id, ctid::text || ' ' || xmax::text FROM group_members ORDER BY user_id";
        sqlx::query_as(versions).fetch_all(&mut self.conn).await.unwrap()
    }

    pub(crate) async fn close(self) {
        self.pools.close().await;
        drop(self.database);
    }
}

fn words(drift: &Drift) -> String {
    let words = drift.iter().map(|(kind, count)| {
        let label: &str = kind.into();
        format!("{label}={count}")
    });
    words.collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn an_imported_group_is_known_from_its_snapshots_alone() {
    let mut door = Door::open().await;
    let drift =
        door.drift(profile(20_000, &json!({ "AppDefinedData": [{ "Key": "k", "Value": "v" }] }))).await;
    assert_eq!(drift, "group_found=1 profile=1 owner=1 silent=1 user_defined_field=1");
    let drift = door.drift(list(20_000, &["ana:Owner@5", "boris:Admin@6/Bo", "chen@7"])).await;
    assert_eq!(drift, "member_found=3");
    assert_eq!(
        door.shown().await,
        "active Public \"one\" intro=\"\" notice=\"\" face=\"\" owner=ana @0 {k=v} | ana:Owner\"\" \
         boris:Admin\"Bo\" chen:Member\"\" |"
    );
    let (mute, most): (Option<bool>, Option<i64>) =
        sqlx::query_as("SELECT mute_all, max_member_count FROM group_states")
            .fetch_one(&mut door.conn)
            .await
            .unwrap();
    assert_eq!((mute, most), (Some(false), Some(200)));
    door.close().await;
}

#[tokio::test]
async fn a_snapshot_that_says_nothing_new_moves_only_the_time_of_verification() {
    let mut door = Door::open().await;
    door.take(&[profile(20_000, &json!({})), list(20_000, &["ana:Owner", "boris"])]).await;
    let (entries, versions) = (door.entries().await, door.versions().await);
    for ms in [20_000, 30_000, 40_000] {
        // What changes with every message is no difference.
        let profile = profile(ms, &json!({ "NextMsgSeq": ms, "LastMsgTime": ms }));
        let outcomes = door.take(&[profile, list(ms, &["boris", "ana:Owner"])]).await;
        assert_eq!(outcomes, [SnapshotOutcome::Unchanged, SnapshotOutcome::Unchanged]);
    }
    assert_eq!((door.entries().await, door.versions().await), (entries, versions));
    let verified: (i64, i64) = sqlx::query_as(
        "SELECT (extract(epoch FROM verified_at) * 1000)::bigint, (extract(epoch FROM members_verified_at) * 1000)::bigint
           FROM group_verifications",
    )
    .fetch_one(&mut door.conn)
    .await
    .unwrap();
    assert_eq!(verified, (BASE_MS + 40_000, BASE_MS + 40_000));
    door.close().await;
}

#[tokio::test]
async fn a_member_for_whom_nothing_changed_is_not_written() {
    let mut door = Door::open().await;
    door.take(&[profile(20_000, &json!({})), list(20_000, &["ana:Owner", "boris", "chen", "dora"])]).await;
    let before = door.versions().await;
    let drift = door.drift(list(30_000, &["ana:Owner", "boris:Admin", "dora", "emil"])).await;
    assert_eq!(drift, "member_found=1 member_gone=1 role=1");
    let after = door.versions().await;
    let written: Vec<&str> =
        after.iter().filter(|row| !before.contains(row)).map(|(user, _)| user.as_str()).collect();
    assert_eq!(written, ["boris", "chen", "emil"]);
    let shown = door.shown().await;
    assert!(
        shown.ends_with("| ana:Owner\"\" boris:Admin\"\" dora:Member\"\" emil:Member\"\" | chen@30000"),
        "{shown}"
    );
    // The time of the end is that of the first list that left chen out.
    assert_eq!(door.drift(list(40_000, &["ana:Owner", "boris", "dora"])).await, "member_gone=1 role=1");
    let shown = door.shown().await;
    assert!(shown.ends_with("| chen@30000 emil@40000"), "{shown}");
    door.close().await;
}

#[tokio::test]
async fn a_callback_that_is_newer_than_a_list_wins_whichever_comes_first() {
    for list_first in [true, false] {
        let mut door = Door::open().await;
        let callbacks =
            [create(0, &["boris"]), leave(25_000, "boris"), join(26_000, "chen"), leave(5_000, "dora")];
        let read = list(20_000, &["ana:Owner", "boris:Admin@1", "dora@4"]);
        if list_first {
            door.take(std::slice::from_ref(&read)).await;
        }
        door.hear(&callbacks).await;
        if !list_first {
            door.take(&[read]).await;
        }
        let shown = door.shown().await;
        // The list is newer than the leave of dora, and older than that of boris and than the join of chen.
        assert!(shown.ends_with("| ana:Owner\"\" chen:Member dora:Member\"\" | boris@25000"), "{shown}");
        door.close().await;
    }
}

#[tokio::test]
async fn a_join_or_leave_that_was_lost_is_repaired_and_one_that_comes_late_changes_nothing() {
    let mut door = Door::open().await;
    door.hear(&[create(0, &["boris"])]).await;
    let drift = door.drift(list(20_000, &["ana:Owner", "chen@8"])).await;
    assert_eq!(drift, "member_found=1 member_gone=1", "a JoinTime within a second is the join that is known");
    let repaired = door.shown().await;
    assert!(repaired.ends_with("| ana:Owner\"\" chen:Member\"\" | boris@20000"), "{repaired}");
    door.hear(&[leave(9_000, "boris"), join(8_300, "chen")]).await;
    assert_eq!(door.shown().await, repaired);
    // The join that was late says how chen came; the list had only said when.
    let how: (Option<String>, i64) = sqlx::query_as(
        "SELECT join_type, (extract(epoch FROM joined_at) * 1000)::bigint FROM group_member_states WHERE user_id = 'chen'",
    )
    .fetch_one(&mut door.conn)
    .await
    .unwrap();
    assert_eq!(how, (Some("Apply".to_owned()), BASE_MS + 8_300));
    door.close().await;
}

#[tokio::test]
async fn a_list_that_is_not_complete_confirms_and_removes_nobody() {
    let mut door = Door::open().await;
    door.hear(&[create(0, &["boris"]), leave(5_000, "chen")]).await;
    let part = Snapshot { is_complete: false, ..list(20_000, &["chen:Admin"]) };
    assert_eq!(door.drift(part).await, "member_found=1");
    let shown = door.shown().await;
    assert!(shown.ends_with("| ana:Owner boris:Member chen:Admin\"\" |"), "{shown}");
    let verified = "SELECT count(*) FROM group_verifications WHERE members_verified_at IS NOT NULL";
    let verified: i64 = sqlx::query_scalar(verified).fetch_one(&mut door.conn).await.unwrap();
    assert_eq!(verified, 0, "a part of a list verifies nothing");
    // A newer complete list that does not name chen ends what the part had confirmed.
    assert_eq!(door.drift(list(30_000, &["ana:Owner", "boris"])).await, "member_gone=1");
    door.close().await;
}

#[tokio::test]
async fn gone_ends_a_group_unless_a_callback_is_newer_and_a_later_profile_brings_it_back() {
    let mut door = Door::open().await;
    assert_eq!(door.drift(gone(1_000)).await, "Unknown", "nothing is known of a group that never was");
    door.hear(&[create(0, &["boris"])]).await;
    assert_eq!(door.drift(gone(20_000)).await, "group_gone=1");
    assert!(door.shown().await.starts_with("destroyed"), "all members show as left");
    // Less than 10 s after the read, and newer than it: a read demands no distance.
    door.hear(&[join(21_000, "chen")]).await;
    let shown = door.shown().await;
    assert!(shown.starts_with("active") || shown.starts_with("unseen"), "{shown}");
    assert_eq!(door.drift(gone(30_000)).await, "group_gone=1");
    assert!(door.drift(profile(40_000, &json!({}))).await.starts_with("group_found=1"));
    assert!(door.shown().await.starts_with("active Public \"one\""));
    door.close().await;
}

#[tokio::test]
async fn a_read_of_all_attributes_or_topics_outdates_older_ones_and_answers_a_mark() {
    let mut door = Door::open().await;
    let topic = |name: &str| format!("g@TOPIC#_{name}");
    door.hear(&[
        create(0, &[]),
        event(
            "GroupAttrChanged",
            1_000,
            &json!({ "OptionType": "set", "GroupAttr": [{ "key": "a", "value": "1" }] }),
        ),
        event("GroupAttrChanged", 2_000, &json!({ "OptionType": "odd" })),
        event("CreateTopic", 3_000, &json!({ "TopicId": topic("a"), "Name": "first" })),
    ])
    .await;
    let attributes = |ms, pairs: Value| {
        let answer = json!({ "ActionStatus": "OK", "ErrorCode": 0, "GroupAttrAry": pairs });
        read(ReadKind::Attributes, at(ms), &answer)
    };
    let same = json!([{ "key": "a", "value": "1" }]);
    assert_eq!(
        door.drift(attributes(20_000, same.clone())).await,
        "",
        "entered, because it answers the mark"
    );
    assert_eq!(door.drift(attributes(21_000, same)).await, "unchanged");
    assert_eq!(door.drift(attributes(22_000, json!([{ "key": "b", "value": "" }]))).await, "attribute=2");
    let topics = |ms, topics: Value| {
        let answer = json!({ "ActionStatus": "OK", "ErrorCode": 0, "TopicAndSelfInfo": topics });
        read(ReadKind::Topics, at(ms), &answer)
    };
    let found = json!([{ "ErrorCode": 0, "TopicInfo": { "TopicId": topic("b"), "TopicName": "second" } }]);
    assert_eq!(door.drift(topics(20_000, found)).await, "topic_found=1 topic_gone=1");
    let shown = door.shown().await;
    assert!(shown.contains("[b=]") && shown.ends_with("#a:\"first\" @3000 †20000 #b:\"second\""), "{shown}");
    door.close().await;
}

#[tokio::test]
async fn a_large_list_is_entered_in_ranges_and_one_change_writes_one_range() {
    let mut door = Door::open().await;
    let users: Vec<String> = (0..6_000).map(|number| format!("user{number}")).collect();
    let all: Vec<&str> = users.iter().map(String::as_str).collect();
    let ranges = Snapshot::of_members(&key(), at(20_000), &rows(&all));
    assert_eq!(ranges.len(), 256);
    let outcomes = door.take(&ranges).await;
    let found = outcomes.iter().map(|outcome| match outcome {
        SnapshotOutcome::Entered(drift) => drift.get(&DriftKind::MemberFound).copied().unwrap_or_default(),
        _ => 0,
    });
    assert_eq!(found.sum::<u64>(), 6_000);
    let entries = door.entries().await;
    let without = |gone: &str| -> Vec<&str> { all.iter().copied().filter(|user| *user != gone).collect() };
    let outcomes = door.take(&Snapshot::of_members(&key(), at(30_000), &rows(&without("user77")))).await;
    let entered: Vec<usize> =
        (0..256).filter(|at| matches!(outcomes[*at], SnapshotOutcome::Entered(_))).collect();
    let range = ListRange::of(&UserId::parse("user77").unwrap());
    assert_eq!(entered, [ListRange::all().position(|of| of == range).unwrap()]);
    assert_eq!(door.entries().await, entries + 1);
    let present = "SELECT count(*) FROM active_group_members";
    let count: i64 = sqlx::query_scalar(present).fetch_one(&mut door.conn).await.unwrap();
    assert_eq!(count, 5_999);
    let widest: i32 = sqlx::query_scalar("SELECT max(octet_length(body)) FROM ledger")
        .fetch_one(&mut door.conn)
        .await
        .unwrap();
    assert!(widest < 16 * 1024, "an entry of a range is small: {widest}");
    // A small list is one register again, of all ranges.
    let drift = door.drift(list(40_000, &["user1:Owner", "user2"])).await;
    assert!(drift.contains("member_gone=5997"), "{drift}");
    let shown = door.shown().await;
    assert!(shown.contains("| user1:Owner\"\" user2:Member\"\" |"), "{}", &shown[..200]);
    door.close().await;
}

#[tokio::test]
async fn the_owner_who_left_a_work_group_unheard_is_its_owner_no_more() {
    let mut door = Door::open().await;
    door.hear(&[create(0, &["boris"]), event("GroupInfoChanged", 1, &json!({ "Type": WORK, "Name": "w" }))])
        .await;
    assert_eq!(door.drift(list(20_000, &["boris"])).await, "owner=1 member_gone=1");
    let shown = door.shown().await;
    assert!(!shown.contains("owner="), "{shown}");
    door.close().await;
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_changes_nothing() {
    let mut door = Door::open().await;
    let broken = [
        read(ReadKind::Members, at(20_000), &json!({ "ErrorCode": 10_002, "ActionStatus": "FAIL" })),
        Snapshot { answer: b"<html>".to_vec(), ..profile(20_000, &json!({})) },
        Snapshot {
            answer: one_group(br#"{"GroupId":"other","ErrorCode":0}"#),
            ..profile(20_000, &json!({}))
        },
        Snapshot {
            answer: one_group(br#"{"GroupId":"g","ErrorCode":10010}"#),
            ..profile(20_000, &json!({}))
        },
        // A time in seconds, and one that would win over every callback until it comes.
        Snapshot { time: ReadTime::new(Millis::new(BASE_MS / 1000), 0, None), ..list(0, &["ana"]) },
        list(2 * 24 * 3_600_000, &["ana"]),
        Snapshot { time: ReadTime { sent: Millis::new(BASE_MS), ..at(20_000) }, ..list(0, &["ana"]) },
    ];
    let outcomes = door.take(&broken).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, SnapshotOutcome::Unreadable(_))), "{outcomes:?}");
    let rows: i64 =
        sqlx::query_scalar("SELECT (SELECT count(*) FROM ledger) + (SELECT count(*) FROM groups)")
            .fetch_one(&mut door.conn)
            .await
            .unwrap();
    assert_eq!(rows, 0);
    door.close().await;
}
