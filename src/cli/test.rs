//! `gatewright test`: runs the policies' own tests, on the engine that serves and without a socket.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::{ConfigArgument, FAILED, INVALID, OK, TESTS_FAILED, WRONG_USAGE, say};
use crate::config::{self, Config};
use crate::policy::build::{compile, parse_files};
use crate::policy::files::{Files, Folder};
use crate::policy::testing::{self, Case, Options};
use crate::source::{Diagnostics, Sources, render, to_json};

#[derive(Debug, clap::Args)]
pub(super) struct TestArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// Files whose tests run, or folders to load in the place of those that the configuration names.
    paths: Vec<PathBuf>,
    /// Runs only tests whose `SERVICE: NAME` holds this text.
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn test(arguments: &TestArguments) -> u8 {
    let loaded = config::load(arguments.config.config.as_deref());
    let Some(config) = loaded.config else {
        report_mistakes(arguments, &loaded.sources, &loaded.diags);
        return INVALID;
    };
    let mut diags = Diagnostics::new();
    let files = Files::read(&folders(arguments, &config));
    let parsed = parse_files(&files, &mut diags);
    let environment = config.environment();
    // Tests bring values of their own, but what they test has to load as it stands.
    let _ = compile(&parsed, &environment, None, None, &mut diags);
    let cases = testing::collect(&parsed, &mut diags);
    diags.deduplicate();
    if diags.has_errors() {
        report_mistakes(arguments, &parsed.sources, &diags);
        return INVALID;
    }
    let cases = match chosen(arguments, &files, &parsed.sources, cases) {
        Ok(cases) => cases,
        Err(path) => {
            eprintln!("{}: not among the files that were loaded; name a file of the policies", path.display());
            return WRONG_USAGE;
        }
    };
    let options = Options { filter: arguments.filter.clone(), ..Options::default() };
    match testing::run(&parsed, &environment, &cases, &options) {
        Ok(report) => {
            if arguments.json {
                say(&format!("{}\n", testing::to_json(&report, &parsed.sources)));
            } else {
                say(&testing::render(&report, &parsed.sources, std::io::stdout().is_terminal()));
            }
            if report.is_good() { OK } else { TESTS_FAILED }
        }
        Err(error) => {
            eprintln!("the tests cannot run: {error}");
            FAILED
        }
    }
}

fn folders(arguments: &TestArguments, config: &Config) -> Vec<Folder> {
    let given = arguments.paths.iter().filter(|path| path.is_dir());
    let given: Vec<Folder> = given.map(|path| Folder { path: path.clone(), optional: false }).collect();
    if given.is_empty() { config.folders().to_vec() } else { given }
}

/// The cases of the files that were named, all where none was; else a file that is not among those loaded.
fn chosen(arguments: &TestArguments, files: &Files, sources: &Sources, cases: Vec<Case>) -> Result<Vec<Case>, PathBuf> {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let named: Vec<PathBuf> = arguments.paths.iter().filter(|path| !path.is_dir()).cloned().collect();
    if named.is_empty() {
        return Ok(cases);
    }
    let loaded: Vec<PathBuf> = files.list.iter().map(|file| real(&file.path)).collect();
    if let Some(stranger) = named.iter().find(|path| !loaded.contains(&real(path))) {
        return Err(stranger.clone());
    }
    let named: Vec<PathBuf> = named.iter().map(|path| real(path)).collect();
    let of_named = |case: &Case| named.contains(&real(Path::new(sources.name(case.span.file))));
    Ok(cases.into_iter().filter(of_named).collect())
}

fn report_mistakes(arguments: &TestArguments, sources: &Sources, diags: &Diagnostics) {
    if arguments.json {
        let report = json!({ "errors": diags.error_count(), "diagnostics": to_json(sources, diags) });
        say(&format!("{report}\n"));
    } else {
        say(&render(sources, diags, std::io::stdout().is_terminal()));
    }
}
