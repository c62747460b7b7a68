//! Reads as of a moment: from the parameter `at` to the fold, and what is said where nothing was known yet.
//!
//! The fold comes from `replay`, which keeps it for a minute, within permits of its own; the answers of a group, of its
//! members and of one membership are read from the same fold, so they agree with each other.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::errors::ApiError;
use super::state::ApiState;
use super::timestamp::Timestamp;
use crate::mirror::group_key;
use crate::model::{GroupId, Millis, SdkAppId};
use crate::replay::GroupFold;
use crate::replay::as_of::{AsOfError, GroupMoment};

/// A group at the moment of the parameter `at`; what is finer than a millisecond does not count.
pub(super) fn moment_of(app: SdkAppId, group: GroupId, at: DateTime<Utc>) -> GroupMoment {
    GroupMoment { group: group_key(app, group), moment: Millis::new(at.timestamp_millis()) }
}

/// The fold of a group at a moment. `end`: that of the fold that a walk began with.
///
/// # Errors
/// `not_found` for an unknown group, `too_large`, `unavailable`.
pub(super) async fn fold_of(
    state: &ApiState,
    wanted: &GroupMoment,
    end: Option<i64>,
) -> Result<Arc<GroupFold>, ApiError> {
    state.fits()?;
    match state.as_of.group(wanted, end).await {
        Err(AsOfError::Unknown) => Err(ApiError::unknown_group(&wanted.group.group)),
        done => Ok(done?),
    }
}

/// `not_found` for a group of which every entry is later than the moment.
pub(super) fn not_yet(wanted: &GroupMoment, at: Timestamp) -> ApiError {
    let group = wanted.group.group.as_str();
    ApiError::not_found(format!("Nothing is known of group {group:?} as of {at}: all its entries are later."))
}
