//! Who was in a group at a moment that is over: against the pure fold, against a second service that has heard only what
//! had happened by then, and at the limits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::DateTime;
use group_mirror::mirror::group_key;
use group_mirror::model::{GroupId, Millis, SdkAppId};
use group_mirror::replay::AsOfReader;
use group_mirror::replay::as_of::{AsOfPermits, GroupMoment};
use group_mirror::store::{Database, READER_CONNECTIONS_MAX};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use reqwest::StatusCode;
use serde_json::{Value, json};
use sqlx::Executor as _;

use crate::api::reads::created;
use crate::rules::laws::{fold, generator};
use crate::support::api::{T0, after, assert_problem};
use crate::support::{API_TOKEN, APP, App, Service, eventually, histories, shown};

pub(crate) fn time(ms: i64) -> String {
    let time = DateTime::from_timestamp_millis(ms).unwrap();
    time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

fn event_time(body: &Value) -> i64 {
    let time = &body["EventTime"];
    time.as_i64().unwrap_or_else(|| time.as_str().unwrap().parse().unwrap())
}

fn path(group: &str, query: &str) -> String {
    format!("/v1/groups/{}/members?{query}", shown::escaped(group))
}

/// All memberships, present and past; none where nobody ever heard of the group.
async fn members(service: &Service, group: &str, query: &str) -> Vec<Value> {
    let path = path(group, &format!("status=all&limit=500{query}"));
    let answer = service.client.get(service.api_url(&path)).bearer_auth(API_TOKEN).send().await.unwrap();
    match answer.status() {
        StatusCode::OK => shown::members_of(&answer.json().await.unwrap()),
        status => {
            assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
            Vec::new()
        }
    }
}

/// A group without what is not kept for the past; null where nothing is known of it.
async fn group(service: &Service, group: &str, query: &str) -> Value {
    let url = service.api_url(&format!("/v1/groups/{}{query}", shown::escaped(group)));
    let answer = service.client.get(url).bearer_auth(API_TOKEN).send().await.unwrap();
    if answer.status() == StatusCode::NOT_FOUND {
        return Value::Null;
    }
    let mut group: Value = answer.json().await.unwrap();
    let shown = group.as_object_mut().unwrap();
    let of_now = [shown.remove("verified_at").is_some(), shown.remove("members_verified_at").is_some()];
    assert_eq!(of_now, [query.is_empty(); 2], "{shown:?}");
    assert_eq!(shown.remove("at").is_some(), !query.is_empty(), "{shown:?}");
    group
}

pub(crate) async fn with_rooms() -> App {
    App::start_with(|settings| settings.mirror_avchatroom_members = Some("true".into())).await
}

/// Aim: `at` shows what the live list would have shown then, had every callback come at once. Method: one service hears
/// generated histories shuffled; another hears the same in the order of event time, and after each millisecond its
/// live lists must be what the first one shows for that moment. The pure fold is the third opinion.
#[tokio::test(flavor = "multi_thread")]
async fn a_moment_shows_what_a_service_shows_that_has_heard_only_what_had_happened_by_then() {
    let (whole, by_then) = (with_rooms().await, with_rooms().await);
    let mut runner = generator(5);
    let mut steps: BTreeMap<i64, Vec<Value>> = BTreeMap::new();
    let mut groups = BTreeSet::new();
    for number in 0..8 {
        let history = histories::history().new_tree(&mut runner).unwrap().current();
        for body in histories::renamed(&history, &format!("p{number}-")) {
            groups.insert(body["GroupId"].as_str().unwrap().to_owned());
            steps.entry(event_time(&body)).or_default().push(body);
        }
    }
    let posts: Vec<Value> = steps.values().flatten().cloned().collect();
    let posts = Just(posts).prop_shuffle().new_tree(&mut runner).unwrap().current();
    for body in &posts {
        whole.service.taken(body).await;
    }
    whole.service.until(|told| told["spool"]["depth"] == 0).await;
    let (mut heard, mut shown_groups) = (Vec::new(), 0);
    for (moment, bodies) in steps {
        for body in bodies {
            by_then.service.taken(&body).await;
            heard.push(body);
        }
        by_then.service.until(|told| told["spool"]["depth"] == 0).await;
        let folded = shown::pure(&fold(&heard));
        for id in &groups {
            let then = group(&whole.service, id, &format!("?at={}", time(moment))).await;
            assert_eq!(then, group(&by_then.service, id, "").await, "{id} at {moment}");
            shown_groups += usize::from(!then.is_null());
        }
        for group in &groups {
            let at = members(&whole.service, group, &format!("&at={}", time(moment))).await;
            assert_eq!(at, members(&by_then.service, group, "").await, "{group} at {moment}");
            let folded = folded.get(group).map_or(json!([]), |group| group["members"].clone());
            assert_eq!(json!(at), folded, "{group} at {moment}");
        }
    }
    assert!(shown_groups > 50, "{shown_groups}");
    for group in &groups {
        let live = members(&whole.service, group, "").await;
        for now in [time(histories::BASE_MS + 60_000), "2099-01-01T00:00:00Z".to_owned()] {
            assert_eq!(members(&whole.service, group, &format!("&at={now}")).await, live, "{group} at {now}");
        }
        let before = members(&whole.service, group, &format!("&at={}", time(histories::BASE_MS - 1))).await;
        assert_eq!(before, Vec::<Value>::new(), "{group}");
    }
    whole.stop().await;
    by_then.stop().await;
}

pub(crate) fn list(users: &[&str]) -> Value {
    users.iter().map(|user| json!({ "Member_Account": user })).collect()
}

/// A group that changed hands, lost a member and gained another.
pub(crate) async fn town() -> App {
    let app = App::start().await;
    let told = [
        created("g", 0, "g", json!({"Owner_Account": "ana", "MemberList": list(&["boris", "chen"])})),
        after("MemberFieldChanged", "g", 1_000, json!({"Member_Account": "chen", "Role": "Admin"})),
        after(
            "ChangeGroupOwner",
            "g",
            2_000,
            json!({"OldOwner_Account": "ana", "NewOwner_Account": "boris"}),
        ),
        after(
            "MemberExit",
            "g",
            3_000,
            json!({"ExitMemberList": list(&["chen"]), "ExitType": "Kicked", "Operator_Account": "boris"}),
        ),
        after("NewMemberJoin", "g", 4_000, json!({"NewMemberList": list(&["dora"]), "JoinType": "Apply"})),
        after("GroupDestroyed", "g", 5_000, json!({})),
    ];
    for body in told.iter().rev() {
        app.service.taken(body).await;
    }
    app
}

#[tokio::test]
async fn owner_roles_and_filters_are_those_of_the_moment() {
    let app = town().await;
    for (at, query, expected) in [
        (0, "", "ana:Owner boris:Member chen:Member"),
        (999, "&role=Owner", "ana:Owner"),
        (1_000, "", "ana:Owner boris:Member chen:Admin"),
        (2_000, "", "ana:Member boris:Owner chen:Admin"),
        (2_999, "&role=Admin", "chen:Admin"),
        (3_000, "", "ana:Member boris:Owner"),
        (3_000, "&status=left", "chen:Member"),
        (4_000, "&status=all", "ana:Member boris:Owner chen:Member dora:Member"),
        (5_000, "", ""),
        (5_000, "&status=left&role=Member", "ana:Member boris:Member chen:Member dora:Member"),
    ] {
        let page = app.service.read(&path("g", &format!("at={}{query}", time(T0 + at)))).await;
        let words = page["items"].as_array().unwrap().iter().map(|member| {
            format!("{}:{}", member["user_id"].as_str().unwrap(), member["role"].as_str().unwrap())
        });
        assert_eq!(words.collect::<Vec<_>>().join(" "), expected, "{at}{query}");
    }
    let left = app.service.read(&path("g", &format!("status=left&at={}", time(T0 + 3_500)))).await;
    let chen = &left["items"][0];
    assert_eq!(
        [&chen["exit_type"], &chen["left_by"], &chen["left_at"]],
        ["Kicked", "boris", &time(T0 + 3_000)]
    );
    // The same moment said in another zone, and more exactly than a millisecond.
    for at in ["2026-01-01T01:00:02.9999%2B01:00", "2026-01-01t00:00:02.999999999z"] {
        let page = app.service.read(&path("g", &format!("at={at}&role=Admin"))).await;
        assert_eq!(page["items"].as_array().unwrap().len(), 1, "{at}");
    }
    app.stop().await;
}

#[tokio::test]
async fn a_past_list_is_walked_by_cursors_that_are_bound_to_the_moment() {
    let app = town().await;
    let at = time(T0 + 4_000);
    for limit in 1..=3 {
        let (mut seen, mut next) = (Vec::new(), String::new());
        loop {
            let page = app.service.read(&path("g", &format!("at={at}&status=all&limit={limit}{next}"))).await;
            let items = page["items"].as_array().unwrap();
            seen.extend(items.iter().map(|member| member["user_id"].as_str().unwrap().to_owned()));
            let Some(cursor) = page["next_cursor"].as_str() else { break };
            assert_eq!(items.len(), limit);
            next = format!("&cursor={cursor}");
        }
        assert_eq!(seen, ["ana", "boris", "chen", "dora"], "{limit}");
    }
    let page = app.service.read(&path("g", &format!("at={at}&limit=1"))).await;
    let cursor = page["next_cursor"].as_str().unwrap();
    for query in [format!("at={}", time(T0 + 4_001)), format!("at={at}&status=all"), "limit=1".to_owned()] {
        problem(&app, &path("g", &format!("{query}&cursor={cursor}")), 400, "bad_cursor").await;
    }
    app.stop().await;
}

pub(crate) async fn problem(app: &App, path: &str, status: u16, code: &str) -> String {
    let url = app.service.api_url(path);
    let answer = app.service.client.get(url).bearer_auth(API_TOKEN).send().await.unwrap();
    assert_problem(answer, status, code).await["detail"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn what_is_no_moment_or_no_group_is_refused_and_the_parked_do_not_count() {
    let app = town().await;
    for at in ["", "garbage", "2026-01-01", "1767225600", "2026-01-01T00:00:00+01:00", "2026-13-01T00:00:00Z"]
    {
        let detail = problem(&app, &path("g", &format!("at={at}")), 400, "bad_parameter").await;
        assert!(detail.contains("RFC 3339"), "{detail}");
    }
    problem(&app, &path("nobody", &format!("at={}", time(T0))), 404, "not_found").await;
    let body =
        json!({"CallbackCommand": "Group.CallbackAfterNewMemberJoin", "GroupId": "p", "NewMemberList": 7});
    app.service.parked(&body.to_string()).await;
    problem(&app, &path("p", "at=2099-01-01T00:00:00Z"), 404, "not_found").await;
    let parked = json!({"CallbackCommand": "Group.CallbackAfterNewMemberJoin", "GroupId": "g", "EventTime": T0 + 1,
                        "NewMemberList": 7});
    app.service.parked(&parked.to_string()).await;
    let page = app.service.read(&path("g", &format!("at={}", time(T0 + 1)))).await;
    assert_eq!(page["items"].as_array().unwrap().len(), 3);
    app.stop().await;
}

#[tokio::test]
async fn what_came_without_a_time_counts_from_its_receipt() {
    let app = App::start().await;
    app.service.taken(&created("g", 0, "g", json!({"Owner_Account": "ana"}))).await;
    let mut join = after("NewMemberJoin", "g", 0, json!({"NewMemberList": list(&["boris"])}));
    join.as_object_mut().unwrap().remove("EventTime");
    app.service.taken(&join).await;
    let history = app.service.read("/v1/groups/g/history").await;
    let newest = &history["items"][0];
    assert_eq!(newest["event_time"], Value::Null);
    let received = newest["received_at"].as_str().unwrap();
    let received = DateTime::parse_from_rfc3339(received).unwrap().timestamp_millis();
    for (ms, count) in [(received - 1, 1), (received, 2)] {
        let page = app.service.read(&path("g", &format!("at={}", time(ms)))).await;
        assert_eq!(page["items"].as_array().unwrap().len(), count);
    }
    app.stop().await;
}

/// Ledger rows that no callback made: `$body` stands for the bytes of the one with the number `n`.
pub(crate) async fn fill(app: &App, group: &str, rows: i64, body: &str) {
    let statement = format!(
        "INSERT INTO ledger (sdk_app_id, group_id, time_ms, digest, command, event_time_ms, received_at, source,
                             outcome, body)
         SELECT 1400000001, '{group}', {T0} + n, substr(sha256(n::text::bytea), 1, 16), 'Group.CallbackAfterNewMemberJoin', {T0} + n,
                to_timestamp(({T0} + n) / 1000.0), 'callback', 'applied', convert_to({body}, 'UTF8')
           FROM generate_series(1, {rows}) n"
    );
    app.connect().await.execute(sqlx::AssertSqlSafe(statement)).await.unwrap();
}

#[tokio::test]
async fn a_moment_beyond_the_maximum_is_refused_with_the_maximum_and_an_earlier_one_is_shown() {
    let app = App::start().await;
    let join = |user: &str| {
        format!(
            r#"'{{"CallbackCommand":"Group.CallbackAfterNewMemberJoin","GroupId":"GROUP","EventTime":' || {T0} + n
               || ',"NewMemberList":[{{"Member_Account":"' || {user} || '"}}]}}'"#
        )
    };
    fill(&app, "rows", 200_001, &join("n").replace("GROUP", "rows")).await;
    fill(&app, "bytes", 65, &format!("{} || repeat(' ', 1024 * 1024)", join("n").replace("GROUP", "bytes")))
        .await;
    for (group, most) in [("rows", "200000 ledger rows"), ("bytes", "64 MiB")] {
        let detail = problem(&app, &path(group, "at=2099-01-01T00:00:00Z"), 422, "too_large").await;
        assert!(detail.contains(most), "{detail}");
        let page = app.service.read(&path(group, &format!("at={}", time(T0 + 5)))).await;
        let users: Vec<_> =
            page["items"].as_array().unwrap().iter().map(|member| &member["user_id"]).collect();
        assert_eq!(users, ["1", "2", "3", "4", "5"], "{group}");
    }
    app.stop().await;
}

#[tokio::test]
async fn a_row_that_this_program_cannot_make_out_is_an_error_and_no_gap_in_the_list() {
    let app = App::start().await;
    fill(&app, "g", 1, "'{}'").await;
    problem(&app, &path("g", "at=2099-01-01T00:00:00Z"), 500, "internal").await;
    let history = app.service.read("/v1/groups/g/history").await;
    assert_eq!(history["items"][0]["users"], json!([]));
    app.stop().await;
}

/// The pool for lists plans each statement for its values, and a position says nothing of the time of an entry: each page
/// would plan all partitions.
#[tokio::test]
async fn whether_a_kept_fold_still_holds_is_asked_as_a_lookup() {
    let app = App::start().await;
    app.service.taken(&created("g", 0, "G", json!({}))).await;
    let database = Database::new(&app.database.url).unwrap();
    let reader = AsOfReader::new(database.clone(), AsOfPermits::default());
    let group = group_key(SdkAppId::parse(APP).unwrap(), GroupId::parse("g").unwrap());
    let wanted = GroupMoment { group, moment: Millis::new(T0 + 10) };
    let kept = async || {
        let folds = [reader.group(&wanted, None).await.unwrap(), reader.group(&wanted, None).await.unwrap()];
        Arc::ptr_eq(&folds[0], &folds[1])
    };
    assert!(eventually(kept).await, "no writer hides its place");
    let mut lists = Vec::new();
    for _ in 0..READER_CONNECTIONS_MAX {
        lists.push(database.reader().acquire().await.unwrap());
    }
    assert!(kept().await);
    drop(lists);
    database.close().await;
    app.stop().await;
}
