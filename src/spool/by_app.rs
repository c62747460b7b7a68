//! What each app has in the spool's file: an index of the records by app, and their sums.
//!
//! Both are written in the transaction of the records themselves, so they are never ahead or behind. The index gives the
//! oldest record of an app without a search, and what a record was charged with, whether or not its bytes are still right.
//! A file of an earlier program has neither: both are made anew from the records where the sums do not fit them.

use std::collections::BTreeMap;

use redb::{ReadTransaction, ReadableTable as _, Table, TableDefinition, TableError, WriteTransaction};

use super::requests::RecordKey;
use super::shares::{AppUse, UsedBytes};
use crate::model::{Millis, SdkAppId};

/// Charge of a record, by app and key; an app that is not known is 0.
const INDEX: TableDefinition<'_, (i64, i64, u64), u64> = TableDefinition::new("by_app");

/// Records and bytes of an app.
const SUMS: TableDefinition<'_, i64, (u64, u64)> = TableDefinition::new("apps");

/// What every app has; one that has nothing is not in it.
pub(super) type UseByApp = BTreeMap<i64, AppUse>;

/// The id of an app in the file.
pub(super) fn id_of(app: Option<SdkAppId>) -> i64 {
    app.map_or(0, SdkAppId::get)
}

/// The app of an id in the file.
pub(super) fn app_of(id: i64) -> Option<SdkAppId> {
    SdkAppId::parse(&id.to_string()).ok()
}

/// The bytes alone, for the shares.
pub(super) fn used_bytes(apps: &UseByApp) -> UsedBytes {
    let mut used = UsedBytes::new();
    for (id, of_app) in apps {
        *used.entry(app_of(*id)).or_default() += of_app.bytes;
    }
    used
}

/// The index inside one transaction.
pub(super) struct AppIndex<'t> {
    index: Table<'t, (i64, i64, u64), u64>,
    sums: Table<'t, i64, (u64, u64)>,
    apps: UseByApp,
}

impl<'t> AppIndex<'t> {
    /// Goes on from what the apps have.
    pub(super) fn open(transaction: &'t WriteTransaction, apps: &UseByApp) -> Result<Self, redb::Error> {
        let (index, sums) = (transaction.open_table(INDEX)?, transaction.open_table(SUMS)?);
        Ok(Self { index, sums, apps: apps.clone() })
    }

    /// A record is put.
    pub(super) fn put(&mut self, key: RecordKey, app: i64, charged: u64) -> Result<(), redb::Error> {
        self.index.insert((app, key.0, key.1), charged)?;
        let of_app = self.apps.entry(app).or_default();
        of_app.depth += 1;
        of_app.bytes += charged;
        Ok(())
    }

    /// A record is gone. Whose it was is looked for, because its bytes may be damaged; the apps are few.
    pub(super) fn remove(&mut self, key: RecordKey) -> Result<(), redb::Error> {
        for (app, of_app) in &mut self.apps {
            if let Some(charged) = self.index.remove((*app, key.0, key.1))? {
                of_app.depth = of_app.depth.saturating_sub(1);
                of_app.bytes = of_app.bytes.saturating_sub(charged.value());
                break;
            }
        }
        Ok(())
    }

    /// Writes the sums, and answers what every app has now.
    pub(super) fn finish(mut self) -> Result<UseByApp, redb::Error> {
        for (app, of_app) in &mut self.apps {
            if of_app.depth == 0 {
                self.sums.remove(app)?;
                continue;
            }
            self.sums.insert(app, (of_app.depth, of_app.bytes))?;
            let first = self.index.range((*app, i64::MIN, 0)..=(*app, i64::MAX, u64::MAX))?.next();
            of_app.oldest = first.transpose()?.map(|(key, _)| Millis::new(key.value().1));
        }
        self.apps.retain(|_, of_app| of_app.depth > 0);
        Ok(self.apps)
    }
}

/// What every app has, as the file says; empty where it says nothing.
pub(super) fn read(transaction: &ReadTransaction) -> Result<UseByApp, redb::Error> {
    let (sums, index) = match (transaction.open_table(SUMS), transaction.open_table(INDEX)) {
        (Err(TableError::TableDoesNotExist(_)), _) | (_, Err(TableError::TableDoesNotExist(_))) => {
            return Ok(UseByApp::new());
        }
        (sums, index) => (sums?, index?),
    };
    let mut apps = UseByApp::new();
    for row in sums.iter()? {
        let (app, sum) = row?;
        let (app, (depth, bytes)) = (app.value(), sum.value());
        let first = index.range((app, i64::MIN, 0)..=(app, i64::MAX, u64::MAX))?.next();
        let oldest = first.transpose()?.map(|(key, _)| Millis::new(key.value().1));
        apps.insert(app, AppUse { depth, bytes, oldest });
    }
    Ok(apps)
}

/// Forgets both, before they are made anew.
pub(super) fn clear(transaction: &WriteTransaction) -> Result<(), redb::Error> {
    transaction.delete_table(INDEX)?;
    transaction.delete_table(SUMS)?;
    Ok(())
}
