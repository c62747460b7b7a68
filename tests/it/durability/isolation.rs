//! One row that is locked, one table that refuses, one record that nothing can be done with: each delays its own callbacks
//! and no other, and the breaker stays closed. A server that refuses everything opens it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::Executor as _;

use crate::durability::chaos::rounds;
use crate::durability::spool::{caught_up, create};
use crate::support::chaos::{Mood, Proxy};
use crate::support::postgres::TestDatabase;
use crate::support::process::{Place, Process, run};
use crate::support::{API_TOKEN, OK, eventually, sample, signed_query};

/// The sum of a metric over its labels.
pub(crate) async fn metric(service: &Process, name: &str) -> f64 {
    let text = service.get_as(API_TOKEN, "/metrics").await.text().await.unwrap();
    let value = |line: &str| {
        let rest = line.strip_prefix(name)?;
        (rest.starts_with(' ') || rest.starts_with('{'))
            .then(|| rest.rsplit(' ').next()?.parse::<f64>().ok())?
    };
    text.lines().filter_map(value).sum()
}

/// Posts a callback, which must be answered with OK.
pub(crate) async fn take(service: &Process, body: &Value) {
    let answer = service.post(&signed_query(), body.to_string()).await;
    assert_eq!(answer.text().await.unwrap(), OK, "{body}\n{}", service.log());
}

pub(crate) fn rename(group: &str, number: usize) -> Value {
    let mut body = create(group);
    body["CallbackCommand"] = json!("Group.CallbackAfterGroupInfoChanged");
    body["Name"] = json!(format!("Name {number}"));
    body["EventTime"] = json!(1_700_000_000_001_i64 + i64::try_from(number).unwrap());
    body
}

pub(crate) async fn drained(service: &Process) -> bool {
    let told: Value = service.get("/readyz").await.json().await.unwrap();
    caught_up(&told)
}

async fn named(database: &TestDatabase, name: &str) -> BTreeSet<String> {
    let mut conn = database.connect().await;
    let query = sqlx::query_scalar::<_, String>("SELECT group_id FROM groups WHERE name = $1").bind(name);
    query.fetch_all(&mut conn).await.unwrap().into_iter().collect()
}

async fn verified(place: &Place, database: &TestDatabase) {
    let verified = run(place.command_on(&database.url, &["replay", "--verify"])).await;
    assert!(verified.stdout.contains(" 0 differences"), "{verified:?}");
}

/// Sends a change of every group, twenty times over, some at once, and one of `special` each time.
async fn traffic(service: &Process, groups: &[String], special: impl Fn(usize) -> Value) {
    for round in 1..=20 {
        let bodies = groups.iter().map(|group| rename(group, round)).chain([special(round)]);
        futures_util::future::join_all(bodies.map(async |body| take(service, &body).await)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_row_sends_the_callbacks_of_its_group_to_the_spool_and_no_others() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let service = Process::start(place.command_on(&database.url, &["serve"])).ready().await;
    let groups: Vec<String> = (0..20).map(|number| format!("other {number}")).collect();
    for group in groups.iter().map(String::as_str).chain(["locked"]) {
        take(&service, &create(group)).await;
    }
    assert!(eventually(async || drained(&service).await).await);
    let before = metric(&service, "group_mirror_spooled_total").await;
    let mut conn = database.connect().await;
    conn.execute("BEGIN; SELECT FROM groups WHERE group_id = 'locked' FOR UPDATE").await.unwrap();
    traffic(&service, &groups, |round| rename("locked", round)).await;
    // While the row is still locked.
    let last = "Name 20";
    assert!(eventually(async || named(&database, last).await.len() == 20).await, "{}", service.log());
    let spooled = metric(&service, "group_mirror_spooled_total").await - before;
    assert!((1.0..=20.0).contains(&spooled), "{spooled} are spooled of 20\n{}", service.log());
    assert!(!service.log().contains("PostgreSQL does not commit"), "{}", service.log());
    assert!(metric(&service, "group_mirror_set_aside_total").await >= 1.0);
    conn.execute("COMMIT").await.unwrap();
    assert!(eventually(async || drained(&service).await).await, "{}", service.log());
    assert_eq!(named(&database, last).await.len(), 21);
    service.ends_well_on("TERM").await;
    verified(&place, &database).await;
}

/// Raised as for a grant that is missing.
const REFUSE_TOPICS: &str = "
CREATE FUNCTION test_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE insufficient_privilege USING MESSAGE = 'permission denied for table group_topics'; END $$;
CREATE TRIGGER test_refuse BEFORE INSERT ON group_topics FOR EACH ROW EXECUTE FUNCTION test_refuse()";

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_refuses_delays_its_own_callbacks_and_no_others() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let service = Process::start(place.command_on(&database.url, &["serve"])).ready().await;
    let mut conn = database.connect().await;
    conn.execute(REFUSE_TOPICS).await.unwrap();
    let groups: Vec<String> = (0..20).map(|number| format!("other {number}")).collect();
    let topic = |round: usize| {
        // In a group that has other callbacks as well.
        let mut body = sample("Group.CallbackAfterCreateTopic");
        body["GroupId"] = json!("other 0");
        body["TopicId"] = json!(format!("topic {round}"));
        body
    };
    let before = metric(&service, "group_mirror_spooled_total").await;
    traffic(&service, &groups, topic).await;
    assert!(eventually(async || named(&database, "Name 20").await.len() == 20).await, "{}", service.log());
    let spooled = metric(&service, "group_mirror_spooled_total").await - before;
    assert!((1.0..=20.0).contains(&spooled), "{spooled} are spooled of 20\n{}", service.log());
    assert!(!service.log().contains("PostgreSQL does not commit"), "{}", service.log());
    conn.execute("DROP TRIGGER test_refuse ON group_topics").await.unwrap();
    assert!(eventually(async || drained(&service).await).await, "{}", service.log());
    let topics: i64 =
        sqlx::query_scalar("SELECT count(*) FROM group_topics").fetch_one(&mut conn).await.unwrap();
    let parked: i64 = sqlx::query_scalar("SELECT count(*) FROM ledger WHERE outcome = 'parked'")
        .fetch_one(&mut conn)
        .await
        .unwrap();
    assert_eq!((topics, parked), (20, 0));
    service.ends_well_on("TERM").await;
    verified(&place, &database).await;
}

/// An object that is not in the state that a statement needs.
const REFUSE_ALL: &str = "
CREATE FUNCTION test_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE object_not_in_prerequisite_state USING MESSAGE = 'no write is taken'; END $$;
CREATE TRIGGER test_refuse BEFORE INSERT ON ledger FOR EACH ROW EXECUTE FUNCTION test_refuse()";

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_every_write_opens_the_breaker_and_is_reported() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let mut service = Process::start(place.command_on(&database.url, &["serve"])).ready().await;
    let mut conn = database.connect().await;
    conn.execute(REFUSE_ALL).await.unwrap();
    for number in 0..20 {
        take(&service, &create(&format!("g{number}"))).await;
    }
    service.says("PostgreSQL does not commit (the database refused a statement: no write is taken)").await;
    let open = async || metric(&service, "group_mirror_breaker_open").await > 0.5;
    assert!(eventually(open).await, "{}", service.log());
    conn.execute("DROP TRIGGER test_refuse ON ledger").await.unwrap();
    service.says("PostgreSQL commits again").await;
    assert!(eventually(async || drained(&service).await).await, "{}", service.log());
    assert_eq!(named(&database, "Spooled").await.len(), 20);
    service.ends_well_on("TERM").await;
    verified(&place, &database).await;
}

/// How many batches the lanes have tried.
async fn batches(service: &Process) -> f64 {
    metric(service, "group_mirror_batch_callbacks_count").await
}

/// Sends a create of so many new groups, one after the other.
async fn creates(service: &Process, name: &str, count: usize) {
    for number in 0..count {
        take(service, &create(&format!("{name} {number}"))).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_on_the_table_of_groups_opens_the_breaker_and_no_callback_waits_for_it() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let mut service = Process::start(place.command_on(&database.url, &["serve"])).ready().await;
    let mut conn = database.connect().await;
    conn.execute("BEGIN; LOCK TABLE groups IN SHARE MODE").await.unwrap();
    take(&service, &create("first")).await;
    service.says("PostgreSQL does not commit").await;
    let (tried, spooled) = (batches(&service).await, metric(&service, "group_mirror_spooled_total").await);
    creates(&service, "locked", 20).await;
    // Not one of them was tried by a lane, which would wait for the lock.
    assert!((batches(&service).await - tried).abs() < 0.5, "{}", service.log());
    assert!((metric(&service, "group_mirror_spooled_total").await - spooled - 20.0).abs() < 0.5);
    conn.execute("COMMIT").await.unwrap();
    service.says("PostgreSQL commits again").await;
    assert!(eventually(async || drained(&service).await).await, "{}", service.log());
    assert_eq!(named(&database, "Spooled").await.len(), 21);
    service.ends_well_on("TERM").await;
    verified(&place, &database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_on_another_table_sets_the_commands_that_write_it_aside_and_no_others() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let mut service = Process::start(place.command_on(&database.url, &["serve"])).ready().await;
    creates(&service, "known", 20).await;
    let mut conn = database.connect().await;
    conn.execute("BEGIN; LOCK TABLE group_members IN SHARE MODE").await.unwrap();
    let bodies: Vec<Value> = (0..60).map(|number| create(&format!("locked {number}"))).collect();
    futures_util::future::join_all(bodies.iter().map(|body| take(&service, body))).await;
    service.says("Group.CallbackAfterCreateGroup of all groups").await;
    let (tried, spooled) = (batches(&service).await, metric(&service, "group_mirror_spooled_total").await);
    creates(&service, "new", 20).await;
    assert!((metric(&service, "group_mirror_spooled_total").await - spooled - 20.0).abs() < 0.5);
    assert!((batches(&service).await - tried).abs() < 0.5, "{}", service.log());
    // A change of a profile does not write that table.
    for number in 0..20 {
        take(&service, &rename(&format!("known {number}"), 7)).await;
    }
    assert!(eventually(async || named(&database, "Name 7").await.len() == 20).await, "{}", service.log());
    assert!((metric(&service, "group_mirror_spooled_total").await - spooled - 20.0).abs() < 0.5);
    assert!(!service.log().contains("PostgreSQL does not commit"), "{}", service.log());
    conn.execute("COMMIT").await.unwrap();
    assert!(eventually(async || drained(&service).await).await, "{}", service.log());
    assert_eq!(named(&database, "Spooled").await.len(), 80);
    service.ends_well_on("TERM").await;
    verified(&place, &database).await;
}

/// Neither the callback nor its bytes as a parked entry.
const REFUSE_ONE: &str = "
CREATE FUNCTION test_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE check_violation USING MESSAGE = 'this one is refused in any form'; END $$;
CREATE TRIGGER test_refuse BEFORE INSERT ON ledger FOR EACH ROW WHEN (NEW.group_id = 'bad')
EXECUTE FUNCTION test_refuse()";

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_can_be_neither_applied_nor_parked_is_reported_and_holds_up_nothing() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let mut service = Process::start(place.command_on(&database.url, &["serve"])).ready().await;
    let mut conn = database.connect().await;
    conn.execute(REFUSE_ONE).await.unwrap();
    take(&service, &create("bad")).await;
    service.says("set aside").await;
    let groups: Vec<String> = (0..20).map(|number| format!("other {number}")).collect();
    for group in &groups {
        take(&service, &create(group)).await;
    }
    assert!(eventually(async || named(&database, "Spooled").await.len() == 20).await, "{}", service.log());
    let told: Value = service.get("/readyz").await.json().await.unwrap();
    assert_eq!(told["spool"]["depth"], 1, "{told}\n{}", service.log());
    conn.execute("DROP TRIGGER test_refuse ON ledger").await.unwrap();
    assert!(eventually(async || drained(&service).await).await, "{}", service.log());
    assert_eq!(named(&database, "Spooled").await.len(), 21);
    service.ends_well_on("TERM").await;
}

/// Sends changes of every group at a steady rate, each tenth time one of the locked group; answers how long the others
/// took, sorted.
async fn times_of_others(service: &Process, changes: usize, begin: usize) -> Vec<Duration> {
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    let mut others = Vec::new();
    let mut sent = Vec::new();
    for number in begin..begin + changes {
        ticks.tick().await;
        if number % 10 == 0 {
            sent.push((false, rename("locked", number)));
        } else {
            sent.push((true, rename(&format!("other {}", number % 20), number)));
        }
        // At most four at a time, as they come.
        if sent.len() == 4 || number + 1 == begin + changes {
            let times = futures_util::future::join_all(sent.drain(..).map(async |(other, body)| {
                let begun = Instant::now();
                take(service, &body).await;
                (other, begun.elapsed())
            }));
            others.extend(times.await.into_iter().filter_map(|(other, time)| other.then_some(time)));
        }
    }
    others.sort_unstable();
    others
}

/// Reports times and asserts none: `CHAOS_ROUNDS=100` for a minute of each, with `--nocapture`.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stderr, reason = "a person reads the report")]
async fn the_times_of_other_groups_beside_a_locked_row_are_reported() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let service = Process::start(place.command_on(&database.url, &["serve"])).ready().await;
    take(&service, &create("locked")).await;
    let changes = rounds() * 60;
    let free = times_of_others(&service, changes, 0).await;
    let mut conn = database.connect().await;
    conn.execute("BEGIN; SELECT FROM groups WHERE group_id = 'locked' FOR UPDATE").await.unwrap();
    let beside = times_of_others(&service, changes, changes).await;
    conn.execute("COMMIT").await.unwrap();
    for (name, times) in [("without a lock", &free), ("beside a locked row", &beside)] {
        let at = |share: usize| times[(times.len() - 1) * share / 100];
        eprintln!(
            "{name}: {} callbacks, p50 {:?}, p99 {:?}, longest {:?}",
            times.len(),
            at(50),
            at(99),
            at(100)
        );
    }
    assert_eq!(free.len(), beside.len(), "every other callback was answered with OK");
    assert!(eventually(async || drained(&service).await).await, "{}", service.log());
    service.ends_well_on("TERM").await;
    verified(&place, &database).await;
}

/// Ends the session that writes one group, as a damaged page or a faulty extension does.
const ENDS_SESSION: &str = "
CREATE FUNCTION test_end() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END $$;
CREATE TRIGGER test_end BEFORE INSERT ON ledger FOR EACH ROW WHEN (NEW.group_id = 'ends') EXECUTE FUNCTION test_end()";

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_ends_the_session_which_applies_it_holds_up_no_other_in_the_spool() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let proxy = Proxy::start(&database.url).await;
    let service = Process::start(place.command_on(&proxy.url, &["serve"])).ready().await;
    database.connect().await.execute(ENDS_SESSION).await.unwrap();
    proxy.set(Mood::Gone);
    for number in 0..20 {
        take(&service, &create(&format!("before {number}"))).await;
    }
    take(&service, &create("ends")).await;
    for number in 0..20 {
        take(&service, &create(&format!("after {number}"))).await;
    }
    proxy.set(Mood::Fair);
    let mut conn = database.connect().await;
    let groups = async || {
        let mut conn = database.connect().await;
        let count: i64 =
            sqlx::query_scalar("SELECT count(*) FROM groups").fetch_one(&mut conn).await.unwrap();
        count
    };
    assert!(eventually(async || groups().await == 40).await, "{}\n{}", groups().await, service.log());
    conn.execute("DROP TRIGGER test_end ON ledger").await.unwrap();
    assert!(eventually(async || drained(&service).await).await, "{}", service.log());
    assert_eq!(groups().await, 41);
    service.ends_well_on("TERM").await;
    verified(&place, &database).await;
}
