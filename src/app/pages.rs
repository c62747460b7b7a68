//! The console of a service: what its pages work with, put together out of settings and the parts of the service.
//!
//! Pages show figures of one process, so they name it: the host and the process id.

use std::sync::Arc;

use tokio::net::TcpListener;

use crate::api::PageRoutes;
use crate::api::state::ApiState;
use crate::config::ServeConfig;
use crate::console;
use crate::console::state::{ConsoleState, FirstSteps};
use crate::console::wall::Wall;
use crate::model::SdkAppId;
use crate::spool::volume;
use crate::traffic::Traffic;

/// Where Linux says what this machine is called.
const HOSTNAME_AT: &str = "/proc/sys/kernel/hostname";

/// The pages for people.
pub(super) fn console_pages(
    serving: &ServeConfig,
    reads: &ApiState,
    traffic: Traffic,
    callbacks: &TcpListener,
) -> anyhow::Result<PageRoutes> {
    let apps: Arc<[SdkAppId]> = serving.spool.apps.clone().into();
    let scheme = if serving.callback_tls.is_some() { "https" } else { "http" };
    let callback_url = format!("{scheme}://{}/callback", callbacks.local_addr()?);
    let host = std::fs::read_to_string(HOSTNAME_AT).unwrap_or_default();
    let process = format!("{} {}", host.trim(), std::process::id());
    let state = ConsoleState {
        api: reads.clone(),
        apps: Arc::clone(&apps),
        traffic,
        first_steps: Arc::new(FirstSteps { callback_url, is_signed: serving.is_signed() }),
        process: process.trim().into(),
        forgetful_volume: volume::forgetful_volume(&serving.spool.dir).map(Into::into),
        wall: Wall::new(reads.clone(), apps),
    };
    Ok(console::pages(state))
}
