//! A policy set in memory for the unit tests of assertions: what does not load, and one request at a time.
//!
//! Examples are the tests of what operators see; here stand the cases that no policy test can write, such
//! as load errors. No socket is opened: every call upstream gets the one answer that the test has set.

mod bodies;
mod fault_detail;
mod forwarding;
mod given_up;
mod marks;
mod operators;
mod rules;

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use tokio::io::AsyncWriteExt;

use crate::audit::record::Record;
use crate::body::{Body, BodyLimits, Inbound, Outgoing};
use crate::clock::wheel::{TICK, Wheel};
use crate::clock::{Clock, Frozen};
use crate::engine::exchange::{Client, Exchange};
use crate::engine::random::Random;
use crate::engine::serve::{answer, exchange, leave};
use crate::engine::snapshot::Snapshot;
use crate::engine::worker::{GivenTransport, Records, Shared, Transport, Worker};
use crate::identity::hash_pool::HashPool;
use crate::identity::throttle::{Guessing, Throttle};
use crate::policy::build::{Environment, compile, parse_files};
use crate::policy::files::Files;
use crate::secret::keyed_digest;
use crate::source::{Diagnostics, Severity, render};
use crate::store::seen::Seen;
use crate::tls::{ClientCertificate, Session};
use crate::upstream::{Answer, Call, SendError};

/// Room for a request and its answer on the way, in bytes.
const STREAM_BUFFER: usize = 64 * 1024;
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A gateway of one worker.
pub struct Trial {
    worker: Rc<Worker>,
    pub clock: Rc<Frozen>,
    /// Who sends, where it is not the peer: the peer is a trusted proxy then.
    pub client: Cell<IpAddr>,
    /// The certificate that it shows, over TLS.
    pub certificate: RefCell<Option<ClientCertificate>>,
    /// Time that passes between the head of a request and its first step.
    pub queued: Cell<Duration>,
    upstream: Rc<Upstream>,
}

#[derive(Default)]
struct Upstream {
    calls: RefCell<Vec<Sent>>,
    headers: RefCell<HeaderMap>,
    body: Cell<&'static [u8]>,
}

/// What went upstream.
#[derive(Clone, Debug)]
pub struct Sent {
    pub method: String,
    pub target: String,
    pub headers: HeaderMap,
    pub body: String,
    /// What targets are chosen by.
    pub key: Option<u64>,
}

/// What came of one request.
#[derive(Debug)]
pub struct Outcome {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
    /// Code of the fault.
    pub fault: Option<String>,
    /// The calls upstream of this request.
    pub sent: Vec<Sent>,
    pub record: Record,
}

impl GivenTransport for Upstream {
    fn send<'a>(&'a self, call: Call) -> Pin<Box<dyn Future<Output = Result<Answer, SendError>> + 'a>> {
        let body = call.body.held().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default();
        let (method, target) = (call.method.to_string(), call.target.to_string());
        let sent = Sent { method, target, headers: call.headers, body, key: call.key };
        self.calls.borrow_mut().push(sent);
        let answer = Answer {
            status: StatusCode::OK,
            headers: self.headers.borrow().clone(),
            body: Body::Buffered(self.body.get().into()),
            target: "http://127.0.0.1:9000".into(),
            attempts: 1,
            connect_ms: 0,
            reused: false,
            tunnel: None,
        };
        Box::pin(async { Ok(answer) })
    }
}

/// The other end of every connection.
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

/// Variables of the process that secrets of examples are read from.
const SECRETS: [(&str, &str); 3] = [
    ("PARTNER_SECRET", "test-value-0123456789"),
    ("ACME_SIGNING", "test-value-0123456789"),
    ("NEXT_SECRET", "test-value-9876543210"),
];

fn environment() -> Environment {
    let mut environment = Environment::default();
    environment.values.process_env =
        SECRETS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    for (name, value) in &SECRETS {
        environment.values.env_listed.push((*name).into());
        environment.values.env.insert((*name).into(), (*value).into());
    }
    environment
}

fn load(yaml: &str) -> (Option<Snapshot>, Vec<&'static str>, String) {
    let mut diags = Diagnostics::new();
    let parsed = parse_files(&Files::of_text("trial.yaml", yaml), &mut diags);
    let snapshot = compile(&parsed, &environment(), None, None, &mut diags);
    let errors = diags.iter().filter(|diagnostic| diagnostic.severity == Severity::Error);
    let codes = errors.map(|diagnostic| diagnostic.code).collect();
    (snapshot, codes, render(&parsed.sources, &diags, false))
}

/// A service of these steps, each line indented by two blanks.
pub fn service(steps: &str) -> String {
    format!("service: trial\nmatch: {{ path: \"/{{*rest}}\" }}\npolicy:\n{steps}\n")
}

/// Codes of everything wrong with the steps.
pub fn refusals(steps: &str) -> Vec<&'static str> {
    codes(&service(steps))
}

/// Codes of everything wrong with a whole set.
pub fn codes(yaml: &str) -> Vec<&'static str> {
    load(yaml).1
}

/// Codes of everything wrong with a whole set.
pub fn refusals_of(yaml: &str) -> Vec<&'static str> {
    load(yaml).1
}

/// Codes of the warnings about a whole set.
pub fn warnings(yaml: &str) -> Vec<&'static str> {
    let mut diags = Diagnostics::new();
    let parsed = parse_files(&Files::of_text("trial.yaml", yaml), &mut diags);
    compile(&parsed, &environment(), None, None, &mut diags);
    let warnings = diags.iter().filter(|diagnostic| diagnostic.severity == Severity::Warning);
    warnings.map(|diagnostic| diagnostic.code).collect()
}

/// Compiles a set and fails with the diagnostics where it does not load.
pub fn loads(yaml: &str) -> Snapshot {
    let (snapshot, _, shown) = load(yaml);
    snapshot.unwrap_or_else(|| panic!("{shown}"))
}

impl Trial {
    /// Serves these steps.
    pub fn of(steps: &str) -> Trial {
        Trial::of_set(&service(steps))
    }

    /// Serves a whole set.
    pub fn of_set(yaml: &str) -> Trial {
        Trial::recording(yaml, Records::Kept(RefCell::default()))
    }

    /// Serves a whole set whose records go elsewhere; outcomes show an empty record then.
    pub fn recording(yaml: &str, records: Records) -> Trial {
        Trial::serving(Arc::new(loads(yaml)), records)
    }

    /// Serves a snapshot.
    pub fn serving(snapshot: Arc<Snapshot>, records: Records) -> Trial {
        Trial::on(snapshot, records, Random::seeded(7), Seen::default())
    }

    /// Serves a whole set on a system that gives no random bytes.
    pub fn without_randomness(yaml: &str) -> Trial {
        Trial::on(Arc::new(loads(yaml)), Records::Kept(RefCell::default()), Random::Exhausted, Seen::default())
    }

    /// Serves a whole set where nothing more can be remembered of what may come once.
    pub fn with_full_memory(yaml: &str) -> Trial {
        let seen = Seen::with_capacity(1);
        (0..1000).for_each(|number| {
            let _ = seen.first_time(keyed_digest("trial", &[&u64::to_le_bytes(number)]), u64::MAX, 0);
        });
        Trial::on(Arc::new(loads(yaml)), Records::Kept(RefCell::default()), Random::seeded(7), seen)
    }

    fn on(snapshot: Arc<Snapshot>, records: Records, random: Random, seen: Seen) -> Trial {
        let environment = Environment::default();
        let throttle = Throttle::new(Guessing::default());
        let hashes = HashPool::new(1, 1).unwrap();
        let mut shared = Shared::new(environment.limits, 1, throttle, hashes, snapshot);
        shared.seen = seen;
        let shared = Arc::new(shared);
        let start: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let clock = Frozen::at(start);
        let upstream = Rc::new(Upstream::default());
        let worker = Worker::new(
            0,
            shared,
            Clock::Frozen(clock.clone()),
            Wheel::new(),
            random,
            Transport::Given(upstream.clone()),
            records,
        );
        Trial {
            worker: Rc::new(worker),
            clock,
            client: Cell::new(PEER),
            certificate: RefCell::default(),
            queued: Cell::default(),
            upstream,
        }
    }

    /// Swaps the policies as a reload does.
    pub fn reload(&self, steps: &str) {
        self.reload_set(&service(steps));
    }

    /// The same with a whole set.
    pub fn reload_set(&self, yaml: &str) {
        self.worker.shared.swap(Arc::new(loads(yaml)));
    }

    /// Where passwords are checked.
    pub fn hashes(&self) -> &HashPool {
        &self.worker.shared.hashes
    }

    /// The numbers of the process, as they are scraped.
    pub fn metrics(&self) -> String {
        self.worker.shared.metrics.render()
    }

    /// What every call upstream is answered.
    pub fn answering(self, headers: &[(&str, &str)], body: &'static str) -> Trial {
        self.answering_bytes(headers, body.as_bytes())
    }

    /// The same with a body that need not be text.
    pub fn answering_bytes(self, headers: &[(&str, &str)], body: &'static [u8]) -> Trial {
        *self.upstream.headers.borrow_mut() = fields(headers);
        self.upstream.body.set(body);
        self
    }

    /// `GET` of a path.
    pub fn get(&self, path: &str) -> Outcome {
        self.send("GET", path, &[], "")
    }

    /// Sends one request.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &'static str) -> Outcome {
        self.send_bytes(method, path, headers, body.as_bytes())
    }

    /// The same with a body that need not be text.
    pub fn send_bytes(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &'static [u8]) -> Outcome {
        self.upstream.calls.borrow_mut().clear();
        let request = http::Request::builder().method(method).uri(path).header("host", "trial.example");
        let mut parts = request.body(()).unwrap().into_parts().0;
        parts.headers.extend(fields(headers));
        let body = if body.is_empty() { Body::Empty } else { Body::Buffered(body.into()) };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(self.outcome(parts, body))
    }

    /// `POST` of a body that still arrives while the pipeline runs, as over a connection. A call upstream shows
    /// it only where it was held.
    pub fn post_streamed(&self, path: &str, body: &str) -> Outcome {
        self.post(path, &format!("content-length: {}\r\n\r\n{body}", body.len()))
    }

    /// The same in one chunk, so that nobody knows its length before its end.
    pub fn post_chunked(&self, path: &str, body: &str) -> Outcome {
        self.post(path, &format!("transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len()))
    }

    /// `rest` begins with the field that frames the body.
    fn post(&self, path: &str, rest: &str) -> Outcome {
        self.upstream.calls.borrow_mut().clear();
        let request = format!("POST {path} HTTP/1.1\r\nhost: trial.example\r\nconnection: close\r\n{rest}");
        let (mut near, far) = tokio::io::duplex(STREAM_BUFFER);
        let outcome = RefCell::new(None);
        let service = hyper::service::service_fn(|request: http::Request<Incoming>| async {
            let (parts, incoming) = request.into_parts();
            let limits = BodyLimits { bytes: u64::MAX, idle: PATIENCE, rate: 0 };
            let inbound = Inbound::new(incoming, limits, &self.worker.wheel);
            let seen = self.outcome(parts, Body::Stream(Box::new(inbound))).await;
            *outcome.borrow_mut() = Some(seen);
            Ok::<_, Infallible>(http::Response::new(Outgoing::new(Body::Empty)))
        });
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let serving = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service);
            // What the pipeline does not read is left in the pipe.
            let (_, served) = tokio::join!(near.write_all(request.as_bytes()), serving);
            served.unwrap();
        });
        outcome.take().unwrap()
    }

    /// A `GET` that the test drives itself.
    pub fn begin(&self, path: &str) -> Box<Exchange> {
        let request = http::Request::builder().uri(path).header("host", "trial.example");
        let parts = request.body(()).unwrap().into_parts().0;
        exchange(self.worker.clone(), self.sender(), parts, Body::Empty, None)
    }

    /// Lets time pass, for timers too.
    pub fn pass(&self, time: Duration) {
        self.clock.advance(time);
        (0..=time.div_duration_f32(TICK) as u32).for_each(|_| self.worker.wheel.turn());
    }

    /// The record of the request that was over last.
    pub fn last_record(&self) -> Option<Record> {
        match &self.worker.records {
            Records::Kept(kept) => kept.borrow_mut().pop(),
            Records::Sink(_) => None,
        }
    }

    fn sender(&self) -> Client {
        let ip = self.client.get();
        let tls = self.certificate.borrow().clone().map(|certificate| {
            let cipher = "TLS_AES_256_GCM_SHA384".to_owned();
            Arc::new(Session { version: "1.3", cipher, server_name: None, alpn: None, client: Some(certificate) })
        });
        Client { listener: "main".into(), scheme: "http", ip, peer_ip: PEER, port: 4000, is_proxy: ip != PEER, tls }
    }

    async fn outcome(&self, parts: http::request::Parts, body: Body) -> Outcome {
        let x = exchange(self.worker.clone(), self.sender(), parts, body, None);
        self.clock.advance(self.queued.get());
        let x = answer(x).await;
        let fault = x.fault.as_ref().map(|fault| fault.code.to_string());
        let (head, body) = leave(x).into_parts();
        let (status, headers) = (head.status.as_u16(), head.headers);
        let body = body.collect().await.unwrap().to_bytes();
        let record = match &self.worker.records {
            Records::Kept(_) => self.last_record().unwrap(),
            Records::Sink(_) => Record::default(),
        };
        let body = String::from_utf8_lossy(&body).into_owned();
        Outcome { status, headers, body, fault, sent: self.upstream.calls.borrow().clone(), record }
    }
}

impl Outcome {
    /// The first value of a field of the answer.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The first value of a field that went upstream.
    pub fn sent_header(&self, name: &str) -> Option<&str> {
        self.sent[0].headers.get(name).map(|value| value.to_str().unwrap())
    }
}

fn fields(pairs: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
    };
    pairs.iter().map(pair).collect()
}
