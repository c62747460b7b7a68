//! Sessions of the server that this process does not wait for any more.
//!
//! A client that gives up closes its connection, and the server's session may go on all the same: one that waits for a
//! synchronous standby or for a lock does not notice that its client has gone. Without a limit each further try would
//! leave one more, until `max_connections` is reached for everyone. So the writer keeps at most one: before another is
//! given up, `probe` asks the server whether the first has ended.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many sessions the list keeps; of more the oldest are forgotten. The rule above keeps it at one; transactions outside
/// the writer that end by an error add theirs, which end by themselves.
const LISTED_MAX: usize = 16;

/// The process ids of sessions that were given up. Cheap to clone; all clones are one list.
#[derive(Debug, Clone, Default)]
pub(super) struct GivenUp {
    pids: Arc<Mutex<Vec<i32>>>,
    /// Held while one session more is being given up.
    pub(super) turn: Arc<tokio::sync::Mutex<()>>,
}

impl GivenUp {
    pub(super) fn pids(&self) -> MutexGuard<'_, Vec<i32>> {
        self.pids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, pid: i32) {
        let mut pids = self.pids();
        pids.push(pid);
        if pids.len() > LISTED_MAX {
            pids.remove(0);
        }
        assert!(pids.len() <= LISTED_MAX, "the list of sessions keeps its limit");
    }
}

/// A session with a transaction in it. Dropped before [`OpenSession::end`] it counts as given up.
#[derive(Debug)]
pub(super) struct OpenSession {
    pid: i32,
    given_up: GivenUp,
    ended: bool,
}

impl OpenSession {
    pub(super) fn new(pid: i32, given_up: GivenUp) -> Self {
        Self { pid, given_up, ended: false }
    }

    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    /// The server has answered, or the connection is gone: nothing goes on in it.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        if !self.ended {
            self.given_up.add(self.pid);
        }
    }
}
