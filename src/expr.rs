//! The one expression language and the `${...}` templates, compiled to native code.
//!
//! The syntax is the expression part of Rhai: literals, variable paths, operators with Rhai's precedence and a
//! closed list of functions. An expression is lexed, parsed, checked against what the names mean at its place
//! and lowered to a small tree that is walked per request; nothing is looked up by name then. What lies
//! outside of the subset (statements, closures, blocks) is refused with its cure, never half understood.
//!
//! This room knows no files: errors carry byte ranges inside the text they were given.

mod arithmetic;
mod call;
mod check;
mod compare;
mod compiled;
mod escape;
mod failure;
pub mod functions;
pub mod interpret;
mod kinds;
mod lex;
mod narrow;
mod node;
mod operators;
mod parse;
mod relation;
mod suggest;
mod template;
mod text;
mod words;

use std::ops::Range;

use http::StatusCode;

pub use self::compiled::{Compiled, compile, compile_condition};
pub use self::escape::{Place, escape};
pub use self::kinds::Kinds;
pub use self::narrow::{Member, Present};
pub use self::relation::{Relation, elements};
pub use self::template::{Template, template};
pub use self::text::{NotText, write_text};
use crate::engine::read::Read;
use crate::engine::value::{Facts, Origin, Value};
use crate::fault::Fault;

/// Longest expression, in bytes.
pub const EXPRESSION_BYTES_MAX: usize = 8 * 1024;
/// Deepest nesting of an expression, counted in operators, calls and brackets.
pub const EXPRESSION_DEPTH_MAX: usize = 64;
/// Longest text that holds `${...}`, in bytes.
pub const TEMPLATE_BYTES_MAX: usize = 1024 * 1024;
/// Longest text that an expression or a template may make while a request runs, in bytes.
pub const TEXT_BYTES_MAX: usize = 1024 * 1024;
/// Most elements of a list that an expression may make while a request runs.
pub const LIST_ELEMENTS_MAX: usize = 64 * 1024;
/// Largest compiled form of one regular expression, in bytes.
pub const REGEX_BYTES_MAX: usize = 1024 * 1024;

/// Why an expression or template does not load.
#[derive(Clone, Debug, PartialEq)]
pub struct Error {
    /// `expr.reason`, or the code that the [`Scope`] gave.
    pub code: &'static str,
    /// What is wrong, in one sentence.
    pub message: String,
    /// Stands at the underlined place.
    pub label: String,
    /// What to do.
    pub help: Option<String>,
    /// Bytes of the text that was compiled.
    pub at: Range<usize>,
}

impl Error {
    fn new(code: &'static str, at: Range<usize>, message: impl Into<String>, label: impl Into<String>) -> Error {
        Error { code, message: message.into(), label: label.into(), help: None, at }
    }

    fn with_help(mut self, help: impl Into<String>) -> Error {
        self.help = Some(help.into());
        self
    }

    /// What to do: its own help, else what helps against all of its kind.
    pub fn cure(&self) -> String {
        let usual = match self.code {
            "expr.never_works" => "this part is the same for every request: write a value that works, or remove it",
            "expr.type_mismatch" => "convert one of them: string(x), int(x), float(x), unix(x)",
            _ => "write one whole value, such as `request.method == 'GET'`; docs/variables.md has what there is",
        };
        self.help.clone().unwrap_or_else(|| usual.to_owned())
    }
}

/// One part of a variable path: a name, a constant key or a constant position.
#[derive(Clone, Debug, PartialEq)]
pub struct Segment<'a> {
    /// The name, the key, or the position as text.
    pub name: &'a str,
    /// The position where it was written as one (`list[0]`).
    pub index: Option<i64>,
    /// Its bytes in the text that was compiled.
    pub at: Range<usize>,
}

/// What a path means.
#[derive(Clone, Debug)]
pub enum Resolved {
    /// A variable: the first `used` segments name it, the others are members of its value.
    Read { read: Read, facts: Facts, used: usize },
    /// A value known at load, such as `env.NAME`; `used` as above.
    Constant { value: Value, facts: Facts, used: usize },
}

/// A value that a function gives at load: `secret('name')`, `list('name')`.
#[derive(Clone, Debug)]
pub struct Constant {
    pub value: Value,
    pub facts: Facts,
}

/// Why a name means nothing here.
#[derive(Clone, Debug)]
pub struct Unresolved {
    /// Stable code of the load error.
    pub code: &'static str,
    pub message: String,
    pub label: String,
    pub help: Option<String>,
    /// The segment that is to be underlined; ignored for constants.
    pub at_segment: usize,
}

/// What names mean at one place of a policy.
pub trait Scope {
    /// Resolves the longest static prefix of a path; it is never empty.
    fn resolve(&mut self, path: &[Segment<'_>]) -> Result<Resolved, Unresolved>;

    /// Resolves `secret('name')` and `list('name')`; `function` is the function's name.
    fn constant(&mut self, function: &str, name: &str) -> Result<Constant, Unresolved>;

    /// Functions that are known only here, beside those of the language.
    fn functions(&self) -> &'static [functions::Function] {
        &[]
    }

    /// Whether an earlier condition or step proved that this member is there.
    fn proven(&self, _read: &Read, _members: &[Member]) -> bool {
        false
    }
}

/// A fault that is the fault of whoever the value came from: 400 the client, 502 an upstream, 500 the policy.
pub fn fault_by(origin: Origin, code: &'static str, detail: impl Into<String>) -> Box<Fault> {
    match origin {
        Origin::Client => Fault::denied(StatusCode::BAD_REQUEST, code, detail),
        Origin::Upstream => Fault::broken(StatusCode::BAD_GATEWAY, code, detail),
        Origin::Policy => Fault::broken(StatusCode::INTERNAL_SERVER_ERROR, code, detail),
    }
}

#[cfg(test)]
mod tests;
