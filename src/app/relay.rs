//! The `relay` command: what waits for the backends, what was given up, and callbacks that are queued once more.
//!
//! It works on the database alone. A `serve` that runs finds what is queued within a second; without one it waits.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use chrono::{DateTime, Utc};

use super::database::{Cluster, open_database, stop_embedded};
use crate::cli::RelayArgs;
use crate::config::Settings;
use crate::model::{GroupId, SdkAppId};
use crate::store::{Database, outbox_report, schema};

/// What is to be delivered again.
struct AgainWanted {
    app: SdkAppId,
    group: GroupId,
    between: (DateTime<Utc>, DateTime<Utc>),
}

impl AgainWanted {
    fn of(settings: &Settings, args: &RelayArgs) -> anyhow::Result<Self> {
        let apps: Vec<SdkAppId> = settings.apps()?.iter().map(|app| app.app).collect();
        let named = args.app.as_deref().map(SdkAppId::parse).transpose().context("--app")?;
        let app = named.unwrap_or(apps[0]);
        ensure!(apps.contains(&app), "--app is {app}, which is not one of SDK_APP_ID");
        let group = GroupId::parse(args.group.as_deref().unwrap_or_default()).context("--group")?;
        let between = (moment("--from", args.from.as_deref())?, moment("--to", args.to.as_deref())?);
        ensure!(between.0 < between.1, "--to is not later than --from");
        Ok(Self { app, group, between })
    }
}

fn moment(name: &str, text: Option<&str>) -> anyhow::Result<DateTime<Utc>> {
    let text = text.unwrap_or_default();
    let moment = DateTime::parse_from_rfc3339(text);
    let moment = moment
        .ok()
        .with_context(|| format!("{name} is {text:?}; it should be a time such as 2026-01-01T00:00:00Z"))?;
    Ok(moment.to_utc())
}

/// `relay --status` and `relay --again`.
///
/// # Errors
/// An argument that cannot be read, no database, or one whose schema is not this program's; one line.
pub async fn relay(settings: &Settings, args: &RelayArgs) -> anyhow::Result<ExitCode> {
    let again = args.again.then(|| AgainWanted::of(settings, args)).transpose()?;
    let (database, embedded) = open_database(&settings.config(), Cluster::Required).await?;
    let done = match &again {
        Some(again) => queue_again(&database, again).await,
        None => print_status(&database, settings).await,
    };
    database.close().await;
    stop_embedded(embedded).await?;
    done.map(|()| ExitCode::SUCCESS)
}

async fn queue_again(database: &Database, again: &AgainWanted) -> anyhow::Result<()> {
    let mut conn = database.connect().await?;
    if let Some(mismatch) = schema::check(&mut conn).await? {
        anyhow::bail!("{mismatch}");
    }
    let AgainWanted { app, group, between } = again;
    let queued = outbox_report::queue_again(&mut conn, *app, group.as_str(), *between).await?;
    print(&format!(
        "{queued} callbacks are queued; a running `serve` with a RELAY_URL of app {app} delivers them"
    ))
}

async fn print_status(database: &Database, settings: &Settings) -> anyhow::Result<()> {
    let mut conn = database.connect().await?;
    if let Some(mismatch) = schema::check(&mut conn).await? {
        anyhow::bail!("{mismatch}");
    }
    let (waiting, given_up) =
        (outbox_report::backlog(&mut conn).await?, outbox_report::given_up(&mut conn).await?);
    let now = outbox_report::now(&mut conn).await?;
    let configured = settings.apps()?;
    let mut apps: BTreeSet<i64> =
        configured.iter().filter(|app| app.relay.is_some()).map(|app| app.app.get()).collect();
    apps.extend(waiting.iter().map(|row| row.sdk_app_id));
    apps.extend(given_up.iter().map(|(app, ..)| *app));
    if apps.is_empty() {
        print("no app has a RELAY_URL, and nothing waits")?;
    }
    for app in apps {
        let row = waiting.iter().find(|row| row.sdk_app_id == app);
        let waits = match row.and_then(|row| Some((row.entries, row.oldest?))) {
            Some((count, oldest)) => {
                let age = (now - oldest).num_seconds().max(0);
                format!("{count} callbacks wait, the oldest for {age} s")
            }
            None => "nothing waits".to_owned(),
        };
        let causes: Vec<String> = given_up
            .iter()
            .filter(|(of, ..)| *of == app)
            .map(|(_, failure, count)| format!("{failure}: {count}"))
            .collect();
        let given_up = if causes.is_empty() { "nothing was".to_owned() } else { causes.join(", ") };
        let has_relay =
            configured.iter().any(|configured| configured.app.get() == app && configured.relay.is_some());
        let relay = if has_relay { "" } else { "; it has no RELAY_URL now" };
        print(&format!("app {app}: {waits}; given up: {given_up}{relay}"))?;
    }
    Ok(())
}

fn print(line: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}
