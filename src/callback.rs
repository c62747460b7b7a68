//! The vocabulary of callbacks: what a verified request says, once it is decoded.
//!
//! Pure: no clock, no database, no HTTP. Bytes come from the callback listener, the spool or the ledger; [`decode()`]
//! makes a [`Callback`] of them, unless the command is on the closed list of what is counted and not kept; callbacks go
//! to `mirror`. Bytes become JSON in `crate::json`, fields in `fields`, an event in `events`; `decode` settles command, time
//! and digest. Tencent's spelling stays in `wire`, reasons to park or skip are in `reason`.
//!
//! Command catalogue: tencentcloud.com/document/product/1047/34355.

mod canonical;
mod commands;
mod decode;
mod events;
pub mod fallback;
mod fields;
#[cfg(test)]
mod json_laws;
mod mentions;
mod pseudonyms;
mod query;
mod reason;
pub mod signature;
mod wire;

use strum::{EnumCount, IntoStaticStr, VariantArray};

use crate::model::{Digest, FieldKey, GroupId, Millis, Rank, SdkAppId, TopicId, UserId};

pub use commands::{Answering, CREATE_COMMAND, STATE_COMMANDS, Scope, answering, command_label, scope};
pub use decode::{Decoded, Unkept, decode, decode_at};
pub use mentions::{AccountField, accounts, mentions};
pub use pseudonyms::{
    FIELD_NAMES, PseudonymOf, is_act_of, pseudonymized, pseudonymized_callback, pseudonymized_query,
};
pub use query::{request_time, signed_anew, without_signature};
pub use reason::{Reason, ReasonCause, SKIPS_LISTED_MAX, Skips};

/// The largest body in bytes. Tencent documents none; a destroyed group of 6,000 members makes about 350 KB.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;

/// The longest free text from the query string that is kept, in bytes. A longer one is dropped: it is not
/// Tencent's, and must not make a ledger row fail.
pub const QUERY_TEXT_BYTES_MAX: usize = 128;

/// The longest `Content-Type`, and the longest `X-Forwarded-For`, that is kept, in bytes; a longer one is dropped.
pub const HEADER_BYTES_MAX: usize = 4096;

/// A request that was verified, with the moment of its receipt: everything that decoding may depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The app of the request, by its `SdkAppid`.
    pub app: SdkAppId,
    /// `CallbackCommand` of the query.
    pub query_command: Option<String>,
    /// `ClientIP` of the query: who did it.
    pub client_ip: Option<String>,
    /// `OptPlatform` of the query: with what.
    pub platform: Option<String>,
    /// `RequestID` of the query; seen, not documented.
    pub request_id: Option<String>,
    /// The query string as it came, signature included; kept where the app has a relay.
    pub query: Option<String>,
    /// `Content-Type` as it came, each byte as the character of its number; kept where the app has a relay.
    pub content_type: Option<String>,
    /// `X-Forwarded-For` with the sender's address at its end; kept where the app has a relay, for the first delivery.
    pub forwarded_for: Option<String>,
    /// Fixed once, before the first attempt to commit.
    pub received_at: Millis,
    /// The body as it came.
    pub body: Vec<u8>,
}

impl Received {
    /// A body without a query.
    #[must_use]
    pub fn bare(app: SdkAppId, received_at: Millis, body: Vec<u8>) -> Self {
        Self {
            app,
            query_command: None,
            client_ip: None,
            platform: None,
            request_id: None,
            query: None,
            content_type: None,
            forwarded_for: None,
            received_at,
            body,
        }
    }
}

/// One kept callback: the ledger entry it will be, and what it says as far as that can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callback {
    /// As it was received.
    pub received: Received,
    /// The command of the body, else that of the query, else empty.
    pub command: String,
    /// The group it is about, where that is known.
    pub group: Option<GroupId>,
    /// `EventTime` as sent, whether or not it is believed.
    pub event_time: Option<Millis>,
    /// Its place in the ledger: the event time where that is believed, else the time of receipt.
    pub time: Millis,
    /// Equal for every repeat.
    pub digest: Digest,
    /// What it says, or why it is parked.
    pub event: Result<Event, Reason>,
    /// What could not be read of a callback whose rest is applied.
    pub skipped: Skips,
}

/// How much of a callback is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// All of it.
    Applied,
    /// What could be read; the rest was skipped.
    Partial,
    /// Nothing: a dead letter.
    Parked,
}

impl Reading {
    /// As the ledger and the API write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Partial => "partial",
            Self::Parked => "parked",
        }
    }
}

impl Callback {
    /// True for what speaks of the membership of an audio-video room: high volume, and no list to reconcile with, so
    /// it is mirrored on request only.
    #[must_use]
    pub fn is_avchatroom_membership(&self) -> bool {
        self.event
            .as_ref()
            .is_ok_and(|event| event.group_type.as_deref() == Some(AVCHATROOM) && event.kind.is_membership())
    }

    /// The command for which a backend answers, where one stands behind the mirror; none: it is answered once it is
    /// durable. The command of the query comes first, because a body that is odd cannot change it: what waits for a
    /// verdict by either of the two gets one.
    #[must_use]
    pub fn answered_by_backend(&self) -> Option<&str> {
        let named = [self.received.query_command.as_deref(), Some(self.command.as_str())];
        named.into_iter().flatten().find(|command| answering(command) == Answering::ByBackend)
    }

    /// How much of it is applied.
    #[must_use]
    pub fn reading(&self) -> Reading {
        match &self.event {
            Err(_) => Reading::Parked,
            Ok(_) if self.skipped.is_empty() => Reading::Applied,
            Ok(_) => Reading::Partial,
        }
    }

    /// Why it is parked, or what was skipped of it; none where all of it is applied.
    #[must_use]
    pub fn reason_text(&self) -> Option<String> {
        match (&self.event, self.reading()) {
            (Err(reason), _) => Some(reason.to_string()),
            (Ok(_), Reading::Partial) => Some(self.skipped.to_string()),
            (Ok(_), _) => None,
        }
    }

    /// The causes in that reason, each once.
    #[must_use]
    pub fn causes(&self) -> Vec<ReasonCause> {
        match &self.event {
            Err(reason) => vec![reason.cause],
            Ok(_) => self.skipped.causes().iter().copied().collect(),
        }
    }

    /// True where the digest holds the request's id: there is no event time that is believed, so its place is that of a
    /// receipt, and an equal digest is the same request received at another time.
    #[must_use]
    pub fn is_known_by_request(&self) -> bool {
        self.received.request_id.is_some() && self.event_time != Some(self.time)
    }
}

/// What a callback says about one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The group.
    pub group: GroupId,
    /// Its type under the present name, where the body has one.
    pub group_type: Option<String>,
    /// Who did it: often an app administrator who is no member.
    pub operator: Option<UserId>,
    /// True for a create whose owner cannot be read: that it has none is not said either.
    pub is_owner_unread: bool,
    /// What happened.
    pub kind: EventKind,
}

/// The eleven changes of state. An absent text is unchanged, an empty one is now empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// `AfterCreateGroup`, 1047/34369.
    GroupCreated {
        /// Absent when created over REST without one.
        owner: Option<UserId>,
        /// Always there in the samples.
        profile: Profile,
        /// Initial members; the owner may or may not be among them.
        members: Vec<UserId>,
    },
    /// `AfterNewMemberJoin`, 1047/34372.
    MembersJoined {
        /// `Apply` or `Invited`; free text.
        how: Option<String>,
        /// Who joined.
        members: Vec<UserId>,
    },
    /// `AfterMemberExit`, 1047/34373.
    MembersLeft {
        /// `Quit` or `Kicked`; free text.
        how: Option<String>,
        /// Who left; never taken from the operator.
        members: Vec<UserId>,
    },
    /// `AfterGroupDestroyed`, 1047/34377. Its list of members may be incomplete, so it is not read.
    GroupDestroyed,
    /// `AfterGroupInfoChanged`, 1047/34378.
    ProfileChanged(Profile),
    /// `AfterMemberFieldChanged`, 1047/60393.
    MemberChanged {
        /// Whose.
        member: UserId,
        /// `Admin` or `Member`, if it changed.
        role: Option<Role>,
        /// The new card, if it changed.
        name_card: Option<String>,
    },
    /// `AfterGroupAttrChanged`, 1047/60394.
    AttributesChanged(AttributesChange),
    /// `AfterChangeGroupOwner`, 1047/60396.
    OwnerChanged {
        /// Absent where there was none.
        old: Option<UserId>,
        /// Absent where there is none now.
        new: Option<UserId>,
    },
    /// `AfterCreateTopic`, 1047/49464.
    TopicCreated {
        /// The topic.
        topic: TopicId,
        /// Its name.
        profile: Profile,
    },
    /// `AfterTopicDestroyed`, 1047/49465.
    TopicsDestroyed(Vec<TopicId>),
    /// `AfterTopicInfoChanged`, 1047/49466. Documented without a topic id.
    TopicChanged {
        /// Which one, if Tencent says so after all.
        topic: Option<TopicId>,
        /// What changed.
        profile: Profile,
    },
}

impl EventKind {
    /// The rank of the command inside one millisecond.
    #[must_use]
    pub fn rank(&self) -> Rank {
        match self {
            Self::GroupCreated { .. } | Self::TopicCreated { .. } => Rank::Create,
            Self::MembersJoined { .. } => Rank::Join,
            Self::MembersLeft { .. } => Rank::Leave,
            Self::GroupDestroyed | Self::TopicsDestroyed(_) => Rank::Destroy,
            Self::ProfileChanged(_)
            | Self::MemberChanged { .. }
            | Self::AttributesChanged(_)
            | Self::OwnerChanged { .. }
            | Self::TopicChanged { .. } => Rank::Change,
        }
    }

    /// True for the callbacks that speak of membership alone.
    #[must_use]
    pub fn is_membership(&self) -> bool {
        matches!(self, Self::MembersJoined { .. } | Self::MembersLeft { .. } | Self::MemberChanged { .. })
    }
}

/// A text of the profile of a group or topic. The mirror has a column of the variant's name in `snake_case`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, EnumCount, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum ProfileText {
    /// `Type`, under its present name; groups alone have one.
    Type,
    /// `Name`.
    Name,
    /// `Introduction`.
    Introduction,
    /// `Notification`.
    Notification,
    /// `FaceUrl`.
    FaceUrl,
}

impl ProfileText {
    /// The column of the mirror.
    #[must_use]
    pub fn column(self) -> &'static str {
        self.into()
    }

    /// The texts that a topic has.
    pub const OF_TOPICS: [Self; 4] = [Self::Name, Self::Introduction, Self::Notification, Self::FaceUrl];
}

/// The parts of a profile that a body names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Profile {
    /// Each at most once; the type stands in the event.
    pub texts: Vec<(ProfileText, String)>,
    /// `UserDefinedDataList`; each key once.
    pub user_defined_fields: Vec<(FieldKey, String)>,
}

/// What a change of attributes does to the set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttributesChange {
    /// These and no others.
    Set(Vec<(FieldKey, String)>),
    /// These are added or overwritten.
    Modify(Vec<(FieldKey, String)>),
    /// These are gone.
    Delete(Vec<FieldKey>),
    /// All are gone.
    Clear,
    /// No `OptionType`, or one that is not documented: nothing is known but that something changed.
    Unknown,
}

/// A role that a body can give. `Owner` is not one: it follows from the owner of the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// May manage the group.
    Admin,
    /// An ordinary member.
    Member,
}

impl Role {
    /// As Tencent writes it, and as stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "Admin",
            Self::Member => "Member",
        }
    }
}

/// The type that audio-video rooms have; their owner is no member, and their membership is mirrored on request only.
pub const AVCHATROOM: &str = "AVChatRoom";

/// The type whose owner may leave (`Private` of old).
pub const WORK: &str = "Work";

/// The group type under its present name; unknown ones as they come (1047/33529).
#[must_use]
pub fn present_type_name(name: &str) -> &str {
    match name {
        "Private" => WORK,
        "ChatRoom" => "Meeting",
        other => other,
    }
}
