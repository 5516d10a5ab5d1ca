//! Sends traces and numbers to an OpenTelemetry collector: OTLP over HTTP in protocol buffers, from a thread of its own.
//!
//! OTLP 1.x §OTLP/HTTP. Workers only fill a bounded queue; whatever happens here, no request waits for it or fails by it.
//! What the collector does not take within a few attempts is dropped and counted. Redirects are not followed.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver as Done, channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, header};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout_at;

use crate::admin::Admin;
use crate::audit::otlp::{Resource, Times, metrics, rejected, traces};
use crate::audit::spans::Span;
use crate::body::{Body, BodyLimits};
use crate::clock::Clock;
use crate::clock::wheel::Wheel;
use crate::config::Otlp;
use crate::engine::random::Random;
use crate::upstream::{Addresses, Call, Destination, HostHeader, Pool, Retry, Timeouts};

/// Spans of one request to the collector; those of one request of a client stay together.
const BATCH_SPANS: usize = 512;
/// How long spans wait for others.
const BATCH_WAIT: Duration = Duration::from_secs(1);
/// How often the same is sent to a collector that is busy or not there.
const ATTEMPTS_MAX: u32 = 5;
/// Pause before the second attempt; doubled before each further one.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause, also where the collector asks for more.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Largest answer of a collector, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;
/// Time for what is left when the process ends.
const FLUSH_TIME: Duration = Duration::from_secs(3);

const EXPORTS: &str = "gatewright_otlp_exports_total";
const EXPORTS_HELP: &str = "Requests to the OTLP collector, by what came of them.";

/// The thread at work.
pub(super) struct Exporting {
    stop: watch::Sender<bool>,
    done: Done<()>,
}

impl Exporting {
    /// Sends what is left, in [`FLUSH_TIME`] at most, and ends the thread.
    pub(super) fn stop(self) {
        // It has ended already where nobody listens.
        let _ = self.stop.send(true);
        let _ = self.done.recv_timeout(FLUSH_TIME);
    }
}

/// Starts the thread. `spans` are those of the workers, where requests are traced.
pub(super) fn start(otlp: Otlp, spans: Option<mpsc::Receiver<Vec<Span>>>, admin: Arc<Admin>) -> io::Result<Exporting> {
    let (stop, stopped) = watch::channel(false);
    let (ended, done) = channel();
    std::thread::Builder::new().name("otlp".to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
        match runtime {
            Ok(runtime) => runtime.block_on(export(otlp, spans, admin, stopped)),
            Err(error) => tracing::error!(%error, "traces and numbers are not sent"),
        }
        let _ = ended.send(());
    })?;
    Ok(Exporting { stop, done })
}

async fn export(otlp: Otlp, spans: Option<mpsc::Receiver<Vec<Span>>>, admin: Arc<Admin>, stop: watch::Receiver<bool>) {
    let (wheel, clock) = (Wheel::new(), Clock::System(admin.clock_origin));
    let turning = wheel.clone();
    tokio::task::spawn_local(async move { turning.run().await });
    let resource = Resource(vec![
        ("service.name", otlp.service_name.clone()),
        ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("service.instance.id", format!("{:016x}{:016x}", Random::System.number(), Random::System.number())),
        ("telemetry.sdk.name", "gatewright".to_owned()),
        ("telemetry.sdk.language", "rust".to_owned()),
        ("telemetry.sdk.version", env!("CARGO_PKG_VERSION").to_owned()),
    ]);
    let post = Post { pool: Pool::new(wheel, clock), resource, admin, stop, otlp };
    let post = Rc::new(post);
    let numbers = post.otlp.metrics.then(|| tokio::task::spawn_local(post.clone().numbers()));
    if let Some(spans) = spans {
        post.spans(spans).await;
    }
    if let Some(numbers) = numbers {
        // It ends when the process does; a panic there is of the numbers alone.
        let _ = numbers.await;
    }
}

struct Post {
    pool: Pool,
    resource: Resource,
    admin: Arc<Admin>,
    stop: watch::Receiver<bool>,
    otlp: Otlp,
}

/// Why something was not taken.
struct Refused {
    why: String,
    /// It may be in a while; of that length, where the collector has said so.
    again: Option<Option<Duration>>,
}

impl Post {
    /// Sends spans in batches until the process ends.
    async fn spans(&self, mut spans: mpsc::Receiver<Vec<Span>>) {
        let (mut stop, mut failing) = (self.stop.clone(), false);
        loop {
            let first = tokio::select! {
                first = spans.recv() => first,
                _ = stop.wait_for(|stop| *stop) => spans.try_recv().ok(),
            };
            let Some(mut batch) = first else { return };
            let until = tokio::time::Instant::from_std(Instant::now() + BATCH_WAIT);
            while batch.len() < BATCH_SPANS {
                let more = tokio::select! {
                    more = timeout_at(until, spans.recv()) => more.ok().flatten(),
                    _ = stop.wait_for(|stop| *stop) => spans.try_recv().ok(),
                };
                match more {
                    Some(more) => batch.extend(more),
                    None => break,
                }
            }
            let sent = self.send("/v1/traces", traces(&self.resource, &batch)).await;
            let lost = match &sent {
                Ok(rejected) => usize::try_from(*rejected).unwrap_or(usize::MAX).min(batch.len()),
                Err(_) => batch.len(),
            };
            if let Some(tracing) = &self.admin.shared.tracing {
                tracing.lost(lost);
            }
            self.tell("traces", sent, &mut failing);
        }
    }

    /// Sends all numbers at the start, at every interval, and once more when the process ends.
    async fn numbers(self: Rc<Self>) {
        let (mut stop, mut failing) = (self.stop.clone(), false);
        let begun_ns = self.now_ns();
        let mut every = tokio::time::interval(self.otlp.interval);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let last = tokio::select! {
                _ = every.tick() => false,
                _ = stop.wait_for(|stop| *stop) => true,
            };
            let times = Times { begun_ns, now_ns: self.now_ns() };
            for request in metrics(&self.resource, &self.admin.families(), times) {
                let sent = self.send("/v1/metrics", request).await;
                self.tell("metrics", sent, &mut failing);
            }
            if last {
                return;
            }
        }
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(Clock::system().wall().as_nanosecond()).unwrap_or_default()
    }

    fn tell(&self, signal: &'static str, sent: Result<u64, String>, failing: &mut bool) {
        let result = match &sent {
            Ok(0) => "ok",
            Ok(_) => "partial",
            Err(_) => "failed",
        };
        self.admin.shared.metrics.add_labelled(EXPORTS, EXPORTS_HELP, ("result", result), 1);
        let was_failing = std::mem::replace(failing, sent.is_err());
        match sent {
            Err(why) if !was_failing => {
                tracing::warn!(signal, endpoint = %self.otlp.origin.text(), why, "the OTLP collector takes nothing");
            }
            Ok(_) if was_failing => tracing::info!(signal, "the OTLP collector takes it again"),
            _ => {}
        }
    }

    /// Sends one request, again where that may help; how many of its items were not taken.
    async fn send(&self, path: &str, request: Vec<u8>) -> Result<u64, String> {
        let (request, mut stop, mut number) = (Bytes::from(request), self.stop.clone(), 1);
        loop {
            let asked = tokio::time::timeout(self.otlp.timeout, self.ask(path, request.clone())).await;
            let late = || Refused { why: format!("no answer within {:?}", self.otlp.timeout), again: Some(None) };
            let refused = match asked.unwrap_or_else(|_| Err(late())) {
                Ok(rejected) => return Ok(rejected),
                Err(refused) => refused,
            };
            let Some(wanted) = refused.again.filter(|_| number < ATTEMPTS_MAX) else { return Err(refused.why) };
            let pause = wanted.unwrap_or(PAUSE * 2_u32.saturating_pow(number - 1)).min(PAUSE_MAX);
            // When the process ends there is one attempt for whatever is left.
            if tokio::time::timeout(pause, stop.wait_for(|stop| *stop)).await.is_ok() {
                return Err(refused.why);
            }
            number += 1;
        }
    }

    async fn ask(&self, path: &str, request: Bytes) -> Result<u64, Refused> {
        let not_there = |why: String| Refused { why, again: Some(None) };
        let call = self.call(path, request).map_err(|why| Refused { why, again: None })?;
        let mut answer = self.pool.send(call).await.map_err(|error| not_there(error.to_string()))?;
        let status = answer.status;
        if !status.is_success() {
            let seconds = answer.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            let again = matches!(status.as_u16(), 429 | 502..=504).then_some(seconds.map(Duration::from_secs));
            return Err(Refused { why: format!("the answer is {status}"), again });
        }
        // Taken it is, whatever becomes of the rest of the answer.
        let read = answer.body.buffer(ANSWER_BYTES_MAX).await;
        let Some((count, why)) = read.ok().and(answer.body.held()).and_then(|answer| rejected(answer)) else {
            return Ok(0);
        };
        tracing::warn!(path, count, why, "the OTLP collector has not taken everything");
        Ok(count)
    }

    fn call(&self, path: &str, request: Bytes) -> Result<Call, String> {
        let target = format!("{}{path}", self.otlp.path).parse::<PathAndQuery>().map_err(|error| error.to_string())?;
        let mut headers: HeaderMap = self.otlp.headers.clone();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        let agent = concat!("gatewright/", env!("CARGO_PKG_VERSION"));
        headers.entry(header::USER_AGENT).or_insert(HeaderValue::from_static(agent));
        let time = self.otlp.timeout;
        Ok(Call {
            destination: Destination::Origin(self.otlp.origin.clone()),
            method: Method::POST,
            target,
            headers,
            body: Body::Buffered(request),
            timeouts: Timeouts { connect: time, first_byte: time, idle: time, total: time },
            retry: Retry::default(),
            host: HostHeader::Upstream,
            client_host: None,
            answer_limits: BodyLimits { bytes: ANSWER_BYTES_MAX, idle: time, rate: 0 },
            answer_to_head: false,
            addresses: Addresses::Any,
            upgrade: None,
            key: None,
        })
    }
}
