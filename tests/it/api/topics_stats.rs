//! Topics of a community, and the counts of `/v1/stats` while the database answers.

use serde_json::{Value, json};

use crate::api::reads::created;
use crate::support::api::{Api, after};
use crate::support::{App, eventually, sample};

pub(crate) fn community() -> Vec<Value> {
    let topic = |id: &str, ms, more| {
        let mut body = after("CreateTopic", "town", ms, json!({"TopicId": id, "Operator_Account": "gus"}));
        let Value::Object(more) = more else { panic!("not an object: {more}") };
        body.as_object_mut().unwrap().extend(more);
        body
    };
    vec![
        created("town", 1_000, "Town", json!({"Type": "Community"})),
        topic("a", 2_000, json!({"Name": "Pier"})),
        topic("b", 3_000, json!({"Name": "Mole"})),
        topic("c", 4_000, json!({"Name": "Quay"})),
        after(
            "TopicInfoChanged",
            "town",
            5_000,
            json!({"TopicId": "a", "Introduction": "All of it", "FaceUrl": ""}),
        ),
        after("TopicDestroyed", "town", 6_000, json!({"TopicIdList": ["b"]})),
        created("empty", 1_000, "Empty", json!({"Type": "Community"})),
        created("gone", 1_000, "Gone", json!({"Type": "Community"})),
        after("CreateTopic", "gone", 2_000, json!({"TopicId": "d"})),
        after("GroupDestroyed", "gone", 9_000, json!({})),
    ]
}

#[tokio::test]
async fn topics_of_a_community_are_shown_with_what_became_of_them() {
    let api = Api::of(&community()).await;
    let text = |topic: &Value| topic["topic_id"].as_str().unwrap().to_owned();
    let ids = async |path: &str| -> Vec<String> {
        let page = api.json(path).await;
        page["items"].as_array().unwrap().iter().map(text).collect()
    };
    assert_eq!(ids("/v1/groups/town/topics").await, ["a", "c"]);
    assert_eq!(ids("/v1/groups/town/topics?status=destroyed").await, ["b"]);
    assert_eq!(ids("/v1/groups/town/topics?status=all").await, ["a", "b", "c"]);
    assert_eq!(ids("/v1/groups/empty/topics?status=all").await, Vec::<String>::new());
    assert_eq!(ids("/v1/groups/gone/topics").await, Vec::<String>::new());
    assert_eq!(
        api.walk("/v1/groups/town/topics?status=all", 1, |topic| &topic["topic_id"]).await,
        ["a", "b", "c"]
    );
    let all = api.json("/v1/groups/town/topics?status=all").await;
    assert_eq!(
        all["items"][0],
        json!({"topic_id": "a", "status": "active", "name": "Pier", "introduction": "All of it",
               "notification": null, "face_url": "", "created_by": "gus",
               "created_at": "2026-01-01T00:00:02.000Z", "destroyed_at": null})
    );
    assert_eq!(all["items"][1]["status"], "destroyed");
    assert_eq!(all["items"][1]["destroyed_at"], "2026-01-01T00:00:06.000Z");
    let gone = api.json("/v1/groups/gone/topics?status=all").await;
    assert_eq!(gone["items"][0]["destroyed_at"], "2026-01-01T00:00:09.000Z");
    api.problem("/v1/groups/nobody/topics", 404, "not_found").await;
    api.problem("/v1/groups/town/topics?status=member", 400, "bad_parameter").await;
    let cursor = api.json("/v1/groups/town/topics?limit=1").await["next_cursor"].as_str().unwrap().to_owned();
    api.problem(&format!("/v1/groups/empty/topics?cursor={cursor}"), 400, "bad_cursor").await;
    api.stop().await;
}

#[tokio::test]
async fn stats_tell_groups_by_type_and_status_members_ledger_spool_and_the_last_callback() {
    let app = App::start().await;
    let nothing = app.service.read("/v1/stats").await;
    assert_eq!(nothing["groups"]["total"], 0);
    assert_eq!(nothing["last_callback_at"], Value::Null);
    assert_eq!((&nothing["database_available"], &nothing["gaps"]), (&json!(true), &json!([])));
    assert_eq!(nothing["spool"], json!({"depth": 0, "bytes": 0, "oldest_at": null}));
    for name in ["Group.CallbackAfterCreateGroup", "variants/Group.CallbackAfterCreateGroup.community"] {
        app.service.taken(&sample(name)).await;
    }
    app.service
        .taken(&after("NewMemberJoin", "x", 0, json!({"NewMemberList": [{"Member_Account": "u"}]})))
        .await;
    app.service.taken(&created("y", 0, "Y", json!({"Type": "Work"}))).await;
    app.service.taken(&after("GroupDestroyed", "y", 1, json!({}))).await;
    app.service.parked(r#"{"CallbackCommand":"Group.CallbackAfterCreateGroup"}"#).await;
    let counted = async || {
        app.service.read("/v1/stats").await["ledger"]
            == json!({"applied": 5, "partial": 0, "parked": 1, "partial_by_cause": {}, "parked_by_cause": {"no_group": 1}})
    };
    assert!(eventually(counted).await);
    let stats = app.service.read("/v1/stats").await;
    assert_eq!(stats["sdk_app_id"], 1_400_000_001);
    assert_eq!(stats["groups"]["total"], 4);
    assert_eq!(stats["groups"]["by_status"], json!({"active": 2, "destroyed": 1, "unseen": 1}));
    assert_eq!(stats["groups"]["by_type"]["Community"], 1);
    assert_eq!(stats["groups"]["by_type"]["unknown"], 1);
    let kinds = stats["groups"]["by_type_and_status"].as_array().unwrap();
    assert!(kinds.contains(&json!({"type": "Work", "status": "destroyed", "count": 1})), "{kinds:?}");
    let mut conn = app.connect().await;
    let (members, last): (i64, bool) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM active_group_members),
                (SELECT max(received_at) FROM ledger) = $1::timestamptz",
    )
    .bind(stats["last_callback_at"].as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().unwrap())
    .fetch_one(&mut conn)
    .await
    .unwrap();
    assert_eq!((stats["members"].as_i64(), last), (Some(members), true), "{stats}");
    let other = app.service.read("/v1/stats?sdk_app_id=7").await;
    assert_eq!((&other["groups"]["total"], &other["last_callback_at"]), (&json!(0), &Value::Null));
    app.stop().await;
}
