//! `gatewright docs`: the reference, written from what the program itself declares.

use std::path::{Path, PathBuf};

use super::{FAILED, INVALID, OK, own, reference, say};
use crate::config;
use crate::policy::build::parse_files;
use crate::policy::files::Files;
use crate::source::{Diagnostics, render};

/// Name of the written file.
pub(super) const FILE_NAME: &str = "reference.md";

#[derive(Debug, clap::Args)]
pub(super) struct DocsArguments {
    /// Folder to write reference.md to.
    #[arg(long, value_name = "FOLDER", default_value = "docs")]
    out: PathBuf,
    /// A gateway.yaml whose folders' own assertions are told of too.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(super) fn docs(arguments: &DocsArguments) -> u8 {
    let file = arguments.out.join(FILE_NAME);
    let mut page = reference::markdown();
    if let Some(path) = &arguments.config {
        match own_assertions(path) {
            Ok(section) => page.push_str(&section),
            Err(mistakes) => {
                say(&mistakes);
                return INVALID;
            }
        }
    }
    let written = std::fs::create_dir_all(&arguments.out).and_then(|()| std::fs::write(&file, page));
    match written {
        Ok(()) => {
            say(&format!("{}\n", file.display()));
            OK
        }
        Err(error) => {
            eprintln!("{}: cannot be written: {error}", file.display());
            FAILED
        }
    }
}

/// The section of the assertions that stand in the folders; the error is what does not load.
fn own_assertions(config: &Path) -> Result<String, String> {
    let loaded = config::load(Some(config));
    let Some(config) = loaded.config else { return Err(render(&loaded.sources, &loaded.diags, false)) };
    let mut diags = Diagnostics::new();
    let parsed = parse_files(&Files::read(&config.folders()), &mut diags);
    match diags.has_errors() {
        true => Err(render(&parsed.sources, &diags, false)),
        false => Ok(own::markdown(parsed.documents.assertions.values().map(AsRef::as_ref), &parsed.sources)),
    }
}
