//! Gauges: metrics that are a state, read off just before each scrape.
//!
//! Counters and histograms stand where things happen. A state has no such place: it is asked for here, so that a scrape
//! shows the moment of the scrape.

use std::collections::BTreeMap;

use crate::api::live::LiveFeed;
use crate::clock;
use crate::ingest::Writer;
use crate::model::SdkAppId;
use crate::outbox;
use crate::spool::AppUse;
use crate::store::Database;

/// Reads off what is a state, not an event.
pub(super) fn gauges(apps: Vec<SdkAppId>, writer: Writer, database: Database, feed: LiveFeed) -> impl Fn() {
    move || {
        outbox::set_gauges(writer.outbox());
        let spool = writer.spool();
        let age_ms = spool.oldest.map_or(0, |oldest| (clock::now().get() - oldest.get()).max(0));
        #[expect(clippy::cast_precision_loss, reason = "none of these counts reaches 2^53")]
        for (name, value) in [
            ("group_mirror_spool_depth", spool.depth as f64),
            ("group_mirror_spool_bytes", spool.bytes as f64),
            ("group_mirror_spool_oldest_age_seconds", age_ms as f64 / 1000.0),
            ("group_mirror_followers", feed.follower_count() as f64),
            ("group_mirror_feed_lag_seconds", feed.lag().as_secs_f64()),
            ("group_mirror_breaker_open", f64::from(u8::from(writer.is_breaker_open()))),
        ] {
            metrics::gauge!(name).set(value);
        }
        by_app(&apps, &spool.apps);
        for (pool, open, idle) in database.connections() {
            let idle = u32::try_from(idle).unwrap_or(u32::MAX);
            let of =
                |state| metrics::gauge!("group_mirror_pool_connections", "pool" => pool, "state" => state);
            of("idle").set(f64::from(idle));
            of("used").set(f64::from(open.saturating_sub(idle)));
        }
    }
}

/// What each app that is served has in the spool.
fn by_app(served: &[SdkAppId], in_spool: &BTreeMap<SdkAppId, AppUse>) {
    for app in served {
        let of_app = in_spool.get(app).copied().unwrap_or_default();
        let label = || app.to_string();
        #[expect(clippy::cast_precision_loss, reason = "neither count reaches 2^53")]
        let (depth, bytes) = (of_app.depth as f64, of_app.bytes as f64);
        metrics::gauge!("group_mirror_app_spool_depth", "app" => label()).set(depth);
        metrics::gauge!("group_mirror_app_spool_bytes", "app" => label()).set(bytes);
    }
}
