//! Lists of members for a pass: read by themselves, page by page, and held against what the mirror shows.
//!
//! Each page is kept in the database until its list is whole, so that an interruption costs the last page and not a list of
//! a thousand. Those whom a complete list leaves out and the mirror shows are asked for by name before anyone is taken for
//! gone.

use std::collections::BTreeSet;

use super::app_run::{AppRun, ReadBatch};
use super::engine::{PassCounts, PassEnd};
use super::pass_work::STALE_ATTEMPTS;
use super::reading_evidence::KnownOfGroup;
use super::reading_list::{ListMark, ListProgress};
use super::reading_members::ListStep;
use super::reading_verdict::{GroupReading, ListReading, ListState, MembersRead, ReadSpare, Witnesses};
use crate::ingest;
use crate::mirror::ReadDigest;
use crate::model::{Millis, UserId};
use crate::store::pass_note::PassNote;
use crate::store::same_reads;
use crate::store::work::DueGroup;
use crate::store::{evidence, passes};
use crate::tencent::CLOCK_MARGIN_MS;

impl AppRun {
    /// Reads one list of members; answers its σ where it is done with. A list that goes on behind an interruption counts as of
    /// its first page, which may be long before the profile that was read now.
    pub(super) async fn read_list(
        &self,
        row: &DueGroup,
        witnesses: &Witnesses,
        (spare, known): (ReadSpare, &KnownOfGroup),
    ) -> Result<Option<Millis>, PassEnd> {
        let list = self.whole_list(row, witnesses, spare).await?;
        if matches!(list.state, ListState::Gone | ListState::Unknown(_)) {
            return Ok(None);
        }
        if list.staleness(known).is_some() && row.attempts < STALE_ATTEMPTS {
            PassCounts::add(&self.counts.stale, 1);
            if self.is_dry {
                return Ok(None);
            }
            let group = &witnesses.group;
            let mut tx = self.engine.pass_tx().await?;
            let noted = evidence::drop_pages(tx.conn(), group).await;
            tx.end(noted).await?;
            return Ok(None);
        }
        let list = self.confirmed(list).await?;
        let is_done = matches!(list.state, ListState::Complete | ListState::Unsupported);
        PassCounts::add(&self.counts.members, list.rows.len());
        let (mut parts, mut is_first) = (list.batches().peekable(), true);
        while let Some(part) = parts.next() {
            let is_alone = is_first && parts.peek().is_none();
            is_first = false;
            // A list in one part is committed with those of other groups that end at about the same time.
            let is_taken = if is_alone {
                self.commit_jointly(ReadBatch { snapshots: part, note: PassNote::default() }).await?
            } else {
                self.commit(part, PassNote::default()).await?
            };
            // The last range stands for the list: it is not entered where an earlier one was left out.
            if !is_taken {
                return Ok(None);
            }
        }
        Ok(is_done.then_some(list.time.sigma))
    }

    /// The list of which pages are kept, and the number of its next page. Pages of an earlier pass, or from before the newest
    /// mark of the group, say what was true then, and those of a group that was created anew since are another group's: they
    /// are dropped.
    async fn resumed(
        &self,
        row: &DueGroup,
        witnesses: &Witnesses,
    ) -> Result<Option<(ListProgress, i32)>, PassEnd> {
        if !row.has_pages {
            return Ok(None);
        }
        let group = &witnesses.group;
        let mut tx = self.engine.pass_tx().await?;
        let read = evidence::kept_pages(tx.conn(), group).await;
        let kept = tx.end_of_read(read).await?;
        let Some((last, mark, _)) = kept.last() else { return Ok(None) };
        let mut tx = self.engine.pass_tx().await?;
        let read = passes::newest(tx.conn(), group.app).await;
        let begun = tx.end(read).await?.map_or(i64::MIN, |pass| pass.begun_ms - CLOCK_MARGIN_MS);
        let pages = kept.iter().map(|(.., answer)| answer.as_slice());
        let mark = serde_json::from_str::<ListMark>(mark).ok().filter(|mark| mark.is_of(witnesses));
        let list = mark.and_then(|mark| ListProgress::resume(group.clone(), mark, pages));
        let is_of_now =
            |list: &ListProgress| list.time().sent.get() >= begun && list.time().sigma.get() >= row.newest_ms;
        let list = list.filter(is_of_now);
        if list.is_none() && !self.is_dry {
            let mut tx = self.engine.pass_tx().await?;
            let noted = evidence::drop_pages(tx.conn(), group).await;
            tx.end(noted).await?;
        }
        Ok(list.map(|list| (list, last + 1)))
    }

    /// Reads a list page by page, from where it was interrupted; each page is kept until the list is whole.
    async fn whole_list(
        &self,
        row: &DueGroup,
        witnesses: &Witnesses,
        spare: ReadSpare,
    ) -> Result<ListReading, PassEnd> {
        let group = &witnesses.group;
        let resumed = self.resumed(row, witnesses).await?;
        let (mut list, mut page) = resumed.unwrap_or_else(|| (ListProgress::new(witnesses, spare), 0));
        loop {
            match self.reader.next_page(&mut list).await? {
                ListStep::Done(reading) => return Ok(reading),
                ListStep::Page { .. } if self.is_dry => {}
                ListStep::Page { mark: None, .. } => {
                    let mut tx = self.engine.pass_tx().await?;
                    let noted = evidence::drop_pages(tx.conn(), group).await;
                    tx.end(noted).await?;
                    page = 0;
                }
                ListStep::Page { mark: Some(mark), rows } => {
                    let Ok(mark) = serde_json::to_string(&mark) else {
                        unreachable!("texts and numbers can be written as JSON")
                    };
                    let kept = (mark.as_str(), rows.as_slice());
                    let mut tx = self.engine.pass_tx().await?;
                    let noted = evidence::keep_page(tx.conn(), group, page, kept).await;
                    tx.end(noted).await?;
                    page += 1;
                }
            }
        }
    }

    /// The groups whose lists are known to be shown as they were read: they leave out no one who is shown. What a callback
    /// says of them after this look is compared with the list when that is committed.
    async fn known_as_read(&self, lists: &[&ListReading]) -> Result<BTreeSet<String>, PassEnd> {
        let digest = |list: &&ListReading| {
            let mut parts = list.batches().flatten();
            let first = parts.next()?;
            // A list in ranges is never known.
            if parts.next().is_some() { None } else { ingest::read_digest(&first) }
        };
        let digests: Vec<ReadDigest> = lists.iter().filter_map(digest).collect();
        if digests.is_empty() {
            return Ok(BTreeSet::new());
        }
        let mut tx = self.engine.pass_tx().await?;
        let read = same_reads::same(tx.conn(), &digests.iter().collect::<Vec<_>>()).await;
        Ok(tx.end_of_read(read).await?.into_iter().map(|(_, group, _)| group).collect())
    }

    /// Asks by name for those whom complete lists leave out and the mirror shows.
    pub(super) async fn confirm_packed(
        &self,
        mut readings: Vec<GroupReading>,
    ) -> Result<Vec<GroupReading>, PassEnd> {
        let lists = readings.iter().filter_map(|reading| match &reading.members {
            MembersRead::Whole(list) => Some(list),
            _ => None,
        });
        let left_out = self.left_out(&lists.collect::<Vec<_>>()).await?;
        for reading in &mut readings {
            let id = reading.group.group.as_str();
            let users: Vec<UserId> =
                left_out.iter().filter(|(of, _)| of == id).map(|(_, user)| user.clone()).collect();
            let members = std::mem::replace(&mut reading.members, MembersRead::NotAsked);
            reading.members = match members {
                MembersRead::Whole(list) if !users.is_empty() => {
                    MembersRead::Whole(self.reader.confirmed(list, &users).await?)
                }
                other => other,
            };
        }
        Ok(readings)
    }

    async fn confirmed(&self, list: ListReading) -> Result<ListReading, PassEnd> {
        if !list.is_complete() {
            return Ok(list);
        }
        let users: Vec<UserId> = self.left_out(&[&list]).await?.into_iter().map(|(_, user)| user).collect();
        if users.is_empty() {
            return Ok(list);
        }
        Ok(self.reader.confirmed(list, &users).await?)
    }

    /// Who is shown by the mirror and is in none of these lists, each with the group.
    async fn left_out(&self, lists: &[&ListReading]) -> Result<Vec<(String, UserId)>, PassEnd> {
        let known = self.known_as_read(lists).await?;
        let lists: Vec<&ListReading> =
            lists.iter().copied().filter(|list| !known.contains(list.group.group.as_str())).collect();
        if lists.is_empty() {
            return Ok(Vec::new());
        }
        let groups: Vec<_> = lists.iter().map(|list| list.group.clone()).collect();
        let mut tx = self.engine.pass_tx().await?;
        let read = evidence::present(tx.conn(), &groups).await;
        let present = tx.end_of_read(read).await?;
        let is_left_out = |(group, user): (String, String)| {
            let user = UserId::parse(&user).ok()?;
            let list = lists.iter().find(|list| list.group.group.as_str() == group)?;
            (!list.rows.contains(&user)).then_some((group, user))
        };
        Ok(present.into_iter().filter_map(is_left_out).collect())
    }
}
