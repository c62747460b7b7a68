//! The composition root: one file per command, and what several commands share.
//!
//! The only place that knows all others. A test starts the same service on port 0 by [`start()`].

mod announce;
mod backends;
mod check;
mod check_apps;
mod check_report;
mod connection_limits;
mod counters;
mod database;
mod deliveries;
mod erase_user;
mod fake_tencent;
mod first_way;
mod gap_keeper;
mod gauges;
mod known_database;
mod listeners_tls;
mod manual;
mod migrate;
mod openapi;
mod outbox_number;
mod pages;
mod partition_keeper;
mod passes;
mod prune;
mod ready;
mod receipt_mark;
mod receiving;
mod relay;
mod replay;
mod schema_watch;
mod serve;
mod sign;
mod sign_verdict;
mod signals;
mod simulate;
mod standby_watch;
mod start;
mod version;

pub use check::{CheckedFiles, check};
pub use erase_user::erase_user;
pub use fake_tencent::fake_tencent;
pub use manual::{completions, man};
pub use migrate::migrate;
pub use openapi::openapi;
pub use passes::{backfill, reconcile};
pub use prune::prune;
pub use ready::ready;
pub use relay::relay;
pub use replay::{ReplayWanted, replay};
pub use serve::serve;
pub use sign::sign;
pub use simulate::simulate;
pub use start::{RunningService, bind, start};
pub use version::version;
