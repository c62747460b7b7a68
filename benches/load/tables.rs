//! What the tables hold and in which order it comes: in order against shuffled, and a large mirror against an empty one.
//! What is compared takes turns, so that a noisy machine disturbs both alike.

use std::str::FromStr as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use group_mirror::store::{Database, schema};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _};

use super::lives::{lives, shuffled};
use super::support::{Scene, empty, median, service, setting, truncate};
use super::{committed, rounds, seconds, sending};

/// As in the table of rates.
const CONNECTIONS: u32 = 64;

/// How many times as long as a measurement the warm-up takes.
const WARM_UP: u32 = 6;

/// Members of each group of the large mirror.
const MEMBERS_PER_GROUP: u64 = 100;

/// The lives of 1,000 groups, each body once, from 64 connections.
pub(super) async fn order(scene: &Scene) {
    let in_order: Arc<Vec<String>> = Arc::new(lives(1000).iter().map(ToString::to_string).collect());
    let shuffled = Arc::new(shuffled(&in_order));
    let running = service(&scene.url, &scene.dir.join("data")).await;
    let mut rates = [Vec::new(), Vec::new()];
    for _ in 0..rounds() {
        for (bodies, rates) in [&in_order, &shuffled].into_iter().zip(&mut rates) {
            empty(&scene.database).await;
            let (bodies, sent) = (Arc::clone(bodies), Arc::new(AtomicUsize::new(0)));
            let next = move || bodies.get(sent.fetch_add(1, Ordering::Relaxed)).cloned();
            rates.push(committed(&scene.database, running.callback_addr, CONNECTIONS, next).await);
        }
    }
    running.stop().await;
    let [in_order, shuffled] = rates.map(median);
    println!("| Lives of 1,000 groups, 64 connections | callbacks/s |\n|---|---|");
    println!("| in order | {in_order:.0} |\n| shuffled | {shuffled:.0} |");
    println!("\nshuffled ÷ in order: {:.2}\n", shuffled / in_order);
}

/// Creates of new groups into a mirror of many members, and into one that is empty, on one server.
pub(super) async fn size(scene: &Scene) {
    let members = setting("LOAD_MEMBERS", 10_000_000);
    let url = PgConnectOptions::from_str(&scene.url).unwrap().database("large").to_url_lossy().to_string();
    let mut conn = scene.database.connect().await.unwrap();
    conn.execute("DROP DATABASE IF EXISTS large").await.unwrap();
    conn.execute("CREATE DATABASE large TEMPLATE template0").await.unwrap();
    let settings =
        "SELECT string_agg(name || ' ' || current_setting(name), ', ' ORDER BY name) FROM pg_settings
                     WHERE name IN ('shared_buffers', 'max_wal_size', 'checkpoint_timeout')";
    let settings: String = sqlx::query_scalar(settings).fetch_one(&mut conn).await.unwrap();
    let large = Database::new(&url).unwrap();
    schema::migrate(&large).await.unwrap();
    let bytes = fill(&large, members / MEMBERS_PER_GROUP).await;
    let (one, other) = (
        service(&scene.url, &scene.dir.join("data")).await,
        service(&url, &scene.dir.join("data-large")).await,
    );
    let sides = [(&scene.database, one.callback_addr), (&large, other.callback_addr)];
    // Until most pages that are touched have been touched once, no checkpoint having come in between: a page is written
    // whole into the WAL when it is first touched after a checkpoint.
    for (database, addr) in sides {
        committed(database, addr, CONNECTIONS, sending(seconds() * WARM_UP)).await;
    }
    let mut rates = [Vec::new(), Vec::new()];
    for _ in 0..rounds() {
        for ((database, addr), rates) in sides.into_iter().zip(&mut rates) {
            truncate(&scene.database).await;
            rates.push(committed(database, addr, CONNECTIONS, sending(seconds())).await);
        }
    }
    let mut after_checkpoint = Vec::new();
    for (database, addr) in sides {
        empty(&scene.database).await;
        after_checkpoint.push(committed(database, addr, CONNECTIONS, sending(seconds())).await);
    }
    one.stop().await;
    other.stop().await;
    large.close().await;
    conn.execute("DROP DATABASE large WITH (FORCE)").await.unwrap();
    conn.close().await.unwrap();
    let [empty, large] = rates.map(median);
    println!("| Creates, 64 connections, {settings} | callbacks/s |\n|---|---|");
    println!(
        "| empty tables | {empty:.0} |\n| {members} member rows, {} MB with indexes | {large:.0} |",
        bytes >> 20
    );
    println!("\n{members} member rows ÷ empty: {:.2}", large / empty);
    println!("the same right after a checkpoint: {:.2}\n", after_checkpoint[1] / after_checkpoint[0]);
}

/// Groups with ids like those that come, members in order of the key, all of it read once; answers how large it is.
async fn fill(database: &Database, groups: u64) -> i64 {
    let mut conn = database.connect().await.unwrap();
    let fill = [
        format!(
            r"INSERT INTO groups (sdk_app_id, group_id, type, type_stamp, name, name_stamp, owner, owner_stamp, created_by,
                created_stamp, create_barrier, alive_stamp, updated_stamp)
            SELECT 1400000001, '@TGS#2' || upper(left(md5(n::text), 16)), 'Public', s, 'River walkers ' || n, s, 'ana_77', s,
                'ana_77', s, s, s, s
              FROM generate_series(1, {groups}) n, (SELECT int8send(1700000000000) || '\x010203040506070809' AS s) s"
        ),
        format!(
            r"INSERT INTO group_members (sdk_app_id, group_id, user_id, join_stamp, joined_by)
            SELECT 1400000001, group_id, 'user-' || lpad(((row * 7919 + u) % 1000003)::text, 7, '0'), created_stamp, 'ana_77'
              FROM (SELECT group_id, created_stamp, row_number() OVER (ORDER BY group_id) AS row FROM groups) g,
                   generate_series(1, {MEMBERS_PER_GROUP}) u"
        ),
    ];
    for statement in fill {
        conn.execute(AssertSqlSafe(statement)).await.unwrap();
    }
    for statement in ["VACUUM ANALYZE groups", "VACUUM ANALYZE group_members", "CHECKPOINT"] {
        conn.execute(statement).await.unwrap();
    }
    let bytes = "SELECT sum(pg_total_relation_size(name::regclass))::bigint FROM (VALUES ('groups'), ('group_members')) t (name)";
    let bytes = sqlx::query_scalar(bytes).fetch_one(&mut conn).await.unwrap();
    conn.close().await.unwrap();
    bytes
}
