//! Sends what happens, at its time, over so many connections; counts answers and how long they took.
//!
//! The whole schedule is made first: each callback has a moment, some a later one than their turn, some a second one.
//! Connections take the next due one each; at a rate of 0 nobody waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use reqwest::{Client, StatusCode};
use tokio::task::JoinSet;

use super::events::World;
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
    /// Any other status.
    pub refused: u64,
    /// No answer in two seconds, or no connection.
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
        self.refused += other.refused;
        self.unanswered += other.unanswered;
        self.micros.extend(other.micros);
    }

    /// The time within which this share of answers came, in milliseconds.
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

/// What was sent, and what came back.
#[derive(Debug)]
pub struct Sent {
    /// Every body once, with whether any copy of it was answered with OK.
    pub bodies: Vec<(Arc<str>, bool)>,
    /// The answers.
    pub tally: Tally,
}

struct Turn {
    due: Duration,
    body: usize,
}

/// Sends the whole plan; `progress` is told each answer.
///
/// # Errors
/// A client that cannot be made. Refusals and silence are counted, not errors.
pub async fn send(plan: &Plan, progress: impl Fn() + Send + Sync + 'static) -> anyhow::Result<Sent> {
    let (bodies, turns) = schedule(plan);
    let (bodies, turns): (Arc<[Arc<str>]>, Arc<[Turn]>) = (bodies.into(), turns.into());
    let answered: Arc<[std::sync::atomic::AtomicBool]> = bodies.iter().map(|_| false.into()).collect();
    let client = Client::builder()
        .no_proxy()
        .timeout(ANSWER_WAIT_MAX)
        .build()
        .context("cannot make an HTTP client")?;
    let (next, progress) = (Arc::new(AtomicUsize::new(0)), Arc::new(progress));
    let begun = Instant::now();
    let mut connections = JoinSet::new();
    for _ in 0..plan.connections.max(1) {
        let (bodies, turns, answered) = (Arc::clone(&bodies), Arc::clone(&turns), Arc::clone(&answered));
        let (client, next, progress, plan) =
            (client.clone(), Arc::clone(&next), Arc::clone(&progress), plan.clone());
        connections.spawn(async move {
            let mut tally = Tally::default();
            while let Some(turn) = turns.get(next.fetch_add(1, Ordering::Relaxed)) {
                tokio::time::sleep_until((begun + turn.due).into()).await;
                if post(&client, &plan, &bodies[turn.body], &mut tally).await {
                    answered[turn.body].store(true, Ordering::Relaxed);
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

/// Every body, and every time one is sent, in order of due moments.
fn schedule(plan: &Plan) -> (Vec<Arc<str>>, Vec<Turn>) {
    let mut world = World::new(plan);
    // Apart from the world's, so that more disorder does not change what happens.
    let mut chance = fastrand::Rng::with_seed(plan.seed ^ 0x5eed);
    let mut bodies = Vec::new();
    let mut turns = Vec::new();
    // Without a rate only the order counts; a microsecond apart keeps it.
    let gap = if plan.rate == 0 { Duration::from_micros(1) } else { Duration::from_secs(1) / plan.rate };
    for number in 0..plan.callbacks {
        bodies.push(world.next().to_string().into());
        let body = bodies.len() - 1;
        let turn = gap.mul_f64(precise(number));
        let held = |chance: &mut fastrand::Rng| plan.delay.mul_f64(chance.f64());
        let late = if chance.f64() < plan.disorder { held(&mut chance) } else { Duration::ZERO };
        turns.push(Turn { due: turn + late, body });
        if chance.f64() < plan.duplicates {
            turns.push(Turn { due: turn + held(&mut chance), body });
        }
    }
    turns.sort_by_key(|turn| turn.due);
    if plan.rate == 0 {
        turns.iter_mut().for_each(|turn| turn.due = Duration::ZERO);
    }
    (bodies, turns)
}

#[expect(clippy::cast_precision_loss, reason = "at most two million")]
fn precise(number: u64) -> f64 {
    number as f64
}

/// True when it was answered with OK.
async fn post(client: &Client, plan: &Plan, body: &Arc<str>, tally: &mut Tally) -> bool {
    let mut url =
        format!("{}/?SdkAppid={}&contenttype=json", plan.callback_url.trim_end_matches('/'), plan.app);
    url.push_str("&ClientIP=203.0.113.9&OptPlatform=RESTAPI");
    if let Some(token) = &plan.token {
        let time = (clock::now().get() / 1000).to_string();
        url.push_str(&format!("&Sign={}&RequestTime={time}", token.sign(&time)));
    }
    let begun = Instant::now();
    let Ok(answer) = client.post(url).body(body.to_string()).send().await else {
        tally.unanswered += 1;
        return false;
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
            tally.refused += 1;
            false
        }
    }
}
