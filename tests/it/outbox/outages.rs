//! Nothing is missing and every group is in order, whatever ends in between: the backend, PostgreSQL, the mirror itself.
//!
//! `OUTBOX_SEED=7` repeats one history, `OUTBOX_ROUNDS=50` runs more; a failure prints its seed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::Client;

use crate::outbox::first::change;
use crate::outbox::late::{first_of_each, nothing_waits};
use crate::support::chaos::{Mood, Proxy};
use crate::support::postgres::TestDatabase;
use crate::support::process::{Place, Process};
use crate::support::recording_backend::{Backend, Manner};
use crate::support::{Service, eventually, settings, signed_query};

fn number_of(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

const GROUPS: usize = 6;

/// What the senders share.
struct Sending {
    addresses: [Mutex<String>; 2],
    answered: [AtomicUsize; GROUPS],
    ends: AtomicBool,
}

/// Sends the changes of one group one after the other to one replica, each until it is answered with OK.
async fn send(sending: Arc<Sending>, group: usize) {
    let client = Client::builder().no_proxy().timeout(Duration::from_secs(5)).build().unwrap();
    let mut number = 0;
    while !sending.ends.load(Ordering::SeqCst) {
        let body = change(&format!("g{group}"), &number.to_string(), number);
        let address = sending.addresses[group % 2].lock().unwrap().clone();
        let url = format!("http://{address}/?{}", signed_query());
        let answered = async {
            let answer = client.post(&url).body(body.to_string()).send().await.ok()?;
            let is_ok = answer.status() == 200;
            // An answer that broke off is none.
            answer.text().await.ok().filter(|_| is_ok)
        };
        if answered.await.is_some() {
            number += 1;
            sending.answered[group].fetch_add(1, Ordering::SeqCst);
        } else {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn start(place: &Place, url: &str, backend: &Backend) -> Process {
    let mut command = place.command_on(url, &["serve"]);
    command.env("RELAY_URL", backend.url());
    let mut process = Process::start(command);
    process.says("read API").await;
    process
}

fn manner(chance: &mut fastrand::Rng) -> Manner {
    let manners = [
        Manner::Works,
        Manner::Away,
        Manner::Resets,
        Manner::Garbage,
        Manner::Slow(Duration::from_millis(300)),
        Manner::Answers(500, "{}"),
        Manner::OfGroup("g1".into(), 500, "{}"),
    ];
    chance.choice(manners).unwrap()
}

/// Name, position and receipt of a group's entries, in the order of their positions: for a failure.
async fn entries_of(database: &TestDatabase, group: &str) -> String {
    let lines: Vec<String> = sqlx::query_scalar(
        "SELECT concat_ws(' ', convert_from(body, 'UTF8')::json ->> 'Name', position, received_at) FROM ledger
          WHERE group_id = $1 ORDER BY position",
    )
    .bind(group)
    .fetch_all(&mut database.connect().await)
    .await
    .unwrap();
    lines.join("\n")
}

async fn history(seed: u64) {
    let mut chance = fastrand::Rng::with_seed(seed);
    let (backend, database) = (Backend::start(), TestDatabase::create().await);
    let proxy = Proxy::start(&database.url).await;
    let places = [Place::new(), Place::new()];
    let mut replicas = Vec::new();
    for place in &places {
        replicas.push(Some(start(place, &proxy.url, &backend).await));
    }
    let address = |replica: &Option<Process>| Mutex::new(replica.as_ref().unwrap().callback_address());
    let sending = Arc::new(Sending {
        addresses: [address(&replicas[0]), address(&replicas[1])],
        answered: Default::default(),
        ends: AtomicBool::new(false),
    });
    let senders: Vec<_> = (0..GROUPS).map(|group| tokio::spawn(send(Arc::clone(&sending), group))).collect();
    for _ in 0..8 {
        match chance.u32(0..10) {
            0..4 => backend.set(manner(&mut chance)),
            4..7 => proxy.set(chance.choice([Mood::Fair, Mood::Gone]).unwrap()),
            _ => {
                let at = chance.usize(0..2);
                let killed = replicas[at].take().unwrap();
                killed.signal("KILL");
                killed.ended().await;
                replicas[at] = Some(start(&places[at], &proxy.url, &backend).await);
                *sending.addresses[at].lock().unwrap() = replicas[at].as_ref().unwrap().callback_address();
            }
        }
        let count = || sending.answered.iter().map(|count| count.load(Ordering::SeqCst)).sum::<usize>();
        let wanted = count() + chance.usize(0..120);
        assert!(eventually(async || count() >= wanted).await, "seed {seed}: callbacks are not answered");
    }
    sending.ends.store(true, Ordering::SeqCst);
    for sender in senders {
        sender.await.unwrap();
    }
    proxy.set(Mood::Fair);
    backend.set(Manner::Works);
    let missing = || {
        let taken = backend.taken();
        let of_group = |group: usize| {
            let sent = sending.answered[group].load(Ordering::SeqCst) as u64;
            let taken = taken.get(&format!("g{group}")).map_or(Vec::new(), |names| first_of_each(names));
            (format!("g{group}"), (0..sent).filter(|number| !taken.contains(number)).collect::<Vec<_>>())
        };
        (0..GROUPS).map(of_group).filter(|(_, missing)| !missing.is_empty()).collect::<BTreeMap<_, _>>()
    };
    let complete = eventually(async || missing().is_empty()).await;
    let logs = || replicas.iter().flatten().map(Process::log).collect::<Vec<_>>().join("\n----\n");
    assert!(complete, "seed {seed}: missing {:?}\n{}", missing(), logs());
    for (group, names) in backend.taken() {
        let order = first_of_each(&names);
        let entries = if order.is_sorted() { String::new() } else { entries_of(&database, &group).await };
        assert!(
            order.is_sorted(),
            "seed {seed}: {group}: {order:?}\n{entries}\n{}\n{}",
            backend.deliveries_of(&group),
            logs()
        );
    }
    assert!(nothing_waits(&database).await, "seed {seed}");
    for replica in replicas.into_iter().flatten() {
        replica.ends_well_on("TERM").await;
    }
}

#[expect(clippy::print_stdout, reason = "a failure can be repeated")]
#[tokio::test(flavor = "multi_thread")]
async fn whatever_ends_in_between_every_group_is_delivered_whole_and_in_order() {
    let chosen = number_of("OUTBOX_SEED", 0);
    let seeds = if chosen > 0 { vec![chosen] } else { (1..=number_of("OUTBOX_ROUNDS", 2)).collect() };
    for seed in seeds {
        println!("OUTBOX_SEED={seed}");
        history(seed).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_deliver_a_group_that_both_receive_in_order_one_at_a_time_and_once() {
    let (backend, database) = (Backend::start(), TestDatabase::create().await);
    let mut settings = settings(&database.url);
    settings.relay_url = Some(backend.url());
    let replicas = [Service::start(&settings).await.unwrap(), Service::start(&settings).await.unwrap()];
    let (mut number, mut wanted) = (0, Vec::new());
    for manner in [Manner::Works, Manner::Slow(Duration::from_millis(30)), Manner::Away, Manner::Works] {
        backend.set(manner);
        for _ in 0..20 {
            replicas[usize::from(number % 2 == 0)].taken(&change("g", &number.to_string(), number)).await;
            replicas[usize::from(number % 3 == 0)].taken(&change("h", &number.to_string(), number)).await;
            wanted.push(number.to_string());
            number += 1;
        }
    }
    assert!(nothing_waits(&database).await);
    assert_eq!(backend.taken()["g"], wanted);
    assert_eq!(backend.taken()["h"], wanted);
    assert_eq!(backend.overlaps(), Vec::<String>::new());
    for replica in replicas {
        replica.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_replica_takes_over_what_a_killed_one_has_left() {
    let (backend, database) = (Backend::start(), TestDatabase::create().await);
    backend.set(Manner::Away);
    let places = [Place::new(), Place::new()];
    let killed = start(&places[0], &database.url, &backend).await.ready().await;
    for number in 0..10 {
        let body = change("g", &number.to_string(), number).to_string();
        assert_eq!(killed.post(&signed_query(), body).await.status(), 200);
    }
    killed.signal("KILL");
    killed.ended().await;
    backend.set(Manner::Works);
    let other = start(&places[1], &database.url, &backend).await;
    assert!(eventually(async || backend.taken_count() == 10).await, "{}", other.log());
    assert_eq!(first_of_each(&backend.taken()["g"]), (0..10).collect::<Vec<_>>());
    assert!(nothing_waits(&database).await);
    other.ends_well_on("TERM").await;
}
