//! A batch stays within one shard, so that it is one commit on one server.
//!
//! Lanes and drain cut what they commit here. Where there is one shard, nothing is cut.

use std::collections::BTreeMap;

use crate::callback::Callback;
use crate::model::GroupId;
use crate::store::shards::Shards;

/// The shard of a callback; one whose group is not known belongs to that of the empty id, as its ledger entry does.
pub(super) fn shard_of(shards: &Shards, callback: &Callback) -> usize {
    shards.of_group(callback.group.as_ref().map_or("", GroupId::as_str))
}

/// Parts of a batch, each of one shard, in the order of the shards.
pub(super) fn by_shard<T>(shards: &Shards, batch: Vec<T>, callback: impl Fn(&T) -> &Callback) -> Vec<Vec<T>> {
    if batch.is_empty() {
        return Vec::new();
    }
    if shards.count() == 1 {
        return Vec::from([batch]);
    }
    let mut parts = BTreeMap::<usize, Vec<T>>::new();
    for one in batch {
        parts.entry(shard_of(shards, callback(&one))).or_default().push(one);
    }
    parts.into_values().collect()
}
