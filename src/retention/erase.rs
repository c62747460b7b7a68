//! The steps of an erasure: registered first, so that nothing which comes late brings the id back; then group after group;
//! then the proof.
//!
//! Each step can be done again: what is done already is not there any more. So an erasure that was interrupted, at whatever
//! point, is finished by the next run, with the pseudonym of the first. It holds the lock of replays, because a replay that
//! has read an entry before would write what it said.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use sqlx::PgConnection;

use super::entry::Renaming;
use super::erased_group::erase_in_group;
use super::person_search::{PersonFound, find, no_pseudonym};
use crate::mirror::{Erasure, fits, user_hash};
use crate::model::{Millis, SdkAppId, UserId};
use crate::replay;
use crate::store::Database;
use crate::store::checkpoints;
use crate::store::erased_entries::{self, EntryPlace, EntryWalk};
use crate::store::erasures::{self, ERASURES_MAX, Registered};
use crate::store::errors::{Failure, classify};

/// How long an erasure waits for the end of one that was killed, or of a replay.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(20);

/// How long the registration waits for writers in one attempt. Callbacks wait behind it, so it is shorter than a batch may.
const REGISTER_LOCK_MAX: Duration = Duration::from_millis(100);

/// The pause between two attempts: batches that had to wait end meanwhile.
const REGISTER_PAUSE: Duration = Duration::from_millis(100);

/// After this a writer that holds the table is reported: a dump of the database does so as long as it runs.
const REGISTER_WAIT_MAX: Duration = Duration::from_mins(2);

/// How often pseudonyms are asked for, 2,048 at a time. One of 256 fits, so the first time does.
const CANDIDATES_ASKED_MAX: u32 = 16;

/// Who is to be erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErasureWanted {
    /// In which app.
    pub app: SdkAppId,
    /// Who.
    pub user: UserId,
    /// The moment: what counts from a later time is new.
    pub now: Millis,
    /// What is later is rewritten as well.
    pub stays_erased: bool,
}

/// What an erasure has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erased {
    /// What stands in the place of the id.
    pub pseudonym: UserId,
    /// Where the id stood before.
    pub before: PersonFound,
    /// Where it stands now.
    pub after: PersonFound,
    /// How many entries, and rows of checkpoints, were written anew.
    pub entries: u64,
    /// How many groups were folded anew.
    pub groups: u64,
}

/// Where an id stands; nothing is written.
///
/// # Errors
/// A database that fails.
pub async fn search(database: &Database, app: SdkAppId, user: &UserId) -> anyhow::Result<PersonFound> {
    let mut conn = database.connect().await?;
    let pseudonym = no_pseudonym(user)?;
    Ok(find(&mut conn, app, Renaming { user, pseudonym: &pseudonym, until: None }).await?)
}

/// Erases a person in one app.
///
/// # Errors
/// A database that fails, a replay that runs, a writer that does not end.
pub async fn erase(database: &Database, wanted: &ErasureWanted) -> anyhow::Result<Erased> {
    let keeper = replay::lock_within(database, LOCK_WAIT_MAX).await?;
    let mut conn = database.connect().await?;
    let before = search(database, wanted.app, &wanted.user).await?;
    let (pseudonym, until) = register(database, &mut conn, wanted).await?;
    let renaming = Renaming { user: &wanted.user, pseudonym: &pseudonym, until };
    let (mut entries, mut groups) = erase_in_ledger(database, &mut conn, wanted.app, renaming).await?;
    // What is left names the person in its checkpoint alone.
    for group in checkpoints::groups_naming(&mut conn, wanted.app, &wanted.user).await? {
        let changed = erase_in_group(database, (wanted.app, &group), renaming).await?;
        entries += changed;
        groups += u64::from(changed > 0);
    }
    erase_in_pages(&mut conn, wanted.app, renaming).await?;
    erased_entries::delete_strays(&mut conn, wanted.app, &wanted.user).await?;
    let after = find(&mut conn, wanted.app, renaming).await?;
    replay::unlock(keeper).await?;
    Ok(Erased { pseudonym, before, after, entries, groups })
}

/// Notes that the person is erased, and since when. From then on every batch of every replica knows. Answers the pseudonym, and
/// up to which time it stands in the place of the id: of the newest erasure, which need not be this one.
async fn register(
    database: &Database,
    conn: &mut PgConnection,
    wanted: &ErasureWanted,
) -> anyhow::Result<(UserId, Option<Millis>)> {
    let hash = user_hash(&erasures::key(conn).await?, wanted.user.as_str());
    let pseudonym = match erasures::pseudonym(conn, wanted.app, &hash).await? {
        Some(known) => UserId::parse(&known)?,
        None => new_pseudonym(conn, &wanted.user).await?,
    };
    let erasure = Erasure {
        app: wanted.app,
        user: hash,
        pseudonym: pseudonym.as_str().to_owned(),
        erased_at: wanted.now,
        stays_erased: wanted.stays_erased,
    };
    let begun = Instant::now();
    loop {
        let mut tx = database.begin_within("register_erasure", REGISTER_LOCK_MAX).await?;
        match erasures::register(tx.conn(), &erasure).await {
            Ok(Registered::Until(until)) => {
                tx.commit().await?;
                return Ok((pseudonym, until));
            }
            Ok(Registered::Full) => {
                tx.roll_back().await;
                anyhow::bail!(
                    "cannot register the erasure: {ERASURES_MAX} persons are erased, the most that the table erasures may hold; delete old rows of it as docs/operations.md says"
                );
            }
            Err(error) => {
                tx.roll_back().await;
                let may_wait = matches!(classify(&error), Failure::TimedOut | Failure::Retry)
                    && begun.elapsed() < REGISTER_WAIT_MAX;
                if !may_wait {
                    return Err(error).context(
                        "cannot register the erasure: a transaction holds the table erasure_state, or the right to lock it is missing",
                    );
                }
            }
        }
        tokio::time::sleep(REGISTER_PAUSE).await;
    }
}

async fn new_pseudonym(conn: &mut PgConnection, user: &UserId) -> anyhow::Result<UserId> {
    for _ in 0..CANDIDATES_ASKED_MAX {
        let candidates = erasures::candidates(conn).await?;
        let parsed = candidates.iter().filter_map(|text| UserId::parse(text).ok());
        if let Some(pseudonym) = parsed.into_iter().find(|pseudonym| fits(user, pseudonym)) {
            return Ok(pseudonym);
        }
    }
    anyhow::bail!("no random pseudonym was in the range of the user; run the command again")
}

/// Walks over the app; answers how many entries and groups have changed.
async fn erase_in_ledger(
    database: &Database,
    conn: &mut PgConnection,
    app: SdkAppId,
    renaming: Renaming<'_>,
) -> anyhow::Result<(u64, u64)> {
    let (mut entries, mut groups) = (0, 0);
    let mut walk = EntryWalk::of_app(app);
    let mut done = None::<String>;
    while let Some(page) = walk.next(conn, renaming.user).await? {
        for entry in &page {
            let group = &entry.row.group_id;
            let is_done = done.as_ref() == Some(group) || !renaming.reaches_entry(entry);
            if is_done || renaming.in_entry(entry).is_none() {
                continue;
            }
            let changed = erase_in_group(database, (app, group), renaming).await?;
            (entries, groups) = (entries + changed, groups + 1);
            walk.skip_to(EntryPlace::behind_group(group));
            done = Some(group.clone());
        }
    }
    Ok((entries, groups))
}

async fn erase_in_pages(
    conn: &mut PgConnection,
    app: SdkAppId,
    renaming: Renaming<'_>,
) -> Result<(), sqlx::Error> {
    let mut last = None;
    loop {
        let pages = erased_entries::list_pages(conn, app, renaming.user, last.as_ref()).await?;
        for page in pages.iter().filter(|page| renaming.reaches_page(page)) {
            if let Some(answer) = renaming.in_bytes(&page.answer) {
                erased_entries::write_list_page(conn, app, page, &answer).await?;
            }
        }
        let Some(next) = pages.into_iter().last() else { return Ok(()) };
        last = Some(next);
    }
}
