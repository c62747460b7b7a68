//! Answers about members: lists of a group, roles of given users, who is muted.
//!
//! An offset list ends where `Offset` and the rows reach `MemberNum`, or where a page brings no new row, and never where
//! a page is shorter than asked for: a server that cuts `Limit` would end the list early. A community is read by cursor,
//! which may bring a member twice. A list is a whole one only if nothing of it was unreadable.

use std::collections::BTreeSet;

use super::answers::{AnswerError, successful};
use super::fields::{AnswerFields, Names, UnreadPart, UnreadParts, object};
use crate::json::{Json, JsonObject};
use crate::model::{FieldKey, UserId};

/// One row of a list of members. What was not asked for, or is not sent, is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedMember {
    /// `Member_Account`.
    pub user: UserId,
    /// `Role`, trimmed: `Owner`, `Admin`, `Member`.
    pub role: Option<String>,
    /// `JoinTime`, Unix seconds.
    pub join_secs: Option<i64>,
    /// `MuteUntil` (old `ShutUpUntil`), Unix seconds; 0: not muted, 4294967295: without end.
    pub mute_until_secs: Option<i64>,
    /// `NameCard`; empty: none.
    pub name_card: Option<String>,
    /// `MsgFlag`.
    pub message_flag: Option<String>,
    /// `LastSendMsgTime`, Unix seconds; 0: never.
    pub last_message_secs: Option<i64>,
    /// `AppMemberDefinedData`.
    pub custom_fields: Option<Vec<(FieldKey, String)>>,
    /// What of this row could not be read; its user could.
    pub unread: UnreadParts,
}

/// A page of a list of members, or the list where one call gives all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberPage {
    /// `MemberNum`: members of the whole group, with a role filter too.
    pub member_num: Option<u64>,
    /// The rows that could be read, in their order.
    pub members: Vec<ListedMember>,
    /// `Next`, of a community: the next cursor, empty at the end. `None`: it is no list by cursor.
    pub next: Option<String>,
    /// What could not be read; a page with unreadable rows is no whole one.
    pub unread: UnreadParts,
}

/// A user and the role, `NotMember` included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleOfUser {
    /// `Member_Account`.
    pub user: UserId,
    /// True unless the role is `NotMember`.
    pub is_member: bool,
    /// The role of a member.
    pub role: Option<String>,
}

/// `get_role_in_group`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolesAnswer {
    /// One per user that could be read.
    pub users: Vec<RoleOfUser>,
    /// What could not be read.
    pub unread: UnreadParts,
}

/// `get_group_muted_account`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MutedAnswer {
    /// Users with the end of their mute, Unix seconds. A mute outlives leaving and joining again.
    pub users: Vec<(UserId, i64)>,
    /// What could not be read.
    pub unread: UnreadParts,
}

const ACCOUNT: Names = &["Member_Account"];

impl ListedMember {
    /// One entry of a `MemberList`.
    pub(super) fn of(entry: &Json<'_>) -> Result<Self, UnreadPart> {
        Self::of_object(object(entry, "MemberList")?)
    }

    pub(super) fn of_object(object: &JsonObject<'_>) -> Result<Self, UnreadPart> {
        let mut fields = AnswerFields::new(object);
        Ok(Self {
            user: fields.id(ACCOUNT, UserId::parse)?,
            role: fields.role(),
            join_secs: fields.number(&["JoinTime"]),
            mute_until_secs: fields.number(&["MuteUntil", "ShutUpUntil"]),
            name_card: fields.text(&["NameCard"]),
            message_flag: fields.text(&["MsgFlag"]),
            last_message_secs: fields.number(&["LastSendMsgTime"]),
            custom_fields: fields.pairs(&["AppMemberDefinedData"]),
            unread: fields.into_unread(),
        })
    }
}

/// Users of a list, each once.
pub(super) fn distinct(members: &[ListedMember]) -> usize {
    members.iter().map(|member| &member.user).collect::<BTreeSet<_>>().len()
}

impl MemberPage {
    /// Reads an answer of `get_group_member_info` or `get_specified_group_member_info`.
    ///
    /// # Errors
    /// The command failed, or there is no list.
    pub fn read(bytes: &[u8]) -> Result<Self, AnswerError> {
        successful(bytes, |object| {
            let mut fields = AnswerFields::new(object);
            let entries = fields.list(&["MemberList"]).ok_or(AnswerError::Missing("MemberList"))?;
            Ok(Self {
                member_num: fields.number(&["MemberNum"]),
                members: fields.each(entries, ListedMember::of),
                next: fields.text(&["Next"]),
                unread: fields.into_unread(),
            })
        })
    }

    /// True where this page, read from offset 0 without a role filter, is the whole list: every row was read, each user
    /// stands once, and there are as many as the group has. A page of a list by cursor never is by itself.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.next.is_none()
            && self.unread.is_empty()
            && distinct(&self.members) == self.members.len()
            && self.member_num == Some(self.members.len() as u64)
    }
}

impl RolesAnswer {
    /// Reads an answer of `get_role_in_group`.
    ///
    /// # Errors
    /// The command failed, or there is no list.
    pub fn read(bytes: &[u8]) -> Result<Self, AnswerError> {
        successful(bytes, |answer| {
            let mut fields = AnswerFields::new(answer);
            let entries = fields.list(&["UserIdList"]).ok_or(AnswerError::Missing("UserIdList"))?;
            let users = fields.each(entries, |entry| {
                let mut fields = AnswerFields::new(object(entry, "UserIdList")?);
                let user = fields.id(ACCOUNT, UserId::parse)?;
                let role = fields.role().ok_or(UnreadPart { field: "Role", why: "is missing" })?;
                let is_member = role != "NotMember";
                Ok(RoleOfUser { user, is_member, role: is_member.then_some(role) })
            });
            Ok(Self { users, unread: fields.into_unread() })
        })
    }
}

impl MutedAnswer {
    /// Reads an answer of `get_group_muted_account`, or of its old name `get_group_shutted_uin`.
    ///
    /// # Errors
    /// The command failed, or there is no list.
    pub fn read(bytes: &[u8]) -> Result<Self, AnswerError> {
        successful(bytes, |answer| {
            let mut fields = AnswerFields::new(answer);
            let entries = fields
                .list(&["MutedAccountList", "ShuttedUinList"])
                .ok_or(AnswerError::Missing("MutedAccountList"))?;
            let users = fields.each(entries, |entry| {
                let mut fields = AnswerFields::new(object(entry, "MutedAccountList")?);
                let user = fields.id(ACCOUNT, UserId::parse)?;
                let until = fields.number(&["MutedUntil", "ShuttedUntil"]);
                Ok((user, until.ok_or(UnreadPart { field: "MutedUntil", why: "is missing" })?))
            });
            Ok(Self { users, unread: fields.into_unread() })
        })
    }
}
