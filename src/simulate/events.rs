//! The events of a run: groups are created, users join and leave, profiles change, groups end and are created again.
//!
//! Each event has an event time of its own, one millisecond after the event before, so that the order of events is known
//! whatever the order of arrival. The events follow from the plan alone, its seed included, so that a run can be
//! repeated.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::plan::Plan;

/// One group after the events so far.
#[derive(Debug, Default)]
struct Group {
    exists: bool,
    kind: usize,
    owner: u32,
    members: BTreeSet<u32>,
    topics: u32,
}

/// The types, one group after the other, so that every rule about a type is used. Audio-video rooms have no membership
/// here, because a mirror keeps that only where it is set to.
const KINDS: [&str; 5] = ["Public", "Private", "ChatRoom", "Community", "AVChatRoom"];
const COMMUNITY: usize = 3;
const AVCHATROOM: usize = 4;

/// How many users one join or exit names at most.
const LIST_MAX: u32 = 5;

/// The generator: the state of all groups, from which the next event follows.
#[derive(Debug)]
pub(super) struct EventGenerator<'a> {
    plan: &'a Plan,
    chance: fastrand::Rng,
    groups: Vec<Group>,
    now_ms: i64,
}

impl<'a> EventGenerator<'a> {
    pub(super) fn new(plan: &'a Plan) -> Self {
        let kind = |number: u32| Group { kind: number as usize % KINDS.len(), ..Group::default() };
        Self {
            plan,
            chance: fastrand::Rng::with_seed(plan.seed),
            groups: (0..plan.groups.max(1)).map(kind).collect(),
            now_ms: plan.begin.get(),
        }
    }

    /// The id of a group by its number.
    fn id(&self, number: usize) -> String {
        let kind = self.groups[number].kind;
        // A community's id begins like this at Tencent. A space and a slash test that ids are encoded in paths.
        let begin = if kind == COMMUNITY { "@TGS#_" } else { "" };
        format!("{begin}{}/g {number:07}", self.plan.run)
    }

    fn user(&mut self) -> u32 {
        self.chance.u32(0..self.plan.users.max(1))
    }

    /// The next event.
    pub(super) fn next(&mut self) -> Value {
        let number = self.chance.usize(0..self.groups.len());
        self.now_ms += 1;
        let roll = self.chance.f64();
        let (command, content) = if !self.groups[number].exists {
            self.create(number)
        } else if self.groups[number].kind != AVCHATROOM && roll < self.plan.membership {
            self.membership(number)
        } else {
            self.other(number)
        };
        let mut body = Map::new();
        body.insert("CallbackCommand".to_owned(), json!(format!("Group.CallbackAfter{command}")));
        // Tencent sends a number or a quoted number.
        let time = if self.chance.bool() { json!(self.now_ms) } else { json!(self.now_ms.to_string()) };
        body.insert("EventTime".to_owned(), time);
        body.insert("GroupId".to_owned(), json!(self.id(number)));
        body.insert("Operator_Account".to_owned(), json!("administrator"));
        body.insert("Type".to_owned(), json!(KINDS[self.groups[number].kind]));
        if let Value::Object(content) = content {
            body.extend(content);
        }
        Value::Object(body)
    }

    fn create(&mut self, number: usize) -> (&'static str, Value) {
        let owner = self.user();
        let members: BTreeSet<u32> = (0..self.chance.u32(0..LIST_MAX)).map(|_| self.user()).collect();
        let name = format!("Group {number} of {}", self.chance.u16(..));
        let tier = self.chance.u8(1..4).to_string();
        let group = &mut self.groups[number];
        group.exists = true;
        group.owner = owner;
        group.members = if group.kind == AVCHATROOM { BTreeSet::new() } else { members };
        let list = accounts(&group.members);
        group.members.insert(owner);
        let fields = json!([{ "Key": "tier", "Value": tier }, { "Key": "region", "Value": "north" }]);
        let content = json!({ "Name": name, "Owner_Account": account(owner), "MemberList": list,
                              "UserDefinedDataList": fields });
        ("CreateGroup", content)
    }

    fn membership(&mut self, number: usize) -> (&'static str, Value) {
        let named: BTreeSet<u32> = (0..self.chance.u32(1..=LIST_MAX)).map(|_| self.user()).collect();
        let joins = self.chance.f64() < 0.6;
        let group = &mut self.groups[number];
        if joins {
            group.members.extend(&named);
            return ("NewMemberJoin", json!({ "JoinType": "Apply", "NewMemberList": accounts(&named) }));
        }
        let leaving: BTreeSet<u32> = group.members.intersection(&named).copied().collect();
        let leaving: BTreeSet<u32> = if leaving.is_empty() { named } else { leaving };
        group.members.retain(|member| !leaving.contains(member));
        ("MemberExit", json!({ "ExitType": "Kicked", "ExitMemberList": accounts(&leaving) }))
    }

    fn other(&mut self, number: usize) -> (&'static str, Value) {
        let text = format!("text {}", self.chance.u32(..));
        let user = self.user();
        let is_community = self.groups[number].kind == COMMUNITY;
        match self.chance.u8(0..20) {
            0 => {
                self.groups[number].exists = false;
                (
                    "GroupDestroyed",
                    json!({ "MemberList": accounts(&self.groups[number].members), "Name": text }),
                )
            }
            1..=3 => ("GroupInfoChanged", json!({ "Name": text, "Notification": "" })),
            4..=5 => (
                "GroupInfoChanged",
                json!({ "Introduction": text, "FaceUrl": "https://img.example.org/g.png" }),
            ),
            6..=9 if self.groups[number].kind != AVCHATROOM => {
                self.groups[number].members.insert(user);
                let role = if self.chance.bool() { "Admin" } else { "Member" };
                (
                    "MemberFieldChanged",
                    json!({ "Member_Account": account(user), "Role": role, "NameCard": text }),
                )
            }
            10..=11 if self.groups[number].kind != AVCHATROOM => {
                let group = &mut self.groups[number];
                let old = std::mem::replace(&mut group.owner, user);
                group.members.insert(user);
                (
                    "ChangeGroupOwner",
                    json!({ "OldOwner_Account": account(old), "NewOwner_Account": account(user) }),
                )
            }
            12..=14 if is_community => self.topic(number),
            roll => {
                let option = ["set", "modify", "delete", "clear"][usize::from(roll) % 4];
                let key = format!("seat_{}", self.chance.u8(0..6));
                (
                    "GroupAttrChanged",
                    json!({ "OptionType": option, "GroupAttr": [{ "key": key, "value": text }] }),
                )
            }
        }
    }

    fn topic(&mut self, number: usize) -> (&'static str, Value) {
        let group_id = self.id(number);
        let id = |topic: u32| format!("{group_id}@TOPIC#_t{topic}");
        let group = &mut self.groups[number];
        match self.chance.u8(0..4) {
            0 if group.topics > 0 => {
                ("TopicDestroyed", json!({ "TopicIdList": [id(self.chance.u32(0..group.topics))] }))
            }
            1 if group.topics > 0 => ("TopicInfoChanged", json!({ "Introduction": "unknown which" })),
            _ => {
                group.topics += 1;
                (
                    "CreateTopic",
                    json!({ "TopicId": id(group.topics - 1), "Name": format!("Topic {}", group.topics) }),
                )
            }
        }
    }
}

fn account(user: u32) -> String {
    format!("user-{user}")
}

fn accounts(users: &BTreeSet<u32>) -> Value {
    users.iter().map(|user| json!({ "Member_Account": account(*user) })).collect()
}
