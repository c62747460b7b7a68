//! The keys of Tencent's bodies, as Tencent spells them; no other file of the program does.
//!
//! Which of them a command uses, and what is made of them, stands in `events`. Keys that are not here (`InviteOption`,
//! `MsgPriority` …) are never looked at, whatever they hold.

use super::ProfileText;

pub(super) const COMMAND: &str = "CallbackCommand";
pub(super) const EVENT_TIME: &str = "EventTime";
pub(super) const GROUP_ID: &str = "GroupId";
pub(super) const TYPE: &str = "Type";
pub(super) const OPERATOR: &str = "Operator_Account";

pub(super) const OWNER: &str = "Owner_Account";
pub(super) const OLD_OWNER: &str = "OldOwner_Account";
pub(super) const NEW_OWNER: &str = "NewOwner_Account";

/// The texts of a profile, of a group's and of a topic's alike; the type of a group is none of them.
pub(super) const PROFILE_TEXTS: &[(ProfileText, &str)] = &[
    (ProfileText::Name, "Name"),
    (ProfileText::Introduction, "Introduction"),
    (ProfileText::Notification, "Notification"),
    (ProfileText::FaceUrl, "FaceUrl"),
];

/// Initial members of a create. A destroy has it too, possibly incomplete, and it is not read there.
pub(super) const MEMBER_LIST: &str = "MemberList";
pub(super) const NEW_MEMBER_LIST: &str = "NewMemberList";
pub(super) const EXIT_MEMBER_LIST: &str = "ExitMemberList";
/// In the entries of the lists, and in the body of a change of one member.
pub(super) const MEMBER: &str = "Member_Account";
/// The domestic page's name of [`MEMBER`] in a change of one member (sample `…modified-account`).
pub(super) const MODIFIED: &str = "Modified_Account";
pub(super) const JOIN_TYPE: &str = "JoinType";
pub(super) const EXIT_TYPE: &str = "ExitType";
pub(super) const ROLE: &str = "Role";
pub(super) const NAME_CARD: &str = "NameCard";

pub(super) const FIELDS: &str = "UserDefinedDataList";
pub(super) const FIELD_KEY: &str = "Key";
pub(super) const FIELD_VALUE: &str = "Value";

pub(super) const OPTION_TYPE: &str = "OptionType";
pub(super) const ATTRIBUTES: &str = "GroupAttr";
/// Lower case, unlike [`FIELD_KEY`] (1047/60394).
pub(super) const ATTRIBUTE_KEY: &str = "key";
pub(super) const ATTRIBUTE_VALUE: &str = "value";

pub(super) const TOPIC_ID: &str = "TopicId";
/// The table of 1047/49465 says String, its sample shows an array.
pub(super) const TOPIC_ID_LIST: &str = "TopicIdList";
