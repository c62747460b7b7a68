//! Reads that are known to be shown as they were read, committed by the look that finds it out.
//!
//! Most reads of a pass over groups that it has read before say nothing new. What they come to is the time of verification and
//! the progress of the pass: there is no entry, no row of the mirror is written, and no group is locked (`known_reads`). So
//! neither the bytes of the answers nor the wait of callbacks limit such a batch, and the reads that turn out to say something
//! else are left to the caller, who has to find out more before they are compared.

use sqlx::PgConnection;

use super::known_reads;
use crate::mirror::{ComparedSnapshot, GroupKey, ListRange, ReadKind, Snapshot};
use crate::model::Millis;
use crate::store::Database;
use crate::store::pass_note::{self, PassNote};
use crate::store::verifications::{self, VerifiedPart};

/// The most snapshots of one batch: twice what a packed answer of fifty groups has.
pub const KNOWN_SNAPSHOTS_MAX: usize = 200;

/// What is known of the read of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HowKnown {
    /// All of it is shown as it was read; it is committed.
    Shown,
    /// Its list of members is shown as it was read, and leaves out no one who is shown. What a callback says of them after the
    /// look is compared with the list when that is committed.
    ListShown,
    /// It has to be compared.
    Open,
}

/// Commits those of some reads that are known, each with what it comes to for its pass; answers for each what is known of it. A
/// read is what one group was read as. Without `writes` it is only looked.
///
/// # Errors
/// No connection, or a statement's; nothing is committed then.
pub async fn commit_known(
    database: &Database,
    reads: &[(&[Snapshot], &PassNote)],
    received_at: Millis,
    writes: bool,
) -> Result<Vec<HowKnown>, sqlx::Error> {
    let count: usize = reads.iter().map(|(snapshots, _)| snapshots.len()).sum();
    assert!(count <= KNOWN_SNAPSHOTS_MAX, "a batch has at most {KNOWN_SNAPSHOTS_MAX} snapshots");
    let mut tx = database.begin("known reads").await?;
    match write((database, tx.conn()), reads, received_at, writes).await {
        // Times of verification and the progress of a pass come again with the next read.
        Ok(known) => tx.commit_without_sync().await.map(|()| known),
        Err(error) => {
            tx.roll_back().await;
            Err(error)
        }
    }
}

async fn write(
    (database, conn): (&Database, &mut PgConnection),
    reads: &[(&[Snapshot], &PassNote)],
    received_at: Millis,
    writes: bool,
) -> Result<Vec<HowKnown>, sqlx::Error> {
    let erasures = database.erasures().for_writing(conn).await?;
    let readable = |snapshot: &Snapshot| {
        snapshot.check_time(received_at).ok()?;
        ComparedSnapshot::of(erasures.apply_to_snapshot(snapshot)).ok()
    };
    let read: Vec<Option<ComparedSnapshot>> =
        reads.iter().flat_map(|(snapshots, _)| snapshots.iter()).map(readable).collect();
    let group = |read: &Option<ComparedSnapshot>| read.as_ref().map(|read| read.snapshot.group.clone());
    let groups: Vec<Option<GroupKey>> = read.iter().map(group).collect();
    let digests = known_reads::digests(read.iter().map(Option::as_ref));
    let groups: Vec<Option<&GroupKey>> = groups.iter().map(Option::as_ref).collect();
    let each = known_reads::look_at_each(conn, &digests).await?;
    let whole = known_reads::whole(&each, &groups);
    let (mut at, mut known) = (0, Vec::with_capacity(reads.len()));
    let (mut verified, mut note) = (Vec::new(), PassNote::default());
    for (snapshots, of_read) in reads {
        let own = at..at + snapshots.len();
        at = own.end;
        let is_list =
            |(snapshot, is_known): (&Snapshot, &bool)| *is_known && snapshot.kind == ReadKind::Members;
        known.push(if !own.is_empty() && whole[own.clone()].iter().all(|known| *known) {
            verified.extend(snapshots.iter().filter_map(verified_part));
            note.append((*of_read).clone());
            HowKnown::Shown
        } else if snapshots.iter().zip(&each[own]).any(is_list) {
            HowKnown::ListShown
        } else {
            HowKnown::Open
        });
    }
    if writes {
        verifications::note(conn, &verified).await?;
        pass_note::note(conn, &note).await?;
    }
    Ok(known)
}

/// What a read verifies. Of a list in ranges the last range stands for all of them: its reader enters them in their order.
pub(super) fn verified_part(snapshot: &Snapshot) -> Option<(&GroupKey, Millis, VerifiedPart)> {
    let is_last = snapshot.range.as_ref().is_none_or(ListRange::is_last);
    let part = match snapshot.kind {
        ReadKind::Profile | ReadKind::Gone => VerifiedPart::Profile,
        ReadKind::Members if snapshot.is_complete && is_last => VerifiedPart::Members,
        ReadKind::Members | ReadKind::Attributes | ReadKind::Topics => return None,
    };
    Some((&snapshot.group, snapshot.time.sigma, part))
}
