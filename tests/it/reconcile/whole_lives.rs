//! The whole of it, many times: lives of a fake Tencent with random quirks, callbacks that are lost, repeated and reordered,
//! and passes of the engine that begin, are interrupted and end in the middle of it all.
//!
//! At every moment the mirror shows what callbacks or true reads say (`moments`); when the life is quiet one pass makes the
//! mirror what the fake is, a second one writes nothing, and the ledger folds to the same tables. A failure names its seed:
//! `LIVES_SEED=7 LIVES=1` plays that life again, `LIVES=1000` plays so many. What the plain rule for lists would lose in
//! lives like these stands in `lists`.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use group_mirror::mirror::DriftKind;
use group_mirror::reconcile::{PassCounts, PassKind};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::moments::first_broken;
use super::played_life::{Life, now, pass_by};
use crate::tencent::fake::{done, group};

/// Lives that are played at the same time: they wait more than they work. Each holds six sessions or so of the hundred that
/// the server of the tests has for all of them, and a test beside this one may need thirty.
const AT_ONCE: usize = 8;

/// Lives where no number is set.
const LIVES: u64 = 16;

/// What a life came to: passes that ended, passes that did not, callbacks delivered, values that reads showed.
type LifeCounts = [usize; 4];

async fn life(seed: u64) -> Result<LifeCounts, String> {
    let mut life = Life::start(seed).await;
    life.live().await;
    let ended = life.end().await;
    let mut conn = life.database.connect().await;
    // The moments first: what is wrong in the end began at one of them.
    let differing = first_broken(&mut conn, &life.fake, life.late).await;
    let differing = differing.map_err(|why| format!("knobs {}\n  {why}", life.knobs))?;
    ended?;
    if let Some(service) = life.service {
        service.stop().await;
    }
    life.engine.database.close().await;
    let [done, undone, delivered] = life.counts;
    Ok([done, undone, delivered, differing])
}

/// Plays a life on this thread.
fn played(seed: u64) -> Result<LifeCounts, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let played = catch_unwind(AssertUnwindSafe(|| runtime.block_on(life(seed))));
    played.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default())
    })
}

#[test]
#[expect(
    clippy::print_stdout,
    reason = "a long run says at once which lives fail, and in the end what was played"
)]
fn the_mirror_is_true_at_every_moment_of_a_life_and_what_tencent_is_at_its_end() {
    let number =
        |name: &str, usual: u64| std::env::var(name).ok().and_then(|it| it.parse().ok()).unwrap_or(usual);
    let (first, count) = (number("LIVES_SEED", 1), number("LIVES", LIVES));
    let (next, failed) = (AtomicU64::new(first), Mutex::new(Vec::new()));
    let sums = Mutex::new([0; 4]);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        break;
                    }
                    match played(seed) {
                        Ok(counts) => {
                            let mut sums = sums.lock().unwrap();
                            sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
                        }
                        Err(why) => {
                            println!("LIVES_SEED={seed} LIVES=1: {why}");
                            failed.lock().unwrap().push(seed);
                        }
                    }
                }
            });
        }
    });
    let failed: BTreeSet<u64> = failed.into_inner().unwrap().into_iter().collect();
    let [done, undone, delivered, differing] = sums.into_inner().unwrap();
    println!(
        "{count} lives: {done} passes ended, {undone} did not; {delivered} callbacks; {differing} values from reads"
    );
    assert!(failed.is_empty(), "{} of {count} lives failed, seeds {failed:?}", failed.len());
    // Or nothing was shown by it.
    assert!(done as u64 >= 2 * count && differing as u64 > 20 * count, "{done} passes, {differing} values");
}

/// Aim: a state that a read shows is known to the judge, also where its true time lies ahead of the clock. Method: an account
/// ends, which is one change of each of its groups, and a pass reads them before the clock moves.
#[tokio::test]
async fn changes_that_come_faster_than_the_clock_justify_what_a_read_shows_of_them() {
    let mut life = Life::silent(json!({ "keep_history": true })).await;
    for id in ["walkers", "rowers", "readers"] {
        group(&life.fake, "Public", id, &["boris"]).await;
    }
    life.deliver_all().await;
    pass_by(200_000);
    done(&life.fake, "sdk", "account_ends", json!({ "Member_Account": "boris" })).await;
    let log = life.fake.log();
    let last = log.as_array().unwrap().last().unwrap();
    assert!(last["at"].as_i64().unwrap() > now().get(), "{last} is not ahead of {}", now().get());
    let (stop, counts) = (CancellationToken::new(), Arc::new(PassCounts::default()));
    let source = std::slice::from_ref(&life.source);
    life.engine.once(source, PassKind::Reconcile, &stop, &counts).await.unwrap();
    assert_eq!(counts.drift().get(&DriftKind::MemberGone), Some(&3), "{:?}", counts.drift());
    let mut conn = life.database.connect().await;
    first_broken(&mut conn, &life.fake, life.late).await.unwrap();
}
