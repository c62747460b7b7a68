//! What is true stands twice: in Rust (`mirror/state.rs`) and in SQL (`0006_views.sql`). Both must show the same of any rows.
//!
//! A second opinion beside `views.rs`: another generator, denser in owners, roles and equal moments, and rows that no callback
//! can make: here the barriers and read stamps are raised that only REST reads will raise, and the rows are inserted. In
//! `views.rs` only histories count, through the one transaction that commits them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use chrono::{DateTime, Utc};
use group_mirror::callback::Role;
use group_mirror::mirror::{
    CREATE_SPARE_MS, GroupBarrier, ListRange, Listed, Rows, Silent, TopicBarrier, group_state, member_state,
    topic_state,
};
use group_mirror::model::{Digest, Millis, Rank, Stamp, UserId};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::{Value, json};
use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row as _};

use crate::support::api::{T0, after, insert, told};
use crate::support::postgres::TestDatabase;

/// Few ids, few moments and few values, and some much more likely than others, so that histories meet themselves:
/// equal times, reused ids, owners who leave, members who come back.
fn body() -> impl Strategy<Value = Value> {
    let group = prop::sample::select(vec!["g1", "g1", "g1", "g2"]);
    let user = || prop::sample::select(vec!["ana", "ana", "ana", "boris", "chen"]);
    let kind = prop::sample::select(vec!["Work", "Private", "Public", "AVChatRoom", ""]);
    // Steps of 4 s against the 10 s that a create reaches back.
    let ms = (0_i64..12).prop_map(|step| step * 4_000);
    let text = prop::sample::select(vec!["", "x", "y"]);
    (0..13, group, ms, (user(), user(), user()), kind, text).prop_map(
        |(what, group, ms, users, kind, text)| {
            let (a, b, by) = users;
            let list = |users: &[&str]| -> Value {
                users.iter().map(|user| json!({"Member_Account": user})).collect()
            };
            let (command, mut more) = match what {
                0 => (
                    "CreateGroup",
                    json!({"Owner_Account": a, "Name": text, "MemberList": list(&[b]),
                                        "UserDefinedDataList": [{"Key": "k", "Value": text}]}),
                ),
                1 => ("NewMemberJoin", json!({"JoinType": "Apply", "NewMemberList": list(&[a, b])})),
                2 => ("MemberExit", json!({"ExitType": "Quit", "ExitMemberList": list(&[a])})),
                3 => ("GroupDestroyed", json!({"Name": text, "Owner_Account": a, "MemberList": list(&[b])})),
                4 => (
                    "GroupInfoChanged",
                    json!({"Introduction": text, "UserDefinedDataList": [{"Key": text, "Value": "z"}]}),
                ),
                5 => ("GroupInfoChanged", json!({"Name": text, "Notification": text, "FaceUrl": text})),
                6 => ("MemberFieldChanged", json!({"Member_Account": a, "Role": "Admin", "NameCard": text})),
                7 => (
                    "GroupAttrChanged",
                    json!({"OptionType": "set", "GroupAttr": [{"key": "k", "value": text}]}),
                ),
                8 => ("GroupAttrChanged", json!({"OptionType": "delete", "GroupAttr": [{"key": "k"}]})),
                9 => ("CreateTopic", json!({"TopicId": a, "Name": text})),
                10 => ("TopicDestroyed", json!({"TopicIdList": [a]})),
                11 => ("TopicInfoChanged", json!({"TopicId": a, "Introduction": text, "FaceUrl": text})),
                _ => ("ChangeGroupOwner", json!({"OldOwner_Account": a, "NewOwner_Account": b})),
            };
            more["Type"] = json!(kind);
            more["Operator_Account"] = json!(by);
            after(command, group, ms, more)
        },
    )
}

/// What only REST reads raise: the barriers of members, fields, attributes and topics, and the reads of a group, its
/// members and its topics.
fn barriers() -> impl Strategy<Value = [Option<i64>; 12]> {
    let ms = || prop::option::weighted(0.15, (0_i64..12).prop_map(|step| step * 4_000));
    [ms(), ms(), ms(), ms(), ms(), ms(), ms(), ms(), ms(), ms(), ms(), ms()]
}

fn raise(rows: &mut Rows, barriers: [Option<i64>; 12]) {
    let stamp = |ms: Option<i64>| {
        let digest = Digest::of("", b"a list");
        ms.map_or(Stamp::ZERO, |ms| Stamp::new(Millis::new(T0 + ms), Rank::Read, &digest))
    };
    for group in rows.groups.values_mut() {
        group.barriers[GroupBarrier::MembersBarrier as usize] = stamp(barriers[0]);
        group.barriers[GroupBarrier::FieldsBarrier as usize] = stamp(barriers[1]);
        let attributes = &mut group.barriers[GroupBarrier::AttributesBarrier as usize];
        *attributes = (*attributes).max(stamp(barriers[2]));
        group.barriers[GroupBarrier::TopicsBarrier as usize] = stamp(barriers[3]);
        group.barriers[GroupBarrier::ReadStamp as usize] = stamp(barriers[4]);
        // A read that says since when the group exists.
        let begin = &mut group.barriers[GroupBarrier::CreateBarrier as usize];
        *begin = (*begin).max(stamp(barriers[11]).earlier(CREATE_SPARE_MS));
    }
    for (at, member) in rows.members.values_mut().enumerate() {
        // Every second one stands in the newest list, if there is one, and the others perhaps in a list that is not complete.
        let read = stamp(barriers[if at % 2 == 0 { 0 } else { 5 }]);
        let join_secs = [None, Some((T0 + 8_000) / 1000), Some(T0 / 1000)][at % 3];
        let listed = Listed {
            role: [Role::Admin, Role::Member][at % 2],
            name_card: [None, Some("listed".to_owned())][at % 2].clone(),
            join_secs,
            mute_until: [None, Some(4_294_967_295)][at % 2],
            custom_fields: None,
        };
        member.listed.set(read, Some(listed));
        member.missing = stamp(barriers[[9, 0, 8][at % 3]]);
    }
    for group in rows.groups.values_mut() {
        let silent = Silent { mute_all: Some(true), create_secs: Some(T0 / 1000), ..Silent::default() };
        group.silent.set(stamp(barriers[7]), silent);
        group.barriers[GroupBarrier::GoneStamp as usize] = stamp(barriers[10]);
        for user in ["ana", "chen"].map(|user| UserId::parse(user).unwrap()) {
            group.ranges.insert(ListRange::of(&user), stamp(barriers[8]));
        }
        // A list in ranges is complete with the last of them.
        if barriers[8].is_some_and(|ms| ms % 8_000 == 0) {
            group.ranges.extend(ListRange::all().map(|range| (range, stamp(barriers[8]))));
        }
        group.ranges.retain(|_, range| !range.is_zero());
        group.barriers[GroupBarrier::RangesStamp as usize] = stamp(barriers[8]);
    }
    for topic in rows.topics.values_mut().step_by(2) {
        topic.barriers[TopicBarrier::ReadStamp as usize] = stamp(barriers[6]);
        topic.barriers[TopicBarrier::MissingStamp as usize] = stamp(barriers[9]);
    }
}

fn millis(time: Option<DateTime<Utc>>) -> Option<i64> {
    time.map(|time| {
        assert_eq!(time.timestamp_subsec_nanos() % 1_000_000, 0, "finer than a millisecond: {time}");
        time.timestamp_millis()
    })
}

/// One text per state, so that a difference shows as a whole.
pub(crate) fn in_rust(rows: &Rows) -> BTreeMap<String, String> {
    let mut states = BTreeMap::new();
    for (key, group) in &rows.groups {
        let owner_row = group.owner.value.clone().and_then(|owner| rows.members.get(&(key.clone(), owner)));
        let state = group_state(group, owner_row);
        let user = |user: &Option<UserId>| user.as_ref().map(|user| user.as_str().to_owned());
        let shown = (
            (
                state.status.as_str(),
                state.group_type,
                state.name,
                user(&state.owner),
                user(&state.created_by),
            ),
            (state.introduction, state.notification, state.face_url),
            (
                state.created_at.map(Millis::get),
                Some(state.updated_at.get()),
                state.destroyed_at.map(Millis::get),
            ),
            (state.apply_join_option, state.invite_join_option, state.mute_all, state.max_member_count),
            state.has_all_members,
        );
        states.insert(key.group.as_str().to_owned(), format!("{shown:?}"));
        for ((of, id), member) in rows.members.iter().filter(|((of, _), _)| of == key) {
            let Some(state) = member_state(group, state.owner.as_ref(), id, member) else { continue };
            let shown = (
                (state.present, state.role, state.name_card),
                (state.joined_at.map(Millis::get), state.join.how, user(&state.join.by)),
                (state.left_at.map(Millis::get), state.exit.how, user(&state.exit.by)),
                (state.mute_until.map(Millis::get), state.custom_fields),
            );
            states.insert(format!("{}/{}", of.group.as_str(), id.as_str()), format!("{shown:?}"));
        }
        for ((of, id), topic) in rows.topics.iter().filter(|((of, _), _)| of == key) {
            let state = topic_state(group, topic);
            let shown = (
                (state.active, state.name, state.introduction, state.notification, state.face_url),
                (
                    user(&state.created_by),
                    state.created_at.map(Millis::get),
                    state.destroyed_at.map(Millis::get),
                ),
            );
            states.insert(format!("{}/topic {}", of.group.as_str(), id.as_str()), format!("{shown:?}"));
        }
        let fields = rows.user_defined_fields.iter().filter(|((of, _), _)| of == key);
        for ((of, field), value) in fields {
            if let Some(value) = group.user_defined_field(value) {
                states.insert(format!("{}/field {}", of.group.as_str(), field.as_str()), value.to_owned());
            }
        }
        let attributes = rows.attributes.iter().filter(|((of, _), _)| of == key);
        for ((of, field), value) in attributes {
            if let Some(value) = group.attribute(value) {
                states
                    .insert(format!("{}/attribute {}", of.group.as_str(), field.as_str()), value.to_owned());
            }
        }
    }
    states
}

fn text(row: &PgRow, column: &str) -> Option<String> {
    row.get(column)
}

fn time(row: &PgRow, column: &str) -> Option<i64> {
    millis(row.get(column))
}

pub(crate) async fn in_sql(pool: &PgPool, app: i64) -> BTreeMap<String, String> {
    let mut states = BTreeMap::new();
    let groups = "SELECT s.*, n.name AS name_alone
                    FROM group_states s JOIN group_names n USING (sdk_app_id, group_id) WHERE sdk_app_id = $1";
    for row in sqlx::query(groups).bind(app).fetch_all(pool).await.unwrap() {
        assert_eq!(text(&row, "name"), text(&row, "name_alone"));
        let shown = (
            (
                row.get::<&str, _>("status"),
                text(&row, "type"),
                text(&row, "name"),
                text(&row, "owner"),
                text(&row, "created_by"),
            ),
            (text(&row, "introduction"), text(&row, "notification"), text(&row, "face_url")),
            (time(&row, "created_at"), time(&row, "updated_at"), time(&row, "destroyed_at")),
            (
                text(&row, "apply_join_option"),
                text(&row, "invite_join_option"),
                row.get::<Option<bool>, _>("mute_all"),
                row.get::<Option<i64>, _>("max_member_count"),
            ),
            row.get::<bool, _>("has_all_members"),
        );
        states.insert(row.get("group_id"), format!("{shown:?}"));
    }
    let members = "SELECT * FROM group_member_states WHERE sdk_app_id = $1";
    for row in sqlx::query(members).bind(app).fetch_all(pool).await.unwrap() {
        let (present, role): (bool, &str) = (row.get("present"), row.get("role"));
        let shown = (
            (present, role, text(&row, "name_card")),
            (time(&row, "joined_at"), text(&row, "join_type"), text(&row, "joined_by")),
            (time(&row, "left_at"), text(&row, "exit_type"), text(&row, "left_by")),
            (time(&row, "mute_until"), text(&row, "custom_fields")),
        );
        let key = format!("{}/{}", row.get::<&str, _>("group_id"), row.get::<&str, _>("user_id"));
        states.insert(key, format!("{shown:?}"));
    }
    let topics = "SELECT * FROM group_topic_states WHERE sdk_app_id = $1";
    for row in sqlx::query(topics).bind(app).fetch_all(pool).await.unwrap() {
        let texts = ["name", "introduction", "notification", "face_url"].map(|column| text(&row, column));
        let [name, introduction, notification, face_url] = texts;
        let shown = (
            (row.get::<bool, _>("active"), name, introduction, notification, face_url),
            (text(&row, "created_by"), time(&row, "created_at"), time(&row, "destroyed_at")),
        );
        let key = format!("{}/topic {}", row.get::<&str, _>("group_id"), row.get::<&str, _>("topic_id"));
        states.insert(key, format!("{shown:?}"));
    }
    let values = "
        SELECT f.group_id || '/field ' || f.key, f.value FROM group_user_defined_fields f
          JOIN group_states s USING (sdk_app_id, group_id)
         WHERE f.sdk_app_id = $1 AND f.value_stamp >= s.fields_from AND f.value IS NOT NULL
        UNION ALL
        SELECT a.group_id || '/attribute ' || a.key, a.value FROM group_attributes a
          JOIN group_states s USING (sdk_app_id, group_id)
         WHERE a.sdk_app_id = $1 AND a.value_stamp >= s.attributes_from AND a.value IS NOT NULL";
    states.extend(sqlx::query_as::<_, (String, String)>(values).bind(app).fetch_all(pool).await.unwrap());
    states
}

#[test]
fn the_views_show_what_the_pure_core_shows_for_any_history() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let database = runtime.block_on(TestDatabase::create());
    let pool = runtime.block_on(PgPool::connect(&database.url)).unwrap();
    // Each case has an app of its own, so that one database serves them all.
    let next_app = AtomicU32::new(1);
    let histories = prop::collection::vec(body(), 1..14);
    let mut runner = TestRunner::new(Config { cases: 300, failure_persistence: None, ..Config::default() });
    let compared = runner.run(&(histories, barriers()), |(history, barriers)| {
        let app = next_app.fetch_add(1, Ordering::Relaxed);
        let mut rows = Rows::of(history.iter().flat_map(|body| told(&app.to_string(), body)));
        raise(&mut rows, barriers);
        let shown = runtime.block_on(async {
            insert(&database, &rows).await;
            in_sql(&pool, app.into()).await
        });
        let expected = in_rust(&rows);
        if shown == expected {
            return Ok(());
        }
        let differing = expected.keys().chain(shown.keys()).find(|key| expected.get(*key) != shown.get(*key));
        let pair = differing.map(|key| (key, expected.get(key), shown.get(key)));
        Err(TestCaseError::fail(format!("(state, in Rust, in SQL): {pair:?}")))
    });
    runtime.block_on(pool.close());
    compared.unwrap();
}
