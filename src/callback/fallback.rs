//! The fallback of a command that waits: what Tencent gets where the backend behind the mirror does not answer in time.
//!
//! Tencent lets the user's action pass where it gets no answer, unless the console says otherwise, so [`Fallback::Fail`]
//! changes nothing for an app that puts the mirror in front of its backend. It is set per command, because letting a
//! message pass unchecked and letting a group be created unchecked are different decisions. Only rules stand here: who
//! waits for whom is decided by the caller.

use std::collections::BTreeMap;

/// What a "before" callback gets without an answer of the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fallback {
    /// The action passes.
    Allow,
    /// The action is refused.
    Refuse,
    /// No verdict: 503, and Tencent's own policy decides.
    #[default]
    Fail,
}

impl Fallback {
    /// By its word in a setting.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "allow" => Some(Self::Allow),
            "refuse" => Some(Self::Refuse),
            "fail" => Some(Self::Fail),
            _ => None,
        }
    }
}

/// The fallback of every command.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FallbackRules {
    /// Of commands that have none of their own.
    pub usual: Fallback,
    /// Of single commands, such as `Group.CallbackBeforeSendMsg`.
    pub by_command: BTreeMap<String, Fallback>,
}

impl FallbackRules {
    /// The fallback of a command as Tencent writes it.
    #[must_use]
    pub fn of(&self, command: &str) -> Fallback {
        self.by_command.get(command).copied().unwrap_or(self.usual)
    }
}
