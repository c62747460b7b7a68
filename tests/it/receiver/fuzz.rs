//! Generated and broken inputs in ordinary runs: nothing panics, nothing authentic is refused, and the ledger gives back
//! what it was given. `FUZZ_INPUTS` sets how many (over HTTP a fortieth of it), `FUZZ_SEED` which.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use group_mirror::callback::signature::{Credentials, Gate, Token, verify};
use group_mirror::callback::{Callback, Decoded, Received, STATE_COMMANDS, decode};
use group_mirror::mirror::{self, Rows};
use group_mirror::model::{Millis, SdkAppId, storable};
use serde_json::{Value, json};
use sqlx::FromRow;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::rules::laws::setting;
use crate::support::histories::BASE_MS;
use crate::support::mutate::{Chance, mutated};
use crate::support::{API_TOKEN, APP, App, TOKEN, dump, samples, shown, signed_query};

fn inputs() -> u64 {
    setting("FUZZ_INPUTS", 20_000)
}

fn inputs_over_http() -> u64 {
    inputs().div_ceil(40)
}

fn chance(salt: u64) -> Chance {
    Chance::new(setting("FUZZ_SEED", 1).wrapping_mul(1_000_003).wrapping_add(salt))
}

/// Every sample, and the ones that change state once more, so that they come more often.
fn seeds() -> Vec<Vec<u8>> {
    let texts: Vec<String> = samples().into_iter().map(|(_, text)| text).collect();
    let state = texts.iter().filter(|text| STATE_COMMANDS.iter().any(|command| text.contains(command)));
    state.chain(&texts).map(|text| text.clone().into_bytes()).collect()
}

/// The row as the ledger would give it back.
fn from_ledger(callback: &Callback) -> Received {
    let received = callback.received.clone();
    let query = received.query_command.map(|command| storable(&command));
    let kept = query.filter(|query| *query != callback.command);
    Received { query_command: Some(kept.unwrap_or_else(|| callback.command.clone())), ..received }
}

#[test]
fn whatever_comes_is_decoded_without_a_panic_and_decodes_the_same_from_the_ledger() {
    let (seeds, mut chance) = (seeds(), chance(1));
    let commands = ["Group.CallbackAfterCreateGroup", "Group.x\u{0}", "State.StateChange", "", "Group.\n"];
    let times = [BASE_MS, 0, -1, i64::MAX, i64::MIN, 2_000_000_000_000];
    let (mut applied, mut parked) = (0_u32, 0_u32);
    for number in 0..inputs() {
        let body = mutated(&mut chance, &seeds);
        let query_command = (chance.below(8) == 0).then(|| (*chance.one(&commands)).to_owned());
        let received_at = if chance.below(8) == 0 { *chance.one(&times) } else { 2_000_000_000_000 };
        let received = Received {
            query_command,
            ..Received::bare(SdkAppId::parse(APP).unwrap(), Millis::new(received_at), body)
        };
        let first = decode(received.clone());
        assert_eq!(decode(received), first, "input {number}");
        let Decoded::Kept(callback) = first else { continue };
        let Decoded::Kept(again) = decode(from_ledger(&callback)) else { panic!("input {number}: not kept") };
        assert_eq!((again.time, again.digest), (callback.time, callback.digest), "input {number}");
        assert_eq!(again.event_time, callback.event_time, "input {number}");
        assert_eq!((&again.event, &again.command), (&callback.event, &callback.command), "input {number}");
        let rows = Rows::of(mirror::facts(&callback));
        assert_eq!(rows, Rows::of(mirror::facts(&callback).into_iter().chain(mirror::facts(&again)).rev()));
        assert_eq!(shown::pure(&rows).len(), usize::from(callback.event.is_ok()), "input {number}");
        if callback.event.is_ok() { applied += 1 } else { parked += 1 }
    }
    assert!(u64::from(applied.min(parked)) > inputs() / 20, "{applied} applied, {parked} parked");
}

#[test]
fn no_signature_but_the_right_one_lets_a_request_in() {
    let mut chance = chance(2);
    let gate = Gate {
        tokens: [(SdkAppId::parse(APP).unwrap(), vec![Token::new(TOKEN.into())])].into(),
        max_skew_secs: 60,
    };
    let mut let_in = 0_u32;
    for number in 0..inputs() {
        let now = i64::from_be_bytes(chance.next().to_be_bytes()) >> chance.below(40);
        let mut time = if chance.below(4) == 0 { chance.bytes(24) } else { now.to_string().into_bytes() };
        let mut sign = Token::new(TOKEN.into()).sign(&String::from_utf8_lossy(&time)).into_bytes();
        for text in [&mut time, &mut sign] {
            if chance.below(3) == 0 && !text.is_empty() {
                let at = chance.below(text.len());
                text[at] = *chance.one(b"0123456789abcdefABCDEFg+- \xff");
            }
        }
        let (time, sign) = (String::from_utf8_lossy(&time), String::from_utf8_lossy(&sign));
        let app =
            *chance.one(&[Some(APP), Some(APP), Some(APP), Some("1400000002"), Some("+1400000001"), None]);
        let credentials = Credentials { app, sign: Some(&sign), request_time: Some(&time) };
        if verify(credentials, &gate, now).is_ok() {
            let_in += 1;
            assert_eq!(app, Some(APP), "input {number}");
            assert!(now.abs_diff(time.parse().unwrap()) <= 60, "input {number}");
            assert_eq!(sign.to_lowercase(), Token::new(TOKEN.into()).sign(&time), "input {number}");
        }
    }
    assert!(let_in > 0);
}

/// Status and body of one request that is sent as it stands.
async fn raw(addr: SocketAddr, request: &[u8]) -> (u16, String) {
    let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).unwrap_or_else(|| panic!("no answer: {answer:?}"));
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status.parse().unwrap(), body.to_owned())
}

#[tokio::test]
async fn no_query_string_makes_the_callback_listener_fail() {
    let app = App::start().await;
    let mut chance = chance(3);
    for _ in 0..inputs_over_http() {
        let mut query = signed_query().into_bytes();
        for _ in 0..=chance.below(4) {
            let at = chance.below(query.len());
            let segments =
                ["&", "=", "%", "%00", "%FF", "%2", "Sign=", "SdkAppid=1&", "+", ";", "[]", "RequestTime=0&"];
            query.splice(at..at, chance.one(&segments).bytes());
        }
        let query = String::from_utf8(query).unwrap();
        let request = format!(
            "POST /?{query} HTTP/1.1\r\nHost: mirror\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{{}}"
        );
        let (status, answer) = raw(app.service.running.callback_addr, request.as_bytes()).await;
        assert!([200, 403].contains(&status), "{query}: {status}");
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["ActionStatus"], if status == 200 { "OK" } else { "FAIL" }, "{query}");
    }
    app.stop().await;
}

#[derive(FromRow)]
struct LedgerRow {
    group_id: String,
    time_ms: i64,
    digest: Vec<u8>,
    command: String,
    event_time_ms: Option<i64>,
    received_ms: i64,
    outcome: String,
    reason: Option<String>,
    query_command: Option<String>,
    body: Vec<u8>,
}

const LEDGER: &str = "
SELECT group_id, time_ms, digest, command, event_time_ms, (extract(epoch FROM received_at) * 1000)::bigint AS received_ms,
       outcome, reason, query_command, body FROM ledger";

impl LedgerRow {
    fn received(&self) -> Received {
        Received {
            query_command: self.query_command.clone().or_else(|| Some(self.command.clone())),
            ..Received::bare(SdkAppId::parse(APP).unwrap(), Millis::new(self.received_ms), self.body.clone())
        }
    }

    /// The callback that the row holds, which is the one that was put in.
    fn callback(&self) -> Callback {
        let shown = String::from_utf8_lossy(&self.body);
        let Decoded::Kept(callback) = decode(self.received()) else { panic!("out of scope: {shown}") };
        let group = callback.group.as_ref().map_or("", |group| group.as_str());
        assert_eq!((group, &callback.command), (self.group_id.as_str(), &self.command), "{shown}");
        assert_eq!(
            (callback.time.get(), callback.digest.as_bytes()),
            (self.time_ms, &self.digest[..]),
            "{shown}"
        );
        assert_eq!(callback.event_time.map(Millis::get), self.event_time_ms, "{shown}");
        let (outcome, reason) =
            (callback.reading().as_str(), callback.reason_text().map(|text| storable(&text)));
        assert_eq!((outcome, &reason), (self.outcome.as_str(), &self.reason), "{shown}");
        *callback
    }
}

/// Aim: law 2 (nothing authentic is dropped) and law 5 (the mirror is a fold of the ledger), for bodies that nobody
/// foresaw. Method: broken bodies are posted; each is answered 200; each in scope is in the ledger, byte for byte; each
/// ledger row decodes to itself; and the rows fold to what the tables hold.
#[tokio::test]
async fn whatever_is_authentic_is_kept_byte_for_byte_and_folds_to_the_tables() {
    let app = App::start_with(|settings| settings.mirror_avchatroom_members = Some("true".into())).await;
    let (seeds, mut chance) = (seeds(), chance(4));
    let mut posted = BTreeMap::new();
    for number in 0..inputs_over_http() {
        let body = mutated(&mut chance, &seeds);
        let command = *chance.one(&STATE_COMMANDS);
        let tail = if chance.below(3) == 0 { format!("&CallbackCommand={command}") } else { String::new() };
        let answer = app.service.post_with(&tail, body.clone()).await;
        assert_eq!(answer.status(), 200, "input {number}: {}", String::from_utf8_lossy(&body));
        let answer: Value = answer.json().await.unwrap();
        assert_eq!((&answer["ActionStatus"], &answer["ErrorCode"]), (&json!("OK"), &json!(0)), "{answer}");
        let received = Received {
            query_command: (!tail.is_empty()).then(|| command.to_owned()),
            ..Received::bare(SdkAppId::parse(APP).unwrap(), Millis::new(4_000_000_000_000), body.clone())
        };
        match decode(received) {
            Decoded::Kept(callback) if !body.is_empty() => {
                posted.insert(callback.digest.as_bytes().to_vec(), body);
            }
            _ => assert_eq!(answer["ErrorInfo"], "", "input {number}: out of scope"),
        }
    }
    let mut conn = app.connect().await;
    let ledger: Vec<LedgerRow> = sqlx::query_as(LEDGER).fetch_all(&mut conn).await.unwrap();
    let bodies: HashSet<&[u8]> = posted.values().map(Vec::as_slice).collect();
    let mut rows = Rows::default();
    for row in &ledger {
        // Of equal bodies written differently only one is kept; all others are there as they came.
        assert!(posted.contains_key(&row.digest), "{}", String::from_utf8_lossy(&row.body));
        rows.merge(Rows::of(mirror::facts(&row.callback())));
    }
    let digests: HashSet<&[u8]> = ledger.iter().map(|row| row.digest.as_slice()).collect();
    for (digest, body) in &posted {
        assert!(digests.contains(digest.as_slice()), "lost: {}", String::from_utf8_lossy(body));
    }
    let whole = ledger.iter().filter(|row| bodies.contains(row.body.as_slice())).count();
    assert!(whole * 10 >= ledger.len() * 9, "{whole} of {}", ledger.len());
    assert_eq!(dump::tables(&mut conn).await, dump::rows(&rows));
    assert_eq!(shown::views(&mut conn).await, shown::pure(&rows));
    app.stop().await;
}

/// A cursor of ours with something else inside.
fn forged(chance: &mut Chance, cursor: &str) -> String {
    let mut json = URL_SAFE_NO_PAD.decode(cursor).unwrap();
    if chance.below(2) == 0 {
        let mut value: Value = serde_json::from_slice(&json).unwrap();
        let after = [
            json!("\u{0}"),
            json!("x".repeat(600)),
            json!({ "time_ms": i64::MAX, "group_id": "g" }),
            json!({ "time_ms": -1, "group_id": "" }),
            json!({ "time_ms": 1.5, "group_id": "a\u{0}" }),
            json!({ "time_ms": null, "group_id": "g" }),
            json!([]),
        ];
        value["after"] = chance.one(&after).clone();
        json = value.to_string().into_bytes();
    } else {
        let at = chance.below(json.len());
        json[at] ^= 1 << chance.below(8);
    }
    URL_SAFE_NO_PAD.encode(json)
}

#[tokio::test]
async fn no_id_and_no_cursor_makes_the_read_api_fail() {
    let app = App::start().await;
    for (group, time) in [("a", 0), ("b", 1), ("c d", 2)] {
        let mut body = json!({
            "CallbackCommand": "Group.CallbackAfterCreateGroup", "GroupId": group, "EventTime": BASE_MS + time,
        });
        body["MemberList"] = json!([{ "Member_Account": "ana" }, { "Member_Account": "boris" }]);
        app.service.taken(&body).await;
    }
    let mut cursors = BTreeMap::new();
    let lists = [
        "/v1/groups?limit=1",
        "/v1/groups?limit=1&sort=group_id",
        "/v1/groups/a/members?limit=1",
        "/v1/users/ana/groups?limit=1",
    ];
    for list in lists {
        cursors.insert(list, app.service.read(list).await["next_cursor"].as_str().unwrap().to_owned());
    }
    let mut chance = chance(5);
    for _ in 0..inputs_over_http() {
        let odd = shown::escaped(&String::from_utf8_lossy(&chance.bytes(40)));
        let bytes: String = chance.bytes(40).iter().map(|byte| format!("%{byte:02X}")).collect();
        let long = "%41".repeat(chance.below(1_200));
        let list = *chance.one(&lists);
        let cursor = forged(&mut chance, &cursors[list]);
        let path = match chance.below(9) {
            0 => format!("/v1/groups/{bytes}"),
            1 => format!("/v1/groups/{bytes}/members"),
            2 => format!("/v1/users/{bytes}/groups"),
            3 => format!("/v1/groups/{long}?{odd}={odd}"),
            4 => format!("/v1/groups?limit={odd}&cursor={bytes}"),
            5 => format!("/v1/groups?group_id={long}&name={bytes}&created_after={odd}"),
            6 => format!("/v1/groups?name={odd}&field[{odd}]={bytes}&status=all"),
            7 => format!("{list}&cursor={bytes}"),
            _ => format!("{list}&cursor={cursor}"),
        };
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: mirror\r\nAuthorization: Bearer {API_TOKEN}\r\nConnection: close\r\n\r\n"
        );
        let (status, answer) = raw(app.service.running.api_addr, request.as_bytes()).await;
        assert!(status < 500, "{path}: {status} {answer}");
        let answer: Value = serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{path}: {answer:?}"));
        if status != 200 {
            assert_eq!(answer["status"], status, "{path}: {answer}");
            assert!(answer["code"].is_string() && answer["detail"].is_string(), "{path}: {answer}");
        }
    }
    app.stop().await;
}
