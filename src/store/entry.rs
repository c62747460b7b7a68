//! What enters the ledger: an entry of any source, and what became of it.
//!
//! What a callback or a REST answer means is decided by the caller; `entry_door` writes it. Data alone.

use crate::mirror::People;
use crate::model::{Digest, GroupId, Millis, SdkAppId};

/// Where a fact comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntrySource {
    /// A callback of Tencent.
    Callback,
    /// An answer of Tencent's REST API.
    Rest,
}

impl EntrySource {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Callback => "callback",
            Self::Rest => "rest",
        }
    }
}

/// What became of a fact, as the ledger says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// `applied`, `partial` or `parked`.
    pub outcome: &'static str,
    /// Why it is parked, or what was skipped of it; none where it is applied.
    pub reason: Option<String>,
    /// The labels of the causes in that reason, each once.
    pub causes: Vec<&'static str>,
}

/// An entry that is to be written, if it is new.
#[derive(Debug, Clone)]
pub struct NewEntry<'a> {
    /// The app.
    pub app: SdkAppId,
    /// The group, where it is known.
    pub group: Option<&'a GroupId>,
    /// Its place in time.
    pub time: Millis,
    /// Equal for every repeat.
    pub digest: Digest,
    /// True where the digest holds the id of a request and the time is that of its receipt: an equal digest is then the
    /// same request, at whatever time, and the earliest receipt counts.
    pub is_known_by_request: bool,
    /// The command that counts.
    pub command: &'a str,
    /// The event time as sent.
    pub event_time: Option<Millis>,
    /// The time of receipt.
    pub received_at: Millis,
    /// Where it comes from.
    pub source: EntrySource,
    /// What became of it.
    pub verdict: Verdict,
    /// The command of the query, where it differs.
    pub query_command: Option<&'a str>,
    /// `ClientIP` of the query.
    pub client_ip: Option<&'a str>,
    /// `OptPlatform` of the query.
    pub platform: Option<&'a str>,
    /// `RequestID` of the query.
    pub request_id: Option<&'a str>,
    /// The query as it came, without its signature, where the app has a relay.
    pub query: Option<String>,
    /// `Content-Type` as it came, where the app has a relay.
    pub content_type: Option<&'a str>,
    /// Where it is to be delivered as well.
    pub outbox: Option<OutboxMark>,
    /// Whom it is about.
    pub people: People,
    /// The bytes as they came.
    pub body: &'a [u8],
}

/// That an entry is to be delivered to the backend of its app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxMark {
    /// The process that enters it, and delivers it unless another one delivers its group.
    pub origin: i64,
    /// `RequestTime` of the query as it came, in Unix seconds.
    pub request_time: Option<i64>,
}

/// How an entry was queued for delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queued {
    /// The process that delivers it.
    pub owner: i64,
    /// That process has entries of the group before it which another process has entered.
    pub is_behind_others: bool,
}

/// What the ledger made of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entered {
    /// It is written; and queued, where it is to be delivered.
    New(Option<Queued>),
    /// It was there already.
    Known,
    /// Its request was there already, with a later receipt. Nothing is changed: the caller lets
    /// [`receive_earlier`](super::entry_door::receive_earlier) do it, outside the batch, because the group must be rebuilt with it.
    Earlier,
}

impl Verdict {
    /// As one text: an array of arrays cannot be handed over. NULL where there are none.
    pub(super) fn joined_causes(&self) -> Option<String> {
        assert_eq!(
            self.causes.is_empty(),
            self.reason.is_none(),
            "a reason has a cause, and a cause a reason"
        );
        self.reason.as_ref().map(|_| self.causes.join(","))
    }
}
