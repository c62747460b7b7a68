//! Tencent's REST API: what its answers say.
//!
//! Tencent's spelling of answers stays below this module. [`answers`] reads the envelope, [`groups`], [`members`] and
//! [`details`] what is inside; all of them are pure, bytes in and typed answers out, so that an answer that was stored is
//! read in the same way again. What an answer means for the mirror is not decided here.
//!
//! The facts behind it, each with its page and how sure it is: `docs/tencent.md`.

pub mod answers;
pub mod canonical;
pub mod details;
mod fields;
pub mod groups;
pub mod members;

pub use fields::{UNREAD_NAMED_MAX, UnreadPart, UnreadParts};
