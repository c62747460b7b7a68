//! A sender of callbacks, as Tencent is one: signed, in parallel, late, reversed and more than once, as asked for.
//!
//! `events` makes up what happens, `sender` sends it to a running mirror, `verify` reads the mirror back and compares it
//! with the fold of what was sent, by the same pure code that the service uses. Knows the mirror only by its HTTP
//! surface, and by SQL where it is given a database. The seed repeats what happens, not when answers come.

mod events;
mod plan;
mod sender;
mod verify;

pub use plan::{ANSWER_WAIT_MAX, CALLBACKS_MAX, Plan};
pub use sender::{Sent, Tally, send};
pub use verify::{Findings, verify};
