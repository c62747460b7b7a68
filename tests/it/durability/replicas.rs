//! Several services on one database: stopped, killed and started again in turn, while senders go on.
//!
//! `CHAOS_ROUNDS=100` for long, as for the other chaos.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::durability::chaos::rounds;
use crate::durability::spool::{caught_up, create, groups};
use crate::support::chaos::{Mood, Proxy};
use crate::support::postgres::TestDatabase;
use crate::support::process::{Place, Process, run};
use crate::support::{OK, PATIENCE, Service, eventually, settings, signed_query};

/// Everybody joins this one, by both replicas at once, so that their transactions meet.
const LOBBY: &str = "lobby";

/// How many answers a replica gives before it is stopped and while the other is away.
const ANSWERS: usize = 40;

/// What the senders know of the two replicas.
#[derive(Default)]
struct Known {
    addresses: [Mutex<String>; 2],
    answers: [AtomicUsize; 2],
    /// Groups and members of the lobby, once one replica has answered with OK.
    groups: Mutex<BTreeSet<String>>,
    members: Mutex<BTreeSet<String>>,
    done: CancellationToken,
}

impl Known {
    /// True if it was answered; a replica that is down does not.
    async fn post(&self, client: &Client, replica: usize, body: &Value) -> bool {
        let url = format!("http://{}/?{}", self.addresses[replica].lock().unwrap(), signed_query());
        let Ok(answer) = client.post(url).body(body.to_string()).send().await else { return false };
        let status = answer.status();
        // An answer that broke off is none.
        let Ok(text) = answer.text().await else { return false };
        assert_eq!((status, &*text), (StatusCode::OK, OK), "while a replica goes, nobody is refused");
        self.answers[replica].fetch_add(1, Ordering::SeqCst);
        true
    }

    /// Waits for so many further answers of a replica.
    async fn more(&self, replica: usize, answers: usize) {
        let count = || self.answers[replica].load(Ordering::SeqCst);
        let wanted = count() + answers;
        assert!(eventually(async || count() >= wanted).await, "replica {replica} does not answer");
    }
}

/// Every group is created by both replicas, this one first; every member joins the lobby by one that answers.
async fn send(known: Arc<Known>, sender: usize) {
    // Waits as long as Tencent does.
    let client = Client::builder().no_proxy().timeout(Duration::from_secs(2)).build().unwrap();
    let (here, there) = (sender % 2, 1 - sender % 2);
    for number in 0.. {
        if known.done.is_cancelled() {
            return;
        }
        let name = format!("s{sender}/{number}");
        let body = create(&name);
        let answered = [known.post(&client, here, &body).await, known.post(&client, there, &body).await];
        if answered.contains(&true) {
            known.groups.lock().unwrap().insert(name.clone());
        }
        let join = json!({
            "CallbackCommand": "Group.CallbackAfterNewMemberJoin", "GroupId": LOBBY, "Type": "Public",
            "JoinType": "Apply", "Operator_Account": name, "NewMemberList": [{ "Member_Account": name }],
            "EventTime": 1_700_000_000_000_i64,
        });
        if known.post(&client, there, &join).await || known.post(&client, here, &join).await {
            known.members.lock().unwrap().insert(name);
        }
    }
}

async fn start(place: &Place, url: &str, address: &Mutex<String>) -> Process {
    let replica = Process::start(place.command_on(url, &["serve"])).ready().await;
    *address.lock().unwrap() = replica.callback_address();
    replica
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_restarted_in_turn_under_load_refuse_nobody_and_lose_nothing() {
    let database = TestDatabase::create().await;
    let proxy = Proxy::start(&database.url).await;
    let places = [Place::new(), Place::new()];
    let known = Arc::new(Known::default());
    let [one, other] = [0, 1].map(|at| start(&places[at], &proxy.url, &known.addresses[at]));
    let mut replicas = vec![one.await, other.await];
    let senders: Vec<_> = (0..8).map(|sender| tokio::spawn(send(Arc::clone(&known), sender))).collect();
    for round in 0..rounds() {
        let going = round % 2;
        // Stopped and killed, with PostgreSQL and without.
        let signal = if round / 2 % 2 == 0 { "TERM" } else { "KILL" };
        let away = [1, 2].contains(&(round % 4));
        proxy.set(if away { Mood::Gone } else { Mood::Fair });
        known.more(going, ANSWERS + round * 37 % 150).await;
        let gone = replicas.remove(going);
        gone.signal(signal);
        known.more(1 - going, ANSWERS).await;
        let ended = gone.ended().await;
        assert_eq!(ended.code, (signal == "TERM").then_some(0), "{}", ended.stderr);
        replicas.insert(going, start(&places[going], &proxy.url, &known.addresses[going]).await);
        known.more(going, ANSWERS).await;
    }
    proxy.set(Mood::Fair);
    known.done.cancel();
    for sender in senders {
        sender.await.unwrap();
    }
    for replica in replicas {
        let drained = async || caught_up(&replica.get("/readyz").await.json().await.unwrap());
        assert!(eventually(drained).await, "{}", replica.log());
        replica.ends_well_on("TERM").await;
    }
    let (groups, members): (Vec<String>, Vec<String>) = sqlx::query_as(
        "SELECT ARRAY(SELECT group_id FROM active_groups), ARRAY(SELECT user_id FROM group_members WHERE group_id = $1)",
    )
    .bind(LOBBY)
    .fetch_one(&mut database.connect().await)
    .await
    .unwrap();
    for (answered, kept) in [(&known.groups, groups), (&known.members, members)] {
        let (answered, kept) = (answered.lock().unwrap(), kept.into_iter().collect());
        let lost: Vec<&String> = answered.difference(&kept).collect();
        assert!(!answered.is_empty());
        assert!(lost.is_empty(), "{} of {} answered are lost: {lost:?}", lost.len(), answered.len());
    }
    let verified = run(places[0].command_on(&database.url, &["replay", "--verify"])).await;
    assert!(verified.stdout.contains(" 0 differences"), "{verified:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_has_stopped_can_be_started_again_in_its_directory_at_once() {
    let database = TestDatabase::create().await;
    let proxy = Proxy::start(&database.url).await;
    let data = tempfile::tempdir().unwrap();
    let mut settings = settings(&proxy.url);
    settings.data_dir = Some(data.path().display().to_string());
    let mut taken = BTreeSet::new();
    for round in 0..8 {
        proxy.set(if round % 2 == 0 { Mood::Gone } else { Mood::Fair });
        let service = Service::start(&settings).await.unwrap();
        let names: Vec<String> = (0..8).map(|number| format!("{round} {number}")).collect();
        futures_util::future::join_all(names.iter().map(async |name| service.taken(&create(name)).await))
            .await;
        taken.extend(names);
        tokio::time::timeout(PATIENCE, service.stop()).await.unwrap();
    }
    let service = Service::start(&settings).await.unwrap();
    service.until(caught_up).await;
    assert_eq!(groups(&database).await, taken);
    service.stop().await;
}
