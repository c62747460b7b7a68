//! Logs and metrics: one subscriber, one recorder, the help text of every metric.
//!
//! Logs never hold bodies, tokens, signatures, query strings or user-defined values; labels of metrics hold no id but that of
//! the app. All logs go to standard error; standard output belongs to what a command prints.

use std::io::IsTerminal as _;
use std::time::Duration;

use anyhow::Context as _;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// How often histograms are folded (the exporter keeps every sample until then) and gauges are read off.
const UPKEEP_PERIOD: Duration = Duration::from_secs(1);

/// Bounds of the histograms of time, in seconds: from a fast commit to the two seconds that Tencent waits.
const SECONDS: [f64; 12] = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0];

/// Bounds of the histogram of batches, in callbacks.
const CALLBACKS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// The only lines of the driver under this name quote values of `DATABASE_URL`, a mistyped password's too; `store` warns instead.
const MUTED: &str = "sqlx_postgres::options::parse=off";

/// Starts logging.
///
/// # Errors
/// A text that is no filter.
pub fn start_logging(format: LogFormat, filter: &str) -> anyhow::Result<()> {
    let filter = log_filter(filter)?.add_directive(MUTED.parse()?);
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Json => builder.json().flatten_event(true).init(),
        // Colours are for a person who looks at it now, not for a file.
        LogFormat::Text => builder.with_target(false).with_ansi(std::io::stderr().is_terminal()).init(),
    }
    Ok(())
}

/// Reads a filter of log lines.
///
/// # Errors
/// A text that is no filter.
pub fn log_filter(filter: &str) -> anyhow::Result<EnvFilter> {
    EnvFilter::try_new(filter)
        .with_context(|| format!("RUST_LOG is {filter:?}; it should read like info or group_mirror=debug"))
}

/// Starts the recorder; the handle renders what `/metrics` shows. A second call in one process gets a recorder of its
/// own, which stays empty.
///
/// # Errors
/// None in practice; the bounds are not empty.
pub fn start_metrics() -> anyhow::Result<PrometheusHandle> {
    let suffix = |text: &str| Matcher::Suffix(text.to_owned());
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(suffix("_seconds"), &SECONDS)?
        .set_buckets_for_metric(suffix("batch_callbacks"), &CALLBACKS)?
        .build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_ok() {
        describe();
        describe_passes();
        describe_outbox();
        describe_process();
    }
    Ok(handle)
}

/// Keeps the histograms small, and the gauges that `read_off` sets up to date, until `stop`.
pub async fn keep_up(handle: PrometheusHandle, read_off: impl Fn(), stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(UPKEEP_PERIOD)).await.is_some() {
        handle.run_upkeep();
        read_off();
    }
}

/// What is kept, sent again, and read elsewhere.
fn describe_failover() {
    use metrics::{describe_counter, describe_gauge};

    describe_gauge!(
        "group_mirror_read_standby_used",
        "1 while lists and lookups are read from READ_DATABASE_URL, else 0."
    );
    describe_counter!(
        "group_mirror_read_standby_outages_total",
        "Times when the database of READ_DATABASE_URL began not to be used."
    );
    describe_gauge!("group_mirror_kept_bytes", "Bytes of records that are kept for KEEP_ANSWERED_SECS.");
    describe_counter!(
        "group_mirror_kept_dropped_bytes_total",
        "Bytes of such records that went before their time: for room, or because they could not be written."
    );
    describe_counter!(
        "group_mirror_resent_total",
        "Callbacks answered before that were put into the spool again, because the database lacked commits."
    );
}

fn describe_freshness() {
    use metrics::{describe_counter, describe_gauge};
    describe_counter!(
        "group_mirror_drift_repaired_total",
        "Differences that callbacks should have said and a read of the REST API has mended, by kind: losses."
    );
    describe_counter!(
        "group_mirror_drift_silent_total",
        "Differences that no callback says and a read of the REST API has mended, by kind."
    );
    describe_counter!(
        "group_mirror_drift_found_total",
        "What a read of the REST API said and the mirror did not claim to know, by kind."
    );
    describe_gauge!(
        "group_mirror_verification_oldest_seconds",
        "Age of the oldest verification of a group, profile and members; NaN while none is known."
    );
    describe_gauge!(
        "group_mirror_verification_p999_seconds",
        "99.9th percentile of the age of verification; NaN while none is known."
    );
    describe_gauge!(
        "group_mirror_verification_outstanding",
        "Groups whose profile or members were not verified within 24 hours."
    );
    describe_gauge!(
        "group_mirror_verification_never",
        "Groups whose profile or members were never verified."
    );
    describe_gauge!("group_mirror_gaps_open", "Gaps whose groups are not all verified again.");
    describe_gauge!(
        "group_mirror_partitions_ahead_seconds",
        "For how long from now on the ledger has partitions, as far as this process knows; from its first look on."
    );
}

fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_relay();
    describe_listeners();
    describe_counter!("group_mirror_callbacks_total", "Verified callbacks by command, outcome and app.");
    describe_counter!("group_mirror_parked_total", "New ledger entries that are parked, by cause.");
    describe_counter!(
        "group_mirror_partial_total",
        "New ledger entries with parts that could not be read, by cause."
    );
    describe_counter!("group_mirror_clock_steps_total", "Jumps of the host's clock, by direction.");
    describe_counter!(
        "group_mirror_refusals_total",
        "Requests to the callback listener that were not taken, by cause, and by app where one of ours was named."
    );
    describe_histogram!(
        "group_mirror_answer_seconds",
        "Time from receipt to answer of a callback, in seconds."
    );
    describe_histogram!("group_mirror_batch_callbacks", "Callbacks per committed batch.");
    describe_histogram!(
        "group_mirror_transaction_seconds",
        "Time of committed transactions, in seconds, by name."
    );
    describe_counter!(
        "group_mirror_transaction_retries_total",
        "Transactions tried again after a serialization failure or a deadlock."
    );
    describe_counter!(
        "group_mirror_set_aside_total",
        "Times when a group, a command of a group or a callback failed by itself and was set aside."
    );
    describe_counter!("group_mirror_spooled_total", "Callbacks written to the spool.");
    describe_counter!("group_mirror_drained_total", "Callbacks of the spool that are in the database.");
    describe_counter!(
        "group_mirror_salvaged_total",
        "Records of damaged files of the spool that were whole and are in the spool again."
    );
    describe_counter!(
        "group_mirror_lost_total",
        "Callbacks answered with 503, not known durable, or gone from a damaged spool, by cause, and by app where that is known."
    );
    describe_counter!("group_mirror_gaps_total", "Times when callbacks began not to be durable.");
    describe_freshness();
    describe_failover();
    describe_gauge!("group_mirror_spool_depth", "Callbacks in the spool.");
    describe_gauge!("group_mirror_spool_bytes", "Bytes of the spool's limit that are taken.");
    describe_gauge!("group_mirror_app_spool_depth", "Callbacks of an app in the spool.");
    describe_gauge!("group_mirror_app_spool_bytes", "Bytes of the spool's limit that an app takes.");
    describe_gauge!("group_mirror_spool_oldest_age_seconds", "Age of the oldest callback in the spool.");
    describe_gauge!(
        "group_mirror_breaker_open",
        "1 while the database does not commit or does not fit, so that callbacks need the spool, else 0."
    );
    describe_gauge!(
        "group_mirror_database_fits",
        "1 while the database that was reached has this program's schema and the known id, else 0."
    );
    describe_gauge!("group_mirror_followers", "Clients of the stream of /v1/changes.");
    describe_gauge!(
        "group_mirror_feed_lag_seconds",
        "For how long the feed has not reached the end of the ledger; 0 while it does."
    );
    describe_counter!("group_mirror_logins_total", "Tokens entered in the login form, by outcome.");
    describe_counter!("group_mirror_feed_outages_total", "Times when the feed began not to be readable.");
    describe_gauge!("group_mirror_pool_connections", "Connections of a pool, used and idle.");
}

/// What runs, and what it does for readers.
fn describe_process() {
    use metrics::{describe_counter, describe_gauge};
    describe_gauge!(
        "group_mirror_build_info",
        "1, with the version, the commit and the newest migration of the program as labels."
    );
    describe_gauge!(
        "group_mirror_spool_failing",
        "1 while the spool takes no callback: its disk is full or fails, it is at its limit or not open yet; else 0."
    );
    describe_gauge!(
        "group_mirror_set_aside_current",
        "Groups, commands and callbacks of an app that are set aside now."
    );
    describe_gauge!(
        "group_mirror_last_callback_timestamp_seconds",
        "Receipt of the newest callback of an app that is known, in Unix seconds; NaN where none is known."
    );
    describe_counter!(
        "group_mirror_reads_total",
        "Answers of the internal listener by path and status; path is the template of the route, or other."
    );
    describe_counter!(
        "group_mirror_trace_spans_total",
        "Sampled spans by result: sent to the collector (exported), or lost because it did not take the request. Those that a full \
         queue drops are in neither, and those that the collector rejects in an answer count as exported."
    );
    #[cfg(target_os = "linux")]
    metrics_process::Collector::default().describe();
}

fn describe_passes() {
    use metrics::{describe_counter, describe_gauge};
    describe_gauge!(
        "group_mirror_pass_leader",
        "1 while this process makes the passes over Tencent's REST API, else 0."
    );
    describe_gauge!(
        "group_mirror_pass_stopped",
        "Apps whose pass is stopped and waits to be tried again; the log and reconcile_passes say why."
    );
    describe_counter!("group_mirror_passes_total", "Passes over all groups of an app, by how they ended.");
}

fn describe_outbox() {
    use metrics::{describe_counter, describe_gauge};
    describe_counter!(
        "group_mirror_relay_delivered_total",
        "Stored callbacks that the backend behind the mirror has taken, by app."
    );
    describe_counter!(
        "group_mirror_relay_late_total",
        "Those of them that were not delivered at once, and were signed anew."
    );
    describe_counter!("group_mirror_relay_failed_total", "Attempts to deliver that failed, by app.");
    describe_counter!(
        "group_mirror_relay_skipped_total",
        "Stored callbacks that the backend did not take and that are not tried any more."
    );
    describe_counter!(
        "group_mirror_relay_refusing_answers_total",
        "Deliveries that the backend has answered with an ErrorCode other than 0."
    );
    describe_gauge!(
        "group_mirror_relay_backlog_rows",
        "Stored callbacks that wait for the backend, of all processes on the database, by app."
    );
    describe_gauge!(
        "group_mirror_relay_backlog_age_seconds",
        "Age of the oldest of them, since its receipt; 0 where none waits."
    );
}

fn describe_relay() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_counter!(
        "group_mirror_relayed_total",
        "Calls of the backend of RELAY_URL by app, class (verdict, notice) and result."
    );
    describe_histogram!(
        "group_mirror_relay_seconds",
        "Time of a call of the backend of RELAY_URL, by class: verdict, notice."
    );
    describe_counter!(
        "group_mirror_relay_fallbacks_total",
        "Callbacks that waited for a verdict and got the fallback, by app and cause."
    );
    describe_counter!(
        "group_mirror_relay_dropped_total",
        "Notifications that were not passed on to the backend, by app and cause."
    );
    describe_gauge!(
        "group_mirror_relay_breaker_open",
        "1 while the backend of an app is not called, trials aside, by class: verdict, notice; else 0."
    );
}

fn describe_listeners() {
    use metrics::{describe_counter, describe_gauge};
    describe_gauge!("group_mirror_connections", "Open connections of a listener.");
    describe_counter!(
        "group_mirror_accept_waits_total",
        "New connections that waited because all connections of the listener were taken."
    );
    describe_counter!(
        "group_mirror_connections_closed_total",
        "Connections that were closed to make room for a new one, by cause: silent or idle."
    );
    describe_counter!(
        "group_mirror_handshake_failures_total",
        "TLS handshakes of a listener that failed, by cause."
    );
    describe_counter!(
        "group_mirror_certificate_reloads_total",
        "Changed certificate files of a listener, by result: loaded or failed."
    );
    describe_gauge!(
        "group_mirror_certificate_expiry_seconds",
        "Time until the certificate of a listener expires, in seconds; negative once it has."
    );
}
