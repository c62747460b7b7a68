//! A whole service with the demo world in its mirror.

use group_mirror::callback::signature::Token;
use group_mirror::config::Settings;
use group_mirror::model::{Millis, SdkAppId};
use group_mirror::simulate::{DEMO_PARKED, Plan, demo_begin, send_demo};

use super::{APP, App, Service, TOKEN, unix_now};

/// The service, and when the story began.
pub(crate) struct Demo {
    pub app: App,
    pub begin: Millis,
}

impl Demo {
    /// Read without tokens.
    pub(crate) async fn open() -> Self {
        Self::with(|settings| {
            (settings.api_token, settings.api_auth) = (None, Some("none".to_owned()));
        })
        .await
    }

    /// With settings changed by the test; the token of the API is `API_TOKEN`.
    pub(crate) async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let app = App::start_with(change).await;
        let begin = demo_begin(Millis::new(i64::try_from(unix_now()).unwrap() * 1000));
        send(&app.service, begin).await;
        Self { app, begin }
    }

    /// A moment of the story: day, hour, minute, as RFC 3339.
    pub(crate) fn at(&self, day: i64, hour: i64, minute: i64) -> String {
        let at = self.begin.get() + ((day * 24 + hour) * 60 + minute) * 60_000;
        chrono::DateTime::from_timestamp_millis(at).unwrap().format("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    /// The address of the server, without a path.
    pub(crate) fn base(&self) -> String {
        self.app.service.api_url("")
    }
}

/// Sends the story, all of which is answered as it should be.
pub(crate) async fn send(service: &Service, begin: Millis) {
    let plan = Plan {
        callback_url: format!("http://{}", service.running.callback_addr),
        app: SdkAppId::parse(APP).unwrap(),
        token: Some(Token::new(TOKEN.into())),
        callbacks: 1,
        rate: 0,
        connections: 1,
        groups: 1,
        users: 1,
        duplicates: 0.0,
        disorder: 0.0,
        delay: std::time::Duration::ZERO,
        membership: 0.0,
        seed: 1,
        run: String::new(),
        begin,
    };
    let sent = send_demo(&plan, || {}).await.unwrap();
    assert!(sent.tally.is_clean(DEMO_PARKED), "{:?}", sent.tally);
    service.until(|told| told["spool"]["depth"] == 0).await;
}
