//! Why a call of Tencent's REST API brought no answer, and what that asks for.
//!
//! The texts are for logs and for people who run a command, so no variant holds an address or a UserSig: the query string of a
//! call has both.

use thiserror::Error;

use super::answers::{AnswerError, ApiCode};
use super::codes::CodeClass;
use super::transport::ExchangeFault;

/// Why a call brought no answer. No variant holds an address or a UserSig.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CallError {
    /// A code that is not tried again, or not any more.
    #[error("{command}: {code}")]
    Code {
        /// The command.
        command: &'static str,
        /// The code.
        code: ApiCode,
        /// What it asks for.
        class: CodeClass,
    },
    /// An answer that says nothing.
    #[error("{command}: {error}")]
    Unreadable {
        /// The command.
        command: &'static str,
        /// What is wrong with it.
        error: AnswerError,
    },
    /// No answer, also after repetitions.
    #[error("{command}: {fault}")]
    Exchange {
        /// The command.
        command: &'static str,
        /// What the last attempt ended with.
        fault: ExchangeFault,
    },
    /// The client has halted, because of this code.
    #[error("no calls are made: {0}")]
    Halted(ApiCode),
    /// The caller's stop came first.
    #[error("stopped")]
    Cancelled,
}

impl CallError {
    /// What it asks for, where that is known; an answer over our own limit is too much as well.
    #[must_use]
    pub fn class(&self) -> Option<CodeClass> {
        match self {
            Self::Code { class, .. } => Some(*class),
            Self::Exchange { fault: ExchangeFault::TooLarge, .. } => Some(CodeClass::TooMuch),
            Self::Halted(_) => Some(CodeClass::Stop),
            Self::Unreadable { .. } | Self::Exchange { .. } | Self::Cancelled => None,
        }
    }
}
