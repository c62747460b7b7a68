//! Passes inside `serve`, beside callbacks that arrive, get lost, or never existed.

use std::time::Duration;

use group_mirror::app;
use group_mirror::callback::CREATE_COMMAND;
use group_mirror::clock;
use group_mirror::fake::ExistingGroups;
use group_mirror::mirror::DriftKind;
use group_mirror::model::SdkAppId;
use group_mirror::reconcile::{PassKind, PassSettings};
use group_mirror::replay::{self, Mode};
use group_mirror::store::Database;
use group_mirror::store::feed::FeedPlace;
use group_mirror::store::high_watermark::{self, LedgerWriters, Proof};
use group_mirror::store::work::{self, Marking};
use serde_json::json;

use super::passes::{Reading, quick, unlimited};
use crate::support::api::after;
use crate::support::postgres::TestDatabase;
use crate::support::{APP, App, Service, eventually, settings};
use crate::tencent::fake::{fake, fake_with};
use crate::tencent::life::differences_in;
use crate::tencent::scripted::KEY;

/// Aim: the whole of it. Method: a fake of whose callbacks a third is lost, some come twice or late, and which changes much
/// that no callback says, beside a service with passes; when the life has ended, the mirror becomes what the fake is.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_with_passes_becomes_what_tencent_is_whatever_was_lost() {
    let database = TestDatabase::create().await;
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(&database.url);
    settings.data_dir = Some(dir.path().display().to_string());
    let listeners = app::bind(&settings.serve_config().unwrap()).await.unwrap();
    let callbacks = format!("http://{}/callback", listeners.0.local_addr().unwrap());
    let knobs =
        unlimited(&json!({ "silent": 0.3, "lost": 0.3, "doubled": 0.1, "delayed": 0.2, "delay_ms": 300 }));
    let fake = fake(&knobs, Some(callbacks), 7).await;
    settings.tencent_api_url = Some(format!("http://{}", fake.addr));
    settings.tencent_secret_key = Some(KEY.to_owned());
    settings.tencent_rate_share = Some("1".to_owned());
    let mut serving = settings.serve_config().unwrap();
    assert!(serving.reconcile, "passes run where there is a key");
    serving.stop_silence = Duration::ZERO;
    serving.passes = PassSettings { rolling_pause: Duration::from_millis(300), ..quick() };
    let pools = Database::new(&database.url).unwrap();
    let running = app::start(&serving, pools.clone(), listeners).await.unwrap();
    running.checked().await.unwrap();
    for _ in 0..200 {
        fake.live_once().await;
    }
    fake.delivered().await;
    let is_same = async || differences_in(&mut database.connect().await, &fake, true).await.is_empty();
    let last = async || differences_in(&mut database.connect().await, &fake, true).await;
    assert!(eventually(is_same).await, "{:?}", last().await);
    let report = replay::replay(&pools, Mode::Verify, |_| {}).await.unwrap();
    assert_eq!(report.differences, 0, "{:?}", report.lines);
    running.stop().await;
}

#[tokio::test]
async fn callbacks_mark_groups_that_were_created_or_that_nothing_is_known_of() {
    let app = App::start().await;
    let created =
        json!({ "Type": "Public", "Name": "River walkers", "Owner_Account": "ana", "MemberList": [] });
    app.service.taken(&after("CreateGroup", "@TGS#1NEW", 0, created)).await;
    let joined =
        json!({ "Type": "Public", "JoinType": "Apply", "NewMemberList": [{ "Member_Account": "boris" }] });
    app.service.taken(&after("NewMemberJoin", "@TGS#2UNSEEN", 0, joined.clone())).await;
    app.service.taken(&after("NewMemberJoin", "@TGS#1NEW", 5, joined)).await;
    let mut conn = app.connect().await;
    let Proof::At(end) = high_watermark::prove(&mut conn, &LedgerWriters::new()).await.unwrap() else {
        panic!("nothing is being written")
    };
    let apps = [SdkAppId::parse(APP).unwrap()];
    let marking = Marking { apps: &apps, create: CREATE_COMMAND, community: "@TGS#_", spare_ms: 17_000 };
    let place = work::mark(&mut conn, &FeedPlace::start(), &end, marking).await.unwrap();
    assert_eq!(place, end);
    let query = "SELECT group_id, cause, class::int, parts::int FROM group_work ORDER BY group_id";
    let rows: Vec<(String, String, i32, i32)> = sqlx::query_as(query).fetch_all(&mut conn).await.unwrap();
    let row = |id: &str, cause: &str| (id.to_owned(), cause.to_owned(), 1, 1);
    assert_eq!(rows, [row("@TGS#1NEW", "created"), row("@TGS#2UNSEEN", "unseen")]);
    // Marking the same again changes nothing, and behind the end there is nothing to mark.
    assert_eq!(work::mark(&mut conn, &end, &end, marking).await.unwrap(), end);
    work::mark(&mut conn, &FeedPlace::start(), &end, marking).await.unwrap();
    let again: Vec<(String, String, i32, i32)> = sqlx::query_as(query).fetch_all(&mut conn).await.unwrap();
    assert_eq!(again, rows);
    app.stop().await;
}

/// Aim: what is not compared row by row is known to be the same. Method: a group is read twice with one answer, and noted as
/// such; then a callback comes late, from between the two reads, and makes the mirror differ from the answer. The third read has
/// the same answer once more, and has to repair it.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_callback_below_an_answer_that_did_not_change_is_found_by_the_next_read() {
    let existing = ExistingGroups { groups: 2, members: 3 };
    let fake = fake_with(&unlimited(&json!({})), None, 1, existing).await;
    let reading = Reading::of(&fake, quick()).await;
    reading.pass(PassKind::Backfill).await.unwrap();
    fake.step(120_000);
    let unchanged = reading.pass(PassKind::Reconcile).await.unwrap();
    assert!(unchanged.drift().is_empty(), "{:?}", unchanged.drift());
    let service = Service::start(&settings(&reading.database.url)).await.unwrap();
    let state = fake.state(None);
    let (id, group) =
        state.as_object().unwrap().iter().find(|(_, group)| group["type"] != "AVChatRoom").unwrap();
    let owner = group["owner"].as_str().unwrap();
    let member = group["members"].as_object().unwrap().keys().find(|user| *user != owner).unwrap();
    let late = json!({
        "CallbackCommand": "Group.CallbackAfterMemberFieldChanged", "GroupId": id, "Type": "Public",
        "EventTime": clock::now().get() + 60_000, "Member_Account": member, "NameCard": "late",
    });
    service.taken(&late).await;
    service.until(|ready| ready["spool"]["depth"] == 0).await;
    assert_eq!(reading.differences(&fake).await.len(), 1, "the callback counts");
    fake.step(120_000);
    let repaired = reading.pass(PassKind::Reconcile).await.unwrap();
    assert_eq!(repaired.drift().get(&DriftKind::NameCard), Some(&1), "{:?}", repaired.drift());
    assert_eq!(reading.differences(&fake).await, Vec::<String>::new());
    service.stop().await;
}
