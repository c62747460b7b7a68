//! Who makes passes, and when: without end inside `serve`, once by command; both under the lease.
//!
//! Inside `serve` a pass follows the other, with a pause between them in which the work list alone is worked off. A pass
//! that stopped is tried again with exponential back-off, because some causes heal by themselves (a plan that was paid for
//! takes minutes); callbacks are taken meanwhile. The first pass of an app that never had one reads everything, as
//! `backfill` does.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::app_run::AppRun;
use super::engine::{AppSource, Engine, PassCounts, PassEnd, PassKind};
use super::lead::{self, HeldLease};
use super::pass_work::work_off;
use crate::model::SdkAppId;
use crate::store::passes;

/// The pause after the database did not take something.
const DATABASE_PAUSE: Duration = Duration::from_secs(5);

/// So often in a row a command goes on after the database did not take something.
const DATABASE_TRIES_MAX: u32 = 6;

impl Engine {
    /// Passes without end, while this process has the lease; ends with `stop`.
    pub async fn rolling(self, sources: Vec<AppSource>, stop: CancellationToken) {
        let apps: Vec<SdkAppId> = sources.iter().map(|source| source.app).collect();
        while let Some(mut lease) = lead::wait(&self, &stop).await {
            tracing::info!("this process reads from Tencent: it has the lease of the passes");
            metrics::gauge!("group_mirror_pass_leader").set(1.0);
            let held = stop.child_token();
            let mut loops = JoinSet::new();
            for source in &sources {
                loops.spawn(self.clone().app_rolling(source.clone(), held.clone()));
            }
            lease.keep(&self, &apps, &stop).await;
            held.cancel();
            while loops.join_next().await.is_some() {}
            metrics::gauge!("group_mirror_pass_leader").set(0.0);
            lease.give_back().await;
        }
    }

    /// The passes of one app; ends when the lease is lost.
    async fn app_rolling(self, source: AppSource, stop: CancellationToken) {
        let mut pause = self.settings.stopped_pause;
        let mut reported = None;
        let mut stopped = StoppedApp(false);
        while !stop.is_cancelled() {
            let ended = self.next_pass(&source, &stop).await;
            let wait = match ended {
                Ok(()) => {
                    (pause, reported) = (self.settings.stopped_pause, None);
                    stopped.set(false);
                    continue;
                }
                Err(PassEnd::Interrupted) => return,
                Err(PassEnd::Database(error)) => {
                    tracing::warn!(
                        app = %source.app, %error,
                        "the pass over app {} waits for the database: {error}", source.app
                    );
                    DATABASE_PAUSE
                }
                Err(PassEnd::Stopped(why) | PassEnd::Denied(why)) => {
                    metrics::counter!("group_mirror_passes_total", "end" => "stopped").increment(1);
                    stopped.set(true);
                    if reported.as_ref() != Some(&why) {
                        tracing::error!(
                            app = %source.app, cause = why,
                            "the pass over app {} stopped: {why}; `group-mirror check` says what to do", source.app
                        );
                    }
                    reported = Some(why);
                    let now = pause;
                    pause = (pause * 2).min(self.settings.stopped_pause_max);
                    now
                }
            };
            if stop.run_until_cancelled(sleep(wait)).await.is_none() {
                return;
            }
            source.client.resume();
        }
    }

    /// One pass, and the pause behind it.
    async fn next_pass(&self, source: &AppSource, stop: &CancellationToken) -> Result<(), PassEnd> {
        let mut tx = self.pass_tx().await?;
        let newest = passes::newest(tx.conn(), source.app).await;
        let newest = tx.end(newest).await?;
        let kind = if newest.is_none() { PassKind::Backfill } else { PassKind::Rolling };
        let counts = Arc::new(PassCounts::default());
        self.pass(source, kind, stop, &counts).await?;
        metrics::counter!("group_mirror_passes_total", "end" => "ended").increment(1);
        tracing::info!(
            app = %source.app,
            pass.asked = counts.asked.load(Ordering::Relaxed),
            pass.differences = counts.drift().values().sum::<u64>(),
            "{}",
            ended_line(std::slice::from_ref(source), &counts, false)
        );
        let run = AppRun::new(self.clone(), source.clone(), counts, stop.clone()).await?;
        match timeout(self.settings.rolling_pause, work_off(Arc::new(run))).await {
            Ok(ended) => ended,
            Err(_) => Ok(()),
        }
    }

    /// One pass over each of these apps, under the lease that a command takes from a `serve`.
    ///
    /// # Errors
    /// Another command has the lease; a pass stopped, was interrupted, or the database does not take it.
    pub async fn once(
        &self,
        sources: &[AppSource],
        kind: PassKind,
        stop: &CancellationToken,
        counts: &Arc<PassCounts>,
    ) -> Result<(), PassEnd> {
        let taken = lead::take(self, true).await;
        let mut lease = taken.map_err(|error| PassEnd::Stopped(error.to_string()))?;
        let held = stop.child_token();
        let apps: Vec<SdkAppId> = sources.iter().map(|source| source.app).collect();
        let ended = self.all_under(&mut lease, (sources, &apps), kind, (&held, counts)).await;
        held.cancel();
        lease.give_back().await;
        ended
    }

    async fn all_under(
        &self,
        lease: &mut HeldLease,
        (sources, apps): (&[AppSource], &[SdkAppId]),
        kind: PassKind,
        (held, counts): (&CancellationToken, &Arc<PassCounts>),
    ) -> Result<(), PassEnd> {
        let passes = async {
            for source in sources {
                self.insistent(source, kind, held, counts).await?;
            }
            Ok(())
        };
        tokio::select! {
            ended = passes => ended,
            () = lease.keep(self, apps, held) => Err(PassEnd::Interrupted),
        }
    }

    /// A pass that goes on after short troubles of the database.
    async fn insistent(
        &self,
        source: &AppSource,
        kind: PassKind,
        stop: &CancellationToken,
        counts: &Arc<PassCounts>,
    ) -> Result<(), PassEnd> {
        let mut tries = 1;
        loop {
            match self.pass(source, kind, stop, counts).await {
                Err(PassEnd::Database(error)) if tries < DATABASE_TRIES_MAX => {
                    tracing::warn!("the pass over app {} waits for the database: {error}", source.app);
                    let pause = stop.run_until_cancelled(sleep(DATABASE_PAUSE));
                    pause.await.ok_or(PassEnd::Interrupted)?;
                    tries += 1;
                }
                ended => return ended,
            }
        }
    }
}

/// Whether an app counts among those whose pass is stopped; it does not any more when this is dropped.
#[derive(Debug)]
struct StoppedApp(bool);

impl StoppedApp {
    fn set(&mut self, is_stopped: bool) {
        let gauge = metrics::gauge!("group_mirror_pass_stopped");
        match (self.0, is_stopped) {
            (false, true) => gauge.increment(1.0),
            (true, false) => gauge.decrement(1.0),
            _ => {}
        }
        self.0 = is_stopped;
    }
}

impl Drop for StoppedApp {
    fn drop(&mut self) {
        self.set(false);
    }
}

/// What a pass came to, in one line.
#[must_use]
pub fn ended_line(sources: &[AppSource], counts: &PassCounts, is_dry: bool) -> String {
    use Ordering::Relaxed;
    let apps: Vec<String> = sources.iter().map(|source| source.app.to_string()).collect();
    let repaired = if is_dry { "found, none repaired" } else { "repaired" };
    let drift: u64 = counts.drift().values().sum();
    format!(
        "the pass over app {} has ended: {} groups asked for, {} members listed, {} differences {repaired}, {} groups not \
         read, {} stale answers",
        apps.join(", "),
        counts.asked.load(Relaxed),
        counts.members.load(Relaxed),
        drift,
        counts.unknown.load(Relaxed),
        counts.stale.load(Relaxed),
    )
}
