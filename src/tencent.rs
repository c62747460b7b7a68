//! Tencent's REST API: how it is called, and what its answers say.
//!
//! Tencent's spelling of requests and answers stays below this module. [`answers`] reads the envelope, [`groups`],
//! [`members`] and [`details`] what is inside; these are pure, bytes in and typed answers out, so that an answer that was
//! stored is read in the same way again. [`client`] asks: `calls` is the loop of one call (rate limiter, signature,
//! exchange, repetition), [`codes`] the table of what each error code asks for, [`usersig`] the signature, `transport` the
//! only file that sees an address. What an answer means for the mirror is not decided here.
//!
//! The facts behind it, each with its page and how sure it is: `docs/tencent.md`.

pub mod answers;
mod call_error;
mod calls;
pub mod canonical;
pub mod client;
pub mod codes;
pub mod commands;
pub mod details;
mod fields;
pub mod groups;
pub mod members;
pub mod rate;
pub mod retry;
mod session;
mod transport;
pub mod usersig;

pub use call_error::CallError;
pub use calls::{CLOCK_MARGIN_MS, ClientSettings, Reply};
pub use fields::{UNREAD_NAMED_MAX, UnreadPart, UnreadParts};
pub use session::{SIG_LIFE_SECS, SIG_RENEWAL_SECS};
pub use transport::{ANSWER_BYTES_MAX, AddressError, AnswerHead, CALL_TIMEOUT, ExchangeFault};
