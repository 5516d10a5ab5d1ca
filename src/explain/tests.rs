//! Every code that the sources use has a page, and every page says something.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use regex::Regex;

use super::*;

/// First words of codes that belong to no assertion.
const FAMILIES: &str =
    "yaml|expr|expression|policy|config|reload|request|gateway|service|body|client|step|deadline|test|mark|trace";

/// What looks like a code and is none: variables, files in comments and defaults, and attributes of spans.
const NO_CODES: [&str; 25] = [
    "gateway.yaml",
    "request.client",
    "request.headers",
    "request.json",
    "request.original",
    "request.size",
    "request.tls",
    "request.id",
    "request.trace_id",
    "request.query",
    "request.body",
    "service.name",
    "fault.code",
    "request.content_type",
    "request.cookies",
    "request.form",
    "request.http_version",
    "request.port",
    "request.raw_path",
    "request.received_at",
    "request.scheme",
    "service.file",
    "client.address",
    "service.version",
    "service.snapshot",
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_code_in_the_sources_has_a_page() {
    let families = Regex::new(&format!("\"((?:{FAMILIES})\\.[a-z0-9_]+)\"")).unwrap();
    let known: BTreeSet<&str> = pages().map(|page| page.code).chain(NO_CODES).collect();
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut files);
    let mut missing = BTreeSet::new();
    for file in files.iter().filter(|file| !file.to_string_lossy().contains("tests")) {
        let text = std::fs::read_to_string(file).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let found = families.captures_iter(text).map(|found| found.get(1).unwrap().as_str());
        let unknown = found.filter(|code| !known.contains(code));
        missing.extend(unknown.map(|code| format!("{code} in {}", file.display())));
    }
    assert!(missing.is_empty(), "codes without a page: {missing:#?}");
}

#[test]
fn no_page_is_there_twice_or_says_nothing() {
    let mut seen = BTreeSet::new();
    for page in pages() {
        // A fault that several assertions raise is told by each; a load code and a fault may share a name.
        assert!(page.assertion.is_some() || seen.insert((page.code, page.status)), "{} is there twice", page.code);
        assert!(page.meaning.len() > 10, "{} says nothing", page.code);
        assert!(page.assertion.is_some() || page.cure.len() > 5, "{} has no cure", page.code);
    }
}

#[test]
fn a_page_says_whose_code_it_is() {
    let shown = |code: &str| pages().find(|page| page.code == code).unwrap().to_string();
    assert!(shown("route.connect").contains("fault of `route`, status 502"));
    assert!(shown("policy.unknown_key").contains("mistake in a file"));
}
