//! A spool's file that the disk has damaged: it never takes the service down beside a healthy PostgreSQL, nothing wrong is
//! applied, and what is lost is reported as a gap.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use super::spool::{create, groups};
use crate::rules::laws::setting;
use crate::support::postgres::TestDatabase;
use crate::support::{Service, eventually, fake_postgres, settings};

const CALLBACKS: usize = 60;

const PAGE: usize = 4096;

fn names() -> BTreeSet<String> {
    (0..CALLBACKS).map(|number| format!("kept {number}")).collect()
}

/// A spool on the disk: its file, and the mark beside it.
#[derive(Clone)]
struct Files {
    spool: Vec<u8>,
    mark: Vec<u8>,
}

impl Files {
    fn of(data: &Path) -> Self {
        let read = |name| std::fs::read(data.join(name)).unwrap();
        Self { spool: read("spool.redb"), mark: read("spool.mark") }
    }

    /// The same mark beside another file.
    fn with(&self, spool: Vec<u8>) -> Self {
        Self { spool, mark: self.mark.clone() }
    }
}

/// Files with callbacks in them: as a kill leaves them, and as a stop does.
async fn files() -> [Files; 2] {
    let data = tempfile::tempdir().unwrap();
    let mut settings = settings(&format!("postgres://x:y@{}/mirror", fake_postgres::silent()));
    settings.data_dir = Some(data.path().display().to_string());
    let service = Service::start_at_once(&settings).await.unwrap();
    for (number, name) in names().iter().enumerate() {
        let mut body = create(name);
        body["Padding"] = "x".repeat([10, 300, 3000][number % 3]).into();
        service.taken(&body).await;
    }
    let killed = Files::of(data.path());
    service.stop().await;
    [killed, Files::of(data.path())]
}

/// What a start beside a healthy PostgreSQL made of a file.
struct Outcome {
    applied: BTreeSet<String>,
    gaps: u64,
    moved: Vec<PathBuf>,
    data: TempDir,
}

impl Outcome {
    /// How many callbacks the noted gaps name as lost.
    fn named_lost(&self) -> u64 {
        gaps_in(&self.data.path().join("spool.redb")).iter().map(|(_, callbacks)| callbacks).sum()
    }
}

/// Files that were moved aside: damaged, or salvaged by now.
fn moved(data: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path());
    let is_moved = |path: &PathBuf| {
        let path = path.display().to_string();
        path.contains("spool.redb.damaged-") && !path.ends_with(".gap")
    };
    entries.filter(is_moved).collect()
}

/// Starts on a file, waits until the spool is empty, and asserts what holds however it was damaged.
async fn started_on(files: &Files, what: &str) -> Outcome {
    let database = TestDatabase::create().await;
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join("spool.redb"), &files.spool).unwrap();
    std::fs::write(data.path().join("spool.mark"), &files.mark).unwrap();
    let mut settings = settings(&database.url);
    settings.data_dir = Some(data.path().display().to_string());
    let service = Service::start(&settings).await.unwrap_or_else(|error| panic!("{what}: {error:#}"));
    service.taken(&create("beside")).await;
    let is_salvaged = async || moved(data.path()).iter().all(|path| path.extension().unwrap() == "salvaged");
    assert!(eventually(is_salvaged).await, "{what}: {:?}", moved(data.path()));
    let is_empty = |body: &Value| body["spool"]["depth"] == 0 && body["spool"]["state"] == "ok";
    assert!(eventually(async || is_empty(&service.readiness().await.1)).await, "{what}");
    service.taken(&create("after")).await;
    assert!(eventually(async || is_empty(&service.readiness().await.1)).await, "{what}");
    let gaps = service.readiness().await.1["spool"]["gaps"].as_u64().unwrap();
    service.stop().await;
    let mut applied = groups(&database).await;
    assert!(applied.remove("beside") && applied.remove("after"), "{what}: {applied:?}");
    assert!(applied.is_subset(&names()), "{what}: only what was sent: {applied:?}");
    let parked: i64 = sqlx::query_scalar("SELECT count(*) FROM ledger WHERE outcome = 'parked'")
        .fetch_one(&mut database.connect().await)
        .await
        .unwrap();
    assert_eq!(parked, 0, "{what}");
    let moved = moved(data.path());
    Outcome { applied, gaps, moved, data }
}

/// Overwrites a page; never the first, which holds the header.
fn with_page(files: &Files, page: usize, fill: impl Fn(usize) -> u8) -> Files {
    let file = &files.spool;
    let mut damaged = file.clone();
    let from = (1 + page % (file.len() / PAGE - 1)) * PAGE;
    for (at, byte) in damaged[from..from + PAGE].iter_mut().enumerate() {
        *byte = fill(at);
    }
    files.with(damaged)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_file_of_the_store_any_more_is_moved_aside_with_a_gap_and_kept() {
    for (state, files) in ["killed", "stopped"].iter().zip(files().await) {
        let file = &files.spool;
        let mut header = file.clone();
        header[..320].fill(0xa5);
        for (kind, damaged) in [
            ("all zeros", vec![0; file.len()]),
            ("a header of other bytes", header),
            ("cut to a few bytes", file[..5].to_vec()),
            ("cut in half", file[..file.len() / 2].to_vec()),
            ("text", b"not a spool at all".repeat(1000)),
        ] {
            let what = format!("{state}, {kind}");
            let outcome = started_on(&files.with(damaged.clone()), &what).await;
            assert_eq!(outcome.moved.len(), 1, "{what}");
            assert_eq!(outcome.gaps, 1, "{what}");
            assert_eq!(std::fs::metadata(&outcome.moved[0]).unwrap().len(), damaged.len() as u64, "{what}");
            assert_eq!(noted_gaps(&outcome.data.path().join("spool.redb")), ["spool_damaged"], "{what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undamaged_file_is_drained_whether_it_was_killed_or_stopped() {
    for files in files().await {
        let outcome = started_on(&files, "undamaged").await;
        assert_eq!(outcome.applied, names());
        assert_eq!((outcome.gaps, outcome.moved.len()), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_page_takes_nothing_down_and_what_is_lost_is_a_gap() {
    let mut random = fastrand::Rng::with_seed(7);
    let [killed, stopped] = files().await;
    for round in 0..6 {
        let (page, noise) =
            (random.usize(..), std::iter::repeat_with(|| random.u8(..)).take(997).collect::<Vec<_>>());
        for (kind, damaged) in [
            ("a page of zeros", with_page(&stopped, page, |_| 0)),
            ("a page of garbage", with_page(&stopped, page, |at| noise[at % noise.len()])),
            ("a page of garbage after a kill", with_page(&killed, page, |at| noise[at % noise.len()])),
        ] {
            let what = format!("{round}, {kind}");
            let outcome = started_on(&damaged, &what).await;
            assert!(
                outcome.applied == names() || outcome.gaps > 0,
                "{what}: {} applied",
                outcome.applied.len()
            );
        }
    }
}

/// Aim: damage costs the records that it hits, and no other. Method: bits are flipped at generated places behind the header,
/// in a file as a kill leaves it and as a stop does. `DAMAGE_ROUNDS` sets how many, `DAMAGE_SEED` which.
#[tokio::test(flavor = "multi_thread")]
async fn flipped_bits_cost_the_records_that_they_hit_and_what_is_lost_is_named() {
    let mut random = fastrand::Rng::with_seed(setting("DAMAGE_SEED", 3));
    let files = files().await;
    let mut salvaged = 0;
    for round in 0..setting("DAMAGE_ROUNDS", 12) {
        let mut damaged = files[usize::from(round % 3 == 0)].clone();
        let places: Vec<usize> =
            std::iter::repeat_with(|| random.usize(512 * 8..damaged.spool.len() * 8)).take(3).collect();
        for bit in &places {
            damaged.spool[bit / 8] ^= 1 << (bit % 8);
        }
        let what = format!("{round}: bits {places:?}");
        let outcome = started_on(&damaged, &what).await;
        let (applied, lost) = (outcome.applied.len(), outcome.named_lost());
        assert!(applied as u64 + lost >= CALLBACKS as u64, "{what}: {applied} applied, {lost} lost");
        if !outcome.moved.is_empty() {
            assert!(applied >= CALLBACKS - places.len(), "{what}: {applied} applied");
            salvaged += 1;
        }
    }
    assert!(salvaged > 0, "some of the files were of no more use to the store");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_salvage_that_was_interrupted_is_begun_again_by_the_next_start() {
    let [killed, _] = files().await;
    let (database, data) = (TestDatabase::create().await, tempfile::tempdir().unwrap());
    let aside = data.path().join("spool.redb.damaged-20260101T000000000Z");
    std::fs::write(&aside, &killed.spool).unwrap();
    let noted =
        r#"{"first_ms":1700000000000,"last_ms":1700000000001,"callbacks":61,"cause":"spool_damaged"}"#;
    std::fs::write(data.path().join("spool.redb.damaged-20260101T000000000Z.gap"), noted).unwrap();
    let mut settings = settings(&database.url);
    settings.data_dir = Some(data.path().display().to_string());
    let service = Service::start(&settings).await.unwrap();
    assert!(eventually(async || groups(&database).await == names()).await);
    assert!(eventually(async || !aside.exists()).await);
    service.stop().await;
    let names: Vec<PathBuf> = moved(data.path());
    assert_eq!(names, [aside.with_extension("damaged-20260101T000000000Z.salvaged")]);
    assert_eq!(gaps_in(&data.path().join("spool.redb")), [("spool_damaged".to_owned(), 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_are_gone_from_a_sound_file_are_a_gap() {
    let [_, stopped] = files().await;
    let outcome = started_on(&stopped.with(Vec::new()), "an emptied file").await;
    assert_eq!((outcome.applied.len(), outcome.gaps, outcome.moved.len()), (0, 1, 0));
    // A directory without the file is one that begins anew.
    let none = tempfile::tempdir().unwrap();
    std::fs::write(none.path().join("spool.mark"), &stopped.mark).unwrap();
    let mut settings = settings(&format!("postgres://x:y@{}/mirror", fake_postgres::silent()));
    settings.data_dir = Some(none.path().display().to_string());
    let service = Service::start_at_once(&settings).await.unwrap();
    service.taken(&create("anew")).await;
    assert_eq!(service.readiness().await.1["spool"]["gaps"], 0);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_in_a_body_is_never_applied_and_its_record_is_kept_aside() {
    let [_, stopped] = files().await;
    let mut damaged = stopped.clone();
    let find = |word: &[u8]| stopped.spool.windows(word.len()).position(|window| window == word).unwrap();
    // Its name in the body: without a checksum it would be another group.
    damaged.spool[find(br#""GroupId":"kept 17""#) + 11] ^= 1;
    let outcome = started_on(&damaged, "a bit in a body").await;
    let expected: BTreeSet<String> = names().into_iter().filter(|name| name != "kept 17").collect();
    assert_eq!(outcome.applied, expected);
    assert_eq!((outcome.gaps, outcome.moved.len()), (1, 0));
    let path = outcome.data.path().join("spool.redb");
    assert_eq!(noted_gaps(&path), ["spool_damaged"]);
    let store = redb::Database::open(path).unwrap();
    let table = redb::TableDefinition::<(i64, u64), &[u8]>::new("damaged");
    let transaction = redb::ReadableDatabase::begin_read(&store).unwrap();
    let table = transaction.open_table(table).unwrap();
    assert_eq!(redb::ReadableTableMetadata::len(&table).unwrap(), 1);
}

/// The causes of the gaps that a file keeps.
fn noted_gaps(path: &Path) -> Vec<String> {
    gaps_in(path).into_iter().map(|(cause, _)| cause).collect()
}

/// Cause and number of callbacks of each gap that a file keeps.
fn gaps_in(path: &Path) -> Vec<(String, u64)> {
    let store = redb::Database::open(path).unwrap();
    let table = redb::TableDefinition::<(i64, i64), &[u8]>::new("app_gaps");
    let transaction = redb::ReadableDatabase::begin_read(&store).unwrap();
    let table = match transaction.open_table(table) {
        Err(redb::TableError::TableDoesNotExist(_)) => return Vec::new(),
        table => table.unwrap(),
    };
    let gaps = redb::ReadableTable::iter(&table).unwrap();
    gaps.map(|gap| {
        let gap: Value = serde_json::from_slice(gap.unwrap().1.value()).unwrap();
        (gap["cause"].as_str().unwrap().to_owned(), gap["callbacks"].as_u64().unwrap())
    })
    .collect()
}
