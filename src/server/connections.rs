//! The table of a listener's open connections, and the eviction policy: which one is closed when a new one needs its room.
//!
//! At the limit the one that owes a head, or a TLS handshake, for longest is closed first, if that is 5 s or more, then
//! the one that has been idle for longest, then one that has sent nothing for a quarter of a second; never one with a
//! request in it. [`Spare`] is the whole order. So silent peers cannot shut the listener, and a callback that waits in the
//! kernel's queue behind hundreds of them is answered in time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::activity::{Activity, Spare};

/// How often room is looked for while a connection waits for it.
const ROOM_PERIOD: Duration = Duration::from_millis(50);

/// At most one log line about a full listener in this time.
const FULL_LINE_PERIOD: Duration = Duration::from_secs(60);

/// The open connections of one listener. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct OpenConnections {
    name: &'static str,
    permits: Arc<Semaphore>,
    table: Arc<Mutex<ConnectionTable>>,
    /// One has ended.
    ended: Arc<Notify>,
}

#[derive(Debug)]
struct ConnectionTable {
    open: HashMap<u64, Arc<Activity>>,
    next_id: u64,
    last_accept: Option<Instant>,
    last_full_line: Option<Instant>,
}

/// One open connection: its state, and its room until it is dropped.
#[derive(Debug)]
pub(super) struct OpenConnection {
    pub(super) activity: Arc<Activity>,
    id: u64,
    connections: OpenConnections,
    _permit: Option<OwnedSemaphorePermit>,
}

impl OpenConnections {
    pub(super) fn new(name: &'static str, connections_max: usize) -> Self {
        // Each exists from the start, so that a first increase is seen.
        metrics::gauge!("group_mirror_connections", "listener" => name).set(0.0);
        metrics::counter!("group_mirror_accept_waits_total", "listener" => name).increment(0);
        for cause in ["silent", "idle"] {
            counted_close(name, cause, 0);
        }
        let table = ConnectionTable {
            open: HashMap::with_capacity(connections_max),
            next_id: 0,
            last_accept: None,
            last_full_line: None,
        };
        Self {
            name,
            permits: Arc::new(Semaphore::new(connections_max)),
            table: Arc::new(Mutex::new(table)),
            ended: Arc::default(),
        }
    }

    fn table(&self) -> MutexGuard<'_, ConnectionTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a connection in, once there is room for it.
    pub(super) async fn admit(&self) -> OpenConnection {
        let permit = match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => Some(permit),
            Err(_) => {
                metrics::counter!("group_mirror_accept_waits_total", "listener" => self.name).increment(1);
                self.wait_for_room().await
            }
        };
        let activity = Arc::new(Activity::new());
        let mut table = self.table();
        let id = table.next_id;
        table.next_id += 1;
        table.last_accept = Some(Instant::now());
        let before = table.open.insert(id, Arc::clone(&activity));
        drop(table);
        assert!(before.is_none(), "an id stands for one connection");
        metrics::gauge!("group_mirror_connections", "listener" => self.name).increment(1.0);
        OpenConnection { activity, id, connections: self.clone(), _permit: permit }
    }

    async fn wait_for_room(&self) -> Option<OwnedSemaphorePermit> {
        loop {
            self.make_room();
            // The semaphore is never closed, so an error does not happen; without a permit the limit would be off by one.
            if let Ok(permit) = timeout(ROOM_PERIOD, Arc::clone(&self.permits).acquire_owned()).await {
                return permit.ok();
            }
        }
    }

    /// The system has no descriptor for a new connection: asks one to close, and waits until one has ended, but not for
    /// longer than `pause`, because other connections and files hold descriptors as well.
    pub(super) async fn wait_for_descriptor(&self, pause: Duration) {
        self.make_room();
        let _ = timeout(pause, self.ended.notified()).await;
    }

    /// A new connection waits: for a permit, or for a descriptor. Asks the one that needs its room least to close.
    fn make_room(&self) {
        self.report_full();
        let now = Instant::now();
        let table = self.table();
        let spares = table.open.values().filter_map(|activity| Some((activity.spare(now)?, activity)));
        if let Some((_, activity)) = spares.min_by_key(|(spare, _)| *spare) {
            activity.need_room();
        }
    }

    fn report_full(&self) {
        let mut table = self.table();
        if table.last_full_line.is_some_and(|line| line.elapsed() < FULL_LINE_PERIOD) {
            return;
        }
        table.last_full_line = Some(Instant::now());
        let open = table.open.len();
        drop(table);
        tracing::warn!(
            listener = self.name,
            connections = open,
            "all connections of this listener are taken; silent ones are closed to make room, then the one that is idle \
             for longest: does a sender open connections and send nothing?"
        );
    }

    /// True while a connection is open, or where one was accepted within that time.
    pub(super) fn were_used_within(&self, time: Duration) -> bool {
        let table = self.table();
        !table.open.is_empty() || table.last_accept.is_some_and(|accept| accept.elapsed() < time)
    }
}

fn counted_close(name: &'static str, cause: &'static str, closed: u64) {
    metrics::counter!("group_mirror_connections_closed_total", "listener" => name, "cause" => cause)
        .increment(closed);
}

impl OpenConnection {
    /// Counts that it is closed to make room.
    pub(super) fn count_spared(&self, spare: Spare) {
        let cause = match spare {
            Spare::Silent(_) | Spare::New(_) | Spare::SlowHead(_) => "silent",
            Spare::Lingering(_) | Spare::Idle(_) | Spare::Unread(_) => "idle",
        };
        counted_close(self.connections.name, cause, 1);
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.connections.table().open.remove(&self.id);
        self.connections.ended.notify_one();
        metrics::gauge!("group_mirror_connections", "listener" => self.connections.name).decrement(1.0);
    }
}
