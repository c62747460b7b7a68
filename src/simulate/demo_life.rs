//! What happens in the clubs between the scenes: people of the crowd come, change their cards, leave.
//!
//! No scene names any of them, so the seed may choose as it likes: whom it lets in or out changes no scene.

use std::collections::BTreeSet;

use super::demo_clubs::{CAIRO, CRIME, CROWD, Club, FUTURE, LISBOA, NIGHT_OWLS, POETRY, TEA, YE_MAO_ZI};
use super::demo_story::Story;

/// A club, who acts for it, and the days on which something happens in it, from and up to.
const OPEN: [(Club, &str, i64, i64); 8] = [
    (NIGHT_OWLS, "ana_77", 1, 13),
    (YE_MAO_ZI, "mei_lin", 1, 13),
    (POETRY, "olga.petrova", 1, 11),
    (CRIME, "emma.b", 3, 13),
    (LISBOA, "ines_v", 2, 13),
    (FUTURE, "sakura_n", 4, 13),
    (TEA, "dmitri_v", 5, 13),
    (CAIRO, "yusuf_a", 6, 13),
];

/// How many things happen on one day in one club at most.
const PER_DAY_MAX: u32 = 5;

/// Adds the everyday life to a story.
pub(super) fn everyday_life(story: &mut Story, seed: u64) {
    let mut chance = fastrand::Rng::with_seed(seed);
    for (club, keeper, from, to) in OPEN {
        let mut inside: BTreeSet<&str> = BTreeSet::new();
        for day in from..to {
            let hours = hours_of_day(&mut chance);
            for hour in hours {
                let when = (day, hour, chance.i64(0..60), chance.i64(0..60));
                let user = CROWD[chance.usize(0..CROWD.len())].id;
                let roll = chance.u8(0..10);
                if !inside.contains(user) {
                    inside.insert(user);
                    if roll < 4 {
                        story.invite(when, club, keeper, &[user]);
                    } else {
                        story.apply(when, club, user);
                    }
                } else if roll < 6 {
                    story.card(when, club, user);
                } else {
                    inside.remove(user);
                    if roll == 9 {
                        story.remove(when, club, keeper, &[user]);
                    } else {
                        story.leave(when, club, user);
                    }
                }
            }
        }
    }
}

/// The hours in which something happens on one day, rising.
fn hours_of_day(chance: &mut fastrand::Rng) -> BTreeSet<i64> {
    let count = chance.u32(1..=PER_DAY_MAX);
    (0..count).map(|_| chance.i64(6..20)).collect()
}
