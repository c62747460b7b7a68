//! One HTTP exchange with Tencent: TLS unless the host is this machine, no redirects, a time-out, a bounded answer.
//!
//! The address of a call holds a UserSig, which gives an administrator's rights to who reads it. So nothing that leaves
//! this file, errors included, holds an address; a redirect is not followed, because it would hand the UserSig to another
//! host. The pooled client of `hyper-util` is used, which neither follows redirects nor writes addresses into its errors.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, DATE};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, ResponseFuture};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use thiserror::Error;
use tokio::time::{Instant, timeout};

use crate::model::Millis;

/// How long one exchange may take. Tencent's own time-out is 3 s, and its answer about that is worth waiting for.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(8);

/// The largest answer that is read, in bytes. Tencent refuses to send more than 1 MB.
pub const ANSWER_BYTES_MAX: usize = 2 * 1024 * 1024;

/// How much of a `Content-Type` is kept, in characters.
const CONTENT_TYPE_CHARS_MAX: usize = 100;

/// How long a connection is kept without use.
const IDLE: Duration = Duration::from_secs(30);

/// Why an address is not one of Tencent's REST API.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AddressError {
    /// Not scheme and host alone.
    #[error("{0:?} is no address of the REST API; it should read like https://console.tim.qq.com")]
    Form(String),
    /// Plain HTTP to another machine.
    #[error("{0:?} is not https; a UserSig may be sent without TLS to this machine alone")]
    Plain(String),
    /// No certificates of authorities on this machine.
    #[error("TLS cannot be started: {0}")]
    Tls(String),
}

/// Why an exchange brought no answer. No variant holds an address.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ExchangeFault {
    /// No connection, or it broke.
    #[error("no answer: {0}")]
    Connection(String),
    /// Longer than the time-out.
    #[error("no answer in time")]
    Timeout,
    /// A status other than 200, a redirect included.
    #[error("HTTP status {0}")]
    Status(u16),
    /// More than [`ANSWER_BYTES_MAX`].
    #[error("the answer is larger than {ANSWER_BYTES_MAX} bytes")]
    TooLarge,
}

/// What the head of an answer shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerHead {
    /// The `Date` header, whole seconds: Tencent's clock.
    pub date: Option<Millis>,
    /// The `Content-Type` header.
    pub content_type: Option<String>,
    /// From sending to the head of the answer.
    pub took: Duration,
}

/// An answer with what its transport shows.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) bytes: Bytes,
    pub(super) head: AnswerHead,
}

enum PooledClient {
    Tls(Client<HttpsConnector<HttpConnector>, Full<Bytes>>),
    Loopback(Client<HttpConnector, Full<Bytes>>),
}

/// Exchanges with one host.
pub(super) struct Transport {
    client: PooledClient,
    /// Scheme and host.
    base: String,
    timeout: Duration,
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Transport({})", self.base)
    }
}

impl Transport {
    pub(super) fn new(url: &str, timeout: Duration) -> Result<Self, AddressError> {
        let form = || AddressError::Form(url.to_owned());
        let address: Uri = url.parse().map_err(|_| form())?;
        let (scheme, host) = (address.scheme_str().ok_or_else(form)?, address.authority().ok_or_else(form)?);
        if address.path() != "/" || address.query().is_some() || host.as_str().contains('@') {
            return Err(form());
        }
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE);
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(timeout));
        connector.set_nodelay(true);
        let client = match scheme {
            "https" => {
                connector.enforce_http(false);
                let tls = HttpsConnectorBuilder::new().with_native_roots();
                let tls = tls.map_err(|error| AddressError::Tls(error.to_string()))?;
                PooledClient::Tls(builder.build(tls.https_only().enable_http1().wrap_connector(connector)))
            }
            "http" if is_loopback(host.host()) => PooledClient::Loopback(builder.build(connector)),
            "http" => return Err(AddressError::Plain(url.to_owned())),
            _ => return Err(form()),
        };
        Ok(Self { client, base: format!("{scheme}://{host}"), timeout })
    }

    /// Posts a body to a path with its query.
    pub(super) async fn post(&self, path_and_query: &str, body: String) -> Result<Exchange, ExchangeFault> {
        let uri: Uri = format!("{}{path_and_query}", self.base)
            .parse()
            .map_err(|_| ExchangeFault::Connection("the address is malformed".to_owned()))?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(uri)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|_| ExchangeFault::Connection("the request is malformed".to_owned()))?;
        let answering = match &self.client {
            PooledClient::Tls(client) => client.request(request),
            PooledClient::Loopback(client) => client.request(request),
        };
        timeout(self.timeout, exchange(answering)).await.unwrap_or(Err(ExchangeFault::Timeout))
    }
}

async fn exchange(answering: ResponseFuture) -> Result<Exchange, ExchangeFault> {
    let begun = Instant::now();
    let answer = answering.await.map_err(|error| ExchangeFault::Connection(causes(&error)))?;
    let took = begun.elapsed();
    if answer.status() != StatusCode::OK {
        return Err(ExchangeFault::Status(answer.status().as_u16()));
    }
    let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
    let content_type = header(CONTENT_TYPE).map(|text| text.chars().take(CONTENT_TYPE_CHARS_MAX).collect());
    let head = AnswerHead { date: header(DATE).and_then(parsed_date), content_type, took };
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
    let bytes = body.map_err(|error| {
        if error.is::<LengthLimitError>() {
            return ExchangeFault::TooLarge;
        }
        ExchangeFault::Connection(causes(&*error))
    })?;
    Ok(Exchange { bytes: bytes.to_bytes(), head })
}

fn parsed_date(text: &str) -> Option<Millis> {
    let at: SystemTime = httpdate::parse_http_date(text).ok()?;
    let millis = at.duration_since(UNIX_EPOCH).ok()?.as_millis();
    i64::try_from(millis).ok().map(Millis::new)
}

/// The innermost cause of an error: "Connection refused" says more than "client error".
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
