//! A service's effective pipeline: what defaults and includes add to it and where each step comes from, which
//! message a step means, which parameters nobody wrote, and which bodies are held in memory for which step.

use std::fmt::Write as _;

use serde_json::{Map, Value as Json, json};

use crate::assertions::CATALOGUE;
use crate::engine::program::{PutInBy, StepMeta};
use crate::engine::snapshot::{Service, Snapshot};

/// Pipelines for people.
pub(super) fn to_text(snapshot: &Snapshot) -> String {
    let mut out = String::new();
    for service in &snapshot.services {
        let name = service.name.as_deref().unwrap_or_default();
        let rule = service.rule.as_deref().unwrap_or_default();
        // Writing into a String does not fail.
        let _ = writeln!(out, "service {name}  {rule}  ({})", service.file);
        write_steps(service, &mut out);
        for (which, held) in [("request", &service.plan.request), ("response", &service.plan.response)] {
            let _ = match held {
                Some(step) => {
                    writeln!(out, "  {which} body: held in memory for step {}", with_assertion(service, step))
                }
                None => writeln!(out, "  {which} body: streams"),
            };
        }
        out.push('\n');
    }
    if !snapshot.unmatched.steps.is_empty() {
        out.push_str("requests that no service wants\n");
        write_steps(&snapshot.unmatched, &mut out);
        out.push('\n');
    }
    out
}

fn with_assertion(service: &Service, path: &str) -> String {
    let step = service.steps.iter().find(|step| *step.path == *path);
    step.map_or_else(|| path.to_owned(), |step| format!("{path} ({})", step.assertion))
}

fn write_steps(service: &Service, out: &mut String) {
    let width = |of: fn(&StepMeta) -> usize| service.steps.iter().map(of).max().unwrap_or(0);
    let (paths, kinds) = (width(|step| step.path.chars().count()), width(|step| step.assertion.len()));
    for step in &service.steps {
        let _ = write!(out, "  {:paths$}  {:kinds$}  {}", step.path, step.assertion, step.place);
        if let Some(message) = step.explained.message {
            let _ = write!(out, "  on the {message}");
        }
        match &step.explained.from {
            Some(PutInBy::Defaults(name)) => _ = write!(out, "  from defaults {name}"),
            Some(PutInBy::Fragment(name)) => _ = write!(out, "  from fragment {name}"),
            Some(PutInBy::Assertion(name)) => _ = write!(out, "  from assertion {name}"),
            None => {}
        }
        if *step.name != *step.assertion {
            let _ = write!(out, "  \"{}\"", step.name);
        }
        out.push('\n');
        let conditions = [("when", step.explained.when.as_ref()), (&*step.assertion, step.explained.decides.as_ref())];
        for (word, condition) in conditions {
            if let Some(condition) = condition {
                let _ = writeln!(out, "  {:paths$}  {:kinds$}  {word} {condition}", "", "");
            }
        }
        let unwritten = unwritten(step);
        if !unwritten.is_empty() {
            let values: Vec<String> =
                unwritten.iter().map(|(name, value)| format!("{name}: {}", plain(value))).collect();
            let _ = writeln!(out, "  {:paths$}  {:kinds$}  by default {}", "", "", values.join(", "));
        }
    }
}

fn plain(value: &Json) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Parameters that hold although nobody wrote them.
fn unwritten(step: &StepMeta) -> Map<String, Json> {
    let Some(kind) = CATALOGUE.iter().find(|kind| kind.name == &*step.assertion) else { return Map::new() };
    let schema = (kind.schema)().to_value();
    let properties = schema.get("properties").and_then(Json::as_object).into_iter().flatten();
    let is_written = |name: &str| step.explained.written.iter().any(|written| **written == *name);
    let defaults = properties.filter(|(name, _)| !is_written(name)).filter_map(|(name, property)| {
        let value = property.get("default").filter(|value| says_something(value))?;
        Some((name.clone(), value.clone()))
    });
    defaults.collect()
}

fn says_something(value: &Json) -> bool {
    match value {
        Json::Null => false,
        Json::Array(items) => !items.is_empty(),
        Json::Object(members) => members.values().any(says_something),
        _ => true,
    }
}

/// Pipelines for programs.
pub(super) fn to_json(snapshot: &Snapshot) -> Json {
    snapshot.services.iter().map(|one| service(one)).collect()
}

/// What happens to requests that no service wants.
pub(super) fn unmatched(snapshot: &Snapshot) -> Json {
    steps(&snapshot.unmatched)
}

fn service(service: &Service) -> Json {
    json!({
        "name": service.name.as_deref(),
        "match": service.rule.as_deref(),
        "file": *service.file,
        "steps": steps(service),
        "holds_request_body": service.plan.request.as_deref(),
        "holds_response_body": service.plan.response.as_deref(),
    })
}

fn steps(service: &Service) -> Json {
    let from = |step: &StepMeta| match &step.explained.from {
        Some(PutInBy::Defaults(name)) => json!({ "defaults": **name }),
        Some(PutInBy::Fragment(name)) => json!({ "fragment": **name }),
        Some(PutInBy::Assertion(name)) => json!({ "assertion": **name }),
        None => Json::Null,
    };
    let step = |step: &StepMeta| {
        json!({
            "path": *step.path,
            "name": *step.name,
            "assertion": *step.assertion,
            "place": *step.place,
            "from": from(step),
            "message": step.explained.message,
            "when": step.explained.when.as_deref(),
            "decides": step.explained.decides.as_deref(),
            "by_default": unwritten(step),
        })
    };
    service.steps.iter().map(step).collect()
}
