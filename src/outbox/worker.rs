//! A worker: it takes the callback whose turn it is, sends it, and says what came of that.
//!
//! Workers of one app share its queue and know nothing of each other. The log has one line at the begin and one at the end of
//! an outage, and one in a minute at most about callbacks that are given up; no line holds a query or a body.

use std::sync::Arc;
use std::time::Instant;

use tokio::time::sleep_until;

use super::outage::OutageChange;
use super::pace::AttemptVerdict;
use super::shared::{AppOutbox, OutboxState};
use super::turn::{Settled, TakenDelivery, Turn};
use crate::clock;
use crate::model::SdkAppId;

/// One of the workers of an app.
pub(super) struct Worker {
    pub(super) outbox: Arc<OutboxState>,
    pub(super) app: SdkAppId,
}

impl Worker {
    /// Runs until the outbox is closed and nothing is ready.
    pub(super) async fn run(self) {
        let Some(of_app) = self.outbox.apps.get(&self.app) else { return };
        let closing = &self.outbox.closing;
        loop {
            let woken = of_app.ready.notified();
            let turn = of_app.queue().take(Instant::now());
            let wait_until = match turn {
                Turn::Deliver(taken) => {
                    if of_app.queue().has_ready(Instant::now()) {
                        of_app.ready.notify_one();
                    }
                    self.deliver(of_app, *taken).await;
                    continue;
                }
                _ if closing.is_cancelled() => return,
                Turn::WaitUntil(at) => Some(at),
                Turn::Wait => None,
            };
            let due = async {
                match wait_until {
                    Some(at) => sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = woken => {}
                () = due => {}
                () = closing.cancelled() => {}
            }
        }
    }

    async fn deliver(&self, of_app: &AppOutbox, taken: TakenDelivery) {
        let TakenDelivery { order_key, ticket, delivery } = taken;
        let (settings, now) = (&of_app.settings, clock::now());
        let was_late = !delivery.is_first(now);
        let request = delivery.request(settings.token.as_ref(), now);
        let deadline = tokio::time::Instant::now() + settings.pauses.attempt;
        let verdict = AttemptVerdict::of(&settings.target.send(request, deadline).await);
        let failure = match &verdict {
            AttemptVerdict::Delivered { .. } => None,
            AttemptVerdict::Retry(failure) | AttemptVerdict::Refused(failure) => Some(failure.clone()),
        };
        let works = !matches!(verdict, AttemptVerdict::Retry(_));
        let now = Instant::now();
        let mut queue = of_app.queue();
        let settled = queue.settle((&order_key, ticket), (verdict, was_late), (now, clock::now()));
        let change = queue.outage.note(works, now);
        if let Some(OutageChange::Ended(_)) = change {
            queue.make_due(now);
        }
        drop(queue);
        self.count(of_app, &settled, failure.as_deref());
        self.report(of_app, change, failure.as_deref());
        of_app.ready.notify_one();
        self.outbox.work.notify_one();
    }

    fn count(&self, of_app: &AppOutbox, settled: &Settled, failure: Option<&str>) {
        let count = |name: &'static str| metrics::counter!(name, "app" => self.app.to_string()).increment(1);
        if failure.is_some() {
            count("group_mirror_relay_failed_total");
        }
        match settled {
            Settled::Delivered { was_late, with_code } => {
                count("group_mirror_relay_delivered_total");
                if *was_late {
                    count("group_mirror_relay_late_total");
                }
                if *with_code {
                    count("group_mirror_relay_refusing_answers_total");
                }
            }
            Settled::Waits => {}
            Settled::Skipped => {
                count("group_mirror_relay_skipped_total");
                if let Some(count) = of_app.note_given_up(Instant::now()) {
                    tracing::warn!(
                        app = %self.app, count, failure,
                        "the relay has given up callbacks; `group-mirror relay --status` counts them, `--again` sends them"
                    );
                }
            }
        }
    }

    fn report(&self, of_app: &AppOutbox, change: Option<OutageChange>, failure: Option<&str>) {
        match change {
            None => {}
            Some(OutageChange::Begun) => tracing::error!(
                app = %self.app, failure,
                "the backend of the relay takes no after-callbacks; they wait in the ledger, and it is tried until it does"
            ),
            Some(OutageChange::Ended(after)) => {
                let waiting = of_app.backlog().entries;
                tracing::info!(
                    app = %self.app, waiting, outage.seconds = after.as_secs_f64(),
                    "the backend of the relay takes after-callbacks again, after {:.1} s",
                    after.as_secs_f32()
                );
            }
        }
    }
}
