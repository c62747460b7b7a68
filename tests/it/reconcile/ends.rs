//! The end of a list, answer by answer: which answers make it whole, which leave it incomplete, and why.

use std::sync::Arc;

use group_mirror::mirror::group_key;
use group_mirror::model::SdkAppId;
use group_mirror::reconcile::{
    AskedFields, GroupReader, IncompleteWhy, ListProgress, ListReading, ListState, ListStep, ReadHalt,
    UnknownWhy, Witnesses,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::reader::{SPARE, id, scripted_reader, user};
use crate::support::{APP, eventually};
use crate::tencent::scripted::{self, Asked, Scripted, ScriptedServer};

const JOINED: i64 = 1_700_000_000;

fn of(group: &str) -> Witnesses {
    Witnesses::unknown(group_key(SdkAppId::parse(APP).unwrap(), id(group)))
}

/// A page with these members; `at` moves one's time of joining.
fn page(names: &[&str], more: Value) -> Scripted {
    let row = |name: &&str| match name.split_once('+') {
        Some((name, later)) => {
            json!({ "Member_Account": name, "JoinTime": JOINED + later.parse::<i64>().unwrap() })
        }
        None => json!({ "Member_Account": name, "JoinTime": JOINED }),
    };
    let mut answer = json!({ "ActionStatus": "OK", "ErrorCode": 0 });
    answer["MemberList"] = names.iter().map(row).collect();
    let Value::Object(more) = more else { panic!("an object") };
    answer.as_object_mut().unwrap().extend(more);
    Scripted::body(answer.to_string())
}

/// The reading of a group by these answers, and what was asked.
async fn read(group: &str, answers: Vec<Scripted>) -> (ListReading, Vec<Asked>) {
    let count = answers.len();
    let server = ScriptedServer::start(answers).await;
    let reading = scripted_reader(&server.url).members(&of(group), SPARE).await.unwrap();
    let asked = server.asked();
    assert_eq!(asked.len(), count, "{:?}", reading.state);
    (reading, asked)
}

fn incomplete(why: IncompleteWhy) -> ListState {
    ListState::Incomplete(why)
}

#[tokio::test]
async fn a_list_by_offset_is_whole_or_says_why_it_is_not() {
    let members = |number: u64| json!({ "MemberNum": number });
    let few = incomplete(IncompleteWhy::FewRows);
    let unread = json!({ "MemberNum": 3, "MemberList": [{ "JoinTime": 1 }, { "Member_Account": "b" }, { "Member_Account": "c" }] });
    let cases: Vec<(&str, Vec<Scripted>, ListState, usize)> = vec![
        ("one page", vec![page(&["a", "b"], members(2))], ListState::Complete, 2),
        ("no member, and Tencent says so", vec![page(&[], members(0))], ListState::Complete, 0),
        ("an empty list of many", vec![page(&[], members(5))], few, 0),
        ("an empty list without a count", vec![page(&[], json!({}))], few, 0),
        ("one row of many", vec![page(&["a"], members(5))], few, 1),
        ("no count", vec![page(&["a", "b"], json!({})), page(&["b"], json!({}))], ListState::Complete, 2),
        (
            "a count that lags",
            vec![page(&["a", "b"], members(3)), page(&["b"], members(3))],
            ListState::Complete,
            2,
        ),
        (
            "a count that is behind",
            vec![page(&["a", "b"], members(1)), page(&["b"], members(1))],
            ListState::Complete,
            2,
        ),
        ("far too few", vec![page(&["a", "b"], members(9)), page(&["b"], members(9))], few, 2),
        (
            "a user twice",
            vec![page(&["a", "b", "a+5"], members(3)), page(&["a+5"], members(3))],
            ListState::Complete,
            2,
        ),
        (
            "a row without a user",
            vec![page(&[], unread), page(&["c"], members(3))],
            incomplete(IncompleteWhy::UnreadableRow),
            2,
        ),
        (
            "a page behind which no row is known",
            vec![
                page(&["a", "b"], members(4)),
                page(&["x", "d"], members(4)),
                page(&["b", "c", "d"], members(4)),
                page(&["d"], members(4)),
            ],
            ListState::Complete,
            4,
        ),
        (
            "a page that begins with a known user who joined again",
            vec![
                page(&["a", "b", "c"], members(4)),
                page(&["c+9", "d"], members(4)),
                page(&["b", "d", "c+9"], members(3)),
                page(&["c+9"], members(3)),
            ],
            ListState::Complete,
            4,
        ),
    ];
    for (name, answers, state, rows) in cases {
        let (reading, _) = read("g", answers).await;
        assert_eq!((reading.state, reading.rows.len()), (state, rows), "{name}");
    }
}

#[tokio::test]
async fn a_page_that_does_not_fit_is_not_used_and_the_next_one_begins_further_back() {
    let (members, hundred) = (json!({ "MemberNum": 150 }), (0..100).map(|number| format!("u{number:03}")));
    let hundred: Vec<String> = hundred.collect();
    let rows = |from: usize| -> Vec<&str> { hundred[from..].iter().map(String::as_str).collect() };
    let stranger = || page(&["zoe"], members.clone());
    let answers = vec![
        page(&rows(0), members.clone()),
        stranger(),
        stranger(),
        stranger(),
        page(&rows(70), members.clone()),
        page(&["u099"], json!({ "MemberNum": 100 })),
    ];
    let (reading, asked) = read("g", answers).await;
    let offsets: Vec<u64> = asked.iter().map(|asked| asked.body["Offset"].as_u64().unwrap()).collect();
    assert_eq!(offsets, [0, 99, 98, 94, 78, 107], "1, 4 and 16 rows back, then on behind what was read");
    assert_eq!((reading.state, reading.rows.len()), (ListState::Complete, 100));
    assert!(!reading.rows.contains(&user("zoe")), "a page that is not used names no member");
}

#[tokio::test]
async fn a_list_by_cursor_is_whole_or_says_why_it_is_not() {
    let next = |next: &str| json!({ "MemberNum": 3, "Next": next });
    let broken = incomplete(IncompleteWhy::Cursor);
    let standing: Vec<Scripted> =
        (0..17).map(|number| page(&["a"], json!({ "Next": format!("c{number}") }))).collect();
    let cases: Vec<(&str, Vec<Scripted>, ListState, usize)> = vec![
        (
            "two pages",
            vec![page(&["a", "b"], next("1")), page(&["b", "c"], next(""))],
            ListState::Complete,
            3,
        ),
        ("no cursor", vec![page(&["a", "b", "c"], json!({ "MemberNum": 3 }))], broken, 3),
        ("the same cursor again", vec![page(&["a"], next("1")), page(&["b"], next("1"))], broken, 2),
        ("new cursors without new members", standing, broken, 1),
        ("an end that comes too early", vec![page(&["a"], next(""))], incomplete(IncompleteWhy::FewRows), 1),
        (
            "a fault in the middle",
            [vec![page(&["a"], next("1"))], vec![Scripted::status(502); 7]].concat(),
            incomplete(IncompleteWhy::Interrupted),
            1,
        ),
    ];
    for (name, answers, state, rows) in cases {
        let (reading, _) = read("@TGS#_c", answers).await;
        assert_eq!((reading.state, reading.rows.len()), (state, rows), "{name}");
    }
    let (reading, _) = read("@TGS#_c", vec![Scripted::body("<html>"); 7]).await;
    assert_eq!(reading.state, ListState::Unknown(UnknownWhy::Unreadable));
}

#[tokio::test]
async fn what_was_kept_of_another_list_is_not_gone_on_with() {
    let next = json!({ "MemberNum": 3, "Next": "1" });
    let server = ScriptedServer::start([page(&["a"], next)]).await;
    let created = |secs| Witnesses { create_secs: secs, ..of("@TGS#_c") };
    let mut list = ListProgress::new(&created(Some(5)), SPARE);
    assert!(list.mark().is_none(), "nothing was read yet");
    let step = scripted_reader(&server.url).next_page(&mut list).await.unwrap();
    let ListStep::Page { mark: Some(mark), rows } = step else { panic!("{step:?}") };
    let resume = |group: &str, pages: &[&[u8]]| {
        ListProgress::resume(of(group).group, mark.clone(), pages.iter().copied())
    };
    assert!(resume("@TGS#_c", &[&rows]).is_some());
    assert!(resume("g", &[&rows]).is_none(), "a list by offset has no cursor");
    assert!(resume("@TGS#_c", &[b"no page"]).is_none());
    assert!(mark.is_of(&created(Some(5))) && mark.is_of(&created(None)));
    assert!(!mark.is_of(&created(Some(6))), "the same id, and another group since");
}

#[tokio::test]
async fn a_stop_ends_a_reading_and_says_so() {
    let hangs = Scripted { hangs: true, ..Scripted::code(0) };
    let server = ScriptedServer::start([hangs]).await;
    let stop = CancellationToken::new();
    let client = Arc::new(scripted::client(&server.url));
    let app = SdkAppId::parse(APP).unwrap();
    let reader = GroupReader::new(client, app, AskedFields::default(), stop.clone());
    let group = of("g");
    let stopping = async {
        assert!(eventually(async || server.asked().len() == 1).await);
        stop.cancel();
    };
    let (reading, ()) = tokio::join!(reader.members(&group, SPARE), stopping);
    assert_eq!(reading.err(), Some(ReadHalt::Cancelled));
    assert_eq!(reader.id_page(0).await, Err(ReadHalt::Cancelled));
    assert_eq!(server.asked().len(), 1, "no further call");
}
