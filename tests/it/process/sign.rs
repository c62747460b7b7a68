//! `sign` as a person uses it: its line is pasted into a shell against the real program, and what stands in a proxy's log is
//! judged as the receiver judges it.

use std::process::{Command, Stdio};

use group_mirror::callback::BODY_BYTES_MAX;
use group_mirror::callback::signature::Token;
use serde_json::Value;

use crate::durability::isolation::metric;
use crate::durability::spool::create;
use crate::support::postgres::TestDatabase;
use crate::support::process::{Ended, Place, Process, refused, run};
use crate::support::{API_TOKEN, APP, OK, TOKEN, eventually, unix_now};

/// `sign` with the addresses of a running service.
fn sign(place: &Place, url: &str, service: &Process, args: &[&str]) -> Command {
    let mut command = place.command_on(url, &[&["sign"], args].concat());
    command.env("CALLBACK_LISTEN", service.callback_address());
    command
}

/// The line of what was printed that a person pastes.
fn line(printed: &Ended) -> &str {
    assert_eq!((printed.code, printed.stderr.as_str()), (Some(0), ""), "{printed:?}");
    assert!(!printed.stdout.contains(TOKEN), "{}", printed.stdout);
    let lines: Vec<&str> = printed.stdout.splitn(4, '\n').collect();
    assert!(lines[0] == format!("SdkAppid: {APP}") && lines[1].starts_with("RequestTime: "), "{lines:?}");
    assert!(lines[2].starts_with("Sign: ") && lines[3].starts_with("curl "), "{lines:?}");
    lines[3].trim_end()
}

/// What curl prints, where the line is pasted into a shell in the directory.
async fn pasted(place: &Place, line: &str) -> String {
    let mut shell = place.program("sh");
    shell.args(["-c", line]);
    let ended = run(shell).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{line}");
    ended.stdout.trim_end().to_owned()
}

async fn group(service: &Process, id: &str) -> Option<Value> {
    let answer = service.get_as(API_TOKEN, &format!("/v1/groups/{id}")).await;
    if answer.status() == 200 { answer.json().await.ok() } else { None }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_that_is_pasted_into_a_shell_leaves_its_callback_in_the_mirror() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let service = Process::start(place.command_on(&database.url, &[])).ready().await;
    let mut body = create("by-line");
    body["Name"] = "it's \"quoted\" $HOME `x` \\ and\ttabbed\nlines".into();
    let text = body.to_string();
    // As an argument.
    let printed = run(sign(&place, &database.url, &service, &["--data", &text])).await;
    assert_eq!(pasted(&place, line(&printed)).await, OK);
    assert!(eventually(async || group(&service, "by-line").await.is_some()).await, "{}", service.log());
    assert_eq!(group(&service, "by-line").await.unwrap()["name"], body["Name"]);
    // Of a file, whose name needs quotes, with bytes that no line can hold: the mirror ignores NUL bytes behind a body.
    let bytes = create("by-file").to_string().into_bytes();
    let bytes = [bytes.as_slice(), b"\0\0"].concat();
    std::fs::write(place.path().join("it's a file.json"), bytes).unwrap();
    let args = ["--body", "it's a file.json"];
    let printed = run(sign(&place, &database.url, &service, &args)).await;
    assert!(line(&printed).contains("--data-binary"), "{printed:?}");
    assert_eq!(pasted(&place, line(&printed)).await, OK);
    assert!(eventually(async || group(&service, "by-file").await.is_some()).await, "{}", service.log());
    // Of standard input.
    let file = place.path().join("stdin.json");
    std::fs::write(&file, create("by-stdin").to_string()).unwrap();
    let input = Stdio::from(std::fs::File::open(&file).unwrap());
    let command = sign(&place, &database.url, &service, &["--body", "-"]);
    let printed = Process::start_with_input(command, input).ended().await;
    assert_eq!(pasted(&place, line(&printed)).await, OK);
    assert!(eventually(async || group(&service, "by-stdin").await.is_some()).await, "{}", service.log());
    service.ends_well_on("TERM").await;
}

#[tokio::test]
async fn without_a_body_the_line_proves_address_app_and_token_and_leaves_nothing() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let service = Process::start(place.command_on(&database.url, &[])).ready().await;
    let printed = run(sign(&place, &database.url, &service, &[])).await;
    assert_eq!(pasted(&place, line(&printed)).await, OK);
    assert!(metric(&service, "group_mirror_callbacks_total").await > 0.5);
    let mut wrong = sign(&place, &database.url, &service, &[]);
    wrong.env("CALLBACK_TOKEN", "another");
    let printed = run(wrong).await;
    let answer: Value = serde_json::from_str(&pasted(&place, line(&printed)).await).unwrap();
    assert_eq!(answer["ActionStatus"], "FAIL");
    let mut conn = database.connect().await;
    let entries: i64 = sqlx::query_scalar("SELECT count(*) FROM ledger").fetch_one(&mut conn).await.unwrap();
    assert_eq!(entries, 0);
    service.ends_well_on("TERM").await;
}

#[tokio::test]
async fn app_time_url_and_command_are_those_that_are_asked_for() {
    let place = Place::new();
    let command = |args: &[&str]| {
        let mut command = place.command(&[&["sign"], args].concat());
        command.env("SDK_APP_ID", "1400000001,1400000002");
        command.env("CALLBACK_TOKEN", "1400000001:a,1400000002:xxxxyyyy");
        command.env("CALLBACK_LISTEN", "0.0.0.0:8080");
        command
    };
    let asked = [
        "--app",
        "1400000002",
        "--time",
        "1669872112",
        "--callback-url",
        "https://mirror.example.org/cb?way=1",
        "--command",
        "Group.CallbackAfterCreateGroup",
    ];
    let printed = run(command(&asked)).await;
    assert_eq!(
        printed.stdout,
        "SdkAppid: 1400000002\nRequestTime: 1669872112\n\
         Sign: 17773bc39a671d7b9aa835458704d2a6db81360a5940292b587d6d760d484061\n\
         curl -sS -H 'Content-Type: application/json' --data-raw '{\"CallbackCommand\":\"State.StateChange\",\"EventTime\":0}' \
         'https://mirror.example.org/cb?way=1&SdkAppid=1400000002&CallbackCommand=Group.CallbackAfterCreateGroup&\
         contenttype=json&ClientIP=127.0.0.1&OptPlatform=RESTAPI&RequestTime=1669872112&\
         Sign=17773bc39a671d7b9aa835458704d2a6db81360a5940292b587d6d760d484061'\n"
    );
    let own = run(command(&[])).await;
    assert!(own.stdout.contains("'http://127.0.0.1:8080/callback?SdkAppid=1400000001&"), "{own:?}");
    for (args, wanted) in [
        (&["--app", "7"][..], "--app is 7, which is not one of SDK_APP_ID"),
        (&["--body", "none.json"], "--body: none.json: No such file"),
        (&["--data", ""], "--data is empty"),
        (&["--data", "{}"], "the body names no CallbackCommand that can be read"),
        (&["--data", "nonsense"], "the body names no CallbackCommand that can be read"),
        (&["--callback-url", "mirror"], "--callback-url is \"mirror\"; it should be a URL such as"),
        (&["--verify", "x", "--data", "{}"], "the argument '--verify <URL>' cannot be used with"),
    ] {
        let line = refused(command(args)).await;
        assert!(line.starts_with(wanted), "{line}");
    }
    let line = refused(place.command(&["sign"])).await;
    assert!(line.starts_with("there is no token of app 1400000001; set CALLBACK_TOKEN"), "{line}");
}

#[tokio::test]
async fn a_body_that_is_larger_than_the_mirror_takes_is_not_signed_nor_is_a_file_without_end_read() {
    let place = Place::new();
    let signed = |file: &str| {
        let mut command = place.command(&["sign", "--command", "x", "--body", file]);
        command.env("CALLBACK_TOKEN", TOKEN);
        command
    };
    let path = place.path().join("large");
    std::fs::write(&path, vec![b' '; BODY_BYTES_MAX]).unwrap();
    assert_eq!(run(signed("large")).await.code, Some(0), "the largest that the mirror takes");
    std::fs::write(&path, vec![b' '; BODY_BYTES_MAX + 1]).unwrap();
    for file in ["large", "/dev/zero"] {
        let line = refused(signed(file)).await;
        assert!(line.starts_with(&format!("--body: {file} has over 1048576 bytes")), "{line}");
    }
}

#[tokio::test]
async fn a_request_in_a_log_is_let_in_refused_or_no_request_by_exit_code() {
    let place = Place::new();
    let now = unix_now();
    let query = |token: &str, at: u64| {
        let sign = Token::new(token.into()).sign(&at.to_string());
        format!("POST /callback?SdkAppid={APP}&CallbackCommand=x&RequestTime={at}&Sign={sign} HTTP/1.1")
    };
    let verify = |text: &str, more: &[&str]| {
        let mut command = place.command(&[&["sign", "--verify", text], more].concat());
        command.env("SDK_APP_ID", format!("{APP},1400000002"));
        command.env("CALLBACK_TOKEN", format!("{APP}:new,{APP}:{TOKEN},1400000002:other"));
        command
    };
    let at = now.to_string();
    for (text, more, code, wanted) in [
        (query(TOKEN, now), &[][..], 0, "let in: token 2 of app 1400000001 makes this signature"),
        (query(TOKEN, now - 3000), &[], 1, "refused: RequestTime is 300"),
        (query(TOKEN, 1_669_872_112), &["--time", "1669872112"], 0, "let in: token 2"),
        (query("none", now), &[], 1, "refused: no token of CALLBACK_TOKEN makes this signature"),
        (query("other", now), &["--time", at.as_str()], 1, "refused: token 1 of app 1400000002 makes"),
    ] {
        let ended = run(verify(&text, more)).await;
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(code), ""), "{text}: {ended:?}");
        assert!(ended.stdout.starts_with(wanted) && ended.stdout.lines().count() == 1, "{ended:?}");
        assert!(!ended.stdout.contains(TOKEN), "{ended:?}");
    }
    let line = refused(verify("GET /livez HTTP/1.1", &[])).await;
    assert!(line.starts_with("--verify has no query of a callback"), "{line}");
    let mut open = verify(&query(TOKEN, now), &[]);
    open.env_remove("CALLBACK_TOKEN");
    assert!(refused(open).await.starts_with("there is no token to compare with"));
}
