//! One pass over all groups of an app: the list of ids, the sweep, what is read one by one, the candidates for gone.
//!
//! The phases follow each other, and each of them goes on where it was: how far a pass is stands in the database, in the
//! transaction of what was read. While a pass runs the work list is worked off beside it (`pass_work`), so that a group which
//! a callback has marked does not wait for the end of a pass.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sqlx::PgConnection;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::app_run::AppRun;
use super::engine::{AppSource, Engine, PassCounts, PassEnd, PassKind};
use super::pass_work::work_off;
use super::reading::IdPage;
use crate::model::{Millis, SdkAppId};
use crate::store::passes::{self, PassRow};
use crate::store::{verifications, work};
use crate::tencent::CLOCK_MARGIN_MS;

/// The pause between two looks at whether the work list is done, and what each row adds to it: the look counts all rows, and
/// a list of many is not done soon.
const WORK_LOOK_PAUSE: Duration = Duration::from_millis(200);
const WORK_LOOK_PAUSE_OF_ROW: Duration = Duration::from_micros(50);
const WORK_LOOK_PAUSE_MAX: Duration = Duration::from_secs(5);

/// How often a page of ids is asked for that could not be read.
const ID_PAGE_TRIES_MAX: u32 = 5;

/// The pause before the second time; it doubles.
const ID_PAGE_PAUSE: Duration = Duration::from_secs(1);

impl Engine {
    /// One whole pass over an app, from where the last one of its kind was interrupted; the lease has to be held. What was
    /// committed before a stop stays.
    ///
    /// # Errors
    /// The pass stopped, was interrupted, or the database does not take it.
    pub async fn pass(
        &self,
        source: &AppSource,
        kind: PassKind,
        stop: &CancellationToken,
        counts: &Arc<PassCounts>,
    ) -> Result<(), PassEnd> {
        let row = self.begin_or_resume(source, kind).await?;
        let stop = stop.child_token();
        let run = AppRun::new(self.clone(), source.clone(), Arc::clone(counts), stop.clone()).await;
        let run = match run {
            Ok(run) => Arc::new(run),
            Err(end) => return self.note_end(source, row.number, Err(end)).await,
        };
        let working = work_off(Arc::clone(&run));
        let ended = tokio::select! {
            ended = run.phases(kind) => ended,
            ended = working => ended.and(Err(PassEnd::Interrupted)),
        };
        stop.cancel();
        self.note_end(source, row.number, ended).await
    }

    /// The pass that is not ended, if it is one of this kind; else a new one.
    async fn begin_or_resume(&self, source: &AppSource, kind: PassKind) -> Result<PassRow, PassEnd> {
        let (app, now) = (source.app, (self.now)());
        let mut tx = self.pass_tx().await?;
        let begun = begun(tx.conn(), (app, kind), now).await;
        tx.end(begun).await
    }

    async fn note_end(
        &self,
        source: &AppSource,
        number: i64,
        ended: Result<(), PassEnd>,
    ) -> Result<(), PassEnd> {
        if let Err(PassEnd::Stopped(why) | PassEnd::Denied(why)) = &ended {
            let (of, now) = ((source.app, number), (self.now)());
            let mut tx = self.pass_tx().await?;
            let is_denied = matches!(ended, Err(PassEnd::Denied(_)));
            let noted = note_stop(tx.conn(), of, (why, is_denied), now).await;
            tx.end(noted).await?;
        }
        ended
    }
}

/// Notes why a pass stopped; one that was denied ends in whatever phase it is.
async fn note_stop(
    conn: &mut PgConnection,
    (app, number): (SdkAppId, i64),
    (why, is_denied): (&str, bool),
    now: Millis,
) -> Result<(), sqlx::Error> {
    passes::stopped(conn, (app, number), Some(why), now).await?;
    if let Some(row) = passes::newest(conn, app).await?.filter(|_| is_denied) {
        passes::enter(conn, (app, number), (&row.phase, "ended"), now).await?;
    }
    Ok(())
}

/// Goes on with the pass that has not ended, or begins one.
async fn begun(
    conn: &mut PgConnection,
    (app, kind): (SdkAppId, PassKind),
    now: Millis,
) -> Result<PassRow, sqlx::Error> {
    // A serve ends what a command has begun and not ended.
    let goes_on =
        |row: &PassRow| row.phase != "ended" && (row.kind == kind.name() || kind == PassKind::Rolling);
    if let Some(row) = passes::newest(conn, app).await?.filter(goes_on) {
        passes::stopped(conn, (app, row.number), None, now).await?;
        return Ok(row);
    }
    passes::begin(conn, app, kind.name(), now).await?;
    passes::newest(conn, app).await?.ok_or(sqlx::Error::RowNotFound)
}

impl AppRun {
    /// The pass as it stands.
    pub(super) async fn row(&self) -> Result<PassRow, PassEnd> {
        let app = self.source.app;
        let mut tx = self.engine.pass_tx().await?;
        let read = passes::newest(tx.conn(), app).await;
        let row = tx.end(read).await?;
        row.ok_or(PassEnd::Interrupted)
    }

    async fn phases(self: &Arc<Self>, kind: PassKind) -> Result<(), PassEnd> {
        self.count_candidates().await?;
        loop {
            let row = self.row().await?;
            self.counts.asked.store(u64::try_from(row.asked).unwrap_or(0), Ordering::Relaxed);
            let groups = row.known.max(row.ids_listed);
            self.counts.groups.store(u64::try_from(groups).unwrap_or(0), Ordering::Relaxed);
            // A serve that ends a command's pass reads what that would have read.
            let kind = row.kind.parse().unwrap_or(kind);
            let next = match row.phase.as_str() {
                "ids" => {
                    self.read_ids(&row).await?;
                    "known"
                }
                "known" => {
                    self.sweep(&row, true, kind).await?;
                    let row = self.row().await?;
                    self.check_candidates(&row, true).await?;
                    "new"
                }
                "new" => {
                    self.sweep(&row, false, kind).await?;
                    "lists"
                }
                "lists" => {
                    self.work_done(row.number).await?;
                    self.note_id_list(&row).await?;
                    "gone"
                }
                "gone" => {
                    self.confirm_gone(&row).await?;
                    "ended"
                }
                _ => return Ok(()),
            };
            let (of, now) = ((self.source.app, row.number), (self.engine.now)());
            let mut tx = self.engine.pass_tx().await?;
            let entered = passes::enter(tx.conn(), of, (&row.phase, next), now).await;
            if !tx.end(entered).await? {
                return Err(PassEnd::Interrupted);
            }
        }
    }

    /// Reads the list of ids from where it was. What is missing in it is no candidate: every group of the mirror is asked
    /// for by the sweep, and only that answer counts.
    async fn read_ids(&self, row: &PassRow) -> Result<(), PassEnd> {
        let (mut next, mut listed): (u64, i64) = (row.ids_next.parse().unwrap_or(0), row.ids_listed);
        let (mut pages, of) = (0_u64, (self.source.app, row.number));
        if next == 0 && listed > 0 {
            return Ok(());
        }
        loop {
            let page = self.id_page(next).await?;
            let before = next;
            next = page.next;
            listed = listed.saturating_add(i64::try_from(page.groups.len()).unwrap_or(i64::MAX));
            let mut tx = self.engine.pass_tx().await?;
            let noted = passes::list(tx.conn(), of, &page.groups, next).await;
            tx.end(noted).await?;
            self.counts.groups.store(u64::try_from(listed.max(row.known)).unwrap_or(0), Ordering::Relaxed);
            pages += 1;
            if next == 0 {
                break;
            }
            if next == before || pages > ID_PAGES_MAX {
                return Err(PassEnd::Stopped(
                    "the list of group ids of Tencent does not come to an end".to_owned(),
                ));
            }
        }
        self.check_ids(listed, row.known)
    }

    /// An empty list beside a mirror full of groups is no list.
    pub(super) fn check_ids(&self, listed: i64, known: i64) -> Result<(), PassEnd> {
        if listed > 0 || known < self.engine.settings.all_gone_min {
            return Ok(());
        }
        Err(PassEnd::Denied(format!(
            "Tencent lists no group at all and the mirror has {known}; that looks like the credentials of another app, and \
             nothing is changed"
        )))
    }

    /// The list was read to its end, and each of its groups was asked for, in the work list as well. It is not noted while
    /// one of them could not be read: that may be the group whose create was lost in a gap, and no gap may be closed.
    async fn note_id_list(&self, row: &PassRow) -> Result<(), PassEnd> {
        let began = Millis::new(row.begun_ms - CLOCK_MARGIN_MS);
        let (app, now) = (self.source.app, (self.engine.now)());
        let mut tx = self.engine.pass_tx().await?;
        let unread = passes::has_unread_groups(tx.conn(), app).await;
        let noted = match unread {
            Ok(false) => verifications::note_id_list_pass(tx.conn(), app, began, now).await,
            other => other.map(drop),
        };
        tx.end(noted).await
    }

    pub(super) async fn id_page(&self, next: u64) -> Result<crate::tencent::groups::GroupIdPage, PassEnd> {
        let mut tries = 1;
        loop {
            match self.reader.id_page(next).await? {
                IdPage::Read(page) => return Ok(page),
                IdPage::Unknown(why) if tries >= ID_PAGE_TRIES_MAX => {
                    let why: &str = why.into();
                    return Err(PassEnd::Stopped(format!("the list of group ids cannot be read: {why}")));
                }
                IdPage::Unknown(_) => {
                    let pause = sleep(ID_PAGE_PAUSE * (1 << (tries - 1)));
                    self.stop.run_until_cancelled(pause).await.ok_or(PassEnd::Interrupted)?;
                    tries += 1;
                }
            }
        }
    }

    /// Waits until the work list holds nothing that belongs to the pass.
    async fn work_done(&self, number: i64) -> Result<(), PassEnd> {
        let app = self.source.app;
        loop {
            let mut tx = self.engine.pass_tx().await?;
            let read = work::of_pass(tx.conn(), app, number).await;
            let waiting = tx.end_of_read(read).await?;
            self.counts.waiting.store(waiting, Ordering::Relaxed);
            if waiting == 0 {
                return Ok(());
            }
            let rows = u32::try_from(waiting).unwrap_or(u32::MAX);
            let pause = WORK_LOOK_PAUSE + WORK_LOOK_PAUSE_OF_ROW.saturating_mul(rows);
            let pause = sleep(pause.min(WORK_LOOK_PAUSE_MAX));
            self.stop.run_until_cancelled(pause).await.ok_or(PassEnd::Interrupted)?;
        }
    }
}

/// The most pages of a list of ids: 100 million groups.
const ID_PAGES_MAX: u64 = 10_000;
