//! Settings: one clap definition for flags and environment, then a checked [`Config`]. The only reader of the
//! environment.
//!
//! Every value is taken as text and checked here, so that the error of a bad one is one line that names the variable, the
//! value (never a secret) and what would be right. Required settings that are missing stand in one line together.

mod dotenv;
mod values;

use std::ffi::OsString;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail, ensure};
use clap::Args;
use listenfd::ListenFd;

use crate::api::auth::{ApiAuth, ApiToken};
use crate::callback::signature::{Gate, Token};
use crate::model::SdkAppId;
use crate::spool::SpoolPlace;
use crate::telemetry::LogFormat;
use values::{address, bytes, is_open, secrets, set};

pub use dotenv::read_dotenv;

/// The app id of the embedded mode, where none has to be set.
pub const EMBEDDED_APP_ID: &str = "1400000001";

/// The limit of the spool where none is set, 1 GiB: about a million callbacks of 700 bytes.
pub const SPOOL_MAX_BYTES: u64 = 1024 * 1024 * 1024;

/// The smallest limit of the spool: room for a few of the largest bodies.
pub const SPOOL_MAX_BYTES_MIN: u64 = 8 * 1024 * 1024;

/// How long an idle connection is kept where nothing else is set: longer than the pools of nginx and ALB (60 s) and of
/// GCP (600 s), because a request is lost where this side closes first while it is on its way.
pub const IDLE: Duration = Duration::from_secs(620);

/// How long a stop waits for a silent connection, and goes on accepting new ones.
const STOP_SILENCE: Duration = Duration::from_secs(2);

/// Flags and environment, as text.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Settings")]
pub struct Settings {
    /// The mirror's database; unset: an embedded PostgreSQL in `DATA_DIR`
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true, global = true)]
    pub database_url: Option<String>,
    /// Directory of the spool and of the embedded PostgreSQL; only one `serve` per directory [default: data]
    #[arg(long, env = "DATA_DIR", value_name = "PATH", global = true)]
    pub data_dir: Option<String>,
    /// Limit of the spool, in bytes; K, M, G work too [default: 1G]
    #[arg(long, env = "SPOOL_MAX_BYTES", value_name = "BYTES", global = true)]
    pub spool_max_bytes: Option<String>,
    /// Directory of PostgreSQL's server programs for the embedded mode; unset: they are looked for
    #[arg(long, env = "PG_BIN_DIR", value_name = "PATH", global = true)]
    pub pg_bin_dir: Option<String>,
    /// The app whose callbacks are accepted [default: 1400000001 in embedded mode, otherwise required]
    #[arg(long, env = "SDK_APP_ID", value_name = "ID", global = true)]
    pub sdk_app_id: Option<String>,
    /// Token of the console's callback authentication; two, separated by a comma, while one is being replaced
    #[arg(long, env = "CALLBACK_TOKEN", value_name = "TOKEN[,TOKEN]", hide_env_values = true, global = true)]
    pub callback_token: Option<String>,
    /// `token`, or `none` to accept unsigned callbacks [default: token; none in embedded mode on loopback without a token]
    #[arg(long, env = "CALLBACK_AUTH", value_name = "token|none", global = true)]
    pub callback_auth: Option<String>,
    /// Allowed distance of a callback's `RequestTime` from the clock, both ways, in seconds [default: 60]
    #[arg(long, env = "CALLBACK_MAX_SKEW_SECS", value_name = "SECONDS", global = true)]
    pub callback_max_skew_secs: Option<String>,
    /// Public listener: callbacks only [default: 127.0.0.1:8080]
    #[arg(long, env = "CALLBACK_LISTEN", value_name = "[IP:]PORT", global = true)]
    pub callback_listen: Option<String>,
    /// Internal listener: read API, health, metrics [default: 127.0.0.1:8081]
    #[arg(long, env = "API_LISTEN", value_name = "[IP:]PORT", global = true)]
    pub api_listen: Option<String>,
    /// How long an idle connection is kept on both listeners, in seconds [default: 620]
    #[arg(long, env = "IDLE_SECS", value_name = "SECONDS", global = true)]
    pub idle_secs: Option<String>,
    /// Bearer tokens of the read API, separated by commas; `name:token` gives a caller a name in the log
    #[arg(long, env = "API_TOKEN", value_name = "[NAME:]TOKEN,…", hide_env_values = true, global = true)]
    pub api_token: Option<String>,
    /// `token`, or `none` on loopback only [default: token; none in embedded mode on loopback without a token]
    #[arg(long, env = "API_AUTH", value_name = "token|none", global = true)]
    pub api_auth: Option<String>,
    /// Mirror the membership of audio-video rooms, too [default: false]
    #[arg(long, env = "MIRROR_AVCHATROOM_MEMBERS", value_name = "true|false", global = true)]
    pub mirror_avchatroom_members: Option<String>,
    /// `text` or `json` [default: text]
    #[arg(long, env = "LOG_FORMAT", value_name = "text|json", global = true)]
    pub log_format: Option<String>,
    /// What is logged, such as `info` or `group_mirror=debug` [default: info]
    #[arg(long, env = "RUST_LOG", value_name = "FILTER", global = true)]
    pub rust_log: Option<String>,
}

/// Which database.
#[derive(Debug, Clone)]
pub enum DatabaseChoice {
    /// The one of `DATABASE_URL`. Not printed: it may hold a password.
    Url(String),
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
    /// App and tokens.
    pub gate: Gate,
    /// Public listener.
    pub callback_listen: SocketAddr,
    /// Internal listener.
    pub api_listen: SocketAddr,
    /// How long an idle connection is kept on both listeners.
    pub idle: Duration,
    /// At a stop: how long connections are still accepted, and how long a silent one is kept. No setting.
    pub stop_silence: Duration,
    /// Who may read.
    pub api_auth: Arc<ApiAuth>,
    /// Whether the membership of audio-video rooms is mirrored.
    pub avchatroom_members: bool,
    /// Where callbacks wait while the database does not commit.
    pub spool: SpoolPlace,
    /// Whether a database with another id than the data directory knows is taken.
    pub adopt_database: bool,
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
            database: match set(self.database_url.as_ref()) {
                Some(url) => DatabaseChoice::Url(url.to_owned()),
                None => DatabaseChoice::Embedded,
            },
            data_dir: set(self.data_dir.as_ref()).unwrap_or("data").into(),
            pg_bin_dir: set(self.pg_bin_dir.as_ref()).map(PathBuf::from),
            path: search_path(),
        }
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

    /// What a sender needs: the app, and the newest token of each listener.
    ///
    /// # Errors
    /// An app id that is none.
    pub fn sender(&self) -> anyhow::Result<(SdkAppId, Option<Token>, Option<String>)> {
        let app = set(self.sdk_app_id.as_ref()).unwrap_or(EMBEDDED_APP_ID);
        let app = SdkAppId::parse(app).context("SDK_APP_ID")?;
        let token = secrets(self.callback_token.as_ref()).into_iter().next().map(Token::new);
        let api_token = secrets(self.api_token.as_ref()).into_iter().next();
        let api_token =
            api_token.map(|text| text.split_once(':').map_or(text.clone(), |(_, token)| token.to_owned()));
        Ok((app, token, api_token))
    }

    /// What `serve` needs.
    ///
    /// # Errors
    /// One line that names the variable, the value (never a secret) and what would be right.
    pub fn serve_config(&self) -> anyhow::Result<ServeConfig> {
        let embedded = set(self.database_url.as_ref()).is_none();
        let callback_listen = address("CALLBACK_LISTEN", self.callback_listen.as_ref(), "127.0.0.1:8080")?;
        let api_listen = address("API_LISTEN", self.api_listen.as_ref(), "127.0.0.1:8081")?;
        let tokens = secrets(self.callback_token.as_ref());
        ensure!(
            tokens.len() <= 2,
            "CALLBACK_TOKEN holds {} tokens; it should be one, or two while one is being replaced",
            tokens.len()
        );
        let safe = embedded && callback_listen.ip().is_loopback();
        let open = is_open("CALLBACK", self.callback_auth.as_ref(), tokens.is_empty(), safe)?;
        let api_auth = self.api_auth(embedded, api_listen)?;
        let (app, api_auth) = match (self.app(embedded)?, api_auth) {
            (Some(app), Some(api_auth)) if open || !tokens.is_empty() => (app, api_auth),
            (app, api_auth) => {
                let no_token = !open && tokens.is_empty();
                return Err(missing(app.is_none(), no_token, api_auth.is_none()));
            }
        };
        Ok(ServeConfig {
            spool: SpoolPlace { dir: self.config().data_dir, max_bytes: self.spool_max_bytes()? },
            gate: Gate {
                app,
                tokens: tokens.into_iter().map(Token::new).collect(),
                max_skew_secs: self.max_skew_secs()?,
            },
            callback_listen,
            api_listen,
            idle: self.idle()?,
            stop_silence: STOP_SILENCE,
            api_auth: Arc::new(api_auth),
            avchatroom_members: match set(self.mirror_avchatroom_members.as_ref()) {
                None | Some("false" | "0") => false,
                Some("true" | "1") => true,
                Some(other) => bail!("MIRROR_AVCHATROOM_MEMBERS is {other:?}; it should be true or false"),
            },
            adopt_database: false,
        })
    }

    fn idle(&self) -> anyhow::Result<Duration> {
        let Some(text) = set(self.idle_secs.as_ref()) else { return Ok(IDLE) };
        let secs = text.parse().ok().filter(|secs| (1..=86_400).contains(secs));
        secs.map(Duration::from_secs).with_context(|| {
            format!("IDLE_SECS is {text:?}; it should be a number of seconds from 1 to 86400")
        })
    }

    /// The app; none where it has to be set and is not.
    fn app(&self, embedded: bool) -> anyhow::Result<Option<SdkAppId>> {
        let text = set(self.sdk_app_id.as_ref()).or(embedded.then_some(EMBEDDED_APP_ID));
        text.map(|text| SdkAppId::parse(text).context("SDK_APP_ID")).transpose()
    }

    fn max_skew_secs(&self) -> anyhow::Result<u64> {
        let Some(text) = set(self.callback_max_skew_secs.as_ref()) else { return Ok(60) };
        text.parse().ok().filter(|secs| (1..=86_400).contains(secs)).with_context(|| {
            format!("CALLBACK_MAX_SKEW_SECS is {text:?}; it should be a number of seconds from 1 to 86400")
        })
    }

    fn spool_max_bytes(&self) -> anyhow::Result<u64> {
        let text = set(self.spool_max_bytes.as_ref());
        text.map_or(Ok(SPOOL_MAX_BYTES), |text| bytes("SPOOL_MAX_BYTES", text, SPOOL_MAX_BYTES_MIN))
    }

    /// Who may read; none where tokens have to be set and are not.
    fn api_auth(&self, embedded: bool, listen: SocketAddr) -> anyhow::Result<Option<ApiAuth>> {
        let tokens = secrets(self.api_token.as_ref());
        let loopback = listen.ip().is_loopback();
        if is_open("API", self.api_auth.as_ref(), tokens.is_empty(), embedded && loopback)? {
            ensure!(
                loopback,
                "API_AUTH is \"none\" and API_LISTEN is {listen}; without tokens it should be a loopback address such as 127.0.0.1:8081"
            );
            return Ok(Some(ApiAuth::None));
        }
        let token = |text: &String| match text.split_once(':') {
            Some((name, token)) => ApiToken::new(Some(name), token),
            None => ApiToken::new(None, text),
        };
        let tokens: Vec<ApiToken> = tokens.iter().map(token).collect();
        Ok((!tokens.is_empty()).then_some(ApiAuth::Tokens(tokens)))
    }
}

/// All required settings that are not set, in one line: a person sets them in one go.
fn missing(app: bool, callback_token: bool, api_token: bool) -> anyhow::Error {
    let lines = [
        (app, "SDK_APP_ID is not set; it is the number of your application, such as 1400000001"),
        (
            callback_token,
            "CALLBACK_TOKEN is not set; set it to the token of the console's callback authentication, or say CALLBACK_AUTH=none to accept unsigned callbacks",
        ),
        (
            api_token,
            "API_TOKEN is not set; set it to one or more bearer tokens, or say API_AUTH=none on a loopback listener",
        ),
    ];
    let lines: Vec<&str> = lines.iter().filter(|(missing, _)| *missing).map(|(_, line)| *line).collect();
    assert!(!lines.is_empty(), "an error names what is missing");
    anyhow!(lines.join(". "))
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
