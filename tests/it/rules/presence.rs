//! Who is a member, worked out by brute force from the raw set of callbacks and snapshots, by the text of the rules in
//! `docs/merge.md`: no fold, no row, no barrier that is kept. The fold must show the same of every set.
//!
//! Beside it the two promises about reads: one never undoes a newer callback, and one that is not complete removes no member.

use std::collections::{BTreeMap, BTreeSet};

use group_mirror::mirror::{
    Fact, FactKind, GroupBarrier, GroupKey, ListRange, ReadKind, Rows, Snapshot, Status, group_state,
    member_state,
};
use group_mirror::model::{Rank, Stamp, UserId};
use proptest::prelude::*;
use proptest::test_runner::Config;

use crate::rules::laws::received;
use crate::support::histories::{self, Receipt, USERS};
use crate::support::reads;

const SPARE_MS: i64 = 10_000;

/// The facts of a set of callbacks and snapshots.
fn facts_of(callbacks: &[Receipt], snapshots: &[Snapshot]) -> Vec<Fact> {
    let heard = callbacks.iter().flat_map(|receipt| group_mirror::mirror::facts(&received(receipt)));
    heard.chain(snapshots.iter().flat_map(reads::facts)).collect()
}

fn is_read(stamp: Stamp) -> bool {
    stamp.is_of(Rank::Read)
}

/// The newest of some stamps; none is older than all.
fn newest(stamps: impl Iterator<Item = Stamp>) -> Stamp {
    stamps.max().unwrap_or_default()
}

/// From when on a callback that is no beginning undoes one of these ends.
fn undone_from(ends: &[Stamp]) -> Stamp {
    newest(ends.iter().map(|end| end.later(SPARE_MS)))
}

/// Every user whom a group's facts name, and whether the rules make a member of the user.
fn by_brute_force(facts: &[&Fact]) -> BTreeMap<UserId, bool> {
    let stamps = |wanted: &dyn Fn(&FactKind) -> bool| -> Vec<Stamp> {
        facts.iter().filter(|fact| wanted(&fact.kind)).map(|fact| fact.stamp).collect()
    };
    let max = |wanted: &dyn Fn(&FactKind) -> bool| newest(stamps(wanted).into_iter());
    let is_barrier = |kind: &FactKind, barrier| matches!(kind, FactKind::Barrier(of) if *of == barrier);
    let destroys = stamps(&|kind| matches!(kind, FactKind::Destroyed));
    let created = max(&|kind| matches!(kind, FactKind::Created(_)));
    let alive = max(&|kind| is_barrier(kind, GroupBarrier::AliveStamp));
    let read = max(&|kind| is_barrier(kind, GroupBarrier::ReadStamp));
    let destroyed = newest(destroys.iter().copied());
    let gone = max(&|kind| is_barrier(kind, GroupBarrier::GoneStamp));
    let is_destroyed = destroyed >= created.max(read) && alive < undone_from(&destroys)
        || !gone.is_zero() && gone >= created.max(read).max(alive);
    // A create ends what is more than 10 s older than itself, and so does a read that says when the group was created; a
    // destroy ends everything that is older.
    let began = facts.iter().filter_map(|fact| match fact.kind {
        FactKind::Began(at) => {
            let since = (fact.stamp.time().get() - at.get()).max(0);
            Some(fact.stamp.earlier(since + SPARE_MS))
        }
        _ => None,
    });
    let begun = newest(began).max(if created.is_zero() { created } else { created.earlier(SPARE_MS) });
    let life = destroyed.max(gone).max(begun);
    let is_present = |user: &UserId| {
        let joined = max(&|kind| matches!(kind, FactKind::Joined(of, ..) if of == user));
        let confirmed = max(&|kind| matches!(kind, FactKind::Confirmed(of) if of == user));
        let leaves = stamps(&|kind| matches!(kind, FactKind::Left(of, ..) if of == user));
        let range = ListRange::of(user);
        let complete = max(&|kind| {
            is_barrier(kind, GroupBarrier::MembersBarrier)
                || matches!(kind, FactKind::RangeListed(of) if *of == range)
        });
        // A list counts unless a newer complete one leaves the user out; then no list counts that names the user.
        let listed = max(&|kind| matches!(kind, FactKind::Listed(of, _) if of == user));
        let listed = if listed >= complete { listed } else { Stamp::ZERO };
        let left = newest(leaves.iter().copied());
        let has_left = left >= joined.max(listed) && confirmed < undone_from(&leaves);
        let sign = joined.max(confirmed).max(listed);
        !is_destroyed && !has_left && !sign.is_zero() && sign >= life.max(complete)
    };
    let users = USERS.map(|user| UserId::parse(user).unwrap());
    users.into_iter().map(|user| (user.clone(), is_present(&user))).collect()
}

/// The same by the fold.
fn by_the_fold(rows: &Rows, key: &GroupKey) -> BTreeMap<UserId, bool> {
    let group = &rows.groups[key];
    let owner = group.owner.value.clone();
    let owner_row = owner.and_then(|owner| rows.members.get(&(key.clone(), owner)));
    let owner = group_state(group, owner_row).owner;
    let is_present = |user: &UserId| {
        let row = rows.members.get(&(key.clone(), user.clone()));
        let state = row.and_then(|row| member_state(group, owner.as_ref(), user, row));
        state.is_some_and(|state| state.present)
    };
    let users = USERS.map(|user| UserId::parse(user).unwrap());
    users.into_iter().map(|user| (user.clone(), is_present(&user))).collect()
}

fn histories_with_reads() -> impl Strategy<Value = (Vec<Receipt>, Vec<Snapshot>)> {
    (histories::receipts(), prop::collection::vec(reads::snapshot(), 0..8))
}

/// The newest fact of a callback that speaks of a membership, and whether it says that the user is a member. A card or role
/// within 10 s of a leave that no join came after (a straggler) does not undo it, so it says nothing.
fn newest_word(facts: &[&Fact], user: &UserId) -> Option<(Stamp, bool)> {
    let heard = || facts.iter().filter(|fact| !is_read(fact.stamp));
    let of = |wanted: &dyn Fn(&FactKind) -> bool| -> Vec<Stamp> {
        heard().filter(|fact| wanted(&fact.kind)).map(|fact| fact.stamp).collect()
    };
    let leaves = of(&|kind| matches!(kind, FactKind::Left(of, ..) if of == user));
    let joined = newest(of(&|kind| matches!(kind, FactKind::Joined(of, ..) if of == user)).into_iter());
    let has_left = joined <= newest(leaves.iter().copied());
    let said = heard().filter_map(|fact| match &fact.kind {
        FactKind::Confirmed(of) if of == user => {
            (!has_left || fact.stamp >= undone_from(&leaves)).then_some((fact.stamp, true))
        }
        FactKind::Joined(of, ..) if of == user => Some((fact.stamp, true)),
        FactKind::Left(of, ..) if of == user => Some((fact.stamp, false)),
        _ => None,
    });
    said.max()
}

/// True where a list names a user whose leave is older than the list: the leave does not decide any more. It may look as
/// if it did while the group counts as destroyed, and a profile that shows that the group lives brings the list to light.
fn is_outweighed<'a>(
    mut facts: impl Iterator<Item = &'a Fact>,
    user: &UserId,
    word: Stamp,
    says: bool,
) -> bool {
    let names = |fact: &Fact| matches!(&fact.kind, FactKind::Listed(of, _) if of == user);
    !says && facts.any(|fact| names(fact) && fact.stamp > word)
}

/// True where the word is a card or role within 10 s of a leave: it does not undo the leave, and a list that named the user
/// in between may have been outdated by the read.
fn is_straggler(facts: &[&Fact], user: &UserId, word: Stamp, says: bool) -> bool {
    let of = |wanted: &dyn Fn(&FactKind) -> bool| -> Vec<Stamp> {
        facts.iter().filter(|fact| wanted(&fact.kind)).map(|fact| fact.stamp).collect()
    };
    let leaves = of(&|kind| matches!(kind, FactKind::Left(of, ..) if of == user));
    let joined = newest(of(&|kind| matches!(kind, FactKind::Joined(of, ..) if of == user)).into_iter());
    says && joined < word && word < undone_from(&leaves)
}

proptest! {
    #![proptest_config(Config { failure_persistence: None, max_shrink_time: 30_000, ..Config::with_cases(3000) })]

    #[test]
    fn who_is_a_member_follows_from_the_raw_set_of_callbacks_and_snapshots(
        (callbacks, snapshots) in histories_with_reads(),
    ) {
        let facts = facts_of(&callbacks, &snapshots);
        let rows = Rows::of(facts.iter().cloned());
        for key in rows.groups.keys() {
            let of_group: Vec<&Fact> = facts.iter().filter(|fact| fact.group == *key).collect();
            prop_assert_eq!(by_the_fold(&rows, key), by_brute_force(&of_group), "{:?}", key);
        }
    }

    /// At every moment: what has arrived so far is a set like any other, so that it is enough to add a read to any set.
    #[test]
    fn a_read_never_undoes_a_newer_callback(
        (callbacks, snapshots) in histories_with_reads(), read in reads::snapshot(),
    ) {
        let facts = facts_of(&callbacks, &snapshots);
        let before = Rows::of(facts.iter().cloned());
        let new = reads::facts(&read);
        let sigma = new[0].stamp;
        let mut after = before.clone();
        new.into_iter().for_each(|fact| after.apply(fact));
        let key = &read.group;
        let Some(group) = before.groups.get(key) else { return Ok(()) };
        // That a group exists is shown by a closed list of callbacks, to which a change of a card does not belong.
        let shows_life = group.created.stamp.max(group.barrier(GroupBarrier::AliveStamp));
        let (was, is) = (by_the_fold(&before, key), by_the_fold(&after, key));
        for (user, was) in was.into_iter().filter(|_| read.kind != ReadKind::Gone || shows_life > sigma) {
            let of_group = || facts.iter().filter(|fact| fact.group == *key);
            if let Some((stamp, says)) = newest_word(&of_group().collect::<Vec<_>>(), &user)
                && stamp > sigma
                && was == says
                && !is_outweighed(of_group(), &user, stamp, says)
                && !is_straggler(&of_group().collect::<Vec<_>>(), &user, stamp, says)
            {
                prop_assert_eq!(is[&user], was, "{:?} by {:?}", user, read);
            }
        }
        let (was, is) = (group_state(group, None), group_state(&after.groups[key], None));
        if was.status != Status::Destroyed {
            prop_assert!(is.status != Status::Destroyed || shows_life < sigma, "{:?}", read);
        }
        if group.barrier(GroupBarrier::DestroyedStamp) > sigma {
            prop_assert_eq!(was.status, is.status, "{:?}", read);
        }
        for (old, new) in group.texts.iter().zip(&after.groups[key].texts) {
            prop_assert!(old.stamp < sigma || old == new, "{:?}", read);
        }
    }

    #[test]
    fn a_list_that_is_not_complete_removes_nobody(
        (callbacks, snapshots) in histories_with_reads(), list in reads::incomplete_list(),
    ) {
        let before = Rows::of(facts_of(&callbacks, &snapshots));
        let mut after = before.clone();
        reads::facts(&list).into_iter().for_each(|fact| after.apply(fact));
        if before.groups.contains_key(&list.group) {
            let present = |rows| -> BTreeSet<UserId> {
                by_the_fold(rows, &list.group).into_iter().filter_map(|(user, is)| is.then_some(user)).collect()
            };
            prop_assert!(present(&before).is_subset(&present(&after)), "{:?}", list);
        }
    }
}
