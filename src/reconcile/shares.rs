//! Which class of the work list gets the next slot: a fair share for each, so that none starves another.
//!
//! Weighted fair sharing on slots in use: of the classes that have something due the one whose slots are fewest for its
//! weight comes next. The later a class, the fewer slots it can hold at all, because a list of a large community keeps a slot
//! for minutes and a group that a callback has marked must not wait for it. Pure.

/// How many classes there are: see `migrations/0010_reconcile.sql`.
pub(super) const CLASSES: usize = 5;

/// How many groups, or batches of small groups, are read from the work list at the same time.
pub(super) const SLOTS_MAX: usize = 12;

/// How the slots are shared while all classes want more.
const WEIGHTS: [usize; CLASSES] = [5, 3, 2, 1, 1];

/// How many of them a class and the later ones can hold together, so that the rest is kept for the classes before it. The
/// first one always finds two that no other can hold.
const HELD_MAX: [usize; CLASSES] = [12, 10, 8, 6, 6];

/// The number (from 0) of the class that gets the next slot; none where no class wants or may have one.
#[must_use]
pub(super) fn next_class(wants: [bool; CLASSES], held: [usize; CLASSES]) -> Option<usize> {
    let all: usize = held.iter().sum();
    if all >= SLOTS_MAX {
        return None;
    }
    // Not `all < HELD_MAX`: then the first class alone could take each slot that is given back while all are taken.
    let may = |class: &usize| wants[*class] && held[*class..].iter().sum::<usize>() < HELD_MAX[*class];
    // Cross-multiplied, because a share is a fraction.
    (0..CLASSES)
        .filter(may)
        .min_by(|a, b| (held[*a] * WEIGHTS[*b]).cmp(&(held[*b] * WEIGHTS[*a])).then(a.cmp(b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Slots that are taken and given back by turns; answers how often each class got one.
    fn played(wants: [bool; CLASSES], rounds: usize) -> [usize; CLASSES] {
        let (mut held, mut order, mut got) = ([0; CLASSES], std::collections::VecDeque::new(), [0; CLASSES]);
        for _ in 0..rounds {
            while let Some(class) = next_class(wants, held) {
                held[class] += 1;
                got[class] += 1;
                order.push_back(class);
            }
            let Some(ended) = order.pop_front() else { return got };
            held[ended] -= 1;
        }
        got
    }

    #[test]
    fn no_class_starves_while_all_want_every_slot() {
        let got = played([true; CLASSES], 1_200);
        for (class, slots) in got.iter().enumerate() {
            assert!(*slots >= 50, "class {}: {got:?}", class + 1);
        }
        assert!(got[0] > got[4], "{got:?}");
    }

    #[test]
    fn a_class_alone_gets_its_slots_and_leaves_two_for_marked_groups() {
        for class in 1..CLASSES {
            let mut wants = [false; CLASSES];
            wants[class] = true;
            let mut held = [0; CLASSES];
            while let Some(next) = next_class(wants, held) {
                held[next] += 1;
            }
            assert_eq!(held[class], HELD_MAX[class]);
            wants[0] = true;
            assert_eq!(next_class(wants, held), Some(0), "class {}", class + 1);
        }
        assert_eq!(next_class([false; CLASSES], [0; CLASSES]), None);
        assert_eq!(next_class([true; CLASSES], [12, 0, 0, 0, 0]), None);
    }
}
