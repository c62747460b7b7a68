//! The `fake-tencent` command: a Tencent to try things out with, until a signal ends it.
//!
//! App, token and their defaults are those of the settings, so that the fake and a `serve` beside it fit together without
//! any. It waits until the callback listener answers, because a callback that is not taken is lost here as it is at
//! Tencent; then the random life begins.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tokio::time::{MissedTickBehavior, interval};

use super::signals::Signals;
use crate::cli::FakeTencentArgs;
use crate::clock;
use crate::config::Settings;
use crate::fake::{ExistingGroups, Fake, FakeSettings, Knobs, LifePlan};
use crate::tencent::usersig::SecretKey;

/// The pause between two attempts to reach the callback listener.
const RECEIVER_PAUSE: Duration = Duration::from_millis(500);

/// The fastest life, in changes per second.
const CHANGES_PER_SEC_MAX: f64 = 10_000.0;

/// `fake-tencent`.
///
/// # Errors
/// An argument is out of its range, or the port is occupied.
pub async fn fake_tencent(settings: &Settings, args: &FakeTencentArgs) -> anyhow::Result<ExitCode> {
    let signals = Signals::new()?;
    let (app, token, _) = settings.sender(args.app.as_deref())?;
    let rate = args.changes_per_sec;
    ensure!(
        (0.0..=CHANGES_PER_SEC_MAX).contains(&rate),
        "--changes-per-sec is {rate}; it should be from 0 to {CHANGES_PER_SEC_MAX}"
    );
    ensure!(!args.secret_key.is_empty(), "--secret-key is empty; it should be a key");
    let listen: SocketAddr = args
        .listen
        .parse()
        .with_context(|| format!("--listen is {:?}; it should read like 127.0.0.1:8090", args.listen))?;
    ensure!(
        listen.ip().is_loopback(),
        "--listen is {listen}; it should be a loopback address, because the test door asks for no signature"
    );
    let knobs = args.knob.iter().try_fold(Knobs::default(), |knobs, text| knobs.with_text(text))?;
    let fake = Fake::start(FakeSettings {
        listen,
        app,
        admins: args.admin.split(',').map(str::to_owned).collect(),
        secret_key: SecretKey::new(args.secret_key.clone()),
        callback_url: (!args.callback_url.is_empty()).then(|| args.callback_url.clone()),
        token,
        knobs,
        existing: ExistingGroups { groups: args.existing_groups, members: args.existing_members },
        life: LifePlan { groups: args.groups, users: args.users, seed: args.seed },
        now: clock::now,
    })
    .await?;
    tracing::info!("REST API of app {app}: http://{}/v4/…; administrator: {}", fake.addr, args.admin);
    tracing::info!(
        "true state: curl http://{}/fake/state; knobs: curl http://{}/fake/knobs",
        fake.addr,
        fake.addr
    );
    tokio::select! {
        () = signals.nth(1) => {}
        () = live(&fake, args) => {}
    }
    tracing::info!("callbacks: {}", fake.callbacks());
    Ok(ExitCode::SUCCESS)
}

/// The random life; it does not end.
async fn live(fake: &Fake, args: &FakeTencentArgs) {
    if args.callback_url.is_empty() {
        tracing::info!("no --callback-url: callbacks are counted and not sent");
    } else {
        tracing::info!("waiting for the callback listener at {}", args.callback_url);
        fake.receiver_answers(RECEIVER_PAUSE).await;
        tracing::info!("callbacks go to {}", args.callback_url);
    }
    if args.changes_per_sec == 0.0 {
        return std::future::pending().await;
    }
    tracing::info!("{} changes per second in about {} groups", args.changes_per_sec, args.groups);
    let mut ticks = interval(Duration::from_secs_f64(1.0 / args.changes_per_sec));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        fake.live_once().await;
    }
}
