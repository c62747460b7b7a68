//! Single cases, each in all its orders and with repeats on the pure core, then in one order over HTTP against PostgreSQL,
//! where the read API and the views must show what the pure rules show.
//!
//! The cases stand in `cases/`; below are those that need more than bodies and an expectation.

mod table;
mod topics;

use group_mirror::callback::{Callback, Decoded, Received, decode};
use group_mirror::mirror::{self, GroupBarrier, GroupKey, Rows, topic_state};
use group_mirror::model::{EVENT_TIME_AHEAD_MAX_MS, EVENT_TIME_MIN_MS, GroupId, Millis, SdkAppId, TopicId};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::histories::{BASE_MS, renamed};
use crate::support::{API_TOKEN, APP, App, OK, shown};
use table::{attributes, cases, create, join, said};
use topics::{TOPIC, topic_created, topic_destroyed};

/// What a body says, received so long after the base.
fn kept(body: &[u8], received: i64) -> Callback {
    let received =
        Received::bare(SdkAppId::parse(APP).unwrap(), Millis::new(BASE_MS + received), body.to_vec());
    match decode(received) {
        Decoded::Kept(callback) => *callback,
        Decoded::OutOfScope(unkept) => panic!("{}", unkept.label),
    }
}

/// An hour after the base everything has been received.
fn event(body: &Value) -> Callback {
    let callback = kept(body.to_string().as_bytes(), 3_600_000);
    assert_eq!(callback.event.as_ref().err(), None, "{body}");
    callback
}

fn fold<'a>(callbacks: impl IntoIterator<Item = &'a Callback>) -> Rows {
    Rows::of(callbacks.into_iter().flat_map(mirror::facts))
}

fn key() -> GroupKey {
    mirror::group_key(SdkAppId::parse(APP).unwrap(), GroupId::parse("g").unwrap())
}

/// All orders of the numbers below `n`.
pub(crate) fn orders(n: usize) -> Vec<Vec<usize>> {
    let Some(last) = n.checked_sub(1) else { return vec![Vec::new()] };
    let places = |order: Vec<usize>| {
        (0..n).map(move |at| {
            let mut order = order.clone();
            order.insert(at, last);
            order
        })
    };
    orders(last).into_iter().flat_map(places).collect()
}

/// The rows of these callbacks, after proof that no order, repeat or cut gives others.
fn folded_in_every_order(name: &str, callbacks: &[Callback]) -> Rows {
    let rows = fold(callbacks);
    for order in orders(callbacks.len()) {
        let there: Vec<&Callback> = order.iter().map(|at| &callbacks[*at]).collect();
        assert_eq!(fold(there.iter().copied()), rows, "{name}: {order:?}");
        let and_back = there.iter().chain(there.iter().rev()).copied();
        assert_eq!(fold(and_back), rows, "{name}: {order:?} and back");
        for cut in 0..there.len() {
            // Cut in two, the second part first, and both parts share a callback.
            let mut merged = fold(there[cut..].iter().copied());
            merged.merge(fold(there[..=cut].iter().copied()));
            assert_eq!(merged, rows, "{name}: {order:?} cut at {cut}");
        }
    }
    rows
}

#[test]
fn in_every_order_and_with_repeats_a_case_has_one_answer() {
    for case in cases() {
        let callbacks: Vec<Callback> = case.bodies.iter().map(event).collect();
        let rows = folded_in_every_order(case.name, &callbacks);
        assert_eq!(shown::words(&shown::pure(&rows)["g"], BASE_MS), case.shown, "{}", case.name);
    }
}

#[tokio::test]
async fn over_http_the_api_and_the_views_show_what_the_pure_rules_show() {
    let app = App::start_with(|settings| settings.mirror_avchatroom_members = Some("true".into())).await;
    let mut expected = std::collections::BTreeMap::new();
    for (number, case) in cases().into_iter().enumerate() {
        let bodies = renamed(&case.bodies, &format!("{} {number} ", case.group_type));
        let callbacks: Vec<Callback> = bodies.iter().map(event).collect();
        expected.extend(shown::pure(&fold(&callbacks)));
        // The newest first, and each at once again.
        for body in bodies.iter().rev().flat_map(|body| [body, body]) {
            app.service.taken(body).await;
        }
        let id = bodies[0]["GroupId"].as_str().unwrap();
        let shown = shown::api(&app.service, id).await;
        assert_eq!(shown::words(&shown, BASE_MS), case.shown, "{}", case.name);
        assert_eq!(shown, expected[id], "{}", case.name);
    }
    let mut conn = app.connect().await;
    assert_eq!(shown::views(&mut conn).await, expected);
    app.stop().await;
}

/// One event as it may be written: spaced, in another order of keys, with its time as a text.
fn writings() -> Vec<String> {
    let body = create(0, "ana", "chen");
    let mut keys: Vec<&String> = body.as_object().unwrap().keys().collect();
    keys.reverse();
    let mut quoted = body.clone();
    quoted["EventTime"] = json!(BASE_MS.to_string());
    let backwards: Vec<String> = keys.iter().map(|key| format!("{}: {}", json!(key), body[*key])).collect();
    vec![
        body.to_string(),
        serde_json::to_string_pretty(&body).unwrap(),
        format!("{{{}}}", backwards.join(",\n")),
        quoted.to_string(),
    ]
}

#[tokio::test]
async fn an_event_written_in_another_way_or_sent_again_is_one_event() {
    let first = kept(writings()[0].as_bytes(), 0);
    for body in writings() {
        // Received later, as a retry is.
        let again = kept(body.as_bytes(), 30_000);
        assert_eq!((again.time, again.digest), (first.time, first.digest), "{body}");
        assert_eq!(again.event, first.event, "{body}");
    }
    let app = App::start().await;
    for body in writings() {
        assert_eq!(app.service.post_with("", body).await.text().await.unwrap(), OK);
    }
    // Without a time of its own it is the event of an equal RequestID, and only of that.
    let mut timeless = create(0, "ana", "chen");
    timeless.as_object_mut().unwrap().remove("EventTime");
    assert_ne!(kept(timeless.to_string().as_bytes(), 0).digest, first.digest);
    for _ in 0..2 {
        let answer = app.service.post_with("&RequestID=one", timeless.to_string()).await;
        assert_eq!(answer.text().await.unwrap(), OK);
    }
    let mut conn = app.connect().await;
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM ledger").fetch_one(&mut conn).await.unwrap();
    assert_eq!(rows, 2);
    app.stop().await;
}

/// The name of the topic in a group with these callbacks, or nothing.
fn topic(callbacks: &[Callback]) -> Option<String> {
    let rows = folded_in_every_order("a topic", callbacks);
    let state = topic_state(&rows.groups[&key()], &rows.topics[&(key(), TopicId::parse(TOPIC).unwrap())]);
    state.name.filter(|_| state.active)
}

#[test]
fn a_topic_lives_dies_and_lives_again_by_its_times_or_else_by_the_order_of_receipt() {
    let history = [topic_created(1_000, "first"), topic_destroyed(2_000), topic_created(3_000, "second")];
    let timed: Vec<Callback> = history.iter().map(event).collect();
    // Received in this order, a second apart, with no times of their own.
    let timeless: Vec<Callback> = history
        .iter()
        .zip(1..)
        .map(|(body, second)| {
            let mut body = body.clone();
            body.as_object_mut().unwrap().remove("EventTime");
            kept(body.to_string().as_bytes(), second * 1_000)
        })
        .collect();
    for callbacks in [timed, timeless] {
        assert_eq!(topic(&callbacks[..1]).as_deref(), Some("first"));
        assert_eq!(topic(&callbacks[..2]), None);
        assert_eq!(topic(&callbacks).as_deref(), Some("second"));
        assert_eq!(topic(&callbacks[1..]).as_deref(), Some("second"));
    }
    // A topic of a group that has ended is gone with it, and its create does not revive the group.
    let ended = event(&table::destroy(2_000));
    assert_eq!(topic(&[event(&topic_created(1_000, "first")), ended.clone()]), None);
    assert_eq!(topic(&[event(&topic_created(3_000, "late")), ended]), None);
}

#[tokio::test]
async fn topics_over_http_follow_their_times_or_the_order_of_receipt() {
    let app = App::start().await;
    let history = [topic_created(1_000, "first"), topic_destroyed(2_000), topic_created(3_000, "second")];
    let mut conn = app.connect().await;
    for (number, times) in [true, false].into_iter().enumerate() {
        let mut bodies = renamed(&history, &format!("{number}-"));
        if times {
            bodies.rotate_left(1);
        }
        for mut body in bodies {
            if !times {
                body.as_object_mut().unwrap().remove("EventTime");
                // Each receipt has a millisecond of its own.
                let newest = "SELECT clock_timestamp() > coalesce(max(received_at), '-infinity') + interval '1 ms' FROM ledger";
                while !sqlx::query_scalar::<_, bool>(newest).fetch_one(&mut conn).await.unwrap() {}
            }
            app.service.taken(&body).await;
        }
    }
    let topics: Vec<(String, String, bool)> =
        sqlx::query_as("SELECT topic_id, name, destroyed_at IS NULL FROM group_topics ORDER BY topic_id")
            .fetch_all(&mut conn)
            .await
            .unwrap();
    let second = |id: &str| (id.to_owned(), "second".to_owned(), true);
    assert_eq!(topics, [second("0-g@TOPIC#_a"), second("1-g@TOPIC#_a")]);
    app.stop().await;
}

#[test]
fn a_change_that_does_not_say_what_changed_is_marked_and_changes_nothing() {
    let stamp_of = |callback: &Callback| mirror::facts(callback)[0].stamp;
    let set = event(&attributes(1_000, "set", "a=1"));
    for option in [json!(null), json!(""), json!("SET"), json!("teleport")] {
        let mut unclear = attributes(2_000, "", "a=2");
        unclear["OptionType"] = option.clone();
        let unclear = event(&unclear);
        let rows = folded_in_every_order("attributes", &[set.clone(), unclear.clone()]);
        assert_eq!(
            rows.groups[&key()].barrier(GroupBarrier::AttributesUnclear),
            stamp_of(&unclear),
            "{option}"
        );
        assert_eq!(shown::pure(&rows)["g"]["attributes"], json!({ "a": "1" }), "{option}");
    }
    let unnamed = event(&said(2_000, "AfterTopicInfoChanged", json!({ "Name": "which?", "TopicId": "" })));
    let created = event(&topic_created(1_000, "first"));
    let rows = folded_in_every_order("topics", &[created.clone(), unnamed.clone()]);
    assert_eq!(rows.groups[&key()].barrier(GroupBarrier::TopicsUnclear), stamp_of(&unnamed));
    assert_eq!(topic(&[created, unnamed]).as_deref(), Some("first"));
}

#[test]
fn a_stay_that_no_join_began_has_no_beginning_neither_while_it_lasts_nor_after() {
    let back = table::member(12_000, "dora", json!({ "NameCard": "D" }));
    let history = [join(1_000, "dora"), table::leave(2_000, "dora"), back, table::destroy(14_000)];
    let dora = |known: usize| {
        let callbacks: Vec<Callback> = history[..known].iter().map(event).collect();
        let rows = folded_in_every_order("dora", &callbacks);
        let shown = &shown::pure(&rows)["g"]["members"][0];
        ["joined_at", "left_at"].map(|key| shown[key].as_i64().map(|time| time - BASE_MS))
    };
    assert_eq!(dora(1), [Some(1_000), None]);
    assert_eq!(dora(2), [Some(1_000), Some(2_000)]);
    assert_eq!(dora(3), [None, None]);
    assert_eq!(dora(4), [None, Some(14_000)]);
}

#[test]
fn a_missing_list_is_not_an_empty_one() {
    for (option, unclear) in [("set", true), ("modify", true), ("delete", true), ("clear", false)] {
        let mut change = attributes(2_000, option, "");
        change.as_object_mut().unwrap().remove("GroupAttr");
        let rows = folded_in_every_order(option, &[event(&attributes(1_000, "set", "a=1")), event(&change)]);
        assert_ne!(
            rows.groups[&key()].barrier(GroupBarrier::AttributesUnclear).is_zero(),
            unclear,
            "{option}"
        );
        let left = if unclear { json!({ "a": "1" }) } else { json!({}) };
        assert_eq!(shown::pure(&rows)["g"]["attributes"], left, "{option}");
    }
    for command in ["AfterNewMemberJoin", "AfterMemberExit", "AfterTopicDestroyed"] {
        let callback = kept(said(0, command, json!({})).to_string().as_bytes(), 0);
        assert!(callback.event.is_err(), "{command}");
    }
}

#[tokio::test]
async fn a_callback_parked_for_its_query_does_not_hide_the_one_that_comes_after_it() {
    let app = App::start().await;
    let body = create(0, "ana", "chen");
    for query in ["Group.CallbackAfterMemberExit", "Group.CallbackAfterMemberExit", "State.StateChange"] {
        let answer: Value = app.service.post(query, body.to_string()).await.json().await.unwrap();
        let parked = answer["ErrorInfo"].as_str().unwrap().starts_with("parked: ");
        assert_eq!(parked, answer["ErrorInfo"] != "", "{answer}");
    }
    app.service.taken(&body).await;
    let group = app.service.read("/v1/groups/g").await;
    assert_eq!((&group["status"], &group["member_count"]), (&json!("active"), &json!(2)));
    let mut conn = app.connect().await;
    let rows: Vec<(String, i64)> =
        sqlx::query_as("SELECT outcome, count(*) FROM ledger GROUP BY outcome ORDER BY outcome")
            .fetch_all(&mut conn)
            .await
            .unwrap();
    assert_eq!(rows, [("applied".to_owned(), 1), ("parked".to_owned(), 2)]);
    app.stop().await;
}

#[test]
fn of_very_many_keys_in_one_body_the_last_of_each_counts() {
    let pair = |number: usize| format!(r#"{{"key":"{}","value":"{number}"}}"#, number % 10_000);
    let list: Vec<String> = (0..30_000).map(pair).collect();
    let body = attributes(0, "set", "").to_string().replace("[]", &format!("[{}]", list.join(",")));
    let rows = fold([&event(&serde_json::from_str(&body).unwrap())]);
    assert_eq!(rows.attributes.len(), 10_000);
    assert!(rows.attributes.iter().all(|((_, key), value)| {
        value.value.as_deref().unwrap().parse::<usize>().unwrap()
            == 20_000 + key.as_str().parse::<usize>().unwrap()
    }));
}

#[test]
fn a_time_that_would_always_win_or_never_is_parked() {
    let day = EVENT_TIME_AHEAD_MAX_MS;
    let year_2286 = 9_999_999_999_999_i64;
    for (time, taken) in [
        (0, false),
        (-1, false),
        (BASE_MS / 1000, false),
        (BASE_MS * 1000, false),
        (year_2286, false),
        (i64::MAX, false),
        (i64::MIN, false),
        (EVENT_TIME_MIN_MS - 1, false),
        (EVENT_TIME_MIN_MS, true),
        (BASE_MS, true),
        (BASE_MS + day, true),
        (BASE_MS + day + 1, false),
    ] {
        for written in [json!(time), json!(time.to_string())] {
            let mut body = join(0, "ana");
            body["EventTime"] = written.clone();
            let callback = kept(body.to_string().as_bytes(), 0);
            assert_eq!(callback.event.is_ok(), taken, "{written}: {:?}", callback.event);
            assert_eq!(mirror::facts(&callback).is_empty(), !taken, "{written}");
        }
    }
}

#[tokio::test]
async fn an_unusual_group_id_is_kept_and_found_by_filter_and_by_path() {
    let app = App::start().await;
    let long = "é".repeat(150);
    let ids = ["..", ".", "a/b", "/", "100%", "%2F", "two words", "?a=b&c#d", "+", long.as_str(), "g"];
    for id in ids {
        let mut body = create(0, "ana", "");
        body["GroupId"] = json!(id);
        app.service.taken(&body).await;
        let filter: String = form_urlencoded::byte_serialize(id.as_bytes()).collect();
        let found = app.service.read(&format!("/v1/groups?group_id={filter}")).await;
        assert_eq!(found["items"][0]["group_id"], *id);
        for path in ["", "/members"] {
            let (status, answer) = raw_read(&app, &format!("/v1/groups/{}{path}", shown::escaped(id))).await;
            assert_eq!(status, StatusCode::OK, "{id}: {answer}");
        }
    }
    for (id, reason) in [("x".repeat(513), "at most 512"), (String::new(), "the group id is empty")] {
        let mut body = create(0, "ana", "");
        body["GroupId"] = json!(id);
        let told = app.service.parked(&body.to_string()).await;
        assert!(told.contains(reason), "{told}");
    }
    let all = app.service.read("/v1/groups?status=all&limit=500").await;
    assert_eq!(all["items"].as_array().unwrap().len(), ids.len());
    app.stop().await;
}

/// A GET whose path is sent as it stands: clients resolve `..`, written plainly or not.
async fn raw_read(app: &App, path: &str) -> (StatusCode, String) {
    let mut stream = tokio::net::TcpStream::connect(app.service.running.api_addr).await.unwrap();
    let host = app.service.running.api_addr;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {API_TOKEN}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse::<u16>().unwrap();
    (StatusCode::from_u16(status).unwrap(), answer)
}
