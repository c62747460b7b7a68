//! Groups that exist before the fake begins, as an app has them when a mirror is set up: no callback was sent for them.
//!
//! Their content follows from their number alone, so that a test knows what a reader has to find.

use super::state::{FakeGroup, FakeMember, GroupKind};
use super::world::World;

/// How many, with how many members each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExistingGroups {
    /// Groups.
    pub groups: u32,
    /// Members of each group, its owner included; none in an audio-video room.
    pub members: u32,
}

/// 2024-01-01, in Unix milliseconds: when all of them were created.
const CREATED_MS: i64 = 1_704_067_200_000;

/// Makes them, one of each type in turn.
pub(super) fn add_existing(world: &mut World, existing: ExistingGroups) {
    let before = world.groups.len();
    for number in 0..existing.groups {
        let kind = GroupKind::ALL[number as usize % GroupKind::ALL.len()];
        let prefix = if kind == GroupKind::Community { "@TGS#_" } else { "" };
        let user = |member: u32| format!("user_{}", (u64::from(number) * 7 + u64::from(member)) % 1_000_000);
        let mut group = FakeGroup::new(kind, &user(0), CREATED_MS);
        group.texts.insert("Name", format!("Existing {number}"));
        group.fields.insert("region".to_owned(), "north".to_owned());
        group.max_members = group.max_members.max(u64::from(existing.members));
        let members = if kind == GroupKind::AvChatRoom { 0 } else { existing.members };
        for member in 0..members {
            let join_secs = CREATED_MS / 1000 + i64::from(member);
            group.roster().add(&user(member), FakeMember::joined(false, join_secs));
        }
        world.insert(&format!("{prefix}existing {number}"), group);
    }
    assert!(world.groups.len() == before + existing.groups as usize, "each has an id of its own");
}
