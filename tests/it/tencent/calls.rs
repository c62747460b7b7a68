//! Calls of the client against a server that answers as the test has written down: codes, repetitions, signatures,
//! redirects, sizes, addresses, and what an error may show.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use group_mirror::model::{GroupId, Millis, SdkAppId, UserId};
use group_mirror::tencent::client::TencentClient;
use group_mirror::tencent::codes::CodeClass;
use group_mirror::tencent::commands::{InfoFilter, PageBegin, ReadCommand};
use group_mirror::tencent::groups::GroupInfos;
use group_mirror::tencent::usersig::{SecretKey, Signer};
use group_mirror::tencent::{ANSWER_BYTES_MAX, AddressError, CallError, ExchangeFault, Reply};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::scripted::{Asked, KEY, NOW_MS, Scripted, ScriptedServer, client, settings};
use crate::support::{APP, eventually};

fn group(id: &str) -> GroupId {
    GroupId::parse(id).unwrap()
}

async fn ask(client: &TencentClient) -> Result<Reply<GroupInfos>, CallError> {
    client.group_infos(&[group("g")], &InfoFilter::default(), &CancellationToken::new()).await
}

/// What one question leads to, with these answers, and the requests that were made.
async fn asked(answers: Vec<Scripted>) -> (Result<(), CallError>, Vec<Asked>) {
    let server = ScriptedServer::start(answers).await;
    let outcome = ask(&client(&server.url)).await.map(|_| ());
    (outcome, server.asked())
}

fn codes(codes: &[i64]) -> Vec<Scripted> {
    codes.iter().map(|code| Scripted::code(*code)).collect()
}

#[tokio::test]
async fn a_request_is_that_of_the_page_and_signed_anew_with_another_random_number() {
    let server = ScriptedServer::start([]).await;
    let client = client(&server.url);
    ask(&client).await.unwrap();
    client.group_ids(u64::MAX, 10_000, Some("Public"), &CancellationToken::new()).await.unwrap();
    let [info, ids] = &server.asked()[..] else { panic!("two requests") };
    assert_eq!(info.path, "/v4/group_open_http_svc/get_group_info");
    assert_eq!(ids.path, "/v4/group_open_http_svc/get_appid_group_list");
    assert_eq!(ids.body["Next"], u64::MAX);
    assert_eq!(ids.body["GroupType"], "Public");
    assert_eq!(info.body["GroupIdList"], serde_json::json!(["g"]));
    let names: Vec<&str> = info.query.keys().map(String::as_str).collect();
    assert_eq!(names, ["contenttype", "identifier", "random", "sdkappid", "usersig"]);
    assert_eq!((&*info.query["sdkappid"], &*info.query["identifier"]), (APP, "administrator"));
    assert_ne!(info.query["random"], ids.query["random"]);
    assert!(info.query["random"].parse::<u32>().is_ok());
    let key = SecretKey::new(KEY.to_owned());
    let signer = Signer { key: &key, app: SdkAppId::parse(APP).unwrap(), identifier: "administrator" };
    assert_eq!(signer.verify(&info.query["usersig"], NOW_MS / 1000), Ok(()));
}

#[tokio::test]
async fn passing_faults_are_repeated_and_given_up_in_the_end() {
    for code in [10002, 60008, 60013, 70169, 90992, 123_456] {
        let (outcome, requests) = asked(codes(&[code])).await;
        assert_eq!((outcome, requests.len()), (Ok(()), 2), "{code}");
    }
    for answer in
        [Scripted::status(502), Scripted::body("<html>"), Scripted::body("{}"), Scripted::status(500)]
    {
        let (outcome, requests) = asked(vec![answer.clone(), answer]).await;
        assert_eq!((outcome, requests.len()), (Ok(()), 3));
    }
    let (outcome, requests) = asked(codes(&[10002; 20])).await;
    assert!(matches!(outcome, Err(CallError::Code { class: CodeClass::Again, .. })), "{outcome:?}");
    assert_eq!(requests.len(), 7, "six repetitions");
    let (outcome, requests) = asked(vec![Scripted::status(502); 20]).await;
    assert!(matches!(outcome, Err(CallError::Exchange { fault: ExchangeFault::Status(502), .. })));
    assert_eq!(requests.len(), 7);
}

#[tokio::test]
async fn answers_about_the_question_are_not_repeated() {
    for (code, class) in [
        (10010, CodeClass::Gone),
        (10015, CodeClass::Gone),
        (10007, CodeClass::Unsupported),
        (11000, CodeClass::Unsupported),
        (10018, CodeClass::TooMuch),
        (10054, CodeClass::TooMuch),
        (10004, CodeClass::Bug),
        (10011, CodeClass::Bug),
        (110_003, CodeClass::TopicGone),
        (10019, CodeClass::Refused),
    ] {
        let (outcome, requests) = asked(codes(&[code])).await;
        assert_eq!(outcome.unwrap_err().class(), Some(class), "{code}");
        assert_eq!(requests.len(), 1, "{code}");
    }
}

#[tokio::test]
async fn tencents_own_time_out_twice_in_a_row_means_that_too_much_was_asked_for() {
    let (outcome, requests) = asked(codes(&[60008, 60008])).await;
    assert_eq!((outcome.unwrap_err().class(), requests.len()), (Some(CodeClass::TooMuch), 2));
    let (outcome, requests) = asked(codes(&[60008, 10002, 60008])).await;
    assert_eq!((outcome, requests.len()), (Ok(()), 4), "not in a row");
}

#[tokio::test]
async fn a_rate_code_halves_the_share_of_its_command_and_that_of_the_app_all_shares() {
    let server = ScriptedServer::start(codes(&[60007, 0, 60011, 0])).await;
    let client = client(&server.url);
    ask(&client).await.unwrap();
    let shares = || (client.share(ReadCommand::GroupInfo), client.share(ReadCommand::Members));
    assert_eq!(shares(), (0.1, 0.2));
    ask(&client).await.unwrap();
    assert_eq!(shares(), (0.05, 0.1));
    let (outcome, requests) = asked(codes(&[10006; 20])).await;
    assert_eq!((outcome.unwrap_err().class(), requests.len()), (Some(CodeClass::Rate), 11));
}

#[tokio::test]
async fn a_refused_signature_is_renewed_once_and_then_no_call_is_made_until_someone_acts() {
    static CLOCK: AtomicI64 = AtomicI64::new(NOW_MS);
    for code in [70001, 60004, 60005, 10008] {
        let server = ScriptedServer::start(codes(&[code, 0, code, 0, code, code])).await;
        let mut settings = settings(&server.url);
        settings.now = || Millis::new(CLOCK.fetch_add(1000, Ordering::Relaxed));
        let client = TencentClient::new(settings).unwrap();
        ask(&client).await.unwrap();
        ask(&client).await.unwrap();
        let sigs: Vec<String> = server.asked().iter().map(|asked| asked.query["usersig"].clone()).collect();
        assert!(sigs[0] != sigs[1] && sigs[1] == sigs[2] && sigs[2] != sigs[3], "{code}");
        let halted = ask(&client).await.unwrap_err();
        assert!(matches!(&halted, CallError::Halted(it) if it.code == code), "{halted:?}");
        assert_eq!(server.asked().len(), 6);
        assert_eq!(ask(&client).await.unwrap_err(), halted);
        assert_eq!(server.asked().len(), 6, "no call is made");
        client.resume();
        ask(&client).await.unwrap();
        assert_eq!((server.asked().len(), client.halted()), (7, None));
    }
}

#[tokio::test]
async fn a_signature_is_used_again_and_renewed_before_its_end() {
    static CLOCK: AtomicI64 = AtomicI64::new(NOW_MS);
    let server = ScriptedServer::start([]).await;
    let mut settings = settings(&server.url);
    settings.now = || Millis::new(CLOCK.load(Ordering::Relaxed));
    let client = TencentClient::new(settings).unwrap();
    for hours in [0, 22, 23, 24] {
        CLOCK.store(NOW_MS + hours * 3_600_000, Ordering::Relaxed);
        ask(&client).await.unwrap();
    }
    let sigs: Vec<String> = server.asked().iter().map(|asked| asked.query["usersig"].clone()).collect();
    assert!(sigs[0] == sigs[1] && sigs[1] != sigs[2] && sigs[2] == sigs[3]);
}

#[tokio::test]
async fn what_only_a_person_can_mend_stops_all_calls_at_once() {
    for code in [60006, 60010, 60020, 70003, 70009, 70013, 70014, 70020, 70403] {
        let server = ScriptedServer::start(codes(&[code])).await;
        let client = client(&server.url);
        assert!(matches!(ask(&client).await, Err(CallError::Halted(it)) if it.code == code));
        assert!(matches!(ask(&client).await, Err(CallError::Halted(_))));
        assert_eq!((server.asked().len(), client.halted().unwrap().code), (1, code));
    }
}

#[tokio::test]
async fn too_many_bad_signatures_are_followed_by_silence_and_another_attempt() {
    let (outcome, requests) = asked(codes(&[70050])).await;
    assert_eq!((outcome, requests.len()), (Ok(()), 2));
    let (outcome, requests) = asked(codes(&[70050; 9])).await;
    assert_eq!((outcome.unwrap_err().class(), requests.len()), (Some(CodeClass::Wait), 3));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let other = ScriptedServer::start([]).await;
    for status in [301, 302, 307, 308] {
        let redirects = vec![Scripted::status(status).with("location", &other.url); 9];
        let (outcome, _) = asked(redirects).await;
        let wanted = ExchangeFault::Status(status);
        assert!(matches!(outcome, Err(CallError::Exchange { fault, .. }) if fault == wanted));
    }
    assert_eq!(other.asked().len(), 0, "the UserSig was not handed on");
}

#[tokio::test]
async fn an_answer_over_the_limit_is_not_read_and_asks_for_less() {
    let large =
        format!(r#"{{"ActionStatus":"OK","ErrorCode":0,"GroupInfo":[],"x":"{}"}}"#, "x".repeat(1 << 20));
    let (outcome, _) = asked(vec![Scripted::body(large)]).await;
    assert_eq!(outcome, Ok(()), "1 MiB is read");
    let (outcome, requests) = asked(vec![Scripted::body(vec![b' '; ANSWER_BYTES_MAX + 1])]).await;
    let error = outcome.unwrap_err();
    assert!(matches!(&error, CallError::Exchange { fault: ExchangeFault::TooLarge, .. }), "{error:?}");
    assert_eq!((error.class(), requests.len()), (Some(CodeClass::TooMuch), 1));
}

#[tokio::test]
async fn no_error_shows_a_user_sig_or_an_address() {
    let mut failures = Vec::new();
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    failures.push(ask(&client(&url)).await.unwrap_err());
    let hanging = vec![Scripted { hangs: true, ..Scripted::code(0) }; 9];
    let server = ScriptedServer::start(hanging).await;
    let mut quick = settings(&server.url);
    quick.timeout = Duration::from_millis(20);
    failures.push(ask(&TencentClient::new(quick).unwrap()).await.unwrap_err());
    for answers in [
        vec![Scripted::status(502); 9],
        vec![Scripted::body("no json"); 9],
        codes(&[10002; 9]),
        codes(&[10010]),
        codes(&[70009]),
        vec![Scripted::status(302).with("location", "http://127.0.0.1:1/x"); 9],
        vec![Scripted::body(vec![b' '; ANSWER_BYTES_MAX + 1])],
    ] {
        failures.push(asked(answers).await.0.unwrap_err());
    }
    assert!(matches!(&failures[1], CallError::Exchange { fault: ExchangeFault::Timeout, .. }));
    for failure in &failures {
        let shown = format!("{failure} {failure:?} {:#}", anyhow::Error::from(failure.clone()));
        // Every UserSig begins like this, because zlib and the first key do.
        for secret in ["usersig", "eJ", "identifier", KEY, "sdkappid", "127.0.0.1", "http:"] {
            assert!(!shown.contains(secret), "{secret}: {shown}");
        }
    }
    let shown = format!("{:?}", client(&url));
    assert!(!shown.contains(KEY) && !shown.contains("eJ"), "{shown}");
}

#[test]
fn an_address_is_https_or_this_machine_and_nothing_but_scheme_and_host() {
    let made = |url: &str| TencentClient::new(settings(url)).map(|_| ());
    for url in ["http://127.0.0.1:8090", "http://localhost:1/", "http://[::1]:8090"] {
        assert_eq!(made(url), Ok(()), "{url}");
    }
    for url in ["http://console.tim.qq.com", "http://10.0.0.1", "http://127.0.0.1.example.org"] {
        assert!(matches!(made(url), Err(AddressError::Plain(_))), "{url}");
    }
    for url in [
        "",
        "console.tim.qq.com",
        "ftp://console.tim.qq.com",
        "https://console.tim.qq.com/v4",
        "https://console.tim.qq.com/?a=b",
        "https://user:secret@console.tim.qq.com",
        "https://",
    ] {
        assert!(matches!(made(url), Err(AddressError::Form(_))), "{url}");
    }
    // Without certificates of authorities on this machine it cannot be tried.
    let tls = made("https://console.tim.qq.com");
    assert!(matches!(tls, Ok(()) | Err(AddressError::Tls(_))), "{tls:?}");
}

#[tokio::test]
async fn the_date_of_the_answer_bounds_tencents_clock_and_without_it_our_own_does() {
    let date = "Thu, 01 Jan 2026 00:10:00 GMT";
    let server = ScriptedServer::start([
        Scripted::code(0).with("date", date),
        Scripted::code(0).with("date", "yesterday"),
    ])
    .await;
    let client = client(&server.url);
    let asked_at = ask(&client).await.unwrap().asked_at.get();
    let dated = NOW_MS + 600_000;
    assert!((dated - 10_000..dated).contains(&asked_at), "{asked_at}");
    let asked_at = ask(&client).await.unwrap().asked_at.get();
    assert_eq!(asked_at, NOW_MS - 5_000);
}

#[tokio::test]
async fn a_stop_ends_a_call_that_waits_for_an_answer() {
    let server = ScriptedServer::start([Scripted { hangs: true, ..Scripted::code(0) }]).await;
    let (client, stop) = (client(&server.url), CancellationToken::new());
    let groups = [group("g")];
    let filter = InfoFilter::default();
    let call = client.group_infos(&groups, &filter, &stop);
    let stopping = async {
        assert!(eventually(async || server.asked().len() == 1).await);
        stop.cancel();
    };
    let (outcome, ()) = tokio::join!(call, stopping);
    assert_eq!(outcome.map(|_| ()), Err(CallError::Cancelled));
}

/// A request out of `tests/it/data/rest`.
fn sample(name: &str) -> Value {
    let root = env!("CARGO_MANIFEST_DIR");
    let text = std::fs::read_to_string(format!("{root}/tests/it/data/rest/{name}.request.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn users(names: &[&str]) -> Vec<UserId> {
    names.iter().map(|name| UserId::parse(name).unwrap()).collect()
}

#[tokio::test]
async fn each_command_asks_as_the_samples_do() {
    let server = ScriptedServer::start([]).await;
    let (client, stop) = (client(&server.url), CancellationToken::new());
    let (river, forum) = (group("@TGS#2RIVERB7QK"), group("@TGS#3FORUM7ZC1"));
    let harbour = group("@TGS#_@TGS#cHARBOR62QX");
    let ana = UserId::parse("ana_77").unwrap();
    let filter = InfoFilter { members: true, ..InfoFilter::default() };
    let cursor = |next: &str| PageBegin::Cursor(next.to_owned());
    let _ = client.group_ids(0, 2, None, &stop).await;
    let _ = client.group_ids(9_223_372_036_854_775_809, 2, None, &stop).await;
    let _ = client.group_ids(0, 10_000, Some("Public"), &stop).await;
    let _ = client.group_infos(&[group("@TGS#1TEAMX4WQ8"), forum.clone()], &filter, &stop).await;
    let _ = client.members(&river, &PageBegin::Offset(0), 6000, &[], &stop).await;
    let _ = client.members(&harbour, &cursor(""), 100, &[], &stop).await;
    let _ = client.members(&harbour, &cursor("144115265295492787"), 100, &[], &stop).await;
    let _ = client.roles(&river, &users(&["ana_77", "boris-2", "chen_li", "dora9"]), &stop).await;
    let _ = client.muted(&forum, &stop).await;
    let _ = client.joined_groups(&ana, 0, 5000, &stop).await;
    let _ = client.attributes(&river, &stop).await;
    let _ = client.topics(&harbour, &ana, &[], &stop).await;
    // What cannot be read is asked for again, with the same body.
    let mut asked: Vec<(String, Value)> =
        server.asked().into_iter().map(|asked| (asked.path, asked.body)).collect();
    asked.dedup();
    let (groups, attributes, topics) =
        ("group_open_http_svc", "group_open_attr_http_svc", "million_group_open_http_svc");
    let wanted = [
        (groups, "get_appid_group_list", "get_appid_group_list.first"),
        (groups, "get_appid_group_list", "get_appid_group_list.middle"),
        (groups, "get_appid_group_list", "get_appid_group_list.type-filter"),
        (groups, "get_group_info", "get_group_info.packed"),
        (groups, "get_group_member_info", "get_group_member_info.whole"),
        (groups, "get_group_member_info", "get_group_member_info.community-first"),
        (groups, "get_group_member_info", "get_group_member_info.community-middle"),
        (groups, "get_role_in_group", "get_role_in_group"),
        (groups, "get_group_muted_account", "get_group_muted_account"),
        (groups, "get_joined_group_list", "get_joined_group_list"),
        (attributes, "get_group_attr", "get_group_attr"),
        (topics, "get_topic", "get_topic"),
    ];
    let wanted: Vec<(String, Value)> = wanted
        .into_iter()
        .map(|(service, command, name)| (format!("/v4/{service}/{command}"), sample(name)))
        .collect();
    assert_eq!(asked, wanted);
}
