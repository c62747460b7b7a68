//! Yardsticks of the write path, of replay and of past moments, side by side in one run, as ratios and medians.
//!
//! `cargo bench` prints a table; `cargo bench --bench mirror -- past` runs one of order, size, rebuild and past. PostgreSQL is a private one with `fsync` and `synchronous_commit` on, in a temporary
//! directory; `BENCH_DATABASE_URL` names another server's empty database instead. Rounds of what is compared take
//! turns, so that a noisy machine disturbs both alike.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark that fails has failed; its result is text"
)]
#![expect(clippy::disallowed_methods, reason = "a benchmark has clocks and settings of its own")]

#[path = "load/lives.rs"]
mod lives;

use std::time::{Duration, Instant};

use group_mirror::callback::{Callback, Decoded, Received, decode};
use group_mirror::embedded::{Embedded, Programs};
use group_mirror::ingest::commit;
use group_mirror::mirror::group_key;
use group_mirror::model::{GroupId, Millis, SdkAppId};
use group_mirror::replay;
use group_mirror::replay::as_of::{self, AsOfPermits, MembersAsOf};
use group_mirror::store::members::MemberFilter;
use group_mirror::store::{Database, schema};
use lives::{T0, body, lives, members, shuffled};
use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _};

const MIRROR: &str = "groups, group_members, group_user_defined_fields, group_attributes, group_topics";

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (url, embedded) = match std::env::var("BENCH_DATABASE_URL") {
        Ok(url) => (url, None),
        Err(_) => {
            let programs = Programs { bin_dir: None, path: std::env::var_os("PATH") };
            let embedded = Embedded::start(&dir.path().join("postgres"), &programs).unwrap();
            (embedded.url().to_owned(), Some(embedded))
        }
    };
    runtime.block_on(async {
        let database = Database::new(&url).unwrap();
        schema::migrate(&database).await.unwrap();
        println!("| EventKind | Result |\n|---|---|");
        let only = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
        let wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
        if wanted("order") {
            order(&database).await;
        }
        if wanted("size") {
            group_size(&database).await;
        }
        if wanted("rebuild") {
            rebuild(&database).await;
        }
        if wanted("past") {
            past_moments(&database).await;
        }
        database.close().await;
    });
    if let Some(embedded) = embedded {
        embedded.stop();
    }
}

fn callback(body: &Value) -> Callback {
    let received = Received {
        app: SdkAppId::parse("1400000001").unwrap(),
        query_command: None,
        client_ip: Some("203.0.113.9".into()),
        platform: Some("Web".into()),
        request_id: None,
        received_at: Millis::new(T0 + 3_600_000),
        body: body.to_string().into_bytes(),
    };
    let Decoded::Kept(callback) = decode(received) else { panic!("out of scope: {body}") };
    assert!(callback.event.is_ok(), "{body}");
    *callback
}

async fn apply_all(database: &Database, callbacks: &[Callback]) {
    for outcome in commit(database, callbacks).await {
        outcome.unwrap();
    }
}

async fn empty(database: &Database) {
    let mut conn = database.connect().await.unwrap();
    conn.execute(
        "TRUNCATE ledger, groups, group_members, group_user_defined_fields, group_attributes, group_topics",
    )
    .await
    .unwrap();
    conn.execute("CHECKPOINT").await.unwrap();
    conn.close().await.unwrap();
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// The life of 500 groups, twenty events each: in order of event time, reversed, and shuffled by a fixed stride.
async fn order(database: &Database) {
    let in_order: Vec<Callback> = lives(500).iter().map(callback).collect();
    let reversed: Vec<Callback> = in_order.iter().rev().cloned().collect();
    let shuffled = shuffled(&in_order);
    let kinds = [&in_order, &reversed, &shuffled];
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..5 {
        for (kind, times) in kinds.iter().zip(&mut times) {
            empty(database).await;
            let begun = Instant::now();
            for batch in kind.chunks(64) {
                apply_all(database, batch).await;
            }
            times.push(begun.elapsed());
        }
    }
    let [in_order, reversed, shuffled] = times.map(median);
    let rate = 10_000.0 / in_order.as_secs_f64();
    println!("| in order, batches of 64, one lane | {rate:.0} callbacks/s |");
    println!("| reversed ÷ in order | {:.2} |", in_order.as_secs_f64() / reversed.as_secs_f64());
    println!("| shuffled ÷ in order | {:.2} |", in_order.as_secs_f64() / shuffled.as_secs_f64());
}

/// One join at a time into groups of 10 and of 100,000 members; then the end of the large one.
async fn group_size(database: &Database) {
    empty(database).await;
    for (id, size) in [("small", 10), ("large", 100_000)] {
        for from in (0..size).step_by(500) {
            let list = members(from..(from + 500).min(size));
            let more = json!({ "JoinType": "Apply", "NewMemberList": list });
            apply_all(database, &[callback(&body("NewMemberJoin", id, i64::try_from(from).unwrap(), &more))])
                .await;
        }
    }
    let mut times = [Vec::new(), Vec::new()];
    for number in 0..400 {
        for (id, times) in ["small", "large"].iter().zip(&mut times) {
            let list = members(200_000 + number..200_001 + number);
            let more = json!({ "JoinType": "Apply", "NewMemberList": list });
            let join = callback(&body("NewMemberJoin", id, 200_000 + i64::try_from(number).unwrap(), &more));
            let begun = Instant::now();
            apply_all(database, &[join]).await;
            times.push(begun.elapsed());
        }
    }
    let [small, large] = times.map(median);
    println!("| join, group of 10, median | {:.2} ms |", small.as_secs_f64() * 1000.0);
    println!("| join, group of 100,000 ÷ group of 10 | {:.2} |", small.as_secs_f64() / large.as_secs_f64());
    let destroy =
        callback(&body("GroupDestroyed", "large", 900_000, &json!({ "MemberList": members(0..6_000) })));
    let begun = Instant::now();
    apply_all(database, &[destroy]).await;
    println!("| destroy of the group of 100,000 | {:.2} ms |", begun.elapsed().as_secs_f64() * 1000.0);
}

/// Two thousand groups of a hundred members, emptied and rebuilt from the ledger.
async fn rebuild(database: &Database) {
    empty(database).await;
    let creates: Vec<Callback> = (0..2000)
        .map(|group| {
            let more = json!({ "Name": "n", "Owner_Account": "user-0000000", "MemberList": members(0..100),
                               "UserDefinedDataList": [{ "Key": "k", "Value": "v" }] });
            callback(&body("CreateGroup", &format!("@TGS#2GROUP{group:05}"), group, &more))
        })
        .collect();
    for batch in creates.chunks(64) {
        apply_all(database, batch).await;
    }
    let (mut rebuilt, mut verified) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let mut conn = database.connect().await.unwrap();
        conn.execute(sqlx::AssertSqlSafe(format!("TRUNCATE {MIRROR}"))).await.unwrap();
        conn.close().await.unwrap();
        let begun = Instant::now();
        let report = replay::replay(database, replay::Mode::Rebuild, |_| {}).await.unwrap();
        rebuilt.push(begun.elapsed());
        assert_eq!(report.differences, 204_000);
        let begun = Instant::now();
        let report = replay::replay(database, replay::Mode::Verify, |_| {}).await.unwrap();
        verified.push(begun.elapsed());
        assert_eq!(report.differences, 0);
    }
    println!("| replay of emptied tables | {:.0} member rows/s |", 200_000.0 / median(rebuilt).as_secs_f64());
    println!("| replay --verify | {:.0} member rows/s |", 200_000.0 / median(verified).as_secs_f64());
}

/// Who was in a group of 100,000, each of whom joined by a callback of its own; and of twice as many, the maximum. Then
/// the same by two readers at once.
async fn past_moments(database: &Database) {
    empty(database).await;
    for size in [100_000, 200_000] {
        let group = format!("past-{size}");
        let joins: Vec<Callback> = (0..size)
            .map(|number| {
                let more = json!({ "JoinType": "Apply", "NewMemberList": members(number..number + 1),
                                   "Name": "a group of usual callbacks", "RequestId": number });
                callback(&body("NewMemberJoin", &group, i64::try_from(number).unwrap(), &more))
            })
            .collect();
        for batch in joins.chunks(256) {
            apply_all(database, batch).await;
        }
        let bytes: usize = joins.iter().map(|join| join.received.body.len()).sum();
        drop(joins);
        let turns = AsOfPermits::default();
        let read = async |moment: i64| {
            let conn = database.reader().acquire().await.unwrap();
            let filter = MemberFilter { present: Some(true), role: None };
            let group = group_key(SdkAppId::parse("1400000001").unwrap(), GroupId::parse(&group).unwrap());
            let moment = Millis::new(T0 + moment);
            let wanted = MembersAsOf { group, moment, filter, after: None, limit: 501 };
            let begun = Instant::now();
            let found = as_of::members(conn, turns.fold_permit().await.unwrap(), wanted).await.unwrap();
            assert_eq!(found.len(), 501);
            begun.elapsed()
        };
        let whole = i64::try_from(size).unwrap();
        let (mut half, mut all, mut two) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..5 {
            half.push(read(whole / 2 - 1).await);
            all.push(read(whole).await);
            let (one, other) = tokio::join!(read(whole), read(whole));
            two.push(one.max(other));
        }
        let ms = |times| median(times).as_secs_f64() * 1000.0;
        println!(
            "| members at a past moment, {size} joins of {} bytes: half of them | {:.0} ms |",
            bytes / size,
            ms(half)
        );
        println!("| all of them / two readers at once | {:.0} / {:.0} ms |", ms(all), ms(two));
    }
}
