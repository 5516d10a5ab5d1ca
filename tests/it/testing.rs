//! `gatewright test` as a command: what ships is tested to the last step, and the exit codes say what is wrong.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{Folder, Said, command, gatewright, hello};

/// Far above what they take, in a build without optimisation on a busy machine.
const THOUSAND_CASES_MAX: Duration = Duration::from_secs(30);

fn shipped() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.ends_with("gateway.yaml") {
                found.push(folder.to_path_buf());
            }
        }
    }
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut found = vec![root.clone()];
    walk(&root.join("examples"), &mut found);
    found
}

/// Where an example is tested: in its place, or in a copy where a script has to make its certificates first.
fn prepared(folder: &Path) -> (PathBuf, Option<Folder>) {
    if !folder.join("certificates.sh").exists() {
        return (folder.to_path_buf(), None);
    }
    let copy = Folder::new();
    let copied = Command::new("cp").arg("-r").arg(folder.join(".")).arg(&copy.0).status().unwrap();
    let made = Command::new("sh").arg(copy.path("certificates.sh")).status().unwrap();
    assert!(copied.success() && made.success(), "{}", folder.display());
    (copy.0.clone(), Some(copy))
}

/// Runs the command where the examples find what they expect of the environment.
fn test(folder: &Path, arguments: &[&str]) -> Said {
    let mut command = command(folder);
    let output = command
        .arg("test")
        .args(arguments)
        .env("PARTNER_KEY", "0123456789abcdef0123456789abcdef")
        .env("ACME_SIGNING", "0123456789abcdef0123456789abcdef")
        .env("IDP_SECRET", "0123456789abcdef0123456789abcdef")
        .env("CRM_CLIENT_SECRET", "0123456789abcdef0123456789abcdef")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
}

#[test]
fn what_ships_is_covered_and_no_change_of_it_goes_unnoticed() {
    let folders = shipped();
    assert!(folders.len() > 2, "{folders:?}");
    for folder in folders {
        let (folder, _copy) = prepared(&folder);
        let said = test(&folder, &["--coverage-min", "100", "--mutate", "--json"]);
        let json: serde_json::Value = serde_json::from_str(&said.out).unwrap();
        assert_eq!(said.code, 0, "{}: {}", folder.display(), said.out);
        assert_eq!((&json["coverage"]["percent"], &json["failed"]), (&100.into(), &0.into()));
        let mutation = &json["mutation"];
        assert!(mutation["tried"].as_u64() > Some(0) && mutation["survivors"].as_array().unwrap().is_empty());
    }
}

const UNTESTED: &str = "service: a\nmatch: { path: /a }\npolicy:\n  - limit_size: 1KiB\n  - respond: 204\ntests:\n  \
                        - { name: n, request: {}, expect: { status: 204 } }\n";

#[test]
fn exit_codes_tell_what_is_missing() {
    let folder = Folder::with(&[("policies/a.yaml", UNTESTED)]);
    let said = gatewright(&folder.0, &["test", "--coverage"]);
    assert_eq!(said.code, 0, "{}", said.err);
    for part in
        [" 66 %  policies/a.yaml  2/3", "no case is denied by `limit_size`", "policies/a.yaml:4:5", "^^^^^^^^^^"]
    {
        assert!(said.out.contains(part), "no {part} in:\n{}", said.out);
    }
    assert_eq!(gatewright(&folder.0, &["test", "--coverage-min", "66"]).code, 0);
    assert_eq!(gatewright(&folder.0, &["test", "--coverage-min", "67"]).code, 5);
    assert_eq!(gatewright(&folder.0, &["test", "--coverage-min", "101"]).code, 2);
    let said = gatewright(&folder.0, &["test", "--mutate"]);
    assert_eq!(said.code, 4);
    assert!(said.out.contains("without `limit_size` every test still passes"), "{}", said.out);
    folder.write("policies/a.yaml", &UNTESTED.replace("status: 204", "status: 200"));
    let said = gatewright(&folder.0, &["test", "--mutate", "--coverage-min", "100"]);
    assert_eq!(said.code, 4);
    assert!(!said.out.contains("mutation:"), "{}", said.out);
}

#[test]
fn only_the_services_of_the_files_that_are_named_count() {
    let folder = Folder::with(&[("policies/a.yaml", UNTESTED), ("policies/b.yaml", &hello("b", "x"))]);
    let said = gatewright(&folder.0, &["test", "policies/a.yaml", "--coverage", "--mutate", "--filter", "a: n"]);
    assert!(said.out.contains("coverage 66 % (2 of 3 outcomes)"), "{}", said.out);
    assert!(!said.out.contains("policies/b.yaml"), "{}", said.out);
    let said = gatewright(&folder.0, &["test", "--coverage", "--mutate"]);
    assert!(said.out.contains("  0 %  policies/b.yaml  0/1") && said.out.contains("give it `tests:`"), "{}", said.out);
}

#[test]
fn watching_runs_again_with_every_change_and_ends_with_its_input() {
    let folder = Folder::with(&[("policies/a.yaml", UNTESTED)]);
    let mut child =
        command(&folder.0).args(["test", "--watch"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut until = |part: &str| lines.by_ref().map(Result::unwrap).find(|line| line.contains(part)).unwrap();
    until("1 passed, 0 failed");
    folder.write("policies/a.yaml", &UNTESTED.replace("status: 204", "status: 200"));
    until("FAILED a: n");
    until("0 passed, 1 failed");
    folder.write("policies/a.yaml", "service: a\n");
    until("policy.missing_parameter");
    folder.write("policies/a.yaml", UNTESTED);
    until("1 passed, 0 failed");
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_thousand_cases_take_seconds() {
    let mut yaml = String::from(
        "users: people\nentries: { ann: { password: x } }\n---\nservice: a\nmatch: { path: /a }\npolicy:\n  \
         - authenticate_basic: people\n  - route: http://127.0.0.1:9000\ntests:\n  given:\n    \
         users: { people: { ann: pw } }\n    upstream: [{ answer: { json: { ok: true } } }]\n  cases:\n",
    );
    let hash = gatewright_hash();
    yaml = yaml.replace("password: x", &format!("password: \"{hash}\""));
    for number in 0..1000 {
        yaml.push_str(&format!(
            "    - {{ name: case {number}, request: {{ basic: {{ ann: pw }}, path: \"/a?n={number}\" }}, \
             expect: {{ status: 200, json: {{ ok: true }} }} }}\n"
        ));
    }
    let folder = Folder::with(&[("policies/a.yaml", &yaml)]);
    let begun = Instant::now();
    let said = gatewright(&folder.0, &["test"]);
    assert!(said.out.contains("1000 passed, 0 failed"), "{}", said.out);
    assert!(begun.elapsed() < THOUSAND_CASES_MAX, "{:?}", begun.elapsed());
}

/// A hash as a users document wants it; the cases bring a user of their own.
fn gatewright_hash() -> String {
    "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$0WR0Jz8bYJbdvVtBHCHqy9Mr5Zq9D4PCTNBYOVvyJhU".to_owned()
}
