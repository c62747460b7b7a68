//! A PostgreSQL mirror of Tencent Cloud Chat groups, fed by group callbacks.
//!
//! ```text
//! bytes ──▶ Callback ──▶ Fact ──▶ Row ──▶ View ──▶ bytes
//!         what Tencent  claimed,  stored   what a
//!         says          stamped            reader
//!                                          gets
//! ```
//!
//! A type never travels backwards, and each arrow has one owner: [`callback`] (bytes → callback), [`mirror`]
//! (callback → facts → rows, and who wins), [`store`] (rows ↔ tables), [`api`] (rows → views → bytes).
//!
//! | To change | Go to |
//! |---|---|
//! | a field in a callback body | `callback/wire.rs`, then `callback/events.rs` |
//! | why a callback is parked, or a part of it skipped | `callback/reason.rs` |
//! | what a callback or a REST answer implies; which value wins; a column of the mirror | [`mirror`], `mirror/tables.rs` |
//! | a statement, a pool, an SQLSTATE | [`store`]; a filter of the group list, and what it costs: `store/group_filter.rs`, `store/group_list.rs` with `api/groups.rs` |
//! | whom an entry is about, and the history of a person | `mirror/people.rs`, `store/people.rs`, `store/app_history.rs` |
//! | how a REST answer enters ledger and mirror | `mirror/snapshot.rs`, `ingest/snapshots.rs`, `store/held.rs` |
//! | how fresh a group is, what a difference means, when a gap is closed | `store/verifications.rs`, `mirror/drift_class.rs`, `store/gaps.rs` |
//! | how a callback becomes durable (lanes, THE transaction, circuit breaker, drain) | [`ingest`] |
//! | the durable local queue for the time when PostgreSQL does not commit | [`spool`] |
//! | what is kept of answered callbacks, and when it is sent again | `spool/kept.rs`, `ingest/keeping.rs`, `ingest/mark_watch.rs`, `store/replica_marks.rs` |
//! | how a stored callback gets to the backend behind the mirror: order, retries, replicas | [`outbox`], `store/outbox.rs` |
//! | folding the ledger again: verify, rebuild, unpark, as of a moment, over time | [`replay`] |
//! | erasing a person: what stands in the place of an id, and where | [`retention`], `callback/pseudonyms.rs`, `store/erased_columns.rs`; what comes late: `mirror/erasures.rs`, `store/erasures.rs` |
//! | the public listener: answers to Tencent, why a request is refused | [`receiver`], `callback/signature.rs` |
//! | the internal listener: a resource, a filter, the feed, health | [`api`], one file each |
//! | a page for people: its frame, a word in three languages, a time zone, a style | [`console`], one file each; `console/lang`, `assets/console` |
//! | what is passed on to an existing backend, and how its answers come back | [`relay`] |
//! | a command or an error code of Tencent's REST API | [`tencent`], beside [`callback`] |
//! | how bytes become JSON, and what is repaired | `json.rs` |
//! | how a group is read from Tencent, and what such a read may claim | [`reconcile`] |
//! | a Tencent to try things out with: how it behaves, a knob | [`fake`] |
//! | what is counted and reported of requests that are not taken | [`refusals`] |
//! | what this process did in the last hour, minute by minute | [`traffic`] |
//! | a span, what is sampled, how it is exported | [`traces`] |
//! | connections, their limits, their end at a stop | [`server`] |
//! | which files are opened, and whose they must be | [`files`] |
//! | what `check` looks at, and what it asks of the real Tencent | [`check`] |
//! | a command, a setting | [`app`], [`cli`], [`config`]; one that each app has of its own: `config/apps.rs` |
//!
//! Imports point one way: `model` ← `callback` ← `mirror` ← `store` ← `replay` ← `ingest` ← `receiver`, `api` ← `console` ← `app`;
//! `retention` stands above `replay`, `outbox` between `relay`, `spool`, `store` and `ingest`, `reconcile` above `ingest`, `spool` beside `store`,
//! `refusals`, `traces`, `traffic`, `tencent` and `relay` beside `callback`. `callback` and `mirror` are pure: no runtime, no
//! database, no clock. A test reads the sources and checks this, circles included.
//!
//! Invariants:
//!
//! 1. No OK leaves before the bytes of an authentic callback in scope are committed, or, while PostgreSQL does not commit
//!    in time, synced to the spool.
//! 2. No authentic callback is dropped: it is applied, applied in part, a duplicate, parked, or on the closed list in
//!    [`callback::scope`], which is counted. One that can be made durable nowhere is answered with 503 and counted as lost.
//! 3. One rule decides what is newer: `Register::set` in `mirror/register.rs`, and its twin, a bare `>`, in the upserts
//!    of [`store::upsert`]. What lists of members say is merged in Rust alone, under the lock of the group ([`store::held`]).
//! 4. No mirror row without its ledger entry, or the checkpoint that took the entry's place. The tables are a fold of both, and
//!    [`replay`] proves or restores it.
//! 5. A callback never deletes a mirror row: what ended keeps its stamps, or a late callback would revive it. Rows are
//!    deleted by replay alone, which writes what the ledger says in their place, and parked ledger entries by
//!    `replay --parked`, where another entry says the same.
//! 6. Every transaction that changes the mirror begins in [`store::Database::begin_within`], and no function that works on
//!    its connection commits: callers compose, callers commit. The probe of the circuit breaker commits, and leaves nothing.
//! 7. Every queue, batch, body, page, retry and wait has a named maximum.

pub mod clock;
pub mod files;
mod json;
pub mod model;

pub mod callback;
pub mod mirror;
pub mod tencent;

pub mod spool;
pub mod store;

pub mod ingest;
pub mod outbox;
pub mod reconcile;
pub mod replay;
pub mod retention;

pub mod api;
pub mod console;
pub mod receiver;
pub mod refusals;
pub mod relay;
pub mod server;
pub mod traces;
pub mod traffic;

pub mod app;
pub mod check;
pub mod cli;
pub mod config;
pub mod embedded;
pub mod fake;
pub mod simulate;
pub mod telemetry;
