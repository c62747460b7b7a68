//! The list of ids: `TotalCount` against pages, the size of `Next` and the end, order. It also gives the sample of groups
//! that the other questions are asked of.
//!
//! The list has a limit of one call per second for the whole app, so it is asked three times at most.

use std::collections::BTreeSet;

use super::probing::{Asked, Probe, ProbeQuestion, json};
use crate::model::GroupId;
use crate::tencent::CallError;
use crate::tencent::commands::IDS_OF_A_PAGE_MAX;
use crate::tencent::groups::GroupIdPage;

/// Ids of the first, short page, behind which there is a `Next` in nearly every app.
const SHORT_PAGE: u32 = 10;

/// Pages of the full size.
const PAGES_MAX: usize = 2;

/// A page with the form of its `Next`.
struct AskedIdPage {
    page: GroupIdPage,
    has_next_key: bool,
}

/// Asks, and answers the ids of the pages.
pub(super) async fn ask(probe: &mut Probe<'_>) -> Result<Vec<GroupId>, CallError> {
    let Some(short) = page(probe, 0, SHORT_PAGE).await? else { return Ok(refused(probe)) };
    let mut pages: Vec<AskedIdPage> = Vec::new();
    let mut next = 0;
    while pages.len() < PAGES_MAX && (pages.is_empty() || next != 0) {
        let Some(page) = page(probe, next, IDS_OF_A_PAGE_MAX).await? else { break };
        next = page.page.next;
        pages.push(page);
    }
    if pages.is_empty() {
        return Ok(refused(probe));
    }
    totals(probe, &pages);
    nexts(probe, &short, &pages);
    order(probe, &short, &pages[0]);
    Ok(pages.into_iter().flat_map(|page| page.page.groups).collect())
}

async fn page(probe: &mut Probe<'_>, next: u64, limit: u32) -> Result<Option<AskedIdPage>, CallError> {
    let called = probe.client.group_ids(next, limit, None, probe.stop).await;
    Ok(match probe.took(called)? {
        Asked::Answer(reply) => {
            let has_next_key = json(&reply.bytes).get("Next").is_some();
            Some(AskedIdPage { page: reply.answer, has_next_key })
        }
        Asked::Code(_) => None,
    })
}

/// The list itself is refused by a code: the answers of all three questions.
fn refused(probe: &mut Probe<'_>) -> Vec<GroupId> {
    for question in [ProbeQuestion::IdListTotal, ProbeQuestion::IdListNext, ProbeQuestion::IdListOrder] {
        probe.answer(question, super::probing::NOT_KNOWN, "no page");
    }
    Vec::new()
}

fn totals(probe: &mut Probe<'_>, pages: &[AskedIdPage]) {
    let ids: Vec<&GroupId> = pages.iter().flat_map(|page| &page.page.groups).collect();
    let distinct = ids.iter().collect::<BTreeSet<_>>().len();
    let totals: BTreeSet<Option<u64>> = pages.iter().map(|page| page.page.total).collect();
    let totals: Vec<String> = totals
        .iter()
        .map(|total| total.map_or_else(|| "absent".to_owned(), |total| total.to_string()))
        .collect();
    let ends = pages.last().is_some_and(|page| page.page.next == 0);
    let answer = format!(
        "TotalCount {}; {} ids, {distinct} of them distinct; the list {}",
        totals.join(" then "),
        ids.len(),
        if ends { "ends there" } else { "goes on" }
    );
    probe.answer(
        ProbeQuestion::IdListTotal,
        answer,
        format!("{} pages of up to {IDS_OF_A_PAGE_MAX}", pages.len()),
    );
}

fn nexts(probe: &mut Probe<'_>, short: &AskedIdPage, pages: &[AskedIdPage]) {
    let all: Vec<&AskedIdPage> = std::iter::once(short).chain(pages).collect();
    let largest = all.iter().map(|page| page.page.next).max().unwrap_or(0);
    let end = all
        .iter()
        .find(|page| page.page.next == 0)
        .map_or("not reached", |page| if page.has_next_key { "0" } else { "absent" });
    let size = match largest {
        0 => "none but the end".to_owned(),
        next => format!("up to {} bits", u64::BITS - next.leading_zeros()),
    };
    probe.answer(
        ProbeQuestion::IdListNext,
        format!("{size}; at the end: {end}"),
        format!("{} pages", all.len()),
    );
}

fn order(probe: &mut Probe<'_>, short: &AskedIdPage, full: &AskedIdPage) {
    let sorted = full.page.groups.windows(2).all(|pair| pair[0] <= pair[1]);
    let ordered = match full.page.groups.len() {
        0 | 1 => "not known",
        _ if sorted => "ascending",
        _ => "not by id",
    };
    let begin = &full.page.groups[..short.page.groups.len().min(full.page.groups.len())];
    let alike = if begin == short.page.groups.as_slice() {
        "the same ids in the same order"
    } else {
        "different ids or order"
    };
    let answer = format!("ids are {ordered}; the begin of a short and of a full page: {alike}");
    probe.answer(ProbeQuestion::IdListOrder, answer, format!("{} ids", full.page.groups.len()));
}
