//! The ledger that a release has left: what its digests are made of, that the mirror is its fold and the fold of its
//! checkpoints, that repeats of all it took change nothing, and that its outbox is delivered.

use std::collections::BTreeMap;

use group_mirror::ingest::{Outcome, commit};
use group_mirror::replay::{Mode, replay};
use group_mirror::store::{Database, lines};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::copy::dump as everything;
use super::files::{Release, releases};
use super::records::{self, GoldenCallback};
use crate::support::postgres::TestDatabase;
use crate::support::recording_backend::Backend;
use crate::support::{Service, dump, eventually, settings};

/// How many lines differ, and the first of them. What a later program can read further is no difference.
async fn differences(database: &Database, mode: Mode) -> (u64, Vec<String>) {
    let report = replay(database, mode, |_| {}).await.unwrap();
    (report.differences, report.lines)
}

fn callbacks(release: &Release) -> Vec<GoldenCallback> {
    let callbacks = records::read(&release.text("callbacks.jsonl"));
    assert!(callbacks.len() > 40 && callbacks.iter().any(|callback| callback.pruned));
    callbacks
}

/// A later program may read more of a callback. What was read stays under its key.
#[test]
fn a_callback_is_read_and_digested_as_the_release_did() {
    let how_much =
        |outcome: &str| ["parked", "partial", "applied"].iter().position(|known| *known == outcome).unwrap();
    for release in releases() {
        for file in ["callbacks.jsonl", "spool.jsonl", "kept.jsonl"] {
            for golden in records::read(&release.text(file)) {
                let now = GoldenCallback::of(&golden.received(), golden.pruned);
                let (before, after) = (how_much(&golden.outcome), how_much(&now.outcome));
                assert!(after >= before, "{}: {golden:?} is read as {now:?}", release.version);
                if before > 0 || after == 0 {
                    assert_eq!(now.identity(), golden.identity(), "{}: {file}", release.version);
                }
            }
        }
    }
}

/// The entries of a database: key, outcome.
async fn entries(conn: &mut PgConnection) -> BTreeMap<(i64, String, i64, String), String> {
    let rows: Vec<(i64, String, i64, String, String)> =
        sqlx::query_as("SELECT sdk_app_id, group_id, time_ms, encode(digest, 'hex'), outcome FROM ledger")
            .fetch_all(conn)
            .await
            .unwrap();
    rows.into_iter()
        .map(|(app, group, time, digest, outcome)| ((app, group, time, digest), outcome))
        .collect()
}

#[tokio::test]
async fn the_mirror_of_the_release_is_what_its_ledger_and_its_checkpoints_say() {
    for release in releases() {
        let database = release.database().await;
        let pools = Database::new(&database.url).unwrap();
        let mut conn = database.connect().await;
        let entries = entries(&mut conn).await;
        for golden in callbacks(&release).iter().filter(|golden| !golden.pruned) {
            let key = (golden.app(), golden.group_id.clone(), golden.time_ms, golden.digest.clone());
            assert_eq!(entries.get(&key), Some(&golden.outcome), "{}: {golden:?}", release.version);
        }
        assert_eq!(differences(&pools, Mode::Verify).await, (0, Vec::new()), "{}", release.version);
        let golden = dump::tables(&mut conn).await;
        for table in lines::tables() {
            let empty = format!("TRUNCATE {}", table.table);
            sqlx::query(AssertSqlSafe(empty)).execute(&mut conn).await.unwrap();
        }
        sqlx::query("TRUNCATE ledger_people").execute(&mut conn).await.unwrap();
        let rebuilt = differences(&pools, Mode::Rebuild).await;
        assert!(rebuilt.0 > 50, "{rebuilt:?}");
        assert_eq!(dump::tables(&mut conn).await, golden, "{}", release.version);
        assert_eq!(differences(&pools, Mode::Verify).await, (0, Vec::new()), "{}", release.version);
        pools.close().await;
    }
}

#[tokio::test]
async fn repeats_of_everything_that_the_release_took_change_nothing() {
    for release in releases() {
        let database = release.database().await;
        let pools = Database::new(&database.url).unwrap();
        let mut conn = database.connect().await;
        let callbacks = callbacks(&release);
        let (before, mirror) = (without_sequence(&mut conn).await, dump::tables(&mut conn).await);
        for golden in callbacks.iter().filter(|golden| !golden.pruned) {
            let outcome = commit(&pools, &[golden.repeated()]).await.remove(0).unwrap();
            assert_eq!(outcome, Outcome::Duplicate, "{}: {golden:?}", release.version);
        }
        assert!(without_sequence(&mut conn).await == before, "{}: a table has changed", release.version);
        // What was pruned is entered once more, and its checkpoint has said it before.
        for golden in callbacks.iter().filter(|golden| golden.pruned) {
            let outcome = commit(&pools, &[golden.repeated()]).await.remove(0).unwrap();
            assert_eq!(outcome, Outcome::Applied, "{}: {golden:?}", release.version);
        }
        assert_eq!(dump::tables(&mut conn).await, mirror, "{}", release.version);
        assert_eq!(differences(&pools, Mode::Verify).await, (0, Vec::new()), "{}", release.version);
        pools.close().await;
    }
}

/// All tables; a repeat takes a number of the sequence, and leaves a hole in the feed.
async fn without_sequence(conn: &mut PgConnection) -> String {
    let all = everything(conn).await;
    all.split("SELECT setval").next().unwrap().to_owned()
}

async fn waiting(database: &TestDatabase) -> i64 {
    let count = sqlx::query_scalar("SELECT count(*) FROM relay_outbox");
    count.fetch_one(&mut database.connect().await).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_release_has_not_delivered_to_the_backend_is_delivered_byte_for_byte() {
    for release in releases() {
        let (database, backend) = (release.database().await, Backend::start());
        let wanted: Vec<GoldenCallback> =
            callbacks(&release).into_iter().filter(|golden| golden.received().query.is_some()).collect();
        assert_eq!(usize::try_from(waiting(&database).await), Ok(wanted.len()));
        let mut settings = settings(&database.url);
        settings.relay_url = Some(backend.url());
        let service = Service::start(&settings).await.unwrap();
        assert!(eventually(async || waiting(&database).await == 0).await, "{}", release.version);
        for golden in &wanted {
            let received = golden.received();
            let recorded = backend.all().into_iter().find(|recorded| recorded.body == received.body).unwrap();
            assert!(recorded.taken && recorded.is_late(), "{recorded:?}");
            let query = group_mirror::callback::without_signature(received.query.as_deref().unwrap());
            assert!(recorded.target.contains(&query), "{recorded:?}");
            assert_eq!(recorded.header("content-type"), Some("text/x; charset=\"ä\""));
        }
        service.stop().await;
    }
}
