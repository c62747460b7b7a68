//! The sweep: every group is asked for once, fifty in a call, with the members of small groups.
//!
//! Groups go in the order of their ids, so that a pass has one place where it is, no group is skipped without end, and the time
//! between two reads of a group is that of a pass. What one call cannot bring (large lists, attributes, topics) goes to the
//! work list, by what the cheap witnesses say. What was asked for is noted with the answer, so that nothing is asked twice.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::app_run::{AGAIN_MS, AppRun, ReadBatch};
use super::engine::{PassCounts, PassEnd, PassKind};
use super::reading_evidence::KnownOfGroup;
use super::reading_packed::AskedGroup;
use super::reading_verdict::{GroupReading, GroupVerdict, MembersRead, Witnesses};
use crate::model::{GroupId, Millis};
use crate::store::pass_note::NotedGroup;
use crate::store::passes::{self, PassRow, SweepRow};
use crate::store::schema;
use crate::store::work::{ATTRIBUTES, MEMBERS, TOPICS, WorkRow};
use crate::tencent::commands::GROUPS_OF_A_CALL_MAX;
use crate::tencent::groups::is_community;

/// How many groups are looked up at once.
pub(super) const WINDOW: i64 = 1_000;

/// What a batch belongs to.
#[derive(Debug, Clone, Copy)]
pub(super) struct SweepOf {
    pub(super) number: i64,
    pub(super) of_mirror: bool,
    pub(super) is_whole: bool,
}

impl AppRun {
    /// Asks for all groups of the mirror, or for all that the list of ids has.
    pub(super) async fn sweep(
        self: &Arc<Self>,
        row: &PassRow,
        of_mirror: bool,
        kind: PassKind,
    ) -> Result<(), PassEnd> {
        let of = SweepOf { number: row.number, of_mirror, is_whole: kind.is_whole() };
        let (app, mut after) = (self.source.app, row.swept_to.clone());
        let (mut reads, mut open, mut window) = (JoinSet::new(), OpenWindows::default(), 0);
        let (mut entered, mut analyzed_at) = (0_usize, 0_usize);
        loop {
            if entered > 2 * analyzed_at {
                self.analyze().await?;
                analyzed_at = entered;
            }
            let from = after.clone();
            let mut tx = self.engine.pass_tx().await?;
            let read = passes::next_groups(tx.conn(), (app, of.number), of_mirror, &from, WINDOW).await;
            let rows = tx.end_of_read(read).await?;
            let Some(last) = rows.last().map(|row| row.group_id.clone()) else { break };
            let wanted: Vec<SweepRow> = rows.into_iter().filter(|row| !row.is_asked).collect();
            entered += if of_mirror { 0 } else { wanted.len() };
            open.begin(window, last.clone(), wanted.len().div_ceil(GROUPS_OF_A_CALL_MAX));
            for batch in wanted.chunks(GROUPS_OF_A_CALL_MAX) {
                while reads.len() >= self.engine.settings.sweep_at_once {
                    open.end(joined(reads.join_next().await)?);
                }
                let (run, batch) = (Arc::clone(self), batch.to_vec());
                reads.spawn(async move { run.read_batch(&batch, of).await.map(|()| window) });
                self.check_on_the_way(row).await?;
            }
            if let Some(to) = open.swept() {
                let mut tx = self.engine.pass_tx().await?;
                let noted = passes::swept(tx.conn(), (app, of.number), &row.phase, &to).await;
                tx.end(noted).await?;
            }
            (after, window) = (last, window + 1);
        }
        while let Some(read) = reads.join_next().await {
            open.end(joined(Some(read))?);
        }
        if entered > analyzed_at {
            self.analyze().await?;
        }
        self.check_on_the_way(row).await
    }

    /// Gathers the planner's statistics each time that the number of new groups has doubled. A plan that a session has made of
    /// empty tables is used until then, and chooses among their indexes by chance: one that knows the app alone reads all
    /// groups for one of them. Where it is not possible, because another process does it, the server does so later by itself.
    async fn analyze(&self) -> Result<(), PassEnd> {
        if self.is_dry {
            return Ok(());
        }
        let mut tx = self.engine.pass_tx().await?;
        let analyzed = schema::analyze(tx.conn()).await;
        if let Err(PassEnd::Database(error)) = tx.end(analyzed).await {
            tracing::debug!("statistics are left to the server: {error}");
        }
        Ok(())
    }

    pub(super) async fn read_batch(&self, rows: &[SweepRow], of: SweepOf) -> Result<(), PassEnd> {
        let asked: Vec<AskedGroup> = rows.iter().filter_map(asked).collect();
        let keys: Vec<_> = asked.iter().map(|asked| self.key(&asked.group)).collect();
        let readings = self.read(&asked, self.engine.settings.rolling).await?;
        let known = self.known_of(&keys).await?;
        let by_id: BTreeMap<&str, &SweepRow> = rows.iter().map(|row| (row.group_id.as_str(), row)).collect();
        let none = KnownOfGroup::default();
        let weigh = |reading: &GroupReading| {
            let id = reading.group.group.as_str();
            Some((self.weighed(by_id.get(id)?, reading, known.get(id).unwrap_or(&none), of), ()))
        };
        let read = self.commit_packed(readings, of.of_mirror, weigh).await?;
        PassCounts::add(&self.counts.asked, read.len());
        Ok(())
    }

    /// What the reading of one group comes to.
    fn weighed(
        &self,
        row: &SweepRow,
        reading: &GroupReading,
        known: &KnownOfGroup,
        of: SweepOf,
    ) -> ReadBatch {
        let mut batch = ReadBatch::default();
        let group = reading.group.clone();
        let now = (self.engine.now)();
        batch.note.pass = Some((self.source.app, of.number));
        batch.note.asked.push(noted(reading));
        let later = |class: i16, cause: &'static str, parts: i16, after_ms: i64| WorkRow {
            group: group.clone(),
            class,
            cause,
            parts,
            due: Millis::new(now.get() + after_ms),
        };
        let details = details(row, reading, of.is_whole);
        // What is asked for again is asked for everything that this read was to bring.
        let all = MEMBERS | details;
        match reading.verdict {
            GroupVerdict::Alive => {}
            GroupVerdict::GoneCandidate(_) => {
                match reading.time.filter(|_| row.is_shown) {
                    Some(time) => batch.note.candidates.push((group, time.sent)),
                    None if row.is_shown => batch.note.work.push(later(5, "unknown", all, AGAIN_MS)),
                    None => batch.note.forgotten.push(group),
                }
                return batch;
            }
            GroupVerdict::Unknown(_) => {
                batch.note.work.push(later(5, "unknown", all, AGAIN_MS));
                return batch;
            }
            GroupVerdict::Unsupported => return batch,
        }
        batch.note.found_alive = i64::from(of.of_mirror);
        if self.candidates() > 0 {
            batch.note.alive.push(group.clone());
        }
        if reading.staleness(known).is_some() {
            batch.stale += 1;
            batch.note.work.push(later(5, "stale", all, AGAIN_MS));
            return batch;
        }
        let witnesses = reading.witnesses.as_ref();
        let (class, cause) = witnesses.map_or((5, "turn"), |witnesses| moved(row, witnesses));
        batch.snapshots.extend(reading.profile.clone());
        let members = match &reading.members {
            MembersRead::Whole(list) if list.staleness(known).is_some() => {
                batch.stale += 1;
                batch.note.work.push(later(5, "stale", MEMBERS, AGAIN_MS));
                0
            }
            MembersRead::Whole(list) => {
                batch.members += list.rows.len();
                list.batches().for_each(|part| batch.snapshots.extend(part));
                if !list.is_complete() { MEMBERS } else { 0 }
            }
            MembersRead::Wanted => MEMBERS,
            MembersRead::NotAsked | MembersRead::NoList => 0,
        };
        if members | details > 0 {
            let class = if members > 0 { (class, cause) } else { (5, "turn") };
            batch.note.work.push(later(class.0, class.1, members | details, 0));
        }
        batch
    }
}

pub(super) fn joined(
    read: Option<Result<Result<u64, PassEnd>, tokio::task::JoinError>>,
) -> Result<u64, PassEnd> {
    match read {
        Some(Ok(done)) => done,
        Some(Err(error)) => Err(PassEnd::Stopped(format!("a read of the pass ended by itself: {error}"))),
        None => unreachable!("reads are waited for while there are some"),
    }
}

/// The windows of which not every batch is committed yet: up to the first of them everything is swept.
#[derive(Debug, Default)]
struct OpenWindows(BTreeMap<u64, (usize, String)>);

impl OpenWindows {
    fn begin(&mut self, window: u64, last: String, batches: usize) {
        self.0.insert(window, (batches, last));
    }

    fn end(&mut self, window: u64) {
        if let Some((batches, _)) = self.0.get_mut(&window) {
            assert!(*batches > 0, "a batch ends once");
            *batches -= 1;
        }
    }

    /// The id up to which everything is swept, if that has changed.
    fn swept(&mut self) -> Option<String> {
        let mut swept = None;
        while let Some(first) = self.0.first_entry().filter(|first| first.get().0 == 0) {
            swept = Some(first.remove().1);
        }
        swept
    }
}

fn asked(row: &SweepRow) -> Option<AskedGroup> {
    let group = GroupId::parse(&row.group_id).ok()?;
    Some(AskedGroup {
        group,
        members: true,
        expected: row.member_num.and_then(|num| u64::try_from(num).ok()),
    })
}

/// What is kept of a profile for the next pass.
pub(super) fn noted(reading: &GroupReading) -> NotedGroup {
    let number = |number: Option<u64>| number.and_then(|number| i64::try_from(number).ok());
    let witnesses = reading.witnesses.as_ref();
    NotedGroup {
        group: reading.group.clone(),
        member_num: witnesses.and_then(|of| number(of.member_num)),
        last_info_secs: witnesses.and_then(|of| of.last_info_secs),
        next_message: witnesses.and_then(|of| number(of.next_message)),
        create_secs: witnesses.and_then(|of| of.create_secs),
    }
}

/// Class and cause of a list that has to be read by itself: what the witnesses say since the last time.
fn moved(row: &SweepRow, witnesses: &Witnesses) -> (i16, &'static str) {
    let number = |number: Option<u64>| number.and_then(|number| i64::try_from(number).ok());
    let differs = |was: Option<i64>, is: Option<i64>| was.is_some() && is.is_some() && was != is;
    if differs(row.member_num, number(witnesses.member_num)) {
        return (3, "count");
    }
    let marker = differs(row.last_info_secs, witnesses.last_info_secs)
        || differs(row.next_message, number(witnesses.next_message))
        || differs(row.create_secs, witnesses.create_secs);
    if marker { (4, "marker") } else { (5, "turn") }
}

/// Which of attributes and topics are read: of every group that can have some, or where the mirror holds some.
fn details(row: &SweepRow, reading: &GroupReading, is_whole: bool) -> i16 {
    let attributes = if is_whole || row.has_attributes { ATTRIBUTES } else { 0 };
    let is_community = is_community(&reading.group.group);
    let topics = if is_community && (is_whole || row.has_topics) { TOPICS } else { 0 };
    attributes | topics
}
