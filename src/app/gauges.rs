//! Gauges: metrics that are a state, read off just before each scrape.
//!
//! Counters and histograms stand where things happen. A state has no such place: it is asked for here, so that a scrape
//! shows the moment of the scrape.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::version::{COMMIT, VERSION};
use crate::api::live::LiveFeed;
use crate::api::stats_cache::StatsCache;
use crate::clock;
use crate::ingest::Writer;
use crate::model::{Millis, SdkAppId};
use crate::outbox;
use crate::spool::AppUse;
use crate::store::Database;
use crate::store::schema::newest_migration;
use crate::store::stats::AppCounts;

/// Reads off what is a state, not an event.
pub(super) fn gauges(apps: Vec<SdkAppId>, writer: Writer, database: Database, feed: LiveFeed) -> impl Fn() {
    build_info();
    move || {
        outbox::set_gauges(writer.outbox());
        let spool = writer.spool();
        let age_ms = spool.oldest.map_or(0, |oldest| (clock::now().get() - oldest.get()).max(0));
        #[expect(clippy::cast_precision_loss, reason = "none of these counts reaches 2^53")]
        for (name, value) in [
            ("group_mirror_spool_depth", spool.depth as f64),
            ("group_mirror_spool_bytes", spool.bytes as f64),
            ("group_mirror_spool_oldest_age_seconds", age_ms as f64 / 1000.0),
            ("group_mirror_kept_bytes", writer.kept_bytes() as f64),
            ("group_mirror_followers", feed.follower_count() as f64),
            ("group_mirror_feed_lag_seconds", feed.lag().as_secs_f64()),
            ("group_mirror_breaker_open", f64::from(u8::from(writer.is_database_away()))),
            ("group_mirror_spool_failing", f64::from(u8::from(spool.failure.is_some()))),
        ] {
            metrics::gauge!(name).set(value);
        }
        by_app(&apps, &spool.apps, &writer);
        for (pool, open, idle) in database.connections() {
            let idle = u32::try_from(idle).unwrap_or(u32::MAX);
            let of =
                |state| metrics::gauge!("group_mirror_pool_connections", "pool" => pool, "state" => state);
            of("idle").set(f64::from(idle));
            of("used").set(f64::from(open.saturating_sub(idle)));
        }
    }
}

/// What runs.
fn build_info() {
    let (newest_migration, _) = newest_migration();
    metrics::gauge!(
        "group_mirror_build_info", "version" => VERSION, "commit" => COMMIT, "schema" => newest_migration.to_string()
    )
    .set(1.0);
}

/// What each app that is served has in the spool, and set aside.
fn by_app(served: &[SdkAppId], in_spool: &BTreeMap<SdkAppId, AppUse>, writer: &Writer) {
    for app in served {
        let of_app = in_spool.get(app).copied().unwrap_or_default();
        let label = || app.to_string();
        #[expect(clippy::cast_precision_loss, reason = "none of these counts reaches 2^53")]
        let (depth, bytes, aside) =
            (of_app.depth as f64, of_app.bytes as f64, writer.set_aside(*app).len() as f64);
        metrics::gauge!("group_mirror_app_spool_depth", "app" => label()).set(depth);
        metrics::gauge!("group_mirror_app_spool_bytes", "app" => label()).set(bytes);
        metrics::gauge!("group_mirror_set_aside_current", "app" => label()).set(aside);
    }
}

/// How fresh the groups are, as they were last counted for `/v1/stats`: at most five minutes ago, or twenty times as long as
/// a count takes.
pub(super) struct FreshnessGauges {
    pub(super) counts: StatsCache,
    /// Knows the newest callbacks of this process.
    pub(super) writer: Writer,
    /// The apps that are served.
    pub(super) apps: Vec<SdkAppId>,
}

impl FreshnessGauges {
    /// Sets the gauges of each app.
    pub(super) fn set(&self) {
        let counts = self.counts.last();
        for app in &self.apps {
            let of_app = counts.as_ref().and_then(|counts| counts.apps.get(&app.get()));
            Self::set_app(*app, of_app);
            self.set_last_callback(*app, of_app);
        }
    }

    /// As far as is known: to this process, which is exact, and to all replicas as counted.
    fn set_last_callback(&self, app: SdkAppId, of_app: Option<&AppCounts>) {
        let counted = of_app.and_then(|counts| counts.last_callback_at).map(|at| at.timestamp_millis());
        let last = self.writer.last_received(app).map(Millis::get).max(counted);
        #[expect(clippy::cast_precision_loss, reason = "no time reaches 2^53")]
        let secs = last.map_or(f64::NAN, |last| last as f64 / 1000.0);
        metrics::gauge!("group_mirror_last_callback_timestamp_seconds", "app" => app.to_string()).set(secs);
    }

    /// What is not known is no number.
    fn set_app(app: SdkAppId, of_app: Option<&AppCounts>) {
        let fresh = of_app.and_then(|counts| counts.freshness.as_ref());
        #[expect(clippy::cast_precision_loss, reason = "neither times nor counts reach 2^53")]
        let age = |at: Option<DateTime<Utc>>| {
            at.map_or(f64::NAN, |at| (clock::now().get() - at.timestamp_millis()).max(0) as f64 / 1000.0)
        };
        #[expect(clippy::cast_precision_loss, reason = "none of these counts reaches 2^53")]
        let count = |count: Option<i64>| count.map_or(f64::NAN, |count| count as f64);
        let open = |gaps: usize| i64::try_from(gaps).unwrap_or(i64::MAX);
        let open_gaps =
            of_app.map(|counts| open(counts.gaps.iter().filter(|gap| gap.gap.closed_at.is_none()).count()));
        for (name, value) in [
            ("group_mirror_verification_oldest_seconds", age(fresh.and_then(|fresh| fresh.oldest_whole_at))),
            ("group_mirror_verification_p999_seconds", age(fresh.and_then(|fresh| fresh.p999_whole_at))),
            ("group_mirror_verification_outstanding", count(fresh.map(|fresh| fresh.outstanding))),
            ("group_mirror_verification_never", count(fresh.map(|fresh| fresh.never_verified))),
            ("group_mirror_gaps_open", count(open_gaps)),
        ] {
            metrics::gauge!(name, "app" => app.to_string()).set(value);
        }
    }
}
