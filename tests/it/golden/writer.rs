//! Writes the golden data of a release with the present program. What is random or of this moment is fixed first, so that the
//! same program writes nearly the same files: the id of a data directory and the pages of its spool are new each time.

use group_mirror::callback::Callback;
use group_mirror::ingest::{commit, commit_snapshots};
use group_mirror::mirror::{Snapshot, fits, user_hash};
use group_mirror::model::{Millis, SdkAppId, UserId};
use group_mirror::retention::{self, ErasureWanted, PruneWanted};
use group_mirror::store::Database;
use group_mirror::store::schema::MIGRATOR;
use serde_json::json;
use sqlx::Executor as _;
use sqlx::postgres::PgConnection;

use super::answers::{GoldenCursor, Reader, lists, paths};
use super::files::Release;
use super::records::{self, GoldenCallback, kept};
use super::{copy, life, schema, spool};
use crate::support::APP;
use crate::support::api::T0;
use crate::support::postgres::TestDatabase;

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// The id of the database.
pub(super) const DATABASE_ID: &str = "7f9c24e5-0000-4000-8000-000000000001";

/// What a migration draws at random.
const FIXED: &str = "
UPDATE database_identity SET database_id = '7f9c24e5-0000-4000-8000-000000000001', created_at = '2025-12-01T00:00:00Z';
UPDATE feed SET epoch = '7f9c24e5-0000-4000-8000-000000000002';
UPDATE erasure_state SET key = sha256('golden');";

/// What a service that runs for a while leaves beside its ledger, at fixed times.
const BESIDE: &str = "
UPDATE erasure_state SET version = 1;
INSERT INTO relay_outbox (sdk_app_id, group_id, time_ms, digest, place, received_at, position, request_time, origin, owner)
SELECT sdk_app_id, group_id, time_ms, digest, position, received_at, position, 1767232900, 7, 7 FROM ledger WHERE query IS NOT NULL;
INSERT INTO relay_skipped (sdk_app_id, group_id, time_ms, digest, received_at, skipped_at, attempts, failure)
SELECT sdk_app_id, group_id, time_ms, digest, received_at, '2026-01-03T00:00:00Z', 9, 'status'
  FROM ledger WHERE group_id = 'city-hall-42' AND outcome = 'applied' AND query IS NULL ORDER BY position LIMIT 1;
INSERT INTO replica_marks VALUES ('000102030405060708090a0b0c0d0e0f', 0, 4294967297, '2026-01-01T03:00:00Z');
INSERT INTO feed_marks SELECT '2026-01-01T02:00:00Z', position, encode(substr(digest, 1, 4), 'hex')
  FROM ledger ORDER BY position LIMIT 1;
INSERT INTO gaps VALUES (1400000001, 'spool_full', '2025-12-30T00:00:00Z', '2025-12-30T00:01:00Z', 12, NULL);";

async fn enter(database: &Database, callbacks: &[Callback]) {
    // One after the other, so that each has its place in the feed.
    for callback in callbacks {
        commit(database, std::slice::from_ref(callback)).await.remove(0).unwrap();
    }
}

async fn read(database: &Database, snapshots: &[Snapshot], received_at: i64) {
    for snapshot in snapshots {
        commit_snapshots(database, std::slice::from_ref(snapshot), Millis::new(received_at)).await.unwrap();
    }
}

/// Erases the person, under a pseudonym that is not drawn at random.
async fn erase(database: &Database, conn: &mut PgConnection) {
    let user = UserId::parse(life::ERASED).unwrap();
    let key: Vec<u8> =
        sqlx::query_scalar("SELECT key FROM erasure_state").fetch_one(&mut *conn).await.unwrap();
    let names = (0_u32..).map(|number| UserId::parse(&format!("erased-{number:020x}")).unwrap());
    let pseudonym = names.into_iter().find(|name| fits(&user, name)).unwrap();
    sqlx::query(
        "INSERT INTO erasures (sdk_app_id, user_hash, pseudonym, erased_at_ms) VALUES ($1, $2, $3, 0)",
    )
    .bind(APP.parse::<i64>().unwrap())
    .bind(&user_hash(&key, user.as_str())[..])
    .bind(pseudonym.as_str())
    .execute(conn)
    .await
    .unwrap();
    let app = SdkAppId::parse(APP).unwrap();
    let wanted = ErasureWanted { app, user, now: Millis::new(T0 + 86_400_000), stays_erased: false };
    let erased = retention::erase(database, &wanted).await.unwrap();
    assert!(erased.after.is_nowhere() && erased.entries > 0, "{erased:?}");
}

/// A database with all that a release may leave, and the callbacks that it took.
async fn lived(test: &TestDatabase) -> Vec<GoldenCallback> {
    let (pools, mut conn) = (Database::new(&test.url).unwrap(), test.connect().await);
    conn.execute(FIXED).await.unwrap();
    let (early, late) = (life::early(), life::late());
    let decoded =
        |all: &[group_mirror::callback::Received]| all.iter().cloned().map(kept).collect::<Vec<_>>();
    enter(&pools, &decoded(&early)).await;
    read(&pools, &life::early_reads(), life::PRUNED_BEFORE - 1_000).await;
    let before = chrono::DateTime::from_timestamp_millis(life::PRUNED_BEFORE).unwrap();
    let wanted = PruneWanted { before, follower: None, forced: false };
    let pruned = retention::prune(&pools, &wanted, |_| {}).await.unwrap();
    let reads = u64::try_from(life::early_reads().len()).unwrap();
    assert_eq!(pruned.entries, u64::try_from(early.len()).unwrap() + reads, "{pruned:?}");
    enter(&pools, &decoded(&late)).await;
    read(&pools, &life::late_reads(), T0 + 4 * 60 * 60 * 1000).await;
    erase(&pools, &mut conn).await;
    conn.execute(BESIDE).await.unwrap();
    pools.close().await;
    let golden = |all: &[group_mirror::callback::Received], pruned| {
        all.iter().map(|received| GoldenCallback::of(received, pruned)).collect::<Vec<_>>()
    };
    [golden(&early, true), golden(&late, false)].concat()
}

async fn cursors(reader: &Reader) -> Vec<GoldenCursor> {
    let mut all = Vec::new();
    for list in lists() {
        all.push(reader.cursor(&list).await);
    }
    let feed = all.iter().find(|golden| golden.is_of_feed()).unwrap();
    let (feed, says) = (feed.list().to_owned(), feed.words().clone());
    let changed = |pointer: &str, value: serde_json::Value| {
        let mut says = says.clone();
        *says.pointer_mut(pointer).unwrap() = value;
        says
    };
    let mut without_digest = says.clone();
    without_digest["after"].as_object_mut().unwrap().remove("d");
    for (says, status) in [
        (without_digest, 400),
        (changed("/v", json!(0)), 400),
        (changed("/list", json!("groups")), 400),
        (changed("/after/d", json!("00000000")), 410),
        (changed("/after/p", json!(1_000_000)), 410),
        (changed("/after/p", json!(1)), 410),
    ] {
        all.push(reader.refused(&feed, says, status).await);
    }
    all
}

/// Writes a directory.
pub(super) async fn write(release: &Release) {
    release.clear();
    let migrations = MIGRATOR
        .iter()
        .map(|one| format!("{} {} {}\n", one.version, hex(&one.checksum), one.description.replace(' ', "_")));
    release.write("migrations.txt", migrations.collect::<String>().as_bytes());
    let empty = release.empty_database().await;
    release.write("schema.txt", schema::described(&mut empty.connect().await).await.as_bytes());
    let test = TestDatabase::create().await;
    let callbacks = lived(&test).await;
    release.write("callbacks.jsonl", records::lines(&callbacks).as_bytes());
    release.write("database.copy", copy::dump(&mut test.connect().await).await.as_bytes());
    // As the tests read it.
    let database = release.database().await;
    let reader = Reader::start(&database).await;
    let mut answers = Vec::new();
    for path in paths() {
        answers.push(reader.answer(&path).await);
    }
    let pretty = |value: &serde_json::Value| serde_json::to_string_pretty(value).unwrap() + "\n";
    release.write("answers.json", pretty(&json!(answers)).as_bytes());
    release.write("cursors.json", pretty(&json!(cursors(&reader).await)).as_bytes());
    reader.stop().await;
    spool::write(release).await;
}
