//! What the public listener of this process has done in the last hour, minute by minute: counters in rings of a fixed size.
//!
//! `/metrics` has totals, which need a server that scrapes them before they show anything; these rings answer a person who
//! looks at a page, from memory, while the database is away too. They begin empty with the process and know nothing of
//! other replicas, so a page that shows them names the process. Times are arguments.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::model::{Millis, SdkAppId};

/// How many minutes a ring remembers.
pub const MINUTES: usize = 60;

/// A minute in milliseconds.
const MINUTE_MS: i64 = 60_000;

/// Upper bounds of the classes of answer times, in milliseconds; what takes longer than the last is in a class of its own.
const ANSWER_BOUNDS_MS: [u16; 20] =
    [1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50, 75, 100, 150, 200, 300, 500, 700, 1_000, 1_400];

/// A number for each of the last [`MINUTES`] minutes. What is older is forgotten when a newer minute takes its place.
#[derive(Debug, Clone)]
pub struct MinuteRing<T> {
    /// The number of the newest minute since 1970.
    newest: i64,
    /// Minute `m` stands at `m` modulo [`MINUTES`].
    slots: [T; MINUTES],
}

impl<T: Default + Clone> Default for MinuteRing<T> {
    fn default() -> Self {
        Self { newest: 0, slots: std::array::from_fn(|_| T::default()) }
    }
}

impl<T: Default + Clone> MinuteRing<T> {
    /// The value of the minute of this time; none where it lies before all that is remembered.
    pub fn at(&mut self, now: Millis) -> Option<&mut T> {
        let minute = now.get().div_euclid(MINUTE_MS);
        let passed = minute.saturating_sub(self.newest);
        if passed > 0 {
            let cleared = usize::try_from(passed).unwrap_or(MINUTES).min(MINUTES);
            for back in 0..cleared {
                self.slots[slot(minute - i64::try_from(back).unwrap_or_default())] = T::default();
            }
            self.newest = minute;
        }
        let is_kept = self.newest - minute < i64::try_from(MINUTES).unwrap_or(i64::MAX);
        is_kept.then(|| &mut self.slots[slot(minute)])
    }

    /// The values of the last hour up to the minute of this time, oldest first.
    #[must_use]
    pub fn hour_before(&self, now: Millis) -> [T; MINUTES] {
        let minute = now.get().div_euclid(MINUTE_MS);
        std::array::from_fn(|at| {
            let wanted = minute - i64::try_from(MINUTES - 1 - at).unwrap_or_default();
            let age = self.newest - wanted;
            let is_kept = (0..i64::try_from(MINUTES).unwrap_or(i64::MAX)).contains(&age);
            if is_kept { self.slots[slot(wanted)].clone() } else { T::default() }
        })
    }
}

fn slot(minute: i64) -> usize {
    let slots = i64::try_from(MINUTES).unwrap_or(i64::MAX);
    usize::try_from(minute.rem_euclid(slots)).unwrap_or_default()
}

/// Answers of one minute, by class of time.
type AnswerClasses = [u32; ANSWER_BOUNDS_MS.len() + 1];

/// Callbacks of one kind that are answered and not kept, since the start of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotKept {
    /// How many.
    pub count: u64,
    /// Receipt of the newest.
    pub last_at: Millis,
}

#[derive(Debug, Default)]
struct AppTraffic {
    callbacks: MinuteRing<u32>,
    /// By label of the command; the labels are a closed list.
    not_kept: BTreeMap<&'static str, NotKept>,
}

#[derive(Debug, Default)]
struct TrafficState {
    answers: MinuteRing<AnswerClasses>,
    /// The apps are those that are served: no sender chooses them.
    apps: BTreeMap<SdkAppId, AppTraffic>,
}

/// What this process has done. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Traffic(Arc<Mutex<TrafficState>>);

/// The answers of the last hour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerTimes {
    /// The 99th percentile of each minute, oldest first: the upper bound of its class in milliseconds. None: no answer.
    pub minutes: [Option<AnswerTime>; MINUTES],
    /// That of the whole hour.
    pub hour: Option<AnswerTime>,
}

/// The class of an answer time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AnswerTime {
    /// At most so many milliseconds.
    UpTo(u16),
    /// More than so many.
    Over(u16),
}

impl AnswerTime {
    /// The bound.
    #[must_use]
    pub fn bound_ms(self) -> u16 {
        match self {
            Self::UpTo(ms) | Self::Over(ms) => ms,
        }
    }
}

impl Traffic {
    fn state(&self) -> MutexGuard<'_, TrafficState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An authentic callback of an app has come, be it kept or not.
    pub fn callback(&self, app: SdkAppId, now: Millis) {
        if let Some(count) = self.state().apps.entry(app).or_default().callbacks.at(now) {
            *count = count.saturating_add(1);
        }
    }

    /// It is one of those that are answered and not kept.
    pub fn not_kept(&self, app: SdkAppId, label: &'static str, now: Millis) {
        let mut state = self.state();
        let none = NotKept { count: 0, last_at: now };
        let counted = state.apps.entry(app).or_default().not_kept.entry(label).or_insert(none);
        counted.count += 1;
        counted.last_at = counted.last_at.max(now);
    }

    /// A request was answered after so long.
    pub fn answered(&self, took: Duration, now: Millis) {
        let class = ANSWER_BOUNDS_MS.partition_point(|bound| Duration::from_millis(u64::from(*bound)) < took);
        assert!(class <= ANSWER_BOUNDS_MS.len(), "every time has a class");
        if let Some(classes) = self.state().answers.at(now) {
            classes[class] = classes[class].saturating_add(1);
        }
    }

    /// Callbacks of an app in each minute of the last hour, oldest first; the last one has only begun.
    #[must_use]
    pub fn callbacks(&self, app: SdkAppId, now: Millis) -> [u32; MINUTES] {
        self.state().apps.get(&app).map_or([0; MINUTES], |app| app.callbacks.hour_before(now))
    }

    /// What of an app was answered and not kept, by label of the command.
    #[must_use]
    pub fn all_not_kept(&self, app: SdkAppId) -> BTreeMap<&'static str, NotKept> {
        self.state().apps.get(&app).map(|app| app.not_kept.clone()).unwrap_or_default()
    }

    /// Answer times of all apps together.
    #[must_use]
    pub fn answers(&self, now: Millis) -> AnswerTimes {
        let hour = self.state().answers.hour_before(now);
        let mut sum: AnswerClasses = AnswerClasses::default();
        for classes in &hour {
            sum.iter_mut().zip(classes).for_each(|(sum, count)| *sum = sum.saturating_add(*count));
        }
        AnswerTimes { minutes: std::array::from_fn(|at| p99(&hour[at])), hour: p99(&sum) }
    }
}

/// The class that holds the answer which at most one in a hundred exceeds.
fn p99(classes: &AnswerClasses) -> Option<AnswerTime> {
    let total: u64 = classes.iter().map(|count| u64::from(*count)).sum();
    let wanted = (total * 99).div_ceil(100);
    let mut seen = 0;
    for (at, count) in classes.iter().enumerate() {
        seen += u64::from(*count);
        if seen >= wanted && total > 0 {
            let last = ANSWER_BOUNDS_MS[ANSWER_BOUNDS_MS.len() - 1];
            return Some(ANSWER_BOUNDS_MS.get(at).map_or(AnswerTime::Over(last), |ms| AnswerTime::UpTo(*ms)));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: i64 = 1_767_225_600_000;

    fn at(minute: i64) -> Millis {
        Millis::new(T0 + minute * MINUTE_MS + 7)
    }

    #[test]
    fn a_ring_keeps_an_hour_and_forgets_what_is_older() {
        let mut ring = MinuteRing::<u32>::default();
        for minute in [0, 0, 3, 59] {
            *ring.at(at(minute)).unwrap() += 1;
        }
        let hour = ring.hour_before(at(59));
        assert_eq!((hour[0], hour[3], hour[59], hour.iter().sum()), (2, 1, 1, 4));
        let later = ring.hour_before(at(61));
        assert_eq!((later[1], later[57], later.iter().sum::<u32>()), (1, 1, 2));
        assert_eq!(ring.hour_before(at(500)).iter().sum::<u32>(), 0);
        *ring.at(at(200)).unwrap() += 1;
        assert_eq!(
            ring.hour_before(at(200)).iter().sum::<u32>(),
            1,
            "nothing old stands in a new minute's place"
        );
        assert!(ring.at(at(140)).is_none(), "a clock that was set back far changes nothing");
        assert_eq!(ring.hour_before(at(140)).iter().sum::<u32>(), 0);
    }

    #[test]
    fn the_percentile_is_the_bound_that_one_in_a_hundred_exceeds() {
        let traffic = Traffic::default();
        assert_eq!(traffic.answers(at(0)).hour, None);
        for _ in 0..99 {
            traffic.answered(Duration::from_micros(800), at(0));
        }
        traffic.answered(Duration::from_millis(1_300), at(0));
        assert_eq!(traffic.answers(at(0)).hour, Some(AnswerTime::UpTo(1)));
        traffic.answered(Duration::from_secs(9), at(1));
        let answers = traffic.answers(at(1));
        assert_eq!(answers.hour, Some(AnswerTime::UpTo(1_400)));
        assert_eq!(
            (answers.minutes[58], answers.minutes[59]),
            (Some(AnswerTime::UpTo(1)), Some(AnswerTime::Over(1_400)))
        );
        traffic.answered(Duration::from_millis(10), at(2));
        assert_eq!(traffic.answers(at(2)).minutes[59], Some(AnswerTime::UpTo(10)), "a bound is in its class");
    }

    #[test]
    fn apps_are_counted_apart() {
        let (traffic, [a, b]) = (Traffic::default(), ["1", "2"].map(|app| SdkAppId::parse(app).unwrap()));
        traffic.callback(a, at(0));
        traffic.not_kept(b, "State.StateChange", at(0));
        traffic.not_kept(b, "State.StateChange", at(1));
        assert_eq!(traffic.callbacks(a, at(0)).iter().sum::<u32>(), 1);
        assert_eq!(traffic.callbacks(b, at(0)).iter().sum::<u32>(), 0);
        assert_eq!(traffic.all_not_kept(b)["State.StateChange"], NotKept { count: 2, last_at: at(1) });
        assert!(traffic.all_not_kept(a).is_empty());
    }
}
