//! The two listeners. The public one takes callbacks and nothing else; the internal one serves the mirror.
//!
//! Rows become views here and nowhere else. Handlers receive everything by state; nothing here begins a transaction.

pub mod api;
pub mod auth;
pub mod callback;
pub mod changes;
pub mod counting;
pub mod docs;
pub mod error;
pub mod feed;
pub mod groups;
pub mod health;
pub mod history;
mod listen;
pub mod members;
mod openapi;
mod page;
mod query;
pub mod stats;
mod time;
pub mod topics;

pub use listen::{API_CONNECTIONS_MAX, CALLBACK_CONNECTIONS_MAX, DESCRIPTORS, DRAIN_WAIT_MAX, serve};
