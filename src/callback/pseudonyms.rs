//! A body with the id of a person replaced by a pseudonym, for the laws that give a person the right to be erased.
//!
//! Pure, and the one path for the ledger, for callbacks that come late, and for answers of the REST API. An id matches as a
//! whole JSON string, key or value, however it is escaped; every other byte stays. Left alone is what cannot be a user: the
//! names of Tencent's fields, and values that are words of its grammar or ids of groups and topics, because a body must
//! still say the same when a user is called `Member`. In bytes that are no JSON an id matches between two quotes as well.
//! A name card that stands beside the id is emptied: it says who the person is.

use std::borrow::Cow;

use super::mentions::{AccountField, accounts};
use super::reason::ReasonCause;
use super::{Callback, Decoded, Received, decode, wire};
use crate::json::read;
use crate::json::strings::{JsonString, strings};
use crate::model::storable;

/// The pseudonym of a text that is the id of an erased person; none for any other.
pub type PseudonymOf<'p> = dyn Fn(&str) -> Option<&'p str> + 'p;

/// Keys of callbacks, of REST answers, and of the envelope of a snapshot: each name that a reader of this program knows.
pub const FIELD_NAMES: [&str; 76] = [
    wire::COMMAND,
    wire::EVENT_TIME,
    wire::GROUP_ID,
    wire::TYPE,
    wire::OPERATOR,
    wire::OWNER,
    wire::OLD_OWNER,
    wire::NEW_OWNER,
    wire::MEMBER_LIST,
    wire::NEW_MEMBER_LIST,
    wire::EXIT_MEMBER_LIST,
    wire::MEMBER,
    wire::MODIFIED,
    wire::JOIN_TYPE,
    wire::EXIT_TYPE,
    wire::ROLE,
    wire::NAME_CARD,
    wire::FIELDS,
    wire::FIELD_KEY,
    wire::FIELD_VALUE,
    wire::OPTION_TYPE,
    wire::ATTRIBUTES,
    wire::ATTRIBUTE_KEY,
    wire::ATTRIBUTE_VALUE,
    wire::TOPIC_ID,
    wire::TOPIC_ID_LIST,
    "Name",
    "Introduction",
    "Notification",
    "FaceUrl",
    "ActionStatus",
    "ErrorCode",
    "ErrorInfo",
    "AppDefinedData",
    "AppMemberDefinedData",
    "ApplyJoinOption",
    "CreateTime",
    "CustomString",
    "GroupAttrAry",
    "GroupID",
    "GroupIdList",
    "GroupInfo",
    "InfoSeq",
    "InviteJoinOption",
    "JoinTime",
    "LastInfoTime",
    "LastMsgTime",
    "LastSendMsgTime",
    "MaxMemberNum",
    "MemberNum",
    "MsgFlag",
    "MuteAllMember",
    "MuteUntil",
    "MutedAccountList",
    "MutedUntil",
    "Next",
    "NextMsgSeq",
    "SelfInfo",
    "ShutUpAllFlag",
    "ShutUpAllMember",
    "ShutUpUntil",
    "ShuttedUinList",
    "ShuttedUntil",
    "SupportTopic",
    "TopicAndSelfInfo",
    "TopicInfo",
    "TopicName",
    "TotalCount",
    "UserIdList",
    "answer",
    "complete",
    "missing",
    "range",
    "read",
    "sent",
    "sigma",
];

/// Keys whose values are words of Tencent's grammar, or ids of something that is no user.
const NO_USERS: [&str; 22] = [
    wire::COMMAND,
    wire::EVENT_TIME,
    wire::GROUP_ID,
    wire::TYPE,
    wire::JOIN_TYPE,
    wire::EXIT_TYPE,
    wire::ROLE,
    wire::OPTION_TYPE,
    wire::TOPIC_ID,
    wire::TOPIC_ID_LIST,
    "ActionStatus",
    "ErrorInfo",
    "ApplyJoinOption",
    "InviteJoinOption",
    "GroupID",
    "MsgFlag",
    "MuteAllMember",
    "Next",
    "ShutUpAllFlag",
    "ShutUpAllMember",
    "range",
    "read",
];

/// Parameters of the query whose values are no users.
const NO_USERS_IN_QUERY: [&str; 4] = ["SdkAppid", "CallbackCommand", "contenttype", "OptPlatform"];

/// The parameter of the query that holds the address of the client.
const CLIENT_IP: &str = "ClientIP";

/// A body with pseudonyms in the place of ids; none where it names no erased person.
#[must_use]
pub fn pseudonymized(body: &[u8], of: &PseudonymOf<'_>) -> Option<Vec<u8>> {
    let all = strings(body);
    let mut edits = Vec::new();
    let mut persons = Vec::new();
    for (at, string) in all.iter().enumerate() {
        if let Some(pseudonym) = replacement(&all, string, of) {
            edits.push((at, serde_json::Value::from(pseudonym).to_string()));
            if string.is_member && is_under(&all, string, &[wire::MEMBER, wire::MODIFIED]) {
                persons.push(string.object);
            }
        }
    }
    persons.sort_unstable();
    if !persons.is_empty() {
        let is_card = |string: &JsonString<'_>| {
            string.is_member
                && persons.binary_search(&string.object).is_ok()
                && is_under(&all, string, &[wire::NAME_CARD])
        };
        edits.retain(|(at, _)| !is_card(&all[*at]));
        let cards = all.iter().enumerate().filter(|(_, string)| is_card(string));
        edits.extend(cards.map(|(at, _)| (at, "\"\"".to_owned())));
        edits.sort_unstable();
    }
    let mut written = edited(body, &all, &edits);
    if read(body).is_err() {
        written = between_quotes(&written, of);
    }
    (written != body).then_some(written)
}

/// What stands in the place of a string; none where it stays.
fn replacement<'p>(all: &[JsonString<'_>], string: &JsonString<'_>, of: &PseudonymOf<'p>) -> Option<&'p str> {
    if string.text.repaired.is_some() {
        // It could be the id of another one.
        return None;
    }
    let is_no_user = if string.is_key {
        FIELD_NAMES.contains(&&*string.text.text)
    } else {
        is_under(all, string, &NO_USERS)
    };
    if is_no_user { None } else { of(&storable(&string.text.text)) }
}

fn is_under(all: &[JsonString<'_>], string: &JsonString<'_>, keys: &[&str]) -> bool {
    string.under.is_some_and(|key| {
        let key = &all[key].text;
        key.repaired.is_none() && keys.contains(&&*key.text)
    })
}

fn edited(body: &[u8], all: &[JsonString<'_>], edits: &[(usize, String)]) -> Vec<u8> {
    let (mut written, mut at) = (Vec::with_capacity(body.len()), 0);
    for (string, new) in edits {
        let range = &all[*string].range;
        written.extend_from_slice(&body[at..range.start]);
        written.extend_from_slice(new.as_bytes());
        at = range.end;
    }
    written.extend_from_slice(&body[at..]);
    written
}

/// Replaces what stands between any two quotes that follow each other: where strings begin is not known of such bytes.
fn between_quotes(bytes: &[u8], of: &PseudonymOf<'_>) -> Vec<u8> {
    let pieces: Vec<&[u8]> = bytes.split(|byte| *byte == b'"').collect();
    let inner = 1..pieces.len().saturating_sub(1);
    let pieces: Vec<&[u8]> = pieces
        .iter()
        .enumerate()
        .map(|(at, piece)| {
            let text = inner.contains(&at).then(|| std::str::from_utf8(piece).ok()).flatten();
            text.and_then(of).map_or(*piece, str::as_bytes)
        })
        .collect();
    pieces.join(&b'"')
}

/// True where an erased person did what a body says, as far as it says who did it: the client's address is then that
/// person's.
#[must_use]
pub fn is_act_of(body: &[u8], of: &PseudonymOf<'_>) -> bool {
    let named = accounts(body);
    let is_operator = |field: &AccountField| *field == AccountField::Operator;
    let has_operator = named.iter().any(|(field, _)| is_operator(field));
    named
        .iter()
        .filter(|(field, _)| !has_operator || is_operator(field))
        .any(|(_, user)| of(user.as_str()).is_some())
}

/// A query string with pseudonyms in the place of ids, and without the client's address where that is to go; none where
/// nothing changes.
#[must_use]
pub fn pseudonymized_query(query: &str, of: &PseudonymOf<'_>, drops_address: bool) -> Option<String> {
    let part = |part: &str| -> String {
        let Some((name, value)) = form_urlencoded::parse(part.as_bytes()).next() else {
            return part.to_owned();
        };
        let written = part.split('=').next().unwrap_or_default();
        if name == CLIENT_IP && drops_address {
            return format!("{written}=");
        }
        let is_no_user = NO_USERS_IN_QUERY.contains(&&*name);
        let pseudonym = if is_no_user { None } else { of(&storable(&value)) };
        pseudonym.map_or_else(|| part.to_owned(), |pseudonym| format!("{written}={}", in_query(pseudonym)))
    };
    let written = query.split('&').map(part).collect::<Vec<_>>().join("&");
    (written != query).then_some(written)
}

fn in_query(text: &str) -> Cow<'_, str> {
    form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().into()
}

/// A callback as the ledger is to hold it, with pseudonyms in the place of ids; none where it names no erased person. What a
/// repeat is known by, and its place in time, stay those of the bytes as they came.
#[must_use]
pub fn pseudonymized_callback(callback: &Callback, of: &PseudonymOf<'_>) -> Option<Callback> {
    let received = &callback.received;
    let body = pseudonymized(&received.body, of);
    let is_theirs = is_act_of(&received.body, of);
    let query = received.query.as_deref().and_then(|query| pseudonymized_query(query, of, is_theirs));
    if body.is_none() && query.is_none() && !(is_theirs && received.client_ip.is_some()) {
        return None;
    }
    let received = Received {
        client_ip: received.client_ip.clone().filter(|_| !is_theirs),
        query: query.or_else(|| received.query.clone()),
        body: body.unwrap_or_else(|| received.body.clone()),
        ..received.clone()
    };
    let is_refused =
        callback.event.as_ref().is_err_and(|reason| reason.cause == ReasonCause::RefusedByDatabase);
    let read = match decode(received.clone()) {
        Decoded::Kept(read) if !is_refused => *read,
        // What PostgreSQL has refused stays parked, and what is kept stays kept.
        Decoded::Kept(_) | Decoded::OutOfScope(_) => Callback { received, ..callback.clone() },
    };
    Some(Callback {
        command: callback.command.clone(),
        group: callback.group.clone(),
        event_time: callback.event_time,
        time: callback.time,
        digest: callback.digest,
        ..read
    })
}
