//! The `check` command: looks at one thing after the other, prints each line at once, and ends with a count.
//!
//! What is looked at and what that means stands in [`crate::check`]; this file has the order, and what one look needs of
//! another. It logs nothing: every trouble is a line. A thing that cannot be looked at because of another that is wrong is
//! left out, so that one fault is one line.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::check_apps;
use super::check_report::CheckReport;
use super::database::{Cluster, DirLock, look_at_lock, open_database, stop_embedded};
use super::known_database::KnownDatabase;
use crate::api::auth::ApiAuth;
use crate::check::database::{DatabaseExpected, KnownId};
use crate::check::service::{DirUse, PortHolder, ServiceClient};
use crate::check::{self, CheckLevel, CheckLine, CheckSubject, spool_state};
use crate::cli::CheckArgs;
use crate::clock;
use crate::config::{AppSettings, CheckedSettings, DatabaseChoice, ServeConfig, Settings};
use crate::embedded::Embedded;
use crate::model::SdkAppId;
use crate::store::Database;

/// How long the connections to the database may take to end.
const CLOSE_WAIT_MAX: Duration = Duration::from_secs(5);

/// What is known of the settings file.
#[derive(Debug, Clone, Default)]
pub struct CheckedFiles {
    /// The `.env` that was read.
    pub dotenv: Option<PathBuf>,
    /// Names in it that are no settings.
    pub unknown: Option<String>,
    /// What is wrong with it.
    pub fault: Option<String>,
}

/// `check`.
///
/// # Errors
/// An `--app` that is none of the settings; a standard output that cannot be written.
pub async fn check(settings: &Settings, files: &CheckedFiles, args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let mut report = CheckReport::new(args.json);
    let checked = settings.check_all();
    let apps = wanted_apps(&checked, args)?;
    report.add(settings_lines(&checked, files))?;
    let lock = look_at_lock(&checked.config.data_dir);
    let (client, answering) = answering(&checked).await?;
    let served = dir_use(&lock);
    directory(&mut report, &checked, lock, &answering).await?;
    if let Some(serving) = &checked.serving {
        report.add(listener_lines(serving, &checked, served, &answering))?;
    }
    // One that cannot be read is a line of its own.
    let keep_days = settings.ledger_keep_days().unwrap_or_default();
    let (database, embedded) = look_at_database(&mut report, &checked, keep_days).await?;
    // A service of another data directory says nothing about this one.
    let is_ours = served != DirUse::Free && matches!(answering.api, PortHolder::Mirror(_));
    let about =
        check_apps::AboutApps { settings, apps: &apps, database: database.as_ref(), checked: &checked };
    let done = check_apps::look(&mut report, &about, client.filter(|_| is_ours), args).await;
    if let Some(database) = database {
        // A server that has stalled is left to itself.
        let _ = tokio::time::timeout(CLOSE_WAIT_MAX, database.close()).await;
    }
    stop_embedded(embedded).await?;
    done?;
    report.end()
}

/// The apps to look at; none where `SDK_APP_ID` is wrong.
fn wanted_apps(checked: &CheckedSettings, args: &CheckArgs) -> anyhow::Result<Vec<AppSettings>> {
    let known = checked.serving.as_ref().filter(|_| !checked.replaced.contains(&"SDK_APP_ID"));
    let apps = known.map_or_else(Vec::new, |serving| serving.apps.clone());
    let Some(text) = &args.app else { return Ok(apps) };
    let wanted = SdkAppId::parse(text).context("--app")?;
    let found: Vec<AppSettings> = apps.into_iter().filter(|app| app.app == wanted).collect();
    ensure!(known.is_none() || !found.is_empty(), "--app is {wanted}, which is not one of SDK_APP_ID");
    Ok(found)
}

fn settings_lines(checked: &CheckedSettings, files: &CheckedFiles) -> Vec<CheckLine> {
    let subject = CheckSubject::Settings;
    let see = "docs/operations.md has every setting";
    let mut lines: Vec<CheckLine> = Vec::new();
    for fault in &checked.faults {
        let line = CheckLine::wrong_by(subject, &fault.line, see);
        lines.push(match fault.name {
            Some(name) => line.of(name),
            None => line,
        });
    }
    if let Some(fault) =
        files.fault.as_ref().filter(|fault| lines.iter().all(|line| !fault.contains(&line.found)))
    {
        lines.push(CheckLine::wrong_by(subject, fault, see));
    }
    let file = files.dotenv.as_ref().map_or_else(|| "no .env".to_owned(), |path| path.display().to_string());
    if let Some(names) = &files.unknown {
        let found = format!("{file} has names that are no settings and have no effect: {names}");
        lines.push(CheckLine::warning(subject, found, "correct their spelling, or take them out"));
    }
    let Some(serving) = &checked.serving else { return lines };
    if checked.faults.is_empty() && files.fault.is_none() {
        lines.push(CheckLine::ok(subject, described(serving, &checked.config.database, &file)));
    }
    if !serving.is_signed() && !serving.callback_listen.ip().is_loopback() && checked.faults.is_empty() {
        let found =
            format!("callbacks need no signature, and {} can be reached by others", serving.callback_listen);
        let remedy = "set CALLBACK_TOKEN to the token of the console's callback authentication, and unset CALLBACK_AUTH";
        lines.push(CheckLine::warning(subject, found, remedy));
    }
    lines
}

fn described(serving: &ServeConfig, database: &DatabaseChoice, file: &str) -> String {
    let ids: Vec<String> = serving.apps.iter().map(|app| app.app.to_string()).collect();
    let database = match database {
        DatabaseChoice::Embedded => "an embedded PostgreSQL",
        DatabaseChoice::Url(_) | DatabaseChoice::UrlFile(_) => "DATABASE_URL",
    };
    let signed = if serving.is_signed() { "signed" } else { "unsigned" };
    let reads = if matches!(*serving.api_auth, ApiAuth::None) { "open on loopback" } else { "with tokens" };
    format!(
        "app {}, callbacks {signed}, read API {reads}, {database}; from the environment and {file}",
        ids.join(", ")
    )
}

/// Who answers on the two listeners.
struct ListenersAnswer {
    callbacks: PortHolder,
    api: PortHolder,
}

/// A client of both, and what they answer.
async fn answering(checked: &CheckedSettings) -> anyhow::Result<(Option<ServiceClient>, ListenersAnswer)> {
    let Some(serving) = &checked.serving else {
        return Ok((None, ListenersAnswer { callbacks: PortHolder::None, api: PortHolder::None }));
    };
    let (callbacks, api) = check_apps::listeners(serving);
    let client = ServiceClient::new(&[&callbacks, &api])?;
    let (callbacks, api) = tokio::join!(client.ask(&callbacks), client.ask(&api));
    Ok((Some(client), ListenersAnswer { callbacks, api }))
}

fn dir_use(lock: &DirLock) -> DirUse {
    match lock.is_served {
        Some(true) => DirUse::Served,
        Some(false) => DirUse::Free,
        None => DirUse::Unknown,
    }
}

/// Data directory, running service and spool.
async fn directory(
    report: &mut CheckReport,
    checked: &CheckedSettings,
    lock: DirLock,
    answering: &ListenersAnswer,
) -> anyhow::Result<()> {
    let dir = checked.config.data_dir.clone();
    let spool_max = checked.serving.as_ref().map_or(0, |serving| serving.spool.max_bytes);
    let served = dir_use(&lock);
    let state = match &answering.api {
        PortHolder::Mirror(Some(state)) if served == DirUse::Served => Some(state.clone()),
        _ => None,
    };
    let looking = move || {
        let (spool, spool_bytes) = match &state {
            Some(state) => (Some(spool_state::of_service(state)), state.spool_bytes),
            // The running service alone has the file.
            None if lock.is_served != Some(false) || !dir.exists() => (None, 0),
            None => {
                let (line, bytes) = spool_state::of_file(&dir, clock::now());
                (Some(line), bytes)
            }
        };
        drop(lock);
        (check::data_dir::lines(&dir, spool_max, spool_bytes), spool)
    };
    let (lines, spool) = tokio::task::spawn_blocking(looking).await?;
    // A directory that cannot be used is one fault, not two.
    let is_usable =
        lines.iter().all(|line| (line.subject, line.level) != (CheckSubject::DataDir, CheckLevel::Wrong));
    report.add(lines)?;
    let api_listen = checked.serving.as_ref().map(|serving| serving.api_listen);
    report.add(api_listen.and_then(|listen| check::service::line(served, &answering.api, listen)))?;
    report.add(spool.filter(|_| is_usable))
}

fn listener_lines(
    serving: &ServeConfig,
    checked: &CheckedSettings,
    served: DirUse,
    answering: &ListenersAnswer,
) -> Vec<CheckLine> {
    let listeners = [
        (CheckSubject::CallbackListener, "CALLBACK_LISTEN", serving.callback_listen, &answering.callbacks),
        (CheckSubject::ApiListener, "API_LISTEN", serving.api_listen, &answering.api),
    ];
    let wanted = listeners.into_iter().filter(|(_, name, ..)| !checked.replaced.contains(name));
    wanted.map(|(subject, _, listen, who)| check::listeners::line(subject, listen, served, who)).collect()
}

/// The database, where it can be used, and the embedded server behind it.
async fn look_at_database(
    report: &mut CheckReport,
    checked: &CheckedSettings,
    keep_days: u32,
) -> anyhow::Result<(Option<Database>, Option<Embedded>)> {
    let config = &checked.config;
    let is_embedded = matches!(config.database, DatabaseChoice::Embedded);
    if is_embedded && !config.data_dir.join("postgres").join("cluster").exists() {
        let found = "DATABASE_URL is not set, and DATA_DIR holds no embedded PostgreSQL yet";
        let remedy = "start `serve`, which makes one, or set DATABASE_URL";
        report.add([CheckLine::warning(CheckSubject::Database, found, remedy)])?;
        return Ok((None, None));
    }
    let (database, embedded) = match open_database(config, Cluster::Required).await {
        Ok(opened) => opened,
        Err(error) => {
            let remedy = "set DATABASE_URL right, or look at the log below DATA_DIR/postgres";
            report.add([CheckLine::wrong_by(CheckSubject::Database, &format!("{error:#}"), remedy)])?;
            return Ok((None, None));
        }
    };
    let known_id = match KnownDatabase::open(&config.data_dir) {
        Ok(known) => known.id().map_or(KnownId::None, |id| KnownId::Of(id.to_owned())),
        Err(_) => KnownId::Unreadable,
    };
    let expected = DatabaseExpected { known_id, is_embedded };
    let (lines, is_usable) = check::database::lines(&database, &expected, clock::now).await;
    report.add(lines)?;
    if embedded.as_ref().and_then(Embedded::bundled).is_some() {
        let found =
            "the PostgreSQL inside this program is used, which has no timers: time limits do nothing in it";
        let remedy = "use it to try things out, and set DATABASE_URL in production";
        report.add([CheckLine::warning(CheckSubject::Database, found, remedy)])?;
    }
    let read_url = checked.serving.as_ref().and_then(|serving| serving.read_database_url.as_ref());
    if let Some(url) = read_url.filter(|_| is_usable) {
        report.add([check::read_database::line(url, &database).await])?;
    }
    if is_usable {
        report.add(check::pruning::line(&database, keep_days, clock::now()).await)?;
        return Ok((Some(database), embedded));
    }
    let _ = tokio::time::timeout(CLOSE_WAIT_MAX, database.close()).await;
    Ok((None, embedded))
}
