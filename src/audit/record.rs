//! The record of one request and its JSON line.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use http::Method;
use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use serde_json::Value as Json;

use super::trace_context::TraceId;
use crate::encoding::write_ip;

/// Room for an ordinary line, so that writing one grows the batch at most once.
const LINE_BYTES: usize = 512;

/// How much attention a record asks for. Steps only raise it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    #[default]
    Info,
    Warning,
    Severe,
}

impl Level {
    /// The word in the record.
    pub fn word(self) -> &'static str {
        match self {
            Level::Info => "info",
            Level::Warning => "warning",
            Level::Severe => "severe",
        }
    }
}

/// What was sent upstream.
#[derive(Clone, Debug)]
pub struct Upstream {
    pub target: Arc<str>,
    pub status: Option<u16>,
    pub attempts: u32,
    pub latency_ms: u64,
}

/// A fault that did not decide about the request.
#[derive(Clone, Debug, PartialEq)]
pub struct Noted {
    pub step: Option<Arc<str>>,
    pub code: String,
    /// For the operator only.
    pub detail: String,
}

/// Everything that is recorded of one request.
#[derive(Clone, Debug, Default)]
pub struct Record {
    pub time: Option<Timestamp>,
    pub request_id: String,
    /// The trace that it belongs to, where requests are traced.
    pub trace_id: Option<TraceId>,
    pub listener: Option<Arc<str>>,
    pub service: Option<Arc<str>>,
    pub snapshot: Option<Arc<str>>,
    pub client_ip: Option<IpAddr>,
    pub method: Option<Method>,
    pub host: Option<Arc<str>>,
    pub path: String,
    pub status: u16,
    /// `sent`, `denied`, `broken` or `gone` (the client left first); `pending` in a record that was required
    /// before the answer.
    pub outcome: &'static str,
    pub fault: Option<String>,
    /// Cause of a fault, for the operator only.
    pub detail: Option<String>,
    pub step: Option<Arc<str>>,
    /// Faults that a `try` has caught, those of children of an `any` that has passed, broken calls that were optional,
    /// and those of steps in `finally`.
    pub caught: Vec<Noted>,
    /// What shadowed steps would have denied.
    pub would_deny: Vec<Noted>,
    /// Shadowed steps that could not answer their question.
    pub would_break: Vec<Noted>,
    pub scheme: Option<&'static str>,
    pub subject: Option<Arc<str>>,
    pub client: Option<Arc<str>>,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub duration_us: u64,
    pub upstream: Option<Upstream>,
    /// Set by `audit` steps.
    pub level: Level,
    pub message: Option<String>,
    pub fields: Vec<(Arc<str>, Json)>,
}

impl Record {
    /// Appends the record as one JSON line.
    pub fn write_line(&self, out: &mut String) {
        out.reserve(LINE_BYTES);
        let mut line = Line { out, first: true };
        line.out.push('{');
        if let Some(time) = self.time {
            line.quoted("time", |out| {
                // A text takes whatever is written to it.
                let _ = DateTimePrinter::new().print_timestamp(&time, out);
            });
        }
        line.text("request_id", &self.request_id);
        if let Some(trace) = self.trace_id {
            line.text("trace_id", &trace.to_string());
        }
        line.optional("service", self.service.as_deref());
        line.optional("snapshot", self.snapshot.as_deref());
        line.optional("listener", self.listener.as_deref());
        if let Some(ip) = self.client_ip {
            line.quoted("client_ip", |out| write_ip(ip, out));
        }
        line.text("method", self.method.as_ref().map_or("", Method::as_str));
        line.text("host", self.host.as_deref().unwrap_or_default());
        line.text("path", &self.path);
        line.number("status", u64::from(self.status));
        line.text("outcome", self.outcome);
        line.optional("fault", self.fault.as_deref());
        line.optional("detail", self.detail.as_deref());
        line.optional("step", self.step.as_deref());
        line.noted("caught", &self.caught);
        line.noted("would_deny", &self.would_deny);
        line.noted("would_break", &self.would_break);
        line.optional("auth_scheme", self.scheme);
        line.optional("subject", self.subject.as_deref());
        line.optional("client", self.client.as_deref());
        line.number("bytes_in", self.bytes_in);
        line.number("bytes_out", self.bytes_out);
        line.number("duration_us", self.duration_us);
        if let Some(upstream) = &self.upstream {
            line.text("upstream", &upstream.target);
            if let Some(status) = upstream.status {
                line.number("upstream_status", u64::from(status));
            }
            line.number("upstream_attempts", u64::from(upstream.attempts));
            line.number("upstream_ms", upstream.latency_ms);
        }
        line.text("level", self.level.word());
        line.optional("message", self.message.as_deref());
        if !self.fields.is_empty() {
            line.key("fields");
            let fields: serde_json::Map<String, Json> =
                self.fields.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
            let _ = write!(line.out, "{}", Json::Object(fields));
        }
        line.out.push_str("}\n");
    }
}

struct Line<'a> {
    out: &'a mut String,
    first: bool,
}

impl Line<'_> {
    fn key(&mut self, name: &str) {
        if !std::mem::take(&mut self.first) {
            self.out.push(',');
        }
        self.out.push('"');
        self.out.push_str(name);
        self.out.push_str("\":");
    }

    fn text(&mut self, name: &str, value: &str) {
        self.key(name);
        write_json_text(value, self.out);
    }

    /// A text that needs no escapes.
    fn quoted(&mut self, name: &str, write: impl FnOnce(&mut String)) {
        self.key(name);
        self.out.push('"');
        write(self.out);
        self.out.push('"');
    }

    fn optional(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    fn noted(&mut self, name: &str, all: &[Noted]) {
        if all.is_empty() {
            return;
        }
        self.key(name);
        for (index, noted) in all.iter().enumerate() {
            self.out.push(if index == 0 { '[' } else { ',' });
            self.out.push('{');
            let mut line = Line { out: self.out, first: true };
            line.optional("step", noted.step.as_deref());
            line.text("fault", &noted.code);
            line.optional("detail", Some(&*noted.detail).filter(|detail| !detail.is_empty()));
            self.out.push('}');
        }
        self.out.push(']');
    }

    fn number(&mut self, name: &str, value: u64) {
        self.key(name);
        self.out.push_str(itoa::Buffer::new().format(value));
    }
}

/// A JSON string: quotes, backslashes and all control characters escaped, so that no value forges a line.
pub fn write_json_text(value: &str, out: &mut String) {
    out.push('"');
    // Nearly every text is plain; what is not goes character by character. No early end: so it takes many at once.
    let plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
    if value.bytes().fold(true, |all, byte| all & plain(byte)) {
        out.push_str(value);
        out.push('"');
        return;
    }
    for character in value.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            control if control.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_json_whatever_the_client_sent() {
        let record = Record {
            request_id: "r1".into(),
            path: "/a\"b\\\n\u{1}\u{9b}".into(),
            outcome: "denied",
            fields: vec![("tenant".into(), Json::Null)],
            ..Record::default()
        };
        let mut line = String::new();
        record.write_line(&mut line);
        assert_eq!(line.matches('\n').count(), 1);
        let json: Json = serde_json::from_str(&line).unwrap();
        assert_eq!(json["path"], "/a\"b\\\n\u{1}\u{9b}");
        assert!(json["fields"]["tenant"].is_null());
        assert!(json.get("upstream").is_none());
    }
}
