//! Which trace a request belongs to: the fields `traceparent` and `tracestate`, read and written.
//!
//! W3C Trace Context (Recommendation, level 1). What cannot be read as it says is as good as not there: a new trace
//! begins. It adds no member of its own to `tracestate`, and it does not decide whom to believe.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Bytes of a `traceparent` of version 00 (§3.2.2), and of the part that later versions have in common with it.
const PARENT_BYTES: usize = 55;
/// Members of a `tracestate` (§3.3.1.1).
const MEMBERS_MAX: usize = 32;
/// Bytes of a `tracestate` that are passed on: as many as everybody has to (§3.3.1.5).
const STATE_BYTES_MAX: usize = 512;
/// Where it is longer, members that are longer than this go first (§3.3.1.5), in bytes.
const MEMBER_BYTES: usize = 128;
/// Longest key and longest value of a member (§3.3.1.3), in bytes.
const KEY_BYTES_MAX: usize = 256;
const VALUE_BYTES_MAX: usize = 256;
/// Longest tenant and longest system of a key with both, in bytes.
const TENANT_BYTES_MAX: usize = 241;
const SYSTEM_BYTES_MAX: usize = 14;
/// The flag that the caller may have recorded its part (§3.2.2.5). The others are not defined yet.
const SAMPLED: u8 = 1;

/// Name of a trace, never all zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId(pub [u8; 16]);

/// Name of a part of a trace, never all zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanId(pub [u8; 8]);

impl TraceId {
    /// Reads 32 hexadecimal digits in lower case.
    pub fn parse(text: &str) -> Option<TraceId> {
        digits(text.as_bytes()).map(TraceId)
    }
}

impl SpanId {
    /// The one of a number; zero names none, and gives another.
    pub fn of(number: u64) -> SpanId {
        SpanId(number.max(1).to_be_bytes())
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:016x}", u64::from_be_bytes(self.0))
    }
}

/// What a caller says about its trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub trace: TraceId,
    /// Its own part, in which it makes this call.
    pub span: SpanId,
    pub sampled: bool,
    /// What other systems have noted, as it is passed on.
    pub state: Option<HeaderValue>,
}

/// Reads what a caller says; `None` where it says nothing that can be read.
pub fn caller(headers: &HeaderMap) -> Option<Caller> {
    let mut parents = headers.get_all(&TRACEPARENT).iter();
    // §3.2: there is one, or there is none.
    let (parent, None) = (parents.next()?, parents.next()) else { return None };
    let (trace, span, sampled) = parent_of(parent.as_bytes())?;
    Some(Caller { trace, span, sampled, state: state_of(headers) })
}

/// The field that tells the next one of its trace.
pub fn traceparent(trace: TraceId, span: SpanId, sampled: bool) -> HeaderValue {
    let text = format!("00-{trace}-{span}-{:02x}", if sampled { SAMPLED } else { 0 });
    // Digits and dashes always are a value.
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
}

/// §3.2.2 and, for versions that are not known, §4.3.
fn parent_of(value: &[u8]) -> Option<(TraceId, SpanId, bool)> {
    let (common, rest) = value.split_at_checked(PARENT_BYTES)?;
    let mut parts = common.split(|byte| *byte == b'-');
    let [version] = hexadecimal::<1>(parts.next()?)?;
    let (trace, span) = (digits(parts.next()?)?, digits(parts.next()?)?);
    let [flags] = hexadecimal::<1>(parts.next()?)?;
    let fits = match version {
        0 => rest.is_empty(),
        0xff => false,
        _ => rest.is_empty() || rest.starts_with(b"-"),
    };
    (fits && parts.next().is_none()).then_some((TraceId(trace), SpanId(span), flags & SAMPLED != 0))
}

/// As [`hexadecimal`], but not all zeros.
fn digits<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    hexadecimal(text).filter(|bytes| *bytes != [0; N])
}

/// So many bytes in hexadecimal digits; capital letters are none (§3.2.2).
fn hexadecimal<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let pairs = text.chunks_exact(2);
    if text.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(pairs) {
        let [high, low] = pair else { return None };
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

/// All fields as one list (§3.3): `None` where there is none, or where any of it is not as §3.3.1 says.
fn state_of(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut members: Vec<&str> = Vec::new();
    for field in headers.get_all(&TRACESTATE) {
        let field = field.to_str().ok()?;
        let written = field.split(',').map(|member| member.trim_matches([' ', '\t']));
        for member in written.filter(|member| !member.is_empty()) {
            let (key, value) = member.split_once('=')?;
            let twice = members.iter().any(|known| known.split('=').next() == Some(key));
            if twice || members.len() == MEMBERS_MAX || !is_key(key) || !is_value(value) {
                return None;
            }
            members.push(member);
        }
    }
    let joined = |members: &[&str]| members.iter().map(|member| member.len() + 1).sum::<usize>();
    while joined(&members) > STATE_BYTES_MAX + 1 {
        match members.iter().rposition(|member| member.len() > MEMBER_BYTES) {
            Some(large) => drop(members.remove(large)),
            None => drop(members.pop()),
        }
    }
    if members.is_empty() { None } else { HeaderValue::from_str(&members.join(",")).ok() }
}

/// §3.3.1.3.1: `simple` or `tenant@system`.
fn is_key(key: &str) -> bool {
    let all = |text: &str, bytes_max: usize| {
        let known = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/');
        !text.is_empty() && text.len() <= bytes_max && text.bytes().all(known)
    };
    let begins = |text: &str, digit: bool| {
        text.starts_with(|first: char| first.is_ascii_lowercase() || (digit && first.is_ascii_digit()))
    };
    match key.split_once('@') {
        None => all(key, KEY_BYTES_MAX) && begins(key, false),
        Some((tenant, system)) => {
            let fit = all(tenant, TENANT_BYTES_MAX) && all(system, SYSTEM_BYTES_MAX);
            fit && begins(tenant, true) && begins(system, false)
        }
    }
}

/// §3.3.1.3.2: printable, without comma and equals sign, not ending with a space.
fn is_value(value: &str) -> bool {
    let known = |byte: u8| matches!(byte, b' '..=b'~') && byte != b',' && byte != b'=';
    (1..=VALUE_BYTES_MAX).contains(&value.len()) && value.bytes().all(known) && !value.ends_with(' ')
}

#[cfg(test)]
#[path = "trace_context/tests.rs"]
mod tests;
