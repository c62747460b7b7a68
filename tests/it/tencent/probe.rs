//! The questions of `check --probe`, asked of the fake: each answer follows the knob that it is about, and none holds an
//! id, a name or a secret.

use group_mirror::check::probe::probe;
use group_mirror::check::{CALLS_MAX, ProbeAnswer, ProbeQuestion};
use group_mirror::fake::{ADMIN, Fake};
use group_mirror::model::UserId;
use group_mirror::tencent::client::TencentClient;
use serde_json::{Value, json};
use strum::VariantArray as _;
use tokio_util::sync::CancellationToken;

use super::fake::{GROUPS, TOPICS, client, client_settings, done, fake, group};
use super::scripted::KEY;

/// An app with a group of each kind that a question needs.
async fn app(knobs: &Value) -> Fake {
    let mut all = json!({ "rate_factor": 10_000 });
    all.as_object_mut().unwrap().extend(knobs.as_object().unwrap().clone());
    let fake = fake(&all, None, 1).await;
    for (number, group_type) in ["Work", "Public", "Meeting", "Public"].into_iter().enumerate() {
        let id = format!("hush-group-{number}");
        group(&fake, group_type, &id, &[]).await;
        // Joined one after the other, and not in the order of their names.
        for (second, user) in ["hush-zoe", "hush-ben", "hush-mia"].into_iter().enumerate() {
            fake.step(1_000 + i64::try_from(second).unwrap());
            added(&fake, &id, [user.to_owned()]).await;
        }
    }
    group(&fake, "Meeting", "hush-large", &[]).await;
    for begin in (0..250).step_by(50) {
        let users: Vec<String> = (begin..begin + 50).map(|number| format!("hush-{number:03}")).collect();
        added(&fake, "hush-large", users).await;
    }
    group(&fake, "AVChatRoom", "hush-room", &[]).await;
    group(&fake, "Community", "@TGS#_hush", &[]).await;
    for begin in (0..150).step_by(50) {
        let users: Vec<String> = (begin..begin + 50).map(|number| format!("hush-{number:03}")).collect();
        added(&fake, "@TGS#_hush", users).await;
    }
    fake
}

async fn added(fake: &Fake, id: &str, users: impl IntoIterator<Item = String>) {
    let list: Value = users.into_iter().map(|user| json!({ "Member_Account": user })).collect();
    done(fake, GROUPS, "add_group_member", json!({ "GroupId": id, "MemberList": list })).await;
}

async fn asked(client: &TencentClient) -> Vec<ProbeAnswer> {
    let admin = UserId::parse(ADMIN).unwrap();
    probe(client, &admin, &CancellationToken::new()).await.unwrap()
}

fn answer(answers: &[ProbeAnswer], question: ProbeQuestion) -> String {
    let found = answers.iter().find(|answer| answer.question == question).unwrap();
    format!("{} [{}]", found.answer, found.read_from)
}

/// Whether the answer to a question of an app with these knobs holds a text.
async fn holds(knobs: Value, wanted: &[(ProbeQuestion, &str)]) {
    let fake = app(&knobs).await;
    let answers = asked(&client(&fake)).await;
    for (question, words) in wanted {
        let answer = answer(&answers, *question);
        assert!(answer.contains(words), "{knobs}: {question:?}: {answer}");
    }
}

#[tokio::test]
async fn an_app_that_does_what_the_pages_say_answers_every_question() {
    use ProbeQuestion as Q;
    holds(
        json!({}),
        &[
            (Q::IdListTotal, "TotalCount 7; 7 ids, 7 of them distinct; the list ends there"),
            (Q::IdListNext, "none but the end; at the end: 0 [2 pages]"),
            (Q::IdListOrder, "the same ids in the same order"),
            (Q::ElementOrder, "as asked for in 1 of 1 answers [7 groups]"),
            (Q::InfoSeq, "served for 0 of 7"),
            (Q::MuteAllSpelling, "MuteAllMember 7 times"),
            (Q::AvchatroomFields, "MemberNum on 0 of 1"),
            (
                Q::PackedMembers,
                "as long as MemberNum 5 times, shorter 0, longer 0, absent 0; the longest list has 251",
            ),
            (Q::MemberOrder, "by join 4 times"),
            (Q::MemberNum, "equal 5 times"),
            (Q::LargeLimit, "served: 251 rows [one group of 251 members, Limit 6000]"),
            (Q::MuteUntilSpelling, "MuteUntil 267 times"),
            (Q::RoleBlank, "0 of 267 roles"),
            (Q::CommunityPages, "151 rows, 0 of them repeated; the list ends there, MemberNum 151 [2 pages"),
            (Q::MutedListSpelling, "MutedAccountList"),
            (Q::EmptyAttributes, "empty list 5 times"),
            (Q::EmptyTopics, "empty list 2 times [1 communities]"),
            (Q::TopicsFromAdmin, "as administrator: answered 1 times; as owner: answered 1 times"),
            (
                Q::UnsupportedCodes,
                "members of an audio-video room: 10007; muted list of a Work group: 10007; topics of",
            ),
            (Q::ErrorInfo, "empty text"),
            (Q::DateHeader, "against this host's clock"),
            (Q::ContentType, "application/json"),
        ],
    )
    .await;
}

#[tokio::test]
async fn each_answer_follows_its_knob() {
    use ProbeQuestion as Q;
    for (knobs, wanted) in [
        (json!({ "next_absent": true }), vec![(Q::IdListNext, "at the end: absent")]),
        (json!({ "shuffled": true }), vec![(Q::ElementOrder, "as asked for in 0 of 1")]),
        (json!({ "info_seq": true }), vec![(Q::InfoSeq, "served for 7 of 7")]),
        (
            json!({ "spelling": "old" }),
            vec![
                (Q::MuteAllSpelling, "ShutUpAllMember 7 times"),
                (Q::MuteUntilSpelling, "ShutUpUntil 267 times"),
                (Q::MutedListSpelling, "ShuttedUinList"),
            ],
        ),
        (
            json!({ "packed_members_max": 100 }),
            vec![(Q::PackedMembers, "as long as MemberNum 4 times, shorter 1, longer 0")],
        ),
        (json!({ "list_order": "account" }), vec![(Q::MemberOrder, "by account 4 times")]),
        (
            json!({ "large_limit": "cut" }),
            vec![(Q::LargeLimit, "cut to 200"), (Q::MemberNum, "list not whole 1 times")],
        ),
        (json!({ "large_limit": "refused" }), vec![(Q::LargeLimit, "refused with 10004")]),
        (json!({ "role_blank": true }), vec![(Q::RoleBlank, "267 of 267 roles")]),
        (json!({ "cursor_repeats": 10 }), vec![(Q::CommunityPages, "161 rows, 10 of them repeated")]),
        (json!({ "no_attributes": "null" }), vec![(Q::EmptyAttributes, "null 5 times")]),
        (json!({ "no_attributes": "absent" }), vec![(Q::EmptyAttributes, "absent 5 times")]),
        (json!({ "no_topics": "null" }), vec![(Q::EmptyTopics, "null or absent 2 times")]),
        (
            json!({ "topics_for_members_only": true }),
            vec![(Q::TopicsFromAdmin, "as administrator: code 10007 1 times; as owner: answered 1 times")],
        ),
        (json!({ "error_info": false }), vec![(Q::ErrorInfo, "absent")]),
        (json!({ "date": false }), vec![(Q::DateHeader, "on none [")]),
        (json!({ "date_skew_ms": 600_000 }), vec![(Q::DateHeader, ", +")]),
    ] {
        holds(knobs, &wanted).await;
    }
}

#[tokio::test]
async fn answers_follow_the_groups_that_there_are() {
    use ProbeQuestion as Q;
    let fake = app(&json!({})).await;
    fake.step(5_000);
    done(&fake, GROUPS, "modify_group_base_info", json!({ "GroupId": "hush-group-1", "Name": "Hush" })).await;
    done(
        &fake,
        TOPICS,
        "create_topic",
        json!({ "GroupId": "@TGS#_hush", "TopicName": "Hush", "From_Account": "ana" }),
    )
    .await;
    let answers = asked(&client(&fake)).await;
    assert!(answer(&answers, Q::LastInfoTime).contains("after it 1 [5 groups]"), "{answers:?}");
    assert!(answer(&answers, Q::EmptyTopics).contains("not known"), "{answers:?}");
    // An app without groups: nothing is known, and every question is answered so.
    let empty = super::fake::fake(&json!({}), None, 1).await;
    let answers = asked(&client(&empty)).await;
    assert_eq!(answers.len(), ProbeQuestion::VARIANTS.len());
    for question in [Q::ElementOrder, Q::MemberOrder, Q::LargeLimit, Q::EmptyAttributes, Q::UnsupportedCodes]
    {
        assert!(answer(&answers, question).contains("not known"), "{answers:?}");
    }
}

#[tokio::test]
async fn answers_hold_no_id_no_name_and_no_secret_and_few_calls_are_made() {
    let fake = app(&json!({ "extra_keys": true })).await;
    let answers = asked(&client(&fake)).await;
    let shown: String = answers.iter().map(|answer| format!("{answer}\n")).collect();
    let as_json = serde_json::to_string(&answers).unwrap();
    for secret in ["hush", "ana", "TGS", "Hush", "River", KEY, "1400000001"] {
        assert!(!shown.contains(secret) && !as_json.contains(secret), "{secret}: {shown}");
    }
    let calls = answer(&answers, ProbeQuestion::DateHeader);
    let calls: usize = calls.split(" of ").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
    assert!(calls > 15 && calls <= CALLS_MAX, "{calls}");
}

#[tokio::test]
async fn a_probe_with_wrong_credentials_stops_and_answers_nothing() {
    let fake = fake(&json!({}), None, 1).await;
    let mut settings = client_settings(&fake);
    settings.admin = "hush".to_owned();
    let client = TencentClient::new(settings).unwrap();
    let admin = UserId::parse("hush").unwrap();
    let error = probe(&client, &admin, &CancellationToken::new()).await.unwrap_err().to_string();
    assert!(error.contains("60010"), "{error}");
}
