//! What the index of people costs the write path: the service on a database with it, and on one without, in turn.
//!
//! Without it the rows are thrown away by a rule of the database and the index of the ledger by time is dropped, so that the
//! ratio is what the rows, their index and that index cost in the server. Both sides make the rows and send the statement.
//!
//! `LOAD_PARTS=people cargo bench --bench load` prints the table.

use std::str::FromStr as _;

use group_mirror::store::{Database, schema};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};

use super::support::{Scene, empty, median, service};
use super::{committed, rounds, seconds, sending};

/// As in the table of rates.
const CONNECTIONS: u32 = 64;

const WITHOUT: &str = "
CREATE RULE people_are_not_kept AS ON INSERT TO ledger_people DO INSTEAD NOTHING;
DROP INDEX ledger_time_idx";

pub(super) async fn measure(scene: &Scene) {
    let url = PgConnectOptions::from_str(&scene.url).unwrap().database("bare").to_url_lossy().to_string();
    let mut conn = scene.database.connect().await.unwrap();
    conn.execute("DROP DATABASE IF EXISTS bare").await.unwrap();
    conn.execute("CREATE DATABASE bare TEMPLATE template0").await.unwrap();
    conn.close().await.unwrap();
    let bare = Database::new(&url).unwrap();
    schema::migrate(&bare).await.unwrap();
    let mut conn = bare.connect().await.unwrap();
    conn.execute(WITHOUT).await.unwrap();
    conn.close().await.unwrap();
    let (with, without) = (
        service(&scene.url, &scene.dir.join("data")).await,
        service(&url, &scene.dir.join("data-bare")).await,
    );
    let sides = [(&scene.database, with.callback_addr), (&bare, without.callback_addr)];
    let mut rates = [Vec::new(), Vec::new()];
    for _ in 0..rounds() {
        for ((database, addr), rates) in sides.into_iter().zip(&mut rates) {
            empty(&scene.database).await;
            empty(&bare).await;
            rates.push(committed(database, addr, CONNECTIONS, sending(seconds())).await);
        }
    }
    with.stop().await;
    without.stop().await;
    bare.close().await;
    let [with, without] = rates.map(median);
    println!("| Creates of new groups, 64 connections | callbacks/s |\n|---|---|");
    println!(
        "| with the index of people, and that of the ledger by time | {with:.0} |\n| without | {without:.0} |"
    );
    println!("\nwith ÷ without: {:.2}\n", with / without);
}
