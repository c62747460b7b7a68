//! Shares: how much of the spool each app may take, so that an app with much traffic leaves room for the callbacks of the
//! others.
//!
//! A record that is in the spool was answered with OK and cannot be thrown out for another one, so room has to be kept
//! free before it is needed. Each app has an equal share of the limit. Half of it is kept free for the app whatever
//! happens; the other half is lent to apps that need more, as long as its owner has nothing in the spool. Records of apps
//! that are not served any more stay until they are drained; the shares are those of what is left. Pure: a thread asks
//! before it writes. What a record is charged with stands here, too.

use std::collections::BTreeMap;

use crate::callback::BODY_BYTES_MAX;
use crate::model::{Millis, SdkAppId};

/// A page of the store.
const PAGE_BYTES: u64 = 4096;

/// What a record takes of the limit, at least what it takes of the disk: small ones share pages; one that does not fit
/// into half a page gets pages of its own, and their number is a power of two.
pub(super) fn charge(record: &[u8]) -> u64 {
    let bytes = record.len() as u64 + 64;
    match bytes {
        0..=1365 => bytes + bytes / 8,
        1366..=2048 => PAGE_BYTES / 2,
        _ => bytes.next_power_of_two(),
    }
}

/// What the largest callback takes of the limit. With less left the spool counts as full.
pub(super) const CHARGE_MAX: u64 = 2 * BODY_BYTES_MAX as u64;

/// What one app has in the spool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AppUse {
    /// Records.
    pub depth: u64,
    /// What they are charged with, in bytes.
    pub bytes: u64,
    /// No record was received before this: the oldest one's receipt, or that of one that is gone by now.
    pub oldest: Option<Millis>,
}

/// The apps that are served, and the limit that they share.
#[derive(Debug, Clone)]
pub(super) struct Shares {
    max_bytes: u64,
    apps: Vec<SdkAppId>,
}

/// Bytes in the spool, by app; those of a record that names none are under `None`.
pub(super) type UsedBytes = BTreeMap<Option<SdkAppId>, u64>;

impl Shares {
    pub(super) fn new(max_bytes: u64, apps: &[SdkAppId]) -> Self {
        assert!(!apps.is_empty(), "a spool has an app that it is for");
        Self { max_bytes, apps: apps.to_vec() }
    }

    /// Adds a record of an app to what is used, if it fits; false where it does not.
    pub(super) fn admit(&self, used: &mut UsedBytes, app: Option<SdkAppId>, charged: u64) -> bool {
        let total: u64 = used.values().sum();
        let of = |app: Option<SdkAppId>| used.get(&app).copied().unwrap_or_default();
        let served = |app: &SdkAppId| self.apps.contains(app);
        let others = used.iter().filter(|(other, _)| **other != app);
        let unserved = others.filter(|(other, _)| !other.as_ref().is_some_and(served));
        let unserved: u64 = unserved.map(|(_, bytes)| bytes).sum();
        let share = self.max_bytes.saturating_sub(unserved) / self.apps.len() as u64;
        let is_in_share = app.as_ref().is_some_and(served) && of(app) + charged <= share;
        let kept_free = |other: &SdkAppId| {
            let bytes = of(Some(*other));
            let kept = if is_in_share || bytes == 0 { share / 2 } else { share };
            kept.saturating_sub(bytes)
        };
        let others = self.apps.iter().filter(|other| Some(**other) != app);
        let kept_free: u64 = others.map(kept_free).sum();
        if total + charged + kept_free > self.max_bytes {
            return false;
        }
        *used.entry(app).or_default() += charged;
        assert!(total + charged <= self.max_bytes, "the spool keeps its limit");
        true
    }

    /// Whether no app could put so much.
    pub(super) fn are_used_up(&self, used: &UsedBytes, charged: u64) -> bool {
        self.apps.iter().all(|app| !self.admit(&mut used.clone(), Some(*app), charged))
    }
}

#[cfg(test)]
mod tests {
    use super::{Shares, UsedBytes};
    use crate::model::SdkAppId;

    const LIMIT: u64 = 1200;

    fn app(id: u64) -> Option<SdkAppId> {
        SdkAppId::parse(&id.to_string()).ok()
    }

    fn shares(count: u64) -> Shares {
        Shares::new(LIMIT, &(1..=count).filter_map(app).collect::<Vec<_>>())
    }

    /// Puts bytes one by one until no more fit.
    fn fill(shares: &Shares, used: &mut UsedBytes, id: u64) -> u64 {
        while shares.admit(used, app(id), 1) {}
        used.get(&app(id)).copied().unwrap_or_default()
    }

    #[test]
    fn one_app_has_the_whole_limit() {
        assert_eq!(fill(&shares(1), &mut UsedBytes::new(), 1), LIMIT);
    }

    #[test]
    fn an_app_alone_leaves_half_of_the_share_of_each_other_one() {
        for (count, alone, next) in [(2, 900, 300), (3, 800, 200), (4, 750, 150)] {
            let (shares, mut used) = (shares(count), UsedBytes::new());
            assert_eq!(fill(&shares, &mut used, 1), alone);
            for other in 2..=count {
                assert!(!shares.are_used_up(&used, 1));
                assert_eq!(fill(&shares, &mut used, other), next, "app {other} of {count}");
            }
            assert!(shares.are_used_up(&used, 1));
        }
    }

    #[test]
    fn no_app_goes_beyond_its_share_while_another_one_has_something_in_the_spool() {
        let (shares, mut used) = (shares(2), UsedBytes::new());
        assert!(shares.admit(&mut used, app(2), 1));
        assert_eq!(fill(&shares, &mut used, 1), LIMIT / 2);
        assert_eq!(fill(&shares, &mut used, 2), LIMIT / 2);
    }

    #[test]
    fn whatever_the_order_each_app_gets_at_least_half_of_its_share_and_the_limit_is_kept() {
        let mut chance = fastrand::Rng::with_seed(7);
        for _ in 0..500 {
            let count = chance.u64(1..6);
            let (shares, mut used) = (shares(count), UsedBytes::new());
            let unserved = chance.u64(0..LIMIT / 2);
            used.insert(app(99), unserved);
            for _ in 0..200 {
                let _ = shares.admit(&mut used, app(chance.u64(1..=count)), chance.u64(1..60));
            }
            let least = (LIMIT - unserved) / count / 2;
            for id in 1..=count {
                assert!(fill(&shares, &mut used, id) >= least, "{used:?}");
            }
            assert!(used.values().sum::<u64>() <= LIMIT);
        }
    }

    #[test]
    fn records_of_an_app_that_is_not_served_make_the_shares_smaller_and_get_none() {
        let (shares, mut used) = (shares(2), UsedBytes::from([(app(9), 400)]));
        assert_eq!(fill(&shares, &mut used, 9), 600, "half of each share stays free");
        assert_eq!(fill(&shares, &mut used, 1), 450);
        assert_eq!(fill(&shares, &mut used, 2), 150);
        let mut used = UsedBytes::from([(app(9), 400), (app(2), 1)]);
        assert_eq!(fill(&shares, &mut used, 1), 400);
        assert_eq!(fill(&shares, &mut used, 2), 400);
    }
}
