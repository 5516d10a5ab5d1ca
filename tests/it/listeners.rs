//! Listeners of a running gateway beside the ordinary one.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::harness::{Folder, Gateway, PATIENCE, gatewright};

const WHO: &str =
    "service: who\nmatch: { path: /who }\npolicy: [{ respond: { text: \"${request.client.ip} ${request.host}\" } }]\n";

#[test]
fn clients_come_in_over_ipv6() {
    let six = "listeners: [{ name: main, address: \"[::1]:0\" }]\nadmin: { address: 127.0.0.1:0 }\n";
    let gateway = Gateway::start(&[("gateway.yaml", six), ("policies/who.yaml", WHO)]);
    assert_eq!(gateway.get("/who").body, "::1 [::1]");
    assert_eq!(gateway.record("/who")["client_ip"], "::1");
}

#[test]
fn the_client_that_a_proxy_names_is_the_client() {
    let behind = "listeners: [{ name: main, address: 127.0.0.1:0, proxy_protocol: 127.0.0.1 }]\nadmin: { address: 127.0.0.1:0 }\n";
    let gateway = Gateway::start(&[("gateway.yaml", behind), ("policies/who.yaml", WHO)]);
    let mut tcp = TcpStream::connect(gateway.main).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    tcp.write_all(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\x0a\0\0\x01\x12\x34\x01\xbb").unwrap();
    tcp.write_all(b"GET /who HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("192.0.2.7 a.test"), "{answer}");
    assert_eq!(gateway.record("/who")["client_ip"], "192.0.2.7");
}

const LOCAL: &str = "\
listeners:
  - { name: main, address: 127.0.0.1:0 }
  - { name: local, address: unix:gw.sock, mode: 660, trusted_proxies: 127.0.0.1 }
admin: { address: 127.0.0.1:0 }
drain: 20s
";

/// What comes back over a Unix socket for one request.
fn ask(path: &Path, more: &str) -> String {
    let mut unix = UnixStream::connect(path).unwrap();
    unix.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(unix, "GET /who HTTP/1.1\r\nhost: a.test\r\n{more}connection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    unix.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_unix_socket_lets_in_whom_its_mode_lets_in_and_leaves_nothing_behind() {
    let folder = Folder::with(&[("gateway.yaml", LOCAL), ("policies/who.yaml", WHO)]);
    let socket = folder.path("gw.sock");
    let gateway = Gateway::serve(folder);
    assert_eq!(gateway.address_of("local"), "unix:gw.sock");
    let metadata = std::fs::symlink_metadata(&socket).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o660);
    // A process of this machine, or the client for whom such a one asks.
    for (more, seen) in [("", "127.0.0.1"), ("x-forwarded-for: 192.0.2.7\r\n", "192.0.2.7")] {
        assert!(ask(&socket, more).ends_with(&format!("{seen} a.test")));
        let record = gateway.record("/who");
        assert_eq!((record["listener"].as_str(), record["client_ip"].as_str()), (Some("local"), Some(seen)));
    }

    // What a crash has left is taken away by the next one.
    let folder = gateway.kill();
    assert!(socket.exists());
    let mut gateway = Gateway::serve(folder);
    assert!(ask(&socket, "").ends_with("127.0.0.1 a.test"));
    // One that serves is not, and whatever else stands there is not touched either.
    let said = gatewright(&gateway.folder.0, &["run"]);
    assert!(said.code == 1 && said.err.contains("cannot listen on"), "{}", said.err);
    let open = UnixStream::connect(&socket).unwrap();
    gateway.signal("TERM");
    gateway.logged("draining");
    drop(open);
    gateway.ends_well();
    assert!(!socket.exists(), "the file is gone with the gateway");
}

#[test]
fn what_is_no_socket_is_left_where_it_is() {
    let folder = Folder::with(&[("gateway.yaml", LOCAL), ("policies/who.yaml", WHO), ("gw.sock", "a note")]);
    let said = gatewright(&folder.0, &["run"]);
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(said.err.contains("something that is no socket stands there"), "{}", said.err);
    assert_eq!(std::fs::read_to_string(folder.path("gw.sock")).unwrap(), "a note");
}
