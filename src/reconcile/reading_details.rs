//! Attributes and topics of one group: read where a callback leaves them unclear, or where they are known to be.
//!
//! A type or an edition without them is "unsupported" and never "gone". An answer that is larger than a ledger entry may be
//! is entered in parts, which confirm what they name and end nothing.

use super::reading::{CallFailure, GroupReader};
use super::reading_verdict::{ReadHalt, ReadSpare, UnknownWhy};
use crate::mirror::{GroupKey, LIST_BYTES_MAX, ReadKind, ReadTime, Snapshot};
use crate::model::{GroupId, Millis, UserId};
use crate::tencent::canonical;
use crate::tencent::codes::CodeClass;

/// In the name of so many members at most topics are asked for.
const SPEAKERS_MAX: usize = 3;

/// Elements of one part of an answer that is too large.
const PART_ELEMENTS: usize = 20;

/// What is known of attributes or topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DetailState {
    /// They were read.
    Read,
    /// Tencent says that there is no such group; only a read of its profile makes it a candidate.
    Gone,
    /// This type or edition has none.
    Unsupported,
    /// Nothing was read.
    Unknown(UnknownWhy),
}

/// Attributes or topics of one group.
#[derive(Debug)]
pub struct DetailReading {
    /// The group.
    pub group: GroupKey,
    /// What is known.
    pub state: DetailState,
    /// What to enter: one snapshot, or parts of an answer that is too large for one.
    pub snapshots: Vec<Snapshot>,
}

fn state_of(failure: CallFailure) -> DetailState {
    match failure {
        CallFailure::Question(CodeClass::Gone, _) => DetailState::Gone,
        CallFailure::Question(CodeClass::Unsupported, _) => DetailState::Unsupported,
        other => DetailState::Unknown(other.unknown()),
    }
}

impl GroupReader {
    /// Reads the attributes of a group.
    ///
    /// # Errors
    /// No further call.
    pub async fn attributes(&self, group: &GroupId, spare: ReadSpare) -> Result<DetailReading, ReadHalt> {
        let reply = match self.judged(self.client.attributes(group, &self.stop).await)? {
            Ok(reply) => reply,
            Err(failure) => return Ok(self.without_details(group, state_of(failure))),
        };
        let is_complete = reply.answer.unread.is_empty();
        let parts = || reply.answer.attributes.chunks(PART_ELEMENTS).map(canonical::attributes).collect();
        let answers = parted(&reply.bytes, parts);
        let kind = (ReadKind::Attributes, is_complete);
        Ok(self.details(group, kind, (reply.asked_at, spare), answers))
    }

    /// Reads all topics of a community, in the name of one of these members: Tencent wants one, and whether an
    /// administrator who is no member will do is documented nowhere. One who is refused may have left; the next one is
    /// tried.
    ///
    /// # Errors
    /// No further call.
    pub async fn topics(
        &self,
        group: &GroupId,
        speakers: &[UserId],
        spare: ReadSpare,
    ) -> Result<DetailReading, ReadHalt> {
        let mut state = DetailState::Unknown(UnknownWhy::NoMember);
        for speaker in speakers.iter().take(SPEAKERS_MAX) {
            let reply = match self.judged(self.client.topics(group, speaker, &[], &self.stop).await)? {
                Ok(reply) => reply,
                Err(failure) => {
                    state = state_of(failure);
                    if state == DetailState::Unsupported {
                        continue;
                    }
                    break;
                }
            };
            let is_complete = reply.answer.unread.is_empty();
            let parts = || reply.answer.topics.chunks(PART_ELEMENTS).map(canonical::topics).collect();
            let answers = parted(&reply.bytes, parts);
            let kind = (ReadKind::Topics, is_complete);
            return Ok(self.details(group, kind, (reply.asked_at, spare), answers));
        }
        Ok(self.without_details(group, state))
    }

    fn without_details(&self, group: &GroupId, state: DetailState) -> DetailReading {
        DetailReading { group: self.key(group), state, snapshots: Vec::new() }
    }

    fn details(
        &self,
        group: &GroupId,
        (kind, is_complete): (ReadKind, bool),
        (sent, spare): (Millis, ReadSpare),
        answers: Vec<Vec<u8>>,
    ) -> DetailReading {
        if answers.iter().any(|answer| answer.len() > LIST_BYTES_MAX) {
            return self.without_details(group, DetailState::Unknown(UnknownWhy::TooLarge));
        }
        let is_complete = is_complete && answers.len() == 1;
        let time = ReadTime::new(sent, spare.ms, None);
        let snapshot = |answer: Vec<u8>| Snapshot {
            group: self.key(group),
            time,
            kind,
            is_complete,
            range: None,
            missing: Vec::new(),
            answer,
        };
        let snapshots = answers.into_iter().map(snapshot).collect();
        DetailReading { group: self.key(group), state: DetailState::Read, snapshots }
    }
}

/// An answer as it came, or its parts where it is too large for a ledger entry.
fn parted(answer: &[u8], parts: impl FnOnce() -> Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    if answer.len() <= LIST_BYTES_MAX { vec![answer.to_vec()] } else { parts() }
}
