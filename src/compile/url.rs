//! Parts of URLs that policies write: paths whose values stay in their segments, methods, and marks that
//! count only outside of `${...}`.

use http::Method;

use crate::compile::Compile;
use crate::compile::text::{Sink, TextParam};
use crate::engine::exchange::Exchange;
use crate::expr::{Place, fault_by};
use crate::fault::Fault;
use crate::source::{Literal, Node};

/// A path in segments: every value is encoded for its own, `{*rest}` keeps its slashes.
#[derive(Debug)]
pub struct PathText(Vec<TextParam>);

impl Compile<'_> {
    /// Compiles a path without its first slash.
    pub fn path_text(&mut self, node: &Node, path: &str, sink: Sink) -> Option<PathText> {
        let mut pieces = Vec::new();
        let mut from = 0;
        for (at, mark) in outside(path).into_iter().chain([(path.len(), '/')]) {
            if mark == '/' {
                pieces.push(path.get(from..at).unwrap_or_default());
                from = at + 1;
            }
        }
        let rest = self.rest_param.as_ref().map(|name| format!("${{path.{name}}}"));
        let compiled: Vec<Option<TextParam>> = pieces
            .into_iter()
            .map(|piece| {
                let place = if rest.as_deref() == Some(piece) { Place::PathRest } else { Place::PathSegment };
                self.text_of(&node.with_text(piece), place, sink)
            })
            .collect();
        Some(PathText(compiled.into_iter().collect::<Option<_>>()?))
    }

    /// A method that may be sent upstream.
    pub fn method_to_send(&mut self, literal: &Literal) -> Option<Method> {
        let word = self.literal(literal)?;
        match Method::from_bytes(word.as_bytes()) {
            Ok(method) if method != Method::CONNECT && method != Method::TRACE => Some(method),
            _ => self.refuse(
                "policy.bad_method",
                literal.0.span(),
                format!("`{word}` is no method to send"),
                "write one in capitals, such as `POST`",
            ),
        }
    }
}

impl PathText {
    /// Appends the path; one with a dot segment is a fault under `code`, by origin.
    pub fn render(&self, x: &Exchange, code: &str, out: &mut String) -> Result<(), Box<Fault>> {
        for segment in &self.0 {
            out.push('/');
            let from = out.len();
            segment.render(x, out).map_err(|fault| match fault.code.as_ref() {
                "expression.path" => fault.with_code(code.to_owned()),
                _ => fault,
            })?;
            let written = out.get(from..).unwrap_or_default();
            if written.split('/').any(|part| part == "." || part == "..") {
                let fault = fault_by(segment.facts().origin, "expression.path", "a variable made a dot segment");
                return Err(fault.with_code(code.to_owned()));
            }
        }
        Ok(())
    }

    /// What stands between its slashes.
    pub fn segments(&self) -> &[TextParam] {
        &self.0
    }

    /// Whether it holds no variable.
    pub fn is_literal(&self) -> bool {
        self.0.iter().all(|segment| segment.literal().is_some())
    }
}

/// Characters outside of `${...}` with their places.
pub fn outside(text: &str) -> Vec<(usize, char)> {
    text.char_indices().filter(|(at, _)| is_outside(text, *at)).collect()
}

/// Whether a place of a text is outside of `${...}`.
pub fn is_outside(text: &str, at: usize) -> bool {
    let before = text.get(..at).unwrap_or_default();
    before.rfind("${").is_none_or(|open| before.get(open..).is_some_and(|inside| inside.contains('}')))
}

/// Whether a host is the allowed one; `*.example.com` stands for all names below it.
pub fn host_fits(allowed: &str, host: &str) -> bool {
    match allowed.strip_prefix('*') {
        Some(suffix) => host.len() > suffix.len() && host.to_ascii_lowercase().ends_with(&suffix.to_ascii_lowercase()),
        None => allowed.eq_ignore_ascii_case(host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_inside_expressions_do_not_count() {
        let text = "http://h/${a ? b / c}/x";
        let slashes: Vec<usize> = outside(text).iter().filter(|(_, mark)| *mark == '/').map(|(at, _)| *at).collect();
        assert_eq!(slashes, [5, 6, 8, 21]);
    }

    #[test]
    fn allowed_hosts_take_names_below_a_star() {
        assert!(host_fits("*.example.com", "a.Example.com"));
        assert!(!host_fits("*.example.com", "example.com"));
        assert!(!host_fits("*.example.com", ".example.com.evil"));
        assert!(host_fits("api.example.com", "API.example.com"));
    }
}
