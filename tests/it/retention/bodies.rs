//! What a body becomes when an id in it is replaced, held against the tree of a second parser and against what decoding
//! says of both.

use std::collections::BTreeSet;

use group_mirror::callback::{
    Callback, Decoded, EventKind, FIELD_NAMES, Received, accounts, decode, is_act_of, pseudonymized,
    pseudonymized_callback, pseudonymized_query,
};
use group_mirror::model::{Millis, SdkAppId};
use group_mirror::tencent::members::MemberPage;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use crate::house::sources::sources;
use crate::support::{APP, histories, samples};

const PSEUDONYM: &str = "erased-00112233445566778899";

fn of<'a>(user: &'a str) -> impl Fn(&str) -> Option<&'a str> + 'a {
    move |text| (text == user).then_some(PSEUDONYM)
}

fn without(body: &[u8], user: &str) -> Option<Vec<u8>> {
    pseudonymized(body, &of(user))
}

/// A callback that came from an address; none where its command is out of scope.
pub(super) fn decoded(body: &[u8]) -> Option<Callback> {
    let received = Received {
        client_ip: Some("203.0.113.9".into()),
        ..Received::bare(
            SdkAppId::parse(APP).unwrap(),
            Millis::new(histories::BASE_MS + 60_000),
            body.to_vec(),
        )
    };
    match decode(received) {
        Decoded::Kept(callback) => Some(*callback),
        Decoded::OutOfScope(_) => None,
    }
}

/// What decoding says, without the request; the person under a pseudonym and without a card.
fn said(callback: &Callback, user: &str) -> String {
    let mut callback = callback.clone();
    if let Ok(event) = &mut callback.event
        && let EventKind::MemberChanged { member, name_card: Some(card), .. } = &mut event.kind
        && [user, PSEUDONYM].contains(&member.as_str())
    {
        card.clear();
    }
    format!("{:?} {:?} {:?}", callback.event, callback.skipped, callback.group)
        .replace(&format!("{user:?}"), &format!("{PSEUDONYM:?}"))
}

/// Another spelling of a JSON text: some characters of the ids in it are escaped.
fn escaped(body: &str, seed: u64) -> String {
    let mut written = body.to_owned();
    for (_, user) in histories::USERS.iter().enumerate().filter(|(at, _)| seed >> at & 1 == 1) {
        let first = user.chars().next().unwrap();
        let escape = format!("\"\\u{:04x}{}\"", u32::from(first), &user[1..]);
        written = written.replace(&format!("\"{user}\""), &escape);
    }
    written
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_callback_says_the_same_of_the_pseudonym_as_of_the_id(
        body in histories::body(),
        user in select(&histories::USERS[..]),
        seed in any::<u64>(),
    ) {
        let body = escaped(&body.to_string(), seed);
        let before = decoded(body.as_bytes()).unwrap();
        let erased = without(body.as_bytes(), user);
        let names = accounts(body.as_bytes()).iter().any(|(_, named)| named.as_str() == user);
        prop_assert_eq!(erased.is_some(), names, "{}", body);
        let Some(erased) = erased else { return Ok(()) };
        let after = decoded(&erased).unwrap();
        prop_assert_eq!(said(&after, user), said(&before, user));
        prop_assert!(without(&erased, user).is_none(), "the id is there no more");
        let entered = pseudonymized_callback(&before, &of(user)).unwrap();
        prop_assert_eq!((entered.digest, entered.time), (before.digest, before.time));
        prop_assert_eq!(&entered.received.body, &erased);
        prop_assert_eq!(said(&entered, user), said(&before, user));
        let is_theirs = is_act_of(body.as_bytes(), &of(user));
        prop_assert_eq!(entered.received.client_ip.is_none(), is_theirs);
    }

    #[test]
    fn every_byte_but_the_strings_that_are_the_id_stays(value in value(), pretty in any::<bool>()) {
        let body = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        let erased = without(body.as_bytes(), "ana").unwrap_or_else(|| body.clone().into_bytes());
        let wanted = body.replace("\"ana\"", &format!("{PSEUDONYM:?}"));
        prop_assert_eq!(String::from_utf8(erased).unwrap(), wanted);
    }

    #[test]
    fn bytes_that_are_no_json_hold_the_id_between_no_two_quotes(
        body in histories::body(),
        cut in any::<prop::sample::Index>(),
        more in any::<[u8; 3]>(),
    ) {
        let mut bytes = body.to_string().into_bytes();
        let at = cut.index(bytes.len());
        bytes.splice(at..at + 1, more);
        let erased = without(&bytes, "ana").unwrap_or_else(|| bytes.clone());
        prop_assert!(accounts(&erased).iter().all(|(_, named)| named.as_str() != "ana"));
        if decoded(&bytes).is_some_and(|callback| callback.group.is_none()) {
            let pieces: Vec<&[u8]> = erased.split(|byte| *byte == b'"').collect();
            let inner = &pieces[1.min(pieces.len())..pieces.len().max(2) - 1];
            prop_assert!(!inner.contains(&&b"ana"[..]), "{}", erased.escape_ascii());
        }
        prop_assert!(without(&erased, "ana").is_none());
    }
}

/// A JSON value in which the id is frequent, as a value, as a key, and as a part of other texts.
fn value() -> impl Strategy<Value = Value> {
    let text = || select(&["ana", "ana ", "Ana", "an\"a", "\\ana", "x", "漢", ""][..]);
    let leaf = prop_oneof![Just(json!(null)), Just(json!(-1.5e3)), text().prop_map(Value::from)];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(text(), inner, 0..4).prop_map(|members| {
                Value::Object(members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
            }),
        ]
    })
}

#[test]
fn every_sample_says_the_same_of_each_pseudonym() {
    let mut tried = 0;
    for (name, body) in samples() {
        let users: BTreeSet<String> =
            accounts(body.as_bytes()).into_iter().map(|(_, user)| user.as_str().to_owned()).collect();
        for user in &users {
            let (Some(before), Some(erased)) = (decoded(body.as_bytes()), without(body.as_bytes(), user))
            else {
                continue;
            };
            assert_eq!(said(&decoded(&erased).unwrap(), user), said(&before, user), "{name}: {user}");
            tried += 1;
        }
    }
    assert!(tried > 40, "{tried}");
}

#[test]
fn the_row_of_a_member_in_a_list_loses_its_card_and_no_other_row_does() {
    let answer = json!({ "ActionStatus": "OK", "ErrorCode": 0, "MemberList": [
        { "Member_Account": "ana", "Role": "Admin", "NameCard": "Ana Li", "JoinTime": 5,
          "AppMemberDefinedData": [{ "Key": "ana", "Value": "boris" }, { "Key": "k", "Value": "ana" }] },
        { "NameCard": "Boris, a friend of ana", "Member_Account": "boris", "Role": "Member" },
    ] });
    let erased = without(answer.to_string().as_bytes(), "ana").unwrap();
    let page = MemberPage::read(&erased).unwrap();
    let [ana, boris] = &page.members[..] else { panic!("{page:?}") };
    assert_eq!((ana.user.as_str(), ana.name_card.as_deref(), ana.join_secs), (PSEUDONYM, Some(""), Some(5)));
    assert_eq!(boris.name_card.as_deref(), Some("Boris, a friend of ana"));
    let fields: Vec<_> =
        ana.custom_fields.iter().flatten().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(fields, [(PSEUDONYM, "boris"), ("k", PSEUDONYM)]);
}

#[test]
fn a_user_who_is_called_like_a_word_of_the_grammar_is_replaced_where_a_user_stands() {
    let body = json!({
        "CallbackCommand": "Group.CallbackAfterMemberFieldChanged", "GroupId": "Member", "Type": "Public",
        "Member_Account": "Member", "Role": "Member", "NameCard": "Member", "EventTime": histories::BASE_MS,
        "Operator_Account": "boris",
    });
    let before = decoded(body.to_string().as_bytes()).unwrap();
    let erased = without(body.to_string().as_bytes(), "Member").unwrap();
    let erased: Value = serde_json::from_slice(&erased).unwrap();
    let mut wanted = body;
    (wanted["Member_Account"], wanted["NameCard"]) = (json!(PSEUDONYM), json!(""));
    assert_eq!(erased, wanted);
    let after = decoded(erased.to_string().as_bytes()).unwrap();
    assert_eq!((&after.group, after.skipped.is_empty()), (&before.group, true));
    for name in FIELD_NAMES {
        let body = json!({ name: name, "Operator_Account": name }).to_string();
        let erased: Value = serde_json::from_slice(&without(body.as_bytes(), name).unwrap()).unwrap();
        assert!(erased.get(name).is_some(), "{name} is a name of a field: {erased}");
    }
}

#[test]
fn a_text_that_holds_the_id_between_quotes_of_its_own_is_not_the_id() {
    let body =
        json!({ "Name": "ana\",\"ana", "Introduction": "{\"Member_Account\":\"ana\"}", "x": "\"ana\"" });
    assert_eq!(without(body.to_string().as_bytes(), "ana"), None);
}

#[test]
fn the_names_of_fields_that_are_left_alone_are_those_that_some_reader_knows() {
    let files = [
        "callback/wire.rs",
        "tencent/answers.rs",
        "tencent/groups.rs",
        "tencent/members.rs",
        "tencent/details.rs",
    ];
    let words = ["OK", "On", "Off", "Owner", "NotMember"];
    let mut known = 0;
    for source in sources("src").iter().filter(|source| files.contains(&&*source.path)) {
        for line in source.code() {
            for text in line.split('"').skip(1).step_by(2) {
                let is_name = text.starts_with(|first: char| first.is_ascii_uppercase())
                    && text.chars().all(|character| character.is_ascii_alphanumeric() || character == '_');
                if is_name && !words.contains(&text) {
                    assert!(FIELD_NAMES.contains(&text), "{}: {text}", source.path);
                    known += 1;
                }
            }
        }
    }
    assert!(known > 60, "{known}");
}

#[test]
fn a_query_keeps_its_bytes_but_for_the_id_and_the_address_of_the_person() {
    for (query, is_theirs, wanted) in [
        ("SdkAppid=1&User=ana&x", false, Some("SdkAppid=1&User=erased-00112233445566778899&x")),
        ("User=%61na&ClientIP=1.2.3.4", true, Some("User=erased-00112233445566778899&ClientIP=")),
        ("ClientIP=1.2.3.4&a=%41+b&&=?/", true, Some("ClientIP=&a=%41+b&&=?/")),
        ("ClientIP=1.2.3.4&OptPlatform=ana&User=anas", false, None),
    ] {
        assert_eq!(pseudonymized_query(query, &of("ana"), is_theirs).as_deref(), wanted, "{query}");
    }
}
