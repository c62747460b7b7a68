//! How far a replay has come, as a text that a later one begins with.
//!
//! The text stands in the log while a replay runs. It says where to begin and nothing of what was found before, so that no state
//! is kept anywhere, and a replay on a standby, which can write nothing, goes on in the same way.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use super::report::Report;
use crate::store::ledger_walk::StoredGroup;
use crate::store::lines::ALL;

/// A place in a replay: first the groups in the order of the key, then the index of people, partition after partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplayPlace {
    /// Behind this group.
    Groups(StoredGroup),
    /// At the people of the partition that has this time, in Unix milliseconds.
    People(i64),
}

impl ReplayPlace {
    /// Before everything.
    #[must_use]
    pub fn start() -> Self {
        Self::Groups((ALL.0.0, ALL.0.1.to_owned()))
    }
}

impl fmt::Display for ReplayPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Groups((app, group)) => write!(f, "groups:{app}:{group}"),
            Self::People(ms) => write!(f, "people:{ms}"),
        }
    }
}

impl FromStr for ReplayPlace {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let place = match text.split_once(':') {
            Some(("groups", group)) => group
                .split_once(':')
                .and_then(|(app, group)| Some(Self::Groups((app.parse().ok()?, group.to_owned())))),
            Some(("people", ms)) => ms.parse().ok().map(Self::People),
            _ => None,
        };
        place.ok_or_else(|| {
            anyhow::anyhow!("--resume is {text:?}; it must be a place as the log of a replay has it, such as groups:1400000001:@TGS#1")
        })
    }
}

/// How often the place of a replay stands in the log.
const NOTE_PERIOD: Duration = Duration::from_mins(1);

/// When the place of a replay was logged.
#[derive(Debug)]
pub(super) struct PlaceNotes(Instant);

impl Default for PlaceNotes {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl PlaceNotes {
    /// Logs the place, unless it was logged a moment ago.
    pub(super) fn note(&mut self, place: &ReplayPlace, report: &Report) {
        if self.0.elapsed() >= NOTE_PERIOD {
            self.0 = Instant::now();
            tracing::info!(
                ledger.rows = report.ledger_rows,
                differences = report.differences,
                "the replay has come so far; one that is interrupted now goes on with --resume '{place}'"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_back_from_its_text_whatever_the_group_is_called() {
        let groups =
            [(1, "@TGS#1"), (i64::MAX, ""), (7, "a:b c:")].map(|(app, group)| (app, group.to_owned()));
        let places = groups.map(ReplayPlace::Groups).into_iter();
        for place in
            places.chain([ReplayPlace::start(), ReplayPlace::People(i64::MIN), ReplayPlace::People(5)])
        {
            assert_eq!(place.to_string().parse::<ReplayPlace>().ok(), Some(place));
        }
        for text in ["", "groups", "groups:x:g", "groups:1", "people:", "people:x", "other:1:g"] {
            assert!(text.parse::<ReplayPlace>().is_err(), "{text}");
        }
    }
}
