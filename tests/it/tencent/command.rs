//! The command `fake-tencent` as a person runs it: beside a `serve`, found by its log lines, stopped by a signal.

use serde_json::Value;

use crate::support::postgres::TestDatabase;
use crate::support::process::{Place, Process, refused};
use crate::support::{API_TOKEN, TOKEN};

/// An address out of a log: what stands behind a text, up to a blank.
fn address(log: &str, before: &str) -> String {
    let rest = log.split(before).nth(1).unwrap_or_else(|| panic!("no {before:?} in {log}"));
    rest.split([' ', '\n', '/']).next().unwrap().to_owned()
}

#[tokio::test]
async fn two_commands_play_a_life_and_the_mirror_follows() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let service = Process::start(place.command_on(&database.url, &["serve"])).ready().await;
    let callbacks = service.callback_address();
    let mut command = place.command(&[
        "fake-tencent",
        "--listen",
        "127.0.0.1:0",
        "--callback-url",
        &format!("http://{callbacks}/callback"),
        "--changes-per-sec",
        "200",
        "--knob",
        "silent=0",
    ]);
    command.env("CALLBACK_TOKEN", TOKEN);
    let mut fake = Process::start(command);
    fake.says("changes per second").await;
    let door = address(&fake.log(), "http://");
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let read = async |url: String| -> Value { client.get(url).send().await.unwrap().json().await.unwrap() };
    let follows = crate::support::eventually(async || {
        let groups: Value = service.get_as(API_TOKEN, "/v1/groups?limit=50").await.json().await.unwrap();
        groups["items"].as_array().is_some_and(|groups| groups.len() > 5)
    });
    assert!(follows.await, "{}", service.log());
    let counts = read(format!("http://{door}/fake/callbacks")).await;
    assert_eq!((&counts["lost"], &counts["failed"]), (&Value::from(0), &Value::from(0)), "{counts}");
    let changed = client
        .post(format!("http://{door}/fake/knobs"))
        .json(&serde_json::json!({ "lots": 1 }))
        .send()
        .await
        .unwrap();
    assert_eq!(changed.status(), reqwest::StatusCode::BAD_REQUEST);
    let ended = fake.ends_well_on("INT").await;
    assert!(ended.stderr.contains("callbacks: {"), "{ended:?}");
    service.ends_well_on("INT").await;
}

#[tokio::test]
async fn a_bad_argument_is_one_line_that_names_it() {
    let place = Place::new();
    for (arguments, words) in [
        (&["--listen", "8090"][..], "--listen is \"8090\"; it should read like 127.0.0.1:8090"),
        (&["--listen", "0.0.0.0:0"], "it should be a loopback address"),
        (&["--callback-url", "mirror"], "--callback-url is \"mirror\"; it should read like http://"),
        (&["--changes-per-sec=-1"], "--changes-per-sec is -1; it should be from 0"),
        (&["--knob", "lots=1"], "there is no knob \"lots\""),
        (&["--secret-key", ""], "--secret-key is empty"),
    ] {
        let mut all = vec!["fake-tencent"];
        all.extend(arguments);
        let line = refused(place.command(&all)).await;
        assert!(line.contains(words) && line.lines().count() == 1, "{line}");
    }
}
