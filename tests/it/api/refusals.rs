//! The read API's refusals: parameters, cursors, tokens, paths, and a database that fails.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::api::reads::{created, crowd, raw, river, set};
use crate::support::api::{APP, Api, assert_problem, told};

#[tokio::test]
async fn a_parameter_that_cannot_be_used_is_named_with_what_would_be_right() {
    let api = Api::of(&[river()]).await;
    for (path, words) in [
        ("/v1/groups?colour=red", vec!["colour", "created_before", "sdk_app_id"]),
        ("/v1/groups?field=x", vec!["field", "field[KEY]"]),
        ("/v1/groups?field[=x", vec!["field["]),
        ("/v1/groups?owner=a&owner=a", vec!["owner", "twice"]),
        ("/v1/groups?field[a]=1&field%5Ba%5D=2", vec!["field[a]", "twice"]),
        ("/v1/groups?limit=0", vec!["limit", "\"0\"", "500"]),
        ("/v1/groups?limit=501", vec!["limit", "\"501\"", "500"]),
        ("/v1/groups?limit=ten", vec!["limit", "\"ten\""]),
        ("/v1/groups?limit=-1", vec!["limit"]),
        ("/v1/groups?limit=101&with=member_count", vec!["limit", "\"101\"", "100"]),
        ("/v1/groups?with=members", vec!["with", "\"members\"", "member_count"]),
        ("/v1/groups?sort=name", vec!["sort", "\"name\"", "-created_at, created_at, group_id"]),
        ("/v1/groups?status=gone", vec!["status", "\"gone\"", "active, destroyed, unseen, all"]),
        ("/v1/groups?owner=", vec!["owner", "empty"]),
        ("/v1/groups?name=", vec!["name"]),
        ("/v1/groups?type=", vec!["type"]),
        ("/v1/groups?created_after=yesterday", vec!["created_after", "\"yesterday\"", "RFC 3339"]),
        ("/v1/groups?created_before=2026-01-01T00:00:00+01:00", vec!["created_before", "%2B"]),
        ("/v1/groups?sdk_app_id=0", vec!["sdk_app_id", "\"0\""]),
        ("/v1/groups/g?with=member_count", vec!["with", "sdk_app_id"]),
        ("/v1/groups/g/members?role=owner", vec!["role", "\"owner\"", "Owner, Admin, Member"]),
        ("/v1/groups/g/members?status=active", vec!["status", "member, left, all"]),
        ("/v1/users/u/groups?role=Owner", vec!["role", "status"]),
        ("/v1/users/u/groups?status=1", vec!["status", "member, left, all"]),
    ] {
        let problem = api.problem(path, 400, "bad_parameter").await;
        let detail = problem["detail"].as_str().unwrap();
        assert!(words.iter().all(|word| detail.contains(word)), "{path}: {detail}");
    }
    let many: String = (0..11).map(|number| format!("&field[{number}]=x")).collect();
    api.problem(&format!("/v1/groups?{many}"), 400, "bad_parameter").await;
    api.stop().await;
}

#[tokio::test]
async fn a_cursor_works_only_where_it_comes_from() {
    let api = Api::of(&crowd()).await;
    let cursor_of = async |path: &str| api.json(path).await["next_cursor"].as_str().unwrap().to_owned();
    let newest = cursor_of("/v1/groups?limit=1").await;
    // The limit may change between pages, and a parameter with its default value is the same list.
    for more in ["limit=2", "sort=-created_at", "sdk_app_id=1400000001", "with=member_count"] {
        api.json(&format!("/v1/groups?{more}&cursor={newest}")).await;
    }
    for path in [
        "/v1/groups?sort=created_at&",
        "/v1/groups?name=same&",
        "/v1/groups?sdk_app_id=1400000002&",
        "/v1/groups/late0/members?",
        "/v1/users/ana/groups?",
    ] {
        api.problem(&format!("{path}cursor={newest}"), 400, "bad_cursor").await;
    }
    let of_user = cursor_of("/v1/users/ana/groups?limit=1").await;
    api.problem(&format!("/v1/users/boris/groups?cursor={of_user}"), 400, "bad_cursor").await;
    api.problem(&format!("/v1/users/ana/groups?status=all&cursor={of_user}"), 400, "bad_cursor").await;

    let forged = |of: &str, key: &str, value: Value| {
        let mut cursor: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(of).unwrap()).unwrap();
        cursor[key] = value;
        URL_SAFE_NO_PAD.encode(cursor.to_string())
    };
    let garbage =
        [String::new(), "x".into(), "!".into(), "AAAA".into(), "x".repeat(9_000), format!("{newest}A")];
    let keys = [
        json!(null),
        json!(1),
        json!({}),
        json!({"time_ms": i64::MAX, "group_id": "a"}),
        json!({"time_ms": -1, "group_id": "a"}),
        json!({"time_ms": "1", "group_id": "a"}),
        json!({"time_ms": 1, "group_id": ""}),
    ];
    let forged_keys = keys.map(|key| forged(&newest, "after", key));
    let others = [forged(&newest, "v", json!(2)), forged(&newest, "more", json!(1))];
    for cursor in garbage.iter().chain(&forged_keys).chain(&others) {
        api.problem(&format!("/v1/groups?cursor={cursor}"), 400, "bad_cursor").await;
    }
    let empty = forged(&of_user, "after", json!(""));
    api.problem(&format!("/v1/users/ana/groups?cursor={empty}"), 400, "bad_cursor").await;
    // U+0000 cannot be stored, so no row has this id; it is not an error of the service.
    let nul = forged(&newest, "after", json!({"time_ms": null, "group_id": "\u{0}"}));
    api.json(&format!("/v1/groups?cursor={nul}")).await;
    api.stop().await;
}

#[tokio::test]
async fn another_app_is_read_only_by_its_number() {
    let other = "1400000002";
    let facts =
        [told(APP, &river()), told(other, &created("g", 0, "other", json!({"Owner_Account": "ana_77"})))];
    let api = Api::start(facts.concat(), |_| {}).await;
    assert_eq!(api.groups("").await, set(["@TGS#2RIVERB7QK"]));
    assert_eq!(api.groups(&format!("sdk_app_id={other}")).await, set(["g"]));
    assert_eq!(api.groups(&format!("sdk_app_id={other}&member=ana_77&owner=ana_77")).await, set(["g"]));
    api.problem("/v1/groups/g", 404, "not_found").await;
    assert_eq!(api.json(&format!("/v1/groups/g?sdk_app_id={other}")).await["sdk_app_id"], 1_400_000_002);
    let mine = api.json(&format!("/v1/users/ana_77/groups?sdk_app_id={other}")).await;
    assert_eq!(mine["items"].as_array().unwrap().len(), 1);
    api.problem(&format!("/v1/groups/%40TGS%232RIVERB7QK/members?sdk_app_id={other}"), 404, "not_found")
        .await;
    api.stop().await;
}

#[tokio::test]
async fn with_tokens_nothing_is_said_without_one() {
    let api = Api::start(told(APP, &river()), |settings| {
        (settings.api_auth, settings.api_token) = (None, Some("reports:first,second".to_owned()));
    })
    .await;
    let ask = async |path: &str, authorization: &str| {
        let request = api.client.get(format!("{}{path}", api.base)).header("Authorization", authorization);
        request.send().await.unwrap()
    };
    for path in [
        "/v1/groups",
        "/v1/groups/none",
        "/v1/groups/none/history",
        "/v1/groups/none/members?at=bad",
        "/v1/groups?bad=1",
        "/nowhere",
        "/metrics",
    ] {
        let response = api.get(path).await;
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
        assert_problem(response, 401, "unauthorized").await;
        for wrong in
            ["Bearer third", "Bearer firs", "Bearer first2", "Bearer ", "Bearer", "first", "Basic first"]
        {
            assert_problem(ask(path, wrong).await, 401, "unauthorized").await;
        }
    }
    let post = api.client.post(format!("{}/v1/groups", api.base)).send().await.unwrap();
    assert_problem(post, 401, "unauthorized").await;
    for right in ["Bearer first", "Bearer second", "bearer second"] {
        assert_eq!(ask("/v1/groups", right).await.status(), 200, "{right}");
    }
    let (status, _) = raw(
        &api,
        "GET /v1/groups",
        "Host: localhost\r\nAuthorization: Bearer first\r\nAuthorization: Bearer first\r\n",
    )
    .await;
    assert_eq!(status, 401, "two of them are one too many");
    api.stop().await;
}

#[tokio::test]
async fn without_tokens_only_this_machine_may_read() {
    let api = Api::of(&[river()]).await;
    let line = "GET /v1/groups";
    for host in ["localhost", "LOCALHOST:8081", "127.0.0.1", "127.8.9.1:80", "[::1]", "[::1]:8081"] {
        assert_eq!(raw(&api, line, &format!("Host: {host}\r\n")).await.0, 200, "{host}");
    }
    for host in [
        "mirror.example",
        "localhost.example",
        "127.0.0.1.example",
        "10.0.0.1",
        "[::2]",
        "0.0.0.0",
        "",
        "localhost:x",
        "127.0.0.1:80:80",
        "[::1",
        "::1",
    ] {
        assert_eq!(raw(&api, line, &format!("Host: {host}\r\n")).await.0, 403, "{host}");
    }
    for header in [
        "Forwarded: for=10.0.0.1",
        "X-Forwarded-For: 10.0.0.1",
        "X-Forwarded-Whatever: 1",
        "X-Real-IP: 10.0.0.1",
        "Via: 1.1 proxy",
    ] {
        let (status, answer) = raw(&api, line, &format!("Host: localhost\r\n{header}\r\n")).await;
        assert_eq!(status, 403, "{header}");
        assert!(answer.contains(r#""code":"unauthorized""#), "{answer}");
    }
    assert_eq!(raw(&api, line, "").await.0, 403, "no Host at all");
    assert_eq!(raw(&api, line, "Host: localhost\r\nHost: localhost\r\n").await.0, 403);
    let absolute = raw(&api, "GET http://mirror.example/v1/groups", "Host: localhost\r\n").await;
    assert_eq!(absolute.0, 403, "the host of the request line counts as well");
    api.stop().await;
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems_too() {
    let api = Api::of(&[]).await;
    for path in ["/nowhere", "/v1/groups/", "/v1/groups/a/b", "/v1/users/a"] {
        let problem = api.problem(path, 404, "not_found").await;
        assert_eq!((&problem["type"], &problem["title"]), (&json!("about:blank"), &json!("Not Found")));
    }
    let response = api.client.delete(format!("{}/v1/groups/a", api.base)).send().await.unwrap();
    assert_eq!(response.headers()["allow"], "GET,HEAD");
    assert_problem(response, 405, "method_not_allowed").await;
    api.stop().await;
}

#[tokio::test]
async fn nothing_is_read_while_schema_and_database_do_not_agree() {
    let api = Api::of(&[river()]).await;
    api.execute("UPDATE _sqlx_migrations SET success = NOT success").await;
    api.until("/v1/groups", 503).await;
    for path in ["/v1/groups", "/v1/groups/g", "/v1/groups/g/members", "/v1/users/u/groups"] {
        let response = api.get(path).await;
        assert_eq!(response.headers()["retry-after"], "1");
        assert_problem(response, 503, "unavailable").await;
    }
    api.execute("UPDATE _sqlx_migrations SET success = NOT success").await;
    api.until("/v1/groups", 200).await;
    api.stop().await;
}

#[tokio::test]
async fn a_database_that_fails_is_told_without_its_words() {
    let api = Api::of(&[river()]).await;
    api.execute("ALTER VIEW group_states RENAME TO hidden").await;
    let problem = api.problem("/v1/groups", 500, "internal").await;
    assert!(!problem.to_string().contains("group_states"), "{problem}");
    api.execute("ALTER VIEW hidden RENAME TO group_states").await;
    api.json("/v1/groups").await;
    api.lose_the_database().await;
    api.problem("/v1/groups", 503, "unavailable").await;
    api.stop().await;
}
