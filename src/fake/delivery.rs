//! Sends the callbacks that changes cause, signed as Tencent signs them: in order for each group, unless a knob loses,
//! repeats or holds back some.
//!
//! Callbacks wait in lanes, chosen by hash of the group, so that groups do not wait for each other; a full lane makes the
//! writer wait. Tencent waits two seconds for an answer and by default never sends an after-callback again.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use reqwest::{Client, StatusCode, Url};
use serde_json::Value;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::sleep;

use super::knobs::Knobs;
use super::world::Outgoing;
use crate::callback::signature::Token;
use crate::model::{Millis, SdkAppId};

/// How long an answer may take.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(2);

/// Callbacks that wait in one lane at most.
const LANE_CALLBACKS_MAX: usize = 1024;

const LANES: usize = 16;

/// The pause before an after-callback is sent again; Tencent's is documented nowhere.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// What became of the callbacks so far.
#[derive(Debug, Default)]
pub(super) struct DeliveryCounts {
    /// Made by changes, repeats not counted.
    pub(super) made: AtomicU64,
    /// Never sent, by the knob.
    pub(super) lost: AtomicU64,
    /// Answered with HTTP 200 and JSON.
    pub(super) answered: AtomicU64,
    /// Not answered so in the end.
    pub(super) failed: AtomicU64,
    /// Waiting, or on their way.
    pub(super) waiting: AtomicU64,
}

/// One copy of a callback on its way.
#[derive(Debug, Clone)]
struct Parcel {
    outgoing: Arc<Outgoing>,
    delay: Duration,
    retries: u32,
}

/// Where callbacks go, and what signs them.
#[derive(Debug, Clone)]
struct Sending {
    client: Client,
    address: Url,
    app: SdkAppId,
    token: Option<Token>,
    now: fn() -> Millis,
    counts: Arc<DeliveryCounts>,
}

/// The delivery; without an address callbacks are counted as lost.
#[derive(Debug)]
pub(super) struct Delivery {
    sending: Option<Sending>,
    lanes: Vec<Sender<Parcel>>,
    pub(super) counts: Arc<DeliveryCounts>,
}

impl Delivery {
    pub(super) fn start(
        url: Option<&str>,
        (app, token): (SdkAppId, Option<Token>),
        now: fn() -> Millis,
    ) -> anyhow::Result<Self> {
        let counts = Arc::new(DeliveryCounts::default());
        let Some(url) = url else {
            return Ok(Self { sending: None, lanes: Vec::new(), counts });
        };
        let wanted = "it should read like http://127.0.0.1:8080/callback";
        let address = Url::parse(url).with_context(|| format!("--callback-url is {url:?}; {wanted}"))?;
        let is_plain = address.query().is_none() && address.fragment().is_none();
        ensure!(address.scheme() == "http" && is_plain, "--callback-url is {url:?}; {wanted}");
        let client = Client::builder().no_proxy().timeout(ANSWER_WAIT_MAX).build()?;
        let sending = Sending { client, address, app, token, now, counts: Arc::clone(&counts) };
        let mut lanes = Vec::new();
        for _ in 0..LANES {
            let (lane, parcels) = channel(LANE_CALLBACKS_MAX);
            tokio::spawn(run_lane(parcels, sending.clone()));
            lanes.push(lane);
        }
        Ok(Self { sending: Some(sending), lanes, counts })
    }

    /// Takes callbacks; the caller has let go of the world.
    pub(super) async fn hand_over(&self, all: Vec<Outgoing>, knobs: &Knobs, chance: &mut fastrand::Rng) {
        for outgoing in all {
            self.counts.made.fetch_add(1, Ordering::Relaxed);
            if self.lanes.is_empty() || chance.f64() < knobs.lost {
                self.counts.lost.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let mut hasher = DefaultHasher::new();
            outgoing.group.hash(&mut hasher);
            let lane = usize::try_from(hasher.finish() % LANES as u64).unwrap_or(0);
            let outgoing = Arc::new(outgoing);
            let copies = if chance.f64() < knobs.doubled { 2 } else { 1 };
            for _ in 0..copies {
                let held = if chance.f64() < knobs.delayed { chance.u64(0..=knobs.delay_ms) } else { 0 };
                let delay = Duration::from_millis(outgoing.late_ms + held);
                let parcel = Parcel { outgoing: Arc::clone(&outgoing), delay, retries: knobs.retries };
                self.counts.waiting.fetch_add(1, Ordering::Relaxed);
                if self.lanes[lane].send(parcel).await.is_err() {
                    self.counts.waiting.fetch_sub(1, Ordering::Relaxed);
                }
            }
        }
    }

    /// Asks the receiver before an action; `None`: there was no answer that counts.
    pub(super) async fn ask(
        &self,
        command: &'static str,
        body: Value,
        platform: &'static str,
    ) -> Option<Value> {
        let sending = self.sending.as_ref()?;
        let group = String::new();
        sending.post(&Outgoing { command, group, body, late_ms: 0, platform }).await
    }

    /// Whether the receiver answers the check of the console.
    pub(super) async fn is_reachable(&self) -> bool {
        let Some(sending) = &self.sending else { return true };
        let answer = sending.client.post(sending.address.clone()).send().await;
        answer.is_ok_and(|answer| answer.status() == StatusCode::OK)
    }
}

async fn run_lane(mut parcels: Receiver<Parcel>, sending: Sending) {
    while let Some(parcel) = parcels.recv().await {
        if parcel.delay.is_zero() {
            sending.deliver(&parcel).await;
            continue;
        }
        let sending = sending.clone();
        tokio::spawn(async move {
            sleep(parcel.delay).await;
            sending.deliver(&parcel).await;
        });
    }
}

impl Sending {
    async fn deliver(&self, parcel: &Parcel) {
        let mut answered = self.post(&parcel.outgoing).await.is_some();
        for _ in 0..parcel.retries {
            if answered {
                break;
            }
            sleep(RETRY_PAUSE).await;
            answered = self.post(&parcel.outgoing).await.is_some();
        }
        let count = if answered { &self.counts.answered } else { &self.counts.failed };
        count.fetch_add(1, Ordering::Relaxed);
        // Last, because "nothing waits" has to mean that everything is counted.
        self.counts.waiting.fetch_sub(1, Ordering::Release);
    }

    /// The answer, if it is one: HTTP 200 with JSON.
    async fn post(&self, outgoing: &Outgoing) -> Option<Value> {
        let (app, command, platform) = (self.app, outgoing.command, outgoing.platform);
        let mut query = format!(
            "SdkAppid={app}&CallbackCommand={command}&contenttype=json&ClientIP=203.0.113.9&OptPlatform={platform}"
        );
        if let Some(token) = &self.token {
            let time = ((self.now)().get() / 1000).to_string();
            query.push_str(&format!("&Sign={}&RequestTime={time}", token.sign(&time)));
        }
        let mut address = self.address.clone();
        address.set_query(Some(&query));
        let answer = self.client.post(address).body(outgoing.body.to_string()).send().await.ok()?;
        if answer.status() != StatusCode::OK {
            return None;
        }
        answer.json().await.ok()
    }
}
