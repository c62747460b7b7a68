//! Packed reading: profiles of up to fifty groups in one call, with the member lists of small ones.
//!
//! A member list inside a profile counts where it is whole ([`GroupElement::whole_members`]); a community's is never asked
//! for. What one group does to an answer costs that group alone: a batch that is too large, refused or unreadable is
//! bisected down to one group, and that one is asked for without its members. An element that does not come back says
//! nothing about its group.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use super::reading::{CallFailure, GroupReader};
use super::reading_rows::ListRows;
use super::reading_verdict::{
    GroupReading, GroupVerdict, ListReading, ListState, MembersRead, ReadHalt, ReadSpare, UnknownWhy,
    Witnesses,
};
use crate::mirror::{LIST_BYTES_MAX, ReadKind, ReadTime, Snapshot};
use crate::model::{GroupId, Millis};
use crate::tencent::Reply;
use crate::tencent::answers::ApiCode;
use crate::tencent::canonical::profile;
use crate::tencent::codes::{CodeClass, class};
use crate::tencent::commands::{GROUPS_OF_A_CALL_MAX, InfoFilter, ReadCommand};
use crate::tencent::groups::{GroupElement, GroupInfo, GroupInfos, is_community};

/// The most members of one call, by the counts that are known: about half of the 1 MB that an answer may have. The list of
/// a group with more is read by itself.
pub const PACKED_MEMBERS_MAX: u64 = 3_000;

/// The members of a group of which no count is known: as many as let fifty of them fit.
const MEMBERS_USUAL: u64 = 60;

/// A group to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedGroup {
    /// The group.
    pub group: GroupId,
    /// Whether its members are wanted.
    pub members: bool,
    /// How many there are, as far as is known.
    pub expected: Option<u64>,
}

impl AskedGroup {
    /// True where the members come inside the answer.
    fn is_packed(&self) -> bool {
        self.members && !is_community(&self.group) && self.expected.unwrap_or(0) <= PACKED_MEMBERS_MAX
    }
}

/// One call.
#[derive(Debug, Clone)]
struct PackedCall {
    groups: Vec<AskedGroup>,
    members: bool,
    /// Whether custom fields are asked for.
    fields: bool,
    /// Whether the same was refused with custom fields.
    is_retry: bool,
}

impl PackedCall {
    fn halves(mut self) -> Vec<Self> {
        assert!(self.groups.len() > 1, "one group has no halves");
        self.is_retry = false;
        let rest = self.groups.split_off(self.groups.len() / 2);
        vec![Self { groups: rest, ..self.clone() }, self]
    }

    /// The calls that may have an answer where this one had none.
    fn smaller(self, failure: CallFailure) -> Result<Vec<Self>, Self> {
        match failure {
            // A key without the permission to be read is refused like this (269/1616).
            CallFailure::Question(CodeClass::Unsupported, _) if self.fields => {
                Ok(vec![Self { fields: false, is_retry: true, ..self }])
            }
            CallFailure::Question(..) | CallFailure::Unreadable if self.groups.len() > 1 => Ok(self.halves()),
            CallFailure::Question(CodeClass::TooMuch, _) | CallFailure::Unreadable if self.members => {
                Ok(vec![Self { members: false, is_retry: false, ..self }])
            }
            _ => Err(self),
        }
    }
}

/// The calls for these groups: those with members apart, because the filter is one for all of a call.
fn calls(asked: &[AskedGroup], fields: bool) -> Vec<PackedCall> {
    let mut calls = Vec::<PackedCall>::new();
    for members in [true, false] {
        let (mut expected, mut groups) = (0, Vec::new());
        let call = |groups: Vec<AskedGroup>| PackedCall { groups, members, fields, is_retry: false };
        for group in asked.iter().filter(|group| group.is_packed() == members) {
            let count = if members { group.expected.unwrap_or(MEMBERS_USUAL) } else { 0 };
            if groups.len() == GROUPS_OF_A_CALL_MAX || expected + count > PACKED_MEMBERS_MAX {
                calls.extend((!groups.is_empty()).then(|| call(std::mem::take(&mut groups))));
                expected = 0;
            }
            expected += count;
            groups.push(group.clone());
        }
        calls.extend((!groups.is_empty()).then(|| call(groups)));
    }
    calls
}

impl GroupReader {
    /// Reads groups, each named once, and answers one reading for each, in the order asked for.
    ///
    /// # Errors
    /// No further call.
    pub async fn groups(
        &self,
        asked: &[AskedGroup],
        spare: ReadSpare,
    ) -> Result<Vec<GroupReading>, ReadHalt> {
        let fields = !self.group_keys().0.is_empty() && !self.are_fields_refused.load(Ordering::Relaxed);
        let (mut calls, mut readings) = (calls(asked, fields), BTreeMap::new());
        while let Some(call) = calls.pop() {
            let more = self.packed_call(call, spare, &mut readings).await?;
            calls.extend(more);
        }
        let reading = |group: &AskedGroup| readings.remove(&group.group);
        Ok(asked.iter().filter_map(reading).collect())
    }

    /// Makes one call; answers those that have to be made in its place.
    async fn packed_call(
        &self,
        call: PackedCall,
        spare: ReadSpare,
        readings: &mut BTreeMap<GroupId, GroupReading>,
    ) -> Result<Vec<PackedCall>, ReadHalt> {
        let groups: Vec<GroupId> = call.groups.iter().map(|group| group.group.clone()).collect();
        let (keys, are_all) = self.group_keys();
        let ends_fields = call.fields && are_all;
        let filter = InfoFilter {
            everything: false,
            members: call.members,
            group_fields: if call.fields { keys } else { Vec::new() },
            member_fields: if call.members { self.fields.members.clone() } else { Vec::new() },
        };
        let bound = self.client.clock_bound();
        let reply = self.client.group_infos(&groups, &filter, &self.stop).await;
        let is_about = |answer: &GroupInfos| {
            answer.elements.iter().any(|element| call.groups.iter().any(|asked| asked.group == element.group))
        };
        match self.judged_by(reply, is_about)? {
            Ok(reply) => {
                if call.is_retry && !self.are_fields_refused.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        "custom fields of groups are not read: Tencent refuses the keys that are set"
                    );
                }
                readings.extend(self.readings(&call, reply, (spare, ends_fields)));
                Ok(Vec::new())
            }
            Err(failure) => match call.smaller(failure) {
                Ok(smaller) => Ok(smaller),
                Err(call) => {
                    for asked in call.groups {
                        let time = ReadTime::new(bound, spare.ms, None);
                        let reading = self.failed(&asked, failure, time);
                        readings.insert(asked.group, reading);
                    }
                    Ok(Vec::new())
                }
            },
        }
    }

    /// Sorts the elements of an answer to the groups that were asked for.
    fn readings(
        &self,
        call: &PackedCall,
        reply: Reply<GroupInfos>,
        of: (ReadSpare, bool),
    ) -> Vec<(GroupId, GroupReading)> {
        let mut elements = BTreeMap::<GroupId, Vec<GroupElement>>::new();
        for element in reply.answer.elements {
            elements.entry(element.group.clone()).or_default().push(element);
        }
        let reading = |asked: &AskedGroup| {
            let mut about = elements.remove(&asked.group).unwrap_or_default();
            let reading = match (about.pop(), about.is_empty()) {
                (Some(element), true) => self.reading(asked, &element, reply.asked_at, of),
                (Some(_), false) => self.unknown(asked, UnknownWhy::Contradiction),
                (None, _) => self.unknown(asked, UnknownWhy::NotInAnswer),
            };
            (asked.group.clone(), reading)
        };
        call.groups.iter().map(reading).collect()
    }

    fn unknown(&self, asked: &AskedGroup, why: UnknownWhy) -> GroupReading {
        self.without(asked, GroupVerdict::Unknown(why), None)
    }

    fn without(&self, asked: &AskedGroup, verdict: GroupVerdict, time: Option<ReadTime>) -> GroupReading {
        let (group, members) = (self.key(&asked.group), MembersRead::NoList);
        GroupReading { group, verdict, time, witnesses: None, profile: None, members }
    }

    /// A failed call about one group, or about many at a moment when nothing is answered.
    fn failed(&self, asked: &AskedGroup, failure: CallFailure, time: ReadTime) -> GroupReading {
        let verdict = match failure {
            CallFailure::Question(CodeClass::Gone, code) => GroupVerdict::GoneCandidate(code),
            CallFailure::Question(CodeClass::Unsupported, _) => GroupVerdict::Unsupported,
            other => GroupVerdict::Unknown(other.unknown()),
        };
        self.without(asked, verdict, Some(time))
    }

    fn reading(
        &self,
        asked: &AskedGroup,
        element: &GroupElement,
        sent: Millis,
        (spare, ends_fields): (ReadSpare, bool),
    ) -> GroupReading {
        let create_secs = element.info.as_ref().ok().and_then(|info| info.create_secs);
        let time = ReadTime::new(sent, spare.ms, create_secs);
        let info = match &element.info {
            Ok(info) => info,
            Err(code) => return self.without(asked, verdict(code), Some(time)),
        };
        let witnesses = Witnesses::of(self.key(&asked.group), info);
        let profile = Self::profile(&witnesses, info, time, ends_fields);
        if profile.answer.len() > LIST_BYTES_MAX {
            return self.unknown(asked, UnknownWhy::TooLarge);
        }
        let members = match element.whole_members() {
            _ if !asked.members => MembersRead::NotAsked,
            _ if witnesses.has_no_list() => MembersRead::NoList,
            None => MembersRead::Wanted,
            Some(members) => {
                let list = ListReading {
                    group: witnesses.group.clone(),
                    time,
                    state: ListState::Complete,
                    rows: ListRows::of(members),
                    member_num: info.member_num,
                    calls: 0,
                    _permit: None,
                };
                MembersRead::Whole(list.within_limits())
            }
        };
        GroupReading {
            group: witnesses.group.clone(),
            verdict: GroupVerdict::Alive,
            time: Some(time),
            witnesses: Some(witnesses),
            profile: Some(profile),
            members,
        }
    }

    /// `ends_fields`: every custom field that is known was asked for.
    fn profile(witnesses: &Witnesses, info: &GroupInfo, time: ReadTime, ends_fields: bool) -> Snapshot {
        Snapshot {
            group: witnesses.group.clone(),
            time,
            kind: ReadKind::Profile,
            is_complete: info.unread.is_empty() && ends_fields,
            range: None,
            missing: Vec::new(),
            answer: profile(&witnesses.group.group, info),
        }
    }
}

/// What the code of one element says.
fn verdict(code: &ApiCode) -> GroupVerdict {
    match class(code.code, ReadCommand::GroupInfo) {
        CodeClass::Gone => GroupVerdict::GoneCandidate(code.code),
        CodeClass::Unsupported => GroupVerdict::Unsupported,
        other => GroupVerdict::Unknown(UnknownWhy::of(other)),
    }
}
