//! `gatewright schema`: JSON Schema for editors, written from what the program itself declares.
//!
//! Draft-07, because every version of yaml-language-server reads it. What only the compiler knows (names,
//! types of expressions, ways without an answer) is not in it: that is `gatewright check`.

mod definitions;
mod documents;
mod own;
mod print;
mod refine;
mod steps;

use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};

use self::definitions::Definitions;
use self::steps::Own;
use super::{ConfigArgument, FAILED, INVALID, OK, say, show};
use crate::config;
use crate::policy::build::parse_files;
use crate::policy::files::Files;
use crate::source::Diagnostics;

/// Written files, and what each describes.
const FILES: [(&str, Which); 2] = [("policy.schema.json", Which::Policy), ("gateway.schema.json", Which::Gateway)];

#[derive(Debug, clap::Args)]
pub(super) struct SchemaArguments {
    /// What it describes.
    #[arg(long, value_enum, default_value = "policy")]
    kind: Which,
    /// Operators' own assertions of this configuration are steps too.
    #[command(flatten)]
    config: ConfigArgument,
    /// Folder to write policy.schema.json and gateway.schema.json to, in the place of printing one.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Which {
    /// Files below policies/ and assertions/.
    Policy,
    /// gateway.yaml.
    Gateway,
}

impl Which {
    fn schema(self, own: &Own) -> Json {
        match self {
            Which::Policy => documents::policy(own),
            Which::Gateway => gateway(),
        }
    }
}

pub(super) fn schema(arguments: &SchemaArguments) -> u8 {
    let Some(own) = own_assertions(arguments.config.config.as_deref()) else { return INVALID };
    let Some(folder) = &arguments.out else {
        say(&print::text(&arguments.kind.schema(&own)));
        return OK;
    };
    for (name, which) in FILES {
        let file = folder.join(name);
        let written =
            std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&file, print::text(&which.schema(&own))));
        if let Err(error) = written {
            eprintln!("{}: cannot be written: {error}", file.display());
            return FAILED;
        }
        say(&format!("{}\n", file.display()));
    }
    OK
}

/// The assertions that the files of a configuration define; none where no configuration is named.
fn own_assertions(named: Option<&Path>) -> Option<Own> {
    if named.is_none() {
        return Some(Own::new());
    }
    let loaded = config::load(named);
    show(&loaded.sources, &loaded.diags);
    let files = Files::read(&loaded.config?.folders());
    // What is wrong with them is for `check` to say: an editor is needed most while they are.
    Some(parse_files(&files, &mut Diagnostics::new()).documents.assertions)
}

fn gateway() -> Json {
    let mut definitions = Definitions::default();
    let document = definitions.take("gateway", config::schema());
    whole("Gatewright: gateway.yaml", document, definitions)
}

/// A schema with its head and its definitions.
fn whole(title: &str, root: Json, definitions: Definitions) -> Json {
    let mut all = json!({ "$schema": "http://json-schema.org/draft-07/schema#", "title": title });
    if let Some(all) = all.as_object_mut() {
        all.extend(definitions.complete(root));
    }
    all
}

#[cfg(test)]
mod tests;
