//! A session outside the pools, for one task that keeps it.
//!
//! It leads to the host that is in use when it is made, and says when another one is.

use std::sync::Arc;
use std::time::Instant;

use sqlx::PgConnection;

use super::hosts::Hosts;

/// A session of one caller, outside the pools: no other read can take it, and one that stalls is dropped with it.
#[derive(Debug)]
pub struct OwnSession {
    pub(super) conn: PgConnection,
    /// Before the host was chosen that it leads to.
    pub(super) made: Instant,
    pub(super) hosts: Arc<Hosts>,
}

impl OwnSession {
    /// Where its statements run.
    pub fn conn(&mut self) -> &mut PgConnection {
        &mut self.conn
    }

    /// False once another host is in use than the one it leads to.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.made >= self.hosts.used().since
    }
}
