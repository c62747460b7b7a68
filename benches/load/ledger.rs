//! What a ledger of a year costs the write path: the same load into a ledger of 20,000,000 entries, into the week of one of ten
//! times as many, and into an empty one, in turn.
//!
//! A callback of now touches the partition of this week and no other (`decisions/0027`), so what grows with the ledger is the size of
//! that partition and the number of partitions. The year has `LOAD_LEDGER_ROWS` entries (20,000,000), an equal part in each of its 52
//! weeks. A ledger of ten times as many does not fit the disk; its current week does: the third database has as many partitions,
//! and in this week ten times the entries of the year's: its key and its index of people are 2 to 4 times as large as `shared_buffers`.
//!
//! Three of four callbacks are joins, the others creates; groups and users come in no order. The mirror tables are emptied before each
//! measurement, so that the ledger and its index of people are all that differs. Filled by SQL, vacuumed and frozen, as they are
//! after a while. The private server gets `max_wal_size` 4 GB, as `docs/operations.md` says: without it the fill is one checkpoint
//! after the other. A warm-up of six measurements comes first, because a page is written whole into the WAL when it is first
//! touched after a checkpoint; the ratio right after a checkpoint is printed beside it.
//!
//! `LOAD_PARTS=ledger cargo bench --bench load` prints the table. The fill needs 1.2 GB of disk for each million entries, and
//! 4 GB for the WAL.

use std::net::SocketAddr;
use std::str::FromStr as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use group_mirror::app::RunningService;
use group_mirror::store::{Database, schema};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _};

use super::support::{Scene, median, per_second, service, setting};
use super::{load, rounds, seconds};

/// As in the table of rates.
const CONNECTIONS: u32 = 64;

/// The weeks of a year, this one included.
const WEEKS: u64 = 52;

/// How many times as long as a measurement the warm-up takes.
const WARM_UP: u32 = 6;

/// A database with its service.
struct Side {
    what: String,
    database: Database,
    running: RunningService,
    is_emptied: bool,
    rates: Vec<f64>,
}

pub(super) async fn measure(scene: &Scene) {
    let rows = setting("LOAD_LEDGER_ROWS", 20_000_000);
    let week = rows / WEEKS;
    let mut conn = scene.database.connect().await.unwrap();
    if std::env::var("BENCH_DATABASE_URL").is_err() {
        for set in ["ALTER SYSTEM SET max_wal_size = '4GB'", "ALTER SYSTEM SET checkpoint_timeout = '30min'"]
        {
            conn.execute(set).await.unwrap();
        }
        conn.execute("SELECT pg_reload_conf()").await.unwrap();
    }
    let mut sides = Vec::new();
    for (name, weeks, each) in [("nothing", 0, 0), ("year", WEEKS, week), ("week", 1, 10 * week)] {
        let begun = Instant::now();
        let (url, database) = new_database(scene, name).await;
        if weeks > 0 {
            fill(&database, weeks, each).await;
        }
        let megabytes = size(&database).await;
        let what = match weeks {
            0 => "empty ledger".to_owned(),
            1 => format!("{each} entries in this week"),
            _ => format!("{} entries in {WEEKS} weeks", weeks * each),
        };
        println!("{what}: {megabytes} MB with indexes, filled in {:.0} s", begun.elapsed().as_secs_f64());
        let running = service(&url, &scene.dir.join(format!("data-{name}"))).await;
        sides.push(Side { what, database, running, is_emptied: weeks == 0, rates: Vec::new() });
    }
    conn.execute("CHECKPOINT").await.unwrap();
    for side in &sides {
        side.measure(seconds() * WARM_UP).await;
    }
    let all = rounds() * 2;
    for round in 0..all {
        for at in 0..sides.len() {
            // Each order as often as the other: a disk that fills favours the first.
            let at = if round % 2 == 0 { at } else { sides.len() - 1 - at };
            let rate = sides[at].measure(seconds()).await;
            sides[at].rates.push(rate);
        }
    }
    let mut after_checkpoint = Vec::new();
    for side in &sides {
        conn.execute("CHECKPOINT").await.unwrap();
        after_checkpoint.push(side.measure(seconds()).await);
    }
    let empty = median(sides[0].rates.clone());
    println!(
        "\n| Joins and creates of now, 64 connections | callbacks/s | ÷ empty | right after a checkpoint |\n|---|---|---|---|"
    );
    for (side, after) in sides.iter().zip(&after_checkpoint) {
        let (rate, after) = (median(side.rates.clone()), after / after_checkpoint[0]);
        println!("| {} | {rate:.0} | {:.2} | {after:.2} |", side.what, rate / empty);
    }
    for side in &sides[1..] {
        let ratios: Vec<f64> =
            side.rates.iter().zip(&sides[0].rates).map(|(rate, empty)| rate / empty).collect();
        println!("\n{} ÷ empty, each round: {ratios:.2?}; median {:.2}", side.what, median(ratios.clone()));
    }
    for (side, name) in sides.into_iter().zip(["nothing", "year", "week"]) {
        side.running.stop().await;
        side.database.close().await;
        conn.execute(AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"))).await.unwrap();
    }
    conn.close().await.unwrap();
}

impl Side {
    /// The rate at which callbacks come into the tables, for so long.
    async fn measure(&self, seconds: Duration) -> f64 {
        let mut conn = self.database.connect().await.unwrap();
        let mirror =
            "TRUNCATE groups, group_members, group_user_defined_fields, group_attributes, group_topics";
        conn.execute(mirror).await.unwrap();
        if self.is_emptied {
            conn.execute("TRUNCATE ledger, ledger_people").await.unwrap();
        }
        let newest = "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM ledger_position_seq";
        let newest: i64 = sqlx::query_scalar(newest).fetch_one(&mut conn).await.unwrap();
        let begun = Instant::now();
        let answered = send(self.running.callback_addr, seconds).await;
        // An answer may mean the spool: what counts is in the ledger.
        let entered = "SELECT count(*) FROM ledger WHERE position > $1";
        while u64::try_from(
            sqlx::query_scalar::<_, i64>(entered).bind(newest).fetch_one(&mut conn).await.unwrap(),
        )
        .unwrap()
            < answered
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let rate = per_second(answered, begun.elapsed());
        conn.close().await.unwrap();
        rate
    }
}

/// Sends for so long; answers how many callbacks were taken.
async fn send(addr: SocketAddr, seconds: Duration) -> u64 {
    let end = Instant::now() + seconds;
    load(addr, CONNECTIONS, move || (Instant::now() < end).then(body_of_now)).await.0
}

/// A join of another user, or the create of another group, at this moment.
fn body_of_now() -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    if number.is_multiple_of(4) {
        return format!(
            r#"{{"CallbackCommand":"Group.CallbackAfterCreateGroup","EventTime":{now},"GroupId":"@TGS#2{mixed:016X}","MemberList":[{{"Member_Account":"boris-{}"}}],"Name":"River walkers {number}","Operator_Account":"ana_{}","Owner_Account":"ana_{}","Type":"Public"}}"#,
            mixed % 99_991,
            mixed % 9_973,
            mixed % 9_973,
        );
    }
    format!(
        r#"{{"CallbackCommand":"Group.CallbackAfterNewMemberJoin","EventTime":{now},"GroupId":"@TGS#2J{:015X}","JoinType":"Apply","NewMemberList":[{{"Member_Account":"user-{mixed:020}"}}],"Operator_Account":"user-{mixed:020}","Type":"Public"}}"#,
        mixed >> 50,
    )
}

/// A database with our schema, and with partitions for each week of a year.
async fn new_database(scene: &Scene, name: &str) -> (String, Database) {
    let url = PgConnectOptions::from_str(&scene.url).unwrap().database(name).to_url_lossy().to_string();
    let mut conn = scene.database.connect().await.unwrap();
    conn.execute(AssertSqlSafe(format!("DROP DATABASE IF EXISTS {name}"))).await.unwrap();
    conn.execute(AssertSqlSafe(format!("CREATE DATABASE {name} TEMPLATE template0"))).await.unwrap();
    conn.close().await.unwrap();
    let database = Database::new(&url).unwrap();
    schema::migrate(&database).await.unwrap();
    let mut conn = database.connect().await.unwrap();
    conn.execute(CUT).await.unwrap();
    conn.close().await.unwrap();
    (url, database)
}

/// Cuts the partition of the past into the weeks of a year, as they are where the service ran all the time.
const CUT: &str = "
DO $$
DECLARE
    week CONSTANT bigint := 7 * 24 * 60 * 60 * 1000;
    parent text; part text; end_ms bigint; from_ms bigint;
BEGIN
    FOREACH parent IN ARRAY ARRAY['ledger', 'ledger_people'] LOOP
        SELECT b.end_ms INTO end_ms FROM ledger_partition_bounds(parent) b WHERE b.begin_ms IS NULL AND b.end_ms IS NOT NULL;
        EXECUTE format('DROP TABLE %I', parent || '_past');
        from_ms := (extract(epoch FROM date_trunc('week', now(), 'UTC')) * 1000)::bigint - 51 * week;
        PERFORM ledger_new_partition(parent, parent || '_past', 'Partition of the past.');
        EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (MINVALUE) TO (%s)', parent, parent || '_past', from_ms);
        WHILE from_ms < end_ms LOOP
            part := parent || to_char(to_timestamp(from_ms / 1000) AT TIME ZONE 'UTC', '_YYYYMMDD');
            PERFORM ledger_new_partition(parent, part, 'Partition of a week.');
            EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)', parent, part, from_ms, from_ms + week);
            from_ms := from_ms + week;
        END LOOP;
    END LOOP;
END $$";

/// Joins of one week, `BACK` weeks ago: the n-th of them after so much of the week as there has been. Few groups have many of the
/// entries. The digest is as long as that of an entry of now.
const FILL: &str = r#"
WITH entered AS (
    INSERT INTO ledger (sdk_app_id, group_id, time_ms, digest, command, event_time_ms, received_at, source, outcome, operator,
                        users, user_count, body)
    SELECT 1400000001, group_id, ms, substr(sha256((n::text || group_id)::bytea), 1, DIGEST_BYTES),
           'Group.CallbackAfterNewMemberJoin', ms, to_timestamp(ms / 1000.0), 'callback', 'applied', id, ARRAY[id], 1,
           convert_to('{"CallbackCommand":"Group.CallbackAfterNewMemberJoin","EventTime":' || ms || ',"GroupId":"' || group_id
               || '","JoinType":"Apply","NewMemberList":[{"Member_Account":"' || id || '"}],"Operator_Account":"' || id
               || '","Type":"Public"}', 'UTF8')
      FROM (SELECT n, monday + (n::numeric * span / EACH)::bigint AS ms, 'user-' || lpad((n * 7919 % 1000003)::text, 20, '0') AS id,
                   '@TGS#2' || upper(left(md5(floor(power(random(), 3) * GROUPS)::text), 16)) AS group_id
              FROM generate_series(1::bigint, EACH) n,
                   (SELECT monday - BACK * 604800000::bigint AS monday, CASE BACK WHEN 0 THEN now_ms - monday ELSE 604799000 END AS span
                      FROM (SELECT (extract(epoch FROM date_trunc('week', now(), 'UTC')) * 1000)::bigint AS monday,
                                   (extract(epoch FROM now()) * 1000)::bigint AS now_ms) t) w) e
    RETURNING sdk_app_id, group_id, time_ms, digest, operator)
INSERT INTO ledger_people (sdk_app_id, group_id, user_id, time_ms, digest, parts)
SELECT sdk_app_id, group_id, operator, time_ms, digest, 3 FROM entered"#;

/// Fills so many weeks up to now, two at a time.
async fn fill(database: &Database, weeks: u64, each: u64) {
    let filled = AtomicU64::new(0);
    let filler = async || {
        let mut conn = database.connect().await.unwrap();
        let bytes = super::support::decoded(body_of_now()).digest.as_bytes().len();
        loop {
            let back = filled.fetch_add(1, Ordering::Relaxed);
            if back >= weeks {
                break conn.close().await.unwrap();
            }
            let groups = (each * WEEKS / 200).max(1);
            let fill = [("DIGEST_BYTES", bytes as u64), ("BACK", back), ("EACH", each), ("GROUPS", groups)]
                .into_iter()
                .fold(FILL.to_owned(), |text, (name, value)| text.replace(name, &value.to_string()));
            conn.execute(AssertSqlSafe(fill)).await.unwrap();
        }
    };
    tokio::join!(filler(), filler());
    let mut conn = database.connect().await.unwrap();
    for table in ["ledger", "ledger_people"] {
        conn.execute(AssertSqlSafe(format!("VACUUM (FREEZE, ANALYZE) {table}"))).await.unwrap();
    }
    conn.close().await.unwrap();
}

/// Of ledger and index of people with their indexes, in MB.
async fn size(database: &Database) -> i64 {
    let mut conn = database.connect().await.unwrap();
    let size = "SELECT (sum(pg_total_relation_size(p.relid)) / 1048576)::bigint
                  FROM (VALUES ('ledger'), ('ledger_people')) t (name), pg_partition_tree(t.name::regclass) p";
    let megabytes = sqlx::query_scalar(size).fetch_one(&mut conn).await.unwrap();
    conn.close().await.unwrap();
    megabytes
}
