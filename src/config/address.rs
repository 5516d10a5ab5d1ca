//! Addresses of gateway.yaml: where to listen, and whom to trust.

use std::net::SocketAddr;
use std::path::Path;

use ipnet::IpNet;

use crate::server::Address;
use crate::source::{Diagnostic, Diagnostics, Literal, Span};

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

/// Longest path of a Unix socket, in bytes: `sun_path` of Linux holds 108 with the zero behind it.
const SOCKET_PATH_MAX: usize = 107;
/// Longest name of a passed socket (systemd.socket(5), `FileDescriptorName=`).
const PASSED_NAME_MAX: usize = 255;
/// Mode of a Unix socket where gateway.yaml does not say: the gateway's own user.
const SOCKET_MODE: u32 = 0o600;

/// Reads where a listener stands: `ADDRESS:PORT`, `unix:PATH` with its `mode`, or `systemd:NAME`.
pub(super) fn listening_address(
    text: &Literal,
    mode: Option<&Literal>,
    base: &Path,
    diags: &mut Diagnostics,
) -> Option<Address> {
    let word = text.as_str();
    let unix = word.strip_prefix("unix:");
    // Of an address that stands nowhere, because the one that was written is wrong, nobody knows what it was meant to be.
    let is_known = text.span() != Span::NOWHERE;
    if let Some(mode) = mode.filter(|_| unix.is_none() && is_known) {
        let help = "take it out, or write `address: unix:/run/gatewright/main.sock`";
        diags.push(Diagnostic::error("config.bad_mode", mode.span(), "only a Unix socket has a mode").with_help(help));
    }
    match (unix, word.strip_prefix("systemd:")) {
        (Some(path), _) => {
            let mode = mode.map_or(Some(SOCKET_MODE), |mode| socket_mode(mode, diags));
            let path = socket_path(text, path, base, diags);
            Some(Address::Unix { path: path?, mode: mode? })
        }
        (_, Some(name)) => {
            let is_name = (1..=PASSED_NAME_MAX).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
            if !is_name {
                let message = format!("`{name}` is no name of a passed socket");
                let help = "write what the .socket unit says under `FileDescriptorName=`: `systemd:main`";
                diags.push(Diagnostic::error("config.bad_address", text.span(), message).with_help(help));
            }
            is_name.then(|| Address::Passed(name.into()))
        }
        _ => socket_address(text, diags).map(Address::Tcp),
    }
}

fn socket_path(text: &Literal, path: &str, base: &Path, diags: &mut Diagnostics) -> Option<std::path::PathBuf> {
    let whole = base.join(path);
    let bytes = whole.as_os_str().len();
    let message = match path {
        "" => "the path of the socket is missing".to_owned(),
        // Abstract names (unix(7)) have no file and no mode: every process of the machine could connect.
        _ if path.starts_with('@') => "abstract sockets are not taken: nothing says who may connect".to_owned(),
        _ if path.ends_with('/') => format!("`{path}` is a folder"),
        _ if bytes > SOCKET_PATH_MAX => {
            format!("the path is {bytes} bytes long, and the system takes {SOCKET_PATH_MAX}")
        }
        _ => return Some(whole),
    };
    let help = "write `unix:/run/gatewright/main.sock`";
    diags.push(Diagnostic::error("config.bad_address", text.span(), message).with_help(help));
    None
}

fn socket_mode(text: &Literal, diags: &mut Diagnostics) -> Option<u32> {
    let word = text.as_str();
    let is_octal = (3..=4).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_digit());
    let mode = u32::from_str_radix(word, 8).ok().filter(|mode| is_octal && *mode <= 0o777);
    if mode.is_none() {
        let message = format!("`{word}` is no mode of a socket");
        let help = "write three octal digits as for chmod: `mode: \"660\"` lets the group in";
        diags.push(Diagnostic::error("config.bad_mode", text.span(), message).with_help(help));
    }
    mode
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
