//! Answers about what hangs on a group: its attributes and, of a community, its topics.
//!
//! The form of an answer for a group without attributes is documented nowhere, so an empty list, `null` and no list at
//! all read alike. A topic has a code of its own. `get_topic` spells the group `GroupID` and the name `TopicName`, unlike
//! callbacks; both spellings are read.

use super::answers::{AnswerError, ApiCode, code, successful};
use super::fields::{AnswerFields, UnreadPart, UnreadParts, object};
use crate::json::Json;
use crate::model::{FieldKey, GroupId, TopicId};

/// `get_group_attr`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttributesAnswer {
    /// All attributes of the group that could be read.
    pub attributes: Vec<(FieldKey, String)>,
    /// What could not be read; the list is complete only where this is empty.
    pub unread: UnreadParts,
}

/// What is known of one topic. What was not asked for, or is not sent, is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicInfo {
    /// `GroupID`.
    pub group: Option<GroupId>,
    /// `TopicName`.
    pub name: Option<String>,
    /// `Introduction`.
    pub introduction: Option<String>,
    /// `Notification`.
    pub notification: Option<String>,
    /// `FaceUrl`.
    pub face_url: Option<String>,
    /// `CustomString`.
    pub custom_string: Option<String>,
    /// `CreateTime`, Unix seconds.
    pub create_secs: Option<i64>,
    /// `LastMsgTime`, Unix seconds; 0: never.
    pub last_message_secs: Option<i64>,
    /// `NextMsgSeq`.
    pub next_message: Option<u64>,
    /// `MuteAllMember`; one SDK has `ShutUpAllFlag`.
    pub mute_all: Option<bool>,
    /// What of this topic could not be read.
    pub unread: UnreadParts,
}

/// One element of `get_topic`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicElement {
    /// `TopicId`.
    pub topic: TopicId,
    /// What is known of it, or the code of this topic alone.
    pub info: Result<TopicInfo, ApiCode>,
}

/// `get_topic`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicsAnswer {
    /// One per topic that could be read.
    pub topics: Vec<TopicElement>,
    /// Elements that could not be read at all; the list is complete only where this is empty.
    pub unread: UnreadParts,
}

impl AttributesAnswer {
    /// Reads an answer of `get_group_attr`.
    ///
    /// # Errors
    /// The command failed, or `GroupAttrAry` is there and no list.
    pub fn read(bytes: &[u8]) -> Result<Self, AnswerError> {
        successful(bytes, |answer| {
            let mut fields = AnswerFields::new(answer);
            let attributes = fields.pairs(&["GroupAttrAry"]);
            if attributes.is_none() && !fields.unread().is_empty() {
                return Err(AnswerError::Missing("GroupAttrAry"));
            }
            Ok(Self { attributes: attributes.unwrap_or_default(), unread: fields.into_unread() })
        })
    }
}

impl TopicElement {
    fn of(entry: &Json<'_>) -> Result<Self, UnreadPart> {
        let element = object(entry, "TopicAndSelfInfo")?;
        let missing = |_| UnreadPart { field: "ErrorCode", why: "is missing" };
        let code = code(element).map_err(missing)?;
        let no_info = UnreadPart { field: "TopicInfo", why: "is missing" };
        let info = AnswerFields::new(element).nested(&["TopicInfo"]).ok_or(no_info)?;
        let mut fields = AnswerFields::new(info);
        let topic = fields.id(&["TopicId"], TopicId::parse)?;
        if let Some(code) = code {
            return Ok(Self { topic, info: Err(code) });
        }
        let info = TopicInfo {
            group: fields.id_or_none(&["GroupID", "GroupId"], GroupId::parse).flatten(),
            name: fields.text(&["TopicName", "Name"]),
            introduction: fields.text(&["Introduction"]),
            notification: fields.text(&["Notification"]),
            face_url: fields.text(&["FaceUrl"]),
            custom_string: fields.text(&["CustomString"]),
            create_secs: fields.number(&["CreateTime"]),
            last_message_secs: fields.number(&["LastMsgTime"]),
            next_message: fields.number(&["NextMsgSeq"]),
            mute_all: fields.switch(&["MuteAllMember", "ShutUpAllMember", "ShutUpAllFlag"]),
            unread: fields.into_unread(),
        };
        Ok(Self { topic, info: Ok(info) })
    }
}

impl TopicsAnswer {
    /// Reads an answer of `get_topic`.
    ///
    /// # Errors
    /// The command failed, or there is no list: the form for a community without topics is documented nowhere, and an
    /// answer that is not understood must not remove topics.
    pub fn read(bytes: &[u8]) -> Result<Self, AnswerError> {
        successful(bytes, |answer| {
            let mut fields = AnswerFields::new(answer);
            let entries =
                fields.list(&["TopicAndSelfInfo"]).ok_or(AnswerError::Missing("TopicAndSelfInfo"))?;
            Ok(Self { topics: fields.each(entries, TopicElement::of), unread: fields.into_unread() })
        })
    }
}
