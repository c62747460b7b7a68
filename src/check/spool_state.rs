//! The spool: whether its file can be read, and how much waits in it for PostgreSQL.
//!
//! A running `serve` is asked, because it has the file; without one the file is looked at, under the lock of the data
//! directory and without changing it.

use std::path::Path;

use super::line::{CheckLine, CheckSubject, bytes_shown, span_shown};
use super::service::ServiceState;
use crate::model::Millis;
use crate::spool::SpoolError;
use crate::spool::inspect::{SpoolContent, SpoolInspection, inspect};

/// A callback that waits longer than this in the spool of a running service waits for a person.
const OLD_SECS: i64 = 60;

/// What a running service says of its spool.
#[must_use]
pub fn of_service(state: &ServiceState) -> CheckLine {
    let found = waiting(state.spool_depth, state.spool_bytes, state.spool_oldest_age_secs);
    if state.spool != "ok" {
        let remedy =
            "make room on the volume of DATA_DIR, or raise SPOOL_MAX_BYTES; the log of `serve` has the cause";
        return CheckLine::wrong(CheckSubject::Spool, format!("{}; {found}", state.spool), remedy);
    }
    if state.spool_oldest_age_secs.is_some_and(|age| age > OLD_SECS) {
        let remedy = "they reach the tables once PostgreSQL commits, those of a newer program once that runs: see the lines about \
                      the database, and the log of `serve`";
        return CheckLine::warning(CheckSubject::Spool, found, remedy);
    }
    CheckLine::ok(CheckSubject::Spool, found)
}

fn waiting(depth: u64, bytes: u64, oldest_age_secs: Option<i64>) -> String {
    if depth == 0 {
        return "no callback waits".to_owned();
    }
    let age =
        oldest_age_secs.map_or_else(String::new, |age| format!(", the oldest since {}", span_shown(age)));
    format!("{depth} callbacks wait, {}{age}", bytes_shown(bytes))
}

/// What the file of a directory says on which no `serve` works, and its length. The caller holds the lock of the
/// directory. Blocking.
#[must_use]
pub fn of_file(dir: &Path, now: Millis) -> (CheckLine, u64) {
    match inspect(dir) {
        Ok(None) => (CheckLine::ok(CheckSubject::Spool, "there is none yet; `serve` makes it"), 0),
        Ok(Some(inspection)) => (inspected(&inspection, now), inspection.file_bytes),
        Err(error) => (unusable(&error), 0),
    }
}

fn inspected(inspection: &SpoolInspection, now: Millis) -> CheckLine {
    let length = bytes_shown(inspection.file_bytes);
    match inspection.content {
        SpoolContent::Closed { depth: 0, .. } => {
            CheckLine::ok(CheckSubject::Spool, format!("readable, {length}; no callback waits"))
        }
        SpoolContent::Closed { depth, bytes, oldest } => {
            let age = oldest.map(|oldest| (now.get() - oldest.get()).max(0) / 1000);
            CheckLine::warning(
                CheckSubject::Spool,
                format!("readable, {length}; {}", waiting(depth, bytes, age)),
                "start `serve` here: it brings them to the tables",
            )
        }
        SpoolContent::NotClosed { depth } => {
            let depth = depth.map_or_else(|| "an unknown number of".to_owned(), |depth| depth.to_string());
            CheckLine::warning(
                CheckSubject::Spool,
                format!("{length}, not closed in order (its process was killed); {depth} callbacks wait"),
                "start `serve` here: it recovers the file, about 1 s per GiB, and brings them to the tables",
            )
        }
    }
}

fn unusable(error: &SpoolError) -> CheckLine {
    match error {
        SpoolError::InUse => CheckLine::ok(CheckSubject::Spool, "another process has it open"),
        SpoolError::Damaged(_) => CheckLine::wrong(
            CheckSubject::Spool,
            error.to_string(),
            "start `serve` here: it moves the file aside, salvages what can be read, and notes a gap for the rest",
        ),
        _ => CheckLine::wrong_by(
            CheckSubject::Spool,
            &error.to_string(),
            "look at the file spool.redb of DATA_DIR, and at its disk",
        ),
    }
}
