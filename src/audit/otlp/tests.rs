//! What was written is read again with the messages that the OpenTelemetry project generates from its schema.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point;
use prost::Message as _;

use super::*;
use crate::audit::trace_context::{SpanId, TraceId};

const TIMES: Times = Times { begun_ns: 5, now_ns: 1 << 63 };

fn resource() -> Resource {
    Resource(vec![("service.name", "edge".into())])
}

fn pairs(attributes: &[KeyValue]) -> Vec<(String, Value)> {
    let value = |pair: &KeyValue| pair.value.clone().and_then(|value| value.value).expect("a value");
    attributes.iter().map(|pair| (pair.key.clone(), value(pair))).collect()
}

fn text(text: &str) -> Value {
    Value::StringValue(text.into())
}

fn client_span() -> Span {
    Span {
        trace: TraceId([7; 16]),
        id: SpanId::of(9),
        parent: Some(SpanId::of(8)),
        state: Some("a=1".parse().unwrap()),
        kind: SpanKind::Client,
        name: "GET".into(),
        begun_ns: 1,
        ended_ns: u64::MAX,
        attributes: vec![
            ("a", Attribute::text("é")),
            ("empty", Attribute::text("")),
            ("zero", Attribute::Whole(0)),
            ("less", Attribute::Whole(-3)),
        ],
        failed: true,
        link: Some((TraceId([6; 16]), SpanId::of(5))),
    }
}

#[test]
fn spans_are_read_as_they_were_written() {
    let server = Span { parent: None, state: None, kind: SpanKind::Server, failed: false, link: None, ..client_span() };
    let read = ExportTraceServiceRequest::decode(&*traces(&resource(), &[client_span(), server])).unwrap();
    let [all] = &read.resource_spans[..] else { panic!("{read:?}") };
    let service = all.resource.as_ref().unwrap();
    assert_eq!(pairs(&service.attributes), [("service.name".to_owned(), text("edge"))]);
    let scope = all.scope_spans[0].scope.as_ref().unwrap();
    assert_eq!((scope.name.as_str(), scope.version.as_str()), ("gatewright", env!("CARGO_PKG_VERSION")));
    let [client, server] = &all.scope_spans[0].spans[..] else { panic!("{read:?}") };
    assert_eq!((&client.trace_id[..], &client.span_id[..]), (&[7; 16][..], &[0, 0, 0, 0, 0, 0, 0, 9][..]));
    assert_eq!((&client.parent_span_id[..], client.trace_state.as_str()), (&[0, 0, 0, 0, 0, 0, 0, 8][..], "a=1"));
    assert_eq!((client.name.as_str(), client.kind, server.kind), ("GET", 3, 2));
    assert_eq!((client.start_time_unix_nano, client.end_time_unix_nano), (1, u64::MAX));
    let expected = [("a", text("é")), ("empty", text("")), ("zero", Value::IntValue(0)), ("less", Value::IntValue(-3))];
    assert_eq!(pairs(&client.attributes), expected.map(|(name, value)| (name.to_owned(), value)));
    assert_eq!((client.status.as_ref().unwrap().code, &client.links[0].trace_id[..]), (2, &[6; 16][..]));
    assert_eq!((server.status.is_none(), server.links.len(), server.parent_span_id.len()), (true, 0, 0));
}

#[test]
fn numbers_are_read_as_they_were_written() {
    let mut counter = Family::new("c_total", FamilyKind::Counter, "Counts.");
    counter.add([("service", "a"), ("code", "")], PointValue::Whole(3));
    let mut gauge = Family::new("g", FamilyKind::Gauge, "Stands.");
    gauge.add([], PointValue::Real(-0.5));
    let mut histogram = Family::new("h", FamilyKind::Histogram, "Sizes.");
    let sizes = PointValue::Histogram { bounds: vec![0.1, 2.5], counts: vec![1, 0, 4], sum: 12.5 };
    histogram.add([("service", "a")], sizes);
    let empty = Family::new("nothing", FamilyKind::Gauge, "No values.");
    let requests = metrics(&resource(), &[counter, empty, gauge, histogram], TIMES);
    let [request] = &requests[..] else { panic!("{} requests", requests.len()) };
    let read = ExportMetricsServiceRequest::decode(&**request).unwrap();
    let [counter, gauge, histogram] = &read.resource_metrics[0].scope_metrics[0].metrics[..] else {
        panic!("{read:?}")
    };
    assert_eq!((counter.name.as_str(), counter.description.as_str()), ("c_total", "Counts."));
    let Some(Data::Sum(sum)) = &counter.data else { panic!("{counter:?}") };
    assert_eq!((sum.aggregation_temporality, sum.is_monotonic), (2, true));
    let point = &sum.data_points[0];
    assert_eq!((point.start_time_unix_nano, point.time_unix_nano), (5, 1 << 63));
    assert_eq!(point.value, Some(number_data_point::Value::AsInt(3)));
    assert_eq!(pairs(&point.attributes), [("service".to_owned(), text("a")), ("code".to_owned(), text(""))]);
    let Some(Data::Gauge(stands)) = &gauge.data else { panic!("{gauge:?}") };
    assert_eq!(stands.data_points[0].value, Some(number_data_point::Value::AsDouble(-0.5)));
    let Some(Data::Histogram(sizes)) = &histogram.data else { panic!("{histogram:?}") };
    let point = &sizes.data_points[0];
    assert_eq!((sizes.aggregation_temporality, point.count, point.sum), (2, 5, Some(12.5)));
    assert_eq!((&point.bucket_counts[..], &point.explicit_bounds[..]), (&[1, 0, 4][..], &[0.1, 2.5][..]));
    assert_eq!(pairs(&point.attributes), [("service".to_owned(), text("a"))]);
}

#[test]
fn many_values_go_in_several_requests() {
    let mut family = Family::new("c_total", FamilyKind::Counter, "Counts.");
    for number in 0..POINTS_MAX + 1 {
        family.add([("service", &number.to_string())], PointValue::Whole(1));
    }
    let counted: Vec<usize> = metrics(&resource(), &[family.clone(), family], TIMES)
        .iter()
        .map(|request| ExportMetricsServiceRequest::decode(&**request).unwrap())
        .map(|read| {
            let metrics = &read.resource_metrics[0].scope_metrics[0].metrics;
            let points = metrics.iter().filter_map(|metric| match &metric.data {
                Some(Data::Sum(sum)) => Some(sum.data_points.len()),
                _ => None,
            });
            points.sum()
        })
        .collect();
    assert_eq!(counted, [POINTS_MAX, POINTS_MAX, 2]);
}

#[test]
fn an_answer_tells_what_was_not_taken() {
    let said = |rejected_spans: i64, error_message: &str| {
        let partial_success = Some(ExportTracePartialSuccess { rejected_spans, error_message: error_message.into() });
        rejected(&ExportTraceServiceResponse { partial_success }.encode_to_vec())
    };
    assert_eq!(said(3, "too old"), Some((3, "too old".to_owned())));
    assert_eq!(said(0, "a warning"), None);
    assert_eq!(said(1, &"x".repeat(999)).unwrap().1.len(), REASON_CHARS_MAX);
    assert_eq!((rejected(b""), rejected(b"{}"), rejected(&[0xff; 40])), (None, None, None));
}
