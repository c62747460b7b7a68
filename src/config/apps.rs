//! What belongs to one app alone: its tokens, its access to Tencent's REST API, the backend behind it.
//!
//! Each app of `SDK_APP_ID` is one [`AppSettings`], in the order of that setting; the first is the one that a read without
//! `sdk_app_id` gets. Everything is checked here, at the start: an app without a token of its own, a URL that would carry
//! a secret in the clear or a key without a URL would show only in the middle of the night otherwise. Nothing secret is
//! ever part of an error.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use url::Url;

use super::per_app::{PerApp, ValueForm, listed};
use super::secrets::Secret;
use super::settings::Settings;
use super::tokens::callback_tokens;
use super::values::{list, set, web_url};
use crate::callback::fallback::{Fallback, FallbackRules};
use crate::callback::signature::Token;
use crate::callback::{Answering, answering};
use crate::model::SdkAppId;
use crate::tencent::usersig::SecretKey;

/// The app id of the embedded mode, where none has to be set.
pub const EMBEDDED_APP_ID: &str = "1400000001";

/// How many apps one process serves at most: each has counters and a share of the spool.
pub const APPS_MAX: usize = 64;

/// How long a "before" callback waits for the backend where nothing else is set, from receipt.
pub const RELAY_TIMEOUT: Duration = Duration::from_millis(1_200);

/// The longest such wait. Tencent waits 2 s, two ways over the public net included.
pub const RELAY_TIMEOUT_MAX: Duration = Duration::from_millis(1_400);

/// The share of Tencent's published limits that is used where nothing else is set.
const RATE_SHARE: f64 = 0.2;

/// One app, with everything that is its own.
#[derive(Debug, Clone)]
pub struct AppSettings {
    /// Its id.
    pub app: SdkAppId,
    /// Tokens of its callback authentication, the newest first; empty where unsigned callbacks are accepted.
    pub callback_tokens: Vec<Token>,
    /// Its REST API, where a secret key is set.
    pub tencent: Option<TencentSettings>,
    /// The backend behind the mirror, where there is one.
    pub relay: Option<RelaySettings>,
}

/// How Tencent's REST API is called for one app.
#[derive(Debug, Clone)]
pub struct TencentSettings {
    /// Scheme, host and port alone, such as `https://console.tim.qq.com`; plain HTTP to this machine alone.
    pub url: String,
    /// An administrator of the app.
    pub admin: String,
    /// The app's key.
    pub secret: SecretKey,
    /// The share of Tencent's published limits that may be used, above 0 and at most 1.
    pub rate_share: f64,
}

/// The existing backend that gets the callbacks of one app.
#[derive(Debug, Clone)]
pub struct RelaySettings {
    /// Without user info, query and fragment; plain HTTP to this machine alone.
    pub url: Url,
    /// Signs what is delivered late; none where callbacks are not signed.
    pub token: Option<Token>,
    /// How long a "before" callback waits for the backend, from receipt; at most [`RELAY_TIMEOUT_MAX`].
    pub timeout: Duration,
    /// What a "before" callback gets when the backend does not answer.
    pub fallback: FallbackRules,
}

impl Settings {
    /// Every app with what is its own; at least one.
    ///
    /// # Errors
    /// One line that names the variable, the app, and what would be right; never a secret.
    pub fn apps(&self) -> anyhow::Result<Vec<AppSettings>> {
        let ids = self.app_ids()?.ok_or_else(|| anyhow!(NO_APP))?;
        self.apps_of(&ids)
    }

    /// The ids of `SDK_APP_ID`; none where it has to be set and is not.
    pub(super) fn app_ids(&self) -> anyhow::Result<Option<Vec<SdkAppId>>> {
        let embedded = !self.database_url_secret().is_set();
        let text = set(self.sdk_app_id.as_ref()).or(embedded.then_some(EMBEDDED_APP_ID));
        text.map(app_ids).transpose()
    }

    /// What belongs to each of these.
    pub(super) fn apps_of(&self, ids: &[SdkAppId]) -> anyhow::Result<Vec<AppSettings>> {
        let callback = callback_tokens(&self.callback_token_secret(), ids)?;
        let urls = self.urls("TENCENT_API_URL", self.tencent_api_url.as_ref(), ids)?;
        let keys = one_secret(&self.tencent_secret_key_secret(), ("KEY", false), ids)?;
        let backends = self.urls("RELAY_URL", self.relay_url.as_ref(), ids)?;
        let relay_tokens = one_secret(&self.relay_token_secret(), ("TOKEN", true), ids)?;
        ensure!(
            !self.relay_token_secret().is_set() || self.callback_token_secret().is_set(),
            "RELAY_TOKEN is set and CALLBACK_TOKEN is not; unsigned callbacks are delivered unsigned: unset it"
        );
        let rate_share = self.rate_share()?;
        let (timeout, fallback) = (self.relay_timeout()?, self.relay_fallback()?);
        let admin = set(self.tencent_admin.as_ref()).unwrap_or("administrator");
        let mut apps = Vec::with_capacity(ids.len());
        for app in ids.iter().copied() {
            let callback_tokens: Vec<Token> = callback.all_of(app).iter().cloned().map(Token::new).collect();
            let url = urls.of(app).map(|text| tencent_url(app, text)).transpose()?;
            let tencent = match (url, keys.of(app)) {
                (_, None) => None,
                (None, Some(_)) => bail!(
                    "TENCENT_API_URL is not set and TENCENT_SECRET_KEY has a key of app {app}; set it to the address of the \
                     app's region, such as https://console.tim.qq.com, or APP:URL for one app"
                ),
                (Some(url), Some(key)) => Some(TencentSettings {
                    url,
                    admin: admin.to_owned(),
                    secret: secret_key(app, key)?,
                    rate_share,
                }),
            };
            let own_token = relay_tokens.of(app).map(|text| Token::new(text.to_owned()));
            let relay =
                backends.of(app).map(|text| relay_url(app, text)).transpose()?.map(|url| RelaySettings {
                    url,
                    token: own_token.or_else(|| callback_tokens.first().cloned()),
                    timeout,
                    fallback: fallback.clone(),
                });
            apps.push(AppSettings { app, callback_tokens, tencent, relay });
        }
        assert_eq!(apps.len(), ids.len(), "each app has its settings");
        Ok(apps)
    }

    /// Whether the passes run inside `serve`.
    pub(super) fn reconcile(&self, apps: &[AppSettings]) -> anyhow::Result<bool> {
        let possible = apps.iter().any(|app| app.tencent.is_some());
        match set(self.reconcile.as_ref()) {
            None => Ok(possible),
            Some("off") => Ok(false),
            Some("on") if possible => Ok(true),
            Some("on") => bail!(
                "RECONCILE is \"on\" and TENCENT_SECRET_KEY is not set; set it and TENCENT_API_URL, or unset RECONCILE"
            ),
            Some(other) => bail!("RECONCILE is {other:?}; it should be on or off"),
        }
    }

    fn urls(&self, name: &'static str, text: Option<&String>, ids: &[SdkAppId]) -> anyhow::Result<PerApp> {
        let Some(text) = set(text) else { return Ok(PerApp::default()) };
        let form = ValueForm { source: name, what: "URL", secret: false, shared: true };
        PerApp::parse(form, list(name, text)?, ids)?.single(name)
    }

    fn rate_share(&self) -> anyhow::Result<f64> {
        let Some(text) = set(self.tencent_rate_share.as_ref()) else { return Ok(RATE_SHARE) };
        text.parse().ok().filter(|share| *share > 0.0 && *share <= 1.0).with_context(|| {
            format!("TENCENT_RATE_SHARE is {text:?}; it should be a share above 0 and at most 1, such as {RATE_SHARE}")
        })
    }

    fn relay_timeout(&self) -> anyhow::Result<Duration> {
        let Some(text) = set(self.relay_timeout_ms.as_ref()) else { return Ok(RELAY_TIMEOUT) };
        let timeout = text.parse().ok().map(Duration::from_millis);
        timeout.filter(|timeout| !timeout.is_zero() && *timeout <= RELAY_TIMEOUT_MAX).with_context(|| {
            format!(
                "RELAY_TIMEOUT_MS is {text:?}; it should be a number of milliseconds from 1 to {}",
                RELAY_TIMEOUT_MAX.as_millis()
            )
        })
    }

    fn relay_fallback(&self) -> anyhow::Result<FallbackRules> {
        let Some(text) = set(self.relay_fallback.as_ref()) else { return Ok(FallbackRules::default()) };
        let mut rules = FallbackRules::default();
        let mut commands = BTreeSet::new();
        for entry in list("RELAY_FALLBACK", text)? {
            let (command, word) = match entry.split_once('=') {
                Some((command, word)) => (command.trim(), word.trim()),
                None => ("", entry.as_str()),
            };
            let fallback = Fallback::parse(word).with_context(|| {
                format!("RELAY_FALLBACK has {entry:?}; it should be allow, refuse or fail, or COMMAND= and one of them")
            })?;
            ensure!(commands.insert(command.to_owned()), "RELAY_FALLBACK has two values like {entry:?}");
            if command.is_empty() && !entry.contains('=') {
                rules.usual = fallback;
                continue;
            }
            ensure!(
                is_command(command),
                "RELAY_FALLBACK has {entry:?}; before the = it should be a command such as \
                 Group.CallbackBeforeCreateGroup"
            );
            ensure!(
                answering(command) == Answering::ByBackend,
                "RELAY_FALLBACK names {command}, which does not wait for the backend; it should be a command that does, such \
                 as Group.CallbackBeforeCreateGroup"
            );
            rules.by_command.insert(command.to_owned(), fallback);
        }
        Ok(rules)
    }
}

/// The ids in the text of `SDK_APP_ID`; at least one, each once.
pub(super) fn app_ids(text: &str) -> anyhow::Result<Vec<SdkAppId>> {
    let mut apps = Vec::new();
    for id in list("SDK_APP_ID", text)? {
        let app = SdkAppId::parse(&id).context("SDK_APP_ID")?;
        ensure!(!apps.contains(&app), "SDK_APP_ID names {app} twice");
        apps.push(app);
    }
    ensure!(apps.len() <= APPS_MAX, "SDK_APP_ID names {} apps; it should be at most {APPS_MAX}", apps.len());
    assert!(!apps.is_empty(), "a list has a value");
    Ok(apps)
}

/// No app where one has to be named.
pub(super) const NO_APP: &str =
    "SDK_APP_ID is not set; it is the number of your application, such as 1400000001";

/// A secret of which each app has one at most. What an app owner gets from Tencent is never that of another app.
fn one_secret(
    secret: &Secret<'_>,
    (what, shared): (&'static str, bool),
    ids: &[SdkAppId],
) -> anyhow::Result<PerApp> {
    let source = secret.source();
    let form = ValueForm { source: &source, what, secret: true, shared };
    PerApp::parse(form, secret.values()?, ids)?.single(&source)
}

fn secret_key(app: SdkAppId, text: &str) -> anyhow::Result<SecretKey> {
    ensure!(
        text.bytes().all(|byte| byte.is_ascii_graphic()),
        "TENCENT_SECRET_KEY of app {app} holds white space or a character that no key has; copy it from the console"
    );
    Ok(SecretKey::new(text.to_owned()))
}

fn tencent_url(app: SdkAppId, text: &str) -> anyhow::Result<String> {
    const FORM: &str = "scheme and host alone, such as https://console.tim.qq.com";
    let url = web_url("TENCENT_API_URL", app, text, FORM)?;
    ensure!(
        url.path() == "/" && url.query().is_none() && url.fragment().is_none(),
        "TENCENT_API_URL of app {app} is {text:?}; it should be {FORM}"
    );
    Ok(url.origin().ascii_serialization())
}

fn relay_url(app: SdkAppId, text: &str) -> anyhow::Result<Url> {
    const FORM: &str = "the address of the backend, such as https://backend.example.org/im/callback";
    let url = web_url("RELAY_URL", app, text, FORM)?;
    ensure!(
        url.query().is_none() && url.fragment().is_none(),
        "RELAY_URL of app {app} has a query or a fragment; it should be {FORM}, because the query of the callback is appended"
    );
    Ok(url)
}

/// Whether it has the form of Tencent's commands.
fn is_command(text: &str) -> bool {
    let is_word = |part: &str| {
        !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    text.split_once('.').is_some_and(|(family, name)| is_word(family) && is_word(name))
}

/// Apps that have no token where each needs one, as a line that a person reads.
pub(super) fn without_token(apps: &[AppSettings]) -> Option<String> {
    let ids: Vec<SdkAppId> =
        apps.iter().filter(|app| app.callback_tokens.is_empty()).map(|app| app.app).collect();
    (!ids.is_empty()).then(|| listed(&ids))
}
