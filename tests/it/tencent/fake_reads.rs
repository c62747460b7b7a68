//! What the fake shows by its reads, in all the forms that its knobs give them, read by the client.

use std::collections::BTreeSet;

use group_mirror::fake::{ExistingGroups, Fake};
use group_mirror::model::{FieldKey, GroupId, UserId};
use group_mirror::tencent::CallError;
use group_mirror::tencent::client::TencentClient;
use group_mirror::tencent::codes::CodeClass;
use group_mirror::tencent::commands::{InfoFilter, PageBegin};
use group_mirror::tencent::groups::GroupElement;
use group_mirror::tencent::members::{ListedMember, MemberPage};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::fake::{GROUPS, TOPICS, client, done, fake, fake_with, group};

fn id(text: &str) -> GroupId {
    GroupId::parse(text).unwrap()
}

fn user(text: &str) -> UserId {
    UserId::parse(text).unwrap()
}

fn stop() -> CancellationToken {
    CancellationToken::new()
}

fn accounts(members: &[ListedMember]) -> Vec<&str> {
    members.iter().map(|member| member.user.as_str()).collect()
}

async fn packed(client: &TencentClient, groups: &[&str]) -> Vec<GroupElement> {
    let ids: Vec<GroupId> = groups.iter().map(|text| id(text)).collect();
    let filter = InfoFilter {
        everything: false,
        members: true,
        group_fields: vec![FieldKey::parse("region").unwrap()],
        member_fields: vec![FieldKey::parse("level").unwrap()],
    };
    client.group_infos(&ids, &filter, &stop()).await.unwrap().answer.elements
}

async fn page(client: &TencentClient, group: &str, offset: u64, limit: u32) -> Result<MemberPage, CallError> {
    let begin = PageBegin::Offset(offset);
    Ok(client.members(&id(group), &begin, limit, &[], &stop()).await?.answer)
}

/// Many groups, so that a list of ids has many pages.
async fn many(fake: &Fake, count: u32) -> BTreeSet<String> {
    for number in 0..count {
        group(fake, if number % 2 == 0 { "Public" } else { "Work" }, &format!("g{number}"), &[]).await;
    }
    (0..count).map(|number| format!("g{number}")).collect()
}

#[tokio::test]
async fn all_pages_of_ids_hold_each_group_once() {
    let fake = fake(&json!({ "rate_factor": 10_000, "next_absent": true }), None, 1).await;
    let all = many(&fake, 50).await;
    let client = client(&fake);
    let (mut seen, mut nexts, mut next) = (Vec::new(), Vec::new(), 0);
    loop {
        let page = client.group_ids(next, 7, None, &stop()).await.unwrap().answer;
        assert_eq!(page.total, Some(50));
        seen.extend(page.groups.iter().map(|group| group.as_str().to_owned()));
        next = page.next;
        if next == 0 {
            break;
        }
        nexts.push(next);
    }
    assert_eq!((seen.len(), seen.into_iter().collect::<BTreeSet<_>>()), (50, all));
    assert!(nexts.iter().any(|next| *next > 1 << 63), "{nexts:?}");
    let work = client.group_ids(0, 10_000, Some("Private"), &stop()).await.unwrap().answer;
    assert_eq!((work.groups.len(), work.total), (25, Some(25)));
}

#[tokio::test]
async fn the_id_of_a_destroyed_group_may_linger_in_the_list_and_its_profile_is_gone_at_once() {
    let fake = fake(&json!({ "rate_factor": 10_000, "linger_ms": 3_600_000 }), None, 1).await;
    many(&fake, 2).await;
    done(&fake, GROUPS, "destroy_group", json!({ "GroupId": "g0" })).await;
    let client = client(&fake);
    let listed = client.group_ids(0, 100, None, &stop()).await.unwrap().answer;
    assert_eq!(listed.groups.len(), 2);
    let elements = packed(&client, &["g0", "g1", "not an id é"]).await;
    let codes: Vec<i64> =
        elements.iter().map(|element| element.info.as_ref().err().map_or(0, |code| code.code)).collect();
    assert_eq!(codes, [10010, 0, 10015]);
    // The id is free again at once.
    group(&fake, "Public", "g0", &[]).await;
    assert!(packed(&client, &["g0"]).await[0].info.is_ok());
    let taken = json!({ "Type": "Public", "GroupId": "g0", "Name": "x" });
    assert_eq!(fake.command(GROUPS, "create_group", &taken).await["ErrorCode"], 10021);
}

/// What the client reads of one group with one setting of the knobs.
async fn read_all(knobs: Value) -> Vec<GroupElement> {
    let fake = fake(&json!({ "rate_factor": 10_000 }), None, 1).await;
    fake.set_knobs(&knobs).unwrap();
    group(&fake, "Public", "g", &["boris", "chen"]).await;
    group(&fake, "AVChatRoom", "room", &[]).await;
    let member = json!({ "GroupId": "g", "Member_Account": "boris", "Role": "Admin", "NameCard": "B",
                         "MuteTime": 4_294_967_295_u64,
                         "AppMemberDefinedData": [{ "Key": "level", "Value": "3" }] });
    done(&fake, GROUPS, "modify_group_member_info", member).await;
    let profile = json!({ "GroupId": "g", "MuteAllMember": "On", "InviteJoinOption": "DisableInvite",
                          "AppDefinedData": [{ "Key": "region", "Value": "north" }] });
    done(&fake, GROUPS, "modify_group_base_info", profile).await;
    let mut elements = packed(&client(&fake), &["g", "room"]).await;
    elements.sort_by(|a, b| a.group.cmp(&b.group));
    elements
}

#[tokio::test]
async fn a_profile_reads_alike_in_every_form_that_tencent_may_send() {
    let plain = read_all(json!({})).await;
    let info = plain[0].info.as_ref().unwrap();
    assert_eq!(info.member_num, Some(3));
    assert_eq!((info.mute_all, info.invite_join_option.as_deref()), (Some(true), Some("DisableInvite")));
    assert_eq!(info.custom_fields.as_ref().unwrap()[0].1, "north");
    let members = plain[0].whole_members().unwrap();
    assert_eq!(accounts(members), ["ana", "boris", "chen"]);
    let boris = &members[1];
    assert_eq!((boris.role.as_deref(), boris.name_card.as_deref()), (Some("Admin"), Some("B")));
    assert_eq!(boris.mute_until_secs, Some(4_294_967_295));
    assert_eq!(boris.custom_fields.as_ref().unwrap()[0].1, "3");
    let room = plain[1].info.as_ref().unwrap();
    assert_eq!((room.member_num, room.members.as_ref(), room.info_sequence), (None, None, None));
    for knobs in [
        json!({ "spelling": "old" }),
        json!({ "error_info": false, "extra_keys": true }),
        json!({ "role_blank": true, "shuffled": true }),
    ] {
        let mut read = read_all(knobs.clone()).await;
        // Times differ from run to run.
        for (read, plain) in read.iter_mut().zip(&plain) {
            let (info, wanted) = (read.info.as_mut().unwrap(), plain.info.as_ref().unwrap());
            (info.create_secs, info.last_info_secs) = (wanted.create_secs, wanted.last_info_secs);
            let rows = info.members.iter_mut().flatten().zip(wanted.members.iter().flatten());
            rows.for_each(|(row, wanted)| row.join_secs = wanted.join_secs);
        }
        assert_eq!(read, plain, "{knobs}");
    }
    let with_sequence = read_all(json!({ "info_seq": true })).await;
    assert_eq!(with_sequence[0].info.as_ref().unwrap().info_sequence, Some(2));
}

#[tokio::test]
async fn a_packed_list_that_is_cut_is_not_taken_for_a_whole_one() {
    let fake = fake(&json!({ "packed_members_max": 2 }), None, 1).await;
    group(&fake, "Public", "g", &["boris", "chen"]).await;
    let elements = packed(&client(&fake), &["g"]).await;
    assert_eq!(elements[0].info.as_ref().unwrap().members.as_ref().unwrap().len(), 2);
    assert_eq!(elements[0].whole_members(), None);
}

#[tokio::test]
async fn offset_pages_follow_the_list_as_it_is_and_a_large_limit_has_three_fates() {
    let fake = fake(&json!({ "rate_factor": 10_000 }), None, 1).await;
    let members: Vec<String> = (0..100).map(|number| format!("u{number:03}")).collect();
    let members: Vec<&str> = members.iter().map(String::as_str).collect();
    group(&fake, "Public", "g", &members).await;
    for hundred in [100, 200] {
        let more: Value = (hundred..hundred + 100)
            .map(|number| json!({ "Member_Account": format!("u{number:03}") }))
            .collect();
        done(&fake, GROUPS, "add_group_member", json!({ "GroupId": "g", "MemberList": more })).await;
    }
    let client = client(&fake);
    let whole = page(&client, "g", 0, 6000).await.unwrap();
    assert!(whole.is_whole() && whole.members.len() == 301);
    fake.set_knobs(&json!({ "large_limit": "cut" })).unwrap();
    let cut = page(&client, "g", 0, 6000).await.unwrap();
    assert!(!cut.is_whole() && cut.members.len() == 200 && cut.member_num == Some(301));
    fake.set_knobs(&json!({ "large_limit": "refused" })).unwrap();
    let refused = page(&client, "g", 0, 6000).await.unwrap_err();
    assert_eq!(refused.class(), Some(CodeClass::Bug));
    let first = page(&client, "g", 0, 100).await.unwrap();
    assert_eq!(accounts(&first.members)[..2], ["ana", "u000"]);
    // One leaves before the window and hides one who stayed.
    done(&fake, GROUPS, "delete_group_member", json!({ "GroupId": "g", "MemberToDel_Account": ["u000"] }))
        .await;
    let second = page(&client, "g", 100, 100).await.unwrap();
    assert_eq!(accounts(&second.members)[0], "u100", "u099 was on neither page");
    // Who joins again is a new member at the end, with a new time.
    done(&fake, "sdk", "user_joins", json!({ "GroupId": "g", "Member_Account": "u000" })).await;
    let last = page(&client, "g", 300, 100).await.unwrap();
    assert_eq!(accounts(&last.members), ["u000"]);
    fake.set_knobs(&json!({ "list_order": "account" })).unwrap();
    assert_eq!(accounts(&page(&client, "g", 1, 1).await.unwrap().members), ["u000"]);
}

#[tokio::test]
async fn a_community_is_read_by_cursor_and_pages_may_repeat_members() {
    let fake = fake(&json!({ "rate_factor": 10_000, "cursor_repeats": 3 }), None, 1).await;
    let community = "@TGS#_c1";
    group(&fake, "Community", community, &[]).await;
    for hundred in [0, 100, 200] {
        let more: Value = (hundred..hundred + 100)
            .map(|number| json!({ "Member_Account": format!("u{number}") }))
            .collect();
        done(&fake, GROUPS, "add_group_member", json!({ "GroupId": community, "MemberList": more })).await;
    }
    let client = client(&fake);
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let begin = PageBegin::Cursor(cursor);
        let page = client.members(&id(community), &begin, 100, &[], &stop()).await.unwrap().answer;
        assert!(page.member_num == Some(301) && page.members.len() <= 100, "never more than the limit");
        seen.extend(page.members.iter().map(|member| member.user.as_str().to_owned()));
        cursor = page.next.unwrap();
        if cursor.is_empty() {
            break;
        }
    }
    let distinct: BTreeSet<&String> = seen.iter().collect();
    assert_eq!(distinct.len(), 301);
    assert!(seen.len() > 301, "some came twice");
}

#[tokio::test]
async fn smaller_reads_say_who_is_a_member_and_who_is_muted() {
    let fake = fake(&json!({ "rate_factor": 10_000 }), None, 1).await;
    group(&fake, "Public", "g", &["boris"]).await;
    group(&fake, "AVChatRoom", "room", &[]).await;
    let mute = json!({ "GroupId": "g", "Members_Account": ["boris"], "MuteTime": 4_294_967_295_u64 });
    done(&fake, GROUPS, "forbid_send_msg", mute).await;
    done(&fake, GROUPS, "delete_group_member", json!({ "GroupId": "g", "MemberToDel_Account": ["boris"] }))
        .await;
    let client = client(&fake);
    let roles = client.roles(&id("g"), &[user("ana"), user("boris")], &stop()).await.unwrap().answer;
    assert_eq!((roles.users[0].role.as_deref(), roles.users[1].is_member), (Some("Owner"), false));
    for spelling in ["new", "old"] {
        fake.set_knobs(&json!({ "spelling": spelling })).unwrap();
        let muted = client.muted(&id("g"), &stop()).await.unwrap().answer;
        assert_eq!(muted.users, [(user("boris"), 4_294_967_295)], "a mute outlives leaving");
    }
    let given = client.specified_members(&id("g"), &[user("ana"), user("boris")], &[], &stop()).await;
    assert_eq!(accounts(&given.unwrap().answer.members), ["ana"]);
    let joined = client.joined_groups(&user("ana"), 0, 100, &stop()).await.unwrap().answer;
    assert_eq!((joined.total, joined.groups[0].group.as_str()), (Some(1), "g"));
    let room = page(&client, "room", 0, 100).await.unwrap_err();
    assert_eq!(room.class(), Some(CodeClass::Unsupported));
    let roles = client.roles(&id("room"), &[user("ana")], &stop()).await.unwrap_err();
    assert_eq!(roles.class(), Some(CodeClass::Unsupported));
    let gone = page(&client, "nowhere", 0, 100).await.unwrap_err();
    assert_eq!(gone.class(), Some(CodeClass::Gone));
}

#[tokio::test]
async fn attributes_and_topics_are_read_in_every_form_of_nothing() {
    let fake = fake(&json!({ "rate_factor": 10_000 }), None, 1).await;
    let community = "@TGS#_c1";
    group(&fake, "Community", community, &[]).await;
    let client = client(&fake);
    for form in ["list", "null", "absent"] {
        fake.set_knobs(&json!({ "no_attributes": form, "no_topics": form })).unwrap();
        assert_eq!(client.attributes(&id(community), &stop()).await.unwrap().answer.attributes, []);
        let topics = client.topics(&id(community), &user("ana"), &[], &stop()).await;
        assert_eq!(topics.is_ok(), form == "list", "what is not understood is not nothing");
    }
    let pairs = json!([{ "key": "seat", "value": "" }, { "key": "round", "value": "3" }]);
    done(&fake, GROUPS, "set_group_attr", json!({ "GroupId": community, "GroupAttr": pairs })).await;
    let attributes = client.attributes(&id(community), &stop()).await.unwrap().answer.attributes;
    assert_eq!(attributes.len(), 2);
    let created = json!({ "GroupId": community, "TopicName": "Pier", "CustomString": "blue" });
    let topic = done(&fake, TOPICS, "create_topic", created).await["TopicId"].as_str().unwrap().to_owned();
    let gone = group_mirror::model::TopicId::parse(&format!("{community}@TOPIC#_gone")).unwrap();
    let known = group_mirror::model::TopicId::parse(&topic).unwrap();
    let asked = [known, gone];
    let topics = client.topics(&id(community), &user("ana"), &asked, &stop()).await.unwrap().answer.topics;
    let pier = topics[0].info.as_ref().unwrap();
    assert_eq!((pier.name.as_deref(), pier.custom_string.as_deref()), (Some("Pier"), Some("blue")));
    assert_eq!(topics[1].info.as_ref().unwrap_err().code, 110_003);
    fake.set_knobs(&json!({ "topics_for_members_only": true })).unwrap();
    let stranger = client.topics(&id(community), &user("zoe"), &[], &stop()).await.unwrap_err();
    assert_eq!(stranger.class(), Some(CodeClass::Unsupported));
}

#[tokio::test]
async fn a_read_may_show_the_past_and_the_door_shows_any_moment_of_it() {
    let fake = fake(&json!({ "rate_factor": 10_000, "keep_history": true }), None, 1).await;
    group(&fake, "Public", "g", &[]).await;
    for name in ["second", "third"] {
        done(&fake, GROUPS, "modify_group_base_info", json!({ "GroupId": "g", "Name": name })).await;
    }
    done(&fake, GROUPS, "destroy_group", json!({ "GroupId": "g" })).await;
    let log = fake.log();
    let times: Vec<i64> =
        log.as_array().unwrap().iter().map(|change| change["at"].as_i64().unwrap()).collect();
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]) && times.len() == 4, "{log}");
    let name_at = |at: i64| fake.state(Some(at))["g"]["texts"]["Name"].clone();
    assert_eq!(name_at(times[0] - 1), Value::Null);
    assert_eq!(name_at(times[0]), "River walkers");
    assert_eq!((name_at(times[1]), name_at(times[2])), (json!("second"), json!("third")));
    assert_eq!(name_at(times[3]), Value::Null);
    assert_eq!(fake.state(None)["g"], Value::Null);
    // A read that is up to an hour late shows any of these states.
    fake.set_knobs(&json!({ "lag_ms": 3_600_000 })).unwrap();
    let client = client(&fake);
    let mut seen = BTreeSet::new();
    for _ in 0..50 {
        let info = packed(&client, &["g"]).await.remove(0).info;
        seen.insert(info.map_or_else(|code| code.code.to_string(), |info| info.name.unwrap()));
    }
    assert!(seen.contains("10010"), "before its creation, or after its end: {seen:?}");
}

#[tokio::test]
async fn existing_groups_are_there_and_no_callback_was_sent_for_them() {
    let existing = ExistingGroups { groups: 500, members: 7 };
    let fake = fake_with(&json!({ "rate_factor": 10_000 }), None, 1, existing).await;
    let client = client(&fake);
    let ids = client.group_ids(0, 10_000, None, &stop()).await.unwrap().answer.groups;
    assert_eq!((ids.len(), &fake.callbacks()["made"]), (500, &json!(0)));
    let plain: Vec<&str> =
        ids.iter().map(GroupId::as_str).filter(|group| !group.starts_with("@TGS#_")).take(50).collect();
    let mut whole = 0;
    for element in packed(&client, &plain).await {
        let info = element.info.as_ref().unwrap();
        assert_eq!(info.create_secs, Some(1_704_067_200));
        match info.group_type.as_deref() {
            Some("AVChatRoom") => assert_eq!(info.member_num, None),
            _ => {
                assert_eq!(element.whole_members().unwrap().len(), 7);
                whole += 1;
            }
        }
    }
    assert!(whole > 20, "{whole}");
}
