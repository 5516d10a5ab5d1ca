//! JSON as a person would lay it out: what fits on a line stands on one.

use serde_json::Value as Json;

/// Longest line, where it can be helped.
const COLUMNS: usize = 160;

/// The whole text, with a line feed at its end.
pub(super) fn text(json: &Json) -> String {
    let mut out = String::new();
    write(json, 0, 0, &mut out);
    out.push('\n');
    out
}

fn write(json: &Json, depth: usize, used: usize, out: &mut String) {
    let flat = json.to_string();
    if depth + used + flat.len() <= COLUMNS {
        out.push_str(&flat);
        return;
    }
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.push_str(&" ".repeat(depth));
    };
    match json {
        Json::Object(members) => {
            out.push('{');
            for (index, (key, value)) in members.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { "," });
                line(out, depth + 1);
                let key = Json::from(key.as_str()).to_string();
                out.push_str(&key);
                out.push_str(": ");
                write(value, depth + 1, key.len() + 3, out);
            }
            line(out, depth);
            out.push('}');
        }
        Json::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { "," });
                line(out, depth + 1);
                write(item, depth + 1, 1, out);
            }
            line(out, depth);
            out.push(']');
        }
        _ => out.push_str(&flat),
    }
}
