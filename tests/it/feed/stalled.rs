//! Reads while the sessions that serve them have stalled, as those of a server that has vanished without closing its
//! connections: they end from this side, whether or not their clients still wait, and the next reads get new sessions.

use std::collections::BTreeSet;

use group_mirror::embedded::Embedded;
use group_mirror::store::{Database, schema};
use reqwest::StatusCode;
use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::task::JoinHandle;

use super::held_back::create;
use crate::support::follow::Follower;
use crate::support::postgres::{programs, server_dir};
use crate::support::process::send;
use crate::support::{API_TOKEN, App, PATIENCE, Service, eventually, settings};

/// Each kind of read, and how many of them take all that there is for it: connections or permits.
const READS: [(&str, usize); 6] = [
    ("/v1/changes", 4),
    ("/v1/groups/g", 4),
    ("/v1/groups/g/history", 4),
    ("/v1/groups?name=nothing", 1),
    ("/v1/groups?owner=ana", 3),
    ("/v1/groups/g/topics", 4),
];

/// Processes that do not run until this is dropped.
struct Stopped(Vec<u32>);

impl Stopped {
    fn stop(pids: Vec<u32>) -> Self {
        send("STOP", &pids);
        Self(pids)
    }

    fn are_stopped(&self) -> bool {
        self.0.iter().all(|pid| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('T'))
        })
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        send("CONT", &self.0);
    }
}

async fn sessions(conn: &mut PgConnection, which: &'static str) -> BTreeSet<u32> {
    let pids = sqlx::query_scalar::<_, i32>(which).fetch_all(conn).await.unwrap();
    pids.into_iter().map(|pid| u32::try_from(pid).unwrap()).collect()
}

const WAITING: &str = "
SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' AND wait_event_type = 'Lock'";

const OTHERS: &str = "
SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";

async fn status(service: &Service, path: &str) -> StatusCode {
    let asked = service.client.get(service.api_url(path)).bearer_auth(API_TOKEN);
    asked.send().await.unwrap().status()
}

/// Clients that ask again and again; the first half of each kind, and the other.
fn clients(service: &Service) -> [Vec<JoinHandle<()>>; 2] {
    let mut halves = [Vec::new(), Vec::new()];
    for (path, count) in READS {
        for number in 0..count {
            let asked = service.client.get(service.api_url(path)).bearer_auth(API_TOKEN);
            halves[number % 2].push(tokio::spawn(async move {
                loop {
                    let _ = asked.try_clone().unwrap().send().await;
                }
            }));
        }
    }
    halves
}

/// Aim: a stalled session holds no permit and no place of a pool. Method: reads that wait for a lock fill both; their
/// sessions are stopped, half of the clients leave, the lock is gone. They must be served by other sessions then.
#[tokio::test(flavor = "multi_thread")]
async fn reads_are_served_again_while_the_sessions_of_those_before_are_still_stalled() {
    let dir = server_dir();
    // A server of its own: a stopped process holds up each CREATE DATABASE of the other tests.
    let server = Embedded::start(&dir.path().join("postgres"), &programs()).unwrap();
    let pools = Database::new(server.url()).unwrap();
    schema::migrate(&pools).await.unwrap();
    pools.close().await;
    let service = Service::start(&settings(server.url())).await.unwrap();
    service.taken(&create("g")).await;
    service.until(|health| health["spool"]["depth"] == 0).await;
    let mut follower = Follower::start(&service.client, &service.api_url("/v1/changes"), None).await;
    assert_eq!(follower.next().await.unwrap()["group_id"], "g");
    let (mut holder, mut observer) = (
        PgConnection::connect(server.url()).await.unwrap(),
        PgConnection::connect(server.url()).await.unwrap(),
    );
    holder.execute("BEGIN; LOCK TABLE ledger, groups, group_members, group_topics").await.unwrap();
    let [leaving, staying] = clients(&service);
    let wanted: usize = READS.iter().map(|(_, count)| count).sum();
    let full = async {
        loop {
            // One of them is the session of the feed's reader.
            let waiting = sessions(&mut observer, WAITING).await;
            if waiting.len() > wanted {
                break waiting;
            }
            tokio::task::yield_now().await;
        }
    };
    let waiting = tokio::time::timeout(PATIENCE, full).await.unwrap();
    let stopped = Stopped::stop(waiting.into_iter().collect());
    holder.execute("ROLLBACK").await.unwrap();
    for client in leaving {
        client.abort();
    }
    for (path, _) in READS {
        let served = eventually(async || status(&service, path).await == StatusCode::OK).await;
        assert!(served, "{path} is not served");
    }
    service.taken(&create("later")).await;
    assert_eq!(follower.next().await.unwrap()["group_id"], "later", "the follower goes on");
    assert!(stopped.are_stopped());
    for client in staying {
        client.abort();
    }
    drop(stopped);
    service.stop().await;
    server.stop();
}

/// Aim: the price of the above is no connection per read. Method: the sessions are the same before many reads and behind them.
#[tokio::test]
async fn reads_that_end_in_order_keep_their_connections() {
    let app = App::start().await;
    app.service.taken(&create("g")).await;
    let mut conn = app.connect().await;
    for (path, _) in READS {
        assert_eq!(status(&app.service, path).await, StatusCode::OK, "{path}");
    }
    let before = sessions(&mut conn, OTHERS).await;
    for (path, _) in READS.iter().cycle().take(60) {
        assert_eq!(status(&app.service, path).await, StatusCode::OK, "{path}");
    }
    let after = sessions(&mut conn, OTHERS).await;
    assert!(before.is_subset(&after), "{before:?} {after:?}");
    drop(conn);
    app.stop().await;
}
