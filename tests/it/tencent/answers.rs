//! Answers of Tencent's REST API: bodies as its pages and captures show them, and bodies with faults.

use group_mirror::model::GroupId;
use group_mirror::tencent::answers::{AnswerError, ApiCode};
use group_mirror::tencent::details::{AttributesAnswer, TopicsAnswer};
use group_mirror::tencent::groups::{GroupElement, GroupIdPage, GroupInfo, GroupInfos, JoinedGroups};
use group_mirror::tencent::members::{ListedMember, MemberPage, MutedAnswer, RolesAnswer};

/// An answer out of `tests/it/data/rest`.
fn answer(name: &str) -> Vec<u8> {
    let root = env!("CARGO_MANIFEST_DIR");
    std::fs::read(format!("{root}/tests/it/data/rest/{name}.response.json")).unwrap()
}

fn ids(page: &GroupIdPage) -> Vec<&str> {
    page.groups.iter().map(GroupId::as_str).collect()
}

fn users(members: &[ListedMember]) -> Vec<&str> {
    members.iter().map(|member| member.user.as_str()).collect()
}

fn infos(name: &str) -> Vec<GroupElement> {
    let infos = GroupInfos::read(&answer(name)).unwrap();
    assert!(infos.unread.is_empty(), "{name}: {infos:?}");
    infos.elements
}

fn info(element: &GroupElement) -> &GroupInfo {
    let info = element.info.as_ref().unwrap();
    assert!(info.unread.is_empty(), "{info:?}");
    info
}

#[test]
fn pages_of_ids_are_followed_by_a_next_of_64_bits_until_0_or_none() {
    let page = |name: &str| GroupIdPage::read(&answer(&format!("get_appid_group_list.{name}"))).unwrap();
    assert_eq!(ids(&page("first")), ["@TGS#2RIVERB7QK", "@TGS#1TEAMX4WQ8"]);
    assert_eq!(page("first").next, 9_223_372_036_854_775_809, "above 2^63");
    assert_eq!(page("middle").next, 4_454_685_361, "above 2^32");
    assert_eq!((page("last").next, page("no-next").next), (0, 0));
    assert_eq!((page("empty").groups.len(), page("empty").total), (0, Some(0)));
    assert_eq!(page("first").total, Some(5));
}

#[test]
fn a_next_that_cannot_be_read_is_no_end_of_the_list() {
    let page = |next: &str| {
        let body =
            format!(r#"{{"ActionStatus":"OK","ErrorCode":0,"GroupIdList":[],"Next":{next},"TotalCount":0}}"#);
        GroupIdPage::read(body.as_bytes()).map(|page| page.next)
    };
    assert_eq!(page("\"18446744073709551615\""), Ok(u64::MAX));
    for next in ["-1", "18446744073709551616", "1e3", "\"x\"", "[]"] {
        assert_eq!(page(next), Err(AnswerError::Missing("Next")), "{next}");
    }
}

#[test]
fn a_profile_is_read_with_all_its_fields() {
    let elements = infos("get_group_info.profile");
    assert_eq!(elements.len(), 2);
    let river = info(&elements[0]);
    assert_eq!(elements[0].group.as_str(), "@TGS#2RIVERB7QK");
    assert_eq!((river.group_type.as_deref(), river.name.as_deref()), (Some("Public"), Some("River walkers")));
    assert_eq!(river.owner.as_ref().unwrap().as_ref().unwrap().as_str(), "ana_77");
    assert_eq!((river.member_num, river.next_message), (Some(3), Some(42)));
    let fields = river.custom_fields.as_ref().unwrap();
    assert!(fields.iter().any(|(key, value)| key.as_str() == "region" && value == "north"), "{fields:?}");
    let hall = info(&elements[1]);
    assert_eq!((hall.mute_all, hall.invite_join_option.as_deref()), (Some(true), Some("DisableInvite")));
    assert_eq!((hall.members.as_ref(), hall.info_sequence), (None, None));
    assert_eq!((hall.create_secs, hall.last_message_secs), (Some(1_767_139_200), Some(0)));
}

#[test]
fn a_packed_list_is_whole_only_where_its_length_is_the_number_of_members() {
    let packed = infos("get_group_info.packed");
    assert_eq!(users(packed[0].whole_members().unwrap()), ["boris-2", "dora9"]);
    assert_eq!(info(&packed[0]).owner, Some(None), "a Work group without owner");
    let forum = packed[1].whole_members().unwrap();
    assert_eq!(
        forum.iter().map(|member| member.role.as_deref().unwrap()).collect::<Vec<_>>(),
        ["Owner", "Admin", "Member"]
    );
    assert_eq!(forum[2].mute_until_secs, Some(1_767_229_200));
    let short = infos("get_group_info.member-list-short");
    assert_eq!((info(&short[0]).members.as_ref().unwrap().len(), short[0].whole_members()), (2, None));
}

#[test]
fn a_list_is_no_whole_one_with_an_unreadable_row_a_repeated_one_or_in_a_community() {
    let element = |group: &str, rows: &str, num: u32| {
        let body = format!(
            r#"{{"ActionStatus":"OK","ErrorCode":0,"GroupInfo":[{{"ErrorCode":0,"GroupId":"{group}",
                "MemberList":[{rows}],"MemberNum":{num}}}]}}"#
        );
        GroupInfos::read(body.as_bytes()).unwrap().elements.remove(0)
    };
    let (a, b) = (r#"{"Member_Account":"a"}"#, r#"{"Member_Account":"b"}"#);
    assert!(element("g", &format!("{a},{b}"), 2).whole_members().is_some());
    assert!(element("@TGS#_g", &format!("{a},{b}"), 2).whole_members().is_none());
    assert!(element("g", &format!("{a},{a}"), 2).whole_members().is_none());
    let broken = element("g", &format!("{a},{{\"Member_Account\":7}}"), 1);
    assert!(broken.whole_members().is_none());
    let info = broken.info.unwrap();
    assert_eq!((info.members.unwrap().len(), info.unread.count), (1, 1));
    assert_eq!((info.unread.named[0].field, info.unread.named[0].why), ("Member_Account", "is no text"));
}

#[test]
fn each_group_has_a_code_of_its_own() {
    let elements = infos("get_group_info.some-gone");
    let codes: Vec<i64> =
        elements.iter().map(|element| element.info.as_ref().err().map_or(0, |code| code.code)).collect();
    assert_eq!(codes, [0, 10010, 10015]);
    assert_eq!(elements[2].group.as_str(), "not a group id é");
}

#[test]
fn old_names_and_fields_that_only_some_types_have_are_read() {
    let old = infos("get_group_info.old-names-no-error-info");
    assert_eq!(info(&old[0]).mute_all, Some(false));
    assert_eq!(old[0].whole_members().unwrap()[0].mute_until_secs, Some(0));
    let live = infos("get_group_info.avchatroom");
    assert_eq!((info(&live[0]).member_num, info(&live[0]).members.as_ref()), (None, None));
    let harbour = infos("get_group_info.community");
    assert_eq!((info(&harbour[0]).supports_topics, info(&harbour[0]).member_num), (Some(true), Some(40_312)));
    let binary = infos("get_group_info.binary-custom-field");
    let mark = &info(&binary[0]).custom_fields.as_ref().unwrap()[1].1;
    assert_eq!(mark, "ab\u{fffd}\u{1}", "U+0000 is what PostgreSQL cannot hold");
}

#[test]
fn pages_of_members_are_read_and_a_role_is_trimmed() {
    let page = |name: &str| MemberPage::read(&answer(&format!("get_group_member_info.{name}"))).unwrap();
    let full = page("full");
    assert_eq!(full.members[1].role.as_deref(), Some("Member"), "the sample has a blank at its end");
    assert_eq!(full.members[1].mute_until_secs, Some(4_294_967_295));
    assert_eq!(full.members[0].custom_fields.as_ref().unwrap().len(), 2);
    assert!(full.is_whole() && page("whole").is_whole() && page("old-names").is_whole());
    assert!(!page("page-1").is_whole() && !page("role-filter").is_whole());
    assert_eq!(page("page-1").members.last(), page("page-2-anchored").members.first());
    let community = page("community-first");
    assert_eq!(community.next.as_deref(), Some("144115265295492787"));
    assert_eq!(page("community-last").next.as_deref(), Some(""));
    assert!(!page("community-last").is_whole(), "a page by cursor is no list");
    assert_eq!(
        users(&MemberPage::read(&answer("get_specified_group_member_info")).unwrap().members).len(),
        2
    );
}

#[test]
fn roles_mutes_and_groups_of_a_user_are_read() {
    let roles = RolesAnswer::read(&answer("get_role_in_group")).unwrap();
    assert_eq!(roles.users.iter().filter(|user| user.is_member).count(), 3);
    assert_eq!((roles.users[3].is_member, roles.users[3].role.as_deref()), (false, None));
    for name in ["get_group_muted_account", "get_group_muted_account.old-names"] {
        let muted = MutedAnswer::read(&answer(name)).unwrap();
        assert_eq!((muted.users[0].0.as_str(), muted.users[0].1), ("guest_12", 1_767_229_200), "{name}");
    }
    let joined = JoinedGroups::read(&answer("get_joined_group_list")).unwrap();
    assert_eq!((joined.total, joined.groups.len()), (Some(2), 2));
    assert_eq!(joined.groups[0].role.as_deref(), Some("Owner"));
    assert_eq!(joined.groups[1].info.group_type.as_deref(), Some("ChatRoom"));
    assert_eq!(JoinedGroups::read(&answer("get_joined_group_list.topics")).unwrap().groups.len(), 1);
}

#[test]
fn no_attributes_have_three_forms_and_topics_have_codes_of_their_own() {
    let attributes = AttributesAnswer::read(&answer("get_group_attr")).unwrap();
    assert_eq!(attributes.attributes[0].0.as_str(), "phase");
    for body in [
        answer("get_group_attr.empty"),
        answer("get_group_attr.empty-without-key"),
        br#"{"ActionStatus":"OK","ErrorCode":0,"GroupAttrAry":null}"#.to_vec(),
    ] {
        let empty = AttributesAnswer::read(&body).unwrap();
        assert!(empty.attributes.is_empty() && empty.unread.is_empty());
    }
    let no_list = AttributesAnswer::read(br#"{"ActionStatus":"OK","ErrorCode":0,"GroupAttrAry":"x"}"#);
    assert_eq!(no_list, Err(AnswerError::Missing("GroupAttrAry")));
    let topics = TopicsAnswer::read(&answer("get_topic")).unwrap().topics;
    let quay = topics[1].info.as_ref().unwrap();
    assert_eq!((quay.name.as_deref(), quay.custom_string.as_deref()), (Some("Quay"), Some("colour=blue")));
    assert_eq!(quay.group.as_ref().unwrap().as_str(), "@TGS#_@TGS#cHARBOR62QX");
    let gone = TopicsAnswer::read(&answer("get_topic.one-gone")).unwrap().topics;
    assert_eq!(gone[1].info.as_ref().unwrap_err().code, 110_003);
}

#[test]
fn a_failure_is_a_code_and_an_answer_without_its_list_is_no_empty_one() {
    for (name, code) in [
        ("error.group-gone", 10010),
        ("error.rate-command", 60007),
        ("error.usersig-expired", 70001),
        ("error.with-display", 10004),
        ("get_group_member_info.too-large", 10018),
        ("get_appid_group_list.over-rate", 10006),
        ("get_topic.not-enabled", 11000),
    ] {
        let read = GroupInfos::read(&answer(name));
        assert!(matches!(read, Err(AnswerError::Code(ApiCode { code: it, .. })) if it == code), "{name}");
    }
    let plain = answer("plain-ok");
    assert_eq!(GroupIdPage::read(&plain), Err(AnswerError::Missing("GroupIdList")));
    assert_eq!(GroupInfos::read(&plain), Err(AnswerError::Missing("GroupInfo")));
    assert_eq!(MemberPage::read(&plain), Err(AnswerError::Missing("MemberList")));
    assert_eq!(TopicsAnswer::read(&plain), Err(AnswerError::Missing("TopicAndSelfInfo")));
    assert_eq!(RolesAnswer::read(&plain), Err(AnswerError::Missing("UserIdList")));
    for body in
        ["{}", r#"{"ErrorCode":0}"#, r#"{"ActionStatus":"OK"}"#, r#"{"ActionStatus":"OK","ErrorCode":null}"#]
    {
        assert!(matches!(GroupInfos::read(body.as_bytes()), Err(AnswerError::Missing(_))), "{body}");
    }
    let status = GroupInfos::read(br#"{"ActionStatus":"FAIL","ErrorCode":0,"GroupInfo":[]}"#);
    assert!(matches!(status, Err(AnswerError::Code(_))), "{status:?}");
    assert!(matches!(GroupInfos::read(b"<html>502</html>"), Err(AnswerError::NotJson { at: 0, .. })));
    assert!(matches!(GroupInfos::read(b"[]"), Err(AnswerError::NotJson { .. })));
}

#[test]
fn one_ill_formed_text_costs_itself_and_one_ill_formed_id_its_element() {
    let body = b"{\"ActionStatus\":\"OK\",\"ErrorCode\":0,\"GroupInfo\":[\
        {\"ErrorCode\":0,\"GroupId\":\"a\",\"Name\":\"cut \xe5\x95\",\"MemberNum\":\"7\",\"CreateTime\":[]},\
        {\"ErrorCode\":0,\"GroupId\":\"\xff\"},{\"GroupId\":\"no code\"},7,\
        {\"ErrorCode\":0,\"GroupId\":\"b\",\"Introduction\":\"half \\ud83d\"}]}";
    let infos = GroupInfos::read(body).unwrap();
    assert_eq!(infos.elements.iter().map(|element| element.group.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(infos.unread.count, 3);
    let whys: Vec<_> = infos.unread.named.iter().map(|unread| (unread.field, unread.why)).collect();
    assert_eq!(
        whys,
        [("GroupId", "is not valid Unicode"), ("ErrorCode", "is missing"), ("GroupInfo", "is no object")]
    );
    let a = infos.elements[0].info.as_ref().unwrap();
    assert_eq!((a.name.as_deref(), a.member_num, a.create_secs), (Some("cut \u{fffd}"), Some(7), None));
    assert_eq!((a.unread.count, a.unread.named[0].field), (1, "CreateTime"));
    let b = infos.elements[1].info.as_ref().unwrap();
    assert_eq!(b.introduction.as_deref(), Some("half \u{fffd}"));
}

#[test]
fn unreadable_parts_are_counted_and_only_the_first_are_named() {
    let rows = vec!["7"; 1000].join(",");
    let body = format!(r#"{{"ActionStatus":"OK","ErrorCode":0,"MemberList":[{rows}],"MemberNum":1000}}"#);
    let page = MemberPage::read(body.as_bytes()).unwrap();
    assert_eq!((page.unread.count, page.unread.named.len(), page.members.len()), (1000, 8, 0));
}

/// A text of Tencent may repeat what was sent to it.
#[test]
fn a_word_of_an_error_that_may_be_a_signature_is_left_out() {
    let sig = "eJ".repeat(40);
    let body = format!(
        r#"{{"ActionStatus":"FAIL","ErrorCode":70003,"ErrorInfo":"bad usersig={sig} of\n administrator {}"}}"#,
        "word ".repeat(100)
    );
    let Err(AnswerError::Code(code)) = GroupInfos::read(body.as_bytes()) else { panic!("a code") };
    assert!(code.info.starts_with("bad … of administrator word"), "{}", code.info);
    assert_eq!(code.info.chars().count(), 200);
}

/// Every sample of a command that the client has: a success is read without anything unreadable, a failure is a code.
#[test]
fn every_sample_is_read_in_full() {
    let unread = |name: &str, bytes: &[u8]| -> Result<usize, AnswerError> {
        let command = name.split('.').next().unwrap();
        Ok(match command {
            "get_appid_group_list" => GroupIdPage::read(bytes)?.unread.count,
            "get_group_info" => {
                let infos = GroupInfos::read(bytes)?;
                let inside = infos.elements.iter().filter_map(|element| element.info.as_ref().ok());
                infos.unread.count + inside.map(|info| info.unread.count).sum::<usize>()
            }
            "get_group_member_info" | "get_specified_group_member_info" => {
                let page = MemberPage::read(bytes)?;
                page.unread.count + page.members.iter().map(|member| member.unread.count).sum::<usize>()
            }
            "get_role_in_group" => RolesAnswer::read(bytes)?.unread.count,
            "get_group_muted_account" => MutedAnswer::read(bytes)?.unread.count,
            "get_joined_group_list" => JoinedGroups::read(bytes)?.unread.count,
            "get_group_attr" => AttributesAnswer::read(bytes)?.unread.count,
            "get_topic" => TopicsAnswer::read(bytes)?.unread.count,
            _ => return Ok(usize::MAX),
        })
    };
    let (mut read, mut failed) = (0, 0);
    for entry in std::fs::read_dir(format!("{}/tests/it/data/rest", env!("CARGO_MANIFEST_DIR"))).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some(name) = name.strip_suffix(".response.json") else { continue };
        match unread(name, &answer(name)) {
            Ok(usize::MAX) => {}
            Ok(count) => {
                assert_eq!(count, 0, "{name}");
                read += 1;
            }
            Err(AnswerError::Code(_)) => failed += 1,
            Err(error) => panic!("{name}: {error}"),
        }
    }
    assert!(read >= 28 && failed >= 4, "{read} read, {failed} failed");
}
