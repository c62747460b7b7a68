//! The newest entries for all pages of this process that are open: read once, and rendered once for each language and zone.
//!
//! One task follows the live feed while a page is open, and hands what is new to every page, at most a few entries in each beat:
//! more than that cannot be read, and a hundred open pages must not cost the write path anything. What was left out is
//! said, and stands in the history.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::api::arrivals::Arrivals;
use crate::api::errors::ApiError;
use crate::api::state::ApiState;
use crate::model::SdkAppId;
use crate::store::condition;
use crate::store::wall::{self, WallRow};
use crate::store::{READ_WAIT_MAX, in_time};

/// The shortest time between two batches. A callback shows on every page within a second.
const BEAT: Duration = Duration::from_millis(300);

/// How many entries of one app a batch has at most.
pub(crate) const BATCH_ROWS_MAX: usize = 12;

/// How many batches wait for a slow page; one that misses some goes on with the next.
const BATCHES_WAITING_MAX: usize = 8;

/// How often it is seen whether a page is still open.
const IDLE_PERIOD: Duration = Duration::from_secs(10);

/// How many positions before the end of the ledger a task begins.
const OVERLAP: i64 = 64;

/// How often the counts of the first line are made anew while a page is open.
const COUNT_PERIOD: Duration = Duration::from_secs(15);

/// What came in one beat.
#[derive(Debug, Default)]
pub(crate) struct WallBatch {
    /// By app, oldest first.
    pub(crate) rows: BTreeMap<SdkAppId, Vec<WallRow>>,
    /// Apps of which more came than a batch has.
    pub(crate) cut: Vec<SdkAppId>,
    /// What was rendered of it, by everything that the rendering depends on.
    rendered: Mutex<BTreeMap<String, Arc<str>>>,
}

impl WallBatch {
    /// The rendering for this key, made by the first page that asks: pages in one language and zone share it.
    pub(crate) fn rendered(&self, key: String, render: impl FnOnce() -> String) -> Arc<str> {
        let mut rendered = self.rendered.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(rendered.entry(key).or_insert_with(|| render().into()))
    }
}

/// The newest entries. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Wall(Arc<WallState>);

#[derive(Debug)]
struct WallState {
    api: ApiState,
    apps: Arc<[SdkAppId]>,
    batches: broadcast::Sender<Arc<WallBatch>>,
    /// The task that reads, while a page is open. One that has ended, with a panic as well, is started anew by the next page.
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Wall {
    /// Reads nothing until a page is open.
    #[must_use]
    pub fn new(api: ApiState, apps: Arc<[SdkAppId]>) -> Self {
        let batches = broadcast::Sender::new(BATCHES_WAITING_MAX);
        Self(Arc::new(WallState { api, apps, batches, task: Mutex::default() }))
    }

    /// From here on every batch is received.
    pub(crate) fn batches(&self) -> broadcast::Receiver<Arc<WallBatch>> {
        let batches = self.0.batches.subscribe();
        let mut task = self.0.task.lock().unwrap_or_else(PoisonError::into_inner);
        if task.as_ref().is_none_or(JoinHandle::is_finished) {
            *task = Some(tokio::spawn(self.clone().run()));
        }
        batches
    }

    async fn run(self) {
        let stop = self.0.api.feed.stop().clone();
        let _ = stop.run_until_cancelled(Box::pin(self.read_on())).await;
    }

    async fn read_on(&self) {
        let mut arrivals = Arrivals::of(&self.0.api.feed);
        let (mut from, mut counted) = (self.beginning().await, Instant::now());
        loop {
            let arrived = timeout(IDLE_PERIOD, arrivals.next()).await;
            if counted.elapsed() >= COUNT_PERIOD {
                counted = Instant::now();
                let _ = timeout(BEAT, self.0.api.stats_cache.counts()).await;
            }
            match arrived {
                Ok(Some(up_to)) => {
                    // A ledger that has become shorter begins again.
                    let after = from.filter(|from| *from <= up_to);
                    if let Some(after) = after {
                        self.read(after, up_to).await;
                    }
                    from = Some(up_to);
                }
                Ok(None) => return,
                Err(_) => {}
            }
            if self.is_left() {
                return;
            }
            sleep(BEAT).await;
        }
    }

    /// Where a task begins: a little before the end of the ledger, because a page that has started it may not have read the very
    /// last entries. One that has them skips them by their positions. `None`: not known, at the next part of the feed.
    async fn beginning(&self) -> Option<i64> {
        let read = async {
            let mut conn = self.0.api.feed_connection().await?;
            Ok::<_, ApiError>(condition::last_position(&mut conn).await?)
        };
        let last = in_time(READ_WAIT_MAX, read).await.ok()?;
        Some(last.saturating_sub(OVERLAP).max(0))
    }

    /// Whether no page is open any more. Under the lock, so that a page that comes now either is seen or starts the task anew.
    fn is_left(&self) -> bool {
        let mut task = self.0.task.lock().unwrap_or_else(PoisonError::into_inner);
        let is_left = self.0.batches.receiver_count() == 0;
        if is_left {
            *task = None;
        }
        is_left
    }

    /// Reads what lies between two positions. A failure costs these entries on open pages; the next load has them.
    async fn read(&self, after: i64, up_to: i64) {
        match in_time(READ_WAIT_MAX, self.batch(after, up_to)).await {
            Ok(batch) => {
                // Fails where no page is open.
                let _ = self.0.batches.send(Arc::new(batch));
            }
            Err(error) => tracing::debug!(%error, "the newest entries cannot be read"),
        }
    }

    async fn batch(&self, after: i64, up_to: i64) -> Result<WallBatch, ApiError> {
        let mut conn = self.0.api.feed_connection().await?;
        let mut batch = WallBatch::default();
        for app in self.0.apps.iter() {
            let found = wall::newest(&mut conn, *app, (after, Some(up_to)), BATCH_ROWS_MAX).await?;
            if found.is_cut {
                batch.cut.push(*app);
            }
            let mut rows = found.rows;
            rows.reverse();
            if !rows.is_empty() {
                batch.rows.insert(*app, rows);
            }
        }
        Ok(batch)
    }
}
