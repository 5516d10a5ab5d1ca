//! Where a step sends to: its origin, and the path and query that are sent.

use std::sync::Arc;

use http::uri::PathAndQuery;
use ipnet::IpNet;

use crate::broker::Session;
use crate::compile::calling::CallingDoc;
use crate::compile::text::{Sink, TextParam};
use crate::compile::url::{PathText, host_fits, is_outside, outside};
use crate::compile::{Compile, Step};
use crate::engine::exchange::Exchange;
use crate::engine::message::split_authority;
use crate::engine::value::{Origin as ValueOrigin, Text as SharedText};
use crate::expr::{Place, fault_by};
use crate::fault::Fault;
use crate::source::{Literal, Name, Node, OneOrMany, Span, Spanned, Text};
use crate::tls::Calling;
use crate::upstream::{Addresses, Destination, Origin, Upstream, number_of};

/// The parameters that say where to.
pub struct TargetParams {
    /// Path and query are those of the request where none are written; else `/` and none.
    pub of_request: bool,
    pub to: Option<Text>,
    pub upstream: Option<Name>,
    pub path: Option<Text>,
    pub query: Option<Text>,
    pub tls: Option<Spanned<CallingDoc>>,
}

/// A resolved way.
#[derive(Debug)]
pub struct Way {
    pub upstream: Option<Arc<Upstream>>,
    of_request: bool,
    codes: Codes,
    origin: Option<WhereTo>,
    /// Segments between slashes, each for its place; without them see `of_request`.
    path: Option<PathText>,
    query: Option<TextParam>,
    /// What the upstream's targets are chosen by.
    hash_by: Option<TextParam>,
}

/// Codes of its faults.
#[derive(Debug)]
struct Codes {
    bad_host: SharedText,
    bad_path: SharedText,
}

impl Codes {
    fn of(cx: &Compile<'_>) -> Codes {
        let family = cx.assertion();
        Codes { bad_host: format!("{family}.bad_host").into(), bad_path: format!("{family}.bad_path").into() }
    }
}

#[derive(Debug)]
enum WhereTo {
    Fixed(Arc<Origin>),
    /// Made of variables: only these hosts, only public addresses beside these networks.
    Chosen {
        text: TextParam,
        hosts: Vec<String>,
        private: Option<Arc<[IpNet]>>,
        tls: Option<Arc<Calling>>,
        /// Where no host is listed: sessions whose allowed origins are those that count.
        sealed: Vec<Arc<Session>>,
    },
}

/// What one request is sent to.
pub struct SentTo {
    pub destination: Destination,
    pub target: PathAndQuery,
    pub addresses: Addresses,
    pub key: Option<u64>,
}

impl TargetParams {
    pub fn compile(
        self,
        step: &Step<'_>,
        cx: &mut Compile<'_>,
        hosts: Vec<String>,
        private: Option<Arc<[IpNet]>>,
    ) -> Option<Way> {
        let is_named = self.upstream.is_some() || self.to.as_ref().is_some_and(|to| !is_url(text_of(to)));
        // What is wrong here hides nothing of what stands beside it.
        let calling = self.tls.as_ref().map(|tls| (tls.span, CallingDoc::calling(tls, cx)));
        let is_right = match &calling {
            None => true,
            Some((_, None)) => false,
            Some((span, Some(_))) if is_named => {
                let help = "write it into the `upstream` document";
                cx.refuse::<()>("policy.bad_tls", *span, "an upstream has its own `tls`", help);
                false
            }
            Some((_, Some(_))) => true,
        };
        let tls = calling.and_then(|(span, calling)| Some((span, calling?)));
        let of_request = self.of_request;
        let way = match (self.to, self.upstream) {
            (Some(to), None) if is_url(to.0.as_text().unwrap_or_default()) => {
                if self.path.is_some() || self.query.is_some() {
                    let help = "write the path into `to`, or use `rewrite`";
                    return cx.refuse("policy.bad_value", to.0.span(), "`path` and `query` go with `upstream`", help);
                }
                url(&to, self.of_request, cx, hosts, private, tls)
            }
            (Some(to), None) => {
                let name = Name { name: to.0.as_text().unwrap_or_default().into(), span: to.0.span() };
                named(&name, self.of_request, self.path, self.query, cx)
            }
            (None, Some(name)) => named(&name, self.of_request, self.path, self.query, cx),
            (Some(_), Some(name)) => {
                cx.refuse("policy.bad_value", name.span, "`to` and `upstream` exclude each other", "keep one of them")
            }
            (None, None) => {
                let word = step.kind.name;
                let message = format!("`{word}` needs `to` or `upstream`");
                let help = format!("write `{word}: http://127.0.0.1:9000`, or `{word}: NAME` with an `upstream`");
                cx.refuse("policy.missing_parameter", step.span, message, &help)
            }
        }?;
        way.check_seals(of_request, step, cx)?;
        is_right.then_some(way)
    }
}

fn text_of(text: &Text) -> &str {
    text.0.as_text().unwrap_or_default()
}

fn is_url(text: &str) -> bool {
    text.contains("://") || text.starts_with("${")
}

fn named(name: &Name, of_request: bool, path: Option<Text>, query: Option<Text>, cx: &mut Compile<'_>) -> Option<Way> {
    let upstream = cx.resource("upstream", name, |all| &all.upstreams)?;
    let path = match path {
        Some(text) => {
            let written = text.0.as_text().unwrap_or_default();
            let Some(rest) = written.strip_prefix('/') else {
                return cx.refuse(
                    "policy.bad_path",
                    text.0.span(),
                    "a path begins with `/`",
                    "write `path: /v2/orders`",
                );
            };
            Some(cx.path_text(&text.0, rest, Sink::Url)?)
        }
        None => None,
    };
    let query = match query {
        Some(text) => Some(cx.text_into(&text, Place::QueryValue, Sink::Url)?),
        None => None,
    };
    let hash_by = match &upstream.hash_by {
        Some(text) => Some(self::hash_by(name, text, cx)?),
        None => None,
    };
    Some(Way { upstream: Some(upstream), of_request, codes: Codes::of(cx), origin: None, path, query, hash_by })
}

/// The text of an upstream, with what there is in this service.
fn hash_by(upstream: &Name, text: &str, cx: &mut Compile<'_>) -> Option<TextParam> {
    let node = Node::text(upstream.span, text);
    let compiled = cx.text_of(&node, Place::Plain, Sink::Inside);
    if compiled.is_none() {
        let message = format!("`hash_by: \"{text}\"` of `{}` cannot be read in this service", upstream.name);
        let help = "choose what every service that uses the upstream has, such as `${request.client.ip}`";
        return cx.refuse("policy.bad_value", upstream.span, message, help);
    }
    compiled
}

/// Splits `http://host:port/path?query`; slashes and question marks inside `${...}` do not count.
fn url(
    to: &Text,
    of_request: bool,
    cx: &mut Compile<'_>,
    hosts: Vec<String>,
    private: Option<Arc<[IpNet]>>,
    tls: Option<(Span, Arc<Calling>)>,
) -> Option<Way> {
    let (node, text) = (&to.0, to.0.as_text().unwrap_or_default());
    let after_scheme = text.find("://").map_or(0, |at| at + 3);
    let marks = outside(text);
    let path_at =
        marks.iter().find(|(at, mark)| *at >= after_scheme && (*mark == '/' || *mark == '?')).map(|(at, _)| *at);
    let (origin, rest) = text.split_at(path_at.unwrap_or(text.len()));
    if marks.iter().any(|(_, mark)| *mark == '#') {
        return cx.refuse("policy.bad_url", node.span(), "a fragment (`#`) is never sent", "remove it");
    }
    let origin = self::origin(node, origin, of_request, cx, hosts, private, tls)?;
    let query_at = rest.char_indices().zip(0..).find(|((at, mark), _)| *mark == '?' && is_outside(rest, *at));
    let (path, query) = match query_at {
        Some(((at, _), _)) => (rest.get(..at).unwrap_or_default(), rest.get(at + 1..)),
        None => (rest, None),
    };
    if of_request && path == "/" && query.is_none() {
        let message = "a lone `/` behind the origin: keep the request's path, or send `/`?";
        let help = "write the origin without `/` to keep the path; `rewrite: { path: / }` before it sends `/`";
        return cx.refuse("policy.bad_url", node.span(), message, help);
    }
    let path = match path.strip_prefix('/') {
        Some(rest) => Some(cx.path_text(node, rest, Sink::Url)?),
        None => None,
    };
    let query = match query {
        Some(query) => Some(cx.text_of(&node.with_text(query), Place::QueryValue, Sink::Url)?),
        None => None,
    };
    Some(Way { upstream: None, of_request, codes: Codes::of(cx), origin: Some(origin), path, query, hash_by: None })
}

fn origin(
    node: &Node,
    text: &str,
    of_request: bool,
    cx: &mut Compile<'_>,
    hosts: Vec<String>,
    private: Option<Arc<[IpNet]>>,
    tls: Option<(Span, Arc<Calling>)>,
) -> Option<WhereTo> {
    let compiled = cx.text_of(&node.with_text(text), Place::Plain, Sink::Url)?;
    if compiled.facts().mark.is_credential() {
        let message = "a credential would choose the host, whose name stands in DNS and in records";
        return cx.refuse("policy.secret_leak", node.span(), message, "put it into a header field");
    }
    let known = compiled.template().known();
    let fixed = match &known {
        Some(crate::engine::value::Value::Text(text)) => Some(text.to_string()),
        _ => None,
    };
    let Some(fixed) = fixed else {
        let sealed = match hosts.is_empty() {
            true => cx.sealed(of_request).to_vec(),
            false => Vec::new(),
        };
        if hosts.is_empty() && sealed.is_empty() {
            let message = "a variable chooses the host: somebody could make the gateway call anything";
            let help = "name the hosts it may choose: `allowed_hosts: [api.example.com]`";
            return cx.refuse("policy.open_host", node.span(), message, help);
        }
        let tls = tls.map(|(_, tls)| tls);
        return Some(WhereTo::Chosen { text: compiled, hosts, private, tls, sealed });
    };
    match Origin::parse(&fixed) {
        Ok(origin) => match tls {
            Some((span, _)) if !origin.https => cx.refuse(
                "policy.bad_tls",
                span,
                "this target is spoken to in clear",
                "write `https://`, or remove `tls`",
            ),
            Some((_, tls)) => Some(WhereTo::Fixed(Arc::new(origin.over(tls)))),
            None => Some(WhereTo::Fixed(Arc::new(origin))),
        },
        Err(why) => cx.refuse("policy.bad_url", node.span(), why, "write `http://10.0.0.5:9000`"),
    }
}

/// Entries of `allowed_hosts`.
pub fn allowed_hosts(list: &Option<OneOrMany<Literal>>, cx: &mut Compile<'_>) -> Option<Vec<String>> {
    let mut hosts = Vec::new();
    for literal in list.iter().flat_map(|list| list.iter()) {
        let text = cx.literal(literal)?;
        let (host, _) = split_authority(&text, 0);
        if text.get(host.len() + 1..).is_some_and(|port| port.parse::<u16>().is_err()) {
            let message = format!("`{text}` has no port behind its colon");
            let help = "write `api.example.com`, or `api.example.com:8080`";
            return cx.refuse("policy.bad_host", literal.0.span(), message, help);
        }
        hosts.push(text);
    }
    Some(hosts)
}

/// Whether an entry of `allowed_hosts` names an origin; without a port it means the scheme's own.
fn allows(allowed: &str, origin: &Origin) -> bool {
    let own_port = if origin.https { 443 } else { 80 };
    let (host, port) = split_authority(allowed, own_port);
    port == origin.port && host_fits(host, &origin.host.to_string())
}

impl Way {
    /// Whose value says where it goes.
    pub fn chosen_by(&self) -> ValueOrigin {
        match &self.origin {
            Some(WhereTo::Chosen { text, .. }) => text.facts().origin,
            Some(WhereTo::Fixed(_)) | None => ValueOrigin::Policy,
        }
    }

    /// The origin by its name, where the targets are addresses of one.
    pub fn name(&self) -> Option<&str> {
        let dns = self.upstream.as_ref()?.dns.as_ref()?;
        Some(dns.origin.text())
    }

    /// The origins that it leads to, where they are written out.
    pub fn origins(&self) -> Option<Vec<Arc<Origin>>> {
        match (&self.upstream, &self.origin) {
            (Some(upstream), _) => Some(match &upstream.dns {
                Some(dns) => vec![dns.origin.clone()],
                None => upstream.targets().iter().map(|target| target.origin.clone()).collect(),
            }),
            (None, Some(WhereTo::Fixed(origin))) => Some(vec![origin.clone()]),
            (None, Some(WhereTo::Chosen { .. }) | None) => None,
        }
    }

    /// Refuses a written-out target that a token which is sealed to it does not admit.
    fn check_seals(&self, of_request: bool, step: &Step<'_>, cx: &mut Compile<'_>) -> Option<()> {
        for session in cx.sealed(of_request).to_vec() {
            let admitted = |origin: &Origin| {
                let mut allowed = session.settings.allowed_origins.iter();
                allowed.any(|allowed| allowed.admits(origin.https, &origin.host.to_string(), origin.port))
            };
            if let Some(other) = self.origins().iter().flatten().find(|origin| !admitted(origin)) {
                let name = &session.settings.name;
                let message = format!("the token of `{name}` would go to {}, which is not for it", other.text());
                let help = format!("add it to `allowed_origins` of `{name}` if it is, or inject behind this step");
                return cx.refuse("policy.origin_refused", step.span, message, &help);
            }
        }
        Some(())
    }

    /// Where one request goes; `query` is that of the request as far as it may leave.
    pub fn send_to(&self, x: &Exchange, query: Option<&str>) -> Result<SentTo, Box<Fault>> {
        let (destination, addresses) = self.destination(x)?;
        let key = match &self.hash_by {
            Some(text) => Some(number_of(&text.read(x)?)),
            None => None,
        };
        // The common case: the request's own target, unchanged.
        if self.of_request
            && self.path.is_none()
            && self.query.is_none()
            && x.original.is_none()
            && query == x.request.target.query()
            && x.request.path.as_str() == x.request.target.path()
        {
            return Ok(SentTo { destination, target: x.request.target.clone(), addresses, key });
        }
        let mut target = String::with_capacity(64);
        match &self.path {
            None if self.of_request => target.push_str(x.request.path.as_str()),
            None => target.push('/'),
            Some(path) => path.render(x, &self.codes.bad_path, &mut target)?,
        }
        match (&self.query, query) {
            (Some(own), _) => {
                target.push('?');
                own.render(x, &mut target)?;
            }
            (None, Some(query)) => {
                target.push('?');
                target.push_str(query);
            }
            (None, None) => {}
        }
        let parsed = target.parse::<PathAndQuery>();
        let target = parsed.map_err(|error| bad(ValueOrigin::Client, &self.codes.bad_path, error.to_string()))?;
        Ok(SentTo { destination, target, addresses, key })
    }

    fn destination(&self, x: &Exchange) -> Result<(Destination, Addresses), Box<Fault>> {
        match (&self.upstream, &self.origin) {
            (Some(upstream), _) => Ok((Destination::Upstream(upstream.clone()), Addresses::Any)),
            (None, Some(WhereTo::Fixed(origin))) => Ok((Destination::Origin(origin.clone()), Addresses::Any)),
            (None, Some(WhereTo::Chosen { text, hosts, private, tls, sealed })) => {
                let written = text.read(x)?;
                let bad = |detail: String| bad(text.facts().origin, &self.codes.bad_host, detail);
                let origin = Origin::parse(&written).map_err(bad)?;
                let origin = match tls {
                    Some(tls) => origin.over(tls.clone()),
                    None => origin,
                };
                let addresses = match private {
                    None => Addresses::Any,
                    Some(networks) => Addresses::Public(networks.clone()),
                };
                if sealed.is_empty() {
                    if !hosts.iter().any(|allowed| allows(allowed, &origin)) {
                        return Err(bad(format!("`{}:{}` is not among allowed_hosts", origin.host, origin.port)));
                    }
                    return Ok((Destination::Origin(Arc::new(origin)), addresses));
                }
                // The seal itself refuses what it does not admit; without one nothing has said where this may go.
                let seals = if self.of_request { &x.seals.routes } else { &x.seals.calls };
                if seals.is_empty() {
                    return Err(bad("no token is sealed to it, whose origins would say where it may go".to_owned()));
                }
                let addresses = sealed.iter().fold(addresses, |addresses, session| narrow(addresses, session, &origin));
                Ok((Destination::Origin(Arc::new(origin)), addresses))
            }
            (None, None) => Err(bad(ValueOrigin::Policy, &self.codes.bad_host, "the step has no origin".to_owned())),
        }
    }
}

/// The addresses that an origin may have which a session admits: any, where the operator has written it out.
fn narrow(addresses: Addresses, session: &Session, origin: &Origin) -> Addresses {
    let (https, host, port) = (origin.https, origin.host.to_string(), origin.port);
    let mut exact = session.settings.allowed_origins.iter().filter(|allowed| !allowed.is_pattern);
    match addresses {
        Addresses::Any => Addresses::Any,
        Addresses::Public(_) if exact.any(|allowed| allowed.admits(https, &host, port)) => Addresses::Any,
        Addresses::Public(own) => {
            Addresses::Public(own.iter().chain(&*session.settings.allow_private).copied().collect())
        }
    }
}

fn bad(origin: ValueOrigin, code: &str, detail: String) -> Box<Fault> {
    fault_by(origin, "expression.absent", detail).with_code(code.to_owned())
}

/// Networks that a chosen host may resolve to; `None` in the answer means any.
pub fn private(list: &Option<OneOrMany<Literal>>, cx: &mut Compile<'_>) -> Option<Option<Arc<[IpNet]>>> {
    let mut networks = Vec::new();
    for literal in list.iter().flat_map(|list| list.iter()) {
        let text = cx.literal(literal)?;
        match (text.as_str(), text.parse::<IpNet>()) {
            ("true", _) => return Some(None),
            ("false", _) => {}
            (_, Ok(network)) => networks.push(network),
            _ => {
                let message = format!("`{text}` is no network");
                return cx.refuse("policy.bad_value", literal.0.span(), message, "write `10.0.0.0/8`, or `true`");
            }
        }
    }
    Some(Some(networks.into()))
}
