//! The relay of one app: asks its backend for a verdict, and passes on what needs none.
//!
//! A verdict has a budget that begins with the receipt of the callback, because Tencent waits 2 s for everything; without
//! one in time Tencent gets the fallback of the command. Notifications that are not stored are passed on from memory, once
//! and best effort, which is what Tencent itself promises for them; what waits is bounded in bytes and in time.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::call_gate::{CallClass, CallGate, CallLimits, NOT_CALLED, NoAnswer, RESULTS};
use super::headers::RelayRequest;
use super::target::{RelayAnswer, RelayTarget};
use crate::callback::fallback::{Fallback, FallbackRules};
use crate::model::SdkAppId;

/// How long a notification may take from its receipt to the end of its exchange: as long as Tencent would have waited.
const NOTICE_WITHIN: Duration = Duration::from_secs(2);

/// How many bytes of notifications may be under way at once for each call that may be: with 256 calls 16 MiB, with the 32
/// that each backend has 2 MiB, in which the largest callback has room.
const NOTICE_BYTES_OF_CALL: usize = 64 * 1024;

/// What a notification takes beside its body: its task and its headers, about.
const NOTICE_BYTES_ASIDE: usize = 4 * 1024;

/// Why a notification is dropped: there is no room for it, or its call is not made.
const DROPS: [&str; 4] = ["no_room", NOT_CALLED[0], NOT_CALLED[1], NOT_CALLED[2]];

/// How the backend of one app is called.
#[derive(Debug, Clone)]
pub struct BackendRules {
    /// How long a "before" callback waits, from receipt.
    pub timeout: Duration,
    /// What it gets without an answer.
    pub fallback: FallbackRules,
}

/// What a callback that waits gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackendVerdict {
    /// The backend's answer.
    Answer(RelayAnswer),
    /// None in time, or none that can be used.
    Fallback(Fallback),
}

/// The relay of one app.
#[derive(Debug)]
pub struct AppRelay {
    app: String,
    target: RelayTarget,
    rules: BackendRules,
    verdicts: CallGate,
    notices: Arc<CallGate>,
    notice_bytes: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl AppRelay {
    /// At most `calls` of each kind are in work.
    pub(super) fn new(
        app: SdkAppId,
        target: RelayTarget,
        rules: BackendRules,
        calls: usize,
        tasks: TaskTracker,
    ) -> Self {
        let limits = |within| CallLimits { within, calls };
        let notices = CallGate::new(app, CallClass::Notice, target.clone(), limits(NOTICE_WITHIN));
        let relay = Self {
            app: app.to_string(),
            verdicts: CallGate::new(app, CallClass::Verdict, target.clone(), limits(rules.timeout)),
            notices: Arc::new(notices),
            notice_bytes: Arc::new(Semaphore::new(calls * NOTICE_BYTES_OF_CALL)),
            target,
            rules,
            tasks,
        };
        let failures =
            RESULTS.into_iter().filter(|result| !["allowed", "refused", "other_status"].contains(result));
        for cause in failures.chain(NOT_CALLED) {
            relay.count_fallback(cause, 0);
        }
        for cause in DROPS {
            count_dropped(&relay.app, cause, 0);
        }
        relay
    }

    /// The client of the backend.
    #[must_use]
    pub fn target(&self) -> &RelayTarget {
        &self.target
    }

    /// Asks the backend, inside the budget that began at `received`. `command` chooses the fallback.
    pub async fn verdict(
        &self,
        request: RelayRequest,
        command: &str,
        received: std::time::Instant,
    ) -> BackendVerdict {
        let deadline = Instant::from_std(received) + self.rules.timeout;
        match self.verdicts.call(request, deadline).await {
            Ok(answer) => BackendVerdict::Answer(answer),
            Err(NoAnswer(cause)) => {
                self.count_fallback(cause, 1);
                BackendVerdict::Fallback(self.rules.fallback.of(command))
            }
        }
    }

    /// Passes a notification on, in a task of its own; counts it where it is dropped.
    pub fn pass_on(&self, request: RelayRequest) {
        if self.notices.is_waiting_for_trial(Instant::now()) {
            count_dropped(&self.app, "breaker_open", 1);
            return;
        }
        let size = u32::try_from(request.body_bytes() + NOTICE_BYTES_ASIDE).unwrap_or(u32::MAX);
        let Ok(room) = Arc::clone(&self.notice_bytes).try_acquire_many_owned(size) else {
            count_dropped(&self.app, "no_room", 1);
            return;
        };
        let (notices, app) = (Arc::clone(&self.notices), self.app.clone());
        let deadline = Instant::now() + NOTICE_WITHIN;
        self.tasks.spawn(async move {
            let _room = room;
            if let Err(NoAnswer(cause)) = notices.call_in_turn(request, deadline).await
                && DROPS.contains(&cause)
            {
                count_dropped(&app, cause, 1);
            }
        });
    }

    fn count_fallback(&self, cause: &'static str, by: u64) {
        metrics::counter!("group_mirror_relay_fallbacks_total", "app" => self.app.clone(), "cause" => cause)
            .increment(by);
    }
}

fn count_dropped(app: &str, cause: &'static str, by: u64) {
    metrics::counter!("group_mirror_relay_dropped_total", "app" => app.to_owned(), "cause" => cause)
        .increment(by);
}
