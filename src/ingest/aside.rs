//! What is set aside: groups, commands, and single callbacks that failed alone while the server took others.
//!
//! A bulkhead: one row that a foreign session has locked, or one table without a grant, must delay its own callbacks and no
//! other. What is set aside goes from the lanes straight to the spool, and the drain tries it again by itself with
//! exponential back-off per key. The first success ends it. A command that fails in group after group is set aside as a
//! whole, on the evidence that `evidence` keeps; a shard, where the database refuses a whole batch of it while another
//! shard commits.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::aside_key::AsideKey;
use super::by_shard::shard_of;
use super::evidence::Evidence;
use super::outcome::{Applied, NotCommitted};
use crate::callback::Callback;
use crate::model::SdkAppId;
use crate::store::errors::{Failure, classify};
use crate::store::shards::KnownShards;

/// How many keys may be set aside. What fails beyond is tried by the lanes again.
const KEYS_MAX: usize = 10_000;

/// The pause before the first attempt; it doubles with each.
const PAUSE_FIRST: Duration = Duration::from_secs(1);

/// The longest pause: what was locked or refused is applied at most about this long after it could be.
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// How long a key is kept after an attempt was due, if none was made because nothing of it is in the spool.
const KEPT: Duration = Duration::from_secs(5);

/// The time between two log lines of one kind. A table that is locked sets thousands of groups aside at once.
const LINE_PERIOD: Duration = Duration::from_secs(1);

/// Whether a callback is set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is not.
    Free,
    /// It is, and not to be tried now.
    Waiting,
    /// It is, and due to be tried by itself.
    Due(AsideKey),
}

#[derive(Debug)]
struct Deferral {
    due: Instant,
    pause: Duration,
}

/// Lets one log line through in [`LINE_PERIOD`], and counts those that it leaves out.
#[derive(Debug, Default)]
struct LineLimit {
    last: Option<Instant>,
    left_out: u64,
}

impl LineLimit {
    /// Where a line may be written now: how many were left out before it.
    fn line(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now < last + LINE_PERIOD) {
            self.left_out += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.left_out))
    }
}

#[derive(Debug, Default)]
struct Deferrals {
    entries: HashMap<AsideKey, Deferral>,
    evidence: Evidence,
    set_lines: LineLimit,
    applied_lines: LineLimit,
}

/// Cheap to clone; all clones are one set.
#[derive(Debug, Clone, Default)]
pub(super) struct SetAside {
    deferrals: Arc<Mutex<Deferrals>>,
    shards: KnownShards,
}

impl SetAside {
    /// Nothing is set aside of a database whose groups are spread so.
    pub(super) fn of(shards: KnownShards) -> Self {
        Self { deferrals: Arc::default(), shards }
    }

    fn state(&self) -> MutexGuard<'_, Deferrals> {
        self.deferrals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets a key aside, or extends it after a further attempt that failed. True where it was not set aside before.
    pub(super) fn add(&self, key: AsideKey) -> bool {
        self.add_at(key, Instant::now())
    }

    fn add_at(&self, key: AsideKey, now: Instant) -> bool {
        let mut state = self.state();
        let entries = &mut state.entries;
        if let Some(entry) = entries.get_mut(&key) {
            // Several callbacks of one attempt are one failure.
            if entry.due <= now {
                entry.pause = (entry.pause * 2).min(PAUSE_MAX);
                entry.due = now + entry.pause;
            }
            return false;
        }
        if entries.len() >= KEYS_MAX {
            entries.retain(|_, entry| entry.due + KEPT > now);
        }
        if entries.len() >= KEYS_MAX {
            return false;
        }
        entries.insert(key, Deferral { due: now + PAUSE_FIRST, pause: PAUSE_FIRST });
        assert!(entries.len() <= KEYS_MAX, "the set keeps its limit");
        true
    }

    /// The same with a log line where it is new, at a bounded rate; a command or a shard as a whole always has its line. A callback
    /// has none that only shows that a shard is still away.
    pub(super) fn set(&self, key: AsideKey, error: &dyn fmt::Display) -> bool {
        let (name, always) = (key.to_string(), key.ends_with_one());
        let (app, group) = (key.app().map(SdkAppId::get), key.group().map(str::to_owned));
        let is_callback = matches!(key, AsideKey::Callback(..));
        let new = self.add(key);
        if new {
            metrics::counter!("group_mirror_set_aside_total").increment(1);
            let mut state = self.state();
            let is_of_shard =
                is_callback && state.entries.keys().any(|key| matches!(key, AsideKey::Shard(..)));
            let line = state.set_lines.line(Instant::now()).or(always.then_some(0));
            drop(state);
            if let Some(left_out) = line.filter(|_| !is_of_shard) {
                tracing::warn!(
                    set_aside = %name, app, group.id = group, %error, left_out,
                    "set aside: its callbacks wait in the spool and are tried apart"
                );
            }
        }
        new
    }

    /// Where there are several shards: the whole batch of one, with this callback in it, was not committed, and what the database
    /// answered does not blame one of them. Whether the database as a whole takes nothing is for the prober to find out.
    /// False: there is one shard.
    pub(super) fn set_shard(&self, callback: &Callback, error: &dyn fmt::Display) -> bool {
        let key = self.shard_key(callback);
        key.map(|key| self.set(key, error)).is_some()
    }

    fn shard_key(&self, callback: &Callback) -> Option<AsideKey> {
        let shards = self.shards.current();
        let count = shards.count();
        (count > 1).then(|| AsideKey::Shard(shard_of(&shards, callback), count))
    }

    /// Learns from a batch of a lane whether a command fails in every group, and sets it aside then.
    pub(super) fn learn<'a>(&self, batch: impl Iterator<Item = (&'a Callback, &'a Applied)> + Clone) {
        let failed = batch.clone().filter_map(|(callback, outcome)| match outcome {
            // Together: it was not tried any more, after one part of its batch after another had failed.
            Err(NotCommitted::Alone(_, error) | NotCommitted::Together(error))
                if matches!(classify(error), Failure::TimedOut | Failure::Refused) =>
            {
                Some((callback, error))
            }
            _ => None,
        });
        let (mut state, mut complete) = (self.state(), Vec::new());
        if state.evidence.is_empty() && failed.clone().next().is_none() {
            return;
        }
        let committed = batch.filter(|(_, outcome)| outcome.is_ok()).map(|(callback, _)| callback);
        let commands: HashSet<&str> = committed.clone().map(|callback| callback.command.as_str()).collect();
        committed.for_each(|callback| state.evidence.committed(callback));
        let now = Instant::now();
        for (callback, error) in failed.filter(|(callback, _)| !commands.contains(callback.command.as_str()))
        {
            if state.evidence.failed(callback, now) {
                complete.push((AsideKey::everywhere(callback), error));
            }
        }
        drop(state);
        for (key, error) in complete {
            self.set(key, error);
        }
    }

    /// It is set aside no longer.
    pub(super) fn remove(&self, key: &AsideKey) -> bool {
        self.state().entries.remove(key).is_some()
    }

    /// The same for what the drain has applied, with a log line at a bounded rate.
    pub(super) fn applied(&self, key: &AsideKey) {
        let mut state = self.state();
        if state.entries.remove(key).is_some()
            && let Some(left_out) = state.applied_lines.line(Instant::now())
        {
            tracing::info!(set_aside = %key, left_out, "what was set aside is applied");
        }
    }

    /// What of an app is set aside now, as in the log; in no order, at most [`KEYS_MAX`].
    pub(super) fn names(&self, app: SdkAppId) -> Vec<String> {
        let (state, now) = (self.state(), Instant::now());
        let of_app = state
            .entries
            .iter()
            .filter(|(key, entry)| key.app().is_none_or(|of| of == app) && entry.due + KEPT >= now);
        of_app.map(|(key, _)| key.to_string()).collect()
    }

    /// What failed one by one did so because the server takes nothing.
    pub(super) fn clear(&self) {
        let mut state = self.state();
        state.entries.clear();
        state.evidence = Evidence::default();
    }

    /// Whether a callback is set aside now.
    pub(super) fn standing(&self, callback: &Callback) -> Standing {
        self.standing_at(callback, Instant::now())
    }

    fn standing_at(&self, callback: &Callback, now: Instant) -> Standing {
        let mut state = self.state();
        let entries = &mut state.entries;
        if entries.is_empty() {
            return Standing::Free;
        }
        let mut due = None;
        for key in self.shard_key(callback).into_iter().chain(AsideKey::all_of(callback)) {
            let Some(entry) = entries.get(&key) else { continue };
            if entry.due + KEPT < now {
                entries.remove(&key);
            } else if entry.due > now {
                return Standing::Waiting;
            } else {
                due.get_or_insert(key);
            }
        }
        due.map_or(Standing::Free, Standing::Due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::callback::{Decoded, Received, decode};
    use crate::model::Millis;

    fn callback(group: &str, name: &str, time: i64) -> Callback {
        let body = format!(
            r#"{{"CallbackCommand":"Group.CallbackAfterGroupInfoChanged","GroupId":"{group}","Name":"{name}","EventTime":{time}}}"#
        );
        let received = Received::bare(
            SdkAppId::parse("1400000001").unwrap(),
            Millis::new(1_700_000_000_000),
            body.into_bytes(),
        );
        match decode(received) {
            Decoded::Kept(callback) => *callback,
            Decoded::OutOfScope(_) => unreachable!("a change of a profile is in scope"),
        }
    }

    #[test]
    fn a_locked_row_sets_its_group_aside_a_refusal_the_command_and_bad_data_the_callback() {
        let aside = SetAside::default();
        let [one, same, other] = [
            callback("a", "x", 1_700_000_000_000),
            callback("a", "y", 1_700_000_000_001),
            callback("b", "x", 1_700_000_000_000),
        ];
        aside.add(AsideKey::of(&one, Failure::Data));
        assert_eq!([&one, &same, &other].map(|c| aside.standing(c) == Standing::Free), [false, true, true]);
        aside.clear();
        for failure in [Failure::TimedOut, Failure::Refused] {
            aside.add(AsideKey::of(&one, failure));
            assert_eq!(
                [&one, &same, &other].map(|c| aside.standing(c) == Standing::Free),
                [false, false, true]
            );
            assert!(aside.remove(&AsideKey::of(&same, failure)));
        }
    }

    #[test]
    fn each_failure_doubles_the_pause_and_a_key_that_is_not_tried_is_forgotten() {
        let (aside, one) = (SetAside::default(), callback("a", "x", 1_700_000_000_000));
        let (key, mut now) = (AsideKey::of(&one, Failure::TimedOut), Instant::now());
        assert!(aside.add_at(key.clone(), now));
        for pause in [1, 2, 4, 8, 15, 15] {
            assert_eq!(aside.standing_at(&one, now), Standing::Waiting);
            assert!(!aside.add_at(key.clone(), now), "callbacks of one attempt count once");
            now += Duration::from_secs(pause);
            assert_eq!(aside.standing_at(&one, now), Standing::Due(key.clone()));
            assert!(!aside.add_at(key.clone(), now));
        }
        now += PAUSE_MAX + KEPT + Duration::from_millis(1);
        assert_eq!(aside.standing_at(&one, now), Standing::Free);
    }

    #[test]
    fn one_line_a_second_says_what_is_set_aside_and_how_many_had_none() {
        let (mut lines, now) = (LineLimit::default(), Instant::now());
        let after = |ms| now + Duration::from_millis(ms);
        assert_eq!(
            [0, 1, 999, 1000, 1001, 3000].map(|ms| lines.line(after(ms))),
            [Some(0), None, None, Some(2), None, Some(1)]
        );
    }

    #[test]
    fn the_set_keeps_its_limit_and_makes_space_for_what_fails_now() {
        let (aside, now) = (SetAside::default(), Instant::now());
        let app = SdkAppId::parse("1400000001").unwrap();
        let key = |number: usize| AsideKey::Group(app, number.to_string());
        for number in 0..KEYS_MAX {
            assert!(aside.add_at(key(number), now));
        }
        assert!(!aside.add_at(key(KEYS_MAX), now));
        assert!(aside.add_at(key(KEYS_MAX), now + PAUSE_FIRST + KEPT));
    }
}
