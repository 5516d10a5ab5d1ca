//! A gateway process of its own for a test: its folder, its addresses, its log and records, and a client.
//!
//! Ports are chosen by the system and read from the log. Nothing waits for a time: every wait is for a log
//! line, a record or an answer, and fails after [`PATIENCE`].

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::Value as Json;

/// Longer than anything here takes: a test that runs into it has failed.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Listeners on ports that the system chooses.
pub const ANY_PORT: &str =
    "listeners: [{ name: main, address: 127.0.0.1:0 }]\nadmin: { address: 127.0.0.1:0 }\nworkers: 2\ndrain: 20s\n";

/// A service that answers with a text.
pub fn hello(name: &str, text: &str) -> String {
    format!("service: {name}\nmatch: {{ path: /{name} }}\npolicy:\n  - respond: {{ text: \"{text}\" }}\n")
}

/// A folder that is removed with the test.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("gatewright-it-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(path.join("policies")).unwrap();
        Folder(path)
    }

    /// A folder with these files; gateway.yaml listens on any port where it is not among them.
    pub fn with(files: &[(&str, &str)]) -> Folder {
        let folder = Folder::new();
        if !files.iter().any(|(name, _)| *name == "gateway.yaml") {
            folder.write("gateway.yaml", ANY_PORT);
        }
        for (name, text) in files {
            folder.write(name, text);
        }
        folder
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An address that nobody listens on, for somebody who must know it before he does. It lies below the ports that
/// the kernel gives out by itself (`ip_local_port_range`): one of those may be any other test's a moment later.
pub fn free_address() -> SocketAddr {
    const PORTS: std::ops::Range<u32> = 15_000..32_000;
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    loop {
        // Another process of tests begins elsewhere.
        let number = std::process::id().wrapping_mul(101).wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(PORTS.start + number % (PORTS.end - PORTS.start)).unwrap();
        if let Ok(free) = TcpListener::bind(("127.0.0.1", port)) {
            return free.local_addr().unwrap();
        }
    }
}

/// What a finished command has said.
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// Runs a command of the program to its end.
pub fn gatewright(folder: &Path, arguments: &[&str]) -> Said {
    let output = command(folder).args(arguments).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
}

/// A program to be tested in the place of the one that was built beside the tests: how `bench/proof` measures a
/// release build.
pub fn other_program() -> Option<OsString> {
    std::env::var_os("GATEWRIGHT_BINARY")
}

pub fn command(folder: &Path) -> Command {
    let mut command = Command::new(other_program().unwrap_or(env!("CARGO_BIN_EXE_gatewright").into()));
    command.current_dir(folder);
    command
}

/// A running gateway.
pub struct Gateway {
    pub folder: Folder,
    pub main: SocketAddr,
    pub admin: SocketAddr,
    /// What the log said before it served.
    pub begun: Vec<Json>,
    child: Child,
    log: Receiver<Json>,
    records: Receiver<Json>,
}

impl Gateway {
    /// Starts a gateway with these files and waits until it serves.
    pub fn start(files: &[(&str, &str)]) -> Gateway {
        Gateway::serve(Folder::with(files))
    }

    /// Starts a gateway in a folder and waits until it serves.
    pub fn serve(folder: Folder) -> Gateway {
        let mut command = command(&folder.0);
        command.arg("run");
        Gateway::serve_by(folder, command)
    }

    /// Starts a gateway by a command of the test's own and waits until it serves.
    pub fn serve_by(folder: Folder, mut command: Command) -> Gateway {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let log = json_lines(child.stderr.take().unwrap());
        let records = json_lines(child.stdout.take().unwrap());
        let (mut main, mut admin, mut begun) = (None, None, Vec::new());
        loop {
            let line = log.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("the gateway ended before it served: {begun:#?}"));
            let address = || line["address"].as_str().unwrap().parse().unwrap();
            match (line["message"].as_str(), line["listener"].as_str()) {
                (Some("listening"), Some("admin")) => admin = Some(address()),
                (Some("listening"), _) => main = main.or_else(|| Some(address())),
                (Some("serving"), _) => break,
                _ => {}
            }
            begun.push(line);
        }
        Gateway { folder, main: main.unwrap(), admin: admin.unwrap(), begun, child, log, records }
    }

    /// Where a listener stands, by what the log said of it.
    pub fn address_of(&self, listener: &str) -> &str {
        let line = self.begun.iter().find(|line| line["message"] == "listening" && line["listener"] == listener);
        line.unwrap_or_else(|| panic!("no listener {listener}: {:?}", self.begun))["address"].as_str().unwrap()
    }

    /// The next log line that begins with these words.
    pub fn logged(&self, words: &str) -> Json {
        next(&self.log, |line| line["message"].as_str().is_some_and(|message| message.starts_with(words)), words)
    }

    /// The next record of a path.
    pub fn record(&self, path: &str) -> Json {
        next(&self.records, |record| record["path"] == path, path)
    }

    /// The next record, whatever it is of.
    pub fn any_record(&self) -> Json {
        next(&self.records, |_| true, "a record")
    }

    /// The next record of a refusal.
    pub fn refusal(&self, code: &str) -> Json {
        next(&self.records, |record| record["fault"] == code, code)
    }

    pub fn get(&self, path: &str) -> Answer {
        get(self.main, path)
    }

    /// Asks the admin interface, by its own address.
    pub fn ask_admin(&self, method: &str, path: &str) -> Answer {
        exchange(self.admin, &format!("{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.admin))
    }

    /// Polls the admin interface until an answer is as expected.
    pub fn admin_until(&self, path: &str, wanted: impl Fn(&Answer) -> bool) -> Answer {
        let begun = Instant::now();
        loop {
            let answer = self.ask_admin("GET", path);
            if wanted(&answer) {
                return answer;
            }
            assert!(begun.elapsed() < PATIENCE, "{path} never became as expected: {}", answer.body);
            std::thread::yield_now();
        }
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    /// Kills the process as a crash would; its folder stays.
    pub fn kill(mut self) -> Folder {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::mem::replace(&mut self.folder, Folder::new())
    }

    /// Waits until the process has ended, and demands that it ended of itself and well.
    pub fn ends_well(&mut self) {
        // Its end closes the log: nothing to poll.
        let begun = Instant::now();
        let said: Vec<Json> =
            std::iter::from_fn(|| self.log.recv_timeout(PATIENCE.saturating_sub(begun.elapsed())).ok()).collect();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}, after it had said {said:#?}");
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn json_lines(from: impl Read + Send + 'static) -> Receiver<Json> {
    let (lines, received) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let json = serde_json::from_str(&line).unwrap_or(Json::String(line));
            if lines.send(json).is_err() {
                return;
            }
        }
    });
    received
}

fn next(from: &Receiver<Json>, wanted: impl Fn(&Json) -> bool, what: &str) -> Json {
    let begun = Instant::now();
    let mut seen = Vec::new();
    loop {
        match from.recv_timeout(PATIENCE.saturating_sub(begun.elapsed())) {
            Ok(line) if wanted(&line) => return line,
            Ok(line) => seen.push(line.to_string()),
            Err(_) => panic!("nothing of `{what}` came; there were:\n{}", seen.join("\n")),
        }
    }
}

/// An answer as it came over the wire.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Json {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// A header field, its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().filter_map(|line| line.split_once(": ")).find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}

/// What a program has said; it has to end well.
pub fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| {
        panic!("{program}: {error}; the packages that the suite needs are those that .ci/run installs")
    });
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

pub fn get(address: SocketAddr, path: &str) -> Answer {
    exchange(address, &format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n"))
}

/// Sends bytes on a connection of their own and reads the answer to the end.
pub fn exchange(address: SocketAddr, request: &str) -> Answer {
    let mut tcp = TcpStream::connect(address).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    tcp.write_all(request.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    tcp.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}
