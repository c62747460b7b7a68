//! Packed reading against the fake: which groups share a call, whose members come inside it, and what one group that cannot
//! be answered costs the others.

use group_mirror::fake::{ExistingGroups, Fake};
use group_mirror::mirror::{FactKind, GroupBarrier, Snapshot};
use group_mirror::model::{Digest, Millis};
use group_mirror::reconcile::{
    AskedGroup, GroupReading, GroupVerdict, KnownOfGroup, ListState, MembersRead, Stale, UnknownWhy,
};
use group_mirror::tencent::groups::GroupInfos;
use serde_json::{Value, json};

use super::reader::{SPARE, asked, fields, id, list, one, reader_of, scripted_reader, user, users};
use crate::tencent::fake::{GROUPS, done, fake, fake_with, group};
use crate::tencent::scripted::{Scripted, ScriptedServer};

async fn existing(groups: u32, members: u32, knobs: Value) -> Fake {
    let mut all = json!({ "rate_factor": 10_000 });
    all.as_object_mut().unwrap().extend(knobs.as_object().unwrap().clone());
    fake_with(&all, None, 1, ExistingGroups { groups, members }).await
}

/// All groups of the fake, as they would be asked for.
fn all(fake: &Fake, expected: Option<u64>) -> Vec<AskedGroup> {
    let state = fake.state(None);
    state.as_object().unwrap().keys().map(|name| asked(name, true, expected)).collect()
}

fn members(reading: &GroupReading) -> &'static str {
    match &reading.members {
        MembersRead::Whole(list) if list.state == ListState::Complete => "whole",
        MembersRead::Whole(_) => "a part",
        MembersRead::Wanted => "wanted",
        MembersRead::NotAsked => "not asked",
        MembersRead::NoList => "none",
    }
}

#[tokio::test]
async fn small_groups_come_with_their_members_and_all_others_want_a_list_of_their_own() {
    for knobs in
        [json!({}), json!({ "shuffled": true, "role_blank": true, "spelling": "old", "extra_keys": true })]
    {
        let fake = existing(120, 7, knobs).await;
        let (reader, state) = (reader_of(&fake), fake.state(None));
        let asked = all(&fake, Some(7));
        let readings = reader.groups(&asked, SPARE).await.unwrap();
        let order: Vec<_> = readings.iter().map(|reading| &reading.group.group).collect();
        assert_eq!(order, asked.iter().map(|asked| &asked.group).collect::<Vec<_>>());
        for reading in &readings {
            let name = reading.group.group.as_str();
            let wanted = match state[name]["type"].as_str().unwrap() {
                "Community" => "wanted",
                "AVChatRoom" => "none",
                _ => "whole",
            };
            assert_eq!((reading.verdict, members(reading)), (GroupVerdict::Alive, wanted), "{name}");
            if let MembersRead::Whole(list) = &reading.members {
                let present = state[name]["members"].as_object().unwrap().keys().cloned().collect();
                assert_eq!(users(&list.rows), present);
            }
            let read = GroupInfos::read(&reading.profile.as_ref().unwrap().answer).unwrap();
            let info = read.elements[0].info.as_ref().unwrap();
            assert_eq!(info.name.as_deref(), state[name]["texts"]["Name"].as_str());
            assert_eq!((info.members.as_ref(), info.mute_all), (None, Some(false)));
            assert_eq!(info.custom_fields.as_ref().unwrap()[0].1, "north");
        }
    }
}

/// How many calls of a kind were made by groups of these sizes; the scripted server answers nothing.
async fn questions(asked: &[AskedGroup]) -> Vec<(usize, bool)> {
    let server = ScriptedServer::start([]).await;
    let _ = scripted_reader(&server.url).groups(asked, SPARE).await.unwrap();
    let call = |asked: &crate::tencent::scripted::Asked| {
        let filter = &asked.body["ResponseFilter"];
        (asked.body["GroupIdList"].as_array().unwrap().len(), filter.get("MemberInfoFilter").is_some())
    };
    let mut calls: Vec<_> = server.asked().iter().map(call).collect();
    calls.sort_unstable();
    calls
}

#[tokio::test]
async fn a_call_has_at_most_fifty_groups_and_three_thousand_members_as_far_as_is_known() {
    let named = |count: usize, size: Option<u64>| -> Vec<AskedGroup> {
        (0..count).map(|number| asked(&format!("g{number}"), true, size)).collect()
    };
    assert_eq!(questions(&named(120, Some(10))).await, [(20, true), (50, true), (50, true)]);
    assert_eq!(questions(&named(9, Some(1_000))).await, [(3, true), (3, true), (3, true)]);
    assert_eq!(questions(&named(60, None)).await, [(10, true), (50, true)]);
    assert_eq!(questions(&named(3, Some(3_001))).await, [(3, false)], "their lists are read by themselves");
    let profiles: Vec<_> = (0..51).map(|number| asked(&format!("g{number}"), false, None)).collect();
    assert_eq!(questions(&profiles).await, [(1, false), (50, false)]);
    let community = asked("@TGS#_c", true, Some(3));
    assert_eq!(questions(&[community]).await, [(1, false)], "never asked of a community");
}

#[tokio::test]
async fn an_answer_that_is_too_large_is_bisected_until_only_the_large_group_wants_a_list() {
    let fake = existing(30, 5, json!({})).await;
    for number in 0..9 {
        let list: Value = (0..100)
            .map(|member| json!({ "Member_Account": format!("user_{}", number * 100 + member) }))
            .collect();
        done(&fake, GROUPS, "add_group_member", json!({ "GroupId": "existing 1", "MemberList": list })).await;
    }
    fake.set_knobs(&json!({ "answer_bytes_max": 30_000 })).unwrap();
    let reader = reader_of(&fake);
    for reading in reader.groups(&all(&fake, Some(5)), SPARE).await.unwrap() {
        let name = reading.group.group.as_str();
        assert_eq!(reading.verdict, GroupVerdict::Alive, "{name}");
        let type_of = reading.witnesses.as_ref().unwrap().group_type.clone();
        let wanted = match type_of.as_deref() {
            Some("AVChatRoom") => "none",
            Some("Community") => "wanted",
            _ if name == "existing 1" => "wanted",
            _ => "whole",
        };
        assert_eq!(members(&reading), wanted, "{name}");
    }
    assert_eq!(list(&reader, "existing 1").await.state, ListState::Complete);
    fake.set_knobs(&json!({ "answer_bytes_max": 100 })).unwrap();
    let reading = one(&reader, "existing 1").await.unwrap();
    assert_eq!(reading.verdict, GroupVerdict::Unknown(UnknownWhy::TooMuch));
}

#[tokio::test]
async fn a_list_inside_a_profile_that_was_cut_wants_one_of_its_own() {
    let fake = existing(5, 9, json!({ "packed_members_max": 4 })).await;
    let reading = one(&reader_of(&fake), "existing 1").await.unwrap();
    assert_eq!((reading.verdict, members(&reading)), (GroupVerdict::Alive, "wanted"));
    assert!(reading.needs_members());
}

#[tokio::test]
async fn one_unreadable_group_costs_itself_and_not_the_batch() {
    let element = |name: &str| json!({ "GroupId": name, "ErrorCode": 0, "Name": name }).to_string();
    let answer = |elements: &[String]| {
        let elements = elements.join(",");
        let text = format!(r#"{{"ActionStatus":"OK","ErrorCode":0,"GroupInfo":[{elements}]}}"#);
        Scripted::body(text)
    };
    let broken = || answer(&[element("a"), r#"{"GroupId":"b","Name":"an "inner" quote"}"#.to_owned()]);
    // Seven attempts at the pair, one at `b`'s half after the other's.
    let mut script = vec![broken(); 7];
    script.push(answer(&[element("a")]));
    script.extend(vec![broken(); 14]);
    let server = ScriptedServer::start(script).await;
    let reader = scripted_reader(&server.url);
    let pair = [asked("a", false, None), asked("b", false, None)];
    let readings = reader.groups(&pair, SPARE).await.unwrap();
    assert_eq!(readings[0].verdict, GroupVerdict::Alive);
    assert_eq!(readings[1].verdict, GroupVerdict::Unknown(UnknownWhy::Unreadable));
}

/// Whether a snapshot ends the custom fields that it does not name.
fn ends_fields(snapshot: &Snapshot) -> bool {
    let facts = snapshot.facts(&Digest::of("", b"")).unwrap();
    facts.iter().any(|fact| fact.kind == FactKind::Barrier(GroupBarrier::FieldsBarrier))
}

#[tokio::test]
async fn custom_fields_that_may_not_be_read_cost_no_profile_and_end_nothing() {
    let refused = Scripted::code(10_007);
    let good = Scripted::body(
        json!({ "ActionStatus": "OK", "ErrorCode": 0, "GroupInfo": [{ "GroupId": "g", "ErrorCode": 0 }] })
            .to_string(),
    );
    let server = ScriptedServer::start([refused, good]).await;
    let client = crate::tencent::scripted::client(&server.url);
    let reader = group_mirror::reconcile::GroupReader::new(
        std::sync::Arc::new(client),
        group_mirror::model::SdkAppId::parse(crate::support::APP).unwrap(),
        fields(),
        tokio_util::sync::CancellationToken::new(),
    );
    let reading = one(&reader, "g").await.unwrap();
    assert_eq!(reading.verdict, GroupVerdict::Alive);
    assert!(!ends_fields(reading.profile.as_ref().unwrap()));
    let asked = server.asked();
    assert!(asked[0].body["ResponseFilter"].get("AppDefinedDataFilter_Group").is_some());
    assert!(asked[1].body["ResponseFilter"].get("AppDefinedDataFilter_Group").is_none());
    let _ = one(&reader, "g").await.unwrap();
    let third = &server.asked()[2].body["ResponseFilter"];
    assert!(third.get("AppDefinedDataFilter_Group").is_none(), "not asked for again");

    let fake = fake(&json!({ "rate_factor": 10_000 }), None, 1).await;
    group(&fake, "Public", "g", &[]).await;
    let reading = one(&reader_of(&fake), "g").await.unwrap();
    assert!(ends_fields(reading.profile.as_ref().unwrap()), "all keys were asked for and answered");
}

#[tokio::test]
async fn an_answer_that_lacks_a_callback_which_it_has_to_show_is_stale() {
    let fake = existing(5, 4, json!({})).await;
    let reader = reader_of(&fake);
    let reading = one(&reader, "existing 1").await.unwrap();
    let (time, info) = (reading.time.unwrap(), reading.witnesses.as_ref().unwrap().last_info_secs.unwrap());
    let known =
        |at: i64| KnownOfGroup { newest_profile_callback: Some(Millis::new(at)), ..KnownOfGroup::default() };
    assert_eq!(reading.staleness(&known(info * 1000 + 4_999)), None, "within the margin of clocks");
    assert_eq!(reading.staleness(&known(info * 1000 + 5_000)), Some(Stale::Profile));
    assert_eq!(reading.staleness(&known(time.sigma.get())), Some(Stale::Profile));
    assert_eq!(reading.staleness(&known(time.sigma.get() + 1)), None, "it need not be shown yet");
    assert_eq!(reading.staleness(&KnownOfGroup::default()), None);
    let MembersRead::Whole(list) = &reading.members else { panic!("{:?}", reading.members) };
    let joined = list.rows.join_secs(&user("user_8")).unwrap() * 1000;
    let left = |at: i64| KnownOfGroup {
        leaves: [(user("user_8"), Millis::new(at))].into(),
        ..KnownOfGroup::default()
    };
    assert_eq!(list.staleness(&left(joined + 4_999)), None);
    assert_eq!(
        list.staleness(&left(joined + 5_000)),
        Some(Stale::Members),
        "listed by a stay that has ended"
    );
    assert_eq!(list.staleness(&left(time.sigma.get() + 1)), None);
    let other = KnownOfGroup { leaves: [(user("zoe"), time.sigma)].into(), ..KnownOfGroup::default() };
    assert_eq!(list.staleness(&other), None, "not listed");
}

#[tokio::test]
async fn sigma_is_raised_to_the_creation_of_a_young_group_and_no_further() {
    let fake = fake(&json!({ "rate_factor": 10_000 }), None, 1).await;
    group(&fake, "Public", "g", &[]).await;
    fake.step(3_000);
    let reading = one(&reader_of(&fake), "g").await.unwrap();
    let (time, witnesses) = (reading.time.unwrap(), reading.witnesses.unwrap());
    assert_eq!(time.sigma.get(), witnesses.create_secs.unwrap() * 1000);
    assert!(time.sigma < time.sent);
    assert_eq!(witnesses.group.group, id("g"));
}
