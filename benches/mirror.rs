//! Yardsticks of the write path, of replay and of reads as of a past moment, side by side in one run, as ratios and
//! medians.
//!
//! `cargo bench --bench mirror` prints a table; `-- order`, `size`, `rebuild` or `as_of` behind it runs one of them, and
//! `MIRROR_PERCENT` (100) makes everything smaller for a trial. PostgreSQL is a private one with `fsync` and
//! `synchronous_commit` on, in a temporary directory; `BENCH_DATABASE_URL` names another server's empty database instead.
//! Rounds of what is compared alternate, so that a noisy machine disturbs both alike.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark that fails has failed; its result is text"
)]
#![expect(clippy::disallowed_methods, reason = "a benchmark has clocks and settings of its own")]

#[path = "load/lives.rs"]
mod lives;
#[expect(dead_code, reason = "the other benchmarks use the rest")]
mod support;

use std::time::{Duration, Instant};

use group_mirror::callback::Callback;
use group_mirror::ingest::commit;
use group_mirror::mirror::group_key;
use group_mirror::model::{GroupId, Millis, SdkAppId};
use group_mirror::replay;
use group_mirror::replay::as_of::{self, AsOfPermits, GroupMoment};
use group_mirror::store::Database;
use lives::{T0, body, lives, members, shuffled};
use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _};
use support::{APP, decoded, empty, setting};

const MIRROR: &str = "groups, group_members, group_user_defined_fields, group_attributes, group_topics";

fn main() {
    support::run(async |scene| {
        let database = &scene.database;
        println!("| What | Result |\n|---|---|");
        let only = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
        let wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
        if wanted("order") {
            order(database).await;
        }
        if wanted("size") {
            group_size(database).await;
        }
        if wanted("rebuild") {
            rebuild(database).await;
        }
        if wanted("as_of") {
            as_of_reads(database).await;
        }
    });
}

/// How large everything is, in percent of what the figures are quoted for.
fn scaled(size: usize) -> usize {
    let percent = usize::try_from(setting("MIRROR_PERCENT", 100)).unwrap();
    assert!(size * percent >= 100, "MIRROR_PERCENT: at least one of everything");
    size * percent / 100
}

fn callback(body: &Value) -> Callback {
    decoded(body.to_string())
}

async fn apply_all(database: &Database, callbacks: &[Callback]) {
    for outcome in commit(database, callbacks).await {
        outcome.unwrap();
    }
}

/// In milliseconds.
fn median(times: Vec<Duration>) -> f64 {
    support::median(times.into_iter().map(|time| time.as_secs_f64() * 1000.0).collect())
}

/// The life of 500 groups, twenty events each: in order of event time, reversed, and shuffled by a fixed stride.
async fn order(database: &Database) {
    let in_order: Vec<Callback> = lives(i64::try_from(scaled(500)).unwrap()).iter().map(callback).collect();
    let count = in_order.len() as u64;
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
    let rate = support::per_second(count, Duration::from_secs_f64(in_order / 1000.0));
    println!("| in order, batches of 64, one lane | {rate:.0} callbacks/s |");
    println!("| reversed ÷ in order | {:.2} |", in_order / reversed);
    println!("| shuffled ÷ in order | {:.2} |", in_order / shuffled);
}

/// One join at a time into groups of 10 and of 100,000 members; then the end of the large one.
async fn group_size(database: &Database) {
    empty(database).await;
    for (id, size) in [("small", 10), ("large", scaled(100_000))] {
        for from in (0..size).step_by(500) {
            let list = members(from..(from + 500).min(size));
            let more = json!({ "JoinType": "Apply", "NewMemberList": list });
            apply_all(database, &[callback(&body("NewMemberJoin", id, i64::try_from(from).unwrap(), &more))])
                .await;
        }
    }
    let mut times = [Vec::new(), Vec::new()];
    for number in 0..scaled(400) {
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
    println!("| join, group of 10, median | {small:.2} ms |");
    println!("| join, group of 100,000 ÷ group of 10 | {:.2} |", small / large);
    let destroy =
        callback(&body("GroupDestroyed", "large", 900_000, &json!({ "MemberList": members(0..6_000) })));
    let begun = Instant::now();
    apply_all(database, &[destroy]).await;
    println!("| destroy of the group of 100,000 | {:.2} ms |", begun.elapsed().as_secs_f64() * 1000.0);
}

/// Two thousand groups of a hundred members, emptied and rebuilt from the ledger.
async fn rebuild(database: &Database) {
    empty(database).await;
    let groups = i64::try_from(scaled(2000)).unwrap();
    let creates: Vec<Callback> = (0..groups)
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
        assert_eq!(report.differences, u64::try_from(groups * 102).unwrap());
        let begun = Instant::now();
        let report = replay::replay(database, replay::Mode::Verify, |_| {}).await.unwrap();
        verified.push(begun.elapsed());
        assert_eq!(report.differences, 0);
    }
    let rows = u64::try_from(groups * 100).unwrap();
    let rate = |times| support::per_second(rows, Duration::from_secs_f64(median(times) / 1000.0));
    println!("| replay of emptied tables | {:.0} member rows/s |", rate(rebuilt));
    println!("| replay --verify | {:.0} member rows/s |", rate(verified));
}

/// The membership as of a moment, of a group of 100,000 who joined by a callback each, and of twice as many, the maximum;
/// then the same by two readers at once.
async fn as_of_reads(database: &Database) {
    empty(database).await;
    for size in [scaled(100_000), scaled(200_000)] {
        let group = format!("as-of-{size}");
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
        let permits = AsOfPermits::default();
        let read = async |moment: i64| {
            let conn = database.reader().acquire().await.unwrap();
            let group = group_key(SdkAppId::parse(APP).unwrap(), GroupId::parse(&group).unwrap());
            let moment = Millis::new(T0 + moment);
            let wanted = GroupMoment { group, moment };
            let begun = Instant::now();
            let found = as_of::group(conn, permits.fold_permit().await.unwrap(), wanted).await.unwrap();
            assert!(found.members.len() >= size / 2);
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
        println!(
            "| members as of a moment, {size} joins of {} bytes: half of them | {:.0} ms |",
            bytes / size,
            median(half)
        );
        println!("| all of them / two readers at once | {:.0} / {:.0} ms |", median(all), median(two));
    }
}
