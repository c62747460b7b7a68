//! The time of receipt: it stands in for a missing event time, and decides whether an event time is believed. Which of
//! two receipts is committed first must not matter.

use group_mirror::callback::{Callback, Decoded, ReasonCause, Received, decode};
use group_mirror::ingest::commit;
use group_mirror::model::{EVENT_TIME_MAX_MS, Millis, RECEIPT_MIN_MS, SdkAppId};
use group_mirror::replay::{Mode, replay};
use group_mirror::store::{Database, lines};
use serde_json::{Value, json};
use sqlx::Executor as _;

use super::cases::orders;
use super::samples::EMPTY;
use crate::support::postgres::TestDatabase;
use crate::support::{APP, App, eventually, histories, sample};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

fn received(body: &Value, ms: i64, request: Option<&str>) -> Callback {
    let received = Received {
        request_id: request.map(str::to_owned),
        ..Received::bare(
            SdkAppId::parse(APP).unwrap(),
            Millis::new(histories::BASE_MS + ms),
            body.to_string().into_bytes(),
        )
    };
    let Decoded::Kept(callback) = decode(received) else { panic!("out of scope") };
    *callback
}

/// Commits in every order; the tables must be the same, and what the ledger says.
async fn in_every_order(said: &[Callback]) -> lines::Lines {
    let mut dumps = Vec::new();
    let test = TestDatabase::create().await;
    let database = Database::new(&test.url).unwrap();
    let mut conn = test.connect().await;
    for order in orders(said.len()) {
        conn.execute(EMPTY).await.unwrap();
        for at in &order {
            commit(&database, &said[*at..=*at]).await.remove(0).unwrap();
        }
        let report = replay(&database, Mode::Verify, |_| {}).await.unwrap();
        assert_eq!(report.lines, Vec::<String>::new(), "{order:?}");
        dumps.push(lines::of_tables(&mut conn, lines::ALL).await.unwrap());
    }
    database.close().await;
    let first = dumps.remove(0);
    dumps.into_iter().for_each(|dump| assert_eq!(dump, first));
    first
}

#[tokio::test]
async fn of_two_receipts_of_one_request_the_first_counts_whichever_was_committed_first() {
    let create = sample("Group.CallbackAfterCreateTopic");
    let destroy = sample("Group.CallbackAfterTopicDestroyed");
    let said = [
        received(&create, 0, Some("r")),
        received(&destroy, 1000, Some("d")),
        received(&create, 2000, Some("r")),
    ];
    let lines = in_every_order(&said).await;
    let topics = lines::tables().into_iter().find(|table| table.table == "group_topics").unwrap();
    let column = |name| topics.columns.iter().position(|(column, _)| column == name).unwrap();
    let pier = lines.iter().find(|((table, ..), _)| *table == "group_topics").unwrap().1;
    assert!(pier[column("destroyed_stamp")] > pier[column("created_stamp")], "the topic has ended: {pier:?}");
}

/// Aim: law 4 where only receipts give the order. Method: two requests with equal bodies and one receipt, one of them
/// delivered again after the topic's end, under its own id or a new one; in all 24 orders the tables are the same.
#[tokio::test]
async fn of_two_requests_with_one_receipt_and_a_repeat_every_order_gives_the_same_tables() {
    let (create, destroy) =
        (sample("Group.CallbackAfterCreateTopic"), sample("Group.CallbackAfterTopicDestroyed"));
    for (again, has_ended) in [("r1", true), ("r2", true), ("r3", false)] {
        let said = [
            received(&create, 0, Some("r1")),
            received(&create, 0, Some("r2")),
            received(&destroy, 25, Some("d")),
            received(&create, 50, Some(again)),
        ];
        let lines = in_every_order(&said).await;
        let topics = lines::tables().into_iter().find(|table| table.table == "group_topics").unwrap();
        let column = |name| topics.columns.iter().position(|(column, _)| column == name).unwrap();
        let pier = lines.iter().find(|((table, ..), _)| *table == "group_topics").unwrap().1;
        let is_over = pier[column("destroyed_stamp")] > pier[column("created_stamp")];
        assert_eq!(is_over, has_ended, "{again}: {pier:?}");
    }
}

#[tokio::test]
async fn receipts_of_one_request_in_one_batch_and_at_two_replicas_leave_one_entry() {
    let test = TestDatabase::create().await;
    let create = sample("Group.CallbackAfterCreateTopic");
    let batch = [3, 1, 2].map(|ms| received(&create, ms, Some("r")));
    let databases = [Database::new(&test.url).unwrap(), Database::new(&test.url).unwrap()];
    let later = [9, 4, 7, 5].map(|ms| received(&create, ms, Some("r")));
    let both = futures_util::future::join(commit(&databases[0], &batch), commit(&databases[1], &later)).await;
    let new =
        both.0.into_iter().chain(both.1).filter(|done| done.as_ref().unwrap().label() == "applied").count();
    assert_eq!(new, 1);
    let mut conn = test.connect().await;
    let kept: Vec<i64> = sqlx::query_scalar("SELECT time_ms FROM ledger").fetch_all(&mut conn).await.unwrap();
    assert_eq!(kept, [histories::BASE_MS + 1], "the earliest receipt");
    let report = replay(&databases[0], Mode::Verify, |_| {}).await.unwrap();
    assert_eq!(report.lines, Vec::<String>::new());
    for database in databases {
        database.close().await;
    }
}

/// Holds the later receipt back while it has the lock of its request.
const HOLDS: &str = "
CREATE FUNCTION test_hold() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_advisory_xact_lock(42); RETURN NEW; END $$;
CREATE TRIGGER test_hold BEFORE INSERT ON ledger FOR EACH ROW EXECUTE FUNCTION test_hold();
DO $$ BEGIN
    EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = %L', current_database(), 'repeatable read');
END $$";

/// Sessions that wait for a lock of this kind.
const WAITING: &str = "
SELECT count(*) FROM pg_stat_activity
 WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event = 'advisory'";

#[tokio::test(flavor = "multi_thread")]
async fn a_request_has_one_entry_whatever_isolation_level_the_database_prefers() {
    let test = TestDatabase::create().await;
    let mut conn = test.connect().await;
    conn.execute(HOLDS).await.unwrap();
    conn.execute("SELECT pg_advisory_lock(42)").await.unwrap();
    let waiting = async |count: i64| {
        let there = async || {
            let mut conn = test.connect().await;
            sqlx::query_scalar::<_, i64>(WAITING).fetch_one(&mut conn).await.unwrap() == count
        };
        assert!(eventually(there).await, "{count} wait");
    };
    // Parked: no row of the mirror would make the two meet.
    let mut create = sample("Group.CallbackAfterCreateTopic");
    create["TopicId"] = json!(7);
    let databases = [Database::new(&test.url).unwrap(), Database::new(&test.url).unwrap()];
    let [later, earlier] = [2, 1].map(|ms| [received(&create, ms, Some("r"))]);
    let second = async {
        waiting(1).await;
        commit(&databases[1], &earlier).await
    };
    let release = async {
        waiting(2).await;
        conn.execute("SELECT pg_advisory_unlock(42)").await.unwrap();
    };
    let (first, second, ()) = tokio::join!(commit(&databases[0], &later), second, release);
    assert_eq!([first, second].map(|done| done[0].as_ref().unwrap().label()), ["parked", "duplicate"]);
    let kept: Vec<i64> = sqlx::query_scalar("SELECT time_ms FROM ledger").fetch_all(&mut conn).await.unwrap();
    assert_eq!(kept, [histories::BASE_MS + 1], "the earliest receipt");
    for database in databases {
        database.close().await;
    }
}

#[test]
fn a_host_whose_clock_is_not_set_gives_no_verdict_about_the_future() {
    let create = sample("Group.CallbackAfterCreateGroup");
    let mut beyond = create.clone();
    beyond["EventTime"] = json!(EVENT_TIME_MAX_MS + 1);
    for receipt in [0, 1, 1_262_304_000_000, RECEIPT_MIN_MS - 1] {
        let at = receipt - histories::BASE_MS;
        let callback = received(&create, at, None);
        assert_eq!(callback.event.as_ref().err(), None, "{receipt}");
        assert_eq!(callback.event_time, Some(callback.time), "{receipt}");
        assert!(received(&beyond, at, None).event.is_err(), "{receipt}: a time that would always win");
    }
    let set = received(&create, RECEIPT_MIN_MS - histories::BASE_MS, None);
    assert_eq!(set.causes(), [ReasonCause::FutureTime]);
}

#[tokio::test]
async fn an_event_time_too_far_ahead_at_first_is_applied_when_it_comes_again_in_time() {
    let mut create = sample("Group.CallbackAfterCreateGroup");
    create["EventTime"] = json!(histories::BASE_MS + DAY_MS + 1000);
    let join = sample("Group.CallbackAfterNewMemberJoin");
    let mut join = join.clone();
    join["EventTime"] = json!(histories::BASE_MS);
    let said = [received(&create, 0, None), received(&create, 2000, None), received(&join, 3000, None)];
    assert!(said[0].event.is_err() && said[1].event.is_ok());
    let lines = in_every_order(&said).await;
    assert_eq!(lines.keys().filter(|(table, ..)| *table == "group_members").count(), 4);
}

#[tokio::test]
async fn an_owner_change_without_a_new_owner_is_parked_and_with_an_empty_one_leaves_none() {
    let app = App::start().await;
    app.service.taken(&sample("Group.CallbackAfterCreateGroup")).await;
    let mut change = sample("Group.CallbackAfterChangeGroupOwner");
    change.as_object_mut().unwrap().remove("NewOwner_Account");
    assert_eq!(app.service.parked(&change.to_string()).await, "the body has no NewOwner_Account");
    change["NewOwner_Account"] = json!("");
    app.service.taken(&change).await;
    let group = app.service.read("/v1/groups/%40TGS%232RIVERB7QK").await;
    assert_eq!((&group["owner"], &group["member_count"]), (&Value::Null, &json!(3)));
    app.stop().await;
}

#[tokio::test]
async fn a_create_without_an_owner_leaves_none_of_an_earlier_life_whose_end_was_lost() {
    let app = App::start().await;
    app.service.taken(&sample("Group.CallbackAfterCreateGroup")).await;
    let mut again = sample("variants/Group.CallbackAfterCreateGroup.no-owner");
    again["GroupId"] = json!("@TGS#2RIVERB7QK");
    app.service.taken(&again).await;
    let group = app.service.read("/v1/groups/%40TGS%232RIVERB7QK").await;
    assert_eq!((&group["owner"], group["name"].as_str()), (&Value::Null, Some("Ownerless")));
    app.stop().await;
}

#[tokio::test]
async fn a_destroy_is_applied_whatever_its_list_of_members_looks_like() {
    let app = App::start().await;
    app.service.taken(&sample("Group.CallbackAfterCreateGroup")).await;
    let mut destroy = sample("Group.CallbackAfterGroupDestroyed");
    destroy["MemberList"] = json!(["ana_77", 7]);
    app.service.taken(&destroy).await;
    let group = app.service.read("/v1/groups/%40TGS%232RIVERB7QK").await;
    assert_eq!((group["status"].as_str(), &group["member_count"]), (Some("destroyed"), &json!(0)));
    app.stop().await;
}

/// Of an entry that was parked the index of people has every user whom its body names, and of the same body that is read only
/// those of its event.
#[tokio::test]
async fn an_earlier_receipt_takes_all_people_of_its_entry_along() {
    let test = TestDatabase::create().await;
    let database = Database::new(&test.url).unwrap();
    let mut exit = sample("Group.CallbackAfterMemberExit");
    exit.as_object_mut().unwrap().remove("EventTime");
    exit["Reporter_Account"] = json!("zoe");
    let [later, earlier] = [2, 1].map(|ms| [received(&exit, ms, Some("r"))]);
    commit(&database, &later).await[0].as_ref().unwrap();
    let mut conn = test.connect().await;
    let parked = "
UPDATE ledger SET outcome = 'parked', reason = 'refused', causes = '{refused_by_database}', operator = NULL, user_id = NULL,
       users = NULL, user_count = NULL;
INSERT INTO ledger_people SELECT sdk_app_id, time_ms, 2, group_id, 'zoe', digest FROM ledger";
    conn.execute(parked).await.unwrap();
    let people =
        "SELECT p.user_id FROM ledger_people p JOIN ledger USING (sdk_app_id, group_id, time_ms, digest)
                   ORDER BY p.user_id";
    let before: Vec<String> = sqlx::query_scalar(people).fetch_all(&mut conn).await.unwrap();
    assert!(before.len() > 1 && before.contains(&"zoe".to_owned()), "{before:?}");
    commit(&database, &earlier).await[0].as_ref().unwrap();
    let time: i64 = sqlx::query_scalar("SELECT time_ms FROM ledger").fetch_one(&mut conn).await.unwrap();
    assert_eq!(time, histories::BASE_MS + 1);
    let after: Vec<String> = sqlx::query_scalar(people).fetch_all(&mut conn).await.unwrap();
    assert_eq!(after, before);
    database.close().await;
}
