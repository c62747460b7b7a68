//! One membership by its key, and the filters of the list of members against a model, now and as of a moment.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use form_urlencoded::Serializer;
use group_mirror::store::member_list::{self, MemberFilter, NamePart};
use group_mirror::store::members::LOOKED_THROUGH_MAX;
use reqwest::StatusCode;
use reqwest::header::{ETAG, IF_NONE_MATCH};
use serde_json::{Value, json};

use crate::api::plans::{COUNTED, app as app_id, filled, group, user, visited};
use crate::api::reads::created;
use crate::replay::as_of::{list, problem, time, town};
use crate::rules::laws::setting;
use crate::support::api::{T0, after};
use crate::support::{API_TOKEN, App};

#[tokio::test]
async fn a_membership_is_found_by_its_key_whether_it_lasts_or_not() {
    let app = town().await;
    for (query, user, status, role, left_by) in [
        (String::new(), "chen", "left", "Member", json!("boris")),
        (String::new(), "ana", "left", "Member", Value::Null),
        (format!("?at={}", time(T0 + 2_999)), "chen", "member", "Admin", Value::Null),
        (format!("?at={}", time(T0 + 3_000)), "chen", "left", "Member", json!("boris")),
        (format!("?at={}", time(T0 + 4_000)), "boris", "member", "Owner", Value::Null),
    ] {
        let one = app.service.read(&format!("/v1/groups/g/members/{user}{query}")).await;
        assert_eq!(one["at"].is_null(), query.is_empty());
        assert_eq!((&one["group_id"], &one["user_id"]), (&json!("g"), &json!(user)));
        assert_eq!(
            json!([one["status"], one["role"], one["left_by"]]),
            json!([status, role, left_by]),
            "{user}{query}"
        );
        // It is what the list says.
        let joined = if query.is_empty() { "?" } else { "&" };
        let page =
            app.service.read(&format!("/v1/groups/g/members{query}{joined}status=all&user_id={user}")).await;
        for (key, value) in page["items"][0].as_object().unwrap() {
            assert_eq!(&one[key], value, "{user}{query}: {key}");
        }
    }
    app.stop().await;
}

#[tokio::test]
async fn a_user_without_a_membership_is_404_and_the_text_says_whether_all_members_are_known() {
    let app = town().await;
    app.service.taken(&after("NewMemberJoin", "part", 0, json!({"NewMemberList": list(&["ana"])}))).await;
    for (path, known, wanted) in [
        (
            "/v1/groups/g/members/zoe".to_owned(),
            true,
            "No membership of user \"zoe\" in group \"g\" is known.",
        ),
        (
            format!("/v1/groups/g/members/dora?at={}", time(T0 + 3_999)),
            true,
            "known as of 2026-01-01T00:00:03.999Z.",
        ),
        (format!("/v1/groups/g/members/ana?at={}", time(T0 - 1)), false, "known as of"),
        ("/v1/groups/part/members/zoe".to_owned(), false, "in group \"part\""),
    ] {
        let detail = problem(&app, &path, 404, "not_found").await;
        assert!(detail.contains(wanted), "{path}: {detail}");
        assert_eq!(!detail.contains("Not all members"), known, "{path}: {detail}");
    }
    let detail = problem(&app, "/v1/groups/no/members/ana", 404, "not_found").await;
    assert!(detail.contains("No group \"no\""), "{detail}");
    let long = "x".repeat(513);
    problem(&app, &format!("/v1/groups/g/members/{long}"), 400, "bad_parameter").await;
    problem(&app, "/v1/groups/g/members/%FF", 400, "bad_parameter").await;
    app.stop().await;
}

#[tokio::test]
async fn a_membership_has_a_tag_that_changes_with_what_is_shown() {
    let app = town().await;
    let url = app.service.api_url("/v1/groups/g/members/boris");
    let tagged = async |tag: &str| {
        let request = app.service.client.get(&url).bearer_auth(API_TOKEN).header(IF_NONE_MATCH, tag);
        request.send().await.unwrap()
    };
    let tag = tagged("none").await.headers()[ETAG].to_str().unwrap().to_owned();
    assert_eq!(tagged(&tag).await.status(), StatusCode::NOT_MODIFIED);
    app.service.taken(&created("g", 20_000, "g", json!({"Owner_Account": "boris"}))).await;
    assert_eq!(tagged(&tag).await.status(), StatusCode::OK);
    app.stop().await;
}

const IDS: [&str; 6] = ["Ann", "anna-2", "ÄNNE", "bob", "50%_x", "群主"];
const CARDS: [&str; 5] = ["", "ANN", "Straße", "a_b%", "夜猫子"];

/// Joins, leaves and cards of some 60 users over 10 s, most of one group that is never destroyed.
fn life(chance: &mut fastrand::Rng) -> Vec<Value> {
    let mut bodies = vec![created("g", 0, "g", json!({"Owner_Account": "bob0"}))];
    for number in 0..60 {
        let id = format!("{}{number}", IDS[chance.usize(..IDS.len())]);
        let one = list(&[id.as_str()]);
        let ms = chance.i64(1..10_000);
        bodies.push(after("NewMemberJoin", "g", ms, json!({"NewMemberList": one})));
        if chance.bool() {
            let card = json!({"Member_Account": id, "NameCard": CARDS[chance.usize(..CARDS.len())]});
            bodies.push(after("MemberFieldChanged", "g", ms + 1, card));
        }
        if chance.u8(..3) == 0 {
            let left = json!({"ExitMemberList": one, "ExitType": "Quit"});
            bodies.push(after("MemberExit", "g", ms + chance.i64(2..3_000), left));
        }
        if chance.u8(..6) == 0 {
            bodies.push(after("NewMemberJoin", "g", ms + 5_000, json!({"NewMemberList": one})));
        }
    }
    bodies
}

fn is_later(time: &Value, than: &str) -> bool {
    let parsed = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
    time.as_str().is_some_and(|time| parsed(time) > parsed(than))
}

fn means(pairs: &[(&str, String)], member: &Value) -> bool {
    let has = |name: &str| pairs.iter().any(|(found, _)| *found == name);
    let named: BTreeSet<&str> =
        pairs.iter().filter(|(name, _)| *name == "user_id").map(|(_, id)| id.as_str()).collect();
    let status = if has("left_after") { "left" } else { "member" };
    let is_named = named.is_empty() || named.contains(member["user_id"].as_str().unwrap());
    is_named
        && (has("status") || member["status"] == status)
        && pairs.iter().all(|(name, value)| match *name {
            "status" => value == "all" || member["status"] == **value,
            "role" => member["role"] == **value,
            "q" => ["user_id", "name_card"].iter().any(|key| {
                // No letter here has another form in capitals than one of lower case, but `ß`.
                let text = member[key].as_str().unwrap_or_default().to_lowercase().replace('ß', "ss");
                text.contains(&value.to_lowercase().replace('ß', "ss"))
            }),
            "joined_after" => is_later(&member["joined_at"], value),
            "left_after" => is_later(&member["left_at"], value),
            _ => true,
        })
}

/// Aim: any combination of filters shows what a person would pick by hand out of all memberships, in pages of any size, now
/// and as of a moment. The model knows no SQL.
#[tokio::test]
async fn any_combination_of_filters_lists_the_members_that_the_model_picks_by_hand() {
    let mut chance = fastrand::Rng::with_seed(setting("DIFFERENCES_SEED", 5));
    let app = App::start().await;
    for body in life(&mut chance) {
        app.service.taken(&body).await;
    }
    app.service.until(|told| told["spool"]["depth"] == 0).await;
    let mut shown = 0;
    for _ in 0..setting("DIFFERENCES_REQUESTS", 150) {
        let at = chance.bool().then(|| ("at", time(T0 + chance.i64(0..12_000))));
        let mut all = vec![("status", "all".to_owned()), ("limit", "500".to_owned())];
        all.extend(at.clone());
        let query = |pairs: &[(&str, String)]| Serializer::new(String::new()).extend_pairs(pairs).finish();
        let everyone = app.service.read(&format!("/v1/groups/g/members?{}", query(&all))).await;
        let everyone = everyone["items"].as_array().unwrap();
        let mut pairs: Vec<(&str, String)> = at.into_iter().collect();
        for (name, values) in [
            ("status", &["all", "left", "member"][..]),
            ("role", &["Owner", "Member"][..]),
            ("q", &["an", "ANN", "ä", "%", "_", "STRASSE", "猫", "no one", "0"][..]),
        ] {
            if chance.u8(..5) < 2 {
                pairs.push((name, values[chance.usize(..values.len())].to_owned()));
            }
        }
        for name in ["joined_after", "left_after"] {
            if chance.u8(..4) == 0 {
                pairs.push((
                    name,
                    time(T0 + chance.i64(0..9_000)).replace('Z', ["Z", "9Z"][chance.usize(..2)]),
                ));
            }
        }
        if chance.u8(..3) == 0 {
            let named = everyone.iter().filter(|_| chance.u8(..4) == 0);
            let ids = named.map(|member| ("user_id", member["user_id"].as_str().unwrap().to_owned()));
            pairs.extend(ids.collect::<Vec<_>>());
            pairs.push(("user_id", "no-one".to_owned()));
        }
        let expected: Vec<&Value> = everyone.iter().filter(|member| means(&pairs, member)).collect();
        let path = format!("/v1/groups/g/members?{}&limit={}", query(&pairs), [1, 3, 500][chance.usize(..3)]);
        let (mut seen, mut next) = (Vec::new(), String::new());
        loop {
            let page = app.service.read(&format!("{path}{next}")).await;
            seen.extend(page["items"].as_array().unwrap().iter().cloned());
            let Some(cursor) = page["next_cursor"].as_str() else { break };
            next = format!("&cursor={cursor}");
        }
        assert_eq!(seen.iter().collect::<Vec<_>>(), expected, "{path}");
        shown += seen.len();
    }
    assert!(shown > 500, "the requests found {shown}");
    app.stop().await;
}

#[tokio::test]
async fn a_user_may_be_named_two_hundred_times_and_other_parameters_once() {
    let app = town().await;
    let named = |count: usize| (0..count).map(|n| format!("&user_id=u{n}")).collect::<String>();
    let page = app.service.read(&format!("/v1/groups/g/members?status=all{}&user_id=dora", named(199))).await;
    assert_eq!(page["items"].as_array().unwrap().len(), 1);
    let detail =
        problem(&app, &format!("/v1/groups/g/members?{}", &named(201)[1..]), 400, "bad_parameter").await;
    assert!(detail.contains("201 values; at most 200"), "{detail}");
    for (path, most) in [
        (format!("/v1/groups?{}", named(201).replace("user_id", "group_id").trim_start_matches('&')), 200),
        (format!("/v1/groups?{}", named(21).replace("user_id", "type").trim_start_matches('&')), 20),
    ] {
        let detail = problem(&app, &path, 400, "bad_parameter").await;
        assert!(detail.contains(&format!("at most {most} are allowed")), "{detail}");
    }
    problem(&app, "/v1/groups/g/members?q=a&q=b", 400, "bad_parameter").await;
    problem(&app, "/v1/groups/g/members?user_id=", 400, "bad_parameter").await;
    // The order of the ids and their repeats do not matter, so a cursor goes on with them in any.
    let page = app.service.read("/v1/groups/g/members?status=all&limit=1&user_id=dora&user_id=ana").await;
    let cursor = page["next_cursor"].as_str().unwrap();
    let path =
        format!("/v1/groups/g/members?status=all&user_id=ana&user_id=dora&user_id=ana&cursor={cursor}");
    assert_eq!(app.service.read(&path).await["items"][0]["user_id"], "dora");
    app.stop().await;
}

/// A community of 50,000, of whom every thousandth has a card, and one in ten has left.
const COMMUNITY: &str = r"
INSERT INTO groups (sdk_app_id, group_id, type, type_stamp, created_stamp, updated_stamp)
SELECT 7, 'g', 'Community', s, s, s FROM (SELECT int8send(1767225600000) || '\x010102030405060708' AS s) s;
INSERT INTO group_members (sdk_app_id, group_id, user_id, join_stamp, name_card, name_card_stamp, leave_stamp, revival_barrier)
SELECT 7, 'g', 'u' || lpad(n::text, 6, '0'), s, CASE WHEN n % 1000 = 0 THEN 'Guide' END,
       CASE WHEN n % 1000 = 0 THEN s ELSE '' END, CASE WHEN n % 10 = 7 THEN l ELSE '' END, CASE WHEN n % 10 = 7 THEN r ELSE '' END
  FROM (SELECT n, int8send(1767225600000 + n) || '\x030102030405060708' AS s,
               int8send(1767225600000 + n + 50000) || '\x040102030405060708' AS l,
               int8send(1767225600000 + n + 60000) || '\x000000000000000000' AS r
          FROM generate_series(1::bigint, 50000) n) m;
ALTER TABLE group_members SET (autovacuum_enabled = off)";

#[tokio::test]
async fn a_search_among_members_looks_through_a_bounded_number_per_page_and_the_walk_goes_on() {
    let (_database, mut conn) = filled(&[COMMUNITY]).await;
    let (app, group) = (app_id("7"), group("g"));
    let present = MemberFilter { present: Some(true), ..MemberFilter::default() };
    let late = "2026-01-01T00:00:49.990Z".parse().ok();
    let guides = MemberFilter { part: Some(NamePart::new("guide")), ..present.clone() };
    let newest = MemberFilter { joined_after: late, ..present.clone() };
    let gone = MemberFilter {
        present: Some(false),
        left_after: "2026-01-01T00:01:39.970Z".parse().ok(),
        ..present.clone()
    };
    for known in ["nothing", "everything"] {
        if known == "everything" {
            sqlx::Executor::execute(&mut conn, "ANALYZE").await.unwrap();
        }
        for (filter, expected) in [(&guides, 50), (&newest, 9), (&gone, 3)] {
            let (mut found, mut after, mut pages) = (0, None, 0);
            loop {
                let plan = member_list::explain_of_group(
                    &mut conn,
                    COUNTED,
                    (app, &group),
                    filter,
                    after.as_deref(),
                );
                let plan = plan.await.unwrap();
                // The edge, and the memberships up to it, each with its group and once more as a row of the page.
                let most = 5 * u64::try_from(LOOKED_THROUGH_MAX).unwrap();
                assert!(
                    visited(&plan) < most,
                    "{known} is known; {filter:?}: {} rows: {plan}",
                    visited(&plan)
                );
                let page = member_list::of_group(&mut conn, app, &group, filter, after.as_deref(), 7)
                    .await
                    .unwrap()
                    .unwrap();
                assert!(page.rows.len() <= 7);
                found += page.rows.len();
                pages += 1;
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(found, expected, "{filter:?}");
            assert!(pages <= 6 + expected / 7 + 5, "{pages} pages");
        }
        let two = [user("u000001"), user("u049999"), user("nobody")].into();
        let named = MemberFilter { users: two, ..MemberFilter::default() };
        let plan =
            member_list::explain_of_group(&mut conn, COUNTED, (app, &group), &named, None).await.unwrap();
        assert!(visited(&plan) < 30, "{known} is known: {plan}");
    }
}
