//! The database: connection pools, the one place that begins a writing transaction, the schema, and every SQL statement of
//! the program.
//!
//! `url` → `session` → `pools` make connections, `unusable` and `errors` say why there is none; `schema` and `rights`
//! compare the database with what the program needs. Statements stand in the other files, one per group of tables. Each
//! of their functions takes the connection it works on and never commits, so that callers compose several into one
//! transaction. Knows nothing of HTTP, and of Tencent only what the types of `callback` and `mirror` hold.

pub mod app_history;
pub mod checkpoints;
mod citus;
pub mod condition;
pub mod drift_totals;
mod entry;
mod entry_door;
pub mod erased_columns;
pub mod erased_entries;
pub mod erasures;
pub mod errors;
pub mod evidence;
pub mod feed;
pub mod freshness;
pub mod gaps;
mod given_up;
mod group_filter;
mod group_hash;
pub mod group_list;
mod group_names;
mod group_order;
pub mod groups;
pub mod held;
pub mod high_watermark;
pub mod history;
mod hosts;
pub mod lease;
pub mod ledger;
mod ledger_pages;
pub mod ledger_walk;
pub mod lines;
pub mod member_list;
pub mod members;
pub mod moments;
mod moves;
pub mod outbox;
pub mod outbox_report;
mod own_session;
pub mod page;
pub mod parked;
pub mod partitions;
pub mod pass_note;
pub mod passes;
pub mod past;
pub mod past_copy;
pub mod people;
mod pools;
mod probe;
pub mod prune;
mod query_columns;
mod read_pool;
pub mod rebuild;
pub mod replica_marks;
pub mod rights;
pub mod same_reads;
pub mod schema;
pub mod search;
mod session;
pub mod shards;
pub mod sights;
mod standby;
mod standby_watch;
pub mod stats;
pub mod timeline;
pub mod topics;
mod transaction;
pub mod unusable;
pub mod upsert;
mod url;
pub mod verifications;
pub mod wall;
pub mod work;
mod writers;

pub use citus::Dialect;
pub use errors::StoreError;
pub use own_session::OwnSession;
pub use pools::{Database, FEED_CONNECTIONS_MAX, READER_CONNECTIONS_MAX, SERVICE_CONNECTIONS_MAX};
pub use probe::GiveUpTurn;
pub use read_pool::{READ_WAIT_MAX, ReadConnection, ReadPool, STALL_WAIT_MAX, in_time};
pub use session::{READ_SECS_MAX, SESSION_LOCK_MAX};
pub use standby::StandbyReads;
pub use standby_watch::KnownPrimary;
pub use transaction::{ReadTx, Tx};
