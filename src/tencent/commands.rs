//! The read commands of the REST API: service, name, published rate, batch limit, and the bodies that ask.
//!
//! Rates count for the app as a whole, so other tools of the same app use them up as well. What a filter names is what
//! comes back, but for the ids; a filter that is left out brings nothing of its kind.

use serde_json::{Value, json};
use strum::{IntoStaticStr, VariantArray};

use super::groups::is_community;
use crate::model::{FieldKey, GroupId, TopicId, UserId};

/// The most groups of one `get_group_info`.
pub const GROUPS_OF_A_CALL_MAX: usize = 50;

/// The most ids of a page of `get_appid_group_list`.
pub const IDS_OF_A_PAGE_MAX: u32 = 10_000;

/// The most users of one `get_role_in_group`.
pub const ROLES_OF_A_CALL_MAX: usize = 500;

/// The most users of one `get_specified_group_member_info`.
pub const MEMBERS_OF_A_CALL_MAX: usize = 50;

/// The most members of a page of a community.
pub const COMMUNITY_PAGE_MAX: u32 = 100;

/// A read command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
pub enum ReadCommand {
    /// All group ids of the app.
    #[strum(serialize = "get_appid_group_list")]
    GroupIds,
    /// Profiles, with members where they are asked for.
    #[strum(serialize = "get_group_info")]
    GroupInfo,
    /// The members of a group.
    #[strum(serialize = "get_group_member_info")]
    Members,
    /// Given members of a group.
    #[strum(serialize = "get_specified_group_member_info")]
    SpecifiedMembers,
    /// The roles of given users.
    #[strum(serialize = "get_role_in_group")]
    Roles,
    /// The muted members of a group.
    #[strum(serialize = "get_group_muted_account")]
    Muted,
    /// The groups of a user.
    #[strum(serialize = "get_joined_group_list")]
    JoinedGroups,
    /// The attributes of a group.
    #[strum(serialize = "get_group_attr")]
    Attributes,
    /// The topics of a community.
    #[strum(serialize = "get_topic")]
    Topics,
}

impl ReadCommand {
    /// As Tencent writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The service it belongs to.
    #[must_use]
    pub fn service(self) -> &'static str {
        match self {
            Self::Attributes => "group_open_attr_http_svc",
            Self::Topics => "million_group_open_http_svc",
            _ => "group_open_http_svc",
        }
    }

    /// Calls per second that Tencent publishes for an app.
    #[must_use]
    pub fn published_rate(self) -> f64 {
        if self == Self::GroupIds { 1.0 } else { 200.0 }
    }
}

/// What `get_group_info` is asked for beside the ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InfoFilter {
    /// No filter at all: everything comes, members and all custom fields included. Never asked of a community.
    pub everything: bool,
    /// The member lists too; never asked of a community.
    pub members: bool,
    /// Keys of custom fields of the group.
    pub group_fields: Vec<FieldKey>,
    /// Keys of custom fields of members.
    pub member_fields: Vec<FieldKey>,
}

/// Where a page of members begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PageBegin {
    /// At this row; not for a community.
    Offset(u64),
    /// Behind this cursor, empty at first; for a community alone.
    Cursor(String),
}

const PROFILE: [&str; 17] = [
    "Type",
    "Name",
    "Introduction",
    "Notification",
    "FaceUrl",
    "Owner_Account",
    "CreateTime",
    "InfoSeq",
    "LastInfoTime",
    "LastMsgTime",
    "NextMsgSeq",
    "MemberNum",
    "MaxMemberNum",
    "ApplyJoinOption",
    "InviteJoinOption",
    "MuteAllMember",
    "SupportTopic",
];

const MEMBER: [&str; 4] = ["Role", "JoinTime", "MuteUntil", "NameCard"];

fn keys(keys: &[FieldKey]) -> Vec<&str> {
    keys.iter().map(FieldKey::as_str).collect()
}

fn users(users: &[UserId]) -> Vec<&str> {
    users.iter().map(UserId::as_str).collect()
}

pub(super) fn group_ids(next: u64, limit: u32, group_type: Option<&str>) -> Value {
    assert!((1..=IDS_OF_A_PAGE_MAX).contains(&limit), "a page has 1 to {IDS_OF_A_PAGE_MAX} ids");
    let mut body = json!({ "Limit": limit, "Next": next });
    if let Some(group_type) = group_type {
        body["GroupType"] = json!(group_type);
    }
    body
}

pub(super) fn group_info(groups: &[GroupId], filter: &InfoFilter) -> Value {
    assert!((1..=GROUPS_OF_A_CALL_MAX).contains(&groups.len()), "1 to {GROUPS_OF_A_CALL_MAX} groups");
    assert!(
        !((filter.members || filter.everything) && groups.iter().any(is_community)),
        "a community's members come by cursor"
    );
    let mut wanted = json!({ "GroupBaseInfoFilter": PROFILE });
    if filter.members {
        // The id is called `Account` in this filter, and `Member_Account` in the answer.
        wanted["MemberInfoFilter"] = std::iter::once("Account").chain(MEMBER).collect();
    }
    if !filter.group_fields.is_empty() {
        wanted["AppDefinedDataFilter_Group"] = json!(keys(&filter.group_fields));
    }
    if filter.members && !filter.member_fields.is_empty() {
        wanted["AppDefinedDataFilter_GroupMember"] = json!(keys(&filter.member_fields));
    }
    let groups: Vec<&str> = groups.iter().map(GroupId::as_str).collect();
    if filter.everything {
        return json!({ "GroupIdList": groups });
    }
    json!({ "GroupIdList": groups, "ResponseFilter": wanted })
}

pub(super) fn members(group: &GroupId, begin: &PageBegin, limit: u32, fields: &[FieldKey]) -> Value {
    let mut body = json!({ "GroupId": group.as_str(), "Limit": limit, "MemberInfoFilter": MEMBER });
    match begin {
        PageBegin::Offset(offset) => {
            assert!(!is_community(group), "a community is read by cursor");
            body["Offset"] = json!(offset);
        }
        PageBegin::Cursor(next) => {
            assert!(is_community(group) && limit <= COMMUNITY_PAGE_MAX, "only a community is read by cursor");
            body["Next"] = json!(next);
        }
    }
    if !fields.is_empty() {
        body["AppDefinedDataFilter_GroupMember"] = json!(keys(fields));
    }
    body
}

pub(super) fn specified_members(group: &GroupId, accounts: &[UserId], fields: &[FieldKey]) -> Value {
    assert!((1..=MEMBERS_OF_A_CALL_MAX).contains(&accounts.len()), "1 to {MEMBERS_OF_A_CALL_MAX} members");
    let mut body = json!({ "GroupId": group.as_str(), "Member_List_Account": users(accounts),
                           "MemberInfoFilter": MEMBER });
    if !fields.is_empty() {
        body["AppDefinedDataFilter_GroupMember"] = json!(keys(fields));
    }
    body
}

pub(super) fn roles(group: &GroupId, accounts: &[UserId]) -> Value {
    assert!((1..=ROLES_OF_A_CALL_MAX).contains(&accounts.len()), "1 to {ROLES_OF_A_CALL_MAX} users");
    json!({ "GroupId": group.as_str(), "User_Account": users(accounts) })
}

pub(super) fn joined_groups(user: &UserId, offset: u64, limit: u32) -> Value {
    json!({
        "Member_Account": user.as_str(), "Limit": limit, "Offset": offset, "WithHugeGroups": 1,
        "WithNoActiveGroups": 1,
        "ResponseFilter": { "GroupBaseInfoFilter": ["Type", "Name", "MemberNum"],
                            "SelfInfoFilter": ["Role", "JoinTime"] },
    })
}

pub(super) fn of_group(group: &GroupId) -> Value {
    json!({ "GroupId": group.as_str() })
}

pub(super) fn topics(group: &GroupId, from: &UserId, topics: &[TopicId]) -> Value {
    let mut body = json!({ "GroupId": group.as_str(), "From_Account": from.as_str() });
    if !topics.is_empty() {
        body["TopicIdList"] = topics.iter().map(TopicId::as_str).collect();
    }
    body
}
