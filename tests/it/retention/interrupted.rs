//! The command killed in the middle: the next run finishes it, and at each moment mirror and ledger agree.

use std::collections::BTreeSet;

use group_mirror::store::Database;

use super::erasing::{World, verified};
use crate::support::eventually;
use crate::support::mutate::Chance;
use crate::support::postgres::TestDatabase;
use crate::support::process::{Place, Process, run};

/// How often it is killed.
const ROUNDS: usize = 20;

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_that_is_killed_twenty_times_is_finished_by_the_next_run() {
    let test = TestDatabase::create().await;
    let database = Database::new(&test.url).unwrap();
    let world = World::generated(120);
    world.enter(&database).await;
    let place = Place::new();
    let mut chance = Chance::new(20);
    let (mut in_the_middle, mut conn) = (0, test.connect().await);
    for round in 0..ROUNDS {
        let user = crate::support::histories::USERS[round % 4];
        let count =
            "SELECT (SELECT count(*) FROM ledger_people WHERE user_id = $1), (SELECT count(*) FROM erasures)";
        let before: (i64, i64) = sqlx::query_as(count).bind(user).fetch_one(&mut conn).await.unwrap();
        let mut killed = Process::start(place.command_on(&test.url, &["erase-user", user]));
        // At first once it is registered, then at a place in its work: when it has written so much.
        let wanted = i64::try_from(chance.below(usize::try_from(before.0).unwrap().max(1))).unwrap();
        loop {
            let now: (i64, i64) = sqlx::query_as(count).bind(user).fetch_one(&mut conn).await.unwrap();
            let is_there = if round < 4 { now.1 > before.1 } else { now.0 <= wanted };
            if is_there {
                killed.signal("KILL");
                break;
            }
            assert!(!killed.is_over(), "it has not done its work: {}", killed.log());
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        killed.until_ended().await;
        let is_free = async || {
            let held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database
                         WHERE datname = current_database())";
            sqlx::query_scalar::<_, i64>(held).fetch_one(&mut test.connect().await).await.unwrap() == 0
        };
        assert!(eventually(is_free).await, "the server notices the end of its client");
        let left: (i64, i64) = sqlx::query_as(count).bind(user).fetch_one(&mut conn).await.unwrap();
        in_the_middle += usize::from(left.0 > 0 && left.0 < before.0);
        verified(&database).await;
    }
    assert!(in_the_middle >= 3, "killed in the middle only {in_the_middle} times");
    let mut pseudonyms = BTreeSet::new();
    for user in crate::support::histories::USERS {
        let done = run(place.command_on(&test.url, &["erase-user", user])).await;
        assert_eq!(done.code, Some(0), "{done:?}");
        assert!(done.stdout.ends_with("the id stands nowhere in the database\n"), "{done:?}");
        pseudonyms.insert(done.stdout.split(' ').nth(2).unwrap().to_owned());
    }
    verified(&database).await;
    let known: Vec<String> = sqlx::query_scalar(
        "SELECT DISTINCT user_id FROM group_members UNION SELECT DISTINCT user_id FROM ledger_people",
    )
    .fetch_all(&mut conn)
    .await
    .unwrap();
    assert_eq!(known.into_iter().collect::<BTreeSet<_>>(), pseudonyms, "one pseudonym each");
    database.close().await;
}
