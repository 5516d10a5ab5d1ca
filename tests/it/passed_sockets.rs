//! Sockets that systemd holds: a gateway that `systemd-socket-activate` starts serves the connection that it was
//! started for, and all that come after it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{Folder, Gateway, PATIENCE, command, free_address, gatewright, hello, said};

const PASSED: &str = "\
listeners:
  - { name: main, address: systemd:web }
  - { name: local, address: systemd:near, allow_plaintext_credentials: true }
admin: { address: 127.0.0.1:0 }
workers: 2
";

const REQUEST: &[u8] = b"GET /hello HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n";

fn answer(mut stream: impl Read) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Connects as soon as somebody listens.
fn connect<S>(how: impl Fn() -> std::io::Result<S>) -> S {
    let begun = Instant::now();
    loop {
        match how() {
            Ok(stream) => return stream,
            Err(error) => assert!(begun.elapsed() < PATIENCE, "nobody listens: {error}"),
        }
        std::thread::sleep(Duration::from_millis(5)); // another process binds: nothing wakes us
    }
}

/// The command that starts a gateway when the first client comes, with sockets of these names.
fn activated(folder: &Path, sockets: &[&str], names: &str) -> Command {
    let gateway = command(folder);
    let mut activate = Command::new("systemd-socket-activate");
    activate.current_dir(folder).args(sockets.iter().flat_map(|socket| ["-l", socket]));
    activate.arg(format!("--fdname={names}")).arg("--").arg(gateway.get_program()).arg("run");
    activate
}

#[test]
fn sockets_that_systemd_passes_are_served_by_their_names() {
    let folder = Folder::with(&[("gateway.yaml", PASSED), ("policies/hello.yaml", &hello("hello", "served"))]);
    let web = free_address();
    let socket = folder.path("near.sock");
    let activate = activated(&folder.0, &[&web.to_string(), socket.to_str().unwrap()], "web:near");
    let first = std::thread::spawn(move || {
        let mut first = connect(|| TcpStream::connect(web));
        first.set_read_timeout(Some(PATIENCE)).unwrap();
        first.write_all(REQUEST).unwrap();
        answer(first)
    });
    let mut gateway = Gateway::serve_by(folder, activate);
    assert!(first.join().unwrap().ends_with("served"), "the client for whom it was started");
    assert_eq!(gateway.main, web);
    assert_eq!(gateway.address_of("local"), format!("unix:{}", socket.display()));
    for _ in 0..4 {
        assert_eq!(gateway.get("/hello").body, "served");
        let mut near = UnixStream::connect(&socket).unwrap();
        near.set_read_timeout(Some(PATIENCE)).unwrap();
        near.write_all(REQUEST).unwrap();
        assert!(answer(near).ends_with("served"));
    }
    gateway.signal("TERM");
    gateway.ends_well();
    assert!(socket.exists(), "its file is systemd's to remove");
}

#[test]
fn a_passed_socket_that_nobody_takes_is_told_of() {
    let basics = "listeners: [{ name: main, address: systemd:web }]\nadmin: { address: 127.0.0.1:0 }\n";
    let folder = Folder::with(&[("gateway.yaml", basics), ("policies/hello.yaml", &hello("hello", "served"))]);
    let socket = folder.path("web.sock");
    let web = free_address();
    let activate = activated(&folder.0, &[&web.to_string(), socket.to_str().unwrap()], "web:other");
    std::thread::spawn(move || connect(|| TcpStream::connect(web)));
    let gateway = Gateway::serve_by(folder, activate);
    let told = gateway.begun.iter().find(|line| line["socket"] == "other").unwrap();
    assert_eq!(told["help"], "write `address: systemd:other`");
}

#[test]
fn a_listener_without_its_socket_keeps_the_gateway_from_starting() {
    let folder = Folder::with(&[("gateway.yaml", PASSED), ("policies/hello.yaml", &hello("hello", "served"))]);
    let said = gatewright(&folder.0, &["run"]);
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(said.err.contains("expects a socket called \\\"web\\\" from systemd, and was passed none"), "{}", said.err);
}

#[test]
fn the_units_that_ship_are_taken_by_systemd_and_fit_each_other() {
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging");
    let folder = Folder::new();
    for name in ["gatewright.service", "gatewright.socket"] {
        let unit = std::fs::read_to_string(packaging.join(name)).unwrap();
        // The program is looked for where it is installed to.
        let unit = unit.replace("/usr/bin/gatewright", command(&folder.0).get_program().to_str().unwrap());
        folder.write(name, &unit);
    }
    let unit = |name: &str| folder.path(name).to_string_lossy().into_owned();
    let told =
        said("systemd-analyze", &["verify", "--man=no", &unit("gatewright.service"), &unit("gatewright.socket")]);
    assert_eq!(told, "");
}
