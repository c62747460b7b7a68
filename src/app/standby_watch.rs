//! The watch of the standby that `READ_DATABASE_URL` names: looks at it every few seconds, and every second while it is not
//! used.
//!
//! What a look means is `store::standby`'s matter. Without the setting there is no such task.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::store::{Database, KnownPrimary, StandbyReads};

/// How often it is looked at while it is used, and while it is not.
const USED_PERIOD: Duration = Duration::from_secs(5);
const LEFT_PERIOD: Duration = Duration::from_secs(1);

/// Runs until the service stops.
pub(super) async fn watch_standby(database: Database, standby: StandbyReads, stop: CancellationToken) {
    metrics::counter!("group_mirror_read_standby_outages_total").increment(0);
    let watching = async {
        let mut known = KnownPrimary::default();
        loop {
            database.look_at_standby(&mut known).await;
            let is_used = standby.is_used();
            metrics::gauge!("group_mirror_read_standby_used").set(f64::from(u8::from(is_used)));
            tokio::time::sleep(if is_used { USED_PERIOD } else { LEFT_PERIOD }).await;
        }
    };
    stop.run_until_cancelled(Box::pin(watching)).await;
}
