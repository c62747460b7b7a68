//! A group as of a moment: its profile, owner, fields, attributes and count, at the edges of its life and at the limits.
//! `as_of` compares generated histories with a second service.

use reqwest::StatusCode;
use reqwest::header::{ETAG, IF_NONE_MATCH};
use serde_json::{Value, json};

use crate::api::reads::created;
use crate::replay::as_of::{list, problem, time, town};
use crate::support::api::{T0, after};
use crate::support::{API_TOKEN, App};

async fn at(app: &App, group: &str, ms: i64) -> Value {
    app.service.read(&format!("/v1/groups/{group}?at={}", time(T0 + ms))).await
}

#[tokio::test]
async fn a_group_that_was_destroyed_since_opens_as_it_was_at_each_moment() {
    let app = town().await;
    for (ms, status, owner, count) in [
        (0, "active", "ana", 3),
        (1_999, "active", "ana", 3),
        (2_000, "active", "boris", 3),
        (3_000, "active", "boris", 2),
        (4_999, "active", "boris", 3),
        (5_000, "destroyed", "boris", 0),
        (900_000_000_000, "destroyed", "boris", 0),
    ] {
        let then = at(&app, "g", ms).await;
        assert_eq!(then["at"], time(T0 + ms));
        let shown = [&then["status"], &then["owner"], &then["name"], &then["type"], &then["member_count"]];
        assert_eq!(json!(shown), json!([status, owner, "g", "Public", count]), "{ms}");
        assert_eq!(then["destroyed_at"].is_null(), status == "active", "{then}");
        let page = app.service.read(&format!("/v1/groups/g/members?at={}", time(T0 + ms))).await;
        assert_eq!(page["items"].as_array().unwrap().len(), count, "{ms}");
    }
    app.stop().await;
}

#[tokio::test]
async fn the_fields_and_attributes_are_those_of_the_moment() {
    let app = App::start().await;
    let field = |value: &str| json!([{ "Key": "level", "Value": value }]);
    let attribute = |key: &str, value: &str| json!([{ "key": key, "value": value }]);
    let told = [
        created("g", 0, "one", json!({"Owner_Account": "ana", "UserDefinedDataList": field("1")})),
        after("GroupInfoChanged", "g", 1_000, json!({"Name": "two", "UserDefinedDataList": field("2")})),
        after(
            "GroupAttrChanged",
            "g",
            2_000,
            json!({"OptionType": "modify", "GroupAttr": attribute("mood", "good")}),
        ),
        after(
            "GroupAttrChanged",
            "g",
            3_000,
            json!({"OptionType": "set", "GroupAttr": attribute("game", "go")}),
        ),
    ];
    for body in told.iter().rev() {
        app.service.taken(body).await;
    }
    for (ms, name, level, attributes) in [
        (0, "one", "1", json!({})),
        (1_000, "two", "2", json!({})),
        (2_000, "two", "2", json!({"mood": "good"})),
        (3_000, "two", "2", json!({"game": "go"})),
    ] {
        let then = at(&app, "g", ms).await;
        assert_eq!(then["name"], name);
        assert_eq!(then["user_defined_fields"], json!({"level": level}), "{ms}");
        assert_eq!(then["attributes"], attributes, "{ms}");
    }
    app.stop().await;
}

#[tokio::test]
async fn before_the_first_entry_and_of_what_is_no_group_it_is_404_and_says_which() {
    let app = town().await;
    let detail = problem(&app, &format!("/v1/groups/g?at={}", time(T0 - 1)), 404, "not_found").await;
    assert!(detail.contains("as of 2025-12-31T23:59:59.999Z: all its entries are later"), "{detail}");
    let detail = problem(&app, &format!("/v1/groups/no?at={}", time(T0)), 404, "not_found").await;
    assert!(detail.contains("No group \"no\" is known"), "{detail}");
    for wrong in ["", "yesterday", "2026-01-01"] {
        problem(&app, &format!("/v1/groups/g?at={wrong}"), 400, "bad_parameter").await;
    }
    app.stop().await;
}

#[tokio::test]
async fn a_past_form_has_a_tag_that_stands_while_nothing_comes_in_late() {
    let app = town().await;
    let url = app.service.api_url(&format!("/v1/groups/g?at={}", time(T0 + 500)));
    let tagged = async |tag: &str| {
        let request = app.service.client.get(&url).bearer_auth(API_TOKEN).header(IF_NONE_MATCH, tag);
        request.send().await.unwrap()
    };
    let first = tagged("none").await;
    let tag = first.headers()[ETAG].to_str().unwrap().to_owned();
    assert_eq!(tagged(&tag).await.status(), StatusCode::NOT_MODIFIED);
    let late = after("NewMemberJoin", "g", 400, json!({"NewMemberList": list(&["eve"])}));
    app.service.taken(&late).await;
    let changed = tagged(&tag).await;
    assert_eq!(changed.status(), StatusCode::OK);
    assert_eq!(changed.json::<Value>().await.unwrap()["member_count"], 4);
    app.stop().await;
}

#[tokio::test]
async fn a_group_with_more_keys_than_a_fold_keeps_is_refused_and_its_members_are_not() {
    let app = App::start().await;
    app.service.taken(&created("g", 0, "g", json!({"Owner_Account": "ana"}))).await;
    for (number, ms) in [(0, 1), (1, 2), (2, 3)] {
        let keys = number * 7_000..(number + 1) * 7_000;
        let pairs: Value = keys.map(|key| json!({ "key": key.to_string(), "value": "" })).collect();
        let body = after("GroupAttrChanged", "g", ms, json!({"OptionType": "modify", "GroupAttr": pairs}));
        app.service.taken(&body).await;
    }
    assert_eq!(at(&app, "g", 2).await["attributes"].as_object().unwrap().len(), 14_000);
    let detail = problem(&app, &format!("/v1/groups/g?at={}", time(T0 + 3)), 422, "too_large").await;
    assert!(detail.contains("20000 keys"), "{detail}");
    let page = app.service.read(&format!("/v1/groups/g/members?at={}", time(T0 + 3))).await;
    assert_eq!(page["items"][0]["user_id"], "ana");
    app.stop().await;
}
