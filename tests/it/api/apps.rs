//! Two apps of one service, with groups and users of equal ids: no path of the document shows anything of one to a reader
//! of the other, and to a token of one the other does not exist.

use serde_json::{Value, json};

use crate::api::reads::created;
use crate::support::api::{after, assert_problem};
use crate::support::apps::{ALL, FIRST, SECOND, in_environment, query, read_token, settings_of};
use crate::support::postgres::TestDatabase;
use crate::support::process::{Place, Process};
use crate::support::{Service, eventually};

/// The ids that both apps have.
const GROUP: &str = "@TGS#_same";
const USER: &str = "same-user";

/// Paths with the same answer for every app. There is none, and one that is added here has to be of no app at all.
const OF_NO_APP: [&str; 0] = [];

/// The word that stands in everything that one app alone has.
fn mark(app: &str) -> String {
    format!("mark{app}")
}

/// A life of one group, with the app's mark in every value and none in an id; as many more members as `extra`.
fn life(app: &str, extra: usize) -> Vec<Value> {
    let mark = mark(app);
    let members: Vec<Value> =
        (0..extra).map(|number| json!({"Member_Account": format!("u{number}")})).collect();
    let create = json!({
        "Name": mark, "Type": "Community", "Operator_Account": mark, "Owner_Account": USER, "MemberList": members,
        "UserDefinedDataList": [{"Key": "word", "Value": mark}],
    });
    vec![
        created(GROUP, 0, &mark, create),
        after(
            "MemberFieldChanged",
            GROUP,
            10,
            json!({"Member_Account": USER, "NameCard": mark, "Operator_Account": mark}),
        ),
        after(
            "CreateTopic",
            GROUP,
            20,
            json!({"TopicId": format!("{GROUP}@TOPIC#_t"), "TopicName": mark, "Operator_Account": mark}),
        ),
        after("GroupInfoChanged", GROUP, 30, json!({"Notification": mark, "Operator_Account": mark})),
        // Parked, in the group and without one.
        json!({"CallbackCommand": format!("Group.Callback{mark}"), "GroupId": GROUP, "EventTime": 1_767_225_600_040_i64}),
        json!({"CallbackCommand": format!("Group.Callback{mark}")}),
    ]
}

async fn start() -> (Service, TestDatabase) {
    let database = TestDatabase::create().await;
    let service = Service::start(&settings_of(&[FIRST, SECOND], &database.url)).await.unwrap();
    for (app, extra) in [(FIRST, 1), (SECOND, 3)] {
        for body in life(app, extra) {
            assert_eq!(service.post_of(app, body.to_string()).await.status(), 200, "{body}");
        }
    }
    service.until(|readiness| readiness["spool"]["depth"] == 0).await;
    // Every count is that of all callbacks.
    let counted = async || {
        let totals = async |app: &str| {
            let stats = service.json_as(ALL, &format!("/v1/stats?sdk_app_id={app}")).await;
            [stats["ledger"]["parked"].clone(), stats["members"].clone()]
        };
        totals(FIRST).await == [json!(2), json!(2)] && totals(SECOND).await == [json!(2), json!(4)]
    };
    assert!(eventually(counted).await, "{}", service.json_as(ALL, "/v1/stats").await);
    (service, database)
}

/// The paths that need a token, filled in, with whether the document says that they take `sdk_app_id`.
async fn paths(service: &Service) -> Vec<(String, bool)> {
    let document = service.json_as(ALL, "/openapi.json").await;
    let paths = document["paths"].as_object().unwrap().iter();
    let guarded = paths.filter(|(_, item)| item["get"].get("security") != Some(&json!([{}])));
    let percent = |id: &str| id.replace('@', "%40").replace('#', "%23");
    let takes_app = |item: &Value| {
        let named = |parameter: &Value| {
            let name = parameter["$ref"].as_str().map_or_else(
                || parameter["name"].clone(),
                |path| document.pointer(path.trim_start_matches('#')).unwrap()["name"].clone(),
            );
            name == "sdk_app_id"
        };
        item["get"]["parameters"].as_array().is_some_and(|parameters| parameters.iter().any(named))
    };
    let filled = |path: &str| path.replace("{group_id}", &percent(GROUP)).replace("{user_id}", USER);
    let paths: Vec<_> = guarded.map(|(path, item)| (filled(path), takes_app(item))).collect();
    assert!(
        paths.iter().all(|(path, _)| !path.contains('{')),
        "a new id of a path needs a value here: {paths:?}"
    );
    assert!(paths.len() >= 9, "{paths:?}");
    paths
}

async fn text(service: &Service, token: &str, path: &str) -> String {
    let answer = service.ask(token, path).await;
    let status = answer.status();
    let text = answer.text().await.unwrap();
    assert_eq!(status, 200, "{path}: {text}");
    text
}

#[tokio::test]
async fn no_path_of_the_document_shows_anything_of_another_app_with_equal_ids() {
    let (service, _database) = start().await;
    let (mut of_process, mut checked) = (Vec::new(), 0);
    for (path, takes_app) in paths(&service).await {
        if !takes_app {
            of_process.push(path);
            continue;
        }
        let by_name = |app: &str| format!("{path}?sdk_app_id={app}");
        let mut answers = Vec::new();
        for (app, other) in [(FIRST, SECOND), (SECOND, FIRST)] {
            let of_app = text(&service, &read_token(app), &path).await;
            for (token, path) in [(ALL, by_name(app)), (&read_token(app), by_name(app))] {
                let named = text(&service, token, &path).await;
                assert!(!named.contains(&mark(other)) && !named.contains(other), "{path}: {named}");
            }
            assert!(!of_app.contains(&mark(other)) && !of_app.contains(other), "{path}: {of_app}");
            answers.push(of_app);
            // There is no other app for a token of one, neither in a lookup nor in a list.
            let refused = service.ask(&read_token(app), &by_name(other)).await;
            let problem = assert_problem(refused, 404, "not_found").await.to_string();
            assert!(!problem.contains(&mark(other)), "{path}: {problem}");
        }
        assert!(OF_NO_APP.contains(&&*path) || answers[0] != answers[1], "{path} shows both apps the same");
        // Without either the first one is read.
        let first = text(&service, ALL, &path).await;
        assert!(!first.contains(SECOND), "{path}: {first}");
        checked += 1;
    }
    assert!(checked >= 8, "only {checked} paths take an app");
    // The numbers of the process are those of both apps.
    assert_eq!(of_process, ["/metrics"]);
    for app in [FIRST, SECOND] {
        assert_problem(service.ask(&read_token(app), "/metrics").await, 404, "not_found").await;
    }
    service.stop().await;
}

#[tokio::test]
async fn callbacks_and_refusals_are_counted_by_app() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let mut command = place.command(&[]);
    in_environment(&mut command, &settings_of(&[FIRST, SECOND], &database.url));
    let service = Process::start(command).ready().await;
    let create = created("g", 0, "g", json!({"Owner_Account": "ana"})).to_string();
    for (query, status) in [(query(FIRST, FIRST), 200), (query(SECOND, FIRST), 403)] {
        assert_eq!(service.post(&query, create.clone()).await.status(), status, "{}", service.log());
    }
    let numbers = service.get_as(ALL, "/metrics").await.text().await.unwrap();
    let create = "command=\"Group.CallbackAfterCreateGroup\"";
    for line in [
        format!("group_mirror_callbacks_total{{{create},outcome=\"applied\",app=\"{FIRST}\"}} 1"),
        format!("group_mirror_callbacks_total{{{create},outcome=\"applied\",app=\"{SECOND}\"}} 0"),
        format!("group_mirror_refusals_total{{cause=\"wrong\",app=\"{FIRST}\"}} 0"),
        format!("group_mirror_refusals_total{{cause=\"wrong\",app=\"{SECOND}\"}} 1"),
    ] {
        assert!(numbers.lines().any(|shown| shown == line), "{line}: {numbers}");
    }
    assert_eq!(service.get_as(&read_token(FIRST), "/metrics").await.status(), 404);
    let log = service.log();
    assert!(
        log.contains(&format!("refusal.app={SECOND}")) && log.contains(&format!("callback.app={FIRST}")),
        "{log}"
    );
}

#[tokio::test]
async fn what_is_shown_is_all_that_the_app_has() {
    let (service, _database) = start().await;
    for (app, members) in [(FIRST, 2), (SECOND, 4)] {
        let token = read_token(app);
        let group = "/v1/groups/%40TGS%23_same";
        for path in [
            "/v1/groups".to_owned(),
            group.to_owned(),
            format!("{group}/members"),
            format!("{group}/topics"),
            format!("{group}/history"),
            format!("/v1/users/{USER}/groups"),
            "/v1/parked".to_owned(),
            "/v1/changes".to_owned(),
        ] {
            let text = text(&service, &token, &path).await;
            assert!(text.contains(&mark(app)), "{path}: {text}");
        }
        assert_eq!(service.json_as(&token, group).await["member_count"], members);
        let count = async |path: &str| service.json_as(&token, path).await["items"].as_array().unwrap().len();
        assert_eq!(count(&format!("{group}/members")).await, members);
        assert_eq!(count(&format!("{group}/history")).await, 5);
        assert_eq!(count("/v1/changes").await, 6);
        assert_eq!(count("/v1/parked").await, 2);
        let stats = service.json_as(&token, "/v1/stats").await;
        assert_eq!(
            (&stats["sdk_app_id"], &stats["groups"]["total"]),
            (&json!(app.parse::<i64>().unwrap()), &json!(1))
        );
    }
    // An app that is not served is read as one that the mirror knows nothing of.
    assert_eq!(service.json_as(ALL, "/v1/groups?sdk_app_id=7").await["items"], json!([]));
    assert_problem(service.ask(ALL, "/v1/groups/%40TGS%23_same?sdk_app_id=7").await, 404, "not_found").await;
    service.stop().await;
}

#[tokio::test]
async fn a_cursor_of_one_app_leads_into_no_other() {
    let (service, _database) = start().await;
    for path in ["/v1/changes", "/v1/groups/%40TGS%23_same/history", "/v1/groups/%40TGS%23_same/members"] {
        let page = service.json_as(&read_token(SECOND), &format!("{path}?limit=1")).await;
        let cursor = page["next_cursor"].as_str().unwrap_or_else(|| panic!("{path}: {page}"));
        let next = format!("{path}?limit=500&cursor={cursor}");
        let rest = text(&service, &read_token(SECOND), &next).await;
        assert!(!rest.contains(FIRST) && !rest.contains(&mark(FIRST)), "{rest}");
        assert_problem(service.ask(&read_token(FIRST), &next).await, 400, "bad_cursor").await;
    }
    service.stop().await;
}

#[tokio::test]
async fn the_same_callback_to_two_apps_is_two_and_what_ends_one_group_leaves_its_twin() {
    let database = TestDatabase::create().await;
    let service = Service::start(&settings_of(&[FIRST, SECOND], &database.url)).await.unwrap();
    let create = created("twin", 0, "Twin", json!({"Owner_Account": "ana"}));
    for app in [FIRST, SECOND] {
        service.taken_of(app, &create).await;
        service.taken_of(app, &create).await;
    }
    service.taken_of(FIRST, &after("GroupDestroyed", "twin", 1_000, json!({"Owner_Account": "ana"}))).await;
    service.until(|readiness| readiness["spool"]["depth"] == 0).await;
    for (app, status, entries) in [(FIRST, "destroyed", 2), (SECOND, "active", 1)] {
        let token = read_token(app);
        assert_eq!(service.json_as(&token, "/v1/groups/twin").await["status"], status, "{app}");
        let history = service.json_as(&token, "/v1/groups/twin/history").await;
        assert_eq!(history["items"].as_array().unwrap().len(), entries, "{app}");
    }
    service.stop().await;
}

#[tokio::test]
async fn the_token_of_one_app_signs_no_callback_of_another_and_each_is_refused_on_its_own_count() {
    let database = TestDatabase::create().await;
    let service = Service::start(&settings_of(&[FIRST, SECOND], &database.url)).await.unwrap();
    let create = created("g", 0, "g", json!({"Owner_Account": "ana"})).to_string();
    for (query, status) in [
        (query(FIRST, FIRST), 200),
        (query(SECOND, FIRST), 403),
        (query(SECOND, FIRST), 403),
        (query(FIRST, SECOND), 403),
        (query("1400000003", FIRST), 403),
    ] {
        let url = format!("http://{}/?{query}", service.running.callback_addr);
        let answer = service.client.post(url).body(create.clone()).send().await.unwrap();
        assert_eq!(answer.status(), status, "{query}");
    }
    for (app, wrong, last) in [(FIRST, 1, true), (SECOND, 2, false)] {
        let stats = service.json_as(&read_token(app), "/v1/stats").await;
        assert_eq!(stats["refusals"]["by_cause"]["wrong"], wrong, "{stats}");
        assert_eq!(stats["refusals"]["by_cause"]["app"], 1, "no app of ours was named: {stats}");
        assert_eq!(stats["last_callback_at"].is_string(), last, "{stats}");
    }
    assert_eq!(service.json_as(&read_token(SECOND), "/v1/groups?status=all").await["items"], json!([]));
    service.stop().await;
}

#[tokio::test]
async fn the_stream_of_a_token_of_one_app_has_the_entries_of_that_app_alone() {
    let (service, _database) = start().await;
    for (app, other) in [(FIRST, SECOND), (SECOND, FIRST)] {
        let request = service.client.get(service.api_url("/v1/changes")).bearer_auth(read_token(app));
        let mut stream = request.header("accept", "text/event-stream").send().await.unwrap();
        let mut read = String::new();
        while read.matches("data:").count() < 6 {
            read.push_str(&String::from_utf8_lossy(&stream.chunk().await.unwrap().unwrap()));
        }
        service
            .taken_of(
                other,
                &created(&format!("late of {}", mark(other)), 0, "late", json!({"Owner_Account": "ana"})),
            )
            .await;
        service
            .taken_of(
                app,
                &created(&format!("late of {}", mark(app)), 0, "late", json!({"Owner_Account": "ana"})),
            )
            .await;
        while !read.contains(&format!("late of {}", mark(app))) {
            read.push_str(&String::from_utf8_lossy(&stream.chunk().await.unwrap().unwrap()));
        }
        assert!(!read.contains(&mark(other)), "{read}");
    }
    service.stop().await;
}
