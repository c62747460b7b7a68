//! The `erase-user` command: a person's id becomes a pseudonym everywhere, and the command prints what it touched.
//!
//! It works on the database alone, beside any number of `serve`. Exit code 1 means that the id still stands somewhere.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, ensure};

use super::database::{Cluster, open_database, stop_embedded};
use crate::cli::EraseUserArgs;
use crate::clock;
use crate::config::Settings;
use crate::model::{SdkAppId, UserId};
use crate::retention::{self, Erased, ErasureWanted, PersonFound};
use crate::store::{Database, schema};

/// `erase-user`.
///
/// # Errors
/// An argument that cannot be read, no database, one whose schema is not this program's, a replay that runs; one line.
pub async fn erase_user(settings: &Settings, args: &EraseUserArgs) -> anyhow::Result<ExitCode> {
    let apps: Vec<SdkAppId> = settings.apps()?.iter().map(|app| app.app).collect();
    let named = args.app.as_deref().map(SdkAppId::parse).transpose().context("--app")?;
    let app = named.unwrap_or(apps[0]);
    ensure!(apps.contains(&app), "--app is {app}, which is not one of SDK_APP_ID");
    let user = UserId::parse(&args.user)?;
    let wanted = ErasureWanted { app, user, now: clock::now(), stays_erased: args.stay_erased };
    let (database, embedded) = open_database(&settings.config(), Cluster::Required).await?;
    let done = run(&database, &wanted, args.dry_run).await;
    database.close().await;
    stop_embedded(embedded).await?;
    done
}

async fn run(database: &Database, wanted: &ErasureWanted, is_dry_run: bool) -> anyhow::Result<ExitCode> {
    let mut conn = database.connect().await?;
    if let Some(mismatch) = schema::check(&mut conn).await? {
        anyhow::bail!("{mismatch}");
    }
    if is_dry_run {
        let found = retention::search(database, wanted.app, &wanted.user).await?;
        for ((table, column), rows) in found.rows.iter().filter(|(_, rows)| **rows > 0) {
            print(&format!("{table}.{column}: {rows} rows"))?;
        }
        print(&format!("{} columns were searched; nothing was written", found.rows.len()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let erased = retention::erase(database, wanted).await?;
    print_erased(wanted, &erased)?;
    Ok(ExitCode::from(u8::from(!erased.after.is_nowhere())))
}

fn print_erased(wanted: &ErasureWanted, erased: &Erased) -> anyhow::Result<()> {
    let Erased { pseudonym, before, after, entries, groups } = erased;
    print(&format!("app {}: {} stands in the place of the id", wanted.app, pseudonym.as_str()))?;
    let rows = |found: &PersonFound, place| found.rows.get(place).copied().unwrap_or_default();
    let touched = after.rows.keys().filter(|place| rows(before, place) + rows(after, place) > 0);
    for place in touched {
        let (table, column) = place;
        print(&format!(
            "{table}.{column}: {} rows before, {} after",
            rows(before, place),
            rows(after, place)
        ))?;
    }
    print(&format!("{entries} entries of {groups} groups were written anew"))?;
    if after.newer > 0 {
        let newer = after.newer;
        print(&format!(
            "{newer} entries or pages of lists are of a time after the erasure: they are new, and stay as they are"
        ))?;
    }
    print(match after.newer {
        _ if !after.is_nowhere() => "the id still stands in the rows above; run the command again",
        0 => "the id stands nowhere in the database",
        _ => "the id stands nowhere in the database but in what is new",
    })
}

fn print(line: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}
