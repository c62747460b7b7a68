//! A mirror whose socket is held for it, as a service manager does, under a stream of callbacks: what an operator restarts
//! while a database is replaced behind it.

use std::net::TcpListener;
use std::time::Duration;

use super::machine::Server;
use crate::durability::isolation::drained;
use crate::durability::restart::activated;
use crate::support::eventually;
use crate::support::follow::Watcher;
use crate::support::load::{Load, Sent, Target};
use crate::support::process::{Ended, Place, Process, run};

/// About 200 callbacks a second, where the machine can.
const CONNECTIONS: usize = 4;
const PAUSE: Duration = Duration::from_millis(20);

pub(super) struct Mirror {
    place: Place,
    socket: TcpListener,
}

impl Mirror {
    pub(super) fn new() -> Self {
        Self { place: Place::new(), socket: TcpListener::bind("127.0.0.1:0").unwrap() }
    }

    pub(super) async fn serve(&self, url: &str, keep_secs: u32) -> Process {
        let keep = keep_secs.to_string();
        activated(&self.place, url, &self.socket, &[("KEEP_ANSWERED_SECS", &keep)]).await
    }

    /// Stops the service and starts it with other settings; the socket stays open.
    pub(super) async fn restarted(&self, mut service: Process, url: &str, keep_secs: u32) -> Process {
        service.signal("TERM");
        service.until_ended().await;
        self.serve(url, keep_secs).await
    }

    pub(super) fn load(&self, name: &'static str) -> Load {
        let address = self.socket.local_addr().unwrap().to_string();
        Load::start(&Target::plain(&address), name, CONNECTIONS, PAUSE)
    }

    /// Runs a command of the program beside the service.
    pub(super) async fn run(&self, url: &str, args: &[&str]) -> Ended {
        run(self.place.command_on(url, args)).await
    }

    /// Each callback was answered with OK, and the ledger of the server has each; then the service ends, and the mirror is
    /// what the ledger says.
    pub(super) async fn has_everything(&self, service: Process, server: &Server, sent: &[Sent]) {
        let lost: Vec<_> = sent.iter().flat_map(|sent| &sent.lost).collect();
        assert!(lost.is_empty(), "each is answered with OK: {lost:?}\n{}", service.log());
        let all: u64 = sent.iter().map(|sent| sent.callbacks).sum();
        let has_all = async || server.entries().await == Some(all) && drained(&service).await;
        assert!(
            eventually(has_all).await,
            "{:?} of {all} entries\n{}",
            server.entries().await,
            service.log()
        );
        let ended = service.ends_well_on("TERM").await;
        for fault in ["lacks a right", "permission denied", "no further partition"] {
            assert!(!ended.stderr.contains(fault), "{}", ended.stderr);
        }
        self.is_verified(server).await;
    }

    pub(super) async fn is_verified(&self, server: &Server) {
        let verified = self.run(&server.service(), &["replay", "--verify"]).await;
        assert!(verified.stdout.contains(" 0 differences"), "{verified:?}");
    }
}

/// Follows the feed of a service.
pub(super) fn follow(service: &Process, after: Option<&str>) -> Watcher {
    let url = format!("http://{}/v1/changes", service.api_address());
    Watcher::start(&reqwest::Client::new(), move || url.clone(), after)
}
