//! Which reads of a batch say what is known to be shown, and what is noted so that the next read of the same can be known.
//!
//! A read that is known is not compared, and moves the time of verification alone. Why that is right stands in
//! `mirror/read_digest.rs`; `store/same_reads.rs` keeps the digests. One that stands beside another of its kind and group in a
//! batch, or beside a denial of its group, is always compared, because what it is compared with depends on the other; and so
//! is a list that comes with those whom it leaves out.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgConnection;

use crate::mirror::{ComparedSnapshot, DIGEST_KINDS, GroupKey, ReadDigest, ReadKind, Rows, Snapshot};
use crate::model::{Digest, Millis};
use crate::store::same_reads;

/// What each read of a batch says, where it may be known.
pub(super) fn digests<'a>(
    reads: impl Iterator<Item = Option<&'a ComparedSnapshot>> + Clone,
) -> Vec<Option<ReadDigest>> {
    let (mut counts, mut denied) = (BTreeMap::<(&GroupKey, ReadKind), usize>::new(), BTreeSet::new());
    for ComparedSnapshot { snapshot, .. } in reads.clone().flatten() {
        *counts.entry((&snapshot.group, snapshot.kind)).or_default() += 1;
        if snapshot.kind == ReadKind::Gone {
            denied.insert(&snapshot.group);
        }
    }
    let is_alone = |read: &&ComparedSnapshot| {
        let Snapshot { group, kind, missing, .. } = &read.snapshot;
        counts[&(group, *kind)] == 1 && !denied.contains(group) && missing.is_empty()
    };
    reads.map(|read| read.filter(is_alone)?.read_digest()).collect()
}

/// Which reads are known, in their order, whatever else the batch has of their groups.
pub(super) async fn look_at_each(
    conn: &mut PgConnection,
    digests: &[Option<ReadDigest>],
) -> Result<Vec<bool>, sqlx::Error> {
    let wanted: Vec<&ReadDigest> = digests.iter().flatten().collect();
    let known = same_reads::same(conn, &wanted).await?;
    let is_known = |read: &ReadDigest| {
        let group = &read.group;
        known.contains(&(group.app.get(), group.group.as_str().to_owned(), read.kind.to_owned()))
    };
    Ok(digests.iter().map(|read| read.as_ref().is_some_and(is_known)).collect())
}

/// Of a group all reads that the batch has, or none, because what is entered of one kind may be held against another one.
pub(super) fn whole(known: &[bool], groups: &[Option<&GroupKey>]) -> Vec<bool> {
    assert_eq!(known.len(), groups.len(), "each read has its place in both");
    let open: BTreeSet<&GroupKey> =
        groups.iter().zip(known).filter(|(_, known)| !**known).filter_map(|(group, _)| *group).collect();
    let is_whole = |group: &Option<&GroupKey>| group.is_some_and(|group| !open.contains(group));
    groups.iter().map(is_whole).collect()
}

/// Both. Where only some groups are known, the caller locks all of them and looks again.
pub(super) async fn look(
    conn: &mut PgConnection,
    digests: &[Option<ReadDigest>],
    groups: &[Option<&GroupKey>],
) -> Result<Vec<bool>, sqlx::Error> {
    Ok(whole(&look_at_each(conn, digests).await?, groups))
}

/// Notes what was compared, after what is news was entered, and keeps what was noted before of other kinds where that leaves
/// it so. `compared`: the reads in the order in which they were compared, those that may be known the next time with `true`.
/// One behind which another was entered that does not leave it so was compared with less than is shown now.
pub(super) async fn note(
    conn: &mut PgConnection,
    compared: &[(&ComparedSnapshot, bool)],
    after: &Rows,
) -> Result<(), sqlx::Error> {
    let mut news = BTreeMap::<&GroupKey, Vec<&ComparedSnapshot>>::new();
    for (read, _) in compared.iter().filter(|(read, _)| read.is_news) {
        news.entry(&read.snapshot.group).or_default().push(read);
    }
    let mut kept: Vec<(&GroupKey, &str)> = Vec::new();
    for (group, news) in &news {
        let are_left = |kind: ReadKind| news.iter().all(|news| news.leaves(kind));
        kept.extend(DIGEST_KINDS.iter().filter(|(kind, _)| are_left(*kind)).map(|(_, name)| (*group, *name)));
    }
    let entered: Vec<(&GroupKey, Millis, Digest)> = news
        .values()
        .flatten()
        .map(|news| (&news.snapshot.group, news.snapshot.time.sigma, news.digest))
        .collect();
    same_reads::keep(conn, &kept, &entered).await?;
    let is_left = |at: usize, snapshot: &Snapshot| {
        let later = compared.iter().skip(at + 1).map(|(read, _)| read);
        let mut later = later.filter(|read| read.is_news && read.snapshot.group == snapshot.group);
        later.all(|read| read.leaves(snapshot.kind))
    };
    let noted = compared.iter().enumerate().filter(|(at, (read, may_be_known))| {
        *may_be_known && read.is_owner_shown(after) && is_left(*at, &read.snapshot)
    });
    let noted = noted.filter_map(|(_, (read, _))| Some((read.read_digest()?, read.snapshot.kind.command())));
    same_reads::note(conn, &noted.collect::<Vec<_>>()).await
}
