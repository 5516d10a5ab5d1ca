//! `gatewright check`: loads what `run` would load, serves nothing, and prints every mistake.
//!
//! Diagnostics are what the command is for, so they go to standard output.

use std::io::IsTerminal;
use std::path::PathBuf;

use serde_json::json;

use super::{ConfigArgument, INVALID, OK, pipeline, say};
use crate::config;
use crate::engine::snapshot::Snapshot;
use crate::policy::build::{compile, parse_files};
use crate::policy::files::{Files, Folder};
use crate::policy::testing;
use crate::source::{Diagnostic, Diagnostics, Sources, render, to_json};

#[derive(Debug, clap::Args)]
pub(super) struct CheckArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// Checks the policies of this folder in the place of those that the configuration names.
    folder: Option<PathBuf>,
    /// Prints each service's effective pipeline: where steps come from, which message they mean, what nobody wrote,
    /// and which bodies are held in memory by which step.
    #[arg(long)]
    explain: bool,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn check(arguments: CheckArguments) -> u8 {
    let loaded = config::load(arguments.config.config.as_deref());
    let whole = loaded.config.is_some();
    let Some(config) = loaded.config.or(loaded.remains) else {
        report(&arguments, &loaded.sources, &loaded.diags, None);
        return INVALID;
    };
    let folders = match &arguments.folder {
        Some(folder) => vec![Folder { path: folder.clone(), optional: false }],
        // Which folders a configuration with mistakes means may not be known.
        None => config.folders().map(|folder| Folder { optional: folder.optional || !whole, ..folder }).to_vec(),
    };
    let mut diags = Diagnostics::new();
    let mut parsed = parse_files(&Files::read(&folders), &mut diags);
    let snapshot = compile(&parsed, &config.environment(), None, None, &mut diags);
    let cases = testing::collect(&parsed, &mut diags);
    if let Some(snapshot) = &snapshot {
        testing::check_access(snapshot, &cases, &mut diags);
        testing::check_faults(snapshot, &cases, &mut diags);
    }
    if let (false, Some(file)) = (whole, loaded.sources.files().next()) {
        diags.retain(|one| !follows_from_configuration(one));
        let file = parsed.sources.add(loaded.sources.name(file), loaded.sources.text(file));
        diags.append(loaded.diags.moved_to(file));
    }
    diags.deduplicate();
    let snapshot = snapshot.filter(|_| !diags.has_errors());
    report(&arguments, &parsed.sources, &diags, snapshot.as_ref());
    if diags.has_errors() { INVALID } else { OK }
}

/// Whether this may be wrong only because the configuration is.
fn follows_from_configuration(one: &Diagnostic) -> bool {
    matches!(one.code, "policy.env_missing" | "policy.plaintext_credentials")
        || one.message.starts_with("there is no listener")
}

fn report(arguments: &CheckArguments, sources: &Sources, diags: &Diagnostics, snapshot: Option<&Snapshot>) {
    if arguments.json {
        let mut report = json!({
            "errors": diags.error_count(),
            "warnings": diags.warning_count(),
            "version": snapshot.map(|snapshot| &*snapshot.version),
            "diagnostics": to_json(sources, diags),
        });
        if let (true, Some(snapshot), Some(members)) = (arguments.explain, snapshot, report.as_object_mut()) {
            members.insert("services".into(), pipeline::to_json(snapshot));
            members.insert("unmatched".into(), pipeline::unmatched(snapshot));
        }
        say(&format!("{report}\n"));
        return;
    }
    say(&render(sources, diags, std::io::stdout().is_terminal()));
    let Some(snapshot) = snapshot else { return };
    if arguments.explain {
        say(&pipeline::to_text(snapshot));
    }
    let count = snapshot.services.len();
    let plural = if count == 1 { "" } else { "s" };
    say(&format!("{count} service{plural}, version {}\n", snapshot.version));
}
