//! What each app has in the spool, as sums that the file keeps beside the records, in one small row.
//!
//! The row is written in the transaction of the records themselves, so it is never ahead or behind. It takes the place of
//! the row that a file of an earlier program has, because a transaction that empties the spool must need no more pages than
//! a full disk leaves. Where the sums do not fit the records, they are made anew. Pure: no store.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::shares::{AppUse, UsedBytes};
use crate::model::{Millis, SdkAppId};

/// What every app has; one that has nothing is not in it. A record that names no app is under `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct AppSums(BTreeMap<Option<SdkAppId>, AppUse>);

/// The row of the file.
#[derive(Debug, Serialize, Deserialize)]
struct SumsRow {
    /// The last number given.
    last: u64,
    apps: Vec<AppRow>,
}

#[derive(Debug, Serialize, Deserialize)]
struct AppRow {
    /// None: that of records that name none.
    app: Option<i64>,
    depth: u64,
    bytes: u64,
    oldest_ms: Option<i64>,
}

impl AppSums {
    /// A record is put.
    pub(super) fn put(&mut self, app: Option<SdkAppId>, received_ms: i64, charged: u64) {
        let of_app = self.0.entry(app).or_default();
        of_app.depth += 1;
        of_app.bytes += charged;
        let received = Millis::new(received_ms);
        of_app.oldest = Some(of_app.oldest.map_or(received, |oldest| oldest.min(received)));
    }

    /// A record is gone.
    pub(super) fn remove(&mut self, app: Option<SdkAppId>, charged: u64) {
        let Some(of_app) = self.0.get_mut(&app) else { return };
        of_app.depth = of_app.depth.saturating_sub(1);
        of_app.bytes = of_app.bytes.saturating_sub(charged);
        if of_app.depth == 0 {
            self.0.remove(&app);
        }
    }

    /// The oldest record of all is this one, so it is the oldest of its app as well.
    pub(super) fn begin_at(&mut self, app: Option<SdkAppId>, received_ms: i64) {
        if let Some(of_app) = self.0.get_mut(&app) {
            of_app.oldest = Some(Millis::new(received_ms));
        }
    }

    pub(super) fn depth(&self) -> u64 {
        self.0.values().map(|app| app.depth).sum()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.0.values().map(|app| app.bytes).sum()
    }

    /// The bytes alone, for the shares.
    pub(super) fn used_bytes(&self) -> UsedBytes {
        self.0.iter().map(|(app, of_app)| (*app, of_app.bytes)).collect()
    }

    /// What each app that is known has.
    pub(super) fn by_app(&self) -> BTreeMap<SdkAppId, AppUse> {
        self.0.iter().filter_map(|(app, of_app)| Some(((*app)?, *of_app))).collect()
    }

    /// The row, with the last number given.
    ///
    /// # Errors
    /// None in practice: numbers are JSON.
    pub(super) fn encode(&self, last: u64) -> Result<Vec<u8>, serde_json::Error> {
        let row = |(app, of_app): (&Option<SdkAppId>, &AppUse)| AppRow {
            app: app.map(SdkAppId::get),
            depth: of_app.depth,
            bytes: of_app.bytes,
            oldest_ms: of_app.oldest.map(Millis::get),
        };
        serde_json::to_vec(&SumsRow { last, apps: self.0.iter().map(row).collect() })
    }

    /// The sums and the last number given; none where the bytes are no such row.
    pub(super) fn decode(row: &[u8]) -> Option<(Self, u64)> {
        let SumsRow { last, apps } = serde_json::from_slice(row).ok()?;
        let mut sums = Self::default();
        for AppRow { app, depth, bytes, oldest_ms } in apps {
            let app = app.and_then(|app| SdkAppId::parse(&app.to_string()).ok());
            sums.0.insert(app, AppUse { depth, bytes, oldest: oldest_ms.map(Millis::new) });
        }
        Some((sums, last))
    }
}

#[cfg(test)]
mod tests {
    use super::AppSums;
    use crate::model::{Millis, SdkAppId};

    #[test]
    fn sums_follow_the_records_and_come_back_from_their_row() {
        let [one, two] = ["1", "2"].map(|app| SdkAppId::parse(app).ok());
        let mut sums = AppSums::default();
        for (app, at) in [(one, 5), (two, 6), (one, 4), (None, 7)] {
            sums.put(app, at, 100);
        }
        assert_eq!((sums.depth(), sums.bytes()), (4, 400));
        assert_eq!(AppSums::decode(&sums.encode(9).unwrap()), Some((sums.clone(), 9)));
        let oldest = |sums: &AppSums, app: Option<SdkAppId>| sums.by_app()[&app.unwrap()].oldest;
        assert_eq!(oldest(&sums, one), Some(Millis::new(4)));
        sums.remove(one, 100);
        // What the oldest of the app is now is known once it is the oldest of all; until then no record is older than this.
        assert_eq!(oldest(&sums, one), Some(Millis::new(4)));
        sums.begin_at(one, 5);
        assert_eq!(oldest(&sums, one), Some(Millis::new(5)));
        sums.remove(one, 100);
        assert_eq!(sums.by_app().keys().copied().map(Some).collect::<Vec<_>>(), [two]);
        sums.remove(one, 100);
        assert_eq!((sums.depth(), sums.bytes()), (2, 200), "what is not there is not removed");
        assert_eq!(AppSums::decode(b"{}"), None);
    }
}
