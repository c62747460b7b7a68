//! The timeline of a group: against reads as of a moment at each bucket's end, by example, and at the limits.

use std::collections::BTreeSet;

use chrono::DateTime;
use group_mirror::ingest;
use group_mirror::mirror::{ListRange, Snapshot, group_key};
use group_mirror::model::{GroupId, Millis, SdkAppId, UserId};
use group_mirror::store::{Database, timeline as ledger_pages};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use reqwest::StatusCode;
use serde_json::{Value, json};
use sqlx::Executor as _;

use crate::api::freshness;
use crate::api::reads::created;
use crate::replay::as_of::{fill, list, problem, time, town, with_rooms};
use crate::rules::laws::{generator, setting};
use crate::support::api::{APP, T0, after};
use crate::support::{API_TOKEN, App, Service, histories, reads, shown};

fn millis(time: &Value) -> i64 {
    DateTime::parse_from_rfc3339(time.as_str().unwrap()).unwrap().timestamp_millis()
}

async fn timeline(service: &Service, group: &str, query: &str) -> Value {
    service.read(&format!("/v1/groups/{}/timeline?{query}", shown::escaped(group))).await
}

/// The number of members that a read as of a moment shows; null where it shows none.
async fn count_at(service: &Service, group: &str, ms: i64) -> Value {
    let url = service.api_url(&format!("/v1/groups/{}?at={}", shown::escaped(group), time(ms)));
    let answer = service.client.get(url).bearer_auth(API_TOKEN).send().await.unwrap();
    if answer.status() == StatusCode::NOT_FOUND {
        return Value::Null;
    }
    answer.json::<Value>().await.unwrap()["member_count"].clone()
}

/// Enters snapshots as a pass does.
async fn take(app: &App, snapshots: &[Snapshot]) {
    let pools = Database::new(&app.database.url).unwrap();
    for batch in snapshots.chunks(ingest::SNAPSHOTS_MAX) {
        ingest::commit_snapshots(&pools, batch, Millis::new(T0 + 3_600_000)).await.unwrap();
    }
    pools.close().await;
}

/// Aim: a running count is at each bucket's end what a read as of that moment folds anew, whatever has happened: lives that
/// follow each other, stragglers, complete lists, lists of ranges, groups that were found gone. Method: generated histories of
/// callbacks and snapshots in one database, random windows and numbers of buckets. `TIMELINE_HISTORIES` sets how many,
/// `TIMELINE_SEED` which.
#[tokio::test(flavor = "multi_thread")]
async fn the_count_at_the_end_of_each_bucket_is_that_of_a_read_as_of_that_moment() {
    let app = with_rooms().await;
    let seed = setting("TIMELINE_SEED", 11);
    let (mut runner, mut chance) = (generator(seed), fastrand::Rng::with_seed(seed));
    let (mut groups, mut snapshots) = (BTreeSet::new(), Vec::new());
    for number in 0..setting("TIMELINE_HISTORIES", 20) {
        let prefix = format!("t{number}-");
        let history = histories::history().new_tree(&mut runner).unwrap().current();
        for body in histories::renamed(&history, &prefix) {
            groups.insert(body["GroupId"].as_str().unwrap().to_owned());
            app.service.taken(&body).await;
        }
        let read = prop::collection::vec(reads::snapshot(), 2..12).new_tree(&mut runner).unwrap().current();
        snapshots.extend(read.iter().map(|snapshot| reads::renamed(snapshot, &prefix)));
    }
    app.service.until(|told| told["spool"]["depth"] == 0).await;
    take(&app, &snapshots).await;
    let (mut known, mut moved) = (0, 0);
    for group in &groups {
        for _ in 0..3 {
            let mut query = format!("buckets={}", [1, 2, 3, 7, 40, 500][chance.usize(..6)]);
            if chance.bool() {
                query += &format!("&after={}", time(histories::BASE_MS + chance.i64(-2..15_000)));
            }
            if chance.bool() {
                query += &format!("&before={}", time(histories::BASE_MS + chance.i64(15_001..40_000)));
            }
            let line = timeline(&app.service, group, &query).await;
            let buckets = line["buckets"].as_array().unwrap();
            let Some(first) = buckets.first() else { continue };
            let mut before = line["member_count_before"].clone();
            assert_eq!(
                before,
                count_at(&app.service, group, millis(&first["begin"])).await,
                "{group} {query}"
            );
            let mut begin = first["begin"].clone();
            for (number, bucket) in buckets.iter().enumerate() {
                assert_eq!(bucket["begin"], begin, "{group} {query}: without holes");
                begin = bucket["end"].clone();
                let count = &bucket["member_count"];
                let is_quiet = bucket["events"] == json!({});
                assert_eq!(bucket["worst"].is_null(), is_quiet, "{bucket}");
                assert!(
                    !is_quiet || *count == before,
                    "{group} {query}: nothing moves it but events: {bucket}"
                );
                // All that moved something, and some of the others.
                if !is_quiet || number % 50 == 0 {
                    let expected = count_at(&app.service, group, millis(&bucket["end"])).await;
                    assert_eq!(*count, expected, "{group} {query}: {bucket}");
                }
                known += usize::from(!count.is_null());
                moved += usize::from(!count.is_null() && *count != before);
                before = count.clone();
            }
        }
    }
    assert!(known > 200 && moved > 20, "{known} known, {moved} moved");
    app.stop().await;
}

/// What a bucket says, in one line.
fn words(bucket: &Value) -> String {
    let [count, joins, leaves, removals] =
        ["member_count", "joins", "leaves", "removals"].map(|name| bucket[name].to_string());
    let events = bucket["events"].as_object().unwrap().iter();
    let events = events.map(|(name, count)| format!("{}×{count}", name.trim_start_matches("Group.Callback")));
    let events: Vec<_> = events.collect();
    format!(
        "{count} +{joins} -{leaves} !{removals} {} {}",
        bucket["worst"].as_str().unwrap_or("-"),
        events.join(",")
    )
}

#[tokio::test]
async fn a_bucket_says_how_many_joined_left_and_were_removed_and_its_gravest_event() {
    let app = town().await;
    let whole = timeline(&app.service, "g", "buckets=5").await;
    assert_eq!((&whole["group_id"], &whole["member_count_before"]), (&json!("g"), &Value::Null));
    let buckets = whole["buckets"].as_array().unwrap();
    assert_eq!(buckets[0]["begin"], time(T0 - 1));
    assert_eq!(buckets[4]["end"], time(T0 + 5_000));
    let told: Vec<_> = buckets.iter().map(words).collect();
    let expected = [
        "3 +3 -0 !0 created AfterCreateGroup×1",
        "3 +0 -0 !0 changed AfterMemberFieldChanged×1",
        "3 +0 -0 !0 owner_changed AfterChangeGroupOwner×1",
        "2 +0 -0 !1 removed AfterMemberExit×1",
        "0 +1 -0 !0 destroyed AfterGroupDestroyed×1,AfterNewMemberJoin×1",
    ];
    assert_eq!(told, expected);
    let quit = after(
        "MemberExit",
        "g",
        3_500,
        json!({"ExitMemberList": list(&["ana", "boris"]), "ExitType": "Quit"}),
    );
    app.service.taken(&quit).await;
    let parked = json!({"CallbackCommand": "Group.CallbackAfterNewMemberJoin", "GroupId": "g", "EventTime": T0 + 3_700,
                        "NewMemberList": 7});
    app.service.parked(&parked.to_string()).await;
    let query = format!("buckets=3&after={}&before={}", time(T0 + 2_999), time(T0 + 4_000));
    let part = timeline(&app.service, "g", &query).await;
    assert_eq!(part["member_count_before"], 3);
    let told: Vec<_> = part["buckets"].as_array().unwrap().iter().map(words).collect();
    let expected = [
        "2 +0 -0 !1 removed AfterMemberExit×1",
        "0 +0 -2 !0 left AfterMemberExit×1",
        "0 +0 -0 !0 parked AfterNewMemberJoin×1",
    ];
    assert_eq!(told, expected);
    app.stop().await;
}

#[tokio::test]
async fn the_events_of_a_bucket_are_the_entries_of_the_history_between_its_ends() {
    let app = town().await;
    let line = timeline(&app.service, "g", "buckets=3").await;
    let mut all = 0;
    for bucket in line["buckets"].as_array().unwrap() {
        let before = time(millis(&bucket["end"]) + 1);
        let path =
            format!("/v1/groups/g/history?after={}&before={before}", bucket["begin"].as_str().unwrap());
        let entries = app.service.read(&path).await["items"].as_array().unwrap().len() as u64;
        let counted: u64 = bucket["events"].as_object().unwrap().values().filter_map(Value::as_u64).sum();
        assert_eq!(counted, entries, "{bucket}");
        all += entries;
    }
    assert_eq!(all, 6);
    app.stop().await;
}

#[tokio::test]
async fn a_complete_list_moves_the_count_and_a_group_that_was_found_gone_has_none() {
    let app = App::start().await;
    app.service
        .taken(&created("g", 0, "g", json!({"Owner_Account": "ana", "MemberList": list(&["boris"])})))
        .await;
    let members =
        json!([{ "Member_Account": "ana" }, { "Member_Account": "chen" }, { "Member_Account": "dora" }]);
    take(&app, &[freshness::list("g", 10_000, &members)]).await;
    let line = timeline(&app.service, "g", "buckets=2").await;
    let told: Vec<_> = line["buckets"].as_array().unwrap().iter().map(words).collect();
    assert_eq!(told, ["2 +2 -0 !0 created AfterCreateGroup×1", "3 +0 -0 !0 read get_group_member_info×1"]);
    // A list of one range alone, of a large group: who of that range is not in it has left.
    let range = Some(ListRange::of(&UserId::parse("chen").unwrap()));
    take(&app, &[Snapshot { range, ..freshness::list("g", 15_000, &json!([])) }]).await;
    let line = timeline(&app.service, "g", &format!("buckets=2&after={}", time(T0 + 9_999))).await;
    let told: Vec<_> = line["buckets"].as_array().unwrap().iter().map(words).collect();
    let read = "+0 -0 !0 read get_group_member_info×1";
    assert_eq!(told, [format!("3 {read}"), format!("2 {read}")]);
    assert_eq!(count_at(&app.service, "g", T0 + 15_000).await, 2);
    take(&app, &[freshness::gone("g", 20_000)]).await;
    let line = timeline(&app.service, "g", "buckets=2").await;
    let told: Vec<_> = line["buckets"].as_array().unwrap().iter().map(words).collect();
    assert_eq!(told[1], "0 +0 -0 !0 destroyed get_group_info×1,get_group_member_info×2");
    app.stop().await;
}

#[tokio::test]
async fn a_window_without_a_millisecond_is_empty_and_what_is_no_window_or_no_group_is_refused() {
    let app = town().await;
    let line = timeline(&app.service, "g", &format!("after={}", time(T0 + 5_000))).await;
    assert_eq!((&line["buckets"], &line["member_count_before"]), (&json!([]), &Value::Null));
    // Finer than a millisecond: only what lies between counts.
    let line =
        timeline(&app.service, "g", "after=2026-01-01T00:00:02.9995Z&before=2026-01-01T00:00:03.0005Z").await;
    assert_eq!(line["buckets"].as_array().unwrap().len(), 1);
    assert_eq!(line["buckets"][0]["removals"], 1);
    let path = |query: &str| format!("/v1/groups/g/timeline?{query}");
    for query in ["buckets=0", "buckets=501", "buckets=x", "after=now", "at=2026-01-01T00:00:00Z"] {
        problem(&app, &path(query), 400, "bad_parameter").await;
    }
    let reversed = format!("after={}&before={}", time(T0 + 1), time(T0));
    let detail = problem(&app, &path(&reversed), 400, "bad_parameter").await;
    assert!(detail.contains("earlier"), "{detail}");
    problem(&app, "/v1/groups/nobody/timeline", 404, "not_found").await;
    let body =
        json!({"CallbackCommand": "Group.CallbackAfterNewMemberJoin", "GroupId": "p", "NewMemberList": 7});
    app.service.parked(&body.to_string()).await;
    problem(&app, "/v1/groups/p/timeline", 404, "not_found").await;
    app.stop().await;
}

/// The body of a join of one user, in SQL.
const JOIN: &str = r#"'{"CallbackCommand":"Group.CallbackAfterNewMemberJoin","GroupId":"g","NewMemberList":[{"Member_Account":"' || n || '"}]}'"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_group_beyond_the_maximum_is_refused_with_the_maximum_and_its_earlier_part_is_shown() {
    let app = App::start().await;
    fill(&app, "g", 200_001, JOIN).await;
    let detail = problem(&app, "/v1/groups/g/timeline", 422, "too_large").await;
    assert!(detail.contains("200000 ledger rows"), "{detail}");
    // Many pages of the ledger, and each entry in its bucket.
    let query = format!("buckets=7&before={}", time(T0 + 7_001));
    let line = timeline(&app.service, "g", &query).await;
    let joins: Vec<_> = line["buckets"].as_array().unwrap().iter().map(|bucket| &bucket["joins"]).collect();
    assert_eq!(json!(joins), json!([1_000, 1_000, 1_000, 1_000, 1_000, 1_000, 1_000]));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_entries_are_read_in_the_order_of_the_key_without_a_sort() {
    let app = App::start().await;
    fill(&app, "g", 20_000, JOIN).await;
    let group = group_key(SdkAppId::parse(APP).unwrap(), GroupId::parse("g").unwrap());
    let mut conn = app.connect().await;
    for known in ["nothing", "everything"] {
        if known == "everything" {
            conn.execute("ANALYZE ledger").await.unwrap();
        }
        for behind in [(i64::MIN, &[][..]), (T0 + 10_000, &[7; 16][..])] {
            let until = T0 + 1_000_000;
            let plan =
                ledger_pages::explain_page(&mut conn, "COSTS OFF", &group, behind, until).await.unwrap();
            assert!(plan.contains("_pkey on ledger_past") && !plan.contains("->  Sort"), "{known}: {plan}");
        }
    }
    app.stop().await;
}
