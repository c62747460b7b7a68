//! Ledger entries as sentences on the pages, in three languages: every command, what was read from Tencent, what was not
//! understood, and names that would be harm if they were not escaped.

use group_mirror::ingest;
use group_mirror::model::Millis;
use group_mirror::store::Database;
use serde_json::{Value, json};

use super::visits::{LANGUAGES, bare_tags, entries, list, page, words};
use crate::api::freshness;
use crate::support::App;
use crate::support::api::{T0, after};

/// One callback of each command and of each form that has a sentence of its own.
fn life(group: &str) -> Vec<Value> {
    let exit = |ms: i64, how: &str, users: &[&str], by: &str| {
        after(
            "MemberExit",
            group,
            ms,
            json!({"ExitType": how, "ExitMemberList": list(users), "Operator_Account": by}),
        )
    };
    let topic = format!("{group}@TOPIC#_1");
    vec![
        after(
            "CreateGroup",
            group,
            0,
            json!({"Name": "River", "Type": "Community", "Operator_Account": "admin", "Owner_Account": "ana",
                   "MemberList": list(&["boris", "chen"]), "UserDefinedDataList": [{"Key": "k", "Value": "v"}]}),
        ),
        after(
            "NewMemberJoin",
            group,
            1_000,
            json!({"NewMemberList": list(&["dora", "eve", "finn", "gus", "hal"]), "JoinType": "Invited",
                   "Operator_Account": "boris"}),
        ),
        after(
            "NewMemberJoin",
            group,
            2_000,
            json!({"NewMemberList": list(&["ida"]), "JoinType": "Apply",
               "Operator_Account": "ida"}),
        ),
        exit(3_000, "Kicked", &["eve", "finn"], "ana"),
        exit(4_000, "Quit", &["gus"], "gus"),
        exit(5_000, "Vanished", &["hal"], "ana"),
        after(
            "MemberFieldChanged",
            group,
            6_000,
            json!({"Member_Account": "dora", "Role": "Admin",
               "Operator_Account": "ana"}),
        ),
        after("MemberFieldChanged", group, 7_000, json!({"Member_Account": "dora", "NameCard": "D."})),
        after(
            "ChangeGroupOwner",
            group,
            8_000,
            json!({"OldOwner_Account": "ana", "NewOwner_Account": "dora",
               "Operator_Account": "ana"}),
        ),
        after("GroupInfoChanged", group, 9_000, json!({"Name": "", "Notification": "soon"})),
        after(
            "GroupAttrChanged",
            group,
            10_000,
            json!({"OptionType": "set", "GroupAttr": [{"key": "a", "value": "1"}]}),
        ),
        after("GroupAttrChanged", group, 11_000, json!({"OptionType": "clear"})),
        after("CreateTopic", group, 12_000, json!({"TopicId": topic, "Name": "Boats"})),
        after("TopicInfoChanged", group, 13_000, json!({"TopicId": topic, "Name": "Ships"})),
        after("TopicInfoChanged", group, 14_000, json!({"Name": "which?"})),
        after("TopicDestroyed", group, 15_000, json!({"TopicIdList": [topic]})),
        after("GroupDestroyed", group, 20_000, json!({"Operator_Account": "dora"})),
    ]
}

async fn world() -> App {
    let app = App::start().await;
    for body in life("g") {
        app.service.taken(&body).await;
    }
    app.service.parked(r#"{"CallbackCommand":"Group.CallbackAfterFoo","GroupId":"g"}"#).await;
    app.service.parked(r#"{"CallbackCommand":"Group.CallbackAfterMemberExit","GroupId":7}"#).await;
    let pools = Database::new(&app.database.url).unwrap();
    let reads = [
        freshness::profile("g", 30_000, &json!({"Name": "River again"})),
        freshness::list("g", 31_000, &json!([{"Member_Account": "dora"}, {"Member_Account": "ida"}])),
    ];
    ingest::commit_snapshots(&pools, &reads, Millis::new(T0 + 3_600_000)).await.unwrap();
    pools.close().await;
    app
}

#[tokio::test]
async fn every_command_and_every_read_has_a_sentence_in_each_language() {
    let app = world().await;
    for language in LANGUAGES {
        let events = page(&app, "/groups/g?tab=events", language).await;
        // All but the one without a group.
        assert_eq!(entries(&events).len(), life("g").len() + 3, "{language}");
        for deed in [
            "create",
            "join",
            "leave",
            "removal",
            "destroy",
            "profile",
            "member",
            "attributes",
            "owner",
            "topic",
            "read",
            "unread",
        ] {
            assert!(events.contains(&format!("class=\"deed deed-{deed}\"")), "{language}: {deed}");
        }
        let everywhere = page(&app, "/moment", language).await;
        assert_eq!(entries(&everywhere).len(), life("g").len() + 4, "{language}");
        page(&app, "/users/dora", language).await;
    }
    app.stop().await;
}

#[tokio::test]
async fn a_sentence_says_who_did_what_to_whom_and_shows_tencents_word_beside_ours() {
    let app = world().await;
    for (language, wanted) in [
        (
            "en",
            [
                "ana removed eve, finn · Tencent’s word: Kicked",
                "boris brought in dora, eve, finn and 2 more · Tencent’s word: Invited",
                "ana made dora the owner",
                "Not understood: Group.CallbackAfterFoo",
            ],
        ),
        (
            "ja",
            [
                "ana が eve、finn を削除しました · Tencent の用語: Kicked",
                "boris が dora、eve、finnほか 2 人 を招待して追加しました",
                "ana が dora をオーナーにしました",
                "解釈できません: Group.CallbackAfterFoo",
            ],
        ),
        (
            "zh",
            [
                "ana 移出了 eve、finn · 腾讯用语：Kicked",
                "boris 邀请 dora、eve、finn等，另有 2 人 加入了群组",
                "ana 将 dora 设为群主",
                "无法理解：Group.CallbackAfterFoo",
            ],
        ),
    ] {
        let said = entries(&page(&app, "/groups/g?tab=events", language).await).join("\n");
        for wanted in wanted {
            assert!(said.contains(wanted), "{language}: {wanted:?} not in\n{said}");
        }
    }
    let said = entries(&page(&app, "/moment", "en").await).join("\n");
    assert!(said.contains("without a group that can be read"), "{said}");
    // A callback of a leave names the leaver as its operator as well, so the sentence names one person.
    let gus = entries(&page(&app, "/users/gus", "en").await).join("\n");
    assert!(gus.contains("gus left River again") && !gus.contains("operator: gus"), "{gus}");
    app.stop().await;
}

/// Names of users, groups and values that a page must show and not obey.
const NASTY: [&str; 6] = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "' onmouseover='alert(1)",
    "\u{202E}gnp.exe",
    "{ $by } ⟨{0}⟩ \u{E000}\u{E001}",
    "a/b?c#d%2e&lt;",
];

#[tokio::test]
async fn nasty_names_are_shown_and_do_nothing() {
    let app = App::start().await;
    for (number, name) in NASTY.iter().enumerate() {
        let ms = i64::try_from(number).unwrap() * 1_000;
        let group = format!("g {name}");
        app.service
            .taken(&after(
                "CreateGroup",
                &group,
                ms,
                json!({"Name": name, "Type": name, "Operator_Account": name,
            "Owner_Account": name, "MemberList": list(&[name, "ana"]), "Introduction": name,
            "UserDefinedDataList": [{"Key": name, "Value": name}]}),
            ))
            .await;
        app.service
            .taken(&after(
                "MemberExit",
                &group,
                ms + 500,
                json!({"ExitType": name, "Operator_Account": "ana",
            "ExitMemberList": list(&[name])}),
            ))
            .await;
    }
    for name in NASTY {
        let group = encoded(&format!("g {name}"));
        let mut shown = Vec::new();
        for path in [
            format!("/groups/{group}"),
            format!("/groups/{group}?tab=events"),
            format!("/groups/{group}?tab=fields"),
            format!("/groups/{group}?at=2026-01-02&status=all"),
            format!("/groups/{group}/raw"),
            format!("/users/{}", encoded(name)),
            "/users/ana".to_owned(),
            "/moment".to_owned(),
        ] {
            let (status, html) = super::visits::visited(&app, &path, "en").await;
            assert_eq!(status, 200, "{path}: {html}");
            for tag in bare_tags(&html) {
                let harm =
                    ["img", "script a"].iter().any(|harm| tag.starts_with(harm)) || tag.contains(" on");
                assert!(!harm, "{path}: <{tag}>");
            }
            assert_eq!(html.matches("<script").count(), 1, "{path}: the console's own");
            shown.push(words(&html));
        }
        assert!(shown[0].contains(name.trim_end()), "{name}: {}", shown[0]);
    }
    app.stop().await;
}

/// Percent-encodes all but letters and digits.
pub(crate) fn encoded(text: &str) -> String {
    text.bytes()
        .map(
            |byte| {
                if byte.is_ascii_alphanumeric() {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            },
        )
        .collect()
}
