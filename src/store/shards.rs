//! Shards: how groups are spread over parts of the tables, on several servers by Citus or in one by hash partitions of
//! `groups`, as the catalogue says.
//!
//! A batch that stays within one shard is one commit on one worker, and a worker that is away holds up its own groups and no
//! others. Which shard a group belongs to is computed, because a callback chooses its lane before anything is asked. A
//! catalogue that has changed since makes a batch cross shards, which costs time and changes nothing else; the schema watch
//! looks every few seconds.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use sqlx::PgConnection;

use super::citus;
use super::group_hash::{partition_hash, shard_hash};

/// How the shard of a group is found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
enum Spread {
    /// There is one.
    #[default]
    Whole,
    /// Citus: the greatest hash of each, in order.
    Ranges(Vec<i32>),
    /// Hash partitions: modulus and remainder of each.
    Remainders(Vec<(u64, u64)>),
}

/// How groups are spread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shards {
    spread: Spread,
    /// For each shard an id that belongs to it; none for one of so few hashes that none was found.
    examples: Vec<Option<String>>,
}

impl Default for Shards {
    fn default() -> Self {
        Self::of(Spread::Whole)
    }
}

/// As last looked at. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct KnownShards {
    read: Arc<RwLock<Arc<Shards>>>,
    /// The shard in which the last probe committed: the next one begins there.
    probed: Arc<AtomicUsize>,
}

/// How many ids are tried to find an example for each shard. A shard can be one of a single hash (`isolate_tenant_to_new_shard`).
const EXAMPLES_TRIED_MAX: u32 = 20_000;

/// On a coordinator each distributed table has a row for each shard; what is not distributed has none, and a copy on each server
/// has no range.
const RANGES: &str = "
SELECT shardmaxvalue::integer FROM pg_dist_shard
 WHERE logicalrelid = 'groups'::regclass AND shardmaxvalue IS NOT NULL ORDER BY 1";

/// The partitions of `groups`, where they are cut by the hash of `group_id` alone.
const REMAINDERS: &str = r"
SELECT substring(b.bound FROM 'modulus (\d+)')::bigint, substring(b.bound FROM 'remainder (\d+)')::bigint
  FROM pg_partitioned_table p
  JOIN pg_attribute a ON a.attrelid = p.partrelid AND a.attname = 'group_id' AND a.attnum = p.partattrs[0] AND p.partnatts = 1
  JOIN pg_inherits i ON i.inhparent = p.partrelid
  JOIN pg_class c ON c.oid = i.inhrelid, pg_get_expr(c.relpartbound, c.oid) AS b (bound)
 WHERE p.partrelid = to_regclass('groups') AND p.partstrat = 'h'
 ORDER BY 1, 2";

impl Shards {
    fn of(spread: Spread) -> Self {
        let mut shards = Self { spread, examples: Vec::new() };
        let mut examples = vec![None; shards.count()];
        if let [only] = &mut examples[..] {
            *only = Some(String::new());
        } else {
            // A hash spreads the numbers as it spreads groups: of n shards of one size the last is found after some n log n.
            for number in (0..EXAMPLES_TRIED_MAX).map(|number| number.to_string()) {
                let shard = shards.of_group(&number);
                examples[shard].get_or_insert(number);
            }
        }
        shards.examples = examples;
        shards
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        match &self.spread {
            Spread::Whole => 1,
            Spread::Ranges(ends) => ends.len(),
            Spread::Remainders(parts) => parts.len(),
        }
    }

    /// The shard of a group, by its id; what has no known group belongs to that of the empty id.
    #[must_use]
    pub fn of_group(&self, group: &str) -> usize {
        let shard = match &self.spread {
            Spread::Whole => 0,
            Spread::Ranges(ends) => {
                let hash = shard_hash(group);
                ends.partition_point(|end| *end < hash).min(ends.len() - 1)
            }
            Spread::Remainders(parts) => {
                let hash = partition_hash(group);
                parts.iter().position(|(modulus, rest)| hash % modulus == *rest).unwrap_or_default()
            }
        };
        assert!(shard < self.count(), "a group belongs to one of the shards");
        shard
    }

    async fn read(conn: &mut PgConnection) -> Result<Spread, sqlx::Error> {
        if citus::is_there(conn).await? {
            let ends: Vec<i32> = sqlx::query_scalar(RANGES).fetch_all(conn).await?;
            return Ok(if ends.len() > 1 { Spread::Ranges(ends) } else { Spread::Whole });
        }
        let parts: Vec<(i64, i64)> = sqlx::query_as(REMAINDERS).fetch_all(conn).await?;
        let parts = parts.into_iter().map(|(modulus, rest)| (modulus.cast_unsigned(), rest.cast_unsigned()));
        let parts: Vec<_> = parts.filter(|(modulus, _)| *modulus > 0).collect();
        Ok(if parts.len() > 1 { Spread::Remainders(parts) } else { Spread::Whole })
    }
}

impl KnownShards {
    /// As last looked at; one, before the first look.
    #[must_use]
    pub fn current(&self) -> Arc<Shards> {
        Arc::clone(&self.read.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks at the catalogue again.
    ///
    /// # Errors
    /// The statement's.
    pub async fn look(&self, conn: &mut PgConnection) -> Result<(), sqlx::Error> {
        let spread = Shards::read(conn).await?;
        if self.current().spread == spread {
            return Ok(());
        }
        let shards = Shards::of(spread);
        tracing::info!(shards = shards.count(), "groups are spread over {} shards", shards.count());
        *self.read.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(shards);
        Ok(())
    }

    /// An id for each shard that has an example, in the order in which a probe tries them: where the last one committed comes first.
    pub(super) fn to_probe(&self) -> Vec<(usize, String)> {
        let shards = self.current();
        let first = self.probed.load(Ordering::Relaxed);
        let order = (0..shards.count()).map(|at| (at + first) % shards.count());
        let examples: Vec<_> =
            order.filter_map(|shard| Some((shard, shards.examples[shard].clone()?))).collect();
        assert!(!examples.is_empty(), "each id belongs to a shard, so one has an example");
        examples
    }

    /// Where the next probe begins.
    pub(super) fn probe_next(&self, shard: usize) {
        self.probed.store(shard, Ordering::Relaxed);
    }
}
