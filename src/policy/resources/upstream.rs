//! `upstream:`, targets behind one name.

use std::sync::Arc;

use http::HeaderValue;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::compile::calling::CallingDoc;
use crate::compile::resources::Resources;
use crate::compile::sending::TimeoutsDoc;
use crate::policy::resources::{Build, ResourceKind};
use crate::source::{Diagnostic, Diagnostics, DurationValue, Literal, Name, Node, OneOrMany, Spanned, read};
use crate::tls::Calling;
use crate::upstream::{Balance, Eject, HostHeader, Http2, Origin, PoolLimits, Target, Upstream};

pub const KIND: ResourceKind = ResourceKind {
    word: "upstream",
    summary: "Targets behind one name, used in order or in turn.",
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
    targets: OneOrMany<Node>,
    /// How a target is chosen.
    #[serde(default)]
    balance: BalanceWord,
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
    /// With every target ejected: answer 503, or try the one that failed least recently.
    #[serde(default)]
    when_none: WhenNone,
}

/// Connections to a target.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct PoolDoc {
    /// How long an unused connection is kept: `30s`.
    idle: Option<DurationValue>,
    /// Unused connections that are kept: 64.
    max_idle: Option<Spanned<usize>>,
    /// Connections at all, 0 for no bound; calls above it wait, within their `connect`.
    max: Option<usize>,
    /// Whether HTTP/2 is spoken.
    http2: Http2Word,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
enum Http2Word {
    /// To `https://` targets that want it.
    #[default]
    Auto,
    /// To `http://` targets too, without asking.
    Always,
    /// HTTP/1.1 is spoken.
    Never,
}

impl PoolDoc {
    /// The bounds; one that would close each connection after its call is refused.
    fn limits(&self, diags: &mut Diagnostics) -> Option<PoolLimits> {
        let usual = PoolLimits::default();
        let idle = self.idle.filter(|idle| idle.duration.is_zero()).map(|idle| idle.span);
        let none = self.max_idle.filter(|most| most.value == 0).map(|most| most.span);
        if let Some(span) = idle.or(none) {
            let message = "every call would open a connection of its own";
            let help = "leave it out, or write what is above zero";
            diags.push(Diagnostic::error("policy.bad_value", span, message).with_help(help));
            return None;
        }
        Some(PoolLimits {
            idle: self.idle.map_or(usual.idle, |idle| idle.duration),
            max_idle: self.max_idle.map_or(usual.max_idle, |most| most.value),
            max: self.max.unwrap_or(usual.max),
        })
    }

    fn http2(&self) -> Http2 {
        match self.http2 {
            Http2Word::Auto => Http2::Auto,
            Http2Word::Always => Http2::Always,
            Http2Word::Never => Http2::Never,
        }
    }
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

fn one() -> u32 {
    1
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
enum BalanceWord {
    /// In turn, by weight.
    #[default]
    RoundRobin,
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
    failures: u32,
    /// How long it is left alone.
    #[serde(rename = "for")]
    duration: DurationValue,
    /// Share of the targets that may be ejected at a time.
    #[serde(default = "half")]
    at_most: String,
}

fn half() -> String {
    "50%".into()
}

fn build(name: &Name, node: &Node, build: &mut Build<'_>, resources: &mut Resources) {
    let upstream = upstream(name, node, build).map(Arc::new);
    resources.upstreams.insert(name.name.as_str().into(), upstream);
}

fn upstream(name: &Name, node: &Node, build: &mut Build<'_>) -> Option<Upstream> {
    let doc: UpstreamDoc = read(node, None, "an upstream", build.diags)?;
    let tls = match &doc.tls {
        Some(tls) => Some(CallingDoc::calling(tls, &mut build.context())?),
        None => None,
    };
    let pool = doc.pool.limits(build.diags)?;
    let http2 = doc.pool.http2();
    let targets = doc.targets.iter().map(|node| target(node, tls.as_ref(), http2, build)).collect::<Vec<_>>();
    let targets = targets.into_iter().collect::<Option<Vec<_>>>()?;
    if let Some(tls) = doc.tls.as_ref().filter(|_| !targets.iter().any(|target| target.origin.https)) {
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
    upstream.pool = pool;
    upstream.balance = match doc.balance {
        BalanceWord::RoundRobin => Balance::RoundRobin,
        BalanceWord::Failover => Balance::Failover,
    };
    upstream.eject = match &doc.eject {
        Some(eject) => Some(self::eject(eject, name, build)?),
        None => None,
    };
    upstream.timeouts = doc.timeouts.or_default();
    upstream.when_none_try_any = matches!(doc.when_none, WhenNone::TryAny);
    if let Some(host) = &doc.host {
        let word = build.context().literal(host)?;
        upstream.host = host_header(&word, host, build)?;
    }
    Some(upstream)
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

fn eject(doc: &EjectDoc, name: &Name, build: &mut Build<'_>) -> Option<Eject> {
    let percent = doc.at_most.strip_suffix('%').and_then(|number| number.trim().parse::<u32>().ok());
    match percent {
        Some(percent) if (1..=100).contains(&percent) && doc.failures > 0 => {
            Some(Eject { failures: doc.failures, for_: doc.duration.duration, at_most_percent: percent })
        }
        _ => {
            let message = "`eject` wants `failures` above 0 and `at_most` between 1% and 100%";
            build.diags.push(Diagnostic::error("policy.bad_value", name.span, message));
            None
        }
    }
}

/// What the upstream sees as `Host`.
fn host_header(word: &str, at: &Literal, build: &mut Build<'_>) -> Option<HostHeader> {
    match word {
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
