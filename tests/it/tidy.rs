//! The repository's own rules, read from its files: arrows between rooms, sizes, words, the catalogue.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Longest source file, in lines.
const FILE_LINES_MAX: usize = 500;
/// Longest function, in lines from `fn` to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;
/// Largest file of the repository, in bytes.
const FILE_BYTES_MAX: u64 = 200 * 1024;
/// Largest file of `tests/vectors`, which holds other people's test data unmodified.
const VECTOR_BYTES_MAX: u64 = 256 * 1024;
/// Largest file that the program writes itself and a test compares, in bytes.
const GENERATED_BYTES_MAX: u64 = 1024 * 1024;

/// The rooms from the top down: a room may name only rooms that stand below it, or its own.
const ROOMS: [&[&str]; 21] = [
    &["main", "cli"],
    &["process"],
    &["admin"],
    &["reload", "gateway"],
    &["config"],
    &["policy"],
    &["explain"],
    &["assertions"],
    &["compile"],
    &["expr"],
    &["engine"],
    &["server"],
    &["upstream"],
    &["identity", "broker"],
    &["store", "audit", "source"],
    &["body"],
    &["scrub"],
    &["json_path"],
    &["tls"],
    &["jose"],
    &[
        "clock",
        "coding",
        "digest",
        "encoding",
        "fault",
        "json",
        "limits",
        "own_file",
        "pan",
        "path",
        "regular_file",
        "secret",
    ],
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files(below: &str, suffix: &str) -> Vec<(String, String)> {
    fn walk(folder: &Path, suffix: &str, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            match path.is_dir() {
                true => walk(&path, suffix, found),
                false if path.to_string_lossy().ends_with(suffix) => found.push(path),
                false => {}
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(below), suffix, &mut found);
    found.sort();
    let named = |path: PathBuf| {
        let name = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        (name, String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned())
    };
    found.into_iter().map(named).collect()
}

/// The source without its `#[cfg(test)] mod tests` at the end.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests").next().unwrap()
}

fn assert_none(broken: Vec<String>, rule: &str) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

fn height(room: &str) -> Option<usize> {
    ROOMS.iter().position(|level| level.contains(&room))
}

#[test]
fn arrows_between_rooms_point_down() {
    let mut broken = Vec::new();
    for (name, text) in files("src", ".rs") {
        let room = name.trim_start_matches("src/").split(['/', '.']).next().unwrap().to_owned();
        if room == "lib" || name.contains("/tests") || name.ends_with("/trial.rs") {
            continue;
        }
        let Some(own) = height(&room) else {
            broken.push(format!("{name}: the room `{room}` is not in ROOMS"));
            continue;
        };
        for (number, line) in without_tests(&text).lines().enumerate() {
            if line.trim_start().starts_with("//") {
                continue;
            }
            for used in line.split("crate::").skip(1) {
                let used: String = used.chars().take_while(|next| next.is_alphanumeric() || *next == '_').collect();
                match height(&used) {
                    Some(level) if level < own || (level == own && used != room) => {
                        broken.push(format!("{name}:{}: {room} -> {used}", number + 1));
                    }
                    _ => {}
                }
            }
        }
    }
    assert_none(broken, "a room names only rooms below it");
}

#[test]
fn files_and_functions_are_short() {
    let mut broken = Vec::new();
    for (name, text) in files("src", ".rs").into_iter().chain(files("tests", ".rs")) {
        if text.lines().count() > FILE_LINES_MAX {
            broken.push(format!("{name}: {} lines", text.lines().count()));
        }
        let mut open: Option<(usize, usize, String)> = None;
        for (number, line) in text.lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let head = line.trim_start().trim_start_matches("pub ").trim_start_matches("pub(super) ");
            let head = head.trim_start_matches("pub(crate) ").trim_start_matches("async ").trim_start_matches("const ");
            if open.is_none() && head.starts_with("fn ") && !line.trim_end().ends_with([';', '}']) {
                open = Some((number, indent, head.split('(').next().unwrap().to_owned()));
            }
            if let Some((start, outer, function)) = &open
                && line.trim_end() == format!("{}}}", " ".repeat(*outer))
            {
                if number - start + 1 > FUNCTION_LINES_MAX {
                    broken.push(format!("{name}:{}: {function} has {} lines", start + 1, number - start + 1));
                }
                open = None;
            }
        }
    }
    assert_none(broken, "split it");
}

#[test]
fn every_source_file_says_what_it_is_for() {
    let all = files("src", ".rs").into_iter().chain(files("tests", ".rs"));
    let broken = all.filter(|(_, text)| !text.starts_with("//!") && !text.starts_with("#!")).map(|(name, _)| name);
    assert_none(broken.collect(), "open the file with `//!`");
}

#[test]
fn words_that_are_not_ours_do_not_occur() {
    // Written apart, so that this file does not find itself.
    let banned: BTreeMap<String, &str> = [
        (["TO", "DO"].concat(), "do it, or say in the closing note that it is missing"),
        (["FIX", "ME"].concat(), "fix it"),
        (["un", "safe {"].concat(), "the package forbids it"),
        (["#[ig", "nore]"].concat(), "a test runs or does not exist"),
        (["thread::sl", "eep("].concat(), "wait for what you wait for, or write the reason behind the line"),
        (["/wo", "rk/"].concat(), "no machine's paths"),
    ]
    .into();
    let mut broken = Vec::new();
    let texts = ["src", "tests", "policies", "assertions", "examples", "docs", "bench"].into_iter();
    let texts =
        texts.flat_map(|below| [".rs", ".md", ".yaml", ".py", ".sh"].map(|suffix| files(below, suffix))).flatten();
    for (name, text) in texts {
        for (number, line) in text.lines().enumerate() {
            let reasoned = |word: &str| word.contains("sleep") && line.contains("; // ");
            for (word, cure) in banned.iter().filter(|(word, _)| line.contains(word.as_str()) && !reasoned(word)) {
                broken.push(format!("{name}:{}: `{word}`: {cure}", number + 1));
            }
        }
    }
    assert_none(broken, "banned words");
    let old = files("src", ["mod", ".rs"].concat().as_str()).into_iter().map(|(name, _)| name);
    assert_none(old.filter(|name| name.ends_with("/mod.rs")).collect(), "use x.rs beside x/");
}

#[test]
fn every_assertion_file_is_in_the_catalogue() {
    let known: Vec<&str> = gatewright::assertions::CATALOGUE.iter().map(|kind| kind.name).collect();
    let folder = root().join("src/assertions");
    let is_assertion = |path: &Path| path.is_file() && !path.ends_with("trial.rs"); // that one is for tests
    let names = std::fs::read_dir(folder).unwrap().flatten().filter(|entry| is_assertion(&entry.path()));
    let names: Vec<String> =
        names.map(|entry| entry.file_name().to_string_lossy().trim_end_matches(".rs").to_owned()).collect();
    assert_none(names.iter().filter(|name| !known.contains(&name.as_str())).cloned().collect(), "not in the catalogue");
    assert_eq!(names.len(), known.len());
}

#[test]
fn no_file_of_the_repository_is_large() {
    let list = std::process::Command::new("git").args(["ls-files"]).current_dir(root()).output().unwrap();
    let names = String::from_utf8(list.stdout).unwrap();
    let most = |name: &&str| match *name {
        name if name.starts_with("tests/vectors/") => VECTOR_BYTES_MAX,
        name if name.starts_with("docs/schema/") || name == "docs/reference.md" => GENERATED_BYTES_MAX,
        _ => FILE_BYTES_MAX,
    };
    let size = |name: &str| std::fs::metadata(root().join(name)).map_or(0, |meta| meta.len());
    let large = names.lines().filter(|name| size(name) > most(name));
    assert_none(large.map(str::to_owned).collect(), "larger than it should be");
}
