//! One call to an upstream over HTTP/1.1 or HTTP/2, in clear or over TLS: connection pools, balance, health, retries,
//! timeouts (RFC 9110 §7.6, RFC 9112 §9, RFC 9113).
//!
//! It knows nothing of policies and exchanges: a [`Call`] says what to send and where, an [`Answer`]
//! or a [`SendError`] says what came of it. Redirects are never followed, upgrades asked for only where a call says so.

mod address;
mod balance;
mod budget;
mod care;
mod connect;
mod dial;
mod dns;
mod fields;
mod health;
mod line;
mod origin;
mod pool;
mod resolve;
mod send;
mod socket;
mod target;
#[cfg(test)]
mod tests;
mod trunk;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

pub use address::Addresses;
pub use balance::weigh::number_of;
pub use balance::{Balance, Eject, Targets, Upstream};
pub use budget::RetryBudget;
pub use care::Care;
pub use dns::Dns;
pub use fields::{remove_hop_by_hop, remove_where};
pub use health::Check;
pub use origin::{Host, Http2, Origin};
pub use pool::Pool;
pub use target::{Patience, Target};

use crate::body::{Body, BodyFault, BodyLimits, Tunnel};

/// Bounds on the waits of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Lookup, TCP connect and TLS handshake together, each attempt.
    pub connect: Duration,
    /// From the last byte of the request to the head of the answer, each attempt.
    pub first_byte: Duration,
    /// Longest silence inside the answer's body.
    pub idle: Duration,
    /// The whole call with its retries, to the last byte of the answer.
    pub total: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            connect: Duration::from_secs(3),
            first_byte: Duration::from_secs(15),
            idle: Duration::from_secs(30),
            total: Duration::from_secs(60),
        }
    }
}

impl Timeouts {
    /// The shorter of each.
    pub fn tightest(self, other: Timeouts) -> Timeouts {
        Timeouts {
            connect: self.connect.min(other.connect),
            first_byte: self.first_byte.min(other.first_byte),
            idle: self.idle.min(other.idle),
            total: self.total.min(other.total),
        }
    }
}

/// Bounds on the connections of one worker to one origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    /// How long an unused connection is kept.
    pub idle: Duration,
    /// Unused connections that are kept.
    pub max_idle: usize,
    /// Connections at all, 0 for no bound. Calls above it wait, within their connect timeout, but not more than 1024.
    pub max: usize,
}

impl Default for PoolLimits {
    fn default() -> Self {
        PoolLimits { idle: Duration::from_secs(30), max_idle: 512, max: 0 }
    }
}

/// What stands in the Host field of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostHeader {
    /// The authority of the target.
    Upstream,
    /// What the client sent.
    Client,
    Literal(HeaderValue),
}

/// Where a call goes.
#[derive(Clone, Debug)]
pub enum Destination {
    Origin(Arc<Origin>),
    Upstream(Arc<Upstream>),
}

/// Which failures are worth another attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryOn {
    /// Nothing was sent: safe for every method.
    pub connect: bool,
    /// The connection broke before there was an answer.
    pub reset: bool,
    pub bad_gateway: bool,
    pub unavailable: bool,
    pub gateway_timeout: bool,
}

impl RetryOn {
    fn status(self, status: StatusCode) -> bool {
        match status {
            StatusCode::BAD_GATEWAY => self.bad_gateway,
            StatusCode::SERVICE_UNAVAILABLE => self.unavailable,
            StatusCode::GATEWAY_TIMEOUT => self.gateway_timeout,
            _ => false,
        }
    }
}

/// How often a call is tried. Bodies must be held in memory to be sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// In total, with the first.
    pub attempts: u32,
    pub on: RetryOn,
    /// Pause before the second attempt; doubled before each further one.
    pub backoff: Duration,
    /// Also methods that are not idempotent (RFC 9110 §9.2.2).
    pub any_method: bool,
    /// Retries per hundred calls, see [`RetryBudget`].
    pub budget_percent: u32,
}

impl Default for Retry {
    fn default() -> Self {
        let on = RetryOn { connect: true, reset: true, bad_gateway: true, unavailable: true, gateway_timeout: true };
        Retry { attempts: 1, on, backoff: Duration::from_millis(50), any_method: false, budget_percent: 20 }
    }
}

/// One call to be sent.
pub struct Call {
    pub destination: Destination,
    pub method: Method,
    pub target: PathAndQuery,
    /// After [`remove_hop_by_hop`]; framing fields and Host are set here.
    pub headers: HeaderMap,
    pub body: Body,
    pub timeouts: Timeouts,
    pub retry: Retry,
    pub host: HostHeader,
    /// For [`HostHeader::Client`]; without it the target's authority is sent.
    pub client_host: Option<HeaderValue>,
    /// `idle` is tightened by the timeouts.
    pub answer_limits: BodyLimits,
    /// The answer goes to a HEAD request: its body is not wanted, whatever the method of this call.
    pub answer_to_head: bool,
    pub addresses: Addresses,
    /// The protocol that the connection shall be upgraded to (RFC 9110 §7.8); always over HTTP/1.1.
    pub upgrade: Option<HeaderValue>,
    /// For [`Balance::Hash`], such as the [`number_of`] a text.
    pub key: Option<u64>,
}

/// Hears of every attempt of a call, and may add to the fields that it sends.
pub trait Watching {
    /// An attempt begins, counted from 1; what comes back names it when it has ended.
    fn begins(&self, number: u32, origin: &Arc<Origin>, call: &mut Call) -> usize;
    /// The head of an answer has come, or nothing will. An attempt that is given up has no end.
    fn ended(&self, attempt: usize, result: Result<StatusCode, &SendError>);
}

impl Call {
    /// The same once more; `None` where its body streams.
    pub fn copy(&self) -> Option<Call> {
        let body = match self.body.held()? {
            nothing if nothing.is_empty() => Body::Empty,
            bytes => Body::Buffered(bytes.clone()),
        };
        Some(Call {
            destination: self.destination.clone(),
            method: self.method.clone(),
            target: self.target.clone(),
            headers: self.headers.clone(),
            body,
            retry: self.retry.clone(),
            host: self.host.clone(),
            client_host: self.client_host.clone(),
            addresses: self.addresses.clone(),
            upgrade: self.upgrade.clone(),
            ..*self
        })
    }
}

/// What the upstream answered.
pub struct Answer {
    pub status: StatusCode,
    /// Without the fields of the connection.
    pub headers: HeaderMap,
    /// Ends with an error if the upstream broke off.
    pub body: Body,
    /// Origin that answered, such as `http://10.0.0.5:9000`.
    pub target: Arc<str>,
    /// How often it was tried, with the first; a resend after an idle connection had died is not counted.
    pub attempts: u32,
    /// Time to get a connection in the last attempt, milliseconds.
    pub connect_ms: u32,
    /// Whether the connection had served a call before.
    pub reused: bool,
    /// The connection, where the upstream has upgraded it as it was asked to.
    pub tunnel: Option<Box<Tunnel>>,
}

/// Why there is no answer. The texts are for records, not for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendError {
    Connect(String),
    Dns(String),
    Tls(String),
    /// Malformed, too large, or broken off before its end was known.
    BadAnswer(String),
    TimeoutConnect,
    TimeoutFirstByte,
    TimeoutTotal,
    /// All targets are ejected or unhealthy.
    NoTarget,
    /// All connections that the pool allows are in use.
    Busy,
    /// The call may not connect to the address that its host has, see [`Addresses`].
    AddressRefused(IpAddr),
    /// Not the upstream but the sender of the request body was at fault.
    RequestBody(BodyFault),
}

impl SendError {
    /// One word for it, always the same.
    pub fn word(&self) -> &'static str {
        match self {
            SendError::Connect(_) => "connect",
            SendError::Dns(_) => "dns",
            SendError::Tls(_) => "tls",
            SendError::BadAnswer(_) => "bad_answer",
            SendError::TimeoutConnect => "timeout_connect",
            SendError::TimeoutFirstByte => "timeout_first_byte",
            SendError::TimeoutTotal => "timeout_total",
            SendError::NoTarget => "no_target",
            SendError::Busy => "busy",
            SendError::AddressRefused(_) => "bad_host",
            SendError::RequestBody(_) => "request_body",
        }
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendError::Connect(why) => write!(out, "no connection to the upstream: {why}"),
            SendError::Dns(why) => write!(out, "no address of the upstream: {why}"),
            SendError::Tls(why) => write!(out, "no TLS with the upstream: {why}"),
            SendError::BadAnswer(why) => write!(out, "the upstream {why}"),
            SendError::TimeoutConnect => out.write_str("the upstream did not accept a connection in time"),
            SendError::TimeoutFirstByte => out.write_str("the upstream did not begin to answer in time"),
            SendError::TimeoutTotal => out.write_str("the call took longer than its total time"),
            SendError::NoTarget => out.write_str("all targets of the upstream are ejected or unhealthy"),
            SendError::Busy => out.write_str("all connections that pool.max allows stayed in use"),
            SendError::AddressRefused(address) => {
                write!(out, "{address} is not public; list its network in allow_private if calls may go there")
            }
            SendError::RequestBody(fault) => write!(out, "request {fault}"),
        }
    }
}

impl std::error::Error for SendError {}
