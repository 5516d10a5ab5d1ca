//! The schemas in the editor's own server: shipped files are clean, mistakes are marked at their lines,
//! completion and hover know assertions and their parameters.

use std::path::{Path, PathBuf};

use crate::language_server::{CONFIGURED, Server, root};

/// Folders with files that operators start from.
const SHIPPED: [&str; 3] = ["policies", "assertions", "examples"];

fn yaml_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            yaml_below(&path, found);
        } else if path.extension().is_some_and(|end| end == "yaml") {
            found.push(path);
        }
    }
}

/// Every shipped file by its name below the repository.
fn shipped() -> Vec<String> {
    let mut found = vec![root().join("gateway.yaml")];
    for folder in SHIPPED {
        yaml_below(&root().join(folder), &mut found);
    }
    found.sort();
    found.iter().map(|path| path.strip_prefix(root()).unwrap().to_string_lossy().into_owned()).collect()
}

#[test]
fn shipped_files_name_their_schema_and_are_clean() {
    let mut server = Server::start();
    let mut wrong = Vec::new();
    let text = |name: &str| std::fs::read_to_string(root().join(name)).unwrap();
    shipped().iter().for_each(|name| server.open(name, &text(name)));
    for name in shipped() {
        let text = text(&name);
        let kind = if name.ends_with("gateway.yaml") { "gateway" } else { "policy" };
        let beside = |schema: &str| root().join(&name).parent().unwrap().join(schema).canonicalize().ok();
        let expected = root().join(format!("docs/schema/{kind}.schema.json")).canonicalize().unwrap();
        // The server reads the comments of each document by itself.
        for document in text.split("\n---\n") {
            let schema = document.lines().find_map(|line| line.strip_prefix("# yaml-language-server: $schema="));
            if schema.and_then(beside) != Some(expected.clone()) {
                wrong.push(format!("{name}: a document's modeline names {schema:?}"));
            }
        }
        for (line, message) in server.diagnostics(&name) {
            wrong.push(format!("{name}:{line}: {message}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn examples_of_all_assertions_are_clean() {
    let mut server = Server::start();
    let mut texts = Vec::new();
    for kind in gatewright::assertions::CATALOGUE {
        for (number, example) in kind.examples.iter().enumerate() {
            let name = format!("{CONFIGURED}/{}-{number}.yaml", kind.name);
            server.open(&name, example.yaml);
            texts.push((name, example.yaml));
        }
    }
    let mut wrong = Vec::new();
    for (name, text) in texts {
        let found = server.diagnostics(&name);
        wrong.extend(found.into_iter().map(|(line, message)| format!("{name}:{line}: {message}\n{text}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

const POLICY: &str = "# yaml-language-server: $schema=../docs/schema/policy.schema.json\n";
const GATEWAY: &str = "# yaml-language-server: $schema=docs/schema/gateway.schema.json\n";

/// A service whose pipeline is these lines; its first step stands in line 5.
fn service(steps: &str) -> String {
    format!("{POLICY}service: a\nmatch: {{ path: /a }}\npolicy:\n{steps}")
}

/// Name, text, the lines that are marked, and a word of the message.
fn broken() -> Vec<(&'static str, String, Vec<u64>, &'static str)> {
    let policy = |text: &str| format!("{POLICY}{text}");
    vec![
        ("unknown key", service("  - route: http://a\n  - set_body:\n      txt: b\n"), vec![7], "txt"),
        ("unknown assertion", service("  - name: x\n    rout: http://a\n"), vec![6], "rout"),
        ("two assertions", service("  - respond: 204\n    authorize: [a]\n"), vec![5, 6], "not allowed"),
        ("a block of another assertion", service("  - respond: 204\n    then: []\n"), vec![6], "then"),
        ("missing parameter", service("  - log: a\n  - limit_rate:\n      per: all\n"), vec![6], "rate"),
        (
            "wrong word",
            service("  - verify_security_hash:\n      algorithm: md4\n      key: k\n      value: s\n"),
            vec![6],
            "hmac-sha256",
        ),
        ("wrong type", service("  - route:\n      to: http://a\n      timeouts: 5s\n"), vec![7], "Timeouts"),
        ("not a duration", service("  - route:\n      to: http://a\n      timeouts: { total: 5 }\n"), vec![7], ""),
        ("a step that is none", service("  - route: http://a\n  - [a]\n"), vec![6], ""),
        ("inside of a block", service("  - if: a == 1\n    then:\n      - stp\n"), vec![7], "stop"),
        ("unknown document", policy("servise: a\n"), vec![2], "servise"),
        (
            "unknown key of a service",
            policy("service: a\nmatch:\n  path: /a\n  hosts: a\npolicy: []\n"),
            vec![5],
            "hosts",
        ),
        (
            "second document",
            policy(&format!("users: a\nentries: {{}}\n---\n{POLICY}list: a\nentrys: [b]\n")),
            vec![7],
            "entrys",
        ),
        (
            "test",
            policy("service: a\nmatch: { path: /a }\npolicy: [stop]\ntests:\n  - name: a\n    expects: {}\n"),
            vec![7],
            "expects",
        ),
        ("settings", "list: a\n---\nlist: b\nentrys: [b]\n".to_owned(), vec![4], "entrys"),
        ("gateway", format!("{GATEWAY}version: 1\nlisteners:\n  - name: a\n    adress: b\n"), vec![4, 5], "adress"),
    ]
}

#[test]
fn mistakes_are_marked_at_their_lines() {
    let mut server = Server::start();
    let mut wrong = Vec::new();
    let file = |number: usize, name: &str| match name {
        "gateway" => format!("broken-{number}.yaml"),
        "settings" => format!("{CONFIGURED}/broken-{number}.yaml"),
        _ => format!("policies/broken-{number}.yaml"),
    };
    broken().iter().enumerate().for_each(|(number, (name, text, ..))| server.open(&file(number, name), text));
    for (number, (name, _, lines, word)) in broken().into_iter().enumerate() {
        let found = server.diagnostics(&file(number, name));
        let mut marked: Vec<u64> = found.iter().map(|(line, _)| *line).collect();
        marked.dedup();
        if marked != lines || !found.iter().any(|(_, message)| message.contains(word)) {
            wrong.push(format!("{name}: expected lines {lines:?} and `{word}`, got {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Codes of mistakes that need no knowledge of other documents and of expressions.
const SHAPE: [&str; 6] = [
    "policy.unknown_key",
    "policy.missing_parameter",
    "policy.wrong_type",
    "policy.unknown_assertion",
    "policy.unknown_document",
    "policy.two_assertions",
];

/// Mistakes with such a code that do need it: an empty mapping of the right shape, and inputs of another document.
const BEYOND_SHAPE: [&str; 4] =
    ["empty_authorize.yaml", "inputs_of_service.yaml", "loop_not_a_list.yaml", "test_of_assertion.yaml"];

#[test]
fn what_the_program_refuses_for_its_shape_the_editor_marks_too() {
    let mut server = Server::start();
    let mut files = Vec::new();
    yaml_below(&root().join("tests/mistakes"), &mut files);
    let mut opened = Vec::new();
    for file in files {
        let said = std::fs::read_to_string(file.with_extension("txt")).unwrap();
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let is_shape = SHAPE.iter().any(|code| said.starts_with(&format!("error[{code}]")));
        if is_shape && !BEYOND_SHAPE.contains(&name.as_str()) {
            let name = format!("{CONFIGURED}/{name}");
            server.open(&name, &std::fs::read_to_string(&file).unwrap());
            opened.push((name, said.lines().next().unwrap().to_owned()));
        }
    }
    assert!(opened.len() >= SHAPE.len());
    opened.retain(|(name, _)| server.diagnostics(name).is_empty());
    assert!(opened.is_empty(), "not marked: {opened:#?}");
}

#[test]
fn completion_and_hover_know_the_assertions() {
    let mut server = Server::start();
    let text = service(
        "  - limit_rate:\n      rate: 1/second\n      per: all\n      \n  - \n  - route:\n      timeouts:\n        \n  - respond: 204\n",
    );
    server.open("policies/typing.yaml", &text);
    server.diagnostics("policies/typing.yaml");
    let lines: Vec<&str> = text.lines().collect();
    let line_of = |wanted: &str| lines.iter().position(|line| line.trim_end().ends_with(wanted)).unwrap();
    let hover = server.hover("policies/typing.yaml", line_of("rate: 1/second"), 8);
    assert!(hover.contains("How fast it refills: `100/minute`"), "{hover}");
    let hover = server.hover("policies/typing.yaml", line_of("limit_rate:"), 6);
    assert!(hover.contains("imit"), "{hover}");
    let parameters = server.completion("policies/typing.yaml", line_of("per: all") + 1, 6);
    assert!(parameters.contains(&"burst".to_owned()) && !parameters.contains(&"route".to_owned()), "{parameters:?}");
    let steps = server.completion("policies/typing.yaml", line_of("  -"), 4);
    for kind in gatewright::assertions::CATALOGUE {
        assert!(steps.iter().any(|step| step == kind.name), "{} is not offered: {steps:?}", kind.name);
    }
    let limits = server.completion("policies/typing.yaml", line_of("timeouts:") + 1, 8);
    assert!(limits.contains(&"connect".to_owned()), "{limits:?}");
}
