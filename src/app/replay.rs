//! The `replay` command: folds the ledger again on the database of the settings, shows progress, prints what was found.
//!
//! What a person or a script reads goes to standard output, the progress bar to standard error and only if that is a
//! terminal. Exit code 1 means that `--verify` found differences.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use strum::VariantArray as _;

use super::database::{Cluster, open_database, stop_embedded};
use crate::callback::ReasonCause;
use crate::clock;
use crate::config::Config;
use crate::replay::{self, Mode, ReplayPlace, Report, Retry, unpark};
use crate::store::Database;

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayWanted {
    /// `--verify`.
    pub verify: bool,
    /// `--parked`.
    pub parked: bool,
    /// `--cause`, a label.
    pub cause: Option<String>,
    /// `--resume`, a place.
    pub resume: Option<String>,
}

impl ReplayWanted {
    /// What is to be tried again, if that is what is wanted.
    fn retry(&self) -> anyhow::Result<Option<Retry>> {
        let known = |label: &String| {
            let labels: Vec<_> = ReasonCause::VARIANTS.iter().map(|cause| cause.label()).collect();
            ReasonCause::of_label(label)
                .with_context(|| format!("--cause is {label:?}; it must be one of {}", labels.join(", ")))
        };
        let cause = self.cause.as_ref().map(known).transpose()?;
        Ok(self.parked.then(|| Retry { cause, now: clock::now() }))
    }
}

/// `replay`, `replay --verify`, `replay --parked`.
///
/// # Errors
/// A cause that is none, a database that cannot be used, or another replay that runs.
pub async fn replay(config: &Config, wanted: ReplayWanted) -> anyhow::Result<ExitCode> {
    let retry = wanted.retry()?;
    let from = wanted.resume.as_deref().map_or(Ok(ReplayPlace::start()), str::parse)?;
    let (database, embedded) = open_database(config, Cluster::Required).await?;
    let done = run(&database, wanted.verify, retry, from).await;
    database.close().await;
    stop_embedded(embedded).await?;
    done
}

async fn run(
    database: &Database,
    verify: bool,
    retry: Option<Retry>,
    from: ReplayPlace,
) -> anyhow::Result<ExitCode> {
    let rows = replay::estimate(database).await?;
    if let Some(retry) = retry {
        let bar = bar(rows);
        let counts = unpark(database, retry, |rows| bar.inc(rows)).await?;
        bar.finish_and_clear();
        print(&format!(
            "parked and partial callbacks: {} applied, {} applied in part, {} duplicates, {} unchanged",
            counts.applied, counts.partial, counts.duplicates, counts.unchanged
        ))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mode = if verify { Mode::Verify } else { Mode::Rebuild };
    // Each entry is read twice.
    let bar = bar(rows * 2);
    let report = replay::replay_from(database, mode, from, |rows| bar.inc(rows)).await?;
    let took = bar.elapsed();
    bar.finish_and_clear();
    print_report(&report, mode)?;
    tracing::debug!(duration_ms = took.as_millis(), ledger.rows = report.ledger_rows, "replayed");
    Ok(ExitCode::from(u8::from(verify && report.differences > 0)))
}

fn print_report(report: &Report, mode: Mode) -> anyhow::Result<()> {
    for name in &report.restored {
        print(&format!("{name} was missing and is made anew"))?;
    }
    for line in &report.lines {
        print(line)?;
    }
    let listed = report.lines.len() as u64;
    if report.differences > listed {
        print(&format!("… and {} more", report.differences - listed))?;
    }
    for line in &report.readable_lines {
        print(line)?;
    }
    if report.readable > 0 {
        print(&format!(
            "{} entries can be read further by this version; `group-mirror replay --parked` applies them",
            report.readable
        ))?;
    }
    let done = match (report.differences, mode) {
        (0, _) => "the mirror is what the ledger says",
        (_, Mode::Verify) => {
            "the mirror differs from the ledger; `group-mirror replay` rebuilds what differs"
        }
        (_, Mode::Rebuild) => "the groups that differed are rebuilt",
    };
    print(&format!(
        "{} ledger rows, {} mirror rows, {} differences: {done}",
        report.ledger_rows, report.mirror_rows, report.differences
    ))
}

fn print(line: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}

/// A progress bar on standard error, drawn only if that is a terminal. Its length is the planner's estimate; without one
/// it is a spinner.
fn bar(rows: u64) -> ProgressBar {
    if rows == 0 {
        return ProgressBar::new_spinner();
    }
    let style =
        ProgressStyle::with_template("{bar:40} {human_pos}/~{human_len} ledger rows, {per_sec}, {eta}");
    ProgressBar::new(rows).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
