//! A listener's connections: TLS, their limit, eviction of the one that is needed least when a new one comes, and the
//! graceful shutdown of all of them.
//!
//! `axum::serve` has no limit on any of this, so slow, silent and half-open peers could hold up the service. At the
//! limit the connection that needs its room least is closed (see [`connections`]), never one with a request in it. At a
//! stop the listener goes on accepting for a while, every answer says `Connection: close`, and a connection ends after
//! an answer or after a silence, because a request that crosses with a close is lost: no proxy repeats a POST unasked.
//! Knows no route.

mod activity;
mod certificate;
mod connection;
mod connections;
mod handshake;
mod stream;
mod tls;

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::TokioTimer;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::refusals::RefusalLog;
use connection::{ConnectionRules, run_connection};
use connections::OpenConnections;
use handshake::HandshakeFaults;

pub use certificate::{CertificateError, CertificateFault, NamedFile, TlsFiles};
pub use tls::TlsListener;

/// How long a stop takes at most. Longer than the answer budget of a callback.
pub const DRAIN_WAIT_MAX: Duration = Duration::from_secs(10);

/// What one connection buffers at most, the head of a request included.
const BUFFER_BYTES_MAX: usize = 32 * 1024;

/// The longest pause after an accept that failed, mostly for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How many connections of the kernel's queue a stop takes at most after the last ordinary accept. The queue itself is
/// no longer; this ends the loop under a flood.
const QUEUE_DRAIN_MAX: usize = 4096;

/// What one listener is held to.
#[derive(Debug, Clone)]
pub struct ListenerRules {
    /// Its name in metrics and log lines: `callbacks` or `api`.
    pub name: &'static str,
    /// Connections at the same time.
    pub connections_max: usize,
    /// How long a connection without a request is kept.
    pub idle: Duration,
    /// At a stop: how long the listener goes on accepting, and how long a silent connection is kept.
    pub stop_silence: Duration,
    /// Whether a request is still answered whose sender has closed its side of the connection.
    pub half_close: bool,
    /// Where requests are counted that cannot be read as HTTP; none: not counted.
    pub refusals: Option<RefusalLog>,
    /// None: plain HTTP.
    pub tls: Option<TlsListener>,
}

/// Serves until `stop`, then answers what is open and what still comes, for at most [`DRAIN_WAIT_MAX`]. At the limit a
/// new connection waits until room is made; those after it wait in the queue of the kernel.
pub async fn serve(listener: TcpListener, rules: ListenerRules, router: Router, stop: CancellationToken) {
    assert!(rules.connections_max > 0, "a listener needs room for one connection at least");
    let connections = OpenConnections::new(rules.name, rules.connections_max);
    let tasks = TaskTracker::new();
    let mut http = http1::Builder::new();
    // The times of a connection are kept by `connection`: hyper's one time-out covers heads and idle connections alike.
    http.timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_buf_size(BUFFER_BYTES_MAX)
        .half_close(rules.half_close);
    let setup = Arc::new(ConnectionRules {
        http,
        router,
        stop: stop.clone(),
        idle: rules.idle,
        stop_silence: rules.stop_silence,
        tls: rules.tls.map(|tls| (tls, HandshakeFaults::new(rules.name, rules.refusals.clone()))),
        refusals: rules.refusals,
    });
    let begin = async |stream: TcpStream| {
        // An answer is one small packet; nothing is gained by holding it back.
        let _ = stream.set_nodelay(true);
        let open = connections.admit().await;
        if let Ok(peer) = stream.peer_addr() {
            open.activity.comes_from(peer);
        }
        tasks.spawn(run_connection(stream, open, Arc::clone(&setup)));
    };
    let mut end = pin!(async {
        stop.cancelled().await;
        if connections.were_used_within(rules.stop_silence) {
            sleep(rules.stop_silence).await;
        }
    });
    loop {
        tokio::select! {
            biased;
            () = &mut end => break,
            stream = accept(&listener, &connections) => begin(stream).await,
        }
    }
    let rest = async {
        for stream in queued(listener) {
            begin(stream).await;
        }
        tasks.close();
        tasks.wait().await;
    };
    if timeout(DRAIN_WAIT_MAX.saturating_sub(rules.stop_silence), rest).await.is_err() {
        tracing::warn!(listener = rules.name, "stopped with requests open");
    }
}

async fn accept(listener: &TcpListener, connections: &OpenConnections) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            // The peer has closed it while it waited; nothing is wanting here.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::debug!(%error, "a connection was not accepted");
                connections.wait_for_descriptor(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// What the kernel has accepted and the service has not: closing the listener would reset it. Each is taken once there is
/// room for it, so that no more descriptors are used than before.
fn queued(listener: TcpListener) -> impl Iterator<Item = TcpStream> {
    let listener = listener.into_std().ok();
    let accepted = std::iter::from_fn(move || listener.as_ref()?.accept().ok()).take(QUEUE_DRAIN_MAX);
    accepted.filter_map(|(stream, _)| {
        stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)).ok()
    })
}
