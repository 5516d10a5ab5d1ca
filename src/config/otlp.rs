//! `otlp:` of gateway.yaml: where traces and numbers are sent to, and which.
//!
//! Credentials of the collector stand in the environment or in files, never in gateway.yaml itself where it can be told;
//! they are sent over TLS, or to this machine.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::audit::spans::Trust;
use crate::compile::header::fields_twice;
use crate::regular_file;
use crate::source::units::has_leading_zero;
use crate::source::{
    Diagnostic, Diagnostics, DurationValue, Entries, Literal, Name, OneOrMany, ScalarOr, Span, Spanned,
};
use crate::tls::{Calling, CallingSettings, certificates_of};
use crate::upstream::{Host, Origin};

/// Largest file of a header's value or of authorities, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Header fields that can be given.
const HEADERS_MAX: usize = 32;
/// How often numbers are sent, where gateway.yaml does not say.
const INTERVAL: Duration = Duration::from_secs(60);
/// They are not sent more often than this.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Time for one answer of the collector, where gateway.yaml does not say.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The name that the gateway has in traces, where gateway.yaml does not say.
const SERVICE_NAME: &str = "gatewright";

/// Where traces and numbers go.
#[derive(Clone, Debug)]
pub struct Otlp {
    pub origin: Arc<Origin>,
    /// Path of the endpoint, without a slash at its end.
    pub path: String,
    /// Marked as sensitive: they are not printed.
    pub headers: HeaderMap,
    pub traces: bool,
    pub metrics: bool,
    /// Which part of the traces that begin here is recorded, 0 to 1.
    pub share: f64,
    pub trust: Trust,
    pub interval: Duration,
    pub timeout: Duration,
    pub service_name: String,
}

/// Traces and numbers are sent to an OpenTelemetry collector, as OTLP over HTTP.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OtlpDoc {
    /// URL of the collector, such as `http://127.0.0.1:4318`; `/v1/traces` and `/v1/metrics` are put behind it.
    endpoint: Literal,
    /// `traces`, `metrics`; both without it.
    #[serde(default)]
    signals: Option<OneOrMany<SignalDoc>>,
    /// Header fields of each request: a text, or `{ env: NAME }` or `{ file: NAME }` for credentials.
    #[serde(default)]
    headers: Entries<ScalarOr<Literal, KeptDoc>>,
    /// PEM file: the authorities that are trusted, in the place of the public web's.
    #[serde(default)]
    ca: Option<Literal>,
    /// Which part of the traces that begin here is recorded: `10%`, or a number from 0 to 1.
    #[serde(default)]
    sample: Option<Literal>,
    /// Whose `traceparent` is believed: `trusted_proxies`, `everyone` or `nobody`.
    #[serde(default)]
    trust: Option<TrustDoc>,
    /// How often numbers are sent.
    #[serde(default)]
    interval: Option<DurationValue>,
    /// Time for one answer of the collector.
    #[serde(default)]
    timeout: Option<DurationValue>,
    /// The name that the gateway has there.
    #[serde(default)]
    service_name: Option<Literal>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum SignalDoc {
    Traces,
    Metrics,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum TrustDoc {
    TrustedProxies,
    Everyone,
    Nobody,
}

/// Where a value is kept: exactly one of both.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KeptDoc {
    /// Variable of the process's environment.
    #[serde(default)]
    env: Option<Literal>,
    /// File, relative to gateway.yaml. One line feed at its end is not part of the value.
    #[serde(default)]
    file: Option<Literal>,
}

fn refuse(span: Span, message: String, help: &str, diags: &mut Diagnostics) {
    diags.push(Diagnostic::error("config.bad_otlp", span, message).with_help(help));
}

impl OtlpDoc {
    /// Where everything goes; what is wrong was reported.
    pub(super) fn into_config(doc: Spanned<OtlpDoc>, base: &Path, diags: &mut Diagnostics) -> Option<Otlp> {
        let (doc, span) = (doc.value, doc.span);
        if !cfg!(feature = "otlp") {
            let message = "this program was built without OTLP: nothing would be sent";
            let help = "take `otlp` out, or install a build with the cargo feature `otlp`, which is on by default";
            diags.push(Diagnostic::error("config.not_built", span, message).with_help(help));
            return None;
        }
        let (headers, share) = (doc.headers(base, diags), doc.share(diags));
        let (origin, path) = doc.endpoint(base, diags)?;
        let near = match &origin.host {
            Host::Ip(ip) => ip.is_loopback(),
            Host::Name(name) => &**name == "localhost",
        };
        if !origin.https && !near && !headers.is_empty() {
            let message = "header fields would cross a network in clear text".to_owned();
            refuse(doc.endpoint.span(), message, "write `https://`, or send to a collector on this machine", diags);
        }
        let interval = doc.interval.map_or(INTERVAL, |interval| interval.duration);
        if let Some(given) = doc.interval.filter(|given| given.duration < INTERVAL_MIN) {
            refuse(given.span, "numbers cannot be sent that often".into(), "write `100ms` or more", diags);
        }
        if let Some(given) = doc.timeout.filter(|given| given.duration.is_zero()) {
            refuse(given.span, "no answer comes in no time".into(), "write a time such as `10s`", diags);
        }
        let sends = |signal| doc.signals.as_ref().is_none_or(|all| all.iter().any(|one| *one == signal));
        Some(Otlp {
            origin: Arc::new(origin),
            path,
            headers,
            traces: sends(SignalDoc::Traces),
            metrics: sends(SignalDoc::Metrics),
            share,
            trust: match doc.trust {
                None | Some(TrustDoc::TrustedProxies) => Trust::TrustedProxies,
                Some(TrustDoc::Everyone) => Trust::Everyone,
                Some(TrustDoc::Nobody) => Trust::Nobody,
            },
            interval,
            timeout: doc.timeout.map_or(TIMEOUT, |timeout| timeout.duration),
            service_name: doc.service_name.map_or(SERVICE_NAME.to_owned(), |name| name.as_str().to_owned()),
        })
    }

    fn endpoint(&self, base: &Path, diags: &mut Diagnostics) -> Option<(Origin, String)> {
        let help = "write the URL of an OTLP receiver over HTTP, such as `http://127.0.0.1:4318`";
        let parsed = self.endpoint.as_str().parse::<Uri>().map_err(|error| error.to_string());
        let parts = parsed.and_then(|uri| {
            let (Some(scheme), Some(authority), None) = (uri.scheme(), uri.authority(), uri.query()) else {
                return Err("expected a scheme, a host and perhaps a path".to_owned());
            };
            Ok((Origin::parse(&format!("{scheme}://{authority}"))?, uri.path().trim_end_matches('/').to_owned()))
        });
        let (origin, path) = match parts {
            Ok(parts) => parts,
            Err(why) => {
                let message = format!("`{}` is no endpoint: {why}", self.endpoint.as_str());
                refuse(self.endpoint.span(), message, help, diags);
                return None;
            }
        };
        let Some(ca) = &self.ca else { return Some((origin, path)) };
        let bytes = read_file(&base.join(ca.as_str()));
        let calling = bytes.and_then(|bytes| certificates_of(&bytes)).and_then(|authorities| {
            Calling::new(CallingSettings { authorities: Some(authorities), ..CallingSettings::default() })
        });
        match calling {
            Ok(calling) if origin.https => Some((origin.over(Arc::new(calling)), path)),
            Ok(_) => {
                let message = "`ca` goes with an `https://` endpoint".to_owned();
                refuse(ca.span(), message, "write `https://`, or remove `ca`", diags);
                None
            }
            Err(why) => {
                let message = format!("the authorities of `{}` cannot be used: {why}", ca.as_str());
                refuse(ca.span(), message, "name a PEM file with at least one certificate", diags);
                None
            }
        }
    }

    fn share(&self, diags: &mut Diagnostics) -> f64 {
        let Some(sample) = &self.sample else { return 1.0 };
        let text = sample.as_str();
        let share = match text.strip_suffix('%') {
            Some(percent) => percent.trim_end().parse::<f64>().map(|percent| percent / 100.0),
            None => text.parse(),
        };
        let share = share.ok().filter(|share| (0.0..=1.0).contains(share) && !has_leading_zero(text));
        share.unwrap_or_else(|| {
            let message = format!("`{text}` is no part of all traces");
            refuse(sample.span(), message, "write `10%`, or a number from 0 to 1", diags);
            1.0
        })
    }

    fn headers(&self, base: &Path, diags: &mut Diagnostics) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (again, first) in fields_twice(self.headers.iter().map(|(name, _)| name)) {
            let message = format!("`{}` is the field `{}` once more: case does not count", again.name, first.name);
            let twice = Diagnostic::error("config.bad_otlp", again.span, message).with_help("remove one of them");
            diags.push(twice.with_note(first.span, "first here"));
        }
        for (name, given) in &self.headers.0 {
            let help = "write `{ env: NAME }` or `{ file: NAME }`, and put the value there";
            let value = match given {
                ScalarOr::Scalar(text) if text.as_str().contains("${") => Err("`${` means nothing here".to_owned()),
                ScalarOr::Scalar(text) => Ok(text.as_str().as_bytes().to_vec()),
                ScalarOr::Larger(KeptDoc { env: Some(variable), file: None }) => {
                    let value = std::env::var(variable.as_str()).ok().filter(|value| !value.is_empty());
                    let missing = || format!("the environment variable `{}` is not set", variable.as_str());
                    value.map(String::into_bytes).ok_or_else(missing)
                }
                ScalarOr::Larger(KeptDoc { env: None, file: Some(file) }) => {
                    read_file(&base.join(file.as_str())).map(without_line_feed)
                }
                ScalarOr::Larger(_) => Err("expected exactly one of `env` and `file`".to_owned()),
            };
            let value = value.and_then(|value| field(name, &value));
            match value {
                Ok((field, value)) if headers.len() < HEADERS_MAX => drop(headers.insert(field, value)),
                Ok(_) => refuse(name.span, format!("more than {HEADERS_MAX} fields"), "remove some", diags),
                Err(why) => refuse(name.span, format!("`{}` cannot be sent: {why}", name.name), help, diags),
            }
        }
        headers
    }
}

/// A field that is sent; the error tells nothing of the value.
fn field(name: &Name, value: &[u8]) -> Result<(HeaderName, HeaderValue), String> {
    let field = name.name.parse::<HeaderName>().map_err(|_| "it is no name of a field".to_owned())?;
    if ["host", "content-type", "content-length", "transfer-encoding", "connection"].contains(&field.as_str()) {
        return Err("the gateway writes this field itself".to_owned());
    }
    let mut value = HeaderValue::from_bytes(value).map_err(|_| "its value holds control characters".to_owned())?;
    value.set_sensitive(true);
    Ok((field, value))
}

fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    regular_file::read(path, FILE_BYTES_MAX).map_err(|why| format!("{}: {why}", path.display()))
}

fn without_line_feed(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    bytes
}
