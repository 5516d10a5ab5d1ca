//! `restrict_ip`: allows or refuses client addresses.
//!
//! `deny` wins over `allow`. IPv4-mapped IPv6 addresses (RFC 4291 §2.5.5.2) are compared as IPv4, on both
//! sides. Which address is the client's is settled before: through `trusted_proxies` only.

use std::net::IpAddr;

use http::StatusCode;
use ipnet::{IpNet, Ipv4Net};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::compile::{Assertion, Category, Compile, Compiled, Example, FaultDoc, Kind, Step};
use crate::engine::exchange::Exchange;
use crate::engine::program::{Plain, Verdict};
use crate::fault::Fault;
use crate::source::{Diagnostic, Literal, OneOrMany};

/// Bits of an IPv6 prefix that say "IPv4-mapped".
const MAPPED_PREFIX_BITS: u8 = 96;

pub const KIND: Kind = Kind {
    main: Some("allow"),
    faults: &[FaultDoc {
        code: "restrict_ip.refused",
        status: 403,
        doc: "The address is in `deny`, or not in `allow`. Behind a proxy: is it in `trusted_proxies`?",
    }],
    examples: &[Example {
        title: "Only from two networks, but not from the guests' part",
        yaml: r#"
service: example
match: { path: /items }
policy:
  - restrict_ip: { allow: [10.0.0.0/8, "2001:db8::/32"], deny: [10.9.0.0/16] }
  - respond: { status: 204 }
tests:
  - name: from within
    request: { client: { ip: 10.1.2.3 } }
    expect: { status: 204 }
  - name: from within, IPv6
    request: { client: { ip: "2001:db8::7" } }
    expect: { status: 204 }
  - name: a mapped address is an IPv4 address
    request: { client: { ip: "::ffff:10.1.2.3" } }
    expect: { status: 204 }
  - name: deny wins
    request: { client: { ip: 10.9.0.1 } }
    expect: { status: 403, fault: restrict_ip.refused }
  - name: from elsewhere
    request: { client: { ip: 203.0.113.9 } }
    expect: { status: 403, fault: restrict_ip.refused }
"#,
    }],
    ..Kind::of::<RestrictIp>("restrict_ip", "Allows or refuses client addresses.", Category::Threats)
};

/// Parameters of `restrict_ip`. At least one of `allow` and `deny`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RestrictIp {
    /// Networks or addresses that may pass; all without it.
    #[serde(default)]
    allow: Option<OneOrMany<Literal>>,
    /// Networks or addresses that may not, whatever `allow` says.
    #[serde(default)]
    deny: Option<OneOrMany<Literal>>,
    /// Which address: the client's, as trusted proxies tell it, or that of the peer of the connection.
    #[serde(default)]
    source: Source,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "snake_case")]
enum Source {
    #[default]
    Client,
    Peer,
}

impl Assertion for RestrictIp {
    fn compile(self, step: &Step<'_>, cx: &mut Compile<'_>) -> Option<Compiled> {
        if self.allow.is_none() && self.deny.is_none() {
            let help = "write `restrict_ip: { allow: [10.0.0.0/8] }`";
            return cx.refuse("policy.missing_parameter", step.span, "neither `allow` nor `deny` is given", help);
        }
        if self.allow.as_ref().is_some_and(OneOrMany::is_empty) {
            let help = "name a network, or leave `allow` out";
            return cx.refuse("policy.empty_list", step.span, "an empty `allow` refuses everyone", help);
        }
        let allow = self.allow.as_ref().map(|list| networks(cx, list));
        let deny = networks(cx, &self.deny.unwrap_or_default());
        let allow = match allow {
            None => None,
            Some(networks) => Some(networks?),
        };
        Compiled::plain(RestrictIpStep { rules: Rules { allow, deny: deny? }, source: self.source })
    }
}

fn networks(cx: &mut Compile<'_>, list: &OneOrMany<Literal>) -> Option<Vec<IpNet>> {
    let read: Vec<Option<IpNet>> = list.iter().map(|literal| network(cx, literal)).collect();
    read.into_iter().collect()
}

fn network(cx: &mut Compile<'_>, literal: &Literal) -> Option<IpNet> {
    let text = cx.literal(literal)?;
    let parsed = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    let Some(written) = parsed else {
        let message = format!("`{text}` is no network and no address");
        let help = "write `10.0.0.0/8`, `192.0.2.7` or `\"2001:db8::/32\"`";
        return cx.refuse("policy.bad_value", literal.span(), message, help);
    };
    if written.trunc() != written {
        let message = format!("`{text}` names a whole network, {}", written.trunc());
        let diagnostic = Diagnostic::warning("policy.host_bits", literal.span(), message);
        cx.report(diagnostic.with_help("write the network, or the address without `/`"));
    }
    Some(unmapped(written.trunc()))
}

/// A network of IPv4-mapped addresses, as IPv4.
fn unmapped(network: IpNet) -> IpNet {
    match network {
        IpNet::V6(v6) if v6.prefix_len() >= MAPPED_PREFIX_BITS => {
            let v4 = v6.network().to_ipv4_mapped();
            let net = v4.and_then(|address| Ipv4Net::new(address, v6.prefix_len() - MAPPED_PREFIX_BITS).ok());
            net.map_or(network, IpNet::V4)
        }
        other => other,
    }
}

#[derive(Debug)]
struct Rules {
    allow: Option<Vec<IpNet>>,
    deny: Vec<IpNet>,
}

impl Rules {
    fn allow(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let is_in = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&address));
        !is_in(&self.deny) && self.allow.as_deref().is_none_or(is_in)
    }
}

struct RestrictIpStep {
    rules: Rules,
    source: Source,
}

impl Plain for RestrictIpStep {
    fn check(&self, x: &mut Exchange) -> Verdict {
        let address = match self.source {
            Source::Client => x.client.ip,
            Source::Peer => x.client.peer_ip,
        };
        if self.rules.allow(address) {
            return Verdict::Passed;
        }
        let detail = format!("{address} may not pass");
        Verdict::Fault(Fault::denied(StatusCode::FORBIDDEN, "restrict_ip.refused", detail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assertions::trial::{Trial, refusals};

    fn rules(allow: Option<&[&str]>, deny: &[&str]) -> Rules {
        let parse = |list: &[&str]| list.iter().map(|text| unmapped(text.parse().unwrap())).collect();
        Rules { allow: allow.map(parse), deny: parse(deny) }
    }

    fn allows(rules: &Rules, address: &str) -> bool {
        rules.allow(address.parse().unwrap())
    }

    #[test]
    fn deny_wins_and_a_list_not_matched_refuses() {
        let both = rules(Some(&["10.0.0.0/8", "2001:db8::/32"]), &["10.9.0.0/16"]);
        assert!(allows(&both, "10.1.2.3") && allows(&both, "2001:db8::7"));
        assert!(!allows(&both, "10.9.0.1") && !allows(&both, "192.0.2.1") && !allows(&both, "2001:db9::1"));
        let only_deny = rules(None, &["192.0.2.1/32"]);
        assert!(allows(&only_deny, "192.0.2.2") && !allows(&only_deny, "192.0.2.1"));
    }

    #[test]
    fn mapped_addresses_are_ipv4_on_both_sides() {
        let plain = rules(Some(&["10.0.0.0/8"]), &[]);
        assert!(allows(&plain, "::ffff:10.1.2.3") && !allows(&plain, "::ffff:11.1.2.3"));
        let mapped = rules(Some(&["::ffff:10.0.0.0/104"]), &[]);
        assert!(allows(&mapped, "10.1.2.3") && !allows(&mapped, "11.1.2.3"));
        let denied = rules(None, &["10.0.0.0/8"]);
        assert!(!allows(&denied, "::ffff:10.1.2.3"));
    }

    #[test]
    fn the_source_is_the_client_or_the_peer() {
        let status = |params: &str| {
            let trial = Trial::of(&format!("  - restrict_ip: {params}\n  - respond: 204"));
            trial.client.set("10.1.2.3".parse().unwrap());
            trial.get("/").status
        };
        assert_eq!((status("10.0.0.0/8"), status("192.0.2.7")), (204, 403));
        assert_eq!(status("{ allow: 10.0.0.0/8, source: peer }"), 403);
        assert_eq!(status("{ allow: 192.0.2.7, source: peer }"), 204);
        assert_eq!(refusals("  - restrict_ip: { source: peer }\n  - respond: 204"), ["policy.missing_parameter"]);
        assert_eq!(refusals("  - restrict_ip: []\n  - respond: 204"), ["policy.empty_list"]);
    }
}
