//! What the fake knows of one group: profile, members in their order, attributes, topics.
//!
//! Members stand behind an `Arc`, so that a change of the profile copies no list where past states are kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::code::FakeCode;

/// The types of groups, under today's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GroupKind {
    /// `Private` on the wire.
    Work,
    /// `Public`.
    Public,
    /// `ChatRoom` on the wire.
    Meeting,
    /// `AVChatRoom`.
    AvChatRoom,
    /// `Community`.
    Community,
}

impl GroupKind {
    pub(super) const ALL: [Self; 5] =
        [Self::Work, Self::Public, Self::Meeting, Self::AvChatRoom, Self::Community];

    /// Either name of a type.
    pub(super) fn parse(text: &str) -> Result<Self, FakeCode> {
        match text {
            "Work" | "Private" => Ok(Self::Work),
            "Public" => Ok(Self::Public),
            "Meeting" | "ChatRoom" => Ok(Self::Meeting),
            "AVChatRoom" => Ok(Self::AvChatRoom),
            "Community" => Ok(Self::Community),
            _ => Err(FakeCode::bad("unknown group type")),
        }
    }

    /// As answers and callbacks write it.
    pub(super) fn on_the_wire(self) -> &'static str {
        match self {
            Self::Work => "Private",
            Self::Public => "Public",
            Self::Meeting => "ChatRoom",
            Self::AvChatRoom => "AVChatRoom",
            Self::Community => "Community",
        }
    }

    /// How an id that Tencent gives begins.
    pub(super) fn id_prefix(self) -> &'static str {
        match self {
            Self::Work => "@TGS#1",
            Self::Public => "@TGS#2",
            Self::Meeting => "@TGS#3",
            Self::AvChatRoom => "@TGS#a",
            Self::Community => "@TGS#_@TGS#c",
        }
    }
}

/// A member of a group. Owner is who the group names as such.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct FakeMember {
    /// Whether the role is `Admin`.
    pub(super) is_admin: bool,
    /// `JoinTime`, Unix seconds.
    pub(super) join_secs: i64,
    /// `NameCard`.
    pub(super) card: String,
    /// `MsgFlag`; empty: the usual one.
    pub(super) flag: String,
    /// `AppMemberDefinedData`.
    pub(super) fields: BTreeMap<String, String>,
    order: u64,
}

impl FakeMember {
    pub(super) fn joined(is_admin: bool, join_secs: i64) -> Self {
        Self { is_admin, join_secs, ..Self::default() }
    }
}

/// The members of a group, by account and by their order of joining.
#[derive(Debug, Clone, Default)]
pub(super) struct Roster {
    by_account: BTreeMap<Arc<str>, FakeMember>,
    by_order: BTreeMap<u64, Arc<str>>,
    last: u64,
}

impl Roster {
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.by_account.len(), self.by_order.len(), "each member stands in both orders");
        self.by_account.len()
    }

    pub(super) fn get(&self, account: &str) -> Option<&FakeMember> {
        self.by_account.get(account)
    }

    pub(super) fn get_mut(&mut self, account: &str) -> Option<&mut FakeMember> {
        self.by_account.get_mut(account)
    }

    /// Adds a member at the end; false where it is one already.
    pub(super) fn add(&mut self, account: &str, member: FakeMember) -> bool {
        if self.by_account.contains_key(account) {
            return false;
        }
        let account: Arc<str> = account.into();
        self.last += 1;
        self.by_order.insert(self.last, Arc::clone(&account));
        self.by_account.insert(account, FakeMember { order: self.last, ..member });
        true
    }

    /// Removes a member; false where it is none.
    pub(super) fn remove(&mut self, account: &str) -> bool {
        let removed = self.by_account.remove(account);
        removed.is_some_and(|member| self.by_order.remove(&member.order).is_some())
    }

    pub(super) fn accounts(&self) -> impl Iterator<Item = &Arc<str>> {
        self.by_account.keys()
    }

    /// By account.
    pub(super) fn sorted(&self) -> impl Iterator<Item = (&Arc<str>, &FakeMember)> {
        self.by_account.iter()
    }

    /// By joining, behind an order number, with the order numbers.
    pub(super) fn joined_after(&self, order: u64) -> impl Iterator<Item = (u64, &Arc<str>, &FakeMember)> {
        let behind = self.by_order.range(order.saturating_add(1)..);
        behind.filter_map(|(order, account)| Some((*order, account, self.by_account.get(account)?)))
    }

    /// The order number that many members before one.
    pub(super) fn back_from(&self, order: u64, members: u64) -> u64 {
        let mut before = self.by_order.range(..=order).rev().map(|(order, _)| *order);
        before.nth(usize::try_from(members).unwrap_or(usize::MAX)).unwrap_or(0)
    }
}

/// A topic of a community.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct FakeTopic {
    /// The texts by their names in callbacks: `Name`, `Introduction`, `Notification`, `FaceUrl`.
    pub(super) texts: BTreeMap<&'static str, String>,
    /// `CustomString`.
    pub(super) custom: String,
    /// `MuteAllMember`.
    pub(super) mute_all: bool,
    /// `CreateTime`, Unix seconds.
    pub(super) create_secs: i64,
}

/// The texts that a change of a profile names, as callbacks spell them.
pub(super) const TEXTS: [&str; 4] = ["Name", "Introduction", "Notification", "FaceUrl"];

/// A group.
#[derive(Debug, Clone)]
pub(super) struct FakeGroup {
    /// `Type`.
    pub(super) kind: GroupKind,
    /// The texts of the profile by their names.
    pub(super) texts: BTreeMap<&'static str, String>,
    /// `Owner_Account`; empty: none.
    pub(super) owner: String,
    /// `CreateTime`, in milliseconds.
    pub(super) create_ms: i64,
    /// `LastInfoTime`, Unix seconds.
    pub(super) info_secs: i64,
    /// `InfoSeq`.
    pub(super) info_sequence: u64,
    /// `NextMsgSeq`.
    pub(super) next_message: u64,
    /// `MaxMemberNum`.
    pub(super) max_members: u64,
    /// `ApplyJoinOption`.
    pub(super) apply_option: String,
    /// `InviteJoinOption`.
    pub(super) invite_option: String,
    /// `MuteAllMember`.
    pub(super) mute_all: bool,
    /// `AppDefinedData`.
    pub(super) fields: BTreeMap<String, String>,
    /// The attributes.
    pub(super) attributes: BTreeMap<String, String>,
    /// The topics by id.
    pub(super) topics: BTreeMap<String, FakeTopic>,
    /// Ends of mutes in Unix seconds, by account; they outlive leaving.
    pub(super) mutes: BTreeMap<String, i64>,
    /// The members.
    pub(super) members: Arc<Roster>,
}

impl FakeGroup {
    pub(super) fn new(kind: GroupKind, owner: &str, create_ms: i64) -> Self {
        Self {
            kind,
            texts: TEXTS.map(|name| (name, String::new())).into(),
            owner: owner.to_owned(),
            create_ms,
            info_secs: create_ms / 1000,
            info_sequence: 1,
            next_message: 1,
            max_members: if kind == GroupKind::Community { 100_000 } else { 6_000 },
            apply_option: "FreeAccess".to_owned(),
            invite_option: "FreeAccess".to_owned(),
            mute_all: false,
            fields: BTreeMap::new(),
            attributes: BTreeMap::new(),
            topics: BTreeMap::new(),
            mutes: BTreeMap::new(),
            members: Arc::default(),
        }
    }

    pub(super) fn roster(&mut self) -> &mut Roster {
        Arc::make_mut(&mut self.members)
    }

    pub(super) fn role(&self, account: &str, member: &FakeMember) -> &'static str {
        match (self.owner == account, member.is_admin) {
            (true, _) => "Owner",
            (false, true) => "Admin",
            (false, false) => "Member",
        }
    }

    /// The profile has changed.
    pub(super) fn changed(&mut self, now_ms: i64) {
        self.info_secs = now_ms / 1000;
        self.info_sequence += 1;
    }

    /// Everything, for the test door.
    pub(super) fn shown(&self) -> Value {
        let member = |(account, member): (&Arc<str>, &FakeMember)| {
            let shown = json!({
                "role": self.role(account, member), "join_time": member.join_secs, "name_card": member.card,
                "mute_until": self.mutes.get(&**account).copied().unwrap_or(0), "fields": member.fields,
            });
            (account.to_string(), shown)
        };
        let topic = |(id, topic): (&String, &FakeTopic)| {
            let mut shown = json!(topic.texts);
            shown["CustomString"] = json!(topic.custom);
            shown["MuteAllMember"] = json!(topic.mute_all);
            (id.clone(), shown)
        };
        json!({
            "type": self.kind.on_the_wire(), "texts": self.texts, "owner": self.owner,
            "create_time": self.create_ms / 1000, "next_message": self.next_message,
            "max_members": self.max_members, "apply_join_option": self.apply_option,
            "invite_join_option": self.invite_option, "mute_all": self.mute_all, "fields": self.fields,
            "attributes": self.attributes,
            "topics": self.topics.iter().map(topic).collect::<Map<_, _>>(),
            "members": self.members.sorted().map(member).collect::<Map<_, _>>(),
        })
    }
}
