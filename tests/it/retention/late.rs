//! What comes after an erasure: late callbacks, records of a spool, reads, repeats, at the replica that has erased and at
//! others that have not heard of it.

use group_mirror::callback::Callback;
use group_mirror::ingest::{commit, commit_snapshots};
use group_mirror::model::{Millis, SdkAppId, UserId};
use group_mirror::retention::{self, ErasureWanted};
use group_mirror::store::Database;
use group_mirror::store::erasures::ERASURES_MAX;
use serde_json::json;

use super::erasing::{NOW, World, erased, erased_at, verified};
use crate::durability::spool::caught_up;
use crate::rules::laws;
use crate::support::api::after;
use crate::support::chaos::{Mood, Proxy};
use crate::support::postgres::TestDatabase;
use crate::support::reads::lists;
use crate::support::{APP, Service, dump, histories, settings, unix_now};

/// A join of a user into the group `late`, so long after the base.
fn join(user: &str, ms: i64) -> Callback {
    laws::callback(&json!({
        "CallbackCommand": "Group.CallbackAfterNewMemberJoin", "GroupId": "late", "EventTime": histories::BASE_MS + ms,
        "Operator_Account": "boris-2", "NewMemberList": [{ "Member_Account": user }],
    }))
}

async fn users_of(test: &TestDatabase) -> Vec<String> {
    let select = "SELECT user_id FROM group_members WHERE group_id = 'late' ORDER BY user_id";
    sqlx::query_scalar(select).fetch_all(&mut test.connect().await).await.unwrap()
}

#[tokio::test]
async fn a_late_callback_gets_the_pseudonym_at_every_replica_and_a_later_one_is_new() {
    let test = TestDatabase::create().await;
    let [here, elsewhere] = [(), ()].map(|()| Database::new(&test.url).unwrap());
    for database in [&here, &elsewhere] {
        assert!(
            commit(database, &[join("chen_li", 1)]).await.iter().all(Result::is_ok),
            "both know that no person is erased"
        );
    }
    let moment = Millis::new(histories::BASE_MS + 20_000);
    let pseudonym = erased_at(&here, "ana", moment, false).await.pseudonym;
    for (database, ms) in [(&elsewhere, 2), (&here, 3)] {
        assert!(commit(database, &[join("ana", ms)]).await.iter().all(Result::is_ok));
    }
    assert_eq!(users_of(&test).await, ["chen_li", pseudonym.as_str()]);
    assert!(commit(&elsewhere, &[join("ana", 20_001)]).await.iter().all(Result::is_ok));
    assert_eq!(users_of(&test).await, ["ana", "chen_li", pseudonym.as_str()]);
    verified(&here).await;
    // What is new is reported, and is no failure; a setting keeps the person erased.
    let again = erased_at(&here, "ana", moment, true).await;
    assert_eq!((again.pseudonym, again.after.is_nowhere()), (pseudonym.clone(), true));
    assert!(commit(&elsewhere, &[join("ana", 20_002)]).await.iter().all(Result::is_ok));
    assert_eq!(users_of(&test).await, ["chen_li", pseudonym.as_str()]);
    verified(&here).await;
    here.close().await;
    elsewhere.close().await;
}

#[tokio::test]
async fn what_comes_before_and_after_the_erasure_leaves_the_same_tables() {
    leaves_the_same_tables(NOW).await;
}

/// The moment lies among the entries: those after it name the person, whether they came before the walk or after it.
#[tokio::test]
async fn what_is_later_than_the_erasure_names_the_person_whether_it_came_before_the_walk_or_after_it() {
    leaves_the_same_tables(Millis::new(histories::BASE_MS + 9_999)).await;
}

async fn leaves_the_same_tables(moment: Millis) {
    let World { callbacks, .. } = World::generated(25);
    let mut dumps = Vec::new();
    for cut in [callbacks.len(), callbacks.len() / 2, 0] {
        let test = TestDatabase::create().await;
        let database = Database::new(&test.url).unwrap();
        for (at, part) in [&callbacks[..cut], &callbacks[cut..]].into_iter().enumerate() {
            World { callbacks: part.to_vec(), snapshots: Vec::new() }.enter(&database).await;
            if at == 0 {
                erased_at(&database, "ana", moment, false).await;
            }
        }
        verified(&database).await;
        let erased = erased_at(&database, "ana", moment, false).await;
        assert_eq!((erased.entries, erased.after.is_nowhere()), (0, true), "cut at {cut}");
        assert_eq!(erased.after.newer > 0, moment < NOW, "{erased:?}");
        let mut conn = test.connect().await;
        let ledger: Vec<String> = sqlx::query_scalar(
            "SELECT concat_ws('|', group_id, time_ms, digest, body, client_ip, odd_values, query, reason, causes, operator,
                              user_id, users, user_count, outcome) FROM ledger ORDER BY group_id, time_ms, digest",
        )
        .fetch_all(&mut conn)
        .await
        .unwrap();
        // Bodies are in hexadecimal digits.
        let pseudonym = erased.pseudonym.as_str();
        let hex: String = pseudonym.bytes().map(|byte| format!("{byte:02x}")).collect();
        let all = format!("{:#} {ledger:#?}", json!(dump::tables(&mut conn).await));
        let all = all.replace(pseudonym, "PSEUDONYM").replace(&hex, "PSEUDONYM");
        let mut lines: Vec<String> = all.lines().map(|line| line.trim_end_matches(',').to_owned()).collect();
        // Rows stand in the order of the pseudonyms.
        lines.sort_unstable();
        dumps.push(lines);
        database.close().await;
    }
    assert!(dumps[0].len() > 1_000 && dumps[0].iter().any(|line| line.contains("PSEUDONYM")));
    assert_eq!(dumps[0], dumps[1]);
    assert_eq!(dumps[0], dumps[2]);
}

/// The walk reaches a group some time after the registration, and what has come meanwhile is later than the erasure.
#[tokio::test]
async fn one_who_joined_after_the_erasure_and_before_the_walk_leaves_under_the_same_id() {
    let test = TestDatabase::create().await;
    let database = Database::new(&test.url).unwrap();
    let entered = async |callback: Callback| {
        assert!(commit(&database, &[callback]).await.iter().all(Result::is_ok));
    };
    entered(join("ana", 1)).await;
    entered(join("ana", 20_001)).await;
    let moment = Millis::new(histories::BASE_MS + 20_000);
    let erased = erased_at(&database, "ana", moment, false).await;
    assert_eq!((erased.entries, erased.after.newer, erased.after.is_nowhere()), (1, 1, true), "{erased:?}");
    entered(laws::callback(&json!({
        "CallbackCommand": "Group.CallbackAfterMemberExit", "GroupId": "late", "EventTime": histories::BASE_MS + 60_000,
        "ExitType": "Quit", "Operator_Account": "ana", "ExitMemberList": [{ "Member_Account": "ana" }],
    })))
    .await;
    let members = "SELECT user_id FROM active_group_members WHERE group_id = 'late' ORDER BY user_id";
    let members: Vec<String> =
        sqlx::query_scalar(members).fetch_all(&mut test.connect().await).await.unwrap();
    assert_eq!(members, [erased.pseudonym.as_str()], "the join before the erasure has no leave");
    // An earlier moment, as of a command on a machine with a slow clock, does not take back the one that is registered.
    let again = erased_at(&database, "ana", Millis::new(histories::BASE_MS), false).await;
    assert_eq!((again.entries, again.after.newer, again.after.is_nowhere()), (0, 2, true), "{again:?}");
    verified(&database).await;
    database.close().await;
}

/// A page is entered with its list, by the time of that.
#[tokio::test]
async fn a_page_of_a_list_from_after_the_moment_keeps_the_person_and_one_from_before_it_does_not() {
    let test = TestDatabase::create().await;
    let database = Database::new(&test.url).unwrap();
    let mut conn = test.connect().await;
    let answer = r#"{"MemberList":[{"Member_Account":"ana"}]}"#;
    // Of the last one the group was created after the moment, and nothing of it is older.
    let created = (histories::BASE_MS / 1000 + 1).to_string();
    for (page, sent, spare, created) in [(0, 20, 11, "null"), (1, 20, 9, "null"), (2, 2_000, 1_999, &created)]
    {
        let mark = format!(
            r#"{{"place":{{"offset":{page}}},"sent":{},"spare_ms":{spare},"create_secs":{created},"limit":2}}"#,
            histories::BASE_MS + sent
        );
        let insert = "INSERT INTO list_pages (sdk_app_id, group_id, page, mark, answer) VALUES ($1::bigint, 'late', $2, $3, $4)";
        let query = sqlx::query(insert).bind(APP.parse::<i64>().unwrap()).bind(page).bind(&mark);
        query.bind(answer.as_bytes()).execute(&mut conn).await.unwrap();
    }
    let erased = erased_at(&database, "ana", Millis::new(histories::BASE_MS + 10), false).await;
    assert_eq!((erased.after.newer, erased.after.is_nowhere()), (2, true), "{erased:?}");
    let naming = "SELECT page FROM list_pages WHERE position('\"ana\"'::bytea IN answer) > 0 ORDER BY page";
    assert_eq!(sqlx::query_scalar::<_, i32>(naming).fetch_all(&mut conn).await.unwrap(), [1, 2]);
    erased_at(&database, "ana", Millis::new(histories::BASE_MS + 10), true).await;
    assert!(sqlx::query_scalar::<_, i32>(naming).fetch_all(&mut conn).await.unwrap().is_empty());
    database.close().await;
}

#[tokio::test]
async fn a_read_from_before_the_moment_names_the_pseudonym_and_one_from_after_it_the_person() {
    let test = TestDatabase::create().await;
    let database = Database::new(&test.url).unwrap();
    let pseudonym = erased_at(&database, "ana", Millis::new(histories::BASE_MS + 10), false).await.pseudonym;
    for (ms, wanted) in [(9, pseudonym.as_str()), (11, "ana")] {
        let list = lists("late", &["ana".into(), "dora9".into()], histories::BASE_MS + ms);
        commit_snapshots(&database, &list, NOW).await.unwrap();
        let listed =
            "SELECT user_id FROM group_members WHERE group_id = 'late' AND is_listed AND user_id <> 'dora9'";
        let listed: Vec<String> =
            sqlx::query_scalar(listed).fetch_all(&mut test.connect().await).await.unwrap();
        assert_eq!(listed, [wanted]);
    }
    verified(&database).await;
    database.close().await;
}

#[tokio::test]
async fn an_entry_that_an_earlier_receipt_brings_into_the_time_of_the_erasure_is_rewritten_with_it() {
    let test = TestDatabase::create().await;
    let database = Database::new(&test.url).unwrap();
    let body = json!({
        "CallbackCommand": "Group.CallbackAfterCreateTopic", "GroupId": "late", "TopicId": "late@TOPIC#_a", "Name": "one",
        "Operator_Account": "ana",
    });
    let received = |at| laws::received(&(body.clone(), at, Some("r1")));
    let pseudonym = erased_at(&database, "ana", Millis::new(histories::BASE_MS + 10), false).await.pseudonym;
    for (at, wanted) in [(14, "ana"), (12, "ana"), (9, pseudonym.as_str()), (5, pseudonym.as_str())] {
        assert!(commit(&database, &[received(at)]).await.iter().all(Result::is_ok));
        let creator = "SELECT created_by FROM group_topics";
        let creators: Vec<String> =
            sqlx::query_scalar(creator).fetch_all(&mut test.connect().await).await.unwrap();
        assert_eq!(creators, [wanted], "received at {at}");
        verified(&database).await;
    }
    let again = erased_at(&database, "ana", Millis::new(histories::BASE_MS + 10), false).await;
    assert_eq!((again.entries, again.after.newer), (0, 0));
    database.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_waited_in_the_spool_is_drained_with_the_pseudonym() {
    let test = TestDatabase::create().await;
    let proxy = Proxy::start(&test.url).await;
    let service = Service::start(&settings(&proxy.url)).await.unwrap();
    proxy.set(Mood::Gone);
    service
        .taken(&after("NewMemberJoin", "late", 5, json!({ "NewMemberList": [{ "Member_Account": "ana" }] })))
        .await;
    assert_eq!(users_of(&test).await, Vec::<String>::new(), "it waits in the spool");
    let database = Database::new(&test.url).unwrap();
    let now = Millis::new(i64::try_from(unix_now()).unwrap() * 1000);
    let pseudonym = erased_at(&database, "ana", now, false).await.pseudonym;
    proxy.set(Mood::Fair);
    service.until(caught_up).await;
    assert_eq!(users_of(&test).await, [pseudonym.as_str()]);
    verified(&database).await;
    service.stop().await;
    database.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callbacks_that_are_committed_while_a_person_is_erased_leave_no_id_behind() {
    let test = TestDatabase::create().await;
    let database = Database::new(&test.url).unwrap();
    let writer = async |lane: i64| {
        // Each writer is a process of its own.
        let database = Database::new(&test.url).unwrap();
        for number in 0..60 {
            let batch: Vec<Callback> = (0..5).map(|at| join("ana", lane * 1_000 + number * 5 + at)).collect();
            assert!(commit(&database, &batch).await.iter().all(Result::is_ok));
        }
        database.close().await;
    };
    let erasing = async {
        let mut pseudonyms = std::collections::BTreeSet::new();
        for _ in 0..6 {
            pseudonyms.insert(erased(&database, "ana", false).await.pseudonym.as_str().to_owned());
        }
        pseudonyms
    };
    let (pseudonyms, ..) = tokio::join!(erasing, writer(0), writer(1), writer(2));
    assert_eq!(pseudonyms.len(), 1);
    let last = erased(&database, "ana", false).await;
    assert_eq!((last.entries, last.after.is_nowhere()), (0, true), "the registration was enough: {last:?}");
    assert_eq!(users_of(&test).await, [last.pseudonym.as_str()]);
    verified(&database).await;
    database.close().await;
}

/// A standby takes over that lacks an erasure, and the next one is registered there before another replica has looked.
#[tokio::test]
async fn an_erasure_after_one_that_a_failover_lost_is_seen_by_a_replica_that_knows_the_lost_one() {
    let test = TestDatabase::create().await;
    let [here, elsewhere] = [(), ()].map(|()| Database::new(&test.url).unwrap());
    let mut conn = test.connect().await;
    let state = "SELECT version FROM erasure_state";
    let before: i64 = sqlx::query_scalar(state).fetch_one(&mut conn).await.unwrap();
    erased(&here, "chen_li", false).await;
    assert!(
        commit(&elsewhere, &[join("chen_li", 1)]).await.iter().all(Result::is_ok),
        "it knows the erasure"
    );
    sqlx::query("DELETE FROM erasures").execute(&mut conn).await.unwrap();
    sqlx::query("UPDATE erasure_state SET version = $1").bind(before).execute(&mut conn).await.unwrap();
    let pseudonym = erased(&here, "ana", false).await.pseudonym;
    assert!(commit(&elsewhere, &[join("ana", 2)]).await.iter().all(Result::is_ok));
    let users = users_of(&test).await;
    assert!(
        users.contains(&pseudonym.as_str().to_owned()) && !users.contains(&"ana".to_owned()),
        "{users:?}"
    );
    // A clock that was set back does not lower it.
    let late = i64::MAX - 10;
    sqlx::query("UPDATE erasure_state SET version = $1").bind(late).execute(&mut conn).await.unwrap();
    erased(&here, "ana", false).await;
    assert_eq!(sqlx::query_scalar::<_, i64>(state).fetch_one(&mut conn).await.unwrap(), late + 1);
    here.close().await;
    elsewhere.close().await;
}

#[tokio::test]
async fn the_most_erasures_that_may_be_are_read_by_a_batch_and_one_more_is_refused() {
    let test = TestDatabase::create().await;
    let [here, elsewhere] = [(), ()].map(|()| Database::new(&test.url).unwrap());
    assert!(commit(&elsewhere, &[join("chen_li", 1)]).await.iter().all(Result::is_ok));
    let fill = "INSERT INTO erasures (sdk_app_id, user_hash, pseudonym, erased_at_ms)
                SELECT $1::bigint, sha256(n::text::bytea), 'erased-' || left(encode(sha256(n::text::bytea), 'hex'), 20), 0
                  FROM generate_series(1, $2) n";
    let query = sqlx::query(fill).bind(APP.parse::<i64>().unwrap()).bind(i64::from(ERASURES_MAX) - 1);
    query.execute(&mut test.connect().await).await.unwrap();
    let pseudonym = erased(&here, "ana", false).await.pseudonym;
    assert!(commit(&elsewhere, &[join("ana", 2)]).await.iter().all(Result::is_ok));
    assert_eq!(users_of(&test).await, ["chen_li", pseudonym.as_str()]);
    let wanted = ErasureWanted {
        app: SdkAppId::parse(APP).unwrap(),
        user: UserId::parse("chen_li").unwrap(),
        now: NOW,
        stays_erased: false,
    };
    let refused = retention::erase(&here, &wanted).await.unwrap_err().to_string();
    assert!(refused.contains("100000 persons are erased") && refused.contains("operations.md"), "{refused}");
    assert_eq!(users_of(&test).await, ["chen_li", pseudonym.as_str()], "nothing is written");
    assert_eq!(erased(&here, "ana", true).await.pseudonym, pseudonym, "one that is there is none more");
    here.close().await;
    elsewhere.close().await;
}
