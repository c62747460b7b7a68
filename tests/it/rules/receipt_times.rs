//! The time of receipt: it stands in for a missing event time, and decides whether an event time is believed. Which of
//! two receipts is committed first must not matter.

use group_mirror::callback::{Callback, Decoded, Received, decode};
use group_mirror::ingest::commit;
use group_mirror::model::{Millis, SdkAppId};
use group_mirror::replay::{Mode, replay};
use group_mirror::store::{Database, lines};
use serde_json::{Value, json};

use crate::support::postgres::TestDatabase;
use crate::support::{APP, App, histories, sample};

const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

fn received(body: &Value, ms: i64, request: Option<&str>) -> Callback {
    let received = Received {
        app: SdkAppId::parse(APP).unwrap(),
        query_command: None,
        client_ip: None,
        platform: None,
        request_id: request.map(str::to_owned),
        received_at: Millis::new(histories::BASE_MS + ms),
        body: body.to_string().into_bytes(),
    };
    let Decoded::Kept(callback) = decode(received) else { panic!("out of scope") };
    *callback
}

/// Commits in every order; the tables must be the same, and what the ledger says.
async fn in_every_order(said: &[Callback; 3]) -> lines::Lines {
    let mut dumps = Vec::new();
    for order in ORDERS {
        let test = TestDatabase::create().await;
        let database = Database::new(&test.url).unwrap();
        for at in order {
            commit(&database, &said[at..=at]).await.remove(0).unwrap();
        }
        let report = replay(&database, Mode::Verify, |_| {}).await.unwrap();
        assert_eq!(report.lines, Vec::<String>::new(), "{order:?}");
        let mut conn = test.connect().await;
        dumps.push(lines::of_tables(&mut conn, lines::ALL).await.unwrap());
        database.close().await;
    }
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
    assert!(pier[column("destroyed_stamp")] > pier[column("alive_stamp")], "the topic has ended: {pier:?}");
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
