//! Answers about groups: the ids of an app, profiles with or without members, the groups of a user.
//!
//! Each element of `get_group_info` has a code of its own, and only that code says that a group is gone. `MemberNum` and
//! `MemberList` are absent for an audio-video room. Whether a `MemberList` is whole in a large group is stated nowhere, so
//! it counts as whole only where its length is `MemberNum` of the same element, and never for a community.

use super::answers::{AnswerError, ApiCode, code, successful};
use super::fields::{AnswerFields, UnreadPart, UnreadParts, object};
use super::members::{ListedMember, distinct};
use crate::json::{Json, JsonObject};
use crate::model::{FieldKey, GroupId, UserId};

/// How the id of every community begins.
pub const COMMUNITY_PREFIX: &str = "@TGS#_";

/// A page of `get_appid_group_list`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupIdPage {
    /// `TotalCount`; paging does not touch it, and it need not be the number of ids that all pages bring.
    pub total: Option<u64>,
    /// The ids, in their order.
    pub groups: Vec<GroupId>,
    /// `Next`, an unsigned number of 64 bits; 0 (or absent, as in an old sample): this was the last page.
    pub next: u64,
    /// What could not be read.
    pub unread: UnreadParts,
}

/// What one element of `get_group_info` says of a group. What was not asked for, or is not sent, is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupInfo {
    /// `Type`, as sent: `Private` and `ChatRoom` are old names.
    pub group_type: Option<String>,
    /// `Name`.
    pub name: Option<String>,
    /// `Introduction`.
    pub introduction: Option<String>,
    /// `Notification`.
    pub notification: Option<String>,
    /// `FaceUrl`.
    pub face_url: Option<String>,
    /// `Owner_Account`; `Some(None)`: the group has no owner.
    pub owner: Option<Option<UserId>>,
    /// `CreateTime`, Unix seconds.
    pub create_secs: Option<i64>,
    /// `LastInfoTime`, Unix seconds; 0: never.
    pub last_info_secs: Option<i64>,
    /// `LastMsgTime`, Unix seconds; 0: never.
    pub last_message_secs: Option<i64>,
    /// `NextMsgSeq`, 1 in a new group.
    pub next_message: Option<u64>,
    /// `InfoSeq`: in no sample and no capture, so nothing may rely on it.
    pub info_sequence: Option<u64>,
    /// `MemberNum`; absent for an audio-video room.
    pub member_num: Option<u64>,
    /// `MaxMemberNum`.
    pub max_member_num: Option<u64>,
    /// `ApplyJoinOption`.
    pub apply_join_option: Option<String>,
    /// `InviteJoinOption`.
    pub invite_join_option: Option<String>,
    /// `MuteAllMember` (old `ShutUpAllMember`).
    pub mute_all: Option<bool>,
    /// `SupportTopic`.
    pub supports_topics: Option<bool>,
    /// `AppDefinedData`: the fields that were asked for and are set.
    pub custom_fields: Option<Vec<(FieldKey, String)>>,
    /// `MemberList`; [`GroupElement::whole_members`] says whether it may count as a list of all members.
    pub members: Option<Vec<ListedMember>>,
    /// True where an entry of `MemberList` could not be read at all.
    pub members_unread: bool,
    /// What of this group could not be read, such entries included; a member that was read in part says so itself.
    pub unread: UnreadParts,
}

/// One element of `get_group_info`. Elements need not stand in the order of the ids that were asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupElement {
    /// `GroupId`.
    pub group: GroupId,
    /// What is known of it, or the code of this group alone.
    pub info: Result<GroupInfo, ApiCode>,
}

/// `get_group_info`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupInfos {
    /// One per group that could be read.
    pub elements: Vec<GroupElement>,
    /// Elements that could not be read at all: no id, or no code.
    pub unread: UnreadParts,
}

/// A group of `get_joined_group_list`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedGroup {
    /// `GroupId`.
    pub group: GroupId,
    /// The fields that were asked for.
    pub info: GroupInfo,
    /// `SelfInfo.Role`.
    pub role: Option<String>,
    /// `SelfInfo.JoinTime`, Unix seconds.
    pub join_secs: Option<i64>,
}

/// A page of `get_joined_group_list`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedGroups {
    /// `TotalCount`.
    pub total: Option<u64>,
    /// The groups of the user.
    pub groups: Vec<JoinedGroup>,
    /// What could not be read.
    pub unread: UnreadParts,
}

/// True for the id of a community, whose members are read by cursor alone.
#[must_use]
pub fn is_community(group: &GroupId) -> bool {
    group.as_str().starts_with(COMMUNITY_PREFIX)
}

impl GroupIdPage {
    /// Reads an answer of `get_appid_group_list`.
    ///
    /// # Errors
    /// The command failed, or there is no list; a `Next` that cannot be read is no end of the list.
    pub fn read(bytes: &[u8]) -> Result<Self, AnswerError> {
        successful(bytes, |answer| {
            let mut fields = AnswerFields::new(answer);
            let entries = fields.list(&["GroupIdList"]).ok_or(AnswerError::Missing("GroupIdList"))?;
            let next = fields.number(&["Next"]);
            if next.is_none() && !fields.unread().is_empty() {
                return Err(AnswerError::Missing("Next"));
            }
            let groups = fields.each(entries, |entry| {
                AnswerFields::new(object(entry, "GroupIdList")?).id(&["GroupId"], GroupId::parse)
            });
            Ok(Self {
                total: fields.number(&["TotalCount"]),
                groups,
                next: next.unwrap_or(0),
                unread: fields.into_unread(),
            })
        })
    }
}

impl GroupInfo {
    fn of(object: &JsonObject<'_>) -> Self {
        let mut fields = AnswerFields::new(object);
        let entries = fields.list(&["MemberList"]);
        let before = fields.unread().count;
        let members = entries.map(|entries| fields.each(entries, ListedMember::of));
        let members_unread = fields.unread().count > before;
        Self {
            group_type: fields.word(&["Type"]).filter(|text| !text.is_empty()),
            name: fields.text(&["Name"]),
            introduction: fields.text(&["Introduction"]),
            notification: fields.text(&["Notification"]),
            face_url: fields.text(&["FaceUrl"]),
            owner: fields.id_or_none(&["Owner_Account"], UserId::parse),
            create_secs: fields.number(&["CreateTime"]),
            last_info_secs: fields.number(&["LastInfoTime"]),
            last_message_secs: fields.number(&["LastMsgTime"]),
            next_message: fields.number(&["NextMsgSeq"]),
            info_sequence: fields.number(&["InfoSeq"]),
            member_num: fields.number(&["MemberNum"]),
            max_member_num: fields.number(&["MaxMemberNum"]),
            apply_join_option: fields.text(&["ApplyJoinOption"]),
            invite_join_option: fields.text(&["InviteJoinOption"]),
            mute_all: fields.switch(&["MuteAllMember", "ShutUpAllMember"]),
            supports_topics: fields.switch(&["SupportTopic"]),
            custom_fields: fields.pairs(&["AppDefinedData"]),
            members,
            members_unread,
            unread: fields.into_unread(),
        }
    }
}

impl GroupElement {
    fn of(entry: &Json<'_>) -> Result<Self, UnreadPart> {
        let object = object(entry, "GroupInfo")?;
        let group = AnswerFields::new(object).id(&["GroupId"], GroupId::parse)?;
        let missing = |_| UnreadPart { field: "ErrorCode", why: "is missing" };
        let info = match code(object).map_err(missing)? {
            None => Ok(GroupInfo::of(object)),
            Some(code) => Err(code),
        };
        Ok(Self { group, info })
    }

    /// The members, where the list is one of all of them: of a group that is no community, every entry read, each user
    /// once, and as many as `MemberNum` of the same element. Anything else is a part, which removes no member.
    #[must_use]
    pub fn whole_members(&self) -> Option<&[ListedMember]> {
        let info = self.info.as_ref().ok()?;
        let members = info.members.as_deref()?;
        let is_whole = !is_community(&self.group)
            && !info.members_unread
            && distinct(members) == members.len()
            && info.member_num == Some(members.len() as u64);
        is_whole.then_some(members)
    }
}

impl GroupInfos {
    /// Reads an answer of `get_group_info`.
    ///
    /// # Errors
    /// The command failed, or there is no list.
    pub fn read(bytes: &[u8]) -> Result<Self, AnswerError> {
        successful(bytes, |answer| {
            let mut fields = AnswerFields::new(answer);
            let entries = fields.list(&["GroupInfo"]).ok_or(AnswerError::Missing("GroupInfo"))?;
            Ok(Self { elements: fields.each(entries, GroupElement::of), unread: fields.into_unread() })
        })
    }
}

impl JoinedGroups {
    /// Reads an answer of `get_joined_group_list`.
    ///
    /// # Errors
    /// The command failed, or there is no list.
    pub fn read(bytes: &[u8]) -> Result<Self, AnswerError> {
        successful(bytes, |answer| {
            let mut fields = AnswerFields::new(answer);
            let entries = fields.list(&["GroupIdList"]).ok_or(AnswerError::Missing("GroupIdList"))?;
            let groups = fields.each(entries, |entry| {
                let object = object(entry, "GroupIdList")?;
                let mut fields = AnswerFields::new(object);
                let group = fields.id(&["GroupId"], GroupId::parse)?;
                let own = fields.nested(&["SelfInfo"]).map(AnswerFields::new);
                let (role, join_secs) =
                    own.map_or((None, None), |mut own| (own.role(), own.number(&["JoinTime"])));
                Ok(JoinedGroup { group, info: GroupInfo::of(object), role, join_secs })
            });
            Ok(Self { total: fields.number(&["TotalCount"]), groups, unread: fields.into_unread() })
        })
    }
}
