//! Counters at zero: each exists with every label value from the start.
//!
//! A rule such as `increase(group_mirror_lost_total[5m]) > 0` does not see the first loss of a counter that begins with
//! it. The lists below are the labels that the parts of the service use.

use strum::VariantArray as _;

use crate::api;
use crate::callback::STATE_COMMANDS;
use crate::ingest;
use crate::model::SdkAppId;
use crate::refusals::RefusalCause;
use crate::spool::{DAMAGED, KEPT_DROPPED, KEPT_UNREAD};

/// What a callback of a state command can come to.
const OUTCOMES: [&str; 6] = ["applied", "partial", "duplicate", "parked", "spooled", "not_durable"];

/// Why an authentic callback of an app was not durable: the causes of the receiver, of the writer, and of the spool.
const LOSS_CAUSES: [&str; 12] = [
    "too_large",
    "broken_off",
    "budget",
    "reading",
    "queue_full",
    "stopping",
    "too_late",
    "spool_full",
    "disk_full",
    "spool_busy",
    "spool_opening",
    "spool_broken",
];

/// Why a request that names an app of this service is not taken.
const REFUSALS_OF_AN_APP: [RefusalCause; 8] = [
    RefusalCause::Missing,
    RefusalCause::Stale,
    RefusalCause::Wrong,
    RefusalCause::TooLarge,
    RefusalCause::BrokenOff,
    RefusalCause::Budget,
    RefusalCause::Reading,
    RefusalCause::NotDurable,
];

/// Sets every counter to zero that has not been increased yet. What is counted by app has a series for each app; what can
/// happen before the app is known, or to all of them, has one without.
pub(super) fn register_counters(apps: &[SdkAppId]) {
    ingest::register_drift_counters();
    for name in [
        "gaps",
        "spooled",
        "drained",
        "salvaged",
        "resent",
        "kept_dropped_bytes",
        "transaction_retries",
        "feed_outages",
    ] {
        metrics::counter!(format!("group_mirror_{name}_total")).increment(0);
    }
    for end in ["ended", "stopped"] {
        metrics::counter!("group_mirror_passes_total", "end" => end).increment(0);
    }
    for name in ["group_mirror_database_fits", "group_mirror_pass_leader", "group_mirror_pass_stopped"] {
        metrics::gauge!(name).set(0.0);
    }
    for cause in RefusalCause::VARIANTS {
        // A connection may break off inside a head as well, before an app is named.
        if REFUSALS_OF_AN_APP.contains(cause) && *cause != RefusalCause::BrokenOff {
            continue;
        }
        metrics::counter!("group_mirror_refusals_total", "cause" => cause.label()).increment(0);
    }
    for cause in [RefusalCause::Fault.label(), DAMAGED, KEPT_DROPPED, KEPT_UNREAD] {
        metrics::counter!("group_mirror_lost_total", "cause" => cause).increment(0);
    }
    for outcome in ["accepted", "refused"] {
        metrics::counter!("group_mirror_logins_total", "outcome" => outcome).increment(0);
    }
    for direction in ["back", "forward"] {
        metrics::counter!("group_mirror_clock_steps_total", "direction" => direction).increment(0);
    }
    metrics::counter!("group_mirror_callbacks_total", "command" => "none", "outcome" => "empty").increment(0);
    register_reads();
    apps.iter().for_each(|app| register_app(&app.to_string()));
}

/// The answers of the read API that an operator compares; other statuses appear when they come.
fn register_reads() {
    for path in api::paths() {
        for status in ["200", "500", "503"] {
            metrics::counter!(api::READS_TOTAL, "path" => path.clone(), "status" => status).increment(0);
        }
    }
}

fn register_app(app: &str) {
    let app = || app.to_owned();
    for cause in REFUSALS_OF_AN_APP {
        metrics::counter!("group_mirror_refusals_total", "cause" => cause.label(), "app" => app())
            .increment(0);
    }
    for cause in LOSS_CAUSES {
        metrics::counter!("group_mirror_lost_total", "cause" => cause, "app" => app()).increment(0);
    }
    for (command, outcome) in
        STATE_COMMANDS.into_iter().flat_map(|command| OUTCOMES.map(|outcome| (command, outcome)))
    {
        metrics::counter!("group_mirror_callbacks_total", "command" => command, "outcome" => outcome, "app" => app())
            .increment(0);
    }
}

#[cfg(test)]
mod tests {
    use super::LOSS_CAUSES;
    use crate::ingest::SubmitError;
    use crate::refusals::RefusalCause;
    use crate::spool::SpoolError;

    #[test]
    fn every_cause_of_a_loss_is_counted_from_the_start() {
        let text = String::new;
        let spool = [
            SpoolError::Full,
            SpoolError::DiskFull,
            SpoolError::Busy,
            SpoolError::Closed,
            SpoolError::Opening,
            SpoolError::InUse,
            SpoolError::Damaged(text()),
            SpoolError::Broken(text()),
        ];
        let writer = [SubmitError::Full, SubmitError::Closed, SubmitError::Late];
        let labels = spool.iter().map(SpoolError::label).chain(writer.iter().map(SubmitError::label));
        let receiver =
            [RefusalCause::TooLarge, RefusalCause::BrokenOff, RefusalCause::Budget, RefusalCause::Reading];
        for label in labels.chain(receiver.map(RefusalCause::label)) {
            assert!(LOSS_CAUSES.contains(&label), "{label}");
        }
    }
}
