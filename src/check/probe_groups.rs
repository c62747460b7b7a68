//! Profiles: order of elements, `InfoSeq`, spelling, fields of audio-video rooms, whether `MemberList` is whole, and what
//! moves `LastInfoTime`.
//!
//! They also sort the sample for the questions about members and details: which group is of which type, and how large.

use std::collections::BTreeSet;

use serde_json::Value;

use super::probing::{
    AVCHATROOM, Asked, COMMUNITY, LISTED, NOT_KNOWN, Probe, ProbeQuestion, SampledGroup, json, tallied,
};
use crate::model::GroupId;
use crate::tencent::CallError;
use crate::tencent::commands::{GROUPS_OF_A_CALL_MAX, InfoFilter};
use crate::tencent::groups::GroupElement;

/// Calls of profiles without members, 50 groups each.
const CALLS: usize = 4;

/// Groups of this size fit together into one answer of a megabyte.
const SMALL_MAX: u64 = 40;

/// A large group is one beyond the `Limit` of the text, and still fits into one answer.
const LARGE_MIN: u64 = 201;
const LARGE_MAX: u64 = 3_000;

/// What the profiles show of forms.
#[derive(Default)]
struct ProfileForms {
    calls: usize,
    in_order: usize,
    with_info_seq: usize,
    mute_all: Vec<&'static str>,
    avchatrooms: usize,
    avchatrooms_with_member_num: usize,
    read: usize,
}

/// Asks, and answers the groups of the sample.
pub(super) async fn ask(probe: &mut Probe<'_>, ids: &[GroupId]) -> Result<Vec<SampledGroup>, CallError> {
    let picked = spread(ids, CALLS * GROUPS_OF_A_CALL_MAX);
    let (mut forms, mut sample) = (ProfileForms::default(), Vec::new());
    for asked in picked.chunks(GROUPS_OF_A_CALL_MAX) {
        let called = probe.client.group_infos(asked, &InfoFilter::default(), probe.stop).await;
        let Asked::Answer(reply) = probe.took(called)? else { continue };
        let elements = reply.answer.elements;
        forms.calls += 1;
        forms.in_order += usize::from(elements.iter().map(|element| &element.group).eq(asked));
        for raw in raw_elements(&json(&reply.bytes)) {
            forms.note(raw);
        }
        let known = elements
            .into_iter()
            .filter_map(|GroupElement { group, info }| Some(SampledGroup { group, info: info.ok()? }));
        sample.extend(known);
    }
    forms.answer(probe);
    packed(probe, &sample).await?;
    Ok(sample)
}

/// Evenly spread out of a list, so that old and new groups are in it.
fn spread(ids: &[GroupId], most: usize) -> Vec<GroupId> {
    let step = ids.len().div_ceil(most).max(1);
    ids.iter().step_by(step).cloned().collect()
}

fn raw_elements(answer: &Value) -> impl Iterator<Item = &Value> {
    answer.get("GroupInfo").and_then(Value::as_array).into_iter().flatten()
}

impl ProfileForms {
    fn note(&mut self, element: &Value) {
        if element.get("ErrorCode").and_then(Value::as_i64) != Some(0) {
            return;
        }
        let has = |key: &str| element.get(key).is_some();
        self.read += 1;
        self.with_info_seq += usize::from(has("InfoSeq"));
        self.mute_all.push(match (has("MuteAllMember"), has("ShutUpAllMember")) {
            (true, false) => "MuteAllMember",
            (false, true) => "ShutUpAllMember",
            (true, true) => "both",
            (false, false) => "neither",
        });
        if element.get("Type").and_then(Value::as_str).is_some_and(|kind| AVCHATROOM.contains(&kind)) {
            self.avchatrooms += 1;
            self.avchatrooms_with_member_num += usize::from(has("MemberNum"));
        }
    }

    fn answer(&self, probe: &mut Probe<'_>) {
        let groups = format!("{} groups", self.read);
        let order = match self.calls {
            0 => NOT_KNOWN.to_owned(),
            calls => format!("as asked for in {} of {calls} answers", self.in_order),
        };
        probe.answer(ProbeQuestion::ElementOrder, order, groups.clone());
        let served = format!("asked for by filter, served for {} of {}", self.with_info_seq, self.read);
        probe.answer(ProbeQuestion::InfoSeq, served, groups.clone());
        probe.answer(ProbeQuestion::MuteAllSpelling, tallied(self.mute_all.iter().copied()), groups);
        let rooms = match self.avchatrooms {
            0 => NOT_KNOWN.to_owned(),
            rooms => format!("MemberNum on {} of {rooms}", self.avchatrooms_with_member_num),
        };
        probe.answer(
            ProbeQuestion::AvchatroomFields,
            rooms,
            format!("{} audio-video rooms", self.avchatrooms),
        );
    }
}

/// How a `MemberList` stands to `MemberNum` of its element.
#[derive(Default)]
struct PackedForms {
    whole: usize,
    shorter: usize,
    longer: usize,
    absent: usize,
    longest: u64,
    /// `LastInfoTime` before, at, after the newest `JoinTime`.
    before: usize,
    equal: usize,
    after: usize,
}

impl PackedForms {
    fn note(&mut self, element: &GroupElement) {
        let Ok(info) = &element.info else { return };
        let (Some(members), Some(number)) = (&info.members, info.member_num) else {
            self.absent += 1;
            return;
        };
        let rows = members.iter().map(|member| &member.user).collect::<BTreeSet<_>>().len() as u64;
        match rows.cmp(&number) {
            std::cmp::Ordering::Equal => self.whole += 1,
            std::cmp::Ordering::Less => self.shorter += 1,
            std::cmp::Ordering::Greater => self.longer += 1,
        }
        self.longest = self.longest.max(rows);
        let newest = members.iter().filter_map(|member| member.join_secs).max();
        match info.last_info_secs.zip(newest).map(|(info, join)| info.cmp(&join)) {
            Some(std::cmp::Ordering::Less) => self.before += 1,
            Some(std::cmp::Ordering::Equal) => self.equal += 1,
            Some(std::cmp::Ordering::Greater) => self.after += 1,
            None => {}
        }
    }
}

/// Profiles with members: many small groups in one call, and a large one by itself.
async fn packed(probe: &mut Probe<'_>, sample: &[SampledGroup]) -> Result<(), CallError> {
    let listed = || sample.iter().filter(|group| group.is_of(&LISTED) && !group.is_of(&COMMUNITY));
    let small: Vec<GroupId> = listed()
        .filter(|group| (1..=SMALL_MAX).contains(&group.members()))
        .take(GROUPS_OF_A_CALL_MAX)
        .map(|group| group.group.clone())
        .collect();
    let large = listed().filter(|group| (LARGE_MIN..=LARGE_MAX).contains(&group.members()));
    let large: Vec<GroupId> =
        large.max_by_key(|group| group.members()).map(|group| group.group.clone()).into_iter().collect();
    let (mut forms, mut codes) = (PackedForms::default(), Vec::new());
    let filter = InfoFilter { members: true, ..InfoFilter::default() };
    for groups in [&small, &large] {
        if groups.is_empty() {
            continue;
        }
        let called = probe.client.group_infos(groups, &filter, probe.stop).await;
        match probe.took(called)? {
            Asked::Answer(reply) => reply.answer.elements.iter().for_each(|element| forms.note(element)),
            Asked::Code(code) => codes.push(code),
        }
    }
    let read_from = format!("{} groups up to {SMALL_MAX} members, {} larger", small.len(), large.len());
    let refused = if codes.is_empty() { String::new() } else { format!("; refused with {codes:?}") };
    let answer = format!(
        "as long as MemberNum {} times, shorter {}, longer {}, absent {}; the longest list has {}{refused}",
        forms.whole, forms.shorter, forms.longer, forms.absent, forms.longest
    );
    probe.answer(ProbeQuestion::PackedMembers, answer, read_from);
    let compared = forms.before + forms.equal + forms.after;
    let answer = format!(
        "before the newest JoinTime {} times, the same second {}, after it {}",
        forms.before, forms.equal, forms.after
    );
    let answer = if compared == 0 { NOT_KNOWN.to_owned() } else { answer };
    probe.answer(ProbeQuestion::LastInfoTime, answer, format!("{compared} groups"));
    Ok(())
}
