//! Old entries become checkpoints: the mirror is what checkpoints and ledger say together, whatever comes before and after, and
//! readers learn what is missing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{DateTime, Utc};
use group_mirror::callback::Callback;
use group_mirror::check;
use group_mirror::ingest::{commit, commit_snapshots};
use group_mirror::mirror::Snapshot;
use group_mirror::model::{Millis, SdkAppId, UserId};
use group_mirror::replay::{Mode, replay};
use group_mirror::retention::{self, PruneWanted, Pruned};
use group_mirror::store::feed::FeedPlace;
use group_mirror::store::{Database, checkpoints};
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::erasing::{NOW, verified};
use crate::rules::laws;
use crate::support::histories::{self, BASE_MS, Receipt};
use crate::support::mutate::Chance;
use crate::support::postgres::TestDatabase;
use crate::support::process::{Place, Process, refused, run};
use crate::support::{APP, dump, eventually, reads};

pub(super) fn at(ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(BASE_MS + ms).unwrap()
}

pub(super) async fn pruned(database: &Database, before: DateTime<Utc>) -> Pruned {
    let wanted = PruneWanted { before, follower: None, forced: false };
    retention::prune(database, &wanted, |_| {}).await.unwrap()
}

/// What arrives: callbacks at their times of receipt, some without event time, and reads.
struct Arrivals {
    callbacks: Vec<Callback>,
    snapshots: Vec<Snapshot>,
}

impl Arrivals {
    fn generated(seed: usize, histories: usize) -> Self {
        let mut runner = TestRunner::deterministic();
        let (mut callbacks, mut snapshots) = (Vec::new(), Vec::new());
        for number in 0..seed + histories {
            let receipts = histories::receipts().new_tree(&mut runner).unwrap().current();
            let prefix = format!("h{number}-");
            let renamed = receipts.iter().map(|(body, at, request)| -> Receipt {
                (histories::renamed(std::slice::from_ref(body), &prefix).remove(0), *at, *request)
            });
            let renamed: Vec<Receipt> = renamed.collect();
            let reads = (0..4).map(|_| reads::snapshot().new_tree(&mut runner).unwrap().current());
            let reads: Vec<Snapshot> = reads.map(|read| reads::renamed(&read, &prefix)).collect();
            if number >= seed {
                callbacks.extend(renamed.iter().map(laws::received));
                snapshots.extend(reads);
            }
        }
        Self { callbacks, snapshots }
    }

    async fn enter(&self, database: &Database, part: impl Fn(usize) -> bool) {
        let callbacks: Vec<Callback> =
            self.callbacks.iter().enumerate().filter(|(at, _)| part(*at)).map(|(_, it)| it.clone()).collect();
        for batch in callbacks.chunks(40) {
            assert!(commit(database, batch).await.iter().all(Result::is_ok));
        }
        let snapshots: Vec<Snapshot> =
            self.snapshots.iter().enumerate().filter(|(at, _)| part(*at)).map(|(_, it)| it.clone()).collect();
        for batch in snapshots.chunks(8) {
            commit_snapshots(database, batch, NOW).await.unwrap();
        }
    }
}

pub(super) async fn count(conn: &mut PgConnection, of: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(format!("SELECT count(*) FROM {of}"))).fetch_one(conn).await.unwrap()
}

/// Aim: laws 4 and 6. Method: one database is pruned again and again at growing times while more arrives, another never. What
/// arrives is cut at random, so late callbacks, repeats of what was pruned, and reads come between the runs.
#[tokio::test]
async fn a_mirror_that_is_pruned_is_the_same_as_one_that_is_not_whatever_comes_when() {
    for seed in 0..3 {
        let (test, control) = (TestDatabase::create().await, TestDatabase::create().await);
        let (database, whole) = (Database::new(&test.url).unwrap(), Database::new(&control.url).unwrap());
        let (mut conn, mut other) = (test.connect().await, control.connect().await);
        let arrivals = Arrivals::generated(seed * 25, 25);
        let mut chance = Chance::new(seed as u64 + 1);
        let parts: Vec<usize> = (0..arrivals.callbacks.len()).map(|_| chance.below(4)).collect();
        let mut dropped = 0;
        for (step, until) in [100, 2_000, 40_000, 200_000].into_iter().enumerate() {
            // What came before comes again now and then.
            let is_now = |at: usize| parts[at] == step || parts[at] < step && at % 5 == step;
            arrivals.enter(&database, is_now).await;
            arrivals.enter(&whole, is_now).await;
            let before = dump::tables(&mut conn).await;
            assert_eq!(before, dump::tables(&mut other).await, "seed {seed}, step {step}: before the run");
            let entries = count(&mut conn, "ledger").await;
            let done = pruned(&database, at(until)).await;
            dropped += entries - count(&mut conn, "ledger").await;
            assert_eq!(dump::tables(&mut conn).await, before, "seed {seed}, step {step}: {done:?}");
            verified(&database).await;
            // A rebuild has nothing to write, and writes the same from nothing.
            for table in ["group_members", "group_attributes", "groups"] {
                let empty = AssertSqlSafe(format!("DELETE FROM {table}"));
                sqlx::query(empty).execute(&mut conn).await.unwrap();
            }
            let report = replay(&database, Mode::Rebuild, |_| {}).await.unwrap();
            assert!(report.differences > 0, "it had something to do");
            assert_eq!(dump::tables(&mut conn).await, before, "seed {seed}, step {step}: rebuilt");
        }
        assert!(dropped > 50, "{dropped} entries were dropped");
        assert!(count(&mut conn, "checkpoints").await > 50);
        // Everything once more: repeats of what was pruned change nothing.
        arrivals.enter(&database, |_| true).await;
        arrivals.enter(&whole, |_| true).await;
        assert_eq!(dump::tables(&mut conn).await, dump::tables(&mut other).await, "seed {seed}");
        verified(&database).await;
        database.close().await;
        whole.close().await;
    }
}

#[tokio::test]
async fn what_is_parked_partial_received_later_or_known_by_its_request_stays_in_the_ledger() {
    let test = TestDatabase::create().await;
    let database = Database::new(&test.url).unwrap();
    let mut conn = test.connect().await;
    let arrivals = Arrivals::generated(0, 20);
    arrivals.enter(&database, |_| true).await;
    sqlx::query("UPDATE ledger SET outcome = 'partial', reason = 'x', causes = '{ill_typed_field}' WHERE position % 11 = 0")
        .execute(&mut conn)
        .await
        .unwrap();
    let stays = "outcome <> 'applied' OR received_at >= to_timestamp(1700000000.500)
        OR event_time_ms IS DISTINCT FROM time_ms AND ledger_request_id(request_id, odd_values) IS NOT NULL OR time_ms >= 1700000000500
        OR position >= (SELECT min(position) FROM ledger WHERE received_at >= to_timestamp(1700000000.500))";
    let staying = count(&mut conn, &format!("ledger WHERE {stays}")).await;
    let people = count(
        &mut conn,
        &format!("ledger_people p WHERE EXISTS (SELECT FROM ledger l WHERE ({stays}) AND l.sdk_app_id = p.sdk_app_id
            AND l.group_id = p.group_id AND l.time_ms = p.time_ms AND l.digest = p.digest)"),
    )
    .await;
    let before = count(&mut conn, "ledger").await;
    let done = pruned(&database, at(500)).await;
    assert_eq!(count(&mut conn, "ledger").await, staying, "{done:?}");
    assert!(staying < before, "something was dropped");
    assert_eq!(u64::try_from(before - staying).unwrap(), done.entries);
    assert_eq!(count(&mut conn, "ledger_people").await, people);
    assert_eq!(
        count(&mut conn, "pg_class WHERE relname LIKE 'pruned%' OR relname LIKE '%past_next'").await,
        0
    );
    database.close().await;
}

/// Aim: nothing that arrives while the partitions are exchanged is lost. Method: writers enter late callbacks of old times without
/// pause while run follows run, under an isolation that would show the exchange an old moment.
#[tokio::test(flavor = "multi_thread")]
async fn callbacks_for_old_times_that_come_during_the_exchange_are_all_there() {
    let test = TestDatabase::create().await;
    let name = test.url.rsplit('/').next().unwrap().split('?').next().unwrap().to_owned();
    let isolation =
        format!("ALTER DATABASE \"{name}\" SET default_transaction_isolation = 'repeatable read'");
    sqlx::query(AssertSqlSafe(isolation)).execute(&mut test.connect().await).await.unwrap();
    let database = Database::new(&test.url).unwrap();
    let ended = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..3)
        .map(|writer| {
            let (database, ended) = (database.clone(), Arc::clone(&ended));
            tokio::spawn(async move {
                let mut entered = 0_i64;
                while !ended.load(Ordering::Relaxed) {
                    let body = json!({
                        "CallbackCommand": "Group.CallbackAfterNewMemberJoin", "GroupId": format!("w{writer}"),
                        "EventTime": BASE_MS + entered % 1000, "JoinType": "Apply",
                        "NewMemberList": [{ "Member_Account": format!("u{writer}-{entered}") }],
                    });
                    let done = commit(&database, &[laws::received(&(body, 1_000_000, None))]).await;
                    // A conflict with the exchange is no loss: the callback is entered again.
                    entered += i64::from(done[0].is_ok());
                }
                entered
            })
        })
        .collect();
    let mut conn = test.connect().await;
    assert!(eventually(async || count(&mut test.connect().await, "ledger").await > 100).await);
    let old = Arrivals::generated(0, 12);
    for round in 0..6_i64 {
        // What can be dropped, so that there is something to exchange. It was entered before what the writers enter.
        sqlx::query(
            "UPDATE ledger SET received_at = to_timestamp(1700000000)
             WHERE position <= (SELECT max(position) - 40 FROM ledger) AND outcome = 'applied'",
        )
        .execute(&mut conn)
        .await
        .unwrap();
        old.enter(&database, |at| at % 6 == usize::try_from(round).unwrap()).await;
        let done = pruned(&database, at(500_000)).await;
        assert!(done.until.is_some(), "{done:?}");
    }
    ended.store(true, Ordering::Relaxed);
    let mut entered = 0;
    for writer in writers {
        entered += writer.await.unwrap();
    }
    let members = count(&mut conn, "group_members WHERE group_id LIKE 'w_'").await;
    assert_eq!(members, entered, "each callback is in the mirror");
    let folded = count(&mut conn, "checkpoints WHERE group_id LIKE 'w_' AND part = 2").await;
    let kept = count(&mut conn, "ledger WHERE group_id LIKE 'w_'").await;
    assert!(folded + kept >= entered, "{folded} in checkpoints and {kept} in the ledger, of {entered}");
    verified(&database).await;
    database.close().await;
}

/// Makes the server wait at one of the statements that write in a run, by their number: the first is that which raises the time.
const PAUSES: &str = "
CREATE SEQUENCE statements;
CREATE TABLE pause_at (number bigint NOT NULL);
INSERT INTO pause_at VALUES (0);
CREATE FUNCTION pause() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
    IF nextval('statements') = (SELECT number FROM pause_at) THEN PERFORM pg_advisory_xact_lock_shared(4711); END IF;
END $$;
CREATE FUNCTION pause_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pause(); RETURN NULL; END $$;
CREATE FUNCTION pause_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pause(); END $$;
CREATE TRIGGER pause BEFORE UPDATE ON prune_state FOR EACH STATEMENT EXECUTE FUNCTION pause_row();
CREATE TRIGGER pause BEFORE INSERT ON checkpoints FOR EACH STATEMENT EXECUTE FUNCTION pause_row();
CREATE EVENT TRIGGER pause ON ddl_command_start EXECUTE FUNCTION pause_ddl()";

/// Aim: a run that is killed, wherever, loses nothing and is finished by the next one. Method: the server waits at the first, the second, …
/// statement of a run that writes, and the command is killed there.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_killed_at_each_of_its_steps_is_finished_by_the_next_one() {
    let test = TestDatabase::create().await;
    let database = Database::new(&test.url).unwrap();
    let mut conn = test.connect().await;
    let place = Place::new();
    let arrivals = Arrivals::generated(0, 40);
    sqlx::raw_sql(PAUSES).execute(&mut conn).await.unwrap();
    let (mut killed, mut round) = (0, 0_usize);
    loop {
        arrivals.enter(&database, |at| at % 40 == round % 40).await;
        let before = dump::tables(&mut conn).await;
        sqlx::query("UPDATE pause_at SET number = $1")
            .bind(i64::try_from(round).unwrap() + 1)
            .execute(&mut conn)
            .await
            .unwrap();
        sqlx::query("SELECT setval('statements', 1, false), pg_advisory_lock(4711)")
            .execute(&mut conn)
            .await
            .unwrap();
        let until = at(i64::try_from(round).unwrap() * 10_000 + 100_000).to_rfc3339();
        let mut process = Process::start(place.command_on(&test.url, &["prune", "--before", &until]));
        let waiting = "pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted";
        while !process.is_over() && count(&mut conn, waiting).await == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let is_killed = !process.is_over();
        if is_killed {
            process.signal("KILL");
            process.until_ended().await;
            killed += 1;
        }
        sqlx::query("SELECT pg_advisory_unlock(4711)").execute(&mut conn).await.unwrap();
        let is_free = async || {
            let held = "pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database
                         WHERE datname = current_database())";
            count(&mut test.connect().await, held).await == 0
        };
        assert!(eventually(is_free).await, "the server notices the end of its client");
        assert_eq!(dump::tables(&mut conn).await, before, "round {round}");
        verified(&database).await;
        round += 1;
        if !is_killed {
            break;
        }
    }
    assert!(killed >= 20, "it has {killed} steps");
    let done = run(place.command_on(&test.url, &["prune", "--before", &at(2_000_000).to_rfc3339()])).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    verified(&database).await;
    assert_eq!(
        count(&mut conn, "pg_class WHERE relname LIKE 'pruned%' OR relname LIKE '%past_next'").await,
        0
    );
    database.close().await;
}

#[tokio::test]
async fn a_person_is_erased_from_checkpoints_as_well() {
    let (test, control) = (TestDatabase::create().await, TestDatabase::create().await);
    let (database, whole) = (Database::new(&test.url).unwrap(), Database::new(&control.url).unwrap());
    let world = super::erasing::World::generated(30);
    for database in [&database, &whole] {
        world.enter(database).await;
    }
    let mut conn = test.connect().await;
    let entries = count(&mut conn, "ledger").await;
    // Reads are received at NOW; half of the rest stays, so that the id stands in ledger and checkpoints.
    sqlx::query("UPDATE ledger SET outcome = 'partial', reason = 'x', causes = '{ill_typed_field}' WHERE position % 2 = 0 AND outcome = 'applied'")
        .execute(&mut conn)
        .await
        .unwrap();
    let before = DateTime::from_timestamp_millis(NOW.get() + 1).unwrap();
    pruned(&database, before).await;
    assert!(count(&mut conn, "ledger").await < entries);
    assert!(count(&mut conn, "checkpoints WHERE key = 'ana' OR registers::text LIKE '%\"ana\"%'").await > 5);
    let (app, user) = (SdkAppId::parse(APP).unwrap(), UserId::parse("ana").unwrap());
    let naming = checkpoints::groups_naming(&mut conn, app, &user).await.unwrap();
    let all = count(&mut conn, "checkpoints WHERE part = 0").await;
    assert!(i64::try_from(naming.len()).unwrap() < all, "{} of {all} groups", naming.len());
    let erased = super::erasing::erased(&database, "ana", false).await;
    assert!(erased.before.rows[&("checkpoints", "key")] > 0, "{erased:?}");
    assert!(erased.before.rows[&("checkpoints", "registers")] > 0, "{erased:?}");
    assert!(erased.after.is_nowhere(), "{erased:?}");
    assert_eq!(
        count(&mut conn, "checkpoints WHERE key = 'ana' OR registers::text LIKE '%\"ana\"%'").await,
        0
    );
    assert_eq!(
        count(&mut conn, "checkpoints WHERE registers::text LIKE '%Ana Li%'").await,
        0,
        "a name card is left"
    );
    let report = replay(&database, Mode::Verify, |_| {}).await.unwrap();
    assert_eq!(report.differences, 0, "{:?}", report.lines);
    // The same mirror as where nothing was pruned, but for the pseudonym.
    let other = super::erasing::erased(&whole, "ana", false).await;
    let text = |dump: &dump::Dump, pseudonym: &str| {
        let mut rows: Vec<String> =
            dump.values().flatten().map(|row| row.to_string().replace(pseudonym, "~")).collect();
        rows.sort();
        rows
    };
    let mine = text(&dump::tables(&mut conn).await, erased.pseudonym.as_str());
    let theirs = text(&dump::tables(&mut control.connect().await).await, other.pseudonym.as_str());
    assert_eq!(mine, theirs);
    database.close().await;
    whole.close().await;
}

/// Aim: a group of more members than are folded at once. Method: a list in ranges and joins that are pruned in two runs, between
/// which some leave, some get a role, and a newer list of one range replaces the older one.
#[tokio::test]
async fn a_large_group_is_pruned_a_window_of_its_members_after_the_other() {
    let test = TestDatabase::create().await;
    let database = Database::new(&test.url).unwrap();
    let mut conn = test.connect().await;
    let users =
        |from: usize, to: usize| -> Vec<String> { (from..to).map(|user| format!("u{user:05}")).collect() };
    let change = |command: &str, ms: i64, name: &str, users: &[String], more: Value| {
        let list: Vec<Value> = users.iter().map(|user| json!({ "Member_Account": user })).collect();
        let mut body = json!({ "CallbackCommand": format!("Group.CallbackAfter{command}"), "GroupId": "large", "EventTime": BASE_MS + ms });
        body[name] = json!(list);
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        laws::received(&(body, ms, None))
    };
    let enter = async |callbacks: Vec<Callback>| {
        for batch in callbacks.chunks(8) {
            assert!(commit(&database, batch).await.iter().all(Result::is_ok));
        }
    };
    let joins = |from: usize, to: usize, ms: i64| -> Vec<Callback> {
        let all = users(from, to);
        let more = json!({ "JoinType": "Apply" });
        all.chunks(1000)
            .map(|some| change("NewMemberJoin", ms, "NewMemberList", some, more.clone()))
            .collect()
    };
    enter(joins(0, 30_000, 1_000)).await;
    for batch in reads::lists("large", &users(20_000, 45_000), BASE_MS + 20_000).chunks(64) {
        commit_snapshots(&database, batch, NOW).await.unwrap();
    }
    // Receipt follows the time: all of a list is received when it is entered.
    let receipt = "UPDATE ledger SET received_at = to_timestamp(time_ms / 1000.0)";
    sqlx::query(receipt).execute(&mut conn).await.unwrap();
    for (step, until) in [100_000_i64, 200_000].into_iter().enumerate() {
        let before = dump::tables(&mut conn).await;
        let done = pruned(&database, at(until)).await;
        assert!(done.entries > 20, "{done:?}");
        assert!(dump::tables(&mut conn).await == before, "step {step}");
        verified(&database).await;
        let ms = until + 1_000;
        enter(joins(45_000, 47_000, ms)).await;
        let gone = users(29_000, 29_500);
        enter(vec![change("MemberExit", ms + 1, "ExitMemberList", &gone, json!({ "ExitType": "Quit" }))])
            .await;
        let list = reads::lists("large", &users(20_000, 44_000), BASE_MS + ms + 20_000);
        commit_snapshots(&database, &list[..64], NOW).await.unwrap();
        sqlx::query(receipt).execute(&mut conn).await.unwrap();
    }
    verified(&database).await;
    assert!(count(&mut conn, "checkpoints WHERE part = 2").await > 45_000);
    assert_eq!(count(&mut conn, "checkpoints WHERE part = 1").await, 256);
    database.close().await;
}

#[tokio::test]
async fn what_the_relay_or_a_follower_has_not_taken_stays_unless_it_is_forced() {
    let test = TestDatabase::create().await;
    let database = Database::new(&test.url).unwrap();
    let mut conn = test.connect().await;
    Arrivals::generated(0, 10).enter(&database, |_| true).await;
    let all = at(1_000_000);
    let place: FeedPlace = sqlx::query_as(
        "SELECT position, encode(substr(digest, 1, 4), 'hex') AS digest FROM ledger ORDER BY position OFFSET 9 LIMIT 1",
    )
    .fetch_one(&mut conn)
    .await
    .unwrap();
    let behind = "ledger WHERE position > (SELECT position FROM ledger ORDER BY position OFFSET 9 LIMIT 1)";
    let unread = count(&mut conn, behind).await;
    let wanted = PruneWanted { before: all, follower: Some(place.clone()), forced: false };
    retention::prune(&database, &wanted, |_| {}).await.unwrap();
    let of_follower = format!("ledger WHERE position > {}", place.position);
    assert_eq!(count(&mut conn, &of_follower).await, unread, "nothing behind the follower was dropped");
    // Of what is left every third waits for the backend, every fifth was given up.
    let queue = "
        INSERT INTO relay_outbox (sdk_app_id, group_id, time_ms, digest, place, received_at, position, origin, owner)
        SELECT sdk_app_id, group_id, time_ms, digest, position, received_at, position, 1, 1 FROM ledger
         WHERE outcome = 'applied' AND position % 3 = 0;
        INSERT INTO relay_skipped (sdk_app_id, group_id, time_ms, digest, received_at, attempts, failure)
        SELECT sdk_app_id, group_id, time_ms, digest, received_at, 1, 'status_400' FROM ledger
         WHERE outcome = 'applied' AND position % 5 = 0";
    sqlx::raw_sql(queue).execute(&mut conn).await.unwrap();
    let waiting = "ledger l WHERE EXISTS (SELECT FROM relay_outbox o WHERE (o.group_id, o.time_ms, o.digest) = (l.group_id, l.time_ms, l.digest))
                      OR EXISTS (SELECT FROM relay_skipped o WHERE (o.group_id, o.time_ms, o.digest) = (l.group_id, l.time_ms, l.digest))";
    let waiting_before = count(&mut conn, waiting).await;
    pruned(&database, all).await;
    assert!(waiting_before > 3);
    assert_eq!(count(&mut conn, waiting).await, waiting_before);
    assert_eq!(pruned(&database, all).await.partitions, 0, "what waits for the relay is no reason for a run");
    let now = Millis::new((all + chrono::TimeDelta::days(30 + 15)).timestamp_millis());
    let line = check::pruning::line(&database, 30, now).await.unwrap();
    assert_eq!(line.level, check::CheckLevel::Ok, "what prune spares is not overdue: {line:?}");
    verified(&database).await;
    let forced = PruneWanted { before: all, follower: None, forced: true };
    retention::prune(&database, &forced, |_| {}).await.unwrap();
    assert!(count(&mut conn, waiting).await < waiting_before);
    // What is left in the outbox has its entry: one of those that stay for another reason.
    let dangling = "relay_outbox o WHERE NOT EXISTS (SELECT FROM ledger l WHERE (o.group_id, o.time_ms, o.digest) = (l.group_id, l.time_ms, l.digest))";
    assert_eq!(count(&mut conn, dangling).await, 0);
    verified(&database).await;
    database.close().await;
}

#[tokio::test]
async fn the_command_says_what_it_does_and_refuses_what_it_cannot_do() {
    let test = TestDatabase::create().await;
    let database = Database::new(&test.url).unwrap();
    let place = Place::new();
    let said = refused(place.command_on(&test.url, &["prune"])).await;
    assert!(said.contains("LEDGER_KEEP_DAYS is 0, which keeps every entry"), "{said}");
    let said = refused(place.command_on(&test.url, &["prune", "--before", "soon"])).await;
    assert!(said.contains("it must be a time such as"), "{said}");
    let said = refused(place.command_on(&test.url, &["prune", "--before", "2999-01-01T00:00:00Z"])).await;
    assert!(said.contains("in the future"), "{said}");
    let nothing = run(place.command_on(&test.url, &["prune", "--ledger-keep-days", "30"])).await;
    assert!(nothing.stdout.starts_with("nothing to prune"), "{nothing:?}");
    Arrivals::generated(0, 5).enter(&database, |_| true).await;
    let before = at(1_000_000).to_rfc3339();
    let counted = run(place.command_on(&test.url, &["prune", "--dry-run", "--before", &before])).await;
    let mut conn = test.connect().await;
    assert_eq!(count(&mut conn, "checkpoints").await, 0, "a dry run writes nothing");
    let done = run(place.command_on(&test.url, &["prune", "--before", &before])).await;
    let first_number = |text: &str| text.split(' ').next().unwrap().parse::<u64>().unwrap();
    assert_eq!(first_number(&counted.stdout), first_number(&done.stdout), "{counted:?} {done:?}");
    assert!(done.stdout.contains("history is whole from 2023-11-14T22:30:00.000Z on"), "{done:?}");
    let check =
        async || run(place.command_on(&test.url, &["check", "--ledger-keep-days", "30"])).await.stdout;
    let said = check().await;
    assert!(
        said.contains("warning  pruning: history is whole from 2023-11-14T22:30:00Z on, and entries are"),
        "{said}"
    );
    // Once more there is nothing left to do.
    let again = run(place.command_on(&test.url, &["prune", "--before", &before])).await;
    assert!(again.stdout.starts_with("nothing to prune"), "{again:?}");
    // An earlier time takes nothing back.
    let earlier = run(place.command_on(&test.url, &["prune", "--before", &at(10).to_rfc3339()])).await;
    assert_eq!(earlier.code, Some(0), "{earlier:?}");
    let until: i64 =
        sqlx::query_scalar("SELECT pruned_until_ms FROM prune_state").fetch_one(&mut conn).await.unwrap();
    assert_eq!(until, BASE_MS + 1_000_000);
    run(place.command_on(&test.url, &["prune", "--ledger-keep-days", "30"])).await;
    let said = check().await;
    assert!(said.contains("ok       pruning: ") && said.contains("; no entry is overdue"), "{said}");
    database.close().await;
}
