//! The client of one backend: an HTTP exchange inside a deadline, on connections that are kept.
//!
//! TLS unless the host is this machine, no redirects, an answer of bounded size. A query holds a signature, so no error
//! holds an address; the pooled client of `hyper-util` neither follows redirects nor writes addresses into its errors. An
//! exchange that broke is not repeated here, because the backend may have acted on it.

use std::time::Duration;

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, RETRY_AFTER};
use hyper::{HeaderMap, Method, Request, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, ResponseFuture};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use strum::IntoStaticStr;
use thiserror::Error;
use tokio::time::{Instant, timeout_at};

use super::address::BackendAddress;
use super::headers::RelayRequest;
use super::loop_guard::LoopGuard;

/// The largest answer that is read, in bytes. The longest documented one replaces a message, of 12 KB at most.
pub const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// How long a connection is kept without use: less than the 5 s after which several common servers close theirs, because a
/// request that crosses such a close is lost.
const IDLE: Duration = Duration::from_secs(4);

/// How many connections are kept without use.
const IDLE_CONNECTIONS_MAX: usize = 256;

/// How long a connection may take to be made. It ends by then where the caller has given up already.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// What of the head of an answer goes back: how its bytes are to be read, and when to come again.
const PASSED_BACK: [HeaderName; 3] = [CONTENT_TYPE, CONTENT_ENCODING, RETRY_AFTER];

/// What a backend answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayAnswer {
    /// Its status.
    pub status: StatusCode,
    /// `Content-Type`, `Content-Encoding` and `Retry-After`, as far as it sent them.
    pub headers: HeaderMap,
    /// Its bytes.
    pub body: Bytes,
}

/// Why a backend gave no answer. No variant holds an address or a piece of a callback.
#[derive(Debug, Clone, PartialEq, Eq, Error, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum BackendFault {
    /// The deadline came first.
    #[error("no whole answer in time")]
    Timeout,
    /// No connection.
    #[error("no connection: {0}")]
    Unreachable(String),
    /// The connection broke, or what came is not HTTP.
    #[error("the exchange broke: {0}")]
    Broken(String),
    /// More than [`ANSWER_BYTES_MAX`].
    #[error("the answer is larger than {ANSWER_BYTES_MAX} bytes")]
    TooLarge,
}

impl BackendFault {
    /// The label for counters.
    #[must_use]
    pub fn label(&self) -> &'static str {
        self.into()
    }
}

#[derive(Clone)]
enum BackendClient {
    Tls(Client<HttpsConnector<HttpConnector>, Full<Bytes>>),
    Loopback(Client<HttpConnector, Full<Bytes>>),
}

/// The backend of one app. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct RelayTarget {
    client: BackendClient,
    address: BackendAddress,
    guard: LoopGuard,
}

impl std::fmt::Debug for RelayTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RelayTarget({})", self.address.origin())
    }
}

impl RelayTarget {
    /// A client; no connection is made yet.
    ///
    /// # Errors
    /// TLS without certificates of authorities on this machine, with what the system says.
    pub fn new(address: BackendAddress, guard: LoopGuard) -> std::io::Result<Self> {
        let mut builder = Client::builder(TokioExecutor::new());
        builder
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX);
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        let client = if address.is_tls() {
            connector.enforce_http(false);
            let tls = HttpsConnectorBuilder::new().with_native_roots()?.https_only().enable_http1();
            BackendClient::Tls(builder.build(tls.wrap_connector(connector)))
        } else {
            BackendClient::Loopback(builder.build(connector))
        };
        Ok(Self { client, address, guard })
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> &BackendAddress {
        &self.address
    }

    /// Posts a callback, and waits for the whole answer, at most until the deadline. Dropping the future ends the exchange.
    ///
    /// # Errors
    /// See [`BackendFault`]; the backend may have received the callback all the same.
    pub async fn send(&self, callback: RelayRequest, deadline: Instant) -> Result<RelayAnswer, BackendFault> {
        let malformed = || BackendFault::Broken("the request is malformed".to_owned());
        let (query, headers, body) = callback.into_parts();
        let uri = self.address.with_query(query.as_deref()).ok_or_else(malformed)?;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        self.guard.mark(request.headers_mut());
        let answering = match &self.client {
            BackendClient::Tls(client) => client.request(request),
            BackendClient::Loopback(client) => client.request(request),
        };
        timeout_at(deadline, answer(answering)).await.unwrap_or(Err(BackendFault::Timeout))
    }
}

async fn answer(answering: ResponseFuture) -> Result<RelayAnswer, BackendFault> {
    let answer = answering.await.map_err(|error| {
        let cause = innermost_cause(&error);
        if error.is_connect() { BackendFault::Unreachable(cause) } else { BackendFault::Broken(cause) }
    })?;
    let (mut head, body) = answer.into_parts();
    // An answer ends an exchange; what announces another protocol does not.
    if head.status.is_informational() {
        return Err(BackendFault::Broken(format!("HTTP status {}", head.status.as_u16())));
    }
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            return BackendFault::TooLarge;
        }
        BackendFault::Broken(innermost_cause(&*error))
    })?;
    let mut headers = HeaderMap::new();
    for name in PASSED_BACK {
        if let Some(value) = head.headers.remove(&name) {
            headers.insert(name, value);
        }
    }
    Ok(RelayAnswer { status: head.status, headers, body: body.to_bytes() })
}

/// "Connection refused" says more than "client error".
fn innermost_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
