//! The pure core of the service, built alone: neither runtime nor database is instrumented, so that a build takes
//! seconds and a run tries tens of thousands of inputs a second.

#[path = "../../src"]
mod pure {
    pub mod callback;
    pub(crate) mod json;
    pub mod mirror;
    pub mod model;

    /// What answers of Tencent's REST API say; the client stays out.
    pub mod tencent {
        pub mod answers;
        pub mod canonical;
        pub mod details;
        mod fields;
        pub mod groups;
        pub mod members;
    }
}

pub(crate) use pure::json;
pub use pure::{callback, mirror, model, tencent};

use callback::Received;
use model::{Millis, SdkAppId};

/// The one app of all inputs.
pub const APP: &str = "1400000001";

/// 2033: later than every time in the samples.
pub const RECEIVED_MS: i64 = 2_000_000_000_000;

/// A body as it would come in.
pub fn received(body: &[u8], query_command: Option<String>, received_ms: i64) -> Received {
    Received { query_command, ..Received::bare(SdkAppId::parse(APP).expect("digits"), Millis::new(received_ms), body.to_vec()) }
}
