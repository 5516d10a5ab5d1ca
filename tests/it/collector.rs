//! A server for tests that keeps what it was sent: an OpenTelemetry collector, or an upstream.
//!
//! What a collector is sent is read with the messages that the OpenTelemetry project generates from its schema.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

use crate::harness::PATIENCE;

/// A request as a server of the test got it.
#[derive(Debug)]
pub struct Got {
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Got {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let first = all.next();
        assert!(all.next().is_none(), "{name} is there twice");
        first
    }
}

/// Status, further header lines and body of an answer; `None` says nothing.
type Plays = Arc<Mutex<dyn FnMut(&Got) -> Option<(u16, String, Vec<u8>)> + Send>>;

/// A server that keeps what it got.
pub struct Server {
    pub address: SocketAddr,
    pub got: Receiver<Got>,
}

impl Server {
    pub fn start(answers: impl FnMut(&Got) -> Option<(u16, String, Vec<u8>)> + Send + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, (tell, got)) = (listener.local_addr().unwrap(), channel());
        let answers: Plays = Arc::new(Mutex::new(answers));
        std::thread::spawn(move || {
            for tcp in listener.incoming().map_while(Result::ok) {
                let (tell, answers) = (tell.clone(), answers.clone());
                std::thread::spawn(move || connection(&tcp, &tell, &answers));
            }
        });
        Server { address, got }
    }

    /// One that takes everything.
    pub fn taking() -> Server {
        Server::start(|_| Some((200, String::new(), Vec::new())))
    }

    pub fn next(&self) -> Got {
        self.got.recv_timeout(PATIENCE).expect("nothing came")
    }

    /// Spans as they come, until there are so many.
    pub fn spans(&self, count: usize) -> Vec<Span> {
        let mut spans = Vec::new();
        while spans.len() < count {
            let got = self.next();
            if got.path.ends_with("/v1/traces") {
                spans.extend(spans_of(&got));
            }
        }
        assert_eq!(spans.len(), count, "{spans:?}");
        spans
    }
}

pub fn spans_of(got: &Got) -> Vec<Span> {
    assert_eq!(got.header("content-type"), Some("application/x-protobuf"));
    let read = ExportTraceServiceRequest::decode(&*got.body).unwrap();
    let scopes = read.resource_spans.into_iter().flat_map(|all| all.scope_spans);
    scopes.flat_map(|scope| scope.spans).collect()
}

fn connection(tcp: &TcpStream, tell: &Sender<Got>, answers: &Plays) {
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut reader = BufReader::new(tcp.try_clone().unwrap());
    while let Some(got) = request(&mut reader) {
        let answer = {
            let mut play = answers.lock().unwrap();
            (*play)(&got)
        };
        // The test may have seen enough.
        let _ = tell.send(got);
        let Some((status, fields, body)) = answer else {
            let _ = reader.read_to_end(&mut Vec::new()); // says nothing until the gateway has had enough
            return;
        };
        let mut answer = format!("HTTP/1.1 {status} X\r\n{fields}content-length: {}\r\n\r\n", body.len()).into_bytes();
        answer.extend(body);
        if (&*tcp).write_all(&answer).is_err() {
            return;
        }
    }
}

fn request(reader: &mut impl BufRead) -> Option<Got> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut headers = Vec::new();
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let length =
        headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, value)| value.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Got { path, headers, body })
}
