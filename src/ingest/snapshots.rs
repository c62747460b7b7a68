//! The door of snapshots: a batch of REST answers with their effect, in one transaction.
//!
//! Where a snapshot is not known to say what the last one said (`known_reads`), the groups are locked and read first, in the
//! order in which all writers take them. What a snapshot shows that the mirror shows already is not entered and moves the
//! time of verification alone; everything else becomes a ledger entry, and what it changes is counted as drift. As with
//! callbacks, either all of a batch is committed or nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use sqlx::PgConnection;
use strum::VariantArray as _;

use super::known_commit::verified_part;
use super::known_reads;
use crate::mirror::{
    ComparedSnapshot, Comparison, Drift, DriftClass, DriftKind, FactKind, GroupBarrier, GroupKey,
    MirrorClaim, People, ReadDigest, ReadKind, Rows, Snapshot, UnreadableSnapshot,
};
use crate::model::Millis;
use crate::store::Database;
use crate::store::drift_totals::{self, DriftCounts};
use crate::store::errors::{Failure, classify};
use crate::store::held;
use crate::store::ledger::{self, EntrySource, NewEntry, Verdict};
use crate::store::lines::HeldParts;
use crate::store::pass_note::{self, PassNote};
use crate::store::verifications::{self, KnownParts, VerifiedPart};

/// The most snapshots of one batch: the groups of one packed answer, or a quarter of the ranges of a large group, whose
/// callbacks wait meanwhile. A caller with more cuts them.
pub const SNAPSHOTS_MAX: usize = 64;

/// How often a batch is retried after a serialization failure, a deadlock, or a session whose statements are gone, and the
/// pause before the first retry; it grows with each.
const RETRIES_MAX: u32 = 10;
const RETRY_PAUSE: Duration = Duration::from_millis(5);

/// The counter of a class of drift.
fn drift_total(class: DriftClass) -> &'static str {
    match class {
        DriftClass::Repaired => "group_mirror_drift_repaired_total",
        DriftClass::Silent => "group_mirror_drift_silent_total",
        DriftClass::Found => "group_mirror_drift_found_total",
    }
}

/// Sets the counters of drift to zero that have not been increased yet, so that each exists with every kind.
pub fn register_drift_counters() {
    for class in DriftClass::VARIANTS {
        for kind in DriftKind::VARIANTS {
            let kind: &'static str = kind.into();
            metrics::counter!(drift_total(*class), "kind" => kind).increment(0);
        }
    }
}

fn count_drift(counts: &DriftCounts) {
    for ((_, class, kind), count) in counts {
        let kind: &'static str = kind.into();
        metrics::counter!(drift_total(*class), "kind" => kind).increment(*count);
    }
}

/// What became of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotOutcome {
    /// It is in the ledger, and changed this of what is shown.
    Entered(Drift),
    /// It shows what the mirror shows; only the time of verification has moved.
    Unchanged,
    /// Tencent knows no such group, and neither does the mirror.
    Unknown,
    /// It cannot be read, and changes nothing.
    Unreadable(UnreadableSnapshot),
}

/// A snapshot on its way.
#[derive(Clone)]
enum Compared {
    Read(ComparedSnapshot),
    Unknown,
    Unreadable(UnreadableSnapshot),
}

/// The reads of a batch, and what each of them says as one value.
struct SnapshotBatch {
    read: Vec<Compared>,
    digests: Vec<Option<ReadDigest>>,
}

/// Commits snapshots and answers for each, in the order given. Committing the same again changes nothing.
///
/// # Errors
/// No connection, or a statement's; nothing is committed then.
pub async fn commit_snapshots(
    database: &Database,
    snapshots: &[Snapshot],
    received_at: Millis,
) -> Result<Vec<SnapshotOutcome>, sqlx::Error> {
    commit_reads(database, snapshots, &PassNote::default(), received_at).await
}

/// The same, with what the batch comes to for the pass that read it, in the same transaction.
///
/// # Errors
/// No connection, or a statement's; nothing is committed then.
pub async fn commit_reads(
    database: &Database,
    snapshots: &[Snapshot],
    note: &PassNote,
    received_at: Millis,
) -> Result<Vec<SnapshotOutcome>, sqlx::Error> {
    enter(database, snapshots, Some(note), received_at).await
}

/// What committing them would come to; nothing is written.
///
/// # Errors
/// No connection, or a statement's.
pub async fn compare_reads(
    database: &Database,
    snapshots: &[Snapshot],
    received_at: Millis,
) -> Result<Vec<SnapshotOutcome>, sqlx::Error> {
    enter(database, snapshots, None, received_at).await
}

/// Enters snapshots; without a note it is only tried.
async fn enter(
    database: &Database,
    snapshots: &[Snapshot],
    note: Option<&PassNote>,
    received_at: Millis,
) -> Result<Vec<SnapshotOutcome>, sqlx::Error> {
    assert!(snapshots.len() <= SNAPSHOTS_MAX, "a batch has at most {SNAPSHOTS_MAX} snapshots");
    let mut retries = 0;
    loop {
        match transact(database, snapshots, note, received_at).await {
            Err(error)
                if matches!(classify(&error), Failure::Retry | Failure::Stale) && retries < RETRIES_MAX =>
            {
                retries += 1;
                tokio::time::sleep(RETRY_PAUSE * retries).await;
            }
            done => return done,
        }
    }
}

async fn transact(
    database: &Database,
    snapshots: &[Snapshot],
    note: Option<&PassNote>,
    received_at: Millis,
) -> Result<Vec<SnapshotOutcome>, sqlx::Error> {
    let mut tx = database.begin("snapshots").await?;
    match write((database, tx.conn()), snapshots, note, received_at).await {
        Ok((outcomes, drift)) => {
            let has_news = outcomes.iter().any(|outcome| matches!(outcome, SnapshotOutcome::Entered(_)));
            match note {
                Some(_) if has_news => tx.commit().await?,
                // Times of verification and the progress of a pass come again with the next read.
                Some(_) => tx.commit_without_sync().await?,
                None => tx.roll_back().await,
            }
            if note.is_some() {
                count_drift(&drift);
            }
            Ok(outcomes)
        }
        Err(error) if classify(&error) == Failure::Stale => {
            tx.discard();
            Err(error)
        }
        Err(error) => {
            tx.roll_back().await;
            Err(error)
        }
    }
}

async fn write(
    (database, conn): (&Database, &mut PgConnection),
    snapshots: &[Snapshot],
    note: Option<&PassNote>,
    received_at: Millis,
) -> Result<(Vec<SnapshotOutcome>, DriftCounts), sqlx::Error> {
    let erasures = database.erasures().for_writing(conn).await?;
    let read = |snapshot: &Snapshot| {
        let fit = snapshot.check_time(received_at);
        fit.and_then(|()| ComparedSnapshot::of(erasures.apply_to_snapshot(snapshot)))
            .map_or_else(Compared::Unreadable, Compared::Read)
    };
    let batch = SnapshotBatch::of(snapshots.iter().map(read).collect());
    let known = known(conn, &batch).await?;
    let read: Vec<(&Compared, bool)> = batch.read.iter().zip(known.iter().copied()).collect();
    let open: Vec<&Compared> = read.iter().filter(|(_, known)| !known).map(|(read, _)| *read).collect();
    let groups = open.iter().filter_map(|read| read.group()).collect::<BTreeSet<_>>();
    let groups: Vec<&GroupKey> = groups.into_iter().collect();
    let parts = parts(&open);
    let mut before = held::read(conn, &groups, &parts).await?;
    let unlocked = unlocked(&open, &before);
    if !unlocked.is_empty() {
        held::ensure(conn, &unlocked).await?;
        held::lock(conn, &groups).await?;
        before = held::read(conn, &groups, &parts).await?;
    }
    let mut comparison = Comparison::new(before.clone());
    let mut weighed = |(read, known): &(&Compared, bool)| match known {
        true => (*read).clone(),
        false => compare(&mut comparison, &before, (*read).clone()),
    };
    let compared: Vec<Compared> = read.iter().map(&mut weighed).collect();
    let news: Vec<&ComparedSnapshot> = compared.iter().filter_map(Compared::news).collect();
    // What was claimed before the batch is read before it is noted as verified; most batches change nothing.
    let has_drift = news.iter().any(|news| !news.drift.is_empty());
    let claimed = if has_drift { verifications::known(conn, &groups).await? } else { KnownParts::default() };
    let entries: Vec<NewEntry<'_>> = news.iter().map(|news| new_entry(news, received_at)).collect();
    ledger::enter_batch(conn, &entries, database.erasures().applied(&erasures)).await?;
    // An entry that the ledger knows already says nothing that merging once more could change.
    let new = Rows::of(news.iter().flat_map(|news| news.facts.iter().cloned()));
    let after = comparison.into_rows();
    held::write(conn, &new, &before, &after).await?;
    let verified: Vec<_> = compared.iter().filter_map(Compared::verified).collect();
    verifications::note(conn, &verified).await?;
    let may_be_known = batch.digests.iter().map(Option::is_some);
    let open = compared.iter().zip(may_be_known).zip(&known).filter(|(_, known)| !**known);
    let open: Vec<_> = open.filter_map(|((read, may), _)| Some((read.readable()?, may))).collect();
    known_reads::note(conn, &open, &after).await?;
    if let Some(note) = note {
        pass_note::note(conn, note).await?;
    }
    let drift = drift_counts(&compared, &before, &after, &claimed);
    drift_totals::add(conn, &drift, received_at).await?;
    Ok((compared.into_iter().map(Compared::outcome).collect(), drift))
}

/// Which reads are known. Where all of them are, no group is locked: what is written then is their time of verification
/// alone, and a callback that is being written stands behind it. Otherwise all groups are locked, in the order of all
/// writers, and the look is taken under their locks.
async fn known(conn: &mut PgConnection, batch: &SnapshotBatch) -> Result<Vec<bool>, sqlx::Error> {
    let groups: Vec<Option<&GroupKey>> = batch.read.iter().map(Compared::group).collect();
    let known = known_reads::look(conn, &batch.digests, &groups).await?;
    if known.iter().all(|known| *known) {
        return Ok(known);
    }
    let sorted: BTreeSet<&GroupKey> = groups.iter().copied().flatten().collect();
    held::lock(conn, &sorted.into_iter().collect::<Vec<_>>()).await?;
    if known.contains(&true) { known_reads::look(conn, &batch.digests, &groups).await } else { Ok(known) }
}

/// What has to be read to compare reads. Attributes and topics neither change nor depend on who is a member; a profile
/// depends on the owner's membership alone; and a range of a list says nothing of the others: of a community of 100,000 a
/// batch reads some thousands.
fn parts<'a>(open: &[&'a Compared]) -> HeldParts<'a> {
    let mut parts = HeldParts::default();
    let read = || open.iter().filter_map(|read| read.readable());
    for ComparedSnapshot { snapshot, .. } in read().filter(|read| read.snapshot.kind == ReadKind::Members) {
        match &snapshot.range {
            None => drop(parts.whole.insert(&snapshot.group)),
            Some(range) => {
                parts.ranged.insert(&snapshot.group);
                parts.ranges.insert(range.as_str());
            }
        }
    }
    parts.ranged.retain(|group| !parts.whole.contains(group));
    for ComparedSnapshot { snapshot, facts, .. } in read() {
        match snapshot.kind {
            ReadKind::Attributes => parts.attributes = true,
            ReadKind::Topics => parts.topics = true,
            ReadKind::Members => {}
            ReadKind::Profile | ReadKind::Gone => {
                parts.fields |= snapshot.kind == ReadKind::Profile;
                if !parts.whole.contains(&snapshot.group) {
                    parts.owned.insert(&snapshot.group);
                    let named = facts.iter().filter_map(|fact| match &fact.kind {
                        FactKind::Owner(Some(owner)) => Some((&snapshot.group, owner)),
                        _ => None,
                    });
                    parts.named.extend(named);
                }
            }
        }
    }
    parts
}

/// What the batch changes, by what that means: measured by what was claimed before the batch.
fn drift_counts(compared: &[Compared], before: &Rows, after: &Rows, known: &KnownParts) -> DriftCounts {
    let mut counts = DriftCounts::new();
    for news in compared.iter().filter_map(Compared::news).filter(|news| !news.drift.is_empty()) {
        let key = &news.snapshot.group;
        let Some(row) = after.groups.get(key) else { unreachable!("a group with news has a row") };
        let claim = MirrorClaim::of(before.groups.get(key), row, known.of(key), known.from(key.app));
        for (kind, count) in &news.drift {
            *counts.entry((key.app, kind.class(&claim), *kind)).or_default() += count;
        }
    }
    counts
}

/// The groups that have no row yet and will have one: what is not locked could be written by another at the same time.
fn unlocked<'a>(open: &[&'a Compared], held: &Rows) -> Vec<&'a GroupKey> {
    let known = open.iter().filter(|read| !read.is_gone()).filter_map(|read| read.group());
    let unlocked: BTreeSet<&GroupKey> = known.filter(|group| !held.groups.contains_key(group)).collect();
    unlocked.into_iter().collect()
}

fn compare(comparison: &mut Comparison, before: &Rows, read: Compared) -> Compared {
    let Compared::Read(snapshot) = read else { return read };
    let row = before.groups.get(&snapshot.snapshot.group);
    let is_known = row.is_some_and(|row| !row.barrier(GroupBarrier::UpdatedStamp).is_zero());
    if snapshot.snapshot.kind == ReadKind::Gone && !is_known {
        return Compared::Unknown;
    }
    match comparison.compare(snapshot) {
        Ok(compared) => Compared::Read(compared),
        Err(unreadable) => Compared::Unreadable(unreadable),
    }
}

impl SnapshotBatch {
    fn of(read: Vec<Compared>) -> Self {
        let digests = known_reads::digests(read.iter().map(Compared::readable));
        assert_eq!(digests.len(), read.len(), "a place for each read");
        Self { read, digests }
    }
}

impl Compared {
    fn readable(&self) -> Option<&ComparedSnapshot> {
        match self {
            Self::Read(read) => Some(read),
            Self::Unknown | Self::Unreadable(_) => None,
        }
    }

    fn group(&self) -> Option<&GroupKey> {
        self.readable().map(|read| &read.snapshot.group)
    }

    fn is_gone(&self) -> bool {
        matches!(self, Self::Read(read) if read.snapshot.kind == ReadKind::Gone)
    }

    fn news(&self) -> Option<&ComparedSnapshot> {
        match self {
            Self::Read(compared) if compared.is_news => Some(compared),
            _ => None,
        }
    }

    fn verified(&self) -> Option<(&GroupKey, Millis, VerifiedPart)> {
        self.readable().and_then(|read| verified_part(&read.snapshot))
    }

    fn outcome(self) -> SnapshotOutcome {
        match self {
            Self::Read(compared) if compared.is_news => SnapshotOutcome::Entered(compared.drift),
            Self::Read(_) => SnapshotOutcome::Unchanged,
            Self::Unknown => SnapshotOutcome::Unknown,
            Self::Unreadable(unreadable) => SnapshotOutcome::Unreadable(unreadable),
        }
    }
}

/// The ledger entry of a snapshot. Its time is σ, so that the history of a group shows it where it counts.
fn new_entry(compared: &ComparedSnapshot, received_at: Millis) -> NewEntry<'_> {
    let snapshot = &compared.snapshot;
    NewEntry {
        app: snapshot.group.app,
        group: Some(&snapshot.group.group),
        time: snapshot.time.sigma,
        digest: compared.digest,
        is_known_by_request: false,
        command: snapshot.kind.command(),
        event_time: Some(snapshot.time.sigma),
        received_at,
        source: EntrySource::Rest,
        verdict: Verdict { outcome: "applied", reason: None, causes: Vec::new() },
        query_command: None,
        client_ip: None,
        platform: None,
        request_id: None,
        query: None,
        content_type: None,
        outbox: None,
        people: People::of_snapshot(snapshot.kind, &compared.facts),
        body: &compared.body,
    }
}
