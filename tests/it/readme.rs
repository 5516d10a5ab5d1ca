//! The commands of the READMEs do what the READMEs show.
//!
//! Every ```` ```console ```` block is run in a copy of the repository's files: `$ ` begins a command, `> ` continues it,
//! other lines are what it prints, and `...` stands for anything. Fixed ports are replaced by free ones.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::free_address;

const PATIENCE: Duration = Duration::from_secs(30);

struct Playground {
    folder: PathBuf,
    ports: Vec<(String, String)>,
    running: Vec<Child>,
}

impl Playground {
    /// A copy of `paths` with every fixed port replaced.
    fn new(name: &str, paths: &[&str], ports: &[u16]) -> Playground {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = std::env::temp_dir().join(format!("gatewright-readme-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        let ports = ports.iter().map(|fixed| (format!("127.0.0.1:{fixed}"), free_address().to_string()));
        let playground = Playground { folder, ports: ports.collect(), running: Vec::new() };
        for path in paths {
            playground.copy(&root.join(path), &playground.folder.join(path));
        }
        playground
    }

    fn copy(&self, from: &Path, to: &Path) {
        if from.is_dir() {
            std::fs::create_dir_all(to).unwrap();
            for entry in std::fs::read_dir(from).unwrap().flatten() {
                self.copy(&entry.path(), &to.join(entry.file_name()));
            }
        } else {
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::write(to, self.moved(&std::fs::read_to_string(from).unwrap())).unwrap();
        }
    }

    fn moved(&self, text: &str) -> String {
        self.ports.iter().fold(text.to_owned(), |text, (fixed, free)| text.replace(fixed, free))
    }

    /// Starts a gateway and waits until its admin listener answers.
    fn start(&mut self, arguments: &[&str], env: &[(&str, &str)], admin: &str) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gatewright"));
        command.args(arguments).envs(env.iter().copied()).current_dir(&self.folder);
        let log = self.folder.join(format!("log-{}", self.running.len()));
        command.stdout(Stdio::null()).stderr(std::fs::File::create(&log).unwrap());
        self.running.push(command.spawn().unwrap());
        let (admin, begun) = (self.moved(admin), Instant::now());
        while TcpStream::connect(&admin).is_err() {
            let ended = self.running.last_mut().unwrap().try_wait().unwrap();
            let said = || std::fs::read_to_string(&log).unwrap();
            assert!(ended.is_none() && begun.elapsed() < PATIENCE, "the gateway did not come up:\n{}", said());
            std::thread::sleep(Duration::from_millis(10)); // another process binds: nothing wakes us
        }
    }

    /// Runs a command to its end, before a gateway needs what it makes.
    fn prepare(&self, program: &str, arguments: &[&str]) {
        let mut command = Command::new(program);
        assert!(command.args(arguments).current_dir(&self.folder).status().unwrap().success());
    }

    /// Starts a system behind the gateway and waits until it says that it listens.
    fn start_behind(&mut self, program: &str, script: &str, address: &str) {
        let mut command = Command::new(program);
        command.arg(script).arg(self.moved(address)).current_dir(&self.folder).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        self.running.push(child);
        assert!(line.starts_with("listening on "), "{script} did not come up");
    }

    /// Runs every console block of a README.
    fn follow(&self, readme: &str) -> usize {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(readme)).unwrap();
        let commands = commands(&text);
        let binary = Path::new(env!("CARGO_BIN_EXE_gatewright")).parent().unwrap();
        let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap());
        for (command, expected) in &commands {
            let mut shell = Command::new("sh");
            shell.arg("-c").arg(self.moved(command)).env("PATH", &path).current_dir(&self.folder);
            let output = shell.output().unwrap();
            let said =
                format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(fits(expected, said.trim_end()), "{readme}: {command}\n-- expected\n{expected}\n-- said\n{said}");
        }
        commands.len()
    }
}

impl Drop for Playground {
    fn drop(&mut self) {
        for child in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Commands of the console blocks with what they shall print.
fn commands(text: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with("```") {
            inside = line == "```console";
        } else if inside && let Some(command) = line.strip_prefix("$ ") {
            found.push((command.to_owned(), String::new()));
        } else if inside && let Some((command, expected)) = found.last_mut() {
            let more = line.strip_prefix("> ").or((line == ">").then_some(""));
            match more.filter(|_| expected.is_empty()) {
                Some(more) => *command += &format!("\n{more}"),
                None => *expected += &format!("{}{line}", if expected.is_empty() { "" } else { "\n" }),
            }
        }
    }
    found
}

/// Whether a text has the parts of a pattern between its `...`, in order and from end to end.
fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split("...");
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap()) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last.trim_start_matches('\n')) || (last.trim().is_empty())
}

#[test]
fn the_readme_shows_what_happens() {
    let mut playground = Playground::new("main", &["gateway.yaml", "policies"], &[8080, 9901]);
    playground.start(&["run"], &[], "127.0.0.1:9901");
    assert!(playground.follow("README.md") >= 8);
}

#[test]
fn the_signing_example_shows_what_happens() {
    let mut playground = Playground::new("signing", &["examples/signing"], &[8081, 8082, 9911, 9912]);
    let key = [("PARTNER_KEY", "a-shared-key-of-32-bytes-or-more")];
    playground.start(&["run", "--config", "examples/signing/verifier/gateway.yaml"], &key, "127.0.0.1:9912");
    playground.start(&["run", "--config", "examples/signing/signer/gateway.yaml"], &key, "127.0.0.1:9911");
    assert!(playground.follow("examples/signing/README.md") >= 4);
}

/// Starts an example in a copy and follows its README.
fn example(name: &str, ports: &[u16], env: &[(&str, &str)], admin: &str, commands_min: usize) {
    let folder = format!("examples/{name}");
    let mut playground = Playground::new(name, &[&folder], ports);
    playground.start(&["run", "--config", &format!("{folder}/gateway.yaml")], env, admin);
    assert!(playground.follow(&format!("{folder}/README.md")) >= commands_min);
}

#[test]
fn the_partner_example_shows_what_happens() {
    let key = [("ACME_SIGNING", "a-shared-key-of-32-bytes-or-more")];
    example("partner_api", &[8083, 9003, 9913], &key, "127.0.0.1:9913", 3);
}

#[test]
fn the_managed_example_shows_what_happens() {
    example("managed_api", &[8084, 9004, 9914], &[], "127.0.0.1:9914", 8);
}

#[test]
fn the_routing_example_shows_what_happens() {
    example("content_routing", &[8085, 9005, 9006, 9915], &[], "127.0.0.1:9915", 3);
}

#[test]
fn the_saml_example_shows_what_happens() {
    example("saml_for_rest", &[8086, 8087, 9007, 9916], &[], "127.0.0.1:9916", 4);
}

#[test]
fn the_token_example_shows_what_happens() {
    let secret = [("IDP_SECRET", "a-shared-secret-of-32-bytes-or-more")];
    example("jwt_crud", &[8088, 9008, 9917], &secret, "127.0.0.1:9917", 4);
}

#[test]
fn the_front_with_mutual_tls_shows_what_happens() {
    let mut playground = Playground::new("tls_front", &["examples/tls_front"], &[8090, 9011, 9919]);
    playground.prepare("sh", &["examples/tls_front/certificates.sh"]);
    playground.start(&["run", "--config", "examples/tls_front/gateway.yaml"], &[], "127.0.0.1:9919");
    assert!(playground.follow("examples/tls_front/README.md") >= 3);
}

#[test]
fn the_grpc_and_websocket_example_shows_what_happens() {
    let folder = "examples/grpc_and_websocket";
    let mut playground = Playground::new("grpc_and_websocket", &[folder], &[8089, 9009, 9010, 9918]);
    for (script, address) in [("orders_server.py", "127.0.0.1:9009"), ("chat_server.py", "127.0.0.1:9010")] {
        playground.start_behind("/usr/bin/python3", &format!("{folder}/peers/{script}"), address);
    }
    playground.start(&["run", "--config", &format!("{folder}/gateway.yaml")], &[], "127.0.0.1:9918");
    assert!(playground.follow(&format!("{folder}/README.md")) >= 7);
}

#[test]
fn the_outbound_example_shows_what_happens() {
    let secret = [("CRM_CLIENT_SECRET", "a-client-secret-at-the-crm")];
    example("outbound_proxy", &[8089, 9009, 9918], &secret, "127.0.0.1:9918", 8);
}

#[test]
fn patterns_fit_from_end_to_end() {
    assert!(fits("a", "a") && !fits("a", "ab") && !fits("a", ""));
    assert!(fits("a...c", "abc") && !fits("a...c", "abd") && fits("...", ""));
    assert!(fits("a\n...", "a\nb") && fits("...\n1 passed", "x\n1 passed"));
}
