//! Running a program: the loop over its operations.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Poll;

use http::StatusCode;

use crate::body::BodyFault;
use crate::coding::Refused;
use crate::engine::exchange::Exchange;
use crate::engine::program::{EndedBy, Flow, Op, Program, StepId, Verdict};
use crate::engine::read::Side;
use crate::engine::seal;
use crate::engine::walk::{catch, steer};
use crate::fault::Fault;
use crate::upstream::{Answer, Call, SendError};

/// Runs a program to its end. Passed means: the last step was reached.
pub async fn run(program: &Program, x: &mut Exchange) -> Verdict {
    let mut at = 0;
    loop {
        if let Some((step, verdict)) = guarded(program, &mut at, x) {
            match conclude(program, &mut at, x, step, verdict) {
                Some(verdict) => return verdict,
                None => continue,
            }
        }
        let Some(op) = program.ops.get(at) else { return Verdict::Passed };
        at += 1;
        let (step, verdict) = match op {
            Op::Waits(step, waits) => {
                x.begin(*step);
                (*step, wait(caught_flow(|| waits.check(x))).await)
            }
            Op::Route(step, route) => {
                x.begin(*step);
                let verdict = match route.prepare(x) {
                    Ok(call) => match send(x, call).await {
                        Ok(result) => route.finish(x, result),
                        Err(fault) => Verdict::Fault(fault),
                    },
                    Err(fault) => Verdict::Fault(fault),
                };
                (*step, verdict)
            }
            Op::Buffer(step, side) => match buffer(x, *side).await {
                Ok(()) => continue,
                Err(fault) => (*step, Verdict::Fault(fault)),
            },
            Op::Hold(step) => match hold(x, x.worker.shared.limits.body_buffered).await {
                Ok(()) => continue,
                Err(fault) => (*step, Verdict::Fault(fault)),
            },
            _ => {
                // `guarded` takes the others; a loop that has run long stops before its next round.
                at -= 1;
                let_others_run().await;
                continue;
            }
        };
        if let Some(verdict) = conclude(program, &mut at, x, step, verdict) {
            return verdict;
        }
    }
}

/// Sends the request, with the credentials that steps have sealed to where it goes.
async fn send(x: &mut Exchange, call: Box<Call>) -> Result<Result<Answer, SendError>, Box<Fault>> {
    if x.seals.routes.is_empty() {
        return Ok(seal::traced(x, call).await);
    }
    let seals = x.seals.routes.clone();
    Box::pin(seal::send(x, call, seals)).await
}

/// Gives the worker's other requests, and the deadline of this one, their turn.
async fn let_others_run() {
    let mut asked = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut asked, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Runs what does not wait from `at` on, under one guard against panics: a guard per step costs more than most
/// steps do. Ends before an operation that may wait, or with the verdict of a step that did not pass.
fn guarded(program: &Program, at: &mut usize, x: &mut Exchange) -> Option<(StepId, Verdict)> {
    match catch_unwind(AssertUnwindSafe(|| plain(program, at, x))) {
        Ok(ended) => ended,
        Err(_) => {
            // `at` already stands behind the operation that panicked.
            let step = match program.ops.get(at.saturating_sub(1)) {
                Some(op) => op.step().unwrap_or_default(),
                None => 0,
            };
            Some((step, panicked()))
        }
    }
}

fn plain(program: &Program, at: &mut usize, x: &mut Exchange) -> Option<(StepId, Verdict)> {
    while let Some(op) = program.ops.get(*at) {
        match op {
            Op::Plain(step, plain) => {
                *at += 1;
                x.begin(*step);
                match plain.check(x) {
                    Verdict::Passed => x.note(*step, &Verdict::Passed),
                    other => return Some((*step, other)),
                }
            }
            Op::Enter(step, plain, _) => {
                *at += 1;
                x.begin(*step);
                match plain.check(x) {
                    Verdict::Passed => x.enter_step(*step),
                    other => return Some((*step, other)),
                }
            }
            Op::Unless(step, condition, by) => {
                *at += 1;
                x.begin(*step);
                match condition.holds(x) {
                    Ok(true) => {}
                    Ok(false) => {
                        x.skip(*step);
                        *at += by;
                    }
                    Err(fault) => return Some((*step, Verdict::Fault(fault))),
                }
            }
            Op::Waits(..) | Op::Route(..) | Op::Buffer(..) | Op::Hold(_) => return None,
            Op::Next(_) if x.walk.has_run_long() => return None,
            steering => {
                *at += 1;
                if let Err((step, fault)) = steer(steering, at, x) {
                    return Some((step, Verdict::Fault(fault)));
                }
            }
        }
    }
    None
}

/// Waits for a step; a panic meanwhile is a fault of this request too.
async fn wait(flow: Flow<'_>) -> Verdict {
    match flow {
        Flow::Now(verdict) => verdict,
        Flow::Later(mut future) => {
            poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
                Ok(poll) => poll,
                Err(_) => Poll::Ready(panicked()),
            })
            .await
        }
    }
}

/// Runs a program whose steps never wait (`finally`); whatever they answer changes nothing.
pub fn run_plain(program: &Program, x: &mut Exchange) {
    let mut at = 0;
    while let Some(op) = program.ops.get(at) {
        at += 1;
        match op {
            Op::Plain(step, plain) => {
                x.begin(*step);
                let verdict = caught(|| plain.check(x));
                conclude_plain(x, *step, verdict);
            }
            Op::Enter(step, plain, by) => {
                x.begin(*step);
                let verdict = caught(|| plain.check(x));
                match verdict {
                    Verdict::Passed => x.enter_step(*step),
                    other => {
                        conclude_plain(x, *step, other);
                        at += by;
                    }
                }
            }
            Op::Jump(by) => at += by,
            Op::Unless(step, condition, by) => {
                x.begin(*step);
                let holds = catch_unwind(AssertUnwindSafe(|| condition.holds(x)));
                if !matches!(holds, Ok(Ok(true))) {
                    if let Ok(Err(mut fault)) = holds {
                        fault.step.get_or_insert(*step);
                        x.note_caught(&fault);
                    }
                    x.skip(*step);
                    at += by;
                }
            }
            _ => {} // composites that catch or repeat do not stand in `finally`
        }
    }
}

/// Notes the verdict of a step of `finally`: a fault changes nothing any more, and stands in the record.
fn conclude_plain(x: &mut Exchange, step: StepId, mut verdict: Verdict) {
    if let Verdict::Fault(fault) = &mut verdict {
        fault.step.get_or_insert(step);
        x.note_caught(fault);
    }
    x.note(step, &verdict);
}

/// Notes the verdict. A fault that a frame takes goes on where the frame says; any other, and an answer, ends the
/// program.
fn conclude(
    program: &Program,
    at: &mut usize,
    x: &mut Exchange,
    step: StepId,
    mut verdict: Verdict,
) -> Option<Verdict> {
    if let Verdict::Fault(fault) = &mut verdict {
        fault.step.get_or_insert(step);
    }
    x.note(step, &verdict);
    match verdict {
        Verdict::Passed => None,
        Verdict::Ended(by) => {
            x.keep_all();
            Some(Verdict::Ended(by))
        }
        Verdict::Fault(fault) => match catch(program, fault, x) {
            Ok(handler) => {
                *at = handler;
                None
            }
            Err(fault) => Some(Verdict::Fault(fault)),
        },
    }
}

fn caught(check: impl FnOnce() -> Verdict) -> Verdict {
    catch_unwind(AssertUnwindSafe(check)).unwrap_or_else(|_| panicked())
}

fn caught_flow<'a>(check: impl FnOnce() -> Flow<'a>) -> Flow<'a> {
    catch_unwind(AssertUnwindSafe(check)).unwrap_or_else(|_| Flow::Now(panicked()))
}

fn panicked() -> Verdict {
    let detail = "the step panicked; the process log has the place";
    Verdict::Fault(Fault::broken(StatusCode::INTERNAL_SERVER_ERROR, "step.panicked", detail))
}

async fn buffer(x: &mut Exchange, side: Side) -> Result<(), Box<Fault>> {
    let limit = x.worker.shared.limits.body_buffered;
    let Some(body) = x.state.body_mut(side) else { return Ok(()) };
    let read = body.buffer(limit).await;
    read.map_err(|fault| x.body_fault(side, fault))?;
    if side == Side::Response {
        x.decode_held_answer(limit);
    }
    Ok(())
}

/// Reads the request's body whole, unless it has more bytes than the limit: then it streams on.
pub async fn hold(x: &mut Exchange, limit: u64) -> Result<(), Box<Fault>> {
    let Some(body) = x.state.body_mut(Side::Request) else { return Ok(()) };
    let read = body.hold(limit).await;
    read.map_err(|fault| x.body_fault(Side::Request, fault))
}

/// A body that could not be read: the client's fault in a request, the upstream's in a response.
pub fn body_fault(side: Side, fault: BodyFault) -> Box<Fault> {
    let detail = format!("{}: {fault}", side.word());
    let (status, code) = match (&fault, side) {
        (BodyFault::Gone, _) => return Fault::broken(StatusCode::INTERNAL_SERVER_ERROR, "body.gone", detail),
        (BodyFault::Coding(Refused::Invalid(_)), _) => (StatusCode::BAD_REQUEST, "decompress.invalid"),
        (BodyFault::Coding(Refused::TooLarge { .. }), _) => (StatusCode::PAYLOAD_TOO_LARGE, "decompress.too_large"),
        (BodyFault::Coding(Refused::Ratio { .. }), _) => (StatusCode::PAYLOAD_TOO_LARGE, "decompress.ratio"),
        (BodyFault::TooLarge { .. }, Side::Request) => (StatusCode::PAYLOAD_TOO_LARGE, "body.too_large"),
        (BodyFault::Restricted { .. }, Side::Request) => (StatusCode::PAYLOAD_TOO_LARGE, "limit_size.body"),
        (BodyFault::Timeout, Side::Request) => (StatusCode::REQUEST_TIMEOUT, "body.timeout"),
        (BodyFault::Broken(_), Side::Request) => (StatusCode::BAD_REQUEST, "body.broken"),
        (BodyFault::TooLarge { .. }, Side::Response) => (StatusCode::BAD_GATEWAY, "body.answer_too_large"),
        (BodyFault::Restricted { .. }, Side::Response) => (StatusCode::BAD_GATEWAY, "limit_size.response"),
        (BodyFault::Timeout, Side::Response) => (StatusCode::GATEWAY_TIMEOUT, "body.answer_timeout"),
        (BodyFault::Broken(_), Side::Response) => (StatusCode::BAD_GATEWAY, "body.answer_broken"),
    };
    match side {
        Side::Request => {
            let mut fault = Fault::denied(status, code, detail);
            // What is left of the body must not be read as a request.
            (fault.close, fault.unreadable) = (true, true);
            fault
        }
        Side::Response if matches!(fault, BodyFault::Coding(_)) => Fault::broken(StatusCode::BAD_GATEWAY, code, detail),
        Side::Response => Fault::broken(status, code, detail),
    }
}

/// How a finished main program ended.
pub fn ended_by(verdict: &Verdict) -> Option<EndedBy> {
    match verdict {
        Verdict::Passed => Some(EndedBy::End),
        Verdict::Ended(by) => Some(*by),
        Verdict::Fault(_) => None,
    }
}
