//! The small values that every other module speaks: ids, times, digests and the stamp.
//!
//! A value that exists is valid: each type has one `parse` and private fields. Nothing here knows of HTTP, SQL,
//! JSON or the clock; the time of receipt is handed in by the caller.

use std::fmt;

use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// The longest id or key in bytes. Tencent's longest is a topic id of 96 bytes; PostgreSQL refuses an index entry
/// of more than about 2,700 bytes, and the widest key of ours holds two ids.
pub const ID_BYTES_MAX: usize = 512;

/// 2010-01-01, in Unix milliseconds. The product is younger than this, so an older event time is not a time in
/// milliseconds (it may be one in seconds).
pub const EVENT_TIME_MIN_MS: i64 = 1_262_304_000_000;

/// How far an event time may lie ahead of its receipt, in milliseconds: one day. A time further ahead would win
/// over every later event until that time comes.
pub const EVENT_TIME_AHEAD_MAX_MS: i64 = 24 * 60 * 60 * 1000;

/// 2023-01-01, in Unix milliseconds: a receipt before this is that of a host whose clock is not set. The product is
/// younger, and a clock that was never set begins at 1970 or at the date of the firmware.
pub const RECEIPT_MIN_MS: i64 = 1_672_531_200_000;

/// 2100-01-01, in Unix milliseconds: no event time is later, whatever the clock of the host says.
pub const EVENT_TIME_MAX_MS: i64 = 4_102_444_800_000;

/// Why a text is no value of the wanted type; the message names both.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ModelError {
    /// Empty where an id has to stand.
    #[error("{0} is empty; it must name something")]
    Empty(&'static str),
    /// Longer than [`ID_BYTES_MAX`].
    #[error("{0} has {1} bytes; at most {ID_BYTES_MAX} are allowed")]
    TooLong(&'static str, usize),
    /// Not the digits of an app id.
    #[error("{0:?} is not an app id; it must be a positive decimal number such as 1400000001")]
    AppId(String),
    /// An event time that is not one in milliseconds.
    #[error(
        "event time {0} is not in milliseconds between 2010 and one day after receipt; it looks like {1}"
    )]
    EventTime(i64, &'static str),
    /// An event time that would win over every later event until it comes.
    #[error(
        "event time {0} is not in milliseconds between 2010 and one day after receipt; it looks like the future"
    )]
    FutureTime(i64),
}

/// Text as PostgreSQL can hold it: `U+0000`, which its `text` refuses, becomes `U+FFFD`. The ledger keeps the bytes.
#[must_use]
pub fn storable(text: &str) -> String {
    text.replace('\0', "\u{FFFD}")
}

/// Whether a text is short enough to be looked up like an id.
///
/// # Errors
/// Longer than [`ID_BYTES_MAX`].
pub fn is_word(what: &'static str, text: &str) -> Result<(), ModelError> {
    if text.len() > ID_BYTES_MAX { Err(ModelError::TooLong(what, text.len())) } else { Ok(()) }
}

fn parse_id(what: &'static str, text: &str) -> Result<String, ModelError> {
    if text.is_empty() {
        return Err(ModelError::Empty(what));
    }
    parse_key(what, text)
}

fn parse_key(what: &'static str, text: &str) -> Result<String, ModelError> {
    let text = storable(text);
    if text.len() > ID_BYTES_MAX {
        return Err(ModelError::TooLong(what, text.len()));
    }
    Ok(text)
}

/// The number of a Tencent Cloud Chat application (`SDKAppID`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SdkAppId(i64);

impl SdkAppId {
    /// Decimal digits, greater than zero.
    ///
    /// # Errors
    /// Anything else, signs and white space included.
    pub fn parse(text: &str) -> Result<Self, ModelError> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse() {
            Ok(number) if digits && number > 0 => Ok(Self(number)),
            _ => Err(ModelError::AppId(text.chars().take(40).collect())),
        }
    }

    /// As stored in `sdk_app_id bigint`.
    #[must_use]
    pub fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for SdkAppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A group id as Tencent writes it; case counts, spaces and slashes are possible. 1 to 512 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(String);

impl GroupId {
    /// # Errors
    /// Empty, or longer than [`ID_BYTES_MAX`].
    pub fn parse(text: &str) -> Result<Self, ModelError> {
        parse_id("the group id", text).map(Self)
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A user id as Tencent writes it. 1 to 512 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(String);

impl UserId {
    /// # Errors
    /// Empty, or longer than [`ID_BYTES_MAX`].
    pub fn parse(text: &str) -> Result<Self, ModelError> {
        parse_id("the user id", text).map(Self)
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A topic id as Tencent writes it. 1 to 512 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(String);

impl TopicId {
    /// # Errors
    /// Empty, or longer than [`ID_BYTES_MAX`].
    pub fn parse(text: &str) -> Result<Self, ModelError> {
        parse_id("the topic id", text).map(Self)
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The key of a user-defined field or of an attribute. At most 512 bytes; empty is a key like any other.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldKey(String);

impl FieldKey {
    /// # Errors
    /// Longer than [`ID_BYTES_MAX`].
    pub fn parse(text: &str) -> Result<Self, ModelError> {
        parse_key("the key", text).map(Self)
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A moment in Unix milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(i64);

impl Millis {
    /// A moment read off a clock or the ledger; it needs no check against a time of receipt.
    #[must_use]
    pub const fn new(millis: i64) -> Self {
        Self(millis)
    }

    /// An event time from a body, which must lie between 2010 and one day after a moment when it was known: the receipt
    /// at first, any later moment when it is judged again. A moment before [`RECEIPT_MIN_MS`] is that of a clock which is
    /// not set, and gives no verdict about the future.
    ///
    /// # Errors
    /// A time outside: it would never lose against a later event, or always.
    pub fn parse_event_time(millis: i64, known: Self) -> Result<Self, ModelError> {
        if millis < EVENT_TIME_MIN_MS {
            let guess = if millis > 1_000_000_000 { "a time in seconds" } else { "no time at all" };
            return Err(ModelError::EventTime(millis, guess));
        }
        if millis > EVENT_TIME_MAX_MS.saturating_mul(100) {
            return Err(ModelError::EventTime(millis, "a time in microseconds"));
        }
        let is_clock_set = known.0 >= RECEIPT_MIN_MS;
        let latest = known.0.saturating_add(EVENT_TIME_AHEAD_MAX_MS).min(EVENT_TIME_MAX_MS);
        if millis > if is_clock_set { latest } else { EVENT_TIME_MAX_MS } {
            return Err(ModelError::FutureTime(millis));
        }
        Ok(Self(millis))
    }

    /// Unix milliseconds.
    #[must_use]
    pub fn get(self) -> i64 {
        self.0
    }
}

/// What a callback says, as the first bytes of its SHA-256; equal for every repeat of it. 128 bits are enough to tell contents
/// apart that were authenticated, are about one group, and have one time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; Digest::BYTES]);

impl Digest {
    /// How many bytes are stored.
    pub const BYTES: usize = 16;

    /// Over a command and a content.
    #[must_use]
    pub fn of(command: &str, content: &[u8]) -> Self {
        Self::of_parts(&[command.as_bytes(), content])
    }

    /// Over parts, each behind its length, so that they cannot run into each other. The form never changes: digests are
    /// stored, and a repeat is known by them.
    #[must_use]
    pub fn of_parts(parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let whole: [u8; 32] = hash.finalize().into();
        let mut first = [0; Self::BYTES];
        first.copy_from_slice(&whole[..Self::BYTES]);
        Self(first)
    }

    /// The first 8 bytes as a number: the name of a lock.
    #[must_use]
    pub fn number(&self) -> i64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.0[..8]);
        i64::from_be_bytes(bytes)
    }

    /// As read back from the ledger; `None` unless there are exactly as many bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The bytes, as stored.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(8).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Settles the order of events of one millisecond. The numbers are stored; they never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Rank {
    /// An answer of the REST API: of one millisecond, every callback is newer.
    Read = 0,
    /// A group or topic came to be.
    Create = 1,
    /// Profile, owner, fields, attributes, role and name card.
    Change = 2,
    /// A membership began.
    Join = 3,
    /// A membership ended.
    Leave = 4,
    /// A group or topic ended.
    Destroy = 5,
}

/// Who wins: event time, then rank, then content. The greater stamp is newer, everywhere.
///
/// 17 bytes: the time in milliseconds big-endian, the rank, the first 8 bytes of the digest (of a read see
/// [`Stamp::of_read`]). Byte order is the order
/// here, in SQL and in every index. [`Stamp::ZERO`] stands for "never" and is stored as an empty `bytea`, which sorts
/// before everything.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp([u8; Stamp::BYTES]);

impl Stamp {
    /// The length of every stamp but zero, in bytes.
    pub const BYTES: usize = 17;
    /// Older than everything: nothing has been learned yet.
    pub const ZERO: Self = Self([0; Self::BYTES]);

    /// The stamp of an event. A moment before 1970 counts as 1970: no event time that passed its check is one.
    #[must_use]
    pub fn new(time: Millis, rank: Rank, digest: &Digest) -> Self {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&time.0.max(0).to_be_bytes());
        bytes[8] = rank as u8;
        bytes[9..].copy_from_slice(&digest.0[..8]);
        Self(bytes)
    }

    /// The stamp of a read: σ, the lowest rank, then how long after σ the read was sent, so that of two reads with one σ
    /// the later one wins, then the begin of the digest.
    #[must_use]
    pub fn of_read(sigma: Millis, sent: Millis, digest: &Digest) -> Self {
        assert!(sent >= sigma, "a read says nothing about the time after it was sent: {sigma:?} {sent:?}");
        let mut stamp = Self::new(sigma, Rank::Read, digest);
        let waited = u32::try_from(sent.0 - sigma.0).unwrap_or(u32::MAX);
        stamp.0[9..13].copy_from_slice(&waited.to_be_bytes());
        stamp.0[13..].copy_from_slice(&digest.0[..4]);
        stamp
    }

    /// The oldest stamp that the millisecond `spare_ms` before this one can have: a barrier that spares what came
    /// shortly before.
    #[must_use]
    pub fn earlier(self, spare_ms: i64) -> Self {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&(self.time().0 - spare_ms).max(0).to_be_bytes());
        Self(bytes)
    }

    /// The oldest stamp that the millisecond `wait_ms` after this one can have: a barrier against what comes shortly
    /// after.
    #[must_use]
    pub fn later(self, wait_ms: i64) -> Self {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.time().0.saturating_add(wait_ms).to_be_bytes());
        Self(bytes)
    }

    /// The time in it.
    #[must_use]
    pub fn time(self) -> Millis {
        let mut millis = [0; 8];
        millis.copy_from_slice(&self.0[..8]);
        Millis(i64::from_be_bytes(millis))
    }

    /// True for a stamp of this rank.
    #[must_use]
    pub fn is_of(self, rank: Rank) -> bool {
        self.0[8] == rank as u8
    }

    /// True for [`Stamp::ZERO`].
    #[must_use]
    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }

    /// As stored: empty for zero, else 17 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        if self.is_zero() { &[] } else { &self.0 }
    }

    /// As read back; `None` unless the length is 0 or 17.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() { Some(Self::ZERO) } else { bytes.try_into().ok().map(Self) }
    }
}

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{:02x}{:02x}", self.time().0, self.0[8], self.0[9], self.0[10])
    }
}
