//! Several apps in one service: settings with a token of each, and callbacks signed with the token of one.

use std::process::Command;

use group_mirror::callback::signature::Token;
use group_mirror::config::Settings;
use reqwest::{Response, StatusCode};
use serde_json::Value;

use super::{OK, Service, settings, unix_now};

/// The app that the settings name first, and another one.
pub(crate) const FIRST: &str = "1400000001";
pub(crate) const SECOND: &str = "1400000002";

/// The token of callbacks of an app.
pub(crate) fn callback_token(app: &str) -> String {
    format!("callbacks-of-{app}")
}

/// The token that reads one app, with raw bodies.
pub(crate) fn read_token(app: &str) -> String {
    format!("reads-only-{app}")
}

/// The token that reads all of them, with raw bodies.
pub(crate) const ALL: &str = "reads-every-app";

/// Settings of a service of these apps.
pub(crate) fn settings_of(apps: &[&str], url: &str) -> Settings {
    let each = |text: &dyn Fn(&&str) -> String| apps.iter().map(text).collect::<Vec<_>>().join(",");
    let tokens = each(&|app| format!("{app}:{}", callback_token(app)));
    let readers = each(&|app| format!("reader-{app}@{app}+raw:{}", read_token(app)));
    Settings {
        sdk_app_id: Some(apps.join(",")),
        callback_token: Some(tokens),
        api_token: Some(format!("{readers},all+raw:{ALL}")),
        ..settings(url)
    }
}

/// The same for the program.
pub(crate) fn in_environment(command: &mut Command, settings: &Settings) {
    for (name, value) in [
        ("DATABASE_URL", &settings.database_url),
        ("SDK_APP_ID", &settings.sdk_app_id),
        ("CALLBACK_TOKEN", &settings.callback_token),
        ("API_TOKEN", &settings.api_token),
        ("SPOOL_MAX_BYTES", &settings.spool_max_bytes),
    ] {
        command.envs(value.iter().map(|value| (name, value)));
    }
}

/// The query of a callback that names an app and is signed with the token of one.
pub(crate) fn query(app: &str, signed_by: &str) -> String {
    let now = unix_now().to_string();
    let sign = Token::new(callback_token(signed_by)).sign(&now);
    format!("SdkAppid={app}&Sign={sign}&RequestTime={now}")
}

impl Service {
    /// Posts a callback of an app.
    pub(crate) async fn post_of(&self, app: &str, body: impl Into<reqwest::Body>) -> Response {
        let url = format!("http://{}/?{}", self.running.callback_addr, query(app, app));
        self.client.post(url).body(body).send().await.unwrap()
    }

    /// The same, which is answered with OK.
    pub(crate) async fn taken_of(&self, app: &str, body: &Value) {
        let answer = self.post_of(app, body.to_string()).await;
        assert_eq!(answer.status(), StatusCode::OK, "{app}: {body}");
        assert_eq!(answer.text().await.unwrap(), OK, "{app}: {body}");
    }

    /// What a path of the read API answers to a token.
    pub(crate) async fn ask(&self, token: &str, path: &str) -> Response {
        self.client.get(self.api_url(path)).bearer_auth(token).send().await.unwrap()
    }

    /// The JSON of an answer that must be 200.
    pub(crate) async fn json_as(&self, token: &str, path: &str) -> Value {
        let answer = self.ask(token, path).await;
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert_eq!(status, StatusCode::OK, "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    }
}
