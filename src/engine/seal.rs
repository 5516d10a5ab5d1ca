//! Credentials that steps have sealed to the origins of a call: put on it when it is sent, to no other place, and
//! renewed once where the upstream refuses them (RFC 6750 §3.1).
//!
//! The engine knows nothing of tokens: a seal says which origins it admits, writes its fields, and renews itself. A call
//! is replayed once at most, and only where its body is held. Redirects are never followed.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::uri::PathAndQuery;

use crate::engine::exchange::Exchange;
use crate::engine::message::Response;
use crate::engine::program::Condition;
use crate::fault::Fault;
use crate::upstream::{Answer, Call, Destination, Origin, SendError, Watching};

/// What a seal waits for.
pub type Renewing<'a> = Pin<Box<dyn Future<Output = Result<(), Box<Fault>>> + 'a>>;

/// A seal, and which of its credentials was refused.
type Refused = (Arc<dyn Seal>, u64);

/// Why a call did not go out, or not again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unopened {
    /// This origin is not among those that the credential is for.
    OriginRefused(String),
    /// The credential was renewed, but what was sent is not there any more.
    NotReplayable,
    /// A fresh credential was refused too.
    Rejected,
}

/// A credential for certain origins.
pub trait Seal: Send + Sync {
    fn admits(&self, origin: &Origin) -> bool;
    /// Writes its fields; says which of its credentials it was.
    fn open(&self, x: &Exchange, headers: &mut HeaderMap, target: &mut PathAndQuery) -> Result<u64, Box<Fault>>;
    /// Whether the answer says that the credential is not good.
    fn is_refused(&self, x: &mut Exchange, answer: &Answer) -> Result<bool, Box<Fault>>;
    /// Gets another credential than the one that was refused, if there is none yet.
    fn renew<'a>(&'a self, x: &'a Exchange, refused: u64) -> Renewing<'a>;
    /// Whether what was refused may be sent again.
    fn replays(&self) -> bool;
    /// Takes from the answer what is between us and the upstream.
    fn clean(&self, headers: &mut HeaderMap);
    fn fault(&self, why: Unopened) -> Box<Fault>;
}

/// Seals for what is sent next.
#[derive(Clone, Default)]
pub struct Seals {
    /// For all routes that follow.
    pub routes: Vec<Arc<dyn Seal>>,
    /// For the next call beside the request.
    pub calls: Vec<Arc<dyn Seal>>,
}

impl Seals {
    /// Takes over what another one has and this one has not.
    pub(super) fn join(&mut self, other: &Seals) {
        for (own, others) in [(&mut self.routes, &other.routes), (&mut self.calls, &other.calls)] {
            for seal in others {
                if !own.iter().any(|known| Arc::ptr_eq(known, seal)) {
                    own.push(seal.clone());
                }
            }
        }
    }
}

/// Sends a call with these seals. The error is a seal's own; what came of the sending is inside.
pub async fn send(
    x: &mut Exchange,
    mut call: Box<Call>,
    seals: Vec<Arc<dyn Seal>>,
) -> Result<Result<Answer, SendError>, Box<Fault>> {
    let worker = x.worker.clone();
    let since_ms = worker.clock.mono_ms();
    for seal in &seals {
        check(&**seal, &call.destination)?;
    }
    let spare = call.copy();
    let opened = open(x, &seals, &mut call)?;
    let mut first = match traced(x, call).await {
        Ok(answer) => answer,
        Err(error) => return Ok(Err(error)),
    };
    let Some((seal, used)) = refusing(x, &seals, &opened, &first)? else {
        seals.iter().for_each(|seal| seal.clean(&mut first.headers));
        return Ok(Ok(first));
    };
    let attempts = first.attempts;
    // Its connection is closed rather than read to the end of an answer that nobody wants.
    drop(first);
    seal.renew(x, used).await?;
    let Some(mut again) = spare.filter(|_| seal.replays()) else { return Err(seal.fault(Unopened::NotReplayable)) };
    let elapsed = Duration::from_millis(worker.clock.mono_ms().saturating_sub(since_ms));
    again.timeouts.total = again.timeouts.total.saturating_sub(elapsed);
    let opened = open(x, &seals, &mut again)?;
    let mut second = match traced(x, Box::new(again)).await {
        Ok(answer) => answer,
        Err(error) => return Ok(Err(error)),
    };
    if let Some((seal, _)) = refusing(x, &seals, &opened, &second)? {
        return Err(seal.fault(Unopened::Rejected));
    }
    second.attempts = second.attempts.saturating_add(attempts);
    seals.iter().for_each(|seal| seal.clean(&mut second.headers));
    Ok(Ok(second))
}

/// Sends a call; a trace sees each of its attempts.
pub fn traced(x: &Exchange, call: Box<Call>) -> impl Future<Output = Result<Answer, SendError>> + use<> {
    let (worker, span) = (x.worker.clone(), x.span.clone());
    async move { worker.send_watched(call, span.as_deref().map(|span| span as &dyn Watching)).await }
}

fn check(seal: &dyn Seal, destination: &Destination) -> Result<(), Box<Fault>> {
    let refused = |origin: &Origin| (!seal.admits(origin)).then(|| origin.text().to_string());
    let found = match destination {
        Destination::Origin(origin) => refused(origin),
        Destination::Upstream(upstream) => match &upstream.dns {
            Some(dns) => refused(&dns.origin),
            None => upstream.targets().iter().find_map(|target| refused(&target.origin)),
        },
    };
    found.map_or(Ok(()), |origin| Err(seal.fault(Unopened::OriginRefused(origin))))
}

fn open(x: &Exchange, seals: &[Arc<dyn Seal>], call: &mut Call) -> Result<Vec<u64>, Box<Fault>> {
    seals.iter().map(|seal| seal.open(x, &mut call.headers, &mut call.target)).collect()
}

/// The first seal whose credential was refused.
fn refusing(
    x: &mut Exchange,
    seals: &[Arc<dyn Seal>],
    opened: &[u64],
    answer: &Answer,
) -> Result<Option<Refused>, Box<Fault>> {
    for (seal, used) in seals.iter().zip(opened) {
        if seal.is_refused(x, answer)? {
            return Ok(Some((seal.clone(), *used)));
        }
    }
    Ok(None)
}

impl Exchange {
    /// Asks something of an answer that is not the response yet: `answer` means its head.
    pub fn holds_of(&mut self, answer: &Answer, condition: &dyn Condition) -> Result<bool, Box<Fault>> {
        let head = Response::new(answer.status, answer.headers.clone(), crate::body::Body::Empty);
        let before = self.state.response.replace(head);
        let holds = condition.holds(self);
        self.state.response = before;
        holds
    }
}
