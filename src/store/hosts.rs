//! The hosts that `DATABASE_URL` names, and which of them is in use.
//!
//! One value that every pool shares, so that a failover moves all of them at once: a connection that is older than the
//! move leads to another server and is closed before it is used again. Nothing here opens a connection.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use tokio::sync::SetOnce;

use super::errors::StoreError;
use super::url;

/// The hosts of the URL, and the one in use.
#[derive(Debug)]
pub(super) struct Hosts {
    /// Not set while the server is still being started.
    all: SetOnce<Vec<PgConnectOptions>>,
    used: Mutex<UsedHost>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct UsedHost {
    pub(super) index: usize,
    /// Connections that are older lead elsewhere.
    pub(super) since: Instant,
    /// Whether each connection is known to have a session of its own there.
    pub(super) sessions_checked: bool,
}

impl Hosts {
    /// The hosts of a URL; the first is in use.
    ///
    /// # Errors
    /// A URL that cannot be read.
    pub(super) fn new(url: &str) -> Result<Self, StoreError> {
        let all = url::parse(url)?;
        assert!(!all.is_empty(), "a URL names a host");
        Ok(Self::of(SetOnce::new_with(Some(all))))
    }

    /// None yet: see [`Hosts::locate`].
    pub(super) fn unlocated() -> Self {
        Self::of(SetOnce::new())
    }

    fn of(all: SetOnce<Vec<PgConnectOptions>>) -> Self {
        let used = UsedHost { index: 0, since: Instant::now(), sessions_checked: false };
        Self { all, used: Mutex::new(used) }
    }

    /// Says where the server is that was still being started.
    pub(super) fn locate(&self, all: Vec<PgConnectOptions>) {
        let set = self.all.set(all);
        assert!(set.is_ok(), "pools that have a server are not led to another one");
    }

    /// Resolves when it is known where the server is.
    pub(super) async fn located(&self) {
        self.all.wait().await;
    }

    /// Every host of the URL; none while the server is still being started.
    pub(super) fn all(&self) -> &[PgConnectOptions] {
        self.all.get().map_or(&[], Vec::as_slice)
    }

    pub(super) fn used(&self) -> UsedHost {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, used: UsedHost) {
        assert!(used.index < self.all().len(), "the used host is one of the URL's");
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = used;
    }

    pub(super) fn are_several(&self) -> bool {
        self.all().len() > 1
    }

    /// How to connect to the host in use.
    pub(super) fn options(&self) -> PgConnectOptions {
        self.all().get(self.used().index).cloned().unwrap_or_else(nowhere)
    }

    /// Whether a connection of that age leads to a host that was in use before.
    pub(super) fn have_moved_since(&self, age: Duration) -> bool {
        age > self.used().since.elapsed()
    }
}

/// Where pools connect that have no host yet: to a socket below a file, which fails at once.
fn nowhere() -> PgConnectOptions {
    PgConnectOptions::new_without_pgpass().socket("/dev/null")
}
