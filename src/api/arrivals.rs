//! How far the feed has come, for readers inside the process that look at the newest entries themselves.
//!
//! A follower sends every entry; a page that shows the last few wants to know only that there are new ones, and up to which
//! position none can appear any more. It counts as one reader of the live feed while it is held.

use std::sync::Arc;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use super::live::LiveFeed;
use super::segment::Segment;

/// A reader of the high watermark.
#[derive(Debug)]
pub(crate) struct Arrivals(Receiver<Arc<Segment>>);

impl Arrivals {
    /// From now on.
    pub(crate) fn of(feed: &LiveFeed) -> Self {
        Self(feed.segments())
    }

    /// Waits for the next part of the feed; the position up to which it is complete then. What was missed counts as
    /// come. `None`: there is no feed any more.
    pub(crate) async fn next(&mut self) -> Option<i64> {
        loop {
            match self.0.recv().await {
                Ok(segment) => return Some(self.newest(segment.to.position)),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// Takes what waits already: the end of the last part is the one that counts.
    fn newest(&mut self, first: i64) -> i64 {
        let mut position = first;
        while let Ok(segment) = self.0.try_recv() {
            position = segment.to.position;
        }
        position
    }
}
