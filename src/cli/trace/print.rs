//! A trace for people: one line for the request, one per step, and below it what the step read and set.

use std::fmt::Write as _;

use serde_json::Value as Json;

/// Columns of a step's name and assertion before its place.
const STEP_WIDTH: usize = 44;

/// A line of the stream as text.
pub(super) fn request(line: &Json) -> String {
    let Some(record) = line.get("record") else {
        let count = line.get("dropped").and_then(Json::as_u64).unwrap_or(0);
        return format!("... {count} requests are missing here: too many came at once\n\n");
    };
    let mut out = head(record);
    for step in list(line, "steps") {
        step_lines(step, &mut out);
    }
    if let Some(step) = line.get("failed_step") {
        let _ = writeln!(out, "  failed at {}  {}", named(step), text(step, "place"));
    }
    for (name, value) in line.get("variables").and_then(Json::as_object).into_iter().flatten() {
        let _ = writeln!(out, "    {} = {}", clean(name), clean(&value.to_string()));
    }
    if let Some(code) = line.get("filter_fault").and_then(Json::as_str) {
        let _ = writeln!(out, "  the filter could not be decided: {code}");
    }
    if line.get("cut").is_some() {
        out.push_str("  ... the rest found no room\n");
    }
    out.push('\n');
    out
}

fn head(record: &Json) -> String {
    let number = |name: &str| record.get(name).and_then(Json::as_u64).unwrap_or(0);
    let mut out = format!(
        "{} {} {}{} -> {} {}",
        text(record, "time"),
        text(record, "method"),
        text(record, "host"),
        text(record, "path"),
        number("status"),
        text(record, "outcome"),
    );
    if record.get("fault").is_some() {
        let _ = write!(out, "  {}", text(record, "fault"));
    }
    for name in ["service", "subject", "client_ip", "request_id"] {
        if record.get(name).is_some() {
            let _ = write!(out, "  {name} {}", text(record, name));
        }
    }
    let _ = writeln!(out, "  {}", time(number("duration_us").saturating_mul(1000)));
    if let Some(detail) = record.get("detail").and_then(Json::as_str) {
        let _ = writeln!(out, "  {}", clean(detail));
    }
    out
}

fn step_lines(step: &Json, out: &mut String) {
    let number = |name: &str| step.get(name).and_then(Json::as_u64);
    let indent = "  ".repeat(text(step, "path").matches('.').count());
    let mut verdict = text(step, "verdict");
    for name in ["by", "fault"] {
        if let Some(more) = step.get(name).and_then(Json::as_str) {
            verdict = format!("{verdict} {}", clean(more));
        }
    }
    let at = number("at_ns").map_or_else(String::new, |at_ns| format!("+{}", time(at_ns)));
    let took = number("took_ns").map_or_else(String::new, time);
    let what = format!("{indent}{}", named(step));
    let _ = writeln!(out, "  {at:>10} {took:>9}  {what:STEP_WIDTH$}  {verdict:10}  {}", text(step, "place"));
    for (word, member) in [("read", "read"), ("set ", "set")] {
        for (name, value) in step.get(member).and_then(Json::as_object).into_iter().flatten() {
            let value = match value.get("value").and_then(Json::as_str) {
                Some("not shown") => "(not shown)".to_owned(),
                _ => value.to_string(),
            };
            let _ = writeln!(out, "{:26}{indent}{word} {} = {}", "", clean(name), clean(&value));
        }
    }
}

/// `3.then.1 only managers (authorize)`
fn named(step: &Json) -> String {
    let (name, assertion) = (text(step, "name"), text(step, "assertion"));
    match name == assertion {
        true => format!("{} {assertion}", text(step, "path")),
        false => format!("{} {name} ({assertion})", text(step, "path")),
    }
}

fn list<'j>(line: &'j Json, name: &str) -> impl Iterator<Item = &'j Json> {
    line.get(name).and_then(Json::as_array).into_iter().flatten()
}

fn text(json: &Json, name: &str) -> String {
    json.get(name).and_then(Json::as_str).map(clean).unwrap_or_default()
}

/// Without control characters: what a client sent must not steer the operator's terminal.
fn clean(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

fn time(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} us", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        _ => format!("{:.2} s", ns as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_request_is_one_line_and_its_steps_stand_below() {
        let line = json!({
            "trace": 1,
            "record": { "time": "T", "method": "GET", "host": "h", "path": "/a\u{1b}[2J", "status": 403,
                "outcome": "denied", "fault": "authorize.denied", "service": "s", "duration_us": 1500 },
            "steps": [
                { "path": "1", "name": "include", "assertion": "include", "place": "a.yaml:4", "verdict": "entered" },
                { "path": "1.1", "name": "who", "assertion": "authorize", "place": "f.yaml:3", "verdict": "denied",
                  "fault": "authorize.denied", "at_ns": 12_300, "took_ns": 900, "read": { "auth.groups": ["a"] } },
            ],
        });
        let printed = request(&line);
        let lines: Vec<&str> = printed.lines().collect();
        assert_eq!(lines[0], "T GET h/a\u{fffd}[2J -> 403 denied  authorize.denied  service s  1.5 ms");
        assert!(lines[1].contains("1 include") && lines[1].ends_with("entered     a.yaml:4"), "{printed}");
        assert!(lines[2].contains("+12.3 us    900 ns    1.1 who (authorize)"), "{printed}");
        assert!(lines[2].ends_with("denied authorize.denied  f.yaml:3"), "{printed}");
        assert!(lines[3].ends_with("read auth.groups = [\"a\"]"), "{printed}");
        assert!(request(&json!({ "dropped": 3 })).starts_with("... 3 requests are missing"));
    }
}
