//! The history of an app and that of a person, over HTTP: what is in them, in which order, and what each filter leaves out.

use std::collections::BTreeSet;

use group_mirror::store::Database;
use serde_json::{Value, json};
use sqlx::Executor as _;

use crate::api::freshness::{list as list_read, profile, take};
use crate::api::reads::created;
use crate::support::api::{Api, T0, after, assert_problem};
use crate::support::{API_TOKEN, App};

fn users(users: &[&str]) -> Value {
    users.iter().map(|user| json!({ "Member_Account": user })).collect()
}

/// Three groups; `ana` creates, `mod` removes, `zoe` is there, is removed, and owns a group in the end; twelve entries.
fn lives() -> Vec<Value> {
    let by = |operator: &str, key: &str, of: &[&str]| json!({ "Operator_Account": operator, key: users(of) });
    vec![
        created(
            "a",
            0,
            "Owls",
            json!({ "Operator_Account": "ana", "Owner_Account": "ana", "MemberList": users(&["zoe", "bo"]) }),
        ),
        created("b", 1_000, "Larks", json!({ "Operator_Account": "bo", "Owner_Account": "bo" })),
        created("c", 2_000, "Wrens", json!({ "Operator_Account": "admin", "Owner_Account": "cy" })),
        after("NewMemberJoin", "b", 3_000, by("bo", "NewMemberList", &["zoe", "ana"])),
        // One millisecond, three groups.
        after("NewMemberJoin", "a", 4_000, by("ana", "NewMemberList", &["u1", "mod"])),
        after("NewMemberJoin", "b", 4_000, by("bo", "NewMemberList", &["u2", "mod"])),
        after("NewMemberJoin", "c", 4_000, by("cy", "NewMemberList", &["u3", "mod", "zoe"])),
        after("MemberExit", "a", 5_000, by("mod", "ExitMemberList", &["zoe"])),
        after(
            "MemberFieldChanged",
            "b",
            6_000,
            json!({ "Operator_Account": "zoe", "Member_Account": "zoe", "NameCard": "Z" }),
        ),
        after("GroupInfoChanged", "c", 7_000, json!({ "Operator_Account": "zoe", "Name": "Robins" })),
        after(
            "ChangeGroupOwner",
            "c",
            8_000,
            json!({ "Operator_Account": "admin", "OldOwner_Account": "cy", "NewOwner_Account": "zoe" }),
        ),
        after("GroupDestroyed", "b", 9_000, json!({ "Operator_Account": "bo" })),
    ]
}

async fn lived() -> App {
    let app = App::start().await;
    for body in lives() {
        app.service.taken(&body).await;
    }
    app
}

async fn page(app: &App, path: &str) -> Vec<Value> {
    app.service.read(path).await["items"].as_array().unwrap().clone()
}

/// Second, group and command of each entry.
fn shown(entries: &[Value]) -> Vec<String> {
    let short = |entry: &Value| {
        let text = |key: &str| entry[key].as_str().unwrap_or("-").to_owned();
        let command = text("command").replace("Group.CallbackAfter", "");
        let second = text("event_time").get(17..19).unwrap_or("-").trim_start_matches('0').to_owned();
        format!("{second} {} {command}", text("group_id"))
    };
    entries.iter().map(short).collect()
}

/// All pages with so many entries each.
async fn walk(app: &App, path: &str, limit: usize) -> Vec<Value> {
    let (mut seen, mut next) = (Vec::new(), String::new());
    loop {
        let page = app.service.read(&format!("{path}limit={limit}{next}")).await;
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= limit);
        seen.extend(items.iter().cloned());
        assert!(seen.len() < 1_000, "{path} does not end");
        let Some(cursor) = page["next_cursor"].as_str() else { return seen };
        next = format!("&cursor={cursor}");
    }
}

#[tokio::test]
async fn the_history_of_an_app_has_the_entries_of_all_groups_newest_first_each_once() {
    let app = lived().await;
    let all = page(&app, "/v1/history").await;
    let seconds: Vec<i64> =
        shown(&all).iter().map(|line| line.split(' ').next().unwrap().parse().unwrap_or(0)).collect();
    assert_eq!(seconds, [9, 8, 7, 6, 5, 4, 4, 4, 3, 2, 1, 0]);
    let names: BTreeSet<_> =
        all.iter().map(|entry| (entry["group_id"].as_str(), entry["group_name"].as_str())).collect();
    let wanted = [("a", "Owls"), ("b", "Larks"), ("c", "Robins")];
    assert_eq!(
        names,
        wanted.map(|(group, name)| (Some(group), Some(name))).into(),
        "the names that they have now"
    );
    assert!(all.iter().all(|entry| entry.get("parts").is_none()), "no person was asked for");
    for limit in 1..=5 {
        assert_eq!(walk(&app, "/v1/history?", limit).await, all, "{limit}");
    }
    app.stop().await;
}

#[tokio::test]
async fn every_filter_of_the_history_of_an_app_narrows_to_what_it_names() {
    let app = lived().await;
    app.service
        .parked(r#"{"CallbackCommand":"Group.CallbackAfterCreateGroup","Operator_Account":"zoe"}"#)
        .await;
    for (query, count) in [
        ("", 13),
        ("outcome=applied", 12),
        ("outcome=parked", 1),
        ("command=Group.CallbackAfterNewMemberJoin", 4),
        ("operator=zoe", 3),
        ("operator=zoe&outcome=applied", 2),
        ("operator=zoe&command=Group.CallbackAfterGroupInfoChanged", 1),
        ("operator=mod", 1),
        ("operator=u1", 0),
        ("source=callback", 13),
        ("source=rest", 0),
        ("after=2026-01-01T00:00:04Z&before=2026-01-01T00:00:08Z", 3),
        ("after=2026-01-01T00:00:03.999Z&before=2026-01-01T00:00:04.001Z", 3),
        ("before=2026-01-01T00:00:00Z", 0),
        ("after=0001-01-01T00:00:00Z&before=9999-12-31T23:59:59.999Z", 13),
        ("sdk_app_id=7", 0),
    ] {
        let found = page(&app, &format!("/v1/history?{query}")).await;
        assert_eq!(found.len(), count, "{query}: {:?}", shown(&found));
        let walked = walk(&app, &format!("/v1/history?{query}&"), 1).await;
        assert_eq!(walked, found, "{query}");
    }
    app.stop().await;
}

#[tokio::test]
async fn the_history_of_a_person_has_what_the_person_did_and_what_happened_to_the_person_over_all_groups() {
    let app = lived().await;
    let entries = page(&app, "/v1/users/zoe/history").await;
    let parts = |entry: &Value| {
        entry["parts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|part| part.as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
            .join("+")
    };
    let lines: Vec<String> = shown(&entries)
        .into_iter()
        .zip(&entries)
        .map(|(line, entry)| format!("{line}: {}", parts(entry)))
        .collect();
    let wanted = [
        "8 c ChangeGroupOwner: owner",
        "7 c GroupInfoChanged: operator",
        "6 b MemberFieldChanged: operator+member",
        "5 a MemberExit: member",
        "4 c NewMemberJoin: member",
        "3 b NewMemberJoin: member",
        " a CreateGroup: member",
    ];
    assert_eq!(lines, wanted);
    let removed = &entries[3];
    assert_eq!(
        (&removed["operator"], &removed["users"], &removed["user_count"]),
        (&json!("mod"), &json!(["zoe"]), &json!(1))
    );
    assert_eq!(removed["group_name"], "Owls");
    for limit in 1..=4 {
        assert_eq!(walk(&app, "/v1/users/zoe/history?", limit).await, entries, "{limit}");
    }
    for (query, count) in [
        ("part=operator", 2),
        ("part=member", 5),
        ("part=owner", 1),
        ("part=member&command=Group.CallbackAfterMemberExit", 1),
        ("part=owner&command=Group.CallbackAfterMemberExit", 0),
        ("command=Group.CallbackAfterNewMemberJoin", 2),
        ("outcome=parked", 0),
        ("after=2026-01-01T00:00:04Z&before=2026-01-01T00:00:08Z", 3),
        ("sdk_app_id=7", 0),
    ] {
        let found = page(&app, &format!("/v1/users/zoe/history?{query}")).await;
        assert_eq!(found.len(), count, "{query}: {:?}", shown(&found));
        assert_eq!(walk(&app, &format!("/v1/users/zoe/history?{query}&"), 1).await, found, "{query}");
    }
    for (user, count) in [("ana", 3), ("mod", 4), ("cy", 3), ("bo", 5), ("nobody", 0), ("zo", 0)] {
        assert_eq!(page(&app, &format!("/v1/users/{user}/history")).await.len(), count, "{user}");
    }
    app.stop().await;
}

#[tokio::test]
async fn what_is_parked_is_in_the_history_of_whom_its_body_names_and_once_it_is_applied_in_another_part() {
    let app = App::start().await;
    for body in [
        r#"{"CallbackCommand":"Group.CallbackAfterNewMemberJoin","GroupId":"g","NewMemberList":"x","Operator_Account":"zoe"}"#,
        r#"{"CallbackCommand":"Group.CallbackAfterMemberFieldChanged","Member_Account":"zoe","NameCard":"Z"}"#,
        r#"{"CallbackCommand":"Group.CallbackAfterNewMemberJoin","GroupId":"g","NewMemberList":[{"Member_Account":"zoe"},{"Member_Account":7}]}"#,
        r#"{"CallbackCommand":"Group.CallbackAfterCreateGroup","Owner_Account":"zoe","Operator_Account":"cut o"#,
    ] {
        assert_eq!(app.service.post_with("", body).await.status(), 200, "{body}");
    }
    let entries = page(&app, "/v1/users/zoe/history").await;
    let told: Vec<_> = entries
        .iter()
        .map(|entry| format!("{} {} {}", entry["outcome"], entry["group_id"], entry["parts"]))
        .collect();
    let wanted: BTreeSet<String> = [
        r#""parked" "g" ["operator"]"#,
        r#""parked" null ["member"]"#,
        r#""partial" "g" ["member"]"#,
        r#""parked" null ["owner"]"#,
    ]
    .map(str::to_owned)
    .into();
    assert_eq!(told.into_iter().collect::<BTreeSet<_>>(), wanted);
    assert_eq!(page(&app, "/v1/users/zoe/history?outcome=partial").await[0]["users"], json!(["zoe"]));
    app.stop().await;
}

/// Of a read of Tencent the owner of a profile and who is missing in a list: no list is an event of those whom it names.
#[tokio::test]
async fn a_read_of_tencent_is_in_the_history_of_the_owner_and_of_whom_a_list_leaves_out_alone() {
    let api = Api::of(&[created(
        "g",
        0,
        "g",
        json!({ "Owner_Account": "ana", "MemberList": users(&["boris", "chen"]) }),
    )])
    .await;
    let members = json!([{ "Member_Account": "ana", "Role": "Owner", "JoinTime": T0 / 1000 }, { "Member_Account": "boris", "JoinTime": T0 / 1000 }]);
    take(
        &api,
        &[profile("g", 20_000, &json!({ "Owner_Account": "boris" })), list_read("g", 30_000, &members)],
    )
    .await;
    let told = async |user: &str| {
        let page = api.json(&format!("/v1/users/{user}/history")).await;
        let entries = page["items"].as_array().unwrap();
        entries
            .iter()
            .map(|entry| format!("{} {}", entry["command"].as_str().unwrap(), entry["parts"]))
            .collect::<Vec<_>>()
    };
    assert_eq!(told("boris").await, [r#"get_group_info ["owner"]"#]);
    assert_eq!(told("chen").await, [r#"get_group_member_info ["member"]"#]);
    assert_eq!(told("ana").await, [] as [&str; 0]);
    let of_app = api.json("/v1/history?source=rest").await;
    assert_eq!(of_app["items"].as_array().unwrap().len(), 2);
    let of_feed = api.json("/v1/changes").await;
    assert_eq!(
        (&of_feed["items"][1]["users"], &of_feed["items"][1]["user_count"]),
        (&json!(["chen"]), &json!(1))
    );
    let pools = Database::new(&api.url()).unwrap();
    pools.close().await;
    api.stop().await;
}

#[tokio::test]
async fn a_page_ends_after_4_mib_of_bodies_and_leads_on() {
    let app = App::start().await;
    let long = "x".repeat(900 * 1024);
    for number in 0..7 {
        app.service
            .taken(&after(
                "GroupInfoChanged",
                "g",
                number,
                json!({ "Operator_Account": "zoe", "Ignored": long }),
            ))
            .await;
    }
    for path in ["/v1/history?", "/v1/users/zoe/history?", "/v1/history?operator=zoe&"] {
        let first = app.service.read(&format!("{path}limit=500")).await;
        assert_eq!(
            first["items"].as_array().unwrap().len(),
            5,
            "{path}: the first one beyond the limit is the last"
        );
        assert!(first["next_cursor"].is_string());
        assert_eq!(walk(&app, path, 500).await.len(), 7, "{path}");
    }
    app.stop().await;
}

#[tokio::test]
async fn bodies_and_client_addresses_of_both_histories_need_the_right_to_them() {
    let app =
        App::start_with(|settings| settings.api_token = Some("plain:secret,support+raw:more".into())).await;
    let body = after("GroupInfoChanged", "g", 0, json!({ "Operator_Account": "zoe", "Name": "G" }));
    assert_eq!(app.service.post_with("&ClientIP=203.0.113.9", body.to_string()).await.status(), 200);
    let get = async |path: &str, token: &str| {
        app.service.client.get(app.service.api_url(path)).bearer_auth(token).send().await.unwrap()
    };
    for path in ["/v1/history?", "/v1/users/zoe/history?"] {
        let plain: Value = get(path, "secret").await.json().await.unwrap();
        assert_eq!(plain["items"][0]["client_ip"], Value::Null, "{path}");
        assert_problem(get(&format!("{path}with=body"), "secret").await, 403, "forbidden").await;
        let whole: Value = get(&format!("{path}with=body"), "more").await.json().await.unwrap();
        assert_eq!(whole["items"][0]["client_ip"], "203.0.113.9", "{path}");
        assert_eq!(whole["items"][0]["body"], body.to_string(), "{path}");
    }
    app.stop().await;
}

#[tokio::test]
async fn forged_cursors_and_parameters_that_are_none_are_refused() {
    let app = lived().await;
    let problem = async |path: &str, code: &str| {
        let answer =
            app.service.client.get(app.service.api_url(path)).bearer_auth(API_TOKEN).send().await.unwrap();
        assert_problem(answer, 400, code).await
    };
    let cursor = app.service.read("/v1/history?limit=1").await["next_cursor"].as_str().unwrap().to_owned();
    for path in [
        "/v1/users/zoe/history?",
        "/v1/history?outcome=applied&",
        "/v1/groups/a/history?",
        "/v1/history?sdk_app_id=7&",
    ] {
        problem(&format!("{path}cursor={cursor}"), "bad_cursor").await;
    }
    for path in [
        "/v1/history?part=owner",
        "/v1/users/zoe/history?operator=x",
        "/v1/users/zoe/history?part=boss",
        "/v1/history?source=sky",
        "/v1/history?operator=",
    ] {
        problem(path, "bad_parameter").await;
    }
    app.stop().await;
}

/// A row of the index whose entry is gone, and one that is there twice.
#[tokio::test]
async fn a_row_of_the_index_without_its_entry_shows_nothing_and_one_that_is_there_twice_shows_one_entry() {
    let app = lived().await;
    let before = page(&app, "/v1/users/zoe/history").await;
    let mut conn = app.connect().await;
    conn.execute(
        "INSERT INTO ledger_people SELECT sdk_app_id, time_ms, parts, group_id, user_id, substr(sha256(digest), 1, 16) FROM ledger_people;
         INSERT INTO ledger_people SELECT l.* FROM ledger_people l JOIN ledger e USING (sdk_app_id, group_id, time_ms, digest)",
    )
    .await
    .unwrap();
    assert_eq!(page(&app, "/v1/users/zoe/history").await, before);
    for limit in 1..=3 {
        assert_eq!(walk(&app, "/v1/users/zoe/history?", limit).await, before, "{limit}");
    }
    app.stop().await;
}
