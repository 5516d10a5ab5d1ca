//! Whose fault an answer is that did not come to its end: as its record says.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, mpsc};

use crate::harness::{Gateway, PATIENCE};
use crate::misbehaving::{Then, serve};

/// An upstream that begins an answer before it has read the request's body, or never answers; and what it was asked.
fn upstream() -> (SocketAddr, mpsc::Receiver<String>) {
    let (asked, paths) = mpsc::channel();
    let asked = Mutex::new(asked);
    let address = serve(Arc::new(move |path, _| {
        asked.lock().unwrap().send(path.to_owned()).unwrap();
        let begun = match path {
            "/silent" => "",
            _ => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        };
        (begun.as_bytes().to_vec(), Then::Hang)
    }));
    (address, paths)
}

fn gateway(upstream: SocketAddr) -> Gateway {
    let config = "version: 1\nlisteners: [{ name: main, address: 127.0.0.1:0 }]\nadmin: { address: 127.0.0.1:0 }\n\
                  workers: 1\ndrain: 100ms\nlimits: { body_idle: 300ms, body_streamed: 1KiB, body_buffered: 1KiB }\n";
    let policy = format!(
        "service: up\nmatch: {{ path: \"/{{*rest}}\" }}\npolicy:\n  - route: {{ to: \"http://{upstream}\" }}\n"
    );
    Gateway::start(&[("gateway.yaml", config), ("policies/up.yaml", &policy)])
}

fn begin(gateway: &Gateway, request: &str) -> TcpStream {
    let mut tcp = TcpStream::connect(gateway.main).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    tcp.write_all(request.as_bytes()).unwrap();
    tcp
}

#[test]
fn what_a_client_breaks_off_is_not_the_upstreams_fault() {
    let (upstream, _paths) = upstream();
    let gateway = gateway(upstream);
    let large = format!("500\r\n{}\r\n", "x".repeat(0x500));
    for (path, tail, fault) in [
        ("/chunk", "zz\r\n", "body.broken"),
        ("/idle", "5\r\nhe", "body.timeout"),
        ("/large", &large, "body.too_large"),
    ] {
        let head = format!("POST {path} HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n");
        let mut client = begin(&gateway, &head);
        let mut answered = Vec::new();
        while !answered.ends_with(b"hello\r\n") {
            let mut byte = [0];
            client.read_exact(&mut byte).unwrap();
            answered.extend(byte);
        }
        client.write_all(tail.as_bytes()).unwrap();
        let record = gateway.record(path);
        assert_eq!((&record["outcome"], &record["fault"]), (&"broken".into(), &fault.into()), "{record}");
    }
}

#[test]
fn what_a_drain_cuts_is_not_the_clients_fault() {
    let (upstream, paths) = upstream();
    let mut gateway = gateway(upstream);
    let silent = begin(&gateway, "GET /silent HTTP/1.1\r\nhost: a.test\r\n\r\n");
    let begun = begin(&gateway, "GET /begun HTTP/1.1\r\nhost: a.test\r\n\r\n");
    begun.peek(&mut [0]).unwrap();
    let mut asked = [paths.recv_timeout(PATIENCE).unwrap(), paths.recv_timeout(PATIENCE).unwrap()];
    asked.sort();
    assert_eq!(asked, ["/begun", "/silent"]);
    gateway.signal("TERM");
    let mut records = [gateway.any_record(), gateway.any_record()];
    records.sort_by_key(|record| record["path"].to_string());
    for (record, status) in records.iter().zip([200, 503]) {
        assert_eq!(record["fault"], "gateway.drained", "{record}");
        assert_eq!((&record["outcome"], &record["status"]), (&"broken".into(), &status.into()), "{record}");
    }
    gateway.ends_well();
    drop((silent, begun));
}
