//! The hash by which PostgreSQL and Citus spread groups over parts of a table: that of PostgreSQL for `text`, lookup3 by Bob
//! Jenkins, with 32 bits (`hashtext`) and with 64 bits and a seed (`hashtextextended`).
//!
//! Computed here because a callback has to find its lane before anything is asked of the database. No crate that is kept
//! takes PostgreSQL's seed. The collation `C` of `group_id` is what makes equal bytes the only equal values. On a server of a
//! big-endian machine the hash is another one; then a batch may cross shards, which costs time and changes nothing else.

/// What PostgreSQL adds to the length before it begins.
const BEGIN: u32 = 0x9e37_79b9_u32.wrapping_add(3_923_095);

/// The seed of hash partitions, and what PostgreSQL adds where it combines the hash of the one column with those before it.
const PARTITION_SEED: u64 = 0x7A5B_2236_7996_DCFD;
const PARTITION_COMBINED: u64 = 0x49a0_f4dd_15e5_a8e3;

/// How many bytes a round takes.
const ROUND_BYTES: usize = 12;

/// As `hashtext(text)` answers, by which Citus chooses a shard.
pub(super) fn shard_hash(text: &str) -> i32 {
    hashed(text.as_bytes(), 0).2.cast_signed()
}

/// What PostgreSQL divides by the modulus of hash partitions that have this one column as their key.
pub(super) fn partition_hash(text: &str) -> u64 {
    let (_, high, low) = hashed(text.as_bytes(), PARTITION_SEED);
    (u64::from(high) << 32 | u64::from(low)).wrapping_add(PARTITION_COMBINED)
}

/// Three words of state.
type State = (u32, u32, u32);

fn hashed(bytes: &[u8], seed: u64) -> State {
    // The length of a value is below 1 GiB.
    let begin = BEGIN.wrapping_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    let (mut a, mut b, mut c) = (begin, begin, begin);
    if seed != 0 {
        let (high, low) = ((seed >> 32) as u32, (seed & 0xffff_ffff) as u32);
        (a, b, c) = mixed((a.wrapping_add(high), b.wrapping_add(low), c));
    }
    let mut rounds = bytes.chunks_exact(ROUND_BYTES);
    for round in &mut rounds {
        (a, b, c) = mixed((
            a.wrapping_add(word(&round[..4])),
            b.wrapping_add(word(&round[4..8])),
            c.wrapping_add(word(&round[8..])),
        ));
    }
    let rest = rounds.remainder();
    let part = |from: usize, to: usize| word(&rest[rest.len().min(from)..rest.len().min(to)]);
    // The lowest byte of the third word belongs to the length.
    last((a.wrapping_add(part(0, 4)), b.wrapping_add(part(4, 8)), c.wrapping_add(part(8, 11) << 8)))
}

/// Up to four bytes, the first one the lowest.
fn word(bytes: &[u8]) -> u32 {
    assert!(bytes.len() <= 4, "a word has four bytes");
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte))
}

/// Six steps after which each bit of the input has changed bits of all words; each step works on the words in turn.
fn mixed(state: State) -> State {
    [4, 6, 8, 16, 19, 4].into_iter().fold(state, |(x, y, z), turn| {
        let mixed = x.wrapping_sub(z) ^ z.rotate_left(turn);
        (y, z.wrapping_add(y), mixed)
    })
}

fn last((mut a, mut b, mut c): State) -> State {
    c = (c ^ b).wrapping_sub(b.rotate_left(14));
    a = (a ^ c).wrapping_sub(c.rotate_left(11));
    b = (b ^ a).wrapping_sub(a.rotate_left(25));
    c = (c ^ b).wrapping_sub(b.rotate_left(16));
    a = (a ^ c).wrapping_sub(c.rotate_left(4));
    b = (b ^ a).wrapping_sub(a.rotate_left(14));
    c = (c ^ b).wrapping_sub(b.rotate_left(24));
    (a, b, c)
}

#[cfg(test)]
mod tests {
    use super::{partition_hash, shard_hash};

    /// What PostgreSQL 15 answers; more values are compared with a server in the integration tests.
    #[test]
    fn the_hash_is_that_of_postgresql() {
        for (text, of_shard, of_partition) in [
            ("", -1_477_818_771, 18_051_608_080_690_800_806),
            ("abcdefghijkl", -1_586_087_212, 15_875_462_123_530_940_521),
            ("@TGS#2J4SZEAEL", 1_454_441_704, 15_388_401_347_077_132_789),
            ("组", 665_429_316, 9_480_444_196_290_895_578),
        ] {
            assert_eq!((shard_hash(text), partition_hash(text)), (of_shard, of_partition), "{text:?}");
        }
    }
}
