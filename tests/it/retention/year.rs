//! A year in small: a ledger of 400 days in partitions of a week, with everything that happens to it in its life.
//!
//! `YEAR_ROWS` sets how many callbacks are generated (2,000) and `YEAR_SEED` which. `YEAR_CONTROL=0` leaves out the second mirror,
//! which is never pruned and gets everything in another order. A large year wants a release build, and prints what each step took:
//!
//! ```sh
//! YEAR_ROWS=1000000 cargo test --release --locked --test it -- --nocapture retention::year
//! ```

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use group_mirror::ingest::{commit, commit_snapshots};
use group_mirror::model::Millis;
use group_mirror::retention::{self, PruneWanted};
use group_mirror::store::feed::FeedPlace;
use group_mirror::store::{Database, lines};
use sqlx::AssertSqlSafe;
use sqlx::postgres::PgConnection;

use super::erasing::erased_at;
use super::generated_year::{Arrival, DAY_MS, DAYS, END_MS, GeneratedYear, LATE_PARTS};
use super::year_followers::{LiveFollower, OldCursor};
use crate::rules::laws::setting;
use crate::support::histories::BASE_MS;
use crate::support::postgres::TestDatabase;
use crate::support::process::{Place, Process};
use crate::support::{APP, Service, settings};

/// Callbacks are entered by so many writers at once.
const WRITERS: usize = 4;

/// In how many parts the year arrives.
const PARTS: i64 = 8;

/// The most memory of a verification, whatever the size of the ledger, in kB.
const VERIFY_KB_MAX: u64 = 192 * 1024;

/// Cuts the partition of the past into weeks, as if the service had run all the time. Both tables are empty.
const WEEKS: &str = "
DO $$
DECLARE
    week CONSTANT bigint := 7 * 24 * 60 * 60 * 1000;
    parent text; part text; end_ms bigint; from_ms bigint;
BEGIN
    FOREACH parent IN ARRAY ARRAY['ledger', 'ledger_people'] LOOP
        SELECT b.end_ms INTO end_ms FROM ledger_partition_bounds(parent) b WHERE b.begin_ms IS NULL AND b.end_ms IS NOT NULL;
        EXECUTE format('DROP TABLE %I', parent || '_past');
        from_ms := (FIRST - 4 * week / 7) / week * week + 4 * week / 7;
        PERFORM ledger_new_partition(parent, parent || '_past', 'Partition of the past.');
        EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (MINVALUE) TO (%s)', parent, parent || '_past', from_ms);
        WHILE from_ms < end_ms LOOP
            part := parent || to_char(to_timestamp(from_ms / 1000) AT TIME ZONE 'UTC', '_YYYYMMDD');
            PERFORM ledger_new_partition(parent, part, 'Partition of a week.');
            EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)', parent, part, from_ms,
                           CASE WHEN from_ms > LAST THEN end_ms ELSE from_ms + week END);
            from_ms := CASE WHEN from_ms > LAST THEN end_ms ELSE from_ms + week END;
        END LOOP;
    END LOOP;
END $$";

/// What is known of an erasure: the hash of the id, the pseudonym, and when.
type Registration = (Vec<u8>, String, i64);

/// A mirror that everything is entered into.
struct Side {
    test: TestDatabase,
    database: Database,
}

impl Side {
    async fn start() -> Self {
        let test = TestDatabase::create().await;
        let weeks = WEEKS.replace("FIRST", &BASE_MS.to_string()).replace("LAST", &END_MS.to_string());
        sqlx::raw_sql(AssertSqlSafe(weeks)).execute(&mut test.connect().await).await.unwrap();
        Self { database: Database::new(&test.url).unwrap(), test }
    }

    /// One that knows erased persons by the same key.
    async fn start_like(other: &Self) -> Self {
        let side = Self::start().await;
        let mut conn = other.test.connect().await;
        let key = sqlx::query_scalar("SELECT key FROM erasure_state").fetch_one(&mut conn);
        let key: Vec<u8> = key.await.unwrap();
        let take = sqlx::query("UPDATE erasure_state SET key = $1").bind(key);
        take.execute(&mut side.test.connect().await).await.unwrap();
        side
    }

    /// Enters callbacks, in batches, by several writers at once.
    async fn enter(&self, generated: GeneratedYear, arrivals: Vec<Arrival>, batch: usize) {
        let arrivals = Arc::new(arrivals);
        let writers = (0..WRITERS).map(|writer| {
            let (database, arrivals) = (self.database.clone(), Arc::clone(&arrivals));
            tokio::spawn(async move {
                for batch in arrivals.chunks(batch).skip(writer).step_by(WRITERS) {
                    let mut left: Vec<_> = batch.iter().map(|arrival| generated.callback(*arrival)).collect();
                    // A conflict with the exchange of partitions is no loss: the callback is entered again.
                    while !left.is_empty() {
                        let done = commit(&database, &left).await;
                        let failed = left.into_iter().zip(done).filter(|(_, done)| done.is_err());
                        left = failed.map(|(callback, _)| callback).collect();
                    }
                }
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
    }

    /// Reads of one group in so many, as of a moment.
    async fn read(&self, generated: GeneratedYear, round: u64, one_in: u64, at_ms: i64) {
        let groups = (0..generated.groups).filter(|group| group % one_in == round % one_in);
        let mut waiting = Vec::new();
        for group in groups {
            waiting.extend(generated.reads(group, round, at_ms - 60_000));
            if waiting.len() >= 16 || group + one_in >= generated.groups {
                commit_snapshots(&self.database, &waiting, Millis::new(at_ms)).await.unwrap();
                waiting.clear();
            }
        }
    }

    /// Erases a person; answers the registration.
    async fn erase(&self, user: &str, at_ms: i64) -> Registration {
        let erased = erased_at(&self.database, user, Millis::new(at_ms), false).await;
        assert!(erased.after.is_nowhere(), "{erased:?}");
        let registered = "SELECT user_hash, pseudonym, erased_at_ms FROM erasures WHERE pseudonym = $1";
        let query = sqlx::query_as(registered).bind(erased.pseudonym.as_str());
        query.fetch_one(&mut self.test.connect().await).await.unwrap()
    }

    /// Registers a person as another mirror has: a pseudonym is drawn, and reads that name it have digests that follow
    /// from it. One who is erased again keeps it.
    async fn register(&self, (user_hash, pseudonym, at_ms): Registration) {
        let register = "INSERT INTO erasures (sdk_app_id, user_hash, pseudonym, erased_at_ms) VALUES ($1::bigint, $2, $3, $4)
                        ON CONFLICT DO NOTHING";
        let query = sqlx::query(register).bind(APP.parse::<i64>().unwrap()).bind(user_hash);
        query.bind(pseudonym).bind(at_ms).execute(&mut self.test.connect().await).await.unwrap();
    }

    async fn prune(&self, keep_days: i64, follower: Option<FeedPlace>) -> retention::Pruned {
        let before = chrono::DateTime::from_timestamp_millis(END_MS - keep_days * DAY_MS).unwrap();
        let wanted = PruneWanted { before, follower, forced: false };
        retention::prune(&self.database, &wanted, |_| {}).await.unwrap()
    }

    /// What the mirror holds: for each table how many rows, and a sum over them that does not depend on their order.
    async fn mirror(&self) -> Vec<(&'static str, i64, String)> {
        let mut conn = self.test.connect().await;
        let mut all = Vec::new();
        for table in lines::tables() {
            let sum = format!(
                "SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text FROM {} t",
                table.table
            );
            let (rows, sum) = sqlx::query_as(AssertSqlSafe(sum)).fetch_one(&mut conn).await.unwrap();
            all.push((table.table, rows, sum));
        }
        all
    }

    /// Some rows of a table that one mirror has and the other one has not.
    async fn beside(&self, other: &Self, table: &str) -> Vec<String> {
        let mut sides = Vec::new();
        for side in [self, other] {
            let rows = format!("SELECT t::text FROM {table} t");
            let mut conn = side.test.connect().await;
            let rows: Vec<String> =
                sqlx::query_scalar(AssertSqlSafe(rows)).fetch_all(&mut conn).await.unwrap();
            sides.push(rows.into_iter().collect::<std::collections::BTreeSet<_>>());
        }
        sides[0].symmetric_difference(&sides[1]).take(4).cloned().collect()
    }

    /// `replay` with these arguments succeeds; answers how long it took and its memory at most, in kB.
    async fn replayed(&self, args: &[&str]) -> (Duration, u64) {
        let (place, begun) = (Place::new(), Instant::now());
        let mut process = Process::start(place.command_on(&self.test.url, &[&["replay"], args].concat()));
        let status = format!("/proc/{}/status", process.pid());
        let mut most = 0;
        while !process.is_over() {
            let now = std::fs::read_to_string(&status).unwrap_or_default();
            let line = now.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let kb = line.and_then(|rest| rest.split_whitespace().next()).and_then(|kb| kb.parse().ok());
            most = most.max(kb.unwrap_or_default());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let took = begun.elapsed();
        let ended = process.ended().await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        (took, most)
    }
}

/// The year as it goes on.
struct Year {
    generated: GeneratedYear,
    pruned: Side,
    /// The same callbacks in another order, each once, and nothing pruned.
    control: Option<Side>,
    service: Service,
    follower: LiveFollower,
    /// What each step took.
    figures: String,
}

impl Year {
    async fn start() -> Self {
        let pruned = Side::start().await;
        let control =
            if setting("YEAR_CONTROL", 1) == 1 { Some(Side::start_like(&pruned).await) } else { None };
        let service = Service::start(&settings(&pruned.test.url)).await.unwrap();
        let follower = LiveFollower::start(&service);
        let generated = GeneratedYear::by_settings();
        Self { generated, pruned, control, service, follower, figures: String::new() }
    }

    async fn conn(&self) -> PgConnection {
        self.pruned.test.connect().await
    }

    /// Enters the same into both.
    async fn enter(&self, arrivals: Vec<Arrival>) {
        if let Some(control) = &self.control {
            let mut other = arrivals.clone();
            other.reverse();
            control.enter(self.generated, other, 61).await;
        }
        self.pruned.enter(self.generated, arrivals, 200).await;
    }

    /// Reads the same into both.
    async fn read(&self, round: u64, one_in: u64, at_ms: i64) {
        for side in self.control.iter().chain([&self.pruned]) {
            side.read(self.generated, round, one_in, at_ms).await;
        }
    }

    /// Erases users of two groups, of whom one is in many callbacks.
    async fn erase(&mut self, from: u64, step: &str) {
        let begun = Instant::now();
        let users = [(0, from), (3, from)].map(|(group, at)| self.generated.user(group, at));
        for user in &users {
            let registered = self.pruned.erase(user, END_MS + 30 * DAY_MS).await;
            if let Some(control) = &self.control {
                control.register(registered).await;
                control.erase(user, END_MS + 30 * DAY_MS).await;
            }
        }
        self.check(step, begun).await;
    }

    /// Asserts the laws after a step, and notes what it took.
    #[expect(clippy::print_stdout, reason = "a person waits for a large year")]
    async fn check(&mut self, step: &str, begun: Instant) {
        let took = begun.elapsed();
        self.follower.has_seen_each_once(&mut self.conn().await, step).await;
        if let Some(control) = &self.control {
            for (mine, theirs) in self.pruned.mirror().await.iter().zip(control.mirror().await) {
                if *mine != theirs {
                    panic!("{step}: {mine:?} {theirs:?} {:#?}", self.pruned.beside(control, mine.0).await);
                }
            }
        }
        let (verifying, kb) = self.pruned.replayed(&["--verify"]).await;
        assert!(kb < VERIFY_KB_MAX, "{step}: a verification took {kb} kB");
        let sizes = "SELECT count(*), (SELECT sum(pg_total_relation_size(relid))::bigint / 1048576 FROM pg_partition_tree('ledger')),
            pg_total_relation_size('checkpoints') / 1048576, (SELECT count(*) FROM group_members) FROM ledger";
        let (entries, ledger, checkpoints, members): (i64, i64, i64, i64) =
            sqlx::query_as(sizes).fetch_one(&mut self.conn().await).await.unwrap();
        writeln!(
            self.figures,
            "| {step} | {entries} | {ledger} | {checkpoints} | {members} | {:.1} | {:.1} | {} |",
            took.as_secs_f64(),
            verifying.as_secs_f64(),
            kb / 1024
        )
        .unwrap();
        println!("{}", self.figures.lines().last().unwrap_or_default());
    }

    /// The days go by, with reads now and then.
    async fn passes(&mut self) -> Vec<OldCursor> {
        let mut cursors = Vec::new();
        for part in 0..PARTS {
            let (begun, days) = (Instant::now(), part * DAYS / PARTS..(part + 1) * DAYS / PARTS);
            let end_ms = BASE_MS + days.end * DAY_MS;
            self.enter(self.generated.of_days(days.clone())).await;
            let round = u64::try_from(part).unwrap();
            self.read(round, u64::try_from(PARTS).unwrap(), end_ms).await;
            if part % 2 == 1 {
                self.check(&format!("days {} to {}", days.start, days.end), begun).await;
            } else {
                self.follower.has_seen_each_once(&mut self.conn().await, "between").await;
            }
            cursors.push(self.follower.cursor());
        }
        cursors
    }

    /// Prunes; the mirror stays what it is.
    async fn prune(&mut self, keep_days: i64, follower: Option<&OldCursor>) {
        let (before, begun) = (self.pruned.mirror().await, Instant::now());
        let done = self.pruned.prune(keep_days, follower.map(OldCursor::place)).await;
        assert!(done.entries > 0, "{done:?}");
        assert_eq!(self.pruned.mirror().await, before, "{done:?}");
        let behind = if follower.is_some() { ", but what a follower lacks" } else { "" };
        let step = format!(
            "prune to {keep_days} days{behind}: {} entries folded, {} stay, {} partitions, locked for {:.3} s",
            done.entries,
            done.staying,
            done.partitions,
            done.locked.as_secs_f64()
        );
        self.check(&step, begun).await;
    }

    /// Empties the mirror and folds checkpoints and ledger.
    async fn rebuild(&mut self) {
        let (before, begun) = (self.pruned.mirror().await, Instant::now());
        for table in lines::tables() {
            let empty = AssertSqlSafe(format!("DELETE FROM {}", table.table));
            sqlx::query(empty).execute(&mut self.conn().await).await.unwrap();
        }
        self.pruned.replayed(&[]).await;
        assert_eq!(self.pruned.mirror().await, before);
        self.check("rebuilt from nothing", begun).await;
    }

    /// Late callbacks, repeats and reads, of which all but the reads come while another run prunes.
    async fn goes_on(&mut self, part: usize, keep_days: i64) {
        let begun = Instant::now();
        let rest = u64::try_from(part).unwrap();
        let arrivals = [self.generated.late(part), self.generated.repeats(rest)].concat();
        let (done, ()) = tokio::join!(self.pruned.prune(keep_days, None), self.enter(arrivals));
        self.read(rest, 4, END_MS + i64::try_from(part + 1).unwrap() * DAY_MS).await;
        self.check(&format!("late, repeats, reads beside a run that folds {}", done.entries), begun).await;
    }
}

/// Aim: laws 4 and 6 for a ledger that lives for years. Method: one mirror gets a generated year as it comes, with late callbacks,
/// repeats, reads, erasures, and is pruned again and again; another one gets it in another order and is never pruned. After each
/// step both hold the same, `replay --verify` finds no difference, and a follower has seen each entry once.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "a person reads the report")]
async fn a_ledger_of_400_days_keeps_the_laws_through_late_callbacks_reads_erasures_and_prunes() {
    let mut year = Year::start().await;
    let cursors = year.passes().await;

    let begun = Instant::now();
    year.enter([year.generated.late(0), year.generated.earlier()].concat()).await;
    year.check("late callbacks into old days", begun).await;

    let (before, begun) = (year.pruned.mirror().await, Instant::now());
    year.pruned.enter(year.generated, year.generated.repeats(50), 200).await;
    assert_eq!(year.pruned.mirror().await, before, "repeats change nothing");
    year.check("a hundredth again", begun).await;

    let begun = Instant::now();
    year.read(20, 1, END_MS + DAY_MS).await;
    year.check("all groups read", begun).await;

    year.erase(0, "two persons erased").await;

    // One follower is behind since the first days, and the first run spares what it lacks.
    year.prune(300, Some(&cursors[0])).await;
    cursors[0].leads_on(&year.service, &mut year.conn().await).await;
    year.prune(300, None).await;
    year.goes_on(1, 250).await;
    year.prune(200, None).await;
    year.goes_on(2, 150).await;
    year.erase(2, "two more erased, from checkpoints as well").await;
    year.prune(100, None).await;
    year.goes_on(LATE_PARTS - 1, 100).await;
    let mut refused = 0;
    for cursor in &cursors {
        refused += usize::from(cursor.is_refused_by_rule(&year.service, &mut year.conn().await).await);
    }
    assert!((4..cursors.len()).contains(&refused), "{refused} of {} cursors are gone", cursors.len());

    year.rebuild().await;

    println!(
        "\n| Step | Entries | Ledger, MB | Checkpoints, MB | Member rows | Step, s | Verify, s | Verify, MB |\n\
         |---|---|---|---|---|---|---|---|\n{}",
        year.figures
    );
    year.follower.end().await;
    year.service.stop().await;
}
