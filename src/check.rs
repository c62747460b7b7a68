//! What the `check` command looks at: each thing as one line with a level, what was found, and a remedy.
//!
//! A set-up that is wrong looks like one that works until callbacks are missed, so everything that the service relies on
//! can be looked at beforehand and beside a running `serve`, without disturbing it. The files below look at one thing
//! each and decide nothing else; [`crate::app`] runs them in turn and prints. Nothing here changes a table, and no line
//! holds a secret or an address with a UserSig, nor an id of a user or group but the account of `TENCENT_ADMIN`.

pub mod callbacks;
pub mod data_dir;
pub mod database;
mod line;
pub mod listeners;
mod own_client;
pub mod probe;
mod probe_details;
mod probe_groups;
mod probe_ids;
mod probe_members;
mod probing;
pub mod pruning;
pub mod read_database;
pub mod relay_target;
pub mod remedies;
pub mod service;
pub mod spool_state;
pub mod tencent_calls;
pub mod waiting;

pub use line::{CheckLevel, CheckLine, CheckSubject};
pub use own_client::OwnListener;
pub use probing::{CALLS_MAX, ProbeAnswer, ProbeQuestion};
