//! Traces as a collector gets them: a server that speaks OTLP over HTTP beside the real service, or none, or one that takes
//! nothing.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as AnyValue;
use opentelemetry_proto::tonic::common::v1::{AnyValue as Holder, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::net::{TcpListener, TcpSocket};

use crate::durability::isolation::{metric, take};
use crate::durability::spool::create;
use crate::support::postgres::TestDatabase;
use crate::support::process::{Place, Process};
use crate::support::{API_TOKEN, APP, eventually, sample, signed_query};

/// What a collector was sent.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

impl Collector {
    fn start(listener: TcpListener) -> Self {
        let collector = Self::default();
        let take = async |State(collector): State<Self>, headers: HeaderMap, body: Bytes| {
            assert_eq!(headers["content-type"], "application/x-protobuf");
            collector.0.lock().unwrap().push(ExportTraceServiceRequest::decode(body).unwrap());
        };
        let routes = Router::new().route("/v1/traces", post(take)).with_state(collector.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        collector
    }

    fn requests(&self) -> Vec<ExportTraceServiceRequest> {
        self.0.lock().unwrap().clone()
    }

    fn spans(&self, name: &str) -> Vec<Span> {
        let requests = self.requests().into_iter().flat_map(|request| request.resource_spans);
        let spans = requests.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans);
        spans.filter(|span| span.name == name).collect()
    }
}

/// An attribute as text.
fn attribute(attributes: &[KeyValue], name: &str) -> String {
    let value = attributes.iter().find(|attribute| attribute.key == name).and_then(|it| it.value.clone());
    match value {
        Some(Holder { value: Some(AnyValue::StringValue(text)) }) => text,
        Some(Holder { value: Some(AnyValue::IntValue(number)) }) => number.to_string(),
        other => panic!("{name}: {other:?} of {attributes:?}"),
    }
}

/// A service that sends its spans to an address.
fn traced(place: &Place, database: &TestDatabase, address: &str, sampler: &str) -> std::process::Command {
    let mut command = place.command_on(&database.url, &[]);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{address}"));
    command.env("OTEL_TRACES_SAMPLER", sampler).env("OTEL_BSP_SCHEDULE_DELAY", "100");
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_gets_a_span_for_each_callback_and_one_for_each_transaction_with_links_between_them() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let collector = Collector::start(listener);
    let mut service = traced(&place, &database, &address, "always_on");
    service.env("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test");
    let service = Process::start(service).ready().await;
    let bodies: Vec<_> = (0..40).map(|number| create(&format!("secret-group-{number}"))).collect();
    let sent = bodies.iter().map(|body| take(&service, body));
    futures_util::future::join_all(sent).await;
    take(&service, &bodies[0]).await;
    let parked = service.post(&signed_query(), "nonsense".to_owned()).await;
    assert!(parked.text().await.unwrap().contains("parked: "));
    // Not kept, not authentic, and a check: none of these has a span.
    let presence = r#"{"CallbackCommand":"State.StateChange"}"#.to_owned();
    assert_eq!(service.post(&signed_query(), presence).await.status(), 200);
    assert_eq!(service.post(&format!("SdkAppid={APP}"), bodies[0].to_string()).await.status(), 403);
    assert_eq!(service.post("", String::new()).await.status(), 200);
    assert!(eventually(async || collector.spans("callback").len() >= 42).await, "{}", service.log());
    service.ends_well_on("TERM").await;
    let (callbacks, transactions) = (collector.spans("callback"), collector.spans("transaction"));
    assert_eq!(callbacks.len(), 42);
    let count = |outcome: &str| {
        callbacks.iter().filter(|span| attribute(&span.attributes, "group_mirror.outcome") == outcome).count()
    };
    assert_eq!([count("applied"), count("duplicate"), count("parked")], [40, 1, 1]);
    assert!(!transactions.is_empty() && transactions.len() <= 42);
    for span in &callbacks {
        assert!(span.parent_span_id.is_empty() && span.end_time_unix_nano > span.start_time_unix_nano);
        assert_eq!(attribute(&span.attributes, "group_mirror.app"), APP);
        // Each leads to the transaction that committed it, and that to each of its callbacks.
        let [link] = &span.links[..] else { panic!("{span:?}") };
        let transaction = transactions.iter().find(|it| it.span_id == link.span_id).unwrap();
        assert!(transaction.links.iter().any(|it| it.span_id == span.span_id), "{transaction:?}");
        assert!(transaction.start_time_unix_nano >= span.start_time_unix_nano);
    }
    let mut linked = 0;
    for transaction in &transactions {
        linked += transaction.links.len();
        let callbacks = attribute(&transaction.attributes, "group_mirror.callbacks");
        assert_eq!(callbacks, transaction.links.len().to_string(), "all are sampled");
        assert_eq!(attribute(&transaction.attributes, "group_mirror.committed"), callbacks);
        assert_eq!(transaction.parent_span_id, transaction.links[0].span_id);
        assert_eq!(transaction.trace_id, transaction.links[0].trace_id);
    }
    assert_eq!(linked, 42);
    let requests = collector.requests();
    let resource = &requests[0].resource_spans[0].resource.as_ref().unwrap().attributes;
    assert_eq!(attribute(resource, "service.name"), "group-mirror");
    assert_eq!(attribute(resource, "service.version"), env!("CARGO_PKG_VERSION"));
    assert_eq!(attribute(resource, "deployment.environment.name"), "test");
    // Nothing of a body, and no id but that of the app.
    let all = format!("{requests:?}");
    for word in ["secret-group", "ana_77", "boris", "Spooled", "nonsense"] {
        assert!(!all.contains(word), "{word}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_fails_no_callback_and_is_one_line_until_it_takes_spans_again() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    // Bound and not listening: connections are refused, and no other program gets the port.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let mut service =
        Process::start(traced(&place, &database, &address.to_string(), "always_on")).ready().await;
    take(&service, &create("first")).await;
    service.says("the collector of OTEL_EXPORTER_OTLP_ENDPOINT takes no spans").await;
    // Each of these is lost in an export of its own, and none of them has a line.
    for number in 0..3 {
        let lost = metric(&service, "group_mirror_trace_spans_total{result=\"lost\"}").await;
        take(&service, &create(&format!("g{number}"))).await;
        let more = async || metric(&service, "group_mirror_trace_spans_total{result=\"lost\"}").await > lost;
        assert!(eventually(more).await, "{}", service.log());
    }
    let lines = service.log().matches("takes no spans").count();
    assert_eq!(lines, 1, "{}", service.log());
    let collector = Collector::start(socket.listen(16).unwrap());
    take(&service, &create("last")).await;
    service.says("the collector of traces takes spans again, after ").await;
    // What a full queue drops is not in the number.
    let at_least =
        service.log().lines().any(|line| line.contains("; at least ") && line.contains(" spans are lost"));
    assert!(at_least, "{}", service.log());
    assert!(!collector.spans("callback").is_empty());
    assert!(!service.log().contains("ERROR"), "{}", service.log());
    service.ends_well_on("TERM").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_never_answers_delays_neither_callbacks_nor_the_stop() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    // Connections are taken by the kernel, and no answer comes.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let service = Process::start(traced(&place, &database, &address, "always_on")).ready().await;
    let body = sample("Group.CallbackAfterCreateGroup");
    for _ in 0..50 {
        take(&service, &body).await;
    }
    assert_eq!(service.get_as(API_TOKEN, "/readyz").await.status(), 200);
    service.ends_well_on("TERM").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callbacks_that_are_not_sampled_have_no_span() {
    let (place, database) = (Place::new(), TestDatabase::create().await);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let collector = Collector::start(listener);
    let mut command = traced(&place, &database, &address, "traceidratio");
    command.env("OTEL_TRACES_SAMPLER_ARG", "0.5");
    let service = Process::start(command).ready().await;
    for number in 0..100 {
        take(&service, &create(&format!("g{number}"))).await;
    }
    service.ends_well_on("TERM").await;
    let sampled = collector.spans("callback").len();
    // Beyond these bounds once in some ten million runs.
    assert!((24..=76).contains(&sampled), "{sampled}");
    assert!(collector.spans("transaction").iter().all(|span| !span.links.is_empty()));
}
