//! The catalogue of commands: which change the state of a group, which are out of scope, whose answer decides something,
//! and their labels for counters.
//!
//! What is out of scope is a closed list, so that no callback is dropped by accident: a group command that the catalogue
//! does not have is kept and parked. Catalogue: tencentcloud.com/document/product/1047/34355.

/// Where a command belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Changes the state of a group; kept.
    State,
    /// On the closed list of what the mirror does not keep; the label is for the counter.
    Out(&'static str),
    /// A group command that the catalogue does not have: kept, parked.
    Unknown,
}

/// The command that says that a group was created.
pub const CREATE_COMMAND: &str = "Group.CallbackAfterCreateGroup";

/// The group commands that change state.
pub const STATE_COMMANDS: [&str; 11] = [
    CREATE_COMMAND,
    "Group.CallbackAfterNewMemberJoin",
    "Group.CallbackAfterMemberExit",
    "Group.CallbackAfterGroupDestroyed",
    "Group.CallbackAfterGroupInfoChanged",
    "Group.CallbackAfterMemberFieldChanged",
    "Group.CallbackAfterGroupAttrChanged",
    "Group.CallbackAfterChangeGroupOwner",
    "Group.CallbackAfterCreateTopic",
    "Group.CallbackAfterTopicDestroyed",
    "Group.CallbackAfterTopicInfoChanged",
];

/// The rest of the group catalogue: messages, presence, alarms, and what is asked before something happens.
const OUT_OF_SCOPE: [&str; 13] = [
    "Group.CallbackBeforeCreateGroup",
    "Group.CallbackBeforeApplyJoinGroup",
    "Group.CallbackBeforeInviteJoinGroup",
    "Group.CallbackBeforeSendMsg",
    "Group.CallbackBeforeCreateTopic",
    "Group.CallbackAfterSendMsg",
    "Group.CallbackSendMsgException",
    "Group.CallbackAfterGroupFull",
    "Group.CallbackAfterReadReceipt",
    "Group.CallbackAfterRecallMsg",
    "Group.CallbackAfterGroupMsgExtension",
    "Group.CallbackOnMemberStateChange",
    "Group.CallbackOnDailyGroupQuotaAlarm",
];

/// How the name of each command begins that asks before something happens in a group.
const BEFORE: &str = "Group.CallbackBefore";

/// Known notifications of other families, which come to the same URL: something has happened, Tencent ignores the answer, and
/// the mirror does not keep them. Those of groups are in [`OUT_OF_SCOPE`].
const OTHER_NOTIFICATIONS: [&str; 11] = [
    "C2C.CallbackAfterSendMsg",
    "C2C.CallbackAfterMsgReport",
    "C2C.CallbackAfterMsgWithDraw",
    "State.StateChange",
    "Profile.CallbackPortraitSet",
    "Sns.CallbackFriendAdd",
    "Sns.CallbackFriendDelete",
    "Sns.CallbackBlackListAdd",
    "Sns.CallbackBlackListDelete",
    "ContentCallback.ResultNotify",
    "Alert.RequestOverLimit",
];

/// Who answers a command where a backend stands behind the mirror, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answering {
    /// The mirror, once the callback is durable.
    WhenDurable,
    /// The mirror, at once: a known notification.
    AtOnce,
    /// The backend: its answer decides what happens, or may do so.
    ByBackend,
}

/// Who answers a command where a backend stands behind the mirror. Only what is known to be a notification is answered
/// without the backend: a "before" command of whatever family and name, `Sns.CallbackPrev…` and a command that is not
/// known wait for it.
#[must_use]
pub fn answering(command: &str) -> Answering {
    if STATE_COMMANDS.contains(&command) {
        Answering::WhenDurable
    } else if is_notification(command) {
        Answering::AtOnce
    } else {
        Answering::ByBackend
    }
}

fn is_notification(command: &str) -> bool {
    let is_of_groups = OUT_OF_SCOPE.contains(&command) && !command.starts_with(BEFORE);
    is_of_groups || OTHER_NOTIFICATIONS.contains(&command)
}

/// Where a command belongs. Every "before" command is out of scope, listed or not: there is nothing in it to keep, and
/// without a backend the answer to it must let the user's action pass. Other families (`State.`, `C2C.`, `Sns.` …) share one label, so that a sender cannot grow
/// the set of labels.
#[must_use]
pub fn scope(command: &str) -> Scope {
    if STATE_COMMANDS.contains(&command) {
        return Scope::State;
    }
    if let Some(label) = OUT_OF_SCOPE.into_iter().find(|known| *known == command) {
        return Scope::Out(label);
    }
    if command.starts_with(BEFORE) {
        Scope::Out("Group.CallbackBefore…")
    } else if command.starts_with("Group.") || command.is_empty() {
        Scope::Unknown
    } else {
        Scope::Out("other family")
    }
}

/// The label of a command for counters: from a closed set, whatever is sent.
#[must_use]
pub fn command_label(command: &str) -> &'static str {
    match scope(command) {
        Scope::State => STATE_COMMANDS.into_iter().find(|known| *known == command).unwrap_or("unknown"),
        Scope::Out(label) => label,
        Scope::Unknown => "unknown",
    }
}
