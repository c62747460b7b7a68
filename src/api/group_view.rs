//! A group as a reader sees it: of now, out of a row of the views, or of a moment, out of a fold.
//!
//! Both forms have the same members, so that a client reads a past group as it reads a present one. The views of the
//! database and their twin in `mirror` decide what a status or an owner is; this file decides which figure is not known.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;
use utoipa::openapi::ObjectBuilder;

use super::errors::ApiError;
use super::parameters::words;
use super::timestamp::Timestamp;
use crate::mirror::{Status, are_members_known};
use crate::model::{Millis, UserId};
use crate::replay::as_of::{AsOfError, FIELD_KEYS_MAX, GroupAsOf, GroupMoment};
use crate::store::groups::GroupStateRow;

/// The values of `status`; the first one is the default.
pub(super) const GROUP_STATUSES: [(&str, Option<Status>); 4] = [
    ("active", Some(Status::Active)),
    ("destroyed", Some(Status::Destroyed)),
    ("unseen", Some(Status::Unseen)),
    ("all", None),
];

/// A group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct GroupView {
    sdk_app_id: i64,
    group_id: String,
    /// The moment as of which everything here is; only where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, format = DateTime)]
    at: Option<Timestamp>,
    /// `active`, `unseen` until a create or a profile is known, or `destroyed`.
    #[schema(schema_with = shown_status)]
    status: String,
    /// Under its present name.
    #[serde(rename = "type")]
    group_type: Option<String>,
    name: Option<String>,
    introduction: Option<String>,
    notification: Option<String>,
    face_url: Option<String>,
    /// The present owner; null where the group has none, or none is known.
    owner: Option<String>,
    created_by: Option<String>,
    /// Present members; in lists only with `with=member_count`. Null where it is not known: a group of which neither a
    /// create nor a complete list of members is known, and an audio-video room whose membership is not mirrored. A
    /// destroyed group has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>, minimum = 0)]
    member_count: Option<Option<i64>>,
    user_defined_fields: BTreeMap<String, String>,
    attributes: BTreeMap<String, String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    created_at: Option<Timestamp>,
    /// Event time of the newest fact about the group, its members included.
    #[schema(value_type = Option<String>, format = DateTime)]
    updated_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    destroyed_at: Option<Timestamp>,
    /// Who may join how, in Tencent's word. No callback reports this and the next three; null where no read said it.
    apply_join_option: Option<String>,
    /// Who may invite, in Tencent's word.
    invite_join_option: Option<String>,
    /// True while all members are muted.
    mute_all: Option<bool>,
    /// How many members the group may have.
    max_member_count: Option<i64>,
    /// As of when the profile was last read from Tencent; null: never. It moves with each read, be it that nothing differs.
    /// Not with `at`: when a read said nothing new is not kept for the past.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    verified_at: Option<Option<Timestamp>>,
    /// As of when the members were last read completely; null: never. Not with `at`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    members_verified_at: Option<Option<Timestamp>>,
}

fn shown_status() -> ObjectBuilder {
    words(&GROUP_STATUSES[..3]).description(Some("unseen until a create or a profile is known."))
}

impl GroupView {
    /// `avchatroom_members`: whether the membership of audio-video rooms is mirrored. Where not all members are known, the
    /// number of rows would be a wrong answer.
    pub(super) fn of(row: GroupStateRow, avchatroom_members: bool) -> Self {
        let are_known = are_members_known(row.group_type.as_deref(), row.has_all_members, avchatroom_members);
        let is_counted = are_known || row.status == Status::Destroyed.as_str();
        Self {
            sdk_app_id: row.sdk_app_id,
            group_id: row.group_id,
            at: None,
            status: row.status,
            group_type: row.group_type,
            name: row.name,
            introduction: row.introduction,
            notification: row.notification,
            face_url: row.face_url,
            owner: row.owner,
            created_by: row.created_by,
            member_count: row.member_count.map(|count| Some(count).filter(|_| is_counted)),
            user_defined_fields: row.user_defined_fields.0,
            attributes: row.attributes.0,
            created_at: row.created_at.map(Timestamp),
            updated_at: row.updated_at.map(Timestamp),
            destroyed_at: row.destroyed_at.map(Timestamp),
            apply_join_option: row.apply_join_option,
            invite_join_option: row.invite_join_option,
            mute_all: row.mute_all,
            max_member_count: row.max_member_count,
            verified_at: Some(row.verified_at.map(Timestamp)),
            members_verified_at: Some(row.members_verified_at.map(Timestamp)),
        }
    }

    /// The same out of a fold; `None` where nothing that counts is as old as the moment.
    ///
    /// # Errors
    /// `too_large`: the group had more fields than a fold keeps.
    pub(super) fn as_of(
        wanted: &GroupMoment,
        at: Timestamp,
        fold: &GroupAsOf,
        avchatroom_members: bool,
    ) -> Result<Option<Self>, ApiError> {
        let Some(state) = fold.state.clone() else { return Ok(None) };
        let fields = fold.fields.clone().ok_or_else(|| {
            AsOfError::TooLarge(format!("{FIELD_KEYS_MAX} keys of user-defined fields and attributes"))
        })?;
        let are_known =
            are_members_known(state.group_type.as_deref(), state.has_all_members, avchatroom_members);
        let is_counted = are_known || state.status == Status::Destroyed;
        let count = i64::try_from(fold.present).ok().filter(|_| is_counted);
        let time = |time: Millis| Timestamp::of_millis(time.get());
        let id = |user: UserId| user.as_str().to_owned();
        Ok(Some(Self {
            sdk_app_id: wanted.group.app.get(),
            group_id: wanted.group.group.as_str().to_owned(),
            at: Some(at),
            status: state.status.as_str().to_owned(),
            group_type: state.group_type,
            name: state.name,
            introduction: state.introduction,
            notification: state.notification,
            face_url: state.face_url,
            owner: state.owner.map(id),
            created_by: state.created_by.map(id),
            member_count: Some(count),
            user_defined_fields: fields.user_defined_fields,
            attributes: fields.attributes,
            created_at: state.created_at.and_then(time),
            updated_at: time(state.updated_at),
            destroyed_at: state.destroyed_at.and_then(time),
            apply_join_option: state.apply_join_option,
            invite_join_option: state.invite_join_option,
            mute_all: state.mute_all,
            max_member_count: state.max_member_count,
            verified_at: None,
            members_verified_at: None,
        }))
    }
}
