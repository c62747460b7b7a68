//! The single cases: a few callbacks about one group, and what is shown then in the words of `shown::words`.
//!
//! Times are milliseconds after [`BASE_MS`]. A case fixes by hand what the oracle and the twins compare only with each other.

use serde_json::{Map, Value, json};

use super::topics;
use crate::support::histories::BASE_MS;

/// A few bodies about one group, in no order that matters, and what is shown in the words of `shown::words`.
pub(super) struct Case {
    pub name: &'static str,
    /// As Tencent writes it; put into every body without a type.
    pub group_type: &'static str,
    pub bodies: Vec<Value>,
    pub shown: &'static str,
}

/// A body of the group `g` with an event time.
pub(super) fn said(time: i64, command: &str, content: Value) -> Value {
    let mut body = Map::from_iter([
        ("CallbackCommand".to_owned(), json!(format!("Group.Callback{command}"))),
        ("GroupId".to_owned(), json!("g")),
        ("EventTime".to_owned(), json!(BASE_MS + time)),
    ]);
    if let Value::Object(content) = content {
        body.extend(content);
    }
    Value::Object(body)
}

fn accounts(users: &str) -> Value {
    users.split_whitespace().map(|user| json!({ "Member_Account": user })).collect()
}

fn pairs(names: [&str; 2], pairs: &str) -> Value {
    let pair = |text: &str| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        json!({ names[0]: key, names[1]: value })
    };
    pairs.split_whitespace().map(pair).collect()
}

pub(super) fn create(time: i64, owner: &str, members: &str) -> Value {
    let owner = json!({
        "Operator_Account": "adm", "Owner_Account": owner, "MemberList": accounts(members), "Name": "one",
    });
    said(time, "AfterCreateGroup", owner)
}

pub(super) fn create_with(time: i64, owner: &str, fields: &str) -> Value {
    let mut body = create(time, owner, "");
    body["UserDefinedDataList"] = pairs(["Key", "Value"], fields);
    body
}

pub(super) fn join(time: i64, users: &str) -> Value {
    said(time, "AfterNewMemberJoin", json!({ "JoinType": "Apply", "NewMemberList": accounts(users) }))
}

pub(super) fn leave(time: i64, users: &str) -> Value {
    let content =
        json!({ "ExitType": "Kicked", "Operator_Account": "adm", "ExitMemberList": accounts(users) });
    said(time, "AfterMemberExit", content)
}

pub(super) fn destroy(time: i64) -> Value {
    said(time, "AfterGroupDestroyed", json!({ "Name": "at the end", "Owner_Account": "nobody" }))
}

pub(super) fn info(time: i64, content: Value) -> Value {
    said(time, "AfterGroupInfoChanged", content)
}

pub(super) fn member(time: i64, user: &str, content: Value) -> Value {
    let mut body = said(time, "AfterMemberFieldChanged", content);
    body["Member_Account"] = json!(user);
    body
}

pub(super) fn owner(time: i64, old: &str, new: &str) -> Value {
    said(time, "AfterChangeGroupOwner", json!({ "OldOwner_Account": old, "NewOwner_Account": new }))
}

pub(super) fn attributes(time: i64, option: &str, given: &str) -> Value {
    let content = json!({ "OptionType": option, "GroupAttr": pairs(["key", "value"], given) });
    said(time, "AfterGroupAttrChanged", content)
}

pub(super) fn case(
    name: &'static str,
    group_type: &'static str,
    bodies: impl Into<Vec<Value>>,
    shown: &'static str,
) -> Case {
    let mut bodies = bodies.into();
    for body in &mut bodies {
        body["Type"] = json!(group_type);
    }
    Case { name, group_type, bodies, shown }
}

/// All of them.
pub(super) fn cases() -> Vec<Case> {
    [lives(), joins_and_leaves(), owners_and_roles(), topics::cases(), values()]
        .into_iter()
        .flatten()
        .collect()
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn lives() -> Vec<Case> {
    let first = || create(0, "ana", "chen");
    vec![
        case(
            "a create shows its owner as a member, listed or not",
            "Public",
            [first()],
            r#"active Public "one" owner=ana by=adm @0 | ana:Owner chen:Member |"#,
        ),
        case(
            "a create long after another ends the first life although its destroy was lost",
            "Public",
            [first(), create(20_000, "boris", "dora")],
            r#"active Public "one" owner=boris by=adm @20000 | boris:Owner dora:Member | ana@20000 chen@20000"#,
        ),
        case(
            "a create within ten seconds of another cannot be told from a repeat and ends nothing",
            "Public",
            [first(), create(5_000, "boris", "dora")],
            r#"active Public "one" owner=boris by=adm @5000 | ana:Member boris:Owner chen:Member dora:Member |"#,
        ),
        case(
            "an id used again within a second has the members of its second life",
            "Public",
            [first(), destroy(400), create(800, "boris", "dora"), join(200, "emil"), join(900, "fay")],
            r#"active Public "one" owner=boris by=adm @800 | boris:Owner dora:Member fay:Member | ana@400 chen@400 emil@400"#,
        ),
        case(
            "members of a first life left when it ended, not when the second began",
            "Public",
            [first(), destroy(400), create(60_000, "boris", "dora")],
            r#"active Public "one" owner=boris by=adm @60000 | boris:Owner dora:Member | ana@400 chen@400"#,
        ),
        case(
            "members of a first life left when it ended, though the id was used again twice",
            "Public",
            [
                create(0, "ana", "chen"),
                destroy(30_000),
                create(60_000, "boris", ""),
                destroy(90_000),
                create(120_000, "dora", ""),
            ],
            r#"active Public "one" owner=dora by=adm @120000 | dora:Owner | ana@30000 boris@90000 chen@30000"#,
        ),
        case(
            "a life whose destroy was lost ended at the next create's own time, also when others followed",
            "Public",
            [
                create(0, "ana", "chen"),
                create(30_000, "boris", ""),
                create(60_000, "dora", ""),
                destroy(90_000),
            ],
            r#"destroyed Public "one" owner=dora by=adm @60000 †90000 | | ana@30000 boris@60000 chen@30000 dora@90000"#,
        ),
        case(
            "nothing of the first life is left in the second",
            "Public",
            [
                create_with(0, "ana", "region=north"),
                info(100, json!({ "Introduction": "old", "FaceUrl": "old" })),
                attributes(200, "set", "k=1"),
                destroy(400),
                create_with(800, "", "tier=2"),
            ],
            r#"active Public "one" by=adm @800 {tier=2} | | ana@400"#,
        ),
        case(
            "a destroyed group shows its newest profile and all its members as left",
            "Public",
            [first(), info(1_000, json!({ "Name": "two", "Notification": "" })), destroy(5_000)],
            r#"destroyed Public "two" notice="" owner=ana by=adm @0 †5000 | | ana@5000 chen@5000"#,
        ),
        case(
            "a join that is older than the destroy revives nothing",
            "Public",
            [first(), destroy(5_000), join(4_000, "dora")],
            r#"destroyed Public "one" owner=ana by=adm @0 †5000 | | ana@5000 chen@5000 dora@5000"#,
        ),
        case(
            "a join ten seconds after the destroy shows a group whose create was lost",
            "Public",
            [first(), destroy(5_000), join(15_000, "dora")],
            "unseen Public | dora:Member | ana@5000 chen@5000",
        ),
        case(
            "a join stamped less than ten seconds after the destroy revives nothing",
            "Public",
            [first(), destroy(5_000), join(14_999, "dora")],
            r#"destroyed Public "one" owner=ana by=adm @0 †5000 | | ana@5000 chen@5000 dora@5000"#,
        ),
        case(
            "a profile stamped less than ten seconds after the destroy is the newest that the group had",
            "Public",
            [first(), destroy(5_000), info(14_999, json!({ "Name": "two" })), owner(5_001, "ana", "boris")],
            r#"destroyed Public "two" owner=boris by=adm @0 †5000 | | ana@5000 boris@5000 chen@5000"#,
        ),
        case(
            "a create undoes a destroy at once, and what came with it counts",
            "Public",
            [first(), destroy(5_000), create(5_001, "boris", ""), join(5_003, "dora")],
            r#"active Public "one" owner=boris by=adm @5001 | boris:Owner dora:Member | ana@5000 chen@5000"#,
        ),
        case(
            "a long first life ends at its destroy and not ten seconds before the create that follows at once",
            "Public",
            [first(), join(40_000, "dora"), destroy(44_492), create(44_494, "boris", "")],
            r#"active Public "one" owner=boris by=adm @44494 | boris:Owner | ana@44492 chen@44492 dora@44492"#,
        ),
        case(
            "a second destroy does not move the end of a first life",
            "Public",
            [first(), destroy(44_492), create(44_494, "boris", ""), destroy(90_000)],
            r#"destroyed Public "one" owner=boris by=adm @44494 †90000 | | ana@44492 boris@90000 chen@44492"#,
        ),
        case(
            "neither an attribute nor a leave nor a role revives a destroyed group",
            "Public",
            [
                first(),
                destroy(5_000),
                attributes(6_000, "modify", "k=1"),
                leave(7_000, "chen"),
                member(8_000, "ana", json!({ "Role": "Admin" })),
            ],
            r#"destroyed Public "one" owner=ana by=adm @0 †5000 [k=1] | | ana@5000 chen@7000"#,
        ),
        case(
            "a change of profile or owner ten seconds after the destroy revives the group",
            "Public",
            [first(), destroy(5_000), info(15_000, json!({ "Name": "two" })), owner(16_000, "ana", "boris")],
            r#"active Public "two" owner=boris | boris:Owner | ana@5000 chen@5000"#,
        ),
        case(
            "a destroy of a group never heard of is kept",
            "Public",
            [destroy(5_000)],
            "destroyed †5000 | |",
        ),
        case(
            "of one millisecond create is the oldest, then change, join, leave, destroy",
            "Public",
            [first(), info(0, json!({ "Name": "two" })), join(0, "dora emil"), leave(0, "chen dora")],
            r#"active Public "two" owner=ana by=adm @0 | ana:Owner emil:Member | chen@0 dora@0"#,
        ),
        case(
            "a destroy of the same millisecond ends what was created in it",
            "Public",
            [first(), join(0, "dora"), destroy(0)],
            r#"destroyed Public "one" owner=ana by=adm @0 †0 | | ana@0 chen@0 dora@0"#,
        ),
    ]
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn joins_and_leaves() -> Vec<Case> {
    vec![
        case(
            "a join may come three seconds before the create of its community",
            "Community",
            [join(1_000, "dora"), create(4_000, "ana", "")],
            r#"active Community "one" owner=ana by=adm @4000 | ana:Owner dora:Member |"#,
        ),
        case(
            "a create reaches back ten seconds and no further",
            "Community",
            [join(0, "dora"), join(1, "emil"), create(10_001, "ana", "")],
            r#"active Community "one" owner=ana by=adm @10001 | ana:Owner emil:Member | dora@10001"#,
        ),
        case(
            "who left and joined again is a member, whatever came last",
            "Public",
            [join(1_000, "dora"), leave(2_000, "dora"), join(3_000, "dora"), leave(500, "dora")],
            "unseen Public | dora:Member |",
        ),
        case(
            "who left last is gone, known before or not",
            "Public",
            [join(1_000, "dora"), leave(2_000, "dora chen")],
            "unseen Public | | chen@2000 dora@2000",
        ),
        case(
            "a change of role or card stamped less than ten seconds after the leave brings back no member",
            "Public",
            [
                join(1_000, "dora emil"),
                leave(2_000, "dora emil"),
                member(11_999, "dora", json!({ "NameCard": "D" })),
                member(2_003, "emil", json!({ "Role": "Admin" })),
            ],
            "unseen Public | | dora@2000 emil@2000",
        ),
        case(
            "a join undoes a leave at once, and a card that was set since the leave counts",
            "Public",
            [
                join(1_000, "dora"),
                leave(2_000, "dora"),
                join(2_001, "dora"),
                member(2_003, "dora", json!({ "NameCard": "D" })),
            ],
            r#"unseen Public | dora:Member"D" |"#,
        ),
        case(
            "a change of the card ten seconds after the leave shows that a member is back",
            "Public",
            [
                join(1_000, "dora"),
                leave(2_000, "dora"),
                member(12_000, "dora", json!({ "NameCard": "D" })),
                member(1_500, "dora", json!({ "Role": "Admin", "NameCard": "old" })),
            ],
            r#"unseen Public | dora:Member"D" |"#,
        ),
        case(
            "role and name card end with a leave",
            "Public",
            [
                create(0, "ana", "boris"),
                member(1_000, "boris", json!({ "Role": "Admin", "NameCard": "B" })),
                leave(2_000, "boris"),
                join(3_000, "boris"),
            ],
            r#"active Public "one" owner=ana by=adm @0 | ana:Owner boris:Member |"#,
        ),
        case(
            "role and name card change one by one",
            "Public",
            [
                create(0, "ana", "boris"),
                member(1_000, "boris", json!({ "Role": "Admin", "NameCard": "B" })),
                member(2_000, "boris", json!({ "NameCard": "" })),
            ],
            r#"active Public "one" owner=ana by=adm @0 | ana:Owner boris:Admin"" |"#,
        ),
        case(
            "nobody is a member of an audio-video room before joining",
            "AVChatRoom",
            [create(0, "ana", "chen"), join(1_000, "dora")],
            r#"active AVChatRoom "one" owner=ana by=adm @0 | dora:Member |"#,
        ),
    ]
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn owners_and_roles() -> Vec<Case> {
    let work = || create(0, "ana", "chen");
    vec![
        case(
            "the owner who left a Work group is its owner no more",
            "Private",
            [work(), leave(1_000, "ana")],
            r#"active Work "one" by=adm @0 | chen:Member | ana@1000"#,
        ),
        case(
            "the owner who left a Work group comes back as a member",
            "Private",
            [work(), leave(1_000, "ana"), join(2_000, "ana")],
            r#"active Work "one" by=adm @0 | ana:Member chen:Member |"#,
        ),
        case(
            "a Work group without an owner gets one by a change of owner",
            "Private",
            [work(), leave(1_000, "ana"), join(2_000, "ana"), owner(3_000, "", "chen")],
            r#"active Work "one" owner=chen by=adm @0 | ana:Member chen:Owner |"#,
        ),
        case(
            "a change of owner stamped less than ten seconds after the new owner left brings back no member",
            "Private",
            [work(), leave(1_000, "ana"), owner(10_999, "", "ana")],
            r#"active Work "one" owner=ana by=adm @0 | chen:Member | ana@1000"#,
        ),
        case(
            "an owner who left a Work group can become its owner again",
            "Private",
            [work(), leave(1_000, "ana"), owner(11_000, "", "ana")],
            r#"active Work "one" owner=ana by=adm @0 | ana:Owner chen:Member |"#,
        ),
        case(
            "a destroyed Work group does not show the owner who had left",
            "Private",
            [work(), leave(1_000, "ana"), destroy(2_000)],
            r#"destroyed Work "one" by=adm @0 †2000 | | ana@1000 chen@2000"#,
        ),
        case(
            "a leave of the owner of any other group changes no owner",
            "Public",
            [work(), leave(1_000, "ana")],
            r#"active Public "one" owner=ana by=adm @0 | chen:Member | ana@1000"#,
        ),
        case(
            "an administrator who becomes owner and hands over becomes a member",
            "Public",
            [
                create(0, "ana", "boris chen"),
                member(1_000, "boris", json!({ "Role": "Admin" })),
                owner(2_000, "ana", "boris"),
                owner(3_000, "boris", "chen"),
            ],
            r#"active Public "one" owner=chen by=adm @0 | ana:Member boris:Member chen:Owner |"#,
        ),
        case(
            "the old owner is not confirmed as a member by handing over",
            "Public",
            [owner(1_000, "zoe", "boris")],
            "unseen Public owner=boris | boris:Owner |",
        ),
        case(
            "an old owner who was made administrator later is one",
            "Public",
            [
                create(0, "ana", "boris"),
                owner(1_000, "ana", "boris"),
                member(2_000, "ana", json!({ "Role": "Admin" })),
            ],
            r#"active Public "one" owner=boris by=adm @0 | ana:Admin boris:Owner |"#,
        ),
        case(
            "an owner can go without a new one",
            "Public",
            [create(0, "ana", "boris"), owner(1_000, "ana", "")],
            r#"active Public "one" by=adm @0 | ana:Member boris:Member |"#,
        ),
    ]
}

fn values() -> Vec<Case> {
    let set = || attributes(1_000, "set", "a=1 b=1");
    let modify = || attributes(2_000, "modify", "b=2 c=2");
    let delete = || attributes(3_000, "delete", "a c");
    vec![
        case(
            "an absent value is unchanged and an empty one is cleared",
            "Public",
            [
                create(0, "ana", ""),
                info(1_000, json!({ "Introduction": "hi", "FaceUrl": "f" })),
                info(2_000, json!({ "Introduction": "", "Name": "two" })),
                info(3_000, json!({ "Notification": "" })),
            ],
            r#"active Public "two" intro="" notice="" face="f" owner=ana by=adm @0 | ana:Owner |"#,
        ),
        case(
            "user-defined fields change key by key",
            "Public",
            [
                create_with(0, "ana", "region=north tier=2"),
                info(
                    1_000,
                    json!({ "UserDefinedDataList": [{ "Key": "tier", "Value": "" }, { "Key": "x", "Value": "y" }] }),
                ),
            ],
            r#"active Public "one" owner=ana by=adm @0 {region=north,tier=,x=y} | ana:Owner |"#,
        ),
        case("a set and a modify together", "Public", [set(), modify()], "unseen Public [a=1,b=2,c=2] | |"),
        case("a delete takes its keys", "Public", [set(), modify(), delete()], "unseen Public [b=2] | |"),
        case(
            "a set that is newer throws the others away",
            "Public",
            [set(), modify(), delete(), attributes(4_000, "set", "d=4")],
            "unseen Public [d=4] | |",
        ),
        case(
            "a clear takes all that is older, and what comes after it stays",
            "Public",
            [set(), modify(), attributes(4_000, "clear", ""), attributes(5_000, "modify", "a=5")],
            "unseen Public [a=5] | |",
        ),
        case(
            "a change of attributes that says not how changes none",
            "Public",
            [set(), attributes(4_000, "teleport", "a=4"), attributes(5_000, "", "b=5")],
            "unseen Public [a=1,b=1] | |",
        ),
        case(
            "the old name ChatRoom is Meeting",
            "ChatRoom",
            [join(1, "ana")],
            "unseen Meeting | ana:Member |",
        ),
        case(
            "an unknown type is shown as it came",
            "BChatRoom",
            [join(1, "ana")],
            "unseen BChatRoom | ana:Member |",
        ),
    ]
}
