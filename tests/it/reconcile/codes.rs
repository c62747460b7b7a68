//! Every error code of the protocol, and what a reader makes of it: a candidate, a verdict, or the end of all calls.

use group_mirror::mirror::{ReadKind, group_key};
use group_mirror::model::{Millis, SdkAppId};
use group_mirror::reconcile::{
    DetailState, GONE_DISTANCE_MS, GroupReader, GroupVerdict, IdPage, ListState, ReadHalt, STALE_TIME_MS,
    UNANSWERED_MAX, UnknownWhy, Witnesses, accepts_stale, gone,
};
use serde_json::json;

use super::reader::{SPARE, asked, id, one, scripted_reader, user};
use crate::support::APP;
use crate::tencent::scripted::{NOW_MS, Scripted, ScriptedServer};

/// What one code makes of a profile, a list, attributes and topics.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Wanted {
    /// A candidate for gone where a profile was asked for.
    Gone,
    /// A candidate in an answer about a profile, and nothing elsewhere.
    GoneInProfile,
    Unsupported,
    Unknown(UnknownWhy),
    Stopped,
}

/// The table of the protocol.
fn table() -> Vec<(Wanted, &'static [i64])> {
    vec![
        (Wanted::Gone, &[10010]),
        (Wanted::GoneInProfile, &[10015]),
        (Wanted::Unsupported, &[10007, 10059, 11000]),
        (Wanted::Unknown(UnknownWhy::TooMuch), &[10005, 10018, 10054, 60008]),
        (Wanted::Unknown(UnknownWhy::Rate), &[10006, 60007, 60011, 60018, 60019, 10049]),
        (
            Wanted::Unknown(UnknownWhy::Fault),
            &[10002, 60013, 60014, 70169, 70202, 70500, 90992, 90994, 90995, 91000, 70050, 123_456],
        ),
        (Wanted::Stopped, &[70001, 60004, 60005, 10008, 10001]),
        (
            Wanted::Stopped,
            &[
                60006, 60010, 60012, 60016, 60017, 60020, 60021, 10026, 70002, 70003, 70005, 70009, 70013,
                70014, 70016, 70020, 70051, 70402, 70403,
            ],
        ),
        (Wanted::Unknown(UnknownWhy::Bug), &[10003, 10004, 10011, 60002, 60003, 60009, 60015]),
        (Wanted::Unknown(UnknownWhy::Refused), &[110_003, 110_002, 10016, 10019, 93000]),
    ]
}

async fn server(code: i64) -> (ScriptedServer, GroupReader) {
    let server = ScriptedServer::start(vec![Scripted::code(code); 100]).await;
    let reader = scripted_reader(&server.url);
    (server, reader)
}

#[tokio::test]
async fn every_code_leads_where_the_table_says() {
    let witnesses = Witnesses::unknown(group_key(SdkAppId::parse(APP).unwrap(), id("g")));
    for (wanted, codes) in table() {
        for code in codes.iter().copied() {
            let (_server, reader) = server(code).await;
            let profile = one(&reader, "g").await.map(|reading| reading.verdict);
            let (_server, reader) = server(code).await;
            let list = reader.members(&witnesses, SPARE).await.map(|reading| reading.state);
            let (_server, reader) = server(code).await;
            let attributes = reader.attributes(&id("g"), SPARE).await.map(|reading| reading.state);
            let (_server, reader) = server(code).await;
            let topics = reader.topics(&id("g"), &[user("ana")], SPARE).await.map(|reading| reading.state);
            let refused = UnknownWhy::Refused;
            let (verdict, state, detail) = match wanted {
                Wanted::Gone => (GroupVerdict::GoneCandidate(code), ListState::Gone, DetailState::Gone),
                Wanted::GoneInProfile => (
                    GroupVerdict::GoneCandidate(code),
                    ListState::Unknown(refused),
                    DetailState::Unknown(refused),
                ),
                Wanted::Unsupported => {
                    (GroupVerdict::Unsupported, ListState::Unsupported, DetailState::Unsupported)
                }
                Wanted::Unknown(why) => {
                    (GroupVerdict::Unknown(why), ListState::Unknown(why), DetailState::Unknown(why))
                }
                Wanted::Stopped => {
                    for halt in [profile.err(), list.err(), attributes.err(), topics.err()] {
                        assert!(matches!(halt, Some(ReadHalt::Stopped(_))), "{code}: {halt:?}");
                    }
                    continue;
                }
            };
            assert_eq!(profile, Ok(verdict), "{code}");
            assert_eq!(list, Ok(state), "{code}");
            assert_eq!((attributes, topics), (Ok(detail), Ok(detail)), "{code}");
        }
    }
}

/// An answer of `get_group_info` with these elements.
fn answer(elements: &serde_json::Value) -> Scripted {
    Scripted::body(json!({ "ActionStatus": "OK", "ErrorCode": 0, "GroupInfo": elements }).to_string())
}

#[tokio::test]
async fn the_code_of_one_element_is_about_its_group_alone() {
    let server = ScriptedServer::start([answer(&json!([
        { "GroupId": "quiet", "ErrorCode": 10_002 },
        { "GroupId": "odd", "ErrorCode": 10_007 },
        { "GroupId": "twice", "ErrorCode": 0, "Name": "a" },
        { "GroupId": "bad", "ErrorCode": 10_015 },
        { "GroupId": "stranger", "ErrorCode": 10_010 },
        { "GroupId": "gone", "ErrorCode": 10_010 },
        { "GroupId": "twice", "ErrorCode": 10_010 },
        { "GroupId": "alive", "ErrorCode": 0, "Type": "ChatRoom", "Name": "A", "CreateTime": 1_700_000_000 },
    ]))])
    .await;
    let reader = scripted_reader(&server.url);
    let names = ["alive", "gone", "bad", "odd", "quiet", "twice", "absent"];
    let asked: Vec<_> = names.iter().map(|name| asked(name, false, None)).collect();
    let readings = reader.groups(&asked, SPARE).await.unwrap();
    let verdicts: Vec<(&str, GroupVerdict)> =
        readings.iter().map(|reading| (reading.group.group.as_str(), reading.verdict)).collect();
    assert_eq!(
        verdicts,
        [
            ("alive", GroupVerdict::Alive),
            ("gone", GroupVerdict::GoneCandidate(10_010)),
            ("bad", GroupVerdict::GoneCandidate(10_015)),
            ("odd", GroupVerdict::Unsupported),
            ("quiet", GroupVerdict::Unknown(UnknownWhy::Fault)),
            ("twice", GroupVerdict::Unknown(UnknownWhy::Contradiction)),
            ("absent", GroupVerdict::Unknown(UnknownWhy::NotInAnswer)),
        ]
    );
    assert_eq!(readings[0].witnesses.as_ref().unwrap().group_type.as_deref(), Some("Meeting"));
    assert!(readings[1..].iter().all(|reading| reading.profile.is_none() && !reading.needs_members()));
}

#[tokio::test]
async fn a_group_is_gone_when_tencent_said_so_twice_a_minute_apart_and_not_before() {
    let element = json!([{ "GroupId": "g", "ErrorCode": 10_010 }]);
    let server =
        ScriptedServer::start([answer(&element), answer(&json!([{ "GroupId": "g", "ErrorCode": 0 }]))]).await;
    let reader = scripted_reader(&server.url);
    let second = one(&reader, "g").await.unwrap();
    let sent = second.time.unwrap().sent.get();
    assert_eq!(gone(Millis::new(sent), &second), None, "once is not twice");
    assert_eq!(gone(Millis::new(sent - GONE_DISTANCE_MS + 1), &second), None);
    let snapshot = gone(Millis::new(sent - GONE_DISTANCE_MS), &second).unwrap();
    assert_eq!((snapshot.kind, snapshot.time), (ReadKind::Gone, second.time.unwrap()));
    assert!(snapshot.facts(&group_mirror::model::Digest::of("", b"")).is_ok());
    let alive = one(&reader, "g").await.unwrap();
    assert_eq!(gone(Millis::new(0), &alive), None, "the second answer says something else");
}

#[tokio::test]
async fn an_address_that_answers_nothing_ends_the_pass_after_some_calls_and_says_why() {
    let html = || Scripted::body("<html>another site</html>");
    for answers in [vec![Scripted::status(502); 200], vec![html(); 200], vec![Scripted::body(""); 200]] {
        let server = ScriptedServer::start(answers).await;
        let reader = scripted_reader(&server.url);
        let mut calls = 0;
        let halt = loop {
            calls += 1;
            match reader.id_page(0).await {
                Ok(page) => assert!(matches!(page, IdPage::Unknown(_)), "{page:?}"),
                Err(halt) => break halt,
            }
        };
        assert_eq!(calls, UNANSWERED_MAX);
        let ReadHalt::Unanswered(why) = halt else { panic!("{halt:?}") };
        assert!(why.contains("get_appid_group_list") && why.lines().count() == 1, "{why}");
    }
    // Answers about no group of ours are none either, and one good answer begins the count again.
    let nothing = vec![answer(&json!([])); UNANSWERED_MAX as usize - 1];
    let good = answer(&json!([{ "GroupId": "g", "ErrorCode": 0 }]));
    let nothing_again = vec![answer(&json!([])); UNANSWERED_MAX as usize];
    let server = ScriptedServer::start([nothing, vec![good], nothing_again].concat()).await;
    let reader = scripted_reader(&server.url);
    for _ in 0..2 * UNANSWERED_MAX - 1 {
        one(&reader, "g").await.unwrap();
    }
    assert!(matches!(one(&reader, "g").await, Err(ReadHalt::Unanswered(_))));
}

#[test]
fn a_stale_answer_is_accepted_after_three_tries_over_more_than_a_minute() {
    let at = |ms: i64| Millis::new(NOW_MS + ms);
    assert!(!accepts_stale(3, at(0), at(STALE_TIME_MS)));
    assert!(!accepts_stale(2, at(0), at(STALE_TIME_MS + 1)));
    assert!(accepts_stale(3, at(0), at(STALE_TIME_MS + 1)));
}
