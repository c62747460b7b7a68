//! The `prune` command: old entries of the ledger become checkpoints, and the command prints what it dropped.
//!
//! It works on the database alone, beside any number of `serve`, with the role that owns the tables.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use indicatif::ProgressBar;

use super::database::{Cluster, open_database, stop_embedded};
use crate::api;
use crate::cli::PruneArgs;
use crate::clock;
use crate::config::Settings;
use crate::retention::{self, PruneWanted, Pruned};
use crate::store::{Database, feed, schema};

/// `prune`.
///
/// # Errors
/// An argument that cannot be read, no time to prune before, no database, one whose schema is not this program's, a replay that
/// runs, a role that does not own the tables; one line.
pub async fn prune(settings: &Settings, args: &PruneArgs) -> anyhow::Result<ExitCode> {
    let before = before(settings, args)?;
    let (database, embedded) = open_database(&settings.config(), Cluster::Required).await?;
    let done = run(&database, settings, args, before).await;
    database.close().await;
    stop_embedded(embedded).await?;
    done
}

/// The time before which is pruned: that of the command line, else what the setting makes of now.
fn before(settings: &Settings, args: &PruneArgs) -> anyhow::Result<DateTime<Utc>> {
    let now = DateTime::from_timestamp_millis(clock::now().get()).context("the clock says no time")?;
    let before = match (&args.before, settings.ledger_keep_days()?) {
        (Some(text), _) => DateTime::parse_from_rfc3339(text).map(|time| time.to_utc()).map_err(|_| {
            anyhow::anyhow!("--before is {text:?}; it must be a time such as 2026-01-01T00:00:00Z")
        })?,
        (None, 0) => {
            bail!("LEDGER_KEEP_DAYS is 0, which keeps every entry; set it, or name a time by --before")
        }
        (None, days) => now - TimeDelta::days(days.into()),
    };
    ensure!(before <= now, "--before is {}, which is in the future", shown(before));
    Ok(before)
}

async fn run(
    database: &Database,
    settings: &Settings,
    args: &PruneArgs,
    before: DateTime<Utc>,
) -> anyhow::Result<ExitCode> {
    let mut conn = database.connect().await?;
    if let Some(mismatch) = schema::check(&mut conn).await? {
        bail!("{mismatch}");
    }
    let follower = match &args.follower {
        None => None,
        Some(cursor) => {
            let read = settings.apps()?.iter().find_map(|app| api::feed_place(app.app, cursor));
            let (epoch, place) =
                read.context("--follower is no cursor of the feed of an app of SDK_APP_ID")?;
            ensure!(
                place.position >= feed::dropped(&mut conn).await?.position,
                "--follower is a cursor behind which entries were pruned before"
            );
            ensure!(
                epoch == feed::epoch(&mut conn).await? && feed::holds(&mut conn, &place).await?,
                "--follower is a cursor of another ledger: its database was restored or replaced"
            );
            Some(place)
        }
    };
    let wanted = PruneWanted { before, follower, forced: args.force };
    if args.dry_run {
        print_counted(&wanted, &retention::count(database, &wanted).await?)?;
    } else {
        let bar = ProgressBar::new_spinner();
        let done = retention::prune(database, &wanted, |entries| bar.inc(entries)).await;
        bar.finish_and_clear();
        print_pruned(&wanted, &done?)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print_counted(wanted: &PruneWanted, counted: &Pruned) -> anyhow::Result<()> {
    let Some(until) = counted.until else { return print_nothing(wanted) };
    print(&format!(
        "{} entries of a time before {} would become checkpoints",
        counted.entries,
        shown(until)
    ))?;
    print(&format!("{} older entries would stay; nothing was written", counted.staying))
}

fn print_pruned(wanted: &PruneWanted, pruned: &Pruned) -> anyhow::Result<()> {
    let Some(until) = pruned.until else { return print_nothing(wanted) };
    print(&format!("{} entries of {} groups are in checkpoints now", pruned.entries, pruned.groups))?;
    print(&format!(
        "{} partitions were dropped; {} older entries stay: they were received later, are not wholly applied, are known by \
         their request alone, or wait for the relay",
        pruned.partitions, pruned.staying
    ))?;
    print(&format!("the ledger was locked for {:.3} s", pruned.locked.as_secs_f64()))?;
    print(&format!("history is whole from {} on", shown(until)))
}

fn print_nothing(wanted: &PruneWanted) -> anyhow::Result<()> {
    print(&format!(
        "nothing to prune: no whole partition of the ledger has entries that count from, and were received, before {}",
        shown(wanted.before)
    ))
}

fn shown(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

fn print(line: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}
