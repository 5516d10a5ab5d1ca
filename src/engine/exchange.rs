//! The exchange: a request, its answer, its variables and its caller, on one worker from the first byte to
//! the last byte of the answer.

mod fork;

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use jiff::Timestamp;
use smallvec::SmallVec;

use crate::audit::metrics::Outcome;
use crate::audit::record::Record;
use crate::body::{Body, Ending, Hold, Tunnel};
use crate::engine::journal::Journal;
use crate::engine::message::Request;
use crate::engine::program::EndedBy;
use crate::engine::read::Side;
use crate::engine::run::{body_fault, run_plain};
use crate::engine::snapshot::{Service, Snapshot};
use crate::engine::span::RequestSpan;
use crate::engine::state::State;
use crate::engine::trace::{Trace, Traces, line};
use crate::engine::value::{Text, Value};
use crate::engine::walk::Walk;
use crate::engine::watch::Wanted;
use crate::engine::worker::{Live, Worker};
use crate::fault::Fault;
use crate::store::slots::Permit;
use crate::tls::Session;

/// Bytes that a record keeps of a path that was refused.
const REFUSED_PATH_MAX: usize = 1024;

/// The connection a request came over.
#[derive(Clone, Debug)]
pub struct Client {
    pub listener: Text,
    pub scheme: &'static str,
    /// Through trusted proxies.
    pub ip: IpAddr,
    pub peer_ip: IpAddr,
    pub port: u16,
    /// The other end of the connection is a trusted proxy.
    pub is_proxy: bool,
    /// The TLS that it came over; `None` also where a proxy has ended it.
    pub tls: Option<Arc<Session>>,
}

/// The request's own values before a `rewrite` changed them.
#[derive(Clone, Debug)]
pub struct Original {
    pub path: String,
    pub query: Option<String>,
    pub method: Method,
}

/// A credential that `route` does not forward.
#[derive(Clone, Debug, PartialEq)]
pub enum Withheld {
    Header(HeaderName),
    Cookie(Text),
    Query(Text),
}

/// A change of whatever answer leaves (`message: answer`).
#[derive(Clone, Debug)]
pub enum AnswerEdit {
    /// Most fields have one line.
    Set(HeaderName, SmallVec<[HeaderValue; 1]>),
    Append(HeaderName, HeaderValue),
    Default(HeaderName, HeaderValue),
    Remove(HeaderName),
    RemovePrefix(Text),
    /// Removes all but these.
    Keep(Arc<[HeaderName]>),
}

/// What `answer.*` reads: known once the answer leaves.
#[derive(Clone, Copy, Debug)]
pub struct AnswerFacts {
    pub status: StatusCode,
    pub size: Option<u64>,
}

/// How much of the request's body there is: steps may replace it, and `route` gives it away.
#[derive(Clone)]
enum Received {
    Held(u64),
    Stream(Ending),
}

/// Everything about one request.
pub struct Exchange {
    pub worker: Rc<Worker>,
    pub snapshot: Rc<Live>,
    /// Index in the snapshot; `None` for a request that no service wants.
    pub service: Option<usize>,
    /// The path has no safe spelling: `request.path` is `/` in its place.
    pub path_refused: bool,
    pub id: String,
    pub received: Timestamp,
    pub started_ns: u64,
    /// When the last call upstream began.
    pub sending_since_ns: u64,
    pub client: Client,
    /// What steps may change: read through the exchange, written through its setters.
    pub(super) state: State,
    pub(super) journal: Journal,
    pub(super) walk: Walk,
    /// A fault after which the connection cannot be used was caught.
    pub(super) close_after: bool,
    pub answer: Option<AnswerFacts>,
    /// Fields of the answer that left, kept where `finally` reads them.
    pub answer_headers: Option<Box<HeaderMap>>,
    pub fault: Option<Box<Fault>>,
    pub ended_by: EndedBy,
    pub record: Record,
    /// Filled only when somebody wants to see the steps.
    pub trace: Option<Trace>,
    /// Its place in a trace that other systems see too, where requests are traced.
    pub span: Option<Rc<RequestSpan>>,
    /// The variables as they were when the pipeline failed, before `on_fault` changed them.
    pub(super) failed_vars: Vec<Value>,
    /// The upstream's end of a connection that is being upgraded.
    pub tunnel: Option<Box<Tunnel>>,
    /// Bytes that came through it from the client.
    tunnelled: u64,
    /// Slots that are free again when the answer has left.
    pub permits: Vec<Permit>,
    request_body: Received,
    answer_ending: Option<Ending>,
    complete: bool,
    /// A child of `parallel` works on it: what is recorded of the request is not recorded of it.
    is_fork: bool,
}

impl Exchange {
    /// A request on its way in, before a service was selected.
    pub fn new(worker: Rc<Worker>, client: Client, request: Request) -> Box<Exchange> {
        let snapshot = worker.snapshot();
        let (id, received, started_ns) = (worker.request_id(), worker.clock.wall(), worker.clock.mono_ns());
        let request_body = match &request.body {
            Body::Stream(inbound) => Received::Stream(inbound.ending()),
            held => Received::Held(held.size().unwrap_or(0)),
        };
        let trace = worker.shared.watchers.watching().then(Traces::live);
        let span = RequestSpan::begin(&worker, &client, &id, &request.headers);
        Box::new(Exchange {
            worker,
            snapshot,
            service: None,
            path_refused: false,
            id,
            received,
            started_ns,
            sending_since_ns: started_ns,
            client,
            state: State::new(request),
            journal: Journal::default(),
            walk: Walk::default(),
            close_after: false,
            answer: None,
            answer_headers: None,
            fault: None,
            ended_by: EndedBy::End,
            record: Record::default(),
            trace,
            span,
            failed_vars: Vec::new(),
            tunnel: None,
            tunnelled: 0,
            permits: Vec::new(),
            request_body,
            answer_ending: None,
            complete: false,
            is_fork: false,
        })
    }

    /// Makes room for the variables of the selected service.
    pub fn enter(&mut self, service: Option<usize>) {
        self.service = service;
        let snapshot = self.snapshot.clone();
        let service = self.compiled(&snapshot);
        self.state.vars = self.worker.vars(service.slots);
        self.state.identities.resize(service.identities, None);
    }

    /// The service in a snapshot that the caller holds, so that the exchange can change meanwhile.
    pub fn compiled<'s>(&self, snapshot: &'s Snapshot) -> &'s Service {
        match self.service.and_then(|index| snapshot.at(index)) {
            Some(service) => service,
            None => &snapshot.unmatched,
        }
    }

    /// Name of the service, `none` where no service wants the request.
    pub fn service_name(&self) -> &str {
        self.compiled(&self.snapshot).name.as_deref().unwrap_or("none")
    }

    /// Watches how a streamed answer ends.
    pub fn watch(&mut self, ending: Ending) {
        self.answer_ending = Some(ending);
    }

    /// The canonical path as the client asked for it; of one that was refused what was written.
    fn asked_path(&self) -> String {
        match &self.original {
            Some(first) => first.path.clone(),
            None if self.path_refused => cut(self.request.target.path(), REFUSED_PATH_MAX).to_owned(),
            None => self.request.path.as_str().to_owned(),
        }
    }

    /// The method as the client asked, before any rewrite.
    pub fn asked_method(&self) -> &Method {
        self.original.as_ref().map_or(&self.request.method, |first| &first.method)
    }

    /// Microseconds since the request arrived.
    pub fn elapsed_us(&self) -> u64 {
        self.since_ns(self.started_ns) / 1000
    }

    /// Nanoseconds since a moment of the monotonic clock.
    pub fn since_ns(&self, moment_ns: u64) -> u64 {
        self.worker.clock.mono_ns().saturating_sub(moment_ns)
    }

    /// Body bytes that have been read from the client so far.
    fn bytes_in(&self) -> u64 {
        let body = match &self.request_body {
            Received::Held(bytes) => *bytes,
            Received::Stream(ending) => ending.bytes(),
        };
        body + self.tunnelled
    }

    /// Body bytes of a message that streamed, as far as they came.
    pub(super) fn bytes_of(&self, side: Side) -> Option<u64> {
        match side {
            Side::Request => Some(self.bytes_in()),
            Side::Response => self.answer_ending.as_ref().map(Ending::bytes),
        }
    }

    fn outcome(&self) -> &'static str {
        match (&self.fault, self.complete) {
            (_, false) if self.answer_ending.as_ref().and_then(Ending::fault).is_some() => "broken",
            (_, false) if self.worker.is_cut.get() => "broken",
            (_, false) => "gone",
            (Some(fault), true) => fault.kind.word(),
            (None, true) => "sent",
        }
    }

    /// Whose fault it is that the rest of an answer did not come. An upstream that reads while it answers breaks off too
    /// where the client does.
    fn why_broken(&self) -> Option<Box<Fault>> {
        let request = match &self.request_body {
            Received::Stream(ending) => ending.fault(),
            Received::Held(_) => None,
        };
        match (self.answer_ending.as_ref().and_then(Ending::fault), request) {
            (Some(_), Some(of_client)) => Some(body_fault(Side::Request, of_client)),
            (Some(ending), None) => {
                Some(Fault::broken(StatusCode::BAD_GATEWAY, "route.bad_answer", ending.to_string()))
            }
            (None, _) if !self.complete && self.worker.is_cut.get() => {
                let detail = "the gateway ended, and the time of its drain was over";
                Some(Fault::broken(StatusCode::SERVICE_UNAVAILABLE, "gateway.drained", detail))
            }
            (None, _) => None,
        }
    }

    /// The record as far as it is known while the pipeline still runs: no status, no outcome.
    pub fn record_so_far(&self) -> Record {
        let service = self.compiled(&self.snapshot);
        let identity = self.identities.first().and_then(Option::as_ref);
        let mut record = Record {
            outcome: "pending",
            time: Some(self.received),
            request_id: self.id.clone(),
            trace_id: self.span.as_ref().map(|span| span.trace),
            listener: Some(self.client.listener.clone()),
            service: service.name.clone(),
            snapshot: Some(self.snapshot.version.clone()),
            client_ip: Some(self.client.ip),
            method: Some(self.asked_method().clone()),
            path: self.asked_path(),
            host: Some(self.request.host.clone()),
            scheme: identity.map(|identity| identity.scheme),
            subject: identity.map(|identity| identity.subject.clone()),
            client: identity.and_then(|identity| identity.client.clone()),
            bytes_in: self.bytes_in(),
            duration_us: self.elapsed_us(),
            ..self.record.clone()
        };
        self.scrub_record(&mut record);
        record
    }

    /// Fills in the record; what steps added stays.
    fn finish_record(&mut self) -> Record {
        self.note_watched();
        let mut record = std::mem::take(&mut self.record);
        let snapshot = self.snapshot.clone();
        let service = self.compiled(&snapshot);
        record.outcome = self.outcome();
        record.time = Some(self.received);
        record.request_id = std::mem::take(&mut self.id);
        record.trace_id = self.span.as_ref().map(|span| span.trace);
        record.listener = Some(self.client.listener.clone());
        record.service = service.name.clone();
        record.snapshot = Some(snapshot.version.clone());
        record.client_ip = Some(self.client.ip);
        record.path = self.asked_path();
        record.method = Some(self.asked_method().clone());
        record.host = Some(self.request.host.clone());
        record.status = match (record.outcome, self.answer) {
            ("gone", None) => 499,
            ("broken", None) => StatusCode::SERVICE_UNAVAILABLE.as_u16(),
            (_, answer) => answer.map_or(0, |answer| answer.status.as_u16()),
        };
        if let Some(fault) = &self.fault {
            record.fault = Some(fault.code.to_string());
            record.detail = (!fault.detail.is_empty()).then(|| fault.detail.clone());
            record.step =
                fault.step.and_then(|step| service.steps.get(usize::from(step))).map(|step| step.name.clone());
        } else if record.outcome == "gone" {
            record.fault = Some("client.gone".into());
        } else if let Some(why) = self.why_broken() {
            record.fault = Some(why.code.to_string());
            record.detail = Some(why.detail.clone());
        }
        if let Some(identity) = self.identities.first().and_then(Option::as_ref) {
            record.scheme = Some(identity.scheme);
            record.subject = Some(identity.subject.clone());
            record.client = identity.client.clone();
        }
        record.bytes_in = self.bytes_in();
        record.duration_us = self.elapsed_us();
        self.scrub_record(&mut record);
        record
    }
}

impl Drop for Exchange {
    /// Records, also when the client has left or a step panicked.
    fn drop(&mut self) {
        if self.is_fork {
            return self.worker.spare(std::mem::take(&mut self.state.vars));
        }
        let snapshot = self.snapshot.clone();
        // What is still here has not left: there was no answer.
        self.undo_all();
        self.state.response = None;
        run_plain(&self.compiled(&snapshot).finally, self);
        // Filters read the exchange, of which the record takes what it needs.
        let wanted = match self.is_followed() {
            true => self.worker.shared.watchers.wanted(self),
            false => Wanted::default(),
        };
        let record = self.finish_record();
        let service = self.compiled(&snapshot);
        let (worker, index) = (self.worker.clone(), self.worker.index);
        if let Some(metrics) = &service.metrics {
            let outcome = Outcome {
                status: record.status,
                word: record.outcome,
                bytes_in: record.bytes_in,
                bytes_out: record.bytes_out,
                duration_us: record.duration_us,
            };
            metrics.count(index, outcome);
        }
        if let Some(fault) = &record.fault {
            let name = service.name.clone().unwrap_or_else(|| "none".into());
            worker.shared.metrics.fault(index, &name, fault);
            line::keep_failed(self, &record);
        }
        if !wanted.is_empty() {
            line::tell(self, &record, wanted);
        }
        if let Some(span) = &self.span {
            span.finish(self, &record);
        }
        worker.record(record);
        worker.spare(std::mem::take(&mut self.state.vars));
    }
}

/// The beginning of a text, at most so many bytes, at the end of a character.
fn cut(text: &str, bytes_max: usize) -> &str {
    let end = (0..=bytes_max.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or_default()).unwrap_or_default()
}

/// Keeps an exchange until its answer has been sent.
pub struct Held(pub Box<Exchange>);

impl Hold for Held {
    fn sent(&mut self, bytes: usize) {
        self.0.record.bytes_out += bytes as u64;
    }

    fn received(&mut self, bytes: usize) {
        self.0.tunnelled += bytes as u64;
    }

    fn complete(&mut self) {
        self.0.complete = true;
    }
}
