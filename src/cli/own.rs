//! The reference of operators' own assertions, from their documents.

use std::fmt::Write as _;

use crate::policy::document::{AbsentDoc, AssertionDoc, InputDoc};
use crate::source::{Node, Sources};

/// A section of all of them; empty where there is none.
pub(super) fn markdown<'d>(documents: impl Iterator<Item = &'d AssertionDoc>, sources: &Sources) -> String {
    let mut out = String::new();
    for doc in documents {
        if out.is_empty() {
            out.push_str("\n## Own assertions\n");
        }
        // Writing into a String does not fail.
        let _ = write!(out, "\n### {}\n\n", doc.assertion.name);
        if let Some(summary) = &doc.summary {
            let _ = write!(out, "{}.\n\n", summary.as_str().trim_end_matches('.'));
        }
        let _ = write!(out, "From {}.\n\n", sources.name(doc.assertion.span.file));
        if !doc.inputs.is_empty() {
            out.push_str("| input | type | meaning |\n|---|---|---|\n");
        }
        for (name, input) in &doc.inputs {
            let required = if input.required { " (required)" } else { "" };
            let (ty, meaning) = (input.ty.as_str(), meaning(input, sources));
            let _ = writeln!(out, "| `{}`{required} | {ty} | {meaning} |", name.name);
        }
        if !doc.outputs.is_empty() {
            out.push_str("\n| sets | type |\n|---|---|\n");
        }
        for (name, ty) in &doc.outputs {
            let absent = if ty.as_str().ends_with('?') { ", may be absent" } else { "" };
            let ty = ty.as_str().trim_end_matches('?');
            let _ = writeln!(out, "| `{}.{}` | {ty}{absent} |", doc.assertion.name, name.name);
        }
    }
    while out.ends_with("\n\n") {
        out.pop();
    }
    out
}

fn meaning(input: &InputDoc, sources: &Sources) -> String {
    let written = |node: &Node| sources.slice(node.span()).to_owned();
    let mut words = Vec::new();
    if let Some(default) = &input.default {
        words.push(format!("Default: `{}`.", written(default)));
    }
    if !input.one_of.is_empty() {
        let choices: Vec<String> = input.one_of.iter().map(|choice| format!("`{}`", written(choice))).collect();
        words.push(format!("One of {}.", choices.join(", ")));
    }
    if input.absent == AbsentDoc::Allowed {
        words.push("May be absent.".to_owned());
    }
    words.join(" ").replace('|', "\\|").replace('\n', " ")
}
