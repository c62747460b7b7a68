//! What the ledger keeps, and for whom: what is old becomes checkpoints, and a person who has the right to it is erased.
//!
//! `prune` has the steps by which old entries become checkpoints.
//!
//! Erasing is no deletion. The id becomes one pseudonym in every entry of the ledger and in what is folded from it, so that
//! the groups stay what they were, but for who it was. `erase` has the order of the steps, `entry` what an entry becomes,
//! `erased_group` the transaction of one group, `person_search` the proof that the id stands nowhere.

mod entry;
mod erase;
mod erased_checkpoint;
mod erased_group;
mod person_search;
mod prune;

pub use erase::{Erased, ErasureWanted, erase, search};
pub use person_search::PersonFound;
pub use prune::{PruneWanted, Pruned, count, prune};
