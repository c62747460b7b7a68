//! The read API over HTTP: lists, lookups, filters, orders, pages, and the exact form of the answers.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::api::{APP, Api, after, told};
use crate::support::{API_TOKEN, App};

pub(crate) fn created(group: &str, ms: i64, name: &str, more: Value) -> Value {
    let mut body =
        after("CreateGroup", group, ms, json!({"Name": name, "Type": "Public", "Operator_Account": "ana"}));
    let Value::Object(more) = more else { panic!("not an object: {more}") };
    body.as_object_mut().unwrap().extend(more);
    body
}

fn list(users: &[&str]) -> Value {
    users.iter().map(|user| json!({"Member_Account": user})).collect()
}

pub(crate) fn set<const N: usize>(ids: [&str; N]) -> BTreeSet<String> {
    ids.map(str::to_owned).into()
}

pub(crate) fn river() -> Value {
    created(
        "@TGS#2RIVERB7QK",
        345,
        "River walkers",
        json!({"Operator_Account": "ana_77", "Owner_Account": "ana_77", "MemberList": list(&["boris-2", "chen_li"]),
               "UserDefinedDataList": [{"Key": "region", "Value": "north"}, {"Key": "tier", "Value": "2"}]}),
    )
}

const RIVER: &str = concat!(
    r#"{"sdk_app_id":1400000001,"group_id":"@TGS#2RIVERB7QK","status":"active","type":"Public","#,
    r#""name":"River walkers","introduction":null,"notification":null,"face_url":null,"owner":"ana_77","#,
    r#""created_by":"ana_77",COUNT"user_defined_fields":{"region":"north","tier":"2"},"attributes":{},"#,
    r#""created_at":"2026-01-01T00:00:00.345Z","updated_at":"2026-01-01T00:00:00.345Z","destroyed_at":null,"apply_join_option":null,"#,
    r#""invite_join_option":null,"mute_all":null,"max_member_count":null,"verified_at":null,"members_verified_at":null}"#
);
const BORIS: &str = concat!(
    r#"{"user_id":"boris-2","role":"Member","name_card":null,"status":"member","#,
    r#""joined_at":"2026-01-01T00:00:00.345Z","join_type":null,"joined_by":"ana_77","#,
    r#""left_at":null,"exit_type":null,"left_by":null,"mute_until":null,"custom_fields":null}"#
);

#[tokio::test]
async fn a_group_and_a_member_are_written_byte_for_byte_as_the_contract_shows() {
    let api = Api::of(&[river()]).await;
    let text = async |path: &str| api.get(path).await.text().await.unwrap();
    let (counted, bare) = (RIVER.replace("COUNT", r#""member_count":3,"#), RIVER.replace("COUNT", ""));
    assert_eq!(text("/v1/groups/%40TGS%232RIVERB7QK").await, counted);
    assert_eq!(text("/v1/groups").await, format!(r#"{{"items":[{bare}],"next_cursor":null}}"#));
    let with_count = format!(r#"{{"items":[{counted}],"next_cursor":null}}"#);
    assert_eq!(text("/v1/groups?with=member_count").await, with_count);
    let members = api.json("/v1/groups/%40TGS%232RIVERB7QK/members").await;
    let users: Vec<_> =
        members["items"].as_array().unwrap().iter().map(|member| &member["user_id"]).collect();
    assert_eq!(users, ["ana_77", "boris-2", "chen_li"]);
    assert_eq!(members["items"][0]["role"], "Owner");
    assert_eq!(members["items"][1], serde_json::from_str::<Value>(BORIS).unwrap());
    let of_user = format!(r#"{{"items":[{{"group":{bare},"member":{BORIS}}}],"next_cursor":null}}"#);
    assert_eq!(text("/v1/users/boris-2/groups").await, of_user);
    api.stop().await;
}

#[tokio::test]
async fn an_audio_video_room_has_a_member_count_only_where_its_membership_is_mirrored() {
    let joined = json!({"JoinType": "Apply", "Type": "AVChatRoom",
                        "NewMemberList": [{"Member_Account": "boris"}, {"Member_Account": "chen"}]});
    let bodies = [
        created("room", 0, "room", json!({"Type": "AVChatRoom", "Owner_Account": "ana"})),
        after("NewMemberJoin", "room", 1, joined),
        created("g", 2, "g", json!({"Owner_Account": "ana"})),
    ];
    for (mirrored, count) in [(false, Value::Null), (true, json!(2))] {
        let facts = bodies.iter().flat_map(|body| told(APP, body)).collect();
        let api = Api::start(facts, |settings| {
            settings.mirror_avchatroom_members = Some(mirrored.to_string());
        })
        .await;
        let room = api.json("/v1/groups/room").await;
        assert_eq!(room.get("member_count"), Some(&count), "{room}");
        let listed = api.json("/v1/groups?with=member_count&sort=group_id").await;
        let counts: Vec<_> =
            listed["items"].as_array().unwrap().iter().map(|group| &group["member_count"]).collect();
        assert_eq!(counts, [&json!(1), &count], "{listed}");
        let complete = |page: Value| page["complete"].as_bool().unwrap();
        assert_eq!(complete(api.json("/v1/groups/room/members").await), mirrored);
        assert!(complete(api.json("/v1/groups/g/members").await));
        assert_eq!(api.json("/v1/groups?group_id=room").await["items"][0].get("member_count"), None);
        api.stop().await;
    }
}

#[tokio::test]
async fn a_group_has_a_tag_by_which_a_reader_asks_whether_it_has_changed() {
    let app = App::start().await;
    app.service.taken(&created("g", 0, "g", json!({"Owner_Account": "ana"}))).await;
    app.service.read("/v1/groups/g").await;
    let ask = async |tags: &str| {
        let url = app.service.api_url("/v1/groups/g");
        app.service.client.get(url).bearer_auth(API_TOKEN).header("If-None-Match", tags).send().await.unwrap()
    };
    let first = ask("\"other\"").await;
    assert_eq!(
        (first.status().as_u16(), &first.headers()["content-type"]),
        (200, &"application/json".parse().unwrap())
    );
    let tag = first.headers()["etag"].to_str().unwrap().to_owned();
    assert!(tag.len() > 20 && tag.starts_with('"') && tag.ends_with('"'), "{tag}");
    for tags in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".to_owned()] {
        let same = ask(&tags).await;
        assert_eq!(
            (same.status().as_u16(), same.headers()["etag"].to_str().unwrap()),
            (304, &*tag),
            "{tags}"
        );
        assert_eq!(same.text().await.unwrap(), "", "{tags}");
    }
    app.service
        .taken(&after("NewMemberJoin", "g", 1, json!({"NewMemberList": [{"Member_Account": "bo"}]})))
        .await;
    app.service.read("/v1/groups/g").await;
    let changed = ask(&tag).await;
    assert_eq!(changed.status(), 200, "another member is another form");
    assert_ne!(changed.headers()["etag"].to_str().unwrap(), tag);
    assert_eq!(changed.json::<Value>().await.unwrap()["member_count"], 2);
    app.stop().await;
}

/// A figure that is not known is not shown: a member from before the mirror's first callback is in none of its rows.
#[tokio::test]
async fn a_group_whose_create_was_not_received_has_no_member_count_until_it_comes_or_the_group_ends() {
    let app = App::start().await;
    let join = |group: &str, user: &str, ms| {
        after("NewMemberJoin", group, ms, json!({"NewMemberList": [{"Member_Account": user}]}))
    };
    for body in [
        join("unseen", "late", 10),
        after("GroupInfoChanged", "renamed", 5, json!({"Name": "River"})),
        join("renamed", "late", 10),
        join("ended", "late", 10),
        after("GroupDestroyed", "ended", 20_000, json!({})),
    ] {
        app.service.taken(&body).await;
    }
    let count =
        async |group: &str| app.service.read(&format!("/v1/groups/{group}")).await["member_count"].clone();
    let members = async |path: &str| app.service.read(&format!("/v1/groups/{path}")).await;
    for group in ["unseen", "renamed"] {
        assert_eq!(count(group).await, Value::Null, "{group}");
        let page = members(&format!("{group}/members")).await;
        assert_eq!(
            (page["items"].as_array().unwrap().len(), &page["complete"]),
            (1, &json!(false)),
            "{group}"
        );
    }
    assert_eq!(count("ended").await, 0, "a destroyed group has no members");
    assert_eq!(
        members("ended/members?status=all").await["complete"],
        false,
        "it had some that are not known"
    );
    let listed = app.service.read("/v1/groups?with=member_count&status=all&sort=group_id").await;
    let counts: Vec<_> =
        listed["items"].as_array().unwrap().iter().map(|group| &group["member_count"]).collect();
    assert_eq!(counts, [&json!(0), &Value::Null, &Value::Null]);
    let more = json!({"Owner_Account": "ana", "MemberList": [{"Member_Account": "bo"}]});
    app.service.taken(&created("renamed", 0, "Creek", more)).await;
    assert_eq!(count("renamed").await, 3, "the create came late, and who was there is known");
    assert_eq!(members("renamed/members").await["complete"], true);
    for (at, complete) in [("2025-12-31T23:59:59.999Z", false), ("2026-01-01T00:00:00Z", true)] {
        assert_eq!(members(&format!("renamed/members?at={at}")).await["complete"], complete, "{at}");
    }
    app.stop().await;
}

/// Four groups that each filter distinguishes, one that is destroyed and one that is unseen.
fn town() -> Vec<Value> {
    let field = |value: &str| json!([{"Key": "region", "Value": value}, {"Key": "tier", "Value": "1"}]);
    vec![
        created(
            "a",
            1_000,
            "100% Club",
            json!({"Owner_Account": "ana", "UserDefinedDataList": field("north")}),
        ),
        created(
            "b",
            2_000,
            "1000 club",
            json!({"Owner_Account": "boris", "MemberList": list(&["chen"]),
                                                "Type": "Private", "UserDefinedDataList": field("north")}),
        ),
        created(
            "c",
            3_000,
            "under_score",
            json!({"Owner_Account": "ana", "Type": "ChatRoom",
                                                  "UserDefinedDataList": field("south")}),
        ),
        created("d", 4_000, r"back\slash ÄRA", json!({"Owner_Account": "chen"})),
        created("e", 5_000, "100% gone", json!({"Owner_Account": "chen", "MemberList": list(&["dora"])})),
        after("GroupDestroyed", "e", 6_000, json!({})),
        after("NewMemberJoin", "f", 7_000, json!({"NewMemberList": list(&["chen"])})),
    ]
}

#[tokio::test]
async fn every_filter_of_groups_narrows_to_what_it_names() {
    let api = Api::of(&town()).await;
    for (query, expected) in [
        ("", set(["a", "b", "c", "d"])),
        ("status=active", set(["a", "b", "c", "d"])),
        ("status=destroyed", set(["e"])),
        ("status=unseen", set(["f"])),
        ("status=all", set(["a", "b", "c", "d", "e", "f"])),
        ("group_id=b", set(["b"])),
        ("group_id=nobody", set([])),
        ("type=Public", set(["a", "d"])),
        ("type=Work", set(["b"])),
        ("type=Private", set(["b"])),
        ("type=ChatRoom", set(["c"])),
        ("type=Meeting", set(["c"])),
        ("owner=ana", set(["a", "c"])),
        ("owner=chen", set(["d"])),
        ("owner=chen&status=all", set(["d", "e"])),
        ("member=chen", set(["b", "d"])),
        ("member=chen&status=all", set(["b", "d", "f"])),
        ("member=dora&status=all", set([])),
        ("member=chen&owner=boris", set(["b"])),
        ("name=CLUB", set(["a", "b"])),
        ("name=0%25", set(["a"])),
        ("name=r_s", set(["c"])),
        ("name=%5C", set(["d"])),
        ("name=%C3%A4ra", set(["d"])),
        ("name=%25", set(["a"])),
        ("name=_", set(["c"])),
        ("field%5Bregion%5D=north", set(["a", "b"])),
        ("field[region]=north&field[tier]=1&owner=boris", set(["b"])),
        ("field[region]=north&field[tier]=2", set([])),
        ("created_after=2026-01-01T00:00:02Z", set(["c", "d"])),
        ("created_before=2026-01-01T01:00:02%2B01:00", set(["a"])),
        ("created_after=2026-01-01T00:00:01Z&created_before=2026-01-01T00:00:04.000Z", set(["b", "c"])),
    ] {
        assert_eq!(api.groups(query).await, expected, "{query}");
    }
    api.stop().await;
}

/// Equal names, equal times and missing times, more of each than fit on a page of one.
pub(crate) fn crowd() -> Vec<Value> {
    let member = json!({"Owner_Account": "ana", "UserDefinedDataList": [{"Key": "k", "Value": "v"}]});
    let mut bodies = Vec::new();
    for (number, ms) in [30_000, 10_000, 10_000, 10_000, 20_000, 20_000].into_iter().enumerate() {
        bodies.push(created(&format!("timed{number}"), ms, "same", member.clone()));
    }
    for number in 0..3 {
        let id = format!("late{number}");
        let fields = json!({"Name": "same", "UserDefinedDataList": [{"Key": "k", "Value": "v"}]});
        bodies.push(after("GroupInfoChanged", &id, 40_000, fields));
        bodies.push(after("ChangeGroupOwner", &id, 41_000, json!({"NewOwner_Account": "ana"})));
    }
    bodies
}

#[tokio::test]
async fn walking_a_list_shows_each_group_once_in_the_order_that_was_asked_for() {
    let api = Api::of(&crowd()).await;
    let late = ["late0", "late1", "late2"];
    let newest = [&["timed0", "timed4", "timed5", "timed1", "timed2", "timed3"][..], &late].concat();
    let oldest = [&["timed1", "timed2", "timed3", "timed4", "timed5", "timed0"][..], &late].concat();
    let by_id = [&late[..], &["timed0", "timed1", "timed2", "timed3", "timed4", "timed5"]].concat();
    for (sort, expected) in [("-created_at", newest), ("created_at", oldest), ("group_id", by_id)] {
        for filter in ["", "&name=same", "&owner=ana", "&member=ana", "&field[k]=v", "&with=member_count"] {
            for limit in [1, 2, 4, 9, 50] {
                let walked =
                    api.walk(&format!("/v1/groups?sort={sort}{filter}"), limit, |g| &g["group_id"]).await;
                assert_eq!(walked, expected, "sort={sort}{filter}&limit={limit}");
            }
        }
    }
    let unsorted = api.walk("/v1/groups?status=active", 1, |group| &group["group_id"]).await;
    assert_eq!(unsorted[0], "timed0", "newest first unless asked otherwise");
    api.stop().await;
}

#[tokio::test]
async fn members_are_listed_by_user_with_status_and_role() {
    let api = Api::of(&[
        created("g", 0, "g", json!({"Owner_Account": "ana", "MemberList": list(&["boris", "chen", "dora"])})),
        after("MemberFieldChanged", "g", 1_000, json!({"Member_Account": "boris", "Role": "Admin"})),
        after(
            "MemberExit",
            "g",
            2_000,
            json!({"ExitMemberList": list(&["dora"]), "ExitType": "Kicked",
                                              "Operator_Account": "ana"}),
        ),
        after("GroupAttrChanged", "empty", 0, json!({})),
    ])
    .await;
    for (query, expected) in [
        ("?", vec!["ana", "boris", "chen"]),
        ("?status=member", vec!["ana", "boris", "chen"]),
        ("?status=left", vec!["dora"]),
        ("?status=all", vec!["ana", "boris", "chen", "dora"]),
        ("?role=Owner", vec!["ana"]),
        ("?role=Admin", vec!["boris"]),
        ("?role=Member", vec!["chen"]),
        ("?role=Member&status=all", vec!["chen", "dora"]),
    ] {
        let walked = api.walk(&format!("/v1/groups/g/members{query}"), 1, |member| &member["user_id"]).await;
        assert_eq!(walked, expected, "{query}");
    }
    let left = api.json("/v1/groups/g/members?status=left").await;
    assert_eq!(left["items"][0]["left_at"], "2026-01-01T00:00:02.000Z");
    assert_eq!(left["items"][0]["exit_type"], "Kicked");
    let nobody = json!({"items": [], "next_cursor": null, "complete": false});
    assert_eq!(api.json("/v1/groups/empty/members").await, nobody);
    api.problem("/v1/groups/none/members", 404, "not_found").await;
    api.stop().await;
}

#[tokio::test]
async fn the_groups_of_a_user_come_with_the_membership() {
    let api = Api::of(&[
        created("a", 0, "a", json!({"Owner_Account": "ana", "MemberList": list(&["boris"])})),
        created("b", 0, "b", json!({"Owner_Account": "boris"})),
        created("c", 0, "c", json!({"Owner_Account": "boris"})),
        after("GroupDestroyed", "c", 1_000, json!({})),
        after("MemberExit", "d", 2_000, json!({"ExitMemberList": list(&["boris"])})),
    ])
    .await;
    for (query, expected) in
        [("?", vec!["a", "b"]), ("?status=left", vec!["c", "d"]), ("?status=all", vec!["a", "b", "c", "d"])]
    {
        let path = format!("/v1/users/boris/groups{query}");
        assert_eq!(api.walk(&path, 1, |item| &item["group"]["group_id"]).await, expected, "{query}");
    }
    let page = api.json("/v1/users/boris/groups?status=all").await;
    let shown: Vec<_> = page["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| (item["group"]["status"].as_str().unwrap(), item["member"]["role"].as_str().unwrap()))
        .collect();
    assert_eq!(
        shown,
        [("active", "Member"), ("active", "Owner"), ("destroyed", "Member"), ("unseen", "Member")]
    );
    assert_eq!(api.json("/v1/users/stranger/groups").await, json!({"items": [], "next_cursor": null}));
    api.stop().await;
}

#[tokio::test]
async fn groups_of_every_status_are_found_by_their_id() {
    let api = Api::of(&town()).await;
    for (group, status, members) in
        [("a", "active", json!(1)), ("e", "destroyed", json!(0)), ("f", "unseen", Value::Null)]
    {
        let found = api.json(&format!("/v1/groups/{group}")).await;
        assert_eq!(found["status"], status);
        assert_eq!(found["member_count"], members);
    }
    let gone = api.json("/v1/groups/e").await;
    assert_eq!(gone["name"], "100% gone", "a destroyed group shows its last profile");
    assert_eq!(gone["destroyed_at"], "2026-01-01T00:00:06.000Z");
    api.problem("/v1/groups/none", 404, "not_found").await;
    api.stop().await;
}

#[tokio::test]
async fn fields_and_attributes_older_than_a_barrier_are_not_shown() {
    let value = |value: &str| json!([{"key": "k", "value": value}, {"key": value, "value": ""}]);
    let api = Api::of(&[
        created("g", 0, "g", json!({"UserDefinedDataList": [{"Key": "life", "Value": "first"}]})),
        after("GroupAttrChanged", "g", 1_000, json!({"OptionType": "modify", "GroupAttr": value("old")})),
        after("GroupAttrChanged", "g", 2_000, json!({"OptionType": "set", "GroupAttr": value("new")})),
        after("GroupAttrChanged", "g", 3_000, json!({"OptionType": "delete", "GroupAttr": [{"key": "k"}]})),
        created("h", 0, "h", json!({"UserDefinedDataList": [{"Key": "life", "Value": "first"}]})),
        created("h", 60_000, "h", json!({})),
    ])
    .await;
    let first = api.json("/v1/groups/g").await;
    assert_eq!(first["attributes"], json!({"new": ""}));
    assert_eq!(first["user_defined_fields"], json!({"life": "first"}));
    assert_eq!(api.json("/v1/groups/h").await["user_defined_fields"], json!({}));
    assert_eq!(api.groups("field[life]=first").await, set(["g"]));
    api.stop().await;
}

/// Sends a request byte for byte; HTTP clients normalize a path before they send it.
pub(crate) async fn raw(api: &Api, request_line: &str, headers: &str) -> (u16, String) {
    let address = api.base.trim_start_matches("http://");
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("{request_line} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer)
}

#[tokio::test]
async fn ids_of_any_shape_work_in_paths_queries_and_cursors() {
    let ids = ["a/b", "50%", "two words", "@TGS#1", "..", "ключ", "?&=+", "\"\\'", "nul\u{0}", "."];
    let told = ids.map(|id| created(id, 0, id, json!({"Owner_Account": id})));
    let api = Api::of(&told).await;
    for id in ids {
        let encoded: String = id.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let shown = json!(id.replace('\0', "\u{FFFD}")).to_string();
        for path in [
            format!("/v1/groups/{encoded}"),
            format!("/v1/groups?group_id={encoded}"),
            format!("/v1/groups?name={encoded}"),
            format!("/v1/groups?member={encoded}"),
            format!("/v1/groups/{encoded}/members"),
            format!("/v1/users/{encoded}/groups"),
        ] {
            let (status, answer) = raw(&api, &format!("GET {path}"), "Host: localhost\r\n").await;
            assert_eq!(status, 200, "{path}: {answer}");
            assert!(answer.contains(&shown), "{path}: {answer}");
        }
    }
    for sort in ["group_id", "created_at", "-created_at"] {
        let walked = api.walk(&format!("/v1/groups?sort={sort}"), 1, |group| &group["group_id"]).await;
        assert_eq!(walked.len(), ids.len());
    }
    for path in [
        "/v1/groups/%FF",
        "/v1/groups/a%C3/members",
        "/v1/users/%80/groups",
        "/v1/groups?owner=%FF",
        "/v1/groups?name=%EF%BF%BD&owner=%FF",
        "/v1/groups?name=%EF%BF%BD%FF",
        "/v1/groups//members",
    ] {
        api.problem(path, 400, "bad_parameter").await;
    }
    let long = "x".repeat(513);
    for path in
        [format!("/v1/groups/{long}"), format!("/v1/users/{long}/groups"), format!("/v1/groups?owner={long}")]
    {
        api.problem(&path, 400, "bad_parameter").await;
    }
    api.stop().await;
}
