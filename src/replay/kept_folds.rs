//! The last folds of as-of reads, kept for a minute, so that a list as of a moment is folded once and not once per page.
//!
//! A fold is kept with the place up to which the ledger was complete when it was made. A first page uses it while no entry
//! about the group has come after that place, so a callback that arrives late and changes the past changes the next first
//! page. The pages after it name the place in their cursor and get the fold that they began with, while it is kept. Where
//! a writer that does not end hides that place, the fold may lack an entry: it has a random name in place of the place, and
//! only the walk that began with it gets it again. One fold of a group and a moment runs at a time (single flight), and
//! requests that come meanwhile wait for it. What is kept is bounded in number, in bytes and in time.

use std::collections::{HashMap, VecDeque};
use std::mem::size_of;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};
use tokio::time::{sleep, timeout};

use super::as_of::{
    self, AsOfError, AsOfPermits, FieldsAsOf, GroupAsOf, GroupMoment, MemberAsOf, PERMIT_WAIT_MAX,
};
use super::timeline::Timeline;
use super::timeline_read;
use super::window::TimeRange;
use crate::mirror::{GroupKey, GroupState};
use crate::model::{Millis, UserId};
use crate::store::feed::{self, FeedPlace};
use crate::store::high_watermark::{self, LedgerWriters, Proof};
use crate::store::history;
use crate::store::member_list::{MemberFilter, MembersFound};
use crate::store::members::LOOKED_THROUGH_MAX;
use crate::store::page::PAGE_BYTES_MAX;
use crate::store::{Database, READ_WAIT_MAX, in_time};

/// For how long a fold is kept.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// How long a fold waits for writers before it is made without a place: longer than a transaction of callbacks takes, and
/// short, because it holds a permit and a connection. One writer is waited for once.
const WRITERS_WAIT_MAX: Duration = Duration::from_millis(200);

/// How many folds are kept, and how many bytes of them, 96 MiB: one of the greatest there may be, or many ordinary ones.
const KEPT_MAX: usize = 16;
const KEPT_BYTES_MAX: usize = 96 * 1024 * 1024;

/// A group at a moment, and where its fold stands in the ledger.
#[derive(Debug)]
pub struct GroupFold {
    /// Names the fold in the cursors of its walk: the position in the feed up to which the ledger was complete; where that
    /// was not known a random negative number, so that no other fold has the same.
    pub end: i64,
    place: Option<FeedPlace>,
    /// What was folded.
    pub group: GroupAsOf,
}

impl GroupFold {
    fn new(place: Option<FeedPlace>, group: GroupAsOf) -> Self {
        let end = place.as_ref().map_or_else(|| fastrand::i64(..0), |place| place.position);
        Self { end, place, group }
    }

    /// The membership of a user.
    #[must_use]
    pub fn find(&self, user: &UserId) -> Option<&MemberAsOf> {
        let all = &self.group.members;
        all.binary_search_by(|member| member.user.cmp(user)).ok().map(|at| &all[at])
    }

    /// The memberships of this kind after a user, at most `limit` and up to a limit of bytes, but one at least, and of
    /// memberships that are looked through, as a list of the present ones.
    #[must_use]
    pub fn page(
        &self,
        filter: &MemberFilter,
        after: Option<&UserId>,
        limit: usize,
    ) -> MembersFound<MemberAsOf> {
        let is_behind = |user: &UserId| after.is_none_or(|after| user > after);
        if !filter.users.is_empty() {
            let named = filter.users.iter().filter(|user| is_behind(user)).filter_map(|user| self.find(user));
            return cut(named, filter, limit, None);
        }
        let all = &self.group.members;
        let rest = &all[all.partition_point(|member| !is_behind(&member.user))..];
        let looked_through = usize::try_from(LOOKED_THROUGH_MAX).unwrap_or(usize::MAX);
        let most = if filter.looks_through() { looked_through.min(rest.len()) } else { rest.len() };
        let edge = rest[..most].last().filter(|_| most < rest.len()).map(|member| &member.user);
        cut(rest[..most].iter(), filter, limit, edge)
    }

    fn bytes(&self) -> usize {
        let GroupAsOf { state, fields, members, .. } = &self.group;
        let group = state.as_ref().map_or(0, bytes_of_group) + fields.as_ref().map_or(0, bytes_of_fields);
        group + members.iter().map(bytes_of).sum::<usize>()
    }
}

/// The memberships that match, up to the limits of a page. `edge`: the last one, where others are behind it.
fn cut<'a>(
    members: impl Iterator<Item = &'a MemberAsOf>,
    filter: &MemberFilter,
    limit: usize,
    edge: Option<&UserId>,
) -> MembersFound<MemberAsOf> {
    let bytes_max = usize::try_from(PAGE_BYTES_MAX).unwrap_or(usize::MAX);
    let (mut rows, mut bytes) = (Vec::<MemberAsOf>::new(), 0);
    let mut next = edge;
    let mut last = None;
    for member in members.filter(|member| is_wanted(member, filter)) {
        if rows.len() >= limit || bytes >= bytes_max {
            next = last;
            break;
        }
        bytes += bytes_of(member);
        last = Some(&member.user);
        rows.push(member.clone());
    }
    MembersFound { rows, next: next.map(|user| user.as_str().to_owned()) }
}

fn is_wanted(MemberAsOf { user, state }: &MemberAsOf, filter: &MemberFilter) -> bool {
    let is_later = |time: Option<Millis>, bound: Option<DateTime<Utc>>| {
        let time = time.and_then(|time| DateTime::from_timestamp_millis(time.get()));
        bound.is_none_or(|bound| time.is_some_and(|time| time > bound))
    };
    filter.present.is_none_or(|present| state.present == present)
        && filter.role.is_none_or(|role| state.role == role)
        && is_later(state.joined_at, filter.joined_after)
        && is_later(state.left_at, filter.left_after)
        && filter.part.as_ref().is_none_or(|part| part.is_in(user.as_str(), state.name_card.as_deref()))
}

/// About what a membership takes in memory.
fn bytes_of(member: &MemberAsOf) -> usize {
    let MemberAsOf { user, state } = member;
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let id = |user: &Option<UserId>| user.as_ref().map_or(0, |user| user.as_str().len());
    let texts = [&state.name_card, &state.custom_fields, &state.join.how, &state.exit.how].map(text);
    let ids = [&state.join.by, &state.exit.by].map(id);
    size_of::<MemberAsOf>() + user.as_str().len() + texts.iter().sum::<usize>() + ids.iter().sum::<usize>()
}

/// What the long texts of a group take in memory.
fn bytes_of_group(state: &GroupState) -> usize {
    let texts = [&state.group_type, &state.name, &state.introduction, &state.notification, &state.face_url];
    texts.into_iter().flatten().map(String::len).sum()
}

/// About what keys and values take in memory.
fn bytes_of_fields(fields: &FieldsAsOf) -> usize {
    let pairs = fields.user_defined_fields.iter().chain(&fields.attributes);
    pairs.map(|(key, value)| size_of::<(String, String)>() + key.len() + value.len()).sum()
}

struct KeptFold {
    wanted: GroupMoment,
    fold: Arc<GroupFold>,
    bytes: usize,
    since: Instant,
}

/// The folds that are kept, oldest first.
#[derive(Default)]
struct KeptFolds(VecDeque<KeptFold>);

impl KeptFolds {
    fn drop_old(&mut self) {
        self.0.retain(|kept| kept.since.elapsed() < KEPT_FOR);
    }

    /// The fold of a group and a moment that a walk began with.
    fn find(&mut self, wanted: &GroupMoment, end: i64) -> Option<Arc<GroupFold>> {
        self.newest_that(wanted, |fold| fold.end == end)
    }

    /// The newest fold of a group and a moment whose place is known, and that place.
    fn newest_placed(&mut self, wanted: &GroupMoment) -> Option<(Arc<GroupFold>, FeedPlace)> {
        let fold = self.newest_that(wanted, |fold| fold.place.is_some())?;
        let place = fold.place.clone()?;
        Some((fold, place))
    }

    fn newest_that(
        &mut self,
        wanted: &GroupMoment,
        fits: impl Fn(&GroupFold) -> bool,
    ) -> Option<Arc<GroupFold>> {
        self.drop_old();
        let newest_first = self.0.iter().rev().filter(|kept| kept.wanted == *wanted);
        newest_first.map(|kept| &kept.fold).find(|fold| fits(fold)).cloned()
    }

    fn keep(&mut self, wanted: GroupMoment, fold: Arc<GroupFold>) {
        self.drop_old();
        let bytes = fold.bytes();
        if bytes > KEPT_BYTES_MAX {
            return;
        }
        self.0.push_back(KeptFold { wanted, fold, bytes, since: Instant::now() });
        while self.0.len() > KEPT_MAX || self.0.iter().map(|kept| kept.bytes).sum::<usize>() > KEPT_BYTES_MAX
        {
            self.0.pop_front();
        }
        assert!(!self.0.is_empty(), "what was kept last fits");
    }
}

/// Folds, and keeps what was folded. Cheap to clone.
#[derive(Clone)]
pub struct AsOfReader {
    database: Database,
    permits: AsOfPermits,
    kept: Arc<Mutex<KeptFolds>>,
    /// Writers that the last proof has waited for in vain.
    slow: Arc<Mutex<LedgerWriters>>,
    /// One for each group and moment that is being folded or asked for.
    flights: Arc<Mutex<HashMap<GroupMoment, Arc<AsyncMutex<()>>>>>,
}

impl std::fmt::Debug for AsOfReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AsOfReader").finish_non_exhaustive()
    }
}

impl AsOfReader {
    /// Reads a database, within these permits.
    #[must_use]
    pub fn new(database: Database, permits: AsOfPermits) -> Self {
        Self { database, permits, kept: Arc::default(), slow: Arc::default(), flights: Arc::default() }
    }

    /// The permits that it reads within.
    #[must_use]
    pub fn permits(&self) -> &AsOfPermits {
        &self.permits
    }

    /// A group at a moment. `end`: that of the fold that a walk began with.
    ///
    /// # Errors
    /// See [`AsOfError`].
    pub async fn group(&self, wanted: &GroupMoment, end: Option<i64>) -> Result<Arc<GroupFold>, AsOfError> {
        if let Some(fold) = end.and_then(|end| self.kept().find(wanted, end)) {
            return Ok(fold);
        }
        let flight = self.flight(wanted).await?;
        // Another may have made it meanwhile.
        if let Some(fold) = end.and_then(|end| self.kept().find(wanted, end)) {
            return Ok(fold);
        }
        let (reader, wanted) = (self.clone(), wanted.clone());
        // A task of its own: a client that gives up finds the fold when it asks again.
        let folding = tokio::spawn(async move {
            let flight = flight;
            let fold = reader.fresh_or_folded(&wanted).await;
            drop(flight);
            reader.flights().retain(|_, flight| Arc::strong_count(flight) > 1);
            fold
        });
        folding.await?
    }

    /// The number of members of a group and its events over time. It is folded anew each time, within a permit.
    ///
    /// # Errors
    /// See [`AsOfError`].
    pub async fn timeline(&self, group: &GroupKey, range: TimeRange) -> Result<Timeline, AsOfError> {
        let permit = self.permits.fold_permit().await?;
        let conn = self.database.reader().acquire().await?;
        timeline_read::timeline(conn, permit, group, range).await
    }

    async fn fresh_or_folded(&self, wanted: &GroupMoment) -> Result<Arc<GroupFold>, AsOfError> {
        let newest = self.kept().newest_placed(wanted);
        if let Some((fold, place)) = newest
            && in_time(READ_WAIT_MAX, self.is_unchanged(wanted, &place)).await?
        {
            return Ok(fold);
        }
        let permit = self.permits.fold_permit().await?;
        let mut conn = self.database.reader().acquire().await?;
        // Before the snapshot of the fold, which then has every entry up to there; on its connection, because another one may
        // lead to another server.
        let place = in_time(READ_WAIT_MAX, self.place(&mut conn)).await?;
        let group = as_of::group(conn, permit, wanted.clone()).await?;
        let fold = Arc::new(GroupFold::new(place, group));
        self.keep(wanted.clone(), Arc::clone(&fold));
        Ok(fold)
    }

    /// The place up to which the ledger is complete; `None` beside a writer that does not end, and on a standby.
    async fn place(&self, conn: &mut PgConnection) -> Result<Option<FeedPlace>, AsOfError> {
        let slow = self.slow().clone();
        let (place, slow) = match high_watermark::prove_within(conn, &slow, WRITERS_WAIT_MAX).await? {
            Proof::At(place) => (Some(place), LedgerWriters::new()),
            Proof::HeldBack(writers) => (None, writers),
        };
        *self.slow() = slow;
        Ok(place)
    }

    /// True where the ledger still is the one that was folded, and no entry about the group came after that place. A position says
    /// nothing of time, so these statements open all partitions: as lookups they are planned once and not for each page.
    async fn is_unchanged(&self, wanted: &GroupMoment, place: &FeedPlace) -> Result<bool, AsOfError> {
        let mut conn = self.database.lookup().acquire().await?;
        Ok(feed::holds(&mut conn, place).await?
            && !history::has_entry_after(&mut conn, &wanted.group, place.position).await?)
    }

    fn keep(&self, wanted: GroupMoment, fold: Arc<GroupFold>) {
        self.kept().keep(wanted, fold);
        let kept = Arc::downgrade(&self.kept);
        // Memory is given back though no request comes any more.
        tokio::spawn(async move {
            sleep(KEPT_FOR).await;
            if let Some(kept) = kept.upgrade() {
                kept.lock().unwrap_or_else(PoisonError::into_inner).drop_old();
            }
        });
    }

    /// Waits until no other fold of this group and moment runs.
    async fn flight(&self, wanted: &GroupMoment) -> Result<OwnedMutexGuard<()>, AsOfError> {
        let flight = Arc::clone(self.flights().entry(wanted.clone()).or_default());
        timeout(PERMIT_WAIT_MAX, flight.lock_owned()).await.map_err(|_| AsOfError::Busy)
    }

    fn kept(&self) -> MutexGuard<'_, KeptFolds> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slow(&self) -> MutexGuard<'_, LedgerWriters> {
        self.slow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<GroupMoment, Arc<AsyncMutex<()>>>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
