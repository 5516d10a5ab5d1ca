//! The spans of a request: its own, and one for each attempt to reach an upstream.
//!
//! W3C Trace Context for what callers say and upstreams hear; attributes as the OpenTelemetry semantic conventions for HTTP
//! name them. No attribute holds a header field, a query or a body: credentials stand there. What the rules of `scrub`
//! take out of the record is not in the span either, because it is made from the record.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};

use crate::audit::record::Record;
use crate::audit::spans::{Attribute, SPANS_MAX, Span, SpanKind, Trust};
use crate::audit::trace_context::{Caller, SpanId, TRACEPARENT, TRACESTATE, TraceId, caller, traceparent};
use crate::engine::exchange::{Client, Exchange};
use crate::engine::worker::Worker;
use crate::upstream::{Call, Destination, Origin, SendError, Watching};

/// The methods that the conventions know; others are one, or everybody could make up span names.
const METHODS: [Method; 9] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::DELETE,
    Method::CONNECT,
    Method::OPTIONS,
    Method::TRACE,
    Method::PATCH,
];
const OTHER_METHOD: &str = "_OTHER";
const METHOD: &str = "http.request.method";
const STATUS: &str = "http.response.status_code";
const ERROR: &str = "error.type";
/// What ended an attempt that nobody waited for to its end: the deadline, or a client that left.
const CANCELLED: &str = "cancelled";

/// A request's place in its trace.
pub struct RequestSpan {
    pub trace: TraceId,
    id: SpanId,
    parent: Option<SpanId>,
    state: Option<HeaderValue>,
    link: Option<(TraceId, SpanId)>,
    sampled: bool,
    worker: Rc<Worker>,
    attempts: RefCell<Vec<Attempt>>,
}

/// One attempt to reach an upstream.
struct Attempt {
    id: SpanId,
    method: Method,
    upstream: Option<Arc<str>>,
    origin: Arc<Origin>,
    number: u32,
    begun_ns: u64,
    ended: Option<(u64, Result<StatusCode, &'static str>)>,
}

impl RequestSpan {
    /// Begins the span of a request, where requests are traced. A trace that begins here has the request's own id.
    pub(super) fn begin(
        worker: &Rc<Worker>,
        client: &Client,
        request_id: &str,
        headers: &HeaderMap,
    ) -> Option<Rc<RequestSpan>> {
        let tracing = worker.shared.tracing.as_ref()?;
        let believed = match tracing.trust {
            Trust::Everyone => true,
            Trust::TrustedProxies => client.is_proxy,
            Trust::Nobody => false,
        };
        let span = match caller(headers) {
            Some(Caller { trace, span, sampled, state }) if believed => {
                RequestSpan::new(worker, trace, sampled).within(span, state)
            }
            stranger => {
                let trace = TraceId::parse(request_id).unwrap_or(TraceId([u8::MAX; 16]));
                let link = stranger.map(|caller| (caller.trace, caller.span));
                RequestSpan { link, ..RequestSpan::new(worker, trace, tracing.chooses(trace)) }
            }
        };
        Some(Rc::new(span))
    }

    fn new(worker: &Rc<Worker>, trace: TraceId, sampled: bool) -> RequestSpan {
        let (id, attempts) = (worker.span_id(), RefCell::default());
        RequestSpan { trace, id, parent: None, state: None, link: None, sampled, worker: worker.clone(), attempts }
    }

    fn within(self, parent: SpanId, state: Option<HeaderValue>) -> RequestSpan {
        RequestSpan { parent: Some(parent), state, ..self }
    }

    /// Hands over what was recorded.
    pub(super) fn finish(&self, x: &Exchange, record: &Record) {
        let Some(tracing) = self.worker.shared.tracing.as_ref().filter(|_| self.sampled) else { return };
        let received_ns = u64::try_from(x.received.as_nanosecond()).unwrap_or_default();
        let unix_ns = |mono_ns: u64| received_ns.saturating_add(mono_ns.saturating_sub(x.started_ns));
        let now_ns = self.worker.clock.mono_ns();
        let attempts = std::mem::take(&mut *self.attempts.borrow_mut());
        let mut spans = Vec::with_capacity(1 + attempts.len());
        let name = match x.route() {
            Some(route) => format!("{} {route}", known(x.asked_method())),
            None => known(x.asked_method()).to_owned(),
        };
        spans.push(Span {
            begun_ns: received_ns,
            ended_ns: unix_ns(now_ns),
            name,
            attributes: attributes(x, record),
            failed: error(record).is_some(),
            link: self.link,
            ..self.span(self.id, self.parent, SpanKind::Server)
        });
        spans.extend(attempts.into_iter().map(|attempt| {
            let (ended_ns, result) = attempt.ended.unwrap_or((now_ns, Err(CANCELLED)));
            Span {
                begun_ns: unix_ns(attempt.begun_ns),
                ended_ns: unix_ns(ended_ns),
                name: known(&attempt.method).to_owned(),
                failed: !result.is_ok_and(|status| status.as_u16() < 400),
                attributes: attempt.attributes(result),
                ..self.span(attempt.id, Some(self.id), SpanKind::Client)
            }
        }));
        tracing.offer(spans);
    }

    fn span(&self, id: SpanId, parent: Option<SpanId>, kind: SpanKind) -> Span {
        Span {
            trace: self.trace,
            id,
            parent,
            state: self.state.clone(),
            kind,
            name: String::new(),
            begun_ns: 0,
            ended_ns: 0,
            attributes: Vec::new(),
            failed: false,
            link: None,
        }
    }
}

impl Watching for RequestSpan {
    /// The upstream hears of the attempt as its caller. What a client said about traces goes no further where it is not
    /// believed.
    fn begins(&self, number: u32, origin: &Arc<Origin>, call: &mut Call) -> usize {
        let id = self.worker.span_id();
        call.headers.insert(TRACEPARENT, traceparent(self.trace, id, self.sampled));
        match &self.state {
            Some(state) => drop(call.headers.insert(TRACESTATE, state.clone())),
            None => drop(call.headers.remove(TRACESTATE)),
        }
        let mut attempts = self.attempts.borrow_mut();
        if !self.sampled || attempts.len() + 1 >= SPANS_MAX {
            return usize::MAX;
        }
        attempts.push(Attempt {
            id,
            method: call.method.clone(),
            upstream: match &call.destination {
                Destination::Upstream(upstream) => Some(upstream.name.clone()),
                Destination::Origin(_) => None,
            },
            origin: origin.clone(),
            number,
            begun_ns: self.worker.clock.mono_ns(),
            ended: None,
        });
        attempts.len() - 1
    }

    fn ended(&self, attempt: usize, result: Result<StatusCode, &SendError>) {
        if let Some(attempt) = self.attempts.borrow_mut().get_mut(attempt) {
            attempt.ended = Some((self.worker.clock.mono_ns(), result.map_err(SendError::word)));
        }
    }
}

impl Attempt {
    fn attributes(&self, result: Result<StatusCode, &'static str>) -> Vec<(&'static str, Attribute)> {
        let mut all = method(&self.method);
        all.push(("server.address", Attribute::text(&self.origin.host.to_string())));
        all.push(("server.port", Attribute::Whole(i64::from(self.origin.port))));
        all.push(("url.scheme", Attribute::text(if self.origin.https { "https" } else { "http" })));
        if let Some(address) = self.origin.address() {
            all.push(("network.peer.address", Attribute::text(&address.to_string())));
        }
        if self.number > 1 {
            all.push(("http.request.resend_count", Attribute::Whole(i64::from(self.number) - 1)));
        }
        match result {
            Ok(status) => {
                all.push((STATUS, Attribute::Whole(i64::from(status.as_u16()))));
                if status.as_u16() >= 400 {
                    all.push((ERROR, Attribute::text(status.as_str())));
                }
            }
            Err(word) => all.push((ERROR, Attribute::text(word))),
        }
        if let Some(upstream) = &self.upstream {
            all.push(("gatewright.upstream", Attribute::text(upstream)));
        }
        all
    }
}

impl Exchange {
    /// The path of the service's match rule, without its methods, host and listeners.
    fn route(&self) -> Option<&str> {
        let rule = self.compiled(&self.snapshot).rule.as_deref()?;
        rule.get(rule.find('/')?..)?.split(' ').next()
    }
}

fn known(method: &Method) -> &str {
    if METHODS.contains(method) { method.as_str() } else { OTHER_METHOD }
}

fn method(method: &Method) -> Vec<(&'static str, Attribute)> {
    let mut all = vec![(METHOD, Attribute::text(known(method)))];
    if !METHODS.contains(method) {
        all.push(("http.request.method_original", Attribute::text(method.as_str())));
    }
    all
}

/// What kept a request from its answer. To a server a refusal is an answer.
fn error(record: &Record) -> Option<String> {
    let failed = record.status >= 500 || matches!(record.outcome, "gone" | "broken");
    failed.then(|| record.fault.clone().unwrap_or_else(|| record.status.to_string()))
}

fn attributes(x: &Exchange, record: &Record) -> Vec<(&'static str, Attribute)> {
    let mut all = method(x.asked_method());
    let version = match x.request.version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    };
    let client = record.client_ip.map(|ip| ip.to_string());
    let error = error(record);
    let texts = [
        ("url.scheme", Some(x.client.scheme)),
        ("url.path", Some(&*record.path)),
        ("http.route", x.route()),
        ("server.address", record.host.as_deref()),
        ("client.address", client.as_deref()),
        ("network.protocol.version", Some(version)),
        (ERROR, error.as_deref()),
        ("gatewright.service", record.service.as_deref()),
        ("gatewright.listener", record.listener.as_deref()),
        ("gatewright.snapshot", record.snapshot.as_deref()),
        ("gatewright.request_id", Some(&*record.request_id)),
        ("gatewright.outcome", Some(record.outcome)),
        ("gatewright.fault", record.fault.as_deref()),
        ("gatewright.step", record.step.as_deref()),
    ];
    all.extend(texts.into_iter().filter_map(|(name, text)| Some((name, Attribute::text(text?)))));
    all.push(("server.port", Attribute::Whole(i64::from(x.request.port))));
    if record.status > 0 {
        all.push((STATUS, Attribute::Whole(i64::from(record.status))));
    }
    all
}
