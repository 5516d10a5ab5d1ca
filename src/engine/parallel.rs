//! `parallel`: programs that run at once on one worker, each over a fork of the exchange.
//!
//! All must pass. The first fault, the time limit, the deadline of the request and a client that leaves give up the
//! others where they wait. What the children have set is taken over in the order of the policy, so that the result
//! does not hang on who was first.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use http::StatusCode;

use crate::engine::exchange::Exchange;
use crate::engine::program::{Flow, Program, Verdict, Waits};
use crate::engine::run::run;
use crate::fault::Fault;

/// Children that run at once.
pub struct Parallel {
    children: Vec<Program>,
    /// Longest time of all of them together.
    time_limit: Option<Duration>,
}

impl Parallel {
    /// Children in the order of the policy; none of them routes, answers or changes a message.
    pub fn new(children: Vec<Program>, time_limit: Option<Duration>) -> Parallel {
        Parallel { children, time_limit }
    }
}

impl Waits for Parallel {
    fn check<'a>(&'a self, x: &'a mut Exchange) -> Flow<'a> {
        Flow::Later(Box::pin(self.run_all(x)))
    }
}

impl Parallel {
    async fn run_all(&self, x: &mut Exchange) -> Verdict {
        let forks = self.children.iter().map(|_| x.fork()).collect();
        let mut forked = Forked { x, forks };
        if let Err(fault) = self.all_pass(&mut forked).await {
            return Verdict::Fault(fault);
        }
        let Forked { x, forks } = &mut forked;
        forks.iter_mut().try_for_each(|fork| x.join(fork)).into()
    }

    async fn all_pass(&self, forked: &mut Forked<'_>) -> Result<(), Box<Fault>> {
        let timer = self.time_limit.map(|limit| {
            let timer = forked.x.worker.wheel.timer();
            timer.set(limit);
            timer
        });
        let begun = |(program, fork)| -> Running<'_> { Some(Box::pin(run(program, fork))) };
        let mut running: Vec<Running<'_>> = self.children.iter().zip(&mut forked.forks).map(begun).collect();
        poll_fn(|cx| {
            let mut waiting = false;
            for child in &mut running {
                let Some(future) = child else { continue };
                match future.as_mut().poll(cx) {
                    Poll::Pending => waiting = true,
                    Poll::Ready(Verdict::Passed) => *child = None,
                    Poll::Ready(Verdict::Fault(fault)) => return Poll::Ready(Err(fault)),
                    Poll::Ready(Verdict::Ended(_)) => return Poll::Ready(Err(unfit("a child gave the answer"))),
                }
            }
            match &timer {
                _ if !waiting => Poll::Ready(Ok(())),
                Some(timer) => timer.poll_expired(cx).map(|()| Err(self.took_too_long())),
                None => Poll::Pending,
            }
        })
        .await
    }

    fn took_too_long(&self) -> Box<Fault> {
        let detail = format!("not all children were done within {:?}", self.time_limit.unwrap_or_default());
        Fault::broken(StatusCode::GATEWAY_TIMEOUT, "parallel.timeout", detail)
    }
}

/// A child did what no child may do, and the checks at load have let it through.
pub(super) fn unfit(what: &str) -> Box<Fault> {
    Fault::broken(StatusCode::INTERNAL_SERVER_ERROR, "parallel.unfit", what)
}

/// A child; nothing where it has passed.
type Running<'r> = Option<Pin<Box<dyn Future<Output = Verdict> + 'r>>>;

/// An exchange and its forks. However they end, what has happened outside stays with the exchange.
struct Forked<'x> {
    x: &'x mut Exchange,
    forks: Vec<Exchange>,
}

impl Drop for Forked<'_> {
    fn drop(&mut self) {
        self.x.keep_notes(&mut self.forks);
    }
}

#[cfg(test)]
mod tests;
