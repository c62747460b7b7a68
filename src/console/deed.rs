//! The kinds of ledger entries as a person sorts them: twelve words for filters, counts, marks of the time rail and styles.
//!
//! A kind is not a command: a removal and a leave come with one command and are two kinds, and the three commands about
//! topics are one. The order of the variants is the order of gravity, so that the gravest of several is their maximum. Pure.

use strum::{EnumCount, IntoStaticStr, VariantArray};

use crate::callback::EventKind;
use crate::store::ledger::LedgerRow;

/// How Tencent writes that a member was removed, in a callback of an exit.
pub(super) const REMOVED: &str = "Kicked";

/// How Tencent writes that a member left by himself.
pub(super) const LEFT: &str = "Quit";

/// What an entry is about, the least grave first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, EnumCount, IntoStaticStr, VariantArray,
)]
#[strum(serialize_all = "lowercase")]
pub(super) enum Deed {
    /// An answer of Tencent's REST API.
    Read,
    /// A user joined, or was invited.
    Join,
    /// The group was created.
    Create,
    /// The profile of the group changed.
    Profile,
    /// Attributes changed.
    Attributes,
    /// A topic was created, changed or deleted.
    Topic,
    /// The role or the name card of a member changed.
    Member,
    /// A member left, or is gone for a reason that is not a removal.
    Leave,
    /// The owner changed.
    Owner,
    /// Parked, or not readable by this program.
    Unread,
    /// Members were removed.
    Removal,
    /// The group was dismissed.
    Destroy,
}

impl Deed {
    /// As addresses, styles and the catalogue write it.
    pub(super) fn label(self) -> &'static str {
        self.into()
    }

    /// The key of its name in the catalogue.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Read => "deed-read",
            Self::Join => "deed-join",
            Self::Create => "deed-create",
            Self::Profile => "deed-profile",
            Self::Attributes => "deed-attributes",
            Self::Topic => "deed-topic",
            Self::Member => "deed-member",
            Self::Leave => "deed-leave",
            Self::Owner => "deed-owner",
            Self::Unread => "deed-unread",
            Self::Removal => "deed-removal",
            Self::Destroy => "deed-destroy",
        }
    }

    /// The kind of this name.
    pub(super) fn of_label(label: &str) -> Option<Self> {
        Self::VARIANTS.iter().copied().find(|deed| deed.label() == label)
    }

    /// The only command that such entries have, where there is one: the store then filters.
    pub(super) fn command(self) -> Option<&'static str> {
        match self {
            Self::Join => Some("Group.CallbackAfterNewMemberJoin"),
            Self::Create => Some(crate::callback::CREATE_COMMAND),
            Self::Profile => Some("Group.CallbackAfterGroupInfoChanged"),
            Self::Attributes => Some("Group.CallbackAfterGroupAttrChanged"),
            Self::Member => Some("Group.CallbackAfterMemberFieldChanged"),
            Self::Leave | Self::Removal => Some("Group.CallbackAfterMemberExit"),
            Self::Owner => Some("Group.CallbackAfterChangeGroupOwner"),
            Self::Destroy => Some("Group.CallbackAfterGroupDestroyed"),
            Self::Read | Self::Topic | Self::Unread => None,
        }
    }

    /// Whether every entry of its command that is applied is of this kind, so that a filter by command stands for one by kind.
    pub(super) fn is_all_of_its_command(self) -> bool {
        self.command().is_some() && !matches!(self, Self::Leave | Self::Removal)
    }

    /// What entries of a command are about, as far as the command says; of an exit a leave.
    pub(super) fn of_command(command: &str) -> Self {
        match command {
            "Group.CallbackAfterNewMemberJoin" => Self::Join,
            crate::callback::CREATE_COMMAND => Self::Create,
            "Group.CallbackAfterGroupInfoChanged" => Self::Profile,
            "Group.CallbackAfterGroupAttrChanged" => Self::Attributes,
            "Group.CallbackAfterMemberFieldChanged" => Self::Member,
            "Group.CallbackAfterMemberExit" => Self::Leave,
            "Group.CallbackAfterChangeGroupOwner" => Self::Owner,
            "Group.CallbackAfterGroupDestroyed" => Self::Destroy,
            "Group.CallbackAfterCreateTopic"
            | "Group.CallbackAfterTopicDestroyed"
            | "Group.CallbackAfterTopicInfoChanged" => Self::Topic,
            _ if command.starts_with("Group.") || command == "unknown" => Self::Unread,
            _ => Self::Read,
        }
    }

    /// What an entry with this event is about.
    pub(super) fn of(row: &LedgerRow, event: Option<&EventKind>) -> Self {
        let Some(event) = event else {
            return if row.is_snapshot() && row.is_applied() { Self::Read } else { Self::Unread };
        };
        match event {
            EventKind::GroupCreated { .. } => Self::Create,
            EventKind::MembersJoined { .. } => Self::Join,
            EventKind::MembersLeft { how, .. } if how.as_deref() == Some(REMOVED) => Self::Removal,
            EventKind::MembersLeft { .. } => Self::Leave,
            EventKind::GroupDestroyed => Self::Destroy,
            EventKind::ProfileChanged(_) => Self::Profile,
            EventKind::MemberChanged { .. } => Self::Member,
            EventKind::AttributesChanged(_) => Self::Attributes,
            EventKind::OwnerChanged { .. } => Self::Owner,
            EventKind::TopicCreated { .. }
            | EventKind::TopicsDestroyed(_)
            | EventKind::TopicChanged { .. } => Self::Topic,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::callback::STATE_COMMANDS;

    #[test]
    fn a_kind_has_one_name_and_a_command_of_the_catalogue() {
        assert_eq!(Deed::VARIANTS.len(), Deed::COUNT);
        for deed in Deed::VARIANTS.iter().copied() {
            assert_eq!(Deed::of_label(deed.label()), Some(deed));
            assert_eq!(deed.key(), format!("deed-{}", deed.label()));
            let Some(command) = deed.command() else { continue };
            assert!(STATE_COMMANDS.contains(&command), "{deed:?}");
            let same = if deed == Deed::Removal { Deed::Leave } else { deed };
            assert_eq!(Deed::of_command(command), same);
        }
        assert!(STATE_COMMANDS.iter().all(|command| Deed::of_command(command) != Deed::Unread));
        assert_eq!(Deed::of_command("get_group_info"), Deed::Read);
        assert_eq!(Deed::of_label("Removal"), None);
    }

    #[test]
    fn a_removal_is_graver_than_what_it_stands_beside() {
        let beside = [Deed::Join, Deed::Leave, Deed::Profile, Deed::Read, Deed::Member];
        assert_eq!(beside.into_iter().chain([Deed::Removal]).max(), Some(Deed::Removal));
    }
}
