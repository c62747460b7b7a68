//! The `replay` command: folds the ledger again on the database of the settings, shows progress, prints what was found.
//!
//! What a person or a script reads goes to standard output, the progress bar to standard error and only if that is a
//! terminal. Exit code 1 means that `--verify` found differences.

use std::io::Write as _;
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};

use super::database::{Cluster, open_database, stop_embedded};
use crate::config::Config;
use crate::replay::{self, Mode, Report, unpark};
use crate::store::Database;

/// `replay`, `replay --verify`, `replay --parked`.
///
/// # Errors
/// The database cannot be used, or another replay runs.
pub async fn replay(config: &Config, verify: bool, parked: bool) -> anyhow::Result<ExitCode> {
    let (database, embedded) = open_database(config, Cluster::Required).await?;
    let done = run(&database, verify, parked).await;
    database.close().await;
    stop_embedded(embedded).await?;
    done
}

async fn run(database: &Database, verify: bool, parked: bool) -> anyhow::Result<ExitCode> {
    let bar = bar(replay::estimate(database).await?);
    if parked {
        let counts = unpark(database, |rows| bar.inc(rows)).await?;
        bar.finish_and_clear();
        print(&format!(
            "parked callbacks: {} applied, {} duplicates, {} still parked",
            counts.applied, counts.duplicates, counts.parked
        ))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mode = if verify { Mode::Verify } else { Mode::Rebuild };
    let report = replay::replay(database, mode, |rows| bar.inc(rows)).await?;
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
    let printed = report.lines.len() as u64;
    if report.differences > printed {
        print(&format!("… and {} more", report.differences - printed))?;
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
