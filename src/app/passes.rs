//! The commands `backfill` and `reconcile`: one pass over the apps of the settings, with a progress bar.
//!
//! They run beside a `serve`: they take the lease of the passes from it, and give it back at the end. Exit code 0: the pass
//! has ended; 2: it stopped, was interrupted, or could not begin. What was committed before stays, and the next start of the
//! same command goes on from there.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use tokio_util::sync::CancellationToken;

use super::database::{Cluster, open_database, stop_embedded};
use super::signals::Signals;
use crate::clock;
use crate::config::{AppSettings, Settings};
use crate::model::SdkAppId;
use crate::reconcile::{AppSource, Engine, PassCounts, PassEnd, PassKind, PassSettings, ended_line};
use crate::store::schema;
use crate::tencent::ClientSettings;
use crate::tencent::client::TencentClient;

/// How often the progress bar is drawn.
const BAR_PERIOD: Duration = Duration::from_millis(200);

/// The apps that can be read from Tencent, each with its client.
///
/// # Errors
/// An address that is none.
pub(super) fn sources(apps: &[AppSettings]) -> anyhow::Result<Vec<AppSource>> {
    let mut sources = Vec::new();
    for app in apps {
        let Some(tencent) = &app.tencent else { continue };
        let mut settings =
            ClientSettings::new(tencent.url.clone(), app.app, tencent.secret.clone(), clock::now);
        settings.admin.clone_from(&tencent.admin);
        settings.rate_share = tencent.rate_share;
        let client = TencentClient::new(settings).context("TENCENT_API_URL")?;
        sources.push(AppSource { app: app.app, client: Arc::new(client) });
    }
    Ok(sources)
}

/// `backfill`.
///
/// # Errors
/// A setting that is missing or wrong, a database that cannot be used, or a pass that did not come to its end.
pub async fn backfill(settings: &Settings, app: Option<&str>) -> anyhow::Result<ExitCode> {
    pass(settings, (PassKind::Backfill, false), app).await
}

/// `reconcile`, `reconcile --dry-run`.
///
/// # Errors
/// As above.
pub async fn reconcile(settings: &Settings, app: Option<&str>, dry_run: bool) -> anyhow::Result<ExitCode> {
    pass(settings, (PassKind::Reconcile, dry_run), app).await
}

async fn pass(settings: &Settings, what: (PassKind, bool), app: Option<&str>) -> anyhow::Result<ExitCode> {
    let signals = Signals::new()?;
    let apps = settings.apps()?;
    let wanted = app.map(|app| SdkAppId::parse(app).context("--app")).transpose()?;
    if let Some(wanted) = wanted {
        ensure!(apps.iter().any(|app| app.app == wanted), "--app is {wanted}, which is not in SDK_APP_ID");
    }
    let mut sources = sources(&apps)?;
    sources.retain(|source| wanted.is_none_or(|wanted| wanted == source.app));
    ensure!(
        !sources.is_empty(),
        "TENCENT_SECRET_KEY is not set; it is the key of the app, and TENCENT_API_URL the address of its region, such as \
         https://console.tim.qq.com"
    );
    let (database, embedded) = open_database(&settings.config(), Cluster::Required).await?;
    let checked = async {
        let mut conn = database.connect().await?;
        anyhow::Ok(schema::check(&mut conn).await?)
    };
    let done = match checked.await {
        Ok(None) => {
            let holder = format!("{} (process {})", what.0.name(), std::process::id());
            let engine = Engine::new(database.clone(), PassSettings::default(), clock::now, &holder);
            run(&engine, &sources, what, &signals).await
        }
        Ok(Some(mismatch)) => Err(anyhow::anyhow!(mismatch.to_string())),
        Err(error) => Err(error),
    };
    database.close().await;
    stop_embedded(embedded).await?;
    done
}

async fn run(
    engine: &Engine,
    sources: &[AppSource],
    (kind, is_dry): (PassKind, bool),
    signals: &Signals,
) -> anyhow::Result<ExitCode> {
    let (stop, counts, bar) = (CancellationToken::new(), Arc::new(PassCounts::default()), bar());
    let passing = async {
        if !is_dry {
            return engine.once(sources, kind, &stop, &counts).await;
        }
        for source in sources {
            engine.dry_run(source, &stop, &counts).await?;
        }
        Ok(())
    };
    let ended = tokio::select! {
        ended = passing => ended,
        () = interrupted(signals, &stop) => Err(PassEnd::Interrupted),
        () = draw(&bar, &counts) => unreachable!("a bar is drawn until the pass ends"),
    };
    bar.finish_and_clear();
    match ended {
        Ok(()) => {
            writeln!(std::io::stdout(), "{}", ended_line(sources, &counts, is_dry))?;
            let drift = counts.drift();
            for (kind, count) in &drift {
                let kind: &str = kind.into();
                writeln!(std::io::stdout(), "{kind} {count}")?;
            }
            Ok(ExitCode::from(u8::from(is_dry && !drift.is_empty())))
        }
        Err(end) => bail!("{} did not end: {end}", kind.name()),
    }
}

/// Resolves some time after a signal: what is under way may end first.
async fn interrupted(signals: &Signals, stop: &CancellationToken) {
    signals.nth(1).await;
    stop.cancel();
    signals.nth(2).await;
}

async fn draw(bar: &ProgressBar, counts: &PassCounts) {
    loop {
        bar.set_length(counts.groups.load(Ordering::Relaxed));
        bar.set_position(counts.asked.load(Ordering::Relaxed));
        let (members, waiting) =
            (counts.members.load(Ordering::Relaxed), counts.waiting.load(Ordering::Relaxed));
        bar.set_message(format!("{members} members, {waiting} groups to be read by themselves"));
        tokio::time::sleep(BAR_PERIOD).await;
    }
}

/// A progress bar on standard error, drawn only if that is a terminal.
fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template(
        "{bar:40} {human_pos}/~{human_len} groups, {per_sec}, {eta} left; {msg}",
    );
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
