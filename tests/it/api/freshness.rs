//! What readers see of snapshots: the values that only reads of Tencent's REST API give, when a group was verified, the
//! orders and the filter by that time, and snapshots in history, feed and reads as of a moment.

use group_mirror::ingest;
use group_mirror::mirror::{ReadKind, ReadTime, Snapshot, group_key};
use group_mirror::model::{GroupId, Millis, SdkAppId};
use group_mirror::store::Database;
use group_mirror::tencent::members::MemberPage;
use serde_json::{Value, json};

use crate::api::reads::created;
use crate::support::api::{APP, Api, T0, after};

/// A read as of so many milliseconds after `T0`, 15 s before it was sent.
fn time(ms: i64) -> ReadTime {
    ReadTime::new(Millis::new(T0 + ms + 15_000), 15_000, None)
}

fn read(group: &str, kind: ReadKind, ms: i64, answer: &Value) -> Snapshot {
    let group = group_key(SdkAppId::parse(APP).unwrap(), GroupId::parse(group).unwrap());
    let answer = answer.to_string().into_bytes();
    Snapshot { group, time: time(ms), kind, is_complete: true, range: None, missing: Vec::new(), answer }
}

pub(crate) fn profile(group: &str, ms: i64, more: &Value) -> Snapshot {
    let mut element =
        json!({ "GroupId": group, "ErrorCode": 0, "Type": "Public", "Name": group, "Owner_Account": "ana" });
    element.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let answer = json!({ "ActionStatus": "OK", "ErrorCode": 0, "GroupInfo": [element] });
    read(group, ReadKind::Profile, ms, &answer)
}

pub(crate) fn list(group: &str, ms: i64, members: &Value) -> Snapshot {
    let answer = json!({ "ActionStatus": "OK", "ErrorCode": 0, "MemberList": members });
    let members = MemberPage::read(answer.to_string().as_bytes()).unwrap().members;
    let key = read(group, ReadKind::Members, ms, &Value::Null).group;
    let [list] = Snapshot::of_members(&key, time(ms), &members).try_into().unwrap();
    list
}

pub(crate) fn gone(group: &str, ms: i64) -> Snapshot {
    read(group, ReadKind::Gone, ms, &json!({ "ErrorCode": 10_010 }))
}

/// Enters snapshots as a pass does.
pub(crate) async fn take(api: &Api, snapshots: &[Snapshot]) {
    let pools = Database::new(&api.url()).unwrap();
    let received_at = Millis::new(T0 + 3_600_000);
    for batch in snapshots.chunks(ingest::SNAPSHOTS_MAX) {
        ingest::commit_snapshots(&pools, batch, received_at).await.unwrap();
    }
    pools.close().await;
}

const SILENT: [&str; 4] = ["apply_join_option", "invite_join_option", "mute_all", "max_member_count"];

#[tokio::test]
async fn values_that_no_callback_reports_and_the_times_of_verification_are_shown_wherever_the_group_is() {
    let api = Api::of(&[created("g", 0, "g", json!({"Owner_Account": "ana"}))]).await;
    let silent = json!({ "ApplyJoinOption": "NeedPermission", "InviteJoinOption": "DisableInvite",
                         "MuteAllMember": "On", "MaxMemberNum": 200 });
    let members = json!([
        { "Member_Account": "ana", "Role": "Owner", "JoinTime": T0 / 1000 },
        { "Member_Account": "boris", "Role": "Member", "JoinTime": T0 / 1000 + 5, "MuteUntil": 4_294_967_295_u32,
          "AppMemberDefinedData": [{ "Key": "level", "Value": "3" }] },
    ]);
    let etag = async || api.get("/v1/groups/g").await.headers()["etag"].to_str().unwrap().to_owned();
    let unread = etag().await;
    take(&api, &[profile("g", 20_000, &silent), list("g", 10_000, &members)]).await;
    let group = api.json("/v1/groups/g").await;
    let expected = json!(["NeedPermission", "DisableInvite", true, 200]);
    assert_eq!(json!(SILENT.map(|name| &group[name])), expected);
    let times = json!(["2026-01-01T00:00:20.000Z", "2026-01-01T00:00:10.000Z"]);
    assert_eq!(json!([group["verified_at"], group["members_verified_at"]]), times);
    let listed = api.json("/v1/groups").await["items"][0].clone();
    let of_user = api.json("/v1/users/boris/groups").await["items"][0].clone();
    for shown in [&listed, &of_user["group"]] {
        for name in SILENT.into_iter().chain(["verified_at", "members_verified_at"]) {
            assert_eq!(shown[name], group[name], "{name}");
        }
    }
    let boris = api.json("/v1/groups/g/members").await["items"][1].clone();
    assert_eq!(boris["mute_until"], "2106-02-07T06:28:15.000Z");
    assert_eq!(boris["custom_fields"], json!({ "level": "3" }));
    assert_eq!(of_user["member"], boris);
    // The same as of a moment: from σ of the list on, and not before.
    let as_of = async |second: u8| {
        let path = format!("/v1/groups/g/members?at=2026-01-01T00:00:{second:02}Z");
        api.json(&path).await["items"].as_array().unwrap().clone()
    };
    assert_eq!(as_of(11).await[1], boris);
    assert!(as_of(9).await.is_empty(), "the list is as of 10 s, and the create is not in this ledger");
    // The time of verification is part of the answer, so it is part of what the tag stands for.
    let read_once = etag().await;
    assert_ne!(read_once, unread);
    take(&api, &[profile("g", 30_000, &silent)]).await;
    assert_ne!(etag().await, read_once, "nothing differs but the time");
    take(&api, &[profile("g", 25_000, &silent)]).await;
    let again = etag().await;
    take(&api, &[profile("g", 25_000, &silent)]).await;
    assert_eq!(etag().await, again, "an older read moves nothing");
    api.stop().await;
}

#[tokio::test]
async fn members_are_counted_where_a_complete_list_was_read_although_no_create_is_known() {
    let join = |group: &str, kind: &str| {
        after(
            "NewMemberJoin",
            group,
            1_000,
            json!({"Type": kind, "NewMemberList": [{"Member_Account": "boris"}]}),
        )
    };
    let api = Api::of(&[join("g", "Public"), join("part", "Public"), join("room", "AVChatRoom")]).await;
    let of = async |group: &str| {
        let count = api.json(&format!("/v1/groups/{group}")).await["member_count"].clone();
        let page = api.json(&format!("/v1/groups/{group}/members")).await;
        (count, page["complete"].clone())
    };
    let unknown = (Value::Null, json!(false));
    assert_eq!(of("g").await, unknown);
    let members = json!([{ "Member_Account": "boris", "Role": "Member" }, { "Member_Account": "ana", "Role": "Owner" }]);
    // A read of the profile gives the time of creation, and says nothing about members.
    take(
        &api,
        &["g", "part", "room"].map(|group| profile(group, 20_000, &json!({ "CreateTime": T0 / 1000 }))),
    )
    .await;
    assert_eq!(of("g").await, unknown, "the profile alone");
    let part = Snapshot { is_complete: false, ..list("part", 20_000, &members) };
    take(&api, &[list("g", 20_000, &members), part, list("room", 20_000, &members)]).await;
    take(&api, &[profile("room", 30_000, &json!({ "Type": "AVChatRoom" }))]).await;
    assert_eq!(of("g").await, (json!(2), json!(true)));
    assert_eq!(of("part").await, unknown, "a part of a list");
    assert_eq!(of("room").await, unknown, "an audio-video room whose membership is not mirrored");
    let at = |second: u8| format!("/v1/groups/g/members?at=2026-01-01T00:00:{second:02}Z");
    assert_eq!(api.json(&at(19)).await["complete"], false, "before the list");
    assert_eq!(api.json(&at(20)).await["complete"], true);
    api.stop().await;
}

/// Times in seconds of 12 groups in turn: two share one, some were never verified.
fn verified(number: usize) -> Option<i64> {
    [Some(30), None, Some(10), Some(10), Some(20), None][number % 6]
        .map(|secs: i64| secs + i64::from(number > 5))
}

/// Which of the groups a filter keeps.
type Keep = fn(usize) -> bool;

#[tokio::test]
async fn a_list_by_age_of_verification_walks_all_groups_with_those_never_verified_last() {
    let id = |number: usize| format!("g{number:02}");
    let (owner, kind) =
        (|number: usize| ["ana", "boris"][number % 2], |number: usize| ["Public", "Work"][number % 2]);
    let group = |number: usize| {
        let region = ["north", "south", "west"][number % 3];
        let fields = json!([{ "Key": "region", "Value": region }]);
        let more =
            json!({ "Owner_Account": owner(number), "Type": kind(number), "UserDefinedDataList": fields });
        created(&id(number), i64::try_from(number).unwrap(), &id(number), more)
    };
    let mut bodies: Vec<Value> = (0..12).map(group).collect();
    bodies.push(after("GroupDestroyed", "g04", 50_000, json!({})));
    let api = Api::of(&bodies).await;
    let reads: Vec<Snapshot> = (0..12)
        .filter_map(|number| {
            let more = json!({ "Type": kind(number), "Owner_Account": owner(number) });
            Some(profile(&id(number), verified(number)? * 1_000, &more))
        })
        .collect();
    take(&api, &reads).await;
    let filters: [(&str, Keep); 9] = [
        ("", |number| number != 4),
        ("&status=all", |_| true),
        ("&status=destroyed", |number| number == 4),
        ("&owner=ana", |number| number % 2 == 0 && number != 4),
        ("&member=boris", |number| number % 2 == 1),
        ("&type=Work", |number| number % 2 == 1),
        ("&name=G0", |number| number < 10 && number != 4),
        ("&field[region]=north", |number| number % 3 == 0),
        ("&created_after=2026-01-01T00:00:00.005Z&status=all", |number| number > 5),
    ];
    for (filter, keep) in filters {
        for bound in [None, Some(11), Some(21), Some(99)] {
            let stale = |number: &usize| match (bound, verified(*number)) {
                (Some(bound), Some(at)) => at < bound,
                _ => true,
            };
            let mut expected: Vec<usize> = (0..12).filter(|number| keep(*number)).filter(stale).collect();
            for sort in ["verified_at", "-verified_at", "group_id", "created_at"] {
                expected.sort_by_key(|number| match (sort, verified(*number)) {
                    ("verified_at", at) => (at.is_none(), at.unwrap_or_default(), *number),
                    ("-verified_at", at) => (at.is_none(), -at.unwrap_or_default(), *number),
                    _ => (false, 0, *number),
                });
                let bound = bound.map_or(String::new(), |secs| {
                    format!("&verified_before=2026-01-01T00:{:02}:{:02}Z", secs / 60, secs % 60)
                });
                let path = format!("/v1/groups?sort={sort}{filter}{bound}");
                for limit in [2, 500] {
                    let seen = api.walk(&path, limit, |group| &group["group_id"]).await;
                    let expected: Vec<String> = expected.iter().map(|number| id(*number)).collect();
                    assert_eq!(seen, expected, "{path}");
                }
            }
        }
    }
    let cursor =
        api.json("/v1/groups?sort=verified_at&limit=1").await["next_cursor"].as_str().unwrap().to_owned();
    api.problem(&format!("/v1/groups?sort=-verified_at&cursor={cursor}"), 400, "bad_cursor").await;
    api.problem("/v1/groups?verified_before=yesterday", 400, "bad_parameter").await;
    api.stop().await;
}

#[tokio::test]
async fn a_snapshot_stands_in_history_and_feed_as_a_read_without_its_body_unless_it_is_asked_for() {
    let api = Api::of(&[]).await;
    let members = json!([{ "Member_Account": "boris", "Role": "Member" }, { "Member_Account": "ana", "Role": "Owner" }]);
    take(&api, &[profile("g", 20_000, &json!({})), list("g", 20_000, &members)]).await;
    let page = api.json("/v1/changes").await;
    let changes = page["items"].as_array().unwrap();
    assert_eq!(changes.len(), 2, "{page}");
    let mut commands: Vec<&str> = changes.iter().map(|change| change["command"].as_str().unwrap()).collect();
    commands.sort_unstable();
    assert_eq!(commands, ["get_group_info", "get_group_member_info"]);
    for change in changes {
        let shown = json!([change["source"], change["group_id"], change["outcome"], change["event_time"]]);
        assert_eq!(shown, json!(["rest", "g", "applied", "2026-01-01T00:00:20.000Z"]));
        assert!(change.get("body").is_none() && change.to_string().len() < 1_000, "{change}");
    }
    let history = api.json("/v1/groups/g/history").await;
    let items = history["items"].as_array().unwrap();
    assert_eq!(items.len(), 2, "{history}");
    assert!(items.iter().all(|item| item["source"] == "rest" && item.get("body").is_none()), "{history}");
    let with_body = api.json("/v1/groups/g/history?with=body").await;
    let body =
        with_body["items"].as_array().unwrap().iter().find(|item| item["command"] == "get_group_member_info");
    let body = body.unwrap()["body"].as_str().unwrap();
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!((&body["sigma"], &body["complete"]), (&json!(T0 + 20_000), &json!(true)));
    assert_eq!(body["answer"]["MemberList"].as_array().unwrap().len(), 2);
    // A list names its members, a profile its owner.
    for (user, count) in [("boris", 1), ("ana", 2), ("chen", 0)] {
        let of_user = api.json(&format!("/v1/groups/g/history?user_id={user}")).await;
        assert_eq!(of_user["items"].as_array().unwrap().len(), count, "{user}: {of_user}");
    }
    api.stop().await;
}
