//! The work list worked off: groups that callbacks have marked, and what the sweep could not read by the way.
//!
//! Rows of one class are taken together, so that small groups come packed in one call; a list by itself, attributes and topics
//! follow group by group. A row ends when a read as of a time not before its newest mark has brought all its parts, or
//! after some vain attempts, and then the next pass asks for the group again. Slots are shared among the classes (`shares`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::app_run::{AGAIN_MS, AppRun, ReadBatch, permit};
use super::engine::{PassCounts, PassEnd};
use super::pass_sweep::noted;
use super::reading_details::{DetailReading, DetailState};
use super::reading_evidence::KnownOfGroup;
use super::reading_packed::AskedGroup;
use super::reading_verdict::{GroupReading, GroupVerdict, ListReading, MembersRead, ReadSpare, Witnesses};
use super::shares::{CLASSES, next_class};
use crate::model::{GroupId, Millis, UserId};
use crate::store::work::{self, ATTRIBUTES, DueGroup, MEMBERS, TOPICS, WorkDone};

/// How many rows one slot takes: few, so that another class need not wait for long.
pub(super) const ROWS_MAX: i64 = 20;

/// The pause while nothing is due, and between two looks at the classes that had nothing due.
const IDLE_PAUSE: Duration = Duration::from_millis(250);

/// After so many vain attempts a row ends all the same.
const ATTEMPTS_MAX: i32 = 6;

/// The greatest distance of two attempts, in milliseconds.
const AGAIN_MAX_MS: i64 = 15 * 60 * 1000;

/// A list of so many members is one page: it is read beside others.
const SHORT_LIST_MAX: u64 = 100;

/// Everything of a row that can be read.
const ALL_PARTS: i16 = MEMBERS | ATTRIBUTES | TOPICS;

/// What a slot gives back.
type SlotEnd = (usize, Vec<String>, Result<(), PassEnd>);

/// A row of which something is still to be read, what was read, and what is known of its group.
type UnfinishedRow<'a> = (&'a DueGroup, WorkDone, Witnesses, &'a KnownOfGroup);

/// Works the list of an app off until it is dropped, or until it cannot.
pub(super) async fn work_off(run: Arc<AppRun>) -> Result<(), PassEnd> {
    let mut slots = JoinSet::<SlotEnd>::new();
    let (mut held, mut busy) = ([0_usize; CLASSES], BTreeSet::<String>::new());
    // A class that has nothing due is not asked for again with every slot that ends, and all of them are by one look.
    let (mut wants, mut look_at) = ([false; CLASSES], Instant::now());
    loop {
        while let Some(ended) = slots.try_join_next() {
            free(ended, &mut held, &mut busy)?;
        }
        if look_at <= Instant::now() && wants.contains(&false) {
            run.look(&mut wants, &busy).await?;
            look_at = Instant::now() + IDLE_PAUSE;
        }
        while let Some(class) = next_class(wants, held) {
            let rows = run.due(class, &busy).await?;
            if rows.is_empty() {
                wants[class] = false;
                continue;
            }
            held[class] += 1;
            let ids: Vec<String> = rows.iter().map(|row| row.group_id.clone()).collect();
            busy.extend(ids.iter().cloned());
            let run = Arc::clone(&run);
            slots.spawn(async move {
                let done = run.work(&rows).await;
                (class, ids, done)
            });
        }
        tokio::select! {
            Some(ended) = slots.join_next() => free(ended, &mut held, &mut busy)?,
            () = sleep(IDLE_PAUSE) => {}
        }
    }
}

fn free(
    ended: Result<SlotEnd, tokio::task::JoinError>,
    held: &mut [usize; CLASSES],
    busy: &mut BTreeSet<String>,
) -> Result<(), PassEnd> {
    let (class, ids, done) =
        ended.map_err(|error| PassEnd::Stopped(format!("a read of a pass ended by itself: {error}")))?;
    assert!(held[class] > 0, "a slot that ends was held");
    held[class] -= 1;
    busy.retain(|id| !ids.contains(id));
    done
}

impl AppRun {
    /// Finds out which of the classes that had nothing due have something now.
    async fn look(&self, wants: &mut [bool; CLASSES], busy: &BTreeSet<String>) -> Result<(), PassEnd> {
        let number = |class: usize| i16::try_from(class + 1).unwrap_or(i16::MAX);
        let empty: Vec<i16> = (0..CLASSES).filter(|class| !wants[*class]).map(number).collect();
        let busy: Vec<String> = busy.iter().cloned().collect();
        let (app, now) = (self.source.app, (self.engine.now)());
        let mut tx = self.engine.pass_tx().await?;
        let read = work::due_classes(tx.conn(), (app, &empty), now, &busy).await;
        let due = tx.end_of_read(read).await?;
        (0..CLASSES).for_each(|class| wants[class] |= due.contains(&number(class)));
        Ok(())
    }

    async fn due(&self, class: usize, busy: &BTreeSet<String>) -> Result<Vec<DueGroup>, PassEnd> {
        let busy: Vec<String> = busy.iter().cloned().collect();
        let number = i16::try_from(class + 1).unwrap_or(i16::MAX);
        let (of, now) = ((self.source.app, number), (self.engine.now)());
        let mut tx = self.engine.pass_tx().await?;
        let read = work::due(tx.conn(), of, now, &busy, ROWS_MAX).await;
        tx.end_of_read(read).await
    }

    fn spare(&self, row: &DueGroup) -> ReadSpare {
        if row.class == 1 { self.engine.settings.follow_up } else { self.engine.settings.rolling }
    }

    /// Reads rows of one class.
    pub(super) async fn work(&self, rows: &[DueGroup]) -> Result<(), PassEnd> {
        // The sweep has read the profile of what it has left here.
        let needs_profile = |row: &&DueGroup| row.class == 1 || row.parts == 0 || row.parts & MEMBERS > 0;
        let (rows, details): (Vec<&DueGroup>, Vec<&DueGroup>) = rows.iter().partition(needs_profile);
        self.with_profiles(&rows).await?;
        // An interruption costs the calls that are on their way.
        let reads = details.into_iter().map(|row| self.one_of_many(row.class, self.details(row)));
        try_join_all(reads).await?;
        Ok(())
    }

    /// Reads attributes or topics of a row.
    async fn details(&self, row: &DueGroup) -> Result<(), PassEnd> {
        let Ok(group) = GroupId::parse(&row.group_id) else { return Ok(()) };
        let key = self.key(&group);
        let again = self.again(row);
        let done = WorkDone { group: key.clone(), parts: 0, sigma: Millis::new(i64::MAX), again };
        PassCounts::add(&self.counts.work, 1);
        self.read_and_commit((row, done, Witnesses::unknown(key), &KnownOfGroup::default())).await
    }

    /// Reads rows with their profiles.
    async fn with_profiles(&self, rows: &[&DueGroup]) -> Result<(), PassEnd> {
        let asked: Vec<AskedGroup> = rows.iter().copied().filter_map(asked).collect();
        let keys: Vec<_> = asked.iter().map(|asked| self.key(&asked.group)).collect();
        let Some(spare) = rows.first().map(|row| self.spare(row)) else { return Ok(()) };
        let readings = self.read(&asked, spare).await?;
        let known = self.known_of(&keys).await?;
        let none = KnownOfGroup::default();
        let weigh = |reading: &GroupReading| {
            let id = reading.group.group.as_str();
            let row = rows.iter().copied().find(|row| row.group_id == id)?;
            let known = known.get(id).unwrap_or(&none);
            let (mut batch, mut done, witnesses) = self.packed(row, reading, known);
            let witnesses = witnesses.filter(|_| row.parts & !done.parts != 0);
            if witnesses.is_none() {
                self.end(row, &mut done);
                batch.note.done.push(done.clone());
            }
            Some((batch, witnesses.map(|witnesses| (row, done, witnesses, known))))
        };
        let read = self.commit_packed(readings, true, weigh).await?;
        PassCounts::add(&self.counts.work, read.len());
        let later = read.into_iter().flatten();
        let is_short = |(_, _, witnesses, _): &UnfinishedRow<'_>| {
            witnesses.member_num.is_some_and(|members| members <= SHORT_LIST_MAX)
        };
        let (short, long): (Vec<_>, Vec<_>) = later.partition(is_short);
        try_join_all(short.into_iter().map(|of| self.one_of_many(of.0.class, self.read_and_commit(of))))
            .await?;
        for of in long {
            self.read_and_commit(of).await?;
        }
        Ok(())
    }

    async fn read_and_commit(&self, (row, done, witnesses, known): UnfinishedRow<'_>) -> Result<(), PassEnd> {
        let (mut read, mut done, list) = self.remainder(row, done, &witnesses, known).await?;
        if let Some(list) = list {
            return self.commit_list(row, (read, done), list).await;
        }
        self.end(row, &mut done);
        read.note.done.push(done);
        self.commit_jointly(read).await.map(drop)
    }

    /// Waits until fewer calls about single groups are on their way than may be.
    async fn one_of_many(
        &self,
        class: i16,
        read: impl Future<Output = Result<(), PassEnd>>,
    ) -> Result<(), PassEnd> {
        let calls = if class == 1 { &self.marked_calls } else { &self.single_calls };
        let _permit = permit(calls).await;
        read.await
    }

    /// When a row is read again that was read in vain.
    fn again(&self, row: &DueGroup) -> Millis {
        let again = AGAIN_MS.saturating_mul(1 << row.attempts.clamp(0, 10)).min(AGAIN_MAX_MS);
        Millis::new((self.engine.now)().get().saturating_add(again))
    }

    /// What the packed read of a row comes to, which parts that brought, and the witnesses of a group that is alive.
    fn packed(
        &self,
        row: &DueGroup,
        reading: &GroupReading,
        known: &KnownOfGroup,
    ) -> (ReadBatch, WorkDone, Option<Witnesses>) {
        let mut batch = ReadBatch::default();
        batch.note.spare_ms = self.engine.settings.follow_up.ms;
        let group = reading.group.clone();
        let sigma = reading.time.map_or(Millis::new(-1), |time| time.sigma);
        let again = self.again(row);
        let mut done = WorkDone { group: group.clone(), parts: 0, sigma, again };
        match reading.verdict {
            GroupVerdict::Alive => {}
            GroupVerdict::GoneCandidate(_) => {
                match reading.time.filter(|_| row.is_shown) {
                    Some(time) => batch.note.candidates.push((group, time.sent)),
                    None if row.is_shown => return (batch, done, None),
                    None => batch.note.forgotten.push(group),
                }
                // The next pass asks again, and the end of this one.
                (done.parts, done.sigma) = (ALL_PARTS, Millis::new(i64::MAX));
                return (batch, done, None);
            }
            GroupVerdict::Unknown(_) => {
                PassCounts::add(&self.counts.unknown, 1);
                return (batch, done, None);
            }
            GroupVerdict::Unsupported => {
                done.parts = ALL_PARTS;
                return (batch, done, None);
            }
        }
        let is_accepted = row.attempts >= STALE_ATTEMPTS;
        let stale = reading.staleness(known).is_some();
        batch.stale += usize::from(stale);
        if stale && !is_accepted {
            done.sigma = Millis::new(-1);
            return (batch, done, None);
        }
        batch.note.asked.push(noted(reading));
        if self.candidates() > 0 {
            batch.note.alive.push(group);
        }
        let witnesses = reading.witnesses.clone();
        // A dry run has compared the profile already.
        batch.snapshots.extend(reading.profile.clone().filter(|_| !self.is_dry));
        match &reading.members {
            MembersRead::Whole(list) => {
                if list.staleness(known).is_some() && !is_accepted {
                    batch.stale += 1;
                    return (batch, done, None);
                }
                list.batches().for_each(|part| batch.snapshots.extend(part));
                done.parts |= if list.is_complete() { MEMBERS } else { 0 };
                batch.members += list.rows.len();
            }
            MembersRead::NoList | MembersRead::NotAsked => done.parts |= MEMBERS,
            MembersRead::Wanted => {}
        }
        (batch, done, witnesses)
    }

    /// Ends a row that was read in vain often enough.
    pub(super) fn end(&self, row: &DueGroup, done: &mut WorkDone) {
        let is_done = done.parts & row.parts == row.parts && row.newest_ms <= done.sigma.get();
        if !is_done && row.attempts >= ATTEMPTS_MAX {
            tracing::debug!(group.id = row.group_id, "a group could not be read and waits for the next pass");
            (done.parts, done.sigma) = (ALL_PARTS, Millis::new(i64::MAX));
        }
    }

    /// Reads what the packed read could not bring of one group.
    async fn remainder(
        &self,
        row: &DueGroup,
        mut done: WorkDone,
        witnesses: &Witnesses,
        known: &KnownOfGroup,
    ) -> Result<(ReadBatch, WorkDone, Option<ListReading>), PassEnd> {
        let spare = self.spare(row);
        let (group, missing) = (&witnesses.group.group, row.parts & !done.parts);
        let mut batch = ReadBatch::default();
        batch.note.spare_ms = self.engine.settings.follow_up.ms;
        // The pages of the list are kept until the row is done with: an interruption before that costs the last of them.
        batch.note.listed.extend((missing & MEMBERS > 0).then(|| witnesses.group.clone()));
        let list = match missing & MEMBERS > 0 {
            true => self.read_list(row, witnesses, (spare, known)).await?,
            false => None,
        };
        if missing & ATTRIBUTES > 0 {
            let read = self.reader.attributes(group, spare).await?;
            done.parts |= taken(&mut batch, &mut done.sigma, read, ATTRIBUTES);
        }
        if missing & TOPICS > 0 {
            let asker = row.asker.as_deref().and_then(|asker| UserId::parse(asker).ok());
            let speakers: Vec<UserId> = witnesses.owner.iter().cloned().chain(asker).collect();
            let read = self.reader.topics(group, &speakers, spare).await?;
            done.parts |= taken(&mut batch, &mut done.sigma, read, TOPICS);
        }
        Ok((batch, done, list))
    }
}

/// The third try of a stale read: three of them take more than a minute.
pub(super) const STALE_ATTEMPTS: i32 = 2;

fn asked(row: &DueGroup) -> Option<AskedGroup> {
    let expected = row.member_num.and_then(|num| u64::try_from(num).ok());
    Some(AskedGroup {
        group: GroupId::parse(&row.group_id).ok()?,
        members: row.parts & MEMBERS > 0,
        expected,
    })
}

/// Takes attributes or topics; answers the part that is done with.
fn taken(batch: &mut ReadBatch, sigma: &mut Millis, read: DetailReading, part: i16) -> i16 {
    if let Some(snapshot) = read.snapshots.first() {
        *sigma = (*sigma).min(snapshot.time.sigma);
    }
    let is_done = match read.state {
        DetailState::Read | DetailState::Unsupported => true,
        DetailState::Gone | DetailState::Unknown(_) => false,
    };
    batch.snapshots.extend(read.snapshots);
    if is_done { part } else { 0 }
}
