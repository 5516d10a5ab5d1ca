//! `gatewright test`: runs the policies' own tests, on the engine that serves and without a socket.

mod watch;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::{ConfigArgument, FAILED, INVALID, OK, TESTS_FAILED, UNCOVERED, WRONG_USAGE, say};
use crate::config::{self, Config};
use crate::engine::snapshot::Snapshot;
use crate::engine::value::Text;
use crate::policy::build::{Environment, Parsed, compile, parse_files};
use crate::policy::files::{Files, Folder};
use crate::policy::testing::{self, Case, Coverage, Mutation, Options, Report};
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
    /// Says which steps no case brings to each of their outcomes.
    #[arg(long)]
    coverage: bool,
    /// Exits with 5 where less than this is covered; implies `--coverage`.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    coverage_min: Option<u8>,
    /// Takes each step out and turns each condition round, and exits with 4 where no case notices one of these
    /// changes.
    #[arg(long)]
    mutate: bool,
    /// Runs again whenever the files change, until it is interrupted or its input ends.
    #[arg(long)]
    watch: bool,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn test(arguments: &TestArguments) -> u8 {
    if arguments.watch { watch::watch(arguments) } else { once(arguments) }
}

/// Loads the files as they are now, runs and reports.
fn once(arguments: &TestArguments) -> u8 {
    let loaded = match load(arguments) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let ran =
        testing::run(&loaded.parsed, &loaded.environment, &loaded.cases, &options(arguments)).and_then(|report| {
            // What fails as it stands notices every change.
            let mutates = arguments.mutate && report.is_good();
            let mutation = mutates.then(|| mutation(arguments, &loaded)).transpose()?;
            Ok((report, mutation))
        });
    match ran {
        Ok((report, mutation)) => conclude(arguments, &loaded, &report, mutation.as_ref()),
        Err(error) => {
            eprintln!("the tests cannot run: {error}");
            FAILED
        }
    }
}

/// A set of files with the cases that were asked for.
struct Loaded {
    parsed: Parsed,
    environment: Environment,
    snapshot: Snapshot,
    cases: Vec<Case>,
    /// Not all of the set's cases were asked for.
    partial: bool,
}

/// Loads what the arguments name. The error is an exit code: what is wrong has been said.
fn load(arguments: &TestArguments) -> Result<Loaded, u8> {
    let loaded = config::load(arguments.config.config.as_deref());
    let Some(config) = loaded.config else {
        report_mistakes(arguments, &loaded.sources, &loaded.diags);
        return Err(INVALID);
    };
    let mut diags = Diagnostics::new();
    let files = Files::read(&folders(arguments, &config));
    let parsed = parse_files(&files, &mut diags);
    let environment = config.environment();
    // Tests bring values of their own, but what they test has to load as it stands.
    let snapshot = compile(&parsed, &environment, None, None, &mut diags);
    let mut cases = testing::collect(&parsed, &mut diags);
    diags.deduplicate();
    let Some(snapshot) = snapshot.filter(|_| !diags.has_errors()) else {
        report_mistakes(arguments, &parsed.sources, &diags);
        return Err(INVALID);
    };
    let all = cases.len();
    cases = chosen(arguments, &files, &parsed.sources, cases).map_err(|path| {
        eprintln!("{}: not among the files that were loaded; name a file of the policies", path.display());
        WRONG_USAGE
    })?;
    if let Some(filter) =
        arguments.filter.as_deref().filter(|_| !cases.iter().any(|case| options(arguments).wants(case)))
    {
        eprintln!(
            "no test has `{filter}` in its `SERVICE: NAME`: nothing was run; `gatewright test` lists the services"
        );
        return Err(WRONG_USAGE);
    }
    let partial = cases.len() < all || arguments.filter.is_some();
    Ok(Loaded { parsed, environment, snapshot, cases, partial })
}

fn mutation(arguments: &TestArguments, loaded: &Loaded) -> std::io::Result<Mutation> {
    let Loaded { parsed, environment, snapshot, cases, partial } = loaded;
    let wanted: Vec<&Case> = cases.iter().filter(|case| options(arguments).wants(case)).collect();
    testing::mutate(parsed, environment, snapshot, &wanted, !partial)
}

fn options(arguments: &TestArguments) -> Options {
    Options { filter: arguments.filter.clone(), ..Options::default() }
}

/// Says what came of the run.
fn conclude(arguments: &TestArguments, loaded: &Loaded, report: &Report, mutation: Option<&Mutation>) -> u8 {
    let (sources, color) = (&loaded.parsed.sources, std::io::stdout().is_terminal());
    let coverage = (arguments.coverage || arguments.coverage_min.is_some()).then(|| coverage(loaded, report));
    if arguments.json {
        let mut json = testing::to_json(report, sources);
        if let (Some(coverage), Some(members)) = (&coverage, json.as_object_mut()) {
            members.insert("coverage".into(), coverage.to_json(sources));
        }
        if let (Some(mutation), Some(members)) = (mutation, json.as_object_mut()) {
            members.insert("mutation".into(), mutation.to_json(sources));
        }
        say(&format!("{json}\n"));
    } else {
        // Who watches wants to see what is wrong.
        let brief = arguments.watch;
        say(&if brief {
            testing::render_brief(report, sources, color)
        } else {
            testing::render(report, sources, color)
        });
        if let Some(mutation) = mutation {
            say(&format!("\n{}", mutation.render(sources, color)));
        }
        if let Some(coverage) = &coverage {
            say(&format!("\n{}", coverage.render(sources, color)));
        }
    }
    let percent = coverage.map_or(100, |coverage| coverage.percent());
    match arguments.coverage_min {
        _ if !report.is_good() || mutation.is_some_and(|mutation| !mutation.survivors.is_empty()) => TESTS_FAILED,
        Some(least) if percent < least => UNCOVERED,
        _ => OK,
    }
}

/// Of some cases only what they are there to test counts.
fn coverage(loaded: &Loaded, report: &Report) -> Coverage {
    let suites: Vec<Text> = report.suites.iter().map(|suite| suite.name.clone()).collect();
    let services = loaded.partial.then_some(suites.as_slice());
    Coverage::of(&loaded.snapshot, services, &report.touched, &loaded.parsed.sources)
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
