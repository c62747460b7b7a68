//! Who may call the fake and how often: signature, app, account, rates, sizes, faults. Requests are made by hand here, so
//! that the fake is held to Tencent's pages and not to the client.

use std::time::Duration;

use group_mirror::fake::Fake;
use group_mirror::model::SdkAppId;
use group_mirror::tencent::client::TencentClient;
use group_mirror::tencent::codes::CodeClass;
use group_mirror::tencent::commands::{InfoFilter, ReadCommand};
use group_mirror::tencent::usersig::{SecretKey, Signer};
use group_mirror::tencent::{CallError, ExchangeFault};
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::fake::{client, client_settings, fake, group};
use super::scripted::KEY;
use crate::support::{APP, eventually};

const IDS: &str = "/v4/group_open_http_svc/get_appid_group_list";
const INFO: &str = "/v4/group_open_http_svc/get_group_info";

fn sig(key: &str, app: &str, identifier: &str, begin_ago_secs: i64) -> String {
    let key = SecretKey::new(key.to_owned());
    let app = SdkAppId::parse(app).unwrap();
    let now = group_mirror::clock::now().get() / 1000;
    Signer { key: &key, app, identifier }.sign(now - begin_ago_secs, 3600)
}

async fn send(fake: &Fake, path: &str, query: &str, body: &str) -> Response {
    let url = format!("http://{}{path}?{query}", fake.addr);
    Client::builder().no_proxy().build().unwrap().post(url).body(body.to_owned()).send().await.unwrap()
}

async fn code(fake: &Fake, path: &str, query: &str, body: &str) -> i64 {
    let answer = send(fake, path, query, body).await;
    assert_eq!(answer.status(), StatusCode::OK, "200 whatever the result");
    let answer: Value = answer.json().await.unwrap();
    let code = answer["ErrorCode"].as_i64().unwrap();
    assert_eq!(answer["ActionStatus"], if code == 0 { "OK" } else { "FAIL" });
    code
}

fn query(sig: &str) -> String {
    format!("sdkappid={APP}&identifier=administrator&usersig={sig}&random=4294967295&contenttype=json")
}

#[tokio::test]
async fn each_fault_of_a_request_has_its_code() {
    let fake = fake(&json!({ "rate_factor": 1000 }), None, 1).await;
    let good = query(&sig(KEY, APP, "administrator", 0));
    let other_key = KEY.replace('5', "6");
    for (case, path, query, body, wanted) in [
        ("right", IDS, good.clone(), "{}", 0),
        ("expired", IDS, query(&sig(KEY, APP, "administrator", 3602)), "{}", 70001),
        ("unreadable", IDS, query("eJx"), "{}", 70003),
        ("empty", IDS, query(""), "{}", 70002),
        ("another key", IDS, query(&sig(&other_key, APP, "administrator", 0)), "{}", 70009),
        ("another account", IDS, query(&sig(KEY, APP, "ana", 0)), "{}", 70013),
        ("another app", IDS, query(&sig(KEY, "1400000002", "administrator", 0)), "{}", 70014),
        ("unknown app", IDS, good.replace(APP, "1400000002"), "{}", 60006),
        ("no app", IDS, good.replace("sdkappid", "SdkAppid"), "{}", 60012),
        ("no random number", IDS, good.replace("random=4294967295", "random=4294967296"), "{}", 60002),
        (
            "no administrator",
            IDS,
            query(&sig(KEY, APP, "ana", 0)).replace("identifier=administrator", "identifier=ana"),
            "{}",
            60010,
        ),
        ("no body", IDS, good.clone(), "", 60003),
        ("a list as the body", IDS, good.clone(), "[]", 60003),
        ("unknown command", "/v4/group_open_http_svc/get_everything", good.clone(), "{}", 10003),
        ("another service", "/v4/group_open_attr_http_svc/get_group_info", good.clone(), "{}", 10003),
        ("what only users do", "/v4/sdk/user_joins", good.clone(), "{}", 10003),
        ("no ids", INFO, good.clone(), "{}", 10004),
        ("a limit that is too large", IDS, good.clone(), r#"{"Limit":10001}"#, 10004),
    ] {
        assert_eq!(code(&fake, path, &query, body).await, wanted, "{case}");
    }
    group(&fake, "Community", "@TGS#_c", &[]).await;
    fake.set_knobs(&json!({ "community_offset_refused": true })).unwrap();
    let offset = r#"{"GroupId":"@TGS#_c","Limit":100,"Offset":0}"#;
    let members = "/v4/group_open_http_svc/get_group_member_info";
    assert_eq!(code(&fake, members, &good, offset).await, 10004);
    let many: Vec<String> = (0..51).map(|number| format!("g{number}")).collect();
    assert_eq!(code(&fake, INFO, &good, &json!({ "GroupIdList": many }).to_string()).await, 10004);
}

/// A signature that is not compressed, as Tencent's own Go package makes it, with its keys in another order.
#[tokio::test]
async fn a_signature_of_another_form_is_accepted() {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use std::io::Write as _;
    let fake = fake(&json!({}), None, 1).await;
    let own = sig(KEY, APP, "administrator", 0);
    let base64 = own.replace('*', "+").replace('-', "/").replace('_', "=");
    let compressed = STANDARD.decode(base64).unwrap();
    let object: Value =
        serde_json::from_reader(flate2::read::ZlibDecoder::new(compressed.as_slice())).unwrap();
    let members = object.as_object().unwrap().iter().rev();
    let text: Vec<String> = members.map(|(key, value)| format!("\"{key}\" : {value}")).collect();
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::none());
    writeln!(zlib, "{{{}}}", text.join(", ")).unwrap();
    let other = STANDARD.encode(zlib.finish().unwrap());
    let other = other.replace('+', "*").replace('/', "-").replace('=', "_");
    assert_ne!(own, other);
    assert_eq!(code(&fake, IDS, &query(&other), "{}").await, 0);
}

#[tokio::test]
async fn too_many_bad_signatures_are_followed_by_a_ban() {
    let fake = fake(&json!({ "bad_signatures_max": 3 }), None, 1).await;
    for wanted in [70003, 70003, 70003, 70050] {
        assert_eq!(code(&fake, IDS, &query("eJx"), "{}").await, wanted);
    }
    assert_eq!(code(&fake, IDS, &query(&sig(KEY, APP, "administrator", 0)), "{}").await, 70050);
}

/// The limits are scaled down, so that two calls fall into one interval however slow the machine is.
#[tokio::test]
async fn each_command_has_its_rate_and_the_app_may_have_one() {
    let fake = fake(&json!({ "rate_factor": 0.01 }), None, 1).await;
    let good = query(&sig(KEY, APP, "administrator", 0));
    assert_eq!(code(&fake, IDS, &good, "{}").await, 0);
    assert_eq!(code(&fake, IDS, &good, "{}").await, 10006, "one list of ids a second, by the factor");
    fake.set_knobs(&json!({ "rate_factor": 0.0001 })).unwrap();
    let body = r#"{"GroupIdList":["g"]}"#;
    assert_eq!(code(&fake, INFO, &good, body).await, 0);
    assert_eq!(code(&fake, INFO, &good, body).await, 60007);
    let write = r#"{"GroupId":"g","GroupAttr":[{"key":"a","value":"b"}]}"#;
    let path = "/v4/group_open_http_svc/modify_group_attr";
    fake.set_knobs(&json!({ "rate_factor": 0.01 })).unwrap();
    group(&fake, "Public", "g", &[]).await;
    assert_eq!(code(&fake, path, &good, write).await, 0);
    assert_eq!(code(&fake, path, &good, write).await, 10049, "attributes have a limit for each group");
    fake.set_knobs(&json!({ "rate_factor": 1000, "app_rate": 0.001 })).unwrap();
    assert_eq!(code(&fake, INFO, &good, body).await, 0);
    assert_eq!(code(&fake, INFO, &good, body).await, 60011);
}

async fn profile(client: &TencentClient) -> Result<(), CallError> {
    let id = group_mirror::model::GroupId::parse("g").unwrap();
    client.group_infos(&[id], &InfoFilter::default(), &CancellationToken::new()).await.map(|_| ())
}

/// The limits are scaled down, so that the test is about the rule and not about the machine.
#[tokio::test]
async fn the_client_keeps_to_a_limit_and_goes_slower_behind_a_lower_one() {
    let fake = fake(&json!({ "rate_factor": 1000 }), None, 1).await;
    let client = client(&fake);
    for _ in 0..20 {
        profile(&client).await.unwrap();
    }
    assert!((client.share(ReadCommand::GroupInfo) - 1.0).abs() < f64::EPSILON, "no rate code came");
    fake.set_knobs(&json!({ "rate_factor": 0.01 })).unwrap();
    let is_slower = async || {
        let _ = profile(&client).await;
        client.share(ReadCommand::GroupInfo) < 0.6
    };
    assert!(eventually(is_slower).await, "{}", client.share(ReadCommand::GroupInfo));
    assert!((client.share(ReadCommand::Members) - 1.0).abs() < f64::EPSILON, "another command is not slower");
}

#[tokio::test]
async fn the_client_survives_each_fault_of_the_way_and_gives_up_when_it_does_not_end() {
    let fake = fake(&json!({ "rate_factor": 1000, "slow_ms": 0 }), None, 1).await;
    group(&fake, "Public", "g", &[]).await;
    let client = client(&fake);
    for knob in ["http_502", "cut", "internal_error"] {
        fake.set_knobs(&json!({ knob: 0.3 })).unwrap();
        for _ in 0..10 {
            profile(&client).await.unwrap();
        }
        fake.set_knobs(&json!({ knob: 1.0 })).unwrap();
        let error = profile(&client).await.unwrap_err();
        let is_fault = match knob {
            "http_502" => matches!(&error, CallError::Exchange { fault: ExchangeFault::Status(502), .. }),
            "cut" => matches!(&error, CallError::Exchange { fault: ExchangeFault::Connection(_), .. }),
            _ => error.class() == Some(CodeClass::Again),
        };
        assert!(is_fault, "{knob}: {error:?}");
        fake.set_knobs(&json!({ knob: 0.0 })).unwrap();
    }
    fake.set_knobs(&json!({ "slow": 1.0 })).unwrap();
    assert_eq!(profile(&client).await.unwrap_err().class(), Some(CodeClass::TooMuch));
    fake.set_knobs(&json!({ "slow": 0.0, "answer_bytes_max": 100 })).unwrap();
    assert_eq!(profile(&client).await.unwrap_err().class(), Some(CodeClass::TooMuch));
}

#[tokio::test]
async fn credentials_of_another_kind_stop_the_client() {
    let fake = fake(&json!({ "rate_factor": 1000 }), None, 1).await;
    for (key, app, admin, wanted) in [
        (KEY.replace('5', "6"), APP, "administrator", 70009),
        (KEY.to_owned(), "1400000002", "administrator", 60006),
        (KEY.to_owned(), APP, "ana", 60010),
    ] {
        let mut settings = client_settings(&fake);
        settings.secret_key = SecretKey::new(key);
        settings.app = SdkAppId::parse(app).unwrap();
        settings.admin = admin.to_owned();
        let client = TencentClient::new(settings).unwrap();
        assert!(profile(&client).await.is_err());
        assert_eq!(client.halted().unwrap().code, wanted);
    }
}

#[tokio::test]
async fn a_date_comes_from_the_clock_of_the_fake_or_not_at_all() {
    let fake = fake(&json!({ "date_skew_ms": -3_600_000 }), None, 1).await;
    let good = query(&sig(KEY, APP, "administrator", 0));
    let answer = send(&fake, IDS, &good, "{}").await;
    let date = httpdate::parse_http_date(answer.headers()["date"].to_str().unwrap()).unwrap();
    let behind = std::time::SystemTime::now().duration_since(date).unwrap();
    assert!((Duration::from_secs(3590)..Duration::from_secs(3700)).contains(&behind), "{behind:?}");
    fake.set_knobs(&json!({ "date": false })).unwrap();
    assert!(send(&fake, IDS, &good, "{}").await.headers().get("date").is_none());
}

#[test]
fn a_knob_that_is_none_or_does_not_fit_is_named() {
    let knobs = group_mirror::fake::Knobs::default();
    for (text, words) in [
        ("lost", "should read like"),
        ("lots=0.1", "no knob \"lots\""),
        ("lost=2", "share from 0 to 1"),
        ("lost=x", "--knob lost=x"),
        ("rate_factor=0", "above 0"),
    ] {
        let error = format!("{:#}", knobs.with_text(text).unwrap_err());
        assert!(error.contains(words), "{text}: {error}");
    }
    let changed = knobs.with_text("spelling=old").unwrap().with_text("lost=0.25").unwrap();
    assert_eq!(changed.spelling, group_mirror::fake::Spelling::Old);
    assert!((changed.lost - 0.25).abs() < f64::EPSILON);
}

/// The fake signs callbacks, so a page in a browser must not be able to make it do so.
#[tokio::test]
async fn only_programs_of_this_machine_reach_the_fake() {
    let fake = fake(&json!({}), None, 1).await;
    let client = Client::builder().no_proxy().build().unwrap();
    let port = fake.addr.port();
    for (name, value, wanted) in [
        ("host", format!("127.0.0.1:{port}"), StatusCode::OK),
        ("host", "LocalHost".to_owned(), StatusCode::OK),
        ("host", "[::1]".to_owned(), StatusCode::OK),
        ("host", format!("[::1]:{port}"), StatusCode::OK),
        ("host", format!("attacker.example:{port}"), StatusCode::FORBIDDEN),
        ("host", "127.0.0.1.attacker.example".to_owned(), StatusCode::FORBIDDEN),
        ("origin", format!("http://127.0.0.1:{port}"), StatusCode::FORBIDDEN),
        ("origin", "null".to_owned(), StatusCode::FORBIDDEN),
        ("sec-fetch-site", "cross-site".to_owned(), StatusCode::FORBIDDEN),
    ] {
        for path in [IDS, "/fake/live?changes=1", "/fake/state"] {
            let url = format!("http://127.0.0.1:{port}{path}");
            let asked = if path == "/fake/state" { client.get(url) } else { client.post(url) };
            let status = asked.header(name, &value).body("{}").send().await.unwrap().status();
            assert_eq!(status, wanted, "{path} {name}: {value}");
        }
    }
}
