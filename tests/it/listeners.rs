//! Listeners of a running gateway beside the ordinary one.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::harness::{Gateway, PATIENCE};

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
