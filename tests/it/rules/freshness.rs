//! How fresh each group is: the rows of `group_verifications`, which follow `groups`, their order of age, and the passes
//! through the list of all ids.

use group_mirror::model::{GroupId, Millis, SdkAppId};
use group_mirror::replay::{self, Mode};
use group_mirror::store::gaps::{self, NotedGap};
use group_mirror::store::verifications::{self, StaleGroup, VerifiedPart};
use serde_json::json;
use sqlx::{Executor as _, PgConnection};

use crate::rules::door::{Door, create, event, list, profile};
use crate::support::APP;
use crate::support::histories::BASE_MS;
use crate::support::postgres::TestDatabase;

fn app() -> SdkAppId {
    SdkAppId::parse(APP).unwrap()
}

/// Status, seconds from the base to the creation, whether a list of members is due, and the older time of verification.
async fn row(conn: &mut PgConnection) -> (String, Option<i64>, bool, Option<i64>) {
    sqlx::query_as(
        "SELECT status, (extract(epoch FROM created_at))::bigint - $1, has_member_list,
                (extract(epoch FROM whole_verified_at) * 1000)::bigint - $1 * 1000
           FROM group_verifications WHERE group_id = 'g'",
    )
    .bind(BASE_MS / 1000)
    .fetch_one(conn)
    .await
    .unwrap()
}

#[tokio::test]
async fn a_group_has_a_row_of_its_freshness_from_its_first_read_on_which_follows_its_life() {
    let mut door = Door::open().await;
    let text = str::to_owned;
    door.hear(&[event("NewMemberJoin", 1_000, &json!({ "NewMemberList": [{ "Member_Account": "boris" }] }))])
        .await;
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM group_verifications")
        .fetch_one(&mut door.conn)
        .await
        .unwrap();
    assert_eq!(rows, 0, "what was never read costs nothing");
    door.take(&[list(10_000, &["ana:Owner", "boris"])]).await;
    assert_eq!(row(&mut door.conn).await, (text("unseen"), None, true, None));
    door.hear(&[create(2_000, &["boris"])]).await;
    assert_eq!(row(&mut door.conn).await, (text("active"), Some(2), true, None));
    door.take(&[profile(20_000, &json!({}))]).await;
    assert_eq!(row(&mut door.conn).await.3, Some(10_000), "the older of both");
    door.take(&[list(30_000, &["ana:Owner", "boris"])]).await;
    assert_eq!(row(&mut door.conn).await.3, Some(20_000), "the older of both");
    door.take(&[profile(40_000, &json!({})), list(10_000, &["ana:Owner", "boris"])]).await;
    assert_eq!(row(&mut door.conn).await.3, Some(30_000), "an older read makes nothing look older");
    door.hear(&[event("GroupDestroyed", 60_000, &json!({}))]).await;
    assert_eq!(row(&mut door.conn).await, (text("destroyed"), Some(2), true, Some(30_000)));
    let room = json!({ "Type": "AVChatRoom", "Name": "room", "Owner_Account": "ana" });
    door.hear(&[event("CreateGroup", 80_000, &room)]).await;
    let room = (text("active"), Some(80), false, Some(40_000));
    assert_eq!(row(&mut door.conn).await, room);
    // Replay deletes the row of the group and writes it anew, past the trigger.
    door.conn.execute("UPDATE group_verifications SET status = 'forged'").await.unwrap();
    replay::replay(&door.pools, Mode::Rebuild, |_| ()).await.unwrap();
    door.conn.execute("UPDATE groups SET owner = 'forged'").await.unwrap();
    replay::replay(&door.pools, Mode::Rebuild, |_| ()).await.unwrap();
    assert_eq!(row(&mut door.conn).await, room);
    door.close().await;
}

#[tokio::test]
async fn the_groups_of_a_pass_come_never_read_ones_first_and_then_the_oldest_page_by_page() {
    let database = TestDatabase::create().await;
    let mut conn = database.connect().await;
    conn.execute(
        "INSERT INTO groups (sdk_app_id, group_id, destroyed_stamp, revival_barrier)
         SELECT app, 'g' || n, end_of, end_of FROM unnest(ARRAY[1400000001, 7]) app, generate_series(10, 39) n,
                LATERAL (SELECT CASE WHEN n % 5 = 4 THEN int8send(1767225600000) || '\\x090102030405060708' ELSE '' END AS end_of) e",
    )
    .await
    .unwrap();
    // Of three groups in turn one was never read, one half, and one wholly, two of them as of the same time.
    for number in 10..40_i64 {
        let group = group_mirror::mirror::group_key(app(), GroupId::parse(&format!("g{number}")).unwrap());
        let at = Millis::new(BASE_MS + (50 - number) / 6 * 1_000);
        let reads = [(&group, at, VerifiedPart::Profile), (&group, at, VerifiedPart::Members)];
        verifications::note(&mut conn, &reads[..usize::try_from(number % 3).unwrap()]).await.unwrap();
    }
    let exists = |number: &i64| number % 5 != 4;
    let whole = |number: i64| (number % 3 == 2).then(|| Millis::new(BASE_MS + (50 - number) / 6 * 1_000));
    let mut expected: Vec<StaleGroup> = (10..40)
        .filter(exists)
        .map(|number| StaleGroup {
            group: GroupId::parse(&format!("g{number}")).unwrap(),
            whole_verified_at: whole(number),
        })
        .collect();
    expected.sort_by_key(|stale| (stale.whole_verified_at, stale.group.as_str().to_owned()));
    let moment = Millis::new(BASE_MS + 5_000);
    expected.retain(|stale| stale.whole_verified_at.is_none_or(|at| at < moment));
    for limit in [1, 3, 100] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = verifications::groups_verified_before(&mut conn, app(), moment, limit, after.as_ref())
                .await
                .unwrap();
            assert!(page.len() <= limit);
            after = page.last().cloned();
            seen.extend(page);
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, expected, "{limit} a page");
    }
}

#[tokio::test]
async fn a_pass_through_the_ids_keeps_its_first_begin_and_its_newest() {
    let database = TestDatabase::create().await;
    let mut conn = database.connect().await;
    // The third one was begun before the second and ended after it.
    for (began, completed) in [(1_000, 2_000), (10_000, 11_000), (5_000, 12_000)] {
        let (began, completed) = (Millis::new(BASE_MS + began), Millis::new(BASE_MS + completed));
        verifications::note_id_list_pass(&mut conn, app(), began, completed).await.unwrap();
    }
    let times: (i64, i64, i64) = sqlx::query_as(
        "SELECT (extract(epoch FROM first_began_at) * 1000)::bigint - $1, (extract(epoch FROM began_at) * 1000)::bigint - $1,
                (extract(epoch FROM completed_at) * 1000)::bigint - $1 FROM id_list_passes",
    )
    .bind(BASE_MS)
    .fetch_one(&mut conn)
    .await
    .unwrap();
    assert_eq!(times, (1_000, 10_000, 11_000));
}

/// Every third group was never verified wholly, the others in an order of their own.
const MANY: &str = "
INSERT INTO groups (sdk_app_id, group_id, created_stamp, updated_stamp)
SELECT 1400000001, md5(n::text), s, s
  FROM generate_series(1, 30000) n, LATERAL (SELECT int8send(1700000000000) || '\\x010102030405060708' AS s) t;
INSERT INTO group_verifications (sdk_app_id, group_id, status, created_at, has_member_list, verified_at, members_verified_at)
SELECT 1400000001, md5(n::text), 'active', to_timestamp(1700000000), true, t, CASE WHEN n % 3 > 0 THEN t END
  FROM (SELECT n, to_timestamp(1700000000 + n * 7919 % 30011) AS t FROM generate_series(1, 30000) n) g;
ANALYZE groups; ANALYZE group_verifications";

/// How many entries of the index of ages were read in this database, and how often the whole table.
async fn read(conn: &mut PgConnection) -> (i64, i64) {
    conn.execute("SELECT pg_stat_force_next_flush()").await.unwrap();
    let read = "SELECT i.idx_tup_read, t.seq_scan FROM pg_stat_user_indexes i JOIN pg_stat_user_tables t USING (relid)
                 WHERE i.indexrelname = 'group_verifications_whole_idx'";
    sqlx::query_as(read).fetch_one(conn).await.unwrap()
}

#[tokio::test]
async fn a_page_of_a_pass_and_a_look_at_a_gap_read_a_few_entries_of_an_index() {
    let database = TestDatabase::create().await;
    let mut conn = database.connect().await;
    for statement in MANY.split_inclusive(';') {
        conn.execute(statement).await.unwrap();
    }
    let at = |secs: i64| Millis::new(1_700_000_000_000 + secs * 1_000);
    let gap = NotedGap { first_at: at(0), last_at: at(15_000), callbacks: 1, cause: "spool_full" };
    gaps::note(&mut conn, &[app()], &[gap]).await.unwrap();
    verifications::note_id_list_pass(&mut conn, app(), at(100_000), at(100_001)).await.unwrap();
    // Behind the groups that were never read.
    let after = StaleGroup { group: GroupId::parse("a").unwrap(), whole_verified_at: Some(at(7_000)) };
    let before = read(&mut conn).await;
    let page =
        verifications::groups_verified_before(&mut conn, app(), at(20_000), 50, Some(&after)).await.unwrap();
    assert_eq!(page.len(), 50);
    let (entries, scans) = read(&mut conn).await;
    assert!(entries - before.0 < 300 && scans == before.1, "{} entries", entries - before.0);
    // The first verified group is outstanding: neither the others nor those that were never read are looked at.
    let before = read(&mut conn).await;
    assert!(gaps::close(&mut conn).await.unwrap().is_empty());
    let (entries, scans) = read(&mut conn).await;
    assert!(entries - before.0 < 300 && scans == before.1, "{} entries", entries - before.0);
    conn.execute("UPDATE group_verifications SET verified_at = now() WHERE members_verified_at IS NULL")
        .await
        .unwrap();
    let some = "UPDATE group_verifications SET verified_at = now(), members_verified_at = now() WHERE members_verified_at IS NOT NULL";
    conn.execute(some).await.unwrap();
    assert!(gaps::close(&mut conn).await.unwrap().is_empty(), "a third was never read wholly");
    conn.execute("UPDATE group_verifications SET members_verified_at = now()").await.unwrap();
    conn.execute("DELETE FROM group_verifications WHERE group_id = md5('1')").await.unwrap();
    assert!(gaps::close(&mut conn).await.unwrap().is_empty(), "one was never read at all");
    conn.execute("DELETE FROM groups WHERE group_id = md5('1')").await.unwrap();
    assert_eq!(gaps::close(&mut conn).await.unwrap().len(), 1);
}
