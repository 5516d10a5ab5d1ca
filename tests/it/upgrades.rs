//! Upgraded connections of a running gateway: what is tunnelled, what is not, and how tunnels end.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};

use crate::harness::{Folder, Gateway, PATIENCE};

const AGREED: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nsec-websocket-accept: x\r\n";

/// Reads up to the empty line behind a head; nothing where the other side closes.
fn head(stream: &mut TcpStream) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap().to_ascii_lowercase()
}

/// Answers each request by its path, after an upgrade with whatever comes. The heads that it sees are given on.
fn upstream() -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (heads, seen) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let heads = heads.clone();
            std::thread::spawn(move || answer(stream.unwrap(), &heads));
        }
    });
    (address, seen)
}

fn answer(mut stream: TcpStream, heads: &Sender<String>) {
    loop {
        let head = head(&mut stream);
        let Some(path) = head.split(' ').nth(1).map(str::to_owned) else { return };
        // Nobody listens any more when the test is over.
        let _ = heads.send(head);
        match path.as_str() {
            "/plain" => stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno").unwrap(),
            "/other" => stream.write_all(format!("{AGREED}upgrade: other\r\n\r\n").as_bytes()).unwrap(),
            "/chat" => {
                stream.write_all(format!("{AGREED}upgrade: WebSocket\r\n\r\nfirst").as_bytes()).unwrap();
                let mut space = [0; 1024];
                while let Ok(read @ 1..) = stream.read(&mut space) {
                    if stream.write_all(&space[..read]).is_err() {
                        return;
                    }
                }
                return;
            }
            _ => stream.write_all(format!("{AGREED}upgrade: websocket\r\n\r\n").as_bytes()).unwrap(),
        }
    }
}

/// A gateway before the upstream: `/chat`, `/plain` and `/other` may upgrade, `/unasked` may not.
fn gateway(upstream: SocketAddr, more: &str) -> Gateway {
    let basics = "listeners: [{ name: main, address: 127.0.0.1:0 }]\nadmin: { address: 127.0.0.1:0 }\nworkers: 1\n";
    let open = |name: &str| {
        format!(
            "service: {name}\nmatch: {{ path: /{name} }}\npolicy: [{{ route: {{ to: \"http://{upstream}\", upgrade: websocket }} }}]\n"
        )
    };
    let closed =
        format!("service: unasked\nmatch: {{ path: /unasked }}\npolicy: [{{ route: \"http://{upstream}\" }}]\n");
    let policies = [open("chat"), open("plain"), open("other"), closed].join("---\n");
    Gateway::serve(Folder::with(&[("gateway.yaml", &format!("{basics}{more}")), ("policies/all.yaml", &policies)]))
}

fn asking(path: &str, protocol: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: a.test\r\nconnection: keep-alive, Upgrade\r\nupgrade: {protocol}\r\n\r\n")
}

fn connect(gateway: &Gateway) -> TcpStream {
    let stream = TcpStream::connect(gateway.main).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A tunnel, up to the upstream's first bytes.
fn tunnel(gateway: &Gateway) -> TcpStream {
    let mut client = connect(gateway);
    client.write_all(asking("/chat", "websocket").as_bytes()).unwrap();
    let head = head(&mut client);
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    for field in ["connection: upgrade\r\n", "upgrade: websocket\r\n", "sec-websocket-accept: x\r\n"] {
        assert!(head.contains(field), "{head}");
    }
    let mut first = [0; 5];
    client.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"first");
    client
}

#[test]
fn an_upgraded_connection_carries_bytes_and_is_recorded_at_its_end() {
    let (address, seen) = upstream();
    let gateway = gateway(address, "");
    let mut client = tunnel(&gateway);
    let head = seen.recv_timeout(PATIENCE).unwrap();
    assert!(head.contains("\r\nupgrade: websocket\r\n") && head.contains("\r\nconnection: upgrade\r\n"), "{head}");
    gateway.admin_until("/metrics", |answer| answer.body.contains("\ngatewright_tunnels 1\n"));
    // Nothing of it is read as HTTP, however it looks.
    let text = "GET /plain HTTP/1.1\r\nhost: a.test\r\n\r\n".repeat(1000);
    let mut writer = client.try_clone().unwrap();
    let sent = text.clone();
    let writing = std::thread::spawn(move || {
        writer.write_all(sent.as_bytes()).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut echoed = String::new();
    client.read_to_string(&mut echoed).unwrap();
    writing.join().unwrap();
    assert!(echoed == text, "{} of {} bytes came back", echoed.len(), text.len());
    let record = gateway.record("/chat");
    assert_eq!((record["status"].as_u64(), record["outcome"].as_str()), (Some(101), Some("sent")), "{record}");
    let (bytes_in, bytes_out) = (text.len() as u64, text.len() as u64 + 5);
    assert_eq!((record["bytes_in"].as_u64(), record["bytes_out"].as_u64()), (Some(bytes_in), Some(bytes_out)));
    gateway.admin_until("/metrics", |answer| answer.body.contains("\ngatewright_tunnels 0\n"));
    assert!(seen.try_recv().is_err(), "the upstream saw another request");
}

#[test]
fn an_upgrade_that_the_upstream_does_not_want_leaves_http_behind() {
    let (address, seen) = upstream();
    let gateway = gateway(address, "");
    let mut client = connect(&gateway);
    // What stands behind it is a request and no part of a tunnel (CVE-2026-2833).
    client.write_all((asking("/plain", "websocket") + &asking("/plain", "websocket")).as_bytes()).unwrap();
    for _ in 0..2 {
        let head = head(&mut client);
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        let mut body = [0; 2];
        client.read_exact(&mut body).unwrap();
        assert_eq!(&body, b"no");
        assert_eq!(gateway.record("/plain")["status"], 200);
    }
    assert_eq!(seen.try_iter().count(), 2);
}

#[test]
fn only_what_a_route_allows_is_asked_for() {
    let (address, seen) = upstream();
    let gateway = gateway(address, "");
    let ask = |request: &str| {
        let mut client = connect(&gateway);
        client.write_all(request.as_bytes()).unwrap();
        head(&mut client)
    };
    let refused = ask(&asking("/chat", "tls/1.0"));
    assert!(refused.starts_with("http/1.1 426 ") && refused.contains("\r\nupgrade: websocket\r\n"), "{refused}");
    assert_eq!(gateway.record("/chat")["fault"], "route.upgrade_refused");
    let with_body = asking("/chat", "websocket").replace("host:", "content-length: 1\r\nhost:") + "x";
    assert!(ask(&with_body).starts_with("http/1.1 426 "));
    assert!(seen.try_recv().is_err(), "the upstream was asked");

    // Who does not ask for an upgrade gets none, nor does one whose route allows none; an upstream that upgrades
    // by itself is not believed.
    let plain = ask("GET /chat HTTP/1.1\r\nhost: a.test\r\nupgrade: websocket\r\n\r\n");
    assert!(plain.starts_with("http/1.1 502 "), "{plain}");
    let h2c =
        asking("/unasked", "h2c").replace("Upgrade\r\n", "Upgrade, HTTP2-Settings\r\nhttp2-settings: AAMAAABk\r\n");
    for request in [asking("/unasked", "websocket"), h2c] {
        assert!(ask(&request).starts_with("http/1.1 502 "), "{request}");
        assert_eq!(gateway.record("/unasked")["fault"], "route.bad_answer");
    }
    for head in seen.try_iter() {
        assert!(!head.contains("upgrade") && !head.contains("http2-settings"), "{head}");
    }
    assert!(ask(&asking("/other", "websocket")).starts_with("http/1.1 502 "));
    assert_eq!(gateway.record("/other")["fault"], "route.bad_answer");
}

#[test]
fn a_silent_tunnel_ends_in_time() {
    let (address, _seen) = upstream();
    let gateway = gateway(address, "limits: { tunnel_idle: 200ms }\n");
    let mut client = tunnel(&gateway);
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).unwrap();
    assert_eq!((rest.len(), gateway.record("/chat")["outcome"].as_str()), (0, Some("sent")));
}

#[test]
fn a_drain_gives_tunnels_its_time_and_no_more() {
    let (address, _seen) = upstream();
    let mut gateway = gateway(address, "drain: 500ms\n");
    let mut client = tunnel(&gateway);
    gateway.signal("TERM");
    gateway.logged("draining");
    client.write_all(b"still here").unwrap();
    let mut echoed = [0; 10];
    client.read_exact(&mut echoed).unwrap();
    assert_eq!(&echoed, b"still here");
    let mut rest = Vec::new();
    // The end of the time is the end of the connection.
    let _ = client.read_to_end(&mut rest);
    assert_eq!(rest.len(), 0);
    gateway.ends_well();
}
