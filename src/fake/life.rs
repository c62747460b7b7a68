//! A random life: what happens to groups, one change after the other, by the same commands that a caller has.
//!
//! Most changes fire a callback. A share of them, by the knob `silent`, fires none, or one that does not say what has
//! changed: imports, mutes, options, custom fields, topics with another name, accounts that end. The seed repeats the
//! choices as long as nothing else acts on the groups.

use serde_json::{Value, json};

use super::dispatch::{GROUPS, SDK, TOPICS};
use super::state::{FakeGroup, GroupKind};
use super::world::World;

/// How large the life is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LifePlan {
    /// Groups at the same time, about.
    pub groups: u32,
    /// Users, of whom all members come.
    pub users: u32,
    /// Repeats the choices.
    pub seed: u64,
}

/// A command to be given: service, name, body.
pub(super) type LifeDeed = (&'static str, &'static str, Value);

/// The chooser.
#[derive(Debug)]
pub(super) struct RandomLife {
    plan: LifePlan,
    chance: fastrand::Rng,
    made: u64,
}

impl RandomLife {
    pub(super) fn new(plan: LifePlan) -> Self {
        Self { plan, chance: fastrand::Rng::with_seed(plan.seed), made: 0 }
    }

    fn user(&mut self) -> String {
        format!("user_{}", self.chance.u32(0..self.plan.users.max(1)))
    }

    fn users(&mut self, most: usize) -> Vec<String> {
        (0..self.chance.usize(1..=most)).map(|_| self.user()).collect()
    }

    fn text(&mut self) -> String {
        const WORDS: [&str; 8] = ["river", "harbour", "散歩", "tea", "Käse", "market 😀", "night", "garden"];
        let (first, second) = (self.chance.usize(0..WORDS.len()), self.chance.usize(0..WORDS.len()));
        if self.chance.u8(0..8) == 0 { String::new() } else { format!("{} {}", WORDS[first], WORDS[second]) }
    }

    /// The next change.
    pub(super) fn next(&mut self, world: &World) -> LifeDeed {
        let room = world.groups.len() < self.plan.groups.max(1) as usize;
        let silent = self.chance.f64() < world.knobs.silent;
        if world.groups.is_empty() || (room && self.chance.u8(0..3) == 0) {
            return self.create(silent);
        }
        let at = self.chance.usize(0..world.groups.len());
        let Some((id, group)) = world.groups.iter().nth(at) else { return self.create(silent) };
        match (silent, group.kind) {
            (true, _) => self.silent(id, group),
            (false, GroupKind::AvChatRoom) => self.of_room(id, group),
            (false, _) => self.of_group(id, group),
        }
    }

    fn create(&mut self, silent: bool) -> LifeDeed {
        self.made += 1;
        let kind = GroupKind::ALL[self.chance.usize(0..GroupKind::ALL.len())];
        let mut body = json!({
            "Type": kind.on_the_wire(), "Name": format!("Group {}", self.made), "Owner_Account": self.user(),
        });
        if self.chance.bool() {
            body["AppDefinedData"] =
                json!([{ "Key": "region", "Value": "north" }, { "Key": "tier", "Value": "2" }]);
        }
        // An id of one's own may be used again when its group has ended; those of Tencent are new ones.
        if self.chance.bool() {
            let prefix = if kind == GroupKind::Community { "@TGS#_" } else { "" };
            body["GroupId"] = json!(format!("{prefix}room {}", self.chance.u32(0..self.plan.groups.max(1))));
        }
        if silent && kind != GroupKind::AvChatRoom {
            body["CreateTime"] = json!(1_700_000_000);
            return (GROUPS, "import_group", body);
        }
        if kind != GroupKind::AvChatRoom {
            body["MemberList"] = self.users(5).iter().map(|user| json!({ "Member_Account": user })).collect();
        }
        (GROUPS, "create_group", body)
    }

    /// A member of the group, or any user where there is none.
    fn member(&mut self, group: &FakeGroup) -> String {
        let len = group.members.len();
        let at = if len == 0 { 0 } else { self.chance.usize(0..len) };
        group.members.accounts().nth(at).map_or_else(|| self.user(), ToString::to_string)
    }

    fn of_room(&mut self, id: &str, group: &FakeGroup) -> LifeDeed {
        match self.chance.u8(0..12) {
            0..=4 => (SDK, "user_joins", json!({ "GroupId": id, "Member_Account": self.user() })),
            5..=7 => (SDK, "user_quits", json!({ "GroupId": id, "Member_Account": self.member(group) })),
            8..=9 => self.profile(id),
            10 => self.attributes(id, group),
            _ => (GROUPS, "destroy_group", json!({ "GroupId": id })),
        }
    }

    fn of_group(&mut self, id: &str, group: &FakeGroup) -> LifeDeed {
        let has_roles = group.kind != GroupKind::Work;
        match self.chance.u8(0..40) {
            0..=9 => {
                let members: Value =
                    self.users(4).iter().map(|user| json!({ "Member_Account": user })).collect();
                let silence = self.chance.u8(0..2);
                let body = json!({ "GroupId": id, "MemberList": members, "Silence": silence });
                (GROUPS, "add_group_member", body)
            }
            10..=14 => {
                let named = [self.member(group), self.user()];
                (GROUPS, "delete_group_member", json!({ "GroupId": id, "MemberToDel_Account": named }))
            }
            15..=17 if has_roles => {
                (SDK, "user_joins", json!({ "GroupId": id, "Member_Account": self.user() }))
            }
            15..=19 => (SDK, "user_quits", json!({ "GroupId": id, "Member_Account": self.member(group) })),
            20..=24 => self.profile(id),
            25..=28 => {
                let (account, card) = (self.member(group), self.text());
                let mut body = json!({ "GroupId": id, "Member_Account": account, "NameCard": card });
                if has_roles && group.owner != account {
                    body["Role"] = json!(if self.chance.bool() { "Admin" } else { "Member" });
                }
                (GROUPS, "modify_group_member_info", body)
            }
            29..=30 => {
                let body = json!({ "GroupId": id, "NewOwner_Account": self.member(group) });
                (GROUPS, "change_group_owner", body)
            }
            31..=33 => self.attributes(id, group),
            34 => (GROUPS, "destroy_group", json!({ "GroupId": id })),
            _ if group.kind == GroupKind::Community => self.topics(id, group),
            _ => self.profile(id),
        }
    }

    fn profile(&mut self, id: &str) -> LifeDeed {
        let mut body = json!({ "GroupId": id });
        for name in ["Name", "Introduction", "Notification", "FaceUrl"] {
            if self.chance.u8(0..3) == 0 {
                body[name] = json!(self.text());
            }
        }
        (GROUPS, "modify_group_base_info", body)
    }

    fn attributes(&mut self, id: &str, group: &FakeGroup) -> LifeDeed {
        let key = format!("seat_{}", self.chance.u8(0..6));
        let pairs = json!([{ "key": key, "value": self.text() }]);
        let command = match self.chance.u8(0..8) {
            0 => "set_group_attr",
            1 => "delete_group_attr",
            2 if group.kind != GroupKind::Community => "clear_group_attr",
            _ => "modify_group_attr",
        };
        (GROUPS, command, json!({ "GroupId": id, "GroupAttr": pairs }))
    }

    fn topics(&mut self, id: &str, group: &FakeGroup) -> LifeDeed {
        let known = group.topics.keys().next().filter(|_| self.chance.u8(0..3) == 0);
        match known {
            Some(topic) => (TOPICS, "destroy_topic", json!({ "GroupId": id, "TopicIdList": [topic] })),
            None => {
                let name = format!("Topic {}", self.chance.u16(..));
                (
                    TOPICS,
                    "create_topic",
                    json!({ "GroupId": id, "TopicName": name, "From_Account": group.owner }),
                )
            }
        }
    }

    fn silent(&mut self, id: &str, group: &FakeGroup) -> LifeDeed {
        let (account, has_members) = (self.member(group), group.kind != GroupKind::AvChatRoom);
        match self.chance.u8(0..8) {
            0 if has_members => {
                let members = json!([{ "Member_Account": self.user() }]);
                (GROUPS, "import_group_member", json!({ "GroupId": id, "MemberList": members }))
            }
            1 if group.kind != GroupKind::Work => {
                let body = json!({ "GroupId": id, "Members_Account": [account], "MuteTime": 86_400 });
                (GROUPS, "forbid_send_msg", body)
            }
            2 if has_members => {
                let fields = json!([{ "Key": "level", "Value": self.chance.u8(0..9).to_string() }]);
                let body =
                    json!({ "GroupId": id, "Member_Account": account, "AppMemberDefinedData": fields });
                (GROUPS, "modify_group_member_info", body)
            }
            3 => {
                let mute_all = if self.chance.bool() { "On" } else { "Off" };
                (GROUPS, "modify_group_base_info", json!({ "GroupId": id, "MuteAllMember": mute_all }))
            }
            4 => {
                let body =
                    json!({ "GroupId": id, "ApplyJoinOption": "NeedPermission", "MaxMemberNum": 5_000 });
                (GROUPS, "modify_group_base_info", body)
            }
            5 if group.kind == GroupKind::Community => {
                let topic = group.topics.keys().next().cloned();
                let name = self.text();
                topic.map_or_else(
                    || (TOPICS, "import_topic", json!({ "GroupId": id, "TopicName": "Imported" })),
                    |topic| {
                        (
                            TOPICS,
                            "modify_topic",
                            json!({ "GroupId": id, "TopicId": topic, "TopicName": name }),
                        )
                    },
                )
            }
            6 => (SDK, "account_ends", json!({ "Member_Account": self.user() })),
            _ => {
                let fields = json!([{ "Key": "tier", "Value": self.chance.u8(0..9).to_string() }]);
                (GROUPS, "modify_group_base_info", json!({ "GroupId": id, "AppDefinedData": fields }))
            }
        }
    }
}
