//! Upstreams that misbehave in every way that proxies have fallen to: each has its answer and its record, nothing
//! malformed reaches a client, and the connection is never used again while others are.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use gatewright::coding::{Deflater, Format, code};

use crate::harness::{Gateway, PATIENCE};
use crate::misbehaving::{Then, good, serve};

const GATEWAY: &str = "\
listeners: [{ name: main, address: 127.0.0.1:0 }]
admin: { address: 127.0.0.1:0 }
workers: 1
";

/// What the client and the record have to show.
enum Shows {
    /// This status and this fault.
    Fault(u16, &'static str),
    /// A body that visibly breaks off, and this fault where it is recorded.
    Cut,
    /// The answer as far as it was one.
    Answer(&'static str),
}

use Shows::{Answer, Cut, Fault};

const BAD: Shows = Fault(502, "route.bad_answer");
const LATE: Shows = Fault(504, "route.timeout_first_byte");

struct Case {
    name: &'static str,
    bytes: String,
    then: Then,
    shows: Shows,
}

impl Case {
    /// Below a service whose one short time limit is what the case is about: on a busy machine no other is met.
    fn path(&self) -> String {
        let service = match (&self.shows, self.name) {
            (Fault(504, _), _) => "late",
            (_, "silent_body") => "silent",
            _ => "prompt",
        };
        format!("/{service}/{}", self.name)
    }
}

const SERVICES: [(&str, &str); 3] =
    [("late", "{ first_byte: 300ms }"), ("silent", "{ idle: 300ms }"), ("prompt", "{}")];

fn case(name: &'static str, bytes: impl Into<String>, then: Then, shows: Shows) -> Case {
    Case { name, bytes: bytes.into(), then, shows }
}

fn head(fields: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n")
}

fn cases() -> Vec<Case> {
    let many: String = (0..200).map(|number| format!("x-{number}: 1\r\n")).collect();
    let continues = "HTTP/1.1 100 Continue\r\n\r\n".repeat(1000);
    vec![
        case("closes", "", Then::Close, BAD),
        case("resets", "", Then::Reset, BAD),
        case("hangs", "", Then::Hang, LATE),
        case("half_a_line", "HTTP/1.1 20", Then::Close, BAD),
        case("half_a_head", "HTTP/1.1 200 OK\r\ncontent-le", Then::Reset, BAD),
        case("hangs_in_its_head", "HTTP/1.1 200 OK\r\ncontent-le", Then::Hang, LATE),
        case("no_http", "SSH-2.0-OpenSSH_9.2\r\n\r\n", Then::Hang, BAD),
        case("no_version", "<html>hello</html>\r\n\r\n", Then::Close, BAD),
        case("two_lengths", head("content-length: 2\r\ncontent-length: 3") + "abc", Then::Serve, BAD),
        case("negative_length", head("content-length: -1") + "abc", Then::Serve, BAD),
        case("huge_length", head("content-length: 18446744073709551621") + "abc", Then::Serve, BAD),
        case(
            "length_and_chunks",
            head("content-length: 3\r\ntransfer-encoding: chunked") + "3\r\nabc\r\n0\r\n\r\n",
            Then::Serve,
            BAD,
        ),
        case("header_of_a_mebibyte", head(&format!("x: {}", "y".repeat(1 << 20))), Then::Serve, BAD),
        case("too_many_headers", head(&format!("{many}content-length: 0")), Then::Serve, BAD),
        case("nul_in_a_header", head("x: a\0b\r\ncontent-length: 0"), Then::Serve, BAD),
        case("folded_header", head("x: a\r\n b\r\ncontent-length: 0"), Then::Serve, BAD),
        case(
            "switches_unasked",
            "HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
            Then::Hang,
            BAD,
        ),
        case("only_continues", continues, Then::Hang, LATE),
        case("cut_body", head("content-length: 10") + "abc", Then::Close, Cut),
        case("reset_body", head("content-length: 10") + "abc", Then::Reset, Cut),
        case("silent_body", head("content-length: 10") + "abc", Then::Hang, Cut),
        case("cut_chunks", head("transfer-encoding: chunked") + "3\r\nabc\r\n", Then::Close, Cut),
        case("bad_chunk", head("transfer-encoding: chunked") + "3\r\nabc\r\nxyz\r\nabc", Then::Hang, Cut),
        case(
            "huge_chunk",
            head("transfer-encoding: chunked") + "3\r\nabc\r\n10000000000000005\r\nabc",
            Then::Hang,
            Cut,
        ),
        case("more_than_it_said", head("content-length: 3") + "abcHTTP/1.1 200 OK\r\n\r\n", Then::Serve, Answer("abc")),
        case(
            "a_second_answer",
            head("content-length: 3") + "abc" + &head("content-length: 4") + "evil",
            Then::Serve,
            Answer("abc"),
        ),
    ]
}

/// Everything that comes, until the connection ends in whatever way.
fn ask(gateway: &Gateway, path: &str) -> String {
    let mut tcp = TcpStream::connect(gateway.main).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(tcp, "GET {path} HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n").unwrap();
    let mut bytes = Vec::new();
    if let Err(error) = tcp.read_to_end(&mut bytes) {
        assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "{path}: the connection stays open");
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The connection that a good answer has come over.
fn healthy(gateway: &Gateway) -> usize {
    let answer = ask(gateway, "/prompt/good");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\ngood"), "{answer}");
    let number = answer.lines().find_map(|line| line.strip_prefix("x-connection: ")).unwrap();
    gateway.record("/prompt/good");
    number.parse().unwrap()
}

fn is_cut(answer: &str) -> bool {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    match head.lines().find_map(|line| line.strip_prefix("content-length: ")) {
        Some(length) => body.len() < length.parse().unwrap(),
        None => head.contains("transfer-encoding: chunked") && !body.ends_with("0\r\n\r\n"),
    }
}

fn check(gateway: &Gateway, case: &Case) {
    let path = case.path();
    let answer = ask(gateway, &path);
    let record = gateway.record(&path);
    let name = case.name;
    assert!(answer.starts_with("HTTP/1.1 "), "{name}: {answer}");
    match case.shows {
        Fault(status, code) => {
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {answer}");
            assert!(answer.contains(code), "{name}: {answer}");
            assert_eq!((&record["status"], &record["fault"]), (&status.into(), &code.into()), "{name}: {record}");
        }
        Cut => {
            assert!(answer.starts_with("HTTP/1.1 200 ") && is_cut(&answer), "{name}: {answer:?}");
            assert_eq!(record["outcome"], "broken", "{name}: {record}");
        }
        Answer(body) => {
            assert!(answer.starts_with("HTTP/1.1 200 "), "{name}: {answer}");
            assert!(answer.ends_with(&format!("\r\n\r\n{body}")), "{name}: {answer:?}");
        }
    }
    assert!(!answer.contains("evil") && !answer.contains('\0'), "{name}: {answer:?}");
}

#[test]
fn each_fault_has_its_answer_and_the_pool_is_healthy_after_it() {
    let all = cases();
    let script: Vec<(String, Vec<u8>, Then)> =
        all.iter().map(|case| (case.path(), case.bytes.clone().into_bytes(), case.then)).collect();
    let upstream = serve(Arc::new(move |path, connection| {
        let found = script.iter().find(|(name, ..)| name == path);
        found.map_or_else(|| (good(connection), Then::Serve), |(_, bytes, then)| (bytes.clone(), *then))
    }));
    let service = |(name, timeouts): (&str, &str)| {
        format!(
            "service: {name}\nmatch: {{ path: \"/{name}/{{*rest}}\" }}\npolicy:\n  - route: {{ to: \"http://{upstream}\", timeouts: {timeouts} }}\n"
        )
    };
    let set = SERVICES.map(service).join("---\n");
    let gateway = Gateway::start(&[("gateway.yaml", GATEWAY), ("policies/all.yaml", &set)]);
    for case in &all {
        // Once on a connection that has served before, and once on a new one.
        let before = healthy(&gateway);
        check(&gateway, case);
        check(&gateway, case);
        let after = healthy(&gateway);
        assert_ne!(after, before, "{}: the connection is used again", case.name);
        assert_eq!(healthy(&gateway), after, "{}: connections are no longer kept alive", case.name);
    }
    assert_eq!(gateway.ask_admin("GET", "/readyz").json()["workers"], 1);
}

#[test]
fn a_body_that_inflates_past_its_bound_is_cut_where_it_has_begun() {
    // Noise hardly shrinks, so that the ratio plays no part.
    let mut state = 7_u32;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        b'a' + (state >> 28) as u8
    });
    let noise: Vec<u8> = noise.take(400_000).collect();
    let packed = code(&mut Deflater::new(Format::Gzip, 6, false), noise.into()).unwrap();
    let head = head(&format!("content-encoding: gzip\r\ncontent-length: {}", packed.len()));
    let bytes = [head.as_bytes(), &packed].concat();
    let upstream = serve(Arc::new(move |_, _| (bytes.clone(), Then::Serve)));
    let service = |name: &str, most: u32| {
        format!(
            "service: {name}\nmatch: {{ path: /{name} }}\npolicy:\n  - route: http://{upstream}\n  - decompress: {{ max_output: {most}B }}\n"
        )
    };
    let set = [service("wide", 400_000), service("narrow", 300_000)].join("---\n");
    let gateway = Gateway::start(&[("gateway.yaml", GATEWAY), ("policies/all.yaml", &set)]);
    let wide = ask(&gateway, "/wide");
    assert!(!wide.contains("content-encoding") && wide.len() > 400_000 && !is_cut(&wide));
    let narrow = ask(&gateway, "/narrow");
    assert!(narrow.starts_with("HTTP/1.1 200 ") && narrow.len() < 310_000 && is_cut(&narrow), "{}", narrow.len());
    let record = gateway.record("/narrow");
    assert_eq!(record["outcome"], "broken", "{record}");
}
