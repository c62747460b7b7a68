//! The first way in which a callback could be made durable, for which accepting waits a moment.
//!
//! Connections wait in the queue of the listener meanwhile, which costs a callback less than a wait for a spool whose file
//! takes seconds to open.

use std::time::Duration;

use tokio::sync::watch;

use crate::spool::{SpoolError, SpoolStatus};
use crate::store::schema::SchemaState;

/// How long accepting waits for a first way to make a callback durable, database or spool. Only a large spool that has
/// to be recovered takes longer to open; the database of a good start answers within this time.
pub(super) const FIRST_WAY_WAIT_MAX: Duration = Duration::from_millis(500);

/// Waits until a callback could be made durable in one way at least, but not long: connections wait in the listener's
/// queue meanwhile, and a callback that waits there for the database is answered sooner than one that waits in the
/// spool's queue for a file that takes seconds to open.
pub(super) async fn wait_for_first_way(schema: &SchemaState, mut spool: watch::Receiver<SpoolStatus>) {
    let opened = spool.wait_for(|status| status.failure != Some(SpoolError::Opening));
    let first = async {
        tokio::select! {
            () = schema.fitting() => {}
            _ = opened => {}
        }
    };
    let _ = tokio::time::timeout(FIRST_WAY_WAIT_MAX, first).await;
}
