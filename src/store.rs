//! The database: pools, the one place that begins a transaction, the schema, and every SQL statement of the program.
//!
//! Statements stand in the files below this one, one file per group of tables. Each function takes the connection it
//! works on and never commits: callers compose, callers commit. Knows nothing of HTTP, and of Tencent only what the types
//! of `callback` and `mirror` hold.

mod entry;
pub mod errors;
pub mod feed;
pub mod groups;
pub mod history;
pub mod ledger;
pub mod lines;
pub mod members;
mod pools;
pub mod rebuild;
pub mod schema;
pub mod stats;
pub mod topics;
mod transaction;
pub mod upsert;

pub use errors::StoreError;
pub use pools::{Database, READ_SECS_MAX};
pub use transaction::Tx;
