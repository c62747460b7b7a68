//! How many connections the listeners may have, from the file descriptors that the process got.
//!
//! A connection holds a descriptor, and so do the pools, the spool and the private PostgreSQL. Where the system grants fewer
//! than all of them need, limits that the descriptors do not cover would let the connections of one listener take those of
//! the other: readers those of callbacks. So both limits are cut to what was granted, that of the public listener last.

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

/// How many connections, and of which kind, may be open at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ConnectionLimits {
    /// On the public listener.
    pub(super) callbacks: usize,
    /// On the internal listener.
    pub(super) api: usize,
    /// Of those on the internal listener, how many may follow the feed.
    pub(super) followers: usize,
    /// And how many reads may be in work; what is left is for health checks.
    pub(super) reads: usize,
}

impl ConnectionLimits {
    /// With so many descriptors. The public listener gets all it wants, or three quarters.
    pub(super) fn of(descriptors: u64) -> Self {
        let all = usize::try_from(descriptors).unwrap_or(usize::MAX).saturating_sub(OTHERS);
        let api = (all / 4).max(all.saturating_sub(CALLBACKS_MAX)).clamp(LEAST, API_MAX);
        let callbacks = all.saturating_sub(api).clamp(LEAST, CALLBACKS_MAX);
        let others = READS_MAX.min(api / 2);
        let limits = Self { callbacks, api, followers: api - others, reads: others - others / 8 - 1 };
        assert!(
            limits.followers + limits.reads < limits.api,
            "a health check finds a free connection: {limits:?}"
        );
        limits
    }

    /// True where there are as many as the service can use.
    pub(super) fn are_all(self) -> bool {
        self == Self::of(DESCRIPTORS)
    }
}

/// Raises the process's limit of open files as far as is wanted and allowed; the limits that follow from it. `backends`
/// descriptors are for connections to the backends behind the mirror.
pub(super) fn granted(backends: usize) -> ConnectionLimits {
    let beside = backends as u64;
    let wanted = DESCRIPTORS + beside;
    let limits = match rlimit::increase_nofile_limit(wanted) {
        Ok(got) => ConnectionLimits::of(got.min(wanted).saturating_sub(beside)),
        // There is no such limit here, or none that can be read.
        Err(_) => ConnectionLimits::of(DESCRIPTORS),
    };
    if !limits.are_all() {
        tracing::warn!(
            "this process may not have {wanted} open files: {} connections of callbacks, {} of readers, {} of \
             followers are taken at once",
            limits.callbacks,
            limits.api - limits.followers,
            limits.followers
        );
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_listener_keeps_most_connections_and_all_of_them_fit_into_what_was_granted() {
        let all = ConnectionLimits::of(DESCRIPTORS);
        assert_eq!((all.callbacks, all.api, all.followers), (CALLBACKS_MAX, API_MAX, FOLLOWERS_MAX));
        assert!(all.are_all());
        assert_eq!(ConnectionLimits::of(u64::MAX), all);
        let mut before = ConnectionLimits::of(0);
        for descriptors in 0..DESCRIPTORS {
            let limits = ConnectionLimits::of(descriptors);
            assert!(limits.callbacks >= before.callbacks && limits.api >= before.api, "{limits:?}");
            assert!(
                limits.callbacks >= 3 * limits.api || limits.callbacks == CALLBACKS_MAX || descriptors < 140
            );
            if descriptors > 140 {
                assert!(
                    (limits.callbacks + limits.api + OTHERS) as u64 <= descriptors,
                    "{descriptors}: {limits:?}"
                );
            }
            before = limits;
        }
        let few = ConnectionLimits::of(300);
        assert_eq!((few.callbacks, few.api, few.followers), (150, 50, 25));
    }
}
