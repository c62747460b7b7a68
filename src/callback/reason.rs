//! Why a callback, or a part of one, cannot be read: a cause out of a closed list, and the input that shows it.
//!
//! The cause has a stable label for counters and filters, so that dead letters can be counted, listed and retried by
//! cause. The text quotes what was sent: it belongs in the ledger and in the answer to the sender, never in a log.

use std::collections::BTreeSet;
use std::fmt;

use strum::{IntoStaticStr, VariantArray};

use crate::model::ModelError;

/// How many reasons of one callback are kept with their text; more are counted. A list can have 30,000 bad entries.
pub const SKIPS_LISTED_MAX: usize = 16;

/// How much of an input is quoted, in characters.
const QUOTED_MAX: usize = 160;

/// What kind of fault it is. The label is the variant's name in `snake_case`; it is stored, so it never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum ReasonCause {
    /// The body is no JSON, even with its strings repaired.
    NotJson,
    /// It is JSON, but no object.
    NotAnObject,
    /// Neither body nor query names a command.
    NoCommand,
    /// A group command that the catalogue does not have.
    UnknownCommand,
    /// Query and body name different commands.
    CommandMismatch,
    /// No group is named.
    NoGroup,
    /// The group's id cannot be read.
    BadGroupId,
    /// One body names topics of several groups.
    SeveralGroups,
    /// The event time is no time in milliseconds since 2010.
    BadTime,
    /// The event time lies too far ahead of the receipt.
    FutureTime,
    /// A field is missing without which nothing is said.
    MissingField,
    /// A field is of another JSON type.
    WrongType,
    /// An id is empty or too long.
    BadId,
    /// The key of a field is too long.
    BadKey,
    /// An id or key is not valid Unicode; a repair could make two of them one.
    NotUnicode,
    /// A role that no member can be given.
    UnknownRole,
    /// The database refuses the data.
    RefusedByDatabase,
}

impl ReasonCause {
    /// The label for counters, filters and the ledger.
    #[must_use]
    pub fn label(self) -> &'static str {
        self.into()
    }

    /// The cause of a label.
    #[must_use]
    pub fn of_label(label: &str) -> Option<Self> {
        Self::VARIANTS.iter().copied().find(|cause| cause.label() == label)
    }
}

/// Why something cannot be read; `Display` is the text for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// What kind of fault it is.
    pub cause: ReasonCause,
    /// The field of the body, or what else the fault is in.
    field: &'static str,
    /// The list, and the number of the entry in it, from 1.
    entry: Option<(&'static str, usize)>,
    /// What was sent, or what is wrong with it.
    input: String,
}

impl Reason {
    /// A fault in a field, with the input that shows it.
    #[must_use]
    pub fn new(cause: ReasonCause, field: &'static str, input: impl Into<String>) -> Self {
        let input: String = input.into();
        let input = match input.char_indices().nth(QUOTED_MAX) {
            Some((end, _)) => format!("{}…", &input[..end]),
            None => input,
        };
        Self { cause, field, entry: None, input }
    }

    /// The fault is in an entry of a list, counted from 0.
    pub(super) fn in_entry(self, list: &'static str, index: usize) -> Self {
        Self { entry: Some((list, index + 1)), ..self }
    }

    /// The database refuses the data. `what` is one of a closed list of texts, never the server's words: those can quote
    /// rows, and this text is shown to readers and to the sender.
    #[must_use]
    pub fn refused(what: &'static str) -> Self {
        Self::new(ReasonCause::RefusedByDatabase, "", what)
    }

    /// What is wrong, without the field.
    pub(super) fn detail(&self) -> String {
        match self.cause {
            ReasonCause::NotUnicode => format!("{:?} is not valid Unicode", self.input),
            ReasonCause::WrongType => format!("{} is no text", self.input),
            _ => self.input.clone(),
        }
    }

    pub(super) fn missing(field: &'static str) -> Self {
        Self::new(ReasonCause::MissingField, field, "")
    }

    pub(super) fn wrong_type(field: &'static str, input: &[u8]) -> Self {
        // Cut first: a body is up to a mebibyte.
        let start = &input[..input.len().min(4 * QUOTED_MAX)];
        Self::new(ReasonCause::WrongType, field, String::from_utf8_lossy(start))
    }

    pub(super) fn bad_id(field: &'static str, error: &ModelError) -> Self {
        Self::new(ReasonCause::BadId, field, error.to_string())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cause, field, entry, input } = self;
        let place = match entry {
            Some((list, number)) => &format!("entry {number} of {list}"),
            None => *field,
        };
        match cause {
            ReasonCause::NotJson => write!(f, "the body is no JSON: {input}"),
            ReasonCause::NotAnObject => f.write_str("the body is JSON, but no object"),
            ReasonCause::NoCommand => f.write_str("neither body nor query has a CallbackCommand"),
            ReasonCause::UnknownCommand => {
                write!(f, "{input:?} is not in the catalogue of group commands")
            }
            ReasonCause::CommandMismatch => {
                write!(f, "the query says CallbackCommand={input:?}, the body says another; they must agree")
            }
            ReasonCause::NoGroup => f.write_str("the body has no GroupId"),
            ReasonCause::BadGroupId => write!(f, "{place} names no group: {input}"),
            ReasonCause::SeveralGroups => {
                write!(f, "{field} names topics of several groups; one body speaks of one group")
            }
            ReasonCause::BadTime | ReasonCause::FutureTime => f.write_str(input),
            ReasonCause::MissingField => {
                write!(f, "{} has no {field}", if entry.is_some() { place } else { "the body" })
            }
            ReasonCause::WrongType => write!(f, "{place} is of another JSON type: {input}"),
            ReasonCause::BadId | ReasonCause::BadKey => write!(f, "in {place}: {input}"),
            ReasonCause::NotUnicode => {
                write!(f, "in {place}: {input:?} is not valid Unicode; ids and keys are not repaired")
            }
            ReasonCause::UnknownRole => {
                write!(f, "{field} is {input:?}; a member's role changes to Admin or Member")
            }
            ReasonCause::RefusedByDatabase => write!(f, "the database refuses it: {input}"),
        }
    }
}

/// What was skipped of a callback whose rest is applied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Skips {
    listed: Vec<Reason>,
    more: u64,
    causes: BTreeSet<ReasonCause>,
}

impl Skips {
    /// One more part is skipped.
    pub(super) fn add(&mut self, reason: Reason) {
        self.causes.insert(reason.cause);
        if self.listed.len() < SKIPS_LISTED_MAX {
            self.listed.push(reason);
        } else {
            self.more += 1;
        }
    }

    /// True where everything was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }

    /// The causes, each once.
    #[must_use]
    pub fn causes(&self) -> &BTreeSet<ReasonCause> {
        &self.causes
    }
}

impl fmt::Display for Skips {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, reason) in self.listed.iter().enumerate() {
            let separator = if at > 0 { "; " } else { "" };
            write!(f, "{separator}skipped: {reason}")?;
        }
        if self.more > 0 {
            write!(f, "; and {} more", self.more)?;
        }
        Ok(())
    }
}
