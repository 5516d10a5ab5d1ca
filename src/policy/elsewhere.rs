//! Requests that one service guards and another lets through in a different spelling.
//!
//! There is one canonical path (`path.rs`), so that escapes, dots, double slashes and parameters are no
//! spellings of their own. What remains is what servers behind a gateway may take for the same and the match
//! rules do not: upper and lower case, a slash at the end, another host. A warning is given only where both
//! services send the path as it came to the same upstream, and the open one does not look at the path itself.

use std::collections::BTreeSet;

use crate::assertions::CATALOGUE;
use crate::compile::Category;
use crate::engine::program::StepMeta;
use crate::engine::select::{Found, HostRule, Rule, Segment, Select};
use crate::engine::snapshot::Service;
use crate::engine::value::Text;
use crate::policy::build::{Environment, Parsed};
use crate::policy::document::ServiceDoc;
use crate::source::{Diagnostic, Diagnostics, Node, NodeValue};

/// Fragments are followed this deep; a longer chain is a cycle, which is reported elsewhere.
const INCLUDES_MAX: usize = 8;
/// A host that no rule names.
const OTHER_HOST: &str = "host.invalid";
/// What stands in the place of path parameters.
const SAMPLE: &str = "x";

/// A service with its rule.
pub(super) struct Built<'b> {
    pub doc: &'b ServiceDoc,
    pub rule: &'b Rule,
    pub access: &'b Access,
}

/// Whom a service lets through, and to where: found when it is compiled, from what it is compiled of.
#[derive(Default)]
pub(super) struct Access {
    guarded: bool,
    /// Nothing in it decides who gets through.
    open: bool,
    reach: Reach,
}

/// What a pipeline does with requests, as far as its text shows.
#[derive(Default)]
struct Reach {
    /// Upstreams that get the path as it came.
    targets: BTreeSet<String>,
    /// It reads the path, or changes it.
    minds_path: bool,
}

impl Access {
    /// What a compiled service, and the text of its pipeline, tell.
    pub(super) fn of(doc: &ServiceDoc, service: &Service, parsed: &Parsed) -> Access {
        let (guarded, open) = (is_guarded(service), is_open(service));
        let mut reach = Reach::default();
        if guarded || open {
            reach.look(&doc.policy, parsed, INCLUDES_MAX);
        }
        Access { guarded, open, reach }
    }
}

/// Warns of every open service that takes another spelling of what a guarded one takes. `built` stands in the
/// order of the numbers of `select`; a service without a rule is `None`.
pub(super) fn check(select: &Select, built: &[Option<Built<'_>>], environment: &Environment, diags: &mut Diagnostics) {
    for (place, guarded) in built.iter().enumerate() {
        let Some(guarded) = guarded.as_ref().filter(|one| one.access.guarded) else { continue };
        let reach = &guarded.access.reach;
        if reach.targets.is_empty() || reach.minds_path {
            continue;
        }
        let mut told = BTreeSet::new();
        for (spelling, host, path) in spellings(guarded.rule) {
            let Some(index) = taker(select, environment, guarded, &host, &path) else { continue };
            let Some(Some(open)) = built.get(index) else { continue };
            if index == place || !open.access.open || told.contains(&index) {
                continue;
            }
            let other = &open.access.reach;
            if let (false, Some(target)) = (other.minds_path, other.targets.intersection(&reach.targets).next()) {
                told.insert(index);
                diags.push(warning(guarded.doc, open.doc, spelling, &request(&host, &path, guarded.rule), target));
            }
        }
    }
}

fn warning(guarded: &ServiceDoc, open: &ServiceDoc, spelling: &str, request: &str, target: &str) -> Diagnostic {
    let (guarded_name, open_name) = (&guarded.service.name, &open.service.name);
    let message =
        format!("`{open_name}` sends {request} to `{target}` unguarded: `{guarded_name}` guards it {spelling}");
    let help = format!(
        "guard `{open_name}` too, for instance by `defaults`, or let a step look at `request.path` before its `route`; \
         if the upstream tells the two apart, this is harmless"
    );
    Diagnostic::warning("policy.open_elsewhere", open.rule.path.0.span(), message)
        .with_note(guarded.rule.path.0.span(), "guarded here")
        .with_help(help)
}

/// A request for people.
fn request(host: &str, path: &str, rule: &Rule) -> String {
    match (&rule.host, host) {
        (HostRule::Any, _) => format!("`{path}`"),
        (_, OTHER_HOST) => format!("`{path}` of another host"),
        _ => format!("`{host}{path}`"),
    }
}

/// Number of the service that answers a spelling on a listener where the guarded one stands.
fn taker(select: &Select, environment: &Environment, guarded: &Built<'_>, host: &str, path: &str) -> Option<usize> {
    let method = guarded.rule.methods.first().cloned().unwrap_or(http::Method::GET);
    let stands = |name: &&Text| guarded.rule.listeners.is_empty() || guarded.rule.listeners.contains(name);
    environment.listeners.iter().filter(stands).find_map(|listener| match select.find(listener, host, path, &method) {
        Found::Service(index, _) => Some(index),
        _ => None,
    })
}

/// Other spellings of a request that a rule takes: what differs, host, path.
fn spellings(rule: &Rule) -> Vec<(&'static str, String, String)> {
    let host = match &rule.host {
        HostRule::Exact(host) => host.to_string(),
        HostRule::Suffix(suffix) => format!("{SAMPLE}{suffix}"),
        HostRule::Any => OTHER_HOST.to_owned(),
    };
    let plain = path(rule, None);
    let mut found = Vec::new();
    for at in (0..rule.path.len()).rev() {
        let upper = path(rule, Some(at));
        if upper != plain {
            found.push(("in another case", host.clone(), upper));
        }
    }
    if !matches!(rule.path.last(), Some(Segment::Rest(_))) && plain != "/" {
        let other = plain.strip_suffix('/').map_or_else(|| format!("{plain}/"), str::to_owned);
        found.push(("with another end", host, other));
    }
    if rule.host != HostRule::Any {
        found.push(("for its host", OTHER_HOST.to_owned(), plain));
    }
    found
}

/// A path that a rule takes, one of its literal segments written with a capital.
fn path(rule: &Rule, capitalised: Option<usize>) -> String {
    let segments = rule.path.iter().enumerate().map(|(at, segment)| match segment {
        Segment::Literal(text) if capitalised == Some(at) => capital(text),
        Segment::Literal(text) => text.to_string(),
        Segment::One(_) | Segment::Rest(_) => SAMPLE.to_owned(),
    });
    format!("/{}", segments.collect::<Vec<_>>().join("/"))
}

fn capital(segment: &str) -> String {
    let mut characters = segment.chars();
    match characters.next() {
        // What is no letter of ASCII stands escaped in a canonical path: its escapes are left alone.
        Some(first) if first.is_ascii_lowercase() => first.to_ascii_uppercase().to_string() + characters.as_str(),
        Some(first) if first.is_ascii_uppercase() => first.to_ascii_lowercase().to_string() + characters.as_str(),
        _ => segment.to_owned(),
    }
}

/// The steps that every request of the pipeline may walk.
fn main_steps(service: &Service) -> impl Iterator<Item = &StepMeta> {
    service.steps.iter().filter(|step| !step.path.contains("on_fault.") && !step.path.contains("finally."))
}

/// Whether a step decides who gets through: nothing is known of assertions that are not built in.
fn guards(step: &StepMeta) -> Option<bool> {
    let kind = CATALOGUE.iter().find(|kind| kind.name == &*step.assertion)?;
    Some(kind.category == Category::Access || kind.name == "restrict_ip")
}

fn is_guarded(service: &Service) -> bool {
    main_steps(service).any(|step| guards(step) == Some(true))
}

fn is_open(service: &Service) -> bool {
    main_steps(service).all(|step| guards(step) == Some(false))
}

impl Reach {
    fn look(&mut self, node: &Node, parsed: &Parsed, includes: usize) {
        match node.value() {
            NodeValue::Null => {}
            NodeValue::Scalar(scalar) => {
                self.minds_path |= [".path", ".raw_path", "path."].iter().any(|word| scalar.text.contains(word));
            }
            NodeValue::List(items) => items.iter().for_each(|item| self.look(item, parsed, includes)),
            NodeValue::Map(entries) => {
                for entry in entries {
                    match entry.key.as_str() {
                        "route" => self.targets.extend(target(&entry.value)),
                        "rewrite" => self.minds_path = true,
                        "include" => self.include(&entry.value, parsed, includes),
                        _ => self.look(&entry.value, parsed, includes),
                    }
                }
            }
        }
    }

    fn include(&mut self, node: &Node, parsed: &Parsed, includes: usize) {
        let name = node.as_text().or_else(|| node.get("fragment")?.as_text()).unwrap_or_default();
        if let (Some(fragment), Some(left)) = (parsed.documents.fragments.get(name), includes.checked_sub(1)) {
            self.look(&fragment.steps, parsed, left);
        }
    }
}

/// The upstream of a `route`, where it gets the request's own path.
fn target(route: &Node) -> Option<String> {
    let text = |node: &Node| node.as_text().map(str::to_owned);
    let (to, name) = match route.as_text() {
        Some(bare) if bare.contains("://") => (Some(bare.to_owned()), None),
        Some(bare) => (None, Some(bare.to_owned())),
        None if route.get("path").is_some() => return None,
        None => (route.get("to").and_then(text), route.get("upstream").and_then(text)),
    };
    if let Some(name) = name {
        return Some(name);
    }
    // An origin alone: a path behind it would replace the request's.
    to.filter(|to| to.split_once("://").is_some_and(|(_, rest)| !rest.contains('/')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::build::{compile, parse_files};
    use crate::policy::files::Files;

    const GUARD: &str = "  - restrict_ip: [127.0.0.1]\n";
    const ROUTE: &str = "  - route: http://127.0.0.1:9000\n";

    /// What is said of an open service for all paths, and a guarded one.
    fn said(open: &str, guarded_match: &str, guarded: &str) -> Vec<String> {
        let text = format!(
            "service: open\nmatch: {{ path: \"/{{*rest}}\" }}\npolicy:\n{open}---\n\
             service: guarded\nmatch: {{ {guarded_match} }}\npolicy:\n{guarded}"
        );
        let environment = Environment { listeners: vec!["main".into()], ..Environment::default() };
        let mut diags = Diagnostics::new();
        let parsed = parse_files(&Files::of_text("a.yaml", &text), &mut diags);
        assert!(compile(&parsed, &environment, None, None, &mut diags).is_some(), "{text}");
        diags.iter().map(|one| one.message.clone()).collect()
    }

    #[test]
    fn another_spelling_that_is_let_through_is_told() {
        let guarded = format!("{GUARD}{ROUTE}");
        let told = "`open` sends `/Admin/x` to `http://127.0.0.1:9000` unguarded: `guarded` guards it in another case";
        assert_eq!(said(ROUTE, "path: \"/admin/{*rest}\"", &guarded), [told]);
        let told = "`open` sends `/7/` to `http://127.0.0.1:9000` unguarded: `guarded` guards it with another end";
        assert_eq!(said(ROUTE, "path: /7", &guarded), [told]);
        let told =
            "`open` sends `/x` of another host to `http://127.0.0.1:9000` unguarded: `guarded` guards it for its host";
        assert_eq!(said(ROUTE, "host: a.example.com, path: \"/{*rest}\"", &guarded), [told]);
    }

    #[test]
    fn what_cannot_reach_the_same_thing_is_not_told() {
        let (guarded, rule) = (format!("{GUARD}{ROUTE}"), "path: \"/admin/{*rest}\"");
        let elsewhere = ROUTE.replace("9000", "9001");
        let rebuilt = "  - route: \"http://127.0.0.1:9000/public/${path.rest}\"\n";
        let minding = format!("  - when: request.path == '/Admin'\n    raise: {{ status: 404, code: a.b }}\n{ROUTE}");
        for open in [elsewhere.as_str(), rebuilt, &minding, &guarded, "  - respond: 200\n"] {
            assert_eq!(said(open, rule, &guarded), Vec::<String>::new(), "{open}");
        }
        assert_eq!(said(ROUTE, rule, ROUTE), Vec::<String>::new());
        assert_eq!(said(ROUTE, "path: \"/7/{*rest}\"", &guarded), Vec::<String>::new());
    }
}
