//! A cache of the counts of `/v1/stats`: at most one count runs, and a count that took `t` is reused for 20 `t`.
//!
//! So a small mirror is counted anew for nearly every request, and a large one costs less than a twentieth of one
//! connection, however often it is asked. Serves what `store::stats` counted; knows nothing of JSON.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::errors::ApiError;
use crate::store::stats::{self, Counts};
use crate::store::{Database, ReadTx};

/// A count that took `t` is reused for so many times `t`.
const KEEP_FACTOR: u32 = 20;

/// How long one statement of a count may take; at the limit the counts before stay. Ten million memberships take some
/// seconds.
const STATEMENT_MAX: Duration = Duration::from_secs(30);

/// The longest pause after a failure while there are no counts yet.
const FIRST_PAUSE_MAX: Duration = Duration::from_secs(5);

/// How long a request waits for the count that runs; then it gets the counts before, or 503 where there are none.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// The counts of one process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct StatsCache {
    database: Database,
    stop: CancellationToken,
    last: watch::Sender<Last>,
    /// One permit, which the running count holds.
    permit: Arc<Semaphore>,
}

/// How the last count ended.
#[derive(Debug, Clone, Default)]
struct Last {
    counts: Option<Arc<Counts>>,
    took: Duration,
    /// When the next one may begin; `None`: at once.
    next: Option<Instant>,
}

impl StatsCache {
    /// Counts nothing until the first request; abandons a count at `stop`.
    #[must_use]
    pub fn new(database: Database, stop: CancellationToken) -> Self {
        let permit = Arc::new(Semaphore::new(1));
        Self { database, stop, last: watch::Sender::new(Last::default()), permit }
    }

    /// The newest counts that are there within [`WAIT_MAX`].
    ///
    /// # Errors
    /// `unavailable`: there are none yet; the count continues.
    pub(super) async fn counts(&self) -> Result<Arc<Counts>, ApiError> {
        let mut seen = self.last.subscribe();
        let known = seen.borrow_and_update().clone();
        if known.next.is_none_or(|next| next <= Instant::now()) {
            self.start();
            // There is no use in waiting for a count that will not end in time.
            if known.counts.is_none() || known.took < WAIT_MAX {
                let _ = timeout(WAIT_MAX, seen.changed()).await;
            }
        }
        let counts = seen.borrow().counts.clone();
        counts.ok_or_else(|| {
            ApiError::unavailable("The mirror is being counted for the first time; ask again.")
        })
    }

    /// Begins to count, unless a count runs already.
    fn start(&self) {
        let Ok(permit) = Arc::clone(&self.permit).try_acquire_owned() else { return };
        let this = self.clone();
        tokio::spawn(async move {
            let begun = Instant::now();
            let Some(counted) = this.stop.run_until_cancelled(this.count()).await else { return };
            let took = begun.elapsed();
            drop(permit);
            this.last.send_modify(|last| {
                last.took = took;
                let mut pause = took * KEEP_FACTOR;
                match counted {
                    Ok(counts) => last.counts = Some(Arc::new(counts)),
                    Err(error) => {
                        tracing::warn!(%error, "the mirror could not be counted");
                        if last.counts.is_none() {
                            pause = pause.min(FIRST_PAUSE_MAX);
                        }
                    }
                }
                last.next = Some(Instant::now() + pause);
            });
        });
    }

    async fn count(&self) -> Result<Counts, sqlx::Error> {
        let mut tx = ReadTx::begin(self.database.reader().acquire().await?, STATEMENT_MAX).await?;
        let counts = stats::count(tx.conn()).await?;
        tx.roll_back().await;
        Ok(counts)
    }
}
