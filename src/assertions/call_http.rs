//! `call_http`: asks another service on the way, and puts its answer into a variable.
//!
//! RFC 9110. Nothing of the client's request is sent unless the policy writes it; redirects are never followed and
//! certificates always verified, as in `route`. What it does not do: it streams nothing, and reads no
//! `Cache-Control` of the answer.

mod example;
mod faults;
mod kept;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use http::header::{ACCEPT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::body::{Body, BodyFault, BodyLimits};
use crate::compile::calling::CallingDoc;
use crate::compile::content::{Content, ContentForms};
use crate::compile::header::SetHeader;
use crate::compile::sending::{RetryDoc, TimeoutsDoc, fault_of};
use crate::compile::target::{TargetParams, Way, allowed_hosts, private};
use crate::compile::text::{Sink, Test};
use crate::compile::{Assertion, Category, Compile, Compiled, Kind, Output, Step};
use crate::engine::exchange::Exchange;
use crate::engine::message::Response;
use crate::engine::program::{Condition, Flow, StepId, Verdict, Waits};
use crate::engine::read::Slot;
use crate::engine::reader::field_map;
use crate::engine::seal;
use crate::engine::value::{Element, Facts, Mark, Origin as ValueOrigin, Text as SharedText, Type, Value};
use crate::fault::{Fault, Kind as FaultKind};
use crate::source::{DurationValue, Entries, Expression, Literal, Name, Node, OneOrMany, Size, Spanned, Text};
use crate::store::answers::Kept;
use crate::upstream::{Call, HostHeader, Retry, Timeouts};

/// Longest call with its retries, unless `timeouts: total` says otherwise.
const TOTAL: Duration = Duration::from_secs(5);
/// Largest answer, in bytes, unless `max_answer` says otherwise.
const ANSWER_BYTES: u64 = 1024 * 1024;
/// What `max_answer` can say at most: the answer is held in memory.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Nanoseconds of a millisecond.
const NS_PER_MS: u64 = 1_000_000;

const STATUS: Output = Output { name: "called.status", ty: Type::Int, absent: false, doc: "Its status." };
const HEADERS: Output = Output {
    name: "called.headers",
    ty: Type::Map(Element::Text),
    absent: false,
    doc: "Its fields, names in lower case: `called.headers['content-type']`.",
};
const BODY: Output = Output { name: "called.body", ty: Type::Bytes, absent: false, doc: "Its body." };
const JSON: Output =
    Output { name: "called.json", ty: Type::Json, absent: true, doc: "Its body as JSON; absent where it is none." };
const LATENCY: Output =
    Output { name: "called.latency_ms", ty: Type::Int, absent: false, doc: "From sending to its last byte." };

pub const KIND: Kind = Kind {
    main: Some("to"),
    sets: &[STATUS, HEADERS, BODY, JSON, LATENCY],
    faults: faults::FAULTS,
    examples: example::EXAMPLES,
    ..Kind::of::<CallHttp>(
        "call_http",
        "Asks another service on the way and puts its answer into a variable.",
        Category::Routing,
    )
};

/// Parameters of `call_http`. Exactly one of `to` and `upstream`; a bare text without a scheme is an upstream. The
/// body is one of `json`, `text`, `xml`, `form`, `value` and `file`, or none.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CallHttp {
    /// URL; `/` is sent where it has no path.
    #[serde(default)]
    to: Option<Text>,
    /// Name of an `upstream`.
    #[serde(default)]
    upstream: Option<Name>,
    /// With `upstream`: the path to send; `/` without it.
    #[serde(default)]
    path: Option<Text>,
    /// With `upstream`: the query to send, without the question mark.
    #[serde(default)]
    query: Option<Text>,
    /// `GET` without it.
    #[serde(default)]
    method: Option<Literal>,
    /// Fields to send. Beside them go `Host`, what frames the body, its media type, and `Accept-Encoding: identity`.
    #[serde(default)]
    headers: Option<Entries<OneOrMany<Text>>>,
    /// A structure, types kept; an absent value is `null`.
    #[serde(default)]
    json: Option<Node>,
    /// Plain text.
    #[serde(default)]
    text: Option<Text>,
    /// XML; every `${}` in it is escaped.
    #[serde(default)]
    xml: Option<Text>,
    /// Fields, form-encoded.
    #[serde(default)]
    form: Option<Entries<Text>>,
    /// Bytes or text of a variable.
    #[serde(default)]
    value: Option<Text>,
    /// A file below the folder of gateway.yaml, read at load.
    #[serde(default)]
    file: Option<Literal>,
    /// Media type of the body; follows from its form without it.
    #[serde(default)]
    content_type: Option<Literal>,
    /// Time limits; `total` is 5s without it. With `upstream` they tighten its own.
    #[serde(default)]
    timeouts: TimeoutsDoc,
    /// TLS of an `https://` target.
    #[serde(default)]
    tls: Option<Spanned<CallingDoc>>,
    /// When and how often it is sent again.
    #[serde(default)]
    retry: Option<RetryDoc>,
    /// A condition over `answer`, which has what `called` will have; `answer.status < 400` without it. Where it is
    /// false the step is broken.
    #[serde(default)]
    success_when: Option<Expression>,
    /// Largest body of the answer, at most 64MiB; 1MiB without it.
    #[serde(default)]
    max_answer: Option<Size>,
    /// How long an answer that met `success_when` serves equal calls of this step. Bodies above 64KiB are not kept.
    #[serde(default)]
    cache: Option<DurationValue>,
    /// A broken call is recorded and the step passes; all of `called` is absent then.
    #[serde(default)]
    optional: bool,
    /// Hosts that a variable part of `to` may name, `*.example.com` too; `host:port` for another port than the
    /// scheme's own.
    #[serde(default)]
    allowed_hosts: Option<OneOrMany<Literal>>,
    /// Private networks that a host chosen by a variable may resolve to, or `true`.
    #[serde(default)]
    allow_private: Option<OneOrMany<Literal>>,
    /// Origins, written out and https, to which a body with a secret in it may go.
    #[serde(default)]
    secrets_to: Option<OneOrMany<Literal>>,
}

impl Assertion for CallHttp {
    fn compile(self, step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Compiled> {
        let (hosts, addresses) = (allowed_hosts(&self.allowed_hosts, cx), private(&self.allow_private, cx));
        let secrets_to = cx.secrets_to(self.secrets_to.as_ref());
        let target = TargetParams {
            of_request: false,
            to: self.to,
            upstream: self.upstream,
            path: self.path,
            query: self.query,
            tls: self.tls,
        };
        let way = target.compile(step, cx, hosts.clone().unwrap_or_default(), addresses.clone().flatten());
        let method = match &self.method {
            Some(literal) => cx.method_to_send(literal),
            None => Some(Method::GET),
        };
        let headers = cx.set_headers(self.headers, Sink::Inside);
        let forms = ContentForms {
            json: self.json,
            text: self.text,
            xml: self.xml,
            form: self.form,
            value: self.value,
            file: self.file,
            content_type: self.content_type,
        };
        let body = cx.content(forms, Sink::Inside, step.span).ok();
        let retry = match self.retry {
            Some(doc) => doc.compile(cx, step.span)?,
            None => Retry::default(),
        };
        let answer_bytes = answer_bytes(self.max_answer.as_ref(), cx)?;
        let (slots, members) = declare(step, self.optional, cx);
        let success = match &self.success_when {
            Some(expression) => Some(Test(cx.condition_over(&expression.0, members)?)),
            None => None,
        };
        cx.flow.sealed.calls.clear();
        hosts?;
        addresses?;
        let (way, method, body) = (way?, method?, body?);
        if !is_safe(&method) {
            cx.check_called_once(step.span, retry.any_method);
        }
        let secrets_to = secrets_to?;
        if body.as_ref().is_some_and(|body| body.facts().mark == Mark::Secret) {
            cx.check_secret_body(&way, &host(&way), &secrets_to, step.span, None)?;
        }
        Compiled::waits(CallStep {
            timeouts: timeouts(&self.timeouts, &way),
            way,
            method,
            headers: headers?,
            body,
            retry,
            success,
            answer_bytes,
            cache: self.cache.map(|cache| cache.duration),
            optional: self.optional,
            place: format!("{}/{}", cx.service, step.path_of("")).into(),
            id: cx.current(),
            slots,
        })
    }
}

/// What the other side sees as `Host`. The client's own is not sent unless it is written.
fn host(way: &Way) -> HostHeader {
    match way.upstream.as_ref().map(|upstream| &upstream.host) {
        Some(HostHeader::Literal(host)) => HostHeader::Literal(host.clone()),
        Some(HostHeader::Client | HostHeader::Upstream) | None => HostHeader::Upstream,
    }
}

fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

fn timeouts(doc: &TimeoutsDoc, way: &Way) -> Timeouts {
    let mut timeouts = match &way.upstream {
        Some(upstream) => doc.tighten(upstream.timeouts),
        None => doc.or_default(),
    };
    if doc.total.is_none() {
        timeouts.total = timeouts.total.min(TOTAL);
    }
    timeouts
}

fn answer_bytes(size: Option<&Size>, cx: &mut Compile<'_>) -> Option<u64> {
    match size {
        None => Some(ANSWER_BYTES),
        Some(size) if size.bytes <= ANSWER_BYTES_MAX => Some(size.bytes),
        Some(size) => {
            let message = "the answer is held in memory: at most 64MiB of it";
            cx.refuse("policy.bad_value", size.span, message, "write `max_answer: 64MiB`, or less")
        }
    }
}

/// Variables of the step, and what `answer` has for `success_when`.
fn declare(step: &Step<'_>, optional: bool, cx: &mut Compile<'_>) -> (Slots, BTreeMap<SharedText, (Slot, Facts)>) {
    let renamed = step.renamed();
    let mut members = BTreeMap::new();
    let mut out = |output: &Output| {
        // All fields together may hold a credential.
        let mark = if output.name == HEADERS.name { Mark::Token } else { Mark::None };
        let facts = Facts { ty: output.ty, absent: output.absent, origin: ValueOrigin::Upstream, mark };
        let slot = cx.out_with(output.name, renamed, Facts { absent: facts.absent || optional, ..facts });
        let member = output.name.split_once('.').map_or(output.name, |(_, member)| member);
        members.insert(member.into(), (slot, facts));
        slot
    };
    let slots = Slots {
        status: out(&STATUS),
        headers: out(&HEADERS),
        body: out(&BODY),
        json: out(&JSON),
        latency_ms: out(&LATENCY),
    };
    (slots, members)
}

#[derive(Debug)]
struct Slots {
    status: Slot,
    headers: Slot,
    body: Slot,
    json: Slot,
    latency_ms: Slot,
}

struct CallStep {
    way: Way,
    method: Method,
    headers: Vec<(HeaderName, Vec<SetHeader>)>,
    body: Option<Content>,
    timeouts: Timeouts,
    retry: Retry,
    success: Option<Test>,
    answer_bytes: u64,
    cache: Option<Duration>,
    optional: bool,
    /// What tells its kept answers from those of other steps.
    place: SharedText,
    id: StepId,
    slots: Slots,
}

impl Waits for CallStep {
    fn check<'a>(&'a self, x: &'a mut Exchange) -> Flow<'a> {
        let call = match self.prepare(x) {
            Ok(call) => call,
            Err(fault) => return Flow::Now(self.conclude(x, Err(fault))),
        };
        // Answers to a stored token are nobody's to keep.
        let Some(time) = self.cache.filter(|_| x.seals.calls.is_empty()) else {
            return Flow::Later(Box::pin(self.ask(x, call, None)));
        };
        let key = kept::key(&self.place, &call);
        match x.worker.shared.answers.find(key, x.worker.clock.mono_ms()) {
            Some(kept) => {
                self.set(x, kept, 0);
                Flow::Now(Verdict::Passed)
            }
            None => Flow::Later(Box::pin(self.ask(x, call, Some((key, time))))),
        }
    }
}

impl CallStep {
    fn prepare(&self, x: &Exchange) -> Result<Call, Box<Fault>> {
        let sent = self.way.send_to(x, None)?;
        let mut headers = HeaderMap::new();
        let body = match &self.body {
            None => Body::Empty,
            Some(content) => {
                let (bytes, media) = content.render(x).map_err(|fault| match fault.code.as_ref() {
                    "expression.not_text" => fault.with_code("call_http.bad_value"),
                    _ => fault,
                })?;
                headers.insert(CONTENT_TYPE, media);
                Body::Buffered(bytes)
            }
        };
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        for (name, values) in &self.headers {
            headers.remove(name);
            for value in values {
                headers.append(name, value.render(x, "call_http.bad_value")?);
            }
        }
        Ok(Call {
            destination: sent.destination,
            answer_to_head: self.method == Method::HEAD,
            method: self.method.clone(),
            target: sent.target,
            headers,
            body,
            timeouts: self.timeouts,
            retry: self.retry.clone(),
            host: host(&self.way),
            client_host: None,
            answer_limits: BodyLimits { bytes: self.answer_bytes, idle: self.timeouts.idle, rate: 0 },
            addresses: sent.addresses,
            upgrade: None,
            key: sent.key,
        })
    }

    async fn ask(&self, x: &mut Exchange, call: Call, keep: Option<(u128, Duration)>) -> Verdict {
        let answered = self.answer(x, call, keep).await;
        self.conclude(x, answered)
    }

    async fn answer(&self, x: &mut Exchange, call: Call, keep: Option<(u128, Duration)>) -> Result<(), Box<Fault>> {
        let (worker, since_ns) = (x.worker.clone(), x.worker.clock.mono_ns());
        let seals = x.take_call_seals();
        let sent = match seals.is_empty() {
            true => seal::traced(x, Box::new(call)).await,
            false => seal::send(x, Box::new(call), seals).await?,
        };
        let mut answer = sent.map_err(|error| fault_of("call_http", &error, self.way.chosen_by()))?;
        answer.body.buffer(self.answer_bytes).await.map_err(|fault| unread(&fault))?;
        let body = answer.body.held().cloned().unwrap_or_default();
        let kept = Kept { status: answer.status, headers: answer.headers, body };
        let again = keep.map(|(key, time)| (key, time, kept.clone()));
        let latency_ms = x.since_ns(since_ns) / NS_PER_MS;
        let status = kept.status;
        self.set(x, kept, latency_ms);
        let fits = match &self.success {
            None => status.as_u16() < 400,
            Some(success) => success.holds(x)?,
        };
        if !fits {
            let detail = format!("{} answered {}, which does not meet success_when", answer.target, status.as_u16());
            return Err(Fault::broken(StatusCode::BAD_GATEWAY, "call_http.unsuccessful", detail));
        }
        if let Some((key, time, kept)) = again {
            let time_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            worker.shared.answers.keep(key, worker.clock.mono_ms().saturating_add(time_ms), kept);
        }
        Ok(())
    }

    /// The verdict; of an optional call, what was broken is noted and nothing is there.
    fn conclude(&self, x: &mut Exchange, answered: Result<(), Box<Fault>>) -> Verdict {
        match answered {
            Err(mut fault) if self.optional && fault.kind == FaultKind::Broken => {
                fault.step = Some(self.id);
                x.note_caught(&fault);
                let Slots { status, headers, body, json, latency_ms } = &self.slots;
                for slot in [status, headers, body, json, latency_ms] {
                    x.set(*slot, Value::Absent);
                }
                Verdict::Passed
            }
            answered => answered.into(),
        }
    }

    fn set(&self, x: &mut Exchange, kept: Kept, latency_ms: u64) {
        let depth_max = x.worker.shared.limits.json_depth;
        x.set(self.slots.status, Value::Int(i64::from(kept.status.as_u16())));
        x.set(self.slots.headers, field_map(&kept.headers).into_value());
        x.set(self.slots.body, Value::Bytes(kept.body.clone()));
        let response = Response::new(kept.status, kept.headers, Body::Buffered(kept.body));
        let json = match response.json(depth_max) {
            Ok(json) if json.is_object() || json.is_array() => Value::Json(json.clone()),
            Ok(scalar) => Value::from_json((**scalar).clone()),
            Err(_) => Value::Absent,
        };
        x.set(self.slots.json, json);
        x.set(self.slots.latency_ms, Value::Int(i64::try_from(latency_ms).unwrap_or(i64::MAX)));
    }
}

/// The answer's body did not come whole.
fn unread(fault: &BodyFault) -> Box<Fault> {
    let (status, code) = match fault {
        BodyFault::TooLarge { .. } | BodyFault::Restricted { .. } => {
            (StatusCode::BAD_GATEWAY, "call_http.answer_too_large")
        }
        BodyFault::Timeout => (StatusCode::GATEWAY_TIMEOUT, "call_http.timeout_total"),
        BodyFault::Broken(_) | BodyFault::Coding(_) | BodyFault::Gone => {
            (StatusCode::BAD_GATEWAY, "call_http.bad_answer")
        }
    };
    Fault::broken(status, code, format!("the answer's {fault}"))
}
