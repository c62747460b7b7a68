//! How spans get to the collector: OTLP over HTTP by the client that the service has already, and what the log says of it.
//!
//! The thread that exports has no runtime, so each request runs as a task of the service's. A collector that does not take
//! spans is one line where that begins and one where it ends; the library would write one for each attempt, so its own log is
//! not compiled in. Spans that it does not take are counted and gone.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response, ResponseBodyTooLarge};
use opentelemetry_otlp::{Protocol, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::time::timeout;

/// How long one request to the collector may take.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection to the collector is kept without use.
const IDLE: Duration = Duration::from_secs(30);

/// The largest answer that is read. That of a collector is a few bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Counts the spans of exports by what became of them. What the queue in front of the exporter drops, being full, never gets
/// here, and the library keeps to itself how many spans of a request a collector rejects.
const SPANS_TOTAL: &str = "group_mirror_trace_spans_total";

/// Why traces cannot be exported.
#[derive(Debug, Error)]
pub enum TraceError {
    /// No certificates of authorities on this machine.
    #[error("OTEL_EXPORTER_OTLP_ENDPOINT: TLS cannot be started: {0}")]
    Tls(String),
    /// The library refuses what it is given.
    #[error("OTEL_EXPORTER_OTLP_ENDPOINT: {0}")]
    Exporter(String),
}

/// The exporter to a collector; to be called on a runtime.
pub(super) fn exporter(endpoint: &str) -> Result<ReportedExporter, TraceError> {
    for result in ["exported", "lost"] {
        metrics::counter!(SPANS_TOTAL, "result" => result).increment(0);
    }
    let client = CollectorClient::new(endpoint)?;
    let fault = Arc::clone(&client.fault);
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_endpoint(endpoint)
        .with_protocol(Protocol::HttpBinary)
        .with_timeout(EXPORT_TIMEOUT)
        .build()
        .map_err(|error| TraceError::Exporter(error.to_string()))?;
    Ok(ReportedExporter { exporter, fault, outage: Mutex::new(None) })
}

/// Why the last request got no answer: the library's errors leave that out.
type LastFault = Arc<Mutex<Option<String>>>;

/// A time in which the collector takes nothing.
#[derive(Debug)]
struct CollectorOutage {
    since: Instant,
    lost: u64,
}

/// An exporter with a line where an outage begins and one where it ends.
#[derive(Debug)]
pub(super) struct ReportedExporter {
    exporter: opentelemetry_otlp::SpanExporter,
    fault: LastFault,
    outage: Mutex<Option<CollectorOutage>>,
}

impl ReportedExporter {
    fn outage(&self) -> MutexGuard<'_, Option<CollectorOutage>> {
        self.outage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, spans: u64, done: &OTelSdkResult) {
        let result = if done.is_ok() { "exported" } else { "lost" };
        metrics::counter!(SPANS_TOTAL, "result" => result).increment(spans);
        let mut outage = self.outage();
        match (done, &mut *outage) {
            (Ok(()), None) => {}
            (Ok(()), Some(_)) => {
                let Some(CollectorOutage { since, lost }) = outage.take() else { return };
                let seconds = since.elapsed().as_secs_f64();
                tracing::info!(
                    outage.seconds = seconds,
                    spans.lost = lost,
                    "the collector of traces takes spans again, after {seconds:.1} s; at least {lost} spans are lost"
                );
            }
            (Err(_), Some(outage)) => outage.lost += spans,
            (Err(error), None) => {
                *outage = Some(CollectorOutage { since: Instant::now(), lost: spans });
                let fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone();
                tracing::warn!(
                    %error, fault,
                    "the collector of OTEL_EXPORTER_OTLP_ENDPOINT takes no spans; callbacks are not affected, and sampled \
                     spans are lost until it does"
                );
            }
        }
    }
}

impl SpanExporter for ReportedExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let done = self.exporter.export(batch).await;
        self.note(spans, &done);
        done
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// The client, which runs its requests on the service's runtime.
struct CollectorClient {
    client: PooledCollector,
    runtime: Handle,
    fault: LastFault,
}

#[derive(Clone)]
enum PooledCollector {
    Tls(Client<HttpsConnector<HttpConnector>, Full<Bytes>>),
    Plain(Client<HttpConnector, Full<Bytes>>),
}

impl fmt::Debug for CollectorClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CollectorClient")
    }
}

impl CollectorClient {
    fn new(endpoint: &str) -> Result<Self, TraceError> {
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE);
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(EXPORT_TIMEOUT));
        let client = if endpoint.starts_with("https:") {
            connector.enforce_http(false);
            let tls = HttpsConnectorBuilder::new().with_native_roots();
            let tls = tls.map_err(|error| TraceError::Tls(error.to_string()))?;
            PooledCollector::Tls(builder.build(tls.https_only().enable_http1().wrap_connector(connector)))
        } else {
            PooledCollector::Plain(builder.build(connector))
        };
        Ok(Self { client, runtime: Handle::current(), fault: LastFault::default() })
    }
}

impl PooledCollector {
    async fn send(self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let request = request.map(Full::new);
        let answering = match self {
            Self::Tls(client) => client.request(request),
            Self::Plain(client) => client.request(request),
        };
        let (head, body) = answering.await.map_err(|error| innermost(&error))?.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() { HttpError::from(ResponseBodyTooLarge::new()) } else { error }
        })?;
        Ok(Response::from_parts(head, body.to_bytes()))
    }
}

/// The innermost cause: "Connection refused" says more than "client error", and holds no address.
fn innermost(error: &hyper_util::client::legacy::Error) -> HttpError {
    let mut cause: &(dyn std::error::Error + 'static) = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string().into()
}

impl HttpClient for CollectorClient {
    // As the macro writes it with which the trait is declared.
    fn send_bytes<'life0, 'async_trait>(
        &'life0 self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        let sending = self.client.clone().send(request);
        // The timer, too, has to be made on the runtime.
        let task = self.runtime.spawn(async move { timeout(EXPORT_TIMEOUT, sending).await });
        Box::pin(async move {
            let answered = match task.await {
                Ok(Ok(answered)) => answered,
                Ok(Err(_)) => Err("no answer in time".into()),
                Err(_) => Err("the service ends".into()),
            };
            let fault = answered.as_ref().err().map(ToString::to_string);
            *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
            answered
        })
    }
}
