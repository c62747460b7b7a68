//! What a difference means, case by case: a loss that was repaired, a change that no callback says, or a state that was not
//! known before. The totals are those of the table, as the door of snapshots counts them.

use group_mirror::ingest;
use group_mirror::mirror::{ReadKind, Snapshot};
use group_mirror::model::{Millis, SdkAppId};
use group_mirror::store::verifications;
use serde_json::json;
use sqlx::{Executor as _, PgConnection};

use crate::rules::door::{Door, create, event, gone, join, list, profile, read};
use crate::support::APP;
use crate::support::histories::BASE_MS;

/// All totals since they were last looked at, as `class kind=count`.
async fn totals(conn: &mut PgConnection) -> String {
    let rows: Vec<(String, String, i64)> =
        sqlx::query_as("SELECT class, kind, count FROM drift_totals ORDER BY class, kind")
            .fetch_all(&mut *conn)
            .await
            .unwrap();
    conn.execute("DELETE FROM drift_totals").await.unwrap();
    let words = rows.iter().map(|(class, kind, count)| format!("{class} {kind}={count}"));
    words.collect::<Vec<_>>().join(", ")
}

async fn passed(door: &mut Door, began_ms: i64) {
    let (app, at) = (SdkAppId::parse(APP).unwrap(), Millis::new(BASE_MS + began_ms));
    verifications::note_id_list_pass(&mut door.conn, app, at, at).await.unwrap();
}

/// Seconds from the base, as `CreateTime`.
fn create_time(secs: i64) -> serde_json::Value {
    json!({ "CreateTime": BASE_MS / 1000 + secs })
}

#[tokio::test]
async fn what_a_first_backfill_finds_is_no_loss_and_what_differs_later_is_one() {
    let mut door = Door::open().await;
    door.take(&[profile(20_000, &json!({})), list(20_000, &["ana:Owner", "boris"])]).await;
    assert_eq!(
        totals(&mut door.conn).await,
        "found group_found=1, found member_found=2, found owner=1, found profile=1, silent silent=1"
    );
    door.take(&[profile(30_000, &json!({ "MuteAllMember": "On", "Name": "two" }))]).await;
    assert_eq!(totals(&mut door.conn).await, "repaired profile=1, silent silent=1");
    door.take(&[list(30_000, &["ana:Owner", "chen:Admin"])]).await;
    assert_eq!(totals(&mut door.conn).await, "repaired member_found=1, repaired member_gone=1");
    door.take(&[list(40_000, &["ana:Owner", "chen/card"])]).await;
    assert_eq!(totals(&mut door.conn).await, "repaired name_card=1, repaired role=1");
    door.take(&[list(50_000, &["ana:Owner", "chen/card"])]).await;
    assert_eq!(totals(&mut door.conn).await, "", "nothing differs");
    door.take(&[gone(60_000)]).await;
    assert_eq!(totals(&mut door.conn).await, "repaired group_gone=1");
    door.take(&[profile(70_000, &json!({ "Name": "two", "MuteAllMember": "On" }))]).await;
    let back = totals(&mut door.conn).await;
    assert!(back.contains("repaired group_found=1"), "it was known and taken for ended: {back}");
    door.close().await;
}

#[tokio::test]
async fn a_group_whose_create_is_known_was_covered_by_callbacks_from_its_first_read_on() {
    let mut door = Door::open().await;
    door.hear(&[create(0, &["boris"])]).await;
    door.take(&[profile(20_000, &json!({ "Name": "two" })), list(20_000, &["ana:Owner", "chen"])]).await;
    // The texts of a new group that its create does not say, and the roles it is created with, are no losses.
    assert_eq!(
        totals(&mut door.conn).await,
        "found profile_completed=1, repaired member_found=1, repaired member_gone=1, repaired profile=1, silent silent=1"
    );
    door.take(&[list(30_000, &["ana:Owner", "chen:Admin"])]).await;
    assert_eq!(totals(&mut door.conn).await, "repaired role=1");
    door.close().await;
}

#[tokio::test]
async fn of_a_group_known_by_its_members_alone_only_what_it_had_shown_can_be_lost() {
    let mut door = Door::open().await;
    door.hear(&[join(1_000, "boris"), join(2_000, "dora")]).await;
    door.take(&[profile(20_000, &json!({})), list(20_000, &["ana:Owner", "boris:Admin"])]).await;
    assert_eq!(
        totals(&mut door.conn).await,
        "found member_found=1, found owner=1, found profile_completed=1, found role=1, repaired member_gone=1, silent silent=1"
    );
    door.close().await;
}

#[tokio::test]
async fn a_group_that_is_younger_than_the_first_pass_through_the_ids_has_lost_its_create() {
    for (began_ms, class) in [(None, "found"), (Some(50_000), "found"), (Some(5_000), "repaired")] {
        let mut door = Door::open().await;
        if let Some(began_ms) = began_ms {
            passed(&mut door, began_ms).await;
        }
        door.take(&[profile(60_000, &create_time(10)), list(60_000, &["ana:Owner", "boris"])]).await;
        let expected = format!(
            "{class} group_found=1, {class} member_found=2, {class} owner=1, {class} profile=1, silent silent=1"
        );
        assert_eq!(totals(&mut door.conn).await, expected, "{began_ms:?}");
        door.close().await;
    }
}

#[tokio::test]
async fn what_a_callback_left_unclear_and_what_needs_a_switch_at_tencent_is_no_loss() {
    let mut door = Door::open().await;
    door.hear(&[create(0, &["boris"])]).await;
    let attributes = |ms: i64, value: &str| {
        let answer =
            json!({ "ActionStatus": "OK", "ErrorCode": 0, "GroupAttrAry": [{ "key": "k", "value": value }] });
        read(ReadKind::Attributes, crate::rules::door::at(ms), &answer)
    };
    door.hear(&[event("GroupAttrChanged", 10_000, &json!({ "OptionType": "clear" }))]).await;
    door.take(&[attributes(20_000, "one")]).await;
    assert_eq!(totals(&mut door.conn).await, "repaired attribute=1");
    door.hear(&[event("GroupAttrChanged", 25_000, &json!({ "OptionType": "odd", "GroupAttr": [] }))]).await;
    door.take(&[attributes(30_000, "two")]).await;
    assert_eq!(totals(&mut door.conn).await, "silent attribute=1", "a callback came and did not say what");
    door.take(&[attributes(40_000, "three")]).await;
    assert_eq!(totals(&mut door.conn).await, "repaired attribute=1", "the mark is answered");
    let fields = json!({ "AppDefinedData": [{ "Key": "k", "Value": "v" }] });
    door.take(&[profile(50_000, &fields)]).await;
    assert_eq!(
        totals(&mut door.conn).await,
        "found profile_completed=1, silent silent=1, silent user_defined_field=1"
    );
    door.close().await;
}

/// The total is part of the transaction: where it cannot be counted, nothing is entered, and no outcome is a guess.
#[tokio::test]
async fn a_difference_is_counted_in_the_transaction_that_mends_it() {
    let mut door = Door::open().await;
    door.conn.execute("ALTER TABLE drift_totals ADD CONSTRAINT test_check CHECK (count < 2)").await.unwrap();
    let received_at = Millis::new(BASE_MS + 100_000);
    let reads: [Snapshot; 2] = [profile(20_000, &json!({})), list(20_000, &["ana:Owner", "boris"])];
    assert!(ingest::commit_snapshots(&door.pools, &reads, received_at).await.is_err());
    assert_eq!(door.entries().await, 0);
    door.conn.execute("ALTER TABLE drift_totals DROP CONSTRAINT test_check").await.unwrap();
    ingest::commit_snapshots(&door.pools, &reads, received_at).await.unwrap();
    let times: (bool, i64) = sqlx::query_as(
        "SELECT bool_and(first_at = last_at AND last_at = to_timestamp($1 / 1000.0)), sum(count)::bigint FROM drift_totals",
    )
    .bind(received_at.get())
    .fetch_one(&mut door.conn)
    .await
    .unwrap();
    assert_eq!(times, (true, 6));
    door.close().await;
}

/// Destroy and create of an id that was used again were both lost, and an audio-video room has no list that would tell.
#[tokio::test]
async fn a_read_that_shows_a_later_creation_ends_the_stays_of_an_earlier_life_at_that_time() {
    let mut door = Door::open().await;
    door.hear(&[join(1_000, "boris"), join(95_000, "dora")]).await;
    let room = json!({ "Type": "AVChatRoom", "CreateTime": BASE_MS / 1000 + 100 });
    door.take(&[profile(120_000, &room)]).await;
    let shown = "SELECT user_id, present, (extract(epoch FROM left_at) * 1000)::bigint - $1
                   FROM group_member_states ORDER BY user_id";
    let shown: Vec<(String, bool, Option<i64>)> =
        sqlx::query_as(shown).bind(BASE_MS).fetch_all(&mut door.conn).await.unwrap();
    let left = ("boris".to_owned(), false, Some(100_000));
    // A join that its sender stamped up to 10 s too early is one of this life.
    assert_eq!(shown[..2], [left, ("dora".to_owned(), true, None)], "{shown:?}");
    door.close().await;
}
