//! Lists of members: their order, `MemberNum` against rows, a `Limit` above 200, spelling, pages of communities.
//!
//! A list is read by one call for each group, so that no row can move between two pages and look like a repeat.

use std::collections::BTreeSet;

use serde_json::Value;

use super::probing::{
    Asked, COMMUNITY, LISTED, NOT_KNOWN, Probe, ProbeQuestion, SampledGroup, json, tallied,
};
use crate::model::GroupId;
use crate::tencent::CallError;
use crate::tencent::commands::{COMMUNITY_PAGE_MAX, PageBegin};
use crate::tencent::members::{ListedMember, MemberPage};

/// Groups whose list is read.
const GROUPS: usize = 5;

/// The `Limit` of the page's text, and that of its table.
const LIMIT_OF_TEXT: u32 = 200;
const LIMIT_OF_TABLE: u32 = 6_000;

/// Pages of a community.
const COMMUNITY_PAGES: usize = 3;

/// What lists show of forms.
#[derive(Default)]
struct ListForms {
    groups: usize,
    rows: usize,
    orders: Vec<&'static str>,
    numbers: Vec<&'static str>,
    mute_until: Vec<&'static str>,
    blanks: usize,
}

/// Asks all of it.
pub(super) async fn ask(probe: &mut Probe<'_>, sample: &[SampledGroup]) -> Result<(), CallError> {
    let mut listed: Vec<&SampledGroup> =
        sample.iter().filter(|group| group.is_of(&LISTED) && group.members() > 0).collect();
    listed.sort_by_key(|group| std::cmp::Reverse(group.members()));
    let mut forms = ListForms::default();
    // Those that one page of the smaller limit holds, the largest first: they show an order.
    let small = listed.iter().filter(|group| group.members() <= u64::from(LIMIT_OF_TEXT)).take(GROUPS);
    for group in small {
        if let Asked::Answer(reply) = page(probe, &group.group, LIMIT_OF_TEXT).await? {
            forms.note(&reply.answer, &json(&reply.bytes));
        }
    }
    large_limit(probe, &listed, &mut forms).await?;
    forms.answer(probe);
    community(probe, sample).await
}

async fn page(probe: &mut Probe<'_>, group: &GroupId, limit: u32) -> Result<Asked<MemberPage>, CallError> {
    let called = probe.client.members(group, &PageBegin::Offset(0), limit, &[], probe.stop).await;
    probe.took(called)
}

/// Asks the largest group for more rows than the text of the page allows.
async fn large_limit(
    probe: &mut Probe<'_>,
    listed: &[&SampledGroup],
    forms: &mut ListForms,
) -> Result<(), CallError> {
    let Some(largest) = listed.first() else {
        probe.answer(ProbeQuestion::LargeLimit, NOT_KNOWN, "no group");
        return Ok(());
    };
    let answer = match page(probe, &largest.group, LIMIT_OF_TABLE).await? {
        Asked::Code(code) => format!("refused with {code}"),
        Asked::Answer(reply) => {
            let rows = reply.answer.members.len();
            let number = reply.answer.member_num.unwrap_or(0);
            forms.note(&reply.answer, &json(&reply.bytes));
            if number <= u64::from(LIMIT_OF_TEXT) {
                "not refused; whether it is cut is not known".to_owned()
            } else if (rows as u64) < number.min(u64::from(LIMIT_OF_TABLE)) {
                format!("cut to {rows}")
            } else {
                format!("served: {rows} rows")
            }
        }
    };
    let read_from = format!("one group of {} members, Limit {LIMIT_OF_TABLE}", largest.members());
    probe.answer(ProbeQuestion::LargeLimit, answer, read_from);
    Ok(())
}

/// By what rows are ordered; none where that cannot be seen.
fn order_of(members: &[ListedMember]) -> Option<&'static str> {
    let joins: Vec<i64> = members.iter().filter_map(|member| member.join_secs).collect();
    let distinct = joins.iter().collect::<BTreeSet<_>>().len();
    if joins.len() != members.len() || distinct < 3 {
        return None;
    }
    let by_join = joins.windows(2).all(|pair| pair[0] <= pair[1]);
    let by_join_back = joins.windows(2).all(|pair| pair[0] >= pair[1]);
    let by_account = members.windows(2).all(|pair| pair[0].user <= pair[1].user);
    Some(match (by_join, by_join_back, by_account) {
        (true, _, true) => "by join and by account",
        (true, ..) => "by join",
        (_, true, _) => "by join, newest first",
        (.., true) => "by account",
        _ => "neither by join nor by account",
    })
}

impl ListForms {
    fn note(&mut self, page: &MemberPage, raw: &Value) {
        self.groups += 1;
        self.rows += page.members.len();
        self.orders.extend(order_of(&page.members));
        let rows = page.members.iter().map(|member| &member.user).collect::<BTreeSet<_>>().len();
        // A page at its limit need not be the whole list.
        let may_be_cut = [LIMIT_OF_TEXT as usize, LIMIT_OF_TABLE as usize].contains(&page.members.len());
        self.numbers.push(match page.member_num.map(|number| number.cmp(&(rows as u64))) {
            None => "absent",
            Some(std::cmp::Ordering::Equal) => "equal",
            Some(std::cmp::Ordering::Greater) if may_be_cut => "list not whole",
            Some(std::cmp::Ordering::Greater) => "MemberNum higher",
            Some(std::cmp::Ordering::Less) => "MemberNum lower",
        });
        for row in raw.get("MemberList").and_then(Value::as_array).into_iter().flatten() {
            let has = |key: &str| row.get(key).is_some();
            self.mute_until.push(match (has("MuteUntil"), has("ShutUpUntil")) {
                (true, false) => "MuteUntil",
                (false, true) => "ShutUpUntil",
                (true, true) => "both",
                (false, false) => "neither",
            });
            let role = row.get("Role").and_then(Value::as_str);
            self.blanks += usize::from(role.is_some_and(|role| role.trim_end() != role));
        }
    }

    fn answer(&self, probe: &mut Probe<'_>) {
        let (groups, rows) = (format!("{} lists", self.groups), format!("{} rows", self.rows));
        let ordered = format!("{} lists with three join times and more", self.orders.len());
        probe.answer(ProbeQuestion::MemberOrder, tallied(self.orders.iter().copied()), ordered);
        probe.answer(ProbeQuestion::MemberNum, tallied(self.numbers.iter().copied()), groups);
        probe.answer(
            ProbeQuestion::MuteUntilSpelling,
            tallied(self.mute_until.iter().copied()),
            rows.clone(),
        );
        probe.answer(ProbeQuestion::RoleBlank, format!("{} of {} roles", self.blanks, self.rows), rows);
    }
}

/// Some pages of the largest community: whether they repeat members.
async fn community(probe: &mut Probe<'_>, sample: &[SampledGroup]) -> Result<(), CallError> {
    let largest = sample.iter().filter(|group| group.is_of(&COMMUNITY)).max_by_key(|group| group.members());
    let Some(largest) = largest else {
        probe.answer(ProbeQuestion::CommunityPages, NOT_KNOWN, "no community");
        return Ok(());
    };
    let (mut users, mut rows, mut pages, mut next) = (BTreeSet::new(), 0, 0, String::new());
    let ending = loop {
        let begin = PageBegin::Cursor(next);
        let called = probe.client.members(&largest.group, &begin, COMMUNITY_PAGE_MAX, &[], probe.stop).await;
        let page = match probe.took(called)? {
            Asked::Answer(reply) => reply.answer,
            Asked::Code(code) => break format!("refused with {code}"),
        };
        pages += 1;
        rows += page.members.len();
        users.extend(page.members.into_iter().map(|member| member.user));
        next = page.next.unwrap_or_default();
        if next.is_empty() {
            break format!("the list ends there, MemberNum {}", page.member_num.unwrap_or(0));
        }
        if pages == COMMUNITY_PAGES {
            break "the list goes on".to_owned();
        }
    };
    let answer = format!("{rows} rows, {} of them repeated; {ending}", rows - users.len());
    probe.answer(ProbeQuestion::CommunityPages, answer, format!("{pages} pages of one community"));
    Ok(())
}
