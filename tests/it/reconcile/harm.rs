//! What reads must not do, each as it once did: end a field that was not asked for, do for a mark that is newer than the
//! list, let one group stop the pass over all others, close a gap before every group could be read, or verify a list of which
//! a part is missing.
//!
//! The work list is worked off between two passes, when no sweep reads a group by the way; so a test sets it up there.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use group_mirror::clock;
use group_mirror::fake::{ExistingGroups, Fake};
use group_mirror::ingest::{SnapshotOutcome, commit_snapshots};
use group_mirror::mirror::{ListRange, ReadKind, ReadTime, Snapshot, group_key};
use group_mirror::model::{FieldKey, Millis, SdkAppId, UserId};
use group_mirror::reconcile::{ListProgress, ListStep, PassKind, PassSettings, ReadSpare};
use group_mirror::store::{Database, evidence, passes, work};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::passes::{Reading, quick, unlimited};
use super::reader::{id, reader_of, witnesses};
use crate::api::freshness::{list, profile};
use crate::support::api::T0;
use crate::support::eventually;
use crate::support::postgres::TestDatabase;
use crate::tencent::fake::{GROUPS, done, fake_with};

async fn existing(groups: u32, members: u32) -> Fake {
    fake_with(&unlimited(&json!({})), None, 1, ExistingGroups { groups, members }).await
}

/// A serve that has made its first pass, and works off the work list until the next one.
async fn between_passes(reading: &Reading) -> JoinHandle<()> {
    let passes = reading.engine.clone().rolling(vec![reading.source.clone()], CancellationToken::new());
    let running = tokio::spawn(passes);
    let ended = "SELECT EXISTS (SELECT FROM reconcile_passes WHERE phase = 'ended')";
    assert!(eventually(async || is_so(reading, ended).await).await, "the first pass ends");
    running
}

async fn is_so(reading: &Reading, query: &'static str) -> bool {
    sqlx::query_scalar(query).fetch_one(&mut reading.database.connect().await).await.unwrap()
}

/// As if a callback of that time had marked the group.
async fn mark(reading: &Reading, group: &str, newest_ms: i64) {
    let mark = "INSERT INTO group_work (sdk_app_id, group_id, class, cause, parts, newest_ms, due_at)
                VALUES ($1, $2, 1, 'partial', 1, $3, now())";
    let query = sqlx::query(mark).bind(reading.source.app.get()).bind(group).bind(newest_ms);
    query.execute(&mut reading.database.connect().await).await.unwrap();
}

/// As of when the profile of a group was read, Unix milliseconds.
async fn verified_ms(reading: &Reading, group: &str) -> i64 {
    let query = "SELECT (extract(epoch FROM verified_at) * 1000)::bigint FROM group_verifications WHERE group_id = $1";
    sqlx::query_scalar(query).bind(group).fetch_one(&mut reading.database.connect().await).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_ends_no_custom_field_whose_key_came_after_the_pass_had_begun() {
    let fake = existing(1, 3).await;
    let region = FieldKey::parse("region").unwrap();
    let settings = PassSettings { group_fields: vec![region], ..quick() };
    let reading = Reading::of(&fake, settings).await;
    let running = between_passes(&reading).await;
    let first = Millis::new(verified_ms(&reading, "existing 0").await + 60_000);
    let fields = json!([{ "Key": "tier", "Value": "gold" }]);
    let change = json!({ "GroupId": "existing 0", "AppDefinedData": fields });
    done(&fake, GROUPS, "modify_group_base_info", change).await;
    fake.step(120_000);
    let element = json!({ "GroupId": "existing 0", "ErrorCode": 0, "AppDefinedData": fields });
    let answer = json!({ "ActionStatus": "OK", "ErrorCode": 0, "GroupInfo": [element] });
    let learnt = Snapshot {
        group: group_key(reading.source.app, id("existing 0")),
        time: ReadTime { sigma: first, sent: first, spare_ms: 0 },
        kind: ReadKind::Profile,
        is_complete: false,
        range: None,
        missing: Vec::new(),
        answer: answer.to_string().into_bytes(),
    };
    commit_snapshots(&reading.engine.database, &[learnt], clock::now()).await.unwrap();
    mark(&reading, "existing 0", first.get()).await;
    let is_read = "SELECT NOT EXISTS (SELECT FROM group_work)";
    assert!(eventually(async || is_so(&reading, is_read).await).await, "the mark is worked off");
    assert_eq!(reading.differences(&fake).await, Vec::<String>::new());
    running.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_from_before_a_newer_mark_is_dropped_and_the_list_read_anew() {
    let fake = existing(20, 250).await;
    let reading = Reading::of(&fake, quick()).await;
    let running = between_passes(&reading).await;
    let community: String =
        sqlx::query_scalar("SELECT group_id FROM groups WHERE type = 'Community' ORDER BY group_id LIMIT 1")
            .fetch_one(&mut reading.database.connect().await)
            .await
            .unwrap();
    let reader = reader_of(&fake);
    let witnesses = witnesses(&reader, &community).await;
    let mut list = ListProgress::new(&witnesses, ReadSpare { ms: 0 });
    let step = reader.next_page(&mut list).await.unwrap();
    let ListStep::Page { mark: Some(page_mark), rows } = step else { panic!("the list is longer") };
    let kept = serde_json::to_string(&page_mark).unwrap();
    let mut conn = reading.database.connect().await;
    evidence::keep_page(&mut conn, &witnesses.group, 0, (&kept, &rows)).await.unwrap();
    let first = verified_ms(&reading, &community).await;
    fake.step(3_600_000);
    mark(&reading, &community, first + 1_800_000).await;
    let members_ms =
        "SELECT (extract(epoch FROM members_verified_at) * 1000)::bigint FROM group_verifications
                       WHERE group_id = $1";
    let is_newer = async || {
        let query = sqlx::query_scalar(members_ms).bind(&community);
        let at: i64 = query.fetch_one(&mut reading.database.connect().await).await.unwrap();
        at > first + 1_800_000
    };
    assert!(eventually(is_newer).await, "the list counts as of a page of now");
    // The pages of a list go with the note that its row is done with, behind the list itself.
    let are_gone = async || is_so(&reading, "SELECT NOT EXISTS (SELECT FROM list_pages)").await;
    assert!(eventually(are_gone).await, "the old page is gone");
    running.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_group_that_the_database_refuses_stops_no_pass_and_lets_no_gap_be_closed() {
    let fake = existing(60, 3).await;
    let reading = Reading::of(&fake, quick()).await;
    let mut conn = reading.database.connect().await;
    let refuse = "ALTER TABLE groups ADD CONSTRAINT refused CHECK (group_id NOT LIKE '%existing 7')";
    sqlx::query(refuse).execute(&mut conn).await.unwrap();
    let counts = reading.pass(PassKind::Backfill).await.unwrap();
    assert!(counts.unknown.load(std::sync::atomic::Ordering::Relaxed) > 0);
    assert!(is_so(&reading, "SELECT count(*) = 59 FROM groups WHERE status = 'active'").await);
    let is_noted = "SELECT EXISTS (SELECT FROM id_list_passes)";
    assert!(!is_so(&reading, is_noted).await, "its create may be the one that was lost in a gap");
    sqlx::query("ALTER TABLE groups DROP CONSTRAINT refused").execute(&mut conn).await.unwrap();
    reading.pass(PassKind::Reconcile).await.unwrap();
    assert!(is_so(&reading, "SELECT count(*) = 60 FROM groups WHERE status = 'active'").await);
    assert!(is_so(&reading, is_noted).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_whose_row_is_locked_holds_up_no_other_and_is_read_when_it_is_free() {
    let fake = existing(60, 3).await;
    let reading = Reading::of(&fake, quick()).await;
    reading.pass(PassKind::Backfill).await.unwrap();
    let mut conn = reading.database.connect().await;
    let ids: Vec<String> =
        sqlx::query_scalar("SELECT group_id FROM groups").fetch_all(&mut conn).await.unwrap();
    for group in &ids {
        let change = json!({ "GroupId": group, "Name": "another" });
        done(&fake, GROUPS, "modify_group_base_info", change).await;
    }
    let mut holder = reading.database.connect().await;
    sqlx::query("BEGIN").execute(&mut holder).await.unwrap();
    let lock = "SELECT FROM groups WHERE group_id LIKE '%existing 7' FOR UPDATE";
    assert_eq!(sqlx::query(lock).fetch_all(&mut holder).await.unwrap().len(), 1);
    let passing = tokio::spawn({
        let (engine, source) = (reading.engine.clone(), reading.source.clone());
        let (stop, counts) = (CancellationToken::new(), Arc::default());
        async move { engine.once(&[source], PassKind::Reconcile, &stop, &counts).await }
    });
    let others = "SELECT count(*) = 59 FROM groups WHERE name = 'another'";
    assert!(eventually(async || is_so(&reading, others).await).await, "the others are read");
    let waits = "SELECT EXISTS (SELECT FROM group_work WHERE group_id LIKE '%existing 7')";
    assert!(eventually(async || is_so(&reading, waits).await).await, "it waits to be read again");
    assert!(!passing.is_finished(), "the pass is not done without it");
    sqlx::query("COMMIT").execute(&mut holder).await.unwrap();
    let is_done = async || {
        sqlx::query("UPDATE group_work SET due_at = now()")
            .execute(&mut reading.database.connect().await)
            .await
            .unwrap();
        passing.is_finished()
    };
    assert!(eventually(is_done).await);
    passing.await.unwrap().unwrap();
    assert_eq!(reading.differences(&fake).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_list_with_a_range_that_the_database_refuses_is_not_verified() {
    let fake = existing(1, 3).await;
    let large = json!({ "Type": "Community", "GroupId": "@TGS#_large", "Name": "Large" });
    done(&fake, GROUPS, "create_group", large).await;
    for page in 0..26 {
        let members: Vec<_> =
            (0..200).map(|n| json!({ "Member_Account": format!("user {page} {n}") })).collect();
        let import = json!({ "GroupId": "@TGS#_large", "MemberList": members });
        done(&fake, GROUPS, "import_group_member", import).await;
    }
    let reading = Reading::of(&fake, quick()).await;
    let mut conn = reading.database.connect().await;
    assert_ne!(
        ListRange::of(&UserId::parse("user 3 7").unwrap()).as_str(),
        "ff",
        "the last range is entered last"
    );
    let refuse = "ALTER TABLE group_members ADD CONSTRAINT refused CHECK (user_id <> 'user 3 7')";
    sqlx::query(refuse).execute(&mut conn).await.unwrap();
    let (is_verified, is_listed) = (
        "SELECT EXISTS (SELECT FROM group_verifications WHERE group_id = '@TGS#_large' AND members_verified_at IS NOT NULL)",
        "SELECT count(*) = 5200 FROM group_members WHERE group_id = '@TGS#_large'",
    );
    let passing = tokio::spawn({
        let (engine, source) = (reading.engine.clone(), reading.source.clone());
        async move { engine.rolling(vec![source], CancellationToken::new()).await }
    });
    let is_tried = "SELECT EXISTS (SELECT FROM group_work WHERE group_id = '@TGS#_large' AND attempts > 0)";
    assert!(eventually(async || is_so(&reading, is_tried).await).await, "it is tried again later");
    assert!(!is_so(&reading, is_verified).await);
    sqlx::query("ALTER TABLE group_members DROP CONSTRAINT refused").execute(&mut conn).await.unwrap();
    sqlx::query("UPDATE group_work SET due_at = now()").execute(&mut conn).await.unwrap();
    assert!(eventually(async || is_so(&reading, is_verified).await).await);
    assert!(is_so(&reading, is_listed).await);
    passing.abort();
}

#[tokio::test]
async fn what_a_callback_left_open_is_asked_for_by_the_next_pass_without_a_mark() {
    let database = TestDatabase::create().await;
    let mut conn = database.connect().await;
    let put = "INSERT INTO groups (sdk_app_id, group_id, updated_stamp, attributes_unclear, topics_unclear)
               SELECT 1400000001, id, stamp, CASE WHEN id = 'attributes' THEN stamp ELSE '' END,
                      CASE WHEN id = 'topics' THEN stamp ELSE '' END
                 FROM UNNEST(ARRAY['attributes', 'neither', 'topics']) AS g (id), decode('0000019b76daa000' || repeat('01', 9), 'hex') AS s (stamp)";
    sqlx::query(put).execute(&mut conn).await.unwrap();
    let app = SdkAppId::parse("1400000001").unwrap();
    let rows = passes::next_groups(&mut conn, (app, 1), true, "", 10).await.unwrap();
    let asked: Vec<_> =
        rows.iter().map(|row| (row.group_id.as_str(), row.has_attributes, row.has_topics)).collect();
    assert_eq!(asked, [("attributes", true, false), ("neither", false, false), ("topics", false, true)]);
}

#[tokio::test]
async fn a_process_that_has_lost_the_lease_sets_no_pass_back() {
    let database = TestDatabase::create().await;
    let mut conn = database.connect().await;
    let (app, now) = (SdkAppId::parse("1400000001").unwrap(), clock::now());
    passes::begin(&mut conn, app, "rolling", now).await.unwrap();
    let steps =
        [("ids", "known", true), ("known", "new", true), ("ids", "known", false), ("new", "lists", true)];
    for (from, to, is_entered) in steps {
        let entered = passes::enter(&mut conn, (app, 1), (from, to), now).await.unwrap();
        assert_eq!(entered, is_entered, "{from} {to}");
    }
    assert_eq!(passes::newest(&mut conn, app).await.unwrap().unwrap().phase, "lists");
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_that_were_read_too_soon_after_a_gap_to_close_it_are_read_again_for_it() {
    let fake = existing(4, 3).await;
    let reading = Reading::of(&fake, quick()).await;
    reading.pass(PassKind::Backfill).await.unwrap();
    let mut conn = reading.database.connect().await;
    // Read 30 s after the end, while a gap is closed by reads from 60 s on.
    let gap = "INSERT INTO gaps (sdk_app_id, cause, first_at, last_at, callbacks)
               SELECT sdk_app_id, 'spool_full', min(whole_verified_at) - interval '60 s',
                      min(whole_verified_at) - interval '30 s', 1
                 FROM group_verifications GROUP BY sdk_app_id";
    sqlx::query(gap).execute(&mut conn).await.unwrap();
    let last = "SELECT (extract(epoch FROM max(last_at)) * 1000)::bigint FROM gaps";
    let ended: i64 = sqlx::query_scalar(last).fetch_one(&mut conn).await.unwrap();
    for (after_ms, rows) in [(121_000, 0_i64), (123_000, 4)] {
        let now = Millis::new(ended + after_ms);
        work::put_of_gaps(&mut conn, reading.source.app, now, 62_000).await.unwrap();
        let count: i64 =
            sqlx::query_scalar("SELECT count(*) FROM group_work").fetch_one(&mut conn).await.unwrap();
        assert_eq!(count, rows, "{after_ms} ms after the end");
    }
}

/// When a member joined, until when the member is muted, and the name card.
type Shown = (Option<DateTime<Utc>>, Option<DateTime<Utc>>, String);

#[tokio::test]
async fn a_number_that_can_be_no_time_is_left_out_and_the_rest_of_the_answer_counts() {
    let database = TestDatabase::create().await;
    let pools = Database::new(&database.url).unwrap();
    for (number, group) in [i64::MAX, 253_402_300_800].into_iter().zip(["a", "b"]) {
        let read = profile(group, 0, &json!({ "CreateTime": number }));
        let member =
            json!({ "Member_Account": "ana", "JoinTime": number, "MuteUntil": number, "NameCard": "A" });
        let listed = list(group, 0, &json!([member]));
        let entered = commit_snapshots(&pools, &[read, listed], Millis::new(T0 + 1_000)).await.unwrap();
        assert!(entered.iter().all(|outcome| matches!(outcome, SnapshotOutcome::Entered(_))), "{entered:?}");
        let query = "SELECT joined_at, mute_until, name_card FROM group_member_states WHERE group_id = $1";
        let shown: Shown =
            sqlx::query_as(query).bind(group).fetch_one(&mut database.connect().await).await.unwrap();
        assert_eq!(shown, (None, None, "A".to_owned()), "{number}");
    }
    pools.close().await;
}
