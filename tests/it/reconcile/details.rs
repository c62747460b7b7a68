//! Attributes and topics: what a type without them says, in whose name topics are asked for, what does not fit into a
//! ledger entry; and how much memory a list of a million takes.

use group_mirror::mirror::{FactKind, GroupBarrier, LIST_BYTES_MAX, Snapshot};
use group_mirror::model::Digest;
use group_mirror::reconcile::{DetailReading, DetailState, UnknownWhy};
use serde_json::{Value, json};

use super::reader::{SPARE, id, reader_of, scripted_reader, user};
use crate::tencent::fake::{GROUPS, TOPICS, done, fake, group};
use crate::tencent::scripted::{Scripted, ScriptedServer};

fn raises(snapshot: &Snapshot, barrier: GroupBarrier) -> bool {
    let facts = snapshot.facts(&Digest::of("", b"")).unwrap();
    facts.iter().any(|fact| fact.kind == FactKind::Barrier(barrier))
}

/// How many attributes or topics the snapshots name.
fn named(reading: &DetailReading) -> usize {
    let facts = reading.snapshots.iter().flat_map(|snapshot| snapshot.facts(&Digest::of("", b"")).unwrap());
    let is_named = |kind: &FactKind| matches!(kind, FactKind::Attribute(..) | FactKind::TopicBarrier(..));
    facts.filter(|fact| is_named(&fact.kind)).count()
}

#[tokio::test]
async fn topics_are_asked_for_in_the_name_of_a_member_and_a_type_without_them_is_not_gone() {
    let fake = fake(&json!({ "rate_factor": 10_000, "topics_for_members_only": true }), None, 1).await;
    let community = "@TGS#_c1";
    group(&fake, "Community", community, &["boris"]).await;
    group(&fake, "Public", "g", &[]).await;
    done(&fake, TOPICS, "create_topic", json!({ "GroupId": community, "TopicName": "Pier" })).await;
    let reader = reader_of(&fake);
    let topics = async |group: &str, speakers: &[&str]| {
        let speakers: Vec<_> = speakers.iter().map(|name| user(name)).collect();
        reader.topics(&id(group), &speakers, SPARE).await.unwrap()
    };
    let read = topics(community, &["zoe", "boris"]).await;
    assert_eq!((read.state, named(&read)), (DetailState::Read, 1), "the second one is a member");
    assert!(raises(&read.snapshots[0], GroupBarrier::TopicsBarrier));
    assert_eq!(topics(community, &["zoe", "yan"]).await.state, DetailState::Unsupported);
    assert_eq!(topics(community, &[]).await.state, DetailState::Unknown(UnknownWhy::NoMember));
    assert_eq!(topics("g", &["ana"]).await.state, DetailState::Unsupported);
    assert_eq!(topics("@TGS#_none", &["ana"]).await.state, DetailState::Gone);
}

#[tokio::test]
async fn the_attributes_of_a_group_are_one_snapshot_in_every_form_of_nothing() {
    let fake = fake(&json!({ "rate_factor": 10_000 }), None, 1).await;
    group(&fake, "Public", "g", &[]).await;
    let reader = reader_of(&fake);
    for form in ["list", "null", "absent"] {
        fake.set_knobs(&json!({ "no_attributes": form })).unwrap();
        let read = reader.attributes(&id("g"), SPARE).await.unwrap();
        assert_eq!((read.state, named(&read), read.snapshots.len()), (DetailState::Read, 0, 1), "{form}");
        assert!(raises(&read.snapshots[0], GroupBarrier::AttributesBarrier), "{form}");
    }
    let pairs = json!([{ "key": "seat", "value": "" }, { "key": "round", "value": "3" }]);
    done(&fake, GROUPS, "set_group_attr", json!({ "GroupId": "g", "GroupAttr": pairs })).await;
    let read = reader.attributes(&id("g"), SPARE).await.unwrap();
    assert_eq!((read.snapshots.len(), named(&read)), (1, 2));
}

fn ok(mut content: Value) -> Scripted {
    content["ActionStatus"] = json!("OK");
    content["ErrorCode"] = json!(0);
    Scripted::body(content.to_string())
}

#[tokio::test]
async fn an_answer_that_does_not_fit_into_an_entry_is_entered_in_parts_that_end_nothing() {
    let attributes: Value =
        (0..50).map(|number| json!({ "key": format!("k{number}"), "value": "x".repeat(25_000) })).collect();
    let topic = |number: u32| {
        let info = json!({ "TopicId": format!("@TGS#_c@TOPIC#_{number}"), "TopicName": "T", "CustomString": "y".repeat(6_000) });
        json!({ "ErrorCode": 0, "TopicInfo": info })
    };
    let topics: Value = (0..200).map(topic).collect();
    let huge = json!([{ "key": "k", "value": "z".repeat(LIST_BYTES_MAX) }]);
    let server = ScriptedServer::start([
        ok(json!({ "GroupAttrAry": attributes })),
        ok(json!({ "TopicAndSelfInfo": topics })),
        ok(json!({ "GroupAttrAry": huge })),
    ])
    .await;
    let reader = scripted_reader(&server.url);
    let read = reader.attributes(&id("g"), SPARE).await.unwrap();
    assert_eq!((read.state, named(&read)), (DetailState::Read, 50));
    assert!(read.snapshots.len() > 1 && read.snapshots.iter().all(|it| it.answer.len() <= LIST_BYTES_MAX));
    assert!(!read.snapshots.iter().any(|it| raises(it, GroupBarrier::AttributesBarrier)));
    let read = reader.topics(&id("@TGS#_c"), &[user("ana")], SPARE).await.unwrap();
    assert_eq!((read.state, named(&read)), (DetailState::Read, 200));
    assert!(!read.snapshots.iter().any(|it| raises(it, GroupBarrier::TopicsBarrier)));
    let read = reader.attributes(&id("g"), SPARE).await.unwrap();
    assert_eq!(read.state, DetailState::Unknown(UnknownWhy::TooLarge));
    assert!(read.snapshots.is_empty());
}

#[tokio::test]
async fn a_profile_or_a_member_that_does_not_fit_into_an_entry_is_unknown_or_left_out() {
    let element = |more: Value| {
        let mut element = json!({ "GroupId": "g", "ErrorCode": 0, "Type": "Public" });
        element.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        ok(json!({ "GroupInfo": [element] }))
    };
    let large = "x".repeat(LIST_BYTES_MAX);
    let server = ScriptedServer::start([
        element(json!({ "Introduction": large })),
        element(json!({ "MemberNum": 2, "MemberList": [
            { "Member_Account": "ana", "JoinTime": 1_700_000_000 },
            { "Member_Account": "boris", "JoinTime": 1_700_000_000, "NameCard": large },
        ] })),
    ])
    .await;
    let reader = scripted_reader(&server.url);
    let read = super::reader::one(&reader, "g").await.unwrap();
    assert_eq!(read.verdict, group_mirror::reconcile::GroupVerdict::Unknown(UnknownWhy::TooLarge));
    let read = super::reader::one(&reader, "g").await.unwrap();
    let group_mirror::reconcile::MembersRead::Whole(list) = read.members else {
        panic!("{:?}", read.members)
    };
    assert_eq!(
        list.state,
        group_mirror::reconcile::ListState::Incomplete(group_mirror::reconcile::IncompleteWhy::TooLarge)
    );
    let snapshots: Vec<Snapshot> = list.batches().flatten().collect();
    assert_eq!(snapshots.len(), 1, "what fits is confirmed");
    assert!(!snapshots[0].is_complete);
}
