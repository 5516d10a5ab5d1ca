//! Addresses of gateway.yaml: where to listen, and whom to trust.

use std::net::SocketAddr;

use ipnet::IpNet;

use crate::source::{Diagnostic, Diagnostics, Literal};

/// Reads `ADDRESS:PORT`. Names are not looked up: what a listener binds must not depend on a resolver.
pub(super) fn socket_address(text: &Literal, diags: &mut Diagnostics) -> Option<SocketAddr> {
    let address = text.as_str().parse();
    if address.is_err() {
        let message = format!("`{}` is no address with a port", text.as_str());
        let help = "write `127.0.0.1:8080`, `0.0.0.0:8080` for all addresses of the machine, or `[::1]:8080`";
        diags.push(Diagnostic::error("config.bad_address", text.span(), message).with_help(help));
    }
    address.ok()
}

/// Reads the admin address: loopback only, because the admin interface asks for no credential
/// (CVE-2020-13945, CVE-2022-24112: admin interfaces that a network could reach).
pub(super) fn admin_address(text: &Literal, diags: &mut Diagnostics) -> Option<SocketAddr> {
    let address = socket_address(text, diags)?;
    if !address.ip().is_loopback() {
        let message = format!("`{address}` can be reached from other machines");
        let help = "the admin interface asks for no credential in this version and listens on loopback only: write `127.0.0.1:9901`";
        diags.push(Diagnostic::error("config.admin_not_loopback", text.span(), message).with_help(help));
        return None;
    }
    Some(address)
}

/// Reads a network, or an address as the network of one.
pub(super) fn network(text: &Literal, diags: &mut Diagnostics) -> Option<IpNet> {
    let word = text.as_str();
    let network = word.parse::<IpNet>().or_else(|_| word.parse().map(|ip: std::net::IpAddr| IpNet::from(ip)));
    if network.is_err() {
        let message = format!("`{word}` is no network");
        let help = "write `10.0.0.0/8`, `2001:db8::/32`, or one address";
        diags.push(Diagnostic::error("config.bad_network", text.span(), message).with_help(help));
    }
    network.ok()
}
