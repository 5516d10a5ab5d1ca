//! Following requests over the admin interface, by a raw client and by `gatewright trace`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use data_encoding::{BASE64, HEXLOWER};
use gatewright::identity::password::hash_new;
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};

use crate::harness::{ANY_PORT, Folder, Gateway, PATIENCE, command, exchange, gatewright, hello};

const PASSWORD: &str = "correct-horse-42";
const KEY: &str = "key-0123456789abcdef";
const SECRET: &str = "partner-secret-9876543210";
const COOKIE: &str = "session-cookie-5551212";

/// A client that follows requests.
struct Follower {
    lines: BufReader<TcpStream>,
    /// Everything that has come.
    seen: String,
}

impl Follower {
    /// Returns when the gateway has begun to watch.
    fn start(gateway: &Gateway, filter: &str) -> Follower {
        let (status, follower) = Follower::ask(gateway, filter);
        assert_eq!(status, "200");
        follower
    }

    fn ask(gateway: &Gateway, filter: &str) -> (String, Follower) {
        let mut tcp = TcpStream::connect(gateway.admin).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(tcp, "GET /api/trace{filter} HTTP/1.1\r\nhost: {}\r\n\r\n", gateway.admin).unwrap();
        let mut follower = Follower { lines: BufReader::new(tcp), seen: String::new() };
        let status = follower.raw().split(' ').nth(1).unwrap().to_owned();
        while follower.raw() != "\r\n" {}
        (status, follower)
    }

    fn raw(&mut self) -> String {
        let mut line = String::new();
        assert_ne!(self.lines.read_line(&mut line).unwrap(), 0, "the stream ended after {}", self.seen);
        self.seen.push_str(&line);
        line
    }

    /// The next line of the stream.
    fn next(&mut self) -> Json {
        loop {
            let line = self.raw();
            if line.starts_with('{') {
                return serde_json::from_str(&line).unwrap();
            }
        }
    }
}

fn paths(trace: &Json) -> Vec<String> {
    let steps = trace["steps"].as_array().unwrap().iter();
    steps.map(|step| format!("{} {}", step["path"].as_str().unwrap(), step["verdict"].as_str().unwrap())).collect()
}

#[test]
fn exactly_those_that_the_filter_wants_are_shown() {
    let told = |name: &str| {
        format!(
            "service: {name}\nmatch: {{ path: /{name} }}\npolicy:\n  - set: {{ n: \"${{request.query.n}}\" }}\n  \
             - respond: 204\n"
        )
    };
    let gateway = Gateway::start(&[("policies/a.yaml", &told("a")), ("policies/b.yaml", &told("b"))]);
    let mut follower = Follower::start(&gateway, "?filter=service.name+==+'b'+%26%26+request.query.n+!=+'2'");
    // A request is over, and was shown, before its connection closes.
    for path in ["/a?n=1", "/b?n=1", "/none", "/b?n=2", "/b?n=3", "/b?n=last"] {
        gateway.get(path);
    }
    let shown: Vec<String> = (0..3)
        .map(|_| {
            let trace = follower.next();
            assert_eq!((trace["trace"].as_u64(), trace["record"]["path"].as_str()), (Some(1), Some("/b")));
            trace["steps"][0]["set"]["n"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(shown, ["1", "3", "last"]);
}

#[test]
fn steps_tell_what_they_read_and_set_across_includes() {
    let policy = "fragment: common\npolicy:\n  - set: { tenant: \"${request.headers.x_tenant ?? 'none'}\" }\n---\n\
                  service: s\nmatch: { path: \"/s/{id}\" }\npolicy:\n  - include: common\n\
                  \x20 - when: path.id == '7'\n    name: never\n    log: seven\n\
                  \x20 - if: tenant == 'acme'\n    then:\n      - respond: { text: \"hello ${tenant}\" }\n\
                  \x20 - respond: 204\nfinally:\n  - audit: { fields: { tenant: \"${tenant}\" } }\n";
    let gateway = Gateway::start(&[("policies/s.yaml", policy)]);
    let mut follower = Follower::start(&gateway, "");
    let answer = exchange(gateway.main, "GET /s/8 HTTP/1.1\r\nhost: a\r\nx-tenant: acme\r\nconnection: close\r\n\r\n");
    assert_eq!(answer.body, "hello acme");
    let trace = follower.next();
    let walked = ["1 entered", "1.1 passed", "2 skipped", "3 entered", "3.then.1 ended", "finally.1 passed"];
    assert_eq!(paths(&trace), walked, "{trace}");
    let step = |at: usize| &trace["steps"][at];
    assert_eq!(step(1)["read"], json!({ "request.headers.x_tenant": "acme" }));
    assert_eq!(step(1)["set"], json!({ "tenant": "acme" }));
    assert_eq!(
        (step(1)["place"].as_str(), step(0)["assertion"].as_str()),
        (Some("policies/s.yaml:3"), Some("include"))
    );
    assert_eq!((&step(2)["name"], &step(2)["read"]), (&json!("never"), &json!({ "path.id": "8" })));
    assert_eq!((&step(4)["by"], &step(4)["read"]), (&json!("respond"), &json!({ "tenant": "acme" })));
    assert!(step(4)["at_ns"].as_u64() >= step(1)["at_ns"].as_u64() && step(1)["took_ns"].is_u64());
    assert_eq!(trace["record"]["fields"]["tenant"], "acme");
}

#[test]
fn operators_assertions_are_shown_from_inside() {
    let assertion = "assertion: check_tenant\ninputs: { token: { type: string, required: true } }\n\
                     outputs: { length: int }\npolicy:\n  - set: { copy: \"${input.token}\", length: { value: 3, type: int } }\n\
                     \x20 - when: input.token == 'never'\n    log: never\n";
    let policy = "service: s\nmatch: { path: /s }\npolicy:\n  - as: t\n    check_tenant: { token: \"${request.headers.authorization ?? ''}\" }\n\
                  \x20 - respond: 204\n";
    let gateway = Gateway::start(&[("policies/s.yaml", policy), ("assertions/check_tenant.yaml", assertion)]);
    let mut follower = Follower::start(&gateway, "");
    let head = format!("GET /s HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\nconnection: close\r\n\r\n");
    assert_eq!(exchange(gateway.main, &head).status, 204);
    let trace = follower.next();
    let walked = ["1 entered", "1.check_tenant.1 passed", "1.check_tenant.2 skipped", "1 passed", "2 ended"];
    assert_eq!(paths(&trace), walked, "{trace}");
    assert_eq!(trace["steps"][1]["place"], "assertions/check_tenant.yaml:5");
    assert_eq!(trace["steps"][3]["set"]["t.length"], 3);
    assert!(!follower.seen.contains(KEY), "{}", follower.seen);
    assert!(follower.seen.contains("copy\":\"#"), "{}", follower.seen);
}

#[test]
fn composites_tell_what_they_read_and_loops_what_they_set() {
    let policy = "service: s\nmatch: { path: /s }\npolicy:\n\
                  \x20 - for_each: { item: line, in: \"split(request.query.l ?? '', ',')\", limit: 9, collect: { all: line } }\n    do:\n      - log: x\n\
                  \x20 - any:\n      - all: [{ set: { way: lost } }, { raise: { status: 403, code: s.no } }]\n      - log: y\n\
                  \x20 - switch: request.method\n    cases: { GET: [{ respond: 204 }] }\n";
    let gateway = Gateway::start(&[("policies/s.yaml", policy)]);
    let mut follower = Follower::start(&gateway, "");
    assert_eq!(gateway.get("/s?l=a,b").status, 204);
    let trace = follower.next();
    let walked = ["1 round", "1.do.1 passed", "1 round", "1.do.1 passed", "1 passed"];
    let then =
        ["2 entered", "2.1 entered", "2.1.1 passed", "2.1.2 denied", "2.2 passed", "3 entered", "3.cases.GET.1 ended"];
    assert_eq!(paths(&trace), [&walked[..], &then].concat(), "{trace}");
    let step = |at: usize| &trace["steps"][at];
    assert_eq!(step(0)["read"]["request.query.l"], "a,b");
    assert_eq!(step(0)["set"], json!({ "line": "a", "line_index": 0 }));
    assert_eq!(step(2)["set"], json!({ "line": "b", "line_index": 1 }));
    assert_eq!(step(4)["set"], json!({ "all": ["a", "b"] }));
    assert!(step(1).get("set").is_none() && step(9).get("set").is_none(), "what was taken back is nobody's: {trace}");
    assert_eq!(step(10)["read"], json!({ "request.method": "GET" }));
}

#[test]
fn what_a_service_scrubs_is_in_no_trace() {
    const CARD: &str = "4111111111111111";
    let policy = format!(
        "service: s\nmatch: {{ path: \"/s/{{card}}\" }}\npolicy:\n\
         \x20 - set: {{ card: \"${{path.card}}\", number: {{ value: \"${{int(path.card)}}\", type: int }}, long: \"{pad}${{path.card}}\", \
         doc: \"${{request.json}}\", patient: \"<${{request.headers.x_patient ?? ''}}>\", pin: \"${{request.query.pin ?? ''}}\" }}\n\
         \x20 - scrub: {{ rules: [pan, {{ json: $.ssn }}, {{ header: x-patient }}, {{ query: pin, with: remove }}], from: [trace] }}\n\
         \x20 - raise: {{ status: 403, code: s.no, detail: \"card ${{card}}\" }}\n",
        pad = "x ".repeat(124)
    );
    let gateway = Gateway::start(&[("policies/s.yaml", &policy)]);
    let mut follower = Follower::start(&gateway, "");
    let body = format!("{{\"ssn\":\"078-05-1120\",\"n\":{CARD}}}");
    let head = format!(
        "POST /s/{CARD}?pin=90210-7 HTTP/1.1\r\nhost: a\r\nx-patient: anna-lena\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    assert_eq!(exchange(gateway.main, &head).status, 403);
    let trace = follower.next();
    let failed = gateway.ask_admin("GET", "/api/trace/failed").body;
    for (text, at) in [(&trace.to_string(), "the stream"), (&failed, "what failed")] {
        for secret in ["4111111111", "078-05-1120", "anna-lena", "90210-7"] {
            assert!(!text.contains(secret), "{secret} is in {at}: {text}");
        }
        assert!(text.contains("411111******1111"), "{text}");
    }
    assert_eq!(trace["steps"][0]["read"]["request.headers.x_patient"], "***", "{trace}");
    assert_eq!(trace["record"]["detail"], "card 411111******1111");
    assert!(gateway.record(&format!("/s/{CARD}"))["detail"].as_str().unwrap().contains(CARD), "only traces were meant");
}

/// A service that takes every kind of credential, and a policy that moves them around.
fn credentials() -> Vec<(String, String)> {
    let hash = hash_new(PASSWORD.as_bytes()).unwrap();
    let key = HEXLOWER.encode(&Sha256::digest(KEY));
    let policy = format!(
        "users: staff\nentries:\n  ann: {{ password: \"{hash}\" }}\n---\n\
         api_keys: apps\nentries:\n  - {{ id: one, hash: \"sha256:{key}\" }}\n---\n\
         secret: partner\nfrom: {{ file: partner.key }}\n---\n\
         service: s\nmatch: {{ path: /s }}\npolicy:\n\
         \x20 - set: {{ a: \"${{request.headers.authorization ?? ''}}\", k: \"<${{request.headers.x_key ?? ''}}>\", \
         c: \"${{request.cookies.sid ?? ''}}\", q: \"${{request.query.key ?? ''}}\" }}\n\
         \x20 - when: request.headers.x_key == 'other' || request.headers.x_copy == 'x'\n    log: never\n\
         \x20 - authenticate_basic: staff\n\
         \x20 - as: app\n    authenticate_api_key: {{ keys: apps, from: {{ header: x-key }} }}\n\
         \x20 - as: second\n    authenticate_api_key: {{ keys: apps, from: {{ query: key }} }}\n\
         \x20 - set: {{ s: \"${{secret('partner')}}\", all: \"${{second.credential}}\" }}\n\
         \x20 - set_headers: {{ x-put: \"${{secret('partner')}}\" }}\n\
         \x20 - when: request.headers.x_put == 'other'\n    log: never\n\
         \x20 - raise: {{ status: 403, code: s.no }}\n"
    );
    vec![("policies/s.yaml".into(), policy), ("partner.key".into(), SECRET.into())]
}

#[test]
fn no_credential_and_no_secret_is_ever_in_a_trace() {
    let files = credentials();
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let gateway = Gateway::start(&files);
    let mut follower = Follower::start(&gateway, "");
    let basic = BASE64.encode(format!("ann:{PASSWORD}").as_bytes());
    let send = |authorization: &str, key: &str| {
        exchange(
            gateway.main,
            &format!(
                "GET /s?key={KEY}&b=1 HTTP/1.1\r\nhost: a\r\nauthorization: {authorization}\r\nx-key: {key}\r\n\
                 x-copy: {KEY}\r\ncookie: sid={COOKIE}\r\nconnection: close\r\n\r\n"
            ),
        )
    };
    assert_eq!(send(&format!("Basic {basic}"), KEY).json()["code"], "s.no");
    let whole = follower.next();
    assert_eq!(paths(&whole).last().unwrap(), "9 denied", "{whole}");
    assert_eq!(send("Basic d3Jvbmc6d3Jvbmc=", KEY).status, 401);
    assert_eq!(paths(&follower.next()).last().unwrap(), "3 denied");
    let failed = gateway.ask_admin("GET", "/api/trace/failed").body;
    assert_eq!(failed.matches("\"trace\":1").count(), 2, "{failed}");
    for (text, at) in [(&follower.seen, "the stream"), (&failed, "what failed")] {
        for credential in [PASSWORD, KEY, SECRET, COOKIE, &basic, "d3Jvbmc6d3Jvbmc="] {
            assert!(!text.contains(credential), "{credential} is in {at}: {text}");
        }
        // It is there all the same: as the hash of records.
        assert!(text.contains("\"s\":\"#") && text.contains("\"k\":\"#") && text.contains("\"q\":\"#"), "{text}");
    }
    assert_eq!(whole["steps"][2]["set"]["auth"], json!({ "scheme": "basic", "subject": "ann" }));
}

#[test]
fn what_failed_last_is_there_though_nobody_watched() {
    let policy = "service: s\nmatch: { path: /s }\npolicy:\n  - set: { n: \"${1 + 1}\" }\n\
                  \x20 - name: who\n    raise: { status: 403, code: s.denied }\n\
                  on_fault:\n  - set: { n: 9 }\n---\n\
                  service: gone\nmatch: { path: /gone }\npolicy:\n  - route: http://127.0.0.1:1\n";
    let gateway = Gateway::start(&[("policies/s.yaml", policy), ("policies/a.yaml", &hello("a", "x"))]);
    assert_eq!((gateway.get("/s").status, gateway.get("/a").status, gateway.get("/gone").status), (403, 200, 502));
    exchange(gateway.main, "GET /a HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n");
    let answer = gateway.admin_until("/api/trace/failed", |answer| answer.body.lines().count() == 3);
    let lines: Vec<Json> = answer.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answer.header("content-type"), Some("application/jsonl"));
    let by_fault = |code: &str| lines.iter().find(|line| line["record"]["fault"] == code).unwrap();
    let denied = by_fault("s.denied");
    assert_eq!(denied["variables"], json!({ "n": 2 }), "as it was when the step failed");
    let step = json!({ "path": "2", "name": "who", "assertion": "raise", "place": "policies/s.yaml:6" });
    assert_eq!(denied["failed_step"], step);
    let broken = by_fault("route.connect");
    assert_eq!((&broken["record"]["status"], &broken["failed_step"]["assertion"]), (&json!(502), &json!("route")));
    assert!(broken["record"]["detail"].is_string());
    assert_eq!(by_fault("request.framing")["record"]["outcome"], "denied");
}

#[test]
fn a_client_that_stops_reading_holds_up_nobody() {
    let reads: String = (0..40).map(|n| format!("v{n}: \"${{request.query.long}}\", ")).collect();
    let steps = format!("  - set: {{ {reads} }}\n").repeat(4);
    let policy = format!("service: s\nmatch: {{ path: /s }}\npolicy:\n{steps}  - respond: 204\n");
    let policy = policy.replace("${request.query.long}", "${request.query.long ?? ''}");
    let gateway = Gateway::start(&[("policies/s.yaml", &policy)]);
    let mut follower = Follower::start(&gateway, "");
    let one = format!("GET /s?long={} HTTP/1.1\r\nhost: a\r\n", "x".repeat(250));
    // More than the queue and the system's own buffers hold: several times that of 10 KiB and more each.
    for _ in 0..50 {
        let requests = format!("{one}\r\n").repeat(49) + &format!("{one}connection: close\r\n\r\n");
        let mut tcp = TcpStream::connect(gateway.main).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        tcp.write_all(requests.as_bytes()).unwrap();
        let mut answers = String::new();
        tcp.read_to_string(&mut answers).unwrap();
        assert_eq!(answers.matches("HTTP/1.1 204").count(), 50);
    }
    let (mut shown, mut dropped) = (0, 0);
    while shown + dropped < 2500 {
        let line = follower.next();
        match line["dropped"].as_u64() {
            Some(count) => dropped += count,
            None => shown += 1,
        }
    }
    assert!(dropped > 0 && shown + dropped == 2500, "{shown} shown, {dropped} dropped");
}

#[test]
fn the_ninth_is_refused_until_one_leaves() {
    let gateway = Gateway::start(&[("policies/a.yaml", &hello("a", "x"))]);
    let mut all: Vec<Follower> = (0..8).map(|_| Follower::start(&gateway, "")).collect();
    assert_eq!(Follower::ask(&gateway, "").0, "503");
    all.pop();
    let begun = std::time::Instant::now();
    while Follower::ask(&gateway, "").0 != "200" {
        assert!(begun.elapsed() < PATIENCE, "the place of the one that left is never free");
    }
    gateway.get("/a");
    assert!(all.iter_mut().all(|follower| follower.next()["record"]["path"] == "/a"));
}

#[test]
fn the_stream_keeps_the_rules_of_the_admin_interface() {
    let gateway = Gateway::start(&[("policies/a.yaml", &hello("a", "x"))]);
    let ask = |method: &str, path: &str, host: &str, more: &str| {
        let head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n{more}connection: close\r\n\r\n");
        exchange(gateway.admin, &head)
    };
    let own = gateway.admin.to_string();
    for path in ["/api/trace", "/api/trace/failed"] {
        assert_eq!(ask("GET", path, "evil.test", "").status, 421);
        assert_eq!(ask("GET", path, &own, "origin: http://evil.test\r\n").status, 403);
        assert_eq!(ask("POST", path, &own, "").status, 405);
    }
    assert_eq!(ask("GET", "/api/trace?filtr=x", &own, "").status, 400);
    let refused = ask("GET", "/api/trace?filter=request.pth+==+'x'", &own, "");
    assert_eq!(refused.status, 400);
    let diagnostic = &refused.json()["diagnostics"][0];
    assert_eq!((&diagnostic["code"], &diagnostic["column"]), (&json!("expr.unknown_variable"), &json!(9)));
    assert_eq!(diagnostic["help"], "did you mean `request.path`?");
}

/// `gatewright trace` at work; returns when it follows.
fn command_follows(gateway: &Gateway, arguments: &[&str]) -> Child {
    let mut child = command(&gateway.folder.0)
        .args(["trace", "--admin", &gateway.admin.to_string()])
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut said).unwrap();
    assert!(said.starts_with("following requests"), "{said}");
    child
}

#[test]
fn the_command_shows_saves_and_reads_again() {
    let gateway = Gateway::start(&[("policies/a.yaml", &hello("a", "x"))]);
    let child = command_follows(&gateway, &["--count", "2", "--save", "t.jsonl"]);
    gateway.get("/a");
    gateway.get("/none");
    let output = child.wait_with_output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && shown.contains("GET ") && shown.contains("-> 404 denied  service.none"));
    assert!(shown.contains("1 respond") && shown.contains("ended respond  policies/a.yaml:4"), "{shown}");

    let folder = &gateway.folder.0;
    let again = gatewright(folder, &["trace", "--read", "t.jsonl"]);
    assert_eq!((again.code, again.out), (0, shown));
    let some = gatewright(folder, &["trace", "--read", "t.jsonl", "--json", "--filter", "answer.status == 404"]);
    let lines: Vec<Json> = some.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((some.code, lines.len(), &lines[0]["record"]["path"]), (0, 1, &json!("/none")));
    let failed = gatewright(folder, &["trace", "--failed", "--admin", &gateway.admin.to_string()]);
    assert!(failed.code == 0 && failed.out.contains("service.none"), "{} {}", failed.out, failed.err);
    let wrong = gatewright(folder, &["trace", "--read", "t.jsonl", "--filter", "request.pth == 'x'"]);
    assert!(wrong.code == 2 && wrong.err.contains("did you mean `request.path`?"), "{}", wrong.err);
}

#[test]
fn the_command_ends_with_ctrl_c_and_says_where_no_gateway_is() {
    let gateway = Gateway::start(&[("policies/a.yaml", &hello("a", "x"))]);
    let mut child = command_follows(&gateway, &[]);
    let sent = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    assert_eq!(child.wait().unwrap().code(), Some(0));

    let folder = Folder::with(&[("gateway.yaml", &ANY_PORT.replace("admin: { address: 127.0.0.1:0 }", ""))]);
    let nobody = gatewright(&folder.0, &["trace", "--admin", "127.0.0.1:1"]);
    assert_eq!(nobody.code, 1);
    assert!(nobody.err.contains("no gateway answers at 127.0.0.1:1") && nobody.err.contains("gatewright run"));
}
