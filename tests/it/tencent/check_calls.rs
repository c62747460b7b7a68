//! What `check` says of Tencent's REST API: each kind of wrong credentials and each way of not being reached has its own
//! remedy, and no line holds a key or a UserSig.

use std::time::Duration;

use group_mirror::check::tencent_calls;
use group_mirror::check::{CheckLevel, CheckLine, CheckSubject};
use group_mirror::model::SdkAppId;
use group_mirror::store::condition::GroupTotals;
use group_mirror::tencent::ClientSettings;
use group_mirror::tencent::client::TencentClient;
use group_mirror::tencent::usersig::SecretKey;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::fake::{client_settings, fake, group};
use super::scripted::KEY;
use crate::support::APP;

/// The lines for these settings, as the command makes its client.
async fn lines(mut settings: ClientSettings, totals: Option<GroupTotals>) -> Vec<CheckLine> {
    settings.repeats = false;
    let (url, admin) = (settings.url.clone(), settings.admin.clone());
    let client = TencentClient::new(settings).unwrap();
    let lines = tencent_calls::lines(&client, (&url, &admin), totals, 60, &CancellationToken::new()).await;
    for line in &lines {
        let (text, json) = (line.to_string(), serde_json::to_string(line).unwrap());
        for shown in [text, json] {
            // Every UserSig begins alike, because every one is compressed JSON.
            assert!(!shown.contains(KEY) && !shown.contains("usersig") && !shown.contains("eJ"), "{shown}");
        }
    }
    lines
}

fn of(lines: &[CheckLine], subject: CheckSubject) -> Option<&CheckLine> {
    lines.iter().find(|line| line.subject == subject)
}

/// The level of a subject, and what its line says.
fn said(lines: &[CheckLine], subject: CheckSubject) -> (CheckLevel, String) {
    let line = of(lines, subject).unwrap_or_else(|| panic!("{lines:?}"));
    (line.level, line.to_string())
}

fn groups(active: i64) -> GroupTotals {
    GroupTotals { active, communities: 0, unseen: 0 }
}

#[tokio::test]
async fn an_api_that_accepts_the_user_sig_is_right_and_its_count_is_compared_with_the_mirrors() {
    let fake = fake(&json!({}), None, 1).await;
    group(&fake, "Public", "first", &[]).await;
    for (active, level) in [(1, CheckLevel::Ok), (0, CheckLevel::Warning), (2, CheckLevel::Warning)] {
        let mut settings = client_settings(&fake);
        settings.rate_share = 1.0;
        let lines = lines(settings, Some(groups(active))).await;
        assert_eq!(said(&lines, CheckSubject::Tencent).0, CheckLevel::Ok, "{lines:?}");
        assert_eq!(said(&lines, CheckSubject::TencentClock).0, CheckLevel::Ok, "{lines:?}");
        assert_eq!(said(&lines, CheckSubject::Groups).0, level, "{lines:?}");
        // The list of ids has a limit of one call a second.
        fake.set_knobs(&json!({ "rate_factor": 1000 })).unwrap();
    }
}

#[tokio::test]
async fn each_kind_of_wrong_credentials_has_its_code_and_its_remedy() {
    let fake = fake(&json!({ "rate_factor": 1000, "bad_signatures_max": 100 }), None, 1).await;
    let changed = |change: fn(&mut ClientSettings)| {
        let mut settings = client_settings(&fake);
        change(&mut settings);
        settings
    };
    let other_key = "f".repeat(64);
    let mut wrong_key = client_settings(&fake);
    wrong_key.secret_key = SecretKey::new(other_key.clone());
    for (settings, code, remedy) in [
        (wrong_key, "70009", "set TENCENT_SECRET_KEY to the key of this app"),
        (
            changed(|settings| settings.app = SdkAppId::parse("1400000009").unwrap()),
            "60006",
            "set SDK_APP_ID and TENCENT_SECRET_KEY to those of one app",
        ),
        (
            changed(|settings| settings.admin = "visitor".to_owned()),
            "60010",
            "make the account of TENCENT_ADMIN an administrator",
        ),
    ] {
        let lines = lines(settings, Some(groups(1))).await;
        let (level, line) = said(&lines, CheckSubject::Tencent);
        assert!(level == CheckLevel::Wrong && line.contains(code) && line.contains(remedy), "{line}");
        assert!(!line.contains(&other_key), "{line}");
        assert_eq!(of(&lines, CheckSubject::Groups), None, "nothing is known of its groups");
    }
}

#[tokio::test]
async fn too_many_wrong_signatures_and_a_rate_that_is_used_up_are_named() {
    let fake = fake(&json!({ "rate_factor": 1000, "bad_signatures_max": 1 }), None, 1).await;
    let mut settings = client_settings(&fake);
    settings.secret_key = SecretKey::new("f".repeat(64));
    lines(settings, None).await;
    let (level, line) = said(&lines(client_settings(&fake), None).await, CheckSubject::Tencent);
    assert!(level == CheckLevel::Wrong && line.contains("70050") && line.contains("wait a minute"), "{line}");
    let busy = super::fake::fake(&json!({ "app_rate": 0.001 }), None, 1).await;
    let used_up = lines(client_settings(&busy), None).await;
    assert_eq!(said(&used_up, CheckSubject::Tencent).0, CheckLevel::Ok);
    let (level, line) = said(&lines(client_settings(&busy), None).await, CheckSubject::Tencent);
    assert!(level == CheckLevel::Wrong && line.contains("60011"), "{line}");
    assert!(line.contains("another program that uses up the limits"), "{line}");
}

#[tokio::test]
async fn a_host_that_is_not_reached_or_is_no_api_is_wrong_with_what_to_look_at() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let key = || SecretKey::new(KEY.to_owned());
    let app = SdkAppId::parse(APP).unwrap();
    let settings = ClientSettings::new(format!("http://{address}"), app, key(), group_mirror::clock::now);
    let (level, line) = said(&lines(settings, None).await, CheckSubject::Tencent);
    assert!(level == CheckLevel::Wrong && line.contains("refused") && line.contains("firewall"), "{line}");
    // Takes connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut settings = ClientSettings::new(
        format!("http://{}", silent.local_addr().unwrap()),
        app,
        key(),
        group_mirror::clock::now,
    );
    settings.timeout = Duration::from_millis(50);
    let (level, line) = said(&lines(settings, None).await, CheckSubject::Tencent);
    assert!(level == CheckLevel::Wrong && line.contains("no answer in time"), "{line}");
    let broken = fake(&json!({ "http_502": 1 }), None, 1).await;
    let (level, line) = said(&lines(client_settings(&broken), None).await, CheckSubject::Tencent);
    assert!(level == CheckLevel::Wrong && line.contains("HTTP status 502"), "{line}");
    assert!(line.contains("correct TENCENT_API_URL"), "{line}");
}

#[tokio::test]
async fn the_clock_is_compared_by_date_also_where_the_call_is_refused() {
    let levels = async |knobs: Value| {
        let fake = fake(&knobs, None, 1).await;
        let mut settings = client_settings(&fake);
        settings.admin = "visitor".to_owned();
        said(&lines(settings, None).await, CheckSubject::TencentClock)
    };
    for (skew_ms, level, words) in [
        (0, CheckLevel::Ok, ""),
        (20_000, CheckLevel::Warning, "behind Tencent's"),
        (-20_000, CheckLevel::Warning, "ahead of Tencent's"),
        (300_000, CheckLevel::Wrong, "CALLBACK_MAX_SKEW_SECS"),
    ] {
        let (found, line) = levels(json!({ "date_skew_ms": skew_ms })).await;
        assert!(found == level && line.contains(words), "{skew_ms}: {line}");
    }
    let (level, line) = levels(json!({ "date": false })).await;
    assert!(level == CheckLevel::Ok && line.contains("has no Date"), "{line}");
}
