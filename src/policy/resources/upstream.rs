//! `upstream:`, targets behind one name.

mod dns;
mod health;
mod pool;

use std::sync::Arc;

use http::HeaderValue;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::dns::DnsDoc;
use self::health::HealthDoc;
use self::pool::PoolDoc;
use crate::compile::calling::CallingDoc;
use crate::compile::resources::Resources;
use crate::compile::sending::TimeoutsDoc;
use crate::policy::resources::{Build, ResourceKind};
use crate::source::units::parse_digits;
use crate::source::{Diagnostic, DurationValue, Literal, Name, Node, OneOrMany, Spanned, Text, read};
use crate::tls::Calling;
use crate::upstream::{Balance, Dns, Eject, HostHeader, Http2, Origin, Target, Upstream};

pub const KIND: ResourceKind = ResourceKind {
    word: "upstream",
    summary: "Targets behind one name: balance, health, connections, time limits.",
    schema: || schemars::schema_for!(UpstreamDoc),
    build,
};

/// An upstream.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct UpstreamDoc {
    /// Its name.
    #[allow(dead_code)] // the declaring key: read before
    upstream: Name,
    /// `http://host:port` or `https://host:port`, or `{ url: ..., weight: 2 }`.
    #[serde(default)]
    targets: Option<OneOrMany<Node>>,
    /// In the place of `targets`: every address of a name is one.
    #[serde(default)]
    dns: Option<DnsDoc>,
    /// How a target is chosen.
    #[serde(default = "in_turn")]
    balance: Spanned<BalanceWord>,
    /// With `balance: hash`: equal texts go to the same target, such as `${auth.subject}`. It is checked in each service
    /// that uses the upstream.
    #[serde(default)]
    hash_by: Option<Text>,
    /// Requests that find out which targets are healthy, beside all calls.
    #[serde(default)]
    health: Option<HealthDoc>,
    /// When a target that fails is left alone for a while; without it never.
    #[serde(default)]
    eject: Option<EjectDoc>,
    /// Time limits of each call; a `route` can tighten them.
    #[serde(default)]
    timeouts: TimeoutsDoc,
    /// Connections to its targets, by each worker to each target.
    #[serde(default)]
    pool: PoolDoc,
    /// TLS of its `https://` targets.
    #[serde(default)]
    tls: Option<Spanned<CallingDoc>>,
    /// What the upstream sees as `Host`: `upstream` (its own name), `client` (what the client asked for), or a text.
    #[serde(default)]
    host: Option<Literal>,
    /// With every target ejected or unhealthy: answer 503, or try the one that failed least recently.
    #[serde(default)]
    when_none: WhenNone,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TargetDoc {
    /// `http://host:port` or `https://host:port`
    url: Literal,
    /// Share among the others.
    #[serde(default = "one")]
    weight: u32,
}

fn in_turn() -> Spanned<BalanceWord> {
    BalanceWord::default().into()
}

fn one() -> u32 {
    1
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
enum BalanceWord {
    /// In turn, by weight.
    #[default]
    RoundRobin,
    /// The one with the fewest calls that are not complete, for its weight.
    LeastRequests,
    /// The less loaded of two that are drawn.
    Random,
    /// By `hash_by`: a target that leaves moves only what it had.
    Hash,
    /// The first that works, in order.
    Failover,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
enum WhenNone {
    /// 503 `route.no_target`.
    #[default]
    Fail,
    /// The one that failed least recently.
    TryAny,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EjectDoc {
    /// Consecutive failures: connect errors, timeouts, 502, 503, 504.
    #[schemars(example = 5)]
    failures: Spanned<u32>,
    /// How long it is left alone.
    #[serde(rename = "for")]
    duration: DurationValue,
    /// Share of the targets that may be ejected at a time.
    #[serde(default = "half")]
    at_most: Literal,
}

fn half() -> Literal {
    "50%".into()
}

fn build(name: &Name, node: &Node, build: &mut Build<'_>, resources: &mut Resources) {
    let upstream = upstream(name, node, build).map(Arc::new);
    resources.upstreams.insert(name.name.as_str().into(), upstream);
}

fn upstream(name: &Name, node: &Node, build: &mut Build<'_>) -> Option<Upstream> {
    let doc: UpstreamDoc = read(node, None, "an upstream", build.diags)?;
    let tls = match &doc.tls {
        Some(tls) => CallingDoc::calling(tls, &mut build.context()).map(Some),
        None => Some(None),
    };
    let targets = targets(&doc, tls.as_ref().and_then(Option::as_ref), name, build);
    let pool = doc.pool.limits(build.diags);
    let hash_by = hash_by(&doc, build);
    let check = doc.health.as_ref().map(|health| health.check(&mut build.context()));
    let eject = doc.eject.as_ref().map(|eject| self::eject(eject, build));
    let host = doc.host.as_ref().map(|host| host_header(host, build));
    let (targets, dns) = targets?;
    tls?;
    if let Some(tls) = doc.tls.as_ref().filter(|_| !targets.is_empty() && !targets.iter().any(|one| one.origin.https)) {
        let message = "no target of this upstream is spoken to over TLS";
        let help = "write `https://` targets, or remove `tls`";
        build.diags.push(Diagnostic::error("policy.bad_tls", tls.span, message).with_help(help));
        return None;
    }
    let mut upstream = match Upstream::new(&name.name, targets) {
        Ok(upstream) => upstream,
        Err(why) => {
            build.diags.push(Diagnostic::error("policy.bad_value", name.span, why));
            return None;
        }
    };
    upstream.pool = pool?;
    upstream.dns = dns;
    upstream.balance = doc.balance.value.into();
    upstream.hash_by = hash_by?;
    if let Some(check) = check {
        upstream.check = Some(check?);
    }
    if let Some(eject) = eject {
        upstream.eject = Some(eject?);
    }
    upstream.timeouts = doc.timeouts.or_default();
    upstream.when_none_try_any = matches!(doc.when_none, WhenNone::TryAny);
    if let Some(host) = host {
        upstream.host = host?;
    }
    Some(upstream)
}

/// The targets, and the name that stands for them.
fn targets(
    doc: &UpstreamDoc,
    tls: Option<&Arc<Calling>>,
    name: &Name,
    build: &mut Build<'_>,
) -> Option<(Vec<Arc<Target>>, Option<Dns>)> {
    match (&doc.targets, &doc.dns) {
        (Some(targets), None) => {
            let targets: Vec<_> = targets.iter().map(|node| target(node, tls, doc.pool.http2(), build)).collect();
            Some((targets.into_iter().collect::<Option<_>>()?, None))
        }
        (None, Some(dns)) => {
            let dns = dns.dns(tls, doc.pool.http2(), &mut build.context())?;
            Some((vec![Arc::new(Target::new(dns.origin.clone(), 1))], Some(dns)))
        }
        (given, _) => {
            let (code, message) = match given {
                Some(_) => ("policy.bad_value", "`targets` and `dns` exclude each other"),
                None => ("policy.missing_parameter", "an upstream needs `targets` or `dns`"),
            };
            let help = "write `targets: [\"http://10.0.0.5:9000\"]`, or `dns: { name: orders.local, port: 9000 }`";
            build.context().refuse(code, name.span, message, help)
        }
    }
}

fn target(node: &Node, tls: Option<&Arc<Calling>>, http2: Http2, build: &mut Build<'_>) -> Option<Arc<Target>> {
    let (url, weight) = match node.as_text() {
        Some(_) => (Literal(node.clone()), 1),
        None => {
            let doc: TargetDoc = read(node, Some("url"), "a target", build.diags)?;
            (doc.url, doc.weight)
        }
    };
    let text = build.context().literal(&url)?;
    match Origin::parse(&text) {
        Ok(origin) => {
            let origin = match tls {
                Some(tls) => origin.over(tls.clone()),
                None => origin,
            };
            let origin = origin.speaking(http2);
            Some(Arc::new(Target::new(Arc::new(origin), weight)))
        }
        Err(why) => {
            let diagnostic = Diagnostic::error("policy.bad_url", url.0.span(), why);
            build
                .diags
                .push(diagnostic.with_help("write `http://10.0.0.5:9000` or `https://orders.local`, without a path"));
            None
        }
    }
}

fn eject(doc: &EjectDoc, build: &mut Build<'_>) -> Option<Eject> {
    const CODE: &str = "policy.bad_value";
    const HELP: &str = "write `eject: { failures: 5, for: 30s, at_most: 50% }`";
    let mut cx = build.context();
    let failures = Some(doc.failures.value).filter(|failures| *failures > 0);
    let failures = failures.or_else(|| cx.refuse(CODE, doc.failures.span, "`failures` is above 0", HELP));
    let text = cx.literal(&doc.at_most)?;
    let percent = text.strip_suffix('%').and_then(|number| parse_digits::<u32>(number.trim()));
    let Some(percent) = percent.filter(|percent| (1..=100).contains(percent)) else {
        let message = format!("`at_most` is between 1% and 100%, not `{text}`");
        return cx.refuse(CODE, doc.at_most.span(), message, HELP);
    };
    Some(Eject { failures: failures?, for_: doc.duration.duration, at_most_percent: percent })
}

impl From<BalanceWord> for Balance {
    fn from(word: BalanceWord) -> Balance {
        match word {
            BalanceWord::RoundRobin => Balance::RoundRobin,
            BalanceWord::LeastRequests => Balance::LeastRequests,
            BalanceWord::Random => Balance::Random,
            BalanceWord::Hash => Balance::Hash,
            BalanceWord::Failover => Balance::Failover,
        }
    }
}

/// The text of `hash_by`, which stands exactly where it is used.
fn hash_by(doc: &UpstreamDoc, build: &mut Build<'_>) -> Option<Option<Arc<str>>> {
    let is_hash = matches!(doc.balance.value, BalanceWord::Hash);
    match &doc.hash_by {
        Some(text) if is_hash => {
            let span = text.span();
            let text = text.as_str();
            if text.contains("${") {
                return Some(Some(text.into()));
            }
            let help = "write `hash_by: \"${auth.subject}\"`, or another balance";
            build.context().refuse("policy.bad_value", span, "a fixed text sends everything to one target", help)
        }
        Some(text) => {
            let help = "write `balance: hash`, or remove `hash_by`";
            build.context().refuse("policy.bad_value", text.0.span(), "`hash_by` goes with `balance: hash`", help)
        }
        None if is_hash => {
            let help = "write what equal calls have in common: `hash_by: \"${auth.subject}\"`";
            build.context().refuse("policy.bad_value", doc.balance.span, "`balance: hash` needs `hash_by`", help)
        }
        None => Some(None),
    }
}

/// What the upstream sees as `Host`.
fn host_header(at: &Literal, build: &mut Build<'_>) -> Option<HostHeader> {
    match build.context().literal(at)?.as_str() {
        "upstream" => Some(HostHeader::Upstream),
        "client" => Some(HostHeader::Client),
        text => match HeaderValue::from_str(text) {
            Ok(value) if !text.is_empty() && !text.contains([' ', '/', '@']) => Some(HostHeader::Literal(value)),
            _ => {
                let message = format!("`{text}` is no host");
                build.diags.push(Diagnostic::error("policy.bad_host", at.0.span(), message));
                None
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::assertions::trial::{loads, service};

    fn built(more: &str) -> Arc<Upstream> {
        let document = format!("upstream: orders\ntargets: [\"http://127.0.0.1:9000\"]\n{more}\n---\n");
        loads(&format!("{document}{}", service("  - route: orders"))).upstreams[0].clone()
    }

    #[test]
    fn what_is_not_written_has_the_value_of_the_reference() {
        let plain = built("");
        assert!(matches!(plain.balance, Balance::RoundRobin) && plain.eject.is_none() && plain.check.is_none());
        assert_eq!((plain.host.clone(), plain.when_none_try_any), (HostHeader::Upstream, false));
        assert_eq!((plain.targets()[0].weight, plain.pool.max), (1, 0));
        let check = built("health: { path: /health }").check.clone().unwrap();
        assert_eq!((check.every, check.timeout), (Duration::from_secs(10), Duration::from_secs(2)));
        assert_eq!((check.patience.healthy_after, check.patience.unhealthy_after), (2, 3));
        assert_eq!(check.expect.iter().map(|status| status.as_u16()).collect::<Vec<_>>(), [200]);
        let eject = built("eject: { failures: 5, for: 30s }").eject.clone().unwrap();
        assert_eq!((eject.failures, eject.for_, eject.at_most_percent), (5, Duration::from_secs(30), 50));
    }
}
