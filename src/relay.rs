//! The relay: passes authentic callbacks on to the backend that stands behind the mirror.
//!
//! Tencent knows one callback URL per app, so a team that has a backend already can run the mirror only in front of it.
//! What is passed on keeps its bytes: body, query string and content type. The client of the backend stands in `target`,
//! with what happens to each header in `headers`; `address` reads `RELAY_URL`; `loop_guard` notices mirrors that relay to
//! each other. Nothing here knows a database or writes to a disk.

mod address;
mod headers;
mod loop_guard;
mod target;

pub use address::{BackendAddress, BackendAddressError};
pub use headers::RelayRequest;
pub use loop_guard::{LoopGuard, LoopSighting};
pub use target::{ANSWER_BYTES_MAX, BackendFault, RelayAnswer, RelayTarget};
