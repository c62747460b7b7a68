//! By what callbacks are set aside: the narrowest thing that explains why one failed.
//!
//! A key is chosen from the failure of a statement. A callback has one of each kind, and is set aside while any of them is.

use std::fmt;

use crate::callback::Callback;
use crate::model::{Digest, Millis, SdkAppId};
use crate::store::errors::Failure;

/// What is set aside.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum AsideKey {
    /// Every callback of a group: a row of it is locked.
    Group(SdkAppId, String),
    /// The callbacks of a group with one command: a table that only some commands write refuses.
    Command(SdkAppId, String, String),
    /// The callbacks of all groups with one command: a table that they write is locked or refuses as a whole.
    Everywhere(SdkAppId, String),
    /// One callback: it can be neither applied nor parked, it ends the session that applies it or takes longer than a batch
    /// may, or its first receipt is being corrected.
    Callback(SdkAppId, String, Millis, Digest),
    /// The callbacks of all groups in a shard, one of so many: the server that holds it is away.
    Shard(usize, usize),
}

fn group_of(callback: &Callback) -> (SdkAppId, String) {
    let group = callback.group.as_ref().map_or("", |group| group.as_str());
    (callback.received.app, group.to_owned())
}

/// For log lines.
impl fmt::Display for AsideKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group(_, group) => write!(f, "group {group:?}"),
            Self::Command(_, group, command) => write!(f, "{command} of group {group:?}"),
            Self::Everywhere(_, command) => write!(f, "{command} of all groups"),
            Self::Callback(_, group, time, _) => {
                write!(f, "one callback of group {group:?}, time {}", time.get())
            }
            Self::Shard(shard, count) => write!(f, "shard {} of {count}", shard + 1),
        }
    }
}

impl AsideKey {
    /// The callbacks of a group with one command.
    fn command(callback: &Callback) -> Self {
        let (app, group) = group_of(callback);
        Self::Command(app, group, callback.command.clone())
    }

    /// One callback.
    pub(super) fn callback(callback: &Callback) -> Self {
        let (app, group) = group_of(callback);
        Self::Callback(app, group, callback.time, callback.digest)
    }

    /// What a callback that failed alone, in this way, says to be set aside.
    pub(super) fn of(callback: &Callback, failure: Failure) -> Self {
        match failure {
            Failure::Data => Self::callback(callback),
            Failure::Refused | Failure::Unavailable => Self::command(callback),
            Failure::TimedOut | Failure::Retry | Failure::Stale => {
                let (app, group) = group_of(callback);
                Self::Group(app, group)
            }
        }
    }

    pub(super) fn everywhere(callback: &Callback) -> Self {
        Self::Everywhere(callback.received.app, callback.command.clone())
    }

    /// None: it is about all apps.
    pub(super) fn app(&self) -> Option<SdkAppId> {
        match self {
            Self::Group(app, _)
            | Self::Command(app, ..)
            | Self::Everywhere(app, _)
            | Self::Callback(app, ..) => Some(*app),
            Self::Shard(..) => None,
        }
    }

    /// None: it is about all groups.
    pub(super) fn group(&self) -> Option<&str> {
        match self {
            Self::Group(_, group) | Self::Command(_, group, _) | Self::Callback(_, group, ..) => Some(group),
            Self::Everywhere(..) | Self::Shard(..) => None,
        }
    }

    /// True where a success of one callback shows that others with the key can succeed.
    pub(super) fn ends_with_one(&self) -> bool {
        matches!(self, Self::Everywhere(..) | Self::Shard(..))
    }

    /// Every key that a callback has, but for its shard.
    pub(super) fn all_of(callback: &Callback) -> [Self; 4] {
        let (app, group) = group_of(callback);
        let command = Self::command(callback);
        [Self::Group(app, group), command, Self::everywhere(callback), Self::callback(callback)]
    }
}
