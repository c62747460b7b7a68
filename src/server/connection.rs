//! One connection from its accept to its end: serves its requests, keeps its times, and says how it ended.
//!
//! hyper's own time-out for heads also ends idle connections, so the times are kept here, from the connection's state.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::activity::{HEAD_WAIT_MAX, Phase, PhaseLimits, RequestInWork, after};
use super::connections::OpenConnection;
use super::stream::TrackedStream;
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
}

/// Serves one connection to its end.
pub(super) async fn run_connection(stream: TcpStream, open: OpenConnection, rules: Arc<ConnectionRules>) {
    let activity = &open.activity;
    let io = TokioIo::new(TrackedStream::new(stream, Arc::clone(activity)));
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let in_work = activity.begin_request();
        let (router, stop) = (rules.router.clone(), &rules.stop);
        async move {
            let Ok(mut response) = router.oneshot(request.map(Body::new)).await;
            if stop.is_cancelled() {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response.map(|body| AnswerInWork { body, _in_work: in_work }))
        }
    });
    let mut served = pin!(rules.http.serve_connection(io, service));
    let mut limits = PhaseLimits { idle: rules.idle, stopping: None };
    loop {
        // A phase can change without waking this task, so the limits are looked at that often at least.
        let latest = after(Instant::now(), HEAD_WAIT_MAX);
        let look = activity.due(limits).map_or(latest, |due| due.min(latest));
        tokio::select! {
            biased;
            ended = &mut served => return report(ended.err().as_ref(), &open, &rules),
            () = activity.room_needed() => {
                if let Some(spare) = activity.spare(Instant::now()) {
                    open.count_spared(spare);
                    return;
                }
            }
            () = rules.stop.cancelled(), if limits.stopping.is_none() => {
                limits.stopping = Some((Instant::now(), rules.stop_silence));
            }
            () = sleep_until(look.into()) => {
                if activity.due(limits).is_some_and(|due| due <= Instant::now()) {
                    if activity.phase() == Phase::Head {
                        refuse(&rules, RefusalCause::SlowHead);
                    }
                    return;
                }
            }
        }
    }
}

/// Counts what was no request that a handler could have seen.
fn report(error: Option<&hyper::Error>, open: &OpenConnection, rules: &ConnectionRules) {
    let Some(error) = error else { return };
    tracing::debug!(%error, "a connection broke off");
    if error.is_parse() {
        let tls = open.activity.spoke_tls();
        refuse(rules, if tls { RefusalCause::Tls } else { RefusalCause::Malformed });
    } else if open.activity.phase() == Phase::Head {
        refuse(rules, RefusalCause::BrokenOff);
    }
}

fn refuse(rules: &ConnectionRules, cause: RefusalCause) {
    if let Some(refusals) = &rules.refusals {
        refusals.note(cause, None);
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
