//! The index of people, and what stands of people beside the entries, compared with the ledger and mended.
//!
//! Both follow from the bytes of each entry alone, so that there is no order and no group to regard. The ledger is read in
//! pages, and what an entry should have is looked up. Rows that no entry asks for cannot be found so: where there are more rows
//! than entries ask for, the index is read in pages as well, each row beside its entry. Of an entry that this program cannot
//! read, or reads further than the one that took it, nothing is compared.

use std::collections::BTreeMap;

use sqlx::PgConnection;

use super::place::{PlaceNotes, ReplayPlace};
use super::ranges::PAGE_ROWS;
use super::report::Report;
use super::reread::people_of_row;
use crate::mirror::People;
use crate::store::ledger::{self, LedgerRow};
use crate::store::partitions::{self, TimeSpan};
use crate::store::people::{self, HeldPerson, LedgerKey, PersonKey, PersonRow, ShownPeople, rows_of};
use crate::store::{Database, Tx, ledger_walk};

/// How many rows are looked up at once: a page of the ledger may name millions of users.
const ROWS_AT_ONCE: usize = 10_000;

/// Compares everything from the partition of a time on, one after the other; to rebuild is to mend it.
pub(super) async fn check(
    database: &Database,
    is_mending: bool,
    from_ms: i64,
    (report, notes): (&mut Report, &mut PlaceNotes),
    progress: &impl Fn(u64),
) -> anyhow::Result<()> {
    let mending = Some(database).filter(|_| is_mending);
    let mut snapshot = database.snapshot().await?;
    let times = partitions::time_spans(snapshot.conn()).await?;
    snapshot.roll_back().await;
    for time in times.into_iter().filter(|time| time.last_ms >= from_ms) {
        notes.note(&ReplayPlace::People(time.first_ms), report);
        let asked = check_entries(database, time, mending, report, progress).await?;
        let mut snapshot = database.snapshot().await?;
        let held = people::count_rows(snapshot.conn(), time).await?;
        snapshot.roll_back().await;
        // Also where callbacks have come meanwhile, which cost one more look.
        if held != i64::try_from(asked)? {
            check_held(database, time, mending, report).await?;
        }
    }
    Ok(())
}

/// How many pages are read in one snapshot: few seconds.
const SNAPSHOT_PAGES: usize = 64;

/// Compares what the entries of a partition ask for, a few pages in each snapshot; answers how many rows there should be of
/// those that are there.
async fn check_entries(
    database: &Database,
    time: TimeSpan,
    mending: Option<&Database>,
    report: &mut Report,
    progress: &impl Fn(u64),
) -> anyhow::Result<usize> {
    let (mut asked, mut last) = (0, None::<LedgerRow>);
    loop {
        let mut snapshot = database.snapshot().await?;
        ledger_walk::by_key(snapshot.conn()).await?;
        for _ in 0..SNAPSHOT_PAGES {
            let page = ledger_walk::page(snapshot.conn(), last.as_ref(), time, PAGE_ROWS).await?;
            progress(page.len() as u64);
            asked += check_page(snapshot.conn(), mending, report, (&page, time)).await?;
            let Some(row) = page.into_iter().last() else {
                snapshot.roll_back().await;
                return Ok(asked);
            };
            last = Some(row);
        }
        snapshot.roll_back().await;
    }
}

async fn check_page(
    conn: &mut PgConnection,
    mending: Option<&Database>,
    report: &mut Report,
    (page, time): (&[LedgerRow], TimeSpan),
) -> anyhow::Result<usize> {
    let entries: Vec<(&LedgerRow, People)> =
        page.iter().filter_map(|row| people_of_row(row).map(|people| (row, people))).collect();
    let rows: Vec<PersonRow<'_>> =
        entries.iter().flat_map(|(row, people)| rows_of(row.key(), people)).collect();
    let mut missing = 0;
    for part in rows.chunks(ROWS_AT_ONCE) {
        missing += check_rows(conn, mending, report, (part, time)).await?;
    }
    if !entries.is_empty() {
        check_shown(conn, mending, report, (&entries, time)).await?;
    }
    // What was missing is there now where it is mended.
    Ok(if mending.is_some() { rows.len() } else { rows.len() - missing })
}

/// Looks up what the entries of a page ask for; answers how many rows are not there.
async fn check_rows(
    conn: &mut PgConnection,
    mending: Option<&Database>,
    report: &mut Report,
    (rows, time): (&[PersonRow<'_>], TimeSpan),
) -> anyhow::Result<usize> {
    let held = people::held(conn, rows, time).await?;
    let held: BTreeMap<PersonKey<'_>, i16> = held.iter().map(|held| (held.row().key(), held.parts)).collect();
    let (mut missing, mut wrong) = (0, Vec::new());
    for row in rows {
        let wanted = row.parts.stored();
        match held.get(&row.key()) {
            Some(parts) if *parts == wanted => continue,
            Some(parts) => {
                report.add_line(format!("{}: parts is {parts}, the ledger says {wanted}", line(row)));
            }
            None => {
                missing += 1;
                report.add_line(format!("{}: is missing", line(row)));
            }
        }
        wrong.push(*row);
    }
    if let Some(database) = mending.filter(|_| !wrong.is_empty()) {
        let mut tx = begin(database).await?;
        people::remove(tx.conn(), &wrong).await?;
        people::insert_for_entries(tx.conn(), &wrong).await?;
        tx.commit().await?;
    }
    Ok(missing)
}

/// Compares what stands beside the entries.
async fn check_shown(
    conn: &mut PgConnection,
    mending: Option<&Database>,
    report: &mut Report,
    (entries, time): (&[(&LedgerRow, People)], TimeSpan),
) -> anyhow::Result<()> {
    let keys: Vec<_> = entries.iter().map(|(row, _)| row.key()).collect();
    let shown = people::shown_beside(conn, &keys, time).await?;
    let shown: BTreeMap<LedgerKey<'_>, &ShownPeople> =
        shown.iter().map(|shown| (shown.entry_key(), shown)).collect();
    let mut wrong = Vec::new();
    for (row, people) in entries {
        let wanted = ShownPeople::of(row.key(), people);
        if shown.get(&row.key()) == Some(&&wanted) {
            continue;
        }
        let (app, group, time, _) = row.key();
        report.add_line(format!(
            "ledger {app} {group:?} at {time}: operator or users are not what its body says"
        ));
        wrong.push((row.key(), people));
    }
    if let Some(database) = mending.filter(|_| !wrong.is_empty()) {
        let mut tx = begin(database).await?;
        for (key, people) in wrong {
            people::set_shown(tx.conn(), key, people).await?;
        }
        tx.commit().await?;
    }
    Ok(())
}

/// Looks for rows that no entry asks for, and for those that are there twice.
async fn check_held(
    database: &Database,
    time: TimeSpan,
    mending: Option<&Database>,
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut last = None::<HeldPerson>;
    loop {
        let mut snapshot = database.snapshot().await?;
        let page = people::page(snapshot.conn(), last.as_ref(), time, PAGE_ROWS).await?;
        let keys: Vec<_> = page.iter().map(HeldPerson::entry_key).collect();
        let entries = ledger::of_keys(snapshot.conn(), &keys).await?;
        snapshot.roll_back().await;
        // Each body is read once: it may name tens of thousands of users, each with a row of this page.
        let entries: BTreeMap<LedgerKey<'_>, Option<People>> =
            entries.iter().map(|entry| (entry.key(), people_of_row(entry))).collect();
        let mut extra = Vec::new();
        for (at, held) in page.iter().enumerate() {
            let is_twice = at > 0 && page[at - 1].row().key() == held.row().key();
            let wanted = entries.get(&held.entry_key()).and_then(|people| wanted(people.as_ref(), held));
            if is_twice || wanted.is_none() {
                let what = if wanted.is_some() { "is there twice" } else { "is not in the ledger" };
                report.add_line(format!("{}: {what}", line(&held.row())));
                extra.push((held.row(), wanted));
            }
        }
        if let Some(database) = mending.filter(|_| !extra.is_empty()) {
            let mut tx = begin(database).await?;
            people::remove(tx.conn(), &extra.iter().map(|(row, _)| *row).collect::<Vec<_>>()).await?;
            let mut kept: Vec<PersonRow<'_>> = extra.iter().filter_map(|(_, wanted)| *wanted).collect();
            kept.dedup();
            people::insert_for_entries(tx.conn(), &kept).await?;
            tx.commit().await?;
        }
        let Some(held) = page.into_iter().last() else { return Ok(()) };
        last = Some(held);
    }
}

/// What an entry asks for in the place of a row: the row itself where the entry cannot be read.
fn wanted<'a>(people: Option<&People>, held: &'a HeldPerson) -> Option<PersonRow<'a>> {
    match people {
        None => Some(held.row()),
        Some(people) => held.parts_in(people).map(|parts| PersonRow { parts, ..held.row() }),
    }
}

async fn begin(database: &Database) -> Result<Tx, sqlx::Error> {
    let mut tx = database.begin("people").await?;
    tx.take_time().await?;
    Ok(tx)
}

fn line(row: &PersonRow<'_>) -> String {
    format!("ledger_people {} {:?} {:?} at {}", row.app, row.group, row.user, row.time_ms)
}
