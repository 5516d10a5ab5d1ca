//! `route`: sends the request to an upstream and takes its answer as the response.
//!
//! RFC 9110 §7.6.1 (hop-by-hop fields), §9.2.2 (what may be sent again), RFC 9112 §6. Any HTTP answer is a
//! passed verdict unless `success_when` says otherwise; redirects are never followed. Certificates of upstreams are
//! always verified.

mod examples;
mod upgrade;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::examples::EXAMPLES;
use self::upgrade::Upgrades;
use crate::audit::record::Upstream as SentTo;
use crate::body::{Body, BodyLimits};
use crate::compile::calling::CallingDoc;
use crate::compile::context::Part;
use crate::compile::credential::cut_withheld;
use crate::compile::flow::Happened;
use crate::compile::sending::{ForwardFields, RetryDoc, TimeoutsDoc, fault_of};
use crate::compile::target::{TargetParams, Way, allowed_hosts, private};
use crate::compile::text::Test;
use crate::compile::{Assertion, Category, Compile, Compiled, FaultDoc, Kind, Output, Step};
use crate::engine::exchange::Exchange;
use crate::engine::message::Response;
use crate::engine::program::{Condition, Routes, Verdict};
use crate::engine::read::{Side, Slot};
use crate::engine::value::{Type, Value};
use crate::fault::Fault;
use crate::source::{Expression, Literal, Name, OneOrMany, Spanned, Text};
use crate::upstream::{Answer, Call, HostHeader, Retry, SendError, Timeouts};

/// Nanoseconds of a millisecond.
const NS_PER_MS: u64 = 1_000_000;

pub const KIND: Kind = Kind {
    main: Some("to"),
    sets: &[
        Output { name: "route.target", ty: Type::Text, absent: false, doc: "Origin that answered." },
        Output { name: "route.attempts", ty: Type::Int, absent: false, doc: "How often it was tried." },
        Output { name: "route.latency_ms", ty: Type::Int, absent: false, doc: "From sending to the answer's head." },
        Output { name: "route.connect_ms", ty: Type::Int, absent: false, doc: "Time to get a connection." },
        Output { name: "route.reused", ty: Type::Bool, absent: false, doc: "The connection had served before." },
    ],
    faults: &[
        FaultDoc {
            code: "route.connect",
            status: 502,
            doc: "No connection to the upstream. Is it up, and is the address right? The record's `detail` has the cause.",
        },
        FaultDoc {
            code: "route.dns",
            status: 502,
            doc: "The upstream's name has no address. Check the name and the machine's resolver.",
        },
        FaultDoc {
            code: "route.tls",
            status: 502,
            doc: "TLS with the upstream failed: its certificate, or what was offered. See the record's `detail`.",
        },
        FaultDoc {
            code: "route.bad_answer",
            status: 502,
            doc: "The upstream's answer was malformed, too large in its head, or broken off.",
        },
        FaultDoc { code: "route.unsuccessful", status: 502, doc: "The answer did not meet `success_when`." },
        FaultDoc {
            code: "route.timeout_connect",
            status: 504,
            doc: "The connection took longer than `timeouts: connect`.",
        },
        FaultDoc {
            code: "route.timeout_first_byte",
            status: 504,
            doc: "The answer's head took longer than `timeouts: first_byte`.",
        },
        FaultDoc {
            code: "route.timeout_total",
            status: 504,
            doc: "The call with its retries took longer than `timeouts: total`.",
        },
        FaultDoc {
            code: "route.no_target",
            status: 503,
            doc: "All targets of the upstream are ejected after failures, or its health checks fail.",
        },
        FaultDoc {
            code: "route.busy",
            status: 503,
            doc: "All connections that the upstream's `pool: max` allows stayed in use, or too many calls wait for one.",
        },
        FaultDoc {
            code: "route.bad_host",
            status: 400,
            doc: "A host that a variable chose is not in `allowed_hosts`, or its address is private. By origin: 400 or 502.",
        },
        FaultDoc {
            code: "route.upgrade_refused",
            status: 426,
            doc: "The client asks for a protocol that is not in `upgrade`, or does so with a body.",
        },
        FaultDoc {
            code: "route.bad_path",
            status: 400,
            doc: "A variable put a `.` or `..` segment or a control character into the path. By origin: 400, 502 or 500.",
        },
    ],
    examples: EXAMPLES,
    ..Kind::of::<Route>(
        "route",
        "Sends the request to an upstream and takes its answer as the response.",
        Category::Routing,
    )
};

/// Parameters of `route`. Exactly one of `to` and `upstream`; a bare text without a scheme is an upstream.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Route {
    /// URL: an origin keeps the request's path and query, an origin with a path replaces them.
    #[serde(default)]
    to: Option<Text>,
    /// Name of an `upstream`.
    #[serde(default)]
    upstream: Option<Name>,
    /// With `upstream`: the path to send.
    #[serde(default)]
    path: Option<Text>,
    /// With `upstream`: the query to send, without the question mark.
    #[serde(default)]
    query: Option<Text>,
    /// With `upstream`: the method to send.
    #[serde(default)]
    method: Option<Literal>,
    /// What the upstream sees as `Host`: `upstream`, `client` or a text.
    #[serde(default)]
    host: Option<Literal>,
    /// Which of the request's fields go out: `all`, `none` or a list.
    #[serde(default)]
    forward_headers: Option<OneOrMany<Literal>>,
    /// How the upstream learns who asked.
    #[serde(default)]
    forwarded: ForwardFields,
    /// Time limits; with `upstream` they tighten its own.
    #[serde(default)]
    timeouts: TimeoutsDoc,
    /// TLS of an `https://` target.
    #[serde(default)]
    tls: Option<Spanned<CallingDoc>>,
    /// When and how often it is sent again.
    #[serde(default)]
    retry: Option<RetryDoc>,
    /// A condition over `answer`; where it is false the step is broken.
    #[serde(default)]
    success_when: Option<Expression>,
    /// Hosts that a variable part of `to` may name, `*.example.com` too; `host:port` for another port than the
    /// scheme's own.
    #[serde(default)]
    allowed_hosts: Option<OneOrMany<Literal>>,
    /// Private networks that a host chosen by a variable may resolve to, or `true`.
    #[serde(default)]
    allow_private: Option<OneOrMany<Literal>>,
    /// Protocols that a client may upgrade its connection to, such as `websocket`.
    #[serde(default)]
    upgrade: Option<OneOrMany<Literal>>,
    /// Maps the upstream's origin in `Location` to ours.
    #[serde(default)]
    rewrite_location: bool,
    /// Origins, written out and https, to which a body with a secret in it may go; of an `upstream` all of its targets.
    #[serde(default)]
    secrets_to: Option<OneOrMany<Literal>>,
    /// What is passed on while it still comes in.
    #[serde(default)]
    stream: Stream,
}

/// Which bodies are passed on while they still come in.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Stream {
    /// Each that no step reads whole.
    #[default]
    Auto,
    /// Both: a step that would hold one of them is a load error.
    Always,
    /// The answer alone. The request's body is read whole before anything is sent, within `limits: body_buffered`, so
    /// that a slow client holds no connection of the upstream.
    Answer,
}

impl Assertion for Route {
    fn compile(self, step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Compiled> {
        let (hosts, addresses) = (allowed_hosts(&self.allowed_hosts, cx), private(&self.allow_private, cx));
        let upgrades = Upgrades::compile(&self.upgrade, cx);
        let secrets_to = cx.secrets_to(self.secrets_to.as_ref());
        let params = TargetParams {
            of_request: true,
            to: self.to,
            upstream: self.upstream,
            path: self.path,
            query: self.query,
            tls: self.tls,
        };
        let way = params.compile(step, cx, hosts.clone().unwrap_or_default(), addresses.clone().flatten());
        hosts?;
        addresses?;
        let method = self.method.as_ref().map(|literal| cx.method_to_send(literal));
        let host = self.host.as_ref().map(|literal| host(literal, cx));
        let forward = forward(&self.forward_headers, cx);
        let timeouts = match &way {
            Some(Way { upstream: Some(upstream), .. }) => self.timeouts.tighten(upstream.timeouts),
            _ => self.timeouts.or_default(),
        };
        let retry = match self.retry {
            Some(doc) => doc.compile(cx, step.span)?,
            None => Retry::default(),
        };
        cx.check_sent_once(step.span, retry.any_method);
        let may_go = match (&way, &secrets_to) {
            (Some(way), Some(named)) => {
                let own = way.upstream.as_ref().map_or(&HostHeader::Upstream, |upstream| &upstream.host);
                let host = host.as_ref().and_then(Option::as_ref).unwrap_or(own);
                cx.check_request_body(way, host, named, step.span)
            }
            _ => None,
        };
        // Only a body in memory can be sent again, by this step or after another one.
        if retry.attempts > 1 || cx.flow.routed != Happened::Never || cx.part != Part::Main {
            cx.need_body(Side::Request);
        }
        match self.stream {
            Stream::Auto => {}
            Stream::Always => cx.streams.push(step.span),
            Stream::Answer => cx.need_body(Side::Request),
        }
        let slots = Slots::declare(step, cx)?;
        cx.flow.carried.answered();
        cx.flow.routed = Happened::Always; // what follows, `success_when` too, sees the answer
        let success = match &self.success_when {
            Some(expression) => Some(Test(cx.answer_condition(&expression.0)?)),
            None => None,
        };
        may_go?;
        let step = RouteStep {
            way: way?,
            method: method.transpose_option()?,
            host: host.transpose_option()?,
            forward: forward?,
            forwarded: self.forwarded,
            timeouts,
            retry,
            success,
            upgrades: upgrades?,
            rewrite_location: self.rewrite_location,
            slots,
        };
        Some(Compiled::Route(Box::new(step)))
    }
}

/// `Some(None)` is a given value that was wrong: the step does not compile.
trait TransposeOption<T> {
    fn transpose_option(self) -> Option<Option<T>>;
}

impl<T> TransposeOption<T> for Option<Option<T>> {
    fn transpose_option(self) -> Option<Option<T>> {
        match self {
            None => Some(None),
            Some(None) => None,
            Some(value) => Some(value),
        }
    }
}

fn host(literal: &Literal, cx: &mut Compile<'_>) -> Option<HostHeader> {
    match cx.literal(literal)?.as_str() {
        "upstream" => Some(HostHeader::Upstream),
        "client" => Some(HostHeader::Client),
        text => match HeaderValue::from_str(text) {
            Ok(value) if !text.is_empty() && !text.contains([' ', '/', '@']) => Some(HostHeader::Literal(value)),
            _ => cx.refuse(
                "policy.bad_host",
                literal.0.span(),
                format!("`{text}` is no host"),
                "write `upstream`, `client` or a name such as `api.example.com`",
            ),
        },
    }
}

/// Which of the request's fields go out.
#[derive(Debug)]
enum Forward {
    All,
    Only(Vec<HeaderName>),
}

fn forward(list: &Option<OneOrMany<Literal>>, cx: &mut Compile<'_>) -> Option<Forward> {
    let Some(list) = list else { return Some(Forward::All) };
    let mut names = Vec::new();
    for literal in list.iter() {
        let word = cx.literal(literal)?;
        match word.as_str() {
            "all" => return Some(Forward::All),
            "none" => {}
            name => {
                let name = cx.field_name(name, literal.0.span())?;
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
    }
    Some(Forward::Only(names))
}

#[derive(Debug)]
struct Slots {
    target: Slot,
    attempts: Slot,
    latency_ms: Slot,
    connect_ms: Slot,
    reused: Slot,
}

impl Slots {
    fn declare(step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Slots> {
        let renamed = step.renamed();
        let [target, attempts, latency, connect, reused] = [0, 1, 2, 3, 4].map(|at| KIND.sets.get(at));
        let mut out = |output: Option<&Output>| output.map(|output| cx.out(output, renamed));
        Some(Slots {
            target: out(target)?,
            attempts: out(attempts)?,
            latency_ms: out(latency)?,
            connect_ms: out(connect)?,
            reused: out(reused)?,
        })
    }
}

struct RouteStep {
    way: Way,
    method: Option<Method>,
    host: Option<HostHeader>,
    forward: Forward,
    forwarded: ForwardFields,
    timeouts: Timeouts,
    retry: Retry,
    success: Option<Test>,
    upgrades: Upgrades,
    rewrite_location: bool,
    slots: Slots,
}

impl Routes for RouteStep {
    fn prepare(&self, x: &mut Exchange) -> Result<Box<Call>, Box<Fault>> {
        let upgrade = self.upgrades.asked(&x.request)?;
        let mut headers = x.request.headers.clone();
        let snapshot = x.snapshot.clone();
        for name in &x.compiled(&snapshot).owned_headers {
            // A field that the policy sets for the upstream is never the client's own.
            if !x.headers_set.contains(name) {
                headers.remove(name);
            }
        }
        let mut query = cut_withheld(&x.withheld, &mut headers, x.request.query());
        let owned = &x.compiled(&snapshot).owned_places;
        if !owned.is_empty() {
            query = cut_withheld(owned, &mut headers, query.as_deref());
        }
        if let Forward::Only(names) = &self.forward {
            let mut kept = HeaderMap::new();
            for name in names.iter().chain(x.headers_set.iter().filter(|name| !names.contains(name))) {
                for value in headers.get_all(name) {
                    kept.append(name, value.clone());
                }
            }
            headers = kept;
        }
        let sent = self.way.send_to(x, query.as_deref())?;
        let client_host = x.request.headers.get(http::header::HOST).cloned();
        headers.remove(http::header::HOST);
        self.forwarded.write(x, client_host.as_ref(), &mut headers);
        if x.compiled(&snapshot).plan.response.is_some() {
            // A step reads the answer's body: no content coding that it would have to undo.
            headers.insert(http::header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        let body = x.give_request_body()?;
        let method = self.method.clone().unwrap_or_else(|| x.request.method.clone());
        let host = match (&self.host, &self.way.upstream) {
            (Some(host), _) => host.clone(),
            (None, Some(upstream)) => upstream.host.clone(),
            (None, None) => HostHeader::Upstream,
        };
        x.sending_since_ns = x.worker.clock.mono_ns();
        Ok(Box::new(Call {
            destination: sent.destination,
            answer_to_head: x.request.method == Method::HEAD,
            method,
            target: sent.target,
            headers,
            body,
            timeouts: self.timeouts,
            retry: self.retry.clone(),
            host,
            client_host,
            answer_limits: BodyLimits { bytes: u64::MAX, idle: self.timeouts.idle, rate: 0 },
            addresses: sent.addresses,
            upgrade,
            key: sent.key,
        }))
    }

    fn finish(&self, x: &mut Exchange, result: Result<Answer, SendError>) -> Verdict {
        let latency_ms = x.since_ns(x.sending_since_ns) / NS_PER_MS;
        let answer = match result {
            Ok(answer) => answer,
            Err(error) => return Verdict::Fault(fault_of("route", &error, self.way.chosen_by())),
        };
        x.record.upstream = Some(SentTo {
            target: answer.target.clone(),
            status: Some(answer.status.as_u16()),
            attempts: answer.attempts,
            latency_ms,
        });
        x.set(self.slots.target, Value::Text(answer.target));
        x.set(self.slots.attempts, Value::Int(i64::from(answer.attempts)));
        x.set(self.slots.latency_ms, Value::Int(i64::try_from(latency_ms).unwrap_or(i64::MAX)));
        x.set(self.slots.connect_ms, Value::Int(i64::from(answer.connect_ms)));
        x.set(self.slots.reused, Value::Bool(answer.reused));
        x.tunnel = answer.tunnel;
        let mut response = Response::new(answer.status, answer.headers, answer.body);
        if self.rewrite_location {
            rewrite_location(x, self.way.name(), &mut response);
        }
        if matches!(answer.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
            response.set_body(Body::Empty);
        }
        x.set_response(response);
        match &self.success {
            None => Verdict::Passed,
            Some(success) => match success.holds(x) {
                Ok(true) => Verdict::Passed,
                Ok(false) => {
                    let detail = format!("status {} did not meet success_when", answer.status.as_u16());
                    Verdict::Fault(Fault::broken(StatusCode::BAD_GATEWAY, "route.unsuccessful", detail))
                }
                Err(fault) => Verdict::Fault(fault),
            },
        }
    }
}

fn rewrite_location(x: &Exchange, named: Option<&str>, response: &mut Response) {
    let name = http::header::LOCATION;
    let own = x.record.upstream.as_ref().map(|sent| sent.target.clone()).unwrap_or_default();
    let location = response.headers.get(&name).and_then(|value| value.to_str().ok());
    let stripped = |location: &'_ str| {
        let by_name = named.and_then(|named| location.strip_prefix(named));
        location.strip_prefix(&*own).or(by_name).map(str::to_owned)
    };
    let Some(rest) = location.and_then(stripped) else { return };
    // `http://a.test` is no prefix of what leads to `http://a.test.example` or `http://a.test:81`.
    if !(rest.is_empty() || rest.starts_with(['/', '?', '#'])) {
        return;
    }
    let default_port = if x.request.scheme == "https" { 443 } else { 80 };
    let port = if x.request.port == default_port { String::new() } else { format!(":{}", x.request.port) };
    let ours = format!("{}://{}{port}{rest}", x.request.scheme, x.request.host);
    if let Ok(value) = HeaderValue::from_str(&ours) {
        response.headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests;
