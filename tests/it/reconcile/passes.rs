//! Whole passes against the fake, in this process: what they leave in the mirror, and what they never change.

use std::sync::Arc;
use std::time::Duration;

use group_mirror::clock;
use group_mirror::fake::{ExistingGroups, Fake};
use group_mirror::model::{FieldKey, SdkAppId};
use group_mirror::reconcile::{AppSource, Engine, PassCounts, PassEnd, PassKind, PassSettings, ReadSpare};
use group_mirror::store::Database;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::APP;
use crate::support::postgres::TestDatabase;
use crate::tencent::fake::{client, fake_with};
use crate::tencent::life::differences_in;

/// Settings without the waits of the real ones.
pub(crate) fn quick() -> PassSettings {
    PassSettings {
        rolling: ReadSpare { ms: 0 },
        follow_up: ReadSpare { ms: 0 },
        gone_distance: Duration::from_millis(1),
        group_fields: ["region", "tier"].iter().map(|key| FieldKey::parse(key).unwrap()).collect(),
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
async fn a_backfill_makes_the_mirror_what_tencent_has_and_a_second_one_writes_nothing() {
    let existing = ExistingGroups { groups: 130, members: 12 };
    let fake = fake_with(&unlimited(&json!({})), None, 1, existing).await;
    let reading = Reading::of(&fake, quick()).await;
    let first = reading.pass(PassKind::Backfill).await.unwrap();
    assert_eq!(first.asked.load(std::sync::atomic::Ordering::Relaxed), 130);
    let differences = reading.differences(&fake).await;
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    let rows = reading.ledger_rows().await;
    let second = reading.pass(PassKind::Backfill).await.unwrap();
    assert_eq!(second.asked.load(std::sync::atomic::Ordering::Relaxed), 130);
    assert!(second.drift().is_empty(), "{:?}", second.drift());
    assert_eq!(reading.ledger_rows().await, rows);
}
