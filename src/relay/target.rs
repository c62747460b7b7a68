//! The client of one backend: an HTTP exchange inside a deadline, on connections that are kept.
//!
//! TLS unless the host is this machine, no redirects, an answer of bounded size. A query holds a signature, so no error
//! holds an address; `connections` neither follows redirects nor writes addresses into its errors. An exchange that broke is
//! not repeated here, because the backend may have acted on it.

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderName, RETRY_AFTER};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use strum::IntoStaticStr;
use thiserror::Error;
use tokio::time::{Instant, timeout_at};

use super::address::BackendAddress;
use super::connections::{Connections, NoExchange, innermost_cause};
use super::headers::RelayRequest;
use super::loop_guard::LoopGuard;

/// The largest answer that is read, in bytes. The longest documented one replaces a message, of 12 KB at most.
pub const ANSWER_BYTES_MAX: usize = 1024 * 1024;

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

/// The backend of one app. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct RelayTarget {
    connections: Connections,
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
        let malformed = || std::io::Error::other("the address is malformed");
        let uri = address.with_query(None).ok_or_else(malformed)?;
        let connections = Connections::new(uri, address.is_tls())?;
        Ok(Self { connections, address, guard })
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
        let uri = self.address.target(query.as_deref()).ok_or_else(malformed)?;
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        request.headers_mut().insert(HOST, self.address.host_header().ok_or_else(malformed)?);
        self.guard.mark(request.headers_mut());
        let exchange = self.connections.exchange(request, answer);
        match timeout_at(deadline, exchange).await {
            Ok(Ok(answered)) => answered,
            Ok(Err(NoExchange::Unreachable(cause))) => Err(BackendFault::Unreachable(cause)),
            Ok(Err(NoExchange::Broken(cause))) => Err(BackendFault::Broken(cause)),
            Err(_) => Err(BackendFault::Timeout),
        }
    }

    /// Closes connections that were not used for long.
    pub(super) fn close_idle(&self) {
        self.connections.close_idle();
    }
}

async fn answer(answer: Response<Incoming>) -> Result<RelayAnswer, BackendFault> {
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
