//! Keeps the gaps of this replica in the database, and closes those of all replicas whose groups are verified again.
//!
//! The spool knows a gap first, because it can be written when PostgreSQL cannot. The database has to know it as well: which
//! replica runs a pass is open, and what a gap may have touched is counted there. Noting and closing are idempotent, so every
//! replica does both, at its own time.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::ingest::Writer;
use crate::model::{Millis, SdkAppId};
use crate::spool::Gap;
use crate::store::Database;
use crate::store::gaps::{self, NotedGap};
use crate::store::schema::SchemaState;

/// How often it is looked whether a gap is new, has grown or can be closed.
const PERIOD: Duration = Duration::from_secs(5);

/// After a look that took `t` the next one waits so many times `t` at least: the last look for groups that were never read may
/// pass through all of them.
const PAUSE_FACTOR: u32 = 20;

/// The keeper of one replica.
pub(super) struct GapKeeper {
    pub(super) database: Database,
    pub(super) schema: SchemaState,
    pub(super) writer: Writer,
    /// The apps whose callbacks this process receives. A gap of no known app may be of each of them.
    pub(super) apps: Vec<SdkAppId>,
}

impl GapKeeper {
    /// Goes on until `stop`.
    pub(super) async fn run(self, stop: CancellationToken) {
        let (mut noted, mut pause) = (Vec::new(), PERIOD);
        while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
            if !self.schema.fits() || self.writer.is_breaker_open() {
                continue;
            }
            let (known, begun) = (self.writer.gaps(), Instant::now());
            match stop.run_until_cancelled(self.keep(&known, &noted)).await {
                Some(Ok(())) => noted = known,
                Some(Err(error)) => tracing::debug!(%error, "the gaps could not be kept"),
                None => return,
            }
            pause = PERIOD.max(begun.elapsed() * PAUSE_FACTOR);
        }
    }

    async fn keep(&self, known: &[Gap], noted: &[Gap]) -> Result<(), sqlx::Error> {
        let news: Vec<&Gap> = known.iter().filter(|gap| !noted.contains(gap)).collect();
        let mut tx = self.database.begin("gaps").await?;
        for app in &self.apps {
            let of_app = news.iter().filter(|gap| gap.app.is_none_or(|of| of == app.get()));
            gaps::note(tx.conn(), &[*app], &of_app.map(|gap| note(gap)).collect::<Vec<_>>()).await?;
        }
        let closed = gaps::close(tx.conn()).await?;
        tx.commit().await?;
        for gap in closed {
            let (begin, end) = (gap.first_at.to_rfc3339(), gap.last_at.to_rfc3339());
            tracing::info!(
                gap.begin = begin,
                gap.end = end,
                gap.cause,
                app = gap.sdk_app_id,
                "a gap is closed: every group that it may have touched is verified again"
            );
        }
        Ok(())
    }
}

fn note(gap: &Gap) -> NotedGap<'_> {
    NotedGap {
        first_at: Millis::new(gap.first_ms),
        last_at: Millis::new(gap.last_ms),
        callbacks: gap.callbacks,
        cause: &gap.cause,
    }
}
