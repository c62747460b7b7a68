//! Settings: what is documented is what there is, and a bad value is an error in one line.

use std::collections::BTreeSet;

use clap::CommandFactory as _;
use group_mirror::cli::Cli;
use group_mirror::config::Settings;

use crate::support::settings;

fn documented() -> BTreeSet<String> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/.env.example")).unwrap();
    let names = text.lines().filter_map(|line| line.trim_start_matches(['#', ' ']).split_once('='));
    let is_name = |name: &&str| name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_');
    names.map(|(name, _)| name).filter(is_name).map(str::to_owned).collect()
}

#[test]
fn the_example_file_documents_every_setting_and_no_other() {
    let command = Cli::command();
    let defined: BTreeSet<String> = command
        .get_arguments()
        .filter_map(|argument| argument.get_env())
        .map(|name| name.to_str().unwrap().to_owned())
        .collect();
    assert_eq!(documented(), defined);
}

#[test]
fn the_table_of_the_operations_page_names_every_setting_and_no_other() {
    let page = include_str!("../../../docs/operations.md");
    let chapter = page.split("\n## ").find(|chapter| chapter.starts_with("Settings\n")).unwrap();
    let rows = chapter.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let listed: Vec<&str> = rows.map(|(name, _)| name).collect();
    let names: BTreeSet<String> = listed.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(names.len(), listed.len(), "each stands once");
    assert_eq!(names, documented());
}

#[test]
fn a_bad_value_is_an_error_in_one_line_with_the_variable_and_what_would_be_right() {
    type Change = fn(&mut Settings);
    let cases: [(Change, &str); 20] = [
        (|s| s.sdk_app_id = Some("12x".into()), "SDK_APP_ID: \"12x\" is not an app id"),
        (|s| s.sdk_app_id = None, "SDK_APP_ID is not set"),
        (|s| s.callback_token = None, "CALLBACK_TOKEN is not set"),
        (|s| s.callback_token = Some("a,b,c".into()), "CALLBACK_TOKEN holds 3 tokens"),
        (|s| s.callback_auth = Some("off".into()), "CALLBACK_AUTH is \"off\"; it should be token or none"),
        (|s| s.callback_auth = Some("none".into()), "CALLBACK_AUTH is \"none\" and CALLBACK_TOKEN is set"),
        (|s| s.callback_max_skew_secs = Some("0".into()), "CALLBACK_MAX_SKEW_SECS is \"0\""),
        (
            |s| s.callback_listen = Some(":8080".into()),
            "CALLBACK_LISTEN is \":8080\"; it should be an IP address",
        ),
        (|s| s.api_token = None, "API_TOKEN is not set"),
        (
            |s| {
                s.api_token = None;
                s.api_auth = Some("none".into());
                s.api_listen = Some("0.0.0.0:8081".into());
            },
            "API_LISTEN is 0.0.0.0:8081, which other machines can reach, and API_AUTH is \"none\"",
        ),
        (
            |s| s.spool_max_bytes = Some("1X".into()),
            "SPOOL_MAX_BYTES is \"1X\"; it should be a number of bytes such as 1073741824, 512M or 1G, at least 8388608",
        ),
        (|s| s.callback_token = Some(",".into()), "CALLBACK_TOKEN has an empty value beside a comma"),
        (|s| s.callback_token = Some("secret,secret".into()), "CALLBACK_TOKEN holds the same token twice"),
        (|s| s.api_token = Some("desk:".into()), "API_TOKEN, entry 1: it has no token"),
        (|s| s.api_token = Some(":".into()), "API_TOKEN, entry 1: it has nothing before its colon"),
        (|s| s.api_token = Some(",".into()), "API_TOKEN has an empty value beside a comma"),
        (
            |s| s.api_token = Some("ok,desk@7:secret".into()),
            "API_TOKEN, entry 2: the app behind the @ is not one of SDK_APP_ID",
        ),
        (
            |s| s.api_listen = Some("0.0.0.0:8081".into()),
            "API_LISTEN is 0.0.0.0:8081, which other machines can reach, and a token of API_TOKEN has fewer than 16 characters",
        ),
        (|s| s.mirror_avchatroom_members = Some("yes".into()), "MIRROR_AVCHATROOM_MEMBERS is \"yes\""),
        (|s| s.log_format = Some("xml".into()), "LOG_FORMAT is \"xml\"; it should be text or json"),
    ];
    for (change, wanted) in cases {
        let mut settings = settings("postgres://db/mirror");
        change(&mut settings);
        let error =
            settings.logging().map(drop).and_then(|()| settings.serve_config().map(drop)).unwrap_err();
        let line = format!("{error:#}");
        assert!(line.starts_with(wanted), "{line}");
        assert!(!line.contains('\n') && !line.contains("secret"), "{line}");
    }
}

#[test]
fn all_required_settings_that_are_missing_stand_in_one_line() {
    let settings = Settings { database_url: Some("postgres://db/mirror".into()), ..Settings::default() };
    let line = format!("{:#}", settings.serve_config().unwrap_err());
    assert!(!line.contains('\n'), "{line}");
    for name in ["SDK_APP_ID is not set", "CALLBACK_TOKEN is not set", "API_TOKEN is not set"] {
        assert!(line.contains(name), "{line}");
    }
}

#[test]
fn a_port_alone_localhost_and_a_size_with_a_unit_work() {
    let settings = Settings {
        callback_listen: Some("9080".into()),
        api_listen: Some("localhost:9081".into()),
        spool_max_bytes: Some("2G".into()),
        ..Settings::default()
    };
    let serving = settings.serve_config().unwrap();
    assert_eq!(serving.callback_listen.to_string(), "127.0.0.1:9080");
    assert_eq!(serving.api_listen.to_string(), "127.0.0.1:9081");
    assert_eq!(serving.spool.max_bytes, 2 << 30);
}

#[test]
fn the_share_of_each_app_in_the_spool_has_room_for_large_bodies() {
    for (apps, limit, right) in
        [("1", "8M", true), ("1,2", "8M", true), ("1,2,3", "8M", false), ("1,2,3", "12M", true)]
    {
        let settings = Settings {
            sdk_app_id: Some(apps.into()),
            spool_max_bytes: Some(limit.into()),
            ..Settings::default()
        };
        assert_eq!(settings.serve_config().is_ok(), right, "{apps} {limit}");
    }
}

#[test]
fn the_embedded_mode_needs_no_setting_and_is_open_on_loopback_only() {
    let serving = Settings::default().serve_config().unwrap();
    assert_eq!(serving.apps.len(), 1);
    assert_eq!(serving.apps[0].app.get(), 1_400_000_001);
    assert!(!serving.is_signed() && !serving.reconcile);
    let public = Settings { callback_listen: Some("0.0.0.0:8080".into()), ..Settings::default() };
    let error = public.serve_config().unwrap_err().to_string();
    assert!(error.starts_with("CALLBACK_TOKEN is not set"), "{error}");
}

#[test]
fn a_token_of_sixteen_characters_works_where_other_machines_can_reach_the_listener() {
    let mut settings = settings("postgres://db/mirror");
    settings.api_listen = Some("0.0.0.0:8081".into());
    settings.api_token = Some("desk:0123456789abcdef,fedcba9876543210".into());
    settings.serve_config().unwrap();
    settings.api_token = Some("desk:0123456789abcdef,fedcba987654321".into());
    assert!(settings.serve_config().is_err(), "one short token is enough");
}

#[test]
fn an_empty_list_of_tokens_does_not_open_a_listener_of_the_embedded_mode() {
    for text in [",", " , "] {
        let api = Settings { api_token: Some(text.into()), ..Settings::default() };
        let callbacks = Settings { callback_token: Some(text.into()), ..Settings::default() };
        assert!(api.serve_config().is_err() && callbacks.serve_config().is_err(), "{text:?}");
    }
}
