//! Bytes → [`Callback`]: which command counts, which time is believed, which digest a repeat is known by.
//!
//! Decoding never fails: what is authentic and in scope becomes a callback, and one that cannot be read carries the
//! reason why, so that it is parked with its bytes. The same request and the same moment of judgement always give the same
//! callback; replay depends on that.

use super::canonical;
use super::commands::{STATE_COMMANDS, Scope, scope};
use super::events::{event, group_id};
use super::fields::{Fields, present};
use super::reason::{Reason, ReasonCause, Skips};
use super::wire;
use super::{Callback, Event, Received};
use crate::json::{Broken, Json, JsonObject, read};
use crate::model::{Digest, GroupId, Millis, ModelError, storable};

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// On the closed list of what is counted and not kept.
    OutOfScope(Box<Unkept>),
    /// A ledger entry: applied, applied in part, or parked.
    Kept(Box<Callback>),
}

/// A request that is not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unkept {
    /// For the counter.
    pub label: &'static str,
    /// The command itself, which may be any of another family.
    pub command: String,
    /// As it was received.
    pub received: Received,
}

/// Reads a verified request at the moment of its receipt.
#[must_use]
pub fn decode(received: Received) -> Decoded {
    let now = received.received_at;
    decode_at(received, now)
}

/// Reads a verified request at a later moment: an event time that lay in the future at its receipt may have come.
#[must_use]
pub fn decode_at(received: Received, now: Millis) -> Decoded {
    match contents(&received, now.max(received.received_at)) {
        Err((label, command)) => Decoded::OutOfScope(Box::new(Unkept { label, command, received })),
        Ok(Contents { command, group, event_time, time, digest, event, skipped }) => {
            let callback = Callback { received, command, group, event_time, time, digest, event, skipped };
            Decoded::Kept(Box::new(callback))
        }
    }
}

/// A callback without the request that it was read from.
struct Contents {
    command: String,
    group: Option<GroupId>,
    event_time: Option<Millis>,
    time: Millis,
    digest: Digest,
    event: Result<Event, Reason>,
    skipped: Skips,
}

/// The commands that a request names.
struct Commands {
    /// The one that counts: the signature covers neither, but the body is what is stored and replayed.
    counts: String,
    /// That of the query, where the body has another.
    differing: Option<String>,
}

impl Commands {
    /// Both as the ledger holds them, so that what is decoded from there differs where this does.
    fn of(received: &Received, body: Option<&JsonObject<'_>>) -> Self {
        let in_body = body.and_then(|body| match present(body, wire::COMMAND) {
            Some(Json::Text(text)) => Some(storable(&text.text)),
            _ => None,
        });
        let in_query = received.query_command.as_deref().map(storable);
        let differing = in_query.clone().filter(|query| in_body.as_ref().is_some_and(|body| body != query));
        Self { counts: in_body.or(in_query).unwrap_or_default(), differing }
    }

    /// What the digest is over. What is parked for two commands is not a repeat of the callback itself, which may still
    /// come.
    fn of_digest(&self) -> &str {
        self.differing.as_deref().unwrap_or(&self.counts)
    }
}

/// Everything that a request says; label and name of a command out of scope.
fn contents(received: &Received, known: Millis) -> Result<Contents, (&'static str, String)> {
    let parsed = read(&received.body);
    let commands = Commands::of(received, parsed.as_ref().ok().and_then(as_object));
    if let (Scope::Out(label), None) = (scope(&commands.counts), &commands.differing) {
        return Err((label, commands.counts));
    }
    Ok(match &parsed {
        Ok(Json::Object(body)) => of_object(received, known, commands, body),
        Ok(_) => unreadable(received, commands, Reason::new(ReasonCause::NotAnObject, "", ""), None),
        Err(Broken { at, why, read }) => {
            let reason = Reason::new(ReasonCause::NotJson, "", format!("{why}, at byte {at}"));
            unreadable(received, commands, reason, group_id(&Fields::new(read)).ok())
        }
    })
}

fn as_object<'j, 'a>(value: &'j Json<'a>) -> Option<&'j JsonObject<'a>> {
    match value {
        Json::Object(object) => Some(object),
        _ => None,
    }
}

/// A body that is no JSON object; its group may stand before the place where it breaks.
fn unreadable(received: &Received, commands: Commands, reason: Reason, group: Option<GroupId>) -> Contents {
    let digest = digest_of_request(received, &commands, b"bytes", &received.body);
    let (event_time, time) = (None, received.received_at);
    let (event, skipped) = (Err(reason), Skips::default());
    Contents { command: commands.counts, group, event_time, time, digest, event, skipped }
}

fn of_object(received: &Received, known: Millis, commands: Commands, body: &JsonObject<'_>) -> Contents {
    let event_time = event_time(body);
    let believed = match &event_time {
        Ok(Some(time)) => Millis::parse_event_time(time.get(), known).map(Some),
        Ok(None) | Err(_) => Ok(None),
    };
    // A time that is not believed is no place in the ledger: a later delivery of the same body, received when the time
    // is in range, must not be taken for a repeat of the parked one.
    let place = believed.clone().ok().flatten();
    let digest = match place {
        // A number or a quoted number; it is no part of the content, so that both forms of one event have one digest
        // (sample `…event-time-string`).
        Some(_) => {
            let content = canonical::of_object(body, Some(wire::EVENT_TIME));
            Digest::of_parts(&[commands.of_digest().as_bytes(), b"json", &content])
        }
        None => digest_of_request(received, &commands, b"json", &canonical::of_object(body, None)),
    };
    let mut fields = Fields::new(body);
    let said_at = event_time.clone().ok().flatten();
    let group_named = group_id(&fields).ok();
    let event = check(&commands, event_time.and(believed.map_err(|error| bad_time(&error))))
        .and_then(|()| event(&commands.counts, &mut fields));
    let group = event.as_ref().ok().map(|event| event.group.clone()).or(group_named);
    let skipped = if event.is_ok() { fields.into_skipped() } else { Skips::default() };
    let time = place.unwrap_or(received.received_at);
    Contents { command: commands.counts, group, event_time: said_at, time, digest, event, skipped }
}

/// Without a time that is believed, only the request itself tells two equal bodies apart.
fn digest_of_request(received: &Received, commands: &Commands, form: &[u8], content: &[u8]) -> Digest {
    let request = storable(received.request_id.as_deref().unwrap_or_default());
    Digest::of_parts(&[commands.of_digest().as_bytes(), form, content, request.as_bytes()])
}

/// What must hold before the content is looked at.
fn check(commands: &Commands, time: Result<Option<Millis>, Reason>) -> Result<(), Reason> {
    if let Some(query) = &commands.differing {
        return Err(Reason::new(ReasonCause::CommandMismatch, wire::COMMAND, query));
    }
    time?;
    match commands.counts.as_str() {
        "" => Err(Reason::new(ReasonCause::NoCommand, wire::COMMAND, "")),
        known if STATE_COMMANDS.contains(&known) => Ok(()),
        unknown => Err(Reason::new(ReasonCause::UnknownCommand, wire::COMMAND, unknown)),
    }
}

fn bad_time(error: &ModelError) -> Reason {
    let cause = match error {
        ModelError::FutureTime(_) => ReasonCause::FutureTime,
        _ => ReasonCause::BadTime,
    };
    Reason::new(cause, wire::EVENT_TIME, error.to_string())
}

/// `EventTime` as sent: a number, a quoted number, or absent (samples `…event-time-string`, `…no-event-time`); empty is
/// absent.
fn event_time(body: &JsonObject<'_>) -> Result<Option<Millis>, Reason> {
    let millis = match present(body, wire::EVENT_TIME) {
        None => return Ok(None),
        Some(Json::Text(text)) if text.text.is_empty() => return Ok(None),
        Some(Json::Number(number)) => number.parse().ok(),
        Some(Json::Text(text)) if text.text.bytes().all(|byte| byte.is_ascii_digit()) => {
            text.text.parse().ok()
        }
        Some(_) => None,
    };
    let wrong = |value: &Json<'_>| {
        let written = canonical::of(value);
        let written = String::from_utf8_lossy(&written).into_owned();
        let text = format!("EventTime is {written}; it must be Unix milliseconds as an integer");
        Reason::new(ReasonCause::BadTime, wire::EVENT_TIME, text)
    };
    match (millis, present(body, wire::EVENT_TIME)) {
        (None, Some(value)) => Err(wrong(value)),
        (millis, _) => Ok(millis.map(Millis::new)),
    }
}
