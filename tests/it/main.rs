//! The one integration binary: the real service on port 0 against a real PostgreSQL.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]
#![expect(clippy::disallowed_methods, reason = "tests have clocks and settings of their own")]

mod support;

mod bad_reads;
mod callbacks;
mod cases;
mod chaos;
mod config;
mod crash;
mod deadlock;
mod disk_full;
mod feed;
mod fuzz;
mod history;
mod laws;
mod openapi;
mod past;
mod plans;
mod process;
mod reads;
mod receipts;
mod refusals;
mod replay;
mod replicas;
mod samples;
mod schema;
mod spool;
mod state_twin;
mod tidy;
mod told;
mod topics_stats;
mod views;
