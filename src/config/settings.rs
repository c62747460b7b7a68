//! The settings as text: one clap definition for flags and environment, filled up from the settings file.
//!
//! Every value stays text here and is checked by `config`, so that an error names the variable. A flag wins over the
//! environment, the environment over the file; the file cannot set what decides which program is executed.

use anyhow::bail;
use clap::Args;

use super::dotenv::DotenvFile;
use super::secrets::Secret;
use super::values::set;

/// Flags and environment, as text.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Settings")]
pub struct Settings {
    /// The mirror's database; unset: an embedded PostgreSQL in `DATA_DIR`
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true, global = true)]
    pub database_url: Option<String>,
    /// A file that holds `DATABASE_URL`
    #[arg(long, env = "DATABASE_URL_FILE", value_name = "PATH", global = true)]
    pub database_url_file: Option<String>,
    /// A standby of the mirror's database, from which lists and single things are read; unset: from `DATABASE_URL`
    #[arg(long, env = "READ_DATABASE_URL", value_name = "URL", hide_env_values = true, global = true)]
    pub read_database_url: Option<String>,
    /// A file that holds `READ_DATABASE_URL`
    #[arg(long, env = "READ_DATABASE_URL_FILE", value_name = "PATH", global = true)]
    pub read_database_url_file: Option<String>,
    /// Directory of the spool and of the embedded PostgreSQL; only one `serve` per directory [default: data]
    #[arg(long, env = "DATA_DIR", value_name = "PATH", global = true)]
    pub data_dir: Option<String>,
    /// Limit of the spool, in bytes; K, M, G work too [default: 1G]
    #[arg(long, env = "SPOOL_MAX_BYTES", value_name = "BYTES", global = true)]
    pub spool_max_bytes: Option<String>,
    /// How long answered callbacks are kept after their commit, in seconds, to be sent again after a failover that lost
    /// commits; 0: not at all [default: 0]
    #[arg(long, env = "KEEP_ANSWERED_SECS", value_name = "SECONDS", global = true)]
    pub keep_answered_secs: Option<String>,
    /// How many days whole entries of the ledger are kept before `prune` folds them into checkpoints; 0: without end [default: 0]
    #[arg(long, env = "LEDGER_KEEP_DAYS", value_name = "DAYS", global = true)]
    pub ledger_keep_days: Option<String>,
    /// Directory of PostgreSQL's server programs for the embedded mode; never from a .env; unset: they are looked for
    #[arg(long, env = "PG_BIN_DIR", value_name = "PATH", global = true)]
    pub pg_bin_dir: Option<String>,
    /// The app whose callbacks are accepted; several, separated by commas [default: 1400000001 in embedded mode, otherwise required]
    #[arg(long, env = "SDK_APP_ID", value_name = "ID[,ID]", global = true)]
    pub sdk_app_id: Option<String>,
    /// Token of the console's callback authentication; two, separated by a comma, while one is being replaced; with
    /// several apps each is APP:TOKEN
    #[arg(
        long,
        env = "CALLBACK_TOKEN",
        value_name = "[APP:]TOKEN[,…]",
        hide_env_values = true,
        global = true
    )]
    pub callback_token: Option<String>,
    /// A file that holds `CALLBACK_TOKEN`, one a line
    #[arg(long, env = "CALLBACK_TOKEN_FILE", value_name = "PATH", global = true)]
    pub callback_token_file: Option<String>,
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
    /// Certificate of the public listener, with its chain, in PEM form; read again when it changes; unset: plain HTTP
    #[arg(long, env = "CALLBACK_TLS_CERT", value_name = "PATH", global = true)]
    pub callback_tls_cert: Option<String>,
    /// Private key of that certificate, in PEM form
    #[arg(long, env = "CALLBACK_TLS_KEY", value_name = "PATH", global = true)]
    pub callback_tls_key: Option<String>,
    /// Authorities of client certificates; only callers with a certificate of one are taken; unset: callers present none
    #[arg(long, env = "CALLBACK_TLS_CLIENT_CA", value_name = "PATH", global = true)]
    pub callback_tls_client_ca: Option<String>,
    /// Certificate of the internal listener, with its chain, in PEM form; read again when it changes; unset: plain HTTP
    #[arg(long, env = "API_TLS_CERT", value_name = "PATH", global = true)]
    pub api_tls_cert: Option<String>,
    /// Private key of that certificate, in PEM form
    #[arg(long, env = "API_TLS_KEY", value_name = "PATH", global = true)]
    pub api_tls_key: Option<String>,
    /// Path below which the internal listener serves everything, such as /mirror; unset: at the root
    #[arg(long, env = "API_PREFIX", value_name = "/PATH", global = true)]
    pub api_prefix: Option<String>,
    /// How long an idle connection is kept on both listeners, in seconds [default: 620]
    #[arg(long, env = "IDLE_SECS", value_name = "SECONDS", global = true)]
    pub idle_secs: Option<String>,
    /// Bearer tokens of the read API, separated by commas: `name:token` names the caller in the log, `name@APP:token` reads
    /// one app, `name+raw:token` raw bodies and client addresses, too
    #[arg(
        long,
        env = "API_TOKEN",
        value_name = "[[NAME][@APP][+raw]:]TOKEN,…",
        hide_env_values = true,
        global = true
    )]
    pub api_token: Option<String>,
    /// A file that holds `API_TOKEN`, one a line
    #[arg(long, env = "API_TOKEN_FILE", value_name = "PATH", global = true)]
    pub api_token_file: Option<String>,
    /// `token`, or `none` on loopback only [default: token; none in embedded mode on loopback without a token]
    #[arg(long, env = "API_AUTH", value_name = "token|none", global = true)]
    pub api_auth: Option<String>,
    /// Mirror the membership of audio-video rooms, too [default: false]
    #[arg(long, env = "MIRROR_AVCHATROOM_MEMBERS", value_name = "true|false", global = true)]
    pub mirror_avchatroom_members: Option<String>,
    /// Tencent's REST API, scheme and host of the app's region, such as <https://console.tim.qq.com>; APP:URL for one app
    #[arg(long, env = "TENCENT_API_URL", value_name = "[APP:]URL[,…]", global = true)]
    pub tencent_api_url: Option<String>,
    /// The administrator account that calls it [default: administrator]
    #[arg(long, env = "TENCENT_ADMIN", value_name = "ACCOUNT", global = true)]
    pub tencent_admin: Option<String>,
    /// The app's secret key in the console; with several apps each is APP:KEY
    #[arg(
        long,
        env = "TENCENT_SECRET_KEY",
        value_name = "[APP:]KEY[,…]",
        hide_env_values = true,
        global = true
    )]
    pub tencent_secret_key: Option<String>,
    /// A file that holds `TENCENT_SECRET_KEY`, one a line
    #[arg(long, env = "TENCENT_SECRET_KEY_FILE", value_name = "PATH", global = true)]
    pub tencent_secret_key_file: Option<String>,
    /// The share of Tencent's published limits that may be used, above 0 and at most 1 [default: 0.2]
    #[arg(long, env = "TENCENT_RATE_SHARE", value_name = "SHARE", global = true)]
    pub tencent_rate_share: Option<String>,
    /// The rolling passes inside `serve` that compare the mirror with Tencent [default: on with a secret key, else off]
    #[arg(long, env = "RECONCILE", value_name = "on|off", global = true)]
    pub reconcile: Option<String>,
    /// The existing backend that gets the callbacks; APP:URL for one app
    #[arg(long, env = "RELAY_URL", value_name = "[APP:]URL[,…]", hide_env_values = true, global = true)]
    pub relay_url: Option<String>,
    /// How long a "before" callback waits for the backend, from receipt, in milliseconds; at most 1400 [default: 1200]
    #[arg(long, env = "RELAY_TIMEOUT_MS", value_name = "MILLISECONDS", global = true)]
    pub relay_timeout_ms: Option<String>,
    /// What a "before" callback gets when the backend does not answer; COMMAND= and one of them for single commands
    /// [default: fail]
    #[arg(long, env = "RELAY_FALLBACK", value_name = "[COMMAND=]allow|refuse|fail[,…]", global = true)]
    pub relay_fallback: Option<String>,
    /// Signs what is delivered late; APP:TOKEN for one app [default: the app's first `CALLBACK_TOKEN`]
    #[arg(long, env = "RELAY_TOKEN", value_name = "[APP:]TOKEN[,…]", hide_env_values = true, global = true)]
    pub relay_token: Option<String>,
    /// A file that holds `RELAY_TOKEN`, one a line
    #[arg(long, env = "RELAY_TOKEN_FILE", value_name = "PATH", global = true)]
    pub relay_token_file: Option<String>,
    /// A collector of traces that speaks OTLP over HTTP, such as <http://localhost:4318>; unset: there are no traces
    #[arg(
        long,
        env = "OTEL_EXPORTER_OTLP_ENDPOINT",
        value_name = "URL",
        hide_env_values = true,
        global = true
    )]
    pub otel_exporter_otlp_endpoint: Option<String>,
    /// Which callbacks have a trace: `traceidratio`, `always_on` or `always_off` [default: traceidratio]
    #[arg(long, env = "OTEL_TRACES_SAMPLER", value_name = "SAMPLER", global = true)]
    pub otel_traces_sampler: Option<String>,
    /// The share of callbacks that have one, with `traceidratio`, from 0 to 1 [default: 0.01]
    #[arg(long, env = "OTEL_TRACES_SAMPLER_ARG", value_name = "SHARE", global = true)]
    pub otel_traces_sampler_arg: Option<String>,
    /// `text` or `json` [default: text]
    #[arg(long, env = "LOG_FORMAT", value_name = "text|json", global = true)]
    pub log_format: Option<String>,
    /// What is logged, such as `info` or `group_mirror=debug` [default: info]
    #[arg(long, env = "RUST_LOG", value_name = "FILTER", global = true)]
    pub rust_log: Option<String>,
}

/// The setting that a file must not hold: a user who can write that file could choose a program,
/// which may run as root.
const NEVER_FROM_A_FILE: &str = "PG_BIN_DIR";

impl Settings {
    /// Every setting by the name of its variable.
    pub(super) fn by_name(&mut self) -> [(&'static str, &mut Option<String>); 43] {
        [
            ("DATABASE_URL", &mut self.database_url),
            ("DATABASE_URL_FILE", &mut self.database_url_file),
            ("READ_DATABASE_URL", &mut self.read_database_url),
            ("READ_DATABASE_URL_FILE", &mut self.read_database_url_file),
            ("DATA_DIR", &mut self.data_dir),
            ("SPOOL_MAX_BYTES", &mut self.spool_max_bytes),
            ("KEEP_ANSWERED_SECS", &mut self.keep_answered_secs),
            ("LEDGER_KEEP_DAYS", &mut self.ledger_keep_days),
            (NEVER_FROM_A_FILE, &mut self.pg_bin_dir),
            ("SDK_APP_ID", &mut self.sdk_app_id),
            ("CALLBACK_TOKEN", &mut self.callback_token),
            ("CALLBACK_TOKEN_FILE", &mut self.callback_token_file),
            ("CALLBACK_AUTH", &mut self.callback_auth),
            ("CALLBACK_MAX_SKEW_SECS", &mut self.callback_max_skew_secs),
            ("CALLBACK_LISTEN", &mut self.callback_listen),
            ("API_LISTEN", &mut self.api_listen),
            ("CALLBACK_TLS_CERT", &mut self.callback_tls_cert),
            ("CALLBACK_TLS_KEY", &mut self.callback_tls_key),
            ("CALLBACK_TLS_CLIENT_CA", &mut self.callback_tls_client_ca),
            ("API_TLS_CERT", &mut self.api_tls_cert),
            ("API_TLS_KEY", &mut self.api_tls_key),
            ("API_PREFIX", &mut self.api_prefix),
            ("IDLE_SECS", &mut self.idle_secs),
            ("API_TOKEN", &mut self.api_token),
            ("API_TOKEN_FILE", &mut self.api_token_file),
            ("API_AUTH", &mut self.api_auth),
            ("MIRROR_AVCHATROOM_MEMBERS", &mut self.mirror_avchatroom_members),
            ("TENCENT_API_URL", &mut self.tencent_api_url),
            ("TENCENT_ADMIN", &mut self.tencent_admin),
            ("TENCENT_SECRET_KEY", &mut self.tencent_secret_key),
            ("TENCENT_SECRET_KEY_FILE", &mut self.tencent_secret_key_file),
            ("TENCENT_RATE_SHARE", &mut self.tencent_rate_share),
            ("RECONCILE", &mut self.reconcile),
            ("RELAY_URL", &mut self.relay_url),
            ("RELAY_TIMEOUT_MS", &mut self.relay_timeout_ms),
            ("RELAY_FALLBACK", &mut self.relay_fallback),
            ("RELAY_TOKEN", &mut self.relay_token),
            ("RELAY_TOKEN_FILE", &mut self.relay_token_file),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &mut self.otel_exporter_otlp_endpoint),
            ("OTEL_TRACES_SAMPLER", &mut self.otel_traces_sampler),
            ("OTEL_TRACES_SAMPLER_ARG", &mut self.otel_traces_sampler_arg),
            ("LOG_FORMAT", &mut self.log_format),
            ("RUST_LOG", &mut self.rust_log),
        ]
    }

    /// Takes from the settings file what neither a flag nor the environment has set; an empty value sets nothing. A secret
    /// that they have set in one of its two ways is not taken from the file in the other.
    ///
    /// # Errors
    /// The file sets `PG_BIN_DIR`; or a secret and the file of it are both set.
    pub fn fill_up(&mut self, file: &mut DotenvFile) -> anyhow::Result<()> {
        let twin = |name: &str| match name.strip_suffix("_FILE") {
            Some(secret) => secret.to_owned(),
            None => format!("{name}_FILE"),
        };
        let is_set = |value: &Option<String>| set(value.as_ref()).is_some();
        let by_name = self.by_name().into_iter();
        let set_before: Vec<&str> =
            by_name.filter(|(_, value)| is_set(value)).map(|(name, _)| name).collect();
        for (name, value) in self.by_name() {
            let Some(found) = file.take(name) else { continue };
            if name == NEVER_FROM_A_FILE && !found.trim().is_empty() {
                bail!(
                    "{}: {name} is not taken from a file, because it decides which program is executed; set it in the \
                     environment or as --pg-bin-dir",
                    file.path().display()
                );
            }
            if ![name, &twin(name)].iter().any(|name| set_before.contains(name)) {
                *value = Some(found);
            }
        }
        for secret in [
            self.database_url_secret(),
            self.read_database_url_secret(),
            self.callback_token_secret(),
            self.api_token_secret(),
            self.tencent_secret_key_secret(),
            self.relay_token_secret(),
        ] {
            secret.check()?;
        }
        Ok(())
    }

    pub(super) fn database_url_secret(&self) -> Secret<'_> {
        Secret::new("DATABASE_URL", self.database_url.as_ref(), self.database_url_file.as_ref())
    }

    pub(super) fn read_database_url_secret(&self) -> Secret<'_> {
        let (value, file) = (self.read_database_url.as_ref(), self.read_database_url_file.as_ref());
        Secret::new("READ_DATABASE_URL", value, file)
    }

    pub(super) fn callback_token_secret(&self) -> Secret<'_> {
        Secret::new("CALLBACK_TOKEN", self.callback_token.as_ref(), self.callback_token_file.as_ref())
    }

    pub(super) fn api_token_secret(&self) -> Secret<'_> {
        Secret::new("API_TOKEN", self.api_token.as_ref(), self.api_token_file.as_ref())
    }

    pub(super) fn tencent_secret_key_secret(&self) -> Secret<'_> {
        let (value, file) = (self.tencent_secret_key.as_ref(), self.tencent_secret_key_file.as_ref());
        Secret::new("TENCENT_SECRET_KEY", value, file)
    }

    pub(super) fn relay_token_secret(&self) -> Secret<'_> {
        Secret::new("RELAY_TOKEN", self.relay_token.as_ref(), self.relay_token_file.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::Args as _;

    use super::Settings;

    #[test]
    fn every_setting_of_the_command_line_is_filled_up_from_the_file() {
        let command = Settings::augment_args(clap::Command::new("x"));
        let defined: BTreeSet<_> =
            command.get_arguments().filter_map(|argument| argument.get_env()?.to_str()).collect();
        let mut settings = Settings::default();
        let named: BTreeSet<_> = settings.by_name().into_iter().map(|(name, _)| name).collect();
        assert_eq!(named, defined);
    }
}
