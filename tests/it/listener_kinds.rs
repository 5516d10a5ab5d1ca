//! curl over every kind of listener: in clear, over TLS, with a client's certificate, on a Unix socket, over IPv6, and
//! behind a proxy that announces its clients; HTTP/1.1 and HTTP/2 over each.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;

use crate::authority::Authority;
use crate::harness::{Folder, Gateway, said};

const LISTENERS: &str = "\
listeners:
  - { name: main, address: 127.0.0.1:0 }
  - { name: six, address: \"[::1]:0\" }
  - { name: tls, address: 127.0.0.1:0, tls: { certificate: gw.pem, key: gw.key } }
  - name: mutual
    address: 127.0.0.1:0
    tls: { certificate: gw.pem, key: gw.key, client_certificates: required, client_ca: ca.pem }
  - { name: local, address: unix:local.sock }
  - { name: local-tls, address: unix:local-tls.sock, tls: { certificate: gw.pem, key: gw.key } }
  - { name: announced, address: 127.0.0.1:0, proxy_protocol: 127.0.0.1 }
admin: { address: 127.0.0.1:0 }
workers: 2
";

const TELL: &str = "\
service: tell
match: { path: /tell }
policy:
  - respond: { text: \"${request.scheme} ${request.http_version} ${request.client.ip} ${request.tls.version ?? '-'}\" }
";

/// A PROXY header, version 2, for a client at 192.0.2.7 that has reached 10.0.0.1:443.
const HEADER: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\x0a\0\0\x01\x12\x34\x01\xbb";

fn gateway() -> Gateway {
    let authority = Authority::new();
    let folder = Folder::with(&[("gateway.yaml", LISTENERS), ("policies/tell.yaml", TELL)]);
    authority.renew(&folder, &["a.test"]);
    authority.admit(&folder, &["client.test"]);
    folder.write("ca.pem", &authority.pem());
    Gateway::serve(folder)
}

/// A proxy that takes one connection after another and announces each client with a header.
fn announcing(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let carry = |mut from: TcpStream, mut to: TcpStream| {
        let mut space = [0; 4096];
        while let Ok(read @ 1..) = from.read(&mut space) {
            if to.write_all(&space[..read]).is_err() {
                return;
            }
        }
        // Whoever has left already needs no word.
        let _ = to.shutdown(Shutdown::Write);
    };
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.unwrap();
            let mut gateway = TcpStream::connect(to).unwrap();
            gateway.write_all(HEADER).unwrap();
            let (back, there) = (gateway.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || carry(back, there));
            std::thread::spawn(move || carry(client, gateway));
        }
    });
    address
}

#[test]
fn curl_gets_its_answer_over_every_kind_of_listener() {
    let gateway = gateway();
    let path = |name: &str| gateway.folder.path(name).to_string_lossy().into_owned();
    let (ca, certificate, key) = (path("ca.pem"), path("client.pem"), path("client.key"));
    let (local, local_tls) = (path("local.sock"), path("local-tls.sock"));
    let port = |listener: &str| gateway.address_of(listener).rsplit_once(':').unwrap().1.to_owned();
    let clear = |listener: &str| format!("http://{}/tell", gateway.address_of(listener));
    let over_tls = |listener: &str| format!("https://a.test:{}/tell", port(listener));
    let announced = announcing(gateway.address_of("announced").parse().unwrap());
    let trusting: &[&str] = &["--cacert", &ca];
    let showing: &[&str] = &["--cacert", &ca, "--cert", &certificate, "--key", &key];
    let kinds: [(&[&str], String, &str, &str); 7] = [
        (&[], clear("main"), "http", "127.0.0.1 -"),
        (&[], clear("six"), "http", "::1 -"),
        (trusting, over_tls("tls"), "https", "127.0.0.1 1.3"),
        (showing, over_tls("mutual"), "https", "127.0.0.1 1.3"),
        (&["--unix-socket", &local], "http://a.test/tell".into(), "http", "127.0.0.1 -"),
        (&["--unix-socket", &local_tls, "--cacert", &ca], "https://a.test/tell".into(), "https", "127.0.0.1 1.3"),
        (&[], format!("http://{announced}/tell"), "http", "192.0.2.7 -"),
    ];
    for (arguments, url, scheme, seen) in &kinds {
        for (version, clear, over_tls) in
            [("1.1", "--http1.1", "--http1.1"), ("2", "--http2-prior-knowledge", "--http2")]
        {
            let mut all = vec!["-s", "-S", if *scheme == "https" { over_tls } else { clear }, "-w", "|%{http_version}"];
            let resolve = url.strip_prefix("https://").map(|rest| rest.split_once('/').unwrap().0);
            let resolve = resolve.filter(|host| host.contains(':')).map(|host| format!("{host}:127.0.0.1"));
            all.extend(resolve.iter().flat_map(|resolve| ["--resolve", resolve]));
            all.extend(*arguments);
            all.push(url);
            assert_eq!(said("curl", &all), format!("{scheme} {version} {seen}|{version}"), "{all:?}");
        }
    }
    let records: Vec<_> = (0..2 * kinds.len()).map(|_| gateway.record("/tell")).collect();
    for listener in ["main", "six", "tls", "mutual", "local", "local-tls", "announced"] {
        assert_eq!(records.iter().filter(|record| record["listener"] == listener).count(), 2, "{listener}");
    }
}

#[test]
fn curl_is_let_in_nowhere_without_what_a_listener_asks_for() {
    let gateway = gateway();
    let ca = gateway.folder.path("ca.pem");
    // The handshake has failed, nothing came, sending has failed, receiving has failed.
    let is_turned_away = |arguments: &[&str]| {
        let status = Command::new("curl").args(["-s", "-m", "20"]).args(arguments).status().unwrap();
        matches!(status.code(), Some(35 | 52 | 55 | 56))
    };
    let mutual = gateway.address_of("mutual").rsplit_once(':').unwrap().1;
    let url = format!("https://a.test:{mutual}/tell");
    let resolve = format!("a.test:{mutual}:127.0.0.1");
    assert!(is_turned_away(&["--cacert", ca.to_str().unwrap(), "--resolve", &resolve, &url]));
    gateway.refusal("request.tls_handshake");
    // Version 1, which curl speaks, is not taken; nor is a connection that announces nobody.
    let announced = format!("http://{}/tell", gateway.address_of("announced"));
    for arguments in [&["--haproxy-protocol", &announced][..], &[&announced]] {
        assert!(is_turned_away(arguments), "{arguments:?}");
        gateway.refusal("request.proxy_header");
    }
}
