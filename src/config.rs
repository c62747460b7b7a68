//! The checked settings: text of flags, environment and settings file → a [`Config`]. The only reader of the environment.
//!
//! `config/settings.rs` has the definition of each setting. The error of a bad value is one line that names the variable,
//! the value (never a secret) and what would be right; required settings that are missing stand in one line together.

mod apps;
mod dotenv;
mod faults;
mod loopback;
mod missing;
mod per_app;
mod reached;
mod read_url;
mod secrets;
mod settings;
mod tls;
mod tokens;
mod traces;
mod values;

use std::ffi::OsString;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use listenfd::ListenFd;

use crate::api::auth::ApiAuth;
use crate::api::prefix::PathPrefix;
use crate::callback::signature::{Gate, Token};
use crate::model::SdkAppId;
use crate::outbox::DeliveryPauses;
use crate::reconcile::PassSettings;
use crate::server::TlsFiles;
use crate::spool::SpoolPlace;
use crate::telemetry::LogFormat;
use crate::traces::TraceSettings;
use apps::{app_ids, without_token};
use loopback::{NO_CALLBACK_TOKEN, OPEN_API, SHORT_API_TOKEN, is_loopback};
use missing::missing;
use per_app::listed;
use tokens::{API_TOKEN_CHARS_MIN, api_tokens, callback_tokens};
use values::{bytes, days, is_open, path_prefix, secs, set};

pub use apps::{
    APPS_MAX, AppSettings, EMBEDDED_APP_ID, RELAY_TIMEOUT, RELAY_TIMEOUT_MAX, RelaySettings, TencentSettings,
};
pub use dotenv::{DotenvFile, read_dotenv};
pub use faults::{CheckedSettings, SettingFault};
pub use loopback::LoopbackOnly;
pub use settings::Settings;

/// The limit of the spool where none is set, 1 GiB: about a million callbacks of 700 bytes.
pub const SPOOL_MAX_BYTES: u64 = 1024 * 1024 * 1024;

/// The smallest limit of the spool: room for a few of the largest bodies.
pub const SPOOL_MAX_BYTES_MIN: u64 = 8 * 1024 * 1024;

/// The smallest share of one app: half of it, which is kept free for the app, has room for the largest body.
const SPOOL_SHARE_MIN: u64 = 4 * 1024 * 1024;
const _: () = assert!(SPOOL_SHARE_MIN * APPS_MAX as u64 <= SPOOL_MAX_BYTES);

/// How long an idle connection is kept where nothing else is set: longer than the pools of nginx and ALB (60 s) and of
/// GCP (600 s), because a request is lost where this side closes first while it is on its way.
pub const IDLE: Duration = Duration::from_secs(620);

/// How long a stop waits for a silent connection, and goes on accepting new ones.
const STOP_SILENCE: Duration = Duration::from_secs(2);

/// Which database.
#[derive(Debug, Clone)]
pub enum DatabaseChoice {
    /// The one of `DATABASE_URL`. Not printed: it may hold a password.
    Url(String),
    /// The one whose URL stands in the file of `DATABASE_URL_FILE`.
    UrlFile(String),
    /// The embedded PostgreSQL in the data directory.
    Embedded,
}

/// What every command needs.
#[derive(Debug, Clone)]
pub struct Config {
    /// Which database.
    pub database: DatabaseChoice,
    /// Where the spool and the embedded PostgreSQL live.
    pub data_dir: PathBuf,
    /// `PG_BIN_DIR`.
    pub pg_bin_dir: Option<PathBuf>,
    /// `PATH`, where server programs are looked for.
    pub path: Option<OsString>,
}

/// What `serve` needs beside.
#[derive(Debug, Clone)]
pub struct ServeConfig {
    /// The apps with what is their own, in the order of `SDK_APP_ID`; at least one. The first is read by default.
    pub apps: Vec<AppSettings>,
    /// Whether the rolling passes that compare the mirror with Tencent run.
    pub reconcile: bool,
    /// How they behave. No setting.
    pub passes: PassSettings,
    /// The allowed distance of a callback's `RequestTime` from the clock in seconds, both ways.
    pub max_skew_secs: u64,
    /// Public listener.
    pub callback_listen: SocketAddr,
    /// Internal listener.
    pub api_listen: SocketAddr,
    /// TLS of the public listener; none: plain HTTP.
    pub callback_tls: Option<TlsFiles>,
    /// TLS of the internal listener; none: plain HTTP.
    pub api_tls: Option<TlsFiles>,
    /// Below which path the internal listener serves.
    pub api_prefix: PathPrefix,
    /// How long an idle connection is kept on both listeners.
    pub idle: Duration,
    /// At a stop: how long connections are still accepted, and how long a silent one is kept. No setting.
    pub stop_silence: Duration,
    /// Who may read.
    pub api_auth: Arc<ApiAuth>,
    /// What of this is right on a loopback address alone.
    pub loopback_only: LoopbackOnly,
    /// Whether the membership of audio-video rooms is mirrored.
    pub avchatroom_members: bool,
    /// From where lists and lookups are read; none: from the database itself. Not printed: it may hold a password.
    pub read_database_url: Option<String>,
    /// Where callbacks wait while the database does not commit.
    pub spool: SpoolPlace,
    /// Whether a database with another id than the data directory knows is taken.
    pub adopt_database: bool,
    /// Where spans go; none: there are no traces.
    pub traces: Option<TraceSettings>,
    /// When a delivery to a backend is repeated. No setting.
    pub delivery_pauses: DeliveryPauses,
}

impl ServeConfig {
    /// Who may send callbacks.
    #[must_use]
    pub fn gate(&self) -> Gate {
        let tokens = self.apps.iter().map(|app| (app.app, app.callback_tokens.clone())).collect();
        Gate { tokens, max_skew_secs: self.max_skew_secs }
    }

    /// Whether callbacks have to be signed: those of all apps, or of none.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        self.apps.iter().all(|app| !app.callback_tokens.is_empty())
    }
}

/// The listening sockets that a service manager has handed over (socket activation), that of callbacks and that of the
/// API: by their names `callback` and `api` where the manager names them, else in this order. They are taken once.
///
/// # Errors
/// A descriptor that is no listening TCP socket.
#[expect(clippy::disallowed_methods, reason = "the one reader of the environment; these are no settings")]
pub fn handed_over_sockets() -> anyhow::Result<(Option<TcpListener>, Option<TcpListener>)> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut sockets = ListenFd::from_env();
    let (callback, api) = socket_places(&names);
    let mut take = |place: Option<usize>| match place {
        Some(place) => {
            sockets.take_tcp_listener(place).with_context(|| format!("LISTEN_FDS: socket {place}"))
        }
        None => Ok(None),
    };
    Ok((take(callback)?, take(api)?))
}

/// Which of the sockets is which, from the text of `LISTEN_FDNAMES`.
fn socket_places(names: &str) -> (Option<usize>, Option<usize>) {
    let place = |wanted: &str| names.split(':').position(|name| name == wanted);
    match (place("callback"), place("api")) {
        (None, None) => (Some(0), Some(1)),
        named => named,
    }
}

/// Refuses a variable whose bytes are not UTF-8 by its name; the parser of the command line would not say which it is.
///
/// # Errors
/// One line that names the variable.
#[expect(clippy::disallowed_methods, reason = "the one reader of the environment")]
pub fn check_environment() -> anyhow::Result<()> {
    for (name, _) in Settings::default().by_name() {
        if matches!(std::env::var(name), Err(std::env::VarError::NotUnicode(_))) {
            bail!("{name} is not UTF-8; it should be a text in that encoding, as a path is as well");
        }
    }
    Ok(())
}

/// The URL in the file of `DATABASE_URL_FILE`.
///
/// # Errors
/// One line that names the variable and the file, never what is in it.
pub fn read_database_url(path: &str) -> anyhow::Result<String> {
    let path = path.to_owned();
    let mut values = secrets::Secret::new("DATABASE_URL", None, Some(&path)).values()?;
    ensure!(
        values.len() == 1,
        "DATABASE_URL_FILE: {path} holds {} lines; it should be one URL",
        values.len()
    );
    Ok(values.remove(0))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one reader of the environment; PATH is no setting of ours"
)]
fn search_path() -> Option<OsString> {
    std::env::var_os("PATH")
}

impl Settings {
    /// What every command needs.
    #[must_use]
    pub fn config(&self) -> Config {
        Config {
            database: match (set(self.database_url.as_ref()), set(self.database_url_file.as_ref())) {
                (Some(url), _) => DatabaseChoice::Url(url.to_owned()),
                (None, Some(path)) => DatabaseChoice::UrlFile(path.to_owned()),
                (None, None) => DatabaseChoice::Embedded,
            },
            data_dir: set(self.data_dir.as_ref()).unwrap_or("data").into(),
            pg_bin_dir: set(self.pg_bin_dir.as_ref()).map(PathBuf::from),
            path: search_path(),
        }
    }

    /// How many days whole entries of the ledger are kept; 0: without end.
    ///
    /// # Errors
    /// One line that names the variable.
    pub fn ledger_keep_days(&self) -> anyhow::Result<u32> {
        days("LEDGER_KEEP_DAYS", self.ledger_keep_days.as_ref())
    }

    /// The form of log lines, and the filter.
    ///
    /// # Errors
    /// One line that names the variable.
    pub fn logging(&self) -> anyhow::Result<(LogFormat, &str)> {
        let format = match set(self.log_format.as_ref()) {
            None | Some("text") => LogFormat::Text,
            Some("json") => LogFormat::Json,
            Some(other) => bail!("LOG_FORMAT is {other:?}; it should be text or json"),
        };
        Ok((format, set(self.rust_log.as_ref()).unwrap_or("info")))
    }

    /// What a sender needs: the app, which is the first one unless one is named, and the newest token of each listener.
    ///
    /// # Errors
    /// An app id that is none, or not one of `SDK_APP_ID`, or a token that cannot be used.
    pub fn sender(&self, named: Option<&str>) -> anyhow::Result<(SdkAppId, Option<Token>, Option<String>)> {
        let text = set(self.sdk_app_id.as_ref()).unwrap_or(EMBEDDED_APP_ID);
        let apps = app_ids(text)?;
        let named = named.map(|text| SdkAppId::parse(text).context("--app")).transpose()?;
        let app = named.unwrap_or(apps[0]);
        ensure!(apps.contains(&app), "--app is {app}, which is not one of SDK_APP_ID: {}", listed(&apps));
        let tokens = callback_tokens(&self.callback_token_secret(), &apps)?;
        let token = tokens.of(app).map(|text| Token::new(text.to_owned()));
        let mut reading = api_tokens(&self.api_token_secret(), &apps)?.into_iter();
        let api_token = reading.find(|token| token.only.is_none_or(|only| only == app));
        Ok((app, token, api_token.map(|token| token.text)))
    }

    /// What `serve` needs.
    ///
    /// # Errors
    /// One line that names the variable, the value (never a secret) and what would be right.
    pub fn serve_config(&self) -> anyhow::Result<ServeConfig> {
        let embedded = !self.database_url_secret().is_set();
        let (callback_listen, callback_tls) = self.callback_listener()?;
        let (api_listen, api_tls) = self.api_listener()?;
        let no_token = !self.callback_token_secret().is_set();
        let safe = embedded && is_loopback(callback_listen);
        let open = is_open("CALLBACK", self.callback_auth.as_ref(), no_token, safe)?;
        let ids = self.app_ids()?;
        let api_auth = self.api_auth(embedded, api_listen, ids.as_deref())?;
        let (ids, (api_auth, api_loopback)) = match (ids, api_auth) {
            (Some(ids), Some(api_auth)) if open || !no_token => (ids, api_auth),
            (ids, api_auth) => return Err(missing(ids.is_none(), !open && no_token, api_auth.is_none())),
        };
        let apps = self.apps_of(&ids)?;
        if let Some(ids) = without_token(&apps).filter(|_| !open) {
            bail!(
                "CALLBACK_TOKEN has no token of {ids}; each app of SDK_APP_ID should have its own as APP:TOKEN"
            );
        }
        let loopback_only = LoopbackOnly {
            callbacks: (open && set(self.callback_auth.as_ref()).is_none()).then_some(NO_CALLBACK_TOKEN),
            api: api_loopback,
        };
        loopback_only.check(callback_listen, api_listen)?;
        Ok(ServeConfig {
            spool: SpoolPlace {
                dir: self.config().data_dir,
                max_bytes: self.spool_max_bytes(ids.len())?,
                apps: ids,
                keep_answered_secs: secs(
                    "KEEP_ANSWERED_SECS",
                    self.keep_answered_secs.as_ref(),
                    0..=86_400,
                    0,
                )?,
            },
            read_database_url: self.read_url(embedded)?,
            reconcile: self.reconcile(&apps)?,
            passes: PassSettings::default(),
            apps,
            max_skew_secs: self.max_skew_secs()?,
            callback_listen,
            api_listen,
            callback_tls,
            api_tls,
            api_prefix: path_prefix("API_PREFIX", self.api_prefix.as_ref())?,
            idle: Duration::from_secs(secs(
                "IDLE_SECS",
                self.idle_secs.as_ref(),
                1..=86_400,
                IDLE.as_secs(),
            )?),
            stop_silence: STOP_SILENCE,
            api_auth: Arc::new(api_auth),
            loopback_only,
            avchatroom_members: match set(self.mirror_avchatroom_members.as_ref()) {
                None | Some("false" | "0") => false,
                Some("true" | "1") => true,
                Some(other) => bail!("MIRROR_AVCHATROOM_MEMBERS is {other:?}; it should be true or false"),
            },
            adopt_database: false,
            traces: self.traces()?,
            delivery_pauses: DeliveryPauses::default(),
        })
    }

    fn spool_max_bytes(&self, apps: usize) -> anyhow::Result<u64> {
        let least = SPOOL_MAX_BYTES_MIN.max(SPOOL_SHARE_MIN * apps as u64);
        let text = set(self.spool_max_bytes.as_ref());
        text.map_or(Ok(SPOOL_MAX_BYTES), |text| bytes("SPOOL_MAX_BYTES", text, least))
    }

    /// Who may read, and why on loopback alone; none where tokens have to be set and are not.
    fn api_auth(
        &self,
        embedded: bool,
        listen: SocketAddr,
        apps: Option<&[SdkAppId]>,
    ) -> anyhow::Result<Option<(ApiAuth, Option<&'static str>)>> {
        let secret = self.api_token_secret();
        let safe = embedded && is_loopback(listen);
        if is_open("API", self.api_auth.as_ref(), !secret.is_set(), safe)? {
            return Ok(Some((ApiAuth::None, Some(OPEN_API))));
        }
        if !secret.is_set() {
            return Ok(None);
        }
        // Where the app is missing that is the error of the start.
        let Some(apps) = apps else { return Ok(Some((ApiAuth::Tokens(Vec::new()), None))) };
        let tokens = api_tokens(&secret, apps)?;
        assert!(!tokens.is_empty(), "a secret that is set has a value");
        let short = tokens.iter().any(|token| token.text.chars().count() < API_TOKEN_CHARS_MIN);
        let tokens = tokens.into_iter().map(|token| token.token).collect();
        Ok(Some((ApiAuth::Tokens(tokens), short.then_some(SHORT_API_TOKEN))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_go_by_their_names_or_else_by_their_order() {
        for (names, places) in [
            ("", (Some(0), Some(1))),
            ("unknown:unknown", (Some(0), Some(1))),
            ("group-mirror.socket", (Some(0), Some(1))),
            ("api:callback", (Some(1), Some(0))),
            ("callback", (Some(0), None)),
            ("api", (None, Some(0))),
        ] {
            assert_eq!(socket_places(names), places, "{names}");
        }
    }
}
