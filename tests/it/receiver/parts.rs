//! Bodies of which a part cannot be read, as senders really produce them: the rest is applied, the answer, the ledger, the
//! feed, the metrics and the history say what was skipped and why.

use group_mirror::callback::{ReasonCause, SKIPS_LISTED_MAX};
use serde_json::{Value, json};
use strum::VariantArray as _;

use crate::support::postgres::TestDatabase;
use crate::support::process::{Place, Process};
use crate::support::{API_TOKEN, App, OK, eventually, sample, signed_query};

const GROUP: &str = "/v1/groups/field";

/// The start of every body of one group, at so many seconds.
fn head(command: &str, second: i64) -> String {
    format!(
        r#"{{"CallbackCommand":"Group.CallbackAfter{command}","EventTime":{},"GroupId":"field","Operator_Account":"ana","Type":"Public""#,
        1_767_225_600_000 + second * 1_000
    )
}

/// Posts a body that ends with these bytes; answers with `ErrorInfo`.
async fn post(app: &App, command: &str, second: i64, rest: &[u8]) -> String {
    let body = [head(command, second).as_bytes(), rest, b"}"].concat();
    let answer: Value = app.service.post_with("", body).await.json().await.unwrap();
    assert_eq!(answer["ActionStatus"], "OK", "{answer}");
    answer["ErrorInfo"].as_str().unwrap().to_owned()
}

async fn created(app: &App) {
    let rest = br#","MemberList":[{"Member_Account":"bo"},{"Member_Account":"cy"}],"Name":"Walkers","Owner_Account":"ana""#;
    assert_eq!(post(app, "CreateGroup", 0, rest).await, "");
}

#[tokio::test]
async fn a_text_that_is_not_valid_unicode_is_repaired_and_the_rest_counts() {
    let app = App::start().await;
    created(&app).await;
    let name = |second: i64, raw: &'static [u8]| {
        let rest =
            [b",\"Name\":\"", raw, b"\",\"Notification\":\"", second.to_string().as_bytes(), b"\""].concat();
        (second, rest)
    };
    let cases: [(&[u8], &str); 7] = [
        (b"cut \xe5\x95", "cut \u{fffd}"),
        (b"\\ud83d\\ud83d", "\u{fffd}\u{fffd}"),
        (b"half \\ud83d", "half \u{fffd}"),
        (b"\xed\xa0\xbd\xed\xb8\x80", "\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}"),
        (b"\xc4\xe3", "\u{fffd}\u{fffd}"),
        (b"tab\there", "tab\u{fffd}here"),
        (b"line\nbreak", "line\u{fffd}break"),
    ];
    for ((raw, shown), second) in cases.into_iter().zip(1..) {
        let (second, rest) = name(second, raw);
        assert_eq!(post(&app, "GroupInfoChanged", second, &rest).await, "", "{}", raw.escape_ascii());
        let group = app.service.read(GROUP).await;
        assert_eq!((&group["name"], &group["notification"]), (&json!(shown), &json!(second.to_string())));
    }
    // The ledger keeps the bytes.
    let mut conn = app.connect().await;
    let kept: i64 = sqlx::query_scalar(
        r"SELECT count(*) FROM ledger WHERE position('\x63757420e59522'::bytea IN body) > 0",
    )
    .fetch_one(&mut conn)
    .await
    .unwrap();
    assert_eq!(kept, 1);
    // Around the body: a byte order mark before it, NUL behind it.
    let body =
        [b"\xef\xbb\xbf", head("GroupInfoChanged", 20).as_bytes(), b",\"Name\":\"marked\"}\0"].concat();
    assert_eq!(app.service.post_with("", body).await.text().await.unwrap(), OK);
    assert_eq!(app.service.read(GROUP).await["name"], "marked");
    let rest = br#","Member_Account":"bo","NameCard":"bo \ud83d","Role":"Admin""#;
    assert_eq!(post(&app, "MemberFieldChanged", 21, rest).await, "");
    assert_eq!(
        post(
            &app,
            "GroupAttrChanged",
            22,
            b",\"OptionType\":\"set\",\"GroupAttr\":[{\"key\":\"seat\",\"value\":\"\x80\"}]"
        )
        .await,
        ""
    );
    assert_eq!(
        post(
            &app,
            "GroupInfoChanged",
            23,
            b",\"UserDefinedDataList\":[{\"Key\":\"f\",\"Value\":\"\xff\xfe\"}]"
        )
        .await,
        ""
    );
    let group = app.service.read(GROUP).await;
    assert_eq!(group["attributes"], json!({ "seat": "\u{fffd}" }));
    assert_eq!(group["user_defined_fields"], json!({ "f": "\u{fffd}\u{fffd}" }));
    let bo = &app.service.read(&format!("{GROUP}/members")).await["items"][1];
    assert_eq!((&bo["role"], &bo["name_card"]), (&json!("Admin"), &json!("bo \u{fffd}")));
    assert_eq!(post(&app, "GroupDestroyed", 40, b",\"Name\":\"cut \xe5\",\"MemberList\":\"odd\"").await, "");
    assert_eq!(app.service.read(GROUP).await["status"], "destroyed");
    app.stop().await;
}

#[tokio::test]
async fn two_users_or_keys_that_look_alike_after_a_repair_never_become_one() {
    let app = App::start().await;
    created(&app).await;
    let rest = br#","NewMemberList":[{"Member_Account":"u\ud83d"},{"Member_Account":"dora"},{"Member_Account":"u\ud83e"}]"#;
    let info = post(&app, "NewMemberJoin", 1, rest).await;
    assert!(
        info.starts_with("partial: skipped: in entry 1 of NewMemberList: \"u\u{fffd}\" is not valid Unicode"),
        "{info}"
    );
    let info = post(
        &app,
        "GroupInfoChanged",
        2,
        b",\"UserDefinedDataList\":[{\"Key\":\"k\xe5\",\"Value\":\"1\"},{\"Key\":\"k\",\"Value\":\"2\"}]",
    )
    .await;
    assert!(info.starts_with("partial: "), "{info}");
    assert!(
        post(&app, "NewMemberJoin", 3, b",\"NewMemberList\":[{\"Member_Account\":\"\xe5\"}]")
            .await
            .starts_with("parked: ")
    );
    assert!(
        post(&app, "MemberFieldChanged", 3, b",\"Member_Account\":\"\xe5\",\"Role\":\"Admin\"")
            .await
            .starts_with("parked: ")
    );
    // An operator is a user too; the rest counts.
    let info = post(
        &app,
        "NewMemberJoin",
        4,
        b",\"NewMemberList\":[{\"Member_Account\":\"ed\"}],\"Operator_Account\":\"an\xe5\"",
    )
    .await;
    assert!(info.starts_with("partial: "), "{info}");
    let members = app.service.read(&format!("{GROUP}/members")).await;
    let users: Vec<_> =
        members["items"].as_array().unwrap().iter().map(|member| member["user_id"].clone()).collect();
    assert_eq!(users, ["ana", "bo", "cy", "dora", "ed"]);
    assert_eq!(app.service.read(GROUP).await["user_defined_fields"], json!({ "k": "2" }));
    let group =
        json!({ "CallbackCommand": "Group.CallbackAfterGroupDestroyed", "GroupId": "MARK" }).to_string();
    let answer = app.service.post_with("", group.replace("MARK", "field\\ud83d")).await;
    assert!(answer.text().await.unwrap().contains("parked: GroupId names no group"));
    assert_eq!(app.service.read(GROUP).await["status"], "active");
    app.stop().await;
}

#[tokio::test]
async fn a_field_that_a_command_does_not_use_cannot_harm_it() {
    let app = App::start().await;
    created(&app).await;
    for (command, rest) in [
        ("MemberExit", r#","ExitMemberList":[{"Member_Account":"bo"}],"Name":{"zh":"x"},"Role":200"#),
        ("NewMemberJoin", r#","NewMemberList":[{"Member_Account":"dora"}],"Owner_Account":{"UserID":"ana"}"#),
        ("ChangeGroupOwner", r#","NewOwner_Account":"cy","OldOwner_Account":"ana","NewMemberList":"cy""#),
        ("GroupInfoChanged", r#","Notification":"hi","Role":400,"MemberList":[[[]]]"#),
    ] {
        assert_eq!(post(&app, command, 20, rest.as_bytes()).await, "", "{command}");
    }
    let group = app.service.read(GROUP).await;
    assert_eq!(
        (&group["owner"], &group["notification"], &group["member_count"]),
        (&json!("cy"), &json!("hi"), &json!(3))
    );
    assert_eq!(
        post(&app, "GroupDestroyed", 40, br#","UserDefinedDataList":{},"Type":{},"Owner_Account":7"#).await,
        ""
    );
    assert_eq!(app.service.read(GROUP).await["status"], "destroyed");
    app.stop().await;
}

#[tokio::test]
async fn an_unexpected_role_or_entry_is_skipped_alone_and_recorded_everywhere() {
    let app = App::start().await;
    created(&app).await;
    for (role, second) in [("Owner", 1), ("", 2), ("300", 3), ("NotMember", 4)] {
        let rest = format!(r#","Member_Account":"bo","NameCard":"card {second}","Role":"{role}""#);
        let info = post(&app, "MemberFieldChanged", second, rest.as_bytes()).await;
        assert_eq!(
            info,
            format!("partial: skipped: Role is {role:?}; a member's role changes to Admin or Member")
        );
        let bo = &app.service.read(&format!("{GROUP}/members")).await["items"][1];
        assert_eq!((&bo["role"], &bo["name_card"]), (&json!("Member"), &json!(format!("card {second}"))));
    }
    let rest = br#","NewMemberList":["x",{"Member_Account":"dora"},{"Member_Account":""},{}]"#;
    let info = post(&app, "NewMemberJoin", 5, rest).await;
    assert_eq!(
        info,
        "partial: skipped: entry 1 of NewMemberList is of another JSON type: \"x\"; skipped: in entry 3 of NewMemberList: \
         the user id is empty; it must name something; skipped: entry 4 of NewMemberList has no Member_Account"
    );
    let newest = &app.service.read(&format!("{GROUP}/history")).await["items"][0];
    assert_eq!((&newest["outcome"], &newest["users"]), (&json!("partial"), &json!(["dora"])));
    assert_eq!(newest["causes"], json!(["missing_field", "wrong_type", "bad_id"]));
    assert_eq!(format!("partial: {}", newest["reason"].as_str().unwrap()), info);
    for (query, found) in [
        ("outcome=partial", 5),
        ("outcome=applied", 1),
        ("cause=unknown_role", 4),
        ("cause=bad_id", 1),
        ("cause=not_json", 0),
    ] {
        let page = app.service.read(&format!("{GROUP}/history?{query}")).await;
        assert_eq!(page["items"].as_array().unwrap().len(), found, "{query}");
    }
    assert_eq!(app.service.read("/v1/changes").await["items"][5]["outcome"], "partial");
    let counted = async || {
        app.service.read("/v1/stats").await["ledger"]
            == json!({ "applied": 1, "partial": 5, "parked": 0, "parked_by_cause": {}, "partial_by_cause":
                       { "unknown_role": 4, "wrong_type": 1, "bad_id": 1, "missing_field": 1 } })
    };
    assert!(eventually(counted).await);
    app.stop().await;
}

#[tokio::test]
async fn a_parked_callback_stands_under_its_group_wherever_that_can_be_read() {
    let app = App::start().await;
    let head = head("NewMemberJoin", 1);
    for (rest, cause) in [
        (r#","NewMemberList":7}"#, "wrong_type"),
        (r#","NewMemberList":[{"Member_Account":"bo"#, "not_json"),
        (r#","NewMemberList":[],"EventTime":"soon"}"#, "bad_time"),
        (r#","NewMemberList":[{"Member_Account":7}]}"#, "wrong_type"),
    ] {
        let body = format!("{head}{rest}");
        app.service.parked(&body).await;
        let newest =
            &app.service.read(&format!("{GROUP}/history?cause={cause}&outcome=parked")).await["items"][0];
        assert_eq!(newest["causes"], json!([cause]), "{body}");
    }
    app.stop().await;
}

/// One counter as the program shows it.
async fn metric(service: &Process, name: &str, cause: &str) -> Option<u64> {
    let text = service.get_as(API_TOKEN, "/metrics").await.text().await.unwrap();
    let line = format!("{name}{{cause=\"{cause}\"}} ");
    text.lines().find_map(|row| row.strip_prefix(&line)).and_then(|count| count.parse().ok())
}

#[tokio::test]
async fn parked_and_partial_callbacks_are_counted_by_cause_from_the_start_and_logged_without_their_content() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let service = Process::start(place.command_on(&database.url, &[])).ready().await;
    for cause in ReasonCause::VARIANTS {
        assert_eq!(ReasonCause::of_label(cause.label()), Some(*cause));
        for name in ["group_mirror_parked_total", "group_mirror_partial_total"] {
            assert_eq!(metric(&service, name, cause.label()).await, Some(0), "{name} {}", cause.label());
        }
    }
    let mut topics = sample("Group.CallbackAfterTopicDestroyed");
    topics["TopicIdList"] = json!(["g@TOPIC#_a", "h@TOPIC#_a"]);
    topics["GroupId"] = json!("of the harbour");
    let role =
        format!("{},\"Member_Account\":\"bo\",\"Role\":\"quoted role\"}}", head("MemberFieldChanged", 1));
    for body in [topics.to_string(), role] {
        assert_eq!(service.post(&signed_query(), body).await.status(), 200);
    }
    let counted = async || {
        metric(&service, "group_mirror_parked_total", "several_groups").await == Some(1)
            && metric(&service, "group_mirror_partial_total", "unknown_role").await == Some(1)
    };
    assert!(eventually(counted).await);
    let logged = async || service.log().contains("a callback is parked");
    assert!(eventually(logged).await, "{}", service.log());
    let log = service.log();
    let line = log.lines().find(|line| line.contains("a callback is parked")).unwrap();
    for word in ["Group.CallbackAfterTopicDestroyed", "several_groups", "of the harbour"] {
        assert!(line.contains(word), "{line}");
    }
    assert!(!log.contains("quoted role") && !log.contains("@TOPIC#_a"), "{log}");
    service.ends_well_on("TERM").await;
}

/// So long in bytes is one reason at most: 160 characters, of which each takes ten where it has to be escaped.
const REASON_MAX: usize = 2_000;

#[tokio::test]
async fn a_reason_quotes_a_limited_part_of_what_was_sent_however_long_that_is() {
    let app = App::start().await;
    // Shown as \u{10ffff} where it is quoted.
    let long = "\u{10ffff}".repeat(200_000);
    let group = r#""GroupId":"field""#;
    let change = r#""CallbackCommand":"Group.CallbackAfterMemberFieldChanged""#;
    let mut bodies = vec![
        format!(r#"{{"CallbackCommand":"Group.{long}",{group}}}"#),
        format!(r#"{{"CallbackCommand":"Group.CallbackAfterGroupDestroyed","GroupId":"{long}"}}"#),
        format!(r#"{{{change},{group},"Member_Account":"bo","Role":"{long}"}}"#),
        format!(r#"{{{change},{group},"Member_Account":"{long}"}}"#),
        format!(r#"{{{change},{group},"Member_Account":["{long}"]}}"#),
        format!(r#"{{{change},{group},"Member_Account":"bo","EventTime":"{long}"}}"#),
        format!(r#"{{{change},{group},"Member_Account":"bo","Role":{{"{long}":1"#),
        format!(
            r#"{{"CallbackCommand":"Group.CallbackAfterDestroyTopic",{group},"TopicIdList":["{long}"]}}"#
        ),
    ];
    let list: Vec<String> =
        (0..1_000).map(|_| format!(r#"{{"Member_Account":"{}"}}"#, &long[..800])).collect();
    bodies.push(format!(
        r#"{{"CallbackCommand":"Group.CallbackAfterNewMemberJoin",{group},"NewMemberList":[{{"Member_Account":"bo"}},{}]}}"#,
        list.join(",")
    ));
    for body in &bodies {
        let answer: Value = app.service.post_with("", body.clone()).await.json().await.unwrap();
        let info = answer["ErrorInfo"].as_str().unwrap();
        assert!(!info.is_empty(), "{}", &body[..80]);
        let reasons = info.split("; skipped: ").count();
        assert!(reasons <= SKIPS_LISTED_MAX, "{reasons}");
        assert!(info.len() <= reasons * REASON_MAX, "{} bytes for {}", info.len(), &body[..80]);
    }
    let (mut shown, mut next) = (0, String::new());
    loop {
        let page = app.service.read(&format!("/v1/parked?limit=4{next}")).await;
        for entry in page["items"].as_array().unwrap() {
            let reason = entry["reason"].as_str().unwrap();
            assert!(reason.len() <= SKIPS_LISTED_MAX * REASON_MAX, "{}", reason.len());
            shown += 1;
        }
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        next = format!("&cursor={cursor}");
    }
    assert_eq!(shown, bodies.len());
    app.stop().await;
}

/// The database would refuse the whole callback for a type that does not fit into an index.
#[tokio::test]
async fn a_type_that_no_index_can_hold_costs_the_type_alone() {
    let app = App::start().await;
    let mut chance = fastrand::Rng::with_seed(1);
    for (second, length) in [(0, 513), (1, 3_000), (2, 200_000)] {
        let long: String = (0..length).map(|_| chance.alphanumeric()).collect();
        let body = json!({
            "CallbackCommand": "Group.CallbackAfterCreateGroup", "EventTime": 1_767_225_600_000_i64 + second,
            "GroupId": format!("g{second}"), "Name": "River walkers", "Owner_Account": "ana", "Type": long,
        });
        let answer: Value = app.service.post_with("", body.to_string()).await.json().await.unwrap();
        let info = answer["ErrorInfo"].as_str().unwrap();
        assert!(info.starts_with("partial: skipped: in Type: Type has "), "{info}");
        let group = app.service.read(&format!("/v1/groups/g{second}")).await;
        let shown = ["status", "type", "name", "owner"].map(|key| group[key].clone());
        assert_eq!(shown, [json!("active"), Value::Null, json!("River walkers"), json!("ana")]);
    }
    app.stop().await;
}
