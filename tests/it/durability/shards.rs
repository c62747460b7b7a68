//! Groups that are spread over shards: which one a group belongs to, that a batch stays within one, and that a shard whose
//! server is away holds up its own groups and no others. Hash partitions stand for shards; what Citus says of its own is
//! read from a table that looks like its catalogue.

use std::collections::BTreeSet;

use group_mirror::store::schema::MIGRATOR;
use group_mirror::store::shards::{KnownShards, Shards};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use crate::durability::isolation::{drained, metric, take};
use crate::durability::spool::create;
use crate::support::eventually;
use crate::support::mutate::Chance;
use crate::support::postgres::TestDatabase;
use crate::support::process::{Place, Process, run};

/// Partitions of `groups` in these tests.
const PARTS: usize = 8;

/// The end of the statement that makes `groups`, in its migration.
const GROUPS_END: &str =
    "CONSTRAINT groups_pkey PRIMARY KEY (sdk_app_id, group_id)\n) WITH (fillfactor = 80);";

const MIGRATIONS: &str = "
CREATE TABLE _sqlx_migrations (version bigint PRIMARY KEY, description text NOT NULL,
    installed_on timestamptz NOT NULL DEFAULT now(), success boolean NOT NULL, checksum bytea NOT NULL,
    execution_time bigint NOT NULL)";

/// The schema as the migrations make it, but for `groups`, which has hash partitions with these bounds.
async fn spread(bounds: &[(u32, u32)]) -> TestDatabase {
    let database = TestDatabase::create_empty().await;
    let mut conn = database.connect().await;
    conn.execute(MIGRATIONS).await.unwrap();
    let parts = bounds.iter().enumerate().map(|(number, (modulus, remainder))| {
        format!(
            "\nCREATE TABLE groups_{number} PARTITION OF groups
                FOR VALUES WITH (MODULUS {modulus}, REMAINDER {remainder}) WITH (fillfactor = 80);"
        )
    });
    let end = GROUPS_END.replace(" WITH (fillfactor = 80);", " PARTITION BY HASH (group_id);");
    let end = end + &parts.collect::<String>();
    let mut cut = 0;
    for migration in MIGRATOR.iter() {
        cut += migration.sql.as_str().matches(GROUPS_END).count();
        let text = migration.sql.as_str().replace(GROUPS_END, &end);
        conn.execute(AssertSqlSafe(text)).await.unwrap();
        let applied = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
                       VALUES ($1, $2, true, $3, 0)";
        let query = sqlx::query(applied).bind(migration.version).bind(&*migration.description);
        query.bind(&*migration.checksum).execute(&mut conn).await.unwrap();
    }
    assert_eq!(cut, 1, "one statement makes the table");
    database
}

async fn even() -> TestDatabase {
    let parts = u32::try_from(PARTS).unwrap();
    spread(&(0..parts).map(|remainder| (parts, remainder)).collect::<Vec<_>>()).await
}

async fn looked_at(conn: &mut PgConnection) -> std::sync::Arc<Shards> {
    let known = KnownShards::default();
    known.look(conn).await.unwrap();
    known.current()
}

/// Ids of every length up to some rounds of the hash, of letters and of characters with several bytes.
fn ids() -> Vec<String> {
    let mut random = Chance::new(7);
    let letters = ['a', 'Z', '0', '@', '#', ' ', 'é', '组', '🜚'];
    let mut id = |length: usize| (0..length).map(|_| *random.one(&letters)).collect::<String>();
    (0..400).map(|number| id(number % 50)).collect()
}

#[tokio::test]
async fn the_shard_of_a_group_is_the_hash_partition_into_which_postgresql_puts_it() {
    let bounds = [(4, 0), (4, 1), (4, 2), (8, 3), (8, 7)];
    let database = spread(&bounds).await;
    let mut conn = database.connect().await;
    let shards = looked_at(&mut conn).await;
    assert_eq!(shards.count(), bounds.len());
    let mut seen = BTreeSet::new();
    for id in ids() {
        let shard = shards.of_group(&id);
        let (modulus, remainder) = bounds[shard];
        let is_there: bool =
            sqlx::query_scalar("SELECT satisfies_hash_partition('groups'::regclass, $1, $2, $3)")
                .bind(i32::try_from(modulus).unwrap())
                .bind(i32::try_from(remainder).unwrap())
                .bind(&id)
                .fetch_one(&mut conn)
                .await
                .unwrap();
        assert!(is_there, "{id:?} is not in {modulus}, {remainder}");
        seen.insert(shard);
    }
    assert_eq!(seen.len(), bounds.len(), "every shard has one of the ids");
}

#[tokio::test]
async fn the_shard_of_a_group_is_the_range_of_its_hash_in_the_catalogue_of_citus() {
    let database = TestDatabase::create().await;
    let mut conn = database.connect().await;
    assert_eq!(looked_at(&mut conn).await.count(), 1, "a plain table is one shard");
    let catalogue = "
        INSERT INTO pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)
        VALUES (4000000001, 'citus', 10, 'pg_catalog'::regnamespace, false, '0');
        CREATE TABLE pg_dist_shard (logicalrelid regclass, shardminvalue text, shardmaxvalue text)";
    conn.execute(catalogue).await.unwrap();
    assert_eq!(looked_at(&mut conn).await.count(), 1, "nothing is distributed");
    conn.execute("INSERT INTO pg_dist_shard VALUES ('groups', NULL, NULL)").await.unwrap();
    assert_eq!(looked_at(&mut conn).await.count(), 1, "a copy on each server has no range");
    // The last but one holds a single hash, as of one tenant.
    let ranges = "
        INSERT INTO pg_dist_shard VALUES ('groups', '-1000000000', '999999999'), ('groups', '-2147483648', '-1000000001'),
            ('groups', '1000000000', '1000000000'), ('groups', '1000000001', '2147483647'),
            ('ledger', '-2147483648', '2147483647')";
    conn.execute(ranges).await.unwrap();
    let shards = looked_at(&mut conn).await;
    assert_eq!(shards.count(), 4);
    let mut seen = BTreeSet::new();
    for id in ids() {
        let wanted: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_dist_shard
              WHERE logicalrelid = 'groups'::regclass AND shardmaxvalue::integer < hashtext($1)",
        )
        .bind(&id)
        .fetch_one(&mut conn)
        .await
        .unwrap();
        assert_eq!(shards.of_group(&id), usize::try_from(wanted).unwrap(), "{id:?}");
        seen.insert(wanted);
    }
    assert_eq!(seen.len(), 3);
}

/// How many transactions wrote groups of more than one partition, and how many groups the largest wrote.
async fn written(conn: &mut PgConnection) -> (i64, i64) {
    let query = "
        SELECT count(*) FILTER (WHERE parts > 1), max(rows)
          FROM (SELECT count(DISTINCT tableoid) AS parts, count(*) AS rows FROM groups GROUP BY xmin::text) t";
    sqlx::query_as(query).fetch_one(conn).await.unwrap()
}

/// Creates groups, a hundred side by side, each of which must be answered with OK.
async fn all_taken(service: &Process, groups: &[String]) {
    for some in groups.chunks(100) {
        let taken = some.iter().map(async |group| take(service, &create(group)).await);
        futures_util::future::join_all(taken).await;
    }
}

/// A service that knows how groups are spread.
async fn served(place: &Place, database: &TestDatabase) -> Process {
    let mut service = Process::start(place.command_on(&database.url, &["serve"])).ready().await;
    service.says("groups are spread over 8 shards").await;
    service
}

fn names(name: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{name} {number}")).collect()
}

async fn shown(conn: &mut PgConnection) -> BTreeSet<String> {
    let query = sqlx::query_scalar::<_, String>("SELECT group_id FROM groups");
    query.fetch_all(conn).await.unwrap().into_iter().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_a_lane_and_of_the_drain_stays_within_one_shard() {
    let (place, database) = (Place::new(), even().await);
    let mut conn = database.connect().await;
    let service = served(&place, &database).await;
    all_taken(&service, &names("lane", 400)).await;
    assert!(eventually(async || drained(&service).await).await);
    let (crossing, largest) = written(&mut conn).await;
    assert!(crossing == 0 && largest > 1, "{crossing} of several shards, the largest of {largest}");
    conn.close().await.unwrap();

    database.refuse_connections().await;
    all_taken(&service, &names("drain", 400)).await;
    database.allow_connections().await;
    assert!(eventually(async || drained(&service).await).await);
    let mut conn = database.connect().await;
    assert_eq!(shown(&mut conn).await.len(), 800);
    let (crossing, largest) = written(&mut conn).await;
    assert!(crossing == 0 && largest > 1, "{crossing} of several shards, the largest of {largest}");
}

const THE_FOURTH: &str = "satisfies_hash_partition('groups'::regclass, 8, 3, NEW.group_id)";

/// What a coordinator answers where it does not reach the worker of a shard, for groups with a condition.
fn away(condition: &str) -> AssertSqlSafe<String> {
    AssertSqlSafe(format!(
        "CREATE OR REPLACE FUNCTION away() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF {condition} THEN
                RAISE EXCEPTION 'connection to the remote node worker:5432 failed' USING ERRCODE = '08006';
            END IF;
            RETURN NEW;
        END $$"
    ))
}

const ON_INSERT: &str = "CREATE TRIGGER away BEFORE INSERT ON ledger FOR EACH ROW EXECUTE FUNCTION away()";

/// Aim: a worker that is away costs its own groups time and nothing else. Method: every insert into one shard is refused, those
/// of probes included, while 400 groups of all shards are created, twice; then the shard comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_shard_whose_server_is_away_waits_in_the_spool_and_holds_up_no_other() {
    let (place, database) = (Place::new(), even().await);
    let mut conn = database.connect().await;
    let shards = looked_at(&mut conn).await;
    let mut service = served(&place, &database).await;
    conn.execute(away(THE_FOURTH)).await.unwrap();
    conn.execute(ON_INSERT).await.unwrap();
    let (first, second) = (names("first", 400), names("second", 400));
    all_taken(&service, &first).await;
    all_taken(&service, &second).await;
    let all: BTreeSet<String> = first.into_iter().chain(second).collect();
    let of_others: BTreeSet<String> =
        all.iter().filter(|group| shards.of_group(group) != 3).cloned().collect();
    let away = all.len() - of_others.len();
    assert!(away > 20, "{away} groups belong to the shard");
    assert!(
        eventually(async || shown(&mut database.connect().await).await == of_others).await,
        "all others are in the tables:\n{}",
        service.log()
    );
    service.says("set aside: its callbacks wait in the spool and are tried apart").await;
    let log = service.log();
    assert!(log.contains("shard 4 of 8") && !log.contains("PostgreSQL does not commit"), "{log}");
    let depth = f64::from(u32::try_from(away).unwrap());
    assert!(eventually(async || metric(&service, "group_mirror_spool_depth").await >= depth).await);

    conn.execute("DROP TRIGGER away ON ledger").await.unwrap();
    assert!(eventually(async || drained(&service).await).await, "{}", service.log());
    assert_eq!(shown(&mut conn).await, all);
    let log = service.log();
    assert!(!log.contains("PostgreSQL does not commit"), "{log}");
    assert!(log.contains("what was set aside is applied"), "{log}");
    let verified = run(place.command_on(&database.url, &["replay", "--verify"])).await;
    assert!(verified.stdout.contains(" 0 differences"), "{verified:?}");
}

/// The probe of the circuit breaker goes from shard to shard, so that it is the database as a whole that opens it.
#[tokio::test(flavor = "multi_thread")]
async fn where_every_shard_is_away_the_breaker_opens_and_closes_with_the_first_that_is_back() {
    let (place, database) = (Place::new(), even().await);
    let mut conn = database.connect().await;
    let mut service = served(&place, &database).await;
    conn.execute(away("true")).await.unwrap();
    conn.execute(ON_INSERT).await.unwrap();
    let groups = names("away", 100);
    all_taken(&service, &groups).await;
    service.says("PostgreSQL does not commit").await;
    conn.execute(away(THE_FOURTH)).await.unwrap();
    service.says("PostgreSQL commits again").await;
    let shards = looked_at(&mut conn).await;
    let of_others: BTreeSet<String> =
        groups.iter().filter(|group| shards.of_group(group) != 3).cloned().collect();
    assert!(of_others.len() < groups.len());
    let are_shown = async || shown(&mut database.connect().await).await == of_others;
    assert!(eventually(are_shown).await, "{}", service.log());
    conn.execute("DROP TRIGGER away ON ledger").await.unwrap();
    assert!(eventually(async || drained(&service).await).await, "{}", service.log());
    assert_eq!(shown(&mut conn).await.len(), groups.len());
}
