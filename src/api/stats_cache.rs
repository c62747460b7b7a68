//! A cache of the counts of `/v1/stats`: at most one count runs, and a count that took `t` is reused for 20 `t`.
//!
//! So a small mirror is counted anew for nearly every request, and a large one costs less than a twentieth of one
//! connection, however often it is asked. It is counted now and then without a request as well, so that there are counts to
//! show when the database is away. Serves what `store::stats` counted; knows nothing of JSON.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::store::errors::is_statement_timeout;
use crate::store::schema::SchemaState;
use crate::store::stats::{self, Counts};
use crate::store::{Database, ReadTx, in_time};

/// A count that took `t` is reused for so many times `t`.
const KEEP_FACTOR: u32 = 20;

/// How long one statement of a count may take; at the limit the counts before stay. Ten million memberships take some
/// seconds.
const STATEMENT_MAX: Duration = Duration::from_secs(30);

/// How long a count may take with its statements, of which few take long: a server that has stalled ends none of them itself.
const COUNT_WAIT_MAX: Duration = Duration::from_secs(6 * STATEMENT_MAX.as_secs());

/// The longest pause after a count that failed by anything but its own duration: the database may be back.
const FAILED_PAUSE_MAX: Duration = Duration::from_secs(5);

/// How often it is counted without a request: at most so old are the counts that are shown once the database does not
/// answer, or twenty times as old as a count takes.
const UNASKED_PERIOD: Duration = Duration::from_mins(5);

/// How long a request waits for the count that runs; then it gets the counts before, or none where there are none.
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

    /// The counts that were made last; `None` where there are none yet.
    #[must_use]
    pub fn last(&self) -> Option<Arc<Counts>> {
        self.last.borrow().counts.clone()
    }

    /// The newest counts that are there within [`WAIT_MAX`]; a count that runs continues. `None` where there are none yet.
    pub(crate) async fn counts(&self) -> Option<Arc<Counts>> {
        let until = Instant::now() + WAIT_MAX;
        let mut seen = self.last.subscribe();
        let known = seen.borrow_and_update().clone();
        // There is no use in waiting for a count that will not end in time.
        let is_worth_waiting = known.counts.is_none() || known.took < WAIT_MAX;
        // Twice, because one that was begun without a request may have begun before what this reader has sent.
        for _ in 0..2 {
            if !self.is_due() {
                break;
            }
            let is_begun = self.start(true);
            if is_worth_waiting {
                let _ = timeout_at(until, seen.changed()).await;
            }
            if is_begun {
                break;
            }
        }
        self.last()
    }

    /// Counts once the database fits, and then now and then, until the service stops.
    pub async fn keep_up(self, schema: SchemaState) {
        let counting = async {
            loop {
                schema.fitting().await;
                // It resolves also where the schema is not watched any more, because the start is refused.
                if schema.fits() && self.is_due() {
                    self.start(false);
                }
                sleep(UNASKED_PERIOD).await;
            }
        };
        self.stop.run_until_cancelled(counting).await;
    }

    fn is_due(&self) -> bool {
        self.last.borrow().next.is_none_or(|next| next <= Instant::now())
    }

    /// Begins to count, unless a count runs already; true where it is begun. One that was not asked for (`asked`) puts off none
    /// that is.
    fn start(&self, asked: bool) -> bool {
        let Ok(permit) = Arc::clone(&self.permit).try_acquire_owned() else { return false };
        let this = self.clone();
        tokio::spawn(async move {
            let begun = Instant::now();
            let Some(counted) =
                this.stop.run_until_cancelled(in_time(COUNT_WAIT_MAX, Box::pin(this.count()))).await
            else {
                return;
            };
            let took = begun.elapsed();
            drop(permit);
            this.last.send_modify(|last| {
                last.took = took;
                let mut pause = took * KEEP_FACTOR;
                match counted {
                    Ok(counts) => last.counts = Some(Arc::new(counts)),
                    Err(error) => {
                        tracing::warn!(%error, "the mirror could not be counted");
                        if last.counts.is_none() || !is_statement_timeout(&error) {
                            pause = pause.min(FAILED_PAUSE_MAX);
                        }
                    }
                }
                last.next = asked.then(|| Instant::now() + pause);
            });
        });
        true
    }

    async fn count(&self) -> Result<Counts, sqlx::Error> {
        let mut tx = ReadTx::begin(self.database.reader().acquire().await?, STATEMENT_MAX).await?;
        let counts = stats::count(tx.conn()).await?;
        tx.roll_back().await;
        Ok(counts)
    }
}
