//! Permits for lists whose cost an index does not bound: a bulkhead between them and the reads that cost a page.
//!
//! Such a list takes a connection and a core for as long as a statement may run. Without a limit of their own a few dozen
//! at once, each a search by name, held every connection until all of them ran out of their time together. So one search
//! runs at a time and a few lists of matches, the rest wait for a permit in the order in which they came, and a list that
//! waits too long gets 503 with `Retry-After`.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::errors::ApiError;
use crate::replay::as_of::{FOLDS_MAX, PAGES_MAX, PERMIT_WAIT_MAX};
use crate::store::READER_CONNECTIONS_MAX;
use crate::store::group_list::ListCost;

/// How many searches through all groups run at once. Each takes a core, and callbacks and other reads need theirs.
const SEARCHES_MAX: usize = 1;

/// How many lists run at once that read all matches of a filter.
const MATCHES_MAX: usize = 3;

/// All reads with a permit together leave connections for lists that need none.
const _: () = assert!(
    SEARCHES_MAX + MATCHES_MAX + FOLDS_MAX + PAGES_MAX < READER_CONNECTIONS_MAX as usize,
    "reads with permits hold every connection for lists"
);

/// How many of the costly lists run. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ListPermits {
    searches: Arc<Semaphore>,
    matches: Arc<Semaphore>,
}

impl Default for ListPermits {
    fn default() -> Self {
        Self {
            searches: Arc::new(Semaphore::new(SEARCHES_MAX)),
            matches: Arc::new(Semaphore::new(MATCHES_MAX)),
        }
    }
}

impl ListPermits {
    /// Waits for the permit that a list of this cost needs, in the order of asking; none is needed for a page.
    ///
    /// # Errors
    /// `unavailable`, after 5 s.
    pub(super) async fn take(&self, cost: ListCost) -> Result<Option<OwnedSemaphorePermit>, ApiError> {
        let (permits, what) = match cost {
            ListCost::Page => return Ok(None),
            ListCost::Matches => (&self.matches, "Too many lists that read all matches of a filter"),
            ListCost::Search => (&self.searches, "Too many lists that search all groups"),
        };
        let permit = timeout(PERMIT_WAIT_MAX, Arc::clone(permits).acquire_owned()).await;
        let permit = permit.ok().and_then(Result::ok).ok_or_else(|| {
            ApiError::unavailable(format!(
                "{what} are asked for at once; try again. Filters by status and time, and group_id, need not wait."
            ))
        })?;
        Ok(Some(permit))
    }
}
