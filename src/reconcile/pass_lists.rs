//! Lists of members for a pass: read by themselves, page by page, and held against what the mirror shows.
//!
//! Each page is kept in the database until its list is whole, so that an interruption costs the last page and not a list of
//! a thousand. Those whom a complete list leaves out and the mirror shows are asked for by name before anyone is taken for
//! gone.

use super::app_run::{AppRun, ReadBatch};
use super::engine::{PassCounts, PassEnd};
use super::pass_work::STALE_ATTEMPTS;
use super::reading_evidence::KnownOfGroup;
use super::reading_list::{ListMark, ListProgress};
use super::reading_members::ListStep;
use super::reading_verdict::{GroupReading, ListReading, ListState, MembersRead, ReadSpare, Witnesses};
use crate::ingest::HowKnown;
use crate::model::UserId;
use crate::store::work::{DueGroup, MEMBERS, WorkDone};
use crate::store::{evidence, passes};
use crate::tencent::CLOCK_MARGIN_MS;

impl AppRun {
    /// Reads one list of members; none where nothing was read, or an old state. A list that goes on behind an interruption
    /// counts as of its first page, which may be long before the profile that was read now.
    pub(super) async fn read_list(
        &self,
        row: &DueGroup,
        witnesses: &Witnesses,
        (spare, known): (ReadSpare, &KnownOfGroup),
    ) -> Result<Option<ListReading>, PassEnd> {
        let list = self.whole_list(row, witnesses, spare).await?;
        if matches!(list.state, ListState::Gone | ListState::Unknown(_)) {
            return Ok(None);
        }
        if list.staleness(known).is_none() || row.attempts >= STALE_ATTEMPTS {
            return Ok(Some(list));
        }
        PassCounts::add(&self.counts.stale, 1);
        if !self.is_dry {
            let mut tx = self.engine.pass_tx().await?;
            let noted = evidence::drop_pages(tx.conn(), &witnesses.group).await;
            tx.end(noted).await?;
        }
        Ok(None)
    }

    /// Commits a list with what else was read of its group: as it is where it is known to be shown, else after it was held
    /// against what the mirror shows.
    pub(super) async fn commit_list(
        &self,
        row: &DueGroup,
        (read, done): (ReadBatch, WorkDone),
        list: ListReading,
    ) -> Result<(), PassEnd> {
        let whole = self.with_list(row, (&read, &done), &list).filter(|_| row.was_listed);
        let known = match whole {
            Some(whole) => self.commit_known_jointly(whole).await?,
            None => HowKnown::Open,
        };
        let list = match known {
            HowKnown::Shown => return Ok(()),
            HowKnown::ListShown => list,
            HowKnown::Open => self.confirmed(list).await?,
        };
        let mut end = self.end_of_list(row, done.clone(), &list);
        let (mut parts, mut is_first) = (list.batches().peekable(), true);
        while let Some(snapshots) = parts.next() {
            let part = ReadBatch { snapshots, ..ReadBatch::default() };
            let is_alone = is_first && parts.peek().is_none();
            is_first = false;
            // A list in one part is committed with those of other groups that end at about the same time. It comes before what
            // was read after it: an entry that is not older would keep it from being known the next time.
            let is_taken =
                if is_alone { self.commit_jointly(part).await? } else { self.commit(part).await? };
            // The last range stands for the list: it is not entered where an earlier one was left out.
            if !is_taken {
                end = done;
                self.end(row, &mut end);
                break;
            }
        }
        let mut read = ReadBatch { members: list.rows.len(), ..read };
        read.note.done.push(end);
        self.commit_jointly(read).await.map(drop)
    }

    /// What was read of a group with its list; none where that is too large for one part.
    fn with_list(
        &self,
        row: &DueGroup,
        (read, done): (&ReadBatch, &WorkDone),
        list: &ListReading,
    ) -> Option<ReadBatch> {
        let mut parts = list.batches();
        let mut snapshots = parts.next().unwrap_or_default();
        if parts.next().is_some() {
            return None;
        }
        let ReadBatch { snapshots: others, mut note, stale, .. } = read.clone();
        snapshots.extend(others);
        note.done.push(self.end_of_list(row, done.clone(), list));
        Some(ReadBatch { snapshots, note, stale, members: list.rows.len() })
    }

    fn end_of_list(&self, row: &DueGroup, mut done: WorkDone, list: &ListReading) -> WorkDone {
        if matches!(list.state, ListState::Complete | ListState::Unsupported) {
            (done.parts, done.sigma) = (done.parts | MEMBERS, done.sigma.min(list.time.sigma));
        }
        self.end(row, &mut done);
        done
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
