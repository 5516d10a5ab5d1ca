//! The transport of a test: stand-ins answer in the place of upstreams, and no socket is opened.
//!
//! Retries and timeouts follow the call's own rules, on the frozen clock. Balance, ejection and the retry
//! budget take no part: they belong to many calls, not to one.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use crate::body::{Body, BodyFault};
use crate::clock::{Clock, Frozen};
use crate::engine::random::Random;
use crate::engine::worker::GivenTransport;
use crate::policy::testing::seen::SentCall;
use crate::policy::testing::stand_in::{Fail, StandIn};
use crate::policy::testing::text::Bench;
use crate::upstream::{Answer, Call, Destination, HostHeader, Origin, RetryOn, SendError, remove_hop_by_hop};

/// Longest pause between two attempts, as in life.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Upstreams of one case.
pub(super) struct StandIns {
    stand_ins: Arc<[StandIn]>,
    used: RefCell<Vec<u32>>,
    frozen: Rc<Frozen>,
    clock: Clock,
    random: Random,
    sent: RefCell<Vec<(usize, SentCall)>>,
    /// Which of the exchanges that are sent at once is at work.
    sender: Cell<usize>,
    /// Several exchanges share the clock: it moves on when all of them wait for it.
    shared: Cell<bool>,
    /// Moments that calls wait for, in monotonic nanoseconds.
    awaited: RefCell<Vec<u64>>,
    /// Waits until this moment are over.
    released: Cell<Option<u64>>,
    /// Answers that could not be made: the stand-in and why.
    broken: RefCell<Vec<(usize, String)>>,
}

/// A failed attempt.
struct Failed {
    error: SendError,
    how: How,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    /// Not a byte went out.
    Unsent,
    /// The connection broke before an answer.
    Unanswered,
    Final,
}

/// What one call is about, whichever attempt it is.
struct Sending<'c> {
    call: &'c Call,
    headers: HeaderMap,
    body: Bytes,
    started_ns: u64,
}

impl StandIns {
    /// Stand-ins that have not been used yet.
    pub fn new(stand_ins: Arc<[StandIn]>, frozen: Rc<Frozen>, seed: u64) -> StandIns {
        StandIns {
            used: RefCell::new(vec![0; stand_ins.len()]),
            stand_ins,
            clock: Clock::Frozen(frozen.clone()),
            frozen,
            random: Random::seeded(seed),
            sent: RefCell::default(),
            sender: Cell::new(0),
            shared: Cell::new(false),
            awaited: RefCell::default(),
            released: Cell::new(None),
            broken: RefCell::default(),
        }
    }

    /// Exchanges begin, so many at once.
    pub fn begin(&self, exchanges: usize) {
        self.shared.set(exchanges > 1);
        self.released.set(None);
        self.awaited.borrow_mut().clear();
        self.sent.borrow_mut().clear();
    }

    /// Says which of them goes on now.
    pub fn go_on(&self, sender: usize) {
        self.sender.set(sender);
    }

    /// Moves the clock to the next moment that somebody waits for, where all that are left do.
    pub fn let_time_pass(&self, left: usize) -> bool {
        let awaited = self.awaited.borrow();
        let Some(next) = awaited.iter().min().filter(|_| awaited.len() >= left) else { return false };
        self.frozen.advance(Duration::from_nanos(next.saturating_sub(self.clock.mono_ns())));
        self.released.set(Some(*next));
        true
    }

    /// Waits on the test's clock.
    async fn pass(&self, time: Duration) {
        if !self.shared.get() {
            return self.frozen.advance(time);
        }
        let until = self.clock.mono_ns().saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        self.awaited.borrow_mut().push(until);
        poll_fn(|_| if self.released.get() >= Some(until) { Poll::Ready(()) } else { Poll::Pending }).await;
        let mut awaited = self.awaited.borrow_mut();
        if let Some(at) = awaited.iter().position(|moment| *moment == until) {
            awaited.swap_remove(at);
        }
    }

    /// What one of the exchanges has sent.
    pub fn sent_by(&self, sender: usize) -> Vec<SentCall> {
        self.sent.borrow().iter().filter(|(by, _)| *by == sender).map(|(_, call)| call.clone()).collect()
    }

    /// Answers that could not be made.
    pub fn take_broken(&self) -> Vec<(usize, String)> {
        self.broken.take()
    }

    /// How often each was used.
    pub fn used(&self) -> Vec<u32> {
        self.used.borrow().clone()
    }

    async fn run(&self, mut call: Call) -> Result<Answer, SendError> {
        let body = call.body.held().cloned().ok_or(SendError::RequestBody(BodyFault::Gone))?;
        let mut headers = std::mem::take(&mut call.headers);
        for name in [header::CONNECTION, header::UPGRADE, header::EXPECT, header::TRANSFER_ENCODING] {
            headers.remove(name);
        }
        headers.remove(header::CONTENT_LENGTH);
        if !body.is_empty() || matches!(call.method, Method::POST | Method::PUT | Method::PATCH) {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        let mut sending = Sending { call: &call, headers, body, started_ns: self.clock.mono_ns() };
        let repeatable = call.retry.any_method || is_idempotent(&call.method);
        let mut number = 1;
        loop {
            let origin = origin(&call.destination, number).ok_or(SendError::NoTarget)?;
            sending.headers.insert(header::HOST, host(&call, &origin));
            let result = self.attempt(&sending, &origin, number).await;
            if number >= call.retry.attempts || !again(call.retry.on, &result, repeatable) {
                return result.map_err(|failed| failed.error);
            }
            let pause = call.retry.backoff.saturating_mul(1 << (number - 1).min(16)).min(BACKOFF_MAX);
            if pause >= self.left(&sending) {
                return Err(SendError::TimeoutTotal);
            }
            self.pass(pause).await;
            number += 1;
        }
    }

    /// What is left of the call's total time.
    fn left(&self, sending: &Sending<'_>) -> Duration {
        let elapsed = Duration::from_nanos(self.clock.mono_ns().saturating_sub(sending.started_ns));
        sending.call.timeouts.total.saturating_sub(elapsed)
    }

    async fn attempt(&self, sending: &Sending<'_>, origin: &Origin, number: u32) -> Result<Answer, Failed> {
        let Sending { call, headers, body, .. } = sending;
        let mut sent = SentCall {
            method: call.method.to_string(),
            target: call.target.to_string(),
            headers: headers.clone(),
            body: body.clone(),
            unexpected: false,
        };
        let nothing = BTreeMap::new();
        let bench = Bench {
            captured: &nothing,
            order: &[],
            tokens: &[],
            answer: None,
            now: self.clock.wall(),
            random: &self.random,
        };
        let found = self.take(&call.destination, &sent, &bench);
        sent.unexpected = found.is_none();
        self.sent.borrow_mut().push((self.sender.get(), sent));
        let Some((at, stand_in)) = found else {
            let error = SendError::Connect("no stand-in of the test takes this request".to_owned());
            return Err(Failed { error, how: How::Final });
        };
        self.wait(sending, stand_in).await?;
        let (status, mut headers, body) = stand_in.answer.make(&bench).map_err(|why| {
            self.broken.borrow_mut().push((at, why));
            Failed { error: SendError::BadAnswer("could not be made".to_owned()), how: How::Final }
        })?;
        remove_hop_by_hop(&mut headers);
        let without = call.answer_to_head || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        Ok(Answer {
            status,
            headers,
            body: if without || body.is_empty() { Body::Empty } else { Body::Buffered(body) },
            target: origin.text().clone(),
            attempts: number,
            connect_ms: 0,
            reused: false,
            tunnel: None,
        })
    }

    /// The first stand-in that takes a request.
    fn take(&self, destination: &Destination, sent: &SentCall, bench: &Bench<'_>) -> Option<(usize, &StandIn)> {
        let upstream = match destination {
            Destination::Origin(_) => None,
            Destination::Upstream(upstream) => Some(&*upstream.name),
        };
        let mut used = self.used.borrow_mut();
        let mut all = self.stand_ins.iter().zip(used.iter_mut()).enumerate();
        let (at, (stand_in, used)) = all.find(|(_, (stand_in, used))| {
            stand_in.times.is_none_or(|times| **used < times) && stand_in.takes(upstream, sent, bench)
        })?;
        *used += 1;
        Some((at, stand_in))
    }

    /// Lets the stand-in's time pass, or fails as it says.
    async fn wait(&self, sending: &Sending<'_>, stand_in: &StandIn) -> Result<(), Failed> {
        let left = self.left(sending);
        let first_byte = sending.call.timeouts.first_byte;
        let fail = stand_in.answer.fail;
        if fail == Some(Fail::Timeout) || stand_in.answer.delay > left.min(first_byte) {
            self.pass(left.min(first_byte)).await;
            let error = if left < first_byte { SendError::TimeoutTotal } else { SendError::TimeoutFirstByte };
            return Err(Failed { error, how: How::Final });
        }
        self.pass(stand_in.answer.delay).await;
        let failed = |error, how| Err(Failed { error, how });
        match fail {
            None | Some(Fail::Timeout) => Ok(()),
            Some(Fail::Refused) => failed(SendError::Connect("refused, as the test says".to_owned()), How::Unsent),
            Some(Fail::Reset) => {
                failed(SendError::BadAnswer("closed the connection without an answer".to_owned()), How::Unanswered)
            }
            Some(Fail::Malformed) => {
                failed(SendError::BadAnswer("sent a malformed answer, as the test says".to_owned()), How::Final)
            }
        }
    }
}

fn is_idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::PUT | Method::DELETE | Method::OPTIONS | Method::TRACE)
}

/// The target of an attempt: each attempt takes the next.
fn origin(destination: &Destination, number: u32) -> Option<Arc<Origin>> {
    match destination {
        Destination::Origin(origin) => Some(origin.clone()),
        Destination::Upstream(upstream) => {
            let targets = upstream.targets();
            let at = (number as usize - 1).checked_rem(targets.len())?;
            targets.get(at).map(|target| target.origin.clone())
        }
    }
}

fn host(call: &Call, origin: &Origin) -> HeaderValue {
    match &call.host {
        HostHeader::Literal(value) => value.clone(),
        HostHeader::Client => call.client_host.clone().unwrap_or_else(|| origin.authority().clone()),
        HostHeader::Upstream => origin.authority().clone(),
    }
}

/// Whether the call's own rules ask for another attempt.
fn again(on: RetryOn, result: &Result<Answer, Failed>, repeatable: bool) -> bool {
    match result {
        Ok(answer) => {
            repeatable
                && match answer.status {
                    StatusCode::BAD_GATEWAY => on.bad_gateway,
                    StatusCode::SERVICE_UNAVAILABLE => on.unavailable,
                    StatusCode::GATEWAY_TIMEOUT => on.gateway_timeout,
                    _ => false,
                }
        }
        Err(failed) => match failed.how {
            How::Unsent => on.connect,
            How::Unanswered => repeatable && on.reset,
            How::Final => false,
        },
    }
}

impl GivenTransport for StandIns {
    fn send<'a>(&'a self, call: Call) -> Pin<Box<dyn Future<Output = Result<Answer, SendError>> + 'a>> {
        Box::pin(self.run(call))
    }
}
