//! A data directory that a release has left, with records in its spool and answered callbacks that it keeps: the present program
//! drains it into a database, and each record becomes the entry that it would have become.

use std::fs::{OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;

use group_mirror::callback::Received;
use group_mirror::model::SdkAppId;
use group_mirror::spool::{Spool, SpoolPlace};
use redb::ReadableTable as _;
use serde_json::Value;
use sqlx::Executor as _;

use super::copy;
use super::files::{Release, releases};
use super::life::{self, OTHER_APP};
use super::records::{self, GoldenCallback, kept};
use super::writer::DATABASE_ID;
use crate::support::apps::settings_of;
use crate::support::postgres::TestDatabase;
use crate::support::{APP, Service, eventually};

/// The files, and what they are called here.
const FILES: [(&str, &str); 7] = [
    ("spool.redb", "spool/spool.redb.gz"),
    ("spool.mark", "spool/spool.mark"),
    ("kept-0000000000", "spool/kept-0000000000"),
    ("kept.mark", "spool/kept.mark"),
    ("receipt.mark", "spool/receipt.mark"),
    ("database-id", "spool/database-id"),
    ("outbox-number", "spool/outbox-number"),
];

/// Entries without what depends on the order in which they came, and without sentences.
const ENTRIES: &str = "SELECT sdk_app_id, group_id, time_ms, digest, command, event_time_ms, received_at, source, outcome,
    causes, query_command, client_ip, platform, request_id, query, content_type, operator, users, user_count, body
    FROM ledger t ORDER BY sdk_app_id, group_id, time_ms, digest";

fn place(dir: &Path) -> SpoolPlace {
    let apps = [APP, OTHER_APP].map(|app| SdkAppId::parse(app).unwrap()).into();
    SpoolPlace { dir: dir.to_owned(), max_bytes: 1 << 24, apps, keep_answered_secs: 600 }
}

/// Puts callbacks into the spool of a directory and keeps others there, as a service does.
async fn fill(dir: &Path, spooled: &[Received], answered: &[Received]) {
    let (spool, writing) = Spool::open(&place(dir)).unwrap();
    let spooling = std::thread::spawn(writing);
    for received in spooled {
        let (done, put) = tokio::sync::oneshot::channel();
        let completion = Box::new(move |result| done.send(result).unwrap());
        spool.put(Arc::new(kept(received.clone())), completion);
        put.await.unwrap().unwrap();
    }
    let (answers, writing) = spool.kept_answers(&place(dir)).unwrap().unwrap();
    let keeping = std::thread::spawn(writing);
    for (number, received) in answered.iter().enumerate() {
        answers.keep(answers.next_mark(number % 2), [received].into_iter(), true);
    }
    answers.close().await;
    assert!(spool.close().await);
    [spooling, keeping].into_iter().for_each(|thread| thread.join().unwrap());
}

/// Flips the last byte of the newest record.
fn damage_the_last(file: &Path) {
    let file = redb::Database::open(file).unwrap();
    let transaction = file.begin_write().unwrap();
    {
        let name = redb::TableDefinition::<(i64, u64), &[u8]>::new("received");
        let mut table = transaction.open_table(name).unwrap();
        let (key, mut bytes) = {
            let (key, value) = table.last().unwrap().unwrap();
            (key.value(), value.value().to_vec())
        };
        *bytes.last_mut().unwrap() ^= 1;
        table.insert(&key, bytes.as_slice()).unwrap();
    }
    transaction.commit().unwrap();
}

/// Writes the files of a data directory, and what is expected of them.
pub(super) async fn write(release: &Release) {
    let dir = tempfile::tempdir().unwrap();
    let (spooled, answered) = (life::spooled(), life::answered());
    fill(dir.path(), &spooled, &answered).await;
    damage_the_last(&dir.path().join("spool.redb"));
    let newest = answered.iter().map(|received| received.received_at.get()).max().unwrap();
    for (name, text) in [
        ("database-id", format!("{DATABASE_ID}\n")),
        ("outbox-number", "7\n".to_owned()),
        ("receipt.mark", format!("{newest:020}\n")),
    ] {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    for (name, golden) in FILES {
        release.write(golden, &std::fs::read(dir.path().join(name)).unwrap());
    }
    // The damaged one becomes no entry.
    for (name, part) in [("spool.jsonl", &spooled[..spooled.len() - 1]), ("kept.jsonl", &answered)] {
        let lines: Vec<_> = part.iter().map(|received| GoldenCallback::of(received, false)).collect();
        release.write(name, records::lines(&lines).as_bytes());
    }
    let database = drained(release, true).await;
    release.write("spool-ledger.copy", entries(&database).await.as_bytes());
}

async fn entries(database: &TestDatabase) -> String {
    copy::rows(&mut database.connect().await, ENTRIES).await
}

/// A data directory as the release has left it.
fn directory(release: &Release) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
    for (name, golden) in FILES {
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(dir.path().join(name)).unwrap();
        file.write_all(&release.bytes(golden)).unwrap();
    }
    dir
}

/// An empty database of the release's id, into which the directory was drained; with what is kept, as where a failover has lost
/// it, or without.
async fn drained(release: &Release, keeps: bool) -> TestDatabase {
    let (dir, database) = (directory(release), TestDatabase::create().await);
    let mut conn = database.connect().await;
    conn.execute(sqlx::AssertSqlSafe(format!("UPDATE database_identity SET database_id = '{DATABASE_ID}'")))
        .await
        .unwrap();
    let mut settings = settings_of(&[APP, OTHER_APP], &database.url);
    settings.data_dir = Some(dir.path().display().to_string());
    settings.keep_answered_secs = keeps.then(|| "600".to_owned());
    let service = Service::start(&settings).await.unwrap();
    let wanted = wanted(release, keeps).len();
    let is_done = async || {
        let count = sqlx::query_scalar("SELECT count(*) FROM ledger");
        let entries: i64 = count.fetch_one(&mut database.connect().await).await.unwrap();
        service.readiness().await.1["spool"]["depth"] == 0 && usize::try_from(entries).unwrap() >= wanted
    };
    assert!(eventually(is_done).await, "{:?}", service.readiness().await);
    service.stop().await;
    assert_eq!(damaged(&dir.path().join("spool.redb")), 1, "the damaged record is kept for a person");
    database
}

/// What becomes an entry.
fn wanted(release: &Release, keeps: bool) -> Vec<GoldenCallback> {
    let mut all = records::read(&release.text("spool.jsonl"));
    if keeps {
        all.extend(records::read(&release.text("kept.jsonl")));
    }
    all
}

/// How many records are set aside in a spool's file.
fn damaged(file: &Path) -> usize {
    let file = redb::Database::open(file).unwrap();
    let transaction = file.begin_write().unwrap();
    let name = redb::TableDefinition::<(i64, u64), &[u8]>::new("damaged");
    transaction.open_table(name).unwrap().iter().unwrap().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spool_and_what_is_kept_beside_it_become_the_entries_that_the_release_would_have_made() {
    for release in releases() {
        let (golden, database) = (release.text("spool-ledger.copy"), drained(&release, true).await);
        let wanted = wanted(&release, true);
        assert_eq!(golden.lines().count(), wanted.len(), "each record has an entry");
        for record in &wanted {
            assert!(golden.contains(&record.digest), "{record:?}");
        }
        assert_eq!(entries(&database).await, golden, "{}", release.version);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_keeps_nothing_drains_the_spool_alone() {
    for release in releases() {
        let database = drained(&release, false).await;
        let golden = release.text("spool-ledger.copy");
        let drained = entries(&database).await;
        assert!(drained.lines().all(|line| golden.lines().any(|other| other == line)), "{}", release.version);
        assert_eq!(drained.lines().count(), wanted(&release, false).len(), "what was kept is removed");
    }
}

/// The present program writes what the release wrote, as long as the number of the format is the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_the_release_is_what_the_present_program_writes_while_the_format_has_the_same_number() {
    for release in releases() {
        let kept = release.bytes("spool/kept-0000000000");
        if kept[0] != group_mirror::spool::RECORD_VERSION {
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        let records = records::read(&release.text("kept.jsonl"));
        let answered: Vec<Received> = records.iter().map(GoldenCallback::received).collect();
        fill(dir.path(), &[], &answered).await;
        assert!(std::fs::read(dir.path().join("kept-0000000000")).unwrap() == kept, "{}", release.version);
        let mark = std::fs::read(dir.path().join("kept.mark")).unwrap();
        // Behind the id of the directory, and before the checksum.
        assert_eq!(mark[16..48], release.bytes("spool/kept.mark")[16..48], "{}", release.version);
        let _: Value = serde_json::from_slice(head(&kept)).unwrap();
    }
}

/// The head of the first record, where docs/formats.md says that it is.
fn head(record: &[u8]) -> &[u8] {
    assert_eq!(record[9..13], *b"\xf5GMR");
    let length = u32::from_le_bytes(record[13..17].try_into().unwrap());
    &record[21..][..usize::try_from(length).unwrap()]
}
