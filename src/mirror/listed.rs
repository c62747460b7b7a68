//! What only a read of Tencent's REST API says: the silent fields of a group and of a member, and the ranges of a large list.
//!
//! No callback reports these values, so each set of them is one register, which the newest read replaces as a whole. A list
//! of more members than one ledger entry may hold is cut by a hash of the user ids into 256 ranges, each a register of its
//! own: one change in a community of 100,000 members is then an entry of about 400.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use crate::callback::Role;
use crate::model::{FieldKey, UserId};

/// What a profile holds beside the fields that callbacks report. What Tencent does not send is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Silent {
    /// Who may join how: `ApplyJoinOption`.
    pub apply_join_option: Option<String>,
    /// Who may invite: `InviteJoinOption`.
    pub invite_join_option: Option<String>,
    /// True while all members are muted.
    pub mute_all: Option<bool>,
    /// How many members the group may have.
    pub max_member_count: Option<i64>,
    /// When the group was created, Unix seconds.
    pub create_secs: Option<i64>,
}

/// What a list says of one member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The role; that of the owner follows from the owner register.
    pub role: Role,
    /// The name card; empty: none. `None`: the list does not say.
    pub name_card: Option<String>,
    /// When the membership began, Unix seconds.
    pub join_secs: Option<i64>,
    /// Until when the member is muted, Unix seconds; 4294967295: without end. `None`: not muted, or the list does not say.
    pub mute_until: Option<i64>,
    /// The member's custom fields as a JSON object in the order of its keys; `None`: there are none.
    pub custom_fields: Option<String>,
}

impl Listed {
    /// The custom fields as they are stored.
    #[must_use]
    pub fn custom_fields_text(fields: &[(FieldKey, String)]) -> Option<String> {
        let fields: BTreeMap<&str, &str> =
            fields.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        (!fields.is_empty()).then(|| serde_json::json!(fields).to_string())
    }
}

/// One of the 256 ranges of a large list: the first byte of the SHA-256 of the user id, as two hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListRange(String);

impl ListRange {
    /// The range that a user belongs to. The views compute the same.
    #[must_use]
    pub fn of(user: &UserId) -> Self {
        let hash: [u8; 32] = Sha256::digest(user.as_str()).into();
        Self(format!("{:02x}", hash[0]))
    }

    /// As read back; `None` unless it is two lower hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (text.len() == 2 && text.bytes().all(is_digit)).then(|| Self(text.to_owned()))
    }

    /// All of them, in their order.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..=u8::MAX).map(|byte| Self(format!("{byte:02x}")))
    }

    /// True for the last in the order of [`ListRange::all`].
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.0 == "ff"
    }

    /// As stored.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
