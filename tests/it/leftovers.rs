//! Bodies that are not read to their end, over real connections: what is left of one is never read as a request.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use crate::harness::{ANY_PORT, Gateway, PATIENCE, hello};

const SMUGGLED: &str = "GET /hidden HTTP/1.1\r\nhost: a\r\n\r\n";

/// Everything that comes back on a connection of its own. A reset after the answer is no error: the rest of what was sent
/// was not read.
fn raw(gateway: &Gateway, request: &str) -> String {
    let mut tcp = TcpStream::connect(gateway.main).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    if let Err(error) = tcp.write_all(request.as_bytes()) {
        assert!(matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{error}");
    }
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        match tcp.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => bytes.extend_from_slice(&piece[..read]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&bytes)),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn chunked(path: &str, chunks: &[&str], rest: &str) -> String {
    let chunks: String = chunks.iter().map(|chunk| format!("{:x}\r\n{chunk}\r\n", chunk.len())).collect();
    format!("POST {path} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{chunks}{rest}")
}

fn declared(path: &str, length: usize, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n{body}")
}

#[test]
fn what_is_left_of_a_body_whose_fault_was_caught_is_no_request() {
    let service = |name: &str, block: &str, catches: &str| {
        format!(
            "service: {name}\nmatch: {{ path: /{name} }}\npolicy:\n  - try: {{ steps: [{block}], catches: {catches} }}\n    \
             catch: [{{ set: {{ code: \"${{fault.code}}\" }} }}]\n  - respond: {{ text: \"caught ${{code ?? 'nothing'}}\" }}\n"
        )
    };
    let reads = "{ compare: len(request.text) >= 0 }";
    let gateway = Gateway::start(&[
        ("gateway.yaml", &format!("{ANY_PORT}limits: {{ body_buffered: 1KiB, body_streamed: 64KiB }}\n")),
        ("policies/read.yaml", &service("read", reads, "\"body.*\"")),
        ("policies/size.yaml", &service("size", "{ limit_size: 1KiB }", "limit_size.body")),
        ("policies/both.yaml", &service("both", &format!("{{ limit_size: 1KiB }}, {reads}"), "[limit_size.body]")),
        ("policies/hidden.yaml", &hello("hidden", "smuggled")),
    ]);
    let filler = "x".repeat(1100);
    let inside = SMUGGLED.repeat(60);
    let after = format!("0\r\n\r\n{SMUGGLED}");
    let whole = format!("{filler}{inside}");
    let too_large = "caught body.too_large";
    let cases = [
        ("one chunk", chunked("/read", &[&whole], &after), too_large),
        ("requests as chunks", chunked("/read", &[&filler, &inside], &after), too_large),
        ("a limit and chunks", chunked("/both", &[&filler, &inside], &after), "caught limit_size.body"),
        ("no last chunk", chunked("/read", &[&filler], SMUGGLED), too_large),
        ("declared", declared("/read", whole.len(), &format!("{whole}{SMUGGLED}")), too_large),
        (
            "declared and refused",
            declared("/size", whole.len(), &format!("{whole}{SMUGGLED}")),
            "caught limit_size.body",
        ),
        ("declared and not sent", declared("/size", 60_000, &format!("{filler}{inside}")), "caught limit_size.body"),
    ];
    for (name, request, text) in cases {
        let answer = raw(&gateway, &request);
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{name}: {answer}");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{name}: {answer}");
        assert!(answer.contains("connection: close\r\n") && answer.ends_with(text), "{name}: {answer}");
    }
    let metrics = gateway.ask_admin("GET", "/metrics").body;
    let hidden = metrics.lines().filter(|line| line.contains("service=\"hidden\"") && line.contains("status"));
    assert!(hidden.clone().all(|line| line.ends_with(" 0")), "{:?}", hidden.collect::<Vec<_>>());
    // Nothing was caught: the connection lives on.
    let both =
        format!("{}{}", declared("/read", 3, "abc"), SMUGGLED.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n"));
    let answers = raw(&gateway, &both);
    assert_eq!(answers.matches("HTTP/1.1 200 ").count(), 2, "{answers}");
    assert!(answers.contains("caught nothing") && answers.ends_with("smuggled"), "{answers}");
}

#[test]
fn a_shadowed_limit_lets_a_chunked_body_through_and_records_it() {
    let policy = "service: s\nmatch: { path: /s }\npolicy:\n  - name: trial\n    limit_size: 1KiB\n    shadow: true\n  \
                  - respond: { text: \"${len(request.text)} bytes\" }\n";
    let gateway = Gateway::start(&[("policies/s.yaml", policy), ("policies/a.yaml", &hello("a", "next"))]);
    let next = "GET /a HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let piece = "x".repeat(700);
    let answers = raw(&gateway, &chunked("/s", &[&piece, &piece], &format!("0\r\n\r\n{next}")));
    assert!(answers.contains("1400 bytes") && answers.ends_with("next"), "{answers}");
    let noted = gateway.record("/s")["would_deny"].clone();
    assert_eq!((&noted[0]["step"], &noted[0]["fault"]), (&"trial".into(), &"limit_size.body".into()));
    raw(&gateway, &chunked("/s", &[&piece], &format!("0\r\n\r\n{next}")));
    assert!(gateway.record("/s").get("would_deny").is_none());
}
