//! The real program killed while it writes, and a disk that is full: what was answered is there afterwards.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::Client;

use crate::durability::spool::{CREATE, caught_up, create, groups};
use crate::support::chaos::{Mood, Proxy};
use crate::support::postgres::TestDatabase;
use crate::support::process::{Place, Process};
use crate::support::{API_TOKEN, Service, eventually, settings, signed_query};

/// A URL where nobody answers.
const NOBODY: &str = "postgres://nobody@127.0.0.1:1/none?sslmode=disable";

async fn serve(place: &Place, url: &str) -> Process {
    Process::start(place.command_on(url, &[])).ready().await
}

/// Sends creates from several connections until the program is gone; answers with those that were answered OK.
async fn send_until_killed(service: Process, prefix: &str, kill_after: usize) -> BTreeSet<String> {
    let client = Client::builder().no_proxy().build().unwrap();
    let (answered, next) = (Mutex::new(BTreeSet::new()), AtomicUsize::new(0));
    let url = format!("http://{}/", service.callback_address());
    let send = || async {
        loop {
            let name = format!("{prefix} {}", next.fetch_add(1, Ordering::Relaxed));
            let request = client.post(format!("{url}?{}", signed_query())).body(create(&name).to_string());
            match request.send().await {
                Ok(answer) if answer.status() == 200 => answered.lock().unwrap().insert(name),
                Ok(answer) => panic!("{name}: {}", answer.status()),
                Err(_) => return,
            };
            if answered.lock().unwrap().len() >= kill_after {
                service.signal("KILL");
            }
        }
    };
    futures_util::future::join_all((0..16).map(|_| send())).await;
    answered.into_inner().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_answered_before_a_kill_is_in_the_tables_after_the_restart() {
    let place = Place::new();
    let mut answered = BTreeSet::new();
    for (round, kill_after) in [1, 37, 150, 311].into_iter().enumerate() {
        let service = serve(&place, NOBODY).await;
        answered.extend(send_until_killed(service, &format!("round {round}"), kill_after).await);
    }
    assert!(answered.len() >= 499);
    let database = TestDatabase::create().await;
    // Killed once more while the spool drains.
    let service = serve(&place, &database.url).await;
    let begun = async || {
        let count = sqlx::query_scalar("SELECT count(*) FROM ledger");
        count.fetch_one(&mut database.connect().await).await.is_ok_and(|count: i64| count > 0)
    };
    assert!(eventually(begun).await);
    service.signal("KILL");
    assert_eq!(service.ended().await.code, None);
    let service = serve(&place, &database.url).await;
    let told = async || caught_up(&service.get("/readyz").await.json().await.unwrap());
    assert!(eventually(told).await);
    let kept = groups(&database).await;
    let lost: Vec<&String> = answered.difference(&kept).collect();
    assert!(lost.is_empty(), "answered and lost: {lost:?}");
    let shown = async || {
        let metrics = service.get_as(API_TOKEN, "/metrics").await.text().await.unwrap();
        let state = [
            "spool_depth 0",
            "breaker_open 0",
            "spool_oldest_age_seconds 0",
            "pool_connections{pool=\"writer\"",
        ];
        state.iter().all(|name| metrics.contains(&format!("group_mirror_{name}")))
    };
    assert!(eventually(shown).await);
    service.ends_well_on("TERM").await;
}

/// A volume of a few megabytes; gone when dropped.
struct Volume(PathBuf);

impl Volume {
    /// None where this user may not mount.
    fn mount(at: &Path) -> Option<Self> {
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=6m,mode=0700", "group-mirror-test"])
            .arg(at)
            .stderr(Stdio::null())
            .status();
        mount.is_ok_and(|status| status.success()).then(|| Self(at.to_owned()))
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[expect(clippy::print_stdout, reason = "a test that is skipped says so")]
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_at_once_and_what_was_answered_before_comes_through() {
    let dir = tempfile::tempdir().unwrap();
    let Some(volume) = Volume::mount(dir.path()) else {
        println!("skipped: only root may mount a small volume");
        return;
    };
    let database = TestDatabase::create().await;
    let proxy = Proxy::start(&database.url).await;
    proxy.set(Mood::Gone);
    let mut settings = settings(&proxy.url);
    settings.data_dir = Some(dir.path().display().to_string());
    let service = Service::start(&settings).await.unwrap();
    let mut answered = BTreeSet::new();
    let next = |answered: &BTreeSet<String>| {
        let mut body = create(&format!("g{}", answered.len()));
        body["Padding"] = "x".repeat(50_000).into();
        body.to_string()
    };
    let refused = loop {
        let answer = service.post(CREATE, next(&answered)).await;
        if answer.status() != 200 {
            break answer;
        }
        assert!(answered.len() < 1000, "the disk has no end");
        answered.insert(format!("g{}", answered.len()));
    };
    assert!(!answered.is_empty());
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    // Not a byte is left, not even what the failed attempt gave back.
    let filler = dir.path().join("filler");
    while std::fs::File::options()
        .append(true)
        .create(true)
        .open(&filler)
        .unwrap()
        .write_all(&[1; 4096])
        .is_ok()
    {}
    assert_eq!(service.post(CREATE, next(&answered)).await.status(), 503);
    let (ready, told) = service.readiness().await;
    assert_eq!(told["spool"]["state"], "the disk of the spool is full");
    assert!(!ready && told["spool"]["gaps"] == 1, "{told}");
    // The disk stays full; PostgreSQL comes back and the spool empties all the same.
    proxy.set(Mood::Fair);
    service.until(caught_up).await;
    assert!(groups(&database).await.is_superset(&answered));
    std::fs::remove_file(filler).unwrap();
    service.until(|told| told["spool"]["state"] == "ok").await;
    proxy.set(Mood::Gone);
    service.taken(&create("afterwards")).await;
    service.stop().await;
    drop(volume);
}
