//! The callbacks of the fake: which command causes which, their form and signature, what goes wrong with them when a knob
//! says so, and what is asked before an action.

use group_mirror::callback::signature::Token;
use group_mirror::fake::Fake;
use serde_json::{Value, json};

use super::fake::{GROUPS, TOPICS, done, fake, group};
use super::scripted::{Asked, Scripted, ScriptedServer};
use crate::support::{APP, TOKEN};

/// The callbacks that the last change caused, without their common beginning.
fn caused(fake: &Fake) -> Vec<String> {
    let log = fake.log();
    let last = log.as_array().unwrap().last().unwrap();
    let names = last["callbacks"].as_array().unwrap().iter();
    names.map(|name| name.as_str().unwrap().trim_start_matches("Group.Callback").to_owned()).collect()
}

/// A write: service, command, body, and the callbacks that it causes.
type Deed = (&'static str, &'static str, Value, &'static [&'static str]);

const TOPIC: &str = "@TGS#_c@TOPIC#_pier";

fn row(user: &str) -> Value {
    json!([{ "Member_Account": user }])
}

fn groups_and_memberships() -> Vec<Deed> {
    vec![
        (
            GROUPS,
            "create_group",
            json!({ "Type": "Public", "GroupId": "g", "Name": "G", "Owner_Account": "ana",
            "MemberList": row("boris") }),
            &["AfterCreateGroup"],
        ),
        (
            GROUPS,
            "create_group",
            json!({ "Type": "Community", "GroupId": "@TGS#_c", "Name": "C" }),
            &["AfterCreateGroup"],
        ),
        (
            GROUPS,
            "import_group",
            json!({ "Type": "Work", "GroupId": "old", "Name": "O", "CreateTime": 1 }),
            &[],
        ),
        (GROUPS, "import_group_member", json!({ "GroupId": "g", "MemberList": row("chen") }), &[]),
        (
            GROUPS,
            "add_group_member",
            json!({ "GroupId": "g", "MemberList": row("dora"), "Silence": 1 }),
            &["AfterNewMemberJoin"],
        ),
        ("sdk", "user_joins", json!({ "GroupId": "g", "Member_Account": "emil" }), &["AfterNewMemberJoin"]),
        ("sdk", "user_quits", json!({ "GroupId": "g", "Member_Account": "emil" }), &["AfterMemberExit"]),
        (
            GROUPS,
            "delete_group_member",
            json!({ "GroupId": "g", "MemberToDel_Account": ["dora", "zoe"] }),
            &["AfterMemberExit"],
        ),
    ]
}

fn profiles_and_members() -> Vec<Deed> {
    vec![
        (
            GROUPS,
            "modify_group_base_info",
            json!({ "GroupId": "g", "Name": "H", "MuteAllMember": "On" }),
            &["AfterGroupInfoChanged"],
        ),
        (
            GROUPS,
            "modify_group_base_info",
            json!({ "GroupId": "g", "MuteAllMember": "Off",
            "ApplyJoinOption": "DisableApply", "InviteJoinOption": "FreeAccess", "MaxMemberNum": 50,
            "AppDefinedData": [{ "Key": "tier", "Value": "3" }] }),
            &[],
        ),
        (
            GROUPS,
            "modify_group_member_info",
            json!({ "GroupId": "g", "Member_Account": "boris",
            "Role": "Admin" }),
            &["AfterMemberFieldChanged"],
        ),
        (
            GROUPS,
            "modify_group_member_info",
            json!({ "GroupId": "g", "Member_Account": "boris",
            "NameCard": "B" }),
            &["AfterMemberFieldChanged"],
        ),
        (
            GROUPS,
            "modify_group_member_info",
            json!({ "GroupId": "g", "Member_Account": "boris",
            "MuteTime": 60, "MsgFlag": "Discard", "AppMemberDefinedData": [{ "Key": "a", "Value": "b" }] }),
            &[],
        ),
        (
            GROUPS,
            "forbid_send_msg",
            json!({ "GroupId": "g", "Members_Account": ["boris"], "MuteTime": 60 }),
            &[],
        ),
        (
            GROUPS,
            "change_group_owner",
            json!({ "GroupId": "g", "NewOwner_Account": "boris" }),
            &["AfterChangeGroupOwner"],
        ),
    ]
}

fn attributes_topics_and_ends() -> Vec<Deed> {
    vec![
        (
            GROUPS,
            "modify_group_attr",
            json!({ "GroupId": "g", "GroupAttr": [{ "key": "a", "value": "b" }] }),
            &["AfterGroupAttrChanged"],
        ),
        (
            GROUPS,
            "set_group_attr",
            json!({ "GroupId": "g", "GroupAttr": [{ "key": "c", "value": "d" }] }),
            &["AfterGroupAttrChanged"],
        ),
        (
            GROUPS,
            "delete_group_attr",
            json!({ "GroupId": "g", "GroupAttr": [{ "key": "c" }] }),
            &["AfterGroupAttrChanged"],
        ),
        (GROUPS, "clear_group_attr", json!({ "GroupId": "g" }), &["AfterGroupAttrChanged"]),
        (
            TOPICS,
            "create_topic",
            json!({ "GroupId": "@TGS#_c", "TopicName": "Pier", "TopicId": TOPIC }),
            &["AfterCreateTopic"],
        ),
        (
            TOPICS,
            "modify_topic",
            json!({ "GroupId": "@TGS#_c", "TopicId": TOPIC, "TopicName": "Quay" }),
            &["AfterTopicInfoChanged"],
        ),
        (
            TOPICS,
            "modify_topic",
            json!({ "GroupId": "@TGS#_c", "TopicId": TOPIC, "CustomString": "x",
            "MuteAllMember": "On" }),
            &[],
        ),
        (
            TOPICS,
            "destroy_topic",
            json!({ "GroupId": "@TGS#_c", "TopicIdList": [TOPIC] }),
            &["AfterTopicDestroyed"],
        ),
        (TOPICS, "import_topic", json!({ "GroupId": "@TGS#_c", "TopicName": "Old", "TopicId": TOPIC }), &[]),
        ("sdk", "account_ends", json!({ "Member_Account": "chen" }), &[]),
        (GROUPS, "destroy_group", json!({ "GroupId": "g" }), &["AfterGroupDestroyed"]),
    ]
}

/// Every write of the fake, in an order in which all of them succeed.
fn deeds() -> Vec<Deed> {
    [groups_and_memberships(), profiles_and_members(), attributes_topics_and_ends()].concat()
}

#[tokio::test]
async fn each_command_causes_the_callbacks_that_its_page_names_and_no_others() {
    let fake = fake(&json!({}), None, 1).await;
    for (number, (service, command, body, wanted)) in deeds().into_iter().enumerate() {
        done(&fake, service, command, body.clone()).await;
        assert_eq!(fake.log().as_array().unwrap().len(), number + 1, "{command} is one change");
        assert_eq!(caused(&fake), wanted, "{command} {body}");
    }
    let counts = fake.callbacks();
    assert_eq!((&counts["lost"], &counts["answered"]), (&counts["made"], &json!(0)), "{counts}");
}

#[tokio::test]
async fn removing_who_is_no_member_succeeds_without_a_callback() {
    let fake = fake(&json!({}), None, 1).await;
    group(&fake, "Public", "g", &[]).await;
    done(&fake, GROUPS, "delete_group_member", json!({ "GroupId": "g", "MemberToDel_Account": ["zoe"] }))
        .await;
    assert_eq!((fake.log().as_array().unwrap().len(), fake.callbacks()["made"].clone()), (1, json!(1)));
}

#[tokio::test]
async fn a_group_that_gets_full_says_so() {
    let fake = fake(&json!({}), None, 1).await;
    let small = json!({ "Type": "Public", "GroupId": "g", "Name": "G", "MaxMemberCount": 1 });
    done(&fake, GROUPS, "create_group", small).await;
    let add = |user: &str| json!({ "GroupId": "g", "MemberList": [{ "Member_Account": user }] });
    done(&fake, GROUPS, "add_group_member", add("ana")).await;
    assert_eq!(caused(&fake), ["AfterNewMemberJoin", "AfterGroupFull"]);
    assert_eq!(fake.command(GROUPS, "add_group_member", &add("boris")).await["ErrorCode"], 10014);
    assert_eq!(caused(&fake), ["AfterGroupFull"]);
}

async fn receiver(answers: impl IntoIterator<Item = Scripted>) -> ScriptedServer {
    ScriptedServer::start(answers).await
}

fn bodies(server: &ScriptedServer) -> Vec<Value> {
    server.asked().into_iter().map(|asked| asked.body).collect()
}

#[tokio::test]
async fn a_callback_is_signed_and_has_the_form_of_its_page() {
    let server = receiver([]).await;
    let fake =
        fake(&json!({ "community_create_late_ms": 0 }), Some(format!("{}/callback", server.url)), 1).await;
    for (service, command, body, _) in deeds() {
        done(&fake, service, command, body).await;
        fake.delivered().await;
    }
    let asked: Vec<Asked> = server.asked();
    assert_eq!(asked.len(), 18);
    for Asked { path, query, body } in &asked {
        assert_eq!(path, "/callback");
        assert_eq!((&*query["SdkAppid"], &*query["contenttype"]), (APP, "json"));
        assert_eq!(query["Sign"], Token::new(TOKEN.to_owned()).sign(&query["RequestTime"]));
        assert_eq!(body["CallbackCommand"], query["CallbackCommand"]);
        let is_of_topic = query["CallbackCommand"].contains("Topic");
        assert_eq!(body.get("EventTime").is_none(), is_of_topic, "{body}");
        assert_eq!(body["Type"].is_string(), query["CallbackCommand"] != "Group.CallbackAfterGroupFull");
    }
    let of = |name: &str| {
        let command = format!("Group.Callback{name}");
        asked.iter().find(|asked| asked.body["CallbackCommand"] == command).unwrap().body.clone()
    };
    assert_eq!(of("AfterCreateGroup")["MemberList"], json!([{ "Member_Account": "boris" }]));
    assert_eq!(of("AfterNewMemberJoin")["JoinType"], "Invited");
    assert_eq!(of("AfterMemberExit")["Operator_Account"], "emil");
    assert_eq!(of("AfterGroupInfoChanged")["Name"], "H");
    assert_eq!(of("AfterGroupInfoChanged").get("Introduction"), None, "what has not changed is absent");
    assert_eq!(of("AfterTopicInfoChanged").get("TopicId"), None);
    assert_eq!(of("AfterGroupAttrChanged")["OptionType"], "modify");
    let destroyed = of("AfterGroupDestroyed");
    assert_eq!((&destroyed["Owner_Account"], &destroyed["Name"]), (&json!("boris"), &json!("H")));
    let platforms: Vec<&str> = asked.iter().map(|asked| &*asked.query["OptPlatform"]).collect();
    assert!(platforms.contains(&"RESTAPI") && platforms.contains(&"iOS"), "{platforms:?}");
}

#[tokio::test]
async fn switches_losses_repeats_and_retries_are_as_the_knobs_say() {
    let server = receiver([]).await;
    let fake = fake(&json!({}), Some(server.url.clone()), 1).await;
    fake.set_knobs(&json!({ "callbacks_off": ["Group.CallbackAfterCreateGroup"] })).unwrap();
    group(&fake, "Public", "a", &[]).await;
    fake.set_knobs(&json!({ "callbacks_off": [], "lost": 1.0 })).unwrap();
    group(&fake, "Public", "b", &[]).await;
    fake.delivered().await;
    assert_eq!((bodies(&server).len(), &fake.callbacks()["lost"]), (0, &json!(1)));
    fake.set_knobs(&json!({ "lost": 0.0, "doubled": 1.0 })).unwrap();
    group(&fake, "Public", "c", &[]).await;
    fake.delivered().await;
    let twice = bodies(&server);
    assert!(twice.len() == 2 && twice[0] == twice[1], "{twice:?}");
    let failing = receiver(vec![Scripted::status(503); 2]).await;
    let fake = super::fake::fake(&json!({ "retries": 1 }), Some(failing.url.clone()), 1).await;
    group(&fake, "Public", "d", &[]).await;
    fake.delivered().await;
    assert_eq!((bodies(&failing).len(), &fake.callbacks()["failed"]), (2, &json!(1)));
    group(&fake, "Public", "e", &[]).await;
    fake.delivered().await;
    assert_eq!(fake.callbacks()["answered"], 1);
}

#[tokio::test]
async fn callbacks_of_a_group_keep_their_order_unless_some_are_held_back() {
    let names = |server: &ScriptedServer| -> Vec<Value> {
        bodies(server).into_iter().map(|body| body["Name"].clone()).collect()
    };
    let mut orders = Vec::new();
    for delayed in [0.0, 0.5] {
        let server = receiver([]).await;
        let knobs = json!({ "delayed": delayed, "delay_ms": 50 });
        let fake = fake(&knobs, Some(server.url.clone()), 1).await;
        group(&fake, "Public", "g", &[]).await;
        for number in 0..30 {
            let body = json!({ "GroupId": "g", "Name": format!("name {number:02}") });
            done(&fake, GROUPS, "modify_group_base_info", body).await;
        }
        fake.delivered().await;
        orders.push(names(&server)[1..].to_vec());
    }
    let sorted: Vec<Value> = (0..30).map(|number| json!(format!("name {number:02}"))).collect();
    assert_eq!(orders[0], sorted);
    assert!(orders[1] != sorted && orders[1].len() == 29 + 1, "{:?}", orders[1]);
}

#[tokio::test]
async fn event_times_have_the_form_and_the_distance_that_is_asked_for() {
    let server = receiver([]).await;
    let fake = fake(&json!({ "skew_ms": 3000, "event_time": "mixed" }), Some(server.url.clone()), 1).await;
    for number in 0..20 {
        group(&fake, "Public", &format!("g{number}"), &[]).await;
    }
    fake.delivered().await;
    let log = fake.log();
    let true_time = |id: &Value| {
        log.as_array().unwrap().iter().find(|change| change["group_id"] == *id).unwrap()["at"]
            .as_i64()
            .unwrap()
    };
    let (mut texts, mut off) = (0, 0);
    for body in bodies(&server) {
        let sent = &body["EventTime"];
        texts += u32::from(sent.is_string());
        let sent = sent.as_i64().unwrap_or_else(|| sent.as_str().unwrap().parse().unwrap());
        let skew = sent - true_time(&body["GroupId"]);
        assert!(skew.abs() <= 3000);
        off += u32::from(skew != 0);
    }
    assert!((1..20).contains(&texts) && off > 10, "{texts} quoted, {off} off");
    fake.set_knobs(&json!({ "event_time": "absent" })).unwrap();
    group(&fake, "Public", "last", &[]).await;
    fake.delivered().await;
    assert_eq!(bodies(&server).last().unwrap().get("EventTime"), None);
}

#[tokio::test]
async fn the_answer_to_a_before_callback_decides() {
    let said = |code: i64| {
        Scripted::body(json!({ "ActionStatus": "OK", "ErrorCode": code, "ErrorInfo": "no" }).to_string())
    };
    let some = json!({ "ActionStatus": "OK", "ErrorCode": 0, "RefusedMembers_Account": ["boris"] });
    let server = receiver([
        said(1),
        said(10120),
        said(0),
        said(0),
        Scripted::body(some.to_string()),
        said(0),
        Scripted::status(502),
        said(0),
        Scripted::status(502),
    ])
    .await;
    let fake = fake(&json!({ "before_callbacks": true }), Some(server.url.clone()), 1).await;
    let create = |id: &str| json!({ "Type": "Public", "GroupId": id, "Name": "G", "Owner_Account": "ana" });
    assert_eq!(fake.command(GROUPS, "create_group", &create("a")).await["ErrorCode"], 10016);
    let custom = fake.command(GROUPS, "create_group", &create("a")).await;
    assert_eq!((&custom["ErrorCode"], &custom["ErrorInfo"]), (&json!(10120), &json!("no")));
    done(&fake, GROUPS, "create_group", create("a")).await;
    fake.delivered().await;
    let add = json!({ "GroupId": "a", "MemberList": [{ "Member_Account": "boris" }, { "Member_Account": "chen" }] });
    let added = done(&fake, GROUPS, "add_group_member", add).await;
    assert_eq!(added["MemberList"][0]["Result"], 0);
    assert_eq!(added["MemberList"][1]["Result"], 1);
    fake.delivered().await;
    done(&fake, GROUPS, "create_group", create("b")).await;
    fake.delivered().await;
    fake.set_knobs(&json!({ "before_blocks": true })).unwrap();
    assert_eq!(fake.command(GROUPS, "create_group", &create("c")).await["ErrorCode"], 10016);
    let commands: Vec<Value> =
        bodies(&server).into_iter().map(|body| body["CallbackCommand"].clone()).collect();
    let (before, after) = ("Group.CallbackBeforeCreateGroup", "Group.CallbackAfterCreateGroup");
    let (invite, join) = ("Group.CallbackBeforeInviteJoinGroup", "Group.CallbackAfterNewMemberJoin");
    assert_eq!(commands, [before, before, before, after, invite, join, before, after, before]);
}
