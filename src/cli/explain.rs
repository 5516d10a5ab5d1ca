//! `gatewright explain CODE`: the page of a code.

use serde_json::json;

use super::{OK, WRONG_USAGE, say};
use crate::explain::{Page, pages};
use crate::source::suggest;

#[derive(Debug, clap::Args)]
pub(super) struct ExplainArguments {
    /// A code such as `policy.unknown_key` or `route.connect`; without one all codes are listed.
    code: Option<String>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn explain(arguments: &ExplainArguments) -> u8 {
    let Some(code) = &arguments.code else {
        let mut codes: Vec<&str> = pages().map(|page| page.code).collect();
        codes.sort_unstable();
        codes.dedup();
        say(&format!("{}\n", codes.join("\n")));
        return OK;
    };
    // A load code and a fault may share a name: both are told.
    let found: Vec<Page> = pages().filter(|page| page.code == code).collect();
    if found.is_empty() {
        let near = suggest(code, pages().map(|page| page.code));
        let near = near.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        eprintln!("`{code}` is no code{near}");
        return WRONG_USAGE;
    }
    if arguments.json {
        say(&format!("{}\n", found.iter().map(to_json).collect::<serde_json::Value>()));
    } else {
        say(&found.iter().map(Page::to_string).collect::<Vec<_>>().join("\n"));
    }
    OK
}

fn to_json(page: &Page) -> serde_json::Value {
    json!({
        "code": page.code,
        "meaning": page.meaning,
        "cure": page.cure,
        "example": page.example,
        "status": page.status,
        "assertion": page.assertion,
    })
}
