//! The demo world: reading clubs with human names over two weeks, as callbacks in order of their event times.
//!
//! It exists so that a console, a query or a follower has something to show that a person recognises: a moderator who
//! removes six people within five minutes, a group that was dismissed, a change of owner, name cards, topics, names in six
//! scripts, callbacks that cannot be read. The seed chooses what happens between the scenes. The same first day and seed
//! give the same bytes, so that a second run adds nothing: each of its callbacks is a duplicate.

use super::demo_life::everyday_life;
use super::demo_scenes::scenes;
use super::demo_story::{DemoCallback, Story};
use crate::model::Millis;

/// How many days the story has. The last one is the day before the one on which it is first sent.
const DAYS: i64 = 14;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// When the first group is created, after the beginning of the first day: 09:12.
const FIRST_CREATION_MS: i64 = (9 * 60 + 12) * 60 * 1000;

/// How many callbacks of the story are parked.
pub const DEMO_PARKED: u64 = 2;

/// The beginning of the first day, in UTC, of a story that ends on the day before `now`.
#[must_use]
pub fn demo_begin(now: Millis) -> Millis {
    Millis::new((now.get().div_euclid(DAY_MS) - DAYS) * DAY_MS)
}

/// The beginning of the first day of a story whose first group was created at this time; `None` where that was no group of
/// this story.
#[must_use]
pub(super) fn demo_begin_of(created: Millis) -> Option<Millis> {
    let begin = created.get() - FIRST_CREATION_MS;
    (begin.rem_euclid(DAY_MS) == 0).then_some(Millis::new(begin))
}

/// The minute before the moderator removes six people.
#[must_use]
pub fn demo_before_the_removals(begin: Millis) -> Millis {
    Millis::new(begin.get() + (DAYS - 1) * DAY_MS + (21 * 60 + 16) * 60 * 1000)
}

/// The whole story in order of time.
pub(super) fn demo_callbacks(begin: Millis, seed: u64) -> Vec<DemoCallback> {
    let mut story = Story::new(begin);
    scenes(&mut story);
    everyday_life(&mut story, seed);
    let callbacks = story.finish();
    let last = callbacks.last().map_or(begin.get(), |last| last.at.get());
    assert!(last < begin.get() + DAYS * DAY_MS, "the story ends within its days");
    callbacks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_day_and_seed_give_the_same_bytes_and_another_seed_does_not() {
        let begin = demo_begin(Millis::new(1_764_122_400_000));
        assert_eq!(demo_callbacks(begin, 1), demo_callbacks(begin, 1));
        assert_ne!(demo_callbacks(begin, 1), demo_callbacks(begin, 2));
    }

    #[test]
    fn a_story_that_is_sent_on_a_later_day_begins_where_its_first_group_was_created() {
        let begin = demo_begin(Millis::new(1_764_122_400_000));
        let first = &demo_callbacks(begin, 1)[0];
        assert_eq!(first.body["GroupId"], super::super::DEMO_FIRST_GROUP);
        assert_eq!(first.body["EventTime"], first.at.get());
        assert_eq!(demo_begin_of(first.at), Some(begin));
        assert_eq!(demo_begin_of(Millis::new(first.at.get() + 1)), None, "another group with this id");
    }

    #[test]
    fn times_rise() {
        for seed in 1..20 {
            let callbacks = demo_callbacks(Millis::new(0), seed);
            assert!(callbacks.len() > 250, "{} callbacks", callbacks.len());
            assert!(callbacks.windows(2).all(|pair| pair[0].at < pair[1].at));
        }
    }
}
