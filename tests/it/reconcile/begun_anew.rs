//! What a pass must not take from a time before it: pages of a list that an earlier pass left behind; and what it must not
//! leave out where the first answer about a group did not count.

use std::sync::Arc;
use std::time::Duration;

use group_mirror::callback::{Decoded, Received, decode};
use group_mirror::ingest;
use group_mirror::reconcile::PassKind;
use serde_json::json;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::played_life::{Life, now, pass_by};
use crate::tencent::fake::{GROUPS, done, group};

/// Aim: a pass is about the time since its begin. Method: a pass is stopped in the middle of a list, then a member whose
/// row is among the kept pages vanishes without a callback, and an hour later a pass of another kind reads the group.
#[tokio::test]
async fn pages_that_an_earlier_pass_left_behind_are_not_taken_for_a_list_of_this_one() {
    let knobs =
        json!({ "large_limit": "cut", "cut_rows": 2, "packed_members_max": 2, "list_order": "account" });
    let mut life = Life::silent(knobs).await;
    let members: Vec<String> = (10..90).map(|number| format!("user_{number}")).collect();
    let members: Vec<&str> = members.iter().map(String::as_str).collect();
    group(&life.fake, "Public", "walkers", &members).await;
    pass_by(200_000);
    let stop = CancellationToken::new();
    let (engine, source, held) = (life.engine.clone(), life.source.clone(), stop.clone());
    let pass =
        tokio::spawn(async move { engine.once(&[source], PassKind::Backfill, &held, &Arc::default()).await });
    while life.fake.reads().get("get_group_member_info").is_none_or(|pages| *pages < 8) {
        sleep(Duration::from_millis(1)).await;
    }
    stop.cancel();
    assert!(pass.await.unwrap().is_err(), "it was stopped in the middle");
    let mut conn = life.database.connect().await;
    let kept: i64 = sqlx::query_scalar("SELECT count(*) FROM list_pages").fetch_one(&mut conn).await.unwrap();
    assert!(kept > 2, "{kept} pages are kept");
    done(&life.fake, "sdk", "account_ends", json!({ "Member_Account": "user_10" })).await;
    pass_by(3_600_000);
    life.pass(PassKind::Reconcile, 0, false).await.unwrap();
    assert_eq!(life.differences().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_group_whose_first_answer_was_stale_is_asked_again_for_everything_of_the_pass() {
    let mut life = Life::silent(json!({})).await;
    group(&life.fake, "Public", "walkers", &["boris"]).await;
    pass_by(200_000);
    life.pass(PassKind::Backfill, 0, false).await.unwrap();
    let attributes = json!({ "GroupId": "walkers", "GroupAttr": [{ "key": "seat", "value": "ana" }] });
    done(&life.fake, GROUPS, "set_group_attr", attributes).await;
    // A profile callback that Tencent's `LastInfoTime` does not know of: the first answers look older than that.
    let body = json!({
        "CallbackCommand": "Group.CallbackAfterGroupInfoChanged", "GroupId": "walkers", "Type": "Public",
        "Name": "Another name", "EventTime": now().get(),
    });
    let received = Received::bare(life.source.app, now(), body.to_string().into_bytes());
    let Decoded::Kept(callback) = decode(received) else { panic!("{body}") };
    let outcomes = ingest::commit(&life.engine.database, &[*callback]).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    pass_by(100_000);
    assert_eq!(life.differences().await.len(), 1, "name and attributes of the one group");
    life.pass(PassKind::Reconcile, 0, false).await.unwrap();
    assert_eq!(life.differences().await, Vec::<String>::new());
}
