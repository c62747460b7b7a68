//! The checkpoint of a group without a person.
//!
//! Its entries are gone, so what they would have become is made of the fold itself. Everything in a checkpoint is older than the
//! erasure: the time of an erasure is that of the command.

use sqlx::PgConnection;

use super::entry::Renaming;
use crate::model::SdkAppId;
use crate::store::checkpoints::{self, CheckpointRows};
use crate::store::prune;

/// Writes the checkpoint of a group anew; answers how many rows of it have changed.
pub(super) async fn erase_in_checkpoint(
    conn: &mut PgConnection,
    (app, group): (SdkAppId, &str),
    renaming: Renaming<'_>,
) -> Result<u64, sqlx::Error> {
    prune::lock_checkpoints(conn).await?;
    let (gone, new) = renamed(conn, (app, group), renaming).await?;
    checkpoints::remove(conn, &gone.keys().collect::<Vec<_>>()).await?;
    checkpoints::write(conn, &new).await?;
    Ok(gone.len() as u64)
}

/// The rows of a checkpoint that name the person, and what they become. Rows of the pseudonym, which an earlier erasure has
/// left, become one with them.
pub(super) async fn renamed(
    conn: &mut PgConnection,
    (app, group): (SdkAppId, &str),
    renaming: Renaming<'_>,
) -> Result<(CheckpointRows, CheckpointRows), sqlx::Error> {
    let key = (app.get(), group.to_owned());
    let rows = checkpoints::naming(conn, &key, renaming.user, renaming.pseudonym).await?;
    let mut before = checkpoints::of_rows(&rows);
    let mut after = checkpoints::of_rows(&rows.renamed(&|text| renaming.of(text)));
    let is_same = |key: &_, one: &CheckpointRows, other: &CheckpointRows| one.get(key) == other.get(key);
    let changed: Vec<_> =
        before.keys().chain(after.keys()).filter(|key| !is_same(key, &before, &after)).cloned().collect();
    before.retain(|key, _| changed.contains(key));
    after.retain(|key, _| changed.contains(key));
    Ok((before, after))
}
