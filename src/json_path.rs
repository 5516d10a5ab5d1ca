//! JSONPath (RFC 9535) over documents that a client may have sent.
//!
//! The language is the crate's; here stand the bounds that a document of a stranger needs, and the queries that
//! no document should be able to make slow. A pattern of `match()` or `search()` that the document itself brings
//! is for the compliance suite only: see [`Query::is_bounded`].

use std::fmt::Write;

use serde_json::Value;
use serde_json_path::{JsonPath, NormalizedPath, PathElement};

use crate::json::{Bounds, Broken, scan};

/// Longest query, in bytes.
pub const QUERY_BYTES_MAX: usize = 4096;
/// Values of a document that is queried in one pass.
pub const NODES_MAX: usize = 100_000;
/// Values of a document whose query may look at each more than once or compile a pattern at each; and the most
/// values that a query may select.
pub const SELECTED_MAX: usize = 10_000;
/// Nesting of a document.
pub const DEPTH_MAX: usize = 64;

/// A compiled query.
#[derive(Clone, Debug)]
pub struct Query {
    path: JsonPath,
    /// It names one place at most (RFC 9535 §2.3.5.1).
    singular: bool,
    one_pass: bool,
    bounded: bool,
}

/// More than [`SELECTED_MAX`] values are selected.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TooManySelected;

impl std::fmt::Display for TooManySelected {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "more than {SELECTED_MAX} values are selected")
    }
}

impl Query {
    /// Compiles a query; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Query, String> {
        if text.len() > QUERY_BYTES_MAX {
            return Err(format!("longer than {QUERY_BYTES_MAX} bytes"));
        }
        let path = JsonPath::parse(text).map_err(|error| error.to_string())?;
        let shape = Shape::of(text);
        Ok(Query { path, singular: shape.singular, one_pass: shape.one_pass, bounded: shape.bounded })
    }

    /// Whether it names one place at most.
    pub fn is_singular(&self) -> bool {
        self.singular
    }

    /// Whether all patterns of `match()` and `search()` are literals, so that no document brings its own.
    pub fn is_bounded(&self) -> bool {
        self.bounded
    }

    /// Values that a document may have for this query.
    pub fn nodes_max(&self) -> usize {
        if self.one_pass { NODES_MAX } else { SELECTED_MAX }
    }

    /// The values that it selects, in the order of the document.
    pub fn select<'d>(&self, document: &'d Value) -> Result<Vec<&'d Value>, TooManySelected> {
        let selected = self.path.query(document).all();
        if selected.len() > SELECTED_MAX { Err(TooManySelected) } else { Ok(selected) }
    }

    /// Where the values are that it selects (RFC 6901), in the order of the document; `None` where that is
    /// too large for the query.
    pub fn pointers(&self, document: &Value) -> Option<Vec<String>> {
        if count_nodes(document, self.nodes_max()) > self.nodes_max() {
            return None;
        }
        Some(self.path.query_located(document).iter().map(|node| node.location().to_json_pointer()).collect())
    }

    /// The same with the normalized path of each (RFC 9535 §2.7).
    pub fn select_located<'d>(&self, document: &'d Value) -> Result<Vec<(String, &'d Value)>, TooManySelected> {
        let selected = self.path.query_located(document);
        if selected.len() > SELECTED_MAX {
            return Err(TooManySelected);
        }
        Ok(selected.iter().map(|node| (normalized(node.location()), node.node())).collect())
    }
}

/// Writes a normalized path (RFC 9535 §2.7): one spelling for each place.
fn normalized(path: &NormalizedPath<'_>) -> String {
    let mut out = "$".to_owned();
    for element in path.iter() {
        match element {
            PathElement::Index(index) => drop(write!(out, "[{index}]")),
            PathElement::Name(name) => {
                out.push_str("['");
                for char in name.chars() {
                    match char {
                        '\'' | '\\' => out.extend(['\\', char]),
                        '\u{8}' => out.push_str("\\b"),
                        '\t' => out.push_str("\\t"),
                        '\n' => out.push_str("\\n"),
                        '\u{c}' => out.push_str("\\f"),
                        '\r' => out.push_str("\\r"),
                        '\0'..='\x1f' => drop(write!(out, "\\u{:04x}", u32::from(char))),
                        char => out.push(char),
                    }
                }
                out.push_str("']");
            }
        }
    }
    out
}

/// Scans a text for queries: JSON, no name twice, within depth; gives the number of its values.
pub fn check_text(text: &[u8]) -> Result<usize, Broken> {
    // The size of the body bounds all else.
    let bounds = Bounds {
        depth: DEPTH_MAX,
        members: usize::MAX,
        items: usize::MAX,
        name_length: usize::MAX,
        string_length: usize::MAX,
        number_length: usize::MAX,
        nodes: NODES_MAX,
        duplicates: false,
    };
    scan(text, &bounds)
}

/// Counts the values of a document that was parsed before, at most to one above `most`.
pub fn count_nodes(document: &Value, most: usize) -> usize {
    let mut open = vec![document];
    let mut count = 0usize;
    while let Some(value) = open.pop() {
        count += 1;
        if count > most {
            break;
        }
        match value {
            Value::Array(items) => open.extend(items),
            Value::Object(members) => open.extend(members.values()),
            _ => {}
        }
    }
    count
}

/// What the text of a query, which is known to be one, tells of its cost.
#[derive(Debug, PartialEq)]
struct Shape {
    singular: bool,
    one_pass: bool,
    bounded: bool,
}

impl Shape {
    fn of(query: &str) -> Shape {
        let (code, literals) = without_strings(query);
        let count = |sign: &str| code.matches(sign).count();
        let patterns = ["match(", "search("].map(count).iter().sum::<usize>();
        Shape {
            singular: !code.contains(['*', '?', ',', ':']) && count("..") == 0,
            // Several descents multiply; a root inside of a filter begins at each value again.
            one_pass: count("..") <= 1 && count("$") == 1 && patterns == 0,
            bounded: literals == patterns,
        }
    }
}

/// The query with each string literal cut to its quotes, and the number of functions that end in one.
fn without_strings(query: &str) -> (String, usize) {
    let mut code = String::with_capacity(query.len());
    let mut chars = query.chars();
    while let Some(char) = chars.next() {
        // White space means nothing outside of strings.
        if !char.is_ascii_whitespace() {
            code.push(char);
        }
        if char != '"' && char != '\'' {
            continue;
        }
        while let Some(inside) = chars.next() {
            if inside == '\\' {
                chars.next();
            } else if inside == char {
                code.push(char);
                break;
            }
        }
    }
    // Only `match` and `search` take a literal as their last argument of several.
    let literals = code.matches(",'')").count() + code.matches(",\"\")").count();
    (code, literals)
}

#[cfg(test)]
mod tests;
