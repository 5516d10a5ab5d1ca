//! Each mistake of `tests/mistakes` is named at its line with its cure, alone and among all others.

use std::path::PathBuf;

use gatewright::policy::build::{Environment, compile, parse_files};
use gatewright::policy::files::{Files, Folder};
use gatewright::policy::testing;
use gatewright::source::{Diagnostics, Sources, render};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/mistakes")
}

fn all_files() -> Files {
    let mut files = Files::read(&[Folder { path: folder(), optional: false }]);
    for file in &mut files.list {
        file.name = file.path.file_name().unwrap().to_string_lossy().into();
    }
    files
}

fn check(files: &Files) -> (Sources, Diagnostics) {
    let mut environment = Environment { listeners: vec!["main".into()], ..Environment::default() };
    environment.values.process_env.insert("HOME".into(), "a-secret-value-of-the-test".into());
    environment.values.process_env.insert("SHORT_KEY".into(), "12345678".into());
    let mut diags = Diagnostics::new();
    let parsed = parse_files(files, &mut diags);
    let snapshot = compile(&parsed, &environment, None, None, &mut diags);
    let cases = testing::collect(&parsed, &mut diags);
    if let Some(snapshot) = &snapshot {
        testing::check_faults(snapshot, &cases, &mut diags);
    }
    diags.deduplicate();
    (parsed.sources, diags)
}

/// `code` and `file:line:column` of everything that is reported.
fn heads(sources: &Sources, diags: &Diagnostics) -> Vec<String> {
    let head = |one: &gatewright::source::Diagnostic| {
        let place = one.span.map(|span| sources.place(span));
        let place = place.map_or_else(String::new, |at| format!("{}:{}:{}", at.file, at.line, at.column));
        format!("{} {place}", one.code)
    };
    diags.iter().map(head).collect()
}

#[test]
fn each_mistake_is_named_at_its_line_with_its_cure() {
    let bless = std::env::var_os("GATEWRIGHT_BLESS").is_some();
    let all = all_files();
    let mut wrong = Vec::new();
    for file in &all.list {
        let alone = Files::of(vec![file.clone()]);
        let (sources, diags) = check(&alone);
        let said = render(&sources, &diags, false);
        let golden = file.path.with_extension("txt");
        if bless {
            std::fs::write(&golden, &said).unwrap();
        }
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        if said != expected {
            wrong.push(format!("== {}\n-- expected\n{expected}\n-- said\n{said}", file.name));
        }
        match file.name.starts_with("warning_") {
            true => assert!(!diags.has_errors() && !diags.is_empty(), "{} is no mere warning:\n{said}", file.name),
            false => assert!(diags.has_errors(), "{} is not refused", file.name),
        }
        let cureless = diags
            .iter()
            .find(|one| one.help.is_none() && !one.message.contains("must be"))
            .map(|one| one.message.clone());
        assert_eq!(cureless, None, "{} names no cure", file.name);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Codes that no policy file alone can show, and where they are shown.
const ELSEWHERE: [(&str, &str); 17] = [
    ("config.", "mistakes of gateway.yaml: src/config/tests.rs"),
    ("reload.", "needs a running gateway: tests/it/process.rs"),
    ("trace.", "words of a command: tests/it/trace.rs"),
    ("test.failed", "needs a run: tests/it/process.rs"),
    ("test.not_run", "needs a run whose time is over"),
    ("test.survivor", "needs a run: src/policy/testing/tests/mutation.rs"),
    ("test.untested", "needs a run: src/policy/testing/tests/coverage.rs"),
    ("policy.access_untested", "needs that nothing else is wrong: src/policy/testing/tests/coverage.rs"),
    ("policy.plaintext_credentials", "needs a listener on a network: tests/it/commands.rs"),
    ("policy.no_certificates", "needs listeners with TLS: tests/it/tls.rs"),
    ("policy.unusable_key", "needs a folder of state: tests/it/own_keys.rs"),
    ("policy.open_key", "needs a file with certain permissions: src/policy/resources/key.rs"),
    ("policy.nested_too_deep", "needs many documents: src/assertions/trial/operators.rs"),
    ("policy.too_many_", "needs thousands of steps: src/assertions/trial/operators.rs"),
    ("yaml.too_", "needs a file of megabytes: src/source/tests.rs"),
    ("expr.too_long", "needs a text of many kilobytes: src/expr/tests/errors.rs"),
    ("policy.no_file", "of a file beside a document: src/policy/resources"),
];

#[test]
fn every_code_of_a_mistake_is_shown() {
    let shown: String = all_files()
        .list
        .iter()
        .map(|file| std::fs::read_to_string(file.path.with_extension("txt")).unwrap_or_default())
        .collect();
    let mistakes = gatewright::explain::pages().filter(|page| page.status.is_none() && page.assertion.is_none());
    let missing: Vec<&str> = mistakes
        .map(|page| page.code)
        .filter(|code| !ELSEWHERE.iter().any(|(begin, _)| code.starts_with(begin)))
        .filter(|code| !shown.contains(&format!("[{code}]")))
        .collect();
    assert!(missing.is_empty(), "write a file in tests/mistakes that shows {missing:#?}");
}

#[test]
fn a_folder_with_all_mistakes_reports_all_of_them() {
    let all = all_files();
    let (sources, diags) = check(&all);
    let together = heads(&sources, &diags);
    let mut missing = Vec::new();
    for file in &all.list {
        let (sources, diags) = check(&Files::of(vec![file.clone()]));
        // What a test expects is compared with what steps raise once all of them compile.
        let is_missing = |head: &String| !together.contains(head) && !head.starts_with("test.unknown_fault ");
        missing.extend(heads(&sources, &diags).into_iter().filter(is_missing));
    }
    assert!(missing.is_empty(), "not reported among the others:\n{}", missing.join("\n"));
    assert!(all.list.len() >= 60, "{} mistakes", all.list.len());
}
