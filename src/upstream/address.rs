//! Which addresses a call may reach: the last gate against requests to hosts that somebody else chose.
//!
//! It judges addresses after the lookup, so a name that changes its address between check and use
//! gains nothing. Which hosts may be named at all is the policy's decision, not made here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;

/// Addresses that a call may connect to.
#[derive(Clone, Debug, Default)]
pub enum Addresses {
    /// The operator wrote the host: no bound.
    #[default]
    Any,
    /// Somebody else chose the host: public unicast addresses and these networks.
    Public(Arc<[IpNet]>),
}

impl Addresses {
    /// Whether the address may be connected to.
    pub fn allow(&self, address: IpAddr) -> bool {
        match self {
            Addresses::Any => true,
            Addresses::Public(also) => {
                let address = address.to_canonical();
                is_public(address) || also.iter().any(|network| network.contains(&address))
            }
        }
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// Not in the special-purpose registry of RFC 6890 and its updates.
fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = a == 0
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || (a == 100 && b & 0xc0 == 64)
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && b & 0xfe == 18)
        || a >= 224;
    !special
}

/// Global unicast (RFC 4291 §2.4) that does not carry an IPv4 address of another kind inside.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let v4 = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match [a, b] {
        [0x64, 0xff9b] if [c, d, e, f] == [0; 4] => is_public_v4(v4(g, h)), // RFC 6052
        [0x2002, _] => is_public_v4(v4(b, c)),                              // RFC 3056
        [0x2001, 0xdb8] => false,                                           // RFC 3849
        [0x2001, low] if low < 0x200 => false,                              // RFC 2928, Teredo among them
        [0x3fff, low] if low < 0x1000 => false,                             // RFC 9637
        _ => a & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_pass() {
        let rule = Addresses::Public(Arc::from(["10.1.0.0/16".parse::<IpNet>().unwrap()]));
        for (text, allowed) in [
            ("93.184.216.34", true),
            ("2606:2800:220:1::1", true),
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("10.2.0.1", false),
            ("127.0.0.1", false),
            ("0.0.0.0", false),
            ("169.254.169.254", false),
            ("100.64.0.1", false),
            ("192.168.0.1", false),
            ("198.19.0.1", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("::1", false),
            ("::", false),
            ("::ffff:127.0.0.1", false),
            ("fe80::1", false),
            ("fd00::1", false),
            ("ff02::1", false),
            ("64:ff9b::7f00:1", false),
            ("64:ff9b::808:808", true),
            ("2002:7f00:1::", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(rule.allow(text.parse().unwrap()), allowed, "{text}");
        }
        assert!(Addresses::Any.allow("127.0.0.1".parse().unwrap()));
    }
}
