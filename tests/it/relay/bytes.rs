//! Byte for byte, both ways: generated requests with odd bodies, queries and headers, whose bodies the backend sends back.
//!
//! `RELAY_REQUESTS` sets how many; 10,000 take some minutes.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::verdicts::in_front_of;
use crate::support::mutate::{Chance, mutated};
use crate::support::raw_backend::{Backend, Conduct, Sender};
use crate::support::{samples, signed_query};

/// Requests that are under way at once, each on a connection of its own.
const SENDERS: usize = 8;

/// Commands that wait, and one whose query has none: then the body decides, or nothing does.
const COMMANDS: [&str; 8] = [
    "Group.CallbackBeforeCreateGroup",
    "Group.CallbackBeforeSendMsg",
    "Group.CallbackBeforeInviteJoinGroup",
    "C2C.CallbackBeforeSendMsg",
    "Sns.CallbackPrevFriendAdd",
    "Group.CallbackBeforeX",
    "Odd.%41b+c",
    "%E4%BD%A0.\u{4f60}",
];

/// Ends of queries that a careless parser would write anew.
const TAILS: [&str; 9] = [
    "",
    "&",
    "&&=&x",
    "&contenttype=json&ClientIP=203.0.113.9&OptPlatform=RESTAPI",
    "&a=%e4%E4%2f/?+%20&a=%00",
    "&a=[]{}|\\^`",
    "&RequestID=12345678-9abc-def0&SdkAppid=7&CallbackCommand=Group.CallbackAfterSendMsg",
    "&\u{4f60}=\u{597d}",
    "&a=;,:@!$'()*~-._",
];

const TYPES: [Option<&str>; 6] = [
    None,
    Some("application/json"),
    Some("application/x-www-form-urlencoded"),
    Some("text/plain;charset=GBK; x=\"\\\"\""),
    Some("odd"),
    Some("multipart/form-data; boundary=--\u{4f60}"),
];

fn count() -> usize {
    std::env::var("RELAY_REQUESTS").ok().and_then(|text| text.parse().ok()).unwrap_or(400)
}

/// Recorded bodies. Most name no command, because one that differs from the query's is stored beside, which takes longer.
fn seeds() -> Vec<Vec<u8>> {
    let named = samples().into_iter().map(|(_, text)| text);
    let unnamed: Vec<_> =
        named.clone().map(|text| text.replace("\"CallbackCommand\"", "\"Command\"")).collect();
    let times = 30;
    unnamed.iter().cloned().cycle().take(unnamed.len() * times).chain(named).map(String::into_bytes).collect()
}

fn body(chance: &mut Chance, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut body = match chance.below(6) {
        0 => chance.bytes(300),
        1 => [b"\xef\xbb\xbf {\"a\":".to_vec(), chance.bytes(20), b"}\r\n\r\n".to_vec()].concat(),
        2 => b"[".repeat(1 + chance.below(5_000)),
        3 => seeds[chance.below(seeds.len())].repeat(1 + chance.below(100)),
        _ => mutated(chance, seeds),
    };
    // An empty one is the console's check.
    if body.is_empty() {
        body.push(0);
    }
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_queries_and_content_types_arrive_byte_for_byte_and_so_do_answers() {
    let backend = Backend::start(Conduct::Echo);
    let service = in_front_of(&backend, |_| {}).await;
    let seeds = Arc::new(seeds());
    let (address, each) = (service.running.callback_addr, count().div_ceil(SENDERS));
    let mut senders = JoinSet::new();
    for sender in 0..SENDERS {
        let seeds = Arc::clone(&seeds);
        senders.spawn(async move {
            let mut chance = Chance::new(0x5e1a_0000 + u64::try_from(sender).unwrap());
            let mut connection = Sender::connect(address).await;
            let mut sent = Vec::new();
            for number in 0..each {
                let body = body(&mut chance, &seeds);
                let query = format!(
                    "n={sender}-{number}&{}&CallbackCommand={}{}",
                    signed_query(),
                    chance.one(&COMMANDS),
                    chance.one(&TAILS)
                );
                let content_type = *chance.one(&TYPES);
                let header = content_type.map(|text| format!("Content-Type: {text}\r\n")).unwrap_or_default();
                let got = connection.post(&format!("/callback?{query}"), &header, &body).await;
                assert!([200, 403].contains(&got.status), "{query}: {}", got.status);
                assert_eq!(got.body, body, "{query}");
                sent.push((query, content_type, body));
            }
            sent
        });
    }
    let sent: Vec<_> = senders.join_all().await.into_iter().flatten().collect();
    assert_eq!(sent.len(), each * SENDERS);
    let mut seen: HashMap<String, _> =
        backend.seen().into_iter().map(|seen| (seen.line.clone(), seen)).collect();
    for (query, content_type, body) in sent {
        let seen = seen.remove(&format!("POST /im/callback?{query} HTTP/1.1")).expect(&query);
        assert_eq!((seen.header("content-type"), &seen.body), (content_type, &body), "{query}");
    }
    assert!(seen.is_empty(), "nothing else came");
    service.stop().await;
}
