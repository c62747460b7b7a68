//! The reads of one app while the lease is held: the reader, what all tasks share, and how a batch is committed.
//!
//! A batch is what some groups were read as, with what that comes to for the pass, in one transaction. Batches are kept
//! small, because the groups in one are locked while it is written, and a callback of one of them waits meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::PgConnection;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::engine::{AppSource, Engine, PassCounts, PassEnd};
use super::joint_commits::JointCommits;
use super::reading::{AskedFields, GroupReader, IdPage};
use super::reading_evidence::KnownOfGroup;
use super::reading_packed::AskedGroup;
use super::reading_verdict::{GroupReading, ReadSpare};
use crate::ingest::{self, HowKnown, SNAPSHOTS_MAX, SnapshotOutcome};
use crate::mirror::{GroupKey, ReadKind, Snapshot};
use crate::model::{FieldKey, Millis, UserId};
use crate::store::Tx;
use crate::store::errors::{Failure, classify};
use crate::store::evidence;
use crate::store::pass_note::PassNote;
use crate::store::passes;
use crate::tencent::groups::is_community;

/// A batch is committed before it has more bytes of answers: that is about a thousand members.
const BATCH_BYTES_MAX: usize = 128 * 1024;

/// How often a batch is tried that the database does not take, and the pause before the second time; it doubles.
const TRIES_MAX: u32 = 6;
const TRY_PAUSE: Duration = Duration::from_millis(250);

/// How many calls about single groups (attributes, topics, short lists) are on their way at once: at Tencent's 200 calls per
/// second that is enough where an answer takes 0.1 s. Those that end together are committed together.
const SINGLE_CALLS_MAX: usize = 32;

/// As many more are of groups that a callback has marked, which wait for none of the others.
const MARKED_CALLS_MAX: usize = 12;

/// When a stale or an unknown answer is asked for again, in milliseconds: three tries take more than a minute.
pub(super) const AGAIN_MS: i64 = 31_000;

/// How far back something that happened can be evidence of a stale read, in milliseconds.
const RECENT_MS: i64 = 10 * 60 * 1000;

/// The most keys of custom fields of the mirror that are looked at: more than are asked for, so that it shows.
const FIELD_KEYS_MAX: i64 = 100;

/// The reads of one app.
#[derive(Debug)]
pub(super) struct AppRun {
    pub(super) engine: Engine,
    pub(super) source: AppSource,
    pub(super) reader: GroupReader,
    pub(super) counts: Arc<PassCounts>,
    pub(super) stop: CancellationToken,
    /// True where everything is compared and nothing written.
    pub(super) is_dry: bool,
    /// What a dry run would have noted and has still to read.
    pub(super) noted: Mutex<PassNote>,
    /// Batches of single groups, which are committed together.
    joint: JointCommits<ReadBatch, bool>,
    /// The same of reads that may be known to be shown.
    pub(super) known_joint: JointCommits<ReadBatch, HowKnown>,
    /// Permits of calls about single groups, and about those of them that a callback has marked.
    pub(super) single_calls: Semaphore,
    pub(super) marked_calls: Semaphore,
    candidates: AtomicI64,
}

/// What one or several groups were read as.
#[derive(Debug, Clone, Default)]
pub(super) struct ReadBatch {
    pub(super) snapshots: Vec<Snapshot>,
    pub(super) note: PassNote,
    /// Members in lists, and reads that were too old: counted once the batch is committed.
    pub(super) members: usize,
    pub(super) stale: usize,
}

impl ReadBatch {
    fn bytes(&self) -> usize {
        self.snapshots.iter().map(|snapshot| snapshot.answer.len()).sum()
    }

    /// True where this and another one are too much for one transaction.
    fn is_full_with(&self, other: &Self) -> bool {
        self.snapshots.len() + other.snapshots.len() > SNAPSHOTS_MAX
            || self.bytes() + other.bytes() > BATCH_BYTES_MAX
    }

    fn append(&mut self, other: Self) {
        self.snapshots.extend(other.snapshots);
        self.note.append(other.note);
        (self.members, self.stale) = (self.members + other.members, self.stale + other.stale);
    }
}

impl AppRun {
    /// Ready to read; the keys of custom fields are those that the mirror holds, and those of the settings.
    pub(super) async fn new(
        engine: Engine,
        source: AppSource,
        counts: Arc<PassCounts>,
        stop: CancellationToken,
    ) -> Result<Self, PassEnd> {
        let app = source.app;
        let mut tx = engine.pass_tx().await?;
        let held = passes::field_keys(tx.conn(), app, FIELD_KEYS_MAX).await;
        let held = tx.end(held).await?;
        let held: Vec<FieldKey> = held.iter().filter_map(|key| FieldKey::parse(key).ok()).collect();
        let mut group = engine.settings.group_fields.clone();
        if group.is_empty() && held.is_empty() {
            group = discovered(&source, &stop).await?;
        }
        let fields = AskedFields { group, members: engine.settings.member_fields.clone() };
        let reader = GroupReader::new(Arc::clone(&source.client), source.app, fields, stop.clone());
        reader.ask_also(&held);
        let (noted, candidates) = (Mutex::default(), AtomicI64::new(0));
        let (joint, known_joint) = (JointCommits::new(), JointCommits::new());
        let (single_calls, marked_calls) =
            (Semaphore::new(SINGLE_CALLS_MAX), Semaphore::new(MARKED_CALLS_MAX));
        Ok(Self {
            engine,
            source,
            reader,
            counts,
            stop,
            is_dry: false,
            noted,
            joint,
            known_joint,
            single_calls,
            marked_calls,
            candidates,
        })
    }

    /// How many groups of the mirror Tencent has denied once.
    pub(super) fn candidates(&self) -> i64 {
        self.candidates.load(Ordering::Relaxed)
    }

    pub(super) fn set_candidates(&self, count: i64) {
        self.candidates.store(count, Ordering::Relaxed);
    }

    /// Commits what one group was read as, together with others that wait; false where a snapshot of any of them was left out.
    pub(super) async fn commit_jointly(&self, read: ReadBatch) -> Result<bool, PassEnd> {
        let commit = async |reads: Vec<ReadBatch>| {
            let count = reads.len();
            self.commit_all(reads).await.map(|are_taken| vec![are_taken; count])
        };
        self.joint.commit(read, commit).await
    }

    /// Commits what groups were read as, in as few transactions as may be; false where a snapshot was left out.
    pub(super) async fn commit_all(&self, read: Vec<ReadBatch>) -> Result<bool, PassEnd> {
        let (mut batch, mut are_taken) = (ReadBatch::default(), true);
        for group in read {
            if batch.is_full_with(&group) {
                let full = std::mem::take(&mut batch);
                are_taken &= self.commit(full).await?;
            }
            batch.append(group);
        }
        are_taken &= self.commit(batch).await?;
        Ok(are_taken)
    }

    /// Commits snapshots, and in the transaction of the last of them what they come to; false where one of them was left out.
    pub(super) async fn commit(&self, batch: ReadBatch) -> Result<bool, PassEnd> {
        let ReadBatch { snapshots, note, .. } = &batch;
        if snapshots.is_empty() && note.is_empty() {
            return Ok(true);
        }
        let mut parts: Vec<&[Snapshot]> = snapshots.chunks(SNAPSHOTS_MAX).collect();
        let last = parts.pop().unwrap_or_default();
        let mut are_taken = true;
        for part in parts {
            are_taken &= self.commit_or_bisect(part, &PassNote::default()).await?;
        }
        are_taken &= self.commit_or_bisect(last, note).await?;
        self.note_committed(&batch);
        Ok(are_taken)
    }

    /// Counts what a batch has come to; a dry run keeps what it has still to read.
    pub(super) fn note_committed(&self, ReadBatch { note, members, stale, .. }: &ReadBatch) {
        PassCounts::add(&self.counts.members, *members);
        PassCounts::add(&self.counts.stale, *stale);
        let candidates = i64::try_from(note.candidates.len()).unwrap_or(i64::MAX);
        self.candidates.fetch_add(candidates, Ordering::Relaxed);
        if self.is_dry {
            // What is not needed at the end is not kept: there may be a million groups.
            let (work, candidates) = (note.work.clone(), note.candidates.clone());
            let kept = PassNote { work, candidates, found_alive: note.found_alive, ..PassNote::default() };
            self.noted.lock().unwrap_or_else(PoisonError::into_inner).append(kept);
        }
    }

    /// Commits a part. Where the database refuses it because of its data, or a lock or limit of time ends it, each snapshot is
    /// committed by itself, and the one that is refused is left out, with a line in the log: one group must not hold up the
    /// pass over all others. One that was not given its lock is read again later. False where one was left out.
    async fn commit_or_bisect(&self, part: &[Snapshot], note: &PassNote) -> Result<bool, PassEnd> {
        let whole = match self.commit_part(part, note).await {
            Err(PassEnd::Database(error)) if is_of_one(&error) && !part.is_empty() => error,
            done => return done,
        };
        let (mut are_taken, mut held_up) = (true, BTreeSet::new());
        for snapshot in part {
            match self.commit_part(std::slice::from_ref(snapshot), &PassNote::default()).await {
                Err(PassEnd::Database(error)) if is_of_one(&error) => {
                    are_taken = false;
                    PassCounts::add(&self.counts.unknown, 1);
                    let (group, command) = (snapshot.group.group.as_str(), snapshot.kind.command());
                    tracing::error!(group.id = group, "the answer of {command} is left out: {error}");
                    if classify(&error) == Failure::TimedOut {
                        held_up.insert(&snapshot.group);
                    }
                }
                done => are_taken &= done?,
            }
        }
        // None of them got through: that is the database and no group.
        let groups: BTreeSet<_> = part.iter().map(|snapshot| &snapshot.group).collect();
        if groups.len() > 1 && groups == held_up {
            return Err(whole.into());
        }
        let again = Millis::new((self.engine.now)().get().saturating_add(AGAIN_MS));
        self.commit_part(&[], &note.without(&held_up, again)).await?;
        Ok(are_taken)
    }

    async fn commit_part(&self, snapshots: &[Snapshot], note: &PassNote) -> Result<bool, PassEnd> {
        let mut tries = 1;
        loop {
            // Not held between two tries: what holds up one app's sweep would hold up those of all.
            let of_sweep = note.pass.is_some().then_some(&self.engine.sweep_commits);
            let of_sweep = match of_sweep {
                Some(commits) => Some(permit(commits).await),
                None => None,
            };
            let of_all = permit(&self.engine.commits).await;
            let (database, now) = (&self.engine.database, (self.engine.now)());
            let done = if self.is_dry {
                ingest::compare_reads(database, snapshots, now).await
            } else {
                ingest::commit_reads(database, snapshots, note, now).await
            };
            drop((of_all, of_sweep));
            match done {
                Ok(outcomes) => {
                    let read = snapshots.iter().zip(&outcomes);
                    read.for_each(|(snapshot, outcome)| self.count(snapshot.kind, outcome));
                    return Ok(!outcomes
                        .iter()
                        .any(|outcome| matches!(outcome, SnapshotOutcome::Unreadable(_))));
                }
                Err(error) if tries < TRIES_MAX && (snapshots.is_empty() || !is_of_one(&error)) => {
                    tracing::debug!("a batch of reads is tried again: {error}");
                    let pause = sleep(TRY_PAUSE * (1 << (tries - 1)));
                    self.stop.run_until_cancelled(pause).await.ok_or(PassEnd::Interrupted)?;
                    tries += 1;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn count(&self, kind: ReadKind, outcome: &SnapshotOutcome) {
        match outcome {
            // What one read of a group would have changed, each of its reads finds again where nothing is written.
            SnapshotOutcome::Entered(drift) if self.is_dry => {
                let own = drift.iter().filter(|(of, _)| of.is_found_by(kind));
                self.counts.add_drift(&own.map(|(of, count)| (*of, *count)).collect());
            }
            SnapshotOutcome::Entered(drift) => self.counts.add_drift(drift),
            SnapshotOutcome::Unreadable(why) => tracing::warn!("a read is thrown away: {why}"),
            SnapshotOutcome::Unchanged | SnapshotOutcome::Unknown => {}
        }
    }

    /// Reads groups, and asks for every custom field that the mirror holds of them: a callback may have brought a key that
    /// was not known when the pass began, and a read that does not ask for it would end the field.
    pub(super) async fn read(
        &self,
        asked: &[AskedGroup],
        spare: ReadSpare,
    ) -> Result<Vec<GroupReading>, PassEnd> {
        let keys: Vec<GroupKey> = asked.iter().map(|asked| self.key(&asked.group)).collect();
        let mut tx = self.engine.pass_tx().await?;
        let held = passes::field_keys_of(tx.conn(), &keys).await;
        let held = tx.end_of_read(held).await?;
        let held: Vec<FieldKey> = held.iter().filter_map(|key| FieldKey::parse(key).ok()).collect();
        self.reader.ask_also(&held);
        Ok(self.reader.groups(asked, spare).await?)
    }

    /// What callbacks have said of groups a short while ago.
    pub(super) async fn known_of(
        &self,
        groups: &[GroupKey],
    ) -> Result<BTreeMap<String, KnownOfGroup>, PassEnd> {
        let since = Millis::new((self.engine.now)().get() - RECENT_MS);
        let mut tx = self.engine.pass_tx().await?;
        let read = evidence::recent(tx.conn(), groups, since).await;
        let rows = tx.end_of_read(read).await?;
        let mut known = BTreeMap::<String, KnownOfGroup>::new();
        for row in rows {
            let of = known.entry(row.group_id).or_default();
            of.newest_profile_callback = row.profile_ms.map(Millis::new);
            let user = row.user_id.and_then(|user| UserId::parse(&user).ok());
            of.leaves.extend(user.zip(row.left_ms.map(Millis::new)));
        }
        Ok(known)
    }
}

/// A failure that one group of a batch can be the cause of: its data, or a lock on it.
fn is_of_one(error: &sqlx::Error) -> bool {
    matches!(classify(error), Failure::Data | Failure::TimedOut)
}

pub(super) async fn permit(of: &Semaphore) -> SemaphorePermit<'_> {
    match of.acquire().await {
        Ok(permit) => permit,
        Err(_) => unreachable!("the permits are never closed"),
    }
}

/// How many groups are looked at for keys of custom fields.
const DISCOVERED_GROUPS: usize = 10;

/// The keys of custom fields of some groups, where the mirror holds none: an answer names only those that were asked for.
async fn discovered(source: &AppSource, stop: &CancellationToken) -> Result<Vec<FieldKey>, PassEnd> {
    let none = AskedFields::default();
    let reader = GroupReader::new(Arc::clone(&source.client), source.app, none, stop.clone());
    let IdPage::Read(page) = reader.id_page(0).await? else { return Ok(Vec::new()) };
    let mut keys = BTreeMap::new();
    let small = page.groups.iter().filter(|group| !is_community(group));
    for group in small.take(DISCOVERED_GROUPS) {
        let found = reader.field_keys_of(group).await?;
        keys.extend(found.into_iter().map(|key| (key.as_str().to_owned(), key)));
    }
    Ok(keys.into_values().collect())
}

/// A transaction that is about passes alone. It holds one of the permits of commits.
#[derive(Debug)]
pub(super) struct PassTx<'a> {
    _permit: SemaphorePermit<'a>,
    tx: Tx,
}

impl Engine {
    /// Begins a transaction that is about passes alone.
    pub(super) async fn pass_tx(&self) -> Result<PassTx<'_>, PassEnd> {
        Ok(PassTx { _permit: permit(&self.commits).await, tx: self.database.begin("pass").await? })
    }
}

impl PassTx<'_> {
    pub(super) fn conn(&mut self) -> &mut PgConnection {
        self.tx.conn()
    }

    /// Ends what has written nothing, so that there is nothing for the disk.
    pub(super) async fn end_of_read<T>(self, done: Result<T, sqlx::Error>) -> Result<T, PassEnd> {
        match done {
            Ok(done) => {
                self.tx.commit().await?;
                Ok(done)
            }
            error => self.end(error).await,
        }
    }

    /// Commits what went well, and rolls back what did not. What a crash of the server takes back is read again.
    pub(super) async fn end<T>(self, done: Result<T, sqlx::Error>) -> Result<T, PassEnd> {
        match done {
            Ok(done) => {
                self.tx.commit_without_sync().await?;
                Ok(done)
            }
            Err(error) => {
                self.tx.roll_back().await;
                Err(error.into())
            }
        }
    }
}
