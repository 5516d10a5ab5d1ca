//! `gatewright explain CODE`: the page of a code, or where the operator's own policies raise it.

use regex::Regex;
use serde_json::json;

use super::{ConfigArgument, OK, WRONG_USAGE, say};
use crate::config;
use crate::explain::{Page, pages};
use crate::policy::build::parse_files;
use crate::policy::files::Files;
use crate::source::{Diagnostics, FileId, Sources, Span, nearest};

/// Codes that are shown in the place of one that does not exist.
const NEAR_MAX: usize = 3;

#[derive(Debug, clap::Args)]
pub(super) struct ExplainArguments {
    #[command(flatten)]
    config: ConfigArgument,
    /// A code such as `policy.unknown_key` or `route.connect`, or one that your policies raise; without one all codes
    /// are listed.
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
    if !found.is_empty() {
        if arguments.json {
            say(&format!("{}\n", found.iter().map(to_json).collect::<serde_json::Value>()));
        } else {
            say(&found.iter().map(Page::to_string).collect::<Vec<_>>().join("\n"));
        }
        return OK;
    }
    let own = raised(arguments);
    let places: Vec<&str> = own.iter().filter(|raised| raised.code == *code).map(|raised| &*raised.place).collect();
    if places.is_empty() {
        let known = pages().map(|page| page.code).chain(own.iter().map(|raised| raised.code.as_str()));
        let near: Vec<String> = nearest(code, known, NEAR_MAX).iter().map(|near| format!("`{near}`")).collect();
        let near = if near.is_empty() { String::new() } else { format!("; near are {}", near.join(", ")) };
        eprintln!("`{code}` is no code, and no policy raises it{near}");
        return WRONG_USAGE;
    }
    if arguments.json {
        say(&format!("{}\n", json!([{ "code": code, "raised": places }])));
    } else {
        let places: String = places.iter().map(|place| format!("  {place}\n")).collect();
        say(&format!("{code}: fault of your own policies, raised at\n\n{places}"));
    }
    OK
}

/// A code that stands in a policy, and where.
struct Raised {
    code: String,
    place: String,
}

/// Codes that the policies in reach raise. They are found by the words before them, so that files with mistakes are
/// searched too.
fn raised(arguments: &ExplainArguments) -> Vec<Raised> {
    let loaded = config::load(arguments.config.config.as_deref());
    let Some(config) = loaded.config.or(loaded.remains) else { return Vec::new() };
    let parsed = parse_files(&Files::read(&config.folders()), &mut Diagnostics::new());
    parsed.sources.files().flat_map(|file| raised_in(&parsed.sources, file)).collect()
}

fn raised_in(sources: &Sources, file: FileId) -> Vec<Raised> {
    // `code:` of a step, and the functions of scripts.
    let Ok(words) = Regex::new(r#"(?m)^[^#\n]*?(?:\bcode:\s*|\b(?:deny|fail)\(\s*)["']?([a-z_]+(?:\.[a-z_]+)+)"#)
    else {
        return Vec::new();
    };
    let codes = words.captures_iter(sources.text(file)).filter_map(|found| found.get(1));
    let raised = codes.map(|code| {
        let at = |offset: usize| u32::try_from(offset).unwrap_or(u32::MAX);
        let place = sources.place(Span { file, start: at(code.start()), end: at(code.end()) });
        Raised { code: code.as_str().to_owned(), place: format!("{}:{}", place.file, place.line) }
    });
    raised.collect()
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
