//! Generated bodies, each a valid callback with one part spoiled. The model is another body: the same without the spoiled
//! part, or with its text repaired. What the mirror shows of both must be the same, whatever the part and the fault.
//! `SPOILED_BODIES` sets how many (over HTTP a tenth of it), `SPOILED_SEED` which.

use group_mirror::callback::{Callback, Decoded, Reading, Received, decode};
use group_mirror::mirror::{self, Rows};
use group_mirror::model::{Millis, SdkAppId};
use group_mirror::replay::{Mode, replay};
use group_mirror::store::Database;
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value, json};

use super::laws::{generator, setting};
use crate::support::mutate::Chance;
use crate::support::{APP, App, dump, histories, shown};

/// Stands in a body where raw bytes are put afterwards.
const MARK: &str = "\u{e000}spoiled\u{e000}";

/// What must become of a body.
#[derive(Debug, Clone)]
enum Expected {
    /// The part is not used: all is applied, as this body says.
    Applied(Value),
    /// The part is skipped; the rest is applied, as this body says.
    Partial(Value),
    Parked,
}

/// A body with one part spoiled.
struct Spoiled {
    bytes: Vec<u8>,
    expected: Expected,
    part: String,
}

/// Texts that are not valid Unicode, or not valid in JSON, and what can be read of them.
const ILL_FORMED: [(&[u8], &str); 8] = [
    (b"half \\ud83d", "half \u{fffd}"),
    (b"\\ude00\\ud83d", "\u{fffd}\u{fffd}"),
    (b"cut \xe5\x95", "cut \u{fffd}"),
    (b"\xed\xa0\xbd\xed\xb8\x80", "\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}"),
    (b"gbk \xc4\xe3", "gbk \u{fffd}\u{fffd}"),
    (b"caf\xe9", "caf\u{fffd}"),
    (b"a\tb\nc", "a\u{fffd}b\u{fffd}c"),
    (b"\xff\xfe\x00", "\u{fffd}\u{fffd}\u{fffd}"),
];

/// Values that are no text and no list.
const OTHER_TYPES: [&str; 7] =
    ["7", "-0.5e99999", "true", "{}", "{\"zh\":[\"x\",null]}", "123456789012345678901234567890", "false"];

/// Entries that no list of members can have.
const BAD_MEMBERS: [&[u8]; 8] = [
    b"7",
    b"null",
    b"\"bob\"",
    b"{}",
    b"[]",
    b"{\"Member_Account\":\"\"}",
    b"{\"Member_Account\":{\"id\":\"bob\"}}",
    b"{\"Member_Account\":\"bo\\ud83d\"}",
];

/// Every key that some command reads.
const KEYS: [&str; 22] = [
    "Name",
    "Introduction",
    "Notification",
    "FaceUrl",
    "Owner_Account",
    "OldOwner_Account",
    "NewOwner_Account",
    "MemberList",
    "NewMemberList",
    "ExitMemberList",
    "JoinType",
    "ExitType",
    "UserDefinedDataList",
    "Member_Account",
    "Modified_Account",
    "Role",
    "NameCard",
    "OptionType",
    "GroupAttr",
    "TopicId",
    "TopicIdList",
    "Type",
];

/// The keys that a command reads, beside group, operator, time and type.
fn used(command: &str) -> &'static [&'static str] {
    let profile = &["Name", "Introduction", "Notification", "FaceUrl", "UserDefinedDataList"];
    match command {
        "AfterCreateGroup" => &[
            "Name",
            "Introduction",
            "Notification",
            "FaceUrl",
            "UserDefinedDataList",
            "Owner_Account",
            "MemberList",
        ],
        "AfterNewMemberJoin" => &["JoinType", "NewMemberList"],
        "AfterMemberExit" => &["ExitType", "ExitMemberList"],
        "AfterGroupDestroyed" => &[],
        "AfterGroupInfoChanged" => profile,
        "AfterMemberFieldChanged" => &["Member_Account", "Role", "NameCard"],
        "AfterGroupAttrChanged" => &["OptionType", "GroupAttr"],
        "AfterChangeGroupOwner" => &["OldOwner_Account", "NewOwner_Account"],
        "AfterCreateTopic" | "AfterTopicInfoChanged" => {
            &["Name", "Introduction", "Notification", "FaceUrl", "TopicId"]
        }
        "AfterTopicDestroyed" => &["TopicIdList"],
        other => panic!("{other}"),
    }
}

fn without(body: &Value, key: &str) -> Value {
    let mut body = body.clone();
    body.as_object_mut().unwrap().remove(key);
    body
}

fn with(body: &Value, key: &str, value: Value) -> Value {
    let mut body = body.clone();
    body[key] = value;
    body
}

/// The body as bytes, with raw ones at the mark.
fn bytes(body: &Value, raw: &[u8]) -> Vec<u8> {
    let (text, mark) = (body.to_string(), json!(MARK).to_string());
    let at = text.find(&mark).unwrap();
    [&text.as_bytes()[..at], raw, &text.as_bytes()[at + mark.len()..]].concat()
}

fn quoted(raw: &[u8]) -> Vec<u8> {
    [b"\"", raw, b"\""].concat()
}

fn is_list(key: &str) -> bool {
    ["MemberList", "NewMemberList", "ExitMemberList", "UserDefinedDataList", "GroupAttr", "TopicIdList"]
        .contains(&key)
}

fn is_id(key: &str) -> bool {
    key.ends_with("_Account") || key == "TopicId"
}

/// Whether a change of the profile still says anything.
fn says_something(body: &Value) -> bool {
    let texts = ["Name", "Introduction", "Notification", "FaceUrl"];
    texts.iter().any(|key| body.get(key).is_some())
        || body["UserDefinedDataList"].as_array().is_some_and(|list| !list.is_empty())
}

/// What must become of a body without one of its parts, because that cannot be read.
fn expected_without(command: &str, body: &Value, key: &str) -> Expected {
    let rest = without(body, key);
    match (command, key) {
        // The essential facts.
        (_, "NewMemberList" | "ExitMemberList" | "NewOwner_Account" | "Member_Account" | "TopicIdList") => {
            Expected::Parked
        }
        ("AfterCreateTopic", "TopicId") => Expected::Parked,
        ("AfterGroupInfoChanged", _)
            if key != "Type" && key != "Operator_Account" && !says_something(&rest) =>
        {
            Expected::Parked
        }
        // An owner that cannot be read is not the same as none; on a group of its own no read shows the difference.
        _ => Expected::Partial(rest),
    }
}

/// Another JSON type in the place of a value.
fn wrong_type(chance: &mut Chance, command: &str, body: &Value, key: &str) -> Spoiled {
    let value = if is_list(key) && key != "TopicIdList" && chance.below(3) == 0 {
        "\"a text\""
    } else if is_list(key) {
        *chance.one(&OTHER_TYPES)
    } else {
        *chance.one(&[OTHER_TYPES[0], OTHER_TYPES[1], OTHER_TYPES[3], OTHER_TYPES[4], "[]", "[\"x\"]"])
    };
    let bytes = bytes(&with(body, key, json!(MARK)), value.as_bytes());
    let is_used = key == "Operator_Account"
        || (key == "Type" && command != "AfterGroupDestroyed")
        || (used(command).contains(&key) && !(body["OptionType"] == "clear" && key == "GroupAttr"));
    let expected = match is_used {
        // A list without an option that is known is not looked at.
        true if key == "GroupAttr"
            && !["set", "modify", "delete"].contains(&body["OptionType"].as_str().unwrap_or("")) =>
        {
            Expected::Partial(without(body, key))
        }
        true => expected_without(command, body, key),
        false => Expected::Applied(without(body, key)),
    };
    Spoiled { bytes, expected, part: format!("{key} is {value}") }
}

/// A text that is not valid Unicode.
fn ill_formed(chance: &mut Chance, command: &str, body: &Value, key: &str) -> Spoiled {
    let (raw, repaired) = *chance.one(&ILL_FORMED);
    let bytes = bytes(&with(body, key, json!(MARK)), &quoted(raw));
    let is_used = used(command).contains(&key) || key == "Operator_Account" || key == "Type";
    let expected = match key {
        _ if !is_used => Expected::Applied(without(body, key)),
        _ if is_id(key) => expected_without(command, body, key),
        "Role" => Expected::Partial(without(body, key)),
        "Type" if command == "AfterGroupDestroyed" => Expected::Applied(body.clone()),
        _ => Expected::Applied(with(body, key, json!(repaired))),
    };
    Spoiled { bytes, expected, part: format!("{key} is {}", raw.escape_ascii()) }
}

/// One entry of a list more, which cannot be read.
fn bad_entry(chance: &mut Chance, command: &str, body: &Value, key: &str) -> Spoiled {
    let raw = match key {
        "UserDefinedDataList" => *chance.one(&[
            &b"7"[..],
            b"null",
            b"{}",
            b"{\"Key\":7}",
            b"{\"Key\":\"k\\udc00\",\"Value\":\"v\"}",
            b"{\"Key\":\"k9\",\"Value\":7}",
            b"{\"Value\":\"v\"}",
            b"{\"key\":\"k1\"}",
        ]),
        "GroupAttr" => *chance.one(&[
            &b"7"[..],
            b"null",
            b"{}",
            b"{\"key\":[]}",
            b"{\"key\":\"k\xff\",\"value\":\"v\"}",
            b"{\"value\":\"v\"}",
            b"{\"Key\":\"k1\"}",
        ]),
        "TopicIdList" => *chance.one(&[&b"7"[..], b"null", b"{}", b"\"\"", b"\"t\\ud83d\""]),
        _ => *chance.one(&BAD_MEMBERS),
    };
    let mut list = body[key].as_array().unwrap().clone();
    let was_empty = list.is_empty();
    list.insert(chance.below(list.len() + 1), json!(MARK));
    let bytes = bytes(&with(body, key, Value::Array(list)), raw);
    let option = body["OptionType"].as_str().unwrap_or("");
    let expected = match key {
        "GroupAttr" if !["set", "modify", "delete"].contains(&option) => Expected::Applied(body.clone()),
        // Nothing is left but that something changed.
        "GroupAttr" if was_empty => Expected::Partial(without(body, key)),
        "NewMemberList" | "ExitMemberList" | "TopicIdList" if was_empty => Expected::Parked,
        "UserDefinedDataList" if command == "AfterGroupInfoChanged" && !says_something(body) => {
            Expected::Parked
        }
        _ => Expected::Partial(body.clone()),
    };
    Spoiled { bytes, expected, part: format!("{key} has {}", raw.escape_ascii()) }
}

/// Group or time, without which nothing can be placed.
fn essential(chance: &mut Chance, command: &str, body: &Value) -> Spoiled {
    if chance.below(2) == 0 {
        let value =
            *chance.one(&["{}", "[]", "true", "1.5", "\"soon\"", "\"\\ud83d\"", "99999999999999999999"]);
        let bytes = bytes(&with(body, "EventTime", json!(MARK)), value.as_bytes());
        return Spoiled { bytes, expected: Expected::Parked, part: format!("EventTime is {value}") };
    }
    let value = *chance.one(&["{}", "[]", "true", "7", "\"\"", "\"g\\ud83d\"", "\"g\u{1}\t\""]);
    let bytes = bytes(&with(body, "GroupId", json!(MARK)), value.as_bytes());
    // The group of a topic stands in the topic's id.
    let is_named = command == "AfterTopicDestroyed"
        && body["TopicIdList"].as_array().is_some_and(|list| !list.is_empty())
        || command.contains("Topic") && body.get("TopicId").is_some();
    let expected = if is_named { Expected::Applied(body.clone()) } else { Expected::Parked };
    Spoiled { bytes, expected, part: format!("GroupId is {value}") }
}

fn spoil(chance: &mut Chance, body: &Value) -> Spoiled {
    let command = body["CallbackCommand"].as_str().unwrap().trim_start_matches("Group.Callback").to_owned();
    let lists: Vec<&str> =
        used(&command).iter().copied().filter(|key| is_list(key) && body[*key].is_array()).collect();
    match chance.below(10) {
        0 => essential(chance, &command, body),
        1..=3 if !lists.is_empty() => bad_entry(chance, &command, body, chance_of(&lists, body)),
        1..=5 => {
            let texts: Vec<&str> = used(&command).iter().copied().filter(|key| !is_list(key)).collect();
            let texts = [&texts[..], &["Operator_Account", "Type"]].concat();
            let key = *chance.one(&texts);
            ill_formed(chance, &command, body, key)
        }
        _ => {
            let keys = [&KEYS[..], &["Operator_Account"], used(&command), used(&command)].concat();
            let key = *chance.one(&keys);
            wrong_type(chance, &command, body, key)
        }
    }
}

/// One of the lists, by something of the body, so that a list is chosen without a second draw.
fn chance_of<'a>(lists: &[&'a str], body: &Value) -> &'a str {
    lists[body.to_string().len() % lists.len()]
}

fn read(bytes: &[u8]) -> Callback {
    let received = Received::bare(
        SdkAppId::parse(APP).unwrap(),
        Millis::new(histories::BASE_MS + 60_000),
        bytes.to_vec(),
    );
    match decode(received) {
        Decoded::Kept(callback) => *callback,
        Decoded::OutOfScope(unkept) => panic!("{}", unkept.label),
    }
}

/// What the mirror shows, apart from topics, and those by their names.
fn shown_of(callback: &Callback) -> Value {
    let rows = Rows::of(mirror::facts(callback));
    let topics: Map<String, Value> = rows
        .topics
        .iter()
        .map(|((_, topic), row)| {
            let texts = row.texts.iter().map(|text| json!([text.value, text.stamp.time().get()]));
            (
                topic.as_str().to_owned(),
                json!([texts.collect::<Vec<_>>(), row.barriers.map(|stamp| stamp.time().get())]),
            )
        })
        .collect();
    let barriers: Vec<_> =
        rows.groups.values().map(|group| group.barriers.map(|stamp| stamp.time().get())).collect();
    json!([shown::pure(&rows), topics, barriers])
}

fn generated(runner: &mut TestRunner, number: u64) -> Value {
    let body = histories::body().new_tree(runner).unwrap().current();
    histories::renamed(&[body], &format!("s{number} ")).remove(0)
}

fn chance() -> (Chance, TestRunner) {
    let seed = setting("SPOILED_SEED", 1);
    (Chance::new(seed), generator(seed))
}

#[test]
fn everything_but_the_spoiled_part_is_applied() {
    let (mut chance, mut runner) = chance();
    let mut counts = [0_u32; 3];
    for number in 0..setting("SPOILED_BODIES", 1_500) {
        let body = generated(&mut runner, number);
        let Spoiled { bytes, expected, part } = spoil(&mut chance, &body);
        let callback = read(&bytes);
        let context = || format!("{number}: {part}\n{}\n{:?}", bytes.escape_ascii(), callback.reason_text());
        let (reading, model) = match &expected {
            Expected::Applied(model) => (Reading::Applied, Some(model)),
            Expected::Partial(model) => (Reading::Partial, Some(model)),
            Expected::Parked => (Reading::Parked, None),
        };
        assert_eq!(callback.reading(), reading, "{}", context());
        counts[reading as usize] += 1;
        match model {
            Some(model) => {
                let model = read(model.to_string().as_bytes());
                assert!(model.event.is_ok(), "{}", context());
                assert_eq!(shown_of(&callback), shown_of(&model), "{}", context());
            }
            None => assert!(mirror::facts(&callback).is_empty(), "{}", context()),
        }
        let has_group = callback.group.is_some();
        assert!(has_group || part.starts_with("GroupId") || part.starts_with("TopicId"), "{}", context());
    }
    assert!(counts.iter().all(|count| *count > 100), "applied, partial, parked: {counts:?}");
}

#[test]
fn with_spoiled_bodies_any_order_and_any_number_of_times_give_the_same_rows() {
    let (mut chance, mut runner) = chance();
    for number in 0..setting("SPOILED_BODIES", 1_500) / 10 {
        let history = histories::history().new_tree(&mut runner).unwrap().current();
        let mut callbacks: Vec<Callback> =
            history.iter().map(|body| read(&spoil(&mut chance, body).bytes)).collect();
        let rows = Rows::of(callbacks.iter().flat_map(mirror::facts));
        for _ in 0..4 {
            let again = callbacks[chance.below(callbacks.len())].clone();
            callbacks.push(again);
            for at in (1..callbacks.len()).rev() {
                callbacks.swap(at, chance.below(at + 1));
            }
            assert_eq!(Rows::of(callbacks.iter().flat_map(mirror::facts)), rows, "history {number}");
        }
    }
}

#[tokio::test]
async fn spoiled_bodies_over_http_leave_what_the_pure_fold_holds_and_verify_agrees() {
    let app = App::start_with(|settings| settings.mirror_avchatroom_members = Some("true".into())).await;
    let (mut chance, mut runner) = chance();
    let mut rows = Rows::default();
    for number in 0..setting("SPOILED_BODIES", 1_500) / 10 {
        let spoiled = spoil(&mut chance, &generated(&mut runner, number));
        let answer = app.service.post_with("", spoiled.bytes.clone()).await;
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(answer["ActionStatus"], "OK", "{}", spoiled.part);
        let begins = match spoiled.expected {
            Expected::Applied(_) => "",
            Expected::Partial(_) => "partial: skipped: ",
            Expected::Parked => "parked: ",
        };
        let info = answer["ErrorInfo"].as_str().unwrap();
        assert!(info.starts_with(begins) && begins.is_empty() == info.is_empty(), "{}: {info}", spoiled.part);
        rows.merge(Rows::of(mirror::facts(&read(&spoiled.bytes))));
    }
    let mut conn = app.connect().await;
    assert_eq!(dump::tables(&mut conn).await, dump::rows(&rows));
    let database = Database::new(&app.database.url).unwrap();
    let report = replay(&database, Mode::Verify, |_| {}).await.unwrap();
    assert_eq!((report.lines, report.readable_lines), (Vec::new(), Vec::new()));
    database.close().await;
    app.stop().await;
}
