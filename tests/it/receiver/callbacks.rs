//! The callback listener: who is let in, what is answered, what is kept, and that an OK means it is there.

use std::time::Duration;

use group_mirror::callback::BODY_BYTES_MAX;
use group_mirror::callback::signature::Token;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{APP, App, OK, Service, TOKEN, dump, sample, settings, signed_query};

const CREATE: &str = "Group.CallbackAfterCreateGroup";

/// Tencent's own example with the quote of its `GroupId` put back.
fn my_first_group() -> Value {
    json!({
        "CallbackCommand": CREATE, "GroupId": "@TGS#2J4SZEAEL", "Operator_Account": "group_root",
        "Owner_Account": "leckie", "Type": "Public", "Name": "MyFirstGroup",
        "MemberList": [{ "Member_Account": "bob" }, { "Member_Account": "peter" }],
        "UserDefinedDataList": [{ "Key": "UserDefined1", "Value": "hello" }, { "Key": "UserDefined2", "Value": "world" }],
        "EventTime": "1670574414123",
    })
}

#[tokio::test]
async fn tencents_own_example_posted_twice_gives_one_group() {
    let app = App::start().await;
    app.service.taken(&my_first_group()).await;
    app.service.taken(&my_first_group()).await;
    let group = app.service.read("/v1/groups/%40TGS%232J4SZEAEL").await;
    assert_eq!(
        group,
        json!({
            "sdk_app_id": 1_400_000_001, "group_id": "@TGS#2J4SZEAEL", "status": "active", "type": "Public",
            "name": "MyFirstGroup", "introduction": null, "notification": null, "face_url": null, "owner": "leckie",
            "created_by": "group_root", "member_count": 3,
            "user_defined_fields": { "UserDefined1": "hello", "UserDefined2": "world" }, "attributes": {},
            "created_at": "2022-12-09T08:26:54.123Z", "updated_at": "2022-12-09T08:26:54.123Z", "destroyed_at": null,
            "apply_join_option": null, "invite_join_option": null, "mute_all": null, "max_member_count": null,
            "verified_at": null, "members_verified_at": null,
        })
    );
    let members = app.service.read("/v1/groups/%40TGS%232J4SZEAEL/members").await;
    let roles: Vec<String> = members["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|member| format!("{} {}", member["user_id"].as_str().unwrap(), member["role"].as_str().unwrap()))
        .collect();
    assert_eq!(roles, ["bob Member", "leckie Owner", "peter Member"]);
    let mut conn = app.connect().await;
    let counts: (i64, i64, i64) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM active_groups), (SELECT count(*) FROM ledger),
                (SELECT count(*) FROM group_user_defined_fields)",
    )
    .fetch_one(&mut conn)
    .await
    .unwrap();
    assert_eq!(counts, (1, 1, 2));
    app.stop().await;
}

#[tokio::test]
async fn only_signed_callbacks_of_the_right_app_are_let_in() {
    let app = App::start().await;
    let good = signed_query();
    let stale =
        format!("SdkAppid={APP}&RequestTime=1669872112&Sign={}", Token::new(TOKEN.into()).sign("1669872112"));
    let signature = "the signature is missing, stale or wrong";
    let wrong_app = "SdkAppid is missing or not that of this mirror";
    for (query, info) in [
        (String::new(), wrong_app),
        (good.replace(APP, "1400000002"), wrong_app),
        (format!("SdkAppid={APP}"), signature),
        (stale, signature),
        (good.replace("&Sign=", "&Sign=0"), signature),
        (good.replace("Sign=", "sign="), signature),
    ] {
        let url = format!("http://{}/callback?{query}", app.service.running.callback_addr);
        let answer = app.service.client.post(url).body(my_first_group().to_string()).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{query}");
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(answer, json!({ "ActionStatus": "FAIL", "ErrorInfo": info, "ErrorCode": 1 }), "{query}");
    }
    let mut conn = app.connect().await;
    let kept: i64 = sqlx::query_scalar("SELECT count(*) FROM ledger").fetch_one(&mut conn).await.unwrap();
    assert_eq!(kept, 0);
    app.stop().await;
}

#[tokio::test]
async fn both_tokens_are_taken_while_one_is_being_replaced() {
    let app = App::start_with(|settings| settings.callback_token = Some(format!("next-one, {TOKEN}"))).await;
    app.service.taken(&my_first_group()).await;
    app.stop().await;
}

#[tokio::test]
async fn a_browser_is_refused_whatever_it_sends() {
    let app = App::start().await;
    for header in ["Origin", "Sec-Fetch-Site"] {
        let url = format!("http://{}/?{}", app.service.running.callback_addr, signed_query());
        let request = app.service.client.post(url).header(header, "x").body(my_first_group().to_string());
        assert_eq!(request.send().await.unwrap().status(), StatusCode::FORBIDDEN, "{header}");
    }
    app.stop().await;
}

#[tokio::test]
async fn the_console_check_without_a_body_is_answered_without_a_signature() {
    let app = App::start().await;
    let url = format!("http://{}/callback", app.service.running.callback_addr);
    let answer = app.service.client.post(url).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["content-type"], "application/json");
    assert_eq!(answer.text().await.unwrap(), OK);
    app.stop().await;
}

#[tokio::test]
async fn other_methods_and_paths_fail_in_tencents_shape() {
    let app = App::start().await;
    for (method, path, status) in [
        (Method::GET, "/", StatusCode::METHOD_NOT_ALLOWED),
        (Method::PUT, "/callback", StatusCode::METHOD_NOT_ALLOWED),
        (Method::POST, "/v1/groups", StatusCode::NOT_FOUND),
        (Method::GET, "/metrics", StatusCode::NOT_FOUND),
    ] {
        let url = format!("http://{}{path}", app.service.running.callback_addr);
        let answer = app.service.client.request(method, url).send().await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        assert_eq!(answer.json::<Value>().await.unwrap()["ActionStatus"], "FAIL", "{path}");
    }
    for path in ["/livez", "/readyz"] {
        let url = format!("http://{}{path}", app.service.running.callback_addr);
        assert_eq!(app.service.client.get(url).send().await.unwrap().status(), StatusCode::OK, "{path}");
    }
    app.stop().await;
}

#[tokio::test]
async fn a_body_of_one_mebibyte_is_taken_and_a_byte_more_is_not() {
    let app = App::start().await;
    let mut body = my_first_group();
    let rest = BODY_BYTES_MAX - body.to_string().len() - r#","Padding":"""#.len();
    body["Padding"] = json!("x".repeat(rest));
    assert_eq!(body.to_string().len(), BODY_BYTES_MAX);
    app.service.taken(&body).await;
    let answer = app.service.post(CREATE, format!("{body} ")).await;
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(answer.json::<Value>().await.unwrap()["ActionStatus"], "FAIL");
    app.stop().await;
}

#[tokio::test]
async fn a_body_that_does_not_come_is_answered_in_time() {
    let app = App::start().await;
    let never = futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>();
    let answer = app.service.post(CREATE, reqwest::Body::wrap_stream(never)).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.headers()["retry-after"], "1");
    app.stop().await;
}

#[tokio::test]
async fn what_cannot_be_read_is_parked_with_its_reason_and_its_bytes() {
    let app = App::start().await;
    let with = |key: &str, value: Value| {
        let mut body = my_first_group();
        body[key] = value;
        body.to_string()
    };
    let without = |key: &str| {
        let mut body = my_first_group();
        body.as_object_mut().unwrap().remove(key);
        body.to_string()
    };
    let cases = [
        ("not json".to_owned(), "the body is no JSON"),
        ("[1]".to_owned(), "the body is JSON, but no object"),
        ("{}".to_owned(), "neither body nor query has a CallbackCommand"),
        (
            with("CallbackCommand", json!("Group.CallbackAfterTeleport")),
            "is not in the catalogue of group commands",
        ),
        (without("GroupId"), "the body has no GroupId"),
        (with("GroupId", json!("")), "the group id is empty"),
        (with("GroupId", json!("x".repeat(513))), "at most 512 are allowed"),
        (with("GroupId", json!(7)), "GroupId names no group: 7 is no text"),
        (with("EventTime", json!(0)), "event time 0 is not in milliseconds"),
        (with("EventTime", json!(1_670_574_414)), "looks like a time in seconds"),
        (with("EventTime", json!(1_670_574_414_123_000_i64)), "looks like a time in microseconds"),
        (with("EventTime", json!(9_999_999_999_999_i64)), "looks like the future"),
        (with("EventTime", json!("soon")), "it must be Unix milliseconds as an integer"),
        (with("EventTime", json!(1.5)), "it must be Unix milliseconds as an integer"),
        (with("EventTime", json!(-5)), "event time -5"),
        (
            "{\"CallbackCommand\":\"Group.CallbackAfterCreateGroup\",\"GroupId\":\"\\ud800\"}".to_owned(),
            "GroupId names no group",
        ),
    ];
    let mut conn = app.connect().await;
    for (number, (body, reason)) in cases.iter().enumerate() {
        let info = app.service.parked(body).await;
        assert!(info.contains(reason), "{body}: {info}");
        let (kept, why): (Vec<u8>, String) =
            sqlx::query_as("SELECT body, reason FROM ledger WHERE outcome = 'parked' AND body = $1")
                .bind(body.as_bytes())
                .fetch_one(&mut conn)
                .await
                .unwrap();
        assert_eq!((kept, why), (body.clone().into_bytes(), info), "case {number}");
    }
    // Bytes that are no text at all.
    let answer = app.service.post(CREATE, b"\xff\x00\xfe".to_vec()).await;
    assert!(answer.json::<Value>().await.unwrap()["ErrorInfo"].as_str().unwrap().starts_with("parked: "));
    let broken: i64 =
        sqlx::query_scalar("SELECT count(*) FROM ledger WHERE body = '\\xff00fe'::bytea AND command = $1")
            .bind(CREATE)
            .fetch_one(&mut conn)
            .await
            .unwrap();
    assert_eq!(broken, 1);
    let groups: i64 = sqlx::query_scalar("SELECT count(*) FROM groups").fetch_one(&mut conn).await.unwrap();
    assert_eq!(groups, 0, "what is parked has no effect");
    app.stop().await;
}

#[tokio::test]
async fn a_command_in_the_query_that_differs_from_the_body_is_parked() {
    let app = App::start().await;
    let body = my_first_group().to_string();
    let answer = app.service.post("Group.CallbackAfterSendMsg", body).await;
    let info = answer.json::<Value>().await.unwrap()["ErrorInfo"].as_str().unwrap().to_owned();
    assert!(info.contains("they must agree"), "{info}");
    app.stop().await;
}

#[tokio::test]
async fn commands_out_of_scope_are_acknowledged_and_leave_nothing() {
    let app = App::start().await;
    for command in ["State.StateChange", "C2C.CallbackAfterSendMsg", "Group.CallbackBeforeTeleport"] {
        app.service.taken(&json!({ "CallbackCommand": command, "GroupId": "g" })).await;
    }
    let mut conn = app.connect().await;
    let kept: i64 = sqlx::query_scalar("SELECT count(*) FROM ledger").fetch_one(&mut conn).await.unwrap();
    assert_eq!(kept, 0);
    app.stop().await;
}

#[tokio::test]
async fn control_characters_reach_the_reader_and_nul_as_the_replacement_character() {
    let app = App::start().await;
    let mut body = my_first_group();
    body["Name"] = json!("a\u{0}b\u{1}\u{7f}");
    body["UserDefinedDataList"] = json!([{ "Key": "k\u{0}", "Value": "abc\u{0}\u{1}" }]);
    app.service.taken(&body).await;
    let group = app.service.read("/v1/groups/%40TGS%232J4SZEAEL").await;
    assert_eq!(group["name"], "a\u{fffd}b\u{1}\u{7f}");
    assert_eq!(group["user_defined_fields"], json!({ "k\u{fffd}": "abc\u{fffd}\u{1}" }));
    app.stop().await;
}

#[tokio::test]
async fn of_two_entries_with_one_key_the_later_counts() {
    let app = App::start().await;
    let body = format!(
        r#"{{"CallbackCommand":"{CREATE}","GroupId":"g","Name":"first","Name":"second","EventTime":1670574414123,
            "UserDefinedDataList":[{{"Key":"k","Value":"1"}},{{"Key":"k","Value":"2"}}]}}"#
    );
    assert_eq!(app.service.post(CREATE, body).await.text().await.unwrap(), OK);
    let group = app.service.read("/v1/groups/g").await;
    assert_eq!(
        (group["name"].as_str(), group["user_defined_fields"]["k"].as_str()),
        (Some("second"), Some("2"))
    );
    app.stop().await;
}

#[tokio::test]
async fn without_an_event_time_only_an_equal_request_id_makes_two_bodies_one() {
    let app = App::start().await;
    let body = sample("variants/Group.CallbackAfterCreateGroup.no-event-time").to_string();
    for (tail, ledger_rows) in [("&RequestID=a", 1_i64), ("&RequestID=a", 1), ("&RequestID=b", 2), ("", 3)] {
        // Equal bodies in one millisecond are one event; the next one has to come later.
        let before = std::time::Instant::now();
        while before.elapsed() < Duration::from_millis(2) {
            tokio::task::yield_now().await;
        }
        assert_eq!(app.service.post_with(tail, body.clone()).await.text().await.unwrap(), OK);
        let mut conn = app.connect().await;
        let kept: i64 = sqlx::query_scalar("SELECT count(*) FROM ledger").fetch_one(&mut conn).await.unwrap();
        assert_eq!(kept, ledger_rows, "{tail}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_services_take_the_same_thousand_creates_in_different_orders() {
    let database = crate::support::postgres::TestDatabase::create().await;
    let settings = settings(&database.url);
    let services = [Service::start(&settings).await.unwrap(), Service::start(&settings).await.unwrap()];
    let creates: Vec<Value> = (0..1000)
        .map(|number| {
            let mut body = my_first_group();
            body["GroupId"] = json!(format!("group {number}"));
            body["EventTime"] = json!(1_670_574_414_123_i64 + number);
            body
        })
        .collect();
    let send = |service: usize, connection: usize| {
        let (service, creates) = (&services[service], &creates);
        async move {
            for at in 0..creates.len() {
                // One service from the front, the other from the back; eight connections each.
                let at = if connection.is_multiple_of(2) { at } else { creates.len() - 1 - at };
                if at % 4 == connection / 2 {
                    service.taken(&creates[at]).await;
                }
            }
        }
    };
    let senders = (0..2).flat_map(|service| (0..8).map(move |connection| (service, connection)));
    futures_util::future::join_all(senders.map(|(service, connection)| send(service, connection))).await;
    let mut conn = database.connect().await;
    let tables = dump::tables(&mut conn).await;
    let sizes: Vec<usize> = tables.values().map(Vec::len).collect();
    assert_eq!(tables["groups"].len(), 1000, "{sizes:?}");
    assert_eq!(tables["group_members"].len(), 3000, "{sizes:?}");
    assert_eq!(tables["group_user_defined_fields"].len(), 2000, "{sizes:?}");
    let ledger: i64 = sqlx::query_scalar("SELECT count(*) FROM ledger").fetch_one(&mut conn).await.unwrap();
    assert_eq!(ledger, 1000);
    for service in services {
        service.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn data_that_postgres_refuses_is_parked_and_takes_nothing_else_with_it() {
    let app = App::start().await;
    let mut conn = app.connect().await;
    // A fault that only PostgreSQL can find.
    sqlx::query("ALTER TABLE groups ADD CONSTRAINT test_check CHECK (name <> 'forbidden')")
        .execute(&mut conn)
        .await
        .unwrap();
    let bodies: Vec<Value> = (0..64)
        .map(|number| {
            let mut body = my_first_group();
            body["GroupId"] = json!(format!("g{number}"));
            body["Name"] = json!(if number % 16 == 5 { "forbidden" } else { "fine" });
            body
        })
        .collect();
    let answers =
        futures_util::future::join_all(bodies.iter().map(|body| app.service.post(CREATE, body.to_string())))
            .await;
    for (number, answer) in answers.into_iter().enumerate() {
        let info = answer.json::<Value>().await.unwrap()["ErrorInfo"].as_str().unwrap().to_owned();
        assert_eq!(info.starts_with("parked: the database refuses it"), number % 16 == 5, "{number}: {info}");
    }
    let counts: (i64, i64) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM groups), (SELECT count(*) FROM ledger WHERE outcome = 'parked')",
    )
    .fetch_one(&mut conn)
    .await
    .unwrap();
    assert_eq!(counts, (60, 4));
    app.stop().await;
}
