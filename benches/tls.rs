//! What TLS of the public listener costs, beside plain HTTP, in one run on one machine.
//!
//! Kept connections: health checks, which reach neither database nor spool, and callbacks, which are committed; new
//! connections, one request each; memory of an idle connection, both ends of it included. Service, PostgreSQL and sender
//! share the machine, so the sender's part of TLS is in every figure. The certificate is ECDSA P-256, the version TLS 1.3.
//!
//! `cargo bench --bench tls`; `TLS_SECONDS` sets the length of each measurement (3), `TLS_ROUNDS` how many rounds the median
//! is taken of (3), `TLS_CONNECTIONS` how many connections send (64).
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark that fails has failed; its result is text"
)]
#![expect(clippy::disallowed_methods, reason = "a benchmark has clocks and settings of its own")]

#[expect(dead_code, reason = "the other benchmarks use the rest")]
mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rcgen::generate_simple_self_signed;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use support::{
    Client, connected, create_body, empty, median, per_second, resident_kb, service, service_with, setting,
};

/// Idle connections of the memory figure.
const IDLE: u64 = 700;

/// One way to reach a service.
#[derive(Clone)]
enum Way {
    Plain(SocketAddr),
    Tls(SocketAddr, TlsConnector),
}

impl Way {
    async fn connect(&self) -> Client<Either<TcpStream, TlsStream<TcpStream>>> {
        Client::on(match self {
            Self::Plain(addr) => Either::Left(connected(*addr).await),
            Self::Tls(addr, connector) => {
                let name = ServerName::try_from("localhost").unwrap();
                Either::Right(connector.connect(name, connected(*addr).await).await.unwrap())
            }
        })
    }
}

#[derive(Clone, Copy)]
enum Work {
    Health,
    Callbacks,
    NewConnections,
}

fn main() {
    support::run(async |scene| {
        let (certificate, key) = (scene.dir.join("cert.pem"), scene.dir.join("key.pem"));
        let signed = generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        std::fs::write(&certificate, signed.cert.pem()).unwrap();
        std::fs::write(&key, signed.signing_key.serialize_pem()).unwrap();
        let plain = service(&scene.url, &scene.dir.join("plain")).await;
        let tls = service_with(&scene.url, &scene.dir.join("tls"), |settings| {
            settings.callback_tls_cert = Some(certificate.display().to_string());
            settings.callback_tls_key = Some(key.display().to_string());
        })
        .await;
        let mut roots = RootCertStore::empty();
        roots.add(signed.cert.der().clone()).unwrap();
        let mut without_tickets =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
        without_tickets.resumption = rustls::client::Resumption::disabled();
        let ways = [
            Way::Plain(plain.callback_addr),
            Way::Tls(tls.callback_addr, TlsConnector::from(Arc::new(without_tickets))),
        ];
        memory(&ways).await;
        println!("| What | plain, per second | TLS, per second | TLS ÷ plain |\n|---|---|---|---|");
        for (name, work) in [
            ("health checks, kept connections", Work::Health),
            ("callbacks, kept connections", Work::Callbacks),
            ("health checks, a new connection each, no resumption", Work::NewConnections),
        ] {
            let mut rates = [Vec::new(), Vec::new()];
            for _ in 0..setting("TLS_ROUNDS", 3) {
                for (way, rates) in ways.iter().zip(&mut rates) {
                    empty(&scene.database).await;
                    rates.push(rate(way, work).await);
                }
            }
            let [plain, tls] = rates.map(median);
            println!("| {name} | {plain:.0} | {tls:.0} | {:.2} |", tls / plain);
        }
        plain.stop().await;
        tls.stop().await;
    });
}

/// Before anything else has grown the memory that could be used again, and with the plain connections open beside.
async fn memory(ways: &[Way; 2]) {
    let mut idle = Vec::new();
    for (name, way) in ["plain", "TLS"].into_iter().zip(ways) {
        // What only the first connections need.
        for _ in 0..10 {
            way.connect().await.ask("GET /livez", "").await;
        }
        let before = resident_kb();
        for _ in 0..IDLE {
            let mut client = way.connect().await;
            client.ask("GET /livez", "").await;
            idle.push(client);
        }
        println!("an idle connection, {name}, both ends: {} kB\n", (resident_kb() - before) / IDLE);
    }
}

async fn rate(way: &Way, work: Work) -> f64 {
    let answered = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let end = begun + Duration::from_secs(setting("TLS_SECONDS", 3));
    let mut senders = JoinSet::new();
    for _ in 0..setting("TLS_CONNECTIONS", 64) {
        let (way, answered) = (way.clone(), Arc::clone(&answered));
        senders.spawn(async move {
            let mut client = way.connect().await;
            while Instant::now() < end {
                match work {
                    Work::Health => _ = client.ask("GET /livez", "").await,
                    Work::Callbacks => client.post(&create_body()).await,
                    Work::NewConnections => _ = way.connect().await.ask("GET /livez", "").await,
                }
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    while let Some(sender) = senders.join_next().await {
        sender.unwrap();
    }
    per_second(answered.load(Ordering::Relaxed), begun.elapsed())
}
