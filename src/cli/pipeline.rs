//! A service's effective pipeline, with what defaults and includes add to it.

use std::fmt::Write as _;

use serde_json::{Value as Json, json};

use crate::engine::program::StepMeta;
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
                Some(step) => writeln!(out, "  {which} body: held in memory for step {step}"),
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

fn write_steps(service: &Service, out: &mut String) {
    let width = |of: fn(&StepMeta) -> usize| service.steps.iter().map(of).max().unwrap_or(0);
    let (paths, kinds) = (width(|step| step.path.chars().count()), width(|step| step.assertion.len()));
    for step in &service.steps {
        let name = if *step.name == *step.assertion { String::new() } else { format!("  \"{}\"", step.name) };
        let _ = writeln!(out, "  {:paths$}  {:kinds$}  {}{name}", step.path, step.assertion, step.place);
    }
}

/// Pipelines for programs.
pub(super) fn to_json(snapshot: &Snapshot) -> Json {
    let steps = |service: &Service| {
        let step = |step: &StepMeta| {
            json!({
                "path": *step.path,
                "name": *step.name,
                "assertion": *step.assertion,
                "place": *step.place,
            })
        };
        service.steps.iter().map(step).collect::<Vec<_>>()
    };
    let service = |service: &Service| {
        json!({
            "name": service.name.as_deref(),
            "match": service.rule.as_deref(),
            "file": *service.file,
            "steps": steps(service),
            "holds_request_body": service.plan.request.as_deref(),
            "holds_response_body": service.plan.response.as_deref(),
        })
    };
    snapshot.services.iter().map(|one| service(one)).collect()
}
