//! A fake for tests, and clients of it.

use std::time::Duration;

use group_mirror::callback::signature::Token;
use group_mirror::clock;
use group_mirror::fake::{ADMIN, ExistingGroups, Fake, FakeSettings, Knobs, LifePlan};
use group_mirror::model::SdkAppId;
use group_mirror::tencent::ClientSettings;
use group_mirror::tencent::client::TencentClient;
use group_mirror::tencent::retry::Pauses;
use group_mirror::tencent::usersig::SecretKey;
use serde_json::{Value, json};

use super::scripted::KEY;
use crate::support::{APP, TOKEN};

pub(crate) const GROUPS: &str = "group_open_http_svc";
pub(crate) const TOPICS: &str = "million_group_open_http_svc";

/// A fake with some knobs changed; its callbacks go to this address, if to any.
pub(crate) async fn fake(knobs: &Value, callback_url: Option<String>, seed: u64) -> Fake {
    fake_with(knobs, callback_url, seed, ExistingGroups::default()).await
}

/// The same with groups that exist before it begins.
pub(crate) async fn fake_with(
    knobs: &Value,
    callback_url: Option<String>,
    seed: u64,
    existing: ExistingGroups,
) -> Fake {
    Fake::start(FakeSettings {
        existing,
        listen: "127.0.0.1:0".parse().unwrap(),
        app: SdkAppId::parse(APP).unwrap(),
        admins: vec![ADMIN.to_owned()],
        secret_key: SecretKey::new(KEY.to_owned()),
        callback_url,
        token: Some(Token::new(TOKEN.to_owned())),
        knobs: Knobs::default().with(knobs).unwrap(),
        life: LifePlan { groups: 12, users: 20, seed },
        now: clock::now,
    })
    .await
    .unwrap()
}

/// Settings of a client of the fake, without pauses worth the name.
pub(crate) fn client_settings(fake: &Fake) -> ClientSettings {
    let (key, app) = (SecretKey::new(KEY.to_owned()), SdkAppId::parse(APP).unwrap());
    let mut settings = ClientSettings::new(format!("http://{}", fake.addr), app, key, clock::now);
    let short = Duration::from_millis(1);
    settings.pauses = Pauses { again: short, rate: short, longest: short, ban: short };
    settings.rate_share = 1.0;
    settings
}

pub(crate) fn client(fake: &Fake) -> TencentClient {
    TencentClient::new(client_settings(fake)).unwrap()
}

/// A command that has to succeed.
pub(crate) async fn done(fake: &Fake, service: &str, command: &str, body: Value) -> Value {
    let answer = fake.command(service, command, &body).await;
    assert_eq!(answer["ErrorCode"], 0, "{command} {body}: {answer}");
    answer
}

/// A group with these members beside its owner `ana`.
pub(crate) async fn group(fake: &Fake, group_type: &str, id: &str, members: &[&str]) {
    let list: Value = members.iter().map(|user| json!({ "Member_Account": user })).collect();
    let mut body =
        json!({ "Type": group_type, "GroupId": id, "Name": "River walkers", "Owner_Account": "ana" });
    if !members.is_empty() {
        body["MemberList"] = list;
    }
    done(fake, GROUPS, "create_group", body).await;
}
