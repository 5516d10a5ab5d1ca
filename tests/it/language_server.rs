//! The real yaml-language-server, installed by npm in the version of `tests/editors/package.json`, and a
//! client that speaks LSP 3.17 with it over standard input and output.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use serde_json::{Value as Json, json};

use crate::harness::PATIENCE;

/// Files of this folder have their schema from the settings, all others from their modelines.
pub const CONFIGURED: &str = "configured";

/// What an editor is set up to.
fn settings() -> Json {
    json!({ "yaml": {
        "validate": true,
        "hover": true,
        "completion": true,
        "schemaStore": { "enable": false },
        "format": { "enable": false },
        "schemas": { uri("docs/schema/policy.schema.json"): [format!("{CONFIGURED}/**/*.yaml")] },
    } })
}

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// A running server.
pub struct Server {
    child: Child,
    input: ChildStdin,
    messages: Receiver<Json>,
    next: u64,
    diagnostics: BTreeMap<String, Vec<Json>>,
}

impl Server {
    pub fn start() -> Server {
        let mut child = Command::new("node")
            .arg(installed().join("node_modules/yaml-language-server/bin/yaml-language-server"))
            .arg("--stdio")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("node cannot be started: install Debian's packages `nodejs` and `npm`");
        let messages = read_messages(child.stdout.take().unwrap());
        let input = child.stdin.take().unwrap();
        let mut server = Server { child, input, messages, next: 0, diagnostics: BTreeMap::new() };
        let capabilities = json!({
            "workspace": { "configuration": true },
            "textDocument": {
                "completion": { "completionItem": { "snippetSupport": true, "documentationFormat": ["markdown"] } },
                "hover": { "contentFormat": ["markdown"] },
            },
        });
        server.ask("initialize", &json!({ "processId": null, "rootUri": null, "capabilities": capabilities }));
        server.tell("initialized", &json!({}));
        server
    }

    /// Waits for what the server finds in an open document: line, counted from 1, and message. It takes its time
    /// before it looks, so that many documents are best opened first.
    pub fn diagnostics(&mut self, name: &str) -> Vec<(u64, String)> {
        let uri = uri(name);
        while !self.diagnostics.contains_key(&uri) {
            self.step();
        }
        let found = self.diagnostics[&uri].iter();
        found
            .map(|one| {
                let line = one["range"]["start"]["line"].as_u64().unwrap() + 1;
                (line, one["message"].as_str().unwrap_or_default().to_owned())
            })
            .collect()
    }

    pub fn open(&mut self, name: &str, text: &str) {
        let document = json!({ "uri": uri(name), "languageId": "yaml", "version": 1, "text": text });
        self.tell("textDocument/didOpen", &json!({ "textDocument": document }));
    }

    /// Labels of what is offered at a position, both counted from 0.
    pub fn completion(&mut self, name: &str, line: usize, column: usize) -> Vec<String> {
        let answer = self.ask("textDocument/completion", &at(name, line, column));
        let items = answer.get("items").unwrap_or(&answer);
        items.as_array().into_iter().flatten().map(|item| item["label"].as_str().unwrap().to_owned()).collect()
    }

    /// What is shown at a position, both counted from 0.
    pub fn hover(&mut self, name: &str, line: usize, column: usize) -> String {
        let answer = self.ask("textDocument/hover", &at(name, line, column));
        answer["contents"]["value"].as_str().unwrap_or_default().to_owned()
    }

    fn ask(&mut self, method: &str, params: &Json) -> Json {
        self.next += 1;
        let id = self.next;
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        loop {
            if let Some(answer) = self.step_until(id) {
                return answer;
            }
        }
    }

    fn tell(&mut self, method: &str, params: &Json) {
        self.send(&json!({ "jsonrpc": "2.0", "method": method, "params": params }));
    }

    fn send(&mut self, message: &Json) {
        let body = message.to_string();
        write!(self.input, "Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        self.input.flush().unwrap();
    }

    fn step(&mut self) {
        self.step_until(0);
    }

    /// Takes one message; the result where it answers the request of this number.
    fn step_until(&mut self, id: u64) -> Option<Json> {
        let message = self.messages.recv_timeout(PATIENCE).expect("the language server says nothing");
        match message["method"].as_str() {
            Some("textDocument/publishDiagnostics") => {
                let found = message["params"]["diagnostics"].as_array().cloned().unwrap_or_default();
                self.diagnostics.insert(message["params"]["uri"].as_str().unwrap().to_owned(), found);
            }
            Some(method) if message.get("id").is_some() => {
                let settings = settings();
                let sections = message["params"]["items"].as_array().into_iter().flatten();
                let sections = sections.map(|item| settings[item["section"].as_str().unwrap_or_default()].clone());
                let result = match method {
                    "workspace/configuration" => sections.collect(),
                    _ => Json::Null,
                };
                self.send(&json!({ "jsonrpc": "2.0", "id": message["id"], "result": result }));
            }
            Some(_) => {}
            None if message["id"] == id => {
                assert!(message.get("error").is_none(), "the language server refuses: {message}");
                return Some(message["result"].clone());
            }
            None => {}
        }
        None
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn uri(name: &str) -> String {
    format!("file://{}", root().join(name).display())
}

fn at(name: &str, line: usize, column: usize) -> Json {
    json!({ "textDocument": { "uri": uri(name) }, "position": { "line": line, "character": column } })
}

fn read_messages(from: impl Read + Send + 'static) -> Receiver<Json> {
    let (messages, received) = channel();
    std::thread::spawn(move || {
        let mut from = BufReader::new(from);
        while let Some(message) = read_message(&mut from) {
            if messages.send(message).is_err() {
                return;
            }
        }
    });
    received
}

fn read_message(from: &mut impl BufRead) -> Option<Json> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if from.read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end().split_once(": ") {
            Some(("Content-Length", digits)) => length = digits.parse().ok()?,
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body).ok()?;
    serde_json::from_slice(&body).ok()
}

/// The folder in which npm has put the server; it stays for later runs of the suite.
fn installed() -> PathBuf {
    // Tests run at once: the first of them installs, the others wait.
    static INSTALLED: OnceLock<PathBuf> = OnceLock::new();
    INSTALLED.get_or_init(install).clone()
}

fn install() -> PathBuf {
    let pinned = root().join("tests/editors");
    let version = version_in(&std::fs::read_to_string(pinned.join("package.json")).unwrap());
    let tools = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("tools");
    let folder = tools.join(format!("yaml-language-server-{version}"));
    if folder.join("complete").exists() {
        return folder;
    }
    let begun = Instant::now();
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    for file in ["package.json", "package-lock.json"] {
        std::fs::copy(pinned.join(file), folder.join(file)).unwrap();
    }
    let ran = Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"])
        .current_dir(&folder)
        .stdin(Stdio::null())
        .output()
        .expect("npm cannot be started: install Debian's packages `nodejs` and `npm`");
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(ran.status.success(), "npm could not install yaml-language-server {version}:\n{said}");
    std::fs::write(folder.join("complete"), format!("{:?}\n", begun.elapsed())).unwrap();
    folder
}

fn version_in(package: &str) -> String {
    let package: Json = serde_json::from_str(package).unwrap();
    package["dependencies"]["yaml-language-server"].as_str().unwrap().to_owned()
}
