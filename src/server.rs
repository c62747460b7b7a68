//! Connections: how many, how long one may take to send a request's head, and how they end.
//!
//! What `axum::serve` leaves unlimited has a limit here, so that slow clients and half-open connections cannot hold up the
//! service. Knows no route.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;

/// How long a stop waits for requests that are open. Longer than the answer budget of a callback.
pub const DRAIN_WAIT_MAX: Duration = Duration::from_secs(10);

/// How long a connection may go without a whole head of a request, idle ones included. Longer than the pauses of a
/// sender that keeps its connections, and short enough that those of vanished peers do not add up.
const HEAD_WAIT_MAX: Duration = Duration::from_secs(30);

/// How long a peer may take nothing of what is sent to it; then the connection is cut. A follower of the feed resumes.
const WRITE_WAIT_MAX: Duration = Duration::from_secs(10);

/// What one connection buffers at most, the head of a request included.
const BUFFER_BYTES_MAX: usize = 32 * 1024;

/// The pause after an accept that failed, mostly for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves at most `connections_max` connections at once until `stop`, then finishes requests that are open, for at most
/// [`DRAIN_WAIT_MAX`]. At the limit a connection waits in the queue of the kernel.
pub async fn serve(listener: TcpListener, connections_max: usize, router: Router, stop: CancellationToken) {
    let open = Arc::new(Semaphore::new(connections_max));
    let graceful = GracefulShutdown::new();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_WAIT_MAX).max_buf_size(BUFFER_BYTES_MAX);
    let accepting = async {
        loop {
            // The semaphore is never closed.
            let Ok(permit) = Arc::clone(&open).acquire_owned().await else { return };
            let stream = accept(&listener).await;
            let service = TowerToHyperService::new(router.clone());
            let connection = graceful.watch(http.serve_connection(TokioIo::new(bounded(stream)), service));
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a connection broke off");
                }
                drop(permit);
            });
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = pin!(accepting) => {}
    }
    drop(listener);
    if timeout(DRAIN_WAIT_MAX, graceful.shutdown()).await.is_err() {
        tracing::warn!("stopped with requests open");
    }
}

fn bounded(stream: TcpStream) -> Pin<Box<TimeoutStream<TcpStream>>> {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_WAIT_MAX));
    Box::pin(stream)
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // An answer is one small packet; nothing is gained by holding it back.
                let _ = stream.set_nodelay(true);
                return stream;
            }
            Err(error) => {
                tracing::debug!(%error, "a connection was not accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
