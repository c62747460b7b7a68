//! The return to PostgreSQL after a stall: on a slow server, beside records that nothing can be done with, with a spool that
//! cannot write, and with receipts to be corrected in a large group.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use group_mirror::callback::{Callback, Decoded, Received, decode};
use group_mirror::ingest::{Outcome, commit};
use group_mirror::model::{Millis, SdkAppId};
use group_mirror::store::Database;
use serde_json::Value;
use sqlx::Executor as _;

use crate::durability::isolation::{drained, metric, take};
use crate::durability::spool::create;
use crate::support::chaos::{Mood, Proxy};
use crate::support::postgres::TestDatabase;
use crate::support::process::{BINARY, Place, Process, run};
use crate::support::{APP, Service, eventually, sample, settings, signed_query};

/// What one callback costs on a server with a cold cache or a slow disk.
const SLOW: &str = "
CREATE FUNCTION test_slow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_sleep(0.006); RETURN NEW; END $$;
CREATE TRIGGER test_slow BEFORE INSERT ON ledger FOR EACH ROW EXECUTE FUNCTION test_slow()";

/// 70 % of what one connection commits on that server.
const PERIOD: Duration = Duration::from_micros(6_000 * 10 / 7);

#[tokio::test(flavor = "multi_thread")]
async fn after_a_stall_a_slow_server_catches_up_while_callbacks_go_on_coming() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let service = Process::start(place.command_on(&database.url, &["serve"])).ready().await;
    let mut conn = database.connect().await;
    conn.execute(SLOW).await.unwrap();
    let done = AtomicBool::new(false);
    let sending = async {
        let mut ticks = tokio::time::interval(PERIOD);
        let mut answers = futures_util::stream::FuturesUnordered::new();
        for number in 0_usize.. {
            if done.load(Ordering::SeqCst) {
                break;
            }
            ticks.tick().await;
            let service = &service;
            answers.push(async move { take(service, &create(&format!("g{number}"))).await });
            while futures_util::FutureExt::now_or_never(futures_util::StreamExt::next(&mut answers))
                .flatten()
                .is_some()
            {}
        }
        futures_util::StreamExt::collect::<Vec<()>>(answers).await.len()
    };
    let stalling = async {
        conn.execute("BEGIN; LOCK TABLE ledger IN ACCESS EXCLUSIVE MODE").await.unwrap();
        // About two seconds of what is sent.
        let spooled = async || metric(&service, "group_mirror_spooled_total").await >= 200.0;
        assert!(eventually(spooled).await, "{}", service.log());
        conn.execute("COMMIT").await.unwrap();
        assert!(eventually(async || drained(&service).await).await, "{}", service.log());
        done.store(true, Ordering::SeqCst);
    };
    tokio::join!(sending, stalling);
    assert!(eventually(async || drained(&service).await).await);
    service.ends_well_on("TERM").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_another_version_keep_neither_the_breaker_open_nor_others_waiting() {
    let database = TestDatabase::create().await;
    let proxy = Proxy::start(&database.url).await;
    let data = tempfile::tempdir().unwrap();
    let mut settings = settings(&proxy.url);
    settings.data_dir = Some(data.path().display().to_string());
    proxy.set(Mood::Gone);
    let service = Service::start(&settings).await.unwrap();
    service.taken(&create("first")).await;
    service.stop().await;
    // As a later program might have left them.
    let file = redb::Database::open(data.path().join("spool.redb")).unwrap();
    let transaction = file.begin_write().unwrap();
    let table = redb::TableDefinition::<(i64, u64), &[u8]>::new("received");
    for number in 0..60 {
        transaction.open_table(table).unwrap().insert((0, number), &b"\x63 of version 99"[..]).unwrap();
    }
    transaction.commit().unwrap();
    drop(file);
    let service = Service::start(&settings).await.unwrap();
    proxy.set(Mood::Fair);
    service.until(|told| told["database"] == "ok" && told["spool"]["depth"] == 60).await;
    // Straight into the ledger: the breaker is closed.
    let straight = async || {
        service.taken(&create("straight")).await;
        let mut conn = database.connect().await;
        let there: bool =
            sqlx::query_scalar("SELECT EXISTS (SELECT FROM ledger WHERE group_id = 'straight')")
                .fetch_one(&mut conn)
                .await
                .unwrap();
        there && service.readiness().await.1["spool"]["depth"] == 60
    };
    assert!(eventually(straight).await);
    service.stop().await;
}

/// Starts the service where no file may grow, as on a full disk: the spool cannot be written.
async fn with_full_disk(place: &Place, url: &str) -> Process {
    let mut command = place.program("sh");
    command.env("DATABASE_URL", url).env("SDK_APP_ID", APP);
    command.env("CALLBACK_TOKEN", crate::support::TOKEN).env("API_TOKEN", crate::support::API_TOKEN);
    // The signal is ignored, so that a write fails as it does on a full disk.
    command.args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$0\" serve", BINARY]);
    Process::start(command).ready().await
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_spool_that_cannot_write_what_postgres_commits_in_time_is_not_lost() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let service = with_full_disk(&place, &database.url).await;
    take(&service, &create("before")).await;
    let mut conn = database.connect().await;
    conn.execute("BEGIN; LOCK TABLE groups IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let taking = async {
        let bodies = (0..100).map(|number| create(&format!("g{number}")));
        futures_util::future::join_all(bodies.map(async |body| take(&service, &body).await)).await;
    };
    let stall = async {
        // The fault itself: longer than PostgreSQL's share of a callback's time, shorter than all of it.
        tokio::time::sleep(Duration::from_millis(900)).await;
        conn.execute("COMMIT").await.unwrap();
    };
    tokio::join!(taking, stall);
    let groups: i64 = sqlx::query_scalar("SELECT count(*) FROM groups").fetch_one(&mut conn).await.unwrap();
    assert_eq!(groups, 101);
    assert!(metric(&service, "group_mirror_lost_total").await < 0.5, "{}", service.log());
    take(&service, &create("after")).await;
    service.ends_well_on("TERM").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_whose_sender_has_hung_up_is_counted_when_neither_can_keep_it() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let proxy = Proxy::start(&database.url).await;
    let service = with_full_disk(&place, &proxy.url).await;
    proxy.set(Mood::Stalled);
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_millis(300)).build().unwrap();
    let url = format!("http://{}/?{}", service.callback_address(), signed_query());
    assert!(client.post(url).body(create("unheard").to_string()).send().await.unwrap_err().is_timeout());
    proxy.set(Mood::Gone);
    let counted = async || metric(&service, "group_mirror_lost_total").await > 0.5;
    assert!(eventually(counted).await, "{}", service.log());
    let told: Value = service.get("/readyz").await.json().await.unwrap();
    assert_eq!(told["spool"]["gaps"], 1, "{told}");
    service.signal("TERM");
    service.ended().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_receipt_that_no_spool_takes_is_corrected_before_it_is_answered() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let service = with_full_disk(&place, &database.url).await;
    // The retry was received later, and another replica has committed it.
    let (create_topic, pools) = ("Group.CallbackAfterCreateTopic", Database::new(&database.url).unwrap());
    let later = now_ms() + 60_000;
    let committed = commit(&pools, &[topic(create_topic, later, "r")]).await.remove(0).unwrap();
    assert_eq!(committed, Outcome::Applied);
    let query = format!("{}&RequestID=r", signed_query());
    let answer = service.post(&query, sample(create_topic).to_string()).await;
    assert_eq!(answer.status(), 200, "{}", service.log());
    let mut conn = database.connect().await;
    let kept: Vec<i64> = sqlx::query_scalar("SELECT time_ms FROM ledger").fetch_all(&mut conn).await.unwrap();
    assert!(matches!(kept[..], [time] if time < later), "it counts from its first receipt: {kept:?}");
    assert!(metric(&service, "group_mirror_lost_total").await < 0.5, "{}", service.log());
    pools.close().await;
    service.ends_well_on("TERM").await;
    let verified = run(place.command_on(&database.url, &["replay", "--verify"])).await;
    assert!(verified.stdout.contains(" 0 differences"), "{verified:?}");
}

/// Folding a group again takes longer than a batch may.
const LARGE: &str = "
CREATE FUNCTION test_large() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(6); RETURN OLD; END $$;
CREATE TRIGGER test_large BEFORE DELETE ON groups FOR EACH ROW EXECUTE FUNCTION test_large()";

fn topic(command: &str, received_ms: i64, request: &str) -> Callback {
    let received = Received {
        request_id: Some(request.to_owned()),
        ..Received::bare(
            SdkAppId::parse(APP).unwrap(),
            Millis::new(received_ms),
            sample(command).to_string().into_bytes(),
        )
    };
    let Decoded::Kept(callback) = decode(received) else { panic!("out of scope") };
    *callback
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_is_corrected_in_a_group_that_no_batch_could_fold_in_its_time() {
    let place = Place::new();
    let database = TestDatabase::create().await;
    let proxy = Proxy::start(&database.url).await;
    let service = Process::start(place.command_on(&proxy.url, &["serve"])).ready().await;
    let create_topic = "Group.CallbackAfterCreateTopic";
    proxy.set(Mood::Gone);
    let query = format!("{}&RequestID=r", signed_query());
    assert_eq!(service.post(&query, sample(create_topic).to_string()).await.status(), 200);
    // The retry is received later and committed first, by another replica; the topic has ended in between.
    let pools = Database::new(&database.url).unwrap();
    let now = now_ms();
    for callback in
        [topic("Group.CallbackAfterTopicDestroyed", now + 1_000, "d"), topic(create_topic, now + 2_000, "r")]
    {
        assert_eq!(commit(&pools, &[callback]).await.remove(0).unwrap(), Outcome::Applied);
    }
    let mut conn = database.connect().await;
    conn.execute(LARGE).await.unwrap();
    proxy.set(Mood::Fair);
    assert!(eventually(async || drained(&service).await).await, "{}", service.log());
    let ended: bool = sqlx::query_scalar("SELECT destroyed_stamp > alive_stamp FROM group_topics")
        .fetch_one(&mut conn)
        .await
        .unwrap();
    assert!(ended, "the create counts from its first receipt");
    assert!(!service.log().contains("given up"), "{}", service.log());
    service.ends_well_on("TERM").await;
    pools.close().await;
    let verified = run(place.command_on(&database.url, &["replay", "--verify"])).await;
    assert!(verified.stdout.contains(" 0 differences"), "{verified:?}");
}

pub(super) fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}
