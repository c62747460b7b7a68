//! Traces by OpenTelemetry: one span for each sampled callback, from its receipt until it is durable, and one for the
//! transaction that commits it.
//!
//! A callback has no trace of its own that it belongs to, because Tencent sends no trace context and that of a stranger is not
//! believed. So whether it is sampled is decided here, by chance, before anything is made: a callback that is not sampled costs
//! one comparison and no allocation. A transaction commits many callbacks (group commit); its span is a child of the first
//! sampled one and has links to all of them, and each of them has a link to it. No span holds an id but that of the app, nor
//! anything of a body. A finished span goes into a queue of bounded size, from which a thread exports; a collector that is
//! slow or away costs spans and nothing else.

mod exporter;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::trace::{
    Link, Span as _, SpanContext, SpanKind, Status, TraceContextExt as _, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider, Span};

use crate::clock;
use crate::model::SdkAppId;
use exporter::exporter;

pub use exporter::TraceError;

/// The name under which spans are exported where `OTEL_SERVICE_NAME` says no other.
const SERVICE_NAME: &str = "group-mirror";

/// How the SDK names a service whose name is not set.
const UNNAMED: &str = "unknown_service";

/// How long a stop waits for the collector to take what is queued.
const FLUSH_WAIT_MAX: Duration = Duration::from_secs(1);

/// How many links a span has at most: a transaction of the largest batch keeps all of them.
const LINKS_MAX: u32 = 256;

/// Where spans go, and how many callbacks have one.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceSettings {
    /// The collector's address for traces, with its path.
    pub endpoint: String,
    /// The share of callbacks that are sampled, 0 to 1.
    pub ratio: f64,
}

/// The traces of a service; off unless a collector is named. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Traces(Option<Arc<Tracing>>);

#[derive(Debug)]
struct Tracing {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    ratio: f64,
}

impl Traces {
    /// Begins to export; none where no collector is named. Needs a runtime, on which requests to the collector run.
    ///
    /// # Errors
    /// TLS cannot be started.
    pub fn start(settings: Option<&TraceSettings>, version: &'static str) -> Result<Self, TraceError> {
        let Some(TraceSettings { endpoint, ratio }) = settings else { return Ok(Self::default()) };
        let provider = SdkTracerProvider::builder()
            .with_resource(resource(version))
            // What is to be sampled is decided before a span is begun.
            .with_sampler(Sampler::AlwaysOn)
            .with_max_links_per_span(LINKS_MAX)
            .with_batch_exporter(exporter(endpoint)?)
            .build();
        let tracer = provider.tracer(SERVICE_NAME);
        Ok(Self(Some(Arc::new(Tracing { provider, tracer, ratio: *ratio }))))
    }

    /// The span of an authentic callback that was received at `begun`; none where it is not sampled.
    #[must_use]
    pub fn callback(&self, app: SdkAppId, begun: Instant) -> Option<CallbackSpan> {
        let tracing = self.0.as_ref().filter(|tracing| fastrand::f64() < tracing.ratio)?;
        let since = clock::system_time().checked_sub(begun.elapsed()).unwrap_or_else(clock::system_time);
        let builder = tracing
            .tracer
            .span_builder("callback")
            .with_kind(SpanKind::Server)
            .with_start_time(since)
            .with_attributes([KeyValue::new("group_mirror.app", app.get())]);
        let span = tracing.tracer.build_with_context(builder, &Context::new());
        Some(CallbackSpan { span: Arc::new(Mutex::new(span)), tracer: tracing.tracer.clone() })
    }

    /// Exports what is queued, for a moment, and ends.
    pub async fn close(&self) {
        let Some(tracing) = self.0.clone() else { return };
        // It blocks until the thread that exports has answered.
        let closing = move || tracing.provider.shutdown_with_timeout(FLUSH_WAIT_MAX);
        if let Ok(Err(error)) = tokio::task::spawn_blocking(closing).await {
            tracing::debug!(%error, "the last spans were not exported");
        }
    }
}

/// What all spans say of the service: its name and version, and what `OTEL_RESOURCE_ATTRIBUTES` adds.
fn resource(version: &'static str) -> Resource {
    let found = Resource::builder().build();
    let is_named = found.get(&"service.name".into()).is_some_and(|name| !name.as_str().starts_with(UNNAMED));
    let builder = Resource::builder().with_attribute(KeyValue::new("service.version", version));
    if is_named { builder.build() } else { builder.with_service_name(SERVICE_NAME).build() }
}

/// The span of a sampled callback. Cheap to clone; it is exported when it is ended, or the last clone is dropped.
#[derive(Debug, Clone)]
pub struct CallbackSpan {
    span: Arc<Mutex<Span>>,
    tracer: SdkTracer,
}

impl CallbackSpan {
    fn span(&self) -> MutexGuard<'_, Span> {
        self.span.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn context(&self) -> SpanContext {
        self.span().span_context().clone()
    }

    /// The callback is answered for; both labels are of closed lists.
    pub fn end(self, command: &'static str, outcome: &'static str, is_durable: bool) {
        let mut span = self.span();
        span.set_attribute(KeyValue::new("group_mirror.command", command));
        span.set_attribute(KeyValue::new("group_mirror.outcome", outcome));
        if !is_durable {
            span.set_status(Status::error("not durable"));
        }
        span.end();
    }
}

/// The span of a transaction that commits sampled callbacks beside others.
#[derive(Debug)]
pub struct BatchSpan(Span);

impl BatchSpan {
    /// Begins one; none where none of its callbacks is sampled. `count` is the number of all callbacks in it.
    #[must_use]
    pub fn begin<'a>(sampled: impl Iterator<Item = &'a CallbackSpan> + Clone, count: usize) -> Option<Self> {
        let first = sampled.clone().next()?;
        let links = sampled.clone().map(|callback| Link::with_context(callback.context()));
        let builder = first
            .tracer
            .span_builder("transaction")
            .with_kind(SpanKind::Client)
            .with_links(links.collect())
            .with_attributes([
                KeyValue::new("db.system.name", "postgresql"),
                KeyValue::new("group_mirror.callbacks", i64::try_from(count).unwrap_or(i64::MAX)),
            ]);
        let parent = Context::new().with_remote_span_context(first.context());
        let span = first.tracer.build_with_context(builder, &parent);
        let context = span.span_context().clone();
        sampled.for_each(|callback| callback.span().add_link(context.clone(), Vec::new()));
        Some(Self(span))
    }

    /// The server has answered for so many of its callbacks.
    pub fn end(mut self, committed: usize) {
        let committed = i64::try_from(committed).unwrap_or(i64::MAX);
        self.0.set_attribute(KeyValue::new("group_mirror.committed", committed));
        if committed == 0 {
            self.0.set_status(Status::error("nothing was committed"));
        }
        self.0.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_collector_no_callback_has_a_span() {
        let traces = Traces::start(None, "0").unwrap();
        let app = SdkAppId::parse("1400000001").unwrap();
        assert!(traces.callback(app, Instant::now()).is_none());
        assert!(BatchSpan::begin([].iter(), 7).is_none());
    }
}
