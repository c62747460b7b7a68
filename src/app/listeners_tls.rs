//! TLS of both listeners together: opened at the start, kept up to date, read again when a signal asks for it.
//!
//! Either may have it without the other, and neither is the default: a proxy in front ends TLS then. What is wrong with a
//! file is the error of the start here, and a log line later.

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::ServeConfig;
use crate::server::TlsListener;

/// The label of the public listener in metrics and log lines.
pub(super) const CALLBACKS: &str = "callbacks";

/// That of the internal one.
pub(super) const API: &str = "api";

/// TLS of both listeners; none: plain HTTP.
#[derive(Debug, Clone)]
pub(super) struct ListenersTls {
    pub(super) callbacks: Option<TlsListener>,
    pub(super) api: Option<TlsListener>,
}

impl ListenersTls {
    /// With the certificates that the files hold now.
    ///
    /// # Errors
    /// A file that cannot be used, in one line that names its setting.
    pub(super) fn open(serving: &ServeConfig) -> anyhow::Result<Self> {
        Ok(Self {
            callbacks: serving.callback_tls.clone().map(TlsListener::open).transpose()?,
            api: serving.api_tls.clone().map(TlsListener::open).transpose()?,
        })
    }

    /// Each that there is, with its label.
    fn by_label(&self) -> impl Iterator<Item = (&'static str, &TlsListener)> {
        let both = [(CALLBACKS, &self.callbacks), (API, &self.api)];
        both.into_iter().filter_map(|(label, tls)| Some((label, tls.as_ref()?)))
    }

    /// Keeps the certificates up to date in tasks of their own.
    pub(super) fn keep_up(&self, tasks: &TaskTracker, stop: &CancellationToken) {
        for (label, tls) in self.by_label() {
            tasks.spawn(tls.clone().keep_up(label, stop.clone()));
        }
    }

    /// What reads the files at once, and reports what comes of it.
    pub(super) fn reload(&self) -> impl Fn() + Send + use<> {
        let all = self.clone();
        move || {
            for (_, tls) in all.by_label() {
                tls.reload();
            }
        }
    }
}
