//! Everything at once, for longer: kills at any moment under load. Small in an ordinary run; `CHAOS_ROUNDS=100` for long.
//!
//! Aim: what was answered with OK is in the tables afterwards, and the mirror is what the ledger says. Method: senders
//! note every group whose create was answered with OK, while processes are killed after so many answers, each round at
//! another moment; at the end the tables must hold every noted group.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::durability::spool::caught_up;
use crate::support::eventually;
use crate::support::process::{Place, Process, run};
use crate::support::{OK, sample};

/// How often the long tests do what they do.
pub(crate) fn rounds() -> usize {
    std::env::var("CHAOS_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(4)
}

/// What was answered with OK.
#[derive(Default)]
struct Answered {
    groups: Mutex<BTreeSet<String>>,
    count: AtomicUsize,
}

/// Posts creates of ever new groups until the service does not answer any more.
async fn send_until_it_is_gone(address: String, round: usize, sender: usize, answered: Arc<Answered>) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{address}/?SdkAppid=1400000001");
    for number in 0.. {
        let group = format!("r{round}/s{sender}/{number}");
        let mut body = sample("Group.CallbackAfterCreateGroup");
        body["GroupId"] = json!(group);
        let Ok(answer) = client.post(&url).body(body.to_string()).send().await else { return };
        // An answer that broke off is none.
        let Ok(text) = answer.text().await else { return };
        if text == OK {
            answered.groups.lock().unwrap().insert(group);
            answered.count.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// All at once. Some may be gone by themselves in between.
fn kill(pids: &[u32]) {
    let pids = pids.iter().map(u32::to_string);
    let _ = std::process::Command::new("kill").arg("-KILL").args(pids).status().unwrap();
}

/// All groups that the read API shows.
pub(crate) async fn all_groups(service: &Process) -> BTreeSet<String> {
    let mut groups = BTreeSet::new();
    let mut cursor = String::new();
    loop {
        let page: Value =
            service.get(&format!("/v1/groups?sort=group_id&limit=500{cursor}")).await.json().await.unwrap();
        let items = page["items"].as_array().unwrap();
        groups.extend(items.iter().map(|group| group["group_id"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return groups,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_survives_kills_of_service_and_server_at_any_moment() {
    let place = Place::new();
    let answered = Arc::new(Answered::default());
    for round in 0..rounds() {
        let service = place.serve().await;
        let before = answered.count.load(Ordering::SeqCst);
        let senders: Vec<_> = (0..8)
            .map(|sender| {
                let address = service.callback_address();
                tokio::spawn(send_until_it_is_gone(address, round, sender, Arc::clone(&answered)))
            })
            .collect();
        // Another moment in each round: early, in the first batches, or well under way.
        let wanted = before + (round * 37) % 150;
        while answered.count.load(Ordering::SeqCst) < wanted {
            tokio::task::yield_now().await;
        }
        let mut victims = vec![service.pid()];
        if round % 2 == 1 {
            victims.extend(place.servers());
        }
        kill(&victims);
        for sender in senders {
            sender.await.unwrap();
        }
        drop(service);
    }
    let service = place.serve().await;
    let drained = async || caught_up(&service.get("/readyz").await.json().await.unwrap());
    assert!(eventually(drained).await);
    let groups = all_groups(&service).await;
    let answered = answered.groups.lock().unwrap().clone();
    let lost: Vec<&String> = answered.difference(&groups).collect();
    assert!(!answered.is_empty());
    assert!(lost.is_empty(), "{} of {} answered are lost: {lost:?}", lost.len(), answered.len());
    let verified = run(place.command(&["replay", "--verify"])).await;
    assert!(verified.stdout.contains(" 0 differences"), "{}", verified.stdout);
    service.ends_well_on("INT").await;
}
