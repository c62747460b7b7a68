//! A server of a test's own, which the test stops, crashes, copies, and gives a standby that streams from it.

use std::path::{Path, PathBuf};
use std::process::Command;

use group_mirror::embedded::Embedded;
use group_mirror::store::{Database, schema};
use sqlx::{Connection as _, Executor as _, PgConnection};
use tempfile::TempDir;

use super::chaos::Proxy;
use super::postgres::{programs, server_dir};
use super::process::send;

/// A server of a test's own.
pub(crate) struct Cluster {
    server: Option<Embedded>,
    pub(crate) home: PathBuf,
    _dir: Option<TempDir>,
}

impl Cluster {
    /// With our schema in it.
    pub(crate) async fn create() -> Self {
        let dir = server_dir();
        let home = dir.path().join("postgres");
        let server = Embedded::start(&home, &programs()).unwrap();
        let pools = Database::new(server.url()).unwrap();
        schema::migrate(&pools).await.unwrap();
        pools.close().await;
        Self { server: Some(server), home, _dir: Some(dir) }
    }

    /// Of files that are there.
    fn of(home: &Path) -> Self {
        Self { server: Some(Embedded::start(home, &programs()).unwrap()), home: home.to_owned(), _dir: None }
    }

    pub(crate) fn url(&self) -> String {
        self.server.as_ref().unwrap().url().to_owned()
    }

    pub(crate) async fn connect(&self) -> PgConnection {
        PgConnection::connect(&self.url()).await.unwrap()
    }

    pub(crate) fn stop(&mut self) {
        self.server.take().unwrap().stop();
    }

    pub(crate) fn start(&mut self) {
        self.server = Some(Embedded::start(&self.home, &programs()).unwrap());
    }

    /// Its processes end at once, as in a crash, and it recovers.
    pub(crate) fn crash(&mut self) {
        let pid = std::fs::read_to_string(self.files().join("postmaster.pid")).unwrap();
        send("QUIT", &[pid.lines().next().unwrap().parse().unwrap()]);
        self.stop();
        self.start();
    }

    pub(crate) fn files(&self) -> PathBuf {
        self.home.join("cluster")
    }

    /// A standby that streams from the server through a proxy, by which it is cut off.
    pub(crate) async fn standby_of(primary: &mut Self, through: &Proxy) -> Self {
        let dir = server_dir();
        let home = dir.path().join("postgres");
        std::fs::create_dir(&home).unwrap();
        primary.connect().await.execute("CHECKPOINT").await.unwrap();
        primary.stop();
        copy(&primary.files(), &home.join("cluster"));
        primary.start();
        std::fs::write(home.join("cluster/standby.signal"), "").unwrap();
        let (host, port) =
            through.address().split_once(':').map(|(host, port)| (host.to_owned(), port.to_owned())).unwrap();
        let line = format!(
            "\nprimary_conninfo = 'host={host} port={port} user=group_mirror sslmode=disable'\nwal_retrieve_retry_interval = '100ms'\n"
        );
        let file = home.join("cluster/postgresql.auto.conf");
        std::fs::write(&file, std::fs::read_to_string(&file).unwrap() + &line).unwrap();
        Self { _dir: Some(dir), ..Self::of(&home) }
    }
}

pub(crate) fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status().unwrap();
    assert!(copied.success());
}
