//! The second half of `check`: what it looks at for each app, and what it waits for and asks at the end.
//!
//! Calls to Tencent go by a client of their own with a small share of the limits, so that neither a running `serve` nor the
//! app's backend notices them.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::check_report::CheckReport;
use crate::api::auth::ApiAuth;
use crate::check::probe::probe;
use crate::check::service::{ServiceClient, ServiceStats};
use crate::check::waiting::{AskedService, WaitedFor};
use crate::check::{self, CheckLine, CheckSubject, OwnListener, remedies, tencent_calls};
use crate::cli::CheckArgs;
use crate::clock;
use crate::config::{AppSettings, CheckedSettings, ServeConfig, Settings, TencentSettings};
use crate::model::{SdkAppId, UserId};
use crate::server::TlsFiles;
use crate::store::Database;
use crate::store::condition::GroupTotals;
use crate::tencent::ClientSettings;
use crate::tencent::client::TencentClient;

/// The share of Tencent's limits for the probe: one list of ids in ten seconds, 20 of any other command a second.
const PROBE_SHARE_MAX: f64 = 0.1;

/// The share for the one call that is otherwise made, so that it can be made again after two seconds.
const CALL_SHARE: f64 = 0.5;

/// What is looked at.
pub(super) struct AboutApps<'a> {
    pub(super) settings: &'a Settings,
    pub(super) apps: &'a [AppSettings],
    /// None where it cannot be used.
    pub(super) database: Option<&'a Database>,
    pub(super) checked: &'a CheckedSettings,
}

/// Looks at all apps, then waits and asks as wanted. `service` is there where a `serve` answers.
pub(super) async fn look(
    report: &mut CheckReport,
    about: &AboutApps<'_>,
    service: Option<ServiceClient>,
    args: &CheckArgs,
) -> anyhow::Result<()> {
    let Some(serving) = &about.checked.serving else { return Ok(()) };
    let service = service.map(|client| asked_service(client, about, serving));
    if let Some(service) = &service {
        let stats = ServiceStats::of_all(service.stats().await.into_iter().flatten());
        report.add(stats.iter().flat_map(check::service::refusal_lines))?;
    }
    let mut totals = Vec::new();
    for app in about.apps {
        let counted = match about.database {
            Some(database) => {
                let found = check::callbacks::of_app(database, app.app, clock::now()).await;
                report.add(found.lines)?;
                found.totals
            }
            None => None,
        };
        totals.push(counted);
    }
    assert_eq!(totals.len(), about.apps.len(), "each app is counted, or known not to be");
    for (app, totals) in about.apps.iter().zip(totals) {
        report.add(tencent_lines(app, totals, serving, about.checked).await)?;
        report.add(relay_line(app, serving).await)?;
    }
    if let Some(seconds) = args.wait {
        wait(report, about, service, seconds).await?;
    }
    if args.probe {
        for app in about.apps {
            ask(report, app).await?;
        }
    }
    Ok(())
}

/// A client, or why none can be made, as a line.
fn client(
    app: SdkAppId,
    tencent: &TencentSettings,
    (repeats, share): (bool, f64),
) -> Result<TencentClient, CheckLine> {
    let settings = ClientSettings {
        admin: tencent.admin.clone(),
        rate_share: share,
        repeats,
        ..ClientSettings::new(tencent.url.clone(), app, tencent.secret.clone(), clock::now)
    };
    TencentClient::new(settings).map_err(|error| {
        let remedy =
            "correct TENCENT_API_URL; where TLS cannot be started, install the certificates of authorities";
        CheckLine::wrong_by(CheckSubject::Tencent, &error.to_string(), remedy).of(app)
    })
}

async fn tencent_lines(
    app: &AppSettings,
    totals: Option<GroupTotals>,
    serving: &ServeConfig,
    checked: &CheckedSettings,
) -> Vec<CheckLine> {
    let Some(tencent) = &app.tencent else {
        // Where the setting is wrong there is a line about that.
        let is_fault = checked.replaced.iter().any(|name| name.starts_with("TENCENT_"));
        let found =
            "TENCENT_SECRET_KEY is not set: nothing is read from Tencent, as backfill and reconcile would";
        let line = (!is_fault).then(|| CheckLine::ok(CheckSubject::Tencent, found).of(app.app));
        return line.into_iter().collect();
    };
    let client = match client(app.app, tencent, (false, CALL_SHARE)) {
        Ok(client) => client,
        Err(line) => return vec![line],
    };
    let shown = (tencent.url.as_str(), tencent.admin.as_str());
    let stop = CancellationToken::new();
    let lines = tencent_calls::lines(&client, shown, totals, serving.max_skew_secs, &stop).await;
    lines.into_iter().map(|line| line.of(app.app)).collect()
}

async fn relay_line(app: &AppSettings, serving: &ServeConfig) -> Option<CheckLine> {
    let url = &app.relay.as_ref()?.url;
    let (host, port) = (url.host_str()?, url.port_or_known_default()?);
    let line = check::relay_target::line((url.scheme(), host, port), serving.callback_listen).await;
    Some(line.of(app.app))
}

/// The listener of callbacks and that of the API, as a client on this machine needs them.
pub(super) fn listeners(serving: &ServeConfig) -> (OwnListener, OwnListener) {
    let of = |address, tls: Option<&TlsFiles>, prefix: &str| OwnListener {
        address,
        certificate: tls.map(|files| files.certificate.path.clone()),
        wants_certificate: tls.is_some_and(|files| files.client_ca.is_some()),
        prefix: prefix.to_owned(),
    };
    (
        of(serving.callback_listen, serving.callback_tls.as_ref(), ""),
        of(serving.api_listen, serving.api_tls.as_ref(), serving.api_prefix.as_str()),
    )
}

/// A running service with a token for each app, as far as the settings have one.
fn asked_service(client: ServiceClient, about: &AboutApps<'_>, serving: &ServeConfig) -> AskedService {
    let token = |app: SdkAppId| match (&*serving.api_auth, about.settings.sender(Some(&app.to_string()))) {
        (ApiAuth::None, _) | (_, Err(_)) => None,
        (_, Ok((.., token))) => token,
    };
    let apps = about.apps.iter().map(|app| (app.app, token(app.app))).collect();
    AskedService { client, listener: listeners(serving).1, apps }
}

async fn wait(
    report: &mut CheckReport,
    about: &AboutApps<'_>,
    service: Option<AskedService>,
    seconds: u64,
) -> anyhow::Result<()> {
    let apps: Vec<SdkAppId> = about.apps.iter().map(|app| app.app).collect();
    let waited = WaitedFor { apps: &apps, database: about.database, service };
    let line = waited.line(Duration::from_secs(seconds), || report.hint(seconds)).await;
    report.add([line])
}

async fn ask(report: &mut CheckReport, app: &AppSettings) -> anyhow::Result<()> {
    let Some(tencent) = &app.tencent else {
        let remedy = "set TENCENT_SECRET_KEY and TENCENT_API_URL";
        return report
            .add([CheckLine::warning(CheckSubject::Tencent, "there is nothing to ask", remedy).of(app.app)]);
    };
    let client = match client(app.app, tencent, (true, tencent.rate_share.min(PROBE_SHARE_MAX))) {
        Ok(client) => client,
        Err(line) => return report.add([line]),
    };
    let admin = UserId::parse(&tencent.admin)?;
    match probe(&client, &admin, &CancellationToken::new()).await {
        Ok(answers) => answers.iter().try_for_each(|answer| report.print(answer)),
        Err(error) => {
            let remedy = remedies::of_error(&error, error.class());
            let found = format!("the questions could not be asked to the end: {error}");
            report.add([CheckLine::wrong(CheckSubject::Tencent, found, remedy).of(app.app)])
        }
    }
}
