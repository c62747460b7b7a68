//! One connection from its accept to its end: its TLS handshake where there is TLS, its requests, its times, and how it ended.
//!
//! hyper's own time-out for heads also ends idle connections, so the times are kept here, from the connection's state.

use std::convert::Infallible;
use std::future::ready;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::ConnectInfo;
use axum::http::{HeaderValue, header};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::yield_now;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::activity::{Activity, HEAD_WAIT_MAX, Phase, PhaseLimits, RequestInWork, after};
use super::connections::OpenConnection;
use super::handshake::{HandshakeFaults, shake_hands};
use super::stream::{TrackedStream, WireStream};
use super::tls::TlsListener;
use crate::refusals::{RefusalCause, RefusalLog};

/// What all connections of a listener have in common.
#[derive(Debug)]
pub(super) struct ConnectionRules {
    pub(super) http: http1::Builder,
    pub(super) router: Router,
    pub(super) stop: CancellationToken,
    pub(super) idle: Duration,
    pub(super) stop_silence: Duration,
    pub(super) refusals: Option<RefusalLog>,
    /// None: plain HTTP.
    pub(super) tls: Option<(TlsListener, HandshakeFaults)>,
}

/// Serves one connection to its end.
pub(super) async fn run_connection(stream: TcpStream, open: OpenConnection, rules: Arc<ConnectionRules>) {
    let activity = &open.activity;
    let Some((tls, faults)) = &rules.tls else {
        let wire = WireStream::new(stream, Arc::clone(activity));
        return keep(serve_http(wire, activity, &rules), &open, &rules).await;
    };
    activity.wait_for_handshake();
    let serving = async {
        match shake_hands(stream, tls, activity, faults).await {
            Some(stream) => serve_http(stream, activity, &rules).await,
            None => Ok(()),
        }
    };
    // In the heap, because the state of a handshake is large and connections without TLS have none.
    keep(Box::pin(serving), &open, &rules).await;
}

/// Serves the requests of a connection.
async fn serve_http<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    activity: &Arc<Activity>,
    rules: &ConnectionRules,
) -> Result<(), hyper::Error> {
    let io = TokioIo::new(TrackedStream::new(stream, Arc::clone(activity)));
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let in_work = activity.begin_request();
        let (router, stop) = (rules.router.clone(), &rules.stop);
        async move {
            let mut request = request.map(Body::new);
            if let Some(peer) = activity.peer() {
                request.extensions_mut().insert(ConnectInfo(peer));
            }
            let Ok(mut response) = router.oneshot(request).await;
            if stop.is_cancelled() {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response.map(|body| AnswerInWork { body, _in_work: in_work }))
        }
    });
    rules.http.serve_connection(io, service).await
}

/// Keeps a connection until it has ended, its time is over, or a new one needs its room.
async fn keep(
    serving: impl Future<Output = Result<(), hyper::Error>>,
    open: &OpenConnection,
    rules: &ConnectionRules,
) {
    let activity = &open.activity;
    let mut served = pin!(serving);
    let mut limits = PhaseLimits { idle: rules.idle, stopping: None };
    let mut reason: Option<CloseReason> = None;
    loop {
        // A phase can change without waking this task, so the limits are looked at that often at least.
        let latest = after(Instant::now(), HEAD_WAIT_MAX);
        let look = activity.due(limits).map_or(latest, |due| due.min(latest));
        tokio::select! {
            biased;
            ended = &mut served => return report(ended.err().as_ref(), open, rules),
            reason = ready(reason.take()), if reason.is_some() => {
                if reason.is_some_and(|reason| holds(reason, open, limits, rules)) {
                    return;
                }
            }
            () = activity.room_needed() => {
                reason = Some(CloseReason::Room);
                receive_what_has_come().await;
            }
            () = rules.stop.cancelled(), if limits.stopping.is_none() => {
                limits.stopping = Some((Instant::now(), rules.stop_silence));
            }
            () = sleep_until(look.into()) => {
                reason = Some(CloseReason::Due);
                receive_what_has_come().await;
            }
        }
    }
}

/// Why a connection is about to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CloseReason {
    /// A new one needs its room.
    Room,
    /// Its time may be over.
    Due,
}

/// One turn of the runtime, in which it learns which sockets have bytes. A request that the kernel has taken already is
/// so read before its connection is closed for being silent.
async fn receive_what_has_come() {
    yield_now().await;
}

/// Whether the reason still holds; counts the close, if so.
fn holds(reason: CloseReason, open: &OpenConnection, limits: PhaseLimits, rules: &ConnectionRules) -> bool {
    let (activity, now) = (&open.activity, Instant::now());
    match reason {
        CloseReason::Room => {
            let spare = activity.spare(now);
            spare.inspect(|spare| open.count_spared(*spare)).is_some()
        }
        CloseReason::Due => {
            let over = activity.due(limits).is_some_and(|due| due <= now);
            match (activity.phase(), &rules.tls) {
                (Phase::Head, _) if over => refuse(rules, RefusalCause::SlowHead, None),
                (Phase::Handshake { begun }, Some((_, faults))) if over => {
                    let seen = if begun { "it had begun" } else { "nothing came" };
                    faults.note(RefusalCause::SlowHandshake, seen.to_owned());
                }
                _ => {}
            }
            over
        }
    }
}

/// Counts what was no request that a handler could have seen.
fn report(error: Option<&hyper::Error>, open: &OpenConnection, rules: &ConnectionRules) {
    let Some(error) = error else { return };
    tracing::debug!(%error, "a connection broke off");
    if error.is_parse() {
        let tls = open.activity.spoke_tls();
        let cause = if tls { RefusalCause::Tls } else { RefusalCause::Malformed };
        refuse(rules, cause, error.is_parse_too_large().then_some("the head is too large"));
    } else if open.activity.phase() == Phase::Head {
        refuse(rules, RefusalCause::BrokenOff, None);
    }
}

fn refuse(rules: &ConnectionRules, cause: RefusalCause, seen: Option<&str>) {
    if let Some(refusals) = &rules.refusals {
        refusals.note(None, cause, seen.map(str::to_owned));
    }
}

/// The body of an answer; the request is in work until it is dropped.
struct AnswerInWork {
    body: Body,
    _in_work: RequestInWork,
}

impl http_body::Body for AnswerInWork {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::super::connections::OpenConnections;
    use super::*;

    /// The runtime of this test has one thread, so the connection's task runs before the runtime has asked which sockets
    /// have bytes, whenever both are due.
    #[tokio::test]
    async fn a_request_that_the_kernel_has_is_answered_although_its_connection_was_about_to_be_closed() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let connections = OpenConnections::new("test", 1);
        let open = connections.admit().await;
        let activity = Arc::clone(&open.activity);
        let rules = ConnectionRules {
            http: http1::Builder::new(),
            router: Router::new().fallback(|| async { "answered" }),
            stop: CancellationToken::new(),
            idle: Duration::from_secs(600),
            stop_silence: Duration::from_secs(2),
            refusals: None,
            tls: None,
        };
        tokio::spawn(run_connection(listener.accept().await.unwrap().0, open, Arc::new(rules)));
        let answered = |peer: &mut std::net::TcpStream| {
            let mut answer = [0; 1024];
            let length = peer.read(&mut answer).unwrap();
            String::from_utf8_lossy(&answer[..length]).ends_with("answered")
        };
        let request = b"GET / HTTP/1.1\r\nHost: m\r\n\r\n";
        peer.write_all(request).unwrap();
        while activity.spare(Instant::now()).is_none() {
            yield_now().await;
        }
        assert!(answered(&mut peer));
        // Between these two lines nothing else of this test runs: the bytes are there, and nothing has seen them.
        peer.write_all(request).unwrap();
        activity.need_room();
        let mut peer = tokio::task::spawn_blocking(move || (answered(&mut peer), peer)).await.unwrap();
        assert!(peer.0, "the second request was answered");
        // Without a request the same closes it.
        activity.need_room();
        let closed =
            tokio::task::spawn_blocking(move || peer.1.read(&mut [0; 1]).unwrap() == 0).await.unwrap();
        assert!(closed);
    }
}
