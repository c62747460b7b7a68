//! The single cases of topics: lives of a topic within its community, and with it. Times are milliseconds after the base.
//!
//! Topic callbacks are documented without an event time; with one their order can be chosen here. How times of receipt take its
//! place is tested in `cases.rs`.

use serde_json::{Value, json};

use super::table::{Case, case, create, destroy, said};

pub(super) const TOPIC: &str = "g@TOPIC#_a";

pub(super) fn topic_created(time: i64, name: &str) -> Value {
    said(time, "AfterCreateTopic", json!({ "TopicId": TOPIC, "Name": name }))
}

pub(super) fn topic_changed(time: i64, content: Value) -> Value {
    let mut body = said(time, "AfterTopicInfoChanged", content);
    body["TopicId"] = json!(TOPIC);
    body
}

pub(super) fn topic_destroyed(time: i64) -> Value {
    said(time, "AfterTopicDestroyed", json!({ "TopicIdList": [TOPIC] }))
}

/// All of them.
pub(super) fn cases() -> Vec<Case> {
    let profile = || json!({ "Introduction": "old", "Notification": "old", "FaceUrl": "old" });
    let old = || [create(0, "ana", ""), topic_created(1_000, "first"), topic_changed(2_000, profile())];
    vec![
        case(
            "a topic that is made again shows nothing of its former life",
            "Community",
            [&old()[..], &[topic_destroyed(3_000), topic_created(3_001, "second")]].concat(),
            r#"active Community "one" owner=ana by=adm @0 | ana:Owner | | #a:"second" @3001"#,
        ),
        case(
            "nor when its community was destroyed and made again",
            "Community",
            [&old()[..], &[destroy(3_000), create(3_001, "ana", ""), topic_created(3_002, "third")]].concat(),
            r#"active Community "one" owner=ana by=adm @3001 | ana:Owner | | #a:"third" @3002"#,
        ),
        case(
            "a topic that is gone still shows the newest profile it had",
            "Community",
            [&old()[..], &[topic_destroyed(3_000), topic_changed(3_001, json!({ "Name": "late" }))]].concat(),
            r#"active Community "one" owner=ana by=adm @0 | ana:Owner | | #a:"late" intro="old" notice="old" face="old" @1000 †3000"#,
        ),
        case(
            "a change ten seconds after the destroy shows a topic whose create was lost",
            "Community",
            [&old()[..], &[topic_destroyed(3_000), topic_changed(13_000, json!({ "Name": "new" }))]].concat(),
            r#"active Community "one" owner=ana by=adm @0 | ana:Owner | | #a:"new""#,
        ),
        case(
            "topics of an earlier life of the community ended with it",
            "Community",
            [&old()[..], &[destroy(30_000), create(30_001, "ana", "")]].concat(),
            r#"active Community "one" owner=ana by=adm @30001 | ana:Owner | | #a:"first" intro="old" notice="old" face="old" @1000 †30000"#,
        ),
    ]
}
