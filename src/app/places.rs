//! How many connections the listeners may have, from the file descriptors that the process got.
//!
//! A connection holds a descriptor, and so do the pools, the spool and the private PostgreSQL. Where the system grants fewer
//! than all of them need, places that exist on paper alone would let the connections of one listener take the descriptors
//! of the other: readers that of callbacks. So both are cut to what is there, the public listener last.

use crate::api::live::FOLLOWERS_MAX;

/// Connections of the public listener at the same time. Each holds a descriptor and a buffer.
const CALLBACKS_MAX: usize = 800;

/// Connections of the internal listener beside those of followers.
const READS_MAX: usize = 150;

/// Connections of the internal listener, those of followers included.
const API_MAX: usize = FOLLOWERS_MAX + READS_MAX;

/// Descriptors of everything that is no connection of a listener: pools, files, pipes.
const OTHERS: usize = 100;

/// What each listener has, however few descriptors there are.
const LEAST: usize = 8;

/// Descriptors that the service asks the system for.
pub(super) const DESCRIPTORS: u64 = (CALLBACKS_MAX + API_MAX + OTHERS) as u64;

/// The places for connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Places {
    /// On the public listener.
    pub(super) callbacks: usize,
    /// On the internal listener.
    pub(super) api: usize,
    /// Of those on the internal listener, how many may follow the feed.
    pub(super) followers: usize,
    /// And how many reads may be in work; what is left is for health checks.
    pub(super) reads: usize,
}

impl Places {
    /// With so many descriptors. The public listener gets all it wants, or three quarters.
    pub(super) fn of(descriptors: u64) -> Self {
        let all = usize::try_from(descriptors).unwrap_or(usize::MAX).saturating_sub(OTHERS);
        let api = (all / 4).max(all.saturating_sub(CALLBACKS_MAX)).clamp(LEAST, API_MAX);
        let callbacks = all.saturating_sub(api).clamp(LEAST, CALLBACKS_MAX);
        let others = READS_MAX.min(api / 2);
        let places = Self { callbacks, api, followers: api - others, reads: others - others / 8 - 1 };
        assert!(places.followers + places.reads < places.api, "a health check finds a place: {places:?}");
        places
    }

    /// True where there are as many as the service can use.
    pub(super) fn are_all(self) -> bool {
        self == Self::of(DESCRIPTORS)
    }
}

/// Raises the process's limit of open files as far as is wanted and allowed; the places that this makes.
pub(super) fn granted() -> Places {
    let places = match rlimit::increase_nofile_limit(DESCRIPTORS) {
        Ok(got) => Places::of(got.min(DESCRIPTORS)),
        // There is no such limit here, or none that can be read.
        Err(_) => Places::of(DESCRIPTORS),
    };
    if !places.are_all() {
        tracing::warn!(
            "this process may not have {DESCRIPTORS} open files: {} connections of callbacks, {} of readers, {} of \
             followers are taken at once",
            places.callbacks,
            places.api - places.followers,
            places.followers
        );
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_listener_keeps_most_places_and_all_of_them_fit_into_what_was_granted() {
        let all = Places::of(DESCRIPTORS);
        assert_eq!((all.callbacks, all.api, all.followers), (CALLBACKS_MAX, API_MAX, FOLLOWERS_MAX));
        assert!(all.are_all());
        assert_eq!(Places::of(u64::MAX), all);
        let mut before = Places::of(0);
        for descriptors in 0..DESCRIPTORS {
            let places = Places::of(descriptors);
            assert!(places.callbacks >= before.callbacks && places.api >= before.api, "{places:?}");
            assert!(
                places.callbacks >= 3 * places.api || places.callbacks == CALLBACKS_MAX || descriptors < 140
            );
            if descriptors > 140 {
                assert!(
                    (places.callbacks + places.api + OTHERS) as u64 <= descriptors,
                    "{descriptors}: {places:?}"
                );
            }
            before = places;
        }
        let few = Places::of(300);
        assert_eq!((few.callbacks, few.api, few.followers), (150, 50, 25));
    }
}
