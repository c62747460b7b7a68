//! As-of reads: a group and its members as they were at a past moment (time travel), folded from the ledger.
//!
//! The state as of a moment is a fold of the group's ledger entries up to it, by the same pure code that makes the mirror,
//! so it needs no table and cannot disagree with it. Where old entries were pruned it begins with their checkpoint, of a limited
//! number of rows, and earlier moments are refused. Entries are streamed and folded chunk by chunk on a blocking thread,
//! so that neither memory nor the threads that serve other requests depend on the size of a group. `kept_folds` keeps
//! what was folded for the next page, and `timeline` folds the same entries in the order of time. Reads only.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use sqlx::PgConnection;
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::timeout;

use super::chunks::ChunkSender;
use super::reread::facts;
use crate::mirror::{GroupKey, GroupRow, GroupState, MemberState, Rows, group_state, member_state};
use crate::model::{FieldKey, Millis, UserId};
use crate::store::history::{self, Size};
use crate::store::ledger::LedgerRow;
use crate::store::lines::MemberWindow;
use crate::store::{ReadConnection, ReadTx, STALL_WAIT_MAX, in_time};
use crate::store::{checkpoints, prune};

/// The most ledger entries of one as-of read: a community of 100,000 members has about as many joins, and may have had as many
/// leaves. Beyond: [`AsOfError::TooLarge`].
pub const LEDGER_ROWS_MAX: i64 = 200_000;

/// The most bytes of bodies of one as-of read, 64 MiB: as many entries of 335 bytes each, about what a join has.
pub const FOLD_BODY_BYTES_MAX: i64 = 64 * 1024 * 1024;

/// The most users that a fold keeps, at about 400 bytes each: one body can name 40,000.
pub const USERS_MAX: usize = 200_000;

/// The most keys of user-defined fields and attributes that a fold keeps. Tencent allows a group 26 of them; beyond, the
/// members are folded all the same and the fields are not.
pub const FIELD_KEYS_MAX: usize = 20_000;

/// How many folds run at once. Each takes a core for a second or so, and the callbacks need theirs.
pub const FOLDS_MAX: usize = 2;

/// How many pages of bodies are read and decoded at once, some 30 MB each at worst. Few enough that with the other permits
/// connections are left over; `api::list_permits` asserts it.
pub const PAGES_MAX: usize = 4;

/// How long the entries of one as-of read may take to be read, which is as long as their fold takes. At the limit
/// PostgreSQL ends the statement, and the read is answered with 503; a little later this side drops the read of a server that
/// does not.
pub const READ_TIME_MAX: Duration = Duration::from_secs(30);

/// How long a read waits for its permit; reads of the feed as well.
pub const PERMIT_WAIT_MAX: Duration = Duration::from_secs(5);

/// Why the state as of a moment cannot be shown.
#[derive(Debug, Error)]
pub enum AsOfError {
    /// Nothing was ever applied to the group.
    #[error("nothing was ever applied to this group")]
    Unknown,
    /// The moment lies before what was pruned; from when on history is whole, Unix milliseconds.
    #[error("history is whole from {0} ms on")]
    Pruned(i64),
    /// More than one fold may read or keep.
    #[error("more than {0}")]
    TooLarge(String),
    /// All permits stayed taken for too long.
    #[error("too many reads of this kind at once")]
    Busy,
    /// An entry that was applied, and that this program cannot read: another version wrote it.
    #[error("a ledger entry at {0} ms was applied, and cannot be read by this program")]
    Unreadable(i64),
    /// A statement failed.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// The fold panicked.
    #[error(transparent)]
    Ended(#[from] JoinError),
}

/// Limits the number of reads that decode many bodies at once. Cheap to clone.
#[derive(Debug, Clone)]
pub struct AsOfPermits {
    folds: Arc<Semaphore>,
    pages: Arc<Semaphore>,
}

impl Default for AsOfPermits {
    fn default() -> Self {
        Self { folds: Arc::new(Semaphore::new(FOLDS_MAX)), pages: Arc::new(Semaphore::new(PAGES_MAX)) }
    }
}

/// The right to decode many bodies now. Take it before a connection, so that no connection is held while waiting.
#[derive(Debug)]
pub struct Permit(
    #[expect(dead_code, reason = "held, and given back when it is dropped")] OwnedSemaphorePermit,
);

impl AsOfPermits {
    /// Waits for a permit to fold.
    ///
    /// # Errors
    /// [`AsOfError::Busy`] after 5 s.
    pub async fn fold_permit(&self) -> Result<Permit, AsOfError> {
        permit(&self.folds).await
    }

    /// Waits for a permit to read and decode a page of bodies.
    ///
    /// # Errors
    /// [`AsOfError::Busy`] after 5 s.
    pub async fn page_permit(&self) -> Result<Permit, AsOfError> {
        permit(&self.pages).await
    }
}

async fn permit(permits: &Arc<Semaphore>) -> Result<Permit, AsOfError> {
    let permit = timeout(PERMIT_WAIT_MAX, Arc::clone(permits).acquire_owned()).await;
    permit.ok().and_then(Result::ok).map(Permit).ok_or(AsOfError::Busy)
}

/// What to fold: a group at a moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct GroupMoment {
    /// The group.
    pub group: GroupKey,
    /// The moment: everything counts that has a time up to and with this millisecond.
    pub moment: Millis,
}

/// A membership as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberAsOf {
    /// Whose.
    pub user: UserId,
    /// What was true of it then.
    pub state: MemberState,
}

/// The keys and values that a group had at a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldsAsOf {
    /// The user-defined fields.
    pub user_defined_fields: BTreeMap<String, String>,
    /// The attributes.
    pub attributes: BTreeMap<String, String>,
}

/// What is shown of a group at a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupAsOf {
    /// What was true of the group itself; none where nothing that counts is as old as that.
    pub state: Option<GroupState>,
    /// The user-defined fields and attributes; none where there are more than [`FIELD_KEYS_MAX`].
    pub fields: Option<FieldsAsOf>,
    /// How many of the memberships were present.
    pub present: usize,
    /// All memberships, present and past, by user.
    pub members: Vec<MemberAsOf>,
}

/// A group at a moment, with all its memberships, present and past, by user. What has a time in the moment's future does not
/// count, and a moment that has not come yet shows what is known now.
///
/// # Errors
/// See [`AsOfError`].
pub async fn group(
    conn: ReadConnection,
    permit: Permit,
    wanted: GroupMoment,
) -> Result<GroupAsOf, AsOfError> {
    in_time(READ_TIME_MAX + STALL_WAIT_MAX, group_of_snapshot(conn, permit, wanted)).await
}

async fn group_of_snapshot(
    conn: ReadConnection,
    permit: Permit,
    wanted: GroupMoment,
) -> Result<GroupAsOf, AsOfError> {
    // One snapshot: the entries that are counted are the entries that are read.
    let mut snapshot = ReadTx::begin(conn, READ_TIME_MAX).await?;
    prune::hold_partitions(snapshot.conn()).await?;
    let found = group_in(snapshot.conn(), permit, wanted).await;
    if !matches!(found, Err(AsOfError::Database(_))) {
        snapshot.roll_back().await;
    }
    found
}

async fn group_in(
    conn: &mut PgConnection,
    permit: Permit,
    wanted: GroupMoment,
) -> Result<GroupAsOf, AsOfError> {
    let (group, until) = (wanted.group.clone(), wanted.moment.get());
    let begun = begun_with(conn, &group, until).await?;
    let size = history::size_until(conn, &group, until, LEDGER_ROWS_MAX + 1).await?;
    check_size(size.ok_or(AsOfError::Unknown)?)?;
    let (chunks, coming) = ChunkSender::channel();
    let folding = spawn_blocking(move || {
        // Held until the fold ends, whether or not its reader still waits.
        let _permit = permit;
        fold(coming, &wanted.group, begun)
    });
    let read = feed(conn, &group, until, chunks).await;
    let folded = folding.await?;
    read.and(folded)
}

/// What a fold up to a moment begins with: the checkpoint of the group.
pub(super) async fn begun_with(
    conn: &mut PgConnection,
    group: &GroupKey,
    moment: i64,
) -> Result<Rows, AsOfError> {
    if let Some(whole_since) = prune::whole_since(conn).await?.filter(|since| moment < *since) {
        return Err(AsOfError::Pruned(whole_since));
    }
    let stored = (group.app.get(), group.group.as_str().to_owned());
    let (mut rows, mut count) = (Rows::default(), 0);
    let mut read = checkpoints::of_group(conn, &stored);
    while let Some(row) = read.try_next().await? {
        checkpoints::take(&mut rows, &row, &MemberWindow::default());
        check_users(&rows)?;
        count += 1;
        if count > LEDGER_ROWS_MAX {
            return Err(AsOfError::TooLarge(format!("{LEDGER_ROWS_MAX} rows of a checkpoint")));
        }
    }
    Ok(rows)
}

/// Refuses a fold of more than one read may make.
pub(super) fn check_size(size: Size) -> Result<(), AsOfError> {
    if size.ledger_rows > LEDGER_ROWS_MAX {
        return Err(AsOfError::TooLarge(format!("{LEDGER_ROWS_MAX} ledger rows")));
    }
    if size.body_bytes > FOLD_BODY_BYTES_MAX {
        return Err(AsOfError::TooLarge(format!("{} MiB of callbacks", FOLD_BODY_BYTES_MAX / 1024 / 1024)));
    }
    Ok(())
}

/// Streams the entries to the fold. Ends early, without an error of its own, where the fold has ended.
async fn feed(
    conn: &mut PgConnection,
    group: &GroupKey,
    until: i64,
    mut chunks: ChunkSender,
) -> Result<(), AsOfError> {
    let mut rows = history::until(conn, group, until);
    while let Some(row) = rows.try_next().await? {
        if !chunks.send(row).await {
            return Ok(());
        }
    }
    chunks.finish().await;
    Ok(())
}

fn fold(
    mut chunks: mpsc::Receiver<Vec<LedgerRow>>,
    group: &GroupKey,
    mut rows: Rows,
) -> Result<GroupAsOf, AsOfError> {
    let mut has_fields = rows.user_defined_fields.len() + rows.attributes.len() <= FIELD_KEYS_MAX;
    while let Some(chunk) = chunks.blocking_recv() {
        for row in &chunk {
            let (facts, _) = facts(row).ok_or(AsOfError::Unreadable(row.time_ms))?;
            facts.into_iter().for_each(|fact| rows.apply(fact));
            // Nothing that is shown depends on these, and a group can have any number of them.
            rows.topics.clear();
            has_fields &= rows.user_defined_fields.len() + rows.attributes.len() <= FIELD_KEYS_MAX;
            if !has_fields {
                rows.user_defined_fields.clear();
                rows.attributes.clear();
            }
            check_users(&rows)?;
        }
    }
    Ok(shown(&rows, group, has_fields))
}

/// Refuses more users than a fold may keep.
pub(super) fn check_users(rows: &Rows) -> Result<(), AsOfError> {
    if rows.members.len() > USERS_MAX {
        return Err(AsOfError::TooLarge(format!("{USERS_MAX} users")));
    }
    Ok(())
}

/// What the rows that were folded show.
fn shown(rows: &Rows, key: &GroupKey, has_fields: bool) -> GroupAsOf {
    let Some(group) = rows.groups.get(key) else { return GroupAsOf::default() };
    let row_of = |user: &UserId| rows.members.get(&(key.clone(), user.clone()));
    let state = group_state(group, group.owner.value.as_ref().and_then(row_of));
    let owner = state.owner.as_ref();
    let members = rows.members.iter().filter_map(|((_, user), row)| {
        let state = member_state(group, owner, user, row)?;
        Some(MemberAsOf { user: user.clone(), state })
    });
    let members: Vec<MemberAsOf> = members.collect();
    let present = members.iter().filter(|member| member.state.present).count();
    let fields = has_fields.then(|| fields_of(rows, group));
    GroupAsOf { state: Some(state), fields, present, members }
}

/// The fields and attributes that count.
fn fields_of(rows: &Rows, group: &GroupRow) -> FieldsAsOf {
    let pair = |key: &FieldKey, value: Option<&str>| Some((key.as_str().to_owned(), value?.to_owned()));
    let fields = rows.user_defined_fields.iter();
    let attributes = rows.attributes.iter();
    FieldsAsOf {
        user_defined_fields: fields
            .filter_map(|((_, key), field)| pair(key, group.user_defined_field(field)))
            .collect(),
        attributes: attributes.filter_map(|((_, key), field)| pair(key, group.attribute(field))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::model::{GroupId, ModelError, SdkAppId};

    const USERS_PER_BODY: usize = 30_000;

    /// A join of many, all different from those of other numbers.
    fn join(number: usize) -> LedgerRow {
        let users = number * USERS_PER_BODY..(number + 1) * USERS_PER_BODY;
        let users: Vec<String> = users.map(|user| format!(r#"{{"Member_Account":"{user}"}}"#)).collect();
        let body = format!(r#"{{"GroupId":"g","NewMemberList":[{}]}}"#, users.join(","));
        LedgerRow {
            sdk_app_id: 1,
            group_id: "g".to_owned(),
            time_ms: 1,
            digest: vec![0; 16],
            command: "Group.CallbackAfterNewMemberJoin".to_owned(),
            query_command: None,
            request_id: None,
            received_ms: 1,
            source: "callback".to_owned(),
            outcome: "applied".to_owned(),
            reason: None,
            causes: None,
            body: body.into_bytes(),
        }
    }

    fn folded(bodies: usize) -> Result<Result<GroupAsOf, AsOfError>, ModelError> {
        let (chunks, coming) = mpsc::channel(1);
        let sender = std::thread::spawn(move || {
            for number in 0..bodies {
                let _ = chunks.blocking_send(vec![join(number)]);
            }
        });
        let group = GroupKey { app: SdkAppId::parse("1")?, group: GroupId::parse("g")? };
        let folded = fold(coming, &group, Rows::default());
        assert!(sender.join().is_ok());
        Ok(folded)
    }

    #[tokio::test]
    async fn only_so_many_folds_run_at_once_and_the_next_one_waits() {
        let past = AsOfPermits::default();
        let mut running = Vec::new();
        for _ in 0..FOLDS_MAX {
            running.extend(past.fold_permit().await);
        }
        assert_eq!(running.len(), FOLDS_MAX);
        assert!(
            past.page_permit().now_or_never().is_some_and(|permit| permit.is_ok()),
            "pages have permits of their own"
        );
        assert!(past.fold_permit().now_or_never().is_none());
        running.pop();
        assert!(past.fold_permit().now_or_never().is_some_and(|permit| permit.is_ok()));
    }

    #[test]
    fn a_fold_keeps_as_many_users_as_it_may_and_no_more() -> Result<(), ModelError> {
        let fitting = USERS_MAX / USERS_PER_BODY;
        let users = folded(fitting)?.map(|group| group.members.len());
        assert!(matches!(users, Ok(users) if users == fitting * USERS_PER_BODY), "{users:?}");
        let beyond = folded(fitting + 1)?;
        assert!(matches!(&beyond, Err(AsOfError::TooLarge(most)) if most == "200000 users"));
        Ok(())
    }
}
