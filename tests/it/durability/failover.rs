//! Two servers of PostgreSQL and a promotion, under load: nothing that was answered is lost, also where the standby lacked
//! the end and the service keeps what it has answered (`KEEP_ANSWERED_SECS`).
//!
//! `FAILOVERS=20` runs the lossy ones as often.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, SystemTime};

use reqwest::StatusCode;
use sqlx::{Connection as _, Executor as _, PgConnection};

use super::isolation::{drained, metric, take};
use super::spool::create;
use crate::support::chaos::{Mood, Proxy};
use crate::support::cluster::{Cluster, copy};
use crate::support::follow::Watcher;
use crate::support::load::{Load, Sent, Target};
use crate::support::postgres::TestDatabase;
use crate::support::process::{Place, Process, run};
use crate::support::{API_TOKEN, eventually};

/// A primary with a standby behind it, and a proxy in front of each.
pub(crate) struct Pair {
    pub(crate) primary: Cluster,
    pub(crate) standby: Cluster,
    replication: Proxy,
    pub(crate) first: Proxy,
    pub(crate) second: Proxy,
}

impl Pair {
    pub(crate) async fn create() -> Self {
        let mut primary = Cluster::create().await;
        let replication = Proxy::start(&primary.url()).await;
        let standby = Cluster::standby_of(&mut primary, &replication).await;
        let (first, second) = (Proxy::start(&primary.url()).await, Proxy::start(&standby.url()).await);
        Self { primary, standby, replication, first, second }
    }

    /// Both hosts, as `DATABASE_URL` names them.
    fn url(&self) -> String {
        Proxy::url_of([&self.first, &self.second])
    }

    /// The primary waits for the standby with each commit from here on.
    async fn make_synchronous(&self) {
        let mut conn = self.primary.connect().await;
        conn.execute("ALTER SYSTEM SET synchronous_standby_names = '*'").await.unwrap();
        conn.execute("SELECT pg_reload_conf()").await.unwrap();
        let names = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
        assert!(eventually(async || count(&self.primary, names).await == 1).await);
    }

    async fn until_the_standby_has(&self, entries: i64) {
        assert!(eventually(async || entered(&self.standby).await >= entries).await);
    }

    /// The primary is gone, and the standby takes its place.
    async fn promote(&self) {
        self.first.set(Mood::Gone);
        self.standby.connect().await.execute("SELECT pg_promote()").await.unwrap();
    }

    /// Ends a load, and waits until the new primary has each callback of it.
    async fn has_everything(&self, service: &Process, sent: &Sent) {
        assert_eq!(sent.lost, Vec::<String>::new(), "each was answered with OK");
        let all = i64::try_from(sent.callbacks).unwrap();
        let has_all = async || drained(service).await && entered(&self.standby).await == all;
        assert!(
            eventually(has_all).await,
            "{} of {all} entries\n{}",
            entered(&self.standby).await,
            service.log()
        );
    }
}

async fn count(server: &Cluster, statement: &'static str) -> i64 {
    let mut conn = PgConnection::connect(&server.url()).await.unwrap();
    sqlx::query_scalar(statement).fetch_one(&mut conn).await.unwrap()
}

pub(super) async fn entered(server: &Cluster) -> i64 {
    count(server, "SELECT count(*) FROM ledger").await
}

pub(super) async fn serve(place: &Place, url: &str, keep_secs: u32) -> Process {
    let mut command = place.command_on(url, &["serve"]);
    command.env("KEEP_ANSWERED_SECS", keep_secs.to_string());
    Process::start(command).ready().await
}

pub(crate) async fn fill(service: &Process, name: &str, callbacks: usize) {
    for number in 0..callbacks {
        take(service, &create(&format!("{name}{number}"))).await;
    }
    assert!(eventually(async || drained(service).await).await);
}

pub(super) async fn verified(place: &Place, url: &str) {
    let verified = run(place.command_on(url, &["replay", "--verify"])).await;
    assert!(verified.stdout.contains(" 0 differences"), "{verified:?}");
}

fn failovers() -> usize {
    std::env::var("FAILOVERS").ok().map_or(2, |text| text.parse().unwrap())
}

/// About 300 callbacks a second, where the machine can.
fn load(service: &Process, name: &'static str) -> Load {
    Load::start(&Target::plain(&service.callback_address()), name, 6, Duration::from_millis(15))
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_answered_is_lost_by_a_failover_to_a_standby_that_lacks_the_end() {
    for round in 0..failovers() {
        let (pair, place) = (Pair::create().await, Place::new());
        let service = serve(&place, &pair.url(), 600).await;
        let load = load(&service, "g");
        load.pass(60).await;
        pair.replication.set(Mood::Gone);
        // Another number in each round, so that the end falls into another moment.
        load.pass(100 + 37 * u64::try_from(round % 5).unwrap()).await;
        pair.promote().await;
        load.pass(60).await;
        let sent = load.finish().await;
        pair.has_everything(&service, &sent).await;
        assert!(metric(&service, "group_mirror_resent_total").await > 0.0, "{}", service.log());
        assert_eq!(service.log().matches("the database lacks commits").count(), 1, "{}", service.log());
        service.ends_well_on("TERM").await;
        verified(&place, &pair.url()).await;
    }
}

/// What the setting is for: this is what an asynchronous failover takes.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_setting_a_standby_that_lacks_the_end_has_lost_it_and_nothing_is_written_for_it() {
    let (pair, place) = (Pair::create().await, Place::new());
    let service = serve(&place, &pair.url(), 0).await;
    fill(&service, "kept", 5).await;
    pair.until_the_standby_has(5).await;
    pair.replication.set(Mood::Gone);
    fill(&service, "lost", 7).await;
    pair.promote().await;
    fill(&service, "new", 5).await;
    assert_eq!(entered(&pair.standby).await, 10);
    assert_eq!(count(&pair.standby, "SELECT count(*) FROM replica_marks").await, 0);
    let names = std::fs::read_dir(place.path().join("data")).unwrap();
    let kept = names.filter(|name| name.as_ref().unwrap().file_name().to_str().unwrap().starts_with("kept"));
    assert_eq!(kept.count(), 0);
    service.ends_well_on("TERM").await;
}

/// What came by the spool is kept as well, and the service finds out at its next start.
#[tokio::test(flavor = "multi_thread")]
async fn a_failover_while_the_service_is_stopped_or_killed_is_found_out_at_the_next_start() {
    for signal in ["TERM", "KILL"] {
        let (pair, place) = (Pair::create().await, Place::new());
        let service = serve(&place, &pair.url(), 600).await;
        fill(&service, "kept", 20).await;
        pair.until_the_standby_has(20).await;
        pair.replication.set(Mood::Gone);
        fill(&service, "lost", 7).await;
        pair.first.set(Mood::Gone);
        for number in 0..5 {
            take(&service, &create(&format!("away{number}"))).await;
        }
        pair.first.set(Mood::Fair);
        assert!(eventually(async || entered(&pair.primary).await == 32).await);
        assert!(eventually(async || drained(&service).await).await);
        // The next batch is kept behind those before it.
        let kept = async || metric(&service, "group_mirror_kept_bytes").await;
        let before = kept().await;
        fill(&service, "last", 1).await;
        assert!(eventually(async || kept().await > before).await);
        service.signal(signal);
        service.ended().await;
        pair.promote().await;
        let service = serve(&place, &pair.url(), 600).await;
        assert!(eventually(async || entered(&pair.standby).await == 33).await, "{signal}: {}", service.log());
        service.ends_well_on("TERM").await;
        verified(&place, &pair.url()).await;
    }
}

/// How old the newest file of what is kept is; none where there is none.
fn newest_kept(place: &Place) -> Option<Duration> {
    let entries = std::fs::read_dir(place.path().join("data")).unwrap().map(|entry| entry.unwrap());
    let kept = entries.filter(|entry| entry.file_name().to_str().unwrap().starts_with("kept-"));
    kept.filter_map(|entry| entry.metadata().ok()?.modified().ok()?.elapsed().ok()).min()
}

/// What is kept is of an hour ago.
fn make_old(place: &Place) {
    let old = SystemTime::now() - Duration::from_hours(1);
    for entry in std::fs::read_dir(place.path().join("data")).unwrap().map(|entry| entry.unwrap()) {
        if entry.file_name().to_str().unwrap().starts_with("kept-") {
            File::options().append(true).open(entry.path()).unwrap().set_modified(old).unwrap();
        }
    }
}

/// By the clock alone it would be gone before the promotion.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_longer_than_the_time_of_the_setting_takes_nothing_of_what_is_kept() {
    let (pair, place) = (Pair::create().await, Place::new());
    let service = serve(&place, &pair.url(), 5).await;
    fill(&service, "kept", 5).await;
    pair.until_the_standby_has(5).await;
    pair.replication.set(Mood::Gone);
    fill(&service, "lost", 7).await;
    pair.first.set(Mood::Gone);
    take(&service, &create("away")).await;
    let is_over = async || {
        newest_kept(&place).is_none_or(|age| age > Duration::from_secs(8)) && !drained(&service).await
    };
    assert!(eventually(is_over).await, "{:?}", newest_kept(&place));
    pair.promote().await;
    assert!(eventually(async || entered(&pair.standby).await == 13).await, "{}", service.log());
    service.ends_well_on("TERM").await;
    verified(&place, &pair.url()).await;
}

/// The time for which a service is stopped does not count either, nor a start at which the database is not there.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_from_before_a_start_does_not_expire_before_the_database_was_looked_at() {
    let (pair, place) = (Pair::create().await, Place::new());
    let service = serve(&place, &pair.url(), 600).await;
    fill(&service, "kept", 5).await;
    pair.until_the_standby_has(5).await;
    pair.replication.set(Mood::Gone);
    fill(&service, "lost", 7).await;
    service.ends_well_on("TERM").await;
    pair.first.set(Mood::Gone);
    make_old(&place);
    // The standby takes no writes yet.
    let service = serve(&place, &pair.url(), 600).await;
    for number in 0..3 {
        take(&service, &create(&format!("away{number}"))).await;
    }
    pair.promote().await;
    assert!(eventually(async || entered(&pair.standby).await == 15).await, "{}", service.log());
    service.ends_well_on("TERM").await;
    verified(&place, &pair.url()).await;
}

/// The first look commits, and its connection is silent from then on, as that to a host that has vanished.
#[tokio::test(flavor = "multi_thread")]
async fn a_look_that_gets_no_answer_ends_and_the_next_one_finds_what_the_database_has() {
    let (database, place) = (TestDatabase::create().await, Place::new());
    let service = serve(&place, &database.url, 600).await;
    fill(&service, "g", 5).await;
    service.ends_well_on("TERM").await;
    make_old(&place);
    let proxy = Proxy::start(&database.url).await;
    proxy.set(Mood::StallsAfterCommit);
    let service = serve(&place, &proxy.url, 600).await;
    // A look that finds the database complete lets it expire.
    assert!(eventually(async || newest_kept(&place).is_none()).await, "{}", service.log());
    proxy.set(Mood::Fair);
    service.ends_well_on("TERM").await;
}

/// One that anybody may write stands for any that cannot be read for a while.
#[tokio::test(flavor = "multi_thread")]
async fn a_kept_file_that_cannot_be_read_is_sent_again_once_it_can_be() {
    let (pair, place) = (Pair::create().await, Place::new());
    let mut service = serve(&place, &pair.url(), 600).await;
    fill(&service, "kept", 5).await;
    pair.until_the_standby_has(5).await;
    pair.replication.set(Mood::Gone);
    fill(&service, "lost", 7).await;
    let file = place.path().join("data/kept-0000000000");
    std::fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
    pair.promote().await;
    service.says("answered callbacks that the database may lack are in").await;
    // A restart does not forget that they are to be sent.
    service.ends_well_on("TERM").await;
    service = serve(&place, &pair.url(), 600).await;
    service.says("answered callbacks that the database may lack are in").await;
    std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    assert!(eventually(async || entered(&pair.standby).await == 12).await, "{}", service.log());
    assert!(eventually(async || !file.exists()).await);
    service.ends_well_on("TERM").await;
    verified(&place, &pair.url()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_put_back_from_a_copy_get_what_was_answered_since() {
    let (mut server, place) = (Cluster::create().await, Place::new());
    let service = serve(&place, &server.url(), 600).await;
    fill(&service, "kept", 10).await;
    server.stop();
    let saved = server.home.join("saved");
    copy(&server.files(), &saved);
    server.start();
    fill(&service, "lost", 10).await;
    server.stop();
    std::fs::remove_dir_all(server.files()).unwrap();
    std::fs::rename(&saved, server.files()).unwrap();
    server.start();
    // Without a single new callback.
    assert!(eventually(async || entered(&server).await == 20).await, "{}", service.log());
    // Once more, with what was sent again.
    assert!(eventually(async || drained(&service).await).await);
    assert_eq!(service.log().matches("the database lacks commits").count(), 1);
    service.ends_well_on("TERM").await;
    verified(&place, &server.url()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_is_no_backlog_and_goes_when_its_time_is_over() {
    let (server, place) = (Cluster::create().await, Place::new());
    let mut service = serve(&place, &server.url(), 2).await;
    fill(&service, "g", 10).await;
    let kept = async |service: &Process| metric(service, "group_mirror_kept_bytes").await;
    for name in ["depth", "bytes", "oldest_age_seconds"] {
        assert!(metric(&service, &format!("group_mirror_spool_{name}")).await.abs() < f64::EPSILON, "{name}");
    }
    assert!(eventually(async || kept(&service).await < 1.0).await);
    let marks = "SELECT count(*) FROM replica_marks WHERE mark > 0";
    assert!(count(&server, marks).await > 0);
    service.ends_well_on("TERM").await;
    // A start without the setting leaves nothing of it.
    service = serve(&place, &server.url(), 600).await;
    fill(&service, "h", 1).await;
    assert!(eventually(async || kept(&service).await > 0.0).await);
    service.ends_well_on("TERM").await;
    serve(&place, &server.url(), 0).await.ends_well_on("TERM").await;
    let left = std::fs::read_dir(place.path().join("data")).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(!left.iter().any(|name| name.starts_with("kept")), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_makes_room_for_new_callbacks_with_one_line_and_none_is_refused() {
    let (database, place) = (TestDatabase::create().await, Place::new());
    let proxy = Proxy::start(&database.url).await;
    let mut command = place.command_on(&proxy.url, &["serve"]);
    command.env("KEEP_ANSWERED_SECS", "600").env("SPOOL_MAX_BYTES", "8M");
    let service = Process::start(command).ready().await;
    let send = async |name: &str| {
        for number in 0..90 {
            let mut body = create(&format!("{name}{number}"));
            body["Padding"] = "x".repeat(50_000).into();
            take(&service, &body).await;
        }
    };
    send("kept").await;
    assert!(eventually(async || metric(&service, "group_mirror_kept_bytes").await > 4_000_000.0).await);
    let dropped = async || metric(&service, "group_mirror_kept_dropped_bytes_total").await;
    assert!(dropped().await < 1.0);
    proxy.set(Mood::Gone);
    send("spooled").await;
    assert!(eventually(async || dropped().await > 0.0).await);
    let together = async || {
        metric(&service, "group_mirror_kept_bytes").await + metric(&service, "group_mirror_spool_bytes").await
    };
    assert!(eventually(async || together().await <= 8.0 * 1024.0 * 1024.0).await);
    proxy.set(Mood::Fair);
    assert!(eventually(async || drained(&service).await).await);
    let line = "records kept for KEEP_ANSWERED_SECS are dropped before their time";
    assert_eq!(service.log().matches(line).count(), 1, "{}", service.log());
    service.ends_well_on("TERM").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_to_a_synchronous_standby_loses_nothing_and_a_follower_sees_each_entry_once() {
    let (pair, place) = (Pair::create().await, Place::new());
    pair.make_synchronous().await;
    let service = serve(&place, &pair.url(), 0).await;
    let url = format!("http://{}/v1/changes", service.api_address());
    let follower = Watcher::start(&reqwest::Client::new(), move || url.clone(), None);
    let load = load(&service, "g");
    load.pass(150).await;
    pair.promote().await;
    load.pass(150).await;
    let sent = load.finish().await;
    pair.has_everything(&service, &sent).await;
    follower.until_seen(usize::try_from(sent.callbacks).unwrap()).await;
    let seen = follower.end().await;
    assert!(seen.entries.values().all(|(_, times)| *times == 1) && !seen.gone, "{seen:?}");
    let lines = |text: &str| service.log().matches(text).count();
    // None where the standby takes over before the first probe: then it has found a database that commits.
    let outages = lines("PostgreSQL does not commit (");
    assert!(outages <= 1, "{}", service.log());
    assert_eq!(lines("PostgreSQL commits again"), outages, "{}", service.log());
    assert_eq!(lines("the database is now "), 1, "{}", service.log());
    service.ends_well_on("TERM").await;
    verified(&place, &pair.url()).await;
}

/// A proxy whose server is gone takes a connection and closes it in the middle of the greeting.
#[tokio::test(flavor = "multi_thread")]
async fn reads_in_the_gap_are_503_and_make_no_line_each() {
    let database = TestDatabase::create().await;
    let (proxy, place) = (Proxy::start(&database.url).await, Place::new());
    let service = serve(&place, &proxy.url.replace("sslmode=disable", "sslmode=prefer"), 0).await;
    fill(&service, "g", 1).await;
    proxy.set(Mood::Gone);
    for path in ["/v1/groups", "/v1/groups/g0", "/v1/history", "/v1/changes"] {
        for _ in 0..3 {
            let answer = service.get_as(API_TOKEN, path).await;
            assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE, "{path}");
        }
    }
    assert_eq!(service.log().matches(" ERROR ").count(), 0, "{}", service.log());
    service.ends_well_on("TERM").await;
}

/// A second `serve`, on a standby: reads, and a feed that follows the note which the other one keeps.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_on_a_standby_is_a_read_replica_with_a_feed_and_says_that_it_takes_callbacks_by_its_spool_alone()
 {
    let (pair, places) = (Pair::create().await, [Place::new(), Place::new()]);
    let writing = serve(&places[0], &pair.primary.url(), 0).await;
    fill(&writing, "g", 5).await;
    let reading = serve(&places[1], &pair.standby.url(), 0).await;
    let url = format!("http://{}/v1/changes", reading.api_address());
    let follower = Watcher::start(&reqwest::Client::new(), move || url.clone(), None);
    follower.until_seen(5).await;
    let ends = follower.end().await;
    let url = format!("http://{}/v1/changes", reading.api_address());
    let resumed = Watcher::start(&reqwest::Client::new(), move || url.clone(), ends.last_id.as_deref());
    fill(&writing, "h", 20).await;
    resumed.until_seen(20).await;
    let seen = resumed.end().await;
    assert!(seen.entries.values().all(|(_, times)| *times == 1) && !seen.gone, "{seen:?}");
    // The cursor of the one is good at the other, and waits for it.
    let cursor = seen.last_id.unwrap();
    for service in [&writing, &reading] {
        let answer = service.get_as(API_TOKEN, &format!("/v1/groups/h19?at_least={cursor}")).await;
        assert_eq!(answer.status(), StatusCode::OK, "{}", answer.text().await.unwrap());
    }
    assert_eq!(reading.log().matches(" ERROR ").count(), 0, "{}", reading.log());
    // Sent to it by mistake, a callback is kept until the server takes writes.
    take(&reading, &create("astray")).await;
    assert!(!drained(&reading).await);
    pair.promote().await;
    assert!(eventually(async || entered(&pair.standby).await == 26).await);
    for service in [writing, reading] {
        service.signal("TERM");
        service.ended().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn asynchronous_replication_is_reported_once_and_by_check_and_synchronous_is_not() {
    let (pair, place) = (Pair::create().await, Place::new());
    let follows = "SELECT count(*) FROM pg_stat_replication";
    assert!(eventually(async || count(&pair.primary, follows).await == 1).await);
    let mut service = serve(&place, &pair.url(), 0).await;
    service.says("the database replicates asynchronously (1 server follows, and synchronous_standby_names is empty)").await;
    fill(&service, "g", 1).await;
    service.ends_well_on("TERM").await;
    let checked = async || run(place.command_on(&pair.url(), &["check"])).await.stdout;
    assert!(
        checked().await.contains("warning  replication: asynchronous: 1 server follows"),
        "{}",
        checked().await
    );
    service = serve(&place, &pair.url(), 60).await;
    service.says("what was answered in the last 60 s is sent again").await;
    service.ends_well_on("TERM").await;
    pair.make_synchronous().await;
    assert!(
        checked().await.contains("ok       replication: synchronous (*), 1 connected"),
        "{}",
        checked().await
    );
    let service = serve(&place, &pair.url(), 0).await;
    fill(&service, "h", 1).await;
    assert!(!service.log().contains("asynchronously"), "{}", service.log());
    service.ends_well_on("TERM").await;
}
