//! What each error code of Tencent asks for: the one table of reactions.
//!
//! A code that is not in it is tried again and then counts as unknown, and unknown is a verdict too: it changes nothing in
//! the mirror. The codes are those of 1047/34348 and of the pages of the commands.

use strum::{IntoStaticStr, VariantArray};

use super::commands::ReadCommand;

/// What a code asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum CodeClass {
    /// The group does not exist: a candidate, to be asked for once more after a minute.
    Gone,
    /// The topic does not exist.
    TopicGone,
    /// Not for this type of group, or not in this edition: no verdict about the group, not asked again in this pass.
    Unsupported,
    /// The answer would be too large: ask for less at once.
    TooMuch,
    /// Over a rate limit: go slower.
    Rate,
    /// A passing fault: try again after a pause.
    Again,
    /// The signature is not accepted: make a new one, once.
    Signature,
    /// Nothing will succeed before a person acts: no further calls.
    Stop,
    /// Too many bad signatures: one minute of silence.
    Wait,
    /// The request is wrong: a fault of this program, reported once.
    Bug,
    /// An answer about this request alone that no reaction is known for; not tried again.
    Refused,
}

/// The class of a code that is not 0. 10015 says that a group is gone in an answer of `get_group_info` alone; elsewhere it
/// is documented with other meanings.
#[must_use]
pub fn class(code: i64, command: ReadCommand) -> CodeClass {
    match code {
        10010 => CodeClass::Gone,
        10015 if command == ReadCommand::GroupInfo => CodeClass::Gone,
        110_002 | 110_003 => CodeClass::TopicGone,
        10007 | 10059 | 11000 => CodeClass::Unsupported,
        10005 | 10018 | 10054 => CodeClass::TooMuch,
        10006 | 10049 | 60007 | 60011 | 60018 | 60019 => CodeClass::Rate,
        10001 | 10008 | 60004 | 60005 | 70001 => CodeClass::Signature,
        10026 | 60006 | 60010 | 60012 | 60016 | 60017 | 60020 | 60021 | 70002 | 70003 | 70005 | 70009
        | 70013 | 70014 | 70016 | 70020 | 70051 | 70402 | 70403 => CodeClass::Stop,
        70050 => CodeClass::Wait,
        10003 | 10004 | 10011 | 60002 | 60003 | 60009 | 60015 => CodeClass::Bug,
        10009
        | 10012..=10017
        | 10019
        | 10021
        | 10023..=10025
        | 10036..=10038
        | 10045..=10048
        | 10050
        | 10056
        | 10058
        | 10060..=10063
        | 70101
        | 70107
        | 70114
        | 70206
        | 70398
        | 72000
        | 72001
        | 80001..=80004
        | 93000
        | 110_006..=110_014 => CodeClass::Refused,
        // 10002, 60008, 60013, 60014, 70169, 70202, 70500, 90992, 90994, 90995, 91000, and what was never seen.
        _ => CodeClass::Again,
    }
}

/// True for a rate code that counts all calls of the app and not those of one command.
#[must_use]
pub(super) fn is_rate_of_app(code: i64) -> bool {
    code == 60011
}

/// The code of Tencent's own time-out: twice in a row it means that too much was asked for.
pub(super) const SERVER_TIMEOUT: i64 = 60008;
