//! Health checks: a request to each target of an upstream, now and then.
//!
//! One checker asks for the whole process; workers only read what it has found. What it asks with is the pool that
//! calls go through, so that a target is healthy exactly where a call would get that answer.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderValue, USER_AGENT};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, StatusCode};
use tokio::task::JoinSet;

use super::address::Addresses;
use super::balance::Upstream;
use super::pool::Pool;
use super::target::{Patience, Target};
use super::{Call, Destination, Retry, Timeouts};
use crate::body::{Body, BodyLimits};

/// Targets of one upstream that are asked at the same time.
const AT_ONCE: usize = 32;
/// What is read of an answer, bytes; more costs the connection and nothing else.
const ANSWER_BYTES: u64 = 64 * 1024;

/// How the targets of an upstream are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub path: PathAndQuery,
    /// From the beginning of a round to that of the next.
    pub every: Duration,
    /// For the whole answer.
    pub timeout: Duration,
    pub patience: Patience,
    /// Any of these says that a target is healthy.
    pub expect: Box<[StatusCode]>,
}

/// Checks the targets of an upstream for ever.
pub(super) async fn keep_checking(upstream: Arc<Upstream>, check: Check, pool: Rc<Pool>) {
    let check = Rc::new(check);
    let next = pool.wheel.timer();
    loop {
        next.set(check.every);
        let mut asked = JoinSet::new();
        for target in upstream.targets().iter() {
            if asked.len() >= AT_ONCE {
                asked.join_next().await;
            }
            let (upstream, target, check, pool) = (upstream.clone(), target.clone(), check.clone(), pool.clone());
            asked.spawn_local(async move { once(&upstream, &target, &check, &pool).await });
        }
        while asked.join_next().await.is_some() {}
        next.expired().await;
    }
}

async fn once(upstream: &Upstream, target: &Arc<Target>, check: &Check, pool: &Pool) {
    let found = ask(upstream, target, check, pool).await;
    if !target.checked(found, check.patience, pool.clock.mono_ms()) {
        return;
    }
    let (upstream, at) = (&*upstream.name, target.origin.text());
    match target.why_unhealthy() {
        Some(why) => {
            tracing::warn!(upstream, target = %at, %why, "a target fails its health checks: no calls go there")
        }
        None => tracing::info!(upstream, target = %at, "a target passes its health checks"),
    }
}

async fn ask(upstream: &Upstream, target: &Target, check: &Check, pool: &Pool) -> Result<(), String> {
    let agent = HeaderValue::from_static(concat!("gatewright/", env!("CARGO_PKG_VERSION"), " (health check)"));
    let time = check.timeout;
    let call = Call {
        destination: Destination::Origin(target.origin.clone()),
        method: Method::GET,
        target: check.path.clone(),
        headers: HeaderMap::from_iter([(USER_AGENT, agent)]),
        body: Body::Empty,
        timeouts: Timeouts { connect: time, first_byte: time, idle: time, total: time },
        retry: Retry::default(),
        host: upstream.host.clone(),
        client_host: None,
        answer_limits: BodyLimits { bytes: ANSWER_BYTES, idle: time, rate: 0 },
        answer_to_head: false,
        addresses: Addresses::Any,
        upgrade: None,
        key: None,
    };
    let mut answer = pool.send(call).await.map_err(|error| error.to_string())?;
    // Read to its end the connection serves again; what stands in it does not matter.
    let _ = answer.body.buffer(ANSWER_BYTES).await;
    match check.expect.contains(&answer.status) {
        true => Ok(()),
        false => Err(format!("answered {} to {}", answer.status.as_u16(), check.path)),
    }
}
