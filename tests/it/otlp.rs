//! Traces and numbers over OTLP, read by a collector of the test's own with the messages that the OpenTelemetry project
//! generates from its schema; and the trace context that upstreams see.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

use crate::collector::{Got, Server, spans_of};
use crate::harness::{Answer, Gateway, PATIENCE, command, exchange, free_address, gatewright, hello};

fn config(collector: SocketAddr, settings: &str) -> String {
    format!(
        "listeners: [{{ name: main, address: 127.0.0.1:0, trusted_proxies: 127.0.0.1 }}]\nadmin: {{ address: 127.0.0.1:0 \
         }}\nworkers: 1\notlp:\n  endpoint: http://{collector}/base/\n{settings}"
    )
}

fn policy(upstream: SocketAddr) -> String {
    format!(
        "upstream: orders\ntargets: [\"http://{upstream}\"]\n---\nservice: orders\nmatch: {{ path: \"/orders/{{id}}\" }}\n\
         policy:\n  - route: {{ upstream: orders, retry: {{ attempts: 2, for: [503], budget: 100% }} }}\n  - \
         set_headers: {{ x-trace: \"${{request.trace_id ?? 'none'}}\" }}\n"
    )
}

fn start(collector: SocketAddr, settings: &str, upstream: SocketAddr) -> Gateway {
    Gateway::start(&[("gateway.yaml", &config(collector, settings)), ("policies/orders.yaml", &policy(upstream))])
}

fn ask(gateway: &Gateway, path: &str, fields: &str) -> Answer {
    exchange(gateway.main, &format!("GET {path} HTTP/1.1\r\nhost: a.test:81\r\n{fields}connection: close\r\n\r\n"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn attributes(span: &Span) -> BTreeMap<&str, String> {
    let value = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    };
    let pairs = span.attributes.iter();
    pairs.map(|pair| (&*pair.key, value(pair.value.as_ref().unwrap().value.as_ref().unwrap()))).collect()
}

/// `traceparent` in its parts.
fn parent(got: &Got) -> (String, String, String) {
    let parts: Vec<&str> = got.header("traceparent").unwrap().split('-').collect();
    let [version, trace, span, flags] = parts[..] else { panic!("{parts:?}") };
    assert_eq!(version, "00");
    (trace.to_owned(), span.to_owned(), flags.to_owned())
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

#[test]
fn a_request_and_its_attempts_are_spans_of_the_callers_trace() {
    let (collector, mut asked) = (Server::taking(), 0);
    let upstream = Server::start(move |_| {
        asked += 1;
        Some((if asked == 1 { 503 } else { 201 }, String::new(), b"ok".to_vec()))
    });
    let gateway = start(collector.address, "  signals: traces\n  service_name: edge\n", upstream.address);
    let fields = format!(
        "traceparent: 00-{TRACE}-{SPAN}-01\r\ntracestate: a=1\r\ntracestate: b=2\r\nauthorization: Bearer canary\r\ncookie: \
         s=canary\r\n"
    );
    let answer = ask(&gateway, "/orders/7?key=canary", &fields);
    assert_eq!((answer.status, answer.header("x-trace")), (201, Some(TRACE)));
    let record = gateway.record("/orders/7");
    assert_eq!(record["trace_id"], TRACE);
    let (first, second) = (upstream.next(), upstream.next());
    for got in [&first, &second] {
        assert_eq!(
            (parent(got).0.as_str(), parent(got).2.as_str(), got.header("tracestate")),
            (TRACE, "01", Some("a=1,b=2"))
        );
    }
    assert_ne!(parent(&first).1, parent(&second).1, "each attempt is a span of its own");

    let got = collector.next();
    assert_eq!(got.path, "/base/v1/traces");
    assert!(!String::from_utf8_lossy(&got.body).contains("canary"), "no credential and no query");
    let read = ExportTraceServiceRequest::decode(&*got.body).unwrap();
    let resource = &read.resource_spans[0].resource.as_ref().unwrap().attributes;
    assert!(resource.iter().any(|pair| pair.key == "service.name" && format!("{pair:?}").contains("\"edge\"")));
    let spans = spans_of(&got);
    let [server, one, other] = &spans[..] else { panic!("{spans:?}") };
    assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE && span.trace_state == "a=1,b=2"));
    assert_eq!(
        (hex(&server.parent_span_id).as_str(), server.kind, server.name.as_str()),
        (SPAN, 2, "GET /orders/{id}")
    );
    for (span, got) in [(one, &first), (other, &second)] {
        assert_eq!((&span.parent_span_id, span.kind, hex(&span.span_id)), (&server.span_id, 3, parent(got).1));
        assert!(
            server.start_time_unix_nano <= span.start_time_unix_nano
                && span.end_time_unix_nano <= server.end_time_unix_nano
        );
    }
    let taken_us = (server.end_time_unix_nano - server.start_time_unix_nano) / 1000;
    assert!(taken_us >= record["duration_us"].as_u64().unwrap() && taken_us < 30_000_000, "{taken_us}");
    check_attributes(server, one, other, &record);
}

fn check_attributes(server: &Span, one: &Span, other: &Span, record: &serde_json::Value) {
    let of_server = attributes(server);
    for (name, value) in [
        ("http.request.method", "GET"),
        ("url.scheme", "http"),
        ("url.path", "/orders/7"),
        ("http.route", "/orders/{id}"),
        ("server.address", "a.test"),
        ("server.port", "81"),
        ("client.address", "127.0.0.1"),
        ("network.protocol.version", "1.1"),
        ("http.response.status_code", "201"),
        ("gatewright.service", "orders"),
        ("gatewright.listener", "main"),
        ("gatewright.outcome", "sent"),
        ("gatewright.request_id", record["request_id"].as_str().unwrap()),
        ("gatewright.snapshot", record["snapshot"].as_str().unwrap()),
    ] {
        assert_eq!(of_server.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(server.status.is_none() && !of_server.contains_key("error.type"));
    let (one_is, other_is) = (attributes(one), attributes(other));
    assert_eq!((&*one_is["http.response.status_code"], &*one_is["error.type"]), ("503", "503"));
    assert!(!one_is.contains_key("http.request.resend_count") && one.status.as_ref().unwrap().code == 2);
    assert_eq!((&*other_is["http.response.status_code"], &*other_is["http.request.resend_count"]), ("201", "1"));
    assert_eq!((&*other_is["server.address"], &*other_is["gatewright.upstream"]), ("127.0.0.1", "orders"));
    assert!(other.status.is_none());
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/observability.md")).unwrap();
    let named: BTreeSet<&str> = [&of_server, &one_is, &other_is].iter().flat_map(|all| all.keys().copied()).collect();
    assert!(named.iter().all(|name| page.contains(&format!("`{name}`"))), "{named:?} are on the page");
}

#[test]
fn who_is_not_believed_or_says_nothing_that_can_be_read_gets_a_new_trace() {
    let (collector, upstream) = (Server::taking(), Server::taking());
    let believed = start(collector.address, "  signals: traces\n", upstream.address);
    let upper = TRACE.to_uppercase();
    for wrong in [
        format!("traceparent: 00-{upper}-{SPAN}-01\r\ntracestate: a=1\r\n"),
        format!("traceparent: ff-{TRACE}-{SPAN}-01\r\n"),
        format!("traceparent: 00-{TRACE}-{SPAN}-01\r\ntraceparent: 00-{TRACE}-{SPAN}-01\r\n"),
        "tracestate: a=1\r\n".to_owned(),
        String::new(),
    ] {
        ask(&believed, "/orders/1", &wrong);
        let (got, record) = (upstream.next(), believed.record("/orders/1"));
        assert_eq!(got.header("tracestate"), None, "{wrong}");
        let (trace, _, flags) = parent(&got);
        assert_ne!(trace, TRACE);
        assert_eq!(
            (&record["trace_id"], &record["request_id"], flags.as_str()),
            (&trace.as_str().into(), &trace.as_str().into(), "01")
        );
        let spans = collector.spans(2);
        assert!(spans.iter().all(|span| hex(&span.trace_id) == trace && span.links.is_empty()));
        assert!(spans[0].parent_span_id.is_empty());
    }
    let believing_nobody = start(collector.address, "  signals: traces\n  trust: nobody\n", upstream.address);
    ask(&believing_nobody, "/orders/1", &format!("traceparent: 00-{TRACE}-{SPAN}-01\r\ntracestate: a=1\r\n"));
    let got = upstream.next();
    assert!(parent(&got).0 != TRACE && got.header("tracestate").is_none());
    let spans = collector.spans(2);
    assert_eq!((hex(&spans[0].links[0].trace_id).as_str(), hex(&spans[0].links[0].span_id).as_str()), (TRACE, SPAN));
    assert!(spans[0].parent_span_id.is_empty() && hex(&spans[0].trace_id) == parent(&got).0);
}

#[test]
fn callers_decide_what_is_recorded_and_the_share_decides_the_rest() {
    let (collector, upstream) = (Server::taking(), Server::taking());
    let gateway = start(collector.address, "  signals: traces\n  sample: 0%\n", upstream.address);
    ask(&gateway, "/orders/1", "");
    let got = upstream.next();
    assert_eq!(
        (parent(&got).0, parent(&got).2),
        (gateway.record("/orders/1")["trace_id"].as_str().unwrap().into(), "00".into())
    );
    ask(&gateway, "/orders/2", &format!("traceparent: 00-{TRACE}-{SPAN}-00\r\n"));
    assert_eq!(parent(&upstream.next()).2, "00");
    ask(&gateway, "/orders/3", &format!("traceparent: 00-{TRACE}-{SPAN}-01\r\n"));
    assert_eq!(parent(&upstream.next()).2, "01");
    let spans = collector.spans(2);
    assert_eq!(attributes(&spans[0])["url.path"], "/orders/3", "nothing else was sent before it");
}

#[test]
fn failures_are_named_and_names_are_few() {
    let collector = Server::taking();
    let upstream = Server::start(|got| Some((got.path[8..].parse().unwrap(), String::new(), Vec::new())));
    let gateway = start(collector.address, "  signals: traces\n", upstream.address);
    let of = |status: &str| {
        ask(&gateway, &format!("/orders/{status}"), "");
        let spans = collector.spans(if status == "503" { 3 } else { 2 });
        let errors: Vec<Option<String>> = spans.iter().map(|span| attributes(span).remove("error.type")).collect();
        let failed: Vec<bool> =
            spans.iter().map(|span| span.status.as_ref().is_some_and(|one| one.code == 2)).collect();
        (errors, failed)
    };
    let error = |code: &str| Some(code.to_owned());
    assert_eq!(of("503"), (vec![error("503"); 3], vec![true; 3]));
    assert_eq!(of("404"), (vec![None, error("404")], vec![false, true]), "to a server a refusal is an answer");
    exchange(gateway.main, "BREW /orders/200 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    let spans = collector.spans(2);
    assert_eq!((spans[0].name.as_str(), spans[1].name.as_str()), ("_OTHER /orders/{id}", "_OTHER"));
    let named = attributes(&spans[0]);
    assert_eq!((&*named["http.request.method"], &*named["http.request.method_original"]), ("_OTHER", "BREW"));
    ask(&gateway, "/nothing", "");
    let spans = collector.spans(1);
    let named = attributes(&spans[0]);
    assert_eq!((spans[0].name.as_str(), &*named["gatewright.fault"]), ("GET", "service.none"));
    assert!(!named.contains_key("http.route") && !named.contains_key("error.type"));

    let nobody = free_address();
    let gateway = start(collector.address, "  signals: traces\n", nobody);
    ask(&gateway, "/orders/1", "");
    let spans = collector.spans(2);
    let errors: Vec<String> = spans.iter().map(|span| attributes(span)["error.type"].clone()).collect();
    assert_eq!(errors, ["route.connect", "connect"]);
}

#[test]
fn a_client_that_leaves_ends_its_spans() {
    let (collector, upstream) = (Server::taking(), Server::start(|_| None));
    let gateway = start(collector.address, "  signals: traces\n", upstream.address);
    let mut tcp = TcpStream::connect(gateway.main).unwrap();
    tcp.write_all(b"GET /orders/1 HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    upstream.next();
    drop(tcp);
    let spans = collector.spans(2);
    let (server, client) = (attributes(&spans[0]), attributes(&spans[1]));
    assert_eq!((&*server["error.type"], &*server["http.response.status_code"]), ("client.gone", "499"));
    assert_eq!((&*client["error.type"], client.get("http.response.status_code")), ("cancelled", None));
}

#[test]
fn what_is_scrubbed_from_a_record_is_not_in_its_span() {
    let (collector, upstream) = (Server::taking(), Server::taking());
    let gateway = start(collector.address, "  signals: traces\nscrub: [pan]\n", upstream.address);
    ask(&gateway, "/orders/4111111111111111", "");
    let got = collector.next();
    assert!(!String::from_utf8_lossy(&got.body).contains("4111111111111111"));
    let path = attributes(&spans_of(&got)[0])["url.path"].clone();
    assert!(path.starts_with("/orders/4111") && gateway.record(&path)["path"] == path, "{path}");
}

#[test]
fn without_an_endpoint_nothing_is_added_or_taken_away() {
    let upstream = Server::taking();
    let gateway = Gateway::start(&[("policies/orders.yaml", &policy(upstream.address))]);
    let answer = ask(&gateway, "/orders/1", "traceparent: what-ever\r\ntracestate: A\r\n");
    let got = upstream.next();
    assert_eq!((got.header("traceparent"), got.header("tracestate")), (Some("what-ever"), Some("A")));
    assert_eq!((answer.header("x-trace"), gateway.record("/orders/1").get("trace_id")), (Some("none"), None));
    ask(&gateway, "/orders/1", "");
    assert_eq!(upstream.next().header("traceparent"), None);
}

#[test]
fn the_numbers_of_a_scrape_are_sent_too() {
    let (collector, upstream) = (Server::taking(), Server::taking());
    let settings =
        "  signals: metrics\n  interval: 100ms\n  headers: { authorization: { file: token }, x-tenant: one }\n";
    let files = [
        ("gateway.yaml", &*config(collector.address, settings)),
        ("policies/orders.yaml", &policy(upstream.address)),
        ("token", "Bearer t0p\n"),
    ];
    let gateway = Gateway::start(&files);
    assert_eq!(ask(&gateway, "/orders/1", "").header("x-trace"), Some("none"), "numbers alone trace nothing");
    let begun = Instant::now();
    let metrics = loop {
        assert!(begun.elapsed() < PATIENCE);
        let got = collector.next();
        assert_eq!(
            (got.path.as_str(), got.header("authorization"), got.header("x-tenant")),
            ("/base/v1/metrics", Some("Bearer t0p"), Some("one"))
        );
        let read = ExportMetricsServiceRequest::decode(&*got.body).unwrap();
        if counts_a_request(&got) {
            break read.resource_metrics[0].scope_metrics[0].metrics.clone();
        }
    };
    let names: BTreeSet<String> = metrics.iter().map(|metric| metric.name.clone()).collect();
    let page = gateway.ask_admin("GET", "/metrics").body;
    let with_values = |name: &str| page.lines().any(|line| line.starts_with(name));
    let scraped = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let scraped = scraped.filter(|name| with_values(name) && *name != "gatewright_otlp_exports_total");
    let missing: Vec<&str> = scraped.filter(|name| !names.contains(*name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let requests = metrics.iter().find(|metric| metric.name == "gatewright_requests_total").unwrap();
    let Some(Data::Sum(sum)) = &requests.data else { panic!("{requests:?}") };
    let labels: Vec<&str> = sum.data_points[0].attributes.iter().map(|pair| pair.key.as_str()).collect();
    assert_eq!((labels, sum.is_monotonic, sum.aggregation_temporality), (vec!["service", "status"], true, 2));
    assert!(sum.data_points[0].start_time_unix_nano <= sum.data_points[0].time_unix_nano);
}

#[test]
fn what_the_collector_does_fails_no_request() {
    let mut asked = 0;
    let partial = ExportTracePartialSuccess { rejected_spans: 1, error_message: "too old".into() };
    let partial = ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec();
    let collector = Server::start(move |_| {
        asked += 1;
        match asked {
            1 => Some((400, String::new(), b"never".to_vec())),
            2 => Some((503, "retry-after: 0\r\n".into(), Vec::new())),
            3 => Some((200, String::new(), partial.clone())),
            4 => Some((307, "location: http://127.0.0.1:1/\r\n".into(), Vec::new())),
            5 => None,
            _ => Some((200, String::new(), vec![0xff; 100_000])),
        }
    });
    let upstream = Server::taking();
    let gateway = start(collector.address, "  signals: traces\n  timeout: 300ms\n", upstream.address);
    let answered = |id: u32| assert_eq!(ask(&gateway, &format!("/orders/{id}"), "").status, 200);
    let dropped = |count: u64| {
        let line = format!("\ngatewright_otlp_spans_dropped_total {count}\n");
        gateway.admin_until("/metrics", |answer| answer.body.contains(&line))
    };
    answered(1);
    assert_eq!(gateway.logged("the OTLP collector takes nothing")["why"], "the answer is 400 Bad Request");
    dropped(2); // refused for good: not sent again
    answered(2);
    gateway.logged("the OTLP collector takes it again");
    let first = collector.next();
    let (busy, again) = (collector.next(), collector.next());
    assert!(first.body != busy.body && busy.body == again.body, "who is busy is asked once more");
    dropped(3); // one of two was rejected
    answered(4);
    assert_eq!(gateway.logged("the OTLP collector takes nothing")["why"], "the answer is 307 Temporary Redirect");
    dropped(5);
    answered(5); // the collector says nothing, and is asked again after its time
    gateway.logged("the OTLP collector takes it again");
    let page = dropped(5).body;
    for line in ["{result=\"failed\"} 2", "{result=\"partial\"} 1", "{result=\"ok\"} 1"] {
        assert!(page.contains(&format!("\ngatewright_otlp_exports_total{line}\n")), "{line}: {page}");
    }
}

#[test]
fn a_collector_that_is_not_there_holds_nothing_up_not_even_the_end() {
    let nobody = free_address();
    let upstream = Server::taking();
    let mut gateway = start(nobody, "", upstream.address);
    for _ in 0..20 {
        assert_eq!(ask(&gateway, "/orders/1", "").status, 200);
    }
    let begun = Instant::now();
    gateway.signal("TERM");
    gateway.ends_well();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

/// Whether numbers tell of one request.
fn counts_a_request(got: &Got) -> bool {
    let read = ExportMetricsServiceRequest::decode(&*got.body).unwrap();
    let mut metrics = read.resource_metrics[0].scope_metrics[0].metrics.iter();
    metrics.any(|metric| match &metric.data {
        Some(Data::Histogram(all)) => all.data_points.iter().any(|point| point.count == 1),
        _ => false,
    })
}

#[test]
fn what_is_left_at_the_end_is_sent() {
    let (collector, upstream) = (Server::taking(), Server::taking());
    let mut gateway = start(collector.address, "  interval: 1h\n", upstream.address);
    ask(&gateway, "/orders/1", "");
    gateway.signal("TERM");
    gateway.ends_well();
    let (mut spans, mut requests) = (0, 0);
    while let Ok(got) = collector.got.try_recv() {
        match got.path.ends_with("/v1/traces") {
            true => spans += spans_of(&got).len(),
            false => requests += usize::from(counts_a_request(&got)),
        }
    }
    assert_eq!(spans, 2);
    assert!(requests >= 1, "the last numbers tell of the last request");
}

#[test]
fn mistakes_are_told_and_values_of_headers_never() {
    let said = |otlp: &str| {
        let folder = crate::harness::Folder::with(&[("policies/a.yaml", &hello("a", "x"))]);
        folder.write("gateway.yaml", &format!("otlp: {otlp}\n"));
        let said = gatewright(&folder.0, &["check"]);
        assert_eq!(said.code, 3, "{otlp}: {}", said.out);
        said.out
    };
    let endpoint = "endpoint: \"http://127.0.0.1:1\"";
    for (otlp, why) in [
        ("{ endpoint: collector }".to_owned(), "is no endpoint"),
        ("{ endpoint: \"ftp://a/b\" }".to_owned(), "is no endpoint"),
        ("{ endpoint: \"http://a/b?c=d\" }".to_owned(), "is no endpoint"),
        (format!("{{ {endpoint}, sample: 110% }}"), "is no part of all traces"),
        (format!("{{ {endpoint}, sample: NaN }}"), "is no part of all traces"),
        (format!("{{ {endpoint}, interval: 1ms }}"), "cannot be sent that often"),
        (format!("{{ {endpoint}, timeout: 0s }}"), "no answer comes in no time"),
        (format!("{{ {endpoint}, ca: none.pem }}"), "cannot be used"),
        (format!("{{ {endpoint}, headers: {{ a: {{ env: NOT_SET_HERE }} }} }}"), "`NOT_SET_HERE` is not set"),
        (format!("{{ {endpoint}, headers: {{ a: {{ file: none }} }} }}"), "cannot be sent"),
        (format!("{{ {endpoint}, headers: {{ host: canary }} }}"), "writes this field itself"),
        (format!("{{ {endpoint}, headers: {{ a: \"canary\\u0001\" }} }}"), "control characters"),
        (format!("{{ {endpoint}, headers: {{ a: \"${{env.A}}\" }} }}"), "means nothing here"),
        ("{ endpoint: \"http://192.0.2.1\", headers: { a: b } }".to_owned(), "in clear text"),
        (format!("{{ {endpoint}, trust: all }}"), "trusted_proxies"),
    ] {
        let said = said(&otlp);
        assert!(said.contains(why), "{otlp}: {said}");
    }
    let folder = crate::harness::Folder::with(&[("policies/a.yaml", &hello("a", "x"))]);
    folder.write("gateway.yaml", &format!("otlp: {{ {endpoint}, headers: {{ a: {{ env: TOKEN }} }} }}\n"));
    let said = command(&folder.0).arg("check").env("TOKEN", "canary").output().unwrap();
    assert!(said.status.success() && !String::from_utf8_lossy(&said.stdout).contains("canary"));
}
