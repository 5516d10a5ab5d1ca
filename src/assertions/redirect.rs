//! `redirect`: sends the client elsewhere and ends the pipeline.
//!
//! RFC 9110 §15.4, §10.2.2. The host is written out or in `allowed_hosts`: a value that could choose it
//! (`//`, `\`, `@`, a scheme) would make an open redirect, so what comes out is judged again at run time.

use http::{HeaderMap, HeaderValue, StatusCode, header};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::body::Body;
use crate::compile::kind::Ends;
use crate::compile::text::{Sink, TextParam};
use crate::compile::url::{PathText, host_fits, is_outside, outside};
use crate::compile::{Assertion, Category, Compile, Compiled, Example, FaultDoc, Kind, Step};
use crate::engine::exchange::Exchange;
use crate::engine::message::{Response, split_authority};
use crate::engine::program::{EndedBy, Plain, Verdict};
use crate::engine::read::Side;
use crate::engine::value::{Mark, Origin, Value};
use crate::expr::{Place, fault_by};
use crate::fault::Fault;
use crate::source::{Literal, Node, OneOrMany, Spanned, Text};

const TARGET: &str = "redirect.target";

pub const KIND: Kind = Kind {
    main: Some("to"),
    ends: Ends::Always,
    bodies: "only what it reads",
    faults: &[
        FaultDoc {
            code: TARGET,
            status: 400,
            doc: "A variable made a target that leads to a host which is neither written out nor in `allowed_hosts`, or that is no URL. By origin: 400, 502 or 500.",
        },
        FaultDoc {
            code: "redirect.absent",
            status: 400,
            doc: "The one `${}` of `to` is absent. Give it a default: `${request.query.next ?? '/'}`. By origin: 400, 502 or 500.",
        },
    ],
    examples: &[
        Example {
            title: "To another path of the same host",
            yaml: r#"
service: example
match: { path: "/old/{id}" }
policy:
  - redirect: { to: "/new/${path.id}?from=${request.query.from ?? 'old'}", status: 308 }
tests:
  - name: values stay in their places
    request: { path: "/old/a%20b?from=x%26y" }
    expect: { status: 308, headers: { location: "/new/a%20b?from=x%26y" }, ended_by: redirect }
"#,
        },
        Example {
            title: "Where the client asks to go, among known hosts",
            yaml: r#"
service: example
match: { path: /go }
policy:
  - redirect: { to: "${request.query.next ?? '/'}", allowed_hosts: ["*.example.com"] }
tests:
  - name: a path
    request: { path: "/go?next=/home" }
    expect: { status: 302, headers: { location: /home } }
  - name: a known host
    request: { path: "/go?next=https://app.example.com/home" }
    expect: { status: 302, headers: { location: "https://app.example.com/home" } }
  - name: another host
    request: { path: "/go?next=https://evil.example/" }
    expect: { status: 400, fault: redirect.target }
  - name: another host without a scheme
    request: { path: "/go?next=//evil.example/" }
    expect: { status: 400, fault: redirect.target }
"#,
        },
    ],
    ..Kind::of::<Redirect>("redirect", "Sends the client elsewhere and ends the pipeline.", Category::Routing)
};

/// Parameters of `redirect`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Redirect {
    /// A path of this host, or a URL.
    to: Text,
    /// 301, 302, 303, 307 or 308; 302 without it.
    #[serde(default)]
    status: Option<Spanned<u16>>,
    /// Hosts that a variable part of `to` may name, `*.example.com` too.
    #[serde(default)]
    allowed_hosts: OneOrMany<Literal>,
}

impl Assertion for Redirect {
    fn compile(self, step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Compiled> {
        let status = match self.status {
            None => Some(StatusCode::FOUND),
            Some(Spanned { value: value @ (301 | 302 | 303 | 307 | 308), .. }) => StatusCode::from_u16(value).ok(),
            Some(Spanned { value, span }) => {
                let message = format!("{value} is no redirect");
                cx.refuse("policy.bad_value", span, message, "it takes 301, 302, 303, 307 and 308")
            }
        };
        let hosts: Vec<Option<String>> = self.allowed_hosts.iter().map(|host| cx.literal(host)).collect();
        let hosts = hosts.into_iter().collect::<Option<Vec<_>>>()?;
        let target = target(&self.to.0, &hosts, cx)?;
        cx.flow.carried.put_field(Side::Response, header::LOCATION.as_str(), (target.mark(), step.span), true);
        Compiled::plain(RedirectStep { status: status?, target, hosts })
    }
}

/// A target by its parts: only the origin may be raw text, everything behind is encoded for its place.
#[derive(Debug)]
struct Target {
    /// Scheme and authority, or the whole target where it begins with a variable.
    origin: Option<TextParam>,
    path: Option<PathText>,
    /// Query and fragment with their marks.
    rest: Option<TextParam>,
    /// Whether a variable chooses the host.
    open: bool,
}

fn target(node: &Node, hosts: &[String], cx: &mut Compile<'_>) -> Option<Target> {
    let text = node.as_text().unwrap_or_default();
    if text.starts_with("${") {
        let origin = cx.text_of(node, Place::Plain, Sink::Client)?;
        return Some(Target { origin: Some(origin), path: None, rest: None, open: true });
    }
    let after_scheme =
        ["https://", "http://"].iter().find(|scheme| text.starts_with(**scheme)).map(|scheme| scheme.len());
    if after_scheme.is_none() && !text.starts_with('/') || text.starts_with("//") || text.contains('\\') {
        let message = format!("`{text}` is no target: it is a path of this host or a whole URL");
        return cx.refuse("policy.bad_url", node.span(), message, "write `/path` or `https://host/path`");
    }
    let marks = outside(text);
    let end_of_origin = marks.iter().find(|(at, mark)| *at >= after_scheme.unwrap_or(0) && "/?#".contains(*mark));
    let (origin, behind) = text.split_at(end_of_origin.map_or(text.len(), |(at, _)| *at));
    let rest_at = behind.char_indices().find(|(at, mark)| "?#".contains(*mark) && is_outside(behind, *at));
    let (path, rest) = behind.split_at(rest_at.map_or(behind.len(), |(at, _)| at));
    let (origin, open) = match origin {
        "" => (None, false),
        origin => {
            let compiled = cx.text_of(&node.with_text(origin), Place::Plain, Sink::Client)?;
            let known = compiled.template().known();
            let open = known.is_none();
            if let Some(Value::Text(known)) = known
                && host_of(&known).flatten().is_none()
            {
                let message = format!("`{known}` is no scheme and host");
                return cx.refuse("policy.bad_url", node.span(), message, "write `https://app.example.com/path`");
            }
            if open && hosts.is_empty() {
                let message = "a variable chooses the host: somebody could send clients anywhere";
                let help = "name the hosts it may choose: `allowed_hosts: [app.example.com]`";
                return cx.refuse("policy.open_host", node.span(), message, help);
            }
            (Some(compiled), open)
        }
    };
    let path = match path.strip_prefix('/') {
        Some(path) => Some(cx.path_text(&node.with_text(path), path, Sink::Client)?),
        None => None,
    };
    let rest = match rest {
        "" => None,
        rest => Some(cx.text_of(&node.with_text(rest), Place::QueryValue, Sink::Client)?),
    };
    Some(Target { origin, path, rest, open })
}

impl Target {
    /// The mark of what is in it.
    fn mark(&self) -> Mark {
        let texts = self.origin.iter().chain(&self.rest).chain(self.path.iter().flat_map(PathText::segments));
        texts.fold(Mark::None, |all, text| all.joined(text.facts().mark))
    }

    fn origin_of_values(&self) -> Origin {
        let texts = self.origin.iter().chain(&self.rest).map(|text| text.facts().origin);
        texts.max().map_or(Origin::Client, |origin| if self.path.is_some() { Origin::Client } else { origin })
    }

    fn render(&self, x: &Exchange) -> Result<String, Box<Fault>> {
        let mut out = String::new();
        if let Some(origin) = &self.origin {
            origin.render(x, &mut out)?;
        }
        if let Some(path) = &self.path {
            path.render(x, TARGET, &mut out)?;
        }
        if let Some(rest) = &self.rest {
            rest.render(x, &mut out)?;
        }
        Ok(out)
    }
}

struct RedirectStep {
    status: StatusCode,
    target: Target,
    hosts: Vec<String>,
}

impl Plain for RedirectStep {
    fn check(&self, x: &mut Exchange) -> Verdict {
        match self.answer(x) {
            Ok(response) => {
                x.set_response(response);
                Verdict::Ended(EndedBy::Redirect)
            }
            Err(fault) => Verdict::Fault(fault),
        }
    }
}

impl RedirectStep {
    fn answer(&self, x: &Exchange) -> Result<Response, Box<Fault>> {
        let bad = |detail: &str| fault_by(self.target.origin_of_values(), TARGET, detail);
        let target = self.target.render(x)?;
        let hosts: &[String] = if self.target.open { &self.hosts } else { &[] };
        if !is_clean(&target) {
            return Err(bad("the target holds blanks, backslashes or characters that no URL has"));
        }
        match host_of(&target) {
            Some(None) => {}
            Some(Some(_)) if !self.target.open => {}
            Some(Some(host)) if hosts.iter().any(|allowed| host_fits(allowed, host)) => {}
            Some(Some(_)) => return Err(bad("the target's host is not among allowed_hosts")),
            None => return Err(bad("the target is neither a path nor an http URL")),
        }
        let location = HeaderValue::from_str(&target).map_err(|_| bad("the target cannot stand in a field"))?;
        let mut headers = HeaderMap::new();
        headers.insert(header::LOCATION, location);
        Ok(Response::new(self.status, headers, Body::Empty))
    }
}

/// Whether a text holds only what a URL may hold (RFC 3986 §2); browsers read a backslash as a slash.
fn is_clean(target: &str) -> bool {
    target.bytes().all(|byte| byte.is_ascii_graphic() && !b"\\\"<>^`{|}".contains(&byte))
}

/// The host of a target: `Some(None)` for a path of this host, `None` for what is neither that nor a URL.
fn host_of(target: &str) -> Option<Option<&str>> {
    if target.starts_with('/') {
        return (!target.starts_with("//")).then_some(None);
    }
    let rest = target.strip_prefix("https://").or_else(|| target.strip_prefix("http://"))?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (host, _) = split_authority(authority, 0);
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte);
    let port = authority.strip_prefix(host).unwrap_or_default();
    let port_is_number = port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    (!host.is_empty() && host.bytes().all(legal) && port_is_number).then_some(Some(host))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assertions::trial::{Trial, refusals};

    #[test]
    fn what_a_browser_would_take_for_another_host_is_none_of_ours() {
        assert_eq!(host_of("/a//b"), Some(None));
        for target in
            ["//evil.example", "evil.example", "javascript:alert(1)", "https:/evil", "https://", "", "HTTPS://a"]
        {
            assert_eq!(host_of(target), None, "{target}");
        }
        assert_eq!(host_of("https://good.example@evil.example/"), None);
        assert_eq!(host_of("https://a.example:81?x"), Some(Some("a.example")));
        assert_eq!(host_of("https://[::1]:81/"), Some(Some("[::1]")));
        for target in ["/\\evil.example", "/a b", "/a\r\nx: y", "/\u{e9}", "/<a>"] {
            assert!(!is_clean(target), "{target}");
        }
    }

    #[test]
    fn a_value_behind_a_slash_starts_no_host() {
        let trial = Trial::of("  - redirect: \"/${request.query.a ?? ''}/x?b=${request.query.a ?? ''}\"");
        let to = |a: &str| trial.get(&format!("/?a={a}")).header("location").map(str::to_owned);
        assert_eq!(to("%2Fevil.example").as_deref(), Some("/%2Fevil.example/x?b=%2Fevil.example"));
        assert_eq!(to("%5Cevil").as_deref(), Some("/%5Cevil/x?b=%5Cevil"));
        let empty = trial.get("/?a=");
        assert_eq!((empty.status, empty.fault.as_deref()), (400, Some("redirect.target")));
        assert_eq!(trial.get("/?a=..").fault.as_deref(), Some("redirect.target"));
    }

    #[test]
    fn targets_are_checked_at_load() {
        let redirect = |params: &str| refusals(&format!("  - redirect: {params}"));
        assert!(redirect("https://a.example/x").is_empty());
        assert_eq!(redirect("//a.example/x"), ["policy.bad_url"]);
        assert_eq!(redirect("a.example"), ["policy.bad_url"]);
        assert_eq!(redirect("https://good.example@evil.example/"), ["policy.bad_url"]);
        assert_eq!(redirect("\"https://${request.query.a ?? ''}.example/\""), ["policy.open_host"]);
        assert_eq!(redirect("{ to: /a, status: 304 }"), ["policy.bad_value"]);
    }

    #[test]
    fn every_status_of_a_redirect_is_taken_and_302_without_one() {
        assert_eq!(Trial::of("  - redirect: /a").get("/").status, 302);
        for status in [301, 302, 303, 307, 308] {
            let outcome = Trial::of(&format!("  - redirect: {{ to: /a, status: {status} }}")).get("/");
            assert_eq!((outcome.status, outcome.header("location")), (status, Some("/a")));
        }
    }
}
