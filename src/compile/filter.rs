//! The filter of `gatewright trace`: a condition over one finished request, of whatever service.
//!
//! It reads what every request has (`request`, `answer`, `fault`, `service`, `auth`), as `finally` of a service
//! does. It reads no body, which may have been streamed away, and nothing of the set of files: no secret, no list.

use serde_json::Value as Json;

use crate::compile::Compile;
use crate::compile::context::{Part, Surroundings};
use crate::compile::flow::{IdentityRoot, Root};
use crate::compile::named::Named;
use crate::compile::resources::Resources;
use crate::compile::text::clause;
use crate::engine::read::{Read, Slot};
use crate::expr::{Compiled, Constant, Error, Member, Resolved, Scope, Segment, Unresolved, compile_condition};
use crate::limits::Limits;
use crate::source::{Diagnostic, Diagnostics, Sources, Span, render, to_json};

/// Name of the filter's text in diagnostics.
const FILE: &str = "filter";
/// What a filter may read.
const ROOTS: [&str; 5] = ["request", "answer", "fault", "service", "auth"];

/// Everything wrong with a filter.
#[derive(Debug)]
pub struct Mistakes {
    /// As `check` prints it.
    pub text: String,
    pub diagnostics: Json,
}

/// Compiles a filter.
pub fn filter(text: &str) -> Result<Compiled, Box<Mistakes>> {
    let mut sources = Sources::new();
    let file = sources.add(FILE, text);
    let (resources, fragments, operators) = (Resources::default(), Named::default(), Named::default());
    let around = Surroundings {
        sources: &sources,
        resources: &resources,
        fragments: &fragments,
        catalogue: &[],
        operators: &operators,
        limits: &Limits::default(),
    };
    let mut none = Diagnostics::new();
    let mut place = Compile::new(around, &mut none, "".into(), Vec::new());
    place.part = Part::Finally;
    // The first identity of every service.
    let auth = IdentityRoot { slot: Slot(0), absent: true, has_client: false, credential: None, key_of: None };
    place.flow.roots.insert("auth".into(), Root::Identity(auth));
    let errors = match compile_condition(text, &mut Anywhere(place)) {
        Ok(compiled) => match compiled.reads.iter().any(is_body) {
            false => return Ok(compiled),
            true => vec![body(text)],
        },
        Err(errors) => errors,
    };
    let mut diags = Diagnostics::new();
    for error in errors {
        let offset = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        let span = Span { file, start: offset(error.at.start), end: offset(error.at.end) };
        let diagnostic = Diagnostic::error(error.code, span, clause(&error.message)).with_label(error.label);
        diags.push(match error.help {
            Some(help) => diagnostic.with_help(help),
            None => diagnostic,
        });
    }
    Err(Box::new(Mistakes { text: render(&sources, &diags, false), diagnostics: to_json(&sources, &diags) }))
}

fn is_body(read: &Read) -> bool {
    matches!(read, Read::Json(_) | Read::Body(_) | Read::BodyText(_) | Read::Form(_) | Read::FormMap)
}

fn body(text: &str) -> Error {
    Error {
        code: "trace.body",
        message: "a filter cannot read bodies: they have left when it is asked".into(),
        label: "reads a body".into(),
        help: Some("filter by what the request has beside it, such as `request.path` or `fault.code`".into()),
        at: 0..text.len(),
    }
}

/// The names that mean something for every request.
struct Anywhere<'a>(Compile<'a>);

impl Scope for Anywhere<'_> {
    fn resolve(&mut self, path: &[Segment<'_>]) -> Result<Resolved, Unresolved> {
        let root = path.first().map_or("", |segment| segment.name);
        if ROOTS.contains(&root) {
            return self.0.resolve(path);
        }
        Err(Unresolved {
            code: "trace.unknown_variable",
            message: format!("a filter cannot read `{root}`: it holds for the requests of all services"),
            label: "not here".into(),
            help: Some(format!("it may read {}", ROOTS.map(|root| format!("`{root}`")).join(", "))),
            at_segment: 0,
        })
    }

    fn constant(&mut self, function: &str, _name: &str) -> Result<Constant, Unresolved> {
        Err(Unresolved {
            code: "trace.unknown_variable",
            message: format!("a filter cannot read a {function} of the policies"),
            label: "not here".into(),
            help: Some("write the value itself".into()),
            at_segment: 0,
        })
    }

    fn proven(&self, read: &Read, members: &[Member]) -> bool {
        self.0.proven(read, members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        filter(text).err().map_or_else(String::new, |mistakes| mistakes.diagnostics[0]["code"].as_str().unwrap().into())
    }

    #[test]
    fn a_filter_reads_what_every_request_has() {
        for text in [
            "request.path == '/a'",
            "request.method in ['GET', 'PUT'] && request.client.ip == '127.0.0.1'",
            "request.headers.x_tenant == 'acme' || request.query.debug == '1'",
            "exists(fault.code)",
            "fault.code == 'route.connect'",
            "(answer.status ?? 0) >= 500",
            "service.name == 'orders'",
            "auth.subject == 'ada'",
        ] {
            assert_eq!(code(text), "", "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_it_is_told_at_its_place() {
        for (text, expected) in [
            ("request.json.a == 1", "trace.body"),
            ("request.form.a == 'x'", "trace.body"),
            ("path.id == '7'", "trace.unknown_variable"),
            ("request.path == secret('x')", "trace.unknown_variable"),
            ("list('x').len() > 1", "trace.unknown_variable"),
            ("request.path", "expr.not_bool"),
            ("request.pth == 'x'", "expr.unknown_variable"),
        ] {
            assert_eq!(code(text), expected, "{text}");
        }
        let mistakes = filter("true && request.pth == 'x'").unwrap_err();
        assert_eq!(mistakes.diagnostics[0]["column"], 17);
        assert!(mistakes.text.contains("did you mean `request.path`?"), "{}", mistakes.text);
    }
}
