//! One request from its head to the answer that leaves: select, run, answer, edit.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use http::{HeaderValue, Method, StatusCode, header};
use smallvec::SmallVec;

use crate::body::{Body, Outgoing};
use crate::engine::exchange::{AnswerEdit, AnswerFacts, Client, Exchange, Held};
use crate::engine::message::{Request, Response};
use crate::engine::program::{Program, Verdict};
use crate::engine::run::{ended_by, run};
use crate::engine::select::{Found, Param};
use crate::engine::value::Text;
use crate::engine::worker::Worker;
use crate::fault::Fault;
use crate::path::{CanonicalPath, decode_segment};
use crate::server::METHOD_MAX;
use crate::upstream::{remove_hop_by_hop, remove_where};

/// Time that `on_fault` has at least, also where the pipeline has used up the request's own.
const ON_FAULT_TIME_MIN: Duration = Duration::from_secs(1);

/// Answers a request. `refused` is what the server found wrong with its head.
pub fn serve(
    worker: Rc<Worker>,
    client: Client,
    parts: http::request::Parts,
    body: Body,
    refused: Option<Box<Fault>>,
) -> impl Future<Output = http::Response<Outgoing>> {
    // Before the future, which has no room for what the exchange is made of.
    let x = exchange(worker, client, parts, body, refused);
    async move { leave(answer(x).await) }
}

/// Builds the exchange and selects its service; a fault waits in it for [`answer`].
pub fn exchange(
    worker: Rc<Worker>,
    client: Client,
    mut parts: http::request::Parts,
    body: Body,
    refused: Option<Box<Fault>>,
) -> Box<Exchange> {
    // Such a method was refused; of it no more is kept.
    let method = parts.method.as_str().as_bytes();
    if let Some(Ok(beginning)) =
        method.get(..METHOD_MAX).filter(|kept| kept.len() < method.len()).map(Method::from_bytes)
    {
        parts.method = beginning;
    }
    let canonical = CanonicalPath::parse(parts.uri.path());
    let path_refused = canonical.is_err();
    let (path, refused) = match (canonical, refused) {
        (Ok(path), refused) => (path, refused),
        (Err(error), refused) => {
            let refused =
                refused.unwrap_or_else(|| Fault::denied(StatusCode::BAD_REQUEST, "request.path", error.to_string()));
            (CanonicalPath::root(), Some(refused))
        }
    };
    let scheme = client.scheme;
    let mut request = Request::new(parts, path, scheme, body);
    remove_hop_by_hop(&mut request.headers);
    let mut x = Exchange::new(worker, client, request);
    x.path_refused = path_refused;
    let refused = refused.or_else(|| too_large(&x));
    match refused {
        Some(fault) => {
            x.enter(None);
            x.fault = Some(fault);
        }
        None => select(&mut x),
    }
    x
}

fn too_large(x: &Exchange) -> Option<Box<Fault>> {
    let limit = x.worker.shared.limits.body_streamed;
    let declared = x.request.body.size().filter(|size| *size > limit)?;
    let detail = format!("declared {declared} bytes, at most {limit} are taken");
    let mut fault = Fault::denied(StatusCode::PAYLOAD_TOO_LARGE, "body.too_large", detail);
    fault.close = true;
    Some(fault)
}

fn select(x: &mut Exchange) {
    let snapshot = x.snapshot.clone();
    if let Some(published) = snapshot.published_at(x.request.path.as_str()) {
        return match x.request.method {
            Method::GET | Method::HEAD => x.enter(Some(published)),
            _ => other_method(x, &[Method::GET, Method::HEAD]),
        };
    }
    let (listener, host) = (&x.client.listener, &x.request.host);
    match snapshot.select.find(listener, host, x.request.path.as_str(), &x.request.method) {
        Found::Service(service, params) => {
            x.state.params = decoded(x.request.path.as_str(), &params);
            x.enter(Some(service));
        }
        Found::OtherMethod(allowed) => other_method(x, &allowed),
        Found::Ambiguous => {
            x.enter(None);
            let detail = "a segment has parameters (`;`), and without them the path belongs to another match rule";
            x.fault = Some(Fault::denied(StatusCode::BAD_REQUEST, "request.path", detail));
        }
        Found::Nothing => {
            x.enter(None);
            let detail = "no match rule fits this host and path";
            x.fault = Some(Fault::denied(StatusCode::NOT_FOUND, "service.none", detail));
        }
    }
}

fn other_method(x: &mut Exchange, allowed: &[Method]) {
    x.enter(None);
    let names: Vec<&str> = allowed.iter().map(Method::as_str).collect();
    let detail = format!("{} is not among {}", x.request.method, names.join(", "));
    let allow = HeaderValue::from_str(&names.join(", ")).unwrap_or(HeaderValue::from_static(""));
    let fault = Fault::denied(StatusCode::METHOD_NOT_ALLOWED, "service.method", detail);
    x.fault = Some(fault.with_header(header::ALLOW, allow));
}

fn decoded(path: &str, params: &[Param]) -> SmallVec<[Text; 4]> {
    let piece = |(from, to): &Param| path.get(*from as usize..*to as usize).unwrap_or_default();
    params.iter().map(|param| Text::from(decode_segment(piece(param)))).collect()
}

/// Runs the service's pipeline and, where it failed, `on_fault`. Afterwards there is a response.
pub async fn answer(mut x: Box<Exchange>) -> Box<Exchange> {
    let snapshot = x.snapshot.clone();
    if x.fault.is_none() {
        let service = x.compiled(&snapshot);
        let verdict = within_deadline(&mut x, &service.main, Duration::ZERO).await;
        x.undo_all(); // what the deadline cut off in the middle
        if let Some(by) = ended_by(&verdict) {
            x.ended_by = by;
        }
        match verdict {
            Verdict::Fault(fault) => x.fault = Some(fault),
            _ if x.response.is_none() => {
                let detail = "the pipeline ended and no step had given an answer";
                x.fault = Some(Fault::broken(StatusCode::INTERNAL_SERVER_ERROR, "policy.no_answer", detail));
            }
            _ => {}
        }
    }
    if let Some(fault) = x.fault.clone() {
        x.failed_vars.clone_from(&x.state.vars);
        x.state.response = Some(problem(&fault, &x.id));
        let service = x.compiled(&snapshot);
        let on_fault = within_deadline(&mut x, &service.on_fault, ON_FAULT_TIME_MIN).await;
        x.undo_all();
        if let Verdict::Fault(second) = on_fault {
            tracing::warn!(service = x.service_name(), request_id = x.id, code = %second.code, detail = second.detail,
                "on_fault failed; the plain answer was sent");
            x.state.response = Some(problem(&fault, &x.id));
        }
    }
    x
}

fn problem(fault: &Fault, request_id: &str) -> Response {
    let (headers, body) = fault.answer(request_id);
    Response::new(fault.status, headers, Body::Buffered(body.into()))
}

/// Runs a program, at most for what is left of the request's time, but for `least`. The timer is armed only
/// where something really waits.
async fn within_deadline(x: &mut Exchange, program: &Program, least: Duration) -> Verdict {
    if program.ops.is_empty() {
        return Verdict::Passed;
    }
    let worker = x.worker.clone();
    let limit = worker.shared.limits.request_time;
    let started_ns = x.started_ns;
    let mut timer = None;
    let mut running = pin!(run(program, x));
    poll_fn(|cx| {
        if let Poll::Ready(verdict) = running.as_mut().poll(cx) {
            return Poll::Ready(verdict);
        }
        let timer = timer.get_or_insert_with(|| {
            let timer = worker.wheel.timer();
            let elapsed = Duration::from_nanos(worker.clock.mono_ns().saturating_sub(started_ns));
            timer.set(time_left(limit, elapsed, least));
            timer
        });
        timer.poll_expired(cx).map(|()| {
            let detail = format!("the request took longer than {limit:?}");
            Verdict::Fault(Fault::broken(StatusCode::GATEWAY_TIMEOUT, "deadline.exceeded", detail))
        })
    })
    .await
}

/// The pipeline and `on_fault` share one deadline.
fn time_left(limit: Duration, elapsed: Duration, least: Duration) -> Duration {
    limit.saturating_sub(elapsed).max(least)
}

/// Turns a finished exchange into the answer that leaves. The exchange is kept until its last byte.
pub fn leave(mut x: Box<Exchange>) -> http::Response<Outgoing> {
    let Some(response) = x.state.response.take() else {
        return http::Response::new(Outgoing::new(Body::Empty)); // not reached: answer() leaves a response
    };
    let Response { status, mut headers, mut body, .. } = response;
    // Who is told to upgrade is told to what (RFC 9110 §15.5.22).
    let required = headers.get(header::UPGRADE).filter(|_| status == StatusCode::UPGRADE_REQUIRED).cloned();
    remove_hop_by_hop(&mut headers);
    if let Some(required) = required {
        headers.insert(header::UPGRADE, required);
    }
    let edits = std::mem::take(&mut x.state.answer_edits);
    headers.reserve(edits.len());
    for edit in edits {
        apply(edit, &mut headers);
    }
    if x.close_after || x.fault.as_ref().is_some_and(|fault| fault.close) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    leave_out_body(x.asked_method(), status, &mut headers, &mut body);
    x.answer = Some(AnswerFacts { status, size: body.size() });
    if x.is_followed() || x.compiled(&x.snapshot).keeps_answer_headers {
        x.answer_headers = Some(Box::new(headers.clone()));
    }
    if let Body::Stream(inbound) = &body {
        x.watch(inbound.ending());
    }
    let tunnel = x.tunnel.take().filter(|_| status == StatusCode::SWITCHING_PROTOCOLS);
    let body = match tunnel {
        Some(tunnel) => {
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            if let Some(protocol) = x.request.upgrade.clone() {
                headers.insert(header::UPGRADE, protocol);
            }
            Outgoing::tunnelled(tunnel, Box::new(Held(x)))
        }
        None => Outgoing::held_by(body, Box::new(Held(x))),
    };
    let mut answer = http::Response::new(body);
    *answer.status_mut() = status;
    *answer.headers_mut() = headers;
    answer
}

/// Takes the body away where none may be sent (RFC 9110 §9.3.2, §15.3.5, §15.4.5): hyper would not read it, and
/// the answer would never count as sent. An answer to HEAD keeps the length that GET would have had.
fn leave_out_body(asked: &Method, status: StatusCode, headers: &mut http::HeaderMap, body: &mut Body) {
    if *asked == Method::HEAD {
        let size = body.size().filter(|size| *size > 0 && !headers.contains_key(header::CONTENT_LENGTH));
        if let Some(size) = size {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
        }
    } else if !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        return;
    }
    if status == StatusCode::NO_CONTENT {
        headers.remove(header::CONTENT_LENGTH); // RFC 9110 §8.6
    }
    *body = Body::Empty;
}

/// Applies a change of header fields.
pub fn apply(edit: AnswerEdit, headers: &mut http::HeaderMap) {
    match edit {
        AnswerEdit::Set(name, values) => {
            let mut values = values.into_iter();
            match values.next() {
                Some(first) => headers.insert(&name, first),
                None => headers.remove(&name),
            };
            for value in values {
                headers.append(&name, value);
            }
        }
        AnswerEdit::Append(name, value) => {
            headers.append(name, value);
        }
        AnswerEdit::Default(name, value) => {
            headers.entry(name).or_insert(value);
        }
        AnswerEdit::Remove(name) => {
            headers.remove(name);
        }
        AnswerEdit::RemovePrefix(prefix) => {
            remove_where(headers, |name| name.as_str().starts_with(&*prefix) && !is_framing(name));
        }
        AnswerEdit::Keep(names) => remove_where(headers, |name| !names.contains(name) && !is_framing(name)),
    }
}

/// Fields that say where a message ends, or whose it is: no step takes them away.
pub fn is_framing(name: &http::HeaderName) -> bool {
    *name == header::CONTENT_LENGTH || *name == header::TRANSFER_ENCODING || *name == header::HOST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pipeline_and_on_fault_share_one_deadline() {
        let seconds = Duration::from_secs;
        assert_eq!(time_left(seconds(300), seconds(0), Duration::ZERO), seconds(300));
        assert_eq!(time_left(seconds(300), seconds(290), ON_FAULT_TIME_MIN), seconds(10));
        assert_eq!(time_left(seconds(300), seconds(301), ON_FAULT_TIME_MIN), seconds(1));
    }

    #[test]
    fn only_answers_that_have_none_lose_their_body() {
        let left = |method: Method, status: u16, length: Option<u64>, body: &'static str| {
            let mut headers = http::HeaderMap::new();
            headers.extend(length.map(|length| (header::CONTENT_LENGTH, HeaderValue::from(length))));
            let mut body = Body::Buffered(body.into());
            leave_out_body(&method, StatusCode::from_u16(status).unwrap(), &mut headers, &mut body);
            let length = headers.get(header::CONTENT_LENGTH).map(|value| value.to_str().unwrap().to_owned());
            (length, body.size())
        };
        assert_eq!(left(Method::GET, 200, None, "abc"), (None, Some(3)));
        assert_eq!(left(Method::HEAD, 200, None, "abc"), (Some("3".into()), Some(0)));
        assert_eq!(left(Method::HEAD, 200, Some(7), ""), (Some("7".into()), Some(0)));
        assert_eq!(left(Method::GET, 204, Some(3), "abc"), (None, Some(0)));
        assert_eq!(left(Method::GET, 304, Some(3), "abc"), (Some("3".into()), Some(0)));
    }
}
