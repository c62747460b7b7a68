//! Every recorded body is posted as it stands, and leaves the rows that it should, or none.

use reqwest::StatusCode;
use serde_json::{Value, json};
use sqlx::Executor as _;
use sqlx::postgres::PgConnection;

use crate::support::{App, OK, samples};

/// Row by row: TRUNCATE would lock the tables in another order than the count of the mirror, which runs beside.
pub(crate) const EMPTY: &str =
    "DELETE FROM ledger; DELETE FROM ledger_people; DELETE FROM groups; DELETE FROM group_members;
    DELETE FROM group_user_defined_fields; DELETE FROM group_attributes; DELETE FROM group_topics";

/// What is true after one body, in few words.
async fn summary(conn: &mut PgConnection) -> Value {
    sqlx::query_scalar(
        r"SELECT json_build_object(
            'group', (SELECT json_build_array(group_id, status, type, name, introduction, notification, face_url, owner,
                                              created_by) FROM group_states),
            'members', (SELECT json_agg(concat_ws(' ', user_id, role, name_card, join_type, joined_by) ORDER BY user_id)
                          FROM group_member_states WHERE present),
            'left', (SELECT json_agg(concat_ws(' ', user_id, exit_type, left_by) ORDER BY user_id)
                       FROM group_member_states WHERE NOT present),
            'fields', (SELECT json_agg(key || '=' || value ORDER BY key) FROM group_user_defined_fields),
            'attributes', (SELECT json_agg(concat(key, '=', value) ORDER BY key) FROM group_attributes),
            'topics', (SELECT json_agg(concat_ws(' ', topic_id, name, destroyed_at IS NULL) ORDER BY topic_id)
                         FROM group_topics),
            'unclear', (SELECT attributes_unclear > '' OR topics_unclear > '' FROM groups),
            'ledger', (SELECT count(*) FROM ledger WHERE outcome = 'applied'))",
    )
    .fetch_one(conn)
    .await
    .unwrap()
}

/// The rows of a sample; `None`: it is acknowledged and leaves nothing.
#[expect(clippy::too_many_lines, clippy::match_same_arms, reason = "a table, one entry per sample")]
fn expected(name: &str) -> Option<Value> {
    let river = |status: &str, rest: [Value; 6]| {
        let mut group = vec![json!("@TGS#2RIVERB7QK"), json!(status), json!("Public")];
        group.extend(rest);
        Value::Array(group)
    };
    let null = || Value::Null;
    let unseen = || river("unseen", std::array::from_fn(|_| Value::Null));
    let harbor = "@TGS#_@TGS#cHARBOR62QX";
    let harbor_unseen = || json!([harbor, "unseen", "Community", null, null, null, null, null, null]);
    let pier = "@TGS#_@TGS#cHARBOR62QX@TOPIC#_@TOPIC#cPIER7HN62Q";
    let full = |parts: Value| {
        let mut whole = json!({ "group": null, "members": null, "left": null, "fields": null, "attributes": null,
                                "topics": null, "unclear": false, "ledger": 1 });
        whole.as_object_mut().unwrap().extend(parts.as_object().unwrap().clone());
        Some(whole)
    };
    let created = |id: &str, group_type: &str, name: &str, owner: Value, by: &str| {
        json!([id, "active", group_type, name, null, null, null, owner, by])
    };
    match name.trim_start_matches("variants/").trim_end_matches(".json").trim_start_matches("Group.Callback")
    {
        "AfterCreateGroup" => full(json!({
            "group": created("@TGS#2RIVERB7QK", "Public", "River walkers", json!("ana_77"), "ana_77"),
            "members": ["ana_77 Owner ana_77", "boris-2 Member ana_77", "chen_li Member ana_77"],
            "fields": ["region=north", "tier=2"],
        })),
        "AfterCreateGroup.avchatroom" => full(json!({
            "group": created("@TGS#aLIVE9KDM2", "AVChatRoom", "Evening show", json!("host_5"), "administrator"),
        })),
        "AfterCreateGroup.community" => full(json!({
            "group": created(harbor, "Community", "Harbor", json!("gus-admin"), "gus-admin"),
            "members": ["gus-admin Owner gus-admin", "ida-3 Member gus-admin"],
        })),
        "AfterCreateGroup.event-time-string" => full(json!({
            "group": created("@TGS#1TEAMX4WQ8", "Work", "Shift plan", json!("ana_77"), "ana_77"),
            "members": ["ana_77 Owner ana_77", "emil-x Member ana_77"],
        })),
        "AfterCreateGroup.no-event-time" => full(json!({
            "group": created("1002318", "Meeting", "Legacy room", json!("j_old"), "j_old"),
            "members": ["j_old Owner j_old", "k_old Member j_old"],
        })),
        "AfterCreateGroup.no-owner" => full(json!({
            "group": created("@TGS#2NOOWNERZ1", "Public", "Ownerless", null(), "administrator"),
        })),
        "AfterCreateGroup.owner-in-members-and-invite-option" => full(json!({
            "group": created("city-hall-42", "Public", "City hall", json!("hana_q"), "administrator"),
            "members": ["hana_q Owner administrator"],
        })),
        "AfterNewMemberJoin" => full(json!({ "group": unseen(), "members": ["dora9 Member Apply ana_77"] })),
        "AfterNewMemberJoin.invited-many" => full(json!({
            "group": ["@TGS#1TEAMX4WQ8", "unseen", "Work", null, null, null, null, null, null],
            "members": ["emil-x Member Invited administrator", "fay_01 Member Invited administrator",
                        "gil_02 Member Invited administrator"],
        })),
        // Membership of audio-video rooms is mirrored on request only.
        "AfterNewMemberJoin.avchatroom" => None,
        "AfterMemberExit" => {
            full(json!({ "group": unseen(), "left": ["chen_li Kicked ana_77", "dora9 Kicked ana_77"] }))
        }
        "AfterMemberExit.quit-event-time-string" => {
            full(json!({ "group": unseen(), "left": ["boris-2 Quit boris-2"] }))
        }
        "AfterGroupDestroyed" => full(json!({
            "group": ["@TGS#2RIVERB7QK", "destroyed", null, null, null, null, null, null, null],
        })),
        "AfterGroupDestroyed.community-no-memberlist" => {
            full(json!({ "group": [harbor, "destroyed", null, null, null, null, null, null, null] }))
        }
        "AfterGroupInfoChanged" => full(json!({
            "group": river("active", [json!("River walkers II"), json!("Sunday walks along the river"), json!(""),
                                      json!("https://img.example.org/g/river.png"), null(), null()]),
        })),
        "AfterGroupInfoChanged.two-fields-cleared" => full(json!({
            "group": river("active", [null(), json!(""), null(), json!(""), null(), null()]),
        })),
        "AfterGroupInfoChanged.notification-only-string-time" => full(json!({
            "group": river("active", [null(), null(), json!("Walk moved to 10:00"), null(), null(), null()]),
        })),
        "AfterMemberFieldChanged" => {
            full(json!({ "group": unseen(), "members": ["boris-2 Admin Boris (guide)"] }))
        }
        "AfterMemberFieldChanged.modified-account" => {
            full(json!({ "group": unseen(), "members": ["boris-2 Member"] }))
        }
        "AfterMemberFieldChanged.namecard-only" => {
            full(json!({ "group": unseen(), "members": ["boris-2 Member "] }))
        }
        "AfterGroupAttrChanged" => full(json!({
            "group": ["@TGS#aLIVE9KDM2", "unseen", "AVChatRoom", null, null, null, null, null, null],
            "attributes": ["round=3", "seat_1=guest_12"],
        })),
        "AfterGroupAttrChanged.set" => full(json!({ "group": unseen(), "attributes": ["mode=slow"] })),
        "AfterGroupAttrChanged.delete" => full(json!({ "group": unseen(), "attributes": ["mode="] })),
        "AfterGroupAttrChanged.clear" => full(json!({ "group": unseen() })),
        "AfterChangeGroupOwner" => full(json!({
            "group": river("unseen", [null(), null(), null(), null(), json!("boris-2"), null()]),
            "members": ["boris-2 Owner"],
        })),
        "AfterCreateTopic" => {
            full(json!({ "group": harbor_unseen(), "topics": [format!("{pier} Pier talk t")] }))
        }
        "AfterTopicDestroyed" => full(json!({
            "group": harbor_unseen(),
            "topics": [format!("{pier} f"), format!("{harbor}@TOPIC#_night-shift f")],
        })),
        "AfterTopicInfoChanged" => full(json!({ "group": harbor_unseen(), "unclear": true })),
        // Messages, presence, alarms and everything asked before it happens.
        _ => None,
    }
}

#[tokio::test]
async fn every_sample_leaves_the_rows_it_should_or_none() {
    let app = App::start().await;
    let mut conn = app.connect().await;
    for (name, text) in samples() {
        conn.execute(EMPTY).await.unwrap();
        let command = name.trim_start_matches("variants/").split(".json").next().unwrap();
        let command: Vec<&str> = command.splitn(3, '.').collect();
        let command = command[..2].join(".");
        // Twice: a repeat changes nothing, however it is formatted.
        let compact = serde_json::from_str::<Value>(&text).unwrap().to_string();
        // Without an event time two equal bodies may be two real events; an equal RequestID makes them one.
        let tail = format!("&CallbackCommand={command}&RequestID=r-1&ClientIP=203.0.113.9&OptPlatform=Web");
        for body in [text, compact] {
            let answer = app.service.post_with(&tail, body).await;
            assert_eq!(answer.status(), StatusCode::OK, "{name}");
            assert_eq!(answer.text().await.unwrap(), OK, "{name}");
        }
        let none = json!({ "group": null, "members": null, "left": null, "fields": null, "attributes": null,
                           "topics": null, "unclear": null, "ledger": 0 });
        assert_eq!(summary(&mut conn).await, expected(&name).unwrap_or(none), "{name}");
    }
    app.stop().await;
}

#[tokio::test]
async fn the_membership_of_audio_video_rooms_is_mirrored_when_asked_for() {
    let app = App::start_with(|settings| settings.mirror_avchatroom_members = Some("true".into())).await;
    app.service.taken(&crate::support::sample("variants/Group.CallbackAfterCreateGroup.avchatroom")).await;
    app.service.taken(&crate::support::sample("variants/Group.CallbackAfterNewMemberJoin.avchatroom")).await;
    let members = app.service.read("/v1/groups/%40TGS%23aLIVE9KDM2/members").await;
    let users: Vec<&Value> =
        members["items"].as_array().unwrap().iter().map(|item| &item["user_id"]).collect();
    assert_eq!(users, ["guest_12"], "the owner is no member before joining");
    app.stop().await;
}
