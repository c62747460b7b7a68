//! Sends the events of a plan, each at its due time, over a number of connections; counts answers and their times.
//!
//! The whole schedule is made first: each callback has a due time, some are delayed, some are sent twice. Each connection
//! takes the next due one; at a rate of 0 none waits for its time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use reqwest::{Client, StatusCode, Url};
use tokio::task::JoinSet;

use super::demo::demo_callbacks;
use super::events::EventGenerator;
use super::plan::{ANSWER_WAIT_MAX, Plan};
use crate::clock;

/// Answers by kind, and their times.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    /// 200.
    pub ok: u64,
    /// 200, but parked.
    pub parked: u64,
    /// 503.
    pub unavailable: u64,
    /// Answers with another status, by status.
    pub refused: BTreeMap<u16, u64>,
    /// There was no connection to send on.
    pub not_reached: u64,
    /// Sent, and not answered within two seconds.
    pub unanswered: u64,
    /// One entry per answer with 200, in microseconds, sorted.
    pub micros: Vec<u32>,
    /// From the first to the last answer.
    pub took: Duration,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.ok += other.ok;
        self.parked += other.parked;
        self.unavailable += other.unavailable;
        for (status, count) in other.refused {
            *self.refused.entry(status).or_default() += count;
        }
        self.not_reached += other.not_reached;
        self.unanswered += other.unanswered;
        self.micros.extend(other.micros);
    }

    /// True where every callback was answered with OK and no more than these were parked. One that is sent again is a
    /// duplicate, parked or not.
    #[must_use]
    pub fn is_clean(&self, parked_max: u64) -> bool {
        let others = self.unavailable + self.not_reached + self.unanswered;
        others == 0 && self.parked <= parked_max && self.refused.is_empty()
    }

    /// The time within which this share of answers arrived, in milliseconds.
    #[must_use]
    pub fn percentile_ms(&self, share: f64) -> f64 {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index below two million"
        )]
        let at = ((self.micros.len() as f64 * share) as usize).min(self.micros.len().saturating_sub(1));
        self.micros.get(at).map_or(0.0, |micros| f64::from(*micros) / 1000.0)
    }
}

/// What was sent, and how it was answered.
#[derive(Debug)]
pub struct Sent {
    /// Every body once, with whether any copy of it was answered with OK.
    pub bodies: Vec<(Arc<str>, bool)>,
    /// The answers.
    pub tally: Tally,
}

/// One request of the schedule: when, and which of the bodies.
struct Dispatch {
    due: Duration,
    body: usize,
}

/// Sends the whole plan; `progress` is called for each answer.
///
/// # Errors
/// An address that is not one of HTTP. Refusals and missing answers are counted, they are no errors.
pub async fn send(plan: &Plan, progress: impl Fn() + Send + Sync + 'static) -> anyhow::Result<Sent> {
    let address = address(&plan.callback_url)?;
    let (bodies, dispatches) = schedule(plan);
    let (bodies, dispatches): (Arc<[Arc<str>]>, Arc<[Dispatch]>) = (bodies.into(), dispatches.into());
    let answered: Arc<[std::sync::atomic::AtomicBool]> = bodies.iter().map(|_| false.into()).collect();
    let client = client()?;
    let (next, progress) = (Arc::new(AtomicUsize::new(0)), Arc::new(progress));
    let begun = Instant::now();
    let mut connections = JoinSet::new();
    for _ in 0..plan.connections.max(1) {
        let (bodies, dispatches, answered) =
            (Arc::clone(&bodies), Arc::clone(&dispatches), Arc::clone(&answered));
        let (client, next, progress, plan, address) =
            (client.clone(), Arc::clone(&next), Arc::clone(&progress), plan.clone(), address.clone());
        connections.spawn(async move {
            let mut tally = Tally::default();
            while let Some(dispatch) = dispatches.get(next.fetch_add(1, Ordering::Relaxed)) {
                tokio::time::sleep_until((begun + dispatch.due).into()).await;
                let request = signed(&address, &plan, "ClientIP=203.0.113.9&OptPlatform=RESTAPI");
                if post(&client, request, &bodies[dispatch.body], &mut tally).await {
                    answered[dispatch.body].store(true, Ordering::Relaxed);
                }
                progress();
            }
            tally
        });
    }
    let mut tally = Tally::default();
    while let Some(done) = connections.join_next().await {
        tally.add(done?);
    }
    tally.took = begun.elapsed();
    tally.micros.sort_unstable();
    let bodies = bodies.iter().cloned().zip(answered.iter().map(|answered| answered.load(Ordering::Relaxed)));
    Ok(Sent { bodies: bodies.collect(), tally })
}

/// Sends the demo world that begins and varies as the plan says, one callback after the other, so that it stands in the
/// feed in the order in which it happened; `progress` is called for each answer.
///
/// # Errors
/// An address that is not one of HTTP. Refusals and missing answers are counted, they are no errors.
pub async fn send_demo(plan: &Plan, progress: impl Fn()) -> anyhow::Result<Sent> {
    let address = address(&plan.callback_url)?;
    let client = client()?;
    let begun = Instant::now();
    let (mut bodies, mut tally) = (Vec::new(), Tally::default());
    for callback in demo_callbacks(plan.begin, plan.seed) {
        let command = callback.body["CallbackCommand"].as_str().unwrap_or_default();
        let from = format!(
            "CallbackCommand={command}&ClientIP={}&OptPlatform={}",
            callback.client_ip, callback.platform
        );
        let body: Arc<str> = callback.body.to_string().into();
        let is_ok = post(&client, signed(&address, plan, &from), &body, &mut tally).await;
        bodies.push((body, is_ok));
        progress();
    }
    tally.took = begun.elapsed();
    tally.micros.sort_unstable();
    Ok(Sent { bodies, tally })
}

fn client() -> anyhow::Result<Client> {
    let client = Client::builder().no_proxy().timeout(ANSWER_WAIT_MAX).build();
    client.context("cannot make an HTTP client")
}

/// The address that callbacks are posted to: the path as it is, `/` where there is none.
fn address(url: &str) -> anyhow::Result<Url> {
    let wanted = "it should read like http://127.0.0.1:8080 or https://mirror.example.org/callback";
    let address = Url::parse(url).with_context(|| format!("--callback-url is {url:?}; {wanted}"))?;
    let is_plain = address.query().is_none() && address.fragment().is_none();
    ensure!(matches!(address.scheme(), "http" | "https") && is_plain, "--callback-url is {url:?}; {wanted}");
    Ok(address)
}

/// All bodies, and all requests in order of their due times.
fn schedule(plan: &Plan) -> (Vec<Arc<str>>, Vec<Dispatch>) {
    let mut events = EventGenerator::new(plan);
    // Not the generator of the events, so that more disorder does not change the events.
    let mut chance = fastrand::Rng::with_seed(plan.seed ^ 0x5eed);
    let mut bodies = Vec::new();
    let mut dispatches = Vec::new();
    // Without a rate only the order counts; distances of a microsecond keep it.
    let gap = if plan.rate == 0 { Duration::from_micros(1) } else { Duration::from_secs(1) / plan.rate };
    for number in 0..plan.callbacks {
        bodies.push(events.next().to_string().into());
        let body = bodies.len() - 1;
        let due = gap.mul_f64(precise(number));
        let held = |chance: &mut fastrand::Rng| plan.delay.mul_f64(chance.f64());
        let late = if chance.f64() < plan.disorder { held(&mut chance) } else { Duration::ZERO };
        dispatches.push(Dispatch { due: due + late, body });
        if chance.f64() < plan.duplicates {
            dispatches.push(Dispatch { due: due + held(&mut chance), body });
        }
    }
    dispatches.sort_by_key(|dispatch| dispatch.due);
    if plan.rate == 0 {
        dispatches.iter_mut().for_each(|dispatch| dispatch.due = Duration::ZERO);
    }
    assert!(dispatches.len() >= bodies.len(), "every body is sent at least once");
    (bodies, dispatches)
}

#[expect(clippy::cast_precision_loss, reason = "at most two million")]
fn precise(number: u64) -> f64 {
    number as f64
}

/// The address with Tencent's query, signed now where there is a token.
fn signed(address: &Url, plan: &Plan, from: &str) -> Url {
    let mut query = format!("SdkAppid={}&contenttype=json&{from}", plan.app);
    if let Some(token) = &plan.token {
        let time = (clock::now().get() / 1000).to_string();
        query.push_str(&format!("&Sign={}&RequestTime={time}", token.sign(&time)));
    }
    let mut address = address.clone();
    address.set_query(Some(&query));
    address
}

/// Posts one callback and counts its answer; true where that is OK.
async fn post(client: &Client, address: Url, body: &Arc<str>, tally: &mut Tally) -> bool {
    let begun = Instant::now();
    let answer = match client.post(address).body(body.to_string()).send().await {
        Ok(answer) => answer,
        Err(error) => {
            *if error.is_connect() { &mut tally.not_reached } else { &mut tally.unanswered } += 1;
            return false;
        }
    };
    let status = answer.status();
    let Ok(text) = answer.text().await else {
        tally.unanswered += 1;
        return false;
    };
    match status {
        StatusCode::OK => {
            tally.micros.push(u32::try_from(begun.elapsed().as_micros()).unwrap_or(u32::MAX));
            let parked = text.contains("\"parked: ");
            *if parked { &mut tally.parked } else { &mut tally.ok } += 1;
            !parked
        }
        StatusCode::SERVICE_UNAVAILABLE => {
            tally.unavailable += 1;
            false
        }
        _ => {
            *tally.refused.entry(status.as_u16()).or_default() += 1;
            false
        }
    }
}
