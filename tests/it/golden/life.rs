//! The life that golden data is written of: every command, in groups of each kind, bodies that are read in part or not at all,
//! reads of the REST API, two apps, a person to be erased. Only the writer uses it; the tests read what it wrote.

use group_mirror::callback::Received;
use group_mirror::mirror::{ListRange, ReadKind, ReadTime, Snapshot, group_key};
use group_mirror::model::{GroupId, Millis, SdkAppId, UserId};
use group_mirror::tencent::canonical::one_group;
use group_mirror::tencent::members::{ListedMember, MemberPage};
use serde_json::{Value, json};

use crate::support::api::T0;
use crate::support::{APP, samples};

/// A second app of the same database.
pub(super) const OTHER_APP: &str = "1400000002";

/// The person who is erased.
pub(super) const ERASED: &str = "fay_01";

const DAY: i64 = 24 * 60 * 60 * 1000;

/// What happened before this is pruned.
pub(super) const PRUNED_BEFORE: i64 = T0 - DAY;

/// The group of the old life.
const OLD: &str = "@TGS#2OLDTIMES1";

/// A request of an app, without a query.
fn bare(app: &str, received_at: i64, body: impl Into<Vec<u8>>) -> Received {
    Received::bare(SdkAppId::parse(app).unwrap(), Millis::new(received_at), body.into())
}

fn after(command: &str, group: &str, time: i64, more: &Value) -> Value {
    let mut body = json!({ "CallbackCommand": format!("Group.CallbackAfter{command}"), "GroupId": group, "Type": "Public",
        "EventTime": time, "Operator_Account": "ana_77" });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// A group of ten days before, received at once.
pub(super) fn early() -> Vec<Received> {
    let begin = T0 - 10 * DAY;
    let accounts =
        |users: &[&str]| -> Value { users.iter().map(|user| json!({ "Member_Account": user })).collect() };
    let topic = format!("{OLD}@TOPIC#_first");
    let bodies = [
        (
            "CreateGroup",
            json!({ "Name": "Old times", "Owner_Account": "ana_77", "MemberList": accounts(&["boris-2", ERASED]),
            "UserDefinedDataList": [{ "Key": "region", "Value": "south" }] }),
        ),
        ("NewMemberJoin", json!({ "JoinType": "Apply", "NewMemberList": accounts(&["chen_li", "dora9"]) })),
        (
            "MemberFieldChanged",
            json!({ "Member_Account": "boris-2", "Role": "Admin", "NameCard": "Boris 🎉" }),
        ),
        ("GroupInfoChanged", json!({ "Name": "Old times II", "Notification": "nul\u{0}" })),
        ("GroupAttrChanged", json!({ "OptionType": "set", "GroupAttr": [{ "key": "seat", "value": "1" }] })),
        ("CreateTopic", json!({ "TopicId": topic, "Name": "first" })),
        ("MemberExit", json!({ "ExitType": "Kicked", "ExitMemberList": accounts(&["dora9"]) })),
        ("ChangeGroupOwner", json!({ "OldOwner_Account": "ana_77", "NewOwner_Account": "boris-2" })),
        ("TopicDestroyed", json!({ "TopicIdList": [topic] })),
    ];
    let mut all = Vec::new();
    for (number, (command, more)) in (0..).zip(bodies) {
        let time = begin + number * 60_000;
        all.push(bare(APP, time + 250, after(command, OLD, time, &more).to_string()));
    }
    // One life of a group that is over, and another one under the same id.
    for (number, command) in (0..).zip(["CreateGroup", "GroupDestroyed", "CreateGroup"]) {
        let time = begin + DAY + number * 60_000;
        let more = json!({ "Name": format!("life {number}"), "Owner_Account": "hana_q", "MemberList": [] });
        all.push(bare(APP, time + 250, after(command, "@TGS#2AGAIN", time, &more).to_string()));
    }
    all
}

/// The samples of all commands, then what is odd; received some hours after the base.
pub(super) fn late() -> Vec<Received> {
    let begin = T0 + 2 * 60 * 60 * 1000;
    let mut all = Vec::new();
    for (name, text) in samples() {
        let received = bare(APP, begin + 1_000 * i64::try_from(all.len()).unwrap(), text);
        // Messages and questions before something happens are out of scope.
        if matches!(
            group_mirror::callback::decode(received.clone()),
            group_mirror::callback::Decoded::Kept(_)
        ) {
            let command = name.rsplit('/').next().unwrap().split(".json").next().unwrap();
            let command = command.split('.').take(2).collect::<Vec<_>>().join(".");
            all.push(Received {
                query_command: Some(command),
                client_ip: Some("203.0.113.9".to_owned()),
                platform: Some("Android".to_owned()),
                request_id: Some(format!("7f9c24e5-0000-4000-8000-{:012x}", all.len())),
                ..received
            });
        }
    }
    assert!(all.len() >= 25, "{} samples are kept", all.len());
    let at = begin + 100_000;
    all.push(with_relay(at));
    all.extend(odd(at + 1_000));
    let body = after(
        "CreateGroup",
        OLD,
        T0,
        &json!({ "Name": "Of another app", "Owner_Account": "zoe", "MemberList": [] }),
    );
    all.push(bare(OTHER_APP, at + 50_000, body.to_string()));
    all
}

/// A callback of an app that has a relay.
pub(super) fn with_relay(at: i64) -> Received {
    let query = format!(
        "SdkAppid={APP}&CallbackCommand=Group.CallbackAfterGroupInfoChanged&contenttype=json&a=%41+b&&=?/&b=%e4&Sign=00&RequestTime=1767232900"
    );
    let body = "{ \"CallbackCommand\" :\"Group.CallbackAfterGroupInfoChanged\",\"Type\":\"Public\",\"GroupId\":\"city-hall-42\",\
        \"Name\":\"\\u0000n\",\"Name\":\"Relayed\",\"EventTime\":1767232900345,\"Big\":123456789012345678901234567890}";
    Received {
        query_command: Some("Group.CallbackAfterGroupInfoChanged".to_owned()),
        query: Some(query),
        content_type: Some("text/x; charset=\"\u{e4}\"".to_owned()),
        forwarded_for: Some("198.51.100.1, 203.0.113.9".to_owned()),
        ..bare(APP, at, body)
    }
}

/// Bodies that are read in part or not at all, and texts that no database takes as they are.
pub(super) fn odd(at: i64) -> Vec<Received> {
    let bodies: [&[u8]; 8] = [
        // Applied, with a text cut in the middle of a character.
        b"{\"CallbackCommand\":\"Group.CallbackAfterGroupInfoChanged\",\"GroupId\":\"city-hall-42\",\"Introduction\":\"\xe7\xbe\xa4\xe7\xbe\",\"EventTime\":1767232901000}",
        // In part: a name that is no text, an account that is none.
        br#"{"CallbackCommand":"Group.CallbackAfterGroupInfoChanged","GroupId":"city-hall-42","Name":["x"],"FaceUrl":"https://img.example.org/c.png","EventTime":1767232902000}"#,
        br#"{"CallbackCommand":"Group.CallbackAfterNewMemberJoin","GroupId":"city-hall-42","JoinType":"Apply","NewMemberList":[{"Member_Account":7},{"Member_Account":"ida-3"},{}],"EventTime":1767232903000}"#,
        // A time that is not believed.
        br#"{"CallbackCommand":"Group.CallbackAfterGroupInfoChanged","GroupId":"city-hall-42","Notification":"of no time","EventTime":1}"#,
        // Parked.
        b"no json",
        b"\x00\xff",
        br#"{"CallbackCommand":"Group.CallbackAfterGroupInfoChanged","Name":"of no group","EventTime":1767232904000}"#,
        br#"{"CallbackCommand":"Group.CallbackAfterSomethingNew","GroupId":"city-hall-42","EventTime":1767232905000}"#,
    ];
    let requests = ["", "not a uuid", "7f9c24e5-0000-4000-8000-00000000ffff"];
    let mut all = Vec::new();
    for (number, body) in (0..).zip(bodies) {
        let request = requests[usize::try_from(number).unwrap() % requests.len()];
        let request_id = Some(request.to_owned()).filter(|request| !request.is_empty());
        all.push(Received { request_id, ..bare(APP, at + number, body) });
    }
    all
}

fn read(group: &str, sent: i64, kind: ReadKind, answer: Vec<u8>) -> Snapshot {
    let app = SdkAppId::parse(APP).unwrap();
    let time = ReadTime::new(Millis::new(sent), 15_000, None);
    let group = group_key(app, GroupId::parse(group).unwrap());
    Snapshot { group, time, kind, is_complete: true, range: None, missing: Vec::new(), answer }
}

fn profile(group: &str, sent: i64, name: &str) -> Snapshot {
    let element = json!({ "GroupId": group, "ErrorCode": 0, "Type": "Public", "Name": name, "Introduction": "", "Notification": "",
        "FaceUrl": "", "Owner_Account": "boris-2", "CreateTime": (T0 - 10 * DAY) / 1000, "MuteAllMember": "Off",
        "MaxMemberNum": 200, "ApplyJoinOption": "FreeAccess", "AppDefinedData": [{ "Key": "region", "Value": "west" }] });
    read(group, sent, ReadKind::Profile, one_group(element.to_string().as_bytes()))
}

fn rows(users: &[&str]) -> Vec<ListedMember> {
    let rows: Vec<Value> = users
        .iter()
        .map(|user| {
            let role = if *user == "boris-2" { "Owner" } else { "Member" };
            json!({ "Member_Account": user, "Role": role, "JoinTime": (T0 - 9 * DAY) / 1000, "NameCard": "", "MuteUntil": 0 })
        })
        .collect();
    let answer = json!({ "ActionStatus": "OK", "ErrorCode": 0, "MemberList": rows });
    MemberPage::read(answer.to_string().as_bytes()).unwrap().members
}

fn members(group: &str, sent: i64, users: &[&str]) -> Snapshot {
    let list = read(group, sent, ReadKind::Members, Vec::new());
    Snapshot::of_members(&list.group, list.time, &rows(users)).remove(0)
}

fn json_read(group: &str, sent: i64, kind: ReadKind, more: &Value) -> Snapshot {
    let mut answer = json!({ "ActionStatus": "OK", "ErrorCode": 0 });
    answer.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    read(group, sent, kind, answer.to_string().into_bytes())
}

/// Reads of the old group, which are pruned.
pub(super) fn early_reads() -> Vec<Snapshot> {
    let at = T0 - 5 * DAY;
    vec![
        profile(OLD, at, "Old times III"),
        members(OLD, at, &["boris-2", "chen_li", "emil-x", ERASED]),
        json_read(
            OLD,
            at,
            ReadKind::Attributes,
            &json!({ "GroupAttrAry": [{ "key": "seat", "value": "2" }] }),
        ),
    ]
}

/// Reads of each kind; the list of one group in a range, as the lists of large ones are.
pub(super) fn late_reads() -> Vec<Snapshot> {
    let at = T0 + 3 * 60 * 60 * 1000;
    let topic = json!([{ "ErrorCode": 0, "TopicInfo": { "TopicId": format!("{OLD}@TOPIC#_second"), "TopicName": "second" } }]);
    let range = ListRange::of(&UserId::parse("ida-3").unwrap());
    let (at_large, large) = (at + 60_000, "@TGS#2LARGE");
    vec![
        profile(OLD, at, "Old times IV"),
        members(OLD, at, &["boris-2", "chen_li", "gil_02"]),
        json_read(OLD, at, ReadKind::Topics, &json!({ "TopicAndSelfInfo": topic })),
        read("@TGS#2AGAIN", at, ReadKind::Gone, br#"{"ErrorCode":10010}"#.to_vec()),
        profile(large, at_large, "Large"),
        Snapshot { range: Some(range), ..members(large, at_large, &["ida-3"]) },
    ]
}

/// What waits in the spool; the last one is damaged there.
pub(super) fn spooled() -> Vec<Received> {
    let at = T0 + 5 * 60 * 60 * 1000;
    let mut all = vec![with_relay(at)];
    all.extend(odd(at + 10));
    for (number, name) in (0..).zip(["Group.CallbackAfterCreateGroup", "Group.CallbackAfterCreateTopic"]) {
        let body = crate::support::sample(name).to_string();
        all.push(Received {
            client_ip: Some("2001:db8::1".to_owned()),
            ..bare(APP, at + 100 + number, body)
        });
    }
    all.push(bare(
        OTHER_APP,
        at + 200,
        after("GroupInfoChanged", "g", at, &json!({ "Name": "of another app" })).to_string(),
    ));
    all.push(bare(
        APP,
        at + 300,
        after("GroupInfoChanged", "damaged", at, &json!({ "Name": "damaged" })).to_string(),
    ));
    all
}

/// What was answered lately and is kept.
pub(super) fn answered() -> Vec<Received> {
    let at = T0 + 6 * 60 * 60 * 1000;
    let mut all: Vec<Received> = (0..3)
        .map(|number| {
            let body =
                after("GroupInfoChanged", &format!("kept {number}"), at + number, &json!({ "Name": "kept" }));
            Received { request_id: Some("kept".to_owned()), ..bare(APP, at + number, body.to_string()) }
        })
        .collect();
    all.push(bare(APP, at + 10, &b"\xf5GMR no json"[..]));
    all
}
