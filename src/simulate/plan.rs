//! What to send, where, and how: the checked arguments of a run.
//!
//! The same plan gives the same events in the same schedule; the times of the answers are not part of it.

use std::time::Duration;

use crate::callback::signature::Token;
use crate::model::{Millis, SdkAppId};

/// How long an answer may take: as long as Tencent waits.
pub const ANSWER_WAIT_MAX: Duration = Duration::from_secs(2);

/// The most callbacks of one run. All of them are kept in memory, about 500 bytes each.
pub const CALLBACKS_MAX: u64 = 2_000_000;

/// What to send, and where.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The callback listener, such as `http://127.0.0.1:8080` or `https://mirror.example.org/callback`.
    pub callback_url: String,
    /// The app.
    pub app: SdkAppId,
    /// The token to sign with; none: unsigned.
    pub token: Option<Token>,
    /// How many callbacks, without repeats.
    pub callbacks: u64,
    /// How many a second; 0: each connection sends as soon as it has an answer.
    pub rate: u32,
    /// How many connections at once.
    pub connections: u16,
    /// How many groups.
    pub groups: u32,
    /// How many users there are.
    pub users: u32,
    /// The share that is sent twice, 0 to 1.
    pub duplicates: f64,
    /// The share that is delayed by up to `delay`, 0 to 1, so that others overtake it.
    pub disorder: f64,
    /// The longest delay.
    pub delay: Duration,
    /// The share of callbacks that change membership, 0 to 1; the rest are of all other commands.
    pub membership: f64,
    /// The same seed gives the same events.
    pub seed: u64,
    /// The beginning of every group id, so that runs use different groups.
    pub run: String,
    /// Event times begin here.
    pub begin: Millis,
}
