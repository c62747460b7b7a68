//! An entry of the ledger read again: row → callback or snapshot → facts, by the same decoder that read it when it came.
//!
//! Pure. The digest and the time of what was applied stay those that the entry was given at receipt: they are stored,
//! never computed anew. What was parked is judged again.

use crate::callback::{self, Callback, Decoded, Event, Reading, ReasonCause, Received};
use crate::mirror::{self, Fact, People, Snapshot};
use crate::model::{Digest, GroupId, Millis, SdkAppId};
use crate::store::ledger::{LedgerRow, Verdict};

/// Later than every event time: the time of an entry that was applied was believed once, and is not judged again.
const NO_VERDICT: Millis = Millis::new(i64::MAX);

fn decode_at(row: &LedgerRow, now: Millis) -> Option<Callback> {
    if row.is_snapshot() {
        return None;
    }
    let hint =
        row.query_command.clone().or_else(|| Some(row.command.clone()).filter(|text| !text.is_empty()));
    let received = Received {
        query_command: hint,
        request_id: row.request_id.clone(),
        ..Received::bare(
            SdkAppId::parse(&row.sdk_app_id.to_string()).ok()?,
            Millis::new(row.received_ms),
            row.body.clone(),
        )
    };
    match callback::decode_at(received, now) {
        Decoded::Kept(callback) => Some(*callback),
        Decoded::OutOfScope(_) => None,
    }
}

/// What an entry says, at the place in the ledger that it has; none where this program does not know its command.
fn decode(row: &LedgerRow) -> Option<Callback> {
    let mut callback = decode_at(row, NO_VERDICT)?;
    callback.digest = Digest::from_bytes(&row.digest)?;
    callback.time = Millis::new(row.time_ms);
    Some(callback)
}

/// An entry that was parked or read in part, judged again at a later moment. The digest is that of its receipt, unless a
/// time that is believed only now is part of what a repeat is known by.
pub(super) fn judged_again(row: &LedgerRow, now: Millis) -> Option<Callback> {
    let mut callback = decode_at(row, now)?;
    let at_receipt = decode_at(row, Millis::new(row.received_ms))?;
    // Another digest is that of another version of this program, and stays.
    if at_receipt.digest.as_bytes() != row.digest {
        callback.digest = Digest::from_bytes(&row.digest)?;
    }
    Some(callback)
}

/// True for a parked entry that an update of the program made readable. Not one that waits for a time to come, or that
/// PostgreSQL refused: this program reads it no better than the one that parked it.
pub(super) fn is_readable_now(row: &LedgerRow) -> bool {
    let waits = [ReasonCause::FutureTime, ReasonCause::RefusedByDatabase];
    !waits.iter().any(|cause| row.has_cause(cause.label()))
        && judged_again(row, Millis::new(row.received_ms)).is_some_and(|callback| callback.event.is_ok())
}

/// The facts of an entry that was applied, and whether this program reads the same of it as was read then; none where it
/// cannot read it.
pub(super) fn facts(row: &LedgerRow) -> Option<(Vec<Fact>, bool)> {
    if row.is_snapshot() {
        return snapshot_facts(row).map(|facts| (facts, true));
    }
    let callback = decode(row).filter(|callback| callback.event.is_ok())?;
    let is_same = row.outcome != "partial" || says_the_same(row, &verdict(&callback));
    Some((mirror::facts(&callback), is_same))
}

/// Whom a callback is about.
#[must_use]
pub fn people_of(callback: &Callback) -> People {
    let unread = Some(&callback.received.body[..]).filter(|_| callback.reading() != Reading::Applied);
    People::of_callback(callback.event.as_ref().ok(), unread)
}

/// Whom an entry is about, by its outcome; none where this program cannot read it, or reads more of it than was read then.
pub(super) fn people_of_row(row: &LedgerRow) -> Option<People> {
    if row.is_snapshot() {
        let snapshot = snapshot(row)?;
        let facts = snapshot.facts(&Digest::from_bytes(&row.digest)?).ok()?;
        return Some(People::of_snapshot(snapshot.kind, &facts));
    }
    if !row.is_applied() {
        return (!is_readable_now(row)).then(|| People::of_callback(None, Some(&row.body)));
    }
    let callback = decode(row).filter(|callback| callback.event.is_ok())?;
    (row.outcome != "partial" || says_the_same(row, &verdict(&callback))).then(|| people_of(&callback))
}

/// Whom an entry is about; of one that this program cannot read all that its body names.
#[must_use]
pub fn people_in(row: &LedgerRow) -> People {
    people_of_row(row).unwrap_or_else(|| people_before(row))
}

/// Whom an entry of a callback may have been about by what was read of it before: all that its body names.
pub(super) fn people_before(row: &LedgerRow) -> People {
    let event = event(row).filter(|_| row.is_applied());
    People::of_callback(event.as_ref(), Some(&row.body))
}

/// The facts of an entry that is a snapshot; none for a callback, and where this program cannot read it.
#[must_use]
pub fn snapshot_facts(row: &LedgerRow) -> Option<Vec<Fact>> {
    snapshot(row)?.facts(&Digest::from_bytes(&row.digest)?).ok()
}

fn snapshot(row: &LedgerRow) -> Option<Snapshot> {
    if !row.is_snapshot() {
        return None;
    }
    let app = SdkAppId::parse(&row.sdk_app_id.to_string()).ok()?;
    let group = mirror::group_key(app, GroupId::parse(&row.group_id).ok()?);
    Snapshot::of_body(group, &row.body)
}

/// What an entry of a callback says, applied or parked; none where this program cannot read it.
#[must_use]
pub fn event(row: &LedgerRow) -> Option<Event> {
    decode(row).and_then(|callback| callback.event.ok())
}

/// What becomes of a callback, in the words of the ledger.
#[must_use]
pub fn verdict(callback: &Callback) -> Verdict {
    Verdict {
        outcome: callback.reading().as_str(),
        reason: callback.reason_text(),
        causes: callback.causes().into_iter().map(ReasonCause::label).collect(),
    }
}

/// The reason of an entry after its body was changed, where it follows from the body: it may quote what was changed. None
/// where this program would not have given the reason that the entry has.
#[must_use]
pub fn reason_of(row: &LedgerRow, body: &[u8]) -> Option<String> {
    let changed = LedgerRow { body: body.to_vec(), ..row.clone() };
    [Millis::new(row.received_ms), NO_VERDICT].into_iter().find_map(|now| {
        let before = verdict(&decode_at(row, now)?);
        let after = verdict(&decode_at(&changed, now)?);
        let is_known = says_the_same(row, &before) && after.outcome == before.outcome;
        after.reason.filter(|_| is_known).map(|reason| crate::model::storable(&reason))
    })
}

/// True where a row has this verdict already.
pub(super) fn says_the_same(row: &LedgerRow, verdict: &Verdict) -> bool {
    let reason = verdict.reason.as_deref().map(crate::model::storable);
    row.outcome == verdict.outcome && row.reason == reason
}
