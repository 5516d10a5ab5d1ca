//! Parameters of sending that routes and upstreams share.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use http::header::FORWARDED;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::compile::Compile;
use crate::encoding::write_ip;
use crate::engine::exchange::Exchange;
use crate::engine::read::Side;
use crate::engine::run::body_fault;
use crate::engine::value::Origin;
use crate::expr::fault_by;
use crate::fault::Fault;
use crate::source::units::parse_digits;
use crate::source::{DurationValue, Literal, OneOrMany, Span};
use crate::upstream::{Retry, RetryOn, SendError, Timeouts, remove_where};

/// Attempts of one call, at most.
const ATTEMPTS_MAX: u32 = 10;

/// Time limits of a call.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TimeoutsDoc {
    /// Name look-up and connection; 3s without it.
    pub connect: Option<DurationValue>,
    /// From the request sent to the answer's head; 15s without it.
    pub first_byte: Option<DurationValue>,
    /// Longest silence inside the answer's body; 30s without it.
    pub idle: Option<DurationValue>,
    /// All of it, retries included; 60s without it.
    pub total: Option<DurationValue>,
}

impl TimeoutsDoc {
    /// These limits, each at most as long as the ones it tightens.
    pub fn tighten(&self, outer: Timeouts) -> Timeouts {
        self.over(outer).tightest(outer)
    }

    /// These limits, the defaults where none is given.
    pub fn or_default(&self) -> Timeouts {
        self.over(Timeouts::default())
    }

    fn over(&self, default: Timeouts) -> Timeouts {
        let own = |own: &Option<DurationValue>, default: Duration| own.as_ref().map_or(default, |own| own.duration);
        Timeouts {
            connect: own(&self.connect, default.connect),
            first_byte: own(&self.first_byte, default.first_byte),
            idle: own(&self.idle, default.idle),
            total: own(&self.total, default.total),
        }
    }
}

/// When and how often a call is sent again.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryDoc {
    /// In total, with the first; 1 without it.
    #[serde(default = "one_attempt")]
    attempts: u32,
    /// What is worth another attempt: `connect`, `reset`, `502`, `503`, `504`; all of them without it.
    #[serde(default, rename = "for")]
    on: Option<OneOrMany<Literal>>,
    /// Pause before the second attempt, doubled before each further one; 50ms without it.
    #[serde(default)]
    backoff: Option<DurationValue>,
    /// Also methods that are not idempotent.
    #[serde(default)]
    any_method: bool,
    /// Retries per hundred calls, at most; `20%` without it.
    #[serde(default)]
    budget: Option<Literal>,
}

fn one_attempt() -> u32 {
    1
}

impl RetryDoc {
    /// Resolves it.
    pub fn compile(&self, cx: &mut Compile<'_>, span: Span) -> Option<Retry> {
        if !(1..=ATTEMPTS_MAX).contains(&self.attempts) {
            let message = format!("`attempts` is the total, from 1 to {ATTEMPTS_MAX}");
            return cx.refuse("policy.bad_value", span, message, "write `retry: { attempts: 3 }`");
        }
        let mut retry = Retry { attempts: self.attempts, any_method: self.any_method, ..Retry::default() };
        if let Some(words) = &self.on {
            retry.on = RetryOn::default();
            for literal in words.iter() {
                match cx.literal(literal)?.as_str() {
                    "connect" => retry.on.connect = true,
                    "reset" => retry.on.reset = true,
                    "502" => retry.on.bad_gateway = true,
                    "503" => retry.on.unavailable = true,
                    "504" => retry.on.gateway_timeout = true,
                    other => {
                        let message = format!("`{other}` is nothing to retry for");
                        let help = "it takes connect, reset, 502, 503 and 504";
                        return cx.refuse("policy.bad_value", literal.0.span(), message, help);
                    }
                }
            }
        }
        if let Some(backoff) = &self.backoff {
            retry.backoff = backoff.duration;
        }
        if let Some(literal) = &self.budget {
            let text = cx.literal(literal)?;
            let percent = text.strip_suffix('%').and_then(|number| parse_digits::<u32>(number.trim()));
            match percent.filter(|percent| *percent <= 100) {
                Some(percent) => retry.budget_percent = percent,
                None => {
                    let message = format!("`{text}` is no share");
                    return cx.refuse("policy.bad_value", literal.0.span(), message, "write `20%`");
                }
            }
        }
        Some(retry)
    }
}

/// A call that was not answered, as the fault of an assertion; `host` is whose value has chosen where it goes.
pub fn fault_of(family: &str, error: &SendError, host: Origin) -> Box<Fault> {
    let (status, reason) = match error {
        SendError::RequestBody(fault) => return body_fault(Side::Request, fault.clone()),
        SendError::AddressRefused(_) => {
            let fault = fault_by(host, "expression.absent", error.to_string());
            return fault.with_code(format!("{family}.bad_host"));
        }
        SendError::Connect(_) => (StatusCode::BAD_GATEWAY, "connect"),
        SendError::Dns(_) => (StatusCode::BAD_GATEWAY, "dns"),
        SendError::Tls(_) => (StatusCode::BAD_GATEWAY, "tls"),
        SendError::BadAnswer(_) => (StatusCode::BAD_GATEWAY, "bad_answer"),
        SendError::TimeoutConnect => (StatusCode::GATEWAY_TIMEOUT, "timeout_connect"),
        SendError::TimeoutFirstByte => (StatusCode::GATEWAY_TIMEOUT, "timeout_first_byte"),
        SendError::TimeoutTotal => (StatusCode::GATEWAY_TIMEOUT, "timeout_total"),
        SendError::NoTarget => (StatusCode::SERVICE_UNAVAILABLE, "no_target"),
        SendError::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
    };
    Fault::broken(status, format!("{family}.{reason}"), error.to_string())
}

/// How the upstream learns who asked.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum ForwardFields {
    /// `X-Forwarded-For`, `-Proto` and `-Host`.
    #[default]
    XForwarded,
    /// `Forwarded` (RFC 7239).
    Rfc7239,
    /// Both.
    Both,
    /// Neither; all `X-Forwarded-*`, `X-Real-IP` and `Forwarded` that the client sent are removed.
    None,
}

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const X_FORWARDED: &str = "x-forwarded-";

impl ForwardFields {
    /// Writes the fields. What an untrusted client sent is replaced or removed, unless a step has set it since;
    /// behind a trusted proxy its chain goes on.
    pub fn write(self, x: &Exchange, client_host: Option<&HeaderValue>, headers: &mut HeaderMap) {
        let peer = x.client.peer_ip.to_canonical();
        let behind_proxy = x.client.ip.to_canonical() != peer;
        let before = behind_proxy.then(|| Before::of(x, headers));
        if !behind_proxy || self == ForwardFields::None {
            remove_where(headers, |name| {
                (*name == X_REAL_IP || name.as_str().starts_with(X_FORWARDED)) && !x.headers_set.contains(name)
            });
        }
        if matches!(self, ForwardFields::XForwarded | ForwardFields::Both) {
            let mut chain = before.as_ref().map(|before| format!("{}, ", before.x_forwarded_for)).unwrap_or_default();
            write_ip(peer, &mut chain);
            set(headers, FOR, HeaderValue::try_from(chain).ok());
            if !behind_proxy || !headers.contains_key(&PROTO) {
                set(headers, PROTO, Some(HeaderValue::from_static(x.client.scheme)));
            }
            if !behind_proxy || !headers.contains_key(&HOST) {
                set(headers, HOST, client_host.cloned());
            }
        } else {
            remove_where(headers, |name| [&FOR, &PROTO, &HOST].contains(&name) && !x.headers_set.contains(name));
        }
        if matches!(self, ForwardFields::Rfc7239 | ForwardFields::Both) {
            let mut chain = before.map(|before| format!("{}, ", before.forwarded)).unwrap_or_default();
            let host = client_host.and_then(|host| host.to_str().ok()).unwrap_or_default();
            let _ = write!(chain, "{};proto={};host=\"{host}\"", element(peer), x.client.scheme);
            set(headers, FORWARDED, HeaderValue::from_str(&chain).ok());
        } else if !x.headers_set.contains(&FORWARDED) {
            set(headers, FORWARDED, None);
        }
    }
}

/// What the trusted proxies before this one have written.
struct Before {
    x_forwarded_for: String,
    forwarded: String,
}

impl Before {
    /// A chain that the client's address was not read from may be the client's own: it begins anew.
    fn of(x: &Exchange, headers: &HeaderMap) -> Before {
        let listed = lines(headers, &FOR);
        let forwarded = if x.request.headers.contains_key(&FOR) { None } else { lines(headers, &FORWARDED) };
        Before {
            x_forwarded_for: listed.unwrap_or_else(|| x.client.ip.to_string()),
            forwarded: forwarded.unwrap_or_else(|| element(x.client.ip)),
        }
    }
}

/// All lines of a list field as one (RFC 9110 §5.3), `None` where there is none.
fn lines(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let lines: Vec<&str> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    (!lines.is_empty()).then(|| lines.join(", "))
}

/// An element of `Forwarded` (RFC 7239 §6).
fn element(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => format!("for={ip}"),
        IpAddr::V6(ip) => format!("for=\"[{ip}]\""),
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: Option<HeaderValue>) {
    match value {
        Some(value) => {
            headers.insert(name, value);
        }
        None => {
            headers.remove(name);
        }
    }
}
