//! What the fake does to its state: markers, times of joining, roles, owners, types, and its clock.

use group_mirror::fake::Fake;
use serde_json::{Value, json};

use super::fake::{GROUPS, TOPICS, done, fake, group};

/// 2026-01-01, in Unix milliseconds.
const NOW_MS: i64 = 1_767_225_600_000;

fn state(fake: &Fake, id: &str) -> Value {
    fake.state(None)[id].clone()
}

fn add(id: &str, user: &str, silence: u8) -> Value {
    json!({ "GroupId": id, "MemberList": [{ "Member_Account": user }], "Silence": silence })
}

#[tokio::test]
async fn the_clock_stands_still_and_moves_as_it_is_set_and_no_two_changes_share_a_time() {
    let fake = fake(&json!({}), None, 1).await;
    fake.freeze(Some(NOW_MS));
    group(&fake, "Public", "a", &[]).await;
    group(&fake, "Public", "b", &[]).await;
    fake.step(60_000);
    group(&fake, "Public", "c", &[]).await;
    fake.freeze(Some(NOW_MS));
    group(&fake, "Public", "d", &[]).await;
    let log = fake.log();
    let times: Vec<i64> =
        log.as_array().unwrap().iter().map(|change| change["at"].as_i64().unwrap()).collect();
    assert_eq!(times, [NOW_MS, NOW_MS + 1, NOW_MS + 60_000, NOW_MS + 60_001], "never back");
    fake.freeze(None);
    let now = group_mirror::clock::now().get();
    group(&fake, "Public", "e", &[]).await;
    assert!(fake.log()[4]["at"].as_i64().unwrap() >= now);
}

#[tokio::test]
async fn notices_are_stored_by_type_and_not_for_silent_changes_and_imports() {
    let fake = fake(&json!({}), None, 1).await;
    let next = |id: &str| state(&fake, id)["next_message"].as_u64().unwrap();
    for (group_type, counted) in [("Work", 1), ("Public", 1), ("Meeting", 0)] {
        group(&fake, group_type, group_type, &[]).await;
        assert_eq!(next(group_type), 1, "{group_type} is new");
        done(&fake, GROUPS, "add_group_member", add(group_type, "boris", 0)).await;
        assert_eq!(next(group_type), 1 + counted, "{group_type}: a join");
        done(&fake, GROUPS, "add_group_member", add(group_type, "chen", 1)).await;
        let import = json!({ "GroupId": group_type, "MemberList": [{ "Member_Account": "dora" }] });
        done(&fake, GROUPS, "import_group_member", import).await;
        assert_eq!(next(group_type), 1 + counted, "{group_type}: silent ones");
        let name = json!({ "GroupId": group_type, "Name": "Other" });
        done(&fake, GROUPS, "modify_group_base_info", name.clone()).await;
        done(&fake, GROUPS, "modify_group_base_info", name).await;
        assert_eq!(next(group_type), 2 + counted, "{group_type}: a name that changes, once");
    }
    fake.set_knobs(&json!({ "notices": false })).unwrap();
    done(&fake, GROUPS, "add_group_member", add("Public", "emil", 0)).await;
    assert_eq!(next("Public"), 3);
}

#[tokio::test]
async fn an_imported_member_joined_between_the_creation_of_the_group_and_now() {
    let fake = fake(&json!({}), None, 1).await;
    fake.freeze(Some(NOW_MS));
    let created = NOW_MS / 1000 - 1000;
    let import = json!({ "Type": "Public", "GroupId": "g", "Name": "G", "CreateTime": created });
    done(&fake, GROUPS, "import_group", import).await;
    let rows: Vec<Value> = [(created, "early"), (created + 1, "right"), (NOW_MS / 1000, "late")]
        .map(|(join, user)| json!({ "Member_Account": user, "JoinTime": join, "Role": "Admin" }))
        .into();
    let body = json!({ "GroupId": "g", "MemberList": rows });
    let answer = done(&fake, GROUPS, "import_group_member", body.clone()).await;
    let results: Vec<&Value> =
        answer["MemberList"].as_array().unwrap().iter().map(|row| &row["Result"]).collect();
    assert_eq!(results, [0, 1, 0]);
    assert_eq!(done(&fake, GROUPS, "import_group_member", body).await["MemberList"][1]["Result"], 2);
    let right = &state(&fake, "g")["members"]["right"];
    assert_eq!((&right["join_time"], &right["role"]), (&json!(created + 1), &json!("Admin")));
}

#[tokio::test]
async fn a_mute_outlives_leaving_and_joining_again_begins_anew() {
    let fake = fake(&json!({}), None, 1).await;
    fake.freeze(Some(NOW_MS));
    group(&fake, "Public", "g", &["boris"]).await;
    let change = json!({ "GroupId": "g", "Member_Account": "boris", "Role": "Admin", "NameCard": "B",
                         "MuteTime": 600 });
    done(&fake, GROUPS, "modify_group_member_info", change).await;
    done(&fake, "sdk", "user_quits", json!({ "GroupId": "g", "Member_Account": "boris" })).await;
    fake.step(5_000);
    done(&fake, "sdk", "user_joins", json!({ "GroupId": "g", "Member_Account": "boris" })).await;
    let boris = &state(&fake, "g")["members"]["boris"];
    let now = NOW_MS / 1000;
    assert_eq!(
        boris,
        &json!({ "role": "Member", "join_time": now + 5, "name_card": "", "mute_until": now + 600,
                               "fields": {} })
    );
}

#[tokio::test]
async fn owners_change_and_only_that_of_a_work_group_can_leave() {
    let fake = fake(&json!({}), None, 1).await;
    group(&fake, "Public", "p", &["boris"]).await;
    group(&fake, "Work", "w", &["boris"]).await;
    let quit = |id: &str| json!({ "GroupId": id, "Member_Account": "ana" });
    assert_eq!(fake.command("sdk", "user_quits", &quit("p")).await["ErrorCode"], 10009);
    done(&fake, "sdk", "user_quits", quit("w")).await;
    assert_eq!(state(&fake, "w")["owner"], "");
    let to = |user: &str| json!({ "GroupId": "p", "NewOwner_Account": user });
    assert_eq!(fake.command(GROUPS, "change_group_owner", &to("zoe")).await["ErrorCode"], 10004);
    done(&fake, GROUPS, "change_group_owner", to("boris")).await;
    let members = &state(&fake, "p")["members"];
    assert_eq!((&members["ana"]["role"], &members["boris"]["role"]), (&json!("Member"), &json!("Owner")));
}

#[tokio::test]
async fn what_a_type_does_not_have_is_refused() {
    let fake = fake(&json!({}), None, 1).await;
    for (group_type, id) in [("AVChatRoom", "room"), ("Work", "w"), ("Community", "@TGS#_c")] {
        group(&fake, group_type, id, &[]).await;
    }
    assert_eq!(state(&fake, "room")["members"], json!({}), "the owner of a room is no member");
    let import = json!({ "Type": "AVChatRoom", "Name": "x" });
    let role = json!({ "GroupId": "w", "Member_Account": "ana", "Role": "Admin" });
    let mute = json!({ "GroupId": "w", "Members_Account": ["ana"], "MuteTime": 1 });
    let plain_id = json!({ "Type": "Community", "Name": "x", "GroupId": "plain" });
    let given_id = json!({ "Type": "Public", "Name": "x", "GroupId": "@TGS#2mine" });
    for (service, command, body, code) in [
        (GROUPS, "import_group", import, 10007),
        (GROUPS, "add_group_member", add("room", "boris", 0), 10007),
        (GROUPS, "delete_group_member", json!({ "GroupId": "room", "MemberToDel_Account": ["x"] }), 10004),
        (GROUPS, "change_group_owner", json!({ "GroupId": "room", "NewOwner_Account": "x" }), 10007),
        (GROUPS, "modify_group_member_info", role, 10007),
        (GROUPS, "forbid_send_msg", mute, 10007),
        (GROUPS, "clear_group_attr", json!({ "GroupId": "@TGS#_c" }), 10007),
        (TOPICS, "create_topic", json!({ "GroupId": "w", "TopicName": "x" }), 10007),
        ("sdk", "user_joins", json!({ "GroupId": "w", "Member_Account": "boris" }), 10007),
        (GROUPS, "create_group", plain_id, 10004),
        (GROUPS, "create_group", given_id, 10004),
        (GROUPS, "destroy_group", json!({ "GroupId": "nowhere" }), 10010),
        (GROUPS, "destroy_group", json!({ "GroupId": "no id é" }), 10015),
    ] {
        let answer = fake.command(service, command, &body).await;
        assert_eq!(answer["ErrorCode"], code, "{command} {body}: {answer}");
    }
    assert_eq!(fake.log().as_array().unwrap().len(), 3, "what is refused changes nothing");
}
