//! Partitions of the ledger: made ahead, attached without a long lock, and what the default one holds when
//! none could be made in time.

use group_mirror::store::errors::{Failure, classify};
use group_mirror::store::partitions::Tries;
use group_mirror::store::schema::MIGRATOR;
use group_mirror::store::{Database, partitions, schema};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

use crate::support::postgres::TestDatabase;
use crate::support::{Service, eventually, settings};

const WEEK: i64 = 7 * 24 * 60 * 60 * 1000;

/// Our schema without any partition but the default ones, as `sqlx migrate run` leaves it.
pub(crate) async fn without_partitions() -> TestDatabase {
    let test = TestDatabase::create_empty().await;
    MIGRATOR.run(&mut test.connect().await).await.unwrap();
    test
}

/// Entries with a user each, one every 30 s up to now.
async fn fill(conn: &mut PgConnection, entries: usize) {
    let fill = format!(
        "INSERT INTO ledger (sdk_app_id, group_id, time_ms, digest, command, received_at, source, outcome, body)
         SELECT 1, 'g' || n % 7, floor(extract(epoch FROM now()) * 1000)::bigint - n * 30000, substr(sha256(n::text::bytea), 1, 16), 'c', now(),
                'callback', 'applied', 'x'
           FROM generate_series(0, {entries} - 1) n;
         INSERT INTO ledger_people (sdk_app_id, group_id, user_id, time_ms, digest, parts)
         SELECT sdk_app_id, group_id, 'u', time_ms, digest, 2 FROM ledger"
    );
    conn.execute(AssertSqlSafe(fill)).await.unwrap();
}

/// The same from the Monday of this week on, or back, in other steps.
async fn fill_from_monday(conn: &mut PgConnection, entries: usize, step_ms: i64) {
    let fill = format!(
        "INSERT INTO ledger (sdk_app_id, group_id, time_ms, digest, command, received_at, source, outcome, body)
         SELECT 1, 'g' || n % 7, extract(epoch FROM date_trunc('week', now(), 'UTC'))::bigint * 1000 + n * {step_ms}::bigint,
                substr(sha256(n::text::bytea), 1, 16), 'c', now(), 'callback', 'applied', 'x'
           FROM generate_series(1, {entries}) n;
         INSERT INTO ledger_people (sdk_app_id, group_id, user_id, time_ms, digest, parts)
         SELECT sdk_app_id, group_id, 'u', time_ms, digest, 2 FROM ledger"
    );
    conn.execute(AssertSqlSafe(fill)).await.unwrap();
}

/// Every row of both tables, in one text.
async fn everything(conn: &mut PgConnection) -> String {
    let rows = "SELECT md5(string_agg(line, E'\\n' ORDER BY line)) FROM (
        SELECT l::text AS line FROM ledger l UNION ALL SELECT p::text FROM ledger_people p) r";
    sqlx::query_scalar(rows).fetch_one(conn).await.unwrap()
}

type Bounds = Vec<(String, Option<i64>, Option<i64>)>;

pub(crate) async fn bounds(conn: &mut PgConnection, table: &str) -> Bounds {
    let bounds = "SELECT part, begin_ms, end_ms FROM ledger_partition_bounds($1) WHERE end_ms IS NOT NULL ORDER BY end_ms";
    sqlx::query_as(bounds).bind(table).fetch_all(conn).await.unwrap()
}

/// Asserts that the partitions of both tables are cut alike, leave no hole, and reach four weeks ahead.
pub(crate) async fn assert_complete(conn: &mut PgConnection) -> Bounds {
    let ledger = bounds(conn, "ledger").await;
    let cuts = |bounds: &Bounds| bounds.iter().map(|(_, begin, end)| (*begin, *end)).collect::<Vec<_>>();
    assert_eq!(cuts(&ledger), cuts(&bounds(conn, "ledger_people").await));
    assert_eq!(ledger[0].1, None, "the first one has everything before");
    assert!(ledger.windows(2).all(|pair| pair[0].2 == pair[1].1), "{ledger:?}");
    let days = partitions::ahead(conn).await.unwrap().num_days();
    assert!((28..=35).contains(&days), "{days}");
    ledger
}

async fn count(conn: &mut PgConnection, table: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(format!("SELECT count(*) FROM {table}"))).fetch_one(conn).await.unwrap()
}

/// Takes away what lies ahead of this week, as if none had been made for a month.
pub(crate) async fn drop_weeks_ahead(conn: &mut PgConnection) {
    for table in ["ledger", "ledger_people"] {
        for (part, begin, _) in bounds(conn, table).await {
            let now = "SELECT floor(extract(epoch FROM now()) * 1000)::bigint";
            let now: i64 = sqlx::query_scalar(now).fetch_one(&mut *conn).await.unwrap();
            if begin.is_some_and(|begin| begin > now) {
                conn.execute(AssertSqlSafe(format!("DROP TABLE {part}"))).await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn migrate_makes_partitions_of_a_week_from_the_past_to_four_weeks_ahead_and_the_service_goes_on() {
    let test = TestDatabase::create().await;
    let mut conn = test.connect().await;
    let made = assert_complete(&mut conn).await;
    assert!(made.iter().skip(1).all(|(_, begin, end)| end.unwrap() - begin.unwrap() == WEEK), "{made:?}");
    assert!(
        made.iter().all(|(_, _, end)| end.unwrap() % WEEK == 4 * WEEK / 7),
        "weeks end on Mondays: {made:?}"
    );
    drop_weeks_ahead(&mut conn).await;
    assert!(partitions::ahead(&mut conn).await.unwrap().num_days() < 7);
    let service = Service::start(&settings(&test.url)).await.unwrap();
    let made_again = eventually(async || {
        let mut conn = test.connect().await;
        bounds(&mut conn, "ledger_people").await.len() == made.len()
    });
    assert!(made_again.await);
    assert_eq!(assert_complete(&mut conn).await, made);
    service.stop().await;
}

#[tokio::test]
async fn a_partition_has_the_settings_of_an_append_only_table_and_the_keys_of_the_ledger() {
    let test = TestDatabase::create().await;
    let mut conn = test.connect().await;
    let odd: Vec<String> = sqlx::query_scalar(
        "SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
          WHERE i.inhparent IN ('ledger'::regclass, 'ledger_people'::regclass)
            AND (NOT c.reloptions @> '{autovacuum_vacuum_insert_scale_factor=0,autovacuum_vacuum_insert_threshold=100000,autovacuum_freeze_min_age=0}'
                 OR (SELECT count(*) FROM pg_index x WHERE x.indrelid = c.oid)
                    <> (SELECT count(*) FROM pg_index x WHERE x.indrelid = i.inhparent)
                 OR obj_description(c.oid, 'pg_class') IS NULL)",
    )
    .fetch_all(&mut conn)
    .await
    .unwrap();
    assert_eq!(odd, Vec::<String>::new());
}

#[tokio::test]
async fn a_few_entries_of_the_default_partition_are_moved_when_theirs_is_made() {
    let test = without_partitions().await;
    let mut conn = test.connect().await;
    fill(&mut conn, 400).await;
    let before = everything(&mut conn).await;
    assert_eq!(count(&mut conn, "ledger_default").await, 400);
    partitions::make_ahead(&mut conn, Tries::Several).await.unwrap();
    assert_complete(&mut conn).await;
    assert_eq!(count(&mut conn, "ledger_default").await + count(&mut conn, "ledger_people_default").await, 0);
    assert_eq!(everything(&mut conn).await, before);
    // A repeat of any of them is one.
    let again = "INSERT INTO ledger SELECT * FROM ledger ON CONFLICT (sdk_app_id, group_id, time_ms, digest) DO NOTHING";
    assert_eq!(conn.execute(again).await.unwrap().rows_affected(), 0);
}

/// The file and the place in it of each row: a row that is moved has another one.
const PLACES: &str = "
SELECT md5(string_agg(concat_ws(' ', pg_relation_filenode(tableoid), ctid), ',' ORDER BY time_ms)) FROM ledger";

#[tokio::test]
async fn many_entries_of_the_default_partition_are_not_moved_it_becomes_their_partition() {
    // Before this week, where no partition begins before them, and in it.
    for (step_ms, part) in [(-1000, "ledger_past"), (1000, "ledger_2")] {
        let test = without_partitions().await;
        let mut conn = test.connect().await;
        fill_from_monday(&mut conn, 12_003, step_ms).await;
        let before = everything(&mut conn).await;
        let places: String = sqlx::query_scalar(PLACES).fetch_one(&mut conn).await.unwrap();
        partitions::make_ahead(&mut conn, Tries::Several).await.unwrap();
        let made = assert_complete(&mut conn).await;
        let theirs = made.iter().find(|(name, ..)| name.starts_with(part)).unwrap();
        assert_eq!(count(&mut conn, &theirs.0).await, 12_003);
        assert_eq!(everything(&mut conn).await, before);
        assert_eq!(sqlx::query_scalar::<_, String>(PLACES).fetch_one(&mut conn).await.unwrap(), places);
        let bound = "SELECT count(*) FROM pg_constraint WHERE conname LIKE '%\\_bound'";
        assert_eq!(sqlx::query_scalar::<_, i64>(bound).fetch_one(&mut conn).await.unwrap(), 0);
        // A month later, with as many behind the last partition.
        drop_weeks_ahead(&mut conn).await;
        let later = format!(
            "UPDATE ledger SET time_ms = time_ms + {WEEK}::bigint * 4;
             UPDATE ledger_people SET time_ms = time_ms + {WEEK}::bigint * 4"
        );
        conn.execute(AssertSqlSafe(later)).await.unwrap();
        let before = everything(&mut conn).await;
        assert_eq!(count(&mut conn, "ledger_default").await, 12_003);
        partitions::make_ahead(&mut conn, Tries::Several).await.unwrap();
        assert_complete(&mut conn).await;
        assert_eq!(everything(&mut conn).await, before);
        assert_eq!(count(&mut conn, "ledger_default").await, 0);
    }
}

/// As `PLACES`, of the other table.
const PLACES_OF_PEOPLE: &str = "
SELECT md5(string_agg(concat_ws(' ', pg_relation_filenode(tableoid), ctid), ',' ORDER BY time_ms, user_id)) FROM ledger_people";

#[tokio::test]
async fn of_few_entries_with_many_users_the_entries_are_moved_and_the_rows_of_people_are_not() {
    // Before this week, where the cut of the ledger is over, and in it.
    for step_ms in [-1000, 1000] {
        let test = without_partitions().await;
        let mut conn = test.connect().await;
        fill_from_monday(&mut conn, 100, step_ms).await;
        let more = "INSERT INTO ledger_people (sdk_app_id, group_id, user_id, time_ms, digest, parts)
                    SELECT sdk_app_id, group_id, 'u' || n, time_ms, digest, 2 FROM ledger, generate_series(1, 120) n";
        conn.execute(more).await.unwrap();
        let before = everything(&mut conn).await;
        let places: String = sqlx::query_scalar(PLACES_OF_PEOPLE).fetch_one(&mut conn).await.unwrap();
        partitions::make_ahead(&mut conn, Tries::Several).await.unwrap();
        assert_eq!(everything(&mut conn).await, before);
        assert_eq!(
            count(&mut conn, "ledger_default").await + count(&mut conn, "ledger_people_default").await,
            0
        );
        assert_eq!(
            sqlx::query_scalar::<_, String>(PLACES_OF_PEOPLE).fetch_one(&mut conn).await.unwrap(),
            places
        );
        // Without a hole, and cut where the ledger is.
        let (ledger, people) = (bounds(&mut conn, "ledger").await, bounds(&mut conn, "ledger_people").await);
        assert!(people.windows(2).all(|pair| pair[0].2 == pair[1].1) && people[0].1.is_none(), "{people:?}");
        assert!(
            people.iter().all(|(_, _, end)| ledger.iter().any(|of| of.2 == *end)),
            "{people:?} {ledger:?}"
        );
        assert_eq!(people.last().unwrap().2, ledger.last().unwrap().2);
    }
}

#[tokio::test]
async fn an_entry_of_a_year_ahead_keeps_the_default_partition_as_it_is_and_the_error_says_what_to_do() {
    let test = without_partitions().await;
    let mut conn = test.connect().await;
    fill(&mut conn, 10_003).await;
    let wrong_clock = format!(
        "UPDATE ledger SET time_ms = time_ms + {WEEK}::bigint * 60 WHERE time_ms = (SELECT max(time_ms) FROM ledger)"
    );
    conn.execute(AssertSqlSafe(wrong_clock)).await.unwrap();
    let refused = partitions::make_ahead(&mut conn, Tries::Several).await.unwrap_err().to_string();
    assert!(refused.contains("correct the clock that gave it this time, and the entry"), "{refused}");
    assert_eq!(count(&mut conn, "ledger_default").await, 10_003);
}

#[tokio::test]
async fn a_default_partition_whose_bounds_were_left_behind_takes_entries_of_any_time_again() {
    let test = without_partitions().await;
    let mut conn = test.connect().await;
    let left =
        "ALTER TABLE ledger_default ADD CONSTRAINT ledger_default_bound CHECK (time_ms < 1000) NOT VALID";
    conn.execute(left).await.unwrap();
    let insert = "INSERT INTO ledger (sdk_app_id, group_id, time_ms, digest, command, received_at, source, outcome, body)
                  VALUES (1, 'g', 5000, substr(sha256('x'), 1, 16), 'c', now(), 'callback', 'applied', 'x')";
    let refused = conn.execute(insert).await.unwrap_err();
    assert_eq!(classify(&refused), Failure::Retry, "{refused}");
    let steps = partitions::make_ahead(&mut conn, Tries::Several).await.unwrap();
    assert_eq!(steps[0], "ledger_default takes entries of any time again");
    assert_complete(&mut conn).await;
    conn.execute(insert).await.unwrap();
}

#[tokio::test]
async fn makers_that_come_at_once_make_each_partition_once() {
    let test = without_partitions().await;
    fill(&mut test.connect().await, 12_000).await;
    let makers = (0..6).map(|_| async {
        let mut conn = test.connect().await;
        partitions::make_ahead(&mut conn, Tries::Several).await.unwrap().len()
    });
    let made: Vec<usize> = futures_util::future::join_all(makers).await;
    let mut conn = test.connect().await;
    assert_complete(&mut conn).await;
    let alone = without_partitions().await;
    fill(&mut alone.connect().await, 12_000).await;
    let steps = partitions::make_ahead(&mut alone.connect().await, Tries::Several).await.unwrap();
    assert_eq!(made.iter().sum::<usize>(), steps.len());
}

/// The lock of a reader that takes its time: writers must not queue behind one who waits for it.
#[tokio::test]
async fn a_maker_that_waits_for_a_reader_holds_up_no_writer_and_succeeds_when_the_reader_has_ended() {
    let test = TestDatabase::create().await;
    let (mut conn, mut reader, mut writer) =
        (test.connect().await, test.connect().await, test.connect().await);
    drop_weeks_ahead(&mut conn).await;
    reader.execute("BEGIN; SELECT count(*) FROM ledger").await.unwrap();
    let url = test.url.clone();
    let maker = tokio::spawn(async move {
        let mut conn = PgConnection::connect(&url).await.unwrap();
        conn.execute("SELECT ledger_partition_step()").await
    });
    let waits =
        "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'ledger_default'::regclass)";
    let mut waited = false;
    while !maker.is_finished() {
        waited |= sqlx::query_scalar::<_, bool>(waits).fetch_one(&mut conn).await.unwrap();
        // Fails at once where it would have to wait.
        writer.execute("BEGIN; SET LOCAL lock_timeout = '1ms'").await.unwrap();
        fill_one(&mut writer).await;
        writer.execute("ROLLBACK").await.unwrap();
    }
    assert!(waited, "the maker has waited");
    let refused = maker.await.unwrap().unwrap_err();
    assert_eq!(classify(&refused), Failure::TimedOut, "{refused}");
    // The schema is up to date all the same.
    let pools = Database::new(&test.url).unwrap();
    assert_eq!(schema::migrate(&pools).await.unwrap(), 0);
    assert!(partitions::ahead(&mut conn).await.unwrap().num_days() < 7);
    pools.close().await;
    reader.execute("ROLLBACK").await.unwrap();
    partitions::make_ahead(&mut conn, Tries::Several).await.unwrap();
    assert_complete(&mut conn).await;
}

async fn fill_one(conn: &mut PgConnection) {
    conn.execute(
        "INSERT INTO ledger (sdk_app_id, group_id, time_ms, digest, command, received_at, source, outcome, body)
         VALUES (1, 'g', floor(extract(epoch FROM now()) * 1000)::bigint, substr(sha256('one'), 1, 16), 'c', now(), 'callback', 'applied', 'x')",
    )
    .await
    .unwrap();
}

/// True while a session waits for a lock on the ledger or on its default partition.
pub(crate) async fn waits_for_the_ledger(test: &TestDatabase) -> bool {
    let waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted
                                   AND relation IN ('ledger'::regclass, 'ledger_default'::regclass))";
    sqlx::query_scalar(waits).fetch_one(&mut test.connect().await).await.unwrap()
}

/// A statement is planned before it takes its snapshot: where it found its partitions before entries move and reads them
/// afterwards, it would find the moved ones nowhere.
#[tokio::test]
async fn a_statement_that_comes_while_entries_are_moved_finds_all_of_them() {
    let test = without_partitions().await;
    let (mut conn, mut maker) = (test.connect().await, test.connect().await);
    fill(&mut conn, 10).await;
    // The past, then this week, uncommitted.
    conn.execute("SELECT ledger_partition_step()").await.unwrap();
    maker.execute("BEGIN; SELECT ledger_partition_step()").await.unwrap();
    let url = test.url.clone();
    let reading = tokio::spawn(async move {
        let mut conn = PgConnection::connect(&url).await.unwrap();
        count(&mut conn, "ledger").await
    });
    assert!(eventually(async || waits_for_the_ledger(&test).await).await);
    maker.execute("COMMIT").await.unwrap();
    assert_eq!(reading.await.unwrap(), 10);
    assert_eq!(count(&mut conn, "ledger_default").await, 0, "they were moved");
}

#[tokio::test]
async fn an_entry_on_its_way_to_the_default_partition_finds_the_one_that_is_attached_meanwhile() {
    let test = without_partitions().await;
    let (mut conn, mut maker) = (test.connect().await, test.connect().await);
    // The past, then this week, uncommitted.
    conn.execute("SELECT ledger_partition_step()").await.unwrap();
    maker.execute("BEGIN; SELECT ledger_partition_step()").await.unwrap();
    let url = test.url.clone();
    let writing = tokio::spawn(async move {
        let mut conn = PgConnection::connect(&url).await.unwrap();
        let insert = "INSERT INTO ledger (sdk_app_id, group_id, time_ms, digest, command, received_at, source, outcome, body)
             VALUES (1, 'late', floor(extract(epoch FROM now()) * 1000)::bigint, substr(sha256('l'), 1, 16), 'c', now(), 'callback', 'applied', 'x')";
        let first = conn.execute(insert).await;
        (first, conn.execute(insert).await)
    });
    assert!(eventually(async || waits_for_the_ledger(&test).await).await);
    maker.execute("COMMIT").await.unwrap();
    let (first, again) = writing.await.unwrap();
    let refused = first.unwrap_err();
    assert_eq!(classify(&refused), Failure::Retry, "no fault of the data: {refused}");
    again.unwrap();
    assert_eq!(count(&mut conn, "ledger_default").await, 0);
}

#[tokio::test]
async fn an_entry_that_comes_between_the_look_at_the_default_partition_and_its_lock_is_moved_by_the_next_try()
{
    let test = without_partitions().await;
    let (mut conn, mut writer) = (test.connect().await, test.connect().await);
    conn.execute("SELECT ledger_partition_step()").await.unwrap();
    writer.execute("BEGIN").await.unwrap();
    fill_one(&mut writer).await;
    let url = test.url.clone();
    let making = tokio::spawn(async move {
        let mut conn = PgConnection::connect(&url).await.unwrap();
        partitions::make_ahead(&mut conn, Tries::Several).await
    });
    assert!(eventually(async || waits_for_the_ledger(&test).await).await);
    writer.execute("COMMIT").await.unwrap();
    making.await.unwrap().unwrap();
    assert_complete(&mut conn).await;
    assert_eq!((count(&mut conn, "ledger").await, count(&mut conn, "ledger_default").await), (1, 0));
}

#[tokio::test]
async fn a_row_in_the_way_of_a_new_partition_is_a_conflict_and_one_that_does_not_fit_a_bound_is_none() {
    let test = without_partitions().await;
    let mut conn = test.connect().await;
    fill_one(&mut conn).await;
    conn.execute("CREATE TABLE early (LIKE ledger INCLUDING ALL)").await.unwrap();
    let attach = "ALTER TABLE ledger ATTACH PARTITION early FOR VALUES FROM (MINVALUE) TO (99999999999999)";
    let refused = conn.execute(attach).await.unwrap_err();
    assert_eq!(classify(&refused), Failure::Retry, "{refused}");
    let bound =
        "ALTER TABLE ledger_default ADD CONSTRAINT ledger_default_bound CHECK (time_ms < 5) NOT VALID";
    conn.execute(bound).await.unwrap();
    let look = "ALTER TABLE ledger_default VALIDATE CONSTRAINT ledger_default_bound";
    let refused = conn.execute(look).await.unwrap_err();
    assert_eq!(classify(&refused), Failure::Data, "to read all of it again would not help: {refused}");
}
