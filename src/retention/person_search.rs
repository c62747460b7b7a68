//! Where an id stands: the ledger is read whole, entry by entry, and every column of the tables that may hold one is asked.
//!
//! What a callback has said after the erasure is new, and stays; its groups are not searched in the tables.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgConnection;

use super::entry::Renaming;
use super::erased_checkpoint::renamed;
use crate::model::{SdkAppId, UserId};
use crate::store::checkpoints;
use crate::store::erased_columns;
use crate::store::erased_entries::{self, EntryWalk};

/// Where an id stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PersonFound {
    /// How many rows hold something of the person, by table and column; every column that was searched is here.
    pub rows: BTreeMap<(&'static str, &'static str), u64>,
    /// Entries, and pages of lists, that count from a time after the erasure.
    pub newer: u64,
}

impl PersonFound {
    /// True where the id stands nowhere but in what is new.
    #[must_use]
    pub fn is_nowhere(&self) -> bool {
        self.rows.values().all(|rows| *rows == 0)
    }
}

/// The columns of the ledger that are searched by reading the entries.
const OF_ENTRIES: [&str; 6] = ["body", "query", "client_ip", "reason", "operator", "users"];

/// Searches for an id. The pseudonym may be any other text; what the renaming does not reach is new.
pub(super) async fn find(
    conn: &mut PgConnection,
    app: SdkAppId,
    renaming: Renaming<'_>,
) -> Result<PersonFound, sqlx::Error> {
    let mut found = PersonFound::default();
    found.rows.extend(OF_ENTRIES.map(|column| (("ledger", column), 0)));
    let mut newer_groups = BTreeSet::new();
    let mut walk = EntryWalk::of_app(app);
    while let Some(page) = walk.next(conn, renaming.user).await? {
        for entry in &page {
            let Some((_, columns)) = renaming.in_entry(entry) else { continue };
            if !renaming.reaches_entry(entry) {
                found.newer += 1;
                newer_groups.insert(entry.row.group_id.clone());
                continue;
            }
            columns.into_iter().for_each(|column| *found.rows.entry(("ledger", column)).or_default() += 1);
        }
    }
    let newer_groups: Vec<String> = newer_groups.into_iter().collect();
    found.rows.extend(erased_columns::count(conn, app, renaming.user, &newer_groups).await?);
    let (pages, newer) = pages(conn, app, renaming).await?;
    found.rows.insert(("list_pages", "answer"), pages);
    let checkpoints = checkpoint_rows(conn, app, renaming).await?;
    found
        .rows
        .extend(["key", "registers"].map(|column| ("checkpoints", column)).into_iter().zip(checkpoints));
    found.newer += newer;
    Ok(found)
}

/// How many rows of checkpoints name the person, by their key, and by what they hold.
async fn checkpoint_rows(
    conn: &mut PgConnection,
    app: SdkAppId,
    renaming: Renaming<'_>,
) -> Result<[u64; 2], sqlx::Error> {
    let (mut keys, mut registers) = (0, 0);
    for group in checkpoints::groups_naming(conn, app, renaming.user).await? {
        let (before, after) = renamed(conn, (app, &group), renaming).await?;
        for (key, row) in &before {
            let stays = after.get(key);
            keys += u64::from(stays.is_none());
            registers += u64::from(stays.is_some_and(|now| now != row));
        }
    }
    Ok([keys, registers])
}

/// How many pages of lists name the person: up to the moment of the erasure, and later.
async fn pages(
    conn: &mut PgConnection,
    app: SdkAppId,
    renaming: Renaming<'_>,
) -> Result<(u64, u64), sqlx::Error> {
    let (mut count, mut newer, mut last) = (0, 0, None);
    loop {
        let page = erased_entries::list_pages(conn, app, renaming.user, last.as_ref()).await?;
        for page in page.iter().filter(|page| renaming.in_bytes(&page.answer).is_some()) {
            *if renaming.reaches_page(page) { &mut count } else { &mut newer } += 1;
        }
        let Some(next) = page.into_iter().last() else { return Ok((count, newer)) };
        last = Some(next);
    }
}

/// A text that is no id that is searched for.
pub(super) fn no_pseudonym(user: &UserId) -> Result<UserId, crate::model::ModelError> {
    UserId::parse(if user.as_str() == "-" { "--" } else { "-" })
}
