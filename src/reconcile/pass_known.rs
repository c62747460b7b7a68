//! Reads of a pass that are known to be shown as they were read, and are committed before all others.
//!
//! The look that finds them out is their commit, so that a group of which nothing is new costs one look, and a batch of them
//! no lock. Only the others have their lists held against what the mirror shows, and come in batches that are kept small.

use super::app_run::{AppRun, ReadBatch, permit};
use super::engine::PassEnd;
use super::reading_verdict::GroupReading;
use crate::ingest::{self, HowKnown, KNOWN_SNAPSHOTS_MAX};
use crate::mirror::DIGEST_KINDS;

/// What is known is one snapshot of each kind, at most.
const READS_MAX: usize = KNOWN_SNAPSHOTS_MAX / DIGEST_KINDS.len();

impl AppRun {
    /// Commits what packed reads come to, which `weigh` says: those first that are known, and of the others the lists hold
    /// whom the mirror shows when they are weighed again. Answers what else `weigh` says of each.
    pub(super) async fn commit_packed<T>(
        &self,
        readings: Vec<GroupReading>,
        may_be_known: bool,
        weigh: impl Fn(&GroupReading) -> Option<(ReadBatch, T)>,
    ) -> Result<Vec<T>, PassEnd> {
        let (mut ends, mut open, mut listed) = (Vec::with_capacity(readings.len()), readings, Vec::new());
        if may_be_known {
            let weighed = open.into_iter().filter_map(|reading| weigh(&reading).map(|of| (reading, of)));
            let weighed: Vec<(GroupReading, (ReadBatch, T))> = weighed.collect();
            let batches: Vec<&ReadBatch> = weighed.iter().map(|(_, (batch, _))| batch).collect();
            let known = self.commit_known(&batches).await;
            open = Vec::new();
            for ((reading, (_, end)), known_as) in weighed.into_iter().zip(known) {
                match known_as {
                    HowKnown::Shown => ends.push(end),
                    HowKnown::ListShown => listed.push(reading),
                    HowKnown::Open => open.push(reading),
                }
            }
        }
        let mut batches = Vec::with_capacity(open.len());
        listed.extend(self.confirm_packed(open).await?);
        for (batch, end) in listed.iter().filter_map(weigh) {
            batches.push(batch);
            ends.push(end);
        }
        self.commit_all(batches).await?;
        Ok(ends)
    }

    /// Commits what one group was read as, together with others that wait, if it is known.
    pub(super) async fn commit_known_jointly(&self, read: ReadBatch) -> Result<HowKnown, PassEnd> {
        let commit =
            async |reads: Vec<ReadBatch>| Ok(self.commit_known(&reads.iter().collect::<Vec<_>>()).await);
        self.known_joint.commit(read, commit).await
    }

    /// Commits those that are known.
    async fn commit_known(&self, reads: &[&ReadBatch]) -> Vec<HowKnown> {
        let mut known = vec![HowKnown::Open; reads.len()];
        let may_be = |at: &usize| (1..=DIGEST_KINDS.len()).contains(&reads[*at].snapshots.len());
        let may_be: Vec<usize> = (0..reads.len()).filter(may_be).collect();
        for part in may_be.chunks(READS_MAX) {
            let reads_of_part: Vec<&ReadBatch> = part.iter().map(|at| reads[*at]).collect();
            for (at, known_as) in part.iter().zip(self.commit_known_part(&reads_of_part).await) {
                known[*at] = known_as;
            }
        }
        let committed = reads.iter().zip(&known).filter(|(_, known_as)| **known_as == HowKnown::Shown);
        committed.for_each(|(read, _)| self.note_committed(read));
        known
    }

    /// Where the database does not take it, none is known: the way of the others says why, and tries again.
    async fn commit_known_part(&self, reads: &[&ReadBatch]) -> Vec<HowKnown> {
        let of_sweep = match reads.iter().any(|read| read.note.pass.is_some()) {
            true => Some(permit(&self.engine.sweep_commits).await),
            false => None,
        };
        let of_all = permit(&self.engine.commits).await;
        let (database, now) = (&self.engine.database, (self.engine.now)());
        let parts: Vec<_> = reads.iter().map(|read| (&read.snapshots[..], &read.note)).collect();
        let known = ingest::commit_known(database, &parts, now, !self.is_dry).await;
        drop((of_all, of_sweep));
        known.unwrap_or_else(|error| {
            tracing::debug!("a batch of reads is taken for news: {error}");
            vec![HowKnown::Open; reads.len()]
        })
    }
}
