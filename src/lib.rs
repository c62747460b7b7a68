//! A PostgreSQL mirror of Tencent Cloud Chat groups, fed by group callbacks.
//!
//! ```text
//! bytes ──▶ Callback ──▶ Fact ──▶ Row ──▶ View ──▶ bytes
//!         what Tencent  what is   what is  what a
//!         says          claimed,  stored   reader
//!                       stamped            gets
//! ```
//!
//! A type never travels backwards, and each arrow has one owner: [`callback`] (bytes → callback), [`mirror`]
//! (callback → facts → rows, and who wins), [`store`] (rows ↔ tables), [`http`] (rows → views → bytes). They meet in
//! one transaction, in [`ingest`]. Replay enters as bytes, from the ledger; it has no private road to the tables.
//!
//! Imports point one way: `model` ← `callback` ← `mirror` ← `store` ← `ingest` ← `http` ← `app`. The first three are
//! pure: no runtime, no database, no clock. `tests/it/tidy.rs` reads the sources and checks this.
//!
//! What is deliberately absent:
//!
//! 1. An OK that leaves before the bytes of an authentic callback in scope are committed, or, while PostgreSQL does not
//!    commit in time, synced to the spool.
//! 2. An authentic callback that is dropped: it is applied, a duplicate, parked, or on the closed list in
//!    [`callback::scope`], which is counted.
//! 3. A second place that decides which of two facts is newer: there is `Register::set` in `mirror/fold.rs`, and its
//!    twin, a bare `>`, in the upserts of [`store::rows`].
//! 4. A mirror row without its ledger row. The tables are a fold of the ledger and can be rebuilt from it.
//! 5. A deleted row. What ended keeps its stamps, or a late callback would bring it back.
//! 6. A function of [`store`] that commits. Callers compose, callers commit.
//! 7. A thing without a limit: every queue, batch, body, page, retry and wait has a named maximum.

pub mod model;

pub mod callback;
pub mod mirror;

pub mod store;

pub mod ingest;

pub mod http;

pub mod app;
pub mod cli;
pub mod config;
pub mod embedded;
pub mod simulate;
pub mod telemetry;
