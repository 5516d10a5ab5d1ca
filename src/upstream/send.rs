//! The course of one call: choose a target, get a connection, ask, judge, perhaps again.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, HOST, HeaderValue, TE, UPGRADE};
use http::{Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use smallvec::SmallVec;

use super::budget::RetryBudget;
use super::fields::{clean_answer, frame_request, remove_hop_by_hop};
use super::line::{Expired, Line, Unanswered};
use super::origin::{Http2, Origin};
use super::pool::{Carrier, Got, Pool, Wanted};
use super::target::{Load, Target};
use super::trunk::Stream;
use super::{Answer, Call, Destination, HostHeader, PoolLimits, SendError, Watching};
use crate::body::{Body, BodyFault, Inbound, Trailers};
use crate::clock::Clock;
use crate::clock::wheel::Timer;

/// Longest pause between two attempts.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// A failed attempt.
struct Failure {
    error: SendError,
    sent: Sent,
}

/// How far the request had come when the attempt failed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sent {
    /// Not a byte of it.
    Nothing,
    /// The connection broke without one byte of answer.
    Unanswered,
    /// The connection broke inside the answer's head.
    HalfAnswered,
    /// What happened will not get better by trying again.
    Final,
}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Failure {
        Failure { error, sent: Sent::Final }
    }
}

/// What one attempt needs to know beside the call.
struct Attempt<'a> {
    origin: &'a Arc<Origin>,
    limits: PoolLimits,
    started_ms: u64,
    /// When it began.
    now_ms: u64,
    number: u32,
    /// The request must survive the attempt, because another may follow.
    keep: bool,
}

/// Where an attempt goes.
enum Chosen {
    Origin(Arc<Origin>),
    Target(Arc<Target>),
}

impl Chosen {
    fn origin(&self) -> &Arc<Origin> {
        match self {
            Chosen::Origin(origin) => origin,
            Chosen::Target(target) => &target.origin,
        }
    }
}

impl Destination {
    fn choose(&self, now_ms: u64, tried: &[Arc<Target>], key: Option<u64>) -> Result<Chosen, SendError> {
        match self {
            Destination::Origin(origin) => Ok(Chosen::Origin(origin.clone())),
            Destination::Upstream(upstream) => {
                upstream.choose(now_ms, tried, key).map(Chosen::Target).ok_or(SendError::NoTarget)
            }
        }
    }

    fn load(&self, chosen: &Chosen) -> Option<Load> {
        match (self, chosen) {
            (Destination::Upstream(upstream), Chosen::Target(target)) => upstream.load(target),
            _ => None,
        }
    }

    fn limits(&self) -> PoolLimits {
        match self {
            Destination::Origin(_) => PoolLimits::default(),
            Destination::Upstream(upstream) => upstream.pool,
        }
    }

    fn note(&self, chosen: &Chosen, clock: &Clock, result: &Result<Answer, Failure>) {
        let (Destination::Upstream(upstream), Chosen::Target(target)) = (self, chosen) else { return };
        match result {
            Ok(answer) if !matches!(answer.status.as_u16(), 502..=504) => target.succeeded(),
            // Not the target's doing.
            Err(Failure { error: SendError::RequestBody(_) | SendError::TimeoutTotal | SendError::Busy, .. }) => {}
            Ok(_) | Err(_) => upstream.failed(target, clock.mono_ms()),
        }
    }
}

impl Call {
    fn is_idempotent(&self) -> bool {
        let methods = [Method::GET, Method::HEAD, Method::PUT, Method::DELETE, Method::OPTIONS, Method::TRACE];
        methods.contains(&self.method)
    }

    /// What is sent; with `keep` it can be sent again.
    fn request(&mut self, keep: bool) -> Result<Request<Body>, SendError> {
        let mut request = Request::new(self.body.give().map_err(SendError::RequestBody)?);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = Uri::from(self.target.clone());
        *request.headers_mut() = if keep { self.headers.clone() } else { std::mem::take(&mut self.headers) };
        Ok(request)
    }

    fn set_host(&mut self, origin: &Origin) {
        let value = match &self.host {
            HostHeader::Literal(value) => value,
            HostHeader::Client => self.client_host.as_ref().unwrap_or(origin.authority()),
            HostHeader::Upstream => origin.authority(),
        };
        self.headers.insert(HOST, value.clone());
    }
}

impl Pool {
    /// Sends the call. Dropping the future closes the connection that it uses.
    pub fn send(&self, call: impl Into<Box<Call>>) -> impl Future<Output = Result<Answer, SendError>> {
        self.send_watched(call.into(), None)
    }

    /// The same with somebody who hears of each attempt.
    // A call is large, and each future that it passes through would have room for it twice.
    pub async fn send_watched(
        &self,
        mut call: Box<Call>,
        watching: Option<&dyn Watching>,
    ) -> Result<Answer, SendError> {
        if call.method == Method::CONNECT {
            return Err(SendError::Connect("CONNECT is not forwarded".to_owned()));
        }
        frame_request(&call.method, &mut call.headers, &call.body);
        if let Some(protocol) = &call.upgrade {
            call.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            call.headers.insert(UPGRADE, protocol.clone());
        }
        let destination = call.destination.clone();
        let budget = match &destination {
            Destination::Origin(_) => &self.budget,
            Destination::Upstream(upstream) => &upstream.budget,
        };
        let started_ms = self.clock.mono_ms();
        budget.count_call(started_ms);
        let repeatable = call.body.held().is_some() && (call.retry.any_method || call.is_idempotent());
        let mut tried: SmallVec<[Arc<Target>; 4]> = SmallVec::new();
        let (mut number, mut now_ms) = (1, started_ms);
        loop {
            let chosen = destination.choose(now_ms, &tried, call.key)?;
            let load = destination.load(&chosen);
            let origin = match &call.upgrade {
                Some(_) => Arc::new(Origin::clone(chosen.origin()).speaking(Http2::Never)),
                None => chosen.origin().clone(),
            };
            call.set_host(&origin);
            let watched = watching.map(|by| (by, by.begins(number, &origin, &mut call)));
            let keep = repeatable && number < call.retry.attempts;
            let attempt = Attempt { origin: &origin, limits: destination.limits(), started_ms, now_ms, number, keep };
            let mut result = self.attempt(&mut call, &attempt).await;
            destination.note(&chosen, &self.clock, &result);
            if let Some((by, watched)) = watched {
                by.ended(watched, result.as_ref().map(|answer| answer.status).map_err(|failure| &failure.error));
            }
            if number >= call.retry.attempts || !again(&call, &result, keep) || !self.may_retry(budget, &call) {
                // A call is load until the last byte of its answer.
                if let (Ok(Answer { body: Body::Stream(body), .. }), Some(load)) = (&mut result, load) {
                    body.keep(Box::new(load));
                }
                return result.map_err(|failure| failure.error);
            }
            drop((result, load));
            if let Chosen::Target(target) = chosen {
                tried.push(target);
            }
            self.pause(&call, number, started_ms).await?;
            (number, now_ms) = (number + 1, self.clock.mono_ms());
        }
    }

    fn may_retry(&self, budget: &RetryBudget, call: &Call) -> bool {
        budget.take(self.clock.mono_ms(), call.retry.budget_percent)
    }

    async fn pause(&self, call: &Call, number: u32, started_ms: u64) -> Result<(), SendError> {
        let doublings = number.saturating_sub(1).min(16);
        let pause = call.retry.backoff.saturating_mul(1 << doublings).min(BACKOFF_MAX);
        if pause >= left(call, started_ms, self.clock.mono_ms())? {
            return Err(SendError::TimeoutTotal);
        }
        if !pause.is_zero() {
            let timer = self.wheel.timer();
            timer.set(pause);
            timer.expired().await;
        }
        Ok(())
    }

    /// One attempt, and one more on a fresh connection if the one from the pool had died unnoticed.
    async fn attempt(&self, call: &mut Call, attempt: &Attempt<'_>) -> Result<Answer, Failure> {
        let resendable = call.body.held().is_some() && call.is_idempotent();
        let (mut fresh, mut now_ms) = (false, attempt.now_ms);
        loop {
            let before_ms = now_ms;
            let Got { carrier, reused, waited } = self.connection(call, attempt, now_ms, fresh).await?;
            if waited {
                now_ms = self.clock.mono_ms();
            }
            let connect_ms = u32::try_from(now_ms.saturating_sub(before_ms)).unwrap_or(u32::MAX);
            let keep = attempt.keep || (reused && resendable);
            let total = self.wheel.timer();
            let left = left(call, attempt.started_ms, now_ms)?;
            let failure = match self.ask(&carrier, call, attempt, keep, left, &total).await {
                Ok(response) if call.upgrade.is_some() && response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                    let switched = self.switched(&carrier, call, attempt, response).await;
                    return switched.map(|answer| Answer { connect_ms, reused, ..answer });
                }
                Ok(response) => {
                    return self.answer(carrier, total, call, attempt, response).map(|answer| Answer {
                        connect_ms,
                        reused,
                        ..answer
                    });
                }
                Err(failure) => failure,
            };
            let resend = match failure.sent {
                Sent::Nothing => true,
                Sent::Unanswered => resendable,
                Sent::HalfAnswered | Sent::Final => false,
            };
            if !reused || !resend {
                return Err(failure);
            }
            (fresh, now_ms) = (true, self.clock.mono_ms());
        }
    }

    async fn connection(&self, call: &Call, attempt: &Attempt<'_>, now_ms: u64, fresh: bool) -> Result<Got, Failure> {
        let left = left(call, attempt.started_ms, now_ms)?;
        let wanted = Wanted {
            origin: attempt.origin,
            limits: attempt.limits,
            addresses: &call.addresses,
            time: call.timeouts.connect.min(left),
            fresh,
        };
        self.carrier(wanted).await.map_err(|error| match error {
            SendError::TimeoutConnect if left < call.timeouts.connect => SendError::TimeoutTotal.into(),
            SendError::AddressRefused(_) => error.into(),
            _ => Failure { error, sent: Sent::Nothing },
        })
    }

    async fn ask(
        &self,
        carrier: &Carrier,
        call: &mut Call,
        attempt: &Attempt<'_>,
        keep: bool,
        left: Duration,
        total: &Timer,
    ) -> Result<Response<Incoming>, Failure> {
        let first_byte = call.timeouts.first_byte;
        match carrier {
            Carrier::Line(line) => {
                let answer = line.ask(call.request(keep)?, attempt.limits, first_byte, left);
                let answer = answer.map_err(|unanswered| why(unanswered, carrier, call, attempt))?;
                answer.await.map_err(|error| why(error.into(), carrier, call, attempt))
            }
            Carrier::Stream(stream) => {
                total.set(left);
                let answer = stream.ask(call.request(keep)?, attempt.origin.https, first_byte, total);
                answer.await.map_err(|unanswered| why(unanswered, carrier, call, attempt))
            }
        }
    }

    /// The upstream has upgraded the connection: to what it was asked for, or the call has failed.
    async fn switched(
        &self,
        carrier: &Carrier,
        call: &Call,
        attempt: &Attempt<'_>,
        response: Response<Incoming>,
    ) -> Result<Answer, Failure> {
        let bad = |why: &str| Failure::from(SendError::BadAnswer(why.to_owned()));
        let mut headers = response.into_parts().0.headers;
        let mut named = headers.get_all(UPGRADE).iter();
        let is_it = |named: &HeaderValue| {
            call.upgrade.as_ref().is_some_and(|asked| named.as_bytes().eq_ignore_ascii_case(asked.as_bytes()))
        };
        if !matches!((named.next(), named.next()), (Some(named), None) if is_it(named)) {
            return Err(bad("switched to another protocol than the one that was asked for"));
        }
        let Carrier::Line(line) = carrier else { return Err(bad("switched protocols over HTTP/2")) };
        let tunnel = line.tunnel().await.ok_or_else(|| bad("closed the connection that it had upgraded"))?;
        remove_hop_by_hop(&mut headers);
        Ok(Answer {
            status: StatusCode::SWITCHING_PROTOCOLS,
            headers,
            body: Body::Empty,
            target: attempt.origin.text().clone(),
            attempts: attempt.number,
            connect_ms: 0,
            reused: false,
            tunnel: Some(Box::new(tunnel)),
        })
    }

    fn answer(
        &self,
        carrier: Carrier,
        total: Timer,
        call: &Call,
        attempt: &Attempt<'_>,
        response: Response<Incoming>,
    ) -> Result<Answer, Failure> {
        let (mut parts, incoming) = response.into_parts();
        let clean = clean_answer(parts.status, &mut parts.headers);
        if let Carrier::Line(line) = &carrier {
            if clean.is_err() {
                line.spoil();
            }
            line.answered();
        }
        clean.map_err(|why| SendError::BadAnswer(why.to_owned()))?;
        let mut limits = call.answer_limits;
        limits.idle = limits.idle.min(call.timeouts.idle);
        let empty = call.answer_to_head || http_body::Body::is_end_stream(&incoming);
        let body = match empty {
            true => Body::Empty,
            false => {
                let inbound = Inbound::new(incoming, limits, &self.wheel).with_trailers(Trailers::OfAnswer);
                Body::Stream(Box::new(match carrier {
                    // Its connection watches the time.
                    Carrier::Line(_) => inbound,
                    Carrier::Stream(stream) => inbound.until(total, stream),
                }))
            }
        };
        Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            body,
            target: attempt.origin.text().clone(),
            attempts: attempt.number,
            connect_ms: 0,
            reused: false,
            tunnel: None,
        })
    }
}

/// What a missing answer means for the call, which gets back what was not sent.
fn why(unanswered: Unanswered, carrier: &Carrier, call: &mut Call, attempt: &Attempt<'_>) -> Failure {
    match unanswered {
        Unanswered::Broken(error) => match carrier {
            Carrier::Line(line) => failure(line, &error),
            Carrier::Stream(stream) => stream_failure(stream, &error),
        },
        Unanswered::Late(expired) => late(expired).into(),
        Unanswered::Unsent(unsent) => {
            let (parts, body) = unsent.into_parts();
            call.headers = parts.headers;
            call.body = body;
            // HTTP/2 has another form for both.
            call.headers.remove(TE);
            call.set_host(attempt.origin);
            let error = SendError::Connect("the connection was closed before the request was sent".to_owned());
            Failure { error, sent: Sent::Nothing }
        }
    }
}

/// What is left of the call's total time.
fn left(call: &Call, started_ms: u64, now_ms: u64) -> Result<Duration, SendError> {
    let elapsed = Duration::from_millis(now_ms.saturating_sub(started_ms));
    call.timeouts.total.checked_sub(elapsed).filter(|left| !left.is_zero()).ok_or(SendError::TimeoutTotal)
}

/// Whether the call's own rules ask for another attempt.
fn again(call: &Call, result: &Result<Answer, Failure>, keep: bool) -> bool {
    let on = call.retry.on;
    match result {
        Ok(answer) => keep && on.status(answer.status),
        Err(failure) => match failure.sent {
            Sent::Nothing => on.connect,
            Sent::Unanswered | Sent::HalfAnswered => keep && on.reset,
            Sent::Final => false,
        },
    }
}

/// What hyper's error means for the call.
fn failure(line: &Line, error: &hyper::Error) -> Failure {
    if let Some(expired) = line.expired.get() {
        return late(expired).into();
    }
    let mut cause = error.source();
    while let Some(source) = cause {
        if let Some(fault) = source.downcast_ref::<BodyFault>() {
            return SendError::RequestBody(fault.clone()).into();
        }
        cause = source.source();
    }
    if error.is_parse() {
        return SendError::BadAnswer(format!("sent a malformed answer: {error}")).into();
    }
    if line.has_heard() {
        let error = SendError::BadAnswer("broke off inside the head of its answer".to_owned());
        return Failure { error, sent: Sent::HalfAnswered };
    }
    let error = SendError::BadAnswer("closed the connection without an answer".to_owned());
    Failure { error, sent: Sent::Unanswered }
}

fn late(expired: Expired) -> SendError {
    match expired {
        Expired::FirstByte => SendError::TimeoutFirstByte,
        Expired::Total => SendError::TimeoutTotal,
    }
}

/// The same for a call over HTTP/2. Without an answer's head nobody knows whether the upstream began with the work,
/// unless it says so; who may not send twice is told in either case.
fn stream_failure(stream: &Stream, error: &hyper::Error) -> Failure {
    if let Some(fault) = stream.body_fault.borrow().clone() {
        return SendError::RequestBody(fault).into();
    }
    let mut cause = error.source();
    while let Some(source) = cause {
        if let Some(found) = source.downcast_ref::<h2::Error>() {
            if found.is_library() {
                // What it sent was no HTTP/2: nothing more is read of it.
                stream.trunk().close();
                return SendError::BadAnswer(format!("sent a malformed answer: {found}")).into();
            }
            let error = SendError::BadAnswer(format!("did not answer: {found}"));
            return Failure { error, sent: Sent::Unanswered };
        }
        cause = source.source();
    }
    let error = SendError::BadAnswer("closed the connection without an answer".to_owned());
    Failure { error, sent: Sent::Unanswered }
}
