//! A sender of callbacks that behaves as Tencent does: signed, over parallel connections, late, reversed and repeated, as
//! asked for.
//!
//! `events` generates what happens, or `demo` has a story with human names; `sender` sends it to a running mirror, `verify`
//! reads the mirror back and compares it with the fold of what was sent, by the same pure code that the service uses. The
//! mirror is reached by its HTTP surface alone, and by SQL where a database is given. The seed repeats the events, not the
//! times of the answers.

mod demo;
mod demo_clubs;
mod demo_life;
mod demo_scenes;
mod demo_story;
mod events;
mod plan;
mod sender;
mod verify;

pub use demo::{DEMO_PARKED, demo_before_the_removals, demo_begin};
pub use demo_clubs::DEMO_FIRST_GROUP;
pub use plan::{ANSWER_WAIT_MAX, CALLBACKS_MAX, Plan};
pub use sender::{Sent, Tally, send, send_demo};
pub use verify::{Findings, known_demo, verify};
