//! Whole passes against the fake, in this process: what they leave in the mirror, and what they never change.

use std::sync::Arc;
use std::time::Duration;

use group_mirror::clock;
use group_mirror::fake::{ExistingGroups, Fake};
use group_mirror::mirror::DriftKind;
use group_mirror::model::SdkAppId;
use group_mirror::reconcile::{AppSource, Engine, PassCounts, PassEnd, PassKind, PassSettings, ReadSpare};
use group_mirror::replay::{self, Mode};
use group_mirror::store::Database;
use group_mirror::tencent::ClientSettings;
use group_mirror::tencent::client::TencentClient;
use group_mirror::tencent::usersig::SecretKey;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::postgres::TestDatabase;
use crate::support::{APP, eventually};
use crate::tencent::fake::{client, client_settings, fake_with};
use crate::tencent::life::differences_in;

/// Settings without the waits of the real ones.
pub(crate) fn quick() -> PassSettings {
    PassSettings {
        rolling: ReadSpare { ms: 0 },
        follow_up: ReadSpare { ms: 0 },
        gone_distance: Duration::from_millis(1),
        ..PassSettings::default()
    }
}

/// A mirror and the engine that reads a fake into it.
pub(crate) struct Reading {
    pub database: TestDatabase,
    pub engine: Engine,
    pub source: AppSource,
}

impl Reading {
    pub(crate) async fn of(fake: &Fake, settings: PassSettings) -> Self {
        let database = TestDatabase::create().await;
        let engine = Engine::new(Database::new(&database.url).unwrap(), settings, clock::now, "a test");
        let source = AppSource { app: SdkAppId::parse(APP).unwrap(), client: Arc::new(client(fake)) };
        Self { database, engine, source }
    }

    /// One pass; answers what it did.
    pub(crate) async fn pass(&self, kind: PassKind) -> Result<Arc<PassCounts>, PassEnd> {
        let counts = Arc::new(PassCounts::default());
        let stop = CancellationToken::new();
        self.engine.once(std::slice::from_ref(&self.source), kind, &stop, &counts).await?;
        Ok(counts)
    }

    /// Lines that say where mirror and fake differ.
    pub(crate) async fn differences(&self, fake: &Fake) -> Vec<String> {
        differences_in(&mut self.database.connect().await, fake, true).await
    }

    /// How long the server was busy with statements of this database.
    pub(crate) async fn busy_ms(&self) -> f64 {
        // Sessions report once a second at most, and at their end.
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        let mut conn = self.database.connect().await;
        let query = "SELECT active_time FROM pg_stat_database WHERE datname = current_database()";
        sqlx::query_scalar(query).fetch_one(&mut conn).await.unwrap()
    }

    pub(crate) async fn ledger_rows(&self) -> i64 {
        let mut conn = self.database.connect().await;
        sqlx::query_scalar("SELECT count(*) FROM ledger").fetch_one(&mut conn).await.unwrap()
    }
}

/// Limits that do not hold a test up.
pub(crate) fn unlimited(more: &Value) -> Value {
    let mut knobs = json!({ "rate_factor": 1000.0 });
    knobs.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    knobs
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "a figure for who asks for it; it decides nothing")]
async fn a_backfill_makes_the_mirror_what_tencent_has_and_a_second_one_writes_nothing() {
    // A larger one: BACKFILL_GROUPS=2000 BACKFILL_MEMBERS=50, with --nocapture for the times in PostgreSQL.
    let size = |name: &str, usual: u32| std::env::var(name).map_or(usual, |size| size.parse().unwrap());
    let existing =
        ExistingGroups { groups: size("BACKFILL_GROUPS", 130), members: size("BACKFILL_MEMBERS", 12) };
    let groups = u64::from(existing.groups);
    let fake = fake_with(&unlimited(&json!({})), None, 1, existing).await;
    let reading = Reading::of(&fake, quick()).await;
    let first = reading.pass(PassKind::Backfill).await.unwrap();
    let first_ms = reading.busy_ms().await;
    assert_eq!(first.asked.load(std::sync::atomic::Ordering::Relaxed), groups);
    let differences = reading.differences(&fake).await;
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    let rows = reading.ledger_rows().await;
    let before_ms = reading.busy_ms().await;
    let second = reading.pass(PassKind::Backfill).await.unwrap();
    println!("in PostgreSQL: {first_ms:.0} ms, then {:.0} ms", reading.busy_ms().await - before_ms);
    assert_eq!(second.asked.load(std::sync::atomic::Ordering::Relaxed), groups);
    assert!(second.drift().is_empty(), "{:?}", second.drift());
    assert_eq!(reading.ledger_rows().await, rows);
    // One of those that `serve` makes, which asks for attributes and topics only where the mirror holds some.
    let before_ms = reading.busy_ms().await;
    let rolling = reading.pass(PassKind::Rolling).await.unwrap();
    println!("a rolling pass: {:.0} ms", reading.busy_ms().await - before_ms);
    assert!(rolling.drift().is_empty(), "{:?}", rolling.drift());
    assert_eq!(reading.ledger_rows().await, rows);
}

pub(crate) async fn lived(fake: &Fake, changes: u32) {
    let mut done = 0;
    while done < changes {
        done += u32::from(fake.live_once().await);
    }
}

async fn is_clean(reading: &Reading) {
    let report = replay::replay(&reading.engine.database, Mode::Verify, |_| {}).await.unwrap();
    assert_eq!(report.differences, 0, "{:?}", report.lines);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reconcile_repairs_everything_that_happened_while_no_callback_arrived() {
    for seed in [3] {
        let fake =
            fake_with(&unlimited(&json!({ "silent": 0.3 })), None, seed, ExistingGroups::default()).await;
        lived(&fake, 150).await;
        let reading = Reading::of(&fake, quick()).await;
        reading.pass(PassKind::Backfill).await.unwrap();
        assert_eq!(reading.differences(&fake).await, Vec::<String>::new(), "seed {seed}");
        lived(&fake, 150).await;
        assert!(!reading.differences(&fake).await.is_empty(), "seed {seed}: there is something to repair");
        fake.step(120_000);
        let before = reading.ledger_rows().await;
        let dry = Arc::new(PassCounts::default());
        reading.engine.dry_run(&reading.source, &CancellationToken::new(), &dry).await.unwrap();
        assert_eq!(reading.ledger_rows().await, before, "seed {seed}");
        let counts = reading.pass(PassKind::Reconcile).await.unwrap();
        let without_roles = |counts: &PassCounts| {
            // The role of an owner who changed is found with the profile, and again with a list that is read by itself.
            counts.drift().into_iter().filter(|(kind, _)| *kind != DriftKind::Role).collect::<Vec<_>>()
        };
        assert_eq!(
            without_roles(&dry),
            without_roles(&counts),
            "seed {seed}: a dry run finds what is repaired"
        );
        assert_eq!(reading.differences(&fake).await, Vec::<String>::new(), "seed {seed}");
        is_clean(&reading).await;
    }
}

pub(crate) async fn statuses(reading: &Reading) -> Vec<(String, i64)> {
    let mut conn = reading.database.connect().await;
    let query = "SELECT status, count(*) FROM groups GROUP BY status ORDER BY status";
    sqlx::query_as(query).fetch_all(&mut conn).await.unwrap()
}

pub(crate) async fn destroy(fake: &Fake, groups: impl Iterator<Item = u32>) {
    for number in groups {
        let ids = [format!("existing {number}"), format!("@TGS#_existing {number}")];
        let mut codes = Vec::new();
        for id in ids {
            codes.push(
                fake.command("", "destroy_group", &json!({ "GroupId": id })).await["ErrorCode"].clone(),
            );
        }
        assert!(codes.contains(&json!(0)), "{number}: {codes:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_gone_after_two_denials_and_a_pass_with_too_many_of_them_changes_nothing() {
    let existing = ExistingGroups { groups: 130, members: 3 };
    let fake = fake_with(&unlimited(&json!({})), None, 1, existing).await;
    let reading = Reading::of(&fake, quick()).await;
    reading.pass(PassKind::Backfill).await.unwrap();
    destroy(&fake, 0..4).await;
    fake.step(120_000);
    // The fake's clock stands still, so no second answer is far enough from the first.
    let mut slow = quick();
    slow.gone_distance = Duration::from_secs(60);
    let never = Engine::new(reading.engine.database.clone(), slow, clock::now, "a test");
    let stop = CancellationToken::new();
    let sources = [reading.source.clone()];
    let counts = Arc::default();
    let pass = never.once(&sources, PassKind::Reconcile, &stop, &counts);
    let waiting = tokio::time::timeout(Duration::from_secs(4), pass).await;
    assert!(waiting.is_err(), "the pass waits a minute before it asks again");
    assert_eq!(statuses(&reading).await, [("active".to_owned(), 130)]);
    release(&reading).await;
    reading.pass(PassKind::Reconcile).await.unwrap();
    assert_eq!(statuses(&reading).await, [("active".to_owned(), 126), ("destroyed".to_owned(), 4)]);
    is_clean(&reading).await;

    destroy(&fake, 4..25).await;
    fake.step(120_000);
    let rows = reading.ledger_rows().await;
    let Err(PassEnd::Denied(why)) = reading.pass(PassKind::Reconcile).await else { panic!("it ended") };
    assert!(why.contains("does not know 21 of the 126 groups"), "{why}");
    assert_eq!(reading.ledger_rows().await, rows, "nothing was changed");
    assert_eq!(statuses(&reading).await, [("active".to_owned(), 126), ("destroyed".to_owned(), 4)]);
}

/// As if the process with the lease had been killed long ago.
async fn release(reading: &Reading) {
    let mut conn = reading.database.connect().await;
    let ended = "UPDATE reconcile_lease SET held_until = '-infinity', is_command = false";
    sqlx::query(ended).execute(&mut conn).await.unwrap();
}

/// A mirror of one fake that is led to another.
async fn led_to(reading: &Reading, source: AppSource) -> String {
    let rows = reading.ledger_rows().await;
    let shown = statuses(reading).await;
    let stop = CancellationToken::new();
    let ended = reading.engine.once(&[source], PassKind::Reconcile, &stop, &Arc::default()).await;
    let Err(PassEnd::Stopped(why) | PassEnd::Denied(why)) = ended else { panic!("{ended:?}") };
    assert_eq!((reading.ledger_rows().await, statuses(reading).await), (rows, shown), "{why}");
    assert!(!why.contains('\n') && !why.contains("usersig"), "{why}");
    let mut conn = reading.database.connect().await;
    let noted: Option<String> =
        sqlx::query_scalar("SELECT stopped FROM reconcile_passes").fetch_one(&mut conn).await.unwrap();
    assert_eq!(noted.as_deref(), Some(why.as_str()));
    why
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_another_app_an_empty_list_and_a_wrong_region_stop_a_pass_that_changes_nothing() {
    let existing = ExistingGroups { groups: 12, members: 3 };
    let fake = fake_with(&unlimited(&json!({})), None, 1, existing).await;
    let reading = Reading::of(&fake, quick()).await;
    reading.pass(PassKind::Backfill).await.unwrap();
    let source = |settings: ClientSettings| AppSource {
        app: reading.source.app,
        client: Arc::new(TencentClient::new(settings).unwrap()),
    };
    let mut wrong = client_settings(&fake);
    wrong.secret_key = SecretKey::new("0".repeat(64));
    let why = led_to(&reading, source(wrong)).await;
    assert!(why.starts_with("Tencent refuses every call: "), "{why}");
    let mut stranger = client_settings(&fake);
    stranger.admin = "stranger".to_owned();
    let why = led_to(&reading, source(stranger)).await;
    assert!(why.starts_with("Tencent refuses every call: "), "{why}");
    let empty = fake_with(&unlimited(&json!({})), None, 1, ExistingGroups::default()).await;
    let why = led_to(&reading, source(client_settings(&empty))).await;
    assert!(why.starts_with("Tencent lists no group at all and the mirror has 12"), "{why}");
    // Another app: it has groups, and none of ours.
    lived(&empty, 60).await;
    let why = led_to(&reading, source(client_settings(&empty))).await;
    assert!(why.starts_with("Tencent knows none of the 12 groups of the mirror"), "{why}");
    let mut elsewhere = client_settings(&fake);
    elsewhere.url = "http://127.0.0.1:9".to_owned();
    let why = led_to(&reading, source(elsewhere)).await;
    assert!(why.starts_with("Tencent does not answer: ") || why.contains("cannot be read"), "{why}");
    // With the right ones again everything is as it was.
    let counts = reading.pass(PassKind::Reconcile).await.unwrap();
    assert!(counts.drift().is_empty(), "{:?}", counts.drift());
}

async fn holder(reading: &Reading) -> Option<String> {
    let mut conn = reading.database.connect().await;
    let query = "SELECT holder FROM reconcile_lease WHERE held_until > now()";
    sqlx::query_scalar::<_, Option<String>>(query).fetch_optional(&mut conn).await.unwrap().flatten()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_replicas_one_makes_passes_and_the_other_takes_over_when_that_one_is_gone() {
    let existing = ExistingGroups { groups: 12, members: 3 };
    let fake = fake_with(&unlimited(&json!({})), None, 1, existing).await;
    let settings = PassSettings {
        lease: Duration::from_millis(1_500),
        rolling_pause: Duration::from_millis(100),
        ..quick()
    };
    let reading = Reading::of(&fake, settings.clone()).await;
    let begin = |name: &str| {
        let engine = Engine::new(reading.engine.database.clone(), settings.clone(), clock::now, name);
        tokio::spawn(engine.rolling(vec![reading.source.clone()], CancellationToken::new()))
    };
    let first = begin("first");
    assert!(eventually(async || holder(&reading).await.as_deref() == Some("first")).await);
    let second = begin("second");
    assert!(eventually(async || reading.differences(&fake).await.is_empty()).await);
    assert_eq!(holder(&reading).await.as_deref(), Some("first"));
    // A killed process gives nothing back.
    first.abort();
    assert!(eventually(async || holder(&reading).await.as_deref() == Some("second")).await);
    // A command takes the lease from a serve, which gets it back afterwards.
    reading.pass(PassKind::Reconcile).await.unwrap();
    assert!(eventually(async || holder(&reading).await.as_deref() == Some("second")).await);
    second.abort();
}
