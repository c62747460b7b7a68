//! A pass that writes nothing: everything is read and compared, and each transaction rolled back.
//!
//! It goes the way of a pass (ids, groups of the mirror, groups that only the list has, lists and details, candidates for
//! gone), but keeps in memory what a pass notes in the database, and asks for everything once: a stale or unknown answer
//! is counted and left. It needs no lease, and runs beside a pass.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::app_run::AppRun;
use super::engine::{AppSource, Engine, PassCounts, PassEnd};
use super::pass_gone::mass_gone;
use super::pass_sweep::{SweepOf, WINDOW, joined};
use super::pass_work::ROWS_MAX;
use crate::store::pass_note::PassNote;
use crate::store::passes::{self, SweepRow};
use crate::store::work::{DueGroup, WorkRow};
use crate::tencent::commands::GROUPS_OF_A_CALL_MAX;

/// No pass has this number, so that no group counts as asked for.
const NO_PASS: i64 = i64::MAX;

impl Engine {
    /// Compares all groups of an app with Tencent and counts what differs; writes nothing.
    ///
    /// # Errors
    /// The pass stopped, was interrupted, or the database does not take it.
    pub async fn dry_run(
        &self,
        source: &AppSource,
        stop: &CancellationToken,
        counts: &Arc<PassCounts>,
    ) -> Result<(), PassEnd> {
        let stop = stop.child_token();
        let mut run = AppRun::new(self.clone(), source.clone(), Arc::clone(counts), stop).await?;
        run.is_dry = true;
        Arc::new(run).dry_phases().await
    }
}

impl AppRun {
    async fn dry_phases(self: Arc<Self>) -> Result<(), PassEnd> {
        let mut tx = self.engine.pass_tx().await?;
        let known = passes::known_count(tx.conn(), self.source.app).await;
        let known = tx.end(known).await?;
        let mut ids = self.dry_ids(known).await?;
        self.dry_known(&mut ids, known).await?;
        let fresh: Vec<SweepRow> = ids.into_iter().map(SweepRow::unknown).collect();
        self.dry_sweep(&fresh, false, known).await?;
        let noted = std::mem::take(&mut *self.noted.lock().unwrap_or_else(PoisonError::into_inner));
        self.dry_work(&noted).await?;
        let candidates: Vec<_> =
            noted.candidates.into_iter().map(|(key, asked)| (key.group, asked)).collect();
        self.confirm_each(&candidates).await
    }

    /// All ids that Tencent lists.
    async fn dry_ids(&self, known: i64) -> Result<BTreeSet<String>, PassEnd> {
        let (mut ids, mut next) = (BTreeSet::new(), 0);
        loop {
            let page = self.id_page(next).await?;
            ids.extend(page.groups.iter().map(|group| group.as_str().to_owned()));
            if page.next == 0 || page.next == next {
                break;
            }
            next = page.next;
        }
        self.check_ids(i64::try_from(ids.len()).unwrap_or(i64::MAX), known)?;
        Ok(ids)
    }

    /// Asks for the groups of the mirror, and takes them out of the ids.
    async fn dry_known(self: &Arc<Self>, ids: &mut BTreeSet<String>, known: i64) -> Result<(), PassEnd> {
        let (of, mut after) = ((self.source.app, NO_PASS), String::new());
        loop {
            let mut tx = self.engine.pass_tx().await?;
            let rows = passes::next_groups(tx.conn(), of, true, &after, WINDOW).await;
            let rows = tx.end(rows).await?;
            let Some(last) = rows.last() else { break };
            after.clone_from(&last.group_id);
            for row in &rows {
                ids.remove(&row.group_id);
            }
            self.dry_sweep(&rows, true, known).await?;
        }
        self.dry_check(known, true)
    }

    fn dry_check(&self, known: i64, is_sweep_done: bool) -> Result<(), PassEnd> {
        let found = self.noted.lock().unwrap_or_else(PoisonError::into_inner).found_alive;
        let counts = (known, self.candidates(), found);
        match mass_gone(counts, is_sweep_done, &self.engine.settings) {
            Some(why) => Err(PassEnd::Denied(why)),
            None => Ok(()),
        }
    }

    async fn dry_sweep(
        self: &Arc<Self>,
        rows: &[SweepRow],
        of_mirror: bool,
        known: i64,
    ) -> Result<(), PassEnd> {
        let of = SweepOf { number: NO_PASS, of_mirror, is_whole: true };
        let mut reads = JoinSet::new();
        for batch in rows.chunks(GROUPS_OF_A_CALL_MAX) {
            while reads.len() >= self.engine.settings.sweep_at_once {
                joined(reads.join_next().await)?;
            }
            let (run, batch) = (Arc::clone(self), batch.to_vec());
            reads.spawn(async move { run.read_batch(&batch, of).await.map(|()| 0) });
            self.dry_check(known, false)?;
        }
        while let Some(read) = reads.join_next().await {
            joined(Some(read))?;
        }
        self.dry_check(known, false)
    }

    /// Reads what the sweep could not bring.
    async fn dry_work(&self, noted: &PassNote) -> Result<(), PassEnd> {
        let due = |row: &WorkRow| DueGroup {
            group_id: row.group.group.as_str().to_owned(),
            class: row.class,
            parts: row.parts,
            newest_ms: 0,
            attempts: 0,
            member_num: None,
            is_shown: true,
            asker: None,
            has_pages: false,
            was_listed: true,
        };
        let rows: Vec<DueGroup> = noted.work.iter().map(due).collect();
        for rows in rows.chunks(usize::try_from(ROWS_MAX).unwrap_or(1)) {
            self.work(rows).await?;
        }
        Ok(())
    }
}
