//! One group without a person, in one transaction: its entries are written anew, and its rows are folded of them.
//!
//! Writers of the group wait for its lock meanwhile, as they do for a replay. After each such transaction the tables are
//! what the ledger says, so an erasure that ends in the middle leaves whole groups, and the next run does the others.

use super::entry::Renaming;
use super::erased_checkpoint::erase_in_checkpoint;
use crate::mirror::group_key;
use crate::model::{GroupId, SdkAppId};
use crate::replay;
use crate::store::erased_entries::{self, EntryPlace};
use crate::store::errors::{Failure, classify};
use crate::store::{Database, held};

/// How often a group is begun anew after a serialization failure or a deadlock with a writer.
const RETRIES_MAX: u32 = 20;

/// Writes a group anew; an empty id stands for the entries whose group cannot be read. Answers how many entries, and rows of its
/// checkpoint, have changed.
pub(super) async fn erase_in_group(
    database: &Database,
    (app, group): (SdkAppId, &str),
    renaming: Renaming<'_>,
) -> Result<u64, sqlx::Error> {
    let mut tries = 0;
    loop {
        match transact(database, (app, group), renaming).await {
            Err(error) if classify(&error) == Failure::Retry && tries < RETRIES_MAX => tries += 1,
            done => return done,
        }
    }
}

async fn transact(
    database: &Database,
    (app, group): (SdkAppId, &str),
    renaming: Renaming<'_>,
) -> Result<u64, sqlx::Error> {
    let mut tx = database.begin("erase").await?;
    tx.take_time().await?;
    let key = GroupId::parse(group).ok().map(|group| group_key(app, group));
    if let Some(key) = &key {
        // A group without a row gets one to be locked; where the entries say nothing, the new fold has none.
        held::ensure(tx.conn(), &[key]).await?;
        replay::lock_group(tx.conn(), key).await?;
    }
    let (mut place, mut changed) = (EntryPlace::before_group(group), 0);
    loop {
        let page = erased_entries::of_group(tx.conn(), app, renaming.user, &place).await?;
        let Some(last) = page.last() else { break };
        place = EntryPlace::of(&last.row);
        let erased = page.iter().filter_map(|entry| {
            let (erased, _) = renaming.in_entry(entry).filter(|_| renaming.reaches_entry(entry))?;
            Some((entry.row.key(), erased))
        });
        let erased: Vec<_> = erased.collect();
        changed += erased.len() as u64;
        erased_entries::write(tx.conn(), &erased, (renaming.user, renaming.pseudonym)).await?;
    }
    changed += erase_in_checkpoint(tx.conn(), (app, group), renaming).await?;
    if changed == 0 {
        tx.roll_back().await;
        return Ok(0);
    }
    erased_entries::forget_read(tx.conn(), app, group).await?;
    if let Some(key) = &key {
        replay::rebuild_group(tx.conn(), key).await?;
    }
    tx.commit().await?;
    Ok(changed)
}
