//! The life of the process: serving, reloading, being looked at, draining.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::harness::{
    ANY_PORT, Answer, Folder, Gateway, PATIENCE, command, exchange, free_address, gatewright, get, hello,
};

#[test]
fn what_ships_serves_as_it_is() {
    let folder = Folder::with(&[]);
    let shipped = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    for entry in std::fs::read_dir(shipped).unwrap().flatten() {
        std::fs::copy(entry.path(), folder.path("policies").join(entry.file_name())).unwrap();
    }
    let gateway = Gateway::serve(folder);
    assert_eq!(gateway.get("/hello?name=Ada").json()["hello"], "Ada");
    let record = gateway.record("/hello");
    assert_eq!((record["status"].as_u64(), record["service"].as_str()), (Some(200), Some("hello")));

    let nothing = gateway.get("/nothing");
    assert_eq!((nothing.status, nothing.json()["code"].as_str().unwrap()), (404, "service.none"));
    let posted =
        exchange(gateway.main, "POST /hello HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    assert_eq!((posted.status, posted.header("allow")), (405, Some("GET, HEAD")));
    assert_eq!(gateway.record("/hello")["fault"], "service.method");
    let echoed = exchange(
        gateway.main,
        "POST /echo/x HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 5\r\n\r\nround",
    );
    assert_eq!(echoed.body, "round");
}

#[test]
fn what_never_was_a_request_is_recorded_and_counted() {
    let gateway = Gateway::start(&[("policies/a.yaml", &hello("a", "x"))]);
    let answer =
        exchange(gateway.main, "GET /a HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n");
    assert_eq!(answer.status, 400);
    assert_eq!(gateway.record("")["fault"], "request.framing");
    let numbers = gateway.ask_admin("GET", "/metrics").body;
    assert!(numbers.contains("gatewright_faults_total{service=\"none\",code=\"request.framing\"} 1"), "{numbers}");
}

#[test]
fn good_files_are_taken_and_broken_ones_are_not() {
    let gateway = Gateway::start(&[("policies/a.yaml", &hello("a", "one"))]);
    let first = gateway.ask_admin("GET", "/api/snapshot").json();
    assert_eq!(first["last_reload"]["result"], "started");
    assert_eq!(first["services"][0]["match"], "/a");
    assert_eq!(first["services"][0]["steps"][0]["place"], "policies/a.yaml:4");

    gateway.folder.write("policies/a.yaml", &hello("a", "two"));
    let line = gateway.logged("reloaded");
    assert_eq!(line["from"], first["version"]);
    let answer = gateway.get("/a");
    assert_eq!(answer.body, "two");
    assert_eq!(gateway.record("/a")["snapshot"], line["to"]);

    gateway.folder.write("policies/b.yaml", "service: b\nmatch: { path: /b }\npolicy:\n  - respnd: 200\n");
    let refused = gateway.logged("the changed files are not taken");
    assert!(refused["diagnostics"].as_str().unwrap().contains("policies/b.yaml:4:5"), "{refused}");
    assert_eq!(gateway.get("/a").body, "two");
    let ready = gateway.ask_admin("GET", "/readyz");
    assert_eq!((ready.status, ready.json()["reload_failing"].as_bool()), (200, Some(true)));
    let last = gateway.ask_admin("GET", "/api/snapshot").json()["last_reload"].clone();
    assert_eq!(last["result"], "refused");
    assert_eq!(last["diagnostics"][0]["code"], "policy.unknown_assertion");
    let numbers = gateway.ask_admin("GET", "/metrics").body;
    for line in [
        "gatewright_reload_failing 1",
        "gatewright_reloads_total{result=\"refused\"} 1",
        "gatewright_reloads_total{result=\"swapped\"} 1",
        "gatewright_records_lost_total 0",
    ] {
        assert!(numbers.contains(&format!("\n{line}\n")), "no {line} in\n{numbers}");
    }

    std::fs::remove_file(gateway.folder.path("policies/b.yaml")).unwrap();
    gateway.admin_until("/readyz", |answer| answer.json()["reload_failing"] == false);
}

#[test]
fn a_file_that_cannot_be_read_refuses_the_set_until_it_is_gone() {
    use rustix::fs::{CWD, Mode, mkfifoat};
    let gateway = Gateway::start(&[("policies/a.yaml", &hello("a", "one"))]);
    let pipe = gateway.folder.path("policies/pipe.yaml");
    let refused = || {
        let refused = gateway.logged("the changed files are not taken");
        assert!(refused["diagnostics"].as_str().unwrap().contains("it is a pipe"), "{refused}");
    };
    mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
    refused();
    gateway.folder.write("policies/a.yaml", &hello("a", "two"));
    refused();
    std::fs::remove_file(&pipe).unwrap();
    gateway.logged("reloaded");
    assert_eq!(gateway.get("/a").body, "two");
    mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).unwrap();
    refused();
    std::fs::remove_file(&pipe).unwrap();
    gateway.admin_until("/readyz", |answer| answer.json()["reload_failing"] == false);
}

#[test]
fn a_document_that_vanishes_from_its_file_is_named() {
    let both = format!("{}---\n{}", hello("a", "x"), hello("b", "x"));
    let gateway = Gateway::start(&[("policies/both.yaml", &both), ("policies/c.yaml", &hello("c", "x"))]);
    gateway.folder.write("policies/both.yaml", &hello("a", "x"));
    let line = gateway.logged("this document has vanished");
    assert_eq!((line["kind"].as_str(), line["name"].as_str()), (Some("service"), Some("b")));
    assert_eq!(gateway.get("/b").status, 404);
}

#[test]
fn a_reload_can_be_asked_for() {
    let config = format!("{ANY_PORT}reload: {{ poll: off }}\n");
    let gateway = Gateway::start(&[("gateway.yaml", &config), ("policies/a.yaml", &hello("a", "one"))]);
    let report = gateway.ask_admin("POST", "/api/reload");
    assert_eq!((report.status, report.json()["result"].as_str().unwrap().to_owned()), (200, "swapped".to_owned()));
    gateway.logged("reloaded");
    gateway.signal("HUP");
    gateway.logged("reloaded");
    gateway.folder.write("policies/a.yaml", "nonsense: 1\n");
    let report = gateway.ask_admin("POST", "/api/reload");
    assert_eq!(report.status, 422);
    assert_eq!(report.json()["diagnostics"][0]["code"], "policy.unknown_document");
}

#[test]
fn a_change_of_the_configuration_needs_a_restart_and_says_so() {
    let gateway = Gateway::start(&[("policies/a.yaml", &hello("a", "x"))]);
    gateway.folder.write("gateway.yaml", &format!("{ANY_PORT}# changed\n"));
    gateway.logged("the configuration has changed");
}

#[test]
fn the_admin_interface_answers_only_its_own_host_and_origin() {
    let gateway = Gateway::start(&[("policies/a.yaml", &hello("a", "x"))]);
    let port = gateway.admin.port();
    let ask = |method: &str, path: &str, fields: &str| {
        let request = format!("{method} {path} HTTP/1.1\r\n{fields}connection: close\r\n\r\n");
        exchange(gateway.admin, &request).status
    };
    let own = format!("host: localhost:{port}\r\n");
    assert_eq!(ask("GET", "/healthz", &own), 200);
    assert_eq!(ask("GET", "/healthz", &format!("host: evil.test:{port}\r\n")), 421);
    assert_eq!(ask("GET", "/healthz", "host: localhost\r\n"), 421);
    assert_eq!(ask("POST", "/api/reload", &format!("{own}origin: http://evil.test\r\n")), 403);
    assert_eq!(ask("POST", "/api/reload", &format!("{own}content-type: text/plain\r\n")), 415);
    assert_eq!(ask("POST", "/api/reload", &format!("{own}origin: http://localhost:{port}\r\n")), 200);
    assert_eq!(ask("GET", "/api/reload", &own), 405);
    assert_eq!(ask("DELETE", "/metrics", &own), 405);
    assert_eq!(ask("GET", "/", &own), 404);
}

/// An upstream that answers each request when it is told to.
struct Held {
    listener: TcpListener,
}

impl Held {
    fn policy() -> (Held, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (Held { listener }, format!("service: held\nmatch: {{ path: /held }}\npolicy:\n  - route: http://{address}\n"))
    }

    /// Waits for a request to arrive.
    fn arrived(&self) -> TcpStream {
        let (mut tcp, _) = self.listener.accept().unwrap();
        let (mut seen, mut byte) = (Vec::new(), [0]);
        while !seen.ends_with(b"\r\n\r\n") {
            tcp.read_exact(&mut byte).unwrap();
            seen.push(byte[0]);
        }
        tcp
    }
}

#[test]
fn a_drain_lets_requests_end_and_takes_no_new_ones() {
    let (upstream, policy) = Held::policy();
    let mut gateway = Gateway::start(&[("policies/a.yaml", &policy)]);
    let (main, admin) = (gateway.main, gateway.admin);
    let client = std::thread::spawn(move || get(main, "/held"));
    let mut asked = upstream.arrived();
    gateway.signal("TERM");
    gateway.logged("draining");
    let ready: Answer = gateway.ask_admin("GET", "/readyz");
    assert_eq!((ready.status, ready.json()["draining"].as_bool()), (503, Some(true)));
    let _ = admin;
    asked.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate").unwrap();
    assert_eq!(client.join().unwrap().body, "late");
    assert_eq!(gateway.record("/held")["outcome"], "sent");
    gateway.ends_well();
    assert!(TcpStream::connect_timeout(&main, Duration::from_secs(1)).is_err());
}

#[test]
fn a_second_signal_ends_at_once() {
    let (upstream, policy) = Held::policy();
    let mut gateway = Gateway::start(&[("policies/a.yaml", &policy)]);
    let mut client = TcpStream::connect(gateway.main).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(b"GET /held HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let asked = upstream.arrived();
    gateway.signal("TERM");
    gateway.logged("draining");
    gateway.signal("TERM");
    gateway.logged("a second signal");
    assert_eq!(gateway.record("/held")["method"], "GET", "what is cut is recorded");
    gateway.ends_well();
    drop(asked);
}

#[test]
fn a_failing_test_keeps_the_old_set() {
    let gateway = Gateway::start(&[("policies/a.yaml", &hello("a", "one"))]);
    let tested = |expected: &str| {
        let policy = hello("a", "two");
        format!(
            "{policy}tests:\n  - name: t\n    request: {{ path: /a }}\n    expect: {{ status: 200, text: {expected} }}\n"
        )
    };
    gateway.folder.write("policies/a.yaml", &tested("three"));
    let refused = gateway.logged("the changed files are not taken");
    let said = refused["diagnostics"].as_str().unwrap();
    assert!(said.contains("error[test.failed]: a: t: ") && said.contains("policies/a.yaml:8"), "{said}");
    assert_eq!(gateway.get("/a").body, "one");
    gateway.folder.write("policies/a.yaml", &tested("two"));
    gateway.logged("reloaded");
    assert_eq!(gateway.get("/a").body, "two");
}

#[test]
fn a_body_may_be_a_file_below_the_folder_and_none_outside() {
    let page = |file: &str| {
        format!(
            "service: page\nmatch: {{ path: /page }}\npolicy:\n  - respond: {{ file: {file}, content_type: text/html }}\n"
        )
    };
    let gateway = Gateway::start(&[("pages/a.html", "<p>hello</p>"), ("policies/page.yaml", &page("pages/a.html"))]);
    let answer = gateway.get("/page");
    assert_eq!((answer.body.as_str(), answer.header("content-type")), ("<p>hello</p>", Some("text/html")));
    for outside in ["../../etc/hostname", "/etc/hostname", "pages/none.html"] {
        gateway.folder.write("policies/page.yaml", &page(outside));
        let said = gatewright(&gateway.folder.path(""), &["check"]);
        assert!(said.code == 3 && (said.out + &said.err).contains("policy.unreadable"), "{outside}");
    }
}

/// A gateway whose log is read line by line from its first one, and what it has said until one begins with `words`.
fn begun_until(folder: &Folder, words: &str) -> (Child, impl Iterator<Item = String> + use<>) {
    let mut command = command(&folder.0);
    let mut child = command.arg("run").stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(log.any(|line| line.contains(words)), "it ended without {words:?}");
    (child, log)
}

fn tell(child: &Child, signal: &str) {
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status();
    assert!(sent.unwrap().success());
}

#[test]
fn signals_are_heard_from_before_the_files_are_read() {
    let folder = Folder::with(&[("policies/a.yaml", &hello("a", "one"))]);
    for told in ["loading", "listening"] {
        let (mut child, mut log) = begun_until(&folder, told);
        tell(&child, "-HUP");
        assert!(log.any(|line| line.contains("reloaded")), "a SIGHUP at {told:?} has ended it");
        tell(&child, "-TERM");
        assert!(log.any(|line| line.contains("drained")), "a SIGTERM has cut it off");
        assert_eq!(child.wait().unwrap().code(), Some(0));
        let (mut child, mut log) = begun_until(&folder, told);
        tell(&child, "-TERM");
        // Whether it was still reading or served already when it heard of it, it ends as one that drained.
        assert!(log.any(|line| line.contains("told to stop") || line.contains("drained")), "{told:?}");
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn a_log_that_nobody_takes_any_more_costs_nothing_else() {
    let (main, admin) = (free_address(), free_address());
    let basics = format!("listeners: [{{ name: main, address: \"{main}\" }}]\nadmin: {{ address: \"{admin}\" }}\n");
    let said = "service: a\nmatch: { path: /a }\npolicy:\n  - log: { message: x, level: warn }\n  - respond: { text: \"one\" }\n";
    let folder = Folder::with(&[("gateway.yaml", &basics), ("policies/a.yaml", said)]);
    let (mut child, log) = begun_until(&folder, "\"serving\"");
    drop(log); // whatever is written from here on is refused
    let reload =
        || exchange(admin, &format!("POST /api/reload HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\r\n"));
    for text in ["two", "three"] {
        assert_eq!(get(main, "/a").status, 200);
        folder.write("policies/a.yaml", &said.replace("one", text));
        assert_eq!(reload().status, 200);
        assert_eq!(get(main, "/a").body, text);
    }
    folder.write("policies/a.yaml", "service: [");
    assert_eq!(reload().status, 422);
    tell(&child, "-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn an_address_that_another_gateway_has_is_taken() {
    let first = Gateway::start(&[("policies/a.yaml", &hello("a", "one"))]);
    let basics =
        format!("listeners: [{{ name: main, address: \"{}\" }}]\nadmin: {{ address: 127.0.0.1:0 }}\n", first.main);
    let said =
        gatewright(&Folder::with(&[("gateway.yaml", &basics), ("policies/a.yaml", &hello("a", "two"))]).0, &["run"]);
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(said.err.contains("main") && said.err.contains(&first.main.to_string()), "{}", said.err);
    assert_eq!(first.get("/a").body, "one");
}

#[test]
fn both_families_may_have_one_port() {
    let port = free_address().port();
    let listeners =
        format!("[{{ name: four, address: \"0.0.0.0:{port}\" }}, {{ name: six, address: \"[::]:{port}\" }}]");
    let basics = format!("listeners: {listeners}\nadmin: {{ address: 127.0.0.1:0 }}\nworkers: 2\n");
    let _gateway = Gateway::start(&[("gateway.yaml", &basics), ("policies/a.yaml", &hello("a", "one"))]);
    for address in [format!("127.0.0.1:{port}"), format!("[::1]:{port}")] {
        assert_eq!(get(address.parse().unwrap(), "/a").body, "one", "{address}");
    }
}

#[test]
fn why_nothing_serves_is_told_once_in_the_form_of_the_log() {
    for (format, is_json) in [("text", false), ("json", true)] {
        let basics = format!("{ANY_PORT}log: {{ format: {format} }}\n");
        let folder = Folder::with(&[("gateway.yaml", &basics), ("policies/a.yaml", "service: [")]);
        let said = gatewright(&folder.0, &["run"]);
        assert_eq!((said.code, said.err.matches("error[").count()), (3, 1), "{}", said.err);
        assert!(said.err.contains("nothing valid to serve"), "{}", said.err);
        let lines = said.err.lines().filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()).count();
        assert_eq!(lines == said.err.lines().count(), is_json, "{}", said.err);
    }
}
