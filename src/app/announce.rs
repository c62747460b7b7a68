//! The first lines of the log: what runs, where it listens, what to try next.
//!
//! It reads what was started, and starts nothing. The settings file that was read and the absolute data directory stand
//! here, because a start in a subdirectory finds the same `.env` above it and makes a second, empty data directory.

use std::path::Path;

use super::database::absolute;
use super::start::RunningService;
use crate::api::auth::ApiAuth;
use crate::clock;
use crate::config::{Config, ServeConfig};
use crate::embedded::Embedded;

/// Writes them.
pub(super) fn announce(
    running: &RunningService,
    serving: &ServeConfig,
    config: &Config,
    (embedded, dotenv): (Option<&Embedded>, Option<&Path>),
) {
    let file = dotenv.map_or_else(|| "no .env".to_owned(), |path| path.display().to_string());
    tracing::info!(
        "group-mirror {}; settings: the environment and {file}; data directory: {}",
        env!("CARGO_PKG_VERSION"),
        absolute(&config.data_dir).display()
    );
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
    let signed = if serving.gate.tokens.is_empty() { "unsigned ones too" } else { "signed" };
    tracing::info!(
        "callbacks of app {} ({signed}): http://{}/callback",
        serving.gate.app,
        running.callback_addr
    );
    let auth = if matches!(*serving.api_auth, ApiAuth::None) { "open on loopback" } else { "bearer token" };
    tracing::info!("read API ({auth}): http://{}/v1/groups", running.api_addr);
    if serving.gate.tokens.is_empty() {
        tracing::info!(
            "try: curl 'http://{}/callback?SdkAppid={}&CallbackCommand=Group.CallbackAfterCreateGroup' -d \
             '{{\"CallbackCommand\":\"Group.CallbackAfterCreateGroup\",\"GroupId\":\"first\",\"Type\":\"Public\",\
             \"Name\":\"First\",\"Owner_Account\":\"ana\",\"MemberList\":[]}}' && curl http://{}/v1/groups/first",
            running.callback_addr,
            serving.gate.app,
            running.api_addr
        );
        tracing::info!(
            "or: group-mirror simulate --callback-url http://{} --api-url http://{} --verify",
            running.callback_addr,
            running.api_addr
        );
    }
}
