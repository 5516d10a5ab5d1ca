//! PROXY headers over real sockets: whose address counts, and who may say so.

use super::*;
use crate::tls::testing::{Authority, Folder, listening};

/// A header for a client at 192.0.2.7, which has reached 10.0.0.1:443.
const HEADER: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0f\xc0\0\x02\x07\x0a\0\0\x01\x12\x34\x01\xbb\x04\0\0";

fn announced(limits: Limits, proxies: &str) -> Bench {
    start_listening(1, limits, 0, |listener| listener.announcing_proxies = [proxies.parse().unwrap()].into())
}

#[test]
fn a_listed_proxy_says_for_whom_a_connection_is() {
    let bench = announced(Limits { connections_per_client: 1, ..Limits::default() }, "127.0.0.0/8");
    let mut client = bench.connect();
    // Byte by byte, and the request in the same packet as the last one.
    let all = [HEADER, get("/client").as_bytes()].concat();
    for byte in &all[..30] {
        client.tcp.write_all(&[*byte]).unwrap();
    }
    client.tcp.write_all(&all[30..]).unwrap();
    assert_eq!(client.answer().body, "192.0.2.7 http");

    // Its connections count for the client, and not for the proxy.
    let mut second = bench.connect();
    second.tcp.write_all(HEADER).unwrap();
    assert_eq!((second.rest(), bench.next_end()), (String::new(), "gateway.busy"));
    let mut other = bench.connect();
    other.tcp.write_all(&[&HEADER[..19], b"\x08", &HEADER[20..]].concat()).unwrap();
    other.send(&get("/client"));
    assert_eq!(other.answer().body, "192.0.2.8 http");
    let mut own = bench.connect();
    own.tcp.write_all(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0").unwrap();
    own.send(&get("/client"));
    assert_eq!(own.answer().body, "127.0.0.1 http");
}

#[test]
fn a_listed_proxy_cannot_leave_it_out_and_no_other_can_send_it() {
    let bench = announced(Limits { head_time: Duration::from_millis(300), ..Limits::default() }, "127.0.0.0/8");
    let long = [&HEADER[..14], b"\xff\xff"].concat();
    let udp = [&HEADER[..13], b"\x12", &HEADER[14..]].concat();
    for bytes in [get("/client").as_bytes(), &long, &udp, &HEADER[..20], b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\r\n"] {
        let mut client = bench.connect();
        client.tcp.write_all(bytes).unwrap();
        // Unread bytes reset the connection.
        let mut said = Vec::new();
        let _ = client.tcp.read_to_end(&mut said);
        assert_eq!((said.len(), bench.next_end()), (0, "request.proxy_header"), "{bytes:?}");
    }
    drop(bench.connect());
    assert!(bench.started.try_recv().is_err() && bench.ends.try_recv().is_err());

    let bench = announced(Limits::default(), "192.0.2.0/24");
    let mut client = bench.connect();
    client.tcp.write_all(&[HEADER, get("/client").as_bytes()].concat()).unwrap();
    assert!(client.head().starts_with("http/1.1 400 "));
    assert_eq!(bench.next_end(), "request.line");
}

#[test]
fn it_stands_in_front_of_tls() {
    let (folder, authority) = (Folder::new(), Authority::new("test authority"));
    let tls = listening(&folder.0, &authority, &["a.test"]);
    let bench = start_listening(1, Limits::default(), 0, |listener| {
        listener.announcing_proxies = ["127.0.0.1/32".parse().unwrap()].into();
        listener.tls = Some(tls);
    });
    let mut tcp = TcpStream::connect(bench.address()).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    tcp.write_all(HEADER).unwrap();
    let name = rustls::pki_types::ServerName::try_from("a.test").unwrap();
    let client = rustls::ClientConnection::new(authority.client(&[]), name).unwrap();
    let mut stream = rustls::StreamOwned::new(client, tcp);
    stream.write_all(b"GET /client HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("192.0.2.7 https"), "{answer}");
}
