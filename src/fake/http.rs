//! The HTTP side of the fake: the REST API as Tencent serves it, with the faults that its knobs ask for.
//!
//! HTTP 200 whatever the result, keys in order, a `Date` from the fake's clock (or none). The server is hyper's, because
//! `axum::serve` always sends a `Date`.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, Request, State};
use axum::http::header::{CONTENT_TYPE, DATE, HOST, ORIGIN};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::post;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::code::FakeCode;
use super::dispatch::TOPICS;
use super::door;
use super::shared::Shared;
use super::world::Actor;

/// The largest request that is read, in bytes.
const REQUEST_BYTES_MAX: usize = 1 << 20;

/// A fault that happens before anything is looked at.
enum Fault {
    BadGateway,
    Cut,
    Slow(Duration),
    Internal,
}

pub(super) fn router(shared: Arc<Shared>) -> Router {
    let rest = Router::new().route("/v4/{service}/{command}", post(call)).with_state(Arc::clone(&shared));
    rest.merge(door::router(shared)).layer(from_fn(of_this_machine))
}

/// A page in a browser on this machine could otherwise make it sign callbacks and send them: programs name a loopback host
/// and send neither header.
async fn of_this_machine(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = if host.ends_with(']') { host } else { host.rsplit_once(':').map_or(host, |(name, _)| name) };
    let is_loopback = name.eq_ignore_ascii_case("localhost")
        || name.trim_matches(['[', ']']).parse().is_ok_and(|address: IpAddr| address.is_loopback());
    if !is_loopback || headers.contains_key(ORIGIN) || headers.contains_key("sec-fetch-site") {
        let mut refused = Response::new(Body::from("The fake answers programs of its own machine only.\n"));
        *refused.status_mut() = StatusCode::FORBIDDEN;
        return refused;
    }
    next.run(request).await
}

/// Serves until `stop`.
pub(super) async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        // Out of descriptors, or a peer that has gone: the next one may succeed.
        let Ok((stream, _)) = accepted else { continue };
        let _ = stream.set_nodelay(true);
        let (router, stop) = (router.clone(), stop.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request: hyper::Request<Incoming>| {
                let router = router.clone();
                async move { Ok::<_, Infallible>(answered(router, request).await) }
            });
            let mut http = http1::Builder::new();
            let serving = http.auto_date_header(false).serve_connection(TokioIo::new(stream), service);
            // An error is a peer that closes its connection, or a cut that a knob asked for.
            let _ = stop.run_until_cancelled(serving).await;
        });
    }
}

async fn answered(router: Router, request: hyper::Request<Incoming>) -> Response {
    match router.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

async fn call(
    State(shared): State<Arc<Shared>>,
    Path((service, command)): Path<(String, String)>,
    request: Request,
) -> Response {
    let query = request.uri().query().unwrap_or_default();
    let query: BTreeMap<String, String> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let body = to_bytes(request.into_body(), REQUEST_BYTES_MAX).await;
    let fault = shared.with_world(|world| {
        let (knobs, chance) = (&world.knobs, &mut world.chance);
        if chance.f64() < knobs.http_502 {
            Some(Fault::BadGateway)
        } else if chance.f64() < knobs.cut {
            Some(Fault::Cut)
        } else if chance.f64() < knobs.slow {
            Some(Fault::Slow(Duration::from_millis(knobs.slow_ms)))
        } else {
            (chance.f64() < knobs.internal_error).then_some(Fault::Internal)
        }
    });
    let result = match fault {
        Some(Fault::BadGateway) => return bad_gateway(),
        Some(Fault::Cut) => return cut(),
        Some(Fault::Slow(late)) => {
            sleep(late).await;
            Err(FakeCode::new(60008, "service timeout"))
        }
        Some(Fault::Internal) => Err(FakeCode::new(10002, "internal error")),
        None => match body {
            Ok(body) => checked(&shared, (&service, &command), &query, &body).await,
            Err(_) => Err(FakeCode::new(60003, "the body cannot be read")),
        },
    };
    envelope(&shared, &service, result)
}

/// Query, rate, body, then the command.
async fn checked(
    shared: &Shared,
    (service, command): (&str, &str),
    query: &BTreeMap<String, String>,
    body: &[u8],
) -> Result<Map<String, Value>, FakeCode> {
    let (now_secs, knobs) = shared.with_world(|world| (world.clock.now_ms() / 1000, world.knobs.clone()));
    let admin = shared.with_entrance(|entrance| {
        let admin = entrance.admit(query, now_secs, &knobs)?;
        entrance.count(command, &knobs)?;
        Ok::<_, FakeCode>(admin)
    })?;
    let Ok(Value::Object(body)) = serde_json::from_slice(body) else {
        return Err(FakeCode::new(60003, "the body is no JSON object"));
    };
    if service == super::dispatch::SDK {
        return Err(FakeCode::new(10003, "unknown command"));
    }
    if command.ends_with("_group_attr") && !command.starts_with("get_") {
        let group = body.get("GroupId").and_then(Value::as_str).unwrap_or_default();
        shared.with_entrance(|entrance| entrance.count_attributes(group, &knobs))?;
    }
    let actor = Actor { account: &admin, platform: "RESTAPI" };
    shared.act((service, command), &body, actor).await
}

fn envelope(shared: &Shared, service: &str, result: Result<Map<String, Value>, FakeCode>) -> Response {
    let (knobs, now_ms) = shared.with_world(|world| (world.knobs.clone(), world.clock.now_ms()));
    let failed = |code: &FakeCode| {
        json!({ "ActionStatus": "FAIL", "ErrorCode": code.code, "ErrorInfo": code.info }).to_string()
    };
    let mut text = match result {
        Ok(mut answer) => {
            answer.insert("ActionStatus".to_owned(), json!("OK"));
            answer.insert("ErrorCode".to_owned(), json!(0));
            if knobs.error_info {
                let info = if service == TOPICS { "ok" } else { "" };
                answer.insert("ErrorInfo".to_owned(), json!(info));
            }
            if knobs.extra_keys {
                answer.insert("ErrorDisplay".to_owned(), json!(""));
            }
            Value::Object(answer).to_string()
        }
        Err(code) => failed(&code),
    };
    if text.len() > knobs.answer_bytes_max {
        text = failed(&FakeCode::new(10018, "response over 1 MB"));
    }
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if knobs.date {
        let millis = u64::try_from(now_ms.saturating_add(knobs.date_skew_ms)).unwrap_or(0);
        let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(millis));
        if let Ok(date) = HeaderValue::from_str(&date) {
            response.headers_mut().insert(DATE, date);
        }
    }
    response
}

fn bad_gateway() -> Response {
    let mut response = Response::new(Body::from("<html><body>502 Bad Gateway</body></html>"));
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response
}

/// The begin of an answer, then the end of the connection.
fn cut() -> Response {
    let begin = Ok(hyper::body::Bytes::from_static(b"{\"ActionStatus\":\"OK\",\"Err"));
    let end = Err(io::Error::other("cut by a knob"));
    Response::new(Body::from_stream(futures_util::stream::iter([begin, end])))
}
