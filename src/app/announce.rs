//! The first lines of the log: what runs, where it listens, which database it has, what to try next.
//!
//! It reads what was started, and starts nothing. The lines come in two parts, because the service listens before an
//! embedded server has been started, and what a newcomer is asked to try needs both. The settings file that was read and
//! the absolute data directory stand here, because a start in another directory finds no `.env` there and makes a second,
//! empty data directory.

use std::path::Path;

use super::database::absolute;
use super::listeners_tls::{API, CALLBACKS};
use super::start::RunningService;
use super::version::{COMMIT, VERSION};
use crate::api::auth::ApiAuth;
use crate::clock;
use crate::config::{Config, DatabaseChoice, ServeConfig};
use crate::embedded::Embedded;

/// What runs, with which settings, and where it listens.
pub(super) fn announce_service(
    running: &RunningService,
    serving: &ServeConfig,
    config: &Config,
    dotenv: Option<&Path>,
) {
    let file = dotenv.map_or_else(|| "no .env".to_owned(), |path| path.display().to_string());
    let data_dir = absolute(&config.data_dir);
    tracing::info!(
        version = VERSION,
        commit = COMMIT,
        settings.file = dotenv.map(|path| path.display().to_string()),
        data_dir = %data_dir.display(),
        "group-mirror {VERSION}; settings: the environment and {file}; data directory: {}",
        data_dir.display()
    );
    let signed = if serving.is_signed() { "signed" } else { "unsigned ones too" };
    let ids: Vec<String> = serving.apps.iter().map(|app| app.app.to_string()).collect();
    let apps = if ids.len() == 1 { "app" } else { "apps" };
    let (callback_scheme, api_scheme) = schemes(serving);
    let ids = ids.join(",");
    tracing::info!(
        apps = ids,
        listener = CALLBACKS,
        address = %running.callback_addr,
        signed = serving.is_signed(),
        "callbacks of {apps} {} ({signed}): {callback_scheme}://{}/callback",
        ids.replace(',', ", "),
        running.callback_addr
    );
    let auth = if matches!(*serving.api_auth, ApiAuth::None) { "open on loopback" } else { "bearer token" };
    let prefix = serving.api_prefix.as_str();
    tracing::info!(
        listener = API,
        address = %running.api_addr,
        prefix,
        "read API ({auth}): {api_scheme}://{}{prefix}/v1/groups",
        running.api_addr
    );
    let is_embedded = matches!(config.database, DatabaseChoice::Embedded);
    if !is_embedded && matches!(*serving.api_auth, ApiAuth::None) {
        tracing::warn!(
            "the read API needs no token (API_AUTH=none): a proxy on this machine that leads to {} can open it to every \
             machine that reaches the proxy; set API_TOKEN where there is one",
            running.api_addr
        );
    }
}

/// How the addresses of both listeners begin.
fn schemes(serving: &ServeConfig) -> (&'static str, &'static str) {
    let scheme = |has_tls: bool| if has_tls { "https" } else { "http" };
    (scheme(serving.callback_tls.is_some()), scheme(serving.api_tls.is_some()))
}

/// Which database it works with, and what a newcomer can try on it.
pub(super) fn announce_database(
    running: &RunningService,
    serving: &ServeConfig,
    embedded: Option<&Embedded>,
) {
    match embedded {
        Some(embedded) => {
            tracing::info!(
                "database: an embedded PostgreSQL in the data directory; {}",
                embedded.psql_line()
            );
        }
        None => tracing::info!("database: the one of DATABASE_URL"),
    }
    let now_ms = clock::now().get();
    if let Some(bundled) = embedded.and_then(Embedded::bundled).filter(|bundled| bundled.is_outdated(now_ms))
    {
        tracing::warn!(
            "the bundled PostgreSQL {} is {} months old; minor releases come every three months, so newer ones with \
             security fixes exist: install PostgreSQL, which is preferred then, or set DATABASE_URL",
            bundled.version,
            bundled.months_old(now_ms)
        );
    }
    // Under the names in a certificate nothing is known here, and `simulate` speaks plain HTTP.
    if !serving.is_signed() && schemes(serving) == ("http", "http") {
        let prefix = serving.api_prefix.as_str();
        tracing::info!(
            "try: curl 'http://{}/callback?SdkAppid={}&CallbackCommand=Group.CallbackAfterCreateGroup' -d \
             '{{\"CallbackCommand\":\"Group.CallbackAfterCreateGroup\",\"GroupId\":\"first\",\"Type\":\"Public\",\
             \"Name\":\"First\",\"Owner_Account\":\"ana\",\"MemberList\":[]}}' && curl http://{}{prefix}/v1/groups/first",
            running.callback_addr,
            serving.apps[0].app,
            running.api_addr
        );
        tracing::info!(
            "or: group-mirror simulate --callback-url http://{} --api-url http://{}{prefix} --verify",
            running.callback_addr,
            running.api_addr
        );
    }
}
