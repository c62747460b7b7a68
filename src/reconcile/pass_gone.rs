//! When a group is gone: the rule, and the breaker against a pass in which too many look like it.
//!
//! The credentials of another app, or a region that answers for another one, make every group look gone. So a group that
//! Tencent does not know is a candidate and stays what it is until the pass has asked for every group: only then is it known
//! how many candidates there are among how many. Then each is asked for again, at least a minute after the first time,
//! and those that Tencent denies twice become gone together. More candidates than the rule allows stop the pass at once.

use std::time::Duration;

use tokio::time::sleep;

use super::app_run::{AppRun, ReadBatch};
use super::engine::{PassEnd, PassSettings};
use super::reading_evidence::{self, GONE_DISTANCE_MS};
use super::reading_packed::AskedGroup;
use super::reading_verdict::GroupVerdict;
use crate::ingest::SNAPSHOTS_MAX;
use crate::mirror::group_key;
use crate::model::{GroupId, Millis};
use crate::store::passes::{self, PassRow};
use crate::tencent::commands::GROUPS_OF_A_CALL_MAX;

/// How many candidates a pass may have: the share of the known groups, and some in any case.
#[must_use]
pub fn gone_limit(known: i64, settings: &PassSettings) -> i64 {
    settings.gone_max.max(known.saturating_mul(settings.gone_percent_max) / 100)
}

/// Why a pass must stop, in one line; none where it may go on. `is_sweep_done`: every known group was asked for.
#[must_use]
pub fn mass_gone(
    (known, candidates, found_alive): (i64, i64, i64),
    is_sweep_done: bool,
    settings: &PassSettings,
) -> Option<String> {
    if candidates > gone_limit(known, settings) {
        return Some(format!(
            "Tencent does not know {candidates} of the {known} groups of the mirror; that looks like the credentials of \
             another app, and nothing is taken for gone"
        ));
    }
    (is_sweep_done && known >= settings.all_gone_min && candidates > 0 && found_alive == 0).then(|| {
        format!(
            "Tencent knows none of the {known} groups of the mirror; that looks like the credentials of another app, and \
             nothing is taken for gone"
        )
    })
}

impl AppRun {
    /// Stops the pass where too many groups look gone. The counts are taken anew: a callback may have said meanwhile that a
    /// candidate is destroyed, and the mirror may have grown since the pass began.
    pub(super) async fn check_candidates(&self, row: &PassRow, is_sweep_done: bool) -> Result<(), PassEnd> {
        self.count_candidates().await?;
        let known = self.known_now(row).await?;
        let counts = (known, self.candidates(), row.found_alive);
        // What was found is counted of the groups at the begin alone: where these were few, it says nothing of those of now.
        let shows_all = is_sweep_done && row.known >= self.engine.settings.all_gone_min;
        match mass_gone(counts, shows_all, &self.engine.settings) {
            Some(why) => Err(PassEnd::Denied(why)),
            None => Ok(()),
        }
    }

    async fn known_now(&self, row: &PassRow) -> Result<i64, PassEnd> {
        let mut tx = self.engine.pass_tx().await?;
        let read = passes::known_count(tx.conn(), self.source.app).await;
        Ok(tx.end(read).await?.max(row.known))
    }

    /// The same while groups are still asked for, where the counts at hand would stop the pass.
    pub(super) async fn check_on_the_way(&self, row: &PassRow) -> Result<(), PassEnd> {
        let counts = (row.known, self.candidates(), row.found_alive);
        match mass_gone(counts, false, &self.engine.settings) {
            Some(_) => self.check_candidates(row, false).await,
            None => Ok(()),
        }
    }

    /// Asks for the candidates again, and enters those as gone that Tencent denies twice.
    pub(super) async fn confirm_gone(&self, row: &PassRow) -> Result<(), PassEnd> {
        let limit = gone_limit(self.known_now(row).await?, &self.engine.settings);
        let app = self.source.app;
        let mut tx = self.engine.pass_tx().await?;
        let read = passes::candidates(tx.conn(), app, limit.saturating_add(1)).await;
        let candidates = tx.end(read).await?;
        // After the read above: what is entered below is what was counted.
        self.check_candidates(row, true).await?;
        let candidates: Vec<(GroupId, Millis)> = candidates
            .into_iter()
            .filter_map(|(id, asked)| Some((GroupId::parse(&id).ok()?, Millis::new(asked))))
            .collect();
        self.confirm_each(&candidates).await
    }

    /// Asks for each again when it is time, and enters those that are denied twice.
    pub(super) async fn confirm_each(&self, candidates: &[(GroupId, Millis)]) -> Result<(), PassEnd> {
        let distance = i64::try_from(self.engine.settings.gone_distance.as_millis()).unwrap_or(i64::MAX);
        for batch in candidates.chunks(GROUPS_OF_A_CALL_MAX.min(SNAPSHOTS_MAX)) {
            let newest = batch.iter().map(|(_, asked)| asked.get()).max().unwrap_or_default();
            self.until(newest, distance).await?;
            self.confirm_batch(batch, distance).await?;
        }
        Ok(())
    }

    async fn confirm_batch(&self, batch: &[(GroupId, Millis)], distance: i64) -> Result<(), PassEnd> {
        let asked = |(group, _): &(GroupId, Millis)| AskedGroup {
            group: group.clone(),
            members: false,
            expected: None,
        };
        let asked: Vec<AskedGroup> = batch.iter().map(asked).collect();
        let readings = self.reader.groups(&asked, self.engine.settings.rolling).await?;
        let ReadBatch { mut snapshots, mut note, .. } = ReadBatch::default();
        for reading in readings {
            let first =
                batch.iter().find(|(group, _)| *group == reading.group.group).map(|(_, asked)| *asked);
            let (Some(first), Some(time)) = (first, reading.time) else { continue };
            match reading.verdict {
                GroupVerdict::GoneCandidate(_) if time.sent.get() - first.get() >= distance => {
                    // The distance is a setting of the pass; that of the rule is the greatest.
                    let first = first.get().min(time.sent.get() - GONE_DISTANCE_MS);
                    let gone = reading_evidence::gone(Millis::new(first), &reading);
                    if let Some(gone) = gone {
                        snapshots.push(gone);
                        note.forgotten.push(reading.group);
                    }
                }
                // It is there after all, and its turn comes with the next pass.
                GroupVerdict::Alive => note.alive.push(reading.group),
                _ => {}
            }
        }
        self.commit(ReadBatch { snapshots, note, ..ReadBatch::default() }).await.map(drop)
    }

    /// Waits until Tencent's clock is so far past a time: by our clock, and no longer than the distance itself, because
    /// ours may stand behind. `Date` has whole seconds, hence the margin.
    async fn until(&self, millis: i64, distance: i64) -> Result<(), PassEnd> {
        const MARGIN_MS: i64 = 1_500;
        let past = millis.saturating_add(distance).saturating_sub((self.engine.now)().get());
        let wait = past.min(distance).saturating_add(MARGIN_MS);
        let Ok(wait) = u64::try_from(wait) else { return Ok(()) };
        let waited = self.stop.run_until_cancelled(sleep(Duration::from_millis(wait))).await;
        waited.ok_or(PassEnd::Interrupted)
    }

    /// Candidates of which the next one counts as well.
    pub(super) async fn count_candidates(&self) -> Result<(), PassEnd> {
        let app = self.source.app;
        let mut tx = self.engine.pass_tx().await?;
        let read = passes::candidate_count(tx.conn(), app).await;
        let count = tx.end(read).await?;
        self.set_candidates(count);
        Ok(())
    }

    /// A group as the key of its app.
    pub(super) fn key(&self, group: &GroupId) -> crate::mirror::GroupKey {
        group_key(self.source.app, group.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_stops_above_one_percent_and_twenty_and_where_nothing_known_is_found() {
        let settings = PassSettings::default();
        for (known, candidates, alive, is_done, stops) in [
            (100, 20, 80, true, false),
            (100, 21, 79, true, true),
            (100, 21, 0, false, true),
            (5_000, 50, 4_950, true, false),
            (5_000, 51, 4_949, true, true),
            (1_000_000, 10_000, 1, false, false),
            (1_000_000, 10_001, 1, false, true),
            // A small mirror, and the credentials of another app.
            (12, 12, 0, false, false),
            (12, 12, 0, true, true),
            (12, 11, 1, true, false),
            (1, 1, 0, true, false),
            (12, 0, 0, true, false),
        ] {
            let why = mass_gone((known, candidates, alive), is_done, &settings);
            assert_eq!(why.is_some(), stops, "{known} {candidates} {alive} {is_done}: {why:?}");
            assert!(why.is_none_or(|why| !why.contains('\n')));
        }
    }
}
