//! `gatewright docs`: the reference, written from what the program itself declares.

use std::path::PathBuf;

use super::{FAILED, OK, reference, say};

/// Name of the written file.
pub(super) const FILE_NAME: &str = "reference.md";

#[derive(Debug, clap::Args)]
pub(super) struct DocsArguments {
    /// Folder to write reference.md to.
    #[arg(long, value_name = "FOLDER", default_value = "docs")]
    out: PathBuf,
}

pub(super) fn docs(arguments: &DocsArguments) -> u8 {
    let file = arguments.out.join(FILE_NAME);
    let written = std::fs::create_dir_all(&arguments.out).and_then(|()| std::fs::write(&file, reference::markdown()));
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
