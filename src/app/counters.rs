//! Counters at zero: each exists with every label value from the start.
//!
//! A rule such as `increase(group_mirror_lost_total[5m]) > 0` does not see the first loss of a counter that begins with
//! it. The lists below are the labels that the parts of the service use.

use strum::VariantArray as _;

use crate::callback::STATE_COMMANDS;
use crate::refusals::RefusalCause;

/// What a callback of a state command can come to.
const OUTCOMES: [&str; 6] = ["applied", "partial", "duplicate", "parked", "spooled", "not_durable"];

/// Why an authentic callback was not durable: the causes of the receiver, then those of the writer and the spool.
const LOSS_CAUSES: [&str; 13] = [
    "too_large",
    "broken_off",
    "budget",
    "reading",
    "fault",
    "queue_full",
    "stopping",
    "too_late",
    "spool_full",
    "disk_full",
    "spool_busy",
    "spool_broken",
    "spool_damaged",
];

/// Sets every counter to zero that has not been increased yet.
pub(super) fn register_counters() {
    for name in ["gaps", "spooled", "drained", "transaction_retries"] {
        metrics::counter!(format!("group_mirror_{name}_total")).increment(0);
    }
    for cause in RefusalCause::VARIANTS {
        metrics::counter!("group_mirror_refusals_total", "cause" => cause.label()).increment(0);
    }
    for cause in LOSS_CAUSES {
        metrics::counter!("group_mirror_lost_total", "cause" => cause).increment(0);
    }
    for direction in ["back", "forward"] {
        metrics::counter!("group_mirror_clock_steps_total", "direction" => direction).increment(0);
    }
    for command in STATE_COMMANDS {
        for outcome in OUTCOMES {
            metrics::counter!("group_mirror_callbacks_total", "command" => command, "outcome" => outcome)
                .increment(0);
        }
    }
    metrics::counter!("group_mirror_callbacks_total", "command" => "none", "outcome" => "empty").increment(0);
}
