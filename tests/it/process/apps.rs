//! The settings of several apps: each gets its own tokens, keys and backend, and a value that would be another app's, or
//! of no app, is an error in one line.

use std::time::Duration;

use group_mirror::callback::fallback::Fallback;
use group_mirror::config::{AppSettings, Settings};

use crate::support::settings;

const FIRST: &str = "1400000001";
const SECOND: &str = "1400000002";

#[expect(clippy::unnecessary_wraps, reason = "the value of a setting")]
fn set(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// Two apps with all that an app can have.
fn two() -> Settings {
    Settings {
        sdk_app_id: set(" 1400000001 , 1400000002 "),
        callback_token: set("1400000001:one,1400000002:two,1400000001:one-before"),
        tencent_api_url: set("https://console.tim.qq.com,1400000002:https://adminapisgp.im.qcloud.com/"),
        tencent_admin: set("robot"),
        tencent_secret_key: set("1400000001:key-of-one,1400000002:key-of-two"),
        tencent_rate_share: set("0.5"),
        relay_url: set("1400000002:http://127.0.0.1:9000/im/callback"),
        relay_timeout_ms: set("900"),
        relay_fallback: set("refuse, Group.CallbackBeforeSendMsg = allow ,C2C.CallbackBeforeSendMsg=fail"),
        relay_token: set("1400000002:backend-token"),
        ..settings("postgres://db/mirror")
    }
}

fn signature(app: &AppSettings) -> Vec<String> {
    app.callback_tokens.iter().map(|token| token.sign("1")).collect()
}

fn sign(token: &str) -> String {
    group_mirror::callback::signature::Token::new(token.to_owned()).sign("1")
}

#[test]
fn each_app_gets_what_is_its_own() {
    let serving = two().serve_config().unwrap();
    let [first, second] = &*serving.apps else { panic!("{:?}", serving.apps) };
    assert_eq!([first.app.to_string(), second.app.to_string()], [FIRST, SECOND]);
    assert_eq!(signature(first), [sign("one"), sign("one-before")]);
    assert_eq!(signature(second), [sign("two")]);
    let [one, two] = [first, second].map(|app| app.tencent.as_ref().unwrap());
    assert_eq!([&*one.url, &*two.url], ["https://console.tim.qq.com", "https://adminapisgp.im.qcloud.com"]);
    assert_eq!((&*one.admin, two.rate_share.to_bits()), ("robot", 0.5_f64.to_bits()));
    let key = |text: &str| group_mirror::tencent::usersig::SecretKey::new(text.to_owned());
    assert!(one.secret == key("key-of-one") && two.secret == key("key-of-two"));
    assert!(serving.reconcile && first.relay.is_none());
    let relay = second.relay.as_ref().unwrap();
    assert_eq!(relay.url.as_str(), "http://127.0.0.1:9000/im/callback");
    assert_eq!(relay.timeout, Duration::from_millis(900));
    assert_eq!(relay.token.as_ref().unwrap().sign("1"), sign("backend-token"));
    let of = |command: &str| relay.fallback.of(command);
    assert_eq!(of("Group.CallbackBeforeSendMsg"), Fallback::Allow);
    assert_eq!(of("C2C.CallbackBeforeSendMsg"), Fallback::Fail);
    assert_eq!(of("Group.CallbackBeforeCreateGroup"), Fallback::Refuse);
}

#[test]
fn one_value_without_an_app_is_that_of_every_app_where_apps_can_share_it() {
    let shared =
        Settings { relay_url: set("https://backend.example.org/cb"), relay_token: set("shared"), ..two() };
    for app in shared.serve_config().unwrap().apps {
        let relay = app.relay.unwrap();
        assert_eq!(relay.url.as_str(), "https://backend.example.org/cb");
        assert_eq!(relay.token.unwrap().sign("1"), sign("shared"));
    }
}

#[test]
fn what_is_not_set_has_the_default_of_the_table() {
    let plain = settings("postgres://db/mirror");
    let serving = plain.serve_config().unwrap();
    assert!(!serving.reconcile && serving.apps[0].tencent.is_none() && serving.apps[0].relay.is_none());
    let with = Settings {
        tencent_api_url: set("http://localhost:8090"),
        tencent_secret_key: set("key"),
        relay_url: set("https://backend.example.org"),
        ..plain.clone()
    };
    let serving = with.serve_config().unwrap();
    let [app] = &*serving.apps else { panic!("one app") };
    let tencent = app.tencent.as_ref().unwrap();
    assert_eq!((&*tencent.url, &*tencent.admin), ("http://localhost:8090", "administrator"));
    assert_eq!(tencent.rate_share.to_bits(), 0.2_f64.to_bits());
    let relay = app.relay.as_ref().unwrap();
    assert_eq!(relay.timeout, Duration::from_millis(1200));
    assert_eq!(relay.fallback.of("Group.CallbackBeforeSendMsg"), Fallback::Fail);
    let (relay_token, first) = (relay.token.as_ref().unwrap().sign("1"), signature(app).remove(0));
    assert_eq!(relay_token, first, "the first token of the callbacks signs");
    assert!(serving.reconcile, "on with a secret key");
    let off = Settings { reconcile: set("off"), ..with.clone() };
    assert!(!off.serve_config().unwrap().reconcile);
    let unsigned = Settings { callback_token: None, callback_auth: set("none"), ..with };
    let apps = unsigned.serve_config().unwrap().apps;
    assert!(apps[0].relay.as_ref().unwrap().token.is_none(), "nothing is signed anew");
    let url_alone = Settings { tencent_api_url: set("https://console.tim.qq.com"), ..plain };
    assert!(url_alone.serve_config().unwrap().apps[0].tencent.is_none());
}

#[test]
fn a_command_that_takes_no_callbacks_needs_no_token_of_them() {
    let settings = Settings { callback_token: None, relay_token: None, api_token: None, ..two() };
    let apps = settings.apps().unwrap();
    assert!(
        apps.len() == 2 && apps.iter().all(|app| app.tencent.is_some() && app.callback_tokens.is_empty())
    );
    assert!(settings.serve_config().is_err());
    let none = Settings { sdk_app_id: None, ..settings };
    assert!(none.apps().unwrap_err().to_string().starts_with("SDK_APP_ID is not set"));
}

#[test]
fn secrets_of_several_apps_can_stand_in_files_one_a_line_and_hold_commas() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(dir.path().join(name), text).unwrap();
        Some(dir.path().join(name).display().to_string())
    };
    let in_files = Settings {
        callback_token: None,
        callback_token_file: file("callback", "1400000001:a,b\n1400000002:c:d\n"),
        tencent_secret_key: None,
        tencent_secret_key_file: file("key", "1400000001:e,f\n"),
        relay_token: None,
        relay_token_file: file("relay", "g,h\n"),
        ..two()
    };
    let apps = in_files.serve_config().unwrap().apps;
    assert_eq!((signature(&apps[0]), signature(&apps[1])), (vec![sign("a,b")], vec![sign("c:d")]));
    assert!(apps[0].tencent.is_some() && apps[1].tencent.is_none());
    assert_eq!(apps[1].relay.as_ref().unwrap().token.as_ref().unwrap().sign("1"), sign("g,h"));
    let twice = Settings { relay_token: set("x"), ..in_files };
    let error = format!("{:#}", twice.serve_config().unwrap_err());
    assert_eq!(error, "RELAY_TOKEN and RELAY_TOKEN_FILE are both set; unset one of them");
}

#[test]
fn a_sender_takes_the_first_app_or_the_named_one_with_tokens_that_are_right_for_it() {
    let settings = Settings { api_token: set("a@1400000001:first,b@1400000002:second,c:any"), ..two() };
    let of = |app: Option<&str>| {
        let (app, token, api_token) = settings.sender(app).unwrap();
        (app.to_string(), token.unwrap().sign("1"), api_token.unwrap())
    };
    assert_eq!(of(None), (FIRST.into(), sign("one"), "first".into()));
    assert_eq!(of(Some(SECOND)), (SECOND.into(), sign("two"), "second".into()));
    let error = format!("{:#}", settings.sender(Some("1400000003")).unwrap_err());
    assert!(error.starts_with("--app is 1400000003, which is not one of SDK_APP_ID"), "{error}");
}

/// Settings of which one cannot be right, by name and value, and how the error begins.
const WRONG: [(&str, &str, &str); 33] = [
    ("SDK_APP_ID", "1400000001,", "SDK_APP_ID has an empty value beside a comma"),
    ("SDK_APP_ID", "1400000001,1400000001", "SDK_APP_ID names 1400000001 twice"),
    ("SDK_APP_ID", "1400000001,abc", "SDK_APP_ID: \"abc\" is not an app id"),
    (
        "CALLBACK_TOKEN",
        "1400000001:secret",
        "CALLBACK_TOKEN has no token of 1400000002; each app of SDK_APP_ID should have its own as APP:TOKEN",
    ),
    (
        "CALLBACK_TOKEN",
        "secret,1400000002:secret2",
        "CALLBACK_TOKEN, entry 1: it names no app, and SDK_APP_ID has 2",
    ),
    (
        "CALLBACK_TOKEN",
        "1400000001:secret,1400000002:secret,1400000003:secret",
        "CALLBACK_TOKEN, entry 3: the number before its colon is not an app of SDK_APP_ID",
    ),
    (
        "CALLBACK_TOKEN",
        "1400000001:a,1400000001:b,1400000001:c,1400000002:secret",
        "CALLBACK_TOKEN holds 3 tokens of app 1400000001",
    ),
    (
        "CALLBACK_TOKEN",
        "1400000001:a,1400000002:secret,1400000002:secret",
        "CALLBACK_TOKEN holds the same token twice for app 1400000002",
    ),
    (
        "TENCENT_SECRET_KEY",
        "secret",
        "TENCENT_SECRET_KEY, entry 1: it names no app, and SDK_APP_ID has 2; it should read APP:KEY",
    ),
    (
        "TENCENT_SECRET_KEY",
        "1400000001:secret,1400000001:secret2",
        "TENCENT_SECRET_KEY has 2 values of app 1400000001",
    ),
    ("TENCENT_SECRET_KEY", "1400000001:secret key", "TENCENT_SECRET_KEY of app 1400000001 holds white space"),
    (
        "TENCENT_API_URL",
        "1400000001:https://console.tim.qq.com",
        "TENCENT_API_URL is not set and TENCENT_SECRET_KEY has a key of app 1400000002",
    ),
    (
        "TENCENT_API_URL",
        "https://console.tim.qq.com/v4",
        "TENCENT_API_URL of app 1400000001 is \"https://console.tim.qq.com/v4\"; it should be scheme and host alone",
    ),
    (
        "TENCENT_API_URL",
        "http://console.tim.qq.com",
        "TENCENT_API_URL of app 1400000001 is \"http://console.tim.qq.com\"; it should begin with https://",
    ),
    (
        "TENCENT_API_URL",
        "https://a.example.org,https://b.example.org",
        "TENCENT_API_URL has 2 values that name no app",
    ),
    (
        "RELAY_URL",
        "1400000009:https://backend.example.org",
        "RELAY_URL, entry 1: 1400000009 is not an app of SDK_APP_ID; it should read APP:URL with one of 1400000001, \
         1400000002",
    ),
    (
        "RELAY_URL",
        "https://user:secret@backend.example.org",
        "RELAY_URL of app 1400000001 holds a user name or an @",
    ),
    (
        "RELAY_URL",
        "http://backend.example.org",
        "RELAY_URL of app 1400000001 is \"http://backend.example.org\"; it should begin with https://",
    ),
    (
        "RELAY_URL",
        "https://backend.example.org/?key=secret",
        "RELAY_URL of app 1400000001 has a query or a fragment",
    ),
    (
        "RELAY_URL",
        "1400000002:backend.example.org",
        "RELAY_URL of app 1400000002 is \"backend.example.org\"; it should be the address of the backend",
    ),
    ("RELAY_TIMEOUT_MS", "1401", "RELAY_TIMEOUT_MS is \"1401\"; it should be a number of"),
    ("RELAY_TIMEOUT_MS", "0", "RELAY_TIMEOUT_MS is \"0\"; it should be a number of"),
    ("RELAY_FALLBACK", "maybe", "RELAY_FALLBACK has \"maybe\"; it should be allow, refuse or fail"),
    (
        "RELAY_FALLBACK",
        "Group.CallbackBeforeSendMsg=yes",
        "RELAY_FALLBACK has \"Group.CallbackBeforeSendMsg=yes\"; it should be allow",
    ),
    ("RELAY_FALLBACK", "allow,fail", "RELAY_FALLBACK has two values like \"fail\""),
    ("RELAY_FALLBACK", "=allow", "RELAY_FALLBACK has \"=allow\"; before the = it should be"),
    ("RELAY_FALLBACK", "nonsense=allow", "RELAY_FALLBACK has \"nonsense=allow\"; before the ="),
    (
        "RELAY_FALLBACK",
        "Group.CallbackAfterCreateGroup=allow",
        "RELAY_FALLBACK names Group.CallbackAfterCreateGroup, which does not wait",
    ),
    (
        "RELAY_FALLBACK",
        "C2C.CallbackAfterSendMsg=allow",
        "RELAY_FALLBACK names C2C.CallbackAfterSendMsg, which does not wait",
    ),
    ("TENCENT_RATE_SHARE", "0", "TENCENT_RATE_SHARE is \"0\"; it should be a share"),
    ("TENCENT_RATE_SHARE", "NaN", "TENCENT_RATE_SHARE is \"NaN\"; it should be a share"),
    ("RECONCILE", "yes", "RECONCILE is \"yes\"; it should be on or off"),
    (
        "API_TOKEN",
        "ok,desk@1400000003:secret",
        "API_TOKEN, entry 2: the app behind the @ is not one of SDK_APP_ID",
    ),
];

fn assert_refused(settings: &Settings, wanted: &str) {
    let line = format!("{:#}", settings.serve_config().unwrap_err());
    assert!(line.starts_with(wanted), "{line}\nwanted: {wanted}");
    assert!(!line.contains('\n') && !line.contains("secret"), "{line}");
}

#[test]
fn a_value_that_fits_no_app_or_not_all_of_them_is_an_error_in_one_line_without_a_secret() {
    for (name, value, wanted) in WRONG {
        let mut settings = two();
        let changed = match name {
            "SDK_APP_ID" => &mut settings.sdk_app_id,
            "CALLBACK_TOKEN" => &mut settings.callback_token,
            "TENCENT_API_URL" => &mut settings.tencent_api_url,
            "TENCENT_SECRET_KEY" => &mut settings.tencent_secret_key,
            "TENCENT_RATE_SHARE" => &mut settings.tencent_rate_share,
            "RECONCILE" => &mut settings.reconcile,
            "RELAY_URL" => &mut settings.relay_url,
            "RELAY_TIMEOUT_MS" => &mut settings.relay_timeout_ms,
            "RELAY_FALLBACK" => &mut settings.relay_fallback,
            "API_TOKEN" => &mut settings.api_token,
            other => panic!("{other}"),
        };
        *changed = set(value);
        assert_refused(&settings, wanted);
    }
}

#[test]
fn settings_that_contradict_each_other_are_an_error() {
    let many: Vec<String> = (1..=65).map(|id| id.to_string()).collect();
    let many = Settings { sdk_app_id: Some(many.join(",")), ..two() };
    assert_refused(&many, "SDK_APP_ID names 65 apps; it should be at most 64");
    let without_key = Settings { reconcile: set("on"), tencent_secret_key: None, ..two() };
    assert_refused(&without_key, "RECONCILE is \"on\" and TENCENT_SECRET_KEY is not set");
    let unsigned = Settings { callback_token: None, callback_auth: set("none"), ..two() };
    assert_refused(&unsigned, "RELAY_TOKEN is set and CALLBACK_TOKEN is not");
}

#[test]
fn nothing_secret_is_printed_with_the_settings_of_an_app() {
    let shown = format!("{:?}", two().serve_config().unwrap());
    for secret in ["one-before", "key-of-one", "backend-token"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}
