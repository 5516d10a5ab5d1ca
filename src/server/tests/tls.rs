//! Listeners with TLS over real sockets.

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::*;
use crate::tls::testing::{Authority, Folder, files, listening};
use crate::tls::{Listening, Look};

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A listener for `a.test`, and what its clients have to know.
struct Secure {
    bench: Bench,
    authority: Authority,
    tls: Arc<Listening>,
    folder: Folder,
}

fn secure(workers: usize, limits: Limits) -> Secure {
    let (folder, authority) = (Folder::new(), Authority::new("test authority"));
    let tls = listening(&folder.0, &authority, &["a.test"]);
    Secure { bench: bench_over(workers, limits, tls.clone()), authority, tls, folder }
}

impl Secure {
    fn connect(&self) -> Stream {
        self.connect_as(self.authority.client(&[b"http/1.1"]))
    }

    fn connect_as(&self, config: Arc<ClientConfig>) -> Stream {
        let tcp = TcpStream::connect(self.bench.address()).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        let name = ServerName::try_from("a.test").unwrap();
        StreamOwned::new(ClientConnection::new(config, name).unwrap(), tcp)
    }

    /// Everything a client gets that sends `bytes` and reads to the end.
    fn ask(&self, bytes: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(bytes.as_bytes()).unwrap();
        rest(&mut stream)
    }
}

/// What comes until the server says that nothing follows; a mere end of the connection is an error.
fn rest(stream: &mut Stream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn last(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
}

#[test]
fn requests_come_in_over_tls_and_the_gate_stands_behind_it() {
    let secure = secure(1, Limits::default());
    let answer = secure.ask(&last("/client"));
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("127.0.0.1 https"), "{answer}");
    let answer = secure.ask("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc");
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("request.framing"), "{answer}");
    assert_eq!(secure.bench.next_end(), "request.framing");
}

#[test]
fn an_answer_that_breaks_off_is_not_said_to_be_over() {
    let secure = secure(1, Limits::default());
    let mut stream = secure.connect();
    stream.write_all(b"GET /broken HTTP/1.0\r\nHost: a.test\r\n\r\n").unwrap();
    assert!(stream.read_to_end(&mut Vec::new()).is_err(), "nothing says that nothing follows");
}

#[test]
fn a_connection_is_kept_and_large_answers_come_whole() {
    let secure = secure(1, Limits::default());
    let mut stream = secure.connect();
    stream.write_all(get("/empty").as_bytes()).unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 204");
    stream.write_all(last("/large").as_bytes()).unwrap();
    assert!(rest(&mut stream).len() > 64 << 20);
}

#[test]
fn a_connection_that_speaks_no_tls_is_closed_and_counted() {
    let secure = secure(1, Limits::default());
    let mut client = secure.bench.connect();
    client.send(&get("/"));
    let bytes = client.rest_of_bytes();
    assert_eq!(bytes.first(), Some(&21), "an alert, and no HTTP: {bytes:?}");
    assert_eq!(secure.bench.next_end(), "request.tls_handshake");
}

#[test]
fn a_client_that_does_not_trust_the_certificate_is_counted() {
    let secure = secure(1, Limits::default());
    let mut stream = secure.connect_as(Authority::new("another authority").client(&[]));
    assert!(stream.write_all(get("/").as_bytes()).is_err());
    assert_eq!(secure.bench.next_end(), "request.tls_handshake");
}

#[test]
fn a_handshake_has_the_time_of_a_head_and_no_more() {
    let limits = Limits { head_time: Duration::from_millis(200), ..Limits::default() };
    let secure = secure(1, limits);
    let mut client = secure.bench.connect();
    client.send("\u{16}"); // the first byte of a handshake
    assert_eq!(client.rest_of_bytes(), b"");
    assert_eq!(secure.bench.next_end(), "request.tls_timeout");
    // A complete handshake without a request has no more.
    let mut stream = secure.connect();
    stream.conn.complete_io(&mut stream.sock).unwrap();
    assert_eq!(rest(&mut stream), "");
    assert_eq!(secure.bench.next_end(), "request.none");
}

#[test]
fn a_client_that_leaves_without_a_word_is_nothing_to_tell_of() {
    let secure = secure(1, Limits::default());
    drop(secure.bench.connect());
    let mut client = secure.bench.connect();
    client.send("x");
    client.tcp.shutdown(std::net::Shutdown::Write).unwrap();
    client.rest_of_bytes();
    assert_eq!(secure.bench.next_end(), "request.tls_handshake");
    assert!(secure.bench.ends.try_recv().is_err(), "the first one was told of");
}

#[test]
fn a_drain_lets_a_request_over_tls_end() {
    let secure = secure(1, Limits::default());
    let mut stream = secure.connect();
    stream.write_all(get("/wait").as_bytes()).unwrap();
    assert_eq!(secure.bench.next_start(), "/wait");
    let running = secure.bench.running.clone();
    let draining = std::thread::spawn(move || running.drain(PATIENCE));
    secure.bench.seen.go.add_permits(1);
    let answer = rest(&mut stream);
    assert!(answer.ends_with("waited"), "{answer}");
    assert_eq!(draining.join().unwrap().cut, 0);
}

#[test]
fn no_handshake_fails_while_certificates_are_swapped() {
    const SWAPS: usize = 20;
    let secure = secure(2, Limits::default());
    let client = secure.authority.client(&[]);
    std::thread::scope(|scope| {
        let swapping = scope.spawn(|| {
            for _ in 0..SWAPS {
                files(&secure.folder.0, &secure.authority, &[&["a.test"]]);
                assert_eq!(secure.tls.look(), Look::Swapped);
            }
        });
        let mut shaken = 0;
        while !swapping.is_finished() || shaken < SWAPS {
            let mut stream = secure.connect_as(client.clone());
            stream.write_all(last("/").as_bytes()).unwrap();
            assert!(rest(&mut stream).ends_with("hello"));
            shaken += 1;
        }
    });
    assert!(secure.bench.ends.try_recv().is_err());
}
