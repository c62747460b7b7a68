//! Counts that are kept for as long as they were dear: one count at a time, and a pause of twenty times what it took.
//!
//! A small mirror is counted anew for nearly every request, a large one costs less than a twentieth of one connection,
//! however often it is asked. Hands out what `store::stats` counted; knows nothing of JSON.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::errors::ApiError;
use crate::store::stats::{self, Counts};
use crate::store::{Database, Tx};

/// How many times as long as it took to count the counts are kept.
const KEEP_FACTOR: u32 = 20;

/// How long one statement of a count may take; at the limit the former counts stay. Ten million memberships take some
/// seconds.
const STATEMENT_MAX: Duration = Duration::from_secs(30);

/// The longest pause after a failure while there are no counts at all.
const FIRST_PAUSE_MAX: Duration = Duration::from_secs(5);

/// How long a request waits for a count that runs; then it is given the former one, or 503 where there is none.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// The counts of one process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct StatsCache {
    database: Database,
    stop: CancellationToken,
    last: watch::Sender<Last>,
    /// One place: whoever counts has it.
    place: Arc<Semaphore>,
}

/// How the last count ended.
#[derive(Debug, Clone, Default)]
struct Last {
    counts: Option<Arc<Counts>>,
    took: Duration,
    /// When the next one may begin; none: at once.
    next: Option<Instant>,
}

impl StatsCache {
    /// Counts nothing until it is asked; gives a count up at `stop`.
    #[must_use]
    pub fn new(database: Database, stop: CancellationToken) -> Self {
        let place = Arc::new(Semaphore::new(1));
        Self { database, stop, last: watch::Sender::new(Last::default()), place }
    }

    /// The newest counts that can be had without waiting long.
    ///
    /// # Errors
    /// `unavailable` where there are none yet; the count goes on.
    pub(super) async fn counts(&self) -> Result<Arc<Counts>, ApiError> {
        let mut seen = self.last.subscribe();
        let known = seen.borrow_and_update().clone();
        if known.next.is_none_or(|next| next <= Instant::now()) {
            self.start();
            // Not for a count that will not end in time.
            if known.counts.is_none() || known.took < WAIT_MAX {
                let _ = timeout(WAIT_MAX, seen.changed()).await;
            }
        }
        let counts = seen.borrow().counts.clone();
        counts.ok_or_else(|| {
            ApiError::unavailable("The mirror is being counted for the first time; ask again.")
        })
    }

    /// Begins to count, unless somebody does already.
    fn start(&self) {
        let Ok(place) = Arc::clone(&self.place).try_acquire_owned() else { return };
        let this = self.clone();
        tokio::spawn(async move {
            let begun = Instant::now();
            let Some(counted) = this.stop.run_until_cancelled(this.count()).await else { return };
            let took = begun.elapsed();
            drop(place);
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
        let mut tx = Tx::reading(self.database.reader().acquire().await?, STATEMENT_MAX).await?;
        let counts = stats::count(tx.conn()).await?;
        tx.roll_back().await;
        Ok(counts)
    }
}
